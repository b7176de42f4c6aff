//! `attach_queues`: queues that live in a table of the application.
//!
//! A trigger ([`follow`]) keeps what each row says ([`row`]) in slotkeeper's own tables ([`copy`]), and makes the queue
//! what its rows say. Status predicates are the triggers' conditions ([`triggers`]), so they run as the writer.

mod copy;
pub(crate) mod follow;
mod row;
mod triggers;

use super::attach::{add, remember, remove, require_owner, require_readable, source_of, triggers_on};
use super::table::Table;
use super::triggers::drop_all;
use super::{Source, broken, id_of, root_of};
use crate::fault::Fault;
use crate::manage::{self, Change};
use crate::pg::dynamic::{See, command, query};
use crate::pg::json::{JsonArg, JsonReply};
use crate::pg::patience::Against;
use crate::pg::statement::{Statement, Value};
use crate::pg::table::RegClass;
use crate::pg::{refuse_read_only, relations_generation};
use crate::reply::Reply;
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::Value as JsonValue;
use slotkeeper_core::binding::{From, QueueSource, SlotColumns, TimetableSource};
use slotkeeper_core::timetable::Timetable;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

pub(super) use copy::platforms_named;
pub(super) use follow::settle_early;

/// The trigger function of bound tables.
const FUNCTION: &str = "follow_queue";

/// Columns by number, where an option names one.
#[derive(Debug, Default)]
struct Slot {
    time: Option<i16>,
    hour: Option<i16>,
    minute: Option<i16>,
    days: Option<i16>,
    capacity: Option<i16>,
    slot_ref: Option<i16>,
}

/// Where the timetable comes from.
#[derive(Debug)]
enum Rules {
    /// A row has the whole of it.
    Column(i16),
    /// All rows have the same.
    Value(JsonValue),
    /// A row is one slot.
    Slot(Slot),
}

/// A table of queues, ready to work with.
#[derive(Debug)]
struct QueueBinding {
    binding_id: i64,
    source: String,
    table: Table,
    options: QueueSource,
    profile_id: Source,
    platform: Source,
    time_zone: Source,
    rules: Rules,
}

impl QueueBinding {
    /// What the options mean for the table as it is now.
    fn resolve(binding_id: i64, source: String, table: Table, options: QueueSource) -> Result<Self, Fault> {
        let from = |option: &'static str, from: &From| {
            Ok::<_, Fault>(match from {
                From::Column(name) => Source::Column(table.held_column(option, name)?.number),
                From::Value(value) => Source::Value(value.clone()),
            })
        };
        let rules = match &options.timetable {
            None => Rules::Value(JsonValue::Object(serde_json::Map::new())),
            Some(TimetableSource::Value(value)) => Rules::Value(value.clone()),
            Some(TimetableSource::Column(name)) => Rules::Column(table.held_column("timetable", name)?.number),
            Some(TimetableSource::Rows(columns)) => Rules::Slot(slot(&table, columns)?),
        };
        Ok(Self {
            binding_id,
            source,
            profile_id: from("profile_id", &options.profile_id)?,
            platform: from("platform", &options.platform)?,
            time_zone: from("time_zone", &options.time_zone)?,
            rules,
            table,
            options,
        })
    }

    /// Numbers of the columns that tell what a queue is, its status apart.
    fn columns(&self) -> BTreeSet<i16> {
        let mut all = BTreeSet::new();
        for source in [&self.profile_id, &self.platform, &self.time_zone] {
            if let Source::Column(number) = source {
                all.insert(*number);
            }
        }
        match &self.rules {
            Rules::Column(number) => drop(all.insert(*number)),
            Rules::Value(_) => {}
            Rules::Slot(slot) => {
                let columns = [
                    slot.time,
                    slot.hour,
                    slot.minute,
                    slot.days,
                    slot.capacity,
                    slot.slot_ref,
                ];
                all.extend(columns.into_iter().flatten());
            }
        }
        all
    }
}

fn slot(table: &Table, columns: &SlotColumns) -> Result<Slot, Fault> {
    let number = |option: &str, name: &Option<String>| {
        name.as_ref()
            .map(|name| {
                table
                    .held_column(&format!("timetable.{option}"), name)
                    .map(|column| column.number)
            })
            .transpose()
    };
    Ok(Slot {
        time: number("time", &columns.time)?,
        hour: number("hour", &columns.hour)?,
        minute: number("minute", &columns.minute)?,
        days: number("days", &columns.days)?,
        capacity: number("capacity", &columns.capacity)?,
        slot_ref: number("ref", &columns.slot_ref)?,
    })
}

