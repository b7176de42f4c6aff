import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { Worker } from './worker.js';

// PGHOST, PGPORT, PGUSER and PGDATABASE say where; `cargo xtask test --only examples` sets them.
const admin = new pg.Pool({ max: 2 });
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const inSeconds = (seconds) => new Date(Date.now() + seconds * 1000).toISOString();

// A provider that does what the content's name says, and counts. It is not idempotent: twice would show.
const published = new Map();
const calls = new Map();
const times = (map, key) => map.get(key) ?? 0;
const count = (map, key) => map.set(key, times(map, key) + 1);
const byKey = new Map();
const server = createServer(async (request, response) => {
  const answer = (status, body, headers = {}) =>
    response.writeHead(status, { 'Content-Type': 'application/json', ...headers }).end(JSON.stringify(body));
  if (request.method === 'GET') {
    const post = byKey.get(decodeURIComponent(request.url.split('/').pop()));
    return post ? answer(200, post) : answer(404, {});
  }
  let body = '';
  for await (const chunk of request) body += chunk;
  const { content } = JSON.parse(body);
  count(calls, content);
  const is = (name) => content.startsWith(name);
  const isFirst = times(calls, content) === 1;
  const publish = () => {
    count(published, content);
    const post = { id: `id-${content}`, url: `https://example.com/${content}` };
    byKey.set(request.headers['idempotency-key'], post);
    return post;
  };
  if (is('limited') && isFirst) return answer(429, {}, { 'Retry-After': '1' });
  if (is('silent') && isFirst) return; // never answers
  if (is('refused')) return answer(403, {});
  if (is('slow')) await sleep(1500);
  const post = publish();
  return is('timeout') ? answer(504, {}) : answer(200, post);
});

const workers = [];
const log = [];
function worker(name, options = {}) {
  const pool = new pg.Pool({ max: 4, application_name: name });
  const provider = `http://127.0.0.1:${server.address().port}`;
  const heard = (content, reply) => log.push({ content, name, ...reply });
  const made = new Worker({ pool, provider, name, leaseSeconds: 1, answerWithin: 3000, askAgainAfter: 200, log: heard, ...options });
  workers.push({ made, pool });
  return made;
}
const call = async (name, ...values) => {
  const places = values.map((_, i) => `$${i + 1}`).join(', ');
  return (await admin.query(`SELECT slotkeeper.${name}(${places}) AS reply`, values)).rows[0].reply;
};
const schedule = async (content, at, platform = 'node') =>
  (await call('schedule_content', 'worker', platform, content, at, null, 'next_free')).scheduled_at;
const state = async (content) => {
  const { rows } = await admin.query('SELECT state, error, url FROM slotkeeper.content_status WHERE content_id = $1', [content]);
  return rows[0];
};
async function becomes(content, wanted) {
  for (let i = 0; i < 100 && (await state(content))?.state !== wanted; i++) await sleep(100);
  assert.equal((await state(content)).state, wanted, JSON.stringify(log.filter((line) => line.content === content)));
}
const heard = (content) => log.filter((line) => line.content === content).map((line) => line.outcome);

before(async () => {
  await admin.query('CREATE EXTENSION IF NOT EXISTS slotkeeper');
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  for (const platform of ['node', 'paused']) {
    await call('create_queue', 'worker', platform, 'UTC', '{}', '{"granule": "1 second"}');
    await call('set_platform', platform, '{"delays": ["1 second"], "jitter": 0}');
  }
});
after(async () => {
  for (const { made, pool } of workers) {
    await made.stop();
    await pool.end();
  }
  for (const platform of ['node', 'paused']) await call('drop_queue', 'worker', platform, true);
  await admin.query("DELETE FROM slotkeeper.platform WHERE platform IN ('node', 'paused')");
  await admin.end();
  server.closeAllConnections();
  server.close();
});

