-- publish_draft and claim_draft: what is written, what is answered, whose rights count, and every bad input.
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
CREATE SCHEMA drafts;
SET search_path = drafts, public;
CREATE TYPE status AS ENUM ('draft', 'scheduled', 'published');
CREATE TABLE "Event" (id text PRIMARY KEY, "titleText" varchar(20) NOT NULL, "startsAt" timestamptz(0), price numeric DEFAULT 9.99, tags text[], meta jsonb, n int GENERATED ALWAYS AS IDENTITY);
CREATE TABLE "EventCreatorDraft" (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), "eventId" text UNIQUE REFERENCES "Event" (id), status status NOT NULL DEFAULT 'draft', "updatedAt" timestamptz);
INSERT INTO "EventCreatorDraft" (id) SELECT ('00000000-0000-0000-0000-00000000000' || i)::uuid FROM generate_series(1, 9) AS i;

-- Published once; whoever comes later has the same id.
SELECT slotkeeper.publish_draft('"EventCreatorDraft"', '00000000-0000-0000-0000-000000000001', '"Event"', '{"id": "evt_1", "titleText": "First", "price": 12345678901234567890.123456789, "tags": ["a", "b c"], "meta": {"k": [1, null]}, "startsAt": "2026-01-15T23:00:00.4Z"}',
    'eventId', '{"status": "published", "updatedAt": "2026-01-15T12:00:00Z"}');
SELECT slotkeeper.publish_draft('"EventCreatorDraft"', '00000000-0000-0000-0000-000000000001', '"Event"', '{"id": "evt_2", "titleText": "Second"}', 'eventId');
SELECT slotkeeper.claim_draft('"EventCreatorDraft"', '00000000-0000-0000-0000-000000000001', 'eventId');
SELECT id, "titleText", "startsAt" AT TIME ZONE 'UTC' AS starts, price, tags, meta, n FROM "Event";
SELECT id, "eventId", status, "updatedAt" AT TIME ZONE 'UTC' AS updated FROM "EventCreatorDraft" WHERE "eventId" IS NOT NULL;
-- Another spelling of the same id, and none that exists.
SELECT slotkeeper.publish_draft('"EventCreatorDraft"', '{00000000000000000000000000000001}', '"Event"', '{"id": "evt_2", "titleText": "Second"}', 'eventId') ->> 'outcome' AS outcome;
SELECT slotkeeper.publish_draft('"EventCreatorDraft"', '00000000-0000-0000-0000-00000000000f', '"Event"', '{"id": "evt_2", "titleText": "Second"}', 'eventId');
SELECT slotkeeper.claim_draft('"EventCreatorDraft"', '00000000-0000-0000-0000-00000000000f', 'eventId');
-- Nothing is written for a draft that is published already.
SELECT xmin, xmax, ctid FROM "EventCreatorDraft" WHERE "eventId" = 'evt_1'
\gset before_
SELECT slotkeeper.publish_draft('"EventCreatorDraft"', '00000000-0000-0000-0000-000000000001', '"Event"', '{}', 'eventId') ->> 'target_id' AS target_id;
SELECT xmin = :'before_xmin' AND xmax = :'before_xmax' AND ctid = :'before_ctid' AS untouched FROM "EventCreatorDraft" WHERE "eventId" = 'evt_1';

-- Published or scheduled without a link.
UPDATE "EventCreatorDraft" SET status = 'scheduled' WHERE id = '00000000-0000-0000-0000-000000000002';
SELECT slotkeeper.publish_draft('"EventCreatorDraft"', d, '"Event"', jsonb_build_object('id', 'evt_' || right(d, 1), 'titleText', 'T'), 'eventId', p_published_when => $$status IN ('scheduled', 'published') -- whichever$$)
FROM unnest(ARRAY['00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000003']) AS d;
SELECT slotkeeper.publish_draft('"EventCreatorDraft"', '00000000-0000-0000-0000-000000000004', '"Event"', '{"id": "evt_4", "titleText": "T"}', 'eventId', p_published_when => 'NULL::boolean') ->> 'outcome' AS outcome;

