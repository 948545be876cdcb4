local entries = require "tests.support.entries"
local flume = require "flume"
local fixture = require "tests.support.fixture"

local collect = entries.collect

-- Tests for views of both sorts: use(db, name, source) mounts the text of a module.
local function both(tests)
  tests("inline", function (db, name, source) db:use(name, assert(load(source))()) end)
  tests("as a script", function (db, name, source)
    db:use(name, fixture.write(fixture.dir() .. "/" .. name .. ".lua", source))
  end)
end

local function fails(message, ok, why, code)
  assert.is_nil(ok)
  assert.truthy(why:find(message, 1, true), why)
  return code
end

local MENTIONS = [[
return {version = 1, indexer = function (item, seq, emit)
  for _, who in ipairs(item.mentions or {}) do emit(who, item.note) end
end}]]

local CUSTOM = [[
return {
  version = 1,
  methods = {newest = "async", how_many = "async", of = "source", walked = "source", last = "sync"},
  indexer = function (item, seq, emit) emit({item.author, item.at}, item.at % 2 == 0 and "even" or nil) end,
  newest = function (view, who)
    for key, value, seq in view:range {prefix = {who}, reverse = true, limit = 1} do return key, value, seq end
  end,
  how_many = function (view, who) return view:count {prefix = {who}} end,
  of = function (view, who, opts)
    return view:range {prefix = {who}, reverse = opts.reverse, limit = opts.limit, live = opts.live, keys = false}
  end,
  walked = function (view, who)
    local range = view:range {prefix = {who}, values = false, seqs = false}
    return function () return range() end
  end,
  last = function (view, key) return select(2, view:get(key)) end,
}]]

