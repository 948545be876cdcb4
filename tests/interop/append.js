// A program that appends to a flumelog-offset file while others read it: node append.js FILE BITS. It reads what to do
// from FILE.commands, a line each, and answers each line with its first word when it is done:
//   append N   N records {"n": …}, one after another, numbered from 0
//   batch N    N records at once
//   del SEQ    overwrites the record there

const readline = require('readline')
const fs = require('fs')
const { call } = require('./offset')
const Offset = require('flumelog-offset')
const codecs = require('flumecodec')

const file = process.argv[2]
const log = Offset(file, { codec: codecs.json, offsetCodec: Number(process.argv[3]) })
let count = 0

const steps = {
  open: () => new Promise((resolve) => log.since.once(resolve)),
  append: async (more) => {
    for (let i = 0; i < more; i++) await call((cb) => log.append({ n: count++ }, cb))
  },
  batch: (more) => call((cb) => log.append(Array.from({ length: more }, () => ({ n: count++ })), cb)),
  del: (seq) => call((cb) => log.del(seq, cb))
}

async function main() {
  for await (const line of readline.createInterface({ input: fs.createReadStream(file + '.commands') })) {
    const [name, arg] = line.split(' ')
    await steps[name](Number(arg))
    process.stdout.write(name + '\n')
  }
  process.exit(0) // the original keeps timers and files open
}

main()
