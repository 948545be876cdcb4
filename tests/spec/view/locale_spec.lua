-- Versions and states in a locale with a decimal comma, and versions that differ in their last digits.

local child = require "tests.support.child"
local fixture = require "tests.support.fixture"

local LOCALE = "de_DE.UTF-8"

-- A folder with the locale, or nil when it can't be made.
local function make_locale()
  local folder = fixture.dir()
  local ok = os.execute(("localedef -i de_DE -f UTF-8 '%s/%s' >/dev/null 2>&1"):format(folder, LOCALE))
  return ok and folder or nil
end

-- Opens the database in the folder arg[1], in the locale arg[2]; tells what it finds, appends, and waits for all views.
local PROGRAM = [[
  local flume = require "flume"
  if arg[2] ~= "C" then
    assert(os.setlocale(arg[2]))
    assert(tostring(1.5) == "1,5")
  end
  local db = assert(flume.open(arg[1], {views = arg[1] .. "/scripts"}))
  db:use("inline", {version = 1.5, initial = 0, reducer = function (acc, item) return acc + item.n end})
  for _, name in ipairs {"inline", "script", "user"} do
    local view = db.views[name]
    print(name, view.since.value, view.reason)
  end
  db:append {n = 0.5}
  print(db.inline:get() == 0.5 * (db.since.value + 1), db.script:get(), (db.user:get()))
  db:close()
]]

describe("in a locale with a decimal comma", function ()
  after_each(fixture.clean)

  it("a version is the same, and so is what a script makes of numbers", function ()
    local locales = make_locale()
    if not locales then return pending "localedef can't make a locale with a decimal comma" end
    local dir = fixture.dir()
    fixture.write(dir .. "/scripts/script.lua", [[return {version = 1.5, initial = "", reducer = function (acc, item)
      return acc .. item.n .. ";" .. tostring(item.n) .. ("%.2f"):format(item.n) .. tonumber "1.5" .. " "
    end}]])
    fixture.write(dir .. "/scripts/user.lua", [[return {version = 2.5, uses = {"script"}, initial = "",
      reducer = function (acc, item, seq, uses) return uses.script:get() end}]])
    local seq, text = -1, ""
    for _, locale in ipairs {"C", LOCALE, "C", LOCALE} do
      local output, ok = child.run_with("LOCPATH=" .. locales, PROGRAM, dir, locale)
      assert.is_true(ok, output)
      text = text .. "0.5;0.50.501.5 "
      local wanted = ("inline\t%d\tnil\nscript\t%d\tnil\nuser\t%d\tnil\n"):format(seq, seq, seq)
      wanted = ("%strue\t%s\t%s\n"):format(wanted, text, text)
      assert.equal(wanted, output)
      seq = seq + 1
    end
  end)
end)

describe("versions", function ()
  after_each(fixture.clean)

  local function reason_of(dir, version)
    local db = fixture.open_db(dir)
    db:use("v", {version = version, initial = 0, reducer = function (acc) return acc + 1 end})
    db.v:ready()
    local reason = db.v.reason
    db:close()
    return reason
  end

  it("are compared in all their digits, and keep their texts", function ()
    local dir = fixture.dir()
    local db = fixture.open_db(dir)
    db:append {n = 1}
    db:close()
    local last = "none"
    for _, version in ipairs {1, 1.0, 1.5, 0.3, 0.1 + 0.2, 1e15, 1e100, -0.25, 2^53, 2^53 + 2, math.huge, "1.5"} do
      local text = tostring(version)
      local reason = reason_of(dir, version)
      if last ~= "none" then
        assert.truthy(reason and reason:find("version " .. last .. " -> ", 1, true), reason)
      end
      if version == 0.1 + 0.2 then text = "0.30000000000000004"
      elseif version == 2^53 then text = "9007199254740992.0"
      elseif version == 2^53 + 2 then text = "9007199254740994.0" end
      last = text
      assert.is_nil(reason_of(dir, version))
    end
  end)

  it("can't be nan", function ()
    local db = fixture.memory_db()
    assert.error_matches(function ()
      db:use("v", {version = 0 / 0, initial = 0, reducer = function (acc) return acc end})
    end, 'view "v": version is nan', nil, true)
  end)
end)
