-- The methods of a query view. The host of the view (host/kinds/query.lua) keeps the set of all records; this module
-- reads queries, and runs them over the view's indexes.

local async = require "flume.async"
local core = require "flume.core"
local errors = require "flume.errors"
local filter = require "flume.query.filter"
local Indexes = require "flume.query.indexes"
local Query = require "flume.query.builder"
local Results = require "flume.query.results"
local Run = require "flume.query.run"
local stages = require "flume.query.stages"
local values = require "flume.query.values"

local Engine = {}
Engine.__index = Engine

local OPTIONS = {
  query = "any", limit = "integer", reverse = "boolean", live = "boolean", old = "boolean", since = "integer",
  wait = "boolean", timeout = "number", by = "any",
}

local STAGES = {["$filter"] = true, ["$map"] = true, ["$reduce"] = true, ["$sort"] = true}

local invalid = filter.invalid

-- --- Reading a query ---------------------------------------------------------------------------------------------

local function check_option(name, value)
  local wanted = OPTIONS[name]
  if not wanted then invalid("there is no option %s; there are %s", tostring(name), filter.names_of(OPTIONS)) end
  if wanted == "any" or type(value) == wanted or math.type(value) == wanted then return value end
  if wanted == "integer" and math.type(value) == "float" and math.tointeger(value) then return math.tointeger(value) end
  invalid("option %s: a value of type %s expected, not %s", name, wanted, filter.describe(value))
end

-- A limit; nil for none, which a number below 0 is here as elsewhere.
local function limit_of(given)
  local limit = check_option("limit", given)
  return limit >= 0 and limit or nil
end

local function take_options(made, options)
  if options == nil then return end
  if type(options) ~= "table" then invalid("options: a table expected, not a %s", type(options)) end
  for name, value in pairs(options) do
    if name == "limit" then made.limit = limit_of(value)
    elseif name ~= "query" then made[name] = check_option(name, value) end
  end
end

-- Notes the first stage that makes an order of its own. An order of the records has no effect there, unless a limit
-- comes before it or a $reduce has a $collect.
local function take_gathering(made, name, rule)
  if name ~= "$reduce" and name ~= "$sort" then return end
  if not made.gathers then made.orders = made.orders or name == "$reduce" and stages.keeps_order(rule) end
  made.gathers = made.gathers or name
  if name == "$sort" and #made.stages == 0 then
    local paths, reverse = stages.sort_paths(rule)
    if #paths == 1 then made.sort, made.sort_reverse = paths[1], reverse[1] end
  end
end

