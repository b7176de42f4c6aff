//! A bound table under a crowd: whoever writes, each row that takes a seat has one live booking at exactly its time, and
//! nothing else is booked.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use slotkeeper_client_tests::random::{Random, seed};
use slotkeeper_client_tests::{Database, at_once, ledger, one, reply, run, sqlstate, told};

const THREADS: usize = 100;
const ROUNDS: usize = 30;
const IDS: usize = 400;

const TABLE: &str = r#"
    CREATE TABLE "Post" (id int PRIMARY KEY, "integrationId" text NOT NULL, "publishDate" timestamp(3), state text NOT NULL, "deletedAt" timestamp(3), title text);
    CREATE VIEW differences AS
        SELECT coalesce(p.id::text, b.content_id) AS id, p."publishDate", b.scheduled_at
        FROM (SELECT * FROM "Post" WHERE state = 'QUEUE' AND "deletedAt" IS NULL AND "publishDate" IS NOT NULL) AS p
        FULL JOIN (SELECT b.content_id, b.scheduled_at, q.platform FROM slotkeeper.booking AS b JOIN slotkeeper.queue AS q USING (queue_id)
                   WHERE b.released_at IS NULL AND b.source LIKE '%Post%') AS b
          ON (b.content_id, b.platform, b.scheduled_at) = (p.id::text, p."integrationId", p."publishDate" AT TIME ZONE 'UTC')
        WHERE p.id IS NULL OR b.content_id IS NULL;"#;

const ATTACH: &str = r#"SELECT slotkeeper.attach_table('"Post"', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": "integrationId", "at": "publishDate", "at_zone": "UTC",
    "occupies": "state = ''QUEUE''", "exempt": {"deleted": "\"deletedAt\" IS NOT NULL"},
    "states": {"scheduled": {"state": "QUEUE"}, "unscheduled": {"state": "DRAFT"}}}')"#;

