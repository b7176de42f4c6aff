//! Taking the turn on what publishing knows of a content. Lock before look: under the brief lock a look that sees rows
//! of open transactions tells whether somebody is at it. Whoever waits for him gives the lock back first, so that
//! nobody ever stands behind one who waits.

use super::look::{self, Publication, Subject, Success};
use crate::booking::{self, Booking, Content};
use crate::fault::Fault;
use crate::pg::across_rows::Memory;
use crate::pg::lock::{Brief, Key, wait_for};
use crate::pg::scan::{Found, IndexScan, Key as ScanKey, Order, See};
use pgrx::pg_sys::TransactionId;

/// The turn on one publication, with its row as the look under it has found it. Nobody else changes it meanwhile.
pub(crate) struct Hold<'s> {
    scan: Scan<'s>,
    found: bool,
    _turn: Brief,
}

enum Scan<'s> {
    Own(IndexScan),
    Lent(&'s IndexScan),
}

impl Hold<'_> {
    /// The publication's row, as it was when the turn was taken.
    pub(crate) fn row(&self) -> Option<Found<'_>> {
        let scan = match &self.scan {
            Scan::Own(scan) => scan,
            Scan::Lent(scan) => scan,
        };
        self.found.then(|| scan.current())
    }

    /// What it says.
    pub(crate) fn publication(&self) -> Result<Option<Publication>, Fault> {
        self.row().map(|row| Publication::of(&row)).transpose()
    }
}

/// The turn on one publication, or who has it.
pub(crate) enum Turn {
    Mine(Hold<'static>),
    /// This open transaction has changed it.
    Busy(TransactionId),
}

/// Asks for the turn, without waiting for a transaction.
pub(crate) fn on(booking_id: i64) -> Result<Turn, Fault> {
    on_under(Brief::acquire(&Key::Publication { booking_id }), booking_id)
}

/// The turn, after whoever has it.
pub(crate) fn wait_on(booking_id: i64) -> Result<Hold<'static>, Fault> {
    loop {
        match on(booking_id)? {
            Turn::Mine(hold) => return Ok(hold),
            Turn::Busy(transaction) => wait_for(transaction),
        }
    }
}

/// The turn, if nobody is at this publication.
pub(crate) fn try_on(booking_id: i64) -> Result<Option<Hold<'static>>, Fault> {
    let Some(turn) = Brief::try_acquire(&Key::Publication { booking_id }) else {
        return Ok(None);
    };
    Ok(match on_under(turn, booking_id)? {
        Turn::Mine(hold) => Some(hold),
        Turn::Busy(_) => None,
    })
}

fn on_under(turn: Brief, booking_id: i64) -> Result<Turn, Fault> {
    let mut scan = publication_scan()?;
    Ok(match look_at(&mut scan, booking_id) {
        Look::Free { found } => Turn::Mine(Hold {
            scan: Scan::Own(scan),
            found,
            _turn: turn,
        }),
        Look::Busy(transaction) => Turn::Busy(transaction),
    })
}

fn publication_scan() -> Result<IndexScan, Fault> {
    IndexScan::open(c"publication", c"publication_pkey", 1, See::Uncommitted)
}

/// What is at a publication.
enum Look {
    /// Nobody; whether there is one. The scan stays on it.
    Free {
        found: bool,
    },
    Busy(TransactionId),
}

/// Looks at a publication whose brief lock is held.
fn look_at(scan: &mut IndexScan, booking_id: i64) -> Look {
    scan.search(&[(1, ScanKey::Is(booking_id))], Order::Ascending);
    // The first is enough: of a row that somebody is at, every version that a scan sees says so. And the scan must stay
    // on it.
    match scan.next() {
        Some(row) => match row.inserter().or(row.changer()) {
            Some(transaction) => Look::Busy(transaction),
            None => Look::Free { found: true },
        },
        None => Look::Free { found: false },
    }
}

