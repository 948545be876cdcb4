-- A process in JavaScript appends to a flumelog-offset file with the original, and flume follows it live.

local assert = require "luassert"
local flume = require "flume"
local lfs = require "lfs"
local offsets = require "tests.support.offsets"
local originals = require "tests.interop.originals"
local fixture = require "tests.support.fixture"
local writers = require "tests.support.writer"

local compare = originals.comparing(it, pending)

local function start_original(path, bits)
  writers.make_pipe(path)
  local pipe, pid = originals.start("append.js", path, bits)
  local writer = writers.telling(path, pipe, pid)
  writer.tell "open"
  return writer
end

local function reader_of(path, options)
  options = options or {}
  options.readonly, options.log = true, "offset"
  return fixture.open_db(path, options)
end

local function count()
  return flume.reduce(1, function (acc) return acc + 1 end, 0)
end

describe("interop, following a flumelog-offset process", function ()
  after_each(fixture.clean)

  for _, bits in ipairs {32, 48, 53} do
    compare(("%d bits: each record is seen as it is appended"):format(bits), function ()
      local path = fixture.dir() .. "/log"
      local original = start_original(path, bits)
      local db, seen = reader_of(path), {}
      assert.same({by = "events"}, db:status().following)
      flume.spawn(function ()
        for seq, value in db:stream{live = true} do seen[#seen + 1] = {seq, value.n} end
      end)
      for round = 1, 10 do
        original.tell "append 5"
        original.tell "batch 20"
        fixture.run_until(function () return #seen == round * 25 end)
      end
      for i, record in ipairs((offsets.read(path, bits))) do assert.same({record.off, i - 1}, seen[i]) end
      assert.is_nil(lfs.attributes(path .. ".flume"))
    end)
  end

  compare("views keep up with it, and the next opening sees what it deleted", function ()
    local path = fixture.dir() .. "/log"
    local original = start_original(path, 32)
    local db = reader_of(path):use("n", count()):use("by_n", flume.index(1, "n"))
    original.tell "batch 3000"
    fixture.run_until(function () return db.n:get() == 3000 end)
    assert.equal(3000, db.by_n:count{})
    local seq = (offsets.read(path))[100].off
    original.tell("del " .. seq)
    assert.equal("EDELETED", select(3, db:get(seq)))
    db:close()
    db = reader_of(path):use("n", count())
    assert.equal(2999, db.n:get())
    original.tell "append 1"
    fixture.run_until(function () return db.n:get() == 3000 end)
  end)

  compare("it may be killed in the midst, and another goes on", function ()
    local path = fixture.dir() .. "/log"
    local original = start_original(path, 32)
    local db = reader_of(path):use("n", count())
    original.tell "append 10"
    os.execute("kill -9 " .. original.pid)
    local bytes = fixture.read(path)
    fixture.write(path, bytes .. bytes:sub(1, 9)) -- as one that was torn
    fixture.run_until(function () return db.n:get() == 10 end)
    os.remove(path .. ".commands")
    start_original(path, 32).tell "append 5" -- it cuts that off first
    fixture.run_until(function () return db.n:get() == 15 end)
    assert.same({by = "events"}, db:status().following)
  end)

  compare("flume and the original write in turn, and the reader sees both", function ()
    local path = fixture.dir() .. "/log"
    local original = start_original(path, 32)
    local db = reader_of(path):use("n", count())
    original.tell "append 10"
    fixture.run_until(function () return db.n:get() == 10 end)
    original.close()
    local own = fixture.open_db(path, {log = "offset"})
    own:append{{n = 10}, {n = 11}}
    fixture.run_until(function () return db.n:get() == 12 end)
    own:del((offsets.read(path))[3].off)
    fixture.run_until(function () return db.n:get() == 11 end)
    own:close()
    os.remove(path .. ".commands")
    start_original(path, 32).tell "batch 4"
    fixture.run_until(function () return db.n:get() == 15 end)
  end)

  compare("tail -f prints what it appends", function ()
    local path = fixture.dir() .. "/log"
    local original = start_original(path, 32)
    original.tell "append 1"
    local tail = assert(io.popen(("exec flume %s tail -f -n 1 --json 2>&1"):format(path)))
    assert.equal('{"n":0}', tail:read "l")
    for n = 1, 20 do
      original.tell "append 1"
      assert.equal(('{"n":%d}'):format(n), tail:read "l")
    end
    assert(os.remove(path))
    assert.truthy(tail:read "l":find "the log was removed")
    tail:close()
  end)
end)
