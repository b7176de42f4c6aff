//! `follow_queue`: the trigger function of tables with queues. Runs as the writer; what it does to slotkeeper's tables runs
//! with slotkeeper's rights.
//!
//! Row by row the copy is kept; a queue is made anew once, when the statement ends.

use super::copy::{self, Name};
use super::{QueueBinding, of_followed, row};
use crate::fault::Fault;
use crate::pg::subtransaction::{current_subtransaction, is_subtransaction_active};
use crate::pg::transaction_start;
use crate::pg::trigger::{Fired, Record, is_replica};
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{AllocatedByPostgres, PgLogLevel, PgSqlErrorCode, ereport};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

#[pg_trigger(sql = "
CREATE FUNCTION slotkeeper.follow_queue() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
")]
pub(crate) fn follow_queue<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>, Fault> {
    if let Err(fault) = follow(&Fired::of(trigger)) {
        ErrorReport::from(fault).report(PgLogLevel::ERROR);
    }
    Ok(None)
}

fn follow(fired: &Fired<'_>) -> Result<(), Fault> {
    let argument = |n| fired.argument(n).unwrap_or_default();
    let (source, action, status) = (argument(0), argument(1), argument(2));
    if action == "end" && is_clean() {
        return Ok(());
    }
    let binding = match of_followed(fired.table(), source) {
        Ok(binding) => binding,
        // `binding_health` knows it without being told.
        Err(fault) if is_replica() => return warn(fault),
        Err(fault) => return Err(fault),
    };
    match action {
        "minus" => match fired.old_row() {
            Some(old) => minus(&binding, fired, &old, status),
            None => Ok(()),
        },
        "plus" => match fired.new_row() {
            Some(new) => plus(&binding, fired, &new, status),
            None => Ok(()),
        },
        "end" => settle_all(&binding, take_edited(&binding)),
        "truncate" => {
            let queues = copy::forget(&binding)?;
            settle_all(&binding, queues)?;
            super::remember(binding.binding_id, &binding.table)
        }
        _ => Err(Fault::unbindable(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "this trigger is not one of slotkeeper's",
            format!("Its second argument is {action:?}."),
            "Triggers on tables with queues are made by slotkeeper.attach_queues().",
        )),
    }
}

/// A row has gone, or says something else now. What could not be read was never copied.
fn minus(binding: &Rc<QueueBinding>, fired: &Fired<'_>, old: &Record, status: &str) -> Result<(), Fault> {
    let Ok(Some(said)) = row::read(binding, &|number| old.text(number)) else {
        return Ok(());
    };
    copy::remove(binding, &said, status)?;
    edited(binding, fired, said.queue)
}

/// A row has come, or says something else now.
fn plus(binding: &Rc<QueueBinding>, fired: &Fired<'_>, new: &Record, status: &str) -> Result<(), Fault> {
    let said = row::read(binding, &|number| new.text(number)).and_then(|said| match said {
        Some(said) => row::check(binding, &said).map(|()| Some(said)),
        None => Ok(None),
    });
    match said {
        Ok(Some(said)) => {
            copy::add(binding, &said, status)?;
            edited(binding, fired, said.queue)
        }
        Ok(None) => Ok(()),
        Err(fault) if is_replica() => note(binding, fault),
        Err(fault) => Err(fault),
    }
}

/// A queue whose rows were edited by a statement that goes on.
struct Edited {
    /// A statement that runs inside another, and is undone alone, must not settle the outer one's queues.
    subtransaction: pg_sys::SubTransactionId,
    binding: Rc<QueueBinding>,
    queue: Name,
}

impl Edited {
    fn is_like(&self, other: &Self) -> bool {
        let of = |edited: &Self| (edited.subtransaction, edited.binding.binding_id);
        of(self) == of(other) && self.queue == other.queue
    }
}

thread_local! {
    /// When the transaction began, and its edited queues. What an aborted statement has left behind is settled in vain.
    static EDITED: RefCell<(i64, Vec<Edited>)> = const { RefCell::new((0, Vec::new())) };
}

fn is_clean() -> bool {
    EDITED.with_borrow(|(began, edited)| edited.is_empty() || *began != transaction_start())
}

/// The queue is settled when the statement ends; at once where nobody would say so: a replicated change fires no triggers
/// of statements, and one that names a partition none of the whole table's.
fn edited(binding: &Rc<QueueBinding>, fired: &Fired<'_>, queue: Name) -> Result<(), Fault> {
    if is_replica() || fired.table() != binding.table.oid {
        return settle_all(binding, BTreeSet::from([queue]));
    }
    let transaction = transaction_start();
    let edited = Edited {
        subtransaction: current_subtransaction(),
        binding: Rc::clone(binding),
        queue,
    };
    EDITED.with_borrow_mut(|(began, all)| {
        if *began != transaction {
            *began = transaction;
            all.clear();
        }
        // Rows of one queue mostly come one after the other.
        if !all.last().is_some_and(|last| last.is_like(&edited)) {
            all.push(edited);
        }
    });
    Ok(())
}

/// The queues that this statement has edited.
fn take_edited(binding: &QueueBinding) -> BTreeSet<Name> {
    let here = current_subtransaction();
    EDITED.with_borrow_mut(|(_, all)| {
        let (own, others): (Vec<_>, Vec<_>) = std::mem::take(all)
            .into_iter()
            .partition(|edited| edited.subtransaction == here && edited.binding.binding_id == binding.binding_id);
        *all = others;
        own.into_iter().map(|edited| edited.queue).collect()
    })
}

/// Makes the queues of this profile that a statement has edited which goes on, before it ends: a foreign key with ON UPDATE
/// CASCADE gives rows of contents a profile's new name within the statement that gives it to the profile. Returns whether
/// there were any.
pub(in crate::binding) fn settle_early(profile_id: &str) -> Result<bool, Fault> {
    if is_clean() {
        return Ok(false);
    }
    // They stay in the list: the statement may have more of their rows to tell of.
    let mut early: Vec<(Rc<QueueBinding>, Name)> = EDITED.with_borrow(|(_, all)| {
        let of_profile = all
            .iter()
            .filter(|edited| edited.queue.profile_id == profile_id && is_subtransaction_active(edited.subtransaction));
        of_profile
            .map(|edited| (Rc::clone(&edited.binding), edited.queue.clone()))
            .collect()
    });
    early.sort_by(|(_, one), (_, other)| one.cmp(other));
    for (binding, queue) in &early {
        copy::settle(binding, queue)?;
    }
    Ok(!early.is_empty())
}

/// In the order of their names, so that two statements don't wait for each other.
fn settle_all(binding: &QueueBinding, queues: BTreeSet<Name>) -> Result<(), Fault> {
    for queue in &queues {
        match copy::settle(binding, queue) {
            Ok(_) => {}
            Err(fault) if is_replica() => note(binding, fault)?,
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

/// What another server has stored stays, even if no queue can be made of it; `binding_health` says so from then on.
fn note(binding: &QueueBinding, fault: Fault) -> Result<(), Fault> {
    crate::binding::attach::note_refused(binding.binding_id)?;
    warn(fault)
}

fn warn(fault: Fault) -> Result<(), Fault> {
    let (message, hint) = fault.message_and_hint();
    ereport!(
        PgLogLevel::WARNING,
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("slotkeeper: a replicated row is not followed: {message}"),
        hint
    );
    Ok(())
}
