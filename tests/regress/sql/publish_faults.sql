-- Every bad input of the functions for publishing: SQLSTATE, message, detail, hint. And what only looks bad.
SET TimeZone = 'Asia/Kathmandu';
SET DateStyle = 'SQL, DMY';
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
\a
CREATE FUNCTION pg_temp.fault(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    reply text; state text; message text; detail text; hint text;
BEGIN
    EXECUTE command INTO reply;
    RETURN 'no error: ' || coalesce(reply, 'no row');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                            detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', state || ': ' || message, 'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END
$$;
SELECT slotkeeper.create_queue('pf', p, 'UTC', '{"daily": ["12:00"]}') ->> 'outcome' AS outcome FROM unnest(ARRAY['x', 'y']) AS p;
SELECT slotkeeper.assign_next_available_slot('pf', p, 'both') ->> 'outcome' AS outcome FROM unnest(ARRAY['x', 'y']) AS p;

-- NULL, for each argument that must have a value.
SELECT c || E'\n' || pg_temp.fault('SELECT slotkeeper.' || c) AS fault
FROM unnest(ARRAY[$$claim_due_content(NULL)$$, $$claim_due_content('w', NULL)$$, $$claim_due_content('w', 1, NULL)$$, $$claim_due_content('w', 1, '1 minute', ARRAY['x', NULL])$$,
    $$claim_content(NULL, 'w')$$, $$claim_content('c', NULL)$$, $$claim_content('c', 'w', NULL)$$,
    $$begin_publish(NULL)$$, $$extend_lease(NULL, '1 minute')$$, $$extend_lease('t', NULL)$$, $$confirm_publish(NULL)$$, $$fail_publish(NULL, 'e')$$, $$fail_publish('t', NULL)$$,
    $$resolve_unknown(NULL, true)$$, $$resolve_unknown('c', NULL)$$, $$retry_content(NULL)$$, $$set_platform(NULL, '{}')$$, $$set_platform('x', NULL)$$, $$prune_history(NULL)$$, $$prune_history('1 day', NULL)$$]) AS c;
-- Empty, and too long.
SELECT c || ' ' || left(pg_temp.fault('SELECT slotkeeper.' || format(c, quote_literal(v))), 60) AS fault
FROM unnest(ARRAY[$$claim_due_content(%s)$$, $$claim_due_content('w', 1, '1 minute', ARRAY[%s])$$, $$claim_content(%s, 'w')$$, $$claim_content('c', %s)$$, $$claim_content('c', 'w', '1 minute', %s)$$, $$claim_content('c', 'w', '1 minute', NULL, %s)$$,
    $$begin_publish(%s)$$, $$extend_lease(%s, '1 minute')$$, $$confirm_publish(%s)$$, $$fail_publish(%s, 'e')$$, $$resolve_unknown(%s, true)$$, $$retry_content(%s)$$, $$set_platform(%s, '{}')$$]) AS c,
     unnest(ARRAY['', ' ', repeat('a', 256)]) AS v;
SELECT pg_temp.fault($$SELECT slotkeeper.claim_due_content('w', 1, '1 minute', '{}')$$);
-- Out of range.
SELECT c || E'\n' || pg_temp.fault('SELECT slotkeeper.' || c) AS fault
FROM unnest(ARRAY[$$claim_due_content('w', 0)$$, $$claim_due_content('w', -1)$$, $$claim_due_content('w', 1001)$$, $$claim_due_content('w', 1, '0.999 seconds')$$, $$claim_due_content('w', 1, '7 days 1 second')$$,
    $$claim_content('both', 'w', '-1 hour')$$, $$extend_lease('t', '1 month')$$, $$extend_lease('t', '178000000 years')$$,
    $$fail_publish('t', 'e', 0)$$, $$fail_publish('t', 'e', 600)$$, $$fail_publish('t', 'e', -1)$$, $$fail_publish('t', 'e', 2147483647)$$, $$fail_publish('t', 'e', 429, '-1 second')$$, $$fail_publish('t', 'e', 429, '367 days')$$,
    $$prune_history('-1 day')$$, $$prune_history('1 day', 0)$$, $$prune_history('1 day', 1000001)$$]) AS c;
-- An id that names two bookings.
SELECT c || E'\n' || pg_temp.fault('SELECT slotkeeper.' || c) AS fault
FROM unnest(ARRAY[$$claim_content('both', 'w')$$, $$resolve_unknown('both', true)$$, $$retry_content('both')$$]) AS c;
SELECT slotkeeper.claim_content('both', 'w', p_platform => 'Y') ->> 'outcome' AS outcome;
-- What is no token of ours is stale, whatever it looks like.
SELECT t, slotkeeper.begin_publish(t), slotkeeper.confirm_publish(t), slotkeeper.extend_lease(t, '1 minute'), slotkeeper.fail_publish(t, 'e')
FROM unnest(ARRAY['t', repeat('0', 47), repeat('0', 48), repeat('f', 48), repeat('g', 48), repeat('ü', 24), '+' || repeat('0', 47), '''; --']) AS t;
-- Policies.
SELECT p || E'\n' || pg_temp.fault(format('SELECT slotkeeper.set_platform(''x'', %L)', p)) AS fault
FROM unnest(ARRAY['[]', '7', '{"max_attempt": 3}', '{"max_attempts": 0}', '{"delays": ["soon"]}', '{"delays": [], "backoff": {}}', '{"backoff": {"base": "5 s", "factor": 0}}', '{"jitter": 2}', '{"retry_statuses": ["429"]}',
    '{"on_unknown": "maybe"}', '{"limits": [{"max": 300}]}', '{"limits": [{"max": 1, "per": "1 day", "window": "fixed", "reset_zone": "Mars/Olympus"}]}', '{"limits": [{"max": 1, "per": "1 day", "window": "fixed", "reset_zone": "+07"}]}']) AS p;
SELECT slotkeeper.set_platform('x', '{"backoff": {"base": "5 seconds", "factor": 1.5}, "limits": [{"max": 300, "per": "3 hours"}, {"max": 50, "per": "1 day", "window": "fixed", "reset_zone": "asia/jakarta", "scope": "user"}]}');
SELECT slotkeeper.set_platform('x', '{}') -> 'policy' AS defaults;
-- Nothing is written in a read-only transaction.
BEGIN READ ONLY;
SELECT c || E'\n' || pg_temp.fault('SELECT slotkeeper.' || c) AS fault
FROM unnest(ARRAY[$$claim_due_content('w')$$, $$claim_content('c', 'w')$$, $$begin_publish('t')$$, $$extend_lease('t', '1 minute')$$, $$confirm_publish('t')$$, $$fail_publish('t', 'e')$$,
    $$resolve_unknown('c', true)$$, $$retry_content('c')$$, $$set_platform('x', '{}')$$, $$resume_after_restore()$$, $$prune_history('1 day')$$]) AS c;
COMMIT;
-- Long errors are cut, not refused.
SELECT slotkeeper.claim_content('both', 'w2', p_platform => 'x') ->> 'lease_token' AS token
\gset
SELECT slotkeeper.fail_publish(:'token', repeat('ü', 100000)) ->> 'outcome' AS outcome;
SELECT char_length(error) AS characters FROM slotkeeper.content_status WHERE content_id = 'both' AND platform = 'x';
-- A policy of another version is none: what came of an attempt can be told all the same, and leases end.
UPDATE slotkeeper.platform SET policy = '{"max_attempts": 2, "later": true}' WHERE platform = 'x';
SELECT slotkeeper.schedule_content('pf', 'x', 'p' || n, '2026-01-15T12:10:00Z', p_on_conflict => 'next_free') ->> 'outcome' AS outcome FROM generate_series(1, 2) AS n;
SET slotkeeper.now = '2026-01-15T12:20:00+00:00';
SELECT lease_token AS one FROM slotkeeper.claim_due_content('w', 1, '1 minute', ARRAY['x']) \gset
SELECT lease_token AS two FROM slotkeeper.claim_due_content('w', 1, '1 minute', ARRAY['x']) \gset
SELECT slotkeeper.begin_publish(:'one') ->> 'outcome' AS one, slotkeeper.begin_publish(:'two') ->> 'outcome' AS two;
SELECT slotkeeper.fail_publish(:'one', 'e', 400) ->> 'outcome' AS outcome;
SET slotkeeper.now = '2026-01-15T12:30:00+00:00';
SELECT content_id FROM slotkeeper.claim_due_content('w', 10, '1 minute', ARRAY['x']) WHERE content_id LIKE 'p%';
SELECT content_id, state FROM slotkeeper.content_status WHERE profile_id = 'pf' AND content_id LIKE 'p%' ORDER BY content_id;
SELECT count(slotkeeper.drop_queue(profile_id, platform, true)) AS dropped FROM slotkeeper.queue WHERE profile_id = 'pf';
SELECT slotkeeper.prune_history('0 seconds') ->> 'outcome' AS outcome;
DELETE FROM slotkeeper.attempt;
DELETE FROM slotkeeper.booking;
DELETE FROM slotkeeper.platform;
