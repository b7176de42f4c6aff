-- assign_next_available_slot.
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
    RETURN concat_ws(E'\n', state || ': ' || message, 'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END
$$;

-- Scenario A1, one after the other: six TikTok contents of one profile, 06:00 WIB on six days.
SELECT slotkeeper.create_queue('assign', 'tiktok', 'Asia/Jakarta', '{"daily": ["06:00"]}') ->> 'outcome' AS outcome;
SELECT jsonb_pretty(slotkeeper.assign_next_available_slot('assign', 'TikTok', 'a1', 'u7') - 'booking_id') AS reply;
SELECT pg_temp.keys(slotkeeper.assign_next_available_slot(p_profile_id => 'assign', p_platform => 'tiktok', p_content_id => 'a2', p_user_id => NULL));
SELECT r ->> 'content_id' AS content, r ->> 'local_time' AS at
FROM generate_series(3, 6) AS n, slotkeeper.assign_next_available_slot('assign', 'tiktok', 'a' || n) AS r;
SELECT count(DISTINCT r ->> 'booking_id') AS bookings, bool_and((r ->> 'booking_id')::bigint > 0) AS positive
FROM generate_series(1, 6) AS n, slotkeeper.assign_next_available_slot('assign', 'tiktok', 'a' || n) AS r;

-- The same content again is the same seat again, whatever else is said: with its own user and time.
SELECT pg_temp.keys(slotkeeper.assign_next_available_slot('assign', 'tiktok', 'a1', 'somebody else', '2026-06-01T00:00:00Z'));
SELECT r ->> 'outcome' AS outcome, r ->> 'user_id' AS "user", r ->> 'scheduled_at' AS at
FROM slotkeeper.assign_next_available_slot('assign', 'TIKTOK', 'a1', 'somebody else', '2026-06-01T00:00:00Z') AS r;
-- In another queue, or from another source, it is another booking.
SELECT slotkeeper.create_queue('assign', 'x', 'Asia/Jakarta', '{"daily": ["06:00"]}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'x', 'a1'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'x', 'a1', p_source => 'posts'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'x', 'a1', p_source => 'Posts'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'x', 'A1'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'x', 'a1', p_source => 'posts'));

-- p_not_before: a slot at the very instant counts, one before it doesn't; the past is now.
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'x', 'b1', p_not_before => '2026-02-01T23:00:00Z'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'x', 'b2', p_not_before => '2026-02-02T23:00:00.000001Z'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'x', 'b3', p_not_before => '2026-02-01T00:00:00Z'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'x', 'b4', p_not_before => '1999-01-01T00:00:00Z'));
SET slotkeeper.now = '2026-01-20T23:00:00+00:00';
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'x', 'b5')) AS a_slot_that_is_now;
SET slotkeeper.now = '2026-01-21T23:00:00.000001+00:00';
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'x', 'b6')) AS a_slot_just_missed;
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';

-- Capacity: so many contents share a slot, each with its own booking.
SELECT slotkeeper.create_queue('assign', 'seats', 'UTC', '{"daily": [{"time": "18:00", "capacity": 3, "ref": "evening"}]}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(r) || ' ' || (r ->> 'slot_ref') AS said
FROM generate_series(1, 5) AS n, slotkeeper.assign_next_available_slot('assign', 'seats', 's' || n) AS r;

-- The horizon: the slot at its very end counts.
SELECT slotkeeper.create_queue('assign', 'short', 'UTC', '{"daily": ["12:00"]}', '{"horizon": "2 days"}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'short', 'h' || n)) FROM generate_series(1, 4) AS n;
SELECT pg_temp.keys(slotkeeper.assign_next_available_slot('assign', 'short', 'h4'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'seats', 'far', p_not_before => '2027-01-15T12:00:00.000001Z'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'seats', 'far', p_not_before => '2126-01-15T12:00:00Z'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'short', 'h1')) AS still_there;
SET slotkeeper.now = '2026-01-15T12:00:01+00:00';
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'short', 'h4')) AS a_second_later;
SET slotkeeper.now = '2026-01-16T12:00:00+00:00';
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'short', 'h4')) AS a_day_later;
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
-- A month's end: a horizon of months ends on the target month's last day.
SET slotkeeper.now = '2026-01-31T12:00:00+00:00';
SELECT slotkeeper.create_queue('assign', 'month', 'UTC', '{"daily": ["12:00"]}', '{"horizon": "1 month"}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'month', 'm1', p_not_before => '2026-02-28T12:00:00Z'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'month', 'm2', p_not_before => '2026-02-28T12:00:00Z'));
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';

-- Free-form queues have no timetable: the next free granule.
SELECT slotkeeper.create_queue('assign', 'free', 'WIB', '{}', '{"granule": "5 minutes"}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'free', 'f' || n)) FROM generate_series(1, 3) AS n;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'free', 'f4', p_not_before => '2026-01-15T12:21:00Z'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'free', 'f5', p_not_before => '2026-01-15T12:21:00Z'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'free', 'f6'));

-- Dry runs say what would happen, and write nothing.
SELECT count(*) AS bookings_before FROM slotkeeper.booking
\gset
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'tiktok', 'd1', p_dry_run => true));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'tiktok', 'd2', p_dry_run => true));
SELECT pg_temp.keys(slotkeeper.assign_next_available_slot('assign', 'tiktok', 'd1', p_dry_run => true));
SELECT r -> 'booking_id' AS no_booking FROM slotkeeper.assign_next_available_slot('assign', 'tiktok', 'd1', p_dry_run => true) AS r;
SELECT pg_temp.keys(slotkeeper.assign_next_available_slot('assign', 'tiktok', 'a1', p_dry_run => true));
SELECT r -> 'booking_id' <> 'null' AS its_booking FROM slotkeeper.assign_next_available_slot('assign', 'tiktok', 'a1', p_dry_run => true) AS r;
SELECT pg_temp.keys(slotkeeper.assign_next_available_slot('assign', 'month', 'm2', p_not_before => '2027-06-01T00:00:00Z', p_dry_run => true));
BEGIN READ ONLY;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'tiktok', 'd1', p_dry_run => true)) AS also_when_read_only;
COMMIT;
SELECT count(*) - :bookings_before AS written FROM slotkeeper.booking;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('assign', 'tiktok', 'd1', p_dry_run => false)) AS really;

