-- The values at a path, where each array on the way, and at its end, stands for all that is in it: "mentions.link" in
-- {mentions = {{link = "a"}, {link = "b"}}} are "a" and "b".

local flume = require "flume"

local function is_container(value)
  local kind = type(value)
  return kind == "table" or kind == "userdata" and value ~= flume.null
end

local function walk(value, keys, at, fn)
  if value == nil or value == flume.null then return end
  local contains = is_container(value)
  if contains and flume.is_array(value) then
    for i = 1, #value do walk(value[i], keys, at, fn) end
  elseif not keys[at] then
    if not contains and value == value then fn(value) end
  elseif contains then
    walk(value[keys[at]], keys, at + 1, fn)
  end
end

--- each(path) -> function (item, fn), which calls fn with every value there that can be a key: none that is null, nan
--- or a map.
return function (path)
  local keys = {}
  for key in path:gmatch "[^.]+" do keys[#keys + 1] = key end
  return function (item, fn) walk(item, keys, 1, fn) end
end
