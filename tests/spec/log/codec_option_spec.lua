-- The codec option: what the bytes of a log's records are.

local flume = require "flume"
local fixture = require "tests.support.fixture"

local function sum()
  return flume.reduce(1, function (acc, item) return acc + item.n end, 0)
end

local function memory(codec)
  return fixture.keep(assert(flume.new(flume.log.memory {codec = codec})))
end

-- Bytes of the caller's own: "n=5".
local function own()
  return {
    encode = function (value)
      if value.n == nil then error "no n" end
      return "n=" .. value.n
    end,
    decode = function (bytes) return {n = assert(math.tointeger(tonumber(bytes:match "^n=(%d+)$")), "not mine")} end,
  }
end

local COUNT = "return {version = 1, initial = 0, reducer = function (acc, item) return acc + item.n end}"

describe("codec", function ()
  after_each(fixture.clean)

  for name, codec in pairs {msgpack = "msgpack", json = "json", own = own()} do
    describe(name, function ()
      it("gives back what was put in", function ()
        local db = memory(codec)
        db:append {{n = 1}, {n = 2}}
        assert.equal(2, db:append {n = 3})
        assert.same({n = 2}, db:get(1))
        assert.same({{2, {n = 3}}, {1, {n = 2}}, {0, {n = 1}}}, fixture.collect(db:stream {reverse = true}))
      end)

      it("feeds inline views and script views", function ()
        local db = memory(codec):use("sum", sum()):use("script", fixture.write(fixture.dir() .. "/script.lua", COUNT))
        db:append {{n = 1}, {n = 2}, {n = 3}}
        assert.equal(6, db.sum:get())
        assert.equal(6, db.script:get())
      end)

      it("works together with a mapper", function ()
        for _, mapper in ipairs {
          function (value) return {n = value.n * 10} end,
          fixture.write(fixture.dir() .. "/mapper.lua", "return function (value) return {n = value.n * 10} end"),
        } do
          local db = fixture.keep(assert(flume.new(flume.log.memory {codec = codec}, {mapper = mapper})))
          db:use("sum", sum()):use("script", fixture.write(fixture.dir() .. "/script.lua", COUNT))
          db:append {{n = 1}, {n = 2}}
          assert.same({n = 20}, db:get(1))
          assert.equal(30, db.sum:get())
          assert.equal(30, db.script:get())
        end
      end)

      it("is read again from a file", function ()
        local dir = fixture.dir()
        local db = fixture.keep(assert(flume.open(dir, {codec = codec})))
        db:append {n = 7}
        db:close()
        db = fixture.keep(assert(flume.open(dir, {codec = codec})))
        assert.same({n = 7}, db:get(0))
      end)
    end)
  end

  describe("json", function ()
    it("stores text, which is JSON", function ()
      local dir = fixture.dir()
      local log = fixture.keep(assert(flume.log.file(dir, {codec = "json"})))
      log:append {a = {1, "two", flume.null}}
      log:close()
      local raw = fixture.keep(assert(flume.log.file(dir, {codec = "raw"})))
      assert.equal('{"a":[1,"two",null]}', raw:get(0))
    end)

    it("keeps integers integers, floats floats, and null", function ()
      local db = memory "json"
      db:append {{1, 1.5, 2.0, math.maxinteger}, flume.null, "text"}
      local list = db:get(0)
      assert.same({"integer", "float", "float"}, {math.type(list[1]), math.type(list[2]), math.type(list[3])})
      assert.equal(math.maxinteger, list[4])
      assert.equal(flume.null, db:get(1))
      assert.equal("text", db:get(2))
    end)

    it("rejects what JSON can't say, alone", function ()
      local db = memory "json"
      assert.equal("EINVAL", select(3, db:append(print)))
      assert.equal(0, db:append {n = 1})
    end)
  end)

  describe("raw", function ()
    it("takes and gives strings as they are", function ()
      local db = memory "raw"
      local payloads = {"", "\0\0\0", "plain", ("\255"):rep(70000)}
      db:append(payloads)
      for i, bytes in ipairs(payloads) do assert.equal(bytes, db:get(i - 1)) end
      db:use("bytes", flume.reduce(1, function (acc, item) return acc + #item end, 0))
      assert.equal(70008, db.bytes:get())
    end)

    it("rejects a value that isn't a string, alone", function ()
      local db = memory "raw"
      local _, message, code = db:append {n = 1}
      assert.equal("EINVAL", code)
      assert.truthy(message:find "strings", message)
      assert.equal(0, db:append "x")
    end)
  end)

  describe("of the caller's own", function ()
    it("that fails to encode fails that call alone, with a callback too", function ()
      local db = memory(own())
      local _, message, code = db:append {x = 1}
      assert.equal("EINVAL", code)
      assert.truthy(message:find "no n", message)
      assert.equal("EINVAL", select(3, db:append {{n = 1}, {x = 1}}))
      local calls, cb = fixture.recorder()
      db:append({x = 1}, cb)
      assert.equal(0, #calls)
      fixture.run_until(function () return #calls == 1 end)
      assert.equal("EINVAL", calls[1][1].code)
      assert.equal(0, db:append {n = 1})
    end)

    it("must make strings", function ()
      local db = memory {encode = function () return {} end, decode = function () end}
      assert.equal("EINVAL", select(3, db:append {n = 1}))
    end)

    it("that fails to decode fails that read, and the view at that record", function ()
      local dir = fixture.dir()
      local raw = fixture.keep(assert(flume.log.file(dir .. "/log", {codec = "raw"})))
      raw:append {"n=1", "broken"}
      raw:close()
      local db = fixture.keep(assert(flume.open(dir, {codec = own()})))
      assert.same({n = 1}, db:get(0))
      local value, message, code = db:get(1)
      assert.is_nil(value)
      assert.equal("EINVAL", code)
      assert.truthy(message:find "not mine", message)
      assert.error_matches(function () fixture.collect(db:stream()) end, "not mine")
      db:use("sum", sum())
      assert.truthy(select(2, db.sum:get()):find "record 1.*not mine")
    end)

    it("needs both functions", function ()
      assert.error_matches(function () memory {encode = print} end, "encode and decode")
    end)
  end)

  it("of another log is told when records can't be decoded", function ()
    local dir = fixture.dir()
    local raw = fixture.keep(assert(flume.log.file(dir, {codec = "raw"})))
    raw:append "\xc1"
    raw:close()
    local log = fixture.keep(assert(flume.log.file(dir)))
    assert.equal("ECORRUPT", select(3, log:get(0)))
    assert.error_matches(function () fixture.collect(log:stream()) end, "record 0 can't be decoded")
  end)
end)
