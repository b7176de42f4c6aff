import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { attach, check } from './attach.js';
import { posts } from './posts.js';

const require = createRequire(import.meta.url);
const HERE = fileURLToPath(new URL('.', import.meta.url));
const SCHEMA = readFileSync(join(HERE, 'schema.prisma'), 'utf8');
const [major, minor] = process.versions.node.split('.').map(Number);
const tooOld = major < 20 || (major === 20 && minor < 19) || (major === 22 && minor < 12);
const ROLE = 'slotkeeper_example_postiz';
const DATABASE = 'slotkeeper_examples_postiz';

const admin = new pg.Pool({ max: 2 }); // a superuser: makes the database
let owner; // owns the tables, as the application's role does in most installations
let prisma;
let app;

/** Makes the client out of the schema, which needs no engine: so the command line need not look for one. */
function generate() {
  const cli = require.resolve('prisma/package.json');
  const bin = join(dirname(cli), require(cli).bin.prisma);
  const env = { ...process.env, PRISMA_SCHEMA_ENGINE_BINARY: process.execPath, CHECKPOINT_DISABLE: '1' };
  execFileSync(process.execPath, [bin, 'generate'], { cwd: HERE, env, stdio: 'pipe' });
  return require('./generated').PrismaClient;
}

/** `prisma db push`, of the schema or of this text. */
async function push(text) {
  const folder = await mkdtemp(join(tmpdir(), 'postiz-'));
  try {
    const file = join(folder, 'schema.prisma');
    await writeFile(file, text ?? SCHEMA);
    const env = { ...process.env, PGUSER: ROLE, PGDATABASE: DATABASE };
    return JSON.parse(execFileSync(process.execPath, [join(HERE, 'push.js'), file], { env, stdio: ['ignore', 'pipe', 'inherit'] }));
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** `days` from today, at this time in UTC. */
const at = (days, time) => new Date(`${new Date(Date.now() + days * 86_400_000).toISOString().slice(0, 10)}T${time}Z`);
const shown = (dates) => dates.map((date) => (date.publishDate ?? date).toISOString()).sort();
const channel = (name, times = [120, 400, 870]) =>
  prisma.integration.create({
    data: { name, providerIdentifier: 'x', postingTimes: JSON.stringify(times.map((time) => ({ time }))) },
  });
const post = (integrationId, date, more = {}) =>
  app.create({ integrationId, date, contents: ['text'], group: randomUUID(), ...more });
const value = async (sql, values) => Object.values((await owner.query(sql, values)).rows[0])[0];

/** Posts in the queue against seats: none without, none twice. */
async function settled() {
  const { rows } = await owner.query(`
    SELECT p.id, b.content_id, p."publishDate", b.scheduled_at
    FROM (SELECT * FROM "Post" WHERE state IN ('QUEUE', 'PUBLISHED') AND "deletedAt" IS NULL AND "parentPostId" IS NULL) AS p
    FULL JOIN (SELECT * FROM slotkeeper.content_status WHERE state <> 'unscheduled') AS b
      ON b.content_id = p.id AND b.scheduled_at = p."publishDate" AT TIME ZONE 'UTC'
    WHERE p.id IS NULL OR b.content_id IS NULL`);
  assert.deepEqual(rows, []);
}
async function healthy() {
  const { rows } = await owner.query('SELECT source, status FROM slotkeeper.binding_health ORDER BY source');
  assert.deepEqual(rows, [
    { source: 'public."Integration"', status: 'ok' },
    { source: 'public."Post"', status: 'ok' },
  ]);
}
const columns = async () =>
  (await owner.query(`SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2`)).rows;

describe('a Postiz-like application', { skip: tooOld && 'Prisma 7 needs Node.js 20.19, 22.12, 24 or newer' }, () => {
  let existing;
  before(async () => {
    await admin.query(`DROP DATABASE IF EXISTS ${DATABASE} WITH (FORCE)`);
    await admin.query(`DROP ROLE IF EXISTS ${ROLE}`);
    await admin.query(`CREATE ROLE ${ROLE} LOGIN`);
    await admin.query(`CREATE DATABASE ${DATABASE} OWNER ${ROLE}`);
    const superuser = new pg.Client({ database: DATABASE });
    await superuser.connect();
    await superuser.query('CREATE EXTENSION slotkeeper');
    await superuser.query(`SELECT slotkeeper.grant_access('${ROLE}', 'admin')`);
    await superuser.end();

    const { PrismaPg } = await import('@prisma/adapter-pg');
    const connection = { host: process.env.PGHOST, port: Number(process.env.PGPORT), user: ROLE, database: DATABASE, max: 10 };
    owner = new pg.Pool({ ...connection, max: 2 });
    await push();
    const PrismaClient = generate();
    prisma = new PrismaClient({ adapter: new PrismaPg(connection) });
    app = posts(prisma);
    existing = await channel('existing');
  });
  after(async () => {
    await prisma?.$disconnect();
    await owner?.end();
    await admin.query(`DROP DATABASE IF EXISTS ${DATABASE}`); // waits for connections that are just ending
    await admin.query(`DROP ROLE IF EXISTS ${ROLE}`);
    await admin.end();
  });

  test('duplicates that are there already are reported, and moved when asked', async () => {
    const twice = [await post(existing.id, at(20, '14:30:00')), await post(existing.id, at(20, '14:30:20'))];
    await post(existing.id, at(20, '14:30:00'), { state: 'DRAFT' });
    const before = await columns();
    const checked = await check(owner);
    assert.equal(checked.outcome, 'checked');
    assert.equal(checked.rows_that_take_seats, 2);
    assert.equal(checked.collision_count, 1);
    const attached = await attach(owner);
    assert.deepEqual([attached.outcome, attached.booked, attached.collision_count], ['attached', 1, 1]);
    const moved = await value(`SELECT slotkeeper.move_collisions('public."Post"')`);
    assert.equal(moved.moved, 1);
    const dates = (await app.between(existing.id, at(19, '00:00:00'), at(30, '00:00:00'))).filter((p) => p.state === 'QUEUE');
    assert.ok(dates.some((p) => twice.some((t) => +t.publishDate === +p.publishDate)), 'one keeps its time');
    assert.ok(shown(dates).includes(at(21, '02:00:00').toISOString()), 'the other has the next slot');
    assert.deepEqual(await columns(), before);
    await settled();
    await healthy();
  });

  test('two posts at the same moment for the same minute have different times', async () => {
    const { id } = await channel('two');
    const created = await Promise.all([post(id, at(30, '14:30:00')), post(id, at(30, '14:30:00'))]);
    assert.deepEqual(shown(created), shown([at(30, '14:30:00'), at(31, '02:00:00')]), 'and Prisma is told');
    assert.deepEqual(shown(await app.between(id, at(29, '00:00:00'), at(40, '00:00:00'))), shown(created));
    await settled();
  });

  test('five within one minute have five slots', async () => {
    const { id } = await channel('five');
    const seconds = ['00', '11', '22', '33', '44'];
    const created = await Promise.all(seconds.map((second) => post(id, at(30, `14:30:${second}`))));
    const dates = shown(created);
    assert.equal(new Set(dates.map((date) => date.slice(0, 16))).size, 5);
    assert.deepEqual(dates.slice(1), shown([at(31, '02:00:00'), at(31, '06:40:00'), at(31, '14:30:00'), at(32, '02:00:00')]));
    await settled();
  });

  test('many at once: none fails, none is lost', async () => {
    const { id } = await channel('many');
    const created = await Promise.all(Array.from({ length: 40 }, () => post(id, at(60, '14:30:00'))));
    assert.equal(new Set(shown(created)).size, 40);
    const { count } = await prisma.post.createMany({
      data: Array.from({ length: 20 }, () => ({ integrationId: id, publishDate: at(60, '14:30:00'), content: 'bulk', group: 'bulk' })),
    });
    assert.equal(count, 20);
    assert.equal(new Set(shown(await app.between(id, at(59, '00:00:00'), at(100, '00:00:00')))).size, 60);
    await settled();
  });

  test('two drags to one instant at once: one keeps it, one is moved', async () => {
    const { id } = await channel('drags');
    const [a, b] = [await post(id, at(30, '02:00:00')), await post(id, at(30, '06:40:00'))];
    const dragged = await Promise.all([app.drag(a.id, at(35, '06:40:00')), app.drag(b.id, at(35, '06:40:00'))]);
    assert.deepEqual(shown(dragged), shown([at(35, '06:40:00'), at(35, '14:30:00')]));
    const c = await post(id, at(30, '02:00:00'));
    assert.deepEqual(c.publishDate, at(30, '02:00:00'), 'what they left is free');
    await settled();
  });

  test('drafts share a date, and take a seat when they are queued', async () => {
    const { id } = await channel('drafts');
    const drafts = await Promise.all([1, 2, 3].map(() => post(id, at(30, '14:30:00'), { state: 'DRAFT' })));
    assert.equal(new Set(shown(drafts)).size, 1);
    const queued = await Promise.all(drafts.map((draft) => app.queue(draft.id)));
    assert.deepEqual(shown(queued), shown([at(30, '14:30:00'), at(31, '02:00:00'), at(31, '06:40:00')]));
    await settled();
  });

  test("a thread's comments share its date, also when it was moved", async () => {
    const { id } = await channel('threads');
    const contents = ['post', 'comment', 'another'];
    const threads = await Promise.all([1, 2].map(() => post(id, at(30, '14:30:00'), { contents })));
    assert.deepEqual(shown(threads), shown([at(30, '14:30:00'), at(31, '02:00:00')]));
    for (const thread of threads) {
      const comments = await prisma.post.findMany({ where: { parentPostId: thread.id } });
      assert.deepEqual(shown(comments), shown([thread, thread]));
    }
    await settled();
  });

  test('a soft-deleted post gives its seat back; one that is edited does not collide with itself', async () => {
    const { id } = await channel('edits');
    const first = await post(id, at(30, '14:30:00'));
    await app.remove(first.group);
    const second = { id: randomUUID(), integrationId: id, date: at(30, '14:30:00'), group: randomUUID() };
    assert.deepEqual((await app.save({ ...second, content: 'text' })).publishDate, at(30, '14:30:00'));
    assert.deepEqual((await app.save({ ...second, content: 'better text' })).publishDate, at(30, '14:30:00'));
    const later = { ...second, content: 'best text', date: at(30, '14:30:15') };
    assert.deepEqual((await app.save(later)).publishDate, at(30, '14:30:15'));
    const undone = await prisma.post.update({ where: { id: first.id }, data: { deletedAt: null } });
    assert.deepEqual(undone.publishDate, at(31, '02:00:00'), 'its seat was taken meanwhile');
    await prisma.post.delete({ where: { id: undone.id } });
    await settled();
  });

  test('a quarter of a minute apart: one moves, or, with a granule of 15 seconds, both stay', async () => {
    const [minute, quarter] = [await channel('minute'), await channel('quarter')];
    await value(`SELECT slotkeeper.alter_queue($1, 'x', p_options => '{"granule": "15 seconds"}')`, [quarter.id]);
    const both = (id) => Promise.all([post(id, at(30, '14:30:00')), post(id, at(30, '14:30:15'))]);
    const moved = shown(await both(minute.id));
    assert.equal(moved.length, new Set(moved.map((date) => date.slice(0, 16))).size);
    assert.equal(moved[1], at(31, '02:00:00').toISOString());
    assert.deepEqual(shown(await both(quarter.id)), shown([at(30, '14:30:00'), at(30, '14:30:15')]));
    await settled();
  });

  test("another channel's post in the same minute is no collision", async () => {
    const channels = await Promise.all(['here', 'there'].map((name) => channel(name)));
    const created = await Promise.all(channels.map(({ id }) => post(id, at(30, '14:30:00'))));
    assert.deepEqual(shown(created), shown([at(30, '14:30:00'), at(30, '14:30:00')]));
    const elsewhere = await prisma.post.update({ where: { id: created[0].id }, data: { integrationId: channels[1].id } });
    assert.deepEqual(elsewhere.publishDate, at(31, '02:00:00'));
    await settled();
  });

  test('what is rolled back leaves nothing, what is published stays', async () => {
    const { id } = await channel('published');
    await assert.rejects(
      prisma.$transaction(async (tx) => {
        await posts({ ...tx, $transaction: (work) => work(tx) }).create({ integrationId: id, date: at(30, '14:30:00'), contents: ['no'], group: 'no' });
        throw new Error('changed my mind');
      }),
      /changed my mind/,
    );
    const kept = await post(id, at(30, '14:30:00'));
    assert.deepEqual(kept.publishDate, at(30, '14:30:00'));
    await app.published(kept.id, 'https://example.org/1');
    await assert.rejects(app.drag(kept.id, at(40, '02:00:00')), /55000|published/);
    assert.deepEqual((await post(id, at(30, '14:30:00'))).publishDate, at(31, '02:00:00'), 'its time is still its own');
    await settled();
  });

  test("a channel's new posting times are those of the next post", async () => {
    const { id } = await channel('times');
    const first = await post(id, at(30, '14:30:00'));
    await prisma.integration.update({ where: { id }, data: { postingTimes: JSON.stringify([{ time: 1200 }]) } });
    assert.deepEqual((await post(id, at(30, '14:30:00'))).publishDate, at(30, '20:00:00'));
    assert.deepEqual((await prisma.post.findUnique({ where: { id: first.id } })).publishDate, first.publishDate, 'no post moves');
    await assert.rejects(prisma.integration.update({ where: { id }, data: { postingTimes: 'at noon' } }), /timetable/);
    await settled();
  });

  test('prisma db push leaves the guard alone', async (t) => {
    const server = await value(`SELECT current_setting('server_version_num')::int`);
    if (server >= 180000) return t.skip("Prisma 7.10's schema engine fails on the catalog of PostgreSQL 18");
    const dropped = async () => value(`SELECT count(*)::int FROM information_schema.columns WHERE column_name = 'stray'`);
    assert.equal((await push()).executedSteps, 0, 'slotkeeper is nothing that Prisma would change');
    await owner.query('ALTER TABLE "Post" ADD COLUMN stray text');
    await owner.query('CREATE TABLE stray (id int)');
    const pushed = await push(SCHEMA.replace('releaseURL ', 'note String?\n  releaseURL '));
    assert.ok(pushed.executedSteps > 0);
    assert.equal(await dropped(), 0, 'it did synchronise');
    await healthy();
    const { id } = await channel('pushed');
    const created = await Promise.all([post(id, at(30, '14:30:00')), post(id, at(30, '14:30:00'))]);
    assert.deepEqual(shown(created), shown([at(30, '14:30:00'), at(31, '02:00:00')]));
    await settled();
  });
});
