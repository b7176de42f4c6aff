-- The guard: whatever statement writes a bound table, each row that takes a seat has one, and no other row has.
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS guard CASCADE;
RESET client_min_messages;
\set VERBOSITY terse
\a
SET TimeZone = 'America/St_Johns';
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
CREATE SCHEMA guard;
SET search_path = guard, public;
-- What a statement comes to.
CREATE FUNCTION pg_temp.try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; hint text;
BEGIN
    EXECUTE command;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', state || ': ' || message, 'HINT: ' || nullif(hint, ''));
END
$$;
CREATE FUNCTION pg_temp.utc(at timestamptz) RETURNS text LANGUAGE sql AS $$ SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') $$;
-- Rows that take a seat against live bookings: lists every difference. Published contents keep theirs, whatever becomes of the row.
CREATE FUNCTION pg_temp.differences(source text, rows text) RETURNS TABLE (content_id text, row_at text, booked_at text) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE format($q$
        SELECT coalesce(r.id, b.content_id), pg_temp.utc(r.at), pg_temp.utc(b.scheduled_at)
        FROM (%s) AS r (id, profile, platform, at)
        FULL JOIN (SELECT b.content_id, b.scheduled_at, q.profile_id, q.platform FROM slotkeeper.booking AS b JOIN slotkeeper.queue AS q USING (queue_id)
                   WHERE b.source = %L AND b.released_at IS NULL
                     AND NOT EXISTS (SELECT FROM slotkeeper.published AS p WHERE (p.content_id, p.source) = (b.content_id, b.source))) AS b
          ON (b.content_id, b.profile_id, b.platform, b.scheduled_at) = (r.id, r.profile, r.platform, r.at)
        WHERE r.id IS NULL OR b.content_id IS NULL ORDER BY 1, 2$q$, rows, source);
END
$$;

SELECT slotkeeper.create_queue('p', 'x', 'UTC', '{"daily": ["14:30", "18:30"]}') ->> 'outcome' AS x,
       slotkeeper.create_queue('p', 'y', 'UTC', '{"daily": ["14:30"]}') ->> 'outcome' AS y;
CREATE TABLE post (id int PRIMARY KEY, queue text NOT NULL DEFAULT 'x', at timestamptz, state text NOT NULL DEFAULT 'QUEUE', deleted_at timestamptz, parent int, title text);
SELECT slotkeeper.attach_table('post', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": "queue", "at": "at", "occupies": "state = ''QUEUE''",
    "exempt": {"deleted": "deleted_at IS NOT NULL", "child": "parent IS NOT NULL"}, "published_when": "state = ''PUBLISHED''"}') - 'table' AS attached;
CREATE FUNCTION pg_temp.differ() RETURNS TABLE (content_id text, row_at text, booked_at text) LANGUAGE sql AS $$
    SELECT * FROM pg_temp.differences('guard.post', 'SELECT id::text, ''p'', queue, at FROM guard.post WHERE state = ''QUEUE'' AND deleted_at IS NULL AND parent IS NULL AND at IS NOT NULL')
$$;
CREATE FUNCTION pg_temp.posts() RETURNS TABLE (id int, queue text, at text, state text) LANGUAGE sql AS $$ SELECT id, queue, pg_temp.utc(at), state FROM guard.post ORDER BY id $$;

