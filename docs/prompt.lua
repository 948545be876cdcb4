-- Draws docs/prompt.svg: a session at the prompt of flume, run in tmux, with its colours. From the top of the tree:
--
--   eval "$(make -s env)"; lua5.4 docs/prompt.lua >docs/prompt.svg

package.path = "./?.lua;" .. package.path

local fixture = require "tests.support.fixture"
local screen = require "tests.support.screen"
local shell = require "tests.support.shell"

local COLUMNS, ROWS, CHARACTER_WIDTH, LINE_HEIGHT, MARGIN = 76, 40, 7.83, 18, 16

local VIEW = [[
return {
  version = 1,
  initial = {},
  reducer = function (sums, item)
    sums[item.account] = (sums[item.account] or 0) + item.amount
    return sums
  end,
  methods = { of = "async" },
  of = function (view, account) return view:get()[account] end,
}
]]

local RECORDS = [[
{"account": "ada", "amount": 100, "type": "deposit"}
{"account": "ada", "amount": -30, "type": "transfer"}
{"account": "bob", "amount": 30, "type": "transfer"}
]]

local LINES = {
  'accounts:of "ada"',
  'db:append{account = "eve", amount = 5, type = "deposit"}',
  "accounts:get()",
  ".tail",
  'db:use("by_type", flume.index(1, "type"))',
  'db.by_type:count{prefix = "trans"}',
  ".status",
}

-- The prompt's colours, by the number of the escape sequence.
local CLASSES = {
  ["1"] = "bold", ["2"] = "faint", ["31"] = "red", ["32"] = "green", ["33"] = "yellow", ["34"] = "blue",
  ["35"] = "magenta", ["36"] = "cyan", ["90"] = "faint",
}

local STYLE = [[
    .card { fill: #ffffff; stroke: #d0d7de }
    text { fill: #1f2328; white-space: pre }
    .bold { font-weight: bold } .faint { fill: #656d76 } .red { fill: #b3261e } .green { fill: #1a7f37 }
    .yellow { fill: #8a5a00 } .blue { fill: #0550ae } .magenta { fill: #8250df } .cyan { fill: #0f6e84 }
    @media (prefers-color-scheme: dark) {
      .card { fill: #0d1117; stroke: #30363d }
      text { fill: #e6edf3 }
      .faint { fill: #9da7b3 } .red { fill: #ff7b72 } .green { fill: #56d364 } .yellow { fill: #e3b341 }
      .blue { fill: #79c0ff } .magenta { fill: #d2a8ff } .cyan { fill: #76e3ea }
    }
]]

local function session()
  local dir = fixture.dir()
  fixture.write(dir .. "/views/accounts.lua", VIEW)
  fixture.write(dir .. "/records.jsonl", RECORDS)
  shell.output(("cd %s && flume data append records.jsonl"):format(dir))
  local terminal = screen.start {
    arguments = ("--views %s/views %s/data"):format(dir, dir), columns = COLUMNS, rows = ROWS,
  }
  for _, line in ipairs(LINES) do terminal:enter(line) end
  terminal:expect_prompt()
  return (terminal:text(true):gsub(dir .. "/", ""))
end

local function escape(text)
  return (text:gsub("[&<>]", {["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;"}))
end

-- One line of the screen as a text element.
local function element(line, y)
  local spans, class, from = {}, nil, 1
  while from <= #line do
    local first, last, codes = line:find("\27%[([%d;]*)m", from)
    local text = line:sub(from, (first or #line + 1) - 1)
    if text ~= "" then
      spans[#spans + 1] = class and ('<tspan class="%s">%s</tspan>'):format(class, escape(text)) or escape(text)
    end
    if not first then break end
    class = nil
    for code in codes:gmatch "%d+" do class = CLASSES[code] or class end
    from = last + 1
  end
  return ('  <text x="%d" y="%d" xml:space="preserve">%s</text>'):format(MARGIN, y, table.concat(spans))
end

local function draw(text)
  local width = math.ceil(COLUMNS * CHARACTER_WIDTH) + 2 * MARGIN
  local elements, y = {}, MARGIN - 4
  for line in text:gsub("^%s*\n", ""):gsub("%s+$", "\n"):gmatch "([^\n]*)\n" do
    y = y + LINE_HEIGHT
    if line ~= "" then elements[#elements + 1] = element(line, y) end
  end
  local height = y + MARGIN
  return ([[
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img"
     font-family="ui-monospace, 'DejaVu Sans Mono', monospace" font-size="13">
  <title>A session at the prompt of flume</title>
  <style>
%s  </style>
  <rect class="card" x="0.5" y="0.5" width="%d" height="%d" rx="8"/>
%s
</svg>]]):format(width, height, width, height, STYLE, width - 1, height - 1, table.concat(elements, "\n"))
end

print(draw(session()))
fixture.clean()
