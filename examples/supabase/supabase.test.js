import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createClient } from '@supabase/supabase-js';
import pg from 'pg';
import { createCommunity } from './create-community.js';
import { idempotent } from './idempotent.js';
import { servePostgrest } from './postgrest.js';

const pool = new pg.Pool({ max: 20, options: '-c search_path=edge,public' });
let postgrest;
let supabase;

const ask = (key, body, path = '/communities') =>
  new Request(`http://localhost${path}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...(key && { 'Idempotency-Key': key }) },
    body: JSON.stringify(body),
  });
const count = async (table) => Number((await pool.query(`SELECT count(*) FROM ${table}`)).rows[0].count);

before(async () => {
  await pool.query(`
    CREATE EXTENSION IF NOT EXISTS slotkeeper;
    CREATE SCHEMA edge;
    CREATE TABLE edge.communities (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL, slug text UNIQUE, owner_id text);
    CREATE TABLE edge.memberships (community_id uuid REFERENCES edge.communities, user_id text, role text, PRIMARY KEY (community_id, user_id));
    CREATE TABLE edge.community_tags (community_id uuid REFERENCES edge.communities, tag text CHECK (length(tag) < 10));
    CREATE TABLE edge.done (what text)`);
  postgrest = await servePostgrest(pool);
  supabase = createClient(postgrest.url, 'service-role-key', { auth: { persistSession: false } });
});
after(async () => {
  postgrest.close();
  await pool.query('DROP SCHEMA edge CASCADE');
  await pool.end();
});

test('one community, membership and slug for one key, and the very same answer again', async () => {
  const body = { name: 'My Community', tags: ['good', 'much too long a tag'] };
  const responses = await Promise.all(Array.from({ length: 8 }, () => createCommunity(ask('key-1', body), supabase, 'u1')));
  const bodies = await Promise.all(responses.map((response) => response.json()));
  assert.ok(responses.every((response) => response.status === 201));
  assert.equal(responses.filter((response) => response.headers.get('X-Outcome') === 'inserted').length, 1);
  bodies.forEach((other) => assert.deepEqual(other, bodies[0]));
  assert.equal(bodies[0].slug, 'my-community');
  assert.equal(bodies[0].tags_failed, 1);
  assert.deepEqual([await count('edge.communities'), await count('edge.memberships'), await count('edge.community_tags')], [1, 1, 1]);
});

test('another key and the same name: another slug', async () => {
  const response = await createCommunity(ask('key-2', { name: 'My Community' }), supabase, 'u1');
  assert.equal((await response.json()).slug, 'my-community-1');
});

test('another body under the same key is a mismatch, a missing name an error that frees the key', async () => {
  assert.equal((await createCommunity(ask('key-1', { name: 'Other' }), supabase, 'u1')).status, 422);
  const missing = await createCommunity(ask('key-3', {}), supabase, 'u1');
  assert.equal(missing.status, 400);
  assert.match((await missing.json()).error, /null value in column "name"/);
  assert.equal((await createCommunity(ask('key-3', { name: 'Corrected' }), supabase, 'u1')).status, 201);
});

test('a wrapped handler runs once', async () => {
  const handler = async (request) => {
    const { what } = await request.json();
    await pool.query('INSERT INTO edge.done VALUES ($1)', [what]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (what === 'fail') throw new Error('failed');
    return Response.json({ what }, { status: 202 });
  };
  const wrapped = idempotent(handler, supabase, { userId: 'u1' });
  const responses = await Promise.all(Array.from({ length: 6 }, () => wrapped(ask('w-1', { what: 'mail' }, '/mail'))));
  assert.deepEqual(await Promise.all(responses.map(async (r) => [r.status, await r.json()])), Array(6).fill([202, { what: 'mail' }]));
  assert.equal(await count('edge.done'), 1);
  await assert.rejects(wrapped(ask('w-2', { what: 'fail' }, '/mail')), /failed/);
  await assert.rejects(wrapped(ask('w-2', { what: 'fail' }, '/mail')), /failed/);
  assert.equal(await count('edge.done'), 3);
});
