-- What a script can't do to the thread that it runs on: each of these ends with the view's own error, soon, while the
-- database and the views beside it go on.

local flume = require "flume"
local fixture = require "tests.support.fixture"

local SOON_S = 5 -- of processor time; most take some milliseconds

-- A database with a view "v", which has a sibling, of a reducer with the body.
local function with_reducer(body, options)
  local db = fixture.memory_db()
  db:use("good", flume.reduce(1, function (n) return n + 1 end, 0))
  local source = ("return {version = 1, initial = 0, reducer = function (acc, item, seq) %s end}"):format(body)
  return db:use("v", fixture.write(fixture.dir() .. "/v.lua", source), options)
end

-- The error that the view's reads answer after one record.
local function failure_of(body, options, record)
  local db = with_reducer(body, options)
  local start = os.clock()
  db:append(record or {n = 1})
  local value, message, code = db.v:get()
  assert.is_true(os.clock() - start < SOON_S, "it took " .. os.clock() - start .. " s")
  assert.is_nil(value)
  assert.equal("EVIEW", code)
  assert.equal(1, db.good:get())
  db:append {n = 2}
  assert.equal(2, db.good:get())
  return message
end

local BUDGET = {budget = 10 * 1000 * 1000, memory = 64 << 20}

local function describe_cases(what, cases, record)
  describe(what, function ()
    after_each(fixture.clean)

    for name, body in pairs(cases) do
      it(name, function ()
        local message = failure_of((body:gsub("SPIN", "function () while true do end end")), BUDGET, record)
        assert.is_truthy(message:find "instruction budget" or message:find "not enough memory", message)
      end)
    end
  end)
end

describe_cases("a pattern that takes too long", {
  ["with many repetitions"] = "return string.find(('a'):rep(40), ('.-'):rep(8) .. 'b')",
  ["as a method"] = "return ('a'):rep(40):match(('a*'):rep(8) .. 'b')",
  ["in gmatch"] = "for x in ('a'):rep(100000):gmatch('.-.-b') do return x end",
  ["in gsub"] = "return (('a'):rep(100000):gsub('.-.-b', ''))",
  ["with a long set"] = "return ('a'):rep(1000000):find('[' .. ('b'):rep(1000000) .. ']')",
  ["with balances"] = "return ('('):rep(1000000):find('%b()')",
  ["with references"] = "return ('a'):rep(1000000):find('(.*)%1b')",
  ["with a frontier"] = "return ('a'):rep(1000000):find('%f[' .. ('b'):rep(1000000) .. ']')",
  ["again and again"] = "while true do ('a'):rep(100000):find('b') end",
  ["in a callback"] = "while true do pcall(string.gsub, 'aaa', 'a', function () while true do end end) end",
})

describe_cases("much work in one call of a string function", {
  ["rep"] = "return ('x'):rep(1 << 40)",
  ["rep of a separator"] = "return (''):rep(1 << 60, 'x')",
  ["rep again and again"] = "while true do local _ = ('x'):rep(10000000) end",
  ["byte"] = "local s = ('a'):rep(500000) while true do s:byte(1, -1) end",
  ["lower"] = "local s = ('A'):rep(1000000) while true do s:lower() end",
  ["reverse"] = "local s = ('A'):rep(1000000) while true do s:reverse() end",
  ["format"] = "local s = ('x'):rep(1000000) while true do local _ = ('%s%q'):format(s, s) end",
  ["format with wide fields"] = [[
    local f, t = ('%99d'):rep(100), {}
    for i = 1, 100 do t[i] = i end
    while true do f:format(table.unpack(t)) end]],
  ["pack"] = "while true do ('c10000000'):pack('') end",
  ["a long format of packsize"] = "local f = ('!16 Xi16 '):rep(100000) while true do f:packsize() end",
  ["a long format of unpack"] = [[
    local f, s = ('x'):rep(1000000), ('\0'):rep(1000000)
    while true do f:unpack(s) end]],
  ["tonumber"] = "local s = ('0'):rep(1000000) while true do tonumber(s) end",
  ["arithmetic"] = "local s = ('0'):rep(1000000) while true do local _ = s + 1 end",
  ["utf8.len"] = "local s = ('a'):rep(1000000) while true do utf8.len(s) end",
  ["utf8.offset"] = "local s = ('a'):rep(1000000) while true do utf8.offset(s, 900000) end",
  ["utf8.codepoint"] = "local s = ('a'):rep(200000) while true do utf8.codepoint(s, 1, -1) end",
  ["utf8.char"] = "local t = {} for i = 1, 200000 do t[i] = 65 end while true do utf8.char(table.unpack(t)) end",
  ["utf8.codes"] = [[
    local s = 'a' .. ('\x80'):rep(10000000)
    while true do pcall(function () for _ in utf8.codes(s) do end end) end]],
  ["concatenation"] = "local s = ('x'):rep(1000000) while true do local _ = s .. s end",
  ["concatenation that doubles"] = "local s = 'x' while true do s = s .. s end",
  ["concatenation bit by bit"] = "local s = '' while true do s = s .. 'xxxxxxxxxxxxxxxxxxxxxxxxx' end",
  ["comparing"] = "local a, b = ('x'):rep(9000000) .. 1, ('x'):rep(9000000) .. 2 while true do local _ = a < b end",
  ["numbers in math"] = "local s = ('0'):rep(1000000) while true do math.floor(s) end",
})

