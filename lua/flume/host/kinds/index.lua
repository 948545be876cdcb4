-- An index: entries (key, seq, value) in the store, by a function that emits them or by paths.

local world = ...
local definition = world.import "definition"
local entries = world.import "entries"
local paths = world.import "paths"

-- What the core does for paths, in Lua: for items that a mapper or a decoder has made.
local function path_indexer(list, is_list)
  local key_of = paths.key_function(list, is_list)
  return function (item, _, emit)
    local key = key_of(item)
    if paths.is_key(key) then pcall(emit, key) end -- what can't be a key has no entry
  end
end

--- The host of a definition with an indexer.
return function (name, given)
  local host = {kind = "index", step = given.indexer, view = {name = name}}
  if type(host.step) ~= "function" then
    local list, is_list = paths.check(name, "indexer", given.indexer)
    host.paths, host.shape = list, is_list and "array" or "value"
    host.step = path_indexer(list, is_list)
  end
  function host.flush() end
  function host.forget() end

  -- Up to which seq, and the entries from a seq on, as long as they are at hand, else nil.
  function host.came(range, from_seq)
    return host.store.since(), (host.recent(range, from_seq))
  end

  -- The newest entry of a key: its value (nil when it has none) and seq.
  function host.view.get(_, key)
    return host.store.newest(key)
  end

  local builtin = {get = host.view.get}
  entries.add_reading(host, builtin)
  host.functions = definition.with_builtin(given, builtin)
  return host
end
