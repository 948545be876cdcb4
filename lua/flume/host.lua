-- The view host: makes of a view's definition the object that the core drives (lua/fold.h) and that answers calls.
--
-- The same code runs in a script view's own Lua state, where the definition comes from a file, and in the caller's
-- state, where it may also be a table. It gives back a table:
--
--   kind, step, initial, acc, transform, bytes   what the core folds with
--   describe()                                   what the database has to know: version, fingerprint, kind, methods
--   call(method, ...)                            results
--   open(method, ...) -> id                      a source; pull(id, n) -> done, items; close(id)
--
-- A wrong definition raises an error object {message =, code = "EINVAL"}.

local core = rawget(_G, "flume_core") or require "flume.core"

local TYPES = {sync = true, async = true, source = true}
local RAW_FIELDS = {"since", "create_sink", "destroy", "close", "methods"}

local function invalid(fmt, ...)
  error({message = fmt:format(...), code = "EINVAL"}, 0)
end

--- One of flume's own modules, which a state without require is given as bytecode.
local function own_module(options, name)
  if not options.lib then return require("flume." .. name) end
  return assert(load(options.lib[name], name, "b"))()
end

-- --- Definitions -------------------------------------------------------------------------------------------------

local function check_methods(name, methods, functions)
  for method, kind in pairs(methods) do
    if not TYPES[kind] then
      invalid('view "%s": method %s must be "sync", "async" or "source", not %s', name, method, tostring(kind))
    end
    if type(functions[method]) ~= "function" then
      invalid('view "%s": it names a method %s that it does not have', name, method)
    end
  end
end

local function check_version(name, version)
  local kind = math.type(version) or type(version)
  if version ~= nil and kind ~= "integer" and kind ~= "float" and kind ~= "string" then
    invalid('view "%s": version must be a number or a string, not a %s', name, kind)
  end
  if kind == "string" and #version > 60 then invalid('view "%s": a version of more than 60 bytes', name) end
end

-- The caller's own copy of a state; one that can't be stored, and so not copied, is given as it is.
local function copy(value)
  if type(value) ~= "table" then return value end
  local bytes = core.encode(value)
  if not bytes then return value end
  return (core.decode(bytes))
end

local function reducer_host(name, definition, options)
  local initial, message = core.encode(definition.initial)
  if not initial then invalid('view "%s": initial %s', name, message) end
  local host = {kind = "reduce", step = definition.reducer, initial = initial, acc = nil}
  local view = {name = name, get = function () return host.acc end}
  host.view = view
  -- What leaves a state of its own is copied on the way; here the caller must not get hold of the state itself.
  local builtin = {get = options.lib and view.get or function () return copy(host.acc) end}
  host.functions = setmetatable({}, {__index = function (_, method) return definition[method] or builtin[method] end})
  host.methods = {get = "async"}
  return host
end

-- The raw protocol: the view feeds and keeps itself.
local function raw_host(name, definition, options)
  local raw = definition.create(options.log, name)
  if type(raw) ~= "table" then invalid('view "%s": create must return a table, not a %s', name, type(raw)) end
  for _, field in ipairs(RAW_FIELDS) do
    if raw[field] == nil then invalid('view "%s": what create returns has no %s', name, field) end
  end
  for _, field in ipairs {"create_sink", "destroy", "close"} do
    if type(raw[field]) ~= "function" then
      invalid('view "%s": %s must be a function, not a %s', name, field, type(raw[field]))
    end
  end
  if type(raw.methods) ~= "table" then invalid('view "%s": methods must be a table', name) end
  local host = {kind = "sink", view = raw, raw = raw, functions = raw, methods = {}}
  local sink
  function host.start(on_end)
    sink = raw.create_sink(on_end or function () end)
    if type(sink) ~= "function" then
      invalid('view "%s": create_sink must return a function (item, seq), not a %s', name, type(sink))
    end
  end
  function host.step(item, seq) return sink(item, seq) end
  host.start(options.on_end)
  return host
end

--- Where a raw view stands: since may be an observable, a function or a number.
local function since_of(raw)
  local since = raw.since
  if type(since) == "function" then return since() or -1 end
  if type(since) ~= "table" then return since or -1 end
  return (type(since.get) == "function" and since:get() or since.value) or -1
