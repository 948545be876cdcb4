-- The command line of flume: what the flume binary runs. `flume --help` says what it does.

local flume = require "flume"
local options = require "flume.cli.options"
local output = require "flume.cli.output"
local runner = require "flume.cli.runner"
local terminal = require "flume.terminal"

local M = {}

local OK, FAILED, USAGE = 0, 1, 2
local STDIN = 0
local ENOENT, ENOTDIR = 2, 20

local HELP = [[
usage: flume [options] DB [command]
       flume new view NAME
       flume test FILE.lua…

DB is the folder of the database, or a JavaScript flumelog-offset file; append,
import and code make the folder when it is not there. Without a command flume reads Lua from the terminal (.help there
lists what else it knows), or runs the lines of Lua that come on standard
input. db, flume and every view by its name are in scope.

commands
  append [FILE|-]      appends lines of JSON; --skip-bad passes over bad lines;
                       --msgpack appends what stream --msgpack prints
  import [FILE|-]      appends what is in another format: --from FORMAT (json,
                       flumelog-offset, async-append-only-log), --skip-bad;
                       --bits N: how wide flumelog-offset's pointers are
  get SEQ              prints a record
  stream               prints records; --gt N --gte N --lt N --lte N bound them,
                       --limit N --reverse; --live goes on with new ones;
                       --msgpack prints them as MessagePack, without any loss
  tail                 prints the last records: -n N of them (10), -f goes on
  NAME.METHOD [ARG…]   calls a method of a view; arguments are JSON, or strings;
                       q.query '[{"$filter": …}]' asks the built-in query view
  status               how far the log and the views are; --wait builds first
  rebuild [NAME]       rebuilds a view, or all, from the log
  drop NAME            removes a view's state from the disk
  compact              removes the bytes of deleted records from the files
  backup DIR           copies the database to the new folder DIR
  check                verifies every byte; --repair mends what is damaged

without a database
  new view NAME        writes a view to begin with, and a test for it
  test FILE.lua…       folds views over the events in test files and compares

options
  -e CODE              runs Lua code and prints what it gives
  --views DIR          mounts the views in DIR ($FLUME_VIEWS when not given)
  --json               prints JSON, one text a line
  --readonly           changes nothing; another process may be writing
  --sync MODE          when an append is safe: always (default), interval, os
  --no-rc              the prompt does not run ~/.flumerc.lua first
  --help, -h, --version
  --                   what follows are no options

exit status: 0 done, 1 failed or interrupted, 2 wrong usage]]

-- Commands that only read the log, those that make a database where there is none, and those that need no views.
local READERS = {get = true, stream = true, tail = true, backup = true, check = true}
local MAKERS = {append = true, import = true}
local NO_VIEWS = {
  append = true, import = true, get = true, stream = true, tail = true, backup = true, check = true,
}

local function complain(message)
  if message == "" then return end
  io.stdout:flush()
  io.stderr:write("flume: ", message, "\n")
end

-- --- Commands -----------------------------------------------------------------------------------------------------

-- Each is called as command(db, request, output) and returns true, or nil and what went wrong.
local COMMANDS = {
  append = function (...) return require "flume.cli.commands.append".run(...) end,
  get = function (...) return require "flume.cli.commands.read".get(...) end,
  stream = function (...) return require "flume.cli.commands.read".stream(...) end,
  tail = function (...) return require "flume.cli.commands.read".tail(...) end,
  compact = function (...) return require "flume.cli.commands.maintain".compact(...) end,
  backup = function (...) return require "flume.cli.commands.maintain".backup(...) end,
  check = function (...) return require "flume.cli.commands.maintain".check(...) end,
}

function COMMANDS.import(db, request, out)
  return require "flume.cli.commands.importers"[request.from or "json"].run(db, request, out)
end

function COMMANDS.status(db, request, out)
  if request.wait then return require "flume.cli.commands.views".wait_and_print(db, out) end
  return require "flume.cli.commands.status".print(db, out)
end

function COMMANDS.rebuild(db, request, out)
  return require "flume.cli.commands.views".rebuild(db, request.words[1], out)
end

function COMMANDS.drop(db, request, out)
  return require "flume.cli.commands.views".drop(db, request.words[1], out)
end

-- Those that need no database: command(request, output).
local WITHOUT_DB = {
  ["new view"] = function (...) return require "flume.cli.commands.template".run(...) end,
  test = function (...) return require "flume.cli.commands.test".run(...) end,
}

-- Whether the lines come from a person at a terminal.
local function is_prompt(request)
  return not request.code and not request.command and terminal.is_tty(STDIN)
end

local function new_console(db, request, interactive)
  local env = require "flume.cli.prompt.scope".new(db)
  local given = {json = request.json, interactive = interactive, commands = COMMANDS}
  return require "flume.cli.prompt.console".new(db, env, given), env
end

