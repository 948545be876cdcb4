-- The rock, the Debian packages and the first steps of the README, as far as that is quickly told. make rock, make deb
-- and make first-use do them from nothing.

local lfs = require "lfs"
local shell = require "tests.support.shell"
local fixture = require "tests.support.fixture"

local DEBIAN = "packaging/debian/"

local function lines_of(path)
  local list = {}
  for line in io.lines(path) do list[#list + 1] = line end
  return list
end

local function variable(name)
  local file <close> = io.open "Makefile"
  local text = file:read "a":gsub("\\\n", "")
  return text:match("\n" .. name .. " = ([^\n]*)")
end

describe("the rock", function ()
  after_each(fixture.clean)

  it("is built by luarocks and works from its tree", function ()
    if not shell.has "luarocks" then return pending "luarocks is not installed" end
    if os.getenv "SANITIZE" then return pending "of a sanitized build there is no rock" end
    local copy = fixture.dir()
    shell.output("tests/packages/checkout " .. copy)
    shell.output(("mkdir %s/build && cp -a %s/obj %s/build"):format(copy, shell.build, copy)) -- compiled already
    local text = shell.output("tests/packages/rock " .. copy)
    assert.truthy(text:find "flume scm%-1 is now installed", text)
    assert.truthy(text:find "rock: ok\n$", text)
  end)
end)

describe("the first use", function ()
  it("goes as the README says", function ()
    if os.getenv "SANITIZE" then return pending "the README says nothing of sanitizers" end
    local text = shell.output(("tests/first_use/run --light %s/obj"):format(shell.build))
    assert.truthy(text:find "first use: ok\n$", text)
    assert.falsy(text:find "\nCC ", text) -- or it is not that light
  end)
end)

describe("the Debian packages", function ()
  after_each(fixture.clean)

  -- The files of each package, as its list of patterns says.
  local function files_of(package, dest)
    local found = {}
    for _, pattern in ipairs(lines_of(DEBIAN .. package .. ".install")) do
      local text = shell.output(("cd %s && find %s ! -type d"):format(dest, pattern))
      assert.is_not.equal("", text)
      for path in text:gmatch "[^\n]+" do found[#found + 1] = path end
    end
    return found
  end

  it("have each installed file once", function ()
    local dest = fixture.dir()
    shell.make(("install DESTDIR=%s PREFIX=/usr LIBDIR=/usr/lib/arch LUALIBDIR=/usr/lib/arch/lua/5.4 " ..
      "ZSHDIR=/usr/share/zsh/vendor-completions"):format(dest))
    local owner = {}
    for _, package in ipairs {"flume", "lua-flume", "libflume0", "libflume-dev"} do
      for _, path in ipairs(files_of(package, dest)) do
        assert.is_nil(owner[path])
        owner[path] = package
      end
    end
    for path in shell.output("cd " .. dest .. " && find usr ! -type d"):gmatch "[^\n]+" do
      assert.is_not_nil(owner[path], path)
    end
  end)

  it("are described one by one in the control file", function ()
    local described = {}
    for _, line in ipairs(lines_of(DEBIAN .. "control")) do
      local name = line:match "^Package: (.*)$"
      if name then described[name] = lfs.attributes(DEBIAN .. name .. ".install", "mode") end
    end
    assert.same({flume = "file", ["lua-flume"] = "file", libflume0 = "file", ["libflume-dev"] = "file"}, described)
  end)

  it("need for building what the Makefile says", function ()
    local needed, given = {["debhelper-compat"] = true}, {}
    for name in variable "BUILD_PACKAGES":gmatch "%S+" do needed[name] = true end
    needed.gcc, needed.make = nil, nil -- every Debian machine that builds has them
    local control = table.concat(lines_of(DEBIAN .. "control"), "\n")
    for name in control:match "Build%-Depends:(.-)\n\n":gmatch "\n ([%w.+-]+)" do given[name] = true end
    assert.same(needed, given)
  end)

  it("have the version of the Makefile", function ()
    assert.equal("flume (" .. variable "VERSION" .. ") unstable; urgency=medium", lines_of(DEBIAN .. "changelog")[1])
  end)
end)
