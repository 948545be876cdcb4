-- A mounted view: what db.NAME is.
--
--   db.NAME:METHOD(args… [, cb])    the view's methods, by their type
--       sync     answers with the present state, and waits for nothing
--       async    waits until the view has reached the log's since as of the call
--       source   the same, and gives a stream of results
--       record   as async; it answers with the seq of a record, and the caller gets the record and the seq
--       records  as source; each result is a key and the seq of a record, and the caller gets key, record and seq
--   db.NAME.since, db.NAME.progress observables
--   db.NAME:ready([cb])             waits until the view has caught up
--   db.NAME:rebuild([cb])           makes its state again from the log, and waits for that
--   db.NAME:skip(seq [, cb])        passes over a record from now on
--   db.NAME:accept(reason [, cb])   keeps the state although version or source have changed
--   db.NAME:explain([options, cb])  a dry run over some records
--
-- This module puts together what the others of this folder do, each with functions or a class of its own:
--
--   waiting, calls       how a call waits, and how it gets to the view's code and back
--   source_stream,       the streams that calls give
--     deltas
--   versions             the instances: which answers, which is pending, what is on disk (state_dirs, instance)
--   overrides            what an operator has decided: records to skip, changes to accept
--   skip, accept,        the methods of these names
--     explain, rebuild
--   dependents           which views use which
--   status, scrub        what db:status and db:compact do with a view
--
-- Methods with a leading underscore are for these modules and for the database; a view's own methods can't have such
-- names.

local accept = require "flume.view.accept"
local async = require "flume.async"
local calls = require "flume.view.calls"
local DryRuns = require "flume.view.explain"
local errors = require "flume.errors"
local instances = require "flume.view.instance"
local kept_failure = require "flume.view.kept_failure"
local observable = require "flume.observable"
local options = require "flume.options"
local overrides = require "flume.view.overrides"
local rebuild = require "flume.view.rebuild"
local skip = require "flume.view.skip"
local status = require "flume.view.status"
local Versions = require "flume.view.versions"
local waiting = require "flume.view.waiting"

local M = {}

local View = {}
View.__name = "flume.view"

-- --- Failures ----------------------------------------------------------------------------------------------------

--- The error of whatever is asked when the database is closed.
function View:_closed_error()
  if self._dropped then return errors.new(('view "%s": it was dropped'):format(self.name), "ECLOSED") end
  return errors.new(('view "%s": the database was closed'):format(self.name), "ECLOSED")
end

--- Whether the view was dropped, or the database is closed or is being closed.
function View:_is_over()
  return self._dropped or self._db.closed or self._db.closing
end

--- Raises, at a level of the caller's stack, when the view is over.
function View:_check_alive(method, level)
  if self._dropped then error(("%s:%s: the view was dropped"):format(self.name, method), level + 1) end
  if self:_is_over() then
    error(('%s:%s: the database is closed'):format(self.name, method), level + 1)
  end
end

--- Why an instance (by default the one that answers) has failed, or nil.
function View:_failure(instance)
  if self._broken then return self._broken end
  local message, seq, _, code = (instance or self._instance).core:failure()
  if not message then return nil end
  if code ~= "EVIEW" then return errors.new(('view "%s": %s'):format(self.name, message), code) end
  if seq < 0 then return errors.new(('view "%s" failed: %s'):format(self.name, message), code) end
  return errors.new(('view "%s" failed at record %d: %s'):format(self.name, seq, message), code)
end

-- --- What streams use --------------------------------------------------------------------------------------------

View._wait, View._with_patience, View._has = waiting.wait, waiting.with_patience, waiting.has
View._call_on, View._page_now = calls.call_on, calls.page_now

--- The instance that answers.
function View:_current()
  return self._instance
end

--- An iterator that was open in the instance (Instance:pin) is closed.
function View:_unpin(instance)
  self._versions:unpin(instance)
end

--- Which records are skipped, see overrides.lua.
function View:_overridden()
  return self._overrides
end

--- The core's handle of the log.
function View:_log()
  return self._db.log.core
end

--- The function from a record as it is in the log to what readers see; nil when these are the same.
function View:_transform()
  return self._db.log:transform(self._db._map)
end

--- The value of a record; nil, message, code.
function View:_record(seq)
  return self._db:_record(seq)
end

--- The value of a deleted record; nil when its bytes are gone.
function View:_deleted_record(seq)
  return self._db:_deleted_record(seq)
end

--- Calls fn() when another instance answers, or the one that answers starts over; until the function that this returns
--- is called.
function View:_on_change(fn)
  self._followers[fn] = true
  return function () self._followers[fn] = nil end
end

function View:_wake_followers()
  for wake in pairs(self._followers) do wake() end
end

-- --- The handle --------------------------------------------------------------------------------------------------

-- Why a view has no deltas.
local function no_deltas(self)
  local why = self._engine and "a view of queries has no state to copy; a live query tells of what comes"
    or "it keeps itself, and tells nothing of its changes"
  error(("%s:deltas: %s"):format(self.name, why), 2)
