-- One run of a query: delivers the records that meet the condition, as of the log's since when the run began.
--
--   run:start(done)         waits for the indexes; done(err)
--   run:pull() -> record, seq | nil | nil, error      the next one; nil at the end
--
-- The source of the records is the plan's set of candidates (plan.lua), in the order of the log; or a walk through an
-- index, in the order of a path; or the log itself. Conditions that no index answers are tested on lazy records.

local core = require "flume.core"
local errors = require "flume.errors"
local filter = require "flume.query.filter"
local Indexes = require "flume.query.indexes"
local plan = require "flume.query.plan"
local stream = require "flume.log.stream"
local values = require "flume.query.values"

local Run = {}
Run.__index = Run

local FIRST_PAGE, LAST_PAGE = 32, 4096 -- seqs that are read of a set at once, ever more
local AT_ONCE = 64                     -- records

-- --- Places ------------------------------------------------------------------------------------------------------
--
-- The end of a page as text: "seq 12"; or in the order of a path "key " and a position in the index, or "rest 12" among
-- the records without a key.

local function place_of(self, record, seq)
  if not self.path then return ("seq %d"):format(seq) end
  local key = values.sort_key(self.get_key(record))
  if key == "" then return ("rest %d"):format(seq) end
  local bytes = string.pack("<i8I4", seq, 0) .. key
  return "key " .. bytes:gsub(".", function (c) return ("%02x"):format(c:byte()) end)
end

local function parse_place(self, place)
  local kind, rest = place:match "^(%l+) (.*)$"
  local seq = (kind == "seq" or kind == "rest") and math.tointeger(tonumber(rest))
  if kind == "key" and self.path and #rest > 24 and not rest:find "[^%x]" then
    return kind, (rest:gsub("%x%x?", function (hex) return string.char(tonumber(hex, 16)) end))
  end
  if not seq or (kind == "seq") == (self.path ~= nil) then filter.invalid "page: it is no cursor of this query" end
  return kind, seq
end

-- --- Phases ------------------------------------------------------------------------------------------------------
--
-- A phase is a function that returns the next record and its seq, or nil; it raises failures as error objects.

local function fetch(self, seq)
  local record, message, code = self.log.core:record(seq)
  if record ~= nil then
    self.stats.examined = self.stats.examined + 1
    return record
  end
  if code == "EDELETED" or code == "ENOENT" then return nil end
  error(errors.new(message, code), 0)
end

