-- A database in the folder that is given, or in "data": a log, a view, a question.   lua5.4 first.lua [FOLDER]

local flume = require "flume"

local db <close> = assert(flume.open(... or "data"))

-- How much each account has. The view is built anew when its version changes; otherwise it goes on where it was.
db:use("balance", flume.reduce(1, function (sums, item)
  sums[item.account] = (sums[item.account] or 0) + item.amount
  return sums
end, {}))

-- On disk when append returns. An array is one batch: after a crash all of it is there or none.
local seq = assert(db:append {account = "ada", amount = 100})
assert(db:append {{account = "ada", amount = -30}, {account = "bob", amount = 30}})

-- The read waits until the view has come to where the log is.
local sums = assert(db.balance:get())
print(sums.ada, sums.bob)                            --> 70	30

for n, item in db:stream {gt = seq} do
  print(n, item.account, item.amount)
end
--> 1	ada	-30
--> 2	bob	30

-- What can go wrong in good order is nil, message, code.
print(select(3, db:get(99)))                         --> ENOENT