-- uuids: the same ledger as their text, found through either signature.
SELECT slotkeeper.create_queue('6f9619ff-8b86-d011-b42d-00cf4fc964ff', 'instagram', 'WIB', '{"daily": ["02:00"]}') ->> 'outcome' AS outcome;
SELECT r ->> 'outcome' AS outcome, r ->> 'profile_id' AS profile, r ->> 'content_id' AS content, r ->> 'user_id' AS "user", r ->> 'local_time' AS at
FROM slotkeeper.assign_next_available_slot('6F9619FF-8B86-D011-B42D-00CF4FC964FF'::uuid, 'Instagram', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12'::uuid) AS r;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('6f9619ff-8b86-d011-b42d-00cf4fc964ff', 'instagram', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')) AS as_text;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot(p_profile_id => '6f9619ff-8b86-d011-b42d-00cf4fc964ff'::uuid, p_platform => 'instagram', p_content_id => 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a13'::uuid,
    p_not_before => '2026-02-01T00:00:00Z', p_dry_run => true, p_source => 'contents')) AS all_arguments;
-- What a client sends, parameters of no declared type included: the text form.
PREPARE untyped AS SELECT pg_temp.said(slotkeeper.assign_next_available_slot($1, $2, $3, $4));
EXECUTE untyped('6f9619ff-8b86-d011-b42d-00cf4fc964ff', 'instagram', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a13', NULL);
DEALLOCATE untyped;

-- Many in one statement, from a query; and again.
SELECT count(DISTINCT r ->> 'scheduled_at') AS slots, count(*) FILTER (WHERE r ->> 'outcome' = 'assigned') AS assigned
FROM generate_series(1, 200) AS n, slotkeeper.assign_next_available_slot('assign', 'x', 'many' || n) AS r;
SELECT count(DISTINCT r ->> 'scheduled_at') AS slots, count(*) FILTER (WHERE r ->> 'outcome' = 'already_assigned') AS again
FROM generate_series(1, 200) AS n, slotkeeper.assign_next_available_slot('assign', 'x', 'many' || n) AS r;

-- Identifiers are the application's: anything that is not blank.
SELECT slotkeeper.create_queue(id, id, 'UTC', '{"daily": ["09:00"]}') ->> 'profile_id' = id AS kept,
       slotkeeper.assign_next_available_slot(id, id, id, id, p_source => id) ->> 'outcome' AS first,
       slotkeeper.assign_next_available_slot(id, id, id, id, p_source => id) ->> 'outcome' AS again,
       slotkeeper.reschedule_content(id, '2026-02-01T09:00:00Z', p_profile_id => id, p_platform => id, p_source => id) ->> 'outcome' AS moved,
       slotkeeper.unschedule_content(id, id, id, id) ->> 'content_id' = id AS released,
       slotkeeper.drop_queue(id, id) ->> 'outcome' AS dropped
FROM unnest(ARRAY['''; DROP TABLE slotkeeper.booking; --', '"', '\', E'a\nb\tc', '$1', '%s', '{}', 'NULL', 'naïve ☃ 🗓', E'\u200bzero', ' padded ', '0', repeat('🗓', 255), E'\x01']) AS id;

SELECT count(slotkeeper.drop_queue(profile_id, platform, true)) AS dropped FROM slotkeeper.queue
WHERE profile_id IN ('assign', '6f9619ff-8b86-d011-b42d-00cf4fc964ff');
