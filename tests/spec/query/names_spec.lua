-- Words, keys, groups and fields are any text: also names that Lua, its metatables or flume's own tables use.

local fixture = require "tests.support.fixture"
local flume = require "flume"

local NAMES = {
  "order", "__index", "__newindex", "__gc", "__pairs", "__name", "__metatable", "n", "get", "since", "name", "entry",
  "places", "length", "value", "key", "seq", "nil", "null", "undefined", "0", "1", "-1", "true", "", ".", "a.b", "..",
  "%", "$eq", "pairs", "self", "_engine", "\0", "é", "a\nb", "then",
}

local function sorted(list)
  table.sort(list, function (a, b) return tostring(a) < tostring(b) end)
  return list
end

local function collect(...)
  local list = {}
  for value in ... do list[#list + 1] = value end
  return list
end

local function with_db(body)
  local dir = fixture.dir()
  local db = assert(flume.open(dir))
  body(db)
  assert(db:close())
end

after_each(fixture.clean)

describe("any text as a value", function ()
  local function append(db)
    for _, name in ipairs(NAMES) do assert(db:append {text = name, n = 1, list = {name, "x"}}) end
  end

  it("is a group of an aggregate", function ()
    with_db(function (db)
      db:use("v", "aggregate", {params = {group = "text", fields = {n = "count"}}})
      append(db)
      assert.same(sorted {table.unpack(NAMES)}, sorted(collect(db.v:read {})))
      for _, name in ipairs(NAMES) do assert.equal(1, db.v:get(name).n, name) end
    end)
  end)

  it("is a key of an index, of keyvalue and of links", function ()
    with_db(function (db)
      db:use("i", "index", {params = {key = "text"}})
      db:use("k", "keyvalue", {params = {key = "text"}})
      db:use("l", "links", {params = {source = "text", target = "list", relation = "text"}})
      append(db)
      assert.same(sorted {table.unpack(NAMES)}, sorted(collect(db.i:read {})))
      for _, name in ipairs(NAMES) do
        assert.equal(name, db.k:get(name).text, name)
        assert.equal(1, db.i:count {gte = name, lte = name}, name)
        assert.is_true(db.l:has(name, name, name), name)
        assert.is_true(db.l:has(name, name, "x"), name)
      end
    end)
  end)

  it("is in a bloom filter", function ()
    with_db(function (db)
      db:use("b", "bloom", {params = {key = "text"}})
      append(db)
      for _, name in ipairs(NAMES) do assert.is_true(db.b:has(name), name) end
    end)
  end)

  it("is equal, in order, and a group in a query", function ()
    with_db(function (db)
      db:use("q", "query")
      append(db)
      for _, name in ipairs(NAMES) do
        assert.equal(1, #db.q:where(flume.query.eq("text", name)):all(), name)
        assert.equal(1, db.q:where(flume.query.has("list", name)):count(), name)
      end
      local groups = db.q:all {{["$reduce"] = {text = "text", count = {["$count"] = true}}}}
      assert.equal(#NAMES, #groups)
      local named = db.q:all {{["$reduce"] = {["$group"] = "text", ["$count"] = true}}}[1]
      for _, name in ipairs(NAMES) do assert.equal(1, named[name], name) end
    end)
  end)
end)

describe("any text as a field", function ()
  it("is found by a query, with and without an index", function ()
    with_db(function (db)
      db:use("q", "query")
      for i, name in ipairs(NAMES) do assert(db:append {[name] = i, [("x"):rep(i)] = true}) end
      for i, name in ipairs(NAMES) do
        local path = {name}
        assert.equal(1, db.q:where(flume.query.eq(path, i)):count(), name)
        assert.equal(1, #db.q:where(flume.query.gt(path, 0)):by(path):all(), name)
        assert.equal(1, #db.q:all {{["$map"] = {["$get"] = path}}}, name)
        local made = db.q:all {{["$filter"] = flume.map {[name] = i}}}
        if name:sub(1, 1) ~= "$" then assert.equal(i, made[1][name], name) end
      end
      for i, name in ipairs(NAMES) do
        if name:sub(1, 1) ~= "$" then
          local made = db.q:all {{["$reduce"] = {[name] = {["$max"] = {["$get"] = {name}}}}}}[1]
          assert.equal(i, made[name], name)
          made = db.q:all {{["$map"] = {[name] = {["$get"] = {name}}}}, {["$filter"] = {[name] = i}}}
          assert.equal(i, made[1][name], name)
        end
      end
    end)
  end)

  it("is no field of a record that has none", function ()
    with_db(function (db)
      db:use("q", "query")
      assert(db:append {{a = {1, 2}}, {b = {c = 1}}, "text", 7, true, flume.null})
      for _, name in ipairs(NAMES) do
        local has_length = name == "length" and 1 or 0 -- the text
        local is_character = (name == "0" or name == "1") and 1 or 0
        assert.equal(has_length + is_character, db.q:where(flume.query.exists {name}):count(), name)
        if name ~= "length" and name ~= "0" and name ~= "1" then
          assert.equal(0, db.q:where(flume.query.exists {"a", name}):count(), name)
        end
        local function is_function(value) return type(value) == "function" end
        assert.equal(0, db.q:where(flume.query.test({name}, is_function)):count(), name)
      end
    end)
  end)

  it("is at the path of a built-in view", function ()
    for _, name in ipairs(NAMES) do
      if name ~= "" and not name:find "^%.*$" then
        local db = fixture.memory_db()
        local value = {[name] = "word"}
        if name == "a.b" then value = {a = {b = "word"}} end
        db:use("i", "index", {params = {key = name}})
        db:use("s", "search", {params = {fields = name}})
        db:use("g", "aggregate", {params = {group = name, fields = {[name] = "count"}}})
        db:append {value, {other = 1}}
        assert.equal(1, db.i:count {}, name)
        assert.equal(1, db.s:count "word", name)
        assert.equal(1, db.g:get("word")[name], name)
        db:close()
      end
    end
  end)
end)

-- A name that a view may not have is refused with an error.
describe("any text as the name of a view", function ()
  it("is a view, or an error that says why", function ()
    local dir = fixture.dir()
    local db = assert(flume.open(dir))
    local mounted = {}
    for _, name in ipairs(NAMES) do
      local ok, message = pcall(db.use, db, name, flume.reduce(1, function (n) return n + 1 end, 0))
      if ok then mounted[#mounted + 1] = name else assert.matches("use: .*name", tostring(message)) end
    end
    assert(db:append {n = 1})
    for _, name in ipairs(mounted) do assert.equal(1, db[name]:get(), name) end
    assert.truthy(#mounted > 5)
    for _, name in ipairs(mounted) do assert.equal("live", db:status().views[name].state, name) end
    assert(db:close())
  end)
end)

describe("any word", function ()
  it("is found by search", function ()
    with_db(function (db)
      db:use("s", "search", {params = {fields = "text"}})
      for _, name in ipairs(NAMES) do assert(db:append {text = "the " .. name .. " word"}) end
      assert.equal(#NAMES, db.s:count "word")
      for _, name in ipairs {"order", "n", "get", "since", "nil", "places", "then", "true"} do
        assert.equal(1, db.s:count(name), name)
      end
    end)
  end)
end)

describe("the state of a reducer", function ()
  it("has any text for keys", function ()
    with_db(function (db)
      db:use("r", flume.reduce(1, function (state, item)
        state[item.text] = (state[item.text] or 0) + 1
        return state
      end, {}))
      for _, name in ipairs(NAMES) do assert(db:append {text = name}) end
      local state = db.r:get()
      for _, name in ipairs(NAMES) do assert.equal(1, state[name], name) end
    end)
  end)
end)
