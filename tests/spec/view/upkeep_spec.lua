-- Skipping a record, accepting a state, and dry runs.

local flume = require "flume"
local fixture = require "tests.support.fixture"
local seeds = require "tests.support.seeds"

local POISONED = [[
  return {version = 1, initial = 0, reducer = function (acc, item)
    if item.n == 3 then error "three" end
    return acc + item.n
  end}
]]

local function filled(db, count)
  local batch = {}
  for n = 1, count do batch[n] = {n = n} end
  db:append(batch)
  return db
end

-- A database with the script as view "v"; in dir, or in memory.
local function with_script(source, dir, extra)
  local path = fixture.write(fixture.dir() .. "/v.lua", source)
  local db = dir and fixture.open_db(dir) or fixture.memory_db()
  return db:use("v", path, extra), path
end

describe("skip", function ()
  after_each(fixture.clean)

  for _, where in ipairs {"memory", "disk"} do
    it("lets a view go on that failed at a record, in " .. where, function ()
      local db = filled(with_script(POISONED, where == "disk" and fixture.dir() .. "/data" or nil), 10)
      local value, message = db.v:get()
      assert.is_nil(value)
      assert.truthy(message:find("record 2", 1, true), message)
      assert.equal(2, db:status().views.v.seq)
      assert.is_true(db.v:skip(2))
      assert.equal(55 - 3, db.v:get())
      assert.equal("live", db:status().views.v.state)
      filled(db, 1)
      assert.equal(53, db.v:get())
      assert.is_true(db.v:rebuild())
      assert.equal(53, db.v:get())
    end)
  end

  it("is remembered, also by later versions", function ()
    local dir = fixture.dir() .. "/data"
    local db, path = with_script(POISONED, dir)
    filled(db, 10)
    db.v:get()
    db.v:skip(2)
    assert.equal(52, db.v:get())
    db:close()
    fixture.write(path, (POISONED:gsub("version = 1", "version = 2")))
    db = fixture.open_db(dir):use("v", path)
    assert.equal(52, db.v:get())
  end)

  it("of a record that was consumed rebuilds without it", function ()
    local sum = flume.reduce(1, function (acc, item) return acc + item.n end, 0)
    local db = filled(fixture.memory_db():use("v", sum), 10)
    assert.equal(55, db.v:get())
    assert.is_true(db.v:skip(4))
    assert.equal(50, db.v:get())
    local script = with_script "return {initial = 0, reducer = function (acc, item) return acc + item.n end}"
    filled(script, 10)
    assert.equal(55, script.v:get())
    assert.is_true(script.v:skip(4))
    assert.equal(50, script.v:get())
  end)

  it("of a record that is being consumed takes it out again", function ()
    for steps = 0, 8 do
      for _, view in ipairs {flume.index(1, "n"), fixture.write(fixture.dir() .. "/v.lua", "return {version = 1, "
        .. "indexer = function (item, seq, emit) emit(item.n) end}")} do
        local db = filled(fixture.memory_db():use("v", view), 3)
        assert.equal(3, db.v:count())
        db:append({n = 4}, function () end)
        for _ = 1, steps do flume.step(0) end
        assert.is_true(db.v:skip(3))
        filled(db, 1)
        assert.equal(4, db.v:count(), steps .. " steps")
        assert.is_nil((db.v:get(4)))
      end
    end
  end)

  it("of a record that was consumed counts although the view failed behind it", function ()
    local dir = fixture.dir() .. "/data"
    local db, path = with_script(POISONED, dir)
    filled(db, 2)
    assert.equal(3, db.v:get())
    db:close()
    db = fixture.open_db(dir):use("v", path)
    db:append {{n = 3}, {n = 4}}
    assert.is_nil((db.v:get()))
    assert.is_true(db.v:skip(0))
    assert.is_true(db.v:skip(2))
    assert.equal(2 + 4, db.v:get())
  end)

  for kind, view in pairs {inline = flume.reduce(1, function (acc, item) return acc + item.n end, 0), script = false} do
    it("of a record that was consumed outlives a rebuild that is cut short, " .. kind, function ()
      local dir = fixture.dir() .. "/data"
      local path = fixture.write(fixture.dir() .. "/v.lua", "return {version = 1, initial = 0, "
        .. "reducer = function (acc, item) return acc + item.n end}")
      local db = filled(fixture.open_db(dir):use("v", view or path), 10)
      assert.equal(55, db.v:get())
      local calls, cb = fixture.recorder()
      db.v:skip(4, cb)
      db:close()
      assert.equal("ECLOSED", calls[1][1].code)
      db = fixture.open_db(dir):use("v", view or path)
      assert.equal(50, db.v:get())
      fixture.run_until(function () return not db:status().views.v.next end)
      db:close()
      db = fixture.open_db(dir, {ready = false}):use("v", view or path)
      assert.equal(9, db.v.since.value)
      assert.is_true(db.v:skip(4)) -- it is passed over already
      assert.equal(9, db.v.since.value)
    end)
  end

  it("of a record that is not there yet passes over it when it comes", function ()
    local db = filled(with_script(POISONED), 2)
    assert.equal(3, db.v:get())
    assert.is_true(db.v:skip(2))
    db:append {n = 3}
    db:append {n = 4}
    assert.equal(7, db.v:get())
  end)

  it("of two records lets the view go on after each", function ()
    local db = with_script [[
      return {version = 1, initial = 0, reducer = function (acc, item)
        if item.n % 2 == 0 then error "even" end
        return acc + item.n
      end}
    ]]
    filled(db, 5)
    assert.is_nil(db.v:get())
    db.v:skip(1)
    assert.is_nil(db.v:get())
    assert.equal(3, db:status().views.v.seq)
    db.v:skip(3)
    assert.equal(9, db.v:get())
  end)

  it("takes what an index had put there out again", function ()
    local db = filled(fixture.memory_db():use("v", flume.index(1, "n")), 5)
    assert.equal(5, db.v:count())
    db.v:skip(0)
    assert.equal(4, db.v:count())
  end)

  it("wants a seq", function ()
    local db = with_script(POISONED)
    assert.error_matches(function () db.v:skip "2" end, "seq must be an integer")
    assert.error_matches(function () db.v:skip(-1) end, "seq must be an integer")
  end)
end)

