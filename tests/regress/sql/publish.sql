-- Publishing: claims, leases, attempts and what came of them.
SET TimeZone = 'Africa/Monrovia';
SET DateStyle = 'ISO, YMD';
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
\a
CREATE FUNCTION pg_temp.said(r jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r ->> 'outcome', r ->> 'content_id', 'attempt ' || (r ->> 'attempt'), r ->> 'reason', r ->> 'state', r ->> 'mode',
                     'next ' || (r ->> 'next_attempt_at'), 'until ' || coalesce(r ->> 'until', r ->> 'lease_until'), 'by ' || (r ->> 'by'),
                     'begun ' || (r ->> 'begun_at'), 'as ' || (r ->> 'provider_id'), 'at ' || (r ->> 'url'), CASE WHEN (r ->> 'late')::boolean THEN 'late' END)
$$;
CREATE FUNCTION pg_temp.keys(reply jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT (reply ->> 'outcome') || ': ' || string_agg(k, ' ' ORDER BY k COLLATE "C") FROM jsonb_object_keys(reply) AS k
$$;
-- Contents as they are handed out, and their tokens kept by name.
CREATE TEMP TABLE token (content_id text, worker text, token text);
CREATE FUNCTION pg_temp.claims(worker text, lim int DEFAULT 1, lease interval DEFAULT '10 minutes', platforms text[] DEFAULT NULL) RETURNS SETOF text LANGUAGE sql AS $$
    WITH c AS (SELECT * FROM slotkeeper.claim_due_content(worker, lim, lease, platforms)),
         k AS (INSERT INTO token SELECT content_id, worker, lease_token FROM c)
    SELECT concat_ws(' ', content_id, platform, 'attempt', attempt, mode, 'due', scheduled_at, 'until', lease_until) FROM c
$$;
CREATE FUNCTION pg_temp.claim(content text, worker text, lease interval DEFAULT '10 minutes') RETURNS text LANGUAGE plpgsql AS $$
DECLARE r jsonb := slotkeeper.claim_content(content, worker, lease);
BEGIN
    IF r ? 'lease_token' THEN INSERT INTO token VALUES (content, worker, r ->> 'lease_token'); END IF;
    RETURN pg_temp.said(r);
END $$;
CREATE FUNCTION pg_temp.t(content text, who text) RETURNS text LANGUAGE sql AS $$ SELECT token FROM token WHERE content_id = content AND worker = who $$;
CREATE FUNCTION pg_temp.now(at text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('slotkeeper.now', at || '+00:00', false) $$;
CREATE FUNCTION pg_temp.status(content text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(concat_ws(' ', state, 'attempt ' || attempt, 'next ' || next_attempt_at, 'lease ' || lease_until, 'worker ' || worker, 'published ' || published_at, provider_id, url, 'error ' || error, http_status), E'\n')
    FROM slotkeeper.content_status WHERE content_id = content
$$;
SELECT slotkeeper.create_queue('pub', p, 'UTC', '{"daily": ["12:00", "13:00", "14:00"]}') ->> 'outcome' AS outcome FROM unnest(ARRAY['x', 'insta']) AS p;
SELECT slotkeeper.assign_next_available_slot('pub', p, p || n, 'u' || n) ->> 'scheduled_at' AS at FROM unnest(ARRAY['x', 'insta']) AS p, generate_series(1, 4) AS n;

-- What is due, oldest first, each once; nothing before its time.
SELECT pg_temp.claims('w1', 10);
SELECT pg_temp.claims('w2', 10);
SELECT count(DISTINCT token) AS tokens, bool_and(token ~ '^[0-9a-f]{48}$') AS opaque FROM token;
SELECT publish_key FROM slotkeeper.claim_due_content('w3');
SELECT pg_temp.said(slotkeeper.claim_content('x2', 'w2'));
SELECT pg_temp.said(slotkeeper.claim_content('x1', 'w2'));
SELECT pg_temp.said(slotkeeper.claim_content('nobody', 'w2'));
SELECT pg_temp.status('x1'), pg_temp.status('x2');

-- One attempt, from begin to success. The second begin may come from somebody who has made the call already.
SELECT pg_temp.keys(slotkeeper.begin_publish(pg_temp.t('x1', 'w1')));
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('x1', 'w1')));
SELECT pg_temp.status('x1');
SELECT pg_temp.said(slotkeeper.extend_lease(pg_temp.t('x1', 'w1'), '20 minutes'));
SELECT pg_temp.keys(slotkeeper.extend_lease(pg_temp.t('x1', 'w1'), '20 minutes'));
SELECT pg_temp.keys(slotkeeper.confirm_publish(pg_temp.t('x1', 'w1'), 'id-1', 'https://x.example/1'));
SELECT pg_temp.status('x1');
-- It is closed: for its own token and everybody else, for ever.
SELECT pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('x1', 'w1'), 'id-2'));
SELECT pg_temp.keys(slotkeeper.confirm_publish(pg_temp.t('x1', 'w1')));
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('x1', 'w1')));
SELECT pg_temp.said(slotkeeper.fail_publish(pg_temp.t('x1', 'w1'), 'error after success'));
SELECT pg_temp.said(slotkeeper.extend_lease(pg_temp.t('x1', 'w1'), '1 hour'));
SELECT pg_temp.said(slotkeeper.claim_content('x1', 'w2'));
SELECT pg_temp.said(slotkeeper.retry_content('x1'));
SELECT pg_temp.said(slotkeeper.resolve_unknown('x1', false));
SELECT slotkeeper.unschedule_content('x1') ->> 'outcome' AS u, slotkeeper.reschedule_content('x1', '2026-02-01T00:00:00Z') ->> 'outcome' AS r,
       slotkeeper.reschedule_content('x1', '2026-02-01T00:00:00Z', p_dry_run => true) ->> 'outcome' AS d,
       slotkeeper.reschedule_content('x1', '2026-01-15T12:00:00Z') ->> 'outcome' AS same,
       slotkeeper.assign_next_available_slot('pub', 'x', 'x1') ->> 'outcome' AS a;
