-- Queues: one row each, small and rarely written.

CREATE SEQUENCE slotkeeper.queue_id_seq AS bigint;
-- Versions come from a sequence, so that one that was rolled back never comes again with other contents: backends
-- cache timetables by version.
CREATE SEQUENCE slotkeeper.queue_version_seq AS bigint;

CREATE TABLE slotkeeper.queue (
    queue_id      bigint PRIMARY KEY DEFAULT nextval('slotkeeper.queue_id_seq'),
    profile_id    text COLLATE "C" NOT NULL CHECK (char_length(profile_id) BETWEEN 1 AND 255),
    platform      text COLLATE "C" NOT NULL CHECK (char_length(platform) BETWEEN 1 AND 255),
    time_zone     text NOT NULL,
    timetable     jsonb NOT NULL,
    options       jsonb NOT NULL,
    status        text NOT NULL DEFAULT 'active'
                  CHECK (status IN ('active', 'paused', 'disabled', 'needs_refresh')),
    status_reason text,
    version       bigint NOT NULL DEFAULT nextval('slotkeeper.queue_version_seq'),
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp()
) USING heap;
-- What calls ask first, answered by the index and one row: the queue and whether the cached timetable holds.
CREATE UNIQUE INDEX queue_name ON slotkeeper.queue (profile_id, platform) INCLUDE (queue_id, version);

ALTER SEQUENCE slotkeeper.queue_id_seq OWNED BY slotkeeper.queue.queue_id;
ALTER SEQUENCE slotkeeper.queue_version_seq OWNED BY slotkeeper.queue.version;

COMMENT ON TABLE slotkeeper.queue IS 'Posting destinations: a profile on a platform, its time zone and timetable.';
COMMENT ON COLUMN slotkeeper.queue.time_zone IS 'IANA name as the server spells it; slots are kept as wall times in it.';
COMMENT ON COLUMN slotkeeper.queue.timetable IS 'Timetable as it was given, in any of its forms.';
COMMENT ON COLUMN slotkeeper.queue.options IS 'Options that apply, defaults filled in: granule, horizon.';
COMMENT ON COLUMN slotkeeper.queue.status IS 'active, paused, disabled or needs_refresh; stops publishing, not booking.';
COMMENT ON COLUMN slotkeeper.queue.version IS 'Changes when time zone, timetable or options do; full runs and holes belong to one version.';

-- A queue is its name. One that is created again under the name of a dropped one gets that one's id, and with it what is known
-- of its contents: what was published in it stays published.
CREATE TABLE slotkeeper.dropped_queue (
    queue_id   bigint PRIMARY KEY,
    dropped_at timestamptz NOT NULL,
    profile_id text COLLATE "C" NOT NULL,
    platform   text COLLATE "C" NOT NULL,
    granule    text
) USING heap;
CREATE UNIQUE INDEX dropped_queue_name ON slotkeeper.dropped_queue (profile_id, platform);

COMMENT ON TABLE slotkeeper.dropped_queue IS
    'Ids of queues that were dropped, by name: a queue that is created again under the name has the same id, and what was published in it stays published.';
COMMENT ON COLUMN slotkeeper.dropped_queue.granule IS 'Its granule; bookings that it has kept are numbered in it.';

-- Backends remember queues until they are told that rows have changed. ALWAYS: also where the change is a replicated one.
CREATE TRIGGER tell_of_change AFTER UPDATE OR DELETE ON slotkeeper.queue
    FOR EACH ROW EXECUTE FUNCTION slotkeeper.tell_of_queues();
ALTER TABLE slotkeeper.queue ENABLE ALWAYS TRIGGER tell_of_change;

COMMENT ON FUNCTION slotkeeper.tell_of_queues() IS 'Trigger function of slotkeeper.queue: tells all backends to look at queues again.';
