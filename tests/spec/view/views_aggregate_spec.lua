-- The built-in view "aggregate", and aggregate in a view's definition.

local differential = require "tests.support.differential"
local entries = require "tests.support.entries"
local flume = require "flume"
local fixture = require "tests.support.fixture"

local collect = entries.collect

local FIELDS = {
  records = "count", with_n = {"count", "n"}, sum = {"sum", "n"}, least = {"min", "n"}, most = {"max", "a.b"},
  different = {"distinct", "to"},
}

local function aggregate(params, records, log)
  local db = fixture.keep(flume.new(log or flume.log.memory()))
  db:use("totals", "aggregate", {params = params})
  if records then db:append(flume.array(records)) end
  return db.totals, db
end

-- --- The model ---------------------------------------------------------------------------------------------------

-- Whether the value can be a key, and so be least, greatest or distinct.
local function is_key(value)
  if type(value) ~= "table" then return value == value end
  if not flume.is_array(value) then return false end
  for i = 1, #value do
    if value[i] ~= flume.null and not is_key(value[i]) then return false end
  end
  return true
end

local function add(sum, n)
  if math.type(sum) == "integer" and math.type(n) == "integer" then
    local exact = sum + n
    if (exact >= sum) == (n >= 0) then return exact end
  end
  return sum + 0.0 + n
end

local function edge(value, than, sign)
  if not is_key(value) then return than end
  if than == nil or entries.compare(value, than) * sign > 0 then return value end
  return than
end

local OPS = {
  count = function (state) return (state or 0) + 1 end,
  sum = function (state, n)
    state = state or 0
    return type(n) == "number" and n == n and add(state, n) or state
  end,
  min = function (state, value) return edge(value, state, -1) end,
  max = function (state, value) return edge(value, state, 1) end,
  distinct = function (state, value)
    state = state or {}
    if is_key(value) then state[flume.hash(value)] = true end
    return state
  end,
}

local EMPTY = {count = function () return 0 end, sum = function () return 0 end, distinct = function () return {} end}

local function new_group(fields)
  local group = {}
  for name, field in pairs(fields) do
    local empty = EMPTY[type(field) == "table" and field[1] or field]
    group[name] = empty and empty()
  end
  return group
end

local function set_size(set)
  local size = 0
  for _ in pairs(set) do size = size + 1 end
  return size
end

