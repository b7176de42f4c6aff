//! `create_queue`, `alter_queue`, `set_queue_status`, `drop_queue`.

use crate::arguments::{flag, identifier, json, queue_name};
use crate::binding::dropped::{self, Left};
use crate::clock::now;
use crate::fault::Fault;
use crate::pg::json::{JsonArg, JsonReply};
use crate::pg::lock::{Brief, Key, take_queue};
use crate::pg::patience::{Patience, Sought};
use crate::pg::refuse_read_only;
use crate::pg::scan::{IndexScan, Key as ScanKey, Order, See, delete_unless_busy};
use crate::pg::statement::{Statement, Value as Arg};
use crate::pg::time::ServerZone;
use crate::publish;
use crate::queue::{self, Queue};
use crate::reply::Reply;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Value, json};
use slotkeeper_core::Instant;
use slotkeeper_core::binding::{ACTIVE, QueueDefaults};
use slotkeeper_core::options::QueueOptions;
use slotkeeper_core::timetable::Timetable;
use slotkeeper_core::zone::{USE_A_REGION, ZoneName, format_utc, suggest, zone_name};
use std::thread::LocalKey;

/// `alter_queue` names so many bookings that are off the timetable now; it counts all of them.
const LISTED_OFF_TIMETABLE: usize = 100;

