-- Attaching: what check_table finds, what is refused, ids and times of every type that may be bound, rows that are there.
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS attaching CASCADE;
RESET client_min_messages;
\set VERBOSITY terse
\a
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
SET TimeZone = 'UTC';
CREATE SCHEMA attaching;
SET search_path = attaching, public;
CREATE FUNCTION pg_temp.try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; reply text;
BEGIN
    EXECUTE command INTO reply;
    RETURN coalesce(reply, 'ok');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
    RETURN concat_ws(' | ', state || ': ' || message, nullif(detail, ''));
END
$$;
CREATE FUNCTION pg_temp.live(name text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(content_id || '=' || to_char(scheduled_at, 'MM-DD HH24:MI:SS.US'), ' ' ORDER BY content_id)
    FROM slotkeeper.booking WHERE source = 'attaching.' || name AND released_at IS NULL
$$;
SELECT slotkeeper.create_queue('attaching', p, 'UTC', '{"daily": ["09:00"]}', '{"horizon": "10 years"}') ->> 'outcome' AS outcome FROM unnest(ARRAY['x', 'y', 'free']) AS p;
\set base '{"content_id": "id", "profile_id": {"value": "attaching"}, "at": "at"}'
\set options '{"content_id": "id", "profile_id": {"value": "attaching"}, "platform": "queue", "at": "at", "occupies": "state = ''on''", "exempt": {"draft": "draft", "child of another": "parent IS NOT NULL"}}'

-- Counts, before anything is changed. Nothing is.
CREATE TABLE post (id int, queue text, at timestamptz, state text DEFAULT 'on', draft boolean, parent int);
INSERT INTO post (id, queue, at) VALUES (1, 'x', '2026-02-01 09:00Z'), (2, 'x', '2026-02-01 09:00Z'), (3, 'x', '2026-02-01 09:00:30Z'), (4, 'y', '2026-02-01 09:00Z'), (5, 'x', 'infinity'), (6, 'x', NULL), (7, 'z', '2026-02-01 09:00Z');
INSERT INTO post VALUES (10, 'x', '2026-02-01 09:00Z', 'off', NULL, NULL), (11, 'x', '2026-02-01 09:00Z', 'on', true, NULL), (12, 'x', '2026-02-01 09:00Z', 'on', true, 1), (13, 'x', '2026-02-01 09:00Z', 'on', NULL, 1);
SELECT jsonb_pretty(slotkeeper.check_table('post', :'options')) AS checked;
SELECT pg_temp.try(format('SELECT slotkeeper.attach_table(%L, %L)', 'post', :'options'));
CREATE UNIQUE INDEX ON post (id) WHERE id > 0;
SELECT slotkeeper.check_table('post', :'options') ->> 'ready' AS ready;
ALTER TABLE post ADD PRIMARY KEY (id);
SELECT pg_temp.try(format('SELECT slotkeeper.attach_table(%L, %L)', 'post', :'options'));
UPDATE post SET queue = 'y' WHERE id = 7;
SELECT slotkeeper.check_table('post', :'options') - 'exempt' AS checked;
SELECT count(*) AS booked FROM slotkeeper.booking WHERE source LIKE 'attaching.%';
SELECT count(*) AS triggers FROM pg_trigger WHERE tgrelid = 'post'::regclass;

-- With collisions: the first by id of each instant has the seat, the others are listed, and can be moved.
SELECT slotkeeper.attach_table('post', :'options') AS attached;
SELECT pg_temp.live('post');
SELECT content_id, at, held_by FROM slotkeeper.slot_collisions WHERE source = 'attaching.post' ORDER BY content_id;
-- One that is without a seat may be written, as long as it stays where it is; it gets one by its move, or loses its claim.
UPDATE post SET parent = NULL WHERE id = 2;
UPDATE post SET at = '2026-02-05 09:00Z' WHERE id = 2;
SELECT slotkeeper.move_collisions('post') - 'results' AS moved;
SELECT id, at FROM post WHERE id IN (1, 2, 3, 4, 7) ORDER BY id;
SELECT pg_temp.live('post');
SELECT slotkeeper.detach_table('post') AS detached;
SELECT pg_temp.live('post') IS NULL AS nothing;

-- A call gives one a seat of its own: it collides no longer.
CREATE TABLE twins (id int PRIMARY KEY, at timestamptz, queue text DEFAULT 'x');
INSERT INTO twins VALUES (1, '2026-06-01 09:00Z'), (2, '2026-06-01 09:00Z'), (3, '2026-06-01 09:00Z');
SELECT slotkeeper.attach_table('twins', :'base'::jsonb || '{"platform": "queue"}') ->> 'collision_count' AS collisions;
SELECT slotkeeper.schedule_content('attaching', 'x', '2', '2026-06-09 09:00Z') ->> 'outcome' AS outcome;
SELECT content_id FROM slotkeeper.slot_collisions WHERE source = 'attaching.twins';
SELECT r ->> 'moved' AS moved, r ->> 'remaining' AS remaining FROM slotkeeper.move_collisions('twins') AS r;
SELECT content_id FROM slotkeeper.slot_collisions WHERE source = 'attaching.twins';
SELECT slotkeeper.detach_table('twins') ->> 'released' AS released;
DROP TABLE twins;

-- Predicates that are no predicates over the row.
SELECT predicate, pg_temp.try(format('SELECT slotkeeper.attach_table(%L, %L)', 'post', :'base'::jsonb || jsonb_build_object('platform', 'queue', 'occupies', predicate))) AS result
FROM unnest(ARRAY['', 'state', 'id', 'true; DROP TABLE attaching.post', 'true) OR (true', 'true -- comment', 'EXISTS (SELECT 1)', 'id IN (SELECT 1)', 'count(*) > 0', 'row_number() OVER () > 0', 'generate_series(1, 2) > 0',
    'ctid IS NOT NULL', 'tableoid > 0', 'post IS NULL', 't.state = ''on''', 'new.state = ''on''', 'missing = 1', 'nothing(1)', '$1', 'true AS x', 'true FROM post', 'true, true', E'state = \'on', 'DEFAULT', 'state = ''on'' ORDER BY 1', 'grouping(id) = 0']) AS predicate;
SELECT count(*) AS there FROM post;

-- Ids.
CREATE DOMAIN key AS uuid;
CREATE TABLE ids (i2 smallint UNIQUE, i8 bigint UNIQUE, u uuid UNIQUE, v varchar(50) UNIQUE, c char(10) UNIQUE, k key UNIQUE, n numeric UNIQUE, t text UNIQUE, at timestamptz);
INSERT INTO ids VALUES (1, 5000000000, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'v:1', 'c', 'b0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 1.0, 'T', '2026-02-10 09:00Z');
SELECT id, pg_temp.try(format('SELECT slotkeeper.attach_table(%L, %L) ->> ''booked''', 'ids', jsonb_build_object('content_id', id, 'profile_id', '{"value": "attaching"}'::jsonb, 'platform', '{"value": "free"}'::jsonb, 'at', 'at'))) AS booked, pg_temp.live('ids'), pg_temp.try('SELECT slotkeeper.detach_table(''ids'') ->> ''released''') AS released
FROM unnest(ARRAY['i2', 'i8', 'u', 'v', 'c', 'k', 'n', 't']) AS id;

-- Times without a zone, of any precision: what is stored is what is booked.
CREATE TABLE times (id text PRIMARY KEY, t0 timestamp(0), t3 timestamp(3), t6 timestamp, z0 timestamptz(0));
INSERT INTO times VALUES ('kept', '2026-02-11 10:00:00.6', '2026-02-11 10:00:00.0006', '2026-02-11 10:00:00.000006', '2026-02-11 10:00:00.6Z');
SELECT at, pg_temp.try(format('SELECT slotkeeper.attach_table(%L, %L) ->> ''booked''', 'times', :'base'::jsonb || '{"platform": {"value": "free"}}' || jsonb_build_object('at', at) || CASE WHEN at LIKE 't%' THEN '{"at_zone": "Asia/Jakarta"}' ELSE '{}' END::jsonb)) AS booked, pg_temp.live('times'), slotkeeper.detach_table('times') ->> 'released' AS released
FROM unnest(ARRAY['t0', 't3', 't6', 'z0']) AS at;
SELECT pg_temp.try(format('SELECT slotkeeper.attach_table(%L, %L)', 'times', :'base'::jsonb || '{"platform": {"value": "free"}, "at": "t0"}'));
SELECT pg_temp.try(format('SELECT slotkeeper.attach_table(%L, %L)', 'times', :'base'::jsonb || '{"platform": {"value": "free"}, "at": "z0", "at_zone": "UTC"}'));
SELECT pg_temp.try(format('SELECT slotkeeper.attach_table(%L, %L)', 'times', :'base'::jsonb || '{"platform": {"value": "free"}, "at": "t0", "at_zone": "Mars/Olympus"}'));
-- A wall clock that skips an hour and goes through another twice: an hour that is skipped is an hour later, and the first of
-- two is meant. Two rows whose wall times differ may then be one instant.
SELECT pg_temp.try($c$SELECT slotkeeper.detach_table('times')$c$);
TRUNCATE times;
SELECT slotkeeper.attach_table('times', :'base'::jsonb || '{"platform": {"value": "free"}, "at": "t3", "at_zone": "America/New_York", "on_conflict": "next_free"}') ->> 'outcome' AS outcome;
INSERT INTO times (id, t3) VALUES ('before', '2026-03-08 01:30'), ('skipped', '2026-03-08 02:30'), ('same', '2026-03-08 03:30'), ('first', '2026-11-01 01:30'), ('again', '2026-11-01 01:30'), ('after', '2026-11-01 02:30') RETURNING id, t3;
SELECT pg_temp.live('times');
UPDATE times SET t3 = t3 + interval '1 day';
SELECT pg_temp.live('times');
SELECT slotkeeper.reconcile_table('times') - 'collisions' AS reconciled;

-- A row that goes to another partition keeps its seat; one whose move is undone, and is then deleted, doesn't.
CREATE TABLE part (id int, region text, at timestamptz, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE part_eu PARTITION OF part FOR VALUES IN ('eu');
CREATE TABLE part_us PARTITION OF part FOR VALUES IN ('us');
ALTER TABLE part_us ADD CHECK (id < 100);
SELECT slotkeeper.attach_table('part', :'base'::jsonb || '{"platform": {"value": "y"}}') ->> 'outcome' AS outcome;
INSERT INTO part VALUES (1, 'eu', '2026-04-01 09:00Z'), (100, 'eu', '2026-04-02 09:00Z'), (101, 'eu', '2026-04-03 09:00Z');
UPDATE part SET region = 'us' WHERE id = 1;
BEGIN;
SAVEPOINT s;
UPDATE part SET region = 'us' WHERE id = 100;
ROLLBACK TO s;
DELETE FROM part WHERE id = 100;
SAVEPOINT s;
UPDATE part SET region = 'us' WHERE id = 101;
ROLLBACK TO s;
UPDATE part SET at = '2026-04-04 09:00Z' WHERE id = 101;
INSERT INTO part VALUES (102, 'eu', '2026-04-02 09:00Z') RETURNING at;
COMMIT;
SELECT pg_temp.live('part');
DELETE FROM part WHERE id IN (1, 101);
SELECT pg_temp.live('part');

-- Two rows of one id in one statement: what was booked for the second is given back, whatever became of the first.
CREATE TABLE twice (id int PRIMARY KEY, queue text, at timestamptz, state text);
SELECT slotkeeper.attach_table('twice', :'base'::jsonb || '{"platform": "queue", "occupies": "state = ''on''"}') ->> 'outcome' AS outcome;
INSERT INTO twice VALUES (1, 'x', '2026-05-01 09:00Z', 'off'), (1, 'x', '2026-05-01 09:00Z', 'on'), (2, 'x', '2026-05-02 09:00Z', 'on'), (2, 'y', '2026-05-02 09:00Z', 'on') ON CONFLICT DO NOTHING;
SELECT * FROM twice ORDER BY id;
SELECT pg_temp.live('twice');
-- A statement that was undone leaves nothing that would be given back later.
BEGIN;
SAVEPOINT s;
INSERT INTO twice VALUES (3, 'x', '2026-05-03 09:00Z', 'on'), (3, 'x', '2026-05-04 09:00Z', 'on');
ROLLBACK TO s;
INSERT INTO twice VALUES (3, 'y', '2026-05-03 09:00Z', 'on');
INSERT INTO twice VALUES (4, 'x', '2026-05-04 09:00Z', 'on') ON CONFLICT DO NOTHING;
COMMIT;
SELECT pg_temp.live('twice');

-- A table that a crash empties; ids from another column while seats are booked under those of the first.
CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY, code text UNIQUE NOT NULL DEFAULT gen_random_uuid(), queue text, at timestamptz);
SELECT problem ->> 'problem' AS problem, problem ->> 'remedy' AS remedy FROM jsonb_array_elements(slotkeeper.check_table('fleeting', :'base'::jsonb || '{"platform": "queue"}') -> 'problems') AS problem;
SELECT slotkeeper.attach_table('fleeting', :'base'::jsonb || '{"platform": "queue"}');
ALTER TABLE fleeting SET LOGGED;
SELECT slotkeeper.attach_table('fleeting', :'base'::jsonb || '{"platform": "queue"}') ->> 'outcome' AS outcome;
SELECT slotkeeper.attach_table('fleeting', :'base'::jsonb || '{"platform": "queue", "content_id": "code"}') ->> 'outcome' AS before_any_row;
SELECT slotkeeper.attach_table('fleeting', :'base'::jsonb || '{"platform": "queue"}') ->> 'outcome' AS outcome;
INSERT INTO fleeting VALUES (1, 'one', 'x', '2026-06-01 09:00Z');
SELECT slotkeeper.attach_table('fleeting', :'base'::jsonb || '{"platform": "queue", "content_id": "code"}');
ALTER TABLE fleeting RENAME id TO number;
SELECT slotkeeper.attach_table('fleeting', :'base'::jsonb || '{"platform": "queue", "content_id": "number"}') -> 'already_booked' AS already_booked;
SELECT slotkeeper.detach_table('fleeting') -> 'released' AS released;
SELECT slotkeeper.attach_table('fleeting', :'base'::jsonb || '{"platform": "queue", "content_id": "code"}') -> 'booked' AS booked;

SET client_min_messages = warning;
DROP SCHEMA attaching CASCADE;
SELECT slotkeeper.drop_queue('attaching', p, true) ->> 'outcome' AS outcome FROM unnest(ARRAY['x', 'y', 'free']) AS p;
