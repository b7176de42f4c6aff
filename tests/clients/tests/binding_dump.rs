//! Bound tables in a dump: of the whole database, and of the table alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use postgres::Client;
use slotkeeper_client_tests::{Database, NOW, one, reply, run, sqlstate, text};

fn piped(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    output
}

fn dump(database: &Database, options: &[&str]) -> Vec<u8> {
    let mut command = database.tool("pg_dump", "postgres");
    command.args(options);
    let output = piped(command, b"");
    assert!(
        output.status.success(),
        "pg_dump: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Restores a plain dump; returns what it complained about.
fn restore(database: &Database, dump: &[u8]) -> String {
    let mut command = database.tool("psql", "postgres");
    command.args(["-X", "-q"]);
    String::from_utf8_lossy(&piped(command, dump).stderr).into_owned()
}

fn health(client: &mut Client) -> String {
    one(
        client,
        "SELECT coalesce(string_agg(concat_ws(' ', table_now, status, reason), '; ' ORDER BY source), '') FROM slotkeeper.binding_health",
    )
}

fn differences(client: &mut Client) -> i64 {
    one(
        client,
        r#"SELECT count(*) FROM (SELECT * FROM app."Odd ""name" WHERE state = 'on') AS p
           FULL JOIN (SELECT * FROM slotkeeper.booking WHERE released_at IS NULL) AS b ON (b.content_id, b.scheduled_at) = (p.id::text, p.at)
           WHERE p.id IS NULL OR b.content_id IS NULL"#,
    )
}

fn source(name: &str) -> Database {
    let database = Database::new(&format!("binding_dump_from_{name}"));
    let mut client = database.connect();
    run(
        &mut client,
        r#"CREATE SCHEMA app; CREATE TYPE app.state AS ENUM ('on', 'off');
           CREATE TABLE app."before" (id int PRIMARY KEY, at timestamptz, state app.state DEFAULT 'on');"#,
    );
    reply(
        &mut client,
        r#"SELECT slotkeeper.create_queue('p', 'x', 'UTC', '{"daily": ["09:00"]}')"#,
        &[],
    );
    run(&mut client, "SET search_path = app");
    reply(
        &mut client,
        r#"SELECT slotkeeper.attach_table('before', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": {"value": "x"}, "at": "at", "occupies": "state = ''on''::state"}')"#,
        &[],
    );
    run(
        &mut client,
        r#"INSERT INTO app."before" SELECT n, '2026-02-01 09:00Z' FROM generate_series(1, 5) AS n;
           SET session_replication_role = replica;
           INSERT INTO app."before" VALUES (6, '2026-02-01 09:00Z');
           RESET session_replication_role;
           ALTER TABLE app."before" RENAME TO "Odd ""name";"#,
    );
    database
}

#[test]
fn a_restored_database_guards_its_tables() {
    let from = source("whole");
    for (way, parts) in [
        ("whole", vec![vec![]]),
        (
            "parts",
            vec![
                vec!["--section=pre-data"],
                vec!["--section=data"],
                vec!["--section=post-data"],
            ],
        ),
        ("inserts", vec![vec!["--inserts"]]),
    ] {
        let to = Database::empty(&format!("binding_dump_{way}"), None);
        to.at(NOW);
        for options in parts {
            let complaints = restore(&to, &dump(&from, &options));
            assert_eq!(complaints, "", "{way}");
        }
        let mut client = to.connect();
        assert_eq!(health(&mut client), r#"app."Odd ""name" ok"#, "{way}");
        assert_eq!(differences(&mut client), 1, "{way}: the one that collided");
        let at: String = one(
            &mut client,
            r#"INSERT INTO app."Odd ""name" VALUES (7, '2026-02-01 09:00Z') RETURNING (at AT TIME ZONE 'UTC')::text"#,
        );
        assert_eq!(at, "2026-02-06 09:00:00", "{way}");
        run(&mut client, r#"DELETE FROM app."Odd ""name" WHERE id = 2"#);
        let moved = reply(
            &mut client,
            r#"SELECT slotkeeper.reschedule_content('7', '2026-02-02 09:00Z')"#,
            &[],
        );
        assert_eq!(text(&moved, "outcome"), "scheduled", "{way}");
        let mended = reply(
            &mut client,
            r#"SELECT slotkeeper.reconcile_table('app."Odd ""name"')"#,
            &[],
        );
        assert_eq!(mended["collision_count"], 1, "{way}: {mended}");
        let moved = reply(
            &mut client,
            r#"SELECT slotkeeper.move_collisions('app."Odd ""name"')"#,
            &[],
        );
        assert_eq!(moved["moved"], 1, "{way}: {moved}");
        assert_eq!(differences(&mut client), 0, "{way}");
    }
}

#[test]
fn a_table_restored_alone_is_not_guarded_and_says_so() {
    let from = source("alone");
    let alone = dump(&from, &["-t", r#"app."Odd ""name""#, "-n", "app"]);
    // Where slotkeeper is not installed the table and its rows are there.
    let without = Database::empty("binding_dump_without", None);
    restore(
        &without,
        b"CREATE SCHEMA app; CREATE TYPE app.state AS ENUM ('on', 'off');",
    );
    let complaints = restore(&without, &alone);
    assert!(complaints.contains("slotkeeper"), "{complaints}");
    let rows: i64 = one(&mut without.connect(), r#"SELECT count(*) FROM app."Odd ""name""#);
    assert_eq!(rows, 6);
    // Where it is, the triggers refuse rows that would take a seat, until the table is attached there.
    let with = Database::new("binding_dump_with");
    let mut client = with.connect();
    run(
        &mut client,
        "CREATE SCHEMA app; CREATE TYPE app.state AS ENUM ('on', 'off')",
    );
    assert_eq!(restore(&with, &alone), "");
    let refused = client
        .batch_execute(r#"INSERT INTO app."Odd ""name" VALUES (7, '2026-02-01 09:00Z')"#)
        .unwrap_err();
    assert_eq!(sqlstate(&refused), "55000");
    run(
        &mut client,
        r#"INSERT INTO app."Odd ""name" VALUES (7, '2026-02-01 09:00Z', 'off')"#,
    );
    reply(
        &mut client,
        r#"SELECT slotkeeper.create_queue('p', 'x', 'UTC', '{"daily": ["09:00"]}')"#,
        &[],
    );
    let attached = reply(
        &mut client,
        r#"SELECT slotkeeper.attach_table('app."Odd ""name"', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": {"value": "x"}, "at": "at", "occupies": "state = ''on''"}')"#,
        &[],
    );
    assert_eq!(attached["booked"], 5, "{attached}");
    assert_eq!(health(&mut client), r#"app."Odd ""name" ok"#);
}
