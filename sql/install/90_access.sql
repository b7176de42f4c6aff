-- Who may do what. Nothing is granted to PUBLIC and no role is made.

CREATE FUNCTION slotkeeper.grant_access(p_role name, p_kind text) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $body$
-- A definer: GRANT on these functions is their owner's to give. It evaluates nothing of the caller's; the role's name
-- is quoted by the server.
DECLARE
    reader constant text[] := ARRAY['preview_slots', 'trigger_digest', 'predicate_digest', 'late_triggers'];
    writer constant text[] := reader || ARRAY['assign_next_available_slot', 'assign_slots', 'schedule_content',
                                              'reschedule_content', 'unschedule_content',
                                              'begin_request', 'extend_request', 'finish_request', 'abandon_request',
                                              'idempotent_insert', 'unique_slug', 'attach_slug', 'write_slug',
                                              'publish_draft', 'claim_draft'];
    worker constant text[] := reader || ARRAY['claim_due_content', 'claim_content', 'begin_publish', 'extend_lease',
                                              'confirm_publish', 'fail_publish', 'resolve_unknown', 'retry_content'];
    admin  constant text[] := writer || worker
                              || ARRAY['create_queue', 'alter_queue', 'set_queue_status', 'drop_queue',
                                       'check_table', 'attach_table', 'detach_table', 'reconcile_table',
                                       'move_collisions', 'guard_row', 'attach_queues', 'follow_queue',
                                       'forget_user', 'purge_expired',
                                       'set_platform', 'resume_after_restore', 'prune_history'];
    -- Every kind may read these: they show no more than the functions for readers do.
    views  constant text[] := ARRAY['binding_health', 'slot_collisions', 'content_status',
                                    'request_stats', 'recent_requests'];
    granted text[];
    shown name;
    function regprocedure;
BEGIN
    IF p_role IS NULL OR p_kind IS NULL THEN
        RAISE EXCEPTION '% must not be null', CASE WHEN p_role IS NULL THEN 'p_role' ELSE 'p_kind' END
            USING ERRCODE = '22004', DETAIL = 'A role and a kind are required.',
                  HINT = 'Call slotkeeper.grant_access(''role'', ''kind'').';
    END IF;
    granted := CASE p_kind WHEN 'reader' THEN reader WHEN 'worker' THEN worker
                           WHEN 'user' THEN writer WHEN 'admin' THEN admin END;
    IF granted IS NULL THEN
        RAISE EXCEPTION 'p_kind is not valid: "%"', p_kind
            USING ERRCODE = '22023', DETAIL = 'p_kind takes some values only, and this is none of them.',
                  HINT = 'Allowed: reader, user, worker, admin.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = p_role) THEN
        RAISE EXCEPTION 'role "%" does not exist', p_role
            USING ERRCODE = '42704', DETAIL = 'Names of roles are taken as they are written, upper and lower case included.',
                  HINT = 'Create it first; access is granted to roles, never to PUBLIC.';
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA slotkeeper TO %I', p_role);
    FOR function IN
        SELECT p.oid FROM pg_proc AS p
        WHERE p.pronamespace = 'slotkeeper'::regnamespace AND p.proname = ANY (granted)
        ORDER BY p.proname
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', function, p_role);
    END LOOP;
    FOREACH shown IN ARRAY views LOOP
        EXECUTE format('GRANT SELECT ON slotkeeper.%I TO %I', shown, p_role);
    END LOOP;
    RETURN jsonb_build_object('outcome', 'granted', 'role', p_role, 'kind', p_kind);
END
$body$;

COMMENT ON FUNCTION slotkeeper.grant_access(name, text) IS
'Grants a role what its kind needs in this database: reader (preview, views), user (reader, and booking), worker (reader, and publishing), admin (everything). Grants add up.
Callable by the database''s owner and the installing role. Outcome: granted. Errors: 42704 no such role; 22023 kind; 22004 null.';

-- What anybody but the owner may do with something of slotkeeper's.
CREATE VIEW slotkeeper.access_entry AS
SELECT format('%s %s', kind, name) AS object, owner, entry.grantee, entry.grantor
FROM (
    SELECT 'FUNCTION' AS kind, p.oid::regprocedure::text AS name, p.proowner AS owner, p.proacl AS acl
    FROM pg_proc AS p WHERE p.pronamespace = 'slotkeeper'::regnamespace
    UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass::text, c.relowner, c.relacl
    FROM pg_class AS c WHERE c.relnamespace = 'slotkeeper'::regnamespace AND c.relkind IN ('r', 'v', 'S')
    UNION ALL
    SELECT 'SCHEMA', n.nspname::text, n.nspowner, n.nspacl
    FROM pg_namespace AS n WHERE n.nspname = 'slotkeeper'
) AS thing, LATERAL aclexplode(acl) AS entry
WHERE entry.grantee <> owner;

