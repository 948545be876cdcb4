-- What a test leaves behind, taken away again: after_each(fixture.clean).
--
--   fixture.dir()              a new, empty temporary directory
--   fixture.keep(thing)        thing:close() is called in the end; returns thing
--   fixture.memory_db(options), fixture.open_db(dir, options)   a database, kept
--   fixture.write(path, text)  a file, and the folders that it is in; returns path
--   fixture.read(path)         what is in a file
--   fixture.copy(from, to)     a file
--   fixture.segments(dir)      the segment files of a database, in order
--   fixture.run_until(fn)      runs the event loop until fn() is true
--   fixture.recorder()         calls, fn: each call of fn is kept as table.pack(...) in calls
--   fixture.collect(stream)    list of what it gives: {first, second} each

local core = require "flume.core"
local flume = require "flume"
local lfs = require "lfs"

local M = {}

local PATIENCE_MS = 30000

local kept, dirs = {}, {}

local function remove_tree(path)
  if lfs.symlinkattributes(path, "mode") ~= "directory" then return assert(os.remove(path)) end
  for name in lfs.dir(path) do
    if name ~= "." and name ~= ".." then remove_tree(path .. "/" .. name) end
  end
  assert(lfs.rmdir(path))
end

function M.dir()
  local path = os.tmpname()
  os.remove(path)
  assert(lfs.mkdir(path))
  dirs[#dirs + 1] = path
  return path
end

function M.keep(thing)
  kept[#kept + 1] = thing
  return thing
end

function M.memory_db(options)
  return M.keep(assert(flume.new(flume.log.memory(), options)))
end

function M.open_db(dir, options)
  return M.keep(assert(flume.open(dir, options)))
end

local function make_folder(path)
  if lfs.attributes(path) then return end
  make_folder(path:match "^(.*)/")
  assert(lfs.mkdir(path))
end

function M.write(path, text)
  make_folder(path:match "^(.*)/")
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
  return path
end

function M.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

--- Calls fn(path) for every file below the folder.
function M.each_file(folder, fn)
  for name in lfs.dir(folder) do
    local path = folder .. "/" .. name
    if name ~= "." and name ~= ".." then
      if lfs.attributes(path, "mode") == "directory" then M.each_file(path, fn) else fn(path) end
    end
  end
end

--- The files below the folder that have the text in them: a list of paths.
function M.files_with(folder, text)
  local found = {}
  M.each_file(folder, function (path)
    if M.read(path):find(text, 1, true) then found[#found + 1] = path end
  end)
  return found
end

function M.copy(from, to)
  M.write(to, M.read(from))
end

function M.clean()
  for i = #kept, 1, -1 do kept[i]:close() end
  for i = #dirs, 1, -1 do remove_tree(dirs[i]) end
  kept, dirs = {}, {}
end

function M.run_until(fn)
  local deadline = core.now() + PATIENCE_MS
  while not fn() do
    if core.now() > deadline then error("it did not happen", 2) end
    flume.step(100)
  end
end

function M.recorder()
  local calls = {}
  return calls, function (...) calls[#calls + 1] = table.pack(...) end
end

function M.collect(stream)
  local list = {}
  for first, second in stream do list[#list + 1] = {first, second} end
  return list
end

--- The segment files of the database in dir, in order.
function M.segments(dir)
  local list = {}
  for name in lfs.dir(dir .. "/log") do
    if name:find "%.flume$" then list[#list + 1] = dir .. "/log/" .. name end
  end
  table.sort(list)
  return list
end

return M