-- B1: the second moves to the next slot; RETURNING and a NOTICE say so, and the move is recorded.
INSERT INTO post (id, at) VALUES (1, '2026-01-16 14:30Z') RETURNING id, pg_temp.utc(at);
INSERT INTO post (id, at) VALUES (2, '2026-01-16 14:30Z') RETURNING id, pg_temp.utc(at);
SELECT b.content_id, pg_temp.utc(m.from_at), pg_temp.utc(m.to_at), m.conflicts_with, m.moved_by = current_user AS by_me FROM slotkeeper.move AS m JOIN slotkeeper.booking AS b USING (booking_id) WHERE b.source = 'guard.post';
-- B2: five within one minute; one statement, one row each.
INSERT INTO post (id, at) SELECT 10 + n, '2026-01-20 14:30Z'::timestamptz + n * interval '7 seconds' FROM generate_series(1, 5) AS n RETURNING id, pg_temp.utc(at);
-- B4: drafts, children, deleted rows and rows without a time share an instant; a post doesn't collide with itself.
INSERT INTO post (id, at, state, parent, deleted_at) VALUES (20, '2026-01-16 14:30Z', 'DRAFT', NULL, NULL), (21, '2026-01-16 14:30Z', 'QUEUE', 1, NULL), (22, '2026-01-16 14:30Z', 'QUEUE', NULL, now()), (23, NULL, 'QUEUE', NULL, NULL);
UPDATE post SET at = at + interval '10 seconds', title = 'edited' WHERE id = 1 RETURNING pg_temp.utc(at);
UPDATE post SET at = '2026-01-16 14:30Z' WHERE id = 1 RETURNING pg_temp.utc(at);
-- B6: another queue's post is no collision.
INSERT INTO post (id, queue, at) VALUES (30, 'y', '2026-01-16 14:30Z') RETURNING pg_temp.utc(at);
SELECT * FROM pg_temp.differ();

-- UPDATE: to a taken instant, out of the draft, soft delete, back again, into another queue, of a column that doesn't matter.
UPDATE post SET at = '2026-01-16 14:30Z' WHERE id = 2 RETURNING pg_temp.utc(at);
UPDATE post SET state = 'QUEUE' WHERE id = 20 RETURNING pg_temp.utc(at);
UPDATE post SET deleted_at = now() WHERE id = 1;
UPDATE post SET at = '2026-01-16 14:30Z' WHERE id = 2 RETURNING pg_temp.utc(at);
UPDATE post SET deleted_at = NULL WHERE id = 1 RETURNING pg_temp.utc(at);
UPDATE post SET queue = 'y' WHERE id = 2 RETURNING queue, pg_temp.utc(at);
UPDATE post SET queue = 'y', id = 3, at = '2026-03-01 00:00Z' WHERE id = 1 RETURNING id, queue, pg_temp.utc(at);
UPDATE post SET title = 'nothing' WHERE id = 2;
UPDATE post SET at = NULL WHERE id = 3;
SELECT * FROM pg_temp.differ();
-- Many at once: all to one instant, and a shift by a slot.
UPDATE post SET at = '2026-02-02 18:30Z' WHERE id BETWEEN 11 AND 15;
SELECT id, pg_temp.utc(at) FROM post WHERE id BETWEEN 11 AND 15 ORDER BY at;
UPDATE post SET at = at + interval '1 day' WHERE id BETWEEN 11 AND 15;
SELECT * FROM pg_temp.differ();
-- DELETE and TRUNCATE give the seats back.
DELETE FROM post WHERE id = 11;
SELECT * FROM pg_temp.differ();
BEGIN;
TRUNCATE post;
SELECT count(*) FROM slotkeeper.booking WHERE source = 'guard.post' AND released_at IS NULL;
ROLLBACK;
SELECT * FROM pg_temp.differ();
TRUNCATE post;
SELECT * FROM pg_temp.differ();
SELECT status, reason FROM slotkeeper.binding_health WHERE source = 'guard.post';

-- COPY and rows of one statement that want one instant.
COPY post (id, at, state) FROM stdin;
1	2026-01-16 14:30Z	QUEUE
2	2026-01-16 14:30Z	QUEUE
3	2026-01-16 14:30Z	DRAFT
4	2026-01-16 14:30Z	QUEUE
\.
SELECT * FROM pg_temp.posts();
SELECT * FROM pg_temp.differ();

