-- db.NAME:skip(seq [, cb]): the view passes over a record from now on, and so does each view that uses it.

local core = require "flume.core"
local errors = require "flume.errors"
local rebuild = require "flume.view.rebuild"

local M = {}

-- Durable before it counts. The versions fold nothing more meanwhile: each has consumed the record, or passes over it.
-- true; nil, message, code.
local function note_skip(view, seq)
  local overrides, versions = view._overrides, view._versions
  if overrides:is_skipped(seq) then return true end
  versions:take_news()
  local _ <close> = versions:hold_all()
  local consumed = versions:mark_skipped(seq)
  local number = consumed and versions.dirs:is_writable() and versions.dirs:next_number() or nil
  local ok, message, code = overrides:skip(seq, number)
  if not ok then return nil, message, code end
  versions:tell_skips()
  return true
end

-- Views that use this one are rebuilt without the record. done() for each that had consumed it, when it answers; how
-- many these are.
local function skip_in_users(view, seq, done)
  local pending = 0
  for _, user in ipairs(view._db._dependents:concerned(view.name)) do
    local has_it = not user._broken and user._core:reached() >= seq
    if has_it then pending = pending + 1 end
    user:_reload(false, function ()
      if has_it then core.later(done) end
    end)
  end
  return pending
end

local function skip_here(view, seq, done)
  local versions = view._versions
  versions:revive_at(seq)
  local failed = view:_failure()
  if not versions:has_skipped() then return done(nil) end
  rebuild.rebuild(view, function (err)
    if not err then view._overrides:settle_skip(seq) end
    if not failed then done(err) end
  end)
  if failed then done(nil) end -- it may fail again, at another record
end

--- done(err): durable, and the record is in no state that answers.
function M.skip(view, seq, done)
  if view._broken then return done(view._broken) end
  local ok, message, code = note_skip(view, seq)
  if not ok then return done(errors.new(message, code)) end
  local pending, failure = 1, nil
  local function one(err)
    pending, failure = pending - 1, failure or err
    if pending == 0 then done(failure) end
  end
  pending = pending + skip_in_users(view, seq, one)
  skip_here(view, seq, one)
end

return M
