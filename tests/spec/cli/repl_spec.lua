-- The REPL: what lines mean, what is printed, and what Tab offers. The real thing is in terminal_spec.lua.

local columns = require "flume.cli.columns"
local complete = require "flume.cli.prompt.complete"
local flume = require "flume"
local pretty = require "flume.pretty"
local repl = require "flume.cli.prompt.repl"
local scope = require "flume.cli.prompt.scope"
local toplevel = require "flume.cli.prompt.toplevel"
local fixture = require "tests.support.fixture"
local seeds = require "tests.support.seeds"


describe("a session", function ()
  local session, env

  before_each(function ()
    env = setmetatable({}, {__index = _G})
    session = repl.new(env)
  end)

  -- What the lines give: the results of the last one, when all before it gave nothing or "more".
  local function feed(...)
    local kind, chunk
    for _, line in ipairs {...} do
      if chunk then chunk() end
      kind, chunk = session:feed(line)
      assert.is_true(kind == "run" or kind == "more", line)
    end
    return chunk()
  end

  it("tries a line as an expression first", function ()
    assert.equal(2, feed "1 + 1")
    assert.same({1, nil, 3}, {feed "1, nil, 3"})
    assert.equal("x", feed "('x'):rep(1) -- a comment")
    assert.equal(0, select("#", feed "-- a comment alone"))
  end)

  it("goes on until a statement is complete", function ()
    assert.equal("more", (session:feed "for i = 1, 3 do"))
    assert.is_true(session:pending())
    assert.equal("more", (session:feed "n = (n or 0) + i"))
    assert.equal("more", (session:feed ""))
    local kind, chunk = session:feed "end"
    assert.equal("run", kind)
    assert.is_false(session:pending())
    assert.equal("for i = 1, 3 do\nn = (n or 0) + i\n\nend", session.source)
    chunk()
    assert.equal(6, env.n)
    assert.same({"a\nb"}, {feed("[[a", "b]]")})
    assert.equal(3, feed("(1", "+2", ")"))
  end)

  it("reports an error in a line, and drops the line", function ()
    local kind, message = session:feed "x = = 1"
    assert.equal("error", kind)
    assert.is_not_nil(message:find "^stdin:1: ")
    assert.is_false(session:pending())
    assert.equal("error", (session:feed "x = 'a\nb'"))
    assert.equal(1, feed "1")
  end)

  it("reports what an unfinished statement lacks", function ()
    assert.is_nil(session:finish())
    session:feed "if x then"
    assert.is_not_nil(session:finish():find "'end' expected near <eof>")
    assert.is_false(session:pending())
  end)

  it("counts lines over all statements when asked to", function ()
    session = repl.new(env, {count_lines = true})
    session:feed "x = 1"
    session:feed ""
    session:feed "for i = 1, 1 do"
    session:feed "  error 'here'"
    local _, chunk = session:feed "end"
    local _, message = pcall(chunk)
    assert.equal("stdin:4: here", repl.located(message))
    assert.is_not_nil(select(2, session:feed "1 1"):find "^stdin:6: ")
    session:feed "for i = 1, 1 do"
    session:feed "  f("
    local _, why = session:feed "  end"
    assert.is_not_nil(why:find "^stdin:9: ", why)
    session:feed "while true do"
    session:feed ""
    assert.equal("stdin:11: 'end' expected (to close 'while' at line 10) near <eof>", session:finish())
  end)

  it("knows dot commands, but not in the middle of a statement", function ()
    assert.same({"command", "tail", {"3"}}, {session:feed ".tail 3"})
    assert.same({"command", "quit", {}}, {session:feed "  .quit  "})
    assert.same({"command", "x", {"a b", "c", "it's", 'd e"f', '"g'}},
      {session:feed [[.x "a b"  'c' "it's" "d e"f" "g]]})
    assert.equal("error", (session:feed ".5x"))
    assert.equal(0.5, feed ".5")
    session:feed "t = {f = math}"
    session:feed "s = ('x')"
    assert.equal("more", (session:feed "x = (t"))
    assert.equal("more", (session:feed ".f"))
    session:feed ")"
    assert.equal("nothing", (session:feed "   "))
  end)

  it("keeps top-level locals", function ()
    assert.equal(1, feed("local x = 1", "x"))
    assert.equal(3, feed("local a, b = 1, 2", "local function add() return a + b end", "add()"))
    assert.equal(120, feed("local function f(n) return n < 2 and 1 or n * f(n - 1) end", "f(5)"))
    assert.equal(7, feed("local k <const> = 7", "k"))
    assert.is_nil(feed("x = 5", "local x", "x"))
    assert.equal(2, feed("local y = 1; local y = y + 1", "y"))
    assert.equal(1, feed("local z = 1", "do local z = 2 end", "z"))
  end)
end)

