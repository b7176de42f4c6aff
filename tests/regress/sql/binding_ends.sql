-- What a statement has not stored holds no seat when it ends: whichever table or partition it named, whoever ran it, and whatever
-- a trigger made of its rows after the guard had seen them.
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS ends CASCADE;
RESET client_min_messages;
\set VERBOSITY terse
\a
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
SET TimeZone = 'UTC';
CREATE SCHEMA ends;
SET search_path = ends;
SELECT slotkeeper.create_queue('ends', 'x', 'UTC', '{"daily": ["09:00", "10:00"]}') ->> 'outcome' AS outcome, slotkeeper.create_queue('ends', 'y', 'UTC', '{"daily": ["09:00", "10:00"]}') ->> 'outcome' AS outcome;
-- Rows beside what is booked for them: none where they agree.
CREATE FUNCTION differ(t regclass) RETURNS TABLE (id text, "row" text, booked text) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE format($q$
        SELECT coalesce(r.id::text, b.content_id), concat_ws(' ', r.pl, to_char(r.at, 'MM-DD HH24:MI')), concat_ws(' ', b.platform, to_char(b.scheduled_at, 'MM-DD HH24:MI'))
        FROM (SELECT * FROM %s WHERE st = 'on' AND at IS NOT NULL) AS r
        FULL JOIN (SELECT * FROM slotkeeper.booking JOIN slotkeeper.queue USING (queue_id) WHERE source = %L AND released_at IS NULL) AS b ON b.content_id = r.id::text
        WHERE (r.pl, r.at) IS DISTINCT FROM (b.platform, b.scheduled_at) ORDER BY 1$q$, t, 'ends.' || t);
END
$$;

-- Partitions that are named themselves.
CREATE TABLE part (id int, pl text DEFAULT 'x', at timestamptz, st text DEFAULT 'on', k int, PRIMARY KEY (id, pl)) PARTITION BY LIST (pl);
CREATE TABLE part_x PARTITION OF part FOR VALUES IN ('x');
CREATE TABLE part_y PARTITION OF part FOR VALUES IN ('y') PARTITION BY LIST (pl);
CREATE TABLE part_y1 PARTITION OF part_y FOR VALUES IN ('y');
CREATE UNIQUE INDEX ON part_x (k);
CREATE UNIQUE INDEX ON part_y1 (k);
\set options '"content_id": "id", "profile_id": {"value": "ends"}, "platform": "pl", "at": "at", "occupies": "st = ''on''"'
SELECT slotkeeper.attach_table('part', ('{' || :'options' || '}')::jsonb) ->> 'outcome' AS outcome;
INSERT INTO part_x VALUES (1, 'x', '2026-02-01 09:00', 'on', 1);
INSERT INTO part_x VALUES (2, 'x', '2026-02-01 10:00', 'on', 1) ON CONFLICT DO NOTHING;
INSERT INTO part_y VALUES (3, 'y', '2026-02-01 10:00', 'on', 1), (4, 'y', '2026-02-02 10:00', 'on', 1) ON CONFLICT DO NOTHING;
INSERT INTO part_y1 VALUES (5, 'y', '2026-02-03 10:00', 'on', 1), (6, 'y', '2026-02-04 10:00', 'on', 2) ON CONFLICT DO NOTHING;
WITH w AS (INSERT INTO part_x VALUES (7, 'x', '2026-02-05 10:00', 'on', 1) ON CONFLICT DO NOTHING RETURNING id) SELECT count(*) FROM w;
DO $$ BEGIN INSERT INTO part_x VALUES (8, 'x', '2026-02-06 10:00', 'on', 1) ON CONFLICT DO NOTHING; END $$;
EXPLAIN ANALYZE INSERT INTO part_x VALUES (9, 'x', '2026-02-07 10:00', 'on', 1) ON CONFLICT DO NOTHING \g /dev/null
PREPARE p (int) AS INSERT INTO part_x VALUES ($1, 'x', '2026-02-08 10:00', 'on', 1) ON CONFLICT DO NOTHING;
EXECUTE p (10);
EXECUTE p (11);
DEALLOCATE p;
CREATE FUNCTION upsert(int) RETURNS void LANGUAGE sql AS 'INSERT INTO ends.part_x VALUES ($1, ''x'', ''2026-02-09 10:00'', ''on'', 1) ON CONFLICT DO NOTHING; INSERT INTO ends.part_x VALUES ($1 + 1, ''x'', ''2026-02-10 10:00'', ''on'', $1) ON CONFLICT DO NOTHING';
SELECT count(upsert(n)) FROM unnest(ARRAY[20, 30]) AS n;
SELECT * FROM differ('part');
SELECT id, pl FROM part ORDER BY 1;
-- A statement inside another one: the outer one's rows keep their seats, and its ghosts go when it ends.
CREATE FUNCTION inner_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.id < 100 THEN
        INSERT INTO ends.part_x VALUES (new.id + 100, 'x', new.at + interval '1 day', 'on', 1) ON CONFLICT DO NOTHING;
        INSERT INTO ends.part_x VALUES (new.id + 200, 'x', new.at + interval '2 days', 'on', new.id + 200) ON CONFLICT DO NOTHING;
    END IF;
    RETURN new;
