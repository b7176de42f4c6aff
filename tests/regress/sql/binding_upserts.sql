-- Rows that a statement replaces: upserts over another unique key than the content's id, and a row that is deleted and inserted
-- anew by one statement. A row never collides with itself, and none is left without its seat.
SET slotkeeper.now = '2026-01-15 12:00:00+00';
CREATE SCHEMA upserts;
SET search_path = upserts;
SELECT slotkeeper.create_queue('z', 'x', 'UTC', '{}')->>'outcome' AS outcome;
CREATE SEQUENCE post_number;
CREATE TABLE post (id text PRIMARY KEY DEFAULT 'post-' || nextval('post_number'), ext text UNIQUE, at timestamptz);
SELECT slotkeeper.attach_table('post', '{"content_id": "id", "profile_id": {"value": "z"}, "platform": {"value": "x"},
    "at": "at"}')->>'outcome' AS outcome;
CREATE VIEW seats AS
    SELECT p.ext, p.at, b.scheduled_at AS booked FROM post AS p
    FULL JOIN (SELECT * FROM slotkeeper.booking WHERE source = 'upserts.post' AND released_at IS NULL) AS b ON b.content_id = p.id
    ORDER BY p.ext;

-- As applications upsert by a key of their own: the same again, and another time.
INSERT INTO post (ext, at) VALUES ('e', '2026-05-01 10:00Z') ON CONFLICT (ext) DO UPDATE SET at = excluded.at RETURNING at;
INSERT INTO post (ext, at) VALUES ('e', '2026-05-01 10:00Z') ON CONFLICT (ext) DO UPDATE SET at = excluded.at RETURNING at;
INSERT INTO post (ext, at) VALUES ('e', '2026-06-01 10:00Z') ON CONFLICT (ext) DO UPDATE SET at = excluded.at RETURNING at;
INSERT INTO post (ext, at) VALUES ('e', '2026-06-01 10:00Z') ON CONFLICT (ext) DO NOTHING RETURNING at;
-- Several at once; one of them wants what the other's upsert would have had.
INSERT INTO post (ext, at) VALUES ('e', '2026-06-02 10:00Z'), ('f', '2026-06-02 10:00Z')
ON CONFLICT (ext) DO NOTHING RETURNING ext, at;
-- What another row holds still moves it, once.
INSERT INTO post (ext, at) VALUES ('e', '2026-06-02 10:00Z') ON CONFLICT (ext) DO UPDATE SET at = excluded.at RETURNING at;
SELECT * FROM seats;

-- Where colliding rows are refused.
SELECT slotkeeper.attach_table('post', '{"content_id": "id", "profile_id": {"value": "z"}, "platform": {"value": "x"},
    "at": "at", "on_conflict": "reject"}')->>'outcome' AS outcome;
INSERT INTO post (ext, at) VALUES ('e', '2026-07-01 10:00Z') ON CONFLICT (ext) DO UPDATE SET at = excluded.at RETURNING at;
INSERT INTO post (ext, at) VALUES ('e', '2026-07-01 10:00Z') ON CONFLICT (ext) DO UPDATE SET at = excluded.at RETURNING at;
INSERT INTO post (ext, at) VALUES ('e', '2026-06-02 10:00Z') ON CONFLICT (ext) DO UPDATE SET at = excluded.at RETURNING at;
SELECT * FROM seats;

-- One statement deletes a row and inserts it anew, as it was and with another time: the seat is the new row's.
WITH gone AS (DELETE FROM post WHERE ext = 'f' RETURNING *) INSERT INTO post SELECT * FROM gone;
INSERT INTO post (ext, at) VALUES ('g', '2026-06-02 10:00Z');
WITH gone AS (DELETE FROM post WHERE ext = 'f' RETURNING *)
INSERT INTO post SELECT id, ext, at + interval '1 hour' FROM gone;
-- A row takes over the id of one that is deleted.
WITH gone AS (DELETE FROM post WHERE ext = 'f' RETURNING id) UPDATE post SET id = gone.id FROM gone WHERE ext = 'e';
SELECT * FROM seats;
-- A trigger of the application's puts back what is deleted.
CREATE FUNCTION put_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO upserts.post VALUES (old.*); RETURN NULL; END $$;
CREATE TRIGGER a_put_back AFTER DELETE ON post FOR EACH ROW EXECUTE FUNCTION put_back();
DELETE FROM post;
SELECT * FROM seats;
DROP TRIGGER a_put_back ON post;
DELETE FROM post;
SELECT * FROM seats;

