-- Count, sum, least and greatest of a number by author: the view "aggregate", which calls no Lua, beside a reducer in
-- Lua with one state for all and one with a state for each author.
--
--   lua5.4 aggregate.lua [RECORDS [ROUNDS]]
--
-- Prints the median of the rounds for each, in processor time of all threads, which a busy machine does not change.
-- Ends with exit code 1 when they do not come to the same.

local flume = require "flume"
local testing = require "flume.testing"

local count, rounds = tonumber(arg[1]) or 1000000, tonumber(arg[2]) or 3

local GROUPED = [[
return {
  version = 1, group = "author", initial = {},
  reducer = function (acc, item)
    local size = item.size
    acc.n = (acc.n or 0) + 1
    acc.sum = (acc.sum or 0) + size
    if not acc.least or size < acc.least then acc.least = size end
    if not acc.most or size > acc.most then acc.most = size end
    return acc
  end,
}]]

local IN_ONE = [[
return {
  version = 1, initial = {},
  reducer = function (all, item)
    local author, size = item.author, item.size
    local acc = all[author]
    if not acc then
      acc = {n = 0, sum = 0, least = size, most = size}
      all[author] = acc
    end
    acc.n = acc.n + 1
    acc.sum = acc.sum + size
    if size < acc.least then acc.least = size end
    if size > acc.most then acc.most = size end
    return all
  end,
}]]

local FIELDS = {n = "count", sum = {"sum", "size"}, least = {"min", "size"}, most = {"max", "size"}}

local function made_log()
  local log = flume.log.memory()
  local db = assert(flume.new(log))
  for first = 1, count, 1000 do
    local batch = {}
    for i = first, math.min(first + 999, count) do
      batch[#batch + 1] = {
        type = "post", author = ("@author-%05d"):format(i * 7919 % 1000), size = i * 31 % 5000, time = 1700000000 + i,
        text = ("a text of some length "):rep(7),
      }
    end
    assert(db:append(flume.array(batch)))
  end
  return log, db
end

local function script(source)
  local path = os.tmpname() .. ".lua"
  local file = assert(io.open(path, "w"))
  file:write(source)
  file:close()
  return path
end

local function groups(view)
  local all = {}
  for author, state in view:read() do all[author] = state end
  return all
end

local WAYS = {
  {"reducer, one state", function (db, name) db:use(name, script(IN_ONE)) end, function (view) return view:get() end},
  {"reducer, by group", function (db, name) db:use(name, script(GROUPED)) end, groups},
  {"aggregate", function (db, name)
    db:use(name, "aggregate", {params = {group = "author", fields = FIELDS}})
  end, groups},
}

local log, keeps_open = made_log()
local times, expected = {}, nil
for round = 1, rounds do
  for i, way in ipairs(WAYS) do
    local name = ("v%d_%d"):format(round, i)
    local start = os.clock()
    local db = assert(flume.new(log))
    way[2](db, name)
    assert(db[name]:ready())
    times[i] = times[i] or {}
    table.insert(times[i], (os.clock() - start) * 1000)
    local got = way[3](db[name])
    expected = expected or got
    local difference = testing.difference(expected, got, way[1])
    if difference then
      io.stderr:write("bench: ", difference, "\n")
      os.exit(1)
    end
    db:close()
  end
end
keeps_open:close()

local function median(list)
  table.sort(list)
  return list[(#list + 1) // 2]
end

local slowest = median(times[1])
for i, way in ipairs(WAYS) do
  local ms = median(times[i])
  print(("%-20s %7.0f ms  %6.2f M records/s  %5.1f x"):format(way[1], ms, count / ms / 1000, slowest / ms))
end
