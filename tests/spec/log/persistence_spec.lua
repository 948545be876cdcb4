-- What is on disk, and the defects that databases of this family had: each has its test here, under its name.

local flume = require "flume"
local fixture = require "tests.support.fixture"

local SEGMENT = "/log/00000000000000000000.flume"
local SEGMENT_HEADER_BYTES = 64

local function open(dir, options)
  return fixture.keep(assert(flume.open(dir, options)))
end

local function memory(options)
  return fixture.keep(assert(flume.new(flume.log.memory(), options)))
end

local function sum()
  return flume.reduce(1, function (acc, item) return acc + item.n end, 0)
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local bytes = file:read "a"
  file:close()
  return bytes
end

describe("a file log", function ()
  after_each(fixture.clean)

  it("is there when it is opened again", function ()
    local dir = fixture.dir()
    local db = open(dir)
    db:append {{n = 1}, {n = 2}}
    db:append {n = 3}
    db:del(1)
    db:close()
    db = open(dir)
    assert.equal(2, db.since.value)
    assert.same({{0, {n = 1}}, {2, {n = 3}}}, fixture.collect(db:stream()))
    assert.equal("EDELETED", select(3, db:get(1)))
    assert.equal(3, db:append {n = 4})
  end)

  it("is there when it is opened again, over many segments", function ()
    local dir = fixture.dir()
    for round = 1, 5 do
      local db = open(dir, {segment_bytes = 512})
      for i = 1, 20 do db:append {n = i, round = round} end
      db:close()
    end
    local db = open(dir)
    assert.equal(99, db.since.value)
    for i = 0, 99 do assert.equal(i % 20 + 1, db:get(i).n) end
    db:use("sum", sum())
    assert.equal(5 * 210, db.sum:get())
  end)

  it("holds a batch whole or not at all, wherever it is cut", function ()
    local dir = fixture.dir()
    local db = open(dir)
    db:append {n = 1}
    db:close()
    local before = #read(dir .. SEGMENT)
    db = open(dir)
    db:append {{n = 2}, {n = 3}, {n = 4}}
    db:close()
    local bytes = read(dir .. SEGMENT)
    for cut = before, #bytes, 7 do
      local torn = fixture.dir()
      fixture.write(torn .. SEGMENT, bytes:sub(1, cut))
      local again = open(torn)
      local since = again.since.value
      assert.is_true(since == 0 or since == 3, "cut at " .. cut .. ": " .. since)
      assert.equal(since + 1, again:append {n = 9})
      again:close()
    end
  end)

  it("that is damaged in the middle is not opened, but read-only on request", function ()
    local dir, damaged = fixture.dir(), fixture.dir()
    local db = open(dir)
    for i = 1, 50 do db:append {n = i, text = ("x"):rep(50)} end
    local bytes = read(dir .. SEGMENT)
    local at = bytes:find(("x"):rep(50), 1000, true)
    fixture.write(damaged .. SEGMENT, bytes:sub(1, at) .. "?" .. bytes:sub(at + 2))
    local again, message, code = flume.open(damaged)
    assert.is_nil(again)
    assert.equal("ECORRUPT", code)
    assert.truthy(message:find(SEGMENT:match "[^/]+$" .. ": byte %d+"), message)
    local reader = open(damaged, {readonly = true, damaged = true})
    assert.same({n = 1, text = ("x"):rep(50)}, reader:get(0))
  end)

  it("is made durable by sync in the weaker modes", function ()
    for _, mode in ipairs {"interval", "os"} do
      local dir = fixture.dir()
      local db = open(dir, {sync = mode})
      for i = 1, 100 do db:append {n = i} end
      assert.is_true(db:sync())
      local reader = open(dir, {readonly = true})
      assert.equal(99, reader.since.value)
    end
  end)
end)