SELECT jsonb_pretty(slotkeeper.unschedule_content('x1') - 'booking_id');
SELECT pg_temp.claims('w2', 10);

-- Confirmed without having begun: nothing was published by us.
SELECT pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('insta1', 'w1'), 'never'));
-- A failure before it began is always tried again, and is no attempt.
SELECT slotkeeper.set_platform('INSTA', '{"jitter": 0, "retry_statuses": [429, 504]}');
SELECT slotkeeper.set_platform('x', '{"jitter": 0}') -> 'policy' -> 'jitter' AS jitter;
SELECT pg_temp.keys(slotkeeper.fail_publish(pg_temp.t('insta1', 'w1'), 'no access token'));
SELECT pg_temp.status('insta1');
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('insta1', 'w1')));
SELECT pg_temp.said(slotkeeper.fail_publish(pg_temp.t('insta1', 'w1'), 'again'));
SELECT pg_temp.claims('w2');
SELECT pg_temp.claim('insta1', 'w2');
SELECT pg_temp.now('2026-01-15T12:00:30');
SELECT pg_temp.claims('w2');
SELECT pg_temp.said(slotkeeper.fail_publish(pg_temp.t('insta1', 'w2'), 'still none'));
SELECT pg_temp.now('2026-01-15T12:01:30');
SELECT pg_temp.claim('insta1', 'w3');

-- A lease that ran out before its attempt began is anybody's; its token is not.
SELECT pg_temp.now('2026-01-15T12:11:29.999999');
SELECT pg_temp.claims('w4');
SELECT pg_temp.now('2026-01-15T12:11:30');
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('insta1', 'w3')));
SELECT pg_temp.claims('w4');
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('insta1', 'w3'))), pg_temp.said(slotkeeper.extend_lease(pg_temp.t('insta1', 'w3'), '1 hour')),
       pg_temp.said(slotkeeper.fail_publish(pg_temp.t('insta1', 'w3'), 'late')), pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('insta1', 'w3')));
