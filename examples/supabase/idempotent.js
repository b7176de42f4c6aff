// Wraps any Edge Function handler that answers with JSON, so that it runs once for each Idempotency-Key: begin and
// finish are calls of their own, and what the handler does in between may be anything.

export function idempotent(handler, supabase, { userId = null, lease = '60 seconds' } = {}) {
  const rpc = async (name, values) => {
    const { data, error } = await supabase.schema('slotkeeper').rpc(name, values);
    if (error) throw Object.assign(new Error(error.message), error);
    return data;
  };
  return async (request) => {
    const body = await request.clone().json().catch(() => null);
    const begun = await rpc('begin_request', {
      p_key: request.headers.get('Idempotency-Key'),
      p_method: request.method,
      p_path: new URL(request.url).pathname,
      p_user_id: userId,
      p_request: body,
      p_lease: lease,
    });
    if (begun.outcome === 'unprotected') return handler(request);
    if (begun.outcome === 'replayed') return Response.json(begun.body, { status: begun.status, headers: begun.headers ?? {} });
    if (begun.outcome !== 'started') return Response.json({ error: begun.outcome }, { status: begun.http_status });
    try {
      const response = await handler(request);
      await rpc('finish_request', {
        p_token: begun.token,
        p_status: response.status,
        p_body: await response.clone().json(),
        p_headers: Object.fromEntries(response.headers),
      });
      return response;
    } catch (error) {
      await rpc('abandon_request', { p_token: begun.token });
      throw error;
    }
  };
}
