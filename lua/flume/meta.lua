---@meta flume

-- The API in full: for the Lua language server, which reads these annotations, and for make doc. Nothing here is run;
-- tests/spec/build/meta_spec.lua holds it against the module itself.
--

--- An embedded database: one durable append-only log, and many views on it.
---
--- Where a function has a last parameter cb, it has three forms. With a callback it returns true at once, and the
--- callback gets err, result. In a task (flume.spawn, flume.run) it yields to the event loop until it is done. Anywhere
--- else it blocks. Without a callback an expected failure is nil, message, code; a mistake in the program raises.
---@class flume
---@field _VERSION string the version of flume
---@field null flume.Null stands for null inside tables; a missing key is nil
---@field log flume.Logs the kinds of log there are
---@field json flume.Json values as JSON
---@field query flume.Conditions what records have to be like, for the query view
local flume = {}

--- A null inside a value.
---@class flume.Null: userdata

---@alias flume.Code
---| "ECORRUPT"  # data is damaged; the message has file, byte and seq
---| "EDELETED"  # the record was deleted
---| "ECLOSED"   # the database was closed meanwhile
---| "ELOCKED"   # another process has it open for writing
---| "ENOENT"    # there is no such record, file or folder
---| "EINVAL"    # a value can't be stored, or a definition is wrong
---| "EAGAIN"    # 64 MiB of appends and deletes are pending: try again when callbacks have been called
---| "E2BIG"     # a record is larger than max_record_bytes
---| "ETIMEDOUT" # a read waited for longer than its timeout
---| "EVIEW"     # the view has failed
---| "EREADONLY" # it was opened read-only
---| "EVERSION"  # it was written by a later version of flume
---| "EBUSY"     # another call on the same thing is under way
---| "EEXIST"    # something is there already
---| "ENOTSUP"   # this kind of log can't do that
---| "ENOMEM"    # there is not enough memory

--- What can be stored: nil, booleans, integers, floats, strings (bytes), tables of them, flume.null, records.
---@alias flume.Value any

-- --- Opening -------------------------------------------------------------------------------------------------------

--- Options of flume.new.
---@class flume.NewOptions
---@field ready? boolean false: views don't move, and reads wait, until db.ready:set(true)
---@field mapper? string|fun(value: flume.Value, seq: integer): flume.Value sees each value first; see views/README.md
---@field views? string a folder: every *.lua in it is mounted under its name
---@field watch? boolean with views: scripts and modules that change are reloaded, as by db:reload(); see views/README

--- Options of flume.log.file.
---@class flume.LogOptions
---@field sync? "always"|"interval"|"os" when an append is acknowledged: once on disk; or written
---@field interval_ms? integer the ceiling of sync = "interval"; 100, at most a day
---@field max_record_bytes? integer a larger record is E2BIG; 256 MiB, at most 1 GiB
---@field segment_bytes? integer the size at which a new file is begun; 256 MiB, at most 2 GiB
---@field readonly? boolean takes no lock and writes nothing; sees what another process writes, as it comes
---@field poll_ms? integer with readonly: looks as often as this, instead of waiting for file events
---@field damaged? boolean with readonly: opens what there is before the damage, instead of failing with ECORRUPT
---@field codec? "msgpack"|"json"|"raw"|flume.Codec how values are stored

--- Options of flume.log.offset.
---@class flume.OffsetOptions
---@field sync? "always"|"interval"|"os" when an append is acknowledged: once on disk; or written
---@field interval_ms? integer the ceiling of sync = "interval"; 100, at most a day
---@field max_record_bytes? integer a larger record is E2BIG; 256 MiB, at most 1 GiB
---@field readonly? boolean takes no lock and writes nothing; sees what another process writes, as it comes
---@field poll_ms? integer with readonly: looks as often as this, instead of waiting for file events
---@field damaged? boolean with readonly: opens what there is before the damage, instead of failing with ECORRUPT
---@field codec? "json"|"msgpack"|"raw"|flume.Codec how values are stored; JSON
---@field bits? 32|48|53 how wide the pointers are; what the file has, or 32 for a new one

--- Options of flume.open: those of the log, and of flume.new.
---@class flume.OpenOptions: flume.LogOptions, flume.NewOptions
---@field log? "file"|"offset" the kind of log; a file log. With "offset" the path is the flumelog-offset file
---@field bits? 32|48|53 of an offset log; see flume.OffsetOptions

--- A codec of one's own. What it raises is the error of the call that needed it.
---@class flume.Codec
---@field encode fun(value: flume.Value): string
---@field decode fun(bytes: string): flume.Value

--- Opens, or creates, the database in a folder: its log in dir/log, the state of its views in dir/views.
---@param dir string the folder
---@param options? flume.OpenOptions
---@return flume.DB? db the database; nil when it could not be opened
---@return string? message what went wrong
---@return flume.Code? code ELOCKED, ECORRUPT, EVERSION, ENOENT, or a code of the system's
function flume.open(dir, options) end