-- As long as nobody has taken it over, it can be extended.
SELECT pg_temp.now('2026-01-15T12:22:00');
SELECT pg_temp.said(slotkeeper.extend_lease(pg_temp.t('insta1', 'w4'), '5 minutes'));
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('insta1', 'w4')));

-- One that ran out after it is unknown: nobody tries again, a person finds out.
SELECT pg_temp.now('2026-01-15T12:27:00');
SELECT pg_temp.status('insta1');
SELECT pg_temp.said(slotkeeper.retry_content('insta1'));
SELECT pg_temp.claims('w5');
SELECT pg_temp.status('insta1');
SELECT pg_temp.claim('insta1', 'w5');
SELECT slotkeeper.unschedule_content('insta1') ->> 'state' AS u, slotkeeper.reschedule_content('insta1', '2026-02-01T00:00:00Z') ->> 'state' AS r;
SELECT pg_temp.said(slotkeeper.retry_content('insta1'));
SELECT pg_temp.said(slotkeeper.extend_lease(pg_temp.t('insta1', 'w4'), '5 minutes')), pg_temp.said(slotkeeper.begin_publish(pg_temp.t('insta1', 'w4')));
-- Its worker may still say what became of it: success is true however late, and a refusal is one.
BEGIN;
SELECT pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('insta1', 'w4'), 'late-id', 'https://insta.example/late'));
SELECT pg_temp.status('insta1');
SELECT pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('insta1', 'w4')));
ROLLBACK;
BEGIN;
SELECT pg_temp.said(slotkeeper.fail_publish(pg_temp.t('insta1', 'w4'), 'bad image', 400));
SELECT pg_temp.said(slotkeeper.fail_publish(pg_temp.t('insta1', 'w4'), 'bad image', 400));
SELECT pg_temp.status('insta1');
SELECT pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('insta1', 'w4'), 'after all'));
SELECT pg_temp.status('insta1');
ROLLBACK;
BEGIN;
SELECT pg_temp.said(slotkeeper.fail_publish(pg_temp.t('insta1', 'w4'), 'too many', 429, '5 minutes'));
ROLLBACK;
BEGIN;
SELECT pg_temp.said(slotkeeper.fail_publish(pg_temp.t('insta1', 'w4'), 'who knows'));
ROLLBACK;
BEGIN;
SELECT pg_temp.keys(slotkeeper.resolve_unknown('insta1', true, 'found'));
SELECT pg_temp.said(slotkeeper.resolve_unknown('insta1', true, 'found'));
SELECT pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('insta1', 'w4'), 'late'));
SELECT pg_temp.status('insta1');
ROLLBACK;
SELECT pg_temp.keys(slotkeeper.resolve_unknown('insta1', false));
SELECT pg_temp.said(slotkeeper.resolve_unknown('insta1', false));
SELECT pg_temp.status('insta1');

