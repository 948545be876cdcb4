-- How far the log and its views are.

local M = {}

local function text(value)
  return value == nil and "" or tostring(value)
end

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

-- The table for people: a line for the log, and one for each view.
local function print_table(status, output)
  output:line(("log since %d"):format(status.since))
  if #status.views == 0 then return end
  local rows, notes = {}, {}
  for i, view in ipairs(status.views) do
    local lag = math.max(status.since - view.since, 0)
    rows[i] = {view.name, text(view.version), view.state, tostring(view.since), tostring(lag)}
    if view.error then notes[#notes + 1] = M.failure(view) end
  end
  output:table(rows, {header = {"view", "version", "state", "since", "lag"}, right = {[4] = true, [5] = true}})
  for _, note in ipairs(notes) do output:line(note) end
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
