-- attach_queues. What COMMENT says here is the short form of docs/reference.md.

COMMENT ON FUNCTION slotkeeper.attach_queues(regclass, jsonb) IS
'Makes queues follow a table of the application: they are created from its rows, and each edit of a row changes its queue in the same transaction.
p_options: profile_id, platform, time_zone (default UTC; each a column or {"value": …}), timetable (a column in any timetable form as jsonb, json or text; {"value": …}; or one row a slot: {"hour", "minute"} or {"time"}, with "days", "capacity", "ref"), status (predicates for disabled, needs_refresh, paused).
Outcome: attached, with source, table, rows, queues, created, updated. Undone with detach_table(); the queues stay.
Errors: 42501 not the owner; 42703 no such column; 22023 options, or a row whose zone or timetable is malformed; 23505 two rows, or two tables, name one queue.';

COMMENT ON FUNCTION slotkeeper.follow_queue() IS 'Trigger function of tables given to attach_queues(). Made for those alone: refuses any other.';
