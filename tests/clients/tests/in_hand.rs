//! Rows that change while workers publish their contents: whatever writers do to a row, a provider that counts gets it once in a
//! queue, and at the end row and ledger say the same.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::collections::BTreeMap;
use std::sync::Mutex;

use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use slotkeeper_client_tests::random::{Random, seed};
use slotkeeper_client_tests::{Database, at_once, call, one, reply, run, sqlstate, told};

const WRITERS: usize = 10;
const WORKERS: usize = 8;
const ROWS: usize = 200;
const LASTS: Duration = Duration::from_secs(12);

/// A content that succeeded late in a queue which its row had left, and has come back to, waits for the claim that closes it. `who` is what the application's row is about, under whichever id; `flight` are the calls that were made to the provider.
const TABLES: &str = "
    CREATE TABLE post (id text PRIMARY KEY, who int, queue text, at timestamptz, status text DEFAULT 'queued', gone boolean DEFAULT false);
    CREATE TABLE known (id text PRIMARY KEY, who int);
    CREATE FUNCTION know() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO known VALUES (new.id, new.who) ON CONFLICT DO NOTHING; RETURN NULL; END';
    CREATE TRIGGER know AFTER INSERT OR UPDATE OF id ON post FOR EACH ROW EXECUTE FUNCTION know();
    CREATE TABLE flight (n bigserial, id text, who int, queue text, done boolean DEFAULT false, sent boolean DEFAULT false);
    CREATE SEQUENCE ids;
    CREATE VIEW differences AS
    WITH r AS (SELECT *, status = 'queued' AND NOT gone AND at IS NOT NULL AS takes FROM post),
         l AS (SELECT * FROM slotkeeper.content_status WHERE source = 'public.post' AND state <> 'unscheduled')
    SELECT 'no booking' AS what, r.id, r.status, NULL AS state FROM r WHERE takes AND NOT EXISTS (SELECT FROM l WHERE (l.content_id, l.platform) = (r.id, r.queue))
    UNION ALL
    SELECT 'other time', r.id, r.status, l.state FROM r JOIN l ON (l.content_id, l.platform) = (r.id, r.queue) WHERE takes AND l.state = 'scheduled' AND l.scheduled_at <> r.at
    UNION ALL
    SELECT 'other state', r.id, r.status, l.state FROM r LEFT JOIN l ON (l.content_id, l.platform) = (r.id, r.queue)
    WHERE NOT gone AND CASE r.status
        WHEN 'queued' THEN takes AND l.state <> 'scheduled' AND NOT (l.state = 'published' AND EXISTS (SELECT FROM slotkeeper.booking AS b WHERE b.booking_id = l.booking_id AND b.claimed_at IS NULL))
        WHEN 'taken' THEN l.state IS DISTINCT FROM 'claimed' WHEN 'sending' THEN l.state IS DISTINCT FROM 'publishing'
        WHEN 'retry' THEN l.state IS DISTINCT FROM 'retrying' WHEN 'unknown' THEN l.state IS DISTINCT FROM 'unknown' WHEN 'failed' THEN l.state NOT IN ('failed', 'published')
        WHEN 'draft' THEN l.state NOT IN ('published', 'publishing', 'unknown')
        WHEN 'out' THEN NOT EXISTS (SELECT FROM slotkeeper.published AS p WHERE p.content_id = r.id AND p.source = 'public.post') END
    UNION ALL
    SELECT 'no row', l.content_id, NULL, l.state FROM l WHERE l.state NOT IN ('published', 'publishing', 'unknown')
        AND NOT EXISTS (SELECT FROM r WHERE (r.id, r.queue) = (l.content_id, l.platform) AND NOT gone)
    UNION ALL
    SELECT 'publication without booking', p.booking_id::text, NULL, p.state FROM slotkeeper.publication AS p
    WHERE NOT EXISTS (SELECT FROM slotkeeper.booking AS b WHERE b.booking_id = p.booking_id AND b.released_at IS NULL AND b.claimed_at IS NOT NULL)
    UNION ALL
    SELECT 'taken up, and nothing known', b.content_id, NULL, NULL FROM slotkeeper.booking AS b
    WHERE b.released_at IS NULL AND b.claimed_at IS NOT NULL AND NOT EXISTS (SELECT FROM slotkeeper.publication AS p WHERE p.booking_id = b.booking_id)
        AND NOT EXISTS (SELECT FROM slotkeeper.published AS s WHERE (s.content_id, s.source, s.queue_id) = (b.content_id, b.source, b.queue_id))
    UNION ALL
    SELECT 'sent ' || count(*), who::text, queue, NULL FROM flight WHERE sent GROUP BY who, queue HAVING count(*) > 1
    UNION ALL
    SELECT 'sent, and not published', f.id, f.queue, NULL FROM flight AS f
    WHERE sent AND NOT EXISTS (SELECT FROM known AS k JOIN slotkeeper.published AS s ON s.content_id = k.id
                               JOIN slotkeeper.queue AS q USING (queue_id) WHERE k.who = f.who AND q.platform = f.queue);";

