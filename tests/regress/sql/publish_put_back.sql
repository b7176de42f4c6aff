-- A bound row is put back to where it waits for its time while publishing has its content: by an UPDATE, by deleting and inserting it
-- anew, by an upsert, by MERGE, in a transaction that undoes it. And rows that were published before anybody asked slotkeeper.
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS pb CASCADE;
RESET client_min_messages;
\set VERBOSITY terse
\a
SET slotkeeper.now = '2026-01-15T00:00:00+00:00';
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
CREATE SCHEMA pb;
SET search_path = pb, pg_catalog;
CREATE TABLE post (id text PRIMARY KEY, platform text DEFAULT 'a', at timestamptz, status text DEFAULT 'queued', gone boolean DEFAULT false, url text, out_at timestamp(0), tries int);
CREATE TABLE tok (id text, token text);
CREATE FUNCTION said(r jsonb) RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', r ->> 'outcome', r ->> 'state', r ->> 'reason', CASE WHEN (r ->> 'late')::boolean THEN 'late' END) $$;
CREATE FUNCTION due() RETURNS text LANGUAGE sql AS $$ WITH c AS (SELECT * FROM slotkeeper.claim_due_content('w', 50, '10 minutes')), t AS (INSERT INTO pb.tok SELECT content_id, lease_token FROM c) SELECT coalesce(string_agg(content_id || '@' || platform, ' ' ORDER BY content_id), 'nothing') FROM c $$;
CREATE FUNCTION t(want text) RETURNS text LANGUAGE sql AS $$ SELECT token FROM pb.tok WHERE id = want ORDER BY ctid DESC LIMIT 1 $$;
CREATE FUNCTION first_t(want text) RETURNS text LANGUAGE sql AS $$ SELECT token FROM pb.tok WHERE id = want ORDER BY ctid LIMIT 1 $$;
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE command; RETURN 'ok'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ': ' || SQLERRM; END $$;
CREATE VIEW both_say AS SELECT coalesce(p.id, s.content_id) AS id, p.platform AS in_row, p.at, p.status, s.platform AS in_ledger, s.scheduled_at AS at_in_ledger, s.state FROM post AS p FULL JOIN (SELECT * FROM slotkeeper.content_status WHERE source = 'pb.post') AS s ON s.content_id = p.id AND s.state <> 'unscheduled' ORDER BY 1, 5;
CREATE FUNCTION make() RETURNS text LANGUAGE plpgsql AS $$
DECLARE said text;
BEGIN
    DELETE FROM pb.tok; DELETE FROM pb.post;
    DELETE FROM slotkeeper.published WHERE source = 'pb.post';
    DELETE FROM slotkeeper.publication WHERE booking_id IN (SELECT booking_id FROM slotkeeper.booking WHERE source = 'pb.post');
    DELETE FROM slotkeeper.booking WHERE source = 'pb.post';
    PERFORM set_config('slotkeeper.now', '2026-01-15 00:00:00+00', false);
    INSERT INTO pb.post (id, at) SELECT name, '2026-01-16 09:00Z'::timestamptz + n * interval '1 hour' FROM unnest(ARRAY['re', 'fa', 'pu', 'un', 'ok', 'cl']) WITH ORDINALITY AS x (name, n);
    INSERT INTO pb.post (id, at) VALUES ('sc', '2026-01-20 09:00Z');
    PERFORM set_config('slotkeeper.now', '2026-01-17 00:00:00+00', false);
    said := pb.due();
    PERFORM slotkeeper.begin_publish(pb.t(name)) FROM unnest(ARRAY['re', 'fa', 'pu', 'un', 'ok']) AS name;
    PERFORM slotkeeper.fail_publish(pb.t('re'), 'too many', 429), slotkeeper.fail_publish(pb.t('fa'), 'no', 403), slotkeeper.fail_publish(pb.t('un'), 'gateway', 504), slotkeeper.confirm_publish(pb.t('ok'), 'p', 'https://ok');
    RETURN said;