end

local function make(name, definition, options)
  if type(definition) ~= "table" then
    invalid('view "%s": a view is a table, not a %s', name, type(definition))
  end
  check_version(name, definition.version)
  local host
  if type(definition.create) == "function" then
    host = raw_host(name, definition, options)
  elseif type(definition.reducer) == "function" then
    host = reducer_host(name, definition, options)
  else
    invalid('view "%s": it has neither a reducer nor create', name)
  end
  local declared = host.raw and host.raw.methods or definition.methods
  if declared ~= nil and type(declared) ~= "table" then invalid('view "%s": methods must be a table', name) end
  for method, kind in pairs(declared or {}) do host.methods[method] = kind end
  check_methods(name, host.methods, host.functions)
  return host
end

-- --- Sources -----------------------------------------------------------------------------------------------------

-- What a source method returned, as a function that gives the next item (one or more values), nil at the end.
local function iterator_of(name, method, first, state, control)
  if type(first) == "function" then
    return function ()
      local results = table.pack(first(state, control))
      control = results[1]
      return table.unpack(results, 1, results.n)
    end
  end
  if type(first) == "table" then
    local i = 0
    return function ()
      i = i + 1
      return first[i]
    end
  end
  error(('view "%s": the source %s must return a list or an iterator, not a %s'):format(name, method, type(first)), 0)
end

local function add_sources(host, name)
  local open, last = {}, 0

  function host.open(method, ...)
    last = last + 1
    open[last] = iterator_of(name, method, host.functions[method](host.view, ...))
    return last
  end

  function host.pull(id, n)
    local items, next_item = {}, open[id]
    for i = 1, n do
      local item = table.pack(next_item())
      if item[1] == nil then
        open[id] = nil
        return true, items
      end
      items[i] = item
    end
    return false, items
  end

  function host.close(id)
    open[id] = nil
  end
end

-- --- Putting it together -----------------------------------------------------------------------------------------

local function load_script(options, env)
  local source, message = core.read_file(options.path)
  if not source then invalid('view "%s": %s', options.name, message) end
  local chunk, why = load(source, "@" .. options.path, "t", env)
  if not chunk then invalid('view "%s": %s', options.name, why) end
  return chunk(options.name), source
end

-- A mapper, and a codec of the caller's own, make the item that the view sees.
local function transform_for(options, mapper)
  local decode = options.decode
  if not decode then return mapper, false end
  if not mapper then return function (bytes) return (decode(bytes)) end, true end
  return function (bytes, seq) return mapper((decode(bytes)), seq) end, true
end

--- options: name; definition (a table) or path (a file); folder (of modules); lib (flume's own modules, in a view's
--- own state); decode; mapper (a function) or mapper_path; log (for create); on_end
return function (options)
  local observable = own_module(options, "observable")
  local hash, env = 0, nil
  local provided = {
    flume = {null = core.null, array = core.array, map = core.map, table = core.table, observable = observable.new},
  }
  local function sandboxed()
    env = env or own_module(options, "sandbox").new {
      folder = options.folder, read = core.read_file, provided = provided, exhausted = core.exhausted,
      on_load = function (source) hash = core.fingerprint(source, hash) end,
    }
    return env
  end

  local definition, mapper = options.definition, options.mapper
  if options.path then
    local source
    definition, source = load_script(options, sandboxed())
    hash = core.fingerprint(source, hash)
  end
  if options.mapper_path then
    local source
    mapper, source = load_script({name = "mapper", path = options.mapper_path}, sandboxed())
    if type(mapper) ~= "function" then invalid("mapper %s: it must return a function", options.mapper_path) end
    hash = core.fingerprint(source, hash)
  end

  local host = make(options.name, definition, options)
  host.transform, host.bytes = transform_for(options, mapper)
  add_sources(host, options.name)

  function host.describe()
    return {
      version = definition.version, fingerprint = hash, kind = host.kind, methods = core.map(host.methods),
      since = host.raw and since_of(host.raw) or nil,
    }
  end

  function host.call(method, ...)
    return host.functions[method](host.view, ...)
  end

  return host
end
