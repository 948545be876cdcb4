-- A query that is built step by step:
--
--   db.q:where(eq("type", "post") & eq("author", who)):descending():limit(25):all()
--
-- Each step gives another query; the one before stays what it was.

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

--- Records that meet this condition, and those before.
function Query:where(condition)
  if condition == nil then return self end
  if not filter.is(condition) then
    error("where: a condition expected, such as eq(\"type\", \"post\"), not a " .. type(condition), 2)
  end
  return changed(self, "condition", self.condition and self.condition & condition or condition)
end

--- In the order of the log or of the path, from the first record on; so it is anyway.
function Query:ascending()
  return changed(self, "reverse", false)
end

--- From the last one on.
function Query:descending()
  return changed(self, "reverse", true)
end

--- In the order of the values at a path. Records without one that could be a key come before all others, and records
--- with the same in the order of the log.
function Query:by(path)
  if path == nil then error("by: a path expected", 2) end
  return changed(self, "path", filter.path(path, 3))
end

--- At most so many; also how many there are on a page.
function Query:limit(limit)
  if math.type(limit) ~= "integer" or limit < 0 then
    error("limit: an integer from 0 on expected, not " .. tostring(limit), 2)
  end
  return changed(self, "size", limit)
end

--- How long it waits: {since =, wait =, timeout =}, as the methods of any view.
function Query:patience(options)
  for name, value in pairs(options) do
    if not PATIENCE[name] or type(value) ~= PATIENCE[name] and math.type(value) ~= PATIENCE[name] then
      error(("patience: %s = %s; there are since, timeout and wait"):format(tostring(name), tostring(value)), 2)
    end
  end
  return changed(self, "waiting", options)
end

-- As the engine takes it.
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

--- How many there are. Where indexes know it no record is looked at.
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

function Query:__call()
  return self:iterate()
end

--- A page of them, limit long (by default 25), and a cursor for the next one; nil behind the last. What is appended
--- meanwhile moves nothing.
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

--- Those that come from now on, as they are appended: a stream without end. options: old = true begins with those that
--- are there.
function Query:live(options)
  self.engine.view:_check_alive("live", 2)
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
