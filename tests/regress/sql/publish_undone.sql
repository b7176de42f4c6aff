-- Publishing that is rolled back, and done again: the row that a call changes is the one that it has looked at, also
-- where dead versions of it, or of a neighbour, lie beside it in the index.
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
CREATE TEMP TABLE token (content_id text, token text);
CREATE FUNCTION pg_temp.t(content text) RETURNS text LANGUAGE sql AS $$ SELECT token FROM token WHERE content_id = content $$;
CREATE FUNCTION pg_temp.claim(content text, worker text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r jsonb := slotkeeper.claim_content(content, worker, '10 minutes');
BEGIN
    DELETE FROM token WHERE content_id = content;
    INSERT INTO token VALUES (content, r ->> 'lease_token');
    RETURN r ->> 'outcome';
END $$;
CREATE FUNCTION pg_temp.start(content text) RETURNS text LANGUAGE sql AS $$ SELECT slotkeeper.begin_publish(pg_temp.t(content)) ->> 'outcome' $$;
-- Texts that don't fit into a row uncompressed, and are looked at afterwards.
CREATE FUNCTION pg_temp.confirm(content text, url text DEFAULT repeat('https://x.example/', 300)) RETURNS text LANGUAGE sql AS $$
    SELECT slotkeeper.confirm_publish(pg_temp.t(content), 'id-' || content, url) ->> 'outcome' $$;
CREATE FUNCTION pg_temp.rows() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', content_id, b.claimed_at IS NOT NULL, p.state, p.attempts, p.worker)
    FROM slotkeeper.booking AS b LEFT JOIN slotkeeper.publication AS p USING (booking_id) ORDER BY content_id COLLATE "C"
$$;
CREATE FUNCTION pg_temp.closed() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', content_id, provider_id, length(url), md5(url) = md5(repeat('https://x.example/', 300)), worker)
    FROM slotkeeper.published ORDER BY content_id COLLATE "C"
$$;
SELECT slotkeeper.create_queue('undone', 'x', 'UTC', '{"daily": ["12:00", "13:00", "14:00"]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.assign_next_available_slot('undone', 'x', 'u' || n) ->> 'outcome' AS outcome FROM generate_series(1, 3) AS n;
SET slotkeeper.now = '2026-01-16T12:00:00+00:00';

-- A claim. Then a claim of all that is due.
BEGIN; SELECT pg_temp.claim('u1', 'w1'); ROLLBACK;
BEGIN; SELECT pg_temp.claim('u1', 'w2'); ROLLBACK;
BEGIN; SELECT string_agg(content_id, ' ') FROM slotkeeper.claim_due_content('w3', 10); ROLLBACK;
SELECT pg_temp.rows();
SELECT pg_temp.claim('u1', 'w4'), pg_temp.claim('u2', repeat('w', 200));
SELECT pg_temp.rows();

-- A begin, back to a savepoint, and in a block that catches.
BEGIN;
SAVEPOINT s;
SELECT pg_temp.start('u1');
ROLLBACK TO SAVEPOINT s;
SELECT pg_temp.rows();
SELECT pg_temp.start('u1');
ROLLBACK TO SAVEPOINT s;
SELECT pg_temp.start('u1');
RELEASE SAVEPOINT s;
COMMIT;
DO $$ BEGIN
    BEGIN
        PERFORM pg_temp.start('u2');
        RAISE EXCEPTION 'undo';
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
    PERFORM pg_temp.start('u2');
END $$;
SELECT pg_temp.rows();

-- A confirmation, again and again; and a claim in the same transaction as all the rest.
BEGIN; SELECT pg_temp.confirm('u1'); SELECT pg_temp.closed(); ROLLBACK;
BEGIN; SELECT pg_temp.confirm('u1', 'another'); ROLLBACK;
BEGIN; SAVEPOINT s; SELECT pg_temp.confirm('u1'); ROLLBACK TO SAVEPOINT s; SELECT pg_temp.confirm('u1'); COMMIT;
SELECT pg_temp.confirm('u2');
BEGIN;
SELECT pg_temp.claim('u3', 'w5'), pg_temp.start('u3'), pg_temp.confirm('u3');
ROLLBACK;
SELECT pg_temp.claim('u3', 'w6'), pg_temp.start('u3'), pg_temp.confirm('u3');
SELECT pg_temp.rows();
SELECT pg_temp.closed();

SELECT slotkeeper.drop_queue('undone', 'x', true) ->> 'outcome' AS outcome;
DELETE FROM slotkeeper.published;
