-- The prompt in a real terminal: keys are typed, and the screen is looked at.

local flume = require "flume"
local lfs = require "lfs"
local screen = require "tests.support.screen"
local fixture = require "tests.support.fixture"

local on_terminal = it
if not screen.is_available then
  on_terminal = function (name) pending(name .. " (tmux is missing)") end
end
-- Under ThreadSanitizer a signal is only delivered at the next system call, which a busy loop never makes.
local with_signals = os.getenv "FLUME_SANITIZER" == "thread" and pending or on_terminal

local function read_file(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

local COUNT = "return {version = 1, initial = 0, reducer = function (n) return n + 1 end}"

describe("a session", function ()
  after_each(fixture.clean)

  on_terminal("runs statements and prints their results", function ()
    local s = screen.start()
    s:expect "0 records. Type .help for help."
    s:enter "local x = 6 * 7"
    s:enter "{x}"
    s:expect "\n{42}\n"
    s:enter "_"
    s:expect "\n{42}\nflume> _\n{42}\n"
    s:enter "'a' .. 'b\\n'"
    s:expect '\n"ab\\n"\n'
    s:enter "nothing.at.all"
    s:expect "error: stdin:1: "
    s:enter "nil, 'why not', 'EWHY'"
    s:expect "error: why not (EWHY)"
    assert.equal(0, s:quit())
  end)

  on_terminal("goes on until a statement is complete", function ()
    local s = screen.start()
    s:enter "for i = 1, 2 do"
    s:expect_last "    ->"
    s:type "print(i + 100)"
    s:keys "Enter"
    s:expect "    -> print(i + 100)\n    ->"
    s:type "end"
    s:keys "Enter"
    s:expect "\n101\n102\nflume>"
    assert.equal(0, s:quit())
  end)

  on_terminal("a statement of several lines is edited as a whole", function ()
    local s = screen.start()
    s:enter "for i = 1, 2 do"
    s:expect_last "    ->"
    s:type "print(i + 100)"
    s:keys "Enter"
    s:expect "print(i + 100)\n    ->"
    s:type "end"
    s:keys "Enter"
    s:expect "101\n102\n"
    s:expect_prompt()
    s:keys "Up"
    s:expect "flume> for i = 1, 2 do\nprint(i + 100)\nend"
    s:keys("Home", "M-d", "M-Enter")
    s:expect "flume>\n i = 1, 2 do\n"
    s:type "for"
    s:expect "flume>\nfor i = 1, 2 do\n"
    s:keys("End", "Enter")
    s:expect "end\n101\n102\nflume>"
    s:enter "x = (1 +"
    s:expect_last "    ->"
    s:keys "C-c"
    s:enter "2000 + 1"
    s:expect "\n2001\n"
    assert.equal(0, s:quit())
  end)

  on_terminal("views are there by their names, and go on while nobody types", function ()
    local dir = fixture.dir()
    fixture.write(dir .. "/count.lua", COUNT)
    local s = screen.start{arguments = ("--views %s %s/data"):format(dir, dir)}
    s:enter "db:append{1, 2, 3}"
    s:enter "count:get{} + 1000"
    s:expect "\n1003\n"
    s:enter ".views"
    s:expect "count  deltas (source), get (async)"
    s:enter ".rebuild coutn"
    s:expect "there is no view 'coutn'; did you mean count?"
    s:enter ".staus"
    s:expect "unknown command '.staus'; did you mean .status?"
    assert.equal(0, s:quit())
  end)

  on_terminal("lists of records are columns, as wide as the terminal", function ()
    local s = screen.start{columns = 60}
    s:enter "t = {} for i = 1, 500 do t[i] = {n = i, name = ('x'):rep(i % 90), z = {i}} end"
    s:enter "t"
    s:expect "99  xxxxxxxxx"
    s:expect "400 more rows; .mode lua shows all"
    s:enter "db:append{{n = 1, who = 'ada'}, {n = 2, who = 'bob'}}"
    s:enter "db:stream{}"
    s:expect "seq  n  who\n  0  1  ada\n  1  2  bob\n"
    s:enter ".mode lua"
    s:enter "db:stream{}"
    s:expect '0       {n = 1, who = "ada"}\n'
    s:enter ".mode json"
    s:enter "db:get(1).n + 40, {db:get(1).who}"
    s:expect '\n42\n["bob"]\n'
    assert.equal(0, s:quit())
  end)

  on_terminal("there are colours, but not with NO_COLOR or on a dumb terminal", function ()
    local s = screen.start()
    s:enter "nothing.at.all"
    s:expect_in_colours "\27[1m\27[31merror: "
    s:enter "{a = 'text', n = 40 + 2}"
    s:expect_in_colours '\27[32m"text"'
    s:expect_in_colours "\27[36m42"
    assert.equal(0, s:quit())
    for _, env in ipairs {"NO_COLOR=1", "TERM=dumb"} do
      s = screen.start{env = env}
      s:expect "Type .help for help."
      s:enter "nothing.at.all"
      s:expect "error: stdin:1: "
      s:enter "{a = 'text', n = 40 + 2}"
      s:expect '{a = "text", n = 42}'
      assert.is_nil(s:text(true):find "\27%[%d")
      assert.equal(0, s:quit())
    end
  end)

  on_terminal("a command has a help and an example", function ()
    local s = screen.start{rows = 30}
    s:enter ".help"
    s:expect ".explain VIEW [FROM [TO]]  what a view makes of records"
    s:expect ".dump all.jsonl"
    s:enter ".help timer"
    s:expect "for example: .timer on"
    s:enter ".timer on"
    s:enter "40 + 2"
    s:expect "\n42\n0.00"
    assert.equal(0, s:quit())
  end)

  on_terminal("the help fits a narrow terminal, and all words of a command in quotes are one", function ()
    local s = screen.start{columns = 60, rows = 50}
    s:enter ".help"
    s:expect "\n.tail [N]\n    the last N records (10); .tail 3\n"
    s:expect "\n.quit\n"
    assert.is_nil(s:text():match("%.help\n(.*)"):find(("[^\n]"):rep(61)))
    s:enter('.dump "' .. s.dir .. '/a b"')
    s:expect_prompt()
    assert.equal("", read_file(s.dir .. "/a b"))
    assert.equal(0, s:quit())
  end)

  on_terminal("escape sequences in data stay data", function ()
    local s = screen.start()
    s:enter [[db:append('\27[2Jcleared\u{9b}2J')]]
    s:enter "db:get(0)"
    s:expect [["\x1b[2Jcleared\xc2\x9b2J"]]
    s:enter ".tail"
    s:expect [[0       "\x1b[2Jcleared]]
    s:enter '"abc\\u{202e}def"'
    s:expect [["abc\xe2\x80\xaedef"]]
    assert.equal(0, s:quit())
  end)

  on_terminal("Ctrl-D and a lost terminal end it", function ()
    local s = screen.start()
    s:expect_prompt()
    s:keys "C-d"
    assert.equal(0, s:status())
    s = screen.start{arguments = fixture.dir() .. "/data"}
    s:enter "1000 + 1"
    s:expect "\n1001\n"
    local pid = s:pid()
    s:close()
    fixture.run_until(function () return not os.execute(("kill -0 %d 2>/dev/null"):format(pid)) end)
    assert.equal("1000 + 1\n", read_file(s.dir .. "/history"))
  end)
end)

describe("Ctrl-C", function ()
  after_each(fixture.clean)

  with_signals("ends a statement that runs, and the process goes on", function ()
    local s = screen.start()
    for i = 1, 3 do
      s:enter(("print(%d + 2) while true do end"):format(40 * i))
      s:expect(("\n%d\n"):format(40 * i + 2))
      s:keys "C-c"
      s:wait("the interrupt", function (text) return select(2, text:gsub("interrupted!", "")) == i end)
    end
    s:enter "1000 + 1"
    s:expect "\n1001\n"
    assert.equal(0, s:quit())
  end)

  with_signals("ends what catches errors, too, and what runs in a coroutine", function ()
    local s = screen.start()
    s:enter "print(40 + 2) coroutine.wrap(function () while true do end end)()"
    s:expect "\n42\n"
    s:keys "C-c"
    s:expect "error: interrupted!"
    s:enter "print(50 + 2) while true do pcall(function () while true do end end) print(60 + 3) end"
    s:expect "\n52\n"
    s:keys "C-c"
    s:expect "63\n"
    s:keys("C-c", "C-c")
    s:expect_prompt()
    s:enter "1000 + 1"
    s:expect "\n1001\n"
    assert.equal(0, s:quit())
  end)

  on_terminal("ends a statement that waits", function ()
    local s = screen.start()
    s:enter "db:use('n', flume.reduce(1, function (n) return n + 1 end, 0)).dir"
    s:enter "print(40 + 2) n:get{since = 1000, timeout = 600000}"
    s:expect "\n42\n"
    s:keys "C-c"
    s:expect "interrupted!"
    s:enter "print(50 + 2) coroutine.wrap(function () n:get{since = 1000, timeout = 600000} end)()"
    s:expect "\n52\n"
    s:keys "C-c"
    s:wait("the interrupt", function (text) return select(2, text:gsub("interrupted!", "")) == 2 end)
    s:enter "db:append('x') + 1000"
    s:expect "\n1000\n"
    s:enter "n:get{} + 1000"
    s:expect "\n1001\n"
    assert.equal(0, s:quit())
  end)

  with_signals("ends an inline view that runs for ever, when pressed twice", function ()
    local s = screen.start()
    s:enter "db:use('bad', flume.reduce(1, function () print(40 + 2) while true do end end, 0)).dir"
    s:enter "db:append(1) bad:get()"
    s:expect "\n42\n"
    s:wait("the interrupt", function (text) -- two that come too soon after each other are one signal
      if text:find("interrupted!", 1, true) then return true end
      s:keys "C-c"
    end)
    s:enter "db:status().views.bad.state"
    s:expect '"failed"'
    s:enter "1000 + 1"
    s:expect "\n1001\n"
    assert.equal(0, s:quit())
  end)

  on_terminal("clears the line, and the statement that it is part of", function ()
    local s = screen.start()
    s:expect_prompt()
    s:type "half a li"
    s:expect "flume> half a li"
    s:keys "C-c"
    s:expect "half a li^C\nflume>"
    s:enter "for i = 1, 2 do"
    s:expect_last "    ->"
    s:keys "C-c"
    s:enter "2000 + 1"
    s:expect "\n2001\n"
    assert.equal(0, s:quit())
  end)
end)

describe("Tab", function ()
  after_each(fixture.clean)

  on_terminal("completes names, methods, fields and commands", function ()
    local dir = fixture.dir()
    fixture.write(dir .. "/counter.lua", COUNT)
    local s = screen.start{arguments = ("--views %s %s/data"):format(dir, dir)}
    s:expect_prompt()
    s:type "db:stat"
    s:keys "Tab"
    s:expect_last "flume> db:status"
    s:type "().since - 9"
    s:keys "Enter"
    s:expect "\n-10\n"
    s:expect_prompt()
    s:type ".ti"
    s:keys "Tab"
    s:expect_last "flume> .timer"
    s:type "off"
    s:keys "Enter"
    s:expect "flume> .timer off\noff\n"
    s:expect_prompt()
    s:type "counte"
    s:keys "Tab"
    s:expect_last "flume> counter"
    s:type ":reb"
    s:keys "Tab"
    s:expect_last "flume> counter:rebuild"
    s:keys("C-u")
    s:enter "words = {apple = 1, apricot = {stone = true}}"
    s:expect_prompt()
    s:type "words.a"
    s:keys("Tab", "Tab")
    s:expect "words.apple"
    s:type "r"
    s:keys "Tab"
    s:type ".s"
    s:keys("Tab", "Enter")
    s:expect "words.apricot.stone\ntrue\n"
    assert.equal(0, s:quit())
  end)
end)

describe("the history", function ()
  after_each(fixture.clean)

  on_terminal("is kept from one session to the next, for its owner alone", function ()
    local s = screen.start()
    s:enter "3000 + 1"
    s:enter "x = {"
    s:expect_last "    ->"
    s:type "4000 + 1} -- \\n"
    s:keys "Enter"
    s:expect_prompt()
    s:keys("Up", "Up", "Enter")
    s:wait("3001, twice", function (text) return select(2, text:gsub("\n3001\n", "")) == 2 end)
    s:quit()
    assert.equal("rw-------", lfs.attributes(s.dir .. "/history", "permissions"))
    local again = screen.start{dir = s.dir}
    again:expect_prompt()
    again:keys("Up", "Up", "Up")
    again:expect "flume> x = {\n4000 + 1} -- \\n"
    again:keys "Enter"
    again:enter "x[1]"
    again:expect "\n4001\n"
    again:quit()
  end)

  on_terminal("that can't be written is told of once, and nothing else suffers", function ()
    local s = screen.start{env = "FLUME_HISTORY=/dev/null/history"}
    s:enter "1000 + 1"
    s:expect "error: the history can't be kept: /dev/null/history: Not a directory"
    s:enter "1000 + 2"
    s:expect "\n1002\n"
    assert.equal(1, select(2, s:text():gsub("can't be kept", "")))
    assert.equal(0, s:quit())
    s = screen.start{env = "-u HOME -u FLUME_HISTORY"}
    s:enter "1000 + 1"
    s:expect "\n1001\n"
    assert.equal(0, s:quit())
  end)
end)

describe("the file that the prompt runs first", function ()
  after_each(fixture.clean)

  on_terminal("defines what is then in scope, and changes settings", function ()
    local config = fixture.dir()
    fixture.write(config .. "/flume/init.lua", [[
      local settings = ...
      settings.mode = "json"
      function double(n) return 2 * n end
      local answer = 42
    ]])
    local s = screen.start{env = "XDG_CONFIG_HOME=" .. config}
    s:enter "{double(21), db:status().since}"
    s:expect "\n[42,-1]\n"
    assert.equal(0, s:quit())
    s = screen.start{env = "XDG_CONFIG_HOME=" .. config, arguments = "--no-rc " .. fixture.dir() .. "/data"}
    s:enter "{double}, 40 + 2"
    s:expect "\n{}\n42\n"
    assert.equal(0, s:quit())
  end)

  on_terminal("does no harm when it is wrong", function ()
    for _, case in ipairs {
      {"oops(", "init.lua:1: "}, {"error 'oh'", "init.lua:1: oh"}, {"(...).mode = 'odd'", "'odd' is none of"},
    } do
      local config = fixture.dir()
      fixture.write(config .. "/flume/init.lua", case[1])
      local s = screen.start{env = "XDG_CONFIG_HOME=" .. config}
      s:expect(case[2])
      s:enter "1000 + 1"
      s:expect "\n1001\n"
      assert.equal(0, s:quit())
    end
  end)
end)

describe("an unusual terminal", function ()
  after_each(fixture.clean)

  on_terminal("without UTF-8 gets ASCII", function ()
    local s = screen.start{env = "LC_ALL=C"}
    s:enter [["\u{e9}"]]
    s:expect [["\xc3\xa9"]]
    assert.equal(0, s:quit())
  end)

  on_terminal("may be very narrow, and change its width", function ()
    local s = screen.start{columns = 12}
    s:enter "{{a=1},{a=2}}"
    s:expect "\na\n1\n2\n"
    s:resize(80, 24)
    s:enter "{aaaaaaaaaaaaaaaa = 'bbbbbbbbbbbbbbbbbbbbbbbb', c = 'dddddddddddddddd'}"
    s:expect "\n{aaaaaaaaaaaaaaaa = "
    assert.equal(0, s:quit())
  end)
end)

describe("views that are edited while the prompt is there", function ()
  after_each(fixture.clean)

  local SUM = "return {version = %d, initial = 0, reducer = function (sum, item) return sum + item.n * %d end}"

  local function with_views()
    local dir = fixture.dir()
    fixture.write(dir .. "/sum.lua", SUM:format(1, 1))
    local s = screen.start{arguments = ("--views %s %s/data"):format(dir, dir), columns = 100}
    s:enter "db:append{{n = 1}, {n = 2}}"
    s:enter "sum:get() + 100"
    s:expect "\n103\n"
    s:expect_prompt()
    return s, dir
  end

  on_terminal("are reloaded, and a line tells of it", function ()
    local s, dir = with_views()
    fixture.write(dir .. "/sum.lua", SUM:format(2, 10))
    s:expect "view sum (version 2): rebuilt"
    s:enter "sum:get() + 200"
    s:expect "\n230\n"
    fixture.write(dir .. "/sum.lua", "return {oops")
    s:expect "sum.lua:1: "
    s:expect "it goes on as it was"
    s:enter "sum:get() + 300"
    s:expect "\n330\n"
    fixture.write(dir .. "/more.lua", COUNT)
    s:expect "view more is there (version 1)"
    s:enter "more:get() + 400"
    s:expect "\n402\n"
    assert.equal(0, s:quit())
  end)

  on_terminal("leave alone what is being typed", function ()
    local s, dir = with_views()
    s:type "sum:get() + 5"
    s:expect_last "flume> sum:get() + 5"
    fixture.write(dir .. "/sum.lua", SUM:format(2, 10))
    fixture.write(dir .. "/more.lua", COUNT)
    s:type "00"
    s:keys "Enter"
    s:wait("the result, of either version", function (text) return text:find "\n5[03][03]\n" end)
    s:expect "view more is there (version 1)"
    assert.equal(0, s:quit())
  end)

  on_terminal("are reloaded, explained, and made to skip, on demand", function ()
    local s, dir = with_views()
    s:enter ".reload"
    s:enter ".explain sum 0 1"
    s:expect "records = 2"
    s:enter "db:append('poison')"
    s:expect "failed at record 2"
    s:enter ".skip sum 2"
    s:expect "view sum passes over record 2"
    s:enter "sum:get() + 600"
    s:expect "\n603\n"
    s:enter ".explain"
    s:expect ".explain wants the name of a view"
    s:enter ".check"
    s:expect "no damage"
    s:enter ".check --repair"
    s:expect "error: .check only looks; flume DB check --repair repairs"
    s:enter(".backup " .. dir .. "/copy")
    s:expect "up to record 2"
    s:enter(".dump " .. dir .. "/dump")
    s:enter(".dump " .. dir .. "/dump")
    s:expect "dump is there already"
    assert.equal('{"n":1}\n{"n":2}\n"poison"\n', read_file(dir .. "/dump"))
    assert.equal(0, s:quit())
  end)

  on_terminal("may return a cycle", function ()
    local dir = fixture.dir()
    fixture.write(dir .. "/bad.lua", [[
      local cycle = {}
      cycle.self = cycle
      return {version = 1, initial = 0, reducer = function (n) return n + 1 end, methods = {cycle = "async"},
        cycle = function () return cycle end}
    ]])
    local s = screen.start{arguments = ("--views %s %s/data"):format(dir, dir)}
    s:enter "bad:cycle()"
    s:expect "error: result: value.self: cycle (EINVAL)"
    s:enter "t = {name = 't'} t.self = t"
    s:enter "t"
    s:expect '{name = "t", self = nil --[[cycle]]}'
    assert.equal(0, s:quit())
  end)
end)

describe("a signal at the prompt", function ()
  after_each(fixture.clean)

  on_terminal("ends it when it came before the prompt", function ()
    local config = fixture.dir()
    os.execute(("mkdir %s/flume && mkfifo %s/flume/init.lua"):format(config, config)) -- takes its time to be read
    local s = screen.start{env = "XDG_CONFIG_HOME=" .. config}
    local init = io.open(config .. "/flume/init.lua", "w")
    os.execute(("kill -TERM %d"):format(s:pid()))
    init:close()
    assert.equal(143, s:status())
  end)

  on_terminal("ends it in order", function ()
    local s = screen.start()
    s:enter "db:append{n = 1} + 1000"
    s:expect "\n1000\n"
    s:expect_prompt()
    os.execute(("kill -TERM %d"):format(s:pid()))
    assert.equal(143, s:status())
    assert.equal("db:append{n = 1} + 1000\n", read_file(s.dir .. "/history"))
    local db = fixture.keep(assert(flume.open(s.dir .. "/data")))
    assert.same({n = 1}, db:get(0))
  end)
end)

describe("progress", function ()
  after_each(fixture.clean)

  on_terminal("of a build is shown where the prompt is, and makes way for what is typed", function ()
    local dir = fixture.dir()
    fixture.write(dir .. "/slow.lua", [[
      return {version = 1, initial = 0, reducer = function (n)
        for _ = 1, 20000 do n = n + 1 end
        return n
      end}
    ]])
    local db = assert(flume.open(dir .. "/data"))
    for _ = 1, 20 do
      local batch = {}
      for i = 1, 1000 do batch[i] = i end
      db:append(batch)
    end
    db:close()
    local s = screen.start{arguments = ("--views %s %s/data"):format(dir, dir), columns = 120}
    s:wait("the bar", function (text) return text:find "building slow  [█░]+ +%d+%%  .* records  .*/s  ETA %d" end)
    s:type "1000 + 1"
    s:expect "flume> 1000 + 1"
    s:keys "Enter"
    s:expect "\n1001\n"
    s:type ".quit" -- there is no prompt to wait for, until the view is built
    s:keys "Enter"
    assert.equal(0, s:status())
  end)
end)

describe("pasted text", function ()
  after_each(fixture.clean)

  on_terminal("is inserted as text, tabs included, and runs with Enter", function ()
    local s = screen.start()
    s:expect_prompt()
    s:paste "pri\t= 5"
    s:expect_last "flume> pri      = 5"
    s:keys "Enter"
    s:enter "pri, print"
    s:expect "\n5\nfunction: " -- print is what it was
    assert.equal(0, s:quit())
  end)

  on_terminal("of several lines is one statement where it can be, else line by line", function ()
    local s = screen.start()
    s:expect_prompt()
    s:paste "for i = 1, 2 do\r\n\tprint(i + 100)\nend\n"
    s:keys "Enter"
    s:expect "\n101\n102\nflume>"
    s:expect_prompt()
    s:paste "200 + 1\n200 + 2\n"
    s:keys "Enter"
    s:expect "\n201\n202\nflume>"
    assert.equal(0, s:quit())
  end)

  on_terminal("may be long, and so may what is typed", function ()
    for _, bytes in ipairs {1023, 1024, 5400, 100000} do
      local s = screen.start()
      s:expect_prompt()
      s:paste("text = '" .. ("é"):rep(bytes // 2) .. "'")
      s:keys "Enter"
      s:enter "#text + 1"
      s:expect(("\n%d\n"):format(bytes // 2 * 2 + 1))
      assert.equal(0, s:quit())
    end
    local s = screen.start()
    s:expect_prompt()
    for _ = 1, 3 do s:type("-- " .. ("x"):rep(2000)) end
    s:keys("Up", "Down", "C-a")
    s:type "7000 + 1 "
    s:keys "Enter"
    s:expect "\n7001\n"
    s:keys("Up", "C-e")
    s:type "\\"
    s:keys "Enter"
    s:wait("7001, twice", function (text) return select(2, text:gsub("\n7001\n", "")) == 1 end)
    local kept = read_file(s.dir .. "/history"):match "[^\n]*\n"
    assert.equal("7000 + 1 " .. ("-- " .. ("x"):rep(2000)):rep(3) .. "\n", kept)
    assert.equal(0, s:quit())
  end)
end)
