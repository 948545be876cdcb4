-- What a word at the prompt may become: dot commands, names in scope, fields and methods. Nothing is called for it.

local M = {}

local KEYWORDS = {"and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local",
  "nil", "not", "or", "repeat", "return", "then", "true", "until", "while"}

local DB_METHODS = {"append", "append_json", "close", "del", "get", "rebuild", "status", "stream",
  "sync", "use"}
local DB_FIELDS = {"closed", "dir", "ready", "since", "views"}
local VIEW_METHODS = {"ready", "rebuild"}
local VIEW_FIELDS = {"methods", "name", "progress", "since", "version"}

local function add_matching(list, names, prefix, before)
  for _, name in ipairs(names) do
    if type(name) == "string" and name:sub(1, #prefix) == prefix then list[#list + 1] = before .. name end
  end
end

local function keys_of(value)
  local keys = {}
  if type(value) == "table" then
    for key in next, value do
      if type(key) == "string" and key:find "^%a[%w_]*$" then keys[#keys + 1] = key end
    end
  end
  return keys
end

-- The names of a value's methods, as far as its metatable tells.
local function methods_of(value)
  local meta = type(value) == "string" and getmetatable "" or getmetatable(value)
  return type(meta) == "table" and keys_of(meta.__index) or {}
end

-- The names of the methods of a view, of its kind and its own.
function M.view_methods(view)
  local names = {table.unpack(VIEW_METHODS)}
  for name in pairs(view.methods or {}) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function is_view(db, value)
  for _, view in pairs(db.views) do
    if rawequal(view, value) then return true end
  end
  return false
end

local function names_of(views)
  local names = {}
  for name in pairs(views) do names[#names + 1] = name end
  return names
end

-- The value of "a.b.c", nil when any part of it is missing.
local function resolve(path, context)
  local value = context.env
  for name in path:gmatch "[^.:]+" do
    local holder = value
    if type(holder) ~= "table" then return nil end
    if holder == context.env then
      value = holder[name]
    elseif rawequal(holder, context.db) and context.db.views[name] ~= nil then
      value = context.db.views[name]
    else
      value = rawget(holder, name)
    end
  end
  return value
end

-- What may stand behind value and a "." or ":".
local function member_names(value, separator, context)
  if rawequal(value, context.db) then
    if separator == ":" then return DB_METHODS end
    local names = names_of(context.db.views)
    return table.move(DB_FIELDS, 1, #DB_FIELDS, #names + 1, names)
  end
  if is_view(context.db, value) then return separator == ":" and M.view_methods(value) or VIEW_FIELDS end
  local names = separator == "." and keys_of(value) or {}
  local methods = methods_of(value)
  return table.move(methods, 1, #methods, #names + 1, names)
end

local function unique(list)
  table.sort(list)
  local result = {}
  for _, name in ipairs(list) do
    if name ~= result[#result] then result[#result + 1] = name end
  end
  return result
end

local function command_words(word, line_before, context)
  local list = {}
  local command = line_before:match "^%s*%.(%a+)%s+$"
  if not command then
    if word:sub(1, 1) == "." then add_matching(list, context.commands, word:sub(2), ".") end
    if #list == 1 then list[1] = list[1] .. " " end
  elseif command == "rebuild" then
    add_matching(list, names_of(context.db.views), word, "")
  elseif command == "mode" then
    add_matching(list, keys_of(context.modes), word, "")
  elseif command == "timer" then
    add_matching(list, {"on", "off"}, word, "")
  end
  return list
end

local function candidates(line, first, last, context)
  local word, before = line:sub(first, last), line:sub(1, first - 1)
  local list = {}
  if line:find "^%s*%." then return command_words(word, before, context) end
  local path, separator, prefix = word:match "^(.*)([.:])([%w_]*)$"
  if path then
    add_matching(list, member_names(resolve(path, context), separator, context), prefix, path .. separator)
  else
    add_matching(list, keys_of(context.env), word, "")
    add_matching(list, keys_of(_G), word, "")
    add_matching(list, names_of(context.db.views), word, "")
    add_matching(list, KEYWORDS, word, "")
  end
  return list
end

-- The sorted list of what line:sub(first, last) may become. context: db, env, commands (dot commands), modes.
function M.candidates(line, first, last, context)
  return unique(candidates(line, first, last, context))
end

-- What all words of a list begin with.
function M.common_prefix(list)
  local prefix = list[1]
  for _, word in ipairs(list) do
    while word:sub(1, #prefix) ~= prefix do prefix = prefix:sub(1, -2) end
  end
  return prefix
end

return M
