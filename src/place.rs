//! Taking a seat: look, try the lock, look again, insert.
//!
//! Lock before look: the first look finds a candidate without any lock, and counts seats of open transactions as
//! held. The brief lock on the seat then keeps others from inserting it between our second look and our insert: they
//! step over it, as over any held seat. Nobody waits, and the unique index has the last word.

use crate::fault::Fault;
use crate::full_before::FullBefore;
use crate::ledger::{QueueLedger, Reader, Window, keep_findings};
use crate::luck::Luck;
use crate::pg::lock::{Brief, Key};
use crate::queue::{self, Queue};
use slotkeeper_core::Instant;
use slotkeeper_core::run::apart;
use slotkeeper_core::search::{Candidate, EveryGranule, Grid, Search};
use slotkeeper_core::slots::Slot;
use std::collections::BTreeSet;

/// Where a content may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Places {
    /// The slots of the timetable.
    Slots,
    /// Any granule.
    Granules,
}

impl Places {
    /// Slots, or granules where the timetable has none.
    pub(crate) fn of(queue: &Queue) -> Self {
        if queue.timetable.is_free_form() {
            Self::Granules
        } else {
            Self::Slots
        }
    }
}

/// A search for seats of one queue.
pub(crate) struct Seeker<'q> {
    queue: &'q Queue,
    places: Places,
    search: Search<Box<dyn Grid + 'q>>,
    window: Window,
}

/// A seat that no one else will insert while this is held.
pub(crate) struct HeldSeat {
    pub(crate) slot: Slot,
    pub(crate) seat: i16,
    /// How far the queue is full before it, where a search has seen that.
    pub(crate) full_before: Option<FullBefore>,
    _lock: Brief,
}

thread_local! {
    /// Of guesses that a seat is free for which somebody asks by its time.
    static ASKED_FOR: Luck = const { Luck::new() };

    /// Of guesses that a seat which was free without its lock is free with it: whether nobody else books in the queue at
    /// this very moment.
    static STILL_FREE: Luck = const { Luck::new() };
}

/// What is known of a seat, whose lock is held, when it is to be written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It was seen to be free.
    Free,
    /// Nobody has looked with the lock: only where the writer can tell.
    Nothing,
}

/// How an attempt to take a seat ended.
pub(crate) enum Taken {
    Seat {
        slot: Slot,
        booking_id: i64,
    },
    /// Nothing is free inside the horizon.
    Full,
    /// The insert met a row that no look had shown: the attempt starts anew.
    Lost,
}

