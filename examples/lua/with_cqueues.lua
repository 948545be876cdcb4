-- With cqueues: one of its coroutines runs flume's loop; the others wait for results without blocking each other.
--
--   lua5.4 with_cqueues.lua

local cqueues = require "cqueues"
local condition = require "cqueues.condition"
local flume = require "flume"

local loop = flume.loop()
local started = condition.new() -- signalled when a call may have added work to flume's loop

-- Steps flume's loop when its descriptor is readable, its timeout has passed, or a call was started.
local function attend(db)
  while not db.closed do
    flume.step(0)
    local timeout_ms = loop:timeout()
    cqueues.poll({pollfd = loop:fd(), events = "r"}, started, timeout_ms >= 0 and timeout_ms / 1000 or nil)
  end
end

-- wait(db, "append", value) calls object:method(...) and waits for it. Returns its result, or nil, message, code.
local function wait(object, method, ...)
  local finished, results = condition.new(), nil
  local args = table.pack(...)
  args[args.n + 1] = function (...)
    results = table.pack(...)
    finished:signal()
  end
  object[method](object, table.unpack(args, 1, args.n + 1))
  started:signal()
  if not results then finished:wait() end
  if results[1] then return nil, results[1].message, results[1].code end
  return table.unpack(results, 2, results.n)
end

local db = assert(flume.new(flume.log.memory()))
db:use("sum", flume.reduce(1, function (sum, item) return sum + item end, 0))

local queue = cqueues.new()
queue:wrap(attend, db)
queue:wrap(function ()
  print("sum", wait(db.sum, "get", {since = 2}))     -- waits for the record with seq 2
  print("get", wait(db, "get", 7))
  wait(db, "close")
end)
queue:wrap(function ()
  for n = 1, 3 do assert(wait(db, "append", n)) end
end)
assert(queue:loop())
--> sum	6
--> get	nil	no record 7: the log ends at 2	ENOENT
