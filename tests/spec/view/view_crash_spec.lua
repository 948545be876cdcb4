-- A writer that is killed in the midst of appending: what was acknowledged is there, and the views belong to it.

local child = require "tests.support.child"
local flume = require "flume"
local fixture = require "tests.support.fixture"

local WRITER = [[
  local flume = require "flume"
  local dir, script, deletes = ...
  io.stdout:setvbuf "line"
  local db = assert(flume.open(dir))
  db:use("inline", flume.reduce(1, function (acc, item)
    return {sum = acc.sum + item.n, count = acc.count + 1}
  end, {sum = 0, count = 0}))
  db:use("script", script)
  while true do
    local batch = {}
    for i = 1, math.random(5) do batch[i] = {n = math.random(1000), pad = ("x"):rep(math.random(200))} end
    print(assert(db:append(#batch == 1 and batch[1] or batch)))
    if deletes == "true" and math.random(4) == 1 then assert(db:del(math.random(0, db.since.value))) end
    if math.random(4) == 1 then db.inline:get() end
    if math.random(4) == 1 then db.script:get() end
  end
]]

local SCRIPT = [[return {version = 1, initial = {sum = 0, count = 0}, reducer = function (acc, item)
  return {sum = acc.sum + item.n, count = acc.count + 1}
end}]]

-- Runs the writer until it has acknowledged some, and kills it; the last acknowledged seq.
local function kill_in_the_midst(dir, script, deletes, acknowledgements)
  local pipe, pid = child.start(WRITER, dir, script, deletes)
  local last
  for _ = 1, acknowledgements do last = assert(math.tointeger(tonumber(pipe:read "l"))) end
  os.execute("kill -9 " .. pid)
  for line in pipe:lines() do last = math.tointeger(tonumber(line)) or last end
  pipe:close()
  return last
end

local function fold(db, last)
  local acc = {sum = 0, count = 0}
  if last < 0 then return acc end
  for _, item in db:stream {lte = last} do acc = {sum = acc.sum + item.n, count = acc.count + 1} end
  return acc
end

-- What is left of one kill. A view whose last commit is before a delete learns of it when it goes on, and not before.
local function check(dir, script, deletes, last)
  local db = fixture.keep(assert(flume.open(dir, {ready = false})))
  assert.is_true(db.since.value >= last, "acknowledged " .. last .. ", there is " .. db.since.value)
  db:use("inline", flume.reduce(1, function (acc, item)
    return {sum = acc.sum + item.n, count = acc.count + 1}
  end, {sum = 0, count = 0}))
  db:use("script", script)
  if not deletes then
    for _, view in ipairs {db.inline, db.script} do
      assert.same(fold(db, view.since.value), view:get {since = -1})
    end
  end
  db.ready:set(true)
  for _, view in ipairs {db.inline, db.script} do
    assert.same(fold(db, db.since.value), view:get())
  end
  db:close()
end

-- FLUME_CRASH=all: more of them.
local LOGS, ROUNDS = 1, 6
if os.getenv "FLUME_CRASH" == "all" then LOGS, ROUNDS = 10, 10 end

describe("after kill -9", function ()
  after_each(fixture.clean)

  local function each_round(deletes)
    for _ = 1, LOGS do
      local dir = fixture.dir()
      local script = fixture.write(fixture.dir() .. "/script.lua", SCRIPT)
      for round = 1, ROUNDS do
        local last = kill_in_the_midst(dir, script, deletes, math.random(round * 40))
        check(dir, script, deletes, last)
      end
    end
  end

  it("all that was acknowledged is there, and views equal the fold up to their since", function ()
    each_round(false)
  end)

  it("all that was acknowledged is there, with deletes", function ()
    each_round(true)
  end)
end)
