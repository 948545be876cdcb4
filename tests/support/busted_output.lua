-- busted's plain output without a dot for each test, then the reasons of skipped tests, the seed when a random test may
-- have failed, and a last line that tests/run adds up.

local seeds = require "tests.support.seeds" -- before any file of specs: each gets this copy

local PROGRESS = os.getenv "FLUME_TEST_PROGRESS" -- a file for the name of the running test: a crash prints nothing

local function tell_running(name)
  local file = PROGRESS and io.open(PROGRESS, "w")
  if not file then return end
  file:write(name, seeds.taken and ", FLUME_TEST_SEED=" .. seeds.taken or "", "\n")
  file:close()
end

return function (options)
  local busted = require "busted"
  options.deferPrint = true
  local handler = require "busted.outputHandlers.plainTerminal"(options)
  busted.subscribe({"test", "start"}, function (element, parent)
    tell_running(parent.name .. ": " .. element.name)
    return nil, true
  end)
  busted.subscribe({"exit"}, function ()
    for _, pending in ipairs(handler.pendings) do
      print("  skipped: " .. tostring(pending.message or pending.name):gsub("\n.*", ""))
    end
    local failed = handler.failuresCount + handler.errorsCount
    if seeds.taken and failed > 0 then print("FLUME_TEST_SEED=" .. seeds.taken) end
    print(("%d passed, %d failed, %d skipped"):format(handler.successesCount, failed, handler.pendingsCount))
    return nil, true
  end)
  return handler
end
