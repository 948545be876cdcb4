-- The stages behind the filter of a query: $filter, $map, $reduce, $sort and limit. Values are pushed through them.
--
--   stage = make(next)      next: the stage that takes the results
--   stage.push(value, seq)  stage.finish()
--
-- push returns false when no more values are wanted. The seq is that of the value's record; nil behind a $reduce.

local core = require "flume.core"
local filter = require "flume.query.filter"
local values = require "flume.query.values"

local invalid, describe = filter.invalid, filter.describe

local M = {}

-- --- $map --------------------------------------------------------------------------------------------------------

-- In a $map these operators return a value.
local VALUES = {
  ["$type"] = function (value) return values.type_of(value) end,
  ["$mod"] = function (value, divisor) return type(value) == "number" and math.fmod(value, divisor) or nil end,
}

local compile_map

local function compile_composition(rule, where)
  local steps = {}
  for i, each in ipairs(rule) do steps[i] = compile_map(each, ("%s[%d]"):format(where, i - 1)) end
  return function (value)
    for i = 1, #steps do value = steps[i](value) end
    return value
  end
end

-- A $map of a single operator.
local function compile_operator(name, argument, where)
  if name == "$map" then return compile_map(argument, where) end
  if name == "$filter" then return filter.compile(filter.parse(argument, {}, where)) end
  if name == "$get" then return values.getter(filter.parse_path(argument, where)) end
  local give = VALUES[name]
  if not give then return filter.compile(filter.parse({[name] = argument}, {}, where:match "^(.*)%.[^.]*$")) end
  if name == "$mod" then filter.parse({[name] = argument}, {}, where:match "^(.*)%.[^.]*$") end
  return function (value) return give(value, argument) end
end

