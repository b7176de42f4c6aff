// graphile-worker: tasks that do nothing, 16 at once. With a batch of 1 as it comes, which fetches and completes job by job;
// otherwise fetched into its local queue of that size and completed in batches.

'use strict';

const { Logger, run, runMigrations } = require('graphile-worker');
const common = require('./common.js');

// More than one process gets through.
const jobs = common.seconds * 60_000;

const preset = {
  worker: {
    schema: 'peer_graphile_worker',
    concurrentJobs: 16,
    ...(common.batch > 1 && { localQueue: { size: common.batch }, completeJobBatchDelay: 0 }),
  },
};
const logger = new Logger(() => () => {});

common.run(async () => {
  await common.sql('DROP SCHEMA IF EXISTS peer_graphile_worker CASCADE');
  await runMigrations({ preset, logger });
  await common.sql(
    `SELECT count(*) FROM peer_graphile_worker.add_jobs((
       SELECT array_agg(row('publish', json_build_object('content_id', i), NULL, now(), NULL, NULL, NULL, NULL)
                        ::peer_graphile_worker.job_spec)
       FROM generate_series(1, ${jobs}) AS i))`,
    'VACUUM (ANALYZE) peer_graphile_worker._private_jobs',
    'CHECKPOINT',
  );
  let started;
  let first;
  const running = new Promise((resolve) => (first = resolve));
  const publish = async () => {
    if (started === undefined) {
      started = performance.now();
      first();
    }
  };
  const runner = await run({ preset, logger, noHandleSignals: true, taskList: { publish } });
  await running;
  await new Promise((resolve) => setTimeout(resolve, common.seconds * 1000));
  // Completed jobs are deleted. They are counted before it stops, which gives fetched jobs back and takes its time.
  const [{ left }] = await common.sql('SELECT count(*)::int AS left FROM peer_graphile_worker._private_jobs');
  const took = (performance.now() - started) / 1000;
  await runner.stop();
  await common.sql('DROP SCHEMA peer_graphile_worker CASCADE');
  if (left === 0) {
    throw new Error(`${jobs} jobs were not enough`);
  }
  return (jobs - left) / took;
});
