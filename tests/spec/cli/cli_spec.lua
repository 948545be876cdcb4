-- The command line: the flume binary, run as a process.

local binary = require "tests.support.binary"
local flume = require "flume"
local shell = require "tests.support.shell"
local fixture = require "tests.support.fixture"

local command, failure, filled, output = binary.command, binary.failure, binary.filled, binary.output
local read_file, run, start = binary.read_file, binary.run, binary.start

local function views(version)
  local dir = fixture.dir()
  fixture.write(dir .. "/sum.lua", binary.SUM:format(version or 1))
  return dir
end

describe("the command line", function ()
  after_each(fixture.clean)

  it("explains itself", function ()
    local help = output {"--help"}
    for _, word in ipairs {"append", "stream", "NAME.METHOD", "%-%-views DIR", "exit status: 0"} do
      assert.is_not_nil(help:find(word), word)
    end
    assert.equal(help, output {"-h"})
    assert.equal(("flume %s\n"):format(flume._VERSION), output {"--version"})
  end)

  it("reports errors of usage, with exit status 2", function ()
    local wrong = {
      {"which database", {}},
      {"unknown option '%-%-colour'\n", {"data", "--colour"}},
      {"unknown option '%-%-jason'; did you mean %-%-json%?\n", {"data", "--jason"}},
      {"unknown option '%-%-skip%-bda'; did you mean %-%-skip%-bad%?\n", {"data", "append", "--skip-bda"}},
      {"unknown command 'stauts'; did you mean status%?\n", {"data", "stauts"}},
      {"unknown command 'app'; did you mean append%?\n", {"data", "app"}},
      {"%-%-from wants a format %(async%-append%-only%-log, flumelog%-offset, json%)",
        {"data", "import", "--from", "xml"}},
      {"%-%-from is an option of import", {"data", "append", "--from", "json"}},
      {"%-%-skip%-bad is an option of append and import", {"data", "status", "--skip-bad"}},
      {"%-%-no%-rc and the command 'status' exclude each other", {"data", "status", "--no-rc"}},
      {"new view wants the view's name", {"new", "view"}},
      {"get: 'two' is one argument too many", {"test", "get", "1", "two"}}, -- a database may be called test
      {"unknown command 'frobnicate'", {"data", "frobnicate"}},
      {"unknown command 'a.b.c'", {"data", "a.b.c"}},
      {"%-%-limit wants a whole number, got 'x'", {"data", "stream", "--limit", "x"}},
      {"%-%-gt wants a whole number, got '1.5'", {"data", "stream", "--gt=1.5"}},
      {"%-%-views wants a folder after it", {"data", "--views"}},
      {"%-%-json takes no value, got 'yes'", {"data", "--json=yes"}},
      {"%-%-sync wants always, interval or os, got 'never'", {"--sync", "never", "data"}},
      {"%-%-reverse is an option of stream", {"data", "append", "--reverse"}},
      {"%-e and the command 'status' exclude each other", {"data", "status", "-e", "1"}},
      {"get wants a sequence number", {"data", "get"}},
      {"status: 'x' is one argument too many", {"data", "status", "x"}},
    }
    for _, case in ipairs(wrong) do
      local message = failure(case[2], nil, 2)
      assert.is_not_nil(message:find(case[1]), message)
      assert.is_not_nil(message:find "Try 'flume %-%-help'")
    end
  end)

  it("reports that no database was named", function ()
    for _, words in ipairs {{"append", "records.jsonl"}, {"status"}} do
      assert.is_not_nil(failure(words):find("which database? It comes first: flume DB " .. words[1], 1, true))
      assert.is_nil(io.open(words[1]))
    end
    assert.is_not_nil(failure({"append", "records"}, nil, 2):find "It comes first: flume DB append\n")
    assert.is_not_nil(failure({"tail", "-n", "3"}, nil, 2):find "It comes first: flume DB tail\n")
  end)

  it("names a database that can't be opened", function ()
    local missing = fixture.dir() .. "/none"
    for _, command_name in ipairs {"status", "stream", "tail", "rebuild", "sum.get"} do
      assert.equal(("flume: %s: there is no database here; append and import make one\n"):format(missing),
        (failure {missing, command_name}))
    end
    assert.is_nil(io.open(missing))
    assert.is_not_nil(failure({"/dev/null/data", "append"}):find("/dev/null/data", 1, true))
    assert.is_not_nil(failure({filled(0), "--views", "/nowhere", "status"}):find("/nowhere", 1, true))
  end)
end)