/// Takes turns, one after the other, with one scan.
pub(crate) struct Turns {
    scan: Option<IndexScan>,
    memory: Memory,
}

impl Turns {
    /// What it opens lasts as long as this memory.
    pub(crate) fn within(memory: Memory) -> Self {
        Self { scan: None, memory }
    }

    /// The turn, after whoever has it.
    pub(crate) fn wait_on(&mut self, booking_id: i64) -> Result<Hold<'_>, Fault> {
        let scan = match &mut self.scan {
            Some(scan) => scan,
            none => none.insert(self.memory.within(publication_scan)?),
        };
        loop {
            let turn = Brief::acquire(&Key::Publication { booking_id });
            match look_at(scan, booking_id) {
                Look::Free { found } => {
                    return Ok(Hold {
                        scan: Scan::Lent(scan),
                        found,
                        _turn: turn,
                    });
                }
                Look::Busy(transaction) => {
                    scan.rest();
                    drop(turn);
                    wait_for(transaction);
                }
            }
        }
    }

    /// See [`IndexScan::rest`].
    pub(crate) fn rest(&mut self) {
        if let Some(scan) = &mut self.scan {
            scan.rest();
        }
    }
}

/// Everything that is known of a content, while nobody else changes any of it.
pub(crate) struct Settled {
    /// Its live booking, which need not be the one that a token was for.
    pub(crate) live: Option<Booking>,
    pub(crate) publication: Option<Publication>,
    pub(crate) success: Option<Success>,
    _turns: (Brief, Option<Hold<'static>>),
}

/// Waits until no transaction is at the content, and takes all turns on it.
pub(crate) fn settle(subject: &Subject) -> Result<Settled, Fault> {
    let content = subject.content();
    loop {
        let turn = Brief::acquire(&content.key());
        let at_it = match booking::state(&mut booking::content_scan()?, &content)? {
            booking::State::Busy(transaction) => Some(transaction),
            booking::State::Free | booking::State::Booked => match closed(&content)? {
                Closed::Perhaps(transaction) => Some(transaction),
                Closed::Yes | Closed::No => None,
            },
        };
        if let Some(transaction) = at_it {
            drop(turn);
            wait_for(transaction);
            continue;
        }
        let live = booking::find(&content)?;
        let (publication, inner) = match &live {
            None => (None, None),
            Some(booking) => match on(booking.booking_id)? {
                Turn::Mine(inner) => (inner.publication()?, Some(inner)),
                Turn::Busy(transaction) => {
                    drop(turn);
                    wait_for(transaction);
                    continue;
                }
            },
        };
        return Ok(Settled {
            success: look::success(&content)?,
            live,
            publication,
            _turns: (turn, inner),
        });
    }
}

/// Whether a success has closed a content.
pub(crate) enum Closed {
    No,
    Yes,
    /// If this open transaction commits.
    Perhaps(TransactionId),
}

/// A scan for [`closed_by`].
pub(crate) fn success_scan() -> Result<IndexScan, Fault> {
    IndexScan::open(c"published", c"published_pkey", 3, See::Uncommitted)
}

/// Whether a success has closed this content.
pub(crate) fn closed(content: &Content<'_>) -> Result<Closed, Fault> {
    Ok(closed_by(&mut success_scan()?, content))
}

/// The same with a scan that several looks share.
pub(crate) fn closed_by(scan: &mut IndexScan, content: &Content<'_>) -> Closed {
    let keys = [
        (1, ScanKey::IsText(content.content_id)),
        (2, ScanKey::IsText(content.source)),
        (3, ScanKey::Is(content.queue_id)),
    ];
    scan.search(&keys, Order::Ascending);
    let mut closed = Closed::No;
    while let Some(row) = scan.next() {
        match row.inserter().or(row.changer()) {
            Some(transaction) => return Closed::Perhaps(transaction),
            None => closed = Closed::Yes,
        }
    }
    closed
}