local function run_code(db, request)
  local repl = require "flume.cli.prompt.repl"
  local console, env = new_console(db, request)
  local chunk, message = repl.compile(request.code, "=-e", env)
  if not chunk then return nil, message end
  return console:evaluate(chunk) or nil
end

local function run_lines(db, request)
  local repl = require "flume.cli.prompt.repl"
  local interactive = is_prompt(request)
  local console, env = new_console(db, request, interactive)
  local session = repl.new(env, {count_lines = not interactive})
  if not interactive then return repl.batch(session, console, require "flume.cli.prompt.lines".new()) end
  console:greet()
  local rc = require "flume.cli.prompt.rc"
  local path = not request.no_rc and rc.find()
  if path then rc.run(path, console) end
  repl.loop(session, console, terminal)
  return true
end

local function command_of(request)
  if request.code then return run_code end
  if not request.command then return run_lines end
  return COMMANDS[request.command] or require "flume.cli.commands.views".call
end

-- --- The database -------------------------------------------------------------------------------------------------

-- A file in the place of the folder, with something in it, can only be the log itself.
local function is_file(path)
  local folder, _, errno = io.open(path .. "/log")
  if folder then folder:close() end
  local file = not folder and errno == ENOTDIR and io.open(path, "rb")
  if not file then return false end
  local bytes = file:seek "end"
  file:close()
  return bytes ~= nil and bytes > 0
end

-- A path that can't be examined counts as a database: opening it tells why.
local function exists(dir)
  local file, _, errno = io.open(dir .. "/log")
  if file then return file:close() end
  return errno ~= ENOENT and errno ~= ENOTDIR
end

-- What to do when a database can't be opened for writing, for those who only want to look.
local READ_ONLY_HINTS = {
  ELOCKED = "; --readonly reads beside it",
  EACCES = "; --readonly does not write",
  EROFS = "; --readonly does not write",
}

local function hint(request, code)
  if request.readonly or READERS[request.command] or options.WRITERS[request.command] then return "" end
  return READ_ONLY_HINTS[code] or ""
end

-- What to say when there is no database, and none is to be made; nil when there is, or may be.
local function complaint_of_absence(request)
  local makes_one = not request.command or MAKERS[request.command]
  local is_slip = options.is_command(request.db) and not request.code -- the database was forgotten
  if makes_one and not is_slip or exists(request.db) or is_file(request.db) then return nil end
  if is_slip then return options.forgotten(request.db) end
  return ("%s: there is no database here; append and import make one"):format(request.db)
end

local function open(request)
  local complaint = complaint_of_absence(request)
  if complaint then return nil, complaint end
  local offset = is_file(request.db)
  local views = request.views or os.getenv "FLUME_VIEWS"
  if views == "" or NO_VIEWS[request.command] then views = nil end
  local db, message, code = flume.open(request.db, {
    readonly = request.readonly or READERS[request.command] or false,
    damaged = request.command == "check" or nil,
    sync = request.sync,
    views = views,
    log = offset and "offset" or nil,
    watch = views and is_prompt(request) or nil, -- the scripts may be edited meanwhile
  })
  if db then return db end
  return nil, ("%s: %s%s"):format(request.db, message, hint(request, code))
end

-- A plain string is an unexpected error: it needs its traceback.
local function explain(err)
  if type(err) ~= "string" or err == runner.INTERRUPTED then return err end
  return debug.traceback(err, 2)
end

-- Runs fn(output) to its end: the exit status.
local function run_guarded(request, fn)
  local out = output.new{json = request.json}
  local ok, done, message = xpcall(function ()
    local done, message = fn(out)
    out:flush()
    return done, message
  end, explain)
  if not ok then done, message = nil, tostring(done) end
  local losses = out:take_losses()
  if losses then complain(losses) end
  if done then return losses and FAILED or OK end
  if message then complain(message == runner.INTERRUPTED and "interrupted" or message) end
  return FAILED
end

local function run_with_db(request)
  local db, message = open(request)
  if not db then
    complain(message)
    return FAILED
  end
  terminal.watch()
  local status = run_guarded(request, function (out) return command_of(request)(db, request, out) end)
  if not db.closed then
    local closed, why = db:close()
    if not closed then
      complain(why)
      status = FAILED
    end
  end
  return status
end

local function run(request)
  local command = WITHOUT_DB[request.command]
  if not command then return run_with_db(request) end
  return run_guarded(request, function (out) return command(request, out) end)
end

local function print_text(out, text)
  out:line(text)
  return true
end

-- The exit status for a command line.
function M.main(args)
  local request, problem = options.parse(args)
  if not request then
    complain(problem .. "\nTry 'flume --help'.")
    return USAGE
  end
  if request.help then
    return run_guarded(request, function (out) return print_text(out, HELP) end)
  end
  if request.version then
    return run_guarded(request, function (out) return print_text(out, ("flume %s"):format(flume._VERSION)) end)
  end
  return run(request)
end

return M
