-- flumelog-offset and flume on the same files: what the one writes the other reads, and both answer alike. Where the
-- original is wrong, the test says so, and holds flume to the right answer.
--
-- The seed of the run makes the records.

local assert = require "luassert"
local flume = require "flume"
local offsets = require "tests.support.offsets"
local originals = require "tests.interop.originals"
local records = require "tests.interop.records"
local fixture = require "tests.support.fixture"
local seeds = require "tests.support.seeds"

local SEED = seeds.take()

local compare = originals.comparing(it, pending)

local function offset_log(path, options)
  return fixture.keep(assert(flume.log.offset(path, options)))
end

local function items_of(log, range)
  local list = {}
  for seq, value in log:stream(range) do list[#list + 1] = {seq, value} end
  return list
end

local kept = {}

-- A file as the original writes it, the records in it, and what it answered. It is asked once for each kind.
local function written(count, bits)
  local dir = fixture.dir()
  local file, which = dir .. "/log.offset", bits .. " " .. count
  local made = kept[which]
  if made then return fixture.write(file, made.bytes), made.list, made.answer end
  made = {list = records.messages(SEED, count)}
  made.answer = originals.ask {
    ["do"] = "offset_write", file = file, bits = bits, batches = {1, 7, 30, 2},
    records = originals.lines(dir, made.list),
  }
  made.bytes = fixture.read(file)
  kept[which] = made
  return file, made.list, made.answer
end

describe("interop, flumelog-offset", function ()
  after_each(fixture.clean)

  for _, bits in ipairs {32, 48, 53} do
    compare(("%d bits: what the original writes is read"):format(bits), function ()
      local file, list, answer = written(300, bits)
      local log = offset_log(file)
      assert.equal(answer.since, log.since.value)
      local items = items_of(log)
      assert.equal(#list, #items)
      for i, item in ipairs(items) do
        assert.same(list[i], item[2])
        assert.same(list[i], log:get(item[1]))
      end
      for _, seq in ipairs(answer.seqs) do assert.truthy(log:get(seq)) end
    end)

    compare(("%d bits: what flume writes is the same, byte by byte"):format(bits), function ()
      local file, list = written(300, bits)
      local own = fixture.dir() .. "/log.offset"
      local log = offset_log(own, {bits = bits, codec = "raw"})
      for _, record in ipairs((offsets.read(file, bits))) do log:append(record.bytes) end
      log:close()
      assert.equal(fixture.read(file), fixture.read(own))
      local second = offset_log(fixture.dir() .. "/second", {bits = bits})
      second:append(list)
      second:close()
      local path = second.dir:gsub("%.flume$", "")
      local answer = originals.ask {["do"] = "offset_read", file = path, bits = bits, ranges = {{}}}
      assert.equal(#list, #answer.ranges[1])
      for i, item in ipairs(answer.ranges[1]) do assert.same(list[i], item[2]) end
    end)
  end

  compare("both append to one file in turn", function ()
    local file, shared = written(30, 32)
    local list = table.move(shared, 1, #shared, 1, {})
    for round = 1, 2 do
      local more = records.messages(SEED + round, 20, 1000 * round)
      local log = offset_log(file)
      log:append(more)
      log:close()
      for _, item in ipairs(more) do list[#list + 1] = item end
      more = records.messages(SEED + 10 * round, 20, 2000 * round)
      local lines = originals.lines(fixture.dir(), more)
      originals.ask {["do"] = "offset_write", file = file, records = lines, batches = {3}}
      for _, item in ipairs(more) do list[#list + 1] = item end
    end
    local log = offset_log(file)
    local theirs = originals.ask {["do"] = "offset_read", file = file, ranges = {{}}}.ranges[1]
    assert.same(theirs, items_of(log))
    assert.equal(#list, #theirs)
  end)

  -- gt, gte, lt, lte, reverse and limit, at records and between them.
  compare("ranges give the same", function ()
    local file = written(300, 32)
    local at = offsets.read(file)
    local first, middle, last = at[1].off, at[100].off, at[300].off
    local ranges = {
      {}, {reverse = true}, {limit = 3}, {reverse = true, limit = 3}, {gt = first}, {gte = middle}, {lt = middle},
      {lte = middle}, {gt = middle, lt = at[110].off}, {gte = middle, lte = at[110].off}, {gt = last}, {gte = last},
      {gte = middle, limit = 5}, {lt = middle, reverse = true, limit = 5}, {lte = middle, reverse = true, limit = 5},
      {gt = middle, reverse = true}, {gte = at[290].off, reverse = true, limit = 4},
    }
    local log = offset_log(file)
    local theirs = originals.ask {["do"] = "offset_read", file = file, ranges = ranges}.ranges
    for i, range in ipairs(ranges) do
      assert.same(theirs[i], items_of(log, range), "range " .. flume.json.encode(flume.map(range)))
    end
  end)

  compare("a bound that is no record's seq: flume takes the next one, the original reads garbage", function ()
    local file, list = written(30, 32)
    local at = offsets.read(file)
    local log = offset_log(file)
    local items = items_of(log, {gt = at[5].off + 1})
    assert.equal(at[6].off, items[1][1])
    assert.same(list[6], items[1][2])
    local ok, answer = pcall(originals.ask, {["do"] = "offset_read", file = file, ranges = {{gte = at[5].off + 1}}})
    assert.is_false(ok and answer.ranges[1][1] ~= nil and answer.ranges[1][1][1] == at[6].off)
  end)

  compare("each reads what the other has deleted", function ()
    local file = written(300, 32)
    local at = offsets.read(file)
    local ours, theirs = {at[1].off, at[30].off, at[300].off}, {at[2].off, at[31].off}
    local log = offset_log(file)
    assert.is_true(log:del(ours))
    log:close()
    originals.ask {["do"] = "offset_del", file = file, seqs = theirs}
    log = offset_log(file)
    local seqs = {ours[1], ours[2], ours[3], theirs[1], theirs[2], at[3].off}
    local gets = originals.ask {["do"] = "offset_get", file = file, seqs = seqs}
    for i = 1, 5 do
      assert.equal("flumelog:deleted", gets[i].code)
      assert.equal("EDELETED", select(3, log:get(seqs[i])))
    end
    assert.same(log:get(at[3].off), flume.json.decode(gets[6].value and flume.json.encode(gets[6].value)))
    assert.same(originals.ask {["do"] = "offset_read", file = file, ranges = {{}}}.ranges[1], items_of(log))
    assert.equal(at[300].off, log.since.value)
  end)

  compare("limit counts deleted records in the original, and not in flume", function ()
    local file = written(30, 32)
    local at = offsets.read(file)
    local log = offset_log(file)
    log:del {at[1].off, at[2].off}
    local items = items_of(log, {limit = 3})
    assert.same({at[3].off, at[4].off, at[5].off}, {items[1][1], items[2][1], items[3][1]})
    local theirs = originals.ask {["do"] = "offset_read", file = file, ranges = {{limit = 3}}}.ranges[1]
    assert.equal(1, #theirs)
  end)

  compare("records of zeros are deleted to the original, and to flume what they are", function ()
    local file = fixture.dir() .. "/log.offset"
    local log = offset_log(file, {codec = "raw"})
    log:append {"one", "\0\0\0", "three"}
    assert.same({{0, "one"}, {15, "\0\0\0"}, {30, "three"}}, items_of(log))
    log:close()
    local theirs = originals.ask {["do"] = "offset_read", file = file, raw = true, ranges = {{}}}.ranges[1]
    assert.same({{0, "one"}, {30, "three"}}, theirs)
  end)

  compare("the original loses what follows an empty record, and flume does not", function ()
    local file = fixture.dir() .. "/log.offset"
    local log = offset_log(file, {codec = "raw"})
    log:append {"one", "", "three"}
    assert.same({{0, "one"}, {15, ""}, {27, "three"}}, items_of(log))
    log:close()
    local ok, answer = pcall(originals.ask, {["do"] = "offset_read", file = file, raw = true, ranges = {{}}})
    assert.is_false(ok and #answer.ranges[1] == 3)
  end)

  compare("a torn tail ends at the same record", function ()
    local file = written(30, 32)
    local bytes = fixture.read(file)
    local at = offsets.read(file)
    local requests, copies = {}, {}
    for i, cut in ipairs {at[30].off, at[30].off + 1, at[30].off + 5, #bytes - 1, #bytes - 4, at[20].off + 7, #bytes} do
      local copy = fixture.write(fixture.dir() .. "/log", bytes:sub(1, cut))
      local log = offset_log(copy)
      copies[i] = {since = log.since.value, bytes = fixture.read(copy)}
      log:close()
      fixture.write(copy, bytes:sub(1, cut))
      requests[i] = {["do"] = "offset_read", file = copy, ranges = {{}}}
    end
    for i, answer in ipairs(originals.ask(requests)) do
      assert.equal(answer.since, copies[i].since)
      assert.equal(fixture.read(requests[i].file), copies[i].bytes)
    end
  end)

  -- It looks for the last pointer that is right, and takes all before it for good.
  compare("damage in the middle: the original goes on over it, and flume names it", function ()
    local file = written(30, 32)
    local bytes = fixture.read(file)
    local at = offsets.read(file)
    fixture.write(file, bytes:sub(1, at[10].off) .. "\xff" .. bytes:sub(at[10].off + 2))
    local _, message, code = flume.log.offset(file)
    assert.equal("ECORRUPT", code)
    assert.truthy(message:find("byte " .. at[10].off .. ":", 1, true), message)
    local theirs = originals.ask {["do"] = "offset_read", file = file, ranges = {{gte = at[20].off}}}
    assert.equal(at[30].off, theirs.since)
  end)
end)
