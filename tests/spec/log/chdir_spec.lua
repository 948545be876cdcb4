-- The working directory of a process may change while a database is open: its paths mean what they meant when they were
-- given.

local flume = require "flume"
local lfs = require "lfs"
local fixture = require "tests.support.fixture"

local SUM = [[
  local add = require "lib.add"
  return {version = 1, initial = 0, reducer = function (acc, item) return add(acc, item.n) end}
]]
local COUNT = "return {version = 1, initial = 0, reducer = function (n) return n + 1 end}"
local ADD = "return function (a, b) return a + b end"
local DOUBLE = [[return function (item) return {n = item.n * 2, text = item.text} end]]

describe("after a change of the working directory", function ()
  local home = lfs.currentdir()
  local start, elsewhere

  before_each(function ()
    start, elsewhere = fixture.dir(), fixture.dir()
    fixture.write(start .. "/scripts/sum.lua", SUM)
    fixture.write(start .. "/scripts/lib/add.lua", ADD)
    fixture.write(start .. "/double.lua", DOUBLE)
    assert(lfs.chdir(start))
  end)

  after_each(function ()
    assert(lfs.chdir(home))
    fixture.clean()
  end)

  local function append(db, count)
    for n = 1, count do assert(db:append{n = n, text = ("text"):rep(20)}) end
  end

  local function names(dir)
    local found = {}
    for name in lfs.dir(dir) do
      if not name:find "^%." then found[#found + 1] = name end
    end
    return found
  end

  local KINDS = {
    file = {segment_bytes = 2000},
    offset = {log = "offset"},
  }

  for kind, options in pairs(KINDS) do
    it("a database on a log of kind " .. kind .. " goes on where it is", function ()
      options.views, options.mapper = "scripts", "./double.lua"
      local db = fixture.keep(assert(flume.open("data", options)))
      append(db, 100)
      assert(lfs.chdir(elsewhere))
      append(db, 100)
      assert.equal(2 * 2 * 5050, db.sum:get())
      db:use("late", flume.reduce(1, function (acc, item) return acc + item.n end, 0))
      assert.equal(2 * 2 * 5050, db.late:get())
      local first = assert(db:stream{limit = 1}())
      assert(db:del(first))
      assert(db:compact())
      assert.is_true(assert(db:check()).ok)
      assert(db:backup("copy"))
      fixture.write(start .. "/scripts/count.lua", COUNT)
      assert(db:reload())
      assert.equal(199, db.count:get())
      fixture.write(start .. "/scripts/lib/add.lua", "return function (a, b) return a + 2 * b end")
    fixture.write(start .. "/scripts/sum.lua", (SUM:gsub("version = 1", "version = 2")))
      assert(db:reload())
      assert.equal(2 * (2 * 2 * 5050 - 2), db.sum:get())

      local reader = fixture.keep(assert(flume.open(start .. "/data", {log = options.log, readonly = true})))
      assert.equal(db.since.value, reader.since.value)
      reader:close()
      db:close()
      assert.same({"copy"}, names(elsewhere)) -- nothing else was written there
      local again = fixture.keep(assert(flume.open(start .. "/data", {log = options.log, views = start .. "/scripts",
        mapper = start .. "/double.lua"})))
      local count = 0
      for _ in again:stream() do count = count + 1 end
      assert.equal(199, count)
      assert.is_nil(again:status().views.sum.reason) -- its state was kept there too
    end)

    it("a reader of a log of kind " .. kind .. " goes on following", function ()
      local writer = fixture.keep(assert(flume.open("data", options)))
      append(writer, 10)
      local reader = fixture.keep(assert(flume.open("data", {log = options.log, readonly = true})))
      assert(lfs.chdir(elsewhere))
      append(writer, 100)
      local live = reader:stream{live = true}
      local count = 0
      while count < 110 do
        assert(live())
        count = count + 1
      end
      live:close()
      assert.same({}, names(elsewhere))
    end)
  end

  it("a view by the path of its script is reloaded from there", function ()
    local db = fixture.keep(flume.new(flume.log.memory()))
    db:use("sum", "scripts/sum.lua")
    append(db, 10)
    assert.equal(55, db.sum:get())
    assert(lfs.chdir(elsewhere))
    fixture.write(start .. "/scripts/lib/add.lua", "return function (a, b) return a + 2 * b end")
    fixture.write(start .. "/scripts/sum.lua", (SUM:gsub("version = 1", "version = 2")))
    assert(db:reload("sum"))
    assert.equal(110, db.sum:get())
  end)
end)
