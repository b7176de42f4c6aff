-- What came of an attempt is kept also where the application's row cannot say so: its CHECK, trigger or policy is in the way.
-- The caller is warned, content_status and binding_health show it, and reconcile_table() writes it.
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_sk_untold;
RESET client_min_messages;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
\set VERBOSITY terse
\a
CREATE ROLE regress_sk_untold;
CREATE SCHEMA untold;
GRANT USAGE ON SCHEMA untold TO PUBLIC;
SET search_path = untold, pg_catalog;
CREATE TABLE job (id text PRIMARY KEY, at timestamptz, st text DEFAULT 'queued', tries int, error text, url text, due timestamptz, slot text, done_at timestamptz, next_at timestamptz);
CREATE TABLE tok (n text, token text);
GRANT ALL ON tok TO PUBLIC;
CREATE FUNCTION t(want text) RETURNS text LANGUAGE sql AS $$ SELECT token FROM untold.tok WHERE n = want ORDER BY ctid DESC LIMIT 1 $$;
CREATE FUNCTION said(r jsonb) RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', r ->> 'outcome', r ->> 'state', r ->> 'reason', 'attempt ' || (r ->> 'attempt'), CASE WHEN (r ->> 'late')::boolean THEN 'late' END) $$;
CREATE FUNCTION due() RETURNS text LANGUAGE sql AS $$ WITH c AS (SELECT * FROM slotkeeper.claim_due_content('w', 20)), t AS (INSERT INTO untold.tok SELECT content_id, lease_token FROM c) SELECT coalesce(string_agg(content_id || ' ' || attempt, ', '), 'nothing') FROM c $$;
CREATE FUNCTION run(VARIADIC ids text[]) RETURNS SETOF text LANGUAGE sql AS $$ SELECT id || ' ' || (slotkeeper.begin_publish(t(id)) ->> 'outcome') FROM unnest(ids) AS id $$;
CREATE VIEW status AS SELECT content_id, state, attempt, error, row_error FROM slotkeeper.content_status WHERE source = 'untold.job' ORDER BY content_id;
CREATE VIEW line AS SELECT * FROM job ORDER BY id;
CREATE VIEW health AS SELECT status, reason, remedy FROM slotkeeper.binding_health WHERE source = 'untold.job';
SELECT slotkeeper.create_queue('untold', 'x', 'UTC', '{"daily": [{"time": "12:00", "capacity": 12, "ref": "noon"}]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.set_platform('x', '{"jitter": 0, "max_attempts": 3, "delays": ["1 minute"]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.attach_table('job', '{"content_id": "id", "profile_id": {"value": "untold"}, "platform": {"value": "x"}, "at": "at", "occupies": "st = ''queued''", "exempt": {"removed": "st = ''removed''"},
    "states": {"scheduled": {"st": "queued", "slot": "$slot_ref"}, "unscheduled": {"st": "draft", "at": null}, "publishing": {"st": "busy", "due": "$scheduled_at", "slot": "$slot_ref"}, "retrying": {"st": "retrying", "error": "$error", "next_at": "$next_attempt_at", "due": "$scheduled_at"},
    "failed": {"st": "failed", "tries": "$attempt", "error": "$error", "due": "$scheduled_at"}, "unknown": {"st": "unknown", "tries": "$attempt", "error": "$error"},
    "published": {"st": "done", "tries": "$attempt", "url": "$url", "done_at": "$now", "at": "$scheduled_at", "slot": "$slot_ref"}}}') ->> 'outcome' AS outcome;
SET slotkeeper.now = '2026-01-15T00:00:00+00:00';
INSERT INTO job (id) SELECT 'j' || n FROM generate_series(1, 9) AS n;
SELECT count(slotkeeper.assign_next_available_slot('untold', 'x', 'j' || n)) FROM generate_series(1, 9) AS n;
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
SELECT due();
SELECT run('j1', 'j2', 'j3', 'j4', 'j5', 'j6', 'j7', 'j8');
-- $scheduled_at and $slot_ref are the content's, in every state.
SELECT * FROM line WHERE id IN ('j1', 'j9');
-- A CHECK, a trigger that raises, one that keeps the row from being written.
ALTER TABLE job ADD CONSTRAINT no_done CHECK (st <> 'done' OR url LIKE 'https:%');
CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.id = 'j4' THEN RETURN NULL; END IF; RAISE 'no % here', new.st; END $$;
CREATE TRIGGER no BEFORE UPDATE ON job FOR EACH ROW WHEN (new.st IN ('failed', 'retrying', 'unknown')) EXECUTE FUNCTION no();
SELECT said(slotkeeper.confirm_publish(t('j1'), 'p1', 'http://one'));
SELECT said(slotkeeper.fail_publish(t('j2'), 'bad image', 400)), said(slotkeeper.fail_publish(t('j3'), 'too many', 429)), said(slotkeeper.fail_publish(t('j4'), 'who knows'));
SELECT said(slotkeeper.confirm_publish(t('j5'), 'p5', 'https://five'));
SELECT * FROM status;
SELECT * FROM line WHERE id <= 'j5';
SELECT * FROM health;
SELECT said(slotkeeper.confirm_publish(t('j1'), 'p1', 'https://one')), said(slotkeeper.claim_content('j1', 'w')), said(slotkeeper.claim_content('j2', 'w'));
-- A lease that runs out, and what a person finds out.
SET slotkeeper.now = '2026-01-15T12:10:00+00:00';
SELECT due();
SELECT content_id, state, row_error FROM status;
SELECT said(slotkeeper.resolve_unknown('j6', true, 'p6')), said(slotkeeper.resolve_unknown('j7', false));
SELECT content_id, state, row_error FROM status WHERE content_id IN ('j6', 'j7');
-- A person who revives what has failed is told that he can't.
SELECT said(slotkeeper.retry_content('j2'));
-- One whose row could not say that it is retried is handed out all the same; what is written then is true again.
SELECT run('j3');
SELECT content_id, state, row_error FROM status WHERE content_id = 'j3';
SELECT said(slotkeeper.confirm_publish(t('j3'), 'p3', 'https://three'));
SELECT content_id, state, row_error FROM status WHERE content_id = 'j3';
-- Reconciling writes what it can, and keeps the rest.
DROP TRIGGER no ON job;
SELECT r ->> 'outcome' AS outcome, r ->> 'told_count' AS told, r ->> 'untold_count' AS untold FROM slotkeeper.reconcile_table('job') AS r;
SELECT * FROM health;
ALTER TABLE job DROP CONSTRAINT no_done;
SELECT r ->> 'outcome' AS outcome, r ->> 'told_count' AS told, r ->> 'untold_count' AS untold FROM slotkeeper.reconcile_table('job') AS r;
SELECT * FROM health;
SELECT * FROM line;
SELECT * FROM status WHERE row_error IS NOT NULL;
-- What a success has closed before is closed in the row too; one that cannot be stops nobody else.
SELECT said(slotkeeper.unschedule_content('j2')), said(slotkeeper.confirm_publish(t('j2'), 'p2', 'https://two'));
SELECT id, st, at, url FROM line WHERE id = 'j2';
UPDATE job SET st = 'draft' WHERE id = 'j2';
SELECT slotkeeper.assign_next_available_slot('untold', 'x', 'j2') ->> 'outcome' AS outcome;
ALTER TABLE job ADD CONSTRAINT no_done CHECK (st <> 'done') NOT VALID;
SELECT slotkeeper.schedule_content('untold', 'x', 'unbound', '2026-01-16T13:00:00Z') ->> 'outcome' AS outcome;
SET slotkeeper.now = '2026-01-20T13:00:00+00:00';
SELECT due();
SELECT content_id, state, row_error FROM status WHERE content_id = 'j2';
SELECT said(slotkeeper.claim_content('j2', 'w'));
ALTER TABLE job DROP CONSTRAINT no_done;
SELECT said(slotkeeper.claim_content('j2', 'w'));
SELECT id, st, url FROM line WHERE id = 'j2';
SELECT content_id, state, row_error FROM status WHERE content_id = 'j2';
-- A role that may not write the row tells what came of it; the row's owner has it written.
INSERT INTO job (id, at) VALUES ('k1', '2026-01-20T13:30:00Z'), ('k2', '2026-01-20T13:31:00Z');
SET slotkeeper.now = '2026-01-20T14:00:00+00:00';
SELECT due();
SELECT run('k1', 'k2');
SELECT slotkeeper.grant_access('regress_sk_untold', 'worker') ->> 'outcome' AS outcome;
SET ROLE regress_sk_untold;
SELECT said(slotkeeper.confirm_publish(t('k1'), 'p', 'https://k1'));
RESET ROLE;
DELETE FROM job WHERE id = 'k2';
SET ROLE regress_sk_untold;
SELECT said(slotkeeper.confirm_publish(t('k2'), 'p', 'https://k2'));
RESET ROLE;
SELECT content_id, state, row_error FROM status WHERE content_id >= 'k';
SELECT r ->> 'outcome' AS outcome, r ->> 'told_count' AS told FROM slotkeeper.reconcile_table('job') AS r;
SELECT id, st, url FROM line WHERE id = 'k1';
SELECT * FROM health;
SELECT slotkeeper.detach_table('job') ->> 'outcome' AS outcome;
SELECT slotkeeper.drop_queue('untold', 'x', true) ->> 'outcome' AS outcome;
SELECT count(*) FROM slotkeeper.untold;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA untold CASCADE;
DROP OWNED BY regress_sk_untold;
DROP ROLE regress_sk_untold;
DELETE FROM slotkeeper.publication;
DELETE FROM slotkeeper.booking;
DELETE FROM slotkeeper.attempt;
DELETE FROM slotkeeper.published;
DELETE FROM slotkeeper.dropped_queue;
DELETE FROM slotkeeper.platform;
