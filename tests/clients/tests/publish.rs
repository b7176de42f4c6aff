//! Workers that die at any moment, a server that does too, and a provider that counts what it is asked to publish.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::collections::HashMap;
use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Error, NoTls};
use serde_json::{Value, json};
use slotkeeper_client_tests::random::{Random, seed};
use slotkeeper_client_tests::{Database, call, create_queue, eventually, ledger, one, reply, run};

const WORKERS: u64 = 16;
const CONTENTS: i64 = 10_000;
const QUEUES: i64 = 50;

/// One test at a time restarts the server.
static SERVER: Mutex<()> = Mutex::new(());

/// A server that nobody else uses, and that may be killed.
fn crash_server() -> postgres::Config {
    let url = env::var("SLOTKEEPER_CRASH_URL").expect("`cargo xtask test` sets SLOTKEEPER_CRASH_URL");
    url.parse().expect("a connection string")
}

/// Kills the server and starts it again.
fn kill_server(database: &Database) {
    let (data, log) = ("SLOTKEEPER_CRASH_DATA", "SLOTKEEPER_CRASH_LOG");
    let (data, log) = (env::var(data).unwrap(), env::var(log).unwrap());
    let control = |arguments: &[&str]| {
        let mut pg_ctl = database.tool("pg_ctl", "postgres");
        pg_ctl.args(["--silent", "--wait", "--pgdata", &data]).args(arguments);
        pg_ctl.stdin(std::process::Stdio::null());
        pg_ctl
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        assert!(pg_ctl.status().unwrap().success(), "pg_ctl {arguments:?}");
    };
    control(&["--mode=immediate", "stop"]);
    control(&["--log", &log, "start"]);
}

/// What the provider answers.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Ok,
    /// The content is out, and nobody is told.
    TimeoutAfterPublishing,
    Timeout,
    TooMany,
    Refused,
    Nothing,
}

/// Counts what it has published.
#[derive(Default)]
struct Provider {
    published: Mutex<HashMap<String, u32>>,
    calls: AtomicU32,
}

impl Provider {
    fn publish(&self, content: &str, random: &mut Random) -> Answer {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let answer = match random.below(100) {
            0..=1 => Answer::TimeoutAfterPublishing,
            2 => Answer::Timeout,
            3..=4 => Answer::TooMany,
            5 => Answer::Refused,
            6 => Answer::Nothing,
            _ => Answer::Ok,
        };
        if matches!(answer, Answer::Ok | Answer::TimeoutAfterPublishing) {
            *self.published.lock().unwrap().entry(content.to_owned()).or_default() += 1;
        }
        answer
    }
}

