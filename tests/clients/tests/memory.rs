//! A backend that lives for long stays as small as it was.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::time::Instant;

use postgres::Client;
use slotkeeper_client_tests::{Database, one, reply, run};

const QUEUES: usize = 3_000;

/// Bytes in memory contexts, and kilobytes of the process that are its own.
fn size(client: &mut Client) -> (i64, i64) {
    let contexts = one(
        client,
        "SELECT sum(total_bytes)::bigint FROM pg_backend_memory_contexts",
    );
    let process: Option<String> = client
        .query_one(
            "SELECT substring(pg_read_file('/proc/self/status') FROM 'RssAnon:\\s*(\\d+) kB')",
            &[],
        )
        .map(|row| row.get(0))
        .unwrap_or_default();
    (contexts, process.and_then(|kb| kb.parse().ok()).unwrap_or(0))
}

/// Calls of each kind, in single statements and many to a statement.
fn calls(client: &mut Client, count: usize) {
    let mut queue = 0;
    let mut made = 0;
    while made < count {
        for _ in 0..25 {
            queue = queue % QUEUES + 1;
            let platform = format!("q{queue}");
            reply(
                client,
                "SELECT slotkeeper.assign_next_available_slot('p', $1, 'single')",
                &[&platform],
            );
            reply(
                client,
                "SELECT slotkeeper.reschedule_content('single', '2026-03-01T00:00:00Z', p_platform => $1)",
                &[&platform],
            );
            reply(
                client,
                "SELECT slotkeeper.unschedule_content('single', 'p', $1)",
                &[&platform],
            );
            made += 3;
        }
        let (from, to) = (queue as i64, queue as i64 + 249);
        let many = |sql: &str, client: &mut Client| {
            client
                .query(sql, &[&from, &to])
                .unwrap_or_else(|error| panic!("{sql}: {error}"));
        };
        many(
            "SELECT slotkeeper.assign_next_available_slot('p', 'q' || (i % 3000 + 1), 'c' || i) FROM generate_series($1::bigint, $2) AS i",
            client,
        );
        many(
            "SELECT slotkeeper.schedule_content('p', 'q' || (i % 3000 + 1), 's' || i, '2026-02-01T00:00:00Z') FROM generate_series($1::bigint, $2) AS i",
            client,
        );
        many(
            "SELECT slotkeeper.assign_slots(jsonb_agg(jsonb_build_object('profile_id', 'p', 'platform', 'q' || (i % 3000 + 1), 'content_id', 'b' || i))) FROM generate_series($1::bigint, $2) AS i",
            client,
        );
        many(
            "SELECT slotkeeper.unschedule_content(k || i) FROM generate_series($1::bigint, $2) AS i, unnest('{c,s,b}'::text[]) AS k",
            client,
        );
        made += 250 * 6;
        queue = (queue + 250) % QUEUES;
    }
}

/// Protection: caches are bounded, kept plans are made once, and nothing else outlives a call.
#[test]
fn a_backend_is_no_larger_after_two_hundred_thousand_calls() {
    let database = Database::new("memory");
    let mut client = database.connect();
    run(&mut client, "SET synchronous_commit = off");
    run(
        &mut client,
        &format!(
            "SELECT slotkeeper.create_queue('p', 'q' || i, CASE i % 3 WHEN 0 THEN 'Asia/Jakarta' WHEN 1 THEN 'America/New_York' ELSE 'UTC' END,
             '{{\"mon-fri\": [\"09:00\", \"18:00\"]}}') FROM generate_series(1, {QUEUES}) AS i"
        ),
    );
    calls(&mut client, 25_000);
    let before = size(&mut client);
    let started = Instant::now();
    calls(&mut client, 200_000);
    let after = size(&mut client);
    println!(
        "contexts {} -> {} bytes, RssAnon {} -> {} kB, {:?}",
        before.0,
        after.0,
        before.1,
        after.1,
        started.elapsed()
    );
    assert!(
        after.0 - before.0 < 2 << 20,
        "memory contexts grew from {} to {} bytes",
        before.0,
        after.0
    );
    assert!(
        after.1 - before.1 < 4 << 10,
        "the process grew from {} to {} kB",
        before.1,
        after.1
    );
}
