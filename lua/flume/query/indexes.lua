-- The indexes of a query view. Each is a view of its own, of the field at a path, and known to the query view alone.
--
--   is     for each value the records that have it: bitmaps
--   kind   the same for each kind of value
--   by     the records in the order of the values: an index
--
-- The first query that needs an index makes it. It is built from the log and stored under views/NAME/indexes, by the
-- rules of any view. Stored indexes are opened with the query view, and follow the log from then on.

local core = require "flume.core"
local errors = require "flume.errors"
local values = require "flume.query.values"

local Indexes = {}
Indexes.__index = Indexes

local VERSION = 1
local MAX = 64             -- indexes of one view
--- Milliseconds. An index that no query has used for so long may be dropped when a slot is needed.
Indexes.IDLE_MS = 10 * 60 * 1000
local NAME_MAX_BYTES = 200 -- of the directory
local STEPS_MAX = 16

--- The kinds of values in an index "kind", as bytes (core/index/key_path.h).
Indexes.KINDS = {
  null = {"z"}, boolean = {"b"}, number = {"n", "f"}, string = {"s"}, array = {"a", "o"}, map = {"m"},
  object = {"m", "a", "o", "z"}, present = {"b", "n", "f", "s", "a", "o", "m", "e"},
  any = {"z", "b", "n", "f", "s", "a", "o", "m", "e"}, key = {"b", "n", "s", "a"},
}

local function definition_of(kind, path)
  local text = table.concat(path, ".")
  if kind == "by" then return {version = VERSION, indexer = text} end
  return {version = VERSION, bitmaps = {shape = kind == "is" and "value" or "kind", path = text}}
end

-- --- Names -------------------------------------------------------------------------------------------------------

local function escape(step)
  return (step:gsub("[^%w_%-]", function (c) return ("%%%02x"):format(c:byte()) end))
end

local function name_of(kind, path)
  local steps = {}
  for i, step in ipairs(path) do steps[i] = escape(step) end
  return kind .. "-" .. table.concat(steps, ".")
end

