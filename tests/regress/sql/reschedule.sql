-- reschedule_content.
SET TimeZone = '<+1234>-12:34';
SET DateStyle = 'Postgres, DMY';
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
SELECT slotkeeper.create_queue('reschedule', 'x', 'Europe/Berlin', '{"daily": [{"time": "10:00", "ref": "ten"}, "16:00"]}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('reschedule', 'x', 'r' || n, 'u' || n)) FROM generate_series(1, 4) AS n;

-- Keys of each outcome, and what a move keeps.
SELECT jsonb_pretty(slotkeeper.reschedule_content('r1', '2026-02-01T12:34:56.789Z') - 'booking_id') AS reply;
SELECT pg_temp.keys(slotkeeper.reschedule_content('r1', '2026-02-02T12:34:56.789Z'));
SELECT pg_temp.keys(slotkeeper.reschedule_content('r1', '2026-02-02T12:34:56.789Z'));
SELECT pg_temp.keys(slotkeeper.reschedule_content('r1', '2026-01-16T09:00:00Z'));
SELECT pg_temp.keys(slotkeeper.reschedule_content('r1', '2026-01-16T09:00:00Z', 'reject'));
SELECT pg_temp.keys(slotkeeper.reschedule_content('r1', '2026-01-14T09:00:00Z', 'reject'));
SELECT pg_temp.keys(slotkeeper.reschedule_content('r1', '2036-01-14T09:00:00Z'));
SELECT pg_temp.keys(slotkeeper.reschedule_content('nobody', '2026-01-14T09:00:00Z'));
SELECT slotkeeper.reschedule_content('nobody', '2026-01-14T09:00:00Z', p_profile_id => 'reschedule', p_platform => 'X', p_source => 's') AS reply;
SELECT count(DISTINCT booking_id) AS bookings, count(*) AS rows FROM slotkeeper.booking JOIN slotkeeper.queue USING (queue_id) WHERE profile_id = 'reschedule' AND content_id = 'r1';

-- Unchanged; its own seat is no obstacle, neither to itself nor to the next caller.
SELECT pg_temp.said(slotkeeper.reschedule_content('r2', '2026-01-16T15:00:00Z'));
SELECT pg_temp.said(slotkeeper.reschedule_content('r2', '2026-01-16T15:00:00Z', 'reject'));
SELECT pg_temp.said(slotkeeper.reschedule_content('r2', '2026-01-16T09:00:00Z'));
SELECT pg_temp.said(slotkeeper.reschedule_content('r2', '2026-01-16T09:00:00Z'));
SELECT pg_temp.said(r), r ->> 'slot_ref' AS ref FROM slotkeeper.reschedule_content('r2', '2026-01-16T09:00:30Z', 'reject') AS r;
SELECT pg_temp.said(slotkeeper.reschedule_content('r2', '2026-01-16T09:00:00Z', 'reject'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('reschedule', 'x', 'r5')) AS the_seat_it_left;

-- Taken: the other one's name, and the three ways on.
SELECT pg_temp.said(slotkeeper.reschedule_content('r2', '2026-01-16T15:00:10Z'));
SELECT pg_temp.said(slotkeeper.reschedule_content('r2', '2026-01-16T15:00:10Z', 'next_free'));
SELECT pg_temp.said(slotkeeper.reschedule_content('r2', '2026-01-16T15:00:10Z', 'reject'));
SELECT pg_temp.said(slotkeeper.reschedule_content('r2', '2026-01-16T15:01:00Z', 'reject')) AS it_stayed;
-- The next free granule may be the one it is in: it stays there.
SELECT pg_temp.said(slotkeeper.reschedule_content('r2', '2026-01-16T15:00:59Z', 'next_free'));
-- B3: two dragged to one instant, one keeps it.
SELECT pg_temp.said(slotkeeper.reschedule_content('r3', '2026-03-01T08:00:00Z'));
SELECT pg_temp.said(slotkeeper.reschedule_content('r4', '2026-03-01T08:00:00Z'));

-- The past becomes now, the far future is beyond the horizon; both leave the booking in one piece.
SELECT pg_temp.said(slotkeeper.reschedule_content('r4', '2020-01-01T00:00:00Z'));
SELECT pg_temp.said(slotkeeper.reschedule_content('r4', '2020-01-01T00:00:00Z', 'reject'));
SELECT pg_temp.said(slotkeeper.reschedule_content('r4', '2027-01-15T12:00:00.000001Z'));
SELECT pg_temp.said(slotkeeper.reschedule_content('r4', '2027-01-15T12:00:00Z'));
-- A booking of the past moves as well.
SET slotkeeper.now = '2026-06-01T00:00:00+00:00';
SELECT pg_temp.said(slotkeeper.reschedule_content('r3', '2026-06-02T00:00:00Z'));
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';

-- A slot of two: who is moved within it keeps a seat, a third finds none.
SELECT slotkeeper.create_queue('reschedule', 'two', 'UTC', '{"daily": [{"time": "12:00", "capacity": 2}]}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.schedule_content('reschedule', 'two', 't' || n, '2026-01-20T12:00:00Z')) FROM generate_series(1, 3) AS n;
SELECT pg_temp.said(slotkeeper.reschedule_content('t2', '2026-01-20T12:00:30Z', 'reject'));
SELECT pg_temp.said(slotkeeper.reschedule_content('t3', '2026-01-20T12:00:45Z', 'reject'));
SELECT pg_temp.said(slotkeeper.reschedule_content('t1', '2026-01-25T12:00:00Z', 'reject'));
SELECT pg_temp.said(slotkeeper.reschedule_content('t3', '2026-01-20T12:00:45Z', 'reject'));
SELECT content_id, seat FROM slotkeeper.booking JOIN slotkeeper.queue USING (queue_id)
WHERE profile_id = 'reschedule' AND platform = 'two' AND released_at IS NULL ORDER BY granule, seat;

-- After a change of the timetable a booking may stay where it is, and moves to what is on it now.
SELECT slotkeeper.alter_queue('reschedule', 'two', p_timetable => '{"daily": ["13:00"]}') ->> 'off_timetable_count' AS off;
SELECT pg_temp.said(slotkeeper.reschedule_content('t1', '2026-01-25T12:00:00Z'));
SELECT pg_temp.said(slotkeeper.reschedule_content('t1', '2026-01-25T13:00:00Z'));
SELECT pg_temp.said(slotkeeper.reschedule_content('t2', '2026-01-25T13:00:00Z'));

-- The content id alone may not be enough: queue and source tell several apart.
SELECT slotkeeper.create_queue('reschedule', 'y', 'UTC', '{}') ->> 'outcome' AS outcome;
SELECT slotkeeper.create_queue('reschedule2', 'y', 'UTC', '{}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.schedule_content('reschedule', 'y', 'same', '2026-02-01T00:00:00Z', p_source => 'posts'));
SELECT pg_temp.said(slotkeeper.reschedule_content('same', '2026-02-01T01:00:00Z')) AS alone;
SELECT pg_temp.said(slotkeeper.schedule_content('reschedule', 'y', 'same', '2026-02-01T02:00:00Z', p_source => 'reels'));
SELECT pg_temp.said(slotkeeper.schedule_content('reschedule2', 'y', 'same', '2026-02-01T03:00:00Z', p_source => 'posts'));
SELECT pg_temp.said(slotkeeper.schedule_content('reschedule', 'x', 'same', '2026-02-01T04:00:00Z'));
SELECT pg_temp.fault($$SELECT slotkeeper.reschedule_content('same', '2026-02-05T00:00:00Z')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.reschedule_content('same', '2026-02-05T00:00:00Z', p_profile_id => 'reschedule')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.reschedule_content('same', '2026-02-05T00:00:00Z', p_source => 'posts')$$);
SELECT pg_temp.said(slotkeeper.reschedule_content('same', '2026-02-05T00:00:00Z', p_platform => 'X')) AS by_platform;
SELECT pg_temp.said(slotkeeper.reschedule_content('same', '2026-02-05T01:00:00Z', p_profile_id => 'reschedule2')) AS by_profile;
SELECT pg_temp.said(slotkeeper.reschedule_content('same', '2026-02-05T02:00:00Z', p_source => 'reels')) AS by_source;
SELECT pg_temp.said(slotkeeper.reschedule_content('same', '2026-02-05T03:00:00Z', p_profile_id => 'reschedule', p_platform => 'y', p_source => 'posts')) AS by_all;
SELECT pg_temp.said(slotkeeper.reschedule_content('same', '2026-02-05T03:00:00Z', p_profile_id => 'nobody')) AS nobody;
SELECT pg_temp.fault($$SELECT slotkeeper.unschedule_content('same')$$);
SELECT pg_temp.said(slotkeeper.unschedule_content('same', p_source => 'reels')) AS by_source;
-- An empty source is none: also the booking beside one of the same id and queue can be addressed.
SELECT pg_temp.said(slotkeeper.schedule_content('reschedule', 'y', 'same', '2026-02-01T05:00:00Z'));
SELECT pg_temp.fault($$SELECT slotkeeper.reschedule_content('same', '2026-02-06T00:00:00Z', p_profile_id => 'reschedule', p_platform => 'y')$$);
SELECT pg_temp.said(slotkeeper.reschedule_content('same', '2026-02-06T00:00:00Z', p_profile_id => 'reschedule', p_platform => 'y', p_source => '')) AS of_no_source;
SELECT pg_temp.said(slotkeeper.unschedule_content('same', 'reschedule', 'y', '')) AS of_no_source;
SELECT pg_temp.fault($$SELECT slotkeeper.unschedule_content('same', p_source => ' ')$$);

-- Dry runs.
SELECT md5(string_agg(b::text, '' ORDER BY booking_id)) AS before FROM slotkeeper.booking AS b
\gset
SELECT pg_temp.said(slotkeeper.reschedule_content('r2', at, way, true))
FROM unnest(ARRAY['2026-01-16T09:00:00Z', '2026-01-24T12:00:00Z', '2026-01-14T09:00:00Z', '2028-01-14T09:00:00Z']::timestamptz[]) AS at, unnest(ARRAY['next_slot', 'next_free', 'reject']) AS way
ORDER BY way COLLATE "C", at;
SELECT pg_temp.keys(slotkeeper.reschedule_content('r2', '2026-01-24T12:00:00Z', p_dry_run => true));
SELECT pg_temp.said(slotkeeper.reschedule_content('nobody', '2026-01-24T12:00:00Z', p_dry_run => true));
BEGIN READ ONLY;
SELECT pg_temp.said(slotkeeper.reschedule_content('r2', '2026-01-24T12:00:00Z', p_dry_run => true)) AS also_when_read_only;
COMMIT;
SELECT md5(string_agg(b::text, '' ORDER BY booking_id)) = :'before' AS nothing_changed FROM slotkeeper.booking AS b;

-- Moves are kept until they are pruned: not those of contents that still wait.
DELETE FROM slotkeeper.move WHERE booking_id NOT IN (SELECT booking_id FROM slotkeeper.booking JOIN slotkeeper.queue USING (queue_id) WHERE profile_id = 'reschedule' AND released_at IS NULL);
SET slotkeeper.now = '2026-01-20T00:00:00+00:00';
SELECT slotkeeper.prune_history('1 day', 1000000) -> 'moves' AS of_what_is_past;
SET slotkeeper.now = '2026-01-28T00:00:00+00:00';
SELECT (slotkeeper.prune_history('1 day', 1000000) -> 'moves')::int > 0 AS of_more;
SELECT min(scheduled_at) >= '2026-01-27T00:00:00Z' AS only_what_waits FROM slotkeeper.move JOIN slotkeeper.booking USING (booking_id);
SELECT count(slotkeeper.drop_queue(profile_id, platform, true)) AS dropped FROM slotkeeper.queue WHERE profile_id LIKE 'reschedule%';
SET slotkeeper.now = '2026-12-01T00:00:00+00:00';
SELECT slotkeeper.prune_history('0 seconds', 1000000) ->> 'outcome' AS outcome;
SELECT count(*) AS moves FROM slotkeeper.move;
