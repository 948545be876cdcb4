-- db.NAME:rebuild([cb]): a view's state, made again from the log.
--
-- A script is built beside the version that answers, as by a reload (versions.lua). A view in the caller's state starts
-- over where it is, and a raw one destroys its own state first.

local async = require "flume.async"
local core = require "flume.core"
local versions = require "flume.view.versions"
local View = require "flume.view.view"

local M = {}

-- A raw view destroys its own state, and gets a new sink. One that can't has failed.
local function rebuild_raw(self, done)
  if self:_is_over() then return done(self:_closed_error()) end
  local instance = self._instance
  local handle = instance.core
  handle:hold(true)
  local function finish(message)
    if self:_is_over() then return done(self:_closed_error()) end
    if message then
      handle:fail(message)
      handle:hold(false)
      return done(self:_failure())
    end
    handle:rebuild()
    handle:hold(false)
    done(nil)
  end
  versions.call_raw(instance.host.raw.destroy, function (err)
    if err then return finish("destroy: " .. tostring(err)) end
    local ok, why = pcall(instance.host.start)
    finish(not ok and tostring(type(why) == "table" and why.message or why) or nil)
  end)
end

--- For a raw view that had consumed what is deleted now.
function View:_start_over_raw()
  rebuild_raw(self, function (err)
    if err and err.code ~= "ECLOSED" then error(err, 0) end
  end)
end

-- Starts over where it is: reads wait meanwhile.
local function rebuild_here(self, done)
  self.reason = "asked for"
  self._instance.reason, self._instance.has_skipped = "asked for", false
  local function begun(err)
    if err then return done(err) end
    local target = self._db:_since()
    core.later(function () -- in the next turn: the view may still be at work on what it had
      if self:_is_over() then return done(self:_closed_error()) end
      self:_with_patience(target, nil, done)
    end)
  end
  if self._instance.kind == "sink" then return rebuild_raw(self, begun) end
  self._core:rebuild()
  for wake in pairs(self._followers) do wake() end
  if not self._engine then return begun(nil) end
  self._engine:rebuild(begun)
end

--- done(err) when it has been built anew, and has caught up.
function M.rebuild(self, done)
  if self._script.path and not (self._instance and self._instance.host) then
    return self:_reload(true, function (err)
      if err then return done(err) end
      self:_with_patience(self._db:_since(), nil, done)
    end)
  end
  if self._broken then return done(self._broken) end
  rebuild_here(self, done)
end

--- Builds the view's state again from the log, and waits until it has caught up. A script goes on answering meanwhile.
function View:rebuild(cb)
  self:_check_alive("rebuild", 2)
  return async.call(function (done)
    M.rebuild(self, function (err) done(err, err == nil or nil) end)
  end, cb)
end

return M
