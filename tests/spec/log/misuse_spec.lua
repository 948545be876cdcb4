-- What a hostile view or a clumsy caller may try; none of it may end the process, hang, or be answered wrongly.

local flume = require "flume"
local table_log = require "tests.support.table_log"
local fixture = require "tests.support.fixture"

local function memory_db(options)
  return fixture.keep(flume.new(flume.log.memory(), options))
end

local function script(source)
  return fixture.write(fixture.dir() .. "/v.lua", source)
end

local sum = flume.reduce(1, function (acc, item) return acc + item end, 0)

describe("an error object whose metamethods raise", function ()
  after_each(fixture.clean)

  local RAISE = "error(setmetatable({}, {__index = function () error 'x' end, __tostring = function () error 'y' end}))"

  it("raised by a method is an answer like any other", function ()
    local db = memory_db():use("v", script(([[
      return {version = 1, initial = 0, reducer = function (n) return n + 1 end,
        methods = {now = "sync", later = "async"}, now = function () %s end, later = function () %s end}
    ]]):format(RAISE, RAISE)))
    assert.equal("EVIEW", select(3, db.v:now()))
    assert.equal("EVIEW", select(3, db.v:later()))
    db:append "x"
    assert.equal(1, db.v:get())
  end)

  it("raised by a reducer fails the view alone", function ()
    local db = memory_db():use("v", script(("return {version = 1, reducer = function () %s end}"):format(RAISE)))
    db:use("sum", sum):append(3)
    assert.equal("EVIEW", select(3, db.v:get()))
    assert.equal(3, db.sum:get())
  end)

  it("raised at load is an error of use", function ()
    local db = memory_db()
    assert.has_error(function () db:use("v", script(RAISE)) end)
  end)
end)

