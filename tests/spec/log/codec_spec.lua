-- Values to bytes and back: MessagePack, JSON, lazy records.

local core = require "flume.core"
local flume = require "flume"
local seeds = require "tests.support.seeds"

local SEED = seeds.take()

local function hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function unhex(digits)
  return (digits:gsub("%s", ""):gsub("..", function(pair) return string.char(tonumber(pair, 16)) end))
end

-- Whether two values are the same, floats floats and integers integers; marks on tables do not count.
local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then
    return math.type(a) == math.type(b) and (a == b or (a ~= a and b ~= b))
  end
  for k, v in next, a do
    if not same(v, b[k]) then return false end
  end
  for k in next, b do
    if a[k] == nil then return false end
  end
  return true
end

local function encode(value)
  return assert(flume.encode(value))
end

local function round(value)
  return assert(flume.decode(encode(value)))
end

local function is_map(value)
  local tag = encode(value):byte()
  return tag & 0xf0 == 0x80 or tag == 0xde or tag == 0xdf
end

local scalars = {
  0, 1, -1, 127, 128, 255, 256, 65535, 65536, 2 ^ 31 | 0, 2 ^ 32 | 0, math.maxinteger, math.mininteger,
  -32, -33, -128, -129, -32768, -32769, -(2 ^ 31) | 0, -(2 ^ 31) - 1 | 0,
  0.0, 3.0, -0.5, 0.1, 1e300, 5e-324, math.huge, -math.huge, 2.0 ^ 53,
  "", "a", "\0\1\255", "text", ("x"):rep(31), ("x"):rep(32), ("x"):rep(255), ("x"):rep(256), ("x"):rep(70000),
}

local function random_string()
  local length = math.random(4) == 1 and math.random(0, 300) or math.random(0, 12)
  local bytes = {}
  for i = 1, length do bytes[i] = string.char(math.random(0, 255)) end
  return table.concat(bytes)
end

local function random_scalar()
  local kind = math.random(6)
  if kind == 1 then return scalars[math.random(#scalars)] end
  if kind == 2 then return math.random(0) >> math.random(0, 63) end
  if kind == 3 then return -(math.random(0) >> math.random(1, 63)) end
  if kind == 4 then return (math.random() - 0.5) * 10.0 ^ math.random(-20, 20) end
  if kind == 5 then return math.random(2) == 1 end
  return random_string()
end

-- No positive fractions: a table with such a key lua-messagepack writes as an array, and loses the rest.
local function random_key()
  local key = random_scalar()
  if math.type(key) == "float" then key = -math.abs(key) end
  return #tostring(key) < 1000 and key or "long"
end

local function random_value(depth)
  if depth == 0 or math.random(3) == 1 then return random_scalar() end
  local value, count = {}, math.random(8) == 1 and math.random(0, 40) or math.random(0, 6)
  local as_array = math.random(2) == 1
  for i = 1, count do
    value[as_array and i or random_key()] = random_value(depth - 1)
  end
  return value
end

describe("encode and decode", function()
  it("keep scalars as they are", function()
    for _, value in ipairs(scalars) do
      assert.is_true(same(round(value), value), tostring(value))
    end
    assert.is_true(round(true))
    assert.is_false(flume.decode(encode(false)))
    assert.is_nil((flume.decode(encode(nil))))
    local nan = round(0 / 0)
    assert.is_true(nan ~= nan)
    assert.equal("0x0p+0", ("%a"):format(round(0.0)))
    assert.equal("-0x0p+0", ("%a"):format(round(-0.0)))
  end)

  it("write the smallest form", function()
    assert.equal("05", hex(encode(5)))
    assert.equal("cb4014000000000000", hex(encode(5.0)))
    assert.equal("93c2c3a161", hex(encode { false, true, "a" }))
    assert.equal("81a161ff", hex(encode { a = -1 }))
  end)

  it("take 1..n for an array and all else for a map", function()
    assert.is_false(is_map {})
    assert.is_false(is_map { 1, 2, 3 })
    assert.is_true(is_map { a = 1 })
    assert.is_true(is_map { 1, 2, a = 3 })
    assert.is_true(is_map { [2] = 1 })
    assert.is_true(is_map { [0] = 0, 1 })
    assert.is_true(is_map { 1, nil, 3 })
    assert.is_true(is_map { [1.5] = 1 })
    local shuffled = {}
    for i = 9, 1, -1 do shuffled[i] = i end
    assert.is_false(is_map(shuffled))
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9 }, round(shuffled))
  end)

  it("keep keys of every kind", function()
    local value = { [1] = "i", [-7] = "n", [2.5] = "f", [true] = "t", [false] = "f", [""] = "e", ["a\0b"] = "z" }
    assert.is_true(same(round(value), value))
    assert.equal("x", round({ [2.0 ^ 53] = "x" })[2 ^ 53 | 0])
  end)

  it("keep large containers", function()
    local array, map = {}, {}
    for i = 1, 70000 do array[i], map["k" .. i] = i, i end
    assert.is_true(same(round(array), array))
    assert.is_true(same(round(map), map))
  end)

  it("ignore metamethods", function()
    local function never() error "called" end
    local value = setmetatable({ a = 1 }, { __index = never, __pairs = never, __len = never, __eq = never })
    assert.same({ a = 1 }, round(value))
  end)

  it("allow a table in two places", function()
    local shared = { 1 }
    assert.same({ a = { 1 }, b = { 1 } }, round { a = shared, b = shared })
  end)
end)