describe_cases("much work in one call of a table function", {
  ["move"] = "table.move({}, 1, 1 << 60, 2)",
  ["move to another table"] = "table.move({}, 1, 1 << 60, 2, {})",
  ["insert"] = "table.insert(setmetatable({}, {__len = function () return 1 << 60 end}), 1, 1)",
  ["remove"] = "table.remove(setmetatable({}, {__len = function () return 1 << 60 end}), 1)",
  ["concat"] = [[
    table.concat(setmetatable({}, {__len = function () return 1 << 60 end, __index = function () return '' end}))]],
  ["concat of all integers"] = "table.concat({}, '', math.mininteger, math.maxinteger)",
  ["unpack"] = "while true do local _ = table.unpack({}, 1, 500000) end",
  ["unpack of what can't be"] = [[
    local t = setmetatable({}, {__len = function () return 1 << 60 end})
    while true do pcall(table.unpack, t) end]],
  ["pack"] = [[
    local t = {}
    for i = 1, 200000 do t[i] = i end
    while true do table.pack(table.unpack(t)) end]],
  ["sort"] = "table.sort(setmetatable({}, {__len = function () return 1 << 30 end}))",
  ["sort of long strings"] = [[
    local t = {}
    for i = 1, 200 do t[i] = ('a'):rep(100000) .. i end
    while true do table.sort(t) end]],
  ["sort in no order"] = [[
    local t = {}
    for i = 1, 300000 do t[i] = i end
    while true do table.sort(t, function () return true end) end]],
  ["next"] = "local t = {} for i = 1, 100000 do t['k' .. i] = 1 end while true do next(t) end",
  ["pairs"] = [[
    local t = {}
    for i = 1, 100000 do t['k' .. i] = 1 end
    while true do for _ in pairs(t) do break end end]],
  ["select"] = "local function f(...) while true do select(2, ...) end end f(table.unpack({}, 1, 200000))",
  ["arguments that are passed on"] = [[
    local function g() end
    local function f(...) while true do g(...) end end
    f(table.unpack({}, 1, 200000))]],
  ["arguments that become more"] = "local function f(...) return f(1, ...) end f()",
  ["growing"] = "local t = {} while true do t[#t + 1] = #t end",
})

describe_cases("loading", {
  ["a long text"] = "local s = ('-'):rep(1000000) while true do load(s) end",
  ["a text without end"] = "local s = '--' .. ('-'):rep(1000000) load(function () return s end)",
  ["from an endless function"] = "load(function () while true do end end)",
  ["deep nesting"] = "while true do load(('('):rep(1000)) end",
})

local large = {list = {}}
for i = 1, 200000 do large["key" .. i], large.list[i] = i, {i} end

describe_cases("work on a large record", {
  ["a key that it lacks"] = "while true do local _ = item.missing end",
  ["elements from the end on"] = [[
    local list = item.list
    while true do for i = 200000, 1, -1 do local _ = list[i] end end]],
  ["a copy"] = "local flume = require 'flume' while true do flume.table(item) end",
  ["pairs"] = "while true do for _ in pairs {item} do for _ in pairs(item) do end end end",
}, large)