-- Claimed: the caller writes, in its transaction.
BEGIN;
SELECT slotkeeper.claim_draft('"EventCreatorDraft"', '00000000-0000-0000-0000-000000000005', 'eventId');
SELECT slotkeeper.claim_draft('"EventCreatorDraft"', '00000000-0000-0000-0000-000000000005', 'eventId') ->> 'outcome' AS again;
INSERT INTO "Event" VALUES ('evt_5', 'By hand');
UPDATE "EventCreatorDraft" SET "eventId" = 'evt_5' WHERE id = '00000000-0000-0000-0000-000000000005';
SELECT slotkeeper.claim_draft('"EventCreatorDraft"', '00000000-0000-0000-0000-000000000005', 'eventId');
COMMIT;
-- Twice in one statement.
SELECT slotkeeper.publish_draft('"EventCreatorDraft"', '00000000-0000-0000-0000-000000000006', '"Event"', jsonb_build_object('id', 'evt_6' || i, 'titleText', 'T'), 'eventId') FROM generate_series(1, 2) AS i;
-- Rolled back, it is to be published again.
BEGIN;
SELECT slotkeeper.publish_draft('"EventCreatorDraft"', '00000000-0000-0000-0000-000000000007', '"Event"', '{"id": "evt_7", "titleText": "T"}', 'eventId') ->> 'outcome' AS outcome;
ROLLBACK;
SELECT slotkeeper.claim_draft('"EventCreatorDraft"', '00000000-0000-0000-0000-000000000007', 'eventId') ->> 'outcome' AS outcome;

-- A predicate is one expression, and cannot close the parentheses around it.
SELECT p || E'\n' || pg_temp.fault(format($$SELECT slotkeeper.publish_draft('"EventCreatorDraft"', '00000000-0000-0000-0000-000000000008', '"Event"', '{"id": "evt_8", "titleText": "T"}', 'eventId', p_published_when => %L)$$, p)) AS fault
FROM unnest(ARRAY['false) OR (true', 'true); DROP TABLE "Event"; --', 'true LIMIT 1', 'true, false', 'SELECT true']) AS p;

-- An insert that fails, in any way, leaves nothing behind.
SELECT count(*) AS events FROM "Event"
\gset
SELECT c || E'\n' || pg_temp.fault(format($$SELECT slotkeeper.publish_draft('"EventCreatorDraft"', '00000000-0000-0000-0000-000000000008', '"Event"', %s, 'eventId')$$, c)) AS fault
FROM unnest(ARRAY[$$'{"id": "evt_1", "titleText": "taken"}'$$, $$'{"id": "evt_8"}'$$, $$'{"id": "evt_8", "titleText": "longer than twenty characters"}'$$, $$'{"id": "evt_8", "titleText": "T", "price": "much"}'$$, $$'{"id": "evt_8", "titleText": "T", "n": 5}'$$,
    $$'{"id": "evt_8", "titletext": "T"}'$$, $$'{"id": "evt_8", "titleText": "T", "ctid": "(0,1)"}'$$, $$'{"id\" text, x": 1}'$$, $$'[]'$$, $$'7'$$, $$'null'$$, $$NULL$$]) AS c;
SELECT c || E'\n' || pg_temp.fault(format($$SELECT slotkeeper.publish_draft('"EventCreatorDraft"', '00000000-0000-0000-0000-000000000008', '"Event"', '{"id": "evt_8", "titleText": "T"}', 'eventId', %s)$$, c)) AS fault
FROM unnest(ARRAY[$$'{"status": "gone"}'$$, $$'{"nothing": 1}'$$, $$'{"eventId": "evt_1"}'$$, $$'[]'$$, $$'{}', 'no_such_column'$$, $$'{}', 'status'$$, $$'{}', ''$$]) AS c;
SELECT count(*) = :events AS as_before FROM "Event";
SELECT "eventId" IS NULL AS still_a_draft FROM "EventCreatorDraft" WHERE id = '00000000-0000-0000-0000-000000000008';
SELECT slotkeeper.publish_draft('"EventCreatorDraft"', '00000000-0000-0000-0000-000000000008', '"Event"', '{"id": "evt_8", "titleText": "T"}', 'eventId', NULL) ->> 'outcome' AS outcome;

