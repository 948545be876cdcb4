-- What changed in a view: a stream from which a copy of it can be kept.
--
--   "reset"                    the copy is to be emptied: what follows is all there is
--   "set", key, value, seq     an entry of an index; or the state of a group, or of a reducer (whose key is nil)
--   "remove", key, nil, seq    a group that is no more; of an index, all entries of the record seq (key is nil)
--   "at", position, nil, seq   the copy is now what the view was at seq, and a stream after position goes on here
--
-- A round leads from one position to the next. The view goes on while its parts are read, so what they were read at is
-- compared in the end, and more is read until it is one seq and there is no deletion that the view has not taken back.
-- Groups that have changed are those that the records between the two positions, and those deleted since, belong to.
-- Nothing is kept for this between two rounds; so it makes no difference whether the view was opened anew in between.
--
-- Where the way from a position is not known (another version, a record passed over, a deleted record whose bytes are
-- gone; any deleted one, for a view that uses others), the stream begins anew with "reset".

local async = require "flume.async"
local errors = require "flume.errors"

local Deltas = {}
Deltas.__index = Deltas
Deltas.__name = "flume.source"

local PULL = 256 -- records or entries that cross at once

local OPTIONS = {
  after = true, live = true, gt = true, gte = true, lt = true, lte = true, prefix = true, since = true, wait = true,
  timeout = true,
}

-- --- Positions ---------------------------------------------------------------------------------------------------

local function hex(bytes)
  return (bytes:gsub(".", function (byte) return ("%02x"):format(byte:byte()) end))
end

-- What makes the states of two instances at the same seq the same. One that has neither version nor source is like no
-- other.
local function identity_of(view, instance)
  local name = instance.version_text
  if name == "" and instance.fingerprint ~= 0 then name = ("%016x"):format(instance.fingerprint) end
  if name == "" then
    instance.token = instance.token or ("%016x"):format(math.random(0))
    name = instance.token
  end
  return ("%s.%s.%s"):format(hex(view._db.log.core:id()), table.concat(view._notes.skips, ","), name)
end

local function write_position(self)
  return ("%d.%d.%s"):format(self.seq, self.deletions, self.identity)
end

-- Takes up the position that the stream was asked to go on from; false when it is none of this view as it is now.
local function take_position(self, after)
  local log = self.view._db.log.core
  self.identity = identity_of(self.view, self.view._instance)
  if math.type(after) == "integer" then
    self.seq, self.deletions = after, 0
    return after <= log:since()
  end
  local seq, deletions, identity = tostring(after):match "^(%-?%d+)%.(%d+)%.(.*)$"
  if identity ~= self.identity then return false end
  self.seq, self.deletions = math.tointeger(seq), math.tointeger(deletions)
  return self.seq <= log:since() and self.deletions <= log:deletion_count()
end

-- --- A round -----------------------------------------------------------------------------------------------------

