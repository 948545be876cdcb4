-- When a view is built anew from the log, and that each record counts once then.

local flume = require "flume"
local fixture = require "tests.support.fixture"

local function sum()
  return flume.reduce(1, function (acc, item) return acc + item.foo end, 0)
end

local memory, open = fixture.memory_db, fixture.open_db

describe("a rebuild", function ()
  after_each(fixture.clean)

  -- Opens dir with a counting view of the version; how many records were folded until it was ready, and the view.
  local function folded(dir, version, options)
    local count = 0
    local db = open(dir, options)
    db:use("count", flume.reduce(version, function (acc)
      count = count + 1
      return acc + 1
    end, 0))
    assert(db.count:ready())
    local value, reason = db.count:get(), db:status().views[1].reason
    db:close()
    return count, value, reason
  end

  local function filled(count)
    local dir = fixture.dir()
    local db = open(dir)
    for i = 1, count do db:append {n = i} end
    db:close()
    return dir
  end

  it("is not done when nothing has changed", function ()
    local dir = filled(5)
    assert.same({5, 5}, {folded(dir, 1)})
    assert.same({0, 5}, {folded(dir, 1)})
    local db = open(dir)
    db:append {n = 6}
    db:close()
    assert.same({1, 6}, {folded(dir, 1)})
  end)

  it("is done when the version was raised, and when it was lowered", function ()
    local dir = filled(3)
    folded(dir, 2)
    assert.same({3, 3, "version 2 -> 3"}, {folded(dir, 3)})
    assert.same({3, 3, "version 3 -> 1"}, {folded(dir, 1)})
    assert.same({3, 3, "version 1 -> one"}, {folded(dir, "one")})
    assert.same({0, 3}, {folded(dir, "one")})
  end)

  it("is done when the state belongs to another log", function ()
    local long, short = filled(5), filled(2)
    folded(long, 1)
    fixture.copy(long .. "/views/count/1/data.mdb", short .. "/views/count/1/data.mdb")
    assert.same({2, 2, "the state is of a different log"}, {folded(short, 1)})
  end)

  it("is done when the log was cut below the view", function ()
    local dir = filled(2)
    local segment, before = dir .. "/log/00000000000000000000.flume", fixture.dir() .. "/before"
    fixture.copy(segment, before)
    local db = open(dir)
    db:append {{n = 3}, {n = 4}}
    db:close()
    folded(dir, 1)
    fixture.copy(before, segment)
    os.remove(dir .. "/log/lock") -- its note tells what was there
    assert.same({2, 2, "the view is ahead of the log"}, {folded(dir, 1)})
  end)

  it("is done when records that it had consumed were deleted while it was away", function ()
    local dir = filled(4)
    folded(dir, 1)
    local db = open(dir)
    db:del(1)
    db:close()
    assert.same({3, 3, "records were deleted"}, {folded(dir, 1)})
    assert.same({0, 3}, {folded(dir, 1)})
  end)

  it("is done when a consumed record is deleted", function ()
    local db = memory():use("sum", sum())
    db:append {{foo = 1}, {foo = 2}, {foo = 4}}
    assert.equal(7, db.sum:get())
    db:del(1)
    assert.equal(5, db.sum:get())
    db:del {0, 2}
    assert.equal(0, db.sum:get())
    db:append {foo = 8}
    assert.equal(8, db.sum:get())
  end)

  it("is not done when an unconsumed record is deleted", function ()
    local runs = 0
    local db = memory {ready = false}
    db:use("count", {reducer = function () runs = runs + 1 end})
    db:append {{foo = 1}, {foo = 2}}
    db:del(0)
    db.ready:set(true)
    db.count:ready()
    assert.equal(1, runs)
  end)

  it("during appends counts each record once", function ()
    local db = memory():use("sum", sum())
    local rebuilt = 0
    for i = 1, 200 do
      db:append({foo = 1}, function () end)
      if i % 20 == 0 then
        db.sum:rebuild(function (err)
          assert(not err)
          rebuilt = rebuilt + 1
        end)
      end
      if i % 7 == 0 then flume.step(0) end
    end
    fixture.run_until(function () return rebuilt == 10 end)
    assert.equal(db.since.value + 1, 200)
    assert.equal(200, db.sum:get())
  end)

  it("twice at once answers both, with the right state", function ()
    local db = memory():use("sum", sum())
    db:append {{foo = 1}, {foo = 2}}
    local calls, cb = fixture.recorder()
    db.sum:rebuild(cb)
    db.sum:rebuild(cb)
    db:rebuild(cb)
    fixture.run_until(function () return #calls == 3 end)
    for _, call in ipairs(calls) do assert.is_nil(call[1]) end
    assert.equal(3, db.sum:get())
  end)

  it("goes on where it was when the database is closed in the middle", function ()
    local dir, total = fixture.dir(), 30000
    local db = open(dir)
    for _ = 1, total, 1000 do
      local batch = {}
      for i = 1, 1000 do batch[i] = {n = i, pad = ("x"):rep(100)} end
      db:append(batch)
    end
    db:close()
    local first = 0
    db = open(dir)
    db:use("count", flume.reduce(1, function (acc)
      first = first + 1
      return acc + 1
    end, 0))
    fixture.run_until(function () return first > 0 end)
    db:close()
    local count, value = folded(dir, 1)
    assert.equal(total, value)
    assert.equal(total, first + count)
  end)
end)
