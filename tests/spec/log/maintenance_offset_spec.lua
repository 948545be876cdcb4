-- Backup, check and repair of a JavaScript flumelog-offset file with views, from Lua and by the binary.

local binary = require "tests.support.binary"
local flume = require "flume"
local lfs = require "lfs"
local offsets = require "tests.support.offsets"
local fixture = require "tests.support.fixture"

local SUM = [[return {version = 1, initial = 0, reducer = function (acc, item) return acc + item.n end}]]
local BY_PARITY = [[return {version = 1, indexer = function (item, _, emit) emit(item.n % 2) end}]]

local function open(path, options)
  options = options or {}
  options.log = "offset"
  return fixture.open_db(path, options)
end

-- A file of records {n = 0}, {n = 1} …, with two views, in a folder of its own.
local function filled(count)
  local dir = fixture.dir()
  fixture.write(dir .. "/scripts/sum.lua", SUM)
  fixture.write(dir .. "/scripts/parity.lua", BY_PARITY)
  local path = dir .. "/log.offset"
  local db = open(path, {views = dir .. "/scripts"})
  for n = 0, count - 1 do assert(db:append{n = n}) end
  return db, dir, path
end

local function triangle(n)
  return n * (n - 1) // 2
end

local function at(path, number)
  return (offsets.read(path))[number + 1].off
end

