-- Testing views: a view folded over events that are given, without a database on disk.
--
--   local testing = require "flume.testing"
--   testing.fold("views/sum.lua", {{n = 1}, {n = 2}})                 the state: 3
--   testing.with("views/sum.lua", {{n = 1}}, function (sum, db)       for asking its methods, and more events
--     assert(sum:get() == 1)
--   end)
--   testing.difference(expected, got)                                 nil, or where they differ, in words
--   testing.run{view =, {name =, events =, expect =, …}, …}           the cases of `flume test`, see run
--
-- A view is what db:use takes: a table, or the path of a file. It runs as it does in a database: a script in its
-- sandbox, with its limits. Events are a list of values, and get the seqs 0, 1, 2 …

local flume = require "flume"
local pretty = require "flume.pretty"

local M = {}

local NAME = "view"
local BATCH = 1000

-- --- Folding --------------------------------------------------------------------------------------------------------

local function append_all(db, events)
  for first = 1, #events, BATCH do
    local batch = table.move(events, first, math.min(first + BATCH - 1, #events), 1, {})
    local seq, message = db:append(flume.array(batch))
    if not seq then error(("event %d or one of those behind it: %s"):format(first, message), 0) end
  end
end

local function check_events(events, level)
  if type(events) ~= "table" or next(events, #events > 0 and #events or nil) ~= nil then
    error("flume.testing: events must be a list", level + 1)
  end
end

--- Calls fn(view, db) with the view folded over the events, in a database in memory; returns what it does. Raises what
--- the view raises.
function M.with(view, events, fn)
  check_events(events, 2)
  local db <close> = assert(flume.new(flume.log.memory()))
  local mounted, problem = pcall(db.use, db, NAME, view)
  if not mounted then error(problem, 0) end
  append_all(db, events)
  local ok, message = db[NAME]:ready()
  if not ok then error(message, 0) end
  return fn(db[NAME], db)
end

-- A group's key as the key of a table: an array has none of its own, and stands as JSON.
local function table_key(key)
  return type(key) == "table" and flume.json.encode(key) or key
end

local STATES = {
  reduce = function (view) return view:get() end,

  group = function (view)
    local groups = {}
    for key, state in view:read{} do groups[table_key(key)] = state end
    return groups
  end,

  index = function (view)
    local entries = {}
    for key, value, seq in view:read{} do entries[#entries + 1] = {key = key, value = value, seq = seq} end
    return entries
  end,
}

--- The state of a view after the events. Of a reducer: its state. Of a grouped one: a table of the groups' states. Of
--- an indexer: a list of its entries {key =, value =, seq =} in the order of keys; value is the record where it emitted
--- none.
function M.fold(view, events)
  check_events(events, 2)
  return M.with(view, events, function (mounted, db)
    local state = STATES[db:status().views[NAME].kind]
    if not state then error("flume.testing: a view that keeps itself has no state that could be told", 0) end
    return state(mounted)
  end)
end

-- --- Comparing ------------------------------------------------------------------------------------------------------

local function place_of(path, key)
  if type(key) == "string" and key:find "^[%a_][%w_]*$" then return path .. "." .. key end
  return ("%s[%s]"):format(path, pretty.line(key))
end

local function describe(path, expected, got)
  return ("%s: expected %s, got %s"):format(path, pretty.line(expected), pretty.line(got))
end

local function difference(expected, got, path)
  local wanted, found = pretty.as_table(expected), pretty.as_table(got)
  if not (wanted and found) then
    if rawequal(expected, got) or not wanted and not found and expected == got then return nil end
    return describe(path, expected, got)
  end
  for key, value in next, wanted do
    local text = difference(value, found[key], place_of(path, key))
    if text then return text end
  end
  for key, value in next, found do
    if wanted[key] == nil then return describe(place_of(path, key), nil, value) end
  end
  return nil
end

--- nil when two values have the same contents, else where they first differ. path is what the whole is called.
function M.difference(expected, got, path)
  return difference(expected, got, path or "value")
end

-- --- Running the cases of a file ------------------------------------------------------------------------------------

local CASE = {name = "string", events = "table", expect = "any", calls = "table", fails = "string"}

local function check_case(case, number)
  if type(case) ~= "table" then return ("case %d is no table"):format(number) end
  for key, value in pairs(case) do
    local wanted = CASE[key]
    if not wanted then return ("case %d has an unknown field %s"):format(number, pretty.line(key)) end
    if wanted ~= "any" and type(value) ~= wanted then
      return ("case %d: %s must be a %s"):format(number, key, wanted)
    end
  end
  if case.expect == nil and not case.calls and not case.fails then
    return ("case %d expects nothing: expect, calls or fails"):format(number)
  end
end

-- All that a source gives, as a list; a pair of values as a list of two.
local function drain(source)
  local list = {}
  for first, second in source do list[#list + 1] = second == nil and first or {first, second} end
  return list
end

-- One call {"method", args…, expect =}: nil, or what is wrong.
local function check_call(view, call)
  local method = call[1]
  local kind = view.methods[method]
  if not kind then return ("the view has no method %s"):format(pretty.line(method)) end
  local results = table.pack(view[method](view, table.unpack(call, 2)))
  local got = results[1]
  if got == nil and results[3] ~= nil then return ("%s: %s"):format(method, results[2]) end
  if kind == "source" or kind == "records" then got = drain(got) end
  return M.difference(call.expect, got, method)
end

local function run_case(view, case)
  if case.expect ~= nil then
    local text = M.difference(case.expect, M.fold(view, case.events), "state")
    if text then return text end
  end
  return M.with(view, case.events, function (mounted)
    for _, call in ipairs(case.calls or {}) do
      local text = check_call(mounted, call)
      if text then return text end
    end
  end)
end

-- nil, or what is wrong with a case.
local function outcome(view, case)
  local ok, text = pcall(run_case, view, case)
  if not case.fails then return text and tostring(text) end
  if ok and text == nil then return ("it was to fail with %q, and did not"):format(case.fails) end
  return not tostring(text):find(case.fails, 1, true) and ("it was to fail with %q, not: %s"):format(case.fails, text)
    or nil
end

--- Runs cases: spec.view is the view, and each element of the list a case:
---
---   name     what it shows
---   events   a list of values
---   expect   the state after them, as fold gives it
---   calls    a list of calls of the view's methods, {"method", arguments…, expect = result}
---   fails    a part of the message that the view is to fail with
---
--- Returns a list of {name =, ok =, message =}. A case that is none is a failure as well.
function M.run(spec)
  local results = {}
  for i, case in ipairs(spec) do
    local message = check_case(case, i)
    if not message then
      local given = {events = case.events or {}, expect = case.expect, calls = case.calls, fails = case.fails}
      message = outcome(spec.view, given)
    end
    local name = type(case) == "table" and type(case.name) == "string" and case.name or "case " .. i
    results[i] = {name = name, ok = message == nil, message = message}
  end
  return results
end

return M
