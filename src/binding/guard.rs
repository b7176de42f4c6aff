//! `guard_row`: the trigger function of bound tables. Runs as the writer, as do the conditions that say which rows matter;
//! what it does to the ledger runs with slotkeeper's rights.

use super::collisions::{
    self, Exactly, give_back, move_booking, release_content, release_in, settle_exactly, settle_or_remember,
};
use super::decide::Decide;
use super::existing::Occupant;
use super::follow::{PutBack, give_up, heed};
use super::release::release_all;
use super::row::is_own_write;
use super::triggers::{Carried, EXEMPT};
use super::{Binding, Source, attach, broken, ids_of_broken, of_guarded, parts_beside, queue_of, unproven};
use crate::arguments::{OnConflict, identifier};
use crate::booking::{self, Booking, Content, NewBooking, OpenLedger};
use crate::clock::now;
use crate::fault::Fault;
use crate::history;
use crate::mover::{Mover, Settled, Wish};
use crate::pg::across_rows::AcrossRows;
use crate::pg::before_row::TriggerRow;
use crate::pg::condition::Conditions;
use crate::pg::lock::{Brief, Key, use_queues, wait_for};
use crate::pg::probe::meets_a_row;
use crate::pg::running::is_upsert;
use crate::pg::scan::{Present, any_row_with, present_row, row_is_inserted_since};
use crate::pg::subtransaction::{current_subtransaction, is_subtransaction_active};
use crate::pg::trigger::{Fired, Record, Version, is_replica, running_command};
use crate::place::Known;
use crate::publish::Movable;
use crate::queue::Queue;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{PgLogLevel, PgSqlErrorCode, ereport};
use slotkeeper_core::Instant;
use slotkeeper_core::binding::OnConflict as Wanted;
use slotkeeper_core::slots::Slot;
use slotkeeper_core::zone::format_utc;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

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
        "",
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

/// A booking that was made for a row which is not stored yet.
#[derive(Clone)]
struct Pending {
    binding: Rc<Binding>,
    content_id: String,
    /// The queue and the instant that were booked. A row of that id that is there may hold a seat in another queue.
    queue_id: i64,
    at: Instant,
    /// The table or partition that the row is to lie in, and its column with the id.
    table: pg_sys::Oid,
    column: i16,
    /// The statement that inserts it: its command, and the subtransaction that it runs in. One that was undone leaves its
    /// command's number to the next.
    command: pg_sys::CommandId,
    subtransaction: pg_sys::SubTransactionId,
}

impl Pending {
    fn is_of(&self, binding: &Binding, content_id: &str) -> bool {
        self.binding.binding_id == binding.binding_id && self.content_id == content_id
    }

    /// Whether it was booked by the statement that runs.
    fn is_of_statement(&self) -> bool {
        self.command == running_command() && self.subtransaction == current_subtransaction()
    }

    /// Whether its statement was undone, and the booking with it.
    fn is_undone(&self) -> bool {
        !is_subtransaction_active(self.subtransaction)
    }

    /// Whether its row belongs to a statement that goes on around the one that has ended. A row that was there before, or
    /// that this statement has updated instead, is none: the booking was for nothing.
    fn goes_on(&self) -> Result<bool, Fault> {
        row_is_inserted_since(self.table, self.column, &self.content_id, self.command)
    }
}

thread_local! {
    /// When the transaction began, and what waits for its row.
    static PENDING: RefCell<(i64, VecDeque<Pending>)> = const { RefCell::new((0, VecDeque::new())) };
}

/// What waits for its row in this transaction.
fn with_pending<T>(act: impl FnOnce(&mut VecDeque<Pending>) -> T) -> T {
    let transaction = crate::pg::transaction_start();
    PENDING.with_borrow_mut(|(began, pending)| {
        if *began != transaction {
            *began = transaction;
            pending.clear();
        }
        act(pending)
    })
}

/// Whether anything waits for its row.
fn is_pending() -> bool {
    with_pending(|pending| !pending.is_empty())
}

/// Takes out what waits for the row of this content, which has its seat now.
fn no_longer_pending(binding: &Binding, content_id: &str) -> Option<Pending> {
    with_pending(|pending| {
        let is_it = |p: &Pending| p.is_of(binding, content_id) && p.is_of_statement();
        let place = pending.iter().position(is_it);
        // Rows are stored in the order in which they were booked: mostly it is the first.
        place.and_then(|place| pending.remove(place))
    })
}

