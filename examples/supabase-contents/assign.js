// The edge functions `assign-content` and `batch-assign-content`: one call each, with the user's own rights.

/** Runs `work` as PostgREST would for this JWT's subject: role and claims last for one transaction. */
export async function as(pool, { role, sub }, work) {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    const claims = sub ? JSON.stringify({ sub, role }) : '';
    await client.query(`SELECT set_config('role', $1, true), set_config('request.jwt.claims', $2, true)`, [role, claims]);
    const reply = await work(client);
    await client.query('COMMIT');
    return reply;
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  } finally {
    client.release();
  }
}

/** The content gets its slot, time and status, in the same transaction. */
export const assignContent = (pool, user, { profileId, platform, contentId }) =>
  as(pool, user, async (client) => {
    const { rows } = await client.query(
      `SELECT slotkeeper.assign_next_available_slot(
         p_profile_id => $1::uuid, p_platform => $2, p_content_id => $3::uuid, p_user_id => $4::uuid) AS reply`,
      [profileId, platform, contentId, user.sub ?? null],
    );
    return rows[0].reply;
  });

/** Hundreds at once; what finds no slot is left out. */
export const batchAssignContent = (pool, user, contents) =>
  as(pool, user, async (client) => {
    // pg sends a JavaScript array as a PostgreSQL array: JSON goes as text.
    const items = contents.map(({ profileId, platform, contentId }) => ({ profile_id: profileId, platform, content_id: contentId }));
    const { rows } = await client.query(`SELECT slotkeeper.assign_slots($1, 'best_effort') AS reply`, [JSON.stringify(items)]);
    return rows[0].reply;
  });
