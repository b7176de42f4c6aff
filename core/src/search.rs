//! The earliest free seat of a queue, found without walking over the bookings ahead.
//!
//! The search walks the grid of slots from the asked instant. Where a full run (see [`crate::run`]) covers a slot it
//! jumps over it, stopping only at holes. What it had to walk over it offers as a new
//! run, so that the next search need not. `docs/design.md` tells why no hole is ever missed.

use crate::run::{Chain, Reach, Run, SWALLOW_RATIO, WORTH_WRITING};
use crate::seat;
use crate::slots::{Slot, Slots};
use crate::zone::Zone;
use crate::{Instant, MICROS_PER_SEC};

/// Held slots that are simply walked over after a long run before the ledger is asked for another: most often none follows.
const PATIENCE: u32 = 2;

/// A run this short has no right neighbour as a rule: that would have swallowed it. What is walked over after it, by every
/// search, is less than is worth writing.
const LONG_RUN: i64 = SWALLOW_RATIO * WORTH_WRITING;

/// One held seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its seat number in the granule.
    pub seat: i16,
    /// Held by a committed booking (or the caller's own) that nobody is about to give back. A seat that is not firm
    /// belongs to a transaction still open, and may be free again at any moment.
    pub firm: bool,
}

/// A granule in which a seat was given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The granule.
    pub granule: i64,
    /// The ledger's handles of the rows that say so.
    pub ids: Vec<u64>,
}

/// What a search needs to know of the bookings of one queue. Reads see the present, uncommitted rows of others included.
pub trait Ledger {
    /// Why a read failed.
    type Error;
    /// The seats held in `granule`, ascending, appended to `held`. Called for ascending granules mostly, so that an
    /// implementation may read ahead.
    fn held_in(&mut self, granule: i64, held: &mut Vec<Held>) -> Result<(), Self::Error>;
    /// The same, from nothing that was read ahead.
    fn look_afresh(&mut self, granule: i64, held: &mut Vec<Held>) -> Result<(), Self::Error>;
    /// The first hole in the granules `from..to`.
    fn first_hole(&mut self, from: i64, to: i64) -> Result<Option<Hole>, Self::Error>;
    /// A run that covers `granule`; the longest reaching where there are several.
    fn run_covering(&mut self, granule: i64) -> Result<Option<Run>, Self::Error>;
    /// The first run that begins at `granule` or after it.
    fn run_after(&mut self, granule: i64) -> Result<Option<Run>, Self::Error>;
    /// What a short look at the last bookings says, for a search that begins at `granule`.
    fn last_bookings(&mut self, _granule: i64) -> Result<LastBookings, Self::Error> {
        Ok(LastBookings::Nothing)
    }
}

/// What the last bookings of a queue say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastBookings {
    /// Nothing that helps.
    Nothing,
    /// Little is booked at all from where the search begins: all of it was read, and walking over it costs nothing.
    All,
    /// From where the search begins the queue is full so far, but for holes. All that is booked behind it was read.
    FullTo(Reach),
}

/// The places where a content may go, ascending.
pub trait Grid {
    /// The next place is the first one at or after `from`.
    fn seek(&mut self, from: Instant);
    /// The next place.
    fn next(&mut self) -> Option<Slot>;
    /// The place in this granule.
    fn at(&mut self, granule: i64) -> Option<Slot>;
}

impl<G: Grid + ?Sized> Grid for Box<G> {
    fn seek(&mut self, from: Instant) {
        (**self).seek(from);
    }
    fn next(&mut self) -> Option<Slot> {
        (**self).next()
    }
    fn at(&mut self, granule: i64) -> Option<Slot> {
        (**self).at(granule)
    }
}

impl<Z: Zone> Grid for Slots<'_, Z> {
    fn seek(&mut self, from: Instant) {
        Slots::seek(self, from);
    }
    fn next(&mut self) -> Option<Slot> {
        Slots::next(self)
    }
    fn at(&mut self, granule: i64) -> Option<Slot> {
        self.slot_in_granule(granule)
    }
}

/// Every granule is a place: the grid of free-form bookings. A granule that holds a slot of the timetable has that
/// slot's instant and capacity, any other its own start and one seat.
pub struct EveryGranule<'a, Z> {
    slots: Slots<'a, Z>,
    granule_secs: i64,
    next_granule: i64,
    next_slot: Option<Slot>,
}

