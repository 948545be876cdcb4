-- Which views others may use, and as what: the scripts that are mounted, with their parameters and with the records
-- that they were told to skip. A change of these concerns those that use them: they are built anew.

local core = require "flume.core"
local overrides = require "flume.view.overrides"

local M = {}

-- What views that are not mounted were told to skip: another one may use their scripts, before they are or at all.
local function skipped_on_disk(db)
  if db._skipped_on_disk then return db._skipped_on_disk end
  local skipped, folder = {}, db.dir and db.dir .. "/views"
  for _, name in ipairs(folder and core.list_dir(folder) or {}) do
    local skips = overrides.open(folder .. "/" .. name, false).skips
    if skips[1] then skipped[name] = skips end
  end
  db._skipped_on_disk = skipped
  return skipped
end

local function as_other(view, where)
  local script = view._script
  local other = {
    path = script.path, folder = script.folder, params = script.params, trusted = script.trusted,
    skips = view._overrides.skips,
  }
  if not script.definition then return other end
  if where == "here" or core.encode(script.definition) then other.definition = script.definition
  else other.refused = "which is a table with functions in the program: only views there can use it" end
  return other
end

--- By the names of views: {path =, folder =, params =, trusted =, skips =} of a script, {definition =, skips =} of a
--- table, {refused = why} of what can't be used. where: "here" for a user in the caller's state, or "elsewhere".
function M.others(db, where)
  local others = {}
  for name, skips in pairs(skipped_on_disk(db)) do others[name] = {skips = skips} end
  for name, view in pairs(db._views) do others[name] = as_other(view, where) end
  return others
end

local function mark_of(script, name, other)
  other = other or {}
  if other.definition then return ("%p %s"):format(other.definition, table.concat(other.skips, ",")) end
  local path = other.path or script.folder and ("%s/%s.lua"):format(script.folder, (name:gsub("%.", "/"))) or ""
  local params = other.params and core.encode_sorted(other.params) or ""
  return table.concat({path, params, tostring(other.trusted), table.concat(other.skips or {}, ",")}, "\0")
end

--- What an instance of the script took each of the views for that it uses: name -> text. nil for none.
function M.marks(script, others, uses)
  if not uses then return nil end
  local marks = {}
  for _, name in ipairs(uses) do marks[name] = mark_of(script, name, others[name]) end
  return marks
end

-- Whether the instance took the view of this name for something else than it is.
local function is_misled(instance, script, name, others)
  local saw = instance and instance.saw and instance.saw[name]
  return saw ~= nil and saw ~= mark_of(script, name, others[name])
end

local function each_concerned(db, name, fn)
  local here, elsewhere = M.others(db, "here"), M.others(db, "elsewhere")
  for _, view in pairs(db._views) do
    local others = view._instance and view._instance.host and here or elsewhere
    local answering = is_misled(view._instance, view._script, name, others)
    local lacks = view._broken and view._script.path ~= nil -- it may be what it lacked
    if view.name ~= name and (answering or lacks or is_misled(view._versions.pending, view._script, name, others)) then
      fn(view, answering)
    end
  end
end

--- The views that use the one of this name and took it for what it is not any more, or that may have lacked it.
function M.concerned(db, name)
  local concerned = {}
  each_concerned(db, name, function (view) concerned[#concerned + 1] = view end)
  return concerned
end

--- A view was mounted: those that use it see it as what it is. What took another for it does not answer any more.
function M.mounted(db, name)
  local concerned = {}
  each_concerned(db, name, function (view, answering)
    concerned[#concerned + 1] = view
    if answering then view._instance.misled = true end
  end)
  for _, view in ipairs(concerned) do view:_reload(false, function () end) end
end

return M
