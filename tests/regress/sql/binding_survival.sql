-- What becomes of a binding when its table changes: it goes on, or there is a clear error, and binding_health says so.
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS survival CASCADE;
DROP SCHEMA IF EXISTS survival2 CASCADE;
RESET client_min_messages;
\set VERBOSITY terse
\a
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
SET TimeZone = 'UTC';
CREATE SCHEMA survival;
SET search_path = survival, public;
CREATE FUNCTION pg_temp.try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text;
BEGIN
    EXECUTE command;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
    RETURN concat_ws(E'\n', state || ': ' || message, 'DETAIL: ' || nullif(detail, ''));
END
$$;
CREATE FUNCTION pg_temp.health() RETURNS TABLE (table_now text, status text, reason text, remedy text) LANGUAGE sql AS $$ SELECT h.table_now::text, h.status, h.reason, h.remedy FROM slotkeeper.binding_health AS h WHERE source LIKE 'survival%' ORDER BY source $$;
CREATE FUNCTION pg_temp.live() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(content_id || '=' || to_char(scheduled_at, 'MM-DD HH24:MI'), ' ' ORDER BY content_id) FROM slotkeeper.booking WHERE source LIKE 'survival%' AND released_at IS NULL $$;
SELECT slotkeeper.create_queue('survival', 'x', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS x, slotkeeper.create_queue('survival', 'y', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS y;
CREATE TYPE state AS ENUM ('on', 'off');
CREATE TABLE post (id int PRIMARY KEY, queue text NOT NULL DEFAULT 'x', at timestamptz, state state DEFAULT 'on', title text);
\set options '{"content_id": "id", "profile_id": {"value": "survival"}, "platform": "queue", "at": "at", "occupies": "state = ''on''", "exempt": {"secret": "title = ''secret''"}}'
SELECT slotkeeper.attach_table('post', :'options') ->> 'outcome' AS outcome;
INSERT INTO post (id, at) VALUES (1, '2026-01-20 09:00Z');

-- The predicate means the same under every search_path.
SET search_path = pg_catalog;
INSERT INTO survival.post (id, at) VALUES (2, NULL);
SELECT pg_temp.try($c$SELECT slotkeeper.assign_next_available_slot('survival', 'x', '2')$c$);
SELECT pg_temp.try($c$SELECT slotkeeper.reconcile_table('survival.post')$c$);
SET search_path = survival, public;
SELECT pg_temp.live();

-- The table is renamed, and its schema: it goes on.
ALTER TABLE post RENAME TO posts;
INSERT INTO posts (id, at) VALUES (5, '2026-01-20 09:00Z') RETURNING at;
SELECT pg_temp.try($c$SELECT slotkeeper.reschedule_content('5', '2026-02-01T00:00:00Z')$c$);
DELETE FROM posts WHERE id = 5;
-- The enum's value: the guard goes on, calls say that the predicate doesn't hold any more.
ALTER TYPE state RENAME VALUE 'on' TO 'queued';
INSERT INTO posts (id, at, state) VALUES (3, '2026-01-20 09:00Z', 'queued') RETURNING at;
SELECT pg_temp.try($c$SELECT slotkeeper.reschedule_content('3', '2026-02-01T00:00:00Z')$c$);
ALTER SCHEMA survival RENAME TO survival2;
SET search_path = survival2, public;
INSERT INTO posts (id, at, state) VALUES (4, '2026-01-20 09:00Z', 'queued') RETURNING at;
SELECT * FROM pg_temp.health();
SELECT source, table_schema, table_name FROM slotkeeper.binding WHERE source LIKE 'survival%';
ALTER SCHEMA survival2 RENAME TO survival;
SET search_path = survival, public;
ALTER TABLE posts RENAME TO post;
ALTER TABLE post ALTER COLUMN state SET DEFAULT 'queued';

-- A column that it names is renamed: an error for whoever writes rows that take seats, and a row in the view.
ALTER TABLE post RENAME COLUMN at TO due;
SELECT pg_temp.try($c$INSERT INTO survival.post (id, due) VALUES (5, '2026-01-21 09:00Z')$c$);
SELECT pg_temp.try($c$UPDATE survival.post SET due = '2026-01-29 09:00Z' WHERE id = 1$c$);
SELECT pg_temp.try($c$UPDATE survival.post SET title = 'still works' WHERE id = 1$c$);
SELECT pg_temp.try($c$SELECT slotkeeper.reschedule_content('1', '2026-02-01T00:00:00Z')$c$);
SELECT pg_temp.try($c$SELECT slotkeeper.reconcile_table('survival.post')$c$);
SELECT * FROM pg_temp.health();
SELECT slotkeeper.attach_table('post', replace(replace(:'options', '"at": "at"', '"at": "due"'), '''on''', '''queued''')::jsonb) ->> 'outcome' AS outcome;
SELECT * FROM pg_temp.health();
ALTER TABLE post RENAME COLUMN due TO at;
\set options '{"content_id": "id", "profile_id": {"value": "survival"}, "platform": "queue", "at": "at", "occupies": "state = ''queued''", "exempt": {"secret": "title = ''secret''"}}'
SELECT slotkeeper.attach_table('post', :'options') ->> 'outcome' AS outcome;

-- Types change, where the triggers let them; an id may grow.
SELECT pg_temp.try('ALTER TABLE survival.post ALTER COLUMN at TYPE text');
ALTER TABLE post ALTER COLUMN title TYPE varchar(200);
SELECT pg_temp.try('ALTER TABLE survival.post ALTER COLUMN id TYPE bigint');
SELECT pg_temp.live();

-- A column is dropped: one that a predicate reads, one that names the queue.
SELECT pg_temp.try('ALTER TABLE survival.post DROP COLUMN title');
BEGIN;
ALTER TABLE post DROP COLUMN title CASCADE;
SELECT * FROM pg_temp.health();
SELECT pg_temp.try($c$SELECT slotkeeper.reconcile_table('survival.post')$c$);
SELECT pg_temp.try($c$INSERT INTO survival.post (id, at) VALUES (5, '2026-01-21 09:00Z')$c$);
SELECT pg_temp.try($c$UPDATE survival.post SET at = '2026-01-29 09:00Z' WHERE id = 1$c$);
SELECT slotkeeper.attach_table('post', (:'options'::jsonb) - 'exempt') ->> 'outcome' AS attached_again;
SELECT * FROM pg_temp.health();
ROLLBACK;
BEGIN;
ALTER TABLE post DROP COLUMN queue CASCADE;
SELECT * FROM pg_temp.health();
SELECT pg_temp.try($c$INSERT INTO survival.post (id, at) VALUES (5, '2026-01-21 09:00Z')$c$);
ROLLBACK;
SELECT * FROM pg_temp.health();

-- Triggers that were disabled for a while: what was written meanwhile is found, and they are put back.
ALTER TABLE post DISABLE TRIGGER ALL;
INSERT INTO post (id, at) VALUES (10, '2026-03-01 09:00Z'), (11, '2026-03-01 09:00Z');
UPDATE post SET queue = 'y' WHERE id = 1;
UPDATE post SET at = '2026-03-05 09:00Z' WHERE id = 3;
DELETE FROM post WHERE id = 2;
SELECT * FROM pg_temp.health();
ALTER TABLE post ENABLE TRIGGER ALL;
SELECT * FROM pg_temp.health();
SELECT slotkeeper.reconcile_table('post') - 'collisions' AS reconciled;
SELECT * FROM pg_temp.health();
SELECT b.content_id, q.platform, b.scheduled_at FROM slotkeeper.booking AS b JOIN slotkeeper.queue AS q USING (queue_id) WHERE b.source LIKE 'survival%' AND released_at IS NULL ORDER BY content_id;
SELECT content_id, held_by FROM slotkeeper.slot_collisions WHERE source LIKE 'survival%';
SELECT slotkeeper.move_collisions('post') - 'results' AS moved;
SELECT id, at FROM post WHERE id IN (10, 11) ORDER BY id;
SELECT pg_temp.live();
-- A trigger is dropped.
DROP TRIGGER "~slotkeeper_insert" ON post;
SELECT * FROM pg_temp.health();
INSERT INTO post (id, at) VALUES (12, '2026-03-09 09:00Z');
SELECT slotkeeper.reconcile_table('post') - 'collisions' AS reconciled;
SELECT * FROM pg_temp.health();
-- Attached again it finds the same. What changed behind its back is put right, too.
ALTER TABLE post DISABLE TRIGGER ALL;
UPDATE post SET at = '2026-04-01 09:00Z' WHERE id = 12;
DELETE FROM post WHERE id = 11;
SELECT slotkeeper.attach_table('post', :'options') - 'collisions' AS attached;
SELECT pg_temp.live();
SELECT * FROM pg_temp.health();
-- Detached: the triggers go, the seats are given back, the table stays.
SELECT slotkeeper.detach_table('post') AS detached;
SELECT pg_temp.try($c$SELECT slotkeeper.detach_table('survival.post')$c$);
SELECT count(*) AS triggers FROM pg_trigger WHERE tgrelid = 'post'::regclass AND NOT tgisinternal;
SELECT pg_temp.live();
SELECT * FROM pg_temp.health();
SELECT slotkeeper.attach_table('post', :'options') - 'collisions' AS attached;

-- DROP TABLE, and one made again by that name; DROP SCHEMA.
DROP TABLE post;
SELECT pg_temp.live();
SELECT * FROM pg_temp.health();
CREATE TABLE post (id int PRIMARY KEY, queue text NOT NULL DEFAULT 'x', at timestamptz, state state DEFAULT 'queued', title text);
INSERT INTO post (id, at) VALUES (1, '2026-01-20 09:00Z');
SELECT * FROM pg_temp.health();
SELECT slotkeeper.attach_table('post', :'options') - 'collisions' AS attached;
SELECT * FROM pg_temp.health();

-- Partitions: TRUNCATE and DETACH fire nothing.
CREATE TABLE part (id int, region text, at timestamptz, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE part_eu PARTITION OF part FOR VALUES IN ('eu');
SELECT slotkeeper.attach_table('part', '{"content_id": "id", "profile_id": {"value": "survival"}, "platform": {"value": "y"}, "at": "at"}') ->> 'outcome' AS outcome;
CREATE TABLE part_us PARTITION OF part FOR VALUES IN ('us');
SELECT * FROM pg_temp.health() WHERE table_now = 'survival.part' OR table_now = 'part';
INSERT INTO part VALUES (101, 'eu', '2026-05-01 09:00Z'), (102, 'us', '2026-05-02 09:00Z'), (103, 'us', '2026-05-03 09:00Z');
TRUNCATE part_eu;
SELECT * FROM pg_temp.health() WHERE table_now = 'survival.part' OR table_now = 'part';
SELECT slotkeeper.reconcile_table('part') - 'collisions' AS reconciled;
ALTER TABLE part DETACH PARTITION part_us;
SELECT * FROM pg_temp.health() WHERE table_now = 'survival.part' OR table_now = 'part';
SELECT slotkeeper.reconcile_table('part') - 'collisions' AS reconciled;
SELECT pg_temp.try($c$INSERT INTO survival.part_us VALUES (104, 'us', '2026-05-02 09:00Z')$c$);
-- One that comes with rows.
INSERT INTO part_us VALUES (105, 'us', '2026-05-01 09:00Z');
ALTER TABLE part ATTACH PARTITION part_us FOR VALUES IN ('us');
SELECT * FROM pg_temp.health() WHERE table_now = 'survival.part' OR table_now = 'part';
SELECT slotkeeper.reconcile_table('part') - 'collisions' AS reconciled;
INSERT INTO part VALUES (106, 'us', '2026-05-01 09:00Z') RETURNING at;
SELECT * FROM pg_temp.health() WHERE table_now = 'survival.part' OR table_now = 'part';
TRUNCATE part;
SELECT * FROM pg_temp.health() WHERE table_now = 'survival.part' OR table_now = 'part';
SELECT pg_temp.live();

-- Something that a predicate names is renamed: a column, an enum's value, a function. Rows are guarded as ever, calls are refused,
-- and binding_health says so until it has its old name again or the table is attached anew.
CREATE TYPE mood AS ENUM ('draft', 'on');
CREATE FUNCTION live(mood) RETURNS boolean IMMUTABLE LANGUAGE sql AS $$SELECT $1 = 'on'$$;
CREATE TABLE named (id int PRIMARY KEY, at timestamptz, mood mood DEFAULT 'on', gone timestamptz);
SELECT slotkeeper.attach_table('named', '{"content_id": "id", "profile_id": {"value": "survival"}, "platform": {"value": "x"}, "at": "at",
    "occupies": "live(mood) AND mood = ''on''", "exempt": {"gone": "gone IS NOT NULL"}}') ->> 'outcome' AS outcome;
INSERT INTO named VALUES (201, '2026-06-01 09:00Z');
ALTER TABLE named RENAME gone TO deleted;
SELECT * FROM pg_temp.health() WHERE table_now = 'survival.named' OR table_now = 'named';
INSERT INTO named VALUES (202, '2026-06-01 09:00Z') RETURNING at > '2026-06-01 09:00Z' AS moved;
SELECT pg_temp.try($c$SELECT slotkeeper.reschedule_content('201', '2026-06-05 09:00Z')$c$);
ALTER TABLE named RENAME deleted TO gone;
ALTER TYPE mood RENAME VALUE 'on' TO 'queued';
SELECT * FROM pg_temp.health() WHERE table_now = 'survival.named' OR table_now = 'named';
ALTER TYPE mood RENAME VALUE 'queued' TO 'on';
ALTER FUNCTION live(mood) RENAME TO alive;
SELECT * FROM pg_temp.health() WHERE table_now = 'survival.named' OR table_now = 'named';
ALTER FUNCTION alive(mood) RENAME TO live;
SELECT * FROM pg_temp.health() WHERE table_now = 'survival.named' OR table_now = 'named';
DROP TABLE named;

SET client_min_messages = warning;
DROP SCHEMA survival CASCADE;
SELECT pg_temp.live() IS NULL AS nothing_left;
SELECT DISTINCT status FROM pg_temp.health();

-- DROP EXTENSION: with bound tables it says so; with CASCADE the triggers go and the tables stay.
CREATE TABLE public.regress_stays (id int PRIMARY KEY, at timestamptz);
SELECT slotkeeper.attach_table('public.regress_stays', '{"content_id": "id", "profile_id": {"value": "survival"}, "platform": {"value": "y"}, "at": "at"}') ->> 'outcome' AS outcome;
INSERT INTO public.regress_stays VALUES (1, '2026-05-01 09:00Z');
BEGIN;
SELECT left(pg_temp.try('DROP EXTENSION slotkeeper'), 80) AS try;
DROP EXTENSION slotkeeper CASCADE;
INSERT INTO public.regress_stays VALUES (2, '2026-05-01 09:00Z');
SELECT count(*) AS rows, (SELECT count(*) FROM pg_trigger WHERE tgrelid = 'public.regress_stays'::regclass) AS triggers FROM public.regress_stays;
ROLLBACK;
INSERT INTO public.regress_stays VALUES (2, '2026-05-01 09:00Z') RETURNING at;
DROP TABLE public.regress_stays;
SELECT slotkeeper.drop_queue('survival', platform, true) ->> 'outcome' AS outcome FROM unnest(ARRAY['x', 'y']) AS platform;
