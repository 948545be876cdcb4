-- Checking tables of options: an unknown name or a wrong type is a mistake in the program, and raises.

local M = {}

local function names(spec)
  local list = {}
  for name in pairs(spec) do list[#list + 1] = name end
  table.sort(list)
  return table.concat(list, ", ")
end

local function fits(value, types)
  local kind = math.type(value) or type(value)
  for wanted in types:gmatch "[^|]+" do
    if kind == wanted or (wanted == "number" and type(value) == "number") then return true end
    if wanted == "integer" and kind == "float" and math.tointeger(value) then return true end
  end
  return false
end

--- Raises unless options is nil or a table whose fields are all in spec and of a type named there.
---@param where string the call, for the message
---@param options table|nil
---@param spec table name -> "type|type"
---@param level integer|nil of the error, as for error()
---@return table options, or an empty one
function M.check(where, options, spec, level)
  level = (level or 2) + 1
  if options == nil then return {} end
  if type(options) ~= "table" then
    error(("%s: options must be a table, not a %s"):format(where, type(options)), level)
  end
  for name, value in pairs(options) do
    local types = spec[name]
    if types == nil then
      error(("%s: unknown option %q; there are %s"):format(where, tostring(name), names(spec)), level)
    end
    if not fits(value, types) then
      error(("%s: option %s must be %s, not %s"):format(where, name, types:gsub("|", " or "),
        math.type(value) or type(value)), level)
    end
  end
  return options
end

return M
