-- jitdb on an async-append-only-log file, and flume on what it imports of that: by its query view, and by reading all.

local assert = require "luassert"
local flume = require "flume"
local binary = require "tests.support.binary"
local originals = require "tests.interop.originals"
local records = require "tests.interop.records"
local fixture = require "tests.support.fixture"
local seeds = require "tests.support.seeds"

local SEED = seeds.take()
local COUNT = 500

local compare = originals.comparing(it, pending)

-- --- Conditions ---------------------------------------------------------------------------------------------------

local TYPE, AUTHOR, CHANNEL = {"value", "content", "type"}, {"value", "author"}, {"value", "content", "channel"}
local TIMESTAMP, SEQUENCE = {"timestamp"}, {"value", "sequence"}

local function eq(path, value) return {op = "eq", path = path, value = value} end
local function all_of(...) return {op = "and", of = {...}} end
local function any_of(...) return {op = "or", of = {...}} end
local function none_of(condition) return {op = "not", of = {condition}} end
local function bound(op, path, value) return {op = op, path = path, value = value} end

local function value_at(record, path)
  for _, name in ipairs(path) do
    if type(record) ~= "table" then return nil end
    record = record[name]
  end
  return record
end

local TESTS = {
  eq = function (where, record) return value_at(record, where.path) == where.value end,
  gt = function (where, record) return value_at(record, where.path) > where.value end,
  gte = function (where, record) return value_at(record, where.path) >= where.value end,
  lt = function (where, record) return value_at(record, where.path) < where.value end,
  lte = function (where, record) return value_at(record, where.path) <= where.value end,
}

local function holds(where, record)
  if where.op == "not" then return not holds(where.of[1], record) end
  if not where.of then return TESTS[where.op](where, record) end
  for _, each in ipairs(where.of) do
    if holds(each, record) ~= (where.op == "and") then return where.op == "or" end
  end
  return where.op == "and"
end

-- The condition for flume's query view.
local function built(where)
  local query = flume.query
  if where.op == "not" then return ~built(where.of[1]) end
  if not where.of then return query[where.op](where.path, where.value) end
  local condition = built(where.of[1])
  for i = 2, #where.of do
    condition = where.op == "and" and condition & built(where.of[i]) or condition | built(where.of[i])
  end
  return condition
end

-- --- Answers: lists of keys, newest first unless ascending; a page of them ----------------------------------------

local function keys_of(list)
  local keys = {}
  for i, record in ipairs(list) do keys[i] = record.key end
  return keys
end

local function page_of(search, list)
  if not search.page then return list end
  local from = search.from or 0
  return table.move(list, from + 1, math.min(from + search.page, #list), 1, {})
end

local function by_scan(db, search)
  local found = {}
  for record in db:stream {seqs = false, reverse = not search.ascending} do
    if holds(search.where, record) then found[#found + 1] = record end
  end
  return keys_of(page_of(search, found)), #found
end

local function by_view(db, search)
  local query = db.q:where(built(search.where))
  if not search.ascending then query = query:descending() end
  if not search.page then return keys_of(assert(query:all())) end
  query = query:limit(search.page)
  local found, cursor = query:page()
  while cursor and #found < (search.from or 0) + search.page do
    local page
    page, cursor = query:page(cursor)
    table.move(page, 1, #page, #found + 1, found)
  end
  return keys_of(page_of(search, found))
end

local START_MS = 1500000000000

local SEARCHES = {
  {where = eq(TYPE, "post")},
  {where = eq(TYPE, "post"), ascending = true},
  {where = eq(TYPE, "nothing")},
  {where = eq(CHANNEL, "c3")},
  {where = all_of(eq(TYPE, "vote"), eq(AUTHOR, "@3"))},
  {where = any_of(eq(TYPE, "vote"), eq(TYPE, "about"), eq(AUTHOR, "@3"))},
  {where = all_of(eq(TYPE, "post"), any_of(eq(AUTHOR, "@1"), eq(AUTHOR, "@2")))},
  {where = none_of(eq(TYPE, "post"))},
  {where = all_of(none_of(eq(AUTHOR, "@5")), eq(TYPE, "contact")), ascending = true},
  {where = bound("gt", TIMESTAMP, START_MS + 250000)},
  {where = bound("gte", TIMESTAMP, START_MS + 250000), ascending = true},
  {where = all_of(bound("gt", SEQUENCE, 100), bound("lte", SEQUENCE, 120))},
  {where = all_of(bound("gte", SEQUENCE, 50), bound("lt", SEQUENCE, 400), eq(TYPE, "post"))},
  {where = eq(TYPE, "post"), page = 10},
  {where = eq(TYPE, "post"), page = 10, from = 10},
  {where = eq(TYPE, "post"), page = 25, from = 5, ascending = true},
  {where = all_of(eq(TYPE, "post"), bound("lt", TIMESTAMP, START_MS + 400000)), page = 7, from = 3},
  {where = eq(TYPE, "post"), page = 10, from = 100000},
}

-- What jitdb is asked. It loses records from pages behind the first one (of 81 messages, the seven from the fourth on
-- left one out): so of such a page it is asked for all there is, and that is cut here.
local function asked()
  local searches = {}
  for i, search in ipairs(SEARCHES) do
    local from_start = search.page and not search.from
    searches[i] = {where = search.where, ascending = search.ascending, page = from_start and search.page or nil}
  end
  return searches
end

-- jitdb's answers, and a database with what flume imports of the same file.
local function both(list, deleted)
  local dir = fixture.dir()
  local file = dir .. "/log.bipf"
  local answers = originals.ask {
    {["do"] = "async_write", file = file, records = originals.lines(dir, list), deleted = deleted},
    {["do"] = "jit", file = file, indexes = dir .. "/indexes", searches = asked()},
  }
  local db_dir = dir .. "/db"
  binary.output {db_dir, "import", "--from", "async-append-only-log", file}
  return fixture.open_db(db_dir), answers[2]
end

local function compare_all(db, theirs, answer)
  for i, search in ipairs(SEARCHES) do
    local keys, total = answer(db, search)
    local which = "search " .. i
    assert.same(search.from and page_of(search, theirs[i].keys) or theirs[i].keys, keys, which)
    if total and theirs[i].total then assert.equal(theirs[i].total, total, which) end
  end
end

describe("interop, jitdb", function ()
  after_each(fixture.clean)

  compare("an import has every record of an async-append-only-log file", function ()
    local list = records.messages(SEED, COUNT)
    local db = both(list)
    local n = 0
    for seq, record in db:stream() do
      assert.same(list[seq + 1], record)
      n = n + 1
    end
    assert.equal(COUNT, n)
  end)

  compare("equal, and, or, not, range and pages, beside reading all", function ()
    local db, theirs = both(records.messages(SEED, COUNT))
    compare_all(db, theirs, by_scan)
  end)

  compare("equal, and, or, not, range and pages, by the query view", function ()
    if not flume.query then pending "there is no query view" end
    local db, theirs = both(records.messages(SEED, COUNT))
    db:use("q", "query")
    compare_all(db, theirs, by_view)
  end)

  compare("a deleted record is in the answers of neither", function ()
    local list = records.messages(SEED, COUNT)
    local db, theirs = both(list, {10, 20, 499})
    assert.equal(COUNT - 3, db.since.value + 1)
    compare_all(db, theirs, by_scan)
  end)
end)