-- Other bytes in the place of some of the file's.
local function overwrite(path, off, bytes)
  local text = fixture.read(path)
  fixture.write(path, text:sub(1, off) .. bytes .. text:sub(off + #bytes + 1))
end

describe("a backup of an offset log", function ()
  after_each(fixture.clean)

  it("opens as a database of its own, under the name of the file", function ()
    local db, dir, path = filled(100)
    db:del(at(path, 7))
    db.sum:get()
    local done = assert(db:backup(dir .. "/copy"))
    assert.equal(at(path, 99), done.since)
    assert.is_true(done.files >= 3 and done.bytes > 1000)
    db:append{n = 1000}
    local copy = open(dir .. "/copy/log.offset", {views = dir .. "/scripts"})
    assert.equal(at(path, 99), copy.since.value)
    assert.same({n = 42}, copy:get(at(path, 42)))
    assert.equal("EDELETED", select(3, copy:get(at(path, 7))))
    assert.equal(triangle(100) - 7, copy.sum:get())
    assert.is_true(copy:check().ok)
    copy:append{n = 5}
    assert.equal(triangle(100) - 7 + 5, copy.sum:get())
    assert.equal(50, copy.parity:count{gte = 1, lte = 1})
  end)

  it("has the views as they are, so that they need no building", function ()
    local db, dir, path = filled(100)
    assert.equal(triangle(100), db.sum:get())
    assert.equal(50, db.parity:count{gte = 0, lte = 0})
    db:close() -- which checkpoints them
    db = open(path, {views = dir .. "/scripts"})
    assert(db:backup(dir .. "/copy"))
    local copy = open(dir .. "/copy/log.offset", {views = dir .. "/scripts", ready = false})
    for _, row in ipairs(copy:status().views) do assert.equal(at(path, 99), row.since) end
    copy.ready:set(true)
    assert.equal(triangle(100), copy.sum:get())
  end)

  it("is made while appends and deletes go on, and they while it is made", function ()
    local db, dir, path = filled(2000)
    local copied
    db:backup(dir .. "/copy", function (err, done) copied = err or done end)
    local n = 2000
    while not copied do
      db:append{n = n}
      if n % 5 == 0 then db:del(at(path, n - 1990)) end
      n = n + 1
      flume.step(0)
    end
    assert.is_number(copied.since)
    local copy = open(dir .. "/copy/log.offset", {views = dir .. "/scripts"})
    assert.equal(copied.since, copy.since.value)
    local sum = 0
    for _, item in copy:stream() do sum = sum + item.n end
    assert.equal(sum, copy.sum:get())
    assert.is_true(copy:check().ok)
  end)

  it("can be made by a reader, beside the writer", function ()
    local db, dir, path = filled(100)
    assert.equal(triangle(100), db.sum:get())
    local reader = open(path, {readonly = true})
    assert(reader:backup(dir .. "/copy"))
    local copy = open(dir .. "/copy/log.offset", {views = dir .. "/scripts"})
    assert.equal(triangle(100), copy.sum:get())
  end)

  it("by the binary says what to open", function ()
    local db, dir, path = filled(10)
    db:close()
    local copy = dir .. "/copy/log.offset"
    local out = binary.output{path, "backup", dir .. "/copy"}
    assert.equal(1, (out:find(copy .. ": ", 1, true)))
    assert.truthy(out:find("up to record " .. at(path, 9), 1, true))
    assert.equal(binary.output{path, "stream", "--json"}, binary.output{copy, "stream", "--json"})
  end)
end)

describe("a check of an offset log", function ()
  after_each(fixture.clean)

  it("names file, byte and record of what is damaged", function ()
    local db, _, path = filled(10)
    db:close()
    local seq = at(path, 4)
    overwrite(path, seq, "\xff")
    assert.equal("ECORRUPT", select(3, flume.log.offset(path)))
    local log = fixture.keep(assert(flume.log.offset(path, {readonly = true, damaged = true})))
    local report = log:check()
    assert.is_false(report.ok)
    assert.equal(9, report.records)
    assert.equal(1, #report.problems)
    assert.same({"log.offset", seq, seq},
      {report.problems[1].file, report.problems[1].offset, report.problems[1].seq})
    assert.truthy(binary.failure({path, "check"}):find("check --repair keeps what is good", 1, true))
  end)

  it("looks at what is beside the file, and at views", function ()
    local db, _, path = filled(10)
    db:del(at(path, 3))
    assert.is_true(db:check().ok)
    db:close()
    overwrite(path .. ".flume/deleted", 20, "??")
    overwrite(path .. ".flume/note", 0, ("?"):rep(600))
    local log = fixture.keep(assert(flume.log.offset(path, {readonly = true, damaged = true})))
    local files = {}
    for _, problem in ipairs(log:check().problems) do files[problem.file] = true end
    assert.same({note = true}, files) -- without which nothing else can be told
    assert.equal(9, #fixture.collect(log:stream()))
  end)
end)

describe("a repair of an offset log", function ()
  after_each(fixture.clean)

  it("mends a record whose framing is told by the rest of it", function ()
    local db, dir, path = filled(100)
    assert.equal(triangle(100), db.sum:get())
    db:close()
    local seq = at(path, 42)
    overwrite(path, seq, "\0\0\9\9")
    local done = assert(flume.log.repair(path))
    assert.is_false(done.ok)
    assert.equal(100, done.records)
    db = open(path, {views = dir .. "/scripts"})
    assert.same({n = 42}, db:get(seq))
    assert.equal(triangle(100), db.sum:get())
    assert.is_true(db:check().ok)
  end)

  it("says what is lost, and views know of it", function ()
    local db, dir, path = filled(100)
    assert.equal(triangle(100), db.sum:get())
    assert.equal(50, db.parity:count{gte = 0, lte = 0})
    db:close()
    local lost, after = at(path, 10), at(path, 13)
    overwrite(path, lost, ("\xee"):rep(after - lost))
    local done = assert(flume.log.repair(path))
    assert.equal(97, done.records)
    assert.truthy(done.repairs[#done.repairs - 1].what:find("lost", 1, true))
    db = open(path, {views = dir .. "/scripts"})
    local _, message, code = db:get(lost)
    assert.equal("EDELETED", code)
    assert.truthy(message:find "^lost")
    assert.same({n = 13}, db:get(after))
    assert.equal(97, #fixture.collect(db:stream()))
    assert.equal(triangle(100) - 10 - 11 - 12, db.sum:get())
    assert.equal(48, db.parity:count{gte = 0, lte = 0})
    assert.is_true(db:check().ok)
  end)

  it("of a file that was cut never gives a seq to another record", function ()
    local db, dir, path = filled(100)
    assert.equal(triangle(100), db.sum:get())
    local was = db.since.value
    db:close()
    local cut = at(path, 60) + 5
    fixture.write(path, fixture.read(path):sub(1, cut))
    assert(flume.log.repair(path))
    db = open(path, {views = dir .. "/scripts"})
    assert.equal(triangle(60), db.sum:get())
    assert.is_true(db:append{n = 7} > was)
    assert.equal(triangle(60) + 7, db.sum:get())
  end)

  it("by the binary", function ()
    local db, _, path = filled(20)
    db:close()
    local seq = at(path, 4)
    overwrite(path, seq, "\xff")
    local out = binary.output{path, "check", "--repair"}
    assert.truthy(out:find(("log.offset: byte %d (record %d): "):format(seq, seq), 1, true))
    assert.truthy(out:find("repaired: log.offset: its framing was written anew", 1, true))
    local aside = out:match "repaired: (damaged%-%d+): holds what was replaced"
    assert.equal("file", lfs.attributes(("%s.flume/%s/log.offset"):format(path, aside), "mode"))
    assert.truthy(binary.output{path, "check"}:find "20 records in 1 segment, .*; no damage")
  end)

  it("needs the log for itself, and leaves a sound one alone", function ()
    local db, dir, path = filled(3)
    assert.equal("ELOCKED", select(3, flume.log.repair(path)))
    db:close()
    local bytes = fixture.read(path)
    local done = assert(flume.log.repair(path))
    assert.is_true(done.ok)
    assert.same({}, done.repairs)
    assert.equal(bytes, fixture.read(path))
    assert.equal("ENOENT", select(3, flume.log.repair(dir .. "/none")))
    assert.equal("ECORRUPT", select(3, flume.log.repair(fixture.write(dir .. "/notes", "no log\n"))))
  end)
end)
