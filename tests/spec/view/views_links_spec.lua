-- The built-in view "links".

local differential = require "tests.support.differential"
local entries = require "tests.support.entries"
local flume = require "flume"
local fixture = require "tests.support.fixture"

local collect = entries.collect

local RECORDS = {
  {by = "ada", about = "x", mentions = {{link = "bob"}, {link = "cy"}, {link = "bob"}, {other = 1}}},
  {by = "bob", mentions = {link = "ada"}}, {mentions = {{link = "ada"}}}, {by = "ada", about = {"x", "y"}},
}

local WAYS = {source = "by", targets = {mentions = "mentions.link", about = "about"}}

local function links(params, records)
  local db = fixture.memory_db()
  db:use("links", "links", {params = params})
  db:append(flume.array(records or RECORDS))
  return db.links, db
end

-- {source, relation, target, seq} of each that is read.
local function read(view, options)
  local list = {}
  for link, _, seq in view:read(options) do list[#list + 1] = {link.source, link.relation, link.target, seq} end
  return list
end

-- 1 and 1.0 are the same key.
local function text(value)
  return tostring(type(value) == "number" and math.tointeger(value) or value)
end

local function id_of(link)
  return table.concat({text(link[1]), link[2], text(link[3]), link[4]}, "|")
end

-- Every link of the records, by hand.
local function model(records)
  local list = {}
  for _, record in ipairs(records) do
    local seen = {}
    differential.each_at(record.value, "author", function (source)
      for _, way in ipairs {{"tags", "tags"}, {"to", "to"}, {"deep", "a.b"}} do
        differential.each_at(record.value, way[2], function (target)
          local link = {source, way[1], target, record.seq}
          local id = id_of(link)
          if not seen[id] then list[#list + 1] = link end
          seen[id] = true
        end)
      end
    end)
  end
  return list
end

local function filtered(list, asked)
  local found = {}
  for _, link in ipairs(list) do
    if (asked.source == nil or asked.source == link[1]) and (asked.relation == nil or asked.relation == link[2])
      and (asked.target == nil or asked.target == link[3]) then
      found[#found + 1] = link
    end
  end
  return found
end

local function as_set(list)
  local set = {}
  for _, link in ipairs(list) do
    set[id_of(link)] = true
  end
  return set
end

describe("the links view", function ()
  after_each(fixture.clean)

  it("can be followed both ways", function ()
    local view = links(WAYS)
    assert.same({{"ada", "mentions", "bob", 0}, {"ada", "mentions", "cy", 0}},
      read(view, {source = "ada", relation = "mentions"}))
    assert.same({{"bob", "mentions", "ada", 1}}, read(view, {target = "ada"}))
    assert.same({{"ada", "about", "x", 0}, {"ada", "about", "x", 3}, {"ada", "about", "y", 3}},
      read(view, {relation = "about"}))
    assert.same({{"ada", "about", "x", 0}, {"ada", "about", "x", 3}}, read(view, {source = "ada", target = "x"}))
    assert.same({{"ada", "about", "y", 3}, {"ada", "about", "x", 3}}, read(view, {relation = "about", reverse = true,
      limit = 2}))
    assert.equal(6, #read(view))
  end)

  it("gives the records of the links", function ()
    local view = links(WAYS)
    assert.same({{{source = "bob", relation = "mentions", target = "ada"}, RECORDS[2], 1}},
      collect(view:read {target = "ada"}))
    assert.same({{RECORDS[2]}}, collect(view:read {target = "ada", keys = false, seqs = false}))
  end)

  it("has targets and sources, each once", function ()
    local view = links(WAYS)
    assert.same({{"x"}, {"y"}, {"bob"}, {"cy"}}, collect(view:targets "ada"))
    assert.same({{"bob"}, {"cy"}}, collect(view:targets("ada", "mentions")))
    assert.same({{"ada"}}, collect(view:sources("x", "about", {wait = false})))
    assert.same({}, collect(view:sources "nobody"))
    assert.same({true, false}, {view:has("ada", "about", "y"), view:has("ada", "mentions", "y")})
    assert.same({5, 2, 3, 1, 6}, {
      view:count {source = "ada"}, view:count {source = "ada", target = "x"}, view:count {relation = "about"},
      view:count {source = "ada", relation = "mentions", target = "cy"}, view:count(),
    })
  end)

  it("has no link for a missing field", function ()
    local view = links(WAYS)
    assert.same({false, false, false, false}, {
      view:has(), view:has "ada", view:has("ada", "mentions"), view:has("ada", nil, "bob"),
    })
    assert.same({}, collect(view:targets(nil)))
    assert.same({}, collect(view:sources(nil, "about")))
    assert.equal(6, #read(view, {limit = -1}))
  end)

  it("takes the relation from the record", function ()
    local view = links({source = "from", relation = "type", target = "to"}, {
      {from = "a", type = "follow", to = "b"}, {from = "a", type = "block", to = {"b", "c"}}, {from = "a", to = "b"},
    })
    assert.same({{"a", "block", "b", 1}, {"a", "follow", "b", 0}}, read(view, {target = "b"}))
    assert.same({{"a", "block", "b", 1}, {"a", "block", "c", 1}}, read(view, {relation = "block"}))
  end)

  it("loses the links of a deleted record", function ()
    local view, db = links(WAYS)
    db:del(0)
    assert.same({{"ada", "about", "x", 3}, {"ada", "about", "y", 3}}, read(view, {source = "ada"}))
    assert.is_false(view:has("ada", "mentions", "bob"))
  end)

  it("goes on live", function ()
    local view, db = links(WAYS)
    local source = view:read {target = "ada", live = true, values = false}
    assert.same({{source = "bob", relation = "mentions", target = "ada"}, 1}, {source:next()})
    for i = 1, 10 do
      db:append {{by = "z"}, {by = "cy", about = "ada", mentions = {{link = "bob"}}}}
      assert.same({{source = "cy", relation = "about", target = "ada"}, 3 + 2 * i}, {source:next()})
    end
  end)

  it("refuses unknown parameters and options", function ()
    local db = fixture.memory_db()
    for _, params in ipairs {
      {source = "a"}, {source = "a", target = "b"}, {source = "a", targets = {b = "c"}, target = "d", relation = "e"},
      {source = "a", targets = {"b", 1}}, {targets = {b = "c"}}, {source = "a..b", targets = {b = "c"}},
      {source = "a", targets = {b = "c."}},
    } do
      assert.error_matches(function () db:use("links", "links", {params = params}) end, "links: parameter")
    end
    local _, message = links(WAYS):read {dest = "ada"}:next()
    assert.truthy(message:find("unknown option dest", 1, true), message)
  end)

  it("equals a fold of all records", function ()
    differential.run {
      view = "links", params = {source = "author", targets = {tags = "tags", to = "to", deep = "a.b"}},
      check = function (view, records)
        local all = model(records)
        for _, asked in ipairs {
          {}, {source = "ada"}, {target = "bob"}, {relation = "deep"}, {source = "ada", relation = "tags"},
          {target = 1, relation = "to"}, {source = "bob", target = "ada"}, {source = 1, relation = "to", target = "ab"},
        } do
          local expected = filtered(all, asked)
          local got = read(view, asked)
          assert.same(as_set(expected), as_set(got))
          assert.equal(#expected, #got)
          assert.equal(#expected, view:count(asked))
        end
      end,
    }
  end)
end)
