//! Every change of where a content stands in publishing.
//!
//! Callers hold the turn on the publication and have looked: the statements' conditions say once more what must hold,
//! and a change that finds it otherwise changes nothing and returns `None`.

use super::desk::Open;
use super::home;
use super::look::{State, Subject};
use super::token::Token;
use super::turn::{self, Closed, Hold};
use crate::booking::Content;
use crate::fault::Fault;
use crate::pg::across_rows::Memory;
use crate::pg::change::Writer;
use crate::pg::insert::{Columns, Inserter};
use crate::pg::scan::{Found, IndexScan};
use crate::pg::statement::{Row, Statement, Value};
use slotkeeper_core::Instant;
use std::ffi::CStr;

/// What happens to a content.
#[derive(Clone, Copy)]
pub(crate) enum Event<'a> {
    /// It is handed out again: a retry is due, or a lease ran out before its attempt began.
    Reclaimed(Claim<'a>),
    /// The lease lasts longer.
    Extended { token: u128, until: Instant },
    /// The live claim ended without a success.
    Ended(Ending<'a>),
    /// Without a live claim it goes somewhere else: a person has revived it, or found out what became of it.
    Became {
        state: State,
        wake_at: Option<Instant>,
        /// Whether max_attempts and the delays start anew.
        afresh: bool,
    },
    /// Its booking was moved; a claim that had not begun is void.
    Moved { at: Instant, now: Instant },
    /// Its booking was given back; a claim that had not begun is void.
    Unscheduled { now: Instant },
}

/// A hand-out.
#[derive(Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) token: u128,
    pub(crate) worker: &'a str,
    pub(crate) now: Instant,
    pub(crate) until: Instant,
}

/// How a claim ended that had no success.
#[derive(Clone, Copy)]
pub(crate) struct Ending<'a> {
    pub(crate) state: State,
    /// The next attempt, where there is to be one.
    pub(crate) wake_at: Option<Instant>,
    pub(crate) error: &'a str,
    pub(crate) http_status: Option<i16>,
    pub(crate) timeout: bool,
    pub(crate) now: Instant,
}

/// A content after a change.
pub(crate) struct Told {
    pub(crate) queue_id: i64,
    pub(crate) source: String,
    pub(crate) content_id: String,
    pub(crate) user_id: Option<String>,
    pub(crate) scheduled_at: Instant,
    pub(crate) profile_id: String,
    pub(crate) platform: String,
    pub(crate) attempts: i32,
    pub(crate) timeouts: i32,
    /// Of the row as it was before, where the change has closed it.
    pub(crate) wake_at: Option<Instant>,
}

/// A constant statement put together from parts that several share.
macro_rules! sql {
    ($($part:expr),* $(,)?) => {
        match CStr::from_bytes_with_nul(concat!($($part,)* "\0").as_bytes()) {
            Ok(text) => text,
            Err(_) => c"",
        }
    };
}

/// The columns of [`Told`], from a publication p, a booking b, a queue q.
macro_rules! told {
    () => {
        "
b.source, b.content_id, b.user_id, b.scheduled_at, q.profile_id, q.platform,
p.attempts, p.timeouts, p.wake_at, b.queue_id"
    };
}

/// The booking and the queue of the publication p that is updated.
macro_rules! of_its_booking {
    () => {
        "
FROM slotkeeper.booking AS b
JOIN slotkeeper.queue AS q ON q.queue_id OPERATOR(pg_catalog.=) b.queue_id
WHERE p.booking_id OPERATOR(pg_catalog.=) $1 AND b.booking_id OPERATOR(pg_catalog.=) $1 AND b.released_at IS NULL"
    };
}

/// Makes the claim of a row called old history. An attempt that never began has the number it would have had.
macro_rules! history {
    ($ended_at:literal, $http_status:literal, $outcome:literal, $error:literal) => {
        concat!(
            "
INSERT INTO slotkeeper.attempt
    (booking_id, token, claimed_at, begun_at, ended_at, attempt, http_status, outcome, worker, error)
SELECT old.booking_id, old.token, old.claimed_at, old.begun_at, ",
            $ended_at,
            ",
       old.attempts OPERATOR(pg_catalog.+) CASE WHEN old.begun_at IS NULL THEN 1 ELSE 0 END, ",
            $http_status,
            ", ",
            $outcome,
            ", old.worker, ",
            $error,
            "
FROM old WHERE old.token IS NOT NULL"
        )
    };
}

