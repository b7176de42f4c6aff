//! Drafts published by many callers at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::collections::BTreeSet;
use std::thread;

use postgres::{Client, Error};
use serde_json::Value;
use slotkeeper_client_tests::random::{Random, seed};
use slotkeeper_client_tests::{Database, at_once, backend, call, eventually, ledger, one, run, sqlstate, text, told};

const PUBLISHERS: usize = 50;
const TABLES: &str = "CREATE TABLE event (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, draft int NOT NULL);
    CREATE TABLE draft (id int PRIMARY KEY, event_id bigint UNIQUE REFERENCES event, status text);
    INSERT INTO draft SELECT generate_series(1, 100)";

fn database(name: &str) -> (Database, Client) {
    let database = Database::new(&format!("drafts_{name}"));
    let mut watcher = database.connect();
    run(&mut watcher, TABLES);
    (database, watcher)
}

fn publish(client: &mut Client, draft: i32) -> Result<Value, Error> {
    call(
        client,
        "SELECT slotkeeper.publish_draft('draft', $1::text, 'event', jsonb_build_object('draft', $1::text), 'event_id', '{\"status\": \"published\"}')",
        &[&draft.to_string()],
    )
}

fn events(client: &mut Client) -> i64 {
    one(client, "SELECT count(*) FROM event")
}

/// Protections: the row's lock; in REPEATABLE READ, the look for its holder before it is locked.
#[test]
fn fifty_publishers_of_one_draft_make_one_row() {
    let (database, mut watcher) = database("fifty");
    let mut clients: Vec<Client> = (0..PUBLISHERS).map(|_| database.connect()).collect();
    for draft in 1..=12 {
        let isolation = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"][draft as usize % 3];
        let answered = at_once(clients, |_, mut client| {
            let reply = loop {
                run(&mut client, &format!("BEGIN ISOLATION LEVEL {isolation}"));
                // The snapshot is older than what the others will have done.
                run(&mut client, "SELECT count(*) FROM draft");
                let reply = publish(&mut client, draft);
                match reply.and_then(|reply| client.batch_execute("COMMIT").map(|()| reply)) {
                    Ok(reply) => break reply,
                    Err(error) if isolation == "SERIALIZABLE" && sqlstate(&error) == "40001" => {
                        run(&mut client, "ROLLBACK");
                    }
                    Err(error) => panic!("{isolation}: {}", told(&error)),
                }
            };
            (client, reply)
        });
        let (back, replies): (Vec<Client>, Vec<Value>) = answered.into_iter().unzip();
        clients = back;
        let published = replies.iter().filter(|reply| reply["outcome"] == "published").count();
        let already = replies
            .iter()
            .filter(|reply| reply["outcome"] == "already_published")
            .count();
        assert_eq!((published, already), (1, PUBLISHERS - 1), "{isolation}: {replies:?}");
        let ids: BTreeSet<&str> = replies.iter().map(|reply| text(reply, "target_id")).collect();
        assert_eq!(ids.len(), 1, "{isolation}: {ids:?}");
        assert_eq!(events(&mut watcher), i64::from(draft));
    }
    ledger::no_locks_left(&mut watcher);
}

