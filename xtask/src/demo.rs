//! `cargo xtask demo`: three incidents as they happened, and what happens now.
//!
//! Every number printed comes from the database or from the calls' replies; where one is not what slotkeeper
//! promises, the demo says so and ends with an error.

use std::process::ExitCode;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use comfy_table::Table;
use postgres::Client;
use serde_json::Value;

use crate::cluster::{Cluster, Settings, explained};
use crate::host::Host;
use crate::{build, ui};

/// The demo's database, which `cargo xtask psql` opens too.
pub(crate) const DATABASE: &str = "slotkeeper_demo";

const PROFILE: &str = "warung-kopi";
const ZONE: &str = "Asia/Jakarta";
const TIKTOK: [&str; 4] = ["06:00", "12:00", "18:00", "21:00"];
const INSTAGRAM: [&str; 3] = ["02:00", "11:00", "19:00"];
/// The incident: six requests for one profile's TikTok and four for its Instagram, within 300 ms.
const REQUESTS: [&str; 10] = [
    "tiktok",
    "tiktok",
    "instagram",
    "tiktok",
    "instagram",
    "tiktok",
    "tiktok",
    "instagram",
    "tiktok",
    "instagram",
];
const BETWEEN_REQUESTS: Duration = Duration::from_millis(25);
/// Between the application's look and its write: another round trip and some work.
const THINKING: Duration = Duration::from_millis(300);

/// Runs the demo from the build to the last table.
pub(crate) fn run(host: &Host) -> Result<ExitCode> {
    ui::heading(&format!("slotkeeper on PostgreSQL {}", host.pg.major));
    build::build(host)?;
    ui::done("extension built");
    let cluster = ui::step("private PostgreSQL running", || {
        Cluster::open(host, "demo", &Settings::default())
    })?;
    ui::step("CREATE EXTENSION slotkeeper in a new database", || {
        cluster.recreate_database(DATABASE, true)
    })?;

    let mut checks = Checks::default();
    stacking(&cluster, &mut checks)?;
    same_minute(&cluster, &mut checks)?;
    drag_race(&cluster, &mut checks)?;

    ui::heading("to go on by hand");
    println!("\n  {}", host.xtask("psql"));
    println!("  SELECT * FROM slotkeeper.preview_slots('{PROFILE}', 'tiktok');");
    cluster.say_how_to_connect(host, DATABASE);
    println!();
    Ok(checks.close())
}

/// What was promised, and whether it was so.
#[derive(Default)]
struct Checks {
    failed: Vec<String>,
}

impl Checks {
    fn expect(&mut self, holds: bool, what: &str) {
        if holds {
            ui::done(what);
        } else {
            ui::failed(&format!("not so: {what}"));
            self.failed.push(what.to_owned());
        }
    }

    fn close(self) -> ExitCode {
        if self.failed.is_empty() {
            return ExitCode::SUCCESS;
        }
        ui::failed(&format!("{} of the demo's promises did not hold:", self.failed.len()));
        for what in &self.failed {
            println!("    {what}");
        }
        ExitCode::FAILURE
    }
}

