-- A reducer with group: one state for each key, kept in the view's store and fetched when it is needed.

local world = ...
local core = world.core
local definition = world.import "definition"
local entries = world.import "entries"
local paths = world.import "paths"

local M = {}

--- How many groups are kept at hand, and after how many records the memory of a view's own state is looked at.
M.limits = {at_hand = 50000, look_at_memory_every = 512}

local function is_itself(key)
  local kind = type(key)
  return kind == "string" or kind == "number" or kind == "boolean"
end

-- What stands for a key in a table: arrays with the same values are the same key.
local function new_ids(host)
  local tokens = {} -- bytes of an array -> {key =}

  -- The id of a key, and the key as plain values.
  local function id_of(key)
    if is_itself(key) then return key, key end
    local bytes = host.store.id(key)
    local token = tokens[bytes]
    if not token then
      token = {key = core.table(key)}
      tokens[bytes] = token
    end
    return token, token.key
  end

  -- The same without adding one: nil for a key without an id.
  local function known_id(key)
    if is_itself(key) then return key end
    return tokens[host.store.id(key)]
  end

  return id_of, known_id, function () tokens = {} end
end

-- The states at hand: fetched from the store, and perhaps changed since.
local function new_states(host, initial, memory)
  local id_of, known_id, forget_ids = new_ids(host)
  local at_hand, changed, count, ticks = {}, {}, 0, 0

  local function flush()
    local store = host.store
    for id, key in pairs(changed) do
      store.put(key, at_hand[id])
      changed[id] = nil
    end
  end

  local function forget()
    at_hand, changed, count = {}, {}, 0
    forget_ids()
  end

  local function is_too_much()
    if count > M.limits.at_hand then return true end
    ticks = ticks + 1
    return memory and ticks % M.limits.look_at_memory_every == 0 and collectgarbage "count" * 1024 > memory / 4
  end

  local function stored(key)
    local state = host.store.get(key)
    if state == nil then state = core.decode(initial) end
    return state
  end

  local function fetch(id, key)
    local state = at_hand[id]
    if state ~= nil then return state end
    return stored(key)
  end

  -- For a caller who only reads: nothing is kept of it.
  local function look_up(key)
    local id, state = known_id(key), nil
    if id ~= nil then state = at_hand[id] end
    if state ~= nil then return state end
    return stored(key)
  end

  local function keep(id, key, state)
    if at_hand[id] == nil then count = count + 1 end
    at_hand[id] = state
    if state == nil then
      changed[id] = nil
      count = count - 1
      return host.store.put(key, nil)
    end
    changed[id] = key
    if not is_too_much() then return end
    flush()
    forget()
    if memory then collectgarbage() end
  end

  return {id_of = id_of, fetch = fetch, look_up = look_up, keep = keep, flush = flush, forget = forget}
end

-- Why a key is none, without the place in flume's own source.
local function reason_of(err)
  return type(err) == "string" and err:match "key[%d%[%]]*: .* can't be a key$"
end

-- The group of an item: its id and its plain key; nil for none. is_path: a path leads to the key, and a record that has
-- something there that can't be a key belongs to no group. A function that gives such a key has failed.
local function grouping(id_of, group, is_path)
  return function (item, seq)
    local key = group(item, seq)
    if key == nil or key == core.null then return nil end
    if key ~= key then
      if is_path then return nil end
      error("the group is nan", 0)
    end
    if is_itself(key) then return key, key end
    local ok, id, plain = pcall(id_of, key)
    if ok then return id, plain end
    local reason = reason_of(id)
    if reason and is_path then return nil end
    error(reason or id, 0)
  end
end

--- The host of a definition with a reducer and a group.
function M.new(name, given, options)
  local group, is_path = given.group, type(given.group) ~= "function"
  if is_path then group = paths.key_function(paths.check(name, "group", group)) end
  local host = {kind = "group", initial = nil, store = nil, view = {name = name}}
  local states = new_states(host, definition.encode_initial(name, given), options.memory)
  local fetch, keep, group_of = states.fetch, states.keep, grouping(states.id_of, group, is_path)
  host.flush, host.forget = states.flush, states.forget

  local function folding(fn)
    return fn and function (item, seq)
      local id, key = group_of(item, seq)
      if id ~= nil then keep(id, key, fn(fetch(id, key), item, seq)) end
    end
  end

  host.step, host.retract = folding(given.reducer), folding(definition.retracting(host, given.retract))

  function host.view.get(_, key)
    local state = states.look_up(key)
    if state == nil or world.own_state then return state end
    return definition.copy(state)
  end

  local builtin = {get = host.view.get}
  entries.add_reading(host, builtin)
  entries.add_changes(host, function (item, seq)
    local _, key = group_of(item, seq)
    return key
  end, function (key) return host.store.get(key) end)
  host.functions = definition.with_builtin(given, builtin)
  return host
end

return M
