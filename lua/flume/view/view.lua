-- A mounted view: what db.NAME is.
--
--   db.NAME:METHOD(args… [, cb])    the view's methods, by their type
--       sync     answers with what there is now, and waits for nothing
--       async    waits until the view has come to the log's since as of the call
--       source   the same, and gives a stream of results
--       record   as async; it answers with the seq of a record, and the caller gets the record and the seq
--       records  as source; each result is a key and the seq of a record, and the caller gets key, record and seq
--   db.NAME.since, db.NAME.progress observables
--   db.NAME:ready([cb])             waits until the view has caught up
--   db.NAME:rebuild([cb])           builds it anew from the log, and waits for that
--   db.NAME:skip(seq [, cb])        passes over a record from now on
--   db.NAME:accept(reason [, cb])   keeps the state although version or source have changed
--   db.NAME:explain([options, cb])  a dry run over some records
--
-- Waiting is steered by the last argument, when that is a table: since = n waits for n instead, wait = false (or
-- since = -1) not at all, timeout = ms gives up.
--
-- What answers is an instance: a version of the view, as C has it (lua/view/lua_view.h). While another version is built there is
-- a second one, which takes its place when it has caught up: see versions.lua.

local async = require "flume.async"
local deltas = require "flume.view.deltas"
local errors = require "flume.errors"
local observable = require "flume.observable"
local source = require "flume.view.source_stream"

local View = {}
View.__name = "flume.view"

View.RESERVED = {
  since = true, progress = true, ready = true, rebuild = true, skip = true, accept = true, explain = true, name = true,
  version = true, reason = true, methods = true,
}

-- --- Waiting -----------------------------------------------------------------------------------------------------

function View:_closed_error()
  return errors.new(('view "%s": the database was closed'):format(self.name), "ECLOSED")
end

function View:_is_over()
  return self._db.closed or self._db.closing
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

local function timeout_error(self, target)
  local current = self._core:since()
  local share = target > 0 and math.max(0, current + 1) * 100 // (target + 1) or 0
  return errors.new(('timeout: view "%s" is at %d of %d (%d %%)'):format(self.name, current, target, share),
    "ETIMEDOUT")
end

local function has_come_to(self, target)
  return target < 0 and self._db:_is_ready() or self._core:has(target)
end

--- Calls done() when the view has come to target, done(err) when it can't.
function View:_wait(target, timeout_ms, done, deadline)
  if self._broken then return done(self._broken) end
  if self:_is_over() then return done(self:_closed_error()) end
  if has_come_to(self, target) then return done(self:_failure()) end
  local core = self._core
  deadline = deadline or timeout_ms and self._db._now() + timeout_ms
  core:wait(target, timeout_ms, function (code)
    if code == nil then return done(nil) end
    if code == "ETIMEDOUT" then return done(timeout_error(self, target)) end
    if core ~= self._core and not self:_is_over() then -- another version has taken its place
      return self:_wait(target, deadline and math.max(0, deadline - self._db._now()), done, deadline)
    end
    if code == "ECLOSED" or self:_is_over() then return done(self:_closed_error()) end
    local _, why = self._db.log:following()
    done(self:_failure() or errors.new(why or code, code))
  end)
end

--- Whether a call that waits for target (nil: for nothing) would be answered at once, and not with an error.
function View:_has(target)
  if self._broken or self:_is_over() then return false end
  if target ~= nil and not has_come_to(self, target) then return false end
  return self._core:failure() == nil
end

local function is_options(value)
  return type(value) == "table" and (value.since ~= nil or value.wait ~= nil or value.timeout ~= nil)
end

local function check_integer(self, method, name, value, level)
  if value ~= nil and not (type(value) == "number" and math.tointeger(value)) then
    error(("%s:%s: option %s must be an integer, not %s"):format(self.name, method, name, tostring(value)), level)
  end
  return value and math.tointeger(value)
end

-- How far the call waits (nil: not at all), and how long.
local function patience(self, method, args)
  local last = args[args.n]
  local options = is_options(last) and last or {}
  local since = check_integer(self, method, "since", options.since, 5)
  local timeout_ms = options.timeout
  if timeout_ms ~= nil and not (type(timeout_ms) == "number" and timeout_ms >= 0) then
    error(("%s:%s: option timeout must be a number of milliseconds, not %s"):format(self.name, method,
      tostring(timeout_ms)), 5)
  end
  if options.wait == false or since == -1 then return nil, timeout_ms end
  return since or self._db:_since(), timeout_ms
