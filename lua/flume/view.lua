-- A mounted view: what db.NAME is.
--
--   db.NAME:METHOD(args… [, cb])    the view's methods, by their type
--       sync     answers at once, with what there is
--       async    waits until the view has come to the log's since as of the call
--       source   the same, and gives a stream of results
--   db.NAME.since, db.NAME.progress observables
--   db.NAME:ready([cb])             waits until the view has caught up
--   db.NAME:rebuild([cb])           starts over, and waits for that
--
-- Waiting is steered by the last argument, when that is a table: since = n waits for n instead, wait = false (or
-- since = -1) not at all, timeout = ms gives up.

local async = require "flume.async"
local core = require "flume.core"
local errors = require "flume.errors"
local make_host = require "flume.host"
local observable = require "flume.observable"

local View = {}
View.__name = "flume.view"

local SCRIPT_MEMORY_BYTES = 256 * 1024 * 1024
local SCRIPT_BUDGET = 200 * 1000 * 1000 -- instructions for one record or call: about a second
local PULL = 256                        -- items of a script's source that cross at once

local RESERVED = {
  since = true, progress = true, ready = true, rebuild = true, name = true, version = true, reason = true,
  methods = true,
}

-- --- Waiting -----------------------------------------------------------------------------------------------------

local function closed_error(self)
  return errors.new(('view "%s": the database was closed'):format(self.name), "ECLOSED")
end

local function failure_of(self)
  if self._broken then return self._broken end
  local message, seq, _, code = self._core:failure()
  if not message then return nil end
  if code ~= "EVIEW" then return errors.new(('view "%s": %s'):format(self.name, message), code) end
  if seq < 0 then return errors.new(('view "%s" failed: %s'):format(self.name, message), code) end
  return errors.new(('view "%s" failed at record %d: %s'):format(self.name, seq, message), code)
end

local function timeout_error(self, target)
  local p = self:_progress_now()
  local share = target > 0 and math.max(0, p.current + 1) * 100 // (target + 1) or 0
  return errors.new(('timeout: view "%s" is at %d of %d (%d %%)'):format(self.name, p.current, target, share),
    "ETIMEDOUT")
end

-- Calls done() when the view has come to target, done(err) when it can't.
local function wait_for(self, target, timeout_ms, done)
  if self._broken then return done(self._broken) end
  if self._db.closed or self._db.closing then return done(closed_error(self)) end
  if target < 0 and self._db:_is_ready() or self._core:has(target) then return done(failure_of(self)) end
  self._core:wait(target, timeout_ms, function (code)
    if code == nil then return done(nil) end
    if code == "ETIMEDOUT" then return done(timeout_error(self, target)) end
    if code == "ECLOSED" then return done(closed_error(self)) end
    local _, why = self._db.log:following()
    done(failure_of(self) or errors.new(why or code, code))
  end)
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
  if timeout_ms ~= nil and type(timeout_ms) ~= "number" then
    error(("%s:%s: option timeout must be a number of milliseconds"):format(self.name, method), 5)
  end
  if options.wait == false or since == -1 then return nil, timeout_ms end
  return since or self._db:_since(), timeout_ms
end

-- A raw view tells by itself how far it has come.
local function wait_for_raw(self, target, timeout_ms, done)
  local since = self._host and self._host.raw and self._host.raw.since
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

local function with_patience(self, target, timeout_ms, done)
  if target == nil then
    if self._broken then return done(self._broken) end
    if self._db.closed or self._db.closing then return done(closed_error(self)) end
    return done(failure_of(self))
  end
  wait_for(self, target, timeout_ms, function (err)
    if err then return done(err) end
    wait_for_raw(self, target, timeout_ms, done)
  end)
end

-- --- Calling -----------------------------------------------------------------------------------------------------

-- host[name](...) where the host lives; done(err, results...).
local function call_host(self, done, name, ...)
  if self._host then
    local results = table.pack(pcall(self._host[name], ...))
    if results[1] then return done(nil, table.unpack(results, 2, results.n)) end
    return done(errors.new(('view "%s": %s'):format(self.name, tostring(results[2])), "EVIEW"))
  end
  local ok, message, code = self._core:call(done, name, ...)
  if not ok then done(errors.new(message, code)) end