describe("names", function ()
  after_each(fixture.clean)

  it("of methods may be those that the handle is made of", function ()
    local db = memory_db()
    local definition = {version = 1, initial = 0, reducer = function (n) return n + 1 end, methods = {}}
    for _, name in ipairs {"host", "core", "db", "broken"} do
      definition.methods[name] = "async"
      definition[name] = function () return name end
    end
    db:use("v", definition):append "x"
    assert.equal("host", db.v:host())
    assert.equal("broken", db.v:broken())
    assert.equal(1, db.v:get())
  end)

  it("of views can't be those that the database is made of", function ()
    local db = memory_db()
    for _, name in ipairs {"closing", "closed", "log", "views", "append", "_map", "_views"} do
      assert.has_error(function () db:use(name, sum) end)
    end
    assert.equal(0, db:append(1))
  end)

  it("can't be removed from db.views", function ()
    local db = memory_db():use("sum", sum)
    assert.has_error(function () db.views.sum = nil end)
    local seen = {}
    for name in pairs(db.views) do seen[#seen + 1] = name end
    assert.same({"sum"}, seen)
  end)
end)

describe("a raw view", function ()
  after_each(fixture.clean)

  it("in a file starts over when it is rebuilt", function ()
    local db = memory_db():use("v", script [[
      local flume = require "flume"
      return {create = function ()
        local since, total = flume.observable(-1), 0
        return {
          since = since, methods = {total = "async"}, total = function () return total end,
          create_sink = function () return function (item, seq) total = total + item; since:set(seq) end end,
          destroy = function (done) total = 0; since:set(-1); done() end,
          close = function (done) done() end,
        }
      end}
    ]])
    db:append {1, 2}
    assert.equal(3, db.v:total())
    assert.is_true(db.v:rebuild())
    assert.equal(3, db.v:total())
  end)

  it("that can't be destroyed has failed, and says so", function ()
    local db = memory_db()
    db:use("v", {create = function ()
      return {
        since = flume.observable(-1), methods = {get = "async"}, get = function () return 1 end,
        create_sink = function () return function () end end,
        destroy = function () error "no way" end, close = function (done) done() end,
      }
    end})
    local _, message, code = db.v:rebuild()
    assert.equal("EVIEW", code)
    assert.is_truthy(message:find("no way", 1, true))
    assert.equal("EVIEW", select(3, db.v:get()))
    assert.equal("failed", db:status().views[1].state)
  end)
end)

describe("a caller", function ()
  after_each(fixture.clean)

  it("gets an error for more results than Lua can take", function ()
    local db = memory_db():use("v", script [[
      return {version = 1, initial = 0, reducer = function (n) return n end, methods = {many = "async"},
        many = function ()
          local list = {}
          for i = 1, 999900 do list[i] = i end
          return table.unpack(list)
        end}
    ]])
    assert.equal("EVIEW", select(3, db.v:many()))
  end)

  it("can't lose records behind a hole", function ()
    local db = memory_db()
    local seq, message, code = db:append(flume.array {[1] = "a", [3] = "c"})
    assert.same({nil, "EINVAL"}, {seq, code})
    assert.is_truthy(message:find "hole at 2")
    assert.equal("EINVAL", select(3, db:append(flume.array {[2] = "c"})))
    assert.equal(-1, db.since.value)
    assert.equal(1, db:append(flume.array {"a", "b"}))
  end)

  it("may wait for ever", function ()
    local db = memory_db():use("sum", sum)
    db:append(5)
    assert.equal(5, db.sum:get {timeout = math.huge})
    assert.equal(5, db.sum:get {timeout = 1e300})
  end)

  it("does not change the state of a view by changing what it was given", function ()
    local db = memory_db()
    db:use("v", flume.reduce(1, function (acc) acc.n = acc.n + 1; return acc end, {n = 0}))
    db:append "x"
    db.v:get().n = 1000
    db:append "x"
    assert.equal(2, db.v:get().n)
  end)

  it("hears of a callback that is no function before anything is done", function ()
    local db = memory_db():use("sum", sum)
    assert.has_error(function () db:append(1, 5) end)
    assert.has_error(function () db:get(0, "x") end)
    assert.equal(-1, db.since.value)
  end)

  it("can't open a directory without a name", function ()
    assert.has_error(function () flume.open "" end)
    assert.has_error(function () flume.open "a\0b" end)
    assert.has_error(function () flume.log.file "" end)
  end)

  it("hears of a wrong seq in a list, wherever it is", function ()
    local db = memory_db()
    db:append {1, 2, 3}
    assert.has_error(function () db:del {0, "x", 1} end)
    assert.has_error(function () db:del {0, 1.5} end)
    assert.equal(1, db:get(0))
  end)

  it("gets mapped and decoded values from a lazy stream too", function ()
    local db = memory_db {mapper = function (value) return {doubled = value * 2} end}
    db:append {1, 2}
    assert.same({{0, {doubled = 2}}, {1, {doubled = 4}}}, fixture.collect(db:stream {lazy = true}))
  end)
end)

describe("two databases on one log", function ()
  after_each(fixture.clean)

  it("each end their own streams", function ()
    local log = flume.log.memory()
    local one, two = flume.new(log), fixture.keep(flume.new(log))
    local stream = two:stream {live = true}
    one:close()
    two:append "x"
    assert.same({0, "x"}, {stream:next()})
  end)

  it("can't keep the state of a view in one place", function ()
    local dir = fixture.dir()
    local log = assert(flume.log.file(dir .. "/log"))
    local one, two = fixture.keep(flume.new(log)), fixture.keep(flume.new(log))
    one.dir, two.dir = dir, dir
    one:use("sum", sum)
    assert.has_error(function () two:use("sum", sum) end)
    one:close()
    two:use("sum", sum)
    two:append(4)
    assert.equal(4, two.sum:get())
  end)
end)

describe("a table log that holds what can't be stored", function ()
  after_each(fixture.clean)

  it("is not passed over in silence", function ()
    local log = table_log()
    local db = fixture.keep(flume.new(log)):use("sum", sum)
    db:append(1)
    assert.equal(1, db.sum:get())
    log.stream = function () return function (state, seq) if not seq then return state, print end end, 1 end
    assert.has_error(function () db:append(2) end)
    assert.has_error(function () db:append(3) end)
  end)
end)

describe("a method called with a dot", function ()
  after_each(fixture.clean)

  it("says how to call it, and what was given", function ()
    local db = memory_db():use("v", sum)
    local A_TABLE = "with a colon; what was given in the place of the object is a table"
    for expected, call in pairs {
      ["append: call it as db:append(...), " .. A_TABLE] = function () db.append {a = 1} end,
      ["get: call it as db:get(...), with a colon; what was given in the place of the object is 1"] =
        function () db.get(1) end,
      ["close: call it as db:close(...), with a colon; what was given in the place of the object is nil"] =
        function () db.close() end,
      ["append: call it as log:append(...), " .. A_TABLE] = function () db.log.append {1} end,
      ["get: call it as db.v:get(...), " .. A_TABLE] = function () db.v.get {} end,
      ["skip: call it as view:skip(...), with a colon; what was given in the place of the object is 4"] =
        function () db.v.skip(4) end,
      ["next: call it as stream:next(...), with a colon; what was given in the place of the object is nil"] =
        function () db:stream().next() end,
      ["get: seq must be an integer, not a table"] = function () db:get {t = 1} end,
      ['get: seq must be an integer, not "1"'] = function () db:get "1" end,
      ['del: a list of seqs, not a table with the key "t"'] = function () db:del {t = 1} end,
      ["reload: there is no view a table"] = function () db:reload {} end,
    } do
      local ok, message = pcall(call)
      assert.is_false(ok)
      assert.equal(expected, message:gsub("^%S+misuse_spec.lua:%d+: ", ""), message)
    end
  end)
end)

describe("a table raised as an error", function ()
  after_each(fixture.clean)

  it("is told by what it holds", function ()
    local cycle = {}
    cycle.cycle = cycle
    for expected, raised in pairs {
      ['an error object: {"t":1}'] = {t = 1}, ["an error object: []"] = {}, ["^table: "] = cycle,
    } do
      local db = memory_db():use("inline", flume.reduce(1, function () error(raised) end, 0))
      db:append(1)
      local _, message, code = db.inline:get()
      assert.equal("EVIEW", code)
      local text = message:gsub('^view "inline" failed at record 0: ', "")
      assert.is_truthy(text == expected or expected:sub(1, 1) == "^" and text:find(expected), text)
    end
    local db = memory_db():use("script", script [[
      return {version = 1, initial = 0, reducer = function (n) error{deep = {1, 2}, nan = 0 / 0} end}
    ]])
    db:append(1)
    assert.is_truthy(select(2, db.script:get()):find('an error object: {"nan":null,"deep":[1,2]}', 1, true))
  end)
end)
