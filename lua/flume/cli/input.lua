-- Where commands read bytes from: standard input, a file, a named pipe.
--
--   local source <close>, message = input.open(path)   nil or "-": standard input
--   source.total                                       its size in bytes from here on; nil for a pipe and the like
--   local bytes, message = source:read(wait_ms)        "" when nothing has come yet; nil at the end; nil and a message
--
-- A read returns what there is. A byte order mark at the beginning is passed over, also when it comes in pieces, unless
-- the input is no text: input.open(path, {is_text = false}).

local terminal = require "flume.terminal"

local M = {}

local STDIN = 0
local READ_BYTES = 256 * 1024
local BYTE_ORDER_MARK = "\xef\xbb\xbf"

local Source = {}
Source.__index = Source

--- text without the byte order mark at its beginning.
function M.without_mark(text)
  return (text:gsub("^" .. BYTE_ORDER_MARK, ""))
end

-- How many bytes a regular file has from the place of the descriptor on. The descriptor is read without a buffer, so
-- that its place is asked of a file of its own.
local function bytes_left(path, here)
  local file = io.open(path, "rb")
  local size = file and file:seek "end"
  if file then file:close() end
  return size and size > 0 and size - here or nil
end

local function new(fd, name, total, options)
  return setmetatable({
    fd = fd,
    name = name,      -- for messages
    total = total,
    first = "",       -- the first bytes, as long as they may be those of a byte order mark
    begun = options ~= nil and not options.is_text,    -- the beginning is dealt with
  }, Source)
end

function M.open(path, options)
  if not path or path == "-" or path == "/dev/stdin" then
    local here = io.stdin:seek "cur"
    return new(STDIN, "standard input", here and bytes_left("/dev/stdin", here), options)
  end
  local fd, message, is_file = terminal.open(path)
  if not fd then return nil, message end
  return new(fd, path, is_file and bytes_left(path, 0) or nil, options)
end

-- The first bytes, once there are enough of them to tell; "" before.
function Source:_begin(bytes)
  self.first = self.first .. bytes
  if #self.first < #BYTE_ORDER_MARK and BYTE_ORDER_MARK:sub(1, #self.first) == self.first then return "" end
  self.begun = true
  return M.without_mark(self.first)
end

function Source:read(wait_ms)
  local bytes, message = terminal.read(self.fd, READ_BYTES, wait_ms)
  if message then return nil, ("%s: %s"):format(self.name, message) end
  if self.begun then return bytes end
  if bytes then return self:_begin(bytes) end
  self.begun = true
  return self.first ~= "" and self.first or nil
end

function Source:__close()
  if self.fd ~= STDIN then terminal.close(self.fd) end
end

return M
