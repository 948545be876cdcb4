-- The pattern functions of a view's state, beside those of Lua: the same results and the same errors for whatever
-- patterns and subjects.

local core = require "flume.core"
local seeds = require "tests.support.seeds"

local ours = core.patterns
local CASES = 20000


local PIECES = {
  "a", "b", "c", "x", "1", "2", " ", "-", "]", "^", "$", ".", "%a", "%d", "%s", "%w", "%S", "%A", "%p", "%.", "%%",
  "%-", "[ab]", "[^a]", "[a-c]", "[%d.]", "[^%s]", "[]]", "[^]]", "[a-]", "[%a_-]", "[b-a]", "[%w-z]", "(", ")", "()",
  "(a)", "(.-)", "(%w+)", "%b()", "%bab", "%baa", "%f[%w]", "%f[^a]", "%1", "%2", "%0", "a*", "b+", "c-", "a?", ".-",
  ".*", "%w+", "[ab]*", "\0", "[\0-b]", "\xff", "[\x80-\xff]", "%z",
}
local WRONG = {"%", "[", "[a", "[^", "%b", "%ba", "%f", "%fa", "[%", "[%]", "[]", "(()", "%g", "*", "+a"}
local LETTERS = {"a", "a", "b", "c", "x", "1", "2", " ", "-", ".", "(", ")", "]", "_", "\0", "\xff", "%", "\n"}
local TEXTS = {"", "x", "%0", "%1", "<%1>", "%2", "%%", "%", "%a", "a%0b%1", "%9"}

