-- A query view: it knows which records there are, and answers queries by its methods (world.query), which keep indexes
-- beside it. Where the core can't read the records it has no indexes. It runs in the caller's state: in a state of its
-- own it only says so.

local world = ...
local bitmap = world.import "kinds.bitmap"
local reduce = world.import "kinds.reduce"

-- Bitmaps of all records; or just their count.
local function records_of(name, is_usable)
  if is_usable then return bitmap(name, {bitmaps = {shape = "any"}}) end
  return reduce(name, {reducer = function (count) return count + 1 end, initial = 0})
end

--- The host of a definition with query = true.
return function (name, _, options)
  if world.own_state then return {kind = "query", view = {}, functions = {}, methods = {}, in_caller = true} end
  local usable = options.log.codec_name == "msgpack" and not options.mapper and not options.mapper_path
  local host = records_of(name, usable)
  host.called, host.usable, host.engine, host.in_caller = "query", usable, world.query, true
  host.methods, host.functions = {}, host.engine.METHODS
  for method, kind in pairs(host.engine.TYPES) do host.methods[method] = kind end
  return host
end
