-- Calls with a callback, in a task, and blocking; and where errors of callbacks come out.

local child = require "tests.support.child"
local core = require "flume.core"
local flume = require "flume"
local fixture = require "tests.support.fixture"

local function memory()
  local db = fixture.keep(flume.new(flume.log.memory()))
  return db:use("sum", flume.reduce(1, function (acc, item) return acc + item.n end, 0))
end

local function file()
  return fixture.keep(assert(flume.open(fixture.dir())))
end

describe("a blocking call", function ()
  after_each(fixture.clean)

  it("runs the loop until it is done, callbacks of others included", function ()
    local db = file()
    local calls, cb = fixture.recorder()
    db:append({n = 1}, cb)
    assert.equal(1, db:append {n = 2})
    assert.equal(1, #calls)
  end)

  it("works inside a callback", function ()
    local db = memory()
    local result
    db:append({n = 1}, function ()
      db:append {n = 2}
      local seq = db:append {n = 3}
      result = {seq, db.sum:get(), db:get(0).n}
    end)
    fixture.run_until(function () return result end)
    assert.same({2, 6, 1}, result)
  end)

  it("works inside a callback inside a callback", function ()
    local db = file()
    local depth = 0
    local function deeper()
      depth = depth + 1
      if depth < 50 then db:append({n = 1}, deeper) end
      db:sync()
    end
    deeper()
    fixture.run_until(function () return depth == 50 and db.since.value == 48 end)
  end)

  it("where tasks can't yield blocks, if the loop is not running", function ()
    local db = memory()
    db:append {n = 1}
    local got
    flume.spawn(function ()
      ("x"):gsub("x", function () got = db.sum:get() end)
    end)
    assert.equal(1, got)
  end)

  it("from inside the running loop, where it can't wait, is an error and no deadlock", function ()
    local db = memory()
    db:append {n = 1}
    local ok, err
    core.later(function () ok, err = pcall(function () return db.sum:get {since = 5} end) end)
    fixture.run_until(function () return ok ~= nil end)
    assert.is_false(ok)
    assert.truthy(tostring(err):find "would block the running event loop")
  end)
end)

describe("spawn", function ()
  after_each(fixture.clean)

  it("runs until the task first waits", function ()
    local db = memory()
    local steps = {}
    flume.spawn(function (a, b)
      steps[1] = a + b
      db.sum:get {since = 0}
      steps[2] = "later"
    end, 1, 2)
    assert.same({3}, steps)
    db:append {n = 1}
    fixture.run_until(function () return steps[2] end)
  end)

  it("runs tasks side by side", function ()
    local db = file()
    local order = {}
    for i = 1, 5 do
      flume.spawn(function ()
        for j = 1, 3 do
          db:sync()
          order[#order + 1] = i * 10 + j
        end
      end)
    end
    fixture.run_until(function () return #order == 15 end)
    assert.same({11, 21, 31, 41, 51}, {table.unpack(order, 1, 5)})
  end)

  it("lets others run while it appends", function ()
    for _, db in ipairs {file(), memory()} do
      local order = {}
      for name = 1, 3 do
        flume.spawn(function ()
          for i = 1, 20 do
            assert(db:append {n = i})
            order[#order + 1] = name
          end
        end)
      end
      fixture.run_until(function () return #order == 60 end)
      for i = 1, 60 do assert.equal((i - 1) % 3 + 1, order[i]) end
    end
  end)

  it("refuses a value that isn't a function", function ()
    assert.error_matches(function () flume.spawn(5) end, "a function expected")
  end)
end)

describe("a task that is closed while it waits", function ()
  after_each(fixture.clean)

  it("takes its answer with it, and raises nowhere", function ()
    local db = fixture.memory_db()
    local co, came_back = flume.spawn(function ()
      db:append {n = 1}
      error "not reached"
    end), false
    flume.spawn(function ()
      db:append {n = 2}
      came_back = true
    end)
    assert.is_true(coroutine.close(co))
    fixture.run_until(function () return came_back end)
    assert.equal(1, db.since.value)
  end)

  it("ends a run with an error", function ()
    local db = fixture.memory_db()
    local ok, message = pcall(flume.run, function ()
      local co = coroutine.running()
      flume.spawn(function ()
        db:append {n = 1}
        coroutine.close(co)
      end)
      db:append {n = 2}
      db:append {n = 3}
    end)
    assert.is_false(ok)
    assert.equal("the task was closed while it waited", message)
  end)

  it("is not woken by a resume of the caller's", function ()
    local db = fixture.memory_db()
    local seq
    local co = flume.spawn(function () seq = db:append {n = 1} end)
    coroutine.resume(co)
    fixture.run_until(function () return seq end)
    assert.equal(0, seq)
  end)
end)

describe("run", function ()
  after_each(fixture.clean)

  it("gives the results of its function", function ()
    local db = memory()
    local a, b, c = flume.run(function (x)
      db:append {n = x}
      return db.sum:get(), nil, "end"
    end, 7)
    assert.same({7, nil, "end"}, {a, b, c})
  end)

  it("raises its error, with where it came from", function ()
    assert.error_matches(function () flume.run(function () error "inside" end) end, "inside")
    local thrown = {}
    local ok, err = pcall(flume.run, function () error(thrown) end)
    assert.is_false(ok)
    assert.equal(thrown, err)
  end)

  it("without a function runs until nothing is left", function ()
    local db = memory()
    local calls, cb = fixture.recorder()
    for i = 1, 10 do db:append({n = i}, cb) end
    db.sum:get(cb)
    flume.run()
    assert.equal(11, #calls)
  end)

  it("inside a task runs the function there", function ()
    assert.equal(5, flume.run(function () return flume.run(function () return 5 end) end))
  end)

  it("raises when its task waits for what can't happen", function ()
    local db = memory()
    assert.error_matches(function () flume.run(function () db.sum:get {since = 1} end) end, "can't happen")
  end)
end)

describe("step", function ()
  after_each(fixture.clean)

  it("waits no longer than it was told", function ()
    local db = memory()
    db.sum:get({since = 0, timeout = 60000}, function () end)
    local start = core.now()
    flume.step(20)
    assert.is_true(core.now() - start < 20000)
    assert.is_true(flume.step(0))
  end)

  it("tells when nothing is left", function ()
    fixture.run_until(function () return not flume.step(0) end)
  end)

  it("can't be called from inside the loop", function ()
    local calls = {}
    for _, call in ipairs {flume.step, function () flume.run() end} do
      core.later(function () calls[#calls + 1] = {pcall(call)} end)
    end
    fixture.run_until(function () return #calls == 2 end)
    for _, result in ipairs(calls) do
      assert.is_false(result[1])
      assert.truthy(tostring(result[2]):find "running already")
    end
  end)

  it("refuses a value that isn't a time", function ()
    assert.error_matches(function () flume.step "soon" end, "a number of milliseconds")
  end)
end)

describe("an error in a callback", function ()
  after_each(fixture.clean)

  local function boom() error "boom" end

  it("is raised by step", function ()
    local db = memory()
    db:append({n = 1}, boom)
    assert.error_matches(function () fixture.run_until(function () return false end) end, "boom")
  end)

  it("is raised by run", function ()
    local db = memory()
    db:append({n = 1}, boom)
    assert.error_matches(function () flume.run() end, "boom")
  end)

  it("of a task is raised too, also when it came at once", function ()
    flume.spawn(boom)
    assert.error_matches(function () flume.run() end, "boom")
    local db = memory()
    flume.spawn(function ()
      db.sum:get {since = 0}
      boom()
    end)
    db:append {n = 1}
    assert.error_matches(function () flume.run() end, "boom")
  end)

  it("does not take the result of a blocking call along", function ()
    local db = file()
    db:append({n = 1}, boom)
    assert.equal(1, db:append {n = 2})
    assert.is_true(db:sync())
    assert.error_matches(function () flume.step(0) end, "boom")
  end)

  it("does not keep other callbacks from being called", function ()
    local db = memory()
    local calls, cb = fixture.recorder()
    db:append({n = 1}, boom)
    db:append({n = 2}, cb)
    assert.error_matches(function () flume.run() end, "boom")
    flume.run()
    assert.equal(1, #calls)
  end)

  it("that was never raised is written to standard error at exit", function ()
    local text = child.run [[
      local flume = require "flume"
      local db = flume.new(flume.log.memory())
      db:append({n = 1}, function () error "unheard" end)
      db:close()
    ]]
    assert.truthy(text:find "flume: .*unheard", text)
  end)
end)

describe("loop", function ()
  after_each(fixture.clean)

  it("tells when there is something to do", function ()
    local db = memory()
    local loop = flume.loop()
    assert.is_number(loop.fd())
    assert.is_false(loop.running())
    db:append({n = 1}, function () end)
    assert.is_true(loop.alive())
    assert.equal(0, loop.timeout())
    flume.run()
    assert.is_false(loop.alive())
  end)
end)

describe("too much that is pending", function ()
  after_each(fixture.clean)

  local LOGS = {
    memory = function () return flume.log.memory() end,
    file = function () return assert(flume.log.file(fixture.dir() .. "/log", {sync = "os"})) end,
    offset = function () return assert(flume.log.offset(fixture.dir() .. "/log", {sync = "os"})) end,
  }

  for kind, open in pairs(LOGS) do
    it("is refused by calls with a callback, and the memory stays bounded, in a log of kind " .. kind, function ()
      local log = fixture.keep(open())
      local text, refused, appended, taken = ("x"):rep(1 << 20), 0, 0, 0
      for _ = 1, 100 do
        local ok, message, code = log:append(text, function (err)
          assert(not err)
          appended = appended + 1
        end)
        if ok then
          taken = taken + 1
        else
          refused = refused + 1
          assert.equal("EAGAIN", code)
          assert.is_truthy(message:find("of at most 67108864", 1, true))
        end
      end
      assert.is_true(taken >= 60 and taken < 64 and refused == 100 - taken)
      fixture.run_until(function () return appended == taken end)
      assert(log:append(text)) -- there is room again
      local count = 0
      for _ in log:stream() do count = count + 1 end
      assert.equal(taken + 1, count)
    end)

    it("makes calls without a callback wait, in a log of kind " .. kind, function ()
      local log = fixture.keep(open())
      local text, done, failure = ("x"):rep(1 << 20), 0, nil
      for n = 1, 100 do
        flume.spawn(function ()
          local seq, message = log:append {n = n, text = text}
          if not seq then failure = message end
          done = done + 1
        end)
      end
      fixture.run_until(function () return done == 100 end)
      assert.is_nil(failure)
      local n = 0
      for _, record in log:stream() do
        n = n + 1
        assert.equal(n, record.n) -- in the order of the calls
      end
      assert.equal(100, n)
    end)
  end

  it("may be one batch that is larger than all else", function ()
    local log = fixture.keep(flume.log.memory())
    local batch = {}
    for i = 1, 70 do batch[i] = ("x"):rep(1 << 20) end
    assert.equal(69, log:append(batch))
    local err
    log:append(batch, function (e) err = e end)
    assert.equal("EAGAIN", select(3, log:append("small", error)))
    assert.equal("EAGAIN", select(3, log:append_json("1", error)))
    assert.equal("EAGAIN", select(3, log:del(0, error)))
    fixture.run_until(function () return log.since.value == 139 end)
    flume.run()
    assert.is_nil(err)
    assert(log:del(0))
  end)
end)
