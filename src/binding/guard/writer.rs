//! A row that takes a seat, on its way into the table.

use super::pending::{self, Pending};
use super::{decide, kept, row_beside};
use crate::arguments::{OnConflict, identifier};
use crate::binding::collisions::{self, Exactly, move_booking, release_in, settle_exactly};
use crate::binding::existing::Occupant;
use crate::binding::follow::PutBack;
use crate::binding::{Binding, Source, parts_of, queue_of};
use crate::booking::{self, Booking, Content, NewBooking, OpenLedger};
use crate::clock::now;
use crate::fault::Fault;
use crate::history;
use crate::mover::{Mover, Settled, Wish};
use crate::pg::lock::{Brief, Key, use_queues, wait_for};
use crate::pg::probe::{Keys, Met, meets_a_row};
use crate::pg::running::{Upsert, is_upsert};
use crate::pg::scan::{Present, present_row};
use crate::pg::trigger::{Fired, Record, Version, is_replica};
use crate::place::{HeldSeat, Known};
use crate::publish::Movable;
use crate::queue::Queue;
use pgrx::pg_sys::TransactionId;
use pgrx::{PgLogLevel, PgSqlErrorCode, ereport};
use slotkeeper_core::Instant;
use slotkeeper_core::binding::OnConflict as Wanted;
use slotkeeper_core::slots::Slot;
use slotkeeper_core::zone::format_utc;
use std::rc::Rc;

fn id_twice(binding: &Binding, content_id: &str) -> Fault {
    Fault::unbindable(
        PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
        format!("content {content_id} has another row in {}", binding.source),
        "Two rows with one id would be one content, and share a seat.",
        "Give the row an id of its own, or delete the other one.",
    )
}

pub(in crate::binding) fn not_movable(content_id: &str) -> Fault {
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
    /// This open transaction is at that row.
    Busy(TransactionId),
}

/// A row that takes a seat, on its way into the table.
pub(in crate::binding) struct Writer<'a> {
    pub(in crate::binding) binding: &'a Rc<Binding>,
    pub(in crate::binding) fired: &'a Fired<'a>,
    pub(in crate::binding) new: Record,
}

impl<'a> Writer<'a> {
    pub(super) fn of(binding: &'a Rc<Binding>, fired: &'a Fired<'a>, new: Record) -> Self {
        Self { binding, fired, new }
    }

