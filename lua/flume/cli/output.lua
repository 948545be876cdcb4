-- What commands print: values for people (Lua, see flume.pretty) or, with --json, for programs (a JSON text a line).

local flume = require "flume"
local pretty = require "flume.pretty"
local runner = require "flume.cli.runner"
local terminal = require "flume.terminal"

local M = {}
M.__index = M

local STDOUT = 1

-- options: json (print JSON), file (default: standard output).
function M.new(options)
  local columns = terminal.is_tty(STDOUT) and terminal.columns() or 0
  return setmetatable({
    json = options.json or false,
    file = options.file or io.stdout,
    width = columns > 0 and columns or 80,
  }, M)
end

local function check(ok, message)
  if not ok then runner.fail("writing the output: " .. message) end
end

-- A line of text; for people.
function M:line(text)
  check(self.file:write(text, "\n"))
end

local function to_json(value)
  if value == nil then return "null" end
  local text, message = flume.json.encode(value)
  if not text then runner.fail(message) end
  return text
end

-- One result.
function M:value(value)
  self:line(self.json and to_json(value) or pretty.top(value, {width = self.width}))
end

-- One of many results, on one line. first and second are what an iterator gave: one value, or a pair.
function M:row(first, second)
  if self.json then
    self:line(to_json(second == nil and first or {first, second}))
  elseif second == nil then
    self:line(type(first) == "string" and first or pretty.line(first))
  else
    self:line(pretty.line(first) .. "\t" .. pretty.line(second))
  end
end

-- A record of the log. As JSON its value alone, so that the output can be appended to another log.
function M:record(seq, value)
  if self.json then
    self:line(to_json(value))
  else
    self:line(("%d\t%s"):format(seq, pretty.line(value)))
  end
end

-- Rows of cells under a header; see pretty.columns.
function M:table(rows, options)
  check(self.file:write(pretty.columns(rows, options)))
end

function M:flush()
  check(self.file:flush())
end

return M
