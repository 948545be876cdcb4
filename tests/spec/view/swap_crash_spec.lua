-- A process that swaps the versions of its views all the time, killed at any moment: there is exactly one active
-- version of each, nothing else is left behind, and what it keeps is the fold of the log up to its since.

local child = require "tests.support.child"
local flume = require "flume"
local lfs = require "lfs"
local fixture = require "tests.support.fixture"
local seeds = require "tests.support.seeds"

local ROUNDS = math.tointeger(tonumber(os.getenv "FLUME_SWAP_ROUNDS" or os.getenv "FLUME_CRASH" and "100" or "12"))

local SWAPPER = [[
  local flume = require "flume"
  local dir, folder, seed = ...
  math.randomseed(tonumber(seed))
  io.stdout:setvbuf "line"
  local function rewrite(name, text)
    local file = assert(io.open(folder .. "/" .. name .. ".lua", "w"))
    file:write(text)
    file:close()
  end
  local db = assert(flume.open(dir, {views = folder}))
  for round = 1, 1e9 do
    db:append {n = round}
    local factor = math.random(3)
    rewrite("sum", "return {initial = 0, reducer = function (acc, item) return acc + item.n * " .. factor .. " end}")
    rewrite("index", "return {version = " .. factor
      .. ", indexer = function (item, seq, emit) emit(item.n % 5, " .. factor .. ") end}")
    rewrite("groups", "return {version = 1, group = 'n', initial = 0, f = " .. factor
      .. ", reducer = function (acc) return acc + 1 end}")
    assert(db:reload())
    if math.random(5) == 1 then db:del(db.since.value) end
    if math.random(3) == 1 then assert(db:compact()) end -- writes the stores anew
    print(round)
  end
]]

local function names_in(dir)
  local names = {}
  for name in lfs.dir(dir) do
    if name ~= "." and name ~= ".." then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

local function kill_in_the_midst(dir, folder, seed)
  local pipe, pid = child.start(SWAPPER, dir, folder, seed)
  for _ = 1, math.random(12) do
    local line = assert(pipe:read "l")
    if not line:find "^%d+$" then error(line .. "\n" .. pipe:read "a") end
  end
  for _ = 1, math.random(300000) do pid = pid end -- some way into the next round
  os.execute("kill -9 " .. pid)
  pipe:read "a"
  pipe:close()
end

-- The factor that a script has in its text.
local function factor_of(path)
  local file = assert(io.open(path))
  local text = file:read "a"
  file:close()
  return math.tointeger(tonumber(text:match "item%.n %* (%d)" or text:match "version = (%d)"))
end

-- What the views must hold, folded by hand.
local function expected(db, folder)
  local sum, entries, groups = 0, 0, {}
  for _, item in db:stream {} do
    sum, entries = sum + item.n, entries + 1
    groups[item.n] = (groups[item.n] or 0) + 1
  end
  return sum * factor_of(folder .. "/sum.lua"), entries, groups
end

local function check(dir, folder)
  for _, name in ipairs {"sum", "index", "groups"} do
    local text = io.open(folder .. "/" .. name .. ".lua")
    local whole = text and text:read "a" or ""
    if text then text:close() end
    if not load(whole) or whole == "" then -- killed while it wrote the script
      fixture.write(folder .. "/" .. name .. ".lua", name == "sum"
        and "return {initial = 0, reducer = function (acc, item) return acc + item.n * 1 end}"
        or name == "index" and "return {version = 1, indexer = function (item, seq, emit) emit(item.n % 5, 1) end}"
        or "return {version = 1, group = 'n', initial = 0, reducer = function (acc) return acc + 1 end}")
    end
  end
  local db = assert(flume.open(dir, {views = folder}))
  local sum, entries, groups = expected(db, folder)
  assert.equal(sum, db.sum:get())
  assert.equal(entries, db.index:count())
  local factor = factor_of(folder .. "/index.lua")
  for _, value in db.index:read {} do assert.equal(factor, value) end
  local found = {}
  for key, count in db.groups:read {} do found[key] = count end
  assert.same(groups, found)
  db:close()
  for _, name in ipairs {"sum", "index", "groups"} do
    local names = names_in(dir .. "/views/" .. name)
    assert.equal(2, #names, name .. ": " .. table.concat(names, " "))
    assert.equal("active", names[2])
  end
end

describe("a swap that is cut short", function ()
  after_each(fixture.clean)

  it("leaves one version of each view, and that is right", function ()
    local seed = seeds.take()
    math.randomseed(seed)
    local dir, folder = fixture.dir() .. "/data", fixture.dir()
    for round = 1, ROUNDS do
      kill_in_the_midst(dir, folder, seed + round)
      check(dir, folder)
    end
  end)
end)