end

local function call_sync(self, method, args)
  local err = failure_of(self)
  if err then return errors.unpack(err) end
  if self._host then
    local results = table.pack(pcall(self._host.call, method, table.unpack(args, 1, args.n)))
    if results[1] then return table.unpack(results, 2, results.n) end
    return nil, ('view "%s": %s'):format(self.name, tostring(results[2])), "EVIEW"
  end
  local results = table.pack(self._core:call_now("call", method, table.unpack(args, 1, args.n)))
  if results[1] then return table.unpack(results, 2, results.n) end
  return nil, results[2], results[3]
end

local function call_async(self, method, args, cb)
  local target, timeout_ms = patience(self, method, args)
  return async.call(function (done)
    with_patience(self, target, timeout_ms, function (err)
      if err then return done(err) end
      call_host(self, done, "call", method, table.unpack(args, 1, args.n))
    end)
  end, cb)
end

-- --- Sources -----------------------------------------------------------------------------------------------------

local Source = {}
Source.__index = Source
Source.__name = "flume.source"

local function answer_next(self, err, ...)
  local done = self.waiting
  self.waiting = nil
  done(err, ...)
end

local function take(self)
  local item = self.items[self.at]
  if item then
    self.items[self.at] = nil
    self.at = self.at + 1
    return answer_next(self, nil, table.unpack(item, 1, item.n or #item))
  end
  if self.ended then return answer_next(self, nil, nil) end
  if self.view._db.closed or self.view._db.closing then return answer_next(self, closed_error(self.view)) end
  call_host(self.view, function (err, ended, items)
    if not self.waiting then return end -- closed meanwhile
    if err then return answer_next(self, err) end
    self.ended, self.items, self.at = ended, items, 1
    take(self)
  end, "pull", self.id, self.view._host and 1 or PULL)
end

local function drop_source(view, id)
  if id and not (view._db.closed or view._db.closing) then call_host(view, function () end, "close", id) end
end

local function start_source(self)
  if self.id or self.ended then return take(self) end
  with_patience(self.view, self.target, self.timeout_ms, function (err)
    if not self.waiting then return end
    if err then return answer_next(self, err) end
    call_host(self.view, function (why, id)
      if not self.waiting then return drop_source(self.view, id) end
      if why then return answer_next(self, why) end
      self.id = id
      take(self)
    end, "open", self.method, table.unpack(self.args, 1, self.args.n))
  end)
end

--- The next result; nil at the end; nil, message, code on failure.
function Source:next(cb)
  return async.call(function (done)
    if self.waiting then return done(errors.new("another next of this source is waiting", "EBUSY")) end
    self.waiting = done
    start_source(self)
  end, cb)
end

function Source:__call()
  local results = table.pack(self:next())
  if results[1] == nil and results[3] ~= nil then error(results[2], 0) end
  return table.unpack(results, 1, results.n)
end

function Source:close()
  if not self.ended then drop_source(self.view, self.id) end
  self.ended, self.items, self.at = true, {}, 1
  if self.waiting then answer_next(self, nil, nil) end
  return true
end

Source.__close = Source.close

-- Without a callback: for use in a for loop. With one: cb(nil, source), whose first next waits.
local function open_source(self, method, args, cb)
  local target, timeout_ms = patience(self, method, args)
  local source = setmetatable({
    view = self,
    method = method,
    args = args,
    target = target,
    timeout_ms = timeout_ms,
    id = nil,       -- of the open source in the host
    items = {},     -- fetched, not delivered
    at = 1,
    waiting = nil,  -- done() of a next that waits
    ended = false,
  }, Source)
  if cb then return async.call(function (done) done(nil, source) end, cb) end
  return source, nil, nil, source
end

-- --- The handle --------------------------------------------------------------------------------------------------

local CALLS = {sync = call_sync, async = call_async, source = open_source}

local function check_alive(self, method, level)
  if self._db.closed or self._db.closing then
    error(('%s:%s: the database is closed'):format(self.name, method), level + 1)
  end
end

local function method_of(self, method)
  local kind = self.methods[method]
  if not kind then return nil end
  local call = CALLS[kind]
  return function (view, ...)
    if view ~= self then error(("call it as db.%s:%s(...)"):format(self.name, method), 2) end
    check_alive(self, method, 2)
    local cb, args = async.split_callback(...)
    return call(self, method, args, cb)
  end
end

function View.__index(self, key)
  local own = View[key]
  if own ~= nil then return own end
  local methods = rawget(self, "methods")
  if methods and type(key) == "string" then
    if rawget(self, "_broken") and not RESERVED[key] and key:sub(1, 1) ~= "_" then
      return function () return errors.unpack(self._broken) end
    end
    return method_of(self, key)
  end
  return nil
end

function View:_progress_now()
  local current, target = self._core:since(), self._db:_since()
  local start, elapsed_ms = self._core:progress()
  local done = current - start
  local rate = elapsed_ms > 0 and done > 0 and done * 1000 / elapsed_ms or 0
  return {
    start = start, current = current, target = target, rate = rate,
    eta = current >= target and 0 or rate > 0 and (target - current) / rate or nil,
  }
end

--- Waits until the view has come to the log's since as of now.
function View:ready(cb)
  check_alive(self, "ready", 2)
  local target = self._db:_since()
  return async.call(function (done)
    with_patience(self, target, nil, function (err) done(err, err == nil or nil) end)
  end, cb)
end

-- A raw view destroys its own state, and gets a new sink. One that can't has failed.
local function rebuild_raw(self, done)
  local raw = self._host.raw
  self._core:hold(true)
  local answered = false
  local function finish(message)
    if message then
      self._core:fail(message)
      self._core:hold(false)
      return done(failure_of(self))
    end
    self._core:rebuild()
    self._core:hold(false)
    done(nil)
  end
  local function destroyed(err)
    if answered then return end
    answered = true
    if err then return finish("destroy: " .. tostring(err)) end
    local ok, why = pcall(self._host.start)
    finish(not ok and tostring(type(why) == "table" and why.message or why) or nil)
  end
  local info = debug.getinfo(raw.destroy, "u")
  local ok, result = pcall(raw.destroy, destroyed)
  if not ok then return destroyed(result) end
  if result == true or (info.nparams == 0 and not info.isvararg) then destroyed(nil) end
end

local function restart(self, done)
  if self._host and self._host.raw then return rebuild_raw(self, done) end
  self._core:rebuild()
  done(nil)
end

--- Forgets the view's state, builds it again from the log, and waits until it has caught up.
function View:rebuild(cb)
  check_alive(self, "rebuild", 2)
  return async.call(function (done)
    if self._broken then return done(self._broken) end
    self.reason = "asked for"
    restart(self, function (err)
      if err then return done(err) end
      local target = self._db:_since()
      -- in the next turn: the view may still be at work on what it had
      core.later(function ()
        if self._db.closed or self._db.closing then return done(closed_error(self)) end
        with_patience(self, target, nil, function (why) done(why, why == nil or nil) end)
      end)
    end)
  end, cb)
end

--- One row of db:status().
function View:_status()
  local row = {name = self.name, version = self.version, reason = self.reason, target = self._db:_since()}
  if self._broken then
    row.state, row.since, row.error = "failed", -1, self._broken.message
    return row
  end
  row.since = self._core:since()
  local message, seq, traceback = self._core:failure()
  if message then
    row.state, row.error, row.seq, row.traceback = "failed", message, seq, traceback
  elseif not self._db:_is_ready() then
    row.state, row.reason = "stalled", "the database is not ready"
  else
    row.state = row.since < row.target and "building" or "live"
  end
  row.lag = row.target - row.since
  return row
end

--- Closes the view's part; done() when that is over.
function View:_close(done)
  if self._broken then return done() end
  local gone, waits = closed_error(self), self._raw_waits
  self._raw_waits = {}
  for answer in pairs(waits) do answer(gone) end
  local function finish() self._core:close(done) end
  local raw = self._host and self._host.raw
  if not raw then return finish() end
  local answered = false
  local function raw_closed()
    if answered then return end
    answered = true
    finish()
  end
  local info = debug.getinfo(raw.close, "u")
  local ok, result = pcall(raw.close, raw_closed)
  if not ok or result == true or (info.nparams == 0 and not info.isvararg) then raw_closed() end
end

function View:__tostring()
  return ("flume.view: %s"):format(self.name)
end

-- --- Mounting ----------------------------------------------------------------------------------------------------

-- What a state of its own is started with: read and compiled once.
local bytecode = setmetatable({}, {__index = function (self, name)
  local path = assert(package.searchpath("flume." .. name, package.path))
  local bytes = string.dump(assert(loadfile(path, "t")))
  self[name] = bytes
  return bytes
end})

local function start_script(handle, options)
  options.lib = {observable = bytecode.observable, sandbox = bytecode.sandbox}
  local ok, message, code = handle:load(bytecode.host, options)
  if not ok then return nil, message, code end
  local done, described, why = handle:call_now("describe")
  if not done then return nil, described, why end
  return described
end

local function start_inline(options)
  local ok, host = pcall(make_host, options)
  if ok then return host end
  local err = host
  if type(err) == "table" and err.message then return nil, err.message, err.code end
  return nil, tostring(err), "EVIEW"
end

local function check_method_names(name, methods)
  for method in pairs(methods) do
    if RESERVED[method] or method:sub(1, 1) == "_" then
      return nil, ('view "%s": the method name %s is taken'):format(name, method), "EINVAL"
    end
  end
  return true
end

local function observables(self)
  self.since = observable.new(nil, {
    get = function ()
      if self._broken then return -1 end
      return self._core:since()
    end,
    start = function (notify)
      if self._broken then return function () end end
      local observer = self._core:observe(notify)
      return function () observer:stop() end
    end,
    call = async.spawn,
  })
  self.progress = observable.new(nil, {
    get = function () return not self._broken and not self._db.closed and self:_progress_now() or nil end,
    start = function (notify) return self.since(function () notify() end, false) end,
    call = async.spawn,
  })
end

--- options: name; definition, or path and folder; mapper or mapper_path; decode; in_caller: not in a state of its own;
--- state_dir: where the state is kept, or nil; memory, budget. A view, or nil, message, code.
local function mount(db, options)
  local host, described, handle, message, code
  if not (options.definition or options.in_caller) then
    handle = core.view(db._pump, nil, options.memory or SCRIPT_MEMORY_BYTES, options.budget or SCRIPT_BUDGET)
    described, message, code = start_script(handle, {
      name = options.name, path = options.path, folder = options.folder, mapper_path = options.mapper_path,
    })
    if not described then return nil, message, code end
  end
  if not described or described.kind == "sink" then -- a raw view keeps itself, where it can reach what it needs
    host, message, code = start_inline(options)
    if not host then return nil, message, code end
    handle, described = core.view(db._pump, host), host.describe()
  end
  local ok, why, errno = check_method_names(options.name, described.methods)
  if not ok then return nil, why, errno end
  local version = described.version ~= nil and tostring(described.version) or ""
  local state_dir = described.kind == "reduce" and options.state_dir or nil
  local since, reason, failed = handle:start(version, described.fingerprint, state_dir, described.since or -1)
  if not since then return nil, reason, failed end
  local self = setmetatable({
    name = options.name,
    _db = db,
    _core = handle,
    _host = host,               -- the host object of an inline view
    methods = described.methods,
    version = described.version,
    reason = reason,           -- why it was built anew when it was mounted, or nil
    _raw_waits = {},            -- set of functions that answer the calls that wait for a raw view's since
    _broken = nil,
    since = nil,
    progress = nil,
  }, View)
  observables(self)
  if host and host.raw then
    function host.start_over()
      rebuild_raw(self, function (err)
        if err then error(err, 0) end
      end)
    end
  end
  return self
end

--- A view that could not be mounted: its name is taken, and all that is asked of it answers the error.
local function broken(db, name, message, code)
  local self = setmetatable({
    name = name, _db = db, methods = {}, _broken = errors.new(message, code == "EINVAL" and "EVIEW" or code),
  }, View)
  observables(self)
  return self
end

return {mount = mount, broken = broken}
