-- The originals, as the specs here ask them.
--
--   originals.missing()          why they can't be asked, in a word; nil when they can
--   originals.ask(requests)      the answers to a list of requests (peer.js), or one answer to one
--   originals.lines(dir, list)   a file of lines of JSON
--   originals.start(name, args…) runs one of the programs here: a file to read what it writes from, and its process id

local flume = require "flume"
local fixture = require "tests.support.fixture"

local M = {}

local BUILD = os.getenv "BUILD" or "build"
local DIR = BUILD .. "/interop"

local function run(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local output = pipe:read "a"
  local ok = pipe:close()
  return ok, output
end

local reason, looked = nil, false

function M.missing()
  if looked then return reason end
  looked = true
  local ok, output = run(("tests/interop/install '%s'"):format(DIR))
  if not ok then reason = output:match "^%s*(.-)%s*$" end
  return reason
end

--- The spec's it, for tests that need the originals: they are pending where those can't be had.
function M.comparing(it, pending)
  local missing = M.missing()
  return function (name, fn)
    it(name, function ()
      if missing then pending(missing) end
      fn()
    end)
  end
end

local function absolute(path)
  return path:sub(1, 1) == "/" and path or os.getenv "PWD" .. "/" .. path
end

function M.ask(requests)
  local single = requests["do"] ~= nil
  local dir = fixture.dir()
  local request_file = fixture.write(dir .. "/request", flume.json.encode(single and {requests} or requests))
  local ok, output = run(("NODE_PATH='%s/node_modules' timeout 60 node tests/interop/peer.js '%s' '%s/answer'"):format(
    absolute(DIR), request_file, dir))
  if not ok then error("the originals failed: " .. output:sub(1, 2000)) end
  local answers = flume.json.decode(fixture.read(dir .. "/answer"))
  for i, answer in ipairs(answers) do
    if type(answer) == "table" and answer.error then
      error(("request %d, %s: %s"):format(i, (single and requests or requests[i])["do"], answer.error))
    end
  end
  return single and answers[1] or answers
end

function M.start(name, ...)
  local words = {("echo $$; NODE_PATH='%s/node_modules' exec node tests/interop/%s"):format(absolute(DIR), name)}
  for _, arg in ipairs {...} do words[#words + 1] = ("'%s'"):format(arg) end
  local pipe = assert(io.popen(table.concat(words, " ") .. " 2>&1"))
  return pipe, math.tointeger(tonumber(pipe:read "l"))
end

function M.lines(dir, list)
  local lines = {}
  for i, value in ipairs(list) do lines[i] = flume.json.encode(value) end
  return fixture.write(dir .. "/records", table.concat(lines, "\n") .. "\n")
end

return M
