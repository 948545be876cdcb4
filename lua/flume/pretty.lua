-- Values as text for people, which Lua reads back: keys sorted, short tables on one line, long ones indented.
--
--   pretty.format(value [, options])   a Lua expression
--   pretty.line(value [, options])     the same on one line, however long
--   pretty.top(value [, options])      as format, but a bare string stays bare and an object shows its tostring
--   pretty.cell(value [, options])     as line, but a string stays bare, apart from what does not print
--   pretty.columns(rows [, {header=, right=}])   rows of cells as aligned lines
--
-- options: width (80) in columns; ascii, to escape all bytes that are not ASCII.
--
-- What has no literal (a function, a cycle) becomes nil with a comment that says what it was. Lazy records look like
-- the tables they stand for, flume.null, flume.array and flume.map are named where a plain table would mean another
-- value.

local core = require "flume.core"
local flume = require "flume"

local M = {}

local MAX_DEPTH = 128 -- what can be stored is not deeper
local DEFAULT_WIDTH = 80

local RESERVED = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
  until while]]):gmatch "%a+" do RESERVED[word] = true end

local ESCAPES = {["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ["\\"] = "\\\\", ['"'] = '\\"'}

local function escape_byte(byte)
  return ESCAPES[byte] or ("\\x%02x"):format(byte:byte())
end

local function escape_all(bytes)
  return (bytes:gsub(".", escape_byte))
end

-- What of valid UTF-8 is not to be shown: control characters beyond ASCII, and those that turn the text's direction.
local CONTROLS = {"\194[\128-\159]", "\226\128[\142\143\168-\174]", "\226\129[\166-\169]"}

-- text as it stands between quotes. The bytes of valid UTF-8 stay as they are, apart from control characters; the
-- others are escaped one by one.
local function escape(text, ascii)
  if not text:find '[%c"\\\127-\255]' then return text end
  local escaped = text:gsub('[%c\\"\127]', escape_byte)
  if ascii then return (escaped:gsub("[\128-\255]", escape_byte)) end
  for _, control in ipairs(CONTROLS) do escaped = escaped:gsub(control, escape_all) end
  local out, from = {}, 1
  while true do
    local _, bad = utf8.len(escaped, from)
    if not bad then break end
    out[#out + 1] = escaped:sub(from, bad - 1)
    out[#out + 1] = escape_byte(escaped:sub(bad, bad))
    from = bad + 1
  end
  out[#out + 1] = escaped:sub(from)
  return table.concat(out)
end

local function number(value)
  if value ~= value then return "0/0" end
  if value == math.huge then return "math.huge" end
  if value == -math.huge then return "-math.huge" end
  if value == math.mininteger and math.type(value) == "integer" then return "math.mininteger" end
  if math.type(value) == "integer" then return ("%d"):format(value) end
  return core.float_text(value)
end

-- tostring, whatever the value's metatable does.
local function name_of(value)
  local ok, text = pcall(tostring, value)
  return ok and text or type(value)
end

local function no_literal(value, why)
  local text = why or name_of(value)
  return ("nil --[[%s]]"):format((text:gsub("%]%]", "] ]"):gsub("[%c]", " ")))
end

local function scalar(value, ascii)
  local kind = type(value)
  if kind == "string" then return '"' .. escape(value, ascii) .. '"' end
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

local function key_text(key, ascii)
  if type(key) == "string" and key:find "^[%a_][%w_]*$" and not RESERVED[key] then return key end
  return "[" .. scalar(key, ascii) .. "]"
end

-- What has to stand before the constructor of a table that is marked, for the mark to be read back: a list is taken for
-- an array in any case, and any other table for a map.
local function mark_of(value)
  local meta = getmetatable(value)
  local mark = type(meta) == "table" and meta.__name
  if mark ~= "flume.map" and mark ~= "flume.array" then return "" end
  local count = 0
  for _ in next, value do count = count + 1 end
  local is_list = count == rawlen(value)
  return is_list == (mark == "flume.map") and mark or ""
end

local render

-- The elements of a table as texts, in order.
local function elements(value, state, depth)
  local parts = {}
  local list_length = rawlen(value)
  for i = 1, list_length do parts[i] = render(rawget(value, i), state, depth + 1, 0) end
  local keys, others = sorted_keys(value, list_length)
  for _, key in ipairs(keys) do
    local name = key_text(key, state.ascii)
    parts[#parts + 1] = name .. " = " .. render(rawget(value, key), state, depth + 1, #name + 3)
  end
  return parts, others > 0 and ("--[[%d keys that are no data]]"):format(others) or "",
    mark_of(value)
end

local function layout(parts, rest, mark, state, depth, used)
  local open = mark .. "{"
  if #parts == 0 then return open .. rest .. "}" end
  local flat = open .. table.concat(parts, ", ") .. rest .. "}"
  local indent = ("  "):rep(depth)
  if #indent + used + #flat <= state.width and not flat:find("\n", 1, true) then return flat end
  local inner = "\n" .. indent .. "  "
  return open .. inner .. table.concat(parts, "," .. inner) .. "," .. rest .. "\n" .. indent .. "}"
end

-- depth counts the tables around value, used the columns before it on its line.
function render(value, state, depth, used)
  local plain = as_table(value)
  if not plain then return scalar(value, state.ascii) end
  if state.open[plain] then return no_literal(value, "cycle") end
  if depth >= MAX_DEPTH then return no_literal(value, "nested more than " .. MAX_DEPTH .. " deep") end
  state.open[plain] = true
  local parts, rest, mark = elements(plain, state, depth)
  state.open[plain] = nil
  return layout(parts, rest, mark, state, depth, used)
end

local function format(value, width, options)
  return render(value, {width = width, ascii = options and options.ascii or false, open = {}}, 0, 0)
end

function M.format(value, options)
  return format(value, options and options.width or DEFAULT_WIDTH, options)
end

function M.line(value, options)
  return format(value, math.huge, options)
end

function M.top(value, options)
  if type(value) == "string" then return value end
  if type(value) == "number" or as_table(value) or value == flume.null then return M.format(value, options) end
  return name_of(value)
end

function M.cell(value, options)
  if type(value) == "string" then return (escape(value, options and options.ascii):gsub('\\"', '"')) end
  return M.line(value, options)
end

M.as_table = as_table

-- --- Columns ------------------------------------------------------------------------------------------------------

-- Characters that take two columns, and that take none, from the most usual ranges: {first, last, columns}.
local WIDTHS = {
  {0x0300, 0x036F, 0}, {0x1100, 0x115F, 2}, {0x200B, 0x200F, 0}, {0x2E80, 0x303E, 2}, {0x3041, 0xA4CF, 2},
  {0xAC00, 0xD7A3, 2}, {0xF900, 0xFAFF, 2}, {0xFE00, 0xFE0F, 0}, {0xFE30, 0xFE6F, 2}, {0xFF00, 0xFF60, 2},
  {0xFFE0, 0xFFE6, 2}, {0x1F300, 0x1F64F, 2}, {0x1F900, 0x1F9FF, 2}, {0x20000, 0x3FFFD, 2},
}

local function code_width(code)
  if code < WIDTHS[1][1] then return 1 end
  for _, range in ipairs(WIDTHS) do
    if code <= range[2] then return code >= range[1] and range[3] or 1 end
  end
  return 1
end

-- How many columns a terminal needs for text.
function M.width(text)
  if not text:find "[\128-\255]" then return #text end
  if not utf8.len(text) then return #text end
  local width = 0
  for _, code in utf8.codes(text) do width = width + code_width(code) end
  return width
end

-- text, cut so that it fits into a number of columns, with a sign that it was.
function M.cut(text, columns, sign)
  if M.width(text) <= columns then return text end
  if not utf8.len(text) then return text:sub(1, math.max(columns - 1, 0)) .. sign end
  local width = M.width(sign)
  for at, code in utf8.codes(text) do
    width = width + code_width(code)
    if width > columns then return text:sub(1, at - 1) .. sign end
  end
end

local function pad(text, width, right)
  local space = (" "):rep(width - M.width(text))
  return right and space .. text or text .. space
end

local function widths(rows)
  local result = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do result[i] = math.max(result[i] or 0, M.width(cell)) end
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

return M
