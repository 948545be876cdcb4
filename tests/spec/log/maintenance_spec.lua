-- Compaction, backup and check of a database from Lua.

local flume = require "flume"
local lfs = require "lfs"
local fixture = require "tests.support.fixture"

local SUM = [[return {version = 1, initial = 0, reducer = function (acc, item) return acc + item.n end}]]
local BY_PARITY = [[return {version = 1, indexer = function (item, _, emit) emit(item.n % 2) end}]]

local function flip(path, offset)
  local bytes = fixture.read(path)
  local changed = string.char(bytes:byte(offset + 1) ~ 0x41)
  fixture.write(path, bytes:sub(1, offset) .. changed .. bytes:sub(offset + 2))
end

-- A database with records {n = 0}, {n = 1} … and two views.
local function filled(count, options)
  local dir = fixture.dir()
  fixture.write(dir .. "/scripts/sum.lua", SUM)
  fixture.write(dir .. "/scripts/parity.lua", BY_PARITY)
  options = options or {}
  options.views = dir .. "/scripts"
  local db = fixture.open_db(dir .. "/data", options)
  for n = 0, count - 1 do assert(db:append{n = n, text = ("secret-%05d"):format(n)}) end
  return db, dir
end

local function triangle(n)
  return n * (n - 1) // 2
end

