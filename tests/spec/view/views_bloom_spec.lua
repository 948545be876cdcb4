-- The built-in view "bloom".

local differential = require "tests.support.differential"
local flume = require "flume"
local fixture = require "tests.support.fixture"

local function bloom(params, db)
  db = db or fixture.memory_db()
  db:use("seen", "bloom", {params = params})
  return db.seen, db
end

local function append_keys(db, from, to)
  for first = from, to, 1000 do
    local batch = {}
    for i = first, math.min(first + 999, to) do batch[#batch + 1] = {id = "key " .. i} end
    db:append(flume.array(batch))
  end
end

-- The share of the keys from..to that has says true for.
local function share(view, from, to)
  local hits = 0
  for i = from, to do
    if view:has("key " .. i, {wait = false}) then hits = hits + 1 end
  end
  return hits / (to - from + 1)
end

describe("the bloom view", function ()
  after_each(fixture.clean)

  it("never misses an added key, and mostly rejects others", function ()
    local seen, db = bloom {key = "id"}
    assert.is_false(seen:has "a")
    db:append {{id = "a"}, {id = 1}, {id = {"x", 2}}, {id = {y = 1}}, {other = "b"}, {id = flume.null}}
    assert.same({true, true, true}, {seen:has "a", seen:has(1), seen:has {"x", 2}})
    assert.same({false, false, false}, {seen:has "b", seen:has(2), seen:has {y = 1}})
    assert.equal(3, seen:info().keys)
    assert.is_true(seen:has(1.0))
  end)

  it("takes every value of an array, or a list of paths", function ()
    local seen, db = bloom {key = "tags.id", each = true}
    db:append {{tags = {{id = "a"}, {id = "b"}}}, {tags = {id = "c"}}}
    assert.same({true, true, true, false}, {seen:has "a", seen:has "b", seen:has "c", seen:has "d"})
    local pairs_seen = bloom({key = {"a", "b"}}, (fixture.memory_db()))
    assert.is_false(pairs_seen:has {1, 2})
  end)

  it("keeps to its error up to what was expected", function ()
    for _, case in ipairs {{2000, 0.01}, {1000, 0.001}, {3000, 0.1}} do
      local seen, db = bloom {key = "id", expected = case[1], error = case[2]}
      append_keys(db, 1, case[1])
      assert.is_true(seen:ready())
      assert.equal(1, share(seen, 1, case[1]))
      local wrong = share(seen, 10000001, 10010000)
      assert.is_true(wrong <= 1.2 * case[2], ("%.5f for %.3f"):format(wrong, case[2]))
      local info = seen:info()
      assert.equal(1, info.layers)
      assert.is_true(info.keys > 0.98 * case[1] and info.keys <= case[1])
      assert.is_true(math.abs(info.error - wrong) < 0.5 * case[2])
    end
  end)

  it("grows, and keeps to its error", function ()
    local seen, db = bloom {key = "id", expected = 500, error = 0.02}
    append_keys(db, 1, 10000)
    assert.is_true(seen:ready())
    assert.equal(1, share(seen, 1, 10000))
    local wrong = share(seen, 10000001, 10010000)
    assert.is_true(wrong <= 0.024, wrong)
    local info = seen:info()
    assert.is_true(info.layers > 1 and info.capacity >= info.keys)
    assert.is_true(info.bytes < 10000 * 3)
  end)

  it("counts deleted keys, and is rebuilt when they are too many", function ()
    local seen, db = bloom {key = "id"}
    append_keys(db, 1, 10)
    assert.equal(10, seen:info().keys)
    db:del {0, 1, 2}
    assert.same({10, 3}, {seen:info().keys, seen:info().deleted})
    assert.is_true(seen:has "key 10")
    assert.is_nil(db:status().views.seen.reason)
    db:del {3, 4, 5}
    assert.same({4, 0}, {seen:info().keys, seen:info().deleted})
    assert.is_false(seen:has "key 1")
    assert.equal("records were deleted", db:status().views.seen.reason)
  end)

  it("refuses unknown parameters", function ()
    local db = fixture.memory_db()
    for _, case in ipairs {
      {{}, "key is missing"}, {{key = "a", expected = 0}, "an integer above 0"},
      {{key = "a", error = 1}, "between 0 and 1"}, {{key = {"a", "b"}, each = true}, "each is for a single path"},
    } do
      local ok, message = pcall(db.use, db, "seen", "bloom", {params = case[1]})
      assert.is_false(ok)
      assert.truthy(message:find(case[2], 1, true), message)
    end
  end)

  it("never misses a key of a record", function ()
    differential.run {
      view = "bloom", params = {key = "author", expected = 4, error = 0.05},
      check = function (view, records)
        local there = {}
        for _, record in ipairs(records) do
          local key = differential.at(record.value, "author")
          if type(key) ~= "table" and key ~= nil then there[key] = true end
        end
        for key in pairs(there) do assert.is_true(view:has(key)) end
        assert.is_true(view:info().deleted <= view:info().keys)
        for i = 1, 3 do assert.equal("boolean", type(view:has("never " .. i))) end
      end,
    }
  end)
end)

describe("a retract that can't take a record back", function ()
  after_each(fixture.clean)

  local function largest(group)
    return {
      version = 1, initial = false, group = group,
      reducer = function (most, item) return most and math.max(most, item.n) or item.n end,
      retract = function (most, item)
        if item.n == most then return nil, "rebuild" end
        return most
      end,
    }
  end

  it("has the view rebuilt", function ()
    local db = fixture.memory_db()
    db:use("one", largest()):use("each", largest "who")
    db:append {{who = "a", n = 1}, {who = "a", n = 5}, {who = "b", n = 3}}
    assert.same({5, 5, 3}, {db.one:get(), db.each:get "a", db.each:get "b"})
    db:del(0)
    assert.same({5, 5, 3}, {db.one:get(), db.each:get "a", db.each:get "b"})
    assert.is_nil(db:status().views.one.reason)
    assert.is_nil(db:status().views.each.reason)
    db:del(1)
    assert.equal(3, db.one:get())
    assert.same({{"b", 3}}, fixture.collect(db.each:read {}))
    assert.equal("records were deleted", db:status().views.one.reason)
    assert.equal("records were deleted", db:status().views.each.reason)
  end)

  it("may return nothing else", function ()
    local db = fixture.memory_db()
    db:use("v", {version = 1, initial = 0, reducer = function (n) return n + 1 end,
      retract = function () return nil, "no idea" end})
    db:append {{n = 1}, {n = 2}}
    assert.equal(2, db.v:get())
    db:del(0)
    local value, message, code = db.v:get()
    assert.same({nil, "EVIEW"}, {value, code})
    assert.truthy(message:find('nil and "rebuild"', 1, true), message)
  end)
end)
