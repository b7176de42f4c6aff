//! The ledger as a search sees it: which seats are held, where the holes and the full runs are.

use crate::fault::Fault;
use crate::full_before::{Said, read_back};
use crate::luck::Luck;
use crate::pg::across_rows::Memory;
use crate::pg::insert::{Columns, Inserter};
use crate::pg::scan::{IndexScan, Key, Order, See, delete_unless_busy};
use crate::pg::statement::Value;
use crate::queue::{Queue, is_provisional};
use slotkeeper_core::run::Run;
use slotkeeper_core::search::{Held, Hole, LastBookings, Ledger};
use std::collections::BTreeSet;

/// So many slots are read ahead at first, and so many at most while a walk goes on: small steps through the index
/// rather than a whole page of it for one seat.
const FIRST_READ: i64 = 16;
const READ_AHEAD: i64 = 64;

/// Rows read ahead at most: free-form bookings may lie densely between two slots.
const READ_AHEAD_ROWS: usize = 256;

/// Open scans, shared by all queues of a call. A scan pins a page only while it is read.
#[derive(Default)]
pub(crate) struct Reader {
    /// Whether a seat that is found is to be booked.
    to_book: bool,
    /// Where scans are opened that are to last longer than the current memory context.
    memory: Option<Memory>,
    seats: Option<IndexScan>,
    runs: Option<IndexScan>,
    holes: Option<IndexScan>,
}

/// The scan, which `open` opens where it is not.
fn opened(
    scan: &mut Option<IndexScan>,
    memory: Option<Memory>,
    open: impl FnOnce() -> Result<IndexScan, Fault>,
) -> Result<&mut IndexScan, Fault> {
    if scan.is_none() {
        *scan = Some(match memory {
            Some(memory) => memory.within(open)?,
            None => open()?,
        });
    }
    scan.as_mut().ok_or_else(|| Fault::Internal("no scan".to_owned()))
}

impl Reader {
    /// A reader for who books.
    pub(crate) fn to_book() -> Self {
        Self {
            to_book: true,
            ..Self::default()
        }
    }

    /// The same, for what lasts as long as this memory.
    pub(crate) fn to_book_in(memory: Memory) -> Self {
        Self {
            memory: Some(memory),
            ..Self::to_book()
        }
    }

    /// A reader for who books, with the scan of seats that [`crate::booking::Bookings`] has opened.
    pub(crate) fn beside(seats: IndexScan) -> Self {
        Self {
            seats: Some(seats),
            ..Self::to_book()
        }
    }

    /// A reader for who books, whose scan of seats is open already.
    pub(crate) fn of_seats() -> Result<Self, Fault> {
        let mut reader = Self::to_book();
        reader.open_seats()?;
        Ok(reader)
    }

    fn open_seats(&mut self) -> Result<&mut IndexScan, Fault> {
        let (table, index) = (c"booking", c"booking_seat");
        opened(&mut self.seats, self.memory, || {
            if self.to_book {
                IndexScan::open_to_write(table, index, 3)
            } else {
                IndexScan::open(table, index, 3, See::Uncommitted)
            }
        })
    }

    /// Appends (granule, seat) of the rows in the granules `from..to`; returns the granule up to which it has read,
    /// `to` or less where there were more than [`READ_AHEAD_ROWS`].
    pub(crate) fn seats(
        &mut self,
        queue_id: i64,
        from: i64,
        to: i64,
        rows: &mut Vec<(i64, Held)>,
    ) -> Result<i64, Fault> {
        let scan = self.open_seats()?;
        scan.search(
            &[(1, Key::Is(queue_id)), (2, Key::AtLeast(from)), (2, Key::Below(to))],
            Order::Ascending,
        );
        while let Some(row) = scan.next() {
            let granule: i64 = row.get(2)?;
            let full = rows.len() >= READ_AHEAD_ROWS;
            if full && rows.last().is_some_and(|(last, _)| *last != granule) {
                return Ok(granule);
            }
            let firm = row.inserter().is_none() && row.changer().is_none();
            rows.push((
                granule,
                Held {
                    seat: row.get(3)?,
                    firm,
                },
            ));
        }
        Ok(to)
    }

