-- Reading the entries of a view: by every option, page by page, and live.

local entries = require "tests.support.entries"
local flume = require "flume"
local fixture = require "tests.support.fixture"

local collect = entries.collect

local EMIT_ALL = [[
return {version = 1, indexer = function (item, seq, emit)
  for _, each in ipairs(item.emits) do emit(each.key, each.value) end
end}]]

local SMALL = [[return {version = 1, indexer = function (item, seq, emit) emit(item.key, item.value) end}]]

local SUMMED = [[
return {version = 1, indexer = function (item, seq, emit) emit({item, ("x"):rep(item % 50)}, item) end,
  methods = {total = "async"}, total = function (view)
    local sum = 0
    for _, value in view:range() do sum = sum + value end
    return sum
  end}]]

local KEYS = {
  flume.null, "", "a", "ab", "abc", "b", "a\0", "a\0b", "a\1", "\255", "\255\255", 0, 1, -1, 1.5, -0.5, 1 << 53, 2^60,
  math.mininteger, math.maxinteger, math.huge, -math.huge, true, false, flume.array {}, {"a"}, {"a", 1}, {"a", 2},
  {"a", "b"}, {"a", {1}}, {"b"}, {1, 2}, {1, 2, 3}, {{1}, 2}, {flume.null}, {"a", flume.null, 1}, ("long"):rep(200),
  ("long"):rep(200) .. "er", {("long"):rep(150), 1},
}

