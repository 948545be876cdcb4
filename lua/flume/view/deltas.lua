-- What changed in a view: a stream from which a copy of it can be kept.
--
--   "reset"                    the copy is to be emptied: what follows is all there is
--   "set", key, value, seq     an entry of an index; or the state of a group, or of what has no groups (key is nil)
--   "remove", key, nil, seq    a group that is no more; of an index, all entries of the record seq (key is nil)
--   "at", position, nil, seq   the copy is now what the view was at seq, and a stream after position goes on here
--
-- A round leads from one position to the next, in steps: each asks the view for some of what changed, which is
-- delivered before the next one. The view goes on meanwhile, so what was delivered is mended until it belongs together:
--
--   states   a reducer's is all of it, and one step
--   index    entries don't change. Those of records up to the one that the round leads to are read page by page;
--            behind them come the records that were deleted meanwhile
--   groups   at first all of them, page by page, each as it is when it is read. Then those that records behind the
--            first page (else behind the position) belong to, and deleted ones, until a step ends where the view is
--
-- A step counts when the view was no less far than at the step before, and had taken back what was deleted; else it is
-- made again when that is so. Thus a rebuild of the same version only makes the round wait. Nothing is kept between two
-- rounds, and within one no more than some thousand deltas; so it makes no difference whether the view was opened anew
-- in between.
--
-- Where the way from a position is not known (another version, a record passed over, a deleted record whose bytes are
-- gone; any deleted one, for a view that uses others), the stream begins anew with "reset".

local async = require "flume.async"
local core = require "flume.core"
local errors = require "flume.errors"

local Deltas = {}
Deltas.__index = Deltas
Deltas.__name = "flume.deltas"

local M = {}

--- What is held in memory: entries or groups that cross at once; records that do, and about how many bytes of them, and
--- deleted ones; deltas that are made before the first of them is delivered.
M.limits = {page = 256, records = 2048, record_bytes = 256 << 10, deleted = 64, at_hand = 4096}

local limits = M.limits

local ROOMY = 16 << 20 -- bytes of memory of a view, from which on that many records fit in easily

local OPTIONS = {
  after = true, live = true, gt = true, gte = true, lt = true, lte = true, prefix = true, since = true, wait = true,
  timeout = true,
}

-- --- Positions ---------------------------------------------------------------------------------------------------

local function hex(bytes)
  return (bytes:gsub(".", function (byte) return ("%02x"):format(byte:byte()) end))
end

-- A text that is the same where the states of a view at the same seq are the same: of the log, the view's name, the
-- records that it skips, and the instance.
local function identity_of(self)
  local view = self.view
  local skips = table.concat(view:_overridden().skips, ",")
  return ("%s.%s.%s"):format(self.identity_of_all, skips, view:_current():identity())
end

local function write_position(self)
  return ("%d.%d.%s"):format(self.seq, self.deletions, self.identity)
end

-- Takes up the position that the stream was asked to go on from; false when it is none of this view as it is now.
local function take_position(self, after)
  local log = self.log
  self.identity = identity_of(self)
  if math.type(after) == "integer" then
    self.seq, self.deletions = math.max(after, -1), 0
    return after <= log:since()
  end
  local seq, deletions, identity = tostring(after):match "^(%-?%d+)%.(%d+)%.(.*)$"
  if identity ~= self.identity then return false end
  self.seq, self.deletions = math.tointeger(seq), math.tointeger(deletions) -- nil for what no integer holds
  if not self.seq or not self.deletions or self.seq < -1 then return false end
  return self.seq <= log:since() and self.deletions <= log:deletion_count()
end

-- --- A round, step by step ---------------------------------------------------------------------------------------

