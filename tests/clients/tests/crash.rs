//! Backends that die: what they held is free at once, and no lock stays behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::thread;

use postgres::Client;
use serde_json::json;
use slotkeeper_client_tests::raw::RawSession;
use slotkeeper_client_tests::{
    Database, assign, assign_batch, backend, create_queue, eventually, ledger, one, run, sqlstate, text,
};

fn database(name: &str) -> (Database, Client) {
    let database = Database::new(name);
    let mut client = database.connect_impatient();
    create_queue(
        &mut client,
        "hot",
        "Asia/Jakarta",
        &json!({"every": "1 minute", "from": "00:00", "to": "23:59"}),
        &json!({}),
    );
    (database, client)
}

fn kill(client: &mut Client, pid: i32) {
    assert!(
        one::<bool>(client, &format!("SELECT pg_terminate_backend({pid}, 20000)")),
        "backend {pid} did not end"
    );
}

fn first_slot(client: &mut Client) -> String {
    one(
        client,
        "SELECT to_char(slot_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"+00:00\"') FROM slotkeeper.preview_slots('p', 'hot', NULL, 1)",
    )
}

/// Protection: the abort of a transaction gives back seats and locks, whichever way it ends.
#[test]
fn seats_of_a_killed_holder_are_free_at_once() {
    let (database, mut client) = database("crash_holder");
    let first = first_slot(&mut client);
    for round in 0..5 {
        let mut holder = database.connect();
        run(&mut holder, "BEGIN");
        let held = assign(&mut holder, "hot", "held").unwrap();
        assert_eq!(text(&held, "scheduled_at"), first, "round {round}");
        assign_batch(&mut holder, "hot", (0..200).map(|i| format!("batch{i}"))).unwrap();
        let pid = backend(&mut holder);
        kill(&mut client, pid);
        let error = assign(&mut holder, "hot", "after").expect_err("the connection is dead");
        assert!(["", "57P01"].contains(&sqlstate(&error)), "{error}");
        let next = assign(&mut client, "hot", "next").unwrap();
        assert_eq!(
            (text(&next, "outcome"), text(&next, "scheduled_at")),
            ("assigned", first.as_str()),
            "round {round}"
        );
        assert_eq!(
            one::<i64>(
                &mut client,
                "SELECT count(*) FROM slotkeeper.booking WHERE released_at IS NULL"
            ),
            1
        );
        slotkeeper_client_tests::reply(&mut client, "SELECT slotkeeper.unschedule_content('next')", &[]);
        ledger::no_locks_left(&mut client);
    }
}

/// Protection: a batch's brief locks and its half-done work vanish with its backend.
#[test]
fn a_batch_that_dies_half_way_leaves_nothing() {
    let (database, mut client) = database("crash_batch");
    let first = first_slot(&mut client);
    for round in 0..4 {
        let mut batch = database.connect();
        let pid = backend(&mut batch);
        let thread = thread::spawn(move || assign_batch(&mut batch, "hot", (0..50_000).map(|i| format!("b{i}"))));
        // Its first chunks are in.
        eventually("the batch has begun", || {
            let state: String = one(
                &mut client,
                "SELECT slotkeeper.assign_next_available_slot('p', 'hot', 'probe', p_dry_run => true)->>'scheduled_at'",
            );
            state != first || thread.is_finished()
        });
        kill(&mut client, pid);
        let ended = thread.join().unwrap();
        assert!(ended.is_err(), "round {round}: the batch was quicker than the kill");
        ledger::no_locks_left(&mut client);
        assert_eq!(
            one::<i64>(&mut client, "SELECT count(*) FROM slotkeeper.booking"),
            0,
            "round {round}"
        );
        assert_eq!(first_free(&mut client), first, "round {round}");
    }
    // And one whose socket breaks. It may finish its statement, but not commit.
    let mut raw = RawSession::open(&database);
    raw.send("BEGIN; SELECT slotkeeper.assign_slots((SELECT jsonb_agg(jsonb_build_object('profile_id', 'p', 'platform', 'hot', 'content_id', i::text)) FROM generate_series(1, 20000) AS i))");
    drop(raw);
    ledger::no_locks_left(&mut client);
    eventually("the backend without a client has gone", || {
        one::<i64>(
            &mut client,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()",
        ) == 1
    });
    assert_eq!(first_free(&mut client), first);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM slotkeeper.booking"), 0);
}

fn first_free(client: &mut Client) -> String {
    one(
        client,
        "SELECT slotkeeper.assign_next_available_slot('p', 'hot', 'probe', p_dry_run => true)->>'scheduled_at'",
    )
}

/// Protection: who waits holds nothing, so that its death changes nothing; and a waiter survives the holder's death.
#[test]
fn killing_one_who_waits_or_is_waited_for_helps_the_others_on() {
    let (database, mut client) = database("crash_waiter");
    let first = first_slot(&mut client);
    let mut holder = database.connect();
    run(&mut holder, "BEGIN");
    assign(&mut holder, "hot", "same").unwrap();
    let mut waiting: Vec<(i32, thread::JoinHandle<_>)> = (0..6)
        .map(|i| {
            let mut waiter = database.connect();
            let pid = backend(&mut waiter);
            let thread = thread::spawn(move || match i % 2 {
                0 => assign(&mut waiter, "hot", "same"),
                _ => assign_batch(&mut waiter, "hot", [format!("mine{i}"), "same".to_owned()])
                    .map(|reply| reply["results"][1].clone()),
            });
            (pid, thread)
        })
        .collect();
    eventually("six callers wait", || {
        waiting.iter().all(|(pid, _)| ledger::waits(&mut client, *pid))
    });
    for (pid, thread) in waiting.drain(..2) {
        kill(&mut client, pid);
        let error = thread.join().unwrap().expect_err("it was killed");
        // A connection's end may overtake the message that says why.
        assert!(sqlstate(&error) == "57P01" || error.is_closed(), "{error}");
    }
    assert_eq!(
        text(&assign(&mut client, "hot", "other").unwrap(), "outcome"),
        "assigned"
    );
    let pid = backend(&mut holder);
    kill(&mut client, pid);
    let replies: Vec<_> = waiting
        .into_iter()
        .map(|(_, thread)| thread.join().unwrap().unwrap())
        .collect();
    let booked = replies.iter().filter(|reply| reply["outcome"] == "assigned").count();
    assert_eq!(booked, 1, "exactly one of those who waited books: {replies:?}");
    assert!(
        replies
            .iter()
            .all(|reply| reply["booking_id"] == replies[0]["booking_id"]),
        "{replies:?}"
    );
    let taken: bool = client
        .query_one(
            "SELECT EXISTS (SELECT FROM slotkeeper.booking WHERE scheduled_at = $1::text::timestamptz)",
            &[&first],
        )
        .unwrap()
        .get(0);
    assert!(taken, "the dead holder's seat is still free after four bookings");
    ledger::check(&mut client);
    ledger::no_locks_left(&mut client);
}
