-- Dropping: indexes of a query view, by name or since they are unused, and views with their state on disk.

local fixture = require "tests.support.fixture"
local flume = require "flume"
local Indexes = require "flume.query.indexes"

local eq, gt = flume.query.eq, flume.query.gt

local function fill(db, count)
  local batch = {}
  for i = 1, count do batch[i] = {n = i, t = i % 3, s = "s" .. i} end
  assert(db:append(flume.array(batch)))
end

local function names_of(db)
  local list = {}
  for i, index in ipairs(db.q:indexes()) do list[i] = index.kind .. " " .. index.path end
  return list
end

local function on_disk(dir)
  local names = require "flume.core".list_dir(dir) or {}
  table.sort(names)
  return names
end

local function open(dir, given)
  local db = assert(flume.open(dir, given))
  return db:use("q", "query")
end

describe("q:drop", function ()
  after_each(fixture.clean)

  it("drops the indexes of a field, also on disk, and a query makes them again", function ()
    local dir = fixture.dir()
    local db = open(dir)
    fill(db, 30)
    assert.equal(10, db.q:where(eq("t", 1)):count())
    assert.equal(20, #db.q:where(gt("n", 10)):by("n"):all())
    assert.same({"by n", "is t", "kind n"}, names_of(db))
    assert.equal(2, db.q:drop "n")
    assert.same({"is t"}, names_of(db))
    assert.equal(0, db.q:drop "n")
    assert.equal(20, #db.q:where(gt("n", 10)):by("n"):all())
    assert.same({"by n", "is t", "kind n"}, names_of(db))
    assert.equal(2, db.q:drop {"n"})
    assert(db:close())
    assert.same({"is-t"}, on_disk(dir .. "/views/q/indexes"))
    db = open(dir)
    assert.same({"is t"}, names_of(db))
    assert.equal(1, db.q:drop "t")
    assert.same({}, on_disk(dir .. "/views/q/indexes"))
    assert.equal(10, db.q:where(eq("t", 1)):count())
    db:close()
  end)

  it("leaves an index that a query is reading, and drops it once the loop is over or was left", function ()
    local db = open(fixture.dir())
    fill(db, 5000)
    for _ in db.q:where(gt("n", 10)):by("n"):iterate() do -- luacheck: ignore 512
      local count, message, code = db.q:drop "n"
      assert.is_nil(count)
      assert.matches("a query is reading an index of n", message)
      assert.equal("EBUSY", code)
      break
    end
    assert.equal(2, db.q:drop "n")
    do
      local results = db.q:where(gt("n", 10)):by("n"):iterate()
      results()
    end -- left without being closed
    assert.equal(2, db.q:drop "n")
    db:close()
  end)

  it("raises without a field, and refuses on a read-only handle", function ()
    local dir = fixture.dir()
    local db = open(dir)
    fill(db, 3)
    db.q:where(eq("t", 1)):count()
    assert.error_matches(function () db.q:drop() end, "a field expected")
    db:close()
    db = open(dir, {readonly = true})
    local count, _, code = db.q:drop "t"
    assert.same({nil, "EREADONLY"}, {count, code})
    db:close()
    assert.same({"is-t"}, on_disk(dir .. "/views/q/indexes"))
  end)
end)

describe("indexes that fill all slots", function ()
  local idle_ms = Indexes.IDLE_MS
  after_each(function ()
    Indexes.IDLE_MS = idle_ms
    fixture.clean()
  end)

  it("give their places to new ones once they are unused for long", function ()
    local dir = fixture.dir()
    local db = open(dir)
    fill(db, 10)
    for i = 1, 80 do assert.equal(0, db.q:where(eq("misspelt" .. i, 1)):count()) end
    assert.equal(64, #db.q:indexes())
    local told = db.q:where(eq("t", 1)):explain()
    assert.is_true(told.scan) -- all were used just now
    Indexes.IDLE_MS = 0
    assert.equal(4, db.q:where(eq("t", 1)):count())
    told = db.q:where(eq("t", 1)):explain()
    assert.is_false(told.scan)
    assert.equal(64, #db.q:indexes())
    assert.equal("is misspelt10", names_of(db)[1]) -- the one that was used first is gone
    db:close()
    db = open(dir)
    Indexes.IDLE_MS = idle_ms
    assert.equal(64, #db.q:indexes())
    assert.equal(4, db.q:where(eq("t", 1)):count())
    assert.equal(1, db.q:where(eq("s", "s3")):count()) -- those that this handle has not used go at once
    assert.is_false(db.q:where(eq("s", "s3")):explain().scan)
    assert.is_false(db.q:where(eq("t", 1)):explain().scan)
    assert.equal(64, #db.q:indexes())
    db:close()
    assert.equal(64, #on_disk(dir .. "/views/q/indexes"))
  end)
end)

describe("an index that a plan has found", function ()
  local idle_ms = Indexes.IDLE_MS
  after_each(function ()
    Indexes.IDLE_MS = idle_ms
    fixture.clean()
  end)

  it("is not dropped for another one of the same plan", function ()
    Indexes.IDLE_MS = 0
    local db = fixture.memory_db():use("q", "query")
    fill(db, 10)
    for round = 1, 3 do
      local condition = eq("t", 1)
      for i = 1, 40 do condition = condition | eq(("field%d_%d"):format(round, i), 1) end
      assert.equal(4, #db.q:where(condition):all())
      assert.is_true(#db.q:indexes() <= 64)
    end
    local condition = eq("t", 1)
    for i = 1, 100 do condition = condition | eq("one" .. i, 1) end
    assert.equal(4, #db.q:where(condition):all()) -- more than there are slots
  end)
end)

describe("db:drop", function ()
  after_each(fixture.clean)

  local function counting(db, name)
    return db:use(name, flume.reduce(1, function (n) return n + 1 end, 0))
  end

  it("removes a view and its state, and a view that is mounted again is rebuilt", function ()
    local dir = fixture.dir()
    local db = assert(flume.open(dir))
    counting(db, "a")
    counting(db, "b")
    fill(db, 3)
    assert.equal(3, db.a:get())
    local a = db.a
    assert.is_true(db:drop "a")
    assert.is_nil(db.a)
    assert.is_nil(db.views.a)
    assert.error_matches(function () a:get() end, "a:get: the view was dropped")
    assert(db:close())
    assert.same({"b"}, on_disk(dir .. "/views"))
    db = assert(flume.open(dir))
    counting(db, "a")
    assert.equal(3, db.a:get())
    assert.is_true(db:drop "a")
    counting(db, "a")
    assert.equal(3, db.a:get())
    db:close()
  end)

  it("removes what is on disk and not mounted, which status names", function ()
    local dir = fixture.dir()
    local db = assert(flume.open(dir))
    counting(db, "a")
    counting(db, "b")
    db:use("q", "query")
    fill(db, 3)
    db.q:where(eq("t", 1)):count()
    assert.same(flume.array {}, db:status().unmounted)
    assert(db:close())
    db = assert(flume.open(dir))
    counting(db, "b")
    assert.same(flume.array {"a", "q"}, db:status().unmounted)
    assert.is_true(db:drop "q")
    assert.same(flume.array {"a"}, db:status().unmounted)
    local dropped, message, code = db:drop "c"
    assert.same({nil, 'drop: there is no view "c"', "ENOENT"}, {dropped, message, code})
    db:close()
    db = assert(flume.open(dir, {readonly = true}))
    assert.equal("EREADONLY", select(3, db:drop "a"))
    db:close()
    assert.same({"a", "b"}, on_disk(dir .. "/views"))
  end)

  it("ends what waits for the view, and leaves one that a view uses", function ()
    local dir = fixture.dir()
    fixture.write(dir .. "/s/base.lua", "return {initial = 0, reducer = function (n) return n + 1 end}")
    fixture.write(dir .. "/s/user.lua", [[
      return {uses = {"base"}, initial = 0, reducer = function (n, item, seq, views) return n + 1 end}]])
    local db = assert(flume.open(dir .. "/db", {views = dir .. "/s"}))
    fill(db, 3)
    assert.equal(3, db.user:get())
    local dropped, message, code = db:drop "base"
    assert.same({nil, 'drop: the view "user" uses it', "EBUSY"}, {dropped, message, code})
    assert.is_true(db:drop "user")
    assert.is_true(db:drop "base")
    assert.same({}, on_disk(dir .. "/db/views"))
    assert(db:reload())
    assert.equal(3, db.user:get())
    db:close()
  end)

  it("takes names of views alone", function ()
    local db = assert(flume.open(fixture.dir()))
    for _, name in ipairs {"", "..", "../log", "a/b", ".", "1"} do
      assert.error_matches(function () db:drop(name) end, "the name of a view expected")
    end
    assert.error_matches(function () db:drop() end, "the name of a view expected")
    db:close()
  end)

  it("works in memory", function ()
    local db = fixture.memory_db()
    counting(db, "a")
    fill(db, 2)
    assert.equal(2, db.a:get())
    assert.is_true(db:drop "a")
    assert.equal("ENOENT", select(3, db:drop "a"))
    counting(db, "a")
    assert.equal(2, db.a:get())
  end)
end)
