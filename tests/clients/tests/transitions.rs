//! Slots around every change of every zone's clocks from 2000 to 2037, compared with what SQL alone says.
//!
//! The other side is worked out by the server with AT TIME ZONE on both sides of each transition, set by set: a wall
//! time is its first instant that shows it; one that no instant shows shifts by the gap; a day that no clock shows has
//! no slot. Zones whose clocks agree all the time are tested at every transition once, and each at a few.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Instant;

use postgres::Client;
use serde_json::{Map, Value, json};
use slotkeeper_client_tests::random::{Random, seed};
use slotkeeper_client_tests::{Database, at_once, call, one, run, sqlstate, told};

const WORKERS: usize = 2;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Minutes at which clocks change, and their neighbours.
const TRICKY: [i64; 22] = [
    0, 1, 29, 30, 59, 60, 61, 89, 90, 91, 119, 120, 121, 149, 150, 179, 180, 181, 210, 1_380, 1_410, 1_439,
];

const TABLES: &str = "
CREATE TABLE change (zone text, at timestamptz, before interval, after interval);
CREATE TABLE zone (zone text PRIMARY KEY, same_as text NOT NULL);
CREATE TABLE transition (zone text, at timestamptz, before timestamp, after timestamp);
CREATE TABLE rule (zone text, kind text, isodow int, minute int);
CREATE TABLE spot (zone text, same_as text, kind text, at timestamptz, lo timestamptz, hi timestamptz);
CREATE FUNCTION ahead(zone text, at timestamptz) RETURNS interval LANGUAGE sql IMMUTABLE
    RETURN timezone(zone, at) - timezone('UTC', at);";

/// Steps in which the clock has changed.
const CHANGES: &str = "
INSERT INTO change
SELECT z, t, ahead(z, t), ahead(z, t + $2::text::interval)
FROM unnest($1::text[]) AS z,
     generate_series('1999-12-25 00:00Z'::timestamptz, '2037-12-31 00:00Z', $2::text::interval) AS t
WHERE timezone(z, t + $2::text::interval) - timezone(z, t) <> $2::text::interval";

/// The minute in which the clock changed, with what it would have shown and what it showed.
const TRANSITIONS: &str = "
INSERT INTO transition
SELECT c.zone, t, timezone(c.zone, t - interval '1 minute') + interval '1 minute', timezone(c.zone, t)
FROM change AS c,
     generate_series(c.at + interval '1 hour', c.at + $2::text::interval, interval '1 hour') AS h,
     generate_series(h - interval '59 minutes', h, interval '1 minute') AS t
WHERE c.zone = ANY ($1)
  AND timezone(c.zone, h) - timezone(c.zone, h - interval '1 hour') <> interval '1 hour'
  AND timezone(c.zone, t) - timezone(c.zone, t - interval '1 minute') <> interval '1 minute'";