    /// Whether the row is yet to be inserted, if it is at all.
    fn is_inserted_later(&self) -> bool {
        self.fired.is_before() && !self.fired.is_update()
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

    /// Whose the content's booking is, if not this row's: it took no seat before, and another row of the table has its id, too.
    fn owner_beside(&self, row: &Occupant, is_booked: bool) -> Result<Option<Present>, Fault> {
        let binding = self.binding;
        if parts_of(binding, self.fired.table())?.is_empty() || self.took() {
            return Ok(None);
        }
        // Perhaps in another queue.
        if !is_booked && booking::of_source(&row.content_id, &binding.source)?.is_empty() {
            return Ok(None);
        }
        let beside = row_beside(binding, self.fired, &row.content_id)?;
        // Where they have a unique key in common the server refuses it, and says which.
        let is_refused = beside.is_some() && self.is_inserted_later() && {
            let keys = Keys::With(binding.id.number);
            meets_a_row(self.fired.table(), &self.new, keys, Upsert::LeavesIt)? == Met::Row
        };
        Ok(beside.filter(|_| !is_refused))
    }

    fn value(&self, source: &Source) -> Option<String> {
        self.value_of(&self.new, source)
    }

    /// What a row of the table says.
    pub(in crate::binding) fn value_of(&self, row: &Record, source: &Source) -> Option<String> {
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
    pub(super) fn wanted(&self) -> Result<(Occupant, Option<Instant>, Rc<Queue>), Fault> {
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
    pub(in crate::binding) fn take(&self) -> Result<Record, Fault> {
        if is_replica() {
            return match self.is_inserted_later() {
                // It is stored as it is, or not at all: that is followed then.
                true => Ok(self.new),
                false => self.mirror(),
            };
        }
        if self.updates_its_row()? {
            return Ok(self.new);
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

    /// Whether an upsert meets a row of the same id: it is that row's UPDATE that counts, if there is one, and not what would have
    /// been inserted. The row comes before the booking, for it is waited for: whoever has it may be about to book its content.
    fn updates_its_row(&self) -> Result<bool, Fault> {
        let Some(upsert) = is_upsert().filter(|_| self.is_inserted_later()) else {
            return Ok(false);
        };
        loop {
            match meets_a_row(
                self.fired.table(),
                &self.new,
                Keys::With(self.binding.id.number),
                upsert,
            )? {
                Met::Nothing => return Ok(false),
                Met::Row => return Ok(true),
                Met::Busy(transaction) => wait_for(transaction),
            }
        }
    }

    /// The row is stored: its booking stays.
    pub(super) fn confirm(&self) -> Result<(), Fault> {
        let binding = self.binding;
        let Some(content_id) = self.new.text(binding.id.number) else {
            return Ok(());
        };
        if is_replica() {
            return self.mirror().map(drop);
        }
        let expected = pending::take_out(binding, &content_id);
        let at = self.new.time(binding.at.number, &binding.time);
        if expected.is_some_and(|expected| Some(expected.at) == at) {
            return Ok(());
        }
        // It had its booking before it was inserted; or a statement that ended inside this one has taken it for a
        // ghost; or a trigger that fires after the guard has changed its time.
        let (row, _, queue) = self.wanted()?;
        match settle_exactly(binding, &row, &queue, now()?)? {
            Exactly::Taken => Err(taken(row.at, &queue, None)),
            Exactly::Booked | Exactly::Moved | Exactly::Right | Exactly::Closed => Ok(()),
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
            if own.is_some() && self.is_inserted_later() {
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
            let write = |held: &HeldSeat, known| {
                let new = NewBooking {
                    content,
                    user_id: row.user_id.as_deref(),
                    slot: &held.slot,
                    seat: held.seat,
                    booked_at: now,
                    claimed_at: None,
                    full_before: held.full_before,
                };
                match (&own, known) {
                    (Some(own), _) => move_booking(own, queue, &held.slot, held.seat, now),
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
                None => mover.next_slot(reader, own.is_none(), write)?,
            };
            drop(turn);
            let Some(settled) = settled else {
                match in_the_way {
                    InTheWay::Nothing => {}
                    InTheWay::Ghost(ghost) => release_in(binding, &ghost.content_id, ghost.queue_id, now)?,
                    InTheWay::EqualKey => return Ok(self.new),
                    InTheWay::Busy(transaction) => wait_for(transaction),
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
        if let Some(ghost) = pending::ghost_at(self.binding, &row.content_id, queue, slot.granule)? {
            return Ok(InTheWay::Ghost(ghost));
        }
        // The row that it is going to update may be the one that holds the instant: what it is given is for its UPDATE.
        let may_conflict = !is_booked && self.is_inserted_later();
        let Some(upsert) = is_upsert().filter(|_| may_conflict) else {
            return Ok(InTheWay::Nothing);
        };
        Ok(match meets_a_row(self.fired.table(), &self.new, Keys::All, upsert)? {
            Met::Nothing => InTheWay::Nothing,
            Met::Row => InTheWay::EqualKey,
            Met::Busy(transaction) => InTheWay::Busy(transaction),
        })
    }

    /// The booking waits for its row where the row is yet to be inserted. Where a row is updated, as by an upsert, it is
    /// there.
    fn expect(&self, row: &Occupant, queue: &Queue, at: Instant) {
        if self.fired.is_update() {
            pending::take_out(self.binding, &row.content_id);
        } else if self.fired.is_before() {
            pending::add(Pending {
                binding: Rc::clone(self.binding),
                content_id: row.content_id.clone(),
                queue_id: queue.queue_id,
                at,
                table: self.fired.table(),
                column: self.binding.id.number,
            });
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
}
