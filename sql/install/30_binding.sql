-- Bindings: which tables of the application hold scheduled content or queues. What is durable goes by names, so that a
-- dump carries it; object ids are remembered beside it, for this one database only.

CREATE SEQUENCE slotkeeper.binding_id_seq AS bigint;

CREATE TABLE slotkeeper.binding (
    binding_id   bigint PRIMARY KEY DEFAULT nextval('slotkeeper.binding_id_seq'),
    kind         text NOT NULL CHECK (kind IN ('content', 'queues')),
    source       text COLLATE "C" NOT NULL,
    table_schema text COLLATE "C" NOT NULL,
    table_name   text COLLATE "C" NOT NULL,
    options      jsonb NOT NULL,
    attached_at  timestamptz NOT NULL DEFAULT now(),
    attached_by  text NOT NULL,
    dropped_at   timestamptz,
    unbooked     text,
    UNIQUE (source, kind)
) USING heap;

ALTER SEQUENCE slotkeeper.binding_id_seq OWNED BY slotkeeper.binding.binding_id;

COMMENT ON TABLE slotkeeper.binding IS 'Tables of the application that hold scheduled content, or queues.';
COMMENT ON COLUMN slotkeeper.binding.source IS 'The p_source of its contents: schema and table as they were named when it was attached.';
COMMENT ON COLUMN slotkeeper.binding.table_schema IS 'Schema of the table now; follows a rename.';
COMMENT ON COLUMN slotkeeper.binding.options IS 'As given to attach_table or attach_queues, with the names in predicates qualified.';
COMMENT ON COLUMN slotkeeper.binding.unbooked IS 'Of rows that ask for a seat and cannot be booked: how many and why, as they were when attached or reconciled. NULL where there were none.';
COMMENT ON COLUMN slotkeeper.binding.dropped_at IS 'When the table was dropped; NULL while it is there.';

-- Not dumped: object ids and the state of triggers mean nothing in another database.
CREATE TABLE slotkeeper.bound_relation (
    binding_id bigint NOT NULL REFERENCES slotkeeper.binding ON DELETE CASCADE,
    relid      oid NOT NULL,
    is_root    boolean NOT NULL,
    filenode   oid NOT NULL,
    triggers   text NOT NULL,
    predicates text,
    PRIMARY KEY (binding_id, relid)
) USING heap;

COMMENT ON TABLE slotkeeper.bound_relation IS 'Bound tables and their partitions as they were when attached or reconciled.';
COMMENT ON COLUMN slotkeeper.bound_relation.is_root IS 'Whether it is the table itself, or a partition of it.';
COMMENT ON COLUMN slotkeeper.bound_relation.filenode IS 'Of a partition: changes when it is truncated.';
COMMENT ON COLUMN slotkeeper.bound_relation.triggers IS 'Digest of slotkeeper''s triggers; changes when one is disabled, even if it is enabled again. refused: a replicated row was not followed.';
COMMENT ON COLUMN slotkeeper.bound_relation.predicates IS 'Of the table itself: digest of the predicates as they read then; changes when something that they name is renamed.';

CREATE TABLE slotkeeper.collision (
    source     text COLLATE "C" NOT NULL,
    content_id text COLLATE "C" NOT NULL,
    queue_id   bigint NOT NULL,
    at         timestamptz NOT NULL,
    found_at   timestamptz NOT NULL,
    found_by   text NOT NULL CHECK (found_by IN ('attach', 'reconcile', 'replica')),
    PRIMARY KEY (source, content_id, queue_id)
) USING heap;

COMMENT ON TABLE slotkeeper.collision IS 'Rows of bound tables that occupy an instant which another content holds: they have no seat.';
COMMENT ON COLUMN slotkeeper.collision.found_by IS 'attach or reconcile: the row was there already; replica: another server had stored it.';

-- Rows of the application that could not be told what became of their contents. What the ledger says is true all the same.
CREATE TABLE slotkeeper.untold (
    queue_id   bigint NOT NULL,
    failed_at  timestamptz NOT NULL,
    source     text COLLATE "C" NOT NULL,
    content_id text COLLATE "C" NOT NULL,
    state      text NOT NULL,
    error      text NOT NULL,
    PRIMARY KEY (content_id, source, queue_id)
) USING heap;

