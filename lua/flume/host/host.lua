-- The view host: makes of a view's definition the object that the core drives (lua/view/fold.h) and that answers calls.
--
-- The same code runs in a script view's own Lua state, where the definition comes from a file, and in the caller's
-- state, where it may also be a table. It gives back what kinds.lua makes of the definition, and in it
--
--   transform, bytes             a mapper, or a decoder, before the step function
--   describe()                   what the database has to know: version, fingerprint, kind, methods
--   call(method, ...)            results
--   open(method, ...)            a source -> id, nil, the seq as of which it is; or nil, options when the method gives
--                                a range of the view's own. pull(id, n) -> done, items; close(id)
--
-- A wrong definition raises an error object {message =, code = "EINVAL"}.

local core = rawget(_G, "flume_core") or require "flume.core"

local TYPES = {sync = true, async = true, source = true, record = true, records = true}

--- One of flume's own modules, which a state without require is given as bytecode. It is called with what finds others.
local function own_module(options, name)
  if not options.lib then return require(name == "observable" and "flume.observable" or "flume.host." .. name) end
  return assert(load(options.lib[name], name, "b"))(function (other) return own_module(options, other) end)
end

-- --- Definitions -------------------------------------------------------------------------------------------------

local function check_methods(invalid, name, methods, functions)
  for method, kind in pairs(methods) do
    if not TYPES[kind] then
      invalid('view "%s": method %s must be "sync", "async", "source", "record" or "records", not %s', name,
        method, tostring(kind))
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

local function make(kinds, name, definition, options, used)
  local invalid = kinds.invalid
  if type(definition) == "table" then check_version(invalid, name, definition.version) end
  local host = kinds.make(name, definition, options)
  if used then own_module(options, "uses").attach(host, used) end
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
    return last, nil, host.store and host.store.seq()
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

-- --- Scripts -----------------------------------------------------------------------------------------------------

-- Modules in C, which a state of its own can't load by itself.
local NATIVES = {["flume.text"] = "luaopen_flume_text"}
local STEPS_PER_BYTE = 10 -- of the budget, for finding the words of a text

-- flume.text for a state with a budget.
local function charged_text(text)
  return {
    languages = text.languages,
    analyser = function (language)
      local analyse = text.analyser(language)
      return function (s)
        if type(s) == "string" then core.charge(#s * STEPS_PER_BYTE) end
        return analyse(s)
      end
    end,
  }
end

local function open_native(options, name)
  if not options.lib then return require(name) end
  local path = options.natives[name]
  if path == "" then error(("module %q is not installed"):format(name), 0) end
  return charged_text(core.open_module(path, NATIVES[name]))
end

-- flume.view(name, params): the definition that a built-in view gives, for a script that returns it, or goes on from
-- it. It requires from its own folder, and belongs to the fingerprint.
local function built_in(options, sandbox, world, name, params)
  local path = ("%s/%s.lua"):format(options.built_in, tostring(name))
  local source = type(name) == "string" and name:find "^[%w_]+$" and core.read_file(path)
  if not source then error(("flume.view: there is no built-in view %s"):format(tostring(name)), 2) end
  local function note(module, text) world.on_load("flume.views." .. module, text) end
  local inner = setmetatable({folder = options.built_in, on_load = note}, {__index = world})
  note(name, source)
  return assert(sandbox.compile(source, path, sandbox.new(inner)))(options.name, params)
end

-- What a script needs to run: its environment, and where its sources are noted.
local function prepare(options, new_observable, path)
  local sandbox = own_module(options, "sandbox")
  local world = {
    folder = options.folder, read = core.read_file, core = options.lib and not options.unguarded and core or nil,
    package = options.trusted and options.package,
    natives = NATIVES, open_native = function (name) return open_native(options, name) end,
    provided = {
      flume = {
        null = core.null, array = core.array, map = core.map, table = core.table, is_array = core.is_array,
        path = path, hash = core.hash, observable = new_observable,
      },
    },
  }
  local sources = own_module(options, "script_sources").new(function (name) return sandbox.find(world, name) end)
  world.on_load = sources.add_module
  world.provided.flume.view = function (name, params) return built_in(options, sandbox, world, name, params) end
  local function find(name) return sandbox.find(world, name) end
  local env = options.trusted and sandbox.trusted(world) or sandbox.new(world)
  return {sources = sources, compile = sandbox.compile, env = env, find = find}
end

-- The script's own copy of the parameters.
local function copy_params(invalid, name, params)
  if params == nil then return nil end
  local bytes, message = core.encode(params)
  if not bytes then invalid('view "%s": params: %s', name, message) end
  return (core.decode(bytes))
end

-- --- Used views --------------------------------------------------------------------------------------------------

-- The view that is mounted under a name, else the script in the user's folder: {definition =}, or {source =, path =,
-- folder =}; with params, skips, trusted. nil for neither.
local function find_used(invalid, options, prepared, user, name)
  local other = options.others and options.others[name] or {}
  local function refuse(why) invalid('view "%s": it uses "%s", %s', user, name, why) end
  if other.refused then refuse(other.refused) end
  if other.trusted and not options.trusted then refuse "which is trusted: only a trusted view may use it" end
  if other.definition then return other end
  local found = {params = other.params, skips = other.skips, trusted = other.trusted}
  if other.path then
    local message
    found.path, found.folder = other.path, other.folder
    found.source, message = core.read_file(other.path)
    if not found.source then refuse("whose script can't be read: " .. message) end
    return found
  end
  found.path, found.folder, found.trusted = name .. ".lua", options.folder, options.trusted
  found.source = prepared.find(name)
  return found.source and found or nil
