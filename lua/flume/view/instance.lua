-- An instance: one version of a view, as the core runs it (lua/view/lua_view.h), with what its definition declares. Its
-- code lives in a Lua state of its own, or in the caller's. versions.lua decides which instance answers.

local core = require "flume.core"
local host_modules = require "flume.view.host_modules"

local Instance = {}
Instance.__index = Instance

local M = {}

--- Names that a view's own methods can't have: what every view has by itself.
M.RESERVED = {
  since = true, progress = true, ready = true, rebuild = true, skip = true, accept = true, explain = true, name = true,
  version = true, reason = true, methods = true,
}

local SCRIPT_MEMORY_BYTES = 256 * 1024 * 1024
local SCRIPT_BUDGET = 200 * 1000 * 1000 -- instructions for one record or call: about a second

local function memory_of(script)
  return script.memory or not script.trusted and SCRIPT_MEMORY_BYTES or nil
end

local function load_script(handle, script, others)
  local main, lib = host_modules.for_script()
  local ok, message, code = handle:load(main, {
    name = script.name, path = script.path, folder = script.folder, mapper_path = script.mapper_path,
    memory = memory_of(script), trusted = script.trusted, package = {path = package.path, cpath = package.cpath},
    params = script.params, built_in = script.built_in, others = others,
    natives = {["flume.text"] = package.searchpath("flume.text", package.cpath) or ""},
    lib = lib,
  })
  if not ok then return nil, message, code end
  local done, described, why = handle:call_now("describe")
  if not done then return nil, described, why end
  return described
end

local function load_inline(script, others)
  local ok, host = pcall(host_modules.import "host", setmetatable({others = others}, {__index = script}))
  if ok then return host end
  local err = host
  if type(err) == "table" and err.message then return nil, err.message, err.code end
  return nil, tostring(err), "EVIEW"
end

local function check_method_names(name, methods)
  for method in pairs(methods) do
    if M.RESERVED[method] or method:sub(1, 1) == "_" then
      return nil, ('view "%s": the method name %s is taken'):format(name, method), "EINVAL"
    end
  end
  return true
end

--- Whether the states of two instances at the same seq are the same: by the version, or by the source without one.
function Instance:is_same_version(other)
  return self.version_text == other.version_text and (self.version_text ~= "" or self.fingerprint == other.fingerprint)
end

local function hex(bytes)
  return (bytes:gsub(".", function (byte) return ("%02x"):format(byte:byte()) end))
end

--- A text that is the same for instances whose states at the same seq are the same: the version, or the fingerprint of
--- the source. An instance with neither is like no other; so is one whose state contains a record that was skipped
--- later.
function Instance:identity()
  local name = self.version_text
  if name == "" and self.fingerprint ~= 0 then name = ("%016x"):format(self.fingerprint) end
  if name ~= "" and not self.has_skipped then return name end
  self.token = self.token or hex(core.random_bytes(16))
  return self.token
end

--- The seq up to which its state has all records.
function Instance:since()
  return self.core:since()
end

--- How many of the log's deletions, in their order, it has taken back, or knows not to have consumed.
function Instance:known_deletions()
  return self.core:deletions()
end

--- Whether its state has all records up to seq, without those that are deleted.
function Instance:has(seq)
  return self.core:has(seq)
end

--- An iterator is open in the instance: it is not closed before the iterator is. Versions:unpin is the opposite.
function Instance:pin()
  self.pins = self.pins + 1
end

local function new(script, handle, host, described)
  return setmetatable({
    script = script,            -- what it is made of
    core = handle,
    host = host,                -- the host object of an inline view
    kind = described.kind,
    methods = described.methods,
    builtin = described.builtin,
    version = described.version,
    version_text = described.version_text, -- "" without a version
    uses = described.uses,      -- names of the views that it uses; nil for none
    saw = nil,                  -- name of a used view -> what that view was when the instance was made
    modules = described.modules, -- list of the names of modules that its script has loaded or may load
    stamp = described.stamp,    -- of all that it uses: the same text for the same views
    keyless = described.keyless, -- true: an aggregate with one group that has no key
    fingerprint = described.fingerprint,
    token = nil,                -- see identity
    misled = false,             -- a view that it uses has changed: it must not answer any more
    begins_behind = described.since,
    accepts = false,            -- it goes on with the state of a different version
    reason = nil,               -- why it is rebuilt
    has_skipped = false,        -- its state contains a record that was skipped later
    number = nil,               -- of its directory
    pins = 0,                   -- iterators that are open in it
    quiet = nil,                -- while it rests, or is asked to: list of functions that wait for their turn
    retired = false,            -- another instance has taken its place
    on_end = nil,               -- called when it is closed
  }, Instance)
end

-- A handle with a state of its own, in which the script is loaded. The state is given what there is under the names of
-- the views that the script uses; which these are is known when the script has run, so it is loaded again then. The
-- handle, the description, others; nil, message, code.
local function load_elsewhere(db, script)
  local others, budget = {}, script.trusted and "trusted" or script.budget or SCRIPT_BUDGET
  while true do
    local handle = core.view(db._pump, nil, memory_of(script), budget)
    local described, message, code = load_script(handle, script, others)
    if not described then return nil, message, code end
    if not described.needs then return handle, described, others end
    for _, name in ipairs(described.needs) do others[name] = db._dependents:used(name, "elsewhere") end
  end
end

--- An instance of the view's script as the file is now. It has not been started, so it consumes nothing yet.
--- nil, message, code.
function M.new(db, script)
  local host, described, handle, others, message, code
  if not (script.definition or script.in_caller) then
    handle, described, others = load_elsewhere(db, script)
    if not handle then return nil, described, others end
  end
  if not described or described.in_caller then -- a raw view keeps itself, where it can reach what it needs
    others = db._dependents:all_used "here"
    host, message, code = load_inline(script, others)
    if not host then return nil, message, code end
    handle, described = core.view(db._pump, host), host.describe()
  end
  local ok, why, errno = true, nil, nil
  if not (host and host.engine) then ok, why, errno = check_method_names(script.name, described.methods) end
  if not ok then return nil, why, errno end
  local instance = new(script, handle, host, described)
  instance.saw = db._dependents:note(script, others, described.uses)
  return instance
end

return M
