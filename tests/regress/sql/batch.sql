-- assign_slots.
SET TimeZone = 'Pacific/Chatham';
SET DateStyle = 'SQL, MDY';
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
CREATE FUNCTION pg_temp.batch(reply jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT (reply ->> 'outcome') || ': ' || coalesce(string_agg(pg_temp.said(r), E'\n  ' ORDER BY n), 'nothing')
    FROM jsonb_array_elements(reply -> 'results') WITH ORDINALITY AS e (r, n)
$$;
CREATE FUNCTION pg_temp.items(VARIADIC ids text[]) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_agg(jsonb_build_object('profile_id', 'batch', 'platform', 'x', 'content_id', id) ORDER BY n) FROM unnest(ids) WITH ORDINALITY AS u (id, n)
$$;
SELECT slotkeeper.create_queue('batch', 'x', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.create_queue('batch', 'y', 'UTC', '{"daily": [{"time": "10:00", "capacity": 2, "ref": "ten"}]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.create_queue('batch', 'small', 'UTC', '{"daily": ["09:00"]}', '{"horizon": "2 days"}') ->> 'outcome' AS outcome;

-- In input order, whatever the queues; the keys of the reply and of its results.
SELECT pg_temp.batch(slotkeeper.assign_slots('[
    {"profile_id": "batch", "platform": "Y", "content_id": "b1", "user_id": "u1"},
    {"profile_id": "batch", "platform": "x", "content_id": "b1", "source": "posts"},
    {"profile_id": "batch", "platform": "x", "content_id": "b1", "not_before": "2026-02-01T09:00:00+00:00"},
    {"profile_id": "batch", "platform": "y", "content_id": "b2", "user_id": null, "not_before": null, "source": null},
    {"profile_id": "batch", "platform": "x", "content_id": 42, "user_id": 7},
    {"profile_id": "batch", "platform": "y", "content_id": "b3", "not_before": "2026-01-16 10:00:00.5+00"}]'));
SELECT pg_temp.keys(r), pg_temp.keys(r -> 'results' -> 0) FROM slotkeeper.assign_slots(pg_temp.items('b4')) AS r;
SELECT pg_temp.keys(r), pg_temp.keys(r -> 'results' -> 0) FROM slotkeeper.assign_slots(pg_temp.items('b4')) AS r;
SELECT r -> 'user_id' AS "user", r ->> 'slot_ref' AS ref, r ->> 'local_time' AS at
FROM slotkeeper.assign_next_available_slot('batch', 'y', 'b1') AS r;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('batch', 'x', '42')) AS number_is_its_text;
SELECT slotkeeper.assign_slots('[]') AS nothing, slotkeeper.assign_slots('[]', 'best_effort') AS nothing_either;

-- The same content twice is booked once: the second has the first one's answer.
SELECT pg_temp.batch(r), r #> '{results,0,booking_id}' = r #> '{results,2,booking_id}' AS one_booking FROM slotkeeper.assign_slots(pg_temp.items('d1', 'd2', 'd1', 'b4')) AS r;

-- All or nothing: an item that finds no seat rejects the batch, and nothing is booked.
SELECT count(*) AS before FROM slotkeeper.booking
\gset
SELECT pg_temp.batch(slotkeeper.assign_slots('[
    {"profile_id": "batch", "platform": "x", "content_id": "e1"},
    {"profile_id": "batch", "platform": "small", "content_id": "e1"},
    {"profile_id": "batch", "platform": "small", "content_id": "e2"},
    {"profile_id": "batch", "platform": "small", "content_id": "e3"},
    {"profile_id": "batch", "platform": "x", "content_id": "b4"},
    {"profile_id": "batch", "platform": "x", "content_id": "e2"}]'));
SELECT count(*) - :before AS booked FROM slotkeeper.booking;
SELECT pg_temp.keys(r), pg_temp.keys(r -> 'results' -> 0), pg_temp.keys(r -> 'results' -> 1)
FROM slotkeeper.assign_slots('[{"profile_id": "batch", "platform": "x", "content_id": "e1"}, {"profile_id": "batch", "platform": "small", "content_id": "e9", "not_before": "2026-03-01T00:00:00Z"}]') AS r;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('batch', 'small', 'e1')) AS the_first_seat_is_free;
SELECT slotkeeper.unschedule_content('e1') ->> 'outcome' AS outcome;
-- Best effort: what finds a seat is booked.
SELECT pg_temp.batch(slotkeeper.assign_slots('[
    {"profile_id": "batch", "platform": "x", "content_id": "g1"},
    {"profile_id": "batch", "platform": "small", "content_id": "g1"},
    {"profile_id": "batch", "platform": "small", "content_id": "g2"},
    {"profile_id": "batch", "platform": "small", "content_id": "g3"},
    {"profile_id": "batch", "platform": "small", "content_id": "g3"},
    {"profile_id": "batch", "platform": "x", "content_id": "b4"},
    {"profile_id": "batch", "platform": "x", "content_id": "g2"}]', 'best_effort'));
SELECT pg_temp.batch(slotkeeper.assign_slots('[{"profile_id": "batch", "platform": "small", "content_id": "g4"}, {"profile_id": "batch", "platform": "small", "content_id": "g5"}]', 'best_effort')) AS nothing_fits;
SELECT pg_temp.batch(slotkeeper.assign_slots('[{"profile_id": "batch", "platform": "small", "content_id": "g1"}, {"profile_id": "batch", "platform": "small", "content_id": "g5"}]', 'best_effort')) AS some_were_booked_before;

-- Items fill slots from their own not_before on; each gets the earliest that is left when its turn comes.
SELECT slotkeeper.create_queue('batch', 'mix', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome;
SELECT pg_temp.batch(slotkeeper.assign_slots('[
    {"profile_id": "batch", "platform": "mix", "content_id": "m1", "not_before": "2026-01-18T00:00:00Z"},
    {"profile_id": "batch", "platform": "mix", "content_id": "m2"},
    {"profile_id": "batch", "platform": "mix", "content_id": "m3", "not_before": "2026-01-17T00:00:00Z"},
    {"profile_id": "batch", "platform": "mix", "content_id": "m4"},
    {"profile_id": "batch", "platform": "mix", "content_id": "m5", "not_before": "2020-01-01T00:00:00Z"},
    {"profile_id": "batch", "platform": "mix", "content_id": "m6", "not_before": "2026-01-18T00:00:00Z"}]'));

-- Instants as people and programs write them: with a blank, without seconds, the offset without colon or minutes.
SELECT slotkeeper.create_queue('batch', 'spelled', 'UTC', '{"every": "1 minute"}') ->> 'outcome' AS outcome;
SELECT text, slotkeeper.assign_slots(jsonb_build_array(jsonb_build_object('profile_id', 'batch', 'platform', 'spelled', 'content_id', text, 'not_before', text))) #>> '{results,0,scheduled_at}' AS at
FROM unnest(ARRAY['2026-02-01T10:00:00Z', '2026-02-01t10:01:00.000z', '2026-02-01 17:02:00+07', '2026-02-01T17:03:00+0700', '2026-02-01T17:04+07:00', '2026-02-01 10:05Z', ' 2026-02-01T06:36:00.5-03:30 ']) AS text;

-- Hundreds at once, over capacity and holes: every seat once, none left out.
SELECT count(slotkeeper.unschedule_content('m' || n)) AS given_back FROM generate_series(2, 4) AS n;
SELECT r ->> 'outcome' AS outcome, jsonb_array_length(r -> 'results') AS results
FROM slotkeeper.assign_slots((SELECT jsonb_agg(jsonb_build_object('profile_id', 'batch', 'platform', p, 'content_id', p || n) ORDER BY n) FROM generate_series(1, 300) AS n, unnest(ARRAY['mix', 'y']) AS p)) AS r;
SELECT platform, count(*) AS live, count(DISTINCT scheduled_at) AS slots, max(scheduled_at) = '2026-01-16T09:00:00Z'::timestamptz + (count(DISTINCT scheduled_at) - 1) * interval '24 hours' + CASE platform WHEN 'y' THEN interval '1 hour' ELSE '0' END AS dense
FROM slotkeeper.booking JOIN slotkeeper.queue USING (queue_id) WHERE profile_id = 'batch' AND platform IN ('mix', 'y') AND released_at IS NULL GROUP BY platform ORDER BY platform;
-- More queues than a transaction holds locks for one by one.
SELECT count(slotkeeper.create_queue('batch', 'q' || n, 'UTC', '{"daily": ["09:00"]}')) AS queues FROM generate_series(1, 150) AS n;
SELECT r ->> 'outcome' AS outcome, (SELECT count(DISTINCT e ->> 'platform') FROM jsonb_array_elements(r -> 'results') AS e WHERE e ->> 'scheduled_at' = '2026-01-16T09:00:00+00:00') AS queues
FROM slotkeeper.assign_slots((SELECT jsonb_agg(jsonb_build_object('profile_id', 'batch', 'platform', 'q' || n, 'content_id', 'c') ORDER BY n) FROM generate_series(1, 150) AS n)) AS r;

-- Contents of a longer batch are taken for new where some of them are. The others' answers are the same: also where seats are
-- so few that nothing would be left if what is booked were to have another.
SELECT slotkeeper.create_queue('batch', 'twelve', 'UTC', '{"daily": ["09:00"]}', '{"horizon": "12 days"}') ->> 'outcome' AS outcome;
SELECT slotkeeper.assign_next_available_slot('batch', 'twelve', 'l2') ->> 'outcome' AS outcome;
SELECT r ->> 'outcome' AS outcome, string_agg(left(e ->> 'outcome', 1) || ' ' || (e ->> 'content_id') || ' ' || left(e ->> 'scheduled_at', 10), E'\n' ORDER BY n) AS results
FROM slotkeeper.assign_slots((SELECT jsonb_agg(jsonb_build_object('profile_id', 'batch', 'platform', 'twelve', 'content_id', 'l' || n) ORDER BY n) FROM generate_series(1, 12) AS n)) AS r,
     jsonb_array_elements(r -> 'results') WITH ORDINALITY AS i (e, n) GROUP BY r;
SELECT r ->> 'outcome' AS outcome, string_agg(DISTINCT e ->> 'outcome', ', ') AS results
FROM slotkeeper.assign_slots((SELECT jsonb_agg(jsonb_build_object('profile_id', 'batch', 'platform', 'twelve', 'content_id', 'l' || n) ORDER BY n) FROM generate_series(1, 12) AS n)) AS r,
     jsonb_array_elements(r -> 'results') AS e GROUP BY r;

-- Faults name the item, and book nothing.
SELECT count(*) AS before FROM slotkeeper.booking
\gset
SELECT i || E'\n' || pg_temp.fault(format($$SELECT slotkeeper.assign_slots('[{"profile_id": "batch", "platform": "x", "content_id": "ok"}, %s]')$$, i)) AS fault
FROM unnest(ARRAY['null', '1', '"x"', '[]', '{}',
    '{"platform": "x", "content_id": "c"}', '{"profile_id": "batch", "content_id": "c"}', '{"profile_id": "batch", "platform": "x"}',
    '{"profile_id": null, "platform": "x", "content_id": "c"}', '{"profile_id": "", "platform": "x", "content_id": "c"}', '{"profile_id": "batch", "platform": " ", "content_id": "c"}',
    '{"profile_id": "batch", "platform": "x", "content_id": true}', '{"profile_id": "batch", "platform": "x", "content_id": 1.5}', '{"profile_id": "batch", "platform": "x", "content_id": ["c"]}',
    '{"profile_id": "batch", "platform": "x", "content_id": "c", "user_id": ""}', '{"profile_id": "batch", "platform": "x", "content_id": "c", "source": ""}', '{"profile_id": "batch", "platform": "x", "content_id": "c", "user_id": {}}',
    '{"profile_id": "batch", "platform": "x", "content_id": "c", "not_before": "tomorrow"}', '{"profile_id": "batch", "platform": "x", "content_id": "c", "not_before": "2026-02-01"}',
    '{"profile_id": "batch", "platform": "x", "content_id": "c", "not_before": "2026-02-01T00:00:00"}', '{"profile_id": "batch", "platform": "x", "content_id": "c", "not_before": ""}',
    '{"profile_id": "batch", "platform": "x", "content_id": "c", "not_before": "infinity"}', '{"profile_id": "batch", "platform": "x", "content_id": "c", "not_before": 1768478400}',
    '{"profile_id": "batch", "platform": "x", "content_id": "c", "at": "2026-02-01T00:00:00Z"}', '{"profile_id": "batch", "platform": "x", "content": "c"}',
    '{"profile_id": "batch", "platform": "nowhere", "content_id": "c"}', '{"profile_id": "BATCH", "platform": "x", "content_id": "c"}']) AS i;
SELECT pg_temp.fault(format($$SELECT slotkeeper.assign_slots('[{"profile_id": "batch", "platform": "x", "content_id": "%s"}]')$$, repeat('c', 256)));
SELECT pg_temp.fault($$SELECT slotkeeper.assign_slots('{}')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.assign_slots('null')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.assign_slots('"x"')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.assign_slots(NULL)$$);
SELECT pg_temp.fault($$SELECT slotkeeper.assign_slots('[]', 'some')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.assign_slots('[]', NULL)$$);
SELECT pg_temp.fault($$SELECT slotkeeper.assign_slots((SELECT jsonb_agg(1) FROM generate_series(1, 100001)))$$);
SELECT count(*) - :before AS booked FROM slotkeeper.booking;

-- Two searches of one batch meet the same stale hole; it is removed once.
SELECT slotkeeper.create_queue('batch', 'stale', 'UTC', '{"every": "1 minute"}') ->> 'outcome' AS outcome;
SELECT slotkeeper.assign_slots(jsonb_agg(jsonb_build_object('profile_id', 'batch', 'platform', 'stale', 'content_id', 'st' || n) ORDER BY n)) ->> 'outcome' AS outcome
FROM generate_series(1, 200) AS n;
SELECT slotkeeper.assign_next_available_slot('batch', 'stale', 'st201') ->> 'outcome' AS outcome;
SELECT slotkeeper.unschedule_content('st100') ->> 'scheduled_at' AS hole;
SELECT slotkeeper.schedule_content('batch', 'stale', 'st202', '2026-01-15T13:39:00Z') ->> 'outcome' AS outcome;
SELECT slotkeeper.assign_slots('[{"profile_id": "batch", "platform": "stale", "content_id": "st203"},
    {"profile_id": "batch", "platform": "stale", "content_id": "st204", "not_before": "2026-01-15T12:10:00Z"}]') ->> 'outcome' AS outcome;
SELECT count(*) AS holes FROM slotkeeper.hole JOIN slotkeeper.queue USING (queue_id) WHERE profile_id = 'batch' AND platform = 'stale';

-- As many searches over one queue as there are items: each item gets what it would get alone, and what the searches have found out
-- is not written for each of them.
SELECT slotkeeper.create_queue('batch', 'many', 'UTC', '{"every": "30 minutes"}') ->> 'outcome' AS outcome;
CREATE TEMP TABLE many AS SELECT 'mn' || n AS id, '2026-02-01T00:00:00Z'::timestamptz + n * interval '1 minute' AS not_before FROM generate_series(1, 640) AS n;
BEGIN;
CREATE TEMP TABLE alone ON COMMIT PRESERVE ROWS AS
    SELECT id, slotkeeper.assign_next_available_slot('batch', 'many', id, p_not_before => not_before) ->> 'scheduled_at' AS at FROM many ORDER BY not_before;
SELECT string_agg(at, ' ' ORDER BY id) AS alone FROM alone \gset
ROLLBACK;
BEGIN;
SELECT coalesce(sum(n_tup_ins), 0) AS written FROM pg_stat_xact_user_tables WHERE relid = 'slotkeeper.full_run'::regclass \gset
SELECT string_agg(result ->> 'scheduled_at', ' ' ORDER BY result ->> 'content_id') = :'alone' AS the_same
FROM jsonb_array_elements(slotkeeper.assign_slots((SELECT jsonb_agg(jsonb_build_object('profile_id', 'batch', 'platform', 'many', 'content_id', id,
    'not_before', not_before) ORDER BY not_before) FROM many)) -> 'results') AS result;
SELECT n_tup_ins - :written < 32 AS few_runs_written FROM pg_stat_xact_user_tables WHERE relid = 'slotkeeper.full_run'::regclass;
COMMIT;
DROP TABLE many;

-- The same with searches that begin here and there, in queues of several kinds, while what the batches before have booked is partly given back.
CREATE FUNCTION pg_temp.scattered(p text, round int) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('profile_id', 'batch', 'platform', p, 'content_id', 'sc' || round || '-' || n,
        'not_before', CASE WHEN r % 10 < 7 THEN to_jsonb('2026-01-15T00:00:00Z'::timestamptz + r % 300 * interval '30 minutes') END)) ORDER BY n)
    FROM generate_series(1, 150) AS n, LATERAL (SELECT abs(hashint8(n * 7919 + round)::bigint) AS r) AS x
$$;
CREATE FUNCTION pg_temp.one_by_one(items jsonb) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    said text[];
BEGIN
    SELECT array_agg(coalesce(slotkeeper.assign_next_available_slot('batch', i ->> 'platform', i ->> 'content_id', p_not_before => (i ->> 'not_before')::timestamptz) ->> 'scheduled_at', 'full') ORDER BY n)
    INTO said FROM jsonb_array_elements(items) WITH ORDINALITY AS x (i, n);
    RAISE EXCEPTION USING message = array_to_string(said, ' '), errcode = 'SC001';
EXCEPTION WHEN SQLSTATE 'SC001' THEN
    RETURN string_to_array(sqlerrm, ' ');
END
$$;
SELECT p, slotkeeper.create_queue('batch', p, 'UTC', t::jsonb) ->> 'outcome' AS outcome
FROM (VALUES ('half', '{"every": "30 minutes"}'), ('three', '{"daily": ["09:00", {"time": "12:00", "capacity": 3}]}'), ('free', '{}'), ('week', '{"mon": [{"time": "09:00", "capacity": 5}]}')) AS v (p, t);
DO $$
DECLARE
    alone text[]; together text[]; items jsonb;
BEGIN
    FOR round IN 1 .. 4 LOOP
        FOR items IN SELECT pg_temp.scattered(p, round) FROM unnest(ARRAY['half', 'three', 'free', 'week']) AS p LOOP
            alone := pg_temp.one_by_one(items);
            SELECT array_agg(coalesce(r ->> 'scheduled_at', 'full') ORDER BY n) INTO together
            FROM jsonb_array_elements(slotkeeper.assign_slots(items, 'best_effort') -> 'results') WITH ORDINALITY AS x (r, n);
            IF alone <> together THEN
                RAISE WARNING '% of round %: % items have other seats than alone', items #>> '{0,platform}', round,
                    (SELECT count(*) FROM unnest(alone, together) AS u (a, t) WHERE a <> t);
            END IF;
            PERFORM slotkeeper.unschedule_content(i ->> 'content_id', 'batch', i ->> 'platform') FROM jsonb_array_elements(items) WITH ORDINALITY AS x (i, n) WHERE n % 5 = round % 5;
        END LOOP;
    END LOOP;
END
$$;

SELECT count(slotkeeper.drop_queue(profile_id, platform, true)) AS dropped FROM slotkeeper.queue WHERE profile_id = 'batch';

-- Replies are written in the form in which the server keeps jsonb: what it makes of their text has the same size, and each part is
-- found where it should be, behind numbers and after more than 32 others, too.
SELECT slotkeeper.create_queue('form', 'tiktok', 'UTC', '{"every": "1 hour"}') ->> 'outcome';
CREATE TEMP TABLE said (r jsonb, again jsonb);
ALTER TABLE said ALTER r SET STORAGE EXTERNAL, ALTER again SET STORAGE EXTERNAL;
INSERT INTO said SELECT r, r::text::jsonb FROM slotkeeper.assign_slots((
    SELECT jsonb_agg(jsonb_build_object('profile_id', 'form', 'platform', 'tiktok', 'content_id', CASE n % 3 WHEN 0 THEN to_jsonb(n) ELSE to_jsonb(repeat('ü', n) || n) END,
                                        'user_id', CASE WHEN n % 2 = 0 THEN 'user' END) ORDER BY n)
    FROM generate_series(1, 200) AS n)) AS r;
SELECT r ->> 'outcome', jsonb_array_length(r -> 'results'), r = again AS same, pg_column_size(r) = pg_column_size(again) AS size FROM said;
SELECT count(*), bool_and(e = r -> 'results' -> (n::int - 1)) AS by_place,
       bool_and(e ->> 'content_id' = CASE n % 3 WHEN 0 THEN '' ELSE repeat('ü', n::int) END || n) AS content,
       bool_and((e -> 'user_id' = 'null') = (n % 2 = 1)) AS who,
       bool_and((e -> 'booking_id')::bigint = (r #>> ARRAY['results', '0', 'booking_id'])::bigint + n - 1) AS ids
FROM said, jsonb_array_elements(r -> 'results') WITH ORDINALITY AS a (e, n);
DROP TABLE said;
SELECT slotkeeper.drop_queue('form', 'tiktok', true) ->> 'outcome';
