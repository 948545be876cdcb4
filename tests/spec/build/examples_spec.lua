-- The programs in examples/ do what they say.

local document = require "tests.support.document"
local flume = require "flume"
local shell = require "tests.support.shell"
local fixture = require "tests.support.fixture"

local LUA = os.getenv "LUA" or "lua5.4"
local COPAS_PATH = "/usr/share/lua/5.2/?.lua" -- Debian has it for other versions of Lua only, which makes no difference

local ROOT = shell.output "pwd -P":gsub("%s+$", "")

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "a"
  file:close()
  return text
end

-- What it needs that may not be there.
local NEEDS = {with_luv = "luv", with_cqueues = "cqueues", with_copas = "copas"}

local function is_there(module)
  return package.searchpath(module, package.path .. ";" .. COPAS_PATH) or package.searchpath(module, package.cpath)
end

describe("the Lua example", function ()
  after_each(fixture.clean)

  for path in shell.output "ls examples/lua/*.lua":gmatch "%S+" do
    local name = path:match "([^/]+)%.lua$"
    if name:find "_spec$" then
      it(name .. " passes in busted", function ()
        local text = shell.output(("cd examples/lua && busted --lua=%s %s.lua"):format(LUA, name))
        assert.truthy(text:find "2 successes / 0 failures / 0 errors", text)
      end)
    else
      it(name .. " prints what it promises", function ()
        if NEEDS[name] and not is_there(NEEDS[name]) then return pending(NEEDS[name] .. " is not installed") end
        local text = shell.output(('cd %s && LUA_PATH="$LUA_PATH;%s" timeout 120 %s %s/%s'):format(fixture.dir(),
          COPAS_PATH, LUA, ROOT, path))
        assert.equal(document.promised(read(path)), text)
      end)
    end
  end
end)

describe("the C examples", function ()
  local dir, environment

  -- Builds all of them with what pkg-config gives, with options, after a filter.
  local function build(options, filter)
    local flags = ("$(%s pkg-config --cflags --libs %s flume %s)"):format(environment, options, filter)
    for name in shell.output "cd examples/c && ls *.c":gmatch "(%S+)%.c" do
      shell.output(("cc %s -Wall -Wextra -Werror -o %s/%s examples/c/%s.c %s"):format(os.getenv "SANITIZE" or "", dir,
        name, name, flags))
    end
  end

  local function run(command)
    return shell.output(("cd %s && export %s; %s"):format(dir, environment, command))
  end

  local function check_all()
    assert.equal("2\n", run "printf 'one\\ntwo\\n\\n' | ./append data")
    assert.equal("3\n", run "printf 'four' | ./append data")
    assert.equal("2\t\n3\tfour\n", run "./tail data 2")
    assert.equal("0\tone\n1\ttwo\n2\t\n3\tfour\n", run "./tail data")
    local lines = run "./live data"
    for n, text in ipairs {"one", "two", "three"} do
      assert.truthy(lines:find(("record %d: %s\n"):format(n + 3, text), 1, true), lines)
      assert.truthy(lines:find(("appended %d\n"):format(n + 3), 1, true), lines)
    end
    assert.equal("5\ttwo\n6\tthree\n", run "./tail data 2")
  end

  before_each(function ()
    dir = fixture.dir()
    shell.make(("install PREFIX=%s/usr"):format(dir))
    environment = ("PKG_CONFIG_PATH=%s/usr/lib/pkgconfig LD_LIBRARY_PATH=%s/usr/lib"):format(dir, dir)
  end)
  after_each(fixture.clean)

  it("work with the shared library", function ()
    build("", "")
    assert.truthy(run "readelf -d append":find("libflume.so.0", 1, true))
    check_all()
  end)

  it("work with the static one", function ()
    build("--static", "| sed s/-lflume/-l:libflume.a/")
    assert.falsy(run "readelf -d append":find("libflume", 1, true))
    check_all()
  end)

  it("write logs that Lua reads", function ()
    build("", "")
    run "printf 'one\\ntwo\\n' | ./append data"
    local log = fixture.keep(assert(flume.log.file(dir .. "/data", {codec = "raw"})))
    assert.same({{0, "one"}, {1, "two"}}, fixture.collect(log:stream()))
  end)

  it("report an error, and fail", function ()
    build("", "")
    for _, name in ipairs {"append", "tail", "live"} do
      local text, ok = shell.run(("cd %s && export %s; ./%s /dev/null/x </dev/null"):format(dir, environment, name))
      assert.is_false(ok)
      assert.truthy(text:find("^" .. name .. ": .*/dev/null/x"), text)
    end
  end)
end)
