-- The view host: makes of a view's definition the object that the core drives (lua/view/fold.h) and that answers calls.
--
-- The same code runs in a script view's own Lua state, where the definition comes from a file, and in the caller's
-- state, where it may also be a table. The host is what a kind (kinds/choose.lua) makes of the definition, and in it
--
--   transform, bytes             a mapper, or a decoder, before the step function
--   describe()                   what the database has to know: version, fingerprint, kind, methods
--   call(method, ...)            results
--   open, pull, close            sources (iterators.lua)
--
-- A wrong definition raises an error object {message =, code = "EINVAL"}.

local world = ...
local core = world.core
local choose = world.import "kinds.choose"
local definition_of = world.import "definition"
local iterators = world.import "iterators"
local scripts = world.import "scripts"

local invalid = definition_of.invalid

local function make(name, definition, options, used)
  if type(definition) == "table" then definition_of.check_version(name, definition.version) end
  local host = choose(name, definition, options)
  if used then world.import "uses".attach(host, used) end
  local declared = host.raw and host.raw.methods or definition.methods
  if declared ~= nil and type(declared) ~= "table" then invalid('view "%s": methods must be a table', name) end
  host.builtin = {}
  for method in pairs(host.methods) do host.builtin[method] = not (declared or {})[method] end
  for method, kind in pairs(declared or {}) do host.methods[method] = kind end
  definition_of.check_methods(name, host.methods, host.functions)
  return host
end

-- The definition, bound to what it uses, and what uses.lua makes of that, or nil.
local function resolve_uses(options, prepared, definition)
  if type(definition) ~= "table" or definition.uses == nil then return definition, nil end
  return world.import "uses".resolve(options.name, definition, {
    check_known = function (names) scripts.check_known(options, names) end,
    find = function (user, name) return scripts.find_used(options, prepared, user, name) end,
    run = function (name, script) return scripts.run_used(options, prepared, name, script) end,
    make = function (name, used) return make(name, used, options) end,
  })
end

-- A mapper, and a codec of the caller's own, make the item that the view sees.
local function transform_for(options, mapper)
  local decode = options.decode
  if not decode then return mapper, false end
  if not mapper then return function (bytes) return (decode(bytes)) end, true end
  return function (bytes, seq) return mapper((decode(bytes)), seq) end, true
end

-- The definition and the mapper, from files where options give paths; and the script that was prepared for these, or
-- nil.
local function run_files(options)
  local definition, mapper, prepared = options.definition, options.mapper, nil
  if options.path or options.mapper_path then prepared = scripts.prepare(options) end
  if options.path then
    definition = scripts.run(prepared, options.name, options.path, scripts.copy_params(options.name, options.params))
  end
  if options.mapper_path then
    mapper = scripts.run(prepared, "mapper", options.mapper_path)
    if type(mapper) ~= "function" then invalid("mapper %s: it must return a function", options.mapper_path) end
  end
  return definition, mapper, prepared
end

-- After records were folded, and before what is at hand goes to the store, the scripts are looked at for changes.
local function add_checks(host, seals)
  if not seals[1] then return end
  local flush = host.flush
  function host.check(folded)
    for _, seal in ipairs(seals) do seal:folded(folded) end
  end
  function host.flush()
    for _, seal in ipairs(seals) do seal:check() end
    if flush then flush() end
  end
end

-- made_of: {fingerprint =, modules =} of the sources.
local function add_describe(host, options, definition, used, made_of)
  local fingerprint = made_of.fingerprint
  function host.describe()
    local text, print, uses, stamp = definition_of.version_text(definition.version), fingerprint, nil, nil
    if used then
      text, print, uses, stamp = world.import "uses".stamp(options.name, definition.version, used, fingerprint)
    end
    return {
      version = definition.version, version_text = text, uses = uses, stamp = stamp, fingerprint = print,
      kind = host.called or host.kind, methods = core.map(host.methods), in_caller = host.in_caller,
      modules = made_of.modules, keyless = host.keyless, builtin = core.map(host.builtin),
      since = host.raw and world.import "kinds.raw".since_of(host.raw) or nil,
    }
  end
end

local function new(options)
  local definition, mapper, prepared = run_files(options)
  local made_of = {fingerprint = 0, modules = {}}
  local has_uses = type(definition) == "table" and definition.uses ~= nil
  local world_of_used = prepared or has_uses and scripts.prepare(options) or nil
  local bound, used = resolve_uses(options, world_of_used, definition)
  if prepared then made_of = prepared.sources.describe(options.params) end

  local host = make(options.name, bound, options, used)
  host.transform, host.bytes = transform_for(options, mapper)
  iterators.add(host, options.name)
  if world_of_used then add_checks(host, scripts.seal(world_of_used)) end
  add_describe(host, options, bound, used, made_of)

  function host.call(method, ...)
    return host.functions[method](host.view, ...)
  end

  return host
end

--- options: name; definition (a table) or path (a file); folder (of modules); others (views that it may use, by their
--- names: view/dependents.lua); natives (paths of modules in C by their names, in a view's own state); built_in (folder
--- of the built-in views); trusted, package (paths); params (of the script); decode; mapper (a function) or
--- mapper_path; log (for create); on_end
---
--- others need not have all names from the start: the host of a script that needs more has just describe, which gives
--- {needs = list of names}.
return function (options)
  local ok, host = pcall(new, options)
  if ok then return host end
  local needs = scripts.needs_of(host)
  if not needs then error(host, 0) end
  return {describe = function () return {needs = needs} end}
end
