-- flume new view NAME: a view to begin with, DIR/NAME.lua, and cases for it, DIR/spec/NAME.lua, which `flume test`
-- runs. DIR is that of --views; what is in its sub-folders is not mounted.

local core = require "flume.core"

local M = {}

local VIEW = [[
-- NAME: how many records there are of each type.
--
--   db.NAME:get "post"                one group
--   db.NAME:top(3)                    a method of its own, below
--   for type, count in db.NAME:read{} do … end
--
-- It is derived from the log alone: the same records have to give the same state. So there is no io, no clock and no
-- chance here.

return {
  -- Change it when what the view makes of records changes: then it is built anew from the log. Without a version the
  -- source decides, and every change of it does that.
  version = 1,

  -- One state for each key, kept on disk: a path such as "type" or "content.type", or a function (item, seq) that
  -- returns the key, nil for a record that is none of the view's. Without group there is one state for all.
  group = "type",

  -- The state before the first record. It is copied.
  initial = 0,

  -- Called for each record, in order. item is the record: item.a.b reads what is there, and nil where nothing is.
  -- Returns the next state: a number, a string, a boolean or a table of them.
  reducer = function (count, item, seq)
    return count + 1
  end,

  -- What can be asked: "async" waits until the view has come to the log's end as of the call, "source" does too and
  -- gives one result after the other, "sync" answers at once with what there is. get, read and count are there anyway.
  methods = { top = "async" },

  top = function (view, limit)
    local list = {}
    for type, count in view:range{} do list[#list + 1] = { type = type, count = count } end
    table.sort(list, function (a, b)
      if a.count ~= b.count then return a.count > b.count end
      return a.type < b.type
    end)
    return table.move(list, 1, math.min(limit or 10, #list), 1, {})
  end,
}

-- An index instead: entries in the order of their keys, any number of them for a record.
--
--   return {
--     version = 1,
--     indexer = function (item, seq, emit)
--       for _, tag in ipairs(item.tags or {}) do emit({ tag, item.timestamp }) end
--     end,
--     methods = { newest = "source" },
--     newest = function (view, tag) return view:range{ prefix = { tag }, reverse = true, limit = 10 } end,
--   }
--
-- Or only the paths: indexer = "author", indexer = { "type", "author" }.
]]

local SPEC = [[
-- What the view NAME makes of records. Run it with
--
--   flume test SPEC
--
-- or from busted: require("flume.testing").fold("DIR/NAME.lua", events) gives the state to look at.

return {
  view = "../NAME.lua", -- beginning at this file

  {
    name = "counts each type",
    events = { { type = "post" }, { type = "vote" }, { type = "post" }, { note = "no type" } },
    expect = { post = 2, vote = 1 }, -- the groups; of an index, a list of { key =, value =, seq = }
    calls = { -- a method, its arguments, and what it is to give
      { "get", "post", expect = 2 },
      { "top", 1, expect = { { type = "post", count = 2 } } },
    },
  },

  {
    name = "has nothing at first",
    events = {}, -- or a file with a line of JSON for each record: events = "events.jsonl"
    expect = {},
  },
}
]]

local function is_there(path)
  local file = io.open(path, "r")
  return file and file:close() or false
end

-- A path as a word of the shell.
local function shell_word(path)
  return path:find "^[%w_./-]+$" and path or "'" .. path:gsub("'", "'\\''") .. "'"
end

local function fill(template, name, dir)
  local words = {NAME = name, SPEC = shell_word(("%s/spec/%s.lua"):format(dir, name)), DIR = dir}
  return (template:gsub("%f[%w]%u+%f[%W]", words))
end

-- Returns true, or nil and what went wrong.
function M.run(request, output)
  local name = request.words[1]
  if not name:find "^%a[%w_%-]*$" then
    return nil, ("new view: a view's name is a letter, then letters, digits, _ and -, not '%s'"):format(name)
  end
  local dir = request.views or os.getenv "FLUME_VIEWS" or ""
  if dir == "" then dir = "views" end
  local files = {{dir, VIEW}, {dir .. "/spec", SPEC}}
  for _, file in ipairs(files) do
    local path = ("%s/%s.lua"):format(file[1], name)
    if is_there(path) then return nil, ("new view: %s is there already"):format(path) end
  end
  local paths = {}
  for i, file in ipairs(files) do
    local ok, message = core.view_dir.write(file[1], name .. ".lua", fill(file[2], name, dir))
    if not ok then return nil, "new view: " .. message end
    paths[i] = ("%s/%s.lua"):format(file[1], name)
  end
  if output.json then
    output:value{view = paths[1], spec = paths[2]}
  else
    output:line(("%s\n%s\nNow try: flume test %s"):format(paths[1], paths[2], shell_word(paths[2])))
  end
  return true
end

return M
