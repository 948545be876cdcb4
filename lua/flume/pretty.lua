-- Values as text for people, which Lua reads back: keys sorted, short tables on one line, long ones indented.
--
--   pretty.format(value [, {width = 80}])   a Lua expression
--   pretty.line(value)                      the same on one line, however long
--   pretty.top(value [, options])           as format, but a bare string stays bare and an object shows its tostring
--   pretty.columns(rows [, {header=, right=}])   rows of cells as aligned lines
--
-- What has no literal (a function, a cycle) becomes nil with a comment that says what it was. Lazy records look like
-- the tables they stand for.

local flume = require "flume"

local M = {}

local MAX_DEPTH = 100
local DEFAULT_WIDTH = 80

local RESERVED = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
  until while]]):gmatch "%a+" do RESERVED[word] = true end

local ESCAPES = {["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ["\\"] = "\\\\", ['"'] = '\\"'}

local function escape_byte(byte)
  return ESCAPES[byte] or ("\\x%02x"):format(byte:byte())
end

-- The bytes of valid UTF-8 stay as they are; the others are escaped one by one.
local function quote(text)
  if not text:find '[%c"\\\127-\255]' then return '"' .. text .. '"' end
  local escaped = text:gsub('[%c\\"\127]', escape_byte)
  local out, from = {}, 1
  while true do
    local _, bad = utf8.len(escaped, from)
    if not bad then break end
    out[#out + 1] = escaped:sub(from, bad - 1)
    out[#out + 1] = escape_byte(escaped:sub(bad, bad))
    from = bad + 1
  end
  out[#out + 1] = escaped:sub(from)
  return '"' .. table.concat(out) .. '"'
end

local function number(value)
  if value ~= value then return "0/0" end
  if value == math.huge then return "math.huge" end
  if value == -math.huge then return "-math.huge" end
  if value == math.mininteger and math.type(value) == "integer" then return "math.mininteger" end
  if math.type(value) == "integer" then return ("%d"):format(value) end
  for digits = 14, 17 do
    local text = ("%%.%dg"):format(digits):format(value)
    if tonumber(text) == value then
      return text:find "[%.e]" and text or text .. ".0"
    end
  end
end

local function no_literal(value, why)
  local text = why or tostring(value)
  return ("nil --[[%s]]"):format((text:gsub("%]%]", "] ]"):gsub("[%c]", " ")))
end

local function scalar(value)
  local kind = type(value)
  if kind == "string" then return quote(value) end
  if kind == "number" then return number(value) end
  if kind == "boolean" or kind == "nil" then return tostring(value) end
  if value == flume.null then return "flume.null" end
  return no_literal(value)
end

-- The plain table that a value is or stands for; nil when it is no data.
local function as_table(value)
  if type(value) == "userdata" and value ~= flume.null then
    local ok, plain = pcall(flume.table, value)
    return ok and type(plain) == "table" and plain or nil
  end
  if type(value) ~= "table" then return nil end
  local meta = getmetatable(value)
  if type(meta) == "table" and meta.__tostring then return nil end
  return value
end

local function is_element(key, list_length)
  return math.type(key) == "integer" and key >= 1 and key <= list_length
end

-- The keys of a table beside those of its list: numbers, strings, booleans, each kind sorted; and how many others.
local function sorted_keys(value, list_length)
  local numbers, strings, booleans, others = {}, {}, {}, 0
  for key in next, value do
    local kind = type(key)
    if kind == "string" then
      strings[#strings + 1] = key
    elseif kind == "number" then
      if not is_element(key, list_length) then numbers[#numbers + 1] = key end
    elseif kind == "boolean" then
      table.insert(booleans, key and #booleans + 1 or 1, key)
    else
      others = others + 1
    end
  end
  table.sort(numbers)
  table.sort(strings)
  local keys = table.move(strings, 1, #strings, #numbers + 1, numbers)
  return table.move(booleans, 1, #booleans, #keys + 1, keys), others
end

local function key_text(key)
  if type(key) == "string" and key:find "^[%a_][%w_]*$" and not RESERVED[key] then return key end
  return "[" .. scalar(key) .. "]"
end

local render

-- The elements of a table as texts, in order.
local function elements(value, state, depth)
  local parts = {}
  local list_length = rawlen(value)
  for i = 1, list_length do parts[i] = render(rawget(value, i), state, depth + 1, 0) end
  local keys, others = sorted_keys(value, list_length)
  for _, key in ipairs(keys) do
    local name = key_text(key)
    parts[#parts + 1] = name .. " = " .. render(rawget(value, key), state, depth + 1, #name + 3)
  end
  return parts, others > 0 and ("--[[%d keys that are no data]]"):format(others) or ""
end

local function layout(parts, rest, state, depth, used)
  if #parts == 0 then return "{" .. rest .. "}" end
  local flat = "{" .. table.concat(parts, ", ") .. rest .. "}"
  local indent = ("  "):rep(depth)
  if #indent + used + #flat <= state.width and not flat:find("\n", 1, true) then return flat end
  local inner = "\n" .. indent .. "  "
  return "{" .. inner .. table.concat(parts, "," .. inner) .. "," .. rest .. "\n" .. indent .. "}"
end

-- depth counts the tables around value, used the columns before it on its line.
function render(value, state, depth, used)
  local plain = as_table(value)
  if not plain then return scalar(value) end
  if state.open[plain] then return no_literal(value, "cycle") end
  if depth >= MAX_DEPTH then return no_literal(value, "nested more than " .. MAX_DEPTH .. " deep") end
  state.open[plain] = true
  local parts, rest = elements(plain, state, depth)
  state.open[plain] = nil
  return layout(parts, rest, state, depth, used)
end

function M.format(value, options)
  local width = options and options.width or DEFAULT_WIDTH
  return render(value, {width = width, open = {}}, 0, 0)
end

function M.line(value)
  return M.format(value, {width = math.huge})
end

function M.top(value, options)
  if type(value) == "string" then return value end
  if type(value) == "number" or as_table(value) or value == flume.null then return M.format(value, options) end
  return tostring(value)
end

-- --- Columns ------------------------------------------------------------------------------------------------------

-- How many columns a terminal needs for text; every character is taken to be one wide.
local function width_of(text)
  return utf8.len(text) or #text
end

local function pad(text, width, right)
  local space = (" "):rep(width - width_of(text))
  return right and space .. text or text .. space
end

local function widths(rows)
  local result = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do result[i] = math.max(result[i] or 0, width_of(cell)) end
  end
  return result
end

-- rows: lists of strings. right: the numbers of the columns that are flush right, as keys. Returns the text, each line
-- with its newline.
function M.columns(rows, options)
  local header, right = options and options.header, options and options.right or {}
  local all = header and table.move(rows, 1, #rows, 2, {header}) or rows
  local wide, lines = widths(all), {}
  for _, row in ipairs(all) do
    local cells = {}
    for i, cell in ipairs(row) do cells[i] = pad(cell, wide[i], right[i]) end
    lines[#lines + 1] = (table.concat(cells, "  "):gsub(" +$", "")) .. "\n"
  end
  return table.concat(lines)
end

-- A list of flat records as rows: the rows, and their header; nil when value is no such list.
local function flat_records(value)
  local list, seen, keys = as_table(value), {}, {}
  if not list or #list == 0 then return nil end
  for _, item in ipairs(list) do
    local record = as_table(item)
    if not record or #record > 0 or next(record) == nil then return nil end
    for key, cell in next, record do
      if type(key) ~= "string" or as_table(cell) then return nil end
      if not seen[key] then
        seen[key] = true
        keys[#keys + 1] = key
      end
    end
  end
  table.sort(keys)
  return list, keys
end

-- A list of flat records as a table with a header; nil when value is no such list.
function M.table(value)
  local list, keys = flat_records(value)
  if not list then return nil end
  local rows, right = {}, {}
  for i in ipairs(keys) do right[i] = true end
  for n, item in ipairs(list) do
    rows[n] = {}
    for i, key in ipairs(keys) do
      local cell = item[key]
      rows[n][i] = cell == nil and "" or type(cell) == "string" and quote(cell):sub(2, -2) or scalar(cell)
      right[i] = right[i] and type(cell) ~= "string"
    end
  end
  return M.columns(rows, {header = keys, right = right})
end

return M
