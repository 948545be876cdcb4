-- Records of a JSON log that are no JSON. The log verifies bytes and frames; what a record's bytes say is known here.

local core = require "flume.core"

local M = {}

-- The name of the file that the records of a log are in, as check gives it.
local function file_of(log)
  if log.core:kind() ~= "offset" then return "log" end
  return log.dir:match "([^/]*)%.flume$" or log.dir
end

--- Adds the records that can't be decoded to the problems of a report of check. report.problems[i] has the fields file,
--- seq and what, and for an offset log offset, the byte.
function M.add_to(report, log)
  if log.codec_name ~= "json" then return end
  local is_offset = log.core:kind() == "offset"
  local cursor = core.cursor(log.core, 0, math.maxinteger, -1, false, false, true, true)
  if not cursor then return end
  while true do
    local seq, message = cursor:next()
    if seq == nil and message == nil then break end
    if seq == nil then
      seq, message = tostring(message):match "^record (%d+) can't be decoded: (.*)$"
      if not seq then break end -- damage, which is among the problems already
      seq = math.tointeger(seq)
      report.problems[#report.problems + 1] = {
        file = file_of(log), seq = seq, offset = is_offset and seq or nil,
        what = ("%s; db:del(%d) deletes the record"):format(message, seq),
      }
      report.ok = false
    end
  end
  cursor:close()
end

return M
