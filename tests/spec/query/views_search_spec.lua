-- The built-in view "search", and the module flume.text that it finds words with.

local differential = require "tests.support.differential"
local entries = require "tests.support.entries"
local flume = require "flume"
local flume_text = require "flume.text"
local fixture = require "tests.support.fixture"

local collect = entries.collect

local RECORDS = {
  {title = "Foxes", text = "The quick brown fox runs"}, {text = "a lazy dog was running, quick"},
  {text = {"fox brown", "quick dog"}}, {n = 1}, {text = "Ein Café in der Straße: RÉSUMÉ"},
}

local function search(params, records)
  local db = fixture.memory_db()
  db:use("s", "search", {params = params or {fields = {"title", "text"}, language = "english"}})
  if records ~= false then db:append(flume.array(records or RECORDS)) end
  return db.s, db
end

-- The seqs that a query finds, ascending.
local function found(view, query, options)
  local seqs = {}
  for _, _, seq in view:search(query, options) do seqs[#seqs + 1] = seq end
  table.sort(seqs)
  return seqs
end

-- --- The model ---------------------------------------------------------------------------------------------------
--
-- A query is a tree {"word", w}, {"prefix", p}, {"phrase", w…}, {"and", nodes…}, {"or", nodes…} or
-- {"without", node, node}; a record a list of texts, each {words =, terms =}.

local analyse = flume_text.analyser "english"

local function texts_of(value)
  local texts = {}
  differential.each_at(value, "text", function (text)
    if type(text) ~= "string" then return end
    local words, terms = analyse(text)
    texts[#texts + 1] = {words = words, terms = terms}
  end)
  return texts
end

local function stem(word) return select(2, analyse(word))[1] end

-- How often the test holds at a place of the texts.
local function times(texts, test)
  local count = 0
  for _, text in ipairs(texts) do
    for i = 1, #text.terms do
      if test(text, i) then count = count + 1 end
    end
  end
  return count
end

local COUNT = {
  word = function (node, texts)
    local term = stem(node[2])
    return times(texts, function (text, i) return text.terms[i] == term end)
  end,
  prefix = function (node, texts)
    return times(texts, function (text, i)
      return text.terms[i]:sub(1, #node[2]) == node[2] or text.words[i]:sub(1, #node[2]) == node[2]
    end)
  end,
  phrase = function (node, texts)
    return times(texts, function (text, i)
      for offset = 2, #node do
        if text.terms[i + offset - 2] ~= stem(node[offset]) then return false end
      end
      return true
    end)
  end,
}

local function len_of(texts)
  return times(texts, function () return true end)
end

local function weight(corpus, frequency)
  return math.log(1 + (#corpus - frequency + 0.5) / (frequency + 0.5))
end

local function worth_of(corpus, node)
  if node[1] == "phrase" then
    local worth = 0
    for i = 2, #node do worth = worth + worth_of(corpus, {"word", node[i]}) end
    return worth
  end
  local frequency = 0
  for _, each in ipairs(corpus) do
    if COUNT[node[1]](node, each.texts) > 0 then frequency = frequency + 1 end
  end
  return weight(corpus, frequency)
end

-- The score of a record, nil when it does not match.
local function score_of(corpus, node, each)
  local kind = node[1]
  if COUNT[kind] then
    local count = COUNT[kind](node, each.texts)
    if count == 0 then return nil end
    return worth_of(corpus, node) * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * each.len / corpus.average))
  end
  local first, second = score_of(corpus, node[2], each), score_of(corpus, node[3], each)
  if kind == "and" then return first and second and first + second end
  if kind == "or" then return (first or second) and (first or 0) + (second or 0) end
  return not second and first or nil
end

local function corpus_of(records)
  local corpus, length = {}, 0
  for _, record in ipairs(records) do
    local texts = texts_of(record.value)
    local len = len_of(texts)
    if len > 0 then corpus[#corpus + 1] = {seq = record.seq, texts = texts, len = len} end
    length = length + len
  end
  corpus.average = length / math.max(#corpus, 1)
  return corpus
end

local function render(node)
  local kind = node[1]
  if kind == "word" then return node[2] end
  if kind == "prefix" then return node[2] .. "*" end
  if kind == "phrase" then return '"' .. table.concat(node, " ", 2) .. '"' end
  local operator = kind == "and" and " " or kind == "or" and " OR " or " NOT "
  return "(" .. render(node[2]) .. operator .. render(node[3]) .. ")"
end

local WORDS = {"log", "views", "record", "cafe", "runs", "append", "only", "seq", "missing", "THE"}

local function random_query(random, depth)
  local kind = random(depth > 2 and 3 or 6)
  if kind == 1 then return {"word", WORDS[random(#WORDS)]} end
  if kind == 2 then return {"prefix", WORDS[random(#WORDS)]:sub(1, random(3)):lower()} end
  if kind == 3 then return {"phrase", WORDS[random(#WORDS)], WORDS[random(#WORDS)]} end
  return {({[4] = "and", [5] = "or", [6] = "without"})[kind], random_query(random, depth + 1),
    random_query(random, depth + 1)}
end

-- --- Tests -------------------------------------------------------------------------------------------------------

describe("flume.text", function ()
  local function words(text, language)
    local as_written, terms = flume_text.analyser(language)(text)
    return table.concat(as_written, " "), table.concat(terms, " ")
  end

  it("folds case, composes, and takes accents away", function ()
    assert.equal("the cafe strasse resume fine istanbul", (words "The CAFÉ Straße re\u{301}sume\u{301} ﬁne İstanbul"))
    assert.equal("don t 3 14 append only", (words "don't 3.14 append-only"))
    assert.equal((words "한국어"), (words "\u{1112}\u{1161}\u{11ab}국어"))
  end)

  it("takes ideographs for words", function ()
    assert.equal("漢 字 と a か な", (words "漢字とaかな"))
  end)

  it("keeps the voicing marks of kana, composed or not", function ()
    assert.equal("ガ ラ ス a", (words "ガラスa"))
    assert.equal("ガ ラ ス a", (words "カ\u{3099}ラスa"))
    assert.equal("ガ パ", (words "ｶﾞﾊﾟ"))
  end)

  it("keeps the marks of scripts in which they make other letters or vowels", function ()
    for _, word in ipairs {"שָׁלוֹם", "مُدَرِّس", "हिन्दी", "தமிழ்", "กำ"} do
      assert.equal((words(word)), (words(word .. " ")))
      assert.equal(1, #flume_text.analyser()(word), word)
    end
    assert.not_equal((words "हिन्दी"), (words "हन्द"))
    assert.not_equal((words "שָׁלוֹם"), (words "שלום"))
    assert.not_equal((words "مُدَرِّس"), (words "مدرس"))
    assert.not_equal((words "ガ"), (words "カ"))
    assert.equal("u e ο елка и", (words "ů ệ ὀ ёлка й"))
  end)

  it("takes U+200B for a separator of words, and leaves out other invisible characters", function ()
    assert.equal("foo bar", (words "foo\u{200b}bar"))
    assert.equal("foobar", (words "foo\u{ad}b\u{2060}a\u{200d}r"))
  end)

  it("finds words in scripts without spaces with ICU, else takes a run for a word", function ()
    if not flume_text.segments then
      assert.equal("ภาษาไทยง่าย", (words "ภาษาไทยง่าย"))
      return
    end
    assert.equal("ภาษา ไทย ง่าย นิด เดียว", (words "ภาษาไทยง่ายนิดเดียว"))
    assert.equal("a ภาษา ไทย 7", (words "a ภาษาไทย 7"))
    assert.equal("ພາສາ ລາວ", (words "ພາສາລາວ"))
    assert.equal(2, #flume_text.analyser()("សួស្តីពិភពលោក"))
    assert.truthy(#flume_text.analyser()(("ภาษาไทย"):rep(5000)) == 10000)
  end)

  it("has a version, which stands for its data too", function ()
    assert.matches("^%d+, Unicode [%d.]+", flume_text.version)
    assert.equal(flume_text.segments, flume_text.version:find("ICU", 1, true) ~= nil)
  end)

  it("takes invalid UTF-8 for a separator of words", function ()
    assert.equal("a b c", (words "a\xffb\xc3 \xe2\x82c"))
    assert.equal("a b", (words "a\0b"))
    assert.equal("", (words ""))
    assert.equal("", (words "... \u{301} --"))
  end)

  it("leaves out the rest of a word that is too long", function ()
    assert.equal(("e"):rep(64), (words(("e"):rep(1000))))
    assert.equal(("e"):rep(32), (words(("é"):rep(1000)))) -- an accent counts
  end)

  it("stems words of a language", function ()
    assert.equal("run runner easili run", select(2, words("running runner easily runs", "english")))
    assert.equal("haus haus", select(2, words("Häuser Haus", "german")))
    local languages = table.concat(flume_text.languages(), " ")
    assert.truthy(languages:find "english" and languages:find "french")
    assert.error_matches(function () flume_text.analyser "klingon" end, "no stemmer for the language klingon")
  end)

  it("holds any bytes", function ()
    entries.seeded(function (random)
      for _ = 1, 500 do
        local bytes = {}
        for i = 1, random(60) do bytes[i] = string.char(random(3) == 1 and random(256) - 1 or 31 + random(95)) end
        local as_written, terms = flume_text.analyser "english"(table.concat(bytes))
        assert.equal(#as_written, #terms)
        for _, word in ipairs(as_written) do assert.truthy(#word > 0 and utf8.len(word)) end
      end
    end)
  end)
end)

describe("the search view", function ()
  after_each(fixture.clean)

  it("finds all words, either, or one without another", function ()
    local view = search()
    assert.same({0, 2}, found(view, "fox"))
    assert.same({0, 2}, found(view, "QUICK FOX"))
    assert.same({0, 2}, found(view, "quick AND foxes"))
    assert.same({0, 1, 2}, found(view, "dog OR fox"))
    assert.same({1}, found(view, "quick NOT brown"))
    assert.same({1}, found(view, "quick -brown"))
    assert.same({0, 4}, found(view, "NOT dog"))
    assert.same({0, 1, 2}, found(view, "(lazy OR brown) quick"))
    assert.same({1, 4}, found(view, "lazy OR cafe -dog OR cafe OR quick lazy"))
    assert.equal(2, view:count "fox")
    assert.equal(0, view:count "nowhere")
  end)

  it("finds stems, accents or not, and words as they are without a language", function ()
    local view = search()
    assert.same({0, 1}, found(view, "run"))
    assert.same({4}, found(view, "cafe"))
    assert.same({4}, found(view, "STRASSE résumé"))
    view = search {fields = "text"}
    assert.same({0}, found(view, "runs"))
    assert.same({}, found(view, "run"))
  end)

  it("finds phrases, not across texts", function ()
    local view = search()
    assert.same({0}, found(view, '"quick brown"'))
    assert.same({}, found(view, '"brown quick"'))
    assert.same({2}, found(view, '"fox brown" dog'))
    assert.same({}, found(view, '"foxes the"'))
    assert.same({0}, found(view, '"brown fox runs'))
  end)

  it("finds words by how they begin, also where the stem is shorter", function ()
    local view = search()
    assert.same({1}, found(view, "runn*"))
    assert.same({0, 1}, found(view, "ru*"))
    assert.same({0, 1, 2}, found(view, "qui*"))
    assert.same({1}, found(view, "qui* -fo*"))
  end)

  it("takes any query text without an error", function ()
    local view = search()
    for _, query in ipairs {"", "!!", "(", ")", '"', "-", "*", "OR", "NOT", "AND", "() OR", '"" -""', "NOT NOT"} do
      assert.same({}, found(view, query))
    end
    assert.same({0, 2}, found(view, ") fox ("))
    assert.same({0, 2}, found(view, "OR fox AND ..."))
    assert.same({0, 2}, found(view, "NOT NOT fox"))
    entries.seeded(function (random)
      local pieces = {"fox", "dog", "(", ")", '"', "-", " ", "OR", "AND", "NOT", "*", "qui*", "é", "\xff", "a-b"}
      for _ = 1, 200 do
        local query = {}
        for i = 1, random(12) do query[i] = pieces[random(#pieces)] .. (random(2) == 1 and " " or "") end
        assert.equal("integer", math.type(view:count(table.concat(query))))
      end
    end)
    local _, message = view:count(5)
    assert.truthy(message:find("a query is a string", 1, true), message)
  end)

  it("has the best first, and gives score, record and seq", function ()
    local view = search({fields = "text"}, {
      {text = "cat and dog and bird and fish"}, {text = "cat cat"}, {text = "dog"}, {text = "cat"},
    })
    local results = collect(view:search "cat")
    assert.same({1, 3, 0}, {results[1][3], results[2][3], results[3][3]})
    assert.same({text = "cat cat"}, results[1][2])
    assert.is_true(results[1][1] > results[2][1])
    assert.same({{1}, {3}}, collect(view:search("cat", {limit = 2, keys = false, values = false})))
    assert.equal(2, (select(3, view:search "cat OR dog":next())))
    assert.equal(3, #collect(view:search("cat", {limit = -1})))
    local _, message = view:search("cat", {limit = "2"}):next()
    assert.matches("search: option limit must be of type integer", message)
  end)

  it("goes on live with what matches, as it comes", function ()
    local view, db = search()
    local source = view:search("quick fox", {live = true, keys = false, values = false})
    assert.same({[0] = true, [2] = true}, {[(source:next())] = true, [(source:next())] = true})
    for i = 1, 10 do
      db:append {{text = "quick"}, {text = "a quick fox"}, {text = "fox"}}
      assert.equal(3 + 3 * i, (source:next()))
    end
    source:close()
    source = view:search("fox -dog", {live = true, old = false})
    db:append {{text = "fox dog"}, {text = "the fox"}}
    assert.same({text = "the fox"}, (select(2, source:next())))
  end)

  it("loses deleted records, also from what is common", function ()
    local view, db = search({fields = "text"}, {{text = "a b"}, {text = "a"}, {text = "b b b b b"}})
    db:del {0, 2}
    assert.same({1}, found(view, "a"))
    assert.equal(0, view:count "b")
    local score = view:search "a":next()
    assert.is_true(math.abs(score - math.log(1 + 0.5 / 1.5)) < 1e-9) -- one record of average length
    assert.is_nil(db:status().views.s.reason)
  end)

  it("refuses unknown parameters and options", function ()
    local db = fixture.memory_db()
    local function use(params) return function () db:use("s", "search", {params = params}) end end
    assert.error_matches(use {}, "parameter fields is missing")
    for _, path in ipairs {"a..b", ".a", "a."} do
      assert.error_matches(use {fields = {"a", path}}, "parameter fields must be a path or a list of paths")
    end
    assert.error_matches(use {fields = "a", language = "klingon"}, "no stemmer for the language klingon")
    local _, message = search():search("a", {limits = 1}):next()
    assert.truthy(message:find("unknown option limits", 1, true), message)
  end)

  it("runs in the caller's state too", function ()
    local db = fixture.memory_db {mapper = function (value) return {text = value.body} end}
    db:use("s", "search", {params = {fields = "text", language = "english"}})
    db:append {{body = "Running foxes"}, {text = "foxes"}}
    assert.same({0}, found(db.s, "fox runs"))
  end)

  it("finds a word in the midst of a sentence without spaces", function ()
    if not flume_text.segments then return end
    local view = search({fields = "text"}, {{text = "ภาษาไทยง่ายนิดเดียว"}, {text = "ไม่มี"}})
    assert.same({0}, found(view, "ไทย"))
    assert.same({0}, found(view, "ง่ายนิดเดียว"))
    assert.same({}, found(view, "ลาว"))
  end)

  it("tells voiced kana from others", function ()
    local view = search({fields = "text"}, {{text = "ガラス"}, {text = "カラス"}})
    assert.same({0}, found(view, "ガラス"))
    assert.same({1}, found(view, "カラス"))
  end)

  it("is rebuilt when flume.text has a new version", function ()
    local dir = fixture.dir()
    local function reason_with(version)
      package.loaded["flume.text"] = setmetatable({version = version}, {__index = flume_text})
      local db = assert(flume.open(dir, {mapper = function (value) return value end})) -- so it runs in this state
      db:use("s", "search", {params = {fields = "text"}})
      assert(db:append {text = "word"})
      local count, reason = db.s:count "word", db.s.reason
      assert(db:close())
      package.loaded["flume.text"] = flume_text
      return count, reason
    end
    finally(function () package.loaded["flume.text"] = flume_text end)
    assert.equal(1, (reason_with "1"))
    assert.same({2, nil}, {reason_with "1"})
    assert.same({3, "the source has changed"}, {reason_with "2"})
  end)

  it("is charged for the words that it finds", function ()
    local db = fixture.memory_db()
    db:use("s", "search", {params = {fields = "text"}, budget = 100000})
    db:append {text = ("x"):rep(20000)}
    local value, message, code = db.s:count "x"
    assert.same({nil, "EVIEW"}, {value, code})
    assert.truthy(message:find("failed at record 0", 1, true), message)
  end)

  it("equals a fold of all records", function ()
    differential.run {
      view = "search", params = {fields = "text", language = "english"}, rounds = 25,
      check = function (view, records)
        local corpus = corpus_of(records)
        for _ = 1, 4 do
          local node = random_query(math.random, 1)
          local query, expected, count = render(node), {}, 0
          for _, each in ipairs(corpus) do
            expected[each.seq] = score_of(corpus, node, each)
            if expected[each.seq] then count = count + 1 end
          end
          local last = math.huge
          for score, _, seq in view:search(query) do
            assert.truthy(expected[seq], query .. " finds " .. seq)
            assert.is_true(math.abs(score - expected[seq]) < 1e-6, query)
            assert.is_true(score <= last)
            last, count = score, count - 1
          end
          assert.equal(0, count, query)
        end
      end,
    }
  end)
end)