fn connect(database: &Database) -> Client {
    let mut config = database.config().clone();
    config.connect_timeout(Duration::from_secs(5));
    loop {
        if let Ok(mut client) = config.connect(NoTls) {
            // Of what a worker says only the begin and the confirmation wait for the disk, and those must.
            if client.batch_execute("SET synchronous_commit = off").is_ok() {
                return client;
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the connection broke, rather than the call.
fn is_broken(error: &Error) -> bool {
    error.as_db_error().is_none_or(|db| {
        let code = db.code().code();
        code.starts_with("57P") || code.starts_with("08")
    })
}

struct Worker<'a> {
    name: String,
    database: &'a Database,
    provider: &'a Provider,
    random: Random,
}

impl Worker<'_> {
    /// Works until `done`; dies now and then, and comes back knowing nothing.
    fn work(&mut self, done: &AtomicBool) {
        while !done.load(Ordering::Relaxed) {
            let mut client = connect(self.database);
            while !done.load(Ordering::Relaxed) {
                match self.round(&mut client) {
                    Ok(true) => {}
                    // It dies: its connection closes in the middle of whatever it was at.
                    Ok(false) => break,
                    Err(error) if is_broken(&error) => break,
                    Err(error) => panic!("{}: {error:?}", self.name),
                }
            }
        }
    }

    fn dies(&mut self) -> bool {
        self.random.below(300) == 0
    }

    fn round(&mut self, client: &mut Client) -> Result<bool, Error> {
        let limit = 1 + self.random.below(20) as i32;
        let rows = client.query(
            "SELECT content_id, lease_token, publish_key FROM slotkeeper.claim_due_content($1, $2, '2 seconds')",
            &[&self.name, &limit],
        )?;
        if rows.is_empty() {
            thread::sleep(Duration::from_millis(30));
        }
        for row in rows {
            let (content, token): (String, String) = (row.get(0), row.get(1));
            if self.dies() {
                return Ok(false);
            }
            let begun = call(client, "SELECT slotkeeper.begin_publish($1)", &[&token])?;
            if begun["outcome"] != "proceed" {
                let known = ["stale_token", "already_published", "held"];
                assert!(known.contains(&begun["outcome"].as_str().unwrap()), "{begun}");
                continue;
            }
            if self.dies() {
                return Ok(false);
            }
            let answer = self.provider.publish(&content, &mut self.random);
            if self.dies() {
                return Ok(false);
            }
            self.tell(client, &token, answer)?;
        }
        Ok(true)
    }

    fn tell(&mut self, client: &mut Client, token: &str, answer: Answer) -> Result<(), Error> {
        let fail = "SELECT slotkeeper.fail_publish($1, $2, $3)";
        match answer {
            Answer::Ok => {
                let confirm = "SELECT slotkeeper.confirm_publish($1, 'id', 'https://example.org/1')";
                let mut told = call(client, confirm, &[&token]);
                // A good worker asks again where it got no answer; the token is all that it needs.
                if told.is_err() && self.random.below(2) == 0 {
                    told = call(&mut connect(self.database), confirm, &[&token]);
                }
                let outcome = told?["outcome"].clone();
                assert!(outcome == "published" || outcome == "already_published", "{outcome}");
            }
            Answer::TimeoutAfterPublishing | Answer::Timeout => {
                call(client, fail, &[&token, &"gateway timeout", &Some(504)])?;
            }
            Answer::TooMany => {
                call(client, fail, &[&token, &"too many requests", &Some(429)])?;
            }
            Answer::Refused => {
                call(client, fail, &[&token, &"refused", &Some(403)])?;
            }
            Answer::Nothing => {
                call(client, fail, &[&token, &"no answer", &None::<i32>])?;
            }
        }
        Ok(())
    }
}

/// A database with many contents that are due.
fn prepare(name: &str, policy: &Value) -> Database {
    let database = Database::on(crash_server(), name, None);
    let mut client = database.connect();
    run(&mut client, "CREATE EXTENSION slotkeeper");
    for queue in 0..QUEUES {
        let every_minute = json!({"every": "1 minute", "from": "00:00", "to": "23:59"});
        create_queue(&mut client, &format!("q{queue}"), "UTC", &every_minute, &json!({}));
        reply(
            &mut client,
            "SELECT slotkeeper.set_platform($1, $2)",
            &[&format!("q{queue}"), policy],
        );
    }
    // They were booked a while ago.
    let past = (Duration::from_secs(4 * 3600)).as_secs();
    run(
        &mut client,
        &format!(
            "SELECT set_config('slotkeeper.now', (now() - interval '{past} s')::text, false);
             SELECT slotkeeper.assign_slots((
                 SELECT jsonb_agg(jsonb_build_object('profile_id', 'p', 'platform', 'q' || i % {QUEUES}, 'content_id', 'c' || i))
                 FROM generate_series(1, {CONTENTS}) AS i))"
        ),
    );
    let mut client = database.connect();
    let late: i64 = one(
        &mut client,
        "SELECT count(*) FROM slotkeeper.booking WHERE scheduled_at > now()",
    );
    assert_eq!(late, 0, "contents that are not due");
    database
}

/// How many contents are in each state.
fn states(client: &mut Client) -> HashMap<String, i64> {
    client
        .query(
            "SELECT state, count(*) FROM slotkeeper.content_status GROUP BY state",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect()
}

/// Lets the workers go on until nothing is left to do, killing backends and the server meanwhile.
fn mayhem(database: &Database, provider: &Provider, seed: u64) -> HashMap<String, i64> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let done = &done;
        for number in 0..WORKERS {
            scope.spawn(move || {
                Worker {
                    name: format!("w{number}"),
                    database,
                    provider,
                    random: Random::new(seed, number),
                }
                .work(done);
            });
        }
        let mut random = Random::new(seed, 1_000);
        let started = Instant::now();
        let (mut restarts, mut killed) = (0, 0);
        let outcome = loop {
            assert!(
                started.elapsed() < Duration::from_secs(150),
                "it does not come to an end"
            );
            thread::sleep(Duration::from_millis(50 + random.below(200) as u64));
            if restarts < 3 && started.elapsed() > Duration::from_secs(2 * (restarts + 1)) {
                kill_server(database);
                restarts += 1;
            }
            let mut client = connect(database);
            let state = states(&mut client);
            let open = ["scheduled", "claimed", "publishing", "retrying"];
            if open.iter().all(|name| !state.contains_key(*name)) {
                println!(
                    "{state:?} after {:?}, {killed} backends and {restarts} servers killed, {} calls of the provider",
                    started.elapsed(),
                    provider.calls.load(Ordering::Relaxed)
                );
                assert!(restarts > 0 && killed > 0, "nothing was killed");
                break state;
            }
            let victims = client
                .query(
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
                    &[],
                )
                .unwrap();
            if !victims.is_empty() {
                let victim: i32 = victims[random.below(victims.len())].get(0);
                killed += i32::from(one::<bool>(
                    &mut client,
                    &format!("SELECT pg_terminate_backend({victim})"),
                ));
            }
        };
        done.store(true, Ordering::Relaxed);
        outcome
    })
}

/// Each content's state and how often the provider has published it.
fn published(client: &mut Client, provider: &Provider) -> Vec<(String, String, Option<String>, u32)> {
    let counts = provider.published.lock().unwrap();
    client
        .query(
            "SELECT content_id, state, error FROM slotkeeper.content_status ORDER BY content_id",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| {
            let content: String = row.get(0);
            let count = counts.get(&content).copied().unwrap_or(0);
            (content, row.get(1), row.get(2), count)
        })
        .collect()
}

