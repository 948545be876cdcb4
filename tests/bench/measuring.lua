-- What the Lua side of a benchmark shares: the C program beside it, its clock, and its measurements.
--
--   local bench = dofile(".../measuring.lua")(arg)     BENCH DIR RECORDS ROUNDS
--
--   bench.dir, bench.count, bench.rounds
--   bench.run(arguments)      runs the C program; prints its measurements and returns its other lines
--   bench.now()               seconds by the wall clock, which plain Lua can't tell finely: asks the C program, in 1 ms
--   bench.report(test, peer, round, seconds, units)
--   bench.fail(format, …)     ends with exit code 1

return function (arg)
  local program, dir, count = arg[1], arg[2], tonumber(arg[3])
  local M = {dir = dir, count = count, rounds = tonumber(arg[4])}

  function M.fail(format, ...)
    io.stderr:write("bench: ", format:format(...), "\n")
    os.exit(1)
  end

  function M.run(arguments)
    local pipe = assert(io.popen(("'%s' -d '%s' -n %d %s"):format(program, dir, count, arguments)))
    local lines = {}
    for line in pipe:lines() do
      -- a measurement: test, peer, round, seconds, units
      if line:find "^[^\t]+\t[^\t]+\t%d+\t[%d.]+\t%d+$" then print(line) else lines[#lines + 1] = line end
    end
    if not pipe:close() then M.fail("%s failed", arguments) end
    return lines
  end

  function M.now()
    local pipe = assert(io.popen(("'%s' -d '%s' now"):format(program, dir)))
    local ns = pipe:read("n")
    pipe:close()
    return ns / 1e9
  end

  function M.report(test, peer, round, seconds, units)
    print(("%s\t%s\t%d\t%.9f\t%d"):format(test, peer, round, seconds, units))
  end

  return M
end
