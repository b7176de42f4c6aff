-- A dense queue: what is given back anywhere in it is found first, and nothing else is.
SET TimeZone = 'Asia/Colombo';
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
CREATE FUNCTION pg_temp.queue(p text) RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT queue_id FROM slotkeeper.queue WHERE profile_id = 'holes' AND platform = p $$;
CREATE FUNCTION pg_temp.runs(p text, every boolean DEFAULT false) RETURNS text LANGUAGE sql AS $$
    SELECT CASE WHEN count(*) = 0 THEN 'none' WHEN sum(slots) >= 1000 THEN 'a thousand slots and more' ELSE 'fewer than a thousand slots' END
    FROM slotkeeper.full_run AS r JOIN slotkeeper.queue AS q USING (queue_id, version)
    WHERE profile_id = 'holes' AND platform = p AND every_granule = every
$$;
-- The slow way: slot by slot, until one has fewer live bookings than seats.
CREATE FUNCTION pg_temp.earliest(p text, "from" timestamptz) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
    free timestamptz; last timestamptz := greatest("from", '2026-01-15T12:00:00Z');
BEGIN
    WHILE free IS NULL LOOP
        SELECT min(slot_at) FILTER (WHERE taken < capacity), max(slot_at) + interval '1 microsecond' INTO free, last
        FROM slotkeeper.preview_slots('holes', p, last, 300);
    END LOOP;
    RETURN free;
