//! Attaching, detaching and dropping while a writer has gone to lunch with an open transaction: nobody else waits behind
//! them for longer than a short try, and they succeed once the writer is back. Protection: `Patience` in src/pg/patience.rs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Error};
use slotkeeper_client_tests::{Database, one, reply, run, sqlstate, told};

/// Who comes after one that waits for a lock waits with him, but no longer than so. The longest try is 400 ms.
const LONGEST: Duration = Duration::from_millis(1_500);

const OPTIONS: &str = r#"{"content_id": "id", "profile_id": "p", "platform": {"value": "x"}, "at": "at"}"#;

fn database(name: &str, table: &str) -> Database {
    let database = Database::new(name);
    let mut admin = database.connect();
    run(&mut admin, table);
    run(
        &mut admin,
        "SELECT slotkeeper.create_queue('c1', 'x', 'UTC', '{\"every\": \"10 minutes\"}')",
    );
    database
}

const POST: &str = "CREATE TABLE post (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, p text DEFAULT 'c1', at timestamptz, note text);
    INSERT INTO post (at) SELECT '2026-02-01 00:00Z'::timestamptz + n * interval '1 hour' FROM generate_series(1, 100) AS n";

/// Runs `call` behind an open transaction that has run `opened`, for so long. Meanwhile `others` comes again and again;
/// returns how the call ended, and the longest that one of the others took.
fn behind(
    database: &Database,
    opened: &str,
    call: &str,
    others: &str,
    open_for: Duration,
) -> (Result<(), Error>, Duration) {
    let (mut open, mut caller, mut other) = (database.connect(), database.connect(), database.connect());
    run(&mut open, &format!("BEGIN; {opened}"));
    let over = AtomicBool::new(false);
    let mut longest = Duration::ZERO;
    let ended = thread::scope(|scope| {
        let calling = scope.spawn(|| {
            let ended = caller.batch_execute(call);
            over.store(true, Ordering::Relaxed);
            ended
        });
        let began = Instant::now();
        let mut is_open = true;
        while !over.load(Ordering::Relaxed) {
            if is_open && began.elapsed() > open_for {
                run(&mut open, "COMMIT");
                is_open = false;
            }
            let before = Instant::now();
            run(&mut other, others);
            longest = longest.max(before.elapsed());
            thread::sleep(Duration::from_millis(5));
        }
        calling.join().unwrap()
    });
    (ended, longest)
}

fn succeeds(database: &Database, opened: &str, call: &str, others: &str) {
    let (ended, longest) = behind(database, opened, call, others, Duration::from_secs(3));
    ended.unwrap_or_else(|error| panic!("{call}: {}", told(&error)));
    assert!(longest < LONGEST, "{call}: somebody waited {longest:?}");
}

const WRITES: &str = "INSERT INTO post (at) VALUES ('2026-05-01 00:00Z'::timestamptz + random() * interval '100 days')";

fn seats(client: &mut Client) -> (i64, i64) {
    let rows = one(client, "SELECT count(*) FROM post WHERE at IS NOT NULL");
    let right = one(
        client,
        "SELECT count(*) FROM post AS t JOIN slotkeeper.booking AS b
             ON b.source = 'public.post' AND b.content_id = t.id::text AND b.scheduled_at = t.at AND b.released_at IS NULL",
    );
    (rows, right)
}

#[test]
fn writers_go_on_while_a_table_is_attached_behind_an_open_one() {
    let database = database("patience_attach", POST);
    let mut admin = database.connect();
    let attach = format!("SELECT slotkeeper.attach_table('post', '{OPTIONS}')");
    succeeds(&database, WRITES, &attach, WRITES);
    // Rows that collided when it was attached keep their time, and have no seat yet.
    reply(&mut admin, "SELECT slotkeeper.move_collisions('post', 100000)", &[]);
    let (rows, right) = seats(&mut admin);
    assert_eq!(rows, right);
    // Once more: nobody who only reads is kept waiting by triggers that are replaced.
    let again = format!("SET lock_timeout = '30s'; {attach}");
    succeeds(&database, WRITES, &again, "SELECT count(*) FROM post");
    run(&mut admin, "ALTER TABLE post DISABLE TRIGGER \"~slotkeeper_delete\"");
    succeeds(&database, WRITES, "SELECT slotkeeper.reconcile_table('post')", WRITES);
    succeeds(
        &database,
        "SELECT FROM post",
        "SELECT slotkeeper.detach_table('post')",
        WRITES,
    );
}

#[test]
fn writers_go_on_while_a_partitioned_table_is_attached_behind_an_open_one() {
    let database = database(
        "patience_partitions",
        "CREATE TABLE post (id bigint, p text DEFAULT 'c1', at timestamptz, PRIMARY KEY (id, p)) PARTITION BY LIST (p);
         CREATE TABLE post_c1 PARTITION OF post FOR VALUES IN ('c1');
         CREATE TABLE post_rest PARTITION OF post DEFAULT;
         CREATE SEQUENCE ids",
    );
    let attach = format!("SELECT slotkeeper.attach_table('post', '{OPTIONS}')");
    succeeds(
        &database,
        "INSERT INTO post_rest (id, p) VALUES (nextval('ids'), 'nobody')",
        &attach,
        "INSERT INTO post_c1 (id, at) VALUES (nextval('ids'), '2026-05-01 00:00Z'::timestamptz + random() * interval '100 days')",
    );
}

