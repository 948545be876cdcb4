-- Which kind of view a definition is of:
--
--   create               a raw view, which feeds and keeps itself
--   query = true         answers queries
--   bitmaps              sets of records by the value at a path; for query views
--   aggregate            counts and the like for each key, made by the core
--   reducer with group   one state for each key
--   reducer              one state
--   indexer              entries (key, seq, value)
--
-- Each kind is a function (name, definition, options) -> host (host.lua) with
--
--   kind, step, retract, initial, paths, transform    what the core folds with (lua/view/fold.h)
--   view                     the first argument of the view's methods
--   functions, methods       the methods that the kind has by itself, and their types
--   attach(store)            called once, with the functions of lua/view/view_store.h
--   flush(), forget()        write what is at hand to the store; discard it, since the store has changed
--
-- A kind's module is loaded when a view of the kind is mounted.

local world = ...
local definition = world.import "definition"

local check_function, invalid = definition.check_function, definition.invalid

local function fold_of(name, given)
  check_function(name, "reducer", given.reducer)
  check_function(name, "retract", given.retract)
  if given.group ~= nil then return world.import "kinds.group".new end
  return world.import "kinds.reduce"
end

local function kind_of(name, given)
  if given.create ~= nil then
    check_function(name, "create", given.create)
    return world.import "kinds.raw".new
  end
  if given.query == true then return world.import "kinds.query" end
  if given.bitmaps ~= nil then return world.import "kinds.bitmap" end
  if given.reducer ~= nil and given.indexer ~= nil then
    invalid('view "%s": it has both a reducer and an indexer', name)
  end
  if given.aggregate ~= nil then
    if given.reducer ~= nil or given.indexer ~= nil then
      invalid('view "%s": it has an aggregate and something else as well', name)
    end
    return world.import "kinds.aggregate"
  end
  if given.reducer ~= nil then return fold_of(name, given) end
  if given.indexer ~= nil then return world.import "kinds.index" end
  invalid('view "%s": it has neither a reducer nor an aggregate nor an indexer nor create', name)
end

--- The host of a definition; raises when it is none.
return function (name, given, options)
  if type(given) ~= "table" then invalid('view "%s": a view is a table, not a %s', name, type(given)) end
  return kind_of(name, given)(name, given, options)
end
