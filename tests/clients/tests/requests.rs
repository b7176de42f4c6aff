//! Keyed requests in a crowd: one runs, the others get its answer, whoever dies on the way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::thread;
use std::time::Duration;

use postgres::{Client, Error};
use serde_json::{Value, json};
use slotkeeper_client_tests::{
    Database, at_once, backend, call, eventually, ledger, one, reply, run, sqlstate, text, told,
};

const BEGIN: &str = "SELECT slotkeeper.begin_request($1, 'POST', '/things', 'u', p_wait => '60 seconds')";
const FINISH: &str = "SELECT slotkeeper.finish_request($1, 201, $2)";

fn database(name: &str) -> (Database, Client) {
    let database = Database::new(name);
    let mut client = database.connect();
    run(
        &mut client,
        "CREATE TABLE thing (id int GENERATED ALWAYS AS IDENTITY, who text)",
    );
    (database, client)
}

/// What an application does with a key, in one transaction with its work: the body that it answers, and whether it ran.
fn handle(client: &mut Client, isolation: &str, key: &str, who: &str) -> Result<(Value, bool), Error> {
    let mut transaction = client.transaction()?;
    transaction.batch_execute(&format!("SET TRANSACTION ISOLATION LEVEL {isolation}"))?;
    // An old snapshot, where the level keeps it.
    transaction.query("SELECT count(*) FROM thing", &[])?;
    let begun = call(&mut transaction, BEGIN, &[&key])?;
    if begun["outcome"] == "replayed" {
        transaction.commit()?;
        return Ok((begun["body"].clone(), false));
    }
    assert_eq!(begun["outcome"], "started", "{begun}");
    let id: i32 = transaction
        .query_one("INSERT INTO thing (who) VALUES ($1) RETURNING id", &[&who])?
        .get(0);
    let body = json!({"id": id, "who": who});
    let finished = call(&mut transaction, FINISH, &[&text(&begun, "token"), &body])?;
    assert_eq!(finished["outcome"], "finished", "{finished}");
    transaction.commit()?;
    Ok((body, true))
}

/// Protection: the primary key, and that who meets an uncommitted holder waits for it and looks again with the latest
/// snapshot. In SERIALIZABLE 40001 may come; a retry ends right.
#[test]
fn fifty_callers_with_one_key_run_it_once() {
    let (database, mut watcher) = database("request_crowd");
    let levels = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];
    for round in 0..3 {
        for pair in [[levels[0], levels[1]], [levels[2], levels[0]]] {
            // A hundred connections: fifty for each of two keys, each at its own level.
            let clients: Vec<_> = (0..100).map(|_| database.connect_impatient()).collect();
            let answers = at_once(clients, |i, mut client| {
                run(&mut client, "SET lock_timeout = 0");
                let level = pair[i % 2];
                let key = format!("{round} {level} {}", pair[0]);
                let mut retries = 0;
                loop {
                    match handle(&mut client, level, &key, &format!("{round}-{i}")) {
                        Ok(answer) => return answer,
                        Err(error) => {
                            assert_eq!((level, sqlstate(&error)), (levels[2], "40001"), "{}", told(&error));
                            retries += 1;
                            assert!(retries < 1000, "no end of retries");
                        }
                    }
                }
            });
            for (side, key) in pair.iter().enumerate() {
                let of_key: Vec<_> = answers.iter().skip(side).step_by(2).collect();
                let ran = of_key.iter().filter(|(_, ran)| *ran).count();
                assert_eq!((ran, of_key.len()), (1, 50), "{key}");
                assert!(of_key.iter().all(|(body, _)| *body == of_key[0].0), "{of_key:?}");
            }
        }
    }
    assert_eq!(one::<i64>(&mut watcher, "SELECT count(*) FROM thing"), 12);
    assert_eq!(one::<i64>(&mut watcher, "SELECT count(*) FROM slotkeeper.request"), 12);
    ledger::no_locks_left(&mut watcher);
}

/// Begun and finished in transactions of their own: those who wait see the answer as soon as it is there.
#[test]
fn fifty_callers_wait_for_an_answer_that_is_committed_apart() {
    let (database, mut watcher) = database("request_apart");
    database.at("");
    let clients: Vec<_> = (0..50).map(|_| database.connect()).collect();
    let answers = at_once(clients, |i, mut client| {
        let begun = reply(&mut client, BEGIN, &[&"k"]);
        if begun["outcome"] == "replayed" {
            return (begun["body"].clone(), false);
        }
        assert_eq!(begun["outcome"], "started", "{begun}");
        thread::sleep(Duration::from_millis(300));
        let finished = reply(&mut client, FINISH, &[&text(&begun, "token"), &json!(i)]);
        assert_eq!(finished["outcome"], "finished");
        (json!(i), true)
    });
    assert_eq!(answers.iter().filter(|(_, ran)| *ran).count(), 1);
    assert!(answers.iter().all(|(body, _)| *body == answers[0].0), "{answers:?}");
    ledger::no_locks_left(&mut watcher);
}

