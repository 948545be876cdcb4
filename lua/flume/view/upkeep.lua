-- What keeps a view going when its code and the log don't fit: db.NAME:skip(seq), :accept(reason), :explain{from =,
-- to =}.

local async = require "flume.async"
local core = require "flume.core"
local errors = require "flume.errors"
local instances = require "flume.view.instance"
local options = require "flume.options"
local rebuilding = require "flume.view.rebuild"
local using = require "flume.view.dependents"
local versions = require "flume.view.versions"
local View = require "flume.view.view"

-- --- Skipping ----------------------------------------------------------------------------------------------------

-- Whether the record is in a state, of the version that answers or of one that is built.
local function is_consumed(self, seq)
  local consumed = false
  for instance in pairs(self._instances) do
    local has_it = not instance.retired and instance.core:reached() >= seq
    instance.has_skipped = instance.has_skipped or has_it
    consumed = consumed or has_it
  end
  return consumed
end

-- Durable before it counts.
local function note_skip(self, seq)
  if self._notes:is_skipped(seq) then return true end
  local consumed = is_consumed(self, seq)
  local ok, message, code = self._notes:skip(seq, consumed and self._notes.dir and versions.next_number(self) or nil)
  if not ok then return nil, message, code end
  for instance in pairs(self._instances) do instance.core:skips(self._notes.skips) end
  return true
end

-- Those that failed at the record go on behind it.
local function revive(self, seq)
  for instance in pairs(self._instances) do
    local failed, at = instance.core:failure()
    if failed and at == seq and not instance.retired then
      instance.core:revive()
      versions.settle(self, instance)
    end
  end
end

-- Those that use the view pass over the record in its place: they are built anew. done() for each that had consumed it,
-- when it answers; how many these are.
local function skip_in_users(self, seq, done)
  local pending = 0
  for _, user in ipairs(using.concerned(self._db, self.name)) do
    local has_it = not user._broken and user._core:reached() >= seq
    if has_it then pending = pending + 1 end
    user:_reload(false, function ()
      if has_it then core.later(done) end
    end)
  end
  return pending
end

local function skip_here(self, seq, done)
  revive(self, seq)
  local failed, next_one = self:_failure(), self._next
  if not (self._instance.has_skipped or next_one and next_one.has_skipped) then return done(nil) end
  rebuilding.rebuild(self, function (err)
    if not err then self._notes:settle_skip(seq) end
    if not failed then done(err) end
  end)
  if failed then done(nil) end -- it may fail again, at another record
end

local function skip(self, seq, done)
  if self._broken then return done(self._broken) end
  local ok, message, code = note_skip(self, seq)
  if not ok then return done(errors.new(message, code)) end
  local pending, failure = 1, nil
  local function one(err)
    pending, failure = pending - 1, failure or err
    if pending == 0 then done(failure) end
  end
  pending = pending + skip_in_users(self, seq, one)
  skip_here(self, seq, one)
end

--- From now on the view passes over the record seq, here and whenever it is rebuilt, and so do those that use it. One
--- that failed at it goes on; one that has consumed it is rebuilt without, and this waits for that. Durable when it
--- returns.
function View:skip(seq, cb)
  self:_check_alive("skip", 2)
  if math.type(seq) ~= "integer" or seq < 0 then
    error(("%s:skip: seq must be an integer from 0 on, not %s"):format(self.name, tostring(seq)), 2)
  end
  return async.call(function (done)
    skip(self, seq, function (err) done(err, err == nil or nil) end)
  end, cb)
end

-- --- Accepting ---------------------------------------------------------------------------------------------------

--- What was accepted, oldest first: lines of text, as in the file; nil for nothing.
function View:_accepted()
  local list = self._notes:accepted()
  return list[1] and list or nil
end

-- A version is being built because it differs from the active one on disk, which nobody answers for: take that one up.
local function accept_on_disk(self, reason, done)
  local building, instance, message, code = self._instance, instances.new(self._db, self._script)
  if not instance then return done(errors.new(message, code)) end
  local since
  local place = versions.place_at(self, self._active_number, {accept = true})
  since, message, code = versions.start_at(self, instance, place)
  if not since then return done(errors.new(message or "its state can't be gone on with", code or "EVIEW")) end
  local ok, why, errno = self._notes:accept("the state on disk", instance, since, reason)
  if not ok then
    self:_end_instance(instance, "keep", function () end)
    return done(errors.new(why, errno))
  end
  self._next = nil
  self:_answer_with(instance)
  versions.retire(self, building, function () done(nil) end)
  versions.answer_swaps(self, nil)
end