const ATTACH: &str = r#"SELECT slotkeeper.attach_table('post', '{"content_id": "id", "profile_id": {"value": "p"}, "platform": "queue", "at": "at",
    "occupies": "status = ''queued''", "exempt": {"gone": "gone"}, "on_conflict": "next_free",
    "states": {"scheduled": {"status": "queued"}, "unscheduled": {"status": "draft"}, "claimed": {"status": "taken"}, "publishing": {"status": "sending"},
               "retrying": {"status": "retry"}, "failed": {"status": "failed"}, "unknown": {"status": "unknown"}, "published": {"status": "out"}}}')"#;

/// Rows that say something else than their contents, before these are published and nothing is seen of it any more.
const UNTOLD: &str = "
    SELECT concat_ws(' ', r.id, r.status, l.state)
    FROM post AS r JOIN slotkeeper.content_status AS l ON (l.content_id, l.platform, l.source) = (r.id, r.queue, 'public.post')
    WHERE NOT r.gone AND (l.state, r.status) IN (('scheduled', 'taken'), ('scheduled', 'sending'), ('scheduled', 'retry'), ('scheduled', 'unknown'),
        ('claimed', 'queued'), ('claimed', 'retry'), ('retrying', 'queued'), ('retrying', 'taken'), ('failed', 'queued')) LIMIT 20";

