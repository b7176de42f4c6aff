//! What is true of every ledger, whatever was done to it.

use postgres::Client;

use crate::{eventually, one};

/// Questions whose answer is no row, about live bookings.
const NEVER: [(&str, &str); 4] = [
    (
        "a seat that two contents hold",
        "SELECT queue_id, granule, seat, array_agg(content_id)::text
         FROM slotkeeper.booking WHERE released_at IS NULL GROUP BY 1, 2, 3 HAVING count(*) > 1",
    ),
    (
        "a content booked twice in one queue",
        "SELECT queue_id, content_id, source, array_agg(booking_id)::text
         FROM slotkeeper.booking WHERE released_at IS NULL GROUP BY 1, 2, 3 HAVING count(*) > 1",
    ),
    (
        "a granule that its instant does not lie in",
        "SELECT booking_id, granule, scheduled_at
         FROM slotkeeper.booking AS b JOIN slotkeeper.queue AS q USING (queue_id)
         WHERE granule <> floor(extract(epoch FROM scheduled_at) / extract(epoch FROM (options->>'granule')::interval))",
    ),
    (
        "a booking of no queue",
        "SELECT booking_id, queue_id FROM slotkeeper.booking AS b
         WHERE NOT EXISTS (SELECT FROM slotkeeper.queue AS q WHERE q.queue_id = b.queue_id)",
    ),
];

const CROWDED: (&str, &str) = (
    "more contents in a granule than it has seats",
    "WITH slot AS MATERIALIZED (
             SELECT q.queue_id, floor(extract(epoch FROM s.slot_at) / g.secs)::bigint AS granule, s.capacity
             FROM slotkeeper.queue AS q,
                  LATERAL (SELECT extract(epoch FROM (options->>'granule')::interval) AS secs) AS g,
                  LATERAL (SELECT min(scheduled_at) AS first FROM slotkeeper.booking AS b
                           WHERE b.queue_id = q.queue_id AND released_at IS NULL) AS b,
                  LATERAL slotkeeper.preview_slots(q.profile_id, q.platform, b.first - interval '1 day', 10000) AS s
             WHERE b.first IS NOT NULL
         )
         SELECT b.queue_id, b.granule, b.held, slot.capacity, b.contents
         FROM (SELECT queue_id, granule, count(*) AS held, array_agg(content_id ORDER BY seat)::text AS contents
               FROM slotkeeper.booking WHERE released_at IS NULL
               GROUP BY 1, 2 HAVING count(*) > 1) AS b
         LEFT JOIN slot USING (queue_id, granule)
         WHERE b.held > coalesce(slot.capacity, 1)",
);

/// Panics where a ledger has what none may have whose queues have always been what they are now.
pub fn check(client: &mut Client) {
    check_altered(client);
    never(client, &[CROWDED]);
}

/// Panics where a ledger has what none may have, even after its queues were altered.
pub fn check_altered(client: &mut Client) {
    never(client, &NEVER);
}

fn never(client: &mut Client, questions: &[(&str, &str)]) {
    for (what, sql) in questions {
        let found = client
            .simple_query(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        let rows: Vec<String> = found
            .iter()
            .filter_map(|message| match message {
                postgres::SimpleQueryMessage::Row(row) => Some(
                    (0..row.len())
                        .map(|i| row.get(i).unwrap_or("NULL"))
                        .collect::<Vec<_>>()
                        .join(" | "),
                ),
                _ => None,
            })
            .collect();
        let shown = rows.iter().take(10).cloned().collect::<Vec<_>>().join("\n  ");
        assert!(
            rows.is_empty(),
            "the ledger has {what}, {} times:\n  {shown}",
            rows.len()
        );
    }
}

/// Every lock of slotkeeper in this database is given back, at once or when the last backends have gone.
pub fn no_locks_left(client: &mut Client) {
    eventually("no advisory lock is left", || locks(client) == 0);
}

/// Advisory locks in this database.
pub fn locks(client: &mut Client) -> i64 {
    advisory_locks(client, "true")
}

/// Locks in this database that are held only for a moment, or by somebody who takes a queue away.
pub fn brief_locks(client: &mut Client) -> i64 {
    advisory_locks(client, "mode = 'ExclusiveLock'")
}

fn advisory_locks(client: &mut Client, which: &str) -> i64 {
    one(
        client,
        &format!(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND {which}
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ),
    )
}

/// Locks of all kinds that a backend holds.
pub fn locks_of(client: &mut Client, pid: i32) -> i64 {
    one(client, &format!("SELECT count(*) FROM pg_locks WHERE pid = {pid}"))
}

/// Whether a backend waits for another one.
pub fn waits(client: &mut Client, pid: i32) -> bool {
    one(client, &format!("SELECT cardinality(pg_blocking_pids({pid})) > 0"))
}
