-- What psql shows with \df+: arguments, units, outcomes, errors.

COMMENT ON FUNCTION slotkeeper.create_queue(text, text, text, jsonb, jsonb) IS
'Creates the queue of a profile on a platform.
p_time_zone: IANA name, or WIB, WITA, WIT. p_timetable: {"mon-fri": ["09:00", {"time": "18:00", "capacity": 2, "ref": "slot id"}]}, {"every": "30 minutes", "from": "08:00", "to": "22:00", "days": "mon-fri"}, [{"time": minutes of the UTC day}], or {} for free-form only. p_options: {"granule": "1 minute", "horizon": "1 year"}.
Outcome: created. Errors: 42710 exists; 22023 zone, timetable or option, naming the JSON path.';

COMMENT ON FUNCTION slotkeeper.alter_queue(text, text, text, jsonb, jsonb) IS
'Changes what is given of a queue''s zone, timetable and options (single options; JSON null restores a default). No booking moves.
Outcome: updated, with off_timetable (the first 100 live bookings that were on the timetable and are not now) and off_timetable_count. Errors: 42704; 22023; 55000 granule under live bookings; 55006 granule while a transaction that books is open.';

COMMENT ON FUNCTION slotkeeper.set_queue_status(text, text, text, text) IS
'Sets a queue''s status: active, paused, disabled or needs_refresh, with a reason. It stops publishing, not booking.
Outcome: updated. Errors: 42704; 22023.';

COMMENT ON FUNCTION slotkeeper.drop_queue(text, text, boolean) IS
'Drops a queue. Refuses while bookings are live, unless p_force: then they are lost, and it waits for transactions that book in the queue.
Outcome: dropped, with released (bookings lost). Errors: 42704; 55006.';

COMMENT ON FUNCTION slotkeeper.preview_slots(text, text, timestamptz, integer) IS
'The next p_count (at most 10000) slots of a queue''s timetable at or after p_from (default now), with local time, capacity, seats taken and by which contents. Reads only.
Errors: 42704; 22008 infinite p_from; 22023 p_count.';

COMMENT ON FUNCTION slotkeeper.assign_next_available_slot(text, text, text, text, timestamptz, boolean, text) IS
'Books the earliest free seat of the queue at or after p_not_before (default now) for a content. Never waits for another content''s transaction.
Outcomes: assigned, already_assigned (the same slot again), queue_full (with horizon_ends_at), not_found (a row of a bound table that the caller may not update). p_dry_run: says what would happen, books nothing. p_source: binding that the content id belongs to.
Errors: 42704 no such queue; 22004 null, 22023 empty, 22001 over 255 characters; 22008 infinite p_not_before.';

COMMENT ON FUNCTION slotkeeper.assign_next_available_slot(uuid, text, uuid, uuid, timestamptz, boolean, text) IS
'The same for applications whose ids are uuids. See the text form.';

COMMENT ON FUNCTION slotkeeper.assign_slots(jsonb, text) IS
'Books a seat for each item of [{"profile_id", "platform", "content_id", "user_id"?, "not_before"?, "source"?}], in one transaction; at most 100000 items.
p_mode: all_or_nothing (a batch with an item that finds no seat books nothing) or best_effort. Outcomes: assigned, partial, rejected, with results: one per item in input order (assigned, already_assigned, queue_full, not_found, or rejected for another item''s sake).
Errors: as assign_next_available_slot, naming p_items[i].';

COMMENT ON FUNCTION slotkeeper.schedule_content(text, text, text, timestamptz, text, text, boolean, text) IS
'Books p_at for a content; inside the granule of a slot it takes one of that slot''s seats. An instant before now becomes now.
p_on_conflict, where it is taken: next_slot (next free seat of the timetable), next_free (next free granule), reject. Outcomes: scheduled, moved (with requested_at, conflicts_with), conflict (with reason taken or past, next_free_at), already_assigned, queue_full, not_found (as in assign_next_available_slot).
Errors: 42704; 22004, 22023, 22001; 22008 infinite p_at.';

COMMENT ON FUNCTION slotkeeper.reschedule_content(text, timestamptz, text, boolean, text, text, text) IS
'Moves a booked content to p_at, with p_on_conflict as in schedule_content. Its own seat is no obstacle, and is free at once when it leaves.
p_profile_id, p_platform, p_source: needed where the content id alone is booked more than once. Outcomes: scheduled, moved, unchanged, conflict, queue_full, not_movable (with state: being published, or published), not_found.
Errors: 22023 ambiguous content id, naming the candidates; 22004, 22001; 22008.';

COMMENT ON FUNCTION slotkeeper.unschedule_content(text, text, text, text) IS
'Gives a content''s seat back; it is free for the next caller when this transaction commits.
Outcomes: unscheduled (with the seat it had), not_movable (with state: being published, or published), not_found. Errors: 22023 ambiguous content id; 22004, 22001; 55000 a row of a bound table without states.unscheduled.';
