import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { as, assignContent, batchAssignContent } from './assign.js';

const SCHEMA = 'example_contents';
const pool = new pg.Pool({ max: 20, options: `-c search_path=${SCHEMA}` });
const [alice, bob] = [randomUUID(), randomUUID()].map((sub) => ({ role: 'example_authenticated', sub }));
const service = { role: 'example_service' };
const rows = async (sql, values) => (await pool.query(sql, values)).rows;

/** A profile with slots at 06:00, 12:30 and 20:00 WIB. */
async function profile(platform = 'tiktok') {
  const id = randomUUID();
  await pool.query('INSERT INTO slots (profile_id, platform, hour, minute) VALUES ($1, $2, 6, 0), ($1, $2, 12, 30), ($1, $2, 20, 0)', [id, platform]);
  return { profileId: id, platform };
}
const contents = async ({ profileId, platform }, user, count) =>
  (await rows('INSERT INTO contents (profile_id, platform, user_id) SELECT $1, $2, $3 FROM generate_series(1, $4) RETURNING id', [profileId, platform, user.sub, count])).map(
    ({ id }) => ({ profileId, platform, contentId: id }),
  );
/** Rows that hold a seat, which must be those that are booked. */
async function seats({ profileId }) {
  const differing = await rows(`
    SELECT c.id, b.content_id FROM (SELECT * FROM contents WHERE status IN ('assigned', 'success', 'failed') AND removed_at IS NULL) AS c
    FULL JOIN (SELECT * FROM slotkeeper.booking WHERE source = '${SCHEMA}.contents' AND released_at IS NULL) AS b
      ON b.content_id = c.id::text AND b.scheduled_at = c.scheduled_at
    WHERE c.id IS NULL OR b.content_id IS NULL`);
  assert.deepEqual(differing, []);
  return rows(`SELECT c.*, s.hour, s.minute, c.scheduled_at AT TIME ZONE 'Asia/Jakarta' = date_trunc('day', c.scheduled_at AT TIME ZONE 'Asia/Jakarta')
      + make_interval(hours => s.hour, mins => s.minute) AS at_its_slot
    FROM contents AS c LEFT JOIN slots AS s ON s.id = c.scheduled_slot_id
    WHERE c.profile_id = $1 AND c.status = 'assigned' AND c.removed_at IS NULL ORDER BY c.scheduled_at`, [profileId]);
}
const distinct = (list) => new Set(list.map((row) => +row.scheduled_at)).size;

async function clean() {
  await pool.query(`DROP SCHEMA IF EXISTS ${SCHEMA} CASCADE`);
  for (const role of ['example_authenticated', 'example_service']) {
    const [{ found }] = await rows('SELECT count(*)::int AS found FROM pg_roles WHERE rolname = $1', [role]);
    if (found) await pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  }
}
before(async () => {
  await pool.query('CREATE EXTENSION IF NOT EXISTS slotkeeper');
  await clean();
  await pool.query(`
    CREATE ROLE example_authenticated;
    CREATE ROLE example_service BYPASSRLS;
    CREATE SCHEMA ${SCHEMA};
    GRANT USAGE ON SCHEMA ${SCHEMA} TO example_authenticated, example_service`);
  await pool.query(await readFile(new URL('schema.sql', import.meta.url), 'utf8'));
});
after(async () => {
  await clean();
  await pool.end();
});

test('six requests at once land in six slots, and the rows say which', async () => {
  const channel = await profile();
  const six = await contents(channel, alice, 6);
  const replies = await Promise.all(six.map((content) => assignContent(pool, alice, content)));
  assert.deepEqual(new Set(replies.map((reply) => reply.outcome)), new Set(['assigned']));
  assert.equal(new Set(replies.map((reply) => reply.scheduled_at)).size, 6);
  const assigned = await seats(channel);
  assert.equal(assigned.length, 6);
  assert.equal(distinct(assigned), 6);
  assert.ok(assigned.every((row) => row.at_its_slot), 'slot id and time belong together');
  for (const reply of replies) {
    const row = assigned.find(({ id }) => id === reply.content_id);
    assert.deepEqual([row.scheduled_slot_id, +row.scheduled_at], [reply.slot_ref, Date.parse(reply.scheduled_at)]);
    assert.match(reply.local_time, /T(06:00|12:30|20:00):00\+07:00$/);
  }
  const again = await assignContent(pool, alice, six[0]);
  assert.deepEqual([again.outcome, again.scheduled_at], ['already_assigned', replies[0].scheduled_at]);
});

test("another user's content is not there", async () => {
  const channel = await profile();
  const [content] = await contents(channel, bob, 1);
  assert.equal((await assignContent(pool, alice, content)).outcome, 'not_found');
  assert.deepEqual(await seats(channel), []);
  assert.equal((await assignContent(pool, bob, content)).outcome, 'assigned');
  assert.equal((await seats(channel)).length, 1);
});

test('a batch of 200 while single requests go on', async () => {
  const channel = await profile('instagram');
  const [batch, single] = [await contents(channel, alice, 200), await contents(channel, bob, 40)];
  const [many, ...others] = await Promise.all([
    batchAssignContent(pool, service, batch),
    ...single.map((content) => assignContent(pool, bob, content)),
  ]);
  assert.equal(many.outcome, 'assigned');
  assert.equal(many.results.length, 200);
  assert.ok([...many.results, ...others].every((reply) => reply.outcome === 'assigned'));
  const assigned = await seats(channel);
  assert.equal(distinct(assigned), 240);
  assert.ok(assigned.every((row) => row.at_its_slot));
});

test('plain INSERT and UPDATE are guarded too', async () => {
  const channel = await profile();
  const write = (sql, values) => as(pool, alice, async (client) => (await client.query(sql, values)).rows[0]);
  const [{ at }] = await rows(`SELECT (date_trunc('day', now() AT TIME ZONE 'Asia/Jakarta') + interval '10 days 6 hours') AT TIME ZONE 'Asia/Jakarta' AS at`);
  const insert = `INSERT INTO contents (profile_id, platform, user_id, scheduled_at, status) VALUES ($1, $2, $3, $4, 'assigned') RETURNING *`;
  const values = [channel.profileId, channel.platform, alice.sub, at];
  const inserted = await Promise.all([write(insert, values), write(insert, values)]);
  const hours = inserted.map((row) => (row.scheduled_at - at) / 3_600_000).sort((a, b) => a - b);
  assert.deepEqual(hours, [0, 6.5], 'RETURNING says where');
  const [content] = await contents(channel, alice, 1);
  const updated = await write(`UPDATE contents SET scheduled_at = $2, status = 'assigned' WHERE id = $1 RETURNING *`, [content.contentId, at]);
  assert.equal((updated.scheduled_at - at) / 3_600_000, 14);
  await write('UPDATE contents SET removed_at = now() WHERE scheduled_at = $1 RETURNING id', [at]);
  const moved = await write('UPDATE contents SET scheduled_at = $2 WHERE id = $1 RETURNING *', [content.contentId, at]);
  assert.deepEqual(moved.scheduled_at, at, 'a removed row gives its seat back');
  assert.equal(distinct(await seats(channel)), 2);
});

test('an edit of the slots is true for the next request', async () => {
  const channel = await profile();
  await pool.query('DELETE FROM slots WHERE profile_id = $1 AND hour <> 20', [channel.profileId]);
  await pool.query('UPDATE slots SET hour = 9 WHERE profile_id = $1', [channel.profileId]);
  const [content] = await contents(channel, alice, 1);
  assert.match((await assignContent(pool, alice, content)).local_time, /T09:00:00\+07:00$/);
});
