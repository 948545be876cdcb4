-- The modules of lua/flume/host, for the caller's Lua state and for those of script views. They require nothing
-- themselves: each is a chunk that gets what it needs (host/main.lua).

local core = require "flume.core"
local methods = require "flume.query.methods"
local observable = require "flume.observable"

local M = {}

local NAMES = {
  "main", "host", "definition", "entries", "iterators", "paths", "ranges", "sandbox", "script_sources", "scripts",
  "sealed", "uses", "kinds.choose", "kinds.aggregate", "kinds.bitmap", "kinds.group", "kinds.index", "kinds.query",
  "kinds.raw", "kinds.reduce",
}

local NATIVES = { -- modules in C that scripts may require
  ["flume.text"] = function () return require "flume.text" end,
}

local function compile(module)
  local file <close> = assert(io.open(assert(package.searchpath(module, package.path))))
  return string.dump(assert(load(file:read "a", "=" .. module, "t"))) -- the errors of scripts show no path of flume's
end

-- Each module is read and compiled once.
local compiled = setmetatable({}, {__index = function (self, name)
  local bytes = compile("flume.host." .. name)
  self[name] = bytes
  return bytes
end})

local lib -- for script views: name -> bytecode of all modules but main

--- What a script view's own state is started with: the bytecode of its first module, and of the others by their names.
function M.for_script()
  if not lib then
    lib = {observable = compile "flume.observable"}
    for _, name in ipairs(NAMES) do lib[name] = compiled[name] end
    lib.main = nil
  end
  return compiled.main, lib
end

local world = {
  core = core,
  observable = observable,
  query = methods,
  own_state = false,
  getupvalue = debug.getupvalue,
  getmetatable = debug.getmetatable,
  open_native = function (name) return NATIVES[name]() end,
}

local loaded = {}

--- A module of lua/flume/host in the caller's state.
function M.import(name)
  local module = loaded[name]
  if module == nil then
    module = assert(load(compiled[name], name, "b"))(world)
    loaded[name] = module
  end
  return module
end

world.import = M.import

return M