COMMENT ON TABLE slotkeeper.untold IS
    'Rows of bound tables that do not say what became of their contents, because writing it failed. reconcile_table() writes it.';
COMMENT ON COLUMN slotkeeper.untold.state IS 'Which of the binding''s "states" was to be written.';

CREATE TABLE slotkeeper.move (
    booking_id     bigint NOT NULL,
    moved_at       timestamptz NOT NULL,
    from_at        timestamptz NOT NULL,
    to_at          timestamptz NOT NULL,
    conflicts_with text,
    moved_by       text NOT NULL
) USING heap;
CREATE INDEX move_booking ON slotkeeper.move (booking_id, moved_at);
ALTER TABLE slotkeeper.move REPLICA IDENTITY FULL;

COMMENT ON TABLE slotkeeper.move IS 'Contents that got another instant than they had, or than was asked for; pruned by prune_history().';
COMMENT ON COLUMN slotkeeper.move.from_at IS 'The instant before, or the one asked for.';
COMMENT ON COLUMN slotkeeper.move.conflicts_with IS 'Content that held the instant asked for; NULL where the move was wanted.';
COMMENT ON COLUMN slotkeeper.move.moved_by IS 'Role that moved it.';

-- The digest that bound_relation keeps: a trigger's row is written anew when it is disabled or enabled. A table may have
-- triggers of several kinds; each binding has its own.
CREATE FUNCTION slotkeeper.trigger_digest(p_relid oid, p_kind text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT md5(coalesce(string_agg(format('%s %s %s', t.oid, t.tgenabled, t.xmin), ',' ORDER BY t.tgname), ''))
    FROM pg_trigger AS t
    JOIN pg_proc AS p ON p.oid = t.tgfoid
    WHERE t.tgrelid = p_relid AND p.pronamespace = 'slotkeeper'::regnamespace
      AND p.proname = CASE p_kind WHEN 'content' THEN 'guard_row' ELSE 'follow_queue' END
$body$;

COMMENT ON FUNCTION slotkeeper.trigger_digest(oid, text) IS 'Changes when one of the triggers of a table''s binding of this kind is made, disabled, enabled or dropped. For binding_health.';

-- What calls read of the predicates is their text, which goes by names; the guard's conditions follow a rename.
CREATE FUNCTION slotkeeper.predicate_digest(p_relid oid) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT md5(string_agg(pg_get_expr(t.tgqual, t.tgrelid), ';' ORDER BY t.tgname))
    FROM pg_trigger AS t
    JOIN pg_proc AS p ON p.oid = t.tgfoid
    WHERE t.tgrelid = p_relid AND p.pronamespace = 'slotkeeper'::regnamespace AND p.proname = 'guard_row'
      AND t.tgqual IS NOT NULL AND t.tgname <> '~slotkeeper_columns'
$body$;

COMMENT ON FUNCTION slotkeeper.predicate_digest(oid) IS 'Changes when what the predicates of a bound table name is called otherwise: a column, a function, an enum''s value. For binding_health.';

-- Triggers fire in the order of their names. (Row level 1, before 2, insert 4, update 16.)
CREATE FUNCTION slotkeeper.late_triggers(p_relid oid) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT string_agg(quote_ident(t.tgname), ', ' ORDER BY t.tgname)
    FROM pg_trigger AS t
    JOIN pg_proc AS p ON p.oid = t.tgfoid
    WHERE t.tgrelid = p_relid AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND p.pronamespace <> 'slotkeeper'::regnamespace
      AND (t.tgtype & 3) = 3 AND (t.tgtype & 20) <> 0 AND t.tgname > '~slotkeeper_'
$body$;

COMMENT ON FUNCTION slotkeeper.late_triggers(oid) IS 'Triggers of a table that may change a row after the guard has seen it. For binding_health.';

-- A broken binding is one whose table may hold rows that the ledger doesn't know, or the other way round.
CREATE VIEW slotkeeper.binding_health AS
SELECT b.source, b.kind, c.oid::regclass AS table_now,
       CASE
           WHEN c.oid IS NULL AND b.dropped_at IS NOT NULL THEN 'dropped'
           WHEN broken.reason IS NULL THEN 'ok'
           ELSE 'broken'
       END AS status,
       broken.reason,
       CASE
           WHEN broken.reason IS NULL THEN NULL
           WHEN broken.reason LIKE 'rows cannot be booked%' THEN
               format('Change these rows, or make what they name; then call slotkeeper.reconcile_table(%L).', c.oid::regclass)
           WHEN broken.reason = shape.reason THEN shape.remedy
           WHEN broken.reason LIKE 'rows don''t say%' THEN
               format('Let the table take what "states" writes; then call slotkeeper.reconcile_table(%L).', c.oid::regclass)
           WHEN broken.reason LIKE 'triggers fire after%' THEN 'Rename them so that they sort before "~slotkeeper_".'
           WHEN c.oid IS NULL OR broken.rebuild THEN format('Call slotkeeper.attach_%s() again.', CASE b.kind WHEN 'content' THEN 'table' ELSE 'queues' END)
           ELSE format('Call slotkeeper.reconcile_table(%L).', c.oid::regclass)
       END AS remedy
FROM slotkeeper.binding AS b
LEFT JOIN slotkeeper.bound_relation AS root ON root.binding_id = b.binding_id AND root.is_root
LEFT JOIN pg_catalog.pg_class AS c
    ON c.oid = coalesce((SELECT known.oid FROM pg_catalog.pg_class AS known WHERE known.oid = root.relid),
                        (SELECT named.oid FROM pg_catalog.pg_class AS named
                         JOIN pg_catalog.pg_namespace AS n ON n.oid = named.relnamespace
                         WHERE n.nspname = b.table_schema AND named.relname = b.table_name AND named.relkind IN ('r', 'p')))
LEFT JOIN LATERAL (
    -- The guard's triggers with a condition only carry it: they are disabled on purpose.
    SELECT count(*) AS triggers,
           count(*) FILTER (WHERE t.tgqual IS NOT NULL) AS conditions,
           count(*) FILTER (WHERE t.tgenabled <> 'A' AND NOT (b.kind = 'content' AND t.tgqual IS NOT NULL)) AS disabled
    FROM pg_catalog.pg_trigger AS t
    JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
    WHERE t.tgrelid = c.oid AND p.pronamespace = 'slotkeeper'::pg_catalog.regnamespace
      AND p.proname = CASE b.kind WHEN 'content' THEN 'guard_row' ELSE 'follow_queue' END
) AS guard ON true
LEFT JOIN LATERAL (
    SELECT string_agg(DISTINCT k.name, ', ') AS names
    FROM (
        SELECT b.options ->> key AS name FROM unnest(ARRAY['content_id', 'at', 'group']) AS key
        WHERE jsonb_typeof(b.options -> key) = 'string'
        UNION ALL
        SELECT b.options ->> key FROM unnest(ARRAY['profile_id', 'platform', 'user_id', 'time_zone', 'timetable']) AS key
        WHERE jsonb_typeof(b.options -> key) = 'string'
        UNION ALL
        SELECT b.options -> 'timetable' ->> key FROM unnest(ARRAY['time', 'hour', 'minute', 'days', 'capacity', 'ref']) AS key
        WHERE jsonb_typeof(b.options -> 'timetable' -> key) = 'string'
        UNION ALL
        SELECT jsonb_object_keys(state.columns) FROM jsonb_each(b.options -> 'states') AS state (name, columns)
        WHERE jsonb_typeof(b.options -> 'states') = 'object' AND jsonb_typeof(state.columns) = 'object'
    ) AS k
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
                      WHERE a.attrelid = c.oid AND a.attname = k.name AND a.attnum > 0 AND NOT a.attisdropped)
) AS missing ON true
LEFT JOIN LATERAL (
    SELECT string_agg(coalesce(p.oid::regclass::text, 'one that was dropped'), ', ') AS names
    FROM slotkeeper.bound_relation AS part
    LEFT JOIN pg_catalog.pg_class AS p ON p.oid = part.relid
    LEFT JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = part.relid
    WHERE part.binding_id = b.binding_id AND NOT part.is_root
      AND (p.oid IS NULL OR i.inhrelid IS NULL OR p.relfilenode <> part.filenode
           OR slotkeeper.trigger_digest(p.oid, b.kind) <> part.triggers)
) AS partitions ON true
LEFT JOIN LATERAL (
    SELECT format('%s, such as %s (%s)', count(*), min(u.content_id), (array_agg(u.error ORDER BY u.content_id))[1]) AS rows
    FROM slotkeeper.untold AS u
    WHERE b.kind = 'content' AND u.source = b.source
    HAVING count(*) > 0
) AS untold ON true
LEFT JOIN LATERAL (
    SELECT slotkeeper.late_triggers(c.oid) AS names WHERE b.kind = 'content'
) AS late ON true
LEFT JOIN LATERAL (
    SELECT root.predicates <> slotkeeper.predicate_digest(c.oid) AS holds WHERE b.kind = 'content'
) AS renamed ON true
LEFT JOIN LATERAL (
    -- What attach_table refuses, and a table may become later.
    SELECT *
    FROM (VALUES
        (c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = c.oid),
         'tables inherit from it, whose rows are not guarded', 'Partition the table instead, or end the inheritance.'),
        (c.relpersistence = 'u',
         'it is unlogged: a crash empties it, and leaves its seats booked', format('ALTER TABLE %s SET LOGGED.', c.oid::regclass)),
        (NOT EXISTS (
             SELECT
             FROM pg_catalog.pg_index AS i
             JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attname = b.options ->> 'content_id' AND a.attnum = i.indkey[0]
             LEFT JOIN pg_catalog.pg_partitioned_table AS p ON p.partrelid = c.oid
             WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
               AND NOT EXISTS (SELECT FROM generate_series(1, i.indnkeyatts - 1) AS n
                               WHERE i.indkey[n] = ANY (p.partattrs::int2[]) IS NOT TRUE)),
         format('column %I has no unique index', b.options ->> 'content_id'), 'Make one, so that no two rows are one content.')
    ) AS found (holds, reason, remedy)
    WHERE b.kind = 'content' AND found.holds
    LIMIT 1
) AS shape ON true
CROSS JOIN LATERAL (
    SELECT CASE
               WHEN c.oid IS NULL THEN 'the table does not exist'
               WHEN missing.names IS NOT NULL THEN 'columns are missing: ' || missing.names
               WHEN guard.triggers = 0 THEN 'the triggers are missing'
               WHEN b.kind = 'content' AND guard.conditions < 4 THEN 'triggers are missing, as when a column that a predicate reads was dropped'
               WHEN guard.disabled > 0 THEN 'triggers are disabled'
               WHEN b.dropped_at IS NOT NULL THEN 'the table was dropped and made again'
               WHEN renamed.holds THEN 'something that a predicate names has another name now'
               WHEN shape.reason IS NOT NULL THEN shape.reason
               WHEN late.names IS NOT NULL THEN 'triggers fire after the guard: ' || late.names
               WHEN root.triggers = 'refused' THEN 'a replicated row could not be followed'
               WHEN root.triggers <> slotkeeper.trigger_digest(c.oid, b.kind) THEN 'triggers were disabled or changed for a while'
               WHEN partitions.names IS NOT NULL THEN 'partitions were truncated, detached or changed: ' || partitions.names
               WHEN b.unbooked IS NOT NULL THEN 'rows cannot be booked: ' || b.unbooked
               WHEN untold.rows IS NOT NULL THEN 'rows don''t say what became of their contents: ' || untold.rows
           END AS reason,
           coalesce(missing.names IS NOT NULL OR b.dropped_at IS NOT NULL OR guard.triggers = 0 OR renamed.holds
                    OR b.kind = 'content' AND guard.conditions < 4, false) AS rebuild
) AS broken;