end

-- Runs a script for what it is to the user: its definition, and the fingerprint of its sources. One that is not trusted
-- is in a sandbox in the state of a trusted user, too.
local function run_used(invalid, options, make_prepared, prepared, user, name, script)
  if script.definition then
    local bytes = core.encode_sorted(script.definition)
    return script.definition, bytes and core.fingerprint_bytes(bytes) or 0
  end
  local own = prepared
  if not script.trusted then
    own = make_prepared(setmetatable({
      name = name, folder = script.folder, trusted = false, unguarded = options.trusted,
    }, {__index = options}))
  end
  local chunk, why = own.compile(script.source, script.path, own.env)
  if not chunk then invalid('view "%s": it uses "%s": %s', user, name, why) end
  own.sources.add(script.source)
  local definition = chunk(name, copy_params(invalid, name, script.params))
  return definition, own.sources.fingerprint(script.params)
end

-- The definition, bound to what it uses, and what used.lua makes of that, or nil.
local function resolve_uses(kinds, options, make_prepared, prepared, definition)
  if type(definition) ~= "table" or definition.uses == nil then return definition, nil end
  local invalid = kinds.invalid
  prepared = prepared or make_prepared(options)
  return own_module(options, "uses").resolve(options.name, definition, {
    kinds = kinds, iterate = iterator_of,
    find = function (user, name) return find_used(invalid, options, prepared, user, name) end,
    run = function (name, script)
      return run_used(invalid, options, make_prepared, prepared, options.name, name, script)
    end,
    make = function (name, used) return make(kinds, name, used, options) end,
  })
end

-- --- Putting it together -----------------------------------------------------------------------------------------

local function run_script(invalid, prepared, name, path, params)
  local source, message = core.read_file(path)
  if not source then invalid('view "%s": %s', name, message) end
  local chunk, why = prepared.compile(source, path, prepared.env)
  if not chunk then invalid('view "%s": %s', name, why) end
  prepared.sources.add(source)
  return chunk(name, params)
end

-- A mapper, and a codec of the caller's own, make the item that the view sees.
local function transform_for(options, mapper)
  local decode = options.decode
  if not decode then return mapper, false end
  if not mapper then return function (bytes) return (decode(bytes)) end, true end
  return function (bytes, seq) return mapper((decode(bytes)), seq) end, true
end

--- options: name; definition (a table) or path (a file); folder (of modules); others (views that it may use, by their
--- names: using.lua); lib (flume's own modules, in a view's
--- own state); natives (paths of modules in C by their names, there); built_in (folder of the built-in views); trusted,
--- package (paths); params (of the script); decode; mapper (a function) or mapper_path; log (for
--- create); on_end
return function (options)
  local observable, kinds = own_module(options, "observable"), own_module(options, "kinds")
  local definition, mapper, prepared = options.definition, options.mapper, nil
  local function make_prepared(given) return prepare(given, observable.new, kinds.path) end
  if options.path or options.mapper_path then prepared = make_prepared(options) end
  if options.path then
    local params = copy_params(kinds.invalid, options.name, options.params)
    definition = run_script(kinds.invalid, prepared, options.name, options.path, params)
  end
  if options.mapper_path then
    mapper = run_script(kinds.invalid, prepared, "mapper", options.mapper_path)
    if type(mapper) ~= "function" then kinds.invalid("mapper %s: it must return a function", options.mapper_path) end
  end
  local used
  definition, used = resolve_uses(kinds, options, make_prepared, prepared, definition)
  local fingerprint = prepared and prepared.sources.fingerprint(options.params) or 0

  local host = make(kinds, options.name, definition, options, used)
  host.transform, host.bytes = transform_for(options, mapper)
  add_sources(kinds, host, options.name)

  function host.describe()
    local text, print, uses, stamp = nil, fingerprint, nil, nil
    if used then
      text, print, uses, stamp = own_module(options, "uses").stamp(kinds.invalid, options.name, definition.version,
        used, fingerprint)
    end
    return {
      version = definition.version, version_text = text, uses = uses, stamp = stamp, fingerprint = print,
      kind = host.called or host.kind, methods = core.map(host.methods), in_caller = host.in_caller,
      keyless = host.keyless, builtin = core.map(host.builtin), since = host.raw and kinds.since_of(host.raw) or nil,
    }
  end

  function host.call(method, ...)
    return host.functions[method](host.view, ...)
  end

  return host
end
