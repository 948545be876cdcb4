-- What make install puts where, and what of it others can see.

local shell = require "tests.support.shell"
local fixture = require "tests.support.fixture"

local LIB = shell.build .. "/lib/"

local function set_of(text, pattern)
  local set = {}
  for name in text:gmatch(pattern) do set[name] = true end
  return set
end

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "a"
  file:close()
  return text
end

-- The functions that core/flume.h declares.
local function declared()
  local set = set_of(read "core/flume.h", "FLUME_EXPORT [^;(]-(flume_[%w_]+)%(")
  assert.is_true(set.flume_log_append)
  return set
end

local function installed(prefix, destdir)
  shell.make(("install PREFIX=%s DESTDIR=%s"):format(prefix, destdir or ""))
  return (destdir or "") .. prefix
end

local function files_in(dir)
  return shell.output("cd " .. dir .. " && find . ! -type d | sort")
end

describe("the libraries", function ()
  it("the shared one exports what the header declares, and nothing else", function ()
    local names = shell.output("nm -D --defined-only " .. LIB .. "libflume.so")
    assert.same(declared(), set_of(names, " T ([%w_]+)"))
    assert.same({}, set_of(names, " [^TA] ([%w_]+)"))
  end)

  it("each symbol of the shared one has a version", function ()
    local names = shell.output("nm -D --defined-only --with-symbol-versions " .. LIB .. "libflume.so")
    assert.same(declared(), set_of(names, " T ([%w_]+)@@FLUME_%d"))
  end)

  it("the shared one is called libflume.so.0", function ()
    local header = shell.output("readelf -d " .. LIB .. "libflume.so")
    assert.equal("libflume.so.0", header:match "Library soname: %[(.-)%]")
  end)

  it("the static one shows what the header declares, and nothing else", function ()
    assert.same(declared(), set_of(shell.output("nm -g --defined-only " .. LIB .. "libflume.a"), " [^U ] ([%w_.]+)"))
  end)

  it("the Lua module shows what require looks for, and nothing else", function ()
    local names = shell.output("nm -D --defined-only " .. LIB .. "lua/5.4/flume.so")
    assert.same({luaopen_flume = true, luaopen_flume_core = true}, set_of(names, " [^U] ([%w_.]+)"))
  end)
end)

describe("make install", function ()
  after_each(fixture.clean)

  it("takes away with uninstall all that it put there, and nothing else", function ()
    local dest = fixture.dir()
    local own = fixture.write(dest .. "/usr/share/lua/5.4/flume/mine.lua", "")
    installed("/usr", dest)
    assert.truthy(files_in(dest):find "./usr/bin/flume\n")
    shell.make("uninstall PREFIX=/usr DESTDIR=" .. dest)
    assert.equal("./usr/share/lua/5.4/flume/mine.lua\n", files_in(dest))
    os.remove(own)
    installed("/usr", dest)
    shell.make("uninstall PREFIX=/usr DESTDIR=" .. dest)
    assert.equal("", files_in(dest))
    assert.equal("", shell.output("find " .. dest .. " -name '*flume*'"))
  end)

  it("installs every Lua file and every view", function ()
    local root = installed(fixture.dir())
    local there = files_in(root .. "/share/lua/5.4/flume")
    local expected = shell.output "cd lua/flume && find . -name '*.lua'" ..
      shell.output "find ./views -name '*.lua'"
    assert.same(set_of(expected, "%S+"), set_of(there, "%S+"))
  end)

  it("makes a binary and a module that need nothing of the build tree", function ()
    local root = installed(fixture.dir())
    local text = shell.output(("tests/packages/try '%s/share/lua/5.4/?.lua;%s/share/lua/5.4/?/init.lua' " ..
      "'%s/lib/lua/5.4/?.so' %s/bin/flume"):format(root, root, root, root))
    assert.truthy(text:find("from " .. root .. "/share/lua", 1, true), text)
    assert.truthy(text:find("program: " .. root .. "/bin/flume", 1, true), text)
    local found = shell.output(("env -i %s/bin/flume %s/data -e 'package.searchpath(\"flume.db\", package.path)'")
      :format(root, root))
    assert.truthy(found:find(root .. "/share/lua/5.4/flume/db.lua", 1, true), found)
  end)

  it("prints what a shell needs to find an installation in an unusual place, and nothing once it is found", function ()
    local root = fixture.dir()
    local script = fixture.write(fixture.dir() .. "/first", ([[
      set -eu
      eval "$(make -s install BUILD=%s PREFIX=%s)"
      [ -z "$(make -s install BUILD=%s PREFIX=%s)" ]
      cd /
      printf '%%s\n' "$(command -v flume)" "$(command -v man >/dev/null && man -w 3 flume)"
      lua5.4 -e 'print(package.searchpath("flume.init", package.path), package.searchpath("flume.text", package.cpath))'
      flume --version
      pkg-config --modversion flume
    ]]):format(shell.build, root, shell.build, root))
    local text = shell.output("env -u LUA_PATH -u LUA_CPATH -u MANPATH PATH=/usr/local/bin:/usr/bin:/bin sh " .. script)
    local man = shell.has "man" and root .. "/share/man/man3/flume.3" or ""
    assert.equal(("%s/bin/flume\n%s\n%s/share/lua/5.4/flume/init.lua\t%s/lib/lua/5.4/flume/text.so\n" ..
      "flume 0.1.0\n0.1.0\n"):format(root, man, root, root), text)
  end)

  it("prints nothing when it fills a package", function ()
    assert.equal("", shell.make("install PREFIX=/opt/flume DESTDIR=" .. fixture.dir()))
  end)

  it("tells pkg-config how to link with either library", function ()
    local root = installed(fixture.dir())
    local pkg_config = "PKG_CONFIG_PATH=" .. root .. "/lib/pkgconfig pkg-config flume "
    assert.equal("0.1.0\n", shell.output(pkg_config .. "--modversion"))
    assert.truthy(shell.output(pkg_config .. "--cflags"):find("-I" .. root .. "/include", 1, true))
    local shared = shell.output(pkg_config .. "--libs")
    assert.truthy(shared:find("-L" .. root .. "/lib -lflume", 1, true), shared)
    assert.falsy(shared:find("-llmdb", 1, true))
    assert.truthy(shell.output(pkg_config .. "--libs --static"):find("-llmdb", 1, true))
  end)
end)

