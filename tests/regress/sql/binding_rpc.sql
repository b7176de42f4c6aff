-- Calls on bound rows: time, state and slot go into the row in the same transaction, with the rights of the caller.
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS rpc CASCADE;
DROP ROLE IF EXISTS regress_sk_alice, regress_sk_bob, regress_sk_reader, regress_sk_service;
RESET client_min_messages;
\set VERBOSITY terse
\a
SET TimeZone = 'America/St_Johns';
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
CREATE ROLE regress_sk_alice;
CREATE ROLE regress_sk_bob;
CREATE ROLE regress_sk_reader;
CREATE ROLE regress_sk_service BYPASSRLS;
CREATE SCHEMA rpc;
SET search_path = rpc, public;
CREATE FUNCTION pg_temp.try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    reply text; state text; message text; detail text;
BEGIN
    EXECUTE command INTO reply;
    RETURN coalesce((reply::jsonb) ->> 'outcome', 'ok');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
    RETURN concat_ws(E'\n', state || ': ' || message, 'DETAIL: ' || nullif(detail, ''));
END
$$;
CREATE FUNCTION pg_temp.utc(at timestamptz) RETURNS text LANGUAGE sql AS $$ SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') $$;
CREATE FUNCTION pg_temp.said(r jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r ->> 'outcome', r ->> 'content_id', r ->> 'scheduled_at', 'slot ' || (r ->> 'slot_ref'), 'met ' || (r ->> 'conflicts_with'))
$$;
CREATE FUNCTION pg_temp.batch(r jsonb) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT r ->> 'outcome' UNION ALL SELECT pg_temp.said(e) FROM jsonb_array_elements(r -> 'results') AS e
$$;
-- Item A2: the Supabase-like table.
CREATE TYPE status AS ENUM ('draft', 'ready', 'assigned', 'success');
CREATE TABLE contents (id uuid PRIMARY KEY, profile_id uuid NOT NULL, platform text NOT NULL, scheduled_slot_id uuid, scheduled_at timestamptz, status status NOT NULL DEFAULT 'ready', user_id text, removed_at timestamptz);
SELECT slotkeeper.create_queue('aaaaaaaa-0000-4000-8000-000000000001', 'tiktok', 'WIB',
    '{"daily": [{"time": "06:00", "ref": "bbbbbbbb-0000-4000-8000-000000000006"}, {"time": "18:00", "ref": "bbbbbbbb-0000-4000-8000-000000000018"}]}') ->> 'outcome' AS queue;
SELECT slotkeeper.attach_table('contents', '{"content_id": "id", "profile_id": "profile_id", "platform": "platform", "user_id": "user_id", "at": "scheduled_at", "occupies": "status IN (''assigned'', ''success'')",
    "exempt": {"removed": "removed_at IS NOT NULL"}, "published_when": "status = ''success''",
    "states": {"scheduled": {"status": "assigned", "scheduled_slot_id": "$slot_ref"}, "unscheduled": {"status": "ready", "scheduled_at": null, "scheduled_slot_id": null}}}') ->> 'outcome' AS attached;
