-- Deltas of views that all sorts of things happen to: at each "at", a copy is what the view is at that seq, by a fold
-- of the records that is made here. Pages are small, so that there are many places for things to happen between them.
--
-- FLUME_DELTAS_STEPS makes the run longer.

local deltas = require "flume.view.deltas"
local flume = require "flume"
local fixture = require "tests.support.fixture"
local seeds = require "tests.support.seeds"

local SEED = seeds.take()
local STEPS = math.tointeger(tonumber(os.getenv "FLUME_DELTAS_STEPS" or "150"))

-- --- The views, and what they are ----------------------------------------------------------------------------------

-- Groups by a key of the records {seq =, k =, n =}: key -> list.
local function grouped(records, key_of)
  local groups = {}
  for _, record in ipairs(records) do
    local id = key_of(record)
    groups[id] = groups[id] or {}
    table.insert(groups[id], record)
  end
  return groups
end

local function summed(records, factor)
  local sum = 0
  for _, record in ipairs(records) do sum = sum + record.n * factor end
  return sum
end

local function aggregated(records)
  local state = {count = 0, sum = 0, kinds = 0, low = math.huge, high = -math.huge}
  local seen = {}
  for _, record in ipairs(records) do
    state.count, state.sum = state.count + 1, state.sum + record.n
    state.low, state.high = math.min(state.low, record.n), math.max(state.high, record.n)
    if not seen[record.n] then state.kinds = state.kinds + 1 end
    seen[record.n] = true
  end
  return state
end

local function each_group(key_of, state_of)
  return function (records, factor)
    local states = {}
    for id, group in pairs(grouped(records, key_of)) do states[id] = state_of(group, factor) end
    return states
  end
end

local function by_k(record) return tostring(record.k) end
local function by_both(record) return record.k .. "/" .. record.n % 2 end

