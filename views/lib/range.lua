-- Helpers for methods that take the options of a range (views/README.md) and walk through view:range by themselves.

local M = {}

--- The options for view:range: those of the caller, less what is done to the results, and with changes.
function M.bounds(options, changes)
  local bounds = {}
  if options ~= nil and type(options) ~= "table" then error("a range is a table of options", 0) end
  for name, value in pairs(options or {}) do bounds[name] = value end
  bounds.keys, bounds.values, bounds.seqs, bounds.limit, bounds.live = nil, nil, nil, nil, nil
  for name, value in pairs(changes or {}) do bounds[name] = value end
  return bounds
end

--- As many of count as the options let there be. Raises for options that count doesn't do.
function M.count(view, options, count)
  for _, name in ipairs {"after", "live", "old"} do
    if options and options[name] ~= nil then
      error(("%s: count: there is no option %s; a count has an end"):format(view.name, name), 0)
    end
  end
  local limit = options and options.limit or -1
  if math.type(limit) ~= "integer" then error(("%s: count: limit must be an integer"):format(view.name), 0) end
  return limit >= 0 and limit < count and limit or count
end

--- Whether two keys are the same.
function M.is_same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  if #a ~= #b then return false end
  for i = 1, #a do
    if not M.is_same(a[i], b[i]) then return false end
  end
  return true
end

--- A list of {key, seq} as an iterator, in the order of the seqs.
function M.by_seq(list)
  local i = 0
  table.sort(list, function (a, b) return a[2] < b[2] end)
  return function ()
    i = i + 1
    if list[i] then return list[i][1], list[i][2] end
  end
end

return M