-- Instagram answers 504 again and again: 30, 60, 120 s, async after two of them, failed, revived.
SELECT pg_temp.now('2026-01-15T13:00:00');
DELETE FROM token;
SELECT pg_temp.claims('a1', 1, '10 minutes', ARRAY['insta']);
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('insta1', 'a1')));
SELECT pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('insta1', 'a1'), 'at last'));
SELECT pg_temp.claims('a1', 10, '10 minutes', ARRAY['Insta', 'INSTA']);
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('insta2', 'a1')));
SELECT pg_temp.said(slotkeeper.fail_publish(pg_temp.t('insta2', 'a1'), 'gateway timeout', 504));
SELECT pg_temp.now('2026-01-15T13:00:29'); SELECT pg_temp.claims('a2', 10, '10 minutes', ARRAY['insta']);
SELECT pg_temp.now('2026-01-15T13:00:30'); SELECT pg_temp.claims('a2', 10, '10 minutes', ARRAY['insta']);
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('insta2', 'a2')));
SELECT pg_temp.said(slotkeeper.fail_publish(pg_temp.t('insta2', 'a2'), 'gateway timeout', 504));
SELECT pg_temp.now('2026-01-15T13:01:30'); SELECT pg_temp.claims('a3', 10, '10 minutes', ARRAY['insta']);
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('insta2', 'a3')));
SELECT pg_temp.said(slotkeeper.fail_publish(pg_temp.t('insta2', 'a3'), 'gateway timeout', 504));
SELECT pg_temp.now('2026-01-15T13:03:30'); SELECT pg_temp.claims('a4', 10, '10 minutes', ARRAY['insta']);
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('insta2', 'a4')));
SELECT pg_temp.keys(slotkeeper.fail_publish(pg_temp.t('insta2', 'a4'), 'gateway timeout', 504));
SELECT pg_temp.status('insta2');
SELECT pg_temp.claims('a5', 10, '10 minutes', ARRAY['insta']);
SELECT pg_temp.claim('insta2', 'a5');
SELECT pg_temp.keys(slotkeeper.retry_content('insta2', p_platform => 'insta'));
SELECT pg_temp.said(slotkeeper.retry_content('insta2'));
SELECT pg_temp.claims('a5', 10, '10 minutes', ARRAY['insta']);
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('insta2', 'a5')));
-- The very first attempt turns out to have been a success: it stops the one under way.
SELECT pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('insta2', 'a1'), 'first after all'));
SELECT pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('insta2', 'a5'), 'second')), pg_temp.said(slotkeeper.fail_publish(pg_temp.t('insta2', 'a5'), 'second'));
SELECT pg_temp.status('insta2');
SELECT attempt, outcome, worker, http_status, error, begun_at IS NOT NULL AS begun, ended_at FROM slotkeeper.attempt AS a JOIN slotkeeper.booking AS b USING (booking_id)
WHERE b.content_id IN ('insta1', 'insta2') ORDER BY content_id, ended_at, attempt, worker;

-- on_unknown retry: tried again without being asked; after the last attempt still nobody knows.
SELECT slotkeeper.set_platform('insta', '{"jitter": 0, "on_unknown": "retry", "max_attempts": 2, "delays": ["1 minute"]}') ->> 'outcome' AS outcome;
SELECT pg_temp.now('2026-01-15T14:00:00');
SELECT pg_temp.claims('b1', 10, '1 minute', ARRAY['insta']);
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('insta3', 'b1')));
SELECT pg_temp.now('2026-01-15T14:01:00');
SELECT pg_temp.claims('b2', 10, '1 minute', ARRAY['insta']);
SELECT pg_temp.status('insta3');
SELECT pg_temp.now('2026-01-15T14:02:00');
SELECT pg_temp.claims('b2', 10, '1 minute', ARRAY['insta']);
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('insta3', 'b2')));
SELECT pg_temp.now('2026-01-15T14:03:00');
SELECT pg_temp.claim('insta3', 'b3');
SELECT pg_temp.said(slotkeeper.resolve_unknown('insta3', false));
SELECT pg_temp.status('insta3');

