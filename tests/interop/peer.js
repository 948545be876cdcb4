// The originals' side of the specs here: node peer.js REQUEST ANSWER reads a list of requests from one file, and writes
// the list of their answers into the other. A request is {"do": NAME, ...}; an answer whatever it gives, or {"error": …}.

const fs = require('fs')
const steps = Object.assign({}, require('./offset'), require('./views'), require('./jit'))

async function main(requestFile, answerFile) {
  const answers = []
  for (const request of JSON.parse(fs.readFileSync(requestFile, 'utf8'))) {
    try {
      answers.push(await steps[request.do](request))
    } catch (err) {
      answers.push({ error: String((err && err.message) || err) })
    }
  }
  fs.writeFileSync(answerFile, JSON.stringify(answers))
  process.exit(0) // the originals keep timers and files open
}

main(process.argv[2], process.argv[3])