-- A script with V for its version; or, of a view in the caller's state, a definition. fold(records, factor, unused)
-- gives what a copy is: states by the ids of their keys, or of an index entries by seq and id. factor is the version,
-- or that of the view which it uses; unused is a set of the records that the latter passes over. range: of another
-- copy; is_in(id): what is in that
local VIEWS = {
  sum = {
    source = [[return {version = V, initial = 0, reducer = function (n, item) return n + item.n * V end}]],
    fold = function (records, factor) return {["nil"] = summed(records, factor)} end,
  },
  groups = {
    source = [[return {version = V, group = "k", initial = {n = 0, count = 0},
      reducer = function (s, item) return {n = s.n + item.n * V, count = s.count + 1} end,
      retract = function (s, item)
        if s.count > 1 then return {n = s.n - item.n * V, count = s.count - 1} end
      end}]],
    fold = each_group(by_k, function (group, factor) return {n = summed(group, factor), count = #group} end),
    range = {gte = 3}, is_in = function (id) return tonumber(id) >= 3 end,
  },
  anew = {
    source = [[return {version = V, group = function (item) return {item.k, item.n % 2} end, initial = 0,
      reducer = function (n, item) return n + item.n * V end}]],
    fold = each_group(by_both, summed),
    range = {prefix = {2}}, is_in = function (id) return id:sub(1, 2) == "2/" end,
  },
  index = {
    source = [[return {version = V, indexer = function (item, seq, emit)
      emit(item.k, item.n * V)
      if item.n % 3 == 0 then emit({"three", item.n}) end
    end}]],
    fold = function (records, factor)
      local entries = {}
      for _, record in ipairs(records) do
        entries[record.seq] = {[by_k(record)] = record.n * factor}
        if record.n % 3 == 0 then entries[record.seq]["three/" .. record.n] = "none" end
      end
      return entries
    end,
    range = {prefix = {"three"}}, is_in = function (id) return id:find "^three/" end,
  },
  path = {
    source = [[return {version = V, indexer = "k"}]],
    fold = function (records)
      local entries = {}
      for _, record in ipairs(records) do entries[record.seq] = {[by_k(record)] = "none"} end
      return entries
    end,
    range = {lt = 3}, is_in = function (id) return tonumber(id) < 3 end,
  },
  aggregate = {
    source = [[return {version = V, group = {"k"}, aggregate = {count = "count", sum = {"sum", "n"}, low = {"min", "n"},
      high = {"max", "n"}, kinds = {"distinct", "n"}}}]],
    fold = each_group(by_k, aggregated),
    range = {gt = {1}, lte = {4}}, is_in = function (id) return id > "1" and id <= "4" end,
  },
  counts = { -- takes deleted records back
    source = [[return {version = V, group = "k", aggregate = {count = "count", sum = {"sum", "n"}}}]],
    fold = each_group(by_k, function (group) return {count = #group, sum = summed(group, 1)} end),
    range = {lte = 2}, is_in = function (id) return tonumber(id) <= 2 end,
  },
  whole = {
    source = [[return {version = V, aggregate = {count = "count", sum = {"sum", "n"}, low = {"min", "n"},
      high = {"max", "n"}, kinds = {"distinct", "n"}}}]],
    fold = function (records) return {["nil"] = #records > 0 and aggregated(records) or nil} end,
  },
  user = { -- uses another: what it is at a record depends on all before
    source = [[return {version = V, uses = {"sum"}, indexer = function (item, seq, emit, uses)
      emit(item.k, uses.sum:get())
    end}]],
    uses = "sum",
    fold = function (records, factor, unused)
      local entries, sum = {}, 0
      for _, record in ipairs(records) do
        if not unused[record.seq] then sum = sum + record.n * factor end
        entries[record.seq] = {[by_k(record)] = sum}
      end
      return entries
    end,
    range = {gt = 4}, is_in = function (id) return tonumber(id) > 4 end,
  },
  here = {
    definition = {
      version = 1, group = "k", initial = 0, reducer = function (n, item) return n + item.n end,
    },
    fold = each_group(by_k, summed),
    range = {lt = 4}, is_in = function (id) return tonumber(id) < 4 end,
  },
  index_here = {
    definition = {version = 1, indexer = function (item, _, emit) emit(item.k, item.n) end},
    fold = function (records)
      local entries = {}
      for _, record in ipairs(records) do entries[record.seq] = {[by_k(record)] = record.n} end
      return entries
    end,
    range = {gte = 2, lt = 5}, is_in = function (id) return id >= "2" and id < "5" end,
  },
}

local names = {}
for name in pairs(VIEWS) do names[#names + 1] = name end
table.sort(names)

-- --- Copies --------------------------------------------------------------------------------------------------------

local function id_of(key)
  if type(key) ~= "table" then return tostring(key) end
  return table.concat(table.move(key, 1, #key, 1, {}), "/")
end

local function clone(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, inner in pairs(value) do copy[key] = clone(inner) end
  return copy
end

-- As assert.same, which is slow.
local function is_equal(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, inner in pairs(a) do
    if not is_equal(inner, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

local Copy = {}
Copy.__index = Copy

local function new_copy(run, name, live, range)
  return setmetatable({
    run = run, name = name, live = live, range = range,
    entries = {},
    kept = {},       -- at position
    position = nil,
    seq = nil,
    stream = nil,
    wanted = 0,      -- how many deltas it may take
    taking = false,
    over = true,     -- the stream has ended
  }, Copy)
end

function Copy:open()
  local options = {live = self.live, after = self.position}
  for bound, key in pairs(self.range or {}) do options[bound] = key end
  self.entries, self.over = clone(self.kept), false
  self.stream = self.run.db[self.name]:deltas(options)
end

function Copy:abandon()
  if self.stream then self.stream:close() end
  self.over = true
end

function Copy:apply(op, key, value, seq)
  local entries = self.entries
  if op == "reset" then
    self.entries = {}
  elseif op == "at" then
    self.position, self.seq, self.kept = key, seq, clone(entries)
    self.run:check(self)
  elseif self.run.db[self.name]._kind ~= "index" then
    entries[id_of(key)] = op == "set" and value or nil
  elseif op == "remove" then
    entries[seq] = nil
  else
    entries[seq] = entries[seq] or {}
    entries[seq][id_of(key)] = value == nil and "none" or value
  end
end

function Copy:take()
  if self.taking or self.over or self.wanted <= 0 then return end
  self.taking = true
  self.stream:next(function (err, op, ...)
    self.taking = false
    if err and err.code ~= "ECLOSED" then error(("%s: %s, %s"):format(self.name, err, self.run.where)) end
    if err or op == nil then
      self.over = true
      return
    end
    self.wanted = self.wanted - 1
    self:apply(op, ...)
    self:take()
  end)
end

-- --- A run ---------------------------------------------------------------------------------------------------------

local Run = {}
Run.__index = Run

local function new_run()
  local self = setmetatable({
    dir = fixture.dir() .. "/db", folder = fixture.dir(), versions = {}, copies = {}, where = "",
    records = {}, next_seq = 0,
    stamps = {},  -- versions of user -> what they multiply with, and the records that sum passes over
    checked = {}, -- name -> how many copies were compared
  }, Run)
  for _, name in ipairs(names) do
    if VIEWS[name].source then self:write(name, 1) end
    local range = VIEWS[name].range
    self.copies[#self.copies + 1] = new_copy(self, name, true, nil)
    self.copies[#self.copies + 1] = new_copy(self, name, false, nil)
    if range then self.copies[#self.copies + 1] = new_copy(self, name, math.random(2) == 1, range) end
  end
  self:open()
  return self
end

function Run:write(name, version)
  self.versions[name] = version
  fixture.write(("%s/%s.lua"):format(self.folder, name),
    (VIEWS[name].source:gsub("%f[%w]V%f[%W]", tostring(version))))
end

function Run:open()
  self.db = fixture.open_db(self.dir, {views = self.folder, sync = "os"})
  for _, name in ipairs(names) do
    if VIEWS[name].definition then self.db:use(name, VIEWS[name].definition) end
  end
end

-- What a position says of the copy: up to which seq, how many deletions, a set of skips, and which version; that is nil
-- for a state that has a record in it which is being taken out.
local function read_position(position)
  local seq, deletions, skips, version = position:match "^(%-?%d+)%.(%d+)%.%x+%.([%d,]*)%.(.*)$"
  local skipped = {}
  for skip in skips:gmatch "%d+" do skipped[math.tointeger(tonumber(skip))] = true end
  return math.tointeger(seq), math.tointeger(deletions), skipped, not version:find(("%x"):rep(32)) and version or nil
end

-- What the version multiplies with, nil where that is not known; and which records are not in what it uses.
function Run:factor_of(name, version)
  if not VIEWS[name].uses then return math.tointeger(tonumber(version)), {} end
  local stamp = self.stamps[version] or {}
  return stamp.factor, stamp.unused
end

-- A set of the records that the view passes over.
local function skips_of(view)
  local skips = {}
  for _, seq in ipairs(view:_overridden().skips) do skips[seq] = true end
  return skips
end

-- Of what a copy is, only what is in its range.
local function confine(wanted, view, is_index)
  for key, value in pairs(wanted) do
    if is_index then
      for id in pairs(value) do
        if not view.is_in(id) then value[id] = nil end
      end
      if next(value) == nil then wanted[key] = nil end
    elseif not view.is_in(key) then
      wanted[key] = nil
    end
  end
end

-- The copy has come to an "at".
function Run:check(copy)
  local view, log = VIEWS[copy.name], self.db.log.core
  local seq, deletions, gone, version = read_position(copy.position)
  local where = ("%s at %s, %s"):format(copy.name, copy.position, self.where)
  local factor, unused
  if version then factor, unused = self:factor_of(copy.name, version) end
  assert.equal(copy.seq, seq, where)
  if not factor or self.db.closing then return end
  for number = 0, deletions - 1 do gone[log:deletion_at(number)] = true end
  local records = {}
  for at = 0, seq do
    if not gone[at] then records[#records + 1] = self.records[at] end
  end
  local wanted = view.fold(records, factor, unused)
  if copy.range then confine(wanted, view, self.db[copy.name]._kind == "index") end
  if not is_equal(wanted, copy.kept) then assert.same(wanted, copy.kept, where) end
  self.checked[copy.name] = (self.checked[copy.name] or 0) + 1
end

local function ignore() end

local OPERATIONS = {
  function (run) run:append(math.random(20)) end,
  function (run) run:append(1) end,
  function (run)
    for _ = 1, 5 do run:append(1) end
  end,
  function (run)
    for _ = 1, math.random(3) do
      if run.db.since:get() >= 0 then run.db:del(math.random(0, run.db.since:get()), ignore) end
    end
  end,
  function (run) if math.random(5) == 1 then run.db:compact(ignore) end end,
  function (run)
    if math.random(3) > 1 then return end
    for _, name in ipairs(names) do
      if VIEWS[name].source and math.random(4) == 1 then run:write(name, 3 - run.versions[name]) end
    end
    run.db:reload(ignore)
  end,
  function (run) if math.random(3) == 1 then run.db[names[math.random(#names)]]:rebuild(ignore) end end,
  function (run)
    local name = names[math.random(#names)]
    if VIEWS[name].uses or run.db.since:get() < 0 or math.random(4) > 1 then return end
    run.db[name]:skip(math.random(0, run.db.since:get() + 2), ignore)
  end,
  function (run)
    if math.random(5) > 1 then return end
    run.db:close()
    run:open()
    for _, copy in ipairs(run.copies) do copy.over = true end
  end,
  function (run) run.copies[math.random(#run.copies)]:abandon() end,
}

function Run:append(count)
  local batch = {}
  for i = 1, count do
    batch[i] = {k = math.random(5), n = math.random(9)}
    self.records[self.next_seq] = {seq = self.next_seq, k = batch[i].k, n = batch[i].n}
    self.next_seq = self.next_seq + 1
  end
  self.db:append(batch, ignore)
end

local function let_take(copy, most)
  if copy.over and not copy.taking then copy:open() end
  copy.wanted = most
  copy:take()
end

-- All that is under way comes to its end, and each copy to where its view is.
function Run:settle()
  assert(self.db:reload())
  for _, name in ipairs(names) do assert(self.db[name]:ready()) end
  self.stamps[self.db.user._instance.version_text] = {factor = self.versions.sum, unused = skips_of(self.db.sum)}
  local function is_there(copy)
    if not copy.position then return false end
    local seq, deletions, _, version = read_position(copy.position)
    return seq == self.db.since:get() and deletions == self.db.log.core:deletion_count()
      and version == self.db[copy.name]._instance.version_text
  end
  fixture.run_until(function ()
    local are_there = true
    for _, copy in ipairs(self.copies) do
      if not is_there(copy) then
        let_take(copy, math.maxinteger)
        are_there = false
      end
    end
    return are_there
  end)
  for _, copy in ipairs(self.copies) do self:check(copy) end
end

describe("deltas under random operations", function ()
  local usual = {}

  before_each(function ()
    for name, limit in pairs(deltas.limits) do usual[name] = limit end
    deltas.limits.page, deltas.limits.records, deltas.limits.deleted, deltas.limits.at_hand = 3, 4, 2, 5
    math.randomseed(SEED)
  end)
  after_each(function ()
    for name, limit in pairs(usual) do deltas.limits[name] = limit end
    fixture.clean()
  end)

  it("keep copies equal to the view at each position", function ()
    local run = new_run()
    for step = 1, STEPS do
      run.where = ("step %d"):format(step)
      OPERATIONS[math.random(#OPERATIONS)](run)
      for _, copy in ipairs(run.copies) do let_take(copy, math.random(0, 12)) end
      for _ = 1, math.random(0, 4) do flume.step(0) end
      if math.random(20) == 1 then run:settle() end
    end
    run:settle()
    for _, name in ipairs(names) do assert.is_true(run.checked[name] > STEPS // 20, name) end
  end)
end)
