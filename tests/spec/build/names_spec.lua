-- The paths, functions and targets that the guides for contributors name exist in the tree.
--
-- A name stands between backticks: a path (`core/log/log.h`), a function or other name in a file
-- (`core/log/log.c:flume__log_init`), a name of the C API or of core (`flume_log_open`), or a call of make. Paths may
-- begin in the folder of the document. A name with NAME in it stands for any name. The map names functions alone:
-- there, what stands behind a file is defined in it. The files that the comments of the sources name exist, too.

local shell = require "tests.support.shell"
local fixture = require "tests.support.fixture"

local DOCUMENTS = {"CONTRIBUTING.md", "tests/README.md", "core/README.md"}
local MAP = "core/README.md"
local EXTENSIONS = {c = true, h = true, lua = true, md = true, map = true, ["1"] = true, ["3"] = true}

local function file_list()
  local list = {}
  for path in shell.output "git ls-files -co --exclude-standard":gmatch "[^\n]+" do list[#list + 1] = path end
  return list
end

-- Set of the paths of the tree: files and folders, whole and from each folder on; and the text of all sources.
local function read_tree()
  local paths, text = {}, {}
  for _, path in ipairs(file_list()) do
    local part = path
    while part do -- core/log/log.h, core/log, core
      paths[part] = true
      part = part:match "^(.*)/[^/]*$"
    end
    paths[path:match "[^/]*$"] = true -- log.h
    local is_source = path:find "%.[ch]$" or path:find "%.lua$" and not path:find "/names_spec%.lua$"
    if is_source then text[#text + 1] = fixture.read(path) end
  end
  return paths, table.concat(text, "\n")
end

-- The text between backticks, and the words of the indented blocks: make, and paths behind FILE=.
local function names_of(document)
  local list = {}
  local text = fixture.read(document):gsub("```.-```", "")
  for name in text:gmatch "`([^`\n]+)`" do list[#list + 1] = name end
  for line in text:gmatch "\n    (make [^\n#]*)" do list[#list + 1] = line end
  return list
end

local function has_word(text, word)
  return text:find("%f[%w_]" .. word:gsub("%p", "%%%0") .. "%f[^%w_]") ~= nil
end

local function is_path(name)
  return name:find "^[%w_.%-]+/[%w_./%-]*$" or name:find "^[%w_%-]+%.%w+$" and EXTENSIONS[name:match "%w+$"]
end

-- Whether the text of a file defines the function.
local function defines(text, file, name)
  local word = "%f[%w_]" .. name .. "%f[^%w_]"
  text = "\n" .. text
  if not file:find "%.lua$" then
    for found in text:gmatch("\n(%a[^\n;={]*" .. word .. "%([^;{}]*[;{])") do
      if found:find "{$" then return true end
    end
    return false
  end
  return (text:find("\n%s*local function " .. word) or text:find("\n%s*function [%w_.:]*" .. word)
    or text:find("\n%s*[%w_.]*" .. word .. " = function")) ~= nil
end

-- What is wrong with a name, or nil. With strict, a name behind a file is a function that the file defines.
local function problem(name, tree, sources, makefile, strict)
  local file, inner = name:match "^([%w_./%-]+%.%w+):([%w_.:]+)$"
  local targets = name:match "^make ([%w%s_/.=%-]+)"
  if name:find "%f[%u]NAME%f[%U]" and not targets or name:find "^build" then return nil end
  if file then
    if not tree(file) then return "no such file" end
    local text, word = fixture.read(tree(file)), inner:match "[%w_]+$"
    if not has_word(text, word) then return "not in the file" end
    if strict and not defines(text, file, word) then return "not defined in the file" end
  elseif targets then
    for word in targets:gmatch "%S+" do
      local target = word:match "^%l[%l%-]*$"
      if target and not makefile:find("\n" .. target:gsub("%-", "%%-") .. ":") then return "no such target" end
    end
    for path in targets:gmatch "FILE=([%w_./]+)" do
      if not tree(path) then return "no such file" end
    end
  elseif is_path(name) then
    if not tree(name) then return "no such path" end
  else
    local symbol = name:match "^struct (flume_[%w_]+)$" or name:match "^(flume_[%w_]+)%(?%)?$"
      or name:match "^(FLUME_[%u_%d]+)$"
    if symbol and not has_word(sources, symbol) then return "no such name in the sources" end
  end
end

describe("the names in", function ()
  local paths, sources = read_tree()
  local makefile = fixture.read "Makefile" .. "\n" .. fixture.read "packaging/package.mk"

  for _, document in ipairs(DOCUMENTS) do
    it(document .. " exist", function ()
      local folder = document:match "^(.*/)" or ""
      local function tree(path)
        path = path:gsub("/$", "")
        if paths[folder .. path] and folder ~= "" then return folder .. path end
        return paths[path] and path or nil
      end
      local missing, names = {}, names_of(document)
      for _, name in ipairs(names) do
        local what = problem(name, tree, sources, makefile, document == MAP)
        if what then missing[#missing + 1] = name .. ": " .. what end
      end
      assert.same({}, missing)
      assert.is_true(#names > 20)
    end)
  end

  it("a document that is wrong are found", function ()
    local function tree(path) return paths[path] and path or nil end
    for name, expected in pairs {
      ["core/log/nothing.c"] = "no such path", ["core/log/"] = "no such path", ["nothing.lua"] = "no such path",
      ["core/log/nothing.c:x"] = "no such file", ["core/log/log.c:flume_nothing"] = "not in the file",
      ["flume_log_nothing"] = "no such name in the sources", ["struct flume_nothing"] = "no such name in the sources",
      ["make nothing"] = "no such target", ["make test FILE=tests/c/nothing.c"] = "no such file",
    } do
      assert.equal(expected, problem(name, tree, sources, makefile), name)
    end
    for _, name in ipairs {"core/log/log.c", "log.c", "core/log/log.c:flume__log_init", "flume_log_open", "make test",
      "struct flume_log_ops", "make test FILE=tests/c/log/test_log.c NAME=x", "since", "a b"} do
      assert.is_nil(problem(name, tree, sources, makefile), name)
    end
  end)

  it("the map are functions of their files", function ()
    local function tree(path) return paths[path] and path or nil end
    for name, expected in pairs {
      ["core/view/pump.c:flume__log_plan"] = "not defined in the file", -- called there
      ["core/log/log.h:flume__log_plan"] = "not defined in the file", -- declared there
      ["core/view/view.h:FLUME_WANT_REBUILD"] = "not defined in the file",
      ["lua/flume/view/calls.lua:_is_over"] = "not defined in the file",
      ["core/log/log.c:flume__log_plan"] = false, ["core/view/pump.c:schedule_sink"] = false,
      ["core/log/block.h:flume_block_ref"] = false, ["lua/flume/view/calls.lua:method_of"] = false,
      ["lua/flume/log/init.lua:append"] = false, ["lua/flume/view/calls.lua:read_script"] = false,
    } do
      assert.equal(expected or nil, problem(name, tree, sources, makefile, true), name)
    end
  end)

  it("comments of the sources are files of the tree", function ()
    local foreign = {["luv.h"] = true}
    local missing = {}
    local function check(path, comment, extension)
      for name in comment:gmatch("[%w_/%-]*[%w_]%." .. extension .. "%f[^%w]") do
        local is_known = paths[name] or paths[name:match "[^/]*$"] or foreign[name]
        if not is_known and not name:find "%u" then missing[#missing + 1] = path .. ": " .. name end
      end
    end
    for _, path in ipairs(file_list()) do
      local is_c, is_lua = path:find "%.[ch]$", path:find "%.lua$"
      if path:find "^tests/" then is_c, is_lua = nil, nil end
      for comment in (is_c and fixture.read(path) or ""):gmatch "/%*.-%*/" do
        check(path, comment, "[ch]")
        check(path, comment, "lua")
      end
      for comment in (is_lua and fixture.read(path) or ""):gmatch "%-%-[^\n]*" do check(path, comment, "[ch]") end
    end
    assert.same({}, missing)
  end)

  it("the map are linked from where a newcomer begins", function ()
    local _, after = fixture.read "README.md":match "\n()## Finding your way\n()"
    assert.equal(MAP, fixture.read "README.md":sub(after):match "%]%(([^)]*)%)")
    assert.truthy(fixture.read "CONTRIBUTING.md":find("(core/README.md)", 1, true))
  end)
end)