/// What differs: 'missing' slots that SQL expects and the extension does not give, and 'extra' ones.
const COMPARE: &str = "
WITH spots AS MATERIALIZED (
    SELECT s.*, timezone(s.zone, s.lo) AS local_lo, timezone(s.zone, s.hi) AS local_hi,
           ARRAY(SELECT o FROM (
               SELECT ahead(s.zone, s.lo - interval '3 days') AS o
               UNION SELECT ahead(s.zone, t.at) FROM transition AS t
                     WHERE t.zone = s.same_as AND t.at BETWEEN s.lo - interval '3 days' AND s.hi + interval '3 days') AS o) AS offsets,
           ARRAY(SELECT t FROM transition AS t
                 WHERE t.zone = s.same_as AND t.at BETWEEN s.lo - interval '3 days' AND s.hi + interval '3 days' AND t.after > t.before) AS gaps
    FROM spot AS s WHERE s.zone = ANY ($1)
), wall AS (
    SELECT s.zone, s.kind, s.at, s.lo, s.hi, s.offsets, s.gaps, d + r.minute * interval '1 minute' AS wall
    FROM spots AS s,
         generate_series(date_trunc('day', s.local_lo - interval '25 hours'), s.local_hi + interval '25 hours', interval '1 day') AS d,
         rule AS r
    WHERE r.zone = s.zone AND r.kind = s.kind AND r.isodow = extract(isodow FROM d)
      AND NOT EXISTS (SELECT FROM unnest(s.gaps) AS g WHERE g.before <= d AND d + interval '1 day' <= g.after)
), expected AS (
    SELECT DISTINCT zone, kind, at, slot
    FROM wall, LATERAL (
        SELECT coalesce(
            (SELECT min(timezone('UTC', wall) - o) FROM unnest(offsets) AS o WHERE timezone(zone, timezone('UTC', wall) - o) = wall),
            (SELECT g.at + (wall - g.before) FROM unnest(gaps) AS g WHERE g.before <= wall AND wall < g.after)) AS slot
    ) AS s
    WHERE slot IS NULL OR (slot >= lo AND slot < hi)
), actual AS (
    SELECT s.zone, s.kind, s.at, p.slot_at AS slot
    FROM spots AS s, LATERAL slotkeeper.preview_slots(s.zone, s.kind, s.lo, 120) AS p
    WHERE p.slot_at < s.hi
), difference AS (
    (SELECT 'missing' AS what, * FROM (TABLE expected EXCEPT ALL TABLE actual) AS m)
    UNION ALL
    (SELECT 'extra, or twice', * FROM (TABLE actual EXCEPT ALL TABLE expected) AS e)
)
SELECT (SELECT count(*) FROM expected), (SELECT count(*) FROM spots), (SELECT count(*) FROM difference),
       (SELECT string_agg(format('%s: %s at %s (%s), around the transition at %s', what, kind, slot AT TIME ZONE 'UTC', zone, at AT TIME ZONE 'UTC'), E'\\n')
        FROM (SELECT * FROM difference ORDER BY zone, kind, at, slot LIMIT 12) AS d)";

fn clock(minute: i64) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// A timetable and its rules, as (day of the week from 1, minute).
fn timetable(kind: &str, random: &mut Random) -> (Value, Vec<(i32, i32)>) {
    let mut days: Map<String, Value> = Map::new();
    let mut rules = Vec::new();
    if kind == "dense" {
        let minutes = (0..96).map(|quarter| quarter * 15);
        rules.extend(minutes.flat_map(|minute| (1..=7).map(move |day| (day, minute))));
        return (json!({"every": "15 minutes", "from": "00:00", "to": "23:45"}), rules);
    }
    // At least one rule, on whatever day.
    let sure = random.below(7);
    for (i, day) in DAYS.iter().enumerate() {
        let count = random.below(9).max(usize::from(i == sure));
        let minutes: BTreeSet<i64> = (0..count)
            .map(|_| {
                if random.percent(60) {
                    *random.pick(&TRICKY)
                } else {
                    random.between(0, 1_439)
                }
            })
            .collect();
        rules.extend(minutes.iter().map(|&minute| (i as i32 + 1, minute as i32)));
        days.insert(
            (*day).to_owned(),
            minutes.into_iter().map(|minute| Value::from(clock(minute))).collect(),
        );
    }
    (Value::Object(days), rules)
}

/// Runs a statement for all zones, shared among the workers.
fn for_all<T: Send>(database: &Database, zones: &[String], act: impl Fn(&mut Client, &[String]) -> T + Sync) -> Vec<T> {
    // Neighbours in the alphabet are alike in their number of transitions.
    let shares: Vec<Vec<String>> = (0..WORKERS)
        .map(|worker| zones.iter().skip(worker).step_by(WORKERS).cloned().collect())
        .collect();
    at_once(shares, |_, share| {
        let mut client = database.connect();
        run(
            &mut client,
            "SET synchronous_commit = off; SET jit = off; SET max_parallel_workers_per_gather = 0",
        );
        act(&mut client, &share)
    })
}

fn put(client: &mut Client, table: &str, rows: &str) {
    if !rows.is_empty() {
        run(
            client,
            &format!("INSERT INTO {table} VALUES {}", rows.trim_end_matches(',')),
        );
    }
}

