-- The dot commands of the prompt.
--
--   dot.run(console, "tail", {"3"})   nil, or what is wrong
--   dot.names(console)                of those there are, in the order of .help

local flume = require "flume"
local nearest = require "flume.cli.nearest"
local options = require "flume.cli.options"
local progress = require "flume.cli.progress"
local runner = require "flume.cli.runner"
local status = require "flume.cli.commands.status"
local views = require "flume.cli.commands.views"

local M = {}

local TAIL_COUNT = 10
local EXPLAIN_COUNT = 10

-- name: {usage =, about =, more =, example =, words = the most it takes (0), run = function (console, words) → nil or
-- what is wrong}
local COMMANDS = {}

local ORDER = {"help", "views", "status", "tail", "explain", "rebuild", "reload", "skip", "check", "compact", "backup",
  "dump", "mode", "timer", "quit"}

local function whole_number(word)
  return math.tointeger(tonumber(word))
end

-- The view of a name, or nil and what is wrong.
local function view_of(console, command, name)
  if not name then return nil, (".%s wants the name of a view"):format(command) end
  local view = console.db.views[name]
  if view then return view end
  return nil, views.no_such_view(console.db, name)
end

-- Calls object:method(...), as a task that Ctrl-C can end. Returns true and its result; nil and what is wrong.
local function call(object, method, ...)
  if not object[method] then return nil, ("this flume has no %s yet"):format(method) end
  local args = table.pack(...)
  local ok, result, message, code = runner.call(function ()
    return object[method](object, table.unpack(args, 1, args.n))
  end)
  if not ok then return nil, tostring(result) end
  if result == nil and code ~= nil then return nil, tostring(message) end
  return true, result
end

-- --- Looking --------------------------------------------------------------------------------------------------------

COMMANDS.help = {
  usage = ".help [COMMAND]", about = "this list, or one command", example = ".help tail", words = 1,
  run = function (console, words) return M.help(console, words[1]) end,
}

COMMANDS.views = {
  usage = ".views", about = "the views and their methods", example = ".views",
  run = function (console) status.print_views(console.db, console.output) end,
}

COMMANDS.status = {
  usage = ".status", about = "how far the log and the views are", example = ".status",
  run = function (console) return select(2, status.print(console.db, console.output)) end,
}

COMMANDS.tail = {
  usage = ".tail [N]", about = "the last N records (10)", example = ".tail 3", words = 1,
  run = function (console, words)
    local count = whole_number(words[1] or TAIL_COUNT)
    if not count or count < 0 then return (".tail wants a number that is not negative, got '%s'"):format(words[1]) end
    local seqs, records = {}, {}
    runner.run(function ()
      for seq, value in console.db:stream{reverse = true, limit = count} do
        table.insert(seqs, 1, seq)
        table.insert(records, 1, value == nil and flume.null or value)
      end
    end)
    console:print_records(seqs, records)
  end,
}

COMMANDS.explain = {
  usage = ".explain VIEW [FROM [TO]]", about = "what a view makes of records", example = ".explain sum 0 9", words = 3,
  run = function (console, words)
    local view, problem = view_of(console, "explain", words[1])
    if not view then return problem end
    local last = console.db.since.value
    local from = words[2] and whole_number(words[2]) or not words[2] and math.max(last - EXPLAIN_COUNT + 1, 0)
    local to = words[3] and whole_number(words[3]) or not words[3] and (words[2] and from or last)
    if not from or not to then return ".explain wants sequence numbers after the view's name" end
    local ok, result = call(view, "explain", {from = from, to = to})
    if not ok then return result end
    console:print_value(result)
  end,
}

-- --- Views ----------------------------------------------------------------------------------------------------------

COMMANDS.rebuild = {
  usage = ".rebuild [VIEW]", about = "rebuilds a view, or all", example = ".rebuild sum", words = 1,
  run = function (console, words)
    local _, message = views.rebuild(console.db, words[1], console.output)
    return message
  end,
}

COMMANDS.reload = {
  usage = ".reload [VIEW]", about = "reads a view's file again, or all", example = ".reload sum", words = 1,
  run = function (console, words)
    if words[1] then
      local view, problem = view_of(console, "reload", words[1])
      if not view then return problem end
    end
    local ok, message = call(console.db, "reload", words[1])
    if not ok then return message end
  end,
}

COMMANDS.skip = {
  usage = ".skip VIEW SEQ", about = "lets a failed view pass a record", example = ".skip sum 12", words = 2,
  run = function (console, words)
    local view, problem = view_of(console, "skip", words[1])
    if not view then return problem end
    local seq = whole_number(words[2])
    if not seq then return (".skip wants a sequence number, got '%s'"):format(words[2] or "nothing") end
    local ok, message = call(view, "skip", seq)
    if not ok then return message end
    console:note(("view %s passes over record %d"):format(words[1], seq))
  end,
}

-- --- The database ---------------------------------------------------------------------------------------------------