--- A database on a log that is open: flume.log.memory(), flume.log.file(dir), flume.log.offset(path), or a table with
--- the functions of a log (append, get, stream, del, close) and since, an observable.
---@param log flume.Log|table
---@param options? flume.NewOptions
---@return flume.DB? db
---@return string? message
---@return flume.Code? code
function flume.new(log, options) end

--- The kinds of log.
---@class flume.Logs
flume.log = {}

--- Opens, or creates, the file log in a folder.
---@param dir string the folder
---@param options? flume.LogOptions
---@return flume.Log? log
---@return string? message
---@return flume.Code? code
function flume.log.file(dir, options) end

--- Opens, or creates, the JavaScript flumelog-offset file at a path. Its seqs are the byte offsets at which the records
--- begin. What flume keeps besides, the state of views included, is in the folder path.flume. Deleting overwrites a
--- record at once, so compact has nothing to do; a batch is not atomic across a crash.
---@param path string the file
---@param options? flume.OffsetOptions
---@return flume.Log? log
---@return string? message
---@return flume.Code? code ELOCKED, ECORRUPT, EINVAL (other pointers than options.bits), or a code of the system's
function flume.log.offset(path, options) end

--- A log that lives in memory.
---@param options? flume.LogOptions
---@return flume.Log? log
---@return string? message
---@return flume.Code? code
function flume.log.memory(options) end

--- Repairs the log in a folder, or a flumelog-offset file, which nobody may have open for writing. It does what is
--- proven, and nothing else: good records keep their seqs, and what is replaced is kept in damaged-TIME, in the folder
--- or in path.flume. Of a flumelog-offset file a record is framed anew if one thing alone of its framing is wrong.
---@param path string the folder of the log, "data/log"; or the file
---@return flume.Report? report with the list repairs of what was done
---@return string? message
---@return flume.Code? code ELOCKED, ENOENT, ECORRUPT (beyond what can be proven)
function flume.log.repair(path) end

-- --- Views ---------------------------------------------------------------------------------------------------------

--- A reducer view, to be mounted with db:use.
---@param version integer|number|string|nil when it changes, the view is built anew
---@param fn fun(acc: flume.Value, item: flume.Value, seq: integer): flume.Value the next state
---@param initial? flume.Value the state before the first record; it is copied
---@return flume.Definition definition
function flume.reduce(version, fn, initial) end

--- An index, to be mounted with db:use. A function (item, seq, emit) calls emit(key [, value]) for each entry of the
--- record; a path, or paths, name the fields whose values are the keys, which is done without calling Lua.
---@param version integer|number|string|nil when it changes, the view is built anew
---@param fn string|string[]|function
---@return flume.Definition definition
function flume.index(version, fn) end

--- How a method of a view is called: views/README.md.
---@alias flume.MethodType "sync"|"async"|"source"|"record"|"records"

--- What a view's module returns, and what db:use takes: a reducer, an index, or the raw protocol. See views/README.md.
---@class flume.Definition
---@field version? integer|number|string when it changes, the view is built anew; without one the source decides
---@field initial? flume.Value of a reducer: the state before the first record
---@field reducer? fun(acc: flume.Value, item: flume.Value, seq: integer): flume.Value the next state
---@field group? string|fun(item: flume.Value, seq: integer): any of a reducer: one state for each key
---@field retract? function takes a deleted record out again; without it a delete builds the view anew
---@field aggregate? table<string, string|string[]> counts, sums and the like by group, made without calling Lua
---@field indexer? string|string[]|function of an index: as in flume.index
---@field create? fun(log: table, name: string): table a view that feeds and keeps itself
---@field query? boolean true: it answers queries, as the built-in view "query"
---@field uses? string[] names of views that it reads: its functions get these as their last argument
---@field methods? table<string, flume.MethodType> the functions of the view that can be called, and how

-- --- Values --------------------------------------------------------------------------------------------------------

--- Marks a table as an array, also when it is empty or has holes.
---@param t table
---@return table t the same table
function flume.array(t) end

--- Marks a table as a map, also when its keys are 1..n.
---@param t table
---@return table t the same table
function flume.map(t) end

--- The plain table that a lazy record stands for; any other value as it is.
---@param item flume.Value
---@return flume.Value value
function flume.table(item) end

--- Whether a value is an array: a table or a lazy record that is stored as one.
---@param value flume.Value
---@return boolean is_array
function flume.is_array(value) end

--- A number that is always the same for a key (nil, a boolean, a number, a string or an array of them), on every
--- machine, and most likely another one for another key: 64 bits.
---@param key any
---@return integer hash
function flume.hash(key) end

--- What reads a path such as "author" or "content.type" in an item: a function that gives the value there; nil for
--- none, or null. For a list of paths the array of their values, with null for those that are not there, or nil when
--- none is.
---@param paths string|string[]
---@return fun(item: flume.Value): any
function flume.path(paths) end

--- A lazy record over the bytes of a value: it reads like the table that it stands for, decodes what is touched, and
--- can't be changed. What a view is given for each record.
---@param bytes string MessagePack
---@return flume.Value? item a record for a map or an array, else the plain value
---@return string? message
---@return flume.Code? code
function flume.record(bytes) end