thread_local! {
    static FIND: Statement = const { Statement::new(c"
SELECT b.binding_id, b.options, b.table_schema, b.table_name, r.relid
FROM slotkeeper.binding AS b
LEFT JOIN slotkeeper.bound_relation AS r ON r.binding_id OPERATOR(pg_catalog.=) b.binding_id AND r.is_root
WHERE b.kind OPERATOR(pg_catalog.=) 'queues' AND b.source OPERATOR(pg_catalog.=) $1 AND b.dropped_at IS NULL") };

    /// Tables whose binding was looked up, at this generation.
    static KNOWN: RefCell<Known> = const { RefCell::new((0, Vec::new())) };
}

type Known = (u64, Vec<(pg_sys::Oid, Rc<QueueBinding>)>);

/// The binding of this source, where the table that it is of is still there.
fn of_source(source: &str) -> Result<Option<QueueBinding>, Fault> {
    let rows = FIND.with(|find| {
        find.read(&[Value::Text(source)], |row| {
            Ok((
                row.must::<i64>(1)?,
                row.json(2)?,
                row.must::<String>(3)?,
                row.must::<String>(4)?,
                row.get::<pg_sys::Oid>(5)?,
            ))
        })
    })?;
    let Some((binding_id, options, schema, name, relid)) = rows.into_iter().next() else {
        return Ok(None);
    };
    let table = match relid.map(Table::find).transpose()?.flatten() {
        Some(table) => Some(table),
        None => Table::named(&schema, &name)?,
    };
    let Some(table) = table else { return Ok(None) };
    QueueSource::parse(&options)
        .map_err(Fault::from)
        .and_then(|options| QueueBinding::resolve(binding_id, source.to_owned(), table, options))
        .map(Some)
        .map_err(|fault| broken(source, &fault.message_and_hint().0))
}

/// The binding whose trigger fires on a table or partition. A trigger that somebody has made by hand on another table is
/// none of ours.
fn of_followed(table: pg_sys::Oid, source: &str) -> Result<Rc<QueueBinding>, Fault> {
    let generation = relations_generation();
    let hit = KNOWN.with_borrow(|(at, all)| {
        let found = all.iter().find(|(oid, known)| *oid == table && known.source == source);
        found.filter(|_| *at == generation).map(|(_, known)| Rc::clone(known))
    });
    if let Some(binding) = hit {
        return Ok(binding);
    }
    let root = root_of(table)?;
    let found = of_source(source)?.filter(|binding| [table, root].contains(&binding.table.oid));
    let Some(binding) = found.map(Rc::new) else {
        return Err(Fault::unbindable(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "slotkeeper's queues don't follow this table",
            format!("Its trigger names the binding {source:?}, which is none of it."),
            "Attach it with slotkeeper.attach_queues(), or drop the trigger.",
        ));
    };
    KNOWN.with_borrow_mut(|(at, all)| {
        if *at != generation {
            *at = generation;
            all.clear();
        }
        all.push((table, Rc::clone(&binding)));
    });
    Ok(binding)
}

#[pg_extern(schema = "slotkeeper")]
pub(crate) fn attach_queues(p_table: Option<RegClass>, p_options: Option<JsonArg>) -> Result<JsonReply, ErrorReport> {
    let json = crate::arguments::json("p_options", p_options)?.ok_or(Fault::Null { argument: "p_options" })?;
    let options = QueueSource::parse(&json).map_err(Fault::from)?;
    let table = Table::require(p_table.map(|table| table.0))?;
    refuse_read_only(c"attach_queues()");
    let attached = attach(table, options, &json)?;
    Ok(attached.reply("attached").into())
}

/// A table whose queues follow it, as it was attached or reconciled.
struct Attached {
    source: String,
    relation: String,
    rows: i64,
    changes: Vec<Change>,
}

impl Attached {
    fn reply(&self, outcome: &str) -> Reply {
        let count = |which| self.changes.iter().filter(|&&change| change == which).count() as i64;
        Reply::new(outcome)
            .with("source", self.source.as_str())
            .with("table", self.relation.as_str())
            .with("rows", self.rows)
            .with("queues", self.changes.len() as i64)
            .with("created", count(Change::Created))
            .with("updated", count(Change::Updated))
    }
}

/// Triggers first: from then on nobody else writes the table until this transaction ends, so that what is read afterwards
/// is all there is.
fn attach(table: Table, options: QueueSource, json: &JsonValue) -> Result<Attached, Fault> {
    require_owner(&table)?;
    let source = source_of(&table, "queues")?;
    let mut binding = QueueBinding::resolve(0, source, table, options)?;
    check_constants(&binding)?;
    let conditions = triggers::Conditions::of(&binding)?;
    require_readable(&binding.table, "Queues of hidden rows would be missed.")?;
    let statements = triggers::create(&binding, &conditions)?;
    binding.binding_id = add("queues", &binding.source, &binding.table, json)?;
    let relation = binding.table.quoted()?;
    let there = triggers_on(&binding.table, FUNCTION)?;
    binding.table.hold(match there.is_empty() {
        true => Against::Writers,
        false => Against::Everybody,
    })?;
    drop_all(&relation, &there)?;
    for statement in &statements {
        command(statement)?;
    }
    let (rows, changes) = take_over(&binding, &conditions)?;
    remember(binding.binding_id, &binding.table)?;
    Ok(Attached {
        source: binding.source,
        relation,
        rows,
        changes,
    })
}

/// What is the same for all rows is refused at once.
fn check_constants(binding: &QueueBinding) -> Result<(), Fault> {
    if let Source::Value(zone) = &binding.time_zone {
        manage::check_zone(zone)?;
    }
    if let Rules::Value(timetable) = &binding.rules {
        Timetable::parse(timetable, 1)?;
    }
    Ok(())
}

/// Copies all rows anew, and makes their queues what they say. Nobody else may write the table meanwhile.
fn take_over(binding: &QueueBinding, conditions: &triggers::Conditions) -> Result<(i64, Vec<Change>), Fault> {
    let columns = binding.columns();
    let mut texts = Vec::new();
    for column in columns.iter().filter_map(|&number| binding.table.column_at(number)) {
        texts.push(format!("t.{}::pg_catalog.text", column.quoted()?));
    }
    let sql = format!(
        "SELECT {} {} FROM {} AS t",
        conditions.status(),
        texts.iter().map(|text| format!(", {text}")).collect::<String>(),
        binding.table.quoted()?
    );
    let rows = query(&sql, See::Latest, &[], |row| {
        let mut values = Vec::with_capacity(columns.len());
        for (&number, place) in columns.iter().zip(2..) {
            values.push((number, row.get::<String>(place)?));
        }
        Ok((row.must::<String>(1)?, values))
    })?;
    let mut queues = copy::forget(binding)?;
    let mut count = 0;
    for (status, values) in rows {
        let text = |number: i16| {
            values
                .iter()
                .find(|(n, _)| *n == number)
                .and_then(|(_, text)| text.clone())
        };
        if let Some(said) = row::read(binding, &text)? {
            row::check(binding, &said)?;
            copy::add(binding, &said, &status)?;
            queues.insert(said.queue);
        }
        count += 1;
    }
    let changes = queues
        .iter()
        .map(|queue| copy::settle(binding, queue))
        .collect::<Result<_, Fault>>()?;
    Ok((count, changes))
}

/// Makes triggers, copy and queues anew as the table is now; `None` where its rows are no queues.
pub(super) fn reconcile(table: &Table) -> Result<Option<Reply>, Fault> {
    let Some((_, source)) = bound(table)? else {
        return Ok(None);
    };
    let options = FIND.with(|find| find.read(&[Value::Text(&source)], |row| row.json(2)))?;
    let Some(json) = options.into_iter().next() else {
        return Ok(None);
    };
    let options = QueueSource::parse(&json)?;
    Ok(Some(attach(table.clone(), options, &json)?.reply("reconciled")))
}

/// Stops following a table of queues; its source, if it was one. The queues stay as they are.
pub(super) fn detach(table: &Table) -> Result<Option<String>, Fault> {
    let Some((binding_id, source)) = bound(table)? else {
        return Ok(None);
    };
    table.hold(Against::Everybody)?;
    drop_all(&table.quoted()?, &triggers_on(table, FUNCTION)?)?;
    copy::forget_all(binding_id)?;
    remove(binding_id)?;
    Ok(Some(source))
}

fn bound(table: &Table) -> Result<Option<(i64, String)>, Fault> {
    match id_of(table, "queues") {
        Ok(found) => Ok(Some(found)),
        Err(Fault::Unbindable {
            code: PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            ..
        }) => Ok(None),
        Err(fault) => Err(fault),
    }
}
