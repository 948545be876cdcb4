-- flumedb with flumeview-reduce and flumeview-level, and flume's views, on the same flumelog-offset file: with messages
-- that are made up, and with Debian's packages.

local assert = require "luassert"
local flume = require "flume"
local originals = require "tests.interop.originals"
local records = require "tests.interop.records"
local fixture = require "tests.support.fixture"
local seeds = require "tests.support.seeds"

local SEED = seeds.take()
local PACKAGES = 1000

local compare = originals.comparing(it, pending)

-- --- The views; the same ones are in views.js -----------------------------------------------------------------------

local function content(item) return item.value and item.value.content or {} end

local function or_null(value)
  if value == nil then return flume.null end
  return value
end

local REDUCERS = {
  count = function (acc) return (acc or 0) + 1 end,
  votes = function (acc, item) return (acc or 0) + (content(item).votes or 0) end,
  types = function (acc, item)
    acc = acc or {}
    local kind = content(item).type or item.Section or "none"
    acc[kind] = (acc[kind] or 0) + 1
    return acc
  end,
  largest = function (acc, item)
    local size = item["Installed-Size"] or 0
    if not acc or size > acc.size then return {size = size, name = item.Package or item.key} end
    return acc
  end,
}

local INDEXERS = {
  key = function (item, _, emit) emit(item.key) end,
  author_sequence = function (item, _, emit) emit {item.value.author, item.value.sequence} end,
  mentions = function (item, _, emit)
    for i, link in ipairs(content(item).mentions or {}) do emit {link, item.timestamp, i - 1} end
  end,
  type = function (item, _, emit) emit(content(item).type) end,
  section_package = function (item, _, emit) emit {or_null(item.Section), item.Package, item.Version} end,
  mixed = function (item, seq, emit) emit {or_null(content(item).mixed), seq} end,
}

local function open(file, reducers, indexers)
  local db = fixture.keep(assert(flume.open(file, {log = "offset"})))
  for _, name in ipairs(reducers) do db:use("reduce_" .. name, flume.reduce(1, REDUCERS[name])) end
  for _, name in ipairs(indexers) do db:use("level_" .. name, flume.index(1, INDEXERS[name])) end
  return db
end

-- --- Both sides ---------------------------------------------------------------------------------------------------

-- The file of a log with these records, and what the originals answer to a request on a copy of it, whose path is given
-- too: both keep their views beside the file.
local function both(list, request)
  local ours, theirs = fixture.dir() .. "/log.offset", fixture.dir() .. "/log.offset"
  local lines = originals.lines(fixture.dir(), list)
  request.file = theirs
  local answers = originals.ask {
    {["do"] = "offset_write", file = ours, records = lines, batches = {50}},
    {["do"] = "offset_write", file = theirs, records = lines, batches = {50}},
    request,
  }
  return ours, answers[3], theirs
end

local function compare_reducers(list, more, names)
  local file, theirs = both(list, {["do"] = "reduce", reducers = names, append = more})
  local db = open(file, names, {})
  for _, name in ipairs(names) do assert.same(theirs.answers[name], db["reduce_" .. name]:get(), name) end
  for _, item in ipairs(more) do db:append(item) end
  for _, name in ipairs(names) do assert.same(theirs.later[name], db["reduce_" .. name]:get(), name) end
end

-- What an index gives, in the form of flumeview-level: of keys, seqs and values those that were asked for, by name if
-- there are several.
local function shaped(range, key, value, seq)
  local item, count, last = {}, 0, nil
  for name, part in pairs {key = key, value = value, seq = seq} do
    if range[name .. "s"] ~= false then
      item[name], count, last = part, count + 1, part
    end
  end
  return count == 1 and last or item
end

