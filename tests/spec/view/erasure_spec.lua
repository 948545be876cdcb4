-- After db:compact() no file of the database has a byte left of a deleted record, nor of what views had made of it: in
-- whatever form a view keeps it, and wherever LMDB had it.

local child = require "tests.support.child"
local flume = require "flume"
local lfs = require "lfs"
local fixture = require "tests.support.fixture"

local MARK = "secret-of-record-%05d."

local function mark(n)
  return MARK:format(n)
end

-- Views that keep what records say, each in another form. kept: of a record that was folded long ago too.
local VIEWS = {
  ["an index by a path"] = {kept = true, source = [[{version = 1, indexer = "text"}]]},
  ["an index by paths"] = {kept = true, source = [[{version = 1, indexer = {"n", "text"}}]]},
  ["keys that a function emits"] = {kept = true,
    source = [[{version = 1, indexer = function (item, _, emit) emit({item.n % 3, item.text}) end}]]},
  ["values that a function emits"] = {kept = true,
    source = [[{version = 1, indexer = function (item, _, emit) emit(item.n % 3, item.text) end}]]},
  ["long keys"] = {kept = true,
    source = [[{version = 1, indexer = function (item, _, emit) emit(("k"):rep(600) .. item.text) end}]]},
  ["long values"] = {kept = true,
    source = [[{version = 1, indexer = function (item, _, emit) emit(item.n, item.text:rep(500)) end}]]},
  ["a reducer"] = {source = [[{version = 1, initial = "", reducer = function (_, item) return item.text end}]]},
  ["a large state"] = {kept = true, source = [[{version = 1, initial = {},
    reducer = function (acc, item) acc[#acc + 1] = item.text return acc end}]]},
  ["a reducer with retract"] = {kept = true, source = [[{version = 1, initial = {},
    reducer = function (acc, item) acc["n" .. item.n] = item.text return acc end,
    retract = function (acc, item) acc["n" .. item.n] = nil return acc end}]]},
  ["groups"] = {kept = true, source = [[{version = 1, initial = "", group = "text",
    reducer = function (acc, item) return acc .. item.text end}]]},
  ["groups with retract"] = {kept = true, source = [[{version = 1, initial = 0, group = "text",
    reducer = function (acc, item) return acc + 1 end,
    retract = function (acc, item) if acc > 1 then return acc - 1 end end}]]},
  ["an index that is used"] = {kept = true, used = {version = 1, indexer = "text"},
    source = [[{version = 1, uses = {"u"}, initial = 0, reducer = function (_, _, _, uses)
      return uses.u:count()
    end}]]},
  ["groups that are used"] = {kept = true, used = {version = 1, group = "text", aggregate = {n = "count"}},
    source = [[{version = 1, uses = {"u"}, initial = 0, reducer = function (_, _, _, uses)
      return uses.u:count()
    end}]]},
}

local function append(db, from, to)
  local batch = {}
  for n = from, to do batch[#batch + 1] = {n = n, text = mark(n)} end
  assert(db:append(batch))
end

-- Checkpoints happen on the way: what a view has taken is in its files then.
local function fill(db, count)
  for n = 0, count - 1, 50 do
    append(db, n, math.min(n + 49, count - 1))
    db.v:ready()
  end
end

local function delete_some(db, count)
  local gone = {}
  for n = 0, count - 1, 7 do gone[#gone + 1] = n end
  gone[#gone + 1] = count - 1
  assert(db:del(gone))
  return gone
end

local function assert_gone(dir, seqs)
  for _, n in ipairs(seqs) do assert.same({}, fixture.files_with(dir, mark(n))) end
end

local function script(text)
  return fixture.write(fixture.dir() .. "/v.lua", "return " .. text)
end

-- What a reader sees of the view.
local function contents(db)
  if db:status().views.v.kind == "reduce" then return {db.v:get()} end
  return fixture.collect(db.v:read{})
end

describe("compaction erases from the files of", function ()
  after_each(fixture.clean)

  for name, view in pairs(VIEWS) do
    for _, where in ipairs{"a state of its own", "the caller's state"} do
      it(name .. ", in " .. where, function ()
        local dir = fixture.dir() .. "/data"
        local function open()
          local db = fixture.open_db(dir, {sync = "os"})
          if view.used then db:use("u", view.used) end
          return db:use("v", where == "the caller's state" and load("return " .. view.source)() or script(view.source))
        end
        local db = open()
        fill(db, 300)
        db:close()
        db = open()
        append(db, 300, 399)
        db.v:ready()
        if view.kept then assert.equal(1, #fixture.files_with(dir .. "/views/v", mark(42))) end
        assert.is_true(#fixture.files_with(dir, mark(399)) >= 1)
        local gone = delete_some(db, 400)
        local before = contents(db)
        assert(db:compact())
        assert_gone(dir, gone)
        assert.same(before, contents(db))
        append(db, 400, 400)
        db.v:ready()
        db:close()
        db = open()
        assert.equal(400, db.v.since:get())
        assert.is_nil(db:status().views.v.reason)
        assert(db:del(400))
        assert.same(before, contents(db))
      end)
    end
  end
end)

describe("a compaction", function ()
  after_each(fixture.clean)

  local INDEX = VIEWS["values that a function emits"].source

  local function filled(source, count)
    local dir = fixture.dir() .. "/data"
    local db = fixture.open_db(dir, {sync = "os"})
    db:use("v", script(source))
    fill(db, count)
    return db, dir
  end

  it("leaves nothing in pages that were used before", function ()
    local db, dir = filled(INDEX, 3000)
    for round = 0, 4 do
      for n = round, 2999, 5 do
        if n % 10 ~= 9 then assert(db:del(n)) end
      end
      db.v:ready()
    end
    assert(db:compact())
    for n = 0, 2999, 97 do assert.equal(n % 10 == 9 and 2 or 0, #fixture.files_with(dir, mark(n))) end
    assert.equal(300, db.v:count())
  end)

  it("that has nothing to do rewrites nothing", function ()
    local db, dir = filled(INDEX, 100)
    local function version() return fixture.read(dir .. "/views/v/active") end
    db:close()
    db = fixture.open_db(dir)
    db:use("v", script(INDEX))
    assert(db:compact())
    local first = version()
    assert(db:del(50))
    assert(db:compact())
    assert.not_equal(first, version())
    local second = version()
    assert(db:compact())
    db:close()
    db = fixture.open_db(dir)
    db:use("v", script(INDEX))
    assert(db:compact())
    assert.equal(second, version())
    local versions = 0
    for name in lfs.dir(dir .. "/views/v") do versions = versions + (name:find "^%d+$" and 1 or 0) end
    assert.equal(1, versions)
  end)

  it("answers reads and takes appends meanwhile", function ()
    local db, dir = filled(INDEX, 20000)
    assert(db:del{5, 500, 19999})
    local done
    db:compact(function (err, result) done = err or result end)
    local reads, appends = 0, 0
    while not done do
      append(db, 20000 + appends, 20000 + appends)
      appends = appends + 1
      flume.step(0)
      reads = reads + #fixture.collect(db.v:read({gte = 0, lt = 1, limit = 1, wait = false}))
    end
    assert.is_nil(done.code)
    assert.is_true(reads > 0 and appends > 0)
    assert_gone(dir, {5, 500, 19999})
    db.v:ready()
    assert.equal(20000 - 3 + appends, db.v:count())
  end)

  it("names a view that has failed, and does the rest", function ()
    local db, dir = filled(INDEX, 100)
    db:use("good", script(VIEWS["an index by a path"].source))
    db:use("bad", script [[{version = 1, indexer = function (item, _, emit)
      if item.n == 60 then error "no" end
      emit(item.text)
    end}]])
    db.good:ready()
    assert.equal("EVIEW", select(3, db.bad:ready()))
    db:close()
    db = fixture.open_db(dir)
    db:use("good", script(VIEWS["an index by a path"].source)):use("v", script(INDEX))
    db:use("bad", script [[{version = 1, indexer = function () error "no" end}]])
    db.bad:ready()
    assert(db:del{10, 60})
    local done, message, code = db:compact()
    assert.is_nil(done)
    assert.equal("EVIEW", code)
    assert.is_truthy(message:find('view "bad"', 1, true), message)
    assert.is_nil(message:find('view "good"', 1, true))
    assert.same({}, fixture.files_with(dir .. "/log", mark(10)))
    assert.same({}, fixture.files_with(dir .. "/views/good", mark(10)))
    assert.same({}, fixture.files_with(dir .. "/views/v", mark(10)))
  end)

  it("names a view that is not mounted", function ()
    local db, dir = filled(INDEX, 100)
    db:close()
    db = fixture.open_db(dir)
    assert(db:del(10))
    local done, message, code = db:compact()
    assert.is_nil(done)
    assert.equal("EVIEW", code)
    assert.is_truthy(message:find('view "v": it is not mounted', 1, true), message)
    db:use("v", script(INDEX))
    assert(db:compact())
    assert_gone(dir, {10})
    db:close()
    db = fixture.open_db(dir)
    assert(db:compact())
  end)

  it("names a view in whose earlier version an iterator is open", function ()
    local dir = fixture.dir() .. "/data"
    local db = fixture.open_db(dir)
    local source = [[return {version = 1, indexer = "text", methods = {numbers = "source"}, numbers = function ()
      local n = 0
      return function () n = n + 1 return n end
    end}]]
    local path = fixture.write(fixture.dir() .. "/v.lua", source)
    db:use("v", path)
    fill(db, 100)
    do
      local iterator <close> = db.v:numbers()
      assert.equal(1, iterator:next())
      fixture.write(path, (source:gsub("version = 1", "version = 2")))
      assert(db:reload "v")
      assert(db:del(10))
      local done, message = db:compact()
      assert.is_nil(done)
      assert.is_truthy(message:find("iterator", 1, true), message)
    end
    assert(db:compact())
    assert_gone(dir, {10})
  end)

  it("waits for a version that is being built", function ()
    local dir = fixture.dir() .. "/data"
    local db = fixture.open_db(dir, {sync = "os"})
    local path = script(INDEX)
    db:use("v", path)
    fill(db, 5000)
    fixture.write(path, "return " .. INDEX:gsub("version = 1", "version = 2"))
    local reloaded
    db:reload("v", function (err) reloaded = err or true end)
    assert(db:del{10, 4000})
    assert(db:compact())
    fixture.run_until(function () return reloaded end)
    assert.is_true(reloaded)
    assert_gone(dir, {10, 4000})
    assert.equal(2, db.v.version)
    assert.equal(4998, db.v:count())
  end)

  it("and a reload that begins meanwhile both finish", function ()
    local dir = fixture.dir() .. "/data"
    local db = fixture.open_db(dir, {sync = "os"})
    local path = script(INDEX)
    db:use("v", path)
    fill(db, 5000)
    assert(db:del{10, 4000})
    local compacted, reloaded
    db:compact(function (err, done) compacted = err or done end)
    fixture.write(path, "return " .. INDEX:gsub("version = 1", "version = 2"))
    db:reload("v", function (err) reloaded = err or true end)
    fixture.run_until(function () return compacted and reloaded end)
    assert.is_true(reloaded)
    assert.is_nil(compacted.code)
    assert(db:compact())
    assert_gone(dir, {10, 4000})
    assert.equal(4998, db.v:count())
    db:close()
    db = fixture.open_db(dir)
    db:use("v", path)
    assert.equal(4999, db.v.since:get())
  end)

  it("of a raw view has it destroy its state first", function ()
    local dir = fixture.dir() .. "/data"
    local db = fixture.open_db(dir)
    local file = dir .. "/raw"
    db:use("v", {create = function ()
      local view = {since = flume.observable(-1), methods = {}}
      function view.create_sink()
        return function (record, seq)
          local out = assert(io.open(file, "a"))
          out:write(record.text)
          out:close()
          view.since:set(seq)
        end
      end
      function view.destroy(cb)
        os.remove(file)
        view.since:set(-1)
        cb()
      end
      function view.close(cb) cb() end
      return view
    end})
    append(db, 0, 9)
    db.v:ready()
    assert.equal(1, #fixture.files_with(dir, mark(3)) - #fixture.files_with(dir .. "/log", mark(3)))
    assert(db:del(3))
    assert(db:compact())
    assert_gone(dir, {3})
  end)

  it("leaves alone the readers of another process, which go on after it", function ()
    local db, dir = filled(INDEX, 500)
    db.v:ready()
    db:close()
    db = fixture.open_db(dir)
    db:use("v", script(INDEX))
    local fifo = fixture.dir() .. "/go"
    assert(os.execute("mkfifo " .. fifo))
    local pipe = child.start([[
      local flume = require "flume"
      local dir, view, fifo = ...
      io.stdout:setvbuf "line"
      local db = assert(flume.open(dir, {readonly = true}))
      db:use("v", view)
      print(db.v:count())
      for line in io.lines(fifo) do print(db.v:count({}, {since = tonumber(line)})) end
      db:close()
    ]], dir, script(INDEX), fifo)
    local go = assert(io.open(fifo, "w"))
    go:setvbuf "line"
    assert.equal("500", pipe:read "l")
    assert(db:del{3, 4})
    assert(db:compact())
    assert_gone(dir, {3, 4})
    append(db, 500, 599)
    go:write "599\n"
    assert.equal("598", pipe:read "l")
    go:close()
    assert.equal("", pipe:read "a")
    assert.is_true(pipe:close())
  end)
end)
