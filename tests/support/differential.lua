-- Holds a view against a plain model over the life of a database: random records, deletes, closing and opening again,
-- rebuilds.
--
--   differential.run(options)
--       view, params    for db:use
--       check           function (view, records, db): asserts that the view's answers are those of the records that
--                       there are, a list of {seq =, value =} in their order; called after each step
--       value           function (random) that makes a record's value; differential.value by default
--       rounds          how many steps
--
--   differential.value(random)   a record with all sorts of values, and the lack of them, at author, to, n, tags, a.b
--                                and text

local entries = require "tests.support.entries"
local flume = require "flume"
local fixture = require "tests.support.fixture"

local M = {}

local AUTHORS = {"ada", "bob", "cy", "", "ab", 1, 2.5, true, flume.null}
local WRONG = {{x = 1}, flume.array {}, false, flume.null, {"list", 7}, {{b = "deep"}}}
local WORDS = {"log", "view", "record", "Café", "running", "append-only", "seq", "the", "of"}

local function pick(random, list)
  return list[random(#list)]
end

local function scalar(random)
  local kind = random(6)
  if kind == 1 then return random(100) / 8 end
  if kind == 2 then return pick(random, AUTHORS) end
  return random(20) - 10
end

local function list_of(random, n, make)
  local list = {}
  for i = 1, random(n + 1) - 1 do list[i] = make(random) end
  return flume.array(list)
end

local function author(random) return pick(random, AUTHORS) end

local function text(random)
  local words = {}
  for i = 1, random(8) do words[i] = pick(random, WORDS) end
  return table.concat(words, " ")
end

local FIELDS = {
  author = author, to = author, n = scalar, text = text,
  tags = function (random) return list_of(random, 3, author) end,
  a = function (random) return {b = scalar(random)} end,
}

function M.value(random)
  local value = {}
  if random(30) == 1 then return scalar(random) end -- no map at all
  for _, field in ipairs {"author", "to", "n", "tags", "a", "text"} do
    local chance = random(12)
    if chance == 1 then value[field] = pick(random, WRONG)
    elseif chance > 2 then value[field] = FIELDS[field](random) end
  end
  return flume.map(value)
end

-- What can be done to a database; each returns the database to go on with.
local STEPS = {
  function (world_of) -- append
    local batch = {}
    for i = 1, world_of.random(25) do batch[i] = world_of.value(world_of.random) end
    local last = assert(world_of.db:append(flume.array(batch)))
    for i, value in ipairs(batch) do
      table.insert(world_of.records, {seq = last - #batch + i, value = value})
    end
  end,
  function (world_of) -- delete
    local seqs = {}
    for _ = 1, math.min(world_of.random(4), #world_of.records) do
      seqs[#seqs + 1] = table.remove(world_of.records, world_of.random(#world_of.records)).seq
    end
    if #seqs > 0 then assert(world_of.db:del(seqs)) end
  end,
  function (world_of) -- close and open
    world_of.db:close()
    world_of.open()
  end,
  function (world_of) assert(world_of.db.v:rebuild()) end,
}
local TURNS = {1, 1, 1, 1, 2, 2, 3, 4}

function M.run(options)
  local dir = fixture.dir()
  entries.seeded(function (random)
    local world_of = {random = random, records = {}, value = options.value or M.value, db = nil}
    function world_of.open()
      world_of.db = fixture.open_db(dir)
      world_of.db:use("v", options.view, {params = options.params})
    end
    world_of.open()
    for i = 1, options.rounds or 30 do
      STEPS[i < 4 and 1 or TURNS[random(#TURNS)]](world_of)
      options.check(world_of.db.v, world_of.records, world_of.db)
    end
    world_of.db:close()
  end)
end

--- The value at a path, by hand: nil for none or null.
function M.at(value, path)
  for key in path:gmatch "[^.]+" do
    if type(value) ~= "table" or value == flume.null then return nil end
    value = value[key]
  end
  if value == flume.null then return nil end
  return value
end

--- The values at a path, by hand, with what is in arrays in their place.
function M.each_at(value, path, fn)
  local key, rest = path:match "^([^.]+)%.?(.*)$"
  if value == nil or value == flume.null then return end
  if type(value) == "table" and flume.is_array(value) then
    for _, element in ipairs(value) do M.each_at(element, path, fn) end
  elseif not key then
    if type(value) ~= "table" then fn(value) end
  elseif type(value) == "table" then
    M.each_at(value[key], rest, fn)
  end
end

return M
