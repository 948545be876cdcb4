-- db.NAME:explain([options, cb]): a dry run of the view, as its file is now, over some records. Nothing is committed.

local errors = require "flume.errors"
local instances = require "flume.view.instance"

local DryRuns = {}
DryRuns.__index = DryRuns

-- Adds what a dry run has made, in words of the view's kind, to its results. An error, or nil.
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

-- The state of a reducer before the dry run.
local function state_of(base)
  if base.host then return base.host.functions.get() end
  return (select(2, base.core:call_now("call", "get")))
end

local function run(self, dry, base, from, to, done)
  local view = self.view
  local before = base and dry.kind == "reduce" and state_of(base) or nil
  if base then base:pin() end
  self.running[dry] = true
  dry.core:explain(base and base.core, from, to, function (err, results)
    self.running[dry] = nil
    if self.on_end and not next(self.running) then self.on_end() end
    if base then view._versions:unpin(base) end
    if err then return done(errors.new(err.message, err.code)) end
    results.from, results.to, results.starts_with = from, to, base and "state" or "initial"
    local failed = describe_changes(dry, results, before)
    done(failed, not failed and results or nil)
  end)
end

--- done(err, results). range: {from =, to =}, each a seq or nil.
function DryRuns:explain(range, done)
  local view = self.view
  local since = view._db:_since()
  local current = view._core and view._core:since() or -1
  local from = range.from or current < since and current + 1 or 0
  local to = math.min(range.to or since, since)
  local dry, message, code = instances.new(view._db, view._script)
  if not dry then return done(errors.new(message, code)) end
  if dry.kind == "sink" then
    return done(errors.new(('view "%s": one that keeps itself can\'t be explained'):format(view.name), "EINVAL"))
  end
  local now = view._instance
  local base = from == current + 1 and not view._broken and now.kind == dry.kind and now.stamp == dry.stamp
    and not view:_failure() and now or nil
  local ok, why, errno = dry.core:start_dry(base and base.core)
  if not ok then return done(errors.new(why, errno)) end
  dry.core:skips(view._overrides.skips)
  run(self, dry, base, from, to, done)
end

--- Stops all dry runs; done() when none is left.
function DryRuns:stop(done)
  if not next(self.running) then return done() end
  self.on_end = done
  for dry in pairs(self.running) do dry.core:explain_stop() end
end

--- The dry runs of a view.
function DryRuns.new(view)
  return setmetatable({
    view = view,
    running = {},  -- set of instances
    on_end = nil,  -- called when the last dry run has ended
  }, DryRuns)
end

return DryRuns