local function read_index(db, index, range)
  local list, given = {}, {}
  for name, value in pairs(range) do
    if name ~= "keys" and name ~= "values" and name ~= "seqs" then given[name] = value end
  end
  for key, value, seq in db["level_" .. index]:read(given) do list[#list + 1] = shaped(range, key, value, seq) end
  return list
end

local function compare_reads(list, reads)
  local names, seen = {}, {}
  for _, read in ipairs(reads) do
    if not seen[read.index] then names[#names + 1] = read.index end
    seen[read.index] = true
    read.range = flume.map(read.range)
  end
  local file, theirs = both(list, {["do"] = "level", indexers = names, reads = reads})
  local db = open(file, {}, names)
  for i, read in ipairs(reads) do
    local ours = read_index(db, read.index, read.range)
    assert.same(theirs.answers[i], ours, read.index .. " " .. flume.json.encode(read.range))
  end
end

describe("interop, views", function ()
  after_each(fixture.clean)

  compare("flumeview-reduce: states, and what becomes of them with more records", function ()
    local list, more = records.messages(SEED, 400), records.messages(SEED + 1, 10, 1000)
    compare_reducers(list, more, {"count", "votes", "types"})
  end)

  compare("flumeview-reduce on Debian's packages", function ()
    local list = records.packages(PACKAGES)
    if not list then pending "apt has no package index here" end
    compare_reducers(list, {{Package = "zzz", Section = "new", ["Installed-Size"] = 2 ^ 40 // 1}},
      {"count", "types", "largest"})
  end)

  compare("flumeview-level: ranges of keys, in each form", function ()
    local author = "@7"
    local reads = {}
    for _, range in ipairs {
      {}, {reverse = true}, {limit = 7}, {reverse = true, limit = 7}, {gt = "%000100"}, {gte = "%000100"},
      {lt = "%000100"}, {lte = "%000100"}, {gt = "%000100", lt = "%000110"}, {gte = "%000100", lte = "%000110"},
      {gte = "%000100", limit = 3, reverse = true}, {gt = "%000400"}, {lt = "%"}, {gt = "%000009", lte = "%000010"},
      {limit = 4, keys = false}, {limit = 4, values = false}, {limit = 4, seqs = false},
      {limit = 4, keys = false, values = false}, {limit = 4, keys = false, seqs = false},
      {limit = 4, values = false, seqs = false},
    } do
      reads[#reads + 1] = {index = "key", range = range}
    end
    for _, range in ipairs {
      {values = false}, {gte = {author, 100}, values = false}, {gt = {author, 0}, lt = {author, 300}, values = false},
      {gte = {author, 0}, lte = {author, 400}, reverse = true, limit = 5, values = false},
    } do
      reads[#reads + 1] = {index = "author_sequence", range = range}
    end
    reads[#reads + 1] = {index = "mentions", range = {values = false}}
    reads[#reads + 1] = {index = "mentions", range = {gt = {"%20", 0}, lt = {"%3", 0}, reverse = true}}
    compare_reads(records.messages(SEED, 400), reads)
  end)

  -- null, booleans, numbers, strings there; null, strings, numbers, booleans here, as in FoundationDB. Within an array
  -- the original puts "a b" before "a", for it ends a string with "!", which comes behind the space.
  compare("flumeview-level: keys of each kind have the same order, though the kinds don't", function ()
    local read = {index = "mixed", range = flume.map {values = false}}
    local file, theirs = both(records.messages(SEED, 300), {["do"] = "level", indexers = {"mixed"}, reads = {read}})
    local db = open(file, {}, {"mixed"})
    local function by_kind(list)
      local kinds, order = {}, {}
      for _, item in ipairs(list) do
        local kind = type(item.key[1])
        if not kinds[kind] then order[#order + 1] = kind end
        kinds[kind] = kinds[kind] or {}
        table.insert(kinds[kind], item)
      end
      return kinds, order
    end
    local their_kinds, their_order = by_kind(theirs.answers[1])
    local our_kinds, our_order = by_kind(read_index(db, "mixed", read.range))
    table.sort(their_kinds.string, function (a, b)
      if a.key[1] ~= b.key[1] then return a.key[1] < b.key[1] end
      return a.seq < b.seq
    end)
    assert.same(their_kinds, our_kinds)
    assert.same({"userdata", "boolean", "number", "string"}, their_order)
    assert.same({"userdata", "string", "number", "boolean"}, our_order)
  end)

  compare("flumeview-level on Debian's packages", function ()
    local list = records.packages(PACKAGES)
    if not list then pending "apt has no package index here" end
    compare_reads(list, {
      {index = "section_package", range = {values = false}},
      {index = "section_package", range = {gte = {"admin"}, lt = {"libs"}, limit = 50}},
      {index = "section_package", range = {gt = {"games", "m"}, reverse = true, limit = 30, values = false}},
    })
  end)

  compare("flumeview-level get", function ()
    local list = records.messages(SEED, 50)
    local gets = {{index = "key", key = "%000007"}, {index = "key", key = "%000050"}, {index = "key", key = "none"}}
    local file, theirs = both(list, {["do"] = "level", indexers = {"key"}, reads = {}, gets = gets})
    local db = open(file, {}, {"key"})
    for i, get in ipairs(gets) do assert.same(theirs.gets[i].value, db.level_key:get(get.key)) end
    assert.same(list[7], db.level_key:get "%000007")
  end)

  compare("of equal keys flumeview-level keeps the last record alone, flume all", function ()
    local list = records.messages(SEED, 100)
    local file, theirs = both(list, {
      ["do"] = "level", indexers = {"type"}, reads = {{index = "type", range = {values = false}}},
    })
    local last, kinds = {}, 0
    local db = open(file, {}, {"type"})
    for key, _, seq in db.level_type:read {} do
      if not last[key] then kinds = kinds + 1 end
      last[key] = seq
    end
    assert.equal(kinds, #theirs.answers[1])
    for _, item in ipairs(theirs.answers[1]) do assert.equal(last[item.key], item.seq) end
    assert.equal(#list, db.level_type:count {})
  end)

  compare("flumeview-level live: what is there, then what comes", function ()
    local list, more = records.messages(SEED, 30), records.messages(SEED + 1, 10, 100)
    local file, theirs = both(list, {
      ["do"] = "level_live", indexers = {"key"}, index = "key", append = more, count = 40,
    })
    local db = open(file, {}, {"key"})
    local got = {}
    local source <close> = db.level_key:read {live = true, values = false}
    flume.spawn(function ()
      for key, seq in source do got[#got + 1] = {key = key, seq = seq} end
    end)
    for _, item in ipairs(more) do db:append(item) end
    fixture.run_until(function () return #got == 40 end)
    assert.same(theirs, got)
  end)

  compare("a record that was deleted is in no view of flume, and in those of the originals", function ()
    local list = records.messages(SEED, 40)
    local file, _, theirs = both(list, {["do"] = "reduce", reducers = {"count"}})
    local db = open(file, {"count"}, {"key"})
    assert.equal(40, db.reduce_count:get())
    db:del(0)
    assert.equal(39, db.reduce_count:get())
    assert.is_nil((db.level_key:get(list[1].key)))
    local answers = originals.ask {
      {["do"] = "offset_del", file = theirs, seqs = {0}},
      {["do"] = "reduce", file = theirs, reducers = {"count"}},
    }
    assert.equal(40, answers[2].answers.count)
  end)
end)
