-- Reducers with a state for each key.

local entries = require "tests.support.entries"
local flume = require "flume"
local limits_now = require "flume.view.host_modules".import "kinds.group".limits
local fixture = require "tests.support.fixture"

local collect = entries.collect

local function both(tests)
  tests("inline", function (db, name, source, options) db:use(name, assert(load(source))(), options) end)
  tests("as a script", function (db, name, source, options)
    db:use(name, fixture.write(fixture.dir() .. "/" .. name .. ".lua", source), options)
  end)
end

local SUM = [[
return {
  version = 1, initial = 0,
  group = GROUP,
  reducer = function (acc, item) return acc + item.n end,
}]]

local function sum_by(group)
  return (SUM:gsub("GROUP", function () return group end))
end

local BY_WHO = sum_by "function (item) return item.who end"

local SUM_RETRACT = [[
return {
  version = 1, initial = {n = 0, sum = 0},
  group = "who",
  reducer = function (acc, item)
    acc.n, acc.sum = acc.n + 1, acc.sum + item.n
    return acc
  end,
  retract = function (acc, item)
    acc.n, acc.sum = acc.n - 1, acc.sum - item.n
    if acc.n > 0 then return acc end
  end,
}]]

local KEYS = {
  "", "a", "b", "ab", "a\0", 0, 1, -1, 1.5, 1 << 53, true, false, {"a"}, {"a", 1}, {1, {2}}, flume.array {},
  ("k"):rep(600),
}

