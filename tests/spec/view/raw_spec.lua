-- Views by the raw protocol: create(log, name) returns {since, create_sink, destroy, close, methods}.

local flume = require "flume"
local fixture = require "tests.support.fixture"

local function memory(options)
  return fixture.keep(assert(flume.new(flume.log.memory(), options)))
end

-- A raw view that keeps the seqs it was given, and writes down what is called in the list `calls`.
local function listing(calls, changes)
  return {
    create = function (log, name)
      local seqs = {}
      calls[#calls + 1] = {"create", log, name}
      local raw = {
        since = flume.observable(-1),
        methods = {list = "async", now = "sync", each = "source"},
        list = function () return table.move(seqs, 1, #seqs, 1, {}) end,
        now = function () return #seqs end,
        each = function () return seqs end,
      }
      function raw.create_sink()
        calls[#calls + 1] = {"create_sink"}
        return function (_, seq)
          seqs[#seqs + 1] = seq
          raw.since:set(seq)
        end
      end
      function raw.destroy(cb)
        calls[#calls + 1] = {"destroy"}
        for i = #seqs, 1, -1 do seqs[i] = nil end
        raw.since:set(-1)
        cb()
      end
      function raw.close(cb)
        calls[#calls + 1] = {"close"}
        cb()
      end
      for key, value in pairs(changes or {}) do raw[key] = value end
      return raw
    end,
  }
end

local function names(calls)
  local list = {}
  for i, call in ipairs(calls) do list[i] = call[1] end
  return list
end

describe("a raw view", function ()
  after_each(fixture.clean)

  it("is created with the log and its name, and fed", function ()
    local calls = {}
    local db = memory():use("raw", listing(calls))
    assert.equal(db.log, calls[1][2])
    assert.equal("raw", calls[1][3])
    db:append {{n = 1}, {n = 2}, {n = 3}}
    assert.same({0, 1, 2}, db.raw:list())
    assert.equal(3, db.raw:now())
    local got = {}
    for seq in db.raw:each() do got[#got + 1] = seq end
    assert.same({0, 1, 2}, got)
    assert.equal(2, db.raw.since.value)
  end)

  it("is fed from where its since is", function ()
    local log = flume.log.memory()
    log:append {{n = 1}, {n = 2}, {n = 3}}
    for i, since in ipairs {1, flume.observable(1), function () return 1 end} do
      local seqs = {}
      local db = fixture.keep(flume.new(log))
      db:use("raw", listing({}, {
        since = since, create_sink = function () return function (_, seq) seqs[#seqs + 1] = seq end end,
      }))
      fixture.run_until(function () return #seqs > 0 end)
      assert.same({2}, seqs, "case " .. i)
    end
  end)

  it("that lacks something says what", function ()
    for _, field in ipairs {"since", "create_sink", "destroy", "close", "methods"} do
      local broken = {create = function ()
        local raw = listing({}).create()
        raw[field] = nil
        return raw
      end}
      assert.error_matches(function () memory():use("raw", broken) end, "has no " .. field)
    end
    assert.error_matches(function () memory():use("raw", {create = function () end}) end, "must return a table")
    assert.error_matches(function () memory():use("raw", listing({}, {close = 5})) end, "close must be a function")
    assert.error_matches(function () memory():use("raw", listing({}, {methods = 5})) end, "methods must be a table")
    assert.error_matches(function () memory():use("raw", listing({}, {methods = {size = "async"}})) end, "size")
    assert.error_matches(function ()
      memory():use("raw", listing({}, {create_sink = function () end}))
    end, "create_sink must return a function")
  end)

  it("may have no methods", function ()
    local db = memory():use("raw", listing({}, {methods = {}}))
    db:append {n = 1}
    assert.is_true(db.raw:ready())
    assert.is_nil(db.raw.list)
  end)

  it("is destroyed and fed from the start by rebuild", function ()
    local calls = {}
    local db = memory():use("raw", listing(calls))
    db:append {{n = 1}, {n = 2}}
    db.raw:ready()
    assert.is_true(db.raw:rebuild())
    assert.same({"create", "create_sink", "destroy", "create_sink"}, names(calls))
    assert.same({0, 1}, db.raw:list())
  end)

  it("is destroyed and fed from the start when a record that it consumed is deleted", function ()
    local calls = {}
    local db = memory():use("raw", listing(calls))
    db:append {{n = 1}, {n = 2}, {n = 3}}
    db.raw:ready()
    db:del(1)
    assert.same({0, 2}, db.raw:list())
    assert.same({"create", "create_sink", "destroy", "create_sink"}, names(calls))
  end)

  it("whose own since lags keeps reads waiting", function ()
    local since = flume.observable(-1)
    local db = memory():use("raw", listing({}, {
      since = since, create_sink = function () return function () end end,
    }))
    local calls, cb = fixture.recorder()
    db:append {{n = 1}, {n = 2}}
    db.raw:list(cb)
    db.raw:list({since = 0}, cb)
    for _ = 1, 5 do flume.step(0) end
    assert.equal(0, #calls)
    since:set(0)
    fixture.run_until(function () return #calls == 1 end)
    since:set(1)
    fixture.run_until(function () return #calls == 2 end)
  end)

  it("whose own since lags times out, and closes with one ECLOSED", function ()
    local db = memory():use("raw", listing({}, {create_sink = function () return function () end end}))
    db:append {n = 1}
    assert.equal("ETIMEDOUT", select(3, db.raw:list {timeout = 1}))
    local calls, cb = fixture.recorder()
    db.raw:list(cb)
    db.raw:list({timeout = 60000}, cb)
    for _ = 1, 5 do flume.step(0) end
    db:close()
    flume.step(0)
    assert.same({"ECLOSED", "ECLOSED"}, {calls[1][1].code, calls[2][1].code})
    assert.equal(2, #calls)
  end)

  it("that raises in its sink fails alone", function ()
    local db = memory():use("raw", listing({}, {create_sink = function () return function () error "full" end end}))
    db:use("count", flume.reduce(1, function (acc) return acc + 1 end, 0))
    db:append {n = 1}
    local _, message, code = db.raw:list()
    assert.equal("EVIEW", code)
    assert.truthy(message:find "full")
    assert.equal(1, db.count:get())
  end)

  it("is closed once, with the database", function ()
    local calls = {}
    local db = memory():use("raw", listing(calls))
    db:close()
    db:close()
    assert.same({"create", "create_sink", "close"}, names(calls))
  end)

  it("may answer destroy and close later", function ()
    local later
    local db = memory():use("raw", listing({}, {
      destroy = function (cb) later = cb end,
      close = function (cb) later = cb end,
    }))
    local calls, cb = fixture.recorder()
    db.raw:rebuild(cb)
    flume.step(0)
    assert.equal(0, #calls)
    later()
    fixture.run_until(function () return #calls == 1 end)
    db:close(cb)
    flume.step(0)
    assert.is_false(db.closed)
    later()
    fixture.run_until(function () return #calls == 2 end)
    assert.is_true(db.closed)
  end)

  it("that can't destroy fails the rebuild", function ()
    local db = memory():use("raw", listing({}, {destroy = function (cb) cb "no" end}))
    local ok, message, code = db.raw:rebuild()
    assert.is_nil(ok)
    assert.equal("EVIEW", code)
    assert.truthy(message:find "no")
  end)
end)
