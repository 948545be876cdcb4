-- The built-in view "reduce".

local differential = require "tests.support.differential"
local entries = require "tests.support.entries"
local flume = require "flume"
local fixture = require "tests.support.fixture"

local function reduce(params, records)
  local db = fixture.memory_db()
  db:use("sum", "reduce", {params = params})
  db:append(flume.array(records or {{who = "a", n = 1}, {who = "b", n = 2}, {n = 3}}))
  return db.sum, db
end

local COUNT_AND_SUM = [[
  local ok, n = pcall(function () return item.n end)
  if ok and math.type(n) == "integer" then acc.count, acc.sum = acc.count + 1, acc.sum + n end
  return acc
]]

local TAKE_BACK = COUNT_AND_SUM:gsub("count %+ 1", "count - 1"):gsub("sum %+ n", "sum - n")

local function model(records)
  local state = {count = 0, sum = 0}
  for _, record in ipairs(records) do
    local n = differential.at(record.value, "n")
    if math.type(n) == "integer" then state.count, state.sum = state.count + 1, state.sum + n end
  end
  return state
end

describe("the reduce view", function ()
  after_each(fixture.clean)

  it("takes an expression", function ()
    assert.equal(6, (reduce {reducer = "acc + item.n", initial = 0}:get()))
    assert.equal(2, (reduce {reducer = "math.max(acc or seq, seq)"}:get()))
  end)

  it("takes the body of a function", function ()
    local sum = reduce {reducer = "if item.who then acc = acc + item.n end return acc", initial = 10}
    assert.equal(13, sum:get())
  end)

  it("has a state a key with a group", function ()
    local sum = reduce {reducer = "acc + item.n", initial = 0, group = "who"}
    assert.same({{"a", 1}, {"b", 2}}, entries.collect(sum:read()))
    assert.equal(2, sum:get "b")
  end)

  it("retracts a deleted record, or is rebuilt", function ()
    local sum, db = reduce {reducer = "acc + item.n", retract = "acc - item.n", initial = 0}
    db:del(1)
    assert.equal(4, sum:get())
    assert.is_nil(db:status().views.sum.reason)
    sum, db = reduce {reducer = "acc + item.n", initial = 0}
    assert.equal(6, sum:get())
    db:del(1)
    assert.equal(4, sum:get())
    assert.equal("records were deleted", db:status().views.sum.reason)
  end)

  it("is rebuilt when the text changes, or with a version when the version changes", function ()
    local dir = fixture.dir()
    local function open(params)
      local db = fixture.open_db(dir)
      db:use("sum", "reduce", {params = params})
      return db
    end
    local db = open {reducer = "acc + item.n", initial = 0}
    db:append {{n = 1}, {n = 2}}
    assert.equal(3, db.sum:get())
    db:close()
    db = open {reducer = "acc + 2 * item.n", initial = 0}
    assert.equal(6, db.sum:get())
    db:close()
    db = open {reducer = "acc + item.n", initial = 0, version = 1}
    assert.equal(3, db.sum:get())
    db:close()
    db = open {reducer = "acc + 3 * item.n", initial = 0, version = 1}
    assert.equal(3, db.sum:get())
    db:close()
    db = open {reducer = "acc + 3 * item.n", initial = 0, version = 2}
    assert.equal(9, db.sum:get())
  end)

  it("refuses invalid Lua, and unknown parameters", function ()
    local db = fixture.memory_db()
    local function use(params) return function () db:use("sum", "reduce", {params = params}) end end
    assert.error_matches(use {reducer = "acc +"}, "reduce: parameter reducer: sum.reducer:1: ")
    assert.error_matches(use {reducer = "acc", retract = "("}, "reduce: parameter retract")
    assert.error_matches(use {initial = 0}, "parameter reducer is missing: a string")
    assert.error_matches(use {reducer = "acc", init = 0}, "unknown parameter init")
  end)

  it("fails at the record where the text raises", function ()
    local sum = reduce({reducer = "acc + item.n", initial = 0}, {{n = 1}, {n = "x"}})
    local value, message, code = sum:get()
    assert.same({nil, "EVIEW"}, {value, code})
    assert.truthy(message:find("failed at record 1: sum.reducer:1: ", 1, true), message)
  end)

  for how, retract in pairs {["with retract"] = TAKE_BACK, ["without"] = false} do
    it("equals a fold of all records: " .. how, function ()
      differential.run {
        view = "reduce",
        params = {reducer = COUNT_AND_SUM, retract = retract or nil, initial = {count = 0, sum = 0}},
        check = function (view, records) assert.same(model(records), view:get()) end,
      }
    end)
  end
end)