CREATE FUNCTION pg_temp.id(n int) RETURNS uuid LANGUAGE sql AS $$ SELECT ('c0ffee00-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
CREATE FUNCTION pg_temp.rows() RETURNS TABLE (id int, at text, slot text, status status) LANGUAGE sql AS $$ SELECT right(id::text, 3)::int, pg_temp.utc(scheduled_at), right(scheduled_slot_id::text, 2), status FROM rpc.contents ORDER BY 1 $$;
CREATE FUNCTION pg_temp.differ() RETURNS TABLE (content_id text, row_at text, booked_at text) LANGUAGE sql AS $$
    SELECT coalesce(c.id::text, b.content_id), pg_temp.utc(c.scheduled_at), pg_temp.utc(b.scheduled_at)
    FROM (SELECT * FROM rpc.contents WHERE status IN ('assigned', 'success') AND removed_at IS NULL) AS c
    FULL JOIN (SELECT * FROM slotkeeper.booking WHERE source = 'rpc.contents' AND released_at IS NULL) AS b ON (b.content_id, b.scheduled_at) = (c.id::text, c.scheduled_at)
    WHERE c.id IS NULL OR b.content_id IS NULL ORDER BY 1
$$;
\set profile '\'aaaaaaaa-0000-4000-8000-000000000001\''
INSERT INTO contents (id, profile_id, platform, user_id, status) SELECT pg_temp.id(n), :profile, 'tiktok', CASE WHEN n % 2 = 0 THEN 'alice' ELSE 'bob' END, CASE WHEN n = 9 THEN 'draft' ELSE 'ready' END::status FROM generate_series(1, 9) AS n;

-- Assign: the row gets slot, time and state; again is the same.
SELECT pg_temp.said(slotkeeper.assign_next_available_slot(p_profile_id => :profile, p_platform => 'tiktok', p_content_id => pg_temp.id(1)::text, p_user_id => 'bob'));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot(:profile::uuid, 'TikTok', pg_temp.id(2)));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot(:profile, 'tiktok', upper(pg_temp.id(1)::text)));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot(:profile, 'tiktok', pg_temp.id(3)::text, p_dry_run => true));
-- Schedule, reschedule, unschedule.
SELECT pg_temp.said(slotkeeper.schedule_content(:profile, 'tiktok', pg_temp.id(3)::text, '2026-01-15T23:00:00Z'));
SELECT pg_temp.said(slotkeeper.reschedule_content(pg_temp.id(1)::text, '2026-02-01T10:00:00Z'));
SELECT pg_temp.said(slotkeeper.reschedule_content(pg_temp.id(3)::text, '2026-02-01T10:00:00Z'));
SELECT pg_temp.said(slotkeeper.reschedule_content(pg_temp.id(3)::text, '2026-02-01T10:00:00Z', 'reject'));
SELECT pg_temp.said(slotkeeper.unschedule_content(pg_temp.id(2)::text));
SELECT pg_temp.said(slotkeeper.unschedule_content(pg_temp.id(2)::text));
SELECT * FROM pg_temp.rows();
SELECT * FROM pg_temp.differ();
-- Undone with the caller's transaction.
BEGIN;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot(:profile, 'tiktok', pg_temp.id(4)::text));
ROLLBACK;
SELECT * FROM pg_temp.differ();
-- A write into the table and a call in one transaction, both ways round.
BEGIN;
UPDATE contents SET scheduled_at = '2026-02-05T11:00:00Z', status = 'assigned' WHERE id = pg_temp.id(4);
SELECT pg_temp.said(slotkeeper.reschedule_content(pg_temp.id(4)::text, '2026-02-06T11:00:00Z'));
UPDATE contents SET scheduled_at = '2026-02-07T11:00:00Z' WHERE id = pg_temp.id(4) RETURNING pg_temp.utc(scheduled_at);
SELECT pg_temp.said(slotkeeper.assign_next_available_slot(:profile, 'tiktok', pg_temp.id(4)::text));
COMMIT;
SELECT * FROM pg_temp.differ();