describe("an index", function ()
  after_each(fixture.clean)

  both(function (how, use)
    describe(how, function ()
      local db

      before_each(function () db = fixture.memory_db() end)

      it("has what records emit", function ()
        use(db, "by", MENTIONS)
        db:append {
          {mentions = {"bob", "alice"}, note = "first"}, {other = 1}, {mentions = {"alice", "alice"}},
          {mentions = {"bob"}},
        }
        local third = {mentions = {"alice", "alice"}}
        assert.same({
          {"alice", "first", 0}, {"alice", third, 2}, {"alice", third, 2}, {"bob", "first", 0},
          {"bob", {mentions = {"bob"}}, 3},
        }, collect(db.by:read()))
        assert.equal(5, db.by:count())
        assert.equal(3, db.by:count {gte = "alice", lte = "alice"})
      end)

      it("gives the newest entry of a key", function ()
        use(db, "by", MENTIONS)
        db:append {{mentions = {"bob"}, note = "first"}, {mentions = {"bob"}}, {mentions = {"alice"}, note = "third"}}
        assert.same({{mentions = {"bob"}}, 1}, {db.by:get "bob"})
        assert.same({"third", 2}, {db.by:get "alice"})
        assert.is_nil(db.by:get "nobody")
        assert.is_nil((db.by:get(nil)))
      end)

      it("has nil as a key, and false as a value", function ()
        use(db, "by", [[return {version = 1, indexer = function (item, seq, emit) emit(item.key, item.value) end}]])
        db:append {{value = "v"}, {key = "a", value = false}, {key = "b", value = flume.null}, {key = false}}
        assert.same({"v", 0}, {db.by:get(nil)})
        assert.same({"v", 0}, {db.by:get(flume.null)})
        assert.same({false, 1}, {db.by:get "a"})
        assert.same({{key = "b", value = flume.null}, 2}, {db.by:get "b"}) -- null is none
        assert.same({{key = false}, 3}, {db.by:get(false)})
        assert.same({{flume.null, "v", 0}}, collect(db.by:read {lte = flume.null}))
      end)

      it("takes integers and the floats that equal them for one key", function ()
        use(db, "by", [[return {version = 1, indexer = function (item, seq, emit) emit(item.key) end}]])
        db:append {{key = 1}, {key = 1.0}, {key = 2^53}, {key = 1 << 53}, {key = 1.5}, {key = -3}}
        assert.equal(2, db.by:count {gte = 1, lte = 1})
        assert.equal(2, db.by:count {gte = 2^53, lte = 2^53})
        local keys = {}
        for key in db.by:read {values = false, seqs = false} do keys[#keys + 1] = key end
        assert.same({-3, 1, 1, 1.5, 1 << 53, 1 << 53}, keys)
        assert.equal("integer", math.type(keys[3]))
      end)

      it("answers custom methods from its entries", function ()
        use(db, "by", CUSTOM)
        db:append {
          {author = "bob", at = 1}, {author = "bob", at = 2}, {author = "al", at = 3}, {author = "bob", at = 5},
        }
        assert.same({{"bob", 5}, nil, 3}, {db.by:newest "bob"})
        assert.same({{"al", 3}}, {(db.by:newest "al")})
        assert.equal(3, db.by:how_many "bob")
        assert.equal(0, db.by:how_many "nobody")
        assert.same({{{"bob", 1}}, {{"bob", 2}}, {{"bob", 5}}}, collect(db.by:walked "bob"))
        assert.equal(1, db.by:last {"bob", 2})
      end)

      it("gives the records of a range that a method returns", function ()
        use(db, "by", CUSTOM)
        db:append {
          {author = "bob", at = 1}, {author = "al", at = 2}, {author = "bob", at = 4}, {author = "bob", at = 5},
        }
        assert.same({{{author = "bob", at = 5}, 3}, {"even", 2}},
          collect(db.by:of("bob", {reverse = true, limit = 2})))
        assert.same({{{author = "bob", at = 1}, 0}, {"even", 2}, {{author = "bob", at = 5}, 3}},
          collect(db.by:of("bob", {})))
      end)

      it("goes on live in a range that a method returns", function ()
        use(db, "by", CUSTOM)
        db:append {{author = "bob", at = 1}, {author = "al", at = 2}}
        local source = db.by:of("bob", {live = true, limit = 3})
        assert.same({author = "bob", at = 1}, (source:next()))
        db:append {{author = "al", at = 3}, {author = "bob", at = 6}}
        assert.same({"even", 3}, {source:next()})
        db:append {{author = "bob", at = 7}, {author = "bob", at = 9}}
        assert.same({{author = "bob", at = 7}, 4}, {source:next()})
        assert.is_nil((source:next()))
      end)

      it("loses the entries of records that are deleted", function ()
        use(db, "by", MENTIONS)
        db:append {
          {mentions = {"bob"}}, {mentions = {"bob", "bob", "al"}, note = "x"}, {mentions = {"bob"}, note = "y"},
        }
        assert.equal(5, db.by:count())
        db:del(1)
        assert.same({{"bob", {mentions = {"bob"}}, 0}, {"bob", "y", 2}}, collect(db.by:read()))
        assert.equal(2, db.by:count())
        assert.same({"y", 2}, {db.by:get "bob"})
        db:del {0, 2}
        assert.same({}, collect(db.by:read()))
        assert.is_nil((db.by:get "bob"))
        assert.is_nil(db:status().views.by.reason) -- it was not built anew
      end)

      it("fails at a record whose key can't be one", function ()
        use(db, "by", [[return {version = 1, indexer = function (item, seq, emit)
          emit("before")
          emit(item.key)
        end}]])
        db:append {{key = 1}, {key = {a = 1}}, {key = 2}}
        assert.equal("EVIEW", fails("failed at record 1: ", db.by:count()))
        assert.equal("EVIEW", fails(": key: a map can't be a key", db.by:get(1)))
        db.by:skip(1)
        assert.equal(4, db.by:count())
      end)

      it("fails at nan", function ()
        use(db, "by", [[return {version = 1, indexer = function (item, seq, emit) emit {"a", item.x - item.x} end}]])
        db:append {x = math.huge}
        assert.equal("EVIEW", fails("key[2]: nan can't be a key", db.by:count()))
      end)

      it("refuses bad keys and options of reads", function ()
        use(db, "by", MENTIONS)
        db:append {mentions = {"bob"}}
        fails("key: a map can't be a key", db.by:get {a = 1})
        fails("key: nan can't be a key", db.by:get(0 / 0))
        fails("key[1]: nan can't be a key", db.by:count {gte = {0 / 0}})
        fails('unknown option "froms"', db.by:count {froms = 1})
        fails("option limit must be of type integer, not string", db.by:count {limit = "1"})
        local wrong = {
          {"unknown option \"froms\" of a range", {froms = 1}},
          {"option reverse must be of type boolean", {reverse = 1}},
          {"option limit must be of type integer, not float", {limit = 1.5}}, {"a range is a table", "all"},
          {"reverse and live exclude each other", {reverse = true, live = true}},
          {"key: a map can't be a key", {gt = {a = 1}}}, {"key: nan can't be a key", {prefix = 0 / 0}},
        }
        for _, case in ipairs(wrong) do
          fails(case[1], db.by:read(case[2]):next())
          local source = db.by:read(case[2])
          assert.error_matches(function () source() end, case[1], 1, true)
        end
        assert.equal(1, db.by:count())
      end)

      it("is rebuilt, and goes on", function ()
        use(db, "by", MENTIONS)
        db:append {{mentions = {"bob"}, note = 1}, {mentions = {"bob"}, note = 2}}
        assert.equal(2, db.by:count())
        assert.is_true(db.by:rebuild())
        db:append {mentions = {"bob"}, note = 3}
        assert.same({{1}, {2}, {3}}, collect(db.by:read {keys = false, seqs = false}))
      end)
    end)
  end)

  it("keeps its entries on disk", function ()
    local dir = fixture.dir()
    local path = fixture.write(fixture.dir() .. "/by.lua", MENTIONS)
    local before
    for round = 1, 4 do
      local db = fixture.open_db(dir)
      db:use("by", path)
      db:use("inline", assert(load(MENTIONS))())
      if before then
        assert.same(before, collect(db.by:read()))
        assert.same(before, collect(db.inline:read()))
        assert.is_nil(db:status().views.by.reason)
      end
      for i = 1, 50 do db:append {mentions = {"bob", "al" .. i % 7}, note = i % 3 == 0 and round or nil} end
      if round == 3 then db:del {1, 60, 149} end
      before = collect(db.by:read())
      assert.same(before, collect(db.inline:read()))
      assert.equal(round >= 3 and 100 * round - 6 or 100 * round, #before)
      db:close()
    end
  end)

  describe("by paths", function ()
    local function values(random)
      local kinds = {
        "a", "b", "", 1, 1.5, -2, true, false, flume.null, {1, 2}, {"a", {x = 1}}, {x = "a"}, {x = {y = "b"}},
        {x = flume.null}, {x = {y = {1}}}, {x = {y = {z = 1}}}, flume.array {}, "x",
      }
      return kinds[random(#kinds)]
    end

    -- As the documentation has it, in Lua.
    local function follow(item, path)
      for key in path:gmatch "[^.]+" do
        local kind = type(item)
        if kind ~= "table" and kind ~= "userdata" or item == flume.null then return nil end
        item = item[key]
      end
      if item == flume.null then return nil end
      return item
    end

    local function slow(paths)
      return function (item, _, emit)
        local key
        if type(paths) == "string" then
          key = follow(item, paths)
        else
          local found = false
          key = {}
          for i, path in ipairs(paths) do
            local value = follow(item, path)
            found = found or value ~= nil
            key[i] = value == nil and flume.null or value
          end
          key = found and flume.array(key) or nil
        end
        if key ~= nil then pcall(emit, key) end
      end
    end

    for _, codec in ipairs {"msgpack", "json"} do
      it("is the same as a function, " .. codec, function ()
        local db = fixture.keep(assert(flume.new(flume.log.memory {codec = codec})))
        for i, paths in ipairs {"a", "a.x", "a.x.y", {"a"}, {"a", "b"}, {"b.x", "a", "none"}, {"none"}} do
          db:use("quick" .. i, flume.index(1, paths))
          db:use("slow" .. i, flume.index(1, slow(paths)))
        end
        entries.seeded(function (random)
          for _ = 1, 20 do
            local batch = {}
            for j = 1, 30 do batch[j] = {a = values(random), b = values(random), c = values(random)} end
            db:append(batch)
          end
          local with_entries = 0
          for i = 1, 7 do
            local quick = collect(db["quick" .. i]:read())
            assert.same(collect(db["slow" .. i]:read()), quick)
            with_entries = with_entries + (#quick > 0 and 1 or 0)
          end
          assert.equal(6, with_entries)
        end)
      end)
    end

    it("is the same with a mapper", function ()
      local db = fixture.memory_db {mapper = function (value) return {a = value.b, b = value.a} end}
      db:use("by", flume.index(1, "a"))
      db:append {{b = "x"}, {a = "y"}, {b = "z", a = 1}}
      assert.same({{"x", {a = "x"}, 0}, {"z", {a = "z", b = 1}, 2}}, collect(db.by:read()))
      assert.same({{a = "x"}, 0}, {db.by:get "x"})
    end)

    it("loses the entries of deleted records", function ()
      local db = fixture.memory_db()
      db:use("by", flume.index(1, {"a", "b"}))
      db:append {{a = 1, b = 1}, {a = 1, b = 2}, {a = 2}}
      assert.equal(3, db.by:count())
      db:del(1)
      assert.same({{{1, 1}, 0}, {{2, flume.null}, 2}}, collect(db.by:read {values = false}))
    end)

    it("refuses a value that isn't a path", function ()
      local db = fixture.memory_db()
      for _, paths in ipairs {"", "a..b", ".a", "a.", {}, {1}, {"a", ""}} do
        assert.has_error(function () db:use("by", flume.index(1, paths)) end)
      end
    end)
  end)
end)
