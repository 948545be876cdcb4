-- The file of Lua that the prompt runs first: $XDG_CONFIG_HOME/flume/init.lua (~/.config when that is not set), else
-- ~/.flumerc.lua. What it defines is in scope at the prompt; it is given a table of settings that it may change:
--
--   local settings = ...
--   settings.mode = "json"     how results are printed: auto, lua, json or table
--   settings.timer = true      statements say how long they took

local M = {}

local function env(name)
  local value = os.getenv(name)
  return value ~= "" and value or nil
end

-- The file's path; nil when there is none.
function M.find()
  local home = env "HOME"
  local config = env "XDG_CONFIG_HOME" or home and home .. "/.config"
  for _, path in ipairs {config and config .. "/flume/init.lua" or "", home and home .. "/.flumerc.lua" or ""} do
    local file = path ~= "" and io.open(path, "r")
    if file then
      file:close()
      return path
    end
  end
  return nil
end

-- Runs a file for a console. What is wrong with it is told, and the prompt comes all the same.
function M.run(path, console)
  local chunk, message = loadfile(path, "t", console.env)
  if not chunk then return console:complain(message) end
  local settings = {mode = console.mode, timer = console.timer}
  if not console:evaluate(function () chunk(settings) end) then return end
  if console.modes[settings.mode] then
    console:set_mode(settings.mode)
  else
    console:complain(("%s: mode: '%s' is none of auto, lua, json, table"):format(path, tostring(settings.mode)))
  end
  console.timer = settings.timer == true
end

return M
