-- The built-in view "index".

local differential = require "tests.support.differential"
local entries = require "tests.support.entries"
local flume = require "flume"
local fixture = require "tests.support.fixture"

local collect = entries.collect

local RECORDS = {
  {author = "bob", tags = {"x", "y"}, n = 1}, {author = "al", tags = "x", n = 2}, {n = 3},
  {author = "bob", tags = flume.array {}, n = 4}, {author = {a = 1}, tags = {{"z"}, {a = 1}, flume.null, 7}, n = 5},
}

local function index(params, records)
  local db = fixture.memory_db()
  db:use("by", "index", {params = params})
  db:append(flume.array(records or RECORDS))
  return db.by, db
end

-- The entries that there should be.
local function model(records, params)
  local list = {}
  for _, record in ipairs(records) do
    local value = params.value and (differential.at(record.value, params.value))
    local function add(key)
      list[#list + 1] = {key = key, value = value, seq = record.seq}
    end
    if params.each then
      differential.each_at(record.value, params.key, add)
    else
      local key = differential.at(record.value, params.key)
      if key ~= nil and (type(key) ~= "table" or flume.is_array(key) and pcall(entries.compare, key, key)) then
        local encodes = true
        local function look(part)
          if type(part) ~= "table" then return end
          encodes = encodes and flume.is_array(part)
          for _, element in ipairs(part) do look(element) end
        end
        look(key)
        if encodes then add(key) end
      end
    end
  end
  return entries.sort(list)
end

describe("the index view", function ()
  after_each(fixture.clean)

  it("has the records by the values at a path", function ()
    local by = index {key = "author"}
    assert.same({{"al", RECORDS[2], 1}, {"bob", RECORDS[1], 0}, {"bob", RECORDS[4], 3}}, collect(by:read()))
    assert.same({RECORDS[4], 3}, {by:get "bob"})
    assert.is_nil((by:get "nobody"))
    assert.equal(2, by:count {gte = "b"})
    assert.same({{"bob", 3}}, collect(by:read {reverse = true, limit = 1, values = false}))
    assert.same({{"al"}, {"bob"}, {"bob"}}, collect(by:read {values = false, seqs = false}))
  end)

  it("takes a list of paths for arrays, and prefixes of them", function ()
    local by = index {key = {"author", "n"}}
    assert.same({RECORDS[4], 3}, {by:get {"bob", 4}})
    assert.same({{{"bob", 1}, 0}, {{"bob", 4}, 3}}, collect(by:read {prefix = {"bob"}, values = false}))
  end)

  it("takes every value of an array", function ()
    local by = index {key = "tags", each = true}
    assert.same({{"x", 0}, {"x", 1}, {"y", 0}, {"z", 4}, {7, 4}}, collect(by:read {values = false}))
  end)

  it("gives the value at a path instead of the record", function ()
    local by = index {key = "author", value = "n"}
    assert.same({{"al", 2, 1}, {"bob", 1, 0}, {"bob", 4, 3}}, collect(by:read()))
    assert.same({4, 3}, {by:get "bob"})
  end)

  it("goes on live, with the old or without", function ()
    local by, db = index({key = "author"}, {{author = "bob", n = 1}})
    local all, new = by:read {live = true}, by:read {live = true, old = false, gte = "b", values = false}
    assert.same({"bob", {author = "bob", n = 1}, 0}, {all:next()})
    db:append {{author = "al"}, {author = "cy"}}
    assert.same({"al", {author = "al"}, 1}, {all:next()})
    assert.same({"cy", 2}, {new:next()})
  end)

  it("goes on behind a seq", function ()
    local by = index {key = "author"}
    assert.same({{"al", 1}, {"bob", 3}}, collect(by:read {after = 0, values = false}))
    assert.same({}, collect(by:read {after = 3}))
  end)

  it("refuses unknown parameters", function ()
    local db = fixture.memory_db()
    local cases = {
      {nil, "parameter key is missing: a path or a list of paths"}, {{}, "parameter key is missing"},
      {{key = 1}, "parameter key must be a path or a list of paths"}, {{key = {}}, "parameter key must be"},
      {{key = "a", each = 1}, "parameter each must be true or false"},
      {{key = "a", keys = "b"}, "unknown parameter keys; there are each, key, value"},
      {{key = {"a", "b"}, each = true}, "each is for a single path"}, {{key = "a..b"}, "not a..b"},
    }
    for _, case in ipairs(cases) do
      local ok, message = pcall(db.use, db, "by", "index", {params = case[1]})
      assert.is_false(ok)
      assert.truthy(message:find(case[2], 1, true), message)
    end
  end)

  it("is rebuilt when a parameter changes", function ()
    local dir = fixture.dir()
    local db = fixture.open_db(dir)
    db:use("by", "index", {params = {key = "author"}})
    db:append(flume.array(RECORDS))
    assert.equal(3, db.by:count())
    db:close()
    db = fixture.open_db(dir)
    db:use("by", "index", {params = {key = "author"}})
    assert.equal(3, db.by:count())
    assert.is_nil(db:status().views.by.reason)
    db:close()
    db = fixture.open_db(dir)
    db:use("by", "index", {params = {key = "n"}})
    assert.equal(5, db.by:count())
    assert.equal("the source has changed", db:status().views.by.reason)
  end)

  it("can be named as a module too, and a view of the folder goes before it", function ()
    local folder = fixture.dir()
    fixture.write(folder .. "/index.lua", "return {version = 1, initial = 7, reducer = function (n) return n end}")
    local db = fixture.keep(assert(flume.new(flume.log.memory(), {views = folder})))
    assert.equal(7, db.index:get())
    db:use("by", "flume.views.index", {params = {key = "a"}})
    db:append {a = 1}
    assert.equal(1, db.by:count())
  end)

  it("can be extended by a script", function ()
    local function source(key)
      return ([[
        local view = require("flume").view("index", {key = "%s", each = true})
        view.methods = {newest = "record"}
        function view.newest(self) return select(3, self:range {reverse = true} ()) end
        return view]]):format(key)
    end
    local dir, folder = fixture.dir(), fixture.dir()
    fixture.write(folder .. "/by.lua", source "tags")
    local db = fixture.open_db(dir, {views = folder})
    db:append(flume.array(RECORDS))
    assert.equal(5, db.by:count())
    assert.same({RECORDS[5], 4}, {db.by:newest()})
    db:close()
    fixture.write(folder .. "/by.lua", source "author")
    db = fixture.open_db(dir, {views = folder})
    assert.equal(3, db.by:count())
    assert.same({RECORDS[4], 3}, {db.by:newest()})
    db:use("trusted", folder .. "/by.lua", {trusted = true})
    assert.equal(3, db.trusted:count())
    for _, name in ipairs {"nothing", "../index", "lib.each"} do
      local path = fixture.write(fixture.dir() .. "/v.lua", ("return require('flume').view(%q, {})"):format(name))
      assert.error_matches(function () db:use("v", path) end, "there is no built%-in view")
    end
  end)

  for how, params in pairs {
    ["a path"] = {key = "author"}, ["a path inside"] = {key = "a.b"}, ["an array"] = {key = "tags"},
    ["each of an array"] = {key = "tags", each = true}, ["each on the way"] = {key = "a.b", each = true},
    ["a value"] = {key = "author", value = "n"},
  } do
    it("equals a fold of all records: " .. how, function ()
      differential.run {view = "index", params = params, check = function (view, records, db)
        local expected = model(records, params)
        local function record(seq) return (db:get(seq)) end
        assert.same(entries.read(expected, {}, record), collect(view:read()))
        local options = entries.random_options(math.random, {"ada", "b", "", 1, 2, -3, true, flume.null})
        assert.same(entries.read(expected, options, record), collect(view:read(options)))
        assert.equal(entries.count(expected, {gte = "b"}), view:count {gte = "b"})
      end}
    end)
  end
end)