describe("get, stream and tail", function ()
  after_each(fixture.clean)

  it("get one record", function ()
    local dir = filled(3)
    assert.equal("{n = 2}\n", output {dir, "get", "1"})
    assert.equal('{"n":2}\n', output {dir, "get", "1", "--json"})
    assert.equal("flume: get: no record 3: the log ends at 2\n", (failure {dir, "get", "3"}))
    assert.equal("flume: get: no record 0: the log is empty\n", (failure {filled(0), "get", "0"}))
    assert.is_not_nil(failure({dir, "get", "-1"}):find "'%-1' is no sequence number")
    assert.is_not_nil(failure({dir, "get", "first"}):find "'first' is no sequence number")
  end)

  it("print the results of views with their keys in the same order in each run", function ()
    local dir, folder = fixture.dir(), fixture.dir()
    local scripts = {
      sums = "{version = 1, initial = {}, reducer = function (s, r) s[r.who] = r.n return s end}",
      lists = "{version = 1, initial = {}, group = function (r) return r.who end, reducer = function (s) return s end}",
      by = "{version = 1, indexer = function (item, _, emit) emit(item.who) end}",
    }
    for name, script in pairs(scripts) do fixture.write(("%s/%s.lua"):format(folder, name), "return " .. script) end
    local function ask(...) return output {"--views", folder, "--json", dir .. "/data", ...} end
    output({dir .. "/data", "append"}, {input = ""})
    assert.equal("{}\n", ask "sums.get")
    local lines = {}
    for n, who in ipairs {"zoe", "ada", "eve", "bob", "dan", "cem", "fay", "gus"} do
      lines[n] = ('{"zeta":%d,"who":"%s","n":%d,"alpha":{"z":1,"b":2,"a":3}}'):format(n, who, n)
    end
    output({dir .. "/data", "append"}, {input = table.concat(lines, "\n")})
    for _ = 1, 3 do
      assert.equal('{"ada":2,"bob":4,"cem":6,"dan":5,"eve":3,"fay":7,"gus":8,"zoe":1}\n', ask "sums.get")
      assert.equal(lines[3] .. "\n", ask("by.get", "eve"))
      assert.equal(lines[8] .. "\n", ask("q.query", '[{"$filter":{"who":"gus"}}]'))
      assert.equal(table.concat(lines, "\n") .. "\n", ask("q.query", "[]"))
      assert.equal("{}\n", ask("lists.get", "zoe"))
    end
  end)

  it("keep the order of keys in JSON", function ()
    local dir, text = fixture.dir() .. "/data", '{"z":1,"a":{"y":null,"b":[1.0,2]},"m":"é\\n"}\n'
    output({dir, "append"}, {input = text})
    assert.equal(text, output {dir, "get", "0", "--json"})
    assert.equal(text, output {dir, "stream", "--json"})
    assert.equal(text, output {dir, "tail", "--json"})
  end)

  it("stream a range", function ()
    local dir = filled(6)
    local function seqs(...)
      local list = {}
      for seq in output({dir, "stream", ...}):gmatch "(%d+)\t" do list[#list + 1] = seq end
      return table.concat(list, " ")
    end
    assert.equal("0 1 2 3 4 5", seqs())
    assert.equal("2 3 4 5", seqs("--gt", "1"))
    assert.equal("1 2 3 4 5", seqs "--gte=1")
    assert.equal("0", seqs("--lt", "1"))
    assert.equal("0 1", seqs("--lte", "1"))
    assert.equal("0 1 2", seqs("--limit", "3"))
    assert.equal("4 3", seqs("--reverse", "--lt", "5", "--limit", "2"))
    assert.equal("", seqs("--limit", "0"))
    assert.equal("", seqs("--gt", "5"))
  end)

  it("stream into another append", function ()
    local from, to = filled(500), fixture.dir() .. "/copy"
    os.execute(("%s | %s >/dev/null"):format(command {from, "stream", "--json"}, command {to, "append"}))
    assert.equal(output {from, "stream"}, output {to, "stream"})
  end)

  it("fail when their output can't be written", function ()
    local dir = fixture.dir()
    for _, case in ipairs {
      {">/dev/full", "writing the output"}, {">&-", "writing the output"}, {"| true", ""},
      {"| head -n 1 >/dev/null", ""},
    } do
      for _, args in ipairs {{"stream"}, {"status"}, {"tail"}, {"-e", "for i = 1, 1e5 do print(i) end"}, {"--help"}} do
        local words = {filled(2), table.unpack(args)}
        os.execute(("{ %s 2>%s/err; echo $? >%s/code; } %s"):format(command(words), dir, dir, case[1]))
        local code, err = tonumber(read_file(dir .. "/code")), read_file(dir .. "/err")
        if case[2] ~= "" then
          assert.equal(1, code)
          assert.is_not_nil(err:find(case[2]), err)
        else
          assert.equal("", err) -- whoever read it has had enough
        end
      end
    end
  end)

  it("stream what comes later", function ()
    local dir = filled(2)
    local pipe = start({dir, "stream", "--live", "--json", "--limit", "4"}).pipe
    assert.equal('{"n":1}', pipe:read "l")
    assert.equal('{"n":2}', pipe:read "l")
    output({dir, "append"}, {input = "3"})
    assert.equal("3", pipe:read "l")
    output({dir, "append"}, {input = "4\n5"})
    assert.equal("4\n0\n", pipe:read "a")
    assert.is_not_nil(failure({dir, "stream", "--live", "--reverse"}):find "exclude each other")
  end)

  it("tail the last records", function ()
    local dir = filled(12)
    assert.equal("10\t{n = 11}\n11\t{n = 12}\n", output {dir, "tail", "-n", "2"})
    assert.equal(10, select(2, output({dir, "tail"}):gsub("\n", "")))
    assert.equal("", output {dir, "tail", "-n", "0"})
    assert.is_not_nil(failure({dir, "tail", "-n", "-1"}):find "not negative, got %-1")
  end)

  it("tail the log until the reader of its output has gone", function ()
    local dir, report = filled(2), fixture.dir() .. "/code"
    os.execute(("{ timeout 60 %s; echo $? >%s; } | head -n 1 >/dev/null"):format(command {dir, "tail", "-f"}, report))
    assert.equal("1\n", read_file(report))
  end)

  it("tail the log as it grows, until interrupted", function ()
    local dir = filled(3)
    local child = start {dir, "tail", "-f", "-n", "1"}
    assert.equal("2\t{n = 3}", child.pipe:read "l")
    output({dir, "append"}, {input = '"new"'})
    assert.equal('3\t"new"', child.pipe:read "l")
    child.interrupt()
    assert.equal("0\n", child.pipe:read "a")
  end)
end)

describe("views on the command line", function ()
  after_each(fixture.clean)

  it("are called by NAME.METHOD, with arguments in JSON or as they are", function ()
    local dir, folder = filled(10), views()
    local function call(...) return output {"--views", folder, dir, ...} end
    assert.equal("55\n", call "sum.get")
    assert.equal("{more = 3, sum = 55}\n", call("sum.add", "1", "2"))
    assert.equal("{more = -1, sum = 55}\n", call("sum.add", "-1"))
    assert.equal("number\n", call("sum.kind", "1.5"))
    assert.equal("string\n", call("sum.kind", "one"))
    assert.equal("string\n", call("sum.kind", '"1"'))
    assert.equal("boolean\n", call("sum.kind", "true"))
    assert.equal("3\n", call("sum.kind", "[1,2,3]"))
    assert.equal("string\n", call("sum.kind", "--", "--json"))
    assert.same({more = 1, sum = 55}, flume.json.decode(call("sum.add", "1", "--json")))
  end)

  it("print one result of a source a line", function ()
    local dir, folder = filled(2), views()
    assert.equal("3\n6\n", output {"--views", folder, dir, "sum.list", "2"})
    assert.equal('1\t"a"\n2\t"b"\n', output {"--views", folder, dir, "sum.pairs"})
    assert.equal('[1,"a"]\n[2,"b"]\n', output {"--views", folder, dir, "sum.pairs", "--json"})
    assert.equal("", output {"--views", folder, dir, "sum.list", "0"})
  end)

  it("print a false value, and all that a delta has", function ()
    local dir, folder = filled(2), fixture.dir()
    fixture.write(folder .. "/odd.lua", [[return {
      version = 1, group = "n", initial = 0, reducer = function (_, item) return item.n % 2 == 1 end}]])
    fixture.write(folder .. "/total.lua", [[return {
      version = 1, initial = 0, reducer = function (n, item) return n + item.n end}]])
    local function of(...) return output {"--views", folder, dir, ...} end
    assert.equal("1\ttrue\n2\tfalse\n", of "odd.read")
    assert.equal("[1,true]\n[2,false]\n", of("odd.read", "--json"))
    assert.matches('^reset\nset\t1\ttrue\t1\nset\t2\tfalse\t1\nat\t"1[^"]*"\tnil\t1\n$', of "odd.deltas")
    assert.matches('^%["reset"%]\n%["set",null,3,1%]\n%["at","1[^"]*",null,1%]\n$', of("total.deltas", "--json"))
  end)

  it("are found by FLUME_VIEWS too", function ()
    assert.equal("3\n", output({filled(2), "sum.get"}, {env = "FLUME_VIEWS=" .. views()}))
  end)

  it("report errors", function ()
    local dir, folder = filled(1), views()
    assert.is_not_nil(failure({dir, "sum.get"}):find "no view 'sum': none is mounted")
    assert.is_not_nil(failure({"--views", folder, dir, "smu.get"}):find "no view 'smu'; did you mean sum%?")
    assert.is_not_nil(failure({"--views", folder, dir, "other.get"}):find "no view 'other'; there are sum")
    assert.is_not_nil(failure({"--views", folder, dir, "sum.gte"}):find "no method 'gte'; did you mean get%?")
    assert.is_not_nil(failure({"--views", folder, dir, "sum.value"}):find "'value'; it has add, deltas, fail, get")
    assert.is_not_nil(failure({"--views", folder, dir, "sum.fail"}):find "no luck")
  end)

  it("say what is wrong with an argument, and of which type it is", function ()
    local dir, folder = fixture.dir(), fixture.dir()
    fixture.write(folder .. "/daily.lua", [[return {version = 1, initial = 0, group = function (r) return r.day end,
      reducer = function (n) return n + 1 end, methods = {raise = "async"}, raise = function () error{t = 1} end}]])
    output({dir .. "/data", "append"}, {input = '{"day":"2024"}\n{"day":7}'})
    local function ask(...) return run {"--views", folder, dir .. "/data", ...} end
    assert.same({out = "0\n", code = 0, err = "flume: note: 2024 is a number here; the answer for the string, "
      .. "'\"2024\"', is different\n"}, ask("daily.get", "2024"))
    assert.same({out = "1\n", code = 0, err = ""}, ask("daily.get", '"2024"'))
    assert.same({out = "1\n", code = 0, err = "flume: note: 7 is a number here; the answer for the string, "
      .. "'\"7\"', is different\n"}, ask("daily.get", "7"))
    assert.same({out = "0\n", code = 0, err = ""}, ask("daily.get", "8"))
    assert.same({out = "0\n", code = 0, err = ""}, ask("daily.get", "2024-01-01"))
    assert.same({out = "", code = 1, err = "flume: daily.get: argument 1 is no JSON: column 7: expected ',' or '}' but "
      .. 'found the end of the text; as a string it is "{\\"a\\":1"\n'}, ask("daily.get", '{"a":1'))
    assert.same({out = "", code = 1, err = 'flume: an error object: {"t":1}\n'}, ask "daily.raise")
  end)

  it("that fail say where, and others go on", function ()
    local dir, folder = filled(5), views()
    fixture.write(folder .. "/poison.lua", [[return {version = 1, initial = 0, reducer = function (_, item)
      if item.n == 3 then error "poison" end
      return item.n
    end}]])
    local message = failure {"--views", folder, dir, "poison.get"}
    assert.is_not_nil(message:find "view poison failed at record 2: ")
    assert.is_not_nil(message:find "poison.lua:2: poison")
    local status = run {"--views", folder, dir, "status", "--wait"}
    assert.equal(1, status.code)
    assert.is_not_nil(status.out:find "poison +failed")
    assert.is_not_nil(status.out:find "sum +%a")
    assert.equal("15\n", output {"--views", folder, dir, "sum.get"})
  end)

  it("that can't be loaded say why, and others go on", function ()
    local dir, folder = filled(2), views()
    fixture.write(folder .. "/broken.lua", "return {versio")
    assert.is_not_nil(failure({"--views", folder, dir, "broken.get"}):find "broken.lua:1: ")
    assert.equal("3\n", output {"--views", folder, dir, "sum.get"})
    local told, out = failure {"--views", folder, dir, "status"}
    assert.is_not_nil(out:find "\nbroken +%- +failed +%-1 +2 +%- +%- +%-\n")
    assert.is_not_nil(told:find "broken.lua:1: ")
    local _, json = failure {"--views", folder, dir, "status", "--json"}
    local status = flume.json.decode(json)
    assert.equal("failed", status.views[1].state)
    assert.is_not_nil(status.views[1].error:find "broken.lua:1: ")
  end)

  it("are built once, and again when their version changes", function ()
    local dir, folder = filled(5), views(1)
    local function account() return output {"--views", folder, dir, "status", "--wait"} end
    assert.is_not_nil(account():find "^sum  built in .+ records/s%)\n$")
    assert.equal("sum  up to date\n", account())
    output({dir, "append"}, {input = '{"n":1}\n{"n":1}'})
    assert.is_not_nil(account():find "^sum  2 records more in ")
    fixture.write(folder .. "/sum.lua", binary.SUM:format(2))
    assert.is_not_nil(account():find "^sum  rebuilt in .+ because version 1 → 2\n$")
    assert.equal("sum  up to date\n", account())
  end)

  it("are shown by status", function ()
    local dir, folder = filled(5), views()
    output {"--views", folder, dir, "sum.get"}
    local lines = output {"--views", folder, dir, "status"}
    assert.equal("log since 4\nview  version  state  since  lag  rate  ETA     size\n"
      .. "sum   1        live       4    0     -    -  16.4 kB\n", lines)
    assert.equal("log since 4\non disk, not mounted: sum (drop NAME removes one)\n", output {dir, "status"})
    local status = flume.json.decode(output {"--views", folder, dir, "status", "--json"})
    assert.equal(4, status.since)
    assert.equal("live", status.views[1].state)
  end)

  it("that failed in an earlier process are shown as failed, until they are beyond the record", function ()
    local dir, folder = fixture.dir(), fixture.dir()
    fixture.write(folder .. "/n.lua", [[return {version = 1, initial = 0, reducer = function (n, item)
      if item.bad then error "oh" end
      return n + 1
    end}]])
    output({dir .. "/data", "append"}, {input = '{"n":1}\n{"bad":true}\n{"n":2}\n'})
    local message = "view n failed at record 1: " .. folder .. "/n.lua:2: oh; "
      .. 'db.views["n"]:skip(1) passes over the record; a changed script is built from the start\n'
    assert.equal("flume: " .. message, (failure {"--views", folder, dir .. "/data", "n.get"}))
    for _, option in ipairs {"--readonly", "--json"} do
      local told, out = failure {"--views", folder, option, dir .. "/data", "status"}
      assert.equal("flume: " .. message, told)
      assert.is_truthy(out:find(option == "--json" and '"state":"failed"' or "n     1        failed", 1, true), out)
    end
    failure {"--views", folder, dir .. "/data", "status", "--wait"}
    output {"--views", folder, dir .. "/data", "-e", "db.views.n:skip(1)"}
    assert.equal("2\n", output {"--views", folder, dir .. "/data", "n.get"})
    assert.is_nil(output{"--views", folder, dir .. "/data", "status"}:find "failed")
    fixture.write(folder .. "/n.lua", "return {version = 2, initial = 0, reducer = function (n) return n + 1 end}")
    assert.is_nil(output{"--views", folder, dir .. "/data", "status"}:find "failed")
  end)

  it("whose state can't be stored say so", function ()
    local dir, folder = filled(3), views()
    output{"--views", folder, dir, "status", "--wait"}
    os.execute(("rm -r %s/views && mkdir %s/views && chmod 555 %s/views"):format(dir, dir, dir))
    local program = io.popen "id -u":read "n" == 0 and "setpriv --reuid=65534 --clear-groups flume" or "flume"
    os.execute(("chmod -R a+rwX %s %s; chmod 555 %s/views"):format(dir, folder, dir))
    local pipe = io.popen(("%s --views %s %s status 2>&1"):format(program, folder, dir))
    local text = pipe:read "a"
    pipe:close()
    local obstacle = dir .. "/views: Permission denied\n"
    for _, told in ipairs {"flume: the state of views can't be stored, and they are built at every start: ",
      "view sum: its state can't be stored, and is built at every start: "} do
      assert.is_truthy(text:find(told .. obstacle, 1, true), text)
    end
  end)

  it("are rebuilt on request", function ()
    local dir, folder = filled(5), views()
    assert.is_not_nil(output({"--views", folder, dir, "rebuild"}):find "^rebuilt sum in ")
    assert.is_not_nil(output({"--views", folder, dir, "rebuild", "sum"}):find "^rebuilt sum in ")
    assert.is_not_nil(failure({"--views", folder, dir, "rebuild", "sums"}):find "no view 'sums'; did you mean sum%?")
    assert.equal("15\n", output {"--views", folder, dir, "sum.get"})
  end)
end)

describe("a database that can't be opened", function ()
  after_each(fixture.clean)

  it("is named, with the reason, by every command", function ()
    local dir = filled(3)
    os.execute(("for f in %s/log/*.flume; do head -c 200 /dev/urandom >$f; done"):format(dir))
    for _, args in ipairs {{"status"}, {"get", "0"}, {"tail"}, {"-e", "1"}, {"append"}, {}} do
      local message = failure({dir, table.unpack(args)}, {input = "1"})
      assert.is_not_nil(message:find(dir, 1, true), message)
      assert.is_nil(message:find "traceback", message)
    end
    for _, path in ipairs {"/dev/null", "/dev/null/x", "/proc/x", dir .. "/log/lock"} do
      assert.is_not_nil(failure({path, "append"}, {input = "1"}):find(path, 1, true))
    end
    assert.is_not_nil(failure({"", "append"}, nil, 2):find "which database")
  end)
end)

describe("what is documented", function ()
  it("is every option and every command, in the help and in the manual", function ()
    local names, commands = require "flume.cli.options".names()
    local help, manual = output {"--help"}, read_file "bin/flume.1"
    local escaped = manual:gsub("\\\\-", "-")
    for _, name in ipairs(names) do
      local short = name:gsub("^%-", "")
      assert.is_not_nil((help .. " "):find(name:gsub("%-", "%%-") .. "%f[^%w%-]"), name)
      assert.is_not_nil(escaped:find("Fl " .. short, 1, true), name)
    end
    for _, name in ipairs(commands) do
      assert.is_not_nil(help:find("\n  " .. name .. "%f[^%w]"), name)
      assert.is_not_nil(escaped:find("\n%.It Cm " .. name .. "%f[^%w]"), name)
    end
    for _, line in ipairs {".help", ".views", ".status", ".tail", ".explain", ".rebuild", ".reload", ".skip", ".check",
      ".compact", ".backup", ".dump", ".mode", ".timer", ".quit"} do
      assert.is_not_nil(manual:find("\n.It Ic " .. line, 1, true), line)
    end
  end)
end)

describe("code on the command line", function ()
  after_each(fixture.clean)

  it("prints what it gives", function ()
    local dir, folder = filled(3), views()
    local function code(text) return output {"--views", folder, dir, "-e", text} end
    assert.equal("2\n", code "db.since.value")
    assert.equal("6\n", code "sum:get()")
    assert.equal("1\n{2, x = {}}\n", code "return 1, {2, x = {}}")
    assert.equal("hello\n", code "print 'hello'")
    assert.equal("3\n", code "local a, b = 1, 2\nlocal function add() return a + b end\nreturn add()")
    assert.equal("", code "x = 1")
    assert.equal("1\t{n = 2}\n2\t{n = 3}\n", code "db:stream{gt = 0}")
    assert.equal('{"n":1}\n', output {dir, "--json", "-e", "db:get(0)"})
  end)

  it("fails with the message, and the way to it", function ()
    local dir = filled(0)
    assert.equal("flume: -e:1: unexpected symbol near <eof>\n", failure {dir, "-e", "x ="})
    assert.equal("flume: -e:2: oh\n", failure {dir, "-e", "local x\nerror 'oh'"})
    local message = failure {dir, "-e", "local function f() error 'oh' end\nlocal function g() f() end\ng()"}
    assert.equal("flume: -e:1: oh\nstack traceback:\n\t-e:1: in global 'f'\n\t-e:2: in global 'g'\n", message)
    assert.is_not_nil(failure({dir, "-e", "db:get(7)"}):find "^flume: .*%(ENOENT%)\n$")
  end)

  it("is not run when a signal came before", function ()
    local code = [[
      local terminal, runner = require "flume.terminal", require "flume.cli.runner"
      terminal.watch() -- nobody is interrupted
      io.popen "kill -INT $PPID":close()
      print(runner.call(function () print "it ran" end))
      print(runner.call(function () return "and the next one" end))
    ]]
    assert.equal("false\tinterrupted!\ntrue\tand the next one\n", output {filled(0), "-e", code})
  end)

  it("that waits for ever is told so", function ()
    assert.is_not_nil(failure({filled(0), "-e", "coroutine.yield()"}):find "cannot happen any more")
  end)
end)

describe("lines of Lua on standard input", function ()
  after_each(fixture.clean)

  it("are run one after the other, with what they define", function ()
    local lines = {
      "local x = 1", "function f()", "  return x", "end", "x = x + 1", "f()", "", "-- nothing", "for i = 1, 2 do",
      "print(i)", "end",
    }
    assert.equal("2\n1\n2\n", output({filled(0)}, {input = table.concat(lines, "\n")}))
  end)

  it("may be dot commands", function ()
    local dir, folder = filled(2), views()
    local lines = ".views\n.tail 1\n.rebuild sum\n.status\n.quit\nerror 'not run'\n"
    local out = output({"--views", folder, dir}, {input = lines})
    assert.is_not_nil(out:find "^sum  add %(async%), deltas %(source%), fail %(async%), get %(async%)")
    assert.is_not_nil(out:find "\n1\t{n = 2}\n")
    assert.is_not_nil(out:find "\nrebuilt sum in ")
    assert.is_not_nil(out:find "\nlog since 1\n")
    assert.equal("source", flume.json.decode(output({"--views", folder, "--json", dir}, {input = ".views"})).sum.list)
  end)

  it("may use every name that .help calls in scope", function ()
    local dir, folder = filled(1), views()
    local help = output({"--views", folder, dir}, {input = ".help\n"})
    local names, rest = help:match "in scope: ([%w_, ]-) %(the last result%)(.-)\ndb:"
    assert.equal(",\neach view by its name", rest)
    local lines = {"'something'"} -- the last result
    for name in names:gmatch "[%w_]+" do
      lines[#lines + 1] = ("assert(%s ~= nil, %q)"):format(name, name)
    end
    assert.is_true(#lines > 3)
    lines[#lines + 1] = "sum:get()"
    output({"--views", folder, dir}, {input = table.concat(lines, "\n") .. "\n"})
  end)

  it("stop at the first that fails", function ()
    local dir = filled(0)
    local message, out = failure({dir}, {input = "1\n\nerror 'two'\n3\n"})
    assert.equal("flume: stdin:3: two\n", message)
    assert.equal("1\n", out)
    assert.equal("flume: stdin:2: unknown command '.frobnicate'; .help lists those there are\n",
      failure({dir}, {input = "1\n.frobnicate\n"}))
    assert.is_not_nil(failure({dir}, {input = "1\n1 1\n"}):find "^flume: stdin:2: ")
    assert.is_not_nil(failure({dir}, {input = "1\nfor i = 1, 2 do\n"}):find "^flume: stdin:3?2?: .*<eof>\n$")
    assert.is_not_nil(failure({dir}, {input = ".mode blue\n"}):find "'blue' is none of auto, lua, json, table")
    assert.is_not_nil(failure({dir}, {input = ".check --repair\ndb:get(0)\n"}):find "flume DB check %-%-repair repairs")
  end)

  it("have examples in the help, which work as they stand there", function ()
    local dir, folder = filled(20), views()
    local help = output({dir}, {input = ".help\n"})
    local column, lines, names = help:find "for example\n", {}, {}
    for line in help:gmatch "[^\n]+" do
      local name = line:match "^%.(%a+)"
      if name then
        names[#names + 1] = name
        lines[#lines + 1] = line:sub(column)
        assert.equal(name, line:match("^%.(%a+)", column))
      end
    end
    assert.equal("quit", table.remove(names))
    lines[#lines] = help:match "\n([^\n]*)\n$":gsub("   ", "\n")
    fixture.write(dir .. "/here/lines", table.concat(lines, "\n") .. "\n.quit\nerror()")
    local out = shell.output(("cd %s/here && %s <lines"):format(dir, command {"--views", folder, dir}))
    assert.is_not_nil(out:find "20 records in 1 segment")
    local man = read_file "bin/flume.1"
    for _, name in ipairs(names) do
      assert.is_not_nil(output({dir}, {input = ".help " .. name}):find("^%." .. name .. ".*\nfor example: %." .. name))
      assert.is_not_nil(man:find("\n.It Ic ." .. name, 1, true), name)
    end
  end)

  it("may have words with spaces in quotes", function ()
    local dir, copies = filled(2), fixture.dir()
    output({dir}, {input = (".dump '%s/all of it'\n.backup \"%s/my copy\"\n"):format(copies, copies)})
    assert.equal('{"n":1}\n{"n":2}\n', read_file(copies .. "/all of it"))
    assert.equal("1\t{n = 2}\n", output {copies .. "/my copy", "tail", "-n", "1"})
  end)

  it("say so when they can't be read, or are interrupted", function ()
    local dir = fixture.dir()
    for _, case in ipairs {{"<" .. dir, "Is a directory"}, {"<&-", "Bad file descriptor"}} do
      local _, _, code = os.execute(("%s %s 2>%s/err"):format(command {dir .. "/data"}, case[1], dir))
      assert.equal(1, code)
      assert.equal(("flume: standard input: %s\n"):format(case[2]), read_file(dir .. "/err"))
    end
    local child = start({dir .. "/data"}, ("<%s/in 2>%s/err"):format(dir, dir), dir .. "/in")
    local input <close> = io.open(dir .. "/in", "w")
    input:write "40 + 2\n"
    input:flush()
    assert.equal("42", child.pipe:read "l")
    child.interrupt()
    assert.equal("1\n", child.pipe:read "a")
    assert.equal("flume: interrupted\n", read_file(dir .. "/err"))
  end)

  it("print in the mode asked for", function ()
    local lines = {
      ".mode", "{1}", ".mode json", "{1}", ".mode table", "{{name = 'b', n = 10}, {name = 'a'}}", "1",
    }
    local out = output({filled(0)}, {input = table.concat(lines, "\n")})
    assert.equal("lua\n{1}\n[1]\n n  name\n10  b\n    a\n1\n", out)
  end)
end)

describe("progress", function ()
  after_each(fixture.clean)

  it("is not shown without a terminal, unless asked for", function ()
    local dir, lines = fixture.dir(), ('{"n":1}\n'):rep(5000)
    local function err(env) return run({dir .. "/data", "append"}, {input = lines, env = env}).err end
    assert.equal("", err())
    assert.equal("", err "FLUME_PROGRESS=0")
    local shown = err "FLUME_PROGRESS=1"
    assert.is_not_nil(shown:find "append  .* 100%%  5,000 records  [%d,]+/s  [%d.]+ m?s\n$", shown)
  end)

  it("is shown for views that are built, with those alone", function ()
    local dir, folder = filled(50), views()
    local function err() return run({"--views", folder, dir, "sum.get"}, {env = "FLUME_PROGRESS=1"}).err end
    fixture.write(folder .. "/broken.lua", "return {")
    local shown = err()
    assert.is_not_nil(shown:find "building sum  .* 100%%  50 records  ", shown)
    assert.equal("", err())
  end)

  it("is shown on a terminal when it takes longer, and goes away when the work is given up", function ()
    local code = [[
      local progress = require "flume.cli.progress"
      local time, text = 0, {}
      local out = {flush = function () end}
      function out:write(...)
        for _, part in ipairs {...} do text[#text + 1] = part end
      end
      do
        local bar <close> = progress.new{
          label = "work", total = 100, tty = true, out = out, now = function () return time end,
        }
        bar:update(0, 0)
        time = 0.4
        bar:update(10, 10)
        print(#text)
        time = 1
        bar:update(50, 50)
        print((table.concat(text):gsub("%c", "?")))
      end
      print(table.concat(text):sub(-4) == "\r\27[K")
    ]]
    local shown = output({filled(0), "-e", code}, {env = "LC_ALL=C"})
    assert.equal("0\n?work  ############............  50%  50 records  50/s  ETA 1.0 s?[K\ntrue\n", shown)
  end)

  it("cuts the names, not the bar, where a terminal is narrow", function ()
    local code = [[
      local text = {}
      local out = {flush = function () end, write = function (_, ...) text[#text + 1] = table.concat{...} end}
      local bar <close> = require "flume.cli.progress".new{
        label = "building " .. ("long_name, "):rep(20), total = 100, tty = true, out = out, columns = 80, forced = true,
      }
      bar:update(50, 50)
      return (text[1]:gsub("%c", ""))
    ]]
    local shown = output({filled(0), "-e", code}, {env = "LC_ALL=C"})
    assert.is_truthy(shown:find "^building long_[^#]*~  #+%.+  50%%  50 records  [%d,]+/s%[K\n$", shown)
    assert.is_true(#shown <= 82)
  end)

  it("has numbers for people", function ()
    local code = [[
      local progress = require "flume.cli.progress"
      for _, n in ipairs {0, 999, 1000, 1234567, -1234} do print(progress.thousands(n)) end
      for _, n in ipairs {0, 999, 1000, 1234567, 99950000, 5e12} do print(progress.bytes(n)) end
      for _, s in ipairs {0.0123, 1.25, 9.99, 59.4, 75, 3599.6, 7322} do print(progress.duration(s)) end
    ]]
    assert.equal(table.concat({
      "0", "999", "1,000", "1,234,567", "-1,234",
      "0 B", "999 B", "1.0 kB", "1.2 MB", "100 MB", "5.0 TB",
      "12 ms", "1.2 s", "10 s", "59 s", "1m15s", "1h00m", "2h02m",
    }, "\n") .. "\n", output {filled(0), "-e", code})
  end)
end)

describe("the demo", function ()
  after_each(fixture.clean)

  local STANZAS = table.concat({
    "Package: left", "Version: 1.0", "Installed-Size: 12", "Maintainer: Jane Doe <jane@example.org>",
    "Depends: libc6 (>= 2.36), libuv1 | libev4:any, libc6", "Description: says \"left\"", " and\tmore", "Tag: a::b,",
    " c::d", "Section: libs", "Size: 1000", "", "Package: right", "Maintainer: Jane Doe <jane@example.org>",
    "Depends: libuv1 (>= 1.4)", "Section: libs", "Size: 24", "", "", "Package: bare", "",
  }, "\n")

  local function import()
    local dir = fixture.dir()
    fixture.write(dir .. "/index", STANZAS)
    assert.is_true(os.execute(("demo/import <%s/index >%s/lines"):format(dir, dir)))
    return dir, dir .. "/lines"
  end

  it("imports the package index", function ()
    local _, path = import()
    local records = {}
    for line in io.lines(path) do records[#records + 1] = assert(flume.json.decode(line)) end
    assert.same({
      {
        package = "left", version = "1.0", installed_size = 12, maintainer = "Jane Doe <jane@example.org>",
        depends = {"libc6", "libuv1", "libev4"}, description = 'says "left"\nand\tmore', tag = "a::b,\nc::d",
        section = "libs", size = 1000,
      },
      {
        package = "right", maintainer = "Jane Doe <jane@example.org>", depends = {"libuv1"},
        section = "libs", size = 24,
      },
      {package = "bare"},
    }, records)
  end)

  it("has views that answer", function ()
    local dir, path = import()
    output {dir .. "/data", "append", path}
    local function ask(...)
      return flume.json.decode(output {"--json", "--views", "demo/views", dir .. "/data", ...})
    end
    assert.same({["libs"] = {packages = 2, bytes = 1024}, ["(none)"] = {packages = 1, bytes = 0}}, ask "sections.get")
    assert.same({{name = "Jane Doe", packages = 2}, {name = "(nobody)", packages = 1}}, ask "maintainers.top")
    assert.same({{name = "Jane Doe", packages = 2}}, ask("maintainers.top", "1"))
    assert.same({"left", "right"}, ask("dependents.of", "libuv1"))
    assert.same({}, ask("dependents.of", "nothing"))
  end)
end)
