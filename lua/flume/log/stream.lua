-- Streams: what db:stream{...} gives. To be iterated with for, or asked record by record with next().
--
--   for seq, value in db:stream{gt = 10, reverse = true} do ... end
--   local s <close> = db:stream{live = true}; local seq, value = s:next()
--
-- A live stream waits at the end of the log; closing it, or the database, ends the wait.

local async = require "flume.async"
local core = require "flume.core"
local errors = require "flume.errors"
local options = require "flume.options"

local RANGE = {
  gt = "integer", gte = "integer", lt = "integer", lte = "integer", limit = "integer", reverse = "boolean",
  live = "boolean", old = "boolean", seqs = "boolean", values = "boolean", lazy = "boolean",
}

local Stream = {}
Stream.__index = Stream
Stream.__name = "flume.stream"

-- What is delivered: both, or one alone.
local SHAPES = {
  both = function (seq, value) return seq, value end,
  seqs = function (seq) return seq end,
  values = function (_, value)
    if value == nil then return core.null end -- of a mapper; nil by itself would be the end
    return value
  end,
}

local function shape_of(range)
  local seqs, values = range.seqs ~= false, range.values ~= false
  if not (seqs or values) then error("db:stream: seqs and values can't both be false", 4) end
  return SHAPES[seqs and values and "both" or seqs and "seqs" or "values"]
end

-- gt, gte, lt, lte as one closed interval.
local function interval(range)
  local first, last = 0, math.maxinteger
  if range.gte then first = math.max(first, range.gte) end
  if range.gt then first = range.gt == math.maxinteger and range.gt or math.max(first, range.gt + 1) end
  if range.lte then last = math.min(last, range.lte) end
  if range.lt then last = range.lt == math.mininteger and range.lt or math.min(last, range.lt - 1) end
  return first, last
end

--- log: a flume.log object (log.lua). transform(value, seq) is applied to each value, or nil; the result is then no
--- lazy record.
local function open(log, range, transform, owner)
  range = options.check("db:stream", range, RANGE, 3)
  if range.live and range.reverse then error("db:stream: live and reverse exclude each other", 3) end
  local shape = shape_of(range)
  local first, last = interval(range)
  if range.values == false then transform = nil end
  local cursor, message, code = core.cursor(log.core, first, last, range.limit or -1, range.reverse or false,
    range.live or false, range.old ~= false, (range.lazy and not transform) or false, range.values ~= false)
  local self = setmetatable({
    log = log,
    cursor = cursor,
    owner = owner,  -- the database whose closing ends it, or nil
    transform = transform,
    shape = shape,
    live = range.live or false, -- it waits at the end of the log
    failure = not cursor and errors.new(message, code) or nil,
    observer = nil, -- of the log's since, while a next waits
    waiting = nil,  -- done() of a next that waits
    closed = false,
  }, Stream)
  log.streams[self] = true
  return self
end

local function stop_observing(self)
  if self.observer then self.observer:stop() end
  self.observer = nil
end

local function deliver(self, seq, value, done)
  if self.transform then
    local ok, transformed = pcall(self.transform, value, seq)
    if not ok then return done(errors.new(("record %d: %s"):format(seq, errors.text(transformed)), "EINVAL")) end
    value = transformed
  end
  done(nil, self.shape(seq, value))
end

local function advance(self, done)
  local seq, value, code = self.cursor:next()
  if seq then return deliver(self, seq, value, done) end
  if value then return done(errors.new(value, code)) end
  if seq == nil then return done(nil, nil) end
  self.waiting = done
  self.observer = self.log.core:observe(function ()
    local waiter = self.waiting
    if not waiter then return end
    self.waiting = nil
    stop_observing(self)
    advance(self, waiter)
  end)
end

local function next_of(self, done)
  if self.failure then return done(self.failure) end
  if self.closed then return done(nil, nil) end
  if self.waiting then return done(errors.new("another next of this stream is waiting", "EBUSY")) end
  advance(self, done)
end

--- The next record: seq, value (or one of them, as asked for). nil at the end; nil, message, code on failure.
function Stream:next(cb)
  if getmetatable(self) ~= Stream then errors.misused("stream", "next", self, 2) end
  return async.call(function (done)
    next_of(self, done)
  end, cb)
end

-- For generic for: a failure raises, the end of the database ends the loop.
function Stream:__call()
  if not self.closed and not self.failure and not self.transform then -- the common case, without ceremony
    local seq, value = self.cursor:next()
    if seq then return self.shape(seq, value) end
    if seq == nil and value == nil then return nil end
    if value then error(value, 0) end
  elseif self.closed then
    return nil
  end
  local first, second, code = async.call(function (done) next_of(self, done) end)
  if first == nil and code ~= nil and code ~= "ECLOSED" then error(second, 0) end
  if first == nil then return nil end
  return first, second
end

local function finish(self, err)
  if self.closed then return end
  self.closed = true
  self.log.streams[self] = nil
  stop_observing(self)
  if self.cursor then self.cursor:close() end
  local waiter = self.waiting
  self.waiting = nil
  if waiter then waiter(err, nil) end
end

--- Ends the stream; a next that waits gets nil. Idempotent.
function Stream:close()
  finish(self, nil)
  return true
end

--- Ends the stream because its database closes.
function Stream:abort(err)
  finish(self, err)
  self.failure = err
end

Stream.__close = Stream.close

return {open = open, RANGE = RANGE}
