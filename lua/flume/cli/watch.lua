-- What the views do while somebody sits at the prompt: builds that are under way, and notes of what happened.
--
--   local watcher = watch.new(db)
--   local build = watcher:look()     {label =, total =, done =, records =}, or nil when nothing is being built
--   while watcher:has_note() do print(watcher:take_note()) end

local progress = require "flume.progress"
local status = require "flume.cli.status"

local M = {}
M.__index = M

function M.new(db)
  return setmetatable({
    db = db,
    seen = {},   -- view's name → what there was at the last look
    notes = {},  -- to be shown
  }, M)
end

function M:has_note()
  return self.notes[1] ~= nil
end

function M:take_note()
  return table.remove(self.notes, 1)
end

function M:_note(text, ...)
  self.notes[#self.notes + 1] = text:format(...)
end

-- How far a view is, from its row of db:status(): what was seen before, brought up to date.
local function look_at(row, before)
  local is_building = row.state ~= "live" and row.state ~= "failed" and row.state ~= "stalled" and row.since < row.target
  local is_restarted = before ~= nil and (row.reason ~= before.reason or row.since < before.since)
  local now = {
    state = row.state, version = row.version, reason = row.reason, since = row.since, target = row.target,
    is_building = is_building,
    is_rebuilt = is_restarted or before ~= nil and before.is_building and before.is_rebuilt,
    is_restarted = is_restarted and row.reason ~= nil and row.reason ~= "asked for",
    from = before and not is_restarted and before.is_building and before.from or is_restarted and -1 or row.since,
    started = before and not is_restarted and before.is_building and before.started or progress.now(),
  }
  return now
end

function M:_tell(name, row, before, now)
  if row.state == "failed" then
    if not before or before.state ~= "failed" then self:_note("%s", status.failure(row)) end
  elseif now.is_restarted then
    self:_note("view %s: %s %s", name, now.is_building and "rebuilding because" or "rebuilt because",
      (row.reason:gsub("%->", "→")))
  elseif before and before.is_building and before.is_rebuilt and not now.is_building then
    self:_note("view %s: rebuilt, %s", name, progress.pace(now.since - before.from, progress.now() - before.started))
  elseif before and before.state == "failed" then
    self:_note("view %s is %s again", name, row.state)
  end
end

-- Looks at all views. Returns what is being built, if anything is.
function M:look()
  local seen, build, names = {}, {total = 0, done = 0, records = 0}, {}
  for _, row in ipairs(self.db:status().views) do
    local before = self.seen[row.name]
    local now = look_at(row, before)
    seen[row.name] = now
    self:_tell(row.name, row, before, now)
    if now.is_building then
      names[#names + 1] = row.name
      build.total = build.total + now.target + 1
      build.done = build.done + now.since + 1
      build.records = build.records + math.max(now.since - now.from, 0)
    end
  end
  self.seen = seen
  if #names == 0 then return nil end
  build.label = "building " .. table.concat(names, ", ")
  return build
end

return M
