-- Whose content a call books: p_source names a binding, and nobody gets around the row by naming another.
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS src CASCADE;
DROP ROLE IF EXISTS regress_sk_alice, regress_sk_columns, regress_sk_service;
RESET client_min_messages;
\set VERBOSITY terse
\a
SET slotkeeper.now = '2026-01-15T12:00:00+00:00';
CREATE SCHEMA src;
CREATE ROLE regress_sk_alice;
CREATE ROLE regress_sk_columns;
CREATE ROLE regress_sk_service BYPASSRLS;
GRANT USAGE ON SCHEMA src TO regress_sk_alice, regress_sk_columns, regress_sk_service;
CREATE FUNCTION src.try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    reply text;
    detail text;
    hint text;
BEGIN
    EXECUTE command INTO reply;
    RETURN coalesce(reply::jsonb ->> 'outcome', '-');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n  ', SQLSTATE || ': ' || SQLERRM, nullif(detail, ''), nullif(hint, ''));
END
$$;
CREATE FUNCTION src.assign(id text, more text DEFAULT '') RETURNS text LANGUAGE sql AS
    $$SELECT src.try(format('SELECT slotkeeper.assign_next_available_slot(%L, %L, %L%s)', 'src', 'x', id, more))$$;
CREATE FUNCTION src.at(id text, more text DEFAULT '') RETURNS text LANGUAGE sql AS
    $$SELECT src.try(format('SELECT slotkeeper.schedule_content(%L, %L, %L, %L%s)', 'src', 'x', id, '2026-03-01 10:00Z', more))$$;
CREATE FUNCTION src.batch(id text, source text) RETURNS text LANGUAGE sql AS
    $$SELECT src.try(format('SELECT slotkeeper.assign_slots(%L)', jsonb_build_array(jsonb_build_object('profile_id', 'src', 'platform', 'x', 'content_id', id, 'source', source))))$$;
CREATE FUNCTION src.booked() RETURNS text LANGUAGE sql SECURITY DEFINER AS
    $$SELECT coalesce(string_agg(format('%s%s', source || ' ', content_id), ', ' ORDER BY source, content_id), 'nothing') FROM slotkeeper.booking JOIN slotkeeper.queue USING (queue_id) WHERE profile_id = 'src' AND released_at IS NULL$$;