local function made_of(pieces, most)
  local text = {}
  for i = 1, math.random(0, most) do text[i] = pieces[math.random(#pieces)] end
  return table.concat(text)
end

local function pattern()
  local text = made_of(PIECES, 5)
  if math.random(8) == 1 then text = "^" .. text end
  if math.random(8) == 1 then text = text .. "$" end
  if math.random(10) == 1 then text = text .. WRONG[math.random(#WRONG)] end
  return text
end

local function init()
  if math.random(3) > 1 then return nil end
  return math.random(-12, 14)
end

local function replacement()
  local kind = math.random(4)
  if kind == 1 then
    return {a = "A", b = false, ["1"] = 7, [1] = "one", [""] = "empty", x = math.random(9) == 1 and {} or 1}
  end
  if kind == 2 then
    return function (...)
      local first = ...
      if first == "b" then return nil end
      return ("%d:%s"):format(select("#", ...), tostring(first))
    end
  end
  return TEXTS[math.random(#TEXTS)]
end

-- What a call gives: its results, or its error without the place and the name of the function.
local function outcome(fn, ...)
  local results = table.pack(pcall(fn, ...))
  if not results[1] then results[2] = tostring(results[2]):gsub("to '[%w.?]+'", "to 'f'") end
  return results
end

-- All that gmatch gives, one list after another.
local function all_matches(gmatch)
  return function (...)
    local all = {n = 0}
    for a, b, c in gmatch(...) do
      all[#all + 1] = {a, b, c}
      if #all > 50 then break end
    end
    return all
  end
end

local function is_same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do
    if not is_same(value, b[key]) then return false end
  end
  return a.n == b.n and #a == #b
end

local function compare(name, mine, stock, ...)
  local expected, got = outcome(stock, ...), outcome(mine, ...)
  if is_same(expected, got) then return expected[1] end
  local given = {}
  for i = 1, select("#", ...) do given[i] = ("%q"):format(tostring((select(i, ...)))) end
  assert.same(expected, got, ("%s(%s)"):format(name, table.concat(given, ", ")))
end

describe("the pattern functions of views", function ()
  setup(function ()
    math.randomseed(seeds.take())
  end)

  it("give what Lua's own give, for random patterns", function ()
    local answered, refused = 0, 0
    for _ = 1, CASES do
      local s, p = made_of(LETTERS, 12), pattern()
      local ok = compare("find", ours.find, string.find, s, p, init(), math.random(10) == 1 or nil)
      compare("match", ours.match, string.match, s, p, init())
      compare("gmatch", all_matches(ours.gmatch), all_matches(string.gmatch), s, p, init())
      compare("gsub", ours.gsub, string.gsub, s, p, replacement(), math.random(3) == 1 and math.random(-1, 4) or nil)
      if ok then answered = answered + 1 else refused = refused + 1 end
    end
    assert.is_true(answered > CASES / 2 and refused > CASES / 50, answered .. " answered, " .. refused .. " refused")
  end)

  it("know the same classes of characters", function ()
    for letter in ("acdglpsuwxACDGLPSUWXbz.[]-1"):gmatch "." do
      for byte = 0, 255 do
        local char = string.char(byte)
        compare("find", ours.find, string.find, char, "%" .. letter)
        compare("find", ours.find, string.find, char, "[%" .. letter .. "]")
      end
    end
  end)

  it("take the same arguments", function ()
    for _, name in ipairs {"find", "match", "gsub"} do
      local mine, stock = ours[name], string[name]
      compare(name, mine, stock)
      compare(name, mine, stock, "a")
      compare(name, mine, stock, 123, 2, 5)
      compare(name, mine, stock, {}, "a", "b")
      compare(name, mine, stock, "a", {}, "b")
      compare(name, mine, stock, "a", "a", true)
      compare(name, mine, stock, "abc", "b", "x", "y")
    end
    for _, at in ipairs {1, 4, 5, 6, -1, -4, -5, 0, math.maxinteger, math.mininteger} do
      compare("find", ours.find, string.find, "abab", "b", at)
      compare("find", ours.find, string.find, "abab", "", at)
      compare("find", ours.find, string.find, "abab", ".", at, true)
      compare("match", ours.match, string.match, "abab", "()$", at)
      compare("gmatch", all_matches(ours.gmatch), all_matches(string.gmatch), "abab", "()b?", at)
    end
    compare("gsub", ours.gsub, string.gsub, "abab", "b", "%1x", math.maxinteger)
    compare("gsub", ours.gsub, string.gsub, "abab", "b", "x", math.mininteger)
    compare("gsub", ours.gsub, string.gsub, "abab", "(b)(a)", "%2%1%3")
    compare("gsub", ours.gsub, string.gsub, "abab", "()b", "%1")
    compare("gsub", ours.gsub, string.gsub, "abab", "^a", "")
  end)

  it("have the same limits", function ()
    compare("find", ours.find, string.find, "a", ("()"):rep(32))
    compare("find", ours.find, string.find, "a", ("()"):rep(33))
    compare("find", ours.find, string.find, ("a"):rep(300), ("a?"):rep(300))
    compare("match", ours.match, string.match, ("a"):rep(3000), ".-b")
    compare("match", ours.match, string.match, ("a"):rep(100000), "^(a*)%1$")
    compare("gsub", ours.gsub, string.gsub, ("a"):rep(10000), "a", ("b"):rep(100))
    compare("find", ours.find, string.find, ("a"):rep(1000) .. "b", ("a"):rep(100) .. "b")
    compare("find", ours.find, string.find, ("ab"):rep(1000), ("ab"):rep(100) .. "b")
    compare("find", ours.find, string.find, ("a"):rep(99), ("a"):rep(100))
  end)

  it("let a replacement function raise, call others and yield an error of its own", function ()
    local calls = 0
    assert.equal("<a><b>", (ours.gsub("ab", ".", function (c)
      calls = calls + 1
      return "<" .. ours.gsub(c, ".", "%0") .. ">"
    end)))
    assert.equal(2, calls)
    local ok, err = pcall(ours.gsub, "ab", ".", function () error({1}, 0) end)
    assert.same({false, {1}}, {ok, err})
  end)
end)
