-- Plans a query: turns a condition into a set of candidates (lua/view/lua_seqset.c), which has all records that meet
-- the condition, and tells whether it is exact, so that no record has to be tested.
--
-- A plan is made twice: first to know the indexes, so that the run can wait for them; then, when they have caught up,
-- to choose by their sizes which of them are worth reading. A set is a tree of lists such as {"key", index, value}.

local core = require "flume.core"
local Indexes = require "flume.query.indexes"
local values = require "flume.query.values"

local M = {}

-- A range of an index is read entry by entry. Where other indexes leave few records, looking at these is less work.
local RANGE_ALWAYS, RANGE_TIMES = 4096, 16

local RANGE_OPS = {gt = true, gte = true, lt = true, lte = true}

local function is_scalar(value)
  local kind = type(value)
  return kind == "string" or kind == "boolean" or kind == "number" and value == value
end

-- A leaf of the tree; notes that the index is used.
local function leaf(self, kind, path, make)
  local index = self.indexes:find(kind, path)
  if not index then return nil end
  self.used[index] = true
  return make(index)
end

local function everything(self)
  return {"bytes", self.all, "*"}
end

local function of_kinds(self, path, kinds)
  return leaf(self, "kind", path, function (index)
    local list = {"or"}
    for i, byte in ipairs(kinds) do list[i + 1] = {"bytes", index, byte} end
    return list
  end)
end

-- --- Ranges ------------------------------------------------------------------------------------------------------

-- The bounds of all numbers, or all strings, in the order of keys.
local function class_bounds(class)
  if class == "number" then return {lt = false} end
  return {gte = "", lt = core.array {}}
end

-- The range of an index for all of the conditions, which are of one path; nil when one range can't have it.
local function range_of(list)
  local class
  for _, each in ipairs(list) do
    local own = type(each.value)
    if own ~= "number" and own ~= "string" or each.value ~= each.value then return nil end
    if class and class ~= own then return nil end
    class = own
  end
  local range = {}
  for _, each in ipairs(list) do
    if each.op == "prefix" then
      if range.prefix and range.prefix ~= each.value then return nil end
      range.prefix = each.value
    else
      if range[each.op] ~= nil then return nil end
      range[each.op] = each.value
    end
  end
  for bound, value in pairs(class_bounds(class)) do
    if range[bound] == nil and not (bound == "lt" and range.lte) and not (bound == "gte" and range.gt) then
      range[bound] = value
    end
  end
  if class == "number" and not (range.gt or range.gte) then range.gte = -math.huge end
  return range
end

local function plan_range(self, list)
  local range = range_of(list)
  if not range then return nil, false end
  self.has_range = true
  local set = leaf(self, "by", list[1].path, function (index) return {"range", index, range} end)
  return set, set ~= nil
end

-- --- Conditions --------------------------------------------------------------------------------------------------

local plan

local PLANS = {}

function PLANS.eq(self, node)
  if not is_scalar(node.value) then return nil, false end
  local set = leaf(self, "is", node.path, function (index) return {"key", index, node.value} end)
  return set, set ~= nil
end

function PLANS.one_of(self, node)
  local list = {"or"}
  for i, value in ipairs(node.value) do
    if not is_scalar(value) then return nil, false end
    list[i + 1] = leaf(self, "is", node.path, function (index) return {"key", index, value} end)
    if not list[i + 1] then return nil, false end
  end
  if #list == 1 then return nil, false end
  return list, true
end

function PLANS.prefix(self, node)
  if type(node.value) ~= "string" then return nil, false end
  return plan_range(self, {node})
end

function PLANS.present(self, node)
  if #node.path == 0 then return nil, false end
  local set = of_kinds(self, node.path, Indexes.KINDS.present)
  return set, set ~= nil
end

function PLANS.type(self, node)
  local kinds = Indexes.KINDS[node.value]
  if #node.path == 0 or not kinds and node.value ~= "undefined" then return nil, false end
  local set = of_kinds(self, node.path, kinds or Indexes.KINDS.any)
  if set and not kinds then set = {"without", everything(self), set} end
  return set, set ~= nil
end

for op in pairs(RANGE_OPS) do
  PLANS[op] = function (self, node) return plan_range(self, {node}) end
end

function PLANS.any(self, node)
  local list, all_exact = {"or"}, true
  for i, each in ipairs(node) do
    local set, exact = plan(self, each)
    if not set then return nil, false end
    list[i + 1], all_exact = set, all_exact and exact
  end
  return list, all_exact
end

-- Negates each condition of a list by itself: an index may answer some of them.
local function negated(list)
  local made = {op = list.op == "any" and "all" or "any"}
  for i, each in ipairs(list) do made[i] = {op = "none", each} end
  return made
end

function PLANS.none(self, node)
  local inner = node[1]
  if inner.op == "none" then return plan(self, inner[1]) end
  if inner.op == "any" or inner.op == "all" then return plan(self, negated(inner)) end
  local set, exact = plan(self, inner)
  if not exact then return nil, false end
  return {"without", everything(self), set}, true
end

