-- A view's version put in the place of another, while the first goes on answering.

local flume = require "flume"
local lfs = require "lfs"
local fixture = require "tests.support.fixture"

local function summing(factor, version)
  return ("return {%s initial = 0, reducer = function (acc, item) return acc + item.n * %d end}"):format(
    version and "version = " .. version .. "," or "", factor)
end

-- A database with the script v.lua in its folder of views, and a function that rewrites it.
local function with_script(source, options, dir)
  local folder = fixture.dir()
  local function rewrite(text) fixture.write(folder .. "/v.lua", text) end
  rewrite(source)
  options = options or {}
  options.views = folder
  local db
  if dir then db = fixture.open_db(dir, options)
  else db = fixture.memory_db(options) end
  return db, rewrite, folder
end

local function append(db, first, last)
  local batch = {}
  for n = first, last do batch[#batch + 1] = {n = n} end
  return db:append(batch)
end

-- The names in a directory, sorted; without it, none.
local function names_in(dir)
  local names = {}
  if lfs.attributes(dir) then
    for name in lfs.dir(dir) do
      if name ~= "." and name ~= ".." then names[#names + 1] = name end
    end
  end
  table.sort(names)
  return names
end

for _, where in ipairs {"memory", "disk"} do
  describe("reload, in " .. where, function ()
    after_each(fixture.clean)

    local function open(source)
      return with_script(source, nil, where == "disk" and fixture.dir() .. "/data" or nil)
    end

    it("of what has not changed does nothing", function ()
      local db = open(summing(1))
      append(db, 1, 10)
      assert.equal(55, db.v:get())
      local before = db.v._instance
      assert.is_true(db:reload())
      assert.is_true(db:reload "v")
      assert.equal(before, db.v._instance)
    end)

    it("builds a changed source, and answers with it then", function ()
      local db, rewrite = open(summing(1))
      append(db, 1, 10)
      assert.equal(55, db.v:get())
      rewrite(summing(2))
      assert.is_true(db:reload())
      assert.equal(110, db.v:get())
      assert.equal("the source has changed", db:status().views.v.reason)
      append(db, 11, 11)
      assert.equal(132, db.v:get())
    end)

    it("builds when the version was changed, raised or lowered", function ()
      local db, rewrite = open(summing(1, 5))
      append(db, 1, 10)
      assert.equal(55, db.v:get())
      rewrite(summing(2, 6))
      assert.is_true(db:reload "v")
      assert.equal(110, db.v:get())
      assert.equal("version 5 -> 6", db:status().views.v.reason)
      rewrite(summing(3, 4))
      assert.is_true(db:reload "v")
      assert.equal(165, db.v:get())
      assert.equal("version 6 -> 4", db.v.reason)
    end)

    it("hands the state over when the version is the same", function ()
      local db, rewrite = open(summing(1, 1))
      append(db, 1, 10)
      assert.equal(55, db.v:get())
      rewrite [[
        return {
          version = 1, initial = 0, methods = {twice = "async"},
          reducer = function (acc, item) return acc + 100 end,
          twice = function (view) return view:get() * 2 end,
        }
      ]]
      assert.is_true(db:reload())
      assert.equal(110, db.v:twice())
      append(db, 11, 11)
      assert.equal(155, db.v:get())
    end)

    it("of a script that can't be loaded changes nothing, and says so", function ()
      local db, rewrite = open(summing(1))
      append(db, 1, 10)
      assert.equal(55, db.v:get())
      rewrite "return {"
      local ok, message, code = db:reload()
      assert.is_nil(ok)
      assert.equal("EVIEW", code)
      assert.truthy(message:find("v.lua", 1, true), message)
      append(db, 11, 11)
      assert.equal(66, db.v:get())
      assert.truthy(db:status().views.v.reload_error)
      rewrite(summing(1))
      assert.is_true(db:reload())
      assert.is_nil(db:status().views.v.reload_error)
    end)

    it("of a version that fails leaves the old one in place", function ()
      local db, rewrite = open(summing(1))
      append(db, 1, 10)
      assert.equal(55, db.v:get())
      rewrite [[return {initial = 0, reducer = function (acc, item)
        if item.n == 7 then error "seven" end
        return acc + 1
      end}]]
      local ok, message, code = db:reload()
      assert.is_nil(ok)
      assert.equal("EVIEW", code)
      assert.truthy(message:find("seven", 1, true) and message:find("record 6", 1, true), message)
      append(db, 11, 11)
      assert.equal(66, db.v:get())
      local row = db:status().views.v
      assert.equal("failed", row.next.state)
      rewrite(summing(3))
      assert.is_true(db:reload())
      assert.equal(198, db.v:get())
      assert.is_nil(db:status().views.v.next)
    end)

    it("takes the place of one that has failed at once", function ()
      local db, rewrite = open "return {reducer = function () error 'always' end}"
      append(db, 1, 10)
      assert.is_nil(db.v:get())
      rewrite(summing(1))
      assert.is_true(db:reload())
      assert.equal(55, db.v:get())
      assert.equal("live", db:status().views.v.state)
    end)

    it("mounts what could not be mounted, and what is new in the folder", function ()
      local db, rewrite, folder = open "return {"
      append(db, 1, 10)
      assert.is_nil(db.v:get())
      rewrite(summing(1))
      fixture.write(folder .. "/w.lua", summing(2))
      assert.is_true(db:reload())
      assert.equal(55, db.v:get())
      assert.equal(110, db.w:get())
    end)

    it("twice at once answers both", function ()
      local db, rewrite = open(summing(1))
      append(db, 1, 1000)
      db.v:ready()
      rewrite(summing(2))
      local calls, cb = fixture.recorder()
      db.ready:set(false)
      db:reload(cb)
      db:reload("v", cb)
      rewrite(summing(3))
      db:reload(cb)
      db.ready:set(true)
      fixture.run_until(function () return #calls == 3 end)
      for _, call in ipairs(calls) do assert.is_nil(call[1]) end
      assert.equal(500500 * 3, db.v:get())
    end)

    -- Each rewrites and reloads before any version has caught up; all are answered.
    local function reload_at_once(db, rewrite, sources)
      local calls, cb = fixture.recorder()
      db.ready:set(false)
      for _, source in ipairs(sources) do
        rewrite(source)
        db:reload("v", cb)
      end
      db.ready:set(true)
      fixture.run_until(function () return #calls == #sources end)
      for _, call in ipairs(calls) do assert.same({nil, true}, {call[1], call[2]}) end
    end

    -- The same version with another source.
    local function same_version(factor)
      return summing(factor, "1, source = " .. factor)
    end

    it("answers reads that wait for a version which a newer one replaces", function ()
      local db, rewrite = open(same_version(1))
      append(db, 1, 20000)
      db.v:ready()
      reload_at_once(db, rewrite, {summing(2, 2), same_version(3), same_version(4), summing(5, 5), same_version(4)})
      assert.equal(20000 * 20001 // 2, db.v:get())
      append(db, 1, 1)
      assert.equal(20000 * 20001 // 2 + 4, db.v:get())
      assert.is_nil(db:status().views.v.next)
    end)

    it("goes back to the active version's code while other code is being built", function ()
      local db, rewrite = open(same_version(1))
      append(db, 1, 10)
      db.v:ready()
      reload_at_once(db, rewrite, {same_version(2), same_version(1)})
      append(db, 1, 1)
      assert.equal(56, db.v:get())
    end)

    it("and a rebuild at once answer both, with the newest code", function ()
      local db, rewrite = open(same_version(1))
      append(db, 1, 1000)
      db.v:ready()
      local calls, cb = fixture.recorder()
      db.ready:set(false)
      rewrite(same_version(2))
      db:reload("v", cb)
      db.v:rebuild(cb)
      rewrite(same_version(3))
      db:reload("v", cb)
      db.ready:set(true)
      fixture.run_until(function () return #calls == 3 end)
      for _, call in ipairs(calls) do assert.same({nil, true}, {call[1], call[2]}) end
      assert.equal(500500 * 3, db.v:get())
    end)

    it("has no state to hand over when that can't be stored", function ()
      local db, rewrite = open [[return {version = 1, initial = {}, methods = {sum = "async"},
        sum = function (view) return view:get().sum end,
        reducer = function (acc, item)
          acc.sum, acc.f = (acc.sum or 0) + item.n, print
          return acc
        end}
      ]]
      append(db, 1, 10)
      assert.equal(55, db.v:sum())
      rewrite(summing(1, 1))
      assert.is_true(db:reload())
      assert.equal(55, db.v:get())
    end)

    it("of the same version ends with ECLOSED when the database closes", function ()
      local db, rewrite = open(same_version(1))
      append(db, 1, 10)
      db.v:ready()
      rewrite(same_version(2))
      local calls, cb = fixture.recorder()
      db:reload(cb)
      db:close()
      fixture.run_until(function () return #calls == 1 end)
      assert.equal("ECLOSED", calls[1][1].code)
    end)

    it("that is under way ends with ECLOSED when the database closes", function ()
      local db, rewrite = open(summing(1))
      append(db, 1, 1000)
      db.v:ready()
      rewrite(summing(2))
      local calls, cb = fixture.recorder()
      db:reload(cb)
      db:close()
      fixture.run_until(function () return #calls == 1 end)
      assert.is_true(calls[1][1] == nil or calls[1][1].code == "ECLOSED")
    end)
  end)
end

describe("while a view is swapped", function ()
  after_each(fixture.clean)

  it("a hundred times under load, reads don't fail and its since does not go back", function ()
    local db, rewrite = with_script(summing(1), nil, fixture.dir() .. "/data")
    append(db, 1, 2000)
    db.v:ready()
    local last, backwards = -1, 0
    local off = db.v.since(function (since)
      if since < last then backwards = backwards + 1 end
      last = since
    end)
    local swaps, reads, wrong = 0, 0, {}
    local function swap(err)
      assert(not err, err and err.message)
      swaps = swaps + 1
      if swaps > 100 then return end
      rewrite(summing(swaps % 5 + 1))
      db:reload("v", swap)
    end
    swap()
    local n, pending, appending = 2000, 0, 0
    while swaps <= 100 do
      if appending < 16 then
        n, appending = n + 1, appending + 1
        db:append({n = n}, function (err)
          assert(not err)
          appending = appending - 1
        end)
      end
      if pending < 4 then
        pending = pending + 1
        local expected_since = db.since.value
        db.v:get(function (err, value)
          pending, reads = pending - 1, reads + 1
          if err or value == nil then wrong[#wrong + 1] = err and err.message or "nil" end
          if db.v.since.value < expected_since then wrong[#wrong + 1] = "since is behind" end
        end)
      end
      flume.step(0)
    end
    fixture.run_until(function () return pending == 0 and appending == 0 end)
    off()
    assert.same({}, wrong)
    assert.equal(0, backwards)
    assert.is_true(reads > 50)
    assert.equal(n * (n + 1) // 2 * (100 % 5 + 1), db.v:get())
    assert.same({tostring(db.v._instance.number), "active"}, names_in(db.dir .. "/views/v"))
  end)

  it("the old version goes on answering and advancing", function ()
    local db, rewrite = with_script(summing(1), nil, fixture.dir() .. "/data")
    append(db, 1, 100)
    assert.equal(5050, db.v:get())
    rewrite [[return {initial = 0, reducer = function (acc, item)
      local x = 0
      for i = 1, 20000 do x = x + i end
      return acc + item.n * 10
    end}]]
    local done
    db:reload("v", function (err) done = err or true end)
    local answered = 0
    while not done do
      if answered < 1000 then append(db, 1, 1) end -- no more than the new version can catch up with
      local value = assert(db.v:get())
      local row = db:status().views.v
      if row.next then -- else the new version answers already
        answered = answered + 1
        assert.is_true(value <= 5050 + 1000 and value >= 5051)
        assert.equal("building", row.state)
        assert.equal(row.target, row.since)
        assert.is_true(row.next.since <= row.since)
      end
    end
    assert.is_true(done)
    assert.is_true(answered > 0)
    assert.is_true(db.v:get() >= 50510)
  end)

  it("a source that was begun goes on, whatever its version", function ()
    local db, rewrite = with_script([[
      return {
        initial = {}, methods = {each = "source"},
        reducer = function (acc, item) acc[#acc + 1] = item.n return acc end,
        each = function (view) return view.get() end,
      }
    ]], nil, fixture.dir() .. "/data")
    append(db, 1, 1000)
    local seen = 0
    local source = db.v:each()
    for _ = 1, 10 do seen = seen + source() end
    rewrite [[
      return {
        initial = {}, methods = {each = "source"},
        reducer = function (acc, item) acc[#acc + 1] = -item.n return acc end,
        each = function (view) return view.get() end,
      }
    ]]
    assert.is_true(db:reload())
    assert.equal(-1, (db.v:each():next()))
    for n in source do seen = seen + n end
    assert.equal(500500, seen)
    fixture.run_until(function () return #names_in(db.dir .. "/views/v") == 2 end)
  end)
end)

describe("the versions on disk", function ()
  after_each(fixture.clean)

  it("are one when nothing is being built", function ()
    local dir = fixture.dir() .. "/data"
    local db, rewrite, folder = with_script(summing(1), nil, dir)
    append(db, 1, 10)
    assert.equal(55, db.v:get())
    db:close()
    assert.same({"1", "active"}, names_in(dir .. "/views/v"))
    rewrite(summing(2))
    db = fixture.open_db(dir, {views = folder})
    assert.equal(110, db.v:get())
    db:close()
    assert.same({"2", "active"}, names_in(dir .. "/views/v"))
    db = fixture.open_db(dir, {views = folder})
    assert.equal(9, db:status().views.v.since)
    db:close()
  end)

  it("are one when newer code has replaced the pending version", function ()
    local dir = fixture.dir() .. "/data"
    local db, rewrite, folder = with_script(summing(1, 1), nil, dir)
    append(db, 1, 10)
    assert.equal(55, db.v:get())
    db:close()
    rewrite(summing(2, 2))
    db = fixture.open_db(dir, {views = folder, ready = false})
    rewrite(summing(2, "2, source = 2"))
    assert.is_true(db:reload())
    db.ready:set(true)
    assert.equal(110, db.v:get())
    fixture.run_until(function () return not db:status().views.v.next end)
    assert.same({"2", "active"}, names_in(dir .. "/views/v"))
  end)

  it("are kept when the source goes back before the new version has caught up", function ()
    local dir = fixture.dir() .. "/data"
    local db, rewrite, folder = with_script(summing(1), nil, dir)
    append(db, 1, 10)
    assert.equal(55, db.v:get())
    db:close()
    rewrite(summing(2))
    db = fixture.open_db(dir, {views = folder, ready = false})
    assert.equal(-1, db:status().views.v.since)
    db:close()
    rewrite(summing(1))
    db = fixture.open_db(dir, {views = folder, ready = false})
    assert.equal(9, db:status().views.v.since)
    db:close()
    assert.same({"1", "active"}, names_in(dir .. "/views/v"))
  end)

  it("are continued when a script that could not be mounted is mended", function ()
    local dir = fixture.dir() .. "/data"
    local db, rewrite, folder = with_script(summing(1, 1), nil, dir)
    append(db, 1, 10)
    assert.equal(55, db.v:get())
    db:close()
    rewrite "return {"
    db = fixture.open_db(dir, {views = folder})
    local sinces = {}
    db.v.since(function (since) sinces[#sinces + 1] = since end)
    rewrite(summing(2, 1))
    assert.is_true(db:reload())
    assert.equal(55, db.v:get())
    rewrite(summing(2, 2))
    assert.is_true(db:reload())
    assert.equal(110, db.v:get())
    assert.same({-1, 9}, sinces)
    fixture.run_until(function () return #names_in(dir .. "/views/v") == 2 end)
    assert.same({"2", "active"}, names_in(dir .. "/views/v"))
  end)

  it("that a crash has left behind are swept away", function ()
    local dir = fixture.dir() .. "/data"
    local db, _, folder = with_script(summing(1), nil, dir)
    append(db, 1, 10)
    assert.equal(55, db.v:get())
    db:close()
    fixture.write(dir .. "/views/v/7/data.mdb", "half")
    fixture.write(dir .. "/views/v/active.new", "7\n")
    db = fixture.open_db(dir, {views = folder})
    assert.equal(9, db:status().views.v.since)
    assert.equal(55, db.v:get())
    db:close()
    assert.same({"1", "active"}, names_in(dir .. "/views/v"))
  end)
end)

describe("a folder that is watched", function ()
  after_each(fixture.clean)

  it("reloads what is written there", function ()
    local db, rewrite, folder = with_script(summing(1), {watch = true}, fixture.dir() .. "/data")
    local news = {}
    db.reloaded(function (one) news[#news + 1] = one end, false)
    append(db, 1, 10)
    assert.equal(55, db.v:get())
    rewrite(summing(2))
    fixture.run_until(function () return #news == 1 end)
    assert.equal(110, db.v:get())
    assert.same({"v", "the source has changed"}, {news[1].name, news[1].reason})
    fixture.write(folder .. "/w.lua", summing(3))
    fixture.run_until(function () return db.views.w ~= nil end)
    assert.equal(165, db.w:get())
    rewrite "return {"
    fixture.run_until(function () return news[#news].error ~= nil end)
    assert.equal(110, db.v:get())
  end)

  -- A database that watches the folder, whose script v.lua makes 55 of ten records.
  local function watched(folder)
    local db = fixture.keep(assert(flume.new(flume.log.memory(), {views = folder, watch = true})))
    append(db, 1, 10)
    assert.equal(55, db.v:get())
    return db
  end

  local function becomes(db, wanted)
    fixture.run_until(function () return not db:status().views.v.next and db.v:get() == wanted end)
  end

  local WITH_MODULE = [[local factor = require "lib.deep.factor"
    return {initial = 0, reducer = function (acc, item) return acc + item.n * factor end}]]

  it("sees modules in folders below, also new ones", function ()
    local folder = fixture.dir()
    fixture.write(folder .. "/lib/deep/factor.lua", "return 1")
    fixture.write(folder .. "/v.lua", WITH_MODULE)
    local db = watched(folder)
    fixture.write(folder .. "/lib/deep/factor.lua", "return 2")
    becomes(db, 110)
    fixture.write(folder .. "/lib/new/factor.lua", "return 3")
    fixture.write(folder .. "/v.lua", (WITH_MODULE:gsub("deep", "new")))
    becomes(db, 165)
    fixture.write(folder .. "/lib/new/factor.lua", "return 4")
    becomes(db, 220)
  end)

  it("sees a script that was mounted from elsewhere, and its modules", function ()
    local folder, other = fixture.dir(), fixture.dir()
    fixture.write(folder .. "/v.lua", summing(1))
    fixture.write(other .. "/lib/deep/factor.lua", "return 1")
    fixture.write(other .. "/w.lua", WITH_MODULE)
    local db = watched(folder)
    db:use("w", other .. "/w.lua")
    assert.equal(55, db.w:get())
    fixture.write(other .. "/lib/deep/factor.lua", "return 2")
    fixture.run_until(function () return db.w:get() == 110 end)
  end)

  it("sees the targets of links, and links that lead elsewhere", function ()
    local folder, other = fixture.dir(), fixture.dir()
    fixture.write(other .. "/a/v.lua", summing(1))
    fixture.write(other .. "/b/v.lua", summing(2))
    assert(lfs.link(other .. "/a", other .. "/now", true))
    assert(lfs.link(other .. "/now/v.lua", folder .. "/v.lua", true))
    local db = watched(folder)
    fixture.write(other .. "/a/v.lua", summing(3))
    becomes(db, 165)
    assert(lfs.link("b", other .. "/next", true))
    assert(os.rename(other .. "/next", other .. "/now"))
    becomes(db, 110)
    fixture.write(other .. "/b/v.lua", summing(4))
    becomes(db, 220)
  end)

  it("sees the folder replaced by a rename, itself and above", function ()
    local top = fixture.dir()
    for factor, release in ipairs {"one", "two", "three"} do
      fixture.write(("%s/%s/app/views/v.lua"):format(top, release), summing(factor))
    end
    assert(os.rename(top .. "/one", top .. "/now"))
    local db = watched(top .. "/now/app/views")
    assert(os.rename(top .. "/now/app/views", top .. "/now/app/old"))
    assert(os.rename(top .. "/two/app/views", top .. "/now/app/views"))
    becomes(db, 110)
    assert(os.rename(top .. "/now", top .. "/before"))
    assert(os.rename(top .. "/three", top .. "/now"))
    becomes(db, 165)
    fixture.write(top .. "/now/app/views/v.lua", summing(4))
    becomes(db, 220)
  end)

  it("reloads nothing when other files change", function ()
    local folder = fixture.dir()
    fixture.write(folder .. "/v.lua", summing(1))
    fixture.write(folder .. "/notes.txt", "a")
    local db = watched(folder)
    local before, reloads = db.v._instance, 0
    db.reloaded(function () reloads = reloads + 1 end, false)
    fixture.write(folder .. "/notes.txt", "b")
    fixture.write(folder .. "/v.lua", summing(1))
    fixture.write(folder .. "/w.lua", summing(5))
    fixture.run_until(function () return db.views.w ~= nil end)
    assert.equal(before, db.v._instance)
    assert.is_true(reloads <= 1)
  end)

  it("has to be there", function ()
    local db, message, code = flume.new(flume.log.memory(), {watch = true})
    assert.is_nil(db)
    assert.equal("EINVAL", code)
    assert.truthy(message:find "folder")
  end)
end)
