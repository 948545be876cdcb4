-- What every kind of log promises. conformance(kind, open) makes the tests; open(options) gives a new, empty log, or a
-- database on one: what a log can do, a database can.
--
-- The tests say which record they mean by its number, 0, 1, 2 …, which is its seq in every log but an offset log. There
-- the third argument, seqs_of(log), gives two functions: at(number) is the seq of a record, number(seq) the way back.

local assert = require "luassert"
local busted = require "busted"
local flume = require "flume"
local fixture = require "tests.support.fixture"

local describe, it, before_each, after_each = busted.describe, busted.it, busted.before_each, busted.after_each


local function values(log, range)
  local list = {}
  for _, value in log:stream(range) do list[#list + 1] = value end
  return list
end

local function fill(log, count)
  local batch = {}
  for i = 1, count do batch[i] = {n = i - 1} end
  assert(log:append(batch))
  return log
end

local function same(number) return number end

return function (kind, open, seqs_of)
  local log, at, number

  -- A new log, and the seqs of it.
  local function begin(options)
    log = fixture.keep(open(options))
    at, number = same, same
    if seqs_of then at, number = seqs_of(log) end
    return log
  end

  -- The range in terms of seqs.
  local function range_of(range)
    local translated = {}
    for name, value in pairs(range or {}) do
      local bound = name == "gt" or name == "gte" or name == "lt" or name == "lte"
      translated[name] = bound and at(value) or value
    end
    return translated
  end

  -- The numbers of the records that a stream gives.
  local function numbers(range)
    local list = {}
    for seq in log:stream(range_of(range)) do list[#list + 1] = number(seq) end
    return list
  end

  describe("log: " .. kind, function ()
    before_each(function () begin() end)
    after_each(fixture.clean)

    describe("append", function ()
      it("numbers records from 0", function ()
        assert.equal(-1, log.since.value)
        assert.equal(0, number(log:append {a = 1}))
        assert.equal(1, number(log:append {a = 2}))
        assert.equal(1, number(log.since.value))
      end)

      it("of an array is one batch, and gives the seq of its last", function ()
        assert.equal(2, number(log:append {{n = 0}, {n = 1}, {n = 2}}))
        assert.same({{n = 0}, {n = 1}, {n = 2}}, values(log))
      end)

      it("of an empty array changes nothing", function ()
        log:append {a = 1}
        assert.equal(0, number(log:append {}))
        assert.equal(0, number(log.since.value))
      end)

      it("gives back what was put in", function ()
        local all = {1, -1, 1.5, math.maxinteger, math.mininteger, true, false, "text", "\0\255", {n = {1, {x = "y"}}}}
        log:append(all)
        for i, value in ipairs(all) do
          assert.same(value, log:get(at(i - 1)))
          assert.equal(math.type(value), math.type(log:get(at(i - 1))))
        end
      end)

      it("keeps empty and all-zero payloads, and what follows them", function ()
        local payloads = {"", "\0", ("\0"):rep(4096), 0, false, flume.null, flume.map {}, {{}}, "after"}
        for i, payload in ipairs(payloads) do assert.equal(i - 1, number(log:append(payload))) end
        assert.same(payloads[3], log:get(at(2)))
        assert.equal(false, log:get(at(4)))
        assert.equal(flume.null, log:get(at(5)))
        assert.equal(#payloads, #values(log))
        local alone = {}
        for value in log:stream {seqs = false} do alone[#alone + 1] = value end
        assert.equal(#payloads, #alone)
        assert.equal("after", alone[#alone])
      end)

      it("calls back each with its own seq, in order", function ()
        local got = {}
        for i = 1, 100 do
          log:append({n = i}, function (err, seq)
            assert.is_nil(err)
            got[#got + 1] = seq
          end)
        end
        fixture.run_until(function () return #got == 100 end)
        for i = 1, 100 do assert.equal(i - 1, number(got[i])) end
      end)

      it("never calls back from inside the call", function ()
        local calls, cb = fixture.recorder()
        assert.is_true(log:append({a = 1}, cb))
        assert.equal(0, #calls)
        log:append(print, cb)
        log:append({}, cb)
        assert.equal(0, #calls)
        fixture.run_until(function () return #calls == 3 end)
      end)

      it("makes a record readable before it calls back", function ()
        local value, since
        log:append({a = 7}, function (_, seq) value, since = log:get(seq), log.since.value end)
        fixture.run_until(function () return value end)
        assert.same({a = 7}, value)
        assert.equal(0, number(since))
      end)

      it("takes more appends from inside a callback", function ()
        local second
        log:append({a = 1}, function () second = log:append {a = 2} end)
        fixture.run_until(function () return second end)
        assert.equal(1, number(second))
      end)
    end)

    describe("rejected input", function ()
      it("fails alone when it can't be encoded, and says where", function ()
        local seq, message, code = log:append {a = {b = {1, 2, print}}}
        assert.is_nil(seq)
        assert.equal("EINVAL", code)
        assert.truthy(message:find("value.a.b[3]: function", 1, true), message)
        assert.equal(0, number(log:append {a = 1}))
      end)

      it("fails the whole batch, and nothing of it is stored", function ()
        local seq, message, code = log:append {{a = 1}, {a = print}, {a = 3}}
        assert.is_nil(seq)
        assert.equal("EINVAL", code)
        assert.truthy(message:find("record 2", 1, true), message)
        assert.equal(-1, log.since.value)
      end)

      it("fails for a cycle and for what is nested too deep", function ()
        local cycle = {}
        cycle.again = cycle
        local deep = {x = 1}
        for _ = 1, 200 do deep = {x = deep} end
        assert.equal("EINVAL", select(3, log:append(cycle)))
        assert.equal("EINVAL", select(3, log:append(deep)))
        assert.equal(0, number(log:append "fine"))
      end)

      it("fails its own callback between others that succeed", function ()
        local calls, cb = fixture.recorder()
        log:append({n = 1}, cb)
        log:append(print, cb)
        log:append({n = 2}, cb)
        fixture.run_until(function () return #calls == 3 end)
        local good, bad = {}, {}
        for _, call in ipairs(calls) do
          if call[1] then bad[#bad + 1] = call[1].code else good[#good + 1] = number(call[2]) end
        end
        assert.same({0, 1}, good)
        assert.same({"EINVAL"}, bad)
      end)

      it("fails when it is too large, and later appends go on", function ()
        local small = begin {max_record_bytes = 100}
        local seq, message, code = small:append(("x"):rep(101))
        assert.is_nil(seq)
        assert.equal("E2BIG", code)
        assert.truthy(message:find("limit", 1, true), message)
        assert.equal(0, number(small:append "y"))
      end)
    end)

    describe("get", function ()
      it("knows which seqs there are", function ()
        fill(log, 2)
        assert.same({n = 1}, log:get(at(1)))
        for _, seq in ipairs {-1, at(2), math.maxinteger} do
          local value, message, code = log:get(seq)
          assert.is_nil(value)
          assert.equal("ENOENT", code)
          assert.is_string(message)
        end
      end)

      it("calls back later, with the value or with the error", function ()
        fill(log, 1)
        local calls, cb = fixture.recorder()
        assert.is_true(log:get(0, cb))
        log:get(at(7), cb)
        assert.equal(0, #calls)
        fixture.run_until(function () return #calls == 2 end)
        assert.is_nil(calls[1][1])
        assert.same({n = 0}, calls[1][2])
        assert.equal("ENOENT", calls[2][1].code)
      end)

      it("raises for a value that isn't a seq", function ()
        assert.error_matches(function () log:get "0" end, "integer")
        assert.error_matches(function () log:get(0.5) end, "integer")
      end)
    end)

    describe("del", function ()
      it("answers deleted from then on, and keeps the seq taken", function ()
        fill(log, 3)
        assert.is_true(log:del(at(1)))
        assert.same({nil, "deleted", "EDELETED"}, {log:get(at(1))})
        assert.same({0, 2}, numbers())
        assert.equal(3, number(log:append {n = 3}))
      end)

      it("takes a list, and a seq that is deleted already", function ()
        fill(log, 5)
        assert.is_true(log:del {0, at(4)})
        assert.is_true(log:del(at(4)))
        assert.same({1, 2, 3}, numbers())
        assert.same({3, 2, 1}, numbers({reverse = true}))
      end)

      it("refuses a seq that is not there, and then deletes none of the list", function ()
        fill(log, 2)
        assert.equal("ENOENT", select(3, log:del {0, at(2)}))
        assert.same({0, 1}, numbers())
      end)

      it("of the last record leaves since where it is", function ()
        fill(log, 2)
        log:del(at(1))
        assert.equal(1, number(log.since.value))
        assert.equal(2, number(log:append {n = 2}))
      end)

      it("calls back", function ()
        fill(log, 2)
        local calls, cb = fixture.recorder()
        assert.is_true(log:del(0, cb))
        assert.equal(0, #calls)
        fixture.run_until(function () return #calls == 1 end)
        assert.is_nil(calls[1][1])
        assert.equal("EDELETED", select(3, log:get(0)))
      end)

      it("shows in a stream that is open already", function ()
        fill(log, 3)
        local s <close> = log:stream()
        assert.equal(0, (s:next()))
        log:del(at(1))
        assert.equal(2, number((s:next())))
        assert.is_nil(s:next())
      end)
    end)

    describe("stream", function ()
      before_each(function () fill(log, 10) end)

      it("gives all records, oldest first", function ()
        assert.same({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, numbers())
        assert.same({n = 9}, values(log)[10])
      end)

      for _, case in ipairs {
        {range = {gt = 6}, want = {7, 8, 9}},
        {range = {gte = 6}, want = {6, 7, 8, 9}},
        {range = {lt = 3}, want = {0, 1, 2}},
        {range = {lte = 3}, want = {0, 1, 2, 3}},
        {range = {gt = 2, lt = 5}, want = {3, 4}},
        {range = {gte = 2, lte = 5, limit = 2}, want = {2, 3}},
        {range = {gt = 2, gte = 1, lt = 5, lte = 9}, want = {3, 4}},
        {range = {gt = -1, lt = 2}, want = {0, 1}},
        {range = {gte = 0, lte = 0}, want = {0}},
        {range = {gt = 0, lt = 1}, want = {}},
        {range = {gt = 9}, want = {}},
        {range = {lt = 0}, want = {}},
        {range = {gt = 5, lt = 2}, want = {}},
        {range = {gt = math.maxinteger}, want = {}},
        {range = {lt = math.mininteger}, want = {}},
        {range = {reverse = true, limit = 3}, want = {9, 8, 7}},
        {range = {reverse = true, gt = 6}, want = {9, 8, 7}},
        {range = {reverse = true, gte = 2, lte = 4}, want = {4, 3, 2}},
        {range = {reverse = true, lt = 2}, want = {1, 0}},
        {range = {reverse = true, lt = 100, limit = 1}, want = {9}},
        {range = {limit = 0}, want = {}},
        {range = {limit = 100, gte = 8}, want = {8, 9}},
        {range = {limit = -1, gte = 8}, want = {8, 9}},
        {range = {old = false}, want = {}},
      } do
        it("honours " .. flume.json.encode(flume.map(case.range)), function ()
          assert.same(case.want, numbers(case.range))
        end)
      end

      it("with seqs = false gives the value alone, with values = false the seq", function ()
        local given = fixture.collect(log:stream {seqs = false, gte = at(9)})
        assert.same({{{n = 9}}}, given)
        assert.same({{at(9)}}, fixture.collect(log:stream {values = false, gte = at(9)}))
        assert.error_matches(function () log:stream {seqs = false, values = false} end, "both")
      end)

      it("does not count deleted records in limit", function ()
        log:del {0, at(1), at(8)}
        assert.same({2, 3}, numbers({limit = 2}))
        assert.same({9, 7}, numbers({limit = 2, reverse = true}))
      end)

      it("refuses unknown options", function ()
        assert.error_matches(function () log:stream {from = 1} end, "unknown option")
        assert.error_matches(function () log:stream {gt = "1"} end, "gt must be integer")
        assert.error_matches(function () log:stream {live = true, reverse = true} end, "exclude")
      end)

      it("does not see what is appended after it was opened", function ()
        local s <close> = log:stream {gte = at(9)}
        log:append {n = 10}
        assert.equal(9, number((s:next())))
        assert.is_nil(s:next())
      end)

      it("is read record by record with next, and closed twice", function ()
        local s = log:stream {gte = at(8)}
        assert.same({at(8), {n = 8}}, {s:next()})
        assert.same({at(9), {n = 9}}, {s:next()})
        assert.is_nil(s:next())
        s:close()
        s:close()
        assert.is_nil(s:next())
      end)

      it("calls back with the record, and with nothing at the end", function ()
        local s <close> = log:stream {gte = at(9)}
        local calls, cb = fixture.recorder()
        assert.is_true(s:next(cb))
        assert.equal(0, #calls)
        fixture.run_until(function () return #calls == 1 end)
        s:next(cb)
        fixture.run_until(function () return #calls == 2 end)
        assert.same({nil, at(9), {n = 9}}, {table.unpack(calls[1], 1, 3)})
        assert.is_nil(calls[2][1])
        assert.is_nil(calls[2][2])
      end)

      it("is closed when a for loop is left", function ()
        local s = log:stream()
        for seq in s, nil, nil, s do
          if seq == at(4) then break end
        end
        assert.is_nil(s:next())
      end)

      it("serves several readers at once", function ()
        local a <close> = log:stream()
        local b <close> = log:stream {reverse = true}
        for i = 0, 9 do
          assert.equal(at(i), (a:next()))
          assert.equal(at(9 - i), (b:next()))
        end
      end)
    end)

    describe("live stream", function ()
      it("goes on with what is appended", function ()
        fill(log, 2)
        local got = {}
        local s <close> = log:stream {live = true}
        flume.spawn(function ()
          for seq in s do got[#got + 1] = number(seq) end
        end)
        assert.same({0, 1}, got)
        log:append {{n = 2}, {n = 3}}
        fixture.run_until(function () return #got == 4 end)
        assert.same({0, 1, 2, 3}, got)
      end)

      it("waits on an empty log, also with old = false", function ()
        local got = {}
        local s <close> = log:stream {live = true, old = false, seqs = false}
        s:next(function (_, value) got[1] = value end)
        log:append {{n = "first"}, {n = "second"}}
        fixture.run_until(function () return got[1] end)
        assert.same({n = "first"}, got[1])
      end)

      it("with old = false passes over what is there", function ()
        fill(log, 3)
        local calls, cb = fixture.recorder()
        local s <close> = log:stream {live = true, old = false}
        s:next(cb)
        log:append {n = 3}
        fixture.run_until(function () return #calls == 1 end)
        assert.equal(3, number(calls[1][2]))
      end)

      it("ends after limit, and behind lt", function ()
        local a <close> = log:stream {live = true, limit = 2}
        fill(log, 5)
        local b <close> = log:stream {live = true, lt = at(2)}
        assert.same({at(0), at(1)}, {(a:next()), (a:next())})
        assert.same({at(0), at(1)}, {(b:next()), (b:next())})
        assert.is_nil(a:next())
        assert.is_nil(b:next())
      end)

      it("that waits ends with nothing when it is closed", function ()
        local calls, cb = fixture.recorder()
        local s = log:stream {live = true}
        s:next(cb)
        flume.step(0)
        s:close()
        fixture.run_until(function () return #calls == 1 end)
        assert.is_nil(calls[1][1])
        assert.is_nil(calls[1][2])
      end)

      it("refuses a second next while one waits", function ()
        local calls, cb = fixture.recorder()
        local s <close> = log:stream {live = true}
        s:next(function () end)
        s:next(cb)
        fixture.run_until(function () return #calls == 1 end)
        assert.equal("EBUSY", calls[1][1].code)
      end)
    end)

    describe("since", function ()
      it("tells its listeners, and stops when told to", function ()
        local seen = {}
        local off = log.since(function (since) seen[#seen + 1] = since end)
        assert.same({-1}, seen)
        log:append {n = 0}
        fixture.run_until(function () return seen[#seen] == 0 end)
        off()
        local later
        log.since:once(function (since) later = since end, false)
        log:append {n = 1}
        fixture.run_until(function () return later == at(1) end)
        assert.equal(0, seen[#seen])
      end)
    end)

    describe("close", function ()
      it("is idempotent, and calls back each time", function ()
        local calls, cb = fixture.recorder()
        log:close(cb)
        log:close(cb)
        assert.equal(0, #calls)
        fixture.run_until(function () return #calls == 2 end)
        assert.is_true(log:close())
        assert.is_true(log.closed)
      end)

      it("finishes the appends that were submitted", function ()
        local calls, cb = fixture.recorder()
        for i = 1, 10 do log:append({n = i}, cb) end
        log:close()
        local seqs = {}
        for i = 1, 10 do seqs[i] = at(i - 1) end
        assert.equal(10, #calls)
        for i = 1, 10 do assert.same({nil, seqs[i]}, {calls[i][1], calls[i][2]}) end
      end)

      it("ends a next that waits with ECLOSED, once", function ()
        local calls, cb = fixture.recorder()
        log:stream({live = true}):next(cb)
        log:close()
        flume.step(0)
        assert.equal(1, #calls)
        assert.equal("ECLOSED", calls[1][1].code)
      end)

      it("ends the loop over a live stream", function ()
        local ended = false
        flume.spawn(function ()
          for _ in log:stream {live = true} do log:get(0) end
          ended = true
        end)
        log:close()
        flume.step(0)
        assert.is_true(ended)
      end)

      it("makes every later call raise", function ()
        log:close()
        for _, call in ipairs {
          function () log:append {n = 1} end,
          function () log:append({n = 1}, function () end) end,
          function () log:get(0) end,
          function () log:del(0) end,
          function () log:stream() end,
        } do
          assert.error_matches(call, "closed")
        end
      end)

      it("happens at the end of a block", function ()
        local kept
        do
          local scoped <close> = open()
          kept = scoped
        end
        assert.is_true(kept.closed)
      end)
    end)
  end)
end
