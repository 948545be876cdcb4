-- Scripts that keep something from record to record outside their state.

local fixture = require "tests.support.fixture"
local flume = require "flume"

local ADVICE = "a view keeps what lasts from record to record in its state"

-- A database with the files in its folder of views, and some records.
local function with_files(files, options)
  local folder = fixture.dir()
  for name, source in pairs(files) do fixture.write(("%s/%s.lua"):format(folder, name), source) end
  options = options or {}
  options.views = folder
  local db = fixture.keep(assert(flume.new(flume.log.memory(), options)))
  for n = 1, 3 do db:append {n = n} end
  return db
end

-- A view v that fails at a record, with what it tells.
local function check_fails(wanted, files, options)
  local db = with_files(files, options)
  local value, message, code = db.v:get "a"
  assert.same({nil, "EVIEW"}, {value, code})
  assert.truthy(message:find(wanted, 1, true), message)
  assert.truthy(message:find(ADVICE, 1, true), message)
  assert.equal("failed", db:status().views.v.state)
end

local function reducer(before, body)
  return ("%s return {initial = 0, reducer = function (acc, item) %s end}"):format(before, body)
end

describe("a script that keeps something outside its state", function ()
  after_each(fixture.clean)

  local FAILING = {
    ["a global"] = {'the script writes the global "n"', "n = 0", "n = n + 1 return n"},
    ["a global that is new"] = {'the script writes the global "n"', "", "n = (n or 0) + 1 return n"},
    ["a global past all metatables"] = {'the global "n" has changed', "", "rawset(_G, 'n', item.n) return 1"},
    ["a function of the library"] = {'the global "tostring" has changed', "", "tostring = type return 1"},
    ["a field of the library"] = {'the global "string" has changed', "", "string.n = item.n return 1"},
    ["a table in a global"] = {'the global "T" has changed', "T = {a = {}}", "T.a.n = item.n return 1"},
    ["an upvalue"] = {'the local "n" has changed', "local n = 0", "n = n + 1 return n"},
    ["a table"] = {'the local "t" has changed', "local t = {{}}", "t[1].n = item.n return 1"},
    ["a key of a table"] = {'the local "t" has changed', "local k = {} local t = {[k] = 1}",
      "t[k] = nil return 1"},
    ["a cache"] = {'the local "t" has changed', "local t = {}", "t[item.n] = true return 1"},
    ["an upvalue of a function in a table"] = {'the local "n" has changed',
      "local n = 0 local t = {f = function () n = n + 1 return n end}", "return t.f()"},
    ["an upvalue of a hidden metatable"] = {'the local "n" has changed', [[local n = 0
      local t = setmetatable({}, {__metatable = false, __index = function () n = n + 1 return n end})]], "return t.x"},
    ["a metatable"] = {'the local "t" has changed', "local t = {}", "setmetatable(t, {}) return 1"},
  }
  for what, case in pairs(FAILING) do
    it("fails: " .. what, function ()
      check_fails(case[1], {v = reducer(case[2], case[3])})
    end)
  end

  it("fails in its group, its indexer, its retract and its mapper", function ()
    check_fails('the local "n" has changed', {v = [[local n = 0 return {initial = 0,
      group = function () n = n + 1 return n end, reducer = function (acc) return acc end}]]})
    check_fails('the local "n" has changed', {v = [[local n = 0 return {
      indexer = function (_, _, emit) n = n + 1 emit(n) end}]]})
    local mapper = fixture.write(fixture.dir() .. "/map.lua", [[local n = 0
      return function (item) n = n + 1 return item end]])
    check_fails('the local "n" has changed', {v = reducer("", "return acc + item.n")}, {mapper = mapper})
    local db = with_files {v = [[local n = 0
      return {initial = 0, reducer = function (acc, item) return acc + item.n end,
        retract = function (acc, item) n = n + 1 return acc - item.n end}]]}
    local batch, seqs = {}, {}
    for i = 1, 2000 do batch[i], seqs[i] = {n = 0}, i + 2 end
    db:append(batch)
    assert.equal(6, db.v:get())
    db:del(seqs)
    local _, message = db.v:get()
    assert.truthy(message and message:find('the local "n" has changed', 1, true), message)
  end)

  it("fails in modules, also in those that are loaded later, and in views that it uses", function ()
    local counter = "local n = 0 return function () n = n + 1 return n end"
    for before, body in pairs {['local m = require "lib.m"'] = "return m()", [""] = 'return require "lib.m" ()'} do
      check_fails('the local "n" has changed', {v = reducer(before, body), ["lib/m"] = counter})
    end
    check_fails('the local "n" has changed', {
      v = [[return {uses = {"w"}, initial = 0, reducer = function (_, _, _, uses) return uses.w:get() end}]],
      w = reducer("local n = 0", "n = n + 1 return n"),
    })
  end)

  it("can't be loaded with a coroutine or an iterator", function ()
    for before, wanted in pairs {
      ["local c = coroutine.create(print)"] = 'a coroutine is kept in the local "c"',
      ["local c = coroutine.wrap(print)"] = "is kept in",
      ["local c = ('aa'):gmatch 'a'"] = 'is kept in the local "c"',
    } do
      local db = with_files {v = reducer(before, "return c and 1")}
      local _, message = db.v:get()
      assert.truthy(message:find(wanted, 1, true), message)
    end
  end)

  it("stores nothing of it", function ()
    local dir = fixture.dir()
    local source = reducer("local n = 0", "if item.n > 500 then n = n + 1 end return acc + n")
    local path = fixture.write(fixture.dir() .. "/v.lua", source)
    local db = fixture.open_db(dir):use("v", path)
    for n = 1, 500 do db:append {n = n} end
    assert.equal(0, db.v:get())
    db:append {n = 501}
    db.v:get()
    db:close()
    db = fixture.open_db(dir):use("v", path)
    local value, message = db.v:get()
    assert.is_nil(value)
    assert.truthy(message:find('the local "n" has changed', 1, true), message)
  end)

  it("is none when it only reads, or keeps it in its methods or its records", function ()
    local db = with_files {
      v = [[
        local flume = require "flume"
        WORDS = {one = 1, list = {1, 2, {3}}}
        local words, path, array, count = {a = 1, nan = 0 / 0}, flume.path {"n", "m"}, flume.array {1, 2}, 0
        local late = {}
        local function sum(item)
          local n = 0
          local function add(m) n = n + m end
          add(item.n) add(words.a) add(path(item)[1]) add(#array) add(WORDS.one) add(require "lib.late".n)
          for word in ("x y"):gmatch "%a" do add(#word) end
          coroutine.wrap(function () add(1) end)()
          return n
        end
        return {
          initial = 0, methods = {get = "async", calls = "async"},
          reducer = function (acc, item) return acc + sum(item) end,
          get = function (view) return view:get() end,
          calls = function () count, late[1] = count + 1, count return count end,
        }
      ]],
      ["lib/late"] = "return {n = 5}",
    }
    db.v:calls()
    assert.equal(2, db.v:calls())
    assert.equal(2 * 6 + 3 * 12, db.v:get())
    for n = 1, 3000 do db:append({n = n}, function () end) end
    db:sync()
    assert.is_true(db.v:ready())
  end)

  it("is a matter of its own when it is trusted, or keeps itself", function ()
    local folder = fixture.dir()
    local db = fixture.memory_db()
    fixture.write(folder .. "/v.lua", reducer("n = 0 local m = 0", "n, m = n + 1, m + 1 return n + m"))
    db:use("v", folder .. "/v.lua", {trusted = true})
    for n = 1, 3 do db:append {n = n} end
    assert.equal(6, db.v:get())
  end)
end)