end

-- A raw view tells by itself how far it has come.
local function wait_for_raw(self, target, timeout_ms, done)
  local host = self._instance.host
  local since = host and host.raw and host.raw.since
  if not observable.is(since) or (since:get() or -1) >= target then return done(nil) end
  local off
  local function answer(err)
    if not off then return end
    off()
    off = nil
    self._raw_waits[answer] = nil
    done(err)
  end
  off = since(function (value)
    if (value or -1) >= target then answer(nil) end
  end, false)
  self._raw_waits[answer] = true
  if not timeout_ms then return end
  self._core:wait(math.maxinteger, timeout_ms, function (code)
    if code == "ETIMEDOUT" then answer(timeout_error(self, target)) end
  end)
end

--- Waits as a call does: done(err) at once when target is nil.
function View:_with_patience(target, timeout_ms, done)
  if target == nil then
    if self._broken then return done(self._broken) end
    if self:_is_over() then return done(self:_closed_error()) end
    return done(self:_failure())
  end
  self:_wait(target, timeout_ms, function (err)
    if err then return done(err) end
    wait_for_raw(self, target, timeout_ms, done)
  end)
end

-- --- Calling -----------------------------------------------------------------------------------------------------

local function view_error(self, raised)
  local message = type(raised) == "table" and raised.message or raised
  return errors.new(('view "%s": %s'):format(self.name, tostring(message)), "EVIEW")
end

-- What the view has by itself does little, so that it is not worth another thread when the view has nothing to do.
local QUICK = {page = true, recent = true, follow = true, came = true}

--- host[name](...) where the host of the instance lives; done(err, results...).
function View:_call_on(instance, done, name, ...)
  if self:_is_over() then return done(self:_closed_error()) end
  if instance.host then
    local results = table.pack(pcall(instance.host[name], ...))
    if results[1] then return done(nil, table.unpack(results, 2, results.n)) end
    return done(view_error(self, results[2]))
  end
  if name == "page" then
    local ok, items, resume, since = pcall(instance.core.page_if_idle, instance.core, ...)
    if not ok then return done(view_error(self, items)) end
    if items then return done(nil, items, resume, since) end
  end
  if QUICK[name] or name == "call" and self._builtin[...] then
    local results = table.pack(instance.core:call_if_idle(name, ...))
    if results[1] then return done(nil, table.unpack(results, 2, results.n)) end
    if results[2] then return done(errors.new(results[2], results[3])) end
  end
  local ok, message, code = instance.core:call(done, name, ...)
  if not ok then done(errors.new(message, code)) end
end

--- The page of the instance that answers, when that is at hand and all is well: items, and what to go on with; or nil.
function View:_page_now(...)
  local instance = self._instance
  local host = instance.host
  local ok, items, resume
  if host then ok, items, resume = pcall(host.page, ...)
  else ok, items, resume = pcall(instance.core.page_if_idle, instance.core, ...) end
  if ok then return items, resume end
end

local function answer_now(self, method, args, done)
  local err = self:_failure()
  if err then return done(err) end
  local instance = self._instance
  if instance.host then
    local results = table.pack(pcall(instance.host.call, method, table.unpack(args, 1, args.n)))
    if results[1] then return done(nil, table.unpack(results, 2, results.n)) end
    return done(view_error(self, results[2]))
  end
  local results = table.pack(instance.core:call_now("call", method, table.unpack(args, 1, args.n)))
  if results[1] then return done(nil, table.unpack(results, 2, results.n)) end
  return done(errors.new(results[2], results[3]))
end

local function as_results(err, ...)
  if err ~= nil then return errors.unpack(err) end
  return ...
end

local function call_sync(self, method, args, cb)
  if not cb then return answer_now(self, method, args, as_results) end
  return async.call(function (done) answer_now(self, method, args, done) end, cb)
end

-- The entry of an index that has no value of its own stands for the record that it is of.
local function resolving(self, done)
  return function (err, value, seq)
    if err ~= nil or value ~= nil or seq == nil then return done(err, value, seq) end
    local record, message, code = self._db:_record(seq)
    if record == nil and message then return done(errors.new(message, code)) end
    done(nil, record, seq)
  end
