-- The database: a log, and the views on it.

local async = require "flume.async"
local core = require "flume.core"
local Dependents = require "flume.view.dependents"
local errors = require "flume.errors"
local foreign = require "flume.log.table_log"
local Log = require "flume.log.init"
local maintenance = require "flume.maintenance"
local observable = require "flume.observable"
local options = require "flume.options"
local query_values = require "flume.query.values"
local sandbox = require "flume.view.host_modules".import "sandbox"
local stream = require "flume.log.stream"
local views = require "flume.view.view"
local Watching = require "flume.watching"

local OPTIONS = {ready = "boolean", mapper = "function|string", views = "string", watch = "boolean"}
local USE_OPTIONS = {memory = "integer", budget = "integer", accept = "string", trusted = "boolean",
  params = "table"}

local DB = {}
DB.__name = "flume.db"

function DB.__index(self, key)
  local method = DB[key]
  if method ~= nil then return method end
  local mounted = rawget(self, "_views")
  return mounted and mounted[key]
end

local function check_open(self, what, level)
  if getmetatable(self) ~= DB then errors.misused("db", what, self, level + 1) end
  if self.closed or self.closing then error(what .. ": the database is closed", level + 1) end
  self._pump:take_turns() -- inline views go on when the caller calls the database
end

-- --- Records -----------------------------------------------------------------------------------------------------

--- Appends a value, or an array of values as one atomic batch; the seq of the last.
function DB:append(value, cb)
  check_open(self, "append", 2)
  return self.log:append(value, cb)
end

--- Appends lines of JSON as one batch; how many. nil, message, code, line when a line is bad.
function DB:append_json(text, cb)
  check_open(self, "append_json", 2)
  return self.log:append_json(text, cb)
end

--- The value of a record; nil, message, code.
function DB:get(seq, cb)
  check_open(self, "get", 2)
  local mapper = self._map
  if not mapper then return self.log:get(seq, cb) end
  local value, message, code = self.log:get(seq)
  return async.call(function (done)
    if message then return done(errors.new(message, code)) end
    local ok, mapped = pcall(mapper, value, seq)
    if not ok then return done(errors.new(("record %d: mapper: %s"):format(seq, errors.text(mapped)), "EINVAL")) end
    done(nil, mapped)
  end, cb)
end

--- See stream.lua. For use in a for loop; closed when the loop is left.
function DB:stream(range)
  check_open(self, "stream", 2)
  local s = stream.open(self.log, range, self.log:transform(self._map), self)
  return s, nil, nil, s
end

--- For a process that only prints: records that views give may be lazy, which keeps the order of their keys.
function DB:_keep_order()
  self.log.core:keep_order()
  query_values.keep_order()
end

--- Deletes a record, or a list of them. Views that had consumed one of them are built anew.
function DB:del(seqs, cb)
  check_open(self, "del", 2)
  return self.log:del(seqs, cb)
end

--- Waits until all that was appended is on disk, whatever the sync mode.
function DB:sync(cb)
  check_open(self, "sync", 2)
  return self.log:sync(cb)
end

--- Removes the bytes of deleted records from the log's files (see log.lua), and what views had taken from them from
--- theirs: waits until each has taken them back. EVIEW: the log is compacted, and the message names the views in whose
--- files something may be left.
function DB:compact(given, cb)
  check_open(self, "compact", 2)
  return maintenance.compact(self, given, cb)
end

--- Copies the database, log and views, as of now, to the new directory dir: {since =, bytes =, files =}. It goes on
--- being used meanwhile. options: progress(done_bytes, total_bytes). Errors: EEXIST, ENOTSUP, …
function DB:backup(dir, given, cb)
  check_open(self, "backup", 2)
  if type(dir) ~= "string" or dir == "" then error("backup: dir must be a string that names a directory", 2) end
  return maintenance.backup(self, dir, given, cb)
end

--- Verifies every byte of the log, and that the views' stores can be read; see log.lua. Same options.
function DB:check(given, cb)
  check_open(self, "check", 2)
  return maintenance.check(self, given, cb)
end

-- --- Views -------------------------------------------------------------------------------------------------------

local function is_file(path)
  local file = io.open(path, "r")
  if not file then return false end
  local ok = file:read(0) ~= nil or file:seek("end") == 0
  file:close()
  return ok
end