fn queues(client: &mut Client) {
    for (platform, timetable) in [
        ("a", r#"{"daily": ["09:00", "18:00"]}"#),
        ("b", r#"{"daily": ["14:30"]}"#),
        ("free", "{}"),
    ] {
        let sql = format!("SELECT slotkeeper.create_queue('p', '{platform}', 'UTC', '{timetable}')");
        assert_eq!(reply(client, &sql, &[])["outcome"], "created");
    }
}

fn require_no_differences(client: &mut Client) {
    let rows = client
        .query(
            r#"SELECT id, "publishDate"::text, scheduled_at::text FROM differences LIMIT 20"#,
            &[],
        )
        .unwrap();
    if let Some(row) = rows.first() {
        let about = "SELECT string_agg(concat_ws(' ', booking_id, platform, scheduled_at, booked_at, 'released', released_at, seat), E'\n' ORDER BY booking_id)
                     FROM slotkeeper.booking JOIN slotkeeper.queue USING (queue_id) WHERE content_id = $1";
        let history: Option<String> = client.query_one(about, &[&row.get::<_, String>(0)]).unwrap().get(0);
        println!(
            "bookings of {}:\n{}",
            row.get::<_, String>(0),
            history.unwrap_or_default()
        );
    }
    let told: Vec<String> = rows
        .iter()
        .map(|row| {
            format!(
                "{}: row {:?}, booked {:?}",
                row.get::<_, String>(0),
                row.get::<_, Option<String>>(1),
                row.get::<_, Option<String>>(2)
            )
        })
        .collect();
    assert!(told.is_empty(), "{told:#?}");
}

/// A statement as an application's ORM writes it, or a call.
fn statement(random: &mut Random) -> String {
    let id = random.below(IDS);
    let queue = *random.pick(&["a", "a", "b", "free"]);
    // Few instants, so that they collide.
    let at = format!(
        "2026-02-{:02}T{}:{:02}",
        random.between(1, 20),
        random.pick(&["09:00", "14:30", "18:00"]),
        random.below(60)
    );
    let state = *random.pick(&["QUEUE", "QUEUE", "QUEUE", "DRAFT"]);
    match random.below(14) {
        0..=2 => format!(
            r#"INSERT INTO "Post" VALUES ({id}, '{queue}', '{at}', '{state}') ON CONFLICT (id) DO UPDATE SET "publishDate" = excluded."publishDate", state = excluded.state"#
        ),
        3 => format!(
            r#"INSERT INTO "Post" VALUES ({id}, '{queue}', '{at}', '{state}'), ({}, 'a', '{at}', 'QUEUE') ON CONFLICT DO NOTHING"#,
            random.below(IDS)
        ),
        4 => format!(
            r#"INSERT INTO "Post" VALUES ({id}, '{queue}', '{at}', '{state}') ON CONFLICT (id) DO UPDATE SET title = 'again'"#
        ),
        5 | 6 => format!(r#"UPDATE "Post" SET "publishDate" = '{at}' WHERE id = {id}"#),
        7 => format!(r#"UPDATE "Post" SET "integrationId" = '{queue}', state = '{state}' WHERE id = {id}"#),
        8 => format!(r#"UPDATE "Post" SET "deletedAt" = CASE WHEN "deletedAt" IS NULL THEN now() END WHERE id = {id}"#),
        9 => format!(r#"DELETE FROM "Post" WHERE id = {id}"#),
        10 => format!(
            r#"UPDATE "Post" SET "publishDate" = "publishDate" + interval '1 day' WHERE id BETWEEN {id} AND {id} + 3"#
        ),
        11 => format!("SELECT slotkeeper.reschedule_content('{id}', '{at}Z')"),
        12 => format!("SELECT slotkeeper.unschedule_content('{id}')"),
        _ => format!(
            r#"SELECT slotkeeper.assign_slots(coalesce(jsonb_agg(jsonb_build_object('profile_id', 'p', 'platform', "integrationId", 'content_id', id)), '[]'), 'best_effort')
               FROM "Post" WHERE id BETWEEN {id} AND {id} + 5 AND "deletedAt" IS NULL"#
        ),
    }
}

/// Several statements in one transaction may deadlock; a row may have gone to another queue, or been deleted, since
/// a call was made up.
const EXPECTED: [&str; 4] = ["40P01", "22023", "55000", "40001"];

#[test]
fn a_crowd_of_writers_and_callers_leaves_one_booking_for_each_row() {
    let database = Database::new("guard_crowd");
    let mut admin = database.connect();
    queues(&mut admin);
    run(&mut admin, TABLE);
    assert_eq!(reply(&mut admin, ATTACH, &[])["outcome"], "attached");
    let seed = seed();
    let faults: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
    let clients: Vec<Client> = (0..THREADS).map(|_| database.connect()).collect();
    at_once(clients, |n, mut client| {
        let mut random = Random::new(seed, n as u64);
        run(
            &mut client,
            "SET client_min_messages = warning; SET statement_timeout = '60s'",
        );
        for _ in 0..ROUNDS {
            let statements = 1 + random.below(3) * random.below(2);
            let level = if random.percent(20) {
                "REPEATABLE READ"
            } else {
                "READ COMMITTED"
            };
            run(&mut client, &format!("BEGIN ISOLATION LEVEL {level}"));
            let mut failed = false;
            for k in 0..statements {
                if k > 0 {
                    run(&mut client, "SAVEPOINT s");
                }
                let sql = statement(&mut random);
                if let Err(error) = client.batch_execute(&sql) {
                    let mut faults = faults.lock().unwrap();
                    let code = sqlstate(&error).to_owned();
                    // An INSERT that leaves the row which it has met locks it not: it may be deleted in that moment.
                    let is_race = code == "23505"
                        && sql.contains("ON CONFLICT DO NOTHING")
                        && told(&error).contains("is taken in queue");
                    let what = if EXPECTED.contains(&code.as_str()) || is_race {
                        code
                    } else {
                        format!("{sql}: {}", told(&error))
                    };
                    *faults.entry(what).or_default() += 1;
                    failed = true;
                    break;
                }
                if k > 0 && random.percent(25) {
                    run(&mut client, "ROLLBACK TO s");
                }
            }
            let end = if failed || random.percent(15) {
                "ROLLBACK"
            } else {
                "COMMIT"
            };
            run(&mut client, end);
        }
    });
    let faults = faults.into_inner().unwrap();
    println!("refused: {faults:?}");
    let odd: Vec<&String> = faults
        .keys()
        .filter(|what| !EXPECTED.contains(&what.as_str()) && *what != "23505")
        .collect();
    assert!(odd.is_empty(), "{odd:#?}");
    let rows: i64 = one(&mut admin, r#"SELECT count(*) FROM "Post""#);
    assert!(rows > 50, "only {rows} rows are left");
    require_no_differences(&mut admin);
    ledger::no_locks_left(&mut admin);
}

#[test]
fn no_row_slips_through_while_a_table_is_attached() {
    let database = Database::new("guard_attach");
    let mut admin = database.connect();
    queues(&mut admin);
    run(&mut admin, TABLE);
    run(
        &mut admin,
        r#"INSERT INTO "Post" SELECT n, 'free', timestamp '2026-03-01' + n * interval '1 minute', 'QUEUE' FROM generate_series(1, 20000) AS n"#,
    );
    let (stop, longest) = (AtomicBool::new(false), Mutex::new(Duration::ZERO));
    let seed = seed();
    let writers: Vec<Client> = (0..16).map(|_| database.connect()).collect();
    thread::scope(|scope| {
        for (n, mut client) in writers.into_iter().enumerate() {
            let (stop, longest) = (&stop, &longest);
            scope.spawn(move || {
                let mut random = Random::new(seed, n as u64);
                run(&mut client, "SET client_min_messages = warning");
                let mut next = 100_000 + 100_000 * n;
                while !stop.load(Ordering::Relaxed) {
                    next += 1;
                    let id = 1 + random.below(20_000);
                    let minute = random.below(100_000);
                    let at = format!("timestamp '2026-05-01' + {minute} * interval '1 minute'");
                    let sql = match random.below(6) {
                        0 | 1 => format!(r#"INSERT INTO "Post" VALUES ({next}, 'free', {at}, 'QUEUE')"#),
                        2 => format!(r#"UPDATE "Post" SET "publishDate" = {at} WHERE id = {id}"#),
                        3 => format!(r#"UPDATE "Post" SET "integrationId" = 'b' WHERE id = {id}"#),
                        4 => format!(r#"UPDATE "Post" SET state = 'DRAFT' WHERE id = {id}"#),
                        _ => format!(r#"DELETE FROM "Post" WHERE id = {id}"#),
                    };
                    let began = Instant::now();
                    client
                        .batch_execute(&sql)
                        .unwrap_or_else(|error| panic!("{sql}: {}", told(&error)));
                    let mut longest = longest.lock().unwrap();
                    *longest = (*longest).max(began.elapsed());
                }
            });
        }
        thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        let attached = reply(&mut admin, ATTACH, &[]);
        println!(
            "attached after {:?}: {} rows, {} collisions",
            began.elapsed(),
            attached["rows"],
            attached["collision_count"]
        );
        thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
    });
    println!("a writer waited {:?} at most", longest.into_inner().unwrap());
    // What collided when it was attached has no seat yet, and is remembered.
    let unseated: i64 = one(
        &mut admin,
        r#"SELECT count(*) FROM differences AS d WHERE NOT EXISTS (SELECT FROM slotkeeper.slot_collisions AS c WHERE c.content_id = d.id)"#,
    );
    if unseated > 0 {
        require_no_differences(&mut admin);
    }
    let moved = reply(
        &mut admin,
        r#"SELECT slotkeeper.move_collisions('"Post"', 100000)"#,
        &[],
    );
    assert_eq!(moved["remaining"], 0, "{moved}");
    require_no_differences(&mut admin);
}
