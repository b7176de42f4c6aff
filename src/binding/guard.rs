//! `guard_row`: the trigger function of bound tables. Runs as the writer, as do the conditions that say which rows matter;
//! what it does to the ledger runs with slotkeeper's rights.

mod mirror;
mod pending;
mod writer;

use super::collisions::{self, give_back, release_content};
use super::decide::Decide;
use super::follow::{give_up, heed};
use super::release::release_all;
use super::row::is_own_write;
use super::triggers::{Carried, EXEMPT};
use super::{Binding, attach, broken, ids_of_broken, of_guarded, parts_of, unproven};
use crate::booking::{self, OpenLedger};
use crate::clock::now;
use crate::fault::Fault;
use crate::pg::across_rows::AcrossRows;
use crate::pg::before_row::TriggerRow;
use crate::pg::condition::Conditions;
use crate::pg::scan::{Present, any_row_with, present_row};
use crate::pg::trigger::{Fired, Record, Version, is_replica};
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::rc::Rc;
pub(super) use writer::{Writer, not_movable};

#[pg_extern(sql = "
CREATE FUNCTION slotkeeper.guard_row() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
fn guard_row(fcinfo: pg_sys::FunctionCallInfo) -> Result<TriggerRow, ErrorReport> {
    let fired = Fired::of_call(fcinfo).ok_or_else(not_a_trigger)?;
    let row = match guard(&fired) {
        // Another server has stored the row, or a dump is being loaded: `binding_health` tells, and reconciling finds it.
        Err(_) if is_replica() && !is_guardable(&fired)? => fired.new_row(),
        Err(_) if is_soft_delete(&fired) => soft_deleted(&fired)?,
        settled => settled?,
    };
    Ok(row.map_or_else(TriggerRow::none, Record::returned))
}

/// Whether there is a binding that works, and all its conditions.
fn is_guardable(fired: &Fired<'_>) -> Result<bool, Fault> {
    let source = fired.argument(0).unwrap_or_default();
    Ok(usable(fired, source)?.is_some() && Conditions::of(fired, &Carried::NAMES).is_some())
}

/// Whether an UPDATE makes the row exempt, as far as can be told where other conditions are missing.
fn is_soft_delete(fired: &Fired<'_>) -> bool {
    fired.is_update()
        && Conditions::of(fired, &Carried::NAMES).is_none()
        && Conditions::of(fired, &[EXEMPT]).is_some_and(|exempt| exempt.holds(fired, 0, Version::New))
}

/// Like deleting it succeeds.
fn soft_deleted(fired: &Fired<'_>) -> Result<Option<Record>, Fault> {
    if let (false, Some(old)) = (fired.is_before(), fired.old_row()) {
        let source = fired.argument(0).unwrap_or_default();
        match usable(fired, source)? {
            Some(binding) => leave(&binding, fired, &old)?,
            None => drop(leave_broken(fired, source, &old)?),
        }
    }
    Ok(fired.new_row())
}

fn not_a_trigger() -> Fault {
    Fault::unbindable(
        PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        "slotkeeper.guard_row() is not called by a trigger",
        "It looks at the row that a trigger fires for.",
        "Triggers on bound tables are made by slotkeeper.attach_table().",
    )
}

fn guard(fired: &Fired<'_>) -> Result<Option<Record>, Fault> {
    let (source, action) = (
        fired.argument(0).unwrap_or_default(),
        fired.argument(1).unwrap_or_default(),
    );
    match action {
        "take" if fired.is_update() => update(fired, source),
        "take" => insert(fired, source),
        "stored" => stored(fired, source),
        "leave" if fired.is_update() => updated(fired, source),
        "leave" => deleted(fired, source),
        "truncate" if fired.is_truncate() => {
            match usable(fired, source)? {
                Some(binding) => {
                    release_all(&binding.source)?;
                    attach::remember_relations(&binding)?;
                }
                None if ids_of_broken(fired.table(), source)?.is_some() => drop(release_all(source)?),
                None => {}
            }
            Ok(None)
        }
        // They only carry a condition. Somebody has enabled them.
        _ if Carried::NAMES.contains(&action) => Ok(fired.old_row()),
        _ => {
            of_guarded(fired.table(), source)?;
            Err(Fault::unbindable(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "this trigger is not one of slotkeeper's",
                format!("Its second argument is {action:?}."),
                "Triggers on bound tables are made by slotkeeper.attach_table().",
            ))
        }
    }
}

/// What the table's conditions say. They come before the binding is looked at: where it is broken, rows that don't matter
/// are still written.
pub(super) fn decide<'a>(fired: &'a Fired<'a>, source: &str) -> Result<Decide<'a>, Fault> {
    let conditions = &kept(fired, source)?.conditions;
    Ok(Decide { fired, conditions })
}

