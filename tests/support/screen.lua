-- flume in a terminal of its own, which tmux makes: keys go in, the screen comes out.
--
--   local screen = screen.start{arguments = "data", env = "NO_COLOR=1", columns = 80, rows = 24}
--   screen:enter "1 + 1"          waits for the prompt, types a line
--   screen:expect "2"             waits until that is on the screen
--   screen:keys("C-c", "Up")      tmux's names of keys
--   screen:type "db:"             letter by letter, without Enter
--   screen:paste "a\tb"           as a terminal pastes it
--   screen:text()                 the screen as it is
--   screen:quit()                 .quit; the exit status
--
-- Nothing is asked twice within a fixed time: each look at the screen is a process, which is pause enough.

local fixture = require "tests.support.fixture"

local Screen = {}
Screen.__index = Screen

local PATIENCE_SECONDS = 60

local M = {is_available = os.execute "command -v tmux >/dev/null 2>&1" == true}

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

function Screen:_tmux(...)
  local words = {"TMUX_TMPDIR=" .. self.dir, "LC_ALL=C.UTF-8", "tmux -f /dev/null"}
  for _, word in ipairs {...} do words[#words + 1] = quote(word) end
  return table.concat(words, " ")
end

function Screen:_run(...)
  assert(os.execute(self:_tmux(...)), "tmux " .. table.concat({...}, " "))
end

-- options: arguments of flume (a new database), env (assignments for env), columns, rows, dir (for its history).
function M.start(options)
  options = options or {}
  local dir = fixture.dir()
  local self = fixture.keep(setmetatable({dir = dir, is_open = false}, Screen))
  local line = ("env -u NO_COLOR -u FLUME_VIEWS -u FLUME_PROGRESS -u XDG_CONFIG_HOME HOME=%s FLUME_HISTORY=%s/history "
    .. "TERM=screen env %s flume %s"):format(dir, options.dir or dir, options.env or "",
    options.arguments or dir .. "/data")
  self:_run("new-session", "-d", "-x", tostring(options.columns or 80), "-y", tostring(options.rows or 24),
    ("echo; %s; echo status $?.; exec cat"):format(line))
  self.is_open = true
  return self
end

-- colours: with escape sequences.
function Screen:text(colours)
  local pipe = assert(io.popen(self:_tmux("capture-pane", "-p", colours and "-e" or "-J")))
  local text = pipe:read "a"
  pipe:close()
  return (text:gsub(" +\n", "\n"))
end

-- Waits until fn(text of the screen) is true; returns what it gave.
function Screen:wait(what, fn, colours)
  local deadline = os.time() + PATIENCE_SECONDS
  repeat
    local text = self:text(colours)
    local result = fn(text)
    if result then return result end
  until os.time() > deadline
  error(("%s did not come; the screen is:\n%s"):format(what, self:text()), 3)
end

function Screen:expect(text)
  self:wait(("%q"):format(text), function (screen) return screen:find(text, 1, true) end)
end

function Screen:expect_in_colours(text)
  self:wait(("%q"):format(text), function (screen) return screen:find(text, 1, true) end, true)
end

-- Waits for the last line on the screen.
function Screen:expect_last(line)
  self:wait(("the last line %q"):format(line), function (screen)
    return screen:match "([^\n]*)%s*$" == line
  end)
end

function Screen:expect_prompt()
  self:expect_last "flume>"
end

function Screen:keys(...)
  self:_run("send-keys", ...)
end

function Screen:type(text)
  self:_run("send-keys", "-l", "--", text)
end

-- Pastes text, marked as pasted if the program asked for that.
function Screen:paste(text)
  fixture.write(self.dir .. "/pasted", text)
  self:_run("load-buffer", self.dir .. "/pasted")
  self:_run("paste-buffer", "-p", "-r")
end

-- Types a line, once there is a prompt.
function Screen:enter(text)
  self:expect_prompt()
  self:type(text)
  self:keys "Enter"
end

function Screen:resize(columns, rows)
  self:_run("resize-window", "-x", tostring(columns), "-y", tostring(rows))
end

-- Waits for the end of flume; its exit status.
function Screen:status()
  return self:wait("the end", function (screen) return tonumber(screen:match "status (%d+)%.") end)
end

function Screen:quit()
  self:enter ".quit"
  return self:status()
end

-- The process id of flume.
function Screen:pid()
  local pipe = io.popen(("pgrep -P $(%s)"):format(self:_tmux("display-message", "-p", "#{pane_pid}")))
  local pid = pipe:read "n"
  pipe:close()
  return pid
end

function Screen:close()
  if self.is_open then os.execute(self:_tmux "kill-server" .. " 2>/dev/null") end
  self.is_open = false
end

return M
