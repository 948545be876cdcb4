-- Together with luv: one loop for both. luv has to be loaded before flume, so each test is a program of its own.

local child = require "tests.support.child"
local fixture = require "tests.support.fixture"

local PRELUDE = [[
  local uv = require "luv"
  local flume = require "flume"
  local db = flume.new(flume.log.memory())
  db:use("sum", flume.reduce(1, function (acc, item) return acc + item.n end, 0))
]]

local function run(source)
  local text, ok = child.run(PRELUDE .. source)
  return text:gsub("%s+$", ""), ok
end

describe("with luv", function ()
  after_each(fixture.clean)

  it("timers and callbacks take turns under uv.run", function ()
    local text, ok = run [[
      local ticks, appended = 0, 0
      local timer = uv.new_timer()
      timer:start(0, 1, function ()
        ticks = ticks + 1
        db:append({n = 1}, function (err)
          assert(not err)
          appended = appended + 1
          if ticks < 5 then return end
          timer:close()
          db.sum:get(function (_, sum)
            print(ticks == appended and sum == ticks and flume.loop().running())
            db:close(function () print "closed" end)
          end)
        end)
      end)
      uv.run()
      print(flume.loop().running())
    ]]
    assert.equal("true\nclosed\nfalse", text)
    assert.is_true(ok)
  end)

  it("blocking calls run luv's timers meanwhile", function ()
    local text, ok = run [[
      local fired = 0
      local timer = uv.new_timer()
      timer:start(1, 1, function ()
        fired = fired + 1
        if fired == 3 then db:append({n = 5}, function () end) timer:close() end
      end)
      print(db.sum:get {since = 0}, fired)
      db:close()
      uv.run()
    ]]
    assert.equal("5\t3", text)
    assert.is_true(ok)
  end)

  it("flume.run ends when luv has nothing left either", function ()
    local text = run [[
      local timer = uv.new_timer()
      timer:start(5, 0, function () print "tick" timer:close() end)
      flume.run()
      print "end"
    ]]
    assert.equal("tick\nend", text)
  end)

  it("tasks wait without blocking luv", function ()
    local text = run [[
      flume.spawn(function ()
        print(db.sum:get {since = 1})
        db:close()
      end)
      local timer = uv.new_timer()
      local n = 0
      timer:start(1, 1, function ()
        n = n + 1
        db:append({n = n}, function () end)
        if n == 2 then timer:close() end
      end)
      uv.run()
    ]]
    assert.equal("3", text)
  end)

  it("a call that would block luv's running loop is an error", function ()
    local text = run [[
      local timer = uv.new_timer()
      timer:start(0, 0, function ()
        timer:close()
        print(pcall(function () return db.sum:get {since = 0} end))
        print(pcall(flume.step))
      end)
      uv.run()
      db:close()
    ]]
    assert.truthy(text:find "false\t.*would block the running event loop", text)
    assert.truthy(text:find "false\t.*running already", text)
  end)

  it("an error in a callback under uv.run is said, and the loop goes on", function ()
    local text = run [[
      db:append({n = 1}, function () error "unheard" end)
      db:append({n = 1}, function () print "next" end)
      uv.run()
    ]]
    assert.truthy(text:find "unheard", text)
    assert.truthy(text:find "next", text)
  end)

  it("a database that was not closed does no harm at exit", function ()
    local text, ok = run [[
      db:use("script", arg[0]:match "^(.*)/" .. "/v.lua")
    ]]
    assert.is_false(ok)
    assert.truthy(text:find "no such file", text)
    text, ok = run [[
      local timer = uv.new_timer()
      timer:start(100000, 0, function () end)
      db:append({n = 1}, function () end)
      db.sum:get(function () end)
      print "end"
    ]]
    assert.equal("end", text)
    assert.is_true(ok)
  end)
end)

describe("without luv", function ()
  after_each(fixture.clean)

  it("a program that ends while a version is being built prints nothing", function ()
    local dir, folder = fixture.dir() .. "/data", fixture.dir()
    for version = 1, 8 do
      fixture.write(folder .. "/v.lua",
        ("return {version = %d, initial = 0, reducer = function (acc) return acc + 1 end}"):format(version))
      local text, ok = child.run([[
        local flume = require "flume"
        local db = assert(flume.open(arg[1], {views = arg[2]}))
        for n = 1, 100 do db:append {n = n} end
        if arg[3] == "1" then assert(db.v:ready()) end
        for _ = 2, arg[3] do flume.step(0) end
        db.v:get(function () print "too late" end)
      ]], dir, folder, version)
      assert.equal("", text)
      assert.is_true(ok)
    end
  end)

  it("a program that ends without closing exits cleanly", function ()
    local text, ok = child.run([[
      local flume = require "flume"
      local dir = ...
      local db = assert(flume.open(dir .. "/data", {views = dir}))
      db:use("sum", flume.reduce(1, function (acc, item) return acc + item.n end, 0))
      for i = 1, 1000 do db:append({n = i}, function () end) end
      db.sum:get(function () end)
      local stream = db:stream {live = true}
      stream:next(function () end)
      db.script:get(function () end)
      print "end"
    ]], fixture.write(fixture.dir() .. "/script.lua",
      "return {version = 1, reducer = function (acc) return (acc or 0) + 1 end}"):match "^(.*)/")
    assert.equal("end\n", text)
    assert.is_true(ok)
  end)
end)
