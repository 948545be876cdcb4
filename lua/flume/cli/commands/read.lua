-- flume DB get | stream | tail: records of the log.

local runner = require "flume.cli.runner"
local terminal = require "flume.terminal"

local M = {}

local TAIL_COUNT = 10

function M.get(db, request, output)
  local seq = math.tointeger(tonumber(request.words[1]))
  if not seq or seq < 0 then return nil, ("get: '%s' is no sequence number"):format(request.words[1]) end
  local value, message, code = db:get(seq)
  if code == "ENOENT" then return nil, "get: " .. message end
  if code then return nil, ("get: record %d: %s"):format(seq, message) end
  if not output.json then
    output:value(value)
    return true
  end
  -- a lazy record keeps the order of its keys
  for at, record in db:stream{gte = seq, lte = seq, lazy = true} do output:record(at, record) end
  return true
end

-- Prints the records of a range. Returns how many there were, and the seq of the last.
local function print_records(db, range, output)
  local count, last = 0, nil
  for seq, value in db:stream(range) do
    output:record(seq, value)
    count, last = count + 1, seq
  end
  output:flush()
  return count, last
end

local function print_range(db, range, output)
  runner.run(function () print_records(db, range, output) end)
end

-- Whether a range has nothing more to come.
local function is_exhausted(range)
  if range.limit and range.limit <= 0 then return true end
  return range.lte and range.gte > range.lte or range.lt and range.gte >= range.lt or false
end

-- Prints the records of a range, and moves its beginning behind them. Returns whether more may come.
local function print_more(db, range, output)
  local count, last = print_records(db, range, output)
  range.gte = last and last + 1 or range.gte or 0
  range.limit = range.limit and range.limit - count
  return not is_exhausted(range)
end

-- Prints what comes, each record as it comes.
local function print_live(stream, output)
  while true do
    local seq, value, code = stream:next()
    if code then runner.fail(value) end
    if seq == nil then return end
    output:record(seq, value)
    output:flush()
  end
end

-- A reader that has gone, as that of `| head`, is noticed while there is nothing to print, too.
local function why_end()
  return terminal.reader_gone() and ""
end

-- Prints the records of a range, and those that come later. Ctrl-C is the way to end it, and is noticed at any moment.
local function follow(db, range, output)
  local stream
  local ok, message = runner.call(function ()
    if not print_more(db, range, output) then return end
    range.live = true
    stream = db:stream(range)
    print_live(stream, output)
  end, why_end)
  if stream then stream:close() end
  if ok then return true end
  runner.turn(0) -- the task that waited has ended with the stream; that it was interrupted is no news
  if message ~= runner.INTERRUPTED then return nil, message end
  return true
end

function M.stream(db, request, output)
  local range = {
    gt = request.gt, gte = request.gte, lt = request.lt, lte = request.lte,
    limit = request.limit, reverse = request.reverse, lazy = output.json or request.msgpack,
  }
  if request.msgpack then
    if output.is_tty then return nil, "stream: --msgpack writes bytes, for a file or a pipe, not for a terminal" end
    output.prints_packed = true
  end
  if request.live and request.reverse then return nil, "stream: --live and --reverse exclude each other" end
  if request.live then return follow(db, range, output) end
  print_range(db, range, output)
  return true
end

-- The seq from which on there are count records, deleted ones not counted.
local function tail_start(db, count)
  local start = db.since.value + 1
  for seq in db:stream{reverse = true, limit = count, values = false} do start = seq end
  return start
end

function M.tail(db, request, output)
  local count = request.count or TAIL_COUNT
  if count < 0 then return nil, ("tail: -n wants a number that is not negative, got %d"):format(count) end
  local range = {gte = runner.run(tail_start, db, count), lazy = output.json}
  if request.follow then return follow(db, range, output) end
  print_range(db, range, output)
  return true
end

return M
