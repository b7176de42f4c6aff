//! What pg_dump carries, and who may do what in the database that it was restored into.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::io::Write;
use std::process::{Command, Stdio};

use postgres::Client;
use serde_json::{Value, json};
use slotkeeper_client_tests::{
    Database, assign, assign_batch, call, create_queue, ledger, one, reply, run, sqlstate, text, told,
};

const TABLES: [&str; 10] = [
    "queue",
    "dropped_queue",
    "booking",
    "full_run",
    "hole",
    "publication",
    "published",
    "adopted",
    "attempt",
    "platform",
];

/// Runs a program with this input and returns its output.
fn piped(mut command: Command, input: &[u8]) -> Vec<u8> {
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
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn dump(database: &Database, role: &str, options: &[&str]) -> Vec<u8> {
    let mut command = database.tool("pg_dump", role);
    command.args(options);
    piped(command, b"")
}

fn restore(database: &Database, role: &str, dump: &[u8]) {
    let command = if dump.starts_with(b"PGDMP") {
        let mut command = database.tool("pg_restore", role);
        command.args(["--exit-on-error", "-d", &database.name]);
        command
    } else {
        let mut command = database.tool("psql", role);
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
        command
    };
    piped(command, dump);
}

/// Every row of every table, every sequence, every right on them.
fn contents(client: &mut Client) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for table in TABLES {
        let rows =
            format!("SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY to_jsonb(t)), '[]') FROM slotkeeper.{table} AS t");
        all.push((table.to_owned(), one(client, &rows)));
    }
    let sequences: Vec<String> = client
        .query("SELECT relname::text FROM pg_class WHERE relnamespace = 'slotkeeper'::regnamespace AND relkind = 'S' ORDER BY 1", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(sequences.len(), 4, "{sequences:?}");
    for sequence in sequences {
        let state = format!("SELECT jsonb_build_array(last_value, is_called) FROM slotkeeper.{sequence}");
        all.push((sequence, one(client, &state)));
    }
    let rights = "SELECT jsonb_agg(jsonb_build_array(o, a) ORDER BY o, a) FROM (
        SELECT p.oid::regprocedure::text AS o, unnest(proacl)::text AS a FROM pg_proc AS p WHERE pronamespace = 'slotkeeper'::regnamespace
        UNION ALL SELECT relname, unnest(relacl)::text FROM pg_class WHERE relnamespace = 'slotkeeper'::regnamespace
        UNION ALL SELECT nspname, unnest(nspacl)::text FROM pg_namespace WHERE nspname = 'slotkeeper') AS r";
    all.push(("rights".to_owned(), one(client, rights)));
    all
}

/// A ledger with everything in it: several queues, history, runs, holes, an altered and a dropped queue.
fn fill(client: &mut Client) {
    create_queue(
        client,
        "dense",
        "Asia/Jakarta",
        &json!({"every": "1 minute", "from": "00:00", "to": "23:59"}),
        &json!({}),
    );
    create_queue(
        client,
        "altered",
        "Europe/Berlin",
        &json!({"mon-fri": ["09:00", {"time": "18:00", "capacity": 3, "ref": "evening"}]}),
        &json!({"granule": "15 seconds", "horizon": "90 days"}),
    );
    create_queue(client, "free", "UTC", &json!({}), &json!({}));
    create_queue(client, "gone", "UTC", &json!({"daily": ["10:00"]}), &json!({}));
    reply(client, "SELECT slotkeeper.drop_queue('p', 'gone')", &[]);
    assign_batch(client, "dense", (0..300).map(|i| format!("d{i}"))).unwrap();
    assign(client, "dense", "after").unwrap();
    for i in [10, 100, 200] {
        reply(client, "SELECT slotkeeper.unschedule_content($1)", &[&format!("d{i}")]);
    }
    for i in 0..6 {
        assign(client, "altered", &format!("a\t'{i}\"\\é")).unwrap();
        reply(
            client,
            "SELECT slotkeeper.schedule_content('p', 'free', $1, '2026-02-01T10:00:30Z', 'user')",
            &[&format!("f{i}")],
        );
    }
    reply(
        client,
        "SELECT slotkeeper.alter_queue('p', 'altered', 'America/New_York')",
        &[],
    );
    reply(
        client,
        "SELECT slotkeeper.set_queue_status('p', 'free', 'paused', 'holiday')",
        &[],
    );
    run(
        client,
        "DO $$ BEGIN PERFORM slotkeeper.assign_next_available_slot('p', 'dense', 'undone'); RAISE EXCEPTION 'undo'; EXCEPTION WHEN raise_exception THEN END $$",
    );
    publish(client);
    assert!(
        one::<i64>(client, "SELECT count(*) FROM slotkeeper.full_run") > 0,
        "no full run to dump"
    );
    assert!(
        one::<i64>(client, "SELECT count(*) FROM slotkeeper.hole") > 0,
        "no hole to dump"
    );
}

