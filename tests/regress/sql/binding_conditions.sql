-- A binding's conditions are evaluated by the guard: as the writer, as they mean now, and only where they can matter.
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cond CASCADE;
DROP SCHEMA IF EXISTS cond_a CASCADE;
DROP SCHEMA IF EXISTS cond_b CASCADE;
DROP ROLE IF EXISTS regress_sk_owner, regress_sk_ann, regress_sk_bob;
RESET client_min_messages;
\set VERBOSITY terse
\a
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
SET TimeZone = 'UTC';
CREATE ROLE regress_sk_owner;
CREATE ROLE regress_sk_ann;
CREATE ROLE regress_sk_bob;
CREATE SCHEMA cond AUTHORIZATION regress_sk_owner;
GRANT USAGE ON SCHEMA cond TO PUBLIC;
CREATE FUNCTION pg_temp.try(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ': ' || SQLERRM;
END
$$;
-- Contents and times that the ledger has of a table.
CREATE FUNCTION pg_temp.live(name text) RETURNS text LANGUAGE sql SECURITY DEFINER AS $$
    SELECT string_agg(content_id || '=' || to_char(scheduled_at, 'MM-DD HH24:MI'), ' ' ORDER BY content_id)
    FROM slotkeeper.booking WHERE source = 'cond.' || name AND released_at IS NULL
$$;
SELECT slotkeeper.create_queue('cond', 'x', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.grant_access('regress_sk_owner', 'admin') ->> 'outcome' AS outcome;
\set base '{"content_id": "id", "profile_id": {"value": "cond"}, "platform": {"value": "x"}, "at": "at"}'

-- A function of the owner's says who it ran as, and tries for more: whoever writes, also when roles change in one session.
SET ROLE regress_sk_owner;
CREATE TABLE cond.ran (n int GENERATED ALWAYS AS IDENTITY, who name, option text);
GRANT INSERT ON cond.ran TO PUBLIC;
CREATE FUNCTION cond.spy(p_option text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO cond.ran (who, option) VALUES (current_user, p_option);
    BEGIN
        ALTER ROLE regress_sk_owner SUPERUSER;
        INSERT INTO cond.ran (who, option) VALUES (current_user, 'has become superuser');
    EXCEPTION WHEN insufficient_privilege THEN NULL;
    END;
    RETURN true;
END
$$;
CREATE TABLE cond.spied (id int PRIMARY KEY, at timestamptz, state text DEFAULT 'on', title text);
GRANT ALL ON cond.spied TO PUBLIC;
SELECT slotkeeper.attach_table('cond.spied', :'base'::jsonb || '{"occupies": "state = ''on'' AND cond.spy(''occupies'')", "exempt": {"draft": "NOT cond.spy(''exempt'')"}, "published_when": "cond.spy(''published'') AND state = ''out''"}') ->> 'outcome' AS outcome;
TRUNCATE cond.ran;
SET ROLE regress_sk_ann;
INSERT INTO cond.spied (id, at) VALUES (1, '2026-01-20 09:00Z');
SET ROLE regress_sk_bob;
UPDATE cond.spied SET at = '2026-01-21 09:00Z' WHERE id = 1;
UPDATE cond.spied SET title = 'x' WHERE id = 1;
SET ROLE regress_sk_ann;
UPDATE cond.spied SET state = 'out' WHERE id = 1;
DELETE FROM cond.spied WHERE id = 1;
RESET ROLE;
SELECT who, option, count(*) > 0 AS ran FROM cond.ran GROUP BY who, option ORDER BY who, option;
SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_sk_owner';

-- What the writer may not call is refused, from the moment it is; a function that could be put in place, too.
SET ROLE regress_sk_owner;
CREATE FUNCTION cond.is_on(p_state text, p_on text DEFAULT 'on') RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT p_state = p_on $$;
CREATE TABLE cond.called (id int PRIMARY KEY, at timestamptz, state text DEFAULT 'on', title text);
GRANT ALL ON cond.called TO PUBLIC;
SELECT slotkeeper.attach_table('cond.called', :'base'::jsonb || '{"occupies": "cond.is_on(state)"}') ->> 'outcome' AS outcome;
SET ROLE regress_sk_ann;
INSERT INTO cond.called (id, at) VALUES (1, '2026-02-01 09:00Z');
SET ROLE regress_sk_owner;
REVOKE EXECUTE ON FUNCTION cond.is_on FROM PUBLIC;
SET ROLE regress_sk_ann;
SELECT pg_temp.try($c$INSERT INTO cond.called (id, at) VALUES (2, '2026-02-02 09:00Z')$c$);
SELECT pg_temp.try($c$UPDATE cond.called SET at = '2026-02-03 09:00Z'$c$);
SET ROLE regress_sk_owner;
INSERT INTO cond.called (id, at) VALUES (3, '2026-02-04 09:00Z');
GRANT EXECUTE ON FUNCTION cond.is_on TO regress_sk_ann;
SET ROLE regress_sk_ann;
INSERT INTO cond.called (id, at) VALUES (2, '2026-02-02 09:00Z');
SET ROLE regress_sk_bob;
SELECT pg_temp.try($c$INSERT INTO cond.called (id, at) VALUES (4, '2026-02-05 09:00Z')$c$);
RESET ROLE;
SELECT pg_temp.live('called');

-- A function that the server puts in place, or computes in advance, is replaced.
CREATE FUNCTION cond.on_word() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'on' $$;
CREATE TABLE cond.replaced (id int PRIMARY KEY, at timestamptz, state text);
SELECT slotkeeper.attach_table('cond.replaced', :'base'::jsonb || '{"occupies": "state = cond.on_word()"}') ->> 'outcome' AS outcome;
INSERT INTO cond.replaced VALUES (1, '2026-02-10 09:00Z', 'on'), (2, '2026-02-11 09:00Z', 'an');
SELECT pg_temp.live('replaced');
CREATE OR REPLACE FUNCTION cond.on_word() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'an' $$;
INSERT INTO cond.replaced VALUES (3, '2026-02-12 09:00Z', 'on'), (4, '2026-02-13 09:00Z', 'an');
SELECT pg_temp.live('replaced');

-- A function's own bare names follow the search_path of the statement.
CREATE SCHEMA cond_a;
CREATE SCHEMA cond_b;
CREATE FUNCTION cond_a.word() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'a' $$;
CREATE FUNCTION cond_b.word() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'b' $$;
SET search_path = cond_a;
CREATE FUNCTION cond.bare(p text) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT p = word() $$;
CREATE TABLE cond.pathed (id int PRIMARY KEY, at timestamptz, state text);
SELECT slotkeeper.attach_table('cond.pathed', :'base'::jsonb || '{"occupies": "cond.bare(state)"}') ->> 'outcome' AS outcome;
INSERT INTO cond.pathed VALUES (1, '2026-02-20 09:00Z', 'a'), (2, '2026-02-21 09:00Z', 'b');
SET search_path = cond_b;
INSERT INTO cond.pathed VALUES (3, '2026-02-22 09:00Z', 'a'), (4, '2026-02-23 09:00Z', 'b');
-- Not even a temporary function or operator comes between.
CREATE FUNCTION pg_temp.texteq(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE OPERATOR pg_temp.= (LEFTARG = text, RIGHTARG = text, PROCEDURE = pg_temp.texteq);
SET search_path = pg_temp, cond_b;
INSERT INTO cond.pathed VALUES (5, '2026-02-24 09:00Z', 'a');
RESET search_path;
SELECT pg_temp.live('pathed');

-- A condition that raises: the statement fails, nothing stays, and the next one is as good as before.
CREATE TABLE cond.raising (id int PRIMARY KEY, at timestamptz, n int, title text);
SELECT slotkeeper.attach_table('cond.raising', :'base'::jsonb || '{"occupies": "10 / n > 1"}') ->> 'outcome' AS outcome;
BEGIN;
INSERT INTO cond.raising VALUES (1, '2026-03-01 09:00Z', 5);
SAVEPOINT s;
INSERT INTO cond.raising VALUES (2, '2026-03-02 09:00Z', 5), (3, '2026-03-03 09:00Z', 0);
ROLLBACK TO s;
INSERT INTO cond.raising VALUES (4, '2026-03-02 09:00Z', 5);
SELECT pg_temp.try('UPDATE cond.raising SET n = n - 5 WHERE id = 4');
UPDATE cond.raising SET n = 100 WHERE id = 1;
COMMIT;
SELECT pg_temp.live('raising');

-- Domains, enums, a changed check, new labels, new and dropped columns, types.
CREATE TYPE cond.state AS ENUM ('draft', 'on');
CREATE DOMAIN cond.word AS text CHECK (VALUE <> 'bad');
CREATE TABLE cond.typed (gone int, id int PRIMARY KEY, at timestamptz, state cond.state DEFAULT 'on', title text, other int);
ALTER TABLE cond.typed DROP COLUMN gone;
SELECT slotkeeper.attach_table('cond.typed', :'base'::jsonb || '{"occupies": "state::text::cond.word = ''on''", "exempt": {"draft": "state = ''draft''", "secret": "title::cond.word = ''secret''"}}') ->> 'outcome' AS outcome;
PREPARE put(int, timestamptz, cond.state, text) AS INSERT INTO cond.typed (id, at, state, title) VALUES ($1, $2, $3, $4);
EXECUTE put(1, '2026-03-10 09:00Z', 'on', 'fine');
SELECT pg_temp.try($c$EXECUTE put(2, '2026-03-11 09:00Z', 'on', 'bad')$c$);
ALTER DOMAIN cond.word ADD CHECK (VALUE <> 'worse');
SELECT pg_temp.try($c$EXECUTE put(2, '2026-03-11 09:00Z', 'on', 'worse')$c$);
ALTER TYPE cond.state ADD VALUE 'off';
EXECUTE put(2, '2026-03-11 09:00Z', 'off', 'fine');
ALTER TABLE cond.typed DROP COLUMN other;
ALTER TABLE cond.typed ADD COLUMN another text DEFAULT 'x';
EXECUTE put(3, '2026-03-12 09:00Z', 'on', 'fine');
EXECUTE put(4, '2026-03-13 09:00Z', 'on', 'secret');
UPDATE cond.typed SET another = 'y', title = 'not secret' WHERE id IN (1, 4);
ALTER TABLE cond.typed RENAME COLUMN title TO heading;
UPDATE cond.typed SET heading = 'secret' WHERE id = 3;
SELECT pg_temp.try('ALTER TABLE cond.typed ALTER COLUMN state TYPE text');
SELECT pg_temp.live('typed');

-- Partitions with other numbers for the same columns, also one that is attached later.
CREATE TABLE cond.part (id int, region text, at timestamptz, state text DEFAULT 'on', title text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE cond.part_eu PARTITION OF cond.part FOR VALUES IN ('eu');
SELECT slotkeeper.attach_table('cond.part', :'base'::jsonb || '{"occupies": "state = ''on''", "exempt": {"secret": "title = ''secret''"}}') ->> 'outcome' AS outcome;
CREATE TABLE cond.part_us (filler int, title text, state text, at timestamptz, extra int, region text NOT NULL, id int NOT NULL);
ALTER TABLE cond.part_us DROP COLUMN filler, DROP COLUMN extra;
ALTER TABLE cond.part ATTACH PARTITION cond.part_us FOR VALUES IN ('us');
INSERT INTO cond.part VALUES (1, 'eu', '2026-03-20 09:00Z', 'on', 'a'), (2, 'us', '2026-03-21 09:00Z', 'on', 'b'), (3, 'us', '2026-03-22 09:00Z', 'off', 'c'), (4, 'us', '2026-03-23 09:00Z', 'on', 'secret');
UPDATE cond.part SET title = title || '!' WHERE id < 4;
UPDATE cond.part SET state = 'on' WHERE id = 3;
UPDATE cond.part SET title = 'secret' WHERE id = 2;
UPDATE cond.part SET region = 'us', title = 'moved' WHERE id = 1;
SELECT pg_temp.live('part');

-- A function in a condition that writes the same table, and one that runs into an error and goes on.
CREATE TABLE cond.again (id int PRIMARY KEY, at timestamptz, state text, touched int DEFAULT 0);
CREATE FUNCTION cond.touch(p_id int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE cond.again SET touched = touched + 1 WHERE id = p_id - 1;
    BEGIN
        INSERT INTO cond.raising VALUES (p_id, '2026-03-25 09:00Z', 0);
    EXCEPTION WHEN division_by_zero THEN NULL;
    END;
    RETURN true;
END
$$;
SELECT slotkeeper.attach_table('cond.again', :'base'::jsonb || '{"occupies": "state = ''on'' AND (id = 1 OR cond.touch(id))"}') ->> 'outcome' AS outcome;
INSERT INTO cond.again VALUES (1, '2026-04-01 09:00Z', 'on');
INSERT INTO cond.again VALUES (2, '2026-04-02 09:00Z', 'on');
UPDATE cond.again SET at = '2026-04-03 09:00Z' WHERE id = 2;
SELECT id, at, touched > 0 AS touched FROM cond.again ORDER BY id;
SELECT pg_temp.live('again'), pg_temp.live('raising') AS raising;

-- What changes nothing that a condition reads is left alone; one that is volatile is asked each time.
CREATE SEQUENCE cond.odd;
CREATE TABLE cond.fickle (id int PRIMARY KEY, at timestamptz, title text);
SELECT slotkeeper.attach_table('cond.fickle', :'base'::jsonb || '{"occupies": "nextval(''cond.odd'') > 0"}') ->> 'outcome' AS outcome;
INSERT INTO cond.fickle VALUES (1, '2026-04-10 09:00Z');
SELECT last_value AS before FROM cond.odd \gset
UPDATE cond.fickle SET title = 'x';
SELECT last_value > :before AS asked FROM cond.odd;
CREATE TABLE cond.wide (id int PRIMARY KEY, at timestamptz, body text, title text);
ALTER TABLE cond.wide ALTER COLUMN body SET STORAGE EXTERNAL;
SELECT slotkeeper.attach_table('cond.wide', :'base'::jsonb || '{"occupies": "body <> ''''"}') ->> 'outcome' AS outcome;
INSERT INTO cond.wide VALUES (1, '2026-04-11 09:00Z', repeat('x', 5000));
UPDATE cond.wide SET title = 'x';
UPDATE cond.wide SET body = repeat('x', 5000), title = 'y';
UPDATE cond.wide SET body = repeat('y', 5000);
SELECT pg_temp.live('wide');
UPDATE cond.wide SET body = '';
SELECT pg_temp.live('wide');

-- Generated columns: asked once the row is stored.
CREATE TABLE cond.made (id int PRIMARY KEY, day date, at timestamp GENERATED ALWAYS AS (day + time '09:00') STORED, state text);
SELECT slotkeeper.attach_table('cond.made', :'base'::jsonb || '{"at_zone": "UTC", "on_conflict": "reject", "occupies": "state = ''on'' AND at > ''2026-01-01''"}') ->> 'outcome' AS outcome;
INSERT INTO cond.made VALUES (1, '2026-04-20', DEFAULT, 'on'), (2, '2026-04-20', DEFAULT, 'off');
SELECT pg_temp.try($c$UPDATE cond.made SET state = 'on' WHERE id = 2$c$);
UPDATE cond.made SET state = 'on', day = '2026-04-21' WHERE id = 2;
UPDATE cond.made SET day = '2026-04-22' WHERE id = 1;
SELECT pg_temp.live('made');

-- The triggers that carry the conditions: enabled, they do nothing; without one the table is not written unguarded.
ALTER TABLE cond.wide ENABLE TRIGGER ALL;
INSERT INTO cond.wide VALUES (2, '2026-04-12 09:00Z', 'x');
DELETE FROM cond.wide WHERE id = 2;
SELECT pg_temp.live('wide') IS NULL AS gone;
SELECT slotkeeper.reconcile_table('cond.wide') ->> 'outcome' AS outcome;
SELECT status FROM slotkeeper.binding_health WHERE source = 'cond.wide';
ALTER TABLE cond.wide ENABLE TRIGGER "~slotkeeper_takes";
SELECT slotkeeper.reconcile_table('cond.wide') ->> 'outcome' AS outcome;
SELECT status FROM slotkeeper.binding_health WHERE source = 'cond.wide';
SELECT tgname, tgenabled, tgqual IS NOT NULL AS carries FROM pg_trigger WHERE tgrelid = 'cond.wide'::regclass ORDER BY tgname COLLATE "C";
DROP TRIGGER "~slotkeeper_exempt" ON cond.wide;
SELECT pg_temp.try($c$INSERT INTO cond.wide VALUES (3, '2026-04-12 09:00Z', '')$c$);
SELECT status, reason FROM slotkeeper.binding_health WHERE source = 'cond.wide';
SELECT slotkeeper.reconcile_table('cond.wide') ->> 'outcome' AS outcome;
INSERT INTO cond.wide VALUES (3, '2026-04-12 09:00Z', 'x');
SELECT pg_temp.live('wide'), (SELECT status FROM slotkeeper.binding_health WHERE source = 'cond.wide');
-- Attached again with other predicates, in the session that has the old ones planned.
SELECT slotkeeper.attach_table('cond.wide', :'base'::jsonb || '{"occupies": "body = ''z''"}') ->> 'outcome' AS outcome;
INSERT INTO cond.wide VALUES (4, '2026-04-13 09:00Z', 'x'), (5, '2026-04-14 09:00Z', 'z');
SELECT pg_temp.live('wide');

SET client_min_messages = warning;
DROP SCHEMA cond, cond_a, cond_b CASCADE;
DROP OPERATOR pg_temp.= (text, text);
SELECT slotkeeper.drop_queue('cond', 'x', true) ->> 'outcome' AS outcome;
DROP OWNED BY regress_sk_owner;
DROP ROLE regress_sk_owner, regress_sk_ann, regress_sk_bob;
