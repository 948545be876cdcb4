-- flume DB append [FILE|-]: lines of JSON into the log, in a stream.
--
-- Input is gathered into chunks of whole lines; each chunk is one atomic batch, and a few of them are under way at a
-- time. When input comes slowly, what there is goes to the log at once. A chunk with a bad line is refused as a whole,
-- before any later one is sent: the lines before the bad one are sent again alone. A line that is too long for a record
-- is not kept while it comes.
--
-- A signal ends it between two chunks: the whole lines that were read are stored, and counted.

local flume = require "flume"
local input = require "flume.cli.input"
local progress = require "flume.cli.progress"
local runner = require "flume.cli.runner"

local M = {}

local CHUNK_BYTES = 256 * 1024
local MAX_LINE_BYTES = 256 * 1024 * 1024
local IN_FLIGHT = 4
local WAIT_MS = 200

-- --- Lines --------------------------------------------------------------------------------------------------------

-- How many newlines text has, and where the last one is (0 for none).
local function count_lines(text)
  local count, last = 0, 0
  while true do
    local at = text:find("\n", last + 1, true)
    if not at then return count, last end
    count, last = count + 1, at
  end
end

-- Where line number n of text begins, and where its newline is.
local function line_bounds(text, n)
  local first = 1
  for _ = 2, n do first = text:find("\n", first, true) + 1 end
  return first, text:find("\n", first, true) or #text
end

-- --- The append ---------------------------------------------------------------------------------------------------

local Append = {}
Append.__index = Append

local function new(db, source, skip_bad)
  return setmetatable({
    db = db,
    source = source,
    skip_bad = skip_bad,
    ready = {},         -- pieces of whole lines, to be sent
    ready_bytes = 0,
    partial = {},       -- pieces of a line whose end has not come yet
    partial_bytes = 0,
    overlong = false,   -- the line that comes is refused: its rest is passed over
    ended = false,      -- the source is at its end
    in_flight = 0,
    lines_sent = 0,     -- lines of all chunks that were dealt with
    appended = 0,       -- records that are acknowledged
    bytes_done = 0,
    skipped = 0,
    problem = nil,      -- why it stops
  }, Append)
end

function Append:_answer(text, count, message)
  self.in_flight = self.in_flight - 1
  if count then
    self.appended = self.appended + count
    self.bytes_done = self.bytes_done + #text
  else
    self.problem = self.problem or message
  end
end

-- One chunk to the log. Returns nothing when it was taken; the number of its bad line (0: all of it) and what is wrong
-- otherwise, and then nothing of it is stored. That is known at once: a task runs on until it has to wait.
function Append:_send(text)
  local waits, results = false, nil
  flume.spawn(function ()
    results = table.pack(self.db:append_json(text))
    if waits then self:_answer(text, results[1], results[2]) end
  end)
  if results and not results[1] then return results[4] or 0, results[2] end
  self.in_flight = self.in_flight + 1
  waits = true
  if results then self:_answer(text, results[1]) end
end

function Append:_refuse(line, message)
  local number = self.lines_sent + line
  if line == 0 then
    self.problem = ("the lines from %d on: %s"):format(number + 1, message)
  elseif self.skip_bad then
    self.skipped = self.skipped + 1
  else
    self.problem = ("line %d: %s"):format(number, message)
  end
end

-- Passes over a bad line.
function Append:_skip(line)
  self.bytes_done = self.bytes_done + #line
  self.lines_sent = self.lines_sent + 1
end