/// The zones that a queue may have, each with queues of all kinds of timetables.
fn create_queues(database: &Database, names: &[String], kinds: &[&str], seed: u64) -> BTreeSet<String> {
    let accepted = for_all(database, names, |client, share| {
        let mut accepted = Vec::new();
        run(client, "BEGIN");
        for zone in share {
            let mut random = Random::new(
                seed,
                zone.bytes().fold(7, |hash, b| hash * 31 % 1_000_003 + u64::from(b)),
            );
            let mut rows = String::new();
            run(client, "SAVEPOINT s");
            for kind in kinds {
                let (timetable, rules) = timetable(kind, &mut random);
                let created = call(
                    client,
                    "SELECT slotkeeper.create_queue($1, $2, $1, $3)",
                    &[zone, kind, &timetable],
                );
                match created {
                    Ok(reply) => assert_eq!(reply["time_zone"], zone.as_str(), "{reply}"),
                    Err(error) => {
                        assert_eq!(sqlstate(&error), "22023", "{zone} {timetable}: {}", told(&error));
                        rows.clear();
                        run(client, "ROLLBACK TO s");
                        break;
                    }
                }
                for (day, minute) in rules {
                    let _ = write!(rows, "('{zone}','{kind}',{day},{minute}),");
                }
            }
            if !rows.is_empty() {
                put(client, "rule", &rows);
                accepted.push(zone.clone());
            }
        }
        run(client, "COMMIT");
        accepted
    });
    accepted.into_iter().flatten().collect()
}

fn query(client: &mut Client, sql: &str, values: &[&(dyn postgres::types::ToSql + Sync)]) {
    client
        .execute(sql, values)
        .unwrap_or_else(|error| panic!("{sql}: {}", told(&error)));
}

/// Protection: the arithmetic of wall times, and that it asks the server's own time-zone data.
#[test]
fn slots_around_every_transition_of_every_zone_are_what_sql_says() {
    let seed = seed();
    let started = Instant::now();
    let database = Database::new("transitions");
    let mut admin = database.connect();
    run(&mut admin, TABLES);
    // AT TIME ZONE takes a few names for abbreviations, which know no summer; under posix/ it takes them for zones.
    let names: Vec<String> = one(
        &mut admin,
        "SELECT array_agg(name ORDER BY name) FROM pg_timezone_names AS z
         WHERE NOT EXISTS (SELECT FROM pg_timezone_abbrevs AS a WHERE a.abbrev = upper(z.name))",
    );
    let accepted = create_queues(&database, &names, &["random", "other"], seed);
    let refused: Vec<&String> = names.iter().filter(|name| !accepted.contains(*name)).collect();
    println!(
        "{} zones; refused: {refused:?} ({:?})",
        accepted.len(),
        started.elapsed()
    );
    assert!(
        accepted.len() * 10 > names.len() * 9,
        "only {} of {} zones are accepted",
        accepted.len(),
        names.len()
    );
    for name in &refused {
        let posix = name.starts_with("posix/") && name.contains(|c: char| c.is_ascii_digit());
        assert!(posix || name.starts_with("Etc/GMT"), "{name} is refused");
    }

    // Which zones agree all the time.
    let zones: Vec<String> = accepted.into_iter().collect();
    let find = |zones: &[String], step: &str| {
        for_all(&database, zones, |client, share| {
            query(client, CHANGES, &[&share, &step]);
            query(client, TRANSITIONS, &[&share, &step]);
        })
    };
    find(&zones, "1 day");
    run(
        &mut admin,
        "INSERT INTO zone SELECT z.zone, min(z.zone) OVER (PARTITION BY ahead(z.zone, '2000-01-01Z'), c.list)
         FROM (SELECT DISTINCT zone FROM rule) AS z
         LEFT JOIN (SELECT zone, string_agg(concat_ws(' ', at, before, after), ',' ORDER BY at) AS list FROM transition GROUP BY 1) AS c USING (zone)",
    );
    let different: Vec<String> = one(
        &mut admin,
        "SELECT array_agg(zone ORDER BY zone) FROM zone WHERE zone = same_as",
    );
    println!("{} differ from each other ({:?})", different.len(), started.elapsed());
    // A day may have two changes: look closer.
    run(&mut admin, "TRUNCATE change, transition");
    find(&different, "6 hours");
    run(&mut admin, "CREATE INDEX ON transition (zone, at); ANALYZE transition");
    let odd = "SELECT array_agg(zone || ' ' || at) FROM transition WHERE after - before <> timezone(zone, at) - timezone(zone, at - interval '1 second') - interval '1 second'";
    assert_eq!(
        one::<Option<Vec<String>>>(&mut admin, odd),
        None,
        "transitions within a minute"
    );
    let transitions: i64 = one(&mut admin, "SELECT count(*) FROM transition");
    println!("{transitions} transitions ({:?})", started.elapsed());
    assert!(transitions > 5_000, "only {transitions} transitions were found");

    create_dense(&database, &different, seed);
    run(
        &mut admin,
        "INSERT INTO spot
         SELECT zone, zone, k.kind, at, at - k.reach, at + k.reach
         FROM transition, (VALUES ('dense', interval '6 hours'), ('random', interval '70 hours'), ('other', interval '50 hours')) AS k (kind, reach);
         INSERT INTO spot
         SELECT z.zone, z.same_as, 'random', t.at, t.at - interval '50 hours', t.at + interval '50 hours'
         FROM zone AS z, LATERAL (
             SELECT at FROM transition AS t WHERE t.zone = z.same_as ORDER BY md5(z.zone || t.at) LIMIT 4) AS t
         WHERE z.zone <> z.same_as;
         INSERT INTO spot
         SELECT z.zone, z.same_as, k, t, t - interval '50 hours', t + interval '50 hours'
         FROM zone AS z, unnest(ARRAY['random', 'other']) AS k, unnest(ARRAY['2010-06-01Z', '2036-11-01Z']::timestamptz[]) AS t
         WHERE NOT EXISTS (SELECT FROM transition AS t WHERE t.zone = z.same_as);
         CREATE INDEX ON spot (zone); CREATE INDEX ON rule (zone, kind, isodow); ANALYZE",
    );
    let results = for_all(&database, &zones, |client, share| {
        let (mut slots, mut spots, mut wrong, mut shown) = (0, 0, 0, Vec::new());
        for some in share.chunks(8) {
            let row = client
                .query_one(COMPARE, &[&some])
                .unwrap_or_else(|error| panic!("{some:?}: {}", told(&error)));
            slots += row.get::<_, i64>(0);
            spots += row.get::<_, i64>(1);
            wrong += row.get::<_, i64>(2);
            shown.extend(row.get::<_, Option<String>>(3));
        }
        (slots, spots, wrong, shown)
    });
    let mut total = BTreeMap::new();
    for (slots, spots, ..) in &results {
        *total.entry("slots").or_insert(0) += slots;
        *total.entry("places").or_insert(0) += spots;
    }
    println!("compared {total:?} ({:?})", started.elapsed());
    let wrong: i64 = results.iter().map(|(_, _, wrong, _)| wrong).sum();
    let shown: Vec<String> = results.into_iter().flat_map(|(_, _, _, shown)| shown).take(4).collect();
    assert_eq!(wrong, 0, "SLOTKEEPER_SEED={seed}\n{}", shown.join("\n"));
}

