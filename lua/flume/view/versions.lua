-- The versions of a view: which instance answers, which one is built to take its place, and their directories on disk.
--
-- On disk each version has a directory of its own under a number, and one of them is the active one (state_dirs.lua):
--
--   mounting     goes on with the active version if it fits (same version, or same source where the view gives none),
--                else with another one that fits (a build that was cut short), else with a new one
--   reload       builds what the file says now beside the version that answers: the pending version. When it has caught
--                up it becomes the active one on disk and answers, and the old one is removed. Where the file gives the
--                same version as before, the new code takes over the state instead
--
-- A pending version that fails changes nothing: the old one goes on, and the status tells of the failure.
--
-- The slot (core/view/view_slot.h) records which version answers, which is pending, and which is active on disk.
-- The engine lets a pending version take the place by itself, also while the caller computes. The instances here follow
-- with take_news: the slot calls it from the loop, and each function that depends on the instances calls it first.
--
-- A `Versions` belongs to a view, of which it uses
--
--   _is_over(), _closed_error()    whether the database is closed or being closed, and the error for that
--   _failure(instance)             why the instance has failed, or nil
--   _answer_with(instance)         makes the view answer with the instance

local core = require "flume.core"
local errors = require "flume.errors"
local instances = require "flume.view.instance"
local StateDirs = require "flume.view.state_dirs"

local Versions = {}
Versions.__index = Versions

local ASKED_FOR = "asked for" -- the reason of a rebuild

local NOTHING = function () end

-- --- Ends --------------------------------------------------------------------------------------------------------

-- Tells the calls that wait for the pending version.
local function answer_swaps(self, err)
  local swaps = self.swaps
  self.swaps = {}
  for _, done in ipairs(swaps) do done(err) end
end

--- Calls a function of a raw view, which calls back when it has finished, or returns true, or takes no callback:
--- done(err) once.
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

