-- The files of a log are what core/FORMAT.md says: a reader that was written from it alone reads them.

local flume = require "flume"
local reader = require "tests.support.format_reader"
local fixture = require "tests.support.fixture"

local SHAPES = {
  flume.null, true, false, 0, -1, math.maxinteger, math.mininteger, 1.5, "", "text", ("x"):rep(70000), flume.array {},
  flume.map {}, flume.array {1, flume.array {2, "three"}}, {a = {b = {c = "deep"}}}, "\0\255 bytes",
}

local function open(dir, options)
  return fixture.keep(assert(flume.log.file(dir, options)))
end

local function decode(bytes)
  local value, message = flume.decode(bytes)
  assert(message == nil, message)
  if value == nil then return flume.null end
  return value
end

-- What the reader finds is what flume gives.
local function check_same(dir)
  local found, log = reader.read(dir), assert(flume.log.file(dir, {readonly = true}))
  assert.equal(log.since.value, found.since)
  for seq = 0, found.since do
    local value, _, code = log:get(seq)
    if code == "EDELETED" then
      assert.is_not_nil(found.deleted[seq], seq)
    else
      assert.is_nil(found.deleted[seq], seq)
      assert.same(value, decode(found.records[seq]))
    end
  end
  log:close()
  return found
end

describe("a log's files, read by the format's description alone,", function ()
  after_each(fixture.clean)

  it("have the records of batches of all sizes", function ()
    local dir = fixture.dir()
    local log = open(dir)
    local n = 0
    for size = 0, 40, 8 do
      local batch = flume.array {}
      for i = 1, size do
        n = n + 1
        batch[i] = SHAPES[n % #SHAPES + 1]
      end
      log:append(batch)
    end
    log:append "single"
    log:close()
    local found, kinds = check_same(dir), {}
    assert.equal(n, found.since)
    for i, frame in ipairs(found.segments[1].frames) do kinds[i] = frame.kind end
    assert.equal("data data data data data data index end", table.concat(kinds, " "))
  end)

  it("have them while the log is open, zeros behind them", function ()
    local dir = fixture.dir()
    local log = open(dir)
    for i = 1, 10 do log:append {n = i} end
    local found = reader.read(dir)
    assert.equal(9, found.since)
    assert.same({n = 4}, decode(found.records[3]))
    assert.equal("data", found.segments[1].frames[10].kind)
  end)

  it("are several segments, the first of them sealed", function ()
    local dir = fixture.dir()
    local log = open(dir, {segment_bytes = 4096})
    for i = 1, 60 do log:append {n = i, text = ("t"):rep(i * 10)} end
    log:close()
    local found = check_same(dir)
    assert.is_true(#found.segments > 3)
    for i, segment in ipairs(found.segments) do
      assert.equal("end", segment.frames[#segment.frames].kind)
      assert.equal(i < #found.segments, segment.sealed)
    end
  end)

  it("go on behind the end of one that was closed", function ()
    local dir = fixture.dir()
    for round = 1, 3 do
      local log = open(dir)
      log:append {{round = round}, {again = true}}
      log:close()
    end
    local found = check_same(dir)
    local ends = 0
    for _, frame in ipairs(found.segments[1].frames) do ends = ends + (frame.kind == "end" and 1 or 0) end
    assert.equal(3, ends)
    assert.equal(5, found.since)
  end)

  it("say which records are deleted, and have their bytes until they are compacted", function ()
    local dir = fixture.dir()
    local log = open(dir, {segment_bytes = 4096})
    for i = 1, 40 do log:append {n = i, text = ("t"):rep(200)} end
    assert(log:del {3, 5, 30})
    assert(log:del(4))
    log:close()
    local found = check_same(dir)
    assert.same({[3] = true, [4] = true, [5] = true, [30] = true}, found.deleted)
    assert.same(4, decode(found.records[3]).n)

    log = open(dir)
    assert(log:compact())
    log:close()
    found = check_same(dir)
    assert.equal(39, found.since)
    for _, seq in ipairs {3, 4, 5, 30} do assert.is_false(found.records[seq]) end
    assert.same(3, decode(found.records[2]).n)
  end)

  it("have the bytes of other codecs as they are", function ()
    local dir = fixture.dir()
    local log = open(dir, {codec = "raw"})
    log:append {"", "raw \0 bytes", ("\0"):rep(100)}
    log:close()
    local found = reader.read(dir)
    assert.same({[0] = "", "raw \0 bytes", ("\0"):rep(100)}, found.records)
  end)

  it("are not accepted with any byte changed", function ()
    local dir = fixture.dir()
    local log = open(dir)
    log:append {1, "two"}
    log:append {three = 3}
    log:close()
    local name = ("%020d.flume"):format(0)
    local bytes = fixture.read(dir .. "/" .. name)
    assert.equal(3, reader.segment(bytes, name).next)
    for i = 1, #bytes do
      local changed = bytes:sub(1, i - 1) .. string.char(bytes:byte(i) ~ 0x10) .. bytes:sub(i + 1)
      assert.is_false(pcall(reader.segment, changed, name), i)
    end
  end)
end)

-- --- The examples ------------------------------------------------------------------------------------------------

-- The images in the document: {bytes = {offset -> byte}}, in order; a new one begins where the offset is 0.
local function images()
  local list = {}
  for line in io.lines "core/FORMAT.md" do
    local offset, hex = line:match "^    (%x%x%x%x%x%x%x%x): ([%x ]-)  "
    if offset then
      local at = tonumber(offset, 16)
      if at == 0 then list[#list + 1] = {} end
      for pair in hex:gsub(" ", ""):gmatch "%x%x" do
        list[#list][at] = string.char(tonumber(pair, 16))
        at = at + 1
      end
    end
  end
  return list
end

-- The bytes of an image; those that it leaves out are another's.
local function bytes_of(image, other, length)
  local list = {}
  for at = 0, length - 1 do
    list[#list + 1] = assert(image[at] or other and other[at], at)
  end
  assert(not image[length])
  return table.concat(list)
end

describe("the examples in core/FORMAT.md", function ()
  local NAME = ("%020d.flume"):format(0)

  it("are a log of three records", function ()
    local segment = reader.segment(bytes_of(images()[1], nil, 324), NAME)
    local values = {}
    for seq, bytes in pairs(segment.records) do values[seq] = decode(bytes) end
    assert.same({[0] = "hi", {a = 1}, flume.null}, values)
    assert.is_false(segment.sealed)
  end)

  it("are the same log without one of them", function ()
    local all = images()
    local segment = reader.segment(bytes_of(all[2], all[1], 320), NAME)
    assert.same({[0] = "\xa2hi", false, "\xc0"}, segment.records)
    assert.is_true(segment.sealed)
    local deleted, frames = reader.deletions(bytes_of(all[3], nil, 108), segment.id)
    assert.same({[1] = true}, deleted)
    assert.same({"delete", "end"}, {frames[1].kind, frames[2].kind})
  end)
end)

describe("the reader's checksum", function ()
  it("is that of RFC 3720, appendix B.4", function ()
    assert.equal(0x8a9136aa, reader.crc32c(("\0"):rep(32)))
    assert.equal(0x62a8ab43, reader.crc32c(("\xff"):rep(32)))
    assert.equal(0xe3069283, reader.crc32c "123456789")
  end)
end)
