//! What is known of a content's publishing, as it is committed now.

use crate::arguments::NO_SOURCE;
use crate::booking::{self, Content, Which};
use crate::fault::Fault;
use crate::pg::across_rows::Memory;
use crate::pg::lock::wait_for;
use crate::pg::scan::{Found, IndexScan, Key, Order, See};
use crate::pg::statement::{Row, Statement, Value};
use crate::pg::told;
use pgrx::Uuid;
use slotkeeper_core::Instant;
use slotkeeper_core::policy::Failure;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

/// Where a content stands that publishing has taken up and not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Moved since it was first handed out.
    Scheduled,
    Claimed,
    Publishing,
    Retrying,
    Failed,
    Unknown,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Claimed => "claimed",
            Self::Publishing => "publishing",
            Self::Retrying => "retrying",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Self, Fault> {
        let all = [
            Self::Scheduled,
            Self::Claimed,
            Self::Publishing,
            Self::Retrying,
            Self::Failed,
            Self::Unknown,
        ];
        all.into_iter()
            .find(|state| state.name() == name)
            .ok_or_else(|| Fault::Internal(format!("publication state {name:?}")))
    }
}

/// A row of `publication`.
pub(crate) struct Publication {
    pub(crate) state: State,
    pub(crate) wake_at: Option<Instant>,
    pub(crate) token: Option<u128>,
    pub(crate) worker: Option<String>,
    pub(crate) begun_at: Option<Instant>,
    pub(crate) claimed_at: Option<Instant>,
    pub(crate) attempts: i32,
    pub(crate) tries: i32,
    failures: i32,
    pub(crate) timeouts: i32,
}

impl Publication {
    /// What a row says that a scan has found.
    pub(crate) fn of(row: &Found<'_>) -> Result<Self, Fault> {
        let number = |name| Ok::<i32, Fault>(row.column(name)?.unwrap_or_default());
        Ok(Self {
            state: State::named(row.column::<&str>(c"state")?.unwrap_or_default())?,
            wake_at: row.time(c"wake_at")?,
            token: row.column::<Uuid>(c"token")?.map(|uuid| u128::from_be_bytes(*uuid)),
            worker: row.column(c"worker")?,
            begun_at: row.time(c"begun_at")?,
            claimed_at: row.time(c"claimed_at")?,
            attempts: number(c"attempts")?,
            tries: number(c"tries")?,
            failures: number(c"failures")?,
            timeouts: number(c"timeouts")?,
        })
    }

    /// The lease has run out, or the next attempt is due.
    pub(crate) fn is_awake(&self, now: Instant) -> bool {
        self.wake_at.is_some_and(|at| at <= now)
    }

    /// A failure of the attempt that is under way.
    pub(crate) fn failure(&self, booking_id: i64, status: Option<u16>, retry_after_micros: Option<i64>) -> Failure {
        self.counted(booking_id, self.failures.saturating_add(1), status, retry_after_micros)
    }

    /// A failure that has been counted already, of which more is known now.
    pub(crate) fn known_failure(
        &self,
        booking_id: i64,
        status: Option<u16>,
        retry_after_micros: Option<i64>,
    ) -> Failure {
        Failure {
            begun: true,
            ..self.counted(booking_id, self.failures, status, retry_after_micros)
        }
    }

    fn counted(&self, booking_id: i64, failures: i32, status: Option<u16>, retry_after_micros: Option<i64>) -> Failure {
        let mut hasher = siphasher::sip::SipHasher13::new();
        (booking_id, failures).hash(&mut hasher);
        Failure {
            begun: self.begun_at.is_some(),
            status,
            failures: failures.unsigned_abs(),
            tries: self.tries.unsigned_abs(),
            retry_after_micros,
            seed: hasher.finish(),
        }
    }
}

/// A row of `published`.
pub(crate) struct Success {
    pub(crate) published_at: Instant,
    pub(crate) provider_id: Option<String>,
    pub(crate) url: Option<String>,
    pub(crate) attempt: i32,
}

/// A row of `attempt`.
pub(crate) struct Ended {
    pub(crate) begun: bool,
    pub(crate) outcome: String,
    pub(crate) attempt: i32,
    pub(crate) worker: String,
    pub(crate) claimed_at: Instant,
    pub(crate) begun_at: Option<Instant>,
}

