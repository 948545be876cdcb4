-- Errors as values.
--
-- A call that can fail in an expected way returns nil, message, code. A callback gets one value in their place: an
-- error object with the fields `message` and `code`. It prints as its message and answers to the methods of a string.

local core = require "flume.core"

local M = {}

local Error = core.error_metatable()

Error.__index = function (err, key)
  local method = string[key]
  if type(method) ~= "function" then return nil end
  return function (_, ...) return method(err.message, ...) end
end

Error.__tostring = function (err) return err.message end

Error.__concat = function (a, b) return tostring(a) .. tostring(b) end

Error.__eq = function (a, b) return a.message == b.message and a.code == b.code end

---@return table error object
function M.new(message, code)
  return setmetatable({message = message, code = code}, Error)
end

function M.is(value)
  return getmetatable(value) == Error
end

--- The text of a value that was raised: a string as it is, an object by its __tostring, a table by what it holds.
M.text = core.error_text

--- A value as messages name it: 5, "text", nil, a table.
function M.given(value)
  local kind = type(value)
  if kind == "string" then return ("%q"):format(value) end
  if kind == "number" or kind == "boolean" or kind == "nil" then return tostring(value) end
  return "a " .. kind
end

--- Raises that a method was called with a dot: given stands where the object itself does with a colon.
function M.misused(object, method, given, level)
  error(("%s: call it as %s:%s(...), with a colon; what was given in the place of the object is %s"):format(method,
    object, method, M.given(given)), level + 1)
end

--- An error object as the three results of a failed call.
function M.unpack(err)
  if M.is(err) then return nil, err.message, err.code end
  return nil, M.text(err), "EVIEW"
end

--- The three results of a failed call as an error object.
function M.pack(_, message, code)
  return M.new(message, code)
end

return M
