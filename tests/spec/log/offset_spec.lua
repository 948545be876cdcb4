-- JavaScript flumelog-offset files as logs; what every log promises is in conformance/, bytes and damage are in
-- c/test_offset.c.

local binary = require "tests.support.binary"
local flume = require "flume"
local lfs = require "lfs"
local offsets = require "tests.support.offsets"
local fixture = require "tests.support.fixture"

local framed = offsets.framed

local function file_with(values, bits)
  return fixture.write(fixture.dir() .. "/log.offset", framed(values, bits))
end

local function open(path, options)
  options = options or {}
  options.log = "offset"
  return fixture.open_db(path, options)
end

describe("flume.log.offset", function ()
  after_each(fixture.clean)

  it("takes values for JSON, and its numbers for byte offsets", function ()
    local path = file_with {'{"a":1}', '"two"', "[3]"}
    local log = fixture.keep(assert(flume.log.offset(path)))
    assert.same({a = 1}, log:get(0))
    assert.equal("two", log:get(19))
    assert.same({3}, log:get(36))
    assert.equal(36, log.since.value)
    assert.equal(51, log:append {c = 1.5})
    assert.equal('{"c":1.5}', (offsets.read(path))[4].bytes)
  end)

  it("keeps the framing of a file, and makes new files with the framing asked for", function ()
    for _, bits in ipairs {32, 48, 53} do
      local path = file_with({"1", "2"}, bits)
      local log = assert(flume.log.offset(path))
      log:append(3)
      log:close()
      assert.equal(3, #offsets.read(path, bits))
      local new = fixture.dir() .. "/new"
      log = assert(flume.log.offset(new, {bits = bits}))
      log:append {1, 2}
      log:close()
      assert.equal(framed({"1", "2"}, bits), fixture.read(new))
      local other = bits == 32 and 53 or 32
      assert.equal("EINVAL", select(3, flume.log.offset(new, {bits = other})))
    end
  end)

  it("refuses unknown options", function ()
    assert.error_matches(function () flume.log.offset(7) end, "path must be a string")
    assert.error_matches(function () flume.log.offset "" end, "names no file")
    assert.error_matches(function () flume.log.offset("x", {bits = 64}) end, "bits must be 32, 48 or 53")
    assert.error_matches(function () flume.log.offset("x", {segment_bytes = 1}) end, "unknown option")
    assert.error_matches(function () flume.open(fixture.dir(), {log = "nats"}) end, 'log must be "file" or "offset"')
    assert.equal("ENOENT", select(3, flume.log.offset(fixture.dir() .. "/none", {readonly = true})))
  end)

  it("names the record that is no JSON, and goes on behind it", function ()
    local log = fixture.keep(assert(flume.log.offset(file_with {"1", "{oops", "3"})))
    assert.same({nil, "record 13 can't be decoded: not JSON: column 2: expected a key in quotes but found 'o'",
      "ECORRUPT"}, {log:get(13)})
    assert.equal(3, log:get(30))
    assert.same({{30}, {13}, {0}}, fixture.collect(log:stream{reverse = true, values = false}))
    local report = assert(log:check())
    assert.is_false(report.ok)
    assert.same({{file = "log.offset", offset = 13, seq = 13, what = "not JSON: column 2: expected a key in quotes but "
      .. "found 'o'; db:del(13) deletes the record"}}, report.problems)
    assert.is_true(log:del(13))
    assert.same({ok = true, problems = {}}, {ok = log:check().ok, problems = log:check().problems})
  end)

  it("reads what JavaScript writes and reads", function ()
    local deep = ("["):rep(130) .. ("]"):rep(130)
    local values = {'{"t":"\\ud83d"}', deep, '{"n":12345678901234567890}', '"a\xff"', '{"n":1e999}', '{"t":"last"}'}
    local db = open(file_with(values))
    db:use("count", flume.reduce(1, function (n) return n + 1 end, 0))
    assert.equal(6, db.count:get())
    local read = {}
    for value in db:stream{seqs = false} do read[#read + 1] = value end
    assert.same({t = "\xed\xa0\xbd"}, read[1])
    local inner = read[2]
    for _ = 1, 127 do inner = inner[1] end
    assert.same({"[[]]"}, inner)
    assert.same({{n = 12345678901234567890.0}, "a\xff", {n = math.huge}, {t = "last"}}, {table.unpack(read, 3)})
    assert.is_true(db:check().ok)
    assert.equal('{"t":"\\ud83d"}', flume.json.encode(read[1]))
  end)

  it("refuses a file that isn't an offset log, and leaves it as it is", function ()
    for _, bytes in ipairs {"some notes\n", "x", "1234567890123456789", ("binary\0"):rep(1000)} do
      local path = fixture.write(fixture.dir() .. "/file", bytes)
      local _, message, code = flume.log.offset(path)
      assert.equal("ECORRUPT", code)
      assert.truthy(message:find("no flumelog-offset file", 1, true), message)
      assert.equal(bytes, fixture.read(path))
      assert.is_nil(lfs.attributes(path .. ".flume"))
    end
  end)

  it("writes nothing when it is opened read-only", function ()
    local path = file_with {"1", "2"}
    fixture.write(path, fixture.read(path) .. "torn")
    local log = fixture.keep(assert(flume.log.offset(path, {readonly = true})))
    assert.equal(13, log.since.value)
    assert.equal("EREADONLY", select(3, log:append(3)))
    assert.equal("events", (log:following()))
    local s <close> = log:stream {live = true, gte = 13}
    assert.equal(13, (s:next()))
    assert.equal(framed {"1", "2"} .. "torn", fixture.read(path))
    assert.is_nil(lfs.attributes(path .. ".flume"))
  end)

  it("compacts to nothing, and can be checked", function ()
    local log = fixture.keep(assert(flume.log.offset(file_with {'"one"', '"two"'})))
    log:del(0)
    assert.same({segments = 0, records = 0, bytes_before = 0, bytes_after = 0}, log:compact())
    local report = log:check()
    assert.is_true(report.ok)
    assert.same({2, 1, 34}, {report.records, report.deleted, report.bytes})
  end)
end)

describe("views on an offset log", function ()
  after_each(fixture.clean)

  local function sum() return flume.reduce(1, function (acc, item) return acc + item.n end, 0) end

  local function numbers(count, from)
    local list = {}
    for n = 1, count do list[n] = {n = (from or 0) + n} end
    return list
  end

  it("keep their state beside the file, and go on from there", function ()
    local path = fixture.dir() .. "/log"
    local db = open(path)
    db:use("sum", sum())
    db:append(numbers(1000))
    assert.equal(500500, db.sum:get())
    db:close()
    assert.equal("directory", lfs.attributes(path .. ".flume/views/sum", "mode"))
    db = open(path)
    local folded = 0
    db:use("sum", flume.reduce(1, function (acc, item)
      folded = folded + 1
      return acc + item.n
    end, 0))
    db:append {n = 1}
    assert.equal(500501, db.sum:get())
    assert.equal(1, folded)
  end)

  it("see what another program has appended and deleted", function ()
    local path = file_with {'{"n":1}', '{"n":2}', '{"n":3}'}
    local db = open(path)
    db:use("sum", sum()):use("by_n", flume.index(1, "n"))
    assert.equal(6, db.sum:get())
    assert.equal(3, db.by_n:count {})
    db:close()
    fixture.write(path, framed {'{"n":1}', ("\0"):rep(7), '{"n":3}', '{"n":10}'})
    db = open(path)
    db:use("sum", sum()):use("by_n", flume.index(1, "n"))
    assert.equal(14, db.sum:get())
    assert.same({{3}, {10}}, fixture.collect(db.by_n:read {gt = 1, values = false, seqs = false}))
    assert.same({nil, "deleted", "EDELETED"}, {db:get(19)})
  end)

  it("retract what is deleted while they are open, and know it by its seq", function ()
    local db = open(fixture.dir() .. "/log")
    db:append(numbers(500))
    db:use("sum", sum()):use("by_n", flume.index(1, "n"))
    db:use("seqs", flume.reduce(1, function (acc, _, seq) return math.max(acc, seq) end, -1))
    assert.equal(125250, db.sum:get())
    assert.equal(db.since.value, db.seqs:get())
    local seq = select(3, db.by_n:read {gte = 500}:next())
    assert.equal(db.since.value, seq)
    assert.is_true(db:del(seq))
    assert.equal(124750, db.sum:get())
    assert.equal(499, db.by_n:count {})
    assert.equal(499 * 500 // 2 + 7, (function ()
      db:append {n = 7}
      return db.sum:get()
    end)())
  end)

  it("stop at a bad record, say which, and skip it", function ()
    local db = open(file_with {'{"n":1}', '{"n":"x"}', '{"n":3}'})
    db:use("sum", sum())
    local _, message = db.sum:get()
    assert.truthy(message:find("record 19", 1, true), message)
    assert.is_true(db.sum:skip(19))
    assert.equal(4, db.sum:get())
  end)

  it("explain from one record to the next", function ()
    local db = open(fixture.dir() .. "/log")
    db:append(numbers(20))
    db:use("sum", sum())
    assert.equal(210, db.sum:get())
    assert.equal(20, db.sum:explain {}.records)
  end)

  it("answer reads that wait for a seq, also for an offset between two records", function ()
    local db = open(fixture.dir() .. "/log")
    db:use("sum", sum())
    db:append(numbers(10))
    assert.equal(55, db.sum:get {since = db.since.value})
    assert.equal(55, db.sum:get {since = 3, timeout = 5000})
  end)

  it("read live from where they are", function ()
    local db = open(fixture.dir() .. "/log")
    db:use("by_n", flume.index(1, "n"))
    db:append(numbers(3))
    local got = {}
    local source <close> = db.by_n:read {live = true, values = false, seqs = false}
    flume.spawn(function ()
      for key in source do got[#got + 1] = key end
    end)
    db:append(numbers(3, 3))
    db:append {n = 7}
    fixture.run_until(function () return #got == 7 end)
    assert.same({1, 2, 3, 4, 5, 6, 7}, got)
  end)

  it("of a script see the same", function ()
    local db = open(fixture.dir() .. "/log")
    local script = fixture.write(fixture.dir() .. "/total.lua",
      "return {version = 1, initial = 0, reducer = function (acc, item, seq) return acc + item.n + seq end}")
    db:append(numbers(100))
    local expected = 0
    for seq, item in db:stream() do expected = expected + item.n + seq end
    db:use("total", script)
    assert.equal(expected, db.total:get())
  end)
end)

describe("the flume binary on an offset log", function ()
  after_each(fixture.clean)

  it("reads and appends to the file", function ()
    local path = file_with {'{"n":1}', '"two"'}
    assert.equal('{"n":1}\n"two"\n', binary.output {path, "stream", "--json"})
    assert.equal("two\n", binary.output {path, "get", "19"})
    assert.equal("1 record appended\n", binary.output({path, "append"}, {input = "[3]\n"}))
    assert.equal(3, #offsets.read(path))
    assert.equal("log since 36\n", binary.output {path, "status"})
    assert.truthy(binary.output({path, "check"}):find("3 records in 1 segment", 1, true))
    assert.equal("nothing to remove\n", binary.output {path, "compact"})
  end)

  it("says where it is damaged", function ()
    local bytes = framed {"1", "2", "3"}
    local path = fixture.write(fixture.dir() .. "/log", bytes:sub(1, 13) .. "\1" .. bytes:sub(15))
    assert.truthy(binary.failure({path, "stream"}):find("byte 13: ", 1, true))
    assert.truthy(binary.output({path, "check", "--repair"}):find("repaired: log: ", 1, true))
    assert.equal("1\n2\n3\n", binary.output {path, "stream", "--json"})
  end)
end)
