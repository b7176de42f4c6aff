//! Nobody waits for another content's transaction. Whoever would wait here gets 55P03 from its lock_timeout, because
//! nobody commits before all have been answered.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use serde_json::json;
use slotkeeper_client_tests::{
    Database, assign, assign_batch, at_once, backend, create_queue, eventually, ledger, one, run, sqlstate, text, told,
};

/// The first instants of a queue's timetable after those that are passed over.
fn slots(client: &mut Client, platform: &str, skip: usize, count: usize) -> BTreeSet<String> {
    let sql = "SELECT to_char(slot_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"+00:00\"')
               FROM slotkeeper.preview_slots('p', $1, NULL, $2) OFFSET $3";
    let (all, skip) = ((skip + count) as i32, skip as i64);
    client
        .query(sql, &[&platform, &all, &skip])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

fn hot(database: &Database) -> Client {
    let mut client = database.connect_impatient();
    create_queue(
        &mut client,
        "hot",
        "Asia/Jakarta",
        &json!({"every": "5 minutes", "from": "00:00", "to": "23:55"}),
        &json!({}),
    );
    client
}

/// Protection: the brief try-lock on a seat between look and insert. Without it two callers insert the same seat,
/// and one waits in the unique index for the other's commit.
/// Tried: without it this fails in the first round, with 55P03 out of the index.
#[test]
fn sixteen_open_transactions_get_the_sixteen_earliest_seats_and_none_waits() {
    let database = Database::new("nowait_sixteen");
    let mut watcher = hot(&database);
    let (callers, rounds) = (16, 12);
    let mut clients: Vec<Client> = (0..callers).map(|_| database.connect_impatient()).collect();
    let mut times = Vec::new();
    for round in 0..rounds {
        let isolation = if round % 2 == 0 {
            "READ COMMITTED"
        } else {
            "REPEATABLE READ"
        };
        for client in &mut clients {
            run(client, &format!("BEGIN ISOLATION LEVEL {isolation}"));
        }
        // All have been answered before the first one commits.
        let answered = at_once(clients, |i, mut client| {
            let started = Instant::now();
            let reply = assign(&mut client, "hot", &format!("r{round}-{i}"));
            (client, reply, started.elapsed())
        });
        let mut got = BTreeSet::new();
        clients = Vec::new();
        for (client, reply, took) in answered {
            let reply =
                reply.unwrap_or_else(|error| panic!("round {round}: a caller waited or failed: {}", told(&error)));
            assert_eq!(reply["outcome"], "assigned", "round {round}: {reply}");
            let at = text(&reply, "scheduled_at").to_owned();
            assert!(got.insert(at), "round {round}: a seat twice: {reply}");
            times.push(took);
            clients.push(client);
        }
        assert_eq!(
            got,
            slots(&mut watcher, "hot", round * callers, callers),
            "round {round}: not the earliest, or a hole"
        );
        for client in &mut clients {
            run(client, "COMMIT");
        }
    }
    times.sort_unstable();
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{} calls, median {median:?}, slowest {slowest:?}", times.len());
    assert!(
        median < Duration::from_millis(100) && slowest < Duration::from_secs(2),
        "median {median:?}, slowest {slowest:?}"
    );
    ledger::check(&mut watcher);
    ledger::no_locks_left(&mut watcher);
}

/// Protection: dirty looks (seats of open transactions count as held), and that they are free again after a rollback.
#[test]
fn seats_of_open_transactions_are_stepped_over_and_come_back_when_they_roll_back() {
    let database = Database::new("nowait_rollback");
    let mut watcher = hot(&database);
    let first = slots(&mut watcher, "hot", 0, 21);
    let mut holders: Vec<Client> = (0..20).map(|_| database.connect_impatient()).collect();
    for (i, holder) in holders.iter_mut().enumerate() {
        run(holder, "BEGIN");
        assign(holder, "hot", &format!("held{i}")).unwrap();
    }
    let over = assign(&mut watcher, "hot", "over").unwrap();
    assert_eq!(
        Some(text(&over, "scheduled_at")),
        first.last().map(String::as_str),
        "{over}"
    );
    for holder in &mut holders {
        run(holder, "ROLLBACK");
    }
    let again = at_once(holders, |i, mut holder| {
        assign(&mut holder, "hot", &format!("again{i}"))
    });
    let again: BTreeSet<String> = again
        .into_iter()
        .map(|reply| text(&reply.unwrap(), "scheduled_at").to_owned())
        .collect();
    assert_eq!(
        again,
        first.into_iter().take(20).collect(),
        "rolled-back seats are not the next ones given"
    );
    ledger::check(&mut watcher);
}

/// Protection: whoever waits for a content's transaction gives its locks back first.
#[test]
fn waiting_for_a_content_delays_nobody_else_on_the_queue() {
    for (name, end) in [("commit", "COMMIT"), ("rollback", "ROLLBACK")] {
        let database = Database::new(&format!("nowait_content_{name}"));
        let mut watcher = hot(&database);
        let mut holder = database.connect_impatient();
        run(&mut holder, "BEGIN");
        let held = assign(&mut holder, "hot", "same").unwrap();
        let waiting = |act: fn(&mut Client) -> Result<serde_json::Value, postgres::Error>| {
            let mut client = database.connect();
            run(&mut client, "SET statement_timeout = '60s'");
            let pid = backend(&mut client);
            (pid, thread::spawn(move || act(&mut client)))
        };
        let single = waiting(|client| assign(client, "hot", "same"));
        let batch = waiting(|client| assign_batch(client, "hot", ["x1", "same", "x2"].map(str::to_owned)));
        let schedule = waiting(|client| {
            slotkeeper_client_tests::call(
                client,
                "SELECT slotkeeper.schedule_content('p', 'hot', 'same', '2026-02-01T00:00:00Z')",
                &[],
            )
        });
        eventually("three callers wait for the content's transaction", || {
            [single.0, batch.0, schedule.0]
                .into_iter()
                .all(|pid| ledger::waits(&mut watcher, pid))
        });
        // Eventually: the three may still be passing the content's lock from one to the other.
        eventually("none of those who wait holds a brief lock", || {
            let held: i64 = one(
                &mut watcher,
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock'",
            );
            held == 0
        });
        let others: Vec<Client> = (0..30).map(|_| database.connect_impatient()).collect();
        let answers = at_once(others, |i, mut client| match i % 5 {
            0 => assign_batch(&mut client, "hot", (0..20).map(|k| format!("b{i}-{k}"))),
            // Contents of the waiting batch are nobody's yet.
            1 if i == 1 => assign(&mut client, "hot", "x1"),
            _ => assign(&mut client, "hot", &format!("other{i}")),
        });
        for answer in answers {
            let answer = answer.unwrap_or_else(|error| panic!("{name}: delayed by those who wait: {}", told(&error)));
            assert_eq!(answer["outcome"], "assigned", "{answer}");
        }
        for (pid, thread) in [&single, &batch, &schedule] {
            assert!(
                !thread.is_finished() && ledger::waits(&mut watcher, *pid),
                "{name}: it was to wait for the holder"
            );
        }
        run(&mut holder, end);
        let single = single.1.join().unwrap().unwrap();
        let batch = batch.1.join().unwrap().unwrap();
        let schedule = schedule.1.join().unwrap().unwrap();
        let outcomes: BTreeSet<&str> = [&single, &batch["results"][1], &schedule]
            .map(|reply| text(reply, "outcome"))
            .into();
        let ids: BTreeSet<i64> = [&single, &batch["results"][1], &schedule]
            .map(|reply| reply["booking_id"].as_i64().unwrap())
            .into();
        assert_eq!(
            ids.len(),
            1,
            "{name}: one content, several bookings: {single} {batch} {schedule}"
        );
        if end == "COMMIT" {
            assert_eq!(
                outcomes,
                BTreeSet::from(["already_assigned"]),
                "{single} {batch} {schedule}"
            );
            assert_eq!(single["booking_id"], held["booking_id"]);
        } else {
            assert_eq!(
                outcomes.len(),
                2,
                "{name}: one books, the others find it booked: {single} {batch} {schedule}"
            );
        }
        assert_eq!(
            batch["results"][0]["outcome"], "already_assigned",
            "x1 was booked by another meanwhile: {batch}"
        );
        ledger::check(&mut watcher);
        ledger::no_locks_left(&mut watcher);
    }
}

/// Protection: brief locks of a batch are bounded by its chunks and given back before its end.
#[test]
fn batches_of_ten_thousand_hold_few_locks_and_delay_no_single_call() {
    let database = Database::new("nowait_batch");
    let mut watcher = database.connect_impatient();
    create_queue(
        &mut watcher,
        "dense",
        "UTC",
        &json!({"every": "1 minute", "from": "00:00", "to": "23:59"}),
        &json!({}),
    );
    let mut big = database.connect_impatient();
    let pid = backend(&mut big);
    run(&mut big, "BEGIN");
    let mut single = database.connect_impatient();
    let mut batch = 0;
    while batch < 3 {
        let done = AtomicBool::new(false);
        let (reply, singles) = thread::scope(|scope| {
            let beside = scope.spawn(|| {
                let mut singles = 0;
                while !done.load(Ordering::Relaxed) {
                    let reply = assign(&mut single, "dense", &format!("beside{batch}-{singles}"));
                    reply.unwrap_or_else(|error| panic!("a single call beside a batch: {}", told(&error)));
                    singles += 1;
                }
                singles
            });
            let reply = assign_batch(&mut big, "dense", (0..10_000).map(|i| format!("big{batch}-{i}")));
            done.store(true, Ordering::Relaxed);
            (
                reply.unwrap_or_else(|error| panic!("batch {batch}: {}", told(&error))),
                beside.join().unwrap(),
            )
        });
        assert_eq!(reply["outcome"], "assigned", "batch {batch}");
        println!("{singles} single calls while batch {batch} ran");
        // One that stood behind the batch would end once, with it, and perhaps a second time after it.
        assert!(
            singles >= 3,
            "only {singles} single calls came through while batch {batch} ran"
        );
        let locks = ledger::locks_of(&mut watcher, pid);
        assert!(locks < 300, "after batch {batch} its transaction holds {locks} locks");
        let started = Instant::now();
        for i in 0..20 {
            let reply = assign(&mut watcher, "dense", &format!("after{batch}-{i}"))
                .unwrap_or_else(|error| panic!("waited for an open batch: {}", told(&error)));
            assert_eq!(reply["outcome"], "assigned");
        }
        println!(
            "20 single calls over {} open seats: {:?}",
            (batch + 1) * 10_000,
            started.elapsed()
        );
        batch += 1;
    }
    run(&mut big, "COMMIT");
    assert!(one::<i64>(&mut watcher, "SELECT count(*) FROM slotkeeper.booking") >= 30_060);
    // No hole: as many slots from the first on as there are bookings.
    let span: i64 = one(
        &mut watcher,
        "SELECT max(granule) - min(granule) + 1 - count(*) FROM slotkeeper.booking",
    );
    assert_eq!(span, 0, "holes among the bookings");
    ledger::no_locks_left(&mut watcher);
}

/// Protection: one lock for all queues where a transaction would hold many.
#[test]
fn a_transaction_over_many_queues_holds_few_locks() {
    let database = Database::new("nowait_queues");
    let mut client = database.connect_impatient();
    run(
        &mut client,
        "SELECT slotkeeper.create_queue('p', 'q' || i, 'UTC', '{\"daily\": [\"09:00\"]}') FROM generate_series(1, 500) AS i",
    );
    let pid = backend(&mut client);
    run(&mut client, "BEGIN");
    for i in 1..=500 {
        assign(&mut client, &format!("q{i}"), "c").unwrap();
    }
    let locks = ledger::locks_of(&mut client, pid);
    assert!(locks < 150, "{locks} locks after single calls in 500 queues");
    // Rolled back by a savepoint, they are not counted as held: the queue stays in use all the same.
    run(&mut client, "ROLLBACK; BEGIN; SAVEPOINT s");
    for i in 1..=100 {
        assign(&mut client, &format!("q{i}"), "c").unwrap();
    }
    run(&mut client, "ROLLBACK TO s");
    assign(&mut client, "q100", "c").unwrap();
    let mut other = database.connect_impatient();
    let dropped = slotkeeper_client_tests::call(&mut other, "SELECT slotkeeper.drop_queue('p', 'q100')", &[]);
    let error = dropped.expect_err("a queue was dropped under a transaction that books in it");
    assert_eq!(sqlstate(&error), "55006", "{}", told(&error));
    run(&mut client, "COMMIT");
    ledger::check(&mut client);
    ledger::no_locks_left(&mut client);
}
