-- What becomes of a view when those that it uses are told something, or fail; and of views that are tables.

local flume = require "flume"
local child = require "tests.support.child"
local fixture = require "tests.support.fixture"

local TOTAL = [[return {version = 1, initial = 0, reducer = function (n, item)
  if item.n == "bad" then error "no number" end
  return n + item.n
end}]]
local FACTOR = [[local _, params = ...
  return {%s initial = 0, reducer = function (n, item) return n + item.n * (params and params.factor or 1) end}]]

local function user_of(name, version)
  return ([[return {version = %s, uses = {"%s"}, initial = {}, reducer = function (list, item, seq, uses)
    list[#list + 1] = uses.%s:get()
    return list
  end}]]):format(version or 1, name, name)
end

describe("a view that uses others", function ()
  local dir, folder, db

  before_each(function ()
    dir, folder, db = fixture.dir() .. "/db", fixture.dir(), nil
  end)
  after_each(fixture.clean)

  local function write(name, text) return fixture.write(("%s/%s.lua"):format(folder, name), text) end

  local function open(options)
    if db then db:close() end
    options = options or {views = folder}
    options.sync = "os"
    db = fixture.open_db(dir, options)
    return db
  end

  local function append(...)
    for _, n in ipairs {...} do assert(db:append {n = n}) end
  end

  -- Where the view began when it was opened: -1 when it was built anew.
  local function start_of(name) return db[name].progress.value.start end

  -- --- Skipping ----------------------------------------------------------------------------------------------------

  it("passes over the records that they skip, and is rebuilt for that", function ()
    write("total", TOTAL)
    write("user", user_of "total")
    open()
    append(1, 2, 4)
    assert.same({1, 3, 7}, db.user:get())
    assert(db.total:skip(1))
    assert.same({1, 1, 5}, db.user:get {wait = false})
    assert.matches("^version 1%+%x+ %-> 1%+%x+$", db:status().views.user.reason)
    append(8)
    assert.same({1, 1, 5, 13}, db.user:get())
    open()
    assert.same({1, 1, 5, 13}, db.user:get())
    assert.equal(3, start_of "user")
    assert(db.user:rebuild())
    assert.same({1, 1, 5, 13}, db.user:get())
  end)

  it("fails where they fail, names the failed view, and goes on when they do", function ()
    write("total", TOTAL)
    write("middle", [[return {version = 1, uses = {"total"}, initial = 0,
      reducer = function (_, item, seq, uses) return uses.total:get() end}]])
    write("user", user_of "middle")
    open()
    append(1, 2, "bad", 4)
    local _, why, code = db.user:get()
    assert.equal("EVIEW", code)
    assert.matches('it uses "total": .*total.lua:2: no number', why)
    local row = db:status().views.user
    assert.same({"failed", 2, {"total", "middle"}}, {row.state, row.seq, row.uses})
    assert.matches("total.lua:2", row.traceback, 1, true)
    assert(db.user:skip(2)) -- that is for its own step
    assert.matches('it uses "total"', (select(2, db.user:get())))
    assert(db.total:skip(2))
    assert.same({1, 3, 7}, db.user:get())
    assert.equal(7, db.middle:get())
    open()
    assert.same({1, 3, 7}, db.user:get())
  end)

  it("passes over a record alone", function ()
    write("total", TOTAL)
    write("user", user_of "total")
    open()
    append(1, 2, 4)
    assert(db.user:skip(1))
    assert.same({1, 7}, db.user:get())
    append(8)
    assert(db.user:skip(4))
    append(16, 32)
    assert.same({1, 7, 15, 63}, db.user:get())
    assert(db.user:rebuild())
    assert.same({1, 7, 15, 63}, db.user:get())
  end)

  it("knows the records that they skipped before they are mounted", function ()
    write("total", TOTAL)
    open()
    append(1, 2, 4)
    assert(db.total:skip(0))
    open {}
    local path = fixture.write(folder .. "/late/user.lua", user_of "total")
    write("late/total", TOTAL)
    db:use("user", path)
    assert.same({0, 2, 6}, db.user:get())
    open {}
    db:use("user", path)
    assert.same({0, 2, 6}, db.user:get())
    assert.equal(2, start_of "user")
  end)

  -- --- Parameters --------------------------------------------------------------------------------------------------

  it("gets them with their parameters, and is rebuilt when those change", function ()
    for _, version in ipairs {"", "version = 1,"} do
      dir = fixture.dir() .. "/db"
      local factor = fixture.write(fixture.dir() .. "/factor.lua", FACTOR:format(version))
      write("user", user_of "factor")
      local function use(given)
        open()
        db:use("factor", factor, {params = {factor = given}})
      end
      use(10)
      append(1, 2)
      assert.same({10, 30}, db.user:get())
      use(10)
      assert.same({10, 30}, db.user:get())
      assert.equal(1, start_of "user")
      use(100)
      assert.same({100, 300}, db.user:get())
      assert.equal(-1, start_of "user")
      db:close()
      db = nil
    end
  end)

  it("expects the script of its folder until the view is mounted, then uses the mounted view", function ()
    write("factor", FACTOR:format "")
    local path = write("user", user_of "factor")
    local function use()
      open {ready = false}
      db:use("user", path)
      db:use("factor", folder .. "/factor.lua", {params = {factor = 10}})
      db.ready:set(true)
    end
    use()
    append(1, 2)
    assert.same({10, 30}, db.user:get())
    use()
    append(4)
    assert.same({10, 30, 70}, db.user:get())
    assert.equal(1, start_of "user") -- what was begun in between is let go of
    assert.is_nil(db:status().views.user.reason)
  end)

  it("answers an error until what it uses is there", function ()
    write("user", user_of "total")
    open()
    append(1)
    assert.matches('"total", of which there is no script', (select(2, db.user:get())))
    write("total", TOTAL)
    assert(db:reload())
    assert.same({1}, db.user:get())
    write("total", "return {")
    open()
    assert.matches('it uses "total": .*unexpected symbol', (select(2, db.user:get())))
    write("total", TOTAL)
    assert(db:reload "total")
    assert.same({1}, db.user:get())
  end)

  it("is accepted with the same views alone", function ()
    write("total", TOTAL)
    write("other", TOTAL)
    write("user", user_of "total")
    open()
    append(1, 2)
    assert.same({1, 3}, db.user:get())
    write("total", (TOTAL:gsub("version = 1", "version = 2")))
    assert(db.user:accept "the same sums")
    append(4)
    assert.same({1, 3, 7}, db.user:get())
    write("user", user_of("other", 2))
    local _, why = db.user:accept "as before"
    assert.matches("the state has other views in it", why)
    assert.same({1, 3, 7}, db.user:get())
    write("user", [[return {version = 3, initial = {}, reducer = function (list) return list end}]])
    assert(db:reload())
    write("user", user_of("total", 4))
    _, why = db.user:accept "as before"
    assert.matches("the state has other views in it", why)
    assert.same({}, db.user:get())
  end)

  it("stays as it is when they are rebuilt unchanged", function ()
    write("total", TOTAL)
    write("user", user_of "total")
    open()
    append(1, 2)
    assert.same({1, 3}, db.user:get())
    assert(db.total:rebuild())
    assert.equal(1, db.user.since:get())
    assert.is_nil(db:status().views.user.reason)
    assert.is_nil(db:status().views.user.next)
  end)

  it("is rebuilt when their source changes and it has no version", function ()
    write("total", TOTAL)
    write("user", user_of("total", "nil"))
    open()
    append(1)
    assert.same({1}, db.user:get())
    write("total", (TOTAL:gsub("no number", "not a number")))
    assert(db:reload "total")
    assert.equal("the source has changed", db:status().views.user.reason)
    assert.same({1}, db.user:get())
  end)

  -- --- Tables ------------------------------------------------------------------------------------------------------

  it("may be a table, and use scripts and tables", function ()
    write("total", TOTAL)
    local function use()
      open {}
      db:use("total", folder .. "/total.lua")
      db:use("count", flume.reduce(1, function (n) return n + 1 end, 0))
      db:use("by_n", flume.index(1, "n"))
      db:use("means", {
        version = 1, uses = {"total", "count", "by_n"}, initial = {},
        reducer = function (list, item, _, uses)
          list[#list + 1] = {uses.total:get() / uses.count:get(), uses.by_n:count {lte = item.n}}
          return list
        end,
        methods = {now = "async"},
        now = function (view) return view.used.count:get() end,
      })
    end
    use()
    append(2, 4, 3)
    assert.same({{2, 1}, {3, 2}, {3, 2}}, db.means:get())
    assert.equal(3, db.means:now())
    use()
    assert.equal(2, start_of "means")
    assert(db.count:skip(0))
    assert.same({{math.huge, 1}, {6, 2}, {4.5, 2}}, db.means:get())
    assert(db:del(1))
    assert.same({{math.huge, 1}, {5, 2}}, db.means:get())
  end)

  it("may be a script that uses a table without functions", function ()
    local function use(version, path)
      open()
      db:use("by", flume.index(version, path))
    end
    write("user", [[return {version = 1, uses = {"by"}, initial = {}, reducer = function (list, item, seq, uses)
      list[#list + 1] = uses.by:count {gte = item.n, lte = item.n}
      return list
    end}]])
    use(1, "n")
    append(1, 2, 1)
    assert.same({1, 1, 2}, db.user:get())
    use(1, "n")
    assert.same({1, 1, 2}, db.user:get())
    assert.equal(2, start_of "user")
    use(2, "m")
    assert.same({0, 0, 0}, db.user:get())
  end)

  -- --- Dry runs ----------------------------------------------------------------------------------------------------

  it("is explained from the present state of itself and of them", function ()
    write("entries", [[return {version = 1, indexer = function (item, seq, emit) emit(item.n % 2, seq) end}]])
    write("sums", [[return {version = 1, group = function (item) return item.n % 2 end, initial = 0,
      reducer = function (sum, item) return sum + item.n end}]])
    write("user", [[return {version = 1, uses = {"entries", "sums"}, initial = {},
      reducer = function (list, item, seq, uses)
      local seen = {uses.entries:count(), (uses.entries:get(item.n % 2)), uses.sums:get(item.n % 2), uses.sums:count()}
      for key, value in uses.entries:read {reverse = true, limit = 3} do seen[#seen + 1] = key * 100 + value end
      for key, sum in uses.sums:read {} do seen[#seen + 1] = key * 100 + sum end
      list[#list + 1] = seen
      return list
    end}]])
    open()
    append(1, 2, 3)
    assert(db.user:get())
    db.ready:set(false)
    append(5, 4)
    local dry = assert(db.user:explain {from = 3})
    assert.equal("state", dry.starts_with)
    assert.is_nil(dry.error)
    assert.equal(3, #dry.before)
    db.ready:set(true)
    assert.same(db.user:get(), dry.after)
    assert.same({4, 3, 9, 2, 103, 102, 100, 2, 109}, dry.after[4])
    assert.same({5, 4, 6, 2, 103, 102, 100, 6, 109}, dry.after[5])
    assert.same(dry.after, assert(db.user:explain {from = 0}).after)
    assert(db.sums:skip(0))
    dry = assert(db.user:explain {from = 0, to = 0})
    assert.equal(0, dry.skipped)
    assert.same({1, 0, 0, 0, 100}, dry.after[1])
  end)

  -- --- Readers -----------------------------------------------------------------------------------------------------

  it("is read by another process without a rebuild", function ()
    write("total", TOTAL)
    write("user", [[return {version = 1, uses = {"total"}, indexer = function (item, seq, emit, uses)
      emit(uses.total:get())
    end}]])
    open()
    append(1, 2)
    assert.equal(2, db.user:count())
    db:close()
    db = nil
    local text = child.run([[
      local flume = require "flume"
      local dir, folder = ...
      local db = assert(flume.open(dir, {views = folder, readonly = true}))
      print(db.user.progress.value.start, (select(2, db.user:get(3))))
    ]], dir, folder)
    assert.equal("1\t1\n", text:match "[^\n]*\n$")
  end)
end)
