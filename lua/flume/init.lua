-- flume: one durable append-only log, and many views on it.
--
--   local flume = require "flume"
--   local db = assert(flume.open("data"))
--   db:use("sum", flume.reduce(1, function (acc, item) return acc + item.foo end, 0))
--   db:append{foo = 1}
--   print(db.sum:get())

local async = require "flume.async"
local core = require "flume.core"
local db = require "flume.db"
local Log = require "flume.log.init"
local observable = require "flume.observable"
local paths = require "flume.view.host_modules".import "paths"
local query = require "flume.query.conditions"

local M = {
  _VERSION = core.version,

  open = db.open,
  new = db.new,
  log = {file = Log.file, memory = Log.memory, offset = Log.offset, repair = Log.repair},

  null = core.null,
  array = core.array,
  map = core.map,
  table = core.table,
  is_array = core.is_array,
  path = paths.path,
  hash = core.hash,
  record = core.record,
  encode = core.encode,
  decode = core.decode,
  json = core.json,
  query = query,

  run = async.run,
  spawn = async.spawn,
  step = async.step,
}

--- A reducer view: fn(acc, item, seq) returns the new acc. initial is copied.
function M.reduce(version, fn, initial)
  if type(fn) ~= "function" then error("flume.reduce: a function expected, got a " .. type(fn), 2) end
  return {version = version, reducer = fn, initial = initial}
end

--- An index: a function (item, seq, emit) that calls emit(key [, value]) any number of times; or a path, or a list
--- of paths, whose values are the keys, which the core reads without calling Lua.
function M.index(version, fn)
  local kind = type(fn)
  if kind ~= "function" and kind ~= "string" and kind ~= "table" then
    error("flume.index: a function, a path or a list of paths expected, got a " .. kind, 2)
  end
  return {version = version, indexer = fn}
end

--- An observable (observable.lua) with a value.
function M.observable(value)
  return observable.new(value)
end

local Loop = {}
Loop.__index = Loop
function Loop.fd() return core.fd() end
function Loop.timeout() return core.timeout() end
function Loop.alive() return core.alive() end
function Loop.running() return core.running() end

--- The event loop, for embedding it into another: fd() becomes readable, or timeout() milliseconds (-1: never) pass,
--- when flume.step(0) has something to do.
function M.loop()
  return setmetatable({}, Loop)
end

return M
