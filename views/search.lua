-- Full-text search: search(query [, options]), count(query).
--
--   fields     the path of the text, or a list of paths; an array on the way, or at the end, stands for all that is in
--              it
--   language   for stems: "english", "german", … (those of Snowball); without one words are found as they are written
--
-- Entries of a record with len words; the places of a word are counted through all fields:
--
--   {"t", term}   {len, places…}   for each stem
--   {"w", word}   {len, places…}   for each word that differs from its stem, so that a prefix finds it
--   {"d"}                          for each record with words
--   {"n", i}                       for each bit i of len: counted, they make the sum of all lengths
--
-- The order is that of BM25 (Robertson et al. 1994) with k1 = 1.2 and b = 0.75.

local flume_text = require "flume.text"
local parameters = require "lib.parameters"
local parse = require "lib.query"
local range = require "lib.range"

local _, given = ...
local params = parameters.check("search", given, {fields = "paths!", language = "text"})

local K1, B = 1.2, 0.75
local FIELD_GAP = 100 -- places between two texts of a record, so that no phrase goes across
local LENGTH_BITS = 31

local analyse = flume_text.analyser(params.language)
local texts = {}
for i, path in ipairs(type(params.fields) == "table" and params.fields or {params.fields}) do
  texts[i] = require "lib.each" (path)
end

-- --- Words of a record -------------------------------------------------------------------------------------------