describe("a range", function ()
  after_each(fixture.clean)

  -- A log with random entries, and what an index of it should hold.
  local function fill(db, random, model, count)
    for _ = 1, count do
      local emits = {}
      for _ = 1, random(4) - 1 do
        local key, value = KEYS[random(#KEYS)], nil
        if random(2) == 1 then value = random(3) == 1 and ("v"):rep(random(300)) or random(1000) end
        emits[#emits + 1] = {key = key, value = value}
      end
      local seq = db:append {emits = flume.array(emits)}
      for _, each in ipairs(emits) do model[#model + 1] = {key = each.key, value = each.value, seq = seq} end
    end
  end

  local function delete_some(db, random, model)
    for _ = 1, 3 do
      local gone = random(db.since.value + 1) - 1
      db:del(gone)
      for i = #model, 1, -1 do
        if model[i].seq == gone then table.remove(model, i) end
      end
    end
  end

  local function compare(db, name, model, random, rounds)
    local sorted = entries.sort(table.move(model, 1, #model, 1, {}))
    local function record(seq) return (db:get(seq)) end
    for _ = 1, rounds do
      local options = entries.random_options(random, KEYS)
      assert.same(entries.read(sorted, options, record), collect(db[name]:read(options)))
      assert.equal(entries.count(sorted, options), db[name]:count(entries.for_count(options)))
    end
  end

  for _, where in ipairs {"in memory", "on disk"} do
    it("always equals a full scan, " .. where, function ()
      local dir = fixture.dir()
      local path = fixture.write(fixture.dir() .. "/all.lua", EMIT_ALL)
      local function open()
        local db = where == "on disk" and fixture.open_db(dir, {sync = "os"}) or fixture.memory_db()
        db:use("script", path)
        db:use("inline", assert(load(EMIT_ALL))())
        return db
      end
      entries.seeded(function (random)
        local db, model = open(), {}
        for _ = 1, 4 do
          fill(db, random, model, 100)
          delete_some(db, random, model)
          compare(db, "script", model, random, 25)
          compare(db, "inline", model, random, 25)
          if where == "on disk" then
            db:close()
            db = open()
          end
        end
        compare(db, "script", model, random, 10)
      end)
    end)
  end

  it("ends with the entries that were there when it was begun, each once", function ()
    local db = fixture.memory_db()
    db:use("by", fixture.write(fixture.dir() .. "/by.lua", SMALL))
    local batch = {}
    for i = 1, 2000 do batch[i] = {key = i % 10, value = i} end
    db:append(batch)
    local seen, count = {}, 0
    local source = db.by:read()
    for key, value, seq in source do
      assert.equal(key, value % 10)
      assert.is_nil(seen[seq])
      seen[seq] = true
      count = count + 1
      if count % 300 == 1 then -- in the middle of a page; before and behind the place
        db:append {{key = 0, value = 3000}, {key = 9, value = 3009}, {key = key, value = 3000 + key}}
        assert.is_true(db.by:ready())
      end
    end
    assert.equal(2000, count)
    assert.equal(2021, db.by:count())
  end)

  it("is read in small steps with a limit", function ()
    local db = fixture.memory_db()
    db:use("by", flume.index(1, "key"))
    for i = 1, 600 do db:append {key = i} end
    for _, limit in ipairs {0, 1, 255, 256, 257, 512, 600, 601, -1} do
      local want = limit < 0 and 600 or math.min(limit, 600)
      assert.equal(want, #collect(db.by:read {limit = limit}))
      assert.equal(want, #collect(db.by:read {limit = limit, reverse = true}))
    end
  end)

  it("is closed in the middle", function ()
    local db = fixture.memory_db()
    db:use("by", flume.index(1, "key"))
    db:append {{key = 1}, {key = 2}, {key = 3}}
    local source = db.by:read()
    assert.equal(1, (source:next()))
    source:close()
    assert.is_nil((source:next()))
    source:close()
    local seen = {}
    for key in db.by:read() do
      seen[#seen + 1] = key
      if key == 2 then break end
    end
    assert.same({1, 2}, seen)
  end)
end)

-- Finalizers run wherever the program's state allocates, also while entries become its values.
describe("a range that finalizers interrupt", function ()
  local COUNT, SUM = 2000, 2001000
  local db, asked, answered, mode

  before_each(function ()
    local path = fixture.dir() .. "/summed.lua"
    fixture.write(path, SUMMED)
    db = fixture.memory_db()
    local batch = {}
    for i = 1, COUNT do batch[i] = i end
    db:append(batch)
    db:use("summed", path)
    assert.is_true(db.summed:ready())
    asked, answered = 0, 0
    mode = collectgarbage("generational", 1) -- it collects often
  end)
  after_each(function ()
    collectgarbage(mode)
    fixture.clean()
  end)

  local function read(from)
    local expected = from
    for key, value in db.summed:read {gte = {from}, lt = {from + 200}} do
      assert.same({expected, ("x"):rep(expected % 50)}, key)
      assert.equal(expected, value)
      expected = expected + 1
    end
    assert.equal(from + 200, expected)
  end

  -- Garbage that asks the view for something when it is collected.
  local function litter(ask)
    for _ = 1, 5 do
      setmetatable({}, {__gc = function ()
        if db.closed then return end
        asked = asked + 1
        ask()
      end})
    end
  end

  local function took(err, sum)
    answered = answered + 1
    assert.is_nil(err)
    assert.equal(SUM, sum)
  end

  it("gives its entries, and their calls are answered later", function ()
    for i = 1, 60 do
      litter(function () db.summed:total(took) end)
      read(i * 10)
      flume.step(0)
    end
    fixture.run_until(function () return answered == asked end)
    assert.is_true(asked > 0)
  end)

  it("gives its entries when they wait for an answer", function ()
    for i = 1, 60 do
      litter(function () took(nil, assert(db.summed:total())) end)
      read(i * 10)
    end
    assert.is_true(asked > 0)
    assert.equal(asked, answered)
  end)

  it("gives its entries when its options ask the view", function ()
    local options = setmetatable({gte = {5}, lt = {8}}, {__index = function ()
      asked = asked + 1
      db.summed:total(took)
    end})
    assert.same({5, 6, 7}, (function ()
      local values = {}
      for _, value in db.summed:read(options) do values[#values + 1] = value end
      return values
    end)())
    fixture.run_until(function () return answered == asked end)
    assert.is_true(asked > 0)
  end)
end)

describe("a live range", function ()
  after_each(fixture.clean)

  local function mount(db, how)
    if how == "inline" then return db:use("by", assert(load(SMALL))()) end
    db:use("by", fixture.write(fixture.dir() .. "/by.lua", SMALL))
  end

  for _, how in ipairs {"inline", "script"} do
    describe("of a view that is " .. (how == "inline" and "inline" or "a script"), function ()
      local db

      before_each(function ()
        db = fixture.memory_db()
        mount(db, how)
      end)

      it("goes on with what comes, in order, each once", function ()
        db:append {{key = "b", value = 1}, {key = "a", value = 2}}
        local source = db.by:read {live = true}
        assert.same({"a", 2, 1}, {source:next()})
        assert.same({"b", 1, 0}, {source:next()})
        for i = 1, 400 do
          db:append {{key = "x" .. i % 3, value = i}, {key = "a"}}
          assert.same({"x" .. i % 3, i, 2 * i}, {source:next()})
          assert.same({"a", {key = "a"}, 2 * i + 1}, {source:next()})
        end
        source:close()
        assert.is_nil((source:next()))
      end)

      it("waits for an entry in its bounds", function ()
        local source = db.by:read {live = true, prefix = "a", keys = false, seqs = false}
        local calls, fn = fixture.recorder()
        source:next(fn)
        db:append {{key = "b", value = 1}}
        assert.is_true(db.by:ready())
        assert.equal(0, #calls)
        db:append {{key = "c"}, {key = "ab", value = "yes"}}
        fixture.run_until(function () return #calls == 1 end)
        assert.same({nil, "yes", n = 2}, calls[1])
      end)

      it("leaves out the old, and keeps to its limit", function ()
        db:append {{key = "a", value = 1}}
        local source = db.by:read {live = true, old = false, limit = 2}
        local calls, fn = fixture.recorder()
        source:next(fn)
        db:append {{key = "b", value = 2}, {key = "c", value = 3}, {key = "d", value = 4}}
        fixture.run_until(function () return #calls == 1 end)
        assert.same({nil, "b", 2, 1, n = 4}, calls[1])
        assert.same({"c", 3, 2}, {source:next()})
        assert.is_nil((source:next()))
        assert.is_nil((source:next()))
      end)

      it("tells a next that waits when it is closed", function ()
        local source = db.by:read {live = true}
        local calls, fn = fixture.recorder()
        source:next(fn)
        db:append {key = "a", value = 1}
        fixture.run_until(function () return #calls == 1 end)
        source:next(fn)
        source:close()
        fixture.run_until(function () return #calls == 2 end)
        assert.is_nil(calls[2][2])
        db:append {key = "b", value = 1}
        assert.equal(2, db.by:count())
        assert.equal(2, #calls)
      end)

      it("tells a next that waits when the database is closed", function ()
        local source = db.by:read {live = true}
        local calls, fn = fixture.recorder()
        source:next(fn)
        assert.is_true(db.by:ready())
        db:close()
        fixture.run_until(function () return #calls == 1 end)
        assert.equal("ECLOSED", calls[1][1].code)
      end)

      it("tells that the database was closed between two results", function ()
        db:append {{key = "a"}, {key = "b"}}
        local source = db.by:read()
        assert.equal("a", (source:next()))
        db:close()
        local nothing, message, code = source:next()
        assert.same({nil, 'view "by": the database was closed', "ECLOSED"}, {nothing, message, code})
      end)

      it("passes over records that are deleted before they are delivered", function ()
        local source = db.by:read {live = true}
        db:append {key = "a", value = 1}
        assert.equal("a", (source:next()))
        db:append {{key = "b"}, {key = "c", value = 3}, {key = "d", value = 4}}
        assert.is_true(db.by:ready())
        db:del {1, 2}
        assert.is_true(db.by:ready())
        assert.same({"d", 4, 3}, {source:next()})
      end)

      it("goes on across a rebuild", function ()
        db:append {{key = "a", value = 1}, {key = "b", value = 2}}
        local source = db.by:read {live = true}
        assert.equal(1, select(2, source:next()))
        assert.equal(2, select(2, source:next()))
        for i = 3, 12 do
          db:append {{key = "a", value = i}, {key = "z", value = i + 100}}
          if i % 3 == 0 then assert.is_true(db.by:rebuild()) end
          assert.same({"a", i}, {table.unpack({source:next()}, 1, 2)})
          if i % 4 == 0 then assert.is_true(db.by:rebuild()) end
          assert.same({"z", i + 100}, {table.unpack({source:next()}, 1, 2)})
        end
      end)

      it("reads the range again when too much was appended at once", function ()
        local source = db.by:read {live = true, prefix = "a", keys = false}
        local big = ("v"):rep(100000)
        for round = 1, 3 do
          local batch = {}
          for i = 1, 60 do batch[i] = {key = i % 20 == 0 and "a" or "b", value = i % 20 == 0 and i or big} end
          db:append(batch)
          assert.is_true(db.by:ready())
          for i = 20, 60, 20 do assert.same({i, (round - 1) * 60 + i - 1}, {source:next()}) end
        end
      end)
    end)
  end

  it("goes on across a new version of the view", function ()
    local dir = fixture.dir()
    local path = fixture.write(dir .. "/by.lua", SMALL)
    local db = fixture.memory_db()
    db:use("by", path)
    db:append {{key = "a", value = 1}}
    local source, other = db.by:read {live = true}, db.by:read {live = true, old = false}
    assert.equal("a", (source:next()))
    local calls, fn = fixture.recorder()
    other:next(fn)
    for version = 2, 4 do
      db:append {key = "before" .. version, value = version}
      fixture.write(path, (SMALL:gsub("version = 1", "version = " .. version):gsub("item.value", "item.value * 10")))
      assert.is_true(db:reload "by")
      db:append {key = "after" .. version, value = version}
      local _, before = source:next()
      assert.is_true(before == version or before == version * 10)
      assert.same({"after" .. version, version * 10}, {table.unpack({source:next()}, 1, 2)})
    end
    fixture.run_until(function () return #calls == 1 end)
    assert.equal("before2", calls[1][2])
    local rest = {}
    for _ = 1, 5 do rest[#rest + 1] = (other:next()) end
    assert.same({"after2", "before3", "after3", "before4", "after4"}, rest)
  end)

  it("has many readers", function ()
    local db = fixture.memory_db()
    mount(db, "script")
    local sources = {}
    for i = 1, 20 do sources[i] = db.by:read {live = true, prefix = i % 2 == 0 and "a" or nil, seqs = false} end
    for round = 1, 5 do
      db:append {{key = "a", value = round}, {key = "b", value = round}}
      for i, source in ipairs(sources) do
        assert.same({"a", round}, {source:next()})
        if i % 2 == 1 then assert.same({"b", round}, {source:next()}) end
      end
      sources[#sources]:close()
      sources[#sources] = nil
    end
  end)
end)