describe("the state of views", function ()
  after_each(fixture.clean)

  it("is there when they are opened again, inline ones and scripts", function ()
    local dir, runs = fixture.dir(), 0
    local path = fixture.write(fixture.dir() .. "/script.lua",
      "return {version = 1, initial = 0, reducer = function (acc, item) return acc + item.n end}")
    local function reopen()
      local db = open(dir)
      db:use("inline", flume.reduce(1, function (acc, item)
        runs = runs + 1
        return acc + item.n
      end, 0))
      db:use("script", path)
      return db
    end
    local db = reopen()
    db:append {{n = 1}, {n = 2}}
    assert.same({3, 3}, {db.inline:get(), db.script:get()})
    db:close()
    db = reopen()
    assert.same({1, 1}, {db.inline.since.value, db.script.since.value})
    assert.same({3, 3}, {db.inline:get {since = -1}, db.script:get {since = -1}})
    db:append {n = 4}
    assert.same({7, 7}, {db.inline:get(), db.script:get()})
    assert.equal(3, runs)
  end)

  it("keeps the kinds of its values", function ()
    local dir = fixture.dir()
    local state = {1, 1.5, "a", {x = {}}, flume.null, true, math.mininteger}
    local function reopen() return open(dir):use("s", flume.reduce(1, function () return state end)) end
    local db = reopen()
    db:append {n = 1}
    db.s:get()
    db:close()
    assert.same(state, reopen().s:get {since = -1})
  end)

  it("that is damaged is rebuilt", function ()
    local dir = fixture.dir()
    local db = open(dir):use("sum", sum())
    db:append {{n = 1}, {n = 2}}
    db.sum:get()
    db:close()
    fixture.write(dir .. "/views/sum/1/data.mdb", "no database")
    db = open(dir)
    local ok = pcall(db.use, db, "sum", sum())
    assert.is_true(ok)
    assert.equal(3, db.sum:get())
  end)
end)

