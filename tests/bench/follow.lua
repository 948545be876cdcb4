-- How long it takes from the call of append in one process until another has seen the record.
--
--   eval "$(make -s env)"; lua5.4 tests/bench/follow.lua [records]
--
-- The time contains the sync of the append. The pause between two appends is what the writer does besides.

local flume = require "flume"
local lfs = require "lfs"

local uv = require "luv"

local RECORDS = tonumber(arg[1]) or 3000

local WRITER = [[
  local uv = require "luv"
  local flume = require "flume"
  local dir, count, pause_ms = ...
  local db = assert(flume.open(dir))
  for _ = 1, math.tointeger(tonumber(count)) do
    local from = uv.hrtime()
    assert(db:append{at = from, pad = ("x"):rep(200)})
    if tonumber(pause_ms) > 0 then uv.sleep(math.tointeger(tonumber(pause_ms))) end
  end
  db:close()
]]

local function measure(dir, pause_ms)
  local program = dir .. "/writer.lua"
  local file = assert(io.open(program, "w"))
  file:write(WRITER)
  file:close()
  assert(flume.open(dir .. "/data")):close()
  local db = assert(flume.open(dir .. "/data", {readonly = true}))
  local took = {}
  local child = assert(io.popen(("%s %s %s %d %d"):format(arg[-1], program, dir .. "/data", RECORDS, pause_ms), "w"))
  for _, item in db:stream{live = true} do
    took[#took + 1] = uv.hrtime() - item.at
    if #took == RECORDS then break end
  end
  child:close()
  db:close()
  os.execute("rm -r " .. dir .. "/data")
  table.sort(took)
  local function at(share) return took[math.max(1, math.ceil(#took * share))] / 1e6 end
  print(("%6d records, %d ms between: p50 %.3f ms, p99 %.3f ms, max %.3f ms"):format(#took, pause_ms, at(0.5), at(0.99),
    at(1)))
end

local dir = os.tmpname()
os.remove(dir)
assert(lfs.mkdir(dir))
for _, pause_ms in ipairs {0, 1, 5} do measure(dir, pause_ms) end
os.execute("rm -r " .. dir)
