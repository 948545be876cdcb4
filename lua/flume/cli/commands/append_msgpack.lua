-- flume DB append --msgpack [FILE|-]: MessagePack values, one behind the other, as stream --msgpack writes them. A copy
-- made by these two loses nothing. What has come in whole values goes to the log in batches, a few of them at a time.

local flume = require "flume"
local input = require "flume.cli.input"
local progress = require "flume.cli.progress"
local runner = require "flume.cli.runner"

local M = {}

local BATCH_BYTES = 256 * 1024
local IN_FLIGHT = 4
local WAIT_MS = 200

local Append = {}
Append.__index = Append

local function new(db, source)
  return setmetatable({
    log = db.log,
    source = source,
    pieces = {},       -- bytes that were read and are not in the log yet
    bytes = 0,         -- of all pieces
    wanted = 1,        -- how many there have to be for another whole value, as far as is known
    checked = false,   -- the beginning is no JSON
    ended = false,     -- the source is at its end
    in_flight = 0,     -- batches
    sent = 0,          -- records
    appended = 0,      -- records that are acknowledged
    bytes_done = 0,
    problem = nil,     -- why it stops
  }, Append)
end

-- The bytes of JSON text are MessagePack, too: each one a small number.
local function complaint_of_json(bytes)
  local line = bytes:match "^%s*([%[{][^\n]*)"
  if line and flume.json.decode(line) then return "this is JSON text, which append takes without --msgpack" end
end

-- Sends the whole values among the bytes that were read.
function Append:_send()
  local bytes = table.concat(self.pieces)
  if not self.checked then self.problem, self.checked = complaint_of_json(bytes), true end
  if self.problem then return end
  local count, used, _, index
  count, used, _, index = self.log.core:append_packed(bytes, BATCH_BYTES, function (err)
    self.in_flight = self.in_flight - 1
    if err then self.problem = self.problem or tostring(err) else self.appended = self.appended + count end
  end)
  if not count then
    self.problem = index and ("value %d: %s"):format(self.sent + index, used) or used
    return
  end
  if count > 0 then self.in_flight = self.in_flight + 1 end
  self.sent = self.sent + count
  self.bytes_done = self.bytes_done + used
  self.pieces, self.bytes = {bytes:sub(used + 1)}, #bytes - used
  self.wanted = count == 0 and 2 * self.bytes or 1
end

function Append:_read()
  local bytes, message = self.source:read(self.in_flight == 0 and WAIT_MS or 0)
  if not bytes then
    self.ended, self.problem = true, self.problem or message
    self.wanted = 1
  elseif bytes ~= "" then
    self.pieces[#self.pieces + 1] = bytes
    self.bytes = self.bytes + #bytes
  end
end

-- One turn: reads and sends, or waits for what is under way.
function Append:_turn()
  if self.in_flight >= IN_FLIGHT then return runner.step() end
  if not self.ended and self.bytes < math.max(BATCH_BYTES, self.wanted) then self:_read() end
  if not self.problem and self.bytes >= self.wanted then
    local before = self.bytes
    self:_send()
    if not self.problem and self.ended and self.bytes == before then
      self.problem = ("value %d: the input ends in the midst of it"):format(self.sent + 1)
    end
  end
  runner.step(0)
end

function Append:run()
  local bar <close> = progress.new{label = "append", total = self.source.total}
  while self.in_flight > 0 or not (self.problem or self.ended and self.bytes == 0) do
    runner.check()
    if self.problem or self.ended and self.bytes == 0 then runner.step() else self:_turn() end
    bar:update(self.bytes_done, self.appended)
  end
  bar:finish()
end

-- Waits for what is under way, whatever signal comes.
function Append:settle()
  while self.in_flight > 0 do flume.step() end
end

--- Returns true, or nil and what went wrong.
function M.run(db, request, output)
  if request.skip_bad then return nil, "append: --skip-bad passes over lines of JSON; in MessagePack there are none" end
  local source <close>, message = input.open(request.words[1], {is_text = false})
  if not source then return nil, "append: " .. message end
  local state = new(db, source)
  local ok, err = pcall(state.run, state)
  if not ok then state:settle() end
  if output.json then
    output:value{appended = state.appended, skipped = 0, since = db.since.value}
  else
    output:line(("%d record%s appended"):format(state.appended, state.appended == 1 and "" or "s"))
  end
  if not ok then error(err, 0) end
  if state.problem then return nil, "append: " .. state.problem end
  return true
end

return M