describe("defect:", function ()
  after_each(fixture.clean)

  it("waiters with mixed since values lost", function ()
    local db = memory():use("sum", sum())
    local answered = 0
    for _, since in ipairs {9, 0, 4, -1, 9, 2, 0} do
      db.sum:get({since = since}, function () answered = answered + 1 end)
    end
    for _ = 1, 10 do db:append {n = 1} end
    fixture.run_until(function () return answered == 7 end)
  end)

  it("since = 0 treated as unset", function ()
    local db = memory():use("sum", sum())
    local value
    db.sum:get({since = 0}, function (_, v) value = v end)
    flume.step(0)
    assert.is_nil(value)
    db:append {n = 1}
    fixture.run_until(function () return value end)
    assert.equal(1, value)
  end)

  it("rebuild at open counts twice", function ()
    local dir = fixture.dir()
    local db = open(dir):use("sum", sum())
    db:append {{n = 1}, {n = 2}}
    db.sum:get()
    db:close()
    db = open(dir):use("sum", flume.reduce(2, sum().reducer, 0))
    db.sum:rebuild(function () end)
    assert.equal(3, db.sum:get())
    assert.is_true(db.sum:rebuild())
    assert.equal(3, db.sum:get())
  end)

  it("rebuild during appends counts twice", function ()
    local db = open(fixture.dir()):use("sum", sum())
    local appended = 0
    for i = 1, 100 do
      db:append({n = 1}, function () appended = appended + 1 end)
      if i % 10 == 5 then db.sum:rebuild(function (err) assert(not err) end) end
      if i % 3 == 0 then flume.step(0) end
    end
    fixture.run_until(function () return appended == 100 end)
    assert.equal(100, db.sum:get())
  end)

  it("one poison record loops rebuilds for ever", function ()
    local runs = 0
    local db = open(fixture.dir()):use("sum", flume.reduce(1, function (acc, item)
      runs = runs + 1
      return acc + item.n
    end, 0))
    db:append {{n = 1}, {poison = true}, {n = 3}}
    assert.equal("EVIEW", select(3, db.sum:get()))
    for _ = 1, 20 do flume.step(0) end
    db:append {n = 1}
    for _ = 1, 20 do flume.step(0) end
    assert.equal(2, runs)
  end)

  it("deleting the last record hangs reads", function ()
    for _, db in ipairs {memory(), open(fixture.dir())} do
      db:use("sum", sum())
      db:append {{n = 1}, {n = 2}}
      db.sum:get()
      db:del(1)
      assert.equal(1, db.sum:get())
      db:append {n = 4}
      db:del(2)
      assert.equal(1, db.sum:get())
      assert.equal(2, db.sum.since.value)
    end
  end)

  it("a value that the codec rejects hangs all later appends", function ()
    for _, db in ipairs {memory(), open(fixture.dir())} do
      local calls, cb = fixture.recorder()
      db:append({n = 1}, cb)
      db:append({n = print}, cb)
      db:append({{n = 2}, {n = print}}, cb)
      db:append({n = 2}, cb)
      fixture.run_until(function () return #calls == 4 end)
      assert.equal(1, db.since.value)
    end
  end)

  it("a log torn in its first record does not open", function ()
    local dir = fixture.dir()
    local db = open(dir)
    db:append {text = ("x"):rep(100)}
    local bytes = read(dir .. SEGMENT)
    db:close()
    local _, record_end = bytes:find(("x"):rep(100), 1, true)
    for cut = SEGMENT_HEADER_BYTES, record_end - 1, 5 do
      local torn = fixture.dir()
      fixture.write(torn .. SEGMENT, bytes:sub(1, cut))
      local again = open(torn)
      assert.equal(-1, again.since.value)
      assert.equal(0, again:append {n = 1})
      again:close()
    end
  end)

  it("an empty or all-zero payload is read as deleted, or loses what follows", function ()
    for _, codec in ipairs {"raw", "msgpack", "json"} do
      local dir = fixture.dir()
      local db = open(dir, {codec = codec})
      local payloads = {"", "\0", ("\0"):rep(5000), "", "after"}
      for _, payload in ipairs(payloads) do db:append(payload) end
      db:append(payloads)
      db:close()
      db = open(dir, {codec = codec})
      assert.equal(9, db.since.value)
      for i = 0, 9 do assert.equal(payloads[i % 5 + 1], db:get(i)) end
      assert.equal(10, #fixture.collect(db:stream {seqs = false}))
    end
  end)

  it("limit counts deleted rows", function ()
    local db = memory()
    db:append {{n = 0}, {n = 1}, {n = 2}, {n = 3}}
    db:del {0, 2}
    assert.same({{1}, {3}}, fixture.collect(db:stream {values = false, limit = 2}))
  end)

  it("live with old = false on an empty log ends at once", function ()
    for _, db in ipairs {memory(), open(fixture.dir())} do
      local got, ended
      local s <close> = db:stream {live = true, old = false}
      s:next(function (_, seq)
        got = seq
        ended = seq == nil
      end)
      for _ = 1, 3 do flume.step(0) end
      assert.is_nil(ended)
      db:append {n = 1}
      fixture.run_until(function () return ended ~= nil end)
      assert.equal(0, got)
    end
  end)

  it("a debounce never syncs under steady load", function ()
    local dir = fixture.dir()
    local db = open(dir, {sync = "interval", interval_ms = 10})
    local reader = open(dir, {readonly = true})
    assert.equal(-1, reader.since.value)
    local calls = 0
    for _ = 1, 50 do
      db:append({n = 1}, function () calls = calls + 1 end)
      flume.step(1)
    end
    fixture.run_until(function () return calls == 50 end)
    assert.equal(49, db.since.value)
  end)

  it("acknowledged before written", function ()
    local dir = fixture.dir()
    local db = open(dir)
    local seen
    db:append({n = 1}, function ()
      local reader = assert(flume.open(dir, {readonly = true}))
      seen = reader.since.value
      reader:close()
    end)
    fixture.run_until(function () return seen end)
    assert.equal(0, seen)
  end)

  it("close leaves calls without answers", function ()
    for _, db in ipairs {memory(), open(fixture.dir())} do
      db:use("sum", sum())
      local answers, expected = {}, 0
      local function cb(slot)
        expected = expected + 1
        return function (err) answers[slot] = (answers[slot] or 0) + 1 answers.last = err end
      end
      db:append({n = 1}, cb "append")
      db:get(0, cb "get")
      db.sum:get(cb "read")
      db.sum:get({since = 50}, cb "wait")
      db.sum:get({since = 50, timeout = 60000}, cb "patient")
      db.sum:ready(cb "ready")
      db.sum:rebuild(cb "rebuild")
      db:sync(cb "sync")
      db:stream({live = true, old = false}):next(cb "stream")
      db:close(cb "close")
      db:close(cb "again")
      fixture.run_until(function () return db.closed end)
      for _ = 1, 3 do flume.step(0) end
      answers.last = nil
      local total = 0
      for slot, count in pairs(answers) do
        assert.equal(1, count, slot)
        total = total + 1
      end
      assert.equal(expected, total)
    end
  end)
end)

describe("a log that was put back from an older backup", function ()
  after_each(fixture.clean)

  -- The log has lost records, and then got as many others: the views' state is of records that are gone.
  for _, kind in ipairs {"script", "inline"} do
    it("has its views built from the records that it has, " .. kind, function ()
      local dir, path = fixture.dir() .. "/data", fixture.dir() .. "/sum.lua"
      fixture.write(path, "return {version = 1, initial = 0, reducer = function (s, i) return s + i.n end}")
      local function mount()
        local db = fixture.open_db(dir)
        local view = kind == "script" and path or flume.reduce(1, function (s, i) return s + i.n end, 0)
        return db:use("sum", view)
      end
      local db = mount()
      for n = 1, 3 do db:append {n = n} end
      assert(db:backup(dir .. ".old"))
      for n = 100, 102 do db:append {n = n} end
      assert.equal(309, db.sum:get())
      db:close()
      assert(os.execute(("rm -r %s/log && cp -r %s.old/log %s/log"):format(dir, dir, dir)))
      db = mount()
      for n = 1, 4 do db:append {n = n * 1000} end
      assert.equal(10006, db.sum:get())
      db:close()
      db = mount()
      assert.equal(10006, db.sum:get())
      assert.is_nil(db:status().views.sum.reason)
    end)
  end
end)
