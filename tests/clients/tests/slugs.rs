//! Slugs over a hundred connections. Whoever would wait for another's transaction gets 55P03 from its lock_timeout.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;

use postgres::Client;
use slotkeeper_client_tests::{Database, at_once, backend, eventually, ledger, one, run, told};

const CALLERS: usize = 100;
const ISOLATIONS: [&str; 2] = ["READ COMMITTED", "REPEATABLE READ"];
const TABLE: &str = "CREATE TABLE community (id bigint GENERATED ALWAYS AS IDENTITY, name text, slug text UNIQUE)";

/// `name`, `name-1`, … `name-<count - 1>`
fn series(count: usize) -> BTreeSet<String> {
    let name = |n| match n {
        0 => "name".to_owned(),
        n => format!("name-{n}"),
    };
    (0..count).map(name).collect()
}

fn given(client: &mut Client, sql: &str) -> String {
    client
        .query_one(sql, &[])
        .map(|row| row.get(0))
        .unwrap_or_else(|error| panic!("{sql}: waited or failed: {}", told(&error)))
}

fn stored(client: &mut Client) -> BTreeSet<String> {
    let rows = client.query("SELECT slug FROM community", &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn callers(database: &Database) -> Vec<Client> {
    (0..CALLERS).map(|_| database.connect_impatient()).collect()
}

/// Protections: the lock on a slug that is given and not written, the dirty look at the unique index.
/// Tried: without the lock rows meet each other in the unique index (55P03, 23505).
#[test]
fn a_hundred_inserts_of_one_name_get_a_hundred_slugs_without_a_gap() {
    for (name, insert) in [
        (
            "called",
            "INSERT INTO community (slug) VALUES (slotkeeper.unique_slug('community', 'slug', 'Name')) RETURNING slug",
        ),
        (
            "attached",
            "INSERT INTO community (name) VALUES ('Name') RETURNING slug",
        ),
    ] {
        let database = Database::new(&format!("slugs_{name}"));
        let mut watcher = database.connect();
        run(&mut watcher, TABLE);
        if name == "attached" {
            run(
                &mut watcher,
                "SELECT slotkeeper.attach_slug('community', 'slug', 'name')",
            );
        }
        let mut clients = callers(&database);
        for round in 1..=5 {
            let answered = at_once(clients, |i, mut client| {
                run(&mut client, &format!("BEGIN ISOLATION LEVEL {}", ISOLATIONS[i % 2]));
                let slug = given(&mut client, insert);
                run(&mut client, "COMMIT");
                (client, slug)
            });
            let (back, slugs): (Vec<Client>, Vec<String>) = answered.into_iter().unzip();
            clients = back;
            assert_eq!(
                slugs.into_iter().collect::<BTreeSet<_>>().len(),
                CALLERS,
                "{name}: a slug twice"
            );
            assert_eq!(
                stored(&mut watcher),
                series(round * CALLERS),
                "{name}: round {round} left a gap"
            );
        }
        ledger::no_locks_left(&mut watcher);
    }
}

/// Protection: as above. All have their answer before anybody writes or ends.
#[test]
fn open_transactions_get_different_slugs_and_keep_them() {
    let database = Database::new("slugs_open");
    let mut watcher = database.connect();
    run(&mut watcher, TABLE);
    let mut clients = callers(&database);
    for (i, client) in clients.iter_mut().enumerate() {
        run(client, &format!("BEGIN ISOLATION LEVEL {}", ISOLATIONS[i % 2]));
    }
    let answered = at_once(clients, |_, mut client| {
        let slug = given(
            &mut client,
            "SELECT slotkeeper.unique_slug('community', 'slug', 'Name')",
        );
        (client, slug)
    });
    let slugs: BTreeSet<String> = answered.iter().map(|(_, slug)| slug.clone()).collect();
    assert_eq!(slugs, series(CALLERS), "not each the next one");
    // A third writes and commits, a third rolls back, a third is killed.
    let kept = at_once(answered, |i, (mut client, slug)| match i % 3 {
        0 => {
            client
                .execute("INSERT INTO community (slug) VALUES ($1)", &[&slug])
                .unwrap_or_else(|error| panic!("{slug} was not kept: {}", told(&error)));
            run(&mut client, "COMMIT");
            Some(slug)
        }
        1 => {
            run(&mut client, "ROLLBACK");
            None
        }
        _ => {
            let pid = backend(&mut client);
            run(
                &mut database.connect(),
                &format!("SELECT pg_terminate_backend({pid}, 20000)"),
            );
            None
        }
    });
    let kept: BTreeSet<String> = kept.into_iter().flatten().collect();
    assert_eq!(stored(&mut watcher), kept);
    eventually("no slug is held", || ledger::locks(&mut watcher) == 0);
    // The gaps are given again, lowest numbers among them; no number runs ahead.
    let more = at_once(callers(&database), |_, mut client| {
        given(
            &mut client,
            "INSERT INTO community (slug) VALUES (slotkeeper.unique_slug('community', 'slug', 'Name')) RETURNING slug",
        )
    });
    assert!(more.iter().all(|slug| !kept.contains(slug)));
    let highest: i64 = one(
        &mut watcher,
        "SELECT max(coalesce(substr(slug, 6), '0')::bigint) FROM community WHERE slug <> 'name'",
    );
    assert!(
        highest < 2 * CALLERS as i64,
        "name-{highest} after {} rows",
        kept.len() + CALLERS
    );
    ledger::no_locks_left(&mut watcher);
}

#[test]
fn ten_thousand_equal_names_have_ten_thousand_slugs_without_a_gap() {
    let database = Database::new("slugs_many");
    let mut watcher = database.connect();
    run(&mut watcher, TABLE);
    run(
        &mut watcher,
        "SELECT slotkeeper.attach_slug('community', 'slug', 'name')",
    );
    let clients: Vec<Client> = (0..20).map(|_| database.connect_impatient()).collect();
    at_once(clients, |i, mut client| match i % 4 {
        // One by one, in one transaction, in one statement, by COPY: all at once.
        0 => (0..500).for_each(|_| run(&mut client, "INSERT INTO community (name) VALUES ('Name')")),
        1 => {
            run(&mut client, "BEGIN");
            (0..500).for_each(|_| run(&mut client, "INSERT INTO community (name) VALUES ('Name')"));
            run(&mut client, "COMMIT");
        }
        2 => run(
            &mut client,
            "INSERT INTO community (name) SELECT 'Name' FROM generate_series(1, 500)",
        ),
        _ => {
            let mut copy = client.copy_in("COPY community (name) FROM stdin").unwrap();
            copy.write_all("Name\n".repeat(500).as_bytes()).unwrap();
            copy.finish().unwrap();
        }
    });
    assert_eq!(
        stored(&mut watcher),
        series(10_000),
        "10,000 rows, but not name to name-9999"
    );
    // A backend that has never seen one of them finds the next.
    let mut fresh = database.connect();
    assert_eq!(
        given(
            &mut fresh,
            "INSERT INTO community (name) VALUES ('Name') RETURNING slug"
        ),
        "name-10000"
    );
    ledger::no_locks_left(&mut watcher);
}

/// Protection: locks that rows have made needless are given back.
#[test]
fn bulk_writers_hold_few_locks_and_delay_nobody() {
    let database = Database::new("slugs_bulk");
    let mut watcher = database.connect_impatient();
    run(&mut watcher, TABLE);
    run(
        &mut watcher,
        "SELECT slotkeeper.attach_slug('community', 'slug', 'name')",
    );
    let mut bulk = database.connect_impatient();
    let pid = backend(&mut bulk);
    run(
        &mut bulk,
        "BEGIN; INSERT INTO community (name) SELECT 'Name' FROM generate_series(1, 10000)",
    );
    let locks = ledger::locks_of(&mut watcher, pid);
    assert!(locks < 200, "{locks} locks after 10,000 rows");
    assert_eq!(
        given(
            &mut watcher,
            "INSERT INTO community (name) VALUES ('Name') RETURNING slug"
        ),
        "name-10000"
    );
    run(&mut bulk, "ROLLBACK");
    assert_eq!(
        given(
            &mut watcher,
            "INSERT INTO community (name) VALUES ('Name') RETURNING slug"
        ),
        "name"
    );
    ledger::no_locks_left(&mut watcher);
}

#[test]
fn a_dump_carries_attached_slugs() {
    let database = Database::new("slugs_dumped");
    let mut client = database.connect();
    run(&mut client, TABLE);
    run(
        &mut client,
        r#"ALTER TABLE community ADD COLUMN "Tenant's" int NOT NULL DEFAULT 1;
           CREATE UNIQUE INDEX ON community ("Tenant's", slug);
           ALTER TABLE community DROP CONSTRAINT community_slug_key;
           SELECT slotkeeper.attach_slug('community', 'slug', 'name', '{"scope": "Tenant''s", "reserved": ["new \"one\""], "max_length": 20}');
           INSERT INTO community (name) VALUES ('Name'), ('Name')"#,
    );
    let dump = database.tool("pg_dump", "postgres").output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let restored = Database::empty("slugs_restored", None);
    let mut psql = restored
        .tool("psql", "postgres")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    psql.stdin.take().unwrap().write_all(&dump.stdout).unwrap();
    assert!(psql.wait().unwrap().success());
    let mut client = restored.connect();
    for (values, slug) in [
        ("'Name', 1", "name-2"),
        ("'Name', 2", "name"),
        ("'New one', 2", "new-one-1"),
    ] {
        let insert = format!(r#"INSERT INTO community (name, "Tenant's") VALUES ({values}) RETURNING slug"#);
        assert_eq!(given(&mut client, &insert), slug, "{values}");
    }
}
