//! Brings a content to a wished instant, or as near as the wish allows.

use crate::arguments::OnConflict;
use crate::booking::{self, Booking, Content, Other};
use crate::fault::Fault;
use crate::ledger::Reader;
use crate::place::{HeldSeat, Known, Places, Seeker, Taken};
use crate::queue::Queue;
use slotkeeper_core::Instant;
use slotkeeper_core::slots::Slot;
use std::collections::BTreeSet;

/// An instant that somebody wants, and what to do where it is taken.
#[derive(Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) at: Instant,
    pub(crate) on_conflict: OnConflict,
    pub(crate) dry_run: bool,
    /// The time of a row that the application stores: it stays as it is where nothing holds it, also in the past and
    /// beyond the horizon. Otherwise the past becomes now, and nothing is booked beyond the horizon.
    pub(crate) as_it_is: bool,
}

/// What has become of a wish.
pub(crate) enum Settled {
    /// As wished. No booking id in a dry run of a new content.
    Placed { slot: Slot, booking_id: Option<i64> },
    /// The instant was taken, by this content where it is known.
    Moved {
        slot: Slot,
        booking_id: Option<i64>,
        conflicts_with: Option<Other>,
    },
    /// Nothing is free inside the horizon; the instant itself lies beyond it, or was taken.
    Full { taken: bool, conflicts_with: Option<Other> },
    /// The instant cannot be had, and moving was not wished.
    Conflict {
        reason: &'static str,
        next_free_at: Option<Instant>,
        conflicts_with: Option<Other>,
    },
}

/// A content that looks for its place.
pub(crate) struct Mover<'a> {
    pub(crate) queue: &'a Queue,
    pub(crate) content: Content<'a>,
    /// The booking that moves; none for a new one.
    pub(crate) own: Option<&'a Booking>,
    pub(crate) now: Instant,
}

