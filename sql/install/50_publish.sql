-- Publishing. A booking that waits for its time has no row here. Publishing takes it up (booking.claimed_at) and opens
-- a row in publication; a success closes that row and leaves one in published; everything else that an attempt came to is
-- history in attempt. So the rows that change are few, and what is kept is only ever inserted.

-- Work under way: one row a content, from the first claim to the success. It has no CHECK: the server would parse each
-- anew in every statement, which costs as much as the write. A token says that there is a live lease (claimed,
-- publishing); no wake_at, that only a person helps (failed, unknown).
CREATE TABLE slotkeeper.publication (
    booking_id bigint PRIMARY KEY,
    queue_id   bigint NOT NULL,
    wake_at    timestamptz,
    claimed_at timestamptz,
    begun_at   timestamptz,
    token      uuid,
    attempts   integer NOT NULL DEFAULT 0,
    tries      integer NOT NULL DEFAULT 0,
    failures   integer NOT NULL DEFAULT 0,
    timeouts   integer NOT NULL DEFAULT 0,
    state      text NOT NULL,
    worker     text
) USING heap WITH (fillfactor = 50);
-- What a claim looks at beside booking_due: leases that ran out, and retries that are due. Beginning an attempt changes
-- no column of it, and stays on the page.
CREATE INDEX publication_wake ON slotkeeper.publication (wake_at) INCLUDE (booking_id, queue_id);

COMMENT ON TABLE slotkeeper.publication IS 'Contents that publishing has taken up and not closed: leases, retries, failures, unknown outcomes.';
COMMENT ON COLUMN slotkeeper.publication.state IS 'scheduled (again: moved since it was first claimed), claimed, publishing, retrying, failed or unknown.';
COMMENT ON COLUMN slotkeeper.publication.wake_at IS
    'When something is to be done: the lease runs out, the next attempt is due. NULL: only a person helps.';
COMMENT ON COLUMN slotkeeper.publication.token IS 'Digest of the live lease''s token.';
COMMENT ON COLUMN slotkeeper.publication.attempts IS 'Attempts that have begun.';
COMMENT ON COLUMN slotkeeper.publication.tries IS 'Of these, the ones since the content was scheduled, moved or revived: what max_attempts counts.';
COMMENT ON COLUMN slotkeeper.publication.failures IS 'Failures since then, also those before an attempt began: what the delay grows with.';
COMMENT ON COLUMN slotkeeper.publication.timeouts IS 'Attempts that the provider left waiting: what mode async depends on.';

-- The proof that a content is closed: once in a queue, for ever.
CREATE TABLE slotkeeper.published (
    queue_id     bigint NOT NULL,
    booking_id   bigint,
    published_at timestamptz NOT NULL,
    claimed_at   timestamptz,
    begun_at     timestamptz,
    attempt      integer NOT NULL,
    late         boolean NOT NULL,
    source       text COLLATE "C" NOT NULL,
    content_id   text COLLATE "C" NOT NULL,
    worker       text,
    provider_id  text,
    url          text,
    PRIMARY KEY (content_id, source, queue_id)
) USING heap;

COMMENT ON TABLE slotkeeper.published IS 'Contents that were published: each once in a queue. Never pruned.';
COMMENT ON COLUMN slotkeeper.published.booking_id IS 'The booking that it was published from; NULL where the application''s own worker has published what was not booked.';
COMMENT ON COLUMN slotkeeper.published.late IS 'Whether the lease had run out, or the attempt was counted as failed, when the success was told.';
COMMENT ON COLUMN slotkeeper.published.worker IS 'Who published it; NULL where a person said so.';

-- What was handed out before its row was there, and belongs to a binding now. Its key with the provider must not change.
CREATE TABLE slotkeeper.adopted (
    queue_id   bigint NOT NULL,
    source     text COLLATE "C" NOT NULL,
    content_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (content_id, source, queue_id)
) USING heap;

COMMENT ON TABLE slotkeeper.adopted IS
    'Contents of bindings that were handed out before their row was there: they keep the publish_key that they had.';

-- What ended otherwise.
CREATE TABLE slotkeeper.attempt (
    booking_id  bigint NOT NULL,
    token       uuid NOT NULL,
    claimed_at  timestamptz NOT NULL,
    begun_at    timestamptz,
    ended_at    timestamptz NOT NULL,
    attempt     integer NOT NULL,
    http_status smallint,
    outcome     text NOT NULL
                CHECK (outcome IN ('retrying', 'failed', 'unknown', 'lease_lost', 'moved', 'unscheduled', 'superseded')),
    worker      text NOT NULL,
    error       text,
    PRIMARY KEY (booking_id, token)
) USING heap;
CREATE INDEX attempt_ended ON slotkeeper.attempt (ended_at);

COMMENT ON TABLE slotkeeper.attempt IS 'Claims and attempts that did not end in a success told in time; pruned by prune_history().';
COMMENT ON COLUMN slotkeeper.attempt.token IS 'Digest of the lease''s token: a success may still be told with it.';
COMMENT ON COLUMN slotkeeper.attempt.attempt IS 'Its number; a claim that never began has the number that it would have had.';

