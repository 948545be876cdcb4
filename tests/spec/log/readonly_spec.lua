-- Views in a process that may only read, while another one writes: on a file log, and on an offset log.

local child = require "tests.support.child"
local lfs = require "lfs"
local offsets = require "tests.support.offsets"
local fixture = require "tests.support.fixture"

local SCRIPTS = {
  sum = "return {version = 1, initial = 0, reducer = function (acc, item) return acc + item.n end}",
  groups = [[return {version = 1, group = "kind", initial = 0,
    reducer = function (acc, item) return acc + item.n end}]],
  index = [[return {version = 1, indexer = "kind"}]],
}

-- Writes what it is told to: "append FIRST LAST", "del NUMBER", "ready", "close"; each is answered with a line.
local WRITER = [[
  local flume = require "flume"
  local offsets = require "tests.support.offsets"
  local dir, kind, folder, commands = ...
  io.stdout:setvbuf "line"
  local db = assert(flume.open(dir, {log = kind, views = folder}))
  for line in io.lines(commands) do
    local words = {}
    for word in line:gmatch "%S+" do words[#words + 1] = math.tointeger(tonumber(word)) or word end
    if words[1] == "append" then
      local batch = {}
      for n = words[2], words[3] do batch[#batch + 1] = {n = n, kind = "k" .. n % 3} end
      db:append(batch)
    elseif words[1] == "del" then db:del(kind == "file" and words[2] or offsets.of(db.log)(words[2]))
    elseif words[1] == "ready" then
      for _, name in ipairs {"sum", "groups", "index"} do db[name]:ready() end
    elseif words[1] == "close" then db:close()
    end
    print(line)
  end
]]

local function folder_of_views()
  local folder = fixture.dir()
  for name, text in pairs(SCRIPTS) do fixture.write(folder .. "/" .. name .. ".lua", text) end
  return folder
end

-- A writer in another process; do(line) has it carry out a command.
local function start_writer(dir, kind, folder)
  local fifo = fixture.dir() .. "/commands"
  assert(os.execute("mkfifo " .. fifo))
  local pipe = child.start(WRITER, dir, kind, folder, fifo)
  local commands = assert(io.open(fifo, "w"))
  commands:setvbuf "line"
  return {
    run = function (line)
      commands:write(line, "\n")
      assert.equal(line, pipe:read "l")
    end,
    stop = function ()
      commands:close()
      assert.equal("", pipe:read "a")
      assert.is_true(pipe:close())
    end,
  }
end

local function fold(db)
  local sum, groups, count = 0, {}, 0
  for _, item in db:stream {} do
    sum, count = sum + item.n, count + 1
    groups[item.kind] = (groups[item.kind] or 0) + item.n
  end
  return sum, groups, count
end

local function check(db)
  local sum, groups, count = fold(db)
  assert.equal(sum, db.sum:get())
  local found = {}
  for key, state in db.groups:read {} do found[key] = state end
  assert.same(groups, found)
  assert.equal(count, db.index:count())
  local seen = 0
  for key, record in db.index:read {} do
    assert.equal(key, record.kind)
    seen = seen + 1
  end
  assert.equal(count, seen)
end

local function mtimes(dir, list)
  list = list or {}
  for name in lfs.dir(dir) do
    local path = dir .. "/" .. name
    if name ~= "." and name ~= ".." and name ~= "lock.mdb" then
      if lfs.attributes(path, "mode") == "directory" then mtimes(path, list)
      else list[path] = lfs.attributes(path, "modification") .. " " .. lfs.attributes(path, "size") end
    end
  end
  return list
end

local function each_kind(kind)
  -- Of record number n.
  local function seq_of(db, n)
    return kind == "file" and n or offsets.of(db.log)(n)
  end

  local function state_of(dir)
    return kind == "file" and dir or dir .. ".flume"
  end

  after_each(fixture.clean)

  it("takes up what the views have committed, and writes nothing", function ()
    local dir, folder = fixture.dir() .. "/data", folder_of_views()
    local writer = start_writer(dir, kind, folder)
    writer.run "append 1 1000"
    writer.run "ready"
    writer.run "close"
    writer.stop()
    local before = mtimes(state_of(dir))
    local db = fixture.open_db(dir, {log = kind, views = folder, readonly = true, ready = false})
    for _, name in ipairs {"sum", "groups", "index"} do
      assert.equal(seq_of(db, 999), db[name].since.value, name)
    end
    db.ready:set(true)
    check(db)
    db:close()
    assert.same(before, mtimes(state_of(dir)))
  end)

  it("follows the writer, and takes deletes back", function ()
    local dir, folder = fixture.dir() .. "/data", folder_of_views()
    local writer = start_writer(dir, kind, folder)
    writer.run "append 1 1000"
    writer.run "ready"
    local db = fixture.open_db(dir, {log = kind, views = folder, readonly = true})
    check(db)
    for round = 1, 10 do
      writer.run(("append %d %d"):format(round * 1000, round * 1000 + 300))
      if round % 3 == 0 then writer.run("del " .. round * 10) end
      local wanted = seq_of(db, 999 + round * 301)
      fixture.run_until(function () return db.since.value == wanted end)
      if round % 3 ~= 0 then check(db) end
    end
    fixture.run_until(function () return db:get(seq_of(db, 90)) == nil end)
    check(db)
    writer.run "ready"
    writer.run "close"
    check(db)
    writer.stop()
    db:close()
  end)

  it("folds for itself where the committed state does not fit", function ()
    local dir, folder = fixture.dir() .. "/data", folder_of_views()
    local writer = start_writer(dir, kind, folder)
    writer.run "append 1 100"
    writer.run "ready"
    writer.run "close"
    writer.stop()
    fixture.write(folder .. "/sum.lua", (SCRIPTS.sum:gsub("version = 1", "version = 2")))
    local db = fixture.open_db(dir, {log = kind, views = folder, readonly = true, ready = false})
    assert.equal(-1, db.sum.since.value)
    assert.equal(seq_of(db, 99), db.index.since.value)
    db.ready:set(true)
    check(db)
    db:close()
    assert.equal(2, #(function ()
      local names = {}
      for name in lfs.dir(state_of(dir) .. "/views/sum") do
        if name:sub(1, 1) ~= "." then names[#names + 1] = name end
      end
      return names
    end)())
  end)

  it("in the writer's own process folds for itself", function ()
    local dir, folder = fixture.dir() .. "/data", folder_of_views()
    local writer = fixture.open_db(dir, {log = kind, views = folder})
    writer:append {{n = 1, kind = "a"}, {n = 2, kind = "b"}}
    check(writer)
    local reader = fixture.open_db(dir, {log = kind, views = folder, readonly = true})
    check(reader)
    writer:append {n = 3, kind = "a"}
    fixture.run_until(function () return reader.since.value == writer.since.value end)
    check(reader)
    reader:close()
    check(writer)
  end)
end

for _, kind in ipairs {"file", "offset"} do
  describe("a process that only reads, log " .. kind, function () each_kind(kind) end)
end