impl<'q> Seeker<'q> {
    /// Looks at or after `from`, not after `until`.
    pub(crate) fn new(queue: &'q Queue, places: Places, from: Instant, until: Instant) -> Self {
        let granule_secs = queue.options.granule_secs;
        let grid: Box<dyn Grid + 'q> = match places {
            Places::Slots => Box::new(queue.slots()),
            Places::Granules => Box::new(EveryGranule::new(queue.slots(), granule_secs)),
        };
        let step = match places {
            Places::Slots => queue.timetable.mean_distance_secs() / granule_secs,
            Places::Granules => 1,
        };
        Self {
            queue,
            places,
            search: Search::new(grid, granule_secs, from, until),
            window: Window::with_step(step),
        }
    }

    /// The seat that the content itself holds counts as free.
    pub(crate) fn ignoring(mut self, granule: i64, seat: i16) -> Self {
        self.search = self.search.ignoring(granule, seat);
        self
    }

    fn with_ledger<T>(
        &mut self,
        reader: &mut Reader,
        chosen: &BTreeSet<(i64, i64, i16)>,
        act: impl FnOnce(&mut Search<Box<dyn Grid + 'q>>, &mut QueueLedger<'_>) -> T,
    ) -> T {
        let mut ledger = QueueLedger {
            reader,
            queue: self.queue,
            every_granule: self.places == Places::Granules,
            is_usual: self.places == Places::of(self.queue),
            window: &mut self.window,
            chosen,
        };
        act(&mut self.search, &mut ledger)
    }

    /// The next slot with a free seat, as things look.
    pub(crate) fn next(
        &mut self,
        reader: &mut Reader,
        chosen: &BTreeSet<(i64, i64, i16)>,
    ) -> Result<Option<Candidate>, Fault> {
        self.with_ledger(reader, chosen, |search, ledger| search.next(ledger))
    }

    /// Seats of this slot that are free, as things look now.
    pub(crate) fn look(
        &mut self,
        reader: &mut Reader,
        chosen: &BTreeSet<(i64, i64, i16)>,
        slot: &Slot,
    ) -> Result<Vec<i16>, Fault> {
        self.with_ledger(reader, chosen, |search, ledger| search.look_again(ledger, slot))
    }

    /// One of these seats, locked and seen to be free.
    pub(crate) fn hold(
        &mut self,
        reader: &mut Reader,
        chosen: &BTreeSet<(i64, i64, i16)>,
        slot: &Slot,
        seats: &[i16],
    ) -> Result<Option<HeldSeat>, Fault> {
        for &seat in seats {
            let Some(held) = self.lock(slot, seat) else { continue };
            let is_free = self.look(reader, chosen, slot)?.contains(&seat);
            STILL_FREE.with(if is_free { Luck::was_right } else { Luck::was_wrong });
            if is_free {
                return Ok(Some(held));
            }
            // Others are at work here: what was read ahead is out of date.
            self.window.forget();
        }
        Ok(None)
    }

    /// A seat of a candidate. Where `can_tell` and nobody else is at work here as a rule, it is not looked at again: the index
    /// says the same when it is written.
    fn hold_first(
        &mut self,
        reader: &mut Reader,
        can_tell: bool,
        candidate: &Candidate,
    ) -> Result<Option<(HeldSeat, Known)>, Fault> {
        let slot = &candidate.slot;
        let first = candidate
            .seats
            .first()
            .filter(|_| can_tell && STILL_FREE.with(Luck::is_good));
        if let Some(held) = first.and_then(|&seat| self.lock(slot, seat)) {
            return Ok(Some((held, Known::Nothing)));
        }
        let held = self.hold(reader, &BTreeSet::new(), slot, &candidate.seats)?;
        Ok(held.map(|held| (held, Known::Free)))
    }

    /// This seat, locked but not looked at again: the caller does that for many at once.
    pub(crate) fn lock(&self, slot: &Slot, seat: i16) -> Option<HeldSeat> {
        let lock = Brief::try_acquire(&self.seat_key(slot.granule, seat))?;
        Some(HeldSeat {
            slot: slot.clone(),
            seat,
            full_before: None,
            _lock: lock,
        })
    }

    /// Others have booked in this queue: what was read ahead is out of date.
    pub(crate) fn forget(&mut self) {
        self.window.forget();
    }

    /// A seat that was counted as ours is held by somebody else: see [`Search::distrust`].
    pub(crate) fn distrust(&mut self) {
        self.window.forget();
        self.search.distrust();
    }

    /// So many seats of the slot that [`Seeker::next`] gave last are booked now.
    pub(crate) fn took(&mut self, seats: usize) {
        self.search.took(seats);
    }

    /// Takes the first seat that can be had, with `write`. Where `write` can tell of what is held, it may be asked before
    /// anybody has looked with the seat's lock.
    pub(crate) fn take_first(
        &mut self,
        reader: &mut Reader,
        can_tell: bool,
        mut write: impl FnMut(&HeldSeat, Known) -> Result<Option<i64>, Fault>,
    ) -> Result<Taken, Fault> {
        while let Some(candidate) = self.next(reader, &BTreeSet::new())? {
            let Some((mut held, known)) = self.hold_first(reader, can_tell, &candidate)? else {
                continue;
            };
            held.full_before = self.full_before()?;
            let booked = write(&held, known)?;
            if known == Known::Nothing {
                STILL_FREE.with(if booked.is_some() {
                    Luck::was_right
                } else {
                    Luck::was_wrong
                });
            }
            let Some(booking_id) = booked else {
                return Ok(Taken::Lost);
            };
            self.took(1);
            return Ok(Taken::Seat {
                slot: held.slot,
                booking_id,
            });
        }
        Ok(Taken::Full)
    }

    /// How far the queue is full before the seat that was found last, for the booking that takes it.
    pub(crate) fn full_before(&self) -> Result<Option<FullBefore>, Fault> {
        let reached = self.search.reached().filter(|_| self.places == Places::of(self.queue));
        // Others leave their holes for the version before as long as this one is not committed.
        match reached {
            Some(reach) if queue::is_committed(self.queue)? => Ok(Some(FullBefore::new(self.queue, &reach))),
            _ => Ok(None),
        }
    }

    fn seat_key(&self, granule: i64, seat: i16) -> Key<'static> {
        Key::Seat {
            queue_id: self.queue.queue_id,
            granule,
            seat,
        }
    }

    /// Takes this slot, if it has a seat, with `write`. Where `write` can tell of what is held, it may be asked before
    /// anybody has looked.
    pub(crate) fn take_this(
        &mut self,
        reader: &mut Reader,
        slot: &Slot,
        can_tell: bool,
        mut write: impl FnMut(&HeldSeat, Known) -> Result<Option<i64>, Fault>,
    ) -> Result<Taken, Fault> {
        let nothing = BTreeSet::new();
        let mut first = None;
        if slot.capacity == 1 {
            // There is one seat to lock: one look, under the lock, says what two would. Where another session has the lock
            // it is inserting there.
            first = self.lock(slot, 0);
            let Some(held) = &first else {
                return Ok(Taken::Full);
            };
            if can_tell && ASKED_FOR.with(Luck::is_good) {
                // And none says as much, where the index is asked by the insert itself.
                if let Some(booking_id) = write(held, Known::Nothing)? {
                    ASKED_FOR.with(Luck::was_right);
                    return Ok(Taken::Seat {
                        slot: slot.clone(),
                        booking_id,
                    });
                }
            }
        }
        let seats = self.look(reader, &nothing, slot)?;
        if can_tell {
            ASKED_FOR.with(if seats.is_empty() {
                Luck::was_wrong
            } else {
                Luck::was_right
            });
        }
        let held = match first {
            Some(held) if seats.contains(&0) => Some(held),
            _ => self.hold(reader, &nothing, slot, &seats)?,
        };
        let Some(held) = held else {
            return Ok(Taken::Full);
        };
        Ok(match write(&held, Known::Free)? {
            Some(booking_id) => Taken::Seat {
                slot: held.slot,
                booking_id,
            },
            None => Taken::Lost,
        })
    }

    /// Stores what the search has found out.
    pub(crate) fn keep_findings(&mut self, reader: &mut Reader) -> Result<(), Fault> {
        let findings = self.search.findings();
        keep_findings(reader, self.queue, self.places == Places::Granules, findings)
    }

    /// Stores what several searches over the same places have found out: little more than one of them, for each row of a
    /// transaction that rewrites its runs again and again is in the way of the next search.
    pub(crate) fn keep_findings_of<'s>(
        seekers: impl Iterator<Item = &'s mut Self>,
        reader: &mut Reader,
    ) -> Result<(), Fault>
    where
        'q: 's,
    {
        let (mut over, mut runs, mut stale) = (None, Vec::new(), BTreeSet::new());
        for seeker in seekers {
            let (full, holes) = seeker.search.findings();
            runs.extend(full);
            stale.extend(holes);
            over = Some((seeker.queue, seeker.places));
        }
        let Some((queue, places)) = over else { return Ok(()) };
        let findings = (apart(runs), stale.into_iter().collect());
        keep_findings(reader, queue, places == Places::Granules, findings)
    }
}
