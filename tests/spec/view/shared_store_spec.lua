-- Several handles of one process on the same views, while another process writes.

local fixture = require "tests.support.fixture"
local flume = require "flume"

local GROUPS, ROUNDS = 3000, 6

-- A process of its own that appends a record of each group, waits for the views, and closes the database.
local WRITER = [[
  local flume = require "flume"
  local db = assert(flume.open(arg[1]))
  db:use("g", "aggregate", {params = {group = "k", fields = {n = "count"}}})
  db:use("i", "index", {params = {key = "k"}})
  local batch = {}
  for k = 1, %d do batch[k] = {k = k, text = ("x"):rep(50)} end
  assert(db:append(flume.array(batch)))
  assert(db.g:ready() and db.i:ready())
  assert(db:close())
]]

local function write_round(dir)
  local path = dir .. "/writer.lua"
  fixture.write(path, WRITER:format(GROUPS))
  assert(os.execute(("lua5.4 '%s' '%s'"):format(path, dir .. "/data")))
end

local function open_reader(dir)
  local db = assert(flume.open(dir .. "/data", {readonly = true}))
  db:use("g", "aggregate", {params = {group = "k", fields = {n = "count"}}})
  return db:use("i", "index", {params = {key = "k"}})
end

-- Every group has so many records, and so many entries.
local function check(db, rounds)
  local groups = 0
  for _, state in db.g:read {} do
    groups = groups + 1
    assert.equal(rounds, state.n)
  end
  assert.equal(GROUPS, groups)
  local entries = 0
  for _ in db.i:read {} do entries = entries + 1 end
  assert.equal(GROUPS * rounds, entries)
  assert.equal(GROUPS * rounds, db.i:count {})
end

local function catch_up(db, rounds)
  fixture.run_until(function () return db.since.value == GROUPS * rounds - 1 end)
  assert(db.g:ready() and db.i:ready())
end

describe("a read-only handle", function ()
  after_each(fixture.clean)

  local uses = {
    check = function (db) assert(db:check()) end,
    backup = function (db, dir) assert(db:backup(dir .. "/copy")) end,
    ["a second handle"] = function (_, dir)
      local second = open_reader(dir)
      check(second, 1)
      second:close()
    end,
  }

  for what, use in pairs(uses) do
    it("has all of its entries after " .. what .. ", whatever the writer does", function ()
      local dir = fixture.dir()
      write_round(dir)
      local db = open_reader(dir)
      check(db, 1)
      use(db, dir)
      for rounds = 2, ROUNDS do
        write_round(dir)
        catch_up(db, rounds)
        check(db, rounds)
      end
      db:close()
    end)
  end
end)