describe("retract", function ()
  after_each(fixture.clean)

  it("takes a deleted record back without a rebuild", function ()
    local runs = 0
    local db = fixture.memory_db():use("v", {
      version = 1, initial = 0,
      reducer = function (acc, item)
        runs = runs + 1
        return acc + item.n
      end,
      retract = function (acc, item, seq) return acc - item.n + seq * 0 end,
    })
    filled(db, 10)
    assert.equal(55, db.v:get())
    db:del(4)
    assert.equal(50, db.v:get())
    db:del {0, 9, 4}
    assert.equal(39, db.v:get())
    assert.equal(10, runs)
    filled(db, 1)
    assert.equal(40, db.v:get())
  end)

  it("is given what was deleted while the database was closed", function ()
    local dir = fixture.dir() .. "/data"
    local source = [[
      return {
        version = 1, initial = {sum = 0, retracted = 0},
        reducer = function (acc, item) acc.sum = acc.sum + item.n return acc end,
        retract = function (acc, item)
          acc.sum, acc.retracted = acc.sum - item.n, acc.retracted + 1
          return acc
        end,
      }
    ]]
    local db, path = with_script(source, dir)
    filled(db, 10)
    assert.equal(55, db.v:get().sum)
    db:close()
    db = fixture.open_db(dir)
    db:del {1, 2}
    db:close()
    db = fixture.open_db(dir):use("v", path)
    assert.same({sum = 50, retracted = 2}, db.v:get())
    db:close()
    db = fixture.open_db(dir):use("v", path)
    assert.same({sum = 50, retracted = 2}, db.v:get())
  end)

  it("that raises ends the view, which starts over on request", function ()
    local db = fixture.memory_db():use("v", {
      version = 1, initial = 0,
      reducer = function (acc, item) return acc + item.n end,
      retract = function () error "can't" end,
    })
    filled(db, 3)
    assert.equal(6, db.v:get())
    db:del(1)
    local value, message = db.v:get()
    assert.is_nil(value)
    assert.truthy(message:find("can't", 1, true))
    assert.is_true(db.v:rebuild())
    assert.equal(4, db.v:get())
  end)

  it("is right whatever the order of appends and deletes", function ()
    math.randomseed(seeds.take())
    local db = fixture.memory_db():use("v", {
      version = 1, initial = 0,
      reducer = function (acc, item) return acc + item.n end,
      retract = function (acc, item) return acc - item.n end,
    }):use("w", flume.reduce(1, function (acc, item) return acc + item.n end, 0)):use("i", flume.index(1, "n"))
    local alive, sum, count = {}, 0, 0
    for round = 1, 300 do
      if math.random(3) > 1 or count == 0 then
        local n = math.random(100)
        alive[#alive + 1], sum, count = n, sum + n, count + 1
        db:append({n = n}, function () end)
      else
        local at = math.random(#alive)
        if alive[at] and db.since.value >= at - 1 then
          sum, count = sum - alive[at], count - 1
          alive[at] = false
          db:del(at - 1, function (err) assert(not err) end)
        end
      end
      if round % 7 == 0 then flume.step(0) end
    end
    db:del({}, function () end)
    db:append {n = 0}
    assert.equal(sum, db.v:get())
    assert.equal(sum, db.w:get())
    assert.equal(count + 1, db.i:count())
  end)
end)

describe("accept", function ()
  after_each(fixture.clean)

  local SUM = "return {initial = 0, reducer = function (acc, item) return acc + item.n end}"
  local SAME = "return {initial = 0, reducer = function (acc, item) local n = item.n return n + acc end}"

  it("keeps the state of the active version, and ends the rebuild", function ()
    local dir = fixture.dir() .. "/data"
    local db, path = with_script(SUM, dir)
    filled(db, 10)
    assert.equal(55, db.v:get())
    db:close()
    fixture.write(path, SAME)
    db = fixture.open_db(dir, {ready = false}):use("v", path)
    assert.equal(-1, db.v.since.value)
    assert.is_true(db.v:accept "a local\nmore")
    assert.equal(9, db.v.since.value)
    db.ready:set(true)
    assert.equal(55, db.v:get())
    local accepted = db:status().views.v.accepted
    assert.equal(1, #accepted)
    assert.truthy(accepted[1]:find("a local more", 1, true) and accepted[1]:find("record 9", 1, true), accepted[1])
    db:close()
    db = fixture.open_db(dir):use("v", path)
    assert.equal(9, db.v.since.value)
    assert.equal(1, #db:status().views.v.accepted)
  end)

  it("answers reads that wait for the pending version", function ()
    local dir = fixture.dir() .. "/data"
    local db, path = with_script(SUM, dir)
    filled(db, 10)
    assert.equal(55, db.v:get())
    db:close()
    fixture.write(path, SAME)
    db = fixture.open_db(dir, {ready = false}):use("v", path)
    local calls, cb = fixture.recorder()
    db:reload("v", cb)
    db.v:accept("a local more", cb)
    fixture.run_until(function () return #calls == 2 end)
    for _, call in ipairs(calls) do assert.same({nil, true}, {call[1], call[2]}) end
    assert.equal(9, db.v.since.value)
  end)

  it("may be given as an option of use", function ()
    local dir = fixture.dir() .. "/data"
    local db, path = with_script(SUM, dir)
    filled(db, 10)
    assert.equal(55, db.v:get())
    db:close()
    fixture.write(path, SAME)
    db = fixture.open_db(dir):use("v", path, {accept = "a local more"})
    assert.equal(9, db.v.since.value)
    assert.truthy(db:status().views.v.accepted[1]:find("a local more", 1, true))
  end)

  it("hands over the state of the active version", function ()
    local db, path = with_script(SUM)
    filled(db, 10)
    assert.equal(55, db.v:get())
    fixture.write(path, "return {initial = 0, reducer = function (acc, item) return acc - item.n end}")
    assert.is_true(db.v:accept "from now on it is to subtract")
    assert.equal(55, db.v:get())
    filled(db, 1)
    assert.equal(54, db.v:get())
    assert.equal(1, #db:status().views.v.accepted)
  end)

  it("wants a reason, and something to accept", function ()
    local db = filled(with_script(SUM), 1)
    assert.error_matches(function () db.v:accept() end, "say why")
    assert.error_matches(function () db.v:accept " " end, "say why")
    local ok, message, code = db.v:accept "nothing"
    assert.is_nil(ok)
    assert.equal("EINVAL", code)
    assert.truthy(message:find "nothing to accept")
  end)
end)

describe("explain", function ()
  after_each(fixture.clean)

  it("folds records without committing, and tells what it costs", function ()
    local db, path = with_script "return {initial = 0, reducer = function (acc, item) return acc + item.n end}"
    filled(db, 10)
    assert.equal(55, db.v:get())
    local found = assert(db.v:explain())
    assert.same({0, 9, 10, "initial", 55}, {found.from, found.to, found.records, found.starts_with, found.after})
    assert.equal(10, #found.slowest)
    assert.is_true(found.us_per_record > 0 and found.ms > 0)
    for i = 2, 10 do assert.is_true(found.slowest[i - 1].us >= found.slowest[i].us) end
    fixture.write(path, "return {initial = 0, reducer = function (acc, item) return acc + 2 * item.n end}")
    assert.equal(6, db.v:explain({from = 0, to = 1}).after)
    assert.equal(55, db.v:get())
  end)

  it("of the records that come next begins with the view's state", function ()
    local db = filled(with_script(POISONED), 2)
    assert.equal(3, db.v:get())
    db.ready:set(false)
    db:append {{n = 10}, {n = 20}}
    local found = assert(db.v:explain())
    assert.same({2, 3, "state", 3, 33}, {found.from, found.to, found.starts_with, found.before, found.after})
    db.ready:set(true)
    assert.equal(33, db.v:get())
  end)

  it("tells where a view fails", function ()
    local db = filled(with_script(POISONED), 10)
    assert.is_nil(db.v:get())
    local found = assert(db.v:explain{from = 0, to = 9})
    assert.equal(2, found.error.seq)
    assert.truthy(found.error.message:find("three", 1, true))
    assert.truthy(found.error.traceback:find("traceback", 1, true))
  end)

  it("shows what an index and groups would get", function ()
    local db = filled(fixture.memory_db():use("i", flume.index(1, "n")):use("g", {
      version = 1, group = function (item) return item.n % 2 end, initial = 0,
      reducer = function (acc, item) return acc + item.n end,
    }), 10)
    local found = assert(db.i:explain{from = 3, to = 4})
    assert.same({{key = 4, seq = 3}, {key = 5, seq = 4}}, found.entries)
    assert.equal(2, found.changed)
    found = assert(db.g:explain{from = 0, to = 9})
    assert.same({{key = 0, state = 30}, {key = 1, state = 25}}, found.groups)
    db.g:ready()
    db.ready:set(false)
    db:append {n = 100}
    found = assert(db.g:explain())
    assert.same({{key = 0, state = 130}}, found.groups)
    db.ready:set(true)
    assert.equal(130, db.g:get(0))
  end)

  it("that is under way ends with ECLOSED when the database closes", function ()
    local db = filled(with_script "return {reducer = function () for _ = 1, 1e5 do end return 1 end}", 1000)
    local calls, cb = fixture.recorder()
    db.v:explain({from = 0}, cb)
    db:close()
    fixture.run_until(function () return #calls == 1 end)
    assert.equal("ECLOSED", calls[1][1].code)
  end)

  it("checks its options", function ()
    local db = filled(with_script(POISONED), 1)
    assert.error_matches(function () db.v:explain{till = 4} end, "unknown option")
    assert.error_matches(function () db.v:explain{from = -4} end, "below 0")
  end)
end)

describe("a view that has failed at a record", function ()
  after_each(fixture.clean)

  for _, where in ipairs {"memory", "disk"} do
    it("goes on by itself when the record is deleted, in " .. where, function ()
      local db = filled(with_script(POISONED, where == "disk" and fixture.dir() .. "/data" or nil), 10)
      assert.is_nil((db.v:get()))
      assert.equal("failed", db:status().views.v.state)
      assert(db:del(5))
      assert.is_nil((db.v:get())) -- that was a different record
      assert(db:del(2))
      assert.equal(55 - 3 - 6, db.v:get())
      assert.equal("live", db:status().views.v.state)
    end)
  end

  it("goes on when it is inline, too", function ()
    local db = fixture.memory_db()
    db:use("v", flume.reduce(1, function (acc, item)
      if item.n == 3 then error "three" end
      return acc + item.n
    end, 0))
    filled(db, 4)
    assert.is_nil((db.v:get()))
    assert(db:del(2))
    assert.equal(7, db.v:get())
  end)

  it("takes the place of the old version, when it is a pending one", function ()
    local path = fixture.write(fixture.dir() .. "/v.lua",
      "return {version = 0, initial = 0, reducer = function (acc, item) return acc + item.n end}")
    local db = filled(fixture.memory_db(), 10):use("v", path)
    assert.equal(55, db.v:get())
    fixture.write(path, POISONED)
    assert.is_nil((db:reload()))
    assert.equal(0, db.v.version)
    assert(db:del(2))
    fixture.run_until(function () return db:status().views.v.version == 1 end)
    assert.equal(52, db.v:get())
  end)
end)

describe("a state that can't be stored", function ()
  after_each(fixture.clean)

  it("is what close answers, with the path", function ()
    local dir = fixture.dir() .. "/data"
    local db = with_script([[
      return {version = 1, initial = {}, reducer = function (acc, item)
        acc.f = function () end
        return acc
      end}
    ]], dir)
    db:append {n = 1}
    db.v:ready()
    local ok, message, code = db:close()
    assert.is_nil(ok)
    assert.truthy(message:find('view "v": state.*f: function'), message)
    assert.truthy(code == "EVIEW" or code == "EINVAL", code)
    assert.is_true(db:close())
  end)
end)
