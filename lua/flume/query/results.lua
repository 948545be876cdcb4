-- The results of a query: a stream of values, for a for loop or next([cb]).
--
--   for value, seq in db.q:query{…} do … end
--
-- A run (run.lua) delivers the records, and the query's stages (stages.lua) turn them into results. With live = true
-- the results of later records follow, as these are appended.

local async = require "flume.async"
local core = require "flume.core"
local errors = require "flume.errors"
local filter = require "flume.query.filter"
local Run = require "flume.query.run"
local stages = require "flume.query.stages"
local stream = require "flume.log.stream"
local values = require "flume.query.values"

local Results = {}
Results.__index = Results
Results.__name = "flume.results"

-- --- The stages --------------------------------------------------------------------------------------------------

-- The last stage: queues the results as plain values.
local function sink(self)
  local stats = self.run.stats
  return {
    push = function (value, seq)
      local plain = values.delivered(value)
      if plain ~= value then stats.decoded = stats.decoded + 1 end
      stats.returned = stats.returned + 1
      self.count = self.count + 1
      self.queue[self.count] = {plain, seq}
      return self.open
    end,
    finish = function () self.open = false end,
  }
end

local function build(self, list)
  local stage = sink(self)
  for i = #list, 1, -1 do stage = list[i](stage) end
  return stage
end

local function feed(self, record, seq)
  if self.first.push(record, seq) ~= false then return end
  self.first.finish() -- no more is wanted; but what was gathered so far is
  self.open = false
end

-- --- Going on ----------------------------------------------------------------------------------------------------

local function end_with(self, err)
  self.open, self.failure = false, err
  self.run:close()
  if self.followed then self.followed:close() end
end

local function is_over(self)
  return self.view._db.closed or self.view._db.closing
end

-- The error object for an error that was raised on the way to a result.
local function failure_of(self, raised)
  return is_over(self) and self.view:_closed_error() or Run.raised(raised)
end

-- Behind the records of the run: follows the log, or ends.
local function follow(self)
  self.old = false
  if not self.live then
    self.first.finish()
    self.open = false
    return self.run:close()
  end
  local run = self.run
  local range = {gt = self.begun_seq, live = true, lazy = true}
  self.followed = stream.open(run.log, range, run.transform, run.db)
  self.test = self.condition and filter.compile(self.condition)
end

-- Takes records until a result is queued or the end is reached: true; false when later records have to be awaited.
local function advance(self)
  while self.open and not self.queue[self.at] and self.old do
    local record, seq = self.run:pull()
    if seq then feed(self, record, seq) else follow(self) end
  end
  return self.queue[self.at] ~= nil or not self.open
end

-- Takes the next queued result: its value and seq.
local function take(self)
  local item = self.queue[self.at]
  if item then
    self.queue[self.at] = nil
    self.at = self.at + 1
    return item[1], item[2]
  end
  return nil
end

local function answer(self, err, ...)
  local done = self.waiting
  self.waiting = nil
  if err then end_with(self, err) end
  done(err, ...)
end

local go_on

-- Awaits one more record of the log.
local function await_record(self)
  self.followed:next(function (err, seq, record)
    if not self.waiting then return end
    if err then return answer(self, err) end
    if seq == nil then
      self.open = false
      return answer(self, is_over(self) and self.view:_closed_error() or nil)
    end
    self.run.stats.examined = self.run.stats.examined + 1
    local ok, why = pcall(function ()
      if not self.test or self.test(record) then feed(self, record, seq) end
    end)
    if not ok then return answer(self, Run.raised(why)) end
    go_on(self)
  end)
end

function go_on(self)
  local ok, ready = pcall(advance, self)
  if not ok then return answer(self, failure_of(self, ready)) end
  if not ready then return await_record(self) end
  if not self.queue[self.at] then self.run:close() end
  answer(self, nil, take(self))
end

local function start(self, done)
  if self.started then return done(nil) end
  if not self.old then
    self.started = true
    follow(self)
    return done(nil)
  end
  self.run:start(function (err)
    self.started = not err
    self.begun_seq = self.run.last_seq
    done(err)
  end)
end

local function next_of(self, done)
  if self.failure then return done(self.failure) end
  if self.waiting then return done(errors.new("another next of these results is waiting", "EBUSY")) end
  if not self.open and not self.queue[self.at] then return done(nil, nil) end
  self.waiting = done
  start(self, function (err)
    if not self.waiting then return end
    if err then return answer(self, err) end
    go_on(self)
  end)
end

--- The next value and its seq (nil when several records have become one); nil at the end; nil, message, code.
function Results:next(cb)
  return async.call(function (done) next_of(self, done) end, cb)
end

-- For a generic for: raises failures; closing the database ends a live loop.
function Results:__call()
  if self.started and self.open and self.old and not self.waiting then -- the common case, without ceremony
    local ok, ready = pcall(advance, self)
    if not ok then
      end_with(self, failure_of(self, ready))
      error(self.failure.message, 0)
    end
    if ready and self.queue[self.at] then return take(self) end
  end
  if self.queue[self.at] and not self.waiting then return take(self) end
  local value, seq, code = self:next()
  if value == nil and code ~= nil and not (self.live and code == "ECLOSED") then error(seq, 0) end
  if value == nil then return nil end
  return value, seq
end

--- Delivers all results of present records at once: done(err, list of the values). Only before the first next.
function Results:drain(done)
  self.live, self.old = false, true
  self.run:start(function (err)
    if err then return done(err) end
    local list = core.array {}
    local ok, why = pcall(function ()
      while advance(self) and self.queue[self.at] do list[#list + 1] = (take(self)) end
    end)
    self:close()
    if not ok then return done(Run.raised(why)) end
    done(nil, list)
  end)
end

--- Ends the results; a next that waits gets the end.
function Results:close()
  self.open, self.queue = false, {}
  self.run:close()
  if self.followed then self.followed:close() end
  if self.waiting then answer(self, nil, nil) end
  return true
end

Results.__close = Results.close

function Results:__tostring()
  return ("flume.results: of %s"):format(self.view.name)
end

--- made: the parsed query (methods.lua). run: of its records.
function Results.new(view, made, run)
  local self = setmetatable({
    view = view,
    run = run,
    condition = made.condition,
    live = made.live,
    old = made.old,      -- there may be more of those that were there
    open = true,         -- more is wanted
    started = false,
    begun_seq = view._db:_since(), -- what comes behind it is new
    followed = nil,      -- the stream of what comes
    test = nil,          -- of those
    queue = {},          -- results that were not delivered, from `at` on
    at = 1,
    count = 0,
    first = nil,         -- stage
    waiting = nil,       -- done() of a next that waits
    failure = nil,
  }, Results)
  local list = table.move(made.stages, 1, #made.stages, 1, {})
  if made.limit then list[#list + 1] = stages.limit_stage(made.limit) end
  self.first = build(self, list)
  if made.limit and made.limit <= 0 then self.open = false end
  return self
end

return Results
