-- Writes the annotations of lua/flume/meta.lua as ldoc has them, a file for the module and one for each class:
--
--   lua5.4 packaging/reference.lua FOLDER

package.path = "./?.lua;" .. package.path
local read = require "packaging.annotations"

-- Whose functions are called on the module: flume.log.file, flume.json.encode.
local IN_MODULE = {flume = "flume", ["flume.Logs"] = "flume.log", ["flume.Json"] = "flume.json",
  ["flume.Conditions"] = "flume.query"}

-- ldoc knows no signatures: those stand in the text.
local function split_type(kind, optional)
  local text = ""
  kind = kind:gsub("fun(%b())", function (parameters)
    text = parameters == "()" and "" or parameters:gsub(":%s*[^,)]+", ""):gsub("%?", "") .. " "
    return "function"
  end)
  kind = kind:gsub("function:%s*[%w_.]+", "function"):gsub("table%b<>", "table"):gsub("%?$", "|nil"):gsub("%s+", "")
  return optional and kind .. "|nil" or kind, text
end

local function add_tag(lines, tag, item, optional)
  local kind, text = split_type(item.type, optional)
  lines[#lines + 1] = ("-- @%s %s %s %s%s"):format(tag, kind, item.name, text, (item.doc:gsub("<", "&lt;")))
end

local function add(lines, fmt, ...)
  lines[#lines + 1] = fmt:format(...)
end

local function add_doc(lines, doc)
  local mark = "---"
  for line in (doc .. "\n"):gmatch "(.-)\n" do
    add(lines, "%s %s", mark, (line:gsub("<", "&lt;")))
    mark = "--"
  end
end

local function add_function(lines, owner, separator, fn)
  add_doc(lines, fn.doc)
  for _, name in ipairs(fn.params) do
    local param = fn.param[name]
    add_tag(lines, param.optional and "tparam[opt]" or "tparam", param, false)
  end
  for _, result in ipairs(fn.returns) do add_tag(lines, "treturn", result, false) end
  add(lines, "function %s%s%s(%s) end\n", owner, separator, fn.name, table.concat(fn.params, ", "))
end

local function add_table(lines, class)
  local parents = class.parents[1] and "\nWith the fields of " .. table.concat(class.parents, " and ") .. "." or ""
  add_doc(lines, class.doc .. parents)
  for _, field in ipairs(class.fields) do
    if field.name:find "^[%a_]" then add_tag(lines, "tfield", field, field.optional) end
  end
  add(lines, "-- @table %s\n", class.name:match "[^.]+$")
end

local function write(path, lines)
  local file = assert(io.open(path, "w"))
  file:write(table.concat(lines, "\n"), "\n")
  assert(file:close())
end

local function write_class(folder, class, by_name)
  local name, lines = class.name:match "[^.]+$", {}
  add_doc(lines, class.doc)
  add(lines, "-- @classmod %s\n", class.name)
  for _, parent in ipairs(class.parents) do
    for _, fn in ipairs(by_name[parent].functions) do add_function(lines, name, ":", fn) end
  end
  for _, fn in ipairs(class.functions) do add_function(lines, name, ":", fn) end
  if class.fields[1] then
    add_table(lines, {name = class.name .. ".fields", doc = "The fields of it.", parents = {}, fields = class.fields})
  end
  write(folder .. "/" .. name .. ".lua", lines)
end

local function main(folder)
  local classes, by_name, module = read "lua/flume/meta.lua", {}, {}
  for _, class in ipairs(classes) do
    by_name[class.name] = class
    if class.name == "flume" then
      add_doc(module, class.doc)
      add(module, "-- @module flume\n")
    end
    local owner = IN_MODULE[class.name]
    if owner then
      for _, fn in ipairs(class.functions) do add_function(module, owner, ".", fn) end
    elseif class.functions[1] then
      write_class(folder, class, by_name)
    else
      add_table(module, class)
    end
  end
  write(folder .. "/flume.lua", module)
end

main(arg[1])
