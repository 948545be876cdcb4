-- Count and sum(seq) by type over the same records: a flume view, inline and as a script, beside SQLite.
--
--   lua5.4 reduce.lua BENCH DIR RECORDS ROUNDS
--
-- BENCH is the C program, which makes DIR/flume/log and DIR/reduce.sqlite and runs SQLite's side. Prints measurements
-- (see bench.h); ends with exit code 1 when a result differs from what the records hold.

local flume = require "flume"

local bench = dofile((arg[0]:match "^.*/" or "") .. "measuring.lua")(arg)
local fail, now, report, run = bench.fail, bench.now, bench.report, bench.run
local dir, count, rounds = bench.dir, bench.count, bench.rounds
local data = dir .. "/flume"

-- The view's source: loaded as it is for the inline view, written to a file for the script view.
local view_source = [[
return {
  version = 1,
  initial = {},
  reducer = function(acc, item, seq)
    local type = item.type
    local of = acc[type]
    if not of then
      of = { count = 0, sum = 0 }
      acc[type] = of
    end
    of.count = of.count + 1
    of.sum = of.sum + item.seq
    return acc
  end,
}
]]

-- Runs the C program; returns its lines "type TAB count TAB sum".
local function totals(arguments)
  local types = {}
  for _, line in ipairs(run(arguments)) do
    local type, n, sum = line:match("^([^\t]+)\t(%d+)\t(%d+)$")
    types[type] = { count = tonumber(n), sum = tonumber(sum) }
  end
  return types
end

local function check(who, types, expected)
  for type, want in pairs(expected) do
    local got = types[type] or { count = 0, sum = 0 }
    if got.count ~= want.count or got.sum ~= want.sum then
      fail("reduce, %s: %s has count %s, sum %s; expected are %d, %d", who, type, got.count, got.sum, want.count,
        want.sum)
    end
  end
  for type in pairs(types) do
    if not expected[type] then fail("reduce, %s: unexpected type %s", who, type) end
  end
end

-- Each round builds a view of a new name, from nothing.
local function inline(round, expected)
  local name = "inline_" .. round
  local db = assert(flume.open(data))
  local start = now()
  db:use(name, assert(load(view_source))())
  local types = assert(db[name]:get())
  report("reduce", "flume-inline", round, now() - start, count)
  assert(db:close())
  check("flume-inline", types, expected)
end

local function script(round, expected)
  local name, views = "script_" .. round, dir .. "/views-" .. round
  assert(os.execute(("mkdir '%s'"):format(views)))
  local file = assert(io.open(("%s/%s.lua"):format(views, name), "w"))
  file:write(view_source)
  file:close()
  local start = now()
  local db = assert(flume.open(data, { views = views }))
  local types = assert(db[name]:get())
  report("reduce", "flume-script", round, now() - start, count)
  assert(db:close())
  check("flume-script", types, expected)
end

local function sqlite(how, round, expected)
  check("sqlite-" .. how, totals(("-r %d sqlite %s"):format(round, how)), expected)
end

local expected = totals "prepare"
for round = 1, rounds do
  inline(round, expected)
  sqlite("columns", round, expected)
  script(round, expected)
  sqlite("json", round, expected)
  io.stdout:flush()
end
