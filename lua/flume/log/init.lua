-- Logs: the durable list of records below a database.
--
--   flume.log.file(dir [, options])   flume.log.memory([options])   flume.log.offset(path [, options])
--
-- A log has append, get, stream, del, sync, since, dir and close; a database adds views on it. Without a callback a
-- call waits (see async.lua); with one it returns true and the callback gets err, result.

local async = require "flume.async"
local core = require "flume.core"
local errors = require "flume.errors"
local observable = require "flume.observable"
local options = require "flume.options"
local stream = require "flume.log.stream"
local undecodable = require "flume.log.undecodable"

local OPTIONS = {
  sync = "string", interval_ms = "integer", max_record_bytes = "integer", segment_bytes = "integer",
  readonly = "boolean", damaged = "boolean", poll_ms = "integer", codec = "string|table",
}

-- Those of an offset log.
local OFFSET_OPTIONS = {
  sync = "string", interval_ms = "integer", max_record_bytes = "integer", readonly = "boolean", damaged = "boolean",
  poll_ms = "integer", codec = "string|table", bits = "integer",
}

local Log = {}
Log.__index = Log
Log.__name = "flume.log"

local SYNC = {always = true, interval = true, os = true}
-- The largest value of each option that is a number; the smallest is 1.
local DAY_MS = 86400000
local LIMITS = {interval_ms = DAY_MS, poll_ms = DAY_MS, max_record_bytes = 1 << 30, segment_bytes = 2 << 30}
local CODECS = {msgpack = true, json = true, raw = true}
local BITS = {[32] = true, [48] = true, [53] = true}

-- The options for core, and the codec when it is a pair of functions.
local function prepare(where, given, known, default_codec)
  local o = options.check(where, given, known, 4)
  if o.sync and not SYNC[o.sync] then
    error(("%s: sync must be \"always\", \"interval\" or \"os\", not %q"):format(where, o.sync), 4)
  end
  local codec = o.codec or default_codec
  if type(codec) == "table" then
    if type(codec.encode) ~= "function" or type(codec.decode) ~= "function" then
      error(where .. ": a codec table needs the functions encode and decode", 4)
    end
  elseif not CODECS[codec] then
    error(("%s: codec must be \"msgpack\", \"json\", \"raw\" or a table, not %q"):format(where, codec), 4)
  end
  for name, limit in pairs(LIMITS) do
    local value = o[name]
    if value and (value < 1 or value > limit) then
      error(("%s: %s must be between 1 and %d, not %d"):format(where, name, limit, value), 4)
    end
  end
  if o.bits and not BITS[o.bits] then
    error(("%s: bits must be 32, 48 or 53, not %d"):format(where, o.bits), 4)
  end
  local copy = {}
  for name, value in pairs(o) do copy[name] = value end
  copy.codec = type(codec) == "table" and "raw" or codec
  return copy, type(codec) == "table" and codec or nil
end

local function new(handle, codec, codec_name, dir)
  local self = setmetatable({
    core = handle,       -- userdata
    codec = codec,       -- {encode =, decode =}, or nil
    codec_name = codec and "custom" or codec_name,
    dir = dir,           -- string, or nil: where views keep their state beside it
    since = nil,         -- observable, below
    streams = setmetatable({}, {__mode = "k"}),
    state_dirs = {},     -- set of the directories that views of those keep their state in
    databases = {},      -- set of those that are open on it
    closed = false,
    closing = nil,       -- list of done functions, while it closes
    waiting = {},        -- list of functions: calls that wait until less is pending, in their order
  }, Log)
  self.since = observable.new(nil, {
    get = function () return handle:since() end,
    start = function (notify)
      local observer = handle:observe(notify)
      return function () observer:stop() end
    end,
    call = async.spawn,
  })
  return self
end

--- Opens, or creates, the file log in directory dir.
function Log.file(dir, given)
  if type(dir) ~= "string" then error("flume.log.file: dir must be a string, not a " .. type(dir), 2) end
  if dir == "" or dir:find("\0", 1, true) then error(("flume.log.file: %q names no directory"):format(dir), 2) end
  local prepared, codec = prepare("flume.log.file", given, OPTIONS, "msgpack")
  dir = core.absolute(dir)
  local handle, message, code = core.open_file(dir, prepared)
  if not handle then return nil, message, code end
  return new(handle, codec, prepared.codec, dir)
