//! Bindings: tables of the application that hold scheduled content, or queues.
//!
//! Two directions: a writer's row takes its seat in a trigger ([`guard`]), and a call of ours writes what it has decided
//! into the row ([`row`]). Nothing of the application's is ever evaluated with slotkeeper's rights: predicates are evaluated
//! as the writer, and rows are read and written as the caller.

pub(crate) mod attach;
pub(crate) mod check;
pub(crate) mod collisions;
mod decide;
pub(crate) mod dropped;
mod existing;
mod follow;
pub(crate) mod guard;
pub(crate) mod queues;
pub(crate) mod release;
pub(crate) mod row;
mod table;
mod triggers;
mod unproven;
mod until_end;

use crate::arguments::platform_name;
use crate::fault::Fault;
use crate::manage;
use crate::pg::relations_generation;
use crate::pg::statement::{Statement, Value};
use crate::pg::time::ServerZone;
use crate::pg::trigger::TimeColumn;
use crate::queue::{self, Queue};
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys;
use slotkeeper_core::Instant;
use slotkeeper_core::binding::{From, TableOptions};
use slotkeeper_core::zone::{ZoneName, zone_name};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use table::{Column, Table};

/// A column of the row, or a constant.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Column(i16),
    Value(String),
}

/// A bound table, ready to work with.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) binding_id: i64,
    pub(crate) source: String,
    pub(crate) table: Table,
    pub(crate) options: TableOptions,
    pub(crate) id: Column,
    pub(crate) at: Column,
    pub(crate) time: TimeColumn<ServerZone>,
    profile_id: Source,
    platform: Option<Source>,
    user_id: Option<Source>,
    /// Columns that a state writes the slot's own id into.
    slot_refs: Vec<i16>,
}

impl Binding {
    /// What the options mean for the table as it is now.
    pub(crate) fn resolve(binding_id: i64, source: String, table: Table, options: TableOptions) -> Result<Self, Fault> {
        let id = table.held_column("content_id", &options.content_id)?.clone();
        let at = table.held_column("at", &options.at)?.clone();
        let from = |option: &'static str, from: &From| {
            Ok::<_, Fault>(match from {
                From::Column(name) => Source::Column(table.held_column(option, name)?.number),
                From::Value(value) => Source::Value(value.clone()),
            })
        };
        let profile_id = from("profile_id", &options.profile_id)?;
        let platform = options.platform.as_ref().map(|p| from("platform", p)).transpose()?;
        let user_id = options.user_id.as_ref().map(|u| from("user_id", u)).transpose()?;
        let time = time_column(&at, options.at_zone.as_deref())?;
        let mut slot_refs = Vec::new();
        for (state, columns) in &options.states {
            for (name, value) in columns {
                let column = table.column(&format!("states.{state}"), name)?;
                let is_slot_ref = matches!(
                    value,
                    slotkeeper_core::binding::StateValue::Variable(slotkeeper_core::binding::Variable::SlotRef)
                );
                if state == "scheduled" && is_slot_ref {
                    slot_refs.push(column.number);
                }
            }
        }
        Ok(Self {
            binding_id,
            source,
            table,
            options,
            id,
            at,
            time,
            profile_id,
            platform,
            user_id,
            slot_refs,
        })
    }
}

impl Binding {
    /// The unit in which the row holds instants, in microseconds.
    fn unit(&self) -> i64 {
        match self.at.precision {
            Some(digits @ 0..6) => 10_i64.pow(6 - digits.unsigned_abs()),
            _ => 1,
        }
    }

    /// The first instant from this one on that comes out of the row as it is written into it. (In the second hour of those that
    /// a column in local time shows twice there is none.)
    pub(crate) fn first_stored(&self, at: Instant) -> Instant {
        let stored = self.as_stored(at);
        if stored < at {
            self.as_stored(at.saturating_add(self.unit()))
        } else {
            stored
        }
    }

    /// The instant that comes out of the row when this one is written into it.
    pub(crate) fn as_stored(&self, at: Instant) -> Instant {
        let unit = self.unit();
        let stored = self.time.stored(at);
        let rounded = stored.saturating_add(unit / 2).div_euclid(unit).saturating_mul(unit);
        self.time.instant_of_stored(rounded)
    }
}

