//! Finding what is due, oldest first.
//!
//! Two indexes are read side by side: `booking_due` has what was never handed out, `publication_wake` what was: leases
//! that ran out, retries, moved contents. Their first entries are the oldest.
//!
//! Entries that lead nowhere would be walked over by every claim: due contents of a paused queue, and, while somebody
//! holds an old snapshot open, entries of rows that are long gone. So a backend that had to walk far remembers where
//! the first content stood that was anybody's to take, and starts there for a while: fifty times as long as the walk took.
//! Walking then costs at most one part in fifty, and what came to lie before that place meanwhile (a queue resumed, a
//! transaction committed late) is found after that while. Short walks leave nothing behind: they always see everything.

use crate::booking::Booking;
use crate::fault::Fault;
use crate::pg::scan::{Found, IndexScan, Key, Order, See};
use slotkeeper_core::Instant;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time;

/// A walk over more entries than this leaves a floor.
const LONG_WALK: u64 = 256;

/// A floor is good for so many times as long as the walk took.
const FLOOR_LASTS: u32 = 50;

/// So many different sets of platforms have floors in one backend.
const FLOORS: usize = 64;

/// Where walks start.
#[derive(Clone, Copy)]
struct Floor {
    fresh: Instant,
    woken: Instant,
    until: time::Instant,
}

thread_local! {
    static KNOWN: RefCell<HashMap<u64, Floor>> = RefCell::new(HashMap::new());
}

/// Which index an entry is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Never handed out.
    Fresh,
    /// Handed out before.
    Woken,
}

/// Something that is due, as it looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) due_at: Instant,
    pub(crate) booking_id: i64,
    pub(crate) queue_id: i64,
    /// Another open transaction is at it.
    pub(crate) busy: bool,
}

impl Entry {
    /// What the ledger's index has of a booking that was never handed out.
    pub(crate) fn fresh(booking: &Booking) -> Self {
        Self {
            kind: Kind::Fresh,
            due_at: booking.scheduled_at,
            booking_id: booking.booking_id,
            queue_id: booking.queue_id,
            busy: false,
        }
    }
}

struct Source {
    kind: Kind,
    scan: IndexScan,
    ahead: Option<Entry>,
    done: bool,
}

impl Source {
    fn open(kind: Kind, from: Instant, now: Instant) -> Result<Self, Fault> {
        let (table, index) = match kind {
            Kind::Fresh => (c"booking", c"booking_due"),
            Kind::Woken => (c"publication", c"publication_wake"),
        };
        let mut scan = IndexScan::open(table, index, 2, See::Uncommitted)?.counting();
        scan.search(
            &[(1, Key::AtLeastTime(from)), (1, Key::AtMostTime(now))],
            Order::Ascending,
        );
        Ok(Self {
            kind,
            scan,
            ahead: None,
            done: false,
        })
    }

    fn peek(&mut self) -> Result<Option<Entry>, Fault> {
        if self.ahead.is_none() && !self.done {
            match self.scan.next() {
                None => self.done = true,
                Some(row) => {
                    self.ahead = Some(Entry {
                        kind: self.kind,
                        due_at: row.instant(1)?,
                        booking_id: row.get(2)?,
                        queue_id: row.get(3)?,
                        busy: row.inserter().is_some() || row.changer().is_some(),
                    });
                }
            }
        }
        Ok(self.ahead)
    }
}

/// A walk over what is due.
pub(crate) struct Walk {
    now: Instant,
    key: u64,
    fresh: Source,
    woken: Source,
    at: Option<Entry>,
    /// Where each source's first entry stood that somebody could take.
    pending: [Option<Instant>; 2],
    started: time::Instant,
    took: Option<time::Duration>,
    floor: Option<Floor>,
}

impl Walk {
    /// Begins at the oldest. `key` tells walks apart that leave out different platforms.
    pub(crate) fn begin(now: Instant, key: u64) -> Result<Self, Fault> {
        let started = time::Instant::now();
        let floor = KNOWN.with_borrow(|known| known.get(&key).copied());
        let floor = floor.filter(|floor| floor.until > started);
        let (fresh, woken) = floor.map_or((Instant::MIN, Instant::MIN), |floor| (floor.fresh, floor.woken));
        Ok(Self {
            now,
            key,
            fresh: Source::open(Kind::Fresh, fresh, now)?,
            woken: Source::open(Kind::Woken, woken, now)?,
            at: None,
            pending: [None, None],
            started,
            took: None,
            floor,
        })
    }

