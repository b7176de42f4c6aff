-- Every bad input of every function: SQLSTATE, message, detail, hint. And what only looks bad.
SET TimeZone = 'Asia/Kathmandu';
SET DateStyle = 'SQL, DMY';
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
\a
CREATE FUNCTION pg_temp.said(r jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r ->> 'outcome', r ->> 'content_id', r ->> 'scheduled_at',
                     'wanted ' || (r ->> 'requested_at'), 'met ' || (r ->> 'conflicts_with'), 'reason ' || (r ->> 'reason'),
                     'next free ' || (r ->> 'next_free_at'), 'until ' || (r ->> 'horizon_ends_at'),
                     CASE WHEN r ? 'dry_run' THEN 'dry' END)
$$;
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
    RETURN concat_ws(E'\n', state || ': ' || message, coalesce('DETAIL: ' || nullif(detail, ''), 'without DETAIL'),
                     coalesce('HINT: ' || nullif(hint, ''), 'without HINT'));
END
$$;
SELECT slotkeeper.create_queue('faults', 'x', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.assign_next_available_slot('faults', 'x', 'booked') ->> 'outcome' AS outcome;
SELECT md5(string_agg(b::text, '' ORDER BY booking_id)) AS bookings FROM slotkeeper.booking AS b
\gset
SELECT md5(string_agg(q::text, '' ORDER BY queue_id)) AS queues FROM slotkeeper.queue AS q
\gset

-- Each call with one argument wrong; %s stands for it.
CREATE TEMP TABLE call (n int GENERATED ALWAYS AS IDENTITY, sql text, what text);
INSERT INTO call (sql, what) VALUES
    ($$create_queue(%s, 'p', 'UTC', '{}')$$, 'id'), ($$create_queue('p', %s, 'UTC', '{}')$$, 'id'), ($$create_queue('p', 'p', %s, '{}')$$, 'null'), ($$create_queue('p', 'p', 'UTC', %s)$$, 'null'),
    ($$alter_queue(%s, 'x')$$, 'id'), ($$alter_queue('faults', %s)$$, 'id'),
    ($$set_queue_status(%s, 'x', 'paused')$$, 'id'), ($$set_queue_status('faults', %s, 'paused')$$, 'id'), ($$set_queue_status('faults', 'x', %s)$$, 'null'),
    ($$drop_queue(%s, 'x')$$, 'id'), ($$drop_queue('faults', %s)$$, 'id'),
    ($$assign_next_available_slot(%s::text, 'x', 'c')$$, 'id'), ($$assign_next_available_slot('faults', %s, 'c')$$, 'id'), ($$assign_next_available_slot('faults', 'x', %s::text)$$, 'id'),
    ($$assign_next_available_slot('faults', 'x', 'c', p_user_id => %s::text)$$, 'optional'), ($$assign_next_available_slot('faults', 'x', 'c', p_source => %s)$$, 'optional'),
    ($$assign_next_available_slot(%s::uuid, 'x', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid)$$, 'null'), ($$assign_next_available_slot('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, 'x', %s::uuid)$$, 'null'),
    ($$assign_slots(%s)$$, 'null'), ($$assign_slots('[]', %s)$$, 'null'),
    ($$schedule_content(%s, 'x', 'c', now())$$, 'id'), ($$schedule_content('faults', %s, 'c', now())$$, 'id'), ($$schedule_content('faults', 'x', %s, now())$$, 'id'), ($$schedule_content('faults', 'x', 'c', %s)$$, 'null'),
    ($$schedule_content('faults', 'x', 'c', now(), p_user_id => %s)$$, 'optional'), ($$schedule_content('faults', 'x', 'c', now(), p_on_conflict => %s)$$, 'null'), ($$schedule_content('faults', 'x', 'c', now(), p_source => %s)$$, 'optional'),
    ($$reschedule_content(%s, now())$$, 'id'), ($$reschedule_content('booked', %s)$$, 'null'), ($$reschedule_content('booked', now(), %s)$$, 'null'),
    ($$reschedule_content('booked', now(), p_profile_id => %s)$$, 'optional'), ($$reschedule_content('booked', now(), p_platform => %s)$$, 'optional'),
    ($$unschedule_content(%s)$$, 'id'), ($$unschedule_content('booked', p_profile_id => %s)$$, 'optional'), ($$unschedule_content('booked', p_platform => %s)$$, 'optional'),
    ($$grant_access(%s, 'user')$$, 'null'), ($$grant_access('postgres', %s)$$, 'null');
-- NULL.
SELECT c.sql || E'\n' || pg_temp.fault('SELECT slotkeeper.' || format(sql, 'NULL')) AS fault FROM call AS c WHERE what IN ('id', 'null') ORDER BY n;
-- Empty, and blank in several ways.
SELECT c.sql || E'\n' || pg_temp.fault('SELECT slotkeeper.' || format(sql, '''''')) AS fault FROM call AS c WHERE what IN ('id', 'optional') ORDER BY n;
SELECT c.sql AS not_refused, b
FROM call AS c, unnest(ARRAY[$$' '$$, $$E'\t\n'$$, $$E'\u00a0'$$, $$E'\u3000'$$]) AS b
WHERE what IN ('id', 'optional') AND pg_temp.fault('SELECT slotkeeper.' || format(sql, b)) NOT LIKE '22023: % must not be empty%';
-- 256 characters; bytes don't count.
SELECT c.sql || E'\n' || pg_temp.fault('SELECT slotkeeper.' || format(sql, $$repeat('a', 256)$$)) AS fault FROM call AS c WHERE what IN ('id', 'optional') ORDER BY n;
SELECT c.sql AS not_refused FROM call AS c
WHERE what IN ('id', 'optional') AND pg_temp.fault('SELECT slotkeeper.' || format(sql, $$repeat('🗓', 256)$$)) NOT LIKE '22001: % is too long%It has 256 characters; at most 255 are allowed.%';
BEGIN;
SELECT c.sql || ' ' || left(pg_temp.fault('SELECT slotkeeper.' || format(sql, $$repeat('é', 255)$$)), 31) AS longest FROM call AS c WHERE what IN ('id', 'optional') ORDER BY n;
ROLLBACK;
SELECT pg_temp.fault($$SELECT slotkeeper.schedule_content('faults', 'x', repeat('x', 10000000), now())$$);

-- No such queue.
SELECT c || E'\n' || pg_temp.fault('SELECT slotkeeper.' || c) AS fault
FROM unnest(ARRAY[$$alter_queue('faults', 'y')$$, $$set_queue_status('faults', 'y', 'paused')$$, $$drop_queue('faults', 'y')$$, $$drop_queue('faults', 'y', true)$$,
    $$assign_next_available_slot('faults', 'y', 'c')$$, $$assign_next_available_slot('faults', 'y', 'c', p_dry_run => true)$$, $$schedule_content('faults', 'y', 'c', now())$$,
    $$schedule_content('faults', 'y', 'c', now(), p_dry_run => true)$$, $$assign_slots('[{"profile_id": "faults", "platform": "y", "content_id": "c"}]')$$,
    $$assign_next_available_slot('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, 'x', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid)$$,
    $$assign_next_available_slot('fa"ul''ts;', E'\n', 'c')$$]) AS c;

-- Instants: infinite ones are refused, finite ones at the ends of time are none the worse.
SELECT t || ' ' || c || E'\n' || pg_temp.fault('SELECT slotkeeper.' || format(c, t)) AS fault
FROM unnest(ARRAY[$$assign_next_available_slot('faults', 'x', 'c', p_not_before => %L)$$, $$schedule_content('faults', 'x', 'c', %L, p_on_conflict => 'reject')$$, $$reschedule_content('booked', %L, p_on_conflict => 'reject')$$]) AS c,
     unnest(ARRAY['infinity', '-infinity', '294276-12-31 23:59:59.999999+00', '294000-01-01 00:00:00+00', '4713-11-24 00:00:00+00 BC']) AS t
WHERE NOT (c LIKE 'assign%' AND t LIKE '4713%')
ORDER BY c COLLATE "C", t COLLATE "C";
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('faults', 'x', 'c', p_not_before => '4713-11-24 00:00:00+00 BC', p_dry_run => true));
SELECT pg_temp.said(slotkeeper.schedule_content('faults', 'x', 'c', '4713-11-24 00:00:00+00 BC', p_on_conflict => 'reject'));
SELECT pg_temp.said(slotkeeper.schedule_content('faults', 'x', 'c', '294276-12-31 23:59:59.999999+00'));
SELECT local_time, capacity FROM slotkeeper.preview_slots('faults', 'x', '4713-11-24 00:00:00+00 BC', 1);
SELECT local_time, capacity FROM slotkeeper.preview_slots('faults', 'x', '294000-01-01 00:00:00+00', 1);
SELECT count(*) <= 10 AS ends FROM slotkeeper.preview_slots('faults', 'x', '294276-12-31 23:59:59.999999+00', 10);
SELECT pg_temp.fault($$SELECT slotkeeper.create_queue('faults', 'far', 'UTC', '{}', '{"horizon": "1000 years"}')$$);
SET slotkeeper.now = '9999-12-31T23:59:59Z';
SELECT pg_temp.said(slotkeeper.schedule_content('faults', 'far', 'c', '294276-12-31 23:59:59.999999+00', p_dry_run => true));
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
SELECT slotkeeper.drop_queue('faults', 'far') ->> 'outcome' AS outcome;

-- Words that are none of those allowed.
SELECT c || E'\n' || pg_temp.fault('SELECT slotkeeper.' || c) AS fault
FROM unnest(ARRAY[$$schedule_content('faults', 'x', 'c', now(), p_on_conflict => 'next')$$, $$schedule_content('faults', 'x', 'c', now(), p_on_conflict => 'REJECT')$$, $$schedule_content('faults', 'x', 'c', now(), p_on_conflict => '')$$,
    $$reschedule_content('booked', now(), 'move')$$, $$reschedule_content('nobody', now(), 'move')$$, $$reschedule_content('booked', now(), E'a "quoted"\nword')$$,
    $$assign_slots('[]', 'all')$$, $$assign_slots('[]', '')$$, $$set_queue_status('faults', 'x', 'stopped')$$, $$set_queue_status('faults', 'x', '')$$, $$set_queue_status('nobody', 'x', 'stopped')$$]) AS c;

-- JSON that cannot be a timetable, options or items: too deep, too big a number, of another type.
SELECT format(c, v) || E'\n' || regexp_replace(pg_temp.fault('SELECT slotkeeper.' || format(c, v)), ' at line \d+ column \d+', '') AS fault
FROM unnest(ARRAY[$$create_queue('faults', 'y', 'UTC', %s)$$, $$create_queue('faults', 'y', 'UTC', '{}', %s)$$, $$alter_queue('faults', 'x', p_timetable => %s)$$, $$alter_queue('faults', 'x', p_options => %s)$$, $$assign_slots(%s)$$]) AS c,
     unnest(ARRAY[$$(repeat('[', 200) || repeat(']', 200))::jsonb$$, $$(repeat('{"a":', 200) || '1' || repeat('}', 200))::jsonb$$, $$'1e999'$$, $$'[1e999]'$$, $$'{"mon": [{"time": 1e999}], "granule": 1e999}'$$, $$'-1e-999'$$, $$'7'$$, $$'false'$$, $$'null'$$]) AS v
ORDER BY c COLLATE "C", v COLLATE "C";
SELECT pg_temp.fault($$SELECT slotkeeper.assign_slots('[{"profile_id": "faults", "platform": "x", "content_id": 12345678901234567890123}]')$$);

-- Nothing is written in a read-only transaction.
BEGIN READ ONLY;
SELECT c || E'\n' || pg_temp.fault('SELECT slotkeeper.' || c) AS fault
FROM unnest(ARRAY[$$create_queue('faults', 'y', 'UTC', '{}')$$, $$alter_queue('faults', 'x', 'WIB')$$, $$set_queue_status('faults', 'x', 'paused')$$, $$drop_queue('faults', 'x', true)$$,
    $$assign_next_available_slot('faults', 'x', 'c')$$, $$assign_next_available_slot('faults', 'x', 'booked')$$, $$assign_slots('[]')$$, $$assign_slots('[{"profile_id": "faults", "platform": "x", "content_id": "c"}]')$$,
    $$schedule_content('faults', 'x', 'c', now())$$, $$reschedule_content('booked', now())$$, $$unschedule_content('booked')$$, $$unschedule_content('nobody')$$]) AS c;
COMMIT;

-- An argument that is wrong is said before the queue is looked for, and before the transaction's mode.
BEGIN READ ONLY;
SELECT left(pg_temp.fault('SELECT slotkeeper.' || c), 6) AS state
FROM unnest(ARRAY[$$schedule_content('nobody', 'x', '', now())$$, $$schedule_content('nobody', 'x', 'c', 'infinity')$$, $$create_queue('faults', 'x', 'IST', '{}')$$]) AS c;
COMMIT;

-- Overloads and casts that are none of ours.
SELECT pg_temp.fault($$SELECT slotkeeper.assign_next_available_slot('faults', 'x', 1)$$);
SELECT pg_temp.fault($$SELECT slotkeeper.schedule_content('faults', 'x', 'c', 'not a time')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.create_queue('faults', 'y', 'UTC', '{"daily"}')$$);

-- After all of that nothing has changed.
SELECT md5(string_agg(b::text, '' ORDER BY booking_id)) = :'bookings' AS same_bookings FROM slotkeeper.booking AS b;
SELECT md5(string_agg(q::text, '' ORDER BY queue_id)) = :'queues' AS same_queues FROM slotkeeper.queue AS q;
SELECT slotkeeper.drop_queue('faults', 'x', true) ->> 'released' AS released;