-- Removes from the disk all versions but the active one and those that are open. true; nil, message, code.
local function remove_unused(self)
  local numbers = {}
  for instance in pairs(self.open) do numbers[#numbers + 1] = instance.number end
  return self.dirs:sweep(numbers)
end

-- The instance is the pending one: it takes the place as soon as it has caught up.
local function build(self, instance)
  self.pending = instance
  self.slot:build(instance.core)
end

-- When nothing is under way, the version that answers is the active one on disk, and no other is there.
local function tidy(self)
  if self.view:_is_over() or self.erasing or next(self.ending) or self.slot:is_activating() then return end
  local now = self.answering
  if now and now.number and now.number ~= self.dirs:active() and not self.pending and not self.heir then
    return build(self, now)
  end
  remove_unused(self)
end

-- Closes an instance, "keep"ing or "drop"ping its state; done() when that is over.
local function end_instance(self, instance, how, done)
  local waiting = {done}
  self.open[instance], self.ending[instance] = nil, waiting
  self.slot:block()
  local function finish()
    instance.core:close(function (err)
      if how == "drop" and instance.number and instance.number ~= self.dirs:active() then
        self.dirs:remove(instance.number)
      end
      self.ending[instance] = nil
      self.slot:unblock()
      tidy(self)
      for _, each in ipairs(waiting) do each(err) end
    end, how)
  end
  local raw = instance.host and instance.host.raw
  if raw then return call_raw(raw.close, finish) end
  finish()
end

-- A version that has caught up, but is not the active one on disk yet, becomes it with its last checkpoint.
local function activate_at_the_end(self)
  local instance, before = self.answering, self.dirs:active()
  local number = instance.number
  if self.erasing or not (number and before) or number == before then return end
  if instance.core:since() < self.db:_since() then return end
  instance.core:activate(NOTHING)
end

--- Closes all instances with the database; done(err) when that is over: why a state could not be stored, or nil.
function Versions:close(done)
  local pending, kept, failure = 1, {}, nil
  local function one(err)
    pending, failure = pending - 1, failure or err
    if pending > 0 then return end
    if self.dirs:active() then self.dirs:sweep(kept) end
    self.slot:close()
    done(failure and errors.new(('view "%s": %s'):format(self.script.name, failure.message), failure.code))
  end
  answer_swaps(self, self.view:_closed_error())
  local settling = self.settling
  self.settling = {}
  for _, again in ipairs(settling) do again() end
  self.slot:drop()
  activate_at_the_end(self)
  for _, waiting in pairs(self.ending) do
    pending = pending + 1
    waiting[#waiting + 1] = one
  end
  for instance in pairs(self.open) do
    pending = pending + 1
    local how = instance.retired and "drop" or "keep"
    if how == "keep" then kept[#kept + 1] = instance.number end
    end_instance(self, instance, how, one)
  end
  one()
end

-- Ends an instance whose place was taken, as soon as no iterator is open in it.
local function let_go(self, instance)
  if not instance.retired or instance.pins > 0 or not self.open[instance] then return end
  end_instance(self, instance, "drop", instance.on_end or NOTHING)
end

--- An iterator that was open in the instance (Instance:pin) is closed.
function Versions:unpin(instance)
  instance.pins = instance.pins - 1
  if not self.view:_is_over() then let_go(self, instance) end
end

local function retire(self, instance, done)
  instance.retired, instance.on_end = true, done
  instance.core:hold(true)
  if instance.pins > 0 then -- it is closed later, but no call waits for that
    instance.on_end = nil
    done()
  end
  let_go(self, instance)
end

-- --- Starting ----------------------------------------------------------------------------------------------------

-- Starts the instance on the state at a place (state_dirs.lua), or on none. since; false, reason when that state does
-- not fit; nil, message, code.
local function start_at(self, instance, place)
  instance.core:skips(self.overrides.skips) -- before it is fed
  local since, message, code = instance.core:start(instance.version_text, instance.fingerprint, place,
    instance.begins_behind or -1)
  if not since then return since, message, code end
  instance.accepts = message
  instance.number = place and not place.read and place.number or nil
  self.open[instance] = true
  return since
end

-- In a process that may not write: on a snapshot of the active version if that fits, from where this process folds on
-- in memory; else on nothing.
local function start_reading(self, instance)
  local place = self.dirs:snapshot_place()
  local since = place and start_at(self, instance, place)
  if since then return since end
  return start_at(self, instance, nil)
end

-- Starts the instance on a new version. since; nil, message, code.
local function start_new(self, instance)
  local dirs = self.dirs
  local number = dirs:next_number()
  local since, message, code = start_at(self, instance, dirs:place(number, {activate = not dirs:active()}))
  if since then dirs:sweep {number} end
  return since, message, code
end

-- Starts the instance on the state that fits it, or on none. since; nil, message, code.
local function start_where_it_fits(self, instance, accept)
  local dirs, first_reason = self.dirs, nil
  if self.script.reads_only then return start_reading(self, instance) end
  if not dirs.dir or instance.kind == "sink" then return start_at(self, instance, nil) end
  dirs:read_active()
  for _, number in ipairs(dirs:candidates()) do
    local active = dirs:active()
    local is_active = number == active
    local since, reason, code = start_at(self, instance,
      dirs:place(number, {activate = not active, accept = accept and is_active}))
    if since == nil then return nil, reason, code end
    if since then
      if not is_active then instance.reason = first_reason end
      if number >= (active or number) then self.overrides:settle_version(number) end
      dirs:sweep {number}
      return since
    end
    first_reason = first_reason or reason
  end
  instance.reason = first_reason
  return start_new(self, instance)
end

-- --- Taking the place --------------------------------------------------------------------------------------------

local function answer_with(self, instance)
  self.answering = instance
  self.slot:serve(instance.core)
  self.view:_answer_with(instance)
end

-- The pending instance answers now; the old one is retired. The first instance of a view has answered all the time.
local function swap(self, instance)
  local old = self.answering
  self.pending, self.reload_error = nil, nil
  if instance == old then
    answer_swaps(self, nil)
    return tidy(self)
  end
  answer_with(self, instance)
  local swaps = self.swaps
  self.swaps = {}
  retire(self, old, function ()
    for _, done in ipairs(swaps) do done(nil) end
  end)
end

--- Follows the slot: what has happened to the pending version.
function Versions:take_news()
  local swapped, err = self.slot:news()
  if swapped == nil or self.view:_is_over() then return end
  if swapped and self.pending then swap(self, self.pending)
  elseif err and self.pending then
    answer_swaps(self, self.view:_failure(self.pending) or errors.new(err.message, err.code))
  else tidy(self) end
  if self.slot:is_activating() then return end
  local waiting = self.settling
  self.settling = {}
  for _, again in ipairs(waiting) do again() end
end

-- The versions as they are now: no other takes the place by itself until the value that this gives is closed.
local function freeze(self)
  local slot = self.slot
  slot:freeze()
  self:take_news()
  return setmetatable({}, {__close = function () slot:thaw() end})
end

-- Discards the pending version, if there is one. The versions are frozen.
local function drop_pending(self)
  local instance = self.pending
  if not instance or instance == self.answering then return end
  self.slot:drop()
  self.pending = nil
  end_instance(self, instance, "drop", NOTHING)
end

local function reason_of(old, new)
  if old.version_text == new.version_text then return "the source has changed" end
  local function name(text) return text ~= "" and text or "(none)" end
  return ("version %s -> %s"):format(name(old.version_text), name(new.version_text))
end

-- Whether no instance uses the active version on disk: the one that answers is being built, since it did not fit.
local function is_active_free(self)
  local active = self.dirs:active()
  if not active or self.script.reads_only or self.erasing or self.slot:is_activating() then return false end
  for _, set in ipairs {self.open, self.ending} do
    for instance in pairs(set) do
      if instance.number == active then return false end
    end
  end
  return true
end

-- Starts the instance on the active version on disk, if that fits it after all; else on none. since; nil, message,
-- code.
local function start_beside(self, instance, reason)
  local dirs = self.dirs
  if reason ~= ASKED_FOR and is_active_free(self) then
    local since = start_at(self, instance, dirs:place(dirs:active()))
    if since then return since end
  end
  instance.reason = reason
  return start_at(self, instance, dirs:is_writable() and dirs:place(dirs:next_number()) or nil)
end

-- Builds the instance beside the one that answers; in its place when that one has failed, or must not answer.
local function build_beside(self, instance, reason)
  drop_pending(self)
  local since, message, code = start_beside(self, instance, reason)
  if not since then return answer_swaps(self, errors.new(message, code)) end
  local old = self.answering
  if self.view:_failure() or old.misled then
    answer_with(self, instance)
    retire(self, old, NOTHING)
  end
  build(self, instance)
end

--- Calls cb() when an instance is quiet, or closed: from then on its state doesn't change, until release. Callers that
--- ask meanwhile wait for that.
function Versions.quiet(_, instance, cb)
  if instance.quiet then
    instance.quiet[#instance.quiet + 1] = cb
    return
  end
  instance.quiet = {}
  instance.core:quiet(cb)
end

--- The instance goes on, if it is still wanted.
function Versions:release(instance)
  local is_open = self.open[instance] and not instance.retired
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
  if self.view:_is_over() then return answer(self.view:_closed_error()) end
  local _ <close> = freeze(self)
  if self.answering ~= old then return answer(nil) end -- an instance that was made of the file later
  if self.view:_failure() then
    table.move(heir.swaps, 1, #heir.swaps, #self.swaps + 1, self.swaps)
    return build_beside(self, instance, reason_of(old, instance))
  end
  instance.core:skips(self.overrides.skips)
  local since, message, code = instance.core:adopt(old.core, instance.version_text, instance.fingerprint)
  if not since then return answer(errors.new(message, code)) end
  instance.number, old.number = old.number, nil
  instance.has_skipped = old.has_skipped
  self.open[instance] = true
  answer_with(self, instance)
  self.reload_error = nil
  if self.pending == old then self.pending = nil end
  if instance.number ~= self.dirs:active() and not self.pending then -- the state was still being built
    build(self, instance)
  end
  retire(self, old, function () answer(nil) end)
end

-- The instance takes over the state of the one that answers, as soon as that one is quiet; calls that wait for the
-- pending version wait for this instance. When the old one fails before, there is no state to take over.
local function hand_over(self, instance, done)
  drop_pending(self)
  local old, heir, swaps = self.answering, self.heir, self.swaps
  self.swaps = {}
  swaps[#swaps + 1] = done
  if heir then -- newer code replaces the code that waits already
    heir.instance = instance
    table.move(swaps, 1, #swaps, #heir.swaps + 1, heir.swaps)
    return
  end
  heir = {instance = instance, swaps = swaps}
  self.heir = heir
  self:quiet(old, function ()
    self.heir = nil
    take_over(self, old, heir)
    self:release(old)
  end)
end

-- --- Reloading ---------------------------------------------------------------------------------------------------

-- Starts the instance that is the first to answer. since; nil, message, code.
local function begin(self, instance, accept)
  local since, message, code = start_where_it_fits(self, instance, accept)
  if not since then return nil, message, code end
  local dirs = self.dirs
  answer_with(self, instance)
  if instance.accepts then self.overrides:accept("the state on disk", instance, since, accept) end
  local active = dirs:active()
  if instance.number and active and instance.number ~= active then
    build(self, instance)
  elseif instance.number and not active and not self.script.reads_only then
    dirs:set_active(instance.number) -- by its first checkpoint
  end
  return since
end

-- A view that could not be mounted can be mounted now.
local function begin_late(self, instance, done)
  local since, message, code = begin(self, instance, nil)
  if not since then return done(errors.new(message, code)) end
  if not self.pending then return done(nil) end
  self.swaps[#self.swaps + 1] = done
end

-- What reload does with an instance of the file as it is now.
local function put_in_place(self, instance, force, done)
  local _ <close> = freeze(self)
  local old, following = self.answering, self.pending
  local function join(how, ...)
    self.swaps[#self.swaps + 1] = done
    how(self, ...)
  end
  if not old then return begin_late(self, instance, done) end
  if force then return join(build_beside, instance, ASKED_FOR) end
  if following and not self.view:_failure(following) and following:is_same_version(instance) then
    if following.fingerprint == instance.fingerprint then
      self.swaps[#self.swaps + 1] = done
      return
    end
    if following ~= old then return join(build_beside, instance, following.reason) end
  end
  if self.view:_failure() then return join(build_beside, instance, reason_of(old, instance)) end
  if old.has_skipped then return join(build_beside, instance, "a record is skipped") end
  if old:is_same_version(instance) and old.kind == instance.kind then
    if old.fingerprint ~= instance.fingerprint or self.heir then return hand_over(self, instance, done) end
    drop_pending(self)
    answer_swaps(self, nil)
    return done(nil)
  end
  join(build_beside, instance, reason_of(old, instance))
end

--- Mounts what the view's file says now, if that has changed; done(err) when it answers. force: also when it has not
--- changed.
function Versions:reload(force, done)
  self:take_news()
  local now = self.answering
  if not (self.script.path or now and now.uses) or now and now.kind == "sink" then return done(nil) end
  local instance, message, code = instances.new(self.db, self.script)
  if instance and instance.kind == "sink" then
    message, code = ('view "%s": one that keeps itself can\'t be reloaded'):format(self.script.name), "EINVAL"
    instance = nil
  end
  if not instance then
    self.reload_error = errors.new(message, code == "EINVAL" and "EVIEW" or code)
    return done(self.reload_error)
  end
  self.reload_error = nil
  put_in_place(self, instance, force, done)
end

--- The first instance begins to answer. accept: why the state can be kept although version or source have changed, or
--- nil. since; nil, message, code.
function Versions:begin(instance, accept)
  return begin(self, instance, accept)
end

-- --- What upkeep does with them ----------------------------------------------------------------------------------

--- The instance, made of the file as it is now, takes over the state that answers: done(err).
function Versions:hand_over(instance, done)
  local _ <close> = freeze(self)
  hand_over(self, instance, done)
end

--- Whether the version that answers is being built because it differs from the active one on disk.
function Versions:is_rebuilding_active()
  self:take_news()
  local number, active = self.answering and self.answering.number, self.dirs:active()
  return number ~= nil and active ~= nil and number ~= active
end

--- The instance goes on with the active version on disk, although that is a different one, in place of the one that is
--- being built. accepted(since) notes that: true; nil, message, code. done(err).
function Versions:resume_active(instance, accepted, done)
  local _ <close> = freeze(self)
  local building, dirs = self.answering, self.dirs
  local since, message, code = start_at(self, instance, dirs:place(dirs:active(), {accept = true}))
  if not since then return done(errors.new(message or "its state can't be gone on with", code or "EVIEW")) end
  local ok, why, errno = accepted(since)
  if not ok then
    end_instance(self, instance, "keep", NOTHING)
    return done(errors.new(why, errno))
  end
  self.slot:drop()
  self.pending = nil
  answer_with(self, instance)
  retire(self, building, function () done(nil) end)
  answer_swaps(self, nil)
end

--- Instances that failed at the record go on behind it.
function Versions:revive_at(seq)
  for instance in pairs(self.open) do
    local failed, at = instance.core:failure()
    if failed and at == seq and not instance.retired then
      instance.core:revive()
      if instance == self.pending then build(self, instance) end
    end
  end
end

--- Marks the instances whose state contains the record, which is skipped from now on. Whether there are any.
function Versions:mark_skipped(seq)
  local consumed = false
  for instance in pairs(self.open) do
    local has_it = not instance.retired and instance.core:reached() >= seq
    instance.has_skipped = instance.has_skipped or has_it
    consumed = consumed or has_it
  end
  return consumed
end

--- Tells all instances which records are skipped.
function Versions:tell_skips()
  for instance in pairs(self.open) do instance.core:skips(self.overrides.skips) end
end

--- No instance begins a block until the value that it gives is closed.
function Versions:hold_all()
  local held = {}
  for instance in pairs(self.open) do
    if not instance.core:hold(true) then held[#held + 1] = instance end
  end
  return setmetatable({}, {__close = function ()
    for _, instance in ipairs(held) do instance.core:hold(false) end
  end})
end

--- Whether a skipped record is in the state of the version that answers, or of the pending one.
function Versions:has_skipped()
  return self.answering.has_skipped or self.pending ~= nil and self.pending.has_skipped
end

--- The instances that keep a store on disk: a list.
function Versions:stored()
  local list = {}
  for instance in pairs(self.open) do
    if instance.number and not instance.retired then list[#list + 1] = instance end
  end
  return list
end

-- --- What a scrub does with them ---------------------------------------------------------------------------------

--- Calls fn() later and returns true while an older version is being closed.
function Versions:when_closed(fn)
  local _, waiting = next(self.ending)
  if waiting then waiting[#waiting + 1] = fn end
  return waiting ~= nil
end

--- Calls fn() later and returns true while a version is made the active one, or a store is rewritten.
function Versions:when_settled(fn)
  self:take_news()
  local waiting = self.erasing or self.slot:is_activating() and self.settling
  if waiting then waiting[#waiting + 1] = fn end
  return not not waiting
end

--- Calls done(err) when the pending version has taken the place, or can't.
function Versions:after_swap(done)
  self.swaps[#self.swaps + 1] = done
end

-- The instance goes on under another number, which replaces the old one everywhere.
local function renumber(self, instance, number)
  local before = instance.number
  instance.number = number
  if self.dirs:active() == before then self.dirs:set_active(number) end
  return self.dirs:remove(before)
end

--- Rewrites the store of the version that answers without what was deleted, under a new number: done(err).
function Versions:rewrite(done)
  local instance, number = self.answering, self.dirs:next_number()
  self.erasing = {}
  self.slot:block()
  instance.core:scrub(number, function (err, settled_as)
    local waiting, ok, message, code = self.erasing, true, nil, nil
    self.erasing = nil
    self.slot:unblock()
    if not err and settled_as == number then ok, message, code = renumber(self, instance, number) end
    for _, again in ipairs(waiting) do again() end
    done(err or not ok and errors.new(message, code) or nil)
  end)
end

--- Removes from the disk what no open version needs. true; nil, message, code.
function Versions:remove_unused()
  return remove_unused(self)
end

--- Why older versions of the view, beside the one that answers, may be left on disk; nil: there are none.
function Versions:why_older_remain()
  for instance in pairs(self.open) do
    if instance.retired and instance.number then return "an iterator is open in a version before" end
  end
  if next(self.ending) then return "a version before is being closed" end
  local active, message = self.dirs:active_on_disk()
  if active and active ~= self.answering.number then return "a version before is the active one on disk" end
  return message
end

--- The versions of a view without an instance yet. overrides: of the view. script: what it is mounted from, see
--- view.lua.
function Versions.new(view, db, script, overrides)
  local self = setmetatable({
    view = view,
    db = db,
    script = script,
    overrides = overrides,
    slot = nil,          -- which version answers, is pending, is active (core/view/view_slot.h)
    dirs = nil,          -- StateDirs
    answering = nil,     -- the instance that answers
    pending = nil,       -- the instance that is built to take its place
    heir = nil,          -- {instance =, swaps =}: the instance that is to take over the state when that is quiet
    open = {},           -- set of all instances that are open
    ending = {},         -- instance that is being closed -> list of functions to be called then
    settling = {},       -- functions to be called when no version is on its way to be the active one on disk
    erasing = nil,       -- while its store is rewritten by a scrub: list of functions to be called then
    swaps = {},          -- list of functions that wait until the pending version answers: done(err)
    reload_error = nil,  -- why the file as it is now could not be mounted
  }, Versions)
  self.slot = core.slot(db._pump, function () self:take_news() end)
  self.dirs = StateDirs.new(script, overrides, self.slot)
  return self
end

Versions.call_raw = call_raw

return Versions