end

-- The record whose seq a method answers with.
local function fetching(self, method, done)
  return function (err, seq)
    if err ~= nil or seq == nil then return done(err) end
    if math.type(seq) ~= "integer" then
      return done(errors.new(('view "%s": %s must answer with a seq, not a %s'):format(self.name, method, type(seq)),
        "EVIEW"))
    end
    resolving(self, done)(nil, nil, seq)
  end
end

local function call_async(self, method, args, cb)
  local target, timeout_ms = patience(self, method, args)
  return async.call(function (done)
    if self.methods[method] == "record" then done = fetching(self, method, done) end
    if method == "get" and self._kind == "index" and self._builtin.get then done = resolving(self, done) end
    self:_with_patience(target, timeout_ms, function (err)
      if err then return done(err) end
      self:_call_on(self._instance, done, "call", method, table.unpack(args, 1, args.n))
    end)
  end, cb)
end

-- Without a callback: for use in a for loop. With one: cb(nil, source), whose first next waits.
local function open_source(self, method, args, cb)
  local target, timeout_ms = patience(self, method, args)
  local new = method == "deltas" and self._builtin.deltas and deltas.new or source.new
  local opened = new(self, method, args, target, timeout_ms)
  if cb then return async.call(function (done) done(nil, opened) end, cb) end
  return opened, nil, nil, opened
end

-- --- The handle --------------------------------------------------------------------------------------------------

local CALLS = {
  sync = call_sync, async = call_async, record = call_async, source = open_source, records = open_source,
}

function View:_check_alive(method, level)
  if self:_is_over() then
    error(('%s:%s: the database is closed'):format(self.name, method), level + 1)
  end
end

local function method_of(self, method)
  local known = self._calls[method]
  local kind = self.methods[method]
  if known or not kind then return known end
  local call = CALLS[kind]
  local function call_method(view, ...)
    if view ~= self then error(("call it as db.%s:%s(...)"):format(self.name, method), 2) end
    self:_check_alive(method, 2)
    local cb, args = async.split_callback(...)
    return call(self, method, args, cb)
  end
  self._calls[method] = call_method
  return call_method
end

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
    if rawget(self, "_broken") and not View.RESERVED[key] and key:sub(1, 1) ~= "_" then
      return function () return errors.unpack(self._broken) end
    end
    local call = method_of(self, key)
    if not call and key == "deltas" then return no_deltas end
    return call
  end
  return nil
end

--- Where an instance is on its way: start, current, target, rate (records a second), eta (seconds; nil: not known).
function View:_progress_of(instance)
  local current, target = instance.core:since(), self._db:_since()
  local start, elapsed_ms = instance.core:progress()
  local done = current - start
  local rate = elapsed_ms > 0 and done > 0 and done * 1000 / elapsed_ms or 0
  return {
    start = start, current = current, target = target, rate = rate,
    eta = current >= target and 0 or rate > 0 and (target - current) / rate or nil,
  }
end

--- Waits until the view has come to the log's since as of now.
function View:ready(cb)
  self:_check_alive("ready", 2)
  local target = self._db:_since()
  return async.call(function (done)
    self:_with_patience(target, nil, function (err) done(err, err == nil or nil) end)
  end, cb)
end

-- building: behind the log, or another version is on its way; live; stalled: it can't go on at the moment; failed.
local function state_of(self, row)
  local message, seq, traceback = self._core:failure()
  local reason, stalls = self._core:reason()
  if message then
    row.state, row.error, row.seq, row.traceback = "failed", message, seq, traceback
  elseif not self._db:_is_ready() then
    row.state, row.reason = "stalled", "the database is not ready"
  elseif stalls then
    row.state, row.reason = "stalled", reason
  else
    local has_heir = self._next and not self:_failure(self._next)
    row.state = (has_heir or row.since < row.target) and "building" or "live"
    row.reason = reason or row.reason
  end
end

