-- A bound row changes its queue or its id while publishing is at its content: each state of publishing, and what row and ledger say
-- afterwards. What has begun is refused, what was published once stays so, anything else follows its row.
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS pl CASCADE;
RESET client_min_messages;
\set VERBOSITY terse
\a
SET slotkeeper.now = '2026-01-15T00:00:00+00:00';
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
CREATE SCHEMA pl;
SET search_path = pl, pg_catalog;
CREATE TABLE post (id text PRIMARY KEY, profile text DEFAULT 'pl', platform text DEFAULT 'a', at timestamptz, status text DEFAULT 'queued', gone boolean DEFAULT false, url text);
CREATE TABLE tok (id text, token text);
CREATE FUNCTION said(r jsonb) RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', r ->> 'outcome', r ->> 'state', r ->> 'reason', CASE WHEN (r ->> 'late')::boolean THEN 'late' END) $$;
CREATE FUNCTION due() RETURNS text LANGUAGE sql AS $$ WITH c AS (SELECT * FROM slotkeeper.claim_due_content('w', 50, '10 minutes')), t AS (INSERT INTO pl.tok SELECT content_id, lease_token FROM c) SELECT coalesce(string_agg(content_id || '@' || platform, ' ' ORDER BY content_id), 'nothing') FROM c $$;
CREATE FUNCTION t(want text) RETURNS text LANGUAGE sql AS $$ SELECT token FROM pl.tok WHERE id = want ORDER BY ctid DESC LIMIT 1 $$;
CREATE FUNCTION first_t(want text) RETURNS text LANGUAGE sql AS $$ SELECT token FROM pl.tok WHERE id = want ORDER BY ctid LIMIT 1 $$;
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE command; RETURN 'ok'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ': ' || SQLERRM; END $$;
CREATE VIEW both_say AS SELECT coalesce(p.id, s.content_id) AS id, p.platform AS in_row, p.at, p.status, s.platform AS in_ledger, s.scheduled_at AS at_in_ledger, s.state FROM post AS p FULL JOIN (SELECT * FROM slotkeeper.content_status WHERE source = 'pl.post') AS s ON s.content_id = p.id AND s.state <> 'unscheduled' ORDER BY 1, 5;
-- One content in each state: sc heduled, cl aimed, re trying, fa iled, pu blishing, un known, ok (published).
CREATE FUNCTION make() RETURNS text LANGUAGE plpgsql AS $$
DECLARE said text;
BEGIN
    DELETE FROM pl.tok; DELETE FROM pl.post;
    DELETE FROM slotkeeper.published WHERE source = 'pl.post';
    DELETE FROM slotkeeper.publication WHERE booking_id IN (SELECT booking_id FROM slotkeeper.booking WHERE source = 'pl.post');
    DELETE FROM slotkeeper.booking WHERE source = 'pl.post';
    PERFORM set_config('slotkeeper.now', '2026-01-15 00:00:00+00', false);
    INSERT INTO pl.post (id, at) SELECT name, '2026-01-16 09:00Z'::timestamptz + n * interval '1 hour' FROM unnest(ARRAY['re', 'fa', 'pu', 'un', 'ok', 'cl']) WITH ORDINALITY AS x (name, n);
    INSERT INTO pl.post (id, at) VALUES ('sc', '2026-01-20 09:00Z');
    PERFORM set_config('slotkeeper.now', '2026-01-17 00:00:00+00', false);
    said := pl.due();
    PERFORM slotkeeper.begin_publish(pl.t(name)) FROM unnest(ARRAY['re', 'fa', 'pu', 'un', 'ok']) AS name;
    PERFORM slotkeeper.fail_publish(pl.t('re'), 'too many', 429), slotkeeper.fail_publish(pl.t('fa'), 'no', 403), slotkeeper.fail_publish(pl.t('un'), 'gateway', 504), slotkeeper.confirm_publish(pl.t('ok'), 'p', 'https://ok');
    RETURN said;
END $$;
SELECT slotkeeper.create_queue('pl', q, 'UTC', '{}') ->> 'outcome' AS outcome FROM unnest(ARRAY['a', 'b']) AS q;
SELECT slotkeeper.set_platform(q, '{"jitter": 0, "delays": ["1 hour"]}') ->> 'outcome' AS outcome FROM unnest(ARRAY['a', 'b']) AS q;
-- With states that take no seat, and without any: then the row goes on saying that it is queued.
\set base '{"content_id": "id", "profile_id": "profile", "platform": "platform", "at": "at", "occupies": "status = ''queued''", "exempt": {"gone": "gone"}, "published_when": "status = ''out''"'
\set states ', "states": {"scheduled": {"status": "queued"}, "claimed": {"status": "taken"}, "publishing": {"status": "sending"}, "retrying": {"status": "retry"}, "failed": {"status": "failed"}, "unknown": {"status": "unknown"}, "published": {"status": "out", "url": "$url"}}'
\set with_states :base :states '}'
\set without :base '}'
SELECT slotkeeper.attach_table('post', :'with_states') ->> 'outcome' AS outcome;

