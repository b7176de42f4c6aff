//! What the tests over real connections share: connections, databases of their own, replies, instants, randomness,
//! and the questions that every ledger must answer well whatever has been done to it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

pub mod ledger;
pub mod random;
pub mod raw;
pub mod time;

use std::env;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use postgres::config::Host;
use postgres::types::ToSql;
use postgres::{Client, Config, Error, GenericClient, NoTls};
use serde_json::Value;

/// The clock of most tests: a Thursday, 06:00 in Jakarta.
pub const NOW: &str = "2026-01-15T23:00:00+00:00";

/// A call that waits this long for a lock waits for something that it should not wait for.
pub const PATIENCE: &str = "5s";

/// How to reach the server.
pub fn server() -> Config {
    let url = env::var("SLOTKEEPER_TEST_URL").unwrap_or_default();
    assert!(
        !url.trim().is_empty(),
        "SLOTKEEPER_TEST_URL is not set: these tests need a server with the extension. Run `cargo xtask test`, \
         or name one, such as SLOTKEEPER_TEST_URL='host=/var/run/postgresql user=postgres dbname=postgres'"
    );
    url.parse()
        .unwrap_or_else(|error| panic!("SLOTKEEPER_TEST_URL is no connection string: {error}"))
}

/// A test's own database.
#[derive(Clone)]
pub struct Database {
    /// Its name.
    pub name: String,
    config: Config,
}

impl Database {
    /// A new database `sk_test_<name>` with the extension, whose clock stands at [`NOW`].
    pub fn new(name: &str) -> Self {
        let database = Self::empty(name, None);
        database.at(NOW);
        run(&mut database.connect(), "CREATE EXTENSION slotkeeper");
        database
    }

    /// A new database `sk_test_<name>` without the extension.
    pub fn empty(name: &str, owner: Option<&str>) -> Self {
        Self::on(server(), name, owner)
    }

