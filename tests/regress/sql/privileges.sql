-- Who may do what, and that nothing of a caller's runs with slotkeeper's rights.
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS regress_slotkeeper_evil CASCADE;
DROP ROLE IF EXISTS regress_sk_none, regress_sk_reader, regress_sk_user, regress_sk_worker, regress_sk_admin, regress_sk_owner, regress_sk_attacker, "regress_sk ""odd"" role";
RESET client_min_messages;
\pset format unaligned
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
CREATE ROLE regress_sk_none;
CREATE ROLE regress_sk_reader;
CREATE ROLE regress_sk_user;
CREATE ROLE regress_sk_worker;
CREATE ROLE regress_sk_admin;
CREATE ROLE regress_sk_attacker;
CREATE ROLE "regress_sk ""odd"" role";
SELECT slotkeeper.create_queue('privileges', 'x', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome;

-- What each call comes to, for the role that is set.
CREATE FUNCTION public.regress_sk_try() RETURNS TABLE (call text, result text) LANGUAGE plpgsql AS $$
DECLARE
    reply jsonb;
BEGIN
    FOREACH call IN ARRAY ARRAY[
        $c$create_queue('privileges', 'y', 'UTC', '{}')$c$, $c$alter_queue('privileges', 'x')$c$, $c$set_queue_status('privileges', 'x', 'active')$c$,
        $c$assign_next_available_slot('privileges', 'x', 'c1')$c$, $c$assign_next_available_slot('privileges', 'x', 'c1', p_dry_run => true)$c$,
        $c$assign_next_available_slot('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, 'x', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid)$c$,
        $c$assign_slots('[{"profile_id": "privileges", "platform": "x", "content_id": "c2"}]')$c$, $c$schedule_content('privileges', 'x', 'c3', '2026-02-01T00:00:00Z')$c$,
        $c$reschedule_content('c3', '2026-02-02T00:00:00Z', p_profile_id => 'privileges')$c$, $c$unschedule_content('c3', 'privileges')$c$,
        $c$drop_queue('privileges', 'y')$c$, $c$grant_access('regress_sk_none', 'reader')$c$]
    LOOP
        BEGIN
            EXECUTE 'SELECT slotkeeper.' || call INTO reply;
            result := reply ->> 'outcome';
        EXCEPTION WHEN OTHERS THEN result := SQLSTATE || ' ' || SQLERRM;
        END;
        call := split_part(call, '(', 1);
        RETURN NEXT;
    END LOOP;
    call := 'preview_slots';
    BEGIN
        SELECT count(*) || ' slots' INTO result FROM slotkeeper.preview_slots('privileges', 'x', p_count => 2);
    EXCEPTION WHEN OTHERS THEN result := SQLSTATE || ' ' || SQLERRM;
    END;
    RETURN NEXT;
END
$$;
-- Tables and sequences, read and written, for the role that is set: what was allowed.
CREATE FUNCTION public.regress_sk_touch() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    command text;
BEGIN
    FOR command IN
        SELECT format(c, r.oid::regclass)
        FROM pg_class AS r, unnest(ARRAY['SELECT 1 FROM %s', 'INSERT INTO %s DEFAULT VALUES', 'DELETE FROM %s', 'TRUNCATE %s', 'LOCK TABLE %s', 'SELECT 1 FROM %s FOR UPDATE',
             'CREATE TRIGGER t BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()', 'ALTER TABLE %s DISABLE TRIGGER ALL', 'COMMENT ON TABLE %s IS NULL']) AS c
        WHERE r.relnamespace = 'slotkeeper'::regnamespace AND r.relkind = 'r'
        UNION ALL
        SELECT format(c, r.oid::regclass)
        FROM pg_class AS r, unnest(ARRAY['SELECT last_value FROM %s', 'SELECT nextval(%L)', 'SELECT setval(%L, 1)', 'ALTER SEQUENCE %s RESTART']) AS c
        WHERE r.relnamespace = 'slotkeeper'::regnamespace AND r.relkind = 'S'
        UNION ALL
        SELECT unnest(ARRAY['CREATE FUNCTION slotkeeper.assign_next_available_slot(unknown) RETURNS int LANGUAGE sql AS ''SELECT 1''', 'CREATE TABLE slotkeeper.t ()', 'ALTER SCHEMA slotkeeper OWNER TO CURRENT_USER',
             'DROP SCHEMA slotkeeper CASCADE', 'ALTER FUNCTION slotkeeper.unschedule_content STRICT', 'CREATE OR REPLACE FUNCTION slotkeeper.grant_access(name, text) RETURNS jsonb LANGUAGE sql AS ''SELECT NULL::jsonb''',
             'ALTER EXTENSION slotkeeper DROP TABLE slotkeeper.booking', 'DROP EXTENSION slotkeeper', 'COMMENT ON SCHEMA slotkeeper IS NULL'])
    LOOP
        BEGIN
            EXECUTE command;
            RETURN NEXT command;
        EXCEPTION WHEN insufficient_privilege THEN NULL;
                  WHEN OTHERS THEN RETURN NEXT command || ': ' || SQLSTATE || ' ' || SQLERRM;
        END;
    END LOOP;
END
$$;

-- Nobody has anything without a grant.
SET SESSION AUTHORIZATION regress_sk_none;
SELECT * FROM public.regress_sk_try();
SELECT * FROM public.regress_sk_touch() AS allowed;
RESET SESSION AUTHORIZATION;
SELECT proname, count(*) FROM pg_proc WHERE pronamespace = 'slotkeeper'::regnamespace AND has_function_privilege('regress_sk_none', oid, 'EXECUTE') GROUP BY proname;
SELECT has_schema_privilege('regress_sk_none', 'slotkeeper', 'USAGE') AS usage, has_schema_privilege('regress_sk_none', 'slotkeeper', 'CREATE') AS "create";
-- Not even with the schema opened to all.
BEGIN;
GRANT USAGE ON SCHEMA slotkeeper TO PUBLIC;
SET LOCAL SESSION AUTHORIZATION regress_sk_none;
SELECT * FROM public.regress_sk_try();
SELECT * FROM public.regress_sk_touch() AS allowed;
ROLLBACK;

-- Each kind has its functions, and no others.
SELECT slotkeeper.grant_access('regress_sk_reader', 'reader') AS reply;
SELECT slotkeeper.grant_access('regress_sk_user', 'user') AS reply;
SELECT slotkeeper.grant_access('regress_sk_worker', 'worker') AS reply;
SELECT slotkeeper.grant_access('regress_sk_admin', 'admin') AS reply;
SELECT slotkeeper.grant_access('regress_sk "odd" role', 'user') AS reply;
SELECT r.rolname, string_agg(DISTINCT p.proname::text COLLATE "C", ' ' ORDER BY p.proname::text COLLATE "C") AS functions
FROM pg_proc AS p, LATERAL aclexplode(p.proacl) AS a JOIN pg_roles AS r ON r.oid = a.grantee
WHERE p.pronamespace = 'slotkeeper'::regnamespace AND r.rolname LIKE 'regress_sk%' GROUP BY r.rolname ORDER BY r.rolname;
SELECT count(*) AS grantable_or_on_tables
FROM (SELECT (aclexplode(proacl)).* , 'f' AS kind FROM pg_proc WHERE pronamespace = 'slotkeeper'::regnamespace
      UNION ALL SELECT (aclexplode(relacl)).*, 'r' FROM pg_class WHERE relnamespace = 'slotkeeper'::regnamespace AND relkind <> 'v'
      UNION ALL SELECT (aclexplode(nspacl)).*, 'n' FROM pg_namespace WHERE nspname = 'slotkeeper') AS a
JOIN pg_roles AS r ON r.oid = a.grantee WHERE rolname LIKE 'regress_sk%' AND (is_grantable OR kind = 'r' OR privilege_type NOT IN ('EXECUTE', 'USAGE'));
-- The views may be read, by every kind.
SELECT c.relname AS view, string_agg(DISTINCT privilege_type, ',') AS rights, bool_or(is_grantable) AS grantable, count(*) AS roles
FROM pg_class AS c, LATERAL aclexplode(c.relacl) AS a JOIN pg_roles AS r ON r.oid = a.grantee
WHERE c.relnamespace = 'slotkeeper'::regnamespace AND c.relkind = 'v' AND r.rolname LIKE 'regress_sk%' GROUP BY c.relname ORDER BY c.relname COLLATE "C";
SET SESSION AUTHORIZATION regress_sk_reader;
SELECT * FROM public.regress_sk_try();
SELECT * FROM public.regress_sk_touch() AS allowed;
SET SESSION AUTHORIZATION regress_sk_worker;
SELECT * FROM public.regress_sk_try();
SELECT * FROM public.regress_sk_touch() AS allowed;
SET SESSION AUTHORIZATION regress_sk_user;
SELECT * FROM public.regress_sk_try();
SELECT * FROM public.regress_sk_touch() AS allowed;
SET SESSION AUTHORIZATION regress_sk_admin;
SELECT * FROM public.regress_sk_try();
SELECT * FROM public.regress_sk_touch() AS allowed;
RESET SESSION AUTHORIZATION;
-- Whoever gave a seat back is named, as he was acting.
SELECT DISTINCT released_by FROM slotkeeper.booking JOIN slotkeeper.queue USING (queue_id) WHERE profile_id = 'privileges' AND released_at IS NOT NULL ORDER BY released_by;
-- Grants add up, and can be given twice.
SELECT slotkeeper.grant_access('regress_sk_reader', 'reader') ->> 'outcome' AS outcome, slotkeeper.grant_access('regress_sk_reader', 'user') ->> 'kind' AS kind;
SELECT has_function_privilege('regress_sk_reader', 'slotkeeper.assign_slots(jsonb, text)', 'EXECUTE') AS user_now;

-- grant_access: its errors; and only for those who own the database or installed.
DO $$
DECLARE
    c text; detail text; hint text;
BEGIN
    FOREACH c IN ARRAY ARRAY[$c$('regress_sk_nobody', 'user')$c$, $c$('regress_sk_user', 'superuser')$c$, $c$('regress_sk_user', '')$c$, $c$('regress_sk_user', 'User')$c$, $c$(NULL, 'user')$c$, $c$('regress_sk_user', NULL)$c$,
        $c$('public', 'user')$c$, $c$('', 'user')$c$, $c$('regress_sk_user; DROP TABLE slotkeeper.queue', 'user')$c$, $c$('current_user', 'user')$c$]
    LOOP
        BEGIN
            EXECUTE 'SELECT slotkeeper.grant_access' || c;
            RAISE NOTICE '%: granted', c;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
            RAISE NOTICE '%: % %', c, SQLSTATE, concat_ws(' / ', SQLERRM, nullif(detail, ''), nullif(hint, ''));
        END;
    END LOOP;
END
$$;

-- slotkeeper.now is the superuser's: not while the library is loaded, and not before.
\c -
SET SESSION AUTHORIZATION regress_sk_user;
SET slotkeeper.now = '2001-01-01T00:00:00+00:00';
SELECT slotkeeper.assign_next_available_slot('privileges', 'x', 'early', p_dry_run => true) ->> 'scheduled_at' > '2026' AS "the real clock";
SHOW slotkeeper.now;
SET slotkeeper.now = '2001-01-01T00:00:00+00:00';
SET LOCAL slotkeeper.now = '2001-01-01T00:00:00+00:00';
SELECT set_config('slotkeeper.now', '2001-01-01T00:00:00+00:00', false);
ALTER ROLE regress_sk_user SET slotkeeper.now = '2001-01-01T00:00:00+00:00';
CREATE FUNCTION pg_temp.early() RETURNS text LANGUAGE sql SET slotkeeper.now = '2001-01-01T00:00:00+00:00' AS $$ SELECT 'set' $$;
SELECT slotkeeper.assign_next_available_slot('privileges', 'x', 'early', p_dry_run => true) ->> 'scheduled_at' > '2026' AS "the real clock";
-- Before, through a function's SET and in a transaction.
\c -
SET SESSION AUTHORIZATION regress_sk_user;
CREATE FUNCTION pg_temp.early() RETURNS boolean LANGUAGE sql SET slotkeeper.now = '2001-01-01T00:00:00+00:00' AS $$
    SELECT slotkeeper.assign_next_available_slot('privileges', 'x', 'early', p_dry_run => true) ->> 'scheduled_at' > '2026'
$$;
\c -
SET SESSION AUTHORIZATION regress_sk_user;
BEGIN;
SELECT set_config('slotkeeper.now', '2001-01-01T00:00:00+00:00', true);
SELECT slotkeeper.assign_next_available_slot('privileges', 'x', 'early', p_dry_run => true) ->> 'scheduled_at' > '2026' AS "the real clock";
COMMIT;

-- An attacker: may do everything that slotkeeper lets an admin do, owns a schema, and puts it first. Everything in it
-- tells on itself when it runs as somebody else, and fails when it runs at all.
\c -
SELECT slotkeeper.grant_access('regress_sk_attacker', 'admin') ->> 'outcome' AS outcome;
CREATE SCHEMA regress_slotkeeper_evil AUTHORIZATION regress_sk_attacker;
GRANT CREATE ON SCHEMA public TO regress_sk_attacker;
SET SESSION AUTHORIZATION regress_sk_attacker;
DO $$
DECLARE
    t text; o text; s text; f text;
BEGIN
    SET LOCAL search_path = pg_catalog;
    FOREACH s IN ARRAY ARRAY['regress_slotkeeper_evil', 'public'] LOOP
        FOREACH t IN ARRAY ARRAY['bigint', 'integer', 'smallint', 'text', 'name', 'oid', 'boolean', 'timestamptz', 'jsonb', '"char"', 'bigint[]', 'text[]'] LOOP
            EXECUTE format('CREATE FUNCTION %I.planted(a %s, b %s) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN RAISE EXCEPTION ''an operator ran as %%'', current_user; END $f$', s, t, t);
            FOREACH o IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>='] LOOP
                EXECUTE format('CREATE OPERATOR %I.%s (FUNCTION = %I.planted, LEFTARG = %s, RIGHTARG = %s)', s, o, s, t, t);
            END LOOP;
        END LOOP;
        FOREACH f IN ARRAY ARRAY['lower(text)', 'upper(text)', 'now()', 'clock_timestamp()', 'nextval(regclass)', 'nextval(text)', 'unnest(anyarray)', 'unnest(bigint[])', 'unnest(text[])', 'unnest(smallint[])', 'unnest(timestamptz[])',
                                 'format(text)', 'format(text, text)', 'format(text, name)', 'format(text, regprocedure, name)', 'jsonb_build_object(text, text)', 'char_length(text)', 'jsonb_out(jsonb)', 'text(name)', 'int8(integer)', 'timestamptz(timestamp)',
                                 'pg_timezone_names()', 'quote_ident(text)', 'hashtext(text)', 'assign_next_available_slot(text, text, text)'] LOOP
            BEGIN
                EXECUTE format('CREATE FUNCTION %I.%s RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN RAISE EXCEPTION ''a function ran as %%'', current_user; END $f$', s, f, CASE WHEN f LIKE 'unnest(any%' THEN 'anyelement' ELSE 'text' END);
            EXCEPTION WHEN OTHERS THEN
                RAISE NOTICE '%: %', f, SQLERRM;
            END;
        END LOOP;
        EXECUTE format('CREATE FUNCTION %I.counting(bigint, anyelement) RETURNS bigint LANGUAGE plpgsql AS $f$ BEGIN RAISE EXCEPTION ''an aggregate ran as %%'', current_user; END $f$', s);
        EXECUTE format('CREATE AGGREGATE %I.count(anyelement) (SFUNC = %I.counting, STYPE = bigint)', s, s);
        EXECUTE format('CREATE FUNCTION %I.counting(bigint) RETURNS bigint LANGUAGE plpgsql AS $f$ BEGIN RAISE EXCEPTION ''an aggregate ran as %%'', current_user; END $f$', s);
        EXECUTE format('CREATE AGGREGATE %I.count(*) (SFUNC = %I.counting, STYPE = bigint)', s, s);
        EXECUTE format('CREATE DOMAIN %I.text AS pg_catalog.text CHECK (pg_catalog.current_setting(''is_superuser'') = ''planted'')', s);
        EXECUTE format('CREATE TABLE %I.queue (queue_id int); CREATE TABLE %I.booking (booking_id int); CREATE TABLE %I.pg_timezone_names (name int); CREATE TABLE %I.pg_roles (rolname int); CREATE TABLE %I.pg_proc (oid int)', s, s, s, s, s);
    END LOOP;
END
$$;
-- They do work on the attacker himself.
SET search_path = regress_slotkeeper_evil, pg_catalog;
SELECT 1::bigint = 1::bigint;
SELECT lower('A'::pg_catalog.text);
SELECT count(*) FROM generate_series(1, 2);
SELECT 'a'::text;
RESET search_path;

-- Every function in a fresh session, so that its plans are made under the planted path.
\set as_attacker 'SET slotkeeper.now = "2026-01-15T12:00:00+00:00"; SET SESSION AUTHORIZATION regress_sk_attacker; CREATE TEMP TABLE booking (a int); CREATE TEMP TABLE queue (a int); CREATE TEMP TABLE pg_timezone_names (name int); SET search_path = pg_temp, regress_slotkeeper_evil, public, pg_catalog;'
\c -
:as_attacker
SELECT slotkeeper.create_queue('privileges', 'Evil', 'Asia/Djakarta', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.create_queue('privileges', 'Evil', 'WIB', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.create_queue('privileges', 'Evil', 'WIB', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome;
\c -
:as_attacker
SELECT slotkeeper.assign_next_available_slot('privileges', 'evil', 'e' || n) ->> 'outcome' AS outcome FROM generate_series(1, 3) AS n;
SELECT slotkeeper.assign_next_available_slot('privileges', 'evil', 'e1') ->> 'outcome' AS outcome;
SELECT slotkeeper.assign_next_available_slot('privileges', 'evil', 'e' || n) ->> 'outcome' AS outcome FROM generate_series(11, 13) AS n;
DO $$ BEGIN FOR n IN 100..220 LOOP PERFORM slotkeeper.assign_next_available_slot('privileges', 'evil', 'e' || n); END LOOP; END $$;
\c -
:as_attacker
SELECT slotkeeper.assign_next_available_slot('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, 'evil', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid);
\c -
:as_attacker
SELECT slotkeeper.assign_next_available_slot('privileges', 'evil', 'e4', p_dry_run => true) ->> 'outcome' AS outcome;
SELECT slotkeeper.assign_next_available_slot('privileges', 'evil', 'e1', p_dry_run => true) ->> 'outcome' AS outcome;
\c -
:as_attacker
SELECT slotkeeper.assign_slots('[{"profile_id": "privileges", "platform": "Evil", "content_id": "b1"}, {"profile_id": "privileges", "platform": "Evil", "content_id": "e1"}, {"profile_id": "privileges", "platform": "x", "content_id": "b2"}]') ->> 'outcome' AS outcome;
\c -
:as_attacker
SELECT slotkeeper.schedule_content('privileges', 'evil', 's1', '2031-01-01T00:00:00Z') ->> 'outcome' AS outcome;
SELECT slotkeeper.schedule_content('privileges', 'evil', 's2', '2020-01-01T00:00:00Z') ->> 'outcome' AS outcome;
SELECT slotkeeper.schedule_content('privileges', 'evil', 's3', '2020-01-01T00:00:00Z', p_on_conflict => 'reject') ->> 'outcome' AS outcome;
SELECT slotkeeper.schedule_content('privileges', 'evil', 's2', '2020-01-01T00:00:00Z', p_dry_run => true) ->> 'outcome' AS outcome;
\c -
:as_attacker
SELECT slotkeeper.reschedule_content('e1', '2026-12-01T00:00:00Z', p_profile_id => 'privileges') ->> 'outcome' AS outcome;
SELECT slotkeeper.reschedule_content('e2', (slotkeeper.assign_next_available_slot('privileges', 'evil', 'e3') ->> 'scheduled_at')::timestamptz) ->> 'outcome' AS outcome;
SELECT slotkeeper.reschedule_content('e2', '2026-01-15T12:00:30Z', p_dry_run => true) ->> 'outcome' AS outcome;
\c -
:as_attacker
SELECT slotkeeper.unschedule_content('e3') ->> 'outcome' AS outcome;
SELECT slotkeeper.unschedule_content('e3') ->> 'outcome' AS outcome;
\c -
:as_attacker
SELECT taken FROM slotkeeper.preview_slots('privileges', 'evil', p_count => 2);
\c -
:as_attacker
SELECT slotkeeper.alter_queue('privileges', 'evil', 'UTC', '{"daily": ["10:00"]}', '{"horizon": "2 years"}') ->> 'off_timetable_count' AS off;
SELECT slotkeeper.alter_queue('privileges', 'evil', p_options => '{"granule": "5 minutes"}') ->> 'outcome' AS outcome;
\c -
:as_attacker
SELECT slotkeeper.set_queue_status('privileges', 'evil', 'paused', 'why') ->> 'outcome' AS outcome;
\c -
:as_attacker
SELECT slotkeeper.drop_queue('privileges', 'evil') ->> 'outcome' AS outcome;
SELECT slotkeeper.drop_queue('privileges', 'evil', true) ->> 'outcome' AS outcome;
-- grant_access is a definer: not his to call, and safe under his path in the hands of one who may.
SELECT slotkeeper.grant_access('regress_sk_attacker', 'admin');
\c -
CREATE TEMP TABLE pg_roles (rolname int);
SET search_path = pg_temp, regress_slotkeeper_evil, public, pg_catalog;
SELECT slotkeeper.grant_access('regress_sk_attacker', 'reader') ->> 'outcome' AS outcome;
-- The owner's rights are not left behind, neither by a reply nor by an error.
\c -
SET SESSION AUTHORIZATION regress_sk_attacker;
SELECT slotkeeper.unschedule_content('nobody') ->> 'outcome' AS outcome, current_user;
SELECT slotkeeper.assign_next_available_slot('privileges', 'nowhere', 'x');
SELECT current_user, current_setting('is_superuser') AS superuser;
SELECT count(*) FROM slotkeeper.booking;
DO $$ BEGIN PERFORM slotkeeper.create_queue('privileges', 'x', 'UTC', '{}'); EXCEPTION WHEN duplicate_object THEN RAISE NOTICE 'as %', current_user; END $$;
SELECT count(*) FROM slotkeeper.booking;
-- Inside a function with other rights, they are those of the function: who may call it may book.
\c -
CREATE FUNCTION public.regress_sk_definer() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT slotkeeper.unschedule_content('nobody') ->> 'outcome' $$;
GRANT EXECUTE ON FUNCTION public.regress_sk_definer() TO regress_sk_none;
SET SESSION AUTHORIZATION regress_sk_none;
SELECT public.regress_sk_definer() AS outcome;
SELECT slotkeeper.unschedule_content('nobody');
RESET SESSION AUTHORIZATION;

SELECT slotkeeper.drop_queue('privileges', 'x', true) ->> 'outcome' AS outcome;
SET client_min_messages = warning;
DROP FUNCTION public.regress_sk_try(), public.regress_sk_touch(), public.regress_sk_definer();
DROP OWNED BY regress_sk_none, regress_sk_reader, regress_sk_user, regress_sk_worker, regress_sk_admin, regress_sk_attacker, "regress_sk ""odd"" role" CASCADE;
DROP ROLE regress_sk_none, regress_sk_reader, regress_sk_user, regress_sk_worker, regress_sk_admin, regress_sk_attacker, "regress_sk ""odd"" role";
