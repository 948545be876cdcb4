// flumedb with flumeview-reduce, flumeview-level and flumeview-query on a flumelog-offset file.

const Flume = require('flumedb')
const Offset = require('flumelog-offset')
const Level = require('flumeview-level')
const Query = require('flumeview-query')
const Reduce = require('flumeview-reduce')
const codecs = require('flumecodec')
const pull = require('pull-stream')
const { call, collect } = require('./offset')

const content = (item) => (item.value && item.value.content) || {}
const author = (item) => (item.value && item.value.author) || null

// The same views are in views_spec.lua.
const reducers = {
  count: (acc) => (acc || 0) + 1,
  votes: (acc, item) => (acc || 0) + (content(item).votes || 0),
  types: (acc, item) => {
    acc = acc || {}
    const type = content(item).type || item.Section || 'none'
    acc[type] = (acc[type] || 0) + 1
    return acc
  },
  largest: (acc, item) => {
    const size = item['Installed-Size'] || 0
    return !acc || size > acc.size ? { size, name: item.Package || item.key } : acc
  },
}
const indexers = {
  key: (item) => [item.key],
  author_sequence: (item) => [[author(item), item.value.sequence]],
  mentions: (item, seq) => (content(item).mentions || []).map((link, i) => [link, item.timestamp, i]),
  type: (item) => [content(item).type],
  section_package: (item) => [[item.Section || null, item.Package, item.Version]],
  mixed: (item, seq) => [[content(item).mixed === undefined ? null : content(item).mixed, seq]],
}

const queries = {
  version: 1,
  indexes: [
    { key: 'typ', value: [['value', 'content', 'type'], 'timestamp'] },
    { key: 'aut', value: [['value', 'author'], 'timestamp'] },
  ],
}

function open(request) {
  const db = Flume(Offset(request.file, { codec: codecs.json }))
  for (const name of request.reducers || []) db.use('reduce_' + name, Reduce(1, reducers[name]))
  for (const name of request.indexers || []) db.use('level_' + name, Level(1, indexers[name]))
  if (request.queries) {
    const indexes = queries.indexes.map((index) => Object.assign({}, index))
    db.use('query', Query(queries.version, { indexes }))
  }
  return db
}

// The state that a reducer gives out is its own, and changes later.
const copy = (state) => JSON.parse(JSON.stringify(state))

async function reduce(request) {
  const db = open(request)
  const answers = {}
  for (const name of request.reducers) answers[name] = copy(await call((cb) => db['reduce_' + name].get(cb)))
  for (const item of request.append || []) await call((cb) => db.append(item, cb))
  const later = {}
  for (const name of request.reducers) later[name] = copy(await call((cb) => db['reduce_' + name].get(cb)))
  await call((cb) => db.close(cb))
  return { answers, later }
}

// reads: list of {index, range}. Each answer is the list of what the source gives.
async function level(request) {
  const db = open(request)
  const answers = []
  for (const read of request.reads) {
    answers.push(await collect(db['level_' + read.index].read(Object.assign({}, read.range))))
  }
  const gets = []
  for (const get of request.gets || []) {
    gets.push(await call((cb) => db['level_' + get.index].get(get.key, cb)).then((value) => ({ value }), () => ({})))
  }
  await call((cb) => db.close(cb))
  return { answers, gets }
}

// What a live read gives when records are appended: `old` ones first, up to count in all.
async function level_live(request) {
  const db = open(request)
  const source = db['level_' + request.index].read({ live: true, keys: true, values: false, seqs: true, sync: false })
  const got = call((cb) => pull(source, pull.filter((item) => !item.sync), pull.take(request.count), pull.collect(cb)))
  for (const item of request.append) await call((cb) => db.append(item, cb))
  const answer = await got
  await call((cb) => db.close(cb))
  return answer
}

async function query(request) {
  const db = open(Object.assign({ queries: true }, request))
  const answers = []
  await call((cb) => db.append(request.last, cb)) // reads don't wait: the log has to have moved once
  await new Promise((resolve) => db.query.since.once(resolve))
  for (const each of request.reads) answers.push(await collect(db.query.read(Object.assign({}, each))))
  await call((cb) => db.close(cb))
  return answers
}

module.exports = { reduce, level, level_live, query }
