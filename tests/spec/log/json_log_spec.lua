-- Logs whose records are JSON: what JSON can't say is refused, and what it can say comes back as it was.

local fixture = require "tests.support.fixture"
local flume = require "flume"

local function json_logs()
  local dir = fixture.dir()
  return {
    fixture.keep(assert(flume.log.file(dir .. "/file", {codec = "json"}))),
    fixture.keep(assert(flume.log.offset(dir .. "/offset"))),
    fixture.keep(assert(flume.log.memory{codec = "json"})),
  }
end

local REFUSED = {
  ["value[1]: a key that is no string has no JSON form"] = {[1] = "a", ["1"] = "b"},
  ["value[2]: a key that is no string has no JSON form"] = {[2] = "a"},
  ["value.list[2]: nan has no JSON form"] = {list = {1, 0 / 0}},
  ["value.n: an infinity has no JSON form"] = {n = math.huge},
  ["value.bytes: a string that is not UTF-8 has no JSON form"] = {bytes = "\xff\x00"},
}

describe("a log of JSON", function ()
  after_each(fixture.clean)

  it("refuses what JSON can't say, and stores nothing", function ()
    for _, log in ipairs(json_logs()) do
      for message, value in pairs(REFUSED) do
        assert.same({nil, message, "EINVAL"}, {log:append(value)})
      end
      local _, text = log:append{{n = 1}, {n = 0 / 0}}
      assert.equal("record 2 of the batch: value.n: nan has no JSON form", text)
      assert.equal(-1, log.since.value)
    end
  end)

  it("gives back what JSON can say", function ()
    local values = {
      {a = 0.07, b = -0.0, c = 1e300, d = math.mininteger, e = "é\u{1F600}\0", f = {1, {}, flume.null, true}},
      {half = "\xed\xa0\xbd"}, "text", 5, 5.0,
    }
    for _, log in ipairs(json_logs()) do
      for _, value in ipairs(values) do assert(log:append(flume.map{v = value})) end
      local index = 0
      for _, value in log:stream{} do
        index = index + 1
        assert.same(values[index], value.v)
        assert.equal(math.type(values[index]), math.type(value.v))
      end
      assert.equal(#values, index)
    end
  end)
end)

describe("lines of JSON", function ()
  after_each(fixture.clean)

  it("that would be read with a loss are refused with line and column", function ()
    for _, codec in ipairs {"msgpack", "json"} do
      local log = fixture.keep(assert(flume.log.memory{codec = codec}))
      local count, text, code, line = log:append_json '1\n{"n":12345678901234567890}\n'
      assert.is_nil(count)
      assert.equal("column 6: an integer beyond 64 bits would lose digits; a string keeps them, and 1.5e20 says that "
        .. "it is rounded", text)
      assert.same({"EINVAL", 2}, {code, line})
      local _, too_deep = log:append_json(("["):rep(129) .. ("]"):rep(129))
      assert.equal("column 129: nested deeper than 128", too_deep)
      assert.equal(1, log:append_json '"\\ud83d"')
      assert.equal("\xed\xa0\xbd", log:get(0))
    end
  end)
end)
