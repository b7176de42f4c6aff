-- The same id in another spelling is the same content, whether its row is there already or comes later.
\set ON_ERROR_STOP 0
SET client_min_messages = warning;
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
CREATE SCHEMA spelling;
SET search_path = spelling, public;
CREATE TABLE video (id uuid PRIMARY KEY, at timestamptz, state text DEFAULT 'draft');
SELECT slotkeeper.create_queue('spelling', 'x', 'UTC', '{"daily": ["09:00", "10:00"]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.attach_table('video', '{"content_id": "id", "profile_id": {"value": "spelling"}, "platform": {"value": "x"}, "at": "at",
    "occupies": "state = ''on''", "states": {"scheduled": {"state": "on"}, "unscheduled": {"state": "draft"}}}') ->> 'outcome' AS outcome;
CREATE FUNCTION pg_temp.said(reply jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws(' ', reply ->> 'outcome', reply ->> 'content_id', left(reply ->> 'scheduled_at', 16))
$$;

-- A row that is there.
INSERT INTO video (id) VALUES ('aaaaaaaa-0000-4000-8000-00000000000a');
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('spelling', 'x', 'AAAAAAAA-0000-4000-8000-00000000000A'));
SELECT pg_temp.said(slotkeeper.schedule_content('spelling', 'x', '{AAAAAAAA-0000-4000-8000-00000000000A}', '2026-01-16 10:00Z'));
SELECT pg_temp.said(slotkeeper.reschedule_content('aaaaaaaa00004000800000000000000A', '2026-01-17 10:00Z'));
SELECT pg_temp.said(slotkeeper.reschedule_content('AAAAAAAA-0000-4000-8000-00000000000A', '2026-01-18 10:00Z', p_source => 'spelling.video'));
SELECT id, at AT TIME ZONE 'UTC' AS at FROM video;
SELECT pg_temp.said(slotkeeper.claim_content('AAAAAAAA-0000-4000-8000-00000000000A', 'worker'));
SELECT pg_temp.said(slotkeeper.unschedule_content('AAAAAAAA-0000-4000-8000-00000000000A'));

-- A row that comes later adopts what was booked for it.
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('spelling', 'x', 'BBBBBBBB-0000-4000-8000-00000000000B'));
SELECT pg_temp.said(item) FROM jsonb_array_elements(slotkeeper.assign_slots('[
    {"profile_id": "spelling", "platform": "x", "content_id": "CCCCCCCC-0000-4000-8000-00000000000C"},
    {"profile_id": "spelling", "platform": "x", "content_id": "cccccccc-0000-4000-8000-00000000000c"},
    {"profile_id": "spelling", "platform": "x", "content_id": "DDDDDDDD-0000-4000-8000-00000000000D", "source": "spelling.video"}]') -> 'results') AS item;
SELECT pg_temp.said(slotkeeper.reschedule_content('Bbbbbbbb-0000-4000-8000-00000000000B', '2026-01-20 10:00Z'));
INSERT INTO video SELECT content_id::uuid, scheduled_at, 'on' FROM slotkeeper.booking WHERE source = '' AND released_at IS NULL AND content_id ~ '^[bcd]{8}-';
SELECT source, content_id, scheduled_at AT TIME ZONE 'UTC' AS at FROM slotkeeper.booking WHERE content_id ILIKE '________-0000-4000-8000-00000000000_' AND released_at IS NULL ORDER BY 2;

-- What is no uuid is no row of this table: a value, not an error, and it stays as it was given.
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('spelling', 'x', id, p_dry_run => true))
FROM unnest(ARRAY['Video-7', 'aaaaaaaa{0000-4000-8000-00000000000a', '{aaaaaaaa-0000-4000-8000-00000000000a', 'aaaaaaaa-0000-4000-8000-00000000000a-', 'aaa-aaaaa-0000-4000-8000-00000000000a']) AS id;
-- Numbers, and a table of text ids beside: what both could mean stays as it was given.
CREATE TABLE post (id int PRIMARY KEY, at timestamptz);
SELECT slotkeeper.attach_table('post', '{"content_id": "id", "profile_id": {"value": "spelling"}, "platform": {"value": "x"}, "at": "at"}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('spelling', 'x', '007', p_dry_run => true));
CREATE TABLE note (id text PRIMARY KEY, at timestamptz);
SELECT slotkeeper.attach_table('note', '{"content_id": "id", "profile_id": {"value": "spelling"}, "platform": {"value": "x"}, "at": "at"}') ->> 'outcome' AS outcome;
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('spelling', 'x', '007', p_dry_run => true));
SELECT pg_temp.said(slotkeeper.assign_next_available_slot('spelling', 'x', '007', p_dry_run => true, p_source => 'spelling.post'));

-- Options that could only fail later are refused when they are given.
SELECT slotkeeper.attach_table('post', '{"content_id": "id", "profile_id": {"value": "spelling"}, "platform": {"value": "x"}, "at": "at", "group": "nosuch"}');
SELECT slotkeeper.attach_table('post', '{"content_id": "id", "profile_id": {"value": "spelling"}, "platform": {"value": "x"}, "at": "at", "queue_defaults": {"time_zone": "UTC+7"}}');

DROP SCHEMA spelling CASCADE;
SELECT slotkeeper.drop_queue('spelling', 'x', true) ->> 'outcome' AS outcome;