/// Ten requests at once: first as the application did it, then with slotkeeper.
fn stacking(cluster: &Cluster, checks: &mut Checks) -> Result<()> {
    ui::heading("1. ten requests within 300 ms, one profile, slots in WIB");
    println!("\nThe application's way: SELECT the first slot that no content has, think, INSERT.\n");
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute(
        "CREATE SCHEMA demo;
         CREATE TABLE demo.slots (platform text, local_time time);
         CREATE TABLE demo.contents (
             id text PRIMARY KEY, platform text NOT NULL, scheduled_at timestamptz NOT NULL,
             stored_at timestamptz NOT NULL DEFAULT clock_timestamp());",
    )?;
    for (platform, times) in [("tiktok", TIKTOK.as_slice()), ("instagram", INSTAGRAM.as_slice())] {
        for time in times {
            client.execute("INSERT INTO demo.slots VALUES ($1, $2::text::time)", &[&platform, time])?;
        }
    }
    ui::step("10 parallel connections, naive", || {
        at_once(cluster, REQUESTS.len(), BETWEEN_REQUESTS, |client, index| {
            let platform = REQUESTS[index];
            let first_free = "
                SELECT at::text
                FROM demo.slots
                CROSS JOIN generate_series(0, 30) AS day
                CROSS JOIN LATERAL (
                    SELECT ((now() AT TIME ZONE $2)::date + day + local_time) AT TIME ZONE $2 AS at) AS slot
                WHERE platform = $1 AND at > now()
                  AND NOT EXISTS (SELECT FROM demo.contents AS c WHERE c.platform = $1 AND c.scheduled_at = slot.at)
                ORDER BY at
                LIMIT 1";
            let row = client.query_one(first_free, &[&platform, &ZONE])?;
            let at: String = row.get(0);
            std::thread::sleep(THINKING);
            client.execute(
                "INSERT INTO demo.contents (id, platform, scheduled_at) VALUES ($1, $2, $3::text::timestamptz)",
                &[&content(index), &platform, &at],
            )?;
            Ok(())
        })
        .map(drop)
    })?;
    let rows = client.query(
        "SELECT platform, id, to_char(scheduled_at AT TIME ZONE $1, 'Dy YYYY-MM-DD HH24:MI'),
                count(*) OVER (PARTITION BY platform, scheduled_at)
         FROM demo.contents ORDER BY platform DESC, scheduled_at, stored_at",
        &[&ZONE],
    )?;
    let mut table = ui::table(&["platform", "content", "slot (WIB)", "in this slot"]);
    let mut stacked = 0;
    for row in &rows {
        let sharing: i64 = row.get(3);
        stacked += u32::from(sharing > 1);
        let mark = if sharing > 1 {
            format!("{sharing}  ✗ stacked")
        } else {
            sharing.to_string()
        };
        table.add_row(vec![text(row, 0), text(row, 1), text(row, 2), mark]);
    }
    show(&table);
    println!("{stacked} of {} contents share a slot with another one.", rows.len());

    println!("\nslotkeeper's way: SELECT slotkeeper.assign_next_available_slot(profile, platform, content).\n");
    for (platform, times) in [("tiktok", TIKTOK.as_slice()), ("instagram", INSTAGRAM.as_slice())] {
        create_queue(&mut client, platform, &serde_json::json!({ "daily": times }))?;
    }
    let replies = ui::step("10 parallel connections, all at the same moment", || {
        at_once(cluster, REQUESTS.len(), Duration::ZERO, |client, index| {
            let started = Instant::now();
            let reply = reply(
                client,
                "SELECT r::text FROM slotkeeper.assign_next_available_slot(
                     p_profile_id => $1::text, p_platform => $2::text, p_content_id => $3::text) AS r",
                &[&PROFILE, &REQUESTS[index], &content(index)],
            )?;
            Ok((index, reply, started.elapsed()))
        })
    })?;
    let mut rows: Vec<_> = replies.iter().collect();
    rows.sort_by_key(|(index, reply, _)| (std::cmp::Reverse(REQUESTS[*index]), string(reply, "scheduled_at")));
    let mut table = ui::table(&["platform", "content", "slot (WIB)", "outcome", "took"]);
    for (index, reply, took) in &rows {
        table.add_row(vec![
            REQUESTS[*index].to_owned(),
            string(reply, "content_id"),
            string(reply, "local_time"),
            string(reply, "outcome"),
            format!("{:.1} ms", took.as_secs_f64() * 1000.0),
        ]);
    }
    show(&table);
    let assigned = replies
        .iter()
        .filter(|(_, reply, _)| reply["outcome"] == "assigned")
        .count();
    checks.expect(
        assigned == REQUESTS.len(),
        &format!("{assigned} of {} calls were assigned a slot", REQUESTS.len()),
    );
    // The ledger, not the replies: what each queue's seats hold now.
    let (mut seats, mut first) = (0, 0);
    for platform in ["tiktok", "instagram"] {
        let wanted = REQUESTS.iter().filter(|name| **name == platform).count();
        let row = client
            .query_one(
                "SELECT count(*) FILTER (WHERE taken = 1 AND cardinality(content_ids) = 1),
                        count(*) FILTER (WHERE taken = 1 AND place <= $3)
                 FROM (SELECT *, row_number() OVER (ORDER BY slot_at) AS place
                       FROM slotkeeper.preview_slots($1::text, $2::text, p_count => 30)) AS slot",
                &[&PROFILE, &platform, &i64::try_from(wanted)?],
            )
            .map_err(explained)?;
        seats += row.get::<_, i64>(0);
        first += row.get::<_, i64>(1);
    }
    checks.expect(
        usize::try_from(seats)? == REQUESTS.len(),
        &format!(
            "preview_slots shows {seats} slots with exactly one content each, for {} contents",
            REQUESTS.len()
        ),
    );
    checks.expect(
        first == seats,
        &format!("{first} of them are the earliest ones of their queue: no hole was left"),
    );
    Ok(())
}

