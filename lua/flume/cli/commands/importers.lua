-- What `flume DB import --from FORMAT` reads. One entry a format:
--
--   json = {about = "lines of JSON", run = function (db, request, output) … end}
--
-- run(db, request, output) appends the records of the file request.words[1] (nil or "-": standard input) in order,
-- shows its progress, and prints a report. It returns true, or nil and what went wrong. A format that numbers its
-- records otherwise than 0, 1, 2 … says so in its report.

local M = {}

M.json = {
  about = "lines of JSON, as append takes them",
  run = function (...) return require "flume.cli.commands.append".run(...) end,
}

local function other(format)
  return function (...) return require "flume.cli.commands.import".run(format, ...) end
end

M["flumelog-offset"] = {
  about = "a JavaScript flumelog-offset file, of JSON",
  run = other "flumelog-offset",
}

M["async-append-only-log"] = {
  about = "a JavaScript async-append-only-log file, of BIPF",
  run = other "async-append-only-log",
}

return M