-- A queue that is stopped hands nothing out, and goes on with the oldest. Bookings go on.
SELECT slotkeeper.set_queue_status('pub', 'x', 'paused', 'holiday') ->> 'status' AS status;
SELECT pg_temp.claims('c1', 10);
SELECT pg_temp.claim('x2', 'c1');
SELECT slotkeeper.assign_next_available_slot('pub', 'x', 'x5') ->> 'outcome' AS outcome;
SELECT slotkeeper.set_queue_status('pub', 'x', 'needs_refresh') ->> 'status' AS status;
SELECT pg_temp.claim('x2', 'c1');
SELECT slotkeeper.set_queue_status('pub', 'x', 'disabled') ->> 'status' AS status;
SELECT pg_temp.claim('x2', 'c1');
SELECT slotkeeper.set_queue_status('pub', 'x', 'active') ->> 'status' AS status;
SELECT pg_temp.claims('c1', 1);
SELECT slotkeeper.set_queue_status('pub', 'x', 'paused') ->> 'status' AS status;
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('x2', 'c1')));
SELECT slotkeeper.set_queue_status('pub', 'x', 'active') ->> 'status' AS status;
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('x2', 'c1')));
-- What is in flight or unknown stays; what was only claimed may go, and its lease with it.
SELECT slotkeeper.unschedule_content('x2') ->> 'state' AS u, slotkeeper.reschedule_content('x2', '2026-02-01T00:00:00Z') ->> 'state' AS r;
SELECT pg_temp.claims('c2', 10);
SELECT slotkeeper.unschedule_content('x3') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('x3', 'c2')));
SELECT pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('x3', 'c2'))), pg_temp.said(slotkeeper.fail_publish(pg_temp.t('x3', 'c2'), 'e')), pg_temp.said(slotkeeper.extend_lease(pg_temp.t('x3', 'c2'), '1 hour'));
SELECT pg_temp.status('x3');
SELECT pg_temp.claim('x3', 'c3');
SELECT slotkeeper.assign_next_available_slot('pub', 'x', 'x3') ->> 'scheduled_at' AS at;
SELECT pg_temp.status('x3');
SELECT pg_temp.now('2026-01-16T12:00:00');
SELECT pg_temp.claims('c3', 10, '10 minutes', ARRAY['x']);
SELECT slotkeeper.reschedule_content('x4', '2026-01-16T12:30:00Z') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('x4', 'c3')));
SELECT pg_temp.status('x4');
SELECT pg_temp.claim('x4', 'c4');
SELECT pg_temp.now('2026-01-16T12:30:00');
SELECT pg_temp.claim('x4', 'c4', '1 minute');
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('x4', 'c4')));
SELECT pg_temp.said(slotkeeper.fail_publish(pg_temp.t('x4', 'c4'), 'refused', 403));
-- A failed one may be moved: then it is as new.
SELECT slotkeeper.reschedule_content('x4', '2026-01-16T12:45:00Z') ->> 'outcome' AS outcome;
SELECT pg_temp.status('x4');
-- An attempt that is over may still have been a success, though its content is no longer booked.
SELECT slotkeeper.unschedule_content('x4') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('x4', 'c4'), 'was out'));
SELECT pg_temp.status('x4');
SELECT pg_temp.claim('x4', 'c5');
-- Booked again it is closed at once, and never handed out.
SELECT slotkeeper.schedule_content('pub', 'x', 'x4', '2026-01-16T12:50:00Z') ->> 'outcome' AS outcome;
SELECT pg_temp.now('2026-01-16T12:55:00');
SELECT pg_temp.claims('c5', 10, '10 minutes', ARRAY['x']);
SELECT pg_temp.claims('c5', 10, '10 minutes', ARRAY['x']);
SELECT pg_temp.status('x4');

-- Claimed and begun in one transaction, rolled back, begun in a statement together with the claim.
SELECT slotkeeper.schedule_content('pub', 'x', 'y' || n, '2026-01-16T12:56:00Z', p_on_conflict => 'next_free') ->> 'outcome' AS outcome FROM generate_series(1, 3) AS n;
SELECT pg_temp.now('2026-01-16T12:59:00');
DELETE FROM token;
BEGIN;
SELECT pg_temp.claim('y1', 'd1'), pg_temp.said(slotkeeper.begin_publish(pg_temp.t('y1', 'd1')));
SELECT pg_temp.claim('y1', 'd2');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.claim('y1', 'd1'), pg_temp.said(slotkeeper.begin_publish(pg_temp.t('y1', 'd1'))), pg_temp.said(slotkeeper.confirm_publish(pg_temp.t('y1', 'd1'), 'one'));
SAVEPOINT s;
SELECT pg_temp.claim('y2', 'd1'), pg_temp.said(slotkeeper.begin_publish(pg_temp.t('y2', 'd1')));
ROLLBACK TO s;
COMMIT;
SELECT pg_temp.status('y1'), pg_temp.status('y2');
SELECT content_id, slotkeeper.begin_publish(lease_token) ->> 'outcome' AS begun FROM slotkeeper.claim_due_content('d3', 50, '1 hour', ARRAY['x']);
SELECT count(*) AS tokens_in_use, count(*) FILTER (WHERE state = 'publishing') AS publishing FROM slotkeeper.publication WHERE token IS NOT NULL;

