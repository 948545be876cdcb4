-- The second half of a compaction: when the bytes of deleted records are gone from the log, they are removed from what
-- views have stored. Each view takes back what was deleted, and its store is rewritten (core/view/view_scrub.c) as a
-- version with a new number; the old version is removed.
--
-- A view that can't be scrubbed doesn't keep the others from it: the answer names each view whose files may still have
-- such bytes, and why.

local core = require "flume.core"
local errors = require "flume.errors"

local view_dir = core.view_dir

local M = {}

-- --- A view ------------------------------------------------------------------------------------------------------

local scrub_view

-- A pending version takes its place first; calls back when it has, or can't.
local function after_swap(view, versions, done)
  local failed = view:_failure(versions.pending)
  if failed then return done(failed) end
  versions:after_swap(function (err)
    if err then return done(err) end
    core.later(function () scrub_view(view, done) end)
  end)
end

-- The older versions may have deleted records: they are removed, those that are being closed as soon as they are.
local function remove_older(view, versions, done)
  if view:_is_over() then return done(view:_closed_error()) end
  if versions:when_closed(function () remove_older(view, versions, done) end) then return end
  local why = versions:why_older_remain()
  if why then return done(errors.new(why, "EBUSY")) end
  local ok, message, code = versions:remove_unused()
  done(not ok and errors.new(message, code) or nil)
end

-- done(err): nothing is left of deleted records, or why something may be.
function scrub_view(view, done)
  if view:_is_over() then return done(view:_closed_error()) end
  local instance, versions = view._instance, view._versions
  local function again() scrub_view(view, done) end
  if not versions.dirs.dir or not instance or instance.kind == "sink" then return done(nil) end
  if versions:when_settled(again) then return end
  if versions.pending then return after_swap(view, versions, done) end
  if instance.has_skipped then return done(errors.new("a record that it skips is being taken out", "EBUSY")) end
  versions:rewrite(function (err)
    if err and not view:_is_over() and (err.code == "EAGAIN" or view._instance ~= instance) then
      return core.later(again)
    end
    if err then return done(err) end
    remove_older(view, versions, done)
  end)
end

-- --- All views ---------------------------------------------------------------------------------------------------

-- Why the stores of a view that is not mounted may contain deleted records; nil: they don't.
local function left_unmounted(db, dir, deletions)
  if db.log.state_dirs[dir] then return "another database on this log has mounted it" end
  for _, number in ipairs(view_dir.list(dir) or {}) do
    local erased, message = view_dir.erased(dir, number)
    if not erased then return message end
    if erased < deletions then return "it is not mounted; db:drop(name) removes its state" end
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

--- Waits until the stores of all views contain no record that was deleted before: done(err). The error names each view
--- that may still contain one.
function M.scrub(db, done)
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
  local function scrub_one(name, view)
    pending = pending + 1
    scrub_view(view, function (err)
      left[name] = err and err.message
      one()
    end)
  end
  for _, mounted in pairs(db._views) do
    for name, view in pairs(mounted:_parts()) do
      if not view._broken then scrub_one(name, view) end
    end
  end
  one()
end

return M
