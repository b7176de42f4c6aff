-- Queues that follow a table of the application. A writer may not see all rows that make a queue (row-level security),
-- and nothing of the application's is read with slotkeeper's rights: so what each row says is kept here.

CREATE TABLE slotkeeper.bound_queue_row (
    binding_id bigint NOT NULL,
    profile_id text COLLATE "C" NOT NULL,
    platform   text COLLATE "C" NOT NULL,
    time_zone  text COLLATE "C" NOT NULL,
    rule       jsonb NOT NULL,
    status     text NOT NULL CHECK (status IN ('active', 'paused', 'disabled', 'needs_refresh'))
) USING heap;
CREATE INDEX bound_queue_row_queue ON slotkeeper.bound_queue_row (profile_id, platform);
ALTER TABLE slotkeeper.bound_queue_row REPLICA IDENTITY FULL;

COMMENT ON TABLE slotkeeper.bound_queue_row IS 'What the rows of tables given to attach_queues() say: one row each, told apart by nothing but what they say.';
COMMENT ON COLUMN slotkeeper.bound_queue_row.time_zone IS 'As the row has it.';
COMMENT ON COLUMN slotkeeper.bound_queue_row.rule IS 'A timetable where a row is a queue; {"time", "days", "capacity", "ref"} where it is a slot, null where it has no time.';
COMMENT ON COLUMN slotkeeper.bound_queue_row.status IS 'The first status whose predicate held when the row was written, else active.';

CREATE TABLE slotkeeper.bound_queue (
    profile_id text COLLATE "C" NOT NULL,
    platform   text COLLATE "C" NOT NULL,
    binding_id bigint NOT NULL,
    edits      bigint NOT NULL DEFAULT 1,
    status     text NOT NULL CHECK (status IN ('active', 'paused', 'disabled', 'needs_refresh')),
    reason     text
) USING heap;
-- Edits of one queue take turns: whoever has written here and not ended is waited for.
CREATE UNIQUE INDEX bound_queue_name ON slotkeeper.bound_queue (profile_id, platform);
ALTER TABLE slotkeeper.bound_queue REPLICA IDENTITY USING INDEX bound_queue_name;

COMMENT ON TABLE slotkeeper.bound_queue IS 'Queues that follow a table given to attach_queues().';
COMMENT ON COLUMN slotkeeper.bound_queue.edits IS 'How often rows of the queue were edited; counting them makes two edits at a time meet here.';
COMMENT ON COLUMN slotkeeper.bound_queue.status IS 'What the table said last; a status set by hand stays until the table says another.';

SELECT pg_extension_config_dump('slotkeeper.bound_queue_row', '');
SELECT pg_extension_config_dump('slotkeeper.bound_queue', '');