test('whatever the provider answers, nothing is published twice and everything ends', async () => {
  const made = worker('all');
  const impatient = worker('impatient', { answerWithin: 400 });
  const names = ['fine', 'limited', 'timeout', 'refused', 'slow'];
  for (const name of names) made.arm(name, await schedule(name, inSeconds(0)));
  impatient.arm('silent', await schedule('silent', inSeconds(0)));
  for (const name of names) await becomes(name, name === 'refused' ? 'failed' : 'published');
  await becomes('silent', 'published');
  // A timer may fire a moment early: then the answer is not_due, and the job is armed again.
  const steps = (name) => heard(name).filter((outcome) => outcome !== 'not_due');
  assert.deepEqual(steps('limited'), ['claimed', 'retrying', 'claimed', 'published']);
  assert.deepEqual(steps('timeout'), ['claimed', 'unknown', 'published']);
  assert.deepEqual(steps('silent'), ['claimed', 'unknown', 'retrying', 'claimed', 'published']);
  assert.equal((await state('timeout')).url, 'https://example.com/timeout');
  assert.match((await state('refused')).error, /403/);
  for (const name of names) assert.equal(times(published, name), name === 'refused' ? 0 : 1, name);
  assert.equal(times(calls, 'limited'), 2);
  assert.equal(times(published, 'silent'), 1);
});

test('a job of a content that was moved waits for its new time', async () => {
  const made = worker('moved');
  made.arm('moved', await schedule('moved', inSeconds(1)));
  const { scheduled_at: at } = await call('reschedule_content', 'moved', inSeconds(3));
  await becomes('moved', 'published');
  assert.ok(Date.now() >= new Date(at), 'not before its time');
  assert.equal(heard('moved')[0], 'not_due');
  assert.deepEqual(heard('moved').filter((outcome) => outcome !== 'not_due'), ['claimed', 'published']);
});

test('two workers with a job for one content publish it once', async () => {
  const at = await schedule('slow-twice', inSeconds(0));
  for (const made of [worker('one'), worker('two')]) made.arm('slow-twice', at);
  await becomes('slow-twice', 'published');
  for (let i = 0; i < 50 && !heard('slow-twice').includes('already_published'); i++) await sleep(100);
  assert.ok(heard('slow-twice').includes('leased'));
  assert.equal(heard('slow-twice').at(-1), 'already_published');
  assert.equal(times(calls, 'slow-twice'), 1);
});

test('a paused queue holds its jobs until it is active again; what was taken back has none', async () => {
  const made = worker('patient');
  await call('set_queue_status', 'worker', 'paused', 'paused');
  made.arm('held', await schedule('held', inSeconds(0), 'paused'));
  made.arm('gone', await schedule('gone', inSeconds(1), 'paused'));
  await call('unschedule_content', 'gone');
  await sleep(700);
  assert.ok(heard('held').length > 1 && heard('held').every((outcome) => outcome === 'held'));
  await call('set_queue_status', 'worker', 'paused', 'active');
  await becomes('held', 'published');
  for (let i = 0; i < 50 && heard('gone').length === 0; i++) await sleep(100);
  assert.deepEqual(heard('gone'), ['not_found']);
  assert.equal(times(calls, 'gone'), 0);
});

test('a worker goes on after it has lost its connections', async () => {
  const made = worker('lost');
  made.arm('slow-lost', await schedule('slow-lost', inSeconds(0)));
  for (let i = 0; i < 100 && times(calls, 'slow-lost') === 0; i++) await sleep(20);
  await admin.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lost'");
  await becomes('slow-lost', 'published');
  assert.equal(times(calls, 'slow-lost'), 1);
});

test('a worker that is gone for good leaves an unknown content, and nobody publishes it again', async () => {
  await schedule('crashed', inSeconds(0));
  const { lease_token: token } = await call('claim_content', 'crashed', 'crashed', '1 second');
  assert.equal((await call('begin_publish', token)).outcome, 'proceed');
  await sleep(1200);
  worker('next').arm('crashed', Date.now());
  await becomes('crashed', 'unknown');
  assert.match((await state('crashed')).error, /lease ran out/);
  assert.equal(times(calls, 'crashed'), 0);
});