/// How the first holder goes away.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Rollback,
    Kill,
}

/// Protection: the abort of a transaction takes its key away, at whatever step it comes.
#[test]
fn after_a_rollback_or_a_death_exactly_one_of_the_waiting_runs() {
    let (database, mut watcher) = database("request_next");
    for end in [End::Rollback, End::Kill] {
        for step in 0..3 {
            let key = format!("{end:?} {step}");
            let mut holder = database.connect();
            run(&mut holder, "BEGIN");
            let begun = reply(&mut holder, BEGIN, &[&key]);
            assert_eq!(begun["outcome"], "started");
            if step > 0 {
                run(&mut holder, "INSERT INTO thing (who) VALUES ('lost')");
            }
            if step > 1 {
                reply(&mut holder, FINISH, &[&text(&begun, "token"), &json!("lost")]);
            }
            let waiting: Vec<_> = (0..10)
                .map(|i| {
                    let mut client = database.connect();
                    let (pid, key) = (backend(&mut client), key.clone());
                    let level = ["READ COMMITTED", "REPEATABLE READ"][i % 2];
                    let thread = thread::spawn(move || handle(&mut client, level, &key, &format!("next-{i}")).unwrap());
                    (pid, thread)
                })
                .collect();
            eventually("ten callers wait", || {
                waiting.iter().all(|(pid, _)| ledger::waits(&mut watcher, *pid))
            });
            match end {
                End::Rollback => run(&mut holder, "ROLLBACK"),
                End::Kill => {
                    let pid = backend(&mut holder);
                    assert!(one::<bool>(
                        &mut watcher,
                        &format!("SELECT pg_terminate_backend({pid}, 20000)")
                    ));
                }
            }
            let answers: Vec<_> = waiting.into_iter().map(|(_, thread)| thread.join().unwrap()).collect();
            assert_eq!(
                answers.iter().filter(|(_, ran)| *ran).count(),
                1,
                "{key}: exactly one is next: {answers:?}"
            );
            assert!(
                answers.iter().all(|(body, _)| *body == answers[0].0),
                "{key}: {answers:?}"
            );
        }
    }
    assert_eq!(
        one::<i64>(&mut watcher, "SELECT count(*) FROM thing WHERE who = 'lost'"),
        0
    );
    ledger::no_locks_left(&mut watcher);
}

/// Protection: the lease, and the holder that each change of the row compares.
#[test]
fn a_holder_that_dies_after_its_commit_is_taken_over_once_and_its_ghost_changes_nothing() {
    let (database, mut watcher) = database("request_ghost");
    database.at("");
    let mut ghost = database.connect();
    let begun = reply(
        &mut ghost,
        "SELECT slotkeeper.begin_request('k', 'POST', '/things', 'u', p_lease => '700 milliseconds')",
        &[],
    );
    let clients: Vec<_> = (0..20).map(|_| database.connect()).collect();
    let answers = at_once(clients, |i, mut client| {
        let begun = reply(&mut client, BEGIN, &[&"k"]);
        if begun["outcome"] == "started" {
            assert_eq!(begun["attempt"], 2);
            // The ghost comes back while the new holder works.
            thread::sleep(Duration::from_millis(200));
            reply(&mut client, FINISH, &[&text(&begun, "token"), &json!(i)]);
            return (json!(i), true);
        }
        assert_eq!(begun["outcome"], "replayed", "{begun}");
        (begun["body"].clone(), false)
    });
    assert_eq!(answers.iter().filter(|(_, ran)| *ran).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|(body, _)| *body == answers[0].0), "{answers:?}");
    let token = text(&begun, "token");
    for (sql, outcome) in [
        ("SELECT slotkeeper.finish_request($1, 200, '\"ghost\"')", "stale_token"),
        ("SELECT slotkeeper.extend_request($1, '1 hour')", "stale_token"),
        ("SELECT slotkeeper.abandon_request($1)", "stale_token"),
    ] {
        assert_eq!(reply(&mut ghost, sql, &[&token])["outcome"], outcome);
    }
    assert_eq!(reply(&mut watcher, BEGIN, &[&"k"])["body"], answers[0].0);
}

