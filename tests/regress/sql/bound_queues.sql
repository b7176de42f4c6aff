-- attach_queues: queues that follow a table of the application.
SET TimeZone = 'Africa/Monrovia';
SET DateStyle = 'ISO, YMD';
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
SET client_min_messages = warning;
\a
CREATE FUNCTION pg_temp.said(r jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', r ->> 'outcome', r ->> 'content_id', r ->> 'scheduled_at', 'ref ' || (r ->> 'slot_ref'),
                     'moved from ' || (r ->> 'requested_at'))
$$;
CREATE FUNCTION pg_temp.fault(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                            detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', state || ': ' || message, 'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END
$$;
CREATE FUNCTION pg_temp.versions() RETURNS TABLE (queue text, version bigint) LANGUAGE sql AS
    'SELECT profile_id || '' '' || platform, version FROM slotkeeper.queue WHERE profile_id ~ ''^bq-'' OR profile_id ~ ''^0000''';
CREATE VIEW bq_queues AS
SELECT profile_id, platform, time_zone, timetable, status, status_reason AS reason FROM slotkeeper.queue
WHERE profile_id ~ '^bq-' OR profile_id ~ '^0000' ORDER BY profile_id COLLATE "C", platform COLLATE "C";
CREATE SCHEMA bq;

-- Postiz: an integration is a queue, its times minutes of the UTC day in a JSON text.
CREATE TABLE bq."Integration" (
    id text PRIMARY KEY, name text, "providerIdentifier" text NOT NULL, "postingTimes" text NOT NULL DEFAULT '[{"time":120},{"time":400},{"time":700}]',
    disabled boolean NOT NULL DEFAULT false, "refreshNeeded" boolean NOT NULL DEFAULT false, "deletedAt" timestamp(3)
);
INSERT INTO bq."Integration" (id, name, "providerIdentifier", disabled) VALUES ('bq-x', 'X', 'x', false), ('bq-li', 'LinkedIn', 'LinkedIn', true);
SELECT slotkeeper.attach_queues('bq."Integration"', '{
    "profile_id": "id", "platform": "providerIdentifier", "timetable": "postingTimes",
    "status": {"disabled": "disabled OR \"deletedAt\" IS NOT NULL", "needs_refresh": "\"refreshNeeded\""}}') AS reply;
SELECT * FROM bq_queues;
SELECT source, kind, status, reason FROM slotkeeper.binding_health WHERE source ~ '^bq';
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'bq."Integration"'::regclass ORDER BY tgname COLLATE "C";

-- Its posts name the integration only: the platform is the bound queue's.
CREATE TABLE bq."Post" (
    id text PRIMARY KEY, "integrationId" text NOT NULL, "publishDate" timestamp(3) NOT NULL, state text NOT NULL DEFAULT 'QUEUE',
    "deletedAt" timestamp(3), "parentPostId" text
);
SELECT slotkeeper.attach_table('bq."Post"', '{
    "content_id": "id", "profile_id": "integrationId", "at": "publishDate", "at_zone": "UTC", "occupies": "state = ''QUEUE''",
    "exempt": {"deleted": "\"deletedAt\" IS NOT NULL", "child": "\"parentPostId\" IS NOT NULL"}}') ->> 'outcome' AS outcome;
INSERT INTO bq."Post" (id, "integrationId", "publishDate") VALUES ('p1', 'bq-x', '2026-01-16 02:00'), ('p2', 'bq-x', '2026-01-16 02:00');
SELECT id, "publishDate" FROM bq."Post" ORDER BY id;
-- An edit takes effect with the next call, also in the same transaction, and with it alone.
UPDATE bq."Integration" SET "postingTimes" = '[{"time":560},{"time":850}]' WHERE id = 'bq-x';
INSERT INTO bq."Post" (id, "integrationId", "publishDate") VALUES ('p3', 'bq-x', '2026-01-16 02:00') RETURNING "publishDate";
BEGIN;
UPDATE bq."Integration" SET "postingTimes" = '[{"time":60}]' WHERE id = 'bq-x';
INSERT INTO bq."Post" (id, "integrationId", "publishDate") VALUES ('p4', 'bq-x', '2026-01-16 02:00') RETURNING "publishDate";
ROLLBACK;
INSERT INTO bq."Post" (id, "integrationId", "publishDate") VALUES ('p4', 'bq-x', '2026-01-16 02:00') RETURNING "publishDate";
SELECT timetable FROM bq_queues WHERE profile_id = 'bq-x';

-- Status follows: the first predicate that holds, in the order disabled, needs_refresh, paused.
UPDATE bq."Integration" SET "refreshNeeded" = true;
SELECT profile_id, status, reason FROM bq_queues;
UPDATE bq."Integration" SET disabled = false;
SELECT profile_id, status, reason FROM bq_queues;
UPDATE bq."Integration" SET "refreshNeeded" = false;
SELECT profile_id, status, reason FROM bq_queues;
-- One set by hand stays until the table says another.
SELECT slotkeeper.set_queue_status('bq-x', 'x', 'paused', 'incident') ->> 'status' AS status;
UPDATE bq."Integration" SET "postingTimes" = '[{"time":600}]' WHERE id = 'bq-x';
SELECT profile_id, timetable, status, reason FROM bq_queues;
UPDATE bq."Integration" SET "deletedAt" = '2026-01-15' WHERE id = 'bq-x';
UPDATE bq."Integration" SET "deletedAt" = NULL WHERE id = 'bq-x';
SELECT profile_id, timetable, status, reason FROM bq_queues;

-- What doesn't matter writes nothing, and equal rules are no new version.
CREATE TEMP TABLE before AS SELECT v.*, (SELECT sum(edits) FROM slotkeeper.bound_queue) AS edits FROM pg_temp.versions() AS v;
UPDATE bq."Integration" SET name = 'renamed', "postingTimes" = "postingTimes";
SELECT count(*) AS versions_changed FROM before JOIN pg_temp.versions() AS v USING (queue) WHERE before.version <> v.version;
SELECT (SELECT sum(edits) FROM slotkeeper.bound_queue) = max(edits) AS nothing_written FROM before;
UPDATE bq."Integration" SET "postingTimes" = '[ {"time": 600} ]' WHERE id = 'bq-x';
UPDATE bq."Integration" SET disabled = true WHERE id = 'bq-x';
UPDATE bq."Integration" SET disabled = false WHERE id = 'bq-x';
SELECT count(*) AS versions_changed FROM before JOIN pg_temp.versions() AS v USING (queue) WHERE before.version <> v.version;

-- Nothing of a refused edit is done, and it says where it was wrong.
SELECT pg_temp.fault($$UPDATE bq."Integration" SET "postingTimes" = '[{"time":560},{"time":"late"}]' WHERE id = 'bq-x'$$);
SELECT pg_temp.fault($$UPDATE bq."Integration" SET "postingTimes" = '[{' WHERE id = 'bq-x'$$);
SELECT pg_temp.fault($$UPDATE bq."Integration" SET "postingTimes" = '{"mon-fry": ["09:00"]}'$$);
SELECT pg_temp.fault($$INSERT INTO bq."Integration" VALUES ('bq-y', 'Y', 'y', '7')$$);
SELECT pg_temp.fault($$INSERT INTO bq."Integration" (id, "providerIdentifier") VALUES (repeat('y', 256), 'y')$$);
SELECT pg_temp.fault($$INSERT INTO bq."Integration" (id, "providerIdentifier") VALUES ('', 'y')$$);
SELECT profile_id, timetable FROM bq_queues;
-- No times at all, NULL or an empty list: free-form.
UPDATE bq."Integration" SET "postingTimes" = '[]' WHERE id = 'bq-li';
SELECT profile_id, timetable, status FROM bq_queues;

-- Another platform is another queue: the one left behind keeps its bookings, disabled; posts go with the row.
UPDATE bq."Integration" SET "providerIdentifier" = 'threads' WHERE id = 'bq-x';
SELECT profile_id, platform, timetable, status, reason FROM bq_queues;
INSERT INTO bq."Post" (id, "integrationId", "publishDate") VALUES ('p5', 'bq-x', '2026-01-16 02:00') RETURNING "publishDate";
SELECT platform, count(*) AS bookings FROM slotkeeper.booking JOIN slotkeeper.queue USING (queue_id)
WHERE profile_id = 'bq-x' AND released_at IS NULL GROUP BY platform ORDER BY platform;
-- A row that goes: its queue stays, disabled.
DELETE FROM bq."Integration" WHERE id = 'bq-li';
SELECT profile_id, platform, timetable, status, reason FROM bq_queues;
INSERT INTO bq."Integration" VALUES ('bq-li', 'again', 'linkedin', '{"daily": ["09:00"]}');
SELECT profile_id, platform, timetable, status, reason FROM bq_queues WHERE profile_id = 'bq-li';
-- A queue dropped by hand comes back with the next edit.
SELECT slotkeeper.drop_queue('bq-li', 'linkedin') ->> 'outcome' AS outcome;
UPDATE bq."Integration" SET disabled = true WHERE id = 'bq-li';
SELECT profile_id, platform, timetable, status FROM bq_queues WHERE profile_id = 'bq-li';

-- Many rows in one statement: swapped, upserted, merged, copied, undone.
UPDATE bq."Integration" SET "providerIdentifier" = 'linkedin' WHERE id = 'bq-x';
CREATE TABLE bq.swap (id int PRIMARY KEY, profile text, platform text, zone text, times json);
SELECT slotkeeper.attach_queues('bq.swap', '{"profile_id": "profile", "platform": "platform", "time_zone": "zone", "timetable": "times"}');
INSERT INTO bq.swap VALUES (1, 'bq-s', 'one', 'WIB', '{"daily": ["01:00"]}'), (2, 'bq-s', 'two', NULL, NULL);
SELECT * FROM bq_queues WHERE profile_id = 'bq-s';
UPDATE bq.swap SET platform = CASE platform WHEN 'one' THEN 'two' ELSE 'one' END;
SELECT * FROM bq_queues WHERE profile_id = 'bq-s';
SELECT pg_temp.fault($$INSERT INTO bq.swap VALUES (3, 'bq-s', 'ONE')$$);
SELECT pg_temp.fault($$INSERT INTO bq.swap VALUES (3, 'bq-x', 'linkedin')$$);
SELECT pg_temp.fault($$UPDATE bq.swap SET zone = 'UTC+7' WHERE id = 1$$);
SELECT pg_temp.fault($$UPDATE bq.swap SET zone = 'Asia/Jakata' WHERE id = 1$$);
INSERT INTO bq.swap VALUES (1, 'bq-s', 'one') ON CONFLICT DO NOTHING;
INSERT INTO bq.swap VALUES (1, 'bq-s', 'one') ON CONFLICT (id) DO UPDATE SET times = '{"daily": ["02:00"]}';
MERGE INTO bq.swap USING (VALUES (2, 'two'), (4, 'four')) AS new (id, p) ON swap.id = new.id
WHEN MATCHED THEN UPDATE SET zone = 'Europe/Berlin' WHEN NOT MATCHED THEN INSERT VALUES (new.id, 'bq-s', new.p);
COPY bq.swap FROM stdin;
5	bq-s	five	UTC	{"mon": ["05:00"]}
6	\N	nobody	UTC	\N
\.
SELECT profile_id, platform, time_zone, timetable, status FROM bq_queues WHERE profile_id = 'bq-s';
DO $$
BEGIN
    UPDATE bq.swap SET times = '{"daily": ["03:00"]}';
    RAISE EXCEPTION 'undo';
EXCEPTION WHEN raise_exception THEN
    DELETE FROM bq.swap WHERE id = 5;
END
$$;
-- A statement inside another, undone alone, leaves the outer one's queues to be settled.
CREATE FUNCTION bq.inner_edit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE bq.swap SET zone = 'Asia/Tokyo' WHERE id = 4;
    RAISE EXCEPTION 'undo';
EXCEPTION WHEN raise_exception THEN
    RETURN NULL;
END
$$;
CREATE TRIGGER "~~last" AFTER UPDATE ON bq.swap FOR EACH ROW WHEN (new.id = 1 AND old.zone IS DISTINCT FROM new.zone) EXECUTE FUNCTION bq.inner_edit();
UPDATE bq.swap SET zone = 'WITA' WHERE id IN (1, 2);
SELECT profile_id, platform, time_zone, timetable, status FROM bq_queues WHERE profile_id = 'bq-s';
DROP TRIGGER "~~last" ON bq.swap;
TRUNCATE bq.swap;
SELECT profile_id, platform, time_zone, timetable, status, reason FROM bq_queues WHERE profile_id = 'bq-s';

-- One row a slot: hours and minutes in WIB, the row's id is the ref.
CREATE TABLE bq.slots (
    id uuid PRIMARY KEY, profile_id uuid NOT NULL, platform text NOT NULL, hour int, minute int, is_active boolean NOT NULL DEFAULT true
);
CREATE TABLE bq.contents (
    id uuid PRIMARY KEY, profile_id uuid NOT NULL, platform text NOT NULL, scheduled_slot_id uuid REFERENCES bq.slots ON DELETE SET NULL,
    scheduled_at timestamptz, status text NOT NULL DEFAULT 'ready', user_id uuid
);
INSERT INTO bq.slots SELECT ('11111111-0000-0000-0000-0000000000' || lpad(h::text, 2, '0'))::uuid, '00000000-0000-0000-0000-000000000001', 'tiktok', h, 0 FROM unnest(ARRAY[6, 12]) AS h;
SELECT slotkeeper.attach_queues('bq.slots', '{
    "profile_id": "profile_id", "platform": "platform", "time_zone": {"value": "WIB"},
    "timetable": {"hour": "hour", "minute": "minute", "ref": "id"}, "status": {"disabled": "NOT is_active"}}') AS reply;
SELECT slotkeeper.attach_table('bq.contents', '{
    "content_id": "id", "profile_id": "profile_id", "platform": "platform", "user_id": "user_id", "at": "scheduled_at",
    "occupies": "status = ''scheduled''", "states": {"scheduled": {"status": "scheduled", "scheduled_slot_id": "$slot_ref", "scheduled_at": "$scheduled_at"}}}') ->> 'outcome' AS outcome;
INSERT INTO bq.contents (id, profile_id, platform) SELECT ('22222222-0000-0000-0000-00000000000' || n)::uuid, '00000000-0000-0000-0000-000000000001', 'tiktok' FROM generate_series(1, 6) AS n;
SELECT * FROM bq_queues WHERE profile_id ~ '^0000';
CREATE FUNCTION pg_temp.assign(n int) RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.said(slotkeeper.assign_next_available_slot('00000000-0000-0000-0000-000000000001'::uuid, 'tiktok', ('22222222-0000-0000-0000-00000000000' || n)::uuid, NULL::uuid))
$$;
SELECT pg_temp.assign(n) FROM generate_series(1, 2) AS n;
SELECT right(id::text, 1) AS content, right(scheduled_slot_id::text, 2) AS slot, scheduled_at, status FROM bq.contents WHERE status = 'scheduled' ORDER BY id;
INSERT INTO bq.slots VALUES ('11111111-0000-0000-0000-000000000009', '00000000-0000-0000-0000-000000000001', 'TikTok', 9, 30);
SELECT pg_temp.assign(3);
UPDATE bq.slots SET is_active = false WHERE hour = 12;
SELECT pg_temp.assign(4);
-- One statement, one new version, however many of its rows are edited.
CREATE TEMP TABLE was AS SELECT edits FROM slotkeeper.bound_queue WHERE profile_id ~ '^0000';
UPDATE bq.slots SET hour = hour + 1;
SELECT q.edits - t.edits AS edits FROM slotkeeper.bound_queue AS q, was AS t WHERE profile_id ~ '^0000';
SELECT timetable, status FROM bq_queues WHERE profile_id ~ '^0000';
-- Where none is active, the queue has their status and keeps their times.
UPDATE bq.slots SET is_active = false;
SELECT timetable, status, reason FROM bq_queues WHERE profile_id ~ '^0000';
-- The last slot goes: the queue keeps its bookings, and has no timetable.
DELETE FROM bq.slots;
SELECT timetable, status, reason FROM bq_queues WHERE profile_id ~ '^0000';
SELECT count(*) AS bookings FROM slotkeeper.booking WHERE source = 'bq.contents' AND released_at IS NULL;
SELECT pg_temp.fault($$INSERT INTO bq.slots VALUES ('11111111-0000-0000-0000-000000000024', '00000000-0000-0000-0000-000000000001', 'tiktok', 24, 0)$$);
SELECT pg_temp.fault($$INSERT INTO bq.slots VALUES ('11111111-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000001', 'tiktok', 1, -5)$$);
INSERT INTO bq.slots VALUES (gen_random_uuid(), '00000000-0000-0000-0000-000000000002', 'tiktok', NULL, 0);
SELECT right(profile_id, 1) AS profile, timetable, status FROM bq_queues WHERE profile_id ~ '^0000';
-- Two rows for one time are one slot; it stays while one of them does.
INSERT INTO bq.slots VALUES ('11111111-0000-0000-0000-0000000000aa', '00000000-0000-0000-0000-000000000001', 'tiktok', 5, 0),
    ('11111111-0000-0000-0000-0000000000ab', '00000000-0000-0000-0000-000000000001', 'tiktok', 5, NULL);
SELECT timetable, status FROM bq_queues WHERE profile_id ~ '^0000.*1$';
DELETE FROM bq.slots WHERE id = '11111111-0000-0000-0000-0000000000aa';
SELECT timetable, status FROM bq_queues WHERE profile_id ~ '^0000.*1$';

-- Times, days, capacities; partitions; many queues.
CREATE TABLE bq.parts (profile text, platform text, at time, days text, seats int, zone text NOT NULL DEFAULT 'UTC') PARTITION BY LIST (platform);
CREATE TABLE bq.parts_a PARTITION OF bq.parts FOR VALUES IN ('a');
CREATE TABLE bq.parts_b PARTITION OF bq.parts DEFAULT;
SELECT slotkeeper.attach_queues('bq.parts', '{"profile_id": "profile", "platform": "platform", "time_zone": "zone", "timetable": {"time": "at", "days": "days", "capacity": "seats"}}') ->> 'outcome' AS outcome;
INSERT INTO bq.parts VALUES ('bq-p', 'a', '09:00', 'mon-fri', 2), ('bq-p', 'a', '10:00', '6', 1), ('bq-p', 'b', '11:00', '{0,6}', NULL);
INSERT INTO bq.parts_a VALUES ('bq-p', 'a', '08:00', NULL, NULL);
SELECT platform, timetable FROM bq_queues WHERE profile_id = 'bq-p';
UPDATE bq.parts SET platform = 'c' WHERE at = '10:00';
SELECT platform, timetable FROM bq_queues WHERE profile_id = 'bq-p';
SELECT pg_temp.fault($$INSERT INTO bq.parts VALUES ('bq-p', 'a', '09:00:30')$$);
SELECT pg_temp.fault($$INSERT INTO bq.parts VALUES ('bq-p', 'a', '09:00', 'someday')$$);
SELECT pg_temp.fault($$INSERT INTO bq.parts VALUES ('bq-p', 'a', '07:00', NULL, 0)$$);
SELECT pg_temp.fault($$UPDATE bq.parts SET zone = 'WIB' WHERE at = '09:00'$$);
SELECT slotkeeper.alter_queue('bq-p', 'a', p_options => '{"granule": "15 minutes"}') ->> 'outcome' AS outcome;
SELECT pg_temp.fault($$INSERT INTO bq.parts VALUES ('bq-p', 'a', '09:05', 'mon', 1)$$);

-- A replicated change is followed, never refused; binding_health says what was not.
SET session_replication_role = replica;
INSERT INTO bq.parts VALUES ('bq-p', 'd', '12:00', 'mon', 1, 'UTC');
SET client_min_messages = notice;
INSERT INTO bq.parts VALUES ('bq-p', 'd', '13:00:30', 'mon', 1, 'UTC');
INSERT INTO bq.parts VALUES ('bq-p', 'd', '14:00', 'mon', 1, 'WIB');
SET client_min_messages = warning;
RESET session_replication_role;
SELECT platform, timetable FROM bq_queues WHERE profile_id = 'bq-p' AND platform = 'd';
SELECT source, status, reason, remedy FROM slotkeeper.binding_health WHERE source = 'bq.parts';
DELETE FROM bq.parts WHERE at > '12:00';
SELECT slotkeeper.reconcile_table('bq.parts') AS reply;
SELECT source, status, reason FROM slotkeeper.binding_health WHERE source ~ '^bq' ORDER BY source COLLATE "C";

-- Whoever writes the table needs no right on slotkeeper's, and gets none: the predicate runs as the writer.
CREATE ROLE regress_bq_owner;
CREATE ROLE regress_bq_writer;
GRANT USAGE, CREATE ON SCHEMA bq TO regress_bq_owner;
GRANT USAGE ON SCHEMA bq TO regress_bq_writer;
SELECT slotkeeper.grant_access('regress_bq_owner', 'admin') ->> 'outcome' AS outcome;
SET ROLE regress_bq_owner;
CREATE TABLE bq.mine (id text PRIMARY KEY, tenant text, off boolean, hour int, seen_as text);
CREATE FUNCTION bq.who(off boolean) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF current_user !~ '^regress_bq' THEN RAISE EXCEPTION 'evaluated as %', current_user; END IF;
    RETURN off;
END
$$;
SELECT pg_temp.fault($$SELECT slotkeeper.attach_queues('bq.swap', '{"profile_id": "id", "platform": "platform"}')$$);
SELECT slotkeeper.attach_queues('bq.mine', '{"profile_id": "tenant", "platform": {"value": "feed"}, "timetable": {"hour": "hour", "ref": "id"}, "status": {"paused": "bq.who(off)"}}') ->> 'outcome' AS outcome;
INSERT INTO bq.mine VALUES ('h6', 'bq-t', false, 6), ('h7', 'bq-t', false, 7);
GRANT SELECT, INSERT, UPDATE, DELETE ON bq.mine TO regress_bq_writer;
ALTER TABLE bq.mine ENABLE ROW LEVEL SECURITY;
CREATE POLICY one ON bq.mine TO regress_bq_writer USING (id <> 'h6');
SET ROLE regress_bq_writer;
-- He doesn't see one of the two rows; the queue still has both.
SELECT count(*) AS seen FROM bq.mine;
UPDATE bq.mine SET hour = 8 WHERE id = 'h7';
INSERT INTO bq.mine VALUES ('h9', 'bq-t', true, 9);
SELECT pg_temp.fault('SELECT * FROM slotkeeper.bound_queue_row');
SELECT pg_temp.fault('SELECT slotkeeper.follow_queue()');
RESET ROLE;
SELECT timetable, status FROM bq_queues WHERE profile_id = 'bq-t';
SET ROLE regress_bq_owner;
ALTER TABLE bq.mine FORCE ROW LEVEL SECURITY;
SELECT pg_temp.fault($$SELECT slotkeeper.attach_queues('bq.mine', '{"profile_id": "tenant", "platform": {"value": "feed"}}')$$);
ALTER TABLE bq.mine NO FORCE ROW LEVEL SECURITY;
-- By hand on another table it refuses.
CREATE TABLE bq.other (LIKE bq.mine);
CREATE TRIGGER t AFTER INSERT ON bq.other FOR EACH ROW EXECUTE FUNCTION slotkeeper.follow_queue('bq.mine', 'plus', 'active');
SELECT pg_temp.fault($$INSERT INTO bq.other VALUES ('h1', 'bq-t', false, 1)$$);
DROP TABLE bq.other;

-- Renamed: the table is still followed, a column is missed.
ALTER TABLE bq.mine RENAME TO ours;
UPDATE bq.ours SET hour = 10 WHERE id = 'h9';
ALTER TABLE bq.ours RENAME hour TO "Hour";
SELECT pg_temp.fault($$UPDATE bq.ours SET "Hour" = 11 WHERE id = 'h9'$$);
RESET ROLE;
SELECT source, table_now, status, reason, remedy FROM slotkeeper.binding_health WHERE source = 'bq.mine';
BEGIN;
SET LOCAL session_replication_role = replica;
SET LOCAL ROLE regress_bq_owner;
SET LOCAL client_min_messages = notice;
UPDATE bq.ours SET "Hour" = 11 WHERE id = 'h9';
ROLLBACK;
SET ROLE regress_bq_owner;
SELECT slotkeeper.attach_queues('bq.ours', '{"profile_id": "tenant", "platform": {"value": "feed"}, "timetable": {"hour": "Hour", "ref": "id"}}') - 'updated' AS reply;
RESET ROLE;
SELECT timetable, status FROM bq_queues WHERE profile_id = 'bq-t';
-- Detached and dropped tables leave their queues as they are.
SELECT slotkeeper.detach_table('bq.ours') AS reply;
DELETE FROM bq.ours;
SELECT timetable, status FROM bq_queues WHERE profile_id = 'bq-t';
SELECT count(*) AS triggers FROM pg_trigger WHERE tgrelid = 'bq.ours'::regclass;
SELECT pg_temp.fault($$SELECT slotkeeper.detach_table('bq.ours')$$);
DROP TABLE bq.parts;
SELECT source, status FROM slotkeeper.binding_health WHERE source ~ '^bq' ORDER BY source COLLATE "C";
SELECT count(*) AS queues FROM bq_queues WHERE profile_id = 'bq-p';
CREATE TABLE bq.parts (profile text, platform text);
INSERT INTO bq.parts VALUES ('bq-p', 'a'), ('bq-p', 'z');
SELECT slotkeeper.attach_queues('bq.parts', '{"profile_id": "profile", "platform": "platform"}') AS reply;

-- A profile's id is changed, and ON UPDATE CASCADE gives it to its contents within the same statement.
CREATE TABLE bq.channel (id text PRIMARY KEY, provider text NOT NULL, times text NOT NULL);
CREATE TABLE bq.entry (id int PRIMARY KEY, channel_id text NOT NULL REFERENCES bq.channel ON UPDATE CASCADE ON DELETE CASCADE, at timestamptz);
SELECT slotkeeper.attach_queues('bq.channel', '{"profile_id": "id", "platform": "provider", "timetable": "times"}') ->> 'outcome' AS outcome;
SELECT slotkeeper.attach_table('bq.entry', '{"content_id": "id", "profile_id": "channel_id", "at": "at"}') ->> 'outcome' AS outcome;
INSERT INTO bq.channel VALUES ('bq-a', 'x', '[{"time": 540}]'), ('bq-b', 'x', '[{"time": 600}]');
INSERT INTO bq.entry VALUES (1, 'bq-a', '2099-01-01 09:00Z'), (2, 'bq-a', '2099-01-02 09:00Z'), (3, 'bq-b', '2099-01-01 09:00Z');
UPDATE bq.channel SET id = id || '-new';
SELECT content_id, profile_id, platform, scheduled_at AT TIME ZONE 'UTC' AS at FROM slotkeeper.content_status WHERE source = 'bq.entry' AND state = 'scheduled' ORDER BY content_id;
SELECT profile_id, status, timetable FROM bq_queues WHERE profile_id ~ '^bq-[ab](-|$)' ORDER BY profile_id;
-- With the platform in a column of its own; undone; and for one that stays away.
ALTER TABLE bq.entry ADD provider text NOT NULL DEFAULT 'x';
SELECT slotkeeper.attach_table('bq.entry', '{"content_id": "id", "profile_id": "channel_id", "platform": "provider", "at": "at"}') ->> 'already_booked' AS already_booked;
BEGIN;
SAVEPOINT s;
UPDATE bq.channel SET id = 'bq-c' WHERE id = 'bq-a-new';
ROLLBACK TO s;
SELECT pg_temp.fault($$UPDATE bq.entry SET channel_id = 'bq-c' WHERE id = 1$$);
UPDATE bq.channel SET id = 'bq-d' WHERE id = 'bq-a-new';
COMMIT;
SELECT content_id, profile_id FROM slotkeeper.content_status WHERE source = 'bq.entry' AND state = 'scheduled' ORDER BY content_id;

-- What can't be attached.
SELECT pg_temp.fault($$SELECT slotkeeper.attach_queues(NULL, '{"profile_id": "tenant", "platform": "x"}')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.attach_queues('bq.ours', NULL)$$);
SELECT pg_temp.fault($$SELECT slotkeeper.attach_queues('bq_queues', '{"profile_id": "profile_id", "platform": "platform"}')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.attach_queues('bq.ours', '{"profile_id": "tenant"}')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.attach_queues('bq.ours', '{"profile_id": "Tenant", "platform": {"value": "x"}}')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.attach_queues('bq.ours', '{"profile_id": "tenant", "platform": {"value": "x"}, "time_zone": {"value": "IST"}}')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.attach_queues('bq.ours', '{"profile_id": "tenant", "platform": {"value": "x"}, "timetable": {"value": {"mon": []}}}')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.attach_queues('bq.ours', '{"profile_id": "tenant", "platform": {"value": "x"}, "status": {"off": "true"}}')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.attach_queues('bq.ours', '{"profile_id": "tenant", "platform": {"value": "x"}, "status": {"paused": "true); DROP TABLE bq.ours; --"}}')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.attach_queues('bq.ours', '{"profile_id": "tenant", "platform": {"value": "x"}, "status": {"paused": "id IN (SELECT id FROM bq.ours)"}}')$$);
-- Rows that exist already are refused as new ones are, and nothing is attached.
INSERT INTO bq.ours VALUES ('bad', 'bq-u', false, 25);
SELECT pg_temp.fault($$SELECT slotkeeper.attach_queues('bq.ours', '{"profile_id": "tenant", "platform": {"value": "x"}, "timetable": {"hour": "Hour"}}')$$);
SELECT count(*) AS triggers FROM pg_trigger WHERE tgrelid = 'bq.ours'::regclass;
-- A hostile name is a name.
CREATE TABLE bq."x""; DROP TABLE bq.ours; --" ("pro file" text, "pl'at" text, "t$$" jsonb, "off?" boolean);
SELECT slotkeeper.attach_queues('bq."x""; DROP TABLE bq.ours; --"', '{"profile_id": "pro file", "platform": "pl''at", "timetable": "t$$", "status": {"paused": "\"off?\""}}') AS reply;
INSERT INTO bq."x""; DROP TABLE bq.ours; --" VALUES ('bq-h', 'q', '{"daily": ["09:00"]}', true);
SELECT * FROM bq_queues WHERE profile_id = 'bq-h';

DO $$ BEGIN PERFORM slotkeeper.detach_table(table_now) FROM slotkeeper.binding_health WHERE source ~ '^bq' AND status <> 'dropped'; END $$;
DROP SCHEMA bq CASCADE;
DROP VIEW bq_queues;
DO $$ BEGIN PERFORM slotkeeper.drop_queue(profile_id, platform, true) FROM slotkeeper.queue WHERE profile_id ~ '^(bq-|0000)'; END $$;
SELECT count(*) AS left_over FROM slotkeeper.bound_queue_row;
DROP OWNED BY regress_bq_owner, regress_bq_writer;
DROP ROLE regress_bq_owner, regress_bq_writer;
