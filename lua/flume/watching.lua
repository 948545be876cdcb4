-- Noticing that the scripts of views have changed, wherever they are: in the folder of views and the folders in it, in
-- modules that scripts have loaded from elsewhere, behind symbolic links, or because a folder on the way to them was
-- renamed and a new folder took its name.
--
-- The system tells of changes in a folder. The folders with scripts are watched, and for each link and each folder on
-- the way to them the folder that contains it. A change of the scripts' text counts; without one nothing has changed.
-- The places are found again before the scripts are read, so that no change between the two is lost.

local core = require "flume.core"

local Watching = {}
Watching.__index = Watching

local LINKS_MAX = 40     -- one behind the other, as in the kernel
local FOLDERS_MAX = 1000 -- in the folder of views

local function join(folder, name)
  if folder == "" then return name end
  return folder:sub(-1) == "/" and folder .. name or folder .. "/" .. name
end

-- Adds a place once. name: of what counts in the folder; nil for all that is in it.
local function add_place(found, folder, name)
  local key = folder .. "\0" .. (name or "")
  if found.known[key] then return end
  found.known[key] = true
  found.places[#found.places + 1] = {folder == "" and "." or folder, name}
end

-- The path without links; each folder on the way is a place where its next name counts.
local function resolve(found, path, from, links)
  local at = path:sub(1, 1) == "/" and "/" or from
  for name in path:gmatch "[^/]+" do
    if name ~= "." then
      if name ~= ".." then add_place(found, at, name) end
      local following = join(at, name)
      local target = links < LINKS_MAX and core.read_link(following)
      at = target and resolve(found, target, at, links + 1) or following
    end
  end
  return at
end

local function add_file(found, path)
  if found.files[path] then return end
  resolve(found, path, "", 0)
  found.files[path] = true
end

-- The scripts in a folder, and in the folders in it.
local function add_folder(found, path)
  local real = resolve(found, path, "", 0)
  if found.folders[real] or found.folder_count == FOLDERS_MAX then return end
  local names = core.list_dir(path)
  if not names then return end
  found.folders[real], found.folder_count = true, found.folder_count + 1
  add_place(found, real, nil)
  for _, name in ipairs(names) do
    if name:find "%.lua$" then add_file(found, join(path, name))
    elseif name:sub(1, 1) ~= "." then add_folder(found, join(path, name)) end
  end
end

-- What all scripts say.
local function fingerprint_of(found)
  local paths, hash = {}, 0
  for path in pairs(found.files) do paths[#paths + 1] = path end
  table.sort(paths)
  for _, path in ipairs(paths) do
    local text = core.read_file(path)
    hash = core.fingerprint_bytes(path, hash)
    hash = core.fingerprint_bytes(text and "=" .. text or "none", hash)
  end
  return hash
end

local function look(self)
  local found = {places = {}, known = {}, files = {}, folders = {}, folder_count = 0}
  add_folder(found, self.folder)
  for _, path in ipairs(self.files()) do add_file(found, path) end
  self.watcher:look(found.places)
  return fingerprint_of(found)
end

-- Looks, and tells when something has changed.
local function look_again(self)
  self.is_due = false
  if not self.watcher then return end
  local before = self.fingerprint
  self.fingerprint = look(self)
  if self.fingerprint ~= before then self.changed() end
end

--- There may be other files now: looks at them too, in the loop's next turn.
function Watching:refresh()
  if self.is_due or not self.watcher then return end
  self.is_due = true
  core.later(function () look_again(self) end)
end

function Watching:stop()
  if self.watcher then self.watcher:stop() end
  self.watcher = nil
end

--- Calls changed() on the loop when scripts have changed. folder: of views. files(): a list of paths of scripts and
--- modules that may be elsewhere.
function Watching.new(folder, files, changed)
  local self = setmetatable({
    folder = folder,
    files = files,
    changed = changed,
    watcher = nil,     -- until it is stopped
    fingerprint = nil, -- of the scripts as they were when they were read last
    is_due = false,    -- refresh was called
  }, Watching)
  self.watcher = core.watch(function () look_again(self) end)
  self.fingerprint = look(self)
  return self
end

return Watching