end

function View.__index(self, key)
  local engine = rawget(self, "_engine")
  if engine and engine.METHODS[key] then return engine.METHODS[key] end
  local own = View[key]
  if own ~= nil then return own end
  local methods = rawget(self, "methods")
  if methods and type(key) == "string" then
    if rawget(self, "_broken") and not instances.RESERVED[key] and key:sub(1, 1) ~= "_" then
      return function () return errors.unpack(self._broken) end
    end
    local call = calls.method_of(self, key)
    if not call and key == "deltas" then return no_deltas end
    return call
  end
  return nil
end

-- Raises when the view is closed, or when a method was called with a dot.
local function check_alive(self, what, level)
  if getmetatable(self) ~= View then errors.misused("view", what, self, level) end
  self:_check_alive(what, level)
end

--- Waits until the view has reached the log's since as of now.
function View:ready(cb)
  check_alive(self, "ready", 3)
  local target = self._db:_since()
  return async.call(function (done)
    self:_with_patience(target, nil, function (err) done(err, err == nil or nil) end)
  end, cb)
end

--- Makes the view's state again from the log, and waits until it has caught up. A script goes on answering meanwhile.
function View:rebuild(cb)
  check_alive(self, "rebuild", 3)
  return async.call(function (done)
    rebuild.rebuild(self, function (err) done(err, err == nil or nil) end)
  end, cb)
end

--- From now on the view passes over the record seq, and so does each view that uses it; also when they are rebuilt. A
--- view that failed at the record goes on behind it. A view that has consumed the record is rebuilt without it, and
--- this waits for that. Durable when it returns.
function View:skip(seq, cb)
  check_alive(self, "skip", 3)
  if math.type(seq) ~= "integer" or seq < 0 then
    error(("%s:skip: seq must be an integer from 0 on, not %s"):format(self.name, errors.given(seq)), 2)
  end
  return async.call(function (done)
    skip.skip(self, seq, function (err) done(err, err == nil or nil) end)
  end, cb)
end

--- Keeps the state although the version has changed, or the source of a view without one: you vouch that the new code
--- would make the same state. Ends a rebuild that is under way for that reason. The reason is kept, see status.
function View:accept(reason, cb)
  check_alive(self, "accept", 3)
  if type(reason) ~= "string" or not reason:find "%S" then
    error(("%s:accept: say why the state can be kept"):format(self.name), 2)
  end
  return async.call(function (done)
    accept.accept(self, reason, function (err) done(err, err == nil or nil) end)
  end, cb)
end

local EXPLAIN_OPTIONS = {from = "integer", to = "integer"}

--- A dry run of the view, as its file is now, over the records from to to, without committing anything. By default over
--- the records that it has not consumed; over all when there are none. It begins with the view's state when from is the
--- next record of the view, else with its initial state (starts_with).
---
--- Results: records, deleted, skipped; ms, us_per_record, bytes_per_record; slowest (a list of {seq =, us =, bytes =});
--- what changes: before and after, or changed (how many) and groups or entries (the first hundred); and error {seq =,
--- message =, traceback =} when it raises.
function View:explain(given, cb)
  check_alive(self, "explain", 3)
  if cb == nil and type(given) == "function" then given, cb = nil, given end
  local range = options.check(self.name .. ":explain", given, EXPLAIN_OPTIONS, 2)
  if (range.from or 0) < 0 then error(self.name .. ":explain: from is below 0", 2) end
  return async.call(function (done) self._dry_runs:explain(range, done) end, cb)
end

function View:__tostring()
  return ("flume.view: %s"):format(self.name)
end

-- --- What the database uses --------------------------------------------------------------------------------------

View._status = status.row

--- Mounts what the view's file says now, if that has changed; done(err) when it answers. force: also when it has not
--- changed.
function View:_reload(force, done)
  local versions = self._versions
  if self._broken and not self._script.path then return done(self._broken) end -- its name is taken
  versions:reload(force, function (err)
    if self._broken and err ~= nil and err == versions.reload_error then self._broken = err end
    done(err)
  end)
end

--- Whether the view uses the one of this name.
function View:_uses(name)
  for _, used in ipairs(self._instance and self._instance.uses or {}) do
    if used == name then return true end
  end
  return false
end

