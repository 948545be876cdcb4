-- What an operator has decided about a view, kept from one version to the next in two small files beside its states
-- (core/view/view_dir.h):
--
--   skipped     seqs of records that the view passes over, one a line: "SEQ", or "SEQ from NUMBER" when states of
--               versions with a lower number may contain the record: such a state is unusable from that record on
--   accepted    one line for each change of the code that was accepted without a rebuild
--
-- A view without a directory keeps them in memory.

local view_dir = require "flume.core".view_dir

local Overrides = {}
Overrides.__index = Overrides

local function read_lines(dir, name)
  local lines = {}
  for line in (dir and view_dir.read(dir, name) or ""):gmatch "[^\n]+" do lines[#lines + 1] = line end
  return lines
end

local function write_lines(dir, name, lines)
  if not dir then return true end
  return view_dir.write(dir, name, table.concat(lines, "\n") .. "\n")
end

local function write_skips(self, skips, from)
  local lines = {}
  for i, seq in ipairs(skips) do lines[i] = from[seq] and ("%d from %d"):format(seq, from[seq]) or tostring(seq) end
  return write_lines(self.dir, "skipped", lines)
end

--- Whether the view passes over a record.
function Overrides:is_skipped(seq)
  for _, other in ipairs(self.skips) do
    if other == seq then return true end
  end
  return false
end

--- The least number that a version may have whose state contains no skipped record.
function Overrides:first_usable()
  local first = 1
  for _, number in pairs(self.from) do first = math.max(first, number) end
  return first
end

--- Adds a record to those that are passed over; durable when it returns. number: of the first version whose state can't
--- contain the record; nil: no state contains it. true; or nil, message, code, and nothing has changed.
function Overrides:skip(seq, number)
  local skips, from = table.move(self.skips, 1, #self.skips, 1, {}), {}
  for other, first in pairs(self.from) do from[other] = first end
  if not self:is_skipped(seq) then skips[#skips + 1] = seq end
  table.sort(skips)
  from[seq] = number
  local ok, message, code = write_skips(self, skips, from)
  if not ok then return nil, message, code end
  self.skips, self.from = skips, from
  return true
end

--- No state contains the record any more.
function Overrides:settle_skip(seq)
  if self.from[seq] then self:skip(seq, nil) end
end

--- The version with this number is usable, and its state contains no skipped record.
function Overrides:settle_version(number)
  local later = {}
  for seq, first in pairs(self.from) do
    if number < first then later[#later + 1] = seq end
  end
  for _, seq in ipairs(later) do self:skip(seq, number) end
end

--- The first seq that makes a state of the version with this number unusable, once the state contains it; nil for none.
function Overrides:unusable_from(number)
  local smallest
  for seq, first in pairs(self.from) do
    if number < first and (not smallest or seq < smallest) then smallest = seq end
  end
  return smallest
end

local function describe(instance)
  local version = instance.version_text ~= "" and "version " .. instance.version_text or "no version"
  return ("%s (source %016x)"):format(version, instance.fingerprint)
end

--- Adds a line that explains why a state is older than the code. before: the instance whose state it was, or a text in
--- its place. true; or nil, message, code.
function Overrides:accept(before, after, since, reason)
  local list = self:accepted()
  list[#list + 1] = ("%s  %s -> %s  at record %d: %s"):format(os.date "!%Y-%m-%dT%H:%M:%SZ",
    type(before) == "string" and before or describe(before), describe(after), since, (reason:gsub("%s+", " ")))
  local ok, message, code = write_lines(self.dir, "accepted", list)
  if not ok then return nil, message, code end
  self._accepted = list
  return true
end

--- The accepted changes, oldest first: a list of lines.
function Overrides:accepted()
  return table.move(self._accepted, 1, #self._accepted, 1, {})
end

local function read_skips(self)
  for _, line in ipairs(read_lines(self._read_dir, "skipped")) do
    local seq, number = line:match "^(%d+) from (%d+)$"
    seq = math.tointeger(tonumber(seq or line))
    if seq then
      self.skips[#self.skips + 1] = seq
      self.from[seq] = math.tointeger(tonumber(number))
    end
  end
  table.sort(self.skips)
end

--- The overrides of the view whose states are in the directory dir; nil: in memory. writable: whether this process may
--- change them on disk.
local function open(dir, writable)
  local self = setmetatable({
    dir = writable and dir or nil, -- where they are written
    skips = {},                    -- list of seqs, ascending
    from = {},                     -- seq -> number of the first version whose state can't contain it
    _read_dir = dir,
    _accepted = read_lines(dir, "accepted"),
  }, Overrides)
  read_skips(self)
  return self
end

return {open = open}
