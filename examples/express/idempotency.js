// An Express middleware for routes that answer with JSON: the handler behind it runs once for each Idempotency-Key.
//
//   app.post('/communities', express.json(), idempotency(pool, { user: (req) => req.user.id }), handler);
//
// The key is held in a transaction of its own, so the handler may talk to other systems. A holder that dies is taken
// over when its lease is over: choose a lease that is longer than the handler ever takes.

export function idempotency(pool, { user = () => null, lease = '60 seconds', ttl = '24 hours', wait = '5 seconds' } = {}) {
  // pg sends a JavaScript array as a PostgreSQL array: JSON goes as text.
  const json = (value) => (value === undefined ? null : JSON.stringify(value));
  const call = async (name, values) => {
    const places = values.map((_, i) => `$${i + 1}`).join(', ');
    return (await pool.query(`SELECT slotkeeper.${name}(${places}) AS reply`, values)).rows[0].reply;
  };

  return async (req, res, next) => {
    let begun;
    try {
      const key = req.get('Idempotency-Key') ?? null;
      const request = [key, req.method, req.originalUrl, user(req), json(req.body), lease, ttl, wait];
      begun = await call('begin_request', request);
    } catch (error) {
      // Too long, or empty: the client's mistake.
      return ['22001', '22023'].includes(error.code) ? res.status(400).json({ error: error.message }) : next(error);
    }
    switch (begun.outcome) {
      case 'unprotected':
        return next();
      case 'started':
        break;
      case 'replayed':
        res.status(begun.status).set(begun.headers ?? {}).set('Idempotency-Replayed', 'true');
        return begun.no_body ? res.end() : res.json(begun.body);
      default: // in_progress, mismatch, expired
        if (begun.retry_after_seconds) res.set('Retry-After', String(begun.retry_after_seconds));
        return res.status(begun.http_status).json({ error: begun.outcome, resource: begun.resource });
    }

    // The response is stored before it is sent: whoever has seen it can have it again.
    const send = res.json.bind(res);
    let stored = false;
    res.json = (body) => {
      stored = true;
      call('finish_request', [begun.token, res.statusCode, json(body), json(res.getHeaders())]).then(
        ({ outcome }) => (outcome === 'stale_token' ? send.call(res.status(409), { error: outcome }) : send(body)),
        next,
      );
      return res;
    };
    res.on('close', () => {
      if (stored) return;
      // Ended without JSON, or not at all.
      const ended = res.writableFinished;
      const values = ended ? [begun.token, res.statusCode, null, json(res.getHeaders())] : [begun.token];
      call(ended ? 'finish_request' : 'abandon_request', values).catch(() => {}); // its lease ends by itself
    });
    next();
  };
}