fn texts(client: &mut Client, sql: &str) -> Vec<String> {
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

/// What somebody does to a row.
fn change(random: &mut Random) -> String {
    let at = format!(
        "clock_timestamp() + interval '{} milliseconds'",
        random.between(-3_000, 2_000)
    );
    let queue = *random.pick(&["a", "b", "c"]);
    let row = "id = (SELECT id FROM post ORDER BY random() LIMIT 1)";
    let new_id = "id = 'n' || nextval('ids')";
    match random.below(18) {
        0 | 1 => format!("UPDATE post SET at = {at} WHERE {row}"),
        2 | 3 => format!("UPDATE post SET queue = '{queue}' WHERE {row}"),
        4 => format!("UPDATE post SET {new_id} WHERE {row}"),
        5 => format!("UPDATE post SET {new_id}, queue = '{queue}', at = {at} WHERE {row}"),
        6 | 7 => format!("UPDATE post SET status = 'queued' WHERE {row}"),
        8 => format!("UPDATE post SET status = 'queued', queue = '{queue}', at = {at} WHERE {row}"),
        9 => format!("UPDATE post SET status = 'draft' WHERE {row}"),
        10 => format!("UPDATE post SET status = 'failed' WHERE {row}"),
        11 => format!("UPDATE post SET gone = NOT gone WHERE {row}"),
        12 => format!(
            "WITH d AS (DELETE FROM post WHERE {row} RETURNING *) INSERT INTO post SELECT id, who, queue, at FROM d"
        ),
        13 => format!(
            "INSERT INTO post SELECT id, who, '{queue}', {at} FROM post WHERE {row} ON CONFLICT (id) DO UPDATE SET queue = excluded.queue, at = excluded.at, status = excluded.status"
        ),
        14 => format!(
            "SELECT slotkeeper.reschedule_content(id, {at}, p_on_conflict => 'next_free') FROM post WHERE {row}"
        ),
        15 => format!("SELECT slotkeeper.unschedule_content(id) FROM post WHERE {row}"),
        16 => format!("SELECT slotkeeper.retry_content(id) FROM post WHERE {row}"),
        _ => format!("UPDATE post SET at = NULL WHERE {row}"),
    }
}

/// What a change may be refused with: it has begun, or been published; the row is in another queue by now, or there are two
/// bookings; a circle of several changes; an upsert whose row was deleted meanwhile, and whose instant is taken.
const EXPECTED: [&str; 4] = ["55000", "22023", "40P01", "23505"];

/// One claim, and what comes of it; at the end nothing goes wrong any more.
fn work(client: &mut Client, random: &mut Random, at_the_end: bool) -> usize {
    let lease = *random.pick(&["1 second", "5 seconds", "5 seconds"]);
    let claimed = client
        .query(
            &format!("SELECT content_id, platform, lease_token FROM slotkeeper.claim_due_content('w', 3, '{lease}')"),
            &[],
        )
        .unwrap();
    for row in &claimed {
        let (id, queue, token): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        if random.percent(10) {
            thread::sleep(Duration::from_millis(random.below(30) as u64));
        }
        let mut begin = client.transaction().unwrap();
        let begun = call(&mut begin, "SELECT slotkeeper.begin_publish($1)", &[&token]).unwrap();
        if begun["outcome"] != "proceed" {
            continue;
        }
        let flight: i64 = begin
            .query_one(
                "INSERT INTO flight (id, who, queue) SELECT $1, who, $2 FROM known WHERE id = $1 RETURNING n",
                &[&id, &queue],
            )
            .unwrap()
            .get(0);
        begin.commit().unwrap();
        let what = if at_the_end { 0 } else { random.below(100) };
        let sent = what < 75;
        client
            .execute(
                "UPDATE flight SET done = true, sent = $2 WHERE n = $1",
                &[&flight, &sent],
            )
            .unwrap();
        if (60..70).contains(&what) {
            thread::sleep(Duration::from_millis(1_200));
        }
        let told = match what {
            0..70 => call(client, "SELECT slotkeeper.confirm_publish($1)", &[&token]),
            // Nobody hears of it again.
            70..75 | 95.. => continue,
            75..80 => call(client, "SELECT slotkeeper.fail_publish($1, 'no', 403)", &[&token]),
            80..85 => call(client, "SELECT slotkeeper.fail_publish($1, 'gateway', 504)", &[&token]),
            _ => call(client, "SELECT slotkeeper.fail_publish($1, 'too many', 429)", &[&token]),
        };
        told.unwrap_or_else(|error| panic!("{}", slotkeeper_client_tests::told(&error)));
    }
    claimed.len()
}

/// A person finds out what came of attempts that nobody has told of. He asks the provider last: what he has seen before may be
/// of an earlier attempt.
fn find_out(client: &mut Client) {
    let unknown = client
        .query(
            "SELECT s.content_id, s.platform FROM slotkeeper.content_status AS s WHERE s.state = 'unknown'
             AND NOT EXISTS (SELECT FROM flight AS f JOIN known AS k USING (who) WHERE k.id = s.content_id AND f.queue = s.platform AND NOT f.done)",
            &[],
        )
        .unwrap();
    for row in &unknown {
        let (id, queue): (String, String) = (row.get(0), row.get(1));
        let sql = "SELECT slotkeeper.resolve_unknown($1, EXISTS (
                       SELECT FROM flight AS f JOIN known AS k USING (who) WHERE k.id = $1 AND f.queue = $2 AND f.sent), p_platform => $2)";
        call(client, sql, &[&id, &queue]).unwrap_or_else(|error| panic!("{}", told(&error)));
    }
}

