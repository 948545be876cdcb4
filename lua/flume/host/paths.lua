-- Paths into records: "a.b" is the field b of the field a. A list of paths stands for the array of their values.

local world = ...
local core = world.core
local invalid = world.import "definition".invalid

local M = {}

--- Whether a value is a path.
function M.is(path)
  return type(path) == "string" and path ~= "" and not (path:find "^%." or path:find "%.$" or path:find("..", 1, true))
end

--- The paths of a field of a definition, a path or a list of paths: a list, and whether a list was given.
function M.check(name, field, given)
  local list = type(given) == "table" and given or {given}
  if #list == 0 then invalid('view "%s": %s is an empty list of paths', name, field) end
  for _, path in ipairs(list) do
    if not M.is(path) then
      invalid('view "%s": %s must be a function, a path or a list of paths, not %s', name, field, tostring(path))
    end
  end
  return list, type(given) == "table"
end

local function follow(path)
  local keys = {}
  for key in path:gmatch "[^.]+" do keys[#keys + 1] = key end
  return function (item)
    for i = 1, #keys do
      local kind = type(item)
      if kind ~= "table" and kind ~= "userdata" or item == core.null then return nil end
      item = item[keys[i]]
      if item == nil then return nil end
    end
    if item == core.null then return nil end
    return item
  end
end

--- The function from an item to the key that the values at the paths make: the value itself, or for a list of paths an
--- array with null for what is missing. The function gives nil when there is no value at all.
function M.key_function(paths, is_list)
  local fields = {}
  for i, path in ipairs(paths) do fields[i] = follow(path) end
  if not is_list then return fields[1] end
  return function (item)
    local key, found = {}, false
    for i = 1, #fields do
      local value = fields[i](item)
      found = found or value ~= nil
      key[i] = value == nil and core.null or value
    end
    return found and core.array(key) or nil
  end
end

--- Whether a value may be the key of a group or an entry; of an array's elements the store decides.
function M.is_key(value)
  local kind = type(value)
  if kind == "userdata" then return core.is_array(value) end
  return kind ~= "nil" and value == value
end

--- flume.path: a function that gives the value at a path of an item, nil for none or null; for a list of paths, the
--- array of their values with null where there is none, nil when there is none at all.
function M.path(given)
  local list = type(given) == "table" and given or {given}
  for _, path in ipairs(list) do
    if not M.is(path) then
      local named = type(path) == "table" and "a table" or tostring(path)
      error(('flume.path: a path such as "a.b", not %s'):format(named), 2)
    end
  end
  if #list == 0 then error("flume.path: an empty list of paths", 2) end
  return M.key_function(list, type(given) == "table")
end

return M
