-- Reads the files of a log as core/FORMAT.md describes them, and knows nothing else of flume: plain Lua, a checksum of
-- its own. It wants every byte to be as it is written there, and raises an error with file and offset when one is not;
-- of a log that was not closed in order it passes over the zeros behind the last frame.
--
--   local log = reader.read(dir)
--   log.id, log.since                     of the log
--   log.records[seq]                      the payload; false for a record whose bytes were taken out
--   log.deleted[seq]                      true, or "lost"
--   log.segments                          list of {name =, first =, next =, sealed =, frames = {{kind =, …}, …}}
--
--   reader.segment(bytes, name), reader.deletions(bytes, id)    one file; reader.crc32c(bytes)

local lfs = require "lfs"

local M = {}

local SEGMENT_HEADER, FRAME_HEADER = 64, 48
local KINDS = {"data", "index", "end", "delete"}
local TAKEN_OUT = 0x80000000 -- in place of a length
local SEALED, LOST = 1, 1    -- flags

-- --- Checksums ---------------------------------------------------------------------------------------------------

local TABLE = {}
for i = 0, 255 do
  local c = i
  for _ = 1, 8 do c = c & 1 == 1 and c >> 1 ~ 0x82f63b78 or c >> 1 end
  TABLE[i] = c
end

function M.crc32c(bytes)
  local c = 0xffffffff
  for i = 1, #bytes do c = TABLE[(c ~ bytes:byte(i)) & 0xff] ~ c >> 8 end
  return c ~ 0xffffffff
end

-- --- Frames ------------------------------------------------------------------------------------------------------

local function expect(file, offset, what, wanted, is)
  if wanted ~= is then
    error(("%s, byte %d: %s: %s expected, not %s"):format(file.name, offset, what, wanted, is), 0)
  end
end

-- The n bytes at an offset.
local function bytes_at(file, offset, n)
  if offset + n > #file.bytes then error(("%s, byte %d: the file ends"):format(file.name, offset), 0) end
  return file.bytes:sub(offset + 1, offset + n)
end

-- The frame at an offset, its body unread.
local function read_header(file, offset)
  local header = bytes_at(file, offset, FRAME_HEADER)
  local magic, checksum, kind, flags, count, length, zero, seq, time_ms, durable =
    ("<c4 I4 I2 I2 I4 I4 I4 i8 I8 I8"):unpack(header)
  expect(file, offset, "magic", "rFlm", magic)
  expect(file, offset, "checksum of the header",
    M.crc32c(file.id .. ("<i8 I8"):pack(file.first, offset) .. header:sub(9)), checksum)
  expect(file, offset, "the zero", 0, zero)
  if durable > offset then error(("%s, byte %d: durable up to %d"):format(file.name, offset, durable), 0) end
  return {
    kind = KINDS[kind] or kind, flags = flags, count = count, seq = seq, time_ms = time_ms, offset = offset,
    body = offset + FRAME_HEADER, length = length, next = offset + FRAME_HEADER + length,
  }
end

-- The body of a frame, but for the checksum of the rest that it begins with.
local function checked_body(file, frame)
  local body = bytes_at(file, frame.body, frame.length)
  expect(file, frame.body, "checksum of the body", M.crc32c(body:sub(5)), (("<I4"):unpack(body)))
  return body:sub(5)
end

-- --- Segments ----------------------------------------------------------------------------------------------------

local READ = {}

