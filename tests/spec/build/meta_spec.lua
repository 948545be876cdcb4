-- lua/flume/meta.lua, which documents the API, against the module itself.

local flume = require "flume"
local read = require "packaging.annotations"
local shell = require "tests.support.shell"
local fixture = require "tests.support.fixture"

local CLASSES, BY_NAME = read "lua/flume/meta.lua", {}
for _, class in ipairs(CLASSES) do BY_NAME[class.name] = class end

-- The views that have methods by themselves.
local OF_VIEWS = {"flume.ReducerView", "flume.KeyedView", "flume.GroupView", "flume.IndexView"}

-- Public by their names, and nobody's business outside.
local INTERNAL = {
  ["flume.Log"] = {
    file = true, memory = true, offset = true, repair = true, is = true, transform = true, maintenance = true,
  },
  ["flume.View"] = {new = true},
  ["flume.QueryView"] = {new = true},
  ["flume.Query"] = {new = true},
  ["flume.Results"] = {new = true, drain = true},
  ["flume.Stream"] = {abort = true},
  ["flume.Observable"] = {notify = true},
}
for _, name in ipairs(OF_VIEWS) do INTERNAL[name] = INTERNAL["flume.View"] end

-- The fields and functions of a class, those of its parents too: name -> field, name -> function.
local function members(class)
  local fields, functions = {}, {}
  for _, parent in ipairs(class.parents) do
    local fields_of, functions_of = {}, {}
    if BY_NAME[parent] then fields_of, functions_of = members(BY_NAME[parent]) end
    for name, field in pairs(fields_of) do fields[name] = field end
    for name, fn in pairs(functions_of) do functions[name] = fn end
  end
  for _, field in ipairs(class.fields) do fields[field.name] = field end
  for _, fn in ipairs(class.functions) do functions[fn.name] = fn end
  return fields, functions
end

-- --- Types -------------------------------------------------------------------------------------------------------

local fits