/// Five posts that all want the same minute.
fn same_minute(cluster: &Cluster, checks: &mut Checks) -> Result<()> {
    ui::heading("2. five posts within one minute on one queue");
    let mut client = cluster.connect(DATABASE)?;
    let timetable = serde_json::json!({ "every": "30 minutes", "from": "08:00", "to": "22:00", "days": "daily" });
    create_queue(&mut client, "facebook", &timetable)?;
    println!(
        "\nslotkeeper.schedule_content(profile, 'facebook', post, at), five connections at once; slots every 30 minutes.\n"
    );
    let base = at_half_past_two(&mut client)?;
    let seconds = [0_i32, 5, 15, 30, 45];
    let replies = at_once(cluster, seconds.len(), Duration::ZERO, |client, index| {
        reply(
            client,
            "SELECT (r || jsonb_build_object('wanted', $5::text::timestamptz + make_interval(secs => $4)))::text
             FROM slotkeeper.schedule_content(p_profile_id => $1::text, p_platform => $2::text, p_content_id => $3::text,
                 p_at => $5::text::timestamptz + make_interval(secs => $4)) AS r",
            &[&PROFILE, &"facebook", &format!("post-{}", index + 1), &f64::from(seconds[index]), &base],
        )
    })?;
    let (_, distinct) = show_replies(&mut client, &replies)?;
    checks.expect(
        distinct == replies.len(),
        &format!("{} posts, {distinct} different slots", replies.len()),
    );
    let live = replies
        .iter()
        .filter(|reply| ["scheduled", "moved"].contains(&string(reply, "outcome").as_str()))
        .count();
    checks.expect(
        live == replies.len(),
        &format!("{live} of {} are scheduled; none was ignored", replies.len()),
    );
    let told = replies
        .iter()
        .filter(|reply| reply["outcome"] == "moved")
        .all(|reply| reply["requested_at"].is_string());
    checks.expect(told, "each that was moved says so, with the instant that was asked for");
    Ok(())
}

/// Two posts dragged to one instant at the same time.
fn drag_race(cluster: &Cluster, checks: &mut Checks) -> Result<()> {
    ui::heading("3. two posts dragged to the same instant at the same time");
    let mut client = cluster.connect(DATABASE)?;
    let timetable = serde_json::json!({ "every": "1 hour", "from": "00:00", "to": "23:00", "days": "daily" });
    create_queue(&mut client, "x", &timetable)?;
    for post in ["drag-a", "drag-b"] {
        reply(
            &mut client,
            "SELECT r::text FROM slotkeeper.assign_next_available_slot(
                 p_profile_id => $1::text, p_platform => 'x'::text, p_content_id => $2::text) AS r",
            &[&PROFILE, &post],
        )?;
    }
    println!("\nslotkeeper.reschedule_content(post, at), two connections at once.\n");
    let base = at_half_past_two(&mut client)?;
    let replies = at_once(cluster, 2, Duration::ZERO, |client, index| {
        reply(
            client,
            "SELECT (r || jsonb_build_object('wanted', $2::text::timestamptz))::text
             FROM slotkeeper.reschedule_content(p_content_id => $1::text, p_at => $2::text::timestamptz) AS r",
            &[&["drag-a", "drag-b"][index], &base],
        )
    })?;
    let (kept, distinct) = show_replies(&mut client, &replies)?;
    checks.expect(
        kept == 1,
        &format!("{kept} of the two has the instant that both wanted"),
    );
    checks.expect(distinct == 2, &format!("{distinct} different instants for two posts"));
    let moved: Vec<&Value> = replies.iter().filter(|reply| reply["outcome"] == "moved").collect();
    let told = moved.iter().filter(|reply| reply["requested_at"].is_string()).count();
    checks.expect(
        moved.len() == 1 && told == 1,
        &format!(
            "{} was moved, and {told} of those names the instant it had asked for",
            moved.len()
        ),
    );
    Ok(())
}

