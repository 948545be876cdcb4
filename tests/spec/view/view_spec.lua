-- Views: reducers, their methods, waiting, failing.

local flume = require "flume"
local fixture = require "tests.support.fixture"

local function sum()
  return flume.reduce(1, function (acc, item) return acc + item.foo end, 0)
end

local memory, open = fixture.memory_db, fixture.open_db

-- Each call's second argument, in the order of the calls.
local function results(calls)
  local list = {}
  for i, call in ipairs(calls) do list[i] = call[2] end
  return list
end

describe("many views", function ()
  after_each(fixture.clean)

  -- Instructions of Lua, in thousands, that fn takes.
  local function steps_of(fn)
    local steps = 0
    debug.sethook(function () steps = steps + 1 end, "", 1000)
    fn()
    debug.sethook()
    return steps
  end

  local function mount(db, from, to)
    return steps_of(function ()
      for i = from, to do db:use("v" .. i, sum()) end
    end)
  end

  it("take no longer to mount, the more there are", function ()
    local db = memory()
    local first = mount(db, 1, 100)
    mount(db, 101, 1000)
    local last = mount(db, 1001, 1100)
    assert.is_true(last < first * 2, ("%d, then %d"):format(first, last))
    db:append {foo = 1}
    assert.equal(1, db.v1100:get())
  end)

  it("are nothing that a script beside them is told of", function ()
    local path = fixture.dir() .. "/sum.lua"
    fixture.write(path, "return {initial = 0, reducer = function (acc, item) return acc + item.foo end}")
    local db = memory()
    local first = steps_of(function () db:use("first", path) end)
    mount(db, 1, 1000)
    local last = steps_of(function () db:use("last", path) end)
    assert.is_true(last < (first + 1) * 2, ("%d, then %d"):format(first, last))
  end)
end)

