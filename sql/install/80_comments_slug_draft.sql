-- What psql shows with \df+: slugs and drafts.

COMMENT ON FUNCTION slotkeeper.unique_slug(regclass, text, text, jsonb, integer) IS
'A slug of p_source for p_column of p_table that no row has and nobody else was given: name, name-1, name-2, …; this transaction''s until it ends. Never waits for another caller''s transaction.
p_scope: {"column": value}, what slugs are unique together with. p_max_length: characters, 1 to 255, number included. A unique index on scope and column has to exist; rows that row security hides count. Settings: slotkeeper.slug_reserved, slotkeeper.slug_fallback.
Errors: 42P10 no unique index; 42P01, 42703 no such table or column; 42809 no ordinary table; 42804 column of another type; 42501 neither INSERT nor UPDATE on the column; 22004 null, also for a scope in which NULLs are distinct; 22023; 54000 nothing left in this length, or more than 1000 slugs given and not written.';
