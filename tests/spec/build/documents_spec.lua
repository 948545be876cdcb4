-- Every example in every document is run, and has to print what the document says.
--
-- The examples of a document share a folder, one after the other, in which there is what its SETTINGS make. A Lua
-- example is a program of its own; where it uses flume or db and does not say where from, it gets the module and the
-- database "data". What it prints has to be what stands behind the --> in it, if there is any. One that returns a table
-- is a view: it is written to the file that its first line names, and mounted, and has to consume the records of the
-- database.

local document = require "tests.support.document"
local shell = require "tests.support.shell"
local fixture = require "tests.support.fixture"

local ROOT = shell.output "pwd -P":gsub("%s+$", "")
local LUA = os.getenv "LUA" or "lua5.4"

local RECORDS = [[
{"type": "post", "account": "ada", "amount": 5, "mentions": ["@alice"]}
{"type": "vote", "account": "bob", "amount": 7, "mentions": []}
]]

local TOTALS = "return {version = 1, initial = 0, reducer = function (sum, item) return sum + item.amount end}\n"

local MENTIONS = [[
return {
  version = 1, initial = {}, methods = {of = "async"},
  reducer = function (by, item, seq)
    for _, who in ipairs(item.mentions) do by[who] = seq end
    return by
  end,
  of = function (view, who, options) return view:get()[who] < options.limit end,
}
]]

local function with_data(dir)
  fixture.write(dir .. "/records.jsonl", RECORDS)
  shell.output(("cd %s && flume data append records.jsonl"):format(dir))
end

-- A program that runs another with arguments of its own before those that it gets.
local function write_wrapper(path, command, arguments)
  local program = shell.output("command -v " .. command):gsub("%s+$", "")
  fixture.write(path, ('#!/bin/sh\nexec %s %s "$@"\n'):format(program, arguments))
  shell.output("chmod +x " .. path)
end

-- The installed libraries and the examples. The compiler and the interpreter are those of the build that is tested.
local function with_library(dir)
  shell.make(("install PREFIX=%s/usr"):format(dir))
  shell.output(("cp -r examples/c examples/lua %s"):format(dir))
  write_wrapper(dir .. "/bin/cc", "cc", os.getenv "SANITIZE" or "")
  write_wrapper(dir .. "/bin/lua5.4", LUA, "")
  return ("export PATH=%s/bin:$PATH PKG_CONFIG_PATH=%s/usr/lib/pkgconfig\n"):format(dir, dir)
end

local function with_library_path(dir)
  return with_library(dir) .. ("export LD_LIBRARY_PATH=%s/usr/lib\n"):format(dir)
end

-- What a document finds in its folder; what its shell examples begin with, if anything.
local SETTINGS = {
  ["README.md"] = function (dir) fixture.write(dir .. "/records.jsonl", RECORDS) end,
  ["views/README.md"] = function (dir)
    fixture.write(dir .. "/views/totals.lua", TOTALS)
    with_data(dir)
  end,
  ["bin/flume.1"] = function (dir)
    fixture.write(dir .. "/views/mentions.lua", MENTIONS)
    fixture.write(dir .. "/events.jsonl", RECORDS)
  end,
  ["core/flume.3"] = function (dir)
    fixture.write(dir .. "/data/readme", "")
    return with_library_path(dir)
  end,
  ["examples/README.md"] = with_library,
}

-- --- Lua ---------------------------------------------------------------------------------------------------------

local function run_lua(dir, text)
  fixture.write(dir .. "/example.lua", text)
  return shell.run(("cd %s && %s example.lua"):format(dir, LUA))
end

local MOUNT = [[
local flume = require "flume"
local path = ...
local db = assert(flume.open("data"))
local name = path:match "([%w_]+)%.lua$"
db:use(name, path)
assert(db[name]:ready())
assert(db:get(0), "there are no records for it")
local row = db:status().views[name]
assert(row.state == "live" and row.since == db.since.value, row.error)
db:close()
]]

local function try_view(dir, example)
  local path = example.text:match "^%-%- ([%w_/]+%.lua)" or "example_view.lua"
  fixture.write(dir .. "/" .. path, example.text)
  return run_lua(dir, MOUNT:gsub("%.%.%.", ("%q"):format(path)))