/// Protections: the commit of begin and confirm waits for the disk; a lease that ran out after the begin is unknown.
#[test]
fn each_content_is_published_once_or_left_with_a_reason() {
    let _server = SERVER.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let policy = json!({"delays": ["1 second"], "jitter": 0.5, "max_attempts": 5});
    let database = prepare("publish_hold", &policy);
    let provider = Provider::default();
    mayhem(&database, &provider, seed());
    let mut client = database.connect();
    let all = published(&mut client, &provider);
    assert_eq!(all.len() as i64, CONTENTS);
    for (content, state, error, count) in &all {
        assert!(*count <= 1, "{content} was published {count} times and is {state}");
        match state.as_str() {
            "published" => assert_eq!(*count, 1, "{content} is published, the provider says otherwise"),
            "unknown" => assert!(error.is_some(), "{content} is unknown without a reason"),
            "failed" => assert!(
                *count == 0 && error.is_some(),
                "{content} failed, published {count} times"
            ),
            other => panic!("{content} is stuck as {other}"),
        }
    }
    // A person settles what is unknown, knowing what the provider knows.
    for (content, state, _, count) in &all {
        if state == "unknown" {
            let outcome = reply(
                &mut client,
                "SELECT slotkeeper.resolve_unknown($1, $2)",
                &[content, &(*count == 1)],
            );
            let expected = if *count == 1 { "published" } else { "retrying" };
            assert!(
                outcome["outcome"] == expected || outcome["outcome"] == "failed",
                "{content}: {outcome}"
            );
        }
    }
    let twice: i64 = one(
        &mut client,
        "SELECT count(*) FROM slotkeeper.published AS s JOIN slotkeeper.publication AS p USING (booking_id)",
    );
    assert_eq!(twice, 0, "published and still under way");
    ledger::check(&mut client);
    ledger::no_locks_left(&mut client);
}

/// Where the policy says so, what nobody knows about is tried again: at least once, and confirmed once.
#[test]
fn with_on_unknown_retry_each_content_is_published_at_least_once_and_confirmed_once() {
    let _server = SERVER.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let policy = json!({"delays": ["1 second"], "jitter": 0.5, "max_attempts": 100, "on_unknown": "retry",
                        "retry_statuses": [403, 429]});
    let database = prepare("publish_retry", &policy);
    let provider = Provider::default();
    let states = mayhem(&database, &provider, seed());
    assert_eq!(states, HashMap::from([("published".to_owned(), CONTENTS)]));
    let mut client = database.connect();
    let all = published(&mut client, &provider);
    assert!(all.iter().all(|(.., count)| *count >= 1));
    let more = all.iter().filter(|(.., count)| *count > 1).count();
    assert!(
        more > 0,
        "nothing was ever published twice: this policy was not put to the test"
    );
    let confirmed: i64 = one(&mut client, "SELECT count(*) FROM slotkeeper.published");
    assert_eq!(confirmed, CONTENTS);
    ledger::no_locks_left(&mut client);
}

/// A backend that has walked far over a stopped queue's contents skips them for a while, and only for a while.
#[test]
fn what_a_long_walk_has_skipped_is_found_again() {
    let database = Database::new("publish_floor");
    let mut client = database.connect();
    let every_minute = json!({"every": "1 minute", "from": "00:00", "to": "23:59"});
    for queue in ["stopped", "open"] {
        create_queue(&mut client, queue, "UTC", &every_minute, &json!({}));
    }
    let items = "SELECT slotkeeper.assign_slots((
        SELECT jsonb_agg(jsonb_build_object('profile_id', 'p', 'platform', $1::text, 'content_id', $1 || i))
        FROM generate_series(1, $2::int) AS i))";
    reply(&mut client, items, &[&"stopped", &1_000]);
    reply(&mut client, items, &[&"open", &5]);
    let status = "SELECT slotkeeper.set_queue_status('p', 'stopped', $1)";
    reply(&mut client, status, &[&"paused"]);
    run(&mut client, "SET slotkeeper.now = '2026-01-20T00:00:00Z'");
    let claim = |client: &mut Client| -> Vec<String> {
        let sql = "SELECT content_id FROM slotkeeper.claim_due_content('w', 1, '1 hour')";
        client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    for i in 1..=5 {
        assert_eq!(claim(&mut client), [format!("open{i}")]);
    }
    assert!(claim(&mut client).is_empty());
    // Another backend stops and resumes; what this one holds in memory it has not been told.
    reply(&mut database.connect(), status, &[&"active"]);
    eventually("the oldest is handed out", || claim(&mut client) == ["stopped1"]);
    assert_eq!(claim(&mut client), ["stopped2"]);
    // An abort takes back what was claimed, and the next claim finds it.
    run(&mut client, "BEGIN");
    assert_eq!(claim(&mut client), ["stopped3"]);
    run(&mut client, "ROLLBACK");
    assert_eq!(claim(&mut client), ["stopped3"]);
}