--- A value as MessagePack.
---@param value flume.Value
---@return string? bytes
---@return string? message names what can't be encoded: "value.a.b[3]: function"
---@return flume.Code? code
function flume.encode(value) end

--- The value that MessagePack stands for.
---@param bytes string
---@return flume.Value? value
---@return string? message
---@return flume.Code? code
function flume.decode(bytes) end

--- Values as JSON.
---@class flume.Json
flume.json = {}

--- A value as JSON text. Keys that are numbers or booleans become text. What JSON can't say is refused with its path
--- (EINVAL): nan, infinities, strings that are not UTF-8, two keys with the same text.
---@param value flume.Value
---@return string? text
---@return string? message
---@return flume.Code? code
function flume.json.encode(value) end

--- The value that a JSON text stands for; null inside it is flume.null. An integer beyond 64 bits that would lose
--- digits is refused. Half of a surrogate pair (\ud83d alone) becomes three bytes; encode writes these as that escape.
---@param text string
---@return flume.Value? value
---@return string? message
---@return flume.Code? code
function flume.json.decode(text) end

-- --- Tasks and the event loop --------------------------------------------------------------------------------------

--- Runs fn as a task, and the event loop until it has ended; returns its results, or raises its error. Without fn: runs
--- the loop until nothing is left to do.
---@generic T
---@param fn? fun(...): T
---@param ... any arguments of fn
---@return T ... the results of fn
function flume.run(fn, ...) end

--- Starts fn as a task, at once; it runs until it first waits. What it raises the next flume.step or flume.run raises.
---@param fn function
---@param ... any arguments of fn
---@return thread co the task's coroutine
function flume.spawn(fn, ...) end

--- Runs the event loop once. Raises what a callback or a task raised meanwhile.
---@param timeout_ms? number how long to wait for something to happen; nil: 200, for Ctrl-C to be noticed; 0: not at all
---@return boolean alive whether anything is left to wait for
function flume.step(timeout_ms) end

--- The event loop, for waiting for it in another one (examples/lua/with_copas.lua, examples/lua/with_cqueues.lua).
---@return flume.Loop loop
function flume.loop() end

--- The event loop: luv's when luv was loaded before, else one of flume's own. To have it looked after by another loop:
--- call flume.step(0), then wait until fd() becomes readable or timeout() has passed, and so on while alive().
---@class flume.Loop
local Loop = {}

--- A file descriptor that becomes readable when flume.step(0) has something to do. flume.step has to be called after
--- each call to flume and before waiting, so that the descriptor covers what that call began.
---@return integer fd
function Loop:fd() end

--- How long to wait for fd() at most, in milliseconds; -1: for ever.
---@return integer timeout_ms
function Loop:timeout() end

--- Whether anything is left to wait for.
---@return boolean alive
function Loop:alive() end

--- Whether the loop is running: a callback that flume or luv called is under way.
---@return boolean running
function Loop:running() end

--- An observable: a value that can be watched.
---@param value? any what it has at first
---@return flume.Observable o
function flume.observable(value) end

-- --- Records -------------------------------------------------------------------------------------------------------

--- What a database and its log have in common.
---@class flume.Records
---@field since flume.Observable the seq of the last acknowledged record, -1 when there is none
---@field dir? string the folder; nil in memory
---@field closed boolean
local Records = {}

--- Appends a value, or an array of values as one batch: after a crash all of it is there or none. Returns when it is
--- acknowledged, as the option sync has it. While 64 MiB of appends and deletes are pending (each counts its bytes and
--- 512 more) a call without a callback waits; one with a callback returns nil, message, EAGAIN, and the callback is not
--- called.
---@param value flume.Value
---@param cb? fun(err: flume.Error?, seq: integer?)
---@return integer? seq of the last record
---@return string? message
---@return flume.Code? code EINVAL, E2BIG, EREADONLY, or what the disk said; after that no append succeeds
function Records:append(value, cb) end

--- Appends lines of JSON, one record each, as one batch. When a line is bad, nothing of the text is stored.
---@param text string
---@param cb? fun(err: flume.Error?, count: integer?, line: integer?)
---@return integer? count of the records
---@return string? message
---@return flume.Code? code
---@return integer? line the number of the line that is bad
function Records:append_json(text, cb) end

--- The value of a record.
---@param seq integer
---@param cb? fun(err: flume.Error?, value: flume.Value)
---@return flume.Value? value
---@return string? message
---@return flume.Code? code ENOENT, EDELETED, ECORRUPT
function Records:get(seq, cb) end

--- The records in a range, oldest first; for a `for` loop, which closes it: for seq, value in db:stream{gt = 10} do.
---@param range? flume.Range
---@return flume.Stream stream
function Records:stream(range) end

--- Deletes a record, or a list of them: get answers EDELETED, streams pass over them, and views that had consumed one
--- retract it or are built anew. Seqs stay what they are.
---@param seqs integer|integer[]
---@param cb? fun(err: flume.Error?, done: true?)
---@return true? done
---@return string? message
---@return flume.Code? code ENOENT when a seq is beyond the end
function Records:del(seqs, cb) end