--- The files that the view is made of: a list of paths. A view that could not be mounted knows its script alone.
function View:_files()
  local script, files = self._script, {}
  files[1] = script.path
  files[#files + 1] = script.mapper_path
  local search = script.folder and script.folder .. "/?.lua" or ""
  if script.trusted then search = search .. ";" .. package.path end
  for _, instance in ipairs {self._instance, self._versions.pending} do
    for _, name in ipairs(instance.modules) do files[#files + 1] = package.searchpath(name, search) end
  end
  return files
end

--- Mounts a view of the same records that belongs to this one. state_dir: where its states are kept, or nil. A view;
--- nil, message, code.
function View:_mount_part(definition, state_dir)
  local script = {}
  for key, value in pairs(self._script) do script[key] = value end
  script.definition, script.state_dir = definition, state_dir
  script.path, script.folder, script.accept = nil, nil, nil
  return M.mount(self._db, script)
end

--- The view, and the indexes that it has made: by names for messages.
function View:_parts()
  local parts = {[self.name] = self}
  for _, index in ipairs(self._engine and self._engine.indexes:list() or {}) do
    parts[self.name .. "/" .. index.name] = index.view
  end
  return parts
end

--- Closes the view; done() when that is over.
function View:_close(done)
  if self._broken then return done() end
  kept_failure.settle(self)
  waiting.end_raw_waits(self, self:_closed_error())
  local function end_all()
    self._dry_runs:stop(function () self._versions:close(done) end)
  end
  if not self._engine then return end_all() end
  self._engine:close(end_all)
end

-- --- Observables -------------------------------------------------------------------------------------------------

-- A watcher of since goes on when another instance takes the place, or the first one comes.
local function watch_since(self, notify)
  local watcher = {notify = notify, observer = self._core and self._core:observe(notify)}
  self._watchers[watcher] = true
  return function ()
    self._watchers[watcher] = nil
    if watcher.observer then watcher.observer:stop() end
  end
end

local function add_observables(self)
  self.since = observable.new(nil, {
    get = function ()
      if self._broken then return -1 end
      self._versions:take_news()
      return self._core:since()
    end,
    start = function (notify) return watch_since(self, notify) end,
    call = async.spawn,
  })
  self.progress = observable.new(nil, {
    get = function ()
      if self._broken or self:_is_over() then return nil end
      return status.progress(self, self._versions.pending or self._instance)
    end,
    start = function (notify) return self.since(function () notify() end, false) end,
    call = async.spawn,
  })
end

--- Makes an instance the one that answers.
function View:_answer_with(instance)
  local before = self._core and self._core:since()
  if self._broken then self._db._dependents:note_broken(self.name, false) end
  self._broken = false
  self._instance, self._core = instance, instance.core
  self.methods, self._builtin, self._kind = instance.methods, instance.builtin, instance.kind
  self.version, self.reason = instance.version, instance.reason
  self._calls = {}
  for watcher in pairs(self._watchers) do
    if watcher.observer then watcher.observer:stop() end
    watcher.observer = self._core:observe(watcher.notify)
    if self._core:since() ~= before then watcher.notify() end
  end
  self:_wake_followers()
end

-- --- Mounting ----------------------------------------------------------------------------------------------------

-- A handle without an instance.
local function new(db, script)
  local overridden = overrides.open(script.state_dir, not script.reads_only)
  local self = setmetatable({
    name = script.name,
    version = nil,
    reason = nil,             -- why the instance that answers was rebuilt, or nil
    methods = {},             -- name -> "sync" | "async" | "source" | "record" | "records"
    since = nil,
    progress = nil,
    _db = db,
    _script = script,         -- what it is mounted from
    _overrides = overridden,
    _versions = nil,          -- its instances
    _dry_runs = nil,
    _instance = nil,          -- the one that answers
    _core = nil,              -- of it
    _kind = nil,              -- of it
    _builtin = {},            -- of it: name -> true: the methods of its kind
    _calls = {},              -- name -> function: the methods that were called
    _engine = nil,            -- of a query view: what has the methods in place of the instance, or nil
    _followers = {},          -- set of functions to be called when another instance answers, or starts over
    _watchers = {},           -- set of {notify =, observer =}
    _raw_waits = {},          -- set of functions that answer the calls that wait for a raw view's since
    _kept_failure = nil,      -- of an earlier process (kept_failure.lua)
    _broken = false,          -- or why the view could not be mounted: the answer to whatever is asked of it
  }, View)
  self._versions = Versions.new(self, db, script, overridden)
  self._dry_runs = DryRuns.new(self)
  add_observables(self)
  return self
end

--- script: name; definition, or path and folder; mapper or mapper_path; decode; in_caller: not in a state of its own;
--- state_dir: where states are kept, or nil; reads_only; lock: path of the log's lock file; memory, budget; accept: why
--- the state can be kept although the version or the source has changed. A view, or nil, message, code.
function M.mount(db, script)
  local instance, message, code = instances.new(db, script)
  if not instance then return nil, message, code end
  local self = new(db, script)
  local since
  since, message, code = self._versions:begin(instance, script.accept)
  if not since then return nil, message, code end
  kept_failure.load(self, instance)
  local host = instance.host
  if host and host.engine then self._engine = host.engine.new(self) end
  if host and host.raw then
    function host.start_over() rebuild.start_over_raw(self) end
  end
  return self
end

--- A view that could not be mounted: its name is taken, and all that is asked of it answers the error. A reload may
--- mount it.
function M.broken(db, script, message, code)
  local self = new(db, script)
  self._versions.dirs:read_active()
  self._broken = errors.new(message, code == "EINVAL" and "EVIEW" or code)
  db._dependents:note_broken(self.name, true)
  return self
end

return M
