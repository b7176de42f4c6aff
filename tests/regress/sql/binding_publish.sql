-- Publishing and the application's own rows: what is written into them, and what a row may still do.
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS bp CASCADE;
DROP ROLE IF EXISTS regress_sk_worker, regress_sk_reader, regress_sk_limited;
RESET client_min_messages;
\set VERBOSITY terse
\a
SET slotkeeper.now = '2026-01-15T00:00:00+00:00';
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
CREATE ROLE regress_sk_worker;
CREATE ROLE regress_sk_reader;
CREATE ROLE regress_sk_limited;
CREATE SCHEMA bp;
GRANT USAGE ON SCHEMA bp TO PUBLIC;
SET search_path = bp, pg_catalog;
CREATE TABLE contents (id uuid PRIMARY KEY, profile_id text, platform text, scheduled_slot_id text, scheduled_at timestamptz, status text DEFAULT 'pending', last_error text, url text, retry_count int, next_retry_at timestamptz, removed_at timestamptz, published_at timestamptz);
CREATE TABLE tok (n int, token text);
GRANT ALL ON tok TO PUBLIC;
CREATE FUNCTION id(n int) RETURNS uuid LANGUAGE sql AS $$ SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid $$;
CREATE FUNCTION said(r jsonb) RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', r ->> 'outcome', r ->> 'state', r ->> 'reason', 'attempt ' || (r ->> 'attempt'), 'next ' || left(r ->> 'next_attempt_at', 19), CASE WHEN (r ->> 'late')::boolean THEN 'late' END, r ->> 'mode') $$;
CREATE FUNCTION due() RETURNS text LANGUAGE sql AS $$ WITH c AS (SELECT * FROM slotkeeper.claim_due_content('w', 10)), t AS (INSERT INTO bp.tok SELECT right(content_id, 3)::int, lease_token FROM c) SELECT coalesce(string_agg(right(content_id, 3)::int || ' ' || mode || ' attempt ' || attempt, ', '), 'nothing') FROM c $$;
CREATE FUNCTION t(want int) RETURNS text LANGUAGE sql AS $$ SELECT token FROM bp.tok WHERE n = want ORDER BY ctid DESC LIMIT 1 $$;
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE command; RETURN 'ok'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ': ' || SQLERRM; END $$;
CREATE VIEW line AS SELECT right(id::text, 3)::int AS n, status, scheduled_at, retry_count, next_retry_at, last_error, url FROM contents;
CREATE VIEW ledger AS SELECT right(content_id, 3)::int AS n, state, scheduled_at, attempt FROM slotkeeper.content_status WHERE source = 'bp.contents';
SELECT slotkeeper.create_queue('bp', 'instagram', 'WIB', '{"daily": [{"time": "02:00", "ref": "s2"}]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.create_queue('bp', 'x', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.set_platform('instagram', '{"max_attempts": 4, "delays": ["30 seconds", "60 seconds", "120 seconds"], "jitter": 0, "retry_statuses": [504], "async_after_timeouts": 2}') ->> 'outcome' AS outcome;
SELECT slotkeeper.set_platform('x', '{"max_attempts": 3, "delays": ["30 seconds"], "jitter": 0}') ->> 'outcome' AS outcome;
\set options '{"content_id": "id", "profile_id": "profile_id", "platform": "platform", "at": "scheduled_at", "occupies": "status = ''assigned''", "exempt": {"removed": "removed_at IS NOT NULL"}, "published_when": "status = ''uploaded''", "states": {"scheduled": {"status": "assigned", "scheduled_slot_id": "$slot_ref"}, "unscheduled": {"status": "pending", "scheduled_at": null}, "publishing": {"status": "uploading", "retry_count": "$attempt"}, "retrying": {"status": "retry", "retry_count": "$attempt", "next_retry_at": "$next_attempt_at", "last_error": "$error"}, "failed": {"status": "failed", "next_retry_at": null, "last_error": "$error"}, "unknown": {"status": "unknown", "last_error": "$error"}, "published": {"status": "uploaded", "url": "$url", "published_at": "$now"}}}'
SELECT slotkeeper.attach_table('contents', :'options') ->> 'outcome' AS outcome;
INSERT INTO contents (id, profile_id, platform) SELECT id(n), 'bp', 'instagram' FROM generate_series(1, 9) AS n;

-- A5: Instagram answers 504 again and again.
SELECT slotkeeper.assign_next_available_slot('bp', 'instagram', id(1)::text) ->> 'scheduled_at' AS at;
SET slotkeeper.now = '2026-01-15T19:00:00+00:00';
SELECT due();
SELECT said(slotkeeper.begin_publish(t(1)));
SELECT * FROM line WHERE n = 1;
SELECT said(slotkeeper.fail_publish(t(1), 'gateway timeout', 504));
SELECT * FROM line WHERE n = 1;
SET slotkeeper.now = '2026-01-15T19:00:29+00:00';
SELECT due();
SET slotkeeper.now = '2026-01-15T19:00:30+00:00';
SELECT due();
SELECT said(slotkeeper.begin_publish(t(1)));
SELECT said(slotkeeper.fail_publish(t(1), 'gateway timeout', 504));
SELECT * FROM line WHERE n = 1;
SET slotkeeper.now = '2026-01-15T19:01:30+00:00';
SELECT due();
SELECT said(slotkeeper.begin_publish(t(1)));
SELECT said(slotkeeper.fail_publish(t(1), 'gateway timeout', 504));
SELECT * FROM line WHERE n = 1;
SET slotkeeper.now = '2026-01-15T19:03:30+00:00';
SELECT due();
SELECT said(slotkeeper.begin_publish(t(1)));
SELECT said(slotkeeper.fail_publish(t(1), 'gateway timeout', 504));
SELECT * FROM line WHERE n = 1;
SELECT * FROM ledger;
-- It keeps its seat, also when the table is reconciled, and a person revives it.
SELECT slotkeeper.reconcile_table('contents');
SELECT said(slotkeeper.retry_content(id(1)::text));
SELECT * FROM line WHERE n = 1;
SELECT due();
SELECT said(slotkeeper.begin_publish(t(1)));
SELECT said(slotkeeper.confirm_publish(t(1), 'p1', 'https://example.com/1'));
SELECT * FROM line WHERE n = 1;
-- A6: what has succeeded is never handed out again, whatever its row says, and the row is closed.
SELECT slotkeeper.reconcile_table('contents');
UPDATE contents SET status = 'assigned' WHERE id = id(1);
SELECT due();
SELECT said(slotkeeper.claim_content(id(1)::text, 'w'));
SELECT * FROM line WHERE n = 1;
SELECT slotkeeper.detach_table('contents') ->> 'outcome' AS outcome;
SELECT * FROM ledger WHERE n = 1;
UPDATE contents SET status = 'assigned', url = NULL WHERE id = id(1);
SELECT slotkeeper.attach_table('contents', :'options') ->> 'outcome' AS outcome;
SELECT due();
SELECT * FROM line WHERE n = 1;
SELECT try($$UPDATE contents SET scheduled_at = '2026-02-01' WHERE id = id(1)$$);

-- Unscheduled, deleted, removed, moved while claimed.
SET slotkeeper.now = '2026-01-16T00:00:00+00:00';
SELECT slotkeeper.assign_next_available_slot('bp', 'instagram', id(n)::text) ->> 'scheduled_at' AS at FROM generate_series(2, 5) AS n;
SET slotkeeper.now = '2026-01-20T00:00:00+00:00';
SELECT due();
SELECT said(slotkeeper.unschedule_content(id(2)::text));
DELETE FROM contents WHERE id = id(3);
UPDATE contents SET removed_at = now() WHERE id = id(4);
UPDATE contents SET scheduled_at = '2026-01-21T19:00:00Z' WHERE id = id(5);
SELECT n, said(slotkeeper.begin_publish(t(n))) FROM generate_series(2, 5) AS n;
SELECT * FROM line WHERE n BETWEEN 2 AND 5 ORDER BY n;
SELECT * FROM ledger ORDER BY n;
-- The same while it is being published: only the time is refused.
SET slotkeeper.now = '2026-01-25T00:00:00+00:00';
INSERT INTO contents (id, profile_id, platform) SELECT id(n), 'bp', 'x' FROM generate_series(10, 17) AS n;
SELECT slotkeeper.assign_next_available_slot('bp', 'x', id(n)::text) ->> 'scheduled_at' AS at FROM generate_series(10, 15) AS n;
SET slotkeeper.now = '2026-02-05T00:00:00+00:00';
SELECT due();
SELECT n, said(slotkeeper.begin_publish(t(n))) FROM generate_series(10, 14) AS n;
SELECT said(slotkeeper.unschedule_content(id(10)::text));
SELECT try($$UPDATE contents SET scheduled_at = '2026-02-20T09:00Z' WHERE id = id(10)$$);
SELECT try($$UPDATE contents SET scheduled_at = NULL WHERE id = id(10)$$);
DELETE FROM contents WHERE id IN (id(11), id(12));
UPDATE contents SET removed_at = now() WHERE id IN (id(13), id(14));
SELECT said(slotkeeper.confirm_publish(t(11), 'p11'));
SELECT said(slotkeeper.fail_publish(t(12), 'too many', 429));
SELECT said(slotkeeper.confirm_publish(t(13), 'p13'));
SELECT said(slotkeeper.fail_publish(t(14), 'too many', 429));
SELECT said(slotkeeper.fail_publish(t(10), 'too many', 429));
SELECT * FROM ledger WHERE n BETWEEN 10 AND 14 ORDER BY n;
SELECT * FROM line WHERE n BETWEEN 10 AND 14 ORDER BY n;
-- A content that waits for its next attempt goes where its row is dragged, and gives up its seat without a time.
UPDATE contents SET scheduled_at = '2026-02-20T09:00Z' WHERE id = id(10);
SELECT * FROM ledger WHERE n = 10;
SELECT said(slotkeeper.claim_content(id(10)::text, 'w'));
UPDATE contents SET removed_at = NULL WHERE id = id(13);
SELECT try($$UPDATE contents SET scheduled_at = '2026-02-20T09:00Z' WHERE id = id(13)$$);
SELECT said(slotkeeper.claim_content(id(13)::text, 'w'));

-- The application's own worker has published it: whatever attempt is under way is over.
UPDATE contents SET status = 'uploaded', url = 'https://example.com/own' WHERE id = id(15);
SELECT said(slotkeeper.begin_publish(t(15)));
SELECT said(slotkeeper.claim_content(id(15)::text, 'w'));
SELECT try($$UPDATE contents SET scheduled_at = '2026-02-20T09:00Z' WHERE id = id(15)$$);
SELECT * FROM ledger WHERE n = 15;

-- An attempt that nobody told of: unknown, and a person finds out.
SELECT slotkeeper.assign_next_available_slot('bp', 'x', id(n)::text) ->> 'scheduled_at' AS at FROM generate_series(16, 17) AS n;
SET slotkeeper.now = '2026-02-10T00:00:00+00:00';
SELECT due();
SELECT n, said(slotkeeper.begin_publish(t(n))) FROM generate_series(16, 17) AS n;
DELETE FROM contents WHERE id = id(17);
SET slotkeeper.now = '2026-02-10T01:00:00+00:00';
SELECT due();
SELECT * FROM line WHERE n = 16;
SELECT * FROM ledger WHERE n IN (16, 17) ORDER BY n;
SELECT said(slotkeeper.resolve_unknown(id(16)::text, false));
SELECT said(slotkeeper.resolve_unknown(id(17)::text, false));
SELECT * FROM line WHERE n = 16;
SELECT * FROM ledger WHERE n IN (16, 17) ORDER BY n;
SELECT said(slotkeeper.confirm_publish(t(16), 'p16', 'https://example.com/16'));
SELECT * FROM line WHERE n = 16;

-- Rights: whoever may not update the row hands nothing out for it, and is told.
SELECT slotkeeper.grant_access(role, 'worker') ->> 'outcome' AS outcome FROM unnest(ARRAY['regress_sk_worker', 'regress_sk_reader', 'regress_sk_limited']) AS role;
GRANT SELECT, UPDATE ON contents TO regress_sk_worker, regress_sk_limited;
GRANT SELECT ON contents TO regress_sk_reader;
GRANT USAGE ON SCHEMA bp TO regress_sk_worker, regress_sk_limited, regress_sk_reader;
INSERT INTO contents (id, profile_id, platform) SELECT id(n), 'bp', 'x' FROM generate_series(20, 23) AS n;
SELECT slotkeeper.assign_next_available_slot('bp', 'x', id(n)::text) ->> 'scheduled_at' AS at FROM generate_series(20, 23) AS n;
ALTER TABLE contents ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON contents TO regress_sk_worker, regress_sk_reader USING (true);
CREATE POLICY some_rows ON contents TO regress_sk_limited USING (id = id(22)) WITH CHECK (true);
SELECT slotkeeper.schedule_content('bp', 'x', 'unbound', '2026-02-12T09:00:00Z', p_on_conflict => 'next_free') ->> 'outcome' AS outcome;
SET slotkeeper.now = '2026-03-01T00:00:00+00:00';
SET ROLE regress_sk_reader;
SELECT content_id FROM slotkeeper.claim_due_content('w', 10);
SELECT try($$SELECT slotkeeper.claim_content('00000000-0000-0000-0000-000000000020', 'w')$$);
SET ROLE regress_sk_limited;
SELECT due();
SELECT said(slotkeeper.claim_content(id(20)::text, 'w'));
SELECT said(slotkeeper.begin_publish(t(22)));
RESET ROLE;
ALTER POLICY some_rows ON contents USING (false);
SET ROLE regress_sk_limited;
-- The policy hides the row now; what came of it is true all the same.
SELECT said(slotkeeper.confirm_publish(t(22), 'p22'));
RESET ROLE;
SET ROLE regress_sk_worker;
SELECT due();
SELECT n, said(slotkeeper.begin_publish(t(n))) FROM unnest(ARRAY[20, 21]) AS n;
SELECT said(slotkeeper.confirm_publish(t(20), 'p20'));
RESET ROLE;
REVOKE UPDATE ON contents FROM regress_sk_worker;
SET ROLE regress_sk_worker;
SELECT said(slotkeeper.confirm_publish(t(21), 'p21'));
RESET ROLE;
SELECT * FROM line WHERE n BETWEEN 20 AND 23 ORDER BY n;
SELECT * FROM ledger WHERE n BETWEEN 20 AND 23 ORDER BY n;
-- A binding that is broken hands nothing out, and keeps no one from telling what came of an attempt.
SELECT said(slotkeeper.begin_publish(t(23)));
ALTER TABLE contents RENAME COLUMN retry_count TO tries;
SELECT said(slotkeeper.confirm_publish(t(23), 'p23'));
SELECT slotkeeper.detach_table('contents') ->> 'outcome' AS outcome;

DELETE FROM slotkeeper.platform WHERE platform IN ('x', 'instagram');
SELECT slotkeeper.drop_queue('bp', platform, true) ->> 'outcome' AS outcome FROM unnest(ARRAY['instagram', 'x']) AS platform;
RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA bp CASCADE;
DROP OWNED BY regress_sk_worker, regress_sk_reader, regress_sk_limited;
DROP ROLE regress_sk_worker, regress_sk_reader, regress_sk_limited;
