-- Installed by a database's owner who is no superuser; and what he may do then.
SELECT current_database() AS home
\gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_slotkeeper_owner;
DROP ROLE IF EXISTS regress_sk_dbo, regress_sk_dbo_app;
CREATE ROLE regress_sk_dbo;
CREATE ROLE regress_sk_dbo_app;
CREATE DATABASE regress_slotkeeper_owner OWNER regress_sk_dbo TEMPLATE template0;
\c regress_slotkeeper_owner
\a
SET client_min_messages = warning;
-- Default privileges in force at the time must not open anything.
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO PUBLIC, regress_sk_dbo_app;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_sk_dbo_app;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO PUBLIC, regress_sk_dbo_app;
SET SESSION AUTHORIZATION regress_sk_dbo;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO PUBLIC;
-- Planted operators and functions in reach of the script don't run.
CREATE SCHEMA planted;
CREATE FUNCTION planted.yes(oid, oid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;
CREATE OPERATOR planted.= (FUNCTION = planted.yes, LEFTARG = oid, RIGHTARG = oid);
CREATE OPERATOR planted.<> (FUNCTION = planted.yes, LEFTARG = oid, RIGHTARG = oid);
CREATE FUNCTION planted.format(text, text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;
SET search_path = planted, pg_catalog, public;
CREATE EXTENSION slotkeeper;
RESET search_path;
SELECT extowner::regrole AS extension_owner, r.rolsuper AS schema_of_a_superuser FROM pg_extension, pg_namespace JOIN pg_roles AS r ON r.oid = nspowner WHERE extname = 'slotkeeper' AND nspname = 'slotkeeper';
SELECT DISTINCT kind, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS grantee, privilege_type, is_grantable
FROM (SELECT 'function' AS kind, (aclexplode(coalesce(proacl, acldefault('f', proowner)))).* FROM pg_proc WHERE pronamespace = 'slotkeeper'::regnamespace
      UNION ALL SELECT CASE relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, (aclexplode(relacl)).* FROM pg_class WHERE relnamespace = 'slotkeeper'::regnamespace AND relkind IN ('r', 'S', 'v')
      UNION ALL SELECT 'schema', (aclexplode(nspacl)).* FROM pg_namespace WHERE nspname = 'slotkeeper') AS a
WHERE grantee NOT IN (SELECT oid FROM pg_roles WHERE rolsuper) ORDER BY 1, 2, 3;

-- He may call everything, read and write the tables (a restore does), and lets others in.
SELECT slotkeeper.create_queue('owner', 'x', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.assign_next_available_slot('owner', 'x', 'c1') ->> 'outcome' AS outcome;
SELECT slotkeeper.grant_access('regress_sk_dbo_app', 'user') ->> 'outcome' AS outcome;
BEGIN;
CREATE TEMP TABLE kept AS SELECT * FROM slotkeeper.booking;
DELETE FROM slotkeeper.booking;
INSERT INTO slotkeeper.booking SELECT * FROM kept;
UPDATE slotkeeper.booking SET user_id = 'u';
SELECT setval('slotkeeper.booking_id_seq', nextval('slotkeeper.booking_id_seq')) > 0 AS sequence_too;
ROLLBACK;
-- But put nothing of his own on them: it would run with the owner's rights.
CREATE FUNCTION planted.trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;
CREATE TRIGGER planted BEFORE INSERT ON slotkeeper.booking FOR EACH ROW EXECUTE FUNCTION planted.trigger();
CREATE RULE planted AS ON INSERT TO slotkeeper.booking DO ALSO SELECT planted.yes(1, 2);
CREATE POLICY planted ON slotkeeper.booking USING (planted.yes(1, 2));
ALTER TABLE slotkeeper.booking ADD CHECK (planted.yes(1, 2));
ALTER TABLE slotkeeper.booking ALTER user_id SET DEFAULT planted.format('', '', '');
CREATE INDEX ON slotkeeper.booking ((planted.format(content_id, '', '')));
CREATE TABLE planted.child () INHERITS (slotkeeper.booking);
CREATE TABLE planted.reference (booking_id bigint REFERENCES slotkeeper.booking);
CREATE STATISTICS planted.s ON queue_id, granule FROM slotkeeper.booking;
CREATE FUNCTION slotkeeper.assign_next_available_slot(text, text, unknown) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$;
CREATE OPERATOR slotkeeper.= (FUNCTION = planted.yes, LEFTARG = oid, RIGHTARG = oid);
ALTER SCHEMA slotkeeper OWNER TO regress_sk_dbo;
ALTER TABLE slotkeeper.booking OWNER TO regress_sk_dbo;
ALTER EXTENSION slotkeeper DROP FUNCTION slotkeeper.unschedule_content(text, text, text, text);
DROP TABLE slotkeeper.hole;
TRUNCATE slotkeeper.booking;
-- Whom he let in may book, and nothing else.
SET SESSION AUTHORIZATION regress_sk_dbo_app;
SELECT slotkeeper.assign_next_available_slot('owner', 'x', 'c2') ->> 'outcome' AS outcome;
SELECT slotkeeper.create_queue('owner', 'y', 'UTC', '{}');
SELECT count(*) FROM slotkeeper.queue;
SELECT slotkeeper.grant_access('regress_sk_dbo_app', 'admin');
SELECT slotkeeper.revoke_access('regress_sk_dbo_app');
-- He can take it back, which REVOKE cannot: it is not he who has granted it. What he has granted himself is his to revoke.
SET SESSION AUTHORIZATION regress_sk_dbo;
GRANT EXECUTE ON FUNCTION slotkeeper.preview_slots TO regress_sk_dbo_app;
REVOKE ALL ON FUNCTION slotkeeper.assign_slots FROM regress_sk_dbo_app;
SELECT has_function_privilege('regress_sk_dbo_app', 'slotkeeper.assign_slots(jsonb, text)', 'EXECUTE') AS not_revoked;
SELECT slotkeeper.revoke_access('regress_sk_dbo_app') AS reply;
SELECT object, grantor::regrole FROM slotkeeper.access_entry WHERE grantee = 'regress_sk_dbo_app'::regrole;
REVOKE ALL ON FUNCTION slotkeeper.preview_slots FROM regress_sk_dbo_app;
SELECT slotkeeper.revoke_access('regress_sk_dbo_app') AS reply;
SELECT object FROM slotkeeper.access_entry WHERE grantee = 'regress_sk_dbo_app'::regrole;
DO $$
DECLARE
    r name; detail text; hint text;
BEGIN
    FOREACH r IN ARRAY ARRAY['regress_sk_dbo', 'pg_database_owner', 'regress_sk_nobody', 'public', NULL] LOOP
        BEGIN
            PERFORM slotkeeper.revoke_access(r);
            RAISE WARNING '%: revoked', r;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
            RAISE WARNING '%', concat_ws(' / ', SQLSTATE, SQLERRM, nullif(detail, ''), nullif(hint, ''));
        END;
    END LOOP;
END
$$;
SET SESSION AUTHORIZATION regress_sk_dbo_app;
SELECT slotkeeper.assign_next_available_slot('owner', 'x', 'c3');
-- A database that changes hands: the new owner decides, the installing role still may.
RESET SESSION AUTHORIZATION;
ALTER DATABASE regress_slotkeeper_owner OWNER TO regress_sk_dbo_app;
SET SESSION AUTHORIZATION regress_sk_dbo_app;
SELECT slotkeeper.grant_access('regress_sk_dbo_app', 'admin') ->> 'outcome' AS outcome;
SELECT slotkeeper.set_queue_status('owner', 'x', 'paused') ->> 'outcome' AS outcome;
SET SESSION AUTHORIZATION regress_sk_dbo;
SELECT slotkeeper.grant_access('regress_sk_dbo_app', 'reader') ->> 'outcome' AS outcome;
-- He may drop what he installed.
DROP EXTENSION slotkeeper;
SELECT to_regnamespace('slotkeeper') IS NULL AS gone;
RESET SESSION AUTHORIZATION;
\c :home
DROP DATABASE regress_slotkeeper_owner;
DROP ROLE regress_sk_dbo, regress_sk_dbo_app;
