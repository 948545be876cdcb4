-- How far the log and its views are.

local flume = require "flume"
local progress = require "flume.cli.progress"

local M = {}

local NOTHING = "-"

-- The columns of the table: title, and what stands there for a row of db:status(), if anything.
local COLUMNS = {
  {"view", function (row) return row.name end},
  {"version", function (row) return row.version and tostring(row.version) end},
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
  local remedy = row.remedy and "; " .. row.remedy or ""
  if not row.seq or row.seq < 0 then return message .. remedy end
  return ("view %s failed at record %d: %s%s"):format(row.name, row.seq, message, remedy)
end

local function cells_of(row)
  local cells = {}
  for i, column in ipairs(COLUMNS) do cells[i] = column[2](row) or NOTHING end
  return cells
end

-- A message about a view; most name it already.
function M.about(name, message)
  local text = tostring(message)
  if text:find(('view "%s"'):format(name), 1, true) == 1 then return text end
  return ("view %s: %s"):format(name, text)
end

-- What else there is to know about a view, in lines.
local function notes_of(row)
  local notes, following = {}, row.next
  if following and (following.error or following.version ~= row.version) then
    notes[1] = ("view %s: version %s %s, at %d of %d%s"):format(row.name, tostring(following.version or "(none)"),
      following.error and "has failed" or "is building", following.since, row.target,
      following.error and ": " .. following.error or "")
  end
  if row.reload_error then notes[#notes + 1] = M.about(row.name, row.reload_error) end
  if row.unstored then
    notes[#notes + 1] = M.about(row.name, "its state can't be stored, and is built at every start: " .. row.unstored)
  end
  if row.state == "stalled" and row.reason then notes[#notes + 1] = M.about(row.name, row.reason) end
  return notes
end

-- The table for people: a line for the log, and one for each view.
local function print_table(status, output)
  output:line(("log since %d"):format(status.since))
  if #status.unmounted > 0 then
    output:line(("on disk, not mounted: %s (drop NAME removes one)"):format(table.concat(status.unmounted, ", ")))
  end
  if #status.views == 0 then return end
  local lines, header, right = {}, {}, {}
  for i, column in ipairs(COLUMNS) do header[i], right[i] = column[1], column.is_number end
  for i, row in ipairs(status.views) do lines[i] = cells_of(row) end
  output:table(lines, {header = header, right = right})
  for _, view in ipairs(status.views) do
    for _, note in ipairs(notes_of(view)) do output:line(note) end
  end
end

-- What is wrong with the views that have failed, and with versions that were to be the next: a text; nil for nothing.
local function failures_of(status)
  local texts = {}
  for _, row in ipairs(status.views) do
    if row.state == "failed" then texts[#texts + 1] = M.failure(row) end
    if row.next and row.next.error then texts[#texts + 1] = M.about(row.name, row.next.error) end
  end
  return texts[1] and table.concat(texts, "\n") or nil
end

--- Prints how far everything is. Returns true; nil and a message when a view has failed.
function M.print(db, output)
  local status = db:status()
  if output.json then
    output:value(status)
  else
    print_table(status, output)
  end
  local message = failures_of(status)
  return not message or nil, message
end

-- The views with their methods and the methods' types.
function M.print_views(db, output)
  local rows, as_data = {}, flume.map {}
  for name, view in pairs(db.views) do
    local methods, kinds = {}, flume.map {}
    for method, kind in pairs(view.methods or {}) do
      methods[#methods + 1] = ("%s (%s)"):format(method, kind)
      kinds[method] = kind
    end
    table.sort(methods)
    rows[#rows + 1] = {name, table.concat(methods, ", ")}
    as_data[name] = kinds
  end
  table.sort(rows, function (a, b) return a[1] < b[1] end)
  if output.json then
    output:value(as_data)
  elseif #rows == 0 then
    output:line "There are no views; --views DIR mounts those in a folder, db:use(name, view) one."
  else
    output:table(rows)
  end
end

return M
