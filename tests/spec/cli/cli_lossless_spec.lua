-- Copying records through a pipe: what JSON can't say is told, and --msgpack keeps all.

local binary = require "tests.support.binary"
local fixture = require "tests.support.fixture"
local flume = require "flume"

local output, run = binary.output, binary.run

local VALUES = {
  {x = 0 / 0}, {a = 1, bytes = "\xff\x00"}, {[1] = "a", ["1"] = "b"}, {5}, 2.0, flume.null, "text", -math.huge,
  flume.map{}, {half = "\xed\xa0\xbd"},
}

local function filled()
  local dir = fixture.dir() .. "/data"
  local db = assert(flume.open(dir))
  for _, value in ipairs(VALUES) do assert(db:append(flume.array{value})) end
  assert(db:close())
  return dir
end

-- The bytes of all records.
local function bytes_of(dir)
  local db = fixture.keep(assert(flume.open(dir, {readonly = true})))
  local list = {}
  for _, record in db:stream{lazy = true} do list[#list + 1] = flume.encode(record) end
  return list
end

local LOSS = "flume: record 0: value.x: nan has no JSON form, nor have 3 others; "
  .. "stream --msgpack and backup copy a log without loss\n"

describe("records as JSON", function ()
  after_each(fixture.clean)

  it("that lack something are told of, and the exit status is 1", function ()
    local dir = filled()
    local result = run{dir, "stream", "--json"}
    assert.same({LOSS, 1}, {result.err, result.code})
    assert.same({{x = flume.null}, {a = 1, bytes = "\u{fffd}\0"}},
      {flume.json.decode(result.out:match "^[^\n]*"), (flume.json.decode(result.out:match "^[^\n]*\n([^\n]*)"))})
    assert.is_truthy(result.out:find('\n{"1":"[ab]","1":"[ab]"}\n'))
    assert.same({1, '"text"\nnull\n{}\n{"half":"\\ud83d"}\n'},
      {run{dir, "tail", "-n", "4", "--json"}.code, run{dir, "tail", "-n", "4", "--json"}.out})
    assert.equal(1, run{dir, "get", "2", "--json"}.code)
    assert.equal('[5]\n', output{dir, "get", "3", "--json"})
    result = run({dir}, {input = ".dump " .. dir .. "/dump\n"})
    assert.same({(LOSS:gsub("^flume: ", "flume: stdin:1: ")), 1}, {result.err, result.code})
  end)

  it("are complete when nothing is told", function ()
    local dir = fixture.dir()
    local lines = '{"a":0.07,"b":[1,2.0,null,true],"c":{"d":"\\ud83d","é":9007199254740993}}\n'
    output({dir .. "/data", "append"}, {input = lines})
    output({dir .. "/copy", "append"}, {input = output{dir .. "/data", "stream", "--json"}})
    assert.same(bytes_of(dir .. "/data"), bytes_of(dir .. "/copy"))
  end)
end)

describe("records as MessagePack", function ()
  after_each(fixture.clean)

  it("are copied without loss", function ()
    local dir = filled()
    local copy = fixture.dir() .. "/copy"
    assert.equal("10 records appended\n", output({copy, "append", "--msgpack"},
      {input = output{dir, "stream", "--msgpack"}}))
    assert.same(bytes_of(dir), bytes_of(copy))
  end)

  it("go into a log in batches, whatever pieces they come in", function ()
    local dir = fixture.dir()
    local db = assert(flume.open(dir .. "/data"))
    for size = 0, 300 do db:append(("x"):rep(size * size * 10)) end
    db:close()
    local child = ("flume %s/data stream --msgpack | dd bs=7777 2>%s/dd | flume %s/copy append --msgpack")
      :format(dir, dir, dir)
    local pipe = io.popen(child)
    assert.equal("301 records appended\n", pipe:read "a")
    pipe:close()
    assert.same(bytes_of(dir .. "/data"), bytes_of(dir .. "/copy"))
  end)

  it("that are none are refused, and those before them are stored", function ()
    local dir = fixture.dir() .. "/data"
    for input, expected in pairs {
      ["\1\2\xc1"] = {"append: value 3: not a value: it is nested too deep, or no MessagePack", 2},
      ["\1\x81\xa1a"] = {"append: value 2: the input ends in the midst of it", 1},
      ['{"a":1}\n'] = {"append: this is JSON text, which append takes without --msgpack", 0},
      [("\x91"):rep(129) .. "\1"] = {"append: value 1: not a value: it is nested too deep, or no MessagePack", 0},
    } do
      local message, out = binary.failure({dir, "append", "--msgpack"}, {input = input})
      assert.equal("flume: " .. expected[1] .. "\n", message)
      assert.equal(("%d record%s appended\n"):format(expected[2], expected[2] == 1 and "" or "s"), out)
    end
    assert.is_truthy(binary.failure({dir, "append", "--msgpack", "--skip-bad"}):find "lines of JSON")
  end)
end)

describe("append from a pipe", function ()
  after_each(fixture.clean)

  local function fifo_test(path_of)
    local dir = fixture.dir()
    os.execute(("mkfifo %s/fifo"):format(dir))
    local child = binary.start({dir .. "/data", "append", path_of(dir)}, ("<%s/in 2>%s/err"):format(dir, dir),
      dir .. "/in")
    local standard_input = io.open(dir .. "/in", "w")
    return dir, child, standard_input
  end

  it("stores lines as they come, and what was read when a signal ends it", function ()
    for _, path in ipairs {"fifo", "stdin"} do
      local dir, child, input = fifo_test(function (dir) return path == "fifo" and dir .. "/fifo" or "/dev/stdin" end)
      local pipe <close> = path == "fifo" and assert(io.open(dir .. "/fifo", "w")) or io.tmpfile()
      local writer = path == "fifo" and pipe or input
      writer:write '{"n":1}\n{"n":2}\n{"n":'
      writer:flush()
      binary.wait_until(function ()
        return run{dir .. "/data", "stream", "--json"}.out == '{"n":1}\n{"n":2}\n'
      end)
      os.execute("kill -TERM " .. child.pid)
      assert.equal("2 records appended\n143\n", child.pipe:read "a")
    end
  end)

  it("passes over a byte order mark that comes in pieces", function ()
    local dir = fixture.dir()
    os.execute(("mkfifo %s/fifo"):format(dir))
    local code = [[
      local path, pieces, read = "%s/fifo", {%s}, {}
      local source <close> = require "flume.cli.input".open(path)
      local pipe <close> = io.open(path, "w")
      for i, piece in ipairs(pieces) do
        pipe:write(piece):flush()
        read[i] = source:read(1000)
      end
      return table.concat(read, "|")
    ]]
    for pieces, expected in pairs {
      [ [["\xef", "\xbb", "\xbfab", "c\xef\xbb\xbf"]] ] = "||ab|c\xef\xbb\xbf\n",
      [ [["\xef\xbb", "\xbf", "a"]] ] = "||a\n",
      [ [["\xef\xbb", "a"]] ] = "|\xef\xbba\n",
      [ [["a", "\xef\xbb\xbf"]] ] = "a|\xef\xbb\xbf\n",
    } do
      assert.equal(expected, output{dir .. "/data", "-e", code:format(dir, pieces)})
    end
    assert.equal("1 record appended\n", output({dir .. "/data", "append"}, {input = "\xef\xbb\xbf1\n"}))
    assert.equal("0 records appended\n", output({dir .. "/data", "append"}, {input = "\xef\xbb\xbf"}))
  end)
end)

describe("a byte order mark", function ()
  after_each(fixture.clean)

  local MARK = "\xef\xbb\xbf"

  it("is passed over in scripts, modules, tests, events and lines", function ()
    local dir = fixture.dir()
    os.execute(("mkdir %s/v"):format(dir))
    fixture.write(dir .. "/v/one.lua", MARK .. "return 1")
    fixture.write(dir .. "/v/n.lua", MARK .. [[
      local one = require "one"
      return {version = 1, initial = 0, reducer = function (n) return n + one end}
    ]])
    fixture.write(dir .. "/v/m.lua", MARK .. "return function (value) return value end")
    fixture.write(dir .. "/v/events", MARK .. "1\n2\n")
    fixture.write(dir .. "/v/spec.lua", MARK .. [[
      return {view = "n.lua", {name = "counts", events = "events", expect = 2}}
    ]])
    output({dir .. "/data", "append"}, {input = MARK .. "1\n"})
    assert.equal("1\n", output{"--views", dir .. "/v", dir .. "/data", "n.get"})
    assert.is_truthy(output{"test", dir .. "/v/spec.lua"}:find "counts")
    assert.equal("3\n", output({dir .. "/data"}, {input = MARK .. "1 + 2\n"}))
    local db = fixture.keep(assert(flume.open(dir .. "/data", {mapper = dir .. "/v/m.lua"})))
    assert.equal(1, db:append_json(MARK .. "7\n"))
    assert.equal(0, db:append_json(MARK))
    assert.equal(7, db:get(1))
  end)
end)
