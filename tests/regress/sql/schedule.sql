-- schedule_content: an instant of the caller's choice.
SET TimeZone = 'America/St_Johns';
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

-- Scenario B1: 14:30 taken, the next slot of that queue.
SELECT slotkeeper.create_queue('schedule', 'x', 'UTC', '{"daily": ["14:30", "18:30"]}') ->> 'outcome' AS outcome;
SELECT jsonb_pretty(slotkeeper.schedule_content('schedule', 'X', 'p1', '2026-01-16T14:30:00Z', 'u1') - 'booking_id') AS reply;
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'x', 'p2', '2026-01-16T14:30:00Z'));
-- B2: five posts within one minute, five different slots.
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'x', 'q' || n, '2026-01-16T14:30:00Z'::timestamptz + n * interval '7 seconds')) FROM generate_series(1, 5) AS n;
-- B6: another integration's post in the same minute is no collision.
SELECT slotkeeper.create_queue('schedule', 'linkedin', 'UTC', '{"daily": ["14:30"]}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'linkedin', 'p1', '2026-01-16T14:30:00Z'));
-- B5: 14:30:00 and 14:30:15. One minute: one moves. Fifteen seconds: both stay.
SELECT slotkeeper.create_queue('schedule', 'minute', 'UTC', '{}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'minute', 'm1', '2026-01-16T14:30:00Z'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'minute', 'm2', '2026-01-16T14:30:15Z'));
SELECT slotkeeper.create_queue('schedule', 'quarter', 'UTC', '{}', '{"granule": "15 seconds"}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'quarter', 'm1', '2026-01-16T14:30:00Z'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'quarter', 'm2', '2026-01-16T14:30:15Z'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'quarter', 'm3', '2026-01-16T14:30:29.999999Z'));

-- Keys of each outcome.
SELECT pg_temp.keys(slotkeeper.schedule_content('schedule', 'linkedin', 'k1', '2026-01-17T14:30:00Z'));
SELECT pg_temp.keys(slotkeeper.schedule_content('schedule', 'linkedin', 'k1', '2026-01-17T14:30:00Z'));
SELECT pg_temp.keys(slotkeeper.schedule_content('schedule', 'linkedin', 'k2', '2026-01-17T14:30:00Z'));
SELECT pg_temp.keys(slotkeeper.schedule_content('schedule', 'linkedin', 'k3', '2026-01-17T14:30:00Z', p_on_conflict => 'reject'));
SELECT pg_temp.keys(slotkeeper.schedule_content('schedule', 'linkedin', 'k3', '2026-01-14T14:30:00Z', p_on_conflict => 'reject'));
SELECT pg_temp.keys(slotkeeper.schedule_content('schedule', 'linkedin', 'k3', '2027-01-15T12:00:01Z'));
SELECT pg_temp.keys(slotkeeper.schedule_content('schedule', 'linkedin', 'k3', '2026-01-14T14:30:00Z'));

-- The same content again: the same slot again, whatever the instant.
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'x', 'p1', '2026-03-01T00:00:00Z'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'x', 'p1', '2026-03-01T00:00:00Z', p_on_conflict => 'reject'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('schedule', 'x', 'p1'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'x', 'p1', '2026-03-01T00:00:00Z', p_source => 'posts')) AS another_source_is_another_content;

-- What to do where it is taken: next free seat of the timetable, next free granule, nothing.
SELECT slotkeeper.create_queue('schedule', 'ways', 'UTC', '{"daily": ["09:00", "09:01", "17:00"]}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'ways', 'w1', '2026-01-20T09:00:00Z'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'ways', 'w2', '2026-01-20T09:00:00Z', p_on_conflict => 'reject'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'ways', 'w2', '2026-01-20T09:00:00Z', p_on_conflict => 'next_free'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'ways', 'w3', '2026-01-20T09:00:00Z', p_on_conflict => 'next_free'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'ways', 'w4', '2026-01-20T09:00:00Z', p_on_conflict => 'next_slot'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'ways', 'w5', '2026-01-20T09:00:00Z', p_on_conflict => 'reject'));
-- A free-form instant between slots is just that, and the next granule's seat where it is taken.
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'ways', 'w6', '2026-01-20T11:11:11Z'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'ways', 'w7', '2026-01-20T11:11:59Z', p_on_conflict => 'next_free'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'ways', 'w8', '2026-01-20T11:11:59Z', p_on_conflict => 'next_slot'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'ways', 'w9', '2026-01-20T11:12:59.999999Z', p_on_conflict => 'reject'));
-- An instant inside a slot's granule takes one of its seats: the slot is full then, and so is its granule.
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'ways', 'inside', '2026-01-22T17:00:40Z'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('schedule', 'ways', 'slot', p_not_before => '2026-01-22T17:00:00Z'));
SELECT slot_at = '2026-01-22T17:00:00Z' AS slot, capacity, taken, content_ids FROM slotkeeper.preview_slots('schedule', 'ways', '2026-01-22T17:00:00Z', 1);

