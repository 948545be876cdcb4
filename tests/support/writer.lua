-- A writer in a process of its own that does what it is told: for those who follow a log.
--
--   writer.start(path, options)   options as Lua text; the database is open when it returns: {tell =, close =, pid =}
--   writer.tell(line)             append N, del SEQ, close or open; returns when it is done

local assert = require "luassert"
local child = require "tests.support.child"
local fixture = require "tests.support.fixture"

local M = {}

-- It reads a line for each thing to do, and answers with the first word of it. Each record has its number.
local WRITER = [[
  local flume = require "flume"
  local path, options = ...
  options = load("return " .. options)()
  io.stdout:setvbuf "line"
  local db, count
  local commands = {
    open = function ()
      db = assert(flume.open(path, options))
      count = 0
      local last = db:stream{reverse = true, limit = 1, seqs = false}:next()
      if last then count = last.n + 1 end
    end,
    append = function (more)
      for _ = 1, more do
        assert(db:append{n = count})
        count = count + 1
      end
    end,
    del = function (seq) assert(db:del(math.tointeger(seq))) end,
    close = function () assert(db:close()) end,
  }
  for line in io.lines(path .. ".commands") do
    local name, arg = line:match "^(%a+) ?(%d*)$"
    commands[name](math.tointeger(tonumber(arg)))
    print(name)
  end
]]

--- The end of a pipe that was started with its commands in path.commands.
function M.telling(path, pipe, pid)
  local commands = assert(io.open(path .. ".commands", "w"))
  commands:setvbuf "no"
  local writer = {pid = pid}
  function writer.tell(line)
    commands:write(line, "\n")
    assert.equal(line:match "^%a+", pipe:read "l")
  end
  function writer.close()
    if io.type(commands) == "closed file" then return end
    commands:close()
    pipe:close()
  end
  return fixture.keep(writer)
end

--- Where its commands come from, to be made before it is started.
function M.make_pipe(path)
  assert(os.execute("mkfifo " .. path .. ".commands"))
end

function M.start(path, options)
  M.make_pipe(path)
  local pipe, pid = child.start(WRITER, path, options)
  local writer = M.telling(path, pipe, pid)
  writer.tell "open"
  return writer
end

return M
