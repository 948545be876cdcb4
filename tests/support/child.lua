-- A Lua program in a process of its own.
--
--   child.start(source, args...)   a file to read what it writes (standard output and error) from, and its process id
--   child.run(source, args...)     runs it to its end: what it wrote, and whether it went well
--   child.run_with(env, source, args...)   the same with variables of its environment: "A=1 B=2"

local fixture = require "tests.support.fixture"

local M = {}

local LUA = os.getenv "LUA" or "lua5.4"

local function quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

local function start(env, source, ...)
  local words = {"echo $$; exec env", env, LUA, quote(fixture.write(fixture.dir() .. "/program.lua", source))}
  for _, arg in ipairs {...} do words[#words + 1] = quote(arg) end
  local pipe = assert(io.popen(table.concat(words, " ") .. " 2>&1"))
  return pipe, math.tointeger(tonumber(pipe:read "l"))
end

function M.start(source, ...)
  return start("", source, ...)
end

function M.run_with(env, source, ...)
  local pipe = start(env, source, ...)
  local text = pipe:read "a"
  local ok = pipe:close()
  return text, ok == true
end

function M.run(source, ...)
  return M.run_with("", source, ...)
end

return M
