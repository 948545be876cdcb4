-- What was typed at the prompt, from one session to the next. The file has a statement a line, with a line break in it
-- as \n and a backslash as \\. Each is written when it has been run, to the end of the file: sessions beside each other
-- do not undo each other's, and a crash loses nothing.

local M = {}
M.__index = M

local ENTRIES = 1000

local function path_of()
  local path = os.getenv "FLUME_HISTORY"
  if path then return path ~= "" and path or nil end
  local home = os.getenv "HOME" or ""
  return home ~= "" and home .. "/.flume_history" or nil
end

local function escape(text)
  return (text:gsub("[\\\n]", {["\\"] = "\\\\", ["\n"] = "\\n"}))
end

local function unescape(line)
  return (line:gsub("\\(.)", {["\\"] = "\\", n = "\n"}))
end

local function read_lines(path)
  local lines, file = {}, io.open(path, "rb")
  if not file then return lines end
  local text = file:read "a" or "" -- nil for a folder
  file:close()
  for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
  return lines
end

-- Leaves the last lines in a file that has grown.
local function trim(terminal, path, lines)
  local last = table.concat(lines, "\n", #lines - ENTRIES + 1) .. "\n"
  local fresh = path .. ".new"
  os.remove(fresh)
  if terminal.append_private(fresh, last) then os.rename(fresh, path) end
end

-- The history, with what the file has.
function M.load(terminal)
  local self = setmetatable({
    terminal = terminal,
    path = path_of(), -- nil when nothing is kept
    last = nil,       -- the entry that was added last
  }, M)
  terminal.history_limit(ENTRIES)
  if not self.path then return self end
  local lines = read_lines(self.path)
  for i = math.max(#lines - ENTRIES + 1, 1), #lines do
    self.last = unescape(lines[i])
    terminal.history_add(self.last)
  end
  if #lines > 2 * ENTRIES then trim(terminal, self.path, lines) end
  return self
end

-- One more, unless it is the same as the last. Returns what is wrong when it can't be kept; that is told once.
function M:add(text)
  if text == self.last then return nil end
  self.last = text
  self.terminal.history_add(text)
  if not self.path then return nil end
  local ok, message = self.terminal.append_private(self.path, escape(text) .. "\n")
  if ok then return nil end
  self.path = nil
  return ("the history can't be kept: %s"):format(message)
end

return M