/// Protection: `idempotent_insert` writes the key's row before the rows.
#[test]
fn fifty_callers_insert_one_row() {
    let (database, mut watcher) = database("request_insert");
    run(
        &mut watcher,
        "CREATE TABLE member (thing_id int, who text); ALTER TABLE thing ADD COLUMN slug text UNIQUE",
    );
    for level in ["read committed", "repeatable read"] {
        let clients: Vec<_> = (0..50).map(|_| database.connect()).collect();
        let replies = at_once(clients, |_, mut client| {
            run(
                &mut client,
                &format!("SET default_transaction_isolation = '{level}'; SET statement_timeout = '60s'"),
            );
            let mut transaction = client.transaction().unwrap();
            transaction.query("SELECT count(*) FROM thing", &[]).unwrap();
            let reply = reply(
                &mut transaction,
                "SELECT slotkeeper.idempotent_insert('thing', '{\"who\": \"Same Name\"}', $1, 'u', '{\"column\": \"slug\", \"from\": \"who\"}',
                     '[{\"table\": \"member\", \"row\": {\"thing_id\": \"$.id\", \"who\": \"me\"}}]')",
                &[&level],
            );
            transaction.commit().unwrap();
            reply
        });
        let inserted = replies.iter().filter(|reply| reply["outcome"] == "inserted").count();
        let replayed = replies.iter().filter(|reply| reply["outcome"] == "replayed").count();
        assert_eq!((inserted, replayed), (1, 49));
        assert!(
            replies
                .iter()
                .all(|reply| reply["row"] == replies[0]["row"] && reply["then"] == replies[0]["then"]),
            "{replies:?}"
        );
    }
    let rows: Vec<String> = watcher
        .query(
            "SELECT slug || ' ' || (SELECT count(*) FROM member WHERE thing_id = id) FROM thing ORDER BY id",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(rows, ["same-name 1", "same-name-1 1"]);
}

/// A replay is a read: no transaction id, no row lock, and a read that others' counting does not hold up.
#[test]
fn replays_write_nothing_but_a_count_now_and_then() {
    let (database, mut watcher) = database("request_replay");
    handle(&mut watcher, "READ COMMITTED", "k", "first").unwrap();
    let mut client = database.connect();
    // The first count of a backend is added at once, in its transaction, which stays open here.
    run(&mut client, "BEGIN");
    reply(&mut client, BEGIN, &[&"k"]);
    let mut others: Vec<_> = (0..20).map(|_| database.connect_impatient()).collect();
    for other in &mut others {
        assert_eq!(reply(other, BEGIN, &[&"k"])["outcome"], "replayed");
        let wrote = (0..50).filter(|_| {
            let mut transaction = other.transaction().unwrap();
            reply(&mut transaction, BEGIN, &[&"k"]);
            transaction
                .query_one("SELECT pg_current_xact_id_if_assigned() IS NOT NULL", &[])
                .unwrap()
                .get(0)
        });
        // At most once in five seconds.
        assert!(wrote.count() <= 1);
    }
    run(&mut client, "COMMIT");
    thread::sleep(Duration::from_millis(5_100));
    for other in &mut others {
        reply(other, BEGIN, &[&"k"]);
    }
    let replays: i64 = one(&mut watcher, "SELECT replays FROM slotkeeper.request_stats");
    let of_key: i32 = one(&mut watcher, "SELECT replays FROM slotkeeper.recent_requests");
    assert_eq!(replays, 1 + 20 * 52);
    // A row that another session is at is passed over, so this one may lag behind, but not by much.
    assert!(
        i64::from(of_key) <= replays && i64::from(of_key) > replays / 2,
        "{of_key} of {replays}"
    );
}

/// Without any job: what has expired is removed by those who begin, and nothing that is live.
#[test]
fn begins_clean_up_what_has_expired() {
    let (database, mut watcher) = database("request_sweep");
    run(
        &mut watcher,
        "DO $$ BEGIN FOR i IN 1 .. 800 LOOP PERFORM slotkeeper.finish_request(slotkeeper.begin_request('old' || i, 'POST', '/', 'u', p_ttl => '1 hour') ->> 'token', 200, '1'); END LOOP;
         FOR i IN 1 .. 50 LOOP PERFORM slotkeeper.finish_request(slotkeeper.begin_request('live' || i, 'POST', '/', 'u', p_ttl => '30 days') ->> 'token', 200, '1'); END LOOP; END $$",
    );
    database.at("2026-01-20T00:00:00+00:00");
    let clients: Vec<_> = (0..8).map(|_| database.connect_impatient()).collect();
    at_once(clients, |i, mut client| {
        for n in 0..25 {
            reply(&mut client, BEGIN, &[&format!("new{i}-{n}")]);
        }
    });
    assert_eq!(
        one::<String>(
            &mut watcher,
            "SELECT string_agg(left(key, 3) || ' ' || count, ', ' ORDER BY left(key, 3)) FROM (SELECT left(key, 3) AS key, count(*) FROM slotkeeper.request GROUP BY 1) AS k",
        ),
        "liv 50, new 200"
    );
}
