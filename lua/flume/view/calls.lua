-- How a view's methods are called where its code lives, and how their answers get back. Each function takes the view;
-- view.lua makes methods of them.

local async = require "flume.async"
local deltas = require "flume.view.deltas"
local errors = require "flume.errors"
local source_stream = require "flume.view.source_stream"
local waiting = require "flume.view.waiting"

local M = {}

local function view_error(view, raised)
  local message = type(raised) == "table" and raised.message
  return errors.new(('view "%s": %s'):format(view.name, errors.text(message or raised)), "EVIEW")
end

-- Functions of the host that are short: they are called in this thread while the view has nothing to do.
local QUICK = {page = true, recent = true, follow = true, came = true}

--- Calls host[name](...) of the instance, where its code lives; done(err, results...).
function M.call_on(view, instance, done, name, ...)
  if view:_is_over() then return done(view:_closed_error()) end
  if instance.host then
    local results = table.pack(pcall(instance.host[name], ...))
    if results[1] then return done(nil, table.unpack(results, 2, results.n)) end
    return done(view_error(view, results[2]))
  end
  if name == "page" then
    local ok, items, resume, since = pcall(instance.core.page_if_idle, instance.core, ...)
    if not ok then return done(view_error(view, items)) end
    if items then return done(nil, items, resume, since) end
  end
  if QUICK[name] or name == "call" and view._builtin[...] then
    local results = table.pack(instance.core:call_if_idle(name, ...))
    if results[1] then return done(nil, table.unpack(results, 2, results.n)) end
    if results[2] then return done(errors.new(results[2], results[3])) end
  end
  local ok, message, code = instance.core:call(done, name, ...)
  if not ok then done(errors.new(message, code)) end
end

--- A page of the instance that answers, when that can be read at once: items, and where the next page begins; or nil.
function M.page_now(view, ...)
  local instance = view._instance
  local host = instance.host
  local ok, items, resume
  if host then ok, items, resume = pcall(host.page, ...)
  else ok, items, resume = pcall(instance.core.page_if_idle, instance.core, ...) end
  if ok then return items, resume end
end

local function answer_now(view, method, args, done)
  if not view._broken then view._versions:take_news() end
  local err = view:_failure()
  if err then return done(err) end
  local instance = view._instance
  if instance.host then
    local results = table.pack(pcall(instance.host.call, method, table.unpack(args, 1, args.n)))
    if results[1] then return done(nil, table.unpack(results, 2, results.n)) end
    return done(view_error(view, results[2]))
  end
  local results = table.pack(instance.core:call_now("call", method, table.unpack(args, 1, args.n)))
  if results[1] then return done(nil, table.unpack(results, 2, results.n)) end
  return done(errors.new(results[2], results[3]))
end

local function as_results(err, ...)
  if err ~= nil then return errors.unpack(err) end
  return ...
end

local function call_sync(view, method, args, cb)
  if not cb then return answer_now(view, method, args, as_results) end
  return async.call(function (done) answer_now(view, method, args, done) end, cb)
end

-- An entry of an index that has no value of its own has its record as the value.
local function resolving(view, done)
  return function (err, value, seq)
    if err ~= nil or value ~= nil or seq == nil then return done(err, value, seq) end
    local record, message, code = view._db:_record(seq)
    if record == nil and message then return done(errors.new(message, code)) end
    done(nil, record, seq)
  end
end

-- The record whose seq a method answers with.
local function fetching(view, method, done)
  return function (err, seq)
    if err ~= nil or seq == nil then return done(err) end
    if math.type(seq) ~= "integer" then
      return done(errors.new(('view "%s": %s must answer with a seq, not a %s'):format(view.name, method, type(seq)),
        "EVIEW"))
    end
    resolving(view, done)(nil, nil, seq)
  end
end

-- The method of a view that lives in the caller's state: waits, then calls it here.
local function read_inline(view, target, timeout_ms, done, method, args)
  view:_with_patience(target, timeout_ms, function (err)
    if err then return done(err) end
    view:_call_on(view._instance, done, "call", method, table.unpack(args, 1, args.n))
  end)
end

local read_script

-- The method of a script view: the slot waits for the version that answers, calls it in that version's state, and gives
-- the answer back. So a read crosses to the engine once, and back once.
function read_script(view, target, timeout_ms, done, method, args)
  local refusal = waiting.refusal(view)
  if refusal then return done(refusal) end
  if target ~= nil and target < 0 and view._db:_is_ready() then target = nil end
  local results = table.pack(view._versions.slot:read(target or -1, timeout_ms, view._builtin[method] or false,
    function (code, err, ...)
      if code and waiting.goes_on(view, code) then return read_script(view, target, timeout_ms, done, method, args) end
      if code then return done(waiting.error_of(view, target or -1, code)) end
      done(err, ...)
    end, "call", method, table.unpack(args, 1, args.n)))
  local what = results[1]
  if what == "later" then return end
  if what == "failed" then return done(waiting.error_of(view, target or -1, "EVIEW")) end
  if what == "news" then
    view._versions:take_news()
    return read_script(view, target, timeout_ms, done, method, args)
  end
  if what == "now" and results[2] then return done(nil, table.unpack(results, 3, results.n)) end
  local message, code = results[what and 3 or 2], results[what and 4 or 3]
  done(errors.new(message, code))
end

local function call_async(view, method, args, cb)
  local target, timeout_ms = waiting.patience(view, method, args)
  return async.call(function (done)
    if view.methods[method] == "record" then done = fetching(view, method, done) end
    if method == "get" and view._kind == "index" and view._builtin.get then done = resolving(view, done) end
    local instance = view._instance
    local read = (not instance or instance.host) and read_inline or read_script
    read(view, target, timeout_ms, done, method, args)
  end, cb)
end

-- Without a callback: for use in a for loop. With one: cb(nil, source), whose first next waits.
local function open_source(view, method, args, cb)
  local target, timeout_ms = waiting.patience(view, method, args)
  local new = method == "deltas" and view._builtin.deltas and deltas.new or source_stream.new
  local opened = new(view, method, args, target, timeout_ms)
  if cb then return async.call(function (done) done(nil, opened) end, cb) end
  return opened, nil, nil, opened
end

local CALLS = {
  sync = call_sync, async = call_async, record = call_async, source = open_source, records = open_source,
}

--- The function db.NAME.METHOD, or nil when the view has no such method.
function M.method_of(view, method)
  local known = view._calls[method]
  local kind = view.methods[method]
  if known or not kind then return known end
  local call = CALLS[kind]
  local function call_method(given, ...)
    if given ~= view then errors.misused("db." .. view.name, method, given, 2) end
    view:_check_alive(method, 2)
    local cb, args = async.split_callback(...)
    return call(view, method, args, cb)
  end
  view._calls[method] = call_method
  return call_method
end

return M