impl<'a, Z: Zone> EveryGranule<'a, Z> {
    /// The granules of a queue with these slots.
    pub fn new(slots: Slots<'a, Z>, granule_secs: i64) -> Self {
        Self {
            slots,
            granule_secs,
            next_granule: 0,
            next_slot: None,
        }
    }

    fn plain(&self, granule: i64) -> Option<Slot> {
        let at = granule_start(granule, self.granule_secs)?;
        Some(Slot {
            at,
            granule,
            capacity: 1,
            slot_ref: None,
        })
    }
}

impl<Z: Zone> Grid for EveryGranule<'_, Z> {
    fn seek(&mut self, from: Instant) {
        let size = self.granule_secs * MICROS_PER_SEC;
        let granule = from.div_euclid(size);
        // A granule that has begun counts where its slot is still to come.
        let begun = from.rem_euclid(size) != 0;
        let slot_ahead = begun && self.slots.slot_in_granule(granule).is_some_and(|slot| slot.at >= from);
        self.next_granule = granule + i64::from(begun && !slot_ahead);
        self.slots.seek(self.next_granule.saturating_mul(size));
        self.next_slot = self.slots.next();
    }

    fn next(&mut self) -> Option<Slot> {
        let granule = self.next_granule;
        self.next_granule += 1;
        match &self.next_slot {
            Some(slot) if slot.granule == granule => std::mem::replace(&mut self.next_slot, self.slots.next()),
            _ => self.plain(granule),
        }
    }

    fn at(&mut self, granule: i64) -> Option<Slot> {
        self.slots.slot_in_granule(granule).or_else(|| self.plain(granule))
    }
}

/// The first instant of a granule; `None` beyond what 64 bits hold.
pub fn granule_start(granule: i64, granule_secs: i64) -> Option<Instant> {
    granule.checked_mul(granule_secs)?.checked_mul(MICROS_PER_SEC)
}

/// A slot with free seats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The slot.
    pub slot: Slot,
    /// Seats that may be taken, in the order to try them; never empty.
    pub seats: Vec<i16>,
    hole: Vec<u64>,
}

/// What is known of one slot.
enum Look {
    Free(Vec<i16>),
    Full { firm: bool },
}

/// A search in progress. [`Search::next`] yields slots with free seats, earliest first, until the horizon.
pub struct Search<G> {
    grid: G,
    granule_secs: i64,
    from: Instant,
    until: Instant,
    own: Option<(i64, i16)>,
    patience: u32,
    ahead: Ahead,
    inside: Option<Inside>,
    offered: Option<Offer>,
    chain: Chain,
    stale: Vec<u64>,
    held: Vec<Held>,
}

/// The search is inside a run, of which it visits only the holes.
struct Inside {
    next_granule: i64,
    to: i64,
    /// Held slots to walk over after it before another run is asked for.
    patience: u32,
    /// What is known then of the runs ahead.
    ahead: Ahead,
}

/// What is known of the runs ahead.
#[derive(Clone, Copy)]
enum Ahead {
    /// Nothing was looked up yet: the last bookings come first.
    Unasked,
    /// Not looked up yet. After a jump the next one begins here or later: what began before reaches further by a few steps
    /// at most.
    Unknown {
        since: Option<i64>,
    },
    Run(Run),
    Nothing,
}

impl Ahead {
    fn of(run: Option<Run>) -> Self {
        run.map_or(Self::Nothing, Self::Run)
    }
}

struct Offer {
    granule: i64,
    /// Seats offered: as many as the slot has left.
    seats: usize,
    /// Whether the seats that were not offered are held firmly.
    others_firm: bool,
    hole: Vec<u64>,
    walked: bool,
}

impl<G: Grid> Search<G> {
    /// Looks for places at or after `from` and not after `until`.
    pub fn new(mut grid: G, granule_secs: i64, from: Instant, until: Instant) -> Self {
        grid.seek(from);
        Self {
            grid,
            granule_secs,
            from,
            until,
            own: None,
            patience: 0,
            ahead: Ahead::Unasked,
            inside: None,
            offered: None,
            chain: Chain::default(),
            stale: Vec::new(),
            held: Vec::new(),
        }
    }

