-- Calls of one statement share what they have open: nothing of that outlasts an error, a savepoint or a commit in its midst.
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
SELECT slotkeeper.create_queue('stm', q, 'UTC', '{"daily": ["12:00", "13:00", "14:00"]}') ->> 'outcome' AS outcome FROM unnest(ARRAY['x', 'y']) AS q;
SELECT count(slotkeeper.assign_next_available_slot('stm', q, 's' || n)) FROM generate_series(1, 6) AS n, unnest(ARRAY['x']) AS q;
SELECT count(slotkeeper.assign_next_available_slot('stm', 'y', 'y' || n)) FROM generate_series(1, 3) AS n;
SET slotkeeper.now = '2026-01-20T12:00:00+00:00';
CREATE TEMP TABLE token AS SELECT row_number() OVER () AS n, content_id, lease_token AS t FROM slotkeeper.claim_due_content('w', 50);
CREATE FUNCTION pg_temp.states() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(s.content_id || ' ' || s.state, ', ' ORDER BY s.content_id) FROM slotkeeper.content_status AS s WHERE s.profile_id = 'stm'
$$;
CREATE FUNCTION pg_temp.start(c text) RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT slotkeeper.begin_publish(t) ->> 'outcome' FROM token WHERE content_id = c $$;
SELECT pg_temp.states();

-- An error after the first row, and one of the calls' own.
SELECT slotkeeper.begin_publish(t) ->> 'outcome', 1 / (n - 3) FROM token ORDER BY n;
SELECT slotkeeper.begin_publish(CASE WHEN n < 3 THEN t END) ->> 'outcome' FROM token ORDER BY n;
SELECT slotkeeper.confirm_publish(t) ->> 'outcome', 1 / (n - 3) FROM token ORDER BY n;
SELECT pg_temp.states();

-- A cursor that goes on over a savepoint that is undone, while others change what it has seen.
BEGIN;
DECLARE c CURSOR FOR SELECT content_id, slotkeeper.begin_publish(t) ->> 'outcome' AS outcome FROM (SELECT * FROM token ORDER BY n) AS t WHERE content_id ~ '^s';
FETCH 1 FROM c;
SAVEPOINT s;
FETCH 1 FROM c;
SELECT slotkeeper.unschedule_content('s3') ->> 'outcome' AS outcome;
FETCH 1 FROM c;
ROLLBACK TO SAVEPOINT s;
SELECT slotkeeper.unschedule_content('s4') ->> 'outcome' AS outcome;
FETCH 1 FROM c;
SELECT slotkeeper.set_queue_status('stm', 'x', 'paused') ->> 'outcome' AS outcome;
FETCH 1 FROM c;
CLOSE c;
SELECT pg_temp.states();
ROLLBACK;
SELECT pg_temp.states();

-- A cursor that fails within a savepoint; one that is left open; one that is kept beyond its transaction.
BEGIN;
SAVEPOINT s;
DECLARE c CURSOR FOR SELECT slotkeeper.begin_publish(t) ->> 'outcome' AS outcome, 1 / (n - 2) FROM (SELECT * FROM token ORDER BY n) AS t;
FETCH 1 FROM c;
FETCH 1 FROM c;
ROLLBACK TO SAVEPOINT s;
DECLARE c CURSOR WITH HOLD FOR SELECT slotkeeper.begin_publish(t) ->> 'outcome' AS outcome FROM token WHERE content_id IN ('s1', 's2') ORDER BY n;
DECLARE d CURSOR FOR SELECT slotkeeper.begin_publish(t) ->> 'outcome' AS outcome FROM token WHERE content_id = 's3';
FETCH 1 FROM c;
FETCH 1 FROM d;
COMMIT;
FETCH ALL FROM c;
CLOSE c;
SELECT pg_temp.states();

-- Loops that commit in between, that catch errors, and expressions that live as long as the transaction.
DO $$
DECLARE r record; o text;
BEGIN
    FOR r IN SELECT t, slotkeeper.confirm_publish(t) ->> 'outcome' AS outcome FROM token WHERE content_id IN ('s1', 's2') ORDER BY n LOOP
        RAISE NOTICE '%', r.outcome;
        COMMIT;
        o := slotkeeper.confirm_publish(r.t) ->> 'outcome';
        RAISE NOTICE '%', o;
    END LOOP;
    FOR r IN SELECT * FROM token WHERE content_id IN ('s4', 's5') ORDER BY n LOOP
        BEGIN
            o := slotkeeper.begin_publish(r.t) ->> 'outcome';
            RAISE NOTICE '%', o;
            PERFORM 1 / (r.n - r.n);
        EXCEPTION WHEN division_by_zero THEN
            o := slotkeeper.begin_publish(r.t) ->> 'outcome';
            RAISE NOTICE '%', o;
        END;
    END LOOP;
END $$;
SELECT pg_temp.start(content_id) FROM token WHERE content_id IN ('s4', 's6') ORDER BY n;
SELECT pg_temp.states();
SELECT slotkeeper.fail_publish(t, 'e', 429) ->> 'outcome' AS outcome, slotkeeper.confirm_publish(t) ->> 'outcome' AS confirmed FROM token WHERE content_id IN ('s5', 's6') ORDER BY n;

-- DDL on slotkeeper's tables finds them in use, and free again.
BEGIN;
DECLARE c CURSOR FOR SELECT slotkeeper.begin_publish(t) ->> 'outcome' AS outcome FROM token WHERE content_id ~ '^y' ORDER BY n;
FETCH 1 FROM c;
SAVEPOINT s;
ALTER TABLE slotkeeper.publication SET (fillfactor = 60);
ROLLBACK TO SAVEPOINT s;
CLOSE c;
ALTER TABLE slotkeeper.publication SET (fillfactor = 60);
SELECT pg_temp.start(content_id) FROM token WHERE content_id ~ '^y' ORDER BY n;
ROLLBACK;
SELECT pg_temp.states();
SELECT slotkeeper.drop_queue('stm', q, true) ->> 'outcome' AS outcome FROM unnest(ARRAY['x', 'y']) AS q;
DELETE FROM slotkeeper.published;
