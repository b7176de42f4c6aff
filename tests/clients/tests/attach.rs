//! A table that is attached and detached again and again while others write it and call for its rows: nobody crashes, and
//! in the end the ledger says what the rows say.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Error};
use slotkeeper_client_tests::random::{Random, seed};
use slotkeeper_client_tests::{Database, one, reply, run, sqlstate, told};

const WRITERS: u64 = 8;
const FOR: Duration = Duration::from_secs(8);

const ATTACH: &str = r#"SELECT slotkeeper.attach_table('post', '{"content_id": "id", "profile_id": "p", "platform": {"value": "x"}, "at": "at",
    "occupies": "st = ''on''", "states": {"scheduled": {"st": "on"}}}')"#;

const ANY: &str = "(SELECT id FROM post ORDER BY random() LIMIT 1)";

fn write(client: &mut Client, random: &mut Random) -> Result<(), Error> {
    let mut transaction = client.transaction()?;
    for _ in 0..=random.below(3) {
        let (profile, later) = (random.below(4), random.below(200));
        match random.below(20) {
            0..=9 => transaction.batch_execute(&format!(
                "INSERT INTO post (p, at) VALUES ('c{profile}', '2026-02-01 00:00Z'::timestamptz + {later} * interval '10 minutes')"
            ))?,
            10..=12 => transaction.batch_execute(&format!("UPDATE post SET at = at + interval '10 minutes' WHERE id = {ANY}"))?,
            13..=14 => transaction.batch_execute(&format!(
                "UPDATE post SET st = CASE st WHEN 'on' THEN 'off' ELSE 'on' END WHERE id = {ANY}"
            ))?,
            15 => transaction.batch_execute(&format!("DELETE FROM post WHERE id = {ANY}"))?,
            16 => transaction.batch_execute(
                "SAVEPOINT s; INSERT INTO post (p, at) VALUES ('c0', '2026-02-03 00:00Z'); ROLLBACK TO s",
            )?,
            _ => transaction.batch_execute(&format!(
                "SELECT slotkeeper.assign_next_available_slot(p, 'x', id::text, p_source => 'public.post') FROM post WHERE id = {ANY}"
            ))?,
        }
    }
    if random.below(10) == 0 {
        transaction.rollback()
    } else {
        transaction.commit()
    }
}

fn create_queues(admin: &mut Client) {
    for n in 0..4 {
        let sql = format!("SELECT slotkeeper.create_queue('c{n}', 'x', 'UTC', '{{\"every\": \"10 minutes\"}}')");
        assert_eq!(reply(admin, &sql, &[])["outcome"], "created");
    }
}

fn tolerate(error: &Error) {
    // Who has written the table and calls for a row that is just being attached may wait in a circle with the attachment.
    assert_eq!(sqlstate(error), "40P01", "{}", told(error));
}

#[test]
fn a_table_is_attached_and_detached_under_writers() {
    let database = Database::new("attach");
    let mut admin = database.connect();
    run(
        &mut admin,
        "CREATE TABLE post (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, p text, at timestamptz, st text DEFAULT 'on')",
    );
    create_queues(&mut admin);
    let (seed, end) = (seed(), Instant::now() + FOR);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let mut client = database.connect();
            scope.spawn(move || {
                let mut random = Random::new(seed, writer);
                while Instant::now() < end {
                    if let Err(error) = write(&mut client, &mut random) {
                        tolerate(&error);
                    }
                }
            });
        }
        while Instant::now() < end {
            thread::sleep(Duration::from_millis(300));
            for sql in [ATTACH, "SELECT slotkeeper.detach_table('post')"] {
                match admin.batch_execute(sql) {
                    Ok(()) => {}
                    // The attachment before was undone.
                    Err(error) if sqlstate(&error) == "42704" => {}
                    Err(error) => tolerate(&error),
                }
            }
        }
    });
    // Every session that was there is still there: a crash would have ended them all.
    assert_eq!(reply(&mut admin, ATTACH, &[])["outcome"], "attached");
    let wrong: Option<String> = one(
        &mut admin,
        "SELECT string_agg(concat_ws(' ', p.id, p.at, 'booked', b.content_id, b.scheduled_at), E'\n')
         FROM (SELECT * FROM post WHERE st = 'on' AND at IS NOT NULL) AS p
         FULL JOIN (SELECT * FROM slotkeeper.booking WHERE released_at IS NULL AND source = 'public.post') AS b ON b.content_id = p.id::text
         WHERE (p.id IS NULL OR b.content_id IS NULL OR p.at <> b.scheduled_at)
           AND NOT EXISTS (SELECT FROM slotkeeper.collision AS c WHERE c.source = 'public.post' AND c.content_id = p.id::text)",
    );
    assert_eq!(wrong, None, "seed {seed}");
    let status: String = one(&mut admin, "SELECT status FROM slotkeeper.binding_health");
    assert_eq!(status, "ok");
}