END
$$;
CREATE FUNCTION pg_temp.next(p text, id text, "from" timestamptz DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    expected timestamptz := pg_temp.earliest(p, coalesce("from", '2026-01-15T12:00:00Z'));
    reply jsonb := slotkeeper.assign_next_available_slot('holes', p, id, p_not_before => "from");
BEGIN
    RETURN concat_ws(' ', reply ->> 'outcome', reply ->> 'scheduled_at',
                     CASE WHEN (reply ->> 'scheduled_at')::timestamptz IS DISTINCT FROM expected THEN 'but free was ' || (expected AT TIME ZONE 'UTC') END);
END
$$;

SELECT slotkeeper.create_queue('holes', 'hourly', 'UTC', '{"every": "1 hour"}') ->> 'outcome' AS outcome;
SELECT count(*) AS booked, max(r ->> 'scheduled_at') AS last FROM generate_series(1, 3000) AS n, slotkeeper.assign_next_available_slot('holes', 'hourly', 'h' || n) AS r;
SELECT pg_temp.runs('hourly') AS full_runs;
SELECT count(*) <= 20 AS few FROM slotkeeper.full_run WHERE queue_id = pg_temp.queue('hourly');
SELECT pg_temp.next('hourly', 'end1') AS dense;

-- Given back: at the front, in the middle, at the end, one after the other.
SELECT slotkeeper.unschedule_content(c) ->> 'scheduled_at' AS given_back FROM unnest(ARRAY['h2999', 'h1', 'h1500', 'h1501', 'h3']) AS c;
SELECT pg_temp.next('hourly', 'g' || n) FROM generate_series(1, 6) AS n;
-- The same seat again and again.
SELECT bool_and(slotkeeper.unschedule_content('s' || n - 1) ->> 'outcome' = CASE n WHEN 1 THEN 'not_found' ELSE 'unscheduled' END AND
                pg_temp.next('hourly', 's' || n) = 'assigned 2026-05-20T14:00:00+00:00') AS always_the_same
FROM generate_series(1, 10) AS n;

-- Far-out bookings leave the seats before them free.
SELECT pg_temp.said(slotkeeper.schedule_content('holes', 'hourly', 'far' || n, '2026-12-24T00:00:00Z'::timestamptz + n * interval '1 hour')) FROM generate_series(1, 3) AS n;
SELECT pg_temp.next('hourly', 'before_far');
SELECT pg_temp.next('hourly', 'at_far', '2026-12-24T00:00:00Z');
SELECT pg_temp.next('hourly', 'behind_far', '2026-12-24T00:00:01Z');

-- Moved away: the seat that is left is a hole, whether the move goes back or forth.
SELECT pg_temp.said(slotkeeper.reschedule_content('h700', '2026-11-11T11:00:00Z'));
SELECT pg_temp.said(slotkeeper.reschedule_content('h2000', '2026-02-13T15:00:00Z')) AS into_that_hole;
SELECT pg_temp.said(slotkeeper.reschedule_content('h2000', '2026-02-13T15:00:00Z'));
SELECT pg_temp.next('hourly', 'm' || n) FROM generate_series(1, 2) AS n;

-- Rolled back with a savepoint: bookings come back as free, what was given back as held.
BEGIN;
SAVEPOINT a;
SELECT pg_temp.next('hourly', 'r' || n) FROM generate_series(1, 2) AS n;
SELECT count(slotkeeper.assign_next_available_slot('holes', 'hourly', 'rr' || n)) AS booked FROM generate_series(1, 100) AS n;
ROLLBACK TO a;
SELECT pg_temp.next('hourly', 'r1');
SAVEPOINT b;
SELECT slotkeeper.unschedule_content('h1000') ->> 'outcome' AS outcome;
SELECT pg_temp.next('hourly', 'r2');
SELECT slotkeeper.unschedule_content('r2') ->> 'outcome' AS outcome;
ROLLBACK TO b;
SELECT pg_temp.next('hourly', 'r3');
SAVEPOINT c;
SELECT slotkeeper.unschedule_content('h1001') ->> 'outcome' AS outcome;
RELEASE c;
COMMIT;
SELECT pg_temp.next('hourly', 'r' || n) FROM generate_series(4, 5) AS n;
-- A hole taken in a transaction that is rolled back is still a hole.
SELECT slotkeeper.unschedule_content('h1002') ->> 'outcome' AS outcome;
BEGIN;
SELECT pg_temp.next('hourly', 'r6');
ROLLBACK;
SELECT pg_temp.next('hourly', 'r' || n) FROM generate_series(7, 8) AS n;

-- p_not_before into the middle of the dense stretch: holes before it don't count, those after it do.
SELECT slotkeeper.unschedule_content(c) ->> 'scheduled_at' AS given_back FROM unnest(ARRAY['h100', 'h2100', 'h2200']) AS c;
SELECT pg_temp.next('hourly', 'n1', '2026-02-01T00:00:00Z');
SELECT pg_temp.next('hourly', 'n2', '2026-04-17T03:00:00Z');
SELECT pg_temp.next('hourly', 'n3', '2026-04-17T03:00:00Z');
SELECT pg_temp.next('hourly', 'n4');
SELECT pg_temp.next('hourly', 'n5');
-- Through next_slot and next_free as well.
SELECT slotkeeper.unschedule_content(c) ->> 'scheduled_at' AS given_back FROM unnest(ARRAY['h500', 'h501']) AS c;
SELECT pg_temp.said(slotkeeper.schedule_content('holes', 'hourly', 'w1', '2026-01-20T00:00:00Z'));
SELECT pg_temp.said(slotkeeper.reschedule_content('h20', '2026-01-20T01:00:00Z'));
SELECT pg_temp.said(slotkeeper.schedule_content('holes', 'hourly', 'w2', '2026-01-16T08:00:00Z'));
SELECT pg_temp.next('hourly', 'w3');
-- And through a batch.
SELECT slotkeeper.unschedule_content(c) ->> 'scheduled_at' AS given_back FROM unnest(ARRAY['h600', 'h1600', 'h2600']) AS c;
SELECT e ->> 'scheduled_at' AS at FROM slotkeeper.assign_slots((SELECT jsonb_agg(jsonb_build_object('profile_id', 'holes', 'platform', 'hourly', 'content_id', 'b' || n) ORDER BY n) FROM generate_series(1, 4) AS n)) AS r, jsonb_array_elements(r -> 'results') AS e;

-- A changed timetable: what is free under it, before and between the old bookings.
SELECT r ->> 'off_timetable_count' AS off FROM slotkeeper.alter_queue('holes', 'hourly', p_timetable => '{"every": "30 minutes"}') AS r;
SELECT pg_temp.runs('hourly') AS full_runs;
SELECT pg_temp.next('hourly', 't' || n) FROM generate_series(1, 3) AS n;
SELECT count(*) FILTER (WHERE pg_temp.next('hourly', 'tt' || n) LIKE '%but%') AS wrong FROM generate_series(1, 60) AS n;
SELECT slotkeeper.unschedule_content(c) ->> 'scheduled_at' AS given_back FROM unnest(ARRAY['h30', 'tt7']) AS c;
SELECT pg_temp.next('hourly', 'u' || n) FROM generate_series(1, 3) AS n;
-- Back again: holes that came about meanwhile are still found.
SELECT slotkeeper.unschedule_content(c) ->> 'scheduled_at' AS given_back FROM unnest(ARRAY['h900', 'tt8']) AS c;
SELECT r ->> 'outcome' AS outcome FROM slotkeeper.alter_queue('holes', 'hourly', p_timetable => '{"every": "1 hour"}') AS r;
SELECT pg_temp.next('hourly', 'v' || n) FROM generate_series(1, 3) AS n;
SELECT count(*) FILTER (WHERE pg_temp.next('hourly', 'vv' || n) LIKE '%but%') AS wrong FROM generate_series(1, 40) AS n;
SELECT slotkeeper.unschedule_content(c) ->> 'scheduled_at' AS given_back FROM unnest(ARRAY['h901', 'v1']) AS c;
SELECT pg_temp.next('hourly', 'x' || n) FROM generate_series(1, 3) AS n;
-- Another zone, half an hour off, and back.
SELECT r ->> 'outcome' AS outcome FROM slotkeeper.alter_queue('holes', 'hourly', 'Asia/Kolkata') AS r;
SELECT pg_temp.next('hourly', 'z1');
SELECT slotkeeper.unschedule_content('h902') ->> 'scheduled_at' AS given_back;
SELECT pg_temp.next('hourly', 'z2');
SELECT r ->> 'outcome' AS outcome FROM slotkeeper.alter_queue('holes', 'hourly', 'UTC') AS r;
SELECT pg_temp.next('hourly', 'z' || n) FROM generate_series(3, 4) AS n;

-- Capacity raised: every slot has a seat more; lowered: none has, until enough have left.
SELECT slotkeeper.create_queue('holes', 'seats', 'UTC', '{"every": "1 hour", "capacity": 2}') ->> 'outcome' AS outcome;
SELECT count(*) AS booked, max(r ->> 'scheduled_at') AS last FROM generate_series(1, 2400) AS n, slotkeeper.assign_next_available_slot('holes', 'seats', 'c' || n) AS r;
SELECT pg_temp.runs('seats') AS full_runs;
SELECT r ->> 'off_timetable_count' AS off FROM slotkeeper.alter_queue('holes', 'seats', p_timetable => '{"every": "1 hour", "capacity": 3}') AS r;
SELECT pg_temp.next('seats', 'd' || n) FROM generate_series(1, 2) AS n;
SELECT count(*) FILTER (WHERE pg_temp.next('seats', 'dd' || n) LIKE '%but%') AS wrong FROM generate_series(1, 60) AS n;
SELECT r ->> 'off_timetable_count' AS off FROM slotkeeper.alter_queue('holes', 'seats', p_timetable => '{"every": "1 hour", "capacity": 1}') AS r;
SELECT pg_temp.next('seats', 'e1') AS behind_all_of_them;
SELECT slotkeeper.unschedule_content('c401') ->> 'scheduled_at' AS given_back;
SELECT pg_temp.next('seats', 'e2') AS still_one_there;
SELECT slotkeeper.unschedule_content('c402') ->> 'scheduled_at' AS given_back;
SELECT pg_temp.next('seats', 'e3') AS the_last_one_there_is_gone;
SELECT pg_temp.said(slotkeeper.schedule_content('holes', 'seats', 'e4', '2026-01-20T00:00:30Z', p_on_conflict => 'reject'));
SELECT count(*) FILTER (WHERE pg_temp.next('seats', 'ee' || n) LIKE '%but%') AS wrong FROM generate_series(1, 40) AS n;

-- Free-form: minutes held by the thousand.
SELECT slotkeeper.create_queue('holes', 'minutes', 'UTC', '{}') ->> 'outcome' AS outcome;
SELECT count(*) AS booked, max(r ->> 'scheduled_at') AS last FROM generate_series(1, 3000) AS n, slotkeeper.assign_next_available_slot('holes', 'minutes', 'f' || n) AS r;
SELECT pg_temp.runs('minutes', true) AS full_runs;
SELECT slotkeeper.unschedule_content(c) ->> 'scheduled_at' AS given_back FROM unnest(ARRAY['f2000', 'f7']) AS c;
SELECT pg_temp.said(slotkeeper.reschedule_content('f1000', '2026-03-01T00:00:00Z'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('holes', 'minutes', 'i' || n)) FROM generate_series(1, 4) AS n;
SELECT pg_temp.said(slotkeeper.unschedule_content('f100'));
SELECT pg_temp.said(slotkeeper.schedule_content('holes', 'minutes', 'j1', '2026-01-15T12:30:00Z', p_on_conflict => 'next_free'));
SELECT pg_temp.said(slotkeeper.schedule_content('holes', 'minutes', 'j2', '2026-01-15T12:30:00Z', p_on_conflict => 'next_free'));
-- next_free beside a timetable: granules with a slot and without.
SELECT pg_temp.said(slotkeeper.alter_queue('holes', 'minutes', p_timetable => '{"every": "1 hour"}'));
SELECT pg_temp.said(slotkeeper.schedule_content('holes', 'minutes', 'k1', '2026-01-15T12:30:00Z', p_on_conflict => 'next_free'));
SELECT count(*) AS booked FROM generate_series(1, 100) AS n, slotkeeper.schedule_content('holes', 'minutes', 'kk' || n, '2026-01-15T12:30:00Z', p_on_conflict => 'next_free') AS r WHERE r ->> 'outcome' = 'moved';
SELECT pg_temp.runs('minutes', true) AS full_runs;
SELECT slotkeeper.unschedule_content(c) ->> 'scheduled_at' AS given_back FROM unnest(ARRAY['f601', 'f541']) AS c;
SELECT pg_temp.next('minutes', 'l1') AS a_slot_is_found_by_assign;
SELECT slotkeeper.unschedule_content(c) ->> 'scheduled_at' AS given_back FROM unnest(ARRAY['f602', 'f542']) AS c;
SELECT pg_temp.next('minutes', 'l2') AS but_nothing_beside_one;
SELECT pg_temp.said(slotkeeper.schedule_content('holes', 'minutes', 'l' || n, '2026-01-15T12:30:00Z', p_on_conflict => 'next_free')) FROM generate_series(3, 6) AS n;

-- Everything at once, by the dice: whatever happened before, an assign finds what the slow way finds.
SELECT slotkeeper.create_queue('holes', 'dice', 'Europe/Berlin', '{"every": "30 minutes", "from": "06:00", "to": "22:00"}') ->> 'outcome' AS outcome;
SELECT count(slotkeeper.assign_next_available_slot('holes', 'dice', 'c' || n)) AS booked FROM generate_series(1, 1200) AS n;
CREATE FUNCTION pg_temp.dice(n int, what text, sides int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT (('x' || left(md5(what || n), 7))::bit(28)::int) % sides $$;
DO $$
DECLARE
    reply jsonb; said text; wrong int := 0; outcomes jsonb := '{}'; id text; at timestamptz;
    capacity int := 1;
BEGIN
    FOR n IN 1..1500 LOOP
        id := 'c' || 1 + pg_temp.dice(n, 'content', 1400);
        at := '2026-01-15T12:00:00Z'::timestamptz + pg_temp.dice(n, 'instant', 6 * 24 * 45) * interval '10 minutes';
        CASE pg_temp.dice(n, 'kind', 12)
            WHEN 0, 1, 2 THEN reply := slotkeeper.unschedule_content(id, 'holes', 'dice');
            WHEN 3, 4 THEN reply := slotkeeper.reschedule_content(id, at, (ARRAY['next_slot', 'next_free', 'reject'])[1 + n % 3], p_profile_id => 'holes', p_platform => 'dice');
            WHEN 5 THEN reply := slotkeeper.schedule_content('holes', 'dice', id, at, p_on_conflict => (ARRAY['next_slot', 'next_free', 'reject'])[1 + n % 3]);
            WHEN 6 THEN
                BEGIN
                    reply := slotkeeper.unschedule_content(id, 'holes', 'dice');
                    reply := slotkeeper.assign_next_available_slot('holes', 'dice', 'undone' || n);
                    RAISE EXCEPTION USING ERRCODE = 'P0099';
                EXCEPTION WHEN SQLSTATE 'P0099' THEN reply := '{"outcome": "rolled back"}';
                END;
            WHEN 7 THEN
                IF pg_temp.dice(n, 'alter', 8) = 0 THEN
                    capacity := 1 + pg_temp.dice(n, 'capacity', 3);
                    reply := slotkeeper.alter_queue('holes', 'dice', p_timetable => jsonb_build_object('every', (ARRAY['30 minutes', '20 minutes'])[1 + pg_temp.dice(n, 'every', 2)], 'from', '06:00', 'to', '22:00', 'capacity', capacity));
                ELSE
                    reply := '{"outcome": "none"}';
                END IF;
            ELSE
                IF n % 2 = 0 THEN at := NULL; END IF;
                said := pg_temp.next('dice', 'n' || n, at);
                reply := jsonb_build_object('outcome', split_part(said, ' ', 1));
                IF said LIKE '%but%' THEN
                    wrong := wrong + 1;
                    RAISE NOTICE 'step %: %', n, said;
                END IF;
        END CASE;
        outcomes := outcomes || jsonb_build_object(reply ->> 'outcome', 1 + coalesce((outcomes ->> (reply ->> 'outcome'))::int, 0));
    END LOOP;
    RAISE NOTICE '% wrong of %', wrong, outcomes ->> 'assigned';
    RAISE NOTICE 'met: %', (SELECT string_agg(k, ', ' ORDER BY k COLLATE "C") FROM jsonb_object_keys(outcomes) AS k);
END
$$;
-- Every live booking lies in its own granule's row, and no granule holds two in one seat.
SELECT count(*) FILTER (WHERE granule <> floor(extract(epoch FROM scheduled_at) / 60)) AS in_the_wrong_granule,
       count(*) - count(DISTINCT (queue_id, granule, seat)) AS twice
FROM slotkeeper.booking JOIN slotkeeper.queue USING (queue_id) WHERE profile_id = 'holes' AND released_at IS NULL;
-- The promise behind the runs: each slot in one is held, or has a hole.
SELECT count(*) AS broken
FROM slotkeeper.queue AS q JOIN slotkeeper.full_run AS r USING (queue_id, version),
     LATERAL slotkeeper.preview_slots('holes', q.platform, to_timestamp(r.from_granule * 60), 5000) AS s
WHERE q.profile_id = 'holes' AND s.slot_at < to_timestamp(r.to_granule * 60) AND s.taken < s.capacity
  AND NOT EXISTS (SELECT FROM slotkeeper.hole AS h WHERE h.queue_id = q.queue_id AND h.version = q.version AND h.granule = extract(epoch FROM s.slot_at)::bigint / 60);

-- A session remembers where its last search has ended, and only what is committed: what it has rolled back is free again,
-- also behind what it had remembered before.
SELECT slotkeeper.create_queue('holes', 'remembered', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('holes', 'remembered', 'a' || n)) FROM generate_series(1, 3) AS n;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('holes', 'remembered', 'a4'));
BEGIN;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('holes', 'remembered', 'b' || n)) FROM generate_series(1, 5) AS n;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('holes', 'remembered', 'b6'));
ROLLBACK;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('holes', 'remembered', 'a5'));
SELECT pg_temp.said(slotkeeper.unschedule_content('a2'));
BEGIN;
SAVEPOINT one;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('holes', 'remembered', 'c' || n)) FROM generate_series(1, 3) AS n;
ROLLBACK TO one;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('holes', 'remembered', 'a6'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('holes', 'remembered', 'a7'));
COMMIT;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('holes', 'remembered', 'a8'));

