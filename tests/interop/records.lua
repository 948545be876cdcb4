-- What both sides of the specs here are fed: messages that are made up, the same ones for each seed, and the packages
-- that Debian knows of.

local M = {}

local WORDS = {"flume", "log", "vue", "ssb", "été", "naïve", "日本", "\"quoted\"", "tab\there", "back\\slash", "😀"}
local TYPES = {"post", "vote", "contact", "about", "pub"}
local START_MS = 1500000000000

-- A generator of its own: that of Lua gives other numbers in other versions.
local function random_of(seed)
  local state = seed % 2147483647
  return function (n)
    state = (state * 48271 + 11) % 2147483647
    return state % n
  end
end

local function text_of(random)
  local words = {}
  for i = 1, random(12) do words[i] = WORDS[random(#WORDS) + 1] end
  return table.concat(words, " ")
end

local MIXED = {
  function (random) return random(1000) - 500 end,
  function (random) return (2 * random(1000) + 1) / 8 end,
  function (random) return text_of(random) end,
  function () return true end,
  function () return false end,
}

-- Keys, timestamps and sequences are each of one message alone; numbers have no fraction that JSON would lose.
function M.messages(seed, count, first)
  local random, list = random_of(seed), {}
  for i = first or 1, (first or 1) + count - 1 do
    local content = {type = TYPES[random(#TYPES) + 1], text = text_of(random)}
    if content.type == "vote" then content.votes = random(5) end
    if random(4) == 0 then content.channel = "c" .. random(5) end
    if random(3) == 0 then
      content.mentions = {}
      for m = 1, random(3) + 1 do content.mentions[m] = "%" .. random(40) end
    end
    if random(5) > 0 then content.mixed = MIXED[random(#MIXED) + 1](random) end
    list[#list + 1] = {
      key = ("%%%06d"):format(i),
      timestamp = START_MS + i * 1000,
      value = {author = "@" .. random(20), sequence = i, timestamp = START_MS + i * 1000, content = content},
    }
  end
  return list
end

local NUMBERS = {["Installed-Size"] = true, Size = true}

-- The stanzas of the Debian package index, up to count of them; nil when apt has none here.
function M.packages(count)
  local pipe = io.popen "apt-cache dumpavail 2>/dev/null"
  local list, stanza = {}, {}
  for line in pipe:lines() do
    local name, value = line:match "^([%w-]+): (.*)$"
    if name then stanza[name] = NUMBERS[name] and math.tointeger(tonumber(value)) or value end
    if line == "" and stanza.Package then
      list[#list + 1] = stanza
      stanza = {}
      if #list == count then break end
    end
  end
  pipe:close()
  return #list > 0 and list or nil
end

return M
