-- What makes a script the same script: its tokens, the modules that it requires, its parameters.

local core = require "flume.core"
local flume = require "flume"
local fixture = require "tests.support.fixture"
local seeds = require "tests.support.seeds"

local function differ(a, b)
  assert.not_equal(core.fingerprint(a), core.fingerprint(b), a .. "   and   " .. b)
end

local function agree(a, b)
  assert.equal(core.fingerprint(a), core.fingerprint(b), a .. "   and   " .. b)
end

describe("the fingerprint of a source", function ()
  it("does not count comments, layout or a first line for the shell", function ()
    for _, pair in ipairs {
      {"return 1", "return  1\n"}, {"a = b", "a\t=\r\n\v\f b -- c"}, {"a = b", "--[[ x\n ]] a = --[==[ ]] ]==] b"},
      {"a = b", "#!/usr/bin/lua\na = b"}, {"a = b", "-- x\ra = b"}, {"f{1}", "f { 1 }"}, {"a .. b", "a..b"},
      {"1 .. 2", "1 ..2"}, {"x = - - y", "x=- -y"}, {"a = b", "--[=x\na = b"}, {"a = b --", "a = b"}, {"", " -- "},
      {"a[b[1]]", "a [ b [ 1 ] ]"}, {"goto x ::x::", "goto x :: x ::"}, {"local x <const> = 1", "local x<const> =1"},
    } do
      agree(pair[1], pair[2])
    end
  end)

  it("tells tokens that run together from those that do not", function ()
    for _, pair in ipairs {
      {"1 ..2", "1..2"}, {"a b", "ab"}, {"a--[[x]]b", "ab"}, {"x = - - y", "x = -- y"}, {"a . . b", "a .. b"},
      {". ..", "..."}, {"a = = b", "a == b"}, {"a < < b", "a << b"}, {"a ~ = b", "a ~= b"}, {": :", "::"},
      {"a / / b", "a // b"}, {"0x1 p4", "0x1p4"}, {"3 e2", "3e2"}, {"1 .5", "1.5"}, {"0xe + 1", "0xe - 1"},
      {"return 1", "return 1.0"}, {"return 255", "return 0xff"}, {"a - b", "a -- b"}, {"[ [a] ]", "[[a]]"},
    } do
      differ(pair[1], pair[2])
    end
  end)

  it("counts strings byte by byte", function ()
    for _, pair in ipairs {
      {"'a b'", "'a  b'"}, {"'-- x'", "'-- y'"}, {"[[a]]", "[[ a]]"}, {"[[--]]", "[[-- ]]"}, {"'\\''", "'\\\"'"},
      {"'a\\\nb'", "'a\\\n b'"}, {"[==[ ]] ]==]", "[==[ ]]  ]==]"}, {"'\\\\' --x", "'\\\\ --x'"},
      {"'a', 'b'", "'a, b'"},
      {"'a'", "\"a\""}, {"'\\65'", "'A'"}, {"'a\\z  b'", "'ab'"}, {"'#'", "'# '"}, {"'a\255' 'b'", "'a' '\255b'"},
    } do
      differ(pair[1], pair[2])
    end
  end)

  it("counts what is behind a comment that a carriage return ends", function ()
    differ("-- x\ra = 1", "-- x\ra = 2")
    differ("#!lua\na = 1", "#!lua\na = 2")
  end)

  -- Two spellings of random tokens agree; dropping or changing one token does not.
  it("depends on all tokens and nothing else", function ()
    math.randomseed(seeds.take())
    local tokens = {"a", "bc", "local", "1", "0x1p-3", "3.5e+2", "'x y'", "\"--\"", "[[ z ]]", "..", "...", "==", "=",
      "<", "<<", "~", "~=", "//", "/", "-", "(", ")", "[", "]", ":", "::", "\"\\\"\"", "#"}
    local spaces = {" ", "\n", "\t", " -- c\n", "--[[ a ]] ", " --[=[ ]] ]=] ", "\r\n"}
    local function spell(list)
      local text = {" "}
      for _, token in ipairs(list) do
        text[#text + 1] = token
        text[#text + 1] = spaces[math.random(#spaces)]
      end
      -- A minus before a comment would begin another one.
      return (table.concat(text):gsub("%-(%-%-)", "- %1"))
    end
    for _ = 1, 2000 do
      local list, other = {}, {}
      for i = 1, math.random(2, 12) do list[i] = tokens[math.random(#tokens)] end
      table.move(list, 1, #list, 1, other)
      agree(spell(list), spell(other))
      local at = math.random(#other)
      if math.random(2) == 1 then table.remove(other, at) else other[at] = other[at] == "a" and "b" or "a" end
      differ(spell(list), spell(other))
    end
  end)
end)

describe("the modules that a source requires", function ()
  it("are those that it names literally", function ()
    assert.same({"a", "b", "c.d", "e", "f", "g"}, core.required [==[
      require "a" require 'b' require("c.d") require ( 'e' ) local x = require [[f]].x require [=[g]=]
      -- require "no1"
      --[[ require "no2" ]]
      local s = "require 'no3'"
      require(name) require("no4" .. x) require{"no5"} required "no6" require "no\55"
    ]==])
    assert.same({}, core.required "require")
    assert.same({}, core.required "require(")
  end)
end)

describe("the fingerprint of a view", function ()
  after_each(fixture.clean)

  local SCRIPT = "return {initial = 0, reducer = function (n) return n + 1 end}"

  -- A database on disk whose view has seen three records; reopening gives the view's since without waiting, and why.
  local function built(files, options)
    local dir, folder = fixture.dir(), fixture.dir()
    local function write(list)
      for name, source in pairs(list) do fixture.write(folder .. "/" .. name .. ".lua", source) end
    end
    write(files)
    local db = assert(flume.open(dir))
    db:use("v", folder .. "/v.lua", options):append {1, 2, 3}
    assert(db.v:get())
    db:close()
    return function (changed, other)
      write(changed)
      local again = assert(flume.open(dir))
      again:use("v", folder .. "/v.lua", other or options)
      local reason = again.v.reason
      assert(again.v:get())
      again:close()
      return reason
    end
  end

  local CHANGED = "the source has changed"

  it("covers modules that are loaded at once, and what they load", function ()
    local reopen = built {v = "require('a.b') " .. SCRIPT, ["a/b"] = "return require 'c'", c = "return 1"}
    assert.is_nil(reopen {c = "return 1 -- the same"})
    assert.equal(CHANGED, reopen {c = "return 2"})
    assert.is_nil(reopen {})
  end)

  it("covers modules that are named, and loaded later or never", function ()
    local reopen = built {
      v = "return {initial = 0, reducer = function (n) return n + #require 'late' end}",
      late = "return require 'later'", later = "return 'x'",
    }
    assert.equal(CHANGED, reopen {later = "return 'y'"})
    local conditional = built {v = "if false then require 'never' end " .. SCRIPT, never = "return 1"}
    assert.equal(CHANGED, conditional {never = "return 2"})
  end)

  it("covers modules whose names are made up while the script loads", function ()
    local reopen = built {v = "require('mo' .. 'dule') " .. SCRIPT, module = "return 1"}
    assert.equal(CHANGED, reopen {module = "return 2"})
  end)

  it("takes modules that require each other, or do not exist", function ()
    local reopen = built {
      v = "local f = function () return require 'one', require 'nowhere' end " .. SCRIPT,
      one = "return function () return require 'two' end", two = "return function () return require 'one' end",
    }
    assert.is_nil(reopen {})
    assert.equal(CHANGED, reopen {two = "return function () return require 'one', 1 end"})
  end)

  it("does not depend on the order in which modules are required, but on each one's content", function ()
    local function fingerprint_of(files)
      local folder = fixture.dir()
      for name, source in pairs(files) do fixture.write(folder .. "/" .. name .. ".lua", source) end
      local made = require "flume.view.host_modules".import "script_sources".new(function (name)
        return (core.read_file(folder .. "/" .. name .. ".lua"))
      end)
      made.add(files.v)
      return made.fingerprint()
    end
    local one = fingerprint_of {v = "require 'a' require 'b'", a = "x = 1", b = "y = 2"}
    assert.equal(one, fingerprint_of {v = "require 'a' require 'b'", b = "y = 2", a = "x = 1"})
    assert.not_equal(one, fingerprint_of {v = "require 'a' require 'b'", a = "x = 1 y = 2", b = ""})
    assert.not_equal(one, fingerprint_of {v = "require 'a' require 'b'", a = "y = 2", b = "x = 1"})
  end)

  it("covers a trusted view's modules too", function ()
    local reopen = built({v = "local a = require 'a' " .. SCRIPT, a = "return 1"}, {trusted = true})
    assert.is_nil(reopen {})
    assert.equal(CHANGED, reopen {a = "return 2"})
  end)

  it("covers the parameters, whatever their order", function ()
    local reopen = built({v = SCRIPT}, {params = {a = 1, b = {c = 2, d = 3}, list = {1, 2}}})
    assert.is_nil(reopen({}, {params = {list = {1, 2}, b = {d = 3, c = 2}, a = 1}}))
    assert.equal(CHANGED, reopen({}, {params = {a = 1, b = {c = 2, d = 4}, list = {1, 2}}}))
    assert.equal(CHANGED, reopen({}, {}))
    assert.equal(CHANGED, reopen({}, {params = {}}))
  end)

  it("lets a script begin with a line for the shell", function ()
    local reopen = built {v = "#!/usr/bin/env flume\n" .. SCRIPT}
    assert.is_nil(reopen {v = "#!/usr/bin/flume\n" .. SCRIPT})
  end)
end)

describe("the parameters of a view", function ()
  after_each(fixture.clean)

  local SCRIPT = [[
    local name, params = ...
    return {version = 1, initial = 0, reducer = function (n, item) return n + item * params.factor end,
      methods = {told = "sync"}, told = function () return name, params end}
  ]]

  local function with_params(params, options)
    local db = fixture.keep(flume.new(flume.log.memory(), options))
    return db:use("v", fixture.write(fixture.dir() .. "/v.lua", SCRIPT), {params = params})
  end

  it("are the second value that the script gets", function ()
    local db = with_params {factor = 3, list = {1, 2}}
    db:append {1, 2}
    assert.equal(9, db.v:get())
    assert.same({"v", {factor = 3, list = {1, 2}}}, {db.v:told()})
  end)

  it("are a copy, also where the view lives in the caller's state", function ()
    local params = {factor = 2}
    local db = with_params(params, {mapper = function (value) return value * 10 end})
    params.factor = 5
    db:append(1)
    assert.equal(20, db.v:get())
    assert.same({"v", {factor = 2}}, {db.v:told()})
  end)

  it("that can't be stored, or are for no script, are a mistake", function ()
    assert.error_matches(function () with_params {f = print} end, "function cannot be stored")
    assert.error_matches(function () with_params(5) end, "params must be table")
    assert.error_matches(function () fixture.memory_db():use("v", flume.reduce(1, print), {params = {}}) end, "script")
  end)
end)
