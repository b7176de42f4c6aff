-- begin_request, extend_request, finish_request, abandon_request, forget_user, purge_expired and the views.
SET TimeZone = 'Africa/Monrovia';
SET DateStyle = 'ISO, YMD';
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
\a
CREATE FUNCTION pg_temp.keys(reply jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT (reply ->> 'outcome') || ': ' || string_agg(k, ' ' ORDER BY k COLLATE "C") FROM jsonb_object_keys(reply) AS k
$$;
CREATE FUNCTION pg_temp.fault(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    reply jsonb; state text; message text; detail text; hint text;
BEGIN
    EXECUTE command INTO reply;
    RETURN 'no error: ' || (reply ->> 'outcome');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                            detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', state || ': ' || message, 'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END
$$;
-- A request begun and finished at once.
CREATE FUNCTION pg_temp.done(p_key text, p_user text, p_body jsonb, p_ttl interval DEFAULT '24 hours') RETURNS text LANGUAGE sql AS $$
    SELECT slotkeeper.finish_request(slotkeeper.begin_request(p_key, 'POST', '/x', p_user, p_ttl => p_ttl) ->> 'token', 200, p_body,
                                     p_resource => 'made by ' || p_key) ->> 'outcome'
$$;

TRUNCATE slotkeeper.request_tally;

-- The first one runs, the next ones are told what it answered, the same request in another spelling too.
SELECT slotkeeper.begin_request('k1', 'POST', '/api/communities', 'u1', '{"name": "Caf\u00e9", "n": 1, "deep": {"a": [1, 2.50], "b": null}}') AS reply \gset
SELECT pg_temp.keys(:'reply'), :'reply'::jsonb - 'token' AS reply, length(:'reply'::jsonb ->> 'token') AS token;
SELECT slotkeeper.finish_request(:'reply'::jsonb ->> 'token', 201, '{"id": 90071992547409930001.10, "ok": false, "list": [[], {}, ""]}',
                                 '{"Location": "/c/1", "Set-Cookie": "s=1", "authorization": "x", "X-Api-Key": "k", "vary": ["a", "b"]}', 'c/1') AS reply;
SELECT jsonb_pretty(slotkeeper.begin_request('k1', 'post', '/api/communities', 'u1', '{"deep": {"b": null, "a": [1e0, 2.5]}, "n": 1.0, "name": "Cafe\u0301"}')) AS reply;
SELECT pg_temp.keys(slotkeeper.begin_request('k1', 'POST', '/api/communities', 'u1', '{"name": "Café", "n": 1, "deep": {"a": [1, 2.50], "b": null}}'));

-- Another request under the same key is not replayed: another value, type, path, method, or no body.
SELECT slotkeeper.begin_request('k1', 'POST', '/api/communities', 'u1', '{"name": "Cafe", "n": 1, "deep": {"a": [1, 2.5], "b": null}}') AS reply;
SELECT n, slotkeeper.begin_request('k1', m, p, 'u1', b, p_wait => '0') ->> 'outcome' AS outcome
FROM (VALUES (1, 'POST', '/api/communities', '{"name": "Café", "n": "1", "deep": {"a": [1, 2.5], "b": null}}'::jsonb),
             (2, 'POST', '/api/communities', '{"name": "Café", "n": 1, "deep": {"a": [2.5, 1], "b": null}}'),
             (3, 'POST', '/api/communities', '{"name": "Café", "n": 1, "deep": {"a": [1, 2.5]}}'),
             (4, 'POST', '/api/Communities', '{"name": "Café", "n": 1, "deep": {"a": [1, 2.5], "b": null}}'),
             (5, 'PUT', '/api/communities', '{"name": "Café", "n": 1, "deep": {"a": [1, 2.5], "b": null}}'),
             (6, 'POST', '/api/communities', NULL),
             (7, 'POST', '/api/communities', 'null')) AS v (n, m, p, b) ORDER BY n;
-- The same key of another user, or of nobody, is another key.
SELECT slotkeeper.begin_request('k1', 'POST', '/api/communities', 'u2', p_wait => '0') ->> 'outcome' AS u2,
       slotkeeper.begin_request('k1', 'POST', '/api/communities', p_wait => '0') ->> 'outcome' AS nobody,
       slotkeeper.begin_request('K1', 'POST', '/api/communities', 'u1', p_wait => '0') ->> 'outcome' AS "K1";
-- Without a key everything runs.
SELECT slotkeeper.begin_request(NULL, 'POST', '/x') AS reply;

-- Bodies come back as they were: nothing, null, falsy ones, digits.
SELECT pg_temp.done('b' || n, 'bodies', b) || ' ' || coalesce(b::text, 'none') AS stored,
       slotkeeper.begin_request('b' || n, 'POST', '/x', 'bodies') - 'first_seen' AS reply
FROM (VALUES (1, NULL), (2, 'null'::jsonb), (3, 'false'), (4, '0'), (5, '""'), (6, '[]'), (7, '{}'), (8, '1.10'), (9, '"é\u0001"'),
             (10, '123456789012345678901234567890.123456789'), (11, '{"b": 1, "aa": {"c": [null, true]}}')) AS v (n, b) ORDER BY n;

-- In progress: told when to come back. The holder may extend.
SELECT slotkeeper.begin_request('k2', 'POST', '/x', 'u1') AS reply \gset
SELECT slotkeeper.begin_request('k2', 'POST', '/x', 'u1', p_wait => '0') AS reply;
SELECT slotkeeper.begin_request('k2', 'POST', '/x', 'u1', p_wait => '30 milliseconds') ->> 'outcome' AS waited;
SELECT slotkeeper.extend_request(:'reply'::jsonb ->> 'token', '5 minutes') AS reply;
-- After its lease it is taken over. The first holder is refused from then on, and changes nothing.
SET slotkeeper.now = '2026-01-15T12:04:59.999999+00:00';
SELECT slotkeeper.begin_request('k2', 'POST', '/x', 'u1', p_wait => '0') AS reply;
SET slotkeeper.now = '2026-01-15T12:05:00+00:00';
SELECT slotkeeper.begin_request('k2', 'POST', '/y', 'u1', p_wait => '0') AS reply;
SELECT slotkeeper.begin_request('k2', 'POST', '/x', 'u1', p_wait => '0') AS second \gset
SELECT :'second'::jsonb - 'token' AS second;
SELECT slotkeeper.finish_request(:'reply'::jsonb ->> 'token', 200, '"zombie"') AS finish, slotkeeper.extend_request(:'reply'::jsonb ->> 'token', '1 minute') AS extend,
       slotkeeper.abandon_request(:'reply'::jsonb ->> 'token') AS abandon;
SELECT slotkeeper.finish_request(:'second'::jsonb ->> 'token', 200, '"second"') AS reply;
-- Repeated by the same holder: the same answer, nothing changes; nothing else is his any more.
SELECT slotkeeper.finish_request(:'second'::jsonb ->> 'token', 500, '"other"') AS finish, slotkeeper.extend_request(:'second'::jsonb ->> 'token', '1 minute') AS extend,
       slotkeeper.abandon_request(:'second'::jsonb ->> 'token') AS abandon;
SELECT slotkeeper.finish_request(:'reply'::jsonb ->> 'token', 200, '"zombie"') AS finish;
SELECT slotkeeper.begin_request('k2', 'POST', '/x', 'u1') AS reply;
-- A lease that is over but not taken over may still be used.
SELECT slotkeeper.begin_request('k3', 'POST', '/x', 'u1', p_lease => '1 second') ->> 'token' AS token \gset
SET slotkeeper.now = '2026-01-15T12:06:00+00:00';
SELECT slotkeeper.finish_request(:'token', 204, NULL) AS reply;

-- An error frees the key, for another request too; unless it is to be kept.
SELECT slotkeeper.begin_request('k4', 'POST', '/x', 'u1', '{"title": ""}') ->> 'token' AS token \gset
SELECT slotkeeper.finish_request(:'token', 422, '{"error": "title"}') AS finish, slotkeeper.finish_request(:'token', 422, '{"error": "title"}') AS again;
SELECT slotkeeper.begin_request('k4', 'POST', '/x', 'u1', '{"title": "corrected"}') ->> 'token' AS token \gset
SELECT slotkeeper.finish_request(:'token', 399, '{}') ->> 'outcome' AS finish;
SELECT slotkeeper.begin_request('k5', 'POST', '/x', 'u1') ->> 'token' AS token \gset
SELECT slotkeeper.finish_request(:'token', 503, '"down"', p_keep_errors => true) ->> 'outcome' AS kept;
SELECT slotkeeper.begin_request('k5', 'POST', '/x', 'u1') - 'first_seen' AS reply;
-- Abandoned: free at once.
SELECT slotkeeper.begin_request('k6', 'POST', '/x', 'u1') ->> 'token' AS token \gset
SELECT slotkeeper.abandon_request(:'token') AS abandon, slotkeeper.abandon_request(:'token') AS again;
SELECT slotkeeper.begin_request('k6', 'POST', '/other', 'u1') ->> 'outcome' AS outcome;

-- In one transaction with the work: both or neither, savepoints too; asking again in it is answered at once.
BEGIN;
SELECT slotkeeper.begin_request('t1', 'POST', '/x', 'u1') ->> 'token' AS token \gset
SELECT slotkeeper.begin_request('t1', 'POST', '/x', 'u1') AS own;
SAVEPOINT s;
SELECT slotkeeper.finish_request(:'token', 200, '1') ->> 'outcome' AS finish;
SELECT slotkeeper.begin_request('t1', 'POST', '/x', 'u1') ->> 'outcome' AS own;
ROLLBACK TO s;
SELECT slotkeeper.begin_request('t1', 'POST', '/x', 'u1') ->> 'outcome' AS own;
SELECT slotkeeper.abandon_request(:'token') ->> 'outcome' AS abandon;
SELECT slotkeeper.begin_request('t1', 'POST', '/x', 'u1') ->> 'outcome' AS own;
ROLLBACK;
SELECT slotkeeper.begin_request('t1', 'POST', '/z', 'u1') ->> 'outcome' AS outcome;

-- Expiry counts from the finish and applies at once; what was made is known for one more lifetime.
SET slotkeeper.now = '2026-02-01T00:00:00+00:00';
SELECT slotkeeper.begin_request('e1', 'POST', '/x', 'expiry', p_ttl => '1 hour') ->> 'token' AS token \gset
SET slotkeeper.now = '2026-02-01T00:00:30+00:00';
SELECT slotkeeper.finish_request(:'token', 201, '"body"', '{"a": "b"}', 'thing/7') AS reply;
SET slotkeeper.now = '2026-02-01T01:00:29.999999+00:00';
SELECT slotkeeper.begin_request('e1', 'POST', '/x', 'expiry') ->> 'outcome' AS outcome;
SET slotkeeper.now = '2026-02-01T01:00:30+00:00';
SELECT slotkeeper.begin_request('e1', 'POST', '/x', 'expiry') AS reply;
SELECT slotkeeper.begin_request('e1', 'POST', '/y', 'expiry') ->> 'outcome' AS other;
SET slotkeeper.now = '2026-02-01T02:00:30+00:00';
SELECT slotkeeper.begin_request('e1', 'POST', '/y', 'expiry') - 'token' AS reply;
SELECT count(*) AS rows, count(body) AS bodies FROM slotkeeper.request WHERE user_id = 'expiry';

-- Cleaning up: a begin removes a few, purge_expired the rest, neither a live one.
SELECT slotkeeper.forget_user('expiry') AS reply;
SELECT removed > 0 AS removed, expired FROM jsonb_to_record(slotkeeper.purge_expired()) AS r (removed int, expired int);
SELECT DISTINCT pg_temp.done('c' || n, 'cleaning', '"body"', '1 minute') FROM generate_series(1, 20) AS n;
SELECT slotkeeper.begin_request('held', 'POST', '/x', 'cleaning', p_lease => '1 day', p_ttl => '1 minute') ->> 'outcome' AS outcome;
SELECT slotkeeper.begin_request('lost', 'POST', '/x', 'cleaning', p_lease => '1 second', p_ttl => '1 minute') ->> 'outcome' AS outcome;
SELECT pg_temp.done('long', 'cleaning', '"body"', '366 days') AS long;
-- A row is looked at from the next full minute on.
SET slotkeeper.now = '2026-02-01T02:02:00+00:00';
SELECT slotkeeper.begin_request('other', 'POST', '/x', 'u1') ->> 'outcome' AS outcome;
SELECT count(*) AS rows, count(body) AS bodies, count(resource) AS resources FROM slotkeeper.request WHERE user_id = 'cleaning';
SELECT slotkeeper.purge_expired(5) AS five;
SELECT slotkeeper.purge_expired() AS rest;
SELECT slotkeeper.purge_expired() AS nothing;
SELECT key, body, resource FROM slotkeeper.request WHERE user_id = 'cleaning' AND (body IS NOT NULL OR key IN ('c1', 'held', 'lost')) ORDER BY key;
SET slotkeeper.now = '2026-02-01T02:03:00+00:00';
SELECT slotkeeper.purge_expired() AS reply;
SELECT key, body FROM slotkeeper.request WHERE user_id = 'cleaning' ORDER BY key;
SET slotkeeper.now = '2026-02-02T02:01:00+00:00';
SELECT slotkeeper.purge_expired() AS held;
-- A session sweeps while others don't: what is locked is left alone (see the isolation tests).

-- Forgotten: this user's, whatever their state, and nobody else's.
SELECT pg_temp.done('f1', 'u%', '1'), pg_temp.done('f1', 'uu', '1');
SELECT slotkeeper.begin_request('f2', 'POST', '/x', 'u%') ->> 'token' AS token \gset
SELECT slotkeeper.forget_user('u%') AS reply, slotkeeper.forget_user('u%') AS again;
SELECT slotkeeper.finish_request(:'token', 200, '1') ->> 'outcome' AS finish, slotkeeper.begin_request('f1', 'POST', '/x', 'uu') ->> 'outcome' AS other;

-- The views, by the real clock. Counts are added when a session begins to count, and then every few seconds.
RESET slotkeeper.now;
SELECT pg_temp.done('v1', 'views', '1');
SELECT slotkeeper.begin_request('v2', 'POST', '/x', 'views', p_lease => '1 hour') ->> 'outcome' AS v2,
       slotkeeper.begin_request('v3', 'POST', '/x', 'views', p_lease => '1 millisecond') ->> 'outcome' AS v3;
SELECT pg_sleep(0.01);
SELECT user_id, key, method, path, state, attempt, status, resource, finished_at >= first_seen AS finished, expires_at - finished_at AS kept,
       lease_until > now() AS leased
FROM slotkeeper.recent_requests WHERE user_id = 'views' ORDER BY key;
SELECT pg_sleep(5);
SELECT slotkeeper.begin_request('v1', 'POST', '/x', 'views') ->> 'outcome' AS v1;
SELECT key, replays FROM slotkeeper.recent_requests WHERE user_id = 'views' ORDER BY key;
SELECT started > 30 AS started, replays > 10 AS replays, mismatches, takeovers, answered_in_progress, answered_expired, unprotected,
       keys = (SELECT count(*) FROM slotkeeper.request) AS keys, in_progress > 0 AS in_progress, bytes = pg_total_relation_size('slotkeeper.request') AS bytes
FROM slotkeeper.request_stats;

-- Bad arguments.
SELECT pg_temp.fault(format('SELECT slotkeeper.begin_request(%s)', arguments)) AS fault
FROM (VALUES (1, $$'', 'POST', '/x'$$), (2, $$repeat('k', 256), 'POST', '/x'$$), (3, $$repeat('ü', 255), 'POST', '/x'$$), (4, $$'k', NULL, '/x'$$),
             (5, $$'k', ' ', '/x'$$), (6, $$'k', repeat('P', 33), '/x'$$), (7, $$'k', 'POST', NULL$$), (8, $$'k', 'POST', repeat('/', 2049)$$),
             (9, $$'k', 'POST', '/x', ''$$), (10, $$'k', 'POST', '/x', repeat('u', 256)$$), (11, $$'k', 'POST', '/x', p_lease => NULL$$),
             (12, $$'k', 'POST', '/x', p_lease => '0'$$), (13, $$'k', 'POST', '/x', p_lease => '-1 second'$$), (14, $$'k', 'POST', '/x', p_lease => '25 hours'$$),
             (15, $$'k', 'POST', '/x', p_ttl => '0.5 seconds'$$), (16, $$'k', 'POST', '/x', p_ttl => '1000000 years'$$),
             (17, $$'k', 'POST', '/x', p_wait => '-1 microsecond'$$), (18, $$'k', 'POST', '/x', p_wait => '301 seconds'$$), (19, $$'k', 'POST', '/x', p_wait => NULL$$),
             (20, $$'k', 'POST', '/x', p_request => (repeat('[', 200) || repeat(']', 200))::jsonb$$)) AS v (n, arguments) ORDER BY n;
SELECT slotkeeper.begin_request('limits', 'POST', '/x', 'u1') ->> 'token' AS token \gset
SELECT pg_temp.fault(format('SELECT slotkeeper.finish_request(%s)', replace(arguments, '$', quote_literal(:'token')))) AS fault
FROM (VALUES (1, $$NULL, 200, '1'$$), (2, $$'', 200, '1'$$), (3, $$'abc', 200, '1'$$), (4, $$upper($), 200, '1'$$), (5, $$$, NULL, '1'$$), (6, $$$, 99, '1'$$), (7, $$$, 600, '1'$$),
             (8, $$$, 200, '1', '[]'$$), (9, $$$, 200, '1', '"a"'$$), (10, $$$, 200, '1', NULL, ''$$), (11, $$$, 200, '1', NULL, repeat('r', 256)$$),
             (12, $$$, 200, to_jsonb(repeat('b', 1048576))$$), (13, $$$, 200, to_jsonb(repeat('b', 1000000)), 'null', 'r', NULL$$)) AS v (n, arguments) ORDER BY n;
SELECT length(slotkeeper.begin_request('limits', 'POST', '/x', 'u1') ->> 'body') AS large;
SELECT pg_temp.fault(command) AS fault
FROM (VALUES (1, 'SELECT slotkeeper.extend_request(NULL, NULL)'), (2, 'SELECT slotkeeper.extend_request(repeat(''0'', 64), NULL)'), (3, 'SELECT slotkeeper.extend_request(repeat(''0'', 64), ''1 hour'')'),
             (4, 'SELECT slotkeeper.abandon_request(NULL)'), (5, 'SELECT slotkeeper.abandon_request(''0'')'), (6, 'SELECT slotkeeper.forget_user(NULL)'), (7, 'SELECT slotkeeper.forget_user('''')'),
             (8, 'SELECT slotkeeper.purge_expired(NULL)'), (9, 'SELECT slotkeeper.purge_expired(0)'), (10, 'SELECT slotkeeper.purge_expired(100001)')) AS v (n, command) ORDER BY n;
BEGIN READ ONLY;
SELECT pg_temp.fault('SELECT slotkeeper.begin_request(''k1'', ''POST'', ''/x'')'), pg_temp.fault('SELECT slotkeeper.finish_request(repeat(''0'', 64), 200, NULL)'),
       pg_temp.fault('SELECT slotkeeper.purge_expired()');
COMMIT;

-- The contract's constraint: two rows of one name cannot be, and a key's name depends on user and key.
SELECT count(*) = count(DISTINCT name) AS unique, count(DISTINCT (user_id, key)) = count(*) AS keys FROM slotkeeper.request;
DO 'BEGIN PERFORM slotkeeper.forget_user(user_id) FROM (SELECT DISTINCT user_id FROM slotkeeper.request WHERE user_id IS NOT NULL) AS u; DELETE FROM slotkeeper.request; END';
