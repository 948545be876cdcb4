-- count of the views that have one: the options that change the number, and those that it does not take.

local fixture = require "tests.support.fixture"

local VIEWS = {
  i = {"index", {key = "k"}}, g = {"aggregate", {group = "k", fields = {n = "count"}}}, kv = {"keyvalue", {key = "k"}},
  l = {"links", {source = "k", target = "t", relation = "r"}},
}

local function database()
  local db = fixture.memory_db()
  for name, view in pairs(VIEWS) do db:use(name, view[1], {params = view[2]}) end
  db:use("s", "search", {params = {fields = "t"}})
  db:use("own", {group = "k", reducer = function (n) return n + 1 end, initial = 0})
  for i = 1, 10 do db:append {k = i, t = "x", r = "r"} end
  return db
end

describe("count", function ()
  after_each(fixture.clean)

  it("counts no more than its limit", function ()
    local db = database()
    for _, name in ipairs {"i", "g", "kv", "l", "own"} do
      assert.equal(3, db[name]:count {limit = 3}, name)
      assert.equal(0, db[name]:count {limit = 0}, name)
      assert.equal(10, db[name]:count {limit = -1}, name)
      assert.equal(10, db[name]:count {limit = 11, reverse = true}, name)
      assert.equal(10, db[name]:count(), name)
    end
    assert.equal(2, db.i:count {gt = 3, limit = 2})
    assert.equal(3, db.s:count("x", {limit = 3}))
    assert.equal(10, db.s:count "x")
  end)

  it("refuses options that it would have to ignore", function ()
    local db = database()
    for _, name in ipairs {"i", "g", "kv", "l", "own"} do
      for option, value in pairs {live = true, old = false, after = 3, foo = 1, limit = "3"} do
        local count, message, code = db[name]:count {[option] = value}
        assert.is_nil(count, name)
        assert.matches(option, message)
        assert.equal("EVIEW", code)
      end
    end
    assert.is_nil((db.s:count("x", {foo = 1})))
  end)
end)
