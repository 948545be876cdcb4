-- Everything that can be done with views, in random order, on every kind of log. Whenever all is answered, each view is
-- the fold of what the log holds, without what it passes over; each callback was called once; and status agrees.
--
-- FLUME_MODEL_LOG runs one kind of log alone; FLUME_MODEL_ROUNDS makes the run longer.

local flume = require "flume"
local lfs = require "lfs"
local fixture = require "tests.support.fixture"
local seeds = require "tests.support.seeds"

local ROUNDS = math.tointeger(tonumber(os.getenv "FLUME_MODEL_ROUNDS" or "4"))
local SEED = seeds.take()
local OPERATIONS = 120 -- until all has to be answered
local MODULUS = 1000003

-- --- The views, and what they must hold ---------------------------------------------------------------------------

-- Each kind: its source, with %s for a version or nothing and %d for the factor; and the fold of records {n =, seq =}.
local KINDS = {
  sum = {
    source = [[return {%s f = %d, initial = 0, reducer = function (acc, item) return acc + item.n * F end,
      retract = function (acc, item) return acc - item.n * F end}]],
    fold = function (records, factor)
      local sum = 0
      for _, record in ipairs(records) do sum = sum + record.n * factor end
      return sum
    end,
    read = function (view) return assert(view:get()) end,
  },
  order = { -- where a record that is folded twice, left out or out of turn shows
    source = [[return {%s f = %d, initial = {hash = 1},
      reducer = function (acc, item, seq)
        acc.hash = (acc.hash * 31 + item.n * F + seq) %% 1000003
        return acc
      end}]],
    fold = function (records, factor)
      local hash = 1
      for _, record in ipairs(records) do hash = (hash * 31 + record.n * factor + record.seq) % MODULUS end
      return {hash = hash}
    end,
    read = function (view) return assert(view:get()) end,
  },
  groups = {
    source = [[return {%s f = %d, group = function (item) return item.n %% 7 end, initial = 0,
      reducer = function (acc, item) return acc + item.n * F end}]],
    fold = function (records, factor)
      local groups = {}
      for _, record in ipairs(records) do
        groups[record.n % 7] = (groups[record.n % 7] or 0) + record.n * factor
      end
      return groups
    end,
    read = function (view)
      local groups = {}
      for key, state in view:read {} do groups[key] = state end
      return groups
    end,
  },
  entries = {
    source = [[return {%s f = %d, indexer = function (item, seq, emit) emit(item.n, item.n * F) end}]],
    fold = function (records, factor)
      local entries = {}
      for _, record in ipairs(records) do entries[#entries + 1] = {record.n, record.n * factor, record.seq} end
      table.sort(entries, function (a, b)
        if a[1] ~= b[1] then return a[1] < b[1] end
        return a[3] < b[3]
      end)
      return entries
    end,
    read = function (view)
      local entries = {}
      for key, value, seq in view:read {} do entries[#entries + 1] = {key, value, seq} end
      assert.equal(#entries, view:count())
      return entries
    end,
  },
  picky = { -- raises at some records, which are skipped then
    source = [[return {%s f = %d, initial = 0, reducer = function (acc, item)
      if item.n %% 13 == 0 then error "thirteen" end
      return acc + F
    end}]],
    fold = function (records, factor) return #records * factor end,
    read = function (view) return assert(view:get()) end,
  },
}

local function source_of(kind, version, factor, variant)
  local text = KINDS[kind].source:gsub("%f[%w]F%f[%W]", tostring(factor)):gsub("%%d", tostring(factor))
  local head = (version and "version = " .. factor .. ", " or "") .. "x = " .. variant .. ","
  return (text:gsub("%%s", head):gsub("%%%%", "%%"))
end

local function raw_view()
  local since, sum = flume.observable(-1), 0
  return {create = function ()
    return {
      since = since, methods = {get = "async"},
      get = function () return sum end,
      create_sink = function ()
        return function (item, seq)
          sum = sum + item.n
          since:set(seq)
        end
      end,
      destroy = function (done)
        sum = 0
        since:set(-1)
        done()
      end,
      close = function (done) done() end,
    }
  end}
end

-- --- The state of one run --------------------------------------------------------------------------------------------

local Run = {}
Run.__index = Run

local function pick(list)
  return list[math.random(#list)]
end

-- A callback that has to be called once, with no other error than those.
function Run:once(what, ...)
  local allowed = {ECLOSED = true}
  for _, code in ipairs {...} do allowed[code] = true end
  local call = {what = what}
  self.pending[call] = true
  return function (err)
    if not self.pending[call] then error(what .. " was answered twice") end
    self.pending[call] = nil
    if err and not allowed[err.code] then error(("%s: %s (%s)"):format(what, err.message, err.code)) end
    if err and err.code == "ECLOSED" and not (self.db.closing or self.db.closed) then error(what .. ": ECLOSED") end
  end
end

function Run:write(name)
  local view = self.views[name]
  fixture.write(("%s/%s.lua"):format(self.folder, name),
    source_of(view.kind, view.versioned, view.factor, view.variant))
end

function Run:mount()
  local db = assert(flume.open(self.dir, {views = self.folder, sync = self.sync}))
  self.db = fixture.keep(db)
  for name, view in pairs(self.views) do
    if view.inline then db:use(name, view.definition) end
  end
end

local function new_run(sync)
  local self = setmetatable({
    sync = sync, -- nil: a log in memory
    dir = sync and fixture.dir() .. "/data", folder = fixture.dir(),
    db = nil, views = {}, names = {}, scripts = {},
    pending = {}, reloading = 0, sources = {}, next_n = 0,
  }, Run)
  for kind in pairs(KINDS) do
    for _, how in ipairs {"inline", "script"} do
      local name = how .. "_" .. kind
      local view = {kind = kind, inline = how == "inline", factor = 1, variant = 1, versioned = math.random(2) == 1,
        skips = {}}
      self.views[name] = view
      if view.inline then view.definition = assert(load(source_of(kind, true, 1, 1)))()
      else self:write(name) end
    end
  end
  self.views.paths = {kind = "paths", inline = true, definition = flume.index(1, "n"), skips = {}, factor = 1}
  if not sync then self.views.raw = {kind = "raw", inline = true, definition = raw_view(), skips = {}, factor = 1} end
  for name, view in pairs(self.views) do
    self.names[#self.names + 1] = name
    if not view.inline then self.scripts[#self.scripts + 1] = name end
  end
  table.sort(self.names)
  table.sort(self.scripts)
  if sync then self:mount() return self end
  self.db = fixture.memory_db {views = self.folder}
  for name, view in pairs(self.views) do
    if view.inline then self.db:use(name, view.definition) end
  end
  return self
end

-- --- What is done ---------------------------------------------------------------------------------------------------

local DO = {}

function DO:append()
  local batch = {}
  for i = 1, math.random(4) do
    self.next_n = self.next_n + 1
    batch[i] = {n = self.next_n}
  end
  self.db:append(batch, self:once "append")
end

function DO:many()
  local batch = {}
  for i = 1, math.random(2000) do batch[i] = {n = 14, pad = ("x"):rep(50)} end
  self.db:append(batch, self:once "append")
end

function DO:del()
  local since = self.db.since.value
  if since < 0 then return end
  local seqs = {}
  for i = 1, math.random(3) do seqs[i] = math.random(0, since) end
  self.db:del(seqs, self:once "del")
end

function DO:skip()
  local name = pick(self.names)
  local view, row = self.views[name], self.db:status().views[name]
  local seq = row.state == "failed" and row.seq >= 0 and math.random(2) == 1 and row.seq
    or math.random(0, self.db.since.value + 3)
  view.skips[seq] = true
  self.db[name]:skip(seq, self:once("skip of " .. name, view.kind == "picky" and "EVIEW" or nil))
end

function DO:rebuild()
  local name = pick(self.names)
  self.db[name]:rebuild(self:once("rebuild of " .. name, self.views[name].kind == "picky" and "EVIEW" or nil))
end

function DO:rebuild_all()
  self.db:rebuild(self:once("rebuild of all", "EVIEW"))
end

function DO:reload()
  local name = pick(self.scripts)
  local view = self.views[name]
  if math.random(3) > 1 then view.factor = math.random(3) end
  view.variant = math.random(3)
  self:write(name)
  local all = math.random(4) == 1
  local cb = self:once("reload of " .. name, (all or view.kind == "picky") and "EVIEW" or nil)
  self.reloading = self.reloading + 1
  local function answered(err)
    self.reloading = self.reloading - 1
    cb(err)
  end
  if all then self.db:reload(answered)
  else self.db:reload(name, answered) end
end

function DO:reload_broken()
  local name = pick(self.scripts)
  fixture.write(("%s/%s.lua"):format(self.folder, name), "return {")
  self.db:reload(name, self:once("reload of what is broken", "EVIEW"))
  self:write(name)
end

function DO:accept() -- of the same fold in other words
  local name = pick(self.scripts)
  local view, row = self.views[name], self.db:status().views[name]
  if self.reloading > 0 or row.next or row.reload_error or row.state == "failed" then return end
  view.variant = math.random(3)
  self:write(name)
  self.db:reload(name, self:once("reload of " .. name, "EVIEW"))
  self.db[name]:accept("the same in other words", self:once("accept of " .. name, "EINVAL", "EVIEW"))
end

function DO:read()
  local name = pick(self.names)
  local view, options = self.db[name], pick {{}, {wait = false}, {since = 0}, {since = -1}, {timeout = 0},
    {timeout = 20}, {since = self.db.since.value + 2, timeout = 5}}
  local cb = self:once("read of " .. name, "ETIMEDOUT", self.views[name].kind == "picky" and "EVIEW" or nil)
  if view.methods.count then view:count(options, cb)
  else view:get(options, cb) end
end

function DO:source()
  local name = pick(self.names)
  local view = self.db[name]
  if not view.methods.read then return end
  local source = view:read {limit = math.random(20), reverse = math.random(2) == 1, live = false}
  source:next(self:once("next of " .. name))
  if math.random(3) == 1 then source:close() end -- else the collector may have it
end

function DO:live_source()
  local name = pick(self.names)
  local view = self.db[name]
  if not view.methods.read or #self.sources > 5 then return end
  local source = view:read {live = true, old = math.random(2) == 1}
  self.sources[#self.sources + 1] = source
  source:next(self:once("next of live " .. name))
end

function DO:explain()
  local name = pick(self.names)
  self.db[name]:explain({from = math.random(2) == 1 and math.random(0, 50) or nil},
    self:once("explain of " .. name, "EINVAL", "EVIEW", "EAGAIN"))
end

function DO:ready()
  self.db.ready:set(math.random(2) == 1)
end

function DO:backup()
  if not self.dir then return end
  self.backups = (self.backups or 0) + 1
  self.db:backup(("%s.backup%d"):format(self.dir, self.backups), self:once("backup", "EVIEW"))
end

function DO:compact()
  if not self.dir then return end
  self.db:compact(self:once("compact", "EVIEW", "EBUSY"))
end

function DO:check()
  if not self.dir then return end
  self.db:check(self:once("check"))
end

function DO:status()
  local status = self.db:status()
  assert.equal(#self.names, #status.views)
  for _, row in ipairs(status.views) do
    assert.equal(status.since, row.target)
    assert.equal(row.target - row.since, row.lag)
    assert.is_true(row.since >= -1 and row.since <= row.target, row.name)
    assert.truthy(({building = 1, live = 1, stalled = 1, failed = 1})[row.state], row.state)
    if row.state == "live" then assert.same({0, nil}, {row.lag, row.next}) end
    if row.state == "failed" then assert.equal("picky", self.views[row.name].kind, row.error) end
    if row.state == "stalled" then assert.is_false(self.db.ready.value) end
    assert.is_true(row.rate >= 0 and (row.eta or 0) >= 0)
    local progress = self.db[row.name].progress.value
    assert.is_true(progress.current <= progress.target)
  end
end

function DO.wait()
  for _ = 1, math.random(4) do flume.step(0) end
end

function DO.collect()
  collectgarbage()
end

local LIKELY = {append = 8, wait = 12, read = 6, del = 3, reload = 4, many = 1, rebuild_all = 1}

local function operations()
  local list, names = {}, {}
  for name in pairs(DO) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    for _ = 1, LIKELY[name] or 2 do list[#list + 1] = name end
  end
  return list
end

-- --- What must hold -------------------------------------------------------------------------------------------------

local function end_sources(self)
  for _, source in ipairs(self.sources) do source:close() end
  self.sources = {}
end

-- What has not been answered.
local function pending_calls(self)
  local names = {}
  for call in pairs(self.pending) do names[#names + 1] = call.what end
  table.sort(names)
  return table.concat(names, ", ")
end

-- Failed views go on behind what they failed at.
local function skip_failures(self)
  local again
  repeat
    again = false
    for name, view in pairs(self.views) do
      local ok, message, code = self.db[name]:ready()
      if not ok then
        assert.equal("picky", view.kind, message)
        assert.equal("EVIEW", code)
        local seq = self.db:status().views[name].seq
        view.skips[seq], again = true, true
        self.db[name]:skip(seq)
      end
    end
  until not again
end

local function records_for(self, view)
  local records = {}
  for seq, item in self.db:stream {} do
    if not view.skips[seq] then records[#records + 1] = {n = item.n, seq = seq} end
  end
  return records
end

local function check_view(self, name)
  local view = self.views[name]
  local records = records_for(self, view)
  if view.kind == "raw" then return assert.equal(KINDS.sum.fold(records, 1), self.db[name]:get(), name) end
  if view.kind == "paths" then
    local seqs = {}
    for _, seq in self.db[name]:read {values = false} do seqs[#seqs + 1] = seq end
    return assert.equal(#records, #seqs, name)
  end
  local kind = KINDS[view.kind]
  assert.same(kind.fold(records, view.factor), kind.read(self.db[name]), name)
end

-- There is one version on disk, and no other is the active one. (The first becomes it with its first checkpoint.)
local function check_files(self, name)
  local dir, number = self.dir .. "/views/" .. name, tostring(self.db[name]._instance.number)
  if not lfs.attributes(dir .. "/" .. number) then return end -- it has had no checkpoint yet
  local function versions_in()
    local names = {}
    for file in lfs.dir(dir) do
      if file:find "^%d" or file:find "%.new$" then names[#names + 1] = file end
    end
    table.sort(names)
    return table.concat(names, " ")
  end
  if not pcall(fixture.run_until, function () return versions_in() == number end) then
    local view = self.db[name]
    error(("%s: on disk is %s, and %s answers; the active one is %s"):format(name, versions_in(), number,
      view._versions.dirs:active()))
  end
  if lfs.attributes(dir .. "/active") then assert.equal(number .. "\n", fixture.read(dir .. "/active")) end
end

-- All is answered, and right.
local function check(self)
  local db = self.db
  db.ready:set(true)
  end_sources(self)
  skip_failures(self)
  if not pcall(fixture.run_until, function () return not next(self.pending) end) then
    error("never answered: " .. pending_calls(self))
  end
  skip_failures(self)
  assert.is_true(db:reload())
  for _, name in ipairs(self.names) do
    assert.is_true(db[name]:ready())
    check_view(self, name)
    fixture.run_until(function () return not db:status().views[name].next end)
    local row = db:status().views[name]
    assert.same({"live", 0, nil, nil}, {row.state, row.lag, row.error, row.reload_error}, name)
    if self.dir then check_files(self, name) end
  end
end

-- Closes in the midst of all that: each call is answered once all the same.
local function close(self)
  local done = false
  self.db:close(function () done = true end)
  fixture.run_until(function () return done end)
  assert.equal("", pending_calls(self), "calls that close has not answered")
  self.sources = {}
end

local function play(sync, seed)
  math.randomseed(seed)
  local self, list = new_run(sync), operations()
  for _ = 1, ROUNDS do
    for _ = 1, OPERATIONS do DO[pick(list)](self) end
    if math.random(3) > 1 then check(self) end
    if sync and math.random(2) == 1 then
      close(self)
      self:mount()
      if math.random(2) == 1 then check(self) end
    end
  end
  check(self)
  for _ = 1, OPERATIONS // 4 do DO[pick(list)](self) end
  close(self)
end

describe("views under random operations", function ()
  after_each(fixture.clean)

  for i, sync in ipairs {"memory", "always", "interval", "os"} do
    local wanted = os.getenv "FLUME_MODEL_LOG" or sync
    if sync == wanted then it("each is the fold of the log, and each call is answered once: " .. sync, function ()
      local seed = SEED + i
      local ok, why = xpcall(play, debug.traceback, sync ~= "memory" and sync or nil, seed)
      if not ok then error(("FLUME_MODEL_LOG=%s: %s"):format(sync, tostring(why)), 0) end
    end) end
  end
end)
