-- Views on views: what a view reads of those that its `uses` names.
--
-- It has instances of them for itself, in the same Lua state, and what they keep in its own store, committed along with
-- its own state. Each record is folded into them first, in the order in which they use each other, and then into the
-- view: so at record n it sees them at n, live and in a rebuild, wherever the views of these names are themselves.

local world = ...
local core = world.core
local definition_of = world.import "definition"
local iterator_of = world.import "iterators".iterator_of
local ranges = world.import "ranges"

local invalid, version_text = definition_of.invalid, definition_of.version_text

local M = {}

local VERSION_MAX_BYTES = 46 -- with the stamp behind it, what a store has room for
local USED_MAX = 126         -- numbers that the store has for them

-- --- What is read of them ----------------------------------------------------------------------------------------

local PLAIN = {["nil"] = true, boolean = true, number = true, string = true}

-- A value as it is when it has gone from one Lua state to another: whose it is now.
local function own(value)
  if PLAIN[type(value)] or value == core.null then return value end
  local bytes, message = core.encode(value)
  if not bytes then error("uses: " .. message, 0) end
  return (core.decode(bytes))
end

-- A table of options, mostly of plain values.
local function own_options(options)
  local copy = {}
  for name, value in pairs(options) do copy[name] = own(value) end
  return copy
end

local function own_all(...)
  local n = select("#", ...)
  if n == 1 then return own((...)) end
  local values = {...}
  for i = 1, n do values[i] = own(values[i]) end
  return table.unpack(values, 1, n)
end

local function options_of(...)
  local last = select("#", ...) > 0 and select(-1, ...) or nil
  return type(last) == "table" and last or {}
end

-- A view has no way to records but the one that it is given: in the place of any other there is nil.
local function of_record(seq)
  if seq == nil then return nil end
  return nil, seq
end

local function of_records(next_pair, options)
  local left = ranges.limit_of(options)
  return function ()
    if left == 0 then return nil end
    local key, seq = next_pair()
    if key == nil then return nil end
    left = left - 1
    return ranges.shaped(options, key, nil, seq)
  end
end

-- What a source's method returned, as an iterator.
local function iterate(host, name, method, ...)
  local first = ...
  if ranges.is(first) then return function () return first() end end
  local next_item = iterator_of(name, method, ...)
  if host.methods[method] == "records" then return next_item end
  return function () return own_all(next_item()) end
end

local function check_source(host, name, method, options)
  if options.live or options.old == false then
    error(("uses.%s:%s: what comes later can't be read: live and old are not for a view that is used"):format(name,
      method), 3)
  end
  if options.after and host.builtin[method] and host.kind ~= "index" then
    error(("uses.%s:%s: after is for an index"):format(name, method), 3)
  end
  local wrong = host.methods[method] == "records" and ranges.check_records(options)
  if wrong then error(("uses.%s:%s: %s"):format(name, method, wrong), 3) end
end

local function source_of(host, name, method)
  local fn, view = host.functions[method], host.view
  local is_groups, is_builtin = host.kind == "group", host.builtin[method]
  return function (_, ...)
    local options = options_of(...)
    if is_builtin and ... ~= nil and options ~= ... then
      error(("uses.%s:%s: a range is a table of options"):format(name, method), 2)
    end
    check_source(host, name, method, options)
    if is_builtin then
      options = own_options(options)
      if is_groups and options.seqs == nil then options.seqs = false end
      return iterate(host, name, method, fn(view, options))
    end
    local next_item = iterate(host, name, method, fn(view, own_all(...)))
    if host.methods[method] ~= "records" then return next_item end
    return of_records(next_item, options)
  end
end

local function call_of(host, _, method)
  local fn, view = host.functions[method], host.view
  if host.builtin[method] and (host.kind == "index" or host.aggregate or method == "count") then -- nobody else has it
    return function (_, ...) return fn(view, ...) end
  end
  return function (_, ...) return own_all(fn(view, own_all(...))) end
end

