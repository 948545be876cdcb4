-- The command line of the flume binary as a table.
--
--   local request, problem = options.parse{"data", "stream", "--limit", "3"}
--   request = {db = "data", command = "stream", words = {}, limit = 3}
--
-- Options may stand anywhere; after "--" nothing is one. A name that begins with "-" and reads as a number is a word.
-- `new view NAME` and `test FILE.lua …` need no database.

local importers = require "flume.cli.commands.importers"
local nearest = require "flume.cli.nearest"

local M = {}

local A_FORMAT = "a format (" .. table.concat(nearest.keys(importers), ", ") .. ")"

-- name: what it is in the request. takes: what it wants after it, a key of READERS; nil for a switch. of: the commands
-- that know it; nil for all.
local OPTIONS = {
  ["--json"] = {name = "json"},
  ["--readonly"] = {name = "readonly"},
  ["--views"] = {name = "views", takes = "a folder"},
  ["--sync"] = {name = "sync", takes = "always, interval or os"},
  ["-e"] = {name = "code", takes = "code", of = {[""] = true}},
  ["--help"] = {name = "help"},
  ["-h"] = {name = "help"},
  ["--version"] = {name = "version"},
  ["--no-rc"] = {name = "no_rc", of = {[""] = true}},
  ["--msgpack"] = {name = "msgpack", of = {append = true, stream = true}},
  ["--skip-bad"] = {name = "skip_bad", of = {append = true, import = true}},
  ["--from"] = {name = "from", takes = A_FORMAT, of = {import = true}},
  ["--bits"] = {name = "bits", takes = "32, 48 or 53", of = {import = true}},
  ["--gt"] = {name = "gt", takes = "a whole number", of = {stream = true}},
  ["--gte"] = {name = "gte", takes = "a whole number", of = {stream = true}},
  ["--lt"] = {name = "lt", takes = "a whole number", of = {stream = true}},
  ["--lte"] = {name = "lte", takes = "a whole number", of = {stream = true}},
  ["--limit"] = {name = "limit", takes = "a whole number", of = {stream = true}},
  ["--reverse"] = {name = "reverse", of = {stream = true}},
  ["--live"] = {name = "live", of = {stream = true}},
  ["-f"] = {name = "follow", of = {tail = true}},
  ["-n"] = {name = "count", takes = "a whole number", of = {tail = true}},
  ["--wait"] = {name = "wait", of = {status = true}},
  ["--repair"] = {name = "repair", of = {check = true}},
}

local READERS = {
  ["a folder"] = function (text) return text ~= "" and text or nil end,
  ["code"] = function (text) return text end,
  [A_FORMAT] = function (text) return importers[text] and text end,
  ["32, 48 or 53"] = function (text)
    return (text == "32" or text == "48" or text == "53") and math.tointeger(tonumber(text)) or nil
  end,
  ["a whole number"] = function (text) return math.tointeger(tonumber(text)) end,
  ["always, interval or os"] = function (text)
    return (text == "always" or text == "interval" or text == "os") and text or nil
  end,
}

-- How many words a command takes after its name: at least, at most; and what it wants when there are fewer.
local COMMANDS = {
  append = {0, 1},
  import = {0, 1},
  get = {1, 1, "a sequence number"},
  stream = {0, 0},
  tail = {0, 0},
  status = {0, 0},
  rebuild = {0, 1},
  drop = {1, 1, "the view's name"},
  compact = {0, 0},
  backup = {1, 1, "a folder"},
  check = {0, 0},
  ["new view"] = {1, 1, "the view's name"},
  test = {1, math.huge, "a file; a database of the name test is ./test"},
}

-- Commands that want to write, whatever else.
M.WRITERS = {append = true, import = true, compact = true, drop = true}

local function is_view_call(command)
  return command:find "^[%a_][%w_%-]*%.[%a_][%w_]*$" ~= nil
end

local function is_option(word)
  return word:sub(1, 1) == "-" and word ~= "-" and not tonumber(word)
end

