-- The kinds of views: what the host makes of each sort of definition.
--
--   reducer              one state: state = reducer(state, item, seq)
--   reducer with group   one state for each key, kept in the view's store and fetched when it is needed
--   aggregate            counts and the like for each key, which the core makes from paths without calling Lua
--   indexer              entries (key, seq, value) in the store, by a function that emits them or by paths
--   bitmaps              sets of records by what they have at a path, in the store; for the next
--   query                what answers queries
--   create               a view that feeds and keeps itself: the raw protocol
--
-- Each constructor takes (name, definition, options) and returns a host (host.lua) with
--
--   kind, step, retract, initial, paths, transform    what the core folds with (lua/view/fold.h)
--   view                     the first argument of the view's methods
--   functions, methods       the methods it has by itself, and their types
--   attach(store)            called once, with the functions of lua/view/view_store.h
--   flush(), forget()        what is at hand goes to the store; or is let go of, since the store has changed
--
-- Runs in a script view's own Lua state too.

local core = rawget(_G, "flume_core") or require "flume.core"

local own_module = ... -- in a state of its own: what is there in place of require
local ranges = type(own_module) == "function" and own_module "ranges" or require "flume.host.ranges"

local M = {
  is_range = ranges.is, shaped = ranges.shaped, check_records = ranges.check_records, limit_of = ranges.limit_of,
}

local SHOWN = 100 -- groups or entries that a dry run shows, at most

--- Of groups: how many are kept at hand, and after how many records the memory of a view's own state is looked at.
M.limits = {at_hand = 50000, look_at_memory_every = 512}

--- Raises what a wrong definition is answered with.
function M.invalid(fmt, ...)
  error({message = fmt:format(...), code = "EINVAL"}, 0)
end

local invalid = M.invalid

-- The caller's own copy of a state; one that can't be stored, and so not copied, is given as it is.
local function copy(value)
  if type(value) ~= "table" then return value end
  local bytes = core.encode(value)
  if not bytes then return value end
  return (core.decode(bytes))
end

local function encode_initial(name, definition)
  local initial, message = core.encode(definition.initial)
  if not initial then invalid('view "%s": initial %s', name, message) end
  return initial
end

local function check_function(name, field, value)
  if value ~= nil and type(value) ~= "function" then
    invalid('view "%s": %s must be a function, not a %s', name, field, type(value))
  end
  return value
end

-- Methods of the definition go before those that the kind has by itself.
local function with_builtin(definition, builtin)
  return setmetatable({}, {__index = function (_, method)
    local own = definition[method]
    if definition.methods and definition.methods[method] and own ~= nil then return own end
    return builtin[method]
  end})
end

-- --- Paths -------------------------------------------------------------------------------------------------------

local function is_path(path)
  return type(path) == "string" and path ~= "" and not (path:find "^%." or path:find "%.$" or path:find("..", 1, true))
end

local function check_paths(name, field, given)
  local list = type(given) == "table" and given or {given}
  if #list == 0 then invalid('view "%s": %s is an empty list of paths', name, field) end
  for _, path in ipairs(list) do
    if not is_path(path) then
      invalid('view "%s": %s must be a function, a path or a list of paths, not %s', name, field, tostring(path))
    end
  end
  return list, type(given) == "table"
end