#[test]
fn writers_go_on_while_queues_and_slugs_are_attached_behind_an_open_one() {
    let database = database(
        "patience_queues",
        "CREATE TABLE channel (id text PRIMARY KEY, times jsonb DEFAULT '{\"daily\": [\"09:00\"]}');
         CREATE TABLE page (id bigint GENERATED ALWAYS AS IDENTITY, title text, slug text UNIQUE)",
    );
    let attach = r#"SELECT slotkeeper.attach_queues('channel', '{"profile_id": "id", "platform": {"value": "x"}, "time_zone": {"value": "UTC"}, "timetable": "times"}')"#;
    let writes = "INSERT INTO channel (id) VALUES (gen_random_uuid())";
    succeeds(&database, writes, attach, writes);
    succeeds(&database, writes, "SELECT slotkeeper.detach_table('channel')", writes);
    let writes = "INSERT INTO page (title) VALUES (gen_random_uuid())";
    succeeds(
        &database,
        writes,
        "SELECT slotkeeper.attach_slug('page', 'slug', 'title')",
        writes,
    );
}

#[test]
fn callers_go_on_while_a_queue_is_dropped_behind_an_open_one() {
    let database = database("patience_queue", POST);
    let mut admin = database.connect();
    reply(
        &mut admin,
        &format!("SELECT slotkeeper.attach_table('post', '{OPTIONS}')"),
        &[],
    );
    let call = "SELECT slotkeeper.assign_next_available_slot('c1', 'x', gen_random_uuid()::text)";
    let drop = "SELECT slotkeeper.drop_queue('c1', 'x', true)";
    let (ended, longest) = {
        // When it has been dropped the others are told that it is not there.
        let call = format!(
            "DO $$ BEGIN PERFORM {}; EXCEPTION WHEN undefined_object THEN NULL; END $$",
            &call["SELECT ".len()..]
        );
        behind(&database, call.as_str(), drop, &call, Duration::from_secs(3))
    };
    ended.unwrap_or_else(|error| panic!("{}", told(&error)));
    assert!(longest < LONGEST, "somebody waited {longest:?}");
    // Rows that were booked while it was waited for are told of, too.
    let reason: String = one(&mut admin, "SELECT reason FROM slotkeeper.binding_health");
    assert_eq!(reason, "rows cannot be booked: 100 where queue (c1, x) was dropped");
}

#[test]
fn who_waits_in_vain_is_told_for_whom() {
    let database = database("patience_told", POST);
    let mut open = database.connect();
    let mut admin = database.connect();
    run(&mut open, &format!("BEGIN; {WRITES}"));
    let process: i32 = one(&mut open, "SELECT pg_backend_pid()");
    let attach = format!("SELECT slotkeeper.attach_table('post', '{OPTIONS}')");
    for (limit, least) in [("50ms", 50), ("1s", 1_000)] {
        run(&mut admin, &format!("SET lock_timeout = '{limit}'"));
        let before = Instant::now();
        let error = admin.batch_execute(&attach).unwrap_err();
        let waited = before.elapsed();
        assert_eq!(sqlstate(&error), "55P03", "{}", told(&error));
        assert!(
            waited >= Duration::from_millis(least) && waited < Duration::from_millis(least + 4_000),
            "{waited:?}"
        );
        let db = error.as_db_error().unwrap();
        assert_eq!(db.message(), "table public.post is in use");
        let detail = db.detail().unwrap();
        assert!(
            detail.starts_with(&format!("Held by process {process} (role ")),
            "{detail}"
        );
        assert!(detail.contains("idle in transaction since 20"), "{detail}");
    }
    // The session's own setting is as it was, and so is the table.
    let limit: String = one(&mut admin, "SELECT current_setting('lock_timeout')");
    assert_eq!(limit, "1s");
    let error = admin.batch_execute("BEGIN; LOCK TABLE post").unwrap_err();
    assert_eq!(sqlstate(&error), "55P03");
    run(&mut admin, "ROLLBACK");
    let nothing: bool = one(
        &mut admin,
        "SELECT NOT EXISTS (SELECT FROM slotkeeper.binding) AND NOT EXISTS (SELECT FROM slotkeeper.booking)",
    );
    assert!(nothing);
    // A queue's holders are told in the same way.
    run(
        &mut open,
        "ROLLBACK; BEGIN; SELECT slotkeeper.assign_next_available_slot('c1', 'x', 'held')",
    );
    let error = admin
        .batch_execute("SELECT slotkeeper.drop_queue('c1', 'x', true)")
        .unwrap_err();
    assert_eq!(sqlstate(&error), "55P03", "{}", told(&error));
    let db = error.as_db_error().unwrap();
    assert_eq!(db.message(), "queue (c1, x) is in use");
    assert!(
        db.detail()
            .unwrap()
            .starts_with(&format!("Held by process {process} (role "))
    );
}

#[test]
fn a_circle_with_the_holder_is_no_long_wait() {
    let database = database("patience_circle", POST);
    let (mut open, mut admin) = (database.connect(), database.connect());
    // The writer has the table open; then it calls for a row that the attachment has booked, and waits for it.
    run(&mut open, &format!("BEGIN; {WRITES}"));
    let attach = format!("SELECT slotkeeper.attach_table('post', '{OPTIONS}')");
    let before = Instant::now();
    let (attached, called) = thread::scope(|scope| {
        let attaching = scope.spawn(|| admin.batch_execute(&attach));
        thread::sleep(Duration::from_millis(500));
        // It waits in the index for what the attachment has booked.
        let called = open.batch_execute(
            "INSERT INTO slotkeeper.booking (queue_id, granule, seat, source, content_id, scheduled_at, booked_at)
             SELECT queue_id, 1, 1, 'public.post', '1', '1970-01-01 00:01Z', now() FROM slotkeeper.queue; COMMIT",
        );
        (attaching.join().unwrap(), called)
    });
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
    let ended = [attached, called];
    let codes: Vec<&str> = ended
        .iter()
        .filter_map(|ended| ended.as_ref().err().map(sqlstate))
        .collect();
    assert_eq!(codes, ["40P01"]);
}
