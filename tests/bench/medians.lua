-- Measurements of the benchmarks: reading them, and their medians over the rounds.
--
--   local medians = dofile ".../medians.lua"
--
--   medians.read(files)        [test][peer] = list of {seconds, units}. A line of a file is a measurement when it is
--                              test TAB peer TAB round TAB seconds TAB units; any other line is passed over.
--   medians.of(list, unit)     median, least and greatest value of unit.of(seconds, units); nil for a list of nil

local M = {}

function M.read(files)
  local found = {}
  for _, name in ipairs(files) do
    for line in io.lines(name) do
      local test, peer, seconds, count = line:match("^([^\t]+)\t([^\t]+)\t%d+\t([%d.]+)\t(%d+)$")
      if test then
        found[test] = found[test] or {}
        found[test][peer] = found[test][peer] or {}
        table.insert(found[test][peer], { tonumber(seconds), tonumber(count) })
      end
    end
  end
  return found
end

function M.of(list, unit)
  if not list then return nil end
  local values = {}
  for i, m in ipairs(list) do values[i] = unit.of(m[1], m[2]) end
  table.sort(values)
  local mid = #values // 2
  if #values % 2 == 1 then return values[mid + 1], values[1], values[#values] end
  return (values[mid] + values[mid + 1]) / 2, values[1], values[#values]
end

return M
