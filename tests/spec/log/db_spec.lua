-- The database: opening, mounting, closing, and errors as values.

local flume = require "flume"
local fixture = require "tests.support.fixture"

local function sum(version)
  return flume.reduce(version or 1, function (acc, item) return acc + item.foo end, 0)
end

local function memory(options)
  return fixture.keep(assert(flume.new(flume.log.memory(), options)))
end

describe("a database", function ()
  after_each(fixture.clean)

  it("keeps its log and its views' state side by side", function ()
    local dir = fixture.dir() .. "/new/data"
    local db = fixture.keep(assert(flume.open(dir)))
    db:use("sum", sum())
    db:append {foo = 1}
    assert.equal(1, db.sum:get())
    db:close()
    local log = assert(flume.log.file(dir .. "/log", {readonly = true}))
    assert.equal(0, log.since.value)
    log:close()
    assert.is_not_nil(io.open(dir .. "/views/sum/1/data.mdb"))
    assert.equal(dir, db.dir)
  end)

  it("on a memory log has no directory", function ()
    assert.is_nil(memory().dir)
  end)

  it("that can't be opened gives nil, message, code", function ()
    local db, message, code = flume.open "/dev/null/data"
    assert.is_nil(db)
    assert.is_string(message)
    assert.equal("ENOTDIR", code)
    assert.equal("ENOENT", select(3, flume.open(fixture.dir() .. "/none", {readonly = true})))
  end)

  it("is locked against a second writer", function ()
    local dir = fixture.dir()
    local db = fixture.keep(assert(flume.open(dir)))
    local again, message, code = flume.open(dir)
    assert.is_nil(again)
    assert.equal("ELOCKED", code)
    assert.truthy(message:find "%d+", message)
    db:close()
    fixture.keep(assert(flume.open(dir)))
  end)

  it("lets itself be read, read-only, while it is written", function ()
    local dir = fixture.dir()
    local db = fixture.keep(assert(flume.open(dir)))
    db:append {foo = 1}
    local reader = fixture.keep(assert(flume.open(dir, {readonly = true})))
    assert.same({foo = 1}, reader:get(0))
    assert.equal("EREADONLY", select(3, reader:append {foo = 2}))
    reader:use("sum", sum())
    assert.equal(1, reader.sum:get())
  end)

  it("raises for misuse", function ()
    for wanted, call in pairs {
      ["dir must be a string"] = function () flume.open(1) end,
      ["unknown option"] = function () flume.open("x", {redy = true}) end,
      ["ready must be boolean"] = function () flume.open("x", {ready = 1}) end,
      ["a log expected"] = function () flume.new(5) end,
      ["sync must be"] = function () flume.open("x", {sync = "never"}) end,
      ["codec must be"] = function () flume.open("x", {codec = "yaml"}) end,
    } do
      assert.error_matches(call, wanted)
    end
  end)

  it("prints its kind, path and state", function ()
    local db = memory()
    assert.equal("flume.db: memory (since -1)", tostring(db))
    assert.equal("observable: -1", tostring(db.since))
    db:use("sum", sum())
    assert.equal("flume.view: sum", tostring(db.sum))
    db:close()
    assert.is_string(tostring(db))
    assert.is_string(tostring(db.since))
    assert.is_string(tostring(db.log))
  end)

  it("refuses sizes and times beyond their limits, and names them", function ()
    local limits = {max_record_bytes = 1 << 30, segment_bytes = 2 << 30, interval_ms = 86400000}
    for name, limit in pairs(limits) do
      for _, value in ipairs {-1, 0, limit + 1, (1 << 32) + 100, math.mininteger, math.maxinteger} do
        local given = {[name] = value}
        local want = ("%s must be between 1 and %d, not %d"):format(name, limit, value)
        for _, open in ipairs {flume.open, flume.log.file, name ~= "segment_bytes" and flume.log.offset or nil} do
          local ok, why = pcall(open, fixture.dir() .. "/data", given)
          assert.is_false(ok)
          assert.equal(want, tostring(why):match "([%w_]+ must be .*)$")
        end
        assert.is_false((pcall(flume.log.memory, given)))
      end
      fixture.keep(assert(flume.open(fixture.dir() .. "/data", {[name] = limit}))):close()
    end
  end)

  describe("use", function ()
    it("mounts a view under its name, and returns the database", function ()
      local db = memory()
      assert.equal(db, db:use("sum", sum()))
      assert.equal(db.sum, db.views.sum)
    end)

    it("refuses a name that is taken", function ()
      local db = memory():use("sum", sum())
      assert.error_matches(function () db:use("sum", sum()) end, 'there is a view "sum" already')
      for _, name in ipairs {"append", "get", "close", "since", "views", "log", "dir", "ready", "closed", "use"} do
        assert.error_matches(function () db:use(name, sum()) end, "taken", nil, name)
      end
    end)

    it("refuses a value that isn't a name", function ()
      local db = memory()
      for _, name in ipairs {"", "a b", "1st", "a/b", "..", 5, true} do
        assert.error_matches(function () db:use(name, sum()) end, "a view's name")
      end
    end)

    it("says what is wrong with a view", function ()
      local db = memory()
      for wanted, view in pairs {
        ["neither a reducer"] = {version = 1},
        ["names a method size that it does not have"] = {reducer = print, methods = {size = "async"}},
        ['must be "sync", "async", "source"'] = {reducer = print, size = print, methods = {size = "later"}},
        ["methods must be a table"] = {reducer = print, methods = "get"},
        ["version must be"] = {version = {}, reducer = print},
        ["initial"] = {version = 1, reducer = print, initial = print},
        ["method name ready is taken"] = {reducer = print, ready = print, methods = {ready = "async"}},
        ["method name since is taken"] = {reducer = print, since = print, methods = {since = "sync"}},
      } do
        assert.error_matches(function () db:use("v", view) end, wanted)
        assert.is_nil(db.views.v)
      end
      assert.error_matches(function () db:use("v", 5) end, "a view is a table")
      assert.error_matches(function () db:use("v", "no.such.module") end, "not found")
      assert.error_matches(function () db:use("v", "/no/such/file.lua") end, "no such file")
      assert.error_matches(function () db:use("v", sum(), {memry = 1}) end, "unknown option")
      db:use("v", sum())
    end)

    it("after appends folds what is there already", function ()
      local db = memory()
      db:append {{foo = 1}, {foo = 2}}
      db:use("sum", sum())
      assert.equal(3, db.sum:get())
    end)
  end)

  describe("a callback", function ()
    it("gets an error object that reads like its message", function ()
      local db = memory()
      local err
      db:get(9, function (e) err = e end)
      fixture.run_until(function () return err end)
      assert.equal("ENOENT", err.code)
      assert.equal(err.message, tostring(err))
      assert.truthy(err:find "no record 9")
      assert.equal("x" .. err.message, "x" .. err)
    end)
  end)

  describe("status", function ()
    it("tells where each view is", function ()
      local db = memory {ready = false}
      db:use("sum", sum(7)):use("bad", {reducer = function () error "no" end})
      db:append {foo = 1}
      local status = db:status()
      assert.equal(0, status.since)
      assert.is_false(status.ready)
      assert.same({"bad", "sum"}, {status.views[1].name, status.views[2].name})
      assert.equal("stalled", status.views[2].state)
      assert.equal(1, status.views[2].lag)
      assert.equal(status.views[2], status.views.sum)
      assert.is_nil(status.views.other)
      db.ready:set(true)
      db.sum:get()
      db.bad:get()
      status = db:status()
      assert.equal("live", status.views[2].state)
      assert.equal(0, status.views[2].lag)
      assert.equal(7, status.views[2].version)
      assert.equal("failed", status.views[1].state)
      assert.equal(0, status.views[1].seq)
      assert.truthy(status.views[1].error:find "no")
      assert.truthy(status.views[1].traceback:find "traceback")
    end)
  end)

  describe("rebuild", function ()
    it("rebuilds every view", function ()
      local runs = {a = 0, b = 0}
      local db = memory()
      for name in pairs(runs) do
        db:use(name, {reducer = function () runs[name] = runs[name] + 1 end})
      end
      db:append {{foo = 1}, {foo = 2}}
      assert.is_true(db.a:ready() and db.b:ready())
      assert.is_true(db:rebuild())
      assert.same({a = 4, b = 4}, runs)
    end)

    it("without views is done", function ()
      assert.is_true(memory():rebuild())
    end)
  end)

  describe("close", function ()
    it("is idempotent, with callbacks and without", function ()
      local db = memory()
      local calls, cb = fixture.recorder()
      assert.is_true(db:close(cb))
      db:close(cb)
      assert.is_true(db:close())
      fixture.run_until(function () return #calls == 2 end)
      assert.is_true(db.closed)
      assert.same({nil, true}, {calls[1][1], calls[1][2]})
    end)

    it("makes every later call raise", function ()
      local db = memory():use("sum", sum())
      local view = db.sum
      db:close()
      for _, call in ipairs {
        function () db:append {foo = 1} end, function () db:get(0) end, function () db:del(0) end,
        function () db:stream() end, function () db:use("other", sum()) end, function () db:rebuild() end,
        function () view:get() end, function () view:ready() end, function () view:rebuild() end,
      } do
        assert.error_matches(call, "closed")
      end
    end)

    it("happens when its log is closed", function ()
      local db = memory():use("sum", sum())
      local calls, cb = fixture.recorder()
      db.sum:get({since = 5}, cb)
      assert.is_true(db.log:close())
      assert.is_true(db.closed)
      flume.step(0)
      assert.equal("ECLOSED", calls[1][1].code)
      assert.equal(1, #calls)
    end)

    it("of one of two databases on a log leaves the other", function ()
      local log = fixture.keep(flume.log.memory())
      local a, b = flume.new(log), flume.new(log)
      a:use("sum", sum())
      b:use("sum", sum())
      a:append {foo = 3}
      assert.equal(3, a.sum:get())
      a:close()
      assert.equal(3, b.sum:get())
      b:close()
      assert.is_true(log.closed)
    end)

    it("happens at the end of a block", function ()
      local outside
      do
        local db <close> = flume.new(flume.log.memory())
        outside = db
      end
      assert.is_true(outside.closed)
    end)

    it("is done by the garbage collector when it was forgotten", function ()
      local dir = fixture.dir()
      do
        local db = assert(flume.open(dir))
        db:append {foo = 1}
      end
      collectgarbage()
      collectgarbage()
      local db = fixture.keep(assert(flume.open(dir)))
      assert.equal(0, db.since.value)
    end)
  end)
end)
