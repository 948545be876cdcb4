-- The examples in a document: fenced blocks of Lua or shell, blocks that are indented and begin with a command, and in
-- a man page the literal blocks of its EXAMPLES.
--
--   for _, example in ipairs(document.examples(path)) do … end
--
-- {kind = "lua" | "sh" | "c", text =, line = of its first line in the document, skip = why it can't be run, or nil}. A
-- block that can't be run says so in the document, on the line before it: <!-- not run: WHY -->
--
--   document.promised(text)    what stands behind the --> in a program, a line each; nil when there is none

local M = {}

-- The words that a shell example begins with.
local COMMANDS = {
  cc = true, cd = true, echo = true, eval = true, flume = true, git = true, make = true, man = true, printf = true,
}

local function lines_of(path)
  local list = {}
  for line in io.lines(path) do list[#list + 1] = line end
  return list
end

-- The fenced block that begins at i, and the line behind it.
local function fenced(lines, i, kind)
  local text, first = {}, i + 1
  i = first
  while lines[i] and lines[i] ~= "```" do
    text[#text + 1] = lines[i]
    i = i + 1
  end
  return {kind = kind, text = table.concat(text, "\n") .. "\n", line = first}, i + 1
end

-- The indented block that begins at i, with the empty lines in it, and the line behind it.
local function indented(lines, i)
  local text, first = {}, i
  while lines[i] and (lines[i]:find "^    " or (lines[i] == "" and (lines[i + 1] or ""):find "^    ")) do
    text[#text + 1] = lines[i]:sub(5)
    i = i + 1
  end
  local kind = COMMANDS[text[1]:match "^%S+"] and "sh" or nil
  return {kind = kind, text = table.concat(text, "\n") .. "\n", line = first}, i
end

local KINDS = {lua = "lua", sh = "sh", c = "c"}

local function markdown(lines)
  local list, i, skip = {}, 1, nil
  while lines[i] do
    local block
    local why, fence = lines[i]:match "^<!%-%- not run: (.*) %-%->$", lines[i]:match "^```(%w*)$"
    if fence then
      block, i = fenced(lines, i, KINDS[fence])
    elseif lines[i]:find "^    %S" and (lines[i - 1] == "" or skip) then
      block, i = indented(lines, i)
    else
      if lines[i] ~= "" then skip = why end
      i = i + 1
    end
    if block and block.kind then
      block.skip = skip
      list[#list + 1] = block
    end
    if block then skip = nil end
  end
  return list
end

local function manual(lines, kind)
  local list, section, block = {}, nil, nil
  for i, line in ipairs(lines) do
    section = line:match "^%.Sh (.*)$" or section
    if line:find "^%.Bd %-literal" and section == "EXAMPLES" then
      block = {kind = kind, text = "", line = i + 1}
    elseif line == ".Ed" and block then
      list[#list + 1], block = block, nil
    elseif block then
      block.text = block.text .. line:gsub("\\e", "\\"):gsub("\\&", "") .. "\n"
    end
  end
  return list
end

function M.examples(path)
  local lines = lines_of(path)
  local section = path:match "%.(%d)$"
  if section then return manual(lines, section == "3" and "c" or "sh") end
  return markdown(lines)
end

function M.promised(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do
    local result = line:match "%-%-> ?(.*)$"
    if result then list[#list + 1] = result:gsub("%s+$", "") .. "\n" end
  end
  return list[1] and table.concat(list)
end

return M