/// Which content a token was for.
pub(crate) struct Subject {
    pub(crate) user_id: Option<String>,
    pub(crate) queue_id: i64,
    pub(crate) source: String,
    pub(crate) content_id: String,
    pub(crate) profile_id: String,
    pub(crate) platform: String,
    pub(crate) queue_status: String,
    pub(crate) scheduled_at: Instant,
    pub(crate) released: bool,
}

impl Subject {
    /// What a row of the ledger says that a scan has found.
    pub(crate) fn of(row: &Found<'_>, queue: &QueueName) -> Result<Self, Fault> {
        let text = |name| Ok::<String, Fault>(row.column(name)?.unwrap_or_default());
        Ok(Self {
            queue_id: row.column(c"queue_id")?.unwrap_or_default(),
            source: text(c"source")?,
            content_id: text(c"content_id")?,
            user_id: row.column(c"user_id")?,
            profile_id: queue.profile_id.clone(),
            platform: queue.platform.clone(),
            queue_status: queue.status.clone(),
            scheduled_at: row.time(c"scheduled_at")?.unwrap_or_default(),
            released: !row.is_null(c"released_at")?,
        })
    }

    pub(crate) fn content(&self) -> Content<'_> {
        Content {
            content_id: &self.content_id,
            source: &self.source,
            queue_id: self.queue_id,
        }
    }
}