-- Reads the option at args[i] into request; returns the index of the last argument it used, or nil and the problem.
local function read_option(args, i, request)
  local name, value = args[i]:match "^(%-%-[^=]+)=(.*)$"
  name = name or args[i]
  local option = OPTIONS[name]
  if not option then
    return nil, ("unknown option '%s'%s"):format(name, nearest.hint(name, nearest.keys(OPTIONS)))
  end
  if not option.takes then
    if value then return nil, ("%s takes no value, got '%s'"):format(name, value) end
    request[option.name] = true
  else
    if not value then
      i = i + 1
      value = args[i]
    end
    if not value then return nil, ("%s wants %s after it"):format(name, option.takes) end
    local read = READERS[option.takes](value)
    if read == nil then return nil, ("%s wants %s, got '%s'"):format(name, option.takes, value) end
    request[option.name] = read
  end
  request.given[#request.given + 1] = name
  return i
end

-- Whether "new" or "test" is a database: what follows is a command for it, or code.
local function is_database(request, following)
  if request.code then return true end
  if not following or following:find "%.lua$" then return false end
  return COMMANDS[following] ~= nil or is_view_call(following)
end

-- Sorts the words: DB COMMAND WORD…, or a command that needs no database. Databases may be called new and test.
local function take_command(request, words)
  request.words = words
  local first = words[1]
  if (first == "new" or first == "test") and not is_database(request, words[2]) then
    request.command = first
    if first == "new" and words[2] == "view" then request.command = table.remove(words, 1) .. " view" end
  else
    request.db = table.remove(words, 1)
    request.command = words[1]
  end
  table.remove(words, 1)
end

local function read_all(args)
  local request, words, i, only_words = {given = {}}, {}, 1, false
  while i <= #args do
    if only_words or not is_option(args[i]) then
      words[#words + 1] = args[i]
    elseif args[i] == "--" then
      only_words = true
    else
      local last, problem = read_option(args, i, request)
      if not last then return nil, problem end
      i = last
    end
    i = i + 1
  end
  take_command(request, words)
  return request
end

local function check_options(request)
  local command = request.command or ""
  if request.readonly and (M.WRITERS[command] or request.repair) then
    return ("--readonly changes nothing, and %s does"):format(request.repair and "--repair" or command)
  end
  for _, name in ipairs(request.given) do
    local of = OPTIONS[name].of
    if of and not of[command] then
      if of[request.db] then return M.forgotten(request.db) end
      if of[""] then return ("%s and the command '%s' exclude each other"):format(name, command) end
      return ("%s is an option of %s"):format(name, table.concat(nearest.keys(of), " and "))
    end
  end
end

local function check_words(request)
  local command, count = request.command, #request.words
  if not command or is_view_call(command) then return end
  local bounds = COMMANDS[command]
  if command == "new" and not request.db then
    return "new view NAME is what there is; a database of the name new is ./new"
  end
  if not bounds and COMMANDS[request.db] then return M.forgotten(request.db) end
  if not bounds then
    return ("unknown command '%s'%s"):format(command, nearest.hint(command, nearest.keys(COMMANDS)))
  end
  if count < bounds[1] then return ("%s wants %s"):format(command, bounds[3]) end
  if count > bounds[2] then return ("%s: '%s' is one argument too many"):format(command, request.words[count]) end
end

-- What to say when a command stands where the database should.
function M.forgotten(command)
  return ("which database? It comes first: flume DB %s"):format(command)
end

-- Whether a word is a command's name.
function M.is_command(word)
  return COMMANDS[word] ~= nil
end

-- All options and commands by name, sorted.
function M.names()
  return nearest.keys(OPTIONS), nearest.keys(COMMANDS)
end

-- The request: db, command (nil for none), words after it, and the options by name. nil and what is wrong otherwise.
function M.parse(args)
  local request, problem = read_all(args)
  if not request then return nil, problem end
  if request.help or request.version then return request end
  if request.db == "" or not (request.db or request.command) then return nil, "which database?" end
  problem = check_words(request) or check_options(request)
  if problem then return nil, problem end
  return request
end

return M
