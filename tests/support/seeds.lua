-- The seed of the random tests of this process.
--
--   seeds.take()   FLUME_TEST_SEED, or a different number in each run
--   seeds.taken    the seed, once a test has taken it: busted_output.lua prints it when a test failed

local M = {}

local seed = math.tointeger(tonumber(os.getenv "FLUME_TEST_SEED")) or os.time() % 1000000

function M.take()
  M.taken = seed
  return seed
end

return M