fn time_column(at: &Column, zone: Option<&str>) -> Result<TimeColumn<ServerZone>, Fault> {
    match (at.type_oid, zone) {
        (pg_sys::TIMESTAMPTZOID, None) => Ok(TimeColumn::Absolute),
        (pg_sys::TIMESTAMPOID, Some(name)) => match zone_name(name) {
            ZoneName::Region(region) => ServerZone::named(&region).map(TimeColumn::Local),
            ZoneName::Refused { .. } => None,
        }
        .ok_or_else(|| Fault::Zone {
            name: name.chars().take(80).collect(),
            reason: "is no time zone that the server knows".to_owned(),
            hint: "Give at_zone a name of pg_timezone_names, such as UTC.".to_owned(),
        }),
        (pg_sys::TIMESTAMPTZOID, Some(_)) => Err(Fault::unbindable(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("column {} needs no at_zone", at.name),
            "A timestamp with time zone is an instant already.",
            "Leave at_zone out.",
        )),
        (pg_sys::TIMESTAMPOID, None) => Err(Fault::unbindable(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("column {} needs at_zone", at.name),
            "A timestamp without time zone means nothing without one.",
            "Say in which zone the application writes it, such as \"at_zone\": \"UTC\".",
        )),
        _ => Err(Fault::unbindable(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            format!("column {} has type {}", at.name, at.type_name),
            "The time of a content must be timestamptz, or timestamp with at_zone.",
            "Name another column.",
        )),
    }
}

