-- Views side by side: they share one pass over the log, and none holds up another, an append or a read.
-- Runs alone: the time of appends and reads is measured.

local child = require "tests.support.child"
local core = require "flume.core"
local flume = require "flume"
local fixture = require "tests.support.fixture"

local SUM = "return {initial = 0, reducer = function (acc, item) return acc + item.n end, nr = %d}"

-- A folder of count scripts named v1, v2, ..., by default summing ones.
local function scripts(count, text)
  local folder = fixture.dir()
  for i = 1, count do fixture.write(folder .. "/v" .. i .. ".lua", (text or SUM):format(i)) end
  return folder
end

local function filled(dir, count)
  local db = assert(flume.open(dir, {sync = "os"}))
  for first = 1, count, 1000 do
    local batch = {}
    for i = first, first + 999 do batch[#batch + 1] = {n = i, pad = ("x"):rep(200)} end
    db:append(batch)
  end
  db:close()
  return dir
end

local function blocks_read(dir, folder, count)
  local db = assert(flume.open(dir, {views = folder}))
  for i = 1, count do assert(db["v" .. i]:ready()) end
  local blocks = db._pump:blocks_read()
  db:close()
  return blocks
end

describe("views that are built at once", function ()
  after_each(fixture.clean)

  it("read the log once", function ()
    local dir, other = filled(fixture.dir() .. "/data", 50000), filled(fixture.dir() .. "/data", 50000)
    local alone = blocks_read(dir, scripts(1), 1)
    assert.is_true(alone > 10, alone)
    -- a machine that is busy with something else may let one of them fall behind for a while
    assert.is_true(blocks_read(other, scripts(4), 4) < alone * 1.5)
  end)

  it("don't wait for a slow view", function ()
    local folder = scripts(3)
    fixture.write(folder .. "/slow.lua", [[
      return {initial = 0, reducer = function (acc) for _ = 1, 30000 do end return acc + 1 end}
    ]])
    local dir = filled(fixture.dir() .. "/data", 30000)
    local db = fixture.open_db(dir, {views = folder})
    for i = 1, 3 do assert.equal(30000 * 30001 // 2, db["v" .. i]:get()) end
    assert.is_true(db.slow.since.value < 29999)
    local row = db:status().views.slow
    assert.equal("building", row.state)
    assert.is_true(row.rate > 0 and row.eta > 0 and row.lag > 0)
  end)

  it("let appends and reads go on", function ()
    local folder = scripts(2, [[
      return {initial = 0, nr = %d, reducer = function (acc) for _ = 1, 3000 do end return acc + 1 end}
    ]])
    fixture.write(folder .. "/quick.lua", SUM:format(0))
    local dir = filled(fixture.dir() .. "/data", 20000)
    local db = fixture.open_db(dir, {views = folder})
    assert.is_number(db.quick:get())
    local worst, rounds = 0, 0
    while db.v1.since.value < 19999 and rounds < 200 do
      local start = core.now()
      db:append {n = 1}
      assert.is_number(db.quick:get())
      worst, rounds = math.max(worst, core.now() - start), rounds + 1
    end
    assert.is_true(rounds > 1, rounds)
    assert.is_true(worst < 3000, worst .. " ms") -- a read that waited for the builds would take all their time
  end)
end)

describe("beside a healthy view", function ()
  after_each(fixture.clean)

  it("an endless view and a view beyond its memory limit fail alone", function ()
    local folder = scripts(1)
    fixture.write(folder .. "/endless.lua", "return {reducer = function () while true do end end}")
    fixture.write(folder .. "/hungry.lua", [[
      return {initial = {}, reducer = function (acc, item)
        local t = {}
        for i = 1, 1e9 do t[i] = {item.n, i} end
        return t
      end}
    ]])
    local db = fixture.memory_db {views = folder}
    db:append {n = 1}
    local failed = {}
    db.endless:get(function (err) failed.endless = err end)
    db.hungry:get(function (err) failed.hungry = err end)
    local n = 1
    while not (failed.endless and failed.hungry) do
      n = n + 1
      db:append {n = n}
      assert.equal(n * (n + 1) // 2, db.v1:get())
      assert.equal("live", db:status().views.v1.state)
    end
    assert.truthy(failed.endless.message:find("budget", 1, true), failed.endless.message)
    assert.truthy(failed.hungry.message:find("memory", 1, true), failed.hungry.message)
    local rows = db:status().views
    for _, name in ipairs {"endless", "hungry"} do
      assert.equal("failed", rows[name].state)
      assert.equal(0, rows[name].seq)
      assert.is_string(rows[name].error)
    end
  end)
end)

describe("a build", function ()
  after_each(fixture.clean)

  it("that is killed goes on from its last checkpoint", function ()
    local dir, folder = filled(fixture.dir() .. "/data", 60000), fixture.dir()
    fixture.write(folder .. "/v.lua", [[
      return {version = 1, initial = 0, reducer = function (acc, item) for _ = 1, 8000 do end return acc + item.n end}
    ]])
    local pipe, pid = child.start([[
      local flume = require "flume"
      local dir, folder = ...
      io.stdout:setvbuf "line"
      local db = assert(flume.open(dir, {views = folder}))
      db.v.since(function (since) print(since) end, false)
      db.v:ready()
      print "ready"
    ]], dir, folder)
    local seen
    repeat
      local line = assert(pipe:read "l")
      seen = math.tointeger(tonumber(line)) or error(line)
    until seen >= 54000
    os.execute("kill -9 " .. pid)
    pipe:read "a"
    pipe:close()
    local db = fixture.open_db(dir, {views = folder, ready = false})
    local since = db.v.since.value
    assert.is_true(since > seen // 3, ("it was at %d and goes on from %d"):format(seen, since))
    db.ready:set(true)
    assert.equal(60000 * 60001 // 2, db.v:get())
  end)

  it("is checkpointed although no records follow", function ()
    local dir, folder = fixture.dir() .. "/data", scripts(1)
    local db = fixture.open_db(dir, {views = folder, watch = true}) -- watching keeps the loop running
    db:append {n = 5}
    assert.equal(5, db.v1:get())
    assert.equal(0, db:status().views.v1.size)
    fixture.run_until(function () return db:status().views.v1.size > 0 end)
  end)
end)