/// A statement has ended. What was booked for rows that it has not stored after all, as with ON CONFLICT DO NOTHING, is given
/// back: all that are stored have been confirmed by now, those of statements inside it, too.
pub(crate) fn statement_ended(command: pg_sys::CommandId) -> Result<(), Fault> {
    if is_pending() {
        let ghosts: VecDeque<Pending> = with_pending(|pending| {
            let (ended, others) = std::mem::take(pending).into_iter().partition(|p| p.command >= command);
            *pending = others;
            ended
        });
        for ghost in ghosts.iter().filter(|ghost| !ghost.is_undone()) {
            release_in(&ghost.binding, &ghost.content_id, ghost.queue_id, now()?)?;
        }
    }
    if unproven::is_any() {
        unproven::end(command)?;
    }
    Ok(())
}

/// The row takes no seat any more.
pub(super) fn leave(binding: &Binding, fired: &Fired<'_>, old: &Record) -> Result<(), Fault> {
    let Some(content_id) = old.text(binding.id.number) else {
        return Ok(());
    };
    // A row that an UPDATE sends to another partition is deleted here and inserted there.
    let elsewhere = with_pending(|pending| {
        pending
            .iter()
            .find(|p| p.is_of(binding, &content_id) && p.table != fired.table() && !p.is_undone())
            .cloned()
    });
    // What an undone statement has left behind is no row elsewhere.
    if elsewhere.map(|pending| pending.goes_on()).transpose()? == Some(true) {
        return Ok(());
    }
    // A row that held nothing takes no seat away from one of the same id in another partition.
    if !parts_beside(binding, fired.table())?.is_empty()
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

/// A row of the same id in another partition.
fn row_beside(binding: &Binding, fired: &Fired<'_>, content_id: &str) -> Result<Option<Present>, Fault> {
    for &(table, column) in parts_beside(binding, fired.table())?.iter() {
        if let Some(present) = present_row(table, column, content_id)? {
            return Ok(Some(present));
        }
    }
    Ok(None)
}

fn id_twice(binding: &Binding, content_id: &str) -> Fault {
    Fault::unbindable(
        PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
        format!(
            "content {content_id} has a row in another partition of {}",
            binding.source
        ),
        "Two rows with one id would be one content, and share a seat.",
        "Give the row an id of its own, or delete the other one.",
    )
}

pub(super) fn not_movable(content_id: &str) -> Fault {
    Fault::unbindable(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("content {content_id} cannot move"),
        "It is being published, or has been.",
        "Leave its time, queue and id as they are; a copy of it can be scheduled anew.",
    )
}

fn taken(at: Instant, queue: &Queue, next_free: Option<Instant>) -> Fault {
    Fault::unbindable(
        PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
        format!(
            "{} is taken in queue ({}, {})",
            format_utc(at),
            queue.profile_id,
            queue.platform
        ),
        next_free.map_or(String::new(), |next| {
            format!("The next free instant is {}.", format_utc(next))
        }),
        "Choose another time. Rows of this binding are not moved.",
    )
}

/// What keeps an upsert from the instant that its row asks for, and is no other content.
enum InTheWay {
    Nothing,
    /// What was booked for a row that is not inserted after all.
    Ghost(Pending),
    /// The row meets another one with the same unique key: it is not going to be inserted.
    EqualKey,
}

/// A row that takes a seat, on its way into the table.
pub(super) struct Writer<'a> {
    pub(super) binding: &'a Rc<Binding>,
    pub(super) fired: &'a Fired<'a>,
    pub(super) new: Record,
}

impl<'a> Writer<'a> {
    fn of(binding: &'a Rc<Binding>, fired: &'a Fired<'a>, new: Record) -> Self {
        Self { binding, fired, new }
    }

    /// Whether it is an UPDATE of a row that took a seat under this id.
    fn took(&self) -> bool {
        let id = self.binding.id.number;
        self.fired.is_update()
            && self
                .fired
                .old_row()
                .is_some_and(|old| old.text(id) == self.new.text(id))
            && decide(self.fired, &self.binding.source).is_ok_and(|decide| decide.takes(Version::Old))
    }

    /// Whose the content's booking is, if not this row's: it took no seat before, and another partition has its id, too.
    fn owner_beside(&self, row: &Occupant, is_booked: bool) -> Result<Option<Present>, Fault> {
        let binding = self.binding;
        if parts_beside(binding, self.fired.table())?.is_empty() || self.took() {
            return Ok(None);
        }
        // Perhaps in another queue.
        if !is_booked && booking::of_source(&row.content_id, &binding.source)?.is_empty() {
            return Ok(None);
        }
        row_beside(binding, self.fired, &row.content_id)
    }

    fn value(&self, source: &Source) -> Option<String> {
        self.value_of(&self.new, source)
    }