-- One stage of a query: {$filter = …} and so on, or an option of the whole, {limit = …}.
local function take_stage(made, stage, i)
  if not values.is_container(stage) then
    invalid("stage %d: an object such as {$filter: …} expected, not %s", i, filter.describe(stage))
  end
  local name, rule
  for key, value in pairs(stage) do
    if name then invalid("stage %d: it has both %s and %s; one stage is one of them", i, name, tostring(key)) end
    name, rule = key, value
  end
  if name == nil then return end
  if name == "limit" or name == "$limit" then
    local limit = limit_of(rule)
    made.orders = made.orders or not made.gathers
    if limit then made.stages[#made.stages + 1] = stages.limit_stage(limit) end
  elseif name == "$filter" and #made.stages == 0 then
    made.conditions[#made.conditions + 1] = filter.parse(rule, {}, "$filter")
  elseif STAGES[name] then
    take_gathering(made, name, rule)
    made.stages[#made.stages + 1] = stages.make(name, rule)
  elseif name == "reverse" or name == "live" or name == "old" then
    made[name] = check_option(name, rule)
  else
    invalid("stage %d: there is no %s; there are %s, limit, live, old, reverse", i, tostring(name),
      filter.names_of(STAGES))
  end
end

local function is_stage(query)
  local name = next(query)
  return STAGES[name] and next(query, name) == nil
end

-- An index can do a first $sort by one ascending path. (Records with equal values stay in the order of the log, also
-- when the values descend; an index in reverse has them in reverse.)
local function take_order(made)
  local given = made.by ~= nil and "by" or made.reverse and "reverse"
  if given and made.gathers and not made.orders then
    invalid('option %s: behind it %s makes another order; give the order in a $sort: {"$desc": path} descends', given,
      made.gathers)
  end
  if made.by ~= nil then
    made.path = filter.parse_path(made.by, "option by")
  elseif made.sort and not made.sort_reverse and not made.reverse then
    made.path = made.sort
    table.remove(made.stages, 1)
  end
end

local LONE_OPTIONS = {limit = "number", reverse = "boolean", live = "boolean", old = "boolean"}

-- A table of options alone in the place of a query would be a filter of fields with these names.
local function check_lone_options(query)
  local name = next(query)
  for key, value in pairs(query) do
    if type(value) ~= LONE_OPTIONS[key] then return end
  end
  if name == nil then return end
  invalid("options are the second argument, or go beside query = …; a filter of a field %s is {$filter: …}", name)
end

--- What a query is: {condition =, stages = list, path = of its order, reverse, limit, live, old, since, wait, timeout}.
--- Raises {message =, code = "EINVAL"}.
function Engine.parse(query, options)
  local made = {conditions = {}, stages = {}}
  if type(query) == "table" and options == nil and query.query ~= nil then query, options = query.query, query end
  take_options(made, options)
  if query == nil then query = {} end
  if filter.is(query) then
    made.conditions[1] = query
  elseif not values.is_container(query) then
    invalid("a query is an array of stages, not %s", filter.describe(query))
  elseif core.is_array(query) then
    for i, stage in ipairs(query) do take_stage(made, stage, i) end
  elseif is_stage(query) then
    take_stage(made, query, 1)
  else
    check_lone_options(query)
    made.conditions[1] = filter.parse(query, {}, "$filter")
  end
  made.live = made.live or made.old == false
  made.old = made.old ~= false
  if made.live and (made.gathers or made.by ~= nil or made.reverse) then
    invalid "a live query can't have $reduce, $sort, an order or reverse: it has no end"
  end
  take_order(made)
  made.condition = made.conditions[1] and filter.combined("all", made.conditions) or nil
  return made
end

-- --- Running -----------------------------------------------------------------------------------------------------

-- The seq that a call waits for (nil: none), as for the methods of any view.
local function target_of(self, made)
  if made.wait == false or made.since == -1 then return nil end
  return made.since or self.view._db:_since()
end

function Engine:run(made, after)
  return Run.new(self, made.condition, {
    path = made.path, reverse = made.reverse, after = after, target = target_of(self, made), timeout_ms = made.timeout,
    limit = #made.stages == 0 and made.limit or nil, plain = made.plain,
  })
end

function Engine:results(made)
  return Results.new(self.view, made, self:run(made))
end

-- Starts the run, calls work(run), and done(err, results...) with its results.
local function when_begun(run, done, work)
  run:start(function (err)
    if err then return done(err) end
    local results = table.pack(pcall(work, run))
    run:close()
    if not results[1] then return done(Run.raised(results[2])) end
    done(nil, table.unpack(results, 2, results.n))
  end)
end

-- The values of a run whose query has no stages, at most so many.
local function take_values(run, limit)
  local list, count, stats = core.array {}, 0, run.stats
  while count < limit do
    local record, seq = run:pull()
    if not seq then break end
    count = count + 1
    local plain = values.delivered(record)
    if plain ~= record then stats.decoded = stats.decoded + 1 end
    list[count] = plain
  end
  stats.returned = count
  return list
end

-- All results of present records: done(err, list, run).
local function collect(self, made, done)
  if #made.stages == 0 then
    made.plain = true
    local run = self:run(made)
    return when_begun(run, done, function () return take_values(run, made.limit or math.huge), run end)
  end
  local results = self:results(made)
  results:drain(function (err, list) done(err, list, results.run) end)
end

--- done(err, list of the values)
function Engine:all(made, done)
  collect(self, made, done)
end

-- Counts the records of a run, without decoding any.
local function count_records(run, limit)
  local count = 0
  while count < limit do
    local _, seq = run:pull()
    if not seq then break end
    count = count + 1
  end
  return count
end

--- done(err, count): how many results there are.
function Engine:count(made, done)
  if #made.stages > 0 then
    return collect(self, made, function (err, list) done(err, list and #list) end)
  end
  made.path = nil
  local limit = made.limit or math.huge
  when_begun(self:run(made), done, function (run)
    local known = run:count()
    return math.tointeger(known and math.min(known, limit) or count_records(run, limit))
  end)
end

-- The condition and the order of a query, as a short text: a cursor is of one query.
local function signature_of(made)
  local path = core.encode_sorted(core.array(made.path or {}))
  local text = ("%s %s %s %s"):format(made.path ~= nil, made.reverse or false, path, filter.signature(made.condition))
  return ("%016x"):format(core.hash(text))
end

--- done(err, items, cursor): a page of the results, and where the next one begins; nil behind the last. The cursor is
--- the query's signature and a place (run.lua).
function Engine:page(made, size, cursor, done)
  local signature = signature_of(made)
  local given, after = (cursor or signature .. " "):match "^(%x+) (.*)$"
  if given ~= signature then return done(errors.new("page: it is no cursor of this query", "EINVAL")) end
  made.limit, made.plain = size, true
  when_begun(self:run(made, cursor and after), done, function (run)
    local items, place = core.array {}, nil
    for i = 1, size + 1 do
      local record, seq = run:pull()
      if not seq then return items, nil end
      if i > size then break end
      items[i] = values.delivered(record)
      if i == size then place = signature .. " " .. run:place(record, seq) end
    end
    return items, place
  end)
end

-- --- Explaining --------------------------------------------------------------------------------------------------

local function describe_indexes(run)
  local list = core.array {}
  for index in pairs(run.plan.used) do
    list[#list + 1] = core.map {kind = index.kind, path = table.concat(index.path, ".")}
  end
  table.sort(list, function (a, b) return a.path .. a.kind < b.path .. b.kind end)
  return list
end

local function candidates_of(run)
  local order = run.plan.order
  if run.set then return run.set:count(0, run.last_seq) end
  if order and order.has_range then return order.by.view._instance.host.view:count(order.range) end
  return run.engine.view._db:_since() + 1
end

--- done(err, table): runs the query, and says what that took.
function Engine:explain(made, done)
  collect(self, made, function (err, _, run)
    if err then return done(err) end
    local ok, candidates = pcall(candidates_of, run)
    if not ok then return done(Run.raised(candidates)) end
    done(nil, core.map {
      indexes = describe_indexes(run),
      scan = run.set == nil and run.plan.order == nil,
      exact = run.plan.exact,
      order = run.path and values.path_text(run.path) or "log",
      sorted_in_memory = run.is_sorted,
      since = run.last_seq,
      candidates = candidates,
      examined = run.stats.examined,
      decoded = run.stats.decoded,
      returned = run.stats.returned,
    })
  end)
end

-- --- Methods -----------------------------------------------------------------------------------------------------
--
-- Those of the view: the first argument is db.NAME.

local METHODS = {}
Engine.METHODS = METHODS

Engine.TYPES = {
  query = "source", read = "source", all = "async", count = "async", explain = "async", where = "sync",
  indexes = "sync", drop = "async",
}

local function engine_of(view, method)
  local engine = type(view) == "table" and rawget(view, "_engine")
  if not engine then error(("%s: call it as db.NAME:%s(...)"):format(method, method), 3) end
  view:_check_alive(method, 3)
  return engine
end

local function parse_or_raise(engine, method, query, options)
  local ok, made = pcall(Engine.parse, query, options)
  if ok then return made end
  local message = type(made) == "table" and made.message or tostring(made)
  error(("%s:%s: %s"):format(engine.view.name, method, message), 4)
end

-- Parses the query, which raises for a wrong one, and calls the engine's function of this name.
local function ask(view, method, query, options, cb)
  if type(query) == "function" and options == nil then query, cb = nil, query end
  if type(options) == "function" and cb == nil then options, cb = nil, options end
  local engine = engine_of(view, method)
  local made = parse_or_raise(engine, method, query, options)
  return async.call(function (done) engine[method](engine, made, done) end, cb)
end

--- All results of a query, as a list.
function METHODS.all(self, query, options, cb)
  return ask(self, "all", query, options, cb)
end

--- How many results it has.
function METHODS.count(self, query, options, cb)
  return ask(self, "count", query, options, cb)
end

--- Runs it, and says what that took.
function METHODS.explain(self, query, options, cb)
  return ask(self, "explain", query, options, cb)
end

--- The results of a query, as a stream; for use in a for loop.
function METHODS.query(self, query, options)
  local engine = engine_of(self, "query")
  local results = engine:results(parse_or_raise(engine, "query", query, options))
  return results, nil, nil, results
end

--- The same, as the original has it: read{query =, limit =, reverse =, live =, old =}.
function METHODS.read(self, options)
  local engine = engine_of(self, "read")
  if options ~= nil and type(options) ~= "table" then error("read: a table of options expected", 2) end
  local results = engine:results(parse_or_raise(engine, "read", options and options.query, options))
  return results, nil, nil, results
end

--- Begins a query that is built step by step (builder.lua).
function METHODS.where(self, condition)
  local query = Query.new(engine_of(self, "where"))
  if condition ~= nil and not filter.is(condition) then
    error("where: a condition expected, such as eq(\"type\", \"post\"), not a " .. type(condition), 2)
  end
  return query:where(condition)
end

--- What indexes there are: a list of {kind =, path =, since =, bytes =, error =}. A query does without one that failed.
function METHODS.indexes(self)
  local list = core.array {}
  for i, index in ipairs(engine_of(self, "indexes").indexes:list()) do
    list[i] = core.map {
      kind = index.kind, path = table.concat(index.path, "."), since = index.view._core:since(),
      bytes = index.view._core:size(), error = index.view:_failure() and index.view:_failure().message,
    }
  end
  return list
end

--- Drops the indexes of a field, a path: how many there were. A query that needs one makes it again.
function METHODS.drop(self, field, cb)
  local engine = engine_of(self, "drop")
  if field == nil then error(("%s:drop: a field expected"):format(self.name), 2) end
  local path = filter.path(field, 3)
  if self._db._readonly then
    return async.call(function (done) done(errors.new("drop: the database is read-only", "EREADONLY")) end, cb)
  end
  return async.call(function (done) engine.indexes:drop(path, done) end, cb)
end

--- Rebuilds the indexes; done(err).
function Engine:rebuild(done)
  local pending, failure = 1, nil
  local function one(err)
    failure = failure or err
    pending = pending - 1
    if pending == 0 then done(failure) end
  end
  for _, index in ipairs(self.indexes:list()) do
    pending = pending + 1
    index.view:rebuild(one)
  end
  one(nil)
end

function Engine:close(done)
  self.indexes:close(done)
end

--- view: a query view that was mounted.
function Engine.new(view)
  local script = view._script
  local usable = view._instance.host.usable
  return setmetatable({
    view = view,
    every = {view = view}, -- in a plan: all records
    indexes = Indexes.new(view, usable),
    transform = script.log:transform(script.mapper),
  }, Engine)
end

return Engine
