-- Views advance on the engine's own threads: the caller's loop is not needed for that. None of the calls here waits for
-- a view, so that the loop never turns while they are made.

local flume = require "flume"
local fixture = require "tests.support.fixture"

local SUM = [[return {version = %d, initial = 0, reducer = function (acc, item) return acc + item.n * %d end}]]
local RECORD_BYTES = 250
local BLOCK_RECORDS = 512 * 1024 // RECORD_BYTES -- that the engine reads at once
local DEADLINE_S = 60

-- Calls until done() is true, and never the loop.
local function compute_until(done)
  local deadline = os.time() + DEADLINE_S
  repeat
    if done() then return true end
  until os.time() > deadline
  return false
end

describe("without the caller's loop", function ()
  after_each(fixture.clean)

  local function open(options)
    local dir, folder = fixture.dir() .. "/db", fixture.dir()
    options = options or {}
    options.sync = "os"
    return fixture.keep(assert(flume.open(dir, options))), folder, dir
  end

  local text = ("x"):rep(RECORD_BYTES - 20)

  it("a script view stays within a block of the log, while its process appends", function ()
    local db, folder = open()
    fixture.write(folder .. "/sum.lua", SUM:format(1, 1))
    db:use("sum", folder .. "/sum.lua")
    local batch, count = {}, 0
    for i = 1, 100 do batch[i] = {n = 1, text = text} end
    for _ = 1, 300 do
      db:append(batch)
      count = count + #batch
      assert.is_true(compute_until(function () return db.sum.since.value >= count - 1 - BLOCK_RECORDS end))
    end
    assert.is_true(compute_until(function () return db.sum.since.value == count - 1 end))
    assert.equal(count, db.sum:get())
  end)

  it("several script views reach the end of the log", function ()
    local db, folder = open()
    for i = 1, 4 do
      fixture.write(("%s/sum%d.lua"):format(folder, i), SUM:format(1, i))
      db:use("sum" .. i, ("%s/sum%d.lua"):format(folder, i))
    end
    for _ = 1, 1000 do db:append {n = 1} end
    for i = 1, 4 do
      local name = "sum" .. i
      assert.is_true(compute_until(function () return db[name].since.value == 999 end))
      assert.equal(1000 * i, db[name]:get {wait = false})
    end
  end)

  it("a rebuild ends: the new version answers, and is the active one on disk", function ()
    local db, folder, dir = open()
    local path = folder .. "/sum.lua"
    fixture.write(path, SUM:format(1, 1))
    db:use("sum", path)
    for _ = 1, 2000 do db:append {n = 1} end
    assert.equal(2000, db.sum:get())
    fixture.write(path, SUM:format(2, 10))
    local calls, cb = fixture.recorder()
    db:reload("sum", cb)
    assert.is_true(compute_until(function ()
      local row = db:status().views.sum
      return row.version == 2 and row.next == nil
    end))
    assert.same({}, calls) -- the loop tells
    assert.equal(20000, db.sum:get {wait = false})
    local active = fixture.read(dir .. "/views/sum/active")
    fixture.run_until(function () return #calls == 1 end)
    assert.is_nil(calls[1][1])
    db:close()
    assert.equal(active, fixture.read(dir .. "/views/sum/active"))
  end)

  it("a checkpoint is made", function ()
    local db, folder, dir = open()
    fixture.write(folder .. "/sum.lua", SUM:format(1, 1))
    db:use("sum", folder .. "/sum.lua")
    db:append {n = 1}
    assert.is_true(compute_until(function ()
      local file = io.open(dir .. "/views/sum/active")
      if file then file:close() end
      return file ~= nil
    end))
  end)

  it("an inline view goes on when the caller calls anything", function ()
    local db = open()
    db:use("sum", flume.reduce(1, function (acc, item) return acc + item.n end, 0))
    for _ = 1, 5000 do db:append {n = 1} end
    assert.is_true(compute_until(function ()
      db:get(0)
      return db.sum.since.value == 4999
    end))
    assert.equal(5000, db.sum:get {wait = false})
  end)

  it("an inline view's function may append, and is not entered twice", function ()
    local db, depth, most = open(), 0, 0
    db:use("sum", flume.reduce(1, function (acc, item)
      depth = depth + 1
      most = math.max(most, depth)
      if item.n == 1 then db:append {n = 2} end
      depth = depth - 1
      return acc + item.n
    end, 0))
    for _ = 1, 100 do db:append {n = 1} end
    assert.is_true(compute_until(function ()
      db:get(0)
      return db.sum.since.value == 199
    end))
    assert.equal(300, db.sum:get())
    assert.equal(1, most)
  end)

  it("status tells the engine's state", function ()
    local db = open()
    db:use("sum", flume.reduce(1, function (acc, item) return acc + item.n end, 0))
    assert.equal("idle", db:status().views.sum.engine)
  end)
end)
