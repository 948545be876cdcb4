-- Records by the values that they have at a path: get(key), read(range), count(range).
--
--   key      the path of the key, or a list of paths: then keys are arrays
--   each     true: where there is an array at the path, every value in it is a key
--   value    the path of what an entry gives instead of its record

local flume = require "flume"
local parameters = require "lib.parameters"

local _, given = ...
local params = parameters.check("index", given, {key = "paths!", each = "flag", value = "path"})

if params.each and type(params.key) ~= "string" then error("index: each is for a single path", 0) end

if not params.each and not params.value then return {indexer = params.key} end

local key_of = flume.path(params.key)
local value_of = params.value and flume.path(params.value)

local function value_in(item)
  if not value_of then return nil end
  local value = value_of(item)
  return value == nil and flume.null or flume.table(value)
end

if params.each then
  local each = require "lib.each" (params.key)
  return {
    indexer = function (item, _, emit)
      local value = value_in(item)
      each(item, function (key) emit(key, value) end)
    end,
  }
end

return {
  indexer = function (item, _, emit)
    local key = key_of(item)
    if key ~= nil then pcall(emit, key, value_in(item)) end -- what can't be a key has no entry
  end,
}
