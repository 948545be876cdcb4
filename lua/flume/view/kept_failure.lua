-- The failure of a view, kept from one process to the next in the file "failed" beside its states: the version that
-- failed, the record, and the message. A process that opens the view goes on from the last checkpoint, and tries the
-- record again. Until the view is beyond the record, its status tells of the failure that was kept.
--
-- The failure is written when the status is asked for, and when the view is closed. It is removed once the view is
-- beyond the record.

local view_dir = require "flume.core".view_dir

local M = {}

local FILE = "failed"

-- What has to be the same for the failure to be the same: the version and the source.
local function identity(instance)
  return ("%s %016x"):format((instance.version_text:gsub("%c", " ")), instance.fingerprint)
end

local function read(dir)
  local text = view_dir.read(dir, FILE) or ""
  local of, seq, message = text:match "^([^\n]*)\n(%-?%d+)\n(.*)$"
  return of and {identity = of, seq = math.tointeger(seq), message = message} or nil
end

local function write(dir, failure)
  return view_dir.write(dir, FILE, ("%s\n%d\n%s"):format(failure.identity, failure.seq, failure.message))
end

--- Reads the failure of an earlier process. view: about to be mounted, with the instance that answers first.
function M.load(view, instance)
  local dir = view._script.state_dir
  view._kept_failure = dir and read(dir) or nil
  if view._kept_failure then view._kept_failure.instance = instance end
end

--- The failure of an earlier process that the view may meet again: {seq =, message =}; nil for none.
function M.of(view)
  local kept, instance = view._kept_failure, view._instance
  if not kept or kept.instance ~= instance or kept.identity ~= identity(instance) then return nil end
  if view._overrides:is_skipped(kept.seq) or instance.core:since() >= kept.seq then return nil end
  return kept
end

--- Writes how the view is now, where that differs from the file.
function M.settle(view)
  local dirs, instance = view._versions.dirs, view._instance
  if not dirs:is_writable() or instance.kind == "sink" then return end
  local message, seq = instance.core:failure()
  local kept = view._kept_failure
  if message and seq then
    local failure = {identity = identity(instance), seq = seq, message = message, instance = instance}
    if not (kept and kept.identity == failure.identity and kept.seq == seq and kept.message == message) then
      write(dirs.dir, failure)
    end
    view._kept_failure = failure
  elseif kept and kept.message ~= "" and not M.of(view) then
    view._kept_failure = {identity = "", seq = -1, message = ""}
    write(dirs.dir, view._kept_failure)
  end
end

--- What lets a failed view go on, in words.
function M.remedy(name, seq)
  if not seq or seq < 0 then return "a changed script, or a rebuild, lets it go on" end
  return ("db.views[%q]:skip(%d) passes over the record; a changed script is built from the start"):format(name, seq)
end

return M
