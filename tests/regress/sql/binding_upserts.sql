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
DROP SCHEMA upserts CASCADE;
