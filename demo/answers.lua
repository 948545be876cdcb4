-- Prints answers of the demo's views as tables. Run by demo/run as flume DB -e.
-- luacheck: globals db

local pretty = require "flume.pretty"
local progress = require "flume.cli.progress"

local SECTIONS, MAINTAINERS, BAR_CELLS = 10, 10, 20
local LIBRARIES = {"libuv1", "liblua5.4-0", "liblmdb0", "libedit2", "libsqlite3-0"}
local NAMES_SHOWN = 6

local function title(text)
  print(("\n%s"):format(text))
end

local function show_sections()
  local list = {}
  for name, section in pairs(db.sections:get()) do
    list[#list + 1] = {name = name, packages = section.packages, bytes = section.bytes}
  end
  table.sort(list, function (a, b) return a.packages > b.packages end)
  local rows = {}
  for i = 1, math.min(SECTIONS, #list) do
    local section = list[i]
    rows[i] = {
      section.name, progress.thousands(section.packages), progress.bytes(section.bytes),
      progress.bar(section.packages / list[1].packages, BAR_CELLS),
    }
  end
  title(("The largest of %d sections (view sections)"):format(#list))
  io.write(pretty.columns(rows, {header = {"section", "packages", "download"}, right = {[2] = true, [3] = true}}))
end

local function show_maintainers()
  local list, rows = db.maintainers:top(MAINTAINERS), {}
  for i, maintainer in ipairs(list) do
    rows[i] = {
      maintainer.name, progress.thousands(maintainer.packages),
      progress.bar(maintainer.packages / list[1].packages, BAR_CELLS),
    }
  end
  title "The busiest maintainers (view maintainers, method top)"
  io.write(pretty.columns(rows, {header = {"maintainer", "packages"}, right = {[2] = true}}))
end

local function show_dependents()
  local rows = {}
  for i, library in ipairs(LIBRARIES) do
    local names = db.dependents:of(library)
    local shown = table.concat(names, ", ", 1, math.min(NAMES_SHOWN, #names))
    rows[i] = {library, progress.thousands(#names), #names > NAMES_SHOWN and shown .. ", …" or shown}
  end
  title "The dependents of flume's libraries, and of SQLite (view dependents, method of)"
  io.write(pretty.columns(rows, {header = {"package", "dependents"}, right = {[2] = true}}))
end

show_sections()
show_maintainers()
show_dependents()
