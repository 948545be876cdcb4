-- The built-in view "keyvalue".

local differential = require "tests.support.differential"
local entries = require "tests.support.entries"
local flume = require "flume"
local fixture = require "tests.support.fixture"

local collect = entries.collect

local RECORDS = {{id = "b", n = 1}, {id = "a", n = 2}, {n = 3}, {id = "b", n = 4}, {id = "c", n = 5}, {id = "a", n = 6}}

local function keyvalue(params)
  local db = fixture.memory_db()
  db:use("kv", "keyvalue", {params = params})
  db:append(flume.array(RECORDS))
  return db.kv, db
end

-- The entries that are kept, in the order of keys.
local function model(records, keep)
  local list, kept = {}, {}
  for _, record in ipairs(records) do
    local key = differential.at(record.value, "author")
    if key ~= nil and type(key) ~= "table" then list[#list + 1] = {key = key, seq = record.seq} end
  end
  for _, entry in ipairs(entries.sort(list)) do
    local last = kept[#kept]
    if not last or entries.compare(last.key, entry.key) ~= 0 then
      kept[#kept + 1] = entry
    elseif keep == "last" then
      kept[#kept] = entry
    end
  end
  return kept
end

local function value_without_lists(random)
  local value = differential.value(random)
  if type(value) == "table" and type(value.author) == "table" then value.author = nil end
  return value
end

describe("the keyvalue view", function ()
  after_each(fixture.clean)

  it("has the last record of each key", function ()
    local kv = keyvalue {key = "id"}
    assert.same({{id = "b", n = 4}, 3}, {kv:get "b"})
    assert.same({{id = "a", n = 6}, 5}, {kv:get "a"})
    assert.is_nil((kv:get "x"))
    assert.same({true, false}, {kv:has "c", kv:has "x"})
    assert.equal(3, kv:count())
    assert.same({{"a", {id = "a", n = 6}, 5}, {"b", {id = "b", n = 4}, 3}, {"c", {id = "c", n = 5}, 4}},
      collect(kv:read()))
    assert.same({{"c", 4}, {"b", 3}}, collect(kv:read {reverse = true, limit = 2, values = false}))
    assert.same({{"b"}}, collect(kv:read {gt = "a", lt = "c", values = false, seqs = false}))
  end)

  it("or the first", function ()
    local kv = keyvalue {key = "id", keep = "first"}
    assert.same({{id = "b", n = 1}, 0}, {kv:get "b"})
    assert.same({{"c", 4}, {"b", 0}, {"a", 1}}, collect(kv:read {reverse = true, values = false}))
  end)

  it("has the record before when the last record of a key is deleted", function ()
    local kv, db = keyvalue {key = "id"}
    db:del(3)
    assert.same({{id = "b", n = 1}, 0}, {kv:get "b"})
    db:del(0)
    assert.is_nil((kv:get "b"))
    assert.is_false(kv:has "b")
    assert.equal(2, kv:count())
    assert.is_nil(db:status().views.kv.reason) -- it was not built anew
  end)

  it("takes arrays of values for keys", function ()
    local kv = keyvalue {key = {"id", "n"}}
    assert.same({{id = "b", n = 4}, 3}, {kv:get {"b", 4}})
    assert.same({{{"b", 1}, 0}, {{"b", 4}, 3}}, collect(kv:read {prefix = {"b"}, values = false}))
  end)

  it("has nothing under nil, which is no key", function ()
    local kv = keyvalue {key = "id"}
    assert.same({false, false}, {kv:has(nil), kv:has(flume.null)})
    assert.same({nil, nil}, {kv:get(nil)})
    assert.is_nil((kv:get(flume.null)))
  end)

  it("has options of the right types", function ()
    local kv = keyvalue {key = "id"}
    assert.equal(3, #collect(kv:read {limit = -1}))
    for option, value in pairs {limit = 1.5, live = "yes", seqs = 0} do
      local _, message, code = kv:read {[option] = value}:next()
      assert.matches("kv:read: option " .. option .. " must be of type", message)
      assert.equal("EINVAL", code)
    end
    assert.matches("a range is a table of options", (select(2, kv:read "a":next())))
  end)

  it("tells of later records live", function ()
    local kv, db = keyvalue {key = "id"}
    local source = kv:read {live = true, gte = "b", values = false}
    assert.same({"b", 3}, {source:next()})
    assert.same({"c", 4}, {source:next()})
    for i = 1, 20 do
      db:append {{id = "a"}, {id = "b", n = i}}
      assert.same({"b", 5 + 2 * i}, {source:next()})
    end
    source:close()
    local new = kv:read {live = true, old = false, limit = 2}
    db:append {{n = 1}, {id = "z"}, {id = "y"}}
    assert.same({"z", {id = "z"}}, {(function (key, value) return key, value end)(new:next())})
    assert.equal("y", (new:next()))
    assert.is_nil((new:next()))
  end)

  it("tells live of first records when they are", function ()
    local kv, db = keyvalue {key = "id", keep = "first"}
    local source = kv:read {live = true, old = false, values = false}
    db:append {{id = "b"}, {id = "z"}, {id = "z"}, {id = "y"}}
    assert.same({"z", 7}, {source:next()})
    assert.same({"y", 9}, {source:next()})
  end)

  it("refuses unknown parameters and options", function ()
    local db = fixture.memory_db()
    assert.error_matches(function () db:use("kv", "keyvalue", {params = {key = "id", keep = "all"}}) end, '"first"')
    local _, message = keyvalue {key = "id"}:read {form = 1}:next()
    assert.truthy(message:find('unknown option "form"', 1, true), message)
  end)

  for _, keep in ipairs {"last", "first"} do
    it("equals a fold of all records: " .. keep, function ()
      differential.run {
        view = "keyvalue", params = {key = "author", keep = keep}, value = value_without_lists,
        check = function (view, records, db)
          local expected = model(records, keep)
          local function record(seq) return (db:get(seq)) end
          assert.same(entries.read(expected, {}, record), collect(view:read()))
          local options = entries.random_options(math.random, {"ada", "b", "", 1, 2, 2.5, true})
          assert.same(entries.read(expected, options, record), collect(view:read(options)))
          assert.equal(entries.count(expected, {lt = 1}), view:count {lt = 1})
          for _, key in ipairs {"ada", "", 1, 2.5, true} do
            local found = entries.read(expected, {gte = key, lte = key}, record)[1]
            assert.same(found and {found[2], found[3]} or {}, {view:get(key)})
          end
        end,
      }
    end)
  end
end)
