-- Streams of the log and sources of views, printed item by item.

local M = {}

local SOURCES = {["flume.stream"] = true, ["flume.source"] = true}

-- Whether a value is something to be iterated over.
function M.is_source(value)
  local meta = type(value) == "table" and getmetatable(value)
  return meta and SOURCES[meta.__name] or false
end

-- Prints what a source gives, at most limit items of it. Returns whether there was more.
function M.print(source, output, limit)
  local count = 0
  local is_stream = getmetatable(source).__name == "flume.stream"
  local source_to_close <close> = source
  for first, second in source_to_close do
    if count == limit then return true end
    count = count + 1
    if is_stream and second ~= nil then
      output:record(first, second)
    else
      output:row(first, second)
    end
  end
  return false
end

return M
