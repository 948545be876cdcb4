-- Top-level locals that live on: in a REPL each statement is a chunk of its own, so that a local of one would be lost
-- to the next. promote turns them into assignments, which land in the environment of the chunks.
--
--   promote "local a, b = f()"        → "      a, b = f()"
--   promote "local function g() end"  → "      function g() end"
--   promote "local x"                 → "      x = nil"
--
-- Locals in blocks stay as they are, and so does a variable that is to be closed. Columns and lines don't move.

local M = {}

local OPENS = {["do"] = true, ["function"] = true, ["if"] = true, ["repeat"] = true}
local CLOSES = {["end"] = true, ["until"] = true}

-- The position after the long bracket that opens at pos; nil when none does.
local function after_long_bracket(source, pos)
  local level = source:match("^%[(=*)%[", pos)
  if not level then return nil end
  local _, last = source:find("]" .. level .. "]", pos, true)
  return (last or #source) + 1
end

local function after_quoted(source, pos)
  local quote = source:sub(pos, pos)
  pos = pos + 1
  while true do
    local at = source:find("[\\" .. quote .. "]", pos)
    if not at then return #source + 1 end
    if source:sub(at, at) == quote then return at + 1 end
    pos = at + 2
  end
end

local function after_comment(source, pos)
  local long = after_long_bracket(source, pos + 2)
  return long or (source:find("\n", pos, true) or #source + 1)
end

-- The end of the token at pos, and its text when it is a name, a keyword or a symbol.
local function token_at(source, pos)
  local text = source:match("^[%a_][%w_]*", pos)
  if text then return pos + #text, text end
  text = source:match("^0[xX][%x.]*[pP]?[+-]?%x*", pos) or source:match("^%.?%d[%d.]*[eE]?[+-]?%d*", pos)
  if text then return pos + #text end
  if source:find("^['\"]", pos) then return after_quoted(source, pos) end
  local long = after_long_bracket(source, pos)
  if long then return long end
  text = source:match("^[=<>~]=", pos) or source:sub(pos, pos)
  return pos + #text, text
end

-- All tokens of source: {first =, last =, text =}.
local function tokens_of(source)
  local tokens, pos = {}, 1
  while true do
    pos = source:find("%S", pos)
    if not pos then return tokens end
    if source:find("^%-%-", pos) then
      pos = after_comment(source, pos)
    else
      local after, text = token_at(source, pos)
      tokens[#tokens + 1] = {first = pos, last = after - 1, text = text}
      pos = after
    end
  end
end

-- Reads "a <const>, b" from token i on: the index of the last token and the attributes' tokens; nil when it is no list
-- of names, or one of them is to be closed.
local function name_list(tokens, i)
  local attributes = {}
  while tokens[i] and tokens[i].text and tokens[i].text:find "^[%a_]" do
    if tokens[i + 1] and tokens[i + 1].text == "<" then
      if not tokens[i + 3] or tokens[i + 2].text ~= "const" or tokens[i + 3].text ~= ">" then return nil end
      table.move(tokens, i + 1, i + 3, #attributes + 1, attributes)
      i = i + 3
    end
    if not tokens[i + 1] or tokens[i + 1].text ~= "," then return i, attributes end
    i = i + 2
  end
  return nil
end

-- Notes in edits what makes the local at tokens[i] an assignment.
local function promote_local(tokens, i, edits)
  local following = tokens[i + 1]
  if following and following.text == "function" then
    edits[#edits + 1] = {tokens[i].first, tokens[i].last, "     "}
    return
  end
  local last, attributes = name_list(tokens, i + 1)
  if not last then return end
  edits[#edits + 1] = {tokens[i].first, tokens[i].last, "     "}
  for _, token in ipairs(attributes) do
    edits[#edits + 1] = {token.first, token.last, (" "):rep(token.last - token.first + 1)}
  end
  if not tokens[last + 1] or tokens[last + 1].text ~= "=" then
    edits[#edits + 1] = {tokens[last].last + 1, tokens[last].last, " = nil"}
  end
end

local function apply(source, edits)
  local parts, from = {}, 1
  for _, edit in ipairs(edits) do
    parts[#parts + 1] = source:sub(from, edit[1] - 1)
    parts[#parts + 1] = edit[3]
    from = edit[2] + 1
  end
  parts[#parts + 1] = source:sub(from)
  return table.concat(parts)
end

function M.promote(source)
  local tokens, edits, depth = tokens_of(source), {}, 0
  for i, token in ipairs(tokens) do
    if OPENS[token.text] then depth = depth + 1 end
    if CLOSES[token.text] then depth = depth - 1 end
    if token.text == "local" and depth == 0 then promote_local(tokens, i, edits) end
  end
  return apply(source, edits)
end

return M
