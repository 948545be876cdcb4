-- What a word at the prompt may become: dot commands, names in scope, fields and methods. Nothing is called for it.

local pretty = require "flume.pretty"

local M = {}

local KEYWORDS = {"and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local",
  "nil", "not", "or", "repeat", "return", "then", "true", "until", "while"}

-- Methods are offered when there are such.
local DB_METHODS = {"append", "append_json", "backup", "check", "close", "compact", "del", "drop", "get", "rebuild",
  "reload", "status", "stream", "sync", "use"}
local DB_FIELDS = {"closed", "dir", "ready", "since", "views"}
local VIEW_METHODS = {"accept", "explain", "ready", "rebuild", "skip"}
local VIEW_FIELDS = {"methods", "name", "progress", "since", "version"}

local function add_matching(list, names, prefix, before)
  for _, name in ipairs(names) do
    if type(name) == "string" and name:sub(1, #prefix) == prefix then list[#list + 1] = before .. name end
  end
end

local function keys_of(value)
  local keys, plain = {}, type(value) == "userdata" and pretty.as_table(value) or value
  if type(plain) == "table" then
    for key in next, plain do
      if type(key) == "string" and key:find "^%a[%w_]*$" then keys[#keys + 1] = key end
    end
  end
  return keys
end

local function present(object, names)
  local list = {}
  for _, name in ipairs(names) do
    if object[name] ~= nil then list[#list + 1] = name end
  end
  return list
end

-- The names of a value's methods, as far as its metatable tells.
local function methods_of(value)
  local meta = type(value) == "string" and getmetatable "" or getmetatable(value)
  return type(meta) == "table" and keys_of(meta.__index) or {}
end

-- The names of the methods of a view, of its kind and its own.
function M.view_methods(view)
  local names = present(view, VIEW_METHODS)
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

-- The views that can be named in Lua: a name may have a "-" in it.
local function variables_of(views)
  local names = {}
  for name in pairs(views) do names[#names + 1] = not name:find("-", 1, true) and name or nil end
  return names
end

-- A field of a value that is reached without a call; nil when there is none.
local function field(holder, key, context)
  if rawequal(holder, context.env) then return holder[key] end
  local views = context.db.views
  if rawequal(holder, views) then return views[key] end
  if rawequal(holder, context.db) and views[key] ~= nil then return views[key] end
  if type(holder) == "userdata" then holder = pretty.as_table(holder) end
  return type(holder) == "table" and rawget(holder, key) or nil
end

-- The value of "a.b[2].c", nil when any part of it is missing.
local function resolve(path, context)
  local value = context.env
  for name, index in path:gmatch "([%a_][%w_]*)([%d%[%]]*)" do
    value = field(value, name, context)
    for i in index:gmatch "%d+" do value = field(value, math.tointeger(i), context) end
    if value == nil then return nil end
  end
  return value
end

-- What may stand behind value and a "." or ":".
local function member_names(value, separator, context)
  local db = context.db
  if rawequal(value, db) then
    if separator == ":" then return present(db, DB_METHODS) end
    local names = variables_of(db.views)
    return table.move(DB_FIELDS, 1, #DB_FIELDS, #names + 1, names)
  end
  if rawequal(value, db.views) then return separator == "." and variables_of(value) or {} end
  if is_view(db, value) then return separator == ":" and M.view_methods(value) or VIEW_FIELDS end
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

local TAKES_VIEW = {explain = true, rebuild = true, reload = true, skip = true}

local function command_words(word, line_before, context)
  local list = {}
  local command = line_before:match "^%s*%.(%a+)%s+$"
  if not command then
    if word:sub(1, 1) == "." then add_matching(list, context.commands, word:sub(2), ".") end
    if #list == 1 then list[1] = list[1] .. " " end
  elseif command == "help" then
    add_matching(list, context.commands, word, "")
  elseif TAKES_VIEW[command] then
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
  local path, separator, prefix = line:sub(1, last):match "([%a_][%w_.:%[%]]*)([.:])([%w_]*)$"
  if path then
    local names = member_names(resolve(path, context), separator, context)
    add_matching(list, names, prefix, word:sub(1, #word - #prefix))
  elseif not word:find "[.:]" then
    add_matching(list, keys_of(context.env), word, "")
    add_matching(list, keys_of(_G), word, "")
    add_matching(list, variables_of(context.db.views), word, "")
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
