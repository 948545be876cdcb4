-- flume DB import of other logs' files.

local binary = require "tests.support.binary"
local flume = require "flume"
local offsets = require "tests.support.offsets"
local fixture = require "tests.support.fixture"

local failure, framed, output = binary.failure, offsets.framed, binary.output

-- --- BIPF: a tag, of the length and the type, and the bytes ------------------------------------------------------

local STRING, BUFFER, INT, DOUBLE, ARRAY, OBJECT, BOOL = 0, 1, 2, 3, 4, 5, 6

local function tagged(kind, bytes)
  local tag, made = #bytes << 3 | kind, ""
  while tag >= 128 do
    made = made .. string.char(tag & 127 | 128)
    tag = tag >> 7
  end
  return made .. string.char(tag) .. bytes
end

local function text(value) return tagged(STRING, value) end
local function int(value) return tagged(INT, string.pack("<i4", value)) end
local function double(value) return tagged(DOUBLE, string.pack("<d", value)) end
local function list(...) return tagged(ARRAY, table.concat {...}) end
local function object(...) return tagged(OBJECT, table.concat {...}) end

local BLOCK_BYTES = 65536

-- Blocks of records, each behind its length; a block ends with zeros.
local function async_file(blocks, block_bytes)
  local parts = {}
  for i, records in ipairs(blocks) do
    local block = {}
    for k, record in ipairs(records) do block[k] = string.pack("<s2", record) end
    local bytes = table.concat(block)
    parts[i] = bytes .. ("\0"):rep((block_bytes or BLOCK_BYTES) - #bytes)
  end
  return table.concat(parts)
end

local function import(bytes, format, ...)
  local dir = fixture.dir()
  local args = {dir .. "/data", "import", "--from", format, fixture.write(dir .. "/file", bytes), ...}
  return args, dir .. "/data", dir .. "/file"
end

local function stored(data) return output {data, "stream", "--json"} end

describe("import --from flumelog-offset", function ()
  after_each(fixture.clean)

  it("takes all records, with new seqs, whatever the framing", function ()
    for _, bits in ipairs {32, 48, 53} do
      local args, data = import(framed({'{"a": 1}', "[2]", '"3"'}, bits), "flumelog-offset")
      assert.equal("3 records appended\nthey are numbered anew; the last one is 2\n", output(args))
      assert.equal('{"a":1}\n[2]\n"3"\n', stored(data))
    end
  end)

  it("takes the framing that it is told", function ()
    local args = import(framed({"1"}, 48), "flumelog-offset", "--bits", "48")
    assert.truthy(output(args):find("^1 record appended"))
    args = import(framed({"1"}, 48), "flumelog-offset", "--bits", "32")
    assert.truthy(failure(args):find("byte 0: the pointer behind a record is wrong", 1, true))
    assert.truthy(failure({fixture.dir(), "import", "--bits", "47"}, {}, 2):find("--bits wants 32, 48 or 53", 1, true))
  end)

  it("leaves out what was deleted", function ()
    local args, data = import(framed {"1", "\0\0\0", "3"}, "flumelog-offset", "--json")
    assert.same({appended = 2, deleted = 1, skipped = 0, since = 1}, flume.json.decode(output(args)))
    assert.equal("1\n3\n", stored(data))
  end)

  it("stops at text that isn't JSON, names the byte, and keeps the records before it", function ()
    local bytes = framed {"1", "22", "{oops", "4"}
    local args, data, file = import(bytes, "flumelog-offset")
    local message, out = failure(args)
    assert.truthy(message:find(("import: %s: byte 27: column 2: "):format(file), 1, true), message)
    assert.truthy(out:find "^2 records appended\n")
    assert.equal("1\n22\n", stored(data))
    args, data = import(bytes, "flumelog-offset", "--skip-bad")
    assert.truthy(output(args):find "^3 records appended, 1 bad record skipped\n")
    assert.equal("1\n22\n4\n", stored(data))
  end)

  it("goes on behind damage when it is told to", function ()
    local bytes = framed {"1", "22", "333", "4444"}
    local damaged = bytes:sub(1, 14) .. "\x7f" .. bytes:sub(16)
    local args, _, file = import(damaged, "flumelog-offset")
    assert.truthy(failure(args):find(("%s: byte 13: "):format(file), 1, true))
    local data
    args, data = import(damaged, "flumelog-offset", "--skip-bad")
    assert.truthy(output(args):find "^3 records appended, 1 bad record skipped\n")
    assert.equal("1\n333\n4444\n", stored(data))
  end)

  it("says that the end is torn", function ()
    local bytes = framed {"1", "22"}
    local args, data = import(bytes:sub(1, -4), "flumelog-offset")
    assert.truthy(failure(args):find("byte 13: ", 1, true))
    assert.equal("1\n", stored(data))
  end)

  it("goes into an offset log too", function ()
    local dir = fixture.dir()
    local from = fixture.write(dir .. "/from", framed({'{"a":1}', "[2]"}, 48))
    local to = fixture.write(dir .. "/to", framed {"0"})
    output {to, "import", "--from", "flumelog-offset", from}
    assert.equal(framed {"0", '{"a":1}', "[2]"}, fixture.read(to))
  end)

  it("wants a file, and refuses one that isn't an offset log", function ()
    local data = fixture.dir() .. "/data"
    assert.truthy(failure {data, "import", "--from", "flumelog-offset"}:find("wants a file", 1, true))
    assert.truthy(failure {data, "import", "--from", "flumelog-offset", "/none"}:find("opening /none", 1, true))
    local args = import("this is something else altogether", "flumelog-offset")
    assert.truthy(failure(args):find("byte 0: no flumelog-offset record", 1, true))
  end)

  it("streams many records in little memory", function ()
    local values = {}
    for n = 1, 60000 do values[n] = ('{"n":%d,"text":"%s"}'):format(n, ("x"):rep(n % 300)) end
    local args, data = import(framed(values), "flumelog-offset")
    assert.truthy(output(args):find "^60000 records appended\n")
    assert.equal(values[60000] .. "\n", output {data, "get", "59999", "--json"})
  end)
end)

describe("import --from async-append-only-log", function ()
  after_each(fixture.clean)

  it("takes every kind of value", function ()
    local record = object(text "s", text "é", text "i", int(-7), text "d", double(1.5), text "big", double(2 ^ 40),
      text "l", list(int(1), list(), object()), text "t", tagged(BOOL, "\1"), text "f", tagged(BOOL, "\0"), text "n",
      tagged(BOOL, ""), text "u", tagged(BOOL, "\2"), text "b", tagged(BUFFER, "raw"))
    local args, data = import(async_file {{record}}, "async-append-only-log")
    assert.equal("1 record appended\nthey are numbered anew; the last one is 0\n", output(args))
    assert.same({
      s = "é", i = -7, d = 1.5, big = 1 << 40, l = {1, {}, {}}, t = true, f = false, n = flume.null, u = flume.null,
      b = "raw",
    }, flume.json.decode(stored(data)))
  end)

  it("goes from block to block, over what was deleted", function ()
    local big = text(("x"):rep(60000))
    local args, data = import(async_file {{big, int(1)}, {("\0"):rep(20), int(2)}, {big}, {int(3)}},
      "async-append-only-log", "--json")
    assert.same({appended = 5, deleted = 1, skipped = 0, since = 4}, flume.json.decode(output(args)))
    assert.equal("1\n2\n", stored(data):sub(60004, 60007))
  end)

  it("names the byte of what it can't read, and passes over it when told to", function ()
    local good, bad = object(text "a", int(1)), object(int(1), int(1))
    local bytes = async_file {{good, bad, good}, {good}}
    local args, data, file = import(bytes, "async-append-only-log")
    local where = 2 + #good
    local message = failure(args)
    assert.truthy(message:find(("import: %s: byte %d: byte 1: a key that is no string"):format(file, where), 1, true),
      message)
    assert.equal('{"a":1}\n', stored(data))
    args, data = import(bytes, "async-append-only-log", "--skip-bad")
    assert.truthy(output(args):find "^3 records appended, 1 bad record skipped\n")
    assert.equal(('{"a":1}\n'):rep(3), stored(data))
  end)

  it("says that a record goes beyond its block, or lies behind its end", function ()
    local block = string.pack("<s2", int(1))
    local long = block .. "\xff\xff" .. ("x"):rep(BLOCK_BYTES - #block - 2)
    local args = import(long .. async_file {{int(2)}}, "async-append-only-log")
    assert.truthy(failure(args):find(("byte %d: a record that is longer than its block"):format(#block), 1, true))
    local hidden = block .. ("\0"):rep(10) .. "x" .. ("\0"):rep(BLOCK_BYTES - #block - 11)
    args = import(hidden, "async-append-only-log")
    assert.truthy(failure(args):find(("byte %d: something behind the end of a block"):format(#block), 1, true))
    local data
    args, data = import(long .. async_file {{int(2)}}, "async-append-only-log", "--skip-bad")
    output(args)
    assert.equal("1\n2\n", stored(data))
  end)

  it("finds out how large the blocks are", function ()
    for _, block_bytes in ipairs {64, 512, 4096, 16384, 131072, 1048576} do
      local blocks, expected = {}, {}
      for n = 1, 7 do
        blocks[n] = {int(n), text(("x"):rep(n * 3)), int(-n)}
        expected[n] = ('%d\n"%s"\n%d\n'):format(n, ("x"):rep(n * 3), -n)
      end
      local args, data = import(async_file(blocks, block_bytes), "async-append-only-log")
      assert.equal("21 records appended\nthey are numbered anew; the last one is 20\n", output(args))
      assert.equal(table.concat(expected), stored(data))
    end
  end)

  it("has no use for --bits", function ()
    local args = import(async_file {{int(1)}}, "async-append-only-log", "--bits", "32")
    assert.truthy(failure(args):find("--bits is for --from flumelog-offset", 1, true))
  end)
end)