end

--- Opens, or creates, the JavaScript flumelog-offset file at path. Its seqs are byte offsets, its values JSON unless
--- options.codec says otherwise. What flume keeps besides is in the directory path.flume.
function Log.offset(path, given)
  if type(path) ~= "string" then error("flume.log.offset: path must be a string, not a " .. type(path), 2) end
  if path == "" or path:find("\0", 1, true) then error(("flume.log.offset: %q names no file"):format(path), 2) end
  local prepared, codec = prepare("flume.log.offset", given, OFFSET_OPTIONS, "json")
  path = core.absolute(path)
  local handle, message, code = core.open_offset(path, prepared)
  if not handle then return nil, message, code end
  return new(handle, codec, prepared.codec, path .. ".flume")
end

--- A log in memory.
function Log.memory(given)
  local prepared, codec = prepare("flume.log.memory", given, OPTIONS, "msgpack")
  local handle, message, code = core.open_memory(prepared)
  if not handle then return nil, message, code end
  return new(handle, codec, prepared.codec, nil)
end

function Log.is(value)
  return getmetatable(value) == Log
end

local function check_open(self, what, level)
  if getmetatable(self) ~= Log then errors.misused("log", what, self, level + 1) end
  if self.closed or self.closing then error("the log is closed", level + 1) end
end

--- Whether append takes the value as a list of records: a table whose keys are 1..n, and no flume.map or record.
local function is_batch(value)
  return type(value) == "table" and core.is_array(value)
end

-- A custom codec makes bytes of each value first; the log stores them raw. nil, message, code when it fails.
local function encode_all(codec, value, batch)
  local function encode(v)
    local ok, bytes = pcall(codec.encode, v)
    if not ok then return nil, "the codec's encode failed: " .. errors.text(bytes), "EINVAL" end
    if type(bytes) ~= "string" then return nil, "the codec's encode gave a " .. type(bytes), "EINVAL" end
    return bytes
  end
  if not batch then return encode(value) end
  local list = {}
  for i, v in ipairs(value) do
    local bytes, message, code = encode(v)
    if not bytes then return nil, message, code end
    list[i] = bytes
  end
  return list
end

-- flume.array may mark a table with holes: as a batch it would lose what is behind them.
local function hole_in(batch)
  if getmetatable(batch) == nil then return nil end
  local count, largest = 0, 0
  for i in pairs(batch) do
    count = count + 1
    largest = math.type(i) == "integer" and i > largest and i or largest
  end
  for i = 1, largest > count and count + 1 or 0 do
    if rawget(batch, i) == nil then return i end
  end
  return nil
end

