-- What a view can be asked that another one uses, kind by kind; and what can't be used.

local flume = require "flume"
local fixture = require "tests.support.fixture"

-- A view whose state is the list of what `body` gave for each record.
local function user(uses, body)
  local names = {}
  for i, name in ipairs(uses) do names[i] = ("%q"):format(name) end
  return ([[return {version = 1, uses = {%s}, initial = {}, reducer = function (list, item, seq, uses)
    local function all(...)
      local found = {}
      for a, b, c in ... do found[#found + 1] = {a, b == nil and "nil" or b, c} end
      return found
    end
    local function results(...) return table.pack(...) end
    list[#list + 1] = (function () %s end)()
    return list
  end}]]):format(table.concat(names, ", "), body)
end

describe("a view that is used", function ()
  local dir, folder, db

  before_each(function ()
    dir, folder, db = fixture.dir() .. "/db", fixture.dir(), nil
  end)
  after_each(fixture.clean)

  local function write(name, text) fixture.write(("%s/%s.lua"):format(folder, name), text) end

  local function open(given)
    local options = {views = folder, sync = "os"}
    for name, value in pairs(given or {}) do options[name] = value end
    db = fixture.open_db(dir, options)
    return db
  end

  -- What the user of the view saw at the last of the records.
  local function last_of(records)
    for _, record in ipairs(records) do assert(db:append(record)) end
    local list = assert(db.user:get())
    return list[#list]
  end

  local SUMS = [[return {version = 1, group = "k", initial = 0,
    reducer = function (sum, item) return sum + item.n end}]]
  local RECORDS = {{k = "a", n = 1}, {k = "b", n = 2}, {k = "a", n = 3}, {k = "c", n = 4}, {k = "a", n = 5}}

  it("as an index answers get, read and count", function ()
    write("by_k", [[return {version = 1, indexer = "k"}]])
    write("user", user({"by_k"}, [[return {
      results(uses.by_k:get("a")), results(uses.by_k:get("none")), uses.by_k:count(), uses.by_k:count {gt = "a"},
      all(uses.by_k:read {prefix = "a"}), all(uses.by_k:read {gte = "b", reverse = true}),
      all(uses.by_k:read {limit = 1}), all(uses.by_k:read {limit = 0}), all(uses.by_k:read {after = 2, seqs = false}),
      all(uses.by_k:read {gt = "z"}),
    }]]))
    open()
    assert.same({
      {n = 2, [2] = 4}, {n = 1}, 5, 2,
      {{"a", "nil", 0}, {"a", "nil", 2}, {"a", "nil", 4}}, {{"c", "nil", 3}, {"b", "nil", 1}},
      {{"a", "nil", 0}}, {}, {{"a", "nil"}, {"c", "nil"}}, {},
    }, last_of(RECORDS))
  end)

  it("has all entries of a key and a record, in their order, also beyond a page", function ()
    write("many", [[return {version = 1, indexer = function (item, seq, emit)
      for i = 1, 100 do emit("key", {seq, i}) end
    end}]])
    write("user", user({"many"}, [[
      local count, before = 0, {-1, 100}
      for _, value, at in uses.many:read {} do
        local follows = at == before[1] and value[2] == before[2] + 1 or value[2] == 1 and before[2] == 100
        if value[1] ~= at or not follows then error "out of order" end
        count, before = count + 1, value
      end
      return {count, uses.many:count(), results(uses.many:get("key"))}]]))
    open()
    assert.same({500, 500, {n = 2, {4, 100}, 4}}, last_of(RECORDS))
  end)

  it("has keys of any kind and length, apart from those of others", function ()
    local source = [[return {version = 1, indexer = function (item, seq, emit)
      emit(nil, 1) emit(false, 2) emit(true, 3) emit(-1.5, 4) emit("", 5) emit(("x"):rep(1000), 6) emit({"", {1}}, 7)
    end}]]
    write("first", source)
    write("second", source)
    write("user", ([[local flume = require "flume"
      return {version = 1, uses = {"first", "second"}, indexer = function (item, seq, emit, uses)
        local values = {}
        for key, value in uses.first:read {} do values[#values + 1] = value end
        emit("order", values)
        emit("count", {uses.first:count {}, uses.second:count {}, uses.second:count {gte = flume.null, lt = true}})
        emit("long", (uses.second:get(("x"):rep(1000))))
        emit("nil", (uses.second:get(nil)))
      end}]]))
    open()
    assert(db:append {n = 1})
    assert.same({1, 5, 6, 7, 4, 2, 3}, (db.user:get "order"))
    assert.same({7, 7, 6}, (db.user:get "count"))
    assert.same({6, 1}, {(db.user:get "long"), (db.user:get "nil")})
    assert.equal(4, db.user:count())
    assert.same({"count", "long", "nil", "order"}, (function ()
      local keys = {}
      for key in db.user:read {values = false, seqs = false} do keys[#keys + 1] = key end
      return keys
    end)())
  end)

  it("as groups or an aggregate answers get, read and count", function ()
    write("sums", SUMS)
    write("made", [[return {version = 1, group = {"k"}, aggregate = {n = "count", total = {"sum", "n"}}}]])
    write("whole", [[return {version = 1, aggregate = {n = "count"}}]])
    write("user", user({"sums", "made", "whole"}, [[return {
      uses.sums:get("a"), uses.sums:get("none"), uses.sums:count(), uses.sums:count {gt = "a"},
      all(uses.sums:read {gte = "b"}), all(uses.sums:read {reverse = true, limit = 1}),
      uses.made:get({"a"}), results(uses.made:get({"none"})), uses.made:count(), all(uses.made:read {prefix = {"c"}}),
      uses.whole:get(),
    }]]))
    open()
    assert.same({
      9, 0, 3, 2, {{"b", 2}, {"c", 4}}, {{"c", 4}},
      {n = 3, total = 9}, {n = 1}, 3, {{{"c"}, {n = 1, total = 4}}}, {n = 5},
    }, last_of(RECORDS))
  end)

  it("as one of the built-in views has its methods", function ()
    write("user", user({"by_k", "accounts", "links", "texts", "seen", "total", "made"}, [[return {
      all(uses.by_k:read {gte = "b"}), results(uses.accounts:get("a")), results(uses.accounts:get("none")),
      uses.accounts:has("b"), all(uses.accounts:read {limit = 2}), uses.accounts:count(),
      all(uses.links:read {source = "a", limit = 2}), uses.links:has("a", "is", 5), all(uses.links:targets("b")),
      uses.links:count {source = "a"}, uses.texts:count("a"), #all(uses.texts:search("a", {limit = 2})),
      uses.seen:has("a"), uses.seen:has("none"), uses.seen:info().keys, uses.total:get(), uses.made:get("a").n,
    }]]))
    open()
    db:use("by_k", "index", {params = {key = "k", value = "n"}})
    db:use("accounts", "keyvalue", {params = {key = "k"}})
    db:use("links", "links", {params = {source = "k", targets = {is = "n"}}})
    db:use("texts", "search", {params = {fields = "k"}})
    db:use("seen", "bloom", {params = {key = "k"}})
    db:use("total", "reduce", {params = {reducer = "acc + item.n", initial = 0}})
    db:use("made", "aggregate", {params = {group = "k", fields = {n = "count"}}})
    local function link(target) return {source = "a", relation = "is", target = target} end
    assert.same({
      {{"b", 2, 1}, {"c", 4, 3}}, {n = 2, [2] = 4}, {n = 1}, true, {{"a", "nil", 4}, {"b", "nil", 1}}, 3,
      {{link(1), "nil", 0}, {link(3), "nil", 2}}, true, {{2, "nil"}}, 3, 3, 2,
      true, false, 3, 15, 3,
    }, last_of(RECORDS))
  end)

  it("has its own methods of every type, whose results are copies", function ()
    write("list", [[return {version = 1, initial = {rows = {}}, reducer = function (state, item)
        state.rows[#state.rows + 1] = item.n
        return state
      end,
      methods = {now = "sync", of = "async", each = "source", rows = "source", at = "record", all = "records"},
      now = function (view) return view:get().rows end,
      of = function (view, args) args.i = args.i + 1 return view:get().rows[args.i], args.i end,
      each = function (view) return ipairs(view:get().rows) end,
      rows = function (view) return {view:get().rows} end,
      at = function (_, seq) return seq end,
      all = function (view, options)
        local i = 0
        return function ()
          i = i + 1
          if view:get().rows[i] then return "row " .. i, i - 1 end
        end
      end}]])
    write("user", user({"list"}, [[
      local args = {i = 1}
      local rows = uses.list:now()
      rows[1] = "spoilt"
      for inner in uses.list:rows() do inner[1] = "spoilt" end
      return {
        uses.list:now()[1], results(uses.list:of(args)), args.i, all(uses.list:each()), results(uses.list:at(3)),
        all(uses.list:all()), all(uses.list:all {limit = 1, seqs = false}),
        all(uses.list:all {values = false, limit = 1}),
      }]]))
    open()
    assert.same({
      1, {n = 2, 2, 2}, 1, {{1, 1}, {2, 2}, {3, 3}}, {n = 2, [2] = 3},
      {{"row 1", "nil", 0}, {"row 2", "nil", 1}, {"row 3", "nil", 2}}, {{"row 1", "nil"}}, {{"row 1", 0}},
    }, last_of {{n = 1}, {n = 2}, {n = 3}})
  end)

  it("says what can't be asked", function ()
    write("by_k", [[return {version = 1, indexer = "k"}]])
    write("sums", SUMS)
    write("last", [[return require "flume".view("keyvalue", {key = "k"})]])
    for call, message in pairs {
      ["uses.by_k:read {live = true}"] = "uses.by_k:read: what comes later can't be read",
      ["uses.by_k:read {old = false}"] = "uses.by_k:read: what comes later can't be read",
      ["uses.by_k:read {below = 1}"] = 'unknown option "below" of a range',
      ["uses.by_k:read 'a'"] = "uses.by_k:read: a range is a table of options",
      ["uses.last:read {limit = '1'}"] = "uses.last:read: option limit must be of type integer",
      ["uses.by_k:count {gt = {{}, {a = 1}}}"] = "a map can't be a key",
      ["uses.sums:read {after = 1}"] = "uses.sums:read: after is for an index",
      ["uses.by_k:deltas {}"] = "uses.by_k: deltas are read as db.by_k:deltas",
      ["uses.by_k:sum()"] = 'the view "by_k" has no method sum',
      ["uses.by_k.get('a')"] = "call it as uses.by_k:get",
      ["uses.other:get()"] = 'view "user" does not use "other"',
      ["uses.sums:get(print)"] = "function cannot be stored",
    } do
      write("user", user({"by_k", "sums", "last"}, "return " .. call))
      if not db then open() end
      db:reload()
      if db.since:get() < 0 then assert(db:append {k = "a", n = 1}) end
      local _, why = db.user:get()
      assert.matches(message, tostring(why), 1, true)
      assert.not_matches("it uses", tostring(why), 1, true)
    end
  end)

  it("must be one that is folded", function ()
    write("raw", [[return {create = function () end}]])
    write("asked", [[return {version = 1, query = true}]])
    write("number", [[return 1]])
    write("empty", [[return {version = 1}]])
    write("made", [[return {version = 1, uses = {"number"}, indexer = "k"}]])
    write("broken", [[return {]])
    local ends = {
      raw = 'view "user": it uses "raw", which keeps itself %(create%)',
      asked = 'view "user": it uses "asked", which answers queries',
      number = 'view "user": it uses "number", which gives no view but a number',
      empty = 'view "empty": it has neither a reducer nor an aggregate nor an indexer',
      made = 'view "made": uses is for a reducer, or an indexer that is a function',
      broken = 'view "user": it uses "broken": .*broken.lua:1: unexpected symbol',
      q = 'view "user": it uses "q", which answers queries',
      table = 'view "user": it uses "table", which is a table with functions in the program',
      trusted = 'view "user": it uses "trusted", which is trusted: only a trusted view may use it',
    }
    local path = fixture.write(fixture.dir() .. "/trusted.lua", [[return {version = 1, indexer = "k"}]])
    for name, message in pairs(ends) do
      write("user", user({name}, "return 1"))
      if not db then
        open()
        db:use("q", "query")
        db:use("table", flume.reduce(1, function (n) return n end, 0))
        db:use("trusted", path, {trusted = true})
      end
      db:reload()
      local _, why = db.user:get()
      assert.matches(message, why)
    end
  end)

  it("may be in another folder, with modules of its own", function ()
    local other = fixture.dir()
    fixture.write(other .. "/lib/factor.lua", "return 10")
    fixture.write(folder .. "/lib/factor.lua", "return 1")
    local path = fixture.write(other .. "/tens.lua", [[local factor = require "lib.factor"
      return {version = 1, initial = 0, reducer = function (n, item) return n + item.n * factor end}]])
    write("user", user({"tens"}, "return uses.tens:get()"))
    open()
    db:use("tens", path)
    assert.equal(30, last_of {{n = 1}, {n = 2}})
  end)

  it("may be trusted, when its user is trusted too", function ()
    local path = fixture.write(fixture.dir() .. "/length.lua", [[return {version = 1, initial = 0,
      reducer = function (n, item) return n + #os.getenv "HOME" end}]])
    write("plain", [[return {version = 1, initial = true, reducer = function (ok) return ok and os == nil end}]])
    open()
    db:use("length", path, {trusted = true})
    db:use("user", fixture.write(folder .. "/later/user.lua",
      user({"length", "plain"}, "return {uses.length:get(), uses.plain:get(), type(os)}")), {trusted = true})
    assert.same({#os.getenv "HOME", true, "table"}, last_of {{n = 1}})
  end)

  it("is folded from what a codec or a mapper makes of records", function ()
    write("by_k", [[return {version = 1, indexer = "k"}]])
    write("made", [[return {version = 1, group = "k", aggregate = {total = {"sum", "n"}}}]])
    write("user", user({"by_k", "made"},
      "return {uses.by_k:count(), uses.made:get(item.k).total, all(uses.by_k:read {})}"))
    local double = fixture.write(folder .. "/lib/double.lua",
      [[return function (value) return {k = "m" .. value.k, n = value.n * 2} end]])
    for _, given in ipairs {
      {mapper = double}, {mapper = function (value) return {k = "m" .. value.k, n = value.n * 2} end}, {codec = "json"},
    } do
      dir = fixture.dir() .. "/db"
      open(given)
      local k, factor = given.mapper and "ma" or "a", given.mapper and 2 or 1
      assert.same({2, 4 * factor, {{k, "nil", 0}, {k, "nil", 1}}}, last_of {{k = "a", n = 1}, {k = "a", n = 3}})
      db:close()
    end
  end)

  it("may have more than fits into memory", function ()
    local count, text = os.getenv "FLUME_SANITIZER" and 20000 or 60000, ("x"):rep(200) -- 12 MB of text alone
    write("entries", [[return {version = 1, indexer = function (item, seq, emit) emit(seq % 1000, item.text) end}]])
    write("groups", [[return {version = 1, group = function (_, seq) return seq end, initial = "",
      reducer = function (_, item) return item.text end}]])
    write("made", [[return {version = 1, group = "n", aggregate = {last = {"max", "text"}}}]])
    local path = fixture.write(folder .. "/later/user.lua", [[return {version = 1, uses = {"entries", "groups", "made"},
      initial = 0, reducer = function (sum, item, seq, uses)
        if seq % 100 > 0 then return sum end
        local _, last = uses.entries:get(seq % 1000)
        return sum + last + #uses.groups:get(seq // 2) + #uses.made:get(item.n).last
      end}]])
    open()
    db:use("user", path, {memory = 4 << 20})
    local batch, wanted = {}, 0
    for seq = 0, count - 1 do
      batch[#batch + 1] = {n = seq, text = text}
      if seq % 100 == 0 then wanted = wanted + seq + 400 end
      if #batch == 1000 then
        assert(db:append(batch))
        batch = {}
      end
    end
    assert.equal(wanted, db.user:get())
  end)
end)
