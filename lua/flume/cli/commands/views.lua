-- flume DB NAME.METHOD, rebuild and status --wait: waiting for views, with a progress bar, and calling them.

local core = require "flume.core"
local flume = require "flume"
local nearest = require "flume.cli.nearest"
local progress = require "flume.cli.progress"
local rows = require "flume.cli.rows"
local runner = require "flume.cli.runner"
local status = require "flume.cli.commands.status"

local M = {}

local STEP_MS = 50

-- --- Waiting ------------------------------------------------------------------------------------------------------

local function sorted_names(db, only)
  return only and {only} or nearest.keys(db.views)
end

-- One build of several views: where each began, and when it had caught up.
local Build = {}
Build.__index = Build

-- The seq from which a view goes on in this process.
local function start_of(view)
  local progress_of = not view._broken and view.progress.value
  return progress_of and progress_of.start or view.since.value
end

-- names: of views that exist. from_start: they are about to be rebuilt, whatever their since says.
local function new_build(db, names, from_start)
  local self = setmetatable({
    db = db,
    names = names,
    target = db.since.value,
    started = progress.now(),
    from = {},        -- name → since at the start
    seconds = {},     -- name → how long it took
    failures = {},    -- of views that have failed: texts
    fresh = {},       -- name → its since is of this build
  }, Build)
  for _, name in ipairs(names) do
    self.from[name] = from_start and -1 or start_of(db.views[name]) -- it may be beyond that already
    self.fresh[name] = not from_start
  end
  return self
end

-- Looks at one view's row of db:status(). Returns how far it is; nil when it has failed.
function Build:_look_at(row)
  local name = row.name
  if row.state == "failed" and not row.retries then
    self.failures[name] = self.failures[name] or status.failure(row)
    return nil
  end
  local since = row.next and row.next.since or row.since -- a pending version is built beside the answering one
  if row.next or since < self.target then self.fresh[name] = true end
  if not self.fresh[name] then return -1 end
  if since >= self.target then self.seconds[name] = self.seconds[name] or progress.now() - self.started end
  return math.min(since, self.target)
end

-- Looks at the views that have something to do, and can: the sum of what they have to go through, of what they have
-- gone through since the log's beginning, and of what they have gone through in this build.
function Build:_measure()
  local total, done, records = 0, 0, 0
  for _, row in ipairs(self.db:status().views) do
    local is_behind = self.from[row.name] and self.from[row.name] < self.target
    local since = is_behind and self:_look_at(row)
    if since then
      total = total + self.target + 1
      done = done + since + 1
      records = records + math.max(since - self.from[row.name], 0)
    end
  end
  return total, done, records
end

