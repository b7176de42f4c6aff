//! A copy of a database must not publish what the original publishes; a standby that takes over must.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::env;
use std::io::{Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use postgres::{Client, NoTls};
use serde_json::{Value, json};
use slotkeeper_client_tests::{Database, assign, create_queue, eventually, one, reply, run, server, text};

/// A database in which three contents are due, one of them claimed.
fn original(name: &str) -> (Database, Client, String) {
    let database = Database::new(name);
    let mut client = database.connect();
    create_queue(
        &mut client,
        "x",
        "UTC",
        &json!({"every": "1 minute", "from": "00:00", "to": "23:59"}),
        &json!({}),
    );
    for content in ["a", "b", "c"] {
        assign(&mut client, "x", content).unwrap();
    }
    database.at("2026-01-16T00:00:00+00:00");
    let mut client = database.connect();
    let claimed = claim(&mut client, "a");
    assert_eq!(claimed["outcome"], "claimed", "{claimed}");
    let token = text(&claimed, "lease_token").to_owned();
    (database, client, token)
}

fn claim(client: &mut Client, content: &str) -> Value {
    reply(client, "SELECT slotkeeper.claim_content($1, 'w')", &[&content])
}

fn due(client: &mut Client) -> i64 {
    one(client, "SELECT count(*) FROM slotkeeper.claim_due_content('w', 10)")
}

/// Nothing leaves this database until somebody says that it may.
fn hands_nothing_out(client: &mut Client, token: &str) {
    assert_eq!(due(client), 0);
    let held = claim(client, "b");
    assert_eq!(
        (text(&held, "outcome"), text(&held, "reason")),
        ("held", "restored_copy")
    );
    let held = reply(client, "SELECT slotkeeper.begin_publish($1)", &[&token]);
    assert_eq!(
        (text(&held, "outcome"), text(&held, "reason")),
        ("held", "restored_copy")
    );
    let resumed = reply(client, "SELECT slotkeeper.resume_after_restore()", &[]);
    assert_eq!(resumed["outcome"], "resumed");
    goes_on(client, token);
    let again = reply(client, "SELECT slotkeeper.resume_after_restore()", &[]);
    assert_eq!(again["outcome"], "unchanged");
}

fn goes_on(client: &mut Client, token: &str) {
    let begun = reply(client, "SELECT slotkeeper.begin_publish($1)", &[&token]);
    assert_eq!(begun["outcome"], "proceed", "{begun}");
    assert_eq!(due(client), 2);
}

fn admin() -> Client {
    server().connect(NoTls).unwrap()
}

#[test]
fn a_dump_restored_into_another_database_hands_nothing_out() {
    for options in [vec!["-Fp"], vec!["-Fp", "--inserts"]] {
        let (source, mut from, token) = original("restored_dump");
        let target = Database::empty("restored_dump_to", None);
        target.at("2026-01-16T00:00:00+00:00");
        let mut dump = source.tool("pg_dump", "postgres");
        let mut dump = dump.args(options).stdout(Stdio::piped()).spawn().unwrap();
        let mut psql = target.tool("psql", "postgres");
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
        let restored = psql.stdin(dump.stdout.take().unwrap()).stdout(Stdio::null()).status();
        assert!(dump.wait().unwrap().success() && restored.unwrap().success());
        let key = "SELECT publish_key FROM slotkeeper.claim_due_content('w', 10) WHERE content_id = 'b'";
        let mut to = target.connect();
        hands_nothing_out(&mut to, &token);
        // What the provider knows a content by is the same in both.
        run(&mut to, "SELECT slotkeeper.unschedule_content('b')");
        run(&mut from, "SELECT slotkeeper.unschedule_content('b')");
        for client in [&mut from, &mut to] {
            assign(client, "x", "b").unwrap();
            run(client, "SET slotkeeper.now = '2026-01-17T00:00:00+00:00'");
        }
        assert_eq!(one::<String>(&mut from, key), one::<String>(&mut to, key));
    }
}

#[test]
fn a_database_made_from_another_as_template_hands_nothing_out() {
    let (source, client, token) = original("restored_template");
    drop(client);
    let copy = Database::empty("restored_template_to", None);
    let mut admin = admin();
    run(&mut admin, &format!("DROP DATABASE {}", copy.name));
    eventually("nobody is connected to the template", || {
        admin
            .batch_execute(&format!("CREATE DATABASE {} TEMPLATE {}", copy.name, source.name))
            .is_ok()
    });
    copy.at("2026-01-16T00:00:00+00:00");
    hands_nothing_out(&mut copy.connect(), &token);
    goes_on(&mut source.connect(), &token);
}

/// A second server, from the files of the first.
struct Copy {
    source: Database,
    data: PathBuf,
    port: u16,
}

impl Copy {
    fn take(source: &Database, name: &str, options: &[&str]) -> Self {
        let scratch = PathBuf::from(env::var("SLOTKEEPER_SCRATCH").expect("`cargo xtask test` sets it"));
        let copy = Self {
            source: source.clone(),
            data: scratch.join(name),
            port: TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port(),
        };
        let mut backup = source.tool("pg_basebackup", "postgres");
        backup
            .args(["--checkpoint=fast", "--no-sync", "-D"])
            .arg(&copy.data)
            .args(options);
        // It would take the database's name for that of a file-level copy.
        backup.env_remove("PGDATABASE");
        assert!(backup.status().unwrap().success(), "pg_basebackup");
        copy
    }

    fn control(&self, arguments: &[&str]) {
        let mut pg_ctl = self.source.tool("pg_ctl", "postgres");
        pg_ctl
            .args(["--silent", "--wait", "--pgdata"])
            .arg(&self.data)
            .args(arguments);
        done(&mut pg_ctl);
    }

    fn start(&self) {
        let folder = self.data.display();
        // Sockets' paths may not be long: over TCP.
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories=",
            self.port
        );
        self.control(&["--log", &format!("{folder}/copy.log"), "-o", &options, "start"]);
    }

    fn connect(&self) -> Client {
        let mut config = postgres::Config::new();
        config.host("127.0.0.1").port(self.port).dbname(&self.source.name);
        config.user(server().get_user().unwrap_or("postgres"));
        config.connect(NoTls).unwrap()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let mut pg_ctl = self.source.tool("pg_ctl", "postgres");
        pg_ctl
            .args(["--silent", "--mode=immediate", "--pgdata"])
            .arg(&self.data)
            .arg("stop");
        let _ = pg_ctl.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn done(command: &mut Command) {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{command:?}");
}

/// Gives a stopped cluster another system identifier, as the files of one that was made anew have.
fn rename(copy: &Copy) {
    let mut control = std::fs::OpenOptions::new()
        .write(true)
        .open(copy.data.join("global/pg_control"))
        .unwrap();
    // The identifier is the file's first field; pg_resetwal takes over what it finds and writes a log that belongs to it.
    control.seek(SeekFrom::Start(0)).unwrap();
    control.write_all(&7_000_000_000_000_000_007_u64.to_ne_bytes()).unwrap();
    drop(control);
    let mut reset = copy.source.tool("pg_resetwal", "postgres");
    done(reset.arg("--force").arg("-D").arg(Path::new(&copy.data)));
}

#[test]
fn a_clone_of_the_files_with_another_identifier_hands_nothing_out() {
    let (source, _client, token) = original("restored_files");
    let copy = Copy::take(&source, "clone", &[]);
    copy.start();
    copy.control(&["--mode=fast", "stop"]);
    rename(&copy);
    copy.start();
    hands_nothing_out(&mut copy.connect(), &token);
}

#[test]
fn a_standby_that_takes_over_goes_on() {
    let (source, mut client, token) = original("restored_standby");
    let copy = Copy::take(&source, "standby", &["--write-recovery-conf", "--wal-method=stream"]);
    copy.start();
    let last: String = one(&mut client, "SELECT pg_current_wal_insert_lsn()::text");
    let mut standby = copy.connect();
    eventually("the standby has caught up", || {
        one(
            &mut standby,
            &format!("SELECT pg_last_wal_replay_lsn() >= '{last}'::pg_lsn"),
        )
    });
    copy.control(&["promote"]);
    eventually("it was promoted", || {
        one(&mut standby, "SELECT NOT pg_is_in_recovery()")
    });
    goes_on(&mut copy.connect(), &token);
}
