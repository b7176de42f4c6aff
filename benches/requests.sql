-- What the lines about requests need.

-- The bare variant's key row: the same columns, types and indexes, and nobody who decides anything.
CREATE TABLE bench.request (LIKE slotkeeper.request INCLUDING ALL);

-- What is inserted under a key.
CREATE TABLE bench.thing (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    owner      text NOT NULL,
    about      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE bench.bare_thing (LIKE bench.thing INCLUDING ALL);

-- A response of 200 bytes, as JSON text.
CREATE FUNCTION bench.response() RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT '{"id": "3fa85f64-5717-4562-b3fc-2c963f66afa6", "name": "My Community", "slug": "my-community", "owner": "7c9e6679-7425-40de-944b-e07fc1f90ae7", "createdAt": "2026-01-15T23:00:00.000Z", "memberCount": 1}'::jsonb
$$;

-- Finished requests 1 … p_count, with keys and users as applications have them, each in a transaction of its own; and
-- bare rows with the same contents.
CREATE PROCEDURE bench.fill_requests(p_count int) LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE slotkeeper.request, bench.request;
    SET synchronous_commit = off;
    FOR i IN 1 .. p_count LOOP
        PERFORM slotkeeper.finish_request(
            slotkeeper.begin_request(md5('k-' || i)::uuid::text, 'POST', '/api/communities', md5('u-' || i % 1000)::uuid::text) ->> 'token',
            201, bench.response());
        COMMIT;
    END LOOP;
    RESET synchronous_commit;
    INSERT INTO bench.request (name, fingerprint, started_at, held_until, holder, lifetime, sweep_at, attempt, status,
                               user_id, key, method, path, resource, headers, body)
    SELECT md5(key)::uuid, fingerprint, started_at, held_until, holder, lifetime, sweep_at, attempt, status,
           user_id, key, method, path, resource, headers, body
    FROM slotkeeper.request;
END
$$;