describe("a reducer with groups", function ()
  local limits = {}

  before_each(function () for name, value in pairs(limits_now) do limits[name] = value end end)
  after_each(function ()
    for name, value in pairs(limits) do limits_now[name] = value end
    fixture.clean()
  end)

  both(function (how, use)
    describe(how, function ()
      local db

      before_each(function () db = fixture.memory_db() end)

      it("has a state for each key", function ()
        use(db, "sum", BY_WHO)
        db:append {{who = "bob", n = 1}, {who = "al", n = 2}, {who = "bob", n = 3}, {n = 9}, {who = flume.null, n = 9}}
        assert.equal(4, db.sum:get "bob")
        assert.equal(2, db.sum:get "al")
        assert.equal(0, db.sum:get "nobody")
        assert.equal(2, db.sum:count())
        assert.same({{"al", 2}, {"bob", 4}}, collect(db.sum:read()))
        assert.same({{"bob", 4}}, collect(db.sum:read {gt = "al"}))
        assert.same({{4}, {2}}, collect(db.sum:read {keys = false, reverse = true}))
        assert.equal(1, db.sum:count {prefix = "a"})
      end)

      it("takes a path, or a list of paths, for the groups", function ()
        use(db, "path", sum_by '"a.b"')
        use(db, "list", sum_by '{"a.b", "c"}')
        db:append {
          {a = {b = "x"}, n = 1}, {a = {b = "x"}, c = 1, n = 2}, {a = "x", n = 4},
          {a = {b = flume.null}, c = 1, n = 8}, {n = 16},
        }
        assert.same({{"x", 3}}, collect(db.path:read()))
        assert.same({{{flume.null, 1}, 8}, {{"x", flume.null}, 1}, {{"x", 1}, 2}}, collect(db.list:read()))
        assert.equal(2, db.list:get {"x", 1})
        assert.equal(8, db.list:get {flume.null, 1})
      end)

      it("takes arrays of lazy records for groups", function ()
        use(db, "sum", sum_by "function (item) return item.tags end")
        db:append {
          {tags = {"a", 1}, n = 1}, {tags = {"b"}, n = 2}, {tags = {"a", 1}, n = 4}, {tags = {"a", 1.0}, n = 8},
        }
        assert.equal(13, db.sum:get {"a", 1})
        assert.same({{{"a", 1}, 13}, {{"b"}, 2}}, collect(db.sum:read()))
        assert.same({{{"a", 1}, 13}}, collect(db.sum:read {prefix = {"a"}}))
      end)

      it("fails at a group that can't be a key", function ()
        use(db, "map", sum_by "function (item) return item.tags end")
        use(db, "nan", sum_by "function (item) return item.n - item.n end")
        db:append {{tags = {x = 1}, n = math.huge}}
        local ok, message, code = db.map:get "a"
        assert.same({nil, "EVIEW"}, {ok, code})
        assert.truthy(message:find("key: a map can't be a key", 1, true), message)
        ok, message, code = db.nan:get "a"
        assert.same({nil, "EVIEW"}, {ok, code})
        assert.truthy(message:find("the group is nan", 1, true), message)
      end)

      it("leaves out a record where a path leads to something that can't be a key", function ()
        use(db, "sum", sum_by '"who"')
        use(db, "pair", sum_by '{"who", "tags"}')
        local nan = 0 / 0
        for _, who in ipairs {"a", {x = 1}, nan, {"b", nan}, {"b"}, {{x = 1}}, {{"b"}}, false} do
          for _, tags in ipairs {"t", {y = 1}, nan} do db:append {who = who, tags = tags, n = 1} end
        end
        assert.same({{"a", 3}, {{"b"}, 3}, {{{"b"}}, 3}, {false, 3}}, collect(db.sum:read()))
        assert.same({{{"a", "t"}, 1}, {{{"b"}, "t"}, 1}, {{{{"b"}}, "t"}, 1}, {{false, "t"}, 1}},
          collect(db.pair:read()))
        db:del {0, 3}
        assert.equal(2, db.sum:get "a")
        assert.is_true(db.pair:ready())
      end)

      it("gives each reader a copy", function ()
        use(db, "sum", SUM_RETRACT)
        db:append {who = "bob", n = 1}
        local state = db.sum:get "bob"
        state.sum = 100
        db.sum:get("nobody").sum = 5
        assert.same({n = 1, sum = 1}, db.sum:get "bob")
        assert.same({n = 0, sum = 0}, db.sum:get "nobody")
        for _, each in db.sum:read() do each.sum = 7 end
        db:append {who = "bob", n = 2}
        assert.same({n = 2, sum = 3}, db.sum:get "bob")
      end)

      it("takes deleted records back, down to no group at all", function ()
        use(db, "sum", SUM_RETRACT)
        db:append {{who = "bob", n = 1}, {who = "al", n = 2}, {who = "bob", n = 3}}
        assert.equal(2, db.sum:count())
        db:del(0)
        assert.same({n = 1, sum = 3}, db.sum:get "bob")
        db:del(2)
        assert.same({{"al", {n = 1, sum = 2}}}, collect(db.sum:read()))
        db:append {who = "bob", n = 5}
        assert.same({n = 1, sum = 5}, db.sum:get "bob")
        assert.is_nil(db:status().views.sum.reason)
      end)

      it("is rebuilt after deletes when it can't retract", function ()
        use(db, "sum", BY_WHO)
        db:append {{who = "bob", n = 1}, {who = "al", n = 2}, {who = "bob", n = 3}}
        assert.equal(4, db.sum:get "bob")
        db:del {0, 1}
        assert.same({{"bob", 3}}, collect(db.sum:read()))
        assert.equal("records were deleted", db:status().views.sum.reason)
      end)

      it("loses a group whose state becomes nil", function ()
        use(db, "last", [[return {version = 1, group = "who", initial = false, reducer = function (acc, item)
          if item.gone then return nil end
          return item.n
        end}]])
        db:append {{who = "bob", n = 1}, {who = "al", n = 2}, {who = "bob", gone = true}}
        assert.same({{"al", 2}}, collect(db.last:read()))
        assert.is_false(db.last:get "bob")
        db:append {who = "bob", n = 7}
        assert.equal(7, db.last:get "bob")
      end)

      it("answers custom methods", function ()
        use(db, "sum", [[
        return {
          version = 1, initial = 0, group = "who",
          reducer = function (acc, item) return acc + item.n end,
          methods = {total = "async", top = "source", half = "sync"},
          total = function (view)
            local total = 0
            for _, sum in view:range {seqs = false} do total = total + sum end
            return total, view:count()
          end,
          top = function (view, n) return view:range {reverse = true, limit = n} end,
          half = function (view, who) return view:get(who) / 2 end,
        }]])
        db:append {{who = "bob", n = 1}, {who = "al", n = 2}, {who = "cy", n = 3}}
        assert.same({6, 3}, {db.sum:total()})
        assert.same({{"cy", 3}, {"bob", 1}}, collect(db.sum:top(2)))
        assert.equal(1.5, db.sum:half "cy")
      end)

      it("gives its live readers each change", function ()
        use(db, "sum", BY_WHO)
        db:append {{who = "bob", n = 1}, {who = "al", n = 2}}
        local source = db.sum:read {live = true}
        assert.same({"al", 2}, {source:next()})
        assert.same({"bob", 1}, {source:next()})
        for i = 1, 20 do
          db:append {who = "bob", n = 1}
          assert.same({"bob", 1 + i}, {source:next()})
        end
        source:close()
      end)
    end)
  end)

  -- The same by hand: key -> {n =, sum =}.
  local function model_of(records)
    local by_key, list = {}, {}
    for _, record in ipairs(records) do
      local id = flume.encode(record.who)
      local group = by_key[id]
      if not group then
        group = {key = record.who, seq = 0, value = {n = 0, sum = 0}}
        by_key[id], list[#list + 1] = group, group
      end
      group.value.n, group.value.sum = group.value.n + 1, group.value.sum + record.n
    end
    return entries.sort(list)
  end

  for _, where in ipairs {"in memory", "on disk"} do
    it("always equals a full scan, with few groups at hand, " .. where, function ()
      limits_now.at_hand = 5
      local dir = fixture.dir()
      local path = fixture.write(fixture.dir() .. "/sum.lua", SUM_RETRACT)
      local function open()
        local db = where == "on disk" and fixture.open_db(dir, {sync = "os"}) or fixture.memory_db()
        db:use("inline", assert(load(SUM_RETRACT))())
        db:use("script", path)
        return db
      end
      local function compare(db, live, random)
        local records = {}
        for _, record in pairs(live) do records[#records + 1] = record end
        local model = model_of(records)
        for _, name in ipairs {"inline", "script"} do
          for _ = 1, 12 do
            local options = entries.random_options(random, KEYS)
            if options.keys == false and options.values == false then options.values = nil end
            options.seqs = nil
            local wanted = setmetatable({seqs = false}, {__index = options})
            assert.same(entries.read(model, wanted), collect(db[name]:read(options)))
            assert.equal(entries.count(model, options), db[name]:count(entries.for_count(options)))
          end
          for _, group in ipairs(model) do assert.same(group.value, db[name]:get(group.key)) end
        end
      end
      entries.seeded(function (random)
        local db, live = open(), {}
        for _ = 1, 4 do
          for _ = 1, 60 do
            local record = {who = KEYS[random(#KEYS)], n = random(100)}
            live[db:append(record)] = record
          end
          compare(db, live, random)
          for _ = 1, 8 do
            local gone = random(db.since.value + 1) - 1
            db:del(gone)
            live[gone] = nil
          end
          compare(db, live, random)
          if where == "on disk" then
            db:close()
            db = open()
            compare(db, live, random)
          end
        end
      end)
    end)
  end

  it("keeps the memory of a script view flat, however many groups there are", function ()
    local dir = fixture.dir()
    local db = fixture.open_db(dir, {sync = "os"})
    local path = fixture.write(fixture.dir() .. "/sum.lua", [[return {
      version = 1, group = "who", initial = {},
      reducer = function (acc, item)
        acc.text, acc.n = item.text, (acc.n or 0) + 1
        return acc
      end,
    }]])
    local groups, text = os.getenv "FLUME_SANITIZER" and 40000 or 200000, ("x"):rep(100) -- 20 MB of text alone
    for round = 0, 1 do
      for first = 0, groups - 1, 2000 do
        local batch = {}
        for i = first, first + 1999 do batch[#batch + 1] = {who = i * 7919 % groups, text = text} end
        db:append(batch)
      end
      if round == 0 then db:use("sum", path, {memory = 16 * 1024 * 1024}) end
      assert.equal(groups, db.sum:count())
      assert.same({text = text, n = round + 1}, db.sum:get(groups - 1))
      assert.same({text = text, n = round + 1}, db.sum:get(0))
    end
    local count = 0
    for _, state in db.sum:read() do
      assert.equal(2, state.n)
      count = count + 1
    end
    assert.equal(groups, count)
  end)

  it("keeps no memory of keys that were only asked for", function ()
    local db = fixture.memory_db()
    db:use("sum", assert(load(sum_by "function (item) return {item.who} end"))())
    db:append {who = "bob", n = 1}
    assert.equal(1, db.sum:get {"bob"})
    collectgarbage()
    local before = collectgarbage "count"
    for i = 1, 5000 do assert.equal(0, db.sum:get {"nobody" .. i}) end
    collectgarbage()
    assert.is_true(collectgarbage "count" < before + 200)
  end)
end)
