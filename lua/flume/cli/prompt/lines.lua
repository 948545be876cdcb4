-- Lines of standard input. Unlike io.lines it notices a signal that comes just before it begins to wait, too.
--
--   local next_line = lines.new()
--   local line, message = next_line()    nil at the end; nil and what is wrong. Raises "interrupted!"

local input = require "flume.cli.input"
local runner = require "flume.cli.runner"

local M = {}

local WAIT_MS = 200

-- What comes next; nil at the end; nil and what is wrong.
local function read(source)
  local bytes, message
  repeat
    runner.check()
    bytes, message = source:read(WAIT_MS)
  until bytes ~= ""
  return bytes, message
end

function M.new()
  local source = input.open()
  local bytes, at = "", 1 -- read; behind the last line of it
  local pieces = {}       -- of a line whose end has not come yet

  local function finish(piece)
    pieces[#pieces + 1] = piece
    local line = table.concat(pieces)
    pieces = {}
    return line
  end

  return function ()
    local last = bytes:find("\n", at, true)
    while not last do
      pieces[#pieces + 1] = bytes:sub(at)
      local more, message = read(source)
      bytes, at = more or "", 1
      if not more then
        local rest = finish ""
        return not message and rest ~= "" and rest or nil, message
      end
      last = bytes:find("\n", 1, true)
    end
    local line = finish(bytes:sub(at, last - 1))
    at = last + 1
    return line
  end
end

return M