/// Something published, something failed, something in a worker's hands.
fn publish(client: &mut Client) {
    create_queue(
        client,
        "pub",
        "UTC",
        &json!({"daily": [{"time": "23:00", "capacity": 3}]}),
        &json!({}),
    );
    reply(
        client,
        "SELECT slotkeeper.set_platform('pub', '{\"max_attempts\": 2}')",
        &[],
    );
    for content in ["done", "bad", "open"] {
        assign(client, "pub", content).unwrap();
        let claimed = reply(client, "SELECT slotkeeper.claim_content($1, 'w')", &[&content]);
        let token = text(&claimed, "lease_token").to_owned();
        reply(client, "SELECT slotkeeper.begin_publish($1)", &[&token]);
        match content {
            "done" => reply(client, "SELECT slotkeeper.confirm_publish($1, 'id', 'url')", &[&token]),
            "bad" => reply(client, "SELECT slotkeeper.fail_publish($1, 'refused', 403)", &[&token]),
            _ => Value::Null,
        };
    }
    // A queue that is no more, with what was published in it; and a content that was handed out before it was a row's.
    create_queue(client, "gone", "UTC", &json!({"daily": ["23:00"]}), &json!({}));
    assign(client, "gone", "out").unwrap();
    let claimed = reply(client, "SELECT slotkeeper.claim_content('out', 'w')", &[]);
    let token = text(&claimed, "lease_token").to_owned();
    reply(client, "SELECT slotkeeper.begin_publish($1)", &[&token]);
    reply(client, "SELECT slotkeeper.confirm_publish($1)", &[&token]);
    reply(client, "SELECT slotkeeper.drop_queue('p', 'gone')", &[]);
    run(
        client,
        "INSERT INTO slotkeeper.adopted (queue_id, source, content_id) SELECT queue_id, 'public.post', 'open' FROM slotkeeper.queue WHERE platform = 'pub'",
    );
    for table in [
        "publication",
        "published",
        "attempt",
        "platform",
        "dropped_queue",
        "adopted",
    ] {
        let rows: i64 = one(client, &format!("SELECT count(*) FROM slotkeeper.{table}"));
        assert!(rows > 0, "nothing in {table} to dump");
    }
}

/// What the next calls answer, in both databases alike.
fn go_on(client: &mut Client) -> Vec<Value> {
    let mut replies = Vec::new();
    create_queue(client, "gone", "UTC", &json!({}), &json!({}));
    replies.push(reply(client, "SELECT slotkeeper.claim_content('out', 'w')", &[]));
    assert_eq!(
        replies.last().map(|reply| text(reply, "outcome")),
        Some("already_published")
    );
    for i in 0..6 {
        replies.push(assign(client, "dense", &format!("next{i}")).unwrap());
    }
    replies.push(assign(client, "dense", "d5").unwrap());
    replies.push(assign(client, "altered", "next").unwrap());
    replies.push(reply(
        client,
        "SELECT slotkeeper.schedule_content('p', 'free', 'next', '2026-02-01T10:00:00Z')",
        &[],
    ));
    replies.push(reply(
        client,
        "SELECT slotkeeper.reschedule_content('d7', '2026-01-16T00:00:00Z')",
        &[],
    ));
    replies.push(reply(
        client,
        "SELECT slotkeeper.create_queue('p', 'new', 'UTC', '{}')",
        &[],
    ));
    replies.push(assign(client, "new", "x").unwrap());
    // A new version of a queue is none that was there before the dump.
    replies.push(reply(client, "SELECT slotkeeper.alter_queue('p', 'dense', 'UTC')", &[]));
    replies.push(assign(client, "dense", "after the change").unwrap());
    replies.push(Value::from(one::<i64>(
        client,
        "SELECT count(DISTINCT version) FROM slotkeeper.queue",
    )));
    replies
}

