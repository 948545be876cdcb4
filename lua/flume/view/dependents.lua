-- Which views of a database use which. A view that uses others runs their scripts itself, with their parameters and
-- without the records that they skip: when one of these changes, its users are rebuilt.

local core = require "flume.core"
local overrides = require "flume.view.overrides"

local Dependents = {}
Dependents.__index = Dependents

-- The seqs that a view which is not mounted was told to skip: its script may be used all the same. An empty list for
-- none.
local function skipped_on_disk(self, name)
  local skips = self.skipped[name]
  if skips then return skips end
  local is_name = type(name) == "string" and name:find "^%a[%w_%-]*$"
  skips = self.db.dir and is_name and overrides.open(self.db.dir .. "/views/" .. name, false).skips or {}
  self.skipped[name] = skips
  return skips
end

local function described(view, where)
  local script = view._script
  local used = {
    path = script.path, folder = script.folder, params = script.params, trusted = script.trusted,
    skips = view:_overridden().skips,
  }
  if not script.definition then return used end
  if where == "here" or core.encode(script.definition) then used.definition = script.definition
  else used.refused = "which is a table with functions in the program: only views there can use it" end
  return used
end

--- What there is to use under a name: {path =, folder =, params =, trusted =, skips =} of a mounted script,
--- {definition =, skips =} of a table, {refused = why} of what can't be used, {skips =} of what was mounted before;
--- false for none of these. where: "here" for a user in the caller's state, "elsewhere" for one in a state of its own.
function Dependents:used(name, where)
  local view = rawget(self.db._views, name)
  if view then return described(view, where) end
  local skips = skipped_on_disk(self, name)
  return skips[1] and {skips = skips} or false
end

--- The same as a table that is filled when it is indexed.
function Dependents:all_used(where)
  return setmetatable({}, {__index = function (others, name)
    local used = self:used(name, where)
    others[name] = used
    return used
  end})
end

-- A text that changes when a view that is used changes.
local function mark_of(script, name, used)
  used = used or {}
  if used.definition then return ("%p %s"):format(used.definition, table.concat(used.skips, ",")) end
  local path = used.path or script.folder and ("%s/%s.lua"):format(script.folder, (name:gsub("%.", "/"))) or ""
  local params = used.params and core.encode_sorted(used.params) or ""
  return table.concat({path, params, tostring(used.trusted), table.concat(used.skips or {}, ",")}, "\0")
end

--- Notes that the view of the script uses the views named in the list uses. others: what these are (see used), by name.
--- A table name -> mark, by which a change is found out later; nil when uses is nil.
function Dependents:note(script, others, uses)
  if not uses then return nil end
  local marks = {}
  for _, name in ipairs(uses) do
    marks[name] = mark_of(script, name, others[name])
    self.users[name] = self.users[name] or {}
    self.users[name][script.name] = true
  end
  return marks
end

--- Notes whether the view of this name could not be mounted.
function Dependents:note_broken(name, is_broken)
  self.broken[name] = is_broken or nil
end

-- Whether the view of this name has changed since the instance was made.
local function has_changed(self, instance, name, where)
  local mark = instance and instance.saw and instance.saw[name]
  return mark ~= nil and mark ~= mark_of(instance.script, name, self:used(name, where))
end

-- Calls fn(view, is_misled) for the views that use the one of this name, which has changed, and for those that could
-- not be mounted: they may have lacked it. is_misled: the instance that answers is concerned.
local function each_concerned(self, name, fn)
  local function look(user)
    local view = rawget(self.db._views, user)
    if not view or user == name then return end
    local now, pending = view._instance, view._versions.pending
    local where = now and now.host and "here" or "elsewhere"
    local is_misled = has_changed(self, now, name, where)
    local lacks = view._broken and view._script.path ~= nil
    if is_misled or lacks or has_changed(self, pending, name, where) then fn(view, is_misled) end
  end
  local users = self.users[name] or {}
  for user in pairs(users) do look(user) end
  for user in pairs(self.broken) do
    if not users[user] then look(user) end
  end
end

--- The views whose dependency of this name has changed or was missing.
function Dependents:concerned(name)
  local concerned = {}
  each_concerned(self, name, function (view) concerned[#concerned + 1] = view end)
  return concerned
end

--- Views were mounted: their users are made again. A user that has seen something else under such a name answers no
--- more.
function Dependents:mounted(names)
  local concerned, seen = {}, {}
  for _, name in ipairs(names) do
    each_concerned(self, name, function (view, is_misled)
      if is_misled then view._instance.misled = true end
      if not seen[view] then concerned[#concerned + 1] = view end
      seen[view] = true
    end)
  end
  for _, view in ipairs(concerned) do view:_reload(false, function () end) end
end

--- Of a database.
function Dependents.new(db)
  return setmetatable({
    db = db,
    users = {},   -- name -> set of the names of views that use it, or did
    broken = {},  -- set of the names of views that could not be mounted
    skipped = {}, -- name -> list of seqs, of views that are not mounted
  }, Dependents)
end

return Dependents