local function add(self, ...)
  self.items[#self.items + 1] = table.pack(...)
end

local start_anew

local function fail(self, err)
  self.ended = true
  self:_unfollow()
  self:_answer(err)
end

local function take_step(self, step)
  if self.view:_is_over() then return fail(self, self.view:_closed_error()) end
  if identity_of(self) ~= self.identity then return start_anew(self) end
  return step(self)
end

-- Calls fn() in the loop's next turn, unless the round has come to nothing by then.
local function later(self, fn)
  local round = self.round
  core.later(function ()
    if not self.ended and self.round == round then fn() end
  end)
end

-- The step is next; when there are enough deltas at hand, as soon as these are delivered.
local function go_on(self, step, enough)
  if #self.items >= enough then
    self.step = step
    return self:_take()
  end
  later(self, function () take_step(self, step) end)
end

-- Makes the step when the view has come to seq and has taken back what was deleted.
local function await(self, seq, step)
  local round = self.round
  self.view:_wait(seq, nil, function (err)
    if self.ended or self.round ~= round then return end
    if err then return fail(self, err) end
    take_step(self, step)
  end)
end

-- What the host has answered, since being where the view was then: done(since, results...). When that doesn't count,
-- the step is made again.
local function take_answer(self, asked, err, since, ...)
  local view, instance = self.view, asked.instance
  if self.ended or self.round ~= asked.round then return end
  if view:_is_over() then return fail(self, view:_closed_error()) end
  if identity_of(self) ~= self.identity then return start_anew(self) end
  local counts = instance == view:_current()
    and (err or since >= self.floor and instance:has(since) and instance:known_deletions() == asked.deletions)
  if not counts then return later(self, function () await(self, self.floor, asked.step) end) end
  if err then return fail(self, err) end
  self.floor = since
  return asked.done(since, ...)
end

-- A question to the host. Its answer lacks exactly those deleted records that the view knew at both ends: when it has
-- learned of more meanwhile, the answer may have been made before or after that.
local function new_question(self, step, done)
  local instance = self.view:_current()
  return {round = self.round, instance = instance, step = step, done = done, deletions = instance:known_deletions()}
end

local function ask(self, step, done, name, ...)
  local asked = new_question(self, step, done)
  return self.view:_call_on(asked.instance, function (...) return take_answer(self, asked, ...) end, name, ...)
end

-- The next page of the range: done(since, items, more). first, last: of an index, whose records' entries.
local function ask_page(self, step, done, first, last)
  local asked = new_question(self, step, done)
  return self.view:_call_on(asked.instance, function (err, items, more, since)
    return take_answer(self, asked, err, since, items, more)
  end, "page", self.range, limits.page, first, last, self.resume)
end

-- The copy is what the view is at seq.
local function end_round(self, seq)
  self.fresh, self.seq, self.deletions = false, seq, self.known
  add(self, "at", write_position(self), nil, seq)
  self:_take()
end

local FIRST_STEP

--- Begins a round, as soon as the view has come to where the copy is.
local function begin_round(self)
  self.round, self.step, self.told_at = self.round + 1, nil, nil
  self.floor, self.reached, self.known, self.resume = self.seq, self.seq, self.deletions, nil
  await(self, math.max(self.seq, self.view:_current():since()), function ()
    local instance = self.view:_current()
    return FIRST_STEP[instance.keyless and "reduce" or instance.kind](self)
  end)
end

-- Empties the copy, and fills it anew.
function start_anew(self)
  self.identity = identity_of(self)
  self.fresh, self.seq, self.deletions = true, -1, 0
  self.items, self.at = {}, 1
  add(self, "reset")
  begin_round(self)
end

-- How many deletions there were. What ask has answered is without all of them.
local function deletion_count(self)
  return self.log:deletion_count()
end

-- --- One state ---------------------------------------------------------------------------------------------------

local function read_state(self)
  return ask(self, read_state, function (since, state)
    self.known = deletion_count(self)
    local is_gone = state == nil and self.view:_current().kind ~= "reduce"
    add(self, is_gone and "remove" or "set", nil, state, since)
    return end_round(self, since)
  end, "state")
end

-- --- Indexes -----------------------------------------------------------------------------------------------------

-- Takes the records out that were deleted since, of those up to last; then the next step.
local function take_out(self, last, step, next_step)
  local log = self.log
  while self.known < log:deletion_count() do
    if #self.items >= limits.at_hand then return go_on(self, step, 1) end
    local seq = log:deletion_at(self.known)
    if seq < 0 or seq <= last and self.view:_current().uses then return start_anew(self) end
    if seq <= last then add(self, "remove", nil, nil, seq) end
    self.known = self.known + 1
  end
  return next_step(self)
end

-- Entries without a value of their own have none here either: the record is at its seq.
local function set_entries(self, items)
  for _, item in ipairs(items) do add(self, "set", item[1], item[3], item[2]) end
end

local function finish_entries(self)
  return take_out(self, self.reached, finish_entries, function () return end_round(self, self.reached) end)
end

local function page_entries(self)
  return ask_page(self, page_entries, function (_, items, more)
    set_entries(self, items)
    self.resume = more
    if more then return go_on(self, page_entries, 1) end
    return finish_entries(self)
  end, self.seq + 1, self.reached)
end

-- What came since the position, if the view still has it at hand; else the range has it.
local function read_entries(self)
  local instance = self.view:_current()
  if self.live and self.followed ~= instance then
    self.followed = instance
    return ask(self, read_entries, function () return read_entries(self) end, "follow", 1)
  end
  return ask(self, read_entries, function (since, items)
    self.reached = since -- where the round leads to
    if self.fresh then self.known = deletion_count(self) end
    if not items then return page_entries(self) end
    set_entries(self, items)
    return finish_entries(self)
  end, "came", self.range, self.seq + 1)
end

local function begin_entries(self)
  if self.fresh then return read_entries(self) end
  return take_out(self, self.seq, begin_entries, read_entries)
end

-- --- Groups ------------------------------------------------------------------------------------------------------

-- A group is told once for as long as the view stays as it is.
local function set_group(self, id, key, state, since)
  local deletions = deletion_count(self)
  if self.told_at ~= since or self.told_deletions ~= deletions or self.told_count >= limits.at_hand then
    self.told, self.told_at, self.told_deletions, self.told_count = {}, since, deletions, 0
  end
  if self.told[id] then return end
  self.told[id], self.told_count = true, self.told_count + 1
  if state == nil then add(self, "remove", key, nil, since)
  else add(self, "set", key, state, since) end
end

-- The groups that records belong to, as they are now; then then_do(since).
local function tell_groups(self, step, records, then_do)
  return ask(self, step, function (since, items)
    for _, item in ipairs(items) do set_group(self, item[1], item[2], item[3], since) end
    return then_do(since)
  end, "changed", self.range, records)
end

-- Records behind the one that was reached, as many as cross at once, less those that the view passes over: a list of
-- {seq, item}, and the seq up to which these are all; nil and an error.
local function read_records(self)
  local log, overrides, transform = self.log, self.view:_overridden(), self.transform
  local records, last, last_read, count, bytes = {}, log:since(), nil, 0, 0
  local cursor, message, code =
    core.cursor(log, self.reached + 1, last, self.most_records, false, false, true, not transform)
  if not cursor then return nil, errors.new(message, code) end
  while bytes < self.most_bytes and count < self.most_records do
    local seq, item, why, len = cursor:next()
    if not seq then
      cursor:close()
      if item ~= nil then return nil, errors.new(item, why) end
      return records, last
    end
    local ok = true
    if transform then ok, item = pcall(transform, item, seq) end
    if not ok then return nil, errors.new(("record %d: %s"):format(seq, errors.text(item)), "EINVAL") end
    if not overrides:is_skipped(seq) then records[#records + 1] = {seq, item} end
    last_read, count, bytes = seq, count + 1, bytes + len
  end
  cursor:close()
  return records, last_read
end

local touch

-- The groups of records that were deleted since, of those that the copy may have.
local function touch_deleted(self)
  local view, log, records = self.view, self.log, {}
  local known = math.min(self.known + limits.deleted, log:deletion_count())
  for number = self.known, known - 1 do
    local seq = log:deletion_at(number)
    if seq < 0 then return start_anew(self) end
    if seq <= self.floor and not view:_overridden():is_skipped(seq) then
      local value = not view:_current().uses and view:_deleted_record(seq) or nil
      if value == nil then return start_anew(self) end
      records[#records + 1] = {seq, value}
    end
  end
  return tell_groups(self, touch, records, function ()
    self.known = known
    return go_on(self, touch, limits.at_hand)
  end)
end

-- The groups of the records behind the one that was reached.
function touch(self)
  if self.known < deletion_count(self) then return touch_deleted(self) end
  local records, last = read_records(self)
  if not records then return fail(self, last) end
  return tell_groups(self, touch, records, function (since)
    self.reached = math.min(last, since)
    if self.reached == since and self.known == deletion_count(self) then return end_round(self, since) end
    return go_on(self, touch, limits.at_hand)
  end)
end

local function page_groups(self)
  return ask_page(self, page_groups, function (since, items, more)
    if not self.resume then self.reached, self.known = since, deletion_count(self) end
    for _, item in ipairs(items) do add(self, "set", item[1], item[3], since) end
    self.resume = more
    if more then return go_on(self, page_groups, 1) end
    return touch(self)
  end)
end

local function begin_groups(self)
  if self.fresh then return page_groups(self) end
  return touch(self)
end

-- --- From round to round -----------------------------------------------------------------------------------------

FIRST_STEP = {reduce = read_state, index = begin_entries, group = begin_groups}

local function has_more(self)
  return self.view:_current():since() > self.seq or deletion_count(self) > self.deletions
    or identity_of(self) ~= self.identity
end

-- Waits for the next record, deletion or version.
local function await_more(self)
  if has_more(self) then return begin_round(self) end
  self.round = self.round + 1
  local view, round, observer, stop_following = self.view, self.round, nil, nil
  local function wake(err)
    if self.round ~= round then return end
    self.stop_waiting()
    if self.ended then return end
    if err then return fail(self, err) end
    begin_round(self)
  end
  local function changed() later(self, wake) end
  function self.stop_waiting()
    stop_following()
    if observer then observer:stop() end
    observer = nil
  end
  stop_following = view:_on_change(changed)
  observer = self.log:observe_deletions(changed)
  view:_wait(self.seq + 1, nil, wake)
end

function Deltas:_answer(err, ...)
  local done = self.waiting
  self.waiting = nil
  if done then done(err, ...) end
end

--- The next of what is at hand, or else of the next step or round.
function Deltas:_take()
  if not self.waiting then return end
  local item = self.items[self.at]
  if item then
    self.items[self.at] = nil
    self.at = self.at + 1
    return self:_answer(nil, table.unpack(item, 1, item.n))
  end
  self.items, self.at = {}, 1
  if self.ended then return self:_answer(nil, nil) end
  local step = self.step
  self.step = nil
  if step then return later(self, function () take_step(self, step) end) end
  if self.view:_is_over() then return fail(self, self.view:_closed_error()) end
  if self.live then return await_more(self) end
  self.ended = true
  self:_answer(nil, nil)
end

function Deltas:_unfollow()
  self.stop_waiting()
  local followed = self.followed
  self.followed = nil
  if followed and followed == self.view:_current() and not self.view:_is_over() then
    self.view:_call_on(followed, function () end, "follow", -1)
  end
end

local function start(self)
  self.started = true
  self.view:_with_patience(self.target, self.timeout_ms, function (err)
    if not self.waiting then return end
    if err then return fail(self, err) end
    local known = take_position(self, self.after)
    if self.after == nil or not known then return start_anew(self) end
    begin_round(self)
  end)
end

--- The next delta; nil at the end; nil, message, code on failure.
function Deltas:next(cb)
  return async.call(function (done)
    if self.waiting then return done(errors.new("another next of this source is waiting", "EBUSY")) end
    self.waiting = done
    if self.started or self.ended then return self:_take() end
    start(self)
  end, cb)
end

local function or_raise(first, message, code, ...)
  if first == nil and code ~= nil then error(message, 0) end
  return first, message, code, ...
end

function Deltas:__call()
  return or_raise(self:next())
end

--- No more deltas are wanted. A next that waits is told that this is the end.
function Deltas:close()
  self:_unfollow()
  self.ended, self.items, self.at = true, {}, 1
  self:_answer(nil, nil)
  return true
end

Deltas.__close = Deltas.close

local function check(view, options)
  if type(options) ~= "table" then error(view.name .. ":deltas: a table of options expected", 5) end
  for option in pairs(options) do
    if not OPTIONS[option] then error(("%s:deltas: unknown option %q"):format(view.name, tostring(option)), 5) end
  end
  local after = options.after
  if after ~= nil and math.type(after) ~= "integer" and type(after) ~= "string" then
    error(("%s:deltas: option after must be a position, or a seq"):format(view.name), 5)
  end
  if options.live ~= nil and type(options.live) ~= "boolean" then
    error(("%s:deltas: option live must be true or false"):format(view.name), 5)
  end
  local instance = view:_current()
  local range = {gt = options.gt, gte = options.gte, lt = options.lt, lte = options.lte, prefix = options.prefix}
  if next(range) ~= nil and (instance.kind == "reduce" or instance.keyless) then
    local what = instance.kind == "reduce" and "a reducer" or "an aggregate without groups"
    error(("%s:deltas: %s has no keys"):format(view.name, what), 5)
  end
  return range
end

--- A stream of deltas of a view, which begins with its first next. args[1]: the options, or nil
function M.new(view, _, args, target, timeout_ms)
  local options = args[1] or {}
  local log = view:_log()
  local share = math.min(1, (view:_current().script.memory or ROOMY) / ROOMY)
  return setmetatable({
    view = view,
    log = log,
    identity_of_all = ("%s%016x"):format(hex(log:id()), core.fingerprint_bytes(view.name, 0)),
    range = check(view, options),
    live = options.live or false,
    after = options.after,
    target = target,           -- the seq to wait for, or nil
    timeout_ms = timeout_ms,
    started = false,
    ended = false,
    most_records = math.ceil(limits.records * share),
    most_bytes = limits.record_bytes * share,
    transform = view:_transform(), -- of records, or nil: they are read lazily
    fresh = false,             -- the copy is being filled
    identity = nil,            -- where the copy is: what it is of,
    seq = -1,                  -- up to which record,
    deletions = 0,             -- and how many deletions it knows of
    round = 0,                 -- what a round before has begun is of no interest
    step = nil,                -- of the round: the next one, when what is at hand is delivered
    floor = -1,                -- how far the view was at the last one
    known = 0,                 -- deletions that it has taken into account
    reached = -1,              -- and up to which record; of an index: where it leads to
    resume = nil,              -- behind the last page
    told = {},                 -- set of the ids of groups that were told
    told_at = nil,             -- while the view was there, and had taken back
    told_deletions = nil,      -- so many
    told_count = 0,
    items = {},                -- to be delivered
    at = 1,
    followed = nil,            -- the instance that keeps for us what comes
    stop_waiting = function () end,
    waiting = nil,             -- done() of a next that waits
  }, Deltas)
end

return M
