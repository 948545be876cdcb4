-- What commands print: values for people (Lua, see flume.pretty) or, with --json, for programs (a JSON text a line).

local core = require "flume.core"
local pretty = require "flume.pretty"
local runner = require "flume.cli.runner"
local terminal = require "flume.terminal"

local M = {}
M.__index = M

local STDOUT = 1
local EPIPE = 32
local LEAST_WIDTH, DEFAULT_WIDTH = 8, 80

-- options: json (print JSON), file (default: standard output).
function M.new(options)
  local is_tty = options.file == nil and terminal.is_tty(STDOUT)
  local self = setmetatable({
    json = options.json or false,
    file = options.file or io.stdout,
    prints_packed = false,                       -- records are printed as MessagePack
    prints_states = false,                       -- an empty table is the state of a reducer: {}, not []
    is_tty = is_tty,
    losses = {count = 0, first = nil},           -- values whose JSON text lacks something, and what the first one lacks
    width = nil,                                 -- in columns, below
    ascii = is_tty and not terminal.is_utf8(),   -- what is no ASCII would not be legible
  }, M)
  self:measure()
  return self
end

-- Notes how wide the terminal is now.
function M:measure()
  local columns = self.is_tty and terminal.columns() or 0
  self.width = columns >= LEAST_WIDTH and columns or DEFAULT_WIDTH
end

-- A reader that has gone, as that of `| head`, needs no explanation.
local function check(ok, message, errno)
  if not ok then runner.fail(errno == EPIPE and "" or "writing the output: " .. message) end
end

-- What of a text would be obeyed by a terminal, not shown.
local function harmless(text)
  return (text:gsub("[\0-\8\11-\31\127]", function (byte) return ("\\x%02x"):format(byte:byte()) end)
    :gsub("\194[\128-\159]", function (bytes) return ("\\u{%x}"):format(utf8.codepoint(bytes)) end))
end

-- A line of text; for people.
function M:line(text)
  check(self.file:write(text, "\n"))
end

-- value as JSON text. What JSON can't say is noted; of a record, that a key was no string too.
function M:_to_json(value, seq)
  if value == nil then return "null" end
  if self.prints_states and type(value) == "table" and next(value) == nil and getmetatable(value) == nil then
    return "{}"
  end
  local text, lost, only_keys = core.json_show(value)
  if not text then runner.fail(lost) end
  if lost and (seq or not only_keys) then
    self.losses.count = self.losses.count + 1
    self.losses.first = self.losses.first or (seq and ("record %d: "):format(seq) or "") .. lost
  end
  return text
end

-- What the JSON text printed since the last call lacks, in words; nil when it lacks nothing.
function M:take_losses()
  local losses = self.losses
  if losses.count == 0 then return nil end
  self.losses = {count = 0, first = nil}
  local others = losses.count > 1 and (", nor have %d others"):format(losses.count - 1) or ""
  return ("%s%s; stream --msgpack and backup copy a log without loss"):format(losses.first, others)
end

-- One result.
function M:value(value)
  if self.json then return self:line(self:_to_json(value)) end
  local text = pretty.top(value, self)
  self:line(self.is_tty and harmless(text) or text)
end

-- One of many results, on one line. first and second are what an iterator gave: one value, or a pair.
function M:row(first, second)
  if self.json then
    if second == nil then return self:line(self:_to_json(first)) end
    self:line("[" .. self:_to_json(first) .. "," .. self:_to_json(second) .. "]")
  elseif second == nil then
    local text = type(first) == "string" and first or pretty.line(first, self)
    self:line(self.is_tty and harmless(text) or text)
  else
    self:line(pretty.line(first, self) .. "\t" .. pretty.line(second, self))
  end
end

-- One of the deltas of a view, on one line: what has to be done, and behind that a key or position, a value and a seq.
function M:delta(op, key, value, seq)
  local as_text = self.json and function (cell) return self:_to_json(cell) end
    or function (cell) return pretty.line(cell, self) end
  local text = self.json and self:_to_json(op) or op
  if seq ~= nil then
    local cells = {text, as_text(key), as_text(value), as_text(seq)}
    text = table.concat(cells, self.json and "," or "\t")
  end
  if self.json then text = "[" .. text .. "]" end
  self:line(self.is_tty and harmless(text) or text)
end

-- A record of the log. As JSON its value alone, so that the output can be appended to another log.
function M:record(seq, value)
  if self.prints_packed then
    self:packed(value)
  elseif self.json then
    self:line(self:_to_json(value, seq))
  else
    self:line(("%d\t%s"):format(seq, pretty.line(value, self)))
  end
end

-- A value as MessagePack, with nothing behind it.
function M:packed(value)
  local bytes, message = core.encode(value)
  if not bytes then runner.fail(message) end
  check(self.file:write(bytes))
end

-- Rows of cells under a header; see pretty.columns.
function M:table(rows, options)
  check(self.file:write(pretty.columns(rows, options)))
end

function M:flush()
  check(self.file:flush())
  if self.file ~= io.stdout then return end
  local state = terminal.output_state()
  if state ~= "good" then runner.fail(state == "gone" and "" or "writing the output has failed") end
end

return M
