-- From measurements (lines "test TAB peer TAB round TAB seconds TAB units" in the files named as arguments) to the
-- table: medians over the rounds, flume beside each peer, and which targets are reached. Times never make it fail.

local medians = dofile(arg[0]:gsub("[^/]*$", "") .. "medians.lua")
local median = medians.of

local tests = {
  { name = "append-batch", title = "append, 1000 a batch, durable at the end", unit = "rate",
    targets = { { "lmdb", 1.0 }, { "raw", 0.65 } } },
  { name = "append-100", title = "append, durable per 100", unit = "rate", targets = { { "sqlite", 1.5 } } },
  { name = "append-1", title = "append, durable per record", unit = "rate", targets = { { "raw", 0.95 } } },
  { name = "scan", title = "scan of all, checksummed by flume", unit = "pass", targets = { { "raw", 1.5 } } },
  { name = "get", title = "random get", unit = "us", targets = { { "lmdb", 1.5 } } },
  { name = "open", title = "open and read the last record", unit = "ms", targets = { { "limit", 3.0 } } },
  { name = "reduce", title = "count and sum by type, script view", unit = "rate", flume = "flume-script",
    targets = { { "limit", 3e6 }, { "sqlite-columns", 1.5 } } },
  { name = "reduce", title = "count and sum by type, inline view", unit = "rate", flume = "flume-inline",
    targets = { { "limit", 3e6 }, { "sqlite-columns", 1.5 } } },
  { name = "index", title = "index by author, by a path", unit = "pass", flume = "flume-path",
    targets = { { "limit", 800 }, { "sqlite", 1.0 } } },
  { name = "index", title = "index by author, by a function", unit = "pass", flume = "flume-function",
    targets = { { "limit", 1500 } } },
  { name = "look-up", title = "newest 10 of an author, from C", unit = "us", targets = { { "lmdb", 1.5 } } },
  { name = "look-up-lua", title = "the same from Lua, inline view", unit = "us", flume = "flume-inline",
    targets = { { "sqlite", 1.0 } } },
  { name = "look-up-lua", title = "the same from Lua, script view", unit = "us", flume = "flume-script",
    targets = { { "sqlite", 1.0 } } },
  { name = "look-up-records", title = "the same from Lua, with the records", unit = "us", targets = {} },
  { name = "query-build", title = "bitmaps by type and by author, at the first query", unit = "pass", targets = {} },
  { name = "query", title = "newest 25 of a type and an author, from C", unit = "us",
    targets = { { "lmdb", 1.5 }, { "sqlite", 1.0 } } },
  { name = "query-records", title = "the same from Lua, with the records", unit = "us",
    targets = { { "sqlite", 1.0 }, { "sqlite-both", 1.0 } } },
  { name = "query-count", title = "how many of a type and an author, from Lua", unit = "us", targets = {} },
}

-- Which peers stand in a column; SQLite has two ways to reduce.
local columns = {
  { title = "LMDB", "lmdb" },
  { title = "SQLite", "sqlite", "sqlite-columns" },
  { title = "SQLite both", "sqlite-both" },
  { title = "SQLite json", "sqlite-json" },
  { title = "raw", "raw" },
  { title = "raw, zeroed", "raw-prewritten" },
}

local units = {
  rate = { more_is_better = true, of = function(seconds, count) return count / seconds end },
  us = { of = function(seconds, count) return seconds / count * 1e6 end },
  ms = { of = function(seconds, count) return seconds / count * 1e3 end },
  pass = { of = function(seconds) return seconds * 1e3 end }, -- ms for all of it
}

local function rate_text(value)
  if value >= 1e6 then return ("%.2f M/s"):format(value / 1e6) end
  if value >= 1e4 then return ("%.0f k/s"):format(value / 1e3) end
  return ("%.0f /s"):format(value)
end

local function text(value, unit_name)
  if not value then return "-" end
  if unit_name == "rate" then return rate_text(value) end
  return ("%.2f %s"):format(value, unit_name == "us" and "µs" or "ms")
end

local function verdict(test, unit, found, flume)
  local lines = {}
  for _, target in ipairs(test.targets) do
    local peer, limit = target[1], target[2]
    local against = peer == "limit" and 1 or median(found[peer], unit)
    if flume and against then
      local ratio = flume / against
      local reached = unit.more_is_better and ratio >= limit or not unit.more_is_better and ratio <= limit
      local sign = unit.more_is_better and ">=" or "<="
      local goal = peer == "limit" and text(limit, test.unit) or ("%.2f x %s"):format(limit, peer)
      lines[#lines + 1] = ("%s %s: %s"):format(sign, goal, reached and "reached" or "not yet")
    end
  end
  return lines
end

local function rows_of(test, found)
  local unit = units[test.unit]
  local flume, worst, best = median(found[test.flume or "flume"], unit)
  local range = flume and ("%s .. %s"):format(text(worst, test.unit), text(best, test.unit)) or ""
  local values, ratios = { test.title, text(flume, test.unit) }, { "  " .. range, "flume / peer" }
  for _, column in ipairs(columns) do
    local peer
    for _, name in ipairs(column) do peer = peer or median(found[name], unit) end
    values[#values + 1] = text(peer, test.unit)
    ratios[#ratios + 1] = peer and flume and ("%.2f x"):format(flume / peer) or ""
  end
  local goals = verdict(test, unit, found, flume)
  values[#values + 1], ratios[#ratios + 1] = goals[1] or "", goals[2] or ""
  return values, ratios
end

local function print_rows(rows)
  local widths = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do widths[i] = math.max(widths[i] or 0, utf8.len(cell)) end
  end
  for _, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      local space = (" "):rep(widths[i] - utf8.len(cell))
      cells[i] = (i == 1 or i == #row) and cell .. space or space .. cell
    end
    print((table.concat(cells, "  "):gsub("%s+$", "")))
  end
end

local found = medians.read(arg)
local head = { "median, and below it the range of flume", "flume" }
for _, column in ipairs(columns) do head[#head + 1] = column.title end
head[#head + 1] = "target"
local rows = { head }
for _, test in ipairs(tests) do
  if found[test.name] then
    local values, ratios = rows_of(test, found[test.name])
    rows[#rows + 1] = values
    rows[#rows + 1] = ratios
  end
end
print_rows(rows)
