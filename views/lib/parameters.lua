-- The parameters of a built-in view: db:use(name, view, {params = {…}}).

local M = {}

--- Whether a value is a path, such as "a.b".
function M.is_path(value)
  if type(value) ~= "string" or value == "" then return false end
  return not (value:find "^%." or value:find "%.$" or value:find("..", 1, true))
end

local function is_list(value, is_element)
  if type(value) ~= "table" or #value == 0 then return false end
  for _, each in ipairs(value) do
    if not is_element(each) then return false end
  end
  return true
end

local TYPES = {
  path = M.is_path,
  paths = function (value) return M.is_path(value) or is_list(value, M.is_path) end,
  flag = function (value) return type(value) == "boolean" end,
  text = function (value) return type(value) == "string" end,
  count = function (value) return math.type(value) == "integer" and value > 0 end,
  share = function (value) return type(value) == "number" and value > 0 and value < 1 end,
  table = function (value) return type(value) == "table" end,
  any = function (value) return value ~= nil end,
}

local WORDS = {
  path = "a path", paths = "a path or a list of paths", flag = "true or false", text = "a string",
  count = "an integer above 0", share = "a number between 0 and 1", table = "a table", any = "a value",
}

local function names(spec)
  local list = {}
  for name in pairs(spec) do list[#list + 1] = name end
  table.sort(list)
  return table.concat(list, ", ")
end

--- The parameters, when each is one of spec (name -> type, with "!" behind it when it has to be there); else raises.
function M.check(view, params, spec)
  params = params or {}
  for name, value in pairs(params) do
    local kind = spec[name] and spec[name]:gsub("!", "")
    if not kind then error(("%s: unknown parameter %s; there are %s"):format(view, tostring(name), names(spec)), 0) end
    if not TYPES[kind](value) then
      local what = type(value) == "table" and "" or ", not " .. tostring(value)
      error(("%s: parameter %s must be %s%s"):format(view, name, WORDS[kind], what), 0)
    end
  end
  for name, kind in pairs(spec) do
    if kind:sub(-1) == "!" and params[name] == nil then
      error(("%s: parameter %s is missing: %s"):format(view, name, WORDS[kind:sub(1, -2)]), 0)
    end
  end
  return params
end

return M
