-- flume test FILE.lua…: the cases in files, run. A file returns what flume.testing's run takes; `flume new view` writes
-- one to begin with. The view and files of events are named by paths that begin at the file.

local flume = require "flume"
local input = require "flume.cli.input"
local runner = require "flume.cli.runner"
local testing = require "flume.testing"

local M = {}

local function beside(path, name)
  if name:find "^/" then return name end
  return (path:match "^(.*)/[^/]*$" or ".") .. "/" .. name
end

-- The chunk in a file; nil and what is wrong.
local function load_file(path)
  local file <close>, problem = io.open(path)
  if not file then return nil, problem end
  local text, message = file:read "a"
  if not text then return nil, ("%s: %s"):format(path, message) end
  return load((input.without_mark(text):gsub("^#[^\n]*", "")), "@" .. path, "t")
end

-- The events in a file of lines of JSON.
local function read_events(path)
  local events, number = {}, 0
  local file <close>, problem = io.open(path)
  if not file then error(problem, 0) end
  for line in file:lines() do
    number = number + 1
    if number == 1 then line = input.without_mark(line) end
    if line:find "%S" then
      local value, message = flume.json.decode(line)
      if message then error(("%s: line %d: %s"):format(path, number, message), 0) end
      events[#events + 1] = value == nil and flume.null or value
    end
  end
  return events
end

-- The spec in a file, with all paths resolved. nil and what is wrong.
local function load_spec(path)
  local chunk, message = load_file(path)
  if not chunk then return nil, message end
  local ok, spec = runner.call(chunk)
  if not ok then return nil, tostring(spec) end
  if type(spec) ~= "table" or spec.view == nil then
    return nil, path .. ": a test file returns a table with the field view, and cases"
  end
  if #spec == 0 then return nil, path .. ": there are no cases" end
  if type(spec.view) == "string" then spec.view = beside(path, spec.view) end
  for _, case in ipairs(spec) do
    if type(case) == "table" and type(case.events) == "string" then
      local read, events = pcall(read_events, beside(path, case.events))
      if not read then return nil, tostring(events) end
      case.events = events
    end
  end
  return spec
end

local function report(path, results, output)
  if output.json then
    output:value{file = path, results = results}
    return
  end
  for _, result in ipairs(results) do
    output:line(("%s  %s: %s"):format(result.ok and "ok    " or "FAILED", path, result.name))
    if not result.ok then output:line("        " .. result.message:gsub("\n", "\n        ")) end
  end
end

-- Returns true, or nil and what went wrong.
function M.run(request, output)
  local passed, failed = 0, 0
  for _, path in ipairs(request.words) do
    local spec, message = load_spec(path)
    if not spec then return nil, message == runner.INTERRUPTED and message or "test: " .. message end
    local results = runner.run(testing.run, spec)
    report(path, results, output)
    for _, result in ipairs(results) do
      if result.ok then passed = passed + 1 else failed = failed + 1 end
    end
  end
  if not output.json then output:line(("%d passed, %d failed"):format(passed, failed)) end
  if failed == 0 then return true end
  return nil, ""
end

return M