describe("copies of a record that memory is too short for", function ()
  after_each(fixture.clean)

  it("end soon, wherever memory runs out", function ()
    -- Lua can't enlarge its table of strings, and collects for each one
    local many = {}
    for i = 1, 70000 do many["key" .. i] = "value" .. i end
    for megabytes = 6, 22, 2 do
      local message = failure_of("while true do require 'flume'.table(item) end",
        {budget = BUDGET.budget, memory = megabytes << 20}, many)
      assert.is_truthy(message:find "instruction budget" or message:find "not enough memory", message)
      fixture.clean()
    end
  end)
end)

describe_cases("recursion", {
  ["of calls"] = "local function f() return 1 + f() end f()",
  ["that is caught"] = "local function f() return 1 + f() end while true do pcall(f) end",
  ["through pcall"] = "local function f() pcall(f) f() end f()",
  ["through gsub"] = "local function f() return (('a'):gsub('a', f)) end while true do pcall(f) end",
  ["through coroutines"] = "local function f() coroutine.wrap(f)() end while true do pcall(f) end",
  ["through __tostring"] = [[
    local t = setmetatable({}, {})
    getmetatable(t).__tostring = function () return tostring(t) end
    while true do pcall(tostring, t) end]],
  ["through __pairs"] = "local t = setmetatable({}, {__pairs = pairs}) while true do pcall(pairs, t) end",
  ["through __index"] = [[
    local t = setmetatable({}, {})
    getmetatable(t).__index = t
    while true do pcall(function () return t.x end) end]],
  ["that branches"] = "local function f(n) if n < 2 then return n end return f(n - 1) + f(n - 2) end return f(60)",
})

describe_cases("one instruction that is worth many", {
  ["a table that calls itself"] = "local t = setmetatable({}, {}) getmetatable(t).__call = t t()",
  ["tables that call each other, in a coroutine"] = [[
    local a, b = setmetatable({}, {}), setmetatable({}, {})
    getmetatable(a).__call, getmetatable(b).__call = b, a
    coroutine.wrap(function () while true do pcall(a, 1, 2, 3) end end)()]],
  ["a numeral as an argument"] = "local s = ('0'):rep(7900000) while true do local _ = ('x'):rep(s) end",
  ["a hash"] = "local f, s = require 'flume', ('a'):rep(5000000) while true do f.hash(s) end",
  ["a hash of a list"] = [[
    local f, t = require 'flume', {}
    for i = 1, 300000 do t[i] = i end
    while true do f.hash(t) end]],
  ["a question of kind"] = [[
    local f, t = require 'flume', {}
    for i = 1, 300000 do t[i] = i end
    while true do f.is_array(t) end]],
  ["a table that was emptied"] = [[
    local t = {}
    for i = 1, 500000 do t[i + 0.5] = 1 end
    for i = 1, 500000 do t[i + 0.5] = nil end
    while true do next(t) end]],
})

-- What nests on the C stack must end before that is full.
describe("coroutines that close each other", function ()
  after_each(fixture.clean)

  it("end with an error, not with the process", function ()
    local db = with_reducer([[
      local last
      for i = 1, 20000 do
        local before = last
        last = coroutine.create(function ()
          local x <close> = setmetatable({}, {__close = function ()
            if before then acc = acc + 1 assert(coroutine.close(before)) end
          end})
          coroutine.yield()
        end)
        coroutine.resume(last)
      end
      local closed, message = coroutine.close(last)
      return {closed, message, acc}]], BUDGET)
    db:append {n = 1}
    local closed, message, depth = table.unpack(db.v:get())
    assert.is_false(closed)
    assert.is_truthy(message:find "C stack overflow", message)
    assert.equal(100, depth)
  end)
end)

