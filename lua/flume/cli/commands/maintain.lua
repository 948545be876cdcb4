-- flume DB compact, backup and check: what keeps a database in order.

local flume = require "flume"
local progress = require "flume.cli.progress"
local runner = require "flume.cli.runner"

local M = {}

local function count(number, noun)
  return ("%s %s%s"):format(progress.thousands(number), noun, number == 1 and "" or "s")
end

-- Runs start(options) with a bar of bytes; start is a call of maintenance. Its results.
local function with_bar(label, start)
  local bar <close> = progress.new{label = label, total = 0, show = progress.bytes}
  local result = table.pack(runner.run(function ()
    return start{progress = function (done_bytes, total_bytes)
      bar.total = total_bytes
      bar:update(done_bytes, done_bytes)
    end}
  end))
  if result[1] then bar:finish() end
  return table.unpack(result, 1, result.n)
end

-- --- Compact and backup -------------------------------------------------------------------------------------------

-- NAME.METHOD mounts the query view q by itself, so that q may have a state on disk and not be mounted.
local function mount_queries(db)
  for _, name in ipairs(db:status().unmounted) do
    if name == "q" then db:use("q", "query") end
  end
end

function M.compact(db, _, output)
  mount_queries(db)
  local done, message = with_bar("compact", function (options) return db:compact(options) end)
  if not done then return nil, "compact: " .. message end
  if output.json then
    output:value(done)
  elseif done.segments == 0 then
    output:line "nothing to remove"
  else
    output:line(("%s removed; %s: %s, now %s"):format(count(done.records, "record"), count(done.segments, "segment"),
      progress.bytes(done.bytes_before), progress.bytes(done.bytes_after)))
  end
  return true
end

-- What to open of the copy.
local function place_of(db, dir)
  if db.log.core:kind() ~= "offset" then return dir end
  return dir .. "/" .. db.log.dir:match "([^/]*)%.flume$"
end

function M.backup(db, request, output)
  local dir = request.words[1]
  local done, message = with_bar("backup", function (options) return db:backup(dir, options) end)
  if not done then return nil, "backup: " .. message end
  if output.json then
    output:value(done)
  else
    output:line(("%s: %s up to record %d, %s"):format(place_of(db, dir), count(done.files, "file"), done.since,
      progress.bytes(done.bytes)))
  end
  return true
end

-- --- Check --------------------------------------------------------------------------------------------------------

-- "00000000000000000000.flume: byte 120 (record 3): record checksum mismatch"
local function line_of(finding)
  local record = finding.seq and (" (record %d)"):format(finding.seq) or ""
  local byte = finding.offset and (": byte %d"):format(finding.offset) or ""
  return ("%s%s%s: %s"):format(finding.file, byte, record, finding.what)
end

local function print_report(report, output)
  if output.json then return output:value(report) end
  for _, note in ipairs(report.notes) do output:line("note: " .. line_of(note)) end
  for _, problem in ipairs(report.problems) do output:line(line_of(problem)) end
  for _, repair in ipairs(report.repairs) do output:line(("repaired: %s: %s"):format(repair.file, repair.what)) end
  output:line(("%s in %s, %s; %s"):format(count(report.records, "record"), count(report.segments, "segment"),
    progress.bytes(report.bytes), report.ok and "no damage" or count(#report.problems, "problem")))
end

local function run_check(db)
  return with_bar("check", function (options) return db:check(options) end)
end

-- Nobody may have it open; what it then is, is looked at again.
local function repair(db, request, output)
  local offset = db.log.core:kind() == "offset"
  db:close()
  local report, message = flume.log.repair(offset and request.db or request.db .. "/log")
  if not report then return nil, "repair: " .. message end
  print_report(report, output)
  if report.ok then return true end
  local again <close> = assert(flume.open(request.db, {readonly = true, log = offset and "offset" or nil}))
  local after, why = run_check(again)
  if not after then return nil, "check: " .. why end
  if after.ok then return true end
  for _, problem in ipairs(after.problems) do output:line(line_of(problem)) end
  return nil, count(#after.problems, "problem") .. " left"
end

-- What helps against the problems of a report. Each record that can't be decoded tells its own way out.
local function hint_of(report)
  for _, problem in ipairs(report.problems) do
    if not problem.what:find("deletes the record", 1, true) then return "; check --repair keeps what is good" end
  end
  return ""
end

function M.check(db, request, output)
  if request.repair then return repair(db, request, output) end
  local report, message = run_check(db)
  if not report then return nil, "check: " .. message end
  print_report(report, output)
  if report.ok then return true end
  return nil, count(#report.problems, "problem") .. hint_of(report)
end

return M