END $$;
SELECT slotkeeper.create_queue('pb', q, 'UTC', '{}') ->> 'outcome' AS outcome FROM unnest(ARRAY['a', 'b']) AS q;
SELECT slotkeeper.set_platform(q, '{"jitter": 0, "delays": ["1 hour"]}') ->> 'outcome' AS outcome FROM unnest(ARRAY['a', 'b']) AS q;
\set base '{"content_id": "id", "profile_id": {"value": "pb"}, "platform": "platform", "at": "at", "occupies": "status = ''queued''", "exempt": {"gone": "gone"}, "published_when": "status = ''out''"'
\set states ', "states": {"scheduled": {"status": "queued"}, "unscheduled": {"status": "draft"}, "claimed": {"status": "taken"}, "publishing": {"status": "sending", "tries": "$attempt"}, "retrying": {"status": "retry"}, "failed": {"status": "failed"}, "unknown": {"status": "unknown"}, "published": {"status": "out", "url": "$url", "out_at": "$now", "tries": "$attempt"}}'
\set with_states :base :states '}'
\set without :base '}'
SELECT slotkeeper.attach_table('post', :'with_states') ->> 'outcome' AS outcome;

-- At the time that it had.
SELECT make();
SELECT id, try(format('UPDATE pb.post SET status = ''queued'', url = NULL WHERE id = %L', id)) FROM post ORDER BY id;
SELECT * FROM both_say;
SELECT url, out_at, tries FROM post WHERE id = 'ok';
SELECT said(slotkeeper.begin_publish(t('cl')));
SELECT due();
SELECT said(slotkeeper.confirm_publish(t('pu'))), said(slotkeeper.resolve_unknown('un', false)), said(slotkeeper.confirm_publish(first_t('fa'), 'late'));
SELECT said(slotkeeper.begin_publish(t('fa')));
SELECT * FROM both_say WHERE id IN ('pu', 'un', 'fa');
SELECT try($$UPDATE pb.post SET status = 'queued' WHERE id = 'un'$$);
SELECT * FROM both_say WHERE id = 'un';
-- At another.
SELECT make();
SELECT id, try(format('UPDATE pb.post SET status = ''queued'', at = at + interval ''10 days'' WHERE id = %L', id)) FROM post ORDER BY id;
SELECT * FROM both_say;
SELECT due();
-- Dragged only: its row says that it is scheduled again, unless the same UPDATE says something else.
SELECT make();
SELECT id, try(format('UPDATE pb.post SET at = at + interval ''10 days'' WHERE id = %L', id)) FROM post WHERE id IN ('cl', 're', 'fa') ORDER BY id;
UPDATE post SET at = at + interval '1 day', status = 'failed' WHERE id = 'fa' RETURNING status;
SELECT * FROM both_say WHERE id IN ('cl', 're', 'fa');
-- Without a time it is unscheduled; with one again only a row that says so is scheduled.
SELECT make();
UPDATE post SET at = NULL WHERE id IN ('cl', 're', 'fa');
UPDATE post SET at = NULL, status = 'taken' WHERE id = 'sc';
SELECT * FROM both_say WHERE id IN ('cl', 're', 'fa', 'sc');
UPDATE post SET at = '2026-03-01 09:00Z' WHERE id IN ('cl', 'sc') RETURNING id, status;
SELECT * FROM both_say WHERE id IN ('cl', 'sc') AND in_row IS NOT NULL;
-- A worker of the application's writes the states itself: named in "states" they keep what publishing has in hand, and nothing else.
SELECT slotkeeper.attach_table('post', :'with_states'::jsonb #- '{states,claimed}') ->> 'outcome' AS outcome;
SELECT make();
UPDATE post SET status = 'sending' WHERE id IN ('cl', 'sc');
SELECT * FROM both_say WHERE id IN ('cl', 'sc');
SELECT said(slotkeeper.begin_publish(t('cl')));
SELECT make();
UPDATE post SET status = 'failed', id = 'new ' || id WHERE id IN ('cl', 'sc');
SELECT * FROM both_say WHERE id LIKE '%cl' OR id LIKE '%sc';
SELECT said(slotkeeper.begin_publish(t('cl'))), said(slotkeeper.retry_content('new cl'));
SELECT slotkeeper.attach_table('post', :'with_states') ->> 'outcome' AS outcome;
-- Undone.
SELECT make();
BEGIN;
SAVEPOINT s;
UPDATE post SET platform = 'b', status = 'queued' WHERE id IN ('re', 'fa', 'cl', 'ok');
UPDATE post SET id = 'new ' || id WHERE id IN ('re', 'fa', 'cl', 'ok');
ROLLBACK TO s;
SELECT * FROM both_say;
COMMIT;
SELECT said(slotkeeper.begin_publish(t('cl')));
-- Upserts and MERGE.
SELECT make();
INSERT INTO post (id, at) SELECT id, at FROM post WHERE id IN ('re', 'fa', 'cl', 'pu', 'ok') ON CONFLICT (id) DO UPDATE SET status = excluded.status RETURNING id, status;
SELECT * FROM both_say;
SELECT make();
INSERT INTO post (id, at, platform) SELECT id, at + interval '10 days', 'b' FROM post WHERE id IN ('re', 'fa', 'cl') ON CONFLICT (id) DO UPDATE SET platform = excluded.platform, at = excluded.at RETURNING id, status;
SELECT try($$INSERT INTO pb.post (id, at, platform) SELECT id, at, 'b' FROM pb.post WHERE id = 'pu' ON CONFLICT (id) DO UPDATE SET platform = excluded.platform$$);
INSERT INTO post (id, at, platform) SELECT id, at, 'b' FROM post WHERE id = 'ok' ON CONFLICT (id) DO UPDATE SET platform = excluded.platform;
SELECT * FROM both_say WHERE state <> 'unscheduled';
SELECT make();
MERGE INTO post AS p USING (SELECT id FROM post WHERE id IN ('re', 'fa', 'cl', 'ok')) AS v ON p.id = v.id WHEN MATCHED THEN UPDATE SET platform = 'b', id = 'new ' || p.id;
SELECT * FROM both_say WHERE state <> 'unscheduled';
-- Deleted and inserted anew, at once and later; the table emptied.
SELECT make();
CREATE TABLE old AS SELECT * FROM post;
DELETE FROM post;
SELECT id, try(format('INSERT INTO pb.post (id, at) SELECT id, at FROM pb.old WHERE id = %L', id)) FROM old ORDER BY id;
SELECT * FROM both_say;
SELECT due();
SELECT make();
TRUNCATE post;
SELECT id, state FROM both_say ORDER BY id;
SELECT id, try(format('INSERT INTO pb.post (id, at) SELECT id, at + interval ''10 days'' FROM pb.old WHERE id = %L', id)) FROM old ORDER BY id;
SELECT * FROM both_say WHERE state <> 'unscheduled';
INSERT INTO post (id, at) VALUES ('un', '2026-01-16 13:00Z') RETURNING status;
-- Deleted softly and back.
SELECT make();
UPDATE post SET gone = true;
SELECT id, status, state FROM both_say WHERE state <> 'unscheduled';
UPDATE post SET gone = false;
SELECT * FROM both_say WHERE state <> 'unscheduled' OR status <> 'failed';
SELECT due();
-- A replica follows, and refuses nothing.
SELECT make();
SET session_replication_role = replica;
UPDATE post SET platform = 'b';
UPDATE post SET id = 'new ' || id, at = at + interval '10 days';
RESET session_replication_role;
SELECT * FROM both_say WHERE state <> 'unscheduled';

-- Calls.
SELECT make();
SELECT id, said(slotkeeper.reschedule_content(id, at + interval '10 days')) FROM (SELECT id, at FROM post ORDER BY id) AS p;
SELECT * FROM both_say;
SELECT make();
SELECT id, said(slotkeeper.unschedule_content(id)) FROM (SELECT id, at FROM post ORDER BY id) AS p;
SELECT id, status, state FROM both_say;
SELECT make();
SELECT id, said(slotkeeper.retry_content(id)) FROM (SELECT id, at FROM post ORDER BY id) AS p;
SELECT make();
SELECT id, said(slotkeeper.resolve_unknown(id, false)), said(slotkeeper.assign_next_available_slot('pb', 'a', id)), said(slotkeeper.schedule_content('pb', 'a', id, '2026-03-01Z')) FROM (SELECT id, at FROM post ORDER BY id) AS p;
SELECT id, status, state FROM both_say;

-- Rows that were published before anybody asked slotkeeper, while their guard was off, or by the application's own worker without a
-- seat: closed, and never handed out.
SELECT make();
SELECT slotkeeper.detach_table('post') ->> 'outcome' AS outcome;
DELETE FROM slotkeeper.publication WHERE booking_id IN (SELECT booking_id FROM slotkeeper.booking WHERE source = 'pb.post');
DELETE FROM slotkeeper.booking WHERE source = 'pb.post'; DELETE FROM slotkeeper.published WHERE source = 'pb.post';
UPDATE post SET status = CASE WHEN id IN ('cl', 'fa', 're') THEN 'out' ELSE 'queued' END;
INSERT INTO post (id, platform, at, status) VALUES ('nowhere', 'none', '2026-01-16 09:00Z', 'out');
SELECT slotkeeper.check_table('post', :'with_states') -> 'published' AS published;
SELECT r ->> 'outcome' AS outcome, r ->> 'booked' AS booked, r ->> 'closed' AS closed FROM slotkeeper.attach_table('post', :'with_states') AS r;
SELECT * FROM both_say;
UPDATE post SET status = 'queued' WHERE id IN ('cl', 'fa', 're');
SELECT * FROM both_say WHERE id IN ('cl', 'fa', 're');
SELECT due();
SELECT id, status FROM post WHERE id IN ('cl', 'fa', 're') ORDER BY id;
SELECT said(slotkeeper.claim_content('cl', 'w'));
INSERT INTO post (id, at, status) VALUES ('in', '2026-01-16 09:00Z', 'out'), ('dr', '2026-01-16 09:00Z', 'draft');
UPDATE post SET status = 'out' WHERE id = 'dr';
UPDATE post SET status = 'queued' WHERE id IN ('in', 'dr');
SELECT due();
SELECT id, status FROM post WHERE id IN ('in', 'dr') ORDER BY id;
ALTER TABLE post DISABLE TRIGGER ALL;
UPDATE post SET status = 'out' WHERE id IN ('sc', 'pu');
ALTER TABLE post ENABLE TRIGGER ALL;
SELECT slotkeeper.create_queue('pb', 'none', 'UTC', '{}') ->> 'outcome' AS outcome;
SELECT r ->> 'outcome' AS outcome, r ->> 'closed' AS closed FROM slotkeeper.reconcile_table('post') AS r;
SELECT r ->> 'outcome' AS outcome, r ->> 'closed' AS closed FROM slotkeeper.reconcile_table('post') AS r;
SET slotkeeper.now = '2026-02-17 00:00:00+00';
SELECT due();
SELECT try('UPDATE pb.post SET at = at + interval ''1 day'' WHERE id = ''sc''');
SELECT slotkeeper.drop_queue('pb', 'none', true) ->> 'outcome' AS outcome;

-- States that publishing writes in which the row takes its seat all the same: dragged, in another queue, under another id, without a
-- time, and deleted softly and back.
\set seated '{"content_id": "id", "profile_id": {"value": "pb"}, "platform": "platform", "at": "at", "occupies": "status NOT IN (''draft'', ''out'')", "exempt": {"gone": "gone"}' :states '}'
SELECT slotkeeper.attach_table('post', :'seated') ->> 'outcome' AS outcome;
SELECT make();
SELECT id, try(format('UPDATE pb.post SET at = at + interval ''10 days'' WHERE id = %L', id)) FROM post ORDER BY id;
UPDATE post SET at = at + interval '1 day', status = 'failed' WHERE id = 'fa' RETURNING status;
SELECT * FROM both_say;
SELECT said(slotkeeper.begin_publish(t('cl')));
SELECT make();
SELECT id, try(format('UPDATE pb.post SET platform = ''b'' WHERE id = %L', id)) FROM post WHERE id <> 'ok' ORDER BY id;
SELECT * FROM both_say;
SELECT due();
SELECT make();
SELECT id, try(format('UPDATE pb.post SET id = ''x'' || id WHERE id = %L', id)) FROM post WHERE id <> 'ok' ORDER BY id;
SELECT * FROM both_say;
SELECT due();
SELECT make();
UPDATE post SET at = NULL WHERE id = 'cl';
UPDATE post SET gone = true WHERE id IN ('re', 'fa');
UPDATE post SET gone = false WHERE id IN ('re', 'fa');
SELECT * FROM both_say WHERE id IN ('cl', 're', 'fa');

DELETE FROM slotkeeper.platform WHERE platform IN ('a', 'b');
SELECT slotkeeper.detach_table('post') ->> 'outcome' AS outcome;
SELECT slotkeeper.drop_queue('pb', q, true) ->> 'outcome' AS outcome FROM unnest(ARRAY['a', 'b']) AS q;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA pb CASCADE;