thread_local! {
    static ALL: Statement = const { Statement::new(c"
SELECT b.binding_id, b.source, b.options, b.table_schema, b.table_name, r.relid, b.dropped_at IS NOT NULL
FROM slotkeeper.binding AS b
LEFT JOIN slotkeeper.bound_relation AS r ON r.binding_id OPERATOR(pg_catalog.=) b.binding_id AND r.is_root
WHERE b.kind OPERATOR(pg_catalog.=) 'content'
ORDER BY b.source") };

    static KNOWN: RefCell<Rc<Known>> = RefCell::new(Rc::new(Known::default()));
    static KNOWN_AT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// All bindings, as they were read last.
#[derive(Default)]
struct Known {
    bindings: Vec<Rc<Binding>>,
    broken: Vec<Broken>,
    /// Sources whose tables were dropped.
    dropped: Vec<String>,
}

/// A binding that cannot be used.
struct Broken {
    source: String,
    table: pg_sys::Oid,
    /// The column with the ids, by the name that it had.
    content_id: Option<String>,
    reason: String,
}

/// All bindings that work. Attaching and detaching change the table's triggers, which every backend is told: what was
/// read stays valid until then.
fn known() -> Result<Rc<Known>, Fault> {
    let at = relations_generation();
    if KNOWN_AT.get() == Some(at) {
        return Ok(KNOWN.with_borrow(Rc::clone));
    }
    let rows = ALL.with(|all| {
        all.read(&[], |row| {
            Ok((
                row.must::<i64>(1)?,
                row.must::<String>(2)?,
                row.json(3)?,
                row.must::<String>(4)?,
                row.must::<String>(5)?,
                row.get::<pg_sys::Oid>(6)?,
                row.must::<bool>(7)?,
            ))
        })
    })?;
    let mut known = Known::default();
    for (binding_id, source, options, schema, name, relid, dropped) in rows {
        if dropped {
            known.dropped.push(source);
            continue;
        }
        let table = match relid.map(Table::find).transpose()?.flatten() {
            Some(table) => Some(table),
            None => Table::named(&schema, &name)?,
        };
        let Some(table) = table else { continue };
        let relid = table.oid;
        let content_id = options
            .get("content_id")
            .and_then(|name| name.as_str())
            .map(str::to_owned);
        let resolved = TableOptions::parse(&options)
            .map_err(Fault::from)
            .and_then(|options| Binding::resolve(binding_id, source.clone(), table, options));
        match resolved {
            Ok(binding) => known.bindings.push(Rc::new(binding)),
            Err(fault) => known.broken.push(Broken {
                source,
                table: relid,
                content_id,
                reason: fault.message_and_hint().0,
            }),
        }
    }
    let known = Rc::new(known);
    KNOWN.set(Rc::clone(&known));
    KNOWN_AT.set(Some(at));
    Ok(known)
}

/// What is known of bindings is read anew at its next use. A dump's COPY tells nobody what it has put there.
fn forget_known() {
    KNOWN_AT.set(None);
}

/// Gives back whatever a content of this source holds.
pub(crate) fn withdraw(source: &str, content_id: &str, now: Instant) -> Result<(), Fault> {
    collisions::release_of(source, content_id, now).map(drop)
}

/// Whether any table is bound.
fn any() -> Result<bool, Fault> {
    let known = known()?;
    Ok(!known.bindings.is_empty() || !known.broken.is_empty())
}

/// Whether the table of this source was dropped, and its contents with it.
fn was_dropped(source: &str) -> Result<bool, Fault> {
    Ok(known()?.dropped.iter().any(|dropped| dropped == source))
}

/// All bindings that work.
pub(crate) fn all() -> Result<Vec<Rc<Binding>>, Fault> {
    Ok(known()?.bindings.clone())
}

/// The binding of this source; an error where it is broken.
pub(crate) fn of_source(source: &str) -> Result<Option<Rc<Binding>>, Fault> {
    let known = known()?;
    if let Some(binding) = known.bindings.iter().find(|binding| binding.source == source) {
        return Ok(Some(Rc::clone(binding)));
    }
    match known.broken.iter().find(|broken| broken.source == source) {
        Some(it) => Err(broken(source, &it.reason)),
        None => Ok(None),
    }
}

/// The table's schema or columns have changed so that the binding's options no longer fit.
fn broken(source: &str, reason: &str) -> Fault {
    Fault::unbindable(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("the binding of {source} is broken"),
        reason,
        "Attach the table again with options that fit it as it is now, or detach it.",
    )
}

/// The binding of a table, or 42704.
fn of_table(table: &Table) -> Result<Rc<Binding>, Fault> {
    let known = known()?;
    if let Some(binding) = known.bindings.iter().find(|binding| binding.table.oid == table.oid) {
        return Ok(Rc::clone(binding));
    }
    match known.broken.iter().find(|broken| broken.table == table.oid) {
        Some(it) => Err(broken(&it.source, &it.reason)),
        None => Err(not_attached(table)),
    }
}

fn not_attached(table: &Table) -> Fault {
    Fault::unbindable(
        PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
        format!("table {}.{} is not attached", table.schema, table.name),
        "No binding has this table.",
        "slotkeeper.binding_health lists the tables that are.",
    )
}

thread_local! {
    static ID_OF: Statement = const { Statement::new(c"
SELECT b.binding_id, b.source
FROM slotkeeper.binding AS b
LEFT JOIN slotkeeper.bound_relation AS r ON r.binding_id OPERATOR(pg_catalog.=) b.binding_id AND r.is_root
WHERE b.kind OPERATOR(pg_catalog.=) $2
  AND (r.relid OPERATOR(pg_catalog.=) $1::pg_catalog.oid
       OR (r.relid IS NULL AND b.table_schema OPERATOR(pg_catalog.=) $3 AND b.table_name OPERATOR(pg_catalog.=) $4))") };

    static ROOT_OF: Statement = const { Statement::new(c"
SELECT pg_catalog.pg_partition_root($1::pg_catalog.oid::pg_catalog.regclass)::pg_catalog.oid") };

    static PLATFORMS: Statement = const { Statement::by_index(c"
SELECT q.platform FROM slotkeeper.queue AS q WHERE q.profile_id OPERATOR(pg_catalog.=) $1 LIMIT 2") };

    /// Columns with the id in the parts of partitioned tables, at this generation.
    static PARTS: RefCell<Parts> = const { RefCell::new((0, Vec::new())) };

    /// Tables whose guard was seen to be registered, at this generation.
    static GUARDED: RefCell<Guarded> = const { RefCell::new((0, Vec::new())) };
}

/// The tables that a table's rows lie in, each with its column of the id.
type PartsOfTable = Rc<[(pg_sys::Oid, i16)]>;

type Parts = (u64, Vec<(pg_sys::Oid, PartsOfTable)>);

type Guarded = (u64, Vec<(pg_sys::Oid, Rc<Binding>)>);

/// The id and source of a table's binding, broken or not; 42704 where it has none.
fn id_of(table: &Table, kind: &str) -> Result<(i64, String), Fault> {
    let values = [
        Value::Int8(i64::from(table.oid.to_u32())),
        Value::Text(kind),
        Value::Text(&table.schema),
        Value::Text(&table.name),
    ];
    let found = ID_OF.with(|find| find.read(&values, |row| Ok((row.must(1)?, row.must(2)?))))?;
    found.into_iter().next().ok_or_else(|| not_attached(table))
}

/// The binding that guards a table or partition under this source. A trigger that somebody has made by hand on another
/// table is none of ours.
fn of_guarded(table: pg_sys::Oid, source: &str) -> Result<Rc<Binding>, Fault> {
    let generation = relations_generation();
    let hit = GUARDED.with_borrow(|(at, all)| {
        let found = all
            .iter()
            .find(|(oid, binding)| *oid == table && binding.source == source);
        found
            .filter(|_| *at == generation)
            .map(|(_, binding)| Rc::clone(binding))
    });
    if let Some(binding) = hit {
        return Ok(binding);
    }
    let root = root_of(table)?;
    let binding = of_source(source)?.filter(|binding| binding.table.oid == table || binding.table.oid == root);
    let Some(binding) = binding else {
        return Err(Fault::unbindable(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "slotkeeper doesn't guard this table",
            format!("Its trigger names the binding {source:?}, which is none of it."),
            "Attach it with slotkeeper.attach_table(), or drop the trigger. A dump of data alone is loaded with --disable-triggers, or with session_replication_role = replica; then call slotkeeper.reconcile_table().",
        ));
    };
    let binding = match Table::find(table)? {
        // A partition has the same columns, under numbers of its own.
        Some(partition) if table != binding.table.oid => Rc::new(Binding::resolve(
            binding.binding_id,
            binding.source.clone(),
            partition,
            binding.options.clone(),
        )?),
        _ => binding,
    };
    let generation = relations_generation();
    GUARDED.with_borrow_mut(|(at, all)| {
        if *at != generation {
            *at = generation;
            all.clear();
        }
        all.push((table, Rc::clone(&binding)));
    });
    Ok(binding)
}

/// Of a table or partition that a broken binding of this source guards, the column with the ids, as far as it is there.
/// None where there is no such binding.
fn ids_of_broken(table: pg_sys::Oid, source: &str) -> Result<Option<Option<i16>>, Fault> {
    let (known, root) = (known()?, root_of(table)?);
    let is_it = |broken: &&Broken| broken.source == source && (broken.table == table || broken.table == root);
    let Some(broken) = known.broken.iter().find(is_it) else {
        return Ok(None);
    };
    let (Some(name), Some(table)) = (&broken.content_id, Table::find(table)?) else {
        return Ok(Some(None));
    };
    Ok(Some(table.column("content_id", name).ok().map(|column| column.number)))
}

/// The parts of the partitioned table that this one belongs to; none of any other table. Their unique indexes may let an id be in
/// several of them, and in several rows of one.
fn parts_of(binding: &Binding, table: pg_sys::Oid) -> Result<PartsOfTable, Fault> {
    let Some(root) = of_source(&binding.source)?.filter(|root| root.table.oid != table) else {
        return Ok(Rc::new([]));
    };
    let generation = relations_generation();
    let hit = PARTS.with_borrow(|(at, all)| {
        let found = all
            .iter()
            .find(|(oid, _)| *oid == root.table.oid)
            .filter(|_| *at == generation);
        found.map(|(_, parts)| Rc::clone(parts))
    });
    if let Some(parts) = hit {
        return Ok(parts);
    }
    let leaves = root.table.leaves()?;
    let parts: PartsOfTable = leaves
        .iter()
        .map(|leaf| Ok((leaf.oid, leaf.column("content_id", &root.options.content_id)?.number)))
        .collect::<Result<_, Fault>>()?;
    PARTS.with_borrow_mut(|(at, all)| {
        if *at != generation {
            *at = generation;
            all.clear();
        }
        all.push((root.table.oid, Rc::clone(&parts)));
    });
    Ok(parts)
}

/// The partitioned table that a partition belongs to; any other table itself.
fn root_of(table: pg_sys::Oid) -> Result<pg_sys::Oid, Fault> {
    let root = ROOT_OF.with(|root| {
        root.read(&[Value::Int8(i64::from(table.to_u32()))], |row| {
            row.get::<pg_sys::Oid>(1)
        })
    })?;
    Ok(root.into_iter().flatten().next().unwrap_or(table))
}

/// The queue that a row names. Where it names a profile only, the one queue that the profile has. A queue that is first seen here
/// is created where the binding says how, and `create` is set.
fn queue_of(
    binding: &Binding,
    profile_id: &str,
    platform: Option<&str>,
    create: bool,
) -> Result<Option<Rc<Queue>>, Fault> {
    let find = || {
        let platform = match platform {
            Some(platform) => Some(platform_name("platform", platform)?),
            None => only_platform(profile_id)?,
        };
        let queue = match &platform {
            Some(platform) => queue::find(profile_id, platform)?,
            None => None,
        };
        Ok::<_, Fault>((platform, queue))
    };
    let (mut platform, mut queue) = find()?;
    if queue.is_none() && queues::settle_early(profile_id)? {
        (platform, queue) = find()?;
    }
    let Some(platform) = platform.filter(|_| queue.is_none()) else {
        return Ok(queue);
    };
    match &binding.options.queue_defaults {
        Some(defaults) if create => {
            manage::create_if_missing(profile_id, &platform, defaults)?;
            queue::find(profile_id, &platform)
        }
        _ => Ok(None),
    }
}

fn only_platform(profile_id: &str) -> Result<Option<String>, Fault> {
    let mut platforms: Vec<String> = PLATFORMS.with(|all| all.read(&[Value::Text(profile_id)], |row| row.must(1)))?;
    if platforms.len() > 1 {
        // Queues that a table has left behind, as when a row of it got another platform, don't count beside those it names.
        let named = queues::platforms_named(profile_id)?;
        if !named.is_empty() {
            platforms = named;
        }
    }
    if platforms.len() > 1 {
        return Err(Fault::unbindable(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("profile {profile_id} has more than one queue"),
            "The binding names no platform, so a profile must have one queue.",
            "Give the binding the option \"platform\".",
        ));
    }
    Ok(platforms.pop())
}
