-- Deltas: what there is of them, for which views, and what they cost. That copies are right, whatever happens to the
-- views, is deltas_model_spec.lua.

local core = require "flume.core"
local deltas = require "flume.view.deltas"
local flume = require "flume"
local lfs = require "lfs"
local scripts = require "tests.support.scripts"
local fixture = require "tests.support.fixture"

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
  spending = [[return {version = V, group = "k", aggregate = {
    n = "count", sum = {"sum", "n"}, low = {"min", "n"}, high = {"max", "n"}, kinds = {"distinct", "n"}}}]],
  total = [[return {version = V, aggregate = {n = "count", sum = {"sum", "n"}, low = {"min", "n"}}}]],
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

-- --- The tests ---------------------------------------------------------------------------------------------------

local function fill(db, count)
  local batch = {}
  for i = 1, count do batch[i] = {k = math.random(5), n = math.random(0, 9)} end
  return assert(db:append(batch))
end

describe("deltas", function ()
  local views

  before_each(function () views = scripts.new(SOURCES) end)
  after_each(fixture.clean)

  local function all_of(view, options)
    local list = {}
    for op, key, value, seq in view:deltas(options) do list[#list + 1] = {op, op ~= "at" and key or nil, value, seq} end
    return list
  end

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

  it("begin with the whole state where the changes since are not known", function ()
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
    fixture.run_until(function () return copy.position end)
    views:write("groups", 2)
    assert(db:reload())
    fixture.run_until(function () return copy.resets == 2 and is_at_the_end(db, copy) end)
    assert.same(entries_of(db.groups), copy.entries)
    copy.stream:close()
    assert.is_nil(copy.stream:next())
    local other = follow(db.groups)
    fixture.run_until(function () return other.position end)
    db:close()
    assert.equal("ECLOSED", other.err.code)
  end)

  it("are there of views in the caller's state as well, over many records", function ()
    local db = fixture.memory_db()
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

  it("are, of an aggregate, what it shows", function ()
    views:write("spending", 1)
    views:write("total", 1)
    local db = views:open()
    local groups, one = new_copy(), new_copy()
    catch_up(db.total, one)
    assert.same({}, one.entries)
    assert(db:append {{k = 1, n = 5}, {k = 2, n = 7}, {k = {a = 1}, n = 1}, {n = 1}})
    catch_up(db.spending, groups)
    catch_up(db.total, one)
    assert.same({n = 1, sum = 7, low = 7, high = 7, kinds = 1}, groups.entries["2"])
    assert.same({n = 4, sum = 14, low = 1}, one.entries["nil"])
    assert(db:append {k = 2, n = 2})
    assert.same({{"set", 2, {n = 2, sum = 9, low = 2, high = 7, kinds = 2}, 4}, {"at", nil, nil, 4}},
      all_of(db.spending, {after = groups.position}))
    assert.same({{"set", nil, {n = 5, sum = 16, low = 1}, 4}, {"at", nil, nil, 4}},
      all_of(db.total, {after = one.position}))
    assert(db:del {0, 1, 2, 3})
    assert.same({{"remove", 1, nil, 4}, {"set", 2, {n = 1, sum = 2, low = 2, high = 2, kinds = 1}, 4},
      {"at", nil, nil, 4}}, all_of(db.spending, {after = groups.position}))
    assert(db:del(4))
    assert.same({{"remove", nil, nil, 4}, {"at", nil, nil, 4}}, all_of(db.total, {after = one.position}))
    assert.same({{"reset"}, {"at", nil, nil, 4}}, all_of(db.spending))
  end)

  it("are of every group, also of false", function ()
    local db, copy = fixture.memory_db(), new_copy()
    db:use("spending", {version = 1, group = "k", aggregate = {n = "count"}})
    assert(db:append {{k = false}, {k = 0}})
    catch_up(db.spending, copy)
    assert(db:append {k = false})
    catch_up(db.spending, copy)
    assert.same({["false"] = {n = 2}, ["0"] = {n = 1}}, copy.entries)
    assert.equal(1, copy.resets)
  end)

  it("begin with the whole state from unknown positions, and from those of another log or view", function ()
    local function counting()
      local db = fixture.memory_db()
      db:use("count", flume.reduce(1, function (n) return n + 1 end, 0))
      assert(db:append {{n = 1}, {n = 2}})
      return db
    end
    local db, copy = counting(), new_copy()
    catch_up(db.count, copy)
    assert.same({"set", nil, 2, 1}, all_of(db.count, {after = copy.position})[1])
    local rest = copy.position:match "^%d+%.%d+(%..*)$"
    for _, place in ipairs {"99999999999999999999.0", "0.99999999999999999999", "-2.0", "2.0", "0.1"} do
      assert.same({"reset"}, all_of(db.count, {after = place .. rest})[1])
    end
    assert.same({"reset"}, all_of(counting().count, {after = copy.position})[1])
    db:use("tally", flume.reduce(1, function (n) return n + 1 end, 0))
    assert.same({"reset"}, all_of(db.tally, {after = copy.position})[1])
  end)

  it("refuse unknown options", function ()
    local db = fixture.memory_db()
    db:use("keys", flume.index(1, "k"))
    assert.error_matches(function () db.keys:deltas "live" end, "keys:deltas: a table of options expected")
    assert.error_matches(function () db.keys:deltas {live = 1} end, "option live must be true or false")
  end)

  it("are there of every built-in view, or it says why not", function ()
    local with = {
      aggregate = {group = "k", fields = {n = "count", most = {"max", "n"}}},
      bloom = {key = "n", expected = 100},
      index = {key = "mentions", each = true, value = "n"},
      keyvalue = {key = "k"},
      links = {source = "k", targets = {mentions = "mentions"}},
      reduce = {reducer = "acc + item.n", initial = 0},
      search = {fields = "text"},
    }
    local without = {query = "a view of queries has no state to copy"}
    local db, seen = fixture.open_db(views.dir, {sync = "os"}), 0
    for file in lfs.dir "views" do
      local name = file:match "^(.*)%.lua$"
      if name then
        seen = seen + 1
        assert.is_truthy(with[name] or without[name], name)
        db:use(name, name, {params = with[name]})
      end
    end
    assert.equal(8, seen)
    local function append(n)
      assert(db:append {k = n % 7, n = n, mentions = {"a" .. n % 3, "b" .. n % 5}, text = "word" .. n % 11 .. " more"})
    end
    local copies = {}
    for n = 1, 40 do append(n) end
    for name in pairs(with) do
      copies[name] = new_copy()
      catch_up(db[name], copies[name])
    end
    for n = 41, 60 do append(n) end
    assert(db:del {3, 17, 45})
    for name in pairs(with) do
      local fresh = new_copy()
      catch_up(db[name], fresh)
      catch_up(db[name], copies[name])
      assert.equal(1, copies[name].resets, name)
      assert.same(fresh.entries, copies[name].entries, name)
      assert.is_truthy(next(fresh.entries), name)
    end
    for name, why in pairs(without) do
      assert.error_matches(function () db[name]:deltas() end, name .. ":deltas: " .. why)
    end
  end)

  it("are not there of a view that keeps itself", function ()
    local db = fixture.memory_db()
    db:use("raw", {create = function ()
      local since = flume.observable(-1)
      return {
        since = since, methods = {}, close = function (done) done() end, destroy = function (done) done() end,
        create_sink = function () return function (_, seq) since:set(seq) end end,
      }
    end})
    assert.error_matches(function () db.raw:deltas {live = true} end, "raw:deltas: it keeps itself")
  end)

  -- The copy, when it is all there; meanwhile() is called at each delta. How many were at hand at once, at most.
  local function watch(stream, is_index, meanwhile)
    local copy, most = new_copy(), 0
    local function note(...)
      local count = 0
      for _ in pairs(stream.items) do count = count + 1 end
      most = math.max(most, count)
      if meanwhile then meanwhile() end
      apply(copy, is_index, ...)
    end
    for op, key, value, seq in stream do
      note(op, key, value, seq)
      if op == "at" then break end
    end
    return copy, most
  end

  it("hold little in memory, and end while records are appended", function ()
    local few, many = deltas.limits.page, 20000
    for _, name in ipairs {"groups", "spending", "index", "path"} do views:write(name, 1) end
    local db = views:open()
    local batch = {}
    for i = 1, many do batch[i] = {k = i, n = 1} end
    assert(db:append(batch))
    for _, name in ipairs {"groups", "spending", "index", "path"} do
      local is_index, came = db[name]._kind == "index", 0
      local copy, most = watch(db[name]:deltas(), is_index, function ()
        came = came + 1
        if came % 20 == 0 then db:append({k = came % 100, n = 1}, function () end) end
        if came % 50 == 0 then flume.step(0) end
      end)
      assert.is_true(most <= few + 1, name)
      assert.is_true(came > many, name)
      assert(db:append {k = 1, n = 1}) -- the others are there, too
      catch_up(db[name], copy)
      assert.same(entries_of(db[name]), without_values(copy.entries, db[name]._kind), name)
      assert.equal(1, copy.resets)
    end
    for _, name in ipairs {"groups", "spending", "index", "path"} do
      local is_index = db[name]._kind == "index"
      local _, most = watch(db[name]:deltas {after = 10}, is_index)
      assert.is_true(most <= deltas.limits.at_hand + deltas.limits.records, name)
    end
  end)

  it("fit into the little memory that a view may have", function ()
    views:write("groups", 1)
    local db = fixture.memory_db()
    db:use("groups", views.folder .. "/groups.lua", {memory = 600000})
    for _ = 1, 5 do fill(db, 1000) end
    local copy = new_copy()
    for op, key, value, seq in db.groups:deltas {after = 0} do apply(copy, false, op, key, value, seq) end
    assert.same(entries_of(db.groups), copy.entries)
  end)

  it("tell each group once, of a view that stays where it is", function ()
    views:write("groups", 1)
    local db = views:open()
    for _ = 1, 20 do fill(db, 1000) end
    local count = 0
    for op in db.groups:deltas {after = 0} do count = count + (op == "set" and 1 or 0) end
    assert.equal(5, count)
  end)

  it("give a slow consumer the newest state of a reducer, and not each state", function ()
    views:write("sum", 1)
    local db = views:open()
    local stream, states = db.sum:deltas {live = true}, {}
    assert.equal("reset", stream:next())
    for n = 1, 1000 do db:append({k = 1, n = n}, function () end) end
    repeat
      local op, _, state, seq = stream:next()
      if op == "set" then states[#states + 1] = state end
      assert(db.sum:ready())
    until op == "at" and seq == 999
    assert.is_true(#states <= 3)
    assert.equal(500500, states[#states])
    stream:close()
  end)

  it("tell of a record that is passed over", function ()
    local db = fixture.memory_db()
    db:use("groups", {version = 1, group = "k", initial = 0, reducer = function (n, item) return n + item.n end})
    assert(db:append {{k = 1, n = 5}, {k = 2, n = 7}})
    local copy = follow(db.groups)
    fixture.run_until(function () return copy.seq == 1 end)
    assert(db.groups:skip(0))
    fixture.run_until(function () return copy.position and next(copy.entries) and not copy.entries["1"] end)
    assert.same({["2"] = 7}, copy.entries)
    copy.stream:close()
  end)

  it("do not ask for the group of a record that is passed over", function ()
    local db = fixture.memory_db()
    db:use("groups", {
      version = 1, group = function (item) return item.k or error "no k" end, initial = 0,
      reducer = function (n, item) return n + item.n end,
    })
    assert(db:append {{k = 1, n = 5}, {n = 1}, {k = 1, n = 7}})
    assert.is_nil(db.groups:get(1))
    assert(db.groups:skip(1))
    local copy = new_copy()
    catch_up(db.groups, copy)
    assert.same({["1"] = 12}, copy.entries)
    assert.same({{"set", 1, 12, 2}, {"at", nil, nil, 2}}, all_of(db.groups, {after = 0}))
  end)

  it("go by what a mapper or a codec makes of records, and by the seqs of an offset log", function ()
    local function mapper(item) return {k = item.key, n = item.n * 2} end
    local definitions = {
      groups = {version = 1, group = "k", initial = 0, reducer = function (n, item) return n + item.n end},
      counts = {version = 1, group = "k", aggregate = {sum = {"sum", "n"}}},
      index = {version = 1, indexer = function (item, _, emit) emit(item.k, item.n) end},
    }
    for _, db in ipairs {
      fixture.keep(assert(flume.new(flume.log.memory {codec = "json"}, {mapper = mapper}))),
      fixture.keep(assert(flume.new(flume.log.memory(), {mapper = mapper}))),
      fixture.open_db(views.dir .. ".log", {log = "offset", mapper = mapper}),
    } do
      local copies = {}
      for name, definition in pairs(definitions) do
        db:use(name, definition)
        copies[name] = new_copy()
      end
      for _ = 1, 3 do
        assert(db:append {{key = 1, n = 5}, {key = 2, n = 7}})
        assert(db:append {key = 1, n = 1})
        for name, copy in pairs(copies) do
          catch_up(db[name], copy)
          assert.same(entries_of(db[name]), without_values(copy.entries, db[name]._kind))
        end
      end
      assert.same({["1"] = 36, ["2"] = 42}, copies.groups.entries)
      assert.same({["1"] = {sum = 36}, ["2"] = {sum = 42}}, copies.counts.entries)
      assert.equal(1, copies.groups.resets)
    end
  end)

  it("leave math.random alone, and don't depend on it", function ()
    local definition = {group = "k", initial = 0, reducer = function (n, item) return n + item.n end}
    local positions = {}
    for i = 1, 2 do
      local db = fixture.memory_db()
      db:use("groups", definition) -- neither a version nor a source
      assert(db:append {k = 1, n = 5})
      math.randomseed(7)
      local copy = new_copy()
      catch_up(db.groups, copy)
      local drawn = math.random(0)
      math.randomseed(7)
      assert.equal(math.random(0), drawn)
      positions[i] = copy.position:match "[^.]*$"
      assert.same({{"at", nil, nil, 0}}, all_of(db.groups, {after = copy.position}))
    end
    assert.equal(32, #positions[1])
    assert.not_equal(positions[1], positions[2])
    assert.not_equal(core.random_bytes(16), core.random_bytes(16))
  end)

  it("refuse unknown options", function ()
    views:write("sum", 1)
    views:write("total", 1)
    local db = views:open()
    assert.error_matches(function () db.sum:deltas {reverse = true} end, 'unknown option "reverse"')
    assert.error_matches(function () db.sum:deltas {after = {}} end, "must be a position")
    assert.error_matches(function () db.sum:deltas {gt = 1} end, "a reducer has no keys")
    assert.error_matches(function () db.total:deltas {gt = 1} end, "an aggregate without groups has no keys")
  end)
end)
