//! What bookings say of those before them: how far their queue was full when they were made. The last ones of a queue so tell a
//! search where the next free seat is, whoever booked them, and nothing is written for it but the booking itself.
//!
//! It is what a full run says (see `docs/design.md`), and as true: of seats that were held for good then, each is still held, or
//! whoever gave it back has left a hole. It counts from the moment at which the booking is committed: what its own transaction had
//! booked before is committed with it, and rolled back with it, also where savepoints are.

use crate::fault::Fault;
use crate::pg::scan::{Found, IndexScan, Key, Order};
use crate::queue::Queue;
use slotkeeper_core::run::{Reach, Run};
use slotkeeper_core::search::Held;

/// So many bookings are read from the end of a queue at most, and so many that are committed and say nothing.
const MOST_FROM_END: usize = 64;
const MOST_SILENT: usize = 4;

/// How far a queue was full when a seat was booked, as the booking says it: see [`Reach`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct FullBefore {
    /// Of the queue.
    pub(crate) version: i64,
    pub(crate) from: i64,
    pub(crate) stored_to: i64,
    pub(crate) to: i64,
}

impl FullBefore {
    pub(crate) fn new(queue: &Queue, reach: &Reach) -> Self {
        Self {
            version: queue.version,
            from: reach.run.from,
            stored_to: reach.stored_to,
            to: reach.run.to,
        }
    }

    fn said_by(row: &Found<'_>) -> Result<Option<Self>, Fault> {
        let Some(version) = row.column(c"full_version")? else {
            return Ok(None);
        };
        Ok(Some(Self {
            version,
            from: row.must_have(c"full_from")?,
            stored_to: row.must_have(c"full_stored_to")?,
            to: row.must_have(c"full_to")?,
        }))
    }

    fn covers(&self, queue: &Queue, granule: i64) -> bool {
        self.version == queue.version && (self.from..self.to).contains(&granule)
    }

    /// How many slots these are is not said: most lie this many granules apart.
    pub(crate) fn reach(&self, step: i64) -> Reach {
        let slots = |from: i64, to: i64| (to - from).div_euclid(step.max(1)).max(1);
        let walked = match self.stored_to < self.to {
            true => slots(self.stored_to, self.to),
            false => 0,
        };
        Reach {
            run: Run {
                from: self.from,
                to: self.to,
                slots: slots(self.from, self.to).max(walked),
            },
            stored_to: self.stored_to,
            walked,
        }
    }
}

/// What the last bookings of a queue say.
pub(crate) enum Said {
    /// That it is full so far; no booking behind that was left out.
    Full(FullBefore),
    /// Nothing, and there are no others.
    All,
    /// One has to read on, down to this granule.
    Below(i64),
    /// There are too many that say nothing.
    Nothing,
}

/// Reads the bookings of a queue backwards, for a search that begins at the granule `start`, until one says that the queue is full
/// from there on; not below the granule `low`. Appends (granule, seat) of those that it doesn't cover, the last first.
pub(crate) fn read_back(
    scan: &mut IndexScan,
    queue: &Queue,
    start: i64,
    low: i64,
    rows: &mut Vec<(i64, Held)>,
) -> Result<Said, Fault> {
    let keys = [
        (1, Key::Is(queue.queue_id)),
        (2, Key::AtLeast(low)),
        (2, Key::AtMost(i64::MAX)),
    ];
    scan.search(&keys, Order::Descending);
    let (mut found, mut silent): (Option<FullBefore>, usize) = (None, 0);
    while let Some(row) = scan.next() {
        let granule: i64 = row.get(2)?;
        if found.is_some_and(|full| granule < full.to) {
            break;
        }
        let is_committed = row.inserter().is_none();
        // What an open transaction says may be rolled back with it.
        if is_committed && found.is_none() {
            found = FullBefore::said_by(&row)?.filter(|full| full.covers(queue, start));
            silent += usize::from(found.is_none());
        }
        if silent > MOST_SILENT || rows.len() >= MOST_FROM_END {
            return Ok(Said::Nothing);
        }
        if found.is_none_or(|full| granule >= full.to) {
            let (seat, firm) = (row.get(3)?, is_committed && row.changer().is_none());
            rows.push((granule, Held { seat, firm }));
        }
    }
    Ok(match found {
        Some(full) if full.to < low => Said::Below(full.to.max(start)),
        Some(full) => Said::Full(full),
        None if low > start => Said::Below(start),
        None => Said::All,
    })
}
