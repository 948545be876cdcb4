-- Who links to whom: a link leads from a source by a relation to a target, and can be followed both ways.
--
--   source    the path of where a record's links lead from
--   targets   where they lead to: a table of relation -> path; an array on the way, or at the end, stands for all that
--             is in it, so that a record may have many links of one relation
-- or
--   target    the path of where they lead to, and
--   relation  the path of the relation's name
--
-- read{source =, relation =, target =, …}, targets(source [, relation]), sources(target [, relation]),
-- has(source, relation, target), count{source =, relation =, target =}.
--
-- Each link has three entries, {"s", source, relation, target}, {"t", target, relation, source} and
-- {"r", relation, source, target}, so that any one or two of the three can be asked for.

local each = require "lib.each"
local parameters = require "lib.parameters"
local range = require "lib.range"

local _, given = ...
local params = parameters.check("links", given, {
  source = "path!", targets = "table", target = "path", relation = "path",
})

if (params.targets ~= nil) == (params.target ~= nil) or (params.target ~= nil) ~= (params.relation ~= nil) then
  error("links: parameters are source and targets, or source, relation and target", 0)
end

local each_source = each(params.source)
local each_relation = params.relation and each(params.relation)
local ways = {} -- list of {relation =, each =}
for relation, path in pairs(params.targets or {}) do
  if type(relation) ~= "string" or not parameters.is_path(path) then
    error("links: parameter targets must be a table of relation -> path", 0)
  end
  ways[#ways + 1] = {relation = relation, each = each(path)}
end
if params.target then ways[1] = {each = each(params.target)} end

-- Calls fn(source, relation, target) once for each link of the item.
local function each_link(item, fn)
  local seen = {}
  local function once(source, relation, target)
    local of_source = seen[source] or {}
    local of_relation = of_source[relation] or {}
    seen[source], of_source[relation] = of_source, of_relation
    if of_relation[target] then return end
    of_relation[target] = true
    fn(source, relation, target)
  end
  each_source(item, function (source)
    for _, way in ipairs(ways) do
      local function from(relation)
        way.each(item, function (target) once(source, relation, target) end)
      end
      if way.relation then from(way.relation) else each_relation(item, from) end
    end
  end)
end

-- Where the parts of a link are in the keys of each of the three orders.
local ORDERS = {
  s = {"source", "relation", "target"}, t = {"target", "relation", "source"}, r = {"relation", "source", "target"},
}

-- The order whose keys begin with what is asked for, and those values.
local function order_for(link)
  local name = link.source ~= nil and "s" or link.target ~= nil and "t" or link.relation ~= nil and "r" or "s"
  local prefix = {name}
  for _, part in ipairs(ORDERS[name]) do
    if link[part] == nil then break end
    prefix[#prefix + 1] = link[part]
  end
  return ORDERS[name], prefix
end

local OPTIONS = {
  source = true, relation = true, target = true, reverse = true, limit = true, live = true, old = true, after = true,
  keys = true, values = true, seqs = true, since = true, wait = true, timeout = true,
}

local function check(link)
  if type(link) ~= "table" then error("links: source, relation and target are asked for in a table", 0) end
  for name in pairs(link) do
    if not OPTIONS[name] then error(("links: unknown option %s"):format(tostring(name)), 0) end
  end
  return link
end

-- Iterates over {source =, relation =, target =}, seq.
local function links(view, link)
  local order, prefix = order_for(check(link))
  local entries = view:range {prefix = prefix, reverse = link.reverse, after = link.after}
  return function ()
    for key, _, seq in entries do
      local found = {[order[1]] = key[2], [order[2]] = key[3], [order[3]] = key[4]}
      if link.target == nil or range.is_same(found.target, link.target) then return found, seq end
    end
  end
end

-- The values of one part, each once.
local function parts(view, part, link)
  local found, seen = {}, {}
  for each_link_found in links(view, link) do
    local value = each_link_found[part]
    if not seen[value] then
      seen[value] = true
      found[#found + 1] = value
    end
  end
  return found
end

local function limited(next_link, limit)
  local left = limit and limit >= 0 and limit or math.maxinteger
  return function ()
    if left <= 0 then return nil end
    left = left - 1
    return next_link()
  end
end

return {
  indexer = function (item, _, emit)
    each_link(item, function (source, relation, target)
      emit {"s", source, relation, target}
      emit {"t", target, relation, source}
      emit {"r", relation, source, target}
    end)
  end,

  methods = {read = "records", targets = "source", sources = "source", has = "async", count = "async"},

  read = function (view, options)
    local link = options or {}
    if not link.after then return limited(links(view, link), link.limit) end
    local came = {}
    for key, seq in links(view, link) do came[#came + 1] = {key, seq} end
    return range.by_seq(came)
  end,

  targets = function (view, source, relation)
    if source == nil then return {} end
    return parts(view, "target", {source = source, relation = type(relation) ~= "table" and relation or nil})
  end,

  sources = function (view, target, relation)
    if target == nil then return {} end
    return parts(view, "source", {target = target, relation = type(relation) ~= "table" and relation or nil})
  end,

  has = function (view, source, relation, target)
    if source == nil or relation == nil or target == nil then return false end -- which would be any
    return view:count {prefix = {"s", source, relation, target}} > 0
  end,

  count = function (view, options)
    local link = check(options or {})
    local order, prefix = order_for(link)
    if #prefix - 1 == (link.source and 1 or 0) + (link.relation and 1 or 0) + (link.target and 1 or 0) and order then
      return range.count(view, link, view:count {prefix = prefix})
    end
    local count = 0
    for _ in links(view, link) do count = count + 1 end
    return range.count(view, link, count)
  end,
}
