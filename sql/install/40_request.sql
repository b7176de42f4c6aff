-- Requests that run once. A row is the proof that somebody holds a key, or what he answered. Only the primary key and
-- the index for cleaning up are indexed, and neither column changes when a request finishes: that update touches no
-- index. src/request/row.rs knows the columns by their numbers.

CREATE TABLE slotkeeper.request (
    name        uuid PRIMARY KEY,
    fingerprint bigint NOT NULL,
    started_at  timestamptz NOT NULL,
    held_until  timestamptz NOT NULL,
    holder      bigint NOT NULL,
    lifetime    integer NOT NULL,
    sweep_at    integer NOT NULL,
    replays     integer,
    attempt     smallint NOT NULL,
    status      smallint,
    user_id     text COLLATE "C",
    key         text COLLATE "C" NOT NULL,
    method      text COLLATE "C" NOT NULL,
    path        text COLLATE "C" NOT NULL,
    resource    text,
    headers     jsonb,
    body        jsonb
) USING heap;
CREATE INDEX request_sweep ON slotkeeper.request (sweep_at);

COMMENT ON TABLE slotkeeper.request IS 'Keyed requests: who holds one, or how it was answered.';
COMMENT ON COLUMN slotkeeper.request.name IS
    'Digest of user_id and key, which are compared on read; its first four bytes depend on the user alone.';
COMMENT ON COLUMN slotkeeper.request.fingerprint IS 'Digest of method, path and canonical body; its first byte is the number of the algorithm.';
COMMENT ON COLUMN slotkeeper.request.started_at IS 'When the key was first seen.';
COMMENT ON COLUMN slotkeeper.request.held_until IS
    'In progress (status NULL): end of the holder''s lease. Finished: end of the response''s lifetime.';
COMMENT ON COLUMN slotkeeper.request.holder IS 'Digest of the latest attempt''s token.';
COMMENT ON COLUMN slotkeeper.request.lifetime IS 'Seconds that a response is kept after the finish.';
COMMENT ON COLUMN slotkeeper.request.sweep_at IS 'Minute since 1970 from which on cleaning up may look at the row; it may then still be live.';
COMMENT ON COLUMN slotkeeper.request.replays IS 'How often the response was replayed, NULL for never; counted late, see request_tally.';
COMMENT ON COLUMN slotkeeper.request.status IS 'HTTP status of the response; NULL while in progress.';
COMMENT ON COLUMN slotkeeper.request.resource IS 'What the request made; known for one more lifetime after the response has expired.';

-- Counters. Each backend counts for itself and adds what it has from time to time: a few rows that are folded into one.
CREATE TABLE slotkeeper.request_tally (
    started      bigint NOT NULL,
    replays      bigint NOT NULL,
    in_progress  bigint NOT NULL,
    mismatches   bigint NOT NULL,
    takeovers    bigint NOT NULL,
    expired      bigint NOT NULL,
    unprotected  bigint NOT NULL
) USING heap;
ALTER TABLE slotkeeper.request_tally REPLICA IDENTITY FULL;

COMMENT ON TABLE slotkeeper.request_tally IS 'How requests were answered: the sum of all rows counts.';

CREATE VIEW slotkeeper.request_stats AS
SELECT r.keys, r.in_progress, r.expired, t.started, t.replays, t.mismatches, t.takeovers,
       t.in_progress AS answered_in_progress, t.expired AS answered_expired, t.unprotected, r.bytes
FROM (
    SELECT pg_catalog.count(*) AS keys,
           pg_catalog.count(*) FILTER (WHERE status IS NULL AND held_until > pg_catalog.now()) AS in_progress,
           pg_catalog.count(*) FILTER (WHERE status IS NOT NULL AND held_until <= pg_catalog.now()) AS expired,
           pg_catalog.pg_total_relation_size('slotkeeper.request') AS bytes
    FROM slotkeeper.request
) AS r, (
    SELECT coalesce(pg_catalog.sum(started), 0)::bigint AS started,
           coalesce(pg_catalog.sum(replays), 0)::bigint AS replays,
           coalesce(pg_catalog.sum(in_progress), 0)::bigint AS in_progress,
           coalesce(pg_catalog.sum(mismatches), 0)::bigint AS mismatches,
           coalesce(pg_catalog.sum(takeovers), 0)::bigint AS takeovers,
           coalesce(pg_catalog.sum(expired), 0)::bigint AS expired,
           coalesce(pg_catalog.sum(unprotected), 0)::bigint AS unprotected
    FROM slotkeeper.request_tally
) AS t;

COMMENT ON VIEW slotkeeper.request_stats IS
    'One row: keys stored, in progress, expired; answers given since installation; bytes with all indexes. Counters lag by seconds.';

CREATE VIEW slotkeeper.recent_requests AS
SELECT started_at AS first_seen, user_id, key, method, path,
       CASE WHEN status IS NOT NULL AND held_until > pg_catalog.now() THEN 'finished'
            WHEN status IS NOT NULL THEN 'expired'
            WHEN held_until > pg_catalog.now() THEN 'in_progress'
            ELSE 'abandoned' END AS state,
       attempt, status, resource, coalesce(replays, 0) AS replays,
       CASE WHEN status IS NOT NULL THEN held_until - pg_catalog.make_interval(secs => lifetime) END AS finished_at,
       CASE WHEN status IS NOT NULL THEN held_until END AS expires_at,
       CASE WHEN status IS NULL THEN held_until END AS lease_until
FROM slotkeeper.request
ORDER BY started_at DESC;

COMMENT ON VIEW slotkeeper.recent_requests IS
    'Keyed requests, the latest first: whose, which key, what has become of it, how often it was replayed.';

SELECT pg_extension_config_dump('slotkeeper.request', '');
SELECT pg_extension_config_dump('slotkeeper.request_tally', '');
