-- Wall times and instants: gaps, overlaps, skipped days, the injected clock.
SET TimeZone = 'America/Caracas';
SET DateStyle = 'SQL, DMY';
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
-- The slots of a timetable from an instant on: UTC, then what the queue's clocks show.
CREATE FUNCTION pg_temp.slots(zone text, timetable jsonb, "from" timestamptz, n int) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM slotkeeper.create_queue('time', 'slots', zone, timetable);
    RETURN QUERY SELECT to_char(slot_at AT TIME ZONE 'UTC', 'MM-DD HH24:MI:SS') || 'Z = ' || local_time || CASE WHEN capacity > 1 THEN ' *' || capacity ELSE '' END
        FROM slotkeeper.preview_slots('time', 'slots', "from", n);
    PERFORM slotkeeper.drop_queue('time', 'slots');
END
$$;

-- New York, 2026-03-08: 02:30 is in the gap, and falls on 03:30. There the two rules are one slot.
SELECT pg_temp.slots('America/New_York', '{"daily": ["02:30"]}', '2026-03-07T00:00:00Z', 3);
SELECT pg_temp.slots('America/New_York', '{"daily": ["01:59", "02:00", "02:59", "03:00"]}', '2026-03-08T05:00:00Z', 4);
SELECT pg_temp.slots('America/New_York', '{"daily": [{"time": "02:30", "capacity": 3}, {"time": "03:30", "capacity": 2}]}', '2026-03-07T00:00:00Z', 5);
-- 2026-11-01: 01:30 comes twice, and fires once, at the first.
SELECT pg_temp.slots('America/New_York', '{"daily": ["01:30"]}', '2026-10-31T00:00:00Z', 3);
SELECT pg_temp.slots('America/New_York', '{"daily": ["00:59", "01:00", "01:59", "02:00"]}', '2026-11-01T04:00:00Z', 4);
-- "every" counts wall time: half an hour on the clocks, whatever the clocks do.
SELECT pg_temp.slots('America/New_York', '{"every": "30 minutes", "from": "01:00", "to": "04:00", "days": "sun"}', '2026-03-08T00:00:00Z', 6);
SELECT pg_temp.slots('America/New_York', '{"every": "30 minutes", "from": "01:00", "to": "04:00", "days": "sun"}', '2026-11-01T00:00:00Z', 8);

