-- A row that the application's own constraint or trigger keeps from being written when its content is claimed stops nobody else: it
-- is passed over, with a warning, and stays as it was. So it is where a trigger lets the row be and raises nothing.
SET slotkeeper.now = '2026-01-15 13:10:00+00';
CREATE SCHEMA over;
SET search_path = over;
SELECT slotkeeper.create_queue('q', 'y', 'UTC', '{}')->>'outcome' AS outcome;
CREATE TABLE job (id int PRIMARY KEY, at timestamptz, st text DEFAULT 'queued', owner text);
CREATE UNIQUE INDEX one_active ON job (owner) WHERE st = 'claimed';
SELECT slotkeeper.attach_table('job', '{"content_id": "id", "profile_id": {"value": "q"}, "platform": {"value": "y"}, "at": "at",
    "occupies": "st = ''queued''", "states": {"claimed": {"st": "claimed"}, "publishing": {"st": "claimed"},
    "published": {"st": "done"}, "unknown": {"st": "unknown"}, "retrying": {"st": "queued"}}}')->>'outcome' AS outcome;
INSERT INTO job VALUES (1, '2026-01-15 13:00Z', 'queued', 'ann'), (2, '2026-01-15 13:01Z', 'queued', 'ann'), (3, '2026-01-15 13:02Z', 'queued', 'bob');
SELECT content_id, lease_token AS one FROM slotkeeper.claim_due_content('w', 1, '1 minute') \gset
SELECT :content_id AS first;
SELECT content_id FROM slotkeeper.claim_due_content('w2', 5, '1 hour');
SELECT content_id, state FROM slotkeeper.content_status WHERE profile_id = 'q' ORDER BY content_id;
SELECT id, st FROM job ORDER BY id;
-- What came of the first is never told, and its row cannot say so: it is unknown all the same, and its row still in the way.
SELECT slotkeeper.begin_publish(:'one')->>'outcome' AS outcome;
CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no unknown states here'; END $$;
CREATE TRIGGER no BEFORE UPDATE ON job FOR EACH ROW WHEN (new.st = 'unknown') EXECUTE FUNCTION no();
SET slotkeeper.now = '2026-01-15 13:20:00+00';
INSERT INTO job VALUES (4, '2026-01-15 13:15Z', 'queued', 'eve');
SELECT content_id FROM slotkeeper.claim_due_content('w3', 5, '1 hour');
SELECT content_id, state, row_error FROM slotkeeper.content_status WHERE profile_id = 'q' AND state = 'unknown';
DROP TRIGGER no ON job;
SELECT r ->> 'told_count' AS told FROM slotkeeper.reconcile_table('job') AS r;
SELECT content_id FROM slotkeeper.claim_due_content('w3', 5, '1 hour');
SELECT content_id FROM slotkeeper.claim_due_content('w3', 5, '1 hour');
SELECT id, st FROM job ORDER BY id;
CREATE FUNCTION silent() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER silent BEFORE UPDATE ON job FOR EACH ROW WHEN (new.id = 5 AND new.st = 'claimed') EXECUTE FUNCTION silent();
INSERT INTO job VALUES (5, '2026-01-15 13:16Z', 'queued', 'pat'), (6, '2026-01-15 13:17Z', 'queued', 'sue');
SELECT content_id FROM slotkeeper.claim_due_content('w4', 5, '1 hour');
DROP SCHEMA over CASCADE;
