-- Methods that answer with the seqs of records, and callers who get the records.

local entries = require "tests.support.entries"
local flume = require "flume"
local testing = require "flume.testing"
local fixture = require "tests.support.fixture"

local collect = entries.collect

local EVEN = [[
return {
  indexer = function (item, seq, emit)
    if item.n % 2 == 0 then emit(item.n) end
  end,
  methods = {any = "record", wrong = "record", all = "records", pairs = "records", range = "records"},
  any = function (view, n)
    for _, _, seq in view:range {gte = n, lte = n} do return seq end
  end,
  wrong = function () return "x" end,
  all = function (view, options)
    local list = {}
    for key, _, seq in view:range {after = options and options.after} do list[#list + 1] = {key, seq} end
    table.sort(list, function (a, b) return a[2] < b[2] end)
    local i = 0
    return function ()
      i = i + 1
      if list[i] then return list[i][1], list[i][2] end
    end
  end,
  pairs = function (view)
    local next_entry = view:range {}
    return function ()
      local key, _, seq = next_entry()
      if key then return key, seq, key % 4 == 0 and "four" or nil end
    end
  end,
  range = function (view, n) return view:range {gte = n} end,
}]]

local function both(tests)
  tests("inline", function (db) db:use("even", assert(load(EVEN))()) end)
  tests("as a script", function (db) db:use("even", fixture.write(fixture.dir() .. "/even.lua", EVEN)) end)
end

describe("the cases of flume.testing", function ()
  it("can call methods that answer with records", function ()
    local results = testing.run {
      view = assert(load(EVEN))(),
      {
        events = {{n = 1}, {n = 4}, {n = 2}},
        calls = {
          {"any", 4, expect = {n = 4}}, {"all", expect = {{4, {n = 4}}, {2, {n = 2}}}}, {"any", 1},
        },
      },
    }
    assert.same({true, nil}, {results[1].ok, results[1].message})
  end)
end)

both(function (how, use)
  describe("methods that answer with records " .. how, function ()
    local db

    before_each(function ()
      db = fixture.memory_db()
      use(db)
      db:append {{n = 1}, {n = 4}, {n = 2}, {n = 6}}
    end)

    after_each(fixture.clean)

    it("give the record and its seq", function ()
      assert.same({{n = 2}, 2}, {db.even:any(2)})
      assert.is_nil((db.even:any(1)))
      local calls, cb = fixture.recorder()
      db.even:any(4, cb)
      fixture.run_until(function () return calls[1] end)
      assert.same({nil, {n = 4}, 1, n = 3}, calls[1])
    end)

    it("fail when the result isn't a seq", function ()
      local value, message, code = db.even:wrong()
      assert.same({nil, 'view "even": wrong must answer with a seq, not a string', "EVIEW"}, {value, message, code})
    end)

    it("give key, record and seq of each", function ()
      assert.same({{4, {n = 4}, 1}, {2, {n = 2}, 2}, {6, {n = 6}, 3}}, collect(db.even:all()))
      assert.same({{4, 1}, {2, 2}}, collect(db.even:all {values = false, limit = 2}))
      assert.same({{{n = 4}}, {{n = 2}}, {{n = 6}}}, collect(db.even:all {keys = false, seqs = false}))
      assert.same({{2, {n = 2}, 2}, {4, "four", 1}, {6, {n = 6}, 3}}, collect(db.even:pairs()))
      assert.same({{4, {n = 4}, 1}, {6, {n = 6}, 3}}, collect(db.even:range(3)))
    end)

    it("leave out what is deleted", function ()
      db:del(2)
      assert.same({{4, 1}, {6, 3}}, collect(db.even:all {values = false}))
      assert.is_nil((db.even:any(2)))
    end)

    it("go on live, each once", function ()
      local source, seqs = db.even:all {live = true, keys = false, values = false}, {}
      for i = 1, 300 do
        db:append({n = i}, function () end)
        if i % 3 == 0 then seqs[#seqs + 1] = (source:next()) end
      end
      while #seqs < 153 do seqs[#seqs + 1] = (source:next()) end
      for i = 1, 3 do assert.equal(i, seqs[i]) end
      for i = 1, 150 do assert.equal(3 + 2 * i, seqs[3 + i]) end
      source:close()
    end)

    it("begin with what comes when they are asked for that", function ()
      local source = db.even:all {live = true, old = false, limit = 2}
      db:append {{n = 7}, {n = 8}}
      assert.same({8, {n = 8}, 5}, {source:next()})
      db:append {n = 10}
      assert.same({10, {n = 10}, 6}, {source:next()})
      assert.is_nil((source:next()))
      assert.same({}, collect(db.even:all {old = false}))
    end)

    it("wait until they are closed", function ()
      local source, calls, cb = db.even:all {live = true, old = false}, fixture.recorder()
      source:next(cb)
      flume.step(0)
      assert.same({}, calls)
      source:close()
      fixture.run_until(function () return calls[1] end)
      assert.same({n = 2}, calls[1])
    end)
  end)
end)