-- What a platform does otherwise than the defaults.
CREATE TABLE slotkeeper.platform (
    platform   text COLLATE "C" PRIMARY KEY CHECK (char_length(platform) BETWEEN 1 AND 255),
    policy     jsonb NOT NULL,
    updated_at timestamptz NOT NULL
) USING heap;

COMMENT ON TABLE slotkeeper.platform IS 'Publishing policies as they were given to set_platform(); what a policy leaves out has its default.';

-- Which database this is. A dump carries the row of the database that it was taken from into one that has another; a
-- file-level copy or a template leaves only that of the original. Either way there is a row that is not ours.
CREATE TABLE slotkeeper.home (
    system_identifier bigint NOT NULL,
    database          bigint NOT NULL,
    since             timestamptz NOT NULL
) USING heap;
CREATE INDEX home_place ON slotkeeper.home (system_identifier, database);
ALTER TABLE slotkeeper.home REPLICA IDENTITY FULL;

COMMENT ON TABLE slotkeeper.home IS 'The database that publishes: its cluster''s system identifier and its OID. A row of another one: this is a copy.';

INSERT INTO slotkeeper.home
SELECT c.system_identifier, d.oid::bigint, now()
FROM pg_control_system() AS c, pg_database AS d
WHERE d.datname = current_database();

-- One row a content and queue: its live booking, or the last one that was given back. Of a queue that was
-- dropped, what was published in it and what nobody knows of.
CREATE VIEW slotkeeper.content_status AS
SELECT b.content_id, nullif(b.source, '') AS source, q.profile_id, q.platform, b.user_id,
       CASE WHEN s.content_id IS NOT NULL THEN 'published'
            WHEN b.released_at IS NOT NULL THEN 'unscheduled'
            ELSE coalesce(p.state, 'scheduled') END AS state,
       b.scheduled_at, b.booked_at, b.released_at AS unscheduled_at,
       coalesce(s.attempt, p.attempts, 0) AS attempt,
       CASE WHEN p.state = 'retrying' THEN p.wake_at END AS next_attempt_at,
       coalesce(p.claimed_at, s.claimed_at) AS claimed_at,
       coalesce(p.begun_at, s.begun_at) AS begun_at,
       CASE WHEN p.state IN ('claimed', 'publishing') THEN p.wake_at END AS lease_until,
       coalesce(p.worker, s.worker) AS worker,
       s.published_at, s.late, s.provider_id, s.url,
       a.error, a.http_status, b.booking_id, u.error AS row_error
FROM (SELECT * FROM slotkeeper.booking AS live WHERE live.released_at IS NULL
      UNION ALL
      SELECT * FROM (
          SELECT DISTINCT ON (r.content_id, r.source, r.queue_id) *
          FROM slotkeeper.booking AS r
          WHERE r.released_at IS NOT NULL
          ORDER BY r.content_id, r.source, r.queue_id, r.booking_id DESC
      ) AS last
      WHERE NOT EXISTS (
          SELECT FROM slotkeeper.booking AS live
          WHERE live.content_id = last.content_id AND live.source = last.source AND live.queue_id = last.queue_id
            AND live.released_at IS NULL
      )) AS b
JOIN (SELECT a.queue_id, a.profile_id, a.platform, false AS dropped FROM slotkeeper.queue AS a
      UNION ALL SELECT d.queue_id, d.profile_id, d.platform, true FROM slotkeeper.dropped_queue AS d) AS q
  ON q.queue_id = b.queue_id
LEFT JOIN slotkeeper.publication AS p ON p.booking_id = b.booking_id
LEFT JOIN slotkeeper.published AS s
       ON s.content_id = b.content_id AND s.source = b.source AND s.queue_id = b.queue_id
LEFT JOIN slotkeeper.untold AS u
       ON u.content_id = b.content_id AND u.source = b.source AND u.queue_id = b.queue_id
LEFT JOIN LATERAL (
    SELECT e.error, e.http_status
    FROM slotkeeper.attempt AS e
    WHERE e.booking_id = b.booking_id AND (e.error IS NOT NULL OR e.http_status IS NOT NULL)
    ORDER BY e.ended_at DESC, e.attempt DESC
    LIMIT 1
) AS a ON true
WHERE NOT q.dropped OR b.released_at IS NULL OR s.content_id IS NOT NULL;

COMMENT ON VIEW slotkeeper.content_status IS
'One row for each content and queue: where it stands (scheduled, claimed, publishing, retrying, published, failed, unknown, unscheduled), its times, attempt, last error, URL; row_error: why the application''s row does not say so.';

SELECT pg_extension_config_dump('slotkeeper.publication', '');
SELECT pg_extension_config_dump('slotkeeper.published', '');
SELECT pg_extension_config_dump('slotkeeper.adopted', '');
SELECT pg_extension_config_dump('slotkeeper.attempt', '');
SELECT pg_extension_config_dump('slotkeeper.platform', '');
SELECT pg_extension_config_dump('slotkeeper.home', '');
