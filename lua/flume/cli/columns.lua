-- A list of records as aligned columns, as far as the terminal is wide:
--
--    n  name
--   10  ada
--   20  grace
--   … 98 more rows, 1 more column (email); .mode lua shows all
--
--   columns.format(list, {width = 80, rows = 100, seqs = {…}, is_forced = false, ascii = false})
--
-- gives the text, or nil when the list is none of records, or would be no easier to read so. seqs, when given, are the
-- records' sequence numbers, and become the first column.

local pretty = require "flume.pretty"

local M = {}

local GAP = 2
local CAPS = {60, 40, 30, 20, 14, 10} -- how wide a column may be, the first with which all fit
local LEAST_FILLED = 0.5              -- of all cells, for columns to be readable

-- The records of a list as plain tables, and how often each key is there; nil when it is no such list.
local function records_of(list)
  local items = pretty.as_table(list)
  if not items or #items == 0 or next(items, #items) ~= nil then return nil end
  local records, counts = {}, {}
  for i, item in ipairs(items) do
    local record = pretty.as_table(item)
    if not record or #record > 0 or next(record) == nil then return nil end
    for key in next, record do
      if type(key) ~= "string" then return nil end
      counts[key] = (counts[key] or 0) + 1
    end
    records[i] = record
  end
  return records, counts
end

local function sorted_keys(counts)
  local keys = {}
  for key in pairs(counts) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

local function is_readable(records, counts, keys)
  local filled = 0
  for _, count in pairs(counts) do filled = filled + count end
  return #records > 1 and filled >= LEAST_FILLED * #records * #keys
end

-- One column: {title =, cells =, width =, is_number =}.
local function column_of(title, count, value_at, options)
  local column = {title = title, cells = {}, width = pretty.width(title), is_number = true}
  for i = 1, count do
    local value = value_at(i)
    local cell = value == nil and "" or pretty.cell(value, options)
    column.cells[i] = cell
    column.width = math.max(column.width, pretty.width(cell))
    column.is_number = column.is_number and (value == nil or type(value) == "number")
  end
  return column
end

local function total_width(columns, cap, count)
  local total = -GAP
  for i = 1, count do total = total + math.min(columns[i].width, cap) + GAP end
  return total
end

-- How wide columns may be, and how many of them there is room for.
local function fit(columns, width)
  for _, cap in ipairs(CAPS) do
    if total_width(columns, cap, #columns) <= width then return cap, #columns end
  end
  local cap, count = math.min(CAPS[#CAPS], width), #columns
  while count > 1 and total_width(columns, cap, count) > width do count = count - 1 end
  return cap, count
end

local function plural(count, noun)
  return ("%d more %s%s"):format(count, noun, count == 1 and "" or "s")
end

-- The line that tells what is not shown; nil when all is.
local function rest_line(columns, shown, more_rows, sign)
  local parts = {}
  if more_rows > 0 then parts[1] = plural(more_rows, "row") end
  if shown < #columns then
    local titles = {}
    for i = shown + 1, #columns do titles[#titles + 1] = columns[i].title end
    parts[#parts + 1] = ("%s (%s)"):format(plural(#titles, "column"), table.concat(titles, ", "))
  end
  return parts[1] and ("%s %s; .mode lua shows all\n"):format(sign, table.concat(parts, ", "))
end

local function render(columns, row_count, width, sign)
  local cap, shown = fit(columns, width)
  local rows, header, right = {}, {}, {}
  for i = 1, shown do
    header[i] = pretty.cut(columns[i].title, cap, sign)
    right[i] = columns[i].is_number
  end
  for n = 1, row_count do
    rows[n] = {}
    for i = 1, shown do rows[n][i] = pretty.cut(columns[i].cells[n], cap, sign) end
  end
  return pretty.columns(rows, {header = header, right = right}), shown
end

function M.format(list, options)
  local records, counts = records_of(list)
  if not records then return nil end
  local keys = sorted_keys(counts)
  if not options.is_forced and not is_readable(records, counts, keys) then return nil end
  local row_count = math.min(#records, options.rows or math.huge)
  local columns, seqs = {}, options.seqs
  if seqs then columns[1] = column_of("seq", row_count, function (i) return seqs[i] end, options) end
  for _, key in ipairs(keys) do
    columns[#columns + 1] = column_of(pretty.cell(key, options), row_count, function (i) return records[i][key] end,
      options)
  end
  local sign = options.ascii and "~" or "…"
  local text, shown = render(columns, row_count, options.width, sign)
  return text .. (rest_line(columns, shown, #records - row_count, options.ascii and "..." or sign) or "")
end

return M
