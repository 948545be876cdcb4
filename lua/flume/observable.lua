-- Observables: a value that can be watched.
--
--   o.value, o:get()             the value now
--   o:set(v)                     sets it, and calls the listeners
--   local off = o(fn)            fn(value) now (when there is a value) and at each change; off() ends it
--   o(fn, false)                 not now
--   o:once(fn [, immediately])   fn(value) once: now, or at the next change
--
-- Needs nothing of the rest of flume, so that it also works inside a view's own state.

local Observable = {}

--- source: optional table with get() for the value; start(notify) -> stop, called while anybody listens; and call(fn,
--- value), which calls a listener of a change.
local function new(value, source)
  return setmetatable({
    _value = value,     -- when there is no source
    _source = source,
    _listeners = {},    -- list of {fn =}
    _stop = nil,        -- of the source, while anybody listens
    _set = nil,         -- function (value) in place of a plain set
  }, Observable)
end

function Observable.__index(self, key)
  if key == "value" then return Observable.get(self) end
  return Observable[key]
end

function Observable:get()
  if self._source then return self._source.get() end
  return self._value
end

-- Each listener is called, whatever the others raise; then the first error is raised again.
function Observable:notify()
  local value = self:get()
  local listeners = table.move(self._listeners, 1, #self._listeners, 1, {})
  local call = self._source and self._source.call
  local failed, failure = false, nil
  for _, listener in ipairs(listeners) do
    if listener.gone then
      goto continue
    elseif call then
      call(listener.fn, value)
    else
      local ok, err = pcall(listener.fn, value)
      if not ok and not failed then failed, failure = true, err end
    end
    ::continue::
  end
  if failed then error(failure, 0) end
end

function Observable:set(value)
  if self._set then
    self._set(value)
  elseif self._source then
    error("this observable can't be set", 2)
  else
    self._value = value
  end
  self:notify()
end

local function remove(self, listener)
  if listener.gone then return end
  listener.gone = true
  for i, other in ipairs(self._listeners) do
    if other == listener then
      table.remove(self._listeners, i)
      break
    end
  end
  if #self._listeners == 0 and self._stop then
    self._stop()
    self._stop = nil
  end
end

local function listen(self, fn)
  local listener = {fn = fn, gone = false}
  self._listeners[#self._listeners + 1] = listener
  if #self._listeners == 1 and self._source and self._source.start then
    self._stop = self._source.start(function () self:notify() end)
  end
  return function () remove(self, listener) end
end

local function check_function(fn)
  if type(fn) ~= "function" then error("a function expected, got a " .. type(fn), 3) end
end

function Observable:__call(fn, immediately)
  check_function(fn)
  local off = listen(self, fn)
  if immediately ~= false then
    local value = self:get()
    if value ~= nil then fn(value) end
  end
  return off
end

function Observable:once(fn, immediately)
  check_function(fn)
  if immediately ~= false then
    local value = self:get()
    if value ~= nil then
      fn(value)
      return function () end
    end
  end
  local off
  off = listen(self, function (value)
    off()
    fn(value)
  end)
  return off
end

function Observable:__tostring()
  return "observable: " .. tostring(self.value)
end

Observable.__name = "flume.observable"

return {
  new = new,
  is = function (value) return getmetatable(value) == Observable end,
}
