-- Tasks: inside flume.run and flume.spawn a call that waits lets the other tasks run.   lua5.4 tasks.lua

local flume = require "flume"

flume.run(function ()
  local db = assert(flume.new(flume.log.memory()))

  -- This task prints the records that are appended, and ends after the third.
  local reader = flume.spawn(function ()
    for seq, value in db:stream {live = true} do
      print(("record %d: %s"):format(seq, value))
      if seq == 2 then break end
    end
  end)

  -- This task reads the sum, and waits for the third record (seq 2).
  db:use("sum", flume.reduce(1, function (sum, n) return sum + n end, 0))
  local asker = flume.spawn(function () print("sum", db.sum:get {since = 2}) end)

  for n = 10, 30, 10 do db:append(n) end -- the other tasks run until the record is stored
  --> record 0: 10
  --> record 1: 20
  --> record 2: 30
  print(coroutine.status(reader), coroutine.status(asker)) --> dead	suspended
end)
flume.run() -- until no work is left
--> sum	60
