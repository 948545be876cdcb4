-- The second half of a compaction: when the bytes of deleted records are gone from the log, they go from what views
-- have stored. Each takes back what was deleted, and its store is written anew (lua/view/lua_view_erase.c) as a version with
-- another number; the old one is removed.
--
-- What can't be done is no reason to leave the rest: the answer names each view whose files may still have such bytes,
-- and why.

local core = require "flume.core"
local errors = require "flume.errors"
local versions = require "flume.view.versions"

local dirs = core.view_dir

local M = {}

-- --- A version ---------------------------------------------------------------------------------------------------

-- The instance goes on under another number, which takes the old one's place everywhere.
local function renumber(self, instance, number)
  local before = instance.number
  instance.number = number
  if self._active_number == before then self._active_number = number end
  return dirs.remove(self._script.state_dir, before)
end

local function erase_instance(self, instance, done)
  local number = versions.next_number(self)
  self._erasing = {}
  instance.core:erase(number, function (err, settled_as)
    local waiting, ok, message, code = self._erasing, true, nil, nil
    self._erasing = nil
    if not err and settled_as == number then ok, message, code = renumber(self, instance, number) end
    for _, again in ipairs(waiting) do again() end
    done(err or not ok and errors.new(message, code) or nil)
  end)
end

-- --- A view ------------------------------------------------------------------------------------------------------

local function earlier_versions(self)
  for instance in pairs(self._instances) do
    if instance.retired and instance.number then return "an iterator is open in a version before" end
  end
  if next(self._ending) then return "a version before is being closed" end
  local active, message = dirs.active(self._script.state_dir)
  if active and active ~= self._instance.number then return "a version before is the active one on disk" end
  return message
end

local erase_view

-- A version that is being built takes its place first; calls back when it has, or can't.
local function after_swap(self, done)
  local failed = self:_failure(self._next)
  if failed then return done(failed) end
  self._swaps[#self._swaps + 1] = function (err)
    if err then return done(err) end
    core.later(function () erase_view(self, done) end)
  end
end

-- done(err): nothing is left of what was deleted, or why there may be.
function erase_view(self, done)
  if self:_is_over() then return done(self:_closed_error()) end
  local instance = self._instance
  if not self._script.state_dir or not instance or instance.kind == "sink" then return done(nil) end
  local waiting = self._erasing or self._activating
  if waiting then
    waiting[#waiting + 1] = function () erase_view(self, done) end
    return
  end
  if self._next then return after_swap(self, done) end
  if instance.has_skipped then return done(errors.new("a record that it skips is being taken out", "EBUSY")) end
  erase_instance(self, instance, function (err)
    if err and not self:_is_over() and (err.code == "EAGAIN" or self._instance ~= instance) then
      return core.later(function () erase_view(self, done) end)
    end
    if err then return done(err) end
    local why = earlier_versions(self)
    if why then return done(errors.new(why, "EBUSY")) end
    local ok, message, code = versions.remove_unused(self)
    done(not ok and errors.new(message, code) or nil)
  end)
end

-- --- All views ---------------------------------------------------------------------------------------------------

-- Why the stores of a view that nobody has mounted may have something left; nil: they have not.
local function left_unmounted(db, dir, deletions)
  if db.log.state_dirs[dir] then return "another database on this log has mounted it" end
  for _, number in ipairs(dirs.list(dir) or {}) do
    local erased, message = dirs.erased(dir, number)
    if not erased then return message end
    if erased < deletions then return "it is not mounted" end
  end
  return nil
end

local function describe(left)
  local list = {}
  for name, why in pairs(left) do list[#list + 1] = ('view "%s": %s'):format(name, why) end
  table.sort(list)
  return errors.new("bytes of deleted records are gone from the log, but may be left in views: " ..
    table.concat(list, "; "), "EVIEW")
end

local function find_unmounted(db, deletions, left)
  local function look(name)
    local dir = db.dir .. "/views/" .. name
    left[name] = left_unmounted(db, dir, deletions)
    for _, index in ipairs(core.list_dir(dir .. "/indexes") or {}) do look(name .. "/indexes/" .. index) end
  end
  for _, name in ipairs(core.list_dir(db.dir .. "/views") or {}) do
    local view = rawget(db._views, name)
    if not view or view._broken then look(name) end
  end
end

--- Waits until nothing is left of what was deleted before in what views have stored: done(err) with a text that names
--- those of which that can't be said.
function M.erase(db, done)
  if db.closed or db.closing then return done(errors.new("the database was closed", "ECLOSED")) end
  local deletions = db.dir and db.log.core:deletions() or 0
  if deletions == 0 then return done(nil) end
  if not db:_is_ready() then
    return done(errors.new("compact: views do not go on while the database is not ready", "EBUSY"))
  end
  local pending, left = 1, {}
  local function one()
    pending = pending - 1
    if pending > 0 then return end
    if db.closed or db.closing then return done(errors.new("the database was closed", "ECLOSED")) end
    find_unmounted(db, deletions, left)
    done(next(left) and describe(left) or nil)
  end
  local function erase_one(name, view)
    pending = pending + 1
    erase_view(view, function (err)
      left[name] = err and err.message
      one()
    end)
  end
  for _, mounted in pairs(db._views) do
    for name, view in pairs(mounted:_parts()) do
      if not view._broken then erase_one(name, view) end
    end
  end
  one()
end

return M
