-- unique_slug: what is given, what counts as taken, what proves it, and every bad input.
\a
CREATE FUNCTION pg_temp.fault(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    reply text; state text; message text; detail text; hint text;
BEGIN
    EXECUTE command INTO reply;
    RETURN 'no error: ' || reply;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                            detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', state || ': ' || message, 'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END
$$;
CREATE SCHEMA slugs;
SET search_path = slugs, public;
CREATE TABLE community (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, slug text UNIQUE);

-- Spelling.
SELECT source, slotkeeper.unique_slug('community', 'slug', source) AS slug
FROM unnest(ARRAY['My Community', '  Crème   Brûlée!! ', 'Straße & Ærø', 'Don’t panic', '北京 Москва', 'naïve_café.txt', '🦄 power',
                  U&'e\0301te\0301', '???', '', E'\t\n', '-', 'C++', 'ß', 'ÀÉÎÕÜ', repeat('long ', 40)]) AS source;
-- The same again in one transaction: those are held.
BEGIN;
SELECT slotkeeper.unique_slug('community', 'slug', 'Twice') AS slug FROM generate_series(1, 3);
SAVEPOINT s;
SELECT slotkeeper.unique_slug('community', 'slug', 'Twice') AS slug;
ROLLBACK TO s;
SELECT slotkeeper.unique_slug('community', 'slug', 'Twice') AS slug;
COMMIT;
-- When it has ended they are free.
SELECT slotkeeper.unique_slug('community', 'slug', 'Twice') AS slug;

-- Rows.
INSERT INTO community (name, slug) SELECT 'My Community', slotkeeper.unique_slug('community', 'slug', 'My Community') FROM generate_series(1, 12);
SELECT string_agg(slug, ' ' ORDER BY id) AS slugs FROM community;
-- Freed numbers are given again, and numbers don't run ahead of the names that there are (friendly_id#312).
DELETE FROM community WHERE slug IN ('my-community-1', 'my-community-11');
SELECT slotkeeper.unique_slug('community', 'slug', 'My Community') AS slug FROM generate_series(1, 3);
DELETE FROM community WHERE slug LIKE 'my-community-%';
SELECT slotkeeper.unique_slug('community', 'slug', 'My Community') AS slug;
DELETE FROM community;
SELECT slotkeeper.unique_slug('community', 'slug', 'My Community') AS slug;

-- Names that end in numbers.
INSERT INTO community (slug) VALUES ('news'), ('news-20240101'), ('post-1'), ('v-2'), ('v-2-1');
SELECT s AS source, slotkeeper.unique_slug('community', 'slug', s) AS slug FROM unnest(ARRAY['News', 'news 20240101', 'Post', 'Post 1', 'v', 'v 2']) AS s;
DELETE FROM community;

-- Length: never longer, number included; a column's own length counts.
INSERT INTO community (slug) VALUES ('abcdef'), ('ab'), ('a');
SELECT m AS max, slotkeeper.unique_slug('community', 'slug', 'abcdef ghi', NULL, m) AS slug FROM unnest(ARRAY[6, 2 + 2, 7, 8, 9, 10, 255]) AS m;
SELECT pg_temp.fault($$SELECT slotkeeper.unique_slug('community', 'slug', 'abc', p_max_length => 2)$$);
SELECT pg_temp.fault($$SELECT slotkeeper.unique_slug('community', 'slug', 'abc', p_max_length => 1)$$);
DELETE FROM community;
CREATE TABLE narrow (slug varchar(8) UNIQUE);
INSERT INTO narrow SELECT slotkeeper.unique_slug('narrow', 'slug', 'abcdefghijkl') FROM generate_series(1, 11);
SELECT string_agg(slug, ' ' ORDER BY length(slug), slug) AS slugs, max(length(slug)) AS longest FROM narrow;

-- Reserved words and another fallback.
SET slotkeeper.slug_reserved = 'admin, Log In,,news-1';
SET slotkeeper.slug_fallback = 'Senza Titolo';
SELECT s AS source, slotkeeper.unique_slug('community', 'slug', s) AS slug FROM unnest(ARRAY['Admin', 'log in', 'Login', '!!!', '???']) AS s;
INSERT INTO community (slug) VALUES ('news');
SELECT slotkeeper.unique_slug('community', 'slug', 'news') AS slug;
RESET slotkeeper.slug_reserved;
RESET slotkeeper.slug_fallback;
DELETE FROM community;

-- Scopes, in any order of the index's columns, of any type.
CREATE TABLE page (slug text, tenant bigint NOT NULL, lang text NOT NULL, day date, price numeric, UNIQUE (tenant, slug, lang));
INSERT INTO page (slug, tenant, lang) VALUES ('home', 1, 'en'), ('home', 1, 'de'), ('home-1', 1, 'de');
SELECT slotkeeper.unique_slug('page', 'slug', 'Home', '{"tenant": 1, "lang": "en"}') AS en, slotkeeper.unique_slug('page', 'slug', 'Home', '{"lang": "de", "tenant": "1"}') AS de,
       slotkeeper.unique_slug('page', 'slug', 'Home', '{"lang": "de", "tenant": 2}') AS other;
CREATE TABLE priced (slug text, price numeric NOT NULL, day date NOT NULL, UNIQUE (slug, price, day));
INSERT INTO priced VALUES ('a', 1.50, '2026-01-15');
BEGIN;
SELECT slotkeeper.unique_slug('priced', 'slug', 'a', '{"price": 1.5, "day": "2026-01-15"}'), slotkeeper.unique_slug('priced', 'slug', 'a', '{"price": "1.500", "day": "20260115"}'),
       slotkeeper.unique_slug('priced', 'slug', 'a', '{"price": 1.51, "day": "2026-01-15"}');
COMMIT;
-- A wider proof serves a narrower scope, and every index is heeded.
SELECT slotkeeper.unique_slug('community', 'slug', 'x', '{"name": "any"}') AS slug;
CREATE TABLE both_ways (slug text UNIQUE, tenant int NOT NULL, UNIQUE (tenant, slug));
INSERT INTO both_ways VALUES ('a', 1);
BEGIN;
SELECT slotkeeper.unique_slug('both_ways', 'slug', 'a', '{"tenant": 2}') AS first, slotkeeper.unique_slug('both_ways', 'slug', 'a', '{"tenant": 3}') AS second;
COMMIT;
-- NULL is a scope of its own only where the index says so.
CREATE TABLE child (slug text, parent int, UNIQUE NULLS NOT DISTINCT (parent, slug));
INSERT INTO child VALUES ('a', NULL);
SELECT slotkeeper.unique_slug('child', 'slug', 'a', '{"parent": null}') AS "null", slotkeeper.unique_slug('child', 'slug', 'a', '{"parent": 0}') AS zero;
CREATE TABLE orphan (slug text, parent int, UNIQUE (parent, slug));
SELECT pg_temp.fault($$SELECT slotkeeper.unique_slug('orphan', 'slug', 'a', '{"parent": null}')$$);
SELECT slotkeeper.unique_slug('orphan', 'slug', 'a', '{"parent": 1}') AS slug;

-- Names that must be quoted, domains, other collations, descending and covering indexes, a column dropped before.
CREATE TABLE "Odd ""Table" ("Gone" int, "The Slug" text COLLATE "C", n int);
ALTER TABLE "Odd ""Table" DROP COLUMN "Gone";
CREATE UNIQUE INDEX "Odd ""Index" ON "Odd ""Table" ("The Slug" COLLATE "POSIX" text_pattern_ops DESC NULLS LAST) INCLUDE (n);
INSERT INTO "Odd ""Table" VALUES ('a', 1);
SELECT slotkeeper.unique_slug('"Odd ""Table"', 'The Slug', 'a') AS slug;
CREATE DOMAIN short AS varchar(5) CHECK (VALUE <> 'b');
CREATE TABLE dom (slug short UNIQUE);
INSERT INTO dom VALUES ('a');
SELECT slotkeeper.unique_slug('dom', 'slug', 'a') AS slug, slotkeeper.unique_slug('dom', 'slug', 'abcdefgh') AS cut;
CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE folded (slug text COLLATE caseless UNIQUE);
INSERT INTO folded VALUES ('Home');
SELECT slotkeeper.unique_slug('folded', 'slug', 'home') AS slug;
CREATE TEMP TABLE mine (slug text PRIMARY KEY);
INSERT INTO mine VALUES ('a');
SELECT slotkeeper.unique_slug('mine', 'slug', 'a') AS slug;

-- Rows that the caller cannot see are taken all the same.
CREATE ROLE slugs_writer;
GRANT USAGE ON SCHEMA slugs TO slugs_writer;
SELECT slotkeeper.grant_access('slugs_writer', 'user') ->> 'outcome' AS outcome;
CREATE TABLE secret (slug text UNIQUE, owner text DEFAULT current_user);
INSERT INTO secret VALUES ('a');
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON secret USING (owner = current_user);
GRANT INSERT (slug), SELECT ON secret TO slugs_writer;
SET ROLE slugs_writer;
SELECT count(*) AS seen FROM secret;
SELECT slotkeeper.unique_slug('secret', 'slug', 'a') AS slug;
INSERT INTO secret (slug) VALUES (slotkeeper.unique_slug('secret', 'slug', 'a')) RETURNING slug;
SELECT pg_temp.fault($$SELECT slotkeeper.unique_slug('community', 'slug', 'a')$$);
RESET ROLE;
GRANT UPDATE (slug) ON community TO slugs_writer;
SET ROLE slugs_writer;
SELECT slotkeeper.unique_slug('community', 'slug', 'a') AS slug;
RESET ROLE;

-- No proof, no slug.
CREATE TABLE unproven (slug text, tenant int, title text);
SELECT pg_temp.fault($$SELECT slotkeeper.unique_slug('unproven', 'slug', 'a', '{"tenant": 1}')$$);
CREATE INDEX plain ON unproven (slug);
CREATE UNIQUE INDEX lower_slug ON unproven (lower(slug));
CREATE UNIQUE INDEX live_slug ON unproven (slug) WHERE title IS NOT NULL;
SELECT pg_temp.fault($$SELECT slotkeeper.unique_slug('unproven', 'slug', 'a')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.unique_slug('page', 'slug', 'a')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.unique_slug('page', 'slug', 'a', '{"tenant": 1}')$$);
CREATE VIEW seen AS SELECT * FROM community;
CREATE MATERIALIZED VIEW stored AS SELECT * FROM community;
CREATE TABLE parted (slug text PRIMARY KEY) PARTITION BY HASH (slug);
CREATE SEQUENCE counted;
SELECT t || E'\n' || pg_temp.fault(format('SELECT slotkeeper.unique_slug(%L, ''slug'', ''a'')', t)) AS fault
FROM unnest(ARRAY['seen', 'stored', 'parted', 'counted', 'community_slug_key', 'nowhere']) AS t;
SELECT pg_temp.fault($$SELECT slotkeeper.unique_slug(0::regclass, 'slug', 'a')$$);
SELECT pg_temp.fault($$SELECT slotkeeper.unique_slug(4294967295::regclass, 'slug', 'a')$$);
CREATE TABLE typed (i int UNIQUE, c char(9) UNIQUE, n name UNIQUE, j jsonb UNIQUE, a text[] UNIQUE, g text GENERATED ALWAYS AS ('x') STORED UNIQUE);
SELECT c || E'\n' || pg_temp.fault(format('SELECT slotkeeper.unique_slug(''typed'', %L, ''a'')', c)) AS fault
FROM unnest(ARRAY['i', 'c', 'n', 'j', 'a', 'g', 'ctid', 'tableoid', 'Slug', '', ' ', '"i"', 'i; DROP TABLE slugs.community', repeat('x', 100)]) AS c;
SELECT c || E'\n' || pg_temp.fault('SELECT slotkeeper.unique_slug(' || c || ')') AS fault
FROM unnest(ARRAY[$$NULL, 'slug', 'a'$$, $$'community', NULL, 'a'$$, $$'community', 'slug', NULL$$, $$'community', 'slug', 'a', NULL, NULL$$,
    $$'community', 'slug', 'a', NULL, 0$$, $$'community', 'slug', 'a', NULL, -1$$, $$'community', 'slug', 'a', NULL, 256$$,
    $$'community', 'slug', 'a', '[]'$$, $$'community', 'slug', 'a', '"tenant"'$$, $$'community', 'slug', 'a', '7'$$, $$'community', 'slug', 'a', '1e999'$$,
    $$'community', 'slug', 'a', '{"nobody": 1}'$$, $$'community', 'slug', 'a', '{"slug": "a"}'$$, $$'page', 'slug', 'a', '{"tenant": "x", "lang": "en"}'$$, $$'page', 'slug', 'a', '{"tenant": {}, "lang": "en"}'$$,
    $$'community', 'slug', 'a', 'null'$$, $$'community', 'slug', 'a', '{}'$$]) AS c;
BEGIN READ ONLY;
SELECT pg_temp.fault($$SELECT slotkeeper.unique_slug('community', 'slug', 'a')$$);
COMMIT;

-- Many slugs in one transaction: few locks where rows are written, and a bound where they are not.
CREATE FUNCTION pg_temp.locks() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() $$;
BEGIN;
INSERT INTO community (slug) SELECT slotkeeper.unique_slug('community', 'slug', 'Many') FROM generate_series(1, 3000);
SELECT pg_temp.locks() < 200 AS few, count(DISTINCT slug) AS slugs, max(substr(slug, 6)::int) AS last FROM community WHERE slug LIKE 'many-%';
-- Each in a subtransaction of its own, half of them undone.
DO $$
BEGIN
    FOR i IN 1..1500 LOOP
        BEGIN
            INSERT INTO community (slug) VALUES (slotkeeper.unique_slug('community', 'slug', 'Each'));
            IF i % 2 = 0 THEN RAISE EXCEPTION 'undone'; END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END LOOP;
END $$;
SELECT pg_temp.locks() < 400 AS few, count(*) AS slugs, max(substr(slug, 6)::int) AS last FROM community WHERE slug LIKE 'each-%';
-- Each row updated.
ALTER TABLE community ADD COLUMN renamed text UNIQUE;
UPDATE community SET renamed = slotkeeper.unique_slug('community', 'renamed', 'New ' || left(slug, 4));
SELECT pg_temp.locks() < 600 AS few, count(DISTINCT renamed) AS slugs FROM community;
COMMIT;
SELECT pg_temp.locks() AS none;
-- Tables and indexes that the transaction itself has dropped or rebuilt since are in nobody's way.
BEGIN;
CREATE TABLE gone (slug text UNIQUE);
CREATE TABLE rebuilt (slug text UNIQUE);
SELECT count(slotkeeper.unique_slug('gone', 'slug', 'A')) AS gone, count(slotkeeper.unique_slug('rebuilt', 'slug', 'A')) AS rebuilt FROM generate_series(1, 50);
DROP TABLE gone;
ALTER TABLE rebuilt ALTER COLUMN slug TYPE varchar(9);
SELECT count(slotkeeper.unique_slug('community', 'slug', 'Beside')) AS beside, max(slotkeeper.unique_slug('rebuilt', 'slug', 'A')) AS rebuilt FROM generate_series(1, 200);
ROLLBACK;
-- A procedure that commits, a cursor that is read in parts.
CREATE PROCEDURE committing() LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..150 LOOP
        INSERT INTO community (slug) VALUES (slotkeeper.unique_slug('community', 'slug', 'Committed'));
        IF i % 50 = 0 THEN COMMIT; END IF;
    END LOOP;
END $$;
CALL committing();
SELECT count(*) AS committed, pg_temp.locks() AS locks FROM community WHERE slug LIKE 'committed%';
BEGIN;
DECLARE c CURSOR FOR SELECT slotkeeper.unique_slug('community', 'slug', 'Fetched') AS slug FROM generate_series(1, 9);
FETCH 2 FROM c;
CLOSE c;
SELECT slotkeeper.unique_slug('community', 'slug', 'Fetched') AS slug;
COMMIT;
SELECT count(*) AS slugs FROM (SELECT slotkeeper.unique_slug('community', 'slug', 'Unwritten') AS slug FROM generate_series(1, 1000)) AS u;
SELECT pg_temp.fault($$SELECT count(slotkeeper.unique_slug('community', 'slug', 'Unwritten')) FROM generate_series(1, 5000)$$);
SELECT pg_temp.locks() AS none;

SET search_path = public;
SET client_min_messages = warning;
DROP SCHEMA slugs CASCADE;
DROP OWNED BY slugs_writer;
DROP ROLE slugs_writer;
