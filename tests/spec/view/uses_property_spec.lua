-- Whatever happens to them, what a view sees of each kind of view at record n is a fold of the log up to n.
--
-- The view "noted" has a group for each record: what it saw there. An oracle in plain Lua says what that must be.

local scripts = require "tests.support.scripts"
local fixture = require "tests.support.fixture"
local seeds = require "tests.support.seeds"

local SEED = seeds.take()
local SANITIZED = os.getenv "FLUME_SANITIZER" ~= nil
local STEPS = SANITIZED and 15 or 40
local KEYS = {1, 2, "a", "b", "abc"}

local SOURCES = {
  paths = [[return {version = V, indexer = "k"}]],
  pairs = [[return {version = V, indexer = {"k", "n"}}]],
  entries = [[return {version = V, indexer = function (item, seq, emit)
      emit({item.k, item.n}, item.n * V)
      emit({"x", item.n})
      if item.n % 3 == 0 then emit({"x", item.n}, seq) end
    end,
    methods = {of = "source", times = "async", newest = "record"},
    of = function (view, k) return view:range {prefix = {k}, reverse = true, limit = 3} end,
    times = function (view, n) return view:count {gte = {"x", n}, lte = {"x", n}} end,
    newest = function (view, n) return select(3, view:range {prefix = {"x", n}, reverse = true}()) end}]],
  sums = [[return {version = V, group = "k", initial = 0, reducer = function (sum, item)
    sum = sum + item.n * V
    return sum % 7 ~= 0 and sum or nil
  end}]],
  made = [[return {version = V, group = "k",
    aggregate = {records = "count", total = {"sum", "n"}, most = {"max", "n"}}}]],
  list = [[return {version = V, initial = {}, reducer = function (list, item)
      list[#list % 5 + 1] = item.n * V
      return list
    end,
    methods = {each = "source", last = "sync"},
    each = function (view) return ipairs(view:get()) end,
    last = function (view) return view:get()[#view:get()] end}]],
  through = [[return {version = V, uses = {"sums", "paths"}, indexer = function (item, seq, emit, uses)
    emit(uses.paths:count {gte = item.k, lte = item.k}, {uses.sums:get(item.k), V})
  end}]],
  noted = [[
    local function all(iterator)
      local found = {}
      for a, b, c in iterator do
        found[#found + 1] = {a == require "flume".null and "nil" or a, b == nil and "nil" or b, c}
      end
      return found
    end
    return {version = V, uses = {"paths", "pairs", "entries", "sums", "made", "list", "through", "accounts"},
      group = function (_, seq) return seq end,
      reducer = function (_, item, seq, uses)
        local k, n = item.k, item.n
        local made = uses.made:get(k) or {}
        return {
          {uses.paths:count(), uses.paths:count {gte = k, lte = k}, uses.paths:count {lt = k},
            select(2, uses.paths:get(k))},
          all(uses.paths:read {gt = k, limit = 2}),
          all(uses.paths:read {lte = k, reverse = true, limit = 20, keys = false}),
          all(uses.pairs:read {prefix = {k}, reverse = true}), uses.pairs:count {gte = {k, n}},
          all(uses.entries:of(k)), uses.entries:times(n), {select(2, uses.entries:newest(n))},
          {uses.sums:get(k), uses.sums:count(), uses.sums:count {gte = k}}, all(uses.sums:read {}),
          {made.records or 0, made.total or 0, made.most or 0, uses.made:count()},
          all(uses.made:read {lt = k, values = false}),
          uses.list:get(), all(uses.list:each()), {uses.list:last()},
          {uses.through:count {gt = 1}, uses.through:get(1)}, all(uses.through:read {reverse = true, limit = 3}),
          {uses.accounts:has(k), uses.accounts:count {}, select(2, uses.accounts:get(k))},
          all(uses.accounts:read {limit = 3}),
        }
      end,
      methods = {now = "async"}, now = function (view, k)
        return {view.used.paths:count {gte = k, lte = k}, view.used.sums:get(k), all(view.used.sums:read {})}
      end}]],
}

local USED = {"paths", "pairs", "entries", "sums", "made", "list", "through", "accounts"}

-- --- The oracle ----------------------------------------------------------------------------------------------------

-- Strings come before arrays, and these before numbers.
local RANKS = {string = 1, table = 2, number = 3}

local function compare(a, b)
  if type(a) ~= type(b) then return RANKS[type(a)] - RANKS[type(b)] end
  if type(a) ~= "table" then return a == b and 0 or a < b and -1 or 1 end
  for i = 1, math.max(#a, #b) do
    if a[i] == nil then return -1 end
    if b[i] == nil then return 1 end
    local order = compare(a[i], b[i])
    if order ~= 0 then return order end
  end
  return 0
end

-- Entries {key, seq, value} in the order of an index.
local Index = {}
Index.__index = Index

function Index:add(key, seq, value)
  local at = #self + 1
  while at > 1 and compare(self[at - 1][1], key) > 0 do at = at - 1 end
  table.insert(self, at, {key, seq, value})
end

function Index:read(range, show)
  local found = {}
  for _, entry in ipairs(self) do
    local key = entry[1]
    if (range.gt == nil or compare(key, range.gt) > 0) and (range.gte == nil or compare(key, range.gte) >= 0)
      and (range.lt == nil or compare(key, range.lt) < 0) and (range.lte == nil or compare(key, range.lte) <= 0)
      and (range.first == nil or type(key) == "table" and compare(key[1], range.first) == 0) then
      found[#found + 1] = entry
    end
  end
  local shown = {}
  for i = 1, math.min(#found, range.limit or math.huge) do
    shown[i] = show(table.unpack(found[range.reverse and #found + 1 - i or i], 1, 3))
  end
  return shown
end

function Index:count(range) return #self:read(range, function () return true end) end

function Index:newest(key)
  local range = {gte = key, lte = key, reverse = true, limit = 1}
  return self:read(range, function (_, seq, value) return {seq, value} end)[1] or {}
end

local function new_index() return setmetatable({}, Index) end
local function shown(key, seq, value) return {key, value == nil and "nil" or value, seq} end
local function shown_group(key, _, value) return {key, value} end
local function without_key(_, seq) return {"nil", seq} end
local function key_alone(key) return {key, "nil"} end

-- A group's state, as an entry without a seq.
local function set_group(index, key, state)
  for i, entry in ipairs(index) do
    if compare(entry[1], key) == 0 then table.remove(index, i) end
  end
  if state ~= nil then index:add(key, nil, state) end
end

local function get_group(index, key)
  for _, entry in ipairs(index) do
    if compare(entry[1], key) == 0 then return entry[3] end
  end
end

local FOLDS = {
  paths = function (state, record) state.paths:add(record.k, record.seq) end,
  accounts = function (state, record) state.accounts:add(record.k, record.seq) end,
  pairs = function (state, record) state.pairs:add({record.k, record.n}, record.seq) end,
  entries = function (state, record, V)
    state.entries:add({record.k, record.n}, record.seq, record.n * V)
    state.entries:add({"x", record.n}, record.seq)
    if record.n % 3 == 0 then state.entries:add({"x", record.n}, record.seq, record.seq) end
  end,
  sums = function (state, record, V)
    local sum = (get_group(state.sums, record.k) or 0) + record.n * V
    set_group(state.sums, record.k, sum % 7 ~= 0 and sum or nil)
  end,
  made = function (state, record)
    local made = get_group(state.made, record.k) or {records = 0, total = 0, most = 0}
    set_group(state.made, record.k, {
      records = made.records + 1, total = made.total + record.n, most = math.max(made.most, record.n),
    })
  end,
  list = function (state, record, V) state.list[#state.list % 5 + 1] = record.n * V end,
  through = function (state, record, V)
    local times = state.paths:count {gte = record.k, lte = record.k}
    state.through:add(times, record.seq, {get_group(state.sums, record.k) or 0, V})
  end,
}

-- One record a key, as keyvalue keeps it.
local function kept(accounts, limit)
  local list, last = {}, nil
  for _, entry in ipairs(accounts) do
    if last and compare(last[1], entry[1]) == 0 then list[#list] = nil end
    list[#list + 1], last = {entry[1], "nil", entry[2]}, entry
  end
  return table.move(list, 1, math.min(#list, limit or math.huge), 1, {}), #list
end

local function each_of(list)
  local found = {}
  for i, value in ipairs(list) do found[i] = {i, value} end
  return found
end

local function note(state, record)
  local k, n = record.k, record.n
  local made = get_group(state.made, k) or {}
  local _, accounts = kept(state.accounts)
  local of_key = state.accounts:newest(k)[1]
  return {
    {state.paths:count {}, state.paths:count {gte = k, lte = k}, state.paths:count {lt = k}, state.paths:newest(k)[1]},
    state.paths:read({gt = k, limit = 2}, shown),
    state.paths:read({lte = k, reverse = true, limit = 20}, without_key),
    state.pairs:read({first = k, reverse = true}, shown), state.pairs:count {gte = {k, n}},
    state.entries:read({first = k, reverse = true, limit = 3}, shown),
    state.entries:count {gte = {"x", n}, lte = {"x", n}}, {state.entries:newest({"x", n})[1]},
    {get_group(state.sums, k) or 0, #state.sums, state.sums:count {gte = k}}, state.sums:read({}, shown_group),
    {made.records or 0, made.total or 0, made.most or 0, #state.made}, state.made:read({lt = k}, key_alone),
    table.move(state.list, 1, #state.list, 1, {}), each_of(state.list), {state.list[#state.list]},
    {state.through:count {gt = 1}, state.through:newest(1)[2], state.through:newest(1)[1]},
    state.through:read({reverse = true, limit = 3}, shown),
    {of_key ~= nil, accounts, of_key}, (kept(state.accounts, 3)),
  }
end

-- By seq what is to be noted, from the records that there are, the versions, and what each view skips.
local function expect(records, versions, skips)
  local state = {list = {}}
  for _, name in ipairs(USED) do state[name] = state[name] or new_index() end
  local noted = {}
  for _, record in ipairs(records) do
    for _, name in ipairs(USED) do
      if not skips[name][record.seq] then FOLDS[name](state, record, versions[name]) end
    end
    if not skips.noted[record.seq] then noted[record.seq] = note(state, record) end
  end
  return noted, state
end

-- --- The test ------------------------------------------------------------------------------------------------------

-- Appends for ever, in a process of its own.
local WRITER = [[
  local flume = require "flume"
  local dir, folder = ...
  io.stdout:setvbuf "line"
  local db = assert(flume.open(dir, {views = folder}))
  db:use("accounts", "keyvalue", {params = {key = "k"}})
  while true do
    local batch, keys = {}, {1, 2, "a", "b", "abc"}
    for i = 1, math.random(3) do batch[i] = {k = keys[math.random(5)], n = math.random(0, 9)} end
    print(assert(db:append(batch)))
    if math.random(3) == 1 then db.noted:now(1) end
  end
]]

describe("what a view sees of others", function ()
  local views, db, records, skips

  before_each(function ()
    views, records, skips = scripts.new(SOURCES), {}, {noted = {}}
    for _, name in ipairs(USED) do skips[name] = {} end
    math.randomseed(SEED)
    views:write_all()
  end)
  after_each(fixture.clean)

  local function open()
    db = views:open()
    db:use("accounts", "keyvalue", {params = {key = "k"}})
  end

  local function append()
    local batch = {}
    for i = 1, math.random(8) do batch[i] = {k = KEYS[math.random(#KEYS)], n = math.random(0, 9)} end
    local last = assert(db:append(batch))
    for i, item in ipairs(batch) do records[#records + 1] = {k = item.k, n = item.n, seq = last - #batch + i} end
  end

  local function skip()
    local record = records[1] and records[math.random(#records)]
    local name = ({"noted", table.unpack(USED)})[math.random(#USED + 1)]
    if not record or skips[name][record.seq] then return end
    skips[name][record.seq] = true
    assert(db[name]:skip(record.seq))
  end

  local function change()
    local name = USED[math.random(#USED - 1)]
    views:write(name, views.versions[name] % 3 + 1)
    assert(db:reload(math.random(2) == 1 and name or nil))
  end

  local function kill()
    db:close()
    scripts.kill_after(math.random(10), WRITER, views.dir, views.folder)
    open()
    records = {}
    for seq, item in db:stream {} do records[#records + 1] = {k = item.k, n = item.n, seq = seq} end
  end

  local function reopen()
    db:close()
    open()
  end

  local function check(where)
    local wanted, state = expect(records, views.versions, skips)
    local found = {}
    for seq, noted in db.noted:read {} do found[seq] = noted end
    for seq, noted in pairs(wanted) do assert.same(noted, found[seq], ("%s, record %d"):format(where, seq)) end
    for seq in pairs(found) do assert.is_not_nil(wanted[seq], ("%s, record %d"):format(where, seq)) end
    local times, sum = state.paths:count {gte = "a", lte = "a"}, get_group(state.sums, "a") or 0
    assert.same({times, sum, state.sums:read({}, shown_group)}, db.noted:now "a", where)
  end

  it("is their state at each record", function ()
    local operations = {
      append, append, append, append, reopen, change, skip, kill,
      function () if records[1] then assert(db:del(table.remove(records, math.random(#records)).seq)) end end,
      function () assert(db.noted:rebuild()) end,
      function () assert(db[USED[math.random(#USED)]]:rebuild()) end,
    }
    open()
    for step = 1, STEPS do
      operations[math.random(#operations)]()
      check(("step %d"):format(step))
    end
  end)
end)