    /// What a row of the table says.
    pub(super) fn value_of(&self, row: &Record, source: &Source) -> Option<String> {
        match source {
            Source::Column(number) => row.text(*number),
            Source::Value(value) => Some(value.clone()),
        }
    }

    fn required(&self, option: &'static str, value: Option<String>) -> Result<String, Fault> {
        let value = value.ok_or_else(|| {
            Fault::unbindable(
                PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION,
                format!("a row of {} that takes a seat has no {option}", self.binding.source),
                format!("The column that the binding names as {option} is NULL."),
                "Give it a value, or let the binding's predicates exempt such rows.",
            )
        })?;
        identifier(option, Some(&value))?;
        Ok(value)
    }

    /// What the row asks for: itself, its time if it has one, and its queue.
    fn wanted(&self) -> Result<(Occupant, Option<Instant>, Rc<Queue>), Fault> {
        let binding = self.binding;
        let content_id = self.required("content_id", self.new.text(binding.id.number))?;
        let profile_id = self.required("profile_id", self.value(&binding.profile_id))?;
        let platform = match &binding.platform {
            Some(platform) => Some(self.required("platform", self.value(platform))?),
            None => None,
        };
        let user_id = binding.user_id.as_ref().and_then(|user_id| self.value(user_id));
        let at = self.new.time(binding.at.number, &binding.time);
        if at.is_none() && !self.new.is_null(binding.at.number) {
            return Err(Fault::Infinite {
                argument: "the time of a content",
            });
        }
        let Some(queue) = queue_of(binding, &profile_id, platform.as_deref(), true)? else {
            return Err(Fault::NoQueue {
                profile_id,
                platform: platform.unwrap_or_else(|| "any".to_owned()),
                item: None,
            });
        };
        let occupant = Occupant {
            content_id,
            profile_id,
            platform,
            user_id,
            at: at.unwrap_or_default(),
            is_published: false,
        };
        Ok((occupant, at, queue))
    }

    /// Takes the row's seat; returns the row as it is to be stored.
    pub(super) fn take(&self) -> Result<Record, Fault> {
        if is_replica() {
            // What cannot have a seat is not refused: another server has stored it.
            return match self.wanted() {
                Ok((occupant, at, queue)) => self.mirror(&occupant, at, &queue),
                Err(_) => {
                    if let Some(id) = self.new.text(self.binding.id.number) {
                        release_content(self.binding, &id, now()?)?;
                    }
                    attach::note_refused(self.binding.binding_id)?;
                    Ok(self.new)
                }
            };
        }
        let (occupant, at, queue) = self.wanted()?;
        use_queues(&mut [Key::Queue {
            profile_id: &queue.profile_id,
            platform: &queue.platform,
        }]);
        if let (true, Some(old)) = (self.fired.is_update(), self.fired.old_row()) {
            self.leave_old_place(&old, &occupant.content_id, &queue)?;
        }
        let ledger = &kept(self.fired, &self.binding.source)?.ledger;
        ledger.with(self.fired, OpenLedger::within, |ledger| {
            self.settle(ledger, &occupant, at, &queue)
        })
    }

    /// The row is stored: its booking stays.
    fn confirm(&self) -> Result<Option<Record>, Fault> {
        let binding = self.binding;
        let Some(content_id) = self.new.text(binding.id.number) else {
            return Ok(None);
        };
        let expected = no_longer_pending(binding, &content_id);
        let at = self.new.time(binding.at.number, &binding.time);
        if is_replica() || expected.is_some_and(|expected| Some(expected.at) == at) {
            return Ok(None);
        }
        // It had its booking before it was inserted; or a statement that ended inside this one has taken it for a
        // ghost; or a trigger that fires after the guard has changed its time.
        let (row, _, queue) = self.wanted()?;
        match settle_exactly(binding, &row, &queue, now()?)? {
            Exactly::Taken => Err(taken(row.at, &queue, None)),
            Exactly::Booked | Exactly::Moved | Exactly::Right | Exactly::Closed => Ok(None),
        }
    }