local function record_of(host, name, method)
  local call = call_of(host, name, method)
  return function (...) return of_record((call(...))) end
end

local MAKERS = {sync = call_of, async = call_of, record = record_of, source = source_of, records = source_of}

--- What a view's functions have of one that it uses: its methods, by name.
local function handle_of(name, host)
  local calls = {}
  local handle = setmetatable({}, {__index = calls})
  for method, kind in pairs(host.methods) do
    local call = MAKERS[kind](host, name, method)
    calls[method] = function (self, ...)
      if self ~= handle then error(("call it as uses.%s:%s(...)"):format(name, method), 2) end
      return call(self, ...)
    end
  end
  if host.builtin.deltas then
    function calls.deltas() error(("uses.%s: deltas are read as db.%s:deltas{…}"):format(name, name), 2) end
  end
  setmetatable(calls, {__index = function (_, method)
    error(('the view "%s" has no method %s'):format(name, tostring(method)), 2)
  end})
  return handle
end

-- --- What keeps their states -------------------------------------------------------------------------------------

local THE_ONE = true -- the key of the state of a reducer

-- One state, in a row of its own; in a table, as it may be nil.
local function keep_one(host)
  local part, changed
  local function attach(given) part = given end
  local function advance(item, seq)
    host.acc, changed = host.step(host.acc, item, seq), true
  end
  local function flush()
    if changed then part.put(THE_ONE, {state = host.acc}) end
    changed = false
  end
  local function forget()
    local kept = part.get(THE_ONE)
    changed = false
    if kept then host.acc = kept.state
    else host.acc = core.decode(host.initial) end
  end
  return {attach = attach, advance = advance, flush = flush, forget = forget}
end

-- A state for each key, or entries, in rows of their own.
local function keep_rows(host)
  return {attach = host.attach, advance = host.step, flush = host.flush, forget = host.forget}
end

local KEEPERS = {reduce = keep_one, group = keep_rows, index = keep_rows}

-- --- Finding them ------------------------------------------------------------------------------------------------

local function check_names(name, uses)
  local is_list = type(uses) == "table"
  for i, each in pairs(is_list and uses or {}) do
    is_list = is_list and math.type(i) == "integer" and type(each) == "string"
  end
  if not is_list then invalid('view "%s": uses must be a list of names of views', name) end
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

local function check_user(name, definition)
  if definition.reducer == nil and type(definition.indexer) ~= "function" then
    invalid('view "%s": uses is for a reducer, or an indexer that is a function', name)
  end
end

local function check_usable(user, name, definition)
  local why
  if type(definition) ~= "table" then why = "which gives no view but a " .. type(definition)
  elseif definition.create ~= nil then why = "which keeps itself (create): what it was at a record is not known"
  elseif definition.query then why = "which answers queries about the log as it is: an index can be used instead"
  elseif definition.bitmaps ~= nil then why = "which has bitmaps: an index can be used instead" end
  if why then invalid('view "%s": it uses "%s", %s', user, name, why) end
end

local function handles_table(user)
  return setmetatable({}, {__index = function (_, name)
    error(('view "%s" does not use "%s"'):format(user, tostring(name)), 2)
  end})
end

