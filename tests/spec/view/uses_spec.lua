-- Views on views: at record n a view sees what it uses at n, whatever happens.

local scripts = require "tests.support.scripts"
local fixture = require "tests.support.fixture"
local seeds = require "tests.support.seeds"

local SEED = seeds.take()
local STEPS = 80
local MODULUS = 1000003

local SOURCES = {
  total = [[return {version = V, initial = 0, reducer = function (n, item) return n + item.n * V end,
    retract = function (n, item) return n - item.n * V end}]],
  by_key = [[return {group = "k", initial = 0, reducer = function (n, item) return n + item.n * V end}]],
  mean = [[return {version = V, uses = {"total", "by_key"}, group = "k", initial = 0,
    reducer = function (_, item, seq, uses) return uses.total:get() - V * uses.by_key:get(item.k) end}]],
  trace = [[return {version = V, uses = {"by_key", "mean"}, initial = 7,
    reducer = function (hash, item, seq, uses)
      return (hash * 31 + uses.by_key:get(item.k) + (uses.mean:get(1) or 0) + seq) % 1000003
    end,
    retract = function () error "never called" end,
    methods = {part = "async"}, part = function (view, k) return view.used.by_key:get(k) end}]],
  entries = [[return {uses = {"total"}, x = V, indexer = function (item, seq, emit, uses)
    emit(item.k, uses.total:get())
  end}]],
}

-- What they must be, by a fold over the records: {k =, n =, seq =}.
local function expect(records, versions)
  local total, by_key, mean, hash, entries = 0, {}, {}, 7, {}
  for _, record in ipairs(records) do
    local k = record.k
    total = total + record.n * versions.total
    by_key[k] = (by_key[k] or 0) + record.n * versions.by_key
    mean[k] = total - versions.mean * by_key[k]
    hash = (hash * 31 + by_key[k] + (mean[1] or 0) + record.seq) % MODULUS
    entries[record.seq] = {k, total}
  end
  return {total = total, by_key = by_key, mean = mean, trace = hash, entries = entries}
end

local function found_in(db)
  local found = {total = assert(db.total:get()), trace = assert(db.trace:get()), by_key = {}, mean = {}, entries = {}}
  for key, state in db.by_key:read {} do found.by_key[key] = state end
  for key, state in db.mean:read {} do found.mean[key] = state end
  for key, value, seq in db.entries:read {} do found.entries[seq] = {key, value} end
  return found
end

-- Appends for ever, in a process of its own: it is killed.
local WRITER = [[
  local flume = require "flume"
  local dir, folder = ...
  io.stdout:setvbuf "line"
  local db = assert(flume.open(dir, {views = folder}))
  while true do
    local batch = {}
    for i = 1, math.random(20) do batch[i] = {k = math.random(4), n = math.random(0, 9)} end
    print(assert(db:append(batch)))
    if math.random(3) == 1 then db.trace:get() end
  end
]]

