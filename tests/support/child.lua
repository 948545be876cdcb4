-- A Lua program in a process of its own.
--
--   child.start(source, args...)   a file to read what it writes (standard output and error) from, and its process id
--   child.run(source, args...)     runs it to its end: what it wrote, and whether it went well

local fixture = require "tests.support.fixture"

local M = {}

local LUA = os.getenv "LUA" or "lua5.4"

local function quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

function M.start(source, ...)
  local words = {"echo $$; exec", LUA, quote(fixture.write(fixture.dir() .. "/program.lua", source))}
  for _, arg in ipairs {...} do words[#words + 1] = quote(arg) end
  local pipe = assert(io.popen(table.concat(words, " ") .. " 2>&1"))
  return pipe, math.tointeger(tonumber(pipe:read "l"))
end

function M.run(source, ...)
  local pipe = M.start(source, ...)
  local text = pipe:read "a"
  local ok = pipe:close()
  return text, ok == true
end

return M
