-- How calls wait for a view. Each function takes the view; view.lua makes methods of them.
--
-- The last argument of a call steers the waiting, when it is a table: since = n waits for n, wait = false (or since =
-- -1) doesn't wait, timeout = ms gives up. Without it a call waits for the log's since as of the call.

local errors = require "flume.errors"
local observable = require "flume.observable"

local M = {}

local function timeout_error(view, target)
  local current = view._core:since()
  local share = target > 0 and math.max(0, current + 1) * 100 // (target + 1) or 0
  return errors.new(('timeout: view "%s" is at %d of %d (%d %%)'):format(view.name, current, target, share),
    "ETIMEDOUT")
end

--- The error of a wait that the slot has ended with a code.
function M.error_of(view, target, code)
  view._versions:take_news()
  if code == "ETIMEDOUT" then return timeout_error(view, target) end
  if code == "ECLOSED" or view:_is_over() then return view:_closed_error() end
  local _, why = view._db.log:following()
  return view:_failure() or errors.new(why or code, code)
end

--- Whether a wait that ended with the code has to begin again: its version was closed before another one answered.
function M.goes_on(view, code)
  return code == "ECLOSED" and not view:_is_over()
end

--- Why nothing can be asked of the view, or nil.
function M.refusal(view)
  return view._broken or view:_is_over() and view:_closed_error() or nil
end

--- Calls done() when the view has reached the seq target, done(err) when it can't. timeout_ms: nil for none. The slot
--- waits: for the version that answers, and when another one takes the place, for that.
function M.wait(view, target, timeout_ms, done)
  local refusal = M.refusal(view)
  if refusal then return done(refusal) end
  if target < 0 and view._db:_is_ready() then return done(view:_failure()) end
  local reached = view._versions.slot:wait(target, timeout_ms, function (code)
    if code == nil then return done(nil) end
    if M.goes_on(view, code) then return M.wait(view, target, timeout_ms, done) end
    done(M.error_of(view, target, code))
  end)
  if reached == true then return done(nil) end
  if reached then done(M.error_of(view, target, reached)) end
end

--- Whether a call that waits for target (nil: for nothing) would be answered at once, and not with an error.
function M.has(view, target)
  if M.refusal(view) then return false end
  if target ~= nil and not (target < 0 and view._db:_is_ready() or view._core:has(target)) then return false end
  return view._core:failure() == nil
end

local function is_options(value)
  return type(value) == "table" and (value.since ~= nil or value.wait ~= nil or value.timeout ~= nil)
end

local function check_integer(view, method, name, value, level)
  if value ~= nil and not (type(value) == "number" and math.tointeger(value)) then
    error(("%s:%s: option %s must be an integer, not %s"):format(view.name, method, name, errors.given(value)), level)
  end
  return value and math.tointeger(value)
end

--- Which seq a call waits for (nil: for none), and how many milliseconds (nil: without end). args: of the call, packed.
function M.patience(view, method, args)
  local last = args[args.n]
  local options = is_options(last) and last or {}
  local since = check_integer(view, method, "since", options.since, 5)
  local timeout_ms = options.timeout
  if timeout_ms ~= nil and not (type(timeout_ms) == "number" and timeout_ms >= 0) then
    error(("%s:%s: option timeout must be a number of milliseconds, not %s"):format(view.name, method,
      tostring(timeout_ms)), 5)
  end
  if options.wait == false or since == -1 then return nil, timeout_ms end
  return since or view._db:_since(), timeout_ms
end

-- A raw view tells by itself how far it has got.
local function wait_for_raw(view, target, timeout_ms, done)
  local host = view._instance.host
  local since = host and host.raw and host.raw.since
  if not observable.is(since) or (since:get() or -1) >= target then return done(nil) end
  local off
  local function answer(err)
    if not off then return end
    off()
    off = nil
    view._raw_waits[answer] = nil
    done(err)
  end
  off = since(function (value)
    if (value or -1) >= target then answer(nil) end
  end, false)
  view._raw_waits[answer] = true
  if not timeout_ms then return end
  view._core:wait(math.maxinteger, timeout_ms, function (code)
    if code == "ETIMEDOUT" then answer(timeout_error(view, target)) end
  end)
end

--- Waits as a call does: done(err), at once when target is nil.
function M.with_patience(view, target, timeout_ms, done)
  if target == nil then
    if view._broken then return done(view._broken) end
    if view:_is_over() then return done(view:_closed_error()) end
    return done(view:_failure())
  end
  M.wait(view, target, timeout_ms, function (err)
    if err then return done(err) end
    wait_for_raw(view, target, timeout_ms, done)
  end)
end

--- Answers with err all calls that wait for a raw view.
function M.end_raw_waits(view, err)
  local waits = view._raw_waits
  view._raw_waits = {}
  for answer in pairs(waits) do answer(err) end
end

return M