--- The definition with its functions bound to what it uses; and what has to be done for that, see M.attach; the
--- definition alone when it uses nothing. scripts: check_known(names) raises when these can't be found yet; find(user,
--- name) -> script or nil, with skips and params; run(name, script) -> definition and its fingerprint; make(name,
--- definition) -> host
function M.resolve(name, definition, scripts)
  local order, made, path = {}, {}, {name}

  local handles_of

  local function make(used_name)
    local user = path[#path]
    local script = scripts.find(user, used_name)
    if not script then invalid('view "%s": it uses "%s", of which there is no script', user, used_name) end
    local used, fingerprint = scripts.run(used_name, script)
    check_usable(user, used_name, used)
    local version, handles = used.version, nil
    if used.uses ~= nil then
      check_user(used_name, used)
      path[#path + 1] = used_name
      handles = handles_of(used_name, used)
      path[#path] = nil
      used = bind(used, handles)
    end
    local host = scripts.make(used_name, used)
    host.view.used = handles
    order[#order + 1] = {
      name = used_name, host = host, keep = KEEPERS[host.kind](host),
      version = version, fingerprint = fingerprint, params = script.params, skips = script.skips or {},
    }
    made[used_name] = handle_of(used_name, host)
    return made[used_name]
  end

  function handles_of(user, given)
    check_names(user, given.uses)
    scripts.check_known(given.uses)
    local handles = handles_table(user)
    for _, each in ipairs(given.uses) do
      for _, before in ipairs(path) do
        if before == each then invalid('view "%s": views use each other: %s', name, cycle_of(path, each)) end
      end
      handles[each] = made[each] or make(each)
    end
    return handles
  end

  if type(definition) ~= "table" or definition.uses == nil then return definition, nil end
  check_user(name, definition)
  local handles = handles_of(name, definition)
  if #order > USED_MAX then invalid('view "%s": it uses %d views; it may use %d', name, #order, USED_MAX) end
  return bind(definition, handles), {order = order, handles = handles}
end

-- --- In lockstep -------------------------------------------------------------------------------------------------

local function also(order, what, own_function)
  return function (...)
    for i = 1, #order do order[i].keep[what](...) end
    if own_function then return own_function(...) end
  end
end

-- What the rows in the store are of. A state that is gone on with although the version is another must be of the same.
local function layout_of(order)
  local list = {}
  for i, each in ipairs(order) do list[i] = each.name .. " " .. each.host.kind end
  return table.concat(list, ",")
end

--- Makes a host fold what its view uses along with it.
function M.attach(host, used)
  local order, attach, layout = used.order, host.attach, layout_of(used.order)
  local store, is_noted
  local flush, forget = also(order, "flush", host.flush), also(order, "forget", host.forget)

  host.leads = {}
  function host.attach(given)
    store = given
    for i, each in ipairs(order) do
      local part = store.used(i, each.host, each.name, each.skips)
      each.keep.attach(part)
      host.leads[2 * i - 1], host.leads[2 * i] = each.keep.advance, part.emit
    end
    attach(store)
  end

  function host.flush()
    if not is_noted then store.used_note(layout) end
    is_noted = true
    flush()
  end

  function host.forget()
    is_noted = store.used_note() == layout
    if not is_noted and store.since() >= 0 then
      error("the state has other views in it than those that it uses now", 0)
    end
    forget()
  end

  host.retract, host.anew = nil, true
  host.view.used = used.handles
end

-- --- Telling versions apart --------------------------------------------------------------------------------------

-- What makes the private instance what it is: the version, or without one the source; parameters; what it skips.
local function stamp_of(each, hash)
  local version = ("source %016x"):format(each.fingerprint)
  if each.version ~= nil then version = "version " .. version_text(each.version) end
  local params = each.params ~= nil and core.encode_sorted(each.params) or ""
  for _, text in ipairs {each.name, version, params, table.concat(each.skips, ",")} do
    hash = core.fingerprint_bytes(text, hash)
  end
  return hash
end

--- What tells apart the versions of a view that uses others: the text of its version, "" for none, and the fingerprint
--- of the rest. And the names of what it uses.
function M.stamp(name, version, used, fingerprint)
  local names, hash, sources = {}, 0, fingerprint
  for i, each in ipairs(used.order) do
    names[i] = each.name
    hash = stamp_of(each, hash)
    sources = core.fingerprint_bytes(("%016x"):format(each.fingerprint), sources)
  end
  local stamp = ("%016x"):format(hash)
  sources = core.fingerprint_bytes(stamp, sources)
  if version == nil then return "", sources, names, stamp end
  local text = version_text(version)
  if #text > VERSION_MAX_BYTES then
    invalid('view "%s": a version of more than %d bytes, of a view that uses others', name, VERSION_MAX_BYTES)
  end
  return ("%s+%s"):format(text, stamp), sources, names, stamp
end

return M