describe("the binary", function ()
  after_each(fixture.clean)

  it("finds its modules where /proc is not mounted", function ()
    local _, can_mount = shell.run "unshare -rm mount -t tmpfs none /proc"
    if not can_mount then return pending "unshare is not permitted" end
    local folder = shell.output "pwd -P":gsub("%s+$", "") .. "/" .. shell.build .. "/bin"
    if shell.build:find "^/" then folder = shell.build .. "/bin" end
    local link = fixture.dir() .. "/flume"
    local script = fixture.write(fixture.dir() .. "/first", ([[
      set -eu
      mount -t tmpfs none /proc
      [ ! -e /proc/self ]
      %s/flume --version
      cd %s
      ./flume --version
      PATH=%s:$PATH flume --version
      ln -s %s/flume %s
      echo '{"n": 5}' | %s --json %s append
    ]]):format(folder, folder, folder, folder, link, link, fixture.dir() .. "/data"))
    local text = shell.output("unshare -rm sh " .. script)
    assert.truthy(text:find '^flume 0%.1%.0\nflume 0%.1%.0\nflume 0%.1%.0\n{[^\n]*"appended":1[,}]', text)
  end)
end)

describe("the manual", function ()
  it("is found in the build tree", function ()
    if not shell.has "man" then return pending "man is not installed" end
    local script = 'eval "$(make -s env BUILD=%s)"; man -w 1 flume; man -w 3 flume'
    local root = shell.output "pwd -P":gsub("%s+$", "")
    assert.equal(("%s/bin/flume.1\n%s/core/flume.3\n"):format(root, root), shell.output(script:format(shell.build)))
  end)

  it("has whole sentences under FILES", function ()
    local section = read "bin/flume.1":match "\n%.Sh FILES\n.-\n%.It (.-)\n%.El\n"
    local items = 0
    for item in (section:gsub("\n%.It ", "\0") .. "\0"):gmatch "(%Z+)%z" do
      items = items + 1
      assert.truthy(item:find "[%w ]%.$", item)
      assert.falsy(item:find "\n%a[^\n]*%a\n%.Pq", item) -- a sentence ends before a remark in brackets
    end
    assert.is_true(items >= 5)
  end)

  it("flume(3) has every function of the header in its synopsis, as it is", function ()
    local in_header, in_manual = {}, {}
    for result, name, params in read "core/flume.h":gmatch "FLUME_EXPORT ([^;(]-)(flume_[%w_]+)%(([^;]*)%);" do
      in_header[name] = ("%s(%s)"):format(result:gsub("%s+", ""), params:gsub("%s+", " "))
    end
    for result, name, params in read "core/flume.3":gmatch "\n%.Ft ([^\n]+)\n%.Fn (flume_[%w_]+) ([^\n]+)" do
      in_manual[name] = ("%s(%s)"):format(result:gsub('[%s"]+', ""), params:gsub('" "', ", "):gsub('"', ""))
    end
    assert.same(in_header, in_manual)
  end)

  it("has no formatting errors", function ()
    if not shell.has "mandoc" then return pending "mandoc is not installed" end
    for _, page in ipairs {"core/flume.3", "bin/flume.1"} do
      local text = shell.run("mandoc -T lint -W warning " .. page)
      assert.equal("", text)
    end
  end)
end)