SELECT slotkeeper.create_queue('src', 'x', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome;
SELECT slotkeeper.grant_access(role, 'user') ->> 'outcome' AS outcome FROM unnest(ARRAY['regress_sk_alice', 'regress_sk_columns', 'regress_sk_service']) AS role;

-- As long as no table is bound a source is a name of the caller's own.
SELECT src.assign('1', $$, p_source => 'mine'$$), src.batch('1', 'theirs'), src.booked();
SELECT slotkeeper.unschedule_content('1', p_source => source) ->> 'outcome' AS outcome FROM unnest(ARRAY['mine', 'theirs']) AS source;

-- Everybody sees all posts; who may write one is up to its owner. Reels are everybody's.
CREATE TABLE src.post (id int PRIMARY KEY, owner text, at timestamptz, status text DEFAULT 'new');
CREATE TABLE src.reel (id int PRIMARY KEY, at timestamptz, status text DEFAULT 'new');
INSERT INTO src.post VALUES (1, 'regress_sk_alice'), (2, 'bob'), (3, 'bob');
ALTER TABLE src.post ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON src.post FOR SELECT USING (true);
CREATE POLICY own ON src.post FOR UPDATE USING (owner = current_user);
GRANT SELECT, INSERT, UPDATE ON src.post, src.reel TO regress_sk_alice, regress_sk_service;
GRANT SELECT ON src.post TO regress_sk_columns;
GRANT UPDATE (status) ON src.post TO regress_sk_columns;
\set options '"content_id": "id", "profile_id": {"value": "src"}, "platform": {"value": "x"}, "at": "at", "occupies": "status = ''on''", "states": {"scheduled": {"status": "on"}, "unscheduled": {"status": "new"}}'
SELECT slotkeeper.attach_table('src.post', ('{' || :'options' || '}')::jsonb) ->> 'source' AS source;
SET ROLE regress_sk_alice;
SELECT src.assign('2') AS not_mine, src.assign('2', $$, p_source => 'src.post'$$) AS nor_by_its_name;
SELECT src.assign('2', $$, p_source => 'invented'$$) AS under_no_name;
SELECT src.at('2', $$, p_source => 'invented'$$);
SELECT src.batch('2', 'invented');
SELECT src.assign('2', $$, p_source => 'invented', p_dry_run => true$$);
-- What is booked is looked up under any name.
SELECT src.try($$SELECT slotkeeper.reschedule_content('2', '2026-03-01', p_source => 'invented')$$), src.try($$SELECT slotkeeper.unschedule_content('2', p_source => 'invented')$$);
RESET ROLE;
-- Another table's name is none either.
SELECT slotkeeper.attach_table('src.reel', ('{' || :'options' || '}')::jsonb) ->> 'source' AS source;
SET ROLE regress_sk_alice;
SELECT src.assign('2', $$, p_source => 'src.reel'$$), src.at('2', $$, p_source => 'src.reel'$$), src.batch('2', 'src.reel'), src.assign('2', $$, p_source => 'src.reel', p_dry_run => true$$);
SELECT src.assign('1', $$, p_source => 'src.reel'$$) AS not_a_reel, src.assign('77', $$, p_source => 'src.reel'$$) AS no_row_at_all;
RESET ROLE;
-- Only rows that may be seen are named.
REVOKE ALL ON src.reel FROM regress_sk_service;
SET ROLE regress_sk_service;
SELECT src.assign('2', $$, p_source => 'invented'$$);
RESET ROLE;
SELECT src.booked();
GRANT SELECT, INSERT, UPDATE ON src.reel TO regress_sk_service;
-- A role that row security doesn't bind may book before the row is there; it adopts the booking.
SET ROLE regress_sk_service;
SELECT src.assign('77', $$, p_source => 'src.reel'$$), src.batch('78', 'src.reel'), src.booked();
INSERT INTO src.reel (id, status) VALUES (77, 'off');
UPDATE src.reel SET status = 'on', at = '2026-01-16 09:00Z' WHERE id = 77;
SELECT src.booked();
RESET ROLE;

-- A dry run finds the rows that the call itself would find: not what may only be seen, with what cannot be written.
CREATE FUNCTION src.dry(id text) RETURNS SETOF text LANGUAGE sql AS $f$
    SELECT src.assign(id, ', p_dry_run => true') UNION ALL SELECT src.at(id, ', p_dry_run => true')
    UNION ALL SELECT src.try(format('SELECT slotkeeper.reschedule_content(%L, %L, p_dry_run => true)', id, '2026-03-03 10:00Z'))
$f$;
INSERT INTO src.post VALUES (11, 'regress_sk_alice', '2026-02-01 09:00Z', 'on'), (12, 'bob', '2026-02-02 09:00Z', 'on'), (13, 'regress_sk_columns', '2026-02-03 09:00Z', 'on');
SET ROLE regress_sk_alice;
SELECT src.dry('1') AS mine, src.dry('2') AS seen, src.dry('11') AS mine_booked, src.dry('12') AS seen_booked, src.dry('99') AS none;
BEGIN READ ONLY;
SELECT src.dry('1') AS mine, src.dry('12') AS seen_booked;
COMMIT;
SELECT src.assign('2'), src.try($$SELECT slotkeeper.reschedule_content('12', '2026-03-03 10:00Z')$$);
RESET ROLE;
-- Nothing was written or locked.
SELECT xmax <> '0' AS locked, id, status FROM src.post WHERE id = 11;
-- Privileges may be granted column by column: the error says which is missing.
GRANT SELECT ON src.reel TO regress_sk_columns;
SET ROLE regress_sk_columns;
SELECT src.assign('13') AS booked;
SELECT src.try($$SELECT slotkeeper.reschedule_content('13', '2026-03-03 10:00Z')$$);
SELECT src.try($$SELECT slotkeeper.reschedule_content('13', '2026-03-03 10:00Z', p_dry_run => true)$$);
SELECT src.batch('13', 'src.post');
SELECT src.assign('77', $$, p_source => 'src.reel'$$) AS of_another_table, src.assign('77') AS the_same;
SELECT src.try($$SELECT slotkeeper.unschedule_content('13')$$);
SELECT src.assign('13') AS again;
RESET ROLE;
GRANT UPDATE (at) ON src.post TO regress_sk_columns;
SET ROLE regress_sk_columns;
SELECT src.assign('13'), src.try($$SELECT slotkeeper.unschedule_content('13')$$);
RESET ROLE;

-- A table whose binding is broken still has its rows: they are no content of no table.
ALTER TABLE src.reel RENAME COLUMN status TO state;
INSERT INTO src.post VALUES (4, 'regress_sk_alice');
SELECT src.assign('77'), src.batch('77', NULL);
SELECT src.assign('4') AS others_are_not_concerned;
ALTER TABLE src.reel RENAME COLUMN state TO status;
SELECT src.assign('77');

-- Where no table is bound any more names are free again.
SELECT slotkeeper.detach_table(t) ->> 'outcome' AS outcome FROM unnest(ARRAY['src.post', 'src.reel']::regclass[]) AS t;
SELECT src.assign('2', $$, p_source => 'src.post'$$), src.booked();

SELECT slotkeeper.drop_queue('src', 'x', true) ->> 'outcome' AS outcome;
SET client_min_messages = warning;
DROP SCHEMA src CASCADE;
DROP OWNED BY regress_sk_alice, regress_sk_columns, regress_sk_service;
DROP ROLE regress_sk_alice, regress_sk_columns, regress_sk_service;
