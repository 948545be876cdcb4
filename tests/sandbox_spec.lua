-- What a script can't do to the thread that it runs on: each of these ends with the view's own error, soon, while the
-- database and the views beside it go on.

local core = require "flume.core"
local flume = require "flume"
local world = require "tests.support.world"

local SOON_MS = 5000 -- each takes a few milliseconds, on a machine that does nothing else

-- A database with a view "v", which has a sibling, of a reducer with the body.
local function with_reducer(body, options)
  local db = world.memory_db()
  db:use("good", flume.reduce(1, function (n) return n + 1 end, 0))
  local source = ("return {version = 1, initial = 0, reducer = function (acc, item, seq) %s end}"):format(body)
  return db:use("v", world.write(world.dir() .. "/v.lua", source), options)
end

-- The error that the view's reads answer after one record.
local function failure_of(body, options)
  local db = with_reducer(body, options)
  local start = core.now()
  db:append {n = 1}
  local value, message, code = db.v:get()
  assert.is_true(core.now() - start < SOON_MS, "it took " .. core.now() - start .. " ms")
  assert.is_nil(value)
  assert.equal("EVIEW", code)
  assert.equal(1, db.good:get())
  db:append {n = 2}
  assert.equal(2, db.good:get())
  return message
end

local BUDGET = {budget = 10 * 1000 * 1000, memory = 64 << 20}

local function describe_cases(what, cases, wanted)
  describe(what, function ()
    after_each(world.clean)

    for name, body in pairs(cases) do
      it(name, function ()
        local message = failure_of(body, BUDGET)
        assert.is_truthy(message:find(wanted), message)
      end)
    end
  end)
end

describe_cases("a pattern that takes too long", {
  ["with many repetitions"] = "return string.find(('a'):rep(40), ('.-'):rep(8) .. 'b')",
  ["as a method"] = "return ('a'):rep(40):match(('a*'):rep(8) .. 'b')",
  ["in gmatch"] = "for x in ('a'):rep(100000):gmatch('.-.-b') do return x end",
  ["in gsub"] = "return (('a'):rep(100000):gsub('.-.-b', ''))",
  ["with a long set"] = "return ('a'):rep(1000000):find('[' .. ('b'):rep(1000000) .. ']')",
  ["with balances"] = "return ('('):rep(1000000):find('%b()')",
  ["with references"] = "return ('a'):rep(1000000):find('(.*)%1b')",
  ["with a frontier"] = "return ('a'):rep(1000000):find('%f[' .. ('b'):rep(1000000) .. ']')",
  ["again and again"] = "while true do ('a'):rep(100000):find('b') end",
}, "budget")
