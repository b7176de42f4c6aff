-- The ledger. A live row is the proof that one content holds one seat; the two partial unique indexes are the truth
-- behind every promise about seats. What is given back keeps its row, released, as history.

CREATE SEQUENCE slotkeeper.booking_id_seq AS bigint;

CREATE TABLE slotkeeper.booking (
    booking_id   bigint PRIMARY KEY DEFAULT nextval('slotkeeper.booking_id_seq'),
    queue_id     bigint NOT NULL,
    granule      bigint NOT NULL,
    scheduled_at timestamptz NOT NULL,
    booked_at    timestamptz NOT NULL,
    released_at  timestamptz,
    claimed_at   timestamptz,
    full_version bigint,
    full_from    bigint,
    full_stored_to bigint,
    full_to      bigint,
    seat         smallint NOT NULL,
    source       text COLLATE "C" NOT NULL DEFAULT '',
    content_id   text COLLATE "C" NOT NULL,
    user_id      text,
    slot_ref     text,
    released_by  text
) USING heap;
CREATE UNIQUE INDEX booking_seat ON slotkeeper.booking (queue_id, granule, seat) WHERE released_at IS NULL;
CREATE UNIQUE INDEX booking_content ON slotkeeper.booking (content_id, source, queue_id) WHERE released_at IS NULL;

-- What publishing has not taken up yet, oldest first: a claim reads its first entries.
CREATE INDEX booking_due ON slotkeeper.booking (scheduled_at) INCLUDE (booking_id, queue_id)
    WHERE released_at IS NULL AND claimed_at IS NULL;
-- What became of a content that is no longer booked.
CREATE INDEX booking_past ON slotkeeper.booking (content_id, source, queue_id) WHERE released_at IS NOT NULL;

ALTER SEQUENCE slotkeeper.booking_id_seq OWNED BY slotkeeper.booking.booking_id;

COMMENT ON TABLE slotkeeper.booking IS 'The ledger: one content in one seat of one queue.';
COMMENT ON COLUMN slotkeeper.booking.queue_id IS
    'slotkeeper.queue; no foreign key, whose row lock all callers of one queue would share: see "queue in use" in docs/design.md.';
COMMENT ON COLUMN slotkeeper.booking.granule IS 'scheduled_at in units of the queue''s granule since 1970-01-01 UTC, rounded down.';
COMMENT ON COLUMN slotkeeper.booking.seat IS 'Seat number within the granule, from 0.';
COMMENT ON COLUMN slotkeeper.booking.source IS 'Binding that the content comes from; empty for none.';
COMMENT ON COLUMN slotkeeper.booking.slot_ref IS 'The application''s own id of the slot, from the timetable.';
COMMENT ON COLUMN slotkeeper.booking.released_at IS 'When the seat was given back; NULL while the booking is live.';
COMMENT ON COLUMN slotkeeper.booking.claimed_at IS 'When publishing first took it up; NULL while it only waits for its time.';
COMMENT ON COLUMN slotkeeper.booking.full_version IS
    'The next four say what the search for this seat has seen, for those who search after it: the queue''s version then; NULL where nothing is said.';
COMMENT ON COLUMN slotkeeper.booking.full_from IS 'From this granule on each seat was held for good, or has been given back since and has left a hole.';
COMMENT ON COLUMN slotkeeper.booking.full_stored_to IS 'Up to this granule full_run says the same.';
COMMENT ON COLUMN slotkeeper.booking.full_to IS 'First granule of which that is not said.';
COMMENT ON COLUMN slotkeeper.booking.released_by IS 'Role that gave it back.';

-- Hints that keep the cost of a search flat. Losing a full run costs time only; a hole is written by whoever gives a
-- seat back, in the same transaction.

CREATE TABLE slotkeeper.full_run (
    queue_id     bigint NOT NULL,
    version      bigint NOT NULL,
    every_granule boolean NOT NULL,
    from_granule bigint NOT NULL,
    to_granule   bigint NOT NULL,
    slots        bigint NOT NULL
) USING heap;
CREATE INDEX full_run_from ON slotkeeper.full_run (queue_id, version, every_granule, from_granule)
    INCLUDE (to_granule, slots);

-- No key to name a row by: a publication of all tables needs the whole row.
ALTER TABLE slotkeeper.full_run REPLICA IDENTITY FULL;

COMMENT ON TABLE slotkeeper.full_run IS
    'Stretches of a queue in which every slot was held by committed bookings when the row was written: each is still held, or has a hole.';
COMMENT ON COLUMN slotkeeper.full_run.every_granule IS 'Whether every granule counts as a slot, or those of the timetable only.';
COMMENT ON COLUMN slotkeeper.full_run.to_granule IS 'First granule after the run.';

CREATE TABLE slotkeeper.hole (
    queue_id bigint NOT NULL,
    version  bigint NOT NULL,
    on_slot  boolean NOT NULL,
    granule  bigint NOT NULL
) USING heap;
CREATE INDEX hole_granule ON slotkeeper.hole (queue_id, version, on_slot, granule);

ALTER TABLE slotkeeper.hole REPLICA IDENTITY FULL;

COMMENT ON TABLE slotkeeper.hole IS
    'Granules in which a seat was given back, for searches that jump over full runs, and over what bookings say is full: to delete one by hand hides its seat.';
COMMENT ON COLUMN slotkeeper.hole.on_slot IS 'Whether the granule holds a slot of the timetable.';

-- All durable state travels with pg_dump. (One call a statement: each updates the same catalog row.)
SELECT pg_extension_config_dump('slotkeeper.queue', '');
SELECT pg_extension_config_dump('slotkeeper.dropped_queue', '');
SELECT pg_extension_config_dump('slotkeeper.booking', '');
SELECT pg_extension_config_dump('slotkeeper.full_run', '');
SELECT pg_extension_config_dump('slotkeeper.hole', '');
SELECT pg_extension_config_dump('slotkeeper.queue_id_seq', '');
SELECT pg_extension_config_dump('slotkeeper.queue_version_seq', '');
SELECT pg_extension_config_dump('slotkeeper.booking_id_seq', '');
