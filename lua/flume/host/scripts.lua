-- Running the files that a view is made of: its script, a mapper, built-in views that a script goes on from, and the
-- scripts of views that it uses. A `prepared` script has
--
--   sources   what the script is made of (script_sources.lua)
--   env       its environment (sandbox.lua)
--   compile   compile(source, path, env)
--   find      the source of a module that it could require, or nil
--   made      list of what its files have returned: a definition, a mapper
--   library   set of the library's functions in env, and
--   names     set of the names of its globals there; both nil for a trusted script
--   used      list of the prepared scripts of views that it uses
--   seal      what notices that it keeps something between records (sealed.lua), once it is sealed

local world = ...
local core = world.core
local invalid = world.import "definition".invalid
local paths = world.import "paths"
local sandbox = world.import "sandbox"
local script_sources = world.import "script_sources"
local sealed = world.import "sealed"

local M = {}

-- Modules in C, which a state of its own can't load by itself.
local NATIVES = {["flume.text"] = "luaopen_flume_text"}
local STEPS_PER_BYTE = 10 -- of the budget, for finding the words of a text

-- flume.text, within the budget of a state that has one. library: takes functions that are not to be looked into.
local function charged_text(text, library)
  return {
    languages = text.languages, version = text.version, segments = text.segments,
    analyser = function (language)
      local analyse = text.analyser(language)
      library[analyse] = true
      return function (s)
        if world.own_state and type(s) == "string" then core.charge(#s * STEPS_PER_BYTE) end
        return analyse(s)
      end
    end,
  }
end

local function open_native(options, name, library)
  if world.open_native then return charged_text(world.open_native(name), library) end
  local path = options.natives[name]
  if path == "" then error(("module %q is not installed"):format(name), 0) end
  return charged_text(core.open_module(path, NATIVES[name]), library)
end

-- flume.view(name, params): the definition that a built-in view gives, for a script that returns it, or goes on from
-- it. It requires from its own folder, and belongs to the fingerprint.
local function built_in(options, given, prepared, name, params)
  local path = ("%s/%s.lua"):format(options.built_in, tostring(name))
  local source = type(name) == "string" and name:find "^[%w_]+$" and core.read_file(path)
  if not source then error(("flume.view: there is no built-in view %s"):format(tostring(name)), 2) end
  local function note(module, text) prepared.sources.add_module("flume.views." .. module, text) end
  local inner = setmetatable({folder = options.built_in, on_load = note}, {__index = given})
  local env = sandbox.new(inner)
  for fn in pairs(sealed.library_of(env, given.provided.flume)) do prepared.library[fn] = true end
  note(name, source)
  return assert(sandbox.compile(source, path, env))(options.name, params)
end

--- What a script needs to run, and what notes its sources. options: as for host.lua.
function M.prepare(options)
  local prepared = {
    sources = nil, env = nil, compile = sandbox.compile, find = nil, made = {}, library = {}, names = nil, used = {},
    seal = nil,
  }
  local given = {
    folder = options.folder, read = core.read_file, core = world.own_state and not options.unguarded and core or nil,
    package = options.trusted and options.package,
    natives = NATIVES, open_native = function (name) return open_native(options, name, prepared.library) end,
    provided = {
      flume = {
        null = core.null, array = core.array, map = core.map, table = core.table, is_array = core.is_array,
        path = paths.path, hash = core.hash, observable = world.observable.new,
      },
    },
  }
  function prepared.find(name) return sandbox.find(given, name) end
  prepared.sources = script_sources.new(prepared.find)
  function given.on_load(name, source)
    prepared.sources.add_module(name, source)
    if prepared.seal then prepared.seal:add_module(name) end
  end
  function given.provided.flume.view(name, params) return built_in(options, given, prepared, name, params) end
  prepared.env = options.trusted and sandbox.trusted(given) or sandbox.new(given)
  if options.trusted then return prepared end
  prepared.names = {}
  for name in pairs(prepared.env) do prepared.names[name] = true end
  for fn in pairs(sealed.library_of(prepared.env, given.provided.flume)) do prepared.library[fn] = true end
  return prepared
end

local FOLDS = {"reducer", "retract", "group", "indexer"}

-- The functions that make the state, of what a script's files have returned; nil for a raw view, which keeps itself.
local function folds_of(prepared)
  local functions = {}
  for _, made in ipairs(prepared.made) do
    if type(made) == "function" then functions[#functions + 1] = made end -- a mapper
    if type(made) == "table" and made.create ~= nil then return nil end
    for _, field in ipairs(type(made) == "table" and FOLDS or {}) do
      if type(made[field]) == "function" then functions[#functions + 1] = made[field] end
    end
  end
  return functions
end

--- Seals the script, and those that it uses, as far as they are not trusted: a list of what notices changes.
function M.seal(prepared)
  local seals = {}
  local functions = prepared.names and folds_of(prepared)
  if functions then
    prepared.seal = sealed.new(prepared.env, prepared.names, prepared.library, functions)
    if functions[1] then seals[1] = prepared.seal end
  end
  for _, used in ipairs(prepared.used) do
    if not used.seal then table.move(M.seal(used), 1, 1, #seals + 1, seals) end
  end
  return seals
end

--- The script's own copy of its parameters.
function M.copy_params(name, params)
  if params == nil then return nil end
  local bytes, message = core.encode(params)
  if not bytes then invalid('view "%s": params: %s', name, message) end
  return (core.decode(bytes))
end

--- What the file at path returns, when it is called with name and params.
function M.run(prepared, name, path, params)
  local source, message = core.read_file(path)
  if not source then invalid('view "%s": %s', name, message) end
  local chunk, why = prepared.compile(source, path, prepared.env)
  if not chunk then invalid('view "%s": %s', name, why) end
  prepared.sources.add(source)
  local made = chunk(name, params)
  prepared.made[#prepared.made + 1] = made
  return made
end

local Needs = {} -- metatable of the error

--- Raises an error when options.others doesn't tell of all these names whether a view is mounted under them.
function M.check_known(options, names)
  local unknown = {}
  for _, name in ipairs(names) do
    if options.others[name] == nil then unknown[#unknown + 1] = name end
  end
  if unknown[1] then error(setmetatable({names = unknown}, Needs), 0) end
end

--- The names that check_known has raised an error for; nil for another error.
function M.needs_of(err)
  return getmetatable(err) == Needs and err.names or nil
end

--- The view that is mounted under a name, else the script in the folder of its user: {definition =}, or {source =,
--- path =, folder =}; with params, skips, trusted. nil for neither.
function M.find_used(options, prepared, user, name)
  local other = options.others[name] or {}
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

--- Runs a script for its user: its definition, and the fingerprint of its sources. A script that is not trusted is in a
--- sandbox in the state of a trusted user, too.
function M.run_used(options, prepared, name, script)
  if script.definition then
    local bytes = core.encode_sorted(script.definition)
    return script.definition, bytes and core.fingerprint_bytes(bytes) or 0
  end
  local own = prepared
  if not script.trusted then
    own = M.prepare(setmetatable({
      name = name, folder = script.folder, trusted = false, unguarded = options.trusted,
    }, {__index = options}))
  end
  local chunk, why = own.compile(script.source, script.path, own.env)
  if not chunk then invalid('view "%s": it uses "%s": %s', options.name, name, why) end
  own.sources.add(script.source)
  local definition = chunk(name, M.copy_params(name, script.params))
  own.made[#own.made + 1] = definition
  if own ~= prepared then prepared.used[#prepared.used + 1] = own end
  return definition, own.sources.fingerprint(script.params)
end

return M