-- Berlin: 2026-03-29 and 2026-10-25. A 09:00 stays 09:00 (brightbean-studio#72, postiz-app#1145).
SELECT pg_temp.slots('Europe/Berlin', '{"daily": ["02:30", "09:00"]}', '2026-03-28T00:00:00Z', 6);
SELECT pg_temp.slots('Europe/Berlin', '{"daily": ["02:30", "09:00"]}', '2026-10-24T00:00:00Z', 6);

-- Santiago: midnight itself is in the gap (2026-09-06), and the last hour of a day comes twice (2026-04-04).
SELECT pg_temp.slots('America/Santiago', '{"daily": ["00:00", "00:30", "23:30"]}', '2026-09-05T04:00:00Z', 8);
SELECT pg_temp.slots('America/Santiago', '{"daily": ["00:00", "23:00", "23:30"]}', '2026-04-04T03:00:00Z', 6);

-- Lord Howe: half an hour, both ways (2026-04-05, 2026-10-04).
SELECT pg_temp.slots('Australia/Lord_Howe', '{"daily": ["01:15", "01:45", "02:15"]}', '2026-04-03T15:00:00Z', 7);
SELECT pg_temp.slots('Australia/Lord_Howe', '{"daily": ["01:45", "02:15", "02:45"]}', '2026-10-02T15:00:00Z', 7);

-- Apia skipped 2011-12-30, a Friday: it has no slot, and nothing of it moves to another day.
SET slotkeeper.now = '2011-12-28T00:00:00Z';
SELECT pg_temp.slots('Pacific/Apia', '{"daily": ["00:00", "12:00"]}', '2011-12-29T10:00:00Z', 6);
SELECT pg_temp.slots('Pacific/Apia', '{"fri": ["12:00"], "thu": ["23:59"], "sat": ["00:00"]}', '2011-12-28T00:00:00Z', 5);
SELECT slotkeeper.create_queue('time', 'apia', 'Pacific/Apia', '{"daily": ["12:00"]}') ->> 'outcome' AS outcome;
SELECT r ->> 'scheduled_at' AS at, r ->> 'local_time' AS local FROM generate_series(1, 4) AS n, slotkeeper.assign_next_available_slot('time', 'apia', 'a' || n) AS r;
SELECT slotkeeper.drop_queue('time', 'apia', true) ->> 'released' AS released;

-- Jakarta has one offset; Postiz's minutes are UTC, so that in Berlin the clocks show another hour in summer.
SELECT pg_temp.slots('Asia/Jakarta', '{"daily": ["06:00"]}', '2026-03-28T00:00:00Z', 2);
SELECT pg_temp.slots('Europe/Berlin', '[{"time": -60}, {"time": 90}]', '2026-03-28T12:00:00Z', 4);

-- Before zones had whole minutes.
SELECT pg_temp.slots('Africa/Monrovia', '{"daily": ["12:00"]}', '1960-01-01T00:00:00Z', 1);
SELECT pg_temp.slots('Asia/Jakarta', '{"daily": ["00:00"]}', '1900-01-01T00:00:00Z', 1);

-- Against AT TIME ZONE, every noon and every evening of twelve years in some restless zones: no row.
SELECT slotkeeper.create_queue('time', z, z, '{"daily": ["12:00", "20:15"]}') ->> 'outcome' AS outcome
FROM unnest(ARRAY['America/New_York', 'Europe/Berlin', 'America/Santiago', 'Australia/Lord_Howe', 'Africa/Casablanca', 'Asia/Gaza', 'Asia/Tehran', 'Pacific/Chatham', 'Antarctica/Troll', 'America/Caracas']) AS z;
SELECT z, local, expected, found
FROM unnest(ARRAY['America/New_York', 'Europe/Berlin', 'America/Santiago', 'Australia/Lord_Howe', 'Africa/Casablanca', 'Asia/Gaza', 'Asia/Tehran', 'Pacific/Chatham', 'Antarctica/Troll', 'America/Caracas']) AS z,
     LATERAL (SELECT d + t AS local, (d + t) AT TIME ZONE z AS expected
              FROM generate_series('2015-06-01'::timestamp, '2027-06-01', '1 day') AS d, unnest(ARRAY['12:00', '20:15']::interval[]) AS t) AS e
     FULL JOIN LATERAL (SELECT slot_at AS found FROM slotkeeper.preview_slots('time', z, '2015-06-01'::timestamp AT TIME ZONE z, 8768)) AS f ON f.found = e.expected
WHERE e.expected IS NULL OR f.found IS NULL;
SELECT count(slotkeeper.drop_queue(profile_id, platform)) AS dropped FROM slotkeeper.queue WHERE profile_id = 'time';

-- Changing the zone changes the rule, not what is booked.
SET slotkeeper.now = '2026-03-27T00:00:00Z';
SELECT slotkeeper.create_queue('time', 'zone', 'Europe/Berlin', '{"daily": ["02:30"]}') ->> 'outcome' AS outcome;
SELECT r ->> 'scheduled_at' AS at, r ->> 'local_time' AS local FROM generate_series(1, 3) AS n, slotkeeper.assign_next_available_slot('time', 'zone', 'z' || n) AS r;
SELECT r ->> 'off_timetable_count' AS off, r -> 'off_timetable' -> 0 ->> 'content_id' AS first FROM slotkeeper.alter_queue('time', 'zone', 'Europe/London', '{"daily": ["01:30"]}') AS r;
SELECT r ->> 'scheduled_at' AS at, r ->> 'local_time' AS local FROM generate_series(3, 4) AS n, slotkeeper.assign_next_available_slot('time', 'zone', 'z' || n) AS r;
SELECT slotkeeper.drop_queue('time', 'zone', true) ->> 'released' AS released;

-- The injected clock: ISO 8601 with an offset, in the spellings that occur; anything else is 22007; empty is the real one.
SELECT slotkeeper.create_queue('time', 'now', 'UTC', '{}', '{"granule": "1 second"}') ->> 'outcome' AS outcome;
SET slotkeeper.now = '2026-01-15T12:00:00Z';
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('time', 'now', 'n', p_dry_run => true));
SET slotkeeper.now = '2026-01-15T12:00:00+07:00';
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('time', 'now', 'n', p_dry_run => true));
SET slotkeeper.now = '2026-01-15 12:00:00.25-03:30';
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('time', 'now', 'n', p_dry_run => true));
SET slotkeeper.now = '2026-01-15 12:00:00+00';
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('time', 'now', 'n', p_dry_run => true));
SET slotkeeper.now = '9999-12-31T23:59:59.5Z';
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('time', 'now', 'n', p_dry_run => true));
SET slotkeeper.now = '0001-01-01T00:00:00Z';
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('time', 'now', 'n', p_dry_run => true));
SET slotkeeper.now = 'yesterday';
SELECT pg_temp.fault($$SELECT slotkeeper.assign_next_available_slot('time', 'now', 'n', p_dry_run => true)$$);
SET slotkeeper.now = '2026-01-15T12:00:00';
SELECT pg_temp.fault($$SELECT slotkeeper.schedule_content('time', 'now', 'n', now())$$);
SET slotkeeper.now = '';
SELECT (r ->> 'scheduled_at')::timestamptz BETWEEN now() AND clock_timestamp() + interval '1 second' AS real_clock
FROM slotkeeper.assign_next_available_slot('time', 'now', 'n', p_dry_run => true) AS r;
RESET slotkeeper.now;
-- The clock moves on inside a transaction.
BEGIN;
SELECT slotkeeper.assign_next_available_slot('time', 'now', 'first') ->> 'outcome' AS outcome, pg_sleep(1.1);
SELECT (r ->> 'scheduled_at')::timestamptz > now() + interval '1 second' AS later_than_its_transaction
FROM slotkeeper.schedule_content('time', 'now', 'second', '2020-01-01T00:00:00Z') AS r;
ROLLBACK;
SELECT slotkeeper.drop_queue('time', 'now', true) ->> 'released' AS released;