--- Waits until all that was appended is on disk, whatever the option sync.
---@param cb? fun(err: flume.Error?, done: true?)
---@return true? done
---@return string? message
---@return flume.Code? code
function Records:sync(cb) end

--- Removes the bytes of deleted records from the files. Seqs stay what they are; reads and appends go on. Of a
--- database also what views have made of them, once each has taken them back; EVIEW: the log is compacted, and the
--- message names the views in whose files something may be left, and why.
---@param options? flume.UpkeepOptions
---@param cb? fun(err: flume.Error?, done: flume.Compaction?)
---@return flume.Compaction? done
---@return string? message
---@return flume.Code? code EBUSY, EREADONLY, ECORRUPT, ENOTSUP, EVIEW
function Records:compact(options, cb) end

--- Copies the database, or the log, as of now, into a new folder, while it is in use. One on a flumelog-offset file is
--- dir/NAME there, under the name of that file.
---@param dir string the new folder
---@param options? flume.UpkeepOptions
---@param cb? fun(err: flume.Error?, done: flume.Backup?)
---@return flume.Backup? done
---@return string? message
---@return flume.Code? code EEXIST, ENOTSUP
function Records:backup(dir, options, cb) end

--- Reads and verifies every byte. Damage is no failure: it stands in the report.
---@param options? flume.UpkeepOptions
---@param cb? fun(err: flume.Error?, report: flume.Report?)
---@return flume.Report? report
---@return string? message
---@return flume.Code? code ENOTSUP
function Records:check(options, cb) end

--- Options of compact, backup and check.
---@class flume.UpkeepOptions
---@field progress? fun(done_bytes: integer, total_bytes: integer) called now and then

--- What a compaction did.
---@class flume.Compaction
---@field segments integer files that were written anew
---@field records integer whose bytes were removed
---@field bytes_before integer of those files
---@field bytes_after integer

--- What a backup has.
---@class flume.Backup
---@field since integer of the copy
---@field bytes integer
---@field files integer

--- What a check or a repair found.
---@class flume.Report
---@field ok boolean whether there are no problems
---@field segments integer files that were read
---@field records integer
---@field deleted integer of them
---@field bytes integer that were read
---@field problems flume.Finding[] damage
---@field notes flume.Finding[] what is worth knowing, and no harm
---@field repairs? flume.Finding[] what a repair did

--- One thing that a check or a repair found.
---@class flume.Finding
---@field file string
---@field offset integer bytes from its start
---@field seq? integer the record that it is about
---@field what string in words

-- --- The database --------------------------------------------------------------------------------------------------

--- A database: a log and the views on it. A view is reached by its name, db.NAME. To be closed; also by `<close>`.
---@class flume.DB: flume.Records
---@field ready flume.Observable false holds the views still
---@field views table<string, flume.View> the views by name, for reading
---@field reloaded flume.Observable with the option watch: a flume.Reloaded, of the last view that changed
---@field [string] flume.View
local DB = {}

--- Mounts a view. Raises when its name is taken or its definition is wrong.
---@param name string how it is reached: db.NAME
---@param definition flume.Definition|string the view; or a module's name or path, which gets a state of its own
---@param options? flume.UseOptions
---@return flume.DB db the same database
function DB:use(name, definition, options) end

--- Builds every view anew, and waits for that.
---@param cb? fun(err: flume.Error?, done: true?)
---@return true? done
---@return string? message
---@return flume.Code? code
function DB:rebuild(cb) end

--- Mounts what the scripts say now: of one view, or of all, and what is new in the views' folder. A view whose version
--- or source is another goes on answering as it was until the new one has caught up; this waits for that. A script that
--- can't be mounted changes nothing.
---@param name? string
---@param cb? fun(err: flume.Error?, done: true?)
---@return true? done
---@return string? message
---@return flume.Code? code
function DB:reload(name, cb) end

--- Removes a view: closes it, and removes its state on disk, also of a view that is not mounted. The log keeps its
--- records, so that mounting the view again rebuilds it. A script stays in the folder of views: db:reload mounts it
--- again.
---@param name string
---@param cb? fun(err: flume.Error?, done: true?)
---@return true? done
---@return string? message
---@return flume.Code? code ENOENT (no such view), EBUSY (another view uses it), EREADONLY
function DB:drop(name, cb) end

--- How far the log and the views are.
---@return flume.Status status
function DB:status() end

--- Ends what is pending (reads that wait get ECLOSED), commits the views, makes everything durable and closes. May be
--- called twice.
---@param cb? fun(err: flume.Error?, done: true?)
---@return true? done
function DB:close(cb) end

--- Options of db:use, for a view that runs in a state of its own.
---@class flume.UseOptions
---@field memory? integer bytes that its state may use; 256 MiB
---@field budget? integer instructions that it may spend on one record or call; 200 million, about a second
---@field trusted? boolean all of Lua's library, without a budget, and without a limit of memory unless one is given
---@field params? table handed to the script as the second value of its "..."; part of its fingerprint
---@field accept? string keeps the state although version or source have changed, for this reason