fn round_trip(name: &str, role: &str, owner: Option<&str>) {
    let source = Database::empty(&format!("{name}_from"), owner);
    source.at(slotkeeper_client_tests::NOW);
    let mut from = source.connect_as(role);
    run(&mut from, "CREATE EXTENSION slotkeeper");
    fill(&mut from);
    let before = contents(&mut from);
    let mut expected = None;
    let whole = |options: &[&str]| vec![dump(&source, role, options)];
    let ways = [
        ("custom", whole(&["-Fc"])),
        ("plain", whole(&[])),
        (
            "schema, then data",
            vec![
                dump(&source, role, &["--schema-only"]),
                dump(&source, role, &["--data-only"]),
            ],
        ),
        (
            "schema, then data, custom",
            vec![
                dump(&source, role, &["-Fc", "--schema-only"]),
                dump(&source, role, &["-Fc", "--data-only"]),
            ],
        ),
        ("inserts", whole(&["--inserts"])),
    ];
    for (way, dumps) in ways {
        let target = Database::empty(&format!("{name}_to"), owner);
        target.at(slotkeeper_client_tests::NOW);
        for dump in &dumps {
            restore(&target, role, dump);
        }
        let mut to = target.connect_as(role);
        for (old, new) in before.iter().zip(contents(&mut to)) {
            assert_eq!(old, &new, "{way}: {} is not what it was", old.0);
        }
        // Two backends: the caches of neither may be of the wrong version.
        assert_eq!(
            text(&assign(&mut target.connect_as(role), "dense", "d5").unwrap(), "outcome"),
            "already_assigned"
        );
        let answers = go_on(&mut to);
        let expected = expected.get_or_insert_with(|| go_on(&mut from));
        assert_eq!(
            expected, &answers,
            "{way}: the restored database goes on in another way"
        );
        ledger::check_altered(&mut target.connect());
    }
}

/// Protection: pg_extension_config_dump of every table and sequence.
#[test]
fn a_superusers_dump_brings_everything_back() {
    round_trip(
        "dump_super",
        slotkeeper_client_tests::server().get_user().unwrap_or("postgres"),
        None,
    );
}

/// Makes roles of these names, without the rights that an earlier run left them.
fn roles(names: &[&str]) {
    let mut admin = slotkeeper_client_tests::server().connect(postgres::NoTls).unwrap();
    for name in names {
        let exists = !admin
            .query("SELECT FROM pg_roles WHERE rolname = $1", &[name])
            .unwrap()
            .is_empty();
        if !exists {
            run(&mut admin, &format!("CREATE ROLE {name} LOGIN"));
        }
    }
}

/// Protection: what the install script grants to the installing role.
#[test]
fn the_dump_of_an_owner_who_is_no_superuser_brings_everything_back() {
    roles(&["sk_test_dump_owner"]);
    round_trip("dump_owner", "sk_test_dump_owner", Some("sk_test_dump_owner"));
}

fn refused(client: &mut Client, sql: &str) {
    match client.batch_execute(sql) {
        Ok(()) => panic!("this was allowed: {sql}"),
        Err(error) => assert_eq!(sqlstate(&error), "42501", "{sql}: {}", told(&error)),
    }
}