-- The thread of the caller: a method that is "sync", and a script while it is loaded.
describe("the caller waits for less than a second, at", function ()
  after_each(fixture.clean)

  local CHAIN = "local t = {} for i = 1, 1900 do t = setmetatable({}, {__index = t}) end "
  local EMPTIED = [[
    local t = {}
    for i = 1, 1000000 do t[i * 1.5] = 1 end
    for i = 1, 1000000 do t[i * 1.5] = nil end ]]
  local names = {}
  for _ = 1, 90 do
    names[#names + 1] = "local function f() "
    for i = 1, 150 do names[#names + 1] = "local a" .. i .. " " end
  end
  local NAMES = table.concat(names) .. (" g = g"):rep(30000) .. (" end"):rep(90)

  for name, body in pairs {
    ["a loop"] = "while true do end",
    ["calls"] = "local t = setmetatable({}, {}) getmetatable(t).__call = t while true do pcall(t) end",
    ["chains of __index"] = CHAIN .. "while true do local _ = t.x end",
    ["chains of __index in table.move"] = CHAIN .. "table.move(t, 1, 1 << 23, 1, {})",
    ["chains of __index in gsub"] = CHAIN .. "return ('a'):rep(1000000):gsub('a', t)",
    ["an emptied table"] = EMPTIED .. "while true do next(t) end",
    ["an emptied table, with pairs"] = EMPTIED .. "while true do for _ in pairs(t) do end end",
    ["an emptied table in the result"] = EMPTIED .. "local u = {} for i = 1, 300000 do u[i] = t end return u",
    ["comparing"] = "local a, b = ('x'):rep(5e7) .. 1, ('x'):rep(5e7) .. 2 while true do local _ = a < b end",
    ["gsub"] = "return (('a'):rep(50000000):gsub('a', 'bb'))",
    ["load of elseif"] = [[
      local s = 'if x then ' .. ('elseif x then '):rep(100000) .. ' end'
      while true do load(s) end]],
    ["load of and"] = "local s = 'return a' .. (' and a'):rep(100000) while true do load(s) end",
    ["load of goto"] = "local s = (' goto a'):rep(100000) .. ' ::a::' while true do load(s) end",
    ["load of break"] = [[
      local s = 'while x do' .. (' if x then break end'):rep(100000) .. ' end'
      while true do load(s) end]],
    ["load of names"] = ("local s = %q while true do assert(load(s)) end"):format(NAMES),
  } do
    it(name, function ()
      local db, path = fixture.memory_db(), fixture.dir() .. "/v.lua"
      db:use("v", fixture.write(path, ([[
        local function f() %s end
        return {version = 1, initial = 0, reducer = function (n) return n + 1 end, methods = {f = "sync"}, f = f}
      ]]):format(body)))
      db:append {n = 1}
      assert.equal(1, db.v:get())
      local start = os.clock()
      local value, message = db.v:f()
      assert.is_true(os.clock() - start < 1, "the method took " .. os.clock() - start .. " s")
      assert.is_nil(value)
      assert.is_truthy(message:find "instruction budget" or message:find "not enough memory" or
        message:find "more than can be stored", message)
      start = os.clock()
      assert.is_false(pcall(db.use, db, "w", fixture.write(path, body)))
      assert.is_true(os.clock() - start < 1, "loading took " .. os.clock() - start .. " s")
    end)
  end

  it("a script that compiles for long", function ()
    local start = os.clock()
    for _, source in ipairs {"if x then " .. ("elseif x then "):rep(100000) .. "end", NAMES:rep(10)} do
      local db, path = fixture.memory_db(), fixture.write(fixture.dir() .. "/v.lua", source)
      local ok, message = pcall(db.use, db, "v", path)
      assert.is_false(ok)
      assert.is_truthy(tostring(message):find "instruction budget", tostring(message))
    end
    assert.is_true(os.clock() - start < 1, "it took " .. os.clock() - start .. " s")
  end)
end)

-- Goes through all that a script can reach, and calls what can be called; gives the metatables that getmetatable gave.
local CRAWLER = [[
  local seen, own, found = {}, {}, {}
  local flume = require "flume"
  local function visit(value, item)
    local kind = type(value)
    if kind == "nil" or kind == "number" or kind == "boolean" or seen[value] then return end
    seen[value] = true
    local metatable = getmetatable(value)
    if type(metatable) == "table" and not own[metatable] then found[#found + 1] = tostring(value) end
    if kind == "table" then
      for k, v in next, value do visit(k, item) visit(v, item) end
    elseif kind == "userdata" and value ~= flume.null then
      pcall(function () for k, v in pairs(value) do visit(k, item) visit(v, item) end end)
    elseif kind == "function" and value ~= print and value ~= load then
      for _, arguments in ipairs {
        {}, {{}}, {1}, {"x"}, {item}, {function () return 1 end}, {flume.observable(1), print}, {{}, "x"},
        {{1}, 1, 2, 3}, {"x", 1, 2}, {"x", "x", "x"}, {item, item}, {coroutine.create(print), 1}, {math.huge, -1},
        {print, print, print},
      } do
        local results = table.pack(pcall(value, table.unpack(arguments)))
        for i = 2, results.n do visit(results[i], item) end
      end
    end
  end
  for _, value in ipairs {
    _G, flume, item, flume.array {1}, flume.map {}, flume.observable(1), flume.table(item), "text",
    coroutine.create(print),
  } do
    visit(value, item)
  end
  visit(emit, item)
]]

describe("a metatable of the host", function ()
  after_each(fixture.clean)

  it("is nowhere in reach of a script", function ()
    local db = with_reducer(CRAWLER .. "return {#found, table.concat(found, ' '), type(getmetatable(flume.array {}))}")
    db:use("i", fixture.write(fixture.dir() .. "/i.lua",
      ("return {version = 1, indexer = function (item, seq, emit) %s emit(#found) end}"):format(CRAWLER)))
    db:append {n = 1, list = {1, {2}}, text = "x"}
    assert.same({0, "", "boolean"}, (assert(db.v:get())))
    assert.equal(1, (assert(db.i:count {gte = 0, lte = 0})))
  end)

  it("is not in the caller's state either", function ()
    local db = fixture.memory_db()
    db:use("v", fixture.write(fixture.dir() .. "/v.lua", [[
      local flume = require "flume"
      local own = {}
      assert(getmetatable(flume.array {}) == false and getmetatable(flume.observable(1)) == false)
      assert(getmetatable(setmetatable({}, own)) == own and getmetatable("x") == nil and getmetatable({}) == nil)
      return {create = function ()
        return {since = flume.observable(-1), create_sink = function () return function () end end,
          close = function () end, destroy = function () end, methods = {}}
      end}
    ]]), {trusted = false})
  end)

  it("can't get a finalizer, which would run for ever when the view is closed", function ()
    local db = with_reducer([[
      local flume = require "flume"
      for _, value in ipairs {flume.array {}, flume.map {}, flume.observable(1), item} do
        local metatable = getmetatable(value)
        if type(metatable) == "table" then
          metatable.__gc = function () while true do end end
          metatable.__mode = "k"
        end
      end
      local kept = {}
      local mine = setmetatable({}, {})
      getmetatable(mine).__gc = function () while true do end end
      for i = 1, 100 do kept[i] = {flume.array {}, flume.map {}, flume.observable(i)} end
      return #kept]])
    db:append {n = 1}
    assert.equal(100, db.v:get())
    local start = os.clock()
    assert.is_true(db:close())
    assert.is_true(os.clock() - start < 1)
  end)
end)

describe_cases("the error of a spent budget is not held up", {
  ["by pcall"] = "while true do pcall(SPIN) end",
  ["by xpcall"] = "while true do xpcall(SPIN, SPIN) end",
  ["by the handler of xpcall"] = "xpcall(error, SPIN)",
  ["by resume"] = "while true do coroutine.resume(coroutine.create(SPIN)) end",
  ["by wrap"] = "while true do pcall(coroutine.wrap(SPIN)) end",
  ["by many short coroutines"] = "while true do coroutine.wrap(function () for i = 1, 60 do end end)() end",
  ["by close"] = [[
    local co = coroutine.create(function ()
      local x <close> = setmetatable({}, {__close = SPIN})
      coroutine.yield()
    end)
    coroutine.resume(co)
    while true do coroutine.close(co) end]],
  ["by __close"] = "local x <close> = setmetatable({}, {__close = SPIN}) while true do end",
  ["by __close in a coroutine"] = [[
    local co = coroutine.wrap(function ()
      local x <close> = setmetatable({}, {__close = SPIN})
      while true do end
    end)
    while true do pcall(co) end]],
  ["by many __close"] = "local function f() local x <close> = setmetatable({}, {__close = SPIN}) f() end f()",
  ["by an error of __close"] = [[
    while true do
      pcall(function ()
        local x <close> = setmetatable({}, {__close = function () error 'another' end})
        while true do end
      end)
    end]],
  ["by sort"] = "while true do pcall(table.sort, {1, 2, 3}, SPIN) end",
  ["by assert"] = "while true do assert(pcall(SPIN)) end",
  ["by load"] = "while true do load(SPIN) end",
  ["by __index"] = "local t = setmetatable({}, {__index = SPIN}) while true do pcall(function () return t.x end) end",
  ["by __lt"] = [[
    local m = {__lt = SPIN}
    local a, b = setmetatable({}, m), setmetatable({}, m)
    while true do pcall(table.sort, {a, b}) end]],
  ["by __tostring"] = [[
    local t = setmetatable({}, {__tostring = SPIN})
    while true do pcall(string.format, '%s', t) end]],
  ["by __pairs"] = "local t = setmetatable({}, {__pairs = SPIN}) while true do pcall(pairs, t) end",
  ["by __concat"] = [[
    local t = setmetatable({}, {__concat = SPIN})
    while true do pcall(function () return t .. 1 end) end]],
  ["by the __tostring of an error"] = "error(setmetatable({}, {__tostring = SPIN}))",
  ["by an iterator in C"] = "for _ in rawlen, {1} do end",
  ["by goto"] = "::again:: goto again",
  ["when memory was short"] = [[
    local t = {}
    while true do pcall(function () t[#t + 1] = ('x'):rep(1 << 20) .. #t end) end]],
  ["when memory was short in coroutines"] = [[
    local t = {}
    while true do pcall(coroutine.wrap(function () t[#t + 1] = ('x'):rep(1 << 20) .. #t end)) end]],
})

-- A value that takes little memory and stands for much.
local SHARED = "local t = {} for i = 1, 60 do t = {t, t} end "

describe("what a view gives out", function ()
  after_each(fixture.clean)

  it("is at most as large as its memory limit", function ()
    local db = fixture.memory_db()
    db:use("v", fixture.write(fixture.dir() .. "/v.lua", ([[
      return {version = 1, initial = 0, reducer = function (n) return n + 1 end,
        methods = {much = "async", sum = "async"},
        much = function () SHARED return t end, sum = function () return 1 end}
    ]]):gsub("SHARED", SHARED)), BUDGET)
    local value, message = db.v:much()
    assert.is_nil(value)
    assert.is_truthy(message:find "more than the view may have in memory", message)
    assert.equal(1, db.v:sum())
  end)

  it("includes its state, of at most the memory limit", function ()
    for _, body in ipairs {
      SHARED .. "return t",
      "local s, t = ('x'):rep(1000000), {} for i = 1, 100000 do t[i] = s end return t",
    } do
      local db = with_reducer(body, BUDGET)
      db:append {n = 1}
      local value, message = db.v:get()
      assert.is_nil(value)
      local by_memory, by_time = "more than the view may have in memory", "more than can be stored in"
      assert.is_truthy(message:find(by_memory) or message:find(by_time), message) -- whichever is used up first
      assert.equal(1, db.good:get())
    end
  end)

  it("by emit counts as memory, and as work", function ()
    for _, body in ipairs {
      "while true do emit('k') end", "local s = ('x'):rep(1000000) while true do emit('k', s) end",
    } do
      local db = fixture.memory_db()
      db:use("v", fixture.write(fixture.dir() .. "/v.lua",
        ("return {version = 1, indexer = function (item, seq, emit) %s end}"):format(body)), BUDGET)
      db:append {n = 1}
      local count, message, code = db.v:count()
      assert.is_nil(count)
      assert.equal("EVIEW", code)
      assert.is_truthy(message:find "instruction budget" or message:find "not enough memory", message)
    end
  end)
end)

describe("a trusted view", function ()
  after_each(fixture.clean)

  local function trusted(source, options)
    local db = fixture.memory_db()
    options = options or {}
    options.trusted = true
    local folder = fixture.dir()
    db:use("v", fixture.write(folder .. "/v.lua", source), options)
    return db, folder
  end

  it("has all of Lua's library, in a state of its own", function ()
    marker = "of the caller" -- luacheck: ignore 111
    local db = trusted [[
      return {version = 1, initial = 0, reducer = function (n) return n + 1 end, methods = {look = "async"},
        look = function ()
          return type(io.open), type(os.time()), type(debug.getinfo(1)), type(math.random()), type(package.path),
            marker, load(string.dump(function () return 7 end))(), flume_core
        end}
    ]]
    db:append "x"
    assert.same({"function", "number", "table", "number", "string", nil, 7, nil}, {db.v:look()})
    assert.equal(1, db.v:get())
    marker = nil -- luacheck: ignore 111
  end)

  it("requires from its folder, from package.path, and flume", function ()
    local elsewhere, path = fixture.dir(), package.path
    fixture.write(elsewhere .. "/flume_test_far.lua", "return {far = 1, loads = (...)}")
    package.path = elsewhere .. "/?.lua;" .. path
    local db = fixture.memory_db()
    local folder = fixture.dir()
    fixture.write(folder .. "/near.lua", "return {near = 2}")
    db:use("v", fixture.write(folder .. "/v.lua", [[
      local far, near, flume = require "flume_test_far", require "near", require "flume"
      return {version = 1, initial = 0, reducer = function (n) return n end, methods = {sum = "sync"},
        sum = function () return far.far + near.near, far.loads, flume.null ~= nil, flume.open end}
    ]]), {trusted = true})
    package.path = path
    assert.same({3, "flume_test_far", true, nil}, {db.v:sum()})
  end)

  it("has no budget, and memory without a limit unless one is given", function ()
    local greedy = [[
      return {version = 1, initial = 0, reducer = function (n)
        for i = 1, 3e6 do n = n + 1 end
        return n + #("x"):rep(300 << 20)
      end}
    ]]
    local db = trusted(greedy)
    db:append "x"
    assert.equal(3000000 + (300 << 20), db.v:get())
    local limited = trusted(greedy, {memory = 64 << 20})
    limited:append "x"
    assert.equal("EVIEW", select(3, limited.v:get()))
    assert.error_matches(function () trusted(greedy, {budget = 5}) end, "no budget")
  end)

  it("fails alone when it raises", function ()
    local db = trusted "return {version = 1, reducer = function () error 'x' end}"
    db:use("good", flume.reduce(1, function (n) return n + 1 end, 0))
    db:append "x"
    assert.equal("EVIEW", select(3, db.v:get()))
    assert.equal(1, db.good:get())
  end)
end)

-- A reducer that keeps old tables and coroutines busy with young ones: what a generational collector has to get right.
local CHURN = [[
  local KEPT, LENGTH = 150, 2500
  local ring, names, workers = {}, {}, {}

  local function worker(id)
    local own, text = {}, ""
    return coroutine.wrap(function (n)
      while true do
        own[n % 50] = {n, text, function () return n + id end}
        text = ("%d:"):format(n):rep(n % 40) .. id
        n = coroutine.yield(#text + (own[(n + 1) % 50] or {0})[1])
      end
    end)
  end

  return {
    version = 1,
    initial = {sum = 0, longest = "", last = {}},
    reducer = function (acc, item)
      local n = item.n
      local slot = n % KEPT
      local old = ring[slot]
      ring[slot] = {n = n, before = old and old.n, text = ("x"):rep(n % LENGTH), of = acc.last}
      if old then old.of, old.text = nil, nil end
      local name = ("a name that is too long to be interned, number %d"):format(n % 1000)
      names[name] = (names[name] or 0) + 1
      if n % 5000 == 0 then workers = {} end
      workers[n % 7] = workers[n % 7] or worker(n % 7)
      acc.sum = acc.sum + workers[n % 7](n) + #ring[slot].text + names[name] + (ring[slot].before or 0)
      acc.last = {n, {slot}}
      if #ring[slot].text > #acc.longest then acc.longest = ring[slot].text end
      return acc
    end,
  }
]]

describe("a reducer with much garbage and little memory", function ()
  after_each(fixture.clean)

  it("gives the same state as without a limit", function ()
    local count, batch = 200000, {}
    local elsewhere = assert(load(CHURN))()
    local expected = elsewhere.initial
    local db = fixture.memory_db()
    db:use("v", fixture.write(fixture.dir() .. "/v.lua", CHURN), {memory = 8 << 20, trusted = true})
    for n = 1, count do
      batch[#batch + 1] = {n = n}
      expected = elsewhere.reducer(expected, {n = n})
      if #batch == 5000 then
        db:append(batch)
        batch = {}
      end
    end
    assert.same(expected, (assert(db.v:get())))
  end)
end)
