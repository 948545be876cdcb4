-- flumeview-query, and flume's query view: the same queries in the map-filter-reduce language to both.

local assert = require "luassert"
local flume = require "flume"
local originals = require "tests.interop.originals"
local records = require "tests.interop.records"
local fixture = require "tests.support.fixture"
local seeds = require "tests.support.seeds"

local SEED = seeds.take()
local COUNT = 400

local compare = originals.comparing(it, pending)

local LAST = {key = "last", timestamp = 2000000000000}

-- Options beside the query: limit and reverse. by_index: the original gives the order of its index, flume that of the
-- log, so both are sorted by their keys.
local READS = {
  {query = '[{"$filter": {"value": {"content": {"type": "post"}}}}]'},
  {query = '[{"$filter": {"value": {"content": {"type": "post"}}}}]', reverse = true},
  {query = '[{"$filter": {"value": {"content": {"type": "post"}}}}]', limit = 5},
  {query = '[{"$filter": {"value": {"content": {"type": "post"}}}}]', reverse = true, limit = 5},
  {query = '[{"$filter": {"value": {"author": "@3"}}}]'},
  {query = '[{"$filter": {"value": {"author": "@3", "content": {"type": "vote"}}}}]'},
  {query = '[{"$filter": {"value": {"author": {"$prefix": "@1"}}}}]', by_index = true},
  {query = '[{"$filter": {"value": {"content": {"type": {"$in": ["vote", "pub"]}}}}}]'},
  {query = '[{"$filter": {"value": {"sequence": {"$gt": 100, "$lte": 120}}}}]'},
  {query = '[{"$filter": {"timestamp": {"$gte": 1500000300000}}}]'},
  {query = '[{"$filter": {"timestamp": {"$lt": 1500000050000}, "value": {"content": {"type": {"$ne": "post"}}}}}]'},
  {query = '[{"$filter": {"value": {"content": {"channel": {"$is": "string"}}}}}]'},
  {query = '[{"$filter": {"value": {"content": {"votes": {"$gt": 2}}}}}, {"$map": ["value", "content", "votes"]}]'},
  {query = '[{"$filter": {"value": {"author": "@5"}}}, ' ..
    '{"$map": {"who": ["value", "author"], "n": ["value", "sequence"]}}]'},
  {query = '[{"$filter": {"value": {"content": {"type": "about"}}}}, {"$map": "key"}]'},
  {query = '[{"$map": {"type": ["value", "content", "type"]}}, {"$filter": {"type": "contact"}}]', limit = 3},
  {query = '[{"$reduce": {"$count": true}}]'},
  {query = '[{"$filter": {"value": {"content": {"type": "vote"}}}}, ' ..
    '{"$reduce": {"$sum": ["value", "content", "votes"]}}]'},
  {query = '[{"$filter": {"value": {"content": {"type": "vote"}}}}, ' ..
    '{"$reduce": {"who": ["value", "author"], "n": {"$count": true}, ' ..
    '"votes": {"$sum": ["value", "content", "votes"]}}}]'},
  {query = '[{"$filter": {"value": {"sequence": {"$gt": 0}}}}, ' ..
    '{"$reduce": {"type": ["value", "content", "type"], ' ..
    '"first": {"$min": "timestamp"}, "last": {"$max": "timestamp"}}}]'},
}

local function by_key(list)
  table.sort(list, function (a, b) return a.key < b.key end)
  return list
end

local function answer(db, read)
  local list = {}
  local options = {limit = read.limit, reverse = read.reverse}
  for value in db.q:query(flume.json.decode(read.query), options) do list[#list + 1] = value end
  return list
end

describe("interop, flumeview-query", function ()
  after_each(fixture.clean)

  compare("queries have the same answers", function ()
    local dir = fixture.dir()
    local list = records.messages(SEED, COUNT)
    local reads = {}
    for i, read in ipairs(READS) do
      reads[i] = {query = flume.json.decode(read.query), limit = read.limit, reverse = read.reverse}
    end
    local file = dir .. "/log.offset"
    local theirs = originals.ask {
      {["do"] = "offset_write", file = file, records = originals.lines(dir, list), batches = {50}},
      {["do"] = "query", file = file, last = LAST, reads = reads},
    }
    local db = fixture.memory_db()
    list[#list + 1] = LAST
    db:append(list)
    db:use("q", "query")
    for i, read in ipairs(READS) do
      local sort = read.by_index and by_key or function (answers) return answers end
      local which = ("%s, limit %s, reverse %s"):format(read.query, read.limit, read.reverse)
      assert.same(sort(theirs[2][i]), sort(answer(db, read)), which)
    end
  end)

  -- An index of it has one entry for each key: here, the last record of each type and second.
  compare("records with equal keys are lost to the original's index, and not to flume's", function ()
    local dir = fixture.dir()
    local list = records.messages(SEED, 50)
    for _, item in ipairs(list) do item.timestamp = 1500000000000 end
    local file = dir .. "/log.offset"
    local query = '[{"$filter": {"value": {"content": {"type": "post"}}}}]'
    local theirs = originals.ask {
      {["do"] = "offset_write", file = file, records = originals.lines(dir, list), batches = {50}},
      {["do"] = "query", file = file, last = LAST, reads = {{query = flume.json.decode(query)}}},
    }
    local db = fixture.memory_db()
    db:append(list)
    db:use("q", "query")
    local ours, posts = answer(db, {query = query}), {}
    for _, item in ipairs(list) do
      if item.value.content.type == "post" then posts[#posts + 1] = item end
    end
    assert.same(posts, ours)
    assert.equal(1, #theirs[2][1])
  end)
end)