-- The groups in their order: list of {key, state}.
local function model(records, group_by, fields)
  local groups, by_hash = {}, {}
  for _, record in ipairs(records) do
    local key = true
    if group_by then key = differential.at(record.value, group_by) end
    if key ~= nil and is_key(key) then
      local hash = flume.hash(key)
      if not by_hash[hash] then
        by_hash[hash] = {key = key, state = new_group(fields), seq = 0}
        groups[#groups + 1] = by_hash[hash]
      end
      local state = by_hash[hash].state
      for name, field in pairs(fields) do
        local op, path = field, nil
        if type(field) == "table" then op, path = field[1], field[2] end
        local value = path and differential.at(record.value, path)
        if not path or value ~= nil then state[name] = OPS[op](state[name], value) end
      end
    end
  end
  for _, group in ipairs(groups) do
    for name, value in pairs(group.state) do
      local field = fields[name]
      if type(field) == "table" and field[1] == "distinct" then group.state[name] = set_size(value) end
    end
  end
  local list = {}
  for i, group in ipairs(entries.sort(groups)) do list[i] = {group.key, group.state} end
  return list
end

-- --- Tests -------------------------------------------------------------------------------------------------------

local RECORDS = {
  {who = "ada", n = 5, to = "x"}, {who = "bob", n = 2.5, to = "x"}, {who = "ada", n = -1, to = "y"}, {n = 100},
  {who = "ada", n = "text", to = "x"}, {who = {x = 1}, n = 7}, {who = "bob"},
}

describe("the aggregate view", function ()
  after_each(fixture.clean)

  it("has counts, sums, least, greatest and distinct values by group", function ()
    local totals = aggregate({group = "who", fields = {
      records = "count", numbers = {"count", "n"}, sum = {"sum", "n"}, least = {"min", "n"}, most = {"max", "n"},
      different = {"distinct", "to"},
    }}, RECORDS)
    local ada = {records = 3, numbers = 3, sum = 4, least = "text", most = 5, different = 2}
    local bob = {records = 2, numbers = 1, sum = 2.5, least = 2.5, most = 2.5, different = 1}
    assert.same({{"ada", ada}, {"bob", bob}}, collect(totals:read()))
    assert.same(ada, totals:get "ada")
    assert.is_nil((totals:get "eve"))
    assert.equal(2, totals:count())
    assert.same({{"bob", bob}}, collect(totals:read {gt = "ada"}))
    assert.same({{bob}}, collect(totals:read {keys = false, reverse = true, limit = 1}))
  end)

  it("has all in one without a group", function ()
    local totals = aggregate({fields = {n = "count", sum = {"sum", "n"}}}, RECORDS)
    assert.same({n = 7, sum = 113.5}, totals:get())
    assert.same({{true, {n = 7, sum = 113.5}}}, collect(totals:read()))
  end)

  it("takes a list of paths for groups that are arrays", function ()
    local totals = aggregate({group = {"who", "to"}, fields = {n = "count"}}, RECORDS)
    assert.same({n = 2}, totals:get {"ada", "x"})
    assert.same({{{"ada", "x"}, {n = 2}}, {{"ada", "y"}, {n = 1}}}, collect(totals:read {prefix = {"ada"}}))
  end)

  it("has no least value of a missing field", function ()
    local totals = aggregate({group = "who", fields = {least = {"min", "none"}, sum = {"sum", "none"}}}, RECORDS)
    assert.same({sum = 0}, totals:get "ada")
  end)

  it("keeps sums integers while they fit, and makes floats of them when they don't", function ()
    local totals, db = aggregate({fields = {sum = {"sum", "n"}}}, {{n = math.maxinteger - 1}, {n = 1}})
    assert.equal(math.maxinteger, totals:get().sum)
    assert.equal("integer", math.type(totals:get().sum))
    db:append {n = 1}
    assert.equal(2.0^63, totals:get().sum)
    assert.equal("float", math.type(totals:get().sum))
    db:del(2)
    assert.equal(math.maxinteger, totals:get().sum)
  end)

  it("retracts counts and sums of integers, without a rebuild", function ()
    local totals, db = aggregate({group = "who", fields = {n = "count", sum = {"sum", "n"}, most = {"max", "n"}}},
      {{who = "a", n = 3}, {who = "a", n = 5}, {who = "b", n = 7}, {who = "a"}})
    assert.equal(2, totals:count())
    db:del {0, 3}
    assert.same({n = 1, sum = 5, most = 5}, totals:get "a")
    db:del(2)
    assert.same({{"a", {n = 1, sum = 5, most = 5}}}, collect(totals:read()))
    assert.is_nil(db:status().views.totals.reason)
  end)

  for what, field in pairs {
    ["a greatest value"] = {"max", "n"}, ["a distinct one"] = {"distinct", "n"},
    ["a part of a sum of floats"] = {"sum", "x"},
  } do
    it("is rebuilt when " .. what .. " is deleted", function ()
      local totals, db = aggregate({fields = {it = field}}, {{n = 1, x = 0.1}, {n = 9, x = 0.2}})
      local before = totals:get().it
      db:del(1)
      assert.equal(field[2] == "x" and 0.1 or 1, totals:get().it)
      assert.not_equal(before, totals:get().it)
      assert.equal("records were deleted", db:status().views.totals.reason)
    end)
  end

  it("tells live of each change", function ()
    local totals, db = aggregate({group = "who", fields = {sum = {"sum", "n"}}}, {{who = "a", n = 1}})
    local source = totals:read {live = true}
    assert.same({"a", {sum = 1}}, {source:next()})
    for i = 1, 20 do
      db:append {{who = "a", n = 1}, {n = 1}}
      assert.same({"a", {sum = 1 + i}}, {source:next()})
    end
    source:close()
  end)

  it("counts distinct values exactly up to 128, and nearly beyond", function ()
    local totals, db = aggregate {fields = {n = {"distinct", "n"}}}
    local batch = {}
    for i = 1, 128 do batch[i] = {n = i % 2 == 0 and "s" .. i or i} end
    db:append(flume.array(batch))
    db:append(flume.array(batch))
    assert.equal(128, totals:get().n)
    local last = 128
    for _, size in ipairs {1000, 10000, 50000} do
      batch = {}
      for i = last + 1, size do batch[#batch + 1] = {n = i} end
      db:append(flume.array(batch))
      last = size
      local found = totals:get().n
      assert.is_true(math.abs(found - size) < 0.05 * size, ("%d of %d"):format(found, size)) -- 3 standard errors
    end
  end)

  it("holds more groups than are kept at hand", function ()
    local dir = fixture.dir()
    local function open()
      local db = fixture.open_db(dir, {sync = "os"})
      db:use("totals", "aggregate", {params = {group = "k", fields = {n = "count", d = {"distinct", "v"}}}})
      return db
    end
    local db = open()
    for round = 1, 3 do
      local batch = {}
      for k = 1, 20000 do batch[k] = {k = k, v = {k, round, ("x"):rep(20)}} end
      for v = 1, 200 do batch[#batch + 1] = {k = v % 7, v = round * 1000 + v} end
      db:append(flume.array(batch))
    end
    assert.equal(20001, db.totals:count())
    for _, k in ipairs {10, 9999, 20000} do assert.same({n = 3, d = 3}, db.totals:get(k)) end
    assert.equal(3 + 3 * 29, db.totals:get(3).n)
    db:close()
    db = open()
    assert.equal(20001, db.totals:count())
    assert.same({n = 3, d = 3}, db.totals:get(777))
  end)

  it("shows in a dry run what it would change", function ()
    local totals = aggregate({group = "who", fields = {n = "count"}}, {{who = "a"}, {who = "b"}, {who = "a"}})
    assert.equal(2, totals:count())
    local found = assert(totals:explain {from = 0, to = 2})
    assert.equal(3, found.records)
  end)

  it("can be used by a view definition of any form", function ()
    local db = fixture.memory_db()
    db:use("by", {
      version = 1, group = "who", aggregate = {n = "count"}, methods = {total = "async"},
      total = function (view)
        local total = 0
        for _, each in view:range {seqs = false} do total = total + each.n end
        return total
      end,
    })
    db:append(flume.array(RECORDS))
    assert.equal(5, db.by:total())
    assert.same({n = 3}, db.by:get "ada")
  end)

  it("refuses what can't be aggregated", function ()
    local db = fixture.memory_db()
    local function use(definition) return function () db:use("by", definition) end end
    assert.error_matches(use {aggregate = {n = "sum"}}, "aggregate.n must be")
    assert.error_matches(use {aggregate = {n = {"median", "n"}}}, "aggregate.n must be")
    assert.error_matches(use {aggregate = {n = {"sum", "a..b"}}}, "aggregate.n must be")
    assert.error_matches(use {aggregate = {"count"}}, "aggregate.1 must be")
    assert.error_matches(use {aggregate = {}}, "no fields")
    assert.error_matches(use {aggregate = {n = "count"}, group = function () end}, "group must be")
    assert.error_matches(use {aggregate = {n = "count"}, reducer = function () end}, "something else as well")
    assert.error_matches(function () db:use("by", "aggregate", {params = {group = "a"}}) end, "fields is missing")
  end)

  for _, group in ipairs {"author", "a.b", "tags", "none"} do
    it("equals a fold of all records, by " .. group, function ()
      local by = group ~= "none" and group or nil
      differential.run {view = "aggregate", params = {group = by, fields = FIELDS}, check = function (view, records)
        assert.same(model(records, by, FIELDS), collect(view:read()))
        assert.equal(#model(records, by, FIELDS), view:count())
      end}
    end)
  end

  for how, options in pairs {
    ["a log of JSON"] = {codec = "json"}, ["a mapper"] = {mapper = function (value) return value end},
  } do
    it("is the same with " .. how, function ()
      entries.seeded(function (random)
        local db = fixture.keep(flume.new(flume.log.memory {codec = options.codec}, {mapper = options.mapper}))
        db:use("v", "aggregate", {params = {group = "author", fields = FIELDS}})
        local records, batch = {}, {}
        for i = 1, 60 do
          batch[i] = differential.value(random)
          records[i] = {seq = i - 1, value = batch[i]}
        end
        db:append(flume.array(batch))
        assert.same(model(records, "author", FIELDS), collect(db.v:read()))
        for _ = 1, 5 do
          local gone = table.remove(records, random(#records))
          db:del(gone.seq)
          assert.same(model(records, "author", FIELDS), collect(db.v:read()))
        end
      end)
    end)
  end
end)