/// Protection: those who wait look again.
#[test]
fn when_the_first_publisher_fails_exactly_one_is_next() {
    let (database, mut watcher) = database("next");
    for (draft, end) in [
        (1, "ROLLBACK"),
        (2, "killed"),
        (3, "COMMIT"),
        (4, "claimed"),
        (5, "claimed, rolled back"),
    ] {
        let mut first = database.connect();
        let pid = backend(&mut first);
        run(&mut first, "BEGIN");
        let reply = if end.starts_with("claimed") {
            call(
                &mut first,
                "SELECT slotkeeper.claim_draft('draft', $1, 'event_id')",
                &[&draft.to_string()],
            )
            .unwrap()
        } else {
            publish(&mut first, draft).unwrap()
        };
        let waiting: Vec<_> = (0..PUBLISHERS)
            .map(|i| {
                let mut client = database.connect();
                let pid = backend(&mut client);
                let isolation = ["READ COMMITTED", "REPEATABLE READ"][i % 2];
                run(
                    &mut client,
                    &format!("SET default_transaction_isolation = '{isolation}'"),
                );
                (pid, thread::spawn(move || publish(&mut client, draft)))
            })
            .collect();
        eventually("all wait for the first one", || {
            waiting.iter().all(|(pid, _)| ledger::waits(&mut watcher, *pid))
        });
        match end {
            "killed" => run(&mut watcher, &format!("SELECT pg_terminate_backend({pid}, 20000)")),
            "claimed" => run(
                &mut first,
                &format!(
                    "WITH e AS (INSERT INTO event (draft) VALUES ({draft}) RETURNING id)
                     UPDATE draft SET event_id = e.id FROM e WHERE draft.id = {draft}; COMMIT"
                ),
            ),
            "COMMIT" => run(&mut first, "COMMIT"),
            _ => run(&mut first, "ROLLBACK"),
        }
        let replies: Vec<Value> = waiting
            .into_iter()
            .map(|(_, thread)| {
                thread
                    .join()
                    .unwrap()
                    .unwrap_or_else(|error| panic!("{end}: {}", told(&error)))
            })
            .collect();
        let published = replies.iter().filter(|reply| reply["outcome"] == "published").count();
        let expected = usize::from(!matches!(end, "COMMIT" | "claimed"));
        assert_eq!(published, expected, "{end}: {reply} {replies:?}");
        let ids: BTreeSet<&str> = replies.iter().map(|reply| text(reply, "target_id")).collect();
        assert_eq!(ids.len(), 1, "{end}: {ids:?}");
        assert_eq!(events(&mut watcher), i64::from(draft), "{end}");
    }
    ledger::no_locks_left(&mut watcher);
}

#[test]
fn a_hundred_connections_publishing_claiming_editing_and_rolling_back() {
    let (database, mut watcher) = database("crowd");
    let (seed, drafts) = (seed(), 30);
    let clients: Vec<Client> = (0..100).map(|_| database.connect()).collect();
    at_once(clients, |number, mut client| {
        let mut random = Random::new(seed, number as u64);
        for _ in 0..15 {
            let draft = 1 + random.below(drafts) as i32;
            let isolation = ["READ COMMITTED", "REPEATABLE READ"][random.below(2)];
            run(&mut client, &format!("BEGIN ISOLATION LEVEL {isolation}"));
            let what = random.below(4);
            let done = match what {
                0 => client.batch_execute(&format!(
                    "UPDATE draft SET status = 'edited' WHERE id = {draft} AND event_id IS NULL"
                )),
                1 => call(
                    &mut client,
                    "SELECT slotkeeper.claim_draft('draft', $1, 'event_id')",
                    &[&draft.to_string()],
                )
                .map(|reply| assert!(reply["outcome"] != "not_found", "{reply}")),
                _ => publish(&mut client, draft).map(|reply| assert!(reply["target_id"].is_string(), "{reply}")),
            };
            if let Err(error) = &done {
                // Only the edit is none of slotkeeper's calls.
                assert!(what == 0 && sqlstate(error) == "40001", "{}", told(error));
            }
            let end = if done.is_err() || random.below(3) == 0 {
                "ROLLBACK"
            } else {
                "COMMIT"
            };
            run(&mut client, end);
        }
    });
    let twice: i64 = one(
        &mut watcher,
        "SELECT count(*) FROM (SELECT draft FROM event GROUP BY draft HAVING count(*) > 1) AS d",
    );
    let loose: i64 = one(
        &mut watcher,
        "SELECT count(*) FROM event AS e WHERE NOT EXISTS (SELECT FROM draft AS d WHERE d.id = e.draft AND d.event_id = e.id)",
    );
    assert_eq!(
        (twice, loose),
        (0, 0),
        "seed {seed}: drafts published twice, events without a draft"
    );
    assert!(events(&mut watcher) > 0);
    ledger::no_locks_left(&mut watcher);
}
