-- create_queue, alter_queue, set_queue_status, drop_queue.
SET TimeZone = 'Pacific/Marquesas';
SET DateStyle = 'SQL, DMY';
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

-- The whole reply once; later only what matters.
SELECT jsonb_pretty(slotkeeper.create_queue('queues', 'TikTok', 'wib', '{"daily": ["06:00", "18:00"]}'));
SELECT pg_temp.keys(slotkeeper.create_queue('queues', 'x', 'Europe/Berlin', '{}', '{"granule": "30s", "horizon": "90 days"}'));

-- A queue exists once; platforms have no case, profiles have.
SELECT pg_temp.fault($$SELECT slotkeeper.create_queue('queues', 'TIKTOK', 'UTC', '{}')$$);
SELECT slotkeeper.create_queue('QUEUES', 'tiktok', 'UTC', '{}') ->> 'outcome' AS other_profile;
SELECT slotkeeper.create_queue('queues', 'tiktok ', 'UTC', '{}') ->> 'outcome' AS other_platform;
SELECT profile_id, '"' || platform || '"' AS platform, time_zone, timetable, options, status, status_reason
FROM slotkeeper.queue WHERE lower(profile_id) = 'queues' ORDER BY profile_id, platform;
SELECT slotkeeper.drop_queue('QUEUES', 'tiktok') ->> 'outcome' AS outcome;
SELECT slotkeeper.drop_queue('queues', 'tiktok ') ->> 'outcome' AS outcome;

-- A timetable in each form comes back as it was given.
SELECT jsonb_pretty(slotkeeper.alter_queue('queues', 'X', p_timetable => '[{"time": -30}, {"time": 1500}]'));
SELECT timetable FROM slotkeeper.queue WHERE profile_id = 'queues' AND platform = 'x';

-- Status: any of the four, with a reason that the next change forgets; booking goes on.
SELECT slotkeeper.set_queue_status('queues', 'TikTok', 'paused', 'holiday') AS reply;
SELECT slotkeeper.set_queue_status('queues', 'tiktok', 'disabled') AS reply;
SELECT slotkeeper.set_queue_status('queues', 'tiktok', 'needs_refresh', '') AS reply;
SELECT slotkeeper.assign_next_available_slot('queues', 'tiktok', 'c1') ->> 'outcome' AS booked_while_stopped;
SELECT status, status_reason FROM slotkeeper.queue WHERE profile_id = 'queues' AND platform = 'tiktok';
SELECT slotkeeper.alter_queue('queues', 'tiktok') ->> 'status' AS alter_keeps_it;
SELECT slotkeeper.set_queue_status('queues', 'tiktok', 'active') AS reply;
SELECT pg_temp.fault($$SELECT slotkeeper.set_queue_status('queues', 'tiktok', 'Paused')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.set_queue_status('queues', 'tiktok', NULL)$$);
SELECT pg_temp.fault($$SELECT slotkeeper.set_queue_status('queues', 'nowhere', 'paused')$$);