    fn first_hole(&mut self, queue: &Queue, on_slot: bool, from: i64, to: i64) -> Result<Option<Hole>, Fault> {
        let scan = opened(&mut self.holes, self.memory, || {
            IndexScan::open(c"hole", c"hole_granule", 5, See::Uncommitted)
        })?;
        let keys = [
            (1, Key::Is(queue.queue_id)),
            (2, Key::Is(queue.version)),
            (3, Key::IsTrue(on_slot)),
            (4, Key::AtLeast(from)),
            (4, Key::Below(to)),
        ];
        scan.search(&keys, Order::Ascending);
        let mut hole: Option<Hole> = None;
        while let Some(row) = scan.next() {
            // An uncommitted hole is a seat that its holder has not given back yet.
            if row.inserter().is_some() {
                continue;
            }
            let (granule, id) = (row.get(4)?, row.id());
            match &mut hole {
                None => hole = Some(Hole { granule, ids: vec![id] }),
                Some(hole) if hole.granule == granule => hole.ids.push(id),
                Some(_) => break,
            }
        }
        Ok(hole)
    }

    /// The committed runs that a condition on their first granule lets through, while `more` wants them. Runs of open
    /// transactions don't count: their seats may be uncommitted too.
    fn runs(
        &mut self,
        queue: &Queue,
        every_granule: bool,
        from_granule: [Key<'_>; 2],
        order: Order,
        mut more: impl FnMut(Run, u64) -> bool,
    ) -> Result<(), Fault> {
        let scan = opened(&mut self.runs, self.memory, || {
            IndexScan::open(c"full_run", c"full_run_from", 5, See::Uncommitted)
        })?;
        let keys = [
            (1, Key::Is(queue.queue_id)),
            (2, Key::Is(queue.version)),
            (3, Key::IsTrue(every_granule)),
            (4, from_granule[0]),
            (4, from_granule[1]),
        ];
        scan.search(&keys, order);
        while let Some(row) = scan.next() {
            if row.inserter().is_some() {
                continue;
            }
            if !more(
                Run {
                    from: row.get(4)?,
                    to: row.get(5)?,
                    slots: row.get(6)?,
                },
                row.id(),
            ) {
                break;
            }
        }
        Ok(())
    }
}

/// Seats of one queue that were read ahead.
#[derive(Default)]
pub(crate) struct Window {
    from: i64,
    to: i64,
    rows: Vec<(i64, Held)>,
    /// The granule that was asked for last, and the smallest step between two questions.
    asked: Option<i64>,
    stride: i64,
    ahead: i64,
    /// The step that is expected where none has been seen.
    usual: i64,
}

impl Window {
    /// Nothing read yet, of places that are this many granules apart as a rule.
    pub(crate) fn with_step(granules: i64) -> Self {
        Self {
            usual: granules,
            ..Self::default()
        }
    }

    /// The next look reads again.
    pub(crate) fn forget(&mut self) {
        (self.from, self.to) = (0, 0);
    }
}

/// One queue's view of the ledger, for one kind of search.
pub(crate) struct QueueLedger<'a> {
    pub(crate) reader: &'a mut Reader,
    pub(crate) queue: &'a Queue,
    /// Whether every granule is a place, or the slots of the timetable only.
    pub(crate) every_granule: bool,
    pub(crate) window: &'a mut Window,
    /// Seats that this call has chosen and not inserted yet.
    pub(crate) chosen: &'a BTreeSet<(i64, i64, i16)>,
    /// Whether most contents of the queue go where this search looks: then bookings say how far it is full.
    pub(crate) is_usual: bool,
}