-- A capacity of two: two contents at once, or one at the slot and one beside it inside its granule.
SELECT slotkeeper.create_queue('schedule', 'two', 'UTC', '{"daily": [{"time": "12:00", "capacity": 2, "ref": "noon"}]}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(r), r ->> 'slot_ref' AS ref FROM generate_series(1, 3) AS n, slotkeeper.schedule_content('schedule', 'two', 'c' || n, '2026-01-20T12:00:00Z', p_on_conflict => 'next_free') AS r;
SELECT pg_temp.said(r), r ->> 'slot_ref' AS ref FROM generate_series(4, 6) AS n, slotkeeper.schedule_content('schedule', 'two', 'c' || n, '2026-01-21T12:00:30Z') AS r;
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'two', 'c7', '2026-01-20T12:01:00Z', p_on_conflict => 'reject')) AS beside_a_slot_there_is_one_seat;

-- The past becomes now; reject says so instead.
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'minute', 'past1', '2026-01-15T11:59:59Z'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'minute', 'past2', '1970-01-01T00:00:00Z'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'minute', 'past3', '1970-01-01T00:00:00Z', p_on_conflict => 'next_free'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'minute', 'past4', '2026-01-15T11:59:59.999999Z', p_on_conflict => 'reject'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'minute', 'now', '2026-01-15T12:05:00Z', p_on_conflict => 'reject'));
SET slotkeeper.now = '2026-01-15T12:05:00+00:00';
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'quarter', 'now', '2026-01-15T12:05:00Z', p_on_conflict => 'reject')) AS now_is_not_past;
SET slotkeeper.now = '2026-01-15T12:07:30.5+00:00';
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'minute', 'past5', '2026-01-15T12:00:00Z')) AS to_the_microsecond;
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'minute', 'past6', '2026-01-15T12:00:00Z', p_on_conflict => 'reject')) AS next_free_is_not_past;
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'x', 'past7', '2026-01-15T12:00:00Z')) AS also_with_a_timetable;
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';

-- The horizon: its last instant counts; beyond it nothing is booked, and nothing is looked for.
SELECT slotkeeper.create_queue('schedule', 'near', 'UTC', '{"daily": ["12:00"]}', '{"horizon": "1 day"}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'near', 'n1', '2026-01-16T12:00:00.000001Z'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'near', 'n1', '2026-01-16T12:00:00.000001Z', p_on_conflict => 'reject'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'near', 'n1', '2026-01-16T12:00:00Z'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'near', 'n2', '2026-01-16T12:00:00Z'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'near', 'n2', '2026-01-16T12:00:00Z', p_on_conflict => 'next_free'));
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'near', 'n2', '2026-01-16T12:00:00Z', p_on_conflict => 'reject')) AS nothing_free_after_it;
SELECT pg_temp.keys(slotkeeper.schedule_content('schedule', 'near', 'n2', '2026-01-16T12:00:00Z'));

-- Free-form only: next_slot means next_free.
SELECT slotkeeper.create_queue('schedule', 'free', 'Asia/Kolkata', '{}', '{"granule": "15 minutes"}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'free', 'f' || n, '2026-01-16T10:07:00Z', p_on_conflict => w))
FROM (VALUES (1, 'next_slot'), (2, 'next_slot'), (3, 'next_free'), (4, 'next_slot'), (5, 'reject')) AS v (n, w);
SELECT r ->> 'local_time' AS local, r ->> 'time_zone' AS zone, r -> 'slot_ref' AS ref FROM slotkeeper.schedule_content('schedule', 'free', 'f1', now()) AS r;

-- Dry runs.
SELECT count(*) AS bookings_before FROM slotkeeper.booking
\gset
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'ways', 'd1', at, p_on_conflict => way, p_dry_run => true))
FROM unnest(ARRAY['2026-01-20T09:00:00Z', '2026-01-24T09:00:00Z', '2026-01-14T09:00:00Z', '2028-01-14T09:00:00Z']::timestamptz[]) AS at, unnest(ARRAY['next_slot', 'next_free', 'reject']) AS way
ORDER BY way COLLATE "C", at;
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'ways', 'w1', '2026-01-24T09:00:00Z', p_dry_run => true));
SELECT pg_temp.keys(slotkeeper.schedule_content('schedule', 'ways', 'd1', '2026-01-20T09:00:00Z', p_dry_run => true));
BEGIN READ ONLY;
SELECT pg_temp.said(slotkeeper.schedule_content('schedule', 'ways', 'd1', '2026-01-20T09:00:00Z', p_dry_run => true)) AS also_when_read_only;
COMMIT;
SELECT count(*) - :bookings_before AS written FROM slotkeeper.booking;

SELECT count(slotkeeper.drop_queue(profile_id, platform, true)) AS dropped FROM slotkeeper.queue WHERE profile_id = 'schedule';
