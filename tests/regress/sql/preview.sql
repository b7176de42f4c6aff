-- preview_slots.
SET TimeZone = 'Asia/Tehran';
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
    RETURN concat_ws(E'\n', state || ': ' || message, 'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END
$$;
CREATE FUNCTION pg_temp.shown(p_profile_id text, p_platform text, p_from timestamptz DEFAULT NULL, p_count int DEFAULT 10) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT to_char(slot_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' ' || local_time || ' ' || taken || '/' || capacity || ' ' || content_ids::text
    FROM slotkeeper.preview_slots(p_profile_id, p_platform, p_from, p_count)
$$;
SELECT slotkeeper.create_queue('preview', 'x', 'Asia/Jakarta', '{"daily": ["06:00", {"time": "18:00", "capacity": 3}]}') ->> 'outcome' AS outcome;
SELECT * FROM pg_temp.shown('preview', 'X', p_count => 3);
SELECT count(*) AS ten FROM slotkeeper.preview_slots('preview', 'x');
SELECT count(slotkeeper.assign_next_available_slot('preview', 'x', 'p' || n)) AS booked FROM generate_series(1, 3) AS n;
SELECT pg_temp.said(slotkeeper.schedule_content('preview', 'x', 'inside', '2026-01-16T11:00:59Z'));
SELECT pg_temp.said(slotkeeper.schedule_content('preview', 'x', 'beside', '2026-01-16T11:01:00Z'));
SELECT * FROM pg_temp.shown('preview', 'x', p_count => 3);
SELECT slotkeeper.unschedule_content('p2') ->> 'outcome' AS outcome;
SELECT * FROM pg_temp.shown('preview', 'x', p_count => 3);
-- From an instant on, itself included; the past and what is beyond the horizon are shown as well.
SELECT * FROM pg_temp.shown('preview', 'x', '2026-01-16T11:00:00Z', 1);
SELECT * FROM pg_temp.shown('preview', 'x', '2026-01-16T11:00:00.000001Z', 1);
SELECT * FROM pg_temp.shown('preview', 'x', '1999-12-31T23:00:00Z', 2);
SELECT * FROM pg_temp.shown('preview', 'x', '2345-06-07T00:00:00Z', 2);
-- Seats above a lowered capacity are still taken.
SELECT slotkeeper.alter_queue('preview', 'x', p_timetable => '{"daily": ["18:00"]}') ->> 'outcome' AS outcome;
SELECT * FROM pg_temp.shown('preview', 'x', p_count => 2);
-- Nothing in a free-form queue, nothing for a count of 0.
SELECT slotkeeper.create_queue('preview', 'free', 'UTC', '{}') ->> 'outcome' AS outcome;
SELECT count(*) FROM slotkeeper.preview_slots('preview', 'free');
SELECT count(*) FROM slotkeeper.preview_slots('preview', 'x', p_count => 0);
SELECT count(*), count(DISTINCT slot_at) FROM slotkeeper.preview_slots('preview', 'x', p_count => 10000);
-- It only reads: in a read-only transaction, and as its statement sees things.
BEGIN READ ONLY;
SELECT * FROM pg_temp.shown('preview', 'x', p_count => 1);
COMMIT;
BEGIN;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('preview', 'x', 'mine'));
SELECT * FROM pg_temp.shown('preview', 'x', '2026-01-17T00:00:00Z', 1);
ROLLBACK;
SELECT * FROM pg_temp.shown('preview', 'x', '2026-01-17T00:00:00Z', 1);
SELECT c ->> 'outcome' AS outcome, (SELECT count(*) FROM slotkeeper.preview_slots('preview', 'x', p_count => 2) WHERE taken > 0) AS taken
FROM slotkeeper.assign_next_available_slot('preview', 'x', 'next') AS c;
-- Types, whatever the client's settings.
SELECT pg_typeof(slot_at) AS slot_at, pg_typeof(local_time) AS local_time, pg_typeof(capacity) AS capacity, pg_typeof(taken) AS taken, pg_typeof(content_ids) AS content_ids
FROM slotkeeper.preview_slots('preview', 'x', p_count => 1);
SELECT slot_at FROM slotkeeper.preview_slots('preview', 'x', p_count => 1);
SET TimeZone = 'Asia/Jakarta';
SELECT slot_at FROM slotkeeper.preview_slots('preview', 'x', p_count => 1);

SELECT pg_temp.fault($$SELECT to_jsonb(s) FROM slotkeeper.preview_slots('preview', 'nowhere') AS s$$);
SELECT pg_temp.fault($$SELECT to_jsonb(s) FROM slotkeeper.preview_slots('preview', 'x', p_count => -1) AS s$$);
SELECT pg_temp.fault($$SELECT to_jsonb(s) FROM slotkeeper.preview_slots('preview', 'x', p_count => 10001) AS s$$);
SELECT pg_temp.fault($$SELECT to_jsonb(s) FROM slotkeeper.preview_slots('preview', 'x', p_count => NULL) AS s$$);
SELECT pg_temp.fault($$SELECT to_jsonb(s) FROM slotkeeper.preview_slots('preview', 'x', 'infinity') AS s$$);
SELECT pg_temp.fault($$SELECT to_jsonb(s) FROM slotkeeper.preview_slots('preview', 'x', '-infinity') AS s$$);

SELECT count(slotkeeper.drop_queue(profile_id, platform, true)) AS dropped FROM slotkeeper.queue WHERE profile_id = 'preview';
