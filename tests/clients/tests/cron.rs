//! The line for pg_cron in the documentation, with Debian's pg_cron.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use slotkeeper_client_tests::{one, run};

const REFERENCE: &str = include_str!("../../../docs/reference.md");

#[test]
fn pg_cron_runs_the_documented_line() {
    let url = env::var("SLOTKEEPER_CRON_URL").unwrap_or_default();
    if url.is_empty() {
        println!("SKIPPED: no server with pg_cron; SLOTKEEPER_CRON_URL names none");
        return;
    }
    let mut client = Client::connect(&url, NoTls).unwrap();
    run(
        &mut client,
        "DROP EXTENSION IF EXISTS pg_cron, slotkeeper; CREATE EXTENSION pg_cron; CREATE EXTENSION slotkeeper",
    );
    // One request that is gone, one that is live.
    run(
        &mut client,
        "SET slotkeeper.now = '2020-01-01T00:00:00Z';
         SELECT slotkeeper.finish_request(slotkeeper.begin_request('gone', 'POST', '/') ->> 'token', 200, '1');
         RESET slotkeeper.now;
         INSERT INTO slotkeeper.request SELECT md5('live')::uuid, fingerprint, now(), now() + interval '1 day', holder, lifetime,
                sweep_at + 100000000, replays, attempt, status, user_id, 'live', method, path FROM slotkeeper.request",
    );
    let line = REFERENCE
        .lines()
        .find(|line| line.starts_with("SELECT cron.schedule("))
        .expect("docs/reference.md has the line");
    // Every minute instead of every tenth: this test does not wait that long.
    let every_minute = line.replace("'*/10 ", "'* ");
    assert_ne!(line, every_minute);
    run(&mut client, &every_minute);
    let started = Instant::now();
    let status = "SELECT coalesce((SELECT status || ': ' || return_message FROM cron.job_run_details WHERE end_time IS NOT NULL LIMIT 1), '')";
    let said = loop {
        let said: String = one(&mut client, status);
        if !said.is_empty() {
            break said;
        }
        assert!(started.elapsed() < Duration::from_secs(100), "pg_cron has run nothing");
        thread::sleep(Duration::from_millis(500));
    };
    assert!(said.starts_with("succeeded"), "{said}");
    assert_eq!(
        one::<String>(&mut client, "SELECT string_agg(key, ' ') FROM slotkeeper.request"),
        "live"
    );
    run(
        &mut client,
        "SELECT cron.unschedule('slotkeeper'); DROP EXTENSION pg_cron, slotkeeper",
    );
}
