-- Scripts of views under versions that change, and a database on them.
--
--   scripts.new(sources)       of name -> source, in which each V stands for the version; in a folder of its own
--
--   made:write(name, version)  the script, at this version
--   made:write_all()           all of them, at version 1
--   made:open([options])       the database, kept
--   made.versions, .folder, .dir
--   scripts.kill_after(n, program, args...)  runs a program in a process of its own, and kills it when it has printed n
--                              numbers

local child = require "tests.support.child"
local fixture = require "tests.support.fixture"

local M = {}

local Scripts = {}
Scripts.__index = Scripts

function M.new(sources)
  return setmetatable({sources = sources, versions = {}, dir = fixture.dir() .. "/db", folder = fixture.dir()}, Scripts)
end

function Scripts:write(name, version)
  self.versions[name] = version
  fixture.write(("%s/%s.lua"):format(self.folder, name), (self.sources[name]:gsub("%f[%w]V%f[%W]", tostring(version))))
end

function Scripts:write_all()
  for name in pairs(self.sources) do self:write(name, 1) end
end

function Scripts:open(options)
  local given = {views = self.folder, sync = "os"}
  for name, value in pairs(options or {}) do given[name] = value end
  return fixture.open_db(self.dir, given)
end

function M.kill_after(count, program, ...)
  local pipe, pid = child.start(program, ...)
  for _ = 1, count do assert(math.tointeger(tonumber(pipe:read "l"))) end
  os.execute("kill -9 " .. pid)
  pipe:read "a"
  pipe:close()
end

return M
