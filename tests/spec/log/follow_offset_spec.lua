-- Read-only handles on JavaScript flumelog-offset files that another process of flume's writes. Beside a process in
-- JavaScript: interop/follow_spec.lua.

local child = require "tests.support.child"
local flume = require "flume"
local lfs = require "lfs"
local offsets = require "tests.support.offsets"
local fixture = require "tests.support.fixture"
local writers = require "tests.support.writer"

local function start_writer(path, sync)
  return writers.start(path, ("{log = 'offset', sync = %q}"):format(sync or "always"))
end

local function reader_of(path, options)
  options = options or {}
  options.readonly, options.log = true, "offset"
  return fixture.open_db(path, options)
end

-- Whether the reader has so many records.
local function has(db, count)
  return function () return #fixture.collect(db:stream()) == count end
end

local function count()
  return flume.reduce(1, function (acc) return acc + 1 end, 0)
end

describe("an offset log that another process writes", function ()
  after_each(fixture.clean)

  it("is followed from its beginning, observed and streamed live", function ()
    local path = fixture.dir() .. "/log"
    local writer = start_writer(path)
    local db, seen, observed = reader_of(path), {}, {}
    assert.equal(-1, db.since.value)
    assert.same({by = "events"}, db:status().following)
    db.since(function (since) observed[#observed + 1] = since end, false)
    flume.spawn(function ()
      for _, value in db:stream{live = true} do seen[#seen + 1] = value.n end
    end)
    for last = 39, 399, 40 do
      writer.tell "append 40"
      fixture.run_until(function () return seen[#seen] == last end)
    end
    for i, n in ipairs(seen) do assert.equal(i - 1, n) end
    for i = 2, #observed do assert.is_true(observed[i] > observed[i - 1]) end
    assert.equal((offsets.read(path))[400].off, db.since.value)
  end)

  it("has views in the reader, of every kind, which keep up with appends and deletes", function ()
    local path = fixture.dir() .. "/log"
    local script = fixture.write(fixture.dir() .. "/total.lua",
      "return {version = 1, initial = 0, reducer = function (acc, item) return acc + item.n end}")
    local writer = start_writer(path)
    local db = reader_of(path):use("n", count()):use("total", script):use("by_n", flume.index(1, "n"))
    for round = 1, 10 do
      writer.tell "append 10"
      fixture.run_until(function () return db.n:get() == round * 10 end)
    end
    assert.equal(99 * 100 // 2, db.total:get())
    local seq = (offsets.read(path))[51].off
    writer.tell("del " .. seq)
    fixture.run_until(function () return db.n:get() == 99 and db.total:get() == 99 * 100 // 2 - 50 end)
    assert.equal("EDELETED", select(3, db:get(seq)))
    assert.same({}, fixture.collect(db.by_n:read{gte = 50, lte = 50}))
    assert.equal(99, db.by_n:count{})
    assert.is_nil(lfs.attributes(path .. ".flume/views"))
  end)

  it("is waited for in a blocking call", function ()
    local path = fixture.dir() .. "/log"
    local writer = start_writer(path)
    local db = reader_of(path):use("n", count())
    local stream <close> = db:stream{live = true, seqs = false}
    writer.tell "append 2"
    assert.same({n = 0}, (stream:next()))
    assert.same({n = 1}, (stream:next()))
    writer.tell "append 5"
    assert.equal(7, db.n:get{since = (offsets.read(path))[7].off})
  end)

  for _, sync in ipairs {"always", "interval", "os"} do
    it("may be closed and opened again, sync " .. sync, function ()
      local path = fixture.dir() .. "/log"
      local writer = start_writer(path, sync)
      local db = reader_of(path)
      for round = 1, 4 do
        writer.tell "append 10"
        fixture.run_until(has(db, round * 10))
        writer.tell "close"
        writer.tell "open"
      end
      writer.tell "close"
      local own = fixture.open_db(path, {log = "offset"})
      own:append{n = 40}
      fixture.run_until(has(db, 41))
    end)
  end

  it("may be followed by looking again and again", function ()
    local path = fixture.dir() .. "/log"
    local writer = start_writer(path)
    local db = reader_of(path, {poll_ms = 5})
    assert.same({by = "poll", why = "looking every 5 ms: asked for"}, db:status().following)
    writer.tell "append 30"
    fixture.run_until(has(db, 30))
  end)

  it("is followed by tail -f, until it is gone", function ()
    local path = fixture.dir() .. "/log"
    local writer = start_writer(path)
    writer.tell "append 12"
    local tail = assert(io.popen(("flume %s tail -f -n 1 --json 2>&1; echo $?"):format(path)))
    assert.equal('{"n":11}', tail:read "l")
    for n = 12, 20 do
      writer.tell "append 1"
      assert.equal(('{"n":%d}'):format(n), tail:read "l")
    end
    assert(os.remove(path))
    assert.truthy(tail:read "l":find "^flume: .*: the log was removed: ")
    assert.equal("1", tail:read "l")
    tail:close()
  end)

  it("that becomes shorter ends the following with an error", function ()
    local path = fixture.dir() .. "/log"
    local writer = start_writer(path)
    writer.tell "append 5"
    local db = reader_of(path):use("n", count())
    assert.equal(5, db.n:get())
    local message, code
    flume.spawn(function ()
      local stream <close> = db:stream{live = true, old = false}
      message, code = select(2, stream:next())
    end)
    writer.tell "close"
    assert(io.open(path, "w")):close()
    fixture.run_until(function () return code end)
    assert.equal("ECORRUPT", code)
    assert.truthy(message:find("byte 0: the file is shorter than what was read of it", 1, true), message)
    assert.same({by = "lost", why = message}, db:status().following)
    assert.equal(5, db.n:get())
  end)
end)

-- --- Kill -9 -------------------------------------------------------------------------------------------------------

-- Appends batches, and a record that says it is the last. Which generation of writers it is stands in each
-- record, so that one that was taken back and written again differs.
local APPENDER = [[
  local flume = require "flume"
  local path, generation, seed = ...
  generation = tonumber(generation)
  math.randomseed(tonumber(seed))
  io.stdout:setvbuf "line"
  local db = assert(flume.open(path, {log = "offset"}))
  local seqs = {}
  for seq in db:stream{values = false} do seqs[#seqs + 1] = seq end
  for _ = 1, 200 do
    local size = math.random(20) == 1 and 2000 or math.random(100)
    local batch = {}
    for i = 1, size do batch[i] = {generation = generation, pad = ("x"):rep(math.random(0, 100))} end
    seqs[#seqs + 1] = assert(db:append(batch))
    print(seqs[#seqs])
    if math.random(10) == 1 then assert(db:del(seqs[math.random(#seqs)])) end
  end
  assert(db:append{generation = generation, last = true})
  db:close()
]]

-- Writes down what it sees, seq and generation; in the end what a view has counted.
local READER = [[
  local flume = require "flume"
  local path, out = ...
  local db = assert(flume.open(path, {log = "offset", readonly = true}))
  local file = assert(io.open(out, "w"))
  db:use("n", flume.reduce(1, function (acc) return acc + 1 end, 0))
  print "ready"
  io.stdout:flush()
  for seq, item in db:stream{live = true} do
    file:write(seq, "\t", item.generation, "\n")
    if item.last then break end
  end
  file:close()
  print(db.n:get())
  db:close()
]]

local function start_reader(path)
  local out = fixture.dir() .. "/seen"
  local pipe = child.start(READER, path, out)
  assert.equal("ready", pipe:read "l")
  return {pipe = pipe, out = out}
end

-- Waits for its end: the generation of each seq that it saw, and what it counted.
local function seen_by(reader)
  local text = reader.pipe:read "a"
  reader.pipe:close()
  local counted = tonumber(text)
  assert(counted, text)
  local seen, last = {}, -1
  for line in io.lines(reader.out) do
    local seq, generation = line:match "^(%d+)\t(%d+)$"
    seq = math.tointeger(tonumber(seq))
    assert(seq > last, "not in order: " .. line)
    seen[seq], last = tonumber(generation), seq
  end
  return seen, counted
end

-- Runs writers one after another, each killed after a random number of answers, and a last one to its end. How many.
local function append_and_kill(path)
  for generation = 1, 100 do
    local pipe, pid = child.start(APPENDER, path, generation, math.random(1 << 30))
    local kill_after, answers, last = math.random(60), 0, nil
    for line in pipe:lines() do
      answers, last = answers + 1, line
      if answers == kill_after and generation < 8 then os.execute("kill -9 " .. pid) end
    end
    if pipe:close() then return generation end
    assert(answers >= kill_after, last)
  end
end

describe("readers of an offset log whose writers are killed", function ()
  after_each(fixture.clean)

  it("see each record once, in order, and none that was taken back", function ()
    local path = fixture.dir() .. "/log"
    assert(flume.open(path, {log = "offset"})):close()
    local readers = {start_reader(path), start_reader(path)}
    assert.is_true(append_and_kill(path) > 1)
    local db = reader_of(path)
    local left, remaining = {}, 0
    for seq, item in db:stream() do left[seq], remaining = item.generation, remaining + 1 end
    for _, reader in ipairs(readers) do
      local seen, counted = seen_by(reader)
      local wrong = {}
      for seq, generation in pairs(left) do
        if seen[seq] ~= generation then wrong[#wrong + 1] = seq end
      end
      for seq in pairs(seen) do
        if not left[seq] and select(3, db:get(seq)) ~= "EDELETED" then wrong[#wrong + 1] = seq end
      end
      assert.same({}, wrong)
      assert.equal(remaining, counted)
    end
  end)
end)
