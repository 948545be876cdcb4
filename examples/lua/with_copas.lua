-- With copas: a server that appends each line of its clients, and answers with its seq.   lua5.4 with_copas.lua
--
-- For copas flume's loop is one more server: its descriptor becomes readable when flume has work to do.

local copas = require "copas"
local socket = require "socket"
local flume = require "flume"

local loop = flume.loop()
copas.autoclose = false -- a coroutine that waits for flume still needs its socket

local door = {}
function door.getfd() return loop:fd() end
function door.dirty() return false end
function door.settimeout() end
function door.accept() flume.step(0) end
copas.addserver(door, function () end)

-- One turn of both loops.
local function step()
  flume.step(0)
  local timeout_ms = loop:timeout()
  copas.step(timeout_ms >= 0 and timeout_ms / 1000 or nil)
end

-- wait(db, "append", value) calls object:method(...) and suspends this coroutine alone until the call is done. Returns
-- its result, or nil, message, code.
local function wait(object, method, ...)
  local thread, results = coroutine.running(), nil
  local args = table.pack(...)
  args[args.n + 1] = function (...)
    results = table.pack(...)
    copas.addthread(thread)
  end
  object[method](object, table.unpack(args, 1, args.n + 1))
  coroutine.yield()
  if results[1] then return nil, results[1].message, results[1].code end
  return table.unpack(results, 2, results.n)
end

local db = assert(flume.new(flume.log.memory()))

local server = assert(socket.bind("127.0.0.1", 0))
copas.addserver(server, function (client)
  for line in function () return copas.receive(client) end do
    local seq = assert(wait(db, "append", line))
    copas.send(client, seq .. "\n")
  end
  client:close()
end)

-- A client; in real life another program.
local answers
copas.addthread(function ()
  local client = socket.tcp()
  client:settimeout(0)
  copas.connect(client, server:getsockname())
  for _, line in ipairs {"one", "two"} do
    copas.send(client, line .. "\n")
    answers = (answers or "") .. copas.receive(client) .. " "
  end
  client:close()
  answers = answers .. wait(db, "get", 1)
  wait(db, "close")
end)

repeat step() until db.closed
print(answers)                                       --> 0 1 two
