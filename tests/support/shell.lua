-- Shell commands, run to their end.
--
--   shell.run(command)      what it writes (standard output and error), and whether it went well
--   shell.output(command)   the same of one that has to go well; raises otherwise
--   shell.quote(text)       text as one word
--   shell.has(program)      whether there is such a program
--   shell.make(arguments)   make, for the build tree that is tested; what it writes

local M = {}

M.build = os.getenv "BUILD" or "build"

function M.quote(text)
  return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

function M.run(command)
  local pipe = assert(io.popen("exec 2>&1; " .. command))
  local text = pipe:read "a"
  local ok = pipe:close()
  return text, ok == true
end

function M.output(command)
  local text, ok = M.run(command)
  if not ok then error(("%s\n%s"):format(command, text), 2) end
  return text
end

function M.has(program)
  return (select(2, M.run("command -v " .. program)))
end

function M.make(arguments)
  return M.output(("make -s --no-print-directory BUILD=%s %s"):format(M.build, arguments))
end

return M