describe("a reducer", function ()
  after_each(fixture.clean)

  it("folds what was appended before and after it was mounted", function ()
    local db = memory()
    db:append {foo = 1}
    db:use("sum", sum())
    assert.equal(1, db.sum:get())
    db:append {{foo = 2}, {foo = 3}}
    assert.equal(6, db.sum:get())
    assert.equal(2, db.sum.since.value)
  end)

  it("gets the seq too", function ()
    local db = memory():use("seqs", {reducer = function (acc, _, seq) return (acc or "") .. seq end})
    db:append {{a = 1}, {a = 2}, {a = 3}}
    assert.equal("012", db.seqs:get())
  end)

  it("starts with a copy of initial", function ()
    local initial = {list = {}}
    local function push(acc, item)
      acc.list[#acc.list + 1] = item.n
      return acc
    end
    local db = memory():use("a", flume.reduce(1, push, initial)):use("b", flume.reduce(1, push, initial))
    db:append {{n = 1}, {n = 2}}
    assert.same({list = {1, 2}}, db.a:get())
    assert.same({list = {1, 2}}, db.b:get())
    assert.same({list = {}}, initial)
    db.a:rebuild()
    assert.same({list = {1, 2}}, db.a:get())
  end)

  it("without initial and without records is nil", function ()
    local db = memory():use("last", {reducer = function (_, item) return item.n end})
    local calls, cb = fixture.recorder()
    db.last:get(cb)
    fixture.run_until(function () return #calls == 1 end)
    assert.equal(2, calls[1].n)
    assert.is_nil(calls[1][1])
    assert.is_nil(calls[1][2])
  end)

  it("may keep the records that it was given", function ()
    local kept = {}
    local db = memory():use("keep", {reducer = function (_, item) kept[#kept + 1] = item end})
    for i = 1, 2000 do db:append {n = i, text = ("x"):rep(100)} end
    db.keep:ready()
    collectgarbage()
    for i = 1, 2000 do assert.equal(i, kept[i].n) end
    assert.same({n = 7, text = ("x"):rep(100)}, flume.table(kept[7]))
  end)

  it("consumes more than a block, each record once and in order", function ()
    local db = memory()
    local expected = 0
    db:use("counted", {reducer = function (acc, item, seq)
      assert(seq == expected and item.n == seq)
      expected = expected + 1
      return (acc or 0) + 1
    end})
    for first = 0, 39999, 1000 do
      local batch = {}
      for i = 1, 1000 do batch[i] = {n = first + i - 1, pad = ("x"):rep(50)} end
      db:append(batch)
    end
    assert.equal(40000, db.counted:get())
  end)
end)

describe("methods", function ()
  after_each(fixture.clean)

  local function view()
    return {
      version = 1, initial = 0,
      reducer = function (acc, item) return acc + item.foo end,
      methods = {now = "sync", plus = "async", upto = "source", pairs_of = "source", empty = "source"},
      now = function (v) return v.get() end,
      plus = function (v, a, b) return v.get() + a + (b or 0), "second" end,
      upto = function (v)
        local list = {}
        for i = 1, v.get() do list[i] = i end
        return list
      end,
      pairs_of = function () return pairs {x = 1} end,
      empty = function () return {} end,
    }
  end

  it("of type sync answer at once with what there is", function ()
    local db = memory():use("v", view())
    db:append {foo = 5}
    assert.equal(0, db.v:now())
    db.v:ready()
    assert.equal(5, db.v:now())
  end)

  it("of type sync call back too", function ()
    local path = fixture.write(fixture.dir() .. "/v.lua", [[
      return {
        version = 1, initial = 0, reducer = function (acc, item) return acc + item.foo end,
        methods = {now = "sync", fail = "sync"},
        now = function (v, a) return v.get() + a, nil, "third" end, fail = function () error "no" end,
      }
    ]])
    for _, definition in ipairs {path, assert(dofile(path))} do
      local db = memory():use("v", definition)
      db:append {foo = 5}
      db.v:ready()
      local calls, cb = fixture.recorder()
      assert.is_true(db.v:now(1, cb))
      assert.is_true(db.v:fail(cb))
      assert.equal(0, #calls)
      fixture.run_until(function () return #calls == 2 end)
      assert.same({n = 4, nil, 6, nil, "third"}, calls[1])
      assert.equal("EVIEW", calls[2][1].code)
    end
  end)

  it("of type async wait, and give all results", function ()
    local db = memory():use("v", view())
    db:append {foo = 5}
    assert.same({8, "second"}, {db.v:plus(1, 2)})
    local calls, cb = fixture.recorder()
    assert.is_true(db.v:plus(1, cb))
    assert.equal(0, #calls)
    fixture.run_until(function () return #calls == 1 end)
    assert.same({nil, 6, "second"}, {calls[1][1], calls[1][2], calls[1][3]})
  end)

  it("of type source wait, and give one result after the other", function ()
    local db = memory():use("v", view())
    db:append {foo = 3}
    local got = {}
    for i in db.v:upto() do got[#got + 1] = i end
    assert.same({1, 2, 3}, got)
    for key, value in db.v:pairs_of() do assert.same({"x", 1}, {key, value}) end
    for _ in db.v:empty() do error "it is empty" end
  end)

  it("of type source are read with next, and closed", function ()
    local db = memory():use("v", view())
    db:append {foo = 3}
    local s <close> = db.v:upto()
    assert.equal(1, s:next())
    local calls, cb = fixture.recorder()
    s:next(cb)
    fixture.run_until(function () return #calls == 1 end)
    assert.equal(2, calls[1][2])
    s:close()
    assert.is_nil(s:next())
  end)

  it("of type source call back with the source", function ()
    local db = memory():use("v", view())
    db:append {foo = 2}
    local got = {}
    db.v:upto(function (err, source)
      assert(not err)
      for i in source do got[#got + 1] = i end
      got.ended = true
    end)
    fixture.run_until(function () return got.ended end)
    assert.same({1, 2, ended = true}, got)
  end)

  it("of type source give one result at a time", function ()
    local db = memory():use("v", view())
    local calls, cb = fixture.recorder()
    local s = db.v:upto {since = 0}
    s:next(function () end)
    s:next(cb)
    fixture.run_until(function () return #calls == 1 end)
    assert.equal("EBUSY", calls[1][1].code)
    s:close()
  end)

  it("get their last table as options and as argument", function ()
    local seen
    local db = memory():use("v", {
      reducer = function () end, methods = {find = "async"}, find = function (_, opts) seen = opts end,
    })
    db:append {foo = 1}
    db.v:find {since = -1, limit = 3}
    assert.equal(3, seen.limit)
  end)

  it("that raise fail that call alone", function ()
    local db = memory():use("v", {
      reducer = function () return 1 end, methods = {bad = "async", worse = "source"},
      bad = function () error "not today" end,
      worse = function () return function () error "in the middle" end end,
    })
    db:append {foo = 1}
    local value, message, code = db.v:bad()
    assert.is_nil(value)
    assert.truthy(message:find "not today")
    assert.equal("EVIEW", code)
    assert.error_matches(function () for _ in db.v:worse() do error "never" end end, "in the middle")
    assert.equal(1, db.v:get())
    assert.equal("live", db:status().views[1].state)
  end)

  it("are called on the view they are of", function ()
    local db = memory():use("a", sum()):use("b", sum())
    assert.error_matches(function () db.a.get(db.b) end, "db.a:get")
    assert.error_matches(function () db.a.get() end, "db.a:get")
    assert.is_nil(db.a.nothing)
  end)

  it("check the options of waiting", function ()
    local db = memory():use("a", sum())
    assert.error_matches(function () db.a:get {since = "now"} end, "since must be an integer")
    assert.error_matches(function () db.a:get {since = 1.5} end, "since must be an integer")
    for _, timeout in ipairs {"soon", -1, 0 / 0} do
      assert.error_matches(function () db.a:get {timeout = timeout} end, "timeout must be a number")
    end
  end)
end)

describe("a read", function ()
  after_each(fixture.clean)

  it("waits for what was appended before it", function ()
    local db = memory():use("sum", sum())
    for i = 1, 50 do
      db:append {foo = 1}
      assert.equal(i, db.sum:get())
    end
  end)

  it("of an empty log does not wait", function ()
    assert.equal(0, memory():use("sum", sum()).sum:get())
  end)

  it("with since = 0 waits for the first record", function ()
    local db = memory():use("sum", sum())
    local calls, cb = fixture.recorder()
    db.sum:get({since = 0}, cb)
    flume.step(0)
    flume.step(0)
    assert.equal(0, #calls)
    db:append {foo = 4}
    fixture.run_until(function () return #calls == 1 end)
    assert.equal(4, calls[1][2])
  end)

  it("with since = n waits for n, and for no more", function ()
    local db = memory():use("sum", sum())
    local calls, cb = fixture.recorder()
    db:append {foo = 1}
    db.sum:get({since = 2}, cb)
    db:append {foo = 1}
    db.sum:ready()
    assert.equal(0, #calls)
    db:append {foo = 1}
    fixture.run_until(function () return #calls == 1 end)
    assert.equal(3, calls[1][2])
  end)

  it("with since = -1 or wait = false does not wait", function ()
    local db = memory():use("sum", sum())
    db:append {foo = 1}
    assert.equal(0, db.sum:get {since = -1})
    assert.equal(0, db.sum:get {wait = false})
    assert.equal(1, db.sum:get())
  end)

  it("ends with ETIMEDOUT, and says how far the view was", function ()
    local db = memory():use("sum", sum())
    db:append {foo = 1}
    local value, message, code = db.sum:get {since = 9, timeout = 5}
    assert.is_nil(value)
    assert.equal("ETIMEDOUT", code)
    assert.truthy(message:find "^timeout.*sum.*at 0 of 9", message)
    assert.equal(1, db.sum:get {timeout = 60000})
  end)

  it("that timed out does not take the others along", function ()
    local db = memory():use("sum", sum())
    local calls, cb = fixture.recorder()
    db.sum:get({since = 0, timeout = 1}, cb)
    db.sum:get({since = 0, timeout = 60000}, cb)
    db.sum:get({since = 0}, cb)
    fixture.run_until(function () return #calls == 1 end)
    assert.equal("ETIMEDOUT", calls[1][1].code)
    db:append {foo = 2}
    fixture.run_until(function () return #calls == 3 end)
    assert.same({nil, 2, 2}, {calls[1][2], calls[2][2], calls[3][2]})
  end)

  it("is answered whatever the order of those that wait", function ()
    local wanted = {5, 0, 3, -1, 4, 1, 1, 2, 5, 0}
    local db = memory():use("sum", sum())
    local answered = {}
    for i, since in ipairs(wanted) do
      db.sum:get({since = since}, function (err, value)
        assert(not err)
        assert(value >= since + 1)
        answered[#answered + 1] = i
      end)
    end
    for _ = 1, 6 do
      db:append {foo = 1}
      flume.step(0)
    end
    fixture.run_until(function () return #answered == #wanted end)
    table.sort(answered)
    assert.same({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, answered)
  end)

  it("that nothing can answer any more raises instead of hanging", function ()
    local db = memory():use("sum", sum())
    assert.error_matches(function () db.sum:get {since = 7} end, "nothing is left")
  end)

  it("waits while the database is not ready, on an empty log too", function ()
    local db = memory {ready = false}
    db:use("sum", sum())
    local calls, cb = fixture.recorder()
    db.sum:get(cb)
    db:append {foo = 1}
    db.sum:get(cb)
    db.sum:get({since = -1}, cb)
    flume.step(0)
    flume.step(0)
    assert.same({0}, results(calls))
    assert.equal(-1, db.sum.since.value)
    db.ready:set(true)
    fixture.run_until(function () return #calls == 3 end)
    assert.equal(1, db.sum:get())
  end)

  it("times out while the database is not ready", function ()
    local db = memory {ready = false}
    db:use("sum", sum())
    assert.equal("ETIMEDOUT", select(3, db.sum:get {timeout = 1}))
  end)

  it("stops again when ready is set back", function ()
    local db = memory():use("sum", sum())
    db:append {foo = 1}
    db.sum:get()
    db.ready:set(false)
    db:append {foo = 1}
    assert.equal("ETIMEDOUT", select(3, db.sum:get {timeout = 1}))
    assert.equal(0, db.sum.since.value)
    db.ready:set(true)
    assert.equal(2, db.sum:get())
  end)

  it("that waits when the database closes gets one ECLOSED", function ()
    local db = memory():use("sum", sum()):use("slow", {
      reducer = function () end, methods = {list = "source"}, list = function () return {1} end,
    })
    local calls, cb = fixture.recorder()
    for i = 0, 3 do
      db.sum:get({since = i}, cb)
      db.sum:get({since = i, timeout = 60000}, cb)
    end
    db.slow:list({since = 3}):next(cb)
    db:close()
    flume.step(0)
    assert.equal(9, #calls)
    for _, call in ipairs(calls) do assert.equal("ECLOSED", call[1].code) end
  end)

  it("that was called before close in the same turn is answered once", function ()
    local db = memory():use("sum", sum())
    local calls, cb = fixture.recorder()
    db:append {foo = 1}
    db.sum:get(cb)
    db.sum:ready(cb)
    db.sum:rebuild(cb)
    db:rebuild(cb)
    db:close()
    flume.step(0)
    assert.equal(4, #calls)
  end)
end)

describe("ready", function ()
  after_each(fixture.clean)

  it("waits until the view has caught up", function ()
    local db = memory():use("sum", sum())
    db:append {{foo = 1}, {foo = 1}}
    assert.is_true(db.sum:ready())
    assert.equal(1, db.sum.since.value)
  end)
end)

describe("progress", function ()
  after_each(fixture.clean)

  it("tells where the view is", function ()
    local db = memory():use("sum", sum())
    db:append {{foo = 1}, {foo = 1}}
    assert.equal(-1, db.sum.progress.value.current)
    assert.equal(1, db.sum.progress.value.target)
    db.sum:ready()
    local done = db.sum.progress.value
    assert.same({-1, 1, 1, 0}, {done.start, done.current, done.target, done.eta})
  end)

  it("is told to listeners", function ()
    local db = memory():use("sum", sum())
    local seen = {}
    local off = db.sum.progress(function (p) seen[#seen + 1] = p.current end)
    db:append {foo = 1}
    fixture.run_until(function () return seen[#seen] == 0 end)
    off()
    assert.equal(-1, seen[1])
  end)

  it("is nil while the database closes, and afterwards", function ()
    local db = memory():use("sum", sum())
    db:close(function () end)
    assert.is_nil(db.sum.progress.value)
    fixture.run_until(function () return db.closed end)
    assert.is_nil(db.sum.progress.value)
    assert.equal(-1, db.sum.since.value)
  end)
end)

describe("a view that raises", function ()
  after_each(fixture.clean)

  local function picky()
    return flume.reduce(1, function (acc, item)
      if item.poison then error "poison" end
      return acc + 1
    end, 0)
  end

  it("stops alone: siblings and appends go on", function ()
    local db = memory():use("bad", picky()):use("good", sum())
    db:append {{foo = 1}, {foo = 2, poison = true}, {foo = 3}}
    assert.equal(6, db.good:get())
    local value, message, code = db.bad:get()
    assert.is_nil(value)
    assert.equal("EVIEW", code)
    assert.truthy(message:find('view "bad" failed at record 1: .*poison'), message)
    assert.equal(3, db:append {foo = 4})
    assert.equal(10, db.good:get())
  end)

  it("answers at once, to every kind of read", function ()
    local db = memory():use("bad", {
      reducer = function () error "no" end, methods = {now = "sync", list = "source"},
      now = function () end, list = function () return {} end,
    })
    db:append {foo = 1}
    local calls, cb = fixture.recorder()
    db.bad:get({since = 100}, cb) -- waiting when it fails
    fixture.run_until(function () return #calls == 1 end)
    assert.equal("EVIEW", calls[1][1].code)
    assert.equal("EVIEW", select(3, db.bad:get {since = 100}))
    assert.equal("EVIEW", select(3, db.bad:get {since = -1}))
    assert.equal("EVIEW", select(3, db.bad:now()))
    assert.equal("EVIEW", select(3, db.bad:ready()))
    assert.equal("EVIEW", select(3, db.bad:list():next()))
  end)

  it("with something else than a string is told all the same", function ()
    local db = memory()
    db:use("a", {reducer = function () error {code = 5} end}):use("b", {reducer = function () error() end})
    db:append {foo = 1}
    assert.equal("EVIEW", select(3, db.a:get()))
    assert.equal("EVIEW", select(3, db.b:get()))
  end)

  it("is rebuilt on request, and fails again at the same record", function ()
    local broken = true
    local runs = 0
    local db = memory():use("bad", flume.reduce(1, function (acc, item)
      runs = runs + 1
      if item.poison and broken then error "poison" end
      return acc + 1
    end, 0))
    db:append {{foo = 1}, {poison = true}, {foo = 1}}
    assert.equal("EVIEW", select(3, db.bad:get()))
    assert.equal("EVIEW", select(3, db.bad:rebuild()))
    assert.equal(4, runs)
    broken = false
    assert.is_true(db.bad:rebuild())
    assert.equal(3, db.bad:get())
  end)

  it("whose state can't be stored lets the database close, and starts over", function ()
    local dir = fixture.dir()
    local db = open(dir):use("bad", flume.reduce(1, function () return print end))
    db:append {foo = 1}
    db.bad:ready()
    db:close()
    db = open(dir):use("bad", flume.reduce(1, function () return "good" end))
    assert.equal(-1, db.bad.since.value)
    assert.equal("good", db.bad:get())
  end)
end)