-- Another queue.
SELECT make();
SELECT id, try(format('UPDATE pl.post SET platform = ''b'' WHERE id = %L', id)) FROM post ORDER BY id;
SELECT * FROM both_say;
SELECT id, said(slotkeeper.begin_publish(t(id))) FROM unnest(ARRAY['cl', 're']) AS id;
SELECT due();
SELECT said(slotkeeper.retry_content('fa'));
SELECT due();
-- What was published in one queue may be published in another, and not again in the first.
SELECT try($$UPDATE post SET status = 'queued' WHERE id = 'ok'$$);
SELECT due();
SELECT said(slotkeeper.begin_publish(t('ok'))), said(slotkeeper.confirm_publish(t('ok')));
UPDATE post SET platform = 'a', status = 'queued' WHERE id = 'ok';
SELECT due(), said(slotkeeper.claim_content('ok', 'w', p_platform => 'a'));
SELECT * FROM both_say WHERE id = 'ok';
-- A success that is told late is of the queue that it was made in; the row is in another by now.
SELECT said(slotkeeper.confirm_publish(first_t('fa'), 'late'));
SELECT * FROM both_say WHERE id = 'fa';
SELECT try($$UPDATE post SET platform = 'a', status = 'queued' WHERE id = 'fa'$$), due(), said(slotkeeper.claim_content('fa', 'w', p_platform => 'a'));
-- Another id.
SELECT make();
SELECT id, try(format('UPDATE pl.post SET id = ''new '' || id WHERE id = %L', id)) FROM post ORDER BY id;
SELECT * FROM both_say;
SELECT id, said(slotkeeper.begin_publish(t(id))) FROM unnest(ARRAY['cl', 're']) AS id;
SELECT due();
SELECT said(slotkeeper.confirm_publish(t('re'), 'late')), said(slotkeeper.retry_content('new fa')), said(slotkeeper.claim_content('new ok', 'w'));
SELECT * FROM both_say WHERE id LIKE 'new%';
UPDATE post SET status = 'queued' WHERE id IN ('new ok', 'new re');
SELECT due();
-- Another queue, id and time at once.
SELECT make();
SELECT id, try(format('UPDATE pl.post SET id = ''new '' || id, platform = ''b'', at = at + interval ''30 days'' WHERE id = %L', id)) FROM post ORDER BY id;
SELECT * FROM both_say;
SELECT slotkeeper.reconcile_table('post') - 'source' AS reconciled;
SELECT * FROM both_say;

-- The same where the row says nothing of publishing.
SELECT slotkeeper.attach_table('post', :'without') ->> 'outcome' AS outcome;
SELECT make();
SELECT id, try(format('UPDATE pl.post SET platform = ''b'' WHERE id = %L', id)) FROM post ORDER BY id;
SELECT * FROM both_say;
SELECT make();
SELECT id, try(format('UPDATE pl.post SET id = ''new '' || id WHERE id = %L', id)) FROM post ORDER BY id;
SELECT * FROM both_say;
SELECT due();

-- Where published rows still occupy.
SELECT slotkeeper.attach_table('post', :'without'::jsonb || '{"occupies": "status <> ''draft''"}') ->> 'outcome' AS outcome;
SELECT make();
UPDATE post SET status = 'out' WHERE id IN ('ok', 'sc');
UPDATE post SET platform = 'b' WHERE id IN ('ok', 'sc');
SELECT id, try(format('UPDATE pl.post SET platform = ''a'', at = at + interval ''1 day'' WHERE id = %L', id)), try(format('UPDATE pl.post SET at = at + interval ''1 day'' WHERE id = %L', id)) FROM unnest(ARRAY['ok', 'sc']) AS id;
SELECT * FROM both_say WHERE id IN ('ok', 'sc');
SELECT slotkeeper.attach_table('post', :'without') ->> 'outcome' AS outcome;

-- Without a time, or away from the state in which it takes a seat: what is on its way keeps its time.
SELECT make();
SELECT id, try(format('UPDATE pl.post SET at = NULL WHERE id = %L', id)) FROM post ORDER BY id;
SELECT * FROM both_say;

-- A change between two states that take no seat: what publishing calls it goes on, anything else calls it off.
SELECT slotkeeper.attach_table('post', :'with_states') ->> 'outcome' AS outcome;
SELECT make();
UPDATE post SET status = 'draft' WHERE id <> 'sc';
SELECT * FROM both_say;
SELECT said(slotkeeper.begin_publish(t('cl')));
SELECT said(slotkeeper.fail_publish(t('pu'), 'too many', 429));
SELECT * FROM both_say WHERE id = 'pu';
SET slotkeeper.now = '2026-01-17 02:00:00+00';
SELECT due();
-- By hand to another of publishing's words: failed is failed, and back.
SELECT make();
UPDATE post SET status = 'failed' WHERE id IN ('re', 'cl');
SELECT * FROM both_say WHERE id IN ('re', 'cl');
SELECT said(slotkeeper.begin_publish(t('cl')));
UPDATE post SET status = 'retry' WHERE id = 'fa';
SELECT * FROM both_say WHERE id = 'fa';
SELECT due();

DELETE FROM slotkeeper.platform WHERE platform IN ('a', 'b');
SELECT slotkeeper.detach_table('post') ->> 'outcome' AS outcome;
SELECT slotkeeper.drop_queue('pl', q, true) ->> 'outcome' AS outcome FROM unnest(ARRAY['a', 'b']) AS q;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA pl CASCADE;