    fn settle(
        &self,
        ledger: &mut OpenLedger,
        row: &Occupant,
        at: Option<Instant>,
        queue: &Queue,
    ) -> Result<Record, Fault> {
        let binding = self.binding;
        let content = Content {
            content_id: &row.content_id,
            source: &binding.source,
            queue_id: queue.queue_id,
        };
        loop {
            let turn = Brief::acquire(&content.key());
            let held = ledger.held_by(&content)?;
            if let Some(transaction) = held.busy {
                drop(turn);
                wait_for(transaction);
                continue;
            }
            let mut own: Option<Booking> = None;
            if held.own {
                own = booking::find(&content)?;
            } else if held.unbound {
                own = booking::adopt(&content)?;
            }
            if let Some(beside) = self.owner_beside(row, own.is_some())? {
                let Some(transaction) = beside.inserter.or(beside.changer) else {
                    return Err(id_twice(binding, &row.content_id));
                };
                drop(turn);
                wait_for(transaction);
                continue;
            }
            if own.is_some() && !self.fired.is_update() && self.fired.is_before() {
                // An upsert of a row that is there: its UPDATE comes next, if there is one. It would wait for whoever
                // deletes the row, too; what there is to do is known only then.
                let there = match held.own {
                    true => present_row(self.fired.table(), binding.id.number, &row.content_id)?,
                    false => None,
                };
                match there.map(|there| there.changer) {
                    Some(Some(transaction)) => {
                        drop(turn);
                        wait_for(transaction);
                        continue;
                    }
                    Some(None) => return Ok(self.new),
                    None => {}
                }
            }
            if let Some(own) = own.as_ref().filter(|own| at.is_none_or(|at| at == own.scheduled_at)) {
                let new = match self.put_back(own)? {
                    PutBack::Row(new) => new,
                    PutBack::Busy(transaction) => {
                        drop(turn);
                        wait_for(transaction);
                        continue;
                    }
                };
                self.expect(row, queue, own.scheduled_at);
                if at.is_some() {
                    return Ok(new);
                }
                return self.placed(own.scheduled_at, own.slot_ref.as_deref());
            }
            if let (None, Some(row)) = (&own, self.was_published(&content)?) {
                return Ok(row);
            }
            let _publication = match own.as_ref().map(|own| Movable::look(own, true)).transpose()? {
                Some(Movable::No(_)) => return Err(not_movable(&row.content_id)),
                Some(Movable::Busy(transaction)) => {
                    drop(turn);
                    wait_for(transaction);
                    continue;
                }
                movable => movable,
            };
            let now = now()?;
            let mover = Mover {
                queue,
                content,
                own: own.as_ref(),
                now,
            };
            let (reader, writer) = (&mut ledger.reader, &mut ledger.writer);
            let mut write = |slot: &Slot, seat, known| {
                let new = NewBooking {
                    content,
                    user_id: row.user_id.as_deref(),
                    slot,
                    seat,
                    booked_at: now,
                    claimed_at: None,
                };
                match (&own, known) {
                    (Some(own), _) => move_booking(own, queue, slot, seat, now),
                    (None, Known::Free) => writer.book(&new),
                    (None, Known::Nothing) => writer.book_unless_held(&new),
                }
            };
            let mut in_the_way = InTheWay::Nothing;
            let goes_on = |slot: &Slot| {
                in_the_way = self.in_the_way(row, queue, slot, own.is_some())?;
                Ok(matches!(in_the_way, InTheWay::Nothing))
            };
            let settled = match at {
                Some(at) => mover.settle_with(reader, &self.wish(at, now), own.is_none(), goes_on, write)?,
                None => mover.next_slot(reader, |slot, seat| write(slot, seat, Known::Free))?,
            };
            drop(turn);
            let Some(settled) = settled else {
                match in_the_way {
                    InTheWay::Nothing => {}
                    InTheWay::Ghost(ghost) => release_in(binding, &ghost.content_id, ghost.queue_id, now)?,
                    InTheWay::EqualKey => return Ok(self.new),
                }
                continue;
            };
            let stored = self.stored(row, at, queue, &settled, now)?;
            if let (Some(own), Settled::Placed { slot, .. }) = (&own, &settled) {
                history::moved(own.booking_id, own.scheduled_at, slot.at, None, now)?;
            }
            if let Settled::Placed { slot, .. } | Settled::Moved { slot, .. } = &settled {
                self.expect(row, queue, slot.at);
            }
            if own.is_none() && self.fired.is_update() {
                collisions::forget(&binding.source, &row.content_id)?;
            }
            return Ok(stored);
        }
    }