/// Protection: the schema and its tables belong to the superuser, EXECUTE is nobody's until it is granted.
#[test]
fn the_owner_grants_access_and_nobody_else_gets_in_or_on_top_of_the_ledger() {
    roles(&[
        "sk_test_rights_owner",
        "sk_test_rights_new_owner",
        "sk_test_rights_stranger",
        "sk_test_rights_user",
        "sk_test_rights_reader",
    ]);
    let database = Database::empty("dump_rights", Some("sk_test_rights_owner"));
    database.at(slotkeeper_client_tests::NOW);
    let mut owner = database.connect_as("sk_test_rights_owner");
    run(&mut owner, "CREATE EXTENSION slotkeeper");
    create_queue(&mut owner, "hot", "UTC", &json!({"daily": ["09:00"]}), &json!({}));
    assign(&mut owner, "hot", "first").unwrap();

    for sql in [
        "CREATE TRIGGER t BEFORE INSERT ON slotkeeper.booking FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE TABLE mine (id bigint REFERENCES slotkeeper.booking (booking_id))",
        "ALTER TABLE slotkeeper.booking ADD COLUMN mine int",
        "ALTER TABLE slotkeeper.booking ADD FOREIGN KEY (queue_id) REFERENCES slotkeeper.queue (queue_id)",
        "ALTER TABLE slotkeeper.booking DISABLE TRIGGER ALL",
        "ALTER TABLE slotkeeper.booking ENABLE ROW LEVEL SECURITY",
        "CREATE RULE r AS ON INSERT TO slotkeeper.booking DO INSTEAD NOTHING",
        "CREATE INDEX ON slotkeeper.booking ((content_id || ''))",
        "DROP INDEX slotkeeper.booking_seat",
        "TRUNCATE slotkeeper.booking",
        "CREATE FUNCTION slotkeeper.planted() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TABLE slotkeeper.planted ()",
        "CREATE OPERATOR slotkeeper.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = int8eq)",
        "ALTER FUNCTION slotkeeper.grant_access(name, text) RESET ALL",
        "ALTER SCHEMA slotkeeper OWNER TO sk_test_rights_owner",
        "ALTER SCHEMA slotkeeper RENAME TO elsewhere",
        "SET slotkeeper.now = '2030-01-01T00:00:00Z'",
    ] {
        refused(&mut owner, sql);
    }

    let mut stranger = database.connect_as("sk_test_rights_stranger");
    refused(
        &mut stranger,
        "SELECT slotkeeper.grant_access('sk_test_rights_stranger', 'admin')",
    );
    refused(&mut stranger, "SELECT FROM slotkeeper.booking");
    refused(
        &mut stranger,
        "SELECT FROM slotkeeper.assign_next_available_slot('p', 'hot', 'x')",
    );

    // Each function, with USAGE on the schema alone.
    let functions: Vec<(String, String)> = database
        .connect()
        .query(
            "SELECT oid::regprocedure::text, format('SELECT FROM slotkeeper.%I(%s)', proname,
                    (SELECT string_agg('NULL::' || t::regtype, ', ') FROM unnest(proargtypes) AS t))
             FROM pg_proc WHERE pronamespace = 'slotkeeper'::regnamespace
               AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert!(functions.len() >= 12, "{functions:?}");
    run(
        &mut owner,
        "GRANT USAGE ON SCHEMA slotkeeper TO sk_test_rights_stranger",
    );
    for (_, sql) in &functions {
        refused(&mut stranger, sql);
    }
    // Trigger functions cannot be called, but whoever may execute one may make a trigger of it.
    let executable: i64 = one(
        &mut stranger,
        "SELECT count(*) FROM pg_proc
         WHERE pronamespace = 'slotkeeper'::regnamespace AND has_function_privilege(oid, 'EXECUTE')",
    );
    assert_eq!(executable, 0);
    for table in TABLES {
        for sql in [
            "SELECT FROM slotkeeper.{}",
            "DELETE FROM slotkeeper.{}",
            "INSERT INTO slotkeeper.{} DEFAULT VALUES",
            "TRUNCATE slotkeeper.{}",
        ] {
            refused(&mut stranger, &sql.replace("{}", table));
        }
    }
    for sequence in ["booking_id_seq", "queue_id_seq", "queue_version_seq"] {
        refused(&mut stranger, &format!("SELECT nextval('slotkeeper.{sequence}')"));
    }

    for (role, kind) in [("sk_test_rights_user", "user"), ("sk_test_rights_reader", "reader")] {
        let granted = reply(
            &mut owner,
            "SELECT slotkeeper.grant_access($1::text::name, $2)",
            &[&role, &kind],
        );
        assert_eq!(granted["outcome"], "granted", "{granted}");
    }
    let mut user = database.connect_as("sk_test_rights_user");
    assert_eq!(text(&assign(&mut user, "hot", "users").unwrap(), "outcome"), "assigned");
    let released_by = "SELECT released_by FROM slotkeeper.booking WHERE content_id = 'users'";
    reply(&mut user, "SELECT slotkeeper.unschedule_content('users')", &[]);
    assert_eq!(one::<String>(&mut owner, released_by), "sk_test_rights_user");
    refused(&mut user, "SELECT slotkeeper.create_queue('p', 'mine', 'UTC', '{}')");
    refused(&mut user, "SELECT slotkeeper.drop_queue('p', 'hot', true)");
    refused(
        &mut user,
        "SELECT slotkeeper.grant_access('sk_test_rights_user', 'admin')",
    );
    refused(&mut user, "UPDATE slotkeeper.booking SET content_id = 'x'");
    refused(&mut user, "SELECT FROM slotkeeper.booking");
    let mut reader = database.connect_as("sk_test_rights_reader");
    assert_eq!(
        one::<i64>(&mut reader, "SELECT count(*) FROM slotkeeper.preview_slots('p', 'hot')"),
        10
    );
    refused(
        &mut reader,
        "SELECT slotkeeper.assign_next_available_slot('p', 'hot', 'x')",
    );
    refused(&mut reader, "SELECT slotkeeper.unschedule_content('first')");

    // A database that has changed hands.
    run(
        &mut database.connect(),
        &format!("ALTER DATABASE {} OWNER TO sk_test_rights_new_owner", database.name),
    );
    let mut new_owner = database.connect_as("sk_test_rights_new_owner");
    let granted = call(
        &mut new_owner,
        "SELECT slotkeeper.grant_access('sk_test_rights_new_owner', 'admin')",
        &[],
    );
    let granted = granted.unwrap_or_else(|error| panic!("the database's owner cannot grant access: {}", told(&error)));
    assert_eq!(granted["outcome"], "granted");
    assert_eq!(
        text(&assign(&mut new_owner, "hot", "new").unwrap(), "outcome"),
        "assigned"
    );
}
