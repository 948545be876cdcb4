-- Deltas: a copy that is kept by them is what the view is, whatever happens to either.
--
-- FLUME_DELTAS_SEED repeats a run.

local flume = require "flume"
local scripts = require "tests.support.scripts"
local world = require "tests.support.world"

local SEED = scripts.seed "FLUME_DELTAS_SEED"
local STEPS = 150

local SOURCES = {
  sum = [[return {version = V, initial = 0, reducer = function (n, item) return n + item.n * V end}]],
  groups = [[return {version = V, group = "k", initial = 0, reducer = function (n, item) return n + item.n * V end,
    retract = function (n, item)
      n = n - item.n * V
      return n ~= 0 and n or nil
    end}]],
  anew = [[return {version = V, group = function (item) return {item.k, item.n % 2} end, initial = 0,
    reducer = function (n, item) return n + item.n * V end}]],
  index = [[return {version = V, indexer = function (item, seq, emit)
    emit(item.k, item.n * V)
    if item.n % 3 == 0 then emit({"three", item.n}) end
  end}]],
  path = [[return {version = V, indexer = "k"}]],
}

-- --- Copies ------------------------------------------------------------------------------------------------------

local function id_of(key)
  if type(key) ~= "table" then return tostring(key) end
  return table.concat(table.move(key, 1, #key, 1, {}), "/")
end

local function new_copy()
  return {entries = {}, position = nil, resets = 0}
end

-- Changes the copy as a delta says: groups and states stand under their key, entries under their seq as well.
local function apply(copy, is_index, op, key, value, seq)
  if op == "reset" then
    copy.entries, copy.resets, copy.position = {}, copy.resets + 1, nil
  elseif op == "at" then
    copy.position, copy.seq = key, seq
  elseif not is_index then
    copy.entries[id_of(key)] = op == "set" and value or nil
  elseif op == "remove" then
    copy.entries[seq] = nil
  else
    copy.entries[seq] = copy.entries[seq] or {}
    copy.entries[seq][id_of(key)] = value == nil and "none" or value
  end
end

local function clone(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, inner in pairs(value) do copy[key] = clone(inner) end
  return copy
end

-- What there is in the view, in the form of a copy.
local function entries_of(view)
  local copy = new_copy()
  local kind = view._kind
  if kind == "reduce" then
    apply(copy, false, "set", nil, assert(view:get()))
  elseif kind == "group" then
    for key, state in view:read {} do apply(copy, false, "set", key, state) end
  else
    for key, seq in view:read {values = false} do apply(copy, true, "set", key, true, seq) end
  end
  return copy.entries
end

local function without_values(entries, kind)
  if kind ~= "index" then return entries end
  local plain = {}
  for seq, keys in pairs(entries) do
    plain[seq] = {}
    for key in pairs(keys) do plain[seq][key] = true end
  end
  return plain
end

local function catch_up(view, copy)
  for op, key, value, seq in view:deltas {after = copy.position} do
    apply(copy, view._kind == "index", op, key, value, seq)
  end
end

-- A copy that is kept live, as soon as something comes.
local function follow(view, position)
  local copy, stream = new_copy(), view:deltas {live = true, after = position}
  copy.stream = stream
  local function take(err, op, ...)
    if err then
      copy.err = err
    elseif op ~= nil then
      apply(copy, view._kind == "index", op, ...)
      stream:next(take)
    end
  end
  stream:next(take)
  return copy
end

local function is_at_the_end(db, copy)
  local seq, deletions = tostring(copy.position):match "^(%-?%d+)%.(%d+)"
  return copy.err or math.tointeger(seq) == db.since:get()
    and math.tointeger(deletions) == db.log.core:deletion_count()
end

-- The position says which version it is of, too.
local function has_come_to(other, copy)
  return copy.err or copy.position == other.position
end

-- --- The tests ---------------------------------------------------------------------------------------------------

local function fill(db, count)
  local batch = {}
  for i = 1, count do batch[i] = {k = math.random(5), n = math.random(0, 9)} end
  return assert(db:append(batch))
end

describe("deltas", function ()
  local views, versions

  before_each(function ()
    views = scripts.new(SOURCES)
    versions = views.versions
    math.randomseed(SEED)
  end)
  after_each(world.clean)

  local function all_of(view, options)
    local list = {}
    for op, key, value, seq in view:deltas(options) do list[#list + 1] = {op, op ~= "at" and key or nil, value, seq} end
    return list
  end

  it("keep a copy equal to the view through appends, deletes, new versions and reopening", function ()
    local copies, live, db = {}, {}, nil
    for name in pairs(SOURCES) do
      views:write(name, 1)
      copies[name] = new_copy()
    end
    local function begin()
      db = views:open()
      for name in pairs(SOURCES) do live[name] = follow(db[name], copies[name].position) end
    end
    begin()
    local operations = {
      function () fill(db, math.random(20)) end,
      function () fill(db, 1) end,
      function ()
        if db.since:get() >= 0 then assert(db:del(math.random(0, db.since:get()))) end
      end,
      function () if math.random(5) == 1 then assert(db:compact()) end end,
      function ()
        if math.random(4) > 1 then return end
        for name in pairs(SOURCES) do
          if math.random(4) == 1 then views:write(name, 3 - versions[name]) end
        end
        assert(db:reload())
      end,
      function () if math.random(4) == 1 then assert(db.groups:rebuild()) end end,
      function ()
        if math.random(4) > 1 then return end
        db:close()
        begin()
        for name in pairs(SOURCES) do live[name].entries = clone(copies[name].entries) end
      end,
    }
    for step = 1, STEPS do
      operations[math.random(#operations)]()
      if math.random(3) == 1 then
        for name in pairs(SOURCES) do
          local view, where = db[name], ("%s, step %d, FLUME_DELTAS_SEED=%d"):format(name, step, SEED)
          catch_up(view, copies[name])
          local wanted = entries_of(view)
          assert.same(wanted, without_values(copies[name].entries, view._kind), where)
          assert.equal(db.since:get(), copies[name].seq, where)
          world.run_until(function () return has_come_to(copies[name], live[name]) end)
          assert.is_nil(live[name].err, where)
          assert.same(copies[name].entries, live[name].entries, where)
        end
      end
    end
  end)

  it("are what changed, and no more", function ()
    views:write("groups", 1)
    views:write("index", 1)
    local db = views:open()
    assert(db:append {{k = 1, n = 5}, {k = 2, n = 7}})
    local groups, index = new_copy(), new_copy()
    catch_up(db.groups, groups)
    catch_up(db.index, index)
    assert(db:append {k = 2, n = 1})
    assert.same({{"set", 2, 8, 2}, {"at", nil, nil, 2}}, all_of(db.groups, {after = groups.position}))
    assert.same({{"set", 2, 1, 2}, {"at", nil, nil, 2}}, all_of(db.index, {after = index.position}))
    assert.same({{"set", 2, 8, 2}, {"at", nil, nil, 2}}, all_of(db.groups, {after = 1}))
    assert(db:del(0))
    assert.same({{"remove", 1, nil, 2}, {"set", 2, 8, 2}, {"at", nil, nil, 2}},
      all_of(db.groups, {after = groups.position}))
    assert.same({{"remove", nil, nil, 0}, {"set", 2, 1, 2}, {"at", nil, nil, 2}},
      all_of(db.index, {after = index.position}))
  end)

  it("are those of a range of keys", function ()
    views:write("groups", 1)
    views:write("index", 1)
    local db = views:open()
    assert(db:append {{k = 1, n = 5}, {k = 2, n = 7}, {k = 3, n = 3}})
    assert.same({{"reset"}, {"set", 2, 7, 2}, {"set", 3, 3, 2}, {"at", nil, nil, 2}}, all_of(db.groups, {gte = 2}))
    assert.same({{"set", 2, 7, 2}, {"at", nil, nil, 2}}, all_of(db.groups, {gte = 2, lt = 3, after = 0}))
    assert.same({{"set", flume.array {"three", 3}, nil, 2}, {"at", nil, nil, 2}},
      all_of(db.index, {prefix = {"three"}, after = 0}))
  end)

  it("begin anew where the way is not known", function ()
    views:write("groups", 1)
    local db = views:open()
    assert(db:append {{k = 1, n = 5}, {k = 2, n = 7}})
    local copy = new_copy()
    catch_up(db.groups, copy)
    assert.equal(1, copy.resets)
    assert.equal("reset", all_of(db.groups, {after = 7})[1][1])
    assert.equal("reset", all_of(db.groups, {after = "nonsense"})[1][1])
    views:write("groups", 2)
    assert(db:reload())
    catch_up(db.groups, copy)
    assert.equal(2, copy.resets)
    assert.same({["1"] = 10, ["2"] = 14}, copy.entries)
    assert(db:del(0))
    assert(db:compact()) -- which group it was in is not known any more
    catch_up(db.groups, copy)
    assert.equal(3, copy.resets)
    assert.same({["2"] = 14}, copy.entries)
  end)

  it("tell at once of another version, and end when they are closed", function ()
    views:write("groups", 1)
    local db = views:open()
    fill(db, 10)
    local copy = follow(db.groups)
    world.run_until(function () return copy.position end)
    views:write("groups", 2)
    assert(db:reload())
    world.run_until(function () return copy.resets == 2 and is_at_the_end(db, copy) end)
    assert.same(entries_of(db.groups), copy.entries)
    copy.stream:close()
    assert.is_nil(copy.stream:next())
    local other = follow(db.groups)
    world.run_until(function () return other.position end)
    db:close()
    assert.equal("ECLOSED", other.err.code)
  end)

  it("are there of views in the caller's state as well, over many records", function ()
    local db = world.memory_db()
    db:use("groups", {version = 1, group = "k", initial = 0, reducer = function (n, item) return n + item.n end})
    db:use("keys", flume.index(1, "k"))
    db:use("count", flume.reduce(1, function (n) return n + 1 end, 0))
    local copies = {groups = new_copy(), keys = new_copy(), count = new_copy()}
    assert(db:append {k = 0, n = 1})
    for name, copy in pairs(copies) do catch_up(db[name], copy) end
    for _ = 1, 100 do fill(db, 200) end
    for name, copy in pairs(copies) do
      catch_up(db[name], copy)
      assert.same(entries_of(db[name]), without_values(copy.entries, db[name]._kind))
      assert.equal(20000, copy.seq)
    end
  end)

  it("take no other options", function ()
    views:write("sum", 1)
    local db = views:open()
    assert.error_matches(function () db.sum:deltas {reverse = true} end, 'unknown option "reverse"')
    assert.error_matches(function () db.sum:deltas {after = {}} end, "must be a position")
    assert.error_matches(function () db.sum:deltas {gt = 1} end, "a reducer has no keys")
  end)
end)