-- The conditions of a list; bounds of the same path become one list, with the path as its field is_range.
local function gather_ranges(node)
  local gathered, by_path = {}, {}
  for _, each in ipairs(node) do
    local text = RANGE_OPS[each.op] and values.path_text(each.path) .. ": " .. type(each.value)
    local list = text and by_path[text]
    if list then
      list[#list + 1] = each
    else
      local at = text and {each, is_range = text} or each
      if text then by_path[text] = at end
      gathered[#gathered + 1] = at
    end
  end
  return gathered
end

local function plan_one(self, each)
  if not each.is_range then return plan(self, each) end
  local set, exact = plan_range(self, each)
  if set or #each == 1 then return set, exact end
  local sets = {"and"}
  for _, node in ipairs(each) do
    local one = plan_range(self, {node})
    if not one then return nil, false end
    sets[#sets + 1] = one
  end
  return sets, true
end

-- The number of records in a set.
local function count(self, set)
  if set[1] == "range" then return set[2].view._instance.host.view:count(set[3]) end
  return core.seqset(M.resolve(set)):count(0, self.last_seq)
end

-- Removes the ranges that cost more than they save. Returns the sets that are left, and whether a range was removed.
local function leave_out(self, sets)
  local fewest, kept, left_out = math.huge, {}, false
  for _, set in ipairs(sets) do
    if set[1] ~= "range" then fewest = math.min(fewest, count(self, set)) end
  end
  for _, set in ipairs(sets) do
    local size = set[1] == "range" and fewest < math.huge and count(self, set) or 0
    if size > RANGE_ALWAYS and size > fewest * RANGE_TIMES then left_out = true else kept[#kept + 1] = set end
  end
  return kept, left_out
end

local function is_everything(self, set)
  return set[1] == "bytes" and set[2] == self.all
end

-- The sets of a list of conditions: those to intersect, those to subtract, and whether the result is exact.
local function plan_list(self, node)
  local walked, sets, without, all_exact, has_range = self.walked, {}, {}, true, false
  self.walked = nil -- of the outermost list alone
  for _, each in ipairs(gather_ranges(node)) do
    if not (walked and each.is_range and walked == each.is_range) then
      local set, exact = plan_one(self, each)
      all_exact = all_exact and exact
      has_range = has_range or set and set[1] == "range"
      if set and set[1] == "without" and is_everything(self, set[2]) then
        table.move(set, 3, #set, #without + 1, without)
      elseif set then
        sets[#sets + 1] = set
      end
    end
  end
  if not (has_range and self.last_seq) then return sets, without, all_exact end
  local kept, left_out = leave_out(self, sets)
  return kept, without, all_exact and not left_out
end

local function is_key_first(a, b)
  return a[1] == "key" and b[1] ~= "key"
end

function PLANS.all(self, node)
  local sets, without, exact = plan_list(self, node)
  if #sets == 0 and #without == 0 then return nil, exact end
  table.sort(sets, is_key_first)
  local set = #sets == 0 and everything(self) or #sets == 1 and sets[1] or {"and", table.unpack(sets)}
  if #without > 0 then set = {"without", set, table.unpack(without)} end
  return set, exact
end

function plan(self, node)
  local make = PLANS[node.op]
  if not make then return nil, node.op == "always" and false end
  return make(self, node)
end

--- The plan with the views' handles in place of the indexes, for core.seqset.
function M.resolve(set)
  local made = {set[1]}
  for i = 2, #set do
    local each = set[i]
    if i == 2 and each.view then made[i] = each.view._core
    elseif made[1] == "key" or made[1] == "bytes" or made[1] == "range" then made[i] = each
    else made[i] = M.resolve(each) end
  end
  return made
end

-- --- Order -------------------------------------------------------------------------------------------------------

-- The range of the path's index that has all records in question, when the conditions make one range; and the name of
-- that range in gather_ranges.
local function walked_range(list, path)
  local text, range, name = values.path_text(path) .. ": ", nil, nil
  for _, each in ipairs(gather_ranges(list)) do
    if each.is_range and each.is_range:sub(1, #text) == text then
      if name then return nil end
      name, range = each.is_range, range_of(each)
    end
  end
  return range, range and name
end

-- The indexes for an order: of the values, and of their kinds, which knows the records without a key.
local function plan_order(self, path, list)
  local by, kind = self.indexes:find("by", path), self.indexes:find("kind", path)
  if not (by and kind) then return nil end
  self.used[by], self.used[kind] = true, true
  local range, name = walked_range(list, path)
  self.walked = name
  return {by = by, kind = kind, range = range or {}, has_range = range ~= nil}
end

-- The records of the set that have no key in the order.
local function rest_of(self, order, set)
  local keyed = {"or"}
  for i, byte in ipairs(Indexes.KINDS.key) do keyed[i + 1] = {"bytes", order.kind, byte} end
  return {"without", set or everything(self), keyed}
end

--- The plan for a condition (nil: none), in the order of a path (nil: of the log):
---
---   set     the records that may meet it; nil: all (or with order.has_range: all in that range)
---   exact   whether all of them do
---   used    set of the indexes that this needs
---   has_range   whether the plan depends on the sizes of indexes, so that it is made again when they have caught up
---   order   {by = index, range =, rest = set of those that are not in the index, or nil}; nil: that of the log
---
--- last_seq: of the last record in question; nil in the first plan. Returns nil when there can't be an index for the
--- order.
function M.make(condition, path, indexes, all, last_seq)
  local self = {indexes = indexes, all = all, used = {}, last_seq = last_seq, walked = nil, has_range = false}
  local list = not condition and {op = "all"} or condition.op == "all" and condition or {op = "all", condition}
  local order = path and plan_order(self, path, list)
  if path and not order then return nil end
  local set, exact
  if condition and not indexes.usable then exact = false else set, exact = PLANS.all(self, list) end
  if indexes:skip_some() then set = set and {"and", set, everything(self)} or everything(self) end
  if order and not order.has_range then order.rest = rest_of(self, order, set) end
  return {set = set, exact = exact, used = self.used, order = order, has_range = self.has_range}
end

return M
