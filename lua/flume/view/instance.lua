-- An instance: a version of a view, as C has it (lua/view/lua_view.h), and what it says of itself. It is made of a script, in a
-- Lua state of its own or in the caller's. Which of them answers is for versions.lua.

local core = require "flume.core"
local make_host = require "flume.host.host"
local using = require "flume.view.dependents"
local View = require "flume.view.view"

local M = {}

local SCRIPT_MEMORY_BYTES = 256 * 1024 * 1024
local SCRIPT_BUDGET = 200 * 1000 * 1000 -- instructions for one record or call: about a second

-- What a state of its own is started with: read and compiled once.
local bytecode = setmetatable({}, {__index = function (self, name)
  local path = assert(package.searchpath(name == "observable" and "flume.observable" or "flume.host." .. name, package.path))
  local bytes = string.dump(assert(loadfile(path, "t")))
  self[name] = bytes
  return bytes
end})

local function memory_of(script)
  return script.memory or not script.trusted and SCRIPT_MEMORY_BYTES or nil
end

local function load_script(handle, script, others)
  local ok, message, code = handle:load(bytecode.host, {
    name = script.name, path = script.path, folder = script.folder, mapper_path = script.mapper_path,
    memory = memory_of(script), trusted = script.trusted, package = {path = package.path, cpath = package.cpath},
    params = script.params, built_in = script.built_in, others = others,
    natives = {["flume.text"] = package.searchpath("flume.text", package.cpath) or ""},
    lib = {
      observable = bytecode.observable, sandbox = bytecode.sandbox, kinds = bytecode.kinds, script_sources = bytecode.script_sources,
      uses = bytecode.uses, ranges = bytecode.ranges,
    },
  })
  if not ok then return nil, message, code end
  local done, described, why = handle:call_now("describe")
  if not done then return nil, described, why end
  return described
end

local function load_inline(script, others)
  local ok, host = pcall(make_host, setmetatable({others = others}, {__index = script}))
  if ok then return host end
  local err = host
  if type(err) == "table" and err.message then return nil, err.message, err.code end
  return nil, tostring(err), "EVIEW"
end

local function check_method_names(name, methods)
  for method in pairs(methods) do
    if View.RESERVED[method] or method:sub(1, 1) == "_" then
      return nil, ('view "%s": the method name %s is taken'):format(name, method), "EINVAL"
    end
  end
  return true
end

--- An instance of a view, of its script as it is now, that has not been started: it consumes nothing yet. nil, message,
--- code.
function M.new(db, script)
  local host, described, handle, others, message, code
  if not (script.definition or script.in_caller) then
    local budget = script.trusted and "trusted" or script.budget or SCRIPT_BUDGET
    handle = core.view(db._pump, nil, memory_of(script), budget)
    others = using.others(db, "elsewhere")
    described, message, code = load_script(handle, script, others)
    if not described then return nil, message, code end
  end
  if not described or described.in_caller then -- a raw view keeps itself, where it can reach what it needs
    others = using.others(db, "here")
    host, message, code = load_inline(script, others)
    if not host then return nil, message, code end
    handle, described = core.view(db._pump, host), host.describe()
  end
  local ok, why, errno = true, nil, nil
  if not (host and host.engine) then ok, why, errno = check_method_names(script.name, described.methods) end
  if not ok then return nil, why, errno end
  return {
    core = handle,
    host = host,                -- the host object of an inline view
    kind = described.kind,
    methods = described.methods,
    builtin = described.builtin,
    version = described.version,
    version_text = described.version_text or described.version ~= nil and tostring(described.version) or "",
    uses = described.uses,      -- names of the views that it uses; nil for none
    saw = using.marks(script, others, described.uses), -- name -> what it took that view for
    stamp = described.stamp,    -- of all that it uses: it is the same for the same
    keyless = described.keyless, -- true: its groups are one, without a key
    fingerprint = described.fingerprint,
    token = nil,                -- of one that is like no other: see deltas.lua
    misled = false,             -- it took another view for one that it uses: it is not to answer any more
    begins_behind = described.since,
    accepts = false,            -- it goes on with a state that another version has made
    reason = nil,               -- why it is built anew
    has_skipped = false,        -- a record is in its state that was skipped later
    number = nil,               -- of its directory
    activates = false,          -- its first checkpoint makes it the active one there
    sources = 0,                -- iterators that are open in it
    quiet = nil,                -- while it rests, or is asked to: list of functions that wait for their turn
    retired = false,            -- another one has taken its place
    on_end = nil,               -- called when it is closed
  }
end

return M
