-- Values in queries: paths into them, comparisons, and their types in the words of JavaScript.
--
-- A value is plain Lua or a lazy record. Both are read in the same way, without a copy.

local core = require "flume.core"

local null, is_array, is_below = core.null, core.is_array, core.is_below

local M = {}

--- Whether a value is a map or an array.
local function is_container(value)
  local kind = type(value)
  return kind == "table" or kind == "userdata" and value ~= null
end

M.is_container = is_container

--- Whether the value is there: neither missing nor null.
function M.is_present(value)
  return value ~= nil and value ~= null
end

-- --- Paths -------------------------------------------------------------------------------------------------------

local function length_of(text)
  return utf8.len(text) or #text
end

local function character(text, index)
  local length = utf8.len(text)
  if index < 0 then index = (length or #text) + index end
  if index < 0 then return nil end
  if not length then return index < #text and text:sub(index + 1, index + 1) or nil end
  local from = index < length and utf8.offset(text, index + 1)
  return from and text:sub(from, utf8.offset(text, 2, from) - 1) or nil
end

local function element(list, index)
  if index < 0 then index = #list + index end
  return list[index + 1]
end

-- The position that a step of a path names: 2 or "2", as in JavaScript.
local function index_of(key)
  if math.type(key) == "integer" then return key end
  return type(key) == "string" and key:find "^%d+$" and math.tointeger(tonumber(key)) or nil
end

-- Steps that may be more than the name of a field: positions in arrays and strings, counted from 0, or below 0 from the
-- end; and length.
local function special_step(value, key)
  local index = index_of(key)
  if type(value) == "string" then
    if index then return character(value, index) end
    return key == "length" and length_of(value) or nil
  end
  if not is_container(value) then return nil end
  if is_array(value) then
    if index then return element(value, index) end
    return key == "length" and #value or nil
  end
  local found = value[key]
  if found ~= nil or type(key) == "string" then return found end
  return value[tostring(key)]
end

--- Whether a step of a path can only be the name of a field.
function M.is_plain_step(key)
  return type(key) == "string" and key ~= "length" and not index_of(key)
end

local function step_function(key)
  if not M.is_plain_step(key) then
    return function (value) return special_step(value, key) end
  end
  return function (value)
    local kind = type(value)
    if kind == "table" or kind == "userdata" and value ~= null then return value[key] end
    return nil
  end
end

--- A function that returns the value at the path, a list of steps, in a value; nil for none.
function M.getter(path)
  local steps = {}
  for i, key in ipairs(path) do steps[i] = step_function(key) end
  if #steps == 0 then return function (value) return value end end
  if #steps == 1 then return steps[1] end
  return function (value)
    for i = 1, #steps do
      value = steps[i](value)
      if value == nil then return nil end
    end
    return value
  end
end

--- A path as text: "a.b", "a[0]".
function M.path_text(path)
  local text = ""
  for _, key in ipairs(path) do
    if math.type(key) == "integer" then text = ("%s[%d]"):format(text, key)
    else text = text == "" and key or text .. "." .. key end
  end
  return text
end

-- --- Types -------------------------------------------------------------------------------------------------------

--- What JavaScript's typeof says: null and arrays are objects too.
function M.type_of(value)
  local kind = type(value)
  if kind == "nil" then return "undefined" end
  if kind == "string" or kind == "number" or kind == "boolean" then return kind end
  return "object"
end

local IS = {
  array = function (value) return is_container(value) and is_array(value) end,
  null = function (value) return value == null end,
  map = function (value) return is_container(value) and not is_array(value) end,
  integer = function (value) return type(value) == "number" and math.tointeger(value) ~= nil end,
}

for _, name in ipairs {"string", "number", "boolean", "object", "undefined"} do
  IS[name] = function (value) return M.type_of(value) == name end
end

--- name -> function (value): whether it is of the type.
M.IS = IS

--- Whether JavaScript takes the value for true.
function M.is_truthy(value)
  return not (value == nil or value == null or value == false or value == 0 or value == "" or value ~= value)
end

-- --- Comparing ---------------------------------------------------------------------------------------------------

local equal

local function same_fields(a, b)
  local count = 0
  for key, value in pairs(a) do
    if not equal(value, b[key]) then return false end
    count = count + 1
  end
  for _ in pairs(b) do count = count - 1 end
  return count == 0
end

--- Whether two values are the same; containers when all that is in them is. 1 and 1.0 are.
function equal(a, b)
  if a == b then return true end
  return is_container(a) and is_container(b) and same_fields(a, b)
end

M.equal = equal

-- The order of kinds, which is that of keys. Maps have none.
local function rank(value)
  local kind = type(value)
  if value == nil or value == null then return 0 end
  if kind == "string" then return 1 end
  if kind == "number" then return 3 end
  if kind == "boolean" then return value and 5 or 4 end
  return is_array(value) and 2 or nil
end

local compare

local function compare_arrays(a, b)
  for i = 1, math.min(#a, #b) do
    local order = compare(a[i], b[i])
    if order ~= 0 then return order end
  end
  return #a - #b
end

--- Below 0, 0 or above, as a comes before, with or after b in the order of keys; nil when there is no order.
function compare(a, b)
  local rank_a, rank_b = rank(a), rank(b)
  if not (rank_a and rank_b) then return nil end
  if rank_a ~= rank_b then return rank_a - rank_b end
  if rank_a == 1 then return a == b and 0 or is_below(a, b) and -1 or 1 end
  if rank_a == 3 then return a < b and -1 or a > b and 1 or a == b and 0 or nil end
  if rank_a == 2 then return compare_arrays(a, b) end
  return 0
end

M.compare = compare

--- What can be compared with <, as one: numbers, strings, booleans, arrays; nil for anything else.
function M.class_of(value)
  local kind = type(value)
  if kind == "number" or kind == "string" or kind == "boolean" then return kind end
  return is_container(value) and is_array(value) and "array" or nil
end

--- Whether a string begins with another, or an array with the elements of another.
function M.begins_with(value, prefix)
  if type(prefix) == "string" then
    return type(value) == "string" and value:sub(1, #prefix) == prefix
  end
  if not is_container(value) or not is_array(value) or #value < #prefix then return false end
  for i = 1, #prefix do
    if not equal(value[i], prefix[i]) then return false end
  end
  return true
end

--- The bytes by which a value is sorted. Values that can't be keys come first, as nil and null do.
function M.sort_key(value)
  if value == nil or value == null then return "" end
  return core.key(value) or ""
end

--- The value without any lazy record in it.
function M.plain(value)
  if type(value) == "userdata" and value ~= null then return core.table(value) end
  return value
end

local keeps_order = false

--- From now on results may be lazy records, which keep the order of their keys: for a process that only prints them.
function M.keep_order()
  keeps_order = true
end

--- A value as it is delivered: plain, unless the order of keys is kept.
function M.delivered(value)
  return keeps_order and value or M.plain(value)
end

return M
