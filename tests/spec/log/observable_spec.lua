-- Observables: values that can be watched.

local flume = require "flume"
local fixture = require "tests.support.fixture"

describe("an observable", function ()
  after_each(fixture.clean)

  it("has a value that can be read in two ways, and set", function ()
    local o = flume.observable(1)
    assert.equal(1, o.value)
    o:set(2)
    assert.same({2, 2}, {o.value, o:get()})
    o:set(nil)
    assert.is_nil(o.value)
    assert.equal("observable: nil", tostring(o))
  end)

  it("tells a listener now and at each change, until it is off", function ()
    local o, seen = flume.observable(1), {}
    local off = o(function (value) seen[#seen + 1] = value end)
    o:set(2)
    o:set(3)
    off()
    off()
    o:set(4)
    assert.same({1, 2, 3}, seen)
  end)

  it("tells a listener nothing now when it has no value, or is asked not to", function ()
    local o, seen = flume.observable(), {}
    o(function (value) seen[#seen + 1] = value end)
    assert.same({}, seen)
    o:set(1)
    o(function (value) seen[#seen + 1] = {value} end, false)
    assert.same({1}, seen)
    o:set(false)
    assert.same({1, false, {false}}, seen)
  end)

  it("tells once", function ()
    local o, seen = flume.observable(1), {}
    o:once(function (value) seen[#seen + 1] = value end)
    o:once(function (value) seen[#seen + 1] = value end, false)
    o:once(function () seen[#seen + 1] = "never" end, false)()
    o:set(2)
    o:set(3)
    assert.same({1, 2}, seen)
  end)

  it("lets listeners come and go while it tells", function ()
    local o, seen = flume.observable(), {}
    local off_b
    o(function ()
      off_b()
      o(function (value) seen[#seen + 1] = "c" .. value end, false)
    end)
    off_b = o(function () seen[#seen + 1] = "b" end)
    o:set(1)
    assert.same({}, seen)
    o:set(2)
    assert.same({"c2"}, seen)
  end)

  it("tells all listeners, whatever one of them raises", function ()
    local o, seen = flume.observable(), {}
    o(function () error("first", 0) end)
    o(function (value) seen[#seen + 1] = value end)
    assert.has_error(function () o:set(1) end, "first")
    assert.same({1}, seen)
  end)

  it("refuses a listener that is no function", function ()
    assert.error_matches(function () flume.observable(1)(5) end, "a function expected")
    assert.error_matches(function () flume.observable(1):once() end, "a function expected")
  end)
end)

describe("the observables of a database", function ()
  after_each(fixture.clean)

  local function memory()
    local db = fixture.keep(flume.new(flume.log.memory()))
    return db:use("count", flume.reduce(1, function (acc) return acc + 1 end, 0))
  end

  it("start where it stands", function ()
    local db = memory()
    assert.same({-1, -1, true}, {db.since.value, db.count.since.value, db.ready.value})
  end)

  it("that are measured can't be set", function ()
    local db = memory()
    for _, o in ipairs {db.since, db.count.since, db.count.progress} do
      assert.error_matches(function () o:set(5) end, "can't be set")
    end
  end)

  it("ready tells when it is set", function ()
    local db, seen = memory(), {}
    db.ready(function (value) seen[#seen + 1] = value end)
    db.ready:set(false)
    db.ready:set(true)
    assert.same({true, false, true}, seen)
  end)

  it("since of a view follows the log's, and is never ahead of it", function ()
    local db, last = memory(), nil
    local off = db.count.since(function (since)
      assert(since <= db.since.value)
      last = since
    end)
    for _ = 1, 20 do db:append {n = 1} end
    fixture.run_until(function () return last == 19 end)
    off()
    assert.equal(20, db.count:get {since = -1})
  end)

  it("since only grows, but for a rebuild", function ()
    local db, seen = memory(), {}
    for _ = 1, 20 do db:append {n = 1} end
    db.count:ready()
    local off = db.count.since(function (since) seen[#seen + 1] = since end, false)
    db.count:rebuild()
    fixture.run_until(function () return seen[#seen] == 19 end)
    off()
  end)

  it("let listeners make blocking calls", function ()
    local db, seen = memory(), nil
    db.since:once(function () seen = db.count:get() end, false)
    db:append {n = 1}
    fixture.run_until(function () return seen end)
    assert.equal(1, seen)
  end)

  it("raise what a listener raises from the loop, and tell the others", function ()
    local db, seen = memory(), nil
    db.since:once(function () error "listener" end, false)
    db.since:once(function (since) seen = since end, false)
    db:append {n = 1}
    assert.error_matches(function () fixture.run_until(function () return false end) end, "listener")
    assert.equal(0, seen)
  end)
end)
