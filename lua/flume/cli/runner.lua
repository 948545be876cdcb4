-- Runs code so that Ctrl-C can end it, also while it waits.
--
-- The code runs as a task of flume's loop, and the loop is stepped from here. When the task runs Lua code, a signal
-- raises an error in it, and in the coroutine of its own that it runs; when it waits, it is left behind, and the error
-- comes once it is resumed. A task that catches the error goes on; it does not survive a second signal, and nor does a
-- callback or the function of an inline view that keeps the loop from turning.

local core = require "flume.core"
local flume = require "flume"
local pretty = require "flume.pretty"
local terminal = require "flume.terminal"

local M = {}

M.INTERRUPTED = "interrupted!"
M.STUCK = "this waits for something that cannot happen any more"

local STEP_MS = 100

terminal.watch_loop(core.thread())

-- An error that the command line expects: its text says all, without a traceback.
local Failure = {__tostring = function (failure) return failure.message end}

local function is_interrupt(err)
  return type(err) == "string" and err:find(M.INTERRUPTED, 1, true) ~= nil
end

local OWN = "/flume/[%w_/]+%.lua:%d+:"

-- With a traceback, of what the code called: when it called nothing the message has all there is to say. flume's own
-- functions are only of interest when one of them is at fault; what the code called wrongly blames the caller.
local function with_frames(message)
  message = message:gsub("^%S*/cli/[%w_/]+%.lua:%d+: ", "") -- the code had left by a tail call
  local frames, of_lua, own_fault = {}, 0, message:find("^%S*" .. OWN) ~= nil
  for frame in debug.traceback("", 3):gmatch "\n\t([^\n]*)" do
    if frame:find("/flume/cli/", 1, true) or frame:find "in upvalue 'chunk'$" then break end
    if own_fault or not frame:find("^%S*" .. OWN) and frame ~= "(...tail calls...)" then
      frames[#frames + 1] = "\n\t" .. frame
      if not frame:find "^%[C%]" then of_lua = of_lua + 1 end
    end
  end
  return of_lua > 0 and message .. "\nstack traceback:" .. table.concat(frames) or message
end

local function explain(err)
  if is_interrupt(err) then return M.INTERRUPTED end
  if type(err) == "string" then return with_frames(err) end
  local meta = getmetatable(err)
  if type(meta) == "table" and meta.__tostring then return pretty.top(err) end
  return "the error object is " .. pretty.line(err)
end

-- Raises a failure that is to be shown as message alone; an empty one is not shown at all.
function M.fail(message)
  error(setmetatable({message = message}, Failure), 0)
end

-- Raises an error if there was a Ctrl-C.
function M.check()
  if terminal.interrupted() then error(M.INTERRUPTED, 0) end
end

-- One turn of the loop. Returns false when nothing is left to wait for. Raises "interrupted!".
function M.step(timeout_ms)
  M.check()
  local alive = flume.step(timeout_ms or STEP_MS)
  M.check()
  return alive
end

-- One turn of the loop that raises nothing: the errors of other tasks are only told. Returns false when nothing is left
-- to wait for.
function M.turn(timeout_ms)
  local ok, alive = pcall(flume.step, timeout_ms)
  if ok then return alive end
  if not is_interrupt(alive) then io.stderr:write("flume: ", tostring(alive), "\n") end
  return true
end

-- What has become of a task that has no result yet: false and an error, or nil when it goes on.
local function end_of(task, alive, why_end)
  if not alive then return {false, M.STUCK, n = 2} end
  local reason = terminal.interrupted() and M.INTERRUPTED or why_end and why_end()
  if not reason then return nil end
  terminal.abandon(task)
  return {false, reason, n = 2}
end

-- Runs fn(): true and its results; false and an error with its traceback, M.INTERRUPTED or M.STUCK. A signal that came
-- before is for fn, which is not run then; one that fn did not live to see is for what is run next. why_end() is asked
-- while fn waits: its error ends it.
function M.call(fn, why_end)
  if terminal.interrupted() then return false, M.INTERRUPTED end
  local result
  local task = flume.spawn(terminal.guard, fn, explain, function (...) result = table.pack(...) end)
  while not result do
    terminal.watch(task)
    local alive = M.turn(STEP_MS)
    result = result or end_of(task, alive, why_end)
  end
  terminal.watch()
  if result[2] == M.INTERRUPTED then terminal.interrupted() end
  return table.unpack(result, 1, result.n)
end

-- Runs fn(…) and returns its results; raises the errors of call.
function M.run(fn, ...)
  local args = table.pack(...)
  local result = table.pack(M.call(function () return fn(table.unpack(args, 1, args.n)) end))
  if result[2] == M.INTERRUPTED and not result[1] then error(M.INTERRUPTED, 0) end
  if not result[1] then M.fail(result[2]) end
  return table.unpack(result, 2, result.n)
end

return M