thread_local! {
    static ZONE_NAMES: Statement = const { Statement::new(c"
SELECT z.name FROM pg_catalog.pg_timezone_names AS z ORDER BY z.name") };

    // A queue is its name: what is known of its contents goes by its id, which is kept when it is dropped.
    static CREATE: Statement = const { Statement::by_index(c"
WITH again AS (
    DELETE FROM slotkeeper.dropped_queue
    WHERE profile_id OPERATOR(pg_catalog.=) $1 AND platform OPERATOR(pg_catalog.=) $2
    RETURNING queue_id, granule
)
INSERT INTO slotkeeper.queue (queue_id, profile_id, platform, time_zone, timetable, options)
SELECT coalesce((SELECT again.queue_id FROM again), pg_catalog.nextval('slotkeeper.queue_id_seq')), $1, $2, $3, $4, $5
ON CONFLICT (profile_id, platform) DO NOTHING
RETURNING queue_id,
          EXISTS (SELECT FROM again WHERE (again.granule OPERATOR(pg_catalog.=) ($5 OPERATOR(pg_catalog.->>) 'granule')) IS NOT TRUE)") };

    static LOCK: Statement = const { Statement::by_index(c"
SELECT q.queue_id, q.time_zone, q.timetable, q.options, q.status, q.status_reason
FROM slotkeeper.queue AS q
WHERE q.profile_id OPERATOR(pg_catalog.=) $1 AND q.platform OPERATOR(pg_catalog.=) $2
FOR UPDATE") };

    static ALTER: Statement = const { Statement::by_index(c"
UPDATE slotkeeper.queue
SET time_zone = $2, timetable = $3, options = $4, updated_at = pg_catalog.clock_timestamp(),
    version = pg_catalog.nextval('slotkeeper.queue_version_seq')
WHERE queue_id OPERATOR(pg_catalog.=) $1") };

    static SET_STATUS: Statement = const { Statement::by_index(c"
UPDATE slotkeeper.queue
SET status = $2, status_reason = $3, updated_at = pg_catalog.clock_timestamp()
WHERE queue_id OPERATOR(pg_catalog.=) $1") };

    // What was published keeps its booking, and nothing is lost with it.
    static COUNT_OPEN: Statement = const { Statement::new(c"
SELECT pg_catalog.count(*) FROM slotkeeper.booking AS b
WHERE b.queue_id OPERATOR(pg_catalog.=) $1 AND b.released_at IS NULL
  AND (b.claimed_at IS NULL OR EXISTS (
      SELECT FROM slotkeeper.publication AS p WHERE p.booking_id OPERATOR(pg_catalog.=) b.booking_id))") };

    static DROP_WAITING: Statement = const { Statement::by_index(c"
DELETE FROM slotkeeper.booking
WHERE queue_id OPERATOR(pg_catalog.=) $1 AND released_at IS NULL AND claimed_at IS NULL") };

    static DROP: Statement = const { Statement::by_index(c"
WITH gone AS (
    DELETE FROM slotkeeper.queue WHERE queue_id OPERATOR(pg_catalog.=) $1
    RETURNING queue_id, profile_id, platform, options OPERATOR(pg_catalog.->>) 'granule' AS granule
)
INSERT INTO slotkeeper.dropped_queue (queue_id, dropped_at, profile_id, platform, granule)
SELECT gone.queue_id, $2, gone.profile_id, gone.platform, gone.granule FROM gone
ON CONFLICT DO NOTHING") };

    static BOOKINGS_IN: Statement = const { Statement::by_index(c"
SELECT b.booking_id, b.content_id, b.source, b.scheduled_at
FROM slotkeeper.booking AS b
WHERE b.queue_id OPERATOR(pg_catalog.=) $1 AND b.granule OPERATOR(pg_catalog.=) ANY ($2) AND b.released_at IS NULL
ORDER BY b.granule, b.seat") };
}

#[pg_extern(schema = "slotkeeper")]
fn create_queue(
    p_profile_id: Option<&str>,
    p_platform: Option<&str>,
    p_time_zone: Option<&str>,
    p_timetable: Option<JsonArg>,
    p_options: default!(Option<JsonArg>, "'{}'"),
) -> Result<JsonReply, ErrorReport> {
    let (profile_id, platform) = queue_name(p_profile_id, p_platform)?;
    let zone = zone(p_time_zone.ok_or(Fault::Null {
        argument: "p_time_zone",
    })?)?;
    let timetable = json("p_timetable", p_timetable)?.ok_or(Fault::Null {
        argument: "p_timetable",
    })?;
    let options = match json("p_options", p_options)? {
        Some(options) => QueueOptions::parse(&options).map_err(Fault::from)?,
        None => QueueOptions::default(),
    };
    Timetable::parse(&timetable, options.granule_secs).map_err(Fault::from)?;
    refuse_read_only(c"create_queue()");

    let name = zone.name();
    let granule_secs = options.granule_secs;
    let options = options.to_json();
    let values = [
        Arg::Text(&profile_id),
        Arg::Text(&platform),
        Arg::Text(&name),
        Arg::Json(&timetable),
        Arg::Json(&options),
    ];
    let turn = queue::turn_on(&profile_id, &platform)?;
    let created = insert(&values, granule_secs)?;
    drop(turn);
    if created.is_none() {
        Err(Fault::QueueExists {
            profile_id: profile_id.clone(),
            platform: platform.clone(),
        })?;
    }
    Ok(Reply::new("created")
        .with("profile_id", profile_id)
        .with("platform", platform)
        .with("time_zone", name)
        .with("status", "active")
        .with("options", options)
        .into())
}

/// Inserts the row of a queue (name, zone, timetable, options), if there is none of its name; returns its id.
fn insert(values: &[Arg<'_>; 5], granule_secs: i64) -> Result<Option<i64>, Fault> {
    let created: Vec<(i64, bool)> =
        CREATE.with(|create| create.write(values, |row| Ok((row.must(1)?, row.must(2)?))))?;
    let Some((queue_id, seats_differ)) = created.into_iter().next() else {
        return Ok(None);
    };
    if seats_differ {
        publish::seat_anew(queue_id, granule_secs)?;
    }
    Ok(Some(queue_id))
}

/// Creates a queue as a binding says, unless somebody else has done so meanwhile.
pub(crate) fn create_if_missing(profile_id: &str, platform: &str, defaults: &QueueDefaults) -> Result<(), Fault> {
    identifier("profile_id", Some(profile_id))?;
    let name = zone(&defaults.time_zone)?.name();
    let options = QueueOptions::parse(&defaults.options)?;
    let granule_secs = options.granule_secs;
    let options = options.to_json();
    let values = [
        Arg::Text(profile_id),
        Arg::Text(platform),
        Arg::Text(&name),
        Arg::Json(&defaults.timetable),
        Arg::Json(&options),
    ];
    let _turn = queue::turn_on(profile_id, platform)?;
    insert(&values, granule_secs)?;
    Ok(())
}

/// The row of a queue, locked until the transaction ends.
struct Locked {
    queue_id: i64,
    time_zone: String,
    timetable: Value,
    options: Value,
    status: String,
    reason: Option<String>,
}

fn lock_row(profile_id: &str, platform: &str) -> Result<Locked, Fault> {
    lock_row_if_any(profile_id, platform)?.ok_or_else(|| Fault::NoQueue {
        profile_id: profile_id.to_owned(),
        platform: platform.to_owned(),
        item: None,
    })
}

fn lock_row_if_any(profile_id: &str, platform: &str) -> Result<Option<Locked>, Fault> {
    let rows = LOCK.with(|lock| {
        lock.write(&[Arg::Text(profile_id), Arg::Text(platform)], |row| {
            Ok(Locked {
                queue_id: row.must(1)?,
                time_zone: row.must(2)?,
                timetable: row.json(3)?,
                options: row.json(4)?,
                status: row.must(5)?,
                reason: row.get(6)?,
            })
        })
    })?;
    Ok(rows.into_iter().next())
}

#[pg_extern(schema = "slotkeeper")]
fn alter_queue(
    p_profile_id: Option<&str>,
    p_platform: Option<&str>,
    p_time_zone: default!(Option<&str>, "NULL"),
    p_timetable: default!(Option<JsonArg>, "NULL"),
    p_options: default!(Option<JsonArg>, "NULL"),
) -> Result<JsonReply, ErrorReport> {
    let (profile_id, platform) = queue_name(p_profile_id, p_platform)?;
    let zone = p_time_zone.map(zone).transpose()?;
    let timetable = json("p_timetable", p_timetable)?;
    let changes = json("p_options", p_options)?;
    refuse_read_only(c"alter_queue()");
    Ok(alter(&profile_id, &platform, zone, timetable, changes)?.into())
}

fn alter(
    profile_id: &str,
    platform: &str,
    zone: Option<ServerZone>,
    timetable: Option<Value>,
    changes: Option<Value>,
) -> Result<Reply, Fault> {
    let _turn = queue::turn_on(profile_id, platform)?;
    let row = lock_row(profile_id, platform)?;
    // Options of a later version, say, don't keep anybody from giving new ones.
    let old_options = QueueOptions::parse(&row.options).ok();
    let options = match (old_options, &changes) {
        (Some(old), Some(changes)) => old.merge(changes)?,
        (Some(old), None) => old,
        (None, Some(changes)) => QueueOptions::parse(changes)?,
        (None, None) => QueueOptions::parse(&row.options)?,
    };
    let timetable = timetable.unwrap_or(row.timetable);
    Timetable::parse(&timetable, options.granule_secs)?;
    // A queue that can no longer be loaded (its zone has left the server's data, say) had nothing on its timetable.
    let before = queue::find(profile_id, platform).ok().flatten();
    if old_options.is_none_or(|old| old.granule_secs != options.granule_secs) {
        let key = Key::Queue { profile_id, platform };
        if !take_queue(&key, false) {
            return Err(Fault::QueueBusy {
                profile_id: profile_id.to_owned(),
                platform: platform.to_owned(),
            });
        }
        let live = count(&COUNT_OPEN, row.queue_id)?;
        if live > 0 {
            let (profile_id, platform) = (profile_id.to_owned(), platform.to_owned());
            return Err(Fault::GranuleInUse {
                profile_id,
                platform,
                live,
            });
        }
        // What was published keeps its booking, for ever.
        publish::seat_anew(row.queue_id, options.granule_secs)?;
    }
    let name = zone.map_or(row.time_zone, |zone| zone.name());
    let options = options.to_json();
    write_rules(row.queue_id, &name, &timetable, &options)?;

    let after = queue::require(profile_id, platform, None)?;
    let (count, listed) = match &before {
        Some(before) => off_timetable(before, &after, now()?)?,
        None => (0, Value::Array(Vec::new())),
    };
    Ok(Reply::new("updated")
        .with_queue(&after)
        .with("time_zone", name)
        .with("status", row.status)
        .with("options", options)
        .with("off_timetable", listed)
        .with("off_timetable_count", count as i64))
}

/// The queue has other rules from here on, and a new version.
fn write_rules(queue_id: i64, time_zone: &str, timetable: &Value, options: &Value) -> Result<(), Fault> {
    let values = [
        Arg::Int8(queue_id),
        Arg::Text(time_zone),
        Arg::Json(timetable),
        Arg::Json(options),
    ];
    ALTER.with(|alter| alter.write(&values, |_| Ok(())))?;
    forget_hints(queue_id)
}

/// What a queue is to be, as a table of the application says; `None`: it stays as it is.
pub(crate) struct Wanted<'a> {
    pub(crate) time_zone: Option<&'a str>,
    pub(crate) timetable: Option<&'a Value>,
    pub(crate) status: &'a str,
    pub(crate) reason: Option<&'a str>,
    /// A queue that is there already keeps the status that it has.
    pub(crate) keep_status: bool,
}

/// What making it so has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Created,
    Updated,
    Nothing,
}

/// Makes a queue what is wanted. Whoever calls has the turn to; only what differs is written.
pub(crate) fn make(_turn: &Brief, profile_id: &str, platform: &str, wanted: &Wanted<'_>) -> Result<Change, Fault> {
    let name = wanted
        .time_zone
        .map(|name| zone(name).map(|zone| zone.name()))
        .transpose()?;
    let Some(row) = lock_row_if_any(profile_id, platform)? else {
        let (Some(name), Some(timetable)) = (&name, wanted.timetable) else {
            return Ok(Change::Nothing);
        };
        let options = QueueOptions::default();
        let granule_secs = options.granule_secs;
        Timetable::parse(timetable, granule_secs)?;
        let options = options.to_json();
        let values = [
            Arg::Text(profile_id),
            Arg::Text(platform),
            Arg::Text(name),
            Arg::Json(timetable),
            Arg::Json(&options),
        ];
        if let (Some(queue_id), true) = (insert(&values, granule_secs)?, wanted.status != ACTIVE) {
            write_status(queue_id, wanted.status, wanted.reason)?;
        }
        return Ok(Change::Created);
    };
    let mut change = Change::Nothing;
    let name = name.filter(|name| *name != row.time_zone);
    let timetable = wanted.timetable.filter(|&timetable| *timetable != row.timetable);
    if name.is_some() || timetable.is_some() {
        let timetable = timetable.unwrap_or(&row.timetable);
        Timetable::parse(timetable, QueueOptions::parse(&row.options)?.granule_secs)?;
        write_rules(
            row.queue_id,
            name.as_ref().unwrap_or(&row.time_zone),
            timetable,
            &row.options,
        )?;
        change = Change::Updated;
    }
    let has_status = wanted.status == row.status && wanted.reason == row.reason.as_deref();
    if !wanted.keep_status && !has_status {
        write_status(row.queue_id, wanted.status, wanted.reason)?;
        change = Change::Updated;
    }
    Ok(change)
}

fn write_status(queue_id: i64, status: &str, reason: Option<&str>) -> Result<(), Fault> {
    let values = [Arg::Int8(queue_id), Arg::Text(status), Arg::OptionalText(reason)];
    SET_STATUS.with(|set| set.write(&values, |_| Ok(())))?;
    Ok(())
}

/// Whether a zone of this name can be used, or why not.
pub(crate) fn check_zone(name: &str) -> Result<(), Fault> {
    zone(name).map(|_| ())
}

/// Live bookings from now on that were on the timetable before and are not any more: how many, and the first of them.
fn off_timetable(before: &Queue, after: &Queue, now: Instant) -> Result<(usize, Value), Fault> {
    let mut off: Vec<i64> = Vec::new();
    let mut count = 0;
    if before.options.granule_secs == after.options.granule_secs {
        let (mut old, mut new) = (before.slots(), after.slots());
        let mut scan = IndexScan::open(c"booking", c"booking_seat", 2, See::Committed)?;
        scan.search(
            &[
                (1, ScanKey::Is(after.queue_id)),
                (2, ScanKey::AtLeast(after.granule_of(now))),
            ],
            Order::Ascending,
        );
        while let Some(row) = scan.next() {
            let granule: i64 = row.get(2)?;
            let at = old.slot_in_granule(granule).map(|slot| slot.at);
            if at.is_some() && at != new.slot_in_granule(granule).map(|slot| slot.at) {
                count += 1;
                if off.len() < LISTED_OFF_TIMETABLE {
                    off.push(granule);
                }
            }
        }
    }
    let mut listed = BOOKINGS_IN.with(|bookings| {
        bookings.read(&[Arg::Int8(after.queue_id), Arg::Int8s(&off)], |row| {
            let source: String = row.must(3)?;
            Ok(json!({
                "booking_id": row.must::<i64>(1)?,
                "content_id": row.must::<String>(2)?,
                "source": (!source.is_empty()).then_some(source),
                "scheduled_at": format_utc(row.instant(4)?),
            }))
        })
    })?;
    listed.truncate(LISTED_OFF_TIMETABLE);
    Ok((count, Value::Array(listed)))
}

#[pg_extern(schema = "slotkeeper")]
fn set_queue_status(
    p_profile_id: Option<&str>,
    p_platform: Option<&str>,
    p_status: Option<&str>,
    p_reason: default!(Option<&str>, "NULL"),
) -> Result<JsonReply, ErrorReport> {
    const STATUSES: [&str; 4] = ["active", "paused", "disabled", "needs_refresh"];
    let (profile_id, platform) = queue_name(p_profile_id, p_platform)?;
    let status = p_status.ok_or(Fault::Null { argument: "p_status" })?;
    if !STATUSES.contains(&status) {
        Err(Fault::NotAllowed {
            argument: "p_status",
            value: format!("{status:?}"),
            allowed: STATUSES.join(", "),
        })?;
    }
    refuse_read_only(c"set_queue_status()");
    let _turn = queue::turn_on(&profile_id, &platform)?;
    let row = lock_row(&profile_id, &platform)?;
    write_status(row.queue_id, status, p_reason)?;
    Ok(Reply::new("updated")
        .with("profile_id", profile_id)
        .with("platform", platform)
        .with("status", status)
        .with("reason", p_reason)
        .into())
}

#[pg_extern(schema = "slotkeeper")]
fn drop_queue(
    p_profile_id: Option<&str>,
    p_platform: Option<&str>,
    p_force: default!(Option<bool>, "false"),
) -> Result<JsonReply, ErrorReport> {
    let (profile_id, platform) = queue_name(p_profile_id, p_platform)?;
    let force = flag("p_force", p_force)?;
    refuse_read_only(c"drop_queue()");
    // Rows come before their queue in the order of locks.
    let unscheduled = match force {
        true => dropped::unschedule_all(&profile_id, &platform)?,
        false => 0,
    };
    Ok(drop_named(&profile_id, &platform, force, unscheduled)?.into())
}

fn drop_named(profile_id: &str, platform: &str, force: bool, unscheduled: i64) -> Result<Reply, Fault> {
    // The row first: whoever waits for another change of it holds nothing yet that a caller who books would meet.
    let turn = queue::turn_on(profile_id, platform)?;
    let row = lock_row(profile_id, platform)?;
    drop(turn);
    let key = Key::Queue { profile_id, platform };
    if force {
        // Whoever comes to book in it meanwhile has his turn.
        Patience::get(&Sought::Queue { profile_id, platform }, || {
            take_queue(&key, true);
            Ok(())
        })?;
    } else if !take_queue(&key, false) {
        return Err(Fault::QueueBusy {
            profile_id: profile_id.to_owned(),
            platform: platform.to_owned(),
        });
    }
    let live = count(&COUNT_OPEN, row.queue_id)?;
    if live > 0 && !force {
        return Err(Fault::LiveBookings {
            profile_id: profile_id.to_owned(),
            platform: platform.to_owned(),
            live,
        });
    }
    let left = match force {
        true => Some(Left::of(profile_id, platform)?),
        false => None,
    };
    let (id, now) = (Arg::Int8(row.queue_id), now()?);
    DROP_WAITING.with(|waiting| waiting.write(&[id], |_| Ok(())))?;
    let kept = publish::queue_dropped(row.queue_id, now)?;
    forget_hints(row.queue_id)?;
    DROP.with(|statement| statement.write(&[id, Arg::Time(now)], |_| Ok(())))?;
    if let Some(left) = left {
        left.note(profile_id, platform)?;
    }
    Ok(Reply::new("dropped")
        .with("profile_id", profile_id)
        .with("platform", platform)
        .with("released", live - kept + unscheduled)
        .with_some("unknown", (kept > 0).then_some(kept)))
}

fn count(statement: &'static LocalKey<Statement>, queue_id: i64) -> Result<i64, Fault> {
    let counts = statement.with(|count| count.read(&[Arg::Int8(queue_id)], |row| row.must(1)))?;
    Ok(counts.into_iter().next().unwrap_or(0))
}

/// Full runs and holes of earlier versions serve nobody. Those that another transaction is at are left behind.
fn forget_hints(queue_id: i64) -> Result<(), Fault> {
    for (table, index) in [(c"full_run", c"full_run_from"), (c"hole", c"hole_granule")] {
        let mut scan = IndexScan::open(table, index, 1, See::Uncommitted)?;
        scan.search(&[(1, ScanKey::Is(queue_id))], Order::Ascending);
        let mut ids = Vec::new();
        while let Some(row) = scan.next() {
            if row.inserter().is_none() {
                ids.push(row.id());
            }
        }
        drop(scan);
        delete_unless_busy(table, &ids)?;
    }
    Ok(())
}

/// The server's zone of this name, or 22023 with a name that is probably meant.
pub(crate) fn zone(name: &str) -> Result<ServerZone, Fault> {
    let refused = |reason: String, hint: String| Fault::Zone {
        name: name.chars().take(80).collect(),
        reason,
        hint,
    };
    let near = || -> Result<Option<String>, Fault> {
        let names = ZONE_NAMES.with(|names| names.show(&[], |row| row.must::<String>(1)))?;
        Ok(suggest(name, names.into_iter()).map(|near| format!("Perhaps you mean {near}.")))
    };
    match zone_name(name) {
        ZoneName::Refused {
            reason,
            hint: Some(hint),
        } => Err(refused(reason, hint)),
        ZoneName::Refused { reason, hint: None } => {
            Err(refused(reason, near()?.unwrap_or_else(|| USE_A_REGION.to_owned())))
        }
        ZoneName::Region(region) => match ServerZone::named(&region) {
            Some(zone) => Ok(zone),
            None => {
                let all = "SELECT name FROM pg_timezone_names lists the names.";
                let hint = near()?.unwrap_or_else(|| all.to_owned());
                Err(refused("is no time zone that the server knows".to_owned(), hint))
            }
        },
    }
}
