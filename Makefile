# flume: an embedded database made of one append-only log and many views in Lua.
#
#   make            the library, the Lua module and the binary, in build/
#   make demo       installs what is missing, builds, and shows what flume does on real data
#   make test       installs what is missing, builds, and runs every test
#   make install    PREFIX=/usr/local DESTDIR=
#   make help       everything else

VERSION = 0.1.0
PREFIX = /usr/local
LUA = lua5.4
LUA_ABI = 5.4
BUSTED = busted --lua=$(LUA)
CC = gcc

CWARNS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wundef
OPTIMIZE = -O2 -g
SANITIZE =
BUILD = build
CPPFLAGS_ALL = -D_GNU_SOURCE -DFLUME_VERSION='"$(VERSION)"' $(shell pkg-config --cflags $(LUA) libuv 2>/dev/null) $(CPPFLAGS)
CFLAGS_ALL = -std=gnu11 -fPIC -fvisibility=hidden -pthread $(CWARNS) $(OPTIMIZE) $(SANITIZE) $(CFLAGS)
LDLIBS_CORE = -luv -llmdb -lpthread

CORE_SRC = $(wildcard core/*.c)
LUA_SRC = $(wildcard lua/*.c)
CORE_OBJ = $(CORE_SRC:%.c=$(BUILD)/obj/%.o)
LUA_OBJ = $(LUA_SRC:%.c=$(BUILD)/obj/%.o)
C_TESTS = $(patsubst tests/c/%.c,$(BUILD)/tests/%,$(wildcard tests/c/test_*.c))

# The build tree has the shape of an installed one.
MODULE = $(BUILD)/lib/lua/$(LUA_ABI)/flume.so
SHARE = $(BUILD)/share/lua/$(LUA_ABI)
BINARY = $(BUILD)/bin/flume

.PHONY: all lib env deps test test-c test-lua demo bench lint layers format asan tsan valgrind fuzz crash install \
  uninstall clean help

all: $(BUILD)/libflume.a $(MODULE) $(SHARE)/flume $(BINARY)

lib: $(BUILD)/libflume.a

$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo CC $<
	@$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c $< -o $@

$(BUILD)/libflume.a: $(CORE_OBJ)
	@echo AR $@
	@rm -f $@
	@ar rcs $@ $^

# No liblua here: the program that loads the module brings it.
$(MODULE): $(LUA_OBJ) $(CORE_OBJ)
	@mkdir -p $(@D)
	@echo LD $@
	@$(CC) -shared $(CFLAGS_ALL) -o $@ $^ $(LDFLAGS) $(LDLIBS_CORE)

$(SHARE)/flume:
	@mkdir -p $(SHARE)
	@ln -sfn $(abspath lua/flume) $@

$(BINARY): $(BUILD)/obj/bin/flume.o
	@mkdir -p $(@D)
	@echo LD $@
	@$(CC) $(CFLAGS_ALL) -Wl,-E -o $@ $^ $(LDFLAGS) $(shell pkg-config --libs $(LUA) libedit 2>/dev/null)

-include $(CORE_OBJ:.o=.d) $(LUA_OBJ:.o=.d) $(BUILD)/obj/bin/flume.d

# eval "$(make -s env)" makes flume, require "flume" and the built-in views of the build tree work without installing.
env:
	@echo 'export PATH="$(abspath $(BUILD))/bin:$$PATH"'
	@echo 'export LUA_PATH="$(abspath $(SHARE))/?.lua;$(abspath $(SHARE))/?/init.lua;$${LUA_PATH:-;}"'
	@echo 'export LUA_CPATH="$(abspath $(BUILD))/lib/lua/$(LUA_ABI)/?.so;$${LUA_CPATH:-;}"'

clean:
	rm -rf $(BUILD)