-- Keys of other types; the link refers to another column than the primary key; no default but the server's own.
CREATE TABLE post (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code uuid UNIQUE NOT NULL DEFAULT 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11');
CREATE TABLE post_draft (id varchar(9) COLLATE "C" PRIMARY KEY, post_id bigint, post_code uuid REFERENCES post (code));
INSERT INTO post_draft VALUES ('it''s'), ('b');
SELECT slotkeeper.publish_draft('post_draft', 'it''s', 'post', '{}', 'post_id');
SELECT slotkeeper.publish_draft('post_draft', 'b', 'post', '{"code": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12"}', 'post_code');
SELECT * FROM post_draft ORDER BY id;
CREATE DOMAIN "Draft Id" AS int CHECK (VALUE > 0);
CREATE TABLE dom_draft (id "Draft Id" PRIMARY KEY, link text);
INSERT INTO dom_draft VALUES (1);
SELECT slotkeeper.publish_draft('dom_draft', '1', 'post', '{"code": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a13"}', 'link') ->> 'target_id' AS target_id;
-- Types whose name alone means a length of one.
CREATE TABLE coded (code char(3) PRIMARY KEY, mask bit(4) UNIQUE);
CREATE TABLE coded_draft (id char(4) PRIMARY KEY, code char(3), mask bit(4) REFERENCES coded (mask));
INSERT INTO coded_draft VALUES ('abcd'), ('abce');
SELECT slotkeeper.publish_draft('coded_draft', 'abcd', 'coded', '{"code": "xyz", "mask": "1010"}', 'code');
SELECT slotkeeper.publish_draft('coded_draft', 'abce', 'coded', '{"code": "xyy", "mask": "1011"}', 'mask', '{"code": "mno"}');
SELECT * FROM coded_draft ORDER BY id;
-- The target is partitioned.
CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (10);
INSERT INTO dom_draft VALUES (2);
SELECT slotkeeper.publish_draft('dom_draft', '2', 'parted', '{"id": 5}', 'link') ->> 'target_id' AS target_id;

-- Triggers that leave a row out.
CREATE FUNCTION left_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TABLE never (id int PRIMARY KEY);
CREATE TRIGGER left_out BEFORE INSERT ON never FOR EACH ROW EXECUTE FUNCTION left_out();
INSERT INTO dom_draft VALUES (3);
SELECT pg_temp.fault($$SELECT slotkeeper.publish_draft('dom_draft', '3', 'never', '{"id": 5}', 'link')$$);
CREATE TRIGGER left_out BEFORE UPDATE ON dom_draft FOR EACH ROW EXECUTE FUNCTION left_out();
SELECT pg_temp.fault($$SELECT slotkeeper.publish_draft('dom_draft', '3', 'parted', '{"id": 6}', 'link')$$);
SELECT count(*) AS parted FROM parted;
DROP TRIGGER left_out ON dom_draft;

-- The caller's own rights: grants, column grants, row security.
CREATE ROLE drafts_author;
GRANT USAGE ON SCHEMA drafts TO drafts_author;
SELECT slotkeeper.grant_access('drafts_author', 'user') ->> 'outcome' AS outcome;
CREATE TABLE own_draft (id int PRIMARY KEY, author name DEFAULT current_user, post_id int, open boolean DEFAULT true);
CREATE TABLE own_post (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, title text, secret text);
INSERT INTO own_draft VALUES (1, 'drafts_author'), (2, 'drafts_author'), (3, 'somebody');
INSERT INTO own_draft VALUES (4, 'drafts_author', NULL, false), (5, 'somebody', 77, true);
CREATE FUNCTION pg_temp.publish(draft text, target jsonb, changes jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.fault(format('SELECT slotkeeper.publish_draft(''own_draft'', %L, ''own_post'', %L, ''post_id'', %L)', draft, target, changes)) $$;
SET ROLE drafts_author;
SELECT pg_temp.publish('1', '{"title": "T"}');
RESET ROLE;
GRANT UPDATE (post_id) ON own_draft TO drafts_author;
SET ROLE drafts_author;
SELECT pg_temp.publish('1', '{"title": "T"}');
RESET ROLE;
GRANT SELECT ON own_draft TO drafts_author;
SET ROLE drafts_author;
SELECT pg_temp.publish('1', '{"title": "T"}');
RESET ROLE;
GRANT INSERT (title) ON own_post TO drafts_author;
SET ROLE drafts_author;
SELECT pg_temp.publish('1', '{"title": "T"}');
RESET ROLE;
GRANT SELECT (id) ON own_post TO drafts_author;
SET ROLE drafts_author;
SELECT pg_temp.publish('1', '{"title": "T", "secret": "S"}');
SELECT pg_temp.publish('1', '{"title": "T"}', '{"author": "me"}');
SELECT pg_temp.publish('1', '{"title": "T"}') LIKE 'no error: %"published"%' AS published;
RESET ROLE;
ALTER TABLE own_draft ENABLE ROW LEVEL SECURITY;
CREATE POLICY seen ON own_draft FOR SELECT USING (author = current_user OR id = 3);
CREATE POLICY changed ON own_draft FOR UPDATE USING (author = current_user AND open) WITH CHECK (true);
SET ROLE drafts_author;
-- One's own; seen, but another's; one's own, closed; another's, unseen.
SELECT id, pg_temp.publish(id::text, '{"title": "T"}') AS reply FROM generate_series(2, 5) AS id;
SELECT pg_temp.fault($$SELECT slotkeeper.claim_draft('own_draft', '3', 'post_id')$$);
RESET ROLE;
SELECT count(*) AS posts FROM own_post;

-- Texts are kept from call to call; whatever they name may change in between.
CREATE SCHEMA renamed;
CREATE TYPE renamed.mood AS ENUM ('calm', 'wild');
CREATE TABLE renamed.item (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, mood renamed.mood);
CREATE TABLE renamed.item_draft (id int PRIMARY KEY, item_id int UNIQUE, mood renamed.mood);
INSERT INTO renamed.item_draft SELECT generate_series(1, 9);
CREATE FUNCTION pg_temp.again(draft regclass, id int, target regclass, name text, link text) RETURNS text LANGUAGE sql AS $$
SELECT pg_temp.fault(format($c$SELECT slotkeeper.publish_draft(%L, '%s', %L, '{"%s": "N", "mood": "calm"}', %L, '{"mood": "wild"}')::jsonb - 'target_id'$c$, draft, id, target, name, link)) $$;
SELECT pg_temp.again('renamed.item_draft', 1, 'renamed.item', 'name', 'item_id');
ALTER SCHEMA renamed RENAME TO "Renamed";
SELECT pg_temp.again('"Renamed".item_draft', 2, '"Renamed".item', 'name', 'item_id');
ALTER TYPE "Renamed".mood RENAME TO temper;
SELECT pg_temp.again('"Renamed".item_draft', 3, '"Renamed".item', 'name', 'item_id');
ALTER TABLE "Renamed".item RENAME TO thing;
ALTER TABLE "Renamed".item_draft RENAME item_id TO thing_id;
SELECT pg_temp.again('"Renamed".item_draft', 4, '"Renamed".thing', 'name', 'thing_id');
SELECT pg_temp.again('"Renamed".item_draft', 5, '"Renamed".thing', 'name', 'item_id');
ALTER TABLE "Renamed".thing ALTER name TYPE varchar(1);
ALTER TABLE "Renamed".thing ALTER mood TYPE text[] USING ARRAY[mood::text];
SELECT pg_temp.again('"Renamed".item_draft', 6, '"Renamed".thing', 'name', 'thing_id');
ALTER TABLE "Renamed".thing ALTER mood TYPE text USING mood[1];
SELECT pg_temp.again('"Renamed".item_draft', 6, '"Renamed".thing', 'name', 'thing_id');
-- Inherited rows are the table's too.
CREATE TABLE "Renamed".late_draft () INHERITS ("Renamed".item_draft);
INSERT INTO "Renamed".late_draft VALUES (10);
SELECT pg_temp.again('"Renamed".item_draft', id, '"Renamed".thing', 'name', 'thing_id') FROM unnest(ARRAY[7, 10]) AS id;
SELECT id, thing_id, mood FROM "Renamed".item_draft WHERE thing_id IS NOT NULL ORDER BY id;
SELECT name, mood FROM "Renamed".thing ORDER BY id;

-- Bad input.
CREATE TABLE two_keys (a int, b int, link int, PRIMARY KEY (a, b));
CREATE TABLE no_key (id int, link int);
CREATE VIEW seen AS SELECT * FROM own_draft;
SELECT c || E'\n' || pg_temp.fault('SELECT slotkeeper.publish_draft(' || c || ')') AS fault
FROM unnest(ARRAY[$$NULL, '1', 'own_post', '{}', 'post_id'$$, $$'own_draft', NULL, 'own_post', '{}', 'post_id'$$, $$'own_draft', '1', NULL, '{}', 'post_id'$$, $$'own_draft', '1', 'own_post', NULL, 'post_id'$$, $$'own_draft', '1', 'own_post', '{}', NULL$$,
    $$'own_draft', '', 'own_post', '{}', 'post_id'$$, $$'own_draft', ' ', 'own_post', '{}', 'post_id'$$, $$'own_draft', repeat('1', 256), 'own_post', '{}', 'post_id'$$, $$'own_draft', 'x', 'own_post', '{}', 'post_id'$$, $$'own_draft', '1', 'own_post', '{}', 'nobody'$$,
    $$'own_draft', '1', 'own_post', '{}', ''$$, $$'own_draft', '1; DROP TABLE own_post', 'own_post', '{}', 'post_id'$$, $$'own_draft', '1', 'own_post', '{}', 'post_id" = 1; --'$$, $$'two_keys', '1', 'own_post', '{}', 'link'$$, $$'no_key', '1', 'own_post', '{}', 'link'$$,
    $$'seen', '1', 'own_post', '{}', 'post_id'$$, $$'parted', '1', 'own_post', '{}', 'id'$$, $$'own_draft', '2', 'seen', '{}', 'post_id'$$, $$'own_draft', '2', 'two_keys', '{}', 'post_id'$$, $$0::regclass, '1', 'own_post', '{}', 'post_id'$$, $$'own_draft', '1', 0::regclass, '{}', 'post_id'$$]) AS c;
SELECT c || E'\n' || pg_temp.fault('SELECT slotkeeper.claim_draft(' || c || ')') AS fault
FROM unnest(ARRAY[$$NULL, '1', 'post_id'$$, $$'own_draft', NULL, 'post_id'$$, $$'own_draft', '1', NULL$$, $$'own_draft', '', 'post_id'$$, $$'own_draft', 'x', 'post_id'$$, $$'own_draft', '1', 'nobody'$$, $$'seen', '1', 'post_id'$$, $$'no_key', '1', 'link'$$]) AS c;
BEGIN READ ONLY;
SELECT pg_temp.fault($$SELECT slotkeeper.publish_draft('own_draft', '1', 'own_post', '{}', 'post_id')$$), pg_temp.fault($$SELECT slotkeeper.claim_draft('own_draft', '1', 'post_id')$$);
COMMIT;

SET search_path = public;
SET client_min_messages = warning;
DROP SCHEMA drafts, "Renamed" CASCADE;
DROP OWNED BY drafts_author;
DROP ROLE drafts_author;
