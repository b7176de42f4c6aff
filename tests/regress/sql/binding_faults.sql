-- What goes wrong with a bound table, or would without notice: each is an error that says what to do, or shows in a view.
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS wrong CASCADE;
RESET client_min_messages;
\set VERBOSITY terse
\a
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
SET TimeZone = 'UTC';
CREATE SCHEMA wrong;
SET search_path = wrong, public;
CREATE FUNCTION pg_temp.try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    EXECUTE command;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', state || ': ' || message, 'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END
$$;
CREATE FUNCTION pg_temp.health() RETURNS TABLE (source text, kind text, status text, reason text, remedy text) LANGUAGE sql AS $$ SELECT h.source, h.kind, h.status, h.reason, h.remedy FROM slotkeeper.binding_health AS h WHERE h.source LIKE 'wrong%' ORDER BY h.source, h.kind $$;
CREATE FUNCTION pg_temp.live() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(content_id || '=' || to_char(scheduled_at, 'MM-DD HH24:MI'), ' ' ORDER BY content_id) FROM slotkeeper.booking WHERE source LIKE 'wrong%' AND released_at IS NULL $$;
SELECT slotkeeper.create_queue('wrong', 'x', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS x;
\set options '{"content_id": "id", "profile_id": {"value": "wrong"}, "platform": {"value": "x"}, "at": "at", "occupies": "state = ''on''", "exempt": {"deleted": "deleted"}}'

-- Deleting succeeds where the binding is broken, in each way, and gives the seats back.
CREATE TABLE post (id int PRIMARY KEY, at timestamptz, state text DEFAULT 'on', deleted bool NOT NULL DEFAULT false);
SELECT slotkeeper.attach_table('post', :'options') ->> 'outcome' AS outcome;
INSERT INTO post (id, at) SELECT n, timestamptz '2026-01-20 09:00Z' + n * interval '1 day' FROM generate_series(1, 6) AS n;
ALTER TABLE post RENAME COLUMN at TO due;
SELECT pg_temp.try($c$INSERT INTO wrong.post (id, due) VALUES (7, '2026-02-20 09:00Z')$c$);
DELETE FROM post WHERE id = 1;
UPDATE post SET deleted = true WHERE id = 2;
UPDATE post SET state = 'off' WHERE id = 3;
SELECT pg_temp.live();
-- Of a row without its id nothing can be told until the table is attached again.
ALTER TABLE post RENAME COLUMN id TO key;
DELETE FROM post WHERE key = 4;
SELECT pg_temp.live();
ALTER TABLE post RENAME COLUMN key TO id;
ALTER TABLE post RENAME COLUMN due TO at;
SELECT slotkeeper.attach_table('post', :'options') ->> 'outcome' AS outcome;
SELECT pg_temp.live();
ALTER TABLE post RENAME COLUMN at TO due;
TRUNCATE post;
SELECT pg_temp.live() IS NULL AS nothing_left;
DROP TABLE post;
-- Also where a predicate has gone with a column; of states nothing can be told then.
CREATE TABLE post (id int PRIMARY KEY, at timestamptz, state text DEFAULT 'on', deleted bool NOT NULL DEFAULT false);
SELECT slotkeeper.attach_table('post', :'options') ->> 'outcome' AS outcome;
INSERT INTO post (id, at) SELECT n, timestamptz '2026-01-20 09:00Z' + n * interval '1 day' FROM generate_series(1, 3) AS n;
SET client_min_messages = warning;
ALTER TABLE post DROP COLUMN state CASCADE;
RESET client_min_messages;
UPDATE post SET deleted = true WHERE id = 1;
DELETE FROM post WHERE id = 2;
SELECT pg_temp.live();
SELECT pg_temp.try($c$UPDATE wrong.post SET at = '2026-01-29 09:00Z' WHERE id = 3$c$);
SELECT pg_temp.try($c$UPDATE wrong.post SET deleted = false WHERE id = 1$c$);
DROP TABLE post;

-- Data that is loaded before what slotkeeper knows of its table, as from a dump of data alone: refused with a hint, or let
-- pass in replica role. Reconciling finds it. Deleting goes on.
CREATE TABLE post (id int PRIMARY KEY, at timestamptz, state text DEFAULT 'on', deleted bool NOT NULL DEFAULT false);
SELECT slotkeeper.attach_table('post', :'options') ->> 'outcome' AS outcome;
CREATE TEMPORARY TABLE dumped AS SELECT * FROM slotkeeper.binding WHERE source = 'wrong.post';
DELETE FROM slotkeeper.binding WHERE source = 'wrong.post';
ALTER TABLE post ENABLE ALWAYS TRIGGER "~slotkeeper_insert";
SELECT pg_temp.try($c$INSERT INTO wrong.post (id, at) VALUES (1, '2026-01-21 09:00Z')$c$);
SET session_replication_role = replica;
INSERT INTO post (id, at) VALUES (1, '2026-01-21 09:00Z'), (2, '2026-01-22 09:00Z'), (3, '2026-01-23 09:00Z');
UPDATE post SET at = '2026-01-24 09:00Z' WHERE id = 1;
RESET session_replication_role;
DELETE FROM post WHERE id = 3;
INSERT INTO slotkeeper.binding SELECT * FROM dumped;
SELECT slotkeeper.reconcile_table('post') - 'collisions' AS reconciled;
SELECT pg_temp.live();
SELECT * FROM pg_temp.health();

-- A table that was dropped and comes back with its triggers, as from a dump of this one table: what the view advises helps.
CREATE TEMPORARY TABLE triggers AS SELECT pg_get_triggerdef(oid) AS definition, tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'post'::regclass;
DROP TABLE post;
CREATE TABLE post (id int PRIMARY KEY, at timestamptz, state text DEFAULT 'on', deleted bool NOT NULL DEFAULT false);
INSERT INTO post (id, at) VALUES (1, '2026-01-21 09:00Z');
DO $$ DECLARE it record; BEGIN FOR it IN SELECT * FROM triggers LOOP
    EXECUTE it.definition;
    EXECUTE format('ALTER TABLE post %s TRIGGER %I', CASE it.tgenabled WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'DISABLE' END, it.tgname);
END LOOP; END $$;
SELECT * FROM pg_temp.health();
SELECT slotkeeper.attach_table('post', (SELECT options FROM slotkeeper.binding WHERE source = 'wrong.post')) - 'collisions' AS attached;
SELECT pg_temp.live();
SELECT * FROM pg_temp.health();
DROP TABLE post;

-- A column that is named in states alone.
CREATE TABLE stated (id int PRIMARY KEY, at timestamptz, state text DEFAULT 'on', deleted bool NOT NULL DEFAULT false, error text);
SELECT slotkeeper.attach_table('stated', :'options'::jsonb || '{"states": {"scheduled": null, "failed": {"error": "$error"}}}') ->> 'outcome' AS outcome;
SELECT * FROM pg_temp.health() WHERE source = 'wrong.stated';
ALTER TABLE stated DROP COLUMN error;
SELECT * FROM pg_temp.health() WHERE source = 'wrong.stated';
DROP TABLE stated;

-- States that would change which content, queue or time it is.
CREATE TABLE stated (id int PRIMARY KEY, profile text, platform text, at timestamptz, state text);
\set columns '{"content_id": "id", "profile_id": "profile", "platform": "platform", "at": "at"}'
SELECT column_name, pg_temp.try(format('SELECT slotkeeper.attach_table(''wrong.stated'', %L)', :'columns'::jsonb || jsonb_build_object('states', jsonb_build_object('failed', jsonb_build_object(column_name, '7')))))
FROM unnest(ARRAY['id', 'profile', 'platform']) AS column_name;
SELECT slotkeeper.check_table('stated', :'columns'::jsonb || '{"states": {"retrying": {"at": "$next_attempt_at"}}}') -> 'problems' AS problems;
SELECT slotkeeper.attach_table('stated', :'columns'::jsonb || '{"states": {"scheduled": {"at": "$scheduled_at", "state": "on"}, "unscheduled": {"at": null}}}') ->> 'outcome' AS outcome;
DROP TABLE stated;

-- One table with contents, queues and slugs: neither breaks the others.
CREATE TABLE mixed (id int PRIMARY KEY, at timestamptz, name text, slug text UNIQUE, times jsonb DEFAULT '{"daily": ["09:00"]}');
SELECT slotkeeper.attach_table('mixed', '{"content_id": "id", "profile_id": {"value": "wrong"}, "platform": {"value": "x"}, "at": "at"}') ->> 'outcome' AS contents,
       slotkeeper.attach_queues('mixed', '{"profile_id": "name", "platform": {"value": "y"}, "time_zone": {"value": "UTC"}, "timetable": "times"}') ->> 'outcome' AS queues,
       slotkeeper.attach_slug('mixed', 'slug', 'name') ->> 'outcome' AS slugs;
SELECT source, kind, status, reason FROM pg_temp.health() WHERE source = 'wrong.mixed';
ALTER TABLE mixed DISABLE TRIGGER "~slotkeeper_insert";
ALTER TABLE mixed ENABLE ALWAYS TRIGGER "~slotkeeper_insert";
SELECT source, kind, status, reason FROM pg_temp.health() WHERE source = 'wrong.mixed';
SELECT slotkeeper.detach_table('mixed') ->> 'outcome' AS outcome FROM generate_series(1, 2);
DROP TABLE mixed;

-- In a batch, a row that takes no seat whatever is written: the error names the item, and best_effort goes on without it.
CREATE TABLE batched (id int PRIMARY KEY, at timestamptz, state text DEFAULT 'on', deleted bool NOT NULL DEFAULT false, note text);
SELECT slotkeeper.attach_table('batched', :'options'::jsonb || '{"states": {"scheduled": {"note": "booked"}}}') ->> 'outcome' AS outcome;
INSERT INTO batched (id, deleted) SELECT n, n IN (2, 4) FROM generate_series(1, 5) AS n;
SELECT pg_temp.try($c$SELECT slotkeeper.assign_slots((SELECT jsonb_agg(jsonb_build_object('profile_id', 'wrong', 'platform', 'x', 'content_id', n::text) ORDER BY n) FROM generate_series(1, 4) AS n))$c$);
SELECT reply ->> 'outcome' AS outcome, result - '{platform,profile_id,user_id,slot_ref,booking_id,local_time,time_zone}'::text[] AS result
FROM slotkeeper.assign_slots((SELECT jsonb_agg(jsonb_build_object('profile_id', 'wrong', 'platform', 'x', 'content_id', n::text)) FROM unnest(ARRAY[1, 2, 2, 3, 4]) AS n), 'best_effort') AS reply, jsonb_array_elements(reply -> 'results') AS result;
SELECT slotkeeper.assign_slots('[{"profile_id": "wrong", "platform": "x", "content_id": "4"}]', 'best_effort') ->> 'outcome' AS outcome;
SELECT * FROM batched ORDER BY id;
SELECT pg_temp.live();
DROP TABLE batched;

-- Rows that cannot be booked are counted, each with its reason.
CREATE TABLE rows (id int UNIQUE, profile text, queue text, at timestamptz, state text DEFAULT 'on');
INSERT INTO rows VALUES (1, 'wrong', 'x', '2026-01-21 09:00Z'), (2, 'wrong', 'x', 'infinity'), (3, NULL, 'x', '2026-01-22 09:00Z'), (NULL, 'wrong', 'x', '2026-01-23 09:00Z'), (4, 'wrong', 'x', NULL);
\set columns '{"content_id": "id", "profile_id": "profile", "platform": "queue", "at": "at", "occupies": "state = ''on''", "at_null": "assign"}'
SELECT reply -> 'ready' AS ready, reply -> 'unbooked' AS unbooked, reply -> 'unbooked_count' AS count FROM slotkeeper.check_table('rows', :'columns') AS reply;
SELECT slotkeeper.attach_table('rows', :'columns') - 'collisions' AS attached;
SELECT * FROM pg_temp.health() WHERE source = 'wrong.rows';
ALTER TABLE rows DISABLE TRIGGER ALL;
DELETE FROM rows WHERE id IS NULL OR id IN (2, 4);
UPDATE rows SET queue = 'nowhere' WHERE id = 1;
ALTER TABLE rows ENABLE TRIGGER ALL;
SELECT slotkeeper.reconcile_table('rows') - 'collisions' AS reconciled;
SELECT reason FROM pg_temp.health() WHERE source = 'wrong.rows';
SELECT pg_temp.live() IS NULL AS given_back;
UPDATE rows SET queue = 'x' WHERE id = 1;
UPDATE rows SET profile = 'wrong' WHERE id = 3;
SELECT slotkeeper.reconcile_table('rows') - 'collisions' AS reconciled;
SELECT * FROM pg_temp.health() WHERE source = 'wrong.rows';
SELECT pg_temp.live();
-- What another server has stored.
SET session_replication_role = replica;
INSERT INTO rows VALUES (5, 'wrong', 'nowhere', '2026-01-24 09:00Z');
RESET session_replication_role;
SELECT * FROM pg_temp.health() WHERE source = 'wrong.rows';
SELECT slotkeeper.reconcile_table('rows') -> 'unbooked' AS unbooked;
TRUNCATE rows;
SELECT * FROM pg_temp.health() WHERE source = 'wrong.rows';
-- Collisions for which nothing is free.
SELECT slotkeeper.detach_table('rows') ->> 'outcome' AS outcome;
SELECT slotkeeper.create_queue('wrong', 'short', 'UTC', '{"daily": ["09:00"]}', '{"horizon": "1 day"}') ->> 'outcome' AS outcome;
INSERT INTO rows SELECT n, 'wrong', 'short', '2026-01-16 09:00Z' FROM generate_series(1, 2) AS n;
SELECT slotkeeper.attach_table('rows', :'columns') -> 'collision_count' AS collisions;
SELECT slotkeeper.move_collisions('rows') AS moved;
DROP TABLE rows;
SELECT slotkeeper.drop_queue('wrong', 'short', true) ->> 'outcome' AS outcome;

-- A queue that is dropped under rows that are booked in it: they are unscheduled where the binding says how; otherwise they
-- show until they are put right.
CREATE TABLE told (id int PRIMARY KEY, at timestamptz, state text DEFAULT 'on', CHECK (id <> 3 OR state = 'on'));
CREATE TABLE untold (id int PRIMARY KEY, queue text DEFAULT 'gone', at timestamptz, state text DEFAULT 'on');
SELECT slotkeeper.create_queue('wrong', 'gone', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.attach_table('told', '{"content_id": "id", "profile_id": {"value": "wrong"}, "platform": {"value": "gone"}, "at": "at", "occupies": "state = ''on''", "states": {"unscheduled": {"state": "off", "at": null}}}') ->> 'outcome' AS told,
       slotkeeper.attach_table('untold', '{"content_id": "id", "profile_id": {"value": "wrong"}, "platform": "queue", "at": "at", "occupies": "state = ''on''"}') ->> 'outcome' AS untold;
INSERT INTO told (id, at) SELECT n, timestamptz '2026-01-20 09:00Z' + n * interval '1 day' FROM generate_series(1, 3) AS n;
INSERT INTO untold (id, at) VALUES (1, '2026-02-20 09:00Z'), (2, '2026-02-21 09:00Z');
SELECT pg_temp.try($c$SELECT slotkeeper.drop_queue('wrong', 'gone')$c$);
SELECT slotkeeper.drop_queue('wrong', 'gone', true);
SELECT * FROM told ORDER BY id;
SELECT * FROM pg_temp.health() WHERE source IN ('wrong.told', 'wrong.untold');
DELETE FROM told WHERE id = 3;
UPDATE untold SET queue = 'x';
SELECT slotkeeper.reconcile_table('told') -> 'unbooked_count' AS told, slotkeeper.reconcile_table('untold') -> 'unbooked_count' AS untold;
SELECT * FROM pg_temp.health() WHERE source IN ('wrong.told', 'wrong.untold');
SELECT pg_temp.live();
DROP TABLE told, untold;

-- NULL is neither yes nor no.
SELECT call, pg_temp.try('SELECT slotkeeper.' || call) AS answer FROM unnest(ARRAY['drop_queue(''wrong'', ''x'', NULL)',
    'assign_next_available_slot(''wrong'', ''x'', ''n'', p_dry_run => NULL)',
    'assign_next_available_slot(gen_random_uuid(), ''x'', gen_random_uuid(), p_dry_run => NULL)',
    'schedule_content(''wrong'', ''x'', ''n'', ''2026-01-20 09:00Z'', p_dry_run => NULL)',
    'reschedule_content(''n'', ''2026-01-20 09:00Z'', p_dry_run => NULL)']) AS call;

-- Generated columns cannot be written.
CREATE TABLE computed (id int PRIMARY KEY, due timestamptz, at timestamptz GENERATED ALWAYS AS (due) STORED, state text, note text GENERATED ALWAYS AS (state) STORED);
\set columns '{"content_id": "id", "profile_id": {"value": "wrong"}, "platform": {"value": "x"}, "at": "at", "on_conflict": "reject"}'
SELECT slotkeeper.attach_table('computed', :'columns') ->> 'outcome' AS outcome;
INSERT INTO computed (id, due) VALUES (1, '2026-04-20 09:00Z');
SELECT pg_temp.try('SELECT slotkeeper.reschedule_content(''1'', ''2026-04-21 09:00Z'', p_source => ''wrong.computed'')');
SELECT pg_temp.try(format('SELECT slotkeeper.attach_table(''wrong.computed'', %L)', :'columns'::jsonb || '{"at": "due", "states": {"failed": {"note": "$error"}}}'));
DROP TABLE computed;
-- Rows don't hold the value of a virtual column, which PostgreSQL 18 has: predicates may name one, what says whose seat a row takes may not.
DO $$
DECLARE
    answer text;
BEGIN
    IF current_setting('server_version_num')::int < 180000 THEN
        RETURN;
    END IF;
    EXECUTE 'CREATE TABLE wrong.computed (id int PRIMARY KEY, due timestamptz, state text, at timestamptz GENERATED ALWAYS AS (due) VIRTUAL,
             queue text GENERATED ALWAYS AS (state) VIRTUAL, live boolean GENERATED ALWAYS AS (state = ''on'') VIRTUAL)';
    SET LOCAL search_path = wrong, public, pg_temp;
    FOR answer IN
        SELECT pg_temp.try(format('SELECT slotkeeper.%s(''wrong.computed'', %L)', f, '{"content_id": "id", "profile_id": {"value": "wrong"}, "platform": {"value": "x"}, "at": "due", "on_conflict": "reject"}'::jsonb || o))
        FROM (VALUES ('attach_table', '{"at": "at"}'::jsonb), ('attach_table', '{"profile_id": "queue"}'), ('attach_table', '{"platform": "queue"}'),
                     ('attach_table', '{"user_id": "queue"}')) AS t (f, o)
        UNION ALL
        SELECT pg_temp.try(format('SELECT slotkeeper.attach_queues(''wrong.computed'', %L)', '{"profile_id": {"value": "wrong"}, "platform": "state", "time_zone": {"value": "UTC"}}'::jsonb || o))
        FROM (VALUES ('{"platform": "queue"}'::jsonb), ('{"timetable": {"time": "at"}}')) AS t (o)
    LOOP
        IF answer !~ '^0A000: p_options[.][a-z_.]+: column (at|queue) is virtual' THEN
            RAISE EXCEPTION '%', answer;
        END IF;
    END LOOP;
    PERFORM slotkeeper.attach_table('wrong.computed', '{"content_id": "id", "profile_id": {"value": "wrong"}, "platform": {"value": "x"}, "at": "due", "occupies": "live", "on_conflict": "reject"}');
    EXECUTE 'INSERT INTO wrong.computed VALUES (1, ''2026-04-20 09:00Z'', ''on''), (2, ''2026-04-20 09:00Z'', ''off'')';
    answer := pg_temp.try($c$UPDATE wrong.computed SET state = 'on' WHERE id = 2$c$);
    IF answer !~ '^23505' OR pg_temp.live() IS DISTINCT FROM '1=04-20 09:00' THEN
        RAISE EXCEPTION '%, %', answer, pg_temp.live();
    END IF;
    DROP TABLE wrong.computed;
END
$$;

-- An id in two partitions, which no unique index keeps from being: one content has one row that takes a seat.
CREATE TABLE parted (id int, region text, at timestamptz, state text DEFAULT 'on', deleted bool NOT NULL DEFAULT false, queue text DEFAULT 'x', PRIMARY KEY (id, region)) PARTITION BY LIST (region);
\set parted '{"content_id": "id", "profile_id": {"value": "wrong"}, "platform": "queue", "at": "at", "occupies": "state = ''on''", "exempt": {"deleted": "deleted"}}'
CREATE TABLE parted_eu PARTITION OF parted FOR VALUES IN ('eu');
CREATE TABLE parted_us PARTITION OF parted FOR VALUES IN ('us');
INSERT INTO parted VALUES (1, 'eu', '2026-03-01 09:00Z'), (1, 'us', '2026-03-02 09:00Z');
SELECT pg_temp.try(format('SELECT slotkeeper.attach_table(''wrong.parted'', %L)', :'parted'));
SELECT slotkeeper.check_table('parted', :'parted') -> 'problems' AS problems;
UPDATE parted SET state = 'off' WHERE region = 'us';
SELECT slotkeeper.attach_table('parted', :'parted') ->> 'outcome' AS outcome;
SELECT pg_temp.try($c$UPDATE wrong.parted SET state = 'on' WHERE region = 'us'$c$);
UPDATE parted SET deleted = true WHERE region = 'us';
DELETE FROM parted WHERE region = 'us';
SELECT pg_temp.live();
SELECT pg_temp.try($c$INSERT INTO wrong.parted VALUES (1, 'us', '2026-03-02 09:00Z')$c$);
SELECT slotkeeper.create_queue('wrong', 'y', 'UTC', '{}') ->> 'outcome' AS outcome;
SELECT pg_temp.try($c$INSERT INTO wrong.parted (id, region, at, queue) VALUES (1, 'us', '2026-03-02 09:00Z', 'y')$c$);
SELECT pg_temp.live();
-- A row that moves to another partition, or is deleted here and inserted there, is one row.
UPDATE parted SET region = 'us', at = '2026-03-03 09:00Z' WHERE id = 1;
WITH gone AS (DELETE FROM parted WHERE id = 1 RETURNING id) INSERT INTO parted SELECT id, 'eu', '2026-03-04 09:00Z' FROM gone;
INSERT INTO parted VALUES (1, 'eu', '2026-03-05 09:00Z') ON CONFLICT (id, region) DO UPDATE SET at = excluded.at;
SELECT pg_temp.live();
DELETE FROM parted WHERE id = 1;
INSERT INTO parted VALUES (1, 'us', '2026-03-02 09:00Z');
SELECT pg_temp.live();
-- Nor are there two in one partition. The very same key is the server's to refuse.
CREATE TABLE parted_others PARTITION OF parted DEFAULT;
SELECT slotkeeper.reconcile_table('parted') ->> 'outcome' AS outcome;
INSERT INTO parted VALUES (2, 'asia', '2026-03-06 09:00Z'), (2, 'none', NULL);
SELECT pg_temp.try($c$INSERT INTO wrong.parted VALUES (2, 'africa', '2026-03-07 09:00Z')$c$);
SELECT pg_temp.try($c$INSERT INTO wrong.parted (id, region, at, queue) VALUES (2, 'africa', '2026-03-07 09:00Z', 'y')$c$);
SELECT pg_temp.try($c$UPDATE wrong.parted SET at = '2026-03-07 09:00Z' WHERE region = 'none'$c$);
SELECT pg_temp.try($c$UPDATE wrong.parted SET id = 2 WHERE id = 1$c$);
SELECT pg_temp.try($c$INSERT INTO wrong.parted VALUES (2, 'asia', '2026-03-07 09:00Z')$c$);
DELETE FROM parted WHERE region = 'none';
UPDATE parted SET at = '2026-03-08 09:00Z' WHERE id = 2;
SELECT pg_temp.live();
DROP TABLE parted;
-- By time, where a row is booked once it is stored; in the one partition that there is.
CREATE TABLE timed (id int, at timestamptz, n int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE timed_2026 PARTITION OF timed FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
SELECT slotkeeper.attach_table('timed', '{"content_id": "id", "profile_id": {"value": "wrong"}, "platform": {"value": "x"}, "at": "at", "on_conflict": "reject"}') ->> 'outcome' AS outcome;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE wrong.timed SET n = 1 WHERE id = new.id AND n IS NULL; RETURN NULL; END $$;
CREATE TRIGGER a_touch AFTER INSERT ON timed FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO timed VALUES (1, '2026-04-01 09:00Z');
SELECT pg_temp.try($c$INSERT INTO wrong.timed VALUES (1, '2026-04-02 09:00Z')$c$);
UPDATE timed SET at = '2026-04-03 09:00Z' WHERE id = 1;
SELECT pg_temp.live();
DROP TABLE timed;
SELECT slotkeeper.drop_queue('wrong', 'y') ->> 'outcome' AS outcome;

SET client_min_messages = warning;
DROP SCHEMA wrong CASCADE;
SELECT slotkeeper.drop_queue('wrong', 'x', true) ->> 'outcome' AS outcome;