/// What a statement keeps for one of the triggers from row to row.
struct Kept {
    conditions: Rc<Conditions>,
    ledger: AcrossRows<OpenLedger>,
}

fn kept<'a>(fired: &Fired<'a>, source: &str) -> Result<&'a Kept, Fault> {
    fired.kept(|| match Conditions::of(fired, &Carried::NAMES) {
        Some(conditions) => Ok(Kept {
            conditions,
            ledger: AcrossRows::new(),
        }),
        None => {
            let binding = of_guarded(fired.table(), source)?;
            Err(broken(
                &binding.source,
                "A trigger that carries its conditions is missing.",
            ))
        }
    })
}

/// The row as it is to be stored takes its seat.
fn insert(fired: &Fired<'_>, source: &str) -> Result<Option<Record>, Fault> {
    let Some(new) = fired.new_row() else { return Ok(None) };
    let decide = decide(fired, source)?;
    let (takes, published) = (
        decide.takes(Version::New),
        !fired.is_before() && decide.is_published(Version::New),
    );
    if !takes && !published {
        return Ok(Some(new));
    }
    let Some(binding) = concerned(fired, source, &new)? else {
        return Ok(Some(new));
    };
    let mut writer = Writer::of(&binding, fired, new);
    if takes {
        writer.new = writer.take()?;
    }
    if published {
        writer.published()?;
    }
    Ok(Some(writer.new))
}

/// The row is stored.
fn stored(fired: &Fired<'_>, source: &str) -> Result<Option<Record>, Fault> {
    let Some(new) = fired.new_row() else { return Ok(None) };
    if unproven::is_any() {
        prove(fired, source, new)?;
    }
    let decide = decide(fired, source)?;
    let (takes, published) = (decide.takes(Version::New), decide.is_published(Version::New));
    if !takes && !published {
        return Ok(None);
    }
    let Some(binding) = concerned(fired, source, &new)? else {
        return Ok(None);
    };
    let writer = Writer::of(&binding, fired, new);
    if takes {
        writer.confirm()?;
    }
    if published {
        writer.published()?;
    }
    Ok(None)
}

/// The row is about to be changed: its booking follows.
fn update(fired: &Fired<'_>, source: &str) -> Result<Option<Record>, Fault> {
    let (Some(old), Some(new)) = (fired.old_row(), fired.new_row()) else {
        return Ok(None);
    };
    let changes = decide(fired, source)?.changes();
    if !changes.takes && !changes.follows && !changes.is_unseated {
        return Ok(Some(new));
    }
    // Where the binding is broken, rows that take no seat are still written.
    if !changes.takes && usable(fired, source)?.is_none() {
        return Ok(Some(new));
    }
    let Some(binding) = concerned(fired, source, &new)? else {
        return Ok(Some(new));
    };
    let is_overtaken = changes.takes && fired.is_overtaken();
    let before = match is_overtaken && decide(fired, source)?.holds(Version::Old) {
        true => Writer::of(&binding, fired, old).wanted().ok().map(|(row, _, _)| row),
        false => None,
    };
    let mut writer = Writer::of(&binding, fired, new);
    if changes.takes {
        writer.new = writer.retake(&old)?;
    }
    if changes.follows {
        writer.new = writer.follow(&old)?;
    }
    if changes.is_unseated {
        heed(&binding, fired, &old, &new)?;
    }
    if let (true, Some(content_id)) = (is_overtaken, writer.new.text(binding.id.number)) {
        unproven::expect(&binding, content_id, before);
    }
    Ok(Some(writer.new))
}

/// The row has been changed.
fn updated(fired: &Fired<'_>, source: &str) -> Result<Option<Record>, Fault> {
    let (Some(old), Some(new)) = (fired.old_row(), fired.new_row()) else {
        return Ok(None);
    };
    if unproven::is_any() {
        prove(fired, source, new)?;
    }
    let changed = decide(fired, source)?.changed();
    if !changed.leaves && !changed.published {
        return Ok(None);
    }
    if !changed.published && usable(fired, source)?.is_none() {
        return leave_broken(fired, source, &old);
    }
    let Some(binding) = concerned(fired, source, &new)? else {
        return Ok(None);
    };
    if changed.leaves {
        give_up(&binding, fired, &old, &new)?;
    }
    if changed.published {
        Writer::of(&binding, fired, new).published()?;
    }
    Ok(None)
}

