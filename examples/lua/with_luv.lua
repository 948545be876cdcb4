-- With luv: if luv is loaded before flume, both use luv's loop.   lua5.4 with_luv.lua

local uv = require "luv"
local flume = require "flume"

local db = assert(flume.new(flume.log.memory()))
db:use("count", flume.reduce(1, function (n) return n + 1 end, 0))

-- Under uv.run no call may block, so calls take a callback.
local timer = uv.new_timer()
local ticks = 0
timer:start(0, 10, function ()
  ticks = ticks + 1
  db:append({tick = ticks}, function (err, seq)
    assert(not err, err)
    print("appended", seq)
  end)
  if ticks == 2 then timer:close() end
end)

-- Or a task makes the calls: it waits without blocking the loop.
flume.spawn(function ()
  print("count", db.count:get {since = 1})           -- waits for the record with seq 1
  db:close()
end)

uv.run()
--> appended	0
--> appended	1
--> count	2
