-- Flume's loop looked after by another one, which knows nothing but flume.loop(): its descriptor and its time.

local flume = require "flume"
local fixture = require "tests.support.fixture"

local PATIENCE_S = 30

local ok, socket = pcall(require, "socket")
local case = ok and it or pending

local loop = flume.loop()
local descriptor = {getfd = function () return loop.fd() end, dirty = function () return false end}

-- Steps when the descriptor is readable or the time has come, and only then. A wait that nothing ends fails.
local function drive_until(fn)
  flume.step(0)
  while not fn() do
    local timeout_ms = loop:timeout()
    local readable = socket.select({descriptor}, nil, timeout_ms >= 0 and timeout_ms / 1000 or PATIENCE_S)
    if timeout_ms < 0 and not readable[1] then error("nothing woke it up", 2) end
    flume.step(0)
  end
end

local function counting(dir)
  return fixture.write(dir .. "/views/count.lua", [[
    return {version = 1, initial = 0, reducer = function (n) return n + 1 end}
  ]])
end

describe("flume's loop in another", function ()
  after_each(fixture.clean)

  case("ends appends to a file and reads of a view on a worker thread", function ()
    local dir = fixture.dir()
    counting(dir)
    local db = fixture.open_db(dir .. "/data", {views = dir .. "/views"})
    local count
    for i = 1, 50 do db:append({n = i}, function (err) assert(not err) end) end
    db.count:get({since = 49}, function (err, n) count = err or n end)
    drive_until(function () return count end)
    assert.equal(50, count)
  end)

  case("wakes a live stream for each append", function ()
    local db = fixture.memory_db()
    local stream, seen = fixture.keep(db:stream {live = true}), {}
    local function take()
      stream:next(function (_, seq)
        seen[#seen + 1] = seq
        if #seen < 3 then take() end
      end)
    end
    take()
    for n = 1, 3 do
      db:append(n, function () end)
      drive_until(function () return #seen == n end)
    end
    assert.same({0, 1, 2}, seen)
  end)

  case("lets a read time out", function ()
    local db = fixture.memory_db()
    db:use("count", flume.reduce(1, function (n) return n + 1 end, 0))
    local code
    db.count:get({since = 5, timeout = 20}, function (err) code = err.code end)
    drive_until(function () return code end)
    assert.equal("ETIMEDOUT", code)
  end)

  case("closes a database", function ()
    local db = assert(flume.open(fixture.dir() .. "/data"))
    local closed
    db:append(1, function () end)
    db:close(function () closed = true end)
    drive_until(function () return closed end)
    assert.equal(true, db.closed)
  end)

  it("tells whether it is running", function ()
    local db, inside = fixture.memory_db(), nil
    db:append(1, function () inside = loop:running() end)
    fixture.run_until(function () return inside ~= nil end)
    assert.same({true, false}, {inside, loop:running()})
  end)
end)