--- What db:status() gives.
---@class flume.Status
---@field since integer
---@field ready boolean
---@field dir? string
---@field views flume.ViewStatus[]|table<string, flume.ViewStatus> sorted by name; also by name
---@field following? flume.Following of one that is open read-only
---@field unmounted string[] names of views that have a state on disk and are not mounted

--- How a database that is open read-only learns of what the writer does.
---@class flume.Following
---@field by "events"|"poll"|"lost" at once; by looking now and then; not any more
---@field why? string why it looks, and how often; what went wrong

--- How far a view is.
---@class flume.ViewStatus
---@field name string
---@field kind? string "reduce", "group", "index" or "sink"
---@field version? integer|number|string
---@field state "building"|"live"|"stalled"|"failed"
---@field engine? string what the engine does for it: "idle", "folding", "committing" … (core/view/view.h)
---@field since integer the last seq that it has consumed
---@field target integer the log's since
---@field lag integer how many seqs lie between
---@field rate? number records in a second
---@field eta? number seconds until it has caught up
---@field size? integer bytes on disk
---@field reason? string why it was built anew, or why it stalls
---@field error? string what a failed one raised
---@field seq? integer the record at which it failed
---@field retries? boolean it failed in an earlier process, and is on its way to the record again
---@field remedy? string what lets a failed one go on
---@field unstored? string why its state can't be stored: it is built at every start
---@field traceback? string
---@field next? table the version that is built beside the one that answers: version, since, reason, state, error
---@field reload_error? string why the script, as it is now, can't be mounted
---@field accepted? string the reason of accept
---@field uses? string[] the views that it uses, and those that these use

--- A view that has changed in a folder that is watched.
---@class flume.Reloaded
---@field name string
---@field version? integer|number|string
---@field reason? string why it was built anew
---@field error? string why it can't be mounted

-- --- Streams -------------------------------------------------------------------------------------------------------

--- What a stream delivers; without any of these, everything there is.
---@class flume.Range
---@field gt? integer seqs greater than this
---@field gte? integer … or equal
---@field lt? integer seqs less than this
---@field lte? integer … or equal
---@field limit? integer how many at most; deleted records don't count
---@field reverse? boolean newest first
---@field live? boolean goes on with what is appended later
---@field old? boolean false, with live: only what is appended later
---@field seqs? boolean false: values alone
---@field values? boolean false: seqs alone
---@field lazy? boolean lazy records instead of plain tables

--- A cursor over the log. Calling it gives the next record, as `for` does; then a failure raises.
---@class flume.Stream
---@field closed boolean
---@overload fun(): integer?, flume.Value?
local Stream = {}

--- The next record; nil at the end. A live stream waits there.
---@param cb? fun(err: flume.Error?, seq: integer?, value: flume.Value)
---@return integer? seq or the value alone, with seqs = false
---@return flume.Value? value
---@return flume.Code? code of a failure, whose message is in place of the value
function Stream:next(cb) end

--- Ends it; a next that waits gets nil. May be called twice.
---@return true done
function Stream:close() end

-- --- A mounted view ------------------------------------------------------------------------------------------------

--- A mounted view: db.NAME. Its own methods, db.NAME:METHOD(args…), come beside these. An async or source method
--- waits until the view has come to the log's since as of the call; its last argument, a table, may say otherwise
--- (flume.Patience).
---@class flume.View
---@field name string
---@field version? integer|number|string
---@field methods table<string, flume.MethodType>
---@field reason? string why it was built anew when it was mounted
---@field since flume.Observable the last seq that it has consumed
---@field progress flume.Observable a flume.Progress
---@field [string] fun(self: flume.View, ...): any
local View = {}

--- Waits until the view has come to the log's since as of now.
---@param cb? fun(err: flume.Error?, done: true?)
---@return true? done
---@return string? message
---@return flume.Code? code EVIEW when it has failed
function View:ready(cb) end

--- Builds the view's state again from the log, and waits until it has caught up. A script goes on answering meanwhile.
---@param cb? fun(err: flume.Error?, done: true?)
---@return true? done
---@return string? message
---@return flume.Code? code
function View:rebuild(cb) end

--- From now on the view passes over a record, here and whenever it is built anew, and so do those that use it. One that
--- failed at it goes on; one that has consumed it is built anew without, and this waits for that. Durable when it
--- returns.
---@param seq integer
---@param cb? fun(err: flume.Error?, done: true?)
---@return true? done
---@return string? message
---@return flume.Code? code
function View:skip(seq, cb) end

--- Keeps the state although the version, or the source of a view without one, is another now: you vouch that it would
--- come out the same. Ends a rebuild that is under way for that.
---@param reason string
---@param cb? fun(err: flume.Error?, done: true?)
---@return true? done
---@return string? message
---@return flume.Code? code
function View:accept(reason, cb) end

