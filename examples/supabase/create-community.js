// An Edge Function: the community, its slug, its first membership and its tags, created once for one Idempotency-Key.
//
//   Deno.serve((request) => createCommunity(request, createClient(url, serviceRoleKey), await userOf(request)));
//
// The schema slotkeeper must be exposed. One call is one transaction: there is nothing to clean up when it fails.

export async function createCommunity(request, supabase, userId) {
  const { name, tags = [] } = await request.json();
  const { data, error } = await supabase.schema('slotkeeper').rpc('idempotent_insert', {
    p_table: 'communities',
    p_row: { name, owner_id: userId },
    p_key: request.headers.get('Idempotency-Key'),
    p_user_id: userId,
    p_slug: { column: 'slug', from: 'name' },
    p_then: [
      { table: 'memberships', row: { community_id: '$.id', user_id: userId, role: 'owner' } },
      ...tags.map((tag) => ({ table: 'community_tags', row: { community_id: '$.id', tag }, on_error: 'ignore' })),
    ],
  });
  if (error) return Response.json({ error: error.message, hint: error.hint }, { status: 400 });
  const failed = (data.then ?? []).filter((row) => row.error).length;
  const body = data.row ? { ...data.row, tags_failed: failed } : { error: data.outcome };
  return Response.json(body, { status: data.http_status, headers: { 'X-Outcome': data.outcome } });
}