COMMENT ON VIEW slotkeeper.binding_health IS 'One row per bound table: ok, broken (with reason and remedy) or dropped.';

CREATE VIEW slotkeeper.slot_collisions AS
SELECT c.source, c.content_id, q.profile_id, q.platform, c.at, c.found_at, c.found_by,
       (SELECT array_agg(b.content_id ORDER BY b.seat) FROM slotkeeper.booking AS b
        WHERE b.queue_id = c.queue_id AND b.released_at IS NULL AND b.scheduled_at = c.at) AS held_by
FROM slotkeeper.collision AS c
JOIN slotkeeper.queue AS q ON q.queue_id = c.queue_id
-- A call may have given it a seat since.
WHERE NOT EXISTS (SELECT FROM slotkeeper.booking AS own
                  WHERE own.content_id = c.content_id AND own.source = c.source AND own.queue_id = c.queue_id AND own.released_at IS NULL);

COMMENT ON VIEW slotkeeper.slot_collisions IS 'Rows of bound tables without a seat, because another content holds their instant. move_collisions() gives them another.';

-- A dropped table's contents don't hold seats for ever.
CREATE FUNCTION slotkeeper.forget_dropped() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    gone record;
BEGIN
    IF to_regclass('slotkeeper.bound_relation') IS NULL THEN
        RETURN; -- the extension itself has gone
    END IF;
    FOR gone IN
        SELECT b.binding_id, b.source, b.kind
        FROM pg_event_trigger_dropped_objects() AS d
        JOIN slotkeeper.bound_relation AS r ON r.relid = d.objid AND r.is_root
        JOIN slotkeeper.binding AS b ON b.binding_id = r.binding_id
        WHERE d.classid = 'pg_class'::regclass AND d.objsubid = 0
    LOOP
        IF gone.kind = 'content' THEN
            PERFORM slotkeeper.release_source(gone.source);
        END IF;
        UPDATE slotkeeper.binding SET dropped_at = clock_timestamp() WHERE binding_id = gone.binding_id;
        DELETE FROM slotkeeper.bound_relation WHERE binding_id = gone.binding_id;
    END LOOP;
