-- The versions of a view: mounting one, and putting another in its place while the first goes on answering.
--
-- On disk each version has a directory of its own under a number, and one of them is the active one (core/view/view_dir.h):
--
--   mounting     goes on with the active version if it fits (same version, or same source where none is given), else
--   with              another one that fits (a build that was cut short), else with a new one
--   reload       mounts what the file says now beside the version that answers. When it has caught up, it is made the
--                active one, takes the place, and the old one goes. Where the file gives the same version as before,
--                the new code takes over the state instead
--
-- A new version that fails takes nobody's place: the old one goes on, and status tells.

local core = require "flume.core"
local errors = require "flume.errors"
local instances = require "flume.view.instance"
local notes = require "flume.view.overrides"
local View = require "flume.view.view"

local dirs = core.view_dir

local M = {}

local ASKED_FOR = "asked for" -- why a view is built anew

local function is_same_version(a, b)
  return a.version_text == b.version_text and (a.version_text ~= "" or a.fingerprint == b.fingerprint)
end

-- --- Ends --------------------------------------------------------------------------------------------------------

-- Tells those who wait for the next instance.
local function answer_swaps(self, err)
  local swaps = self._swaps
  self._swaps = {}
  for _, done in ipairs(swaps) do done(err) end
end

-- Calls a function of a raw view, which calls back when it is through, or returns true, or takes no callback: done(err)
-- once.
local function call_raw(fn, done)
  local answered = false
  local function through(err)
    if answered then return end
    answered = true
    done(err)
  end
  local info = debug.getinfo(fn, "u")
  local ok, result = pcall(fn, through)
  if not ok then return through(result) end
  if result == true or (info.nparams == 0 and not info.isvararg) then through(nil) end
end

local settle

