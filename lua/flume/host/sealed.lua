-- A script keeps nothing from one record to the next but its state: what is kept anywhere else is lost when the
-- database is opened again, and is made again by a rebuild, with a different result each time. So the script is sealed
-- when it has been loaded:
--
--   - To write a global is an error, which names it.
--   - All that its fold functions (reducer, retract, group, indexer, mapper) can reach is noted: upvalues, globals, the
--     contents of tables, in modules too. When something of this has changed after records were folded, the view fails,
--     and the error names the local or the global. A cache is a change, too: tables have to be made when the script is
--     loaded.
--   - A coroutine or an iterator that they can reach is refused: its progress can't be seen.
--
-- Changes are looked for after the first records, then after as many records as make the looking cheap, and before
-- each commit. So no state is stored that was made in this way. A trusted script is not sealed, and neither is a view
-- that is given as a table.

local world = ...
local getupvalue, getmetatable = world.getupvalue, world.getmetatable -- which no field of a metatable hides

local M = {}

local RECORDS_PER_CELL = 4 -- folded between two looks: about 2 ns each

local ADVICE = "a view keeps what lasts from record to record in its state"

-- --- Environments ------------------------------------------------------------------------------------------------

--- The functions of an environment that has just been made, which are not looked into: a set. provided: a module with
--- functions that scripts may require.
function M.library_of(env, provided)
  local library = {}
  local function add(values)
    for _, value in pairs(values) do
      if type(value) == "function" then library[value] = true end
    end
  end
  add(env)
  for _, value in pairs(env) do
    if type(value) == "table" and value ~= env then add(value) end
  end
  add(provided)
  return library
end

-- Globals that the script has made move behind a metatable, so that writing to them is noticed; the library's are read
-- often, and stay. The table of them; nil when the script has given the environment a metatable of its own.
local function seal_globals(env, names)
  if getmetatable(env) ~= nil then return nil end
  local globals = {}
  for name, value in pairs(env) do
    if not names[name] then globals[name] = value end
  end
  for name in pairs(globals) do env[name] = nil end
  setmetatable(env, {
    __index = globals,
    __newindex = function (_, name)
      error(('the script writes the global "%s": %s'):format(tostring(name), ADVICE), 2)
    end,
    __metatable = false,
  })
  return globals
end

-- --- Noting ------------------------------------------------------------------------------------------------------

local Notes = {}
Notes.__index = Notes

local function refuse(what, where)
  error(("%s is kept in %s: %s"):format(what, where, ADVICE), 0)
end

-- A value that is found in a place is noted later, once.
local function find(self, value, where)
  local kind = type(value)
  if kind == "thread" then refuse("a coroutine", where) end
  if kind ~= "table" and kind ~= "function" or self.seen[value] then return end
  self.seen[value] = true
  self.found[#self.found + 1] = {value, where}
end

local function note_function(self, fn, where)
  local i = 1
  local name, value = getupvalue(fn, i)
  if name == "" then refuse("an iterator, or another function with a progress of its own,", where) end
  while name do
    self.upvalues[#self.upvalues + 1] = {fn = fn, i = i, value = value, name = name}
    find(self, value, name == "_ENV" and "a global" or ('the local "%s"'):format(name))
    i = i + 1
    name, value = getupvalue(fn, i)
  end
end

local function note_table(self, values, where)
  local copy, count, is_global = {}, 0, self.globals[values]
  for key, value in next, values do
    copy[key], count = value, count + 1
    find(self, key, where)
    find(self, value, is_global and ('the global "%s"'):format(tostring(key)) or where)
  end
  local metatable = getmetatable(values)
  find(self, metatable, where)
  self.tables[#self.tables + 1] = {values = values, copy = copy, count = count, metatable = metatable, where = where}
  self.cells = self.cells + count
end

local function note_found(self)
  for i, name in ipairs(self.modules) do
    find(self, self.env.require(name), ('the module "%s"'):format(name))
    self.modules[i] = nil
  end
  local noted_before = #self.upvalues
  while true do
    local next_one = table.remove(self.found)
    if not next_one then break end
    local note = type(next_one[1]) == "table" and note_table or note_function
    note(self, next_one[1], next_one[2])
  end
  self.cells = self.cells + #self.upvalues - noted_before
end

-- --- Looking -----------------------------------------------------------------------------------------------------

local function complain(where)
  error(("%s has changed since the script was loaded: %s"):format(where, ADVICE), 0)
end

local function is_same(a, b)
  return rawequal(a, b) or a ~= a and b ~= b
end

local function place_of(self, noted, key)
  if self.globals[noted.values] then return ('the global "%s"'):format(tostring(key)) end
  return noted.where
end

local function look(self)
  for _, noted in ipairs(self.upvalues) do
    local _, value = getupvalue(noted.fn, noted.i)
    if not is_same(value, noted.value) then complain(('the local "%s"'):format(noted.name)) end
  end
  for _, noted in ipairs(self.tables) do
    local copy, count = noted.copy, 0
    for key, value in next, noted.values do
      if not is_same(value, copy[key]) then complain(place_of(self, noted, key)) end
      count = count + 1
    end
    if count ~= noted.count or getmetatable(noted.values) ~= noted.metatable then complain(noted.where) end
  end
end

--- Looks for changes, after so many records were folded since the last call.
function Notes:folded(count)
  self.due = self.due + count
  if self.is_young or self.due >= self.cells * RECORDS_PER_CELL then self:check() end
end

--- Looks for changes now, if records were folded since. Raises.
function Notes:check()
  if self.due == 0 then return end
  self.due, self.is_young = 0, self.modules[1] ~= nil
  note_found(self) -- modules that were loaded since
  look(self)
end

--- A module is being loaded: what it gives is noted at the next look, as it is then.
function Notes:add_module(name)
  self.modules[#self.modules + 1] = name
end

--- Seals a script. env: its environment, in which it has run; names: set of the names of the library's globals there;
--- library: set of functions (library_of); functions: list of its fold functions. What notices changes.
function M.new(env, names, library, functions)
  local self = setmetatable({
    upvalues = {},   -- list of {fn =, i =, value =, name =}
    tables = {},     -- list of {values =, copy =, count =, metatable =, where =}
    env = env,
    modules = {},    -- list of the names of those that were loaded since the last look
    found = {},      -- list of {value, where}: not noted yet
    seen = {},       -- set of all that was found; the library's functions are no news
    globals = {},    -- set of tables whose fields are globals
    cells = 0,       -- how much there is to look at
    due = 0,         -- records that were folded since the last look
    is_young = true, -- there was no look, or none since modules were loaded
  }, Notes)
  for fn in pairs(library) do self.seen[fn] = true end
  for _, own in ipairs {_G, world, world.core} do self.seen[own] = true end
  local globals = seal_globals(env, names)
  self.globals[env] = true
  if globals then self.globals[globals] = true end
  for _, fn in ipairs(functions) do find(self, fn, "a function of the view") end
  if globals then find(self, globals, "a global") end
  note_found(self)
  return self
end

return M
