-- The first module of a script view's own Lua state: it is given to the core as bytecode, with the others in
-- options.lib, and loads them when they are needed. (In the caller's state view/host_modules.lua does this.)
--
-- Every module of this folder is a chunk that is called with a world, which has all that comes from outside:
--
--   core          the core's functions
--   observable    flume.observable
--   import(name)  another module of this folder
--   open_native(name)  a module in C that scripts may require, or nil where options.natives has its path
--   query         the methods of query views (flume.query.methods), or nil in a script view's own state
--   own_state     true in a script view's own state
--   getupvalue, getmetatable   those of Lua's debug library

local core = rawget(_G, "flume_core")

return function (options)
  local loaded = {}
  local world = {
    core = core, own_state = true, query = nil, getupvalue = core.getupvalue, getmetatable = core.raw_metatable,
  }

  function world.import(name)
    local module = loaded[name]
    if module == nil then
      module = assert(load(options.lib[name], name, "b"))(world)
      loaded[name] = module
    end
    return module
  end

  world.observable = assert(load(options.lib.observable, "observable", "b"))()
  return world.import "host"(options)
end
