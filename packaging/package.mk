# The libraries for other programs, and the targets install, uninstall, rock, deb and doc.

SOVERSION = 0
SHARED = $(BUILD)/lib/libflume.so.$(VERSION)
STATIC = $(BUILD)/lib/libflume.a
OBJCOPY = objcopy

.PHONY: libraries module install install-lua uninstall

# --- Libraries ------------------------------------------------------------------------------------------------------

libraries: $(SHARED) $(STATIC)

$(SHARED): $(CORE_OBJ) packaging/libflume.map
	@mkdir -p $(@D)
	@echo LD $@
	@$(CC) -shared $(CFLAGS_ALL) -Wl,-soname,libflume.so.$(SOVERSION) -Wl,--version-script=packaging/libflume.map -o $@ \
	  $(CORE_OBJ) $(LDFLAGS) $(LDLIBS_CORE)
	@ln -sf $(@F) $(@D)/libflume.so.$(SOVERSION)
	@ln -sf $(@F) $(@D)/libflume.so

# One object in which every symbol that flume.h does not declare is local, so that it can't collide with a program's own.
$(STATIC): $(CORE_OBJ)
	@mkdir -p $(@D)
	@echo AR $@
	@$(LD) -r -o $(BUILD)/obj/libflume.o $(CORE_OBJ)
	@$(OBJCOPY) --localize-hidden $(BUILD)/obj/libflume.o
	@rm -f $@
	@ar rcs $@ $(BUILD)/obj/libflume.o

# --- Installing -----------------------------------------------------------------------------------------------------

BINDIR = $(PREFIX)/bin
LIBDIR = $(PREFIX)/lib
INCLUDEDIR = $(PREFIX)/include
MANDIR = $(PREFIX)/share/man
LUADIR = $(PREFIX)/share/lua/$(LUA_ABI)
LUALIBDIR = $(PREFIX)/lib/lua/$(LUA_ABI)
BASHDIR = $(PREFIX)/share/bash-completion/completions
ZSHDIR = $(PREFIX)/share/zsh/site-functions

# Its own for each make: two may install at once, into different places.
PC := $(BUILD)/obj/flume-$(shell echo $$PPID).pc

# The installed files: mode (or "link"), file (or target of the link), and place. Uninstalling removes these files and no
# others.
define LUA_FILES
$(foreach file,$(LUA_MODULES),644 $(file) $(LUADIR)/$(file:lua/%=%)
)$(foreach file,$(VIEWS),644 $(file) $(LUADIR)/flume/$(file)
)755 $(MODULE) $(LUALIBDIR)/flume.so
755 $(TEXT_MODULE) $(LUALIBDIR)/flume/text.so
endef

define FILES
755 $(BINARY) $(BINDIR)/flume
644 $(SHARED) $(LIBDIR)/libflume.so.$(VERSION)
link libflume.so.$(VERSION) $(LIBDIR)/libflume.so.$(SOVERSION)
link libflume.so.$(VERSION) $(LIBDIR)/libflume.so
644 $(STATIC) $(LIBDIR)/libflume.a
644 $(PC) $(LIBDIR)/pkgconfig/flume.pc
644 core/flume.h $(INCLUDEDIR)/flume.h
644 core/flume.3 $(MANDIR)/man3/flume.3
644 bin/flume.1 $(MANDIR)/man1/flume.1
644 packaging/completion.bash $(BASHDIR)/flume
644 packaging/completion.zsh $(ZSHDIR)/_flume
$(LUA_FILES)
endef

# $(call place,FILES): installs the files of that list.
define place
@printf '%s\n' "$$$(1)" | while read -r mode file to; do \
  mkdir -p "$(DESTDIR)$${to%/*}" || exit 1; \
  if [ "$$mode" = link ]; then ln -sf "$$file" "$(DESTDIR)$$to" || exit 1; \
  else install -m "$$mode" "$$file" "$(DESTDIR)$$to" || exit 1; fi; \
done
endef

export FILES LUA_FILES

install: all
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
	  -e 's|@VERSION@|$(VERSION)|' -e 's|@LDLIBS@|$(LDLIBS_CORE)|' packaging/flume.pc.in >$(PC)
	$(call place,FILES)
	@rm -f $(PC)
	@[ -n "$(DESTDIR)" ] || [ "$$(id -u)" != 0 ] || ldconfig 2>/dev/null || :
	@[ -n "$(DESTDIR)" ] || BINDIR="$(BINDIR)" LIBDIR="$(LIBDIR)" MANDIR="$(MANDIR)" LUADIR="$(LUADIR)" \
	  LUALIBDIR="$(LUALIBDIR)" LUA="$(LUA)" packaging/search_paths

# The Lua module alone, for the rockspec.
module: $(MODULE) $(TEXT_MODULE)

install-lua: $(MODULE) $(TEXT_MODULE)
	$(call place,LUA_FILES)

uninstall:
	@printf '%s\n' "$$FILES" | while read -r mode file to; do rm -f "$(DESTDIR)$$to"; done
	@for dir in "$(DESTDIR)$(LUADIR)/flume" "$(DESTDIR)$(LUALIBDIR)/flume"; do \
	  [ ! -d "$$dir" ] || find "$$dir" -depth -type d -empty -delete; \
	done

# --- Packages -------------------------------------------------------------------------------------------------------

.PHONY: rock deb

# Built from a clean copy of the sources, and tried.
rock:
	$(call ensure,$(BUILD_PACKAGES) luarocks)
	@rm -rf $(BUILD)/rock
	@tests/packages/checkout $(BUILD)/rock
	@tests/packages/rock $(BUILD)/rock

DEB_PACKAGES = $(BUILD_PACKAGES) debhelper dpkg-dev lintian

# flume, lua-flume, libflume0 and libflume-dev, in build/deb.
deb:
	$(call ensure,$(DEB_PACKAGES))
	@rm -rf $(BUILD)/deb
	@tests/packages/checkout $(BUILD)/deb/flume-$(VERSION)
	@cp -r packaging/debian $(BUILD)/deb/flume-$(VERSION)
	@cd $(BUILD)/deb/flume-$(VERSION) && env -u MAKEFLAGS -u MAKELEVEL dpkg-buildpackage -us -uc -b >../build.log 2>&1 \
	  || { cat ../build.log; exit 1; }
	@cd $(BUILD)/deb && lintian --fail-on error,warning *.changes
	@tests/packages/deb $(BUILD)/deb

# The first commands of the README on a clean clone: in a new Debian (root only), or in a folder. Then the packages.
.PHONY: first-use deps-first-use
first-use: deb
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory deps-first-use && env -u MAKEFLAGS tests/first_use/run; \
	else env -u MAKEFLAGS tests/first_use/run --here; fi

deps-first-use:
	$(call ensure,debootstrap git)

# --- Documentation --------------------------------------------------------------------------------------------------

.PHONY: doc

# The reference of the Lua API as HTML in build/doc, from lua/flume/meta.lua.
doc:
	$(call ensure,$(LUA) lua-ldoc)
	@rm -rf $(BUILD)/doc $(BUILD)/obj/doc
	@mkdir -p $(BUILD)/obj/doc
	@$(LUA) packaging/reference.lua $(BUILD)/obj/doc
	@ldoc -q --fatalwarnings -c packaging/config.ld -d $(BUILD)/doc $(BUILD)/obj/doc
	@echo $(BUILD)/doc/index.html
