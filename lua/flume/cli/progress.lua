-- A progress line on standard error: how far, how fast, how much longer.
--
--   local bar <close> = progress.new{label = "append", total = bytes}
--   bar:update(bytes_so_far, records_so_far)
--   bar:finish()
--
-- It shows up when standard error is a terminal and the work has taken half a second. FLUME_PROGRESS=1 shows it in any
-- case and at once, line after line where there is no terminal; FLUME_PROGRESS=0 never. What is counted need not be
-- records: see the options of new.

local core = require "flume.core"
local pretty = require "flume.pretty"
local terminal = require "flume.terminal"

local M = {}
M.__index = M
M.__name = "flume.progress"

local SHOW_AFTER = 0.5    -- seconds
local REDRAW_EVERY = 0.1  -- seconds, on a terminal
local PRINT_EVERY = 0.5   -- seconds, elsewhere
local BAR_CELLS = 24
local STDERR = 2

-- Seconds of a clock that never goes back.
function M.now()
  return core.now() / 1000
end

-- options: label; total, in the unit of update's first argument, nil when it is not known; unit, what update's second
-- argument counts ("records"), or show, a function that makes text of it ("12 MB"); started, when that was not now. For
-- tests: out, now, tty, forced, columns.
function M.new(options)
  local switch = os.getenv "FLUME_PROGRESS"
  local tty = options.tty
  if tty == nil then tty = terminal.is_tty(STDERR) and not terminal.is_dumb() end
  local now = options.now or M.now
  return setmetatable({
    label = options.label,
    total = options.total,
    unit = options.unit or "records",
    show = options.show,
    out = options.out or io.stderr,
    now = now,
    tty = tty,
    columns = options.columns,
    forced = options.forced or switch == "1",
    silent = switch == "0",
    started = options.started or now(),
    finished = false,
    drawn_at = nil,     -- when it was last shown
    current = 0,
    first = nil,        -- what current was at the first update: rates count from there
    records = 0,
  }, M)
end

-- 1234567 → "1,234,567"
function M.thousands(number)
  local grouped = ("%d"):format(number):reverse():gsub("%d%d%d", "%0,"):reverse():gsub("^(%-?),", "%1")
  return grouped
end

-- 1234567 → "1.2 MB"
function M.bytes(number)
  local units, unit = {"B", "kB", "MB", "GB", "TB", "PB"}, 1
  while number >= 1000 and unit < #units do number, unit = number / 1000, unit + 1 end
  return (unit == 1 and "%d %s" or number < 99.95 and "%.1f %s" or "%.0f %s"):format(number, units[unit])
end

-- 75 → "1m15s"
function M.duration(seconds)
  if seconds < 1 then return ("%.0f ms"):format(seconds * 1000) end
  if seconds < 9.95 then return ("%.1f s"):format(seconds) end
  seconds = math.tointeger(math.floor(seconds + 0.5)) or math.maxinteger
  if seconds < 60 then return ("%d s"):format(seconds) end
  if seconds < 3600 then return ("%dm%02ds"):format(seconds // 60, seconds % 60) end
  return ("%dh%02dm"):format(seconds // 3600, seconds % 3600 // 60)
end

-- "in 12 ms (5,000,000 records/s)"
function M.pace(count, seconds)
  local rate = math.floor(count / math.max(seconds, 1e-3))
  return ("in %s (%s records/s)"):format(M.duration(seconds), M.thousands(rate))
end

-- A bar of the given number of cells, filled to fraction (0 to 1).
function M.bar(fraction, cells)
  local full, empty = "#", "."
  if terminal.is_utf8() then full, empty = "█", "░" end
  local filled = math.floor(math.max(0, math.min(1, fraction)) * cells + 0.5)
  return full:rep(filled) .. empty:rep(cells - filled)
end

function M:_fraction()
  if not self.total or self.total <= 0 then return nil end
  return math.min(1, self.current / self.total)
end

function M:_eta(elapsed)
  local done = self.current - self.first
  if not self.total or done <= 0 or self.current >= self.total then return nil end
  return (self.total - self.current) * elapsed / done
end

-- columns: at most so wide; the label is cut for that, so that bar and numbers are always seen. 0 for no bound.
function M:_text(finished, columns)
  local elapsed = math.max(self.now() - self.started, 1e-3)
  local fraction, eta = self:_fraction(), not finished and self:_eta(elapsed)
  local parts = {self.label}
  if fraction then
    parts[#parts + 1] = ("%s %3d%%"):format(M.bar(fraction, BAR_CELLS), math.floor(fraction * 100))
  end
  local show = self.show or M.thousands
  parts[#parts + 1] = show(self.records) .. (self.show and "" or " " .. self.unit)
  parts[#parts + 1] = show(math.floor(self.records / elapsed)) .. "/s"
  if eta then parts[#parts + 1] = "ETA " .. M.duration(eta) end
  if finished then parts[#parts + 1] = M.duration(elapsed) end
  local text = table.concat(parts, "  ")
  local excess = columns > 0 and pretty.width(text) - (columns - 1) or 0
  if excess <= 0 then return text end
  local sign = terminal.is_utf8() and "…" or "~"
  parts[1] = pretty.cut(self.label, math.max(pretty.width(self.label) - excess, 1), sign)
  return table.concat(parts, "  ")
end

function M:_draw(finished)
  local columns = self.tty and (self.columns or terminal.columns()) or 0
  local text = self:_text(finished, columns)
  if self.tty then
    if columns > 0 and (utf8.len(text) or #text) >= columns then
      text = text:sub(1, (utf8.offset(text, columns) or #text + 1) - 1)
    end
    self.out:write("\r", text, "\27[K", finished and "\n" or "")
  else
    self.out:write(text, "\n")
  end
  self.out:flush()
  self.drawn_at = self.now()
end

-- Whether the next update will be shown.
function M:is_due()
  if self.silent or not (self.tty or self.forced) then return false end
  local now = self.now()
  if not self.forced and now - self.started < SHOW_AFTER then return false end
  return not self.drawn_at or now - self.drawn_at >= (self.tty and REDRAW_EVERY or PRINT_EVERY)
end

-- current: how far, in the unit of total. records: how many records have been dealt with since the start.
function M:update(current, records)
  self.first = self.first or current
  self.current = current
  self.records = records
  if self:is_due() and (records > 0 or self.tty) then self:_draw(false) end
end

-- The work is done: the line stays if it has been shown.
function M:finish()
  self.finished = true
  if self.silent or not (self.drawn_at or self.forced) then return end
  self:_draw(true)
end

-- The work was given up, or goes on behind something else: the line goes.
function M:__close()
  if not (self.drawn_at and self.tty) or self.finished then return end
  self.out:write("\r\27[K")
  self.out:flush()
end

return M
