-- One call, three ways to wait for it.
--
-- Every operation of flume is written once, as start(done): it begins, and calls done(...) when it ends. await() and
-- call() give the caller a choice: with a callback the call returns at once; in a task (a coroutine started by spawn or
-- run) it yields to the loop; elsewhere it runs the loop until the operation ends.
--
-- Callbacks are tasks too, so that they may make blocking calls of their own. The loop is never entered twice.

local core = require "flume.core"
local errors = require "flume.errors"

local M = {}

local BLOCK_MS = 200 -- a call that blocks comes back to Lua this often, where Ctrl-C can raise an error

local tasks = setmetatable({}, {__mode = "k"}) -- coroutine -> task
local stepping = false                         -- the loop is run from here, not by luv

local function complain(err)
  io.stderr:write("flume: ", tostring(err), "\n")
end

-- Errors of callbacks and tasks that nothing waits for: the next step or run raises them. Errors that are left at the
-- end are printed.
local failures = setmetatable({}, {__gc = function (list)
  for _, err in ipairs(list) do complain(err) end
end})

local function report(err)
  if core.running() and not stepping then return complain(err) end -- nothing would raise it
  failures[#failures + 1] = err
end

core.set_on_error(report)

local function raise_failures()
  local err = table.remove(failures, 1)
  if err == nil then return end
  while failures[1] do complain(table.remove(failures, 1)) end
  error(err, 0)
end

local function turn(timeout_ms)
  if core.running() then error("the event loop is running already", 0) end
  stepping = true
  local alive = core.step(timeout_ms)
  stepping = false
  return alive
end

--- Runs the event loop once. Raises what a callback or a task raised meanwhile.
---@param timeout_ms number|nil how long to wait for something to happen; nil: BLOCK_MS
---@return boolean whether anything is left to wait for
function M.step(timeout_ms)
  if timeout_ms ~= nil and type(timeout_ms) ~= "number" then
    error("flume.step: a number of milliseconds expected, got a " .. type(timeout_ms), 2)
  end
  local alive = turn(timeout_ms or BLOCK_MS)
  raise_failures()
  return alive
end

-- Tasks that were closed while they waited end so.
local CLOSED = "the task was closed while it waited"

local function finish(task, ok, ...)
  if coroutine.status(task.co) ~= "dead" then return end
  if not ok then
    local err = ...
    if type(err) == "string" then err = debug.traceback(task.co, err) end
    if task.done then task.done(false, err) else report(err) end
  elseif task.done then
    task.done(true, ...)
  end
end

local function resume(task, ...)
  finish(task, coroutine.resume(task.co, ...))
end

--- Starts fn(...) as a task, at once; it runs until it first waits.
function M.spawn(fn, ...)
  if type(fn) ~= "function" then error("flume.spawn: a function expected, got a " .. type(fn), 2) end
  local task = {co = coroutine.create(fn), done = nil}
  tasks[task.co] = task
  resume(task, ...)
  return task.co
end

--- fn as a callback that may itself make blocking calls.
function M.callback(fn)
  return function (...) M.spawn(fn, ...) end
end

local function current_task()
  return tasks[coroutine.running()]
end

local function yield_until_done(task, start)
  local result, waiting
  start(function (...)
    if result then return end
    result = table.pack(...)
    if not waiting then return end
    local status = coroutine.status(task.co)
    if status == "suspended" then return resume(task) end
    if status == "dead" and task.done then task.done(false, CLOSED) end -- closed by coroutine.close
  end)
  waiting = true
  while not result do coroutine.yield() end -- a resume by anything else is not the answer
  return table.unpack(result, 1, result.n)
end

local function block_until_done(start)
  if core.running() then
    error("this call would block the running event loop; give it a callback, or make it in flume.spawn", 0)
  end
  local result
  start(function (...)
    result = result or table.pack(...)
  end)
  while not result do
    if not turn(BLOCK_MS) and not result then
      if core.forked() then error("this handle was opened before the process was forked: open it in the child", 0) end
      error("nothing is left that could end this call", 0)
    end
  end
  return table.unpack(result, 1, result.n)
end

--- Whether a call that waits would let other tasks run.
function M.yields()
  return current_task() ~= nil and coroutine.isyieldable()
end

--- start(done) -> what done was called with, when that is.
function M.await(start)
  if M.yields() then return yield_until_done(current_task(), start) end
  return block_until_done(start)
end

local function as_results(err, ...)
  if err ~= nil then return errors.unpack(err) end
  return ...
end

--- The common form: start(done) ends with done(err, results...). With cb: cb(err, results...), and true at once.
--- Without: results..., or nil, message, code.
function M.call(start, cb)
  if cb ~= nil then
    if type(cb) ~= "function" then error("a callback must be a function, not a " .. type(cb), 3) end
    local answer, submitting = M.callback(cb), true
    start(function (...)
      if not submitting then return answer(...) end
      local results = table.pack(...) -- known already; but a callback never fires from inside the call
      core.later(function () answer(table.unpack(results, 1, results.n)) end)
    end)
    submitting = false
    return true
  end
  return as_results(M.await(start))
end

--- Splits a trailing callback from a list of arguments: callback or nil, and the packed rest.
function M.split_callback(...)
  local args = table.pack(...)
  local cb
  if args.n > 0 and type(args[args.n]) == "function" then
    cb = args[args.n]
    args[args.n] = nil
    args.n = args.n - 1
  end
  return cb, args
end

--- With fn: runs it as a task and the loop until it has ended; returns its results, or raises its error. Without: runs
--- the loop until nothing is left to do.
function M.run(fn, ...)
  if fn == nil then
    while M.step() do end
    return
  end
  if type(fn) ~= "function" then error("flume.run: a function expected, got a " .. type(fn), 2) end
  if current_task() then return fn(...) end
  local result
  local task = {co = coroutine.create(fn), done = function (...) result = table.pack(...) end}
  tasks[task.co] = task
  resume(task, ...)
  while not result do
    if not M.step() and not result then error("the task waits for something that can't happen any more", 0) end
  end
  if not result[1] then error(result[2], 0) end
  return table.unpack(result, 2, result.n)
end

return M