-- Takes off the disk what lies beside the active version and those with these numbers: versions that were given up, and
-- what a crash has left. true; nil, message, code.
local function remove_others(self, numbers)
  local dir = not self._script.reads_only and self._script.state_dir
  if not dir then return true end
  local active, message, code = dirs.active(dir)
  if message then return nil, message, code end
  local keep = table.move(numbers, 1, #numbers, 1, {})
  keep[#keep + 1] = active
  keep[#keep + 1] = self._active_number
  return dirs.sweep(dir, keep)
end

--- The same of what lies beside the versions that are open.
function M.remove_unused(self)
  local numbers = {}
  for instance in pairs(self._instances) do numbers[#numbers + 1] = instance.number end
  return remove_others(self, numbers)
end

-- When nothing is under way, what answers is the active version on disk, and no other is there.
local function tidy(self)
  if self:_is_over() or self._activating or self._erasing or next(self._ending) then return end
  local now = self._instance
  if now and now.number and now.number ~= self._active_number and not self._next and not self._heir then
    self._next = now
    return settle(self, now)
  end
  M.remove_unused(self)
end

--- Closes an instance, "keep"ing or "drop"ping its state; done() when that is over.
function View:_end_instance(instance, how, done)
  local waiting = {done}
  self._instances[instance], self._ending[instance] = nil, waiting
  local function finish()
    instance.core:close(function ()
      if how == "drop" and instance.number and instance.number ~= self._active_number then
        dirs.remove(self._script.state_dir, instance.number)
      end
      self._ending[instance] = nil
      tidy(self)
      for _, each in ipairs(waiting) do each() end
    end, how)
  end
  local raw = instance.host and instance.host.raw
  if raw then return call_raw(raw.close, finish) end
  finish()
end

-- A version that has caught up, but is not the active one on disk yet, becomes it with its last checkpoint.
local function activate_at_the_end(self)
  local instance, before = self._instance, self._active_number
  local number = instance.number
  if self._activating or self._erasing or not (number and before) or number == before then return end
  if instance.core:since() < self._db:_since() then return end
  instance.core:activate(function (err)
    if not err then self._active_number = number end
  end)
end

local function end_instances(self, done)
  local pending, kept = 1, {}
  local function one()
    pending = pending - 1
    if pending > 0 then return end
    if self._active_number then remove_others(self, kept) end
    done()
  end
  answer_swaps(self, self:_closed_error())
  activate_at_the_end(self)
  for _, waiting in pairs(self._ending) do
    pending = pending + 1
    waiting[#waiting + 1] = one
  end
  for instance in pairs(self._instances) do
    pending = pending + 1
    local how = instance.retired and "drop" or "keep"
    if how == "keep" then kept[#kept + 1] = instance.number end
    self:_end_instance(instance, how, one)
  end
  one()
end

--- Closes all instances with the database, dry runs before them.
function View:_end_all(done)
  if not next(self._dry) then return end_instances(self, done) end
  self._dry_ended = function () end_instances(self, done) end
  for dry in pairs(self._dry) do dry.core:explain_stop() end
end

--- Ends an instance whose place was taken, as soon as no iterator is open in it any more.
function View:_let_go(instance)
  if not instance.retired or instance.sources > 0 or not self._instances[instance] then return end
  local on_end = instance.on_end or function () end
  self:_end_instance(instance, "drop", on_end)
end

local function retire(self, instance, done)
  instance.retired, instance.on_end = true, done
  instance.core:hold(true)
  if instance.sources > 0 then -- it goes later, but nobody waits for that
    instance.on_end = nil
    done()
  end
  self:_let_go(instance)
end

-- --- Starting ----------------------------------------------------------------------------------------------------

local function place_at(self, number, more)
  local place = {
    dir = self._script.state_dir, number = number, active = number == self._active_number,
    unusable_from = self._notes:unusable_from(number),
  }
  for key, value in pairs(more or {}) do place[key] = value end
  return place
end

local function start_at(self, instance, place)
  local since, message, code = instance.core:start(instance.version_text, instance.fingerprint, place,
    instance.begins_behind or -1)
  if not since then return since, message, code end
  instance.accepts = message
  instance.number = place and not place.read and place.number or nil
  instance.activates = place and place.activate or false
  self._instances[instance] = true
  instance.core:skips(self._notes.skips)
  return since
end

local function numbers_of(self)
  local numbers = dirs.list(self._script.state_dir) or {}
  local active = self._active_number
  table.sort(numbers, function (a, b)
    if a == active or b == active then return a == active and b ~= active end
    return a > b
  end)
  return numbers
end

-- No number is given out twice: a version that is being closed may not have a directory yet, and will take it away.
local function next_number(self)
  local largest = math.max(self._active_number or 0, self._last_number)
  for _, number in ipairs(dirs.list(self._script.state_dir) or {}) do largest = math.max(largest, number) end
  self._last_number = largest + 1
  return self._last_number
end

-- In a process that may not write: on a snapshot of the active version, if that fits, from where this process folds on
-- in memory; else on nothing. (Not where the writer is this very process: LMDB can't have a directory open twice in
-- one.)
local function start_reading(self, instance)
  local dir = self._script.state_dir
  local number = dir and dirs.active(dir)
  if number and not dirs.is_ours(self._script.lock) then
    local since = start_at(self, instance, {dir = dir, number = number, active = true, read = true})
    if since then return since end
  end
  return start_at(self, instance, nil)
end

-- Starts the instance on the state that fits it, or on none. since; nil, message, code.
local function start_where_it_fits(self, instance, accept)
  if self._script.reads_only then return start_reading(self, instance) end
  if not self._script.state_dir or instance.kind == "sink" then return start_at(self, instance, nil) end
  self._active_number = dirs.active(self._script.state_dir)
  local numbers, first_reason = numbers_of(self), nil
  for _, number in ipairs(numbers) do
    local is_active = number == self._active_number
    local since, reason, code = start_at(self, instance,
      place_at(self, number, {activate = not self._active_number, accept = accept and is_active}))
    if since == nil then return nil, reason, code end
    if since then
      if not is_active then instance.reason = first_reason end
      if number >= (self._active_number or number) then self._notes:settle_version(number) end
      remove_others(self, {number})
      return since
    end
    first_reason = first_reason or reason
  end
  instance.reason = first_reason
  local number = next_number(self)
  local since, message, code = start_at(self, instance, place_at(self, number, {activate = not self._active_number}))
  if since then remove_others(self, {number}) end
  return since, message, code
end

-- --- Taking the place --------------------------------------------------------------------------------------------

-- The next instance answers from now on; the one before goes.
local function swap(self, instance)
  local old = self._instance
  self._next, self._reload_error = nil, nil
  if instance == old then return answer_swaps(self, nil) end
  self:_answer_with(instance)
  local swaps = self._swaps
  self._swaps = {}
  retire(self, old, function ()
    for _, done in ipairs(swaps) do done(nil) end
  end)
end

-- Is the instance still the one that is wanted?
local function is_wanted(self, instance)
  return not self:_is_over() and self._instances[instance] and not instance.retired
    and (self._next == instance or self._instance == instance)
end

local take_place, activate, make_active

-- Makes the version of an instance the active one on disk: done(err). One after the other, so that the last is the
-- newest: instances that are being closed, and the one whose first checkpoint does it by itself, go first.
function make_active(self, instance, done)
  local function again() make_active(self, instance, done) end
  local _, waiting = next(self._ending)
  waiting = waiting or self._activating or self._erasing
  if waiting then
    waiting[#waiting + 1] = again
    return
  end
  if not self._instances[instance] then return done(self:_closed_error()) end
  local queue, old = {}, self._instance
  local function finish(err, then_what)
    self._activating = nil
    then_what(err)
    for _, each in ipairs(queue) do each() end
  end
  self._activating = queue
  if old ~= instance and old.activates then
    return old.core:activate(function (err)
      old.activates = err ~= nil and err.code == "EAGAIN"
      if err and not old.activates and self._active_number == old.number then self._active_number = nil end
      finish(err, again)
    end)
  end
  instance.core:activate(function (err)
    if not err then self._active_number, instance.activates = instance.number, false end
    finish(err, done)
  end)
end

-- It has caught up: its version becomes the active one on disk, and then it answers.
function activate(self, instance)
  if not is_wanted(self, instance) then return end
  local function activated(err)
    if not is_wanted(self, instance) then
      if not (err or self:_is_over()) then activate(self, self._instance) end -- that one was too late to be given up
      return
    end
    if err and err.code == "EAGAIN" then return settle(self, instance) end
    if err then return answer_swaps(self, self:_failure(instance) or errors.new(err.message, err.code)) end
    if self._instance ~= instance then return take_place(self, instance) end
    if self._next and self._next ~= instance then return end
    self._next = nil -- it has answered all the time, since there was no other
    answer_swaps(self, nil)
    tidy(self)
  end
  if not instance.number or instance.number == self._active_number then return activated(nil) end
  make_active(self, instance, activated)
end

-- Waits until the instance is not behind the one that answers, and swaps them.
function take_place(self, instance)
  if self._instance == instance or instance.core:since() >= self._core:since() then return swap(self, instance) end
  instance.core:wait(self._core:since(), nil, function (code)
    if not is_wanted(self, instance) then return end
    if code then return answer_swaps(self, self:_failure(instance)) end
    take_place(self, instance)
  end)
end

-- Lets the instance catch up, and then take the place.
function settle(self, instance)
  instance.core:wait(self._db:_since(), nil, function (code)
    if code and is_wanted(self, instance) then return answer_swaps(self, self:_failure(instance)) end
    activate(self, instance)
  end)
end

-- Gives up the one that is built beside the one that answers, if there is one.
local function drop_next(self)
  local instance = self._next
  if not instance or instance == self._instance then return end
  self._next = nil
  self:_end_instance(instance, "drop", function () end)
end

local function reason_of(old, new)
  if old.version_text == new.version_text then return "the source has changed" end
  local function name(text) return text ~= "" and text or "(none)" end
  return ("version %s -> %s"):format(name(old.version_text), name(new.version_text))
end

-- Whether nobody has the active version on disk: what answers is being built, since it did not fit.
local function is_active_free(self)
  if not self._active_number or self._script.reads_only or self._activating or self._erasing then return false end
  for _, set in ipairs {self._instances, self._ending} do
    for instance in pairs(set) do
      if instance.number == self._active_number then return false end
    end
  end
  return true
end

-- Starts the instance on the active version on disk, if it is one that fits after all; else on none. since; nil,
-- message, code.
local function start_beside(self, instance, reason)
  if reason ~= ASKED_FOR and is_active_free(self) then
    local since = start_at(self, instance, place_at(self, self._active_number))
    if since then return since end
  end
  instance.reason = reason
  local place = self._script.state_dir and not self._script.reads_only and place_at(self, next_number(self)) or nil
  return start_at(self, instance, place)
end

-- Builds the instance beside the one that answers; in its place when that one has failed, or is not to answer.
local function build_beside(self, instance, reason)
  drop_next(self)
  local since, message, code = start_beside(self, instance, reason)
  if not since then return answer_swaps(self, errors.new(message, code)) end
  local old = self._instance
  self._next = instance
  if self:_failure() or old.misled then
    self:_answer_with(instance)
    retire(self, old, function () end)
  end
  settle(self, instance)
end

--- Calls cb() when an instance is quiet, or closed: from then on nothing happens to its state, until release. One that
--- asks meanwhile waits for that.
function View._quiet(_, instance, cb)
  if instance.quiet then
    instance.quiet[#instance.quiet + 1] = cb
    return
  end
  instance.quiet = {}
  instance.core:quiet(cb)
end

--- The instance goes on, if it is still wanted.
function View:_release(instance)
  local is_open = self._instances[instance] and not instance.retired
  local following = table.remove(instance.quiet, 1)
  if is_open then instance.core:hold(false) end
  if not following then instance.quiet = nil
  elseif is_open then instance.core:quiet(following)
  else following() end
end

-- The heir's instance takes over the state of the old one, which is quiet.
local function take_over(self, old, heir)
  local instance = heir.instance
  local function answer(err)
    for _, done in ipairs(heir.swaps) do done(err) end
  end
  if self:_is_over() then return answer(self:_closed_error()) end
  if self._instance ~= old then return answer(nil) end -- one that was built from the file later
  if self:_failure() then
    table.move(heir.swaps, 1, #heir.swaps, #self._swaps + 1, self._swaps)
    return build_beside(self, instance, reason_of(old, instance))
  end
  local since, message, code = instance.core:adopt(old.core, instance.version_text, instance.fingerprint)
  if not since then return answer(errors.new(message, code)) end
  instance.number, old.number = old.number, nil
  instance.activates, instance.has_skipped = old.activates, old.has_skipped
  self._instances[instance] = true
  instance.core:skips(self._notes.skips)
  self:_answer_with(instance)
  self._reload_error = nil
  if self._next == old then self._next = nil end
  if instance.number ~= self._active_number and not self._next then -- what it goes on with was still being built
    self._next = instance
    settle(self, instance)
  end
  retire(self, old, function () answer(nil) end)
end

-- The instance takes over the state of the one that answers, as soon as that one has nothing under way; who waits for
-- another instance waits for this one. When it fails before, there is no state to take over.
local function hand_over(self, instance, done)
  local old, heir, swaps = self._instance, self._heir, self._swaps
  drop_next(self)
  self._swaps = {}
  swaps[#swaps + 1] = done
  if heir then -- newer code takes the place of what waits already
    heir.instance = instance
    table.move(swaps, 1, #swaps, #heir.swaps + 1, heir.swaps)
    return
  end
  heir = {instance = instance, swaps = swaps}
  self._heir = heir
  self:_quiet(old, function ()
    self._heir = nil
    take_over(self, old, heir)
    self:_release(old)
  end)
end

-- --- Reloading ---------------------------------------------------------------------------------------------------

-- The instance is the first to answer. since; nil, message, code.
local function begin(self, instance, accept)
  local since, message, code = start_where_it_fits(self, instance, accept)
  if not since then return nil, message, code end
  self._broken = false
  self:_answer_with(instance)
  if instance.accepts then self._notes:accept("the state on disk", instance, since, accept) end
  if instance.number and self._active_number and instance.number ~= self._active_number then
    self._next = instance
    settle(self, instance)
  elseif instance.number and not self._active_number and not self._script.reads_only then
    self._active_number = instance.number -- by its first checkpoint
  end
  return since
end

-- What could not be mounted can be now.
local function begin_late(self, instance, done)
  local since, message, code = begin(self, instance, nil)
  if not since then return done(errors.new(message, code)) end
  if not self._next then return done(nil) end
  self._swaps[#self._swaps + 1] = done
end

-- What reload does with an instance of the file as it is now.
local function put_in_place(self, instance, force, done)
  local old, following = self._instance, self._next
  local function join(how, ...)
    self._swaps[#self._swaps + 1] = done
    how(self, ...)
  end
  if not old then return begin_late(self, instance, done) end
  if force then return join(build_beside, instance, ASKED_FOR) end
  if following and not self:_failure(following) and is_same_version(following, instance) then
    if following.fingerprint == instance.fingerprint then
      self._swaps[#self._swaps + 1] = done
      return
    end
    if following ~= old then return join(build_beside, instance, following.reason) end
  end
  if self:_failure() then return join(build_beside, instance, reason_of(old, instance)) end
  if old.has_skipped then return join(build_beside, instance, "a record is skipped") end
  if is_same_version(old, instance) and old.kind == instance.kind then
    if old.fingerprint ~= instance.fingerprint or self._heir then return hand_over(self, instance, done) end
    drop_next(self)
    answer_swaps(self, nil)
    return done(nil)
  end
  join(build_beside, instance, reason_of(old, instance))
end

--- Mounts what the view's file says now, if that is something else; done(err) when it answers. force: also when it
--- is not.
function View:_reload(force, done)
  local now = self._instance
  if not (self._script.path or now and now.uses) or now and now.kind == "sink" then return done(nil) end
  local instance, message, code = instances.new(self._db, self._script)
  if instance and instance.kind == "sink" then
    message, code = ('view "%s": one that keeps itself can\'t be reloaded'):format(self.name), "EINVAL"
    instance = nil
  end
  if not instance then
    self._reload_error = errors.new(message, code == "EINVAL" and "EVIEW" or code)
    self._broken = self._broken and self._reload_error
    return done(self._reload_error)
  end
  self._reload_error = nil
  put_in_place(self, instance, force, done)
end

-- --- Mounting ----------------------------------------------------------------------------------------------------

local function new_view(db, script)
  local self = View.new(db, script.name, script)
  self._active_number, self._last_number = nil, 0 -- of directories on disk
  self._notes = notes.open(script.state_dir, not script.reads_only)
  return self
end

M.start_at, M.place_at, M.call_raw = start_at, place_at, call_raw
M.next_number = next_number
M.settle, M.hand_over, M.retire, M.answer_swaps = settle, hand_over, retire, answer_swaps

--- script: name; definition, or path and folder; mapper or mapper_path; decode; in_caller: not in a state of its own;
--- state_dir: where the state is kept, or nil; memory, budget; accept: why the state can be kept although the
--- version or the source is another. A view, or nil, message, code.
function M.mount(db, script)
  local instance, message, code = instances.new(db, script)
  if not instance then return nil, message, code end
  local self = new_view(db, script)
  local since
  since, message, code = begin(self, instance, script.accept)
  if not since then return nil, message, code end
  if instance.host and instance.host.engine then self._engine = instance.host.engine.new(self) end
  if instance.host and instance.host.raw then
    function instance.host.start_over() self:_start_over_raw() end
  end
  return self
end

--- A view that could not be mounted: its name is taken, and all that is asked of it answers the error. A reload may
--- mount it.
function M.broken(db, script, message, code)
  local self = new_view(db, script)
  if script.state_dir then self._active_number = dirs.active(script.state_dir) end
  self._broken = errors.new(message, code == "EINVAL" and "EVIEW" or code)
  return self
end

return M
