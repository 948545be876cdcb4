-- Tasks: in flume.run and flume.spawn a call that has to wait lets others go on.   lua5.4 tasks.lua

local flume = require "flume"

flume.run(function ()
  local db = assert(flume.new(flume.log.memory()))

  -- Prints what others append, and ends with the third record.
  local reader = flume.spawn(function ()
    for seq, value in db:stream {live = true} do
      print(("record %d: %s"):format(seq, value))
      if seq == 2 then break end
    end
  end)

  -- Another one asks for a sum, and waits until there are three records.
  db:use("sum", flume.reduce(1, function (sum, n) return sum + n end, 0))
  local asker = flume.spawn(function () print("sum", db.sum:get {since = 2}) end)

  for n = 10, 30, 10 do db:append(n) end -- each lets the others run until it is stored
  --> record 0: 10
  --> record 1: 20
  --> record 2: 30
  print(coroutine.status(reader), coroutine.status(asker)) --> dead	suspended
end)
flume.run() -- until nothing is left to do
--> sum	60
