-- The newest 25 of a type and an author, by the query view, beside LMDB and SQLite: from C their seqs, from Lua the
-- records as tables (SQLite by LuaSQL, when that is installed).
--
--   lua5.4 query.lua BENCH DIR RECORDS ROUNDS
--
-- Works on what reduce.lua has made in DIR, and leaves SQLite with an index of both columns. Prints measurements (see
-- bench.h); ends with exit code 1 when an answer differs from another's.

local flume = require "flume"

local eq = flume.query.eq
local bench = dofile((arg[0]:match "^.*/" or "") .. "measuring.lua")(arg)
local fail, now, report, run = bench.fail, bench.now, bench.report, bench.run
local dir, count, rounds = bench.dir, bench.count, bench.rounds
local data = dir .. "/flume"
local has_luasql, luasql = pcall(require, "luasql.sqlite3")

local picks = {}
for i, line in ipairs(run "query picks") do
  local type_name, author = line:match "^(%S+) (%S+)$"
  picks[i] = {type = type_name, author = author}
end

local want

local function check(peer, sum)
  sum = tostring(math.tointeger(sum))
  want = want or sum
  if sum ~= want then fail("query, %s: the sum is %s, not %s", peer, sum, want) end
end

local function ask_c(how, round)
  check(how, tonumber(run(("-r %d query '%s'"):format(round, how))[1]:match "^sum (%d+)$"))
end

local function ask_flume(round)
  local db = assert(flume.open(data)):use("q", "query")
  local sum = 0
  assert(db.q:where(eq("type", "post") & eq("author", "nobody")):all()) -- which has the indexes made
  local start = now()
  for _, pick in ipairs(picks) do
    local query = db.q:where(eq("type", pick.type) & eq("author", pick.author)):descending():limit(25)
    for _, record in ipairs(query:all()) do sum = sum + record.seq end
  end
  report("query-records", "flume", round, now() - start, #picks)
  check("flume from Lua", sum)
  start = now()
  for _, pick in ipairs(picks) do db.q:where(eq("type", pick.type) & eq("author", pick.author)):count() end
  report("query-count", "flume", round, now() - start, #picks)
  assert(db:close())
end

local SELECT = "SELECT * FROM columns WHERE type = '%s' AND author = '%s' ORDER BY seq DESC LIMIT 25"

local function ask_luasql(peer, round)
  if not has_luasql then return end
  local connection = assert(luasql.sqlite3():connect(dir .. "/reduce.sqlite"))
  local sum = 0
  local start = now()
  for _, pick in ipairs(picks) do
    local cursor, rows = assert(connection:execute(SELECT:format(pick.type, pick.author))), {}
    local row = cursor:fetch({}, "a")
    while row do
      rows[#rows + 1] = row
      row = cursor:fetch({}, "a")
    end
    cursor:close()
    for _, each in ipairs(rows) do sum = sum + each.seq end
  end
  report("query-records", peer, round, now() - start, #picks)
  check(peer .. " from Lua", sum)
  connection:close()
end

local function build_flume(round)
  assert(os.execute(("rm -rf '%s/views/q'"):format(data)))
  local db = assert(flume.open(data)):use("q", "query")
  assert(db.q:ready())
  local start = now()
  db.q:where(eq("type", "post") & eq("author", "nobody")):count()
  assert(db:close())
  report("query-build", "flume", round, now() - start, count)
end

run "query build-lmdb"
for round = 1, rounds do
  build_flume(round)
  ask_c("lmdb", round)
  ask_c(data .. "/views/q/indexes", round)
  ask_flume(round)
  run "query build-sqlite"
  ask_c("sqlite", round)
  ask_luasql("sqlite", round)
  run "query build-sqlite-both"
  ask_c("sqlite-both", round)
  ask_luasql("sqlite-both", round)
  io.stdout:flush()
end
