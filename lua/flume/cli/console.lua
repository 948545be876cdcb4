-- What the REPL does with a line: runs a statement and prints its results, or a dot command. Also completion.

local complete = require "flume.cli.complete"
local flume = require "flume"
local output = require "flume.cli.output"
local pretty = require "flume.pretty"
local progress = require "flume.progress"
local rows = require "flume.cli.rows"
local runner = require "flume.cli.runner"
local status = require "flume.cli.status"
local terminal = require "flume.terminal"
local views = require "flume.cli.views"

local Console = {}
Console.__index = Console
Console.__name = "flume.console"

local STDOUT, STDERR = 1, 2
local IDLE_MS, BUSY_STEP_MS = 50, 5
local TAIL_COUNT = 10
local SOURCE_ROWS = 100 -- of a stream that a statement gives

local MODES = {lua = true, json = true, table = true}

local function new(db, env, options)
  local colour = not os.getenv "NO_COLOR"
  return setmetatable({
    db = db,
    env = env,
    output = output.new{json = options.json},
    mode = options.json and "json" or "lua",
    timer = false,
    quit = false,
    interactive = options.interactive or false,
    colour_out = colour and terminal.is_tty(STDOUT),
    colour_err = colour and terminal.is_tty(STDERR),
  }, Console)
end

local function paint(text, code, on)
  return on and ("\27[%sm%s\27[0m"):format(code, text) or text
end

function Console:complain(message)
  self.output:flush()
  io.stderr:write(self.interactive and paint("error: ", "1;31", self.colour_err) or "flume: ", message, "\n")
end

function Console:note(text)
  self.output:line(paint(text, "2", self.colour_out))
end

-- What stands above the first prompt.
function Console:greet()
  local count = self.db.since.value + 1
  self:note(("flume %s: %s, %d record%s. Type .help for help."):format(flume._VERSION, self.db.dir, count,
    count == 1 and "" or "s"))
end

-- --- Results ------------------------------------------------------------------------------------------------------

function Console:_print_value(value)
  local text = self.mode == "table" and pretty.table(value)
  if text then
    self.output:line((text:gsub("\n$", "")))
  else
    self.output:value(value)
  end
end

-- The results of a statement; a stream is printed item by item. Returns whether they are no failure: nil and a message.
function Console:_print(...)
  local count, first, message, code = select("#", ...), ...
  if count == 0 then return true end
  self.env._ = first
  if first == nil and type(message) == "string" then
    self:complain(code and ("%s (%s)"):format(message, tostring(code)) or message)
    return false
  end
  if rows.is_source(first) then
    if rows.print(first, self.output, SOURCE_ROWS) then
      self:note(("the first %d; for more: for ... in db:stream{...} do ... end"):format(SOURCE_ROWS))
    end
  else
    for i = 1, count do self:_print_value((select(i, ...))) end
  end
  return true
end

-- Runs a chunk and prints its results. Returns whether all went well.
function Console:evaluate(chunk)
  local started = progress.now()
  local ok, result = runner.call(function () return self:_print(chunk()) end)
  if not ok then self:complain(tostring(result)) end
  if self.timer then self:note(("%.3f s"):format(progress.now() - started)) end
  self.output:flush()
  return ok and result
end

-- --- Dot commands -------------------------------------------------------------------------------------------------

-- name: {arguments, what it does, function (console, words) → nil or what is wrong}
local COMMANDS = {}

local ORDER = {"help", "views", "status", "tail", "rebuild", "mode", "timer", "quit"}

COMMANDS.help = {"", "this list", function (self)
  local lines = {}
  for i, name in ipairs(ORDER) do
    local command = COMMANDS[name]
    lines[i] = {"." .. name .. " " .. command[1], command[2]}
  end
  self.output:table(lines)
  self.output:line "Anything else is Lua: db, flume and each view by its name are there, _ is the last result."
end}

COMMANDS.views = {"", "the views and their methods", function (self)
  status.print_views(self.db, self.output)
end}

COMMANDS.status = {"", "how far the log and the views are", function (self)
  status.print(self.db, self.output)
end}

COMMANDS.tail = {"[N]", "the last N records (10)", function (self, words)
  local count = math.tointeger(tonumber(words[1] or TAIL_COUNT))
  if not count or count < 0 then return ".tail wants a number that is not negative, got '" .. words[1] .. "'" end
  local records = {}
  for seq, value in self.db:stream{reverse = true, limit = count} do records[#records + 1] = {seq, value} end
  for i = #records, 1, -1 do self.output:record(records[i][1], records[i][2]) end
end}

COMMANDS.rebuild = {"[NAME]", "builds a view, or all, anew from the log", function (self, words)
  local _, message = views.rebuild(self.db, words[1], self.output)
  return message
end}

COMMANDS.mode = {"[lua|json|table]", "how results are printed", function (self, words)
  if not words[1] then
    self.output:line(self.mode)
    return
  end
  if not MODES[words[1]] then return (".mode: '%s' is none of lua, json, table"):format(words[1]) end
  self.mode = words[1]
  self.output.json = self.mode == "json"
end}

COMMANDS.timer = {"[on|off]", "whether statements say how long they took", function (self, words)
  if words[1] and words[1] ~= "on" and words[1] ~= "off" then
    return (".timer: '%s' is neither on nor off"):format(words[1])
  end
  if words[1] then self.timer = words[1] == "on" end
  self.output:line(self.timer and "on" or "off")
end}

COMMANDS.quit = {"", "ends (so does Ctrl-D)", function (self)
  self.quit = true
end}

local function unknown(name)
  return ("unknown command '.%s'; .help lists those there are"):format(name)
end

-- where: what stands before a message.
function Console:_command(name, words, where)
  local command = COMMANDS[name]
  local message = unknown(name)
  if command then message = select(2, pcall(command[3], self, words)) end
  if message then self:complain(where .. tostring(message)) end
  self.output:flush()
  return not message
end

-- --- Lines --------------------------------------------------------------------------------------------------------

-- Deals with one line. Returns whether all went well.
function Console:take(session, line)
  local kind, first, second = session:feed(line)
  if kind == "run" then return self:evaluate(first) end
  if kind == "command" then
    return self:_command(first, second, self.interactive and "" or ("stdin:%d: "):format(session.line_number))
  end
  if kind == "error" then
    self:complain(first)
    return false
  end
  return true
end

-- Keeps the database going while nobody types; returns for how many ms it may be left alone.
function Console:idle()
  local ok, message = pcall(flume.step, BUSY_STEP_MS)
  if not ok then self:complain(tostring(message)) end
  return status.is_behind(self.db) and 0 or IDLE_MS
end

-- What the terminal wants of a completer: what the words have in common, and the words; nil when there are none.
function Console:complete(line, first, last)
  local context = {db = self.db, env = self.env, commands = ORDER, modes = MODES}
  local words = complete.candidates(line, first, last, context)
  if #words == 0 then return nil end
  return {complete.common_prefix(words), table.unpack(words)}
end

return {new = new}
