-- Views given as files: where they are found, when they are built anew, and what they can't do.

local flume = require "flume"
local fixture = require "tests.support.fixture"

local COUNT = [[return {version = 1, initial = 0, reducer = function (acc) return acc + 1 end}]]

-- A database whose views' folder has the files; files[name] = source.
local function with_views(files, options)
  local folder = fixture.dir()
  for name, source in pairs(files) do fixture.write(folder .. "/" .. name .. ".lua", source) end
  options = options or {}
  options.views = folder
  return fixture.keep(assert(flume.new(flume.log.memory(), options))), folder
end

-- A database with one script view "v" of the source, in a memory log.
local function with_script(source, extra)
  local db = fixture.keep(flume.new(flume.log.memory()))
  return db:use("v", fixture.write(fixture.dir() .. "/v.lua", source), extra)
end

describe("a script view", function ()
  after_each(fixture.clean)

  it("is mounted from the folder under its file's name", function ()
    local db = with_views {count = COUNT, ["also-count"] = COUNT, ["not a name"] = "error()"}
    db:append {{a = 1}, {a = 2}}
    assert.equal(2, db.count:get())
    assert.equal(2, db.views["also-count"]:get())
    assert.equal(2, #db:status().views)
  end)

  it("is mounted by path, and by name from the folder", function ()
    local db, folder = with_views {}
    fixture.write(folder .. "/deep/inner.lua", COUNT)
    local path = fixture.write(fixture.dir() .. "/other.lua", COUNT)
    db:use("a", path):use("b", "deep.inner")
    db:append {a = 1}
    assert.equal(1, db.a:get())
    assert.equal(1, db.b:get())
  end)

  it("that can't be loaded takes its name, and answers with its error", function ()
    local db = with_views {good = COUNT, syntax = "return {", raises = "error 'at load'", wrong = "return 5"}
    db:append {a = 1}
    assert.equal(1, db.good:get())
    for name, wanted in pairs {syntax = "expected", raises = "at load", wrong = "a view is a table"} do
      local value, message, code = db.views[name]:get()
      assert.is_nil(value)
      assert.equal("EVIEW", code)
      assert.truthy(message:find(wanted, 1, true), message)
      assert.equal("failed", db:status().views[name == "raises" and 2 or name == "syntax" and 3 or 4].state)
    end
  end)

  it("whose name the database has for itself is told of with its file, and the others go on", function ()
    local names = {"log", "status", "since", "get", "close", "views", "ready"}
    local files = {good = COUNT}
    for _, name in ipairs(names) do files[name] = COUNT end
    local db, folder = with_views(files)
    db:append {a = 1}
    assert.equal(1, db.good:get())
    assert.equal(0, db.since.value)
    for _, name in ipairs(names) do
      local row = db:status().views[name]
      assert.equal("failed", row.state)
      local wanted = ('%s/%s.lua: the name "%s" is taken by the database: rename the file'):format(folder, name, name)
      assert.equal(wanted, row.error)
      assert.same({nil, wanted, "EVIEW"}, {db.views[name]:get()})
      assert.same({nil, wanted, "EVIEW"}, {db:reload(name)})
    end
    assert.is_true(db.good:rebuild())
  end)

  it("by use raises when it can't be loaded", function ()
    assert.error_matches(function () with_script "return {" end, "expected")
    assert.error_matches(function () with_script "return {version = 1}" end, "neither a reducer")
    assert.error_matches(function () with_script "error 'at load'" end, "at load")
    assert.error_matches(function () with_script "while true do end" end, "budget")
    assert.error_matches(function () with_views {ok = "x"}:use("ok", "/none.lua") end, "already")
  end)

  it("has methods of all three types, whose arguments and results cross as values", function ()
    local db = with_script [[
      return {
        version = 1, initial = {}, methods = {now = "sync", echo = "async", each = "source", both = "source"},
        reducer = function (acc, item) acc[#acc + 1] = item.n return acc end,
        now = function (view) return #view.get() end,
        echo = function (_, ...) return ... end,
        each = function (view) return view.get() end,
        both = function (view) return ipairs(view.get()) end,
      }
    ]]
    for i = 1, 1000 do db:append {n = i * 10} end
    db.v:ready()
    assert.equal(1000, db.v:now())
    assert.same({1, "two", 3.5, {a = {true}}}, {db.v:echo(1, "two", 3.5, {a = {true}})})
    assert.equal("integer", math.type((db.v:echo(3))))
    assert.equal("float", math.type((db.v:echo(3.0))))
    assert.equal(4, select("#", db.v:echo(nil, 1, nil, nil)))
    local sum = 0
    for n in db.v:each() do sum = sum + n end
    assert.equal(5005000, sum)
    local got = {}
    for i, n in db.v:both() do got[#got + 1] = n - i end
    assert.equal(9000, got[1000])
  end)

  it("takes and gives nothing but values", function ()
    local db = with_script [[
      return {
        version = 1, reducer = function () end, methods = {id = "async", fn = "async"},
        id = function (_, x) return x end, fn = function () return print end,
      }
    ]]
    assert.equal("EINVAL", select(3, db.v:id({f = print})))
    assert.equal("EINVAL", select(3, db.v:fn()))
    assert.equal(5, db.v:id(5))
  end)

  it("fails alone when it raises, with seq and traceback", function ()
    local db = with_views {good = COUNT, bad = [[
      local function inner(item) if item.n == 3 then error("three!") end end
      return {version = 1, reducer = function (_, item) inner(item) return 1 end}
    ]]}
    for i = 1, 5 do db:append {n = i} end
    local value, message, code = db.bad:get()
    assert.is_nil(value)
    assert.equal("EVIEW", code)
    assert.truthy(message:find "record 2.*bad.lua:1: three!", message)
    assert.equal(5, db.good:get())
    assert.truthy(db:status().views[1].traceback:find "inner")
  end)

  it("may require modules of the folder, once each", function ()
    local db = with_views {
      helper = [[
        loads = (loads or 0) + 1
        return {twice = function (x) return 2 * x end, loads = function () return loads end}
      ]],
      v = [[
        local helper = require "helper"
        assert(helper == require "helper")
        return {version = 1, initial = 0, reducer = function (acc, item)
          return acc + helper.twice(item.n) * helper.loads()
        end}
      ]],
    }
    db:append {{n = 1}, {n = 2}}
    assert.equal(6, db.v:get())
    assert.equal("failed", db:status().views[1].state) -- a helper is no view; it does no harm
  end)

  it("requires nothing from elsewhere", function ()
    for _, name in ipairs {"../secret", "/etc/passwd", "lfs", "flume.core", "io", "..secret", "a..b", ""} do
      assert.error_matches(function ()
        with_script(("require %q return {version = 1, reducer = print}"):format(name))
      end, "module")
    end
  end)

  it("has flume's marks and observables at hand", function ()
    local db = with_script [[
      local flume = require "flume"
      return {version = 1, reducer = function (_, item)
        return {item.x == flume.null, flume.array {}, flume.map {}, flume.table(item).list}
      end}
    ]]
    db:append {x = flume.null, list = {1}}
    assert.same({true, {}, {}, {1}}, db.v:get())
  end)

  it("does not see what other views do", function ()
    local db = with_views {
      a = "shared = 1 string.shared = 1 return {version = 1, reducer = function () return 'a' end}",
      b = "return {version = 1, reducer = function () return tostring(shared) .. tostring(string.shared) end}",
    }
    db:append {n = 1}
    assert.equal("a", db.a:get())
    assert.equal("nilnil", db.b:get())
    assert.is_nil(rawget(string, "shared"))
  end)

  it("is rebuilt in a Lua state of its own, beside the state that is busy", function ()
    local db = with_script([[
      local runs = 0
      return {version = 1, methods = {spin = "async"},
        reducer = function () runs = runs + 1 return runs end,
        spin = function () local x = 0 for i = 1, 1e7 do x = x + i end return x end}
    ]], {trusted = true}) -- which may keep something outside its state
    db:append {{n = 1}, {n = 2}}
    assert.equal(2, db.v:get())
    local spun
    db.v:spin(function (err, x) spun = err or x end)
    flume.step(0)
    assert.is_true(db.v:rebuild())
    assert.equal(2, db.v:get())
    fixture.run_until(function () return spun ~= nil end)
    assert.is_number(spun)
  end)

  it("does not keep the caller waiting while it works", function ()
    local db = with_views {slow = [[
      return {version = 1, reducer = function () local x = 0 for i = 1, 3e7 do x = x + i end return x end}
    ]], good = COUNT}
    db:append {n = 1}
    assert.equal(1, db.good:get())
    assert.equal(-1, db.slow.since.value)
    assert.is_number(db.slow:get())
  end)
end)

describe("the fingerprint of a script", function ()
  after_each(fixture.clean)

  local function reopen(dir, folder)
    local db = fixture.keep(assert(flume.open(dir, {views = folder})))
    local row, begins_at = db:status().views[1], db.v.progress:get().start
    local value = db.v:get()
    db:close()
    return begins_at, value, row.reason
  end

  local function built(source, helper)
    local dir, folder = fixture.dir() .. "/data", fixture.dir()
    fixture.write(folder .. "/lib/helper.lua", helper or "return 1")
    fixture.write(folder .. "/v.lua", source)
    local db = fixture.keep(assert(flume.open(dir)))
    db:append {{n = 1}, {n = 2}}
    db:close()
    reopen(dir, folder)
    return dir, folder
  end

  it("unchanged rebuilds nothing", function ()
    local dir, folder = built "return {initial = 0, reducer = function (acc, item) return acc + item.n end}"
    assert.same({1, 3}, {reopen(dir, folder)})
  end)

  it("changed rebuilds the view", function ()
    local dir, folder = built "return {initial = 0, reducer = function (acc, item) return acc + item.n end}"
    fixture.write(folder .. "/v.lua", "return {initial = 0, reducer = function (acc, item) return acc - item.n end}")
    assert.same({-1, -3, "the source has changed"}, {reopen(dir, folder)})
    assert.same({1, -3}, {reopen(dir, folder)})
  end)

  it("does not see comments and white space", function ()
    local dir, folder = built "return {initial = 0, reducer = function (acc, item) return acc + item.n end}"
    fixture.write(folder .. "/v.lua", [==[
      -- it adds
      return { --[[ long
        comment ]] initial = 0,
        reducer = function (acc, item) --[=[ ]] ]=]
          return acc + item.n -- the sum
        end
      }
    ]==])
    assert.same({1, 3}, {reopen(dir, folder)})
  end)

  it("sees what looks like a comment in a string, and tokens that were joined", function ()
    local template = "return {initial = '', reducer = function () local a, b, ab = 1, 2, 3 return %s end}"
    for _, pair in ipairs {
      {"'x -- y'", "'x -- z'"}, {"'a b'", "'a  b'"}, {"a .. b", "ab"}, {"[[--]]", "[[-- ]]"},
    } do
      local dir, folder = built(template:format(pair[1]))
      fixture.write(folder .. "/v.lua", template:format(pair[2]))
      local _, _, reason = reopen(dir, folder)
      assert.equal("the source has changed", reason)
      fixture.clean()
    end
  end)

  it("covers the modules that it requires", function ()
    local dir, folder = built [[
      local f = require 'lib.helper'
      return {initial = 0, reducer = function (acc) return acc + f end}
    ]]
    fixture.write(folder .. "/lib/helper.lua", "-- one\nreturn 1")
    assert.same({1, 2}, {reopen(dir, folder)})
    fixture.write(folder .. "/lib/helper.lua", "return 10")
    assert.same({-1, 20, "the source has changed"}, {reopen(dir, folder)})
  end)

  it("does not count when there is a version", function ()
    local dir, folder = built [[
      return {version = 1, initial = 0, reducer = function (acc, item) return acc + item.n end}
    ]]
    fixture.write(folder .. "/v.lua", "return {version = 1, initial = 0, reducer = function (acc) return acc end}")
    assert.same({1, 3}, {reopen(dir, folder)})
    fixture.write(folder .. "/v.lua", "return {version = 2, initial = 0, reducer = function (acc) return acc end}")
    assert.same({-1, 0, "version 1 -> 2"}, {reopen(dir, folder)})
  end)
end)

describe("the sandbox", function ()
  after_each(fixture.clean)

  -- What the expression is inside a view.
  local function inside(expression)
    local db = with_script(("return {version = 1, reducer = function (_, item) return %s end}"):format(expression))
    db:append {n = 1}
    local value, message = db.v:get()
    db:close()
    return value, message
  end

  it("has no access to files, processes, the clock or random numbers", function ()
    for _, name in ipairs {
      "io", "os", "debug", "package", "dofile", "loadfile", "collectgarbage", "string.dump", "(''):dump",
      "math.random", "math.randomseed", "_G.io", "_G._G.os", "require('flume').open", "flume_core",
    } do
      assert.equal("nil", inside("tostring(" .. name:gsub(":", ".") .. ")"), name)
    end
  end)

  it("loads text, in the view's environment, and no bytecode", function ()
    assert.equal(3, inside "load('return 1 + 2')()")
    assert.equal("nil", inside "load('return tostring(io)')()")
    local bytecode = ("%q"):format(string.dump(function () return 1 end))
    assert.equal("false", inside("tostring(load(" .. bytecode:gsub("\\\n", "\\n") .. ") ~= nil)"))
  end)

  it("does not hand out the metatable of strings or of records", function ()
    assert.equal("nil", inside "tostring(getmetatable(''))")
    assert.not_equal("table", inside "type(getmetatable(item))")
  end)

  it("has no finalizers", function ()
    local value, message = inside "tostring(setmetatable({}, {__gc = function () end}))"
    assert.is_nil(value)
    assert.truthy(message:find "__gc")
  end)

  it("leaves the useful parts of the library", function ()
    assert.equal("1-2", inside "table.concat({1, 2}, '-')")
    assert.equal("ABC", inside "('abc'):upper()")
    assert.equal("a", inside "string.format('%s', 'a')")
    assert.equal(2, inside "math.max(1, 2)")
    assert.equal(1, inside "utf8.len('x')")
    assert.equal("caught", inside "select(2, xpcall(error, function () return 'caught' end))")
    assert.equal(7, inside "select(2, xpcall(function (x) return x end, error, 7))")
    assert.equal(1, inside "coroutine.wrap(function () coroutine.yield(1) end)()")
  end)

  -- Each is the body of a reducer that must be stopped; the budget is small, so that it is soon.
  local endless = {
    ["a loop"] = "while true do end",
    ["a loop that catches errors"] = "while true do pcall(function () while true do end end) end",
    ["a loop in a handler"] = "xpcall(function () while true do end end, function () while true do end end)",
    ["a loop in a coroutine"] = "coroutine.wrap(function () while true do end end)()",
    ["loops in coroutines that are caught"] =
      "while true do pcall(coroutine.wrap(function () while true do end end)) end",
    ["a loop in a coroutine that makes coroutines"] = [[coroutine.wrap(function ()
      while true do pcall(coroutine.wrap(function () while true do end end)) end
    end)()]],
    ["a recursion"] = "local function f() return f() end f()",
    ["a loop in a metamethod"] = "return setmetatable({}, {__index = function () while true do end end}).x",
    ["a loop in a to-be-closed variable"] =
      "local x <close> = setmetatable({}, {__close = function () while true do end end})",
    ["a loop in a comparison"] = "table.sort({1, 2, 3}, function () while true do end end)",
  }
  for what, body in pairs(endless) do
    it("stops " .. what .. ", and that view alone", function ()
      local db = with_views {good = COUNT}
      local path = fixture.write(fixture.dir() .. "/v.lua",
        ("return {version = 1, reducer = function () %s end}"):format(body))
      db:use("v", path, {budget = 1000000})
      db:append {n = 1}
      local calls, cb = fixture.recorder()
      db.v:get(cb)
      assert.equal(1, db.good:get())
      fixture.run_until(function () return #calls == 1 end)
      assert.equal("EVIEW", calls[1][1].code)
      assert.truthy(calls[1][1]:find "budget", calls[1][1].message)
      db:append {n = 2}
      assert.equal(2, db.good:get())
    end)
  end

  it("stops an endless method, and the view goes on", function ()
    local db = with_script([[
      return {version = 1, methods = {spin = "async"}, reducer = function (acc) return (acc or 0) + 1 end,
        spin = function () while true do end end}
    ]], {budget = 1000000})
    db:append {n = 1}
    local _, message, code = db.v:spin()
    assert.equal("EVIEW", code)
    assert.truthy(message:find "budget")
    assert.equal(1, db.v:get())
  end)

  local greedy = {
    ["a string"] = "return ('x'):rep(1 << 30)",
    ["a table"] = "local t = {} while true do t[#t + 1] = {} end",
    ["a table that is kept by a pcall"] = [[
      local t = {}
      while true do pcall(function () t[#t + 1] = ('x'):rep(1 << 20) .. #t end) end
    ]],
    ["a state that grows"] = "kept = kept or {} for i = 1, 1e6 do kept[#kept + 1] = {i} end return #kept",
  }
  for what, body in pairs(greedy) do
    it("stops " .. what .. " that takes all memory, and that view alone", function ()
      local db = with_views {good = COUNT}
      local path = fixture.write(fixture.dir() .. "/v.lua",
        ("return {version = 1, reducer = function () %s end}"):format(body))
      db:use("v", path, {memory = 16 << 20, budget = 100000000})
      db:append {{n = 1}, {n = 2}}
      assert.equal("EVIEW", select(3, db.v:get()))
      assert.equal(2, db.good:get())
    end)
  end
end)

describe("closing a database", function ()
  after_each(fixture.clean)

  it("does not wait for all that a busy script view has before it", function ()
    local dir, path = fixture.dir() .. "/data", fixture.dir() .. "/slow.lua"
    fixture.write(path, [[return {version = 1, initial = 0, reducer = function (acc, item)
      local x = 0
      for k = 1, 5000000 do x = x + k end
      return acc + item.n
    end}]])
    local db, batch = fixture.open_db(dir), {}
    for n = 1, 400 do batch[n] = {n = n} end
    db:append(batch)
    local start = os.clock()
    db:use("slow", path)
    fixture.run_until(function () return db.slow.since.value >= 0 end)
    local one = os.clock() - start -- processor time of the first slice, all threads
    start = os.clock()
    assert.is_true(db:close())
    assert.is_true(os.clock() - start < 10 * one + 1)
    db = fixture.open_db(dir, {ready = false}):use("slow", path)
    assert.is_true(db.slow.since.value >= 0 and db.slow.since.value < 399) -- it goes on from there
  end)
end)
