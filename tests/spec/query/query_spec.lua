-- The query view's language: $filter, $map, $reduce, $sort, limit, reverse, live, as a list of stages.

local flume = require "flume"
local fixture = require "tests.support.fixture"

local json = flume.json

local function decode(text)
  return assert(json.decode(text))
end

-- A database with these records (JSON), and a query view.
local function database(...)
  local db = fixture.memory_db()
  for _, text in ipairs {...} do assert(db:append {text == "null" and flume.null or decode(text)}) end
  return db:use("q", "query")
end

local function all(db, text, options)
  return assert(db.q:all(decode(text), options))
end

-- That the records for which a filter holds are those with these seqs.
local function finds(db, filter, seqs)
  local got = {}
  for _, seq in db.q:query {flume.map {["$filter"] = decode(filter)}} do got[#got + 1] = seq end
  assert.same(seqs, got, filter)
end

-- That a query gives what this JSON says.
local function gives(expected, db, text, options)
  local wanted, got = decode(expected), {}
  for value in db.q:query(decode(text), options) do got[#got + 1] = value end
  assert.same(wanted, got, text)
end

local function fails_with(message, db, query, options)
  local ok, why = pcall(function () return db.q:query(type(query) == "string" and decode(query) or query, options) end)
  assert.is_false(ok)
  assert.truthy(tostring(why):find(message, 1, true), tostring(why))
end

describe("$filter", function ()
  after_each(fixture.clean)

  it("matches what is equal: numbers by worth, strings by bytes, and not null for nothing", function ()
    local db = database('{"a":1}', '{"a":1.0}', '{"a":"1"}', '{"a":null}', '{"b":1}', '{"a":true}')
    finds(db, '{"a":1}', {0, 1})
    finds(db, '{"a":"1"}', {2})
    finds(db, '{"a":null}', {3})
    finds(db, '{"a":true}', {5})
    finds(db, '{"a":{"$eq":1}}', {0, 1})
    finds(db, '{"a":{"$ne":1}}', {2, 3, 4, 5})
  end)

  it("matches a whole record that is a plain value", function ()
    local db = database('"okay"', '"oh no"', "7", "{}")
    finds(db, '"okay"', {0})
    finds(db, '{"$prefix":"o"}', {0, 1})
    finds(db, '{"$is":"string"}', {0, 1})
    finds(db, '{"$gt":6}', {2})
    finds(db, "{}", {0, 1, 2, 3})
  end)

  it("compares values of one kind only", function ()
    local db = database('{"a":1}', '{"a":2}', '{"a":2.5}', '{"a":"2"}', '{"a":"b"}', '{"a":null}', "{}", '{"a":[1]}')
    finds(db, '{"a":{"$gt":1}}', {1, 2})
    finds(db, '{"a":{"$gte":1,"$lt":2.5}}', {0, 1})
    finds(db, '{"a":{"$lte":2}}', {0, 1})
    finds(db, '{"a":{"$gt":"2"}}', {4})
    finds(db, '{"a":{"$gte":[0]}}', {7})
  end)

  it("takes prefixes of strings and of arrays", function ()
    local db = database('{"r":["name","@bob"]}', '{"r":["name","%x"]}', '{"r":["contact",true,false]}', '{"r":"name"}')
    finds(db, '{"r":{"$prefix":["name"]}}', {0, 1})
    finds(db, '{"r":{"$prefix":["contact",true]}}', {2})
    finds(db, '{"r":{"$prefix":["name","@bob"]}}', {0})
    finds(db, '{"r":{"$prefix":"na"}}', {3})
  end)

  it("reaches into objects and arrays, by position", function ()
    local db = database('{"r":["name","@bob"],"v":{"c":{"type":"post"}}}', '{"r":["name","%x"]}', '{"v":{"c":3}}')
    finds(db, '{"r":["name",{"$prefix":"@"}]}', {0})
    finds(db, '{"r":["name"]}', {0, 1})
    finds(db, '{"r":[{"$in":["name","age"]}]}', {0, 1})
    finds(db, '{"v":{"c":{"type":"post"}}}', {0})
    finds(db, '{"v":{"c":{"type":{"$ne":"post"}}}}', {2})
    finds(db, '{"v":{}}', {0, 2})
    finds(db, '{"r":{"length":2}}', {0, 1})
  end)

  it("has $in, $is, $type, $truthy, $not, $int and $mod", function ()
    local db = database('{"a":0}', '{"a":""}', '{"a":"x"}', '{"a":[]}', '{"a":null}', "{}", '{"a":4}', '{"a":4.5}')
    finds(db, '{"a":{"$in":[0,"x",null]}}', {0, 2, 4})
    finds(db, '{"a":{"$is":"object"}}', {3, 4})
    finds(db, '{"a":{"$is":"array"}}', {3})
    finds(db, '{"a":{"$is":"null"}}', {4})
    finds(db, '{"a":{"$is":"undefined"}}', {5})
    finds(db, '{"a":{"$is":"number"}}', {0, 6, 7})
    finds(db, '{"a":{"$type":true}}', {0, 1, 2, 3, 4, 5, 6, 7})
    finds(db, '{"a":{"$type":"string"}}', {1, 2})
    finds(db, '{"a":{"$truthy":true}}', {2, 3, 6, 7})
    finds(db, '{"a":{"$not":true}}', {0, 1, 4, 5})
    finds(db, '{"a":{"$int":true}}', {0, 6})
    finds(db, '{"a":{"$mod":3}}', {6, 7})
  end)

  it("has $not of a filter, $and, $or and $get", function ()
    local db = database('{"a":1}', '{"a":2}', '{"a":{"b":1}}', "{}")
    finds(db, '{"a":{"$not":{"$gt":1}}}', {0, 2, 3})
    finds(db, '{"a":{"$not":{"$ne":1}}}', {0})
    finds(db, '{"a":{"$not":{"$not":true}}}', {0, 1, 2})
    finds(db, '{"$not":{"$not":{"a":2}}}', {1})
    finds(db, '{"$not":{"$not":{"$not":{"a":2}}}}', {0, 2, 3})
    finds(db, '{"$or":[{"a":1},{"a":2}]}', {0, 1})
    finds(db, '{"$and":[{"a":{"$gt":0}},{"a":{"$lt":2}}]}', {0})
    finds(db, '{"$get":["a","b"]}', {2})
  end)

  it("is told where it is wrong", function ()
    local db = database("{}")
    fails_with("$filter.a.b.$foo: there is no such operator; there are $and, $eq", db,
      '[{"$filter":{"a":{"b":{"$foo":1}}}}]')
    fails_with("$filter.a.$gt: a number, a string, a boolean or an array expected, not an object", db,
      '[{"$filter":{"a":{"$gt":{"x":1}}}}]')
    fails_with("$filter.a.$in: an array expected, not 5", db, '[{"$filter":{"a":{"$in":5}}}]')
    fails_with("$filter.a.$prefix: a string or an array expected, not 5", db, '[{"$filter":{"a":{"$prefix":5}}}]')
    fails_with('$filter.a.$is: there is no type "thing"', db, '[{"$filter":{"a":{"$is":"thing"}}}]')
    fails_with("$filter.r[1].$foo: there is no such operator", db, '[{"$filter":{"r":["x",{"$foo":1}]}}]')
    fails_with("$filter.a: $gt stands beside the field b", db, '[{"$filter":{"a":{"$gt":1,"b":2}}}]')
    fails_with("stage 2: there is no $flter; there are $filter, $map, $reduce, $sort, limit", db, '[{},{"$flter":{}}]')
    fails_with("stage 1: it has both", db, '[{"$filter":{},"$map":true}]')
    fails_with("stage 1: an object such as", db, "[5]")
    fails_with("a query is an array of stages, not 5", db, "5")
    fails_with("there is no option limmit", db, "[]", {limmit = 1})
    fails_with("option limit: a value of type integer expected", db, "[]", {limit = "1"})
  end)
end)

describe("$map", function ()
  after_each(fixture.clean)

  it("takes a key, a path, an object and true", function ()
    local db = database('{"a":{"b":{"c":1}},"n":"x","l":[1,2,3]}')
    gives('["x"]', db, '[{"$map":"n"}]')
    gives('[{"b":{"c":1}}]', db, '[{"$map":"a"}]')
    gives("[1]", db, '[{"$map":["a","b","c"]}]')
    gives('[{"a":{"b":{"c":1}},"n":"x","l":[1,2,3]}]', db, '[{"$map":true}]')
    gives('[{"name":"x","c":1,"l":[1,2,3]}]', db, '[{"$map":{"name":"n","c":["a","b","c"],"l":true}}]')
    gives('[{"x":{"y":"x"}}]', db, '[{"$map":{"x":{"y":"n"}}}]')
    gives('[{"last":3,"first":1,"count":3}]', db, '[{"$map":{"last":["l",-1],"first":["l",0],"count":["l","length"]}}]')
    gives('[{"b":{"c":1}}]', db, '[{"$map":["a",true]}]')
  end)

  it("leaves out what is not there, but not what is false or 0", function ()
    local db = database('{"a":0}', '{"a":false}', "{}", "null", '{"a":null}', '{"a":""}')
    local got = {}
    for value, seq in db.q:query {{["$map"] = "a"}} do got[#got + 1] = {value, seq} end
    assert.same({{0, 0}, {false, 1}, {flume.null, 4}, {"", 5}}, got)
    gives('[{"x":0},{"x":false},{},{"x":null},{"x":""}]', db, '[{"$map":{"x":"a"}}]')
  end)

  it("gives what operators find", function ()
    local db = database('{"foo":-1,"bar":7}')
    gives('[{"low":true,"high":false,"type":"number","rest":1,"none":"undefined"}]', db, [=[[{"$map":{
      "low":["foo",{"$lt":0}], "high":["bar",{"$gt":10}], "type":["bar",{"$type":true}], "rest":["bar",{"$mod":3}],
      "none":["nothing",{"$type":true}] }}]]=])
    gives("[true]", db, '[{"$map":["bar",{"$gt":1,"$lt":9}]}]')
    gives("[7]", db, '[{"$map":{"$get":"bar"}}]')
    gives("[true]", db, '[{"$map":{"$filter":{"bar":7}}}]')
  end)

  it("is told where it is wrong", function ()
    local db = database("{}")
    fails_with("$map.a.b: a key, a path, true or an object expected, not 1.5", db, '[{"$map":{"a":{"b":1.5}}}]')
    fails_with("$map.a[1].$foo: there is no such operator", db, '[{"$map":{"a":["x",{"$foo":1}]}}]')
  end)
end)

describe("$reduce", function ()
  after_each(fixture.clean)

  local PEOPLE = {
    '{"name":"pat","country":"US","dwelling":"flat","age":30}',
    '{"name":"sub","country":"US","dwelling":"house","age":40.5}',
    '{"name":"mix","country":"NZ","dwelling":"house","age":20}',
    '{"name":"dut","country":"US","dwelling":"flat"}',
    '{"name":"dom","country":"NZ","dwelling":"boat","age":"unknown"}',
  }

  it("counts, sums, multiplies, finds extremes, collects", function ()
    local db = database(table.unpack(PEOPLE))
    gives("[5]", db, '[{"$reduce":{"$count":true}}]')
    gives("[90.5]", db, '[{"$reduce":{"$sum":"age"}}]')
    gives("[24300.0]", db, '[{"$reduce":{"$product":["age"]}}]')
    gives("[20]", db, '[{"$filter":{"age":{"$is":"number"}}},{"$reduce":{"$min":"age"}}]')
    gives('["dom"]', db, '[{"$reduce":{"$min":"name"}}]')
    gives("[40.5]", db, '[{"$filter":{"age":{"$is":"number"}}},{"$reduce":{"$max":"age"}}]')
    gives('[["pat","sub","mix","dut","dom"]]', db, '[{"$reduce":{"$collect":"name"}}]')
    gives('[{"age":{"low":20,"high":40.5},"count":3}]', db, [=[[{"$filter":{"age":{"$is":"number"}}},{"$reduce":{
      "age":{"low":{"$min":"age"},"high":{"$max":"age"}},"count":{"$count":true}}}]]=])
  end)

  it("groups by the fields that aren't reductions, each group a result, sorted", function ()
    local db = database(table.unpack(PEOPLE))
    gives([=[[{"country":"NZ","dwelling":"boat","who":["dom"]},{"country":"NZ","dwelling":"house","who":["mix"]},
      {"country":"US","dwelling":"flat","who":["pat","dut"]},{"country":"US","dwelling":"house","who":["sub"]}]]=], db,
      '[{"$reduce":{"country":"country","dwelling":"dwelling","who":{"$collect":"name"}}}]')
    gives('[{"dwelling":"boat","n":1},{"dwelling":"flat","n":2},{"dwelling":"house","n":2}]', db,
      '[{"$reduce":{"dwelling":["dwelling"],"n":{"$count":true}}}]')
    gives('[{"initial":"d","n":2},{"initial":"m","n":1},{"initial":"p","n":1},{"initial":"s","n":1}]', db,
      '[{"$reduce":{"initial":["name",0],"n":{"$count":true}}}]')
    gives('["NZ","US"]', db, '[{"$reduce":"country"}]')
    gives('[{"at":{"country":"NZ"},"n":2},{"at":{"country":"US"},"n":3}]', db,
      '[{"$reduce":{"at":{"country":"country"},"n":{"$count":true}}}]')
    gives('[{"number":false,"n":2},{"number":true,"n":3}]', db,
      '[{"$reduce":{"number":["age",{"$is":"number"}],"n":{"$count":true}}}]')
  end)

  it("puts 1 and 1.0 into one group, and what has no value into one of its own", function ()
    local db = database('{"a":1}', '{"a":1.0,"b":2}', "{}", '{"a":"1"}')
    gives('[{"n":1},{"a":"1","n":1},{"a":1,"n":2}]', db, '[{"$reduce":{"a":"a","n":{"$count":true}}}]')
    gives('[["no",null,null,null]]', database('{"a":"no"}', "{}", "{}", "5"), '[{"$reduce":{"$collect":"a"}}]')
  end)

  it("groups within groups", function ()
    local db = database(table.unpack(PEOPLE))
    gives([=[[{"dwelling":"boat","people":[{"country":"NZ","name":"dom"}]},
      {"dwelling":"flat","people":[{"country":"US","name":"dut"},{"country":"US","name":"pat"}]},
      {"dwelling":"house","people":[{"country":"NZ","name":"mix"},{"country":"US","name":"sub"}]}]]=], db,
      '[{"$reduce":{"dwelling":"dwelling","people":{"$reduce":{"name":"name","country":"country"}}}}]')
  end)

  it("has $group, which gives an object with a field for each value", function ()
    local db = database(table.unpack(PEOPLE))
    gives('[{"NZ":{"boat":1,"house":1},"US":{"flat":2,"house":1}}]', db,
      '[{"$reduce":{"$group":["country","dwelling"],"$count":true}}]')
    gives('[{"NZ":{"oldest":20},"US":{"oldest":40.5}}]', db,
      '[{"$filter":{"age":{"$is":"number"}}},{"$reduce":{"$group":"country","$reduce":{"oldest":{"$max":"age"}}}}]')
    gives('[{"false":1,"true":4}]', db,
      '[{"$map":{"named":["name",{"$ne":"dom"}]}},{"$reduce":{"$group":["named"],"$count":true}}]')
  end)

  it("of nothing is nothing: no groups, and 0, 1 or an empty array", function ()
    local db = database()
    gives("[]", db, '[{"$reduce":{"a":"a","n":{"$count":true}}}]')
    gives('[{"n":0,"s":0,"p":1,"l":[]}]', db,
      '[{"$reduce":{"n":{"$count":true},"s":{"$sum":"a"},"p":{"$product":"a"},"l":{"$collect":"a"},"m":{"$max":"a"}}}]')
    gives("[]", db, '[{"$reduce":{"$min":"a"}}]')
  end)

  it("is told where it is wrong", function ()
    local db = database()
    fails_with("$reduce.$foo: there is no such", db, '[{"$reduce":{"$foo":1}}]')
    fails_with("$reduce.a: one reduce expected, not $count, $sum", db, '[{"$reduce":{"a":{"$count":true,"$sum":"a"}}}]')
    fails_with("$reduce.a.$foo: there is no such operator", db, '[{"$reduce":{"a":{"$foo":"a"}}}]')
    fails_with("$reduce.$sum: a key, a path, true or an object expected, not 1.5", db, '[{"$reduce":{"$sum":1.5}}]')
    fails_with("$reduce.$group: there is nothing to be reduced", db, '[{"$reduce":{"$group":"a"}}]')
  end)
end)

describe("$sort and the rest", function ()
  after_each(fixture.clean)

  it("sorts by paths, keeps the order of what is equal, and puts what has no value first", function ()
    local db = database('{"a":{"x":2},"b":1}', '{"a":{"x":1},"b":2}', '{"a":{"x":1},"b":1}', '{"b":0}',
      '{"a":{"x":"s"}}')
    local function order(text)
      local seqs = {}
      for _, seq in db.q:query(decode(text)) do seqs[#seqs + 1] = seq end
      return seqs
    end
    assert.same({3, 4, 1, 2, 0}, order '[{"$sort":[["a","x"]]}]')
    assert.same({3, 4, 2, 1, 0}, order '[{"$sort":[["a","x"],["b"]]}]')
    assert.same({4, 3, 0, 2, 1}, order '[{"$sort":["b"]}]')
    assert.same({2, 1, 0}, order '[{"$filter":{"a":{"x":{"$gt":0}}}},{"$sort":[["a","x"],"b"]}]')
    assert.same({2, 0, 1}, order '[{"$filter":{"a":{"x":{"$gt":0}}}},{"$sort":["b",["a","x"]]}]')
    fails_with("$sort: an array of paths expected, not an empty one", db, '[{"$sort":[]}]')
    fails_with('$sort[0]: a path (a key or an array of keys), {"$asc": path} or {"$desc": path} expected', db,
      '[{"$sort":[{"a":1}]}]')
  end)

  it("sorts in descending order, by each path for itself, and keeps the order of what is equal", function ()
    local db = database('{"a":1,"b":1}', '{"a":2,"b":1}', '{"a":2,"b":2}', '{"b":3}', '{"a":"s","b":1}',
      '{"a":1,"b":2}')
    local function order(text)
      local seqs = {}
      for _, seq in db.q:query(decode(text)) do seqs[#seqs + 1] = seq end
      return seqs
    end
    assert.same({1, 2, 0, 5, 4, 3}, order '[{"$sort":{"$desc":"a"}}]')
    assert.same({1, 2, 0, 5, 4, 3}, order '[{"$sort":[{"$desc":["a"]}]}]')
    assert.same({2, 1, 5, 0, 4, 3}, order '[{"$sort":[{"$desc":"a"},{"$desc":"b"}]}]')
    assert.same({3, 4, 5, 0, 2, 1}, order '[{"$sort":[{"$asc":"a"},{"$desc":"b"}]}]')
    assert.same({3, 2, 5, 1, 0, 4}, order '[{"$sort":[{"$desc":"b"},{"$desc":"a"}]}]')
    for _, wrong in ipairs {'{"$desc":{}}', '{"$desc":"a","$asc":"b"}', '[{"$down":"a"}]', "{}"} do
      fails_with("$sort", db, '[{"$sort":' .. wrong .. "}]")
    end
  end)

  it("gives the greatest groups", function ()
    local db = database('{"t":"a"}', '{"t":"b"}', '{"t":"b"}', '{"t":"c"}', '{"t":"c"}', '{"t":"c"}')
    gives('[{"t":"c","n":3},{"t":"b","n":2}]', db,
      '[{"$reduce":{"t":"t","n":{"$count":true}}},{"$sort":{"$desc":"n"}},{"limit":2}]')
  end)

  it("refuses an order that a stage makes vain, and takes one that counts", function ()
    local db = database('{"t":"a","n":1}', '{"t":"b","n":2}', '{"t":"b","n":3}')
    local reduce = '[{"$reduce":{"t":"t","n":{"$count":true}}}]'
    fails_with("option by: behind it $reduce makes another order", db, reduce, {by = "n"})
    fails_with("option reverse: behind it $reduce makes another order", db, reduce, {reverse = true})
    fails_with("option reverse: behind it $sort makes another order", db, '[{"$sort":["n"]},{"reverse":true}]')
    fails_with("option by: behind it $sort makes another order", db,
      '[{"$map":{"n":true}},{"$sort":["n"]}]', {by = "t"})
    gives("[5]", db, '[{"limit":2},{"$reduce":{"$sum":"n"}}]', {reverse = true})
    gives("[[3,2,1]]", db, '[{"$reduce":{"$collect":"n"}}]', {reverse = true})
    gives('[{"t":"a","l":[1]},{"t":"b","l":[3,2]}]', db, '[{"$reduce":{"t":"t","l":{"$collect":"n"}}}]',
      {reverse = true})
    gives("[3]", db, '[{"$map":"n"}]', {reverse = true, limit = 1, by = "t"})
  end)

  it("takes options alone for no filter", function ()
    local db = database('{"limit":5}', '{"limit":"5"}')
    for _, method in ipairs {"all", "count", "explain", "query"} do
      local ok, why = pcall(function () return db.q[method](db.q, {limit = 5}) end)
      assert.is_false(ok, method)
      assert.matches("options are the second argument", tostring(why))
    end
    gives('[{"limit":5}]', db, '{"$filter":{"limit":5}}')
    gives('[{"limit":"5"}]', db, '{"limit":"5"}')
  end)

  it("sorts what maps and groups have made", function ()
    local db = database('{"t":"a"}', '{"t":"b"}', '{"t":"b"}', '{"t":"c"}', '{"t":"c"}', '{"t":"c"}')
    gives('[{"t":"a","n":1},{"t":"b","n":2},{"t":"c","n":3}]', db,
      '[{"$reduce":{"t":"t","n":{"$count":true}}},{"$sort":["n"]}]')
    gives('[{"t":"c","n":3}]', db, '[{"$reduce":{"t":"t","n":{"$count":true}}},{"$filter":{"n":{"$gt":2}}}]')
  end)

  it("limits and reverses, as options and as stages", function ()
    local db = database('{"n":0}', '{"n":1}', '{"n":2}', '{"n":3}')
    gives("[3,2]", db, '[{"$map":"n"}]', {limit = 2, reverse = true})
    gives("[3,2]", db, '[{"reverse":true},{"$map":"n"},{"limit":2}]')
    gives("[3]", db, '[{"limit":3},{"$reduce":{"$count":true}}]')
    gives("[]", db, '[{"limit":0}]')
    gives("[]", db, "[]", {limit = 0})
    gives("[0,1,2,3]", db, '[{"$map":"n"}]', {limit = -1})
    gives("[0,1,2,3]", db, '[{"limit":-1},{"$map":"n"}]')
    gives("[1,2]", db, '[{"$filter":{"n":{"$gt":0}}},{"$map":"n"},{"limit":2}]')
    gives("[0,1]", db, '{"query":[{"$map":"n"}],"limit":2}')
    gives('[{"n":1}]', db, '{"n":1}')
    gives('[{"n":1}]', db, '{"$filter":{"n":1}}')
    assert.equal(4, #all(db, "[]"))
    assert.equal(2, db.q:count(decode '[{"$filter":{"n":{"$gt":1}}}]'))
    assert.equal(2, db.q:count(decode "[]", {limit = 2}))
    assert.equal(1, db.q:count(decode '[{"$reduce":{"$count":true}}]'))
  end)

  it("reads as the original does, with read", function ()
    local db = database('{"n":0}', '{"n":1}')
    local got = {}
    for value in db.q:read {query = {{["$filter"] = {n = 1}}}, limit = 5} do got[#got + 1] = value.n end
    assert.same({1}, got)
  end)

  it("goes on live with what comes", function ()
    local db = database('{"t":"post","n":1}', '{"t":"vote"}')
    local live = fixture.keep((db.q:query(decode '[{"$filter":{"t":"post"}},{"$map":"n"}]', {live = true})))
    assert.equal(1, live:next())
    local calls, record = fixture.recorder()
    live:next(record)
    db:append {decode '{"t":"vote","n":2}', decode '{"t":"post","n":3}'}
    fixture.run_until(function () return calls[1] end)
    assert.same({nil, 3, 3, n = 3}, calls[1])
    local only_new = fixture.keep((db.q:query(decode '[{"$filter":{"t":"post"}},{"limit":1}]', {old = false})))
    only_new:next(record)
    db:append(decode '{"t":"post","n":4}')
    fixture.run_until(function () return calls[2] end)
    assert.equal(4, calls[2][2].n)
    assert.is_nil(only_new:next())
    live:close()
    assert.is_nil(live:next())
    fails_with("a live query can't have $reduce", db, '[{"$reduce":{"$count":true}}]', {live = true})
  end)

  it("ends a live query with its database, and a next that waits", function ()
    local db = database "{}"
    local live = fixture.keep((db.q:query({}, {old = false})))
    local calls, record = fixture.recorder()
    live:next(record)
    db:close()
    fixture.run_until(function () return calls[1] end)
    assert.equal("ECLOSED", calls[1][1].code)
  end)
end)