/// Replies as a table; how many stand where they were wanted, and how many different instants there are.
fn show_replies(client: &mut Client, replies: &[Value]) -> Result<(usize, usize)> {
    let array = Value::Array(replies.to_vec()).to_string();
    let rows = client.query(
        "SELECT r->>'content_id', to_char((r->>'wanted')::timestamptz AT TIME ZONE $2, 'Dy HH24:MI:SS'),
                to_char((r->>'scheduled_at')::timestamptz AT TIME ZONE $2, 'Dy HH24:MI:SS'), r->>'outcome',
                to_char((r->>'requested_at')::timestamptz AT TIME ZONE $2, 'HH24:MI:SS'), r->>'conflicts_with',
                (r->>'scheduled_at')::timestamptz = (r->>'wanted')::timestamptz,
                (dense_rank() OVER (ORDER BY (r->>'scheduled_at')::timestamptz))::int
         FROM jsonb_array_elements($1::text::jsonb) AS r
         ORDER BY (r->>'scheduled_at')::timestamptz",
        &[&array, &ZONE],
    )?;
    let mut table = ui::table(&[
        "post",
        "wanted (WIB)",
        "scheduled (WIB)",
        "outcome",
        "requested_at",
        "conflicts_with",
    ]);
    let (mut kept, mut distinct) = (0, 0);
    for row in &rows {
        kept += usize::from(row.get::<_, Option<bool>>(6) == Some(true));
        distinct = usize::try_from(row.get::<_, i32>(7))?;
        table.add_row((0..6).map(|column| text(row, column)).collect::<Vec<_>>());
    }
    show(&table);
    Ok((kept, distinct))
}

fn create_queue(client: &mut Client, platform: &str, timetable: &Value) -> Result<()> {
    let created = reply(
        client,
        "SELECT slotkeeper.create_queue($1::text, $2::text, $3::text, $4::text::jsonb)::text",
        &[&PROFILE, &platform, &ZONE, &timetable.to_string()],
    )?;
    ui::done(&format!(
        "queue ({PROFILE}, {platform}) {}: {timetable}",
        string(&created, "outcome")
    ));
    Ok(())
}

/// 14:30 in the queue's zone, far enough ahead to be free whenever the demo runs.
fn at_half_past_two(client: &mut Client) -> Result<String> {
    let query = "SELECT (((now() AT TIME ZONE $1)::date + 2 + time '14:30') AT TIME ZONE $1)::text";
    Ok(client.query_one(query, &[&ZONE])?.get(0))
}

/// Does something on as many connections, released together (or each a little after the one before).
fn at_once<T: Send>(
    cluster: &Cluster,
    count: usize,
    apart: Duration,
    work: impl Fn(&mut Client, usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(cluster.connect(DATABASE)?);
    }
    let start = Barrier::new(count);
    std::thread::scope(|scope| {
        let (start, work) = (&start, &work);
        let handles: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(index, mut client)| {
                scope.spawn(move || {
                    start.wait();
                    std::thread::sleep(apart.saturating_mul(u32::try_from(index)?));
                    work(&mut client, index)
                })
            })
            .collect();
        handles
            .into_iter()
            .map(|handle| {
                handle
                    .join()
                    .map_err(|_| anyhow!("a connection's thread has panicked"))?
            })
            .collect()
    })
}

/// Calls one of slotkeeper's functions and reads its JSON reply.
fn reply(client: &mut Client, query: &str, arguments: &[&(dyn postgres::types::ToSql + Sync)]) -> Result<Value> {
    let row = client.query_one(query, arguments).map_err(explained).with_context(|| {
        let call = query
            .split("slotkeeper.")
            .nth(1)
            .and_then(|rest| rest.split('(').next())
            .unwrap_or(query);
        format!("slotkeeper.{call} failed")
    })?;
    serde_json::from_str(row.get(0)).context("the reply is not JSON")
}

fn content(index: usize) -> String {
    format!("content-{:02}", index + 1)
}

fn string(reply: &Value, key: &str) -> String {
    reply[key].as_str().unwrap_or_default().to_owned()
}

fn text(row: &postgres::Row, column: usize) -> String {
    row.get::<_, Option<String>>(column).unwrap_or_default()
}

fn show(table: &Table) {
    println!("{table}");
}
