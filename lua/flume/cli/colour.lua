-- Colours for a terminal: on where a file is a terminal that knows them, and NO_COLOR is not set.
--
--   local colours = colour.new(STDOUT)
--   colours:paint(colour.ERROR, "text")   text in a colour, or as it is
--   colours:value(text)                   the same for what flume.pretty made, by what stands where

local terminal = require "flume.terminal"

local M = {ERROR = "1;31", NOTE = "2"}
M.__index = M

local STRING, NUMBER, CONSTANT, COMMENT = "32", "36", "35", "2"

local CONSTANTS = {["true"] = true, ["false"] = true, ["nil"] = true, ["flume.null"] = true, ["math.huge"] = true}

-- fd: of the file that is written to.
function M.new(fd)
  local is_wanted = (os.getenv "NO_COLOR" or "") == ""
  return setmetatable({is_on = is_wanted and terminal.is_tty(fd) and not terminal.is_dumb()}, M)
end

function M:paint(code, text)
  return self.is_on and ("\27[%sm%s\27[0m"):format(code, text) or text
end

local function end_of_string(text, first)
  local at = first + 1
  while true do
    at = text:find('["\\]', at)
    if text:byte(at) == ('"'):byte() then return at end
    at = at + 2
  end
end

-- The token at first: where it ends, and its colour, if it has one.
local function token_at(text, first)
  if text:find('^"', first) then return end_of_string(text, first), STRING end
  if text:find("^%-%-%[%[", first) then return select(2, text:find("]]", first, true)), COMMENT end
  local _, last = text:find("^%-?[%w_.+%-]*", first)
  local word = text:sub(first, last)
  if CONSTANTS[word] then return last, CONSTANT end
  return last, word:find "^%-?%d" and NUMBER or nil
end

function M:value(text)
  if not self.is_on then return text end
  local out, from = {}, 1
  while true do
    local first = text:find('["%w_%-]', from)
    if not first then break end
    local last, code = token_at(text, first)
    local token = text:sub(first, last)
    out[#out + 1] = text:sub(from, first - 1)
    out[#out + 1] = code and self:paint(code, token) or token
    from = last + 1
  end
  out[#out + 1] = text:sub(from)
  return table.concat(out)
end

return M