--- A dry run of the view, as its file is now, over some records, without committing anything.
---@param options? flume.ExplainOptions
---@param cb? fun(err: flume.Error?, results: table?)
---@return table? results records, ms, us_per_record, bytes_per_record, slowest, what changes, and error
---@return string? message
---@return flume.Code? code
function View:explain(options, cb) end

--- Options of explain; without them, over the records that the view has not consumed, or all.
---@class flume.ExplainOptions
---@field from? integer
---@field to? integer

--- How long an async or source method waits.
---@class flume.Patience
---@field since? integer waits for this seq instead of the log's; -1: not at all
---@field wait? boolean false: not at all
---@field timeout? number gives up after so many milliseconds, with ETIMEDOUT

--- A reducer with one state. Methods of its own come beside this one, and may take its name.
---@class flume.ReducerView: flume.View
local ReducerView = {}

--- The state.
---@param options? flume.Patience
---@param cb? fun(err: flume.Error?, state: flume.Value)
---@return flume.Value? state a copy
---@return string? message
---@return flume.Code? code
function ReducerView:get(options, cb) end

--- What changed from a position on: the state, whole, when it is another; live, the newest one.
---@param options? flume.DeltaOptions
---@param cb? fun(err: flume.Error?, source: flume.Source?)
---@return flume.Source source of "reset" | "set" | "remove" | "at", key, value, seq
function ReducerView:deltas(options, cb) end

--- What a reducer with `group` and an index have in common: what is kept by key. Keys are nil, booleans, numbers,
--- strings and arrays of them, in this order. A view's own functions have the same as view:range (or view:read) and
--- view:count.
---@class flume.KeyedView: flume.View
local KeyedView = {}

--- What there is in a range of keys, in their order: for key, state in db.NAME:read{gte = "a"} do of a reducer with
--- groups; for key, value, seq in … do of an index, where an entry that has no value of its own gives the record.
---@param range? flume.KeyRange
---@param cb? fun(err: flume.Error?, source: flume.Source?)
---@return flume.Source source
function KeyedView:read(range, cb) end

--- How many groups, or entries, there are in a range of keys.
---@param range? flume.KeyRange
---@param cb? fun(err: flume.Error?, count: integer?)
---@return integer? count
---@return string? message
---@return flume.Code? code
function KeyedView:count(range, cb) end

--- What changed from a position on, so that a copy can be kept; see views/README.md.
---@param options? flume.DeltaOptions
---@param cb? fun(err: flume.Error?, source: flume.Source?)
---@return flume.Source source of "reset" | "set" | "remove" | "at", key, value, seq
function KeyedView:deltas(options, cb) end

--- A reducer with a state for each key, or an aggregate.
---@class flume.GroupView: flume.KeyedView
local GroupView = {}

--- The state of a key; initial for a key that no record had.
---@param key flume.Key
---@param options? flume.Patience
---@param cb? fun(err: flume.Error?, state: flume.Value)
---@return flume.Value? state
---@return string? message
---@return flume.Code? code
function GroupView:get(key, options, cb) end

--- An index.
---@class flume.IndexView: flume.KeyedView
local IndexView = {}

--- The newest entry of a key; nil when there is none.
---@param key flume.Key
---@param options? flume.Patience
---@param cb? fun(err: flume.Error?, value: flume.Value, seq: integer?)
---@return flume.Value? value what was emitted with the key, or the record where nothing was
---@return integer|string|nil seq of the record; of a failure its message
---@return flume.Code? code
function IndexView:get(key, options, cb) end

---@alias flume.Key nil|boolean|number|string|flume.Null|table

--- A range of keys. prefix = {"a"} are the arrays that begin with "a", prefix = "a" the strings that do. Without any of
--- the first five, all of them.
---@class flume.KeyRange: flume.Patience
---@field gt? flume.Key keys greater than this
---@field gte? flume.Key … or equal
---@field lt? flume.Key keys less than this
---@field lte? flume.Key … or equal
---@field prefix? flume.Key what they begin with
---@field reverse? boolean the greatest first
---@field limit? integer how many at most
---@field after? integer of an index: passes over the entries of records up to this seq
---@field live? boolean goes on with the entries of records that come later, in their order
---@field old? boolean false, with live: only those
---@field keys? boolean false: without the key
---@field values? boolean false: without the value, or state
---@field seqs? boolean false: without the seq; a group has none

--- Options of deltas.
---@class flume.DeltaOptions: flume.Patience
---@field after? string|integer the position of an "at", from which it goes on; or a seq
---@field live? boolean goes on with what comes later
---@field gt? flume.Value keys greater than this
---@field gte? flume.Value … or equal
---@field lt? flume.Value keys less than this
---@field lte? flume.Value … or equal
---@field prefix? flume.Value arrays that begin with these elements, or strings that begin with this

--- How far a view has come.
---@class flume.Progress
---@field start integer the seq that it started from
---@field current integer where it is
---@field target integer where the log is
---@field rate number records in a second
---@field eta? number seconds until it has caught up; nil when that can't be told

