-- A reducer whose functions are given as text: the view for a question that is asked in one line.
--
--   reducer    the next state, as an expression of acc, item and seq, or as the body of a function (acc, item, seq)
--   initial    the state before the first record
--   retract    the state without a deleted record, in the same form; without it a delete builds the view anew
--   group      a path, or a list of paths, for one state a key
--   version    when it changes the view is built anew; without one any change of the parameters does that

local parameters = require "lib.parameters"

local name, given = ...
local params = parameters.check("reduce", given, {
  reducer = "text!", initial = "any", retract = "text", group = "paths", version = "any",
})

local function compile(parameter)
  local text = params[parameter]
  if not text then return nil end
  local head, chunk_name = "local acc, item, seq = ... ", ("=%s.%s"):format(name, parameter)
  local fn = load(head .. "return " .. text, chunk_name)
  if fn then return fn end
  local body, message = load(head .. text, chunk_name)
  if not body then error(("reduce: parameter %s: %s"):format(parameter, message), 0) end
  return body
end

return {
  version = params.version,
  initial = params.initial,
  group = params.group,
  reducer = compile "reducer",
  retract = compile "retract",
}
