-- What the kinds with entries in the store have in common: groups, aggregates and indexes. They are read as ranges, and
-- tell deltas (view/deltas.lua) what has changed.

local world = ...
local core = world.core
local is_key = world.import "paths".is_key
local ranges = world.import "ranges"

local M = {}

local SHOWN = 100 -- groups or entries that a dry run shows, at most

--- The method deltas of any kind: deltas are made where the log is, which asks the host for states and changes.
function M.deltas()
  error("deltas are read as db.NAME:deltas{…}", 0)
end

--- Adds the functions that read the store to the host, and the methods read, count and deltas to builtin.
function M.add_reading(host, builtin)
  local store

  function host.attach(functions)
    store = functions
    host.store, host.emit = store, store.emit
  end

  -- The entries in a range, where the next page begins, and as of which seq that is.
  function host.page(...)
    host.flush()
    local items, resume = store.page(...)
    return items, resume, store.since()
  end

  function host.recent(...)
    host.flush()
    return store.recent(...)
  end

  function host.follow(change)
    host.flush()
    store.follow(change)
    return store.since()
  end

  -- What a dry run has put into the store.
  function host.changes()
    local items, more = host.page(nil, SHOWN)
    return {items = items, more = more ~= nil, count = store.count()}
  end

  local view = host.view
  view.range = ranges.reader(host)
  view.read = view.range
  function view.count(_, range)
    local wrong = ranges.check_count(range)
    if wrong then error("count: " .. wrong, 0) end
    host.flush()
    local count = store.count(range)
    return range and math.min(count, ranges.limit_of(range)) or count
  end
  builtin.read, builtin.count, builtin.deltas = view.read, view.count, M.deltas
  host.methods = {get = "async", read = "source", count = "async", deltas = "source"}
end

--- Adds host.changed(range, records), for views with groups. records: a list of {seq, item}. It answers up to which seq
--- the view is, and the groups in the range that the records belong to: {id, key, state} each, once; without a state
--- when the group does not exist. key_of(item, seq) gives the key of an item, or what can't be a key for none.
function M.add_changes(host, key_of, state_of)
  function host.changed(range, records)
    local store, seen, items = host.store, {}, {}
    local since = store.since()
    host.flush()
    for _, record in ipairs(records) do
      local key = nil
      if record[1] <= since then key = key_of(record[2], record[1]) end
      if is_key(key) and store.within(range, key) then
        local id = store.id(key)
        if not seen[id] then items[#items + 1] = {id, core.table(key), state_of(key)} end
        seen[id] = true
      end
    end
    return since, items
  end
end

return M