end

local function try_lua(dir, example)
  if example.text:find "\nreturn {" or example.text:find "^return {" then return try_view(dir, example) end
  local text = example.text
  if not text:find "local db[ <]" then text = 'local db <close> = assert(flume.open("data"))\n' .. text end
  if not text:find 'local flume = require "flume"' then text = 'local flume = require "flume"\n' .. text end
  local out, ok = run_lua(dir, text)
  local expected = document.promised(example.text)
  if ok and expected then assert.equal(expected, out) end
  return out, ok
end

-- --- Shell and C -------------------------------------------------------------------------------------------------

-- A command that goes on until it is interrupted: it has to print something, and to end in order when it is.
local function follow(dir, line)
  local pipe = assert(io.popen(("cd %s && sh -c 'echo $$; exec %s'; echo $?"):format(dir, line)))
  local pid = pipe:read "l"
  local first = pipe:read "l"
  os.execute("kill -INT " .. pid)
  local rest = pipe:read "a"
  pipe:close()
  assert.truthy(first and first ~= "", line)
  assert.truthy(rest:find "%f[%d][01]\n$", rest)
end

local function try_sh(dir, example, before)
  local lines, following = {}, {}
  for line in example.text:gmatch "[^\n]+" do
    table.insert(line:find " %-f$" and following or lines, line)
  end
  fixture.write(dir .. "/example.sh", (before or "") .. table.concat(lines, "\n") .. "\n")
  local out, ok = shell.run(("cd %s && sh -e ./example.sh </dev/null"):format(dir))
  for _, line in ipairs(following) do follow(dir, line) end
  return out, ok
end

-- A piece of a program: in a function of its own.
local function try_c(dir, example, before)
  local text = "#include <err.h>\n#include <flume.h>\nint main(void) {\n" .. example.text .. "return 0;\n}\n"
  fixture.write(dir .. "/example.c", text)
  fixture.write(dir .. "/example.sh", before ..
    "cc -Wall -Werror -o example example.c $(pkg-config --cflags --libs flume)\n./example\n")
  return shell.run(("cd %s && sh -e ./example.sh"):format(dir))
end

local TRY = {lua = try_lua, sh = try_sh, c = try_c}

-- --- The documents -----------------------------------------------------------------------------------------------

local function documents()
  local list = {}
  local found = shell.output "find . -name 'build*' -prune -o \\( -name '*.md' -o -name '*.[13]' \\) -print | sort"
  for path in found:gmatch "[^\n]+" do
    list[#list + 1] = path:sub(3)
  end
  return list
end

describe("the examples of", function ()
  after_each(fixture.clean)

  for path, prepare in pairs(SETTINGS) do
    it(path, function ()
      local dir, tried = fixture.dir(), 0
      local before = prepare(dir)
      for _, example in ipairs(document.examples(path)) do
        if not example.skip then
          local out, ok = TRY[example.kind](dir, example, before)
          assert.is_true(ok, ("%s/%s:%d:\n%s"):format(ROOT, path, example.line, out))
          tried = tried + 1
        end
      end
      assert.is_true(tried > 0)
    end)
  end

  it("every document are run", function ()
    for _, path in ipairs(documents()) do
      for _, example in ipairs(SETTINGS[path] and {} or document.examples(path)) do
        assert.truthy(example.skip, ("%s:%d: nothing runs this example"):format(path, example.line))
      end
    end
  end)
end)

describe("the README", function ()
  it("names a test for each feature of the family", function ()
    local rows = 0
    for row in fixture.read("README.md"):match "\n## Beside the flumedb family\n(.-)\n## ":gmatch "\n|[^\n]+" do
      local named = row:match "|([^|]*)|$"
      if not named:find "^ test " and not named:find "^%-" then
        rows = rows + 1
        local tests = 0
        for name in named:gmatch "`([^`]+)`" do
          tests = tests + 1
          assert.truthy(name:find "_spec%.lua$" and fixture.read("tests/" .. name) ~= "", name)
        end
        assert.is_true(tests > 0, row)
      end
    end
    assert.is_true(rows > 15)
  end)
end)
