-- flume DB import --from FORMAT FILE for the files of other logs: a piece of the file at a time, each one batch, a few
-- of them under way at once. A record that can't be read stops it, or is passed over with --skip-bad; what was read
-- before it is stored. A signal ends it between two pieces: what is under way is waited for, and counted.

local core = require "flume.core"
local flume = require "flume"
local progress = require "flume.cli.progress"
local runner = require "flume.cli.runner"

local M = {}

local CHUNK_BYTES = 256 * 1024
local IN_FLIGHT = 4

local Import = {}
Import.__index = Import

local function new(db, source, skip_bad)
  return setmetatable({
    log = db.log,
    source = source,
    skip_bad = skip_bad,
    ended = false,    -- the source is at its end
    in_flight = 0,
    appended = 0,     -- records that are acknowledged
    skipped = 0,      -- bad ones
    problem = nil,    -- why it stops
  }, Import)
end

function Import:_send()
  local sent
  local count, ended, message, code = self.log.core:append_import(self.source, CHUNK_BYTES, function (err)
    self.in_flight = self.in_flight - 1
    if err then self.problem = self.problem or tostring(err) else self.appended = self.appended + sent end
  end)
  if not count then
    self.problem = ended
    return
  end
  sent = count
  if count > 0 then self.in_flight = self.in_flight + 1 end
  self.ended = ended
  if not message then return end
  if self.skip_bad and code == "ECORRUPT" then
    self.skipped = self.skipped + 1
  else
    self.problem = message
  end
end

function Import:run(label)
  local _, total = self.source:place()
  local bar <close> = progress.new{label = label, total = total}
  while self.in_flight > 0 or not (self.ended or self.problem) do
    runner.check()
    if self.ended or self.problem or self.in_flight >= IN_FLIGHT then
      runner.step()
    else
      self:_send()
      runner.step(0)
    end
    bar:update((self.source:place()), self.appended)
  end
  bar:finish()
end

-- Waits for what is under way, whatever signal comes.
function Import:settle()
  while self.in_flight > 0 do flume.step() end
end

local function plural(count, noun)
  return ("%d %s%s"):format(count, noun, count == 1 and "" or "s")
end

local function report(state, output)
  local _, _, deleted = state.source:place()
  local since = state.log.since.value
  if output.json then
    output:value{appended = state.appended, skipped = state.skipped, deleted = deleted, since = since}
    return
  end
  local text = plural(state.appended, "record") .. " appended"
  if deleted > 0 then text = text .. (", %d deleted left out"):format(deleted) end
  if state.skipped > 0 then text = text .. ", " .. plural(state.skipped, "bad record") .. " skipped" end
  output:line(text)
  if state.appended > 0 then output:line("they are numbered anew; the last one is " .. since) end
end

-- Returns true, or nil and what went wrong.
function M.run(format, db, request, output)
  local path = request.words[1]
  if not path or path == "-" then return nil, ("import: --from %s wants a file"):format(format) end
  if request.bits and format ~= "flumelog-offset" then
    return nil, "import: --bits is for --from flumelog-offset"
  end
  local source <close>, message = core.import_open(path, format, request.bits or 0)
  if not source then return nil, "import: " .. message end
  local state = new(db, source, request.skip_bad)
  local ok, err = pcall(state.run, state, request.command)
  if not ok then state:settle() end
  report(state, output)
  if not ok then error(err, 0) end
  if state.problem then return nil, "import: " .. state.problem end
  return true
end

return M
