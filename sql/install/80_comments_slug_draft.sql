-- What psql shows with \df+: slugs and drafts.

COMMENT ON FUNCTION slotkeeper.unique_slug(regclass, text, text, jsonb, integer) IS
'A slug of p_source for p_column of p_table that no row has and nobody else was given: name, name-1, name-2, …; this transaction''s until it ends. Never waits for another caller''s transaction.
p_scope: {"column": value}, what slugs are unique together with. p_max_length: characters, 1 to 255, number included. A unique index on scope and column has to exist; rows that row security hides count. Settings: slotkeeper.slug_reserved, slotkeeper.slug_fallback.
Errors: 42P10 no unique index; 42P01, 42703 no such table or column; 42809 no ordinary table; 42804 column of another type; 42501 neither INSERT nor UPDATE on the column; 22004 null, also for a scope in which NULLs are distinct; 22023; 54000 nothing left in this length, or more than 1000 slugs given and not written.';

COMMENT ON FUNCTION slotkeeper.attach_slug(regclass, text, text, jsonb) IS
'From now on any INSERT into p_table gets a slug of p_source_column in p_column, whoever writes; one that is given is kept as it is. Makes a trigger, whose arguments say all of this; dropping the trigger ends it. Needs ownership of the table, and a unique index on scope and column.
p_options: {"scope": ["column"], "max_length": 80, "reserved": ["admin"], "fallback": "item", "on_update": "keep" or "refresh" (a changed source gets another slug)}.
Outcomes: attached, updated, with trigger and rows_without_slug. Errors: as unique_slug; 42P10 names slugs that are there more than once; 42501 not the owner; 42710 another trigger of that name; 22023 naming the option.';

COMMENT ON FUNCTION slotkeeper.write_slug() IS
'The trigger function of attach_slug(). Errors: 39P01 called otherwise; 55000 the columns it names are gone.';

COMMENT ON FUNCTION slotkeeper.publish_draft(regclass, text, regclass, jsonb, text, jsonb, text) IS
'Publishes a draft once, however many callers try: inserts p_target_row ({"column": value}) into p_target_table, and writes its id into p_link_column of the draft, and p_draft_changes ({"column": value}) with it. All with the caller''s own rights. Waits for another caller of the same draft.
p_draft_id: the draft''s primary key, as text. p_published_when: SQL predicate over the draft''s columns that holds where it is published or scheduled although its link is NULL; it is SQL, never pass what a user typed.
Outcomes: published, already_published (both with target_id), not_found (no such draft, or none that the caller may update). Errors: those of the INSERT and UPDATE; 42P10 no primary key of one column; 42P01, 42703, 42809; 42501; 55000 a trigger kept a row from being stored; 22004, 22023, 22001, 22P02.';

COMMENT ON FUNCTION slotkeeper.claim_draft(regclass, text, text) IS
'For callers that insert the target themselves, in this transaction: locks a draft whose p_link_column is NULL until the transaction ends. Insert, then fill the link. Waits for another caller of the same draft.
Outcomes: claimed (insert now), already_published (with target_id: insert nothing), not_found. Errors: as publish_draft.';
