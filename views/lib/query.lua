-- What people type to find texts, as a tree.
--
--   quick fox          texts with both words, as with quick AND fox
--   quick OR fox       with either; OR binds less than AND, and (…) is for the rest
--   quick -fox         with the first and without the second, as with quick NOT fox
--   "quick fox"        with the words one behind the other
--   qui*               with words that begin so
--
-- A node is {kind = "term", term =}, {kind = "prefix", prefix =}, {kind = "phrase", terms}, {kind = "or", nodes…}, or
-- {kind = "and", nodes…, without = {nodes…}}. What is not closed ends with the query; a word without a letter or a
-- digit is none.

-- Pieces of the text: {kind =, text =}.
local function pieces_of(text)
  local pieces, at = {}, 1
  local function add(kind, piece, behind)
    pieces[#pieces + 1] = {kind = kind, text = piece}
    at = behind
  end
  while true do
    at = text:find("%S", at)
    if not at then return pieces end
    local first = text:sub(at, at)
    if first == "(" or first == ")" then
      add(first, first, at + 1)
    elseif first == '"' then
      local close = text:find('"', at + 1, true) or #text + 1
      add("phrase", text:sub(at + 1, close - 1), close + 1)
    elseif first == "-" and text:find('^[^%s%-]', at + 1) then
      add("NOT", first, at + 1)
    else
      local word = text:match('^[^%s()"]+', at)
      local is_operator = word == "AND" or word == "OR" or word == "NOT"
      add(is_operator and word or "word", word, at + #word)
    end
  end
end

-- The node of these words, nil for none.
local function phrase(terms)
  if #terms == 0 then return nil end
  if #terms == 1 then return {kind = "term", term = terms[1]} end
  return {kind = "phrase", table.unpack(terms)}
end

-- A word of the query may be several of a text: "don't" is a phrase. The last of "foo-ba*" is a prefix.
local function word_node(text, analyse)
  if text:sub(-1) ~= "*" then return phrase((select(2, analyse(text)))) end
  local words, terms = analyse(text)
  local prefix = table.remove(words)
  if not prefix then return nil end
  terms[#terms] = nil
  local node = {kind = "prefix", prefix = prefix}
  if #terms == 0 then return node end
  return {kind = "and", phrase(terms), node, without = {}}
end

--- The tree of a query; nil when it has no words. analyse is that of an analyser of flume.text.
return function (text, analyse)
  local pieces, at = pieces_of(text), 1
  local parse_or

  local function parse_one()
    local piece = pieces[at]
    at = at + 1
    if piece.kind == "(" then
      local node = parse_or()
      if pieces[at] and pieces[at].kind == ")" then at = at + 1 end
      return node
    end
    if piece.kind == "phrase" then return phrase((select(2, analyse(piece.text)))) end
    return piece.kind == "word" and word_node(piece.text, analyse) or nil
  end

  local function parse_and()
    local node = {kind = "and", without = {}}
    while pieces[at] and pieces[at].kind ~= "OR" and pieces[at].kind ~= ")" do
      local is_without = false
      while pieces[at] and (pieces[at].kind == "NOT" or pieces[at].kind == "AND") do
        is_without = is_without ~= (pieces[at].kind == "NOT")
        at = at + 1
      end
      local list = is_without and node.without or node
      if pieces[at] and pieces[at].kind ~= ")" and pieces[at].kind ~= "OR" then list[#list + 1] = parse_one() end
    end
    if #node == 1 and #node.without == 0 then return node[1] end
    return (#node > 0 or #node.without > 0) and node or nil
  end

  function parse_or()
    local node = {kind = "or", parse_and()}
    while pieces[at] and pieces[at].kind == "OR" do
      at = at + 1
      node[#node + 1] = parse_and()
    end
    return #node > 1 and node or node[1]
  end

  local node = parse_or()
  while pieces[at] do -- behind a ) that nothing opened
    at = at + 1
    local more = parse_or()
    node = node and more and {kind = "and", node, more, without = {}} or node or more
  end
  return node
end
