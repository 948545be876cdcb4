-- What a script view can reach: the parts of Lua's library that neither touch the world nor depend on it. No io, os,
-- debug, no bytecode, no clock and no random numbers; require finds modules in the views' folder only.
--
-- Runs in a view's own Lua state, where the core gives functions that are bounded and always do the same
-- (lua/sandbox/lib.h), or in the caller's for views that have to be there.

local world = ...
local core = world.own_state and world.core or nil

local M = {}

local BASE = {
  "assert", "error", "ipairs", "next", "pairs", "pcall", "print", "rawequal", "rawget", "rawlen", "rawset", "select",
  "tonumber", "tostring", "type", "xpcall", "_VERSION",
}

local HIDDEN = {string = {"dump"}, math = {"random", "randomseed"}}

local function copy_library(name, library, bounded)
  local copy = {}
  for key, value in pairs(library) do copy[key] = value end
  for key, value in pairs(bounded or {}) do copy[key] = value end
  for _, key in ipairs(HIDDEN[name] or {}) do copy[key] = nil end
  return copy
end

-- The metatables that the scripts of the caller's state have set: they get no others.
local own_metatables = setmetatable({}, {__mode = "k"})

-- A metatable of the host's in the hands of a script could be given finalizers; that of strings would hand out the
-- string library itself.
local function safe_getmetatable(value)
  if type(value) == "string" then return nil end
  local metatable = getmetatable(value)
  if type(metatable) ~= "table" or own_metatables[metatable] or rawget(metatable, "__metatable") ~= nil then
    return metatable
  end
  return false
end

-- For the caller's state: a finalizer would run at any time.
local function safe_setmetatable(table, metatable)
  if type(metatable) == "table" and rawget(metatable, "__gc") ~= nil then
    error("__gc is not available in a view", 2)
  end
  setmetatable(table, metatable)
  if metatable then own_metatables[metatable] = true end
  return table
end

-- The text of a chunk in pieces: Lua's own load would catch an error in fn.
local function all_pieces(fn)
  local pieces = {}
  for piece in fn do
    if type(piece) ~= "string" then error("reader function must return a string", 0) end
    if piece == "" then break end
    pieces[#pieces + 1] = piece
  end
  return table.concat(pieces)
end

local function is_module_name(name)
  return type(name) == "string" and name:find "^[%w_%-][%w_%-.]*$" and not name:find("..", 1, true)
end

local function file_of(folder, name)
  return folder .. "/" .. name:gsub("%.", "/") .. ".lua"
end

-- Compiles text within the budget, in a state that has one.
local function compile(text, chunk_name, env)
  if core and core.compile then return core.compile(text, chunk_name, env) end
  return load(text, chunk_name, "t", env)
end

--- Compiles a script, whose first line may begin with #.
function M.compile(source, path, env)
  local text = source:gsub("^#[^\n]*", "", 1)
  return compile(text, "@" .. path, env)
end

--- The source of a module that a script with this host could require, or nil.
function M.find(host, name)
  if host.provided[name] ~= nil or host.natives and host.natives[name] or not is_module_name(name) then return nil end
  if not host.package then return host.folder and (host.read(file_of(host.folder, name))) or nil end
  local path = package.searchpath(name, package.path)
  return path and (host.read(path)) or nil
end

-- A module in C has no source that a fingerprint could cover: its version stands for it.
local function note_version(host, name, module)
  local version = type(module) == "table" and module.version
  if type(version) == "string" then host.on_load(name, ("return %q"):format(version)) end
end

local function add_loading(env, host)
  local loaded = {}

  function env.load(chunk, name, _, chunk_env)
    if type(chunk) == "function" then
      local ok, text = env.pcall(all_pieces, chunk)
      if not ok then return nil, text end
      chunk, name = text, name or "=(load)"
    end
    if type(chunk) == "number" then chunk = tostring(chunk) end
    if type(chunk) ~= "string" then
      local given = chunk == nil and "no value" or type(chunk)
      error(("bad argument #1 to 'load' (function expected, got %s)"):format(given), 2)
    end
    return compile(chunk, name or chunk, chunk_env == nil and env or chunk_env)
  end

  function env.require(name)
    if host.provided[name] ~= nil then return host.provided[name] end
    if loaded[name] ~= nil then return loaded[name] end
    if host.natives and host.natives[name] then
      loaded[name] = host.open_native(name)
      note_version(host, name, loaded[name])
      return loaded[name]
    end
    if not is_module_name(name) then
      error(("module name %q: letters, digits, _, - and single dots"):format(tostring(name)), 2)
    end
    if not host.folder then error(("module %q: this view has no folder to require from"):format(name), 2) end
    local path = file_of(host.folder, name)
    local source, message = host.read(path)
    if not source then error(("module %q not found: %s"):format(name, message), 2) end
    host.on_load(name, source)
    local chunk, why = M.compile(source, path, env)
    if not chunk then error(why, 2) end
    loaded[name] = true
    local value = chunk(name)
    if value ~= nil then loaded[name] = value end
    return loaded[name]
  end
end

--- An environment for a script. host = {folder=, read=function(path), provided={name=value}, natives={name=…} and
--- open_native=function(name) of modules in C or nil, on_load=function(name, source), core = the core of a view's own
--- state, or nil}
function M.new(host)
  local env, guard = {}, host.core or {}
  local library = guard.library or {}
  for _, name in ipairs(BASE) do env[name] = _G[name] end
  for name, value in pairs(library.base or {}) do env[name] = value end
  for _, name in ipairs {"string", "table", "math", "utf8", "coroutine"} do
    env[name] = copy_library(name, _G[name], library[name])
  end
  env.getmetatable = guard.getmetatable or safe_getmetatable
  env.setmetatable = guard.setmetatable or safe_setmetatable
  env._G = env
  add_loading(env, host)
  return env
end

--- The environment of a script that is trusted: all of a Lua state's own library. require looks in the views' folder
--- first. host is as for new, and has package = {path=, cpath=}. The caller's state is taken as it is.
function M.trusted(host)
  if not host.core then return _G end
  _G.flume_core = nil -- flume's own business
  local from_folder = host.folder and host.folder .. "/?.lua;" or ""
  package.path, package.cpath = from_folder .. host.package.path, host.package.cpath
  for name, value in pairs(host.provided) do package.loaded[name] = value end
  local load_module = require
  rawset(_G, "require", function (name)
    local path = package.loaded[name] == nil and package.searchpath(name, package.path)
    if path then host.on_load(name, assert(host.read(path))) end
    local value = load_module(name)
    if host.natives and host.natives[name] then note_version(host, name, value) end
    return value
  end)
  return _G
end

return M