describe("views on views", function ()
  local views, folder, versions

  before_each(function ()
    views = scripts.new(SOURCES)
    folder, versions = views.folder, views.versions
    math.randomseed(SEED)
  end)
  after_each(fixture.clean)

  it("see the views they use at their own record", function ()
    views:write_all()
    local db, records = views:open(), {}
    local operations = {
      function ()
        local batch = {}
        for i = 1, math.random(30) do
          batch[i] = {k = math.random(4), n = math.random(0, 9)}
        end
        local last = assert(db:append(batch))
        for i, item in ipairs(batch) do
          records[#records + 1] = {k = item.k, n = item.n, seq = last - #batch + i}
        end
      end,
      function ()
        if records[1] then assert(db:del(table.remove(records, math.random(#records)).seq)) end
      end,
      function ()
        local name = ({"total", "by_key", "mean", "trace", "entries"})[math.random(5)]
        views:write(name, versions[name] % 3 + 1)
        assert(db:reload(math.random(2) == 1 and name or nil))
      end,
      function ()
        db:close()
        if math.random(2) == 1 then views:write("total", versions.total % 3 + 1) end
        db = views:open()
      end,
    }
    for step = 1, STEPS do
      operations[({1, 1, 1, 2, 3, 4})[math.random(6)]]()
      assert.same(expect(records, versions), found_in(db), ("step %d"):format(step))
    end
  end)

  it("go on where they were, with what they use", function ()
    views:write_all()
    local db = views:open()
    for i = 1, 50 do assert(db:append {k = i % 3, n = i}) end
    local before = found_in(db)
    assert.equal(before.by_key[1], db.trace:part(1))
    db:close()
    db = views:open()
    assert.is_nil(db:status().views.trace.reason)
    for _, name in ipairs {"trace", "mean", "entries"} do
      assert.equal(49, db[name].progress.value.start, name) -- it was not built anew
    end
    assert.same(before, found_in(db))
    assert.equal(before.by_key[1], db.trace:part(1))
    local dry = assert(db.trace:explain {from = 0, to = 0})
    assert.is_nil(dry.error)
  end)

  it("go on after a kill, with states of one commit", function ()
    views:write_all()
    for round = 1, 4 do
      scripts.kill_after(round * 100, WRITER, views.dir, folder)
      local db, records = views:open(), {}
      for seq, item in db:stream {} do records[#records + 1] = {k = item.k, n = item.n, seq = seq} end
      assert.same(expect(records, versions), found_in(db))
      db:close()
    end
  end)

  it("are rebuilt when a view that they use changed, also indirectly", function ()
    views:write_all()
    local db = views:open()
    for i = 1, 20 do assert(db:append {k = i % 3, n = i}) end
    local before = found_in(db)
    views:write("total", 2)
    assert(db:reload "total")
    local after = found_in(db)
    assert.not_equal(before.trace, after.trace)
    assert.not_same(before.entries, after.entries)
    assert.matches("^version 1%+%x+ %-> 1%+%x+$", db:status().views.trace.reason)
  end)

  it("have deltas, which begin with the whole state after a delete", function ()
    views:write_all()
    local db = views:open()
    assert(db:append {{k = 1, n = 5}, {k = 2, n = 7}})
    local function ops(name, after)
      local list, position = {}, nil
      for op, key in db[name]:deltas {after = after} do
        list[#list + 1] = op
        if op == "at" then position = key end
      end
      return table.concat(list, " "), position
    end
    for _, name in ipairs {"mean", "entries"} do
      local text, position = ops(name)
      assert.equal("reset set set at", text)
      assert(db:append {k = 2, n = 1})
      text, position = ops(name, position)
      assert.equal("set at", text)
      assert(db:del(db.since:get()))
      assert.equal("reset set set at", (ops(name, position)))
    end
  end)

  it("can only read", function ()
    fixture.write(folder .. "/list.lua", [[return {version = 1, initial = {}, reducer = function (list, item)
      list[#list + 1] = item.n
      return list
    end}]])
    fixture.write(folder .. "/vandal.lua", [[return {version = 1, uses = {"list"}, initial = 0,
      reducer = function (_, item, seq, uses)
        local list = uses.list:get()
        local count = #list
        list[1], list[count + 1] = nil, 1
        return count
      end}]])
    local db = views:open()
    for i = 1, 5 do assert(db:append {n = i}) end
    assert.equal(5, db.vandal:get())
  end)

  it("must be there, and not use each other", function ()
    local function uses(name, list)
      fixture.write(("%s/%s.lua"):format(folder, name), ([[return {version = 1, uses = {%s}, initial = 0,
        reducer = function (n) return n end}]]):format(list))
    end
    uses("a", '"b"')
    uses("b", '"c"')
    uses("c", '"b"')
    uses("d", '"nothing"')
    uses("e", '"e"')
    uses("f", "1")
    uses("g", "c = true")
    local db = views:open()
    local function why(name) return (select(2, db[name]:get())) end
    assert.matches('view "a": views use each other: b %-> c %-> b', why "a")
    assert.matches('view "e": views use each other: e %-> e', why "e")
    assert.matches('view "d": it uses "nothing", of which there is no script', why "d")
    assert.matches('view "f": uses must be a list of names', why "f")
    assert.matches('view "g": uses must be a list of names', why "g")
    assert.error_matches(function ()
      db:use("inline", {version = 1, uses = {"a"}, initial = 0, reducer = function () end})
    end, "views use each other: b %-> c %-> b")
  end)
end)
