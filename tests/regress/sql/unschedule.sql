-- unschedule_content.
SET TimeZone = 'Africa/Monrovia';
SET DateStyle = 'ISO, YMD';
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
    RETURN concat_ws(E'\n', state || ': ' || message, 'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END
$$;
SELECT slotkeeper.create_queue('unschedule', 'x', 'WITA', '{"daily": [{"time": "09:00", "ref": "nine"}]}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('unschedule', 'x', 'a' || n, 'u1')) FROM generate_series(1, 4) AS n;

-- The reply tells the seat it had; a second time there is nothing.
SELECT jsonb_pretty(slotkeeper.unschedule_content('a2') - 'booking_id') AS reply;
SELECT pg_temp.keys(slotkeeper.unschedule_content('a2'));
SELECT slotkeeper.unschedule_content('a2', 'unschedule', 'X', 'posts') AS reply;
SELECT pg_temp.keys(slotkeeper.unschedule_content('a3'));
-- The first seat given back is the first to be found; then the next; then the end of the queue.
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('unschedule', 'x', 'b' || n)) FROM generate_series(1, 3) AS n;
-- Who was unscheduled may come again, as new.
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('unschedule', 'x', 'a2'));
SELECT pg_temp.said(slotkeeper.unschedule_content('a2', 'unschedule'));
SELECT pg_temp.said(slotkeeper.schedule_content('unschedule', 'x', 'a2', '2026-01-20T01:00:00Z'));

-- The row stays, released, as history; by whom and when.
SELECT content_id, count(*) AS rows, count(*) FILTER (WHERE released_at IS NULL) AS live,
       bool_and(released_by = current_user) AS by_me, bool_and(released_at = '2026-01-15T12:00:00Z') AS then
FROM slotkeeper.booking JOIN slotkeeper.queue USING (queue_id)
WHERE profile_id = 'unschedule' AND content_id IN ('a2', 'a3') GROUP BY content_id ORDER BY content_id;

-- A seat given back in a transaction is free for the rest of it, and held again when it is rolled back.
BEGIN;
SELECT pg_temp.said(slotkeeper.unschedule_content('a1'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('unschedule', 'x', 'c1'));
ROLLBACK;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('unschedule', 'x', 'a1'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('unschedule', 'x', 'c1'));
BEGIN;
SAVEPOINT s;
SELECT pg_temp.said(slotkeeper.unschedule_content('a1'));
ROLLBACK TO s;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('unschedule', 'x', 'c2'));
SELECT pg_temp.said(slotkeeper.unschedule_content('a1'));
COMMIT;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('unschedule', 'x', 'c3'));

-- A free-form instant comes back too, to schedule and to next_free.
SELECT pg_temp.said(slotkeeper.schedule_content('unschedule', 'x', 'f1', '2026-01-20T05:05:05Z'));
SELECT pg_temp.said(slotkeeper.schedule_content('unschedule', 'x', 'f2', '2026-01-20T05:05:30Z', p_on_conflict => 'reject'));
SELECT pg_temp.said(slotkeeper.unschedule_content('f1'));
SELECT pg_temp.said(slotkeeper.schedule_content('unschedule', 'x', 'f2', '2026-01-20T05:05:30Z', p_on_conflict => 'reject'));

-- Out of a slot of three, the seat that was left.
SELECT slotkeeper.create_queue('unschedule', 'three', 'UTC', '{"daily": [{"time": "12:00", "capacity": 3}]}') ->> 'outcome' AS outcome;
SELECT count(slotkeeper.assign_next_available_slot('unschedule', 'three', 's' || n)) AS booked FROM generate_series(1, 7) AS n;
SELECT pg_temp.said(slotkeeper.unschedule_content('s2'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('unschedule', 'three', 's8'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('unschedule', 'three', 's9'));
SELECT content_id, seat FROM slotkeeper.booking JOIN slotkeeper.queue USING (queue_id)
WHERE profile_id = 'unschedule' AND platform = 'three' AND released_at IS NULL ORDER BY granule, seat;

-- Past bookings can be given back too, and their seats stay in the past.
SET slotkeeper.now = '2026-01-17T12:00:01+00:00';
SELECT pg_temp.said(slotkeeper.unschedule_content('s1'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('unschedule', 'three', 's10'));
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';

SELECT count(slotkeeper.drop_queue(profile_id, platform, true)) AS dropped FROM slotkeeper.queue WHERE profile_id = 'unschedule';
SELECT pg_temp.said(slotkeeper.unschedule_content('b1')) AS with_its_queue;