-- The log is synced once for all calls that wait; when that has ended, nothing that was pending before it is pending.
local function wait_for_room(self, retry)
  self.waiting[#self.waiting + 1] = retry
  if #self.waiting > 1 then return end
  local function go_on()
    local round = self.waiting
    self.waiting = {}
    for _, each in ipairs(round) do each() end
  end
  local ok, message, code = self.core:sync(go_on)
  if not ok then
    self.waiting = {}
    return nil, message, code
  end
end

-- Hands something to the log and waits until that is acknowledged. submit(done) -> what it took; nil, message, code.
-- While too much is pending a caller without a callback waits; with one EAGAIN is returned, and cb is not called.
local function call(self, submit, cb)
  local refused
  local function start(done)
    local function try()
      if self.closed or self.closing then return done(errors.new("the log is closed", "ECLOSED")) end
      local taken, message, code = submit(done)
      if taken then return end
      if code == "EAGAIN" and cb then
        refused = message
        return
      end
      if code == "EAGAIN" then
        local _, why, errno = wait_for_room(self, try)
        if not why then return end
        message, code = why, errno
      end
      done(errors.new(message, code))
    end
    if cb == nil and #self.waiting > 0 then return wait_for_room(self, try) end
    try()
  end
  if cb == nil then return async.call(start) end
  async.call(start, cb)
  if refused then return nil, refused, "EAGAIN" end
  return true
end

--- Appends a value, or an array of values as one atomic batch. The seq of the last. While 64 MiB are pending (each call
--- counts its records and 512 bytes) a call without a callback waits; with one it returns nil, message, "EAGAIN".
function Log:append(value, cb)
  check_open(self, "append", 2)
  local batch = is_batch(value)
  local message, code
  local hole = batch and hole_in(value)
  if hole then
    return async.call(function (done) done(errors.new(("the batch has a hole at %d"):format(hole), "EINVAL")) end, cb)
  end
  if batch and #value == 0 then
    return async.call(function (done) done(nil, self.core:since()) end, cb)
  end
  if self.codec then value, message, code = encode_all(self.codec, value, batch) end
  if message then
    return async.call(function (done) done(errors.new(message, code)) end, cb)
  end
  if cb == nil and not core.running() and not async.yields() then -- nobody else runs meanwhile: straight to the disk
    local seq, why, errno = self.core:append_wait(value, batch)
    if seq then return seq end
    if errno ~= "EBUSY" then return nil, why, errno end
  end
  return call(self, function (done) return self.core:append(value, batch, done) end, cb)
end

--- Appends lines of JSON, one record each, as one batch: how many. nil, message, code, line when one is bad; then
--- nothing of the text is stored.
function Log:append_json(text, cb)
  check_open(self, "append_json", 2)
  local bad_line
  local function submit(done)
    local count, message, code, line
    count, message, code, line = self.core:append_lines(text, function (err) done(err, count) end)
    bad_line = line
    if count == 0 then done(nil, 0) end
    return count, message, code
  end
  if cb then return call(self, submit, function (err, count) cb(err, count, bad_line) end) end
  local count, message, code = call(self, submit)
  return count, message, code, bad_line
end

--- The value of a record. nil, message, code: ENOENT, EDELETED, ECORRUPT.
function Log:get(seq, cb)
  check_open(self, "get", 2)
  if math.type(seq) ~= "integer" then error("get: seq must be an integer, not " .. errors.given(seq), 2) end
  local ok, value, code = self.core:get(seq)
  if ok and self.codec then
    ok, value = pcall(self.codec.decode, value)
    if not ok then
      value, code = ("record %d: the codec's decode failed: %s"):format(seq, errors.text(value)), "EINVAL"
    end
  end
  if cb == nil then
    if ok then return value end
    return nil, value, code
  end
  return async.call(function (done)
    if ok then done(nil, value) else done(errors.new(value, code)) end
  end, cb)
end

--- The transform of a stream's values, for a codec and a mapper.
function Log:transform(mapper)
  local decode = self.codec and self.codec.decode
  if decode and mapper then
    return function (value, seq) return mapper(decode(value), seq) end
  end
  return decode and function (value) return decode(value) end or mapper
end

function Log:stream(range)
  check_open(self, "stream", 2)
  local s = stream.open(self, range, self:transform(nil))
  return s, nil, nil, s
end

--- Deletes a record, or a list of them; their seqs stay taken.
function Log:del(seqs, cb)
  check_open(self, "del", 2)
  if math.type(seqs) == "integer" then seqs = {seqs} end
  if type(seqs) ~= "table" then error("del: a seq or a list of seqs, not a " .. type(seqs), 2) end
  for key in pairs(seqs) do
    if math.type(key) ~= "integer" or key < 1 or key > #seqs then
      error(("del: a list of seqs, not a table with the key %s"):format(errors.given(key)), 2)
    end
  end
  for i = 1, #seqs do
    local seq = seqs[i]
    if math.type(seq) ~= "integer" then error("del: seqs are integers, not " .. errors.given(seq), 2) end
  end
  return call(self, function (done)
    return self.core:del(seqs, function (err) done(err, err == nil or nil) end)
  end, cb)
end

--- Waits until all that was appended is on disk, whatever the sync mode.
function Log:sync(cb)
  check_open(self, "sync", 2)
  return async.call(function (done)
    local ok, message, code = self.core:sync(function (err) done(err, err == nil or nil) end)
    if not ok then done(errors.new(message, code)) end
  end, cb)
end

--- How a read-only log learns of what its writer does: "events", or "poll" and why and how often, or "lost" and what
--- went wrong. nil for any other log.
function Log:following()
  check_open(self, "following", 2)
  return self.core:following()
end

-- --- Maintenance -------------------------------------------------------------------------------------------------

local PROGRESS = {progress = "function"}

--- What calls of maintenance take last: options or none, and a callback or none. The callback, and progress as core is
--- to call it.
function Log.maintenance(where, given, cb)
  if type(given) == "function" and cb == nil then given, cb = nil, given end
  local o = options.check(where, given, PROGRESS, 3)
  return cb, o.progress and async.callback(o.progress) or nil
end

--- Removes the bytes of deleted records: {segments =, records =, bytes_before =, bytes_after =}. Seqs stay what they
--- are; reads and appends go on. options: progress(done_bytes, total_bytes). Errors: EBUSY, EREADONLY, ECORRUPT, …
function Log:compact(given, cb)
  check_open(self, "compact", 2)
  local callback, progress = Log.maintenance("compact", given, cb)
  return async.call(function (done)
    local ok, message, code = self.core:compact(progress, done)
    if not ok then done(errors.new(message, code)) end
  end, callback)
end

--- Copies the log, as of now, to the new directory dir, as dir/log (an offset log under the name of its file):
--- {since =, bytes =, files =}. Errors: EEXIST, …
function Log:backup(dir, given, cb)
  check_open(self, "backup", 2)
  if type(dir) ~= "string" or dir == "" then error("backup: dir must be a string that names a directory", 2) end
  dir = core.absolute(dir)
  local callback, progress = Log.maintenance("backup", given, cb)
  return async.call(function (done)
    local ok, message, code = self.core:backup(dir, nil, progress, done)
    if not ok then done(errors.new(message, code)) end
  end, callback)
end

--- Verifies every byte: {ok =, segments =, records =, deleted =, bytes =, problems =, notes =}. problems and notes are
--- lists of {file =, offset =, seq =, what =}.
function Log:check(given, cb)
  check_open(self, "check", 2)
  local callback, progress = Log.maintenance("check", given, cb)
  return async.call(function (done)
    local ok, message, code = self.core:check(nil, progress, function (err, report)
      if report then undecodable.add_to(report, self) end
      done(err, report)
    end)
    if not ok then done(errors.new(message, code)) end
  end, callback)
end

--- Repairs the log in a directory, or the flumelog-offset file, at path, which nobody may have open for writing: what
--- check gives, and the list repairs of what was done. See flume_log_repair and flume_log_repair_offset in flume.h.
--- Errors: ELOCKED, ENOENT, ECORRUPT (it can't be proven what was) …
function Log.repair(path)
  if type(path) ~= "string" or path == "" then error("repair: path must be a string that names a log", 2) end
  return core.repair(path)
end

local function close(self, done)
  if self.closed then return done(nil, true) end
  if self.closing then
    self.closing[#self.closing + 1] = done
    return
  end
  self.closing = {done}
  local gone = errors.new("the log was closed", "ECLOSED")
  for s in pairs(self.streams) do s:abort(gone) end
  self.core:close(function ()
    local waiting = self.closing
    self.closed = true
    self.closing = nil
    for _, each in ipairs(waiting) do each(nil, true) end
  end)
end

-- A database goes before its log, and takes the log along.
local function close_databases(self, done)
  local db = next(self.databases)
  if not db then return close(self, done) end
  db:close(function () close_databases(self, done) end)
end

--- Finishes pending appends, makes everything durable, and closes, the databases on it first. Idempotent.
function Log:close(cb)
  if getmetatable(self) ~= Log then errors.misused("log", "close", self, 2) end
  return async.call(function (done) close_databases(self, done) end, cb)
end

--- For a database that is closing, when all of its own is closed.
Log._close = close

function Log:__close()
  self:close()
end

function Log:__tostring()
  return ("flume.log: %s (since %s)"):format(self.dir or "memory", tostring(self.since.value))
end

return Log