thread_local! {
    static PUBLICATION: Statement = const { Statement::by_index(c"
SELECT p.state, p.wake_at, p.token, p.worker, p.begun_at, p.claimed_at, p.attempts, p.tries, p.failures, p.timeouts
FROM slotkeeper.publication AS p WHERE p.booking_id OPERATOR(pg_catalog.=) $1") };

    static SUCCESS: Statement = const { Statement::by_index(c"
SELECT s.published_at, s.provider_id, s.url, s.attempt
FROM slotkeeper.published AS s
WHERE s.content_id OPERATOR(pg_catalog.=) $1 AND s.source OPERATOR(pg_catalog.=) $2
  AND s.queue_id OPERATOR(pg_catalog.=) $3") };

    static SUCCESS_OF: Statement = const { Statement::by_index(c"
SELECT s.published_at, s.provider_id, s.url, s.attempt, q.profile_id, q.platform, s.source
FROM slotkeeper.published AS s
JOIN (SELECT a.queue_id, a.profile_id, a.platform FROM slotkeeper.queue AS a
      UNION ALL SELECT d.queue_id, d.profile_id, d.platform FROM slotkeeper.dropped_queue AS d) AS q
  ON q.queue_id OPERATOR(pg_catalog.=) s.queue_id
WHERE s.content_id OPERATOR(pg_catalog.=) $1
  AND ($2 IS NULL OR q.profile_id OPERATOR(pg_catalog.=) $2)
  AND ($3 IS NULL OR q.platform OPERATOR(pg_catalog.=) $3)
  AND ($4 IS NULL OR s.source OPERATOR(pg_catalog.=) $4)
ORDER BY q.profile_id, q.platform, s.source") };

    static LEFT_UNKNOWN: Statement = const { Statement::by_index(c"
SELECT b.booking_id, d.profile_id, d.platform, b.source
FROM slotkeeper.booking AS b
JOIN slotkeeper.dropped_queue AS d ON d.queue_id OPERATOR(pg_catalog.=) b.queue_id
JOIN slotkeeper.publication AS p ON p.booking_id OPERATOR(pg_catalog.=) b.booking_id
WHERE b.content_id OPERATOR(pg_catalog.=) $1 AND b.released_at IS NULL AND p.state OPERATOR(pg_catalog.=) 'unknown'
  AND ($2 IS NULL OR d.profile_id OPERATOR(pg_catalog.=) $2)
  AND ($3 IS NULL OR d.platform OPERATOR(pg_catalog.=) $3)
  AND ($4 IS NULL OR b.source OPERATOR(pg_catalog.=) $4)
ORDER BY d.profile_id, d.platform, b.source") };

    static ENDED: Statement = const { Statement::by_index(c"
SELECT a.begun_at IS NOT NULL, a.outcome, a.attempt, a.worker, a.claimed_at, a.begun_at
FROM slotkeeper.attempt AS a
WHERE a.booking_id OPERATOR(pg_catalog.=) $1 AND a.token OPERATOR(pg_catalog.=) $2") };

    static QUEUE: Statement = const { Statement::by_index(c"
SELECT q.profile_id, q.platform, q.status
FROM slotkeeper.queue AS q WHERE q.queue_id OPERATOR(pg_catalog.=) $1
UNION ALL
SELECT d.profile_id, d.platform, 'dropped'
FROM slotkeeper.dropped_queue AS d WHERE d.queue_id OPERATOR(pg_catalog.=) $1") };

    static SUBJECT: Statement = const { Statement::by_index(c"
SELECT b.queue_id, b.source, b.content_id, coalesce(q.profile_id, d.profile_id), coalesce(q.platform, d.platform),
       coalesce(q.status, 'dropped'), b.scheduled_at, b.released_at IS NOT NULL, b.user_id
FROM slotkeeper.booking AS b
LEFT JOIN slotkeeper.queue AS q ON q.queue_id OPERATOR(pg_catalog.=) b.queue_id
LEFT JOIN slotkeeper.dropped_queue AS d ON d.queue_id OPERATOR(pg_catalog.=) b.queue_id
WHERE coalesce(q.queue_id, d.queue_id) IS NOT NULL AND b.booking_id OPERATOR(pg_catalog.=) $1") };
}

/// The publication of a booking.
pub(crate) fn publication(booking_id: i64) -> Result<Option<Publication>, Fault> {
    let rows = PUBLICATION.with(|find| {
        find.read(&[Value::Int8(booking_id)], |row| {
            Ok(Publication {
                state: State::named(&row.must::<String>(1)?)?,
                wake_at: row.optional_instant(2)?,
                token: row.get::<Uuid>(3)?.map(|uuid| u128::from_be_bytes(*uuid)),
                worker: row.get(4)?,
                begun_at: row.optional_instant(5)?,
                claimed_at: row.optional_instant(6)?,
                attempts: row.must(7)?,
                tries: row.must(8)?,
                failures: row.must(9)?,
                timeouts: row.must(10)?,
            })
        })
    })?;
    Ok(rows.into_iter().next())
}

fn success_row(row: &Row) -> Result<Success, Fault> {
    Ok(Success {
        published_at: row.instant(1)?,
        provider_id: row.get(2)?,
        url: row.get(3)?,
        attempt: row.must(4)?,
    })
}

/// The success that has closed a content.
pub(crate) fn success(content: &Content<'_>) -> Result<Option<Success>, Fault> {
    let values = [
        Value::Text(content.content_id),
        Value::Text(content.source),
        Value::Int8(content.queue_id),
    ];
    Ok(SUCCESS.with(|find| find.read(&values, success_row))?.into_iter().next())
}

/// Whether a content of a binding was handed out before its row was there, as one of no binding.
pub(crate) fn was_adopted(content: &Content<'_>) -> Result<bool, Fault> {
    if content.source == NO_SOURCE {
        return Ok(false);
    }
    let mut scan = IndexScan::open(c"adopted", c"adopted_pkey", 3, See::Uncommitted)?;
    let keys = [
        (1, Key::IsText(content.content_id)),
        (2, Key::IsText(content.source)),
        (3, Key::Is(content.queue_id)),
    ];
    scan.search(&keys, Order::Ascending);
    while let Some(row) = scan.next() {
        if row.inserter().is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The success of a content that is no longer booked; 22023 where there are several.
pub(crate) fn success_of(which: &Which<'_>) -> Result<Option<Success>, Fault> {
    the_only(which, &SUCCESS_OF, |row| {
        let candidate = candidate(row, 5)?;
        Ok((success_row(row)?, candidate))
    })
}

/// The booking of a content whose queue was dropped before anybody knew what came of its attempt; 22023 where there are several.
pub(crate) fn left_unknown(which: &Which<'_>) -> Result<Option<i64>, Fault> {
    the_only(which, &LEFT_UNKNOWN, |row| Ok((row.must(1)?, candidate(row, 2)?)))
}

/// How an error names a content: profile, platform and source are in columns from the n-th on.
fn candidate(row: &Row, n: i32) -> Result<String, Fault> {
    let text = |n| row.must::<String>(n);
    Ok(booking::candidate(&text(n)?, &text(n + 1)?, &text(n + 2)?))
}

/// What a statement finds of the content that is meant, with how an error would name it.
fn the_only<T>(
    which: &Which<'_>,
    find: &'static std::thread::LocalKey<Statement>,
    read: impl FnMut(&Row) -> Result<(T, String), Fault>,
) -> Result<Option<T>, Fault> {
    let values = [
        Value::Text(&which.content_id),
        Value::OptionalText(which.profile_id),
        Value::OptionalText(which.platform.as_deref()),
        Value::OptionalText(which.source),
    ];
    let mut found = find.with(|find| find.read(&values, read))?;
    if found.len() > 1 {
        return Err(Fault::Ambiguous {
            content_id: which.content_id.to_string(),
            candidates: found.into_iter().map(|(_, candidate)| candidate).collect(),
        });
    }
    Ok(found.pop().map(|(found, _)| found))
}

/// The claim of this token that has ended.
pub(crate) fn ended(booking_id: i64, token: u128) -> Result<Option<Ended>, Fault> {
    let rows = ENDED.with(|find| {
        find.read(&[Value::Int8(booking_id), Value::Uuid(token)], |row| {
            Ok(Ended {
                begun: row.must(1)?,
                outcome: row.must(2)?,
                attempt: row.must(3)?,
                worker: row.must(4)?,
                claimed_at: row.instant(5)?,
                begun_at: row.optional_instant(6)?,
            })
        })
    })?;
    Ok(rows.into_iter().next())
}

/// Looks at bookings by their numbers. Without a snapshot first, as queues are read: see [`queue`].
pub(crate) struct Bookings {
    scan: Option<IndexScan>,
    /// The booking whose row the scan stands on.
    on: Option<i64>,
    memory: Memory,
}

impl Bookings {
    /// What it opens lasts as long as this memory.
    pub(crate) fn within(memory: Memory) -> Self {
        Self {
            scan: None,
            on: None,
            memory,
        }
    }

    /// The booking's row, unless it has to be looked up with a snapshot.
    fn row(&mut self, booking_id: i64) -> Result<Option<Found<'_>>, Fault> {
        let scan = match &mut self.scan {
            Some(scan) => scan,
            none => none.insert(
                self.memory
                    .within(|| IndexScan::open(c"booking", c"booking_pkey", 1, See::Uncommitted))?,
            ),
        };
        self.on = None;
        scan.search(&[(1, Key::Is(booking_id))], Order::Ascending);
        while let Some(row) = scan.next() {
            if row.inserter().is_none() {
                self.on = Some(booking_id);
                return Ok(Some(scan.current()));
            }
        }
        Ok(None)
    }

    /// The content of a booking, live or released.
    pub(crate) fn subject(&mut self, booking_id: i64) -> Result<Option<Subject>, Fault> {
        if let Some(row) = self.row(booking_id)?
            && let Some(queue) = queue(row.column(c"queue_id")?.unwrap_or_default())?
        {
            return Ok(Some(Subject::of(&row, &queue)?));
        }
        subject_with_snapshot(booking_id)
    }

    /// The same of a bound content once nobody is giving its row another id: what came of an attempt is told to the row that
    /// there is.
    pub(crate) fn settled(&mut self, booking_id: i64) -> Result<Option<Subject>, Fault> {
        loop {
            let Some(row) = self.row(booking_id)? else {
                return subject_with_snapshot(booking_id);
            };
            let changer = row.changer();
            let Some(queue) = queue(row.column(c"queue_id")?.unwrap_or_default())? else {
                return subject_with_snapshot(booking_id);
            };
            let subject = Subject::of(&row, &queue)?;
            match changer.filter(|_| !subject.source.is_empty()) {
                Some(transaction) => {
                    self.rest();
                    wait_for(transaction);
                }
                None => return Ok(Some(subject)),
            }
        }
    }

    /// What [`Bookings::subject`] has seen last, if nobody has changed it since; else what it has become.
    pub(crate) fn still(&mut self, seen: Option<Subject>, booking_id: i64) -> Result<Option<Subject>, Fault> {
        match (seen, &self.scan) {
            (Some(mut seen), Some(scan)) if self.on == Some(booking_id) && scan.is_still() => {
                // The queue may be another by now.
                let Some(queue) = queue(seen.queue_id)? else {
                    return self.subject(booking_id);
                };
                if queue.status != seen.queue_status {
                    seen.queue_status.clone_from(&queue.status);
                }
                Ok(Some(seen))
            }
            _ => self.subject(booking_id),
        }
    }

    /// See [`IndexScan::rest`].
    pub(crate) fn rest(&mut self) {
        self.on = None;
        if let Some(scan) = &mut self.scan {
            scan.rest();
        }
    }
}

/// The content of a booking, live or released.
pub(crate) fn subject(booking_id: i64) -> Result<Option<Subject>, Fault> {
    Bookings::within(Memory::current()).subject(booking_id)
}

fn subject_with_snapshot(booking_id: i64) -> Result<Option<Subject>, Fault> {
    let rows = SUBJECT.with(|find| {
        find.read(&[Value::Int8(booking_id)], |row| {
            Ok(Subject {
                queue_id: row.must(1)?,
                source: row.must(2)?,
                content_id: row.must(3)?,
                profile_id: row.must(4)?,
                platform: row.must(5)?,
                queue_status: row.must(6)?,
                scheduled_at: row.instant(7)?,
                released: row.must(8)?,
                user_id: row.get(9)?,
            })
        })
    })?;
    Ok(rows.into_iter().next())
}

/// The status of a queue that is no more.
pub(crate) const DROPPED: &str = "dropped";

/// A queue's name and status, which of one that was dropped is [`DROPPED`].
pub(crate) struct QueueName {
    pub(crate) profile_id: String,
    pub(crate) platform: String,
    pub(crate) status: String,
}

impl QueueName {
    /// Whether it hands anything out.
    pub(crate) fn is_active(&self) -> bool {
        self.status == "active"
    }
}

/// So many queues are remembered.
const KNOWN_QUEUES: usize = 4096;

type Known = (u64, HashMap<i64, Rc<QueueName>>);

thread_local! {
    /// Queues by id, as they are as long as nothing else has been told.
    static KNOWN: RefCell<Known> = RefCell::default();
}

/// The queue of this id, as it is committed now, also one that was dropped.
pub(crate) fn queue(queue_id: i64) -> Result<Option<Rc<QueueName>>, Fault> {
    let told = told::queues_told();
    let known = KNOWN.with_borrow(|(when, queues)| queues.get(&queue_id).filter(|_| *when == told).cloned());
    if known.is_some() {
        return Ok(known);
    }
    let Some((queue, lasts)) = look_up_queue(queue_id)? else {
        return Ok(None);
    };
    if lasts && told::is_still(told) {
        KNOWN.with_borrow_mut(|(when, queues)| {
            if *when != told || queues.len() >= KNOWN_QUEUES {
                queues.clear();
            }
            *when = told;
            queues.insert(queue_id, Rc::clone(&queue));
        });
    }
    Ok(Some(queue))
}

/// The same from its row, and whether it stays so until this backend is told otherwise. Without a snapshot first, which costs
/// less; such a look may miss a row that is being replaced at this very moment, so only one with a snapshot may say that
/// there is none.
fn look_up_queue(queue_id: i64) -> Result<Option<(Rc<QueueName>, bool)>, Fault> {
    let mut scan = IndexScan::open(c"queue", c"queue_pkey", 1, See::Uncommitted)?;
    scan.search(&[(1, Key::Is(queue_id))], Order::Ascending);
    while let Some(row) = scan.next() {
        // What another transaction is about to write is not there yet; what it is about to replace still is.
        if row.inserter().is_none() {
            let text = |name| Ok::<String, Fault>(row.column(name)?.unwrap_or_default());
            let queue = QueueName {
                profile_id: text(c"profile_id")?,
                platform: text(c"platform")?,
                status: text(c"status")?,
            };
            return Ok(Some((queue.into(), told::will_be_told_of(&row)?)));
        }
    }
    drop(scan);
    let rows = QUEUE.with(|find| {
        find.read(&[Value::Int8(queue_id)], |row| {
            Ok(QueueName {
                profile_id: row.must(1)?,
                platform: row.must(2)?,
                status: row.must(3)?,
            })
        })
    })?;
    Ok(rows.into_iter().next().map(|queue| (queue.into(), false)))
}
