-- db.NAME:accept(reason [, cb]): keeps the view's state although its version or its source has changed.

local errors = require "flume.errors"
local instances = require "flume.view.instance"

local M = {}

local function nothing_to_accept(view)
  return errors.new(('view "%s": there is nothing to accept'):format(view.name), "EINVAL")
end

-- A version is being built because it differs from the active one on disk, which no instance uses: go on with that one.
local function accept_on_disk(view, reason, done)
  local instance, message, code = instances.new(view._db, view._script)
  if not instance then return done(errors.new(message, code)) end
  view._versions:resume_active(instance, function (since)
    return view._overrides:accept("the state on disk", instance, since, reason)
  end, done)
end

-- The code as the file has it now takes over the state that answers.
local function accept_here(view, reason, done)
  local instance, message, code = instances.new(view._db, view._script)
  if not instance then return done(errors.new(message, code)) end
  local old = view._instance
  if view:_failure() then return done(view:_failure()) end
  if old.has_skipped then
    return done(errors.new(('view "%s": its state contains a record that is skipped'):format(view.name), "EINVAL"))
  end
  if old.fingerprint == instance.fingerprint and old.version_text == instance.version_text then
    return done(nothing_to_accept(view))
  end
  local ok, why, errno = view._overrides:accept(old, instance, view._core:since(), reason)
  if not ok then return done(errors.new(why, errno)) end
  view._versions:hand_over(instance, done)
end

--- done(err) when the state is kept.
function M.accept(view, reason, done)
  if not view._instance then return done(view._broken) end
  if view._versions:is_rebuilding_active() then return accept_on_disk(view, reason, done) end
  if not view._script.path or view._instance.host then return done(nothing_to_accept(view)) end
  accept_here(view, reason, done)
end

return M
