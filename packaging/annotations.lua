-- Reads the annotations of lua/flume/meta.lua.
--
--   local classes = require "packaging.annotations" (path)
--
-- gives the classes in their order. A class has name, doc, parents (names), fields (name, type, optional, doc) and
-- functions: name, doc, params (names), param (name -> type, optional, doc) and returns (type, name, doc). A doc is a
-- string, "" for none.

-- The type at the start of text, and the rest. Spaces belong to it inside brackets, and after the colon of a function.
local function take_type(text)
  local depth, i = 0, 1
  while i <= #text do
    local c = text:sub(i, i)
    if c:find "[(<{%[]" then depth = depth + 1 end
    if c:find "[)>}%]]" then depth = depth - 1 end
    if c == " " and depth == 0 and text:sub(i - 1, i - 1) ~= ":" then break end
    i = i + 1
  end
  return text:sub(1, i - 1), text:sub(i + 1)
end

-- "name type doc" or "name? type doc".
local function read_named(text)
  local name, mark, rest = text:match "^([%w_.%[%]]+)(%??)%s+(.*)$"
  local kind, doc = take_type(rest)
  return {name = name, type = kind, optional = mark == "?", doc = doc}
end

-- "type name doc"; the name may be absent.
local function read_return(text)
  local kind, rest = take_type(text)
  local name, doc = rest:match "^(%S+)%s*(.*)$"
  return {type = kind, name = name or "", doc = doc or ""}
end

local function new_block()
  return {doc = {}, param = {}, returns = {}, fields = {}, class = nil, parents = {}}
end

local TAGS = {
  class = function (block, text)
    local name, parents = text:match "^([%w_.]+):?%s*(.*)$"
    block.class = name
    for parent in parents:gmatch "[%w_.]+" do block.parents[#block.parents + 1] = parent end
  end,
  field = function (block, text) table.insert(block.fields, read_named(text)) end,
  param = function (block, text)
    local param = read_named(text)
    block.param[param.name] = param
  end,
  ["return"] = function (block, text) table.insert(block.returns, read_return(text)) end,
}

local function class_of(block)
  return {
    name = block.class, doc = table.concat(block.doc, "\n"), parents = block.parents, fields = block.fields,
    functions = {},
  }
end

local function function_of(block, name, params)
  local list = {}
  for param in params:gmatch "[%w_.]+" do list[#list + 1] = param end
  return {
    name = name, params = list, param = block.param, returns = block.returns, doc = table.concat(block.doc, "\n"),
  }
end

return function (path)
  local classes, by_variable, block = {}, {}, new_block()

  local function add_class(variable)
    local class = class_of(block)
    classes[#classes + 1] = class
    if variable then by_variable[variable] = class end
  end

  local function finish(line)
    local variable = line:match "^local (%w+) = {}" or line:match "^([%w.]+) = {}"
    local owner, name, params = line:match "^function ([%w.]+)[.:]([%w_]+)%((.*)%) end$"
    if block.class then
      add_class(variable)
    elseif owner then
      table.insert(by_variable[owner].functions, function_of(block, name, params))
    end
    block = new_block()
  end

  for line in io.lines(path) do
    local tag, text = line:match "^%-%-%-@(%a+)%s*(.*)$"
    if tag then
      if TAGS[tag] then TAGS[tag](block, text) end
    elseif line:find "^%-%-%-" then
      table.insert(block.doc, line:sub(5))
    else
      finish(line)
    end
  end
  return classes
end
