-- Filters: trees of conditions that a record has to meet. A tree is made of a $filter, or by the functions of
-- flume.query (conditions.lua). It is compiled to one function, and plan.lua finds the indexes that answer parts of it.
--
--   {op = "all" | "any", [1..n]}       of the conditions
--   {op = "none", condition}
--   {op = NAME, path = list of steps, value = operand}     see TESTS

local core = require "flume.core"
local values = require "flume.query.values"

local M = {}

local Condition = {}
Condition.__index = Condition
Condition.__name = "flume.query.condition"

local function new(op, path, value)
  return setmetatable({op = op, path = path, value = value}, Condition)
end

local function combined(op, list)
  if op == "none" and list[1].op == "none" then return list[1][1] end
  local condition = setmetatable({op = op}, Condition)
  for _, each in ipairs(list) do
    if each.op == op then table.move(each, 1, #each, #condition + 1, condition)
    else condition[#condition + 1] = each end
  end
  return #condition == 1 and op ~= "none" and condition[1] or condition
end

M.new, M.combined = new, combined

function M.is(value)
  return getmetatable(value) == Condition
end

--- A text that is equal for two conditions that are written in the same way. The functions of tests are left out.
function M.signature(condition)
  if condition == nil then return "all" end
  local parts = {condition.op}
  for i, each in ipairs(condition) do parts[i + 1] = M.signature(each) end
  if condition.path then
    local value = condition.value
    if type(value) == "function" or value == nil then value = type(value) end
    parts[#parts + 1] = core.encode_sorted(core.array {core.array(condition.path), value})
  end
  for i, part in ipairs(parts) do parts[i] = #part .. ":" .. part end
  return table.concat(parts)
end

local function check_both(a, b, sign)
  if not (M.is(a) and M.is(b)) then
    error(("a condition expected on both sides of %s, such as eq(\"type\", \"post\")"):format(sign), 3)
  end
end

function Condition.__band(a, b)
  check_both(a, b, "&")
  return combined("all", {a, b})
end

function Condition.__bor(a, b)
  check_both(a, b, "|")
  return combined("any", {a, b})
end

function Condition.__bnot(a)
  return combined("none", {a})
end

function Condition:__tostring()
  if not self.path then
    local parts = {}
    for i, each in ipairs(self) do parts[i] = tostring(each) end
    return ("%s(%s)"):format(self.op, table.concat(parts, ", "))
  end
  return ("%s(%s)"):format(self.op, values.path_text(self.path))
end

-- --- Tests -------------------------------------------------------------------------------------------------------

-- Compares values of the operand's class; a value of another class is neither above nor below.
local function ordered(fits)
  return function (operand)
    local class, class_of, compare = values.class_of(operand), values.class_of, values.compare
    return function (value)
      if class_of(value) ~= class then return false end
      local order = compare(value, operand)
      return order ~= nil and fits(order)
    end
  end
end

local function equal_to(operand)
  if not values.is_container(operand) then return function (value) return value == operand end end
  return function (value) return values.equal(value, operand) end
end

local function one_of(list)
  local known, others = {}, {}
  for _, each in ipairs(list) do
    if values.is_container(each) then others[#others + 1] = each
    elseif each == each then known[each] = true end
  end
  return function (value)
    if value == nil then return false end
    if known[value] then return true end
    for _, other in ipairs(others) do
      if values.equal(value, other) then return true end
    end
    return false
  end
end

local function contains(operand)
  return function (value)
    if not values.is_container(value) then return false end
    for _, each in pairs(value) do
      if values.equal(each, operand) then return true end
    end
    return false
  end
end

-- name -> function (operand) -> function (value) -> whether it passes
local TESTS = {
  eq = equal_to,
  gt = ordered(function (order) return order > 0 end),
  gte = ordered(function (order) return order >= 0 end),
  lt = ordered(function (order) return order < 0 end),
  lte = ordered(function (order) return order <= 0 end),
  one_of = one_of,
  contains = contains,
  prefix = function (operand) return function (value) return values.begins_with(value, operand) end end,
  type = function (operand) return values.IS[operand] end,
  present = function () return values.is_present end,
  truthy = function () return values.is_truthy end,
  integer = function () return values.IS.integer end,
  mod = function (operand)
    return function (value) return type(value) == "number" and values.is_truthy(math.fmod(value, operand)) end
  end,
  always = function () return function () return true end end,
  test = function (fn) return function (value) return fn(value) and true or false end end,
}

local function compile_list(list)
  local tests = {}
  for i, each in ipairs(list) do tests[i] = M.compile(each) end
  return tests
end

-- Sorts tests by their cost: the cheapest comes first.
local COST = {eq = 1, type = 1, present = 1, truthy = 1, one_of = 2, prefix = 2, all = 4, any = 4, none = 4}

local function cheap_first(list)
  local order = {}
  for i, each in ipairs(list) do order[i] = {each, (COST[each.op] or 3) * 1000 + i} end
  table.sort(order, function (a, b) return a[2] < b[2] end)
  for i, each in ipairs(order) do order[i] = each[1] end
  return order
end

local COMBINING = {
  all = function (list)
    local tests = compile_list(cheap_first(list))
    if #tests == 2 then
      local a, b = tests[1], tests[2]
      return function (item) return a(item) and b(item) end
    end
    return function (item)
      for i = 1, #tests do
        if not tests[i](item) then return false end
      end
      return true
    end
  end,
  any = function (list)
    local tests = compile_list(list)
    return function (item)
      for i = 1, #tests do
        if tests[i](item) then return true end
      end
      return false
    end
  end,
  none = function (list)
    local test = M.compile(list[1])
    return function (item) return not test(item) end
  end,
}

--- The condition as a function (item) -> boolean.
function M.compile(condition)
  local combine = COMBINING[condition.op]
  if combine then return combine(condition) end
  local get, test = values.getter(condition.path), TESTS[condition.op](condition.value)
  if #condition.path == 0 then return test end
  return function (item) return test(get(item)) end
end

-- --- Reading a $filter -------------------------------------------------------------------------------------------

--- Raises what is wrong with a query.
function M.invalid(fmt, ...)
  error({message = fmt:format(...), code = "EINVAL"}, 0)
end

local invalid = M.invalid

local function describe(value)
  if values.is_container(value) then return core.is_array(value) and "an array" or "an object" end
  if value == core.null then return "null" end
  return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

M.describe = describe

local function check_comparable(where, value)
  if not values.class_of(value) then
    invalid("%s: a number, a string, a boolean or an array expected, not %s", where, describe(value))
  end
  return value
end

local function comparing(op)
  return function (path, value, where) return new(op, path, check_comparable(where, value)) end
end

local function names_of(list)
  local names = {}
  for name in pairs(list) do names[#names + 1] = tostring(name) end
  table.sort(names)
  return table.concat(names, ", ")
end

M.names_of = names_of

local function check_type(path, value, where)
  if type(value) ~= "string" or not values.IS[value] then
    invalid("%s: there is no type %s; there are %s", where, describe(value), names_of(values.IS))
  end
  return new("type", path, value)
end

local function list_of(path, value, where, parse)
  if not (values.is_container(value) and core.is_array(value)) then
    invalid("%s: an array expected, not %s", where, describe(value))
  end
  local list = {}
  for i, each in ipairs(value) do list[i] = parse(each, path, ("%s[%d]"):format(where, i - 1)) end
  return list
end

local OPERATORS = {}

OPERATORS["$eq"] = function (path, value) return new("eq", path, value) end
OPERATORS["$ne"] = function (path, value) return combined("none", {new("eq", path, value)}) end
OPERATORS["$gt"], OPERATORS["$gte"] = comparing "gt", comparing "gte"
OPERATORS["$lt"], OPERATORS["$lte"] = comparing "lt", comparing "lte"
OPERATORS["$truthy"] = function (path) return new("truthy", path) end
OPERATORS["$is"] = check_type
OPERATORS["$int"] = function (path) return new("integer", path) end

OPERATORS["$not"] = function (path, value, where)
  if values.is_container(value) then return combined("none", {M.parse(value, path, where)}) end
  return combined("none", {new("truthy", path)})
end

OPERATORS["$prefix"] = function (path, value, where)
  if type(value) ~= "string" and not (values.is_container(value) and core.is_array(value)) then
    invalid("%s: a string or an array expected, not %s", where, describe(value))
  end
  return new("prefix", path, value)
end

OPERATORS["$in"] = function (path, value, where)
  return new("one_of", path, list_of(path, value, where, function (each) return each end))
end

OPERATORS["$type"] = function (path, value, where)
  if type(value) == "string" then return check_type(path, value, where) end
  return new("always", path)
end

OPERATORS["$mod"] = function (path, value, where)
  if type(value) ~= "number" or value == 0 then
    invalid("%s: a number other than 0 expected, not %s", where, describe(value))
  end
  return new("mod", path, value)
end

OPERATORS["$get"] = function (path, value, where)
  return new("truthy", M.join(path, M.parse_path(value, where)))
end

OPERATORS["$and"] = function (path, value, where) return combined("all", list_of(path, value, where, M.parse)) end
OPERATORS["$or"] = function (path, value, where) return combined("any", list_of(path, value, where, M.parse)) end

--- A path that is written as a key or a list of keys.
function M.parse_path(value, where)
  if type(value) == "string" or math.type(value) == "integer" then return {value} end
  if value == true then return {} end
  if not (values.is_container(value) and core.is_array(value)) then
    invalid("%s: a path (a key or an array of keys) expected, not %s", where, describe(value))
  end
  local path = {}
  for i, key in ipairs(value) do
    if type(key) ~= "string" and math.type(key) ~= "integer" then
      invalid("%s: the keys of a path are strings and integers, not %s", where, describe(key))
    end
    path[i] = key
  end
  return path
end

--- A path as Lua code gives it: a text is split at its dots. Raises at the level.
function M.path(value, level)
  if type(value) == "string" then
    local path = {}
    for key in (value .. "."):gmatch "([^.]*)%." do path[#path + 1] = key end
    return path
  end
  local ok, path = pcall(M.parse_path, value, "path")
  if not ok then error(path.message, level) end
  return path
end

function M.join(path, more)
  return table.move(more, 1, #more, #path + 1, table.move(path, 1, #path, 1, {}))
end

--- Whether a rule has operators: keys that begin with $. Raises for one that has other keys beside them.
function M.has_operators(rule, where)
  local operators, others
  for key in pairs(rule) do
    if type(key) == "string" and key:sub(1, 1) == "$" then operators = operators or key else others = others or key end
  end
  if operators and others then invalid("%s: %s stands beside the field %s", where, operators, tostring(others)) end
  return operators ~= nil
end

local function parse_operators(rule, path, where)
  local list = {}
  for name, value in pairs(rule) do
    local make = OPERATORS[name]
    local at = where .. "." .. name
    if not make then invalid("%s: there is no such operator; there are %s", at, names_of(OPERATORS)) end
    list[#list + 1] = make(path, value, at)
  end
  return combined("all", list)
end

-- Conditions that a missing value or null can't meet.
local DEMANDING = {gt = true, gte = true, lt = true, lte = true, prefix = true, contains = true, truthy = true,
  integer = true, mod = true}

local function is_demanding(condition, depth)
  if #(condition.path or "") <= depth then return false end
  return DEMANDING[condition.op] or condition.op == "eq" and values.is_present(condition.value)
end

--- The condition that a $filter is. where says where it is, for errors.
function M.parse(rule, path, where)
  if not values.is_container(rule) then
    if rule == nil or type(rule) == "function" then invalid("%s: it can't be a %s", where, type(rule)) end
    return new("eq", path, rule)
  end
  if M.has_operators(rule, where) then return parse_operators(rule, path, where) end
  local list, demanding, is_list = {}, false, core.is_array(rule)
  for key, value in pairs(rule) do
    local step = is_list and key - 1 or key
    local at = is_list and ("%s[%d]"):format(where, step) or where .. "." .. tostring(key)
    if type(step) == "number" then step = math.tointeger(step) end
    if type(step) ~= "string" and not step then invalid("%s: a field is named by a string", at) end
    local condition = M.parse(value, M.join(path, {step}), at)
    demanding = demanding or is_demanding(condition, #path)
    list[#list + 1] = condition
  end
  if not demanding then list[#list + 1] = new("present", path) end
  return combined("all", list)
end

return M
