-- The directories that a view keeps its versions in (core/view/view_dir.h). Each version has one, named by a number.
-- One of them is the active version: the one that a process goes on with when it opens the view.

local view_dir = require "flume.core".view_dir

local StateDirs = {}
StateDirs.__index = StateDirs

--- Whether versions are stored: the view has a folder, and this process may write to it.
function StateDirs:is_writable()
  return self.dir ~= nil and not self.reads_only
end

--- The number of the active version, or nil: as the slot has it, which makes versions the active one.
function StateDirs:active()
  return self.slot:active()
end

function StateDirs:set_active(number)
  self.slot:set_active(number)
end

--- Reads from the disk which version is the active one.
function StateDirs:read_active()
  self:set_active(self.dir and view_dir.active(self.dir) or nil)
end

--- The number of the active version as the disk has it now, or nil; nil, message, code when it can't be read.
function StateDirs:active_on_disk()
  return view_dir.active(self.dir)
end

--- The numbers of all versions on disk: the active one first, then from the newest to the oldest.
function StateDirs:candidates()
  local numbers, active = view_dir.list(self.dir) or {}, self:active()
  table.sort(numbers, function (a, b)
    if a == active or b == active then return a == active and b ~= active end
    return a > b
  end)
  return numbers
end

--- A number for a new version. No number is given out twice: a version that is being closed may not have a directory
--- yet, and removes it later. A version that is made now contains no record that was skipped before.
function StateDirs:next_number()
  local largest = math.max(self:active() or 0, self.last)
  for _, number in ipairs(view_dir.list(self.dir) or {}) do largest = math.max(largest, number) end
  self.last = math.max(largest + 1, self.overrides:first_usable())
  return self.last
end

--- Where an instance starts: the version with this number. more: further fields of the place, or nil.
function StateDirs:place(number, more)
  local place = {
    dir = self.dir, number = number, active = number == self:active(),
    unusable_from = self.overrides:unusable_from(number),
  }
  for key, value in pairs(more or {}) do place[key] = value end
  return place
end

--- Where an instance of a process that may not write starts: a snapshot of the active version. nil when there is none,
--- or when this very process is the writer (LMDB can't open a directory twice in one process).
function StateDirs:snapshot_place()
  local number = self.dir and view_dir.active(self.dir)
  if not number or view_dir.is_ours(self.lock) then return nil end
  return {dir = self.dir, number = number, active = true, read = true}
end

--- Removes every version but the active one and those in the list numbers: discarded builds, and what a crash left.
--- true; nil, message, code.
function StateDirs:sweep(numbers)
  if not self:is_writable() then return true end
  local active, message, code = view_dir.active(self.dir)
  if message then return nil, message, code end
  local keep = table.move(numbers, 1, #numbers, 1, {})
  keep[#keep + 1] = active
  keep[#keep + 1] = self:active()
  return view_dir.sweep(self.dir, keep)
end

--- Removes one version. true; nil, message, code.
function StateDirs:remove(number)
  return view_dir.remove(self.dir, number)
end

--- script: what the view is mounted from (versions.lua). overrides, slot: of the view.
function StateDirs.new(script, overrides, slot)
  return setmetatable({
    dir = script.state_dir,         -- nil: states are kept in memory
    reads_only = script.reads_only,
    lock = script.lock,             -- path of the lock file of the log
    overrides = overrides,
    slot = slot,
    last = 0,                       -- the largest number that was given out
  }, StateDirs)
end

return StateDirs
