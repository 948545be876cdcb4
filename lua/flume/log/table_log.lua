-- A log written as a Lua table, made to look like one of flume's own.
--
-- Such a table has, by the names of the log interface: append(value | array) -> seq of the last, get(seq),
-- stream{gt = n} (for iterating seq, value), since (an observable), del(seq | list), close(), and optionally dir. They
-- are called as methods. Its seqs are dense: 0, 1, 2 …
--
-- Views need blocks of encoded records, so what the table holds is mirrored in a memory log: views and streams read the
-- mirror, appends and gets go to the table. It costs the memory of the encoded log.

local async = require "flume.async"
local core = require "flume.core"
local errors = require "flume.errors"
local Log = require "flume.log.init"

local REQUIRED = {"append", "get", "stream", "since", "del", "close"}

local Foreign = setmetatable({}, {__index = Log})
Foreign.__index = Foreign
Foreign.__name = "flume.log"

local function check(given)
  for _, name in ipairs(REQUIRED) do
    if given[name] == nil then error("flume.new: the log has no " .. name, 4) end
    if name ~= "since" and type(given[name]) ~= "function" then
      error(("flume.new: the log's %s must be a function, not a %s"):format(name, type(given[name])), 4)
    end
  end
  local since = given.since
  if type(since) ~= "table" or type(since.get) ~= "function" or not (getmetatable(since) or {}).__call then
    error("flume.new: the log's since must be an observable", 4)
  end
end

local function store(mirror, value)
  local seq, message = mirror:append_wait(value, false)
  if not seq then error("flume.new: the log holds what can't be stored: " .. message, 0) end
end

-- Brings the mirror to `last`. A seq that the table's stream leaves out was deleted there.
local function mirror_up_to(self, last)
  local mirror, gone = self.core, {}
  local function skip_to(seq)
    for missing = mirror:since() + 1, seq - 1 do
      store(mirror, core.null)
      gone[#gone + 1] = missing
    end
  end
  for seq, value in self.table:stream{gt = mirror:since()} do
    skip_to(seq)
    store(mirror, value)
  end
  skip_to(last + 1)
  if gone[1] then mirror:del(gone, function () end) end
end

-- Raises when the table holds what can't be mirrored, now and at each later call: nothing behind it would be seen.
local function catch_up(self)
  local last = self.table.since:get() or -1
  if self.core:since() >= last or self.catching_up then return end
  self.catching_up = true
  local ok, why = pcall(mirror_up_to, self, last)
  self.catching_up = false
  if not ok then error(why, 0) end
end

--- A log object over the table.
local function wrap(given)
  check(given)
  local memory = assert(Log.memory())
  local self = setmetatable({
    table = given,
    memory = memory,          -- the mirror
    core = memory.core,
    codec = nil,
    codec_name = "msgpack",
    dir = given.dir,
    since = given.since,
    streams = memory.streams,
    databases = {},
    closed = false,
    closing = nil,
    catching_up = false,
    off = nil,                -- stops observing the table's since
  }, Foreign)
  catch_up(self)
  self.off = given.since(function () catch_up(self) end, false)
  return self
end

-- The table's functions answer at once; results or nil, message, code.
local function answer(cb, result, message, code)
  return async.call(function (done)
    if result == nil and message ~= nil then return done(errors.new(message, code or "EINVAL")) end
    done(nil, result)
  end, cb)
end

function Foreign:append(value, cb)
  local seq, message, code = self.table:append(value)
  if seq then catch_up(self) end
  return answer(cb, seq, message, code)
end

function Foreign:get(seq, cb)
  return answer(cb, self.table:get(seq))
end

function Foreign:del(seqs, cb)
  if math.type(seqs) == "integer" then seqs = {seqs} end
  local ok, message, code = self.table:del(seqs)
  if ok == nil and message then return answer(cb, nil, message, code) end
  catch_up(self)
  return self.memory:del(seqs, cb)
end

function Foreign.sync(_, cb)
  return answer(cb, true)
end

--- What the table keeps is its own affair.
function Foreign.compact(_, given, cb)
  return answer(Log.maintenance("compact", given, cb), nil, "this log can't be compacted", "ENOTSUP")
end

--- For a database that is closing, when all of its own is closed.
function Foreign:_close(done)
  if self.closed then return done(nil, true) end
  self.closed = true
  self.off()
  self.memory:close(function ()
    self.table:close()
    done(nil, true)
  end)
end

return {wrap = wrap}
