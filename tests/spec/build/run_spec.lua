-- tests/run: a line for each suite, the output of those that fail, and the sum.

local fixture = require "tests.support.fixture"
local shell = require "tests.support.shell"

local LUA = os.getenv "LUA" or "lua5.4"

-- Runs the files, name -> text, of a folder: what tests/run prints, and whether it succeeds.
local function run(files, settings)
  local dir = fixture.dir()
  for name, text in pairs(files) do fixture.write(dir .. "/" .. name, text) end
  local command = "env -u NAME %s tests/run %s 'busted --lua=%s' %s"
  local text, ok = shell.run(command:format(settings or "", shell.build, LUA, dir))
  return text:gsub(dir:gsub("%p", "%%%0"), "DIR"):gsub("%d+%.%d s\n", "N s\n"), ok
end

local PASSES = [[
print "noise"
describe("good", function ()
  it("one", function () end)
  it("two", function () end)
  it("three", function () pending "no reason" end)
end)
]]

local FAILS = [[
local seeds = require "tests.support.seeds"
describe("bad", function ()
  it("one", function () end)
  it("two", function () assert.equal(7, seeds.take()) end)
end)
]]

describe("tests/run", function ()
  after_each(fixture.clean)

  it("prints a line for a suite that passes, with the reason of a skipped test", function ()
    local text, ok = run {["good_spec.lua"] = PASSES}
    assert.is_true(ok)
    assert.matches("^DIR/good_spec +2 passed +1 skipped +N s\n    skipped: [^\n]*no reason\n" ..
      "2 passed, 0 failed, 1 skipped\n$", text)
  end)

  it("prints the output of a suite that fails, and the command that repeats it", function ()
    local text, ok = run({["good_spec.lua"] = PASSES, ["bad_spec.lua"] = FAILS}, "FLUME_TEST_SEED=5")
    assert.is_false(ok)
    assert.matches("\nDIR/good_spec +2 passed +1 skipped +N s\n", "\n" .. text)
    assert.matches("\nDIR/bad_spec +1 passed +1 FAILED +N s\n", "\n" .. text)
    assert.falsy(text:find "noise")
    assert.matches("bad two\n.*%(number%) 5\n", text)
    assert.matches("\nrepeat it with: FLUME_TEST_SEED=5 make test FILE=DIR/bad_spec.lua\n", text)
    assert.matches("\n3 passed, 1 failed, 1 skipped\n$", text)
  end)

  it("counts a suite that crashes as a failure, and names the test", function ()
    local text, ok = run {["crash_spec.lua"] = [[
      describe("it", function () it("crashes", function () os.execute "kill -9 $PPID" end) end)
    ]], ["good_spec.lua"] = PASSES}
    assert.is_false(ok)
    assert.matches("\nin it: crashes\n", text)
    assert.matches("\n2 passed, 1 failed, 1 skipped\n$", text)
  end)

  it("ends with an error for a file that is no test", function ()
    local text, ok = run {}
    assert.is_false(ok)
    assert.matches("no tests in DIR", text)
  end)

  it("runs the tests that NAME names", function ()
    local text, ok = run({["good_spec.lua"] = PASSES}, "NAME=two")
    assert.is_true(ok)
    assert.matches("\n1 passed, 0 failed, 0 skipped\n$", text)
  end)
end)
