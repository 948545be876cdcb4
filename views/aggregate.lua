-- Counts, sums, least, greatest and distinct values by group, which the core makes without calling Lua.
--
--   group    the path of the group, or a list of paths: then groups are arrays; none for one of all records
--   fields   what there is of each group, name -> "count", or {"count" | "sum" | "min" | "max" | "distinct", path}

local parameters = require "lib.parameters"

local _, given = ...
local params = parameters.check("aggregate", given, {group = "paths", fields = "table!"})

return {aggregate = params.fields, group = params.group}