impl QueueLedger<'_> {
    /// Reads the granules from this one on: a few after a jump, more and more while the walk goes on.
    fn read(&mut self, granule: i64, stride: i64) -> Result<(), Fault> {
        let window = &mut *self.window;
        let walks_on = window.stride > 0 && stride <= 2 * window.stride;
        window.ahead = if walks_on {
            (window.ahead * 2).clamp(FIRST_READ, READ_AHEAD)
        } else {
            FIRST_READ
        };
        let usual = if window.stride > 0 {
            stride.min(window.stride)
        } else {
            stride
        };
        let to = granule.saturating_add(usual.saturating_mul(window.ahead));
        window.rows.clear();
        window.from = granule;
        window.to = self.reader.seats(self.queue.queue_id, granule, to, &mut window.rows)?;
        Ok(())
    }

    fn add_chosen(&self, granule: i64, held: &mut Vec<Held>) {
        let queue_id = self.queue.queue_id;
        let chosen = self
            .chosen
            .range((queue_id, granule, i16::MIN)..=(queue_id, granule, i16::MAX));
        held.extend(chosen.map(|&(_, _, seat)| Held { seat, firm: false }));
        held.sort_unstable_by_key(|h| h.seat);
    }
}

impl Ledger for QueueLedger<'_> {
    type Error = Fault;

    fn held_in(&mut self, granule: i64, held: &mut Vec<Held>) -> Result<(), Fault> {
        let stride = self
            .window
            .asked
            .map_or(self.window.usual, |asked| granule.saturating_sub(asked))
            .max(1);
        if !(self.window.from..self.window.to).contains(&granule) {
            self.read(granule, stride)?;
        }
        if self.window.asked.is_some() {
            self.window.stride = if self.window.stride > 0 {
                stride.min(self.window.stride)
            } else {
                stride
            };
        }
        self.window.asked = Some(granule);
        let rows = &self.window.rows;
        let start = rows.partition_point(|(g, _)| *g < granule);
        held.extend(
            rows[start..]
                .iter()
                .take_while(|(g, _)| *g == granule)
                .map(|(_, held)| *held),
        );
        self.add_chosen(granule, held);
        Ok(())
    }

    fn look_afresh(&mut self, granule: i64, held: &mut Vec<Held>) -> Result<(), Fault> {
        let mut rows = Vec::new();
        self.reader
            .seats(self.queue.queue_id, granule, granule.saturating_add(1), &mut rows)?;
        held.extend(rows.into_iter().map(|(_, held)| held));
        self.add_chosen(granule, held);
        Ok(())
    }

    fn first_hole(&mut self, from: i64, to: i64) -> Result<Option<Hole>, Fault> {
        let on_slot = self.reader.first_hole(self.queue, true, from, to)?;
        if !self.every_granule {
            return Ok(on_slot);
        }
        let beside = self.reader.first_hole(self.queue, false, from, to)?;
        Ok([on_slot, beside].into_iter().flatten().min_by_key(|hole| hole.granule))
    }

    fn run_covering(&mut self, granule: i64) -> Result<Option<Run>, Fault> {
        // Two searches may have written overlapping runs at once, so the nearest is not always the one that covers.
        // Looking past a few finds it; missing it costs time only.
        let (mut found, mut looks): (Option<Run>, i32) = (None, 4);
        let bounds = [Key::AtLeast(i64::MIN), Key::AtMost(granule)];
        self.reader
            .runs(self.queue, self.every_granule, bounds, Order::Descending, |run, _| {
                if run.to > found.map_or(granule, |best| best.to) {
                    found = Some(run);
                }
                looks -= 1;
                looks > 0
            })?;
        Ok(found)
    }

    fn run_after(&mut self, granule: i64) -> Result<Option<Run>, Fault> {
        let mut found: Option<Run> = None;
        let bounds = [Key::AtLeast(granule), Key::AtMost(i64::MAX)];
        self.reader.runs(
            self.queue,
            self.every_granule,
            bounds,
            Order::Ascending,
            |run, _| match found {
                None => {
                    found = Some(run);
                    true
                }
                Some(first) if first.from == run.from => {
                    found = Some(Run {
                        to: first.to.max(run.to),
                        ..first
                    });
                    true
                }
                Some(_) => false,
            },
        )?;
        Ok(found)
    }

    fn last_bookings(&mut self, start: i64) -> Result<LastBookings, Fault> {
        if !self.is_usual {
            return Ok(LastBookings::Nothing);
        }
        if SAYS.with(Luck::is_bad) {
            // Now and then it is tried again.
            SAYS.with(Luck::was_right);
            return Ok(LastBookings::Nothing);
        }
        // An index gives all entries of a page that fit: here those behind what the last search of this backend has read.
        let (mut rows, mut low) = (Vec::new(), self.queue.full_to.get().max(start));
        let said = loop {
            match read_back(self.reader.open_seats()?, self.queue, start, low, &mut rows)? {
                Said::Below(lower) => (low, rows) = (lower, Vec::new()),
                said => break said,
            }
        };
        let (from, said) = match said {
            Said::Full(full) => (full.to, LastBookings::FullTo(full.reach(self.window.usual))),
            Said::All => (start, LastBookings::All),
            Said::Below(_) | Said::Nothing => {
                SAYS.with(Luck::was_wrong);
                return Ok(LastBookings::Nothing);
            }
        };
        SAYS.with(Luck::was_right);
        self.queue.full_to.set(from);
        rows.reverse();
        (self.window.from, self.window.to, self.window.rows) = (from, i64::MAX, rows);
        Ok(said)
    }
}