thread_local! {
    static RECLAIM: Statement = const { Statement::by_index(sql!("
WITH old AS (
    SELECT * FROM slotkeeper.publication AS o
    WHERE o.booking_id OPERATOR(pg_catalog.=) $1 AND o.state OPERATOR(pg_catalog.=) 'claimed'
), lost AS (", history!("$4", "NULL", "'lease_lost'", "NULL"), ")
UPDATE slotkeeper.publication AS p
SET state = 'claimed', token = $2, worker = $3, claimed_at = $4, wake_at = $5, begun_at = NULL",
of_its_booking!(), "
  AND (p.wake_at OPERATOR(pg_catalog.<=) $4) IS TRUE
  AND p.state OPERATOR(pg_catalog.=) ANY (ARRAY['scheduled', 'claimed', 'retrying'])
RETURNING ", told!())) };

    static EXTEND: Statement = const { Statement::by_index(sql!("
UPDATE slotkeeper.publication AS p
SET wake_at = $3",
of_its_booking!(), "
  AND p.token OPERATOR(pg_catalog.=) $2
RETURNING ", told!())) };

    static END: Statement = const { Statement::by_index(sql!("
WITH old AS (
    SELECT * FROM slotkeeper.publication AS o WHERE o.booking_id OPERATOR(pg_catalog.=) $1
), ended AS (", history!("$2", "$6", "$3", "$5"), ")
UPDATE slotkeeper.publication AS p
SET state = $3, wake_at = $4, token = NULL, worker = NULL, claimed_at = NULL, begun_at = NULL,
    failures = p.failures OPERATOR(pg_catalog.+) 1,
    timeouts = p.timeouts OPERATOR(pg_catalog.+) CASE WHEN $7 THEN 1 ELSE 0 END",
of_its_booking!(), "
  AND p.token IS NOT NULL
RETURNING ", told!())) };

    static BECOME: Statement = const { Statement::by_index(sql!("
UPDATE slotkeeper.publication AS p
SET state = $2, wake_at = $3,
    tries = CASE WHEN $4 THEN 0 ELSE p.tries END, failures = CASE WHEN $4 THEN 0 ELSE p.failures END",
of_its_booking!(), "
  AND p.token IS NULL
RETURNING ", told!())) };

    static MOVE: Statement = const { Statement::by_index(sql!("
WITH old AS (
    SELECT * FROM slotkeeper.publication AS o WHERE o.booking_id OPERATOR(pg_catalog.=) $1
), void AS (", history!("$3", "NULL", "'moved'", "NULL"), ")
UPDATE slotkeeper.publication AS p
SET state = 'scheduled', wake_at = $2, token = NULL, worker = NULL, claimed_at = NULL, begun_at = NULL,
    tries = 0, failures = 0",
of_its_booking!(), "
RETURNING ", told!())) };

    static UNSCHEDULE: Statement = const { Statement::by_index(sql!("
WITH old AS (
    DELETE FROM slotkeeper.publication WHERE booking_id OPERATOR(pg_catalog.=) $1 RETURNING *
), void AS (", history!("$2", "NULL", "'unscheduled'", "NULL"), ")
SELECT ", told!(), "
FROM old AS p
JOIN slotkeeper.booking AS b ON b.booking_id OPERATOR(pg_catalog.=) p.booking_id
JOIN slotkeeper.queue AS q ON q.queue_id OPERATOR(pg_catalog.=) b.queue_id")) };

    static CORRECT: Statement = const { Statement::by_index(c"
UPDATE slotkeeper.attempt SET outcome = $3, error = $4, http_status = $5
WHERE booking_id OPERATOR(pg_catalog.=) $1 AND token OPERATOR(pg_catalog.=) $2") };

    static CLOSE_BOOKING: Statement = const { Statement::by_index(c"
UPDATE slotkeeper.booking SET claimed_at = $2
WHERE booking_id OPERATOR(pg_catalog.=) $1 AND claimed_at IS NULL") };

    static SUPERSEDE: Statement = const { Statement::by_index(sql!("
WITH old AS (
    DELETE FROM slotkeeper.publication WHERE booking_id OPERATOR(pg_catalog.=) $1 RETURNING *
)", history!("$2", "NULL", "'superseded'", "NULL"))) };
}

fn told(row: &Row) -> Result<Told, Fault> {
    Ok(Told {
        source: row.must(1)?,
        content_id: row.must(2)?,
        user_id: row.get(3)?,
        scheduled_at: row.instant(4)?,
        profile_id: row.must(5)?,
        platform: row.must(6)?,
        attempts: row.must(7)?,
        timeouts: row.must(8)?,
        wake_at: row.optional_instant(9)?,
        queue_id: row.must(10)?,
    })
}

/// Lets something happen to the content of a booking.
pub(crate) fn change<'a>(booking_id: i64, event: &Event<'a>) -> Result<Option<Told>, Fault> {
    let id = Value::Int8(booking_id);
    let write = |statement: &'static std::thread::LocalKey<Statement>, values: &[Value<'_>]| {
        statement.with(|statement| statement.write(values, told))
    };
    let claim = |claim: &Claim<'a>| {
        let (token, worker) = (Value::Uuid(claim.token), Value::Text(claim.worker));
        (token, worker, Value::Time(claim.now), Value::Time(claim.until))
    };
    let changed = match event {
        Event::Reclaimed(new) => {
            let (token, worker, now, until) = claim(new);
            write(&RECLAIM, &[id, token, worker, now, until])?
        }
        Event::Extended { token, until } => write(&EXTEND, &[id, Value::Uuid(*token), Value::Time(*until)])?,
        Event::Ended(ending) => {
            let values = [
                id,
                Value::Time(ending.now),
                Value::Text(ending.state.name()),
                Value::OptionalTime(ending.wake_at),
                Value::Text(ending.error),
                Value::OptionalInt2(ending.http_status),
                Value::Bool(ending.timeout),
            ];
            write(&END, &values)?
        }
        Event::Became { state, wake_at, afresh } => {
            let values = [
                id,
                Value::Text(state.name()),
                Value::OptionalTime(*wake_at),
                Value::Bool(*afresh),
            ];
            write(&BECOME, &values)?
        }
        Event::Moved { at, now } => write(&MOVE, &[id, Value::Time(*at), Value::Time(*now)])?,
        Event::Unscheduled { now } => write(&UNSCHEDULE, &[id, Value::Time(*now)])?,
    };
    Ok(changed.into_iter().next())
}

impl Told {
    pub(crate) fn content(&self) -> Content<'_> {
        Content {
            content_id: &self.content_id,
            source: &self.source,
            queue_id: self.queue_id,
        }
    }

    fn of(subject: Subject, row: (i32, i32, Option<Instant>)) -> Self {
        let (attempts, timeouts, wake_at) = row;
        Self {
            queue_id: subject.queue_id,
            source: subject.source,
            content_id: subject.content_id,
            user_id: subject.user_id,
            scheduled_at: subject.scheduled_at,
            profile_id: subject.profile_id,
            platform: subject.platform,
            attempts,
            timeouts,
            wake_at,
        }
    }
}

/// What [`Taking::take`] writes into `publication`.
static OPENED: Columns = Columns {
    table: c"publication",
    names: &[
        c"booking_id",
        c"queue_id",
        c"wake_at",
        c"claimed_at",
        c"token",
        c"attempts",
        c"tries",
        c"failures",
        c"timeouts",
        c"state",
        c"worker",
    ],
};

/// What [`record`] writes into `published`.
static SUCCESS: Columns = Columns {
    table: c"published",
    names: &[
        c"queue_id",
        c"booking_id",
        c"published_at",
        c"claimed_at",
        c"begun_at",
        c"attempt",
        c"late",
        c"source",
        c"content_id",
        c"worker",
        c"provider_id",
        c"url",
    ],
};

/// Takes contents up for the first time; what that needs stays open for a whole call.
pub(crate) struct Taking {
    bookings: Writer,
    publications: Inserter,
    successes: IndexScan,
}

impl Taking {
    pub(crate) fn begin() -> Result<Self, Fault> {
        Ok(Self {
            bookings: Writer::open(c"booking")?,
            publications: Inserter::open(&OPENED)?,
            successes: turn::success_scan()?,
        })
    }

    /// Takes a booking up, and opens its publication; where a success has closed its content before, only the former. The
    /// row is one of the ledger that the caller has seen under the content's turn, live and not taken up.
    pub(crate) fn take(
        &mut self,
        row: &Found<'_>,
        subject: Subject,
        booking_id: i64,
        claim: &Claim<'_>,
    ) -> Result<Option<Told>, Fault> {
        let closed = match turn::closed_by(&mut self.successes, &subject.content()) {
            // Nobody knows yet: the next claim will.
            Closed::Perhaps(_) => return Ok(None),
            Closed::Yes => true,
            Closed::No => false,
        };
        let taken = [(c"claimed_at", Value::Time(claim.now))];
        if !self.bookings.update(row, &taken)? || closed {
            return Ok(None);
        }
        self.publications.insert(&[
            Value::Int8(booking_id),
            Value::Int8(subject.queue_id),
            Value::Time(claim.until),
            Value::Time(claim.now),
            Value::Uuid(claim.token),
            Value::Int4(0),
            Value::Int4(0),
            Value::Int4(0),
            Value::Int4(0),
            Value::Text(State::Claimed.name()),
            Value::Text(claim.worker),
        ])?;
        self.publications.flush();
        Ok(Some(Told::of(subject, (0, 0, Some(claim.until)))))
    }
}

/// Changes publications of live leases, one after the other, with what it has opened for the first.
pub(crate) struct Changes {
    publications: Option<Writer>,
    successes: Option<Inserter>,
    memory: Memory,
}

impl Changes {
    /// What it opens lasts as long as this memory.
    pub(crate) fn within(memory: Memory) -> Self {
        Self {
            publications: None,
            successes: None,
            memory,
        }
    }

    fn publications(&mut self) -> Result<&mut Writer, Fault> {
        Ok(match &mut self.publications {
            Some(open) => open,
            none => none.insert(self.memory.within(|| Writer::open(c"publication"))?),
        })
    }

    fn successes(&mut self) -> Result<&mut Inserter, Fault> {
        Ok(match &mut self.successes {
            Some(open) => open,
            none => none.insert(self.memory.within(|| Inserter::open(&SUCCESS))?),
        })
    }

    /// Closes what must not stay open from one call to the next.
    pub(crate) fn rest(&mut self) {
        if let Some(open) = &mut self.publications {
            open.rest();
        }
        self.successes.take_if(|open| !open.is_lasting());
    }
}

/// Lets the attempt of a live lease begin, if its queue goes on and this is no copy.
pub(super) fn start(
    open: &mut Open,
    turn: &Hold<'_>,
    token: &Token,
    seen: Option<Subject>,
    now: Instant,
) -> Result<Option<Told>, Fault> {
    let (Some(row), Some(publication)) = (turn.row(), turn.publication()?) else {
        return Ok(None);
    };
    let may = publication.token == Some(token.digest)
        && publication.state == State::Claimed
        && publication.wake_at.is_some_and(|until| until > now);
    if !may || home::is_copy()? {
        return Ok(None);
    }
    let subject = open.bookings.still(seen, token.booking_id)?;
    let Some(subject) = subject.filter(|s| !s.released && s.queue_status == "active") else {
        return Ok(None);
    };
    let attempts = publication.attempts.saturating_add(1);
    let begun = open.changes.publications()?.update(
        &row,
        &[
            (c"state", Value::Text(State::Publishing.name())),
            (c"begun_at", Value::Time(now)),
            (c"attempts", Value::Int4(attempts)),
            (c"tries", Value::Int4(publication.tries.saturating_add(1))),
        ],
    )?;
    Ok(begun.then(|| Told::of(subject, (attempts, publication.timeouts, publication.wake_at))))
}

/// What a worker says of a success.
pub(crate) struct Said<'a> {
    pub(crate) provider_id: Option<&'a str>,
    pub(crate) url: Option<&'a str>,
    pub(crate) now: Instant,
}

/// Closes the content of the attempt that is under way.
pub(super) fn succeed(
    open: &mut Open,
    turn: &Hold<'_>,
    token: &Token,
    seen: Option<Subject>,
    said: &Said<'_>,
) -> Result<Option<Told>, Fault> {
    let (Some(row), Some(publication)) = (turn.row(), turn.publication()?) else {
        return Ok(None);
    };
    if publication.token != Some(token.digest) || publication.state != State::Publishing {
        return Ok(None);
    }
    let booking_id = token.booking_id;
    let subject = open
        .bookings
        .still(seen, booking_id)?
        .ok_or_else(|| Fault::Internal(format!("publication {booking_id} has no booking")))?;
    if !open.changes.publications()?.delete(&row) {
        return Ok(None);
    }
    let closing = Closing {
        content: subject.content(),
        booking_id,
        live: None,
        attempt: publication.attempts,
        late: publication.wake_at.is_some_and(|until| until <= said.now),
        worker: publication.worker.as_deref(),
        claimed_at: publication.claimed_at,
        begun_at: publication.begun_at,
        provider_id: said.provider_id,
        url: said.url,
        now: said.now,
    };
    record(open.changes.successes()?, &closing)?;
    Ok(Some(Told::of(
        subject,
        (publication.attempts, publication.timeouts, publication.wake_at),
    )))
}

/// A success that is not told by the holder of the live lease: late, or by a person.
pub(crate) struct Closing<'a> {
    pub(crate) content: Content<'a>,
    /// The booking that the attempt was for.
    pub(crate) booking_id: i64,
    /// The live booking of the content, if there is one.
    pub(crate) live: Option<i64>,
    pub(crate) attempt: i32,
    pub(crate) late: bool,
    pub(crate) worker: Option<&'a str>,
    pub(crate) claimed_at: Option<Instant>,
    pub(crate) begun_at: Option<Instant>,
    pub(crate) provider_id: Option<&'a str>,
    pub(crate) url: Option<&'a str>,
    pub(crate) now: Instant,
}

/// Closes a content for ever, and stops whatever attempt of it is under way.
pub(crate) fn close(closing: &Closing<'_>) -> Result<(), Fault> {
    record(&mut Inserter::open(&SUCCESS)?, closing)?;
    if let Some(booking_id) = closing.live {
        let values = [Value::Int8(booking_id), Value::Time(closing.now)];
        CLOSE_BOOKING.with(|close| close.write(&values, |_| Ok(())))?;
        SUPERSEDE.with(|supersede| supersede.write(&values, |_| Ok(())))?;
    }
    Ok(())
}

/// Writes the row that proves a success.
fn record(published: &mut Inserter, closing: &Closing<'_>) -> Result<(), Fault> {
    let content = &closing.content;
    published.insert(&[
        Value::Int8(content.queue_id),
        Value::Int8(closing.booking_id),
        Value::Time(closing.now),
        Value::OptionalTime(closing.claimed_at),
        Value::OptionalTime(closing.begun_at),
        Value::Int4(closing.attempt),
        Value::Bool(closing.late),
        Value::Text(content.source),
        Value::Text(content.content_id),
        Value::OptionalText(closing.worker),
        Value::OptionalText(closing.provider_id),
        Value::OptionalText(closing.url),
    ])?;
    published.flush();
    Ok(())
}

/// What is known now of an attempt that had ended as unknown.
pub(crate) struct Known<'a> {
    pub(crate) booking_id: i64,
    pub(crate) token: u128,
    pub(crate) outcome: State,
    pub(crate) error: &'a str,
    pub(crate) http_status: Option<i16>,
}

/// Writes into the history what was not known when the attempt ended.
pub(crate) fn correct(known: &Known<'_>) -> Result<(), Fault> {
    let values = [
        Value::Int8(known.booking_id),
        Value::Uuid(known.token),
        Value::Text(known.outcome.name()),
        Value::Text(known.error),
        Value::OptionalInt2(known.http_status),
    ];
    CORRECT.with(|correct| correct.write(&values, |_| Ok(())))?;
    Ok(())
}