-- A content that was published before its row was there stays published.
SELECT slotkeeper.schedule_content('z', 'x', 'early', '2026-01-15 12:00Z')->>'outcome' AS outcome;
SELECT slotkeeper.claim_content('early', 'w')->>'lease_token' AS token \gset
SELECT slotkeeper.begin_publish(:'token')->>'outcome' AS begun, slotkeeper.confirm_publish(:'token', 'FIRST')->>'outcome' AS confirmed;
INSERT INTO post (id, at) VALUES ('early', '2026-01-15 12:00Z');
SELECT state, provider_id FROM slotkeeper.content_status WHERE content_id = 'early';
SELECT slotkeeper.claim_content('early', 'w')->>'outcome' AS outcome;

-- A unique key with the time in it: what is inserted without ON CONFLICT moves, and the key with it, whatever the statement; what
-- is upserted by that key is its row's.
CREATE TABLE keyed (id int PRIMARY KEY, p text DEFAULT 'z', at timestamptz, UNIQUE (p, at), what text);
SELECT slotkeeper.attach_table('keyed', '{"content_id": "id", "profile_id": "p", "platform": {"value": "x"}, "at": "at"}')->>'outcome' AS outcome;
INSERT INTO keyed VALUES (1, 'z', '2026-09-01 10:00Z'), (2, 'z', '2026-09-01 10:00Z');
INSERT INTO keyed VALUES (3, 'z', '2026-09-01 10:00Z') RETURNING id, at;
COPY keyed (id, at) FROM STDIN;
4	2026-09-01 10:00Z
\.
WITH w AS (INSERT INTO keyed VALUES (5, 'z', '2026-09-01 10:00Z') RETURNING id, at) SELECT * FROM w;
CREATE FUNCTION put(int) RETURNS timestamptz LANGUAGE sql AS $$INSERT INTO upserts.keyed VALUES ($1, 'z', '2026-09-01 10:00Z') RETURNING at$$;
SELECT put(6);
INSERT INTO keyed VALUES (7, 'z', '2026-09-01 10:00Z') ON CONFLICT (p, at) DO UPDATE SET what = 'updated' RETURNING id, at, what;
INSERT INTO keyed VALUES (8, 'z', '2026-09-01 10:00Z') ON CONFLICT DO NOTHING RETURNING id, at;
WITH w AS (INSERT INTO keyed VALUES (9, 'z', '2026-09-01 10:00Z') ON CONFLICT (p, at) DO UPDATE SET what = 'again' RETURNING id, at, what) SELECT * FROM w;
MERGE INTO keyed USING (VALUES (10)) AS v (id) ON keyed.id = v.id WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'z', '2026-09-01 10:00Z');
SELECT count(*) FILTER (WHERE b.scheduled_at = k.at) AS right, count(*) AS all FROM keyed AS k
FULL JOIN (SELECT * FROM slotkeeper.booking WHERE source = 'upserts.keyed' AND released_at IS NULL) AS b ON b.content_id = k.id::text;
-- In a session's very first statement as well.
\c -
SET slotkeeper.now = '2026-01-15 12:00:00+00';
SET search_path = upserts;
INSERT INTO keyed VALUES (11, 'z', '2026-09-01 10:00Z') ON CONFLICT (p, at) DO UPDATE SET what = 'first' RETURNING id, at, what;
\c -
SET slotkeeper.now = '2026-01-15 12:00:00+00';
SET search_path = upserts;
INSERT INTO keyed VALUES (12, 'z', '2026-09-01 10:00Z') RETURNING id, at;
\c -
SET slotkeeper.now = '2026-01-15 12:00:00+00';
SET search_path = upserts;
COPY keyed (id, at) FROM STDIN;
13	2026-09-01 10:00Z
\.
SELECT id, at FROM keyed WHERE id = 13;
-- Unique keys of some of the rows, as with soft deletes, and over expressions.
CREATE TABLE soft (id text PRIMARY KEY, ext text, at timestamptz, deleted timestamptz, n int NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX ON soft (ext) WHERE deleted IS NULL;
CREATE FUNCTION folded(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF $1 = 'refused' THEN RAISE EXCEPTION 'folded as %', current_user; END IF;
    RETURN lower($1);
END $$;
CREATE UNIQUE INDEX ON soft (folded(ext), (n + 1)) WHERE n > 5;
SELECT slotkeeper.attach_table('soft', '{"content_id": "id", "profile_id": {"value": "z"}, "platform": {"value": "x"}, "at": "at", "exempt": {"deleted": "deleted IS NOT NULL"}}')->>'outcome' AS outcome;
INSERT INTO soft VALUES ('A', 'e', '2026-11-01 10:00Z');
INSERT INTO soft VALUES ('B', 'e', '2026-11-01 10:00Z') ON CONFLICT (ext) WHERE deleted IS NULL DO UPDATE SET at = excluded.at RETURNING id, at;
INSERT INTO soft VALUES ('B', 'e', '2026-11-01 10:00Z') ON CONFLICT (ext) WHERE deleted IS NULL DO NOTHING RETURNING id, at;
INSERT INTO soft VALUES ('C', 'F', '2026-11-02 10:00Z', NULL, 6);
INSERT INTO soft VALUES ('D', 'f', '2026-11-02 10:00Z', NULL, 6) ON CONFLICT (folded(ext), (n + 1)) WHERE n > 5 DO UPDATE SET at = excluded.at RETURNING id, at;
-- Another key, none, and the key of a deleted row.
INSERT INTO soft VALUES ('D', 'G', '2026-11-02 10:00Z', NULL, 7) ON CONFLICT (folded(ext), (n + 1)) WHERE n > 5 DO UPDATE SET at = excluded.at RETURNING id, at;
INSERT INTO soft VALUES ('E', NULL, '2026-11-02 10:00Z', NULL, 7) ON CONFLICT (folded(ext), (n + 1)) WHERE n > 5 DO UPDATE SET at = excluded.at RETURNING id, at;
UPDATE soft SET deleted = '2026-01-01' WHERE id = 'A';
INSERT INTO soft VALUES ('H', 'e', '2026-11-02 10:00Z') ON CONFLICT (ext) WHERE deleted IS NULL DO UPDATE SET at = excluded.at RETURNING id, at;
INSERT INTO soft VALUES ('I', 'refused', '2026-11-02 10:00Z', NULL, 7) ON CONFLICT DO NOTHING;
SELECT s.id, s.at, b.scheduled_at FROM soft AS s
FULL JOIN (SELECT * FROM slotkeeper.booking WHERE source = 'upserts.soft' AND released_at IS NULL) AS b ON b.content_id = s.id ORDER BY s.id;

-- In replica role, too, nothing is booked for what is not inserted, and the row that is met keeps its seat.
CREATE TABLE copied (id text PRIMARY KEY, ext text UNIQUE, at timestamptz);
SELECT slotkeeper.attach_table('copied', '{"content_id": "id", "profile_id": {"value": "z"}, "platform": {"value": "x"}, "at": "at"}')->>'outcome' AS outcome;
INSERT INTO copied VALUES ('A', 'a', '2026-10-01 10:00Z'), ('B', 'b', '2026-10-02 10:00Z');
SET session_replication_role = replica;
INSERT INTO copied VALUES ('A', 'a', '2026-10-05 10:00Z') ON CONFLICT DO NOTHING;
INSERT INTO copied VALUES ('A', 'a', '2026-10-05 10:00Z') ON CONFLICT (id) DO UPDATE SET ext = 'a2';
INSERT INTO copied VALUES ('C', 'b', '2026-10-07 10:00Z') ON CONFLICT (ext) DO UPDATE SET at = excluded.at;
INSERT INTO copied VALUES ('D', 'b', '2026-10-08 10:00Z') ON CONFLICT (ext) DO NOTHING;
INSERT INTO copied VALUES ('E', 'e', '2026-10-07 10:00Z'), ('F', 'f', '2026-10-09 10:00Z');
RESET session_replication_role;
SELECT c.id, c.at, b.content_id, b.scheduled_at FROM copied AS c
FULL JOIN (SELECT * FROM slotkeeper.booking WHERE source = 'upserts.copied' AND released_at IS NULL) AS b ON b.content_id = c.id ORDER BY c.id;
SELECT content_id, at, found_by FROM slotkeeper.collision WHERE source = 'upserts.copied';
DROP SCHEMA upserts CASCADE;