-- ON CONFLICT: nothing is booked for a row that is not stored, and an upsert is one content.
INSERT INTO post (id, at) VALUES (1, '2026-05-01 14:30Z') ON CONFLICT DO NOTHING;
INSERT INTO post (id, at) VALUES (3, '2026-05-01 14:30Z') ON CONFLICT DO NOTHING;
INSERT INTO post (id, at) VALUES (3, '2026-05-01 14:30Z'), (5, '2026-05-01 18:30Z'), (3, '2026-05-02 14:30Z') ON CONFLICT (id) DO NOTHING RETURNING id;
SELECT * FROM pg_temp.differ();
INSERT INTO post (id, at, title) VALUES (3, '2026-05-01 14:30Z', 'still a draft') ON CONFLICT (id) DO UPDATE SET title = excluded.title RETURNING state;
INSERT INTO post (id, at, title) VALUES (3, '2026-05-01 14:30Z', 'no') ON CONFLICT (id) DO UPDATE SET title = excluded.title WHERE false;
SELECT * FROM pg_temp.differ();
INSERT INTO post (id, at) VALUES (3, '2026-01-16 14:30Z') ON CONFLICT (id) DO UPDATE SET at = excluded.at, state = excluded.state RETURNING state, pg_temp.utc(at);
INSERT INTO post (id, at) VALUES (1, '2026-05-03 14:30Z') ON CONFLICT (id) DO UPDATE SET at = excluded.at RETURNING pg_temp.utc(at);
INSERT INTO post (id, at) VALUES (1, '2026-05-03 14:30Z') ON CONFLICT (id) DO UPDATE SET state = 'DRAFT' RETURNING pg_temp.utc(at), state;
SELECT * FROM pg_temp.differ();
-- The same in one transaction with the draft.
BEGIN;
INSERT INTO post (id, at, state) VALUES (6, '2026-06-01 14:30Z', 'DRAFT');
INSERT INTO post (id, at) VALUES (6, '2026-06-01 14:30Z') ON CONFLICT DO NOTHING;
INSERT INTO post (id, at) VALUES (6, '2026-06-01 14:30Z') ON CONFLICT (id) DO UPDATE SET title = 'x';
SELECT * FROM pg_temp.differ();
COMMIT;
SELECT * FROM pg_temp.differ();
-- MERGE.
MERGE INTO post AS p USING (VALUES (1, '2026-01-16 14:30Z'::timestamptz), (7, '2026-01-16 14:30Z')) AS v (id, at) ON p.id = v.id
    WHEN MATCHED THEN UPDATE SET at = v.at, state = 'QUEUE' WHEN NOT MATCHED THEN INSERT (id, at) VALUES (v.id, v.at);
MERGE INTO post AS p USING (VALUES (7)) AS v (id) ON p.id = v.id WHEN MATCHED THEN DELETE;
SELECT * FROM pg_temp.posts();
SELECT * FROM pg_temp.differ();

-- What is undone leaves nothing: savepoints, exception handlers, errors after the guard has booked.
BEGIN;
SAVEPOINT s;
INSERT INTO post (id, at) VALUES (40, '2026-07-01 14:30Z');
UPDATE post SET at = '2026-07-02 14:30Z' WHERE id = 5;
DELETE FROM post WHERE id = 2;
ROLLBACK TO s;
INSERT INTO post (id, at) VALUES (40, '2026-07-01 14:30Z') RETURNING pg_temp.utc(at);
SELECT * FROM pg_temp.differ();
COMMIT;
DO $$
BEGIN
    BEGIN
        INSERT INTO guard.post (id, at) VALUES (41, '2026-07-03 14:30Z'), (40, '2026-07-03 18:30Z');
    EXCEPTION WHEN unique_violation THEN RAISE NOTICE 'handled';
    END;
    INSERT INTO guard.post (id, at, state) VALUES (41, '2026-07-03 14:30Z', 'DRAFT');
    INSERT INTO guard.post (id, at) VALUES (42, '2026-07-03 14:30Z');
END
$$;
SELECT * FROM pg_temp.differ();
SELECT pg_temp.utc(at) FROM post WHERE id = 42;
-- An INSERT inside another INSERT on the same table.
CREATE FUNCTION another(n int) RETURNS timestamptz LANGUAGE sql AS $$ INSERT INTO guard.post (id, at) VALUES (100 + n, '2026-08-01 14:30Z') RETURNING at $$;
INSERT INTO post (id, at) SELECT 110 + n, another(n) FROM generate_series(1, 3) AS n RETURNING id, pg_temp.utc(at);
SELECT * FROM pg_temp.differ();