    /// The seat that the content to be moved holds itself counts as free.
    pub fn ignoring(mut self, granule: i64, seat: i16) -> Self {
        self.own = Some((granule, seat));
        self
    }

    /// The next slot with a free seat.
    pub fn next<L: Ledger>(&mut self, ledger: &mut L) -> Result<Option<Candidate>, L::Error> {
        self.settle_offer(0);
        loop {
            let (slot, hole) = match self.next_place(ledger)? {
                Place::Slot(slot, hole) => (slot, hole),
                Place::Jumped => continue,
                Place::End => return Ok(None),
            };
            self.held.clear();
            if self.inside.is_some() {
                // After the hole was read: only a slot that is full again *since* makes it stale.
                ledger.look_afresh(slot.granule, &mut self.held)?;
            } else {
                ledger.held_in(slot.granule, &mut self.held)?;
            }
            match self.judge(&slot) {
                Look::Free(seats) => {
                    self.offered = Some(Offer {
                        granule: slot.granule,
                        seats: seats.len(),
                        others_firm: self.held.iter().all(|h| h.firm),
                        hole: hole.clone(),
                        walked: self.inside.is_none(),
                    });
                    return Ok(Some(Candidate { slot, seats, hole }));
                }
                // A hole whose slot is firmly full again is stale: whoever frees it next leaves a new one.
                Look::Full { firm: true } if self.inside.is_some() => self.stale.extend(hole),
                Look::Full { .. } if self.inside.is_some() => {}
                Look::Full { firm: true } => self.chain.full(slot.granule),
                Look::Full { firm: false } => self.chain.cut(),
            }
        }
    }

    /// Looks again at a slot that was offered: what others did meanwhile shows.
    pub fn look_again<L: Ledger>(&mut self, ledger: &mut L, slot: &Slot) -> Result<Vec<i16>, L::Error> {
        self.held.clear();
        ledger.look_afresh(slot.granule, &mut self.held)?;
        Ok(match self.judge(slot) {
            Look::Free(seats) => seats,
            Look::Full { .. } => Vec::new(),
        })
    }

    /// The caller booked this many seats of the slot that was offered last.
    pub fn took(&mut self, seats: usize) {
        self.settle_offer(seats);
    }

    /// A seat that was reported as taken was somebody else's after all, who may not have committed: nothing that this
    /// search has concluded so far is told to others.
    pub fn distrust(&mut self) {
        self.chain = Chain::default();
        self.stale.clear();
        if let Some(offer) = &mut self.offered {
            offer.others_firm = false;
        }
    }

    /// What is full without a gap from where the search began, for the booking of the slot that was offered last.
    pub fn reached(&self) -> Option<Reach> {
        let at_end = self.own.is_none() && self.offered.as_ref().is_some_and(|offer| offer.walked);
        self.chain.reached().filter(|_| at_end)
    }

    /// Runs worth storing and handles of holes that are stale, after the search.
    pub fn findings(&mut self) -> (Vec<Run>, Vec<u64>) {
        self.settle_offer(0);
        (self.chain.take_new_runs(), std::mem::take(&mut self.stale))
    }

    fn settle_offer(&mut self, taken: usize) {
        let Some(offer) = self.offered.take() else { return };
        let full = taken >= offer.seats && offer.others_firm;
        match (offer.walked, full) {
            (true, true) => self.chain.full(offer.granule),
            (true, false) => self.chain.cut(),
            (false, true) => self.stale.extend(offer.hole),
            (false, false) => {}
        }
    }

