-- What db:status() tells of a view.

local kept_failure = require "flume.view.kept_failure"
local view_dir = require "flume.core".view_dir

local M = {}

--- How far an instance is: start, current, target, rate (records a second), eta (seconds; nil when it is not known).
function M.progress(view, instance)
  local current, target = instance.core:since(), view._db:_since()
  local start, elapsed_ms = instance.core:progress()
  local done = current - start
  local rate = elapsed_ms > 0 and done > 0 and done * 1000 / elapsed_ms or 0
  return {
    start = start, current = current, target = target, rate = rate,
    eta = current >= target and 0 or rate > 0 and (target - current) / rate or nil,
  }
end

-- building: behind the log, or a version is pending; live; stalled: it can't go on at the moment; failed.
local function add_state(view, row, pending)
  local message, seq, traceback = view._core:failure()
  local reason, stalls = view._core:reason()
  local kept = not message and kept_failure.of(view)
  if message then
    row.state, row.error, row.seq, row.traceback = "failed", message, seq, traceback
    row.remedy = kept_failure.remedy(view.name, seq)
  elseif kept then
    row.state, row.error, row.seq, row.retries = "failed", kept.message, kept.seq, true
    row.remedy = kept_failure.remedy(view.name, kept.seq)
  elseif not view._db:_is_ready() then
    row.state, row.reason = "stalled", "the database is not ready"
  elseif stalls then
    row.state, row.reason = "stalled", reason
  else
    local is_replaced = pending and not view:_failure(pending)
    row.state = (is_replaced or row.since < row.target) and "building" or "live"
    row.reason = reason or row.reason
  end
end

--- A row of db:status().
function M.row(view)
  view._versions:take_news()
  local versions, instance = view._versions, view._instance
  local pending, reload_error = versions.pending, versions.reload_error
  local accepted = view._overrides:accepted()
  local row = {
    name = view.name, kind = view._kind, version = view.version, reason = view.reason, target = view._db:_since(),
    reload_error = reload_error and reload_error.message, accepted = accepted[1] and accepted or nil,
    uses = instance and instance.uses,
  }
  if view._broken then
    row.state, row.since, row.error, row.lag = "failed", -1, view._broken.message, row.target + 1
    return row
  end
  row.since, row.engine = view._core:since(), view._core:state()
  row.lag = row.target - row.since
  row.size = view._core:size() + (view._engine and view._engine.indexes:size_bytes() or 0)
  kept_failure.settle(view)
  add_state(view, row, pending)
  row.unstored = versions.dirs:is_writable() and instance.kind ~= "sink" and view_dir.obstacle(versions.dirs.dir) or nil
  local progress = M.progress(view, pending or instance)
  row.rate, row.eta = progress.rate, progress.eta
  if pending then
    local failure = view:_failure(pending)
    row.next = {
      version = pending.version, since = progress.current, reason = pending.reason,
      state = failure and "failed" or "building", error = failure and failure.message,
    }
  end
  return row
end

return M
