-- The sources that a view is made of, and the fingerprint of them all: the script and the modules that it requires.
-- These are the modules that it has loaded, and those that are named literally in require "x" anywhere, which it may
-- load later; and so on from there.

local world = ...
local core = world.core

local M = {}

--- find = function (name) -> source of a module, or nil when there is none
function M.new(find)
  local self = {}
  local own, modules = {}, {} -- list of sources; modules by name

  --- The script, or the mapper: what is run for itself.
  function self.add(source)
    own[#own + 1] = source
  end

  function self.add_module(name, source)
    modules[name] = source
  end

  local function follow(source, seen)
    for _, name in ipairs(core.required(source)) do
      if not seen[name] then
        seen[name] = true
        modules[name] = modules[name] or find(name)
        if modules[name] then follow(modules[name], seen) end
      end
    end
  end

  local function sorted_modules()
    local seen, names, loaded = {}, {}, {}
    for _, source in ipairs(own) do follow(source, seen) end
    for _, source in pairs(modules) do loaded[#loaded + 1] = source end
    for _, source in ipairs(loaded) do follow(source, seen) end
    for name in pairs(modules) do names[#names + 1] = name end
    table.sort(names)
    return names
  end

  --- Of the sources and of the parameters, which are nil or a table.
  function self.fingerprint(params)
    if #own == 0 then return 0 end
    local hash = core.fingerprint_bytes(tostring(#own))
    for _, source in ipairs(own) do hash = core.fingerprint(source, hash) end
    for _, name in ipairs(sorted_modules()) do
      hash = core.fingerprint(modules[name], core.fingerprint_bytes(name, hash))
    end
    if params ~= nil then hash = core.fingerprint_bytes(core.encode_sorted(params), hash) end
    return hash
  end

  --- The fingerprint, and the names of the modules, sorted: {fingerprint =, modules =}.
  function self.describe(params)
    return {fingerprint = self.fingerprint(params), modules = sorted_modules()}
  end

  return self
end

return M
