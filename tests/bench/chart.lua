-- Draws measurements of the benchmarks as bars: reads the files that tests/bench/run -o FILE has written, prints SVG.
--
--   tests/bench/run -o docs/speed.tsv; lua5.4 tests/bench/chart.lua docs/speed.tsv >docs/speed.svg
--
-- A longer bar is faster. Within a test the fastest has the full length, and the length of each other bar is its speed
-- divided by that of the fastest. Peers without a measurement are left out, and so are tests without one.

local medians = dofile(arg[0]:gsub("[^/]*$", "") .. "medians.lua")

-- The tests of the left and of the right column, from top to bottom, each with the peers that are drawn.
local SIDES = {
  {
    { test = "append-batch", unit = "rate", title = "append, 1000 a batch, durable at the end" },
    { test = "append-100", unit = "rate", title = "append, durable per 100" },
    { test = "append-1", unit = "rate", title = "append, durable per record" },
    { test = "scan", unit = "pass", title = "scan of all records" },
    { test = "get", unit = "us", title = "random get" },
    { test = "open", unit = "ms", title = "open and read the last record" },
  },
  {
    { test = "reduce", unit = "rate", title = "count and sum by type, in Lua" },
    { test = "index", unit = "pass", title = "index by author" },
    { test = "look-up", unit = "us", title = "newest 10 of an author, from C" },
    { test = "look-up-lua", unit = "us", title = "newest 10 of an author, from Lua" },
    { test = "query", unit = "us", title = "newest 25 of a type and an author, from C" },
    { test = "query-records", unit = "us", title = "the same from Lua, with the records" },
  },
}

-- The peers in the order in which they are drawn: name in the measurements, label.
local PEERS = {
  { "flume", "flume" }, { "flume-inline", "flume, inline" }, { "flume-script", "flume, script" },
  { "flume-path", "flume, path" }, { "flume-function", "flume, function" }, { "lmdb", "LMDB" },
  { "sqlite", "SQLite" }, { "sqlite-columns", "SQLite, columns" }, { "sqlite-json", "SQLite, JSON" },
  { "sqlite-both", "SQLite" }, { "raw", "plain file" }, { "raw-prewritten", "file, zeroed" },
}

-- Measurements that are not drawn. SQLite answers by an index of two fields ("sqlite-both") faster than by one of the
-- two indexes of one field ("sqlite"). To open a plain file takes no measurable time.
local LEFT_OUT = { query = "sqlite", ["query-records"] = "sqlite", open = "raw" }

local WIDTH, COLUMN_WIDTH, MARGIN = 760, 372, 14
local LABEL_WIDTH, BAR_WIDTH, BAR_HEIGHT, BAR_STEP = 104, 172, 11, 15
local TITLE_HEIGHT, TEST_GAP, HEAD_HEIGHT = 18, 9, 40

-- Speed is records, passes or calls in a second; the text is the one of README's table.
local function rate_text(speed)
  if speed >= 1e6 then return ("%.2f M/s"):format(speed / 1e6) end
  if speed >= 1e4 then return ("%.0f k/s"):format(speed / 1e3) end
  return ("%.0f /s"):format(speed)
end

local function digits(value)
  return (value < 1 and "%.2f" or value < 1000 and "%.3g" or "%.0f"):format(value)
end

local function us_text(speed)
  return digits(1e6 / speed) .. " µs"
end

local function ms_text(speed)
  return digits(1e3 / speed) .. " ms"
end

local UNITS = {
  rate = { of = function (seconds, count) return count / seconds end, text = rate_text },
  us = { of = function (seconds, count) return count / seconds end, text = us_text },
  ms = { of = function (seconds, count) return count / seconds end, text = ms_text },
  pass = { of = function (seconds) return 1 / seconds end, text = ms_text }, -- ms for all of it
}

local out = {}

local function put(format, ...)
  out[#out + 1] = format:format(...)
end

-- The peers of a test that were measured: {name, label, speed}, and the greatest speed.
local function measured(test, found)
  local bars, fastest = {}, 0
  for _, peer in ipairs(PEERS) do
    local speed = medians.of((found[test.test] or {})[peer[1]], UNITS[test.unit])
    if speed and LEFT_OUT[test.test] ~= peer[1] then
      bars[#bars + 1] = { peer[1], peer[2], speed }
      fastest = math.max(fastest, speed)
    end
  end
  return bars, fastest
end

-- Returns the height below the test.
local function draw_test(test, found, x, y)
  local bars, fastest = measured(test, found)
  if #bars == 0 then return y end
  put('  <text class="title" x="%d" y="%d">%s</text>', x, y + 12, test.title)
  y = y + TITLE_HEIGHT
  for _, bar in ipairs(bars) do
    local width = math.max(1, BAR_WIDTH * bar[3] / fastest)
    local class = bar[1]:match "^%a+"
    put('  <text class="label" x="%d" y="%d" text-anchor="end">%s</text>', x + LABEL_WIDTH - 6, y + 10, bar[2])
    put('  <rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>', class, x + LABEL_WIDTH, y, width, BAR_HEIGHT)
    put('  <text class="figure" x="%.1f" y="%d">%s</text>', x + LABEL_WIDTH + width + 5, y + 10,
      UNITS[test.unit].text(bar[3]))
    y = y + BAR_STEP
  end
  return y + TEST_GAP
end

local function draw(found)
  local height = 0
  for i, side in ipairs(SIDES) do
    local x, y = MARGIN + (i - 1) * COLUMN_WIDTH, HEAD_HEIGHT
    for _, test in ipairs(side) do y = draw_test(test, found, x, y) end
    height = math.max(height, y)
  end
  return height + 2
end

local HEAD = [[
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img"
     font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="11">
  <title>flume beside LMDB, SQLite and a plain file: longer is faster</title>
  <style>
    .card { fill: #ffffff; stroke: #d0d7de }
    text { fill: #1f2328 }
    .title { font-size: 12px; font-weight: 600 }
    .label, .note { fill: #57606a }
    .flume { fill: #1d6fb8 } .lmdb { fill: #8c959f } .sqlite { fill: #afb8c1 } .raw { fill: #d0d7de }
    @media (prefers-color-scheme: dark) {
      .card { fill: #161b22; stroke: #30363d }
      text { fill: #e6edf3 }
      .label, .note { fill: #9da7b3 }
      .flume { fill: #58a6ff } .lmdb { fill: #8b949e } .sqlite { fill: #6e7681 } .raw { fill: #484f58 }
    }
  </style>
  <rect class="card" x="0.5" y="0.5" width="%d" height="%d" rx="8"/>
  <text class="note" x="%d" y="24">A longer bar is faster; in each test the fastest has the full length.</text>]]

local height = draw(medians.read(arg))
print(HEAD:format(WIDTH, height, WIDTH, height, WIDTH - 1, height - 1, MARGIN))
print(table.concat(out, "\n"))
print "</svg>"
