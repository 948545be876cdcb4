-- The indexes of a query view: each a view of its own, which only the query view knows of, by the path of a field.
--
--   is     for each value the records that have it: bitmaps
--   kind   the same for each kind of value
--   by     the records in the order of the values: an index
--
-- They are made when a query first needs them, built from the log, and kept under views/NAME/indexes, each by the rules
-- of any view. Those that are there are opened with the query view, and so go along with the log.

local core = require "flume.core"
local values = require "flume.query.values"

local Indexes = {}
Indexes.__index = Indexes

local VERSION = 1
local MAX = 64             -- indexes of one view
local NAME_MAX_BYTES = 200 -- of the directory
local STEPS_MAX = 16

--- The bytes by which the kinds of values go in an index "kind" (core/index/key_path.h).
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

--- Whether there can be an index of what is at the path: of fields in maps alone, whose names have no dot.
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
  local index = {view = mounted, kind = kind, path = path, name = name}
  self.open[name] = index
  self.count = self.count + 1
  return index
end

local function find(self, kind, path)
  if not is_indexable(path) then return nil end
  local name = name_of(kind, path)
  local index = self.open[name]
  if index or self.count >= MAX then return index end
  return (mount(self, kind, path, name))
end

--- The index of a path; made when there is none. nil when there can't be one.
function Indexes:find(kind, path)
  if not self.usable then return nil end
  local text = table.concat(path, "\0", 1, #path)
  local index = self.found[kind][text]
  if index == nil then
    index = find(self, kind, path) or false
    self.found[kind][text] = index
  end
  return index or nil
end

--- Whether there are records that the query view passes over: then it alone knows which count.
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
  }, Indexes)
  if usable then open_those_on_disk(self) end
  return self
end

return Indexes
