-- The functions that scripts get in place of Lua's: the same results where Lua's are settled, and the same every time
-- where they are not.

local fixture = require "tests.support.fixture"
local seeds = require "tests.support.seeds"


-- A view whose method runs a piece of code.
local RUNNER = [[
  return {version = 1, initial = 0, reducer = function (n) return n + 1 end, methods = {run = "async"},
    run = function (_, code)
      local chunk, message = load(code, "=code")
      if not chunk then return message end
      return chunk()
    end}
]]

local function new_runner(options)
  local db = fixture.memory_db()
  return db:use("v", fixture.write(fixture.dir() .. "/v.lua", RUNNER), options).v
end

local function in_lua(code)
  return table.pack(assert(load(code, "=code"))())
end

-- The values, errors without the place and the way in which a function is named.
local function plain(values)
  for i = 1, values.n do
    if type(values[i]) == "string" then
      values[i] = values[i]:gsub("#%d to '[%w.?]+'", "to 'f'"):gsub("^code:%d: ", "")
    end
  end
  return values
end

-- Each line is an expression whose values are the same in a view and outside.
local EXPRESSIONS = [[
("ab"):rep(3), ("ab"):rep(3, "-"), ("ab"):rep(0), ("ab"):rep(-1, "x"), (""):rep(5), (""):rep(3, "-"), ("a"):rep(1, "-")
("aZ{[@`\xe4"):lower(), ("aZ{[@`\xe4"):upper(), ("x"):upper()
("hello"):byte(), ("hello"):byte(2, 4), ("hello"):byte(-1), ("hello"):byte(10), ("hello"):byte(0, 2)
string.char(), string.char(72, 105), pcall(string.char, 256)
("%s %d %5.2f %q %x %c %%"):format("a", 3, 1.5, "q\n", 255, 65), ("%-5s|%5s"):format("ab", "cd"), ("%i"):format("10")
pcall(string.format, "%d", 1.5), pcall(string.format, "%y", 1), pcall(string.format, "%", 1), pcall(string.format, "%s")
("%s"):format(setmetatable({}, {__tostring = function () return "named" end})), ("%s%s"):format(nil, true)
("%p"):format(1), ("%p"):format(nil), ("%5s%%%p"):format(1, 2)
pcall(string.format, "%s", setmetatable({}, {__tostring = function () return 1 end}))
("i4z"):pack(7, "ab"):byte(1, -1)
("i4z"):unpack(("i4z"):pack(7, "ab")), ("i4i8"):packsize(), pcall(string.unpack, "i4", "abc")
table.pack(1, nil, 3).n, table.pack().n
table.unpack({1, 2, 3}), table.unpack({1, 2, 3}, 2), table.unpack({1, 2, 3}, 2, 5), table.unpack({}, 3, 1)
pcall(table.unpack, {}, 1, 1e8), pcall(table.unpack, {}, math.mininteger, math.maxinteger)
table.unpack({}, math.maxinteger, math.maxinteger), table.unpack({}, math.mininteger, math.mininteger)
table.concat({1, 2, "x"}), table.concat({1, 2, 3}, ", "), table.concat({1, 2, 3}, "-", 2), table.concat({}, "x", 2, 1)
table.concat({1, 2, 3}, "-", 2, 3), pcall(table.concat, {1, {}, 3}), pcall(table.concat, {1}, "", 1, 2)
table.concat({[math.maxinteger] = "m"}, "-", math.maxinteger, math.maxinteger)
(function () local t = {1, 2} table.insert(t, 4) table.insert(t, 1, 0) return table.concat(t) end)()
pcall(table.insert, {1, 2}, 5, 1), pcall(table.insert, {1}, 0, 1), pcall(table.insert, {})
pcall(table.insert, {}, 1, 2, 3)
pcall(table.insert, nil, 1), pcall(table.insert, {}, "x", 1), pcall(table.insert, 5, 5)
(function () local t = {1, 2, 3} return table.remove(t), table.remove(t, 1), #t, table.remove(t), table.remove(t) end)()
table.remove({}), table.remove({}, 0), table.remove({[0] = "z"}, 0), table.remove({1}, 2), pcall(table.remove, {1}, 3)
table.remove({n = 1}, #{}), pcall(table.remove, {1, 2, 3}, -1)
table.unpack(table.move({1, 2, 3}, 1, 3, 2)), table.unpack(table.move({1, 2, 3}, 2, 3, 1))
table.unpack(table.move({1, 2, 3}, 1, 3, 1, {})), table.unpack(table.move({1, 2, 3}, 2, 1, 1, {5}))
pcall(table.move, {}, -1, math.maxinteger, 2), pcall(table.move, {}, 1, math.maxinteger, 2)
pcall(table.move, 1, 2, 3, 4)
(function () local t = {3, 1, 2} table.sort(t) return table.unpack(t) end)()
(function () local t = {3, 1, 2} table.sort(t, function (a, b) return a > b end) return table.unpack(t) end)()
(function () local t = {"b", "a", "", "ab"} table.sort(t) return table.unpack(t) end)()
pcall(table.sort, {1, "x"}), pcall(table.sort, {1, 2}, 5), pcall(table.sort, {1, 2}, function () error "no" end)
pcall(table.sort, nil), table.sort({}), table.sort({1})
utf8.len("aé€"), utf8.len("a\xff"), utf8.len("aé", 2), utf8.len("aé€", -1), pcall(utf8.len, "a", 5), utf8.len("", 1)
utf8.codepoint("aé€", 1, -1), utf8.codepoint("é"), pcall(utf8.codepoint, "\xff")
utf8.offset("aé€", 3), utf8.offset("aé€", -1), utf8.offset("a", 5), utf8.offset("aé€", 0, 3)
pcall(utf8.offset, "é", 1, 2)
(function () local t = {} for p, c in utf8.codes("aé€") do t[#t + 1] = p .. ":" .. c end return table.concat(t) end)()
pcall(function () for _ in utf8.codes("a\xff") do end end)
utf8.char(97, 233, 8364), utf8.char()
select("#"), select("#", nil, nil), select(2, "a", "b", "c"), select(-1, "a", "b"), pcall(select, 0)
tonumber("10"), tonumber("0x1p4"), tonumber("z", 36), tonumber("9", 8), tonumber(""), tonumber("1e1"), tonumber(" 5 ")
pcall(tonumber), pcall(tonumber, "1", 99), "10" + 1, "3" * "4", -"2", "7" // 2, "2" ^ 2
pcall(function () return "x" + 1 end)
math.floor("3.7"), math.max(1, 2.5), math.type(1), math.tointeger("8"), math.pi, math.fmod(7, 3), math.maxinteger
tostring(1), tostring(1.0), tostring("x"), tostring(nil), tostring(true), pcall(tostring)
tostring(setmetatable({}, {__tostring = function () return "t" end}))
pcall(setmetatable, 1, {}), pcall(setmetatable, {}, 1), pcall(setmetatable, setmetatable({}, {__metatable = 1}), {})
getmetatable(setmetatable({}, {__metatable = "m"})), getmetatable(setmetatable({}, nil))
select("#", pcall(error)), pcall(error, nil), pcall(error, {}) == false, select(2, pcall(error, "m", 0))
xpcall(function (x) return x end, print, 5), xpcall(error, function (m) return m .. "!" end, "e")
(function () local f = coroutine.wrap(function (a) local b = coroutine.yield(a) return b end) return f(1), f(5) end)()
(function () local co = coroutine.create(error) return coroutine.resume(co, 1), coroutine.status(co) end)()
(function () local co = coroutine.wrap(function () error {} end) local ok, e = pcall(co) return ok, type(e) end)()
(function () local co = coroutine.wrap(function () return 1 end) co() return pcall(co) end)()
(function () local co = coroutine.create(coroutine.yield) coroutine.resume(co) return coroutine.close(co) end)()
load("return 1 + 1")(), select("#", load("x =")), load("return ...", "n", "t")(7), load(function () end) ~= nil
(function () local p = {"return ", "4", "2"} local i = 0 return load(function () i = i + 1 return p[i] end)() end)()
(function () local t = {} for k, v in pairs({10, 20, 30}) do t[#t + 1] = k .. "=" .. v end return table.unpack(t) end)()
next({}), next({7}), next({7}, 1), pcall(next), next({a = 1})
(function () local t = {} for i = 1, 20 do t[i] = i end for k in pairs(t) do t[k] = nil end return next(t) end)()
(function () for k in pairs(setmetatable({}, {__pairs = function () return next, {1} end})) do return k end end)()
xpcall(error, function () error "y" end, "x"), xpcall(error, function (m) return m.x.y end, "x"), pcall(xpcall,
  print, 1)
(function () local n = 0 return xpcall(error, function (m) n = n + 1 if n < 3 then error(n, 0) end return m, 5 end,
  "x") end)()
xpcall(function () return coroutine.isyieldable() end, print), select("#", xpcall(error, function () return 1, 2,
  3 end))
(function () local co co = coroutine.wrap(function () return pcall(co) end) return co() end)()
(function () local co co = coroutine.create(function () return pcall(coroutine.close, co) end) return
  coroutine.resume(co) end)()
(function () local co co = coroutine.create(function () return coroutine.resume(co) end) return
  coroutine.resume(co) end)()
(function () local f = coroutine.wrap(function () return pcall(coroutine.yield, 1) end) return f(), f(2, 3) end)()
(function () local f = coroutine.wrap(function () return xpcall(coroutine.yield, print, 1) end) return f(), f(2, 3)
  end)()
(function () local t = setmetatable({}, {__pairs = function (t) return coroutine.yield(7), t, 1 end}) local f =
  coroutine.wrap(function () return pairs(t) end) return f(), select("#", f(next)) end)()
(function () local co = coroutine.create(function () local x <close> = setmetatable({}, {__close = function ()
  error("c", 0) end}) coroutine.yield() end) coroutine.resume(co) return coroutine.close(co) end)()
pcall(load), pcall(load, 1), pcall(load, {})
pcall(pairs), rawlen({1, 2}), rawequal("a", "a"), rawget({a = 1}, "a"), #rawset({}, 1, 2)
]]

describe("a function of the library in a view", function ()
  local view

  setup(function () view = new_runner() end)
  teardown(fixture.clean)

  local number = 0
  for line in EXPRESSIONS:gsub("\n +", " "):gmatch "[^\n]+" do -- an indented line goes on with the one before
    number = number + 1
    it(("gives what Lua's gives: %d %s"):format(number, line:sub(1, 60)), function ()
      local code = "return " .. line
      assert.same(plain(in_lua(code)), plain(table.pack(view:run(code))))
    end)
  end
end)

describe("load in a view", function ()
  after_each(fixture.clean)

  it("answers with the error of its reader, as Lua's does", function ()
    local view = new_runner()
    assert.same({nil, "reader"}, {view:run "return load(function () error('reader', 0) end)"})
    assert.same({nil, "reader function must return a string"}, {view:run "return load(function () return {} end)"})
  end)
end)

-- Code that works on random tables; it gives a text.
local RANDOM = [[
  local seed, n = %d, 0
  local function random(most)
    seed = (seed * 1103515245 + 12345) %% 2147483648
    return seed // 65536 %% most + 1
  end
  local log = {}
  local t = {}
  for i = 1, 60 do
    local what = random(7)
    if what <= 3 then table.insert(t, random(50))
    elseif what == 4 then table.insert(t, random(#t + 1), random(50))
    elseif what == 5 and #t > 0 then log[#log + 1] = table.remove(t, random(#t))
    elseif what == 6 then log[#log + 1] = tostring(table.remove(t))
    else table.move(t, 1, random(#t + 1) - 1, random(math.min(5, #t + 1))) end
    log[#log + 1] = table.concat(t, " ")
  end
  table.sort(t)
  log[#log + 1] = table.concat(t, " ")
  table.sort(t, function (a, b) return a > b end)
  log[#log + 1] = table.concat(t, " ")
  return table.concat(log, "\n")
]]

describe("the functions of tables in a view", function ()
  after_each(fixture.clean)

  it("do what Lua's do, for random tables", function ()
    local view = new_runner()
    local seed = seeds.take()
    for i = 1, 200 do
      local code = RANDOM:format(seed + i)
      assert.equal(in_lua(code)[1], view:run(code))
    end
  end)

  it("keep the order of equal elements when they sort", function ()
    local view = new_runner()
    assert.is_true(view:run [[
      local list = {}
      for i = 1, 3000 do list[i] = {key = i * 7919 % 13, at = i} end
      table.sort(list, function (a, b) return a.key < b.key end)
      for i = 2, #list do
        local a, b = list[i - 1], list[i]
        if a.key > b.key or a.key == b.key and a.at > b.at then return false end
      end
      return true
    ]])
  end)
end)

local KEYS = [[{
  [3] = 1, [1] = 1, [2] = 1, [10] = 1, [7] = 1, [0] = 1, [-5] = 1, [2.5] = 1, [-0.5] = 1, [1e300] = 1, [1 << 60] = 1,
  b = 1, a = 1, [""] = 1, ab = 1, ["a\0b"] = 1, ["\xff"] = 1, abcdefghij = 1, abcdefghia = 1, [true] = 1, [false] = 1,
}]]

local ORDER = {1, 2, 3, 7, 10, 1 << 60, -5, 0, -0.5, 2.5, 1e300, "", "a", "a\0b", "ab", "abcdefghia", "abcdefghij", "b",
  "\xff", false, true}

describe("the order of keys in a view", function ()
  local view

  setup(function () view = new_runner() end)
  teardown(fixture.clean)

  it("of pairs depends on the keys alone", function ()
    local code = "local keys = {} for k in pairs(" .. KEYS .. ") do keys[#keys + 1] = k end return keys"
    assert.same(ORDER, view:run(code))
  end)

  it("of next is the same", function ()
    assert.same(ORDER, view:run("local keys = {} for k in next, " .. KEYS .. " do keys[#keys + 1] = k end return keys"))
    assert.same(ORDER, view:run([[
      local keys, t, other = {}, ]] .. KEYS .. [[, {x = 1, y = 2}
      local k = next(t)
      while k ~= nil do
        keys[#keys + 1] = k
        for _ in next, other do end
        k = next(t, k)
      end
      return keys
    ]]))
  end)

  it("does not depend on the order of insertion", function ()
    assert.equal(1, view:run [[
      local function keys_of(from, to, step)
        local t, keys = {}, {}
        for i = from, to, step do t["key" .. i], t[i * 3] = i, i end
        for k in pairs(t) do keys[#keys + 1] = tostring(k) end
        return table.concat(keys, " ")
      end
      local found, count = {}, 0
      for _, list in ipairs {keys_of(1, 500, 1), keys_of(500, 1, -1)} do
        if not found[list] then count = count + 1 end
        found[list] = true
      end
      return count
    ]])
  end)

  it("leaves out what is cleared on the way, also by next", function ()
    for _, loop in ipairs {"pairs(t)", "next, t"} do
      assert.equal("c-1 1 2 a b", view:run([[
        local t, keys = {[1] = 1, [2] = 1, [-1] = 1, a = 1, b = 1, c = 1}, {}
        for k in ]] .. loop .. [[ do
          keys[#keys + 1] = k
          t[k], t.c = nil, nil
        end
        return (next(t) == nil and "c" or "") .. table.concat({keys[3], table.unpack(keys, 1, 2)}, " ")
          .. " " .. keys[4] .. " " .. keys[5]
      ]]))
    end
  end)

  it("goes through all keys that have no order", function ()
    assert.equal(300, view:run [[
      local t, n = {}, 0
      for i = 1, 100 do t[{}], t[function () return i end], t[coroutine.create(print)] = i, i, i end
      for k, v in next, t do n = n + 1 t[k] = nil end
      return next(t) == nil and n
    ]])
  end)

  it("of very many keys is the same, with pairs and next, and in part after a break", function ()
    assert.same({true, true, 100000, "k000001", "k050000"}, {view:run [[
      local t, expected, others = {}, {}, {}
      for i = 1, 99996 do
        local key = ("k%06d"):format(i * 7919 % 99997)
        t[key], expected[i] = i, key
      end
      table.sort(expected)
      table.insert(expected, 1, -5)
      table.insert(expected, 2, 1.5)
      t[-5], t[1.5] = 1, 1
      for i = 1, 2 do local key = {} t[key], others[key] = 1, true end
      local function is_right(...)
        local n = 0
        for k in ... do
          n = n + 1
          if n <= #expected and k ~= expected[n] or n > #expected and not others[k] then return false end
        end
        return n == #expected + 2, n
      end
      local first, n = is_right(pairs(t))
      local behind = next(t, "k049999")
      for k in pairs(t) do if k == "k000001" then others = k break end end
      local second = n
      n = 0
      for k in next, t do n = n + 1 end
      return first, second == n, n, others, behind
    ]]})
  end)

  it("of very many keys leaves out what is cleared on the way, and goes on behind it", function ()
    assert.same({50000, 0, 70000}, {view:run [[
      local t = {}
      for i = 1, 100000 do t[i * 2 + 0.5] = i end
      local n, last = 0, nil
      for k in pairs(t) do
        n = n + 1
        t[k], t[k + 2] = nil, nil
      end
      local left, objects = 0, {}
      for _ in pairs(t) do left = left + 1 end
      for i = 1, 70000 do objects[{}] = i end
      local found = 0
      for k in next, objects do found = found + 1 objects[k] = nil end
      return n, left, found
    ]]})
  end)

  it("of very many keys takes little memory", function ()
    local small = new_runner {memory = 120 << 20}
    assert.equal(1000000, small:run [[
      local t = {}
      for i = 1, 1000000 do t[i + 0.5] = true end
      for _ = 1, 3 do
        for k in pairs(t) do break end
      end
      local n = 0
      for k in pairs(t) do n = n + 1 end
      return n
    ]])
  end)

  it("of pairs over a record is the record's", function ()
    local db = fixture.memory_db()
    db:use("v", fixture.write(fixture.dir() .. "/v.lua", [[
      return {version = 1, initial = "", reducer = function (_, item)
        local keys = {}
        for k in pairs(item) do keys[#keys + 1] = k end
        return table.concat(keys)
      end}
    ]]))
    db:append {b = 1}
    assert.equal("b", db.v:get())
  end)
end)

describe("a name in a view", function ()
  after_each(fixture.clean)

  it("shows no address", function ()
    local view = new_runner()
    local code = [[
      local t, f, co = {}, function () end, coroutine.create(print)
      return tostring(t), tostring(f), tostring(co), tostring(print), tostring(t), ("%s %s"):format(t, {}),
        ("%p %p %10p|%-12p|"):format(t, f, t, "s") == ("%p %p %10p|%-12p|"):format(t, f, t, "s"),
        tostring(setmetatable({}, {__name = "thing"})), select(2, pcall(error, t)) == t
    ]]
    local expected = {"table: 1", "function: 2", "thread: 3", "function: 4", "table: 1", "table: 1 table: 5", true,
      "thing: 7", true}
    assert.same(expected, {view:run(code)})
    assert.same(expected, {new_runner():run(code)})
    assert.same(expected, {view:run(code)}) -- each call numbers anew
  end)

  it("is the same for one object, and another for another", function ()
    assert.is_true(new_runner():run [[
      local seen, kept = {}, {}
      for i = 1, 5000 do
        local t = {}
        if seen[tostring(t)] then return false end
        seen[tostring(t)], kept[i] = t, t
      end
      for name, t in pairs(seen) do
        if tostring(t) ~= name then return false end
      end
      return true
    ]])
  end)

  it("of an error object has none either: it is shown as its content, or by its number", function ()
    for raised, shown in pairs {["{}"] = "an error object: []", ["{print}"] = "table: 1"} do
      local db = fixture.memory_db()
      db:use("v", fixture.write(fixture.dir() .. "/v.lua",
        ("return {version = 1, reducer = function () error %s end}"):format(raised)))
      db:append(1)
      local _, message = db.v:get()
      assert.is_truthy(message:find(shown, 1, true), message)
      local _, of_call = new_runner():run("error " .. raised)
      assert.is_truthy(of_call:find(shown, 1, true), of_call)
    end
  end)
end)

describe("a metatable in a view", function ()
  after_each(fixture.clean)

  it("has neither __gc nor __mode", function ()
    local view = new_runner()
    for _, field in ipairs {"__gc", "__mode"} do
      local ok, message = view:run(("return pcall(setmetatable, {}, {%s = 'k'})"):format(field))
      assert.is_false(ok)
      assert.is_truthy(message:find(field .. " is not available"), message)
    end
  end)

  it("does not get __mode afterwards", function ()
    local view = new_runner()
    local value, message = view:run "local m = {} setmetatable({}, m) m['__mo' .. 'de'] = 'k' rawset(_G, 'm', m)"
    assert.is_nil(value)
    assert.is_truthy(message:find "__mode is not available", message)
    local db = fixture.memory_db()
    db:use("v", fixture.write(fixture.dir() .. "/v.lua", [[
      local m = {}
      local t = setmetatable({}, m)
      return {version = 1, reducer = function () m.__mode = "v" end}
    ]]))
    db:append(1)
    local _, failure, code = db.v:get()
    assert.equal("EVIEW", code)
    assert.is_truthy(failure:find "__mode is not available", failure)
  end)

  it("does not get __gc afterwards", function ()
    local view = new_runner()
    assert.is_nil(view:run [[
      ran = nil
      do
        local m = {}
        local t = setmetatable({}, m)
        m.__gc = function () ran = true end
      end
      local garbage = {}
      for i = 1, 200000 do garbage[i % 10] = {i} end
      return ran
    ]])
  end)
end)