describe("top-level locals", function ()
  it("become assignments, where they stand", function ()
    for _, case in ipairs {
      {"local x = 1", "      x = 1"},
      {"local x", "      x = nil"},
      {"local a, b, c", "      a, b, c = nil"},
      {"local a <const>, b = 1", "      a        , b = 1"},
      {"local function f() local x = 1 end", "      function f() local x = 1 end"},
      {"x = 1 local y = 2 print(y)", "x = 1       y = 2 print(y)"},
      {"local x print(x)", "      x = nil print(x)"},
      {"local x -- local y\nlocal z", "      x = nil -- local y\n      z = nil"},
      {"local s = 'local x'", "      s = 'local x'"},
      {'local s = "\\"local x"', '      s = "\\"local x"'},
      {"local s = [==[ local x ]] ]==]", "      s = [==[ local x ]] ]==]"},
      {"--[[ local x ]] local y", "--[[ local x ]]       y = nil"},
      {"local n = 1 == 1", "      n = 1 == 1"},
      {"local n = 0x1p4 local m = 1e+5", "      n = 0x1p4       m = 1e+5"},
      {"local t = {f = function () local x end}", "      t = {f = function () local x end}"},
    } do
      assert.equal(case[2], toplevel.promote(case[1]))
    end
  end)

  it("stay in blocks, and when they are to be closed", function ()
    for _, text in ipairs {
      "do local x end", "for i = 1, 2 do local x = i end", "while c do local x end", "repeat local x until x",
      "if a then local x elseif b then local y else local z end", "function f() local x end",
      "f(function () local x end)", "local x <close> = f()", "t.locals = 1", "local 5", "local", "local x <odd> = 1",
    } do
      assert.equal(text, toplevel.promote(text))
    end
  end)
end)

