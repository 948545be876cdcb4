-- How far the log and its views are.

local progress = require "flume.progress"

local M = {}

-- The columns of the table: title, and what stands there for a row of db:status(). Those that no row fills are left out.
local COLUMNS = {
  {"view", function (row) return row.name end},
  {"version", function (row) return row.version end},
  {"state", function (row) return row.state end},
  {"since", function (row) return ("%d"):format(row.since) end, is_number = true},
  {"lag", function (row) return ("%d"):format(math.max(row.lag or row.target - row.since, 0)) end, is_number = true},
  {"rate", function (row)
    local rate = row.rate and math.floor(row.rate) or 0
    return rate > 0 and progress.thousands(rate) .. "/s"
  end, is_number = true},
  {"ETA", function (row) return row.eta and row.eta > 0 and progress.duration(row.eta) end, is_number = true},
  {"size", function (row) return (row.size or 0) > 0 and progress.bytes(row.size) end, is_number = true},
}

-- Whether any view still has records before it. A failed view has not: it stands.
function M.is_behind(db)
  if db.closed then return false end
  local since = db.since.value
  for _, view in ipairs(db:status().views) do
    if view.state == "building" and view.since < since then return true end
  end
  return false
end

-- What is wrong with a view that has failed, on one line.
function M.failure(row)
  local message = tostring(row.error):match "^[^\n]*"
  if not row.seq or row.seq < 0 then return message end
  return ("view %s failed at record %d: %s"):format(row.name, row.seq, message)
end

-- One column's cells; nil when there is nothing in it.
local function cells_of(column, rows)
  local cells, is_filled = {}, false
  for i, row in ipairs(rows) do
    local cell = column[2](row)
    cells[i] = cell and tostring(cell) or ""
    is_filled = is_filled or cell
  end
  return is_filled and cells
end

-- The table for people: a line for the log, and one for each view.
local function print_table(status, output)
  output:line(("log since %d"):format(status.since))
  if #status.views == 0 then return end
  local lines, header, right = {}, {}, {}
  for i in ipairs(status.views) do lines[i] = {} end
  for _, column in ipairs(COLUMNS) do
    local cells = cells_of(column, status.views)
    if cells then
      header[#header + 1] = column[1]
      right[#header] = column.is_number
      for i, cell in ipairs(cells) do lines[i][#header] = cell end
    end
  end
  output:table(lines, {header = header, right = right})
  for _, view in ipairs(status.views) do
    if view.error then output:line(M.failure(view)) end
  end
end

function M.print(db, output)
  local status = db:status()
  if output.json then
    output:value(status)
  else
    print_table(status, output)
  end
end

-- The views with their methods and the methods' types.
function M.print_views(db, output)
  local rows = {}
  for name, view in pairs(db.views) do
    local methods = {}
    for method, kind in pairs(view.methods or {}) do methods[#methods + 1] = ("%s (%s)"):format(method, kind) end
    table.sort(methods)
    rows[#rows + 1] = {name, table.concat(methods, ", ")}
  end
  table.sort(rows, function (a, b) return a[1] < b[1] end)
  if #rows == 0 then
    output:line "There are no views; --views DIR mounts those in a folder, db:use(name, view) one."
  else
    output:table(rows)
  end
end

return M