    fn next_place<L: Ledger>(&mut self, ledger: &mut L) -> Result<Place, L::Error> {
        if let Some(inside) = &mut self.inside {
            let own = self
                .own
                .map(|(granule, _)| granule)
                .filter(|g| (inside.next_granule..inside.to).contains(g));
            let hole = ledger.first_hole(inside.next_granule, own.map_or(inside.to, |g| g + 1))?;
            // The caller's own seat is as good as a hole.
            let Some(hole) = hole.or(own.map(|granule| Hole {
                granule,
                ids: Vec::new(),
            })) else {
                if let Some(end) = granule_start(inside.to, self.granule_secs) {
                    self.grid.seek(end.max(self.from));
                    // Another run may go on from here. Most often none does, so a short walk comes first again.
                    self.ahead = inside.ahead;
                    self.patience = inside.patience;
                    self.inside = None;
                    return Ok(Place::Jumped);
                }
                return Ok(Place::End);
            };
            inside.next_granule = hole.granule + 1;
            return Ok(match self.grid.at(hole.granule) {
                Some(slot) if slot.at > self.until => Place::End,
                Some(slot) if slot.at >= self.from => Place::Slot(slot, hole.ids),
                _ => Place::Jumped,
            });
        }
        let Some(slot) = self.grid.next() else {
            return Ok(Place::End);
        };
        if slot.at > self.until {
            return Ok(Place::End);
        }
        if self.patience > 0 {
            self.patience -= 1;
        } else if let Some(inside) = self.jump_from(ledger, slot.granule)? {
            self.inside = Some(inside);
            return Ok(Place::Jumped);
        }
        Ok(Place::Slot(slot, Vec::new()))
    }

    /// Where a jump over full slots leads from `granule`, if there is one.
    fn jump_from<L: Ledger>(&mut self, ledger: &mut L, granule: i64) -> Result<Option<Inside>, L::Error> {
        if let Ahead::Unasked = self.ahead {
            self.ahead = Ahead::Unknown { since: None };
            match ledger.last_bookings(granule)? {
                LastBookings::FullTo(reach) if (reach.run.from..reach.run.to).contains(&granule) => {
                    self.chain.begin(reach);
                    return Ok(Some(Inside {
                        next_granule: granule,
                        to: reach.run.to,
                        patience: 0,
                        ahead: Ahead::Nothing,
                    }));
                }
                LastBookings::All => self.ahead = Ahead::Nothing,
                LastBookings::FullTo(_) | LastBookings::Nothing => {}
            }
        }
        let Some(run) = self.run_over(ledger, granule)? else {
            return Ok(None);
        };
        self.chain.jump(run);
        Ok(Some(Inside {
            next_granule: granule,
            to: run.to,
            patience: if run.slots > LONG_RUN {
                PATIENCE
            } else {
                WORTH_WRITING as u32
            },
            ahead: Ahead::Unknown { since: Some(run.to) },
        }))
    }

    /// The stored run that `granule` lies in.
    fn run_over<L: Ledger>(&mut self, ledger: &mut L, granule: i64) -> Result<Option<Run>, L::Error> {
        match self.ahead {
            Ahead::Run(run) if run.to > granule => {}
            Ahead::Nothing => return Ok(None),
            Ahead::Unasked => {}
            Ahead::Run(_) => self.ahead = Ahead::of(ledger.run_after(granule)?),
            Ahead::Unknown { since: None } => {
                let run = match ledger.run_covering(granule)? {
                    Some(run) => Some(run),
                    None => ledger.run_after(granule)?,
                };
                self.ahead = Ahead::of(run);
            }
            Ahead::Unknown { since: Some(since) } => self.ahead = Ahead::of(ledger.run_after(since)?),
        }
        Ok(match self.ahead {
            Ahead::Run(run) if (run.from..run.to).contains(&granule) => Some(run),
            _ => None,
        })
    }

    /// What the seats in `self.held` leave free of a slot.
    fn judge(&self, slot: &Slot) -> Look {
        let own = self
            .own
            .filter(|(granule, _)| *granule == slot.granule)
            .map(|(_, seat)| seat);
        let held = self.held.iter().filter(|h| Some(h.seat) != own);
        let taken: Vec<i16> = held.clone().map(|h| h.seat).collect();
        let mut free: Vec<i16> = seat::free_seats(slot.capacity, &taken).collect();
        // Who stays in the granule stays in his seat, where he may.
        if let Some(position) = free.iter().position(|&seat| Some(seat) == own) {
            free.swap(0, position);
        }
        if !free.is_empty() {
            return Look::Free(free);
        }
        let firm = held.clone().all(|h| h.firm) || {
            let firmly: Vec<i16> = held.filter(|h| h.firm).map(|h| h.seat).collect();
            seat::free_seat(slot.capacity, &firmly).is_none()
        };
        // A seat that this very search disregards must not make a run that others believe.
        Look::Full {
            firm: firm && own.is_none(),
        }
    }
}

enum Place {
    Slot(Slot, Vec<u64>),
    Jumped,
    End,
}