local function follow_path(path)
  local keys = {}
  for key in path:gmatch "[^.]+" do keys[#keys + 1] = key end
  return function (item)
    for i = 1, #keys do
      local kind = type(item)
      if kind ~= "table" and kind ~= "userdata" or item == core.null then return nil end
      item = item[keys[i]]
      if item == nil then return nil end
    end
    if item == core.null then return nil end
    return item
  end
end

-- The key that the values at the paths make: the value itself, or for a list an array; nil for none.
local function key_function(paths, is_list)
  local fields = {}
  for i, path in ipairs(paths) do fields[i] = follow_path(path) end
  if not is_list then return fields[1] end
  return function (item)
    local key, found = {}, false
    for i = 1, #fields do
      local value = fields[i](item)
      found = found or value ~= nil
      key[i] = value == nil and core.null or value
    end
    return found and core.array(key) or nil
  end
end

local function is_key(value)
  local kind = type(value)
  if kind == "userdata" then return core.is_array(value) end
  return kind ~= "nil" and value == value
end

--- A function that gives the value at a path of an item, nil for none or null; for a list of paths, the array of their
--- values with null where there is none, nil when there is none at all.
function M.path(given)
  local list = type(given) == "table" and given or {given}
  for _, path in ipairs(list) do
    if not is_path(path) then error(("flume.path: a path such as \"a.b\", not %s"):format(tostring(path)), 2) end
  end
  if #list == 0 then error("flume.path: an empty list of paths", 2) end
  return key_function(list, type(given) == "table")
end

-- --- What is kept by key ------------------------------------------------------------------------------------------

-- Deltas are made where the log is (deltas.lua), which asks what is below of the host.
local function deltas()
  error("deltas are read as db.NAME:deltas{…}", 0)
end

-- What views with entries in the store have in common.
local function add_reading(host, builtin)
  local store

  function host.attach(functions)
    store = functions
    host.store, host.emit = store, store.emit
  end

  -- What is in the range, and how to go on; and as of which seq that is.
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
    local wrong = ranges.check(range)
    if wrong then error("count: " .. wrong, 0) end
    host.flush()
    return store.count(range)
  end
  builtin.read, builtin.count, builtin.deltas = view.read, view.count, deltas
  host.methods = {get = "async", read = "source", count = "async", deltas = "source"}
end

-- What deltas ask of views with groups: up to which seq, and for each group that the records belong to, of those in the
-- range, what there is of it then: {id, key, state} each, once; no state of one that is not there. records: {seq, item}
-- each. key_of(item, seq) may give what can't be a key, where that is in no group.
local function add_changes(host, key_of, state_of)
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

-- The retract of a definition, which answers nil, "rebuild" when it can't take the record back.
local function retracting(host, retract)
  return retract and function (acc, item, seq)
    local state, wish = retract(acc, item, seq)
    if wish == nil then return state end
    if wish ~= "rebuild" then error(('retract may return a state, or nil and "rebuild"'), 0) end
    host.store.rebuild()
    return acc
  end
end

-- --- Reducers ----------------------------------------------------------------------------------------------------

local function one_state(name, definition, options)
  local host = {
    kind = "reduce", step = definition.reducer, store = nil,
    initial = encode_initial(name, definition), acc = nil, methods = {get = "async", deltas = "source"},
  }
  host.retract = retracting(host, definition.retract)
  function host.state() return host.store.since(), copy(host.acc) end
  host.view = {name = name, get = function () return host.acc end}
  function host.attach(store) host.store = store end
  function host.changes() return {state = host.acc} end
  -- What leaves a state of its own is copied on the way; here the caller must not get hold of the state itself.
  host.functions = with_builtin(definition, {
    get = options.lib and host.view.get or function () return copy(host.acc) end,
    deltas = deltas,
  })
  return host
end

-- The groups that are at hand: fetched from the store, and changed since, perhaps.
local function groups_at_hand(host, initial, memory)
  local at_hand, changed, tokens, count, ticks = {}, {}, {}, 0, 0

  local function is_itself(key)
    local kind = type(key)
    return kind == "string" or kind == "number" or kind == "boolean"
  end

  -- What stands for a key in these tables. Arrays with the same values are the same key.
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

  local function flush()
    local store = host.store
    for id, key in pairs(changed) do
      store.put(key, at_hand[id])
      changed[id] = nil
    end
  end

  local function forget()
    at_hand, changed, tokens, count = {}, {}, {}, 0
  end

  local function is_too_much()
    if count > M.limits.at_hand then return true end
    ticks = ticks + 1
    return memory and ticks % M.limits.look_at_memory_every == 0 and collectgarbage "count" * 1024 > memory / 4
  end

  local function make_room()
    flush()
    forget()
    if memory then collectgarbage() end
  end

  local function fetch(id, key)
    local state = at_hand[id]
    if state ~= nil then return state end
    state = host.store.get(key)
    if state == nil then state = core.decode(initial) end
    return state
  end

  -- The same for one who only reads: nothing is kept of it.
  local function look_up(key)
    local id = key
    if not is_itself(key) then id = tokens[host.store.id(key)] end
    local state = id ~= nil and at_hand[id]
    if state ~= nil and id ~= nil then return state end
    state = host.store.get(key)
    if state == nil then state = core.decode(initial) end
    return state
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
    if is_too_much() then make_room() end
  end

  return {id_of = id_of, fetch = fetch, look_up = look_up, keep = keep, flush = flush, forget = forget}
end

local function grouped(name, definition, options)
  local group = definition.group
  if type(group) ~= "function" then group = key_function(check_paths(name, "group", group)) end
  local host = {kind = "group", initial = nil, store = nil, view = {name = name}}
  local groups = groups_at_hand(host, encode_initial(name, definition), options.memory)
  local id_of, fetch, keep = groups.id_of, groups.fetch, groups.keep
  host.flush, host.forget = groups.flush, groups.forget

  local function folding(fn)
    return fn and function (item, seq)
      local key = group(item, seq)
      if key == nil or key == core.null then return end
      if key ~= key then error("the group is nan", 0) end
      local id, plain = id_of(key)
      keep(id, plain, fn(fetch(id, plain), item, seq))
    end
  end

  host.step, host.retract = folding(definition.reducer), folding(retracting(host, definition.retract))

  function host.view.get(_, key)
    local state = groups.look_up(key)
    if state == nil or options.lib then return state end
    return copy(state)
  end

  local builtin = {get = host.view.get}
  add_reading(host, builtin)
  add_changes(host, group, function (key) return host.store.get(key) end)
  host.functions = with_builtin(definition, builtin)
  return host
end

local function reducer(name, definition, options)
  check_function(name, "retract", definition.retract)
  if definition.group ~= nil then return grouped(name, definition, options) end
  return one_state(name, definition, options)
end

-- --- Aggregates --------------------------------------------------------------------------------------------------

local NEEDS_PATH = {count = false, sum = true, min = true, max = true, distinct = true}

-- One field of the declaration, name = op or name = {op, path}, as {op, path, name =}.
local function aggregate_field(name, field, given)
  local op, path = given, nil
  if type(given) == "table" then op, path = given[1], given[2] end
  local needs_path = NEEDS_PATH[op]
  if type(field) ~= "string" or needs_path == nil or (needs_path or path ~= nil) and not is_path(path) then
    invalid('view "%s": aggregate.%s must be "count", or a list of count, sum, min, max or distinct and a path', name,
      tostring(field))
  end
  return {op, path, name = field}
end

local function aggregate_fields(name, declared)
  local fields = {}
  if type(declared) ~= "table" then invalid('view "%s": aggregate must be a table of fields', name) end
  for field, given in pairs(declared) do fields[#fields + 1] = aggregate_field(name, field, given) end
  if #fields == 0 then invalid('view "%s": aggregate has no fields', name) end
  table.sort(fields, function (a, b) return a.name < b.name end)
  return fields
end

-- A group's state (core/index/aggregate.h) as it is shown.
local function shown_aggregate(fields, state)
  if state == nil then return nil end
  local shown = {}
  for i, field in ipairs(fields) do
    local value = state[i + 1]
    if field[1] == "distinct" then value = core.distinct(value) end
    if value ~= core.null then shown[field.name] = value end
  end
  return shown
end

local function aggregate(name, definition)
  local fields = aggregate_fields(name, definition.aggregate)
  local host = {kind = "group", aggregate = fields, initial = nil, store = nil, view = {name = name}}
  if definition.group ~= nil then host.paths, host.paths_are_list = check_paths(name, "group", definition.group) end
  host.keyless = not host.paths
  function host.flush() host.store.flush() end
  function host.forget() host.store.forget() end
  function host.step(item) host.store.add(item) end -- for items that a mapper or a decoder has made
  function host.retract(item) host.store.remove(item) end

  local function state_of(key) return shown_aggregate(fields, host.store.get(key)) end

  function host.view.get(_, key)
    if host.keyless then key = true end
    host.flush()
    return state_of(key)
  end

  local builtin = {get = host.view.get}
  add_reading(host, builtin)

  local function shown(items, ...)
    for _, item in ipairs(items or {}) do item[3] = shown_aggregate(fields, item[3]) end
    return items, ...
  end
  local page, recent = host.page, host.recent
  function host.page(...) return shown(page(...)) end
  function host.recent(...) return shown(recent(...)) end

  if host.keyless then
    function host.state() return host.store.since(), host.view.get() end
  else
    local value_of = key_function(host.paths, host.paths_are_list)
    add_changes(host, function (item)
      local key = value_of(item)
      if is_key(key) and pcall(host.store.id, key) then return key end -- what can't be a key is in no group
    end, state_of)
  end

  host.functions = with_builtin(definition, builtin)
  return host
end

-- --- Indexers ----------------------------------------------------------------------------------------------------

-- What the core does for paths, in Lua: for items that a mapper or a decoder has made.
local function path_indexer(paths, is_list)
  local key_of = key_function(paths, is_list)
  return function (item, _, emit)
    local key = key_of(item)
    if is_key(key) then pcall(emit, key) end -- what can't be a key has no entry
  end
end

local function indexer(name, definition)
  local host = {kind = "index", step = definition.indexer, view = {name = name}}
  if type(host.step) ~= "function" then
    local paths, is_list = check_paths(name, "indexer", definition.indexer)
    host.paths, host.shape = paths, is_list and "array" or "value"
    host.step = path_indexer(paths, is_list)
  end
  function host.flush() end
  function host.forget() end

  -- Up to which seq, and the entries that came from a seq on, as long as they are at hand, else nil.
  function host.came(range, from_seq)
    return host.store.since(), (host.recent(range, from_seq))
  end

  -- The newest entry of a key: its value (nil when it has none) and seq.
  function host.view.get(_, key)
    return host.store.newest(key)
  end

  local builtin = {get = host.view.get}
  add_reading(host, builtin)
  host.functions = with_builtin(definition, builtin)
  return host
end

-- --- Bitmaps -----------------------------------------------------------------------------------------------------

-- {shape = "value" | "kind" | "any", path = text}: which records have a value, or a kind of value, or are there at all.
-- The core makes them, and the query view reads them (lua/view/lua_seqset.h).
local function bitmaps(name, definition)
  local wanted = definition.bitmaps
  local paths = wanted.shape == "any" and {} or check_paths(name, "bitmaps.path", wanted.path)
  return {
    kind = "bitmap", shape = wanted.shape, paths = paths, view = {name = name}, functions = definition, methods = {},
    flush = function () end, forget = function () end,
  }
end

-- What answers queries knows which records there are, and has its indexes beside it: flume.query.engine. Where the core
-- can't read the records it has none. It has to be in the caller's state: a state of its own learns of that only.
local function query(name, _, options)
  if options.lib then return {kind = "query", view = {}, functions = {}, methods = {}, in_caller = true} end
  local usable = options.log.codec_name == "msgpack" and not options.mapper and not options.mapper_path
  local host
  if usable then
    host = bitmaps(name, {bitmaps = {shape = "any"}})
  else
    host = one_state(name, {reducer = function (count) return count + 1 end, initial = 0}, options)
  end
  host.called, host.usable, host.engine, host.in_caller = "query", usable, require "flume.query.methods", true
  host.methods, host.functions = {}, host.engine.METHODS
  for method, kind in pairs(host.engine.TYPES) do host.methods[method] = kind end
  return host
end

-- --- The raw protocol --------------------------------------------------------------------------------------------

local RAW_FIELDS = {"since", "create_sink", "destroy", "close", "methods"}

local function raw(name, definition, options)
  local made = definition.create(options.log, name)
  if type(made) ~= "table" then invalid('view "%s": create must return a table, not a %s', name, type(made)) end
  for _, field in ipairs(RAW_FIELDS) do
    if made[field] == nil then invalid('view "%s": what create returns has no %s', name, field) end
  end
  for _, field in ipairs {"create_sink", "destroy", "close"} do check_function(name, field, made[field]) end
  if type(made.methods) ~= "table" then invalid('view "%s": methods must be a table', name) end
  local host = {kind = "sink", view = made, raw = made, functions = made, methods = {}, in_caller = true}
  local sink
  function host.start(on_end)
    sink = made.create_sink(on_end or function () end)
    if type(sink) ~= "function" then
      invalid('view "%s": create_sink must return a function (item, seq), not a %s', name, type(sink))
    end
  end
  function host.step(item, seq) return sink(item, seq) end
  host.start(options.on_end)
  return host
end

--- Where a raw view stands: since may be an observable, a function or a number.
function M.since_of(made)
  local since = made.since
  if type(since) == "function" then return since() or -1 end
  if type(since) ~= "table" then return since or -1 end
  return (type(since.get) == "function" and since:get() or since.value) or -1
end

-- --- Choosing ----------------------------------------------------------------------------------------------------

--- The host for a definition; raises when it is none.
function M.make(name, definition, options)
  if type(definition) ~= "table" then
    invalid('view "%s": a view is a table, not a %s', name, type(definition))
  end
  if definition.create ~= nil then
    check_function(name, "create", definition.create)
    return raw(name, definition, options)
  end
  if definition.query == true then return query(name, definition, options) end
  if definition.bitmaps ~= nil then return bitmaps(name, definition) end
  if definition.reducer ~= nil and definition.indexer ~= nil then
    invalid('view "%s": it has both a reducer and an indexer', name)
  end
  if definition.aggregate ~= nil then
    if definition.reducer ~= nil or definition.indexer ~= nil then
      invalid('view "%s": it has an aggregate and something else as well', name)
    end
    return aggregate(name, definition)
  end
  if definition.reducer ~= nil then
    check_function(name, "reducer", definition.reducer)
    return reducer(name, definition, options)
  end
  if definition.indexer ~= nil then return indexer(name, definition) end
  invalid('view "%s": it has neither a reducer nor an aggregate nor an indexer nor create', name)
end

return M