fn create_dense(database: &Database, zones: &[String], seed: u64) {
    let created = create_queues(database, zones, &["dense"], seed);
    assert_eq!(created.len(), zones.len());
}

/// The names that SQL takes for abbreviations have the slots of the same zones under `posix/`.
#[test]
fn zones_with_an_abbreviations_name_are_zones() {
    let database = Database::new("transitions_names");
    let mut client = database.connect();
    let names: Vec<String> = one(
        &mut client,
        "SELECT coalesce(array_agg(name ORDER BY name), '{}') FROM pg_timezone_names AS z
         WHERE EXISTS (SELECT FROM pg_timezone_abbrevs AS a WHERE a.abbrev = upper(z.name))
           AND EXISTS (SELECT FROM pg_timezone_names AS p WHERE p.name = 'posix/' || z.name)",
    );
    let timetable = json!({"daily": ["00:00", "01:30", "02:30", "03:00", "12:00"]});
    for name in &names {
        let slots = [name.clone(), format!("posix/{name}")].map(|zone| {
            let create = "SELECT slotkeeper.create_queue($1, 'x', $1, $2)";
            call(&mut client, create, &[&zone, &timetable]).unwrap_or_else(|error| panic!("{zone}: {}", told(&error)));
            let slots = format!(
                "SELECT array_agg(slot_at::text) FROM slotkeeper.preview_slots('{zone}', 'x', '2026-01-01Z', 2000)"
            );
            one::<Vec<String>>(&mut client, &slots)
        });
        assert_eq!(slots[0], slots[1], "{name} and posix/{name}");
    }
    println!("{names:?}");
}
