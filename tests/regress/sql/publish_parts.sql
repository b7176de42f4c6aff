-- Publishing's contents in partitioned tables, where a change of the row may take it to another partition; tables in which no row can
-- be given another time; and columns of other types than text for what states write.
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS pp CASCADE;
RESET client_min_messages;
\set VERBOSITY terse
\a
SET slotkeeper.now = '2026-01-15T00:00:00+00:00';
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
CREATE SCHEMA pp;
SET search_path = pp, pg_catalog;
CREATE TABLE tok (id text, token text);
CREATE FUNCTION said(r jsonb) RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', r ->> 'outcome', r ->> 'state', r ->> 'reason', CASE WHEN (r ->> 'late')::boolean THEN 'late' END) $$;
CREATE FUNCTION due() RETURNS text LANGUAGE sql AS $$ WITH c AS (SELECT * FROM slotkeeper.claim_due_content('w', 50, '10 minutes')), t AS (INSERT INTO pp.tok SELECT content_id, lease_token FROM c) SELECT coalesce(string_agg(content_id || '@' || platform, ' ' ORDER BY content_id), 'nothing') FROM c $$;
CREATE FUNCTION t(want text) RETURNS text LANGUAGE sql AS $$ SELECT token FROM pp.tok WHERE id = want ORDER BY ctid DESC LIMIT 1 $$;
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE command; RETURN 'ok'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ': ' || SQLERRM; END $$;
CREATE FUNCTION in_hand() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pp.due();
    PERFORM slotkeeper.begin_publish(pp.t(name)) FROM unnest(ARRAY['re', 'fa', 'pu', 'ok']) AS name;
    PERFORM slotkeeper.fail_publish(pp.t('re'), 'too many', 429), slotkeeper.fail_publish(pp.t('fa'), 'no', 403), slotkeeper.confirm_publish(pp.t('ok'));
