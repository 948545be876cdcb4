-- What a script view can reach: the parts of Lua's library that neither touch the world nor depend on it. No io, os,
-- debug, no bytecode, no clock and no random numbers; require finds modules in the views' folder only.
--
-- Runs in a view's own Lua state, or in the caller's for views that have to be there.

local M = {}

local BASE = {
  "assert", "error", "ipairs", "next", "pairs", "print", "rawequal", "rawget", "rawlen", "rawset", "select", "tonumber",
  "tostring", "type", "_VERSION",
}

local HIDDEN = {["string.dump"] = true, ["math.random"] = true, ["math.randomseed"] = true}

local function copy_library(name, library)
  local copy = {}
  for key, value in pairs(library) do
    if not HIDDEN[name .. "." .. key] then copy[key] = value end
  end
  return copy
end

-- Strings share one metatable: handing it out would hand out the string library itself.
local function safe_getmetatable(value)
  if type(value) == "string" then return nil end
  return getmetatable(value)
end

-- A finalizer would run where no instructions are counted.
local function safe_setmetatable(table, metatable)
  if type(metatable) == "table" and rawget(metatable, "__gc") ~= nil then
    error("__gc is not available in a view", 2)
  end
  return setmetatable(table, metatable)
end

-- What catches errors, but not the one of a spent budget. The handler of an xpcall is called afterwards: in the midst
-- of the error no instructions are counted.
local function add_catching(env, exhausted)
  local function pass(ok, ...)
    if not ok and exhausted() then error(..., 0) end
    return ok, ...
  end

  function env.pcall(fn, ...) return pass(pcall(fn, ...)) end

  function env.xpcall(fn, handler, ...)
    local results = table.pack(pass(pcall(fn, ...)))
    if results[1] then return table.unpack(results, 1, results.n) end
    return false, handler(results[2])
  end

  local resume, close = env.coroutine.resume, env.coroutine.close
  function env.coroutine.resume(co, ...) return pass(resume(co, ...)) end
  function env.coroutine.close(co) return pass(close(co)) end
end

local function file_of(folder, name)
  if type(name) ~= "string" or not name:find "^[%w_%-][%w_%-.]*$" or name:find("..", 1, true) then
    error(("module name %q: letters, digits, _, - and single dots"):format(tostring(name)), 3)
  end
  return folder .. "/" .. name:gsub("%.", "/") .. ".lua"
end

--- An environment for a script. host = {folder=, read=function(path), provided={name=value}, on_load=function(source),
--- exhausted=function() -> whether the script's budget is spent}
function M.new(host)
  local env = {}
  for _, name in ipairs(BASE) do env[name] = _G[name] end
  for _, name in ipairs {"string", "table", "math", "utf8", "coroutine"} do env[name] = copy_library(name, _G[name]) end
  env.getmetatable, env.setmetatable = safe_getmetatable, safe_setmetatable
  add_catching(env, host.exhausted or function () return false end)
  env._G = env

  local loaded = {}

  function env.load(chunk, name, _, chunk_env)
    return load(chunk, name, "t", chunk_env == nil and env or chunk_env)
  end

  function env.require(name)
    if host.provided[name] ~= nil then return host.provided[name] end
    if loaded[name] ~= nil then return loaded[name] end
    if not host.folder then error(("module %q: this view has no folder to require from"):format(name), 2) end
    local path = file_of(host.folder, name)
    local source, message = host.read(path)
    if not source then error(("module %q not found: %s"):format(name, message), 2) end
    host.on_load(source)
    local chunk, why = load(source, "@" .. path, "t", env)
    if not chunk then error(why, 2) end
    loaded[name] = true
    local value = chunk(name)
    if value ~= nil then loaded[name] = value end
    return loaded[name]
  end

  return env
end

return M
