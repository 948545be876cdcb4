-- db.NAME:rebuild([cb]): makes a view's state again from the log.
--
-- A script is built beside the version that answers, as by a reload (versions.lua). A view in the caller's state starts
-- over where it is. A raw view destroys its own state first.

local core = require "flume.core"
local call_raw = require "flume.view.versions".call_raw

local M = {}

-- A raw view destroys its own state, and gets a new sink. One that can't has failed.
local function rebuild_raw(view, done)
  if view:_is_over() then return done(view:_closed_error()) end
  local instance = view._instance
  local handle = instance.core
  handle:hold(true)
  local function finish(message)
    if view:_is_over() then return done(view:_closed_error()) end
    if message then
      handle:fail(message)
      handle:hold(false)
      return done(view:_failure())
    end
    handle:rebuild()
    handle:hold(false)
    done(nil)
  end
  call_raw(instance.host.raw.destroy, function (err)
    if err then return finish("destroy: " .. tostring(err)) end
    local ok, why = pcall(instance.host.start)
    finish(not ok and tostring(type(why) == "table" and why.message or why) or nil)
  end)
end

--- For a raw view that has consumed a record that is deleted now.
function M.start_over_raw(view)
  rebuild_raw(view, function (err)
    if err and err.code ~= "ECLOSED" then error(err, 0) end
  end)
end

-- Starts over where it is: reads wait meanwhile.
local function rebuild_here(view, done)
  view.reason = "asked for"
  view._instance.reason, view._instance.has_skipped = "asked for", false
  local function begun(err)
    if err then return done(err) end
    local target = view._db:_since()
    core.later(function () -- in the next turn: the view may still be at work on its old state
      if view:_is_over() then return done(view:_closed_error()) end
      view:_with_patience(target, nil, done)
    end)
  end
  if view._instance.kind == "sink" then return rebuild_raw(view, begun) end
  view._core:rebuild()
  view:_wake_followers()
  if not view._engine then return begun(nil) end
  view._engine:rebuild(begun)
end

--- done(err) when the view is rebuilt, and has caught up.
function M.rebuild(view, done)
  if view._script.path and not (view._instance and view._instance.host) then
    return view:_reload(true, function (err)
      if err then return done(err) end
      view:_with_patience(view._db:_since(), nil, done)
    end)
  end
  if view._broken then return done(view._broken) end
  rebuild_here(view, done)
end

return M
