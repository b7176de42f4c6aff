// A worker of an application that has delayed jobs of its own, as with BullMQ: here a timer for each content. A job only
// says when to look; whether the content may be published then is what claim_content answers.

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// The server went away, or the connection did: worth asking again.
const isLost = (error) => /^(08|57P0|ECONN|EPIPE)/.test(error.code ?? '') || /terminated|timeout|ended/i.test(error.message);

export class Worker {
  #jobs = new Map();
  #running = new Set();
  #stopped = false;

  // `pool` is a pg.Pool, `provider` the address that publishes.
  constructor({ pool, provider, name, leaseSeconds = 60, answerWithin = 30_000, askAgainAfter = 5_000, log = () => {} }) {
    Object.assign(this, { pool, provider, name, leaseSeconds, answerWithin, askAgainAfter, log });
    pool.on('error', () => {}); // an idle connection was lost: the pool opens another
  }

  // The delayed job of a content. Another one for the same content replaces it, as with a job id.
  arm(content, at) {
    clearTimeout(this.#jobs.get(content));
    if (this.#stopped) return;
    const delay = Math.max(0, new Date(at) - Date.now());
    // Timers hold 24 days: a later job wakes up once more on its way, and is told not_due.
    const timer = setTimeout(() => this.#fire(content), Math.min(delay, 2 ** 31 - 1));
    this.#jobs.set(content, timer);
  }

  // Lets what is under way end.
  async stop() {
    this.#stopped = true;
    for (const timer of this.#jobs.values()) clearTimeout(timer);
    await Promise.all(this.#running);
  }

  // Every call is a transaction of its own. One that was lost may have been committed: all of these may be asked twice.
  async #call(name, ...values) {
    const places = values.map((_, i) => `$${i + 1}`).join(', ');
    for (let tries = 0; ; tries++) {
      try {
        const { rows } = await this.pool.query(`SELECT slotkeeper.${name}(${places}) AS reply`, values);
        return { ...rows[0].reply, asked: tries + 1 };
      } catch (error) {
        if (!isLost(error) || tries === 9) throw error;
        await sleep(50 * 2 ** tries);
      }
    }
  }

  #fire(content) {
    this.#jobs.delete(content);
    const run = this.#run(content).catch((error) => {
      this.log(content, { outcome: 'error', error: error.message });
      this.arm(content, Date.now() + this.askAgainAfter); // a lease that was taken runs out meanwhile
    });
    this.#running.add(run);
    run.finally(() => this.#running.delete(run));
  }

  async #run(content) {
    const claim = await this.#call('claim_content', content, this.name, `${this.leaseSeconds} seconds`);
    this.log(content, claim);
    if (claim.outcome === 'claimed') return this.#publish(content, claim);
    this.#later(content, claim);
  }

  // When to look again at a content that is not ours to publish now.
  #later(content, { outcome, reason, until }) {
    if (until) this.arm(content, until); // not_due: it was moved; leased: its holder may die; limited
    else if (outcome === 'stale_token') this.arm(content, Date.now());
    else if (outcome === 'held' && !['failed', 'unknown'].includes(reason)) this.arm(content, Date.now() + this.askAgainAfter);
    // already_published, unscheduled, not_found, and what waits for a person: no job any more.
  }

  async #publish(content, claim) {
    // Committed before the call is made: from here on nobody else makes it.
    const begun = await this.#call('begin_publish', claim.lease_token);
    const isOurs = begun.outcome === 'proceed' || (begun.reason === 'begun_before' && begun.asked > 1);
    if (!isOurs) {
      this.log(content, begun);
      return this.#later(content, begun);
    }
    const token = claim.lease_token;
    const extend = () => this.#call('extend_lease', token, `${this.leaseSeconds} seconds`).catch(() => {});
    const keeping = setInterval(extend, (this.leaseSeconds * 1000) / 3);
    let answer;
    try {
      answer = await this.#post(content, claim.publish_key);
    } finally {
      clearInterval(keeping);
    }
    const { ok, error, status, retryAfter, id, url } = answer;
    const told = ok
      ? await this.#call('confirm_publish', token, id, url)
      : await this.#call('fail_publish', token, error, status, retryAfter);
    this.log(content, told);
    if (told.outcome === 'retrying') this.arm(content, told.next_attempt_at);
    if (told.outcome === 'unknown') await this.#findOut(content, claim);
  }

  async #post(content, key) {
    try {
      const response = await fetch(`${this.provider}/posts`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', 'Idempotency-Key': key },
        body: JSON.stringify({ content }),
        signal: AbortSignal.timeout(this.answerWithin),
      });
      if (response.ok) return { ok: true, ...(await response.json()) };
      const seconds = response.headers.get('Retry-After');
      const retryAfter = /^\d+$/.test(seconds ?? '') ? `${seconds} seconds` : null;
      return { error: `the provider answered ${response.status}`, status: response.status, retryAfter };
    } catch (error) {
      return { error: `no answer: ${error.message}`, status: null, retryAfter: null };
    }
  }

  // Nobody knows whether it is out: the provider does, by the key.
  async #findOut(content, claim) {
    const response = await fetch(`${this.provider}/posts/${encodeURIComponent(claim.publish_key)}`, {
      signal: AbortSignal.timeout(this.answerWithin),
    });
    if (response.ok) {
      const { id, url } = await response.json();
      this.log(content, await this.#call('confirm_publish', claim.lease_token, id, url));
    } else if (response.status === 404) {
      const resolved = await this.#call('resolve_unknown', content, false);
      this.log(content, resolved);
      if (resolved.outcome === 'retrying') this.arm(content, resolved.next_attempt_at);
    } // Any other answer: it stays unknown, for a person.
  }
}
