-- What is checked of a view's definition, and what the kinds of views do alike with it.

local world = ...
local core = world.core

local M = {}

local METHOD_TYPES = {sync = true, async = true, source = true, record = true, records = true}
local VERSION_MAX_BYTES = 60

--- Raises the error object for a wrong definition.
function M.invalid(fmt, ...)
  error({message = fmt:format(...), code = "EINVAL"}, 0)
end

local invalid = M.invalid

--- The value of a field that must be a function, or nil.
function M.check_function(name, field, value)
  if value ~= nil and type(value) ~= "function" then
    invalid('view "%s": %s must be a function, not a %s', name, field, type(value))
  end
  return value
end

function M.check_version(name, version)
  local kind = math.type(version) or type(version)
  if version ~= nil and kind ~= "integer" and kind ~= "float" and kind ~= "string" then
    invalid('view "%s": version must be a number or a string, not a %s', name, kind)
  end
  if kind == "string" and #version > VERSION_MAX_BYTES then
    invalid('view "%s": a version of more than %d bytes', name, VERSION_MAX_BYTES)
  end
  if version ~= version then invalid('view "%s": version is nan, which is like no version', name) end
end

--- The text that tells versions apart: the same for the same version in any locale, and for no other. Floats have as
--- many digits as it takes, 14 at least; "" stands for none.
function M.version_text(version)
  if version == nil then return "" end
  if math.type(version) ~= "float" then return tostring(version) end
  local text
  for digits = 14, 17 do
    text = ("%%.%dg"):format(digits):format(version)
    if tonumber(text) == version then break end
  end
  text = text:gsub("[^0-9a-zA-Z+-]+", ".") -- the locale's decimal point
  return text:find "^[0-9-]+$" and text .. ".0" or text
end

--- methods: name -> type; functions: name -> function.
function M.check_methods(name, methods, functions)
  for method, kind in pairs(methods) do
    if not METHOD_TYPES[kind] then
      invalid('view "%s": method %s must be "sync", "async", "source", "record" or "records", not %s', name,
        method, tostring(kind))
    end
    if type(functions[method]) ~= "function" then
      invalid('view "%s": it names a method %s that it does not have', name, method)
    end
  end
end

--- The bytes of the initial state of a reducer.
function M.encode_initial(name, definition)
  local initial, message = core.encode(definition.initial)
  if not initial then invalid('view "%s": initial %s', name, message) end
  return initial
end

--- The methods of the definition, and behind them those of its kind: a table of functions.
function M.with_builtin(definition, builtin)
  return setmetatable({}, {__index = function (_, method)
    local own = definition[method]
    if definition.methods and definition.methods[method] and own ~= nil then return own end
    return builtin[method]
  end})
end

--- The function that takes a record back out of a state, or nil. A definition's retract answers nil, "rebuild" when it
--- can't.
function M.retracting(host, retract)
  return retract and function (acc, item, seq)
    local state, wish = retract(acc, item, seq)
    if wish == nil then return state end
    if wish ~= "rebuild" then error(('retract may return a state, or nil and "rebuild"'), 0) end
    host.store.rebuild()
    return acc
  end
end

--- A caller's own copy of a state. A state that can't be stored can't be copied: it is given as it is.
function M.copy(value)
  if type(value) ~= "table" then return value end
  local bytes = core.encode(value)
  if not bytes then return value end
  return (core.decode(bytes))
end

return M
