-- What an index should hold, the slow way: a list that is sorted and filtered.
--
--   entries.compare(a, b)            the order of keys: negative, 0 or positive
--   entries.sort(list)               list of {key =, value =, seq =}, in the order in which they were emitted
--   entries.read(list, options)      what read with these options gives, as a list of packed results; record(seq) gives
--                                    the value of an entry that has none
--   entries.count(list, options)
--   entries.collect(source)          list of packed results
--   entries.random_options(random, keys)
--   entries.seeded(fn)               fn(random), with the seed of the run

local flume = require "flume"
local seeds = require "tests.support.seeds"

local M = {}

local function rank(key)
  if key == nil or key == flume.null then return 1 end
  local kind = type(key)
  if kind == "string" then return 2 elseif kind == "table" then return 3 elseif kind == "number" then return 4 end
  return key and 6 or 5
end

function M.compare(a, b)
  local by_kind = rank(a) - rank(b)
  if by_kind ~= 0 then return by_kind end
  local kind = type(a)
  if kind == "number" then return a < b and -1 or a > b and 1 or 0 end
  if kind == "string" then -- by bytes, whatever the locale
    for i = 1, math.min(#a, #b) do
      local difference = a:byte(i) - b:byte(i)
      if difference ~= 0 then return difference end
    end
    return #a - #b
  end
  if kind ~= "table" then return 0 end
  for i = 1, math.min(#a, #b) do
    local difference = M.compare(a[i], b[i])
    if difference ~= 0 then return difference end
  end
  return #a - #b
end

function M.sort(list)
  for i, entry in ipairs(list) do entry.place = i end
  table.sort(list, function (a, b)
    local order = M.compare(a.key, b.key)
    if order ~= 0 then return order < 0 end
    if a.seq ~= b.seq then return a.seq < b.seq end
    return a.place < b.place
  end)
  return list
end

local function begins_with(key, prefix)
  if type(key) == "string" and type(prefix) == "string" then return key:sub(1, #prefix) == prefix end
  if type(key) ~= "table" or type(prefix) ~= "table" then return M.compare(key, prefix) == 0 end
  for i = 1, #prefix do
    if key[i] == nil or M.compare(key[i], prefix[i]) ~= 0 then return false end
  end
  return true
end

local function is_in(key, o)
  return (o.gt == nil or M.compare(key, o.gt) > 0) and (o.gte == nil or M.compare(key, o.gte) >= 0)
    and (o.lt == nil or M.compare(key, o.lt) < 0) and (o.lte == nil or M.compare(key, o.lte) <= 0)
    and (o.prefix == nil or begins_with(key, o.prefix))
end

local function shaped(o, key, value, seq)
  local results = {}
  if o.keys ~= false then results[#results + 1] = key end
  if o.values ~= false then results[#results + 1] = value end
  if o.seqs ~= false or o.keys == false and o.values == false then results[#results + 1] = seq end
  return results
end

function M.read(list, o, record)
  local found = {}
  if o.old == false then return found end
  for i = 1, #list do
    local entry = list[o.reverse and #list + 1 - i or i]
    if #found == (o.limit or math.huge) then break end
    if is_in(entry.key, o) then
      local value = entry.value
      if value == nil and o.values ~= false then value = record(entry.seq) end
      found[#found + 1] = shaped(o, entry.key == nil and flume.null or entry.key, value, entry.seq)
    end
  end
  return found
end

--- Those of the options that count takes.
function M.for_count(o)
  return {gt = o.gt, gte = o.gte, lt = o.lt, lte = o.lte, prefix = o.prefix, limit = o.limit}
end

function M.count(list, o)
  local count = 0
  for _, entry in ipairs(list) do
    if is_in(entry.key, o) then count = count + 1 end
  end
  return math.min(count, o.limit or count)
end

function M.collect(source)
  local list = {}
  while true do
    local results = table.pack(source())
    if results[1] == nil then return list end
    results.n = nil
    list[#list + 1] = results
  end
end

--- random(n): 1 to n. keys: list of keys, flume.null for nil.
function M.random_options(random, keys)
  local o = {}
  for _, bound in ipairs {"gt", "gte", "lt", "lte"} do
    if random(4) == 1 then o[bound] = keys[random(#keys)] end
  end
  if random(4) == 1 then
    local prefix = keys[random(#keys)]
    if type(prefix) == "string" then prefix = prefix:sub(1, random(#prefix + 1) - 1) end
    if type(prefix) == "table" and random(2) == 1 then prefix = flume.array {prefix[1]} end
    o.prefix = prefix
  end
  if random(2) == 1 then o.reverse = true end
  if random(3) == 1 then o.limit = random(12) - 1 end
  if random(4) == 1 then o.keys = false end
  if random(4) == 1 then o.values = false end
  if random(4) == 1 then o.seqs = false end
  if random(20) == 1 then o.old = false end
  return o
end

function M.seeded(fn)
  math.randomseed(seeds.take())
  fn(math.random)
end

return M
