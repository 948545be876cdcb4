-- Random queries over random records: what comes out is what a plain walk over all records finds, and no record is
-- looked at that an index could have told to be none.

local core = require "flume.core"
local flume = require "flume"
local fixture = require "tests.support.fixture"

local query = flume.query
local null = flume.null

-- --- Chance ------------------------------------------------------------------------------------------------------

local state

local function below(n)
  state = (state * 6364136223846793005 + 1442695040888963407)
  return (state >> 33) % n
end

local function pick(list)
  return list[below(#list) + 1]
end

local SCALARS = {
  0, 1, 2, 3, -1, 1.0, 2.5, -0.5, 1 << 53, (1 << 53) + 1, 2.0 ^ 53, math.huge, "", "a", "ab", "abc", "b", "post", "é",
  "a\0b", true, false,
}

local function random_value(depth)
  local chance = below(14)
  if chance == 0 then return null end
  if chance == 1 then return 0.0 / 0.0 end
  if chance == 2 and depth < 3 then return flume.array {pick(SCALARS), pick(SCALARS)} end
  if chance == 3 and depth < 3 then return flume.array {flume.map {d = pick(SCALARS)}, pick(SCALARS)} end
  if chance == 4 and depth < 3 then return flume.map {d = random_value(depth + 1)} end
  return pick(SCALARS)
end

local FIELDS = {"a", "b", "c", "deep"}

local function random_record()
  local chance = below(40)
  if chance == 0 then return null end
  if chance == 1 then return pick(SCALARS) end
  local record = {}
  for _, field in ipairs(FIELDS) do
    if below(5) > 0 then record[field] = random_value(0) end
  end
  if below(3) > 0 then record.deep = flume.map {x = random_value(1), y = flume.map {z = random_value(1)}} end
  record.tags = below(2) == 0 and flume.array {pick {"red", "green"}, pick {"blue", "red"}} or nil
  return flume.map(record)
end

-- --- What is right -----------------------------------------------------------------------------------------------

local function is_table(value)
  return type(value) == "table"
end

local function same(a, b)
  if not (is_table(a) and is_table(b)) then return a == b end
  for key, value in pairs(a) do
    if not same(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

local function at(record, path)
  for key in path:gmatch "[^.]+" do
    if not is_table(record) then return nil end
    record = record[key]
  end
  return record
end

local CLASSES = {number = 2, string = 1, boolean = 3}

-- -1, 0 or 1; nil for what can't be compared.
local function order(a, b)
  if type(a) ~= type(b) or not CLASSES[type(a)] or a ~= a or b ~= b then return nil end
  if type(a) == "boolean" then a, b = a and 1 or 0, b and 1 or 0 end
  return a == b and 0 or a < b and -1 or 1
end

-- Where a value comes in a sorted list: nothing and what can't be a key, strings, arrays, numbers, false, true.
local function sort_order(a, b)
  local function rank(value)
    if type(value) == "string" then return 1 end
    if type(value) == "number" and value == value then return 3 end
    if type(value) == "boolean" then return value and 5 or 4 end
    if is_table(value) and flume.encode(value) and value[1] ~= nil and not is_table(value[1]) then
      return value[1] == value[1] and value[2] == value[2] and 2 or 0
    end
    return 0
  end
  local rank_a, rank_b = rank(a), rank(b)
  if rank_a ~= rank_b then return rank_a < rank_b and -1 or 1 end
  if rank_a == 2 then
    local first = sort_order(a[1], b[1])
    return first ~= 0 and first or sort_order(a[2], b[2])
  end
  return (rank_a == 1 or rank_a == 3) and order(a, b) or 0
end

-- A condition of flume.query, whether it is met, and whether it may be as far as indexes know: true, false or "maybe".
local PATHS = {"a", "b", "c", "deep.x", "deep.y.z", "deep", "a.d", "nowhere"}

local function from_boolean(fn, indexed)
  return fn, function (record)
    if not indexed then return "maybe" end
    return fn(record)
  end
end

local COMPARE = {
  gt = function (o) return o > 0 end, gte = function (o) return o >= 0 end,
  lt = function (o) return o < 0 end, lte = function (o) return o <= 0 end,
}

local LEAVES = {
  function (path)
    local value = below(6) == 0 and pick {null, flume.array {1, 2}, flume.map {d = 1}} or pick(SCALARS)
    local scalar = not is_table(value) and value ~= null
    return query.eq(path, value), from_boolean(function (record) return same(at(record, path), value) end, scalar)
  end,
  function (path)
    local value = pick(SCALARS)
    return query.ne(path, value), from_boolean(function (record) return not same(at(record, path), value) end, true)
  end,
  function (path)
    local op, value = pick {"gt", "gte", "lt", "lte"}, pick(SCALARS)
    return query[op](path, value), from_boolean(function (record)
      local o = order(at(record, path), value)
      return o ~= nil and COMPARE[op](o)
    end, type(value) ~= "boolean")
  end,
  function (path)
    local first, last = pick {0, 1, -1}, pick {2, 2.5, 100}
    return query.between(path, first, last), from_boolean(function (record)
      local value = at(record, path)
      return type(value) == "number" and value >= first and value <= last
    end, true)
  end,
  function (path)
    local list = {pick(SCALARS), pick(SCALARS), pick(SCALARS)}
    return query.one_of(path, list), from_boolean(function (record)
      local value = at(record, path)
      return value ~= nil and (same(value, list[1]) or same(value, list[2]) or same(value, list[3]))
    end, true)
  end,
  function (path)
    local prefix = pick {"", "a", "ab", "post"}
    return query.prefix(path, prefix), from_boolean(function (record)
      local value = at(record, path)
      return type(value) == "string" and value:sub(1, #prefix) == prefix
    end, true)
  end,
  function (path)
    return query.exists(path), from_boolean(function (record)
      local value = at(record, path)
      return value ~= nil and value ~= null
    end, true)
  end,
  function (path)
    local name = pick {"number", "string", "boolean", "array", "map", "null", "undefined"}
    return query.type(path, name), from_boolean(function (record)
      local value = at(record, path)
      if value == nil then return name == "undefined" end
      if value == null then return name == "null" end
      if is_table(value) then return name == (value[1] ~= nil and "array" or "map") end
      return type(value) == name
    end, true)
  end,
  function ()
    local value = pick {"red", "green", "blue"}
    return query.has("tags", value), from_boolean(function (record)
      local tags = at(record, "tags")
      return is_table(tags) and (tags[1] == value or tags[2] == value)
    end, false)
  end,
}

local function negate(value)
  if value == "maybe" then return "maybe" end
  return not value
end

local function both(a, b)
  if a == false or b == false then return false end
  return (a == "maybe" or b == "maybe") and "maybe" or true
end

local function random_condition(depth)
  local chance = depth > 2 and 9 or below(10)
  if chance > 4 then return pick(LEAVES)(pick(PATHS)) end
  local a, is_a, may_a = random_condition(depth + 1)
  if chance == 4 then
    return ~a, function (record) return not is_a(record) end, function (record) return negate(may_a(record)) end
  end
  local b, is_b, may_b = random_condition(depth + 1)
  if chance > 1 then
    return a & b, function (record) return is_a(record) and is_b(record) end,
      function (record) return both(may_a(record), may_b(record)) end
  end
  return a | b, function (record) return is_a(record) or is_b(record) end,
    function (record) return negate(both(negate(may_a(record)), negate(may_b(record)))) end
end

-- --- Looking at a database ---------------------------------------------------------------------------------------

-- The seqs of the model's records for which a function is true, ascending.
local function seqs_where(model, fn)
  local found = {}
  for seq = 0, model.count - 1 do
    local record = model[seq]
    if record ~= nil and fn(record) then found[#found + 1] = seq end
  end
  return found
end

local function reversed(list)
  local made = {}
  for i = #list, 1, -1 do made[#made + 1] = list[i] end
  return made
end

local function seqs_of(results)
  local found = {}
  for _, seq in results do found[#found + 1] = seq end
  return found
end

local function first_of(list, n)
  return table.move(list, 1, n, 1, {})
end

local function sorted_by(model, seqs, path)
  local list = table.move(seqs, 1, #seqs, 1, {})
  table.sort(list, function (a, b)
    local o = sort_order(at(model[a], path), at(model[b], path))
    if o ~= 0 then return o < 0 end
    return a < b
  end)
  return list
end

local function check_pages(built, expected, model, what)
  local got, cursor = {}, nil
  built = built:limit(7)
  repeat
    local items, next_cursor = built:page(cursor)
    assert.is_table(items, next_cursor)
    table.move(items, 1, #items, #got + 1, got)
    cursor = next_cursor
  until not cursor
  assert.equal(#expected, #got, what)
  for i, seq in ipairs(expected) do
    assert.is_true(same(got[i], model[seq]) or core.encode_sorted(got[i]) == core.encode_sorted(model[seq]), what)
  end
end

local function is_anything() return true end

local function check_condition(db, model, usable)
  local condition, is, may = random_condition(0)
  if below(2) == 0 then condition = condition & query.test("a", is_anything) end -- the records are looked at, too
  local what = tostring(condition)
  local expected = seqs_where(model, is)
  local built = db.q:where(condition)
  assert.same(expected, seqs_of(built:iterate()), what)
  assert.equal(#expected, built:count(), what)
  local limit = below(6)
  assert.same(first_of(reversed(expected), limit), seqs_of(built:descending():limit(limit):iterate()), what)
  local path = pick(PATHS)
  local sorted = sorted_by(model, expected, path)
  assert.same(sorted, seqs_of(built:by(path):iterate()), what .. " by " .. path)
  assert.same(reversed(sorted), seqs_of(built:by(path):descending():iterate()), what .. " by " .. path)
  if below(3) == 0 then check_pages(built:by(path), sorted, model, what) end
  if below(3) == 0 then check_pages(built:descending(), reversed(expected), model, what) end
  local told = assert(built:explain())
  assert.equal(#expected, told.returned, what)
  local decoded = seqs_where(model, function (record) return is(record) and is_table(record) end)
  assert.equal(usable and #decoded or 0, told.decoded, what)
  if usable and not told.scan then
    local left = seqs_where(model, function (record) return may(record) ~= false end)
    assert.is_true(told.examined <= #left, ("%s: %d of %d"):format(what, told.examined, #left))
  end
end

-- --- Changing it -------------------------------------------------------------------------------------------------

local function append(db, model)
  local batch = {}
  for i = 1, below(60) + 1 do batch[i] = random_record() end
  assert(db:append(batch))
  for _, record in ipairs(batch) do
    model[model.count] = record
    model.count = model.count + 1
  end
end

local function delete(db, model)
  if model.count == 0 then return end
  local seqs = {}
  for i = 1, below(4) + 1 do seqs[i] = below(model.count) end
  assert(db:del(seqs))
  for _, seq in ipairs(seqs) do model[seq] = nil end
end

local function run(seed, rounds, open, usable)
  state = seed
  local db, model = open(), {count = 0}
  for _ = 1, rounds do
    local chance = below(12)
    if chance < 3 then append(db, model)
    elseif chance == 3 then delete(db, model)
    elseif chance == 4 then db = open(db)
    else check_condition(db, model, usable) end
  end
end

-- --- Filters -----------------------------------------------------------------------------------------------------

local OPERATORS = {
  function () return "$eq", pick(SCALARS) end,
  function () return "$ne", pick(SCALARS) end,
  function () return pick {"$gt", "$gte", "$lt", "$lte"}, pick {0, 1, 2.5, "a", "b", true, flume.array {1}} end,
  function () return "$prefix", pick {"a", "", flume.array {}, flume.array {"a"}} end,
  function () return "$in", flume.array {pick(SCALARS), pick(SCALARS), null} end,
  function () return "$is", pick {"string", "number", "boolean", "object", "undefined", "array", "map", "null"} end,
  function () return pick {"$truthy", "$int", "$type"}, true end,
  function () return "$not", true end,
  function () return "$mod", 2 end,
}

local random_rule

local function random_operators()
  local rule = {}
  for _ = 1, below(2) + 1 do
    local name, value = pick(OPERATORS)()
    rule[name] = value
  end
  if below(6) == 0 then rule = {["$not"] = random_rule(2)} end
  if below(8) == 0 then rule = {["$or"] = flume.array {random_rule(2), random_rule(2)}} end
  return flume.map(rule)
end

function random_rule(depth)
  local chance = below(8)
  if chance == 0 then return pick(SCALARS) end
  if chance == 1 then return null end
  if chance < 5 or depth > 2 then return random_operators() end
  if chance == 5 then return flume.array {random_rule(depth + 1), below(2) == 0 and random_rule(depth + 1) or nil} end
  local rule = {}
  for _ = 1, below(3) do rule[pick {"a", "d", "x", "y", "z", "length", "0"}] = random_rule(depth + 1) end
  return flume.map(rule)
end

local function random_filter()
  local rule = {}
  for _ = 1, below(3) + 1 do rule[pick {"a", "b", "c", "deep", "tags"}] = random_rule(0) end
  return flume.map(rule)
end

describe("random filters", function ()
  after_each(fixture.clean)

  it("find the same with indexes and without", function ()
    state = 4711
    local model = {count = 0}
    local indexed = fixture.memory_db():use("q", "query")
    local plain = fixture.memory_db {mapper = function (value) return value end}:use("q", "query")
    for _ = 1, 8 do
      local before = model.count
      append(indexed, model)
      for seq = before, model.count - 1 do assert(plain:append {model[seq]}) end
    end
    local found = 0
    for _ = 1, 400 do
      local filter = random_filter()
      local text = flume.json.encode(filter) or "?"
      local expected = seqs_of(plain.q:query(flume.array {{["$filter"] = filter}}))
      assert.same(expected, seqs_of(indexed.q:query(flume.array {{["$filter"] = filter}})), text)
      assert.equal(#expected, indexed.q:count(flume.array {{["$filter"] = filter}}), text)
      found = found + math.min(#expected, 1)
    end
    assert.is_true(found > 100) -- filters that find something
    assert.is_true(#indexed.q:indexes() > 10)
  end)
end)

describe("random queries", function ()
  after_each(fixture.clean)

  for seed = 1, 6 do
    it("find what a walk over all records finds, seed " .. seed, function ()
      local dir = fixture.dir()
      run(seed, 120, function (before)
        if before then before:close() end
        local db = fixture.open_db(dir, {sync = "os"})
        return db:use("q", "query")
      end, true)
    end)
  end

  it("find the same where there are no indexes", function ()
    local db = fixture.memory_db {mapper = function (value) return value end}:use("q", "query")
    run(77, 120, function () return db end, false)
  end)
end)
