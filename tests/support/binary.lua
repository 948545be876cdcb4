-- The flume binary, run as a process.
--
--   binary.run(args, {input =, env =})      to its end: {out =, err =, code =}
--   binary.output(args, options)            the output of a run that has to go well
--   binary.failure(args, options [, code])  what one that has to fail says, and its output
--   binary.start(args, redirections, fifo)  one that runs beside the test
--   binary.command(args, env)               its command line for the shell
--   binary.filled(count)                    a database with the records {n = 1} … {n = count}
--   binary.SUM:format(version)              a view of these, with methods of each type

local assert = require "luassert"
local flume = require "flume"
local fixture = require "tests.support.fixture"

local M = {}

local PATIENCE_SECONDS = 60

M.SUM = [[
return {
  version = %d, initial = 0,
  reducer = function (sum, item) return sum + (item.n or 0) end,
  methods = {add = "async", list = "source", pairs = "source", now = "sync", kind = "async", fail = "async"},
  add = function (view, a, b) return {sum = view:get(), more = a + (b or 0)} end,
  list = function (view, n)
    local list = {}
    for i = 1, n do list[i] = i * view:get() end
    return list
  end,
  pairs = function () return ipairs {"a", "b"} end,
  now = function (view) return view:get() end,
  kind = function (_, value) return type(value) == "table" and #value or type(value) end,
  fail = function () error "no luck" end,
}
]]

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

function M.read_file(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

-- The command line for the shell; env is a string of assignments.
function M.command(args, env)
  local words = {"env --default-signal=HUP -u FLUME_VIEWS -u FLUME_PROGRESS", env or "", "flume"} -- nohup ignores it
  for _, arg in ipairs(args) do words[#words + 1] = quote(arg) end
  return table.concat(words, " ")
end

-- Runs flume to its end: {out =, err =, code =}. options: input (text), env.
function M.run(args, options)
  options = options or {}
  local dir = fixture.dir()
  fixture.write(dir .. "/in", options.input or "")
  local _, _, code = os.execute(("%s <%s/in >%s/out 2>%s/err"):format(M.command(args, options.env), dir, dir, dir))
  return {out = M.read_file(dir .. "/out"), err = M.read_file(dir .. "/err"), code = code}
end

-- The output of a run that has to go well.
function M.output(args, options)
  local result = M.run(args, options)
  assert.equal("", result.err)
  assert.equal(0, result.code)
  return result.out
end

-- What a run that has to fail says on standard error.
function M.failure(args, options, code)
  local result = M.run(args, options)
  assert.equal(code or 1, result.code)
  assert.is_not_nil(result.err:find "^flume: ")
  return result.err, result.out
end

-- A flume that runs beside the test: {pid =, pipe = what it prints, and in the end its exit status}. redirections are
-- for the shell; fifo is one that they name, and is made.
function M.start(args, redirections, fifo)
  if fifo then assert(os.execute("mkfifo " .. fifo)) end
  local line = M.command(args):gsub("'", "'\\''")
  local pipe = io.popen(("sh -c 'echo $$; exec %s %s'; echo $?"):format(line, redirections or ""))
  local child = {pid = pipe:read "l", pipe = pipe}
  function child.interrupt() os.execute("kill -INT " .. child.pid) end
  function child:close()
    os.execute(("kill -KILL %s 2>/dev/null"):format(self.pid))
    pipe:close()
  end
  return fixture.keep(child)
end

-- Waits until fn() is true. fn runs a process, which is pause enough.
function M.wait_until(fn)
  local deadline = os.time() + PATIENCE_SECONDS
  while not fn() do
    if os.time() > deadline then error("it did not happen", 2) end
  end
end

-- A database with the records {n = 1} … {n = count}.
function M.filled(count)
  local dir = fixture.dir() .. "/data"
  local db = assert(flume.open(dir))
  for n = 1, count do assert(db:append{n = n}) end
  db:close()
  return dir
end

return M