END
$$;
CREATE TRIGGER inner_before BEFORE INSERT ON part_x FOR EACH ROW EXECUTE FUNCTION inner_insert();
INSERT INTO part_x VALUES (40, 'x', '2026-03-01 10:00', 'on', 1), (41, 'x', '2026-03-11 10:00', 'on', 41) ON CONFLICT DO NOTHING;
DROP TRIGGER inner_before ON part_x;
CREATE TRIGGER inner_after AFTER INSERT ON part_x FOR EACH ROW EXECUTE FUNCTION inner_insert();
INSERT INTO part VALUES (50, 'x', '2026-03-21 10:00', 'on', 1), (51, 'x', '2026-03-24 10:00', 'on', 51) ON CONFLICT DO NOTHING;
SELECT * FROM differ('part');
SELECT string_agg(id::text, ' ' ORDER BY id) AS ids FROM part WHERE id >= 40;
-- Undone alone.
BEGIN;
SAVEPOINT s;
INSERT INTO part_x VALUES (60, 'x', '2026-03-27 10:00', 'on', 1) ON CONFLICT DO NOTHING;
ROLLBACK TO s;
INSERT INTO part_x VALUES (61, 'x', '2026-03-27 10:00', 'on', 61), (62, 'x', '2026-03-28 10:00', 'on', 1) ON CONFLICT DO NOTHING;
COMMIT;
SELECT * FROM differ('part');

-- A row that was to go to another partition, and that a trigger keeps where it is; and one that goes.
CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN old.k = 1 THEN NULL ELSE old END; END $$;
CREATE TRIGGER stay BEFORE DELETE ON part_x FOR EACH ROW EXECUTE FUNCTION stay();
UPDATE part SET pl = 'y', at = at + interval '1 hour' WHERE id IN (1, 41);
UPDATE part SET at = at + interval '20 minutes' WHERE id = 51;
SELECT * FROM differ('part');
SELECT id, pl, to_char(at, 'MM-DD HH24:MI') AS at FROM part WHERE id IN (1, 41, 51) ORDER BY 1;

-- Triggers that were made after the guard and fire after it. binding_health says so; until somebody renames them, rows and
-- seats agree all the same.
CREATE TABLE post (id int PRIMARY KEY, pl text DEFAULT 'x', at timestamptz, st text DEFAULT 'on', what text);
SELECT slotkeeper.attach_table('post', ('{' || :'options' || ', "states": {"unscheduled": {"st": "off"}}}')::jsonb) ->> 'outcome' AS outcome;
INSERT INTO post (id, at) SELECT n, timestamptz '2026-04-01 09:00' + n * interval '1 day' FROM generate_series(1, 9) AS n;
INSERT INTO post (id, pl, at) VALUES (10, 'y', '2026-04-01 09:00');
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RETURN CASE new.what WHEN 'nothing' THEN NULL ELSE new END;
END
$$;
CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.what = 'later' THEN
        new.at := new.at + interval '30 minutes';
    ELSIF new.what = 'off' THEN
        new.st := 'off';
    END IF;
    RETURN new;
END
$$;
CREATE TRIGGER "~~late" BEFORE INSERT OR UPDATE ON post FOR EACH ROW EXECUTE FUNCTION late();
CREATE TRIGGER "übrigens später" BEFORE INSERT OR UPDATE ON post FOR EACH ROW EXECUTE FUNCTION later();
SELECT status, reason FROM slotkeeper.binding_health WHERE source = 'ends.post';
UPDATE post SET at = at + interval '1 hour', what = 'nothing' WHERE id = 1;
UPDATE post SET pl = 'y', what = 'nothing' WHERE id = 2;
UPDATE post SET id = 22, at = at + interval '1 hour', what = 'nothing' WHERE id = 3;
UPDATE post SET at = at + interval '1 hour', what = CASE id WHEN 4 THEN 'nothing' END WHERE id IN (4, 5);
UPDATE post SET at = at + interval '1 hour', what = 'later' WHERE id = 6;
UPDATE post SET at = at + interval '1 hour', what = 'off' WHERE id = 7;
INSERT INTO post (id, at, what) VALUES (11, '2026-05-01 09:00', 'nothing'), (12, '2026-05-02 09:00', 'later'), (13, '2026-05-03 09:00', 'off');
UPDATE post SET st = 'on', what = 'nothing' WHERE id IN (7, 13);
COPY post (id, at, what) FROM stdin;
14	2026-05-04 09:00	nothing
15	2026-05-05 09:00	later
16	2026-05-06 09:00	off
17	2026-05-07 09:00	\N
\.
SELECT * FROM differ('post');
SELECT id, pl, to_char(at, 'MM-DD HH24:MI') AS at, st FROM post ORDER BY 1;
-- A seat that another row of the statement has taken meanwhile: the row is told apart as one without.
UPDATE post SET at = CASE id WHEN 8 THEN timestamptz '2026-06-01 09:00' ELSE timestamptz '2026-04-09 09:00' END, what = CASE id WHEN 8 THEN 'nothing' END WHERE id IN (8, 9);
SELECT * FROM differ('post');
SELECT content_id, to_char(at, 'MM-DD HH24:MI') AS at, held_by FROM slotkeeper.slot_collisions WHERE source = 'ends.post';
-- Calls: what was not written is not booked.
SELECT slotkeeper.reschedule_content('6', '2026-06-05 09:00Z', p_source => 'ends.post') ->> 'outcome' AS outcome, (SELECT to_char(at, 'MM-DD HH24:MI') FROM post WHERE id = 6);
UPDATE post SET what = NULL WHERE id = 6;
SELECT * FROM differ('post');
BEGIN;
SAVEPOINT s;
UPDATE post SET at = '2026-07-01 09:00', what = 'nothing' WHERE id = 1;
ROLLBACK TO s;
UPDATE post SET at = '2026-07-02 09:00', what = NULL WHERE id = 1;
COMMIT;
SELECT * FROM differ('post') WHERE id <> '8';

SET client_min_messages = warning;
RESET search_path;
DROP SCHEMA ends CASCADE;
SELECT slotkeeper.drop_queue(profile_id, platform, true) ->> 'outcome' AS outcome FROM slotkeeper.queue WHERE profile_id = 'ends' ORDER BY platform;