-- The row says which queue. What is exempt cannot be booked, and nothing is left of the attempt.
SELECT slotkeeper.create_queue('elsewhere', 'tiktok', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS queue;
SELECT pg_temp.try(format('SELECT slotkeeper.assign_next_available_slot(%L, %L, %L)', 'elsewhere', 'tiktok', pg_temp.id(5)));
UPDATE contents SET removed_at = now() WHERE id = pg_temp.id(5);
SELECT pg_temp.try(format('SELECT slotkeeper.assign_next_available_slot(%L, %L, %L)', :profile, 'tiktok', pg_temp.id(5)));
UPDATE contents SET removed_at = NULL WHERE id = pg_temp.id(5);
SELECT * FROM pg_temp.differ();

-- Batches: rows are written by one statement; several items may be about one row.
SELECT pg_temp.batch(slotkeeper.assign_slots(jsonb_build_array(
    jsonb_build_object('profile_id', :profile, 'platform', 'tiktok', 'content_id', pg_temp.id(6)),
    jsonb_build_object('profile_id', :profile, 'platform', 'tiktok', 'content_id', upper(pg_temp.id(6)::text)),
    jsonb_build_object('profile_id', :profile, 'platform', 'tiktok', 'content_id', pg_temp.id(1)),
    jsonb_build_object('profile_id', 'elsewhere', 'platform', 'tiktok', 'content_id', 'of no table'),
    jsonb_build_object('profile_id', :profile, 'platform', 'tiktok', 'content_id', pg_temp.id(7), 'source', 'rpc.contents'))));
SELECT * FROM pg_temp.rows() WHERE id IN (6, 7);
SELECT pg_temp.try(format('SELECT slotkeeper.assign_slots(%L)', jsonb_build_array(jsonb_build_object('profile_id', 'elsewhere', 'platform', 'tiktok', 'content_id', pg_temp.id(8)))));
UPDATE contents SET removed_at = now() WHERE id = pg_temp.id(8);
SELECT pg_temp.try(format('SELECT slotkeeper.assign_slots(%L)', jsonb_build_array(jsonb_build_object('profile_id', :profile, 'platform', 'tiktok', 'content_id', pg_temp.id(8)))));
UPDATE contents SET removed_at = NULL WHERE id = pg_temp.id(8);
-- An error of the application's own is an error, not another attempt.
CREATE UNIQUE INDEX one_slot ON contents (profile_id, scheduled_slot_id) WHERE platform = 'unique';
UPDATE contents SET platform = 'unique', scheduled_slot_id = 'bbbbbbbb-0000-4000-8000-000000000009' WHERE id = pg_temp.id(5);
UPDATE contents SET platform = 'unique' WHERE id = pg_temp.id(8);
SELECT slotkeeper.create_queue(:profile, 'unique', 'UTC', '{"daily": [{"time": "09:00", "ref": "bbbbbbbb-0000-4000-8000-000000000009"}]}') ->> 'outcome' AS queue;
SELECT pg_temp.try(format('SELECT slotkeeper.assign_slots(%L)', jsonb_build_array(jsonb_build_object('profile_id', :profile, 'platform', 'unique', 'content_id', pg_temp.id(8)))));
DROP INDEX one_slot;
UPDATE contents SET platform = 'tiktok', scheduled_slot_id = NULL WHERE platform = 'unique';
SELECT * FROM pg_temp.differ();

-- Booked before the row is there, by a role that row-level security doesn't bind; the row adopts the booking.
SELECT pg_temp.said(slotkeeper.schedule_content(:profile, 'tiktok', pg_temp.id(20 + n)::text, '2026-03-01T10:00:00Z'::timestamptz + n * interval '1 hour')) FROM generate_series(1, 6) AS n;
SELECT string_agg(DISTINCT source, ',') AS source, count(*) FROM slotkeeper.booking WHERE released_at IS NULL AND content_id LIKE 'c0ffee00-0000-4000-8000-00000000002%';
INSERT INTO contents (id, profile_id, platform, status, scheduled_at) VALUES (pg_temp.id(21), :profile, 'tiktok', 'assigned', '2026-03-01T11:00:00Z'), (pg_temp.id(22), :profile, 'tiktok', 'assigned', '2026-03-09T11:00:00Z'),
    (pg_temp.id(23), :profile, 'tiktok', 'assigned', NULL), (pg_temp.id(24), :profile, 'tiktok', 'ready', NULL), (pg_temp.id(25), :profile, 'tiktok', 'ready', NULL);
SELECT pg_temp.said(slotkeeper.assign_next_available_slot(:profile, 'tiktok', pg_temp.id(23)::text));
SELECT pg_temp.batch(slotkeeper.assign_slots(jsonb_build_array(jsonb_build_object('profile_id', :profile, 'platform', 'tiktok', 'content_id', pg_temp.id(24)))));
SELECT pg_temp.said(slotkeeper.schedule_content(:profile, 'tiktok', pg_temp.id(25)::text, '2026-04-01T00:00:00Z'));
SELECT * FROM pg_temp.rows() WHERE id > 20;
SELECT * FROM pg_temp.differ();
SELECT right(content_id, 3) AS still_of_no_table FROM slotkeeper.booking WHERE released_at IS NULL AND source = '' AND content_id LIKE 'c0ffee%';
DELETE FROM contents WHERE id > pg_temp.id(20);

-- Whose row it is: grants and row-level security decide.
ALTER TABLE contents ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON contents USING (user_id = current_setting('rpc.who', true));
GRANT USAGE ON SCHEMA rpc TO regress_sk_alice, regress_sk_bob, regress_sk_reader, regress_sk_service;
GRANT SELECT, UPDATE, INSERT ON contents TO regress_sk_alice, regress_sk_service;
GRANT SELECT ON contents TO regress_sk_reader;
SELECT slotkeeper.grant_access(role, 'user') ->> 'outcome' AS outcome FROM unnest(ARRAY['regress_sk_alice', 'regress_sk_bob', 'regress_sk_reader', 'regress_sk_service']) AS role;
UPDATE contents SET status = 'ready', scheduled_at = NULL;
SET rpc.who = 'alice';
SET ROLE regress_sk_alice;
SELECT pg_temp.try(format('SELECT slotkeeper.assign_next_available_slot(%L, %L, %L)', :profile, 'tiktok', pg_temp.id(n))) FROM generate_series(1, 2) AS n;
SELECT pg_temp.try(format('SELECT slotkeeper.schedule_content(%L, %L, %L, %L)', :profile, 'tiktok', pg_temp.id(1), '2026-05-05'));
SELECT pg_temp.try(format('SELECT slotkeeper.assign_next_available_slot(%L, %L, %L, p_source => %L)', :profile, 'tiktok', pg_temp.id(1), 'rpc.contents'));
SELECT pg_temp.try(format('SELECT slotkeeper.assign_next_available_slot(%L, %L, %L, p_dry_run => true)', :profile, 'tiktok', pg_temp.id(1)));
SELECT pg_temp.try(format('SELECT slotkeeper.assign_next_available_slot(%L, %L, %L)', :profile, 'tiktok', 'not there yet'));
SELECT pg_temp.batch(slotkeeper.assign_slots(jsonb_build_array(
    jsonb_build_object('profile_id', :profile, 'platform', 'tiktok', 'content_id', pg_temp.id(1)), jsonb_build_object('profile_id', :profile, 'platform', 'tiktok', 'content_id', pg_temp.id(4))), 'best_effort'));
SELECT pg_temp.batch(slotkeeper.assign_slots(jsonb_build_array(
    jsonb_build_object('profile_id', :profile, 'platform', 'tiktok', 'content_id', pg_temp.id(1)), jsonb_build_object('profile_id', :profile, 'platform', 'tiktok', 'content_id', pg_temp.id(6)))));
RESET ROLE;
SET rpc.who = 'bob';
SET ROLE regress_sk_alice;
SELECT pg_temp.try(format('SELECT slotkeeper.reschedule_content(%L, %L)', pg_temp.id(2), '2026-05-06'));
SELECT pg_temp.try(format('SELECT slotkeeper.unschedule_content(%L)', pg_temp.id(2)));
SELECT pg_temp.said(slotkeeper.schedule_content(:profile, 'tiktok', pg_temp.id(1)::text, '2026-01-15T23:00:00Z'));
-- A preview counts what it may not name.
SELECT slot_at, taken, content_ids FROM slotkeeper.preview_slots(:profile, 'tiktok', p_count => 3) WHERE taken > 0;
RESET ROLE;
SELECT slot_at, taken, content_ids FROM slotkeeper.preview_slots(:profile, 'tiktok', p_count => 3) WHERE taken > 0;
-- Without UPDATE, with SELECT only, and around row-level security.
SET ROLE regress_sk_bob;
SELECT pg_temp.try(format('SELECT slotkeeper.assign_next_available_slot(%L, %L, %L)', :profile, 'tiktok', pg_temp.id(3)));
SELECT pg_temp.try(format('SELECT slotkeeper.unschedule_content(%L)', pg_temp.id(2)));
RESET ROLE;
SET ROLE regress_sk_reader;
SELECT pg_temp.try(format('SELECT slotkeeper.assign_next_available_slot(%L, %L, %L)', :profile, 'tiktok', pg_temp.id(3)));
RESET ROLE;
SET ROLE regress_sk_service;
SELECT pg_temp.try(format('SELECT slotkeeper.assign_next_available_slot(%L, %L, %L)', :profile, 'tiktok', pg_temp.id(3)));
RESET ROLE;
-- The same where another table is bound too, which the caller may write.
CREATE TABLE other (id uuid PRIMARY KEY, at timestamptz);
GRANT SELECT, UPDATE ON other TO regress_sk_bob;
SELECT slotkeeper.attach_table('other', '{"content_id": "id", "profile_id": {"value": "elsewhere"}, "platform": {"value": "tiktok"}, "at": "at"}') ->> 'outcome' AS outcome;
SET ROLE regress_sk_bob;
SELECT pg_temp.try(format('SELECT slotkeeper.assign_next_available_slot(%L, %L, %L)', :profile, 'tiktok', pg_temp.id(7)));
SELECT pg_temp.try(format('SELECT slotkeeper.assign_slots(%L)', jsonb_build_array(jsonb_build_object('profile_id', :profile, 'platform', 'tiktok', 'content_id', pg_temp.id(7)))));
SELECT pg_temp.try(format('SELECT slotkeeper.assign_next_available_slot(%L, %L, %L)', 'elsewhere', 'tiktok', 'of no table at all'));
RESET ROLE;
DROP TABLE other;
SELECT * FROM pg_temp.differ();

-- A policy that lets a row be seen and locked, but not written as the state wants it.
CREATE POLICY not_assigned ON contents AS RESTRICTIVE FOR UPDATE USING (true) WITH CHECK (status <> 'assigned');
SET rpc.who = 'alice';
SET ROLE regress_sk_alice;
SELECT pg_temp.try(format('SELECT slotkeeper.assign_next_available_slot(%L, %L, %L)', :profile, 'tiktok', pg_temp.id(6)));
RESET ROLE;
DROP POLICY not_assigned ON contents;
SELECT * FROM pg_temp.differ();

-- Two tables with the same ids stay apart.
CREATE TABLE tweet (id bigint PRIMARY KEY, at timestamptz, state text DEFAULT 'on');
CREATE TABLE reel (id smallint PRIMARY KEY, at timestamptz, state text DEFAULT 'on');
SELECT slotkeeper.attach_table(t, jsonb_build_object('content_id', 'id', 'profile_id', jsonb_build_object('value', 'elsewhere'), 'platform', jsonb_build_object('value', 'tiktok'), 'at', 'at', 'occupies', $$state = 'on'$$)) ->> 'outcome' AS outcome
FROM unnest(ARRAY['tweet', 'reel']::regclass[]) AS t;
INSERT INTO tweet (id) VALUES (1), (2);
INSERT INTO reel (id) VALUES (1), (3);
SELECT pg_temp.try($c$SELECT slotkeeper.assign_next_available_slot('elsewhere', 'tiktok', '1')$c$);
SELECT pg_temp.try($c$SELECT slotkeeper.assign_slots('[{"profile_id": "elsewhere", "platform": "tiktok", "content_id": 1}]')$c$);
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('elsewhere', 'tiktok', '1', p_source => source)) FROM unnest(ARRAY['rpc.tweet', 'rpc.reel']) AS source;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('elsewhere', 'tiktok', '3'));
SELECT pg_temp.batch(slotkeeper.assign_slots('[{"profile_id": "elsewhere", "platform": "tiktok", "content_id": 2}, {"profile_id": "elsewhere", "platform": "tiktok", "content_id": "99999999999999999999"}]'));
SELECT pg_temp.try($c$SELECT slotkeeper.unschedule_content('1')$c$);
SELECT pg_temp.try($c$SELECT slotkeeper.unschedule_content('1', p_source => 'rpc.reel')$c$);
DELETE FROM reel WHERE id = 1;
SELECT b.source, b.content_id, pg_temp.utc(b.scheduled_at) FROM slotkeeper.booking AS b WHERE source IN ('rpc.tweet', 'rpc.reel') AND released_at IS NULL ORDER BY 1, 2;
SELECT 'tweet' AS t, id, pg_temp.utc(at) FROM tweet UNION ALL SELECT 'reel', id, pg_temp.utc(at) FROM reel ORDER BY 1, 2;
DROP TABLE tweet, reel;