-- Nobody comes by a hole in the past, nor by one of other rules: they go with the rest of history. Those ahead stay, and are found.
SELECT slotkeeper.create_queue('holes', 'past', 'UTC', '{"daily": ["09:00"]}', '{"granule": "15 seconds"}') ->> 'outcome' AS outcome;
SELECT count(slotkeeper.assign_next_available_slot('holes', 'past', 'p' || n)) AS booked FROM generate_series(1, 40) AS n;
SELECT pg_temp.said(slotkeeper.unschedule_content('p' || n)) FROM unnest(ARRAY[2, 5, 6, 30]) AS n;
SET slotkeeper.now = '2026-01-21T09:00:00+00:00';
SELECT slotkeeper.prune_history('0 seconds', 1000000) ->> 'outcome' AS outcome;
SELECT to_char(to_timestamp(granule * 15) AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS hole FROM slotkeeper.hole WHERE queue_id = pg_temp.queue('past') ORDER BY granule;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('holes', 'past', 'q' || n)) FROM generate_series(1, 3) AS n;
SELECT slotkeeper.alter_queue('holes', 'past', 'WIB') ->> 'outcome' AS outcome;
INSERT INTO slotkeeper.hole SELECT queue_id, version - 1, true, 100000000000 FROM slotkeeper.queue WHERE queue_id = pg_temp.queue('past');
SELECT slotkeeper.prune_history('0 seconds', 1000000) ->> 'outcome' AS outcome;
SELECT count(*) AS holes FROM slotkeeper.hole WHERE queue_id = pg_temp.queue('past');
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';

SELECT count(slotkeeper.drop_queue(profile_id, platform, true)) AS dropped FROM slotkeeper.queue WHERE profile_id = 'holes';
SELECT (SELECT count(*) FROM slotkeeper.full_run AS r WHERE NOT EXISTS (SELECT FROM slotkeeper.queue AS q WHERE q.queue_id = r.queue_id)) AS runs_left_behind,
       (SELECT count(*) FROM slotkeeper.hole AS h WHERE NOT EXISTS (SELECT FROM slotkeeper.queue AS q WHERE q.queue_id = h.queue_id)) AS holes_left_behind;