-- Published content keeps its seat and its time.
UPDATE post SET state = 'PUBLISHED' WHERE id = 42;
SELECT count(*) FROM slotkeeper.booking WHERE source = 'guard.post' AND content_id = '42' AND released_at IS NULL;
SELECT pg_temp.try('UPDATE guard.post SET at = at + interval ''1 day'' WHERE id = 42');
INSERT INTO post (id, at) VALUES (43, '2026-07-03 14:30Z') RETURNING pg_temp.utc(at);
SELECT slotkeeper.reconcile_table('post');
SELECT count(*) FROM slotkeeper.booking WHERE source = 'guard.post' AND content_id = '42' AND released_at IS NULL;
DELETE FROM post WHERE id = 42;
SELECT * FROM pg_temp.differ();
-- Where published rows still fit "occupies", too.
CREATE TABLE done (id int PRIMARY KEY, at timestamptz, state text);
SELECT slotkeeper.attach_table('done', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": {"value": "x"}, "at": "at", "occupies": "state <> ''DRAFT''", "published_when": "state = ''PUBLISHED''"}') ->> 'outcome' AS outcome;
INSERT INTO done VALUES (1, '2026-09-01 14:30Z', 'QUEUE');
UPDATE done SET state = 'PUBLISHED';
SELECT pg_temp.try('UPDATE guard.done SET at = at + interval ''1 day''');
SELECT pg_temp.utc(scheduled_at) FROM slotkeeper.booking WHERE source = 'guard.done' AND released_at IS NULL;
DROP TABLE done;

-- Errors of a writer: no queue, NULLs, infinity.
SELECT pg_temp.try($c$INSERT INTO guard.post (id, queue, at) VALUES (50, 'nowhere', '2026-01-16 14:30Z')$c$);
SELECT pg_temp.try($c$INSERT INTO guard.post (id, at) VALUES (50, 'infinity')$c$);
SELECT pg_temp.try($c$INSERT INTO guard.post (id, at) VALUES (NULL, '2026-01-16 14:30Z')$c$);
SELECT pg_temp.try($c$INSERT INTO guard.post (id, queue, at) VALUES (50, '', '2026-01-16 14:30Z')$c$);
SELECT * FROM pg_temp.differ();

-- Replica role: mirrored, never moved or refused; collisions are recorded.
SET session_replication_role = replica;
INSERT INTO post (id, at) VALUES (60, '2026-10-01 14:30Z'), (61, '2026-10-01 14:30Z');
INSERT INTO post (id, queue, at) VALUES (62, 'nowhere', '2026-10-01 14:30Z'), (63, '', '2026-10-01 14:30Z'), (64, 'x', 'infinity');
UPDATE post SET at = '2026-10-02 14:30Z' WHERE id = 60;
RESET session_replication_role;
SELECT * FROM pg_temp.differ();
SELECT content_id, pg_temp.utc(at), found_by, held_by FROM slotkeeper.slot_collisions WHERE source = 'guard.post';
DELETE FROM post WHERE id BETWEEN 62 AND 64;
UPDATE post SET at = '2026-10-03 14:30Z' WHERE id = 61 RETURNING pg_temp.utc(at);
SELECT count(*) AS collisions FROM slotkeeper.slot_collisions WHERE source = 'guard.post';
SELECT * FROM pg_temp.differ();

-- Triggers of the application: one that changes the time and the state before, one that stores nothing.
CREATE FUNCTION before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.title = 'skip' THEN RETURN NULL; END IF;
    IF NEW.title = 'shift' THEN NEW.at := NEW.at + interval '4 hours'; END IF;
    IF NEW.title = 'draft' THEN NEW.state := 'DRAFT'; END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER a_before BEFORE INSERT OR UPDATE ON post FOR EACH ROW EXECUTE FUNCTION before();
INSERT INTO post (id, at, title) VALUES (70, '2026-11-01 14:30Z', 'skip'), (71, '2026-11-01 14:30Z', 'shift'), (72, '2026-11-01 14:30Z', 'draft'), (73, '2026-11-01 18:30Z', 'x');
SELECT id, pg_temp.utc(at), state FROM post WHERE id BETWEEN 70 AND 73 ORDER BY id;
UPDATE post SET title = 'shift' WHERE id = 73 RETURNING pg_temp.utc(at);
UPDATE post SET at = '2026-11-05 14:30Z', title = 'skip' WHERE id = 71;
SELECT * FROM pg_temp.differ();
DROP TRIGGER a_before ON post;
-- One that fires after the guard's.
CREATE TRIGGER "~~late" BEFORE INSERT OR UPDATE ON post FOR EACH ROW EXECUTE FUNCTION before();
INSERT INTO post (id, at, title) VALUES (80, '2026-12-01 14:30Z', 'skip');
SELECT * FROM pg_temp.differ();
SELECT pg_temp.try($c$INSERT INTO guard.post (id, at, title) VALUES (82, '2026-12-01 14:30Z', 'draft')$c$);
SELECT pg_temp.try($c$INSERT INTO guard.post (id, at, title) VALUES (81, '2026-12-01 14:30Z', 'shift')$c$);
SELECT * FROM pg_temp.differ();
SELECT status, reason FROM slotkeeper.binding_health WHERE source = 'guard.post';
SELECT pg_temp.try($c$SELECT slotkeeper.attach_table('guard.post', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": "queue", "at": "at"}')$c$);
DROP TRIGGER "~~late" ON post;
SELECT slotkeeper.reconcile_table('post') - 'collisions' AS reconciled;
SELECT status, reason FROM slotkeeper.binding_health WHERE source = 'guard.post';
SELECT * FROM pg_temp.differ();
-- An AFTER trigger that inserts another row, and one that updates the row.
CREATE FUNCTION after() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.title = 'twin' THEN
        UPDATE guard.post SET title = 'updated' WHERE id = NEW.id;
        INSERT INTO guard.post (id, at) VALUES (NEW.id + 100, NEW.at);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER a_after AFTER INSERT ON post FOR EACH ROW EXECUTE FUNCTION after();
INSERT INTO post (id, at, title) VALUES (90, '2026-12-05 14:30Z', 'twin'), (91, '2026-12-05 14:30Z', 'twin');
SELECT id, pg_temp.utc(at), title FROM post WHERE id IN (90, 91, 190, 191) ORDER BY id;
SELECT * FROM pg_temp.differ();
DROP TRIGGER a_after ON post;
DROP TABLE post;
SELECT b.content_id, s.state FROM slotkeeper.booking AS b JOIN slotkeeper.content_status AS s USING (booking_id) WHERE b.source = 'guard.post' AND b.released_at IS NULL;

-- on_conflict: next_free, and reject. Rows due now don't move to tomorrow.
CREATE TABLE free (id int PRIMARY KEY, at timestamptz);
SELECT slotkeeper.attach_table('free', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": {"value": "y"}, "at": "at", "on_conflict": "next_free"}') ->> 'outcome' AS outcome;
INSERT INTO free VALUES (1, '2026-01-16 14:30Z'), (2, '2026-01-16 14:30Z') RETURNING id, pg_temp.utc(at);
SELECT slotkeeper.attach_table('free', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": {"value": "y"}, "at": "at", "on_conflict": "reject"}') ->> 'outcome' AS outcome;
SELECT pg_temp.try($c$INSERT INTO guard.free VALUES (3, '2026-01-16 14:30Z')$c$);
SELECT slotkeeper.attach_table('free', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": {"value": "y"}, "at": "at"}') ->> 'outcome' AS outcome;
INSERT INTO free VALUES (4, '2026-01-15 12:01Z'), (5, '2026-01-15 12:01:30Z'), (6, '2026-01-15 12:03Z'), (7, '2026-01-15 12:03Z'), (8, '2025-06-01 00:00Z'), (9, '2025-06-01 00:00Z') RETURNING id, pg_temp.utc(at);
SELECT * FROM pg_temp.differences('guard.free', 'SELECT id::text, ''p'', ''y'', at FROM guard.free');
DROP TABLE free;

-- at_null: assign. A queue first seen through the table is made. Full is 54000.
CREATE TABLE auto (id text PRIMARY KEY, profile text, at timestamptz, slot text);
SELECT slotkeeper.attach_table('auto', '{"content_id": "id", "profile_id": "profile", "platform": {"value": "Auto"}, "at": "at", "at_null": "assign", "states": {"scheduled": {"slot": "$slot_ref"}},
    "queue_defaults": {"time_zone": "Asia/Jakarta", "timetable": {"daily": [{"time": "06:00", "ref": "morning"}]}, "options": {"horizon": "3 days"}}}') ->> 'outcome' AS outcome;
INSERT INTO auto (id, profile) VALUES ('a', 'new'), ('b', 'new'), ('c', 'other') RETURNING id, pg_temp.utc(at), slot;
UPDATE auto SET at = NULL WHERE id = 'a' RETURNING pg_temp.utc(at), slot;
INSERT INTO auto (id, profile) VALUES ('d', 'new');
SELECT pg_temp.try($c$INSERT INTO guard.auto (id, profile) VALUES ('e', 'new')$c$);
SELECT pg_temp.try($c$INSERT INTO guard.auto (id, profile) VALUES ('f', NULL)$c$);
SELECT * FROM pg_temp.differences('guard.auto', 'SELECT id, profile, ''auto'', at FROM guard.auto');
DROP TABLE auto;

-- Generated columns: what they decide is known only after the row is stored, so rows are not moved.
CREATE TABLE generated (id int PRIMARY KEY, at timestamptz, state text, live boolean GENERATED ALWAYS AS (state = 'QUEUE') STORED);
SELECT pg_temp.try($c$SELECT slotkeeper.attach_table('guard.generated', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": {"value": "y"}, "at": "at", "occupies": "live"}')$c$);
SELECT slotkeeper.attach_table('generated', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": {"value": "y"}, "at": "at", "occupies": "live", "on_conflict": "reject"}') ->> 'outcome' AS outcome;
INSERT INTO generated VALUES (1, '2026-01-16 14:30Z', 'QUEUE'), (2, '2026-01-16 14:30Z', 'DRAFT');
SELECT pg_temp.try($c$UPDATE guard.generated SET state = 'QUEUE' WHERE id = 2$c$);
UPDATE generated SET at = '2026-01-17 14:30Z' WHERE id = 1;
UPDATE generated SET state = 'QUEUE' WHERE id = 2;
INSERT INTO generated VALUES (1, '2026-02-16 14:30Z', 'QUEUE') ON CONFLICT DO NOTHING;
SELECT * FROM pg_temp.differences('guard.generated', 'SELECT id::text, ''p'', ''y'', at FROM guard.generated WHERE live');
DROP TABLE generated;
-- So are those that say in which queue.
CREATE TABLE generated (id int PRIMARY KEY, at timestamptz, settings jsonb, queue text GENERATED ALWAYS AS (settings ->> 'to') STORED);
SELECT pg_temp.try($c$SELECT slotkeeper.attach_table('guard.generated', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": "queue", "at": "at"}')$c$);
SELECT slotkeeper.attach_table('generated', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": "queue", "at": "at", "on_conflict": "reject"}') ->> 'outcome' AS outcome;
INSERT INTO generated VALUES (1, '2026-01-21 14:30Z', '{"to": "y"}'), (2, '2026-01-22 14:30Z', '{"to": "y"}');
SELECT pg_temp.try($c$INSERT INTO guard.generated VALUES (3, '2026-01-21 14:30Z', '{"to": "y"}')$c$);
UPDATE generated SET settings = '{"to": "x"}' WHERE id = 2;
INSERT INTO generated VALUES (3, '2026-01-22 14:30Z', '{"to": "y"}');
SELECT pg_temp.try($c$UPDATE guard.generated SET settings = '{"to": "x"}' WHERE id = 3$c$);
SELECT * FROM pg_temp.differences('guard.generated', 'SELECT id::text, ''p'', queue, at FROM guard.generated');
DROP TABLE generated;

-- Partitioned by time: reject only.
CREATE TABLE by_time (gone text, id int, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
ALTER TABLE by_time DROP COLUMN gone;
CREATE TABLE by_time_1 PARTITION OF by_time FOR VALUES FROM ('2026-01-01Z') TO ('2026-02-01Z');
CREATE TABLE by_time_2 (at timestamptz NOT NULL, junk1 text, id int NOT NULL, junk2 text);
ALTER TABLE by_time_2 DROP COLUMN junk1, DROP COLUMN junk2;
ALTER TABLE by_time ATTACH PARTITION by_time_2 FOR VALUES FROM ('2026-02-01Z') TO ('2026-03-01Z');
SELECT pg_temp.try($c$SELECT slotkeeper.attach_table('guard.by_time', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": {"value": "y"}, "at": "at"}')$c$);
SELECT slotkeeper.attach_table('by_time', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": {"value": "y"}, "at": "at", "on_conflict": "reject"}') ->> 'outcome' AS outcome;
INSERT INTO by_time (id, at) VALUES (1, '2026-01-16 14:30Z'), (2, '2026-02-16 14:30Z');
SELECT pg_temp.try($c$INSERT INTO guard.by_time (id, at) VALUES (3, '2026-02-16 14:30:20Z')$c$);
UPDATE by_time SET at = '2026-02-17 14:30Z' WHERE id = 1;
SELECT pg_temp.try($c$UPDATE guard.by_time SET at = '2026-02-16 14:30Z' WHERE id = 1$c$);
SELECT tableoid::regclass, id, pg_temp.utc(at) FROM by_time ORDER BY id;
SELECT * FROM pg_temp.differences('guard.by_time', 'SELECT id::text, ''p'', ''y'', at FROM guard.by_time');
DROP TABLE by_time;

-- Partitioned by something else: rows move in time, and from partition to partition.
CREATE TABLE by_queue (id int, queue text, at timestamptz, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE by_queue_1 PARTITION OF by_queue FOR VALUES IN ('eu');
CREATE TABLE by_queue_2 (region text NOT NULL, junk text, at timestamptz, queue text, id int NOT NULL);
ALTER TABLE by_queue_2 DROP COLUMN junk;
ALTER TABLE by_queue ATTACH PARTITION by_queue_2 FOR VALUES IN ('us');
SELECT slotkeeper.attach_table('by_queue', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": "queue", "at": "at"}') ->> 'outcome' AS outcome;
INSERT INTO by_queue VALUES (1, 'y', '2026-01-16 14:30Z', 'eu'), (2, 'y', '2026-01-16 14:30Z', 'us'), (3, 'x', '2026-01-16 14:30Z', 'us') RETURNING id, pg_temp.utc(at), tableoid::regclass;
INSERT INTO by_queue VALUES (2, 'y', '2026-04-16 14:30Z', 'us'), (1, 'y', '2026-04-17 14:30Z', 'eu') ON CONFLICT DO NOTHING;
UPDATE by_queue SET region = 'us' WHERE id = 1 RETURNING pg_temp.utc(at), tableoid::regclass;
UPDATE by_queue SET region = 'eu', queue = 'y', at = '2026-01-16 14:30Z' WHERE id = 3 RETURNING pg_temp.utc(at), tableoid::regclass;
UPDATE by_queue SET at = '2026-01-16 14:30Z' WHERE id = 2 RETURNING pg_temp.utc(at);
DELETE FROM by_queue WHERE id = 1;
SELECT * FROM pg_temp.differences('guard.by_queue', 'SELECT id::text, ''p'', queue, at FROM guard.by_queue');
DROP TABLE by_queue;

-- Deferred constraints, and a transaction that commits late.
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, parent int REFERENCES parent DEFERRABLE INITIALLY DEFERRED, at timestamptz);
SELECT pg_temp.try($c$SELECT slotkeeper.attach_table('guard.deferred', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": {"value": "y"}, "at": "at"}')$c$);
CREATE UNIQUE INDEX ON deferred (id);
SELECT slotkeeper.attach_table('deferred', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": {"value": "y"}, "at": "at"}') ->> 'outcome' AS outcome;
BEGIN;
INSERT INTO deferred VALUES (1, 7, '2026-01-16 14:30Z');
COMMIT;
SELECT * FROM pg_temp.differences('guard.deferred', 'SELECT id::text, ''p'', ''y'', at FROM guard.deferred');
BEGIN;
INSERT INTO deferred VALUES (1, 7, '2026-01-16 14:30Z');
INSERT INTO parent VALUES (7);
COMMIT;
SELECT * FROM pg_temp.differences('guard.deferred', 'SELECT id::text, ''p'', ''y'', at FROM guard.deferred');

SET client_min_messages = warning;
DROP SCHEMA guard CASCADE;
SELECT slotkeeper.drop_queue(profile_id, platform, true) ->> 'outcome' AS outcome FROM slotkeeper.queue WHERE profile_id IN ('p', 'new', 'other') ORDER BY profile_id, platform;
