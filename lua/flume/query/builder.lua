-- A query that is built step by step:
--
--   db.q:where(eq("type", "post") & eq("author", who)):descending():limit(25):all()
--
-- Each step returns a new query; a query never changes.

local errors = require "flume.errors"
local async = require "flume.async"
local filter = require "flume.query.filter"

local Query = {}
Query.__index = Query
Query.__name = "flume.query"

local PAGE = 25

local PATIENCE = {since = "integer", wait = "boolean", timeout = "number"}

local function changed(self, field, value)
  local copy = {}
  for key, each in pairs(self) do copy[key] = each end
  copy[field] = value
  return setmetatable(copy, Query)
end

--- Adds a condition: records meet all conditions.
function Query:where(condition)
  if condition == nil then return self end
  if not filter.is(condition) then
    error("where: a condition expected, such as eq(\"type\", \"post\"), not a " .. type(condition), 2)
  end
  return changed(self, "condition", self.condition and self.condition & condition or condition)
end

--- In the ascending order of the log or of the path. This is the default.
function Query:ascending()
  return changed(self, "reverse", false)
end

--- In the descending order.
function Query:descending()
  return changed(self, "reverse", true)
end

--- In the order of the values at a path. Records without a value that can be a key come first. Records with equal
--- values are in the order of the log.
function Query:by(path)
  if path == nil then error("by: a path expected", 2) end
  return changed(self, "path", filter.path(path, 3))
end

--- Limits the number of results, and of those on a page. Below 0: no limit.
function Query:limit(limit)
  if math.type(limit) ~= "integer" then error("limit: an integer expected, not " .. errors.given(limit), 2) end
  return changed(self, "size", limit >= 0 and limit or nil)
end

--- Options of waiting: {since =, wait =, timeout =}, as for the methods of any view.
function Query:patience(options)
  for name, value in pairs(options) do
    if not PATIENCE[name] or type(value) ~= PATIENCE[name] and math.type(value) ~= PATIENCE[name] then
      error(("patience: %s = %s; there are since, timeout and wait"):format(tostring(name), tostring(value)), 2)
    end
  end
  return changed(self, "waiting", options)
end

-- The query as the engine takes it (methods.lua).
local function made_of(self)
  local waiting = self.waiting
  return {
    condition = self.condition, stages = {}, path = self.path, reverse = self.reverse, limit = self.size, live = false,
    old = true, since = waiting.since, wait = waiting.wait, timeout = waiting.timeout,
  }
end

local function call(self, method, cb)
  self.engine.view:_check_alive(method, 3)
  return async.call(function (done) self.engine[method](self.engine, made_of(self), done) end, cb)
end

--- All of them, as a list of values.
function Query:all(cb)
  return call(self, "all", cb)
end

--- The first of them, or nil.
function Query:first(cb)
  self.engine.view:_check_alive("first", 2)
  return async.call(function (done)
    self.engine:all(made_of(self:limit(1)), function (err, list) done(err, list and list[1]) end)
  end, cb)
end

--- The number of results. No record is read when indexes know it.
function Query:count(cb)
  return call(self, "count", cb)
end

--- Runs it, and says what that took: see views/README.md.
function Query:explain(cb)
  return call(self, "explain", cb)
end

--- For a for loop: value, seq.
function Query:iterate()
  self.engine.view:_check_alive("iterate", 2)
  local results = self.engine:results(made_of(self))
  return results, nil, nil, results
end

-- --- for value, seq in query do -----------------------------------------------------------------------------------
--
-- A generic for calls the query itself: with (nil, nil) at first, then with (nil, the value before). Each loop that is
-- under way has results of its own; the value before tells which loop it is. Loops that were left early lie behind it.

local loops = setmetatable({}, {__mode = "k"}) -- query -> list of {results =, last =}, the innermost last

local function find_loop(list, last)
  local found
  for i = #list, 1, -1 do
    if rawequal(list[i].last, last) then
      if found then error("nested loops over one query: call its :iterate() in each", 3) end
      found = i
    end
  end
  return found
end

local function leave_loops(list, at)
  for i = #list, at, -1 do
    list[i].results:close()
    list[i] = nil
  end
end

-- The loop's next value and seq.
local function step_loop(list, at)
  local loop = list[at]
  local value, seq = loop.results()
  loop.last = value
  if value == nil then leave_loops(list, at) end
  return value, seq
end

function Query:__call(...)
  if select("#", ...) == 0 then return self:iterate() end
  local _, last = ...
  local list = loops[self] or {}
  loops[self] = list
  if last == nil then
    list[#list + 1] = {results = (self:iterate()), last = nil}
    return step_loop(list, #list)
  end
  local at = find_loop(list, last)
  if not at then error("a loop over a query: its value was changed; call :iterate()", 2) end
  leave_loops(list, at + 1)
  return step_loop(list, at)
end

--- A page of results, as long as the limit (by default 25), and a cursor for the next page; nil behind the last.
--- Records that are appended meanwhile don't shift the pages.
function Query:page(cursor, cb)
  if type(cursor) == "function" and cb == nil then cursor, cb = nil, cursor end
  if cursor ~= nil and type(cursor) ~= "string" then
    error("page: a cursor is a string that a page before has given, not a " .. type(cursor), 2)
  end
  self.engine.view:_check_alive("page", 2)
  local size = self.size or PAGE
  if size == 0 then error("page: a limit above 0 expected", 2) end
  return async.call(function (done) self.engine:page(made_of(self), size, cursor, done) end, cb)
end

--- A stream without end of the results of records that are appended from now on. options: old = true begins with those
--- of present records.
function Query:live(options)
  self.engine.view:_check_alive("live", 2)
  for name, value in pairs(options or {}) do
    if name ~= "old" or type(value) ~= "boolean" then
      error(("live: %s = %s; there is old, true or false"):format(tostring(name), tostring(value)), 2)
    end
  end
  if self.path or self.reverse then error("live: what is to come is in the order of the log", 2) end
  local made = made_of(self)
  made.live, made.old = true, options ~= nil and options.old == true
  local results = self.engine:results(made)
  return results, nil, nil, results
end

function Query:__tostring()
  return ("flume.query: %s where %s"):format(self.engine.view.name, tostring(self.condition or "all"))
end

function Query.new(engine)
  return setmetatable({
    engine = engine,
    condition = nil, -- nil: all records
    path = nil,      -- of the order; nil: the log's
    reverse = false,
    size = nil,      -- limit
    waiting = {},    -- options of patience
  }, Query)
end

return Query