-- A command of the command line, on the database that is open.
local function delegate(name)
  return function (console, words)
    local command = console.commands[name]
    if not command then return ("this flume has no %s yet"):format(name) end
    local request, problem = options.parse{"--", console.db.dir or "memory", name, table.unpack(words)}
    if not request then return problem end
    local _, message = command(console.db, request, console.output)
    return message
  end
end

COMMANDS.check = {
  usage = ".check", about = "reads all of the log for damage", example = ".check", words = 1,
  more = "flume DB check --repair repairs a log that no process has open.",
  run = function (console, words)
    if words[1] then return ".check only looks; " .. COMMANDS.check.more:gsub("%.$", "") end
    return delegate "check"(console, words)
  end,
}

COMMANDS.compact = {
  usage = ".compact", about = "removes deleted records from disk", example = ".compact",
  run = delegate "compact",
}

COMMANDS.backup = {
  usage = ".backup DIR", about = "copies the database", example = ".backup ../copy", words = 1,
  run = delegate "backup",
}

-- Writes all records to a file as JSON, with progress.
local function dump(console, file)
  local to_file = require "flume.cli.output".new{json = true, file = file}
  local last = console.db.since.value
  local bar <close> = progress.new{label = "dump", total = last + 1}
  runner.run(function ()
    for seq, record in console.db:stream{lte = last, lazy = true} do
      to_file:record(seq, record)
      bar:update(seq + 1, seq + 1)
    end
  end)
  to_file:flush()
  bar:finish()
  return to_file:take_losses()
end

COMMANDS.dump = {
  usage = ".dump [FILE]", about = "all records as lines of JSON", example = ".dump all.jsonl",
  words = 1, more = "To copy a database, records that JSON can't say included: .backup DIR.",
  run = function (console, words)
    if not words[1] then return dump(console, io.stdout) end
    local present = io.open(words[1], "rb")
    if present then
      present:close()
      return words[1] .. " is there already"
    end
    local file <close>, message = io.open(words[1], "wb")
    if not file then return message end
    return dump(console, file)
  end,
}

-- --- The prompt -----------------------------------------------------------------------------------------------------

COMMANDS.mode = {
  usage = ".mode [MODE]", about = "how results are printed", example = ".mode json", words = 1,
  more = "auto: lists of records in columns where that is readable, all else as Lua.\n"
    .. "lua: as Lua, which can be read back. json: one text a line.\n"
    .. "table: all lists of records in columns.",
  run = function (console, words)
    if not words[1] then
      console.output:line(console.mode)
    elseif console.modes[words[1]] then
      console:set_mode(words[1])
    else
      return (".mode: '%s' is none of auto, lua, json, table"):format(words[1])
    end
  end,
}

COMMANDS.timer = {
  usage = ".timer [on|off]", about = "whether statements tell their time", example = ".timer on", words = 1,
  run = function (console, words)
    if words[1] and words[1] ~= "on" and words[1] ~= "off" then
      return (".timer: '%s' is neither on nor off"):format(words[1])
    end
    if words[1] then console.timer = words[1] == "on" end
    console.output:line(console.timer and "on" or "off")
  end,
}

COMMANDS.quit = {
  usage = ".quit", about = "ends; so does Ctrl-D", example = ".quit",
  run = function (console) console.quit = true end,
}

-- --- All of them ----------------------------------------------------------------------------------------------------

local function unknown(name)
  local hint = nearest.hint(name, ORDER, ".")
  return ("unknown command '.%s'%s"):format(name, hint ~= "" and hint or "; .help lists those there are")
end

local TABLE_WIDTH = 80 -- that of the list of all commands

local function print_all(output)
  local lines = {}
  for i, name in ipairs(ORDER) do
    local command = COMMANDS[name]
    lines[i] = {command.usage, command.about, command.example}
  end
  if output.width >= TABLE_WIDTH then
    return output:table(lines, {header = {"command", "what it does", "for example"}})
  end
  for _, line in ipairs(lines) do output:line(("%s\n    %s; %s"):format(table.unpack(line))) end
end

function M.help(console, name)
  local command = COMMANDS[name]
  if name and not command then return unknown(name) end
  if command then
    console.output:line(("%s   %s"):format(command.usage, command.about))
    if command.more then console.output:line(command.more) end
    console.output:line("for example: " .. command.example)
    return
  end
  print_all(console.output)
  console.output:line "All else is Lua; in scope: db, flume, _ (the last result),"
  console.output:line "each view by its name"
  console.output:line 'db:append{name = "ada"}   db:get(0)   db:stream{limit = 3}'
end

function M.names()
  return ORDER
end

function M.run(console, name, words)
  local command = COMMANDS[name]
  if not command then return unknown(name) end
  local most = command.words or 0
  if #words > most then return (".%s: '%s' is one word too many"):format(name, words[most + 1]) end
  local ok, message = pcall(command.run, console, words)
  return message ~= nil and (ok and message or tostring(message)) or nil
end

return M
