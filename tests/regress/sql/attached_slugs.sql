-- attach_slug: any INSERT gets its slug, a saved row keeps its own, and every bad input.
\a
CREATE FUNCTION pg_temp.fault(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    reply text; state text; message text; detail text; hint text;
BEGIN
    EXECUTE command INTO reply;
    RETURN 'no error: ' || coalesce(reply, 'done');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                            detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', state || ': ' || message, 'DETAIL: ' || nullif(detail, ''), 'HINT: ' || nullif(hint, ''));
END
$$;
CREATE SCHEMA attached;
SET search_path = attached, public;
CREATE TABLE community (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, slug text);
INSERT INTO community (name, slug) VALUES ('A', 'a'), ('B', 'b'), ('B', 'b'), ('C', NULL), ('D', '');

-- No index yet: what stands in its way is said.
SELECT pg_temp.fault($$SELECT slotkeeper.attach_slug('community', 'slug', 'name')$$);
DELETE FROM community WHERE id = 3;
SELECT pg_temp.fault($$SELECT slotkeeper.attach_slug('community', 'slug', 'name')$$);
CREATE UNIQUE INDEX ON community (slug);
SELECT slotkeeper.attach_slug('community', 'slug', 'name');
SELECT pg_get_triggerdef(oid) AS trigger FROM pg_trigger WHERE tgrelid = 'community'::regclass;
-- Rows without a slug get theirs when they are touched.
UPDATE community SET slug = NULL WHERE coalesce(slug, '') = '';
SELECT name, slug FROM community ORDER BY id;

-- Any writer.
INSERT INTO community (name) VALUES ('My Community'), ('My Community'), ('Mine'), (NULL) RETURNING slug;
INSERT INTO community (name, slug) VALUES ('Given', 'as-given'), ('Empty', '') RETURNING slug;
SELECT pg_temp.fault($$INSERT INTO community (name, slug) VALUES ('Taken', 'a') RETURNING slug$$);
COPY community (name) FROM stdin;
My Community
My Community
\.
INSERT INTO community (name) SELECT 'Bulk' FROM generate_series(1, 1000);
SELECT name, count(*), count(DISTINCT slug) AS slugs, max(slug) FILTER (WHERE name <> 'Bulk') AS last FROM community GROUP BY name ORDER BY name COLLATE "C" NULLS LAST;
SELECT max(substr(slug, 6)::int) AS last FROM community WHERE slug LIKE 'bulk-%';

-- Saved again: its own slug stays.
UPDATE community SET name = name WHERE slug = 'my-community-1' RETURNING slug;
UPDATE community SET name = 'Another' WHERE slug = 'my-community-1' RETURNING slug;
UPDATE community SET slug = NULL WHERE slug = 'my-community-2' RETURNING slug;
UPDATE community SET slug = NULL WHERE slug = 'my-community-1' RETURNING name, slug;
UPDATE community SET slug = 'by-hand' WHERE slug = 'another' RETURNING slug;
UPDATE community SET slug = slotkeeper.unique_slug('community', 'slug', name) WHERE slug = 'my-community-2' RETURNING slug;
CREATE TABLE saved (id int PRIMARY KEY, title text, slug text UNIQUE);
SELECT slotkeeper.attach_slug('saved', 'slug', 'title') ->> 'outcome' AS outcome;
-- What ORMs do.
INSERT INTO saved (id, title) VALUES (1, 'One') ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title, slug = EXCLUDED.slug RETURNING slug;
INSERT INTO saved (id, title) VALUES (1, 'One') ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title, slug = EXCLUDED.slug RETURNING slug;
INSERT INTO saved (id, title) VALUES (1, 'Two') ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title RETURNING slug;
INSERT INTO saved (id, title) VALUES (1, 'Two') ON CONFLICT DO NOTHING;
INSERT INTO saved (id, title) VALUES (2, 'One') RETURNING slug;

-- on_update: refresh.
SELECT slotkeeper.attach_slug('saved', 'slug', 'title', '{"on_update": "refresh"}') - 'table' AS reply;
UPDATE saved SET title = 'One' WHERE id = 1 RETURNING slug;
UPDATE saved SET title = 'Uno' RETURNING id, slug;
UPDATE saved SET title = 'uno!' RETURNING id, slug;
UPDATE saved SET title = 'Due', slug = 'mine' WHERE id = 1 RETURNING slug;
UPDATE saved SET id = 3 WHERE id = 1 RETURNING slug;

-- Scope, length, reserved words, fallback, another type of source.
CREATE TABLE page (tenant int NOT NULL, number bigint, day date, slug varchar(12), UNIQUE (tenant, slug));
SELECT pg_temp.fault($$SELECT slotkeeper.attach_slug('page', 'slug', 'day', '{"scope": "tenant"}')$$);
SELECT slotkeeper.attach_slug('page', 'slug', 'number', '{"scope": "tenant", "reserved": ["7"], "fallback": "Undated", "max_length": 200}') ->> 'outcome' AS outcome;
INSERT INTO page VALUES (1, 1234567890123456789), (1, 1234567890123456789), (2, 1234567890123456789), (1, 7), (1, NULL), (1, NULL) RETURNING tenant, slug;
UPDATE page SET tenant = 1 WHERE number = 7 RETURNING slug;
SELECT pg_temp.fault($$UPDATE page SET tenant = 1 WHERE tenant = 2 RETURNING slug$$);
UPDATE page SET tenant = 1, slug = NULL WHERE tenant = 2 RETURNING slug;

-- Earlier triggers change the source; names that must be quoted; long names.
CREATE TABLE "Odd ""Table" ("The Title" text, "The 'Slug" text UNIQUE, "a_column_whose_name_is_as_long_as_a_name_may_ever_be_in_this_db" text UNIQUE);
CREATE FUNCTION trimmed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW."The Title" := 'Trimmed ' || NEW."The Title"; RETURN NEW; END $$;
CREATE TRIGGER a BEFORE INSERT ON "Odd ""Table" FOR EACH ROW EXECUTE FUNCTION trimmed();
SELECT slotkeeper.attach_slug('"Odd ""Table"', 'The ''Slug', 'The Title', '{"fallback": "it''s"}');
SELECT slotkeeper.attach_slug('"Odd ""Table"', 'a_column_whose_name_is_as_long_as_a_name_may_ever_be_in_this_db', 'The Title') ->> 'trigger' AS trigger;
INSERT INTO "Odd ""Table" VALUES ('x') RETURNING *;

-- Whoever may insert gets a slug, with no right on the slug's column and none on slotkeeper.
CREATE ROLE attached_writer;
GRANT USAGE ON SCHEMA attached TO attached_writer;
GRANT INSERT (name), SELECT ON community TO attached_writer;
SET ROLE attached_writer;
INSERT INTO community (name) VALUES ('My Community') RETURNING slug;
RESET ROLE;
-- Only the owner attaches, also with the right to make triggers.
GRANT ALL ON community TO attached_writer;
SELECT slotkeeper.grant_access('attached_writer', 'user') ->> 'outcome' AS outcome;
SET ROLE attached_writer;
SELECT pg_temp.fault($$SELECT slotkeeper.attach_slug('community', 'slug', 'name')$$);
RESET ROLE;
ALTER TABLE community OWNER TO attached_writer;
SET ROLE attached_writer;
SELECT slotkeeper.attach_slug('community', 'slug', 'name') ->> 'outcome' AS outcome;
RESET ROLE;

-- Columns renamed or dropped, the index dropped: the insert says what to do.
ALTER TABLE saved RENAME COLUMN title TO headline;
SELECT pg_temp.fault($$INSERT INTO saved (id, headline) VALUES (9, 'Nine')$$);
ALTER TABLE saved RENAME COLUMN headline TO title;
INSERT INTO saved (id, title) VALUES (9, 'Nine') RETURNING slug;
ALTER TABLE saved RENAME TO kept;
INSERT INTO kept (id, title) VALUES (10, 'Nine') RETURNING slug;
ALTER TABLE kept DROP CONSTRAINT saved_slug_key;
SELECT pg_temp.fault($$INSERT INTO kept (id, title) VALUES (11, 'Nine')$$);
DROP TRIGGER slotkeeper_slug_slug ON kept;
INSERT INTO kept (id, title) VALUES (11, 'Nine') RETURNING slug;

-- Bad input.
CREATE TABLE bad (i int UNIQUE, title text, g text GENERATED ALWAYS AS ('x') STORED, slug text UNIQUE, parent int, other text, UNIQUE (parent, other));
CREATE VIEW seen AS SELECT * FROM bad;
CREATE TABLE parted (slug text PRIMARY KEY, title text) PARTITION BY HASH (slug);
SELECT c || E'\n' || pg_temp.fault('SELECT slotkeeper.attach_slug(' || c || ')') AS fault
FROM unnest(ARRAY[$$NULL, 'slug', 'title'$$, $$'bad', NULL, 'title'$$, $$'bad', 'slug', NULL$$, $$'bad', 'slug', 'nobody'$$, $$'bad', 'nobody', 'title'$$, $$'bad', '', 'title'$$, $$'bad', 'i', 'title'$$, $$'bad', 'g', 'title'$$,
    $$'bad', 'slug', 'g'$$, $$'seen', 'slug', 'title'$$, $$'parted', 'slug', 'title'$$, $$'bad', 'title', 'slug'$$, $$'bad', 'other', 'title', '{"scope": ["parent"]}'$$, $$'bad', 'slug', 'title', '{"scope": ["nobody"]}'$$,
    $$'bad', 'slug', 'title', '{"scope": [1]}'$$, $$'bad', 'slug', 'title', '[]'$$, $$'bad', 'slug', 'title', '{"max": 1}'$$, $$'bad', 'slug', 'title', '{"max_length": 256}'$$, $$'bad', 'slug', 'title', '{"on_update": "always"}'$$,
    $$'bad', 'slug', 'title', '{"fallback": ""}'$$, $$'bad', 'slug', 'title', NULL$$]) AS c;
CREATE OR REPLACE TRIGGER slotkeeper_slug_slug BEFORE INSERT ON bad FOR EACH ROW EXECUTE FUNCTION trimmed();
SELECT pg_temp.fault($$SELECT slotkeeper.attach_slug('bad', 'slug', 'title')$$);
DROP TRIGGER slotkeeper_slug_slug ON bad;
-- The trigger function by itself.
SELECT pg_temp.fault($$SELECT slotkeeper.write_slug()$$);
CREATE TRIGGER after_row AFTER INSERT ON bad FOR EACH ROW EXECUTE FUNCTION slotkeeper.write_slug('slug', 'title', '{}');
SELECT pg_temp.fault($$INSERT INTO bad (i) VALUES (1)$$);
DROP TRIGGER after_row ON bad;
CREATE TRIGGER no_arguments BEFORE INSERT ON bad FOR EACH ROW EXECUTE FUNCTION slotkeeper.write_slug();
SELECT pg_temp.fault($$INSERT INTO bad (i) VALUES (1)$$);
DROP TRIGGER no_arguments ON bad;
CREATE TRIGGER no_json BEFORE INSERT ON bad FOR EACH ROW EXECUTE FUNCTION slotkeeper.write_slug('slug', 'title', 'x');
SELECT pg_temp.fault($$INSERT INTO bad (i) VALUES (1)$$);
DROP TRIGGER no_json ON bad;
BEGIN READ ONLY;
SELECT pg_temp.fault($$SELECT slotkeeper.attach_slug('bad', 'slug', 'title')$$);
COMMIT;

SET search_path = public;
SET client_min_messages = warning;
-- A slug that is made of another text, for a row that has one of its own, is the writer's wish.
CREATE TABLE wish (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, slug text UNIQUE);
SELECT slotkeeper.attach_slug('wish', 'slug', 'name') ->> 'outcome' AS outcome;
INSERT INTO wish (name) VALUES ('News'), (E'tab\there\nnew line') RETURNING slug;
UPDATE wish SET slug = slotkeeper.unique_slug('wish', 'slug', 'Brand New Name') WHERE slug = 'news' RETURNING slug;
UPDATE wish SET slug = slotkeeper.unique_slug('wish', 'slug', name) WHERE name LIKE 'tab%' RETURNING slug;
DROP TABLE wish;
DROP SCHEMA attached CASCADE;
DROP OWNED BY attached_writer;
DROP ROLE attached_writer;
