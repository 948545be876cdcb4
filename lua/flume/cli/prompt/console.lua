-- What the REPL does with a line: runs a statement and prints its results, or a dot command. Also what happens while
-- the prompt is idle, and completion.

local colour = require "flume.cli.colour"
local columns = require "flume.cli.columns"
local complete = require "flume.cli.prompt.complete"
local dot = require "flume.cli.prompt.dot"
local flume = require "flume"
local output = require "flume.cli.output"
local pretty = require "flume.pretty"
local progress = require "flume.cli.progress"
local repl = require "flume.cli.prompt.repl"
local rows = require "flume.cli.rows"
local runner = require "flume.cli.runner"
local status = require "flume.cli.commands.status"
local terminal = require "flume.terminal"
local watch = require "flume.cli.prompt.watch"

local Console = {}
Console.__index = Console
Console.__name = "flume.console"

local STDOUT, STDERR = 1, 2
local IDLE_MS, BUSY_STEP_MS = 50, 5
local MAX_ROWS = 100 -- of a list in columns, or of a stream that a statement gives

-- How results are printed: columns where that is readable and Lua elsewhere; Lua; JSON; columns for every list of
-- records.
local MODES = {auto = true, lua = true, json = true, table = true}

local function default_mode(options)
  if options.json then return "json" end
  return options.interactive and "auto" or "lua"
end

-- options: json; interactive, at a prompt; commands: those of the command line, by name.
local function new(db, env, options)
  local self = setmetatable({
    db = db,
    env = env,
    commands = options.commands or {},
    output = output.new{json = options.json},
    mode = nil,             -- a key of MODES, below
    modes = MODES,
    timer = false,
    quit = false,
    interactive = options.interactive or false,
    colours = colour.new(STDOUT),
    error_colours = colour.new(STDERR),
    watch = watch.new(db),
    bar = nil,              -- the progress that is shown while the prompt is idle
  }, Console)
  self:set_mode(default_mode(options))
  return self
end

function Console:set_mode(mode)
  self.mode = mode
  self.output.json = mode == "json"
end

function Console:complain(message)
  if message == "" then return end
  self.output:flush()
  local title = self.interactive and self.error_colours:paint(colour.ERROR, "error: ") or "flume: "
  io.stderr:write(title, message, "\n")
end

-- Tells what the JSON that was printed lacks. Returns whether it lacks nothing.
function Console:_tell_losses()
  local losses = self.output:take_losses()
  if losses then self:complain(losses) end
  return not losses
end

function Console:note(text)
  self.output:line(self.colours:paint(colour.NOTE, text))
end

-- What stands above the first prompt.
function Console:greet()
  local count = self.db.since.value + 1
  self:note(("flume %s: %s, %d record%s. Type .help for help."):format(flume._VERSION, self.db.dir, count,
    count == 1 and "" or "s"))
end

-- --- Results ------------------------------------------------------------------------------------------------------

function Console:_as_columns(value, seqs)
  if self.mode ~= "auto" and self.mode ~= "table" then return nil end
  return columns.format(value, {
    width = self.output.width, ascii = self.output.ascii, rows = MAX_ROWS, seqs = seqs,
    is_forced = self.mode == "table",
  })
end

-- One result. At a prompt a string is quoted: what is printed can be read back.
function Console:print_value(value)
  if rawequal(value, self.db.views) and self.mode ~= "json" then return status.print_views(self.db, self.output) end
  local text = self:_as_columns(value)
  if text then
    self.output:line((text:gsub("\n$", "")))
  elseif self.interactive and self.mode ~= "json" then
    local options = {width = self.output.width, ascii = self.output.ascii}
    local format = type(value) == "string" and pretty.format or pretty.top
    self.output:line(self.colours:value(format(value, options)))
  else
    self.output:value(value)
  end
end

-- Records with their seqs, both lists.
function Console:print_records(seqs, records)
  local text = self.interactive and self:_as_columns(records, seqs)
  if text then
    self.output:line((text:gsub("\n$", "")))
  else
    for i, record in ipairs(records) do self.output:record(seqs[i], record) end
  end
end

function Console:_print_source(source)
  local more
  if rows.is_live(source) or rows.is_deltas(source) or not self.interactive then
    more = rows.print(source, self.output, MAX_ROWS)
  else
    local items, seqs
    items, seqs, more = rows.take(source, MAX_ROWS)
    local text = self:_as_columns(items, seqs)
    if text then self.output:line((text:gsub("\n$", ""))) else rows.print_all(items, seqs, self.output) end
  end
  if more then
    self:note(("the first %d; for more: for ... in db:stream{...} do ... end"):format(MAX_ROWS))
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
    self:_print_source(first)
  else
    for i = 1, count do self:print_value((select(i, ...))) end
  end
  return true
end

-- Runs a chunk and prints its results. Returns whether all went well.
function Console:evaluate(chunk)
  local started = progress.now()
  local ok, result = runner.call(function () return self:_print(chunk()) end)
  if not ok then self:complain(repl.located(tostring(result))) end
  if self.timer then self:note(("%.3f s"):format(progress.now() - started)) end
  self.output:flush()
  return self:_tell_losses() and ok and result
end

-- --- Lines --------------------------------------------------------------------------------------------------------

-- where: what stands before a message.
function Console:_command(name, words, where)
  local message = dot.run(self, name, words)
  if message then self:complain(where .. message) end
  self.output:flush()
  return self:_tell_losses() and not message
end

-- Deals with one line. Returns whether all went well.
function Console:take(session, line)
  self.output:measure()
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

-- --- While the prompt is idle ---------------------------------------------------------------------------------------

-- The bar of the builds that are under way. Returns whether it is on the screen.
function Console:_show_progress(build)
  if not build then
    if self.bar then self.bar:__close() end
    self.bar = nil
    return false
  end
  if not self.bar or self.bar.label ~= build.label or self.bar.started ~= build.started then
    self.bar = progress.new{label = build.label, started = build.started}
  end
  self.bar.total = build.total
  if not (self.bar.drawn_at or self.bar:is_due()) or not terminal.hide() then return false end
  self.bar:update(build.done, build.records)
  return true
end

-- Keeps the database going; returns for how many ms it may be left alone, and whether there is a bar where the prompt
-- was.
function Console:idle()
  if terminal.terminated() then
    self.quit = true
    return 0, false
  end
  runner.turn(BUSY_STEP_MS)
  if self.db.closed then return IDLE_MS, false end
  local build = self.watch:look()
  local has_bar = self:_show_progress(build)
  while self.watch:has_note() and terminal.hide() do
    if self.bar then self.bar:__close() end
    self:note(self.watch:take_note())
    self.output:flush()
  end
  return build and 0 or IDLE_MS, has_bar
end

-- What the terminal wants of a completer: what the words have in common, and the words; nil when there are none.
function Console:complete(line, first, last)
  local context = {db = self.db, env = self.env, commands = dot.names(self), modes = MODES}
  local words = complete.candidates(line, first, last, context)
  if #words == 0 then return nil end
  return {complete.common_prefix(words), table.unpack(words)}
end

return {new = new}
