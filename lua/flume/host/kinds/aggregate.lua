-- An aggregate: counts and the like for each key, which the core makes from paths without calling Lua.

local world = ...
local core = world.core
local definition = world.import "definition"
local entries = world.import "entries"
local paths = world.import "paths"

local invalid = definition.invalid

local NEEDS_PATH = {count = false, sum = true, min = true, max = true, distinct = true}

-- One field of the declaration, name = op or name = {op, path}, as {op, path, name =}.
local function field_of(name, field, given)
  local op, path = given, nil
  if type(given) == "table" then op, path = given[1], given[2] end
  local needs_path = NEEDS_PATH[op]
  if type(field) ~= "string" or needs_path == nil or (needs_path or path ~= nil) and not paths.is(path) then
    invalid('view "%s": aggregate.%s must be "count", or a list of count, sum, min, max or distinct and a path', name,
      tostring(field))
  end
  return {op, path, name = field}
end

local function fields_of(name, declared)
  local fields = {}
  if type(declared) ~= "table" then invalid('view "%s": aggregate must be a table of fields', name) end
  for field, given in pairs(declared) do fields[#fields + 1] = field_of(name, field, given) end
  if #fields == 0 then invalid('view "%s": aggregate has no fields', name) end
  table.sort(fields, function (a, b) return a.name < b.name end)
  return fields
end

-- A group's state (core/index/aggregate.h) as it is shown.
local function shown(fields, state)
  if state == nil then return nil end
  local row = {}
  for i, field in ipairs(fields) do
    local value = state[i + 1]
    if field[1] == "distinct" then value = core.distinct(value) end
    if value ~= core.null then row[field.name] = value end
  end
  return row
end

-- The pages of the store, with states as they are shown.
local function show_pages(host, fields)
  local function show(items, ...)
    for _, item in ipairs(items or {}) do item[3] = shown(fields, item[3]) end
    return items, ...
  end
  local page, recent = host.page, host.recent
  function host.page(...) return show(page(...)) end
  function host.recent(...) return show(recent(...)) end
end

local function add_group_changes(host, state_of)
  local value_of = paths.key_function(host.paths, host.paths_are_list)
  entries.add_changes(host, function (item)
    local key = value_of(item)
    if paths.is_key(key) and pcall(host.store.id, key) then return key end -- what can't be a key is in no group
  end, state_of)
end

--- The host of a definition with an aggregate.
return function (name, given)
  local fields = fields_of(name, given.aggregate)
  local host = {kind = "group", aggregate = fields, initial = nil, store = nil, view = {name = name}}
  if given.group ~= nil then host.paths, host.paths_are_list = paths.check(name, "group", given.group) end
  host.keyless = not host.paths
  function host.flush() host.store.flush() end
  function host.forget() host.store.forget() end
  function host.step(item) host.store.add(item) end -- for items that a mapper or a decoder has made
  function host.retract(item) host.store.remove(item) end

  local function state_of(key) return shown(fields, host.store.get(key)) end

  function host.view.get(_, key)
    if host.keyless then key = true end
    host.flush()
    return state_of(key)
  end

  local builtin = {get = host.view.get}
  entries.add_reading(host, builtin)
  show_pages(host, fields)
  if host.keyless then
    function host.state() return host.store.since(), host.view.get() end
  else
    add_group_changes(host, state_of)
  end
  host.functions = definition.with_builtin(given, builtin)
  return host
end