function READ.data(segment, frame)
  expect(segment, frame.offset, "first seq", segment.next, frame.seq)
  expect(segment, frame.offset, "flags", 0, frame.flags)
  if frame.count < 1 then error(("%s, byte %d: no records"):format(segment.name, frame.offset), 0) end
  local at = frame.body
  for seq = frame.seq, frame.seq + frame.count - 1 do
    local length, checksum = ("<I4 I4"):unpack(bytes_at(segment, at, 8))
    local payload = length ~= TAKEN_OUT and bytes_at(segment, at + 8, length)
    expect(segment, at, "checksum of record " .. seq,
      M.crc32c(("<i8 I4"):pack(seq, length) .. (payload or "")), checksum)
    segment.records[seq] = payload
    segment.taken_out = segment.taken_out + (payload and 0 or 1)
    segment.offsets[#segment.offsets + 1] = at
    at = at + 8 + (payload and length or 0)
  end
  expect(segment, frame.offset, "end of the body", frame.next, at)
  segment.next = frame.seq + frame.count
end

-- The offsets of the records since the index before.
function READ.index(segment, frame)
  expect(segment, frame.offset, "flags", 0, frame.flags)
  expect(segment, frame.offset, "count", #segment.offsets, frame.count)
  expect(segment, frame.offset, "first seq", segment.next - frame.count, frame.seq)
  local body = checked_body(segment, frame)
  expect(segment, frame.offset, "length of the body", 8 + 4 * frame.count, #body)
  expect(segment, frame.offset, "the index before", segment.last_index, (("<I8"):unpack(body)))
  for i = 1, frame.count do
    local offset = ("<I4"):unpack(body, 5 + 4 * i)
    expect(segment, frame.offset, "offset of record " .. frame.seq + i - 1, segment.offsets[i], offset)
  end
  segment.offsets, segment.last_index = {}, frame.offset
end

READ["end"] = function (segment, frame)
  segment.sealed = frame.flags & SEALED ~= 0
  expect(segment, frame.offset, "flags", segment.sealed and SEALED or 0, frame.flags)
  expect(segment, frame.offset, "records taken out", segment.taken_out, frame.count)
  expect(segment, frame.offset, "next seq", segment.next, frame.seq)
  expect(segment, frame.offset, "records without an index", 0, #segment.offsets)
  expect(segment, frame.offset, "the last index", segment.last_index, (("<I8"):unpack(checked_body(segment, frame))))
end

local function only_zeros_from(file, offset)
  return not file.bytes:find("[^\0]", offset + 1)
end

local function segment_of(bytes, name)
  local magic, version, length, first, id, created_ms, zeros, checksum = ("<c8 I4 I4 i8 c16 I8 c12 I4"):unpack(bytes)
  local segment = {
    name = name, bytes = bytes, id = id, first = first, next = first, created_ms = created_ms, sealed = false,
    frames = {}, records = {}, taken_out = 0, offsets = {}, last_index = 0,
  }
  expect(segment, 0, "magic", "flumelog", magic)
  expect(segment, 8, "version", 1, version)
  expect(segment, 12, "length of the header", SEGMENT_HEADER, length)
  expect(segment, 16, "the seq in the name", ("%020d.flume"):format(first), name)
  expect(segment, 48, "zeros", ("\0"):rep(12), zeros)
  expect(segment, 60, "checksum of the header", M.crc32c(bytes:sub(1, 60)), checksum)
  return segment
end

--- One segment.
function M.segment(bytes, name)
  local segment, at = segment_of(bytes, name), SEGMENT_HEADER
  while at < #bytes and not only_zeros_from(segment, at) do
    local frame = read_header(segment, at)
    local read = READ[frame.kind]
    if not read then error(("%s, byte %d: a frame of kind %s"):format(name, at, frame.kind), 0) end
    read(segment, frame)
    table.insert(segment.frames, frame)
    at = frame.next
  end
  return segment
end

-- --- Deletions ---------------------------------------------------------------------------------------------------

--- The file "deleted" of the log with that id: seq -> true or "lost"; and its frames.
function M.deletions(bytes, id)
  local file = {name = "deleted", bytes = bytes, id = id, first = -1}
  local deleted, count, frames, at = {}, 0, {}, 0
  while at < #bytes do
    local frame = read_header(file, at)
    expect(file, at, "deletions before", count, frame.seq)
    if frame.kind == "delete" then
      local body, last = checked_body(file, frame), -1
      expect(file, at, "length of the body", 8 * frame.count, #body)
      for i = 1, frame.count do
        local seq = ("<i8"):unpack(body, 8 * i - 7)
        if seq <= last and seq ~= -1 then error(("deleted, byte %d: seq %d behind %d"):format(at, seq, last), 0) end
        if seq ~= -1 then deleted[seq] = frame.flags & LOST ~= 0 and "lost" or true end
        last = seq
      end
    else
      expect(file, at, "kind", "end", frame.kind)
      expect(file, at, "the end of the file", #bytes, frame.next)
    end
    count = count + (frame.kind == "delete" and frame.count or 0)
    frames[#frames + 1] = frame
    at = frame.next
  end
  return deleted, frames
end

-- --- The directory -----------------------------------------------------------------------------------------------

local function read_file(path)
  local file = assert(io.open(path, "rb"))
  local bytes = file:read "a"
  file:close()
  return bytes
end

local function segment_names(dir)
  local names = {}
  for name in lfs.dir(dir) do
    if name:find "^%d+%.flume$" then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

-- All but the last are sealed; the one before it need not be while the last one has no records.
local function check_sealed(segments)
  for i = 1, #segments - 1 do
    local following = segments[i + 1]
    local may_be_open = i == #segments - 1 and following.next == following.first
    if not may_be_open then expect(segments[i], #segments[i].bytes, "sealed", true, segments[i].sealed) end
  end
end

function M.read(dir)
  local log = {id = nil, since = -1, records = {}, deleted = {}, segments = {}}
  local names = segment_names(dir)
  for i, name in ipairs(names) do
    local segment = M.segment(read_file(dir .. "/" .. name), name)
    log.id = log.id or segment.id
    expect(segment, 24, "id of the log", log.id, segment.id)
    expect(segment, 16, "first seq", log.since + 1, segment.first)
    for seq, payload in pairs(segment.records) do log.records[seq] = payload end
    log.segments[i], log.since = segment, segment.next - 1
  end
  check_sealed(log.segments)
  if lfs.attributes(dir .. "/deleted") then log.deleted = M.deletions(read_file(dir .. "/deleted"), log.id) end
  return log
end

return M
