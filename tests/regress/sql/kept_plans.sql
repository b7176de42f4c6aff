-- Plans are kept for the life of a backend. One that was made while the ledger was small still uses its indexes later.
\set VERBOSITY terse
SET client_min_messages = warning;
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
SELECT slotkeeper.create_queue('kept', 'q', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome;
CREATE TABLE kept_small (id text PRIMARY KEY, at timestamptz);
CREATE TABLE kept_large (LIKE kept_small INCLUDING ALL);
INSERT INTO kept_small SELECT 's' || n, '2026-02-01 00:00Z'::timestamptz + n * interval '1 minute' FROM generate_series(1, 3) AS n;
INSERT INTO kept_large SELECT 'l' || n, '2026-03-01 00:00Z'::timestamptz + n * interval '1 minute' FROM generate_series(1, 5000) AS n;
\set options '{"content_id": "id", "profile_id": {"value": "kept"}, "platform": {"value": "q"}, "at": "at"}'
SELECT slotkeeper.assign_next_available_slot('kept', 'q', 'first') ->> 'outcome' AS outcome;
ANALYZE slotkeeper.booking, slotkeeper.queue;
SELECT r ->> 'booked' AS booked FROM slotkeeper.attach_table('kept_small', :'options') AS r;
SELECT pg_stat_force_next_flush();
SELECT seq_tup_read AS before FROM pg_stat_user_tables WHERE relid = 'slotkeeper.booking'::regclass \gset
BEGIN;
SELECT r ->> 'booked' AS booked FROM slotkeeper.attach_table('kept_large', :'options') AS r;
SELECT slotkeeper.reschedule_content('l' || n, '2026-04-01 00:00Z'::timestamptz + n * interval '1 minute') ->> 'outcome' AS outcome, count(*) FROM generate_series(1, 100) AS n GROUP BY 1;
ROLLBACK;
SELECT pg_stat_force_next_flush();
-- A few walks over everything are part of attaching; one for each row would be millions of rows.
SELECT seq_tup_read - :before < 50000 AS by_index FROM pg_stat_user_tables WHERE relid = 'slotkeeper.booking'::regclass;
DROP TABLE kept_small, kept_large;
SELECT slotkeeper.drop_queue('kept', 'q', true) ->> 'outcome' AS outcome;