    /// What an upsert finds in its own way at the instant that its row asks for.
    fn in_the_way(&self, row: &Occupant, queue: &Queue, slot: &Slot, is_booked: bool) -> Result<InTheWay, Fault> {
        // The row that this statement would have inserted, and updates another one instead.
        let booked_here: Vec<Pending> = with_pending(|pending| {
            let is_here = |p: &&Pending| {
                p.queue_id == queue.queue_id
                    && queue.granule_of(p.at) == slot.granule
                    && p.binding.binding_id == self.binding.binding_id
                    && p.content_id != row.content_id
                    && p.is_of_statement()
            };
            pending.iter().filter(is_here).cloned().collect()
        });
        for pending in booked_here {
            if !pending.goes_on()? {
                with_pending(|all| all.retain(|p| p.content_id != pending.content_id || !p.is_of_statement()));
                return Ok(InTheWay::Ghost(pending));
            }
        }
        // The row that it is going to update may be the one that holds the instant: what it is given is for its UPDATE.
        let may_conflict = !is_booked && !self.fired.is_update() && self.fired.is_before() && is_upsert();
        Ok(match may_conflict && meets_a_row(self.fired.table(), &self.new)? {
            true => InTheWay::EqualKey,
            false => InTheWay::Nothing,
        })
    }

    /// The booking waits for its row where the row is yet to be inserted. Where a row is updated, as by an upsert, it is
    /// there.
    fn expect(&self, row: &Occupant, queue: &Queue, at: Instant) {
        if self.fired.is_update() {
            no_longer_pending(self.binding, &row.content_id);
        } else if self.fired.is_before() {
            let pending = Pending {
                binding: Rc::clone(self.binding),
                content_id: row.content_id.clone(),
                queue_id: queue.queue_id,
                at,
                table: self.fired.table(),
                column: self.binding.id.number,
                command: running_command(),
                subtransaction: current_subtransaction(),
            };
            with_pending(|all| all.push_back(pending));
        }
    }

    fn wish(&self, at: Instant, now: Instant) -> Wish {
        let options = &self.binding.options;
        let is_soon = at <= now.saturating_add(options.now_within);
        Wish {
            at,
            on_conflict: match options.on_conflict {
                Wanted::Reject => OnConflict::Reject,
                Wanted::NextSlot if !is_soon => OnConflict::NextSlot,
                Wanted::NextSlot | Wanted::NextFree => OnConflict::NextFree,
            },
            dry_run: false,
            as_it_is: true,
        }
    }

    /// The row with the time that was settled, or an error.
    fn stored(
        &self,
        row: &Occupant,
        at: Option<Instant>,
        queue: &Queue,
        settled: &Settled,
        now: Instant,
    ) -> Result<Record, Fault> {
        match settled {
            Settled::Placed { slot, .. } => self.placed(slot.at, slot.slot_ref.as_deref()),
            Settled::Moved {
                slot,
                booking_id,
                conflicts_with,
            } => {
                let asked = at.unwrap_or(slot.at);
                if let Some(booking_id) = booking_id {
                    history::moved(*booking_id, asked, slot.at, conflicts_with.as_ref(), now)?;
                }
                ereport!(
                    PgLogLevel::NOTICE,
                    PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
                    format!(
                        "slotkeeper: content {} moved from {} to {}",
                        row.content_id,
                        format_utc(asked),
                        format_utc(slot.at)
                    ),
                    format!(
                        "Another content of queue ({}, {}) holds the instant.",
                        queue.profile_id, queue.platform
                    )
                );
                self.placed(slot.at, slot.slot_ref.as_deref())
            }
            Settled::Full { .. } => Err(Fault::unbindable(
                PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!("queue ({}, {}) is full", queue.profile_id, queue.platform),
                format!("Nothing is free until {}.", format_utc(queue.horizon(now))),
                "Choose another time, or give the queue more slots or a longer horizon.",
            )),
            Settled::Conflict { next_free_at, .. } => Err(taken(at.unwrap_or(now), queue, *next_free_at)),
        }
    }

    fn placed(&self, at: Instant, slot_ref: Option<&str>) -> Result<Record, Fault> {
        if !self.fired.is_before() {
            return Ok(self.new);
        }
        let binding = self.binding;
        let mut row = self.new;
        if row.time(binding.at.number, &binding.time) != Some(at) {
            row = row.with_time(binding.at.number, &binding.time, at);
            for &column in &binding.slot_refs {
                row = row.with_text(column, slot_ref)?;
            }
        }
        Ok(row)
    }

    /// What another server has stored stays as it is: the ledger follows, or records a collision.
    fn mirror(&self, row: &Occupant, at: Option<Instant>, queue: &Queue) -> Result<Record, Fault> {
        let now = now()?;
        if at.is_none() {
            return Ok(self.new);
        }
        if let (true, Some(old)) = (self.fired.is_update(), self.fired.old_row()) {
            self.leave_old_place(&old, &row.content_id, queue)?;
        }
        settle_or_remember(self.binding, row, queue, "replica", now)?;
        Ok(self.new)
    }
}
