-- A database in FOLDER, by default "data": a log, a view, an answer.   lua5.4 first.lua [FOLDER]

local flume = require "flume"

local db <close> = assert(flume.open(... or "data"))

-- The balance of each account. A new version rebuilds the view; otherwise the view goes on from its last checkpoint.
db:use("balance", flume.reduce(1, function (sums, item)
  sums[item.account] = (sums[item.account] or 0) + item.amount
  return sums
end, {}))

-- The record is on disk when append returns. An array is one batch: after a crash all of its records exist, or none.
local seq = assert(db:append {account = "ada", amount = 100})
assert(db:append {{account = "ada", amount = -30}, {account = "bob", amount = 30}})

-- The read waits until the view has consumed all records that were acknowledged before the call.
local sums = assert(db.balance:get())
print(sums.ada, sums.bob)                            --> 70	30

for n, item in db:stream {gt = seq} do
  print(n, item.account, item.amount)
end
--> 1	ada	-30
--> 2	bob	30

-- An expected failure returns nil, message, code.
print(select(3, db:get(99)))                         --> ENOENT
