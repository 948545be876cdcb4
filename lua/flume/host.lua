-- The view host: makes of a view's definition the object that the core drives (lua/fold.h) and that answers calls.
--
-- The same code runs in a script view's own Lua state, where the definition comes from a file, and in the caller's
-- state, where it may also be a table. It gives back what kinds.lua makes of the definition, and in it
--
--   transform, bytes             a mapper, or a decoder, before the step function
--   describe()                   what the database has to know: version, fingerprint, kind, methods
--   call(method, ...)            results
--   open(method, ...) -> id      a source; pull(id, n) -> done, items; close(id). Instead of an id the options of a
--   range                              of the view's own, when that is what the method gives
--
-- A wrong definition raises an error object {message =, code = "EINVAL"}.

local core = rawget(_G, "flume_core") or require "flume.core"

local TYPES = {sync = true, async = true, source = true}

--- One of flume's own modules, which a state without require is given as bytecode.
local function own_module(options, name)
  if not options.lib then return require("flume." .. name) end
  return assert(load(options.lib[name], name, "b"))()
end

-- --- Definitions -------------------------------------------------------------------------------------------------

local function check_methods(invalid, name, methods, functions)
  for method, kind in pairs(methods) do
    if not TYPES[kind] then
      invalid('view "%s": method %s must be "sync", "async" or "source", not %s', name, method, tostring(kind))
    end
    if type(functions[method]) ~= "function" then
      invalid('view "%s": it names a method %s that it does not have', name, method)
    end
  end
end

local function check_version(invalid, name, version)
  local kind = math.type(version) or type(version)
  if version ~= nil and kind ~= "integer" and kind ~= "float" and kind ~= "string" then
    invalid('view "%s": version must be a number or a string, not a %s', name, kind)
  end
  if kind == "string" and #version > 60 then invalid('view "%s": a version of more than 60 bytes', name) end
end

local function make(kinds, name, definition, options)
  local invalid = kinds.invalid
  if type(definition) == "table" then check_version(invalid, name, definition.version) end
  local host = kinds.make(name, definition, options)
  local declared = host.raw and host.raw.methods or definition.methods
  if declared ~= nil and type(declared) ~= "table" then invalid('view "%s": methods must be a table', name) end
  host.builtin = {}
  for method in pairs(host.methods) do host.builtin[method] = not (declared or {})[method] end
  for method, kind in pairs(declared or {}) do host.methods[method] = kind end
  check_methods(invalid, name, host.methods, host.functions)
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

local function add_sources(kinds, host, name)
  local open, last = {}, 0

  function host.open(method, ...)
    local results = table.pack(host.functions[method](host.view, ...))
    if kinds.is_range(results[1]) then return nil, results[1].options end
    last = last + 1
    open[last] = iterator_of(name, method, table.unpack(results, 1, results.n))
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

-- What a script needs to run: its environment, and where its sources are noted.
local function prepare(options, new_observable)
  local sandbox = own_module(options, "sandbox")
  local world = {
    folder = options.folder, read = core.read_file, core = options.lib and core,
    package = options.trusted and options.package,
    provided = {
      flume = {
        null = core.null, array = core.array, map = core.map, table = core.table, observable = new_observable,
      },
    },
  }
  local sources = own_module(options, "sources").new(function (name) return sandbox.find(world, name) end)
  world.on_load = sources.add_module
  local env = options.trusted and sandbox.trusted(world) or sandbox.new(world)
  return {sources = sources, compile = sandbox.compile, env = env}
end

local function run_script(invalid, prepared, name, path, params)
  local source, message = core.read_file(path)
  if not source then invalid('view "%s": %s', name, message) end
  local chunk, why = prepared.compile(source, path, prepared.env)
  if not chunk then invalid('view "%s": %s', name, why) end
  prepared.sources.add(source)
  return chunk(name, params)
end

-- The script's own copy of the parameters.
local function copy_params(invalid, options)
  if options.params == nil then return nil end
  local bytes, message = core.encode(options.params)
  if not bytes then invalid('view "%s": params: %s', options.name, message) end
  return (core.decode(bytes))
end

-- A mapper, and a codec of the caller's own, make the item that the view sees.
local function transform_for(options, mapper)
  local decode = options.decode
  if not decode then return mapper, false end
  if not mapper then return function (bytes) return (decode(bytes)) end, true end
  return function (bytes, seq) return mapper((decode(bytes)), seq) end, true
end

--- options: name; definition (a table) or path (a file); folder (of modules); lib (flume's own modules, in a view's
--- own state); trusted, package (paths); params (of the script); decode; mapper (a function) or mapper_path; log (for
--- create); on_end
return function (options)
  local observable, kinds = own_module(options, "observable"), own_module(options, "kinds")
  local definition, mapper, prepared = options.definition, options.mapper, nil
  if options.path or options.mapper_path then prepared = prepare(options, observable.new) end
  if options.path then
    local params = copy_params(kinds.invalid, options)
    definition = run_script(kinds.invalid, prepared, options.name, options.path, params)
  end
  if options.mapper_path then
    mapper = run_script(kinds.invalid, prepared, "mapper", options.mapper_path)
    if type(mapper) ~= "function" then kinds.invalid("mapper %s: it must return a function", options.mapper_path) end
  end
  local fingerprint = prepared and prepared.sources.fingerprint(options.params) or 0

  local host = make(kinds, options.name, definition, options)
  host.transform, host.bytes = transform_for(options, mapper)
  add_sources(kinds, host, options.name)

  function host.describe()
    return {
      version = definition.version, fingerprint = fingerprint, kind = host.called or host.kind,
      methods = core.map(host.methods), in_caller = host.in_caller,
      builtin = core.map(host.builtin), since = host.raw and kinds.since_of(host.raw) or nil,
    }
  end

  function host.call(method, ...)
    return host.functions[method](host.view, ...)
  end

  return host
end
