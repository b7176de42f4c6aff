-- What `cargo xtask bench` measures in and against, beside the extension: a database of its own.

CREATE SCHEMA bench;

-- Ids of contents that no run has used before, for every variant alike.
CREATE SEQUENCE bench.content;

-- The bare INSERT's table: the ledger's columns, checks, defaults and unique indexes, and nobody who decides anything. What
-- publishing finds its contents by is no part of it: whoever only books would not have it.
CREATE TABLE bench.bare (LIKE slotkeeper.booking INCLUDING ALL);
DO $$
DECLARE
    index regclass;
BEGIN
    FOR index IN SELECT indexrelid FROM pg_index WHERE indrelid = 'bench.bare'::regclass AND NOT indisunique LOOP
        EXECUTE format('DROP INDEX %s', index);
    END LOOP;
END
$$;

-- The PL/pgSQL twin's table: a ledger like slotkeeper's.
CREATE TABLE bench.twin (LIKE slotkeeper.booking INCLUDING ALL);

-- What the twin knows of a queue. The times of a day are an array in the queue's row: one look reads them all.
CREATE TABLE bench.twin_queue (
    queue_id   bigint PRIMARY KEY,
    profile_id text COLLATE "C" NOT NULL,
    platform   text COLLATE "C" NOT NULL,
    time_zone  text NOT NULL,
    slots      time[] NOT NULL,
    UNIQUE (profile_id, platform)
);

-- Queues NAME-1, NAME-2, …, for slotkeeper and for the twin. A hundred years of slots: none of them is ever full.
CREATE FUNCTION bench.make_queues(p_name text, p_count int, p_timetable jsonb, p_slots time[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. p_count LOOP
        PERFORM slotkeeper.create_queue(p_name || '-' || i, 'tiktok', 'Asia/Jakarta', p_timetable,
                                        '{"horizon": "100 years"}');
    END LOOP;
    INSERT INTO bench.twin_queue
    SELECT q.queue_id, q.profile_id, q.platform, q.time_zone, p_slots
    FROM slotkeeper.queue AS q
    WHERE q.profile_id ~ ('^' || p_name || '-[0-9]+$');
END
$$;

-- Books the contents PREFIX-n, p_from <= n <= p_to, in turn over the queues NAME-1 … NAME-p_queues: content n is in
-- queue (n - 1) % p_queues + 1.
CREATE FUNCTION bench.book(p_name text, p_queues int, p_prefix text, p_from int, p_to int) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    reply jsonb;
BEGIN
    reply := slotkeeper.assign_slots((
        SELECT jsonb_agg(jsonb_build_object('profile_id', p_name || '-' || (n - 1) % p_queues + 1,
                                            'platform', 'tiktok', 'content_id', p_prefix || '-' || n,
                                            'user_id', 'user-1') ORDER BY n)
        FROM generate_series(p_from, p_to) AS n));
    IF reply->>'outcome' <> 'assigned' THEN
        RAISE EXCEPTION 'booking %-% to %-% was answered %', p_prefix, p_from, p_prefix, p_to, reply->>'outcome';
    END IF;
END
$$;

-- Keeps what slotkeeper has booked, and what it knows about it, as a state from which rounds start.
CREATE FUNCTION bench.keep_state(p_state text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE bench.%I AS TABLE slotkeeper.booking', p_state || '_booking');
    EXECUTE format('CREATE TABLE bench.%I AS TABLE slotkeeper.full_run', p_state || '_full_run');
END
$$;

-- Empties everything and puts the same rows, in the same order, into all three tables.
CREATE FUNCTION bench.go_to_state(p_state text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE slotkeeper.booking, slotkeeper.full_run, slotkeeper.hole, slotkeeper.publication, slotkeeper.published,
             bench.bare, bench.twin;
    EXECUTE format('INSERT INTO slotkeeper.booking SELECT * FROM bench.%I ORDER BY booking_id', p_state || '_booking');
    EXECUTE format('INSERT INTO slotkeeper.full_run SELECT * FROM bench.%I', p_state || '_full_run');
    INSERT INTO bench.bare SELECT * FROM slotkeeper.booking ORDER BY booking_id;
    INSERT INTO bench.twin SELECT * FROM slotkeeper.booking ORDER BY booking_id;
END
$$;
