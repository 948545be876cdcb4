-- With busted: a database in memory for each test. Calls block until they are done.
--
--   busted --lua=lua5.4 with_busted_spec.lua

local flume = require "flume"

local function shop(db)
  db:use("sold", flume.reduce(1, function (sold, order)
    sold[order.what] = (sold[order.what] or 0) + order.count
    return sold
  end, {}))
  return db
end

describe("the shop", function ()
  local db

  before_each(function () db = shop(flume.new(flume.log.memory())) end)
  after_each(function () db:close() end)

  it("adds up what was sold", function ()
    db:append {what = "tea", count = 2}
    db:append {what = "tea", count = 1}
    assert.same({tea = 3}, db.sold:get())
  end)

  it("forgets an order that was deleted", function ()
    local seq = db:append {what = "tea", count = 2}
    db:append {what = "cake", count = 1}
    db:del(seq)
    assert.same({cake = 1}, db.sold:get())
  end)
end)