describe("compaction", function ()
  after_each(fixture.clean)

  it("removes the bytes of deleted records from every file of the log", function ()
    local db, dir = filled(200, {segment_bytes = 2000})
    assert.equal(1, #fixture.files_with(dir .. "/data/log", "secret-00042"))
    db:del{42, 43, 199}
    local done = assert(db:compact())
    assert.equal(3, done.records)
    assert.is_true(done.segments >= 2 and done.bytes_after < done.bytes_before)
    for _, n in ipairs{42, 43, 199} do
      assert.same({}, fixture.files_with(dir .. "/data/log", ("secret-%05d"):format(n)))
      assert.equal("EDELETED", select(3, db:get(n)))
    end
    assert.equal(1, #fixture.files_with(dir .. "/data/log", "secret-00041"))
    assert.equal(197, #fixture.collect(db:stream()))
    assert.equal(triangle(200) - 42 - 43 - 199, db.sum:get())
    assert.same({segments = 0, records = 0, bytes_before = 0, bytes_after = 0}, db:compact())
    assert.equal(200, db:append{n = 0})
    assert.is_true(db:check().ok)
  end)

  it("goes on beside streams, appends and reads", function ()
    local db = filled(3000, {segment_bytes = 20000, sync = "os"})
    local gone = {}
    for n = 0, 2999, 3 do gone[#gone + 1] = n end
    db:del(gone)
    local compacted
    db:compact(function (err, done) compacted = err or done end)
    local seqs = {}
    for seq, value in db:stream() do
      assert.equal(seq, value.n)
      seqs[#seqs + 1] = seq
      if #seqs % 100 == 0 then
        db:append({n = 0}, function () end)
        flume.step(0)
      end
    end
    assert.equal(2000, #seqs)
    fixture.run_until(function () return compacted end)
    assert.equal(1000, compacted.records)
    assert.equal(triangle(3000) - 3 * triangle(1000), db.sum:get())
  end)

  it("says how far it is", function ()
    local db = filled(500, {segment_bytes = 2000, sync = "os"})
    local gone = {}
    for n = 0, 499, 5 do gone[#gone + 1] = n end
    db:del(gone)
    local last, total = -1, nil
    assert(db:compact{progress = function (done_bytes, total_bytes)
      assert.is_true(done_bytes >= last and done_bytes <= total_bytes)
      last, total = done_bytes, total_bytes
    end})
    fixture.run_until(function () return last == total end)
  end)

  it("is answered when the database is closed", function ()
    local db = filled(500, {segment_bytes = 2000, sync = "os"})
    db:del{1, 200, 499}
    local calls, record = fixture.recorder()
    db:compact(record)
    db:close()
    assert.equal(1, #calls)
    assert.is_true(calls[1][1] == nil or calls[1][1].code == "ECLOSED") -- it may just have been done
  end)

  it("of a log in memory frees it", function ()
    local db = fixture.memory_db()
    for n = 0, 99 do db:append{n = n} end
    db:del{5, 6, 99}
    assert.equal(3, db:compact().records)
    assert.equal(0, db:compact().records)
    assert.equal("EDELETED", select(3, db:get(6)))
    assert.same({n = 7}, db:get(7))
    assert.equal(100, db:append{n = 100})
  end)

  it("says what it can't do", function ()
    local db, dir = filled(3)
    local reader = fixture.open_db(dir .. "/data", {readonly = true})
    assert.equal("EREADONLY", select(3, reader:compact()))
    assert.error_matches(function () db:compact{porgress = print} end, "unknown option")
    assert.error_matches(function () db:compact(5) end, "options must be a table")
    db:close()
    assert.error_matches(function () db:compact() end, "closed")
  end)
end)

describe("a backup", function ()
  after_each(fixture.clean)

  it("opens as a database of its own", function ()
    local db, dir = filled(100, {segment_bytes = 2000})
    db:del(7)
    db.sum:get()
    local done = assert(db:backup(dir .. "/copy"))
    assert.equal(99, done.since)
    assert.is_true(done.files >= 4 and done.bytes > 2000)
    db:append{n = 1000}
    local copy = fixture.open_db(dir .. "/copy", {views = dir .. "/scripts"})
    assert.equal(99, copy.since.value)
    assert.same({n = 42, text = "secret-00042"}, copy:get(42))
    assert.equal("EDELETED", select(3, copy:get(7)))
    assert.equal(triangle(100) - 7, copy.sum:get())
    assert.is_true(copy:check().ok)
    assert.equal(100, copy:append{n = 5})
    assert.same({n = 1000}, db:get(100))
  end)

  it("has the views as they are, so that they need no building", function ()
    local db, dir = filled(100)
    assert.equal(triangle(100), db.sum:get())
    assert.equal(50, db.parity:count{gte = 1, lte = 1})
    db:close() -- which checkpoints them
    db = fixture.open_db(dir .. "/data", {views = dir .. "/scripts"})
    assert(db:backup(dir .. "/copy"))
    local copy = fixture.open_db(dir .. "/copy", {views = dir .. "/scripts", ready = false})
    for _, row in ipairs(copy:status().views) do assert.equal(99, row.since) end
    copy.ready:set(true)
    assert.equal(triangle(100), copy.sum:get())
    assert.equal(50, copy.parity:count{gte = 1, lte = 1})
  end)

  it("is made while appends go on, and they while it is made", function ()
    local db, dir = filled(500, {segment_bytes = 4000, sync = "os"})
    local copied
    db:backup(dir .. "/copy", function (err, done) copied = err or done end)
    local n = 500
    while not copied do
      db:append{n = n}
      n = n + 1
      flume.step(0)
    end
    assert.is_number(copied.since)
    assert.equal(triangle(n), db.sum:get())
    local copy = fixture.open_db(dir .. "/copy", {views = dir .. "/scripts"})
    assert.equal(copied.since, copy.since.value)
    assert.equal(triangle(copied.since + 1), copy.sum:get())
  end)

  it("does not touch what is there", function ()
    local db, dir = filled(3)
    fixture.write(dir .. "/taken/mine", "mine")
    local done, message, code = db:backup(dir .. "/taken")
    assert.is_nil(done)
    assert.equal("EEXIST", code)
    assert.is_truthy(message:find("taken", 1, true))
    assert.equal("mine", fixture.read(dir .. "/taken/mine"))
    assert.is_nil(lfs.attributes(dir .. "/taken.partial"))
    assert(lfs.mkdir(dir .. "/empty"))
    assert(db:backup(dir .. "/empty"))
  end)

  it("is answered when the database is closed", function ()
    local db, dir = filled(300, {segment_bytes = 2000, sync = "os"})
    local calls, record = fixture.recorder()
    db:backup(dir .. "/copy", record)
    db:close()
    assert.equal(1, #calls)
    local err = calls[1][1] -- none when it was just done
    assert.is_true(err == nil or err.code == "ECLOSED")
    assert.equal(err == nil, lfs.attributes(dir .. "/copy") ~= nil)
    assert.is_nil(lfs.attributes(dir .. "/copy.partial"))
  end)

  it("lets the views go on", function ()
    local db, dir = filled(50)
    assert(db:backup(dir .. "/one"))
    assert(db:check())
    db:append{n = 7}
    assert.equal(triangle(50) + 7, db.sum:get())
    assert.equal(26, db.parity:count{gte = 1, lte = 1})
  end)

  it("needs a log in files", function ()
    local db = fixture.memory_db()
    assert.equal("ENOTSUP", select(3, db:backup(fixture.dir() .. "/copy")))
    assert.error_matches(function () db:backup() end, "dir must be a string")
  end)
end)

describe("a check", function ()
  after_each(fixture.clean)

  it("finds nothing wrong with a sound database", function ()
    local db = filled(100, {segment_bytes = 2000})
    db:del{3, 4}
    db.sum:get()
    local found = assert(db:check())
    assert.is_true(found.ok)
    assert.same({}, found.problems)
    assert.equal(100, found.records)
    assert.equal(2, found.deleted)
    assert.is_true(found.segments > 3 and found.bytes > 5000)
  end)

  it("names the file and the place of what is damaged", function ()
    local db, dir = filled(100, {segment_bytes = 2000})
    db:close()
    local file = fixture.segments(dir .. "/data")[2]
    local at = fixture.read(file):find("secret", 1, true)
    flip(file, at + 3)
    db = fixture.open_db(dir .. "/data", {readonly = true})
    local found = assert(db:check())
    assert.is_false(found.ok)
    assert.equal(1, #found.problems)
    local problem = found.problems[1]
    assert.equal(file:match "[^/]*$", problem.file)
    assert.is_truthy(problem.what:find "checksum")
    assert.is_true(problem.offset > 64 and problem.offset < at)
    assert.equal("ECORRUPT", select(3, db:get(problem.seq)))
  end)

  it("looks at what the views keep", function ()
    local db, dir = filled(10)
    db.sum:get()
    db:close()
    local damaged = 0
    fixture.each_file(dir .. "/data/views/sum", function (path)
      if path:find "data%.mdb$" then
        fixture.write(path, ("nonsense"):rep(1000))
        damaged = damaged + 1
      end
    end)
    assert.equal(1, damaged)
    db = fixture.open_db(dir .. "/data", {readonly = true})
    local found = assert(db:check())
    assert.is_false(found.ok)
    assert.is_truthy(found.problems[1].file:find "^views/sum/")
  end)

  it("of a log in memory has nothing to find", function ()
    local db = fixture.memory_db()
    db:append{{n = 1}, {n = 2}}
    local found = assert(db:check())
    assert.is_true(found.ok)
    assert.equal(2, found.records)
  end)
end)

describe("a repair", function ()
  after_each(fixture.clean)

  it("keeps what is good, and says what is lost", function ()
    local db, dir = filled(100, {segment_bytes = 2000})
    assert.equal(triangle(100), db.sum:get())
    db:close()
    local file = fixture.segments(dir .. "/data")[2]
    flip(file, fixture.read(file):find("secret", 1, true) + 3)
    local done = assert(flume.log.repair(dir .. "/data/log"))
    assert.is_false(done.ok)
    assert.is_true(#done.repairs >= 2)
    local lost = done.problems[1].seq
    db = fixture.open_db(dir .. "/data", {views = dir .. "/scripts"})
    local value, message, code = db:get(lost)
    assert.is_nil(value)
    assert.is_truthy(message:find "^lost")
    assert.equal("EDELETED", code)
    assert.same({n = lost + 1, text = ("secret-%05d"):format(lost + 1)}, db:get(lost + 1))
    assert.equal(triangle(100) - lost, db.sum:get())
    assert.is_true(db:check().ok)
  end)

  -- The seqs of a damaged delete frame are not known any more: the log has their number alone.
  for kind, options in pairs {file = {}, offset = {log = "offset"}} do
    it("of damaged deletes lets views of every kind go on, of a log of kind " .. kind, function ()
      local db, dir = filled(20, options)
      local seqs = {}
      for seq in db:stream() do seqs[#seqs + 1] = seq end
      assert.equal(triangle(20), db.sum:get())
      db:del(seqs[6])
      db:del(seqs[8])
      assert.equal(triangle(20) - 5 - 7, db.sum:get())
      db:close()
      local log = kind == "file" and dir .. "/data/log" or dir .. "/data"
      flip(kind == "file" and log .. "/deleted" or log .. ".flume/deleted", 53) -- in the seq of the first frame
      assert(flume.log.repair(log))
      db = fixture.open_db(dir .. "/data", {log = options.log, views = dir .. "/scripts"})
      local unknown = 0
      for i = 0, db.log.core:deletion_count() - 1 do
        if db.log.core:deletion_at(i) < 0 then unknown = unknown + 1 end
      end
      assert.is_true(unknown > 0)
      local left = 0
      for _, record in db:stream() do left = left + record.n end
      db:use("kept", {version = 1, initial = 0, reducer = function (acc, item) return acc + item.n end})
      db:use("groups", {version = 1, group = "n", reducer = function (acc) return (acc or 0) + 1 end})
      assert.equal(left, db.sum:get()) -- a state from before the repair
      assert.equal(left, db.kept:get()) -- a view that begins after it
      assert.equal(1, db.groups:get(9))
      assert.equal(10, db.parity:count{gte = 0, lte = 0})
      db:del(seqs[1])
      db:append{n = 100}
      assert.equal(left + 100, db.sum:get())
      assert.equal(left + 100, db.kept:get())
      for _, row in ipairs(db:status().views) do assert.equal("live", row.state) end
      assert.is_true(db:check().ok)
    end)
  end

  it("needs the log for itself", function ()
    local db, dir = filled(3)
    assert.equal("ELOCKED", select(3, flume.log.repair(dir .. "/data/log")))
    db:close()
    local done = assert(flume.log.repair(dir .. "/data/log"))
    assert.is_true(done.ok)
    assert.same({}, done.repairs)
    assert.equal("ENOENT", select(3, flume.log.repair(dir .. "/none")))
  end)
end)

describe("rejected input", function ()
  after_each(fixture.clean)

  local function each_log(test)
    for name, db in pairs{
      memory = fixture.memory_db(),
      file = fixture.open_db(fixture.dir() .. "/data"),
      small = fixture.open_db(fixture.dir() .. "/data", {max_record_bytes = 100}),
    } do
      test(db, name)
    end
  end

  it("fails that call alone", function ()
    each_log(function (db, name)
      assert.equal(0, db:append{n = 1}, name)
      assert.equal("EINVAL", select(3, db:append(print)), name)
      local cycle = {}
      cycle.me = cycle
      assert.equal("EINVAL", select(3, db:append(cycle)), name)
      assert.equal(1, db:append{n = 2}, name)
      assert.equal(1, db.since.value, name)
    end)
  end)

  it("in a batch refuses the whole batch", function ()
    each_log(function (db, name)
      assert.equal("EINVAL", select(3, db:append{{n = 1}, {f = print}, {n = 3}}), name)
      assert.equal(-1, db.since.value, name)
      assert.equal(1, db:append{{n = 1}, {n = 2}}, name)
    end)
  end)

  it("over the limit refuses the whole batch", function ()
    local db = fixture.open_db(fixture.dir() .. "/data", {max_record_bytes = 100})
    local large = ("x"):rep(200)
    assert.equal("E2BIG", select(3, db:append(large)))
    assert.equal("E2BIG", select(3, db:append{{n = 1}, large, {n = 3}}))
    assert.equal(-1, db.since.value)
    assert.equal(0, db:append{n = 1})
  end)

  it("is told to the callback, and the others go on", function ()
    each_log(function (db, name)
      local calls, record = fixture.recorder()
      db:append({n = 1}, record)
      db:append(print, record)
      db:append({{n = 2}, {f = print}}, record)
      db:append({n = 3}, record)
      assert.equal(0, #calls)
      fixture.run_until(function () return #calls == 4 end)
      local seqs, codes = {}, {}
      for _, call in ipairs(calls) do
        if call[1] then codes[#codes + 1] = call[1].code else seqs[#seqs + 1] = call[2] end
      end
      table.sort(seqs)
      assert.same({0, 1}, seqs, name)
      assert.same({"EINVAL", "EINVAL"}, codes, name)
    end)
  end)

  it("of deletes leaves the log as it is", function ()
    each_log(function (db, name)
      db:append{{n = 1}, {n = 2}}
      assert.equal("ENOENT", select(3, db:del{0, 5}), name)
      assert.same({n = 1}, db:get(0), name)
      assert.is_true(db:del(0), name)
    end)
  end)

  it("after close is misuse, of every call", function ()
    local db = fixture.open_db(fixture.dir() .. "/data")
    db:append{n = 1}
    db:close()
    for _, call in ipairs{"append", "get", "del", "compact", "backup", "check"} do
      assert.error_matches(function () db[call](db, "x") end, "closed", nil, nil, call)
    end
  end)
end)
