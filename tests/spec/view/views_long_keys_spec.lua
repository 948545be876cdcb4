-- Keys of some hundred bytes and more, such as URLs, in all built-in views that have keys: in memory and on disk.

local fixture = require "tests.support.fixture"
local flume = require "flume"

local PREFIX = "https://example.org/" .. string.rep("a/", 300)

-- Names in an order that is neither that of the names nor of their hashes.
local function records(count)
  local list = {}
  for i = 0, count - 1 do
    list[#list + 1] = {url = ("%s%03d"):format(PREFIX, i * 7 % count), n = i}
  end
  return list
end

local COUNT = 50

local function name(i)
  return ("%s%03d"):format(PREFIX, i)
end

local function numbers(stream)
  local list = {}
  for key in stream do list[#list + 1] = tonumber((type(key) == "table" and key[1] or key):sub(-3)) end
  return list
end

local function sequence(from, to, step)
  local list = {}
  for i = from, to, step or 1 do list[#list + 1] = i end
  return list
end

local function each_place(body)
  it("in memory", function ()
    local db = fixture.memory_db()
    body(db)
    db:close()
  end)
  it("on disk", function ()
    local dir = fixture.dir()
    local db = assert(flume.open(dir))
    body(db)
    assert(db:close())
    for _, readonly in ipairs {true, false} do
      db = assert(flume.open(dir, {readonly = readonly}))
      body(db, true)
      db:close()
    end
  end)
end

describe("long keys of a group", function ()
  each_place(function (db, again)
    db:use("urls", "aggregate", {params = {group = "url", fields = {n = {"sum", "n"}}}})
    if not again then assert(db:append(flume.array(records(COUNT)))) end
    assert.same(sequence(0, COUNT - 1), numbers(db.urls:read {}))
    assert.same(sequence(COUNT - 1, 0, -1), numbers(db.urls:read {reverse = true}))
    assert.same({0, 1, 2}, numbers(db.urls:read {limit = 3}))
    assert.same(sequence(21, 24), numbers(db.urls:read {gt = name(20), limit = 4}))
    assert.same(sequence(20, 29), numbers(db.urls:read {gte = name(20), lt = name(30)}))
    assert.equal(COUNT, db.urls:count {})
  end)
end)

describe("long keys of an index", function ()
  each_place(function (db, again)
    db:use("urls", "index", {params = {key = "url"}})
    if not again then assert(db:append(flume.array(records(COUNT)))) end
    assert.same(sequence(0, COUNT - 1), numbers(db.urls:read {}))
    assert.same(sequence(19, 10, -1), numbers(db.urls:read {reverse = true, lt = name(20), limit = 10}))
    assert.same(sequence(0, COUNT - 1), numbers(db.urls:read {prefix = PREFIX}))
    assert.equal(10, db.urls:count {gt = name(9), lte = name(19)})
  end)
end)

describe("long keys of a query", function ()
  each_place(function (db, again)
    db:use("q", "query")
    if not again then assert(db:append(flume.array(records(COUNT)))) end
    local found = {}
    for record in db.q:where(flume.query.gt("url", name(9))):by("url"):limit(5):iterate() do
      found[#found + 1] = tonumber(record.url:sub(-3))
    end
    assert.same(sequence(10, 14), found)
  end)
end)

describe("a key beyond the limit", function ()
  it("fails the view, which says so", function ()
    local db = fixture.memory_db()
    db:use("urls", "index", {params = {key = "url"}})
    db:append {url = ("x"):rep(65533)}
    assert.equal(1, db.urls:count {})
    db:append {url = ("x"):rep(65535)}
    local count, message, code = db.urls:count {}
    assert.is_nil(count)
    assert.matches("a key of 65537 bytes %(at most 65536%)", message)
    assert.equal("E2BIG", code)
    db:close()
  end)
end)

describe("a value beyond the limit", function ()
  it("is found by queries, which do without the index of an order that can't have it", function ()
    local db = fixture.memory_db()
    db:use("q", "query")
    local long, other = ("x"):rep(70000), ("x"):rep(69999) .. "y"
    for i, text in ipairs {"a", long, "z", other, long} do assert(db:append {text = text, n = i}) end
    local function numbers_of(query)
      local list = {}
      for i, each in ipairs(assert(query:all())) do list[i] = each.n end
      return list
    end
    for _ = 1, 2 do
      assert.same({2, 5}, numbers_of(db.q:where(flume.query.eq("text", long))))
      assert.same({4}, numbers_of(db.q:where(flume.query.eq("text", other))))
      assert.equal(2, db.q:where(flume.query.eq("text", long)):count())
      assert.same({1, 2, 5, 4, 3}, numbers_of(db.q:where():by "text"))
      assert.same({3, 4, 5, 2}, numbers_of(db.q:where(flume.query.gt("text", "b")):by("text"):descending()))
      assert.same({2, 3, 4, 5}, numbers_of(db.q:where(flume.query.prefix("text", "x") | flume.query.eq("n", 3))))
    end
    local failed = 0
    for _, each in ipairs(db.q:indexes()) do
      if each.error then failed = failed + 1 assert.matches("at most 65536", each.error) end
    end
    assert.equal(1, failed) -- the order of text
    assert.is_true(db.q:drop "text" > 0)
  end)
end)