END
$body$;

COMMENT ON FUNCTION slotkeeper.forget_dropped() IS 'Event trigger: gives the seats of a dropped table''s contents back.';

-- What is durable goes by names: they follow a rename, so that a dump carries the table's present one. A partition that is
-- made is known from then on; one that was a table before may come with rows, and shows until it is reconciled.
CREATE FUNCTION slotkeeper.follow_ddl() RETURNS event_trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    IF to_regclass('slotkeeper.bound_relation') IS NULL THEN
        RETURN; -- it is the extension itself that is being made or dropped
    END IF;
    UPDATE slotkeeper.binding AS b
    SET table_schema = n.nspname, table_name = c.relname
    FROM slotkeeper.bound_relation AS r
    JOIN pg_class AS c ON c.oid = r.relid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE r.binding_id = b.binding_id AND r.is_root
      AND (b.table_schema, b.table_name) IS DISTINCT FROM (n.nspname::text, c.relname::text);
    INSERT INTO slotkeeper.bound_relation (binding_id, relid, is_root, filenode, triggers)
    SELECT root.binding_id, part.oid, false, CASE tg_tag WHEN 'CREATE TABLE' THEN part.relfilenode ELSE 0::oid END, slotkeeper.trigger_digest(part.oid, b.kind)
    FROM slotkeeper.bound_relation AS root
    JOIN slotkeeper.binding AS b ON b.binding_id = root.binding_id
    JOIN pg_class AS c ON c.oid = root.relid AND c.relkind = 'p'
    CROSS JOIN LATERAL pg_partition_tree(c.oid) AS tree
    JOIN pg_class AS part ON part.oid = tree.relid
    WHERE root.is_root AND part.oid <> c.oid
      AND NOT EXISTS (SELECT FROM slotkeeper.bound_relation AS known
                      WHERE known.binding_id = root.binding_id AND known.relid = part.oid);
END
$body$;

COMMENT ON FUNCTION slotkeeper.follow_ddl() IS 'Event trigger: the binding of a table that was renamed, or whose schema was, names it as it is called now; new partitions become known.';

CREATE EVENT TRIGGER slotkeeper_follow_ddl ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'ALTER SCHEMA', 'CREATE TABLE')
    EXECUTE FUNCTION slotkeeper.follow_ddl();

CREATE EVENT TRIGGER slotkeeper_forget_dropped ON sql_drop
    WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED')
    EXECUTE FUNCTION slotkeeper.forget_dropped();

SELECT pg_extension_config_dump('slotkeeper.binding', '');
SELECT pg_extension_config_dump('slotkeeper.collision', '');
SELECT pg_extension_config_dump('slotkeeper.untold', '');
SELECT pg_extension_config_dump('slotkeeper.move', '');
SELECT pg_extension_config_dump('slotkeeper.binding_id_seq', '');
