-- Compaction, backup and check of a database. For the last two the views rest while their files are read, and then the
-- log has its turn.

local async = require "flume.async"
local errors = require "flume.errors"
local Log = require "flume.log.init"
local scrub = require "flume.view.scrub"
local undecodable = require "flume.log.undecodable"

local M = {}

-- The versions of views that keep a store on disk.
local function stored_instances(db)
  local list = {}
  for _, mounted in pairs(db._views) do
    for _, view in pairs(mounted:_parts()) do
      local versions = view._versions
      for _, instance in ipairs(versions:stored()) do list[#list + 1] = {versions = versions, instance = instance} end
    end
  end
  return list
end

-- Waits until no view writes to its store: done(err, release). From then on none does, until release() is called. The
-- database may be closed before: then err.
local function rest(db, done)
  local pending, resting, over = 1, {}, false
  local function release()
    over = true
    local rested = resting
    resting = {}
    for _, each in ipairs(rested) do each.versions:release(each.instance) end
  end
  local function abort(err)
    if over then return end
    db._waits[abort] = nil
    release()
    done(err)
  end
  local function one()
    pending = pending - 1
    if pending > 0 or over then return end
    db._waits[abort] = nil
    done(nil, release)
  end
  db._waits[abort] = true
  for _, each in ipairs(stored_instances(db)) do
    pending = pending + 1
    each.versions:quiet(each.instance, function ()
      resting[#resting + 1] = each
      if over then return release() end
      one()
    end)
  end
  one()
end

-- Runs begin(views_dir, progress, finish) -> true | nil, message, code. The views rest until its first progress.
local function run(db, where, given, cb, begin)
  local callback, progress = Log.maintenance(where, given, cb)
  return async.call(function (done)
    rest(db, function (err, release)
      if err then return done(err) end
      local released = false
      local function release_once()
        if not released then release() end
        released = true
      end
      local function on_progress(...)
        release_once()
        if progress then progress(...) end
      end
      local function finish(...)
        release_once()
        done(...)
      end
      local views_dir = db.dir and db.dir .. "/views" or nil
      local ok, message, code = begin(views_dir, on_progress, finish)
      if not ok then finish(errors.new(message, code)) end
    end)
  end, callback)
end

function M.compact(db, given, cb)
  if type(given) == "function" and cb == nil then given, cb = nil, given end
  return async.call(function (done)
    db.log:compact(given, function (err, statistics)
      if err then return done(err) end
      scrub.scrub(db, function (failed) done(failed, statistics) end)
    end)
  end, cb)
end

function M.backup(db, dir, given, cb)
  return run(db, "backup", given, cb, function (views_dir, progress, finish)
    return db.log.core:backup(dir, views_dir, progress, finish)
  end)
end

function M.check(db, given, cb)
  return run(db, "check", given, cb, function (views_dir, progress, finish)
    return db.log.core:check(views_dir, progress, function (err, report)
      if report then undecodable.add_to(report, db.log) end
      finish(err, report)
    end)
  end)
end

return M