-- Options: single keys change, JSON null gives one its default back, other keys keep what they have.
SELECT slotkeeper.alter_queue('queues', 'x', p_options => '{"horizon": "2 weeks"}') -> 'options' AS options;
SELECT slotkeeper.alter_queue('queues', 'x', p_options => '{"granule": null}') -> 'options' AS options;
SELECT slotkeeper.alter_queue('queues', 'x', p_options => '{}') -> 'options' AS options;
SELECT slotkeeper.alter_queue('queues', 'x', p_options => '{"granule": "00:00:15", "horizon": null}') -> 'options' AS options;
SELECT slotkeeper.alter_queue('queues', 'x', p_options => NULL) -> 'options' AS options;
SELECT slotkeeper.create_queue('queues', 'nulls', 'UTC', '{}', NULL) -> 'options' AS null_means_defaults;
SELECT slotkeeper.create_queue('queues', 'nulls2', 'UTC', '{}', '{"granule": null, "horizon": null}') -> 'options' AS so_does_json_null;
SELECT slotkeeper.drop_queue('queues', 'nulls') ->> 'outcome' AS outcome, slotkeeper.drop_queue('queues', 'nulls2') ->> 'outcome' AS outcome;
SELECT pg_temp.fault(format($$SELECT slotkeeper.alter_queue('queues', 'x', p_options => %L)$$, o))
FROM unnest(ARRAY['[]', 'null', '"1 minute"', '{"granule": 60}', '{"granule": "7 minutes"}', '{"granule": "0 seconds"}',
                  '{"granule": "30 minutes"}', '{"granule": "500 ms"}', '{"granule": "1 month"}', '{"granule": "-1 minute"}',
                  '{"horizon": "0 days"}', '{"horizon": "-1 year"}', '{"horizon": "1001 years"}', '{"horizon": "soon"}',
                  '{"horizon": {"days": 1}}', '{"min_gap": "1 hour"}', '{"granula": "1 minute"}', '{"Granule": "1 minute"}']) AS o;
SELECT options AS untouched FROM slotkeeper.queue WHERE profile_id = 'queues' AND platform = 'x';

-- Changing zone or timetable moves nothing; what is off the timetable now is listed.
SELECT slotkeeper.assign_next_available_slot('queues', 'tiktok', 'c' || n) ->> 'scheduled_at' AS at
FROM generate_series(2, 4) AS n;
SELECT slotkeeper.schedule_content('queues', 'tiktok', 'free', '2026-01-20T01:23:45Z') ->> 'scheduled_at' AS off_from_the_start;
SELECT slotkeeper.assign_next_available_slot('queues', 'tiktok', 'bound', p_source => 'posts') ->> 'scheduled_at' AS at;
SELECT r ->> 'outcome' AS outcome, r ->> 'off_timetable_count' AS count, jsonb_pretty(
           (SELECT jsonb_agg(b - 'booking_id' ORDER BY b ->> 'scheduled_at') FROM jsonb_array_elements(r -> 'off_timetable') AS b)) AS off
