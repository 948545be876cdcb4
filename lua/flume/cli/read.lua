-- flume DB get | stream | tail: records of the log.

local runner = require "flume.cli.runner"

local M = {}

local TAIL_COUNT = 10

function M.get(db, request, output)
  local seq = math.tointeger(tonumber(request.words[1]))
  if not seq then return nil, ("get: '%s' is no sequence number"):format(request.words[1]) end
  local value, message, code = db:get(seq)
  if code then return nil, ("get: record %d: %s"):format(seq, message) end
  if not output.json then
    output:value(value)
    return true
  end
  -- a lazy record keeps the order of its keys
  for _, record in db:stream{gte = seq, lte = seq, lazy = true} do output:value(record) end
  return true
end

-- Prints what a stream gives. Live streams are flushed record by record.
local function print_stream(db, range, output)
  runner.run(function ()
    local stream <close> = db:stream(range)
    for seq, value in stream do
      output:record(seq, value)
      if range.live then output:flush() end
    end
  end)
  return true
end

function M.stream(db, request, output)
  return print_stream(db, {
    gt = request.gt, gte = request.gte, lt = request.lt, lte = request.lte,
    limit = request.limit, reverse = request.reverse, live = request.live, lazy = output.json,
  }, output)
end

-- The seq from which on there are count records up to since, deleted ones not counted.
local function tail_start(db, count)
  local start = db.since.value + 1
  for seq in db:stream{reverse = true, limit = count, values = false} do start = seq end
  return start
end

function M.tail(db, request, output)
  local count = request.count or TAIL_COUNT
  if count < 0 then return nil, ("tail: -n wants a number that is not negative, got %d"):format(count) end
  local range = {gte = tail_start(db, count), live = request.follow, lazy = output.json}
  local ok, err = pcall(print_stream, db, range, output)
  if not ok and not (request.follow and err == runner.INTERRUPTED) then error(err, 0) end
  return true
end

return M
