-- flume DB append and import, run as processes.

local binary = require "tests.support.binary"
local flume = require "flume"
local fixture = require "tests.support.fixture"

local BUILD = os.getenv "BUILD" or "build"

local command, failure, output, read_file = binary.command, binary.failure, binary.output, binary.read_file
local run, start, wait_until = binary.run, binary.start, binary.wait_until

describe("append", function ()
  after_each(fixture.clean)

  it("takes lines from standard input and from files", function ()
    local dir = fixture.dir()
    local file = fixture.write(dir .. "/lines", '{"n":3}\n[1,2]\n"text"\n\n  \n7\n')
    assert.equal("1 record appended\n", output({dir .. "/data", "append"}, {input = '{"n":1}\n'}))
    assert.equal("1 record appended\n", output({dir .. "/data", "append", "-"}, {input = '{"n":2}'}))
    assert.equal("4 records appended\n", output {dir .. "/data", "append", file})
    assert.equal("0 records appended\n", output({dir .. "/data", "append"}, {input = "\n\n"}))
    assert.equal('{"n":1}\n{"n":2}\n{"n":3}\n[1,2]\n"text"\n7\n', output {dir .. "/data", "stream", "--json"})
  end)

  it("passes over the byte order mark that some editors write", function ()
    local dir = fixture.dir() .. "/data"
    assert.equal("1 record appended\n", output({dir, "append"}, {input = '\xef\xbb\xbf{"n":1}\n'}))
    assert.equal('{"n":1}\n', output {dir, "stream", "--json"})
    assert.is_not_nil(failure({dir, "append"}, {input = '1\n\xef\xbb\xbf2\n'}):find "line 2: ")
  end)

  it("reports as JSON", function ()
    local result = output({fixture.dir() .. "/data", "append", "--json"}, {input = "1\n2\n"})
    assert.same({appended = 2, skipped = 0, since = 1}, flume.json.decode(result))
  end)

  it("takes many lines, long ones and Windows ones", function ()
    local dir, lines = fixture.dir(), {}
    for n = 1, 20000 do lines[n] = ('{"n":%d,"text":"%s"}'):format(n, ("x"):rep(n % 97)) end
    lines[#lines + 1] = '"' .. ("y"):rep(2000000) .. '"'
    lines[#lines + 1] = '{"last":true}\r'
    local text = table.concat(lines, "\n") .. "\n"
    assert.equal("20002 records appended\n", output({dir .. "/data", "append"}, {input = text}))
    assert.equal(text:gsub("\r", ""), output {dir .. "/data", "stream", "--json"})
  end)

  it("stops at a bad line, and keeps the lines before it", function ()
    for _, bad in ipairs {1, 2, 3000, 20000} do
      local dir, lines = fixture.dir() .. "/data", {}
      for n = 1, 20000 do lines[n] = n == bad and '{"n":' or ('{"n":%d,"text":"some more text"}'):format(n) end
      local message, out = failure({dir, "append"}, {input = table.concat(lines, "\n")})
      assert.is_not_nil(message:find(("append: line %d: column 6: "):format(bad), 1, true), message)
      assert.equal(("%d record%s appended\n"):format(bad - 1, bad == 2 and "" or "s"), out)
      assert.equal(("log since %d\n"):format(bad - 2), output {dir, "status"})
    end
  end)

  it("counts empty lines in the number of a bad one", function ()
    assert.is_not_nil(failure({fixture.dir() .. "/data", "append"}, {input = "\n1\n\n\nx\n2\n"}):find "line 5: ")
  end)

  it("passes over bad lines when told to", function ()
    local dir, lines = fixture.dir() .. "/data", {}
    for n = 1, 9000 do lines[n] = n % 9 == 0 and "oops" or tostring(n) end
    assert.equal("8000 records appended, 1000 bad lines skipped\n",
      output({dir, "append", "--skip-bad"}, {input = table.concat(lines, "\n")}))
    assert.equal("7999\t8999\n", output {dir, "tail", "-n", "1"})
    assert.equal("1 record appended, 1 bad line skipped\n", output({dir, "append", "--skip-bad"}, {input = "x\n1"}))
    for n = 1, 9000 do lines[n] = n % 2 == 0 and "{oops}" or n % 9 == 0 and " " or ('{"n":%d}'):format(n) end
    assert.equal("4000 records appended, 4500 bad lines skipped\n",
      output({dir, "append", "--skip-bad"}, {input = table.concat(lines, "\n") .. "\n\n"}))
    assert.equal('{"n":8997}\n{"n":8999}\n', output {dir, "tail", "-n", "2", "--json"})
  end)

  it("says which file is not there", function ()
    assert.is_not_nil(failure({fixture.dir() .. "/data", "append", "/no/such/file"}):find("/no/such/file", 1, true))
  end)

  it("stores what has come while it waits for more", function ()
    local dir = fixture.dir() .. "/data"
    local pipe = io.popen(command {dir, "append"} .. " >/dev/null", "w")
    pipe:write '{"n":1}\n{"n":2'
    pipe:flush()
    wait_until(function () return run({dir, "stream", "--json"}).out == '{"n":1}\n' end)
    pipe:write '}\n'
    assert.is_true(pipe:close())
    assert.equal('{"n":1}\n{"n":2}\n', output {dir, "stream", "--json"})
  end)

  it("can be interrupted while it waits, and keeps what it has", function ()
    local dir = fixture.dir()
    assert.is_true(os.execute("mkfifo " .. dir .. "/in"))
    local child = start({dir .. "/data", "append"}, ("<%s/in 2>%s/err"):format(dir, dir))
    local input <close> = io.open(dir .. "/in", "w")
    input:write "1\n"
    input:flush()
    wait_until(function () return run({dir .. "/data", "stream"}).out == "0\t1\n" end)
    child.interrupt()
    assert.equal("1 record appended\n1\n", child.pipe:read "a")
    assert.equal("flume: interrupted\n", read_file(dir .. "/err"))
  end)

  it("names the process that holds the database's lock", function ()
    local dir = fixture.dir() .. "/data"
    local db = fixture.keep(assert(flume.open(dir)))
    db:append{n = 1}
    local message = failure({dir, "append"}, {input = "1"})
    assert.is_not_nil(message:find "open for writing in process %d+")
    assert.is_nil(message:find "%-%-readonly") -- which can't append
    assert.is_not_nil(failure({dir, "status"}):find "process %d+; %-%-readonly reads beside it\n")
    assert.equal('{"n":1}\n', output {dir, "get", "0", "--json"})
    assert.equal("0\t{n = 1}\n", output {dir, "stream"})
    assert.equal("1\n", output {dir, "--readonly", "-e", "db:get(0).n"})
  end)
end)

describe("append, under attack,", function ()
  after_each(fixture.clean)

  -- Runs flume append on what a shell command writes.
  local function fed(source, args, env)
    local dir = fixture.dir()
    local words = {dir .. "/data", "append", table.unpack(args or {})}
    local _, _, code = os.execute(("%s | %s >%s/out 2>%s/err"):format(source, command(words, env), dir, dir))
    return {out = read_file(dir .. "/out"), err = read_file(dir .. "/err"), code = code, data = dir .. "/data"}
  end

  it("refuses junk in its first line", function ()
    for _, source in ipairs {"head -c 3000000 /dev/zero", "head -c 1000000 " .. BUILD .. "/lib/lua/5.4/flume.so",
      [[printf '\\377\\376{}\\n']], [[printf '"\\200"\\n']]} do
      local result = fed(source)
      assert.equal(1, result.code, source)
      assert.equal("0 records appended\n", result.out)
      assert.is_not_nil(result.err:find "^flume: append: line 1: ", result.err)
      assert.is_true(#result.err < 300)
    end
  end)

  it("holds no line that is too long, and passes over it when told to", function ()
    -- a third of a GB without a newline: twice what a record may have would not fit into this memory
    local lines = [[{ echo 1; head -c 330000000 /dev/zero | tr '\\0' ' '; echo; echo 2; echo 3; }]]
    local limit = os.getenv "SANITIZE" and "" or "ulimit -v 900000; " -- a sanitizer takes terabytes of addresses
    local result = fed(limit .. lines, {"--skip-bad"})
    assert.equal("", result.err)
    assert.equal("3 records appended, 1 bad line skipped\n", result.out)
    result = fed(lines)
    assert.equal("flume: append: line 2: longer than 268 MB\n", result.err)
    assert.equal("1 record appended\n", result.out)
  end)

  it("stores what it has reported when a signal ends it, and ends by that signal", function ()
    for _, signal in ipairs {"TERM", "HUP"} do
      local dir = fixture.dir()
      local child = start({dir .. "/data", "append"}, ("<%s/in 2>%s/err"):format(dir, dir), dir .. "/in")
      local input <close> = io.open(dir .. "/in", "w")
      input:write "1\n2\n"
      input:flush()
      wait_until(function () return run({dir .. "/data", "stream"}).out == "0\t1\n1\t2\n" end)
      os.execute(("kill -%s %s"):format(signal, child.pid))
      assert.equal(("2 records appended\n%d\n"):format(signal == "TERM" and 143 or 129), child.pipe:read "a")
      assert.equal("0\t1\n1\t2\n", output {dir .. "/data", "stream"})
    end
  end)

  it("says so when its input can't be read", function ()
    local dir = fixture.dir()
    local _, _, code = os.execute(("%s <&- >%s/out 2>%s/err"):format(command {dir .. "/data", "append"}, dir, dir))
    assert.equal(1, code)
    assert.equal("flume: append: standard input: Bad file descriptor\n", read_file(dir .. "/err"))
    assert.equal(("flume: append: %s: Is a directory\n"):format(dir), (failure {dir .. "/data", "append", dir}))
  end)
end)

describe("import", function ()
  after_each(fixture.clean)

  it("takes lines of JSON", function ()
    local dir = fixture.dir()
    local file = fixture.write(dir .. "/lines", "1\nx\n2\n")
    assert.equal("1 record appended\n", output({dir .. "/data", "import"}, {input = "0\n"}))
    assert.is_not_nil(failure({dir .. "/data", "import", "--from", "json", file}):find "^flume: import: line 2: ")
    assert.equal("2 records appended, 1 bad line skipped\n", output {dir .. "/data", "import", file, "--skip-bad"})
    assert.equal("0\n1\n1\n2\n", output {dir .. "/data", "stream", "--json"})
  end)
end)