thread_local! {
    /// Of guesses that the last bookings of a queue say something.
    static SAYS: Luck = const { Luck::new() };
}

static RUN: Columns = Columns {
    table: c"full_run",
    names: &[
        c"queue_id",
        c"version",
        c"every_granule",
        c"from_granule",
        c"to_granule",
        c"slots",
    ],
};

static HOLE: Columns = Columns {
    table: c"hole",
    names: &[c"queue_id", c"version", c"on_slot", c"granule"],
};

/// Inserts one row, which the statements that follow see.
fn add(columns: &'static Columns, values: &[Value<'_>]) -> Result<(), Fault> {
    let mut table = Inserter::open(columns)?;
    table.insert(values)?;
    table.flush();
    Ok(())
}

/// Stores what a search has found out, for the next ones.
pub(crate) fn keep_findings(
    reader: &mut Reader,
    queue: &Queue,
    every_granule: bool,
    (runs, stale_holes): (Vec<Run>, Vec<u64>),
) -> Result<(), Fault> {
    if (runs.is_empty() && stale_holes.is_empty()) || is_provisional(queue)? {
        return Ok(());
    }
    for Run { from, to, slots } in runs {
        let mut inside = Vec::new();
        let bounds = [Key::AtLeast(from), Key::Below(to)];
        reader.runs(queue, every_granule, bounds, Order::Ascending, |run, id| {
            if run.to <= to {
                inside.push(id);
            }
            true
        })?;
        delete_unless_busy(c"full_run", &inside)?;
        let values = [
            Value::Int8(queue.queue_id),
            Value::Int8(queue.version),
            Value::Bool(every_granule),
            Value::Int8(from),
            Value::Int8(to),
            Value::Int8(slots),
        ];
        add(&RUN, &values)?;
    }
    delete_unless_busy(c"hole", &stale_holes)
}

/// Records that a seat in this granule was given back. `queue` must have been read after the booking was changed:
/// then either the version is the one whose runs may cover the seat, or a later version's searches see the change.
pub(crate) fn leave_hole(queue: &Queue, granule: i64) -> Result<(), Fault> {
    let on_slot = queue.slots().slot_in_granule(granule).is_some();
    let values = [
        Value::Int8(queue.queue_id),
        Value::Int8(queue.version),
        Value::Bool(on_slot),
        Value::Int8(granule),
    ];
    add(&HOLE, &values)
}
