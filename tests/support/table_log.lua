-- A log written as a Lua table: the least that flume.new takes.

local core = require "flume.core"
local flume = require "flume"

local Log = {}
Log.__index = Log

local function check(self, value)
  local bytes, message, code = flume.encode(value)
  if not bytes then return nil, message, code end
  if #bytes > self.max_record_bytes then return nil, "over the limit", "E2BIG" end
  return true
end

function Log:append(value)
  local batch = core.is_array(value) and value or {value}
  for i, each in ipairs(batch) do
    local ok, message, code = check(self, each)
    if not ok then return nil, ("record %d: %s"):format(i, message), code end
  end
  for _, each in ipairs(batch) do
    self.last = self.last + 1
    self.records[self.last] = assert(flume.encode(each))
  end
  self.since:set(self.last)
  return self.last
end

function Log:get(seq)
  if math.type(seq) ~= "integer" then error "get: an integer" end
  if seq < 0 or seq > self.last then return nil, "no record " .. seq, "ENOENT" end
  if not self.records[seq] then return nil, "deleted", "EDELETED" end
  local value = flume.decode(self.records[seq])
  if value == nil then return flume.null end
  return value
end

function Log:stream(range)
  local seq = range.gt
  return function ()
    repeat seq = seq + 1 until seq > self.last or self.records[seq]
    if seq <= self.last then return seq, (self:get(seq)) end
  end
end

function Log:del(seqs)
  for _, seq in ipairs(seqs) do
    if seq < 0 or seq > self.last then return nil, "no record " .. seq, "ENOENT" end
  end
  for _, seq in ipairs(seqs) do self.records[seq] = nil end
  return true
end

function Log:close()
  self.is_closed = true
end

return function (options)
  return setmetatable({
    records = {},
    last = -1,
    since = flume.observable(-1),
    max_record_bytes = options and options.max_record_bytes or math.huge,
    is_closed = false,
  }, Log)
end
