-- Every form of a timetable, every malformed one with its message, and the zone rules.
SET TimeZone = 'Asia/Kathmandu';
SET DateStyle = 'German';
SET slotkeeper.now = '2026-01-15T12:00:00+00:00'; -- a Thursday
\a

-- The slots of a week from now, as the queue's clocks show them.
CREATE FUNCTION pg_temp.week(timetable jsonb, zone text DEFAULT 'UTC', options jsonb DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    shown text;
BEGIN
    PERFORM slotkeeper.create_queue('timetables', 'week', zone, timetable, options);
    SELECT string_agg(to_char(left(local_time, 19)::timestamp, 'Dy HH24:MI') || CASE WHEN capacity > 1 THEN '*' || capacity ELSE '' END,
                      ', ' ORDER BY slot_at)
    INTO shown
    FROM slotkeeper.preview_slots('timetables', 'week', p_count => 1000)
    WHERE slot_at < '2026-01-22T12:00:00Z';
    PERFORM slotkeeper.drop_queue('timetables', 'week');
    RETURN coalesce(shown, 'no slot');
END
$$;
CREATE FUNCTION pg_temp.fault(timetable jsonb, zone text DEFAULT 'UTC', options jsonb DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    PERFORM slotkeeper.create_queue('timetables', 'fault', zone, timetable, options);
    PERFORM slotkeeper.drop_queue('timetables', 'fault');
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                            detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', state || ': ' || message, 'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END
$$;

-- Days, ranges, lists, groups; any case, spaces, full names; a range wraps; two keys may name one day.
SELECT t AS timetable, pg_temp.week(t::jsonb) AS slots
FROM unnest(ARRAY[
    '{"mon": ["09:00"]}',
    '{"mon-fri": ["09:00"]}',
    '{"sat,sun": ["10:00", "20:30"]}',
    '{"daily": ["00:00", "23:59"]}',
    '{"weekdays": ["09:00"], "weekends": ["11:00"]}',
    '{"fri-mon": ["09:00"]}',
    '{"Mon, WEDNESDAY , fri-Sat": ["09:00"]}',
    '{"tuesday-thursday": ["09:00"]}',
    '{"daily": ["09:00"], "thu": ["12:00"]}',
    '{"daily": ["09:00"], "mon": []}',
    '{"mon": ["12:00", "08:00", "10:00"]}',
    '{"mon": ["09:00"], "mon-tue": [{"time": "09:00", "capacity": 3}]}',
    '{"mon": [{"time": "09:00"}, {"time": "10:00", "capacity": 1}, {"time": "11:00", "capacity": 1000, "ref": "r"}, {"time": "12:00", "capacity": null, "ref": null}]}'
]) AS t;

-- Intervals: wall time, from and to included, restarting every day.
SELECT t AS timetable, pg_temp.week(t::jsonb) AS slots
FROM unnest(ARRAY[
    '{"every": "30 minutes", "from": "08:00", "to": "10:00", "days": "mon"}',
    '{"every": "45 minutes", "from": "08:00", "to": "10:00", "days": "mon"}',
    '{"every": "6 hours", "days": "weekends"}',
    '{"every": "7 hours", "days": "mon-tue"}',
    '{"every": "1 day", "from": "08:15"}',
    '{"every": "24:00:00", "capacity": 2}',
    '{"every": "1h30m", "from": "22:00", "to": "24:00", "days": "fri,sat"}',
    '{"every": "12 hours", "from": null, "to": null, "days": null, "capacity": null}',
    '{"every": "1 hour", "from": "09:00", "to": "09:00", "days": "sun"}'
]) AS t;

-- Postiz: minutes from UTC midnight, below 0 and above 1439 too, whatever the queue's zone; one time twice is one slot.
SELECT t AS timetable, pg_temp.week(t::jsonb, 'Asia/Jakarta') AS slots
FROM unnest(ARRAY[
    '[{"time": 0}]',
    '[{"time": 560}, {"time": 850}, {"time": 140}]',
    '[{"time": -60}]',
    '[{"time": 1500}, {"time": 60}, {"time": -1380}]',
    '[{"time": 9223372036854775807}, {"time": -9223372036854775808}]'
]) AS t;

-- Free-form has no slot.
SELECT pg_temp.week('{}') AS slots;

-- A slot's own id comes with the booking.
SELECT slotkeeper.create_queue('timetables', 'refs', 'UTC', '{"daily": [{"time": "14:00", "ref": "slot-\u00e9-2"}, "15:00"]}') ->> 'outcome' AS outcome;
SELECT r ->> 'scheduled_at' AS at, r ->> 'slot_ref' AS ref
FROM generate_series(1, 3) AS n, slotkeeper.assign_next_available_slot('timetables', 'refs', 'r' || n) AS r;
SELECT slotkeeper.assign_next_available_slot('timetables', 'refs', 'r1') ->> 'slot_ref' AS the_same_again;
SELECT slotkeeper.schedule_content('timetables', 'refs', 'r4', '2026-01-17T14:00:30Z') ->> 'slot_ref' AS inside_its_granule;
SELECT slotkeeper.schedule_content('timetables', 'refs', 'r5', '2026-01-17T14:01:00Z') ->> 'slot_ref' AS beside_it;
SELECT slotkeeper.drop_queue('timetables', 'refs', true) ->> 'released' AS released;

-- Malformed: where, what, and what to write instead.
SELECT t || E'\n' || pg_temp.fault(t::jsonb) AS fault
FROM unnest(ARRAY[
    'null', '1', '"daily"', 'true', '[]', '[[]]', '["09:00"]', '[{"time": 60}, 540]', '[{"time": "09:00"}]', '[{"time": 9.5}]', '[{"time": 1e3}]', '[{"time": null}]',
    '[{}]', '[{"time": 1, "capacity": 2}]', '[{"time": 1e30}]',
    '{"mon": []}', '{"daily": [], "sun": []}', '{"monday-": ["09:00"]}', '{"montag": ["09:00"]}', '{"": ["09:00"]}', '{"mon,": ["09:00"]}', '{"mon tue": ["09:00"]}',
    '{"mon": "09:00"}', '{"mon": null}', '{"mon": {"time": "09:00"}}', '{"mon": [9]}', '{"mon": [null]}', '{"mon": [["09:00"]]}',
    '{"mon": ["9:00"]}', '{"mon": ["09:00", "0900"]}', '{"mon": ["24:00"]}', '{"mon": ["09:60"]}', '{"mon": ["09:00:30"]}', '{"mon": ["-1:00"]}', '{"mon": [" 09:00"]}', '{"mon": [""]}', '{"mon": ["9am"]}',
    '{"mon": ["09:00", "09:00"]}', '{"mon": ["09:00", {"time": "09:00", "capacity": 2}]}',
    '{"mon": [{}]}', '{"mon": [{"capacity": 2}]}', '{"mon": [{"time": 540}]}', '{"mon": [{"time": "09:00", "seats": 2}]}',
    '{"mon": [{"time": "09:00", "capacity": 0}]}', '{"mon": [{"time": "09:00", "capacity": -1}]}', '{"mon": [{"time": "09:00", "capacity": 1001}]}', '{"mon": [{"time": "09:00", "capacity": "2"}]}', '{"mon": [{"time": "09:00", "capacity": 1.5}]}',
    '{"mon": [{"time": "09:00", "ref": ""}]}', '{"mon": [{"time": "09:00", "ref": 7}]}',
    '{"every": "30 minutes", "mon": ["09:00"]}', '{"every": null}', '{"every": 30}', '{"every": "often"}', '{"every": "0 minutes"}', '{"every": "90 seconds"}', '{"every": "25 hours"}', '{"every": "1 month"}', '{"every": "-30 minutes"}',
    '{"every": "1 hour", "from": "22:00", "to": "08:00"}', '{"every": "1 hour", "from": "24:00"}', '{"every": "1 hour", "from": 8}', '{"every": "1 hour", "to": "24:01"}', '{"every": "1 hour", "days": "never"}', '{"every": "1 hour", "days": ["mon"]}', '{"every": "1 hour", "days": ""}', '{"every": "1 hour", "capacity": 0}', '{"every": "1 hour", "ref": "x"}',
    '{"from": "08:00", "to": "22:00"}'
]) AS t;
-- Foreign text in a message is quoted, escaped and cut.
SELECT pg_temp.fault(jsonb_build_object(E'a "b"\n\\', '[]'::jsonb));
SELECT pg_temp.fault(jsonb_build_object(repeat('ü', 300), '[]'::jsonb));
SELECT pg_temp.fault(jsonb_build_object('mon', jsonb_build_array(repeat('9', 300))));
SELECT pg_temp.fault(jsonb_build_object('mon', jsonb_build_array(jsonb_build_object('time', '09:00', 'ref', repeat('r', 256)))));
SELECT pg_temp.fault(jsonb_build_object('mon', jsonb_build_array(jsonb_build_object('time', '09:00', 'ref', repeat('ü', 255))))) AS longest_ref;
SELECT pg_temp.fault(jsonb_build_object('mon', (SELECT jsonb_agg(n) FROM generate_series(1, 1441) AS n)));

-- Slots keep a granule's distance, over midnight and the week's end too; "every" as well.
SELECT t || ' ' || g || E'\n' || pg_temp.fault(t::jsonb, options => jsonb_build_object('granule', g)) AS fault
FROM (VALUES ('{"daily": ["09:00", "09:14"]}', '15 minutes'), ('{"daily": ["09:00", "09:15"]}', '15 minutes'),
             ('{"mon": ["23:58"], "tue": ["00:01"]}', '5 minutes'), ('{"sun": ["23:58"], "mon": ["00:01"]}', '5 minutes'), ('{"sun": ["23:58"], "tue": ["00:01"]}', '5 minutes'),
             ('{"every": "2 minutes"}', '3 minutes'), ('{"every": "3 minutes"}', '3 minutes'), ('{"every": "1 minute"}', '1 minute'),
             ('{"every": "7 minutes", "from": "00:00"}', '5 minutes'), ('[{"time": 1439}, {"time": 0}]', '5 minutes')) AS c (t, g);

-- Zones: those of the server in any case, and three Indonesian abbreviations.
SELECT z AS zone, slotkeeper.create_queue('timetables', 'zone', z, '{}') ->> 'time_zone' AS becomes, slotkeeper.drop_queue('timetables', 'zone') ->> 'outcome' AS then
FROM unnest(ARRAY['Asia/Jakarta', 'asia/jakarta', 'ASIA/JAKARTA', 'WIB', 'wib', 'WITA', 'Wita', 'WIT', 'wit', 'UTC', 'utc', 'Etc/UTC', 'GMT', 'america/argentina/buenos_aires',
                  'America/Port-au-Prince']) AS z;
-- Any name of pg_timezone_names will do, but for Etc/GMT+7 and its kind. (No row here.)
SELECT n.name, pg_temp.fault('{}', n.name)
FROM pg_timezone_names AS n
WHERE n.name !~ '^Etc/GMT[+-][1-9]\d*$' AND n.name NOT LIKE 'posix%' AND pg_temp.fault('{}', n.name) <> 'no error';
SELECT '"' || z || E'"\n' || pg_temp.fault('{}', z) AS fault
FROM unnest(ARRAY['Etc/GMT+7', 'etc/gmt-7', '+07', '-07:00', '7', 'UTC+7', 'UTC-7', 'GMT+7', '<+07>-7', 'WIB-7', 'EST5', 'EST5EDT,M3.2.0,M11.1.0',
                  'IST', 'cst', 'BST', 'EDT', 'JST',
                  'Asia/Djakarta', 'Jakarta', 'Asia/Jakarta ', 'Europe/Berln', 'new york', 'Asia', 'America/Argentina', 'Mars/Olympus', 'Nowhere', '', ' ', '../../etc/passwd', 'Asia//Jakarta', '/Asia/Jakarta', 'Größe', '00:00', 'DEFAULT', 'local', 'right/Asia/Jakarta']) AS z;
SELECT pg_temp.fault('{}', repeat('z', 256));
SELECT pg_temp.fault('{}', repeat('ü', 256));
SELECT pg_temp.fault('{}', E'Asia/Jakarta\n; DROP TABLE slotkeeper.queue');
