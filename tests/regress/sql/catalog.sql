-- Every function with its labels, every object with its grants: a change here is a change of the contract.
\a
SELECT p.proname AS function, a.ord AS "#", a.name, format_type(a.type, NULL) AS type,
       CASE a.mode WHEN 't' THEN 'table' WHEN 'i' THEN 'in' ELSE a.mode::text END AS mode,
       CASE WHEN a.mode = 'i' THEN pg_get_function_arg_default(p.oid, a.ord::int) END AS "default"
FROM pg_proc AS p,
     LATERAL ROWS FROM (
         unnest(p.proargnames),
         unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])),
         unnest(coalesce(p.proargmodes, array_fill('i'::"char", ARRAY[p.pronargs::int])))
     ) WITH ORDINALITY AS a (name, type, mode, ord)
WHERE p.pronamespace = 'slotkeeper'::regnamespace
ORDER BY p.proname COLLATE "C", p.oid::regprocedure::text COLLATE "C", a.ord;

SELECT p.oid::regprocedure AS function, pg_get_function_result(p.oid) AS result, l.lanname AS language,
       CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END AS volatility,
       CASE p.proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' ELSE 'unsafe' END AS parallel,
       p.proisstrict AS strict, p.prosecdef AS definer, p.proleakproof AS leakproof, p.proconfig AS config
FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
WHERE p.pronamespace = 'slotkeeper'::regnamespace
ORDER BY p.oid::regprocedure::text COLLATE "C";

CREATE FUNCTION pg_temp.grants(acl aclitem[]) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(who || '=' || privileges, ' ' ORDER BY who)
    FROM (
        SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END COLLATE "C" AS who,
               string_agg(privilege_type || CASE WHEN is_grantable THEN '*' ELSE '' END, ','
                          ORDER BY privilege_type COLLATE "C") AS privileges
        FROM aclexplode(acl)
        WHERE privilege_type <> 'MAINTAIN' -- the owner's, from PostgreSQL 17 on
        GROUP BY 1
    ) AS g
$$;

SELECT p.oid::regprocedure AS function, pg_temp.grants(coalesce(proacl, acldefault('f', proowner))) AS grants
FROM pg_proc AS p WHERE p.pronamespace = 'slotkeeper'::regnamespace
ORDER BY p.oid::regprocedure::text COLLATE "C";

SELECT CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' ELSE c.relkind::text END AS kind,
       c.relname AS name, c.relpersistence AS persistence, c.relrowsecurity AS rls,
       pg_temp.grants(coalesce(relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))) AS grants
FROM pg_class AS c
WHERE c.relnamespace = 'slotkeeper'::regnamespace AND c.relkind NOT IN ('i', 't')
ORDER BY kind, c.relname COLLATE "C";

SELECT nspname AS schema, pg_temp.grants(coalesce(nspacl, acldefault('n', nspowner))) AS grants
FROM pg_namespace WHERE nspname = 'slotkeeper';

SELECT c.relname AS "table", a.attname AS "column", pg_temp.grants(a.attacl) AS column_grants
FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
WHERE c.relnamespace = 'slotkeeper'::regnamespace AND a.attacl IS NOT NULL;

-- Rights come from grants alone: no triggers, rules or policies.
SELECT (SELECT count(*) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
        WHERE c.relnamespace = 'slotkeeper'::regnamespace) AS triggers,
       (SELECT count(*) FROM pg_rewrite AS r JOIN pg_class AS c ON c.oid = r.ev_class
        WHERE c.relnamespace = 'slotkeeper'::regnamespace AND c.relkind = 'r') AS rules,
       (SELECT count(*) FROM pg_policy AS y JOIN pg_class AS c ON c.oid = y.polrelid
        WHERE c.relnamespace = 'slotkeeper'::regnamespace) AS policies;

-- Columns, as a dump of an older version has to fit them.
SELECT c.relname AS "table", a.attnum AS "#", a.attname AS "column", format_type(a.atttypid, a.atttypmod) AS type,
       a.attnotnull AS not_null, CASE WHEN a.attcollation <> 0 THEN a.attcollation::regcollation END AS collation,
       pg_get_expr(d.adbin, d.adrelid) AS "default"
FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = 'slotkeeper'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY c.relname COLLATE "C", a.attnum;

-- Everything public says what it is: no row here.
SELECT 'function ' || p.oid::regprocedure AS without_comment
FROM pg_proc AS p
WHERE p.pronamespace = 'slotkeeper'::regnamespace AND coalesce(obj_description(p.oid, 'pg_proc'), '') = ''
UNION ALL
SELECT 'table ' || c.oid::regclass
FROM pg_class AS c
WHERE c.relnamespace = 'slotkeeper'::regnamespace AND c.relkind IN ('r', 'v')
  AND coalesce(obj_description(c.oid, 'pg_class'), '') = ''
UNION ALL
SELECT 'schema ' || n.nspname
FROM pg_namespace AS n
WHERE n.nspname = 'slotkeeper' AND coalesce(obj_description(n.oid, 'pg_namespace'), '') = ''
UNION ALL
SELECT 'extension ' || e.extname
FROM pg_extension AS e
WHERE e.extname = 'slotkeeper' AND coalesce(obj_description(e.oid, 'pg_extension'), '') = '';

-- pg_dump carries the rows of these, all of them.
SELECT cfg.oid::regclass AS dumped, cfg.condition
FROM pg_extension AS e, LATERAL ROWS FROM (unnest(e.extconfig), unnest(e.extcondition)) AS cfg (oid, condition)
WHERE e.extname = 'slotkeeper'
ORDER BY cfg.oid::regclass::text COLLATE "C";
SELECT c.oid::regclass AS not_dumped
FROM pg_class AS c, pg_extension AS e
WHERE c.relnamespace = 'slotkeeper'::regnamespace AND c.relkind IN ('r', 'S') AND e.extname = 'slotkeeper'
  AND c.oid <> ALL (e.extconfig);