-- The alternatives of "a|b<c|d>".
local function alternatives(kind)
  local list, depth, from = {}, 0, 1
  for i = 1, #kind do
    local c = kind:sub(i, i)
    depth = depth + (c:find "[(<{]" and 1 or c:find "[)>}]" and -1 or 0)
    if c == "|" and depth == 0 then
      list[#list + 1] = kind:sub(from, i - 1)
      from = i + 1
    end
  end
  list[#list + 1] = kind:sub(from)
  return list
end

local function is_of_class(value, class)
  local fields, functions = members(class)
  for name, field in pairs(fields) do
    if name:find "^%a" or name == "_VERSION" then
      if not (value[name] == nil and field.optional or fits(value[name], field.type)) then return false end
    end
  end
  for name in pairs(functions) do
    if type(value[name]) ~= "function" then return false end
  end
  return true
end

local function fits_one(value, kind)
  if kind == "any" or kind == "flume.Value" then return true end
  if kind == "flume.Code" then return type(value) == "string" end
  if kind == "flume.Null" then return value == flume.null end
  if BY_NAME[kind] then return type(value) == "table" and is_of_class(value, BY_NAME[kind]) end
  if kind:find '^"' then return value == kind:sub(2, -2) end
  if kind:find "^fun%(" then return type(value) == "function" end
  if kind:find "^table<" or kind:find "%[%]$" then return type(value) == "table" end
  if kind == "number" then return type(value) == "number" end
  return (math.type(value) or type(value)) == kind
end

function fits(value, kind)
  for _, each in ipairs(alternatives(kind)) do
    if fits_one(value, each) then return true end
  end
  return false
end

-- --- Things to look at -------------------------------------------------------------------------------------------

local function counting(version)
  return flume.reduce(version, function (n) return n + 1 end, 0)
end

-- name of the class -> list of values that are of it
local function specimens()
  local db = fixture.open_db(fixture.dir() .. "/data")
  local memory = fixture.memory_db()
  local err
  db:get(99, function (why) err = why end)
  fixture.run_until(function () return err end)
  memory:use("count", {
    version = 1, initial = 0, reducer = function (n) return n + 1 end, methods = {list = "source"},
    list = function () return {1} end,
  })
  memory:use("q", "query")
  memory:use("broken", {version = "a", reducer = function () error "no" end})
  memory:use("one", counting(1))
  memory:use("grouped", {version = 1, group = "k", initial = 0, reducer = function (n) return n end})
  memory:use("index", flume.index(1, "k"))
  db:append {1, 2}
  memory:append {1, 2}
  memory.count:ready()
  memory.broken:ready()
  db:del(0)
  local compacted = assert(db:compact())
  local backup = assert(db:backup(fixture.dir() .. "/copy"))
  fixture.write(db.dir .. "/log/stray", "")
  local report = assert(db:check())
  return {
    ["flume.Compaction"] = {compacted},
    ["flume.Backup"] = {backup},
    ["flume.Report"] = {report},
    ["flume.Finding"] = {report.problems[1] or report.notes[1]},
    ["flume"] = {flume},
    ["flume.Logs"] = {flume.log},
    ["flume.Json"] = {flume.json},
    ["flume.Conditions"] = {flume.query},
    ["flume.QueryView"] = {memory.q},
    ["flume.Query"] = {memory.q:where()},
    ["flume.Results"] = {fixture.keep((memory.q:query()))},
    ["flume.Loop"] = {flume.loop()},
    ["flume.DB"] = {db, memory},
    ["flume.Status"] = {db:status(), memory:status()},
    ["flume.ViewStatus"] = {memory:status().views.count, memory:status().views.broken},
    ["flume.View"] = {memory.count, memory.broken},
    ["flume.ReducerView"] = {memory.one},
    ["flume.KeyedView"] = {memory.grouped, memory.index},
    ["flume.GroupView"] = {memory.grouped},
    ["flume.IndexView"] = {memory.index},
    ["flume.Progress"] = {memory.count.progress.value},
    ["flume.Source"] = {fixture.keep(memory.count:list())},
    ["flume.Stream"] = {fixture.keep(db:stream())},
    ["flume.Log"] = {db.log, flume.log.memory()},
    ["flume.Observable"] = {flume.observable(1), db.since, memory.count.since, memory.count.progress},
    ["flume.Error"] = {err},
    ["flume.Definition"] = {counting(1), counting "one"},
  }
end

-- What may be called on a value, by name.
local function public_functions(name, value)
  local found = {}
  local function take(from)
    for key, each in pairs(type(from) == "table" and from or {}) do
      if type(key) == "string" and type(each) == "function" and not key:find "^_" then found[key] = each end
    end
  end
  local meta = getmetatable(value) or {}
  take(rawequal(value, flume) and value or not meta.__index and value or nil)
  take(meta)
  take(meta.__index)
  for key in pairs(INTERNAL[name] or {}) do found[key] = nil end
  return found
end

describe("the annotations of the API", function ()
  after_each(fixture.clean)

  it("declare existing fields, with their types", function ()
    for name, values in pairs(specimens()) do
      for _, value in ipairs(values) do
        for field_name, field in pairs((members(BY_NAME[name]))) do
          if not field_name:find "^%[" then
            local is = value[field_name]
            assert.is_true(is == nil and field.optional or fits(is, field.type),
              ("%s.%s is %s, not %s"):format(name, field_name, tostring(is), field.type))
          end
        end
      end
    end
  end)

  it("declare existing functions, with their parameters", function ()
    local _, view_functions = members(BY_NAME["flume.View"])
    local members_of_view = {}
    for _, name in ipairs(OF_VIEWS) do members_of_view[name] = true end
    for name, values in pairs(specimens()) do
      local _, functions = members(BY_NAME[name])
      for fn_name, fn in pairs(functions) do
        local real = values[1][fn_name]
        assert.equal("function", type(real), name .. "." .. fn_name)
        local info = debug.getinfo(real, "Su")
        local is_of_view = members_of_view[name] and view_functions[fn_name] == nil -- which takes whatever there is
        if info.what ~= "C" and not is_of_view then
          local own = debug.getlocal(real, 1) == "self" and 1 or 0
          local vararg = fn.params[#fn.params] == "..."
          assert.equal(info.nparams - own, #fn.params - (vararg and 1 or 0), name .. "." .. fn_name)
          assert.equal(info.isvararg, vararg, name .. "." .. fn_name)
        end
      end
    end
  end)

  it("declare the methods that views have by themselves, and what their results are", function ()
    local all = specimens()
    for _, name in ipairs(OF_VIEWS) do
      local _, functions = members(BY_NAME[name])
      for _, view in ipairs(name == "flume.KeyedView" and {} or all[name]) do
        for method in pairs(view.methods) do assert.is_not_nil(functions[method], name .. "." .. method) end
      end
      for _, fn in ipairs(BY_NAME[name].functions) do
        for _, view in ipairs(all[name]) do assert.is_not_nil(view.methods[fn.name], name .. "." .. fn.name) end
      end
    end
    local db = fixture.memory_db()
    db:use("index", flume.index(1, "k")):use("grouped", {
      version = 1, group = "k", initial = 0, reducer = function (n) return n + 1 end,
    })
    db:append {{k = "a"}, {k = "b"}, {k = "a"}}
    assert.same({{k = "a"}, 2}, {db.index:get("a", {timeout = 60000})})
    assert.equal(2, db.index:count {prefix = "a"})
    assert.same({"b", {k = "b"}, 1}, {db.index:read {gt = "a"}:next()})
    assert.equal(2, db.grouped:get "a")
    assert.equal(0, db.grouped:get "none")
    assert.same({"b", 1}, {db.grouped:read {reverse = true, limit = 1}:next()})
  end)

  it("declare every function of the library", function ()
    local missing = {}
    for name, values in pairs(specimens()) do
      local fields, functions = members(BY_NAME[name])
      for fn_name in pairs(public_functions(name, values[1])) do
        if not (functions[fn_name] or fields[fn_name]) then missing[#missing + 1] = name .. "." .. fn_name end
      end
    end
    assert.same({}, missing)
  end)

  it("declare every field of plain data and of the module", function ()
    local all, missing = specimens(), {}
    for _, name in ipairs {
      "flume", "flume.Status", "flume.ViewStatus", "flume.Progress", "flume.Error", "flume.Compaction", "flume.Backup",
      "flume.Report", "flume.Finding",
    } do
      local fields, functions = members(BY_NAME[name])
      for _, value in ipairs(all[name]) do
        for key in pairs(value) do
          if not (fields[key] or functions[key]) then missing[#missing + 1] = name .. "." .. tostring(key) end
        end
      end
    end
    assert.same({}, missing)
  end)

  it("cover every class that has functions", function ()
    local all = specimens()
    for _, class in ipairs(CLASSES) do
      if class.functions[1] then assert.is_not_nil(all[class.name] or class.name == "flume.Records", class.name) end
    end
  end)

  it("declare the options that are taken", function ()
    local db = fixture.memory_db()
    local count = db:use("counted", counting(1)).counted
    local index = db:use("index", flume.index(1, "k")).index
    for name, call in pairs {
      ["flume.OpenOptions"] = function (options) return flume.open(fixture.dir(), options) end,
      ["flume.NewOptions"] = function (options) return flume.new(flume.log.memory(), options) end,
      ["flume.LogOptions"] = function (options) return flume.log.file(fixture.dir(), options) end,
      ["flume.UseOptions"] = function (options) return db:use("count", counting(1), options) end,
      ["flume.UpkeepOptions"] = function (options) return db:check(options) end,
      ["flume.ExplainOptions"] = function (options) return count:explain(options) end,
      ["flume.KeyRange"] = function (options) error((select(2, index:count(options))), 0) end,
      ["flume.Range"] = function (options) return db:stream(options) end,
    } do
      local declared = {}
      for option in pairs((members(BY_NAME[name]))) do declared[#declared + 1] = option end
      table.sort(declared)
      local ok, message = pcall(call, {nonsense = true})
      assert.is_false(ok)
      assert.equal(table.concat(declared, ", "), message:match "there are (.*)$", name)
    end
  end)

  it("know the codes that core/flume.h has", function ()
    local text, header = {}, io.open "core/flume.h":read "a"
    for line in io.lines "lua/flume/meta.lua" do
      local code = line:match '^%-%-%-| "(%u+)"'
      if code then text[code] = true end
    end
    for code in header:gmatch 'X%(FLUME_E%u+, %-%d+, "(%u+)"' do assert.is_true(text[code], code) end
    for code in header:gmatch "FLUME_(E%u+) = UV_" do
      assert.is_true(text[code] or code == "EAGAIN", code) -- a live stream waits instead
    end
  end)

  it("describe every function, its parameters and its results", function ()
    for _, class in ipairs(CLASSES) do
      assert.truthy(class.doc:find "%S", class.name .. " has no description")
      for _, fn in ipairs(class.functions) do
        local where = class.name .. "." .. fn.name
        assert.truthy(fn.doc:find "%S", where .. " has no description")
        assert.truthy(fn.returns[1] or where == "flume.Observable.set", where .. " says nothing of its results")
        local described = 0
        for _ in pairs(fn.param) do described = described + 1 end
        assert.equal(#fn.params, described, where)
        for _, param in ipairs(fn.params) do assert.is_not_nil(fn.param[param], where .. ": " .. param) end
      end
    end
  end)
end)

local IN_MODULE = {flume = "", ["flume.Logs"] = "flume.log.", ["flume.Json"] = "flume.json.",
  ["flume.Conditions"] = "flume.query."}

describe("make doc", function ()
  after_each(fixture.clean)

  it("has every function of the annotations in its pages", function ()
    if not shell.has "ldoc" then return pending "ldoc is not installed" end
    local build = fixture.dir()
    shell.output("make -s --no-print-directory doc BUILD=" .. build)
    local pages = shell.output(("cat %s/doc/modules/*.html %s/doc/classes/*.html"):format(build, build))
    for _, class in ipairs(CLASSES) do
      for _, fn in ipairs(class.functions) do
        local before = IN_MODULE[class.name] or class.name .. ":"
        local anchor = before .. fn.name
        assert.truthy(pages:find(('<a name = "%s">'):format(anchor), 1, true), anchor)
      end
    end
  end)
end)
