-- Four script views over the same log, built one after the other and then all at once, and how often the log is read.
--
--   lua5.4 together.lua DIR RECORDS ROUNDS
--
-- Works in DIR/together. Prints measurements (see bench.h), and how many blocks were read for one pass and for four
-- views at once; ends with exit code 1 when a result is wrong.

local flume = require "flume"
local lfs = require "lfs"

local dir, count, rounds = arg[1] .. "/together", tonumber(arg[2]), tonumber(arg[3])
local core = require "flume.core"

local SOURCE = [[
return {
  initial = {},
  reducer = function (acc, item)
    local of = acc[item.type]
    if not of then
      of = {count = 0, sum = %d}
      acc[item.type] = of
    end
    of.count = of.count + 1
    of.sum = of.sum + item.seq
    return acc
  end,
}
]]

local function seconds(fn)
  local start = core.now()
  fn()
  return (core.now() - start) / 1000
end

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

local function fill()
  local db = assert(flume.open(dir .. "/data", {sync = "os"}))
  for first = 0, count - 1, 1000 do
    local batch = {}
    for i = first, math.min(first + 999, count - 1) do
      batch[#batch + 1] = {type = "type" .. i % 10, seq = i, text = ("x"):rep(200)}
    end
    db:append(batch)
  end
  db:close()
end

local function check(db, names)
  for _, name in ipairs(names) do
    local total = 0
    for _, of in pairs(assert(db[name]:get())) do total = total + of.count end
    if total ~= count then
      io.stderr:write(("bench: %s counted %d of %d\n"):format(name, total, count))
      os.exit(1)
    end
  end
end

-- Seconds that building the views takes, and the blocks that were read.
local function build(names)
  local db = assert(flume.open(dir .. "/data"))
  local taken = seconds(function ()
    for _, name in ipairs(names) do db:use(name, dir .. "/" .. name .. ".lua") end
    for _, name in ipairs(names) do assert(db[name]:ready()) end
  end)
  check(db, names)
  local blocks = db._pump:blocks_read()
  db:close()
  return taken, blocks
end

assert(lfs.mkdir(dir))
fill()
for round = 1, rounds do
  local names = {}
  for i = 1, 4 do
    names[i] = ("view%d_%d"):format(i, round)
    write(dir .. "/" .. names[i] .. ".lua", SOURCE:format(0))
  end
  local apart, once = 0, nil
  for i = 1, 4 do
    local name = ("alone%d_%d"):format(i, round)
    write(dir .. "/" .. name .. ".lua", SOURCE:format(0))
    local taken
    taken, once = build {name}
    apart = apart + taken
  end
  local together, shared = build(names)
  print(("build4\tapart\t%d\t%.9f\t%d"):format(round, apart, count))
  print(("build4\ttogether\t%d\t%.9f\t%d"):format(round, together, count))
  local text = "together: %.2f x as fast as one after the other; blocks read: %d for one view, %d for four\n"
  io.stderr:write(text:format(apart / together, once, shared))
end