-- Decodes some records of a list of seqs at once, when no condition is tested and whole records are wanted. Returns the
-- number of seqs; deleted records are missing in the list.
local function fetch_some(self, list, at, records)
  local count = math.min(#list - at + 1, AT_ONCE, self.left)
  local decoded, message, code = self.log.core:get_list(list, at, count, records)
  if not decoded then error(errors.new(message, code), 0) end
  self.stats.decoded = self.stats.decoded + decoded
  return count
end

-- Delivers the records of the lists of seqs that more() returns; an empty list is the end.
local function through_lists(self, more)
  local list, at, records, fetched = {}, 1, {}, 0
  return function ()
    while true do
      local seq = list[at]
      if not seq then
        list, at, fetched = more(), 1, 0
        seq = list[1]
        if not seq then return nil end
      end
      if at > fetched and self.is_plain and self.left > 0 then
        fetched = at - 1 + fetch_some(self, list, at, records)
      end
      local record
      if at <= fetched then
        record = records[at]
        records[at] = nil
        if record ~= nil then
          self.stats.examined, self.left = self.stats.examined + 1, self.left - 1
        end
      else
        record = fetch(self, seq)
      end
      at = at + 1
      if record ~= nil then return record, seq end
    end
  end
end

local function next_size(size)
  return math.min(size * 4, LAST_PAGE)
end

-- The records of a set; with after, those behind this seq.
local function through_set(self, set, after)
  local first, last, size = 0, self.last_seq, self.first_page
  if after and self.reverse then last = math.min(last, after - 1) elseif after then first = after + 1 end
  return through_lists(self, function ()
    local seqs = set:read(size, first, last, self.reverse)
    size = next_size(size)
    if seqs[1] and self.reverse then last = seqs[#seqs] - 1 elseif seqs[1] then first = seqs[#seqs] + 1 end
    return seqs
  end)
end

-- The records of a walk through an index; with resume, those behind this position.
local function through_index(self, order, set, resume)
  local range, size, ended = {reverse = self.reverse}, self.first_page, false
  for bound, value in pairs(order.range) do range[bound] = value end
  return through_lists(self, function ()
    if ended then return {} end
    local seqs
    seqs, resume = core.walk(order.by.view._core, range, set, size, self.last_seq, resume)
    size, ended = next_size(size), resume == nil
    return seqs
  end)
end

local function transformed(transform, record, seq)
  if not transform then return record end
  local ok, made = pcall(transform, record, seq)
  if not ok then error(errors.new(("record %d: %s"):format(seq, errors.text(made)), "EINVAL"), 0) end
  return made
end

-- All records of the log, as views see them.
local function through_log(self, after)
  local range = {lte = self.last_seq, reverse = self.reverse, lazy = true}
  if after and self.reverse then range.lt = after elseif after then range.gt = after end
  local opened, transform = stream.open(self.log, range, self.transform, self.db), self.transform
  self.stream = opened
  return function ()
    if opened.closed then return nil end
    local seq, record, code = opened.cursor:next()
    if not seq then
      if record then error(errors.new(record, code), 0) end
      return nil
    end
    self.stats.examined = self.stats.examined + 1
    return transformed(transform, record, seq), seq
  end
end

-- Sorts the records that meet the condition in memory, for an order without an index.
local function through_sorted(self, phase, kind, after)
  local list, at = nil, 0
  local function sort()
    list = {}
    for record, seq in phase do
      if not self.test or self.test(record) then
        local key = values.sort_key(self.get_key(record))
        list[#list + 1] = {key = key, seq = seq, record = record}
      end
    end
    table.sort(list, function (a, b)
      if self.reverse then a, b = b, a end
      if a.key ~= b.key then return core.is_below(a.key, b.key) end
      return a.seq < b.seq
    end)
  end
  local function is_behind(item)
    if not kind then return true end
    local key, seq = "", after
    if kind == "key" then seq, key = string.unpack("<i8", after), after:sub(13) end
    if item.key ~= key then return core.is_below(key, item.key) ~= self.reverse end
    return item.seq ~= seq and (item.seq > seq) ~= self.reverse
  end
  return function ()
    if not list then sort() end
    repeat at = at + 1 until not list[at] or is_behind(list[at])
    local item = list[at]
    if item then return item.record, item.seq end
    return nil
  end
end

local function one_after_the_other(phases)
  local at = 1
  return function ()
    while phases[at] do
      local record, seq = phases[at]()
      if seq then return record, seq end
      at = at + 1
    end
    return nil
  end
end

-- Records without a key in the order come first, or last in reverse.
local function in_order(self, made, set)
  local order, phases = made.order, {}
  local kind, after = nil, nil
  if self.after then kind, after = parse_place(self, self.after) end
  local rest = order.rest and core.seqset(plan.resolve(order.rest))
  local function add_walk()
    phases[#phases + 1] = through_index(self, order, set, kind == "key" and after or nil)
  end
  local function add_rest()
    if rest then phases[#phases + 1] = through_set(self, rest, kind == "rest" and after or nil) end
  end
  if self.reverse then
    if kind ~= "rest" then add_walk() end
    add_rest()
  else
    if kind ~= "key" then add_rest() end
    add_walk()
  end
  return one_after_the_other(phases)
end

-- --- Starting ----------------------------------------------------------------------------------------------------

local function views_of(self, used)
  local views = {self.view}
  for index in pairs(used) do views[#views + 1] = index.view end
  return views
end

-- The last seq that the run reads: no index that it uses is behind it.
local function horizon(self, used)
  local last_seq = self.db:_since()
  for index in pairs(used) do last_seq = math.min(last_seq, index.view._core:since()) end
  return last_seq
end

local function make_plan(self, last_seq)
  local indexes, all = self.engine.indexes, self.engine.every
  indexes:plan_for(self)
  local made = plan.make(self.condition, self.path, indexes, all, last_seq)
  if made then return made end
  self.is_sorted = true -- in memory
  return plan.make(self.condition, nil, indexes, all, last_seq)
end

-- The plan of a query that does not wait, while its indexes are being built: a scan.
local function plan_without_indexes(self)
  self.is_sorted = self.path ~= nil
  return {set = nil, exact = self.condition == nil, used = {}}
end

local function begin(self, used)
  self.last_seq = horizon(self, used)
  local made, own_seq = self.plan, self.view._core:since()
  if self.target == nil and self.last_seq < own_seq then
    made, self.last_seq = plan_without_indexes(self), own_seq
  elseif made.has_range then
    made = make_plan(self, self.last_seq)
  end
  self.plan = made
  self.engine.indexes:note_use(made.used, self)
  local set = made.set and core.seqset(plan.resolve(made.set))
  self.set, self.test = set, not made.exact and self.condition and filter.compile(self.condition) or nil
  self.is_plain = self.wants_plain and not self.test and not self.is_sorted
  if made.order then
    self.phase = in_order(self, made, set)
    return
  end
  local kind, after = nil, nil
  if self.after then kind, after = parse_place(self, self.after) end
  local behind = kind == "seq" and after or nil
  self.phase = set and through_set(self, set, behind) or through_log(self, behind)
  if self.is_sorted then self.phase = through_sorted(self, self.phase, kind, after) end
end

local function raised(err)
  if errors.is(err) then return err end
  if type(err) == "table" and err.message then return errors.new(err.message, err.code) end
  return errors.new(errors.text(err), "EVIEW")
end

Run.raised = raised

-- Waits until each of the views has reached the target; done(err), with the first error.
local function wait_for(self, views, at, deadline, done)
  if not views[at] then return done(nil) end
  local left_ms = deadline and math.max(0, deadline - self.db._now())
  views[at]:_with_patience(self.target, left_ms, function (err)
    if err then return done(err) end
    wait_for(self, views, at + 1, deadline, done)
  end)
end

--- Waits for the indexes; done(err). When an index fails meanwhile, the run is planned again without it.
function Run:start(done)
  local ok, made = pcall(make_plan, self, nil)
  if not ok then return done(raised(made)) end
  self.plan = made
  self.engine.indexes:note_use(made.used, self)
  self.deadline = self.deadline or self.timeout_ms and self.db._now() + self.timeout_ms
  wait_for(self, views_of(self, made.used), 1, self.deadline, function (err)
    if err and Indexes.have_failed(made.used) then return self:start(done) end
    if err then return done(err) end
    local begun, why = pcall(begin, self, made.used)
    done(not begun and raised(why) or nil)
  end)
end

--- The next record and its seq; nil at the end. Raises failures.
function Run:pull()
  local phase, test = self.phase, self.test
  while true do
    local record, seq = phase()
    if seq == nil then return nil end
    if not test or test(record) then return record, seq end
  end
end

--- The number of records that meet the condition, when the plan is exact; else nil.
function Run:count()
  if not (self.plan.exact and self.set) then return nil end
  return self.set:count(0, self.last_seq)
end

--- The end of a page whose last record this is.
function Run:place(record, seq)
  return place_of(self, record, seq)
end

function Run:close()
  self.closed = true
  if self.stream then self.stream:close() end
  self.phase = function () return nil end
end

--- engine: of the view. condition, or nil. options: path (of the order; nil: the log's), reverse, after (a place),
--- limit, plain (all of each record is wanted), target and timeout_ms as for a view's calls.
function Run.new(engine, condition, options)
  local view = engine.view
  local limit = options.limit and options.limit + 1 or FIRST_PAGE
  return setmetatable({
    engine = engine,
    view = view,
    db = view._db,
    log = view._db.log,
    transform = engine.transform,
    condition = condition,
    path = options.path,
    get_key = options.path and values.getter(options.path),
    reverse = options.reverse or false,
    after = options.after,
    first_page = math.max(1, math.min(limit, LAST_PAGE)),
    target = options.target,
    timeout_ms = options.timeout_ms,
    deadline = nil,     -- milliseconds, once it was started
    last_seq = nil,     -- of the log, as of which it is
    plan = nil,
    set = nil,
    test = nil,         -- what is left to be looked for in the records; nil for nothing
    phase = nil,
    wants_plain = options.plain or false,
    left = options.limit or math.huge, -- records that are wanted
    is_plain = false,   -- records are not lazy
    closed = false,     -- it reads no index any more
    stream = nil,
    is_sorted = false,  -- in memory: there is no index of the order
    stats = {examined = 0, decoded = 0, returned = 0},
  }, Run)
end

return Run