--- One row of db:status().
function View:_status()
  local row = {
    name = self.name, kind = self._kind, version = self.version, reason = self.reason, target = self._db:_since(),
    reload_error = self._reload_error and self._reload_error.message, accepted = self:_accepted(),
    uses = self._instance and self._instance.uses,
  }
  if self._broken then
    row.state, row.since, row.error, row.lag = "failed", -1, self._broken.message, row.target + 1
    return row
  end
  row.since = self._core:since()
  row.lag = row.target - row.since
  row.size = self._core:size() + (self._engine and self._engine.indexes:size_bytes() or 0)
  state_of(self, row)
  local progress = self:_progress_of(self._next or self._instance)
  row.rate, row.eta = progress.rate, progress.eta
  if self._next then
    local failure = self:_failure(self._next)
    row.next = {
      version = self._next.version, since = progress.current, reason = self._next.reason,
      state = failure and "failed" or "building", error = failure and failure.message,
    }
  end
  return row
end

--- The view, and the indexes that it has made: by names for messages.
function View:_parts()
  local parts = {[self.name] = self}
  for _, index in ipairs(self._engine and self._engine.indexes:list() or {}) do
    parts[self.name .. "/" .. index.name] = index.view
  end
  return parts
end

--- Closes the view's part; done() when that is over.
function View:_close(done)
  if self._broken then return done() end
  local gone, waits = self:_closed_error(), self._raw_waits
  self._raw_waits = {}
  for answer in pairs(waits) do answer(gone) end
  if not self._engine then return self:_end_all(done) end
  self._engine:close(function () self:_end_all(done) end)
end

function View:__tostring()
  return ("flume.view: %s"):format(self.name)
end

-- --- Observables -------------------------------------------------------------------------------------------------

-- Whoever watches since goes on watching when another instance takes the place, or the first one comes.
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
      return self._core:since()
    end,
    start = function (notify) return watch_since(self, notify) end,
    call = async.spawn,
  })
  self.progress = observable.new(nil, {
    get = function ()
      if self._broken or self:_is_over() then return nil end
      return self:_progress_of(self._next or self._instance)
    end,
    start = function (notify) return self.since(function () notify() end, false) end,
    call = async.spawn,
  })
end

--- Makes another instance the one that answers.
function View:_answer_with(instance)
  local before = self._core and self._core:since()
  self._instance, self._core = instance, instance.core
  self.methods, self._builtin, self._kind = instance.methods, instance.builtin, instance.kind
  self.version, self.reason = instance.version, instance.reason
  self._calls = {}
  for watcher in pairs(self._watchers) do
    if watcher.observer then watcher.observer:stop() end
    watcher.observer = self._core:observe(watcher.notify)
    if self._core:since() ~= before then watcher.notify() end
  end
  for wake in pairs(self._followers) do wake() end
end

--- A handle without an instance. script: what it is mounted from, for versions.lua; nil for one that could not be
--- mounted.
function View.new(db, name, script)
  local self = setmetatable({
    name = name,
    version = nil,
    reason = nil,             -- why the instance that answers was built anew, or nil
    methods = {},             -- name -> "sync" | "async" | "source" | "record" | "records"
    _calls = {},              -- name -> function: those of them that were called
    _kind = nil,
    _builtin = {},            -- name -> true: the kind's own
    _db = db,
    _script = script,
    _instance = nil,          -- the one that answers
    _core = nil,              -- of it
    _next = nil,              -- the one that is built to take its place
    _heir = nil,              -- {instance =, swaps =}: the one that is to take over its state when it is quiet
    _engine = nil,            -- what has the methods in place of the instance (kinds.lua), or nil
    _instances = {},          -- set of all that are open
    _followers = {},          -- set of functions to be called when another instance answers, or starts over
    _watchers = {},           -- set of {notify =, observer =}
    _raw_waits = {},          -- set of functions that answer the calls that wait for a raw view's since
    _activating = nil,        -- while a version is made the active one on disk: list of functions to be called then
    _ending = {},             -- instance that is being closed -> list of functions to be called then
    _erasing = nil,           -- while its store is written anew: list of functions to be called then; see erasure.lua
    _notes = nil,             -- what it keeps from one version to the next: notes.lua
    _dry = {},                -- set of the instances that make dry runs
    _swaps = {},              -- list of functions that wait until the next instance answers: done(err)
    _reload_error = nil,      -- why the file as it is now could not be mounted
    _broken = false,          -- or why the view could not be mounted at all: all that is asked of it answers this error
    since = nil,
    progress = nil,
  }, View)
  add_observables(self)
  return self
end

return View