local function parse_name(name)
  local kind, rest = name:match "^(%l+)%-(.+)$"
  if kind ~= "is" and kind ~= "kind" and kind ~= "by" then return nil end
  local path = {}
  for step in rest:gmatch "[^.]+" do
    path[#path + 1] = step:gsub("%%(%x%x)", function (hex) return string.char(tonumber(hex, 16)) end)
  end
  return name_of(kind, path) == name and kind or nil, path
end

--- Whether there can be an index for the path: its steps are names of fields without a dot.
local function is_indexable(path)
  if #path == 0 or #path > STEPS_MAX then return false end
  for _, step in ipairs(path) do
    if not values.is_plain_step(step) or step == "" or step:find("[.%z]") then return false end
  end
  return #name_of("kind", path) <= NAME_MAX_BYTES
end

-- --- Opening -----------------------------------------------------------------------------------------------------

local function mount(self, kind, path, name)
  local mounted, message, code = self.view:_mount_part(definition_of(kind, path), self.dir and self.dir .. "/" .. name)
  if not mounted then return nil, message, code end
  local index = {
    view = mounted, kind = kind, path = path, name = name,
    last_used = nil,                         -- when a query began to use it, as the database's clock has it
    runs = setmetatable({}, {__mode = "k"}), -- set of the runs of queries that use it
  }
  self.open[name] = index
  self.count = self.count + 1
  return index
end

-- --- Dropping ------------------------------------------------------------------------------------------------------

local function is_read(index)
  for run in pairs(index.runs) do
    if not run.closed then return true end
  end
  return false
end

-- Closes the index, and removes what it has on disk; done(err). No query may read it.
local function drop(self, index, done)
  self.open[index.name] = nil
  self.count = self.count - 1
  self.found = {is = {}, kind = {}, by = {}}
  self.dropping[index.name] = true
  index.view:_close(function ()
    self.dropping[index.name] = nil
    local ok, message, code = true, nil, nil
    if self.dir and not self.view._script.reads_only then
      ok, message, code = core.view_dir.remove_all(self.dir .. "/" .. index.name)
    end
    done(not ok and errors.new(message, code) or nil)
  end)
end

local function is_older(a, b)
  if a.last_used ~= b.last_used then return (a.last_used or -1) < (b.last_used or -1) end
  return a.name < b.name
end

-- Drops the index that has not been used for the longest time, if that is long enough. Those that no query has used
-- since the database was opened come first.
local function make_room(self)
  local oldest
  local latest = self.view._db._now() - Indexes.IDLE_MS
  for _, index in pairs(self.open) do
    local is_idle = index.last_used == nil or index.last_used <= latest
    if is_idle and not is_read(index) and (not oldest or is_older(index, oldest)) then oldest = index end
  end
  if oldest then drop(self, oldest, function () end) end
end

--- Drops the indexes of a path; done(err, count). An index that a query reads at the moment is an error, and none is
--- dropped.
function Indexes:drop(path, done)
  local text, list = table.concat(path, "."), {}
  for _, index in pairs(self.open) do
    if table.concat(index.path, ".") == text then list[#list + 1] = index end
  end
  for attempt = 1, 2 do
    local busy = false
    for _, index in ipairs(list) do busy = busy or is_read(index) end
    if not busy then break end
    if attempt == 2 then return done(errors.new(("drop: a query is reading an index of %s"):format(text), "EBUSY")) end
    collectgarbage() -- a loop that was left early may be its reader
  end
  local pending, failure = 1, nil
  local function one(err)
    pending, failure = pending - 1, failure or err
    if pending == 0 then done(failure, failure == nil and #list or nil) end
  end
  for _, index in ipairs(list) do
    pending = pending + 1
    drop(self, index, one)
  end
  one(nil)
end

--- The run's plan is made next: an index that is found for it is not dropped before the run is closed.
function Indexes:plan_for(run)
  self.planner[1] = run
end

--- Notes that a run uses the indexes, a set.
function Indexes:note_use(used, run)
  local now = self.view._db._now()
  for index in pairs(used) do
    if index.runs then index.last_used, index.runs[run] = now, true end
  end
end

-- --- Finding -------------------------------------------------------------------------------------------------------

local function find(self, kind, path)
  if not is_indexable(path) then return nil end
  local name = name_of(kind, path)
  if self.open[name] then return self.open[name] end
  if self.dropping[name] then return nil end
  if self.count >= MAX then make_room(self) end
  if self.count >= MAX then return nil end
  return (mount(self, kind, path, name))
end

-- Whether the index has failed: at a value that is too long for its order, or since its disk failed. A query does
-- without it.
local function has_failed(index)
  return index.view:_failure() ~= nil
end

--- Whether one of the set of indexes has failed.
function Indexes.have_failed(used)
  for index in pairs(used) do
    if index.runs and has_failed(index) then return true end
  end
  return false
end

--- The index of a path; made when there is none. nil when there can't be one, and when it has failed.
function Indexes:find(kind, path)
  if not self.usable then return nil end
  local text = table.concat(path, "\0", 1, #path)
  local index = self.found[kind][text]
  if index == nil then
    index = find(self, kind, path) or false
    -- (a path without an index may get one later, when there is a slot)
    if index or not is_indexable(path) then self.found[kind][text] = index end
  end
  if not index or has_failed(index) then return nil end
  local run = self.planner[1]
  if run then index.runs[run] = true end
  return index
end

--- Whether the query view skips records: then results have to be intersected with its own set of records.
function Indexes:skip_some()
  return self.usable and #self.view:_overridden().skips > 0
end

--- All that are open, by their names.
function Indexes:list()
  local list = {}
  for _, index in pairs(self.open) do list[#list + 1] = index end
  table.sort(list, function (a, b) return a.name < b.name end)
  return list
end

local function open_those_on_disk(self)
  for _, name in ipairs(self.dir and core.list_dir(self.dir) or {}) do
    local kind, path = parse_name(name)
    if kind and self.count < MAX then mount(self, kind, path, name) end
  end
end

--- Closes them all; done() when that is over.
function Indexes:close(done)
  local pending = 1
  local function one()
    pending = pending - 1
    if pending == 0 then done() end
  end
  for _, index in pairs(self.open) do
    pending = pending + 1
    index.view:_close(one)
  end
  self.open, self.count = {}, 0
  self.found = {is = {}, kind = {}, by = {}}
  one()
end

--- Bytes on disk, after the last checkpoint of each.
function Indexes:size_bytes()
  local bytes = 0
  for _, index in pairs(self.open) do bytes = bytes + index.view._core:size() end
  return bytes
end

--- view: the query view, mounted. usable: the records are such that the core can read them.
function Indexes.new(view, usable)
  local dir = view._script.state_dir
  local self = setmetatable({
    view = view,
    dir = dir and dir .. "/indexes",
    usable = usable,
    open = {},   -- name -> {view =, kind =, path =, name =}
    found = {is = {}, kind = {}, by = {}}, -- path as text -> one of those; false: there can't be one
    count = 0,
    planner = setmetatable({}, {__mode = "v"}), -- [1]: the run whose plan is made
    dropping = {}, -- set of the names of those that are being closed and removed
  }, Indexes)
  if usable then open_those_on_disk(self) end
  return self
end

return Indexes