function Build:_label()
  local behind = {}
  for _, name in ipairs(self.names) do
    if self.from[name] < self.target and not self.failures[name] then behind[#behind + 1] = name end
  end
  return "building " .. table.concat(behind, ", ")
end

-- Steps the loop until ended(), which is told whether every view has caught up or failed.
function Build:run(ended)
  local total, done, records = self:_measure()
  local bar <close> = progress.new{label = self:_label(), total = total}
  while not ended(done >= total) do
    bar:update(done, records)
    runner.step(STEP_MS)
    total, done, records = self:_measure()
    bar.total = total
  end
  bar:update(done, records)
  if total > 0 then bar:finish() end
end

function Build:failure()
  local texts = {}
  for _, name in ipairs(self.names) do texts[#texts + 1] = self.failures[name] end
  return #texts > 0 and table.concat(texts, "\n") or nil
end

local function is_complete(complete)
  return complete
end

-- Waits until the views, or the named view, have caught up with the log as it is now. Returns the build.
function M.wait(db, name)
  local build = new_build(db, sorted_names(db, name))
  build:run(is_complete)
  return build
end

-- What was done for one view, in words: "rebuilt in 12 ms (…) because version 1 → 2".
local function account(build, view)
  local name, count = view.name, build.target - build.from[view.name]
  if build.failures[name] then return "failed" end
  if count <= 0 then return "up to date" end
  local seconds = build.seconds[name] or 0
  local pace = progress.pace(count, seconds)
  if build.from[name] >= 0 then return ("%s records more %s"):format(progress.thousands(count), pace) end
  if not view.reason then return "built " .. pace end
  return ("rebuilt %s because %s"):format(pace, (view.reason:gsub("%->", "→")))
end

function M.print_account(build, output)
  local list = {}
  for i, row in ipairs(build.db:status().views) do list[i] = {row.name, account(build, row)} end
  output:table(list)
end

-- flume DB status --wait
function M.wait_and_print(db, output)
  local build = M.wait(db)
  if output.json then
    status.print(db, output)
  else
    M.print_account(build, output)
  end
  local message = build:failure()
  return not message or nil, message
end

-- --- Rebuilding ---------------------------------------------------------------------------------------------------

-- What to say when there is no view of this name.
function M.no_such_view(db, name)
  local names = sorted_names(db)
  if #names == 0 then
    return ("there is no view '%s': none is mounted; --views DIR mounts those in a folder"):format(name)
  end
  local hint = nearest.hint(name, names)
  if hint == "" then hint = "; there are " .. table.concat(names, ", ") end
  return ("there is no view '%s'%s"):format(name, hint)
end

-- Starts over with one view, or all. Returns true, or nil and what went wrong.
function M.rebuild(db, name, output)
  if name and not db.views[name] then return nil, M.no_such_view(db, name) end
  local build = new_build(db, sorted_names(db, name), true)
  local answered, failure = false, nil
  local target = name and db.views[name] or db
  target:rebuild(function (err)
    answered, failure = true, err
  end)
  build:run(function () return answered end)
  if failure then return nil, build:failure() or tostring(failure) end
  local took = progress.duration(progress.now() - build.started)
  if output.json then
    status.print(db, output)
  else
    output:line(("rebuilt %s in %s"):format(#build.names > 0 and table.concat(build.names, ", ") or "no views", took))
  end
  return true
end

-- Removes a view and its state. Returns true, or nil and what went wrong.
function M.drop(db, name, output)
  if not name:find "^%a[%w_%-]*$" then return nil, M.no_such_view(db, name) end
  local ok, message = runner.run(function () return db:drop(name) end)
  if not ok then return nil, tostring(message) end
  if output.json then output:value(flume.map {dropped = name}) else output:line("dropped " .. name) end
  return true
end

-- --- Calling ------------------------------------------------------------------------------------------------------

-- The nth word behind a method as a value: what it is as JSON, else the word itself. A word that begins as an array, an
-- object or a string in quotes is meant as JSON. nil and what is wrong with it otherwise.
local function argument(word, n)
  local value, message = flume.json.decode(word)
  if not message then return value end
  if not word:find '^%s*[%[{"]' then return word end
  return nil, ("argument %d is no JSON: %s; as a string it is %s"):format(n, message, flume.json.encode(word)
    or "not UTF-8")
end

-- All words as values; nil and what is wrong.
local function arguments(words)
  local args = {n = #words}
  for i, word in ipairs(words) do
    local value, problem = argument(word, i)
    if problem then return nil, problem end
    args[i] = value
  end
  return args
end

local function same(a, b)
  return core.encode_sorted(a) == core.encode_sorted(b)
end

-- Says that the key asked for is a number, true or false, where the answer for the string is different: a key that
-- nothing is stored under gives no error.
local function note_type(view, request, args, result)
  local word, key = request.words[1], args[1]
  local method = request.command:match "[^.]*$"
  if method ~= "get" or not view._builtin.get or (type(key) ~= "number" and type(key) ~= "boolean") then return end
  local other, _, code = view:get(word, table.unpack(args, 2, args.n))
  if code ~= nil or same(result, other) then return end
  io.stderr:write(("flume: note: %s is a %s here; the answer for the string, '\"%s\"', is different\n"):format(word,
    type(key), word))
end

-- The kinds of views whose own methods give states of a reducer.
local HAS_STATES = {reduce = true, group = true}

local function print_result(output, ...)
  local first, message, code = ...
  if first == nil and code ~= nil then return nil, tostring(message) end
  if rows.is_source(first) then
    rows.print(first, output)
  else
    output:value(first)
  end
  return true
end

-- flume DB NAME.METHOD [args…]; q is a query view, unless there is another view of that name
function M.call(db, request, output)
  local name, method = request.command:match "^(.-)%.(.*)$"
  if name == "q" and not db.views.q then db:use("q", "query") end
  local view = db.views[name]
  if not view then return nil, M.no_such_view(db, name) end
  if view._broken then return nil, view._broken.message end
  if not view.methods[method] then
    local names = nearest.keys(view.methods)
    local hint = nearest.hint(method, names)
    if hint == "" then hint = "; it has " .. table.concat(names, ", ") end
    return nil, ("view '%s' has no method '%s'%s"):format(name, method, hint)
  end
  local message = M.wait(db, name):failure()
  if message then return nil, message end
  local args, problem = arguments(request.words)
  if not args then return nil, ("%s: %s"):format(request.command, problem) end
  output.prints_states = HAS_STATES[view._kind] and view._builtin[method] or false
  if output.json then db:_keep_order() end
  return runner.run(function ()
    local results = table.pack(view[method](view, table.unpack(args, 1, args.n)))
    if results[3] == nil then note_type(view, request, args, results[1]) end
    return print_result(output, table.unpack(results, 1, results.n))
  end)
end

return M
