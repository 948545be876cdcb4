# flume: an embedded database made of one append-only log and many views in Lua.
#
#   make            the library, the Lua module and the binary, in build/
#   make demo       installs missing packages, builds, and shows flume on real data
#   make test       installs missing packages, builds, and runs every test; FILE=PATH runs one file
#   make install    PREFIX=/usr/local DESTDIR=
#   make help       all targets
#
# Sources are found by their folders: a new file in core/, lua/, bin/, tests/c/ or tests/fuzz/ needs no line here.

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
LUA_CFLAGS = $(shell pkg-config --cflags $(LUA) libuv 2>/dev/null)
# Headers of core/ are included by their paths from core/ ("log/log.h"), those of lua/ by their paths from the root.
CPPFLAGS_ALL = -I. -Icore -D_GNU_SOURCE -DFLUME_VERSION='"$(VERSION)"' $(LUA_CFLAGS) $(CPPFLAGS)
CFLAGS_ALL = -std=gnu11 -fPIC -fvisibility=hidden -pthread $(CWARNS) $(OPTIMIZE) $(SANITIZE) $(CFLAGS)
WITH_ICU ?= $(shell pkg-config --exists icu-uc && echo 1 || echo 0)
LDLIBS_CORE = -luv -llmdb -lroaring -lpthread -lm

