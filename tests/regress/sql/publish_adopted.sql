-- What a trusted role has booked before its row was there becomes the row's, and keeps its key with the provider.
SET TimeZone = 'UTC';
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
\a
CREATE SCHEMA adopt;
SET search_path = adopt, pg_catalog;
CREATE TABLE post (id text PRIMARY KEY, at timestamptz, state text);
CREATE TABLE seen (content_id text, key text, token text, source text);
CREATE FUNCTION claim(content text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r jsonb := slotkeeper.claim_content(content, 'w', '1 minute');
BEGIN
    INSERT INTO seen VALUES (content, r ->> 'publish_key', r ->> 'lease_token', (SELECT source FROM slotkeeper.content_status WHERE content_id = content AND state = 'claimed'));
    RETURN r ->> 'outcome';
END $$;
CREATE FUNCTION start(content text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r jsonb := slotkeeper.begin_publish((SELECT token FROM seen WHERE content_id = content ORDER BY ctid DESC LIMIT 1));
BEGIN
    INSERT INTO seen VALUES (content, r ->> 'publish_key');
    RETURN r ->> 'outcome';
END $$;
CREATE FUNCTION fail(content text) RETURNS text LANGUAGE sql AS $$
    SELECT slotkeeper.fail_publish((SELECT token FROM seen WHERE content_id = content AND token IS NOT NULL ORDER BY ctid DESC LIMIT 1), 'no', 429) ->> 'outcome' $$;
SELECT slotkeeper.create_queue('adopt', 'x', 'UTC', '{"daily": ["12:00", "13:00"]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.set_platform('x', '{"jitter": 0, "delays": ["1 second"]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.attach_table('post', '{"content_id": "id", "profile_id": {"value": "adopt"}, "platform": {"value": "x"}, "at": "at", "occupies": "state = ''queued''",
    "states": {"scheduled": {"state": "queued"}, "unscheduled": {"state": "draft"}, "retrying": {"state": "queued"}}}') ->> 'outcome' AS outcome;
SELECT slotkeeper.assign_next_available_slot('adopt', 'x', c) ->> 'outcome' AS outcome FROM unnest(ARRAY['handed', 'begun', 'taken back', 'done', 'fresh']) AS c;
SET slotkeeper.now = '2026-01-20T12:00:00+00:00';
SELECT c, claim(c) FROM unnest(ARRAY['handed', 'begun', 'taken back', 'done']) AS c;
SELECT c, start(c) FROM unnest(ARRAY['begun', 'done']) AS c;
SELECT slotkeeper.confirm_publish((SELECT token FROM seen WHERE content_id = 'done' AND token IS NOT NULL)) ->> 'outcome' AS outcome;
-- Given back and booked again, still without a row.
SELECT slotkeeper.unschedule_content('taken back') ->> 'outcome' AS outcome;
SELECT slotkeeper.assign_next_available_slot('adopt', 'x', 'taken back') ->> 'outcome' AS outcome;
-- The rows come.
INSERT INTO post SELECT content_id, scheduled_at, 'queued' FROM slotkeeper.content_status WHERE profile_id = 'adopt';
SELECT content_id, source, state FROM slotkeeper.content_status WHERE profile_id = 'adopt' AND (source IS NOT NULL OR state <> 'unscheduled') ORDER BY content_id;
SELECT content_id FROM slotkeeper.adopted ORDER BY content_id;
SELECT start('handed'), fail('handed'), fail('begun');
SET slotkeeper.now = '2026-01-25T12:00:00+00:00';
SELECT c, claim(c) FROM unnest(ARRAY['handed', 'begun', 'taken back', 'fresh', 'done']) AS c;
-- Given back by the row, booked again, its history pruned.
SELECT c, slotkeeper.unschedule_content(c) ->> 'outcome' AS outcome FROM unnest(ARRAY['handed', 'begun', 'taken back', 'fresh']) AS c;
SET slotkeeper.now = '2026-02-25T12:00:00+00:00';
SELECT slotkeeper.prune_history('1 day') ->> 'outcome' AS outcome;
SELECT c, slotkeeper.assign_next_available_slot('adopt', 'x', c) ->> 'outcome' AS outcome FROM unnest(ARRAY['handed', 'begun', 'taken back', 'fresh']) AS c;
SET slotkeeper.now = '2026-03-25T12:00:00+00:00';
SELECT c, claim(c) FROM unnest(ARRAY['handed', 'begun', 'taken back', 'fresh', 'done']) AS c;
SELECT c, start(c) FROM unnest(ARRAY['handed', 'begun', 'taken back', 'fresh']) AS c;
-- One key each, whatever the content belonged to.
SELECT content_id, count(key) AS told, count(DISTINCT key) AS keys, string_agg(DISTINCT source, ' ') AS sources FROM seen GROUP BY content_id ORDER BY content_id;
SELECT count(DISTINCT key) AS keys FROM seen;
SELECT slotkeeper.detach_table('post') ->> 'outcome' AS outcome;
SELECT slotkeeper.drop_queue('adopt', 'x', true) ->> 'outcome' AS outcome;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA adopt CASCADE;
DELETE FROM slotkeeper.publication;
DELETE FROM slotkeeper.booking;
DELETE FROM slotkeeper.attempt;
DELETE FROM slotkeeper.published;
DELETE FROM slotkeeper.adopted;
DELETE FROM slotkeeper.dropped_queue;
DELETE FROM slotkeeper.platform;
