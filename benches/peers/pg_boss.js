// pg-boss: 16 loops, each fetches a batch and completes it.

'use strict';

const PgBoss = require('pg-boss');
const common = require('./common.js');

const WORKERS = 16;
// Each fetch sorts all that waits, so no more than it gets through: where that is too few, the run ends earlier.
const jobs = common.seconds * (common.batch === 1 ? 1_000 : 5_000);

common.run(async () => {
  await common.sql('DROP SCHEMA IF EXISTS peer_pg_boss CASCADE');
  const boss = new PgBoss({
    host: process.env.PGHOST,
    port: Number(process.env.PGPORT),
    user: process.env.PGUSER,
    database: process.env.PGDATABASE,
    schema: 'peer_pg_boss',
    max: WORKERS,
    supervise: false,
    schedule: false,
  });
  boss.on('error', (error) => {
    throw error;
  });
  await boss.start();
  await boss.createQueue('publish');
  for (let from = 0; from < jobs; from += 10_000) {
    const count = Math.min(10_000, jobs - from);
    await boss.insert(Array.from({ length: count }, (_, i) => ({ name: 'publish', data: { content_id: from + i } })));
  }
  await common.sql('VACUUM (ANALYZE) peer_pg_boss.job', 'CHECKPOINT');

  const options = { batchSize: common.batch, priority: false };
  const work = async () => {
    const fetched = await boss.fetch('publish', options);
    if (fetched.length > 0) {
      await boss.complete('publish', fetched.map((job) => job.id));
    }
    return fetched.length;
  };
  // The connections are made outside of the time that counts.
  await Promise.all(Array.from({ length: WORKERS }, work));
  const started = performance.now();
  const until = started + common.seconds * 1000;
  let completed = 0;
  await Promise.all(
    Array.from({ length: WORKERS }, async () => {
      let some = 1;
      while (some > 0 && performance.now() < until) {
        some = await work();
        completed += some;
      }
    }),
  );
  const took = (performance.now() - started) / 1000;
  await boss.stop({ graceful: false });
  await common.sql('DROP SCHEMA peer_pg_boss CASCADE');
  return completed / took;
});
