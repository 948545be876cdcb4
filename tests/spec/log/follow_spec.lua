-- Several processes on one database: one writes, others open it read-only and see what it does as it does it.

local child = require "tests.support.child"
local flume = require "flume"
local lfs = require "lfs"
local fixture = require "tests.support.fixture"
local writers = require "tests.support.writer"

local function start_writer(dir)
  return writers.start(dir, "{segment_bytes = 4096}")
end

local function new_dir()
  return fixture.dir() .. "/data"
end

local function reader_of(dir, options)
  options = options or {}
  options.readonly = true
  return fixture.open_db(dir, options)
end

local function since_is(db, since)
  return function () return db.since.value == since end
end

local function count()
  return flume.reduce(1, function (acc) return acc + 1 end, 0)
end

describe("a database that another process writes", function ()
  after_each(fixture.clean)

  it("is not there before it exists, and is followed from its beginning", function ()
    local dir = new_dir()
    assert.equal("ENOENT", select(3, flume.open(dir, {readonly = true})))
    local writer = start_writer(dir)
    local db = reader_of(dir)
    assert.equal(-1, db.since.value)
    assert.same({by = "events"}, db:status().following)
    writer.tell "append 1"
    fixture.run_until(since_is(db, 0))
    assert.same({n = 0}, db:get(0))
  end)

  it("is observed and streamed live", function ()
    local dir = new_dir()
    local writer = start_writer(dir)
    writer.tell "append 3"
    local db, seen, observed = reader_of(dir), {}, {}
    db.since(function (since) observed[#observed + 1] = since end, false)
    flume.spawn(function ()
      for seq, value in db:stream{live = true} do
        assert(seq == value.n)
        seen[#seen + 1] = seq
      end
    end)
    for last = 3, 402, 40 do
      writer.tell "append 40"
      fixture.run_until(function () return seen[#seen] == last + 39 end)
    end
    assert.equal(403, #seen)
    for i, seq in ipairs(seen) do assert.equal(i - 1, seq) end
    assert.equal(402, observed[#observed])
    for i = 2, #observed do assert.is_true(observed[i] > observed[i - 1]) end
    assert.is_true(db:status().following ~= nil)
  end)

  it("is waited for in a blocking call", function ()
    local dir = new_dir()
    local writer = start_writer(dir)
    local db = reader_of(dir):use("n", count())
    local stream <close> = db:stream{live = true}
    writer.tell "append 2"
    assert.equal(0, (stream:next()))
    assert.equal(1, (stream:next()))
    writer.tell "append 5"
    assert.equal(7, db.n:get{since = 6})
  end)

  it("has views in the reader, of every kind, which keep up with appends and deletes", function ()
    local dir = new_dir()
    local script = fixture.write(fixture.dir() .. "/total.lua",
      "return {version = 1, initial = 0, reducer = function (acc, item) return acc + item.n end}")
    local writer = start_writer(dir)
    local db = reader_of(dir):use("n", count()):use("total", script)
    for round = 1, 10 do
      writer.tell "append 10"
      assert.equal(round * 10, db.n:get{since = round * 10 - 1})
    end
    assert.equal(99 * 100 // 2, db.total:get())
    writer.tell "del 50"
    fixture.run_until(function () return db.n:get() == 99 and db.total:get() == 99 * 100 // 2 - 50 end)
    assert.equal("EDELETED", select(3, db:get(50)))
    assert.is_nil(lfs.attributes(dir .. "/views"))
  end)

  it("may be closed, and opened again", function ()
    local dir = new_dir()
    local writer = start_writer(dir)
    writer.tell "append 10"
    local db = reader_of(dir)
    for round = 1, 5 do
      writer.tell "close"
      writer.tell "open"
      writer.tell "append 10"
      fixture.run_until(since_is(db, round * 10 + 9))
    end
    writer.tell "close"
    assert.equal(60, #fixture.collect(db:stream()))
    local own = fixture.open_db(dir)
    own:append{n = 60}
    fixture.run_until(since_is(db, 60))
  end)

  it("may be followed by looking again and again", function ()
    local dir = new_dir()
    local writer = start_writer(dir)
    local db = reader_of(dir, {poll_ms = 5})
    assert.same({by = "poll", why = "looking every 5 ms: asked for"}, db:status().following)
    writer.tell "append 30"
    fixture.run_until(since_is(db, 29))
    assert.has_error(function () flume.open(dir, {readonly = true, poll_ms = 0}) end)
  end)

  it("that is replaced by an older copy ends the following with an error", function ()
    local dir = new_dir()
    local writer = start_writer(dir)
    writer.tell "append 5"
    local db = reader_of(dir):use("n", count())
    assert.equal(5, db.n:get())
    local waited, message, code
    db.n:get({since = 100}, function (err) waited = err end)
    flume.spawn(function ()
      local stream <close> = db:stream{live = true, old = false}
      message, code = select(2, stream:next())
    end)
    writer.tell "close"
    assert(io.open(dir .. "/log/00000000000000000000.flume", "w")):close()
    fixture.run_until(function () return code and waited end)
    assert.equal("ECORRUPT", code)
    assert.truthy(message:find "00000000000000000000.flume: byte 0: the file is shorter than what was read of it")
    assert.equal(message, waited.message)
    assert.same({by = "lost", why = message}, db:status().following)
    assert.equal(5, db.n:get())
  end)

  it("is followed by tail -f, until it is gone", function ()
    local dir = new_dir()
    local writer = start_writer(dir)
    writer.tell "append 12"
    local tail = assert(io.popen(("flume %s tail -f -n 1 --json 2>&1; echo $?"):format(dir)))
    assert.equal('{"n":11}', tail:read "l")
    for n = 12, 20 do
      writer.tell "append 1"
      assert.equal(('{"n":%d}'):format(n), tail:read "l")
    end
    assert(os.execute(("rm -r %s/log"):format(dir)))
    assert.truthy(tail:read "l":find "^flume: .*: the log was removed: ")
    assert.equal("1", tail:read "l")
    tail:close()
  end)

  it("leaves no file open in readers that are closed", function ()
    local dir = new_dir()
    start_writer(dir).tell "append 100"
    local function open_files()
      collectgarbage()
      local files = 0
      for _ in lfs.dir "/proc/self/fd" do files = files + 1 end
      return files
    end
    local before
    for round = 1, 300 do
      local db = reader_of(dir)
      assert.equal(99, db.since.value)
      assert.is_true(db:close())
      if round == 1 then before = open_files() end
    end
    assert.equal(before, open_files())
  end)
end)

-- --- Kill -9 -------------------------------------------------------------------------------------------------------

local RECORDS = 100000

-- Appends until there are RECORDS, and one that says it is the last; tells of what was acknowledged. Which generation
-- of writers it is stands in each record, so that one that was taken back and written again differs.
local APPENDER = [[
  local flume = require "flume"
  local dir, generation, count, seed = ...
  generation, count = tonumber(generation), tonumber(count)
  math.randomseed(tonumber(seed))
  io.stdout:setvbuf "line"
  local db = assert(flume.open(dir, {segment_bytes = 1 << 20}))
  while db.since.value < count - 1 do
    local batch = {}
    local size = math.random(20) == 1 and 5000 or math.random(200)
    for i = 1, math.min(size, count - 1 - db.since.value) do
      batch[i] = {generation = generation, pad = ("x"):rep(math.random(0, 100))}
    end
    print(assert(db:append(batch)))
    if math.random(10) == 1 then assert(db:del(math.random(0, db.since.value))) end
    if math.random(30) == 1 then assert(db:compact()) end
  end
  if db.since.value < count then assert(db:append{generation = generation, last = true}) end
  db:close()
]]

-- Writes down what it sees, seq and generation, and how often it had to wait. In the end it prints that, what a view
-- has counted, and how far the log goes.
local READER = [[
  local flume = require "flume"
  local dir, path = ...
  local db = assert(flume.open(dir, {readonly = true}))
  local file, waits = assert(io.open(path, "w")), 0
  db:use("n", flume.reduce(1, function (acc) return acc + 1 end, 0))
  print "ready"
  io.stdout:flush()
  for seq, item in db:stream{live = true} do
    file:write(seq, "\t", item.generation, "\n")
    if seq == db.since.value then waits = waits + 1 end
    if item.last then break end
  end
  file:close()
  print(waits, db.n:get(), db.since.value)
  db:close()
]]

local function start_reader(dir)
  local path = fixture.dir() .. "/seen"
  local pipe = child.start(READER, dir, path)
  assert.equal("ready", pipe:read "l")
  return {pipe = pipe, path = path}
end

-- Waits for its end: the generation of each seq that it saw, how often it waited, what it counted, and its since.
local function seen_by(reader)
  local text = reader.pipe:read "a"
  reader.pipe:close()
  local waits, counted, since = text:match "^(%d+)\t(%d+)\t(%d+)\n$"
  assert(waits, text)
  local seen, last = {}, -1
  for line in io.lines(reader.path) do
    local seq, generation = line:match "^(%d+)\t(%d+)$"
    seq = math.tointeger(tonumber(seq))
    assert(seq > last, "not in order: " .. line)
    seen[seq], last = tonumber(generation), seq
  end
  return seen, tonumber(waits), tonumber(counted), tonumber(since)
end

-- Runs writers one after another, each killed after a random number of answers, and a last one to its end. How many.
local function append_and_kill(dir)
  for generation = 1, 1000 do
    local pipe, pid = child.start(APPENDER, dir, generation, RECORDS, math.random(1 << 30))
    local kill_after = math.random(120)
    local answers, last = 0, nil
    for line in pipe:lines() do
      last = line
      answers = answers + 1
      if answers == kill_after then os.execute("kill -9 " .. pid) end
    end
    local ok = pipe:close()
    if ok then return generation end
    assert(answers >= kill_after, last)
  end
end

describe("readers of a log whose writers are killed", function ()
  after_each(fixture.clean)

  it("see each record once, in order, and none that was taken back", function ()
    local dir = new_dir()
    assert(flume.open(dir)):close()
    local readers = {start_reader(dir), start_reader(dir)}
    local generations = append_and_kill(dir)
    assert.is_true(generations > 1)
    local db = reader_of(dir)
    assert.equal(RECORDS, db.since.value)
    local left = {}
    for seq, item in db:stream() do left[seq] = item.generation end
    for _, reader in ipairs(readers) do
      local seen, waits, counted, since = seen_by(reader)
      assert.is_true(waits > generations)
      local differs, missing, extra, remaining = nil, nil, nil, 0
      for seq = 0, RECORDS do
        if left[seq] then remaining = remaining + 1 end
        if left[seq] and not seen[seq] then missing = seq end
        if left[seq] and seen[seq] and left[seq] ~= seen[seq] then differs = seq end
        if seen[seq] and not left[seq] and select(3, db:get(seq)) ~= "EDELETED" then extra = seq end
      end
      assert.same({}, {differs = differs, missing = missing, extra = extra})
      assert.equal(remaining, counted)
      assert.equal(RECORDS, since)
    end
  end)
end)
