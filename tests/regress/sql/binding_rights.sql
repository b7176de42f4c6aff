-- Rights: nothing of a table owner's runs with slotkeeper's, and nobody reaches more through a binding than he has.
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS rights CASCADE;
DROP SCHEMA IF EXISTS regress_mallory CASCADE;
DROP ROLE IF EXISTS regress_sk_mallory, regress_sk_writer, regress_sk_victim;
RESET client_min_messages;
\set VERBOSITY terse
\a
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
CREATE ROLE regress_sk_mallory;
CREATE ROLE regress_sk_writer;
CREATE ROLE regress_sk_victim;
CREATE SCHEMA rights;
CREATE FUNCTION pg_temp.try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    reply text;
BEGIN
    EXECUTE command INTO reply;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ': ' || SQLERRM;
END
$$;
SELECT slotkeeper.create_queue('rights', 'x', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome, slotkeeper.create_queue('rights', 'free', 'UTC', '{}') ->> 'outcome' AS outcome;
SELECT slotkeeper.grant_access('regress_sk_mallory', 'admin') ->> 'outcome' AS outcome, slotkeeper.grant_access('regress_sk_victim', 'user') ->> 'outcome' AS outcome;
CREATE SCHEMA regress_mallory AUTHORIZATION regress_sk_mallory;
GRANT USAGE ON SCHEMA regress_mallory TO regress_sk_writer, regress_sk_victim;

-- Whatever the owner's functions are called by, they say who they ran as, and try for more.
SET ROLE regress_sk_mallory;
SET search_path = regress_mallory;
CREATE TABLE regress_mallory.ran (what text, who name, superuser boolean);
GRANT INSERT ON ran TO PUBLIC;
CREATE FUNCTION evil(what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO regress_mallory.ran SELECT what, current_user, (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user);
    BEGIN
        ALTER ROLE regress_sk_mallory SUPERUSER;
    EXCEPTION WHEN insufficient_privilege THEN NULL;
    END;
    BEGIN
        UPDATE slotkeeper.queue SET status_reason = 'was here';
    EXCEPTION WHEN insufficient_privilege THEN NULL;
    END;
END
$$;
CREATE FUNCTION evil_true(what text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM regress_mallory.evil(what); RETURN true; END $$;
CREATE FUNCTION evil_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM regress_mallory.evil('trigger ' || TG_NAME); RETURN NEW; END $$;
-- A type with a cast of its own, a domain with a check, an operator that shadows the server's, a default, a policy.
CREATE TYPE mood AS ENUM ('on', 'off');
CREATE FUNCTION mood_text(mood) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM regress_mallory.evil('cast'); RETURN 'x'; END $$;
CREATE CAST (mood AS text) WITH FUNCTION mood_text(mood) AS IMPLICIT;
CREATE DOMAIN checked AS text CHECK (regress_mallory.evil_true('domain check'));
CREATE FUNCTION evil_equal(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM regress_mallory.evil('operator'); RETURN pg_catalog.texteq($1, $2); END $$;
CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, PROCEDURE = evil_equal);
CREATE FUNCTION format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM regress_mallory.evil('function'); RETURN $1; END $$;
CREATE TABLE post (id text PRIMARY KEY, platform mood, at timestamptz, state text DEFAULT CASE WHEN regress_mallory.evil_true('default') THEN 'on' END, ref checked, title text);
CREATE FUNCTION evil_key(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM regress_mallory.evil('index expression'); RETURN $1; END $$;
CREATE FUNCTION evil_some(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM regress_mallory.evil('index predicate'); RETURN true; END $$;
CREATE UNIQUE INDEX ON post (evil_key(title)) WHERE evil_some(title);
CREATE TRIGGER watch BEFORE INSERT OR UPDATE ON post FOR EACH ROW EXECUTE FUNCTION evil_trigger();
CREATE TRIGGER watch_after AFTER INSERT OR UPDATE OR DELETE ON post FOR EACH ROW EXECUTE FUNCTION evil_trigger();
ALTER TABLE post ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON post USING (regress_mallory.evil_true('policy')) WITH CHECK (regress_mallory.evil_true('policy check'));
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON post TO regress_sk_writer, regress_sk_victim;
SET search_path = regress_mallory, pg_catalog;
INSERT INTO post (id, platform, at) VALUES ('existing', 'on', '2026-01-16 09:00Z');
SELECT slotkeeper.create_queue('rights', 'on', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome, slotkeeper.create_queue('rights', 'off', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome;
\set options '{"content_id": "id", "profile_id": {"value": "rights"}, "platform": {"value": "x"}, "user_id": "platform", "at": "at", "occupies": "state = ''on'' AND evil_true(''predicate'')", "exempt": {"child": "title = ''child''"}, "states": {"scheduled": {"ref": "$slot_ref", "state": "on"}, "unscheduled": {"state": "off"}}}'
SELECT slotkeeper.check_table('post', :'options') ->> 'outcome' AS outcome;
SELECT slotkeeper.attach_table('post', :'options') ->> 'outcome' AS outcome;
RESET ROLE;
RESET search_path;
-- A writer without any right on slotkeeper writes the table through the guard, and a user calls.
SET ROLE regress_sk_writer;
INSERT INTO regress_mallory.post (id, platform, at) VALUES ('w', 'on', '2026-01-16 09:00Z'), ('v', 'off', '2026-01-20 09:00Z');
INSERT INTO regress_mallory.post (id, platform, at) VALUES ('w', 'on', '2026-01-16 09:00Z') ON CONFLICT DO NOTHING;
INSERT INTO regress_mallory.post (id, platform, at, title) VALUES ('u', 'on', '2026-01-16 09:00Z', 'key') ON CONFLICT DO NOTHING;
INSERT INTO regress_mallory.post (id, platform, at, title) VALUES ('u2', 'on', '2026-01-16 09:00Z', 'key') ON CONFLICT DO NOTHING;
DELETE FROM regress_mallory.post WHERE id = 'u';
UPDATE regress_mallory.post SET at = '2026-01-25 09:00Z' WHERE id = 'v';
DELETE FROM regress_mallory.post WHERE id = 'v';
SELECT has_schema_privilege('slotkeeper', 'USAGE') AS uses_schema, has_table_privilege(c.oid, 'SELECT') AS reads FROM pg_class AS c WHERE c.oid = (SELECT oid FROM pg_class WHERE relname = 'booking' AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'slotkeeper'));
INSERT INTO regress_mallory.post (id, platform, state) VALUES ('call', 'on', 'off');
RESET ROLE;
SET ROLE regress_sk_victim;
SELECT slotkeeper.assign_next_available_slot('rights', 'x', 'call') ->> 'outcome' AS outcome;
SELECT slotkeeper.reschedule_content('call', '2026-02-01T00:00:00Z') ->> 'outcome' AS outcome;
SELECT slotkeeper.unschedule_content('call') ->> 'outcome' AS outcome;
SELECT slotkeeper.assign_slots('[{"profile_id": "rights", "platform": "x", "content_id": "call"}]') ->> 'outcome' AS outcome;
RESET ROLE;
SET ROLE regress_sk_mallory;
SELECT slotkeeper.reconcile_table('regress_mallory.post') ->> 'outcome' AS outcome;
SELECT slotkeeper.move_collisions('regress_mallory.post') ->> 'outcome' AS outcome;
-- What IS DISTINCT FROM compares is compared by an operator that search_path finds, too.
SET search_path = regress_mallory, pg_catalog;
CREATE TABLE never (id text PRIMARY KEY, at timestamptz);
INSERT INTO never VALUES ('n', 'infinity');
SELECT slotkeeper.attach_table('never', '{"content_id": "id", "profile_id": {"value": "rights"}, "platform": {"value": "on"}, "at": "at"}') ->> 'unbooked_count' AS unbooked;
SELECT slotkeeper.reconcile_table('never') ->> 'unbooked_count' AS unbooked FROM generate_series(1, 2);
SELECT slotkeeper.detach_table('never') ->> 'outcome' AS outcome;
DROP TABLE never;
RESET search_path;
RESET ROLE;
-- Each ran as whoever ran the statement, none as a superuser.
SELECT what, string_agg(DISTINCT who::text, ', ' ORDER BY who::text) AS ran_as FROM regress_mallory.ran WHERE NOT superuser GROUP BY what ORDER BY what;
SELECT what AS ran_as_superuser FROM regress_mallory.ran WHERE superuser;
SELECT rolname, rolsuper FROM pg_roles WHERE rolname = 'regress_sk_mallory';
SELECT count(*) AS changed FROM slotkeeper.queue WHERE status_reason IS NOT NULL;

-- Predicates are one expression over the row, and nothing else.
SET ROLE regress_sk_mallory;
SELECT left(p, 60) AS predicate, pg_temp.try(format('SELECT slotkeeper.attach_table(%L, %L)', 'regress_mallory.post',
    jsonb_build_object('content_id', 'id', 'profile_id', jsonb_build_object('value', 'rights'), 'platform', jsonb_build_object('value', 'x'), 'at', 'at', 'occupies', p))) AS result
FROM unnest(ARRAY['true) EXECUTE FUNCTION regress_mallory.evil_trigger(); --', 'true; DROP TABLE regress_mallory.post', 'true, true', 'EXISTS (SELECT FROM slotkeeper.queue)', '(SELECT true)',
    'true FROM slotkeeper.queue', 'true WHERE true', 'true LIMIT 1', 'true OFFSET 1', 'true UNION SELECT true', 'true WINDOW w AS ()', 'count(*) > 0', 'title', 'ctid IS NULL', 'post IS NULL', 'nothing = 1', '', '   ', '$1', 'true INTO x',
    'generate_series(1, 2) = 1', 'title = ''--'' /* OR', 'new.state = ''on''']) WITH ORDINALITY AS u (p, n) ORDER BY n;
RESET ROLE;

-- Only who owns a table binds it, and only who may, calls.
CREATE TABLE rights.mine (id int PRIMARY KEY, at timestamptz);
GRANT ALL ON rights.mine TO regress_sk_mallory;
GRANT USAGE ON SCHEMA rights TO regress_sk_mallory;
\set plain '{"content_id": "id", "profile_id": {"value": "rights"}, "platform": {"value": "free"}, "at": "at"}'
SELECT slotkeeper.attach_table('rights.mine', :'plain') ->> 'outcome' AS outcome;
SET ROLE regress_sk_mallory;
SELECT call, pg_temp.try(call) AS result FROM unnest(ARRAY[
    format('SELECT slotkeeper.attach_table(%L, %L)', 'rights.mine', :'plain'), $c$SELECT slotkeeper.detach_table('rights.mine')$c$, $c$SELECT slotkeeper.reconcile_table('rights.mine')$c$, $c$SELECT slotkeeper.move_collisions('rights.mine')$c$,
    $c$SELECT slotkeeper.attach_table('pg_catalog.pg_class', '{"content_id": "oid", "profile_id": {"value": "rights"}, "at": "relname"}')$c$,
    $c$SELECT slotkeeper.release_source('rights.mine')$c$, $c$SELECT slotkeeper.forget_dropped()$c$, $c$SELECT slotkeeper.follow_ddl()$c$, $c$SELECT slotkeeper.guard_row()$c$, $c$SELECT * FROM slotkeeper.binding$c$, $c$DELETE FROM slotkeeper.collision$c$]) AS call;
SELECT slotkeeper.check_table('rights.mine', :'plain') -> 'privileges_lacking' AS lacking, slotkeeper.check_table('rights.mine', :'plain') -> 'ready' AS ready;
RESET ROLE;
SET ROLE regress_sk_victim;
SELECT pg_temp.try(format('SELECT slotkeeper.attach_table(%L, %L)', 'rights.mine', :'plain'));
SELECT pg_temp.try('SELECT * FROM slotkeeper.slot_collisions');
RESET ROLE;

-- The guard refuses a table that it was not attached to, whatever its trigger says.
SET ROLE regress_sk_mallory;
CREATE TABLE regress_mallory.stranger (id int PRIMARY KEY, at timestamptz);
CREATE TRIGGER by_hand BEFORE INSERT ON regress_mallory.stranger FOR EACH ROW EXECUTE FUNCTION slotkeeper.guard_row('rights.mine', 'take');
SELECT pg_temp.try($c$INSERT INTO regress_mallory.stranger VALUES (1, '2026-01-16 09:00Z')$c$);
DROP TRIGGER by_hand ON regress_mallory.stranger;
CREATE TRIGGER by_hand AFTER INSERT ON regress_mallory.stranger FOR EACH STATEMENT EXECUTE FUNCTION slotkeeper.guard_row('rights.mine', 'truncate');
SELECT pg_temp.try($c$INSERT INTO regress_mallory.stranger VALUES (1, '2026-01-16 09:00Z')$c$);
DROP TRIGGER by_hand ON regress_mallory.stranger;
CREATE TRIGGER by_hand BEFORE DELETE ON regress_mallory.stranger FOR EACH ROW EXECUTE FUNCTION slotkeeper.guard_row();
INSERT INTO regress_mallory.stranger VALUES (1, '2026-01-16 09:00Z');
SELECT pg_temp.try($c$DELETE FROM regress_mallory.stranger$c$);
-- Nor does a view, a table that has been given the name, or a trigger with odd arguments on a bound table get anything.
CREATE VIEW regress_mallory.shown AS SELECT 1 AS id, now() AS at;
SELECT pg_temp.try(format('SELECT slotkeeper.attach_table(%L, %L)', 'regress_mallory.shown', :'plain'));
-- Whoever may attach everything attaches nothing of slotkeeper's or of the server's.
SELECT pg_temp.try(format('SELECT slotkeeper.attach_table(%L, %L)', t, :'plain')) FROM unnest(ARRAY['slotkeeper.booking', 'pg_catalog.pg_class', 'information_schema.sql_features']) AS t;
SELECT pg_temp.try(format('SELECT slotkeeper.attach_queues(%L, %L)', 'slotkeeper.queue', '{"profile_id": "profile_id", "platform": "platform", "time_zone": "time_zone", "timetable": "timetable"}'));
CREATE TEMP TABLE passing (id int PRIMARY KEY, at timestamptz);
SELECT regexp_replace(pg_temp.try(format('SELECT slotkeeper.attach_table(%L, %L)', 'passing', :'plain')), 'pg_temp_\d+', 'pg_temp') AS try;
CREATE TABLE regress_mallory.base (id int PRIMARY KEY, at timestamptz);
CREATE TABLE regress_mallory.child () INHERITS (regress_mallory.base);
SELECT pg_temp.try(format('SELECT slotkeeper.attach_table(%L, %L)', 'regress_mallory.base', :'plain'));
CREATE TRIGGER odd BEFORE UPDATE ON regress_mallory.post FOR EACH ROW EXECUTE FUNCTION slotkeeper.guard_row('regress_mallory.post', 'odd');
SELECT pg_temp.try($c$UPDATE regress_mallory.post SET title = 'x'$c$);
DROP TRIGGER odd ON regress_mallory.post;
RESET ROLE;
-- The name of a bound table, taken by another owner's: neither its bookings nor its binding are.
INSERT INTO rights.mine VALUES (1, '2026-01-16 10:00Z');
ALTER TABLE rights.mine RENAME TO was_mine;
GRANT CREATE ON SCHEMA rights TO regress_sk_mallory;
SET ROLE regress_sk_mallory;
CREATE TABLE rights.mine (id int PRIMARY KEY, at timestamptz);
INSERT INTO rights.mine VALUES (1, '2026-01-16 11:00Z'), (2, '2026-01-16 10:00Z');
SELECT slotkeeper.attach_table('rights.mine', :'plain') - 'collisions' AS attached;
SELECT slotkeeper.reconcile_table('rights.mine') - 'collisions' AS reconciled;
SELECT slotkeeper.detach_table('rights.mine') AS detached;
RESET ROLE;
SELECT source, content_id FROM slotkeeper.booking WHERE source LIKE 'rights.%' AND released_at IS NULL ORDER BY 1, 2;
INSERT INTO rights.was_mine VALUES (2, '2026-01-16 10:00Z') RETURNING to_char(at AT TIME ZONE 'UTC', 'HH24:MI');
SELECT source, table_now, status FROM slotkeeper.binding_health WHERE source LIKE 'rights.%';

SET client_min_messages = warning;
DROP SCHEMA rights CASCADE;
DROP SCHEMA regress_mallory CASCADE;
SELECT slotkeeper.drop_queue(profile_id, platform, true) ->> 'outcome' AS outcome FROM slotkeeper.queue WHERE profile_id = 'rights' ORDER BY platform;
DROP OWNED BY regress_sk_mallory, regress_sk_writer, regress_sk_victim;
DROP ROLE regress_sk_mallory, regress_sk_writer, regress_sk_victim;