    /// The same on another server.
    pub fn on(server: Config, name: &str, owner: Option<&str>) -> Self {
        let name = format!("sk_test_{name}");
        let mut admin = connected(&server);
        run(&mut admin, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        let owner = owner.map_or(String::new(), |owner| format!(" OWNER {owner}"));
        run(&mut admin, &format!("CREATE DATABASE {name}{owner}"));
        let mut config = server;
        config.dbname(&name);
        Self { name, config }
    }

    /// Sets the clock of all connections to come; empty for the real one.
    pub fn at(&self, now: &str) {
        run(
            &mut self.connect(),
            &format!("ALTER DATABASE {} SET slotkeeper.now = '{now}'", self.name),
        );
    }

    /// A superuser's connection.
    pub fn connect(&self) -> Client {
        connected(&self.config)
    }

    /// A superuser's connection that gives up where it waits for a lock.
    pub fn connect_impatient(&self) -> Client {
        let mut client = self.connect();
        run(
            &mut client,
            &format!("SET lock_timeout = '{PATIENCE}'; SET statement_timeout = '60s'"),
        );
        client
    }

    /// A connection of this role.
    pub fn connect_as(&self, role: &str) -> Client {
        connected(self.config.clone().user(role))
    }

    /// How to reach it.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// One of PostgreSQL's client programs, as this role; add `-d` and the database where it is needed.
    pub fn tool(&self, name: &str, role: &str) -> Command {
        let folder = env::var("SLOTKEEPER_PG_BIN")
            .expect("SLOTKEEPER_PG_BIN names the folder of pg_dump; `cargo xtask test` sets it");
        let program = format!("{folder}/{name}");
        let mut command = match env::var("SLOTKEEPER_RUN_AS") {
            Ok(user) if !user.is_empty() => {
                let mut command = Command::new("runuser");
                command.args(["-u", &user, "--", &program]);
                command
            }
            _ => Command::new(&program),
        };
        let host = match self
            .config
            .get_hosts()
            .first()
            .expect("the connection string has a host")
        {
            Host::Tcp(name) => name.clone(),
            Host::Unix(folder) => folder.display().to_string(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        command.current_dir("/");
        command
            .env("PGHOST", host)
            .env("PGPORT", port.to_string())
            .env("PGUSER", role)
            .env("PGDATABASE", &self.name);
        command
    }
}

fn connected(config: &Config) -> Client {
    let mut config = config.clone();
    config.connect_timeout(Duration::from_secs(30));
    config
        .connect(NoTls)
        .unwrap_or_else(|error| panic!("cannot connect with {config:?}: {error}"))
}

/// Runs statements that must succeed.
pub fn run(client: &mut Client, sql: &str) {
    if let Err(error) = client.batch_execute(sql) {
        panic!("{sql}\n  failed: {}", told(&error));
    }
}

/// The one value of a query that must succeed.
pub fn one<T: for<'a> postgres::types::FromSql<'a>>(client: &mut Client, sql: &str) -> T {
    match client.query_one(sql, &[]) {
        Ok(row) => row.get(0),
        Err(error) => panic!("{sql}\n  failed: {}", told(&error)),
    }
}

/// A call's reply, or its error.
pub fn call(client: &mut impl GenericClient, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Value, Error> {
    client.query_one(sql, values).map(|row| row.get(0))
}

/// A call's reply.
pub fn reply(client: &mut impl GenericClient, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Value {
    call(client, sql, values).unwrap_or_else(|error| panic!("{sql} {values:?}\n  failed: {}", told(&error)))
}

/// `assign_next_available_slot` of a queue of the profile `p`.
pub fn assign(client: &mut impl GenericClient, platform: &str, content: &str) -> Result<Value, Error> {
    call(
        client,
        "SELECT slotkeeper.assign_next_available_slot('p', $1, $2)",
        &[&platform, &content],
    )
}

/// `assign_slots` of these contents into a queue of the profile `p`.
pub fn assign_batch(
    client: &mut impl GenericClient,
    platform: &str,
    contents: impl IntoIterator<Item = String>,
) -> Result<Value, Error> {
    let items: Vec<Value> = contents
        .into_iter()
        .map(|content| serde_json::json!({"profile_id": "p", "platform": platform, "content_id": content}))
        .collect();
    call(client, "SELECT slotkeeper.assign_slots($1)", &[&Value::Array(items)])
}

/// Creates a queue of the profile `p`.
pub fn create_queue(client: &mut Client, platform: &str, zone: &str, timetable: &Value, options: &Value) {
    let created = reply(
        client,
        "SELECT slotkeeper.create_queue('p', $1, $2, $3, $4)",
        &[&platform, &zone, timetable, options],
    );
    assert_eq!(created["outcome"], "created", "{created}");
}

/// The SQLSTATE of an error; empty where the connection broke.
pub fn sqlstate(error: &Error) -> &str {
    error.code().map_or("", |code| code.code())
}

/// All that is known of an error.
pub fn told(error: &Error) -> String {
    match error.as_db_error() {
        Some(db) => format!(
            "{} {} DETAIL: {} HINT: {} WHERE: {}",
            db.code().code(),
            db.message(),
            db.detail().unwrap_or("-"),
            db.hint().unwrap_or("-"),
            db.where_().unwrap_or("-")
        ),
        None => error.to_string(),
    }
}

/// A key of a reply, as text.
pub fn text<'a>(reply: &'a Value, key: &str) -> &'a str {
    reply[key]
        .as_str()
        .unwrap_or_else(|| panic!("no text {key:?} in {reply}"))
}

/// Starts one thread for each of these at the same moment, and returns what they return, in order.
pub fn at_once<S: Send, T: Send>(each: Vec<S>, act: impl Fn(usize, S) -> T + Sync) -> Vec<T> {
    let (barrier, act) = (Barrier::new(each.len()), &act);
    thread::scope(|scope| {
        let barrier = &barrier;
        let threads: Vec<_> = each
            .into_iter()
            .enumerate()
            .map(|(i, value)| {
                scope.spawn(move || {
                    barrier.wait();
                    act(i, value)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a thread panicked: see above"))
            .collect()
    })
}

/// Waits until something has become so.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "after 20 s it is still not so: {what}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// The process of a connection's backend.
pub fn backend(client: &mut Client) -> i32 {
    one(client, "SELECT pg_catalog.pg_backend_pid()")
}