END $$;
SELECT slotkeeper.create_queue('pp', q, 'UTC', '{}') ->> 'outcome' AS outcome FROM unnest(ARRAY['a', 'b']) AS q;
SELECT slotkeeper.set_platform(q, '{"jitter": 0, "delays": ["1 hour"]}') ->> 'outcome' AS outcome FROM unnest(ARRAY['a', 'b']) AS q;
CREATE TYPE state AS ENUM ('queued', 'taken', 'sending', 'retry', 'failed', 'out', 'draft');
-- By queue.
CREATE TABLE part (id text, platform text DEFAULT 'a', at timestamptz, status state DEFAULT 'queued', PRIMARY KEY (id, platform)) PARTITION BY LIST (platform);
CREATE TABLE part_a PARTITION OF part FOR VALUES IN ('a');
CREATE TABLE part_b PARTITION OF part FOR VALUES IN ('b');
\set options '{"content_id": "id", "profile_id": {"value": "pp"}, "platform": "platform", "at": "at", "occupies": "status = ''queued''", "published_when": "status = ''out''", "states": {"scheduled": {"status": "queued"}, "claimed": {"status": "taken"}, "publishing": {"status": "sending"}, "retrying": {"status": "retry"}, "failed": {"status": "failed"}, "unknown": {"status": "is in no enum"}, "published": {"status": "out"}}}'
SELECT slotkeeper.attach_table('part', :'options') ->> 'outcome' AS outcome;
CREATE VIEW both_say AS SELECT coalesce(p.id, s.content_id) AS id, p.platform AS in_row, p.at, p.status, s.platform AS in_ledger, s.scheduled_at AS at_in_ledger, s.state FROM part AS p FULL JOIN (SELECT * FROM slotkeeper.content_status WHERE source = 'pp.part' AND state <> 'unscheduled') AS s ON s.content_id = p.id ORDER BY 1, 5;
INSERT INTO part (id, at) SELECT name, '2026-01-16 09:00Z'::timestamptz + n * interval '1 hour' FROM unnest(ARRAY['re', 'fa', 'pu', 'ok', 'cl', 'ok2']) WITH ORDINALITY AS x (name, n);
UPDATE part SET status = 'out' WHERE id = 'ok2';
SET slotkeeper.now = '2026-01-17 00:00:00+00';
SELECT in_hand();
SELECT id, try(format('UPDATE pp.part SET platform = ''b'' WHERE id = %L', id)) FROM part ORDER BY id;
SELECT * FROM both_say;
SELECT due();
SELECT id, try(format('UPDATE pp.part SET id = ''new '' || id, platform = ''a'', status = ''queued'' WHERE id = %L', id)) FROM part ORDER BY id;
SELECT * FROM both_say;
SELECT due();
-- Two rows of one id, of which one takes a seat: that one may be dragged.
INSERT INTO part VALUES ('two', 'a', '2026-03-01 09:00Z', 'queued'), ('two', 'b', '2026-03-01 09:00Z', 'draft');
UPDATE part SET at = '2026-03-02 09:00Z' WHERE id = 'two' AND platform = 'a';
UPDATE part SET at = '2026-03-03 09:00Z' WHERE id = 'two' AND platform = 'b';
SELECT try('UPDATE pp.part SET status = ''queued'' WHERE id = ''two'' AND platform = ''b''');
SELECT * FROM both_say WHERE id = 'two';
-- The same in one queue: the one that is only a draft leaves what publishing has in hand of the other alone.
CREATE TABLE region (id text, region int, platform text DEFAULT 'b', at timestamptz, status state DEFAULT 'queued', PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE region_1 PARTITION OF region FOR VALUES IN (1);
CREATE TABLE region_2 PARTITION OF region FOR VALUES IN (2);
SELECT slotkeeper.attach_table('region', :'options') ->> 'outcome' AS outcome;
INSERT INTO region (id, region, at) SELECT name, 1, '2026-01-16 01:00Z'::timestamptz + n * interval '1 hour' FROM unnest(ARRAY['re', 'pu', 'cl']) WITH ORDINALITY AS x (name, n);
SELECT in_hand();
INSERT INTO region (id, region, at, status) SELECT id, 2, at, 'draft' FROM region;
SELECT id, try(format('UPDATE pp.region SET at = at + interval ''1 day'', platform = ''a'' WHERE region = 2 AND id = %L', id)) FROM region WHERE region = 2 ORDER BY id;
SELECT id, region, p.platform, status, s.platform AS in_ledger, state FROM region AS p JOIN slotkeeper.content_status AS s ON s.content_id = p.id AND s.source = 'pp.region' ORDER BY 1, 2;
UPDATE region SET region = 2, platform = 'a', id = 'new ' || id WHERE region = 1 AND id <> 'pu';
DELETE FROM region WHERE status = 'draft';
SELECT id, region, p.platform, status, s.platform AS in_ledger, state FROM region AS p JOIN slotkeeper.content_status AS s ON s.content_id = p.id AND s.source = 'pp.region' AND s.state <> 'unscheduled' ORDER BY 1, 2;
DROP TABLE region;
-- A state that its type doesn't take keeps nobody from editing a draft.
UPDATE part SET status = 'draft' WHERE id = 'new fa';
UPDATE part SET at = now() WHERE id = 'new fa';
SELECT slotkeeper.detach_table('part') ->> 'outcome' AS outcome;

-- By time: nothing can be written into the row that moves.
CREATE TABLE log (id text, platform text DEFAULT 'a', at timestamptz, done boolean, code char(8) DEFAULT 'queued', PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM ('2026-02-01') TO ('2026-12-31');
\set options '{"content_id": "id", "profile_id": {"value": "pp"}, "platform": "platform", "at": "at", "on_conflict": "reject", "occupies": "code = ''queued'' AND done IS NULL", "published_when": "done", "states": {"scheduled": {"code": "queued", "done": null}, "claimed": {"code": "taken"}, "publishing": {"code": "sending"}, "retrying": {"code": "retry", "done": "false"}, "failed": {"code": "failed", "done": "no"}, "published": {"code": "out", "done": "true"}}}'
SELECT slotkeeper.attach_table('log', :'options') ->> 'outcome' AS outcome;
DROP VIEW both_say;
CREATE VIEW both_say AS SELECT coalesce(p.id, s.content_id) AS id, p.platform AS in_row, p.at, trim(p.code) AS code, p.done, s.platform AS in_ledger, s.scheduled_at AS at_in_ledger, s.state FROM log AS p FULL JOIN (SELECT * FROM slotkeeper.content_status WHERE source = 'pp.log' AND state <> 'unscheduled') AS s ON s.content_id = p.id ORDER BY 1, 6;
SET slotkeeper.now = '2026-01-15 00:00:00+00';
INSERT INTO log (id, at) SELECT name, '2026-01-18 09:00Z'::timestamptz + n * interval '1 hour' FROM unnest(ARRAY['re', 'fa', 'pu', 'ok', 'cl']) WITH ORDINALITY AS x (name, n);
INSERT INTO log (id, at, code, done) VALUES ('own', '2026-01-18 20:00Z', 'x', true);
SET slotkeeper.now = '2026-01-19 00:00:00+00';
SELECT in_hand();
SELECT * FROM both_say;
SELECT id, try(format('UPDATE pp.log SET at = at + interval ''20 days'' WHERE id = %L', id)) FROM log ORDER BY id;
SELECT * FROM both_say;
SELECT id, try(format('UPDATE pp.log SET platform = ''b'' WHERE id = %L', id)) FROM log ORDER BY id;
SELECT * FROM both_say;
UPDATE log SET code = 'stopped' WHERE id = 're';
UPDATE log SET code = 'queued', done = NULL WHERE id IN ('fa', 'ok', 'own');
SELECT * FROM both_say;
SET slotkeeper.now = '2026-03-17 00:00:00+00';
SELECT due();
SELECT said(slotkeeper.claim_content('own', 'w'));
SELECT slotkeeper.detach_table('log') ->> 'outcome' AS outcome;

DELETE FROM slotkeeper.platform WHERE platform IN ('a', 'b');
SELECT slotkeeper.drop_queue('pp', q, true) ->> 'outcome' AS outcome FROM unnest(ARRAY['a', 'b']) AS q;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA pp CASCADE;