describe("null, array and map", function()
  it("null stands for nil in containers", function()
    local back = round { flume.null, a = flume.null }
    assert.equal(flume.null, back[1])
    assert.equal(flume.null, back.a)
    assert.equal("93" .. "01" .. "c0" .. "03", hex(encode { 1, flume.null, 3 }))
    assert.equal("c0", hex(encode(flume.null)))
  end)

  it("map marks empty tables and sequences", function()
    assert.equal("80", hex(encode(flume.map {})))
    assert.equal("80", hex(encode(flume.map())))
    assert.equal("820102" .. "0203", hex(encode(flume.map { 2, 3 })))
  end)

  it("array gives holes a null", function()
    assert.equal("90", hex(encode(flume.array())))
    assert.equal("93" .. "01c003", hex(encode(flume.array { 1, nil, 3 })))
    assert.same({ flume.null, flume.null, 3 }, round(flume.array { [3] = 3 }))
  end)

  it("marks survive bytes", function()
    for _, bytes in ipairs { "80", "820102" .. "0203", "90", "81a16180" } do
      assert.equal(bytes, hex(encode(flume.decode(unhex(bytes)))))
    end
  end)

  it("return the table they mark", function()
    local value = {}
    assert.equal(value, flume.map(value))
    assert.equal(value, flume.array(value))
    assert.is_false(is_map(value))
  end)

  it("refuse values that they can't mark", function()
    assert.has_error(function() flume.map(1) end)
    assert.has_error(function() flume.array(nil) end)
    assert.error_matches(function() flume.map(setmetatable({}, {})) end, "metatable of its own")
  end)
end)

