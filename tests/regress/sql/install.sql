-- What CREATE EXTENSION leaves behind, and how it ends.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS slotkeeper;
SELECT extrelocatable AS relocatable, extversion ~ '^\d+\.\d+\.\d+$' AS version, rolsuper AS owned_by_superuser
FROM pg_extension JOIN pg_roles AS r ON r.oid = extowner
WHERE extname = 'slotkeeper';

-- The schema belongs to the superuser, and so does everything in it.
SELECT nspname, rolname AS owner, rolsuper FROM pg_namespace JOIN pg_roles AS r ON r.oid = nspowner
WHERE nspname = 'slotkeeper';
SELECT count(*) AS owned_by_others
FROM (
    SELECT proowner AS owner FROM pg_proc WHERE pronamespace = 'slotkeeper'::regnamespace
    UNION ALL
    SELECT relowner FROM pg_class WHERE relnamespace = 'slotkeeper'::regnamespace
) AS o
JOIN pg_roles AS r ON r.oid = o.owner
WHERE NOT rolsuper;

-- Members of the extension, but for row types and arrays, which belong to their tables (members themselves since 17).
SELECT pg_describe_object(classid, objid, 0) COLLATE "C" AS member
FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'slotkeeper')
  AND NOT (classid = 'pg_type'::regclass AND EXISTS (
      SELECT FROM pg_type AS t LEFT JOIN pg_type AS e ON e.typarray = t.oid
      WHERE t.oid = objid AND (t.typrelid <> 0 OR e.typrelid <> 0)))
ORDER BY member;

-- Nothing in the schema that is no member (indexes and row types belong to their tables).
SELECT pg_describe_object(o.classid, o.objid, 0) AS stray
FROM (
    SELECT 'pg_proc'::regclass AS classid, oid AS objid FROM pg_proc WHERE pronamespace = 'slotkeeper'::regnamespace
    UNION ALL
    SELECT 'pg_class'::regclass, oid FROM pg_class
    WHERE relnamespace = 'slotkeeper'::regnamespace AND relkind NOT IN ('i', 't')
    UNION ALL
    SELECT 'pg_type'::regclass, oid FROM pg_type AS t
    WHERE typnamespace = 'slotkeeper'::regnamespace AND typrelid = 0
      AND NOT EXISTS (SELECT FROM pg_type AS e WHERE e.typarray = t.oid)
    UNION ALL
    SELECT 'pg_operator'::regclass, oid FROM pg_operator WHERE oprnamespace = 'slotkeeper'::regnamespace
) AS o
WHERE NOT EXISTS (
    SELECT FROM pg_depend AS d
    WHERE d.classid = o.classid AND d.objid = o.objid AND d.deptype = 'e'
      AND d.refclassid = 'pg_extension'::regclass
);

-- What proves the promises about seats.
SELECT c.relname COLLATE "C" AS index, i.indisunique AS "unique",
       (SELECT string_agg(pg_get_indexdef(c.oid, n, true), ', ' ORDER BY n) FROM generate_series(1, i.indnkeyatts) AS n) AS columns,
       pg_get_expr(i.indpred, i.indrelid) AS "where"
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE c.relnamespace = 'slotkeeper'::regnamespace
ORDER BY index;
SELECT conname COLLATE "C" AS name, contype AS type, pg_get_constraintdef(oid) AS definition
FROM pg_constraint WHERE connamespace = 'slotkeeper'::regnamespace AND contype <> 'n'
ORDER BY name;

-- It does not move, and leaves nothing behind.
CREATE SCHEMA regress_elsewhere;
ALTER EXTENSION slotkeeper SET SCHEMA regress_elsewhere;
DROP SCHEMA regress_elsewhere;
BEGIN;
DROP EXTENSION slotkeeper;
SELECT to_regnamespace('slotkeeper') IS NULL AS gone;
CREATE EXTENSION slotkeeper;
SELECT slotkeeper.create_queue('install', 'x', 'UTC', '{"daily": ["09:00"]}') ->> 'outcome' AS outcome;
ROLLBACK;

-- A schema of that name that somebody else has made is not adopted. (Newer servers add which line of the script failed.)
\set SHOW_CONTEXT never
BEGIN;
DROP EXTENSION slotkeeper;
CREATE SCHEMA slotkeeper;
CREATE EXTENSION slotkeeper;
ROLLBACK;
\set SHOW_CONTEXT errors

-- The setting is the superuser's.
SELECT name, vartype, context, setting FROM pg_settings WHERE name LIKE 'slotkeeper.%' ORDER BY name;

-- A database in another encoding is refused, and one in none.
SELECT current_database() AS home
\gset
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_slotkeeper_encoding;
\set SHOW_CONTEXT never
CREATE DATABASE regress_slotkeeper_encoding ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_slotkeeper_encoding
CREATE EXTENSION slotkeeper;
\c :home
DROP DATABASE regress_slotkeeper_encoding;
CREATE DATABASE regress_slotkeeper_encoding ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_slotkeeper_encoding
CREATE EXTENSION slotkeeper;
\c :home
DROP DATABASE regress_slotkeeper_encoding;
\set SHOW_CONTEXT errors