-- The code as the file has it now takes over the state that answers.
local function accept_here(self, reason, done)
  local instance, message, code = instances.new(self._db, self._script)
  if not instance then return done(errors.new(message, code)) end
  local old = self._instance
  if self:_failure() then return done(self:_failure()) end
  if old.has_skipped then
    return done(errors.new(('view "%s": a record that is skipped is in its state'):format(self.name), "EINVAL"))
  end
  if old.fingerprint == instance.fingerprint and old.version_text == instance.version_text then
    return done(errors.new(('view "%s": there is nothing to accept'):format(self.name), "EINVAL"))
  end
  local ok, why, errno = self._notes:accept(old, instance, self._core:since(), reason)
  if not ok then return done(errors.new(why, errno)) end
  versions.hand_over(self, instance, done)
end

--- Keeps the state although the version, or the source of a view without one, is another now: you vouch that it would
--- come out the same. Ends a rebuild that is under way for that reason. The reason is written down, see status.
function View:accept(reason, cb)
  self:_check_alive("accept", 2)
  if type(reason) ~= "string" or not reason:find "%S" then
    error(("%s:accept: say why the state can be kept"):format(self.name), 2)
  end
  return async.call(function (done)
    local function finish(err) done(err, err == nil or nil) end
    if not self._instance then return finish(self._broken) end
    local number = self._instance.number
    if number and self._active_number and number ~= self._active_number then
      return accept_on_disk(self, reason, finish)
    end
    if not self._script.path or self._instance.host then
      return finish(errors.new(('view "%s": there is nothing to accept'):format(self.name), "EINVAL"))
    end
    accept_here(self, reason, finish)
  end, cb)
end

-- --- Explaining --------------------------------------------------------------------------------------------------

-- What a dry run has made, in words of the view's kind.
local function describe_changes(dry, results, before)
  local changes
  if dry.host then changes = dry.host.changes()
  else
    local ok, made, code = dry.core:call_now "changes"
    if not ok then return errors.new(made, code) end
    changes = made
  end
  if dry.kind == "reduce" then
    results.before, results.after = before, changes.state
    return nil
  end
  results.changed, results.more = changes.count, changes.more
  local list = {}
  for i, item in ipairs(changes.items) do
    list[i] = {key = item[1], state = item[3]}
    if dry.kind == "index" then list[i] = {key = item[1], seq = item[2], value = item[3]} end
  end
  results[dry.kind == "group" and "groups" or "entries"] = list
end

local function run_dry(self, dry, base, from, to, done)
  local before
  if base and dry.kind == "reduce" then
    if base.host then before = base.host.functions.get()
    else before = select(2, base.core:call_now("call", "get")) end
  end
  if base then base.sources = base.sources + 1 end
  self._dry[dry] = true
  dry.core:explain(base and base.core, from, to, function (err, results)
    self._dry[dry] = nil
    if self._dry_ended and not next(self._dry) then self._dry_ended() end
    if base then
      base.sources = base.sources - 1
      if not self:_is_over() then self:_let_go(base) end
    end
    if err then return done(errors.new(err.message, err.code)) end
    results.from, results.to, results.starts_with = from, to, base and "state" or "initial"
    local failed = describe_changes(dry, results, before)
    done(failed, not failed and results or nil)
  end)
end

local function explain(self, range, done)
  local since = self._db:_since()
  local current = self._core and self._core:since() or -1
  local from = range.from or current < since and current + 1 or 0
  local to = math.min(range.to or since, since)
  local dry, message, code = instances.new(self._db, self._script)
  if not dry then return done(errors.new(message, code)) end
  if dry.kind == "sink" then
    return done(errors.new(('view "%s": one that keeps itself can\'t be explained'):format(self.name), "EINVAL"))
  end
  local now = self._instance
  local base = from == current + 1 and not self._broken and now.kind == dry.kind and now.stamp == dry.stamp
    and not self:_failure() and now or nil
  local ok, why, errno = dry.core:start_dry(base and base.core)
  if not ok then return done(errors.new(why, errno)) end
  dry.core:skips(self._notes.skips)
  run_dry(self, dry, base, from, to, done)
end

local EXPLAIN_OPTIONS = {from = "integer", to = "integer"}

--- A dry run of the view, as its file is now, over the records from to to, without committing anything. By default over
--- those that it has not consumed; over all when there are none. It begins with the view's state when from is the
--- record that comes next for it, else with its initial state (starts_with).
---
--- Results: records, deleted, skipped; ms, us_per_record, bytes_per_record; slowest (a list of {seq =, us =, bytes
--- =}); what
--- changes: before and after, or changed (how many) and groups or entries (the first hundred); and error {seq =,
--- message =, traceback =} when it raises.
function View:explain(given, cb)
  self:_check_alive("explain", 2)
  if cb == nil and type(given) == "function" then given, cb = nil, given end
  local opts = options.check(self.name .. ":explain", given, EXPLAIN_OPTIONS, 2)
  if (opts.from or 0) < 0 then error(self.name .. ":explain: from is below 0", 2) end
  return async.call(function (done) explain(self, opts, done) end, cb)
end

return View