-- The lines of a text without those that are no JSON. One that is not good for another reason is found when it is sent.
function Append:_good_lines(text)
  local good = {}
  for line in text:gmatch "[^\n]*\n?" do
    local is_bad = line:find "%S" and select(2, flume.json.decode(line))
    if is_bad then
      self.skipped = self.skipped + 1
      self:_skip(line)
    else
      good[#good + 1] = line
    end
  end
  return table.concat(good)
end

-- One chunk to the log, without its bad lines. Where there is one there may be many: they are looked for one by one
-- then, so that the chunk is sent twice, not once for each of them.
function Append:_submit(text)
  while text ~= "" and not self.problem do
    local bad_line, message = self:_send(text)
    if not bad_line then
      self.lines_sent = self.lines_sent + count_lines(text)
      return
    end
    self:_refuse(bad_line, message)
    if bad_line == 0 then return end
    local first, last = line_bounds(text, bad_line)
    local before = text:sub(1, first - 1)
    if self.problem then
      if before ~= "" then self:_send(before) end
      return
    end
    self:_skip(text:sub(first, last))
    text = before .. self:_good_lines(text:sub(last + 1))
  end
end

-- The rest of an overlong line goes; returns what is behind it.
function Append:_pass_over(bytes)
  local last = bytes:find("\n", 1, true)
  self.bytes_done = self.bytes_done + (last or #bytes)
  if not last then return "" end
  self.overlong = false
  self.lines_sent = self.lines_sent + 1
  return bytes:sub(last + 1)
end

-- Sorts bytes into whole lines and the beginning of one.
function Append:_take(bytes)
  if self.overlong then bytes = self:_pass_over(bytes) end
  local _, last = count_lines(bytes)
  if last > 0 then
    self.partial[#self.partial + 1] = bytes:sub(1, last)
    self:_complete()
    bytes = bytes:sub(last + 1)
  end
  self.partial[#self.partial + 1] = bytes
  self.partial_bytes = self.partial_bytes + #bytes
  if self.partial_bytes > MAX_LINE_BYTES then self:_refuse_overlong() end
end

-- What has come is whole lines.
function Append:_complete()
  local text = table.concat(self.partial)
  self.partial, self.partial_bytes = {}, 0
  self.ready[#self.ready + 1] = text
  self.ready_bytes = self.ready_bytes + #text
end

function Append:_refuse_overlong()
  self.bytes_done = self.bytes_done + self.partial_bytes
  self.partial, self.partial_bytes = {}, 0
  self:_flush()
  if self.problem then return end
  self:_refuse(1, ("longer than %s"):format(progress.bytes(MAX_LINE_BYTES)))
  self.overlong = true
end

function Append:_end_of_input(message)
  self.ended = true
  self.problem = self.problem or message
  self:_complete()
end

-- Reads once. Returns whether something came.
function Append:_read()
  local idle = self.in_flight == 0 and self.ready_bytes == 0
  local bytes, message = self.source:read(idle and WAIT_MS or 0)
  if not bytes then
    self:_end_of_input(message)
  elseif bytes ~= "" then
    self:_take(bytes)
    return true
  end
  return false
end

function Append:_flush()
  local text = #self.ready == 1 and self.ready[1] or table.concat(self.ready)
  self.ready, self.ready_bytes = {}, 0
  self:_submit(text)
end

-- One turn: reads, sends, or waits for what is under way.
function Append:_turn()
  if self.in_flight >= IN_FLIGHT or (self.ended and self.ready_bytes == 0) then
    runner.step()
    return
  end
  local came = not self.ended and self.ready_bytes < CHUNK_BYTES and self:_read()
  if self.ready_bytes >= CHUNK_BYTES or (not came and self.ready_bytes > 0 and (self.in_flight == 0 or self.ended)) then
    self:_flush()
    runner.step(0)
  elseif not came and self.in_flight > 0 then
    runner.step(5)
  end
end

function Append:_unfinished()
  if self.in_flight > 0 then return true end
  return not self.problem and not (self.ended and self.ready_bytes == 0)
end

function Append:run(label)
  local bar <close> = progress.new{label = label, total = self.source.total}
  while self:_unfinished() do
    runner.check()
    if self.problem then runner.step() else self:_turn() end
    bar:update(self.bytes_done, self.appended)
  end
  bar:finish()
end

-- Sends the whole lines that were read, and waits for what is under way, whatever signal comes.
function Append:settle()
  if self.ready_bytes > 0 and not self.problem then self:_flush() end
  while self.in_flight > 0 do flume.step() end
end

-- --- The command --------------------------------------------------------------------------------------------------

local function plural(count, noun)
  return ("%d %s%s"):format(count, noun, count == 1 and "" or "s")
end

local function report(state, output)
  if output.json then
    output:value{appended = state.appended, skipped = state.skipped, since = state.db.since.value}
    return
  end
  local text = plural(state.appended, "record") .. " appended"
  if state.skipped > 0 then text = text .. ", " .. plural(state.skipped, "bad line") .. " skipped" end
  output:line(text)
end

-- Returns true, or nil and what went wrong.
function M.run(db, request, output)
  if request.msgpack then return require "flume.cli.commands.append_msgpack".run(db, request, output) end
  local source <close>, message = input.open(request.words[1])
  if not source then return nil, ("%s: %s"):format(request.command, message) end
  local state = new(db, source, request.skip_bad)
  local ok, err = pcall(state.run, state, request.command)
  if not ok then state:settle() end
  report(state, output)
  if not ok then error(err, 0) end
  if state.problem then return nil, ("%s: %s"):format(request.command, state.problem) end
  return true
end

return M
