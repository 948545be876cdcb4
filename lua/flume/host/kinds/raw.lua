-- A raw view: it feeds and keeps itself. create(log, name) of the definition gives
--
--   since         where it is: an observable, a function or a number
--   create_sink   (on_end) -> sink(item, seq), which consumes a record
--   destroy       removes its state
--   close         closes it
--   methods       of the view, by their types

local world = ...
local definition = world.import "definition"

local invalid = definition.invalid

local M = {}

local FIELDS = {"since", "create_sink", "destroy", "close", "methods"}

local function check(name, made)
  if type(made) ~= "table" then invalid('view "%s": create must return a table, not a %s', name, type(made)) end
  for _, field in ipairs(FIELDS) do
    if made[field] == nil then invalid('view "%s": what create returns has no %s', name, field) end
  end
  for _, field in ipairs {"create_sink", "destroy", "close"} do definition.check_function(name, field, made[field]) end
  if type(made.methods) ~= "table" then invalid('view "%s": methods must be a table', name) end
end

--- The host of a definition with create.
function M.new(name, given, options)
  local made = given.create(options.log, name)
  check(name, made)
  local host = {kind = "sink", view = made, raw = made, functions = made, methods = {}, in_caller = true}
  local sink
  function host.start(on_end)
    sink = made.create_sink(on_end or function () end)
    if type(sink) ~= "function" then
      invalid('view "%s": create_sink must return a function (item, seq), not a %s', name, type(sink))
    end
  end
  function host.step(item, seq) return sink(item, seq) end
  host.start(options.on_end)
  return host
end

--- Where a raw view is: a seq, -1 for nowhere. made: what create returned.
function M.since_of(made)
  local since = made.since
  if type(since) == "function" then return since() or -1 end
  if type(since) ~= "table" then return since or -1 end
  return (type(since.get) == "function" and since:get() or since.value) or -1
end

return M
