-- Whether a key was ever there, in little room: has(key) is false when it surely was not, and true when it may have
-- been; info().
--
--   key        the path of the key, or a list of paths: then keys are arrays
--   each       true: where there is an array at the path, every value in it is a key
--   expected   how many keys there will be, 10000 if not given; when there are more, it grows
--   error      the share of other keys that has may take for one of them, 0.01 if not given, also when it has grown
--
-- A Bloom filter that grows in layers (Almeida et al. 2007): the first has half of the error, and each has twice the
-- room of the one before and half its error, so that together they keep to it. Bits are in integers of 64.
--
-- Bits are not taken back when a record is deleted: has goes on saying true. When half of the keys are gone, the filter
-- is built anew.

local flume = require "flume"
local parameters = require "lib.parameters"

local _, given = ...
local params = parameters.check("bloom", given, {
  key = "paths!", each = "flag", expected = "count", error = "share",
})

local EXPECTED, ERROR, MAX_BITS = params.expected or 10000, params.error or 0.01, 1 << 32
local LN2 = math.log(2)

if params.each and type(params.key) ~= "string" then error("bloom: each is for a single path", 0) end
local key_of = flume.path(params.key)
local each_key = params.each and require "lib.each" (params.key) or function (item, fn)
  local key = key_of(item)
  if key ~= nil then fn(key) end
end

local function new_layer(number)
  local capacity, error_share = EXPECTED << (number - 1), ERROR / (1 << number)
  local bits = math.ceil(capacity * -math.log(error_share) / (LN2 * LN2))
  local words = {}
  bits = math.min((bits + 63) // 64 * 64, MAX_BITS)
  for i = 1, bits // 64 do words[i] = 0 end
  return {capacity = capacity, keys = 0, bits = bits, probes = math.ceil(-math.log(error_share, 2)), words = words}
end

-- The place of each probe comes from two halves of the key's hash, and goes further apart with each.
local function probes_of(layer, hash)
  local at, step, probe = hash & 0xffffffff, hash >> 32, 0
  return function ()
    if probe == layer.probes then return nil end
    at, step, probe = at + step, step + probe, probe + 1
    return at % layer.bits
  end
end

local function has(layer, hash)
  for bit in probes_of(layer, hash) do
    if layer.words[bit // 64 + 1] >> (bit % 64) & 1 == 0 then return false end
  end
  return true
end

local function may_have(state, hash)
  for _, layer in ipairs(state.layers) do
    if has(layer, hash) then return true end
  end
  return false
end

local function add(state, hash)
  if may_have(state, hash) then return end
  local layer = state.layers[#state.layers]
  if not layer or layer.keys >= layer.capacity then
    layer = new_layer(#state.layers + 1)
    state.layers[#state.layers + 1] = layer
  end
  for bit in probes_of(layer, hash) do
    local word = bit // 64 + 1
    layer.words[word] = layer.words[word] | 1 << (bit % 64)
  end
  layer.keys = layer.keys + 1
  state.keys = state.keys + 1
end

-- The hash of a key; nil for what can't be one.
local function hash_of(key)
  local ok, hash = pcall(flume.hash, key)
  return ok and hash or nil
end

local function share_of_ones(layer)
  local ones = 0
  for _, word in ipairs(layer.words) do
    while word ~= 0 do
      word = word & (word - 1)
      ones = ones + 1
    end
  end
  return ones / layer.bits
end

return {
  initial = {layers = flume.array {}, keys = 0, deleted = 0},

  reducer = function (state, item)
    each_key(item, function (key)
      local hash = hash_of(key)
      if hash then add(state, hash) end
    end)
    return state
  end,

  retract = function (state, item)
    each_key(item, function (key)
      if hash_of(key) then state.deleted = state.deleted + 1 end
    end)
    if state.deleted * 2 > state.keys then return nil, "rebuild" end
    return state
  end,

  methods = {has = "async", info = "async"},

  has = function (view, key)
    local hash = hash_of(key)
    return hash ~= nil and may_have(view:get(), hash)
  end,

  -- How many keys there are (about: those that were taken for others are not counted), and deleted ones among them; how
  -- many there is room for; the error as it is now, from the bits that are set.
  info = function (view)
    local state, info = view:get(), {capacity = 0, bytes = 0, layers = 0}
    local right = 1
    for _, layer in ipairs(state.layers) do
      info.capacity, info.bytes = info.capacity + layer.capacity, info.bytes + layer.bits // 8
      info.layers = info.layers + 1
      right = right * (1 - share_of_ones(layer) ^ layer.probes)
    end
    info.keys, info.deleted, info.error = state.keys, state.deleted, 1 - right
    return info
  end,
}
