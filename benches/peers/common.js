// What the drivers of the other queues share: where the database is, a settled start, and the one line that they answer.
//
// node DRIVER.js SECONDS BATCH; the connection is in PGHOST, PGPORT, PGUSER and PGDATABASE.

'use strict';

const { Client } = require('pg');

const [seconds, batch] = process.argv.slice(2).map(Number);

async function sql(...statements) {
  const client = new Client();
  await client.connect();
  try {
    let result;
    // One by one: neither VACUUM nor CHECKPOINT runs among others.
    for (const statement of statements) {
      result = await client.query(statement);
    }
    return result.rows;
  } finally {
    await client.end();
  }
}

function run(measure) {
  measure().then(
    (rate) => console.log(JSON.stringify({ rate })),
    (error) => {
      console.error(error);
      process.exitCode = 1;
    },
  );
}

module.exports = { seconds, batch, sql, run };
