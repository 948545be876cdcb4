-- What Tab gives in bash and zsh behind flume.

local shell = require "tests.support.shell"
local fixture = require "tests.support.fixture"

local TOTALS = [[
  return {
    version = 1, initial = 0, methods = {of = "async"},
    reducer = function (sum, item) return sum + item.n end,
    of = function (view) return view:get() end,
  }
]]

-- A shell's completion function, called as the shell would; prints the candidates, one a line.
local BASH = [[
  . packaging/completion.bash
  compopt() { :; }
  cd "$dir" || exit 1
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
  _flume
  printf '%s\n' "${COMPREPLY[@]}"
]]

local ZSH = [=[
  function compadd { shift; print -l -- "$@" }
  function _describe { print -l -- ${(P)2%%:*} }
  function _files { [[ "$1" == -/ ]] && print -l -- *(/) || print -l -- * }
  words=("$@") CURRENT=$#
  file=$PWD/packaging/completion.zsh
  cd "$dir" || exit 1
  . $file || true # it answers whether there is anything
]=]

-- In the order of the alphabet, those that begin with what is typed; bash and zsh do the choosing in different places.
local function candidates(program, script, dir, words)
  local quoted, typed = {}, words[#words]
  for i, word in ipairs(words) do quoted[i] = shell.quote(word) end
  local text = shell.output(("dir=%s FLUME_VIEWS= %s -c %s - flume %s"):format(dir, program, shell.quote(script),
    table.concat(quoted, " ")))
  local list = {}
  for line in text:gmatch "[^\n]+" do
    if line:sub(1, #typed) == typed then list[#list + 1] = line end
  end
  table.sort(list)
  return table.concat(list, " ")
end

for _, each in ipairs {{"bash", BASH}, {"zsh", ZSH}} do
  local program, script = table.unpack(each)
  local case = shell.has(program) and it or pending

  describe("completion in " .. program, function ()
    local dir

    local function complete(...) return candidates(program, script, dir, {...}) end

    before_each(function ()
      dir = fixture.dir()
      fixture.write(dir .. "/views/totals.lua", TOTALS)
      shell.output(("echo '{\"n\": 1}' | flume %s/data append"):format(dir))
    end)
    after_each(fixture.clean)

    case("the database is a folder", function ()
      fixture.write(dir .. "/file", "")
      assert.equal("data views", complete "")
    end)

    case("commands", function ()
      assert.equal("status stream", complete("data", "st"))
      assert.truthy((" " .. complete("data", "") .. " "):find " append .* rebuild .* tail ")
    end)

    case("options, each with the commands that know it", function ()
      assert.equal("--limit --live --lt --lte", complete("data", "stream", "--l"))
      assert.equal("", complete("data", "get", "--l"))
      assert.equal("--json", complete "--j")
    end)

    case("what an option takes", function ()
      assert.equal("always interval os", complete("--sync", ""))
      assert.equal("data views", complete("--views", ""))
      assert.equal("", complete("data", "stream", "--limit", ""))
    end)

    case("files for append", function ()
      fixture.write(dir .. "/records.jsonl", "")
      assert.equal("records.jsonl", complete("data", "append", "rec"))
    end)

    case("views and their methods", function ()
      assert.equal("totals.deltas totals.get totals.of", complete("--views", "views", "data", "tot"))
      assert.equal("totals.of", complete("--views", "views", "data", "totals.o"))
      assert.equal("totals", complete("--views", "views", "data", "rebuild", ""))
    end)

    case("in folders whose names have spaces, which are typed with quotes or backslashes", function ()
      fixture.write(dir .. "/more views/count.lua", TOTALS)
      shell.output(("cp -r %s/data '%s/my data'"):format(dir, dir))
      assert.equal("count.deltas count.get count.of", complete("--views", "'more views'", "my\\ data", "cou"))
      assert.equal("count.deltas count.get count.of", complete("--views", "more\\ views", '"my data"', "cou"))
    end)

    case("says nothing and makes nothing where there is no database", function ()
      assert.equal("", complete("nowhere", "totals."))
      assert.equal("data\nviews\n", shell.output("ls " .. dir))
    end)
  end)
end
