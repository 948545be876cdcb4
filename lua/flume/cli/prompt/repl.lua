-- The REPL: what the lines typed mean, and the loop that reads them.
--
-- A session takes lines one by one and does no I/O:
--
--   local session = repl.new(env)
--   session:feed "for i = 1, 3 do"   → "more"
--   session:feed "print(i) end"      → "run", a function
--   session:feed "1 + 1"             → "run", a function that returns 2
--   session:feed "oops("             → "more"
--   session:feed "oops)"             → "error", a message
--   session:feed ".tail 3"           → "command", "tail", {"3"}
--   session:feed ""                  → "nothing"
--
-- The rules are those of lua.c: a line is tried as an expression first, and goes on while Lua says that it is not
-- complete. Unlike there, locals at the top level live on.

local toplevel = require "flume.cli.prompt.toplevel"

local M = {}

local Session = {}
Session.__index = Session
Session.__name = "flume.repl"

-- env: the globals of what is typed. options: count_lines, so that errors tell the line of all that was fed, not of the
-- statement.
function M.new(env, options)
  return setmetatable({
    env = env,
    count_lines = options and options.count_lines or false,
    lines = {},       -- of a statement that is not complete yet
    line_number = 0,  -- of the last line fed
    source = nil,     -- the statement that was completed last
  }, Session)
end

-- The chunk for a whole text: an expression or statements. nil and a message otherwise.
function M.compile(text, chunk_name, env)
  local before = text:find "^\27" and " " or "" -- else it were bytecode
  local chunk = load(before .. "return " .. text, chunk_name, "t", env)
  if chunk then return chunk end
  return load(before .. toplevel.promote(text), chunk_name, "t", env)
end

function Session:pending()
  return #self.lines > 0
end

function Session:reset()
  self.lines = {}
end

-- Lua counts the lines of each chunk from 1. The name of the chunk tells with which line it begins, and located adds
-- them up. (As many empty lines before it would do the same, and for a long script take for ever.)
function Session:_compile(text)
  local first_line = self.count_lines and self.line_number - #self.lines + 1 or 1
  if first_line == 1 then return M.compile(text, "=stdin", self.env) end
  local chunk, message = M.compile(text, ("=stdin:%d"):format(first_line), self.env)
  if chunk then return chunk end
  return nil, (message:gsub("( at line )(%d+)", function (at, line) return at .. line + first_line - 1 end))
end

--- A message, or a traceback, with the lines of all that was fed.
function M.located(message)
  return (message:gsub("stdin:(%d+):(%d+)", function (first_line, line)
    return ("stdin:%d"):format(first_line + line - 1)
  end))
end

-- The words of a text; one in quotes may have spaces in it.
local function split_words(text)
  local words, at = {}, text:find "%S"
  while at do
    local word, after = text:match("^([\"'].-[\"'])()%f[%s\0]", at)
    if word and word:sub(1, 1) == word:sub(-1) then
      word = word:sub(2, -2)
    else
      word, after = text:match("^(%S+)()", at)
    end
    words[#words + 1] = word
    at = text:find("%S", after)
  end
  return words
end

function Session:feed(line)
  self.line_number = self.line_number + 1
  if not self:pending() then
    local name, rest = line:match "^%s*%.(%a[%w_]*)%s*(.*)$"
    if name then
      self.source = line
      return "command", name, split_words(rest)
    end
    if not line:find "%S" then return "nothing" end
  end
  self.lines[#self.lines + 1] = line
  local text = table.concat(self.lines, "\n")
  local chunk, message = self:_compile(text)
  if not chunk and message:find "<eof>$" then return "more" end
  self.source = text
  self:reset()
  if not chunk then return "error", M.located(message) end
  return "run", chunk
end

-- What is wrong with a statement that ends before it is complete; nil when there is none.
function Session:finish()
  if not self:pending() then return nil end
  local _, message = self:_compile(table.concat(self.lines, "\n"))
  self:reset()
  return M.located(message)
end

-- --- The loop -----------------------------------------------------------------------------------------------------

local PROMPT, PROMPT_MORE = "flume> ", "    -> "

-- Lines of editrc(5): Alt-Enter breaks the line at the cursor, Ctrl-R searches the history.
local KEYS = {"bind -s ^[^M ^V^J", "bind -s ^[^J ^V^J", "bind ^R em-inc-search-prev"}

-- What was typed or pasted, in the pieces that run one after the other: a whole where it is one statement, and lines
-- elsewhere.
local function pieces_of(session, text)
  text = text:gsub("\n+$", "")
  local is_whole = not text:find("\n", 1, true) or session:pending() or M.compile(text, "=stdin", session.env)
  if is_whole then return {text} end
  local pieces = {}
  for line in (text .. "\n"):gmatch "(.-)\n" do pieces[#pieces + 1] = line end
  return pieces
end

local function take_line(self, line)
  local session = self.session
  self.console:take(session, line)
  if session:pending() or not line:find "%S" then return end
  local complaint = self.history:add((session.source:gsub("%s+$", "")))
  if complaint then self.console:complain(complaint) end
end

-- What the terminal gave: a line, or nil and why there is none. Returns false when it is the end.
local function take(self, line, why)
  local session = self.session
  if line then
    for _, piece in ipairs(pieces_of(session, line)) do
      if self.console.quit then break end
      take_line(self, piece)
    end
  elseif why == "interrupted" then
    session:reset()
  else
    return false
  end
  return not self.console.quit
end

-- Reads and runs lines until .quit, the end of input, or a signal to end. console: see flume.cli.console.
function M.loop(session, console, terminal)
  local self = {session = session, console = console, history = require "flume.cli.prompt.history".load(terminal)}
  for _, line in ipairs(KEYS) do terminal.bind(line) end
  terminal.set_completer(function (...) return console:complete(...) end)
  local idle = function () return console:idle() end
  repeat
    local line, why = terminal.readline(session:pending() and PROMPT_MORE or PROMPT, idle)
  until terminal.terminated() or not take(self, line, why)
end

-- Runs the lines that next_line() gives, stopping at the first error. Returns true; or nil and what went wrong, if that
-- has not been told.
function M.batch(session, console, next_line)
  local line, message = next_line()
  while line do
    if not console:take(session, line) then return nil end
    if console.quit then return true end
    line, message = next_line()
  end
  message = message or session:finish()
  return not message or nil, message
end

return M
