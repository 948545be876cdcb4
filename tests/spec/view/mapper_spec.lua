-- The mapper: a function or a script that values go through before anybody sees them.

local flume = require "flume"
local fixture = require "tests.support.fixture"

local SCRIPT = "return function (value, seq) return {doubled = value.n * 2, seq = seq} end"

local function double(value, seq)
  return {doubled = value.n * 2, seq = seq}
end

local function sum()
  return flume.reduce(1, function (acc, item, seq)
    assert(item.seq == seq)
    return acc + item.doubled
  end, 0)
end

local function memory(mapper, options)
  options = options or {}
  options.mapper = mapper
  return fixture.keep(assert(flume.new(flume.log.memory(), options)))
end

local function both(what, test)
  it(what .. ", as a function", function () test(double) end)
  it(what .. ", as a script", function () test(fixture.write(fixture.dir() .. "/mapper.lua", SCRIPT)) end)
end

describe("a mapper", function ()
  after_each(fixture.clean)

  both("is seen by get", function (mapper)
    local db = memory(mapper)
    db:append {n = 4}
    assert.same({doubled = 8, seq = 0}, db:get(0))
    assert.equal("ENOENT", select(3, db:get(1)))
    local calls, cb = fixture.recorder()
    db:get(0, cb)
    fixture.run_until(function () return #calls == 1 end)
    assert.same({doubled = 8, seq = 0}, calls[1][2])
  end)

  both("is seen by streams, live ones too", function (mapper)
    local db = memory(mapper)
    db:append {{n = 1}, {n = 2}}
    assert.same({{0, {doubled = 2, seq = 0}}, {1, {doubled = 4, seq = 1}}}, fixture.collect(db:stream()))
    local calls, cb = fixture.recorder()
    local s <close> = db:stream {live = true, old = false, seqs = false}
    s:next(cb)
    db:append {n = 3}
    fixture.run_until(function () return #calls == 1 end)
    assert.same({doubled = 6, seq = 2}, calls[1][2])
  end)

  both("is seen by inline views", function (mapper)
    local db = memory(mapper):use("sum", sum())
    db:append {{n = 1}, {n = 2}}
    assert.equal(6, db.sum:get())
  end)

  both("is seen by script views", function (mapper)
    local folder = fixture.dir()
    fixture.write(folder .. "/sum.lua",
      "return {version = 1, initial = 0, reducer = function (acc, item) return acc + item.doubled end}")
    local db = memory(mapper, {views = folder})
    db:append {{n = 1}, {n = 2}}
    assert.equal(6, db.sum:get())
  end)

  both("does not change what is stored", function (mapper)
    local log = flume.log.memory()
    local db = fixture.keep(assert(flume.new(log, {mapper = mapper})))
    db:append {n = 1}
    assert.same({n = 1}, log:get(0))
  end)

  it("may be a function when views are scripts, with a state beyond it", function ()
    local seen = 0
    local db = memory(function (value)
      seen = seen + 1
      return value
    end):use("count", fixture.write(fixture.dir() .. "/count.lua",
      "return {version = 1, reducer = function (acc) return (acc or 0) + 1 end}"))
    db:append {{n = 1}, {n = 2}}
    assert.equal(2, db.count:get())
    assert.equal(2, seen)
  end)

  it("that gives nil ends no stream", function ()
    local db = memory(function (value) return value.n == 2 and value.n or nil end)
    db:append {{n = 1}, {n = 2}}
    assert.same({{flume.null}, {2}}, fixture.collect(db:stream {seqs = false}))
    assert.equal(2, #fixture.collect(db:stream()))
  end)

  it("that raises fails the read, and the view at that record", function ()
    local db = memory(function (value)
      if value.n == 2 then error "two" end
      return {doubled = 0, seq = 0}
    end):use("sum", sum())
    db:append {{n = 1}, {n = 2}}
    assert.same({doubled = 0, seq = 0}, db:get(0))
    local value, message, code = db:get(1)
    assert.is_nil(value)
    assert.equal("EINVAL", code)
    assert.truthy(message:find "record 1.*two", message)
    local ok, raised = pcall(function () fixture.collect(db:stream()) end)
    assert.is_false(ok)
    assert.truthy(raised:find "record 1.*two", raised)
    assert.truthy(select(2, db.sum:get()):find "record 1.*two")
  end)

  it("that raises in a live stream answers the next that waits", function ()
    local db = memory(function () error "no" end)
    local calls, cb = fixture.recorder()
    local s <close> = db:stream {live = true}
    s:next(cb)
    db:append {n = 1}
    fixture.run_until(function () return #calls == 1 end)
    assert.equal("EINVAL", calls[1][1].code)
  end)

  it("as a script belongs to the fingerprint of script views", function ()
    local dir, folder = fixture.dir() .. "/data", fixture.dir()
    local mapper = fixture.dir() .. "/mapper.lua"
    fixture.write(folder .. "/n.lua", "return {initial = 0, reducer = function (acc, item) return acc + item end}")
    local function reopen(source)
      fixture.write(mapper, source)
      local db = fixture.keep(assert(flume.open(dir, {views = folder, mapper = mapper})))
      local since = db.n.progress:get().start
      db:append {n = 1}
      local value = db.n:get()
      db:close()
      return {since, value}
    end
    assert.same({-1, 1}, reopen "return function (v) return v.n end")
    assert.same({0, 2}, reopen "return function (v) return v.n end -- same")
    assert.same({-1, 30}, reopen "return function (v) return v.n * 10 end")
  end)

  it("as a script lives in the sandbox, with modules beside it", function ()
    local folder = fixture.dir()
    fixture.write(folder .. "/factor.lua", "return 3")
    local db = memory(fixture.write(folder .. "/mapper.lua", [[
      local factor = require "factor"
      return function (v) return io == nil and v.n * factor end
    ]])):use("sum", flume.reduce(1, function (acc, item) return acc + item end, 0))
    db:append {n = 2}
    assert.equal(6, db:get(0))
    assert.equal(6, db.sum:get())
  end)

  it("that can't be loaded is told at open", function ()
    local function open(source) return flume.new(flume.log.memory(), {mapper = source}) end
    local _, message, code = open "no.such.mapper"
    assert.equal("ENOENT", code)
    assert.truthy(message:find "mapper")
    local wrong = {["return {"] = "expected", ["return 5"] = "must return a function", ["error 'x'"] = "x"}
    for source, wanted in pairs(wrong) do
      local db, why, errno = open(fixture.write(fixture.dir() .. "/mapper.lua", source))
      assert.is_nil(db)
      assert.equal("EINVAL", errno)
      assert.truthy(why:find(wanted, 1, true), why)
    end
    assert.error_matches(function () open(5) end, "mapper must be function or string")
  end)
end)
