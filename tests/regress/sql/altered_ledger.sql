-- A superuser may add to the ledger what slotkeeper doesn't know: indexes and constraints. They hold for the next
-- call of a session that has booked before, single and in batches.
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
SELECT slotkeeper.create_queue('altered', 'tiktok', 'UTC', '{"daily": ["08:00", "12:00", "16:00", "20:00"]}') ->> 'outcome';
CREATE FUNCTION pg_temp.book(VARIADIC ids text[]) RETURNS text LANGUAGE sql AS $$
    SELECT slotkeeper.assign_slots(jsonb_agg(jsonb_build_object(
        'profile_id', 'altered', 'platform', 'tiktok', 'content_id', id))) ->> 'outcome'
    FROM unnest(ids) AS id
$$;
CREATE FUNCTION pg_temp.found(condition text) RETURNS SETOF text LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    RETURN QUERY EXECUTE 'SELECT content_id FROM slotkeeper.booking WHERE ' || condition || ' ORDER BY content_id';
END
$$;
SELECT slotkeeper.assign_next_available_slot('altered', 'tiktok', 'a1') ->> 'outcome', pg_temp.book('a2', 'a3');

-- Indexes: on an expression, of another kind, partial in another way, and one more of the plain ones.
CREATE INDEX altered_expression ON slotkeeper.booking (upper(content_id));
CREATE INDEX altered_hash ON slotkeeper.booking USING hash (user_id);
CREATE INDEX altered_partial ON slotkeeper.booking (content_id) WHERE seat = 0 AND released_at IS NULL;
SELECT slotkeeper.assign_next_available_slot('altered', 'tiktok', 'b1', 'ann') ->> 'outcome', pg_temp.book('b2', 'b3');
SELECT pg_temp.found($$upper(content_id) = 'B1'$$), pg_temp.found($$upper(content_id) = 'B3'$$), pg_temp.found($$user_id = 'ann'$$);
DROP INDEX slotkeeper.altered_expression, slotkeeper.altered_hash, slotkeeper.altered_partial;
CREATE INDEX altered_plain ON slotkeeper.booking (booked_at, user_id) WHERE user_id IS NOT NULL;
SELECT slotkeeper.assign_next_available_slot('altered', 'tiktok', 'c1', 'cid') ->> 'outcome', pg_temp.book('c2', 'c3');
SELECT pg_temp.found($$booked_at = '2026-01-15T12:00:00+00:00' AND user_id IN ('ann', 'cid')$$);
DROP INDEX slotkeeper.altered_plain;

-- A constraint.
\set VERBOSITY terse
ALTER TABLE slotkeeper.booking ADD CONSTRAINT altered_check CHECK (content_id <> 'd2');
SELECT slotkeeper.assign_next_available_slot('altered', 'tiktok', 'd1') ->> 'outcome';
SELECT slotkeeper.assign_next_available_slot('altered', 'tiktok', 'd2') ->> 'outcome';
SELECT pg_temp.book('d1', 'd2', 'd3');
ALTER TABLE slotkeeper.booking DROP CONSTRAINT altered_check;

SELECT content_id, seat, to_char(scheduled_at AT TIME ZONE 'UTC', 'MM-DD HH24:MI') FROM slotkeeper.booking AS b
JOIN slotkeeper.queue AS q USING (queue_id) WHERE q.profile_id = 'altered' ORDER BY scheduled_at, content_id;
DELETE FROM slotkeeper.booking WHERE queue_id = (SELECT queue_id FROM slotkeeper.queue WHERE profile_id = 'altered');
SELECT slotkeeper.drop_queue('altered', 'tiktok') ->> 'outcome';

-- A sequence that is behind (replicated tables bring none) makes an error of its own, and no false reply.
SELECT slotkeeper.create_queue('altered', 'first', 'UTC', '{}') ->> 'outcome';
SELECT setval('slotkeeper.queue_id_seq', queue_id, false) = queue_id AS behind FROM slotkeeper.queue WHERE profile_id = 'altered';
SELECT slotkeeper.create_queue('altered', 'second', 'UTC', '{}') ->> 'outcome';
SELECT slotkeeper.create_queue('altered', 'second', 'UTC', '{}') ->> 'outcome';
SELECT platform, slotkeeper.drop_queue('altered', platform) ->> 'outcome' FROM slotkeeper.queue WHERE profile_id = 'altered' ORDER BY platform;

-- Emptied with its sequences, or restored: ids and versions begin anew, and what backends remember of queues is not theirs.
BEGIN;
TRUNCATE slotkeeper.queue, slotkeeper.booking, slotkeeper.full_run, slotkeeper.hole RESTART IDENTITY;
SELECT slotkeeper.create_queue('altered', 'x', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome';
SELECT r ->> 'booking_id', r ->> 'scheduled_at' FROM slotkeeper.assign_next_available_slot('altered', 'x', 'one') AS r;
TRUNCATE slotkeeper.queue, slotkeeper.booking, slotkeeper.full_run, slotkeeper.hole RESTART IDENTITY;
SELECT slotkeeper.create_queue('altered', 'x', 'UTC', '{"daily": ["11:00"]}') ->> 'outcome';
SELECT r ->> 'booking_id', r ->> 'scheduled_at' FROM slotkeeper.assign_next_available_slot('altered', 'x', 'one') AS r;
ROLLBACK;