FROM slotkeeper.alter_queue('queues', 'tiktok', p_timetable => '{"daily": ["06:00", "19:00"]}') AS r;
SELECT (SELECT string_agg(k, ' ' ORDER BY k COLLATE "C") FROM jsonb_object_keys(r -> 'off_timetable' -> 0) AS k) AS keys
FROM slotkeeper.alter_queue('queues', 'tiktok', p_timetable => '{"daily": ["07:00"]}') AS r;
SELECT content_id, to_char(scheduled_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS at
FROM slotkeeper.booking JOIN slotkeeper.queue USING (queue_id)
WHERE profile_id = 'queues' AND platform = 'tiktok' AND released_at IS NULL ORDER BY booking.scheduled_at;
SELECT slotkeeper.alter_queue('queues', 'tiktok', p_timetable => '{"daily": ["06:00", "18:00"]}') ->> 'off_timetable_count' AS back_again;
SELECT r ->> 'time_zone' AS zone, r ->> 'off_timetable_count' AS count FROM slotkeeper.alter_queue('queues', 'tiktok', 'Asia/Tokyo') AS r;
SELECT r ->> 'time_zone' AS zone, r ->> 'off_timetable_count' AS count FROM slotkeeper.alter_queue('queues', 'tiktok', 'WIB') AS r;
-- Bookings of the past are nobody's concern.
SET slotkeeper.now = '2026-01-17T00:00:00+00:00';
SELECT slotkeeper.alter_queue('queues', 'tiktok', p_timetable => '{"daily": ["12:00"]}') ->> 'off_timetable_count' AS in_the_future;
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
SELECT slotkeeper.alter_queue('queues', 'tiktok', p_timetable => '{}') ->> 'off_timetable_count' AS free_form_now;
SELECT slotkeeper.alter_queue('queues', 'tiktok', p_timetable => '{"daily": ["06:00", "18:00"]}') ->> 'outcome' AS outcome;
-- More than a hundred: the first hundred by time, and the number of all.
SELECT slotkeeper.create_queue('queues', 'many', 'UTC', '{"every": "1 hour"}') ->> 'outcome' AS outcome;
SELECT count(*) AS booked FROM generate_series(1, 150) AS n, slotkeeper.assign_next_available_slot('queues', 'many', 'm' || n);
SELECT r ->> 'off_timetable_count' AS count, jsonb_array_length(r -> 'off_timetable') AS listed,
       r -> 'off_timetable' -> 0 ->> 'content_id' AS first, r -> 'off_timetable' -> 99 ->> 'content_id' AS last
FROM slotkeeper.alter_queue('queues', 'many', p_timetable => '{"daily": ["00:30"]}') AS r;
SELECT slotkeeper.drop_queue('queues', 'many', true) AS reply;

-- A malformed change changes nothing, and an unknown queue is none.
SELECT pg_temp.fault($$SELECT slotkeeper.alter_queue('queues', 'tiktok', 'UTC', '{"daily": ["25:00"]}')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.alter_queue('queues', 'tiktok', 'UTC', '{"daily": ["09:00"]}', '{"granule": "1 week"}')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.alter_queue('queues', 'tiktok', 'Mars/Olympus', '{"daily": ["09:00"]}')$$);
SELECT time_zone, timetable FROM slotkeeper.queue WHERE profile_id = 'queues' AND platform = 'tiktok';
SELECT pg_temp.fault($$SELECT slotkeeper.alter_queue('queues', 'nowhere', 'UTC')$$);

-- The granule changes only while nothing is booked in it; the timetable has to fit it.
SELECT pg_temp.fault($$SELECT slotkeeper.alter_queue('queues', 'tiktok', p_options => '{"granule": "30 seconds"}')$$);
SELECT slotkeeper.alter_queue('queues', 'tiktok', p_options => '{"granule": "1 minute"}') ->> 'outcome' AS the_same_one;
SELECT slotkeeper.alter_queue('queues', 'tiktok', p_options => '{"granule": "60 s"}') ->> 'outcome' AS the_same_in_other_words;
SELECT slotkeeper.create_queue('queues', 'fine', 'UTC', '{"daily": ["09:00", "09:05"]}', '{"granule": "5 minutes"}') ->> 'outcome' AS outcome;
SELECT pg_temp.fault($$SELECT slotkeeper.alter_queue('queues', 'fine', p_options => '{"granule": "15 minutes"}')$$);
SELECT slotkeeper.alter_queue('queues', 'fine', p_timetable => '{"daily": ["09:00", "09:15"]}', p_options => '{"granule": "15 minutes"}') ->> 'outcome' AS outcome;
SELECT pg_temp.fault($$SELECT slotkeeper.alter_queue('queues', 'fine', p_timetable => '{"daily": ["09:00", "09:05"]}')$$);
SELECT slotkeeper.schedule_content('queues', 'fine', 'f1', '2026-01-16T09:14:59Z') ->> 'scheduled_at' AS at;
SELECT pg_temp.fault($$SELECT slotkeeper.alter_queue('queues', 'fine', p_options => '{"granule": "1 minute"}')$$);
SELECT slotkeeper.unschedule_content('f1', 'queues', 'fine') ->> 'outcome' AS outcome;
SELECT slotkeeper.alter_queue('queues', 'fine', p_options => '{"granule": "1 minute"}') -> 'options' ->> 'granule' AS granule;
-- A past booking is live too: its granule counts.
SELECT slotkeeper.schedule_content('queues', 'fine', 'f2', '2026-01-16T09:14:59Z') ->> 'outcome' AS outcome;
SET slotkeeper.now = '2026-02-01T00:00:00Z';
SELECT pg_temp.fault($$SELECT slotkeeper.alter_queue('queues', 'fine', p_options => '{"granule": "30 s"}')$$);
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
-- What was published keeps its seat for ever and can't be unscheduled: it is no obstacle, and counted in the new granule.
BEGIN;
SET LOCAL slotkeeper.now = '2026-01-16T09:20:00Z';
SELECT slotkeeper.claim_content('f2', 'w', p_profile_id => 'queues', p_platform => 'fine') AS claimed \gset
SELECT pg_temp.fault($$SELECT slotkeeper.alter_queue('queues', 'fine', p_options => '{"granule": "30 s"}')$$);
SELECT slotkeeper.begin_publish(:'claimed'::jsonb ->> 'lease_token') ->> 'outcome' AS begun;
SELECT slotkeeper.confirm_publish(:'claimed'::jsonb ->> 'lease_token') ->> 'outcome' AS confirmed;
SELECT slotkeeper.alter_queue('queues', 'fine', p_options => '{"granule": "30 s"}') -> 'options' ->> 'granule' AS granule;
SELECT b.scheduled_at = to_timestamp(b.granule * 30 + 29) AS counted_anew, b.seat FROM slotkeeper.booking AS b
WHERE b.content_id = 'f2' AND b.released_at IS NULL;
SET LOCAL slotkeeper.now = '2026-01-15T12:00:00Z';
SELECT r ->> 'outcome' AS outcome, r ->> 'scheduled_at' AS at
FROM unnest(ARRAY['2026-01-16T09:14:31Z', '2026-01-16T09:14:29Z']::timestamptz[]) WITH ORDINALITY AS wish (at, n),
     slotkeeper.schedule_content('queues', 'fine', 'f' || n + 2, wish.at, p_on_conflict => 'next_free') AS r;
SELECT slotkeeper.assign_next_available_slot('queues', 'fine', 'f2') ->> 'outcome' AS outcome;
ROLLBACK;

-- Dropping: refused while bookings are live; with force they are lost, and said so.
SELECT pg_temp.fault($$SELECT slotkeeper.drop_queue('queues', 'fine')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.drop_queue('queues', 'fine', NULL)$$);
SELECT slotkeeper.drop_queue('queues', 'FINE', p_force => true) AS reply;
SELECT pg_temp.fault($$SELECT slotkeeper.drop_queue('queues', 'fine')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.drop_queue('queues', 'fine', true)$$);
-- The same name again is another queue, with nothing in it.
SELECT slotkeeper.create_queue('queues', 'fine', 'UTC', '{"daily": ["09:14"]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.assign_next_available_slot('queues', 'fine', 'f2') ->> 'outcome' AS outcome;
SELECT slotkeeper.unschedule_content('f2', 'queues', 'fine') ->> 'outcome' AS outcome;
SELECT slotkeeper.drop_queue('queues', 'fine') ->> 'released' AS released;

-- All of it vanishes with the transaction.
BEGIN;
SELECT slotkeeper.create_queue('queues', 'ghost', 'UTC', '{}') ->> 'outcome' AS outcome;
SELECT slotkeeper.schedule_content('queues', 'ghost', 'g1', '2026-02-01T00:00:00Z') ->> 'outcome' AS outcome;
ROLLBACK;
SELECT pg_temp.fault($$SELECT slotkeeper.schedule_content('queues', 'ghost', 'g1', '2026-02-01T00:00:00Z')$$);
BEGIN;
SELECT slotkeeper.alter_queue('queues', 'tiktok', p_timetable => '{"daily": ["03:00"]}') ->> 'outcome' AS outcome;
SELECT local_time FROM slotkeeper.preview_slots('queues', 'tiktok', p_count => 1);
ROLLBACK;
SELECT local_time FROM slotkeeper.preview_slots('queues', 'tiktok', p_count => 1);

SELECT slotkeeper.drop_queue('queues', 'tiktok', true) ->> 'released' AS released;
SELECT slotkeeper.drop_queue('queues', 'x', true) ->> 'released' AS released;
SELECT count(*) AS left_behind FROM slotkeeper.queue WHERE lower(profile_id) = 'queues';
