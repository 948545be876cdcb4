-- Conditions on records, for the method where of a query view.
--
--   local query = require "flume".query
--   local eq, gt = query.eq, query.gt
--   db.q:where(eq("type", "post") & gt("likes", 10) & ~query.has("tags", "draft"))
--
-- A path is text, split at its dots ("value.content.type"), or a list of keys; an integer in a list is a position in an
-- array, counted from 0. Conditions are combined by & (and), | (or) and ~ (not).

local core = require "flume.core"
local filter = require "flume.query.filter"
local values = require "flume.query.values"

local M = {}

local function check_operand(name, value, level)
  if values.class_of(value) == nil then
    error(("%s: a number, a string, a boolean or an array expected, not a %s"):format(name, type(value)), level + 1)
  end
  return value
end

local function check_value(name, value, level)
  if value == nil then error(name .. ": a value expected; flume.null stands for null", level + 1) end
  if type(value) == "function" then error(name .. ": a value expected, not a function", level + 1) end
  return value
end

--- The value at the path is equal: a number of the same worth, a string of the same bytes, a table with the same in it.
function M.eq(path, value)
  return filter.new("eq", filter.path(path, 3), check_value("eq", value, 2))
end

--- It is not, or there is none.
function M.ne(path, value)
  return ~filter.new("eq", filter.path(path, 3), check_value("ne", value, 2))
end

--- The value is above another of its kind. What is of another kind is neither above nor below.
function M.gt(path, value)
  return filter.new("gt", filter.path(path, 3), check_operand("gt", value, 2))
end

--- The same, or equal.
function M.gte(path, value)
  return filter.new("gte", filter.path(path, 3), check_operand("gte", value, 2))
end

--- The value is below another of its kind.
function M.lt(path, value)
  return filter.new("lt", filter.path(path, 3), check_operand("lt", value, 2))
end

--- The same, or equal.
function M.lte(path, value)
  return filter.new("lte", filter.path(path, 3), check_operand("lte", value, 2))
end

--- The value is from first to last, both included.
function M.between(path, first, last)
  path = filter.path(path, 3)
  return filter.new("gte", path, check_operand("between", first, 2))
    & filter.new("lte", path, check_operand("between", last, 2))
end

--- The value is one of a list.
function M.one_of(path, list)
  if type(list) ~= "table" then error("one_of: a list expected, not a " .. type(list), 2) end
  return filter.new("one_of", filter.path(path, 3), list)
end

--- The value is a string that begins with this one, or an array that begins with these elements.
function M.prefix(path, value)
  if type(value) ~= "string" and not (type(value) == "table" and core.is_array(value)) then
    error("prefix: a string or an array expected, not a " .. type(value), 2)
  end
  return filter.new("prefix", filter.path(path, 3), value)
end

--- There is a value, other than null.
function M.exists(path)
  return filter.new("present", filter.path(path, 3))
end

--- The value is of a type: "string", "number", "integer", "boolean", "array", "map", "null"; "object" is maps, arrays
--- and null, and "undefined" is no value.
function M.type(path, name)
  if not values.IS[name] then
    error(("type: there is no type %s; there are %s"):format(tostring(name), filter.names_of(values.IS)), 2)
  end
  return filter.new("type", filter.path(path, 3), name)
end

--- The value is an array or a map that has this among its values.
function M.has(path, value)
  return filter.new("contains", filter.path(path, 3), check_value("has", value, 2))
end

--- Any other test: a function of the value at the path (a lazy record where that is a table; nil for none).
function M.test(path, fn)
  if type(fn) ~= "function" then error("test: a function expected, not a " .. type(fn), 2) end
  return filter.new("test", filter.path(path, 3), fn)
end

--- A $filter as a condition.
function M.filter(rule)
  local ok, made = pcall(filter.parse, rule, {}, "$filter")
  if not ok then error(type(made) == "table" and made.message or made, 2) end
  return made
end

return M