--- What a source method gives. Calling it gives the next result, as `for` does; then a failure raises.
---@class flume.Source
---@overload fun(): any
local Source = {}

--- The next result; nil at the end.
---@param cb? fun(err: flume.Error?, ...)
---@return any ... one or more values; nil, message, code on failure
function Source:next(cb) end

--- Ends it; a next that waits gets nil. May be called twice.
---@return true done
function Source:close() end

-- --- Queries -------------------------------------------------------------------------------------------------------

--- What records have to be like: flume.query. A path is text, split at its dots, or a list of keys, in which an integer
--- is a position in an array, from 0 on. Each function gives a condition; they are combined by &, | and ~.
---@class flume.Conditions
flume.query = {}

--- A condition on a record.
---@class flume.Condition

---@alias flume.Path string|(string|integer)[]

--- The value is equal: a number of the same worth, a string of the same bytes, a table with the same in it.
---@param path flume.Path
---@param value flume.Value flume.null for null
---@return flume.Condition condition
function flume.query.eq(path, value) end

--- It is not, or there is none.
---@param path flume.Path
---@param value flume.Value
---@return flume.Condition condition
function flume.query.ne(path, value) end

--- The value is above another of its kind.
---@param path flume.Path
---@param value number|string|boolean|table a table is an array
---@return flume.Condition condition
function flume.query.gt(path, value) end

--- The value is above another of its kind, or equal.
---@param path flume.Path
---@param value number|string|boolean|table
---@return flume.Condition condition
function flume.query.gte(path, value) end

--- The value is below another of its kind.
---@param path flume.Path
---@param value number|string|boolean|table
---@return flume.Condition condition
function flume.query.lt(path, value) end

--- The value is below another of its kind, or equal.
---@param path flume.Path
---@param value number|string|boolean|table
---@return flume.Condition condition
function flume.query.lte(path, value) end

--- The value is from first to last, both included.
---@param path flume.Path
---@param first number|string|boolean|table
---@param last number|string|boolean|table
---@return flume.Condition condition
function flume.query.between(path, first, last) end

--- The value is one of a list.
---@param path flume.Path
---@param list flume.Value[]
---@return flume.Condition condition
function flume.query.one_of(path, list) end

--- The value is a string that begins with this one, or an array that begins with these elements.
---@param path flume.Path
---@param value string|table
---@return flume.Condition condition
function flume.query.prefix(path, value) end

--- There is a value, other than null.
---@param path flume.Path
---@return flume.Condition condition
function flume.query.exists(path) end

--- The value is of a type: string, number, integer, boolean, array, map, null; object (maps, arrays and null),
--- undefined (there is none).
---@param path flume.Path
---@param name string
---@return flume.Condition condition
function flume.query.type(path, name) end

--- The value is an array or a map that has this among its values.
---@param path flume.Path
---@param value flume.Value
---@return flume.Condition condition
function flume.query.has(path, value) end

--- Any other test. It gets a lazy record where the value is a table, and nil where there is none.
---@param path flume.Path
---@param fn fun(value: any): boolean
---@return flume.Condition condition
function flume.query.test(path, fn) end

--- A $filter as a condition.
---@param rule table
---@return flume.Condition condition
function flume.query.filter(rule) end

--- Options of a query. Waiting is as for any view's methods.
---@class flume.QueryOptions: flume.Patience
---@field query? table read: the stages
---@field limit? integer results at most
---@field reverse? boolean from the last record to the first
---@field by? string|table in the order of the values at a path: a key or a list of keys
---@field live? boolean goes on with what comes
---@field old? boolean false: has only what comes

--- The built-in view that answers queries: db:use("q", "query"). See views/README.md.
---@class flume.QueryView: flume.View
local QueryView = {}

--- The results of a query, for use in a for loop. A bad query raises what is wrong with it, and where.
---@param query? table a list of stages ($filter, $map, $reduce, $sort); a filter alone; a flume.Condition
---@param options? flume.QueryOptions
---@return flume.Results results
function QueryView:query(query, options) end

--- The same with the query among the options.
---@param options? flume.QueryOptions
---@return flume.Results results
function QueryView:read(options) end

--- All results of a query.
---@param query? table
---@param options? flume.QueryOptions
---@param cb? fun(err: flume.Error?, list: flume.Value[]?)
---@return flume.Value[]? list
---@return string? message
---@return flume.Code? code
function QueryView:all(query, options, cb) end

--- How many results a query has. Where indexes know it no record is looked at.
---@param query? table
---@param options? flume.QueryOptions
---@param cb? fun(err: flume.Error?, count: integer?)
---@return integer? count
---@return string? message
---@return flume.Code? code
function QueryView:count(query, options, cb) end

--- Runs a query, and says what that took: a table with indexes, candidates, examined, decoded, returned, scan, exact,
--- order, sorted_in_memory, since.
---@param query? table
---@param options? flume.QueryOptions
---@param cb? fun(err: flume.Error?, told: table?)
---@return table? told
---@return string? message
---@return flume.Code? code
function QueryView:explain(query, options, cb) end

