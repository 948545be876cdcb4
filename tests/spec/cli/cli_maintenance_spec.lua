-- flume DB compact, backup and check, run as processes.

local flume = require "flume"
local lfs = require "lfs"
local fixture = require "tests.support.fixture"

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function read_file(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

-- Runs flume to its end: its output, what it says on standard error, its exit status.
local function run(args, env)
  local dir = fixture.dir()
  local words = {"env -u FLUME_VIEWS -u FLUME_PROGRESS", env or "", "flume"}
  for _, arg in ipairs(args) do words[#words + 1] = quote(arg) end
  local _, _, code = os.execute(("%s </dev/null >%s/out 2>%s/err"):format(table.concat(words, " "), dir, dir))
  return read_file(dir .. "/out"), read_file(dir .. "/err"), code
end

local function output(args)
  local out, err, code = run(args)
  assert.equal("", err)
  assert.equal(0, code)
  return out
end

local function filled(count)
  local dir = fixture.dir()
  local db = fixture.open_db(dir .. "/data", {segment_bytes = 2000})
  for n = 0, count - 1 do db:append{n = n, text = ("secret-%04d"):format(n)} end
  return db, dir .. "/data", dir
end

-- Changes a byte of a record in the second segment.
local function damage(dir)
  local path = fixture.segments(dir)[2]
  local text = read_file(path)
  local at = text:find("secret", 1, true)
  local file = assert(io.open(path, "r+b"))
  file:seek("set", at + 1)
  file:write "X"
  file:close()
  return path:match "[^/]*$"
end

describe("flume drop", function ()
  it("removes a view's state, which status names when the view is not mounted", function ()
    local db, dir = filled(3)
    db:use("n", flume.reduce(1, function (n) return n + 1 end, 0))
    assert.equal(3, db.n:get())
    assert(db:close())
    assert.matches("on disk, not mounted: n %(drop NAME removes one%)", output{dir, "status"})
    assert.same(flume.array {"n"}, flume.json.decode(output{dir, "status", "--json"}).unmounted)
    assert.equal("dropped n\n", output{dir, "drop", "n"})
    assert.is_nil(output{dir, "status"}:find "not mounted")
    local out, err, code = run{dir, "drop", "n"}
    assert.equal("", out)
    assert.matches('there is no view "n"', err)
    assert.equal(1, code)
    assert.equal(2, (select(3, run{dir, "drop"})))
    assert.equal(1, (select(3, run{dir, "drop", "../log"})))
    assert.is_not_nil(lfs.attributes(dir .. "/log"))
  end)
end)

describe("flume compact", function ()
  after_each(fixture.clean)

  it("says what it removed", function ()
    local db, dir = filled(100)
    db:del{3, 50}
    db:close()
    local out = output{dir, "compact"}
    assert.is_truthy(out:find "^2 records removed; %d segments: [%d.]+ k?B, now [%d.]+ k?B\n$", out)
    for _, path in ipairs(fixture.segments(dir)) do assert.is_nil(read_file(path):find("secret-0050", 1, true)) end
    assert.equal("nothing to remove\n", output{dir, "compact"})
  end)

  it("prints JSON", function ()
    local db, dir = filled(100)
    db:del(99)
    db:close()
    local done = flume.json.decode(output{dir, "compact", "--json"})
    assert.equal(1, done.records)
    assert.equal(1, done.segments)
    assert.is_true(done.bytes_before > done.bytes_after)
  end)

  it("needs the database for itself", function ()
    local _, dir = filled(3)
    local out, err, code = run{dir, "compact"}
    assert.equal("", out)
    assert.equal(1, code)
    assert.is_truthy(err:find("is open for writing", 1, true))
  end)

  it("changes nothing with --readonly", function ()
    local db, dir = filled(3)
    db:del(1)
    db:close()
    local _, err, code = run{dir, "compact", "--readonly"}
    assert.equal(2, code)
    assert.is_truthy(err:find("--readonly changes nothing, and compact does", 1, true))
    _, err, code = run{dir, "check", "--repair", "--readonly"}
    assert.equal(2, code)
    assert.is_truthy(err:find("--readonly changes nothing, and --repair does", 1, true))
  end)
end)

describe("flume compact after queries from the shell", function ()
  after_each(fixture.clean)

  it("erases what their indexes know, and names the way out for other views that are not mounted", function ()
    local dir = fixture.dir() .. "/data"
    output {dir, "-e", "db:append{{a = 1}, {a = 2}}"}
    output {dir, "q.query", '[{"$filter":{"a":1}}]'}
    output {dir, "-e", "db:del(0)"}
    output {dir, "compact"}
    output {dir, "compact"}
    output {dir, "-e", "db:use('tmp', flume.reduce(1, function (n) return n + 1 end, 0)) return db.tmp:get()"}
    output {dir, "-e", "db:del(1)"}
    local _, told, status = run {dir, "compact"}
    assert.equal(1, status)
    assert.is_truthy(told:find("db:drop(name) removes its state", 1, true), told)
    output {dir, "drop", "tmp"}
    output {dir, "compact"}
  end)
end)

describe("flume backup", function ()
  after_each(fixture.clean)

  it("copies a database that is open elsewhere", function ()
    local db, dir, folder = filled(100)
    local out = output{dir, "backup", folder .. "/copy"}
    assert.is_truthy(out:find "files up to record 99, ", out)
    db:append{n = 100}
    local copy = fixture.open_db(folder .. "/copy")
    assert.equal(99, copy.since.value)
    assert.same({n = 99, text = "secret-0099"}, copy:get(99))
  end)

  it("prints JSON", function ()
    local _, dir, folder = filled(10)
    local done = flume.json.decode(output{dir, "backup", folder .. "/copy", "--json"})
    assert.equal(9, done.since)
    assert.is_true(done.files >= 1 and done.bytes > 500)
  end)

  it("touches nothing that is there", function ()
    local _, dir, folder = filled(3)
    fixture.write(folder .. "/copy/mine", "mine")
    local _, err, code = run{dir, "backup", folder .. "/copy"}
    assert.equal(1, code)
    assert.is_truthy(err:find("not empty", 1, true))
    assert.equal("mine", read_file(folder .. "/copy/mine"))
  end)

  it("wants a folder", function ()
    local _, dir = filled(3)
    local _, err, code = run{dir, "backup"}
    assert.equal(2, code)
    assert.is_truthy(err:find("backup wants a folder", 1, true))
    assert.equal(2, select(3, run{dir, "backup", "a", "b"}))
  end)

  it("shows how far it is", function ()
    local _, dir, folder = filled(100)
    local out, err, code = run({dir, "backup", folder .. "/copy"}, "FLUME_PROGRESS=1")
    assert.equal(0, code)
    assert.is_truthy(err:find "backup .* 100%%  [%d.]+ k?B")
    assert.is_truthy(out:find "up to record 99")
  end)
end)

describe("flume check", function ()
  after_each(fixture.clean)

  it("finds nothing wrong", function ()
    local db, dir = filled(100)
    assert.is_truthy(output{dir, "check"}:find "^100 records in %d+ segments, [%d.]+ [kM]B; no damage\n$")
    db:close()
    local found = flume.json.decode(output{dir, "check", "--json"})
    assert.is_true(found.ok)
    assert.equal(100, found.records)
    assert.same({}, found.problems)
  end)

  it("names what is damaged, and fails", function ()
    local db, dir = filled(100)
    db:close()
    local file = damage(dir)
    local out, err, code = run{dir, "check"}
    assert.equal(1, code)
    assert.is_truthy(out:find(file .. ": byte ", 1, true))
    assert.is_truthy(out:find "record checksum mismatch\n")
    assert.is_truthy(err:find "^flume: 1 problem; check %-%-repair")
    local text, _, status = run{dir, "check", "--json"}
    local found = flume.json.decode(text)
    assert.equal(1, status)
    assert.is_false(found.ok)
    assert.equal(file, found.problems[1].file)
    assert.is_true(math.type(found.problems[1].offset) == "integer" and math.type(found.problems[1].seq) == "integer")
  end)

  it("opens what can't be opened otherwise", function ()
    local db, dir = filled(100)
    db:close()
    local files = fixture.segments(dir)
    assert(os.remove(files[#files]))
    local _, err, code = run{dir, "tail"}
    assert.equal(1, code)
    assert.is_truthy(err:find("missing", 1, true))
    local out
    out, _, code = run{dir, "check"}
    assert.equal(1, code)
    assert.is_truthy(out:find("the segment after this one is missing", 1, true))
    assert(os.remove(files[1]))
    assert.is_truthy(run{dir, "check"}:find("the first segment is missing", 1, true))
  end)

  it("--repair keeps what is good", function ()
    local db, dir = filled(100)
    db:close()
    local file = damage(dir)
    local out, err, code = run{dir, "check", "--repair"}
    assert.equal("", err)
    assert.equal(0, code)
    assert.is_truthy(out:find("repaired: " .. file .. ": written anew", 1, true))
    assert.is_truthy(out:find "1 lost")
    local aside = out:match "repaired: (damaged%-%d+): holds the files"
    assert.equal("file", lfs.attributes(("%s/log/%s/%s"):format(dir, aside, file), "mode"))
    assert.is_truthy(output{dir, "check"}:find "no damage")
    db = fixture.open_db(dir)
    assert.equal(99, #fixture.collect(db:stream()))
    assert.equal(100, db:append{n = 100})
  end)

  it("--repair leaves a sound database alone", function ()
    local db, dir = filled(20)
    db:close()
    local before = {}
    for _, path in ipairs(fixture.segments(dir)) do before[path] = read_file(path) end
    assert.is_truthy(output{dir, "check", "--repair"}:find "no damage")
    for path, text in pairs(before) do assert.equal(text, read_file(path)) end
  end)

  it("--repair needs the database for itself", function ()
    local db, dir = filled(100)
    local _, err, code = run{dir, "check", "--repair"}
    assert.equal(1, code)
    assert.is_truthy(err:find("is open for writing", 1, true))
    db:close()
    assert.equal(2, select(3, run{dir, "compact", "--repair"}))
  end)
end)