/// An UPDATE is stored, perhaps in another partition, that another trigger has seen after the guard: as it is now.
fn prove(fired: &Fired<'_>, source: &str, new: Record) -> Result<(), Fault> {
    let Some(binding) = concerned(fired, source, &new)? else {
        return Ok(());
    };
    if !unproven::is_stored(&binding, new.text(binding.id.number)) {
        return Ok(());
    }
    let decide = decide(fired, source)?;
    if decide.takes(Version::New) {
        Writer::of(&binding, fired, new).confirm()?;
    } else if let (false, Some(content_id)) = (decide.holds(Version::New), new.text(binding.id.number)) {
        release_content(&binding, &content_id, now()?)?;
    }
    Ok(())
}

/// The row is gone.
fn deleted(fired: &Fired<'_>, source: &str) -> Result<Option<Record>, Fault> {
    let Some(old) = fired.old_row() else { return Ok(None) };
    if usable(fired, source)?.is_none() {
        return leave_broken(fired, source, &old);
    }
    if let Some(binding) = concerned(fired, source, &old)?
        && !has_successor(&binding, fired, source, &old)?
    {
        leave(&binding, fired, &old)?;
    }
    Ok(None)
}

/// The binding, unless it is broken or there is none: that keeps nobody from deleting.
fn usable(fired: &Fired<'_>, source: &str) -> Result<Option<Rc<Binding>>, Fault> {
    match of_guarded(fired.table(), source) {
        Ok(binding) => Ok(Some(binding)),
        Err(fault @ Fault::Internal(_)) => Err(fault),
        Err(_) => Ok(None),
    }
}

/// A row goes whose binding is broken. Its seat is given back if its id can still be told; else attaching anew does that.
fn leave_broken(fired: &Fired<'_>, source: &str, old: &Record) -> Result<Option<Record>, Fault> {
    let ids = ids_of_broken(fired.table(), source)?.flatten();
    if let Some(content_id) = ids.and_then(|column| old.text(column)) {
        for (booking, queue) in booking::of_source(&content_id, source)? {
            give_back(&booking, &queue, now()?)?;
        }
        collisions::forget(source, &content_id)?;
    }
    Ok(None)
}

/// Whether another row of the same id takes a seat by now, as where one statement deletes a row and inserts it anew. The
/// content's booking is that row's.
fn has_successor(binding: &Binding, fired: &Fired<'_>, source: &str, old: &Record) -> Result<bool, Fault> {
    let Some(content_id) = old.text(binding.id.number) else {
        return Ok(false);
    };
    // What cannot be decided keeps nobody from deleting.
    any_row_with(fired.table(), binding.id.number, &content_id, |row| {
        row.changer().is_none() && decide(fired, source).is_ok_and(|decide| decide.another_takes(row))
    })
}

/// The binding, unless publishing is writing the row: that follows from the ledger, and changes nothing in it.
fn concerned(fired: &Fired<'_>, source: &str, row: &Record) -> Result<Option<Rc<Binding>>, Fault> {
    let binding = of_guarded(fired.table(), source)?;
    Ok((!is_own_write(&binding, row)).then_some(binding))
}

/// A statement has ended: nothing of what it has not stored stays booked.
pub(crate) fn statement_ended(command: pg_sys::CommandId) -> Result<(), Fault> {
    pending::end(command)?;
    unproven::end(command)
}

/// The row takes no seat any more.
pub(super) fn leave(binding: &Binding, fired: &Fired<'_>, old: &Record) -> Result<(), Fault> {
    let Some(content_id) = old.text(binding.id.number) else {
        return Ok(());
    };
    // A row that an UPDATE sends to another partition is deleted here and inserted there.
    if pending::is_on_its_way(binding, &content_id, fired.table())? {
        return Ok(());
    }
    // A row that held nothing takes no seat away from another one of the same id.
    if !parts_of(binding, fired.table())?.is_empty()
        && decide(fired, &binding.source).is_ok_and(|decide| !decide.holds(Version::Old))
        && row_beside(binding, fired, &content_id)?.is_some()
    {
        return Ok(());
    }
    let released = release_content(binding, &content_id, now()?)?;
    if released == 0 {
        collisions::forget(&binding.source, &content_id)?;
    }
    Ok(())
}

/// Another row of the same id in a partitioned table.
fn row_beside(binding: &Binding, fired: &Fired<'_>, content_id: &str) -> Result<Option<Present>, Fault> {
    // The row itself is there, unless it is yet to be inserted or given this id.
    let stored = if fired.is_before() {
        fired.old_row()
    } else {
        fired.new_row()
    };
    let is_there = stored.is_some_and(|row| row.text(binding.id.number).as_deref() == Some(content_id));
    for &(table, column) in parts_of(binding, fired.table())?.iter() {
        let itself = usize::from(is_there && table == fired.table());
        let present = present_row(table, column, content_id)?;
        if let Some(present) = present.filter(|present| present.versions > itself) {
            return Ok(Some(present));
        }
    }
    Ok(None)
}
