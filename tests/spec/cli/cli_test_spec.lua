-- flume new view and flume test, run as processes.

local binary = require "tests.support.binary"
local flume = require "flume"
local shell = require "tests.support.shell"
local fixture = require "tests.support.fixture"

local failure, filled, output, run = binary.failure, binary.filled, binary.output, binary.run
local read_file = binary.read_file

describe("new view and test", function ()
  after_each(fixture.clean)

  it("begin a view that works, and test it", function ()
    local dir = fixture.dir() .. "/my views"
    local view, spec = dir .. "/tags.lua", dir .. "/spec/tags.lua"
    assert.equal(("%s\n%s\nNow try: flume test '%s'\n"):format(view, spec, spec),
      output {"new", "view", "tags", "--views", dir})
    assert.is_not_nil(read_file(spec):find(("\n--   flume test '%s'\n"):format(spec), 1, true))
    local text = output {"test", spec}
    assert.is_not_nil(text:find "\n2 passed, 0 failed\n$")
    local data = filled(2)
    output({data, "append"}, {input = '{"type":"a"}\n{"type":"b"}\n{"type":"a"}\n'})
    assert.equal("2\n", output {"--views", dir, data, "tags.get", "a"})
    assert.equal('[{"count":2,"type":"a"}]\n', (output {"--views", dir, "--json", data, "tags.top", "1"}
      :gsub('{"type":"a","count":2}', '{"count":2,"type":"a"}')))
    assert.is_not_nil(failure {"new", "view", "tags", "--views", dir}:find "tags.lua is there already")
    assert.is_not_nil(failure {"new", "view", "../x"}:find "a view's name is a letter")
    assert.is_not_nil(failure {"new", "view", "x", "--views", "/dev/null"}:find "^flume: new view: ")
  end)

  it("tell which case fails, and why", function ()
    local dir = fixture.dir()
    fixture.write(dir .. "/sum.lua", binary.SUM:format(1))
    fixture.write(dir .. "/events.jsonl", '{"n":1}\n\n{"n":2}\n')
    local spec = fixture.write(dir .. "/spec.lua", [[return {
      view = "sum.lua",
      {name = "good", events = "events.jsonl", expect = 3, calls = {{"list", 2, expect = {3, 6}}}},
      {name = "bad", events = {{n = 1}}, expect = 3},
    }]])
    local result = run {"test", spec}
    assert.equal(1, result.code)
    assert.equal("", result.err)
    assert.equal(("ok      %s: good\nFAILED  %s: bad\n        state: expected 3, got 1\n1 passed, 1 failed\n"):format(
      spec, spec), result.out)
    local report = flume.json.decode(run({"test", "--json", spec}).out)
    assert.equal(spec, report.file)
    assert.same({name = "bad", ok = false, message = "state: expected 3, got 1"}, report.results[2])
  end)

  it("report errors in a file", function ()
    local dir = fixture.dir()
    for _, case in ipairs {
      {"return", "a test file returns a table"}, {"return {view = 'x'}", "there are no cases"},
      {"return {view = 'x.lua', {events = 'none', expect = 1}}", "none: No such file"},
      {"oops(", "spec.lua:1: "}, {"error 'oh'", "spec.lua:1: oh"},
    } do
      local spec = fixture.write(dir .. "/spec.lua", case[1])
      local message = failure {"test", spec}
      assert.is_not_nil(message:find(case[2], 1, true), message)
    end
    assert.is_not_nil(failure {"test", dir .. "/none.lua"}:find "none.lua")
    assert.is_not_nil(failure({"test", dir}):find "Is a directory")
    local spec = fixture.write(dir .. "/spec.lua", "return {view = 'none.lua', {events = {}, expect = 1}}")
    assert.is_not_nil(run({"test", spec}).out:find "\n        use: [^\n]*none.lua: no such file\n")
  end)

  it("are commands, except where the words after them make them a database", function ()
    for _, words in ipairs {{"new"}, {"new", "veiw", "x"}, {"new", "view"}, {"test"}} do
      local message = failure(words, nil, 2)
      assert.is_not_nil(message:find "^flume: new view" or message:find "^flume: test wants a file")
    end
    local dir = fixture.dir()
    local function in_dir(words) return shell.run(("cd %s && %s </dev/null"):format(dir, binary.command(words))) end
    in_dir {"test"}
    in_dir {"new"}
    assert.equal("", (shell.run("ls " .. dir)))
    assert.equal("2\n", (in_dir {"test", "-e", "1 + 1"}))
    assert.equal("log since -1\n", (in_dir {"test", "status"}))
    assert.equal("0 records appended\n", (in_dir {"new", "append"}))
  end)

  it("end when they are interrupted", function ()
    local dir = fixture.dir()
    local spec = fixture.write(dir .. "/spec.lua", "print 'at it' io.stdout:flush() while true do end")
    local child = binary.start({"test", spec}, ("2>%s/err"):format(dir))
    assert.equal("at it", child.pipe:read "l")
    child.interrupt()
    assert.equal("1\n", child.pipe:read "a")
    assert.equal("flume: interrupted\n", read_file(dir .. "/err"))
  end)
end)
