-- The known name nearest to a misspelt one: "did you mean …?"

local M = {}

-- How many letters have to be changed, left out, put in or swapped with their neighbour to get from one word to the
-- other.
local function distance(from, to)
  local before, above, row -- those of the two letters before, and of this one
  row = {}
  for j = 0, #to do row[j] = j end
  for i = 1, #from do
    before, above, row = above, row, {[0] = i}
    for j = 1, #to do
      local same = from:byte(i) == to:byte(j)
      row[j] = math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and from:byte(i) == to:byte(j - 1) and from:byte(i - 1) == to:byte(j) then
        row[j] = math.min(row[j], before[j - 2] + 1)
      end
    end
  end
  return row[#to]
end

-- The nearest of names, a list; nil when none is near.
function M.find(word, names)
  local best, least = nil, math.max(1, #word // 3) + 1
  for _, name in ipairs(names) do
    local far = name:sub(1, #word) == word and #word > 1 and 0 or distance(word, name)
    if far < least or best and far == least and name < best then best, least = name, far end
  end
  return best
end

-- "; did you mean NAME?", or nothing when none of the names is near. before and after are put around the name.
function M.hint(word, names, before, after)
  local name = M.find(word, names)
  return name and ("; did you mean %s%s%s?"):format(before or "", name, after or "") or ""
end

-- The keys of a table, sorted.
function M.keys(map)
  local names = {}
  for name in pairs(map) do names[#names + 1] = name end
  table.sort(names)
  return names
end

return M
