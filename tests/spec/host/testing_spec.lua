-- flume.testing: views folded over events in tests.

local flume = require "flume"
local testing = require "flume.testing"
local fixture = require "tests.support.fixture"

local SUM = {version = 1, initial = 0, reducer = function (sum, item) return sum + item.n end}

describe("fold", function ()
  after_each(fixture.clean)

  it("gives the state of a reducer", function ()
    assert.equal(6, testing.fold(SUM, {{n = 1}, {n = 2}, {n = 3}}))
    assert.equal(0, testing.fold(SUM, {}))
  end)

  it("gives the states of groups", function ()
    local counts = {version = 1, group = "type", initial = 0, reducer = function (count) return count + 1 end}
    assert.same({post = 2, vote = 1}, testing.fold(counts, {{type = "post"}, {type = "vote"}, {type = "post"}, {}}))
    counts.group = function (item) return flume.array {item.a, item.b} end
    assert.same({["[1,2]"] = 2, ["[1,3]"] = 1}, testing.fold(counts, {{a = 1, b = 2}, {a = 1, b = 3}, {a = 1, b = 2}}))
  end)

  it("gives the entries of an index", function ()
    local tags = {version = 1, indexer = function (item, _, emit)
      for _, tag in ipairs(item.tags or {}) do emit(tag, item.n) end
    end}
    assert.same({
      {key = "a", value = 10, seq = 0}, {key = "a", value = 20, seq = 2}, {key = "b", value = 10, seq = 0},
    }, testing.fold(tags, {{tags = {"b", "a"}, n = 10}, {}, {tags = {"a"}, n = 20}}))
    assert.same({{key = "ada", value = {author = "ada"}, seq = 1}, {key = "bob", value = {author = "bob"}, seq = 0}},
      testing.fold({version = 1, indexer = "author"}, {{author = "bob"}, {author = "ada"}, {}}))
  end)

  it("takes the path of a script, in its sandbox", function ()
    local path = fixture.write(fixture.dir() .. "/clock.lua",
      "return {version = 1, initial = 0, reducer = function () return os == nil and 1 or 2 end}")
    assert.equal(1, testing.fold(path, {"event"}))
  end)

  it("takes more events than one batch", function ()
    local events = {}
    for i = 1, 2500 do events[i] = {n = i} end
    assert.equal(2500 * 2501 / 2, testing.fold(SUM, events))
  end)

  it("raises what the view raises, and what is wrong with the events", function ()
    local poison = {version = 1, initial = 0, reducer = function (_, item)
      if item.n == 2 then error "poison" end
      return 0
    end}
    assert.has_error(function () testing.fold(poison, {{n = 1}, {n = 2}}) end)
    local ok, message = pcall(testing.fold, poison, {{n = 1}, {n = 2}})
    assert.is_false(ok)
    assert.is_not_nil(message:find "failed at record 1: .*poison", message)
    assert.is_not_nil(select(2, pcall(testing.fold, SUM, {n = 1})):find "events must be a list")
    assert.is_not_nil(select(2, pcall(testing.fold, SUM, {print})):find "event 1 .*function")
    assert.is_not_nil(select(2, pcall(testing.fold, {}, {})):find "neither a reducer nor")
  end)

  it("lets methods be asked, and more be appended", function ()
    local result = testing.with(SUM, {{n = 1}}, function (sum, db)
      assert.equal(1, sum:get())
      db:append{n = 41}
      return sum:get()
    end)
    assert.equal(42, result)
  end)
end)

describe("difference", function ()
  it("is nil for the same contents", function ()
    assert.is_nil(testing.difference(flume.null, flume.null))
    for _, value in ipairs {1, "x", true, {}, {1, {a = {2, flume.null}}}} do
      assert.is_nil(testing.difference(value, value))
      assert.is_nil(testing.difference(value, flume.decode(flume.encode(value))))
    end
    assert.is_nil(testing.difference(1, 1.0))
  end)

  it("says where it is", function ()
    assert.equal("value: expected 1, got 2", testing.difference(1, 2))
    assert.equal('state.a[2]["b c"]: expected {1}, got nil',
      testing.difference({a = {0, {["b c"] = {1}}}}, {a = {0, {}}}, "state"))
    assert.equal("value.more: expected nil, got true", testing.difference({}, {more = true}))
    assert.equal('value: expected {}, got "text"', testing.difference({}, "text"))
    assert.equal("value: expected flume.null, got nil", testing.difference(flume.null, nil))
  end)
end)

describe("run", function ()
  local view = {
    version = 1, initial = 0, reducer = function (sum, item) return sum + item.n end,
    methods = {twice = "async", list = "source", fail = "async"},
    twice = function (self, more) return self:get() * 2 + (more or 0) end,
    list = function (self) return {self:get(), "x"} end,
    fail = function () error "no luck" end,
  }

  local function message_of(case)
    local result = testing.run{view = view, case}[1]
    assert.equal(result.message == nil, result.ok)
    return result.message
  end

  it("passes what is as expected", function ()
    local events = {{n = 1}, {n = 2}}
    for _, case in ipairs {
      {events = events, expect = 3}, {events = events, calls = {{"twice", expect = 6}, {"twice", 1, expect = 7}}},
      {events = events, calls = {{"list", expect = {3, "x"}}, {"get", expect = 3}}}, {expect = 0},
      {events = {{}}, fails = "arithmetic"}, {events = events, calls = {{"fail"}}, fails = "no luck"},
    } do
      assert.is_nil(message_of(case))
    end
  end)

  it("tells what is not", function ()
    local events = {{n = 1}}
    for _, case in ipairs {
      {{events = events, expect = 2}, "state: expected 2, got 1"},
      {{events = events, calls = {{"twice", expect = 1}}}, "twice: expected 1, got 2"},
      {{events = events, calls = {{"oops"}}}, 'the view has no method "oops"'},
      {{events = events, calls = {{"fail"}}}, "fail: .*no luck"},
      {{events = events, fails = "x"}, 'it was to fail with "x", and did not'},
      {{events = {{}}, fails = "x y"}, 'it was to fail with "x y", not: .*arithmetic'},
      {{events = {{}}, expect = 1}, "failed at record 0"},
      {{events = events}, "case 1 expects nothing"},
      {{events = events, expects = 1}, 'case 1 has an unknown field "expects"'},
      {{events = "x", expect = 1}, "case 1: events must be a table"},
    } do
      local message = message_of(case[1])
      assert.is_not_nil(message and message:find(case[2]), message)
    end
  end)

  it("names the cases", function ()
    local results = testing.run{view = view, {name = "one", expect = 0}, {expect = 1}, 5}
    assert.same({"one", "case 2", "case 3"}, {results[1].name, results[2].name, results[3].name})
    assert.same({true, false, false}, {results[1].ok, results[2].ok, results[3].ok})
  end)
end)
