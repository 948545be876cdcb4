-- Every kind of log, by itself and below a database.

local conformance = require "tests.conformance.log"
local flume = require "flume"
local offsets = require "tests.support.offsets"
local fixture = require "tests.support.fixture"

local function file(options)
  return assert(flume.log.file(fixture.dir() .. "/log", options))
end

local function database(open)
  return function (options) return assert(flume.new(open(options))) end
end

conformance("memory", flume.log.memory)
conformance("file", file)
conformance("a database on memory", database(flume.log.memory))
conformance("a database on a file", database(file))
conformance("a database on a table", database(require "tests.support.table_log"))
conformance("a database by flume.open", function (options) return assert(flume.open(fixture.dir(), options)) end)

for _, sync in ipairs {"interval", "os"} do
  conformance('file, sync = "' .. sync .. '"', function (options)
    local given = {sync = sync}
    for name, value in pairs(options or {}) do given[name] = value end
    return file(given)
  end)
end

conformance("file, in many segments", function (options)
  local given = {segment_bytes = 256}
  for name, value in pairs(options or {}) do given[name] = value end
  return file(given)
end)

-- MessagePack, which has all values; and JSON, as the original has it, is what offset_spec.lua is about.
local function offset(options)
  local given = {codec = "msgpack"}
  for name, value in pairs(options or {}) do given[name] = value end
  return assert(flume.log.offset(fixture.dir() .. "/log.offset", given))
end

conformance("offset", offset, offsets.of)
conformance("a database on an offset log", database(offset), offsets.of)
for _, sync in ipairs {"interval", "os"} do
  conformance('offset, sync = "' .. sync .. '"', function (options)
    local given = {sync = sync}
    for name, value in pairs(options or {}) do given[name] = value end
    return offset(given)
  end, offsets.of)
end
