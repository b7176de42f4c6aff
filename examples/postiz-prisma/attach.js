// Once, as the role that owns the tables. From then on any writer is guarded; nothing is added to the tables but
// triggers.

export const CHANNELS = {
  profile_id: 'id',
  platform: 'providerIdentifier',
  timetable: 'postingTimes',
  status: { disabled: 'disabled OR "deletedAt" IS NOT NULL', needs_refresh: '"refreshNeeded"' },
};

export const POSTS = {
  content_id: 'id',
  profile_id: 'integrationId', // names a channel, which knows its platform
  at: 'publishDate',
  at_zone: 'UTC', // Prisma's DateTime is a timestamp without time zone, in UTC
  occupies: "state = 'QUEUE'",
  exempt: { draft: "state = 'DRAFT'", deleted: '"deletedAt" IS NOT NULL', comment: '"parentPostId" IS NOT NULL' },
  published_when: "state = 'PUBLISHED'",
  group: 'group',
};

const call = async (pool, name, table, options) =>
  (await pool.query(`SELECT slotkeeper.${name}($1, $2) AS reply`, [table, options])).rows[0].reply;

/** What attaching would find, collisions included; changes nothing. */
export async function check(pool) {
  await call(pool, 'attach_queues', 'public."Integration"', CHANNELS);
  return call(pool, 'check_table', 'public."Post"', POSTS);
}

export async function attach(pool) {
  await call(pool, 'attach_queues', 'public."Integration"', CHANNELS);
  return call(pool, 'attach_table', 'public."Post"', POSTS);
}
