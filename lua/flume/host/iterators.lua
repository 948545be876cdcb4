-- Methods of type source and records: the host keeps the iterators that they return, and the caller pulls items from
-- them by a number.

local world = ...
local ranges = world.import "ranges"

local M = {}

--- What a source method returned, as a function that gives the next item (one or more values), nil at the end.
function M.iterator_of(name, method, first, state, control)
  if type(first) == "function" then
    return function ()
      local results = table.pack(first(state, control))
      control = results[1]
      return table.unpack(results, 1, results.n)
    end
  end
  if type(first) == "table" then
    local i = 0
    return function ()
      i = i + 1
      return first[i]
    end
  end
  error(('view "%s": the source %s must return a list or an iterator, not a %s'):format(name, method, type(first)), 0)
end

--- Adds open, pull and close to a host.
---
--- open(method, ...)  a source: id, nil, the seq as of which it is; or nil, options when the method gives a range of
---                    the view's own
--- pull(id, n)        the next n items: whether it has ended, items
--- close(id)
function M.add(host, name)
  local open, last = {}, 0

  function host.open(method, ...)
    local results = table.pack(host.functions[method](host.view, ...))
    if ranges.is(results[1]) then return nil, results[1].options end
    last = last + 1
    open[last] = M.iterator_of(name, method, table.unpack(results, 1, results.n))
    return last, nil, host.store and host.store.seq()
  end

  function host.pull(id, n)
    local items, next_item = {}, open[id]
    for i = 1, n do
      local item = table.pack(next_item())
      if item[1] == nil then
        open[id] = nil
        return true, items
      end
      items[i] = item
    end
    return false, items
  end

  function host.close(id)
    open[id] = nil
  end
end

return M
