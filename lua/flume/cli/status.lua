-- How far the log and its views are.

local progress = require "flume.progress"

local M = {}

-- The columns of the table: title, and what stands there for a row of db:status(). Those that no row fills are left
-- out.
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

-- What else there is to know about a view, in lines.
local function notes_of(row)
  local notes, following = {}, row.next
  if following and following.version ~= row.version then
    notes[1] = ("view %s: version %s is %s, at %d of %d%s"):format(row.name, tostring(following.version or "(none)"),
      following.state, following.since, row.target, following.error and ": " .. following.error or "")
  end
  if row.reload_error then notes[#notes + 1] = ("view %s: its file: %s"):format(row.name, row.reload_error) end
  if row.state == "stalled" and row.reason then notes[#notes + 1] = ("view %s: %s"):format(row.name, row.reason) end
  return notes
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
    for _, note in ipairs(notes_of(view)) do output:line(note) end
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
