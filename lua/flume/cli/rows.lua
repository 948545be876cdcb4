-- Streams of the log and sources of views, printed item by item.

local flume = require "flume"

local M = {}

local SOURCES = {["flume.stream"] = true, ["flume.source"] = true, ["flume.results"] = true, ["flume.deltas"] = true}

-- Whether a value is something to be iterated over.
function M.is_source(value)
  local meta = type(value) == "table" and getmetatable(value)
  return meta and SOURCES[meta.__name] or false
end

local function is_stream(source)
  return getmetatable(source).__name == "flume.stream"
end

-- Of a query's results the values alone are printed.
local function is_results(source)
  return getmetatable(source).__name == "flume.results"
end

-- Whether it gives deltas, of which all four results are printed.
function M.is_deltas(source)
  return getmetatable(source).__name == "flume.deltas"
end

-- Whether it waits for more at its end.
function M.is_live(source)
  if is_stream(source) or is_results(source) or M.is_deltas(source) then return source.live or false end
  local options = source.args and source.args[source.args.n]
  return type(options) == "table" and options.live or false
end

-- How a result of the source is printed: a function (output, results...).
local function printer_of(source)
  if M.is_deltas(source) then return function (output, ...) output:delta(...) end end
  if is_results(source) then return function (output, value) output:row(value) end end
  local of_stream = is_stream(source)
  return function (output, first, second)
    if of_stream and second ~= nil then output:record(first, second) else output:row(first, second) end
  end
end

-- Prints what a source gives, at most limit items of it. Returns whether there was more.
function M.print(source, output, limit)
  local count, is_live, print_one = 0, M.is_live(source), printer_of(source)
  local source_to_close <close> = source
  for first, second, third, fourth in source_to_close do
    if count == limit then return true end
    count = count + 1
    print_one(output, first, second, third, fourth)
    if is_live then output:flush() end
  end
  return false
end

-- The first items of a source: a list of them; a list of their seqs, when the source is a stream that gives both; and
-- whether there was more.
function M.take(source, limit)
  local firsts, seconds, of_stream, without_seqs = {}, {}, is_stream(source), is_results(source)
  local source_to_close <close> = source
  local more = false
  for first, second in source_to_close do
    more = #firsts == limit
    if more then break end
    firsts[#firsts + 1] = first
    if not without_seqs then seconds[#seconds + 1] = second end
  end
  if of_stream and #seconds > 0 and #seconds == #firsts then return seconds, firsts, more end
  if #seconds == 0 then return firsts, nil, more end
  for i, first in ipairs(firsts) do firsts[i] = flume.array {first, seconds[i]} end
  return firsts, nil, more
end

-- Prints what take gave.
function M.print_all(items, seqs, output)
  for i, item in ipairs(items) do
    if seqs then output:record(seqs[i], item) else output:row(item) end
  end
end

return M
