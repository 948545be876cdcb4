-- The query view: queries that are built, its indexes, and what becomes of them on disk.

local binary = require "tests.support.binary"
local child = require "tests.support.child"
local flume = require "flume"
local lfs = require "lfs"
local fixture = require "tests.support.fixture"

local query = flume.query
local eq, gt, gte, has, prefix = query.eq, query.gt, query.gte, query.has, query.prefix

local AUTHORS = {"ada", "bob", "cy"}

local function record(n)
  return {
    type = n % 2 == 0 and "post" or "vote", author = AUTHORS[n % 3 + 1], n = n, tags = {n % 5 == 0 and "red" or "blue"},
    content = {likes = n % 7},
  }
end

local function fill(db, count, from)
  local batch = {}
  for i = 1, count do batch[i] = record((from or 0) + i - 1) end
  assert(db:append(batch))
  return db
end

local function memory(count)
  return fill(fixture.memory_db(), count or 60):use("q", "query")
end

local function numbers(list)
  local made = {}
  for i, each in ipairs(assert(list)) do made[i] = each.n end
  return made
end

local function kinds_of(db)
  local list = {}
  for i, index in ipairs(db.q:indexes()) do list[i] = index.kind .. " " .. index.path end
  return list
end

describe("a query that is built", function ()
  after_each(fixture.clean)

  it("is where, order and limit, in any order", function ()
    local db = memory()
    local built = db.q:where(eq("type", "post") & eq("author", "ada"))
    assert.same({0, 6, 12}, numbers(built:limit(3):all()))
    assert.same({54, 48}, numbers(built:descending():limit(2):all()))
    local other = db.q:where():limit(2):descending():where(eq("type", "post")):where(eq("author", "ada"))
    assert.same({54, 48}, numbers(other:all()))
    assert.equal(10, built:count())
    assert.equal(4, built:limit(4):count())
    assert.same({54}, numbers {built:descending():first()})
    assert.is_nil((db.q:where(eq("author", "nobody")):first()))
    assert.equal("flume.query: q where all(eq(type), eq(author))", tostring(built))
  end)

  it("leaves the query alone that it was made of", function ()
    local db = memory()
    local built = db.q:where(eq("type", "post"))
    built:where(eq("author", "ada")):descending():limit(1)
    assert.equal(30, #built:all())
  end)

  it("combines conditions with &, | and ~", function ()
    local db = memory(20)
    assert.same({2, 14, 16}, numbers(db.q:where(eq("content.likes", 2) & ~eq("n", 9) | eq("n", 14)):all()))
    assert.same({1, 2, 4}, numbers(db.q:where(~(gt("n", 4) | eq("author", "ada"))):all()))
    assert.same({0, 5, 10, 15}, numbers(db.q:where(has("tags", "red")):all()))
    assert.same({0, 1, 3}, numbers(db.q:where(prefix("author", "a") & query.lt("n", 5) | eq({"n"}, 1)):all()))
    assert.same({0}, numbers(db.q:where(eq({"tags", 0}, "red")):limit(1):all()))
    assert.same({3, 4}, numbers(db.q:where(query.between("n", 3, 4)):all()))
    assert.same({1, 5}, numbers(db.q:where(query.one_of("n", {5, 1, 99})):all()))
    assert.same({19}, numbers(db.q:where(query.ne("n", 18) & gte("n", 18)):all()))
    assert.same({2}, numbers(db.q:where(query.filter {n = 2, author = {["$prefix"] = "c"}}):all()))
    assert.same({7}, numbers(db.q:where(query.test("n", function (n) return n == 7 end)):all()))
    assert.equal(20, db.q:where(query.exists "content.likes" & query.type("n", "integer")):count())
  end)

  it("is iterated over, by calling it too", function ()
    local db = memory(10)
    local seqs = {}
    for value, seq in db.q:where(gt("n", 6)):iterate() do seqs[#seqs + 1] = seq + value.n end
    assert.same({14, 16, 18}, seqs)
    local count = 0
    for value in db.q:where(gt("n", 6))() do count = count + value.n end
    assert.equal(24, count)
  end)

  it("takes callbacks, and tasks that wait", function ()
    local db = memory(10)
    local calls, note = fixture.recorder()
    assert.is_true(db.q:where(gt("n", 7)):all(note))
    assert.is_nil(calls[1])
    fixture.run_until(function () return calls[1] end)
    assert.is_nil(calls[1][1])
    assert.same({8, 9}, numbers(calls[1][2]))
    db.q:where(gt("n", 7)):count(note)
    fixture.run_until(function () return calls[2] end)
    assert.equal(2, calls[2][2])
    assert.equal(3, flume.run(function ()
      local count = 0
      for _ in db.q:where(gt("n", 6)):iterate() do count = count + 1 end
      return count
    end))
  end)

  it("gives pages that what is appended does not move", function ()
    local db = memory(10)
    local newest = db.q:where(eq("type", "vote")):descending():limit(2)
    local page, cursor = newest:page()
    assert.same({9, 7}, numbers(page))
    fill(db, 4, 10)
    page, cursor = newest:page(cursor)
    assert.same({5, 3}, numbers(page))
    page, cursor = newest:page(cursor)
    assert.same({1}, numbers(page))
    assert.is_nil(cursor)
  end)

  it("gives pages in the order of a path", function ()
    local db = memory(8)
    db:append {n = "last", type = "post"}
    local built, seen, cursor = db.q:where(query.exists "n"):by("content.likes"):limit(3), {}, nil
    repeat
      local page
      page, cursor = built:page(cursor)
      for _, each in ipairs(page) do seen[#seen + 1] = each.n end
      if #seen == 3 then fill(db, 1, 7) end -- likes 0, before the cursor
    until not cursor
    assert.same({"last", 0, 7, 1, 2, 3, 4, 5, 6}, {seen[1], seen[2], seen[3], table.unpack(seen, #seen - 5)})
  end)

  it("refuses the cursor of another query", function ()
    local db = memory(9)
    local _, cursor = db.q:where():limit(2):page()
    local nothing, message, code = db.q:where():by("n"):limit(2):page(cursor)
    assert.same({nil, "page: it is no cursor of this query", "EINVAL"}, {nothing, message, code})
    local query_of = {
      db.q:where(eq("n", 1)), db.q:where(gt("n", 1)), db.q:where(eq("n", "1")), db.q:where(eq("m", 1)),
      db.q:where(eq("n", 1) | eq("n", 2)), db.q:where(~eq("n", 1)), db.q:where():descending(), db.q:where():by "n",
      db.q:where():by {"n", 0}, db.q:where():by("n"):descending(),
    }
    for i, one in ipairs(query_of) do
      assert.same({nil, "page: it is no cursor of this query", "EINVAL"}, {one:page(cursor)}, i)
    end
    for _, wrong in ipairs {"", "seq 1", cursor .. "x", cursor:sub(2), "zz"} do
      assert.equal("EINVAL", select(3, db.q:where():page(wrong)), wrong)
    end
    assert.same({2, 3}, numbers((db.q:where():limit(2):page(cursor))))
    assert.same({2, 3, 4}, numbers((db.q:where():limit(3):page(cursor)))) -- a page may have any length
  end)

  it("is a loop by itself", function ()
    local db = memory(4)
    local built, seen = db.q:where(), {}
    for value, seq in built do seen[#seen + 1] = value.n + 10 * seq end
    assert.same({0, 11, 22, 33}, seen)
    seen = {}
    for outer in built do
      for inner in built do
        seen[#seen + 1] = outer.n * 10 + inner.n
        if inner.n == 1 then break end
      end
    end
    assert.same({0, 1, 10, 11, 20, 21, 30, 31}, seen)
    seen = {}
    for value in built:descending():limit(2) do seen[#seen + 1] = value.n end
    for value in built() do seen[#seen + 1] = value.n end
    assert.same({3, 2, 0, 1, 2, 3}, seen)
    for _ in db.q:where(eq("n", "none")) do error "there is none" end
    assert.error_matches(function () built(nil, {}) end, "its value was changed")
  end)

  it("is a loop over records that are no tables", function ()
    local db = fixture.memory_db()
    db:append(flume.array {1, false, flume.null, 1})
    db:use("q", "query")
    local seen, built = {}, db.q:where()
    for value in built do seen[#seen + 1] = value end
    assert.same({1, false, flume.null, 1}, seen)
    assert.error_matches(function ()
      for _ in built do -- luacheck: ignore 512
        for _ in built do break end -- luacheck: ignore 512
      end
    end, "call its :iterate%(%) in each")
  end)

  it("has no limit for one below 0", function ()
    local db = memory(30)
    assert.equal(30, #db.q:where():limit(-1):all())
    assert.equal(30, db.q:where():limit(3):limit(-1):count())
    assert.equal(25, #db.q:where():limit(-1):page())
  end)

  it("has what was there when it began, whatever is appended meanwhile", function ()
    local db = memory(10)
    local seen = {}
    for value in db.q:where(gt("n", 5)):iterate() do
      seen[#seen + 1] = value.n
      fill(db, 1, 100 + value.n)
    end
    assert.same({6, 7, 8, 9}, seen)
    assert.equal(8, db.q:where(gt("n", 5)):count())
  end)

  it("goes on live", function ()
    local db = memory(4)
    local live = fixture.keep((db.q:where(eq("type", "post")):live()))
    local calls, note = fixture.recorder()
    live:next(note)
    fill(db, 3, 5)
    fixture.run_until(function () return calls[1] end)
    assert.equal(6, calls[1][2].n)
    local both = fixture.keep((db.q:where(eq("author", "ada")):live {old = true}))
    assert.equal(0, both:next().n)
    assert.equal(3, both:next().n)
    assert.equal(6, both:next().n)
    fill(db, 1, 9)
    assert.equal(9, both:next().n)
  end)

  it("raises what is misuse", function ()
    local db = memory(1)
    for _, case in ipairs {
      {"a condition expected on both sides of &", function () return eq("a", 1) & true end},
      {"eq: a value expected; flume.null stands for null", function () eq("a") end},
      {"gt: a number, a string, a boolean or an array expected", function () gt("a", {b = 1}) end},
      {"type: there is no type thing", function () query.type("a", "thing") end},
      {"where: a condition expected", function () db.q:where "type" end},
      {"limit: an integer expected, not 1.5", function () db.q:where():limit(1.5) end},
      {"live: olf = true; there is old", function () db.q:where():live {olf = true} end},
      {"live: old = 1; there is old", function () db.q:where():live {old = 1} end},
      {"by: a path expected", function () db.q:where():by() end},
      {"page: a cursor is a string", function () db.q:where():page(5) end},
      {"live: what is to come", function () db.q:where():descending():live() end},
      {"path: a path (a key or an array of keys) expected", function () eq({b = 1}, 1) end},
      {"$filter.a.$foo: there is no such operator", function () query.filter {a = {["$foo"] = 1}} end},
      {"patience: nonsense", function () db.q:where():patience {nonsense = 1} end},
    } do
      local ok, message = pcall(case[2])
      assert.is_false(ok, case[1])
      assert.truthy(tostring(message):find(case[1], 1, true), tostring(message))
      assert.truthy(tostring(message):find("query_view_spec", 1, true), tostring(message))
    end
  end)

  it("looks at all records when it does not wait for an index that is being built", function ()
    local db = memory(30)
    assert(db.q:ready())
    assert.same({28, 26}, numbers(db.q:where(eq("type", "post")):descending():limit(2):patience {wait = false}:all()))
    local told = db.q:where(eq("author", "ada")):by("n"):descending():limit(1):patience {wait = false}:explain()
    assert.same({true, true, 1}, {told.scan, told.sorted_in_memory, told.returned})
    assert.is_false(db.q:where(eq("author", "ada")):explain().scan)
  end)

  it("tells that the database was closed between two results", function ()
    local db = memory(30)
    local stepped, looped = db.q:query {{["$filter"] = {type = "post"}}}, db.q:query {{["$filter"] = {type = "post"}}}
    assert.is_table((stepped:next()))
    assert.is_table(looped())
    db:close()
    assert.equal("ECLOSED", (select(3, stepped:next())))
    assert.error_matches(looped, 'view "q": the database was closed')
  end)

  it("waits as other views do", function ()
    local db = memory(3)
    local nothing, _, code = db.q:where(eq("n", 1)):patience {since = 99, timeout = 5}:all()
    assert.same({nil, "ETIMEDOUT"}, {nothing, code})
    assert.equal(1, #db.q:where(eq("n", 1)):patience {since = 0}:all())
    db:close()
    assert.error_matches(function () db.q:where(eq("n", 1)) end, "closed")
  end)
end)

describe("the indexes of a query view", function ()
  after_each(fixture.clean)

  it("are made when a query first needs them", function ()
    local db = memory()
    assert.same({}, kinds_of(db))
    db.q:where(has("tags", "red")):all()
    assert.same({}, kinds_of(db))
    db.q:where(eq("type", "post") & gt("content.likes", 3)):all()
    assert.same({"by content.likes", "is type"}, kinds_of(db))
    db.q:all({{["$sort"] = {{"n"}}}})
    assert.same({"by content.likes", "by n", "is type", "kind n"}, kinds_of(db))
  end)

  it("tell how many records were looked at, and which were decoded", function ()
    local db = memory()
    local told = db.q:where(eq("type", "post") & eq("author", "ada")):descending():limit(3):explain()
    assert.same({10, 3, 3, 3}, {told.candidates, told.examined, told.decoded, told.returned})
    assert.same({{kind = "is", path = "author"}, {kind = "is", path = "type"}}, told.indexes)
    told = db.q:where(eq("type", "post") & has("tags", "red")):explain()
    assert.same({30, 30, 6, 6}, {told.candidates, told.examined, told.decoded, told.returned})
    assert.is_false(told.exact)
    told = db.q:where(has("tags", "red")):explain()
    assert.same({true, 60, 60, 12}, {told.scan, told.candidates, told.examined, told.decoded})
    told = db.q:where(gt("n", 50)):by("n"):descending():limit(2):explain()
    assert.same({9, 2, 2, "n"}, {told.candidates, told.examined, told.decoded, told.order})
    told = db.q:explain({{["$filter"] = {type = "post"}}, {["$reduce"] = {["$count"] = true}}})
    assert.same({30, 30, 0, 1}, {told.candidates, told.examined, told.decoded, told.returned})
  end)

  it("count without a look at any record", function ()
    local db = memory()
    assert.equal(30, db.q:where(eq("type", "post")):count())
    assert.equal(30, db.q:where(~eq("type", "post")):count())
    db:del {0, 1, 2}
    assert.equal(28, db.q:where(eq("type", "post")):count())
    assert.equal(29, db.q:where(~eq("type", "post")):count())
    assert.equal(57, db.q:where():count())
  end)

  it("lose deleted records at once", function ()
    local db = memory(6)
    local built = db.q:where(eq("type", "post"))
    assert.same({0, 2, 4}, numbers(built:all()))
    db:del(2)
    assert.same({0, 4}, numbers(built:all()))
    assert.same({0, 4}, numbers(built:patience {wait = false}:all()))
    assert.same({4, 0}, numbers(built:by("n"):descending():all()))
    local results = built:iterate()
    assert.equal(0, results().n)
    db:del(4)
    assert.is_nil(results())
  end)

  it("leave out what the view was told to pass over", function ()
    local db = memory(6)
    local built = db.q:where(eq("type", "post"))
    assert.equal(3, built:count())
    assert(db.q:skip(2))
    assert.same({0, 4}, numbers(built:all()))
    assert.same({0, 1, 3, 4, 5}, numbers(db.q:where():all()))
    assert.same({5, 4, 3, 1, 0}, numbers(db.q:where():by("n"):descending():all()))
    assert.same({4}, numbers(db.q:where(gt("n", 1) & eq("type", "post") & has("tags", "blue")):all()))
    assert.equal(5, db.q:where():count())
  end)

  it("are kept on disk, under the view, and taken up again", function ()
    local dir = fixture.dir() .. "/data"
    local db = fill(fixture.open_db(dir), 100):use("q", "query")
    local function ask(from)
      return numbers(from.q:where(eq("type", "post") & gt("n", 90)):by("n"):descending():all())
    end
    local expected = ask(db)
    assert.same({98, 96, 94, 92}, expected)
    db:close()
    assert.equal("directory", lfs.attributes(dir .. "/views/q/indexes/is-type", "mode"))
    db = fixture.open_db(dir, {ready = false}):use("q", "query")
    local list = db.q:indexes()
    assert.equal(3, #list)
    for _, index in ipairs(list) do assert.equal(99, index.since, index.kind .. " " .. index.path) end
    db.ready:set(true)
    fill(db, 10, 100)
    assert.same({108, 106, 104, 102, 100, 98, 96, 94, 92}, ask(db))
    assert(db:rebuild())
    local bytes = 0
    for _, index in ipairs(db.q:indexes()) do bytes = bytes + index.bytes end
    assert.is_true(db:status().views.q.size >= bytes)
    assert.same({108, 106, 104, 102, 100, 98, 96, 94, 92}, ask(db))
    db:close()
    assert(os.execute("rm -r " .. dir .. "/views/q"))
    db = fixture.open_db(dir):use("q", "query")
    assert.same({}, kinds_of(db))
    assert.same({108, 106, 104, 102, 100, 98, 96, 94, 92}, ask(db))
  end)

  it("have names for paths with any bytes, and none where a name has a dot", function ()
    local dir = fixture.dir() .. "/data"
    local odd = {["a b/ü%"] = 1, ["x.y"] = 2}
    local db = fixture.open_db(dir):use("q", "query")
    db:append {odd, {["a b/ü%"] = 5}}
    assert.equal(1, db.q:where(eq({"a b/ü%"}, 1)):count())
    assert.equal(1, db.q:where(eq({"x.y"}, 2)):count())
    assert.same({"is a b/ü%"}, kinds_of(db))
    db:close()
    db = fixture.open_db(dir):use("q", "query")
    assert.same({"is a b/ü%"}, kinds_of(db))
    assert.equal(1, db.q:where(eq({"a b/ü%"}, 5)):count())
  end)

  it("go through with a copy of the database", function ()
    local dir = fixture.dir()
    local db = fill(fixture.open_db(dir .. "/data"), 30):use("q", "query")
    db.q:where(eq("type", "post")):count()
    assert(db:backup(dir .. "/copy"))
    assert.is_true(db:check().ok)
    local copy = fixture.open_db(dir .. "/copy"):use("q", "query")
    assert.equal(15, copy.q:where(eq("type", "post")):count())
  end)

  it("are read by a process without write permission", function ()
    local dir = fixture.dir() .. "/data"
    local db = fill(fixture.open_db(dir), 30):use("q", "query")
    db.q:where(eq("type", "post")):count()
    db:close()
    local reader = fixture.open_db(dir, {readonly = true}):use("q", "query")
    assert.same({"is type"}, kinds_of(reader))
    assert.equal(15, reader.q:where(eq("type", "post")):count())
    assert.same({29}, numbers(reader.q:where(eq("n", 29)):all()))
  end)

  it("are there after the process was killed", function ()
    local dir = fixture.dir() .. "/data"
    local pipe, pid = child.start([[
      local flume = require "flume"
      io.stdout:setvbuf "line"
      local db = assert(flume.open((...))):use("q", "query")
      local n = 0
      while true do
        local batch = {}
        for i = 1, 50 do batch[i] = {type = (n + i) % 3 == 0 and "post" or "vote", n = n + i} end
        n = n + 50
        assert(db:append(batch))
        db:del(n - 7)
        print(n, db.q:where(flume.query.eq("type", "post")):count())
      end
    ]], dir)
    for line in pipe:lines() do -- until the index has made a checkpoint
      if tonumber(line:match "^%d+") > 3000 and lfs.attributes(dir .. "/views/q/indexes/is-type/active") then break end
    end
    os.execute("kill -9 " .. pid)
    pipe:close()
    local db = fixture.open_db(dir):use("q", "query")
    assert.same({"is type"}, kinds_of(db))
    local expected, got = {}, {}
    for seq, value in db:stream() do
      if value.type == "post" then expected[#expected + 1] = seq end
    end
    for _, seq in db.q:where(eq("type", "post")):iterate() do got[#got + 1] = seq end
    assert.is_true(#got > 900)
    assert.same(expected, got)
  end)

  it("are not made where the core can't read the records", function ()
    for _, options in ipairs {{codec = "json"}, {codec = "raw"}} do
      local db = fixture.keep(assert(flume.new(flume.log.memory(options)))):use("q", "query")
      if options.codec == "json" then fill(db, 10) else db:append {"a", "b"} end
      local filter = options.codec == "json" and gt("n", 7) or query.prefix({}, "b")
      assert.equal(options.codec == "json" and 2 or 1, db.q:where(filter):count())
      assert.same({}, kinds_of(db))
    end
  end)
end)

describe("mounting a query view", function ()
  after_each(fixture.clean)

  it("works from a folder of views, and beside others", function ()
    local folder = fixture.dir()
    fixture.write(folder .. "/find.lua", "return {version = 1, query = true}\n")
    local db = fill(fixture.memory_db {views = folder}, 10)
    assert.equal(5, db.find:where(eq("type", "post")):count())
    db:use("q", "query")
    assert.equal(5, db.q:where(eq("type", "post")):count())
    assert(db:reload())
    assert.equal(5, db.find:where(eq("type", "post")):count())
    local row = db:status().views.q
    assert.same({"query", "live", 9}, {row.kind, row.state, row.since})
    assert.equal("async", db.q.methods.count)
    db:close()
  end)

  it("gives way to a view file of that name in the folder", function ()
    local folder = fixture.dir()
    fixture.write(folder .. "/query.lua",
      "return {version = 1, initial = 0, reducer = function (n) return n + 1 end}\n")
    local db = fill(fixture.memory_db {views = folder}, 3):use("q", "query")
    assert.equal(3, db.q:get())
  end)

  it("is done by the command line, as q", function ()
    local dir = fixture.dir() .. "/data"
    fill(fixture.open_db(dir), 10):close()
    assert.equal('{"n":9}\n{"n":7}\n', binary.output {"--json", dir, "q.query",
      '[{"$filter":{"type":"vote"}},{"$map":{"n":true}},{"reverse":true},{"limit":2}]'})
    assert.equal("5\n", binary.output {dir, "q.count", '{"type":"post"}'})
    local text = binary.output {"--json", dir, "q.explain", '{"type":"post"}'}
    assert.truthy(text:find('"returned":5', 1, true), text)
    local message = binary.failure {dir, "q.query", '[{"$filter":{"n":{"$foo":1}}}]'}
    assert.truthy(message:find("$filter.n.$foo: there is no such operator", 1, true), message)
  end)
end)
