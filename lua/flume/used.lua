-- Views on views: what a script reads of the views that its `uses` names.
--
-- It has instances of them for itself, in the same Lua state, and their states in its own store, committed along with
-- its own. Each record is folded into them first, in the order in which they use each other, and then into the view: so
-- at record n it sees them at n, live and in a rebuild, wherever the views of these names are themselves.
--
-- Runs in a script view's own Lua state too.

local core = rawget(_G, "flume_core") or require "flume.core"

local M = {}

local VERSION_MAX_BYTES = 46 -- with the stamp behind it, what a store has room for

local function copy(value)
  if type(value) ~= "table" then return value end
  return (core.decode((assert(core.encode(value)))))
end

-- --- What keeps their states -------------------------------------------------------------------------------------

-- One state, in a row of its own; in a table, as it may be nil.
local function keep_one(name, host)
  local store, changed
  local function attach(given) store = given end
  local function advance(item, seq)
    host.acc, changed = host.step(host.acc, item, seq), true
  end
  local function flush()
    if changed then store.put_used(core.array {name}, {state = host.acc}) end
    changed = false
  end
  local function forget()
    local kept = store.get_used(core.array {name})
    changed = false
    if kept then host.acc = kept.state
    else host.acc = core.decode(host.initial) end
  end
  return {attach = attach, advance = advance, flush = flush, forget = forget}
end

-- A state for each key, in a row for each.
local function keep_groups(name, host)
  local function attach(store)
    host.attach {
      id = store.id, since = store.since,
      get = function (key) return store.get_used(core.array {name, key}) end,
      put = function (key, state) store.put_used(core.array {name, key}, state) end,
    }
  end
  return {attach = attach, advance = host.step, flush = host.flush, forget = host.forget}
end

-- --- Finding them ------------------------------------------------------------------------------------------------

local function check_names(invalid, name, uses)
  if type(uses) ~= "table" then invalid('view "%s": uses must be a list of names of views', name) end
  for _, each in ipairs(uses) do
    if type(each) ~= "string" then invalid('view "%s": uses must be a list of names of views', name) end
  end
end

local function cycle_of(path, name)
  local from = 1
  while path[from] ~= name do from = from + 1 end
  return table.concat(path, " -> ", from) .. " -> " .. name
end

-- What a definition's function gets as its last argument.
local function bind(definition, used)
  local bound = setmetatable({}, {__index = function (_, field)
    if field ~= "retract" then return definition[field] end -- what it did to what others saw can't be taken back
  end})
  local reducer, indexer = definition.reducer, definition.indexer
  if reducer then bound.reducer = function (state, item, seq) return reducer(state, item, seq, used) end end
  if indexer then bound.indexer = function (item, seq, emit) return indexer(item, seq, emit, used) end end
  return bound
end

--- The definition with its functions bound to what it uses; and what has to be done for that, see M.attach; the
--- definition alone when it uses nothing. world: kinds, options (of the host), find(name) -> source,
--- run(name, source) -> definition, fingerprint(source)
function M.resolve(name, definition, world)
  local invalid, order, made, path = world.kinds.invalid, {}, {}, {name}

  local handles_of

  local function make(used_name)
    local source = world.find(used_name)
    if not source then invalid('view "%s": it uses "%s", of which there is no script', path[#path], used_name) end
    local used = world.run(used_name, source)
    if type(used) ~= "table" or used.reducer == nil then
      invalid('view "%s": it uses "%s", which is no reducer', path[#path], used_name)
    end
    path[#path + 1] = used_name
    local stamp = used.version ~= nil and "version " .. tostring(used.version) or world.fingerprint(source)
    if used.uses ~= nil then used = bind(used, handles_of(used_name, used)) end
    path[#path] = nil
    local host = world.kinds.make(used_name, used, world.options)
    local keep = host.kind == "group" and keep_groups or keep_one
    order[#order + 1] = {name = used_name, stamp = stamp, keep = keep(used_name, host)}
    made[used_name] = {get = function (_, key) return copy(host.view.get(host.view, key)) end}
    return made[used_name]
  end

  function handles_of(user, given)
    check_names(invalid, user, given.uses)
    local handles = {}
    for _, each in ipairs(given.uses) do
      for _, before in ipairs(path) do
        if before == each then invalid('view "%s": views use each other: %s', name, cycle_of(path, each)) end
      end
      handles[each] = made[each] or make(each)
    end
    return handles
  end

  if type(definition) ~= "table" or definition.uses == nil then return definition, nil end
  if definition.reducer == nil and type(definition.indexer) ~= "function" then
    invalid('view "%s": uses is for a reducer, or an indexer that is a function', name)
  end
  local handles = handles_of(name, definition)
  return bind(definition, handles), {order = order, handles = handles}
end

-- --- In lockstep -------------------------------------------------------------------------------------------------

-- The step of the host, behind those of what it uses.
local function lead(host, order)
  local step = host.step
  local function advance(item, seq)
    for i = 1, #order do order[i].keep.advance(item, seq) end
  end
  if host.kind == "reduce" then
    function host.step(state, item, seq)
      advance(item, seq)
      return step(state, item, seq)
    end
  else
    function host.step(item, seq, emit)
      advance(item, seq)
      return step(item, seq, emit)
    end
  end
end

local function also(order, what, own)
  return function (...)
    for i = 1, #order do order[i].keep[what](...) end
    if own then return own(...) end
  end
end

--- Makes a host fold what its view uses along with it.
function M.attach(host, used)
  local order = used.order
  lead(host, order)
  host.retract, host.anew = nil, true
  host.attach = also(order, "attach", host.attach)
  host.flush = also(order, "flush", host.flush)
  host.forget = also(order, "forget", host.forget)
  host.view.used = used.handles
end

--- What tells apart the versions of a view that has one: its own, and those of what it uses. And their names.
function M.stamp(invalid, name, version, used)
  local names, hash = {}, 0
  for i, each in ipairs(used.order) do
    names[i] = each.name
    hash = core.fingerprint_bytes(each.stamp, core.fingerprint_bytes(each.name, hash))
  end
  if version == nil then return nil, names end
  local text = tostring(version)
  if #text > VERSION_MAX_BYTES then
    invalid('view "%s": a version of more than %d bytes, of a view that uses others', name, VERSION_MAX_BYTES)
  end
  return ("%s+%016x"):format(text, hash), names
end

return M