const ATTACH_PLAIN: &str = r#"SELECT slotkeeper.attach_table('post', '{"content_id": "id", "profile_id": "p", "platform": {"value": "x"}, "at": "at"}')"#;

/// What an application does that has used slotkeeper without telling it of its tables: a slot, and the row that has it.
fn book_and_store(client: &mut Client, random: &mut Random, id: u64) -> Result<(), Error> {
    let mut transaction = client.transaction()?;
    let call = format!(
        "SELECT slotkeeper.assign_next_available_slot('c{}', 'x', '{id}') ->> 'scheduled_at'",
        id % 4
    );
    if random.below(2) == 0 {
        let at: String = transaction.query_one(&call, &[])?.get(0);
        transaction.batch_execute(&format!(
            "INSERT INTO post (id, p, at) VALUES ({id}, 'c{}', '{at}')",
            id % 4
        ))?;
    } else {
        transaction.batch_execute(&format!("INSERT INTO post (id, p) VALUES ({id}, 'c{}')", id % 4))?;
        let at: String = transaction.query_one(&call, &[])?.get(0);
        transaction.batch_execute(&format!("UPDATE post SET at = '{at}' WHERE id = {id}"))?;
    }
    if random.below(3) == 0 {
        // The row that this writer has stored before.
        transaction.batch_execute(&format!(
            "UPDATE post SET at = at + interval '1 day' WHERE id = {id} - {WRITERS}"
        ))?;
    }
    transaction.commit()
}

/// It waits for its writers, and they for it; it waits for no caller who is about to write, so no circle of them is an error of the
/// application's, or keeps the attachment waiting. No content is left with a seat of no table beside its row's.
#[test]
fn a_table_is_attached_under_callers_that_know_of_no_table() {
    let database = Database::new("attach_plain");
    let mut admin = database.connect();
    run(
        &mut admin,
        "CREATE TABLE post (id bigint PRIMARY KEY, p text, at timestamptz)",
    );
    create_queues(&mut admin);
    let (seed, end) = (seed(), Instant::now() + FOR * 2);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let mut client = database.connect();
            scope.spawn(move || {
                let mut random = Random::new(seed, writer);
                run(&mut client, "SET client_min_messages = warning");
                let mut n = 0;
                while Instant::now() < end {
                    n += 1;
                    let done = book_and_store(&mut client, &mut random, n * WRITERS + writer);
                    done.unwrap_or_else(|error| panic!("seed {seed}: {}", told(&error)));
                }
            });
        }
        thread::sleep(FOR / 4);
        let begun = Instant::now();
        assert_eq!(reply(&mut admin, ATTACH_PLAIN, &[])["outcome"], "attached");
        let took = begun.elapsed();
        assert!(took < FOR, "attached in {took:?}");
    });
    let wrong: Option<String> = one(
        &mut admin,
        "SELECT string_agg(concat_ws(' ', p.id, p.at, 'booked', b.source, b.content_id, b.scheduled_at), E'\n')
         FROM post AS p
         FULL JOIN (SELECT * FROM slotkeeper.booking WHERE released_at IS NULL) AS b ON b.content_id = p.id::text AND b.source = 'public.post'
         WHERE (p.id IS NULL OR b.content_id IS NULL OR p.at <> b.scheduled_at)
           AND NOT EXISTS (SELECT FROM slotkeeper.collision AS c WHERE c.source = 'public.post' AND c.content_id = p.id::text)",
    );
    assert_eq!(wrong, None, "seed {seed}");
}