local function add(self, ...)
  self.items[#self.items + 1] = table.pack(...)
end

local begin_round

local function fail(self, err)
  self.ended = true
  self:_unfollow()
  self:_answer(err)
end

-- done(results...) of a function of the host, unless the stream has ended or the round is void by then. Like all that
-- leads from one piece to the next, a tail call: of a view in the caller's state, done is called at once.
local function ask(self, done, name, ...)
  local instance, round = self.instance, self.round
  return self.view:_call_on(instance, function (err, ...)
    if self.ended or self.round ~= round then return end
    if self.view:_is_over() then return fail(self, self.view:_closed_error()) end
    if instance ~= self.view._instance then return begin_round(self) end
    if err then return fail(self, err) end
    return done(...)
  end, name, ...)
end

-- The round has come to seq: the copy is what the view is there.
local function end_round(self, seq)
  for i = 1, #self.pending do self.items[#self.items + 1] = self.pending[i] end
  self.pending = {}
  self.fresh, self.seq, self.deletions = false, seq, self.known
  add(self, "at", write_position(self), nil, seq)
  self:_take()
end

-- then_do() when the view has come to seq and has taken back what was deleted, unless the round is void by then.
local function await(self, seq, then_do)
  local round = self.round
  self.view:_wait(seq, nil, function (err)
    if self.ended or self.round ~= round then return end
    if err then return fail(self, err) end
    then_do()
  end)
end

-- Whether a state that was read at seq has what the log has up to there: no deletion came in between.
local function is_settled(self, seq)
  return self.view._db.log.core:deletion_count() == self.known and self.instance.core:has(seq)
end

-- Empties the copy, and fills it anew.
local function start_anew(self)
  self.fresh, self.seq, self.deletions = true, -1, 0
  self.items, self.at, self.pending = {}, 1, {}
  add(self, "reset")
  begin_round(self)
end

-- --- Reducers ----------------------------------------------------------------------------------------------------

local function read_state(self)
  ask(self, function (seq, state)
    if not is_settled(self, seq) then return begin_round(self, seq) end
    self.pending = {table.pack("set", nil, state, seq)}
    end_round(self, seq)
  end, "states")
end

-- --- Groups ------------------------------------------------------------------------------------------------------

-- The deletions of what the copy has: a list of {seq, value}; nil when one of them can't be known.
local function deleted_items(self, with_values)
  local log, items = self.view._db.log.core, {}
  local known = log:deletion_count()
  for number = self.known, known - 1 do
    local seq = log:deletion_at(number)
    if seq < 0 then return nil end
    if seq <= self.seq then
      if self.instance.uses then return nil end -- it was built anew, and any of it may be another
      local value = with_values and self.view._db:_deleted_record(seq)
      if with_values and value == nil then return nil end
      items[#items + 1] = {seq, value}
    end
  end
  self.known = known
  return items
end

-- The records from first to last, less the deleted ones: {seq, value} each. nil and an error.
local function records(self, first, last)
  local items = {}
  for seq = first, last do
    local value, message, code = self.view._db:_record(seq)
    if value ~= nil then
      items[#items + 1] = {seq, value}
    elseif message and code ~= "EDELETED" and code ~= "ENOENT" then
      return nil, errors.new(message, code)
    end
  end
  return items
end

local function set_groups(self, seq, items)
  self.pending = {}
  for _, item in ipairs(items) do
    if item[2] == nil then self.pending[#self.pending + 1] = table.pack("remove", item[1], nil, seq)
    else self.pending[#self.pending + 1] = table.pack("set", item[1], item[2], seq) end
  end
  end_round(self, seq)
end

local touch

-- All keys up to self.reached are known: their states, if the view is still there.
local function read_groups(self)
  ask(self, function (seq, items)
    if seq == self.reached and is_settled(self, seq) then return set_groups(self, seq, items) end
    await(self, math.max(seq, self.reached), function () touch(self) end)
  end, "states", self.keys)
end

-- Which groups have changed up to where the view is now.
function touch(self)
  local target = math.max(self.instance.core:since(), self.reached)
  local gone = deleted_items(self, true)
  if not gone then return start_anew(self) end
  local function step(keys)
    for _, key in ipairs(keys) do self.keys[#self.keys + 1] = key end
    if self.reached >= target then return read_groups(self) end
    local last = math.min(target, self.reached + PULL)
    local items, err = records(self, self.reached + 1, last)
    if not items then return fail(self, err) end
    self.reached = last
    return ask(self, step, "touched", self.range, items)
  end
  ask(self, step, "touched", self.range, gone)
end

-- --- Indexes -----------------------------------------------------------------------------------------------------

-- Entries without a value of their own have none here either: the record is at its seq.
local function set_entries(self, items, last)
  for _, item in ipairs(items) do
    if item[2] <= last then self.pending[#self.pending + 1] = table.pack("set", item[1], item[3], item[2]) end
  end
end

local function finish_entries(self, epoch, last)
  ask(self, function (now)
    if now ~= epoch or not is_settled(self, last) then return begin_round(self) end
    end_round(self, last)
  end, "epoch")
end

local function page_entries(self, epoch, last, resume)
  return ask(self, function (items, more)
    set_entries(self, items, last)
    if more then return page_entries(self, epoch, last, more) end
    return finish_entries(self, epoch, last)
  end, "page", self.range, PULL, self.seq + 1, last, resume)
end

local function read_entries(self)
  local gone, last = deleted_items(self, false), self.instance.core:since()
  if not gone then return start_anew(self) end
  self.pending = {}
  for _, item in ipairs(gone) do self.pending[#self.pending + 1] = table.pack("remove", nil, nil, item[1]) end
  local function read(epoch)
    ask(self, function (items)
      if not items then return page_entries(self, epoch, last) end
      set_entries(self, items, last)
      finish_entries(self, epoch, last)
    end, "recent", self.range, self.seq + 1)
  end
  if not self.live or self.followed == self.instance then return ask(self, read, "epoch") end
  self.followed = self.instance
  ask(self, function () ask(self, read, "epoch") end, "follow", 1)
end

-- --- Groups, all of them -------------------------------------------------------------------------------------------

-- Pages are read while the view goes on: what has changed since the first is then read again.
local function page_groups(self, epoch, first_seq, resume)
  return ask(self, function (items, more)
    for _, item in ipairs(items) do self.keys[#self.keys + 1] = item[1] end
    if more then return page_groups(self, epoch, first_seq, more) end
    ask(self, function (now)
      if now ~= epoch then return begin_round(self) end
      self.seq, self.reached = first_seq, first_seq
      touch(self)
    end, "epoch")
  end, "page", self.range, PULL, nil, nil, resume)
end

local function read_all_groups(self)
  self.known = self.view._db.log.core:deletion_count()
  ask(self, function (epoch, seq) page_groups(self, epoch, seq) end, "epoch")
end

-- --- From round to round -------------------------------------------------------------------------------------------

local READ = {
  reduce = function (self)
    self.known = self.view._db.log.core:deletion_count()
    read_state(self)
  end,
  index = read_entries,
  group = function (self)
    if self.fresh then return read_all_groups(self) end
    touch(self)
  end,
}

--- Begins a round, as soon as the view has come to where the copy is, and to seq if that is given, and has taken back
--- what was deleted.
function begin_round(self, seq)
  self.round = self.round + 1
  local view = self.view
  await(self, math.max(self.seq, seq or -1, view._core:since()), function ()
    self.instance = view._instance
    local identity = identity_of(view, self.instance)
    if identity ~= self.identity then
      self.identity = identity
      return start_anew(self)
    end
    self.known, self.keys, self.pending, self.reached = self.deletions, {}, {}, self.seq
    READ[view._kind](self)
  end)
end

local function has_more(self)
  local view = self.view
  return view._core:since() > self.seq or view._db.log.core:deletion_count() > self.deletions
    or identity_of(view, view._instance) ~= self.identity
end

-- Waits for the next record, deletion or version.
local function await_more(self)
  if has_more(self) then return begin_round(self) end
  self.round = self.round + 1
  local view, round, observer = self.view, self.round, nil
  local function wake(err)
    if self.round ~= round then return end
    self.stop_waiting()
    if self.ended then return end
    if err then return fail(self, err) end
    begin_round(self)
  end
  local function changed() wake(nil) end
  function self.stop_waiting()
    view._followers[changed] = nil
    if observer then observer:stop() end
    observer = nil
  end
  view._followers[changed] = true
  observer = view._db.log.core:observe_deletions(changed)
  view:_wait(self.seq + 1, nil, wake)
end

function Deltas:_answer(err, ...)
  local done = self.waiting
  self.waiting = nil
  if done then done(err, ...) end
end

--- The next of what is at hand, or else of the next round.
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
  if self.view:_is_over() then return fail(self, self.view:_closed_error()) end
  if self.live then return await_more(self) end
  self.ended = true
  self:_answer(nil, nil)
end

function Deltas:_unfollow()
  self.stop_waiting()
  local followed = self.followed
  self.followed = nil
  if followed and followed == self.view._instance and not self.view:_is_over() then
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
  for option in pairs(options) do
    if not OPTIONS[option] then error(("%s:deltas: unknown option %q"):format(view.name, tostring(option)), 5) end
  end
  local after = options.after
  if after ~= nil and math.type(after) ~= "integer" and type(after) ~= "string" then
    error(("%s:deltas: option after must be a position, or a seq"):format(view.name), 5)
  end
  local range = {gt = options.gt, gte = options.gte, lt = options.lt, lte = options.lte, prefix = options.prefix}
  if next(range) ~= nil and view._kind == "reduce" then
    error(("%s:deltas: a reducer has no keys"):format(view.name), 5)
  end
  return range
end

--- A stream of deltas of a view, which begins with its first next. args[1]: the options, or nil
local function new(view, _, args, target, timeout_ms)
  local options = args[1] or {}
  return setmetatable({
    view = view,
    range = check(view, options),
    live = options.live or false,
    after = options.after,
    target = target,           -- the seq to wait for, or nil
    timeout_ms = timeout_ms,
    started = false,
    ended = false,
    fresh = false,             -- the copy is being filled
    identity = nil,            -- where the copy is: what it is of,
    seq = -1,                  -- up to which record,
    deletions = 0,             -- and how many deletions it knows of
    round = 0,                 -- what a round before has begun is of no interest
    instance = nil,            -- of the round; so are the next four
    known = 0,                 -- deletions that were looked at
    keys = {},                 -- of groups that have changed
    reached = -1,              -- up to which record
    pending = {},              -- deltas that are delivered when the round ends
    items = {},                -- to be delivered
    at = 1,
    followed = nil,            -- the instance that keeps for us what comes
    stop_waiting = function () end,
    waiting = nil,             -- done() of a next that waits
  }, Deltas)
end

return {new = new}