describe("pretty", function ()
  local function read(text)
    return assert(load("return " .. text, "=pretty", "t", {math = math, flume = flume}), text)()
  end

  it("prints what Lua reads back", function ()
    math.randomseed(seeds.take())
    local function random_value(depth)
      local kind = math.random(depth > 0 and 8 or 6)
      if kind == 1 then return math.random(0) end
      if kind == 2 then return math.random(-9, 9) end
      if kind == 3 then return (math.random() - 0.5) * 10 ^ math.random(-20, 20) end
      if kind == 4 then return math.random(2) == 1 end
      if kind <= 6 then
        local bytes = {}
        for i = 1, math.random(0, 12) do bytes[i] = string.char(math.random(0, 255)) end
        return table.concat(bytes)
      end
      local t = {}
      for i = 1, math.random(0, 5) do
        local key = kind == 7 and i or random_value(0)
        if key == key then t[key] = random_value(depth - 1) end
      end
      return t
    end
    for _ = 1, 2000 do
      local value = random_value(4)
      assert.same(value, read(pretty.format(value, {width = math.random(1, 120)})))
      assert.is_nil(pretty.line(value):find "\n")
    end
  end)

  it("keeps numbers what they are", function ()
    for _, n in ipairs {0, 1, -1, math.maxinteger, math.mininteger, 0.1, 1.0, -0.0, 1e15, 1e100, 5e-324, 1 / 3,
      2.0 ^ 53, math.huge, -math.huge} do
      local back = read(pretty.format(n))
      assert.equal(math.type(n), math.type(back))
      assert.equal(n, back)
    end
    assert.equal("1.0", pretty.format(1.0))
    assert.equal("0.1", pretty.format(0.1))
    local nan = read(pretty.format(0 / 0))
    assert.is_true(nan ~= nan)
  end)

  it("escapes what does not print, and nothing else", function ()
    assert.equal([["a\nb\t\"\\"]], pretty.format 'a\nb\t"\\')
    assert.equal([["é\xff€\x00"]], pretty.format "é\xff€\0")
  end)

  it("sorts keys, and quotes those that aren't Lua names", function ()
    assert.equal('{1, 2, [10] = 3, ["a b"] = 4, ["end"] = 5, name = 6, [false] = 7, [true] = 8}',
      pretty.format({1, 2, [10] = 3, ["a b"] = 4, ["end"] = 5, name = 6, [false] = 7, [true] = 8}, {width = 200}))
    assert.equal("{[-1] = 0, [1.5] = 1}", pretty.format {[1.5] = 1, [-1] = 0})
  end)

  it("breaks lines where they are too long", function ()
    assert.equal("{\n  a = {1, 2, 3},\n  b = {\n    1000,\n    2000,\n    3000,\n  },\n}",
      pretty.format({a = {1, 2, 3}, b = {1000, 2000, 3000}}, {width = 20}))
  end)

  it("prints cycles, deep nesting and values that aren't data", function ()
    local t = {name = "t"}
    t.self, t.list = t, {t}
    assert.equal('{list = {nil --[[cycle]]}, name = "t", self = nil --[[cycle]]}', pretty.format(t))
    assert.same({name = "t", list = {}}, read(pretty.format(t)))
    local shared = {1}
    assert.equal("{{1}, {1}}", pretty.format {shared, shared})
    local deep = {}
    for _ = 1, 500 do deep = {deep} end
    assert.is_table(read(pretty.format(deep)))
    assert.is_not_nil(pretty.format({print}):find "^{nil %-%-%[%[function: .*%]%]}$")
    assert.equal("{1, nil, 3}", pretty.format {1, nil, 3})
    assert.equal("{--[[1 keys that are no data]]}", pretty.format {[{}] = 1})
  end)

  it("names marks that a plain table would lose", function ()
    for _, case in ipairs {
      {flume.map {}, "flume.map{}"}, {flume.array {}, "{}"}, {flume.map {1, 2}, "flume.map{1, 2}"},
      {flume.map {a = 1}, "{a = 1}"}, {flume.array {1, 2}, "{1, 2}"}, {flume.map {1, a = 2}, "{1, a = 2}"},
      {flume.array {1, nil, 3}, "flume.array{1, nil, 3}"}, {{x = {flume.map {}}}, "{x = {flume.map{}}}"},
    } do
      assert.equal(case[2], pretty.format(case[1]))
      assert.equal(flume.encode(case[1]), flume.encode(read(case[2])))
    end
    assert.equal("{\n  flume.map{\n    10,\n    20,\n  },\n}", pretty.format({flume.map {10, 20}}, {width = 10}))
  end)

  it("reads back whatever can be stored", function ()
    local deep = {}
    for _ = 1, 127 do deep = {deep} end
    local bytes = assert(flume.encode(deep))
    assert.equal(bytes, flume.encode(read(pretty.format(flume.decode(bytes)))))
    local maps = flume.map {}
    for _ = 1, 100 do maps = flume.map {maps} end
    assert.equal(flume.encode(maps), flume.encode(read(pretty.line(maps))))
  end)

  it("escapes more where that is wanted", function ()
    assert.equal([["\xc3\xa9"]], pretty.format("é", {ascii = true}))
    assert.equal([["\xc2\x9b31m"]], pretty.format "\u{9b}31m")
    assert.equal([[\x1b[31m"é"]], pretty.cell '\27[31m"é"')
  end)

  it("shows null, lazy records and objects", function ()
    assert.equal("{a = flume.null}", pretty.format {a = flume.null})
    assert.equal("{a = {1, 2}}", pretty.format(flume.record(flume.encode {a = {1, 2}})))
    assert.equal("plain", pretty.top "plain")
    local object = setmetatable({}, {__tostring = function () return "an object ]]" end})
    assert.equal("an object ]]", pretty.top(object))
    assert.equal("{nil --[[an object ] ]]]}", pretty.format {object})
    local broken = setmetatable({}, {__tostring = function () error "no" end})
    assert.equal("table", pretty.top(broken))
    assert.equal("{nil --[[table]]}", pretty.format {broken})
  end)

  it("aligns columns", function ()
    assert.equal("name    n\nä       1\nlonger  20\n",
      pretty.columns({{"ä", "1"}, {"longer", "20"}}, {header = {"name", "n"}}))
    assert.equal(" 1  a\n20  b\n", pretty.columns({{"1", "a"}, {"20", "b"}}, {right = {true}}))
    assert.equal("漢字  1\nab    2\n", pretty.columns {{"漢字", "1"}, {"ab", "2"}})
    assert.equal("e\u{301}  1\nab 2\n", (pretty.columns {{"e\u{301}", "1"}, {"a", "2"}}:gsub("a  ", "ab ")))
  end)

  it("cuts what is too wide", function ()
    assert.equal("abc", pretty.cut("abc", 3, "…"))
    assert.equal("ab…", pretty.cut("abcd", 3, "…"))
    assert.equal("漢…", pretty.cut("漢字漢", 4, "…"))
    assert.equal("\xff\xff…", pretty.cut("\xff\xff\xff\xff", 3, "…"))
  end)
end)

describe("columns", function ()
  local function format(list, options)
    options = options or {}
    return columns.format(list, {
      width = options.width or 80, rows = options.rows, seqs = options.seqs, is_forced = options.is_forced,
      ascii = options.ascii,
    })
  end

  it("show a list of records", function ()
    assert.equal(" n  name\n10  a\n 2  b\n", format {{name = "a", n = 10}, {name = "b", n = 2}})
    assert.equal("seq  n\n  7  1\n  9  2\n", format({{n = 1}, {n = 2}}, {seqs = {7, 9}}))
    assert.equal('a          b\n{1, 2}     x"y\n{z = 1.5}\n', format {{a = {1, 2}, b = 'x"y'}, {a = {z = 1.5}}})
    assert.equal("a\n1\n2\n", format {flume.record(flume.encode {a = 1}), flume.record(flume.encode {a = 2})})
  end)

  it("are for nothing else", function ()
    for _, value in ipairs {1, {}, {1}, {{1}}, {{}}, {a = {b = 1}}, {{a = 1}, 2}, {{[1.5] = 1}, {a = 1}}, "text"} do
      assert.is_nil(format(value, {is_forced = true}))
    end
  end)

  it("are not used where they are no help, unless asked for", function ()
    local one, sparse = {{a = 1}}, {{a = 1}, {b = 1}, {c = 1}}
    assert.is_nil(format(one))
    assert.is_nil(format(sparse))
    assert.equal("a\n1\n", format(one, {is_forced = true}))
    assert.equal("a  b  c\n1\n   1\n      1\n", format(sparse, {is_forced = true}))
  end)

  it("fit the terminal, and tell what does not", function ()
    local list = {}
    for i = 1, 30 do
      list[i] = {id = i, text = ("word "):rep(10)}
      for c = 1, 20 do list[i]["column" .. c] = "something long" end
    end
    for _, width in ipairs {8, 10, 40, 80, 200, 1000} do
      local text = format(list, {width = width, rows = 5})
      local lines = {}
      for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
      assert.equal(7, #lines)
      for i = 1, 6 do assert.is_true(pretty.width(lines[i]) <= width, lines[i]) end
      assert.is_not_nil(lines[7]:find "^… 25 more rows")
      assert.equal(width < 400, lines[7]:find "more column" ~= nil)
    end
    assert.is_not_nil(format(list, {width = 80, rows = 29})
      :find "… 1 more row, %d+ more columns %(.*text%); %.mode lua")
    assert.is_not_nil(format(list, {width = 80, rows = 29, ascii = true}):find "\n%.%.%. 1 more row")
  end)
end)

describe("completion", function ()
  local db, context

  before_each(function ()
    db = fixture.keep(flume.new(flume.log.memory()))
    db:use("counts", {version = 1, initial = 0, reducer = function (n) return n + 1 end,
      methods = {top = "async"}, top = function () end})
    local env = scope.new(db)
    env.mine = {inner = {value = 1, other = 2}}
    context = {db = db, env = env, commands = {"help", "rebuild", "mode"}, modes = {json = true, lua = true}}
  end)

  after_each(fixture.clean)

  -- What the last word of a line may become.
  local function candidates(line)
    local first = line:find "[%w_.:]*$"
    return table.concat(complete.candidates(line, first, #line, context), " ")
  end

  it("knows dot commands and what they take", function ()
    assert.equal(".help .mode .rebuild", candidates ".")
    assert.equal(".rebuild ", candidates ".re")
    assert.equal("counts", candidates ".rebuild ")
    assert.equal("json lua", candidates ".mode ")
    assert.equal("", candidates ".frob")
  end)

  it("knows names, views among them", function ()
    assert.equal("coroutine counts", candidates "cor" .. " " .. candidates "cou")
    assert.equal("counts", candidates "print(cou")
    assert.equal("mine", candidates "x = mi")
    assert.equal("repeat require return", candidates "re")
  end)

  it("knows methods and fields", function ()
    assert.equal("db:stream", candidates "db:str")
    assert.equal("db.since", candidates "db.si")
    assert.equal("db.closed db.counts", candidates "db.c")
    for _, name in ipairs {"get", "ready", "rebuild", "top"} do
      assert.is_not_nil((candidates "counts:" .. " "):find("counts:" .. name .. " ", 1, true))
    end
    assert.equal("db.counts:top", candidates "db.counts:t")
    assert.equal("mine.inner.other mine.inner.value", candidates "mine.inner.")
    assert.equal("string.rep string.reverse", candidates "string.re")
    assert.equal("flume.json.decode flume.json.encode", candidates "flume.json.")
  end)

  it("calls nothing and raises nothing", function ()
    context.env.trap = setmetatable({}, {__index = function () error "called" end})
    for _, line in ipairs {"trap.", "trap.a.", "nothing.", "nothing.at.all:", "a:b:c", ":", "x..y", "(1)."} do
      assert.is_string(candidates(line))
    end
  end)

  it("looks into values", function ()
    local env = context.env
    env.list = {{name = 1, note = 2}, {{deep = true}}}
    env.record = flume.record(flume.encode {author = "a", alt = "b"})
    assert.equal(".name .note", candidates "list[1].n")
    assert.equal(".deep", candidates "print(list[2][1].")
    assert.equal("record.alt record.author", candidates "record.")
    assert.equal("counts", candidates "db.views.":gsub("db.views.", ""))
  end)

  it("finds what words have in common", function ()
    assert.equal("db:re", complete.common_prefix {"db:rebuild", "db:reload"})
    assert.equal("one", complete.common_prefix {"one"})
    assert.equal("", complete.common_prefix {"a", "b"})
  end)
end)
