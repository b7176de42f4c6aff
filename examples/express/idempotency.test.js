import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import express from 'express';
import pg from 'pg';
import { idempotency } from './idempotency.js';

// PGHOST, PGPORT, PGUSER and PGDATABASE say where; `cargo xtask test --only examples` sets them.
const pool = new pg.Pool({ max: 20 });
const app = express();
const protect = idempotency(pool, { user: (req) => req.get('X-User') ?? null, wait: '10 seconds' });
let server;
let url;

app.use(express.json());
app.post('/communities', protect, async (req, res) => {
  if (!req.body.name) return res.status(422).json({ error: 'name' });
  await new Promise((resolve) => setTimeout(resolve, 50));
  const { rows } = await pool.query('INSERT INTO communities (name) VALUES ($1) RETURNING *', [req.body.name]);
  res.status(201).set('Location', `/communities/${rows[0].id}`).set('Set-Cookie', 'session=secret').json(rows[0]);
});
app.post('/nothing', protect, async (req, res) => {
  await pool.query("INSERT INTO communities (name) VALUES ('nothing')");
  res.status(204).end();
});
app.post('/broken', protect, async () => {
  await pool.query("INSERT INTO communities (name) VALUES ('broken')");
  throw new Error('broken');
});
app.use((error, req, res, next) => res.status(500).json({ error: error.message })); // eslint-disable-line no-unused-vars

const post = (path, key, body, headers = {}) =>
  fetch(url + path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...(key && { 'Idempotency-Key': key }), ...headers },
    body: JSON.stringify(body),
  });
const count = async (name) =>
  Number((await pool.query('SELECT count(*) FROM communities WHERE name = $1', [name])).rows[0].count);

before(async () => {
  await pool.query('CREATE EXTENSION IF NOT EXISTS slotkeeper');
  await pool.query('CREATE TABLE communities (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL)');
  server = app.listen(0);
  url = `http://127.0.0.1:${server.address().port}`;
});
after(async () => {
  server.closeAllConnections();
  server.close();
  await pool.query('DROP TABLE communities');
  await pool.end();
});

test('a double click makes one community, and both clicks get it', async () => {
  const clicks = await Promise.all(Array.from({ length: 10 }, () => post('/communities', 'key-1', { name: 'Chess' })));
  const bodies = await Promise.all(clicks.map((click) => click.json()));
  assert.deepEqual(new Set(clicks.map((click) => click.status)), new Set([201]));
  assert.equal(new Set(bodies.map((body) => body.id)).size, 1);
  assert.equal(clicks.filter((click) => click.headers.get('Idempotency-Replayed')).length, 9);
  assert.ok(clicks.every((click) => click.headers.get('Location') === `/communities/${bodies[0].id}`));
  assert.equal(clicks.filter((click) => click.headers.get('Set-Cookie')).length, 1, 'cookies are not replayed');
  assert.equal(await count('Chess'), 1);
});

test('a retry gets the first response, another request does not', async () => {
  const retry = await post('/communities', 'key-1', { name: 'Chess' });
  assert.equal(retry.status, 201);
  const other = await post('/communities', 'key-1', { name: 'Go' });
  assert.deepEqual([other.status, await other.json()], [422, { error: 'mismatch' }]);
  const user = await post('/communities', 'key-1', { name: 'Go' }, { 'X-User': 'u2' });
  assert.equal(user.status, 201);
});

test('an error frees the key for the corrected form', async () => {
  assert.equal((await post('/communities', 'key-2', {})).status, 422);
  assert.equal((await post('/communities', 'key-2', { name: 'Corrected' })).status, 201);
  assert.equal((await post('/broken', 'key-3', {})).status, 500);
  assert.equal((await post('/broken', 'key-3', {})).status, 500);
  assert.equal(await count('broken'), 2);
});

test('a response without a body is one too', async () => {
  for (let i = 0; i < 2; i++) {
    const response = await post('/nothing', 'key-4', {});
    assert.deepEqual([response.status, await response.text()], [204, '']);
    await new Promise((resolve) => setTimeout(resolve, 100)); // it is stored when it has been sent
  }
  assert.equal(await count('nothing'), 1);
});

test('without a key everything runs; a key of 256 characters is refused', async () => {
  await Promise.all([post('/communities', null, { name: 'Twice' }), post('/communities', null, { name: 'Twice' })]);
  assert.equal(await count('Twice'), 2);
  const long = await post('/communities', 'k'.repeat(256), { name: 'Long' });
  assert.equal(long.status, 400);
  assert.match((await long.json()).error, /too long/);
  assert.equal(await count('Long'), 0);
});
