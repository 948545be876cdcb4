// flumelog-offset: files that it writes, and what it reads in files.

const fs = require('fs')
const Offset = require('flumelog-offset')
const codecs = require('flumecodec')
const pull = require('pull-stream')

function open(request) {
  const codec = request.raw ? undefined : codecs.json
  return Offset(request.file, { codec, offsetCodec: request.bits || 32 })
}

const call = (fn) => new Promise((resolve, reject) => fn((err, value) => (err ? reject(err) : resolve(value))))
const loaded = (log) => new Promise((resolve) => log.since.once(resolve))
const collect = (source) => call((cb) => pull(source, pull.collect(cb)))
const lines = (file) => fs.readFileSync(file, 'utf8').trim().split('\n').map((line) => JSON.parse(line))

// Appends the lines of a file, in batches of the sizes given in turn; the seq of each batch's last record.
async function offset_write(request) {
  const log = open(request)
  const records = lines(request.records)
  const seqs = []
  await loaded(log)
  for (let at = 0, turn = 0; at < records.length; turn++) {
    const count = request.batches[turn % request.batches.length]
    const batch = records.slice(at, at + count)
    seqs.push(await call((cb) => log.append(batch, cb)))
    at += count
  }
  return { seqs, since: log.since.value }
}

const shown = (value, raw) => (raw ? Buffer.from(value).toString('latin1') : value)

// What a stream gives for each range.
async function offset_read(request) {
  const log = open(request)
  const since = await loaded(log)
  const ranges = []
  for (const range of request.ranges) {
    const items = await collect(log.stream(Object.assign({ seqs: true, values: true, live: false }, range)))
    ranges.push(items.map((item) => [item.seq, shown(item.value, request.raw)]))
  }
  return { since, ranges }
}

async function offset_get(request) {
  const log = open(request)
  await loaded(log)
  const answers = []
  for (const seq of request.seqs) {
    answers.push(await call((cb) => log.get(seq, cb)).then((value) => ({ value }), (err) => ({ code: err.code })))
  }
  return answers
}

async function offset_del(request) {
  const log = open(request)
  await loaded(log)
  await call((cb) => log.del(request.seqs, cb))
  return { since: log.since.value }
}

module.exports = { offset_write, offset_read, offset_get, offset_del }
module.exports.call = call
module.exports.collect = collect
module.exports.lines = lines