-- A trigger of the application's gives the row another time than was written: the reply says which.
CREATE TABLE late (id int PRIMARY KEY, at timestamptz);
CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.at IS DISTINCT FROM old.at THEN new.at := new.at + interval '1 hour'; END IF; RETURN new; END $$;
CREATE TRIGGER later BEFORE UPDATE ON late FOR EACH ROW EXECUTE FUNCTION later();
INSERT INTO late SELECT generate_series(1, 5);
SELECT slotkeeper.create_queue('elsewhere', 'late', 'UTC', '{"every": "1 hour"}') ->> 'outcome' AS queue;
SELECT slotkeeper.attach_table('late', '{"content_id": "id", "profile_id": {"value": "elsewhere"}, "platform": {"value": "late"}, "at": "at", "states": {"unscheduled": {"at": null}}}') ->> 'outcome' AS attached;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('elsewhere', 'late', '1', p_not_before => '2026-02-01 09:00Z'));
SELECT pg_temp.said(slotkeeper.schedule_content('elsewhere', 'late', '2', '2026-02-02 09:00Z'));
SELECT pg_temp.said(slotkeeper.reschedule_content('2', '2026-02-02 15:00Z'));
SELECT pg_temp.batch(slotkeeper.assign_slots('[{"profile_id": "elsewhere", "platform": "late", "content_id": 3, "not_before": "2026-02-03T09:00:00Z"}, {"profile_id": "elsewhere", "platform": "late", "content_id": 4, "not_before": "2026-02-04T09:00:00Z"}]'));
SELECT b.content_id, pg_temp.utc(b.scheduled_at) AS booked, pg_temp.utc(late.at) AS row FROM slotkeeper.booking AS b JOIN late ON late.id::text = b.content_id WHERE source = 'rpc.late' AND released_at IS NULL ORDER BY 1;
DROP TABLE late;

SET client_min_messages = warning;
DROP SCHEMA rpc CASCADE;
SELECT slotkeeper.drop_queue(profile_id, platform, true) ->> 'outcome' AS outcome FROM slotkeeper.queue WHERE profile_id IN (:profile, 'elsewhere') ORDER BY profile_id, platform;
REVOKE ALL ON SCHEMA slotkeeper FROM regress_sk_alice, regress_sk_bob, regress_sk_reader, regress_sk_service;
REVOKE ALL ON ALL TABLES IN SCHEMA slotkeeper FROM regress_sk_alice, regress_sk_bob, regress_sk_reader, regress_sk_service;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA slotkeeper FROM regress_sk_alice, regress_sk_bob, regress_sk_reader, regress_sk_service;
DROP ROLE regress_sk_alice, regress_sk_bob, regress_sk_reader, regress_sk_service;
