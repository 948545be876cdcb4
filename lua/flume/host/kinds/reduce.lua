-- A reducer: one state, state = reducer(state, item, seq).

local world = ...
local definition = world.import "definition"
local entries = world.import "entries"

--- The host of a definition with a reducer and without groups.
return function (name, given)
  local host = {
    kind = "reduce", step = given.reducer, store = nil,
    initial = definition.encode_initial(name, given), acc = nil, methods = {get = "async", deltas = "source"},
  }
  host.retract = definition.retracting(host, given.retract)
  function host.state() return host.store.since(), definition.copy(host.acc) end
  host.view = {name = name, get = function () return host.acc end}
  function host.attach(store) host.store = store end
  function host.changes() return {state = host.acc} end
  -- What leaves a state of its own is copied on the way; in the caller's state it is copied here.
  host.functions = definition.with_builtin(given, {
    get = world.own_state and host.view.get or function () return definition.copy(host.acc) end,
    deltas = entries.deltas,
  })
  return host
end