CORE_SRC = $(sort $(shell find core -name '*.c'))
LUA_SRC = $(sort $(shell find lua -name '*.c'))
BIN_SRC = $(wildcard bin/*.c)
CORE_OBJ = $(CORE_SRC:%.c=$(BUILD)/obj/%.o)
LUA_OBJ = $(LUA_SRC:%.c=$(BUILD)/obj/%.o)
BIN_OBJ = $(BIN_SRC:%.c=$(BUILD)/obj/%.o)
TEXT_OBJ = $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard text/*.c))
C_TEST_SRC = $(sort $(shell find tests/c -name 'test_*.c'))
C_TESTS = $(patsubst %.c,$(BUILD)/tests/%,$(notdir $(C_TEST_SRC)))

# The build tree has the layout of an installation.
MODULE = $(BUILD)/lib/lua/$(LUA_ABI)/flume.so
TEXT_MODULE = $(BUILD)/lib/lua/$(LUA_ABI)/flume/text.so
SHARE = $(BUILD)/share/lua/$(LUA_ABI)
LUA_MODULES = $(sort $(shell find lua/flume -name '*.lua'))
VIEWS = $(sort $(shell find views -name '*.lua'))
BINARY = $(BUILD)/bin/flume
MANUALS = $(BUILD)/share/man/man1/flume.1 $(BUILD)/share/man/man3/flume.3

.PHONY: all lib env deps deps-test deps-interop deps-lint deps-bench test test-programs demo bench lint lint-sources layers format built-tests \
  asan tsan sanitized coverage covered valgrind fuzz fuzz-tests crash clean help

all: $(BUILD)/libflume.a libraries $(MODULE) $(TEXT_MODULE) $(SHARE)/flume $(MANUALS) $(BINARY)

lib: $(BUILD)/libflume.a

$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo CC $<
	@$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -MMD -MP -c $< -o $@

# All symbols, for the tests. The libraries for other programs are in $(BUILD)/lib (packaging/package.mk).
$(BUILD)/libflume.a: $(CORE_OBJ)
	@echo AR $@
	@rm -f $@
	@ar rcs $@ $^

# Without liblua: the program that loads the module has it.
$(MODULE): $(LUA_OBJ) $(CORE_OBJ) packaging/module.map
	@mkdir -p $(@D)
	@echo LD $@
	@$(CC) -shared $(CFLAGS_ALL) -Wl,--version-script=packaging/module.map -o $@ $(LUA_OBJ) $(CORE_OBJ) $(LDFLAGS) \
	  $(LDLIBS_CORE)

# A module of its own for search: a program without search needs neither utf8proc, libstemmer nor ICU. ICU is optional.
$(TEXT_OBJ): CPPFLAGS_ALL += $(if $(filter 1,$(WITH_ICU)),-DFLUME_WITH_ICU $(shell pkg-config --cflags icu-uc))
$(TEXT_MODULE): $(TEXT_OBJ)
	@mkdir -p $(@D)
	@echo LD $@
	@$(CC) -shared $(CFLAGS_ALL) -o $@ $^ $(LDFLAGS) -lutf8proc -lstemmer \
	  $(if $(filter 1,$(WITH_ICU)),$(shell pkg-config --libs icu-uc))

# Links to the sources: a changed Lua file needs no make.
$(SHARE)/flume: $(wildcard lua/flume/* views)
	@rm -rf $@
	@mkdir -p $@
	@ln -s $(abspath $(wildcard lua/flume/*) $(if $(VIEWS),views)) $@

$(BUILD)/share/man/man1/flume.1: bin/flume.1
$(BUILD)/share/man/man3/flume.3: core/flume.3
$(MANUALS):
	@mkdir -p $(@D)
	@ln -sf $(abspath $<) $@

$(BINARY): $(BIN_OBJ)
	@mkdir -p $(@D)
	@echo LD $@
	@$(CC) $(CFLAGS_ALL) -Wl,-E -o $@ $^ $(LDFLAGS) $(shell pkg-config --libs $(LUA) libedit 2>/dev/null)

-include $(CORE_OBJ:.o=.d) $(LUA_OBJ:.o=.d) $(BIN_OBJ:.o=.d) $(TEXT_OBJ:.o=.d)

# eval "$(make -s env)" makes flume, its manuals, require "flume" and the built-in views work without installing.
env:
	@echo 'export PATH="$(abspath $(BUILD))/bin:$$PATH"'
	@echo 'export LUA_PATH="$(abspath $(SHARE))/?.lua;$(abspath $(SHARE))/?/init.lua;$${LUA_PATH:-;}"'
	@echo 'export MANPATH="$(abspath $(BUILD))/share/man:$${MANPATH:-}"'
	@echo 'export LUA_CPATH="$(abspath $(BUILD))/lib/lua/$(LUA_ABI)/?.so;$${LUA_CPATH:-;}"'

# --- Packages that are needed ---------------------------------------------------------------------------------------

BUILD_PACKAGES = gcc make pkg-config lua5.4 liblua5.4-dev libuv1-dev liblmdb-dev libroaring-dev libedit-dev libutf8proc-dev \
  libstemmer-dev libicu-dev
TEST_PACKAGES = $(BUILD_PACKAGES) lua-busted lua-messagepack lua-luv lua-cjson lua-cqueues lua-copas lua-socket \
  lua-ldoc luarocks mandoc tmux zsh
LINT_PACKAGES = $(TEST_PACKAGES) lua-check cppcheck clang-format clang-tidy
BENCH_PACKAGES = $(BUILD_PACKAGES) libsqlite3-dev sqlite3 lua-sql-sqlite3

# Installs missing packages. It needs root (or sudo) only when a package is missing.
define ensure
@missing=$$(for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
if [ -n "$$missing" ]; then \
  sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
  echo "installing:" $$missing; \
  $$sudo apt-get update -qq && \
  DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$missing >/dev/null || exit 1; \
fi
endef

deps:
	$(call ensure,$(BUILD_PACKAGES))

deps-test:
	$(call ensure,$(TEST_PACKAGES))
	@command -v npm >/dev/null || ! apt-cache show npm >/dev/null 2>&1 || $(MAKE) --no-print-directory deps-interop

# The JavaScript modules that tests/interop compares flume with come from npm. Without Node those tests are skipped.
deps-interop:
	$(call ensure,nodejs npm)

deps-lint:
	$(call ensure,$(LINT_PACKAGES))

deps-bench:
	$(call ensure,$(BENCH_PACKAGES))

# --- Tests ----------------------------------------------------------------------------------------------------------

# FILE=tests/c/log/test_log.c, a file of specs or a folder runs these tests alone, NAME=TEXT the tests of that name.
FILE =
NAME =
FILE_PROGRAMS = $(patsubst %.c,$(BUILD)/tests/%,$(patsubst fuzz_%,test_fuzz_%,$(notdir $(shell find $(FILE) \
  -name 'test_*.c' -o -name 'fuzz_*.c' -o -name kill9.c))))
NEEDED_PROGRAMS = $(if $(FILE),$(FILE_PROGRAMS),test-programs)
export NAME

# As many compilers as there are processors, where the caller's make has no -j of its own.
PARALLEL = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))

# The build runs in a make of its own: the packages that were just installed change the answers of pkg-config.
test: deps-test
	@$(MAKE) --no-print-directory $(PARALLEL) built-tests
	@tests/run $(BUILD) '$(BUSTED)' $(FILE)

built-tests: all $(NEEDED_PROGRAMS)
	@:

test-programs: $(C_TESTS) $(BUILD)/tests/kill9 $(BUILD)/tests/test_lua_memory fuzz-tests

TEST_CPPFLAGS = -Itests/c/support
TEST_SUPPORT_SRC = $(sort $(wildcard tests/c/support/*.c))
TEST_SUPPORT = $(TEST_SUPPORT_SRC:%.c=$(BUILD)/obj/%.o)

vpath test_%.c $(sort $(dir $(C_TEST_SRC)))

$(BUILD)/tests/%: %.c $(TEST_SUPPORT) $(BUILD)/libflume.a
	@mkdir -p $(@D)
	@echo CC $<
	@$(CC) $(CPPFLAGS_ALL) $(TEST_CPPFLAGS) $(CFLAGS_ALL) -MMD -MP -MF $@.d -o $@ $< $(TEST_SUPPORT) $(BUILD)/libflume.a $(LDFLAGS) \
	  $(LDLIBS_CORE)

# Linked with liblmdb.a, so that LMDB's system calls can be recorded.
$(BUILD)/tests/test_crash_store: LDLIBS_CORE = -luv -l:liblmdb.a -lroaring -lpthread
$(BUILD)/tests/test_crash_store: LDFLAGS += $(patsubst %,-Wl$(comma)--wrap=%,open close pwrite write writev fdatasync fsync \
  ftruncate msync rename mkdir unlink rmdir)
$(BUILD)/tests/test_faults_store: LDLIBS_CORE = -luv -l:liblmdb.a -lroaring -lpthread
$(BUILD)/tests/test_faults_store: LDFLAGS += $(patsubst %,-Wl$(comma)--wrap=%,pwrite writev fdatasync)
# CRoaring's allocations fail in it.
$(BUILD)/tests/test_faults_bitmap_index: LDFLAGS += $(patsubst %,-Wl$(comma)--wrap=roaring_bitmap_%,create create_with_capacity and or \
  andnot copy portable_deserialize_safe)
# Threads, mutexes, condition variables and async handles can't be created in it.
$(BUILD)/tests/test_pool: LDFLAGS += $(patsubst %,-Wl$(comma)--wrap=uv_%,mutex_init cond_init async_init thread_create)
$(BUILD)/tests/test_maintenance_offset: LDFLAGS += -Wl,--wrap=uv_rwlock_init
# One thread does what all threads would do in it.
$(BUILD)/tests/test_simulation: LDFLAGS += $(patsubst %,-Wl$(comma)--wrap=%,uv_mutex_lock uv_mutex_unlock uv_thread_self uv_random \
  uv_queue_work uv_timer_start uv_timer_stop uv_close flume_pool_is_wanted)
# LMDB's functions fail in it.
$(BUILD)/tests/test_faults_lmdb: LDFLAGS += $(patsubst %,-Wl$(comma)--wrap=mdb_%,env_create env_open env_set_mapsize env_info \
  env_stat env_get_fd env_sync env_copy2 reader_check txn_begin txn_renew txn_commit dbi_open get put drop cursor_open \
  cursor_get cursor_put cursor_del)
comma = ,

-include $(C_TESTS:%=%.d) $(TEST_SUPPORT:.o=.d)

$(BUILD)/tests/kill9: tests/crash/kill9.c $(TEST_SUPPORT) $(BUILD)/libflume.a
	@mkdir -p $(@D)
	@echo CC $<
	@$(CC) $(CPPFLAGS_ALL) $(TEST_CPPFLAGS) $(CFLAGS_ALL) -o $@ $< $(TEST_SUPPORT) $(BUILD)/libflume.a $(LDFLAGS) $(LDLIBS_CORE)

# Linked with the binding; realloc is wrapped, so that allocations fail.
$(BUILD)/tests/test_lua_memory: tests/crash/test_lua_memory.c tests/c/support/support.h $(LUA_OBJ) $(BUILD)/libflume.a
	@mkdir -p $(@D)
	@echo CC $<
	@$(CC) $(CPPFLAGS_ALL) $(TEST_CPPFLAGS) $(CFLAGS_ALL) -Wl,--wrap=realloc -o $@ $< $(LUA_OBJ) $(BUILD)/libflume.a $(LDFLAGS) \
	  $(LDLIBS_CORE) $(shell pkg-config --libs $(LUA) 2>/dev/null)

# The same tests on a build with a sanitizer. The specs run in an interpreter that is linked with it. FILE and NAME choose
# tests as for make test.
asan: deps-test
	@FLUME_TEST_TARGET=asan $(MAKE) --no-print-directory sanitized BUILD=build-asan SANITIZE='-fsanitize=address,undefined -fno-omit-frame-pointer'

tsan: deps-test
	@FLUME_TEST_TARGET=tsan FLUME_SANITIZER=thread $(MAKE) --no-print-directory sanitized BUILD=build-tsan SANITIZE='-fsanitize=thread'

sanitized: OPTIMIZE = -O1 -g
sanitized: built-tests $(BUILD)/bin/lua
	@LUA=$(abspath $(BUILD))/bin/lua SANITIZE='$(SANITIZE)' tests/run $(BUILD) 'busted --lua=$(abspath $(BUILD))/bin/lua' \
	  $(FILE)

$(BUILD)/bin/lua: tests/support/lua.c
	@mkdir -p $(@D)
	@echo CC $<
	@$(CC) $(CPPFLAGS_ALL) $(TEST_CPPFLAGS) $(CFLAGS_ALL) -Wl,-E -o $@ $< $(LDFLAGS) $(shell pkg-config --libs $(LUA) 2>/dev/null)

# The lines and branches of core that the C tests reach. Without asserts: their failing branches can't be reached.
coverage: deps-test
	@rm -rf build-coverage
	@$(MAKE) --no-print-directory covered BUILD=build-coverage SANITIZE='--coverage -DNDEBUG -DFLUME_COVERAGE'

covered: OPTIMIZE = -O0 -g
covered: $(C_TESTS)
	@for t in $(C_TESTS); do echo RUN $$t; $$t >$$t.log 2>&1 || { cat $$t.log; exit 1; }; done
	@tests/coverage $(BUILD)

# LMDB keeps pointers into the middle of its blocks. Valgrind may report these as "possibly lost" where the child of a
# test ends by _exit; so only definite leaks count.
VALGRIND = valgrind -q --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite --error-exitcode=1

valgrind: deps-test
	$(call ensure,valgrind)
	@$(MAKE) --no-print-directory $(PARALLEL) built-tests
	@for t in $(if $(FILE),$(FILE_PROGRAMS),$(C_TESTS)); do \
	  echo VALGRIND $$t; $(VALGRIND) $$t $(NAME) >$$t.log 2>&1 || { cat $$t.log; exit 1; }; tail -n 1 $$t.log; \
	done

# Every crash that the simulated disk allows, and kill -9 of a writing process many times.
crash: deps-test
	@$(MAKE) --no-print-directory all test-programs
	@tests/crash/run $(BUILD) '$(BUSTED)'

# libFuzzer, FUZZ_SECONDS for each target. An input that fails is left in build/fuzz; add it to tests/fuzz/corpus.
FUZZ_SECONDS = 20
FUZZ_NAMES = $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_TARGETS = $(FUZZ_NAMES:%=$(BUILD)/fuzz/fuzz_%)
FUZZ_OBJ = $(CORE_SRC:%.c=$(BUILD)/fuzz/obj/%.o) $(TEST_SUPPORT_SRC:%.c=$(BUILD)/fuzz/obj/%.o)
FUZZ_FLAGS = -std=gnu11 -g -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined

fuzz: deps
	$(call ensure,clang libclang-rt-14-dev)
	@$(MAKE) --no-print-directory $(FUZZ_TARGETS)
	@for name in $(FUZZ_NAMES); do \
	  t=$(BUILD)/fuzz/fuzz_$$name; echo FUZZ $$t; mkdir -p $$t.corpus; \
	  $$t -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -print_final_stats=1 -artifact_prefix=$$t- \
	    $$t.corpus tests/fuzz/corpus/$$name >$$t.log 2>&1 || { cat $$t.log; exit 1; }; \
	  grep -E '^(Done|stat::number)' $$t.log; \
	done

$(BUILD)/fuzz/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo CLANG $<
	@clang $(FUZZ_FLAGS) $(CPPFLAGS_ALL) -MMD -MP -c $< -o $@

$(BUILD)/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $(FUZZ_OBJ)
	@mkdir -p $(@D)
	@echo CLANG $<
	@clang $(FUZZ_FLAGS) -fsanitize=fuzzer $(CPPFLAGS_ALL) $(TEST_CPPFLAGS) -o $@ $< $(FUZZ_OBJ) $(LDLIBS_CORE)

.SECONDARY: $(FUZZ_OBJ)
-include $(FUZZ_OBJ:.o=.d)

# The same targets on the files of the corpus, for make test.
FUZZ_TESTS = $(FUZZ_NAMES:%=$(BUILD)/tests/test_fuzz_%)

fuzz-tests: $(FUZZ_TESTS)

$(BUILD)/tests/test_fuzz_%: tests/fuzz/fuzz_%.c tests/fuzz/replay.c $(TEST_SUPPORT) $(BUILD)/libflume.a
	@mkdir -p $(@D)
	@echo CC $<
	@$(CC) $(CPPFLAGS_ALL) $(TEST_CPPFLAGS) $(CFLAGS_ALL) -o $@ $< tests/fuzz/replay.c $(TEST_SUPPORT) $(BUILD)/libflume.a $(LDFLAGS) \
	  $(LDLIBS_CORE)

# --- Looking at the source --------------------------------------------------------------------------------------------

FORMATTED = $(sort $(shell find core lua tests/c/support tests/crash tests/fuzz tests/support -name '*.[ch]') \
  $(wildcard bin/*.[ch] text/*.[ch] examples/c/*.c))

# A process for each file: clang-tidy 14 has crashed on all of them in one.
TIDIED = $(CORE_SRC) $(LUA_SRC) $(wildcard text/*.c)

lint: deps-lint layers
	@$(MAKE) --no-print-directory lint-sources

lint-sources:
	@echo CLANG-FORMAT; clang-format --dry-run -Werror $(FORMATTED)
	@echo LUACHECK; luacheck -q lua views tests demo packaging examples
	@echo CPPCHECK; cppcheck -q --std=c11 --error-exitcode=1 --inline-suppr --enable=warning,portability \
	  --suppress=missingInclude --suppress=nullPointerRedundantCheck -D_GNU_SOURCE -I. -Icore $(TEST_CPPFLAGS) core lua bin \
	  text tests/c tests/crash tests/fuzz tests/support
	@echo CLANG-TIDY; printf '%s\n' $(TIDIED) | \
	  xargs -P "$$(nproc)" -I '{}' clang-tidy -quiet '{}' -- -std=gnu11 $(CPPFLAGS_ALL) 2>/dev/null

format:
	clang-format -i $(FORMATTED)

layers:
	@tests/layers

# --- The rest -------------------------------------------------------------------------------------------------------

BENCH_SRC = $(wildcard tests/bench/*.c)

bench: deps-bench
	@$(MAKE) --no-print-directory all $(BUILD)/tests/bench
	@BUILD=$(BUILD) LUA=$(LUA) tests/bench/run

$(BUILD)/tests/bench: $(BENCH_SRC) $(wildcard tests/bench/*.h) $(BUILD)/libflume.a
	@mkdir -p $(@D)
	@echo CC $@
	@$(CC) $(CPPFLAGS_ALL) $(TEST_CPPFLAGS) $(CFLAGS_ALL) -o $@ $(BENCH_SRC) $(BUILD)/libflume.a $(LDFLAGS) $(LDLIBS_CORE) -lsqlite3 -lm

demo: deps
	@if ! apt-cache dumpavail | head -1 | grep -q .; then echo "fetching the package index"; \
	  $$([ "$$(id -u)" = 0 ] || echo sudo) apt-get update -qq; fi
	@$(MAKE) --no-print-directory all
	@eval "$$($(MAKE) -s env)"; BUILD=$(BUILD) demo/run

include packaging/package.mk

clean:
	rm -rf build build-asan build-tsan build-coverage

help:
	@echo 'make              build the libraries, the Lua module and the binary into build/'
	@echo 'make demo         install missing packages, build, and show flume on the Debian package index'
	@echo 'make test         install missing packages, build, and run every test'
	@echo '                  FILE=tests/spec/view/view_spec.lua: one file or folder;  NAME=TEXT: the tests of that name'
	@echo 'make bench        measure flume beside SQLite and LMDB'
	@echo 'make install      PREFIX=$(PREFIX) DESTDIR=;  make uninstall removes the installed files'
	@echo 'make doc          the reference of the Lua API as HTML, in build/doc'
	@echo 'make deb          Debian packages, in build/deb;  make rock  the rock, built and tried'
	@echo 'make first-use    the commands of the README on a clean clone in a new Debian'
	@echo 'make lint         layers, clang-format, luacheck, cppcheck, clang-tidy;  make format  clang-format -i'
	@echo 'make layers       checks which folder includes and requires which'
	@echo 'make asan, tsan   the tests on a build with a sanitizer (FILE, NAME);  make valgrind  the C tests under valgrind (FILE, NAME)'
	@echo 'make coverage     the lines and branches of core that the C tests reach'
	@echo 'make fuzz, crash  libFuzzer;  all simulated crashes, and kill -9'
	@echo 'make env          prints what to eval for using the build tree'