COMMENT ON VIEW slotkeeper.access_entry IS 'Who may do something with what of slotkeeper''s, and who has granted it.';

CREATE FUNCTION slotkeeper.revoke_access(p_role name) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $body$
-- A definer, as grant_access: what an owner has granted no other role can take away, the database's owner neither.
DECLARE
    role oid;
    kept oid[];
    thing text;
    others jsonb;
BEGIN
    IF p_role IS NULL THEN
        RAISE EXCEPTION 'p_role must not be null'
            USING ERRCODE = '22004', DETAIL = 'A role is required.', HINT = 'Call slotkeeper.revoke_access(''role'').';
    END IF;
    SELECT r.oid INTO role FROM pg_roles AS r WHERE r.rolname = p_role;
    IF role IS NULL THEN
        RAISE EXCEPTION 'role "%" does not exist', p_role
            USING ERRCODE = '42704', DETAIL = 'Names of roles are taken as they are written, upper and lower case included.',
                  HINT = 'Nothing is granted to a role that is not there, nor to PUBLIC.';
    END IF;
    SELECT ARRAY[e.extowner, n.nspowner, 'pg_database_owner'::regrole::oid] INTO kept
    FROM pg_extension AS e, pg_namespace AS n WHERE e.extname = 'slotkeeper' AND n.nspname = 'slotkeeper';
    IF role = ANY (kept) THEN
        RAISE EXCEPTION 'role "%" keeps its access', p_role
            USING ERRCODE = '22023', DETAIL = 'It has installed slotkeeper, or decides for the database who gets in.',
                  HINT = 'Name a role that slotkeeper.grant_access() has let in.';
    END IF;
    FOR thing IN
        SELECT DISTINCT a.object FROM slotkeeper.access_entry AS a WHERE a.grantee = role AND a.grantor = a.owner
        ORDER BY a.object
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %I', thing, p_role);
    END LOOP;
    SELECT jsonb_agg(DISTINCT a.grantor::regrole::text) INTO others FROM slotkeeper.access_entry AS a WHERE a.grantee = role;
    RETURN jsonb_build_object('outcome', 'revoked', 'role', p_role)
           || CASE WHEN others IS NULL THEN '{}' ELSE jsonb_build_object('still_granted_by', others) END;
END
$body$;

COMMENT ON FUNCTION slotkeeper.revoke_access(name) IS
'Takes from a role all that grant_access has given it in this database, of whatever kind.
Callable by the database''s owner and the installing role. Outcome: revoked, with still_granted_by: roles that have granted something themselves, as a restore does, and can take it back with REVOKE. Errors: 42704 no such role; 22023 a role that keeps its access; 22004 null.';

-- Whatever default privileges were in force when this script ran, they stop here.
DO $body$
DECLARE
    stray record;
BEGIN
    REVOKE ALL ON SCHEMA slotkeeper FROM PUBLIC;
    REVOKE ALL ON ALL TABLES IN SCHEMA slotkeeper FROM PUBLIC;
    REVOKE ALL ON ALL SEQUENCES IN SCHEMA slotkeeper FROM PUBLIC;
    REVOKE ALL ON ALL FUNCTIONS IN SCHEMA slotkeeper FROM PUBLIC;
    FOR stray IN
        SELECT DISTINCT a.object, a.grantee::regrole AS role FROM slotkeeper.access_entry AS a WHERE a.grantee <> 0
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', stray.object, stray.role);
    END LOOP;
END
$body$;

-- The installing role may do everything and pass it on. It may write the tables, because a restore does; but not put
-- triggers or foreign keys on them, for those would run with the owner's rights.
GRANT USAGE ON SCHEMA slotkeeper TO @extowner@ WITH GRANT OPTION;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA slotkeeper TO @extowner@ WITH GRANT OPTION;
GRANT SELECT, USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA slotkeeper TO @extowner@ WITH GRANT OPTION;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA slotkeeper TO @extowner@ WITH GRANT OPTION;

-- The database's owner, whoever that is, decides who gets in.
GRANT USAGE ON SCHEMA slotkeeper TO pg_database_owner;
GRANT EXECUTE ON FUNCTION slotkeeper.grant_access(name, text), slotkeeper.revoke_access(name) TO pg_database_owner;