-- words: {places = {word -> list}, order = list of the words}
local function add_place(words, word, place)
  local list = words.places[word]
  if not list then
    list = {0}
    words.places[word] = list
    words.order[#words.order + 1] = word
  end
  list[#list + 1] = place
end

-- The places of each term and of each other word of an item, with room for len in front, and len.
local function places_of(item)
  local terms, words = {places = {}, order = {}}, {places = {}, order = {}}
  local place, len = 0, 0
  local function add(text)
    if type(text) ~= "string" then return end
    local as_written, stems = analyse(text)
    for i, stem in ipairs(stems) do
      add_place(terms, stem, place + i)
      if as_written[i] ~= stem then add_place(words, as_written[i], place + i) end
    end
    len = len + #stems
    place = place + #stems + FIELD_GAP
  end
  for _, each_text in ipairs(texts) do each_text(item, add) end
  return terms, words, len
end

local function emit_places(emit, kind, words, len)
  for _, word in ipairs(words.order) do
    local list = words.places[word]
    list[1] = len
    emit({kind, word}, list)
  end
end

-- --- What is known of all records ----------------------------------------------------------------------------------

local function count_of(view, key)
  return view:count {gte = key, lte = key}
end

-- How many records there are, and how long they are on average.
local function statistics(view)
  local records, length = count_of(view, {"d"}), 0
  for bit = 0, LENGTH_BITS - 1 do length = length + (count_of(view, {"n", bit}) << bit) end
  return {records = records, average = length / math.max(records, 1)}
end

-- What a word is worth that so many of the records have.
local function weight(stats, frequency)
  return math.log(1 + (stats.records - frequency + 0.5) / (frequency + 0.5))
end

local function score(stats, worth, times, len)
  return worth * times * (K1 + 1) / (times + K1 * (1 - B + B * len / stats.average))
end

-- --- Matching ----------------------------------------------------------------------------------------------------
--
-- match.KIND(search, node, only) gives hits, seq -> score. only is nil, or a table of the seqs that can matter.

local match = {}

local function matches(search, node, only)
  return match[node.kind](search, node, only)
end

local function entries_of(search, key)
  return search.view:range {gte = key, lte = key, after = search.after}
end

function match.term(search, node, only)
  local key, hits = {"t", node.term}, {}
  local worth = weight(search.stats, count_of(search.view, key))
  for _, places, seq in entries_of(search, key) do
    if not only or only[seq] then hits[seq] = score(search.stats, worth, #places - 1, places[1]) end
  end
  return hits
end

-- All words that begin with the prefix are one word, which stands wherever one of them does.
function match.prefix(search, node, only)
  local found, frequency = {}, 0 -- by seq: {len =, times =, places as a set}
  for _, kind in ipairs {"t", "w"} do
    local bounds = {gte = {kind, node.prefix}, lt = {kind, node.prefix .. "\xff"}, after = search.after}
    for _, places, seq in search.view:range(bounds) do
      local in_record = found[seq]
      if not in_record then
        in_record = {len = places[1], times = 0, at = {}}
        found[seq], frequency = in_record, frequency + 1
      end
      for i = 2, #places do
        if not in_record.at[places[i]] then
          in_record.at[places[i]], in_record.times = true, in_record.times + 1
        end
      end
    end
  end
  local hits, worth = {}, weight(search.stats, frequency)
  for seq, in_record in pairs(found) do
    if not only or only[seq] then hits[seq] = score(search.stats, worth, in_record.times, in_record.len) end
  end
  return hits
end

-- Lets those of starts (seq -> list of places) stand that go on with the term `offset` places further.
local function follow(search, starts, term, offset)
  local kept = {}
  for _, places, seq in entries_of(search, {"t", term}) do
    local begun = starts[seq]
    if begun then
      local there, still = {}, {len = places[1]}
      for i = 2, #places do there[places[i]] = true end
      for _, place in ipairs(begun) do
        if there[place + offset] then still[#still + 1] = place end
      end
      if #still > 0 then kept[seq] = still end
    end
  end
  return kept
end

function match.phrase(search, node, only)
  local starts, worth = {}, 0
  for _, places, seq in entries_of(search, {"t", node[1]}) do
    if not only or only[seq] then starts[seq] = table.move(places, 2, #places, 1, {len = places[1]}) end
  end
  for i, term in ipairs(node) do
    worth = worth + weight(search.stats, count_of(search.view, {"t", term}))
    if i > 1 then starts = follow(search, starts, term, i - 1) end
  end
  local hits = {}
  for seq, places in pairs(starts) do hits[seq] = score(search.stats, worth, #places, places.len) end
  return hits
end

match["or"] = function (search, node, only)
  local hits = {}
  for _, each in ipairs(node) do
    for seq, value in pairs(matches(search, each, only)) do hits[seq] = (hits[seq] or 0) + value end
  end
  return hits
end

-- How many records a node may match, at most; the rarest is looked for first.
local function estimate(search, node)
  if node.kind == "term" then return count_of(search.view, {"t", node.term}) end
  if node.kind == "phrase" then return count_of(search.view, {"t", node[1]}) end
  return math.huge
end

local function by_rarity(search, nodes)
  local list = {}
  for i, node in ipairs(nodes) do list[i] = {node = node, estimate = estimate(search, node)} end
  table.sort(list, function (a, b) return a.estimate < b.estimate end)
  return list
end

-- Every record with words, worth nothing: what "NOT this" is taken from.
local function all_records(search, only)
  local hits = {}
  for _, _, seq in entries_of(search, {"d"}) do
    if not only or only[seq] then hits[seq] = 0 end
  end
  return hits
end

match["and"] = function (search, node, only)
  local hits
  for _, each in ipairs(by_rarity(search, node)) do
    local found = matches(search, each.node, hits or only)
    for seq, value in pairs(found) do found[seq] = value + (hits and hits[seq] or 0) end
    hits = found
  end
  hits = hits or all_records(search, only)
  for _, each in ipairs(node.without) do
    for seq in pairs(matches(search, each, hits)) do hits[seq] = nil end
  end
  return hits
end

-- --- Methods -----------------------------------------------------------------------------------------------------

local function hits_of(view, query, after)
  if type(query) ~= "string" then error("search: a query is a string, not a " .. type(query), 0) end
  local node = parse(query, analyse)
  if not node then return {} end
  return matches({view = view, after = after, stats = statistics(view)}, node)
end

local function is_better(a, b)
  if a[1] ~= b[1] then return a[1] > b[1] end
  return a[2] > b[2]
end

local OPTIONS = {
  limit = true, live = true, old = true, after = true, keys = true, values = true, seqs = true, since = true,
  wait = true, timeout = true,
}

local function check_options(options)
  for name in pairs(options or {}) do
    if not OPTIONS[name] then error(("search: unknown option %s"):format(tostring(name)), 0) end
  end
  return options or {}
end

return {
  indexer = function (item, _, emit)
    local terms, words, len = places_of(item)
    if len == 0 then return end
    emit_places(emit, "t", terms, len)
    emit_places(emit, "w", words, len)
    emit {"d"}
    for bit = 0, LENGTH_BITS - 1 do
      if len >> bit & 1 == 1 then emit {"n", bit} end
    end
  end,

  methods = {search = "records", count = "async"},

  search = function (view, query, options)
    options = check_options(options)
    local list = {}
    for seq, value in pairs(hits_of(view, query, options.after)) do list[#list + 1] = {value, seq} end
    if options.after then return range.by_seq(list) end
    table.sort(list, is_better)
    local i, limit, last = 0, options.limit or -1, #list
    if limit >= 0 and limit < last then last = limit end
    return function ()
      i = i + 1
      if i <= last then return list[i][1], list[i][2] end
    end
  end,

  count = function (view, query, options)
    local count = 0
    check_options(options)
    for _ in pairs(hits_of(view, query)) do count = count + 1 end
    return range.count(view, options, count)
  end,
}