local BUILT_IN = "flume.views"

local function built_in_folder()
  local path = package.searchpath(BUILT_IN .. ".index", package.path)
  return path and core.absolute(path):match "^(.*)/[^/]*$" or nil
end

-- The file of a view that is given by name or by path, and the folder that it may require from. By name it is looked
-- for in the views' folder, among the built-in views, and along package.path. Both are absolute paths.
local function find_script(self, given)
  if given:find("/", 1, true) or given:find "%.lua$" then
    if not is_file(given) then return nil, given .. ": no such file" end
    local path = core.absolute(given)
    return path, path:match "^(.*)/[^/]*$"
  end
  local folder = self._views_folder
  local in_folder = folder and folder .. "/" .. given:gsub("%.", "/") .. ".lua"
  if in_folder and is_file(in_folder) then return in_folder, folder end
  local built_in = package.searchpath(BUILT_IN .. "." .. given, package.path)
  built_in = built_in and core.absolute(built_in)
  if built_in then return built_in, (built_in:sub(1, -#("/" .. given .. ".lua") - 1)) end
  local path = package.searchpath(given, package.path)
  path = path and core.absolute(path)
  if path then return path, path:match "^(.*)/[^/]*$" end
  return nil, ("view module %q: not found %samong the built-in views or in package.path"):format(given,
    folder and "in " .. folder .. ", " or "")
end

-- A built-in view that has to be in the caller's state; a file of the views' folder goes before it.
local function builtin_table(self, given)
  if given ~= "query" then return nil end
  local folder = self._views_folder
  if folder and is_file(folder .. "/" .. given .. ".lua") then return nil end
  return require "flume.views.query"
end

-- Why db.NAME can't be a view, or nil.
local function why_taken(self, name)
  if rawget(self, name) ~= nil or DB[name] ~= nil or name == "log" or name == "dir" then
    return ('the name "%s" is taken by the database'):format(name)
  end
end

local function check_name(self, name)
  if type(name) ~= "string" or not name:find "^%a[%w_%-]*$" then
    local given = errors.given(name)
    error(("use: a view's name is a letter, then letters, digits, _ and -, not %s"):format(given), 3)
  end
  if rawget(self._views, name) ~= nil then error(('use: there is a view "%s" already'):format(name), 3) end
  local why = why_taken(self, name)
  if why then error("use: " .. why, 3) end
end

-- Mounts, and notes the directory of the state: two databases on one log can't both keep it there.
local UNSTORED = "flume: the state of views can't be stored, and they are built at every start: %s\n"

-- A view whose state can't be stored works, and is built in memory by each process: that is said once.
local function tell_obstacle(self, view)
  local obstacle = view:_status().unstored
  if not obstacle then return end
  self._has_told = true
  io.stderr:write(UNSTORED:format(obstacle))
end

local function mount(self, given)
  local taken, dir = self.log.state_dirs, not given.reads_only and given.state_dir
  if dir and taken[dir] then
    return nil, ('view "%s": another database on this log has mounted it'):format(given.name), "EINVAL"
  end
  local mounted, message, code = views.mount(self, given)
  if mounted and dir and not self._has_told then tell_obstacle(self, mounted) end
  if mounted and dir then
    taken[dir] = true
    self._state_dirs[#self._state_dirs + 1] = dir
  end
  return mounted, message, code
end

local function mount_options(self, name, extra)
  return {
    name = name,
    log = self.log,
    mapper = self._mapper,
    mapper_path = self._mapper_path,
    decode = self.log.codec and self.log.codec.decode,
    in_caller = self._mapper ~= nil or self.log.codec ~= nil,
    state_dir = self.dir and self.dir .. "/views/" .. name or nil,
    reads_only = self._readonly,
    lock = self.log.dir and self.log.dir .. "/lock",
    memory = extra.memory,
    budget = extra.budget,
    accept = extra.accept,
    trusted = extra.trusted,
    params = extra.params,
    built_in = built_in_folder(),
  }
end

--- Mounts a view: a table, or the name or path of a Lua module. Raises when that can't be done.
function DB:use(name, definition, extra)
  check_open(self, "use", 2)
  check_name(self, name)
  local given = mount_options(self, name, options.check("use", extra, USE_OPTIONS, 2))
  if given.trusted and given.budget then error("use: a trusted view has no budget", 2) end
  if given.params and type(definition) ~= "string" then error("use: params are for a script", 2) end
  if type(definition) == "string" then definition = builtin_table(self, definition) or definition end
  if type(definition) == "string" then
    local path, folder = find_script(self, definition)
    if not path then error("use: " .. folder, 2) end
    given.path, given.folder = path, folder
  elseif type(definition) == "table" then
    given.definition = definition
    given.mapper_path = nil
    given.mapper = self._map
  else
    error("use: a view is a table, or the name or path of a module, not a " .. type(definition), 2)
  end
  local mounted, message = mount(self, given)
  if not mounted then error("use: " .. message, 2) end
  self._views[name] = mounted
  self._dependents:mounted {name}
  if self._watching and given.path then self._watching:refresh() end
  return self
end

-- The *.lua files of a folder, sorted by name.
local function scripts_in(folder)
  local names, message = core.list_dir(folder)
  if not names then return nil, message end
  local scripts = {}
  for _, file in ipairs(names) do
    local name = file:match "^(%a[%w_%-]*)%.lua$"
    if name then scripts[#scripts + 1] = name end
  end
  table.sort(scripts)
  return scripts
end

-- A script that can't be mounted takes its name and answers with its error; the others go on. One whose name is taken
-- can be reached as db.views.NAME alone; no reload helps it, but another name.
local function mount_script(self, folder, name)
  local given, path = mount_options(self, name, {}), folder .. "/" .. name .. ".lua"
  local why = why_taken(self, name)
  if why then
    self._views[name] = views.broken(self, given, ("%s: %s: rename the file"):format(path, why), "EINVAL")
    return
  end
  given.path, given.folder = path, folder
  local ok, mounted, message, code = pcall(mount, self, given)
  if not ok then mounted, message, code = nil, ("%s: %s"):format(path, tostring(mounted)), "EVIEW" end
  self._views[name] = mounted or views.broken(self, given, message, code)
end

local function mount_folder(self, folder)
  local scripts, message = scripts_in(folder)
  local mounted = {}
  if not scripts then return nil, message, "ENOENT" end
  for _, name in ipairs(scripts) do
    if rawget(self._views, name) == nil then
      mount_script(self, folder, name)
      mounted[#mounted + 1] = name
    end
  end
  self._dependents:mounted(mounted)
  return true
end

-- Calls one(view, done) for each of the views; done(err) with the first error when all are done.
local function for_each(list, one, done)
  local pending, failure = 1, nil
  local function finish(err)
    failure = failure or err
    pending = pending - 1
    if pending == 0 then done(failure, failure == nil or nil) end
  end
  for _, each in pairs(list) do
    pending = pending + 1
    one(each, finish)
  end
  core.later(finish)
end

local function for_each_view(self, one, done)
  for_each(self._views, one, done)
end

--- Builds every view anew, and waits for that.
function DB:rebuild(cb)
  check_open(self, "rebuild", 2)
  return async.call(function (done)
    for_each_view(self, function (each, finish) each:rebuild(finish) end, done)
  end, cb)
end

-- Names in the folder of the views' states that no mounted view has.
local function unmounted_names(self)
  local names = {}
  for _, name in ipairs(self.dir and core.list_dir(self.dir .. "/views") or {}) do
    if name:find "^%a[%w_%-]*$" and rawget(self._views, name) == nil then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

local function users_of(self, name)
  local users = {}
  for other, view in pairs(self._views) do
    if other ~= name and view:_uses(name) then users[#users + 1] = other end
  end
  table.sort(users)
  return users
end

local function forget_state_dir(self, dir)
  self.log.state_dirs[dir] = nil
  for i, each in ipairs(self._state_dirs) do
    if each == dir then table.remove(self._state_dirs, i) break end
  end
end

-- What keeps a view from being dropped: message, code; nil for nothing.
local function why_kept(self, name, dir)
  local view = rawget(self._views, name)
  if self._readonly then return "the database is read-only", "EREADONLY" end
  if not view and not (dir and core.list_dir(dir)) then return ('there is no view "%s"'):format(name), "ENOENT" end
  if not view and self.log.state_dirs[dir] then
    return ('another database on this log has mounted the view "%s"'):format(name), "EBUSY"
  end
  local users = users_of(self, name)
  if users[1] then return ('the view "%s" uses it'):format(users[1]), "EBUSY" end
end

local function drop(self, name, done)
  local dir, view = self.dir and self.dir .. "/views/" .. name, rawget(self._views, name)
  local why, code = why_kept(self, name, dir)
  if why then return done(errors.new("drop: " .. why, code)) end
  local function remove()
    local ok, message, errno = true, nil, nil
    if dir then ok, message, errno = core.view_dir.remove_all(dir) end
    if dir and view then forget_state_dir(self, dir) end
    if not ok then return done(errors.new(message, errno)) end
    done(nil, true)
  end
  if not view then return remove() end
  view._dropped = true
  self._views[name] = nil
  view:_close(remove)
end

--- Removes a view: closes it, and removes its state on disk, also of a view that is not mounted. The log keeps its
--- records, so that mounting the view again rebuilds it. A script stays in the folder of views: the next db:reload
--- mounts it. true; nil, message, code: ENOENT, EBUSY (a view uses it), EREADONLY.
function DB:drop(name, cb)
  check_open(self, "drop", 2)
  if type(name) ~= "string" or not name:find "^%a[%w_%-]*$" then
    error(("drop: the name of a view expected, not %s"):format(tostring(name)), 2)
  end
  return async.call(function (done) drop(self, name, done) end, cb)
end

local function find_view(self, name, level)
  local found = rawget(self._views, name)
  if not found then error(('reload: there is no view %s'):format(errors.given(name)), level + 1) end
  return found
end

-- A view, and those that use it: it is a part of what they are.
local function reload_one(self, view, done)
  local concerned, broken = {view}, {}
  for _, each in pairs(self._views) do
    if each ~= view and each:_uses(view.name) then concerned[#concerned + 1] = each end
    if each._broken and each ~= view then broken[#broken + 1] = each end
  end
  for_each(concerned, function (each, finish) each:_reload(false, finish) end, done)
  for _, each in ipairs(broken) do each:_reload(false, function () end) end -- it may have lacked what this is now
end

--- Mounts what the scripts say now: of one view and of those that use it, or of all, and what is new in the views'
--- folder. A view whose version or source is another goes on answering as it was until the new one has caught up; this
--- waits for that. A script that can't be mounted changes nothing: nil, message, code.
function DB:reload(name, cb)
  if cb == nil and type(name) == "function" then name, cb = nil, name end
  check_open(self, "reload", 2)
  local one = name ~= nil and find_view(self, name, 2)
  return async.call(function (done)
    if one then return reload_one(self, one, done) end
    if self._views_folder then
      local ok, message, code = mount_folder(self, self._views_folder)
      if not ok then return done(errors.new(message, code)) end
    end
    for_each_view(self, function (each, finish) each:_reload(false, finish) end, done)
  end, cb)
end

--- since, ready, and a list of the views: name, kind, version, state (building, live, stalled, failed), reason, since,
--- target, lag (records), rate (records a second), eta (seconds), size (bytes on disk), error, seq and traceback of a
--- failure, next (the version that is built beside the one that answers), accepted, uses. The list also answers to
--- their names: db:status().views.NAME. Of a database that is open read-only also following: how it learns of what the
--- writer does, {by = "events" | "poll" | "lost", why = text}. unmounted: names of views that have a state on disk and
--- are not mounted; db:drop(name) removes one.
function DB:status()
  check_open(self, "status", 2)
  local names, rows, by_name = {}, {}, {}
  for name in pairs(self._views) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do
    rows[i] = self._views[name]:_status()
    by_name[name] = rows[i]
  end
  setmetatable(rows, {__index = by_name})
  local by, why = self.log:following()
  return {
    since = self.since.value, ready = self:_is_ready(), dir = self.dir, views = rows,
    unmounted = core.array(unmounted_names(self)),
    following = by and {by = by, why = why} or nil,
  }
end

function DB:_since()
  return self.log.core:since()
end

function DB:_is_ready()
  return self._ready
end

DB._now = core.now

--- The value of a record as views' readers see it, at once; nil, message, code.
function DB:_record(seq)
  local value, message, code = Log.get(self.log, seq)
  if message or not self._map then return value, message, code end
  local ok, mapped = pcall(self._map, value, seq)
  if not ok then return nil, ("record %d: mapper: %s"):format(seq, errors.text(mapped)), "EINVAL" end
  return mapped
end

--- The same of a record that was deleted; nil when its bytes are gone.
function DB:_deleted_record(seq)
  local found, value = self.log.core:deleted(seq)
  if not found then return nil end
  local transform, ok = self.log:transform(self._map), true
  if transform then ok, value = pcall(transform, value, seq) end
  return ok and value or nil
end

-- --- Opening and closing -----------------------------------------------------------------------------------------

local function load_mapper(self, mapper)
  if type(mapper) == "function" then
    self._mapper, self._map = mapper, mapper
    return true
  end
  local path, folder = find_script(self, mapper)
  if not path then return nil, "mapper: " .. folder, "ENOENT" end
  local env = sandbox.new {folder = folder, read = core.read_file, provided = {}, on_load = function () end}
  local chunk, message = loadfile(path, "t", env)
  if not chunk then return nil, "mapper: " .. message, "EINVAL" end
  local ok, fn = pcall(chunk)
  if not ok or type(fn) ~= "function" then
    return nil, ("mapper %s: %s"):format(path, ok and "it must return a function" or tostring(fn)), "EINVAL"
  end
  self._mapper_path, self._map = path, fn
  return true
end

local function read_only(list)
  return setmetatable({}, {
    __index = list,
    __newindex = function () error("views are mounted with db:use", 2) end,
    __pairs = function () return next, list, nil end,
  })
end

-- One view after a change in the folder: what became of it is told to those who listen to db.reloaded.
local function tell_reloaded(self, each, err)
  local instance = each._instance
  self.reloaded:set {
    name = each.name, version = each.version, reason = instance and instance.reason, error = err and err.message,
  }
end

local function on_folder_change(self)
  if self.closed or self.closing then return end
  self._watching:refresh()
  local known = {}
  for name in pairs(self._views) do known[name] = true end
  mount_folder(self, self._views_folder)
  for name, each in pairs(self._views) do
    local before = each._instance
    local function done(err)
      if self.closed or self.closing then return end
      self._watching:refresh() -- it may have other modules now
      if err or each._instance ~= before or not known[name] then
        tell_reloaded(self, each, err)
      end
    end
    if known[name] then each:_reload(false, done) else done(nil) end
  end
end

-- The files of all views, as far as these are known: scripts, mappers, and modules that they have loaded.
local function files_of(self)
  local files = {}
  for _, view in pairs(self._views) do
    for _, path in ipairs(view:_files()) do files[#files + 1] = path end
  end
  return files
end

local function watch_folder(self)
  if not self._views_folder then return nil, "watch: there is no folder of views to watch", "EINVAL" end
  local function files() return files_of(self) end
  self._watching = Watching.new(self._views_folder, files, function () on_folder_change(self) end)
  return true
end

--- A database on an open log. options: ready, mapper, views, watch. nil, message, code.
local function new(log, given, dir)
  local self = setmetatable({
    log = log,
    dir = dir,
    _views = {},            -- name -> view
    views = nil,            -- the same for reading, below
    _state_dirs = {},       -- list of those that its views keep their state in
    _dependents = nil,      -- which views use which, below
    _waits = {},            -- set of functions that end a wait with an error, when it closes
    since = log.since,
    ready = nil,            -- observable, below
    reloaded = observable.new(nil), -- with watch: {name =, version =, reason =, error =} of the last view that changed
    closed = false,
    closing = false,        -- or a list of done functions, while it closes
    _pump = core.pump(log.core),
    _ready = given.ready ~= false,
    _readonly = given.readonly,
    _views_folder = given.views and core.absolute(given.views),
    _watching = nil,        -- with watch: what notices changes of scripts
    _mapper = nil,          -- a function that only this state has
    _mapper_path = nil,     -- or the file that every view's state loads
    _map = nil,             -- what get and stream apply
  }, DB)
  self._dependents = Dependents.new(self)
  self.views = read_only(self._views)
  self.ready = observable.new(self._ready)
  self.ready._set = function (value)
    self._ready = value and true or false
    self.ready._value = self._ready
    if not self.closed then self._pump:set_ready(self._ready) end
  end
  self._pump:set_ready(self._ready)
  log.databases[self] = true
  local ok, message, code = true, nil, nil
  if given.mapper then ok, message, code = load_mapper(self, given.mapper) end
  if ok and given.views then ok, message, code = mount_folder(self, self._views_folder) end
  if ok and given.watch then ok, message, code = watch_folder(self) end
  if ok then return self end
  self:close()
  return nil, message, code
end

local function close_views(self, done)
  local pending, failure = 1, nil
  local function one(err)
    pending, failure = pending - 1, failure or err
    if pending == 0 then done(failure) end
  end
  for _, each in pairs(self._views) do
    pending = pending + 1
    each:_close(one)
  end
  one()
end

local function close(self, done)
  if self.closed then return done(nil, true) end
  if self.closing then
    self.closing[#self.closing + 1] = done
    return
  end
  self.closing = {done}
  if self._watching then self._watching:stop() end
  local gone = errors.new("the database was closed", "ECLOSED")
  for abort in pairs(self._waits) do abort(gone) end
  for s in pairs(self.log.streams) do
    if s.owner == self then s:abort(gone) end
  end
  local failure
  local function finish()
    local waiting = self.closing
    self.closed, self.closing = true, false
    for _, each in ipairs(waiting) do each(failure, not failure or nil) end
  end
  close_views(self, function (err)
    failure = err
    self._pump:close(function ()
      self.log.databases[self] = nil
      for _, dir in ipairs(self._state_dirs) do self.log.state_dirs[dir] = nil end
      if next(self.log.databases) then return finish() end -- the last one closes it
      self.log:_close(finish)
    end)
  end)
end

--- Ends what is pending (waiting reads get ECLOSED), checkpoints the views, closes the log. Idempotent. nil, message,
--- code when a view has a state that can't be stored: the database is closed all the same.
function DB:close(cb)
  if getmetatable(self) ~= DB then errors.misused("db", "close", self, 2) end
  return async.call(function (done) close(self, done) end, cb)
end

function DB:__close()
  self:close()
end

function DB:__tostring()
  return ("flume.db: %s (since %s)"):format(self.dir or "memory", tostring(self.since.value))
end

local M = {}

--- A database on a log: flume.log.memory(), flume.log.file(dir), flume.log.offset(path), ...
function M.new(log, given)
  if type(log) ~= "table" then error("flume.new: a log expected, such as flume.log.memory()", 2) end
  if not Log.is(log) then log = foreign.wrap(log) end
  if log.closed or log.closing then error("flume.new: the log is closed", 2) end
  local db, message, code = new(log, options.check("flume.new", given, OPTIONS, 2), log.dir)
  return db, message, code
end

local OPEN_OPTIONS = {
  ready = "boolean", mapper = "function|string", views = "string", watch = "boolean", sync = "string",
  interval_ms = "integer",
  max_record_bytes = "integer", segment_bytes = "integer", readonly = "boolean", damaged = "boolean",
  poll_ms = "integer", codec = "string|table", log = "string", bits = "integer",
}

local LOG_OPTIONS = {
  "sync", "interval_ms", "max_record_bytes", "segment_bytes", "readonly", "damaged", "poll_ms", "codec", "bits",
}

-- Opens the log of a database, by the option log; and where the database is that has it.
local KINDS = {
  file = function (dir, given) return Log.file(dir .. "/log", given) end,
  offset = function (path, given) return Log.offset(path, given) end,
}
local PLACES = {
  file = function (dir) return dir end,
  offset = function (path) return path .. ".flume" end,
}

--- Opens, or creates, the database in directory dir: its log in dir/log, the state of its views in dir/views. With
--- log = "offset" it is the JavaScript flumelog-offset file dir, and the state of its views is in dir.flume/views.
function M.open(dir, given)
  if type(dir) ~= "string" then error("flume.open: dir must be a string, not a " .. type(dir), 2) end
  if dir == "" or dir:find("\0", 1, true) then error(("flume.open: %q names no directory"):format(dir), 2) end
  given = options.check("flume.open", given, OPEN_OPTIONS, 2)
  local kind = given.log or "file"
  if not KINDS[kind] then error(("flume.open: log must be \"file\" or \"offset\", not %q"):format(kind), 2) end
  local for_log = {}
  for _, name in ipairs(LOG_OPTIONS) do for_log[name] = given[name] end
  dir = core.absolute(dir)
  local log, message, code = KINDS[kind](dir, for_log)
  if not log then return nil, message, code end
  local db, why, errno = new(log, given, PLACES[kind](dir))
  if db then return db end
  return nil, why, errno
end

return M