local function compile_operators(rule, where)
  local list = {}
  for name, argument in pairs(rule) do list[#list + 1] = compile_operator(name, argument, where .. "." .. name) end
  if #list == 1 then return list[1] end
  return function (value)
    for i = 1, #list do
      if not values.is_truthy(list[i](value)) then return false end
    end
    return true
  end
end

local function compile_fields(rule, where)
  local fields = {}
  for key, each in pairs(rule) do
    local at = ("%s.%s"):format(where, tostring(key))
    fields[key] = each == true and values.getter {key} or compile_map(each, at)
  end
  return function (value)
    if not values.is_present(value) then return nil end
    local made = {}
    for key, get in pairs(fields) do made[key] = values.plain(get(value)) end
    return core.map(made)
  end
end

--- A rule of $map as a function (value) -> value; nil for nothing.
function compile_map(rule, where)
  if rule == true then return function (value) return value end end
  if type(rule) == "string" or math.type(rule) == "integer" then return values.getter {rule} end
  if not values.is_container(rule) then
    invalid("%s: a key, a path, true or an object expected, not %s", where, describe(rule))
  end
  if core.is_array(rule) and #rule > 0 then return compile_composition(rule, where) end
  if filter.has_operators(rule, where) then return compile_operators(rule, where) end
  return compile_fields(rule, where)
end

local function map_stage(rule)
  local map = compile_map(rule, "$map")
  return function (next_stage)
    return {
      push = function (value, seq)
        local made = map(value)
        if made ~= nil then return next_stage.push(made, seq) end
      end,
      finish = next_stage.finish,
    }
  end
end

-- --- $reduce -----------------------------------------------------------------------------------------------------
--
-- A reducer: {new = function () -> state, step = function (state, value) -> state, finish = function (state) -> value}.

local function number(value)
  return type(value) == "number" and value or nil
end

local function extreme(is_better)
  return {
    new = function () return nil end,
    step = function (state, value)
      if values.class_of(value) == nil or value ~= value then return state end
      if state == nil then return values.plain(value) end
      local order = values.compare(value, state)
      return order and is_better(order) and values.plain(value) or state
    end,
  }
end

local REDUCERS = {
  ["$count"] = {new = function () return 0 end, step = function (state) return state + 1 end},
  ["$sum"] = {new = function () return 0 end, step = function (state, value) return state + (number(value) or 0) end},
  ["$product"] = {
    new = function () return 1 end,
    step = function (state, value) return state * (number(value) or 1) end,
  },
  ["$min"] = extreme(function (order) return order < 0 end),
  ["$max"] = extreme(function (order) return order > 0 end),
  ["$collect"] = {
    new = function () return core.array {} end,
    step = function (state, value)
      state[#state + 1] = value == nil and core.null or values.plain(value)
      return state
    end,
  },
}

local function same(state) return state end

local function reducer_of(name, argument, where)
  local kind, get = REDUCERS[name], compile_map(argument, where)
  return {
    new = kind.new,
    step = function (state, value) return kind.step(state, get(value)) end,
    finish = same,
  }
end

-- Each field of an object is reduced by itself.
local function fields_of(reducers)
  return {
    new = function ()
      local state = {}
      for key, each in pairs(reducers) do state[key] = each.new() end
      return state
    end,
    step = function (state, value)
      for key, each in pairs(reducers) do state[key] = each.step(state[key], value) end
      return state
    end,
    finish = function (state)
      local made = {}
      for key, each in pairs(reducers) do made[key] = each.finish(state[key]) end
      return core.map(made)
    end,
  }
end

-- A key of a Lua table for a value: the same for equal values, and for no others.
local function id_of(value)
  if value == nil then return "undefined" end
  local kind = type(value)
  if kind == "number" then return math.tointeger(value) or value == value and value or "nan" end
  if kind == "string" then return "s" .. value end
  if kind == "boolean" then return value end
  return "v" .. core.encode_sorted(value)
end

local function put_at(made, path, value)
  if value == nil then return end
  for i = 1, #path - 1 do
    made[path[i]] = made[path[i]] or core.map {}
    made = made[path[i]]
  end
  made[path[#path]] = value
end

local function is_before(a, b)
  for i = 1, #a.sort do
    if a.sort[i] ~= b.sort[i] then return core.is_below(a.sort[i], b.sort[i]) end
  end
  return a.place < b.place
end

-- The same, where reverse has true for each key of the sort that descends.
local function is_before_in(reverse)
  return function (a, b)
    for i = 1, #a.sort do
      if a.sort[i] ~= b.sort[i] then return core.is_below(a.sort[i], b.sort[i]) ~= reverse[i] end
    end
    return a.place < b.place
  end
end

-- Keeps a state for each combination of the values of the groups, {path =, get =} each.
local function grouped(groups, inner)
  local function find(state, value)
    local at, found = state.tree, {}
    for i, group in ipairs(groups) do
      local each = values.plain(group.get(value))
      local id = id_of(each)
      at[id] = at[id] or {}
      at, found[i] = at[id], each
    end
    local entry = at.entry
    if entry == nil then
      entry = {values = found, sort = {}, place = #state.list + 1, state = inner.new()}
      for i = 1, #groups do entry.sort[i] = values.sort_key(found[i]) end
      at.entry = entry
      state.list[entry.place] = entry
    end
    return entry
  end

  return {
    is_list = true,
    new = function () return {tree = {}, list = {}} end,
    step = function (state, value)
      local entry = find(state, value)
      entry.state = inner.step(entry.state, value)
      return state
    end,
    finish = function (state)
      table.sort(state.list, is_before)
      local list = core.array {}
      for _, entry in ipairs(state.list) do
        local made = inner.finish(entry.state)
        for i, group in ipairs(groups) do
          if #group.path == 0 then made = entry.values[i] else put_at(made, group.path, entry.values[i]) end
        end
        if made ~= nil then list[#list + 1] = made end
      end
      return list
    end,
  }
end

local compile_reduce

-- The name of a field for a value, as JavaScript makes it.
local function field_name(value)
  if value == nil then return "undefined" end
  if value == core.null then return "null" end
  if type(value) == "number" then
    local integer = math.tointeger(value)
    return integer and ("%d"):format(integer) or core.float_text(value)
  end
  return values.is_container(value) and core.json_show(value) or tostring(value)
end

-- $group beside a reduce: makes an object with a field for each value, which has fields for the values of the next
-- path.
local function compile_named_groups(rule, where)
  local given, paths = rule["$group"], {}
  local is_list = values.is_container(given) and core.is_array(given)
  for i, each in ipairs(is_list and given or {given}) do
    paths[i] = values.getter(filter.parse_path(each, where .. ".$group"))
  end
  local rest = {}
  for name, argument in pairs(rule) do
    if name ~= "$group" then rest[name] = argument end
  end
  if next(rest) == nil then invalid("%s.$group: there is nothing to be reduced beside it", where) end
  local inner = compile_reduce(rest, where)
  return {
    new = function () return {} end,
    step = function (state, value)
      local at = state
      for i = 1, #paths do
        local name = field_name(paths[i](value))
        if i == #paths then at[name] = inner.step(at[name] or inner.new(), value) break end
        at[name] = at[name] or {}
        at = at[name]
      end
      return state
    end,
    finish = function (state)
      local function finish(at, depth)
        local made = {}
        for name, each in pairs(at) do
          made[name] = depth == #paths and inner.finish(each) or finish(each, depth + 1)
        end
        return core.map(made)
      end
      return finish(state, 1)
    end,
  }
end

local function compile_operator_reduce(rule, where)
  if rule["$group"] ~= nil then return compile_named_groups(rule, where) end
  local name, argument = next(rule)
  if next(rule, name) ~= nil then
    invalid("%s: one reduce expected, not %s; give each a field of its own", where, filter.names_of(rule))
  end
  local at = where .. "." .. name
  if name == "$reduce" then return compile_reduce(argument, at) end
  if REDUCERS[name] then return reducer_of(name, argument, at) end
  return nil
end

-- Splits an object of rules: returns the reducers by their fields, and appends the rules to group by to groups.
local function collect_rules(rule, path, where, groups)
  local reducers = {}
  for key, each in pairs(rule) do
    local at, below = ("%s.%s"):format(where, tostring(key)), filter.join(path, {key})
    local is_object = values.is_container(each) and not (core.is_array(each) and #each > 0)
    if is_object and not filter.has_operators(each, at) then
      reducers[key] = fields_of(collect_rules(each, below, at, groups))
    else
      local reducer = is_object and compile_operator_reduce(each, at)
      if reducer then reducers[key] = reducer
      else groups[#groups + 1] = {path = below, get = compile_map(each, at)} end
    end
  end
  return reducers
end

-- Orders groups by their paths: a Lua table has no order.
local function by_path(a, b)
  return values.path_text(a.path) < values.path_text(b.path)
end

--- A rule of $reduce as a reducer; its field is_list is true when it gives a list of groups.
function compile_reduce(rule, where)
  local is_object = values.is_container(rule) and not (core.is_array(rule) and #rule > 0)
  if not is_object then return grouped({{path = {}, get = compile_map(rule, where)}}, fields_of {}) end
  if filter.has_operators(rule, where) then
    local reducer = compile_operator_reduce(rule, where)
    if not reducer then
      invalid("%s.%s: there is no such reduce; there are $group, %s", where, next(rule), filter.names_of(REDUCERS))
    end
    return reducer
  end
  local groups = {}
  local inner = fields_of(collect_rules(rule, {}, where, groups))
  if #groups == 0 then return inner end
  table.sort(groups, by_path)
  return grouped(groups, inner)
end

local function reduce_stage(rule)
  local reducer = compile_reduce(rule, "$reduce")
  return function (next_stage)
    local state = reducer.new()
    return {
      push = function (value) state = reducer.step(state, value) end,
      finish = function ()
        local made = reducer.finish(state)
        for _, each in ipairs(reducer.is_list and made or {made}) do
          if next_stage.push(each, nil) == false then break end
        end
        next_stage.finish()
      end,
    }
  end
end

-- --- $sort and limit ---------------------------------------------------------------------------------------------

-- A path, or {$asc: path}, {$desc: path}: the path, and whether it descends.
local function sort_key(rule, where)
  if not values.is_container(rule) or core.is_array(rule) and #rule > 0 then
    return filter.parse_path(rule, where), false
  end
  local name, path = next(rule)
  if (name ~= "$asc" and name ~= "$desc") or next(rule, name) ~= nil then
    invalid('%s: a path (a key or an array of keys), {"$asc": path} or {"$desc": path} expected, not an object', where)
  end
  return filter.parse_path(path, where .. "." .. name), name == "$desc"
end

--- The paths of a $sort, and a list that says which of them descend.
function M.sort_paths(rule)
  local is_list = values.is_container(rule) and core.is_array(rule)
  local paths, reverse = {}, {}
  for i, each in ipairs(is_list and rule or {rule}) do
    paths[i], reverse[i] = sort_key(each, is_list and ("$sort[%d]"):format(i - 1) or "$sort")
  end
  if #paths == 0 then invalid "$sort: an array of paths expected, not an empty one" end
  return paths, reverse
end

local function sort_stage(rule)
  local getters, paths, reverse = {}, M.sort_paths(rule)
  local comes_before = is_before_in(reverse)
  for i, path in ipairs(paths) do getters[i] = values.getter(path) end
  return function (next_stage)
    local list = {}
    return {
      push = function (value, seq)
        local sort = {}
        for i = 1, #getters do sort[i] = values.sort_key(getters[i](value)) end
        list[#list + 1] = {value = value, seq = seq, sort = sort, place = #list + 1}
      end,
      finish = function ()
        table.sort(list, comes_before)
        for _, each in ipairs(list) do
          if next_stage.push(each.value, each.seq) == false then break end
        end
        next_stage.finish()
      end,
    }
  end
end

local function filter_stage(rule)
  local test = filter.compile(filter.parse(rule, {}, "$filter"))
  return function (next_stage)
    return {
      push = function (value, seq)
        if test(value) then return next_stage.push(value, seq) end
      end,
      finish = next_stage.finish,
    }
  end
end

--- Passes the first values on, as many as limit.
function M.limit_stage(limit)
  return function (next_stage)
    local left = limit
    return {
      push = function (value, seq)
        if left <= 0 then return false end
        left = left - 1
        if next_stage.push(value, seq) == false then return false end
        return left > 0
      end,
      finish = next_stage.finish,
    }
  end
end

local MAKE = {["$filter"] = filter_stage, ["$map"] = map_stage, ["$reduce"] = reduce_stage, ["$sort"] = sort_stage}

--- Whether what a $reduce gives depends on the order of the values: it has a $collect.
function M.keeps_order(rule)
  if not values.is_container(rule) then return false end
  for key, each in pairs(rule) do
    if key == "$collect" or M.keeps_order(each) then return true end
  end
  return false
end

--- The stage that {[name] = rule} is.
function M.make(name, rule)
  return MAKE[name](rule)
end

M.is_before = is_before

return M