#[test]
fn rows_that_change_while_they_are_published_are_sent_once_and_say_so() {
    let database = Database::new("in_hand");
    database.at("");
    let mut admin = database.connect();
    for queue in ["a", "b", "c"] {
        let sql =
            format!(r#"SELECT slotkeeper.create_queue('p', '{queue}', 'UTC', '{{}}', '{{"granule": "1 second"}}')"#);
        assert_eq!(reply(&mut admin, &sql, &[])["outcome"], "created");
        let sql = format!(
            r#"SELECT slotkeeper.set_platform('{queue}', '{{"delays": ["1 second"], "jitter": 0, "max_attempts": 9}}')"#
        );
        assert_eq!(reply(&mut admin, &sql, &[])["outcome"], "updated");
    }
    run(&mut admin, TABLES);
    assert_eq!(reply(&mut admin, ATTACH, &[])["outcome"], "attached");
    run(
        &mut admin,
        &format!(
            "SET client_min_messages = warning; INSERT INTO post SELECT 'n' || nextval('ids'), n, chr(97 + n % 3), now() + n * interval '50 milliseconds' FROM generate_series(1, {ROWS}) AS n"
        ),
    );
    let seed = seed();
    let faults: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let end = Instant::now() + LASTS;
    let clients: Vec<Client> = (0..WRITERS + WORKERS + 1).map(|_| database.connect()).collect();
    at_once(clients, |n, mut client| {
        let mut random = Random::new(seed, n as u64);
        run(
            &mut client,
            "SET client_min_messages = error; SET statement_timeout = '60s'",
        );
        while Instant::now() < end {
            if n == 0 {
                find_out(&mut client);
                thread::sleep(Duration::from_millis(50));
            } else if n <= WORKERS {
                if work(&mut client, &mut random, false) == 0 {
                    thread::sleep(Duration::from_millis(20));
                }
            } else {
                let sql = match random.below(6) {
                    0 => format!("BEGIN; {}; {}; COMMIT", change(&mut random), change(&mut random)),
                    1 => format!(
                        "BEGIN; SAVEPOINT s; {}; ROLLBACK TO s; {}; COMMIT",
                        change(&mut random),
                        change(&mut random)
                    ),
                    _ => change(&mut random),
                };
                if let Err(error) = client.batch_execute(&sql) {
                    let state = sqlstate(&error).to_owned();
                    assert!(EXPECTED.contains(&state.as_str()), "{sql}: {}", told(&error));
                    *faults.lock().unwrap().entry(state).or_default() += 1;
                    client.batch_execute("ROLLBACK").unwrap();
                }
            }
        }
    });
    let untold = texts(&mut admin, UNTOLD);
    assert!(untold.is_empty(), "{untold:#?}");
    // Whatever can still be published is.
    let mut random = Random::new(seed, 1_000);
    let end = Instant::now() + Duration::from_secs(60);
    let busy = "SELECT count(*) FROM slotkeeper.content_status WHERE state IN ('claimed', 'publishing', 'retrying', 'unknown') OR (state = 'scheduled' AND scheduled_at < now())";
    while one::<i64>(&mut admin, busy) > 0 {
        assert!(Instant::now() < end, "contents are stuck");
        run(&mut admin, "SET client_min_messages = error");
        if work(&mut admin, &mut random, true) == 0 {
            thread::sleep(Duration::from_millis(50));
        }
        find_out(&mut admin);
    }
    println!(
        "refused: {:?}; {} calls to the provider, {} sent",
        faults.lock().unwrap(),
        one::<i64>(&mut admin, "SELECT count(*) FROM flight"),
        one::<i64>(&mut admin, "SELECT count(*) FROM flight WHERE sent"),
    );
    let differences = texts(
        &mut admin,
        "SELECT concat_ws(' ', what, id, status, state) FROM differences LIMIT 20",
    );
    assert!(differences.is_empty(), "{differences:#?}");
}
