// async-append-only-log files of BIPF, and jitdb on them.

const AsyncLog = require('async-append-only-log')
const bipf = require('bipf')
const JITDB = require('jitdb')
const operators = require('jitdb/operators')
const { call, lines } = require('./offset')

const drained = (log) => new Promise((resolve) => log.onDrain(resolve))

// Appends the lines of a file; deletes those with the numbers given.
async function async_write(request) {
  const log = AsyncLog(request.file, { blockSize: 64 * 1024 })
  const offsets = []
  await drained(log)
  for (const record of lines(request.records)) {
    offsets.push(await call((cb) => log.append(bipf.allocAndEncode(record), cb)))
  }
  await drained(log)
  for (const number of request.deleted || []) await call((cb) => log.del(offsets[number], cb))
  await call((cb) => log.onDeletesFlushed(cb))
  await call((cb) => log.close(cb))
  return { records: offsets.length }
}

function seeker(path) {
  const names = path.map((name) => Buffer.from(name))
  return (buffer) => {
    let at = 0
    for (const name of names) {
      at = bipf.seekKey(buffer, at, name)
      if (at < 0) return -1
    }
    return at
  }
}

// A condition of the specs here as one of jitdb's.
function condition(where) {
  switch (where.op) {
    case 'eq': return operators.equal(seeker(where.path), where.value, { indexType: where.path.join('_') })
    case 'and': return operators.and(...where.of.map(condition))
    case 'or': return operators.or(...where.of.map(condition))
    case 'not': return operators.not(condition(where.of[0]))
    case 'gt': case 'gte': case 'lt': case 'lte': return operators[where.op](where.value, where.path[where.path.length - 1])
    default: throw new Error('no operator ' + where.op)
  }
}

// searches: list of {where, page, from, ascending}; each answer is a list of keys.
async function jit(request) {
  const log = AsyncLog(request.file, { blockSize: 64 * 1024 })
  const db = JITDB(log, request.indexes)
  await new Promise((resolve) => db.onReady(resolve))
  const answers = []
  for (const search of request.searches) {
    const steps = [operators.fromDB(db), operators.where(condition(search.where))]
    if (search.page) steps.push(operators.startFrom(search.from || 0), operators.paginate(search.page))
    if (!search.ascending) steps.push(operators.descending())
    const found = await call((cb) => operators.query(...steps, operators.toCallback(cb)))
    const list = Array.isArray(found) ? found : found.results
    answers.push({ keys: list.map((item) => item.key), total: Array.isArray(found) ? undefined : found.total })
  }
  return answers
}

module.exports = { async_write, jit }
