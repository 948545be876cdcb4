-- Bitmaps: sets of records in the store, by the value or the kind of value that they have at a path, or of all records.
-- The core makes them, and query views read them (lua/view/lua_seqset.h).

local world = ...
local paths = world.import "paths"

--- The host of a definition with bitmaps = {shape = "value" | "kind" | "any", path = text}.
return function (name, given)
  local wanted = given.bitmaps
  local list = wanted.shape == "any" and {} or paths.check(name, "bitmaps.path", wanted.path)
  return {
    kind = "bitmap", shape = wanted.shape, paths = list, view = {name = name}, functions = given, methods = {},
    flush = function () end, forget = function () end,
  }
end
