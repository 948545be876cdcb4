-- A forked child has its parent's handles, but none of the parent's threads: it leaves them alone, and may open
-- databases of its own. Lua has no fork: a small module is compiled for it.

local shell = require "tests.support.shell"
local world = require "tests.support.fixture"

local LUA = os.getenv "LUA" or "lua5.4"

local MODULE = [[
#include <lua.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int fork_process(lua_State *L) {
  lua_pushinteger(L, fork());
  return 1;
}

/* wait(pid) -> exit status, or "alive" after ten seconds: then the child is killed */
static int wait_for(lua_State *L) {
  int status = 0;
  pid_t pid = (pid_t)lua_tointeger(L, 1);
  for (int i = 0; i < 1000; i++, usleep(10000)) {
    if (waitpid(pid, &status, WNOHANG) != pid) continue;
    lua_pushinteger(L, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    return 1;
  }
  kill(pid, 9);
  waitpid(pid, &status, 0);
  lua_pushstring(L, "alive");
  return 1;
}

int luaopen_test_fork(lua_State *L) {
  lua_newtable(L);
  lua_pushcfunction(L, fork_process);
  lua_setfield(L, -2, "fork");
  lua_pushcfunction(L, wait_for);
  lua_setfield(L, -2, "wait");
  return 1;
}
]]

local dir

local function compile()
  dir = world.dir()
  world.write(dir .. "/fork.c", "#include <signal.h>\n" .. MODULE)
  local flags = shell.output "pkg-config --cflags lua5.4":gsub("%s+$", "")
  local command = ("cc -shared -fPIC %s -o %s/test_fork.so %s/fork.c 2>&1"):format(flags, dir, dir)
  assert(shell.output(command) == "")
end

-- What a script prints that runs parent and child; db is a database in dir/db, which the parent has used.
local function run(script)
  local path = world.write(dir .. "/main.lua", ([[
    package.cpath = %q .. "/?.so;" .. package.cpath
    local fork, flume = require "test_fork", require "flume"
    io.stdout:setvbuf "no"
    local db = assert(flume.open(%q))
    db:append {n = 1}
    %s
  ]]):format(dir, dir .. "/db", script))
  return shell.output(LUA .. " " .. path .. " 2>&1")
end

describe("a forked child", function ()
  before_each(compile)
  after_each(world.clean)

  it("ends, though the parent has a database open", function ()
    assert.equal("0\n0\n2\n", run [[
      for _, close in ipairs {true, false} do
        local pid = fork.fork()
        if pid == 0 then
          if close then os.exit(0, true) end
          db = nil
          collectgarbage()
          os.exit(0, true)
        end
        print(fork.wait(pid))
      end
      db:append {n = 2}
      local count = 0
      for _ in db:stream() do count = count + 1 end
      print(count)
      db:close()
    ]])
  end)

  it("ends, though the parent has closed its database", function ()
    assert.equal("0\n", run [[
      db:close()
      local pid = fork.fork()
      if pid == 0 then os.exit(0, true) end
      print(fork.wait(pid))
    ]])
  end)

  for _, closes in ipairs {false, true} do
    it("ends, though a script view was used" .. (closes and ", and the database was closed" or ""), function ()
      world.write(dir .. "/sum.lua", "return {version = 1, initial = 0, reducer = function (s, i) return s + i.n end}")
      assert.equal("1\n0\n0\n", run(([[
        db:use("sum", %q)
        print(db.sum:get())
        if %s then db:close() end
        for _, close in ipairs {true, false} do
          local pid = fork.fork()
          if pid == 0 then
            if close then os.exit(0, true) end
            db = nil
            collectgarbage()
            os.exit(0, true)
          end
          print(fork.wait(pid))
        end
        if not %s then db:close() end
      ]]):format(dir .. "/sum.lua", closes, closes)))
    end)
  end

  it("opens databases of its own, with a loop of its own", function ()
    assert.equal("5\n1\n0\n1\n", run(([[
      local pid = fork.fork()
      if pid == 0 then
        local own = assert(flume.open(%q))
        own:append {n = 5}
        for _, item in own:stream() do print(item.n) end
        local seen
        flume.spawn(function () seen = own:append {n = 6} end)
        flume.run()
        print(seen)
        own:close()
        os.exit(0, true)
      end
      print(fork.wait(pid))
      db:append {n = 2}
      print(db.since.value)
      db:close()
    ]]):format(dir .. "/own")))
  end)

  it("gets an error from a call that would wait for the parent's threads", function ()
    local text = run [[
      local pid = fork.fork()
      if pid == 0 then
        print(pcall(db.append, db, {n = 7}))
        os.exit(0, true)
      end
      print(fork.wait(pid))
      db:close()
    ]]
    assert.is_truthy(text:find "before the process was forked" or text:find "ELOCKED", text)
    assert.is_truthy(text:find "\n0\n$", text)
  end)
end)
