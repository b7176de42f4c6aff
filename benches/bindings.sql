-- What the lines about bound tables need: one table of an application, unguarded, guarded, and with a trigger that only
-- inserts a ledger row. All three have one name: the scripts find theirs by the search path.

CREATE SCHEMA unguarded;
CREATE SCHEMA guarded;
CREATE SCHEMA triggered;

CREATE TABLE unguarded.post (
    id      uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    profile text NOT NULL,
    at      timestamptz,
    status  text NOT NULL,
    title   text,
    views   int NOT NULL DEFAULT 0
);
CREATE TABLE guarded.post (LIKE unguarded.post INCLUDING ALL);
CREATE TABLE triggered.post (LIKE unguarded.post INCLUDING ALL);

SELECT slotkeeper.attach_table('guarded.post', '{
    "content_id": "id", "profile_id": "profile", "platform": {"value": "tiktok"}, "at": "at",
    "occupies": "status = ''scheduled''", "exempt": {"draft": "status = ''draft''"}}');

-- Looks at nothing: the unique indexes, which are the ledger's, keep one content to one seat.
CREATE FUNCTION triggered.insert_booking() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO bench.twin (queue_id, granule, seat, source, content_id, scheduled_at, booked_at)
    VALUES (substr(new.profile, 8)::bigint, extract(epoch FROM new.at)::bigint / 60, 0, 'triggered.post', new.id, new.at,
            clock_timestamp());
    RETURN new;
END
$$;
CREATE TRIGGER booking BEFORE INSERT ON triggered.post
    FOR EACH ROW WHEN (new.status = 'scheduled' AND new.at IS NOT NULL) EXECUTE FUNCTION triggered.insert_booking();

-- Empties the three tables and the ledgers behind two of them, and gives each the same p_count scheduled rows.
CREATE FUNCTION bench.to_bound_rows(p_count int, p_queues int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    TRUNCATE unguarded.post, guarded.post, triggered.post, bench.twin;
    TRUNCATE slotkeeper.booking, slotkeeper.full_run, slotkeeper.hole, slotkeeper.publication, slotkeeper.published;
    FOREACH name IN ARRAY ARRAY['unguarded', 'guarded', 'triggered'] LOOP
        EXECUTE format('
            INSERT INTO %I.post (id, profile, at, status, title)
            SELECT md5(n::text)::uuid, ''spread-'' || n %% $2 + 1, to_timestamp((50000000 + n) * 60.0), ''scheduled'', ''A title''
            FROM generate_series(1, $1) AS n', name)
        USING p_count, p_queues;
    END LOOP;
END
$$;
