-- Bindings, as psql shows them with \df+.

COMMENT ON FUNCTION slotkeeper.check_table(regclass, jsonb) IS
'What attach_table would find with these options; changes nothing.
Outcome: checked, with ready, rows_that_take_seats, already_booked, collisions (the first 100) and collision_count, unbooked (rows that cannot be booked: content_id, reason) and unbooked_count, exempt (rows and ids by predicate), privileges_lacking, problems (each with its remedy).
Errors: 22023 options or predicates, naming the JSON path; 42703 no such column; 42804 type of the time; 42809 no table.';

COMMENT ON FUNCTION slotkeeper.attach_table(regclass, jsonb) IS
'Guards a table: rows that occupy take a seat, whoever writes them. Books the rows that are there and makes triggers; adds nothing else to the table. Call it again to change the options.
p_options: content_id (a column with a unique index), profile_id, platform, user_id (a column, or {"value": "..."}), at (timestamptz, or timestamp with at_zone), at_zone, occupies, exempt {"name": predicate}, published_when, group, on_conflict (next_slot, next_free, reject), at_null (ignore, assign), now_within ("2 minutes"), states {"scheduled": {"column": "$slot_ref"}}, queue_defaults {"time_zone", "timetable", "options"}. Predicates are SQL over the row''s columns and run as the writer.
Outcome: attached, with source (the p_source of its contents), rows, booked, already_booked, collisions, collision_count, unbooked, unbooked_count. Errors: 42501 not the owner; 22023 options; 42P16 no unique index; 0A000 rows cannot be moved in this table; 42704 no queue.';

COMMENT ON FUNCTION slotkeeper.reconcile_table(regclass) IS
'Brings the ledger in line with a bound table''s rows: after TRUNCATE of a partition, replication, a disabled trigger.
Rows that could not be told what came of publishing are told it now.
Outcome: reconciled, with booked, moved, released, collisions, collision_count, unbooked, unbooked_count, and told_count, untold_count where there were such rows. Errors: 42501 not the owner; 42704 not attached.';

COMMENT ON FUNCTION slotkeeper.move_collisions(regclass, integer) IS
'Gives at most p_limit (1 to 100000) rows that collide another time, and writes it into them.
Outcome: moved, with moved, remaining, results (content_id, from, scheduled_at). Errors: 42501; 42704; 22023 p_limit.';

COMMENT ON FUNCTION slotkeeper.detach_table(regclass) IS
'Takes the guard off a table and gives its contents'' seats back, except those being published or published; or stops following a table of queues, which stay as they are.
Outcome: detached, with released. Errors: 42501 not the owner; 42704 not attached.';

COMMENT ON FUNCTION slotkeeper.guard_row() IS 'Trigger function of bound tables; attach_table makes the triggers.';
COMMENT ON FUNCTION slotkeeper.release_source(text) IS 'Gives the seats of a binding back, except those being published or published. For the event trigger that notices a dropped table.';
