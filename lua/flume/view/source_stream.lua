-- What a source method gives: a stream of results, for a for loop or next([cb]).
--
-- There are three sorts. Most are pulled from the iterator that the view's method made, where the view lives. So is one
-- of records, whose results are keys and seqs; live, the method is asked again for what came after the seq as of which
-- it had answered. A range of the view's own entries (db.NAME:read{…}, or a method that returns view:range{…}) is read
-- page by page from its store: it outlives a change of the view's version, gets the records that entries are of, and
-- can go on live.

local async = require "flume.async"
local errors = require "flume.errors"
local ranges = require "flume.view.host_modules".import "ranges"

local shaped = ranges.shaped

local Source = {}
Source.__index = Source
Source.__name = "flume.source"

local PULL = 256 -- results that cross at once from a state of its own
local NOTHING = {} -- no items

local function answer_next(self, err, ...)
  local done = self.waiting
  self.waiting = nil
  done(err, ...)
end

-- --- Pulled from an iterator -------------------------------------------------------------------------------------

local function drop_iterator(view, instance, id)
  if not view:_is_over() then view:_call_on(instance, function () end, "close", id) end
  view:_unpin(instance)
end

local take

local function pull(self)
  self.view:_call_on(self.instance, function (err, ended, items)
    if not self.waiting then return end -- closed meanwhile
    if err then return answer_next(self, err) end
    self.items, self.at = items, 1
    if ended then
      drop_iterator(self.view, self.instance, self.id)
      self.id = nil
      self.ended = not self.of_records or not self.range.live
    end
    take(self)
  end, "pull", self.id, self.instance.host and 1 or PULL)
end

-- --- Read from a range -------------------------------------------------------------------------------------------

-- The value of an entry that has none of its own: the record that it is of. True and the value; false when that is
-- gone; nil and an error.
local function value_of(self, item)
  local range = self.range
  local has_records = self.of_records or self.view:_current().kind == "index"
  if item[3] ~= nil or range.values == false or not has_records then return true, item[3] end
  if self.view:_is_over() then return nil, self.view:_closed_error() end
  local value, message, code = self.view:_record(item[2])
  if value ~= nil or not message then return true, value end
  if code == "EDELETED" or code == "ENOENT" then return false end
  return nil, errors.new(message, code)
end

local function deliver(self, item)
  local found, value = value_of(self, item)
  if found == nil then return answer_next(self, value) end
  if not found then return take(self) end
  self.left = self.left - 1
  answer_next(self, nil, shaped(self.range, item[1], value, item[2]))
end