-- A backend whose session does not wait for the disk does so where it must.
SET synchronous_commit = off;
BEGIN;
SELECT slotkeeper.begin_publish(repeat('0', 48)) ->> 'outcome' AS outcome, current_setting('synchronous_commit') AS synchronous_commit;
COMMIT;
SELECT slotkeeper.extend_lease(repeat('f', 48), '1 minute') ->> 'outcome' AS outcome, current_setting('synchronous_commit') AS synchronous_commit;
SET synchronous_commit = local;
BEGIN;
SELECT slotkeeper.confirm_publish(repeat('0', 48)) ->> 'outcome' AS outcome, current_setting('synchronous_commit') AS synchronous_commit;
COMMIT;
SET synchronous_commit = remote_apply;
SELECT slotkeeper.begin_publish(repeat('0', 48)) ->> 'outcome' AS outcome, current_setting('synchronous_commit') AS synchronous_commit;
RESET synchronous_commit;

-- What was published can be dropped with its queue; what is under way only by force.
SELECT slotkeeper.create_queue('pub', 'gone', 'UTC', '{}') ->> 'outcome' AS outcome;
SELECT slotkeeper.schedule_content('pub', 'gone', 'g' || n, '2026-01-16T12:59:00Z', p_on_conflict => 'next_free') ->> 'outcome' AS outcome FROM generate_series(1, 2) AS n;
SELECT pg_temp.claim('g1', 'g') || ' ' || (slotkeeper.begin_publish(pg_temp.t('g1', 'g')) ->> 'outcome') || ' ' || (slotkeeper.confirm_publish(pg_temp.t('g1', 'g')) ->> 'outcome') AS g1;
SELECT pg_temp.now('2026-01-16T13:05:00');
SELECT pg_temp.claim('g2', 'g');
DO $$ BEGIN PERFORM slotkeeper.drop_queue('pub', 'gone'); EXCEPTION WHEN object_in_use THEN RAISE NOTICE '%', SQLERRM; END $$;
SELECT slotkeeper.unschedule_content('g2') ->> 'outcome' AS outcome;
SELECT slotkeeper.drop_queue('pub', 'gone') ->> 'released' AS released;
SELECT pg_temp.said(slotkeeper.begin_publish(pg_temp.t('g2', 'g')));

-- History goes, successes stay. (What other files have left is none of this one's.)
DELETE FROM slotkeeper.booking WHERE released_at IS NOT NULL AND queue_id NOT IN (SELECT queue_id FROM slotkeeper.queue WHERE profile_id = 'pub');
DELETE FROM slotkeeper.move WHERE booking_id NOT IN (SELECT booking_id FROM slotkeeper.booking);
SELECT pg_temp.now('2026-03-01T00:00:00');
SELECT slotkeeper.prune_history('1 day', 3);
SELECT slotkeeper.prune_history('1 day');
SELECT slotkeeper.prune_history('1 day');
SELECT pg_temp.status('insta2'), pg_temp.status('x4');
SELECT pg_temp.claim('insta2', 'p1');
SELECT count(slotkeeper.drop_queue(profile_id, platform, true)) AS dropped FROM slotkeeper.queue WHERE profile_id = 'pub';
SELECT count(*) AS under_way FROM slotkeeper.publication WHERE state <> 'unknown';
SELECT slotkeeper.resume_after_restore();
SELECT slotkeeper.prune_history('0 seconds', 1000000) ->> 'outcome' AS outcome;
DELETE FROM slotkeeper.publication;
DELETE FROM slotkeeper.booking;
DELETE FROM slotkeeper.published;
DELETE FROM slotkeeper.platform;