impl Mover<'_> {
    /// Settles a wish with `write`; `None` where the attempt must start anew.
    pub(crate) fn settle(
        &self,
        wish: &Wish,
        mut write: impl FnMut(&Slot, i16) -> Result<Option<i64>, Fault>,
    ) -> Result<Option<Settled>, Fault> {
        let mut reader = if wish.dry_run {
            Reader::default()
        } else {
            Reader::to_book()
        };
        self.settle_with(
            &mut reader,
            wish,
            false,
            |_| Ok(true),
            |held, _| write(&held.slot, held.seat),
        )
    }

    /// The same with a reader that is open already, and with a `write` that can perhaps tell of what is held. Where the instant
    /// is taken, `goes_on` is asked before anything else comes of it: otherwise the attempt ends with `None`.
    pub(crate) fn settle_with(
        &self,
        reader: &mut Reader,
        wish: &Wish,
        can_tell: bool,
        mut goes_on: impl FnMut(&Slot) -> Result<bool, Fault>,
        mut write: impl FnMut(&HeldSeat, Known) -> Result<Option<i64>, Fault>,
    ) -> Result<Option<Settled>, Fault> {
        let at = if wish.as_it_is { wish.at } else { wish.at.max(self.now) };
        let until = self.queue.horizon(self.now);
        if wish.on_conflict == OnConflict::Reject && at != wish.at {
            return self.conflict("past", at, until).map(Some);
        }
        if at > until && !wish.as_it_is {
            return Ok(Some(Settled::Full {
                taken: false,
                conflicts_with: None,
            }));
        }
        let places = match wish.on_conflict {
            OnConflict::NextSlot => Places::of(self.queue),
            OnConflict::NextFree | OnConflict::Reject => Places::Granules,
        };
        let mut seeker = self.seeker(places, at.saturating_add(1).max(self.now), until);
        let slot = self.slot_at(at);
        let tried = if wish.dry_run {
            self.would_take(&mut seeker, reader, &slot)?
        } else {
            seeker.take_this(reader, &slot, can_tell, &mut write)?
        };
        match tried {
            Taken::Seat { slot, booking_id } => {
                let booking_id = self.shown(wish, booking_id);
                return Ok(Some(Settled::Placed { slot, booking_id }));
            }
            Taken::Lost => return Ok(None),
            Taken::Full if !goes_on(&slot)? => return Ok(None),
            Taken::Full => {}
        }
        if wish.on_conflict == OnConflict::Reject {
            return self.conflict("taken", at, until).map(Some);
        }
        let conflicts_with = booking::other_in(self.queue, slot.granule, &self.content)?;
        let taken = if wish.dry_run {
            match seeker.next(reader, &BTreeSet::new())? {
                Some(candidate) => Taken::Seat {
                    slot: candidate.slot,
                    booking_id: 0,
                },
                None => Taken::Full,
            }
        } else {
            let taken = seeker.take_first(reader, can_tell, write)?;
            if !matches!(taken, Taken::Lost) {
                seeker.keep_findings(reader)?;
            }
            taken
        };
        Ok(match taken {
            Taken::Seat { slot, booking_id } => Some(Settled::Moved {
                slot,
                booking_id: self.shown(wish, booking_id),
                conflicts_with,
            }),
            Taken::Full => Some(Settled::Full {
                taken: true,
                conflicts_with,
            }),
            Taken::Lost => None,
        })
    }

    /// Takes the next seat of the timetable from now on; `None` where the attempt must start anew.
    pub(crate) fn next_slot(
        &self,
        reader: &mut Reader,
        can_tell: bool,
        write: impl FnMut(&HeldSeat, Known) -> Result<Option<i64>, Fault>,
    ) -> Result<Option<Settled>, Fault> {
        let mut seeker = self.seeker(Places::of(self.queue), self.now, self.queue.horizon(self.now));
        let taken = seeker.take_first(reader, can_tell, write)?;
        if !matches!(taken, Taken::Lost) {
            seeker.keep_findings(reader)?;
        }
        Ok(match taken {
            Taken::Seat { slot, booking_id } => Some(Settled::Placed {
                slot,
                booking_id: Some(booking_id),
            }),
            Taken::Full => Some(Settled::Full {
                taken: false,
                conflicts_with: None,
            }),
            Taken::Lost => None,
        })
    }

    fn shown(&self, wish: &Wish, booking_id: i64) -> Option<i64> {
        if wish.dry_run {
            self.own.map(|own| own.booking_id)
        } else {
            Some(booking_id)
        }
    }

    fn would_take(&self, seeker: &mut Seeker<'_>, reader: &mut Reader, slot: &Slot) -> Result<Taken, Fault> {
        let free = !seeker.look(reader, &BTreeSet::new(), slot)?.is_empty();
        Ok(if free {
            Taken::Seat {
                slot: slot.clone(),
                booking_id: 0,
            }
        } else {
            Taken::Full
        })
    }

    fn seeker(&self, places: Places, from: Instant, until: Instant) -> Seeker<'_> {
        let seeker = Seeker::new(self.queue, places, from, until);
        match self.own {
            Some(own) => seeker.ignoring(own.granule, own.seat),
            None => seeker,
        }
    }

    /// The wished instant as a slot: inside the granule of a slot of the timetable it takes one of that slot's seats.
    fn slot_at(&self, at: Instant) -> Slot {
        let granule = self.queue.granule_of(at);
        match self.queue.slots().slot_in_granule(granule) {
            Some(slot) => Slot { at, ..slot },
            None => Slot {
                at,
                granule,
                capacity: 1,
                slot_ref: None,
            },
        }
    }

    fn conflict(&self, reason: &'static str, at: Instant, until: Instant) -> Result<Settled, Fault> {
        let taken = reason == "taken";
        let conflicts_with = if taken {
            booking::other_in(self.queue, self.queue.granule_of(at), &self.content)?
        } else {
            None
        };
        let from = if taken { at.saturating_add(1) } else { at };
        let next = self
            .seeker(Places::Granules, from, until)
            .next(&mut Reader::default(), &BTreeSet::new())?;
        Ok(Settled::Conflict {
            reason,
            next_free_at: next.map(|candidate| candidate.slot.at),
            conflicts_with,
        })
    }
}
