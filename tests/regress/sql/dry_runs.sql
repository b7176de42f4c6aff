-- A dry run says what the call itself then does.
SET TimeZone = 'America/Noronha';
SET DateStyle = 'SQL, DMY';
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_sk_dry;
RESET client_min_messages;
SET slotkeeper.now = '2026-01-15T12:00:00.7+00:00';
\a
-- The dry run's reply and the real one: where they differ. A new booking's id is none before it is made.
CREATE FUNCTION pg_temp.both(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    dry jsonb; real jsonb; before text; after text;
BEGIN
    SELECT md5(string_agg(b::text, '' ORDER BY booking_id)) INTO before FROM slotkeeper.booking AS b;
    EXECUTE 'SELECT slotkeeper.' || format(call, ', p_dry_run => true') INTO dry;
    SELECT md5(string_agg(b::text, '' ORDER BY booking_id)) INTO after FROM slotkeeper.booking AS b;
    EXECUTE 'SELECT slotkeeper.' || format(call, '') INTO real;
    RETURN concat_ws(' ', real ->> 'outcome', real ->> 'scheduled_at',
        CASE WHEN dry - 'dry_run' - 'booking_id' <> real - 'booking_id' OR dry ->> 'booking_id' <> real ->> 'booking_id' THEN 'but dry: ' || dry::text END,
        CASE WHEN dry -> 'dry_run' <> 'true' THEN 'not marked' END, CASE WHEN before <> after THEN 'it wrote' END);
END
$$;
CREATE FUNCTION pg_temp.both_at(content text, at text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT pg_temp.both(format('schedule_content(''dry'', ''x'', %L, %L, p_on_conflict => %L%%s)', content || ' ' || way, at, way)) FROM unnest(ARRAY['next_slot', 'next_free', 'reject']) AS way
$$;
SELECT slotkeeper.create_queue('dry', 'x', 'WIB', '{"daily": [{"time": "06:00", "capacity": 2}, "18:00"]}', '{"horizon": "3 days"}') ->> 'outcome' AS outcome;

-- Contents of no table: free and taken instants, the past, beyond the horizon, until nothing is left.
SELECT pg_temp.both_at('a', '2026-01-15T23:00:10Z');
SELECT pg_temp.both_at('b', '2026-01-15T23:00:20Z');
SELECT pg_temp.both_at('c', '2026-01-10T00:00:00Z');
SELECT pg_temp.both_at('d', '2026-01-10T00:00:00Z');
SELECT pg_temp.both_at('e', '2026-01-20T00:00:00Z');
SELECT pg_temp.both(format('assign_next_available_slot(''dry'', ''x'', %L%%s)', 'f' || n)) FROM generate_series(1, 7) AS n;
SELECT pg_temp.both('assign_next_available_slot(''dry'', ''x'', ''f1''%s)');
SELECT pg_temp.both(format('reschedule_content(%L, %L, %L%%s)', id, at, way))
FROM unnest(ARRAY['f1', 'nobody']) AS id, unnest(ARRAY['2026-01-15T23:00:30Z', '2026-01-10T00:00:00Z', '2026-01-16T01:00:00Z', '2026-02-01T00:00:00Z']) AS at, unnest(ARRAY['next_slot', 'next_free', 'reject']) AS way;

-- Contents of a table whose column has no fractions of a second: what lies in the past becomes the first instant that it can hold.
CREATE TABLE dry_post (id text PRIMARY KEY, profile text, at timestamp(0), state text);
SELECT slotkeeper.attach_table('dry_post', '{"content_id": "id", "profile_id": "profile", "platform": {"value": "x"}, "at": "at", "at_zone": "UTC",
    "occupies": "state = ''QUEUE''", "states": {"scheduled": {"state": "QUEUE"}, "unscheduled": {"state": "DRAFT"}}}') ->> 'outcome' AS outcome;
SELECT slotkeeper.alter_queue('dry', 'x', p_options => '{"horizon": "1 year"}') ->> 'outcome' AS outcome;
INSERT INTO dry_post SELECT 'p' || n, 'dry', NULL, 'DRAFT' FROM generate_series(1, 9) AS n;
SELECT slotkeeper.unschedule_content('c next_slot') ->> 'scheduled_at' AS was_at;
SELECT pg_temp.both('schedule_content(''dry'', ''x'', ''p1'', ''2026-01-10T00:00:00Z''%s)');
SELECT pg_temp.both('schedule_content(''dry'', ''x'', ''p2'', ''2026-01-10T00:00:00Z''%s)');
SELECT pg_temp.both('schedule_content(''dry'', ''x'', ''p3'', ''2026-01-30T10:00:59.7Z'', p_on_conflict => ''reject''%s)');
SELECT pg_temp.both('assign_next_available_slot(''dry'', ''x'', ''p4''%s)');
SELECT pg_temp.both('reschedule_content(''p4'', ''2026-01-30T10:01:00.4Z''%s)');
SELECT pg_temp.both('reschedule_content(''p4'', ''2026-01-30T11:01:00.4Z''%s)');
SELECT pg_temp.both('reschedule_content(''p3'', ''2026-01-10T00:00:00Z''%s)');
SELECT id, to_char(at, 'YYYY-MM-DD HH24:MI:SS') AS at, state FROM dry_post WHERE at IS NOT NULL ORDER BY id;
-- Booked before its row was there: the row is to have that booking.
SELECT slotkeeper.schedule_content('dry', 'x', id, '2026-02-01T00:00:00Z', p_on_conflict => 'next_free') ->> 'outcome' AS outcome FROM unnest(ARRAY['early1', 'early2']) AS id;
INSERT INTO dry_post VALUES ('early1', 'dry', NULL, 'DRAFT'), ('early2', 'dry', NULL, 'DRAFT');
SELECT pg_temp.both('assign_next_available_slot(''dry'', ''x'', ''early1''%s)');
SELECT pg_temp.both('schedule_content(''dry'', ''x'', ''early2'', ''2026-02-05T00:00:00Z''%s)');

-- Rows that row security lets the caller see and not change are none of his.
CREATE ROLE regress_sk_dry;
SELECT slotkeeper.grant_access('regress_sk_dry', 'user') ->> 'outcome' AS outcome;
GRANT SELECT, UPDATE ON dry_post TO regress_sk_dry;
GRANT SELECT ON slotkeeper.booking TO regress_sk_dry;
ALTER TABLE dry_post ENABLE ROW LEVEL SECURITY;
CREATE POLICY look ON dry_post FOR SELECT USING (true);
CREATE POLICY change ON dry_post FOR UPDATE USING (id IN ('p5', 'p4'));
SET ROLE regress_sk_dry;
SELECT pg_temp.both(format('assign_next_available_slot(''dry'', ''x'', %L%%s)', id)) FROM unnest(ARRAY['p5', 'p6', 'nowhere']) AS id;
SELECT pg_temp.both(format('schedule_content(''dry'', ''x'', %L, ''2026-02-06T00:00:00Z''%%s)', id)) FROM unnest(ARRAY['p5', 'p7']) AS id;
SELECT pg_temp.both(format('reschedule_content(%L, ''2026-02-07T00:00:00Z''%%s)', id)) FROM unnest(ARRAY['p4', 'p3']) AS id;
-- A table that he may only read is none of his, and in nobody's way.
RESET ROLE;
CREATE TABLE dry_other (id text PRIMARY KEY, profile text, at timestamptz);
SELECT slotkeeper.attach_table('dry_other', '{"content_id": "id", "profile_id": "profile", "platform": {"value": "x"}, "at": "at"}') ->> 'outcome' AS outcome;
INSERT INTO dry_other VALUES ('o1', 'dry', NULL);
ALTER TABLE dry_other ENABLE ROW LEVEL SECURITY;
CREATE POLICY look ON dry_other USING (true);
GRANT SELECT ON dry_other TO regress_sk_dry;
SET ROLE regress_sk_dry;
SELECT pg_temp.both('reschedule_content(''p5'', ''2026-02-08T00:00:00Z'', p_profile_id => ''dry''%s)');
SELECT pg_temp.both('assign_next_available_slot(''dry'', ''x'', ''p5''%s)');
SELECT slotkeeper.assign_next_available_slot('dry', 'x', 'o1', p_dry_run => true);
SELECT slotkeeper.assign_next_available_slot('dry', 'x', 'o1');
-- Nothing is locked or written for it; policies for changes are asked also where nothing may be.
BEGIN;
SELECT slotkeeper.assign_next_available_slot('dry', 'x', 'p8', p_dry_run => true) ->> 'outcome' AS outcome;
RESET ROLE;
SELECT pg_current_xact_id_if_assigned() IS NULL AS nothing_locked_or_written;
COMMIT;
SET ROLE regress_sk_dry;
BEGIN READ ONLY;
SELECT slotkeeper.assign_next_available_slot('dry', 'x', 'p8', p_dry_run => true) ->> 'outcome' AS read_only;
COMMIT;
RESET ROLE;

SELECT slotkeeper.detach_table(t) ->> 'outcome' AS outcome FROM unnest(ARRAY['dry_post', 'dry_other']::regclass[]) AS t;
DROP TABLE dry_post, dry_other;
SELECT slotkeeper.drop_queue('dry', 'x', true) ->> 'outcome' AS outcome;
DROP OWNED BY regress_sk_dry;
DROP ROLE regress_sk_dry;
