//! Callers in SERIALIZABLE: 40001 may come, a retry ends right.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::collections::BTreeSet;

use serde_json::json;
use slotkeeper_client_tests::{Database, assign, at_once, create_queue, ledger, one, run, sqlstate, text, told};

/// Protection: the unique indexes; the only fault that may come is 40001, and nothing of its transaction stays.
#[test]
fn serializable_callers_retry_on_40001_and_end_right() {
    let database = Database::new("serializable");
    let mut watcher = database.connect();
    create_queue(
        &mut watcher,
        "hot",
        "Asia/Jakarta",
        &json!({"every": "5 minutes", "from": "00:00", "to": "23:55"}),
        &json!({}),
    );
    run(&mut watcher, "CREATE TABLE note (content text)");
    let clients: Vec<_> = (0..12)
        .map(|_| {
            let mut client = database.connect_impatient();
            run(&mut client, "SET default_transaction_isolation = 'serializable'");
            client
        })
        .collect();
    let calls = 25;
    let done = at_once(clients, |thread, mut client| {
        let (mut retries, mut replies) = (0, Vec::new());
        for i in 0..calls {
            // Every fifth content is wanted by all of them.
            let content = if i % 5 == 0 {
                format!("all-{i}")
            } else {
                format!("{thread}-{i}")
            };
            loop {
                let attempt = (|| {
                    let mut transaction = client.transaction()?;
                    transaction.query("SELECT count(*) FROM note", &[])?;
                    let reply = assign(&mut transaction, "hot", &content)?;
                    transaction.execute("INSERT INTO note VALUES ($1)", &[&content])?;
                    transaction.commit()?;
                    Ok::<_, postgres::Error>(reply)
                })();
                match attempt {
                    Ok(reply) => {
                        replies.push((content, reply));
                        break;
                    }
                    Err(error) => {
                        assert_eq!(sqlstate(&error), "40001", "{}", told(&error));
                        retries += 1;
                        assert!(retries < 5_000, "no end of retries");
                    }
                }
            }
        }
        (retries, replies)
    });
    let retries: i32 = done.iter().map(|(retries, _)| retries).sum();
    println!("{retries} retries for {} calls", 12 * calls);
    let mut booked = BTreeSet::new();
    for (content, reply) in done.iter().flat_map(|(_, replies)| replies) {
        match text(reply, "outcome") {
            "assigned" => assert!(booked.insert(content.clone()), "{content} was booked twice"),
            outcome => assert!(outcome == "already_assigned" && content.starts_with("all-"), "{reply}"),
        }
        let held: bool = watcher
            .query_one(
                "SELECT EXISTS (SELECT FROM slotkeeper.booking WHERE content_id = $1 AND booking_id = $2
                 AND scheduled_at = $3::text::timestamptz AND released_at IS NULL)",
                &[content, &reply["booking_id"].as_i64(), &text(reply, "scheduled_at")],
            )
            .unwrap()
            .get(0);
        assert!(held, "a reply that is not true: {reply}");
    }
    assert_eq!(booked.len(), 12 * 20 + 5);
    assert_eq!(
        one::<i64>(&mut watcher, "SELECT count(*) FROM slotkeeper.booking"),
        booked.len() as i64
    );
    ledger::check(&mut watcher);
    ledger::no_locks_left(&mut watcher);
}
