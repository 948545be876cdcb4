-- One record for each key: the last one that has it, or the first. get(key), has(key), read(range), count(range).
--
--   key      the path of the key, or a list of paths: then keys are arrays
--   keep     "last" (the default) or "first"
--
-- An index by its nature: when the record of a key is deleted, the one before it, or behind it, has its place.

local flume = require "flume"
local parameters = require "lib.parameters"
local range = require "lib.range"

local _, given = ...
local params = parameters.check("keyvalue", given, {key = "paths!", keep = "text"})

local keep = params.keep or "last"
if keep ~= "first" and keep ~= "last" then error('keyvalue: parameter keep must be "last" or "first"', 0) end

-- The seq of the record that is kept for a key, or nil.
local function kept_of(view, key)
  if key == nil or key == flume.null then return nil end -- no record is under it, and as a bound it is none
  return select(3, view:range {gte = key, lte = key, reverse = keep == "last"}())
end

-- One entry of each key. An entry is the one to keep where its key begins in the direction of the range, or ends.
local function kept_in(view, bounds)
  local entries, begins = view:range(bounds), (keep == "last") == (bounds.reverse == true)
  local key, seq
  local function next_begin()
    for next_key, _, next_seq in entries do
      if key == nil or not range.is_same(key, next_key) then
        key = next_key
        return next_key, next_seq
      end
    end
  end
  local function next_end()
    for next_key, _, next_seq in entries do
      local last_key, last_seq = key, seq
      key, seq = next_key, next_seq
      if last_key ~= nil and not range.is_same(last_key, next_key) then return last_key, last_seq end
    end
    local last_key, last_seq = key, seq
    key, seq = nil, nil
    return last_key, last_seq
  end
  return begins and next_begin or next_end
end

-- What came after a seq, as it came; of first records those alone that are the first of their keys.
local function came_after(view, bounds)
  local found = {}
  for key, _, seq in view:range(bounds) do
    if keep == "last" or kept_of(view, key) == seq then found[#found + 1] = {key, seq} end
  end
  return range.by_seq(found)
end

return {
  indexer = params.key,
  methods = {get = "record", has = "async", read = "records", count = "async"},

  get = kept_of,
  has = function (view, key) return kept_of(view, key) ~= nil end,

  read = function (view, options)
    local bounds = range.bounds(options)
    return bounds.after and came_after(view, bounds) or kept_in(view, bounds)
  end,

  count = function (view, options)
    local count = 0
    for _ in kept_in(view, range.bounds(options)) do count = count + 1 end
    return range.count(view, options, count)
  end,
}
