-- Ranges of a view's groups or entries: their options, and the iterator that view:range gives to a view's own
-- functions. (What db.NAME:read gives is view/source_stream.lua.)

local world = ...
local core = world.core

local M = {}

local FIRST_PAGE = 16 -- entries that are fetched from the store at once: four times as many each time,
local PAGE = 256      -- up to this

local OPTIONS = {
  gt = "any", gte = "any", lt = "any", lte = "any", prefix = "any", reverse = "boolean", limit = "integer",
  live = "boolean", old = "boolean", keys = "boolean", values = "boolean", seqs = "boolean", since = "integer",
  wait = "boolean", timeout = "number", after = "integer",
}

local names = {}
for option in pairs(OPTIONS) do names[#names + 1] = option end
table.sort(names)
names = table.concat(names, ", ")

--- What is wrong with the options of a range, or nil.
function M.check(options)
  if options == nil then return nil end
  if type(options) ~= "table" then return "a range is a table of options" end
  for option, value in pairs(options) do
    local wanted = OPTIONS[option]
    if not wanted then return ("unknown option %q of a range; there are %s"):format(tostring(option), names) end
    if wanted ~= "any" and type(value) ~= wanted and math.type(value) ~= wanted then
      return ("option %s must be of type %s, not %s"):format(option, wanted, math.type(value) or type(value))
    end
  end
  if options.reverse and options.live then return "reverse and live exclude each other" end
end

-- Options that would change what is counted, and that count doesn't do.
local NOT_OF_COUNT = {"after", "live", "old"}

--- The same of the options of count. Those that change the form or the order of results change no count.
function M.check_count(options)
  local wrong = M.check(options)
  for _, option in ipairs(not wrong and options and NOT_OF_COUNT or {}) do
    if options[option] ~= nil then return ("there is no option %s; a count has an end"):format(option) end
  end
  return wrong
end

local OF_RECORDS = {"limit", "after", "live", "old", "keys", "values", "seqs"}

--- What is wrong with those options of a method that gives records which are not up to the method; or nil.
function M.check_records(options)
  local given = {}
  for _, option in ipairs(OF_RECORDS) do given[option] = options[option] end
  return M.check(given)
end

--- How many results the options let there be.
function M.limit_of(options)
  local limit = options.limit
  return limit and limit >= 0 and limit or math.maxinteger
end

local Range = {}
Range.__index = Range
Range.__name = "flume.range"

--- Whether a value is what view:range gave.
function M.is(value)
  return getmetatable(value) == Range
end

--- The results of one entry, by the options keys, values and seqs. The first is never nil, which would end a loop.
function M.shaped(options, key, value, seq)
  if options.keys == false then
    if options.values == false then return seq end
    if value == nil then value = core.null end
    if options.seqs == false then return value end
    return value, seq
  end
  if options.values == false then
    if options.seqs == false then return key end
    return key, seq
  end
  if options.seqs == false then return key, value end
  return key, value, seq
end

--- The next entry: key, value, seq, less what the options switch off.
function Range:__call()
  local options = self.options
  if self.left == 0 then return nil end
  local item = self.items[self.at]
  while not item do
    if self.ended then return nil end
    local first_seq = options.after and options.after + 1
    self.items, self.resume = self.host.page(options, math.min(self.size, self.left), first_seq, self.last_seq,
      self.resume)
    self.at, self.ended, self.size = 1, self.resume == nil, math.min(self.size * 4, PAGE)
    item = self.items[1]
  end
  self.left = self.left - 1
  self.items[self.at] = nil
  self.at = self.at + 1
  return M.shaped(options, item[1], item[3], item[2])
end

--- The function view:range of a host with page and store: what there is when it is called.
function M.reader(host)
  return function (_, options)
    local wrong = M.check(options)
    if wrong then error(wrong, 2) end
    options = options or {}
    return setmetatable({
      options = options,
      host = host,
      last_seq = host.store.seq(), -- of an index: what comes later is not in it
      items = {},       -- fetched, not delivered
      at = 1,
      size = FIRST_PAGE, -- of the next page
      resume = nil,     -- behind the last of them
      ended = false,
      left = M.limit_of(options),
    }, Range)
  end
end

return M