describe("values that can't be stored", function()
  local function refuses(value, message)
    local bytes, text, code = flume.encode(value)
    assert.is_nil(bytes)
    assert.equal(message, text)
    assert.equal("EINVAL", code)
  end

  it("are named by their path", function()
    refuses(print, "value: function cannot be stored")
    refuses({ a = { b = { 1, 2, print } } }, "value.a.b[3]: function cannot be stored")
    refuses({ { coroutine.create(print) } }, "value[1][1]: thread cannot be stored")
    refuses({ ["a b"] = { [-1] = io.stdout } }, 'value["a b"][-1]: userdata cannot be stored')
    refuses({ [true] = { [1.5] = print } }, "value[true][1.5]: function cannot be stored")
    refuses({ ['"\n\\'] = print }, [[value["\"\x0a\\"]: function cannot be stored]])
    refuses({ a = { [{}] = 1 } }, "value.a: a key that is a table cannot be stored")
    refuses({ [""] = print }, 'value[""]: function cannot be stored')
  end)

  it("include cycles", function()
    local value = { a = {} }
    value.a.self = value
    refuses(value, "value.a.self: cycle")
    local itself = {}
    itself[1] = itself
    refuses(itself, "value[1]: cycle")
  end)

  it("include nesting beyond 128", function()
    local value = {}
    for _ = 1, 127 do value = { value } end
    assert.is_true(same(round(value), value))
    local _, text = flume.encode { value }
    assert.matches("^value%[1%].*: nested deeper than 128$", text)
    local record = assert(flume.record(encode(value)))
    assert.equal(encode(value), encode(record))
    _, text = flume.encode { record }
    assert.equal("value[1]: nested deeper than 128", text)
  end)

  it("have paths cut short where they are too long", function()
    local value = { print }
    for _ = 1, 100 do value = { key = value } end
    local _, text = flume.encode(value)
    assert.matches("^value%.key%.key.*%.%.%.: function cannot be stored$", text)
    assert.is_true(#text < 500)
  end)

  it("include marked arrays with other keys", function()
    refuses(flume.array { 1, x = 2 }, "value.x: not an index, in a table marked as an array")
    refuses({ a = flume.array { [0] = 1 } }, "value.a[0]: not an index, in a table marked as an array")
    refuses(flume.array { [1 << 40] = 1 },
      "value[1099511627776]: an array of this length with 1 elements has too many holes")
  end)

  it("leave the next call unharmed", function()
    assert.is_nil(flume.encode { "written before", print })
    assert.equal("05", hex(encode(5)))
  end)
end)

describe("bytes that are no value", function()
  local function refuses(bytes)
    local value, text, code = flume.decode(unhex(bytes))
    assert.is_nil(value)
    assert.equal("not valid MessagePack", text)
    assert.equal("ECORRUPT", code)
  end

  it("are refused", function()
    for _, bytes in ipairs {
      "", "c1", "91", "8101", "0101", "a2 61", "dd ffffffff 00", "df ffffffff 00", "db ffffffff 00",
      ("91"):rep(129) .. "c0",
      ("dc ffff"):rep(100),
    } do
      refuses(bytes)
    end
  end)

  it("that Lua has no value for are refused, with what they are", function()
    for bytes, expected in pairs {
      ["81 c0 01"] = "a map has a key that is nil", ["81 cb7ff8000000000000 01"] = "a map has a key that is nan",
      ["81 90 01"] = "a map has a key that is an array", ["92 01 81 80 01"] = "a map has a key that is a map",
      ["d4 01 02"] = "extension type 1, of 1 bytes",
      ["82 a1 61 01 a1 62 c7 03 80 010203"] = "extension type -128, of 3 bytes",
      ["d6 ff 00"] = false, ["c7 02 ff 0000"] = "extension type -1, of 2 bytes",
      ["d7 ff ffffffff 00000000"] = "extension type -1, of 8 bytes",
    } do
      local value, text, code = flume.decode(unhex(bytes))
      assert.is_nil(value)
      assert.equal(expected and "ENOTSUP" or "ECORRUPT", code)
      if expected then assert.is_truthy(text:find(expected, 1, true), text) end
      if expected and not bytes:find "^8%d" and not bytes:find "^9" then
        assert.same({nil, text, code}, {flume.record(unhex(bytes))})
      end
    end
    local item = assert(flume.record(unhex "82 a1 61 01 a1 62 c7 03 05 010203"))
    assert.equal(1, item.a)
    assert.error_matches(function() return item.b end, "MessagePack extension type 5, of 3 bytes, has no value in Lua")
    assert.error_matches(function() for _ in pairs(item) do end end, "extension type 5")
    assert.error_matches(function() for _ in pairs(flume.record(unhex "81 c0 01")) do end end, "a key that is nil")
    assert.error_matches(function() flume.table(item) end, "extension type 5")
    assert.equal(unhex "82 a1 61 01 a1 62 c7 03 05 010203", flume.encode(item))
  end)

  it("timestamps are read as seconds since 1970", function()
    for bytes, expected in pairs {
      ["d6 ff 00000000"] = 0, ["d6 ff ffffffff"] = 4294967295, ["d7 ff 00000000 6553f100"] = 1700000000,
      ["d7 ff 77359400 6553f100"] = 1700000000.5, ["c7 0c ff 00000000 ffffffffffffffff"] = -1,
      ["c7 0c ff 0ee6b280 ffffffffffffffff"] = -0.75,
    } do
      assert.same(expected, flume.decode(unhex(bytes)))
      assert.equal(math.type(expected), math.type(flume.decode(unhex(bytes))))
      assert.equal(expected, flume.record(unhex("81 a1 74" .. bytes)).t)
      assert.equal(expected, flume.record(unhex("91" .. bytes))[1])
    end
  end)

  it("are refused at every cut", function()
    local bytes = encode { a = { 1, { b = "text" }, 2.5 }, c = ("x"):rep(40) }
    for n = 0, #bytes - 1 do
      assert.is_nil((flume.decode(bytes:sub(1, n))))
    end
  end)
end)

describe("a lazy record", function()
  local plain = {
    key = "%abc", seq = 7, score = 1.5, yes = true, none = flume.null, empty = {}, void = flume.map(),
    content = { type = "post", mentions = { { link = "@a" }, { link = "@b" }, "c" } }, [10] = "ten", [2.5] = "f",
    [true] = "t",
  }
  local item

  before_each(function()
    item = assert(flume.record(encode(plain)))
  end)

  it("reads fields", function()
    assert.equal("userdata", type(item))
    assert.equal("%abc", item.key)
    assert.equal(7, item.seq)
    assert.equal(1.5, item.score)
    assert.is_true(item.yes)
    assert.equal(flume.null, item.none)
    assert.is_nil(item.missing)
    assert.equal("post", item.content.type)
    assert.equal("@b", item.content.mentions[2].link)
    assert.equal("ten", item[10])
    assert.equal("ten", item[10.0])
    assert.equal("f", item[2.5])
    assert.equal("t", item[true])
    assert.is_nil(item[false])
    assert.is_nil(item[1])
    assert.is_nil(item[item])
  end)

  it("reads arrays in any order", function()
    local list = {}
    for i = 1, 100 do list[i] = { i, tostring(i) } end
    local record = assert(flume.record(encode(list)))
    assert.equal(100, #record)
    for _, i in ipairs { 50, 1, 100, 99, 2, 3, 4, 100 } do
      assert.equal(i, record[i][1])
      assert.equal(tostring(i), record[i][2])
    end
    assert.is_nil(record[0])
    assert.is_nil(record[101])
    assert.is_nil(record[math.mininteger])
    assert.is_nil(record.key)
    local count = 0
    for i, element in ipairs(record) do
      count = count + 1
      assert.equal(count, i)
      assert.equal(i, element[1])
    end
    assert.equal(100, count)
    assert.equal("a,b", table.concat(assert(flume.record(encode { "a", "b" })), ","))
  end)

  it("goes through pairs in the order of the bytes", function()
    local record = flume.record(unhex "83 a162 01 a161 9102 a163 81a178 03")
    local keys = {}
    for k in pairs(record) do keys[#keys + 1] = k end
    assert.same({ "b", "a", "c" }, keys)
    local seen = {}
    for i, v in pairs(flume.record(encode { "x", { "y" }, "z" })) do seen[i] = v end
    assert.equal("x", seen[1])
    assert.equal("y", seen[2][1])
    assert.equal("z", seen[3])
    assert.equal(0, #record)
  end)

  it("copies, encodes and prints", function()
    assert.is_true(same(flume.table(item), plain))
    assert.is_true(same(flume.table(item.content), plain.content))
    assert.equal(5, flume.table(5))
    assert.equal(plain, flume.table(plain))
    assert.equal(encode(plain), encode(item))
    assert.is_true(same(round { a = item.content, b = { item.empty, item.void } },
      { a = plain.content, b = { {}, {} } }))
    assert.equal("record: {11 fields}", tostring(item))
    assert.equal("record: [3 elements]", tostring(item.content.mentions))
    assert.equal('{"type":"post"}', flume.json.encode(assert(flume.record(encode { type = "post" }))))
  end)

  it("can't be changed", function()
    assert.error_matches(function() item.key = 1 end, "records are read%-only; use flume.table%(item%) for a copy")
    assert.has_error(function() setmetatable(item, nil) end)
  end)

  it("is a plain value where there is nothing to look into", function()
    assert.equal("text", flume.record(encode "text"))
    assert.equal(1, flume.record(encode(1)))
    assert.equal(flume.null, flume.record(encode(nil)))
  end)

  it("outlives all but its bytes", function()
    local mentions = assert(flume.record(encode(plain))).content.mentions
    for _ = 1, 5 do
      collectgarbage()
      for i = 1, 1000 do local _ = ("garbage %d"):format(i):rep(10) end
    end
    assert.equal("@a", mentions[1].link)
  end)

  it("raises where its bytes are damaged", function()
    local message = "record is not valid MessagePack"
    local function raises(bytes, fn)
      assert.error_matches(function() fn(flume.record(unhex(bytes))) end, message)
    end
    raises("82 a161 01 c1 01", function(record) return record.b end)
    raises("81 a161", function(record) return record.a end)
    raises("92 01", function(record) return record[2] end)
    raises("93 c1 01 01", function(record) return record[3] end)
    raises("92 01", function(record) for _ in pairs(record) do end end)
    raises("92 01", flume.table)
    raises("05 05", function() end)
    assert.is_nil((flume.record ""))
    assert.is_nil((flume.record "\xc1"))
    local _, text = flume.encode { a = flume.record(unhex "92 01") }
    assert.equal("value.a: record is not valid MessagePack", text)
  end)
end)

describe("a state", function()
  it("that can't be stored is named in the error", function()
    local text = select(2, core.encode_state {a = {1, {f = print}}})
    assert.equal("state.a[2].f: function cannot be stored", text)
    assert.equal("state: thread cannot be stored", (select(2, core.encode_state(coroutine.create(print)))))
    assert.equal(flume.encode {1}, core.encode_state {1})
  end)
end)

describe("JSON", function()
  it("goes both ways", function()
    local text = '{"a":[1,2.5,3.0,"x",true,null,{}]}'
    assert.equal(text, flume.json.encode(assert(flume.json.decode(text))))
    assert.equal("[]", flume.json.encode {})
    assert.equal("{}", flume.json.encode(flume.map()))
    assert.equal('{"7":"x"}', flume.json.encode { [7] = "x" })
    assert.equal("integer", math.type(flume.json.decode "3"))
    assert.equal("float", math.type(flume.json.decode "3.0"))
    assert.is_nil((flume.json.decode "null"))
    assert.equal('"\\ud83d"', flume.json.encode(flume.json.decode '"\\ud83d"'))
  end)

  it("refuses what it can't say, with the path", function ()
    for message, value in pairs {
      ["value.a.b: nan has no JSON form"] = {a = {b = 0 / 0}},
      ["value[2]: an infinity has no JSON form"] = {1, -math.huge},
      ["value: a string that is not UTF-8 has no JSON form"] = "\xff",
      ['value["x y"]: a string that is not UTF-8 has no JSON form'] = {["x y"] = "\xed\xa0\xbd\xed\xb8\x80"},
    } do
      assert.same({nil, message, "EINVAL"}, {flume.json.encode(value)})
    end
    local text, message, code = flume.json.encode {[1] = "a", ["1"] = "b"}
    assert.same({nil, "EINVAL"}, {text, code})
    assert.equal(": two keys have the same JSON form", message:match ":.*")
    assert.same({nil, "column 6: an integer beyond 64 bits would lose digits; a string keeps them, and 1.5e20 says "
      .. "that it is rounded", "EINVAL"}, {flume.json.decode '{"n":12345678901234567890}'})
  end)

  it("has the shortest text of a float", function ()
    for cents = 1, 99999 do
      local text = ("%d.%02d"):format(cents // 100, cents % 100):gsub("0$", "")
      if flume.json.encode(cents / 100) ~= text then assert.equal(text, flume.json.encode(cents / 100)) end
    end
    assert.equal("[1e-7,5e-324,0.30000000000000004]", flume.json.encode {1e-7, 5e-324, 0.1 + 0.2})
  end)

  it("says where a text is wrong", function()
    local value, text, code = flume.json.decode '{"a": 1 x}'
    assert.is_nil(value)
    assert.equal("column 9: expected ',' or '}' but found 'x'", text)
    assert.equal("EINVAL", code)
    value, text, code = flume.json.encode { f = print }
    assert.is_nil(value)
    assert.equal("value.f: function cannot be stored", text)
    assert.equal("EINVAL", code)
  end)

  it("agrees with cjson on random values", function()
    local found, cjson = pcall(require, "cjson")
    if not found then pending "lua-cjson is not installed" end
    math.randomseed(SEED)
    for _ = 1, 300 do
      local value = {}
      for i = 1, math.random(5) do
        local text = random_string():gsub("[\128-\255]", "?")
        value[i] = { n = math.random(-1000, 1000), s = text, f = math.random(99) + 0.25 }
      end
      assert.same(value, cjson.decode((flume.json.encode(value))))
      assert.same(value, (flume.json.decode(cjson.encode(value))))
    end
  end)
end)

describe("random values", function()
  it("are read by another implementation, and it by us", function()
    package.path = package.path .. ";/usr/share/lua/5.4/?.lua;/usr/share/lua/5.3/?.lua"
    local found, other = pcall(require, "MessagePack")
    if not found then pending "lua-messagepack is not installed" end
    other.set_number "double"
    other.set_string "string"
    math.randomseed(SEED)
    for _ = 1, 500 do
      local value = random_value(4)
      local bytes, theirs = encode(value), other.pack(value)
      if not same(other.unpack(bytes), value) then error("they read otherwise: " .. hex(bytes)) end
      if not same(flume.decode(theirs), value) then error("we read otherwise: " .. hex(theirs)) end
      assert.equal(#theirs, #bytes)
    end
  end)

  local function agree(record, plain)
    if type(plain) ~= "table" then return same(record, plain) end
    local left = 0
    for k, v in next, plain do
      if not agree(record[k], v) then return false end
      left = left + 1
    end
    for k, v in pairs(record) do
      if not same(flume.table(v), plain[k]) then return false end
      left = left - 1
    end
    return left == 0 and (is_map(plain) or #plain == #record)
  end

  it("look alike as records and as tables", function()
    math.randomseed(SEED)
    for _ = 1, 200 do
      local value = { random_value(4) }
      if not agree(assert(flume.record(encode(value))), value) then error("they differ: " .. hex(encode(value))) end
    end
  end)

  it("never hurt when damaged", function()
    math.randomseed(SEED)
    local function walk(item, depth)
      if type(item) ~= "userdata" or item == flume.null or depth > 5 then return end
      for _, key in ipairs { "a", 1, 3, 2.5, true } do walk(item[key], depth + 1) end
      assert(#item >= 0 and tostring(item))
      for _, v in pairs(item) do walk(v, depth + 1) end
      assert(flume.encode(item))
      flume.table(item)
    end
    for _ = 1, 1500 do
      local bytes = { encode({ random_value(3) }):byte(1, 2000) }
      for _ = 1, math.random(4) do bytes[math.random(#bytes)] = math.random(0, 255) end
      local text = string.char(table.unpack(bytes, 1, math.random(#bytes)))
      local value, _, code = flume.decode(text)
      assert.is_true(code == nil or (value == nil and (code == "ECORRUPT" or code == "ENOTSUP")))
      if code == nil then assert.is_true(same(flume.decode(encode(value)), value)) end
      local fine, message = pcall(function() walk(flume.record(text), 0) end)
      assert.is_true(fine or message:find("not valid MessagePack", 1, true) ~= nil or
        message:find("Lua", 1, true) ~= nil, message)
    end
  end)
end)

describe("sorted encoding", function()
  -- The same contents, put in in another order.
  local function rebuilt(value)
    if type(value) ~= "table" then return value end
    local keys, copy = {}, {}
    for key in pairs(value) do table.insert(keys, math.random(#keys + 1), key) end
    for _, key in ipairs(keys) do copy["filler" .. tostring(key)] = 1 end
    for _, key in ipairs(keys) do copy["filler" .. tostring(key)] = nil end
    for _, key in ipairs(keys) do copy[key] = rebuilt(value[key]) end
    return setmetatable(copy, getmetatable(value))
  end

  it("gives the same bytes whatever the order of insertion, and the same value", function()
    math.randomseed(SEED)
    for _ = 1, 300 do
      local value = { random_value(4), random_value(4) }
      local bytes = assert(core.encode_sorted(value))
      assert.equal(hex(bytes), hex(assert(core.encode_sorted(rebuilt(value)))))
      assert.is_true(same(flume.decode(bytes), flume.decode(encode(value))))
      assert.equal(#encode(value), #bytes)
    end
  end)

  it("has the keys of a map in the order of their bytes", function()
    assert.equal("83a16101a16202a2616103", hex(core.encode_sorted { b = 2, aa = 3, a = 1 }))
    assert.equal(hex(encode {}), hex(core.encode_sorted {}))
    assert.equal(hex(encode { 1, 2, 3 }), hex(core.encode_sorted { 1, 2, 3 }))
  end)

  it("refuses what can't be stored, with its path", function()
    local value, message, code = core.encode_sorted { a = { b = 1, c = print } }
    assert.same({ nil, "value.a.c: function cannot be stored", "EINVAL" }, { value, message, code })
  end)
end)
