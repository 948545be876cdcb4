-- An index of the author, by a path (which the core follows) and by a function in Lua, and the newest ten of an author,
-- beside LMDB and SQLite.
--
--   lua5.4 index.lua BENCH DIR RECORDS ROUNDS
--
-- Works on what reduce.lua has made in DIR. An index counts as built when it is on disk. Prints measurements (see
-- bench.h); ends with exit code 1 when an answer differs from another's.

local flume = require "flume"
local has_luasql, luasql = pcall(require, "luasql.sqlite3")

local bench = dofile((arg[0]:match "^.*/" or "") .. "measuring.lua")(arg)
local fail, now, report, run = bench.fail, bench.now, bench.report, bench.run
local dir, count, rounds = bench.dir, bench.count, bench.rounds
local data = dir .. "/flume"

local SOURCE = [[
return {version = 1, indexer = function (item, seq, emit) emit(item.author) end}
]]

local function build(peer, round, name, view)
  local start = now()
  local db = assert(flume.open(data))
  db:use(name, view)
  assert(db[name]:ready())
  assert(db:close())
  report("index", peer, round, now() - start, count)
end

local function script(name)
  local path = ("%s/%s.lua"):format(dir, name)
  local file = assert(io.open(path, "w"))
  file:write(SOURCE)
  file:close()
  return path
end

local picks = run "index picks"
local want

local function check(peer, sum)
  want = want or sum
  if sum ~= want then fail("look-up, %s: the sum is %s, not %s", peer, sum, want) end
end

local function look_up(test, peer, round, name, view, options)
  local db = assert(flume.open(data))
  db:use(name, view)
  assert(db[name]:ready())
  local of, sum = db[name], 0
  local start = now()
  for _, author in ipairs(picks) do
    for _, seq in of:read {gte = author, lte = author, reverse = true, limit = 10, values = options.values} do
      sum = sum + (options.values == false and seq or seq.seq)
    end
  end
  report(test, peer, round, now() - start, #picks)
  assert(db:close())
  check(peer, tostring(sum))
end

-- columns: what is asked for, the seq last
local function look_up_luasql(test, columns, round)
  if not has_luasql then return end
  local connection = assert(luasql.sqlite3():connect(dir .. "/reduce.sqlite"))
  local select, sum = "SELECT " .. columns .. " FROM columns WHERE author = '%s' ORDER BY seq DESC LIMIT 10", 0
  local start = now()
  for _, author in ipairs(picks) do
    local cursor, row = assert(connection:execute(select:format(author))), {}
    while cursor:fetch(row) do sum = sum + row[#row] end
    cursor:close()
  end
  report(test, "sqlite", round, now() - start, #picks)
  check("SQLite from Lua", tostring(sum))
  connection:close()
end

local function look_up_c(peer, how, round)
  check(peer, run(("-r %d index '%s'"):format(round, how))[1]:match "^sum (%d+)$")
end

for round = 1, rounds do
  local by_path, by_script = "by_path_" .. round, "by_script_" .. round
  local path = script(by_script)
  build("flume-path", round, by_path, flume.index(1, "author"))
  run(("-r %d index build-sqlite"):format(round))
  build("flume-function", round, by_script, path)
  run(("-r %d index build-lmdb"):format(round))
  look_up_c("lmdb", "lmdb", round)
  look_up_c("flume", ("%s/views/%s/1"):format(data, by_path), round)
  look_up_c("sqlite", "sqlite", round)
  look_up("look-up-lua", "flume-inline", round, by_path, flume.index(1, "author"), {values = false})
  look_up("look-up-lua", "flume-script", round, by_script, path, {values = false})
  look_up_luasql("look-up-lua", "author, seq", round)
  look_up("look-up-records", "flume", round, by_path, flume.index(1, "author"), {})
  look_up_luasql("look-up-records", "type, author, text, seq", round)
  io.stdout:flush()
end
