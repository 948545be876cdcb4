-- What code typed at the prompt, piped in or given with -e sees: all of Lua, flume, db, and every view by its name.

local flume = require "flume"

local M = {}

-- Names of Lua go before names of views: a view called "table" is db.views.table.
function M.new(db)
  local scope = {db = db, flume = flume}
  scope._G = scope
  return setmetatable(scope, {
    __index = function (_, name)
      local value = _G[name]
      if value ~= nil then return value end
      return db.views[name]
    end,
  })
end

return M
