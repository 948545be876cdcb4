-- What the views do while the prompt is open: builds that are under way, and notes of what happened.
--
--   local watcher = watch.new(db)
--   local build = watcher:look()     {label =, total =, done =, records =, started =}; nil when nothing is being built
--   while watcher:has_note() do print(watcher:take_note()) end

local progress = require "flume.cli.progress"
local status = require "flume.cli.commands.status"

local M = {}
M.__index = M

local SAME_AGAIN = 1 -- seconds

function M.new(db)
  local self = setmetatable({
    db = db,
    seen = {},   -- view's name → what there was at the last look
    notes = {},  -- to be shown
    last_note = nil,
    noted_at = nil,
  }, M)
  if db.reloaded then db.reloaded(function (change) self:_on_reloaded(change) end, false) end
  return self
end

function M:has_note()
  return self.notes[1] ~= nil
end

function M:take_note()
  return table.remove(self.notes, 1)
end

-- An editor that saves a file changes its folder more than once: what was just said is not said again.
function M:_note(text, ...)
  local note, now = text:format(...), progress.now()
  if note == self.last_note and now - self.noted_at < SAME_AGAIN then return end
  self.last_note, self.noted_at = note, now
  self.notes[#self.notes + 1] = note
end

-- A version in words, after a name.
local function version_text(version)
  return version ~= nil and (" (version %s)"):format(version) or ""
end

-- A file in the folder of views has changed, and what it says is in place; or it can't be.
function M:_on_reloaded(change)
  if change.error then return end -- the look at the views tells
  local before = self.seen[change.name]
  if not before then
    self:_note("view %s is there%s", change.name, version_text(change.version))
  elseif before.build then
    local build = before.build
    self:_note("view %s%s: rebuilt %s", change.name, version_text(change.version),
      progress.pace(self.db.since.value - build.from, progress.now() - build.started))
  elseif change.reason then
    self:_note("view %s%s: rebuilt because %s", change.name, version_text(change.version),
      (change.reason:gsub("%->", "→")))
  else
    self:_note("view %s%s: reloaded", change.name, version_text(change.version))
  end
end

-- The build of a view that is under way: of the pending version, or of the answering version. nil for
-- none.
local function build_of(row, before)
  local following = row.next and row.next.state ~= "failed" and row.next
  local is_building = following or row.state == "building" and row.since < row.target
  if not is_building then return nil end
  local since = (following or row).since
  local known = before and before.build
  if known and known.is_following == (following ~= nil) and since >= known.since then
    known.since, known.target = since, row.target
    return known
  end
  return {
    is_following = following ~= nil, from = since, since = since, target = row.target, started = progress.now(),
    version = following and following.version, reason = following and following.reason,
  }
end

function M:_tell(row, now, before)
  if now.failure ~= (before and before.failure) and now.failure then
    self:_note("%s", now.failure)
  elseif now.reload_error ~= (before and before.reload_error) and now.reload_error then
    self:_note("%s%s", status.about(row.name, now.reload_error), row.state == "live" and "; it goes on as it was" or "")
  elseif before and before.is_failed and row.state == "live" then
    self:_note("view %s is live again", row.name)
  end
  local build = now.build
  if build and build.reason and build.reason ~= "asked for" and build ~= (before and before.build) then
    self:_note("view %s: rebuilding because %s", row.name, (build.reason:gsub("%->", "→")))
  end
end

-- What is wrong with a view, or with the version of it that was to be the next.
local function failure_of(row)
  if row.state == "failed" then return status.failure(row) end
  if not row.next or row.next.state ~= "failed" then return nil end
  return ("%s; the version before goes on"):format(status.about(row.name, row.next.error))
end

-- Looks at all views. Returns what is being built, if anything is.
function M:look()
  local seen, sum, names = {}, {total = 0, done = 0, records = 0, started = math.huge}, {}
  for _, row in ipairs(self.db:status().views) do
    local before = self.seen[row.name]
    local now = {
      build = build_of(row, before), failure = failure_of(row), reload_error = row.reload_error,
      is_failed = row.state == "failed" or row.state == "building" and before ~= nil and before.is_failed,
    }
    seen[row.name] = now
    self:_tell(row, now, before)
    local build = now.build
    if build then
      names[#names + 1] = row.name
      sum.total = sum.total + build.target + 1
      sum.done = sum.done + build.since + 1
      sum.records = sum.records + build.since - build.from
      sum.started = math.min(sum.started, build.started)
    end
  end
  self.seen = seen
  if #names == 0 then return nil end
  sum.label = "building " .. table.concat(names, ", ")
  return sum
end

return M