    /// The next entry.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Fault> {
        match self.at.map(|at| at.kind) {
            Some(Kind::Fresh) => self.fresh.ahead = None,
            Some(Kind::Woken) => self.woken.ahead = None,
            None => {}
        }
        let entries = [self.fresh.peek()?, self.woken.peek()?];
        self.at = entries
            .into_iter()
            .flatten()
            .min_by_key(|entry| (entry.due_at, entry.booking_id));
        Ok(self.at)
    }

    /// The row of the entry that the walk has reached.
    pub(crate) fn row(&self, kind: Kind) -> Found<'_> {
        match kind {
            Kind::Fresh => self.fresh.scan.current(),
            Kind::Woken => self.woken.scan.current(),
        }
    }

    /// Whether the content that the walk has reached, and that was never handed out, is still due, and committed, and nobody is
    /// at it: under the lock that others need to change it.
    pub(crate) fn is_still_due(&self) -> bool {
        self.fresh.scan.is_still()
    }

    /// The entry that the walk has reached is somebody's to take: no floor may lie behind it.
    pub(crate) fn is_pending(&mut self) {
        let Some(at) = self.at else { return };
        let Some(first) = self.pending.get_mut(at.kind as usize) else {
            return;
        };
        if first.is_none() {
            *first = Some(at.due_at);
            self.took.get_or_insert_with(|| self.started.elapsed());
        }
    }

    /// Remembers where the next walk may start.
    pub(crate) fn leave_floor(self) {
        let walked = self.fresh.scan.steps() + self.woken.scan.steps();
        if self.floor.is_none() && walked <= LONG_WALK {
            return;
        }
        let took = self.took.unwrap_or_else(|| self.started.elapsed());
        let until = self
            .floor
            .map_or(self.started + took * FLOOR_LASTS, |floor| floor.until);
        // A source that was not read to its end has its next entry ahead.
        let place = |source: &Source, pending: Option<Instant>| {
            let unread = source.ahead.map(|entry| entry.due_at);
            pending.or(unread).unwrap_or(self.now)
        };
        let floor = Floor {
            fresh: place(&self.fresh, self.pending[0]),
            woken: place(&self.woken, self.pending[1]),
            until,
        };
        KNOWN.with_borrow_mut(|known| {
            if known.len() >= FLOORS {
                known.clear();
            }
            known.insert(self.key, floor);
        });
    }
}

/// Looks again whether something is due, and committed, and nobody is at it: under the lock that others need to change
/// it.
#[derive(Default)]
pub(crate) struct Again([Option<IndexScan>; 2]);

impl Again {
    pub(crate) fn is_due(&mut self, entry: &Entry) -> Result<bool, Fault> {
        let (place, table, index, due_at) = match entry.kind {
            Kind::Fresh => (&mut self.0[0], c"booking", c"booking_pkey", c"scheduled_at"),
            Kind::Woken => (&mut self.0[1], c"publication", c"publication_pkey", c"wake_at"),
        };
        if place.is_none() {
            *place = Some(IndexScan::open(table, index, 1, See::Uncommitted)?);
        }
        let Some(scan) = place else { return Ok(false) };
        scan.search(&[(1, Key::Is(entry.booking_id))], Order::Ascending);
        // The first is enough, see `turn`; the scan stays on it.
        let Some(row) = scan.next() else { return Ok(false) };
        Ok(row.inserter().is_none()
            && row.changer().is_none()
            && row.time(due_at)? == Some(entry.due_at)
            && (entry.kind == Kind::Woken || (row.is_null(c"released_at")? && row.is_null(c"claimed_at")?)))
    }
    /// The row that was looked at last.
    pub(crate) fn row(&self, kind: Kind) -> Option<Found<'_>> {
        self.0.get(kind as usize)?.as_ref().map(IndexScan::current)
    }
}