--- A query to be built, step by step.
---@param condition? flume.Condition
---@return flume.Query query
function QueryView:where(condition) end

--- The indexes that there are: a list of {kind =, path =, since =, bytes =}.
---@return table[] list
function QueryView:indexes() end

--- Drops the indexes of a field. A query that needs one makes it again.
---@param field string|(string|integer)[] a path
---@param cb? fun(err: flume.Error?, count: integer?)
---@return integer? count how many there were
---@return string? message
---@return flume.Code? code EBUSY (a query reads one of them), EREADONLY
function QueryView:drop(field, cb) end

--- A query that is built: db.q:where(…). Each step gives a new query. A query is also the
--- iterator of a for loop; calling it without arguments is iterate.
---@class flume.Query
---@overload fun(): flume.Results
local Query = {}

--- Records that meet this condition too.
---@param condition? flume.Condition
---@return flume.Query query
function Query:where(condition) end

--- From the first to the last; so it is anyway.
---@return flume.Query query
function Query:ascending() end

--- From the last to the first.
---@return flume.Query query
function Query:descending() end

--- In the order of the values at a path, instead of the log's. Records without one that can be a key come first.
---@param path flume.Path
---@return flume.Query query
function Query:by(path) end

--- At most so many; of page, how many there are on one. Below 0: no limit.
---@param limit integer
---@return flume.Query query
function Query:limit(limit) end

--- How long it waits, as other views' methods are told.
---@param options flume.Patience
---@return flume.Query query
function Query:patience(options) end

--- All of them.
---@param cb? fun(err: flume.Error?, list: flume.Value[]?)
---@return flume.Value[]? list
---@return string? message
---@return flume.Code? code
function Query:all(cb) end

--- The first of them.
---@param cb? fun(err: flume.Error?, value: flume.Value)
---@return flume.Value value nil when there is none
---@return string? message
---@return flume.Code? code
function Query:first(cb) end

--- How many there are.
---@param cb? fun(err: flume.Error?, count: integer?)
---@return integer? count
---@return string? message
---@return flume.Code? code
function Query:count(cb) end

--- Runs it, and says what that took: see QueryView:explain.
---@param cb? fun(err: flume.Error?, told: table?)
---@return table? told
---@return string? message
---@return flume.Code? code
function Query:explain(cb) end

--- For a for loop: for value, seq in query:iterate() do … end
---@return flume.Results results
function Query:iterate() end

--- A page of them, as long as the limit (25 by default). What is appended meanwhile moves nothing.
---@param cursor? string what the page before of the same conditions and order has given; nil for the first page
---@param cb? fun(err: flume.Error?, items: flume.Value[]?, cursor: string?)
---@return flume.Value[]? items
---@return string? cursor of the next page; nil behind the last. Or the message of a failure
---@return flume.Code? code
function Query:page(cursor, cb) end

--- Those that come from now on: a stream without end.
---@param options? table {old = true}: begins with those that are there
---@return flume.Results results
function Query:live(options) end

--- What a query gives. Calling it gives the next value and its seq, as `for` does; then a failure raises.
---@class flume.Results
---@overload fun(): flume.Value, integer?
local Results = {}

--- The next value; nil at the end. Of a live query it waits there.
---@param cb? fun(err: flume.Error?, value: flume.Value, seq: integer?)
---@return flume.Value value
---@return integer? seq of its record; nil when several have become one. Or the message of a failure
---@return flume.Code? code
function Results:next(cb) end

--- Ends it; a next that waits gets nil. May be called twice.
---@return true done
function Results:close() end

-- --- The log -------------------------------------------------------------------------------------------------------

--- A log: what a database is made on. Closing the database closes it.
---@class flume.Log: flume.Records
local Log = {}

--- How a log that is open read-only learns of what the writer does; nil for any other.
---@return "events"|"poll"|"lost"? by
---@return string? why it looks, and how often; what went wrong
function Log:following() end

--- Finishes pending appends, makes everything durable, and closes, the databases on it first. May be called twice.
---@param cb? fun(err: flume.Error?, done: true?)
---@return true? done
function Log:close(cb) end

-- --- Observables and errors ----------------------------------------------------------------------------------------

--- A value that can be watched. Calling it with a function calls that with the value now (when there is one, and unless
--- the second argument is false) and at each change; what it returns ends that.
---@class flume.Observable
---@field value any the value now; nil when there is none
---@overload fun(fn: fun(value: any), immediately?: boolean): fun()
local Observable = {}

--- The value now.
---@return any value
function Observable:get() end

--- Sets it, and calls the listeners. Not for those that flume itself sets.
---@param value any
function Observable:set(value) end

--- Calls fn once: now, when there is a value, or at the next change.
---@param fn fun(value: any)
---@param immediately? boolean false: at the next change in any case
---@return fun() off ends it before that
function Observable:once(fn, immediately) end

--- What a callback gets in place of message and code. It prints as its message, and answers to the methods of a string.
---@class flume.Error
---@field message string what went wrong, and where
---@field code flume.Code

return flume
