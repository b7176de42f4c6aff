-- Statements of many rows keep the ledger open from row to row: whichever way such a statement runs and ends, what it opened is
-- closed (no WARNING of the server's says otherwise), what it booked is there, and what was undone is not.
-- Tried: where COPY keeps it too the server warns of leaks; where it is closed though an abort has freed it, the server crashes.
SET slotkeeper.now = '2026-03-01 00:00:00+00';
CREATE SCHEMA rows;
SET search_path = rows;
SELECT slotkeeper.create_queue('q' || n, 'tiktok', 'UTC', '{"daily": ["09:00"]}')->>'outcome' AS outcome
FROM generate_series(1, 3) AS n;
CREATE TABLE post (id bigint PRIMARY KEY, profile text NOT NULL, at timestamptz, title text);
CREATE TABLE reel (id bigint PRIMARY KEY, profile text NOT NULL, at timestamptz, title text);
SELECT slotkeeper.attach_table(name, '{"content_id": "id", "profile_id": "profile", "platform": {"value": "tiktok"},
    "at": "at", "at_null": "assign"}')->>'outcome' AS outcome
FROM unnest('{post,reel}'::regclass[]) AS name;
CREATE FUNCTION booked() RETURNS TABLE (source text, rows bigint, booked bigint, alike boolean) LANGUAGE sql AS $$
    SELECT 'post', count(*), count(b.booking_id), coalesce(bool_and(p.at = b.scheduled_at), true)
    FROM rows.post AS p FULL JOIN (SELECT * FROM slotkeeper.booking WHERE source = 'rows.post' AND released_at IS NULL) AS b
        ON b.content_id = p.id::text
    UNION ALL
    SELECT 'reel', count(*), count(b.booking_id), coalesce(bool_and(p.at = b.scheduled_at), true)
    FROM rows.reel AS p FULL JOIN (SELECT * FROM slotkeeper.booking WHERE source = 'rows.reel' AND released_at IS NULL) AS b
        ON b.content_id = p.id::text
$$;

-- Rows of several queues; times that are free, taken, and to be found.
SET client_min_messages = warning;
INSERT INTO post SELECT n, 'q' || n % 3 + 1, CASE WHEN n % 5 < 3 THEN '2026-03-05 12:00+00'::timestamptz + n / 10 * interval '1 hour' END
FROM generate_series(1, 200) AS n;
SELECT * FROM booked();

-- The statement fails at its last row, and what is around it catches that, again and again.
DO $$
BEGIN
    FOR n IN 1..3 LOOP
        BEGIN
            INSERT INTO rows.post SELECT 1000 + i, 'q1', NULL::timestamptz, 'x' FROM generate_series(1, 20) AS i
            UNION ALL SELECT 1, 'q1', NULL, 'there already';
        EXCEPTION WHEN unique_violation THEN
            RAISE WARNING 'caught';
        END;
        BEGIN
            INSERT INTO rows.post SELECT 1000 + i, CASE WHEN i < 20 THEN 'q1' ELSE 'none' END, NULL, 'x' FROM generate_series(1, 20) AS i;
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'caught %', sqlerrm;
        END;
    END LOOP;
    INSERT INTO rows.post SELECT 1000 + i, 'q1', NULL, 'x' FROM generate_series(1, 20) AS i;
END
$$;
SELECT * FROM booked();

-- The rows of one statement are made by a function that inserts rows itself, in a part that is undone or kept.
CREATE FUNCTION inner_rows(n int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        INSERT INTO rows.post SELECT 2000 + n * 10 + i, 'q2', NULL, 'inner' FROM generate_series(1, 3) AS i;
        INSERT INTO rows.reel SELECT 2000 + n * 10 + i, 'q3', NULL, 'inner' FROM generate_series(1, 3) AS i;
        IF n % 2 = 0 THEN
            RAISE EXCEPTION 'undone';
        END IF;
    EXCEPTION WHEN raise_exception THEN
        NULL;
    END;
    RETURN 3000 + n;
END
$$;
INSERT INTO post SELECT inner_rows(n), 'q1', NULL, 'outer' FROM generate_series(1, 6) AS n;
SELECT * FROM booked();

-- The same by a trigger of the table, between two rows of the statement.
CREATE FUNCTION also() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.title = 'both' THEN
        BEGIN
            INSERT INTO rows.reel VALUES (new.id, new.profile, new.at + interval '1 minute', 'also'),
                                         (-new.id, new.profile, new.at + interval '2 minutes', 'also');
            PERFORM 1 / (new.id % 2);
        EXCEPTION WHEN division_by_zero THEN
            NULL;
        END;
    END IF;
    RETURN new;
END
$$;
CREATE TRIGGER also BEFORE INSERT ON post FOR EACH ROW EXECUTE FUNCTION also();
CREATE TRIGGER "~~also" BEFORE INSERT ON post FOR EACH ROW EXECUTE FUNCTION also();
INSERT INTO post SELECT 4000 + n, 'q1', '2026-05-01 12:00+00'::timestamptz + n * interval '1 hour', 'x' FROM generate_series(1, 6) AS n;
DROP TRIGGER "~~also" ON post;
INSERT INTO post SELECT 4100 + n, 'q1', '2026-05-02 12:00+00'::timestamptz + n * interval '1 hour', 'both' FROM generate_series(1, 6) AS n;
DROP TRIGGER also ON post;
SELECT * FROM booked();

-- Two tables in one statement, an upsert, COPY, EXPLAIN ANALYZE, a loop over what was inserted, a function in SQL.
WITH first AS (INSERT INTO post SELECT 5000 + n, 'q1', NULL, 'x' FROM generate_series(1, 10) AS n RETURNING id, at)
INSERT INTO reel SELECT id, 'q2', at, 'x' FROM first;
INSERT INTO post SELECT 5000 + n, 'q3', NULL, 'upsert' FROM generate_series(5, 15) AS n ON CONFLICT DO NOTHING;
INSERT INTO post SELECT 5000 + n, 'q3', NULL, 'upsert' FROM generate_series(10, 20) AS n ON CONFLICT (id) DO UPDATE SET profile = 'q2';
COPY post (id, profile, at) FROM stdin;
6001	q1	\N
6002	q2	\N
6003	q1	2026-03-05 12:00:00+00
6004	q1	2026-03-05 12:00:00+00
\.
COPY post (id, profile, at) FROM stdin;
6011	q1	\N
6012	q2	\N
6001	q2	\N
\.
DO $$
DECLARE
    one record;
    made bigint := 0;
BEGIN
    EXECUTE 'EXPLAIN ANALYZE INSERT INTO rows.post SELECT 6100 + n, ''q1'', NULL, ''x'' FROM generate_series(1, 10) AS n';
    FOR one IN INSERT INTO rows.post SELECT 6200 + n, 'q1', NULL, 'x' FROM generate_series(1, 10) AS n RETURNING * LOOP
        INSERT INTO rows.reel VALUES (one.id, 'q2', one.at, 'x'), (-one.id, 'q2', NULL, 'x');
        made := made + 1;
    END LOOP;
    RAISE WARNING 'made %', made;
END
$$;
CREATE FUNCTION add(n bigint) RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO rows.reel VALUES (n, 'q3', NULL, 'x'), (n + 1, 'q3', NULL, 'x') RETURNING id
$$;
SELECT add(6300 + n * 2) FROM generate_series(1, 3) AS n;
SELECT * FROM booked();

-- Nothing that runs inside the statement finds the ledger locked against it, and what changes it is taken up.
CREATE FUNCTION index_made(n int) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF n = 3 THEN
        ANALYZE slotkeeper.booking;
    ELSIF n = 5 THEN
        CREATE TRIGGER counted BEFORE INSERT ON slotkeeper.booking FOR EACH ROW EXECUTE FUNCTION rows.counted();
    END IF;
    RETURN 7000 + n;
END
$$;
CREATE SEQUENCE seen;
CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM nextval('rows.seen'); RETURN new; END$$;
INSERT INTO post SELECT index_made(n), 'q1', NULL, 'x' FROM generate_series(1, 10) AS n;
SELECT last_value AS counted FROM seen;
DROP TRIGGER counted ON slotkeeper.booking;
SELECT * FROM booked();

-- A savepoint that is undone, and the transaction.
BEGIN;
INSERT INTO post SELECT 8000 + n, 'q1', NULL, 'x' FROM generate_series(1, 10) AS n;
SAVEPOINT a;
INSERT INTO post SELECT 8100 + n, 'q1', NULL, 'x' FROM generate_series(1, 10) AS n;
INSERT INTO post SELECT 8200 + n, CASE WHEN n < 9 THEN 'q1' END, NULL, 'x' FROM generate_series(1, 10) AS n;
ROLLBACK TO a;
INSERT INTO post SELECT 8100 + n, 'q1', NULL, 'x' FROM generate_series(1, 10) AS n;
SELECT * FROM booked();
ROLLBACK;
SELECT * FROM booked();

RESET client_min_messages;
SELECT slotkeeper.detach_table(name)->>'outcome' AS outcome FROM unnest('{post,reel}'::regclass[]) AS name;
SELECT slotkeeper.drop_queue('q' || n, 'tiktok', true)->>'outcome' AS outcome FROM generate_series(1, 3) AS n;
SET client_min_messages = warning;
DROP SCHEMA rows CASCADE;
