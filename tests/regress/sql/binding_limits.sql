-- What is at the edge of what can be bound: partitions beside their table, queues that are not there yet, the end of the calendar.
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS edge CASCADE;
RESET client_min_messages;
\set VERBOSITY terse
\a
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
SET TimeZone = 'UTC';
CREATE SCHEMA edge;
SET search_path = edge;
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    reply text;
    detail text;
    hint text;
BEGIN
    EXECUTE command INTO reply;
    RETURN coalesce(reply::jsonb ->> 'outcome', '-');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n  ', SQLSTATE || ': ' || SQLERRM, nullif(detail, ''), nullif(hint, ''));
END
$$;
SELECT slotkeeper.create_queue('edge', 'x', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome;
\set options '"content_id": "id", "profile_id": {"value": "edge"}, "platform": "pl", "at": "at"'
CREATE FUNCTION attach(t regclass, options text) RETURNS text LANGUAGE sql AS $$SELECT edge.try(format('SELECT slotkeeper.attach_table(%L, %L)', t, options))$$;

-- A partition, its table, and a partition of a partition: one of them is attached, and guards all.
CREATE TABLE whole (id int, pl text, at timestamptz, PRIMARY KEY (id, pl)) PARTITION BY LIST (pl);
CREATE TABLE half PARTITION OF whole FOR VALUES IN ('x', 'y') PARTITION BY LIST (pl);
CREATE TABLE quarter PARTITION OF half FOR VALUES IN ('x');
SELECT attach('whole', '{' || :'options' || '}');
SELECT attach('half', '{' || :'options' || '}');
SELECT attach('quarter', '{' || :'options' || '}');
SELECT slotkeeper.check_table('quarter', ('{' || :'options' || '}')::jsonb) -> 'problems' -> 0 AS problem;
SELECT attach('whole', '{' || :'options' || '}') AS again;
SELECT try($$SELECT slotkeeper.detach_table('whole')$$);
SELECT attach('quarter', '{' || :'options' || '}');
SELECT attach('whole', '{' || :'options' || '}');
SELECT try($$SELECT slotkeeper.detach_table('quarter')$$), attach('half', '{' || :'options' || '}');
DROP TABLE whole;

-- Queues that attaching would create are no problem; who shares an instant in one of them collides.
CREATE TABLE post (id int PRIMARY KEY, pl text, at timestamptz);
INSERT INTO post VALUES (1, 'new', '2026-02-01 06:00'), (2, 'new', '2026-02-01 06:00:30'), (3, 'NEW', '2026-02-02 06:00'), (4, 'x', '2026-02-01 09:00');
\set defaults ', "queue_defaults": {"time_zone": "Asia/Jakarta", "timetable": {"daily": ["06:00"]}}'
SELECT slotkeeper.check_table('post', ('{' || :'options' || '}')::jsonb) -> 'ready' AS ready;
SELECT c -> 'ready' AS ready, c -> 'new_queues' AS new_queues, c -> 'rows_that_take_seats' AS rows, c -> 'collisions' AS collisions, c -> 'unbooked_count' AS unbooked
FROM slotkeeper.check_table('post', ('{' || :'options' || :'defaults' || '}')::jsonb) AS c;
SELECT count(*) AS queues FROM slotkeeper.queue WHERE profile_id = 'edge';
SELECT a -> 'rows' AS rows, a -> 'collisions' AS collisions FROM slotkeeper.attach_table('post', ('{' || :'options' || :'defaults' || '}')::jsonb) AS a;
SELECT slotkeeper.detach_table('post') ->> 'outcome' AS outcome;

-- The last years of the server's calendar lie beyond what is counted in microseconds of our era: as infinity they are refused,
-- and told of where they are there already.
INSERT INTO post VALUES (5, 'x', '294276-12-31 23:59'), (6, 'x', '294247-01-10 04:00:53'), (7, 'x', '4713-01-01 BC'), (8, 'x', '-infinity');
SELECT c -> 'unbooked' AS unbooked, c -> 'rows_that_take_seats' AS rows FROM slotkeeper.check_table('post', ('{' || :'options' || :'defaults' || '}')::jsonb) AS c;
SELECT a -> 'unbooked' AS unbooked, a -> 'booked' AS booked FROM slotkeeper.attach_table('post', ('{' || :'options' || :'defaults' || '}')::jsonb) AS a;
SELECT content_id, scheduled_at FROM slotkeeper.booking WHERE source = 'edge.post' AND released_at IS NULL ORDER BY content_id::int;
INSERT INTO post VALUES (9, 'x', '294247-01-10 04:00:53') RETURNING id, at;
SELECT try($$INSERT INTO edge.post VALUES (10, 'x', '294250-01-01')$$);
UPDATE post SET at = '294275-01-01' WHERE id = 5;
UPDATE post SET at = '2026-03-01 09:00' WHERE id = 5;
SELECT slotkeeper.reconcile_table('post') -> 'unbooked' AS unbooked;
CREATE TABLE wall (id int PRIMARY KEY, pl text, at timestamp);
INSERT INTO wall VALUES (1, 'x', '294276-12-31 23:59'), (2, 'x', '294247-01-09 23:00');
SELECT a -> 'unbooked' AS unbooked, a -> 'booked' AS booked FROM slotkeeper.attach_table('wall', ('{' || :'options' || ', "at_zone": "America/New_York"}')::jsonb) AS a;

-- What attach_table refuses and a table becomes later shows in binding_health.
CREATE TABLE later (id text, pl text DEFAULT 'x', at timestamptz, CONSTRAINT later_id UNIQUE (id));
SELECT attach('later', '{' || :'options' || '}');
INSERT INTO later VALUES ('a', 'x', '2026-05-01 09:00');
CREATE VIEW health AS SELECT status, reason, remedy FROM slotkeeper.binding_health WHERE source = 'edge.later';
CREATE TABLE heir () INHERITS (later);
SELECT * FROM health;
DROP TABLE heir;
ALTER TABLE later SET UNLOGGED;
SELECT * FROM health;
ALTER TABLE later SET LOGGED;
ALTER TABLE later DROP CONSTRAINT later_id;
SELECT * FROM health;
SELECT try($$INSERT INTO edge.later VALUES ('a', 'x', '2026-05-02 09:00')$$);
SELECT try($$SELECT slotkeeper.assign_next_available_slot('edge', 'x', 'b')$$);
INSERT INTO later (id, at) VALUES ('b', NULL);
DELETE FROM later WHERE id = 'a';
CREATE INDEX ON later (id);
SELECT * FROM health;
CREATE UNIQUE INDEX ON later (id);
SELECT * FROM health;
-- A content that was booked before its row came in unseen: the booking becomes the row's, and is no second one beside it.
SELECT slotkeeper.schedule_content('edge', 'x', id, '2026-07-01 10:00Z'::timestamptz + n * interval '1 hour') ->> 'outcome' AS outcome FROM unnest(ARRAY['early', 'mirrored']) WITH ORDINALITY AS u (id, n);
ALTER TABLE later DISABLE TRIGGER ALL;
INSERT INTO later (id, at) VALUES ('early', '2026-07-02 09:00');
ALTER TABLE later ENABLE TRIGGER ALL;
SELECT r -> 'booked' AS booked, r -> 'moved' AS moved FROM slotkeeper.reconcile_table('later') AS r;
SET session_replication_role = replica;
INSERT INTO later (id, at) VALUES ('mirrored', '2026-07-03 09:00');
RESET session_replication_role;
SELECT source, content_id, scheduled_at FROM slotkeeper.booking WHERE content_id IN ('early', 'mirrored') AND released_at IS NULL AND queue_id = (SELECT queue_id FROM slotkeeper.queue WHERE profile_id = 'edge' AND platform = 'x') ORDER BY 2;
DELETE FROM later WHERE id IN ('early', 'mirrored');
-- Whoever attaches or reconciles must see all rows: those that are hidden would lose their seats.
CREATE ROLE regress_sk_edge;
GRANT ALL ON SCHEMA edge TO regress_sk_edge;
SELECT slotkeeper.grant_access('regress_sk_edge', 'admin') ->> 'outcome' AS outcome;
UPDATE later SET at = '2026-05-03 09:00';
ALTER TABLE later OWNER TO regress_sk_edge;
ALTER TABLE later ENABLE ROW LEVEL SECURITY;
SET ROLE regress_sk_edge;
SELECT try($$SELECT slotkeeper.reconcile_table('edge.later')$$), attach('later', '{' || :'options' || '}');
ALTER TABLE later FORCE ROW LEVEL SECURITY;
SELECT try($$SELECT slotkeeper.reconcile_table('edge.later')$$);
SELECT attach('later', '{' || :'options' || '}');
SELECT slotkeeper.check_table('later', ('{' || :'options' || '}')::jsonb) -> 'problems' -> 0 AS problem;
RESET ROLE;
SELECT content_id, scheduled_at FROM slotkeeper.booking WHERE source = 'edge.later' AND released_at IS NULL;

SET client_min_messages = warning;
RESET search_path;
DROP SCHEMA edge CASCADE;
DROP OWNED BY regress_sk_edge;
DROP ROLE regress_sk_edge;
SELECT slotkeeper.drop_queue(profile_id, platform, true) ->> 'outcome' AS outcome FROM slotkeeper.queue WHERE profile_id = 'edge' ORDER BY platform;