-- What came since live_seq is not known by itself any more: the range has it, in the order of the keys.
local function catch_up(self)
  local view, found = self.view, {}
  local first_seq, last_seq = self.live_seq, view:_current():since()
  local function add(err, items, resume)
    if not self.waiting then return end
    if err then return answer_next(self, err) end
    for _, item in ipairs(items) do
      found[#found + 1] = item
      item.place = #found
    end
    if resume then
      return view:_call_on(view:_current(), add, "page", self.bounds, PULL, first_seq, last_seq, resume)
    end
    table.sort(found, function (a, b)
      if a[2] ~= b[2] then return a[2] < b[2] end
      return a.place < b.place
    end)
    self.live_seq = math.max(last_seq + 1, first_seq)
    self.items, self.at = found, 1
    take(self)
  end
  view:_call_on(view:_current(), add, "page", self.bounds, PULL, first_seq, last_seq)
end

-- Entries that came after the last ones, and behind them all that come later.
local function follow(self)
  local view = self.view
  local function arrived(err, items, next_seq)
    if not self.waiting then return end
    if err then return answer_next(self, err) end
    if items == nil then return catch_up(self) end
    self.live_seq = math.max(next_seq, self.live_seq)
    self.items, self.at = items, 1
    if #items == 0 then self.live_seq = math.max(self.live_seq, self.seen_seq + 1) end
    take(self)
  end
  view:_wait(self.live_seq, nil, function (err)
    if not self.waiting then return end
    if err then return answer_next(self, err) end
    local instance = view:_current()
    self.seen_seq = instance:since()
    if self.followed ~= instance then
      self.followed = instance
      view:_call_on(instance, function () arrived(nil, nil) end, "follow", 1)
    else
      view:_call_on(instance, arrived, "recent", self.bounds, self.live_seq)
    end
  end)
end

local function read_page(self)
  local view, range = self.view, self.range
  view:_call_on(view:_current(), function (err, items, resume)
    if not self.waiting then return end
    if err then return answer_next(self, err) end
    self.items, self.at, self.resume = items, 1, resume
    self.paging = resume ~= nil
    take(self)
  end, "page", self.bounds, math.min(PULL, self.left), range.after and range.after + 1, self.max_seq, self.resume)
end

local function read_on(self)
  if self.paging then return read_page(self) end
  if self.range.live then return follow(self) end
  self.ended = true
  answer_next(self, nil, nil)
end

-- What the range is, as of now; or what is wrong with its options.
local function set_range(self, options)
  local kind, since = self.view:_current().kind, self.view:_current():since()
  local wrong = ranges.check(options)
  if not wrong and options and options.after and kind ~= "index" then wrong = "after is for an index" end
  if wrong then return wrong end
  options = options or {}
  self.range = kind == "group" and options.seqs == nil
    and setmetatable({seqs = false}, {__index = options}) or options
  self.bounds = options
  self.left = ranges.limit_of(options)
  self.max_seq = kind == "index" and since or nil
  self.paging = options.old ~= false
  self.live_seq = (self.paging and since or self.begun_seq) + 1
end

-- The options are wrong.
local function refuse(self, wrong)
  self.ended = true
  return answer_next(self, errors.new(("%s:%s: %s"):format(self.view.name, self.method, wrong), "EINVAL"))
end

-- Begins to read the range with these options.
local function start_range(self, options)
  local view, wrong = self.view, set_range(self, options)
  if wrong then return refuse(self, wrong) end
  if not self.range.live then return take(self) end
  self.followed = view:_current()
  view:_call_on(self.followed, function (err)
    if not self.waiting then return end
    if err then return answer_next(self, err) end
    take(self)
  end, "follow", 1)
end

-- The shortest way, for a range that can be read at once: its first page, when nothing has to be waited for. What it
-- leaves to be done, or to be told, next finds by itself.
local function begin_at_once(self)
  local view, options = self.view, self.args[1]
  if self.ended or self.waiting or not view:_current().builtin[self.method] then return end
  if type(options) == "table" and options.live or not view:_has(self.target) or set_range(self, options) then return end
  if not self.paging or self.left == 0 then return end
  local items, resume = view:_page_now(self.bounds, math.min(PULL, self.left), options and options.after and
    options.after + 1, self.max_seq)
  if not items then return end
  self.items, self.resume, self.paging = items, resume, resume ~= nil
  self.ended = not self.paging
end

-- --- Of records --------------------------------------------------------------------------------------------------

local open_iterator

-- The arguments of the method, with other options.
local function args_after(self, seq)
  local args, options = table.pack(table.unpack(self.args, 1, self.args.n)), {}
  for name, value in pairs(self.range) do options[name] = value end
  options.after = seq
  args[math.max(args.n, 1)] = options
  return args
end

-- The method has told all that there was up to asked_seq.
local function ask_again(self)
  self.view:_wait(self.asked_seq + 1, nil, function (err)
    if not self.waiting then return end
    if err then return answer_next(self, err) end
    open_iterator(self, args_after(self, self.asked_seq))
  end)
end

local function start_records(self)
  local last = self.args[self.args.n]
  local options = type(last) == "table" and last or {}
  local wrong = ranges.check_records(options)
  if wrong then return refuse(self, wrong) end
  self.range, self.of_records = options, true
  self.left = ranges.limit_of(options)
  if options.old ~= false then return open_iterator(self, self.args) end
  self.asked_seq, self.ended = self.begun_seq, not options.live
  take(self)
end

-- --- All --------------------------------------------------------------------------------------------------------

function take(self)
  if self.left == 0 then return self:close() end -- which answers
  local item = self.items[self.at]
  if item then
    self.items[self.at] = nil
    self.at = self.at + 1
    if self.range then return deliver(self, item) end
    return answer_next(self, nil, table.unpack(item, 1, item.n or #item))
  end
  if self.ended then return answer_next(self, nil, nil) end
  if self.view:_is_over() then return answer_next(self, self.view:_closed_error()) end
  if self.id then return pull(self) end
  if self.of_records then return ask_again(self) end
  read_on(self)
end

function open_iterator(self, args)
  local view, instance = self.view, self.view:_current()
  local since = instance:since()
  instance:pin()
  view:_call_on(instance, function (err, id, options, seq)
    if err or not id then view:_unpin(instance) end
    if not self.waiting then return id and drop_iterator(view, instance, id) end
    if err then return answer_next(self, err) end
    if not id then
      self.of_records = false
      return start_range(self, options)
    end
    self.id, self.instance = id, instance
    self.asked_seq = math.max(since, seq or -1)
    take(self)
  end, "open", self.method, table.unpack(args, 1, args.n))
end

local function start(self)
  if self.id or self.range or self.ended then return take(self) end
  self.view:_with_patience(self.target, self.timeout_ms, function (err)
    if not self.waiting then return end
    if err then return answer_next(self, err) end
    if self.view:_current().builtin[self.method] then return start_range(self, self.args[1]) end
    if self.view.methods[self.method] == "records" then return start_records(self) end
    open_iterator(self, self.args)
  end)
end

-- The next entry of a range, if it was fetched already: true and its results.
local function at_hand(self)
  local at, range = self.at, self.range
  local item = self.items[at]
  if not item or not range or self.waiting or self.left == 0 then return false end
  local value = item[3]
  if value == nil and range.values ~= false then
    local found
    found, value = value_of(self, item)
    if not found then return false end -- which next sees too
  end
  self.at, self.left = at + 1, self.left - 1
  return true, shaped(range, item[1], value, item[2])
end

local function next_of(self, cb)
  return async.call(function (done)
    if self.waiting then return done(errors.new("another next of this source is waiting", "EBUSY")) end
    self.waiting = done
    start(self)
  end, cb)
end

local function or_next(self, there, ...)
  if there then return ... end
  return next_of(self)
end

--- The next result; nil at the end; nil, message, code on failure.
function Source:next(cb)
  if cb then return next_of(self, cb) end
  if not self.range then begin_at_once(self) end
  return or_next(self, at_hand(self))
end

local function or_raise(first, message, code, ...)
  if first == nil and code ~= nil then error(message, 0) end
  return first, message, code, ...
end

local function or_next_or_raise(self, there, ...)
  if there then return ... end
  if (self.ended or self.left == 0) and not self.waiting and not self.items[self.at] then
    if not self.ended then self:close() end
    return nil
  end
  return or_raise(next_of(self))
end

function Source:__call()
  if not self.range then begin_at_once(self) end
  return or_next_or_raise(self, at_hand(self))
end

--- No more results are wanted. A next that waits is told that this is the end.
function Source:close()
  if self.id and not self.ended then drop_iterator(self.view, self.instance, self.id) end
  if self.followed and not self.view:_is_over() then
    local followed = self.followed
    if followed == self.view:_current() then self.view:_call_on(followed, function () end, "follow", -1) end
  end
  self.followed = nil
  self.ended, self.items, self.at = true, NOTHING, 1
  if self.waiting then answer_next(self, nil, nil) end
  return true
end

Source.__close = Source.close

--- A source of a view's method, which begins with its first next.
local function new(view, method, args, target, timeout_ms)
  return setmetatable({
    view = view,
    method = method,
    args = args,
    target = target,        -- the seq to wait for, or nil
    timeout_ms = timeout_ms,
    instance = nil,         -- where the iterator is
    id = nil,               -- of the iterator there
    range = nil,            -- or the options of the range, or of the records
    of_records = false,     -- the method gives keys and seqs
    asked_seq = nil,        -- of records: the seq as of which the method has answered
    bounds = nil,           -- the same, for the store
    resume = nil,           -- behind the last entry that was fetched
    paging = false,         -- there may be more to read of the range
    begun_seq = view:_log():since(), -- of the log, when the source was made
    max_seq = nil,          -- of the entries that are old
    left = math.maxinteger, -- of the limit
    live_seq = nil,         -- what comes with this seq or a later one has not been read
    seen_seq = nil,
    followed = nil,         -- the instance that keeps for us what comes
    items = NOTHING,        -- fetched, not delivered
    at = 1,
    waiting = nil,          -- done() of a next that waits
    ended = false,
  }, Source)
end

return {new = new}
