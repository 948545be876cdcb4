-- The pictures in docs/ show what flume and the README say.

local shell = require "tests.support.shell"
local world = require "tests.support.fixture"

local LUA = os.getenv "LUA" or "lua5.4"

local function figures(svg)
  local list = {}
  for figure in svg:gmatch '<text class="figure"[^>]*>([^<]+)<' do list[#list + 1] = figure end
  return list
end

describe("the bars of docs/speed.svg", function ()
  after_each(world.clean)

  it("are those of the measurements in docs/speed.tsv", function ()
    assert.equal(world.read "docs/speed.svg", shell.output(LUA .. " tests/bench/chart.lua docs/speed.tsv"))
  end)

  it("have the figures of the README's table", function ()
    local section = world.read "README.md":match "\n## Speed\n(.-)\n## "
    local list = figures(world.read "docs/speed.svg")
    assert.is_true(#list > 30)
    for _, figure in ipairs(list) do
      assert.is_not_nil((section:find("%f[%d.]" .. figure:gsub("%p", "%%%0"))), figure)
    end
  end)

  it("are as long as the medians of all rounds, and leave out what was not measured", function ()
    local path = world.dir() .. "/measurements"
    world.write(path, "get\tflume\t0\t0.000001000\t1\nget\tflume\t1\t0.000002000\t1\nget\tflume\t2\t0.000009000\t1\n"
      .. "get\tlmdb\t0\t0.000004000\t1\nsomething else\nget\tanother\t0\t0.1\t1\n")
    local svg = shell.output(("%s tests/bench/chart.lua %s"):format(LUA, path))
    assert.same({"2 µs", "4 µs"}, figures(svg))
    local widths = {}
    for class, width in svg:gmatch '<rect class="(%a+)" x="%d+" y="%d+" width="([%d.]+)" height="11"' do
      widths[class] = tonumber(width)
    end
    assert.equal(0.5, widths.lmdb / widths.flume)
    assert.is_nil(svg:find("random get.*random get"))
    assert.is_nil(svg:find "scan")
  end)
end)

describe("the pictures", function ()
  it("of the README are there, and small", function ()
    local shown = 0
    for path in world.read "README.md":gmatch "%]%((docs/[%w_]+%.svg)%)" do
      shown = shown + 1
      assert.is_true(#world.read(path) < 20000, path)
    end
    assert.equal(3, shown)
  end)

  it("have no path of the machine that drew them", function ()
    assert.is_nil(world.read "docs/prompt.svg":find "/tmp/")
  end)
end)
