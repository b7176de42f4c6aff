//! `claim_due_content` and `claim_content`: handing a content to one worker.

use super::due::{Again, Entry, Kind, Walk};
use super::look::{self, Bookings, Publication, QueueName, State, Subject};
use super::outcome::Next;
use super::row::{self, AppRow, Sources};
use super::state::{Claim, Ending, Event, Taking, Told, change};
use super::{already_published, held, home, key_of, lease_end, platform, token, turn};
use crate::arguments::{identifier, lease_micros, limit, platform_name};
use crate::binding::row::{Target, is_withdrawn};
use crate::booking::{Content, Which};
use crate::clock::now;
use crate::fault::Fault;
use crate::pg::across_rows::Memory;
use crate::pg::json::JsonReply;
use crate::pg::lock::{Brief, wait_for};
use crate::pg::random::Secrets;
use crate::pg::refuse_read_only;
use crate::pg::scan::Found;
use crate::pg::time::to_timestamptz;
use crate::reply::Reply;
use crate::schedule;
use pgrx::PgSqlErrorCode;
use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use slotkeeper_core::Instant;
use slotkeeper_core::policy::Verdict;
use std::collections::{BTreeSet, HashMap, hash_map};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

/// More than this are not handed out at once.
const MAX_LIMIT: i32 = 1_000;

/// One call settles so many attempts whose lease ran out; the next one goes on.
const MOST_SETTLED: usize = 100;

/// What the history says of an attempt whose worker was never heard of again.
const LEASE_RAN_OUT: &str = "the lease ran out before the worker told what came of the attempt";

type Row = (
    String,
    String,
    String,
    Option<String>,
    TimestampWithTimeZone,
    i32,
    String,
    TimestampWithTimeZone,
    String,
    &'static str,
);

#[pg_extern(schema = "slotkeeper")]
#[allow(clippy::type_complexity, reason = "the public signature")]
fn claim_due_content(
    p_worker: Option<&str>,
    p_limit: default!(Option<i32>, "1"),
    p_lease: default!(Option<Interval>, "'10 minutes'"),
    p_platforms: default!(Option<Vec<Option<String>>>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(content_id, String),
            name!(profile_id, String),
            name!(platform, String),
            name!(user_id, Option<String>),
            name!(scheduled_at, TimestampWithTimeZone),
            name!(attempt, i32),
            name!(lease_token, String),
            name!(lease_until, TimestampWithTimeZone),
            name!(publish_key, String),
            name!(mode, &'static str),
        ),
    >,
    ErrorReport,
> {
    let worker = identifier("p_worker", p_worker)?;
    let limit = limit("p_limit", p_limit, MAX_LIMIT)?;
    let lease = lease_micros("p_lease", p_lease)?;
    let platforms = p_platforms.map(platforms).transpose()?;
    refuse_read_only(c"claim_due_content()");
    let claimed = claim_due(worker, limit, lease, platforms.as_ref())?;
    let rows: Result<Vec<Row>, Fault> = claimed.into_iter().map(HandOut::into_row).collect();
    Ok(TableIterator::new(rows?))
}

fn platforms(given: Vec<Option<String>>) -> Result<BTreeSet<String>, Fault> {
    if given.is_empty() {
        return Err(Fault::NotAllowed {
            argument: "p_platforms",
            value: "an empty array".to_owned(),
            allowed: "names of platforms, or NULL for all".to_owned(),
        });
    }
    given
        .into_iter()
        .map(|name| platform_name("p_platforms", identifier("p_platforms", name.as_deref())?))
        .collect()
}

/// A content in a worker's hands.
struct HandOut {
    publish_key: String,
    told: Told,
    token: String,
    lease_until: Instant,
    mode: &'static str,
}

impl HandOut {
    fn new(told: Told, token: String, lease_until: Instant) -> Result<Self, Fault> {
        // Whoever has had no timeout needs no policy.
        let is_async = told.timeouts > 0 && platform::policy(&told.platform)?.is_async(told.timeouts.unsigned_abs());
        Ok(Self {
            publish_key: key_of(&told)?,
            told,
            token,
            lease_until,
            mode: if is_async { "async" } else { "sync" },
        })
    }

    /// The number that the attempt has if it begins.
    fn attempt(&self) -> i32 {
        self.told.attempts.saturating_add(1)
    }

    fn into_row(self) -> Result<Row, Fault> {
        let attempt = self.attempt();
        Ok((
            self.told.content_id,
            self.told.profile_id,
            self.told.platform,
            self.told.user_id,
            to_timestamptz(self.told.scheduled_at)?,
            attempt,
            self.token,
            to_timestamptz(self.lease_until)?,
            self.publish_key,
            self.mode,
        ))
    }

    fn reply(&self) -> Reply {
        let told = &self.told;
        Reply::new("claimed")
            .with("content_id", told.content_id.as_str())
            .with("profile_id", told.profile_id.as_str())
            .with("platform", told.platform.as_str())
            .with("user_id", told.user_id.as_deref())
            .with_instant("scheduled_at", told.scheduled_at)
            .with("attempt", i64::from(self.attempt()))
            .with("lease_token", self.token.as_str())
            .with_instant("lease_until", self.lease_until)
            .with("publish_key", self.publish_key.as_str())
            .with("mode", self.mode)
    }
}

/// Queues as one call sees them.
struct Queues<'a> {
    platforms: Option<&'a BTreeSet<String>>,
    known: HashMap<i64, Option<Rc<QueueName>>>,
}

impl Queues<'_> {
    /// The queue of this id, if its platform is asked for.
    fn look(&mut self, queue_id: i64) -> Result<Option<Rc<QueueName>>, Fault> {
        let vacant = match self.known.entry(queue_id) {
            hash_map::Entry::Occupied(known) => return Ok(known.get().clone()),
            hash_map::Entry::Vacant(vacant) => vacant,
        };
        let wanted = |queue: &QueueName| {
            self.platforms
                .is_none_or(|platforms| platforms.contains(&queue.platform))
        };
        let queue = look::queue(queue_id)?.filter(|queue| wanted(queue));
        Ok(vacant.insert(queue).clone())
    }
}

fn claim_due(
    worker: &str,
    limit: usize,
    lease: i64,
    platforms: Option<&BTreeSet<String>>,
) -> Result<Vec<HandOut>, Fault> {
    let now = now()?;
    let mut hasher = DefaultHasher::new();
    platforms.hash(&mut hasher);
    let mut walk = Walk::begin(now, hasher.finish())?;
    let mut queues = Queues {
        platforms,
        known: HashMap::new(),
    };
    let mut taker = Taker {
        worker,
        now,
        until: lease_end(now, lease),
        again: Again::default(),
        taking: None,
        sources: Sources::default(),
        bookings: Bookings::within(Memory::current()),
        secrets: Secrets::of(limit),
        settled: 0,
    };
    let (mut claimed, mut at_home) = (Vec::new(), false);
    while claimed.len() < limit {
        let Some(entry) = walk.next()? else { break };
        // With many workers most of the oldest are in others' hands: those are stepped over at once.
        if entry.busy {
            walk.is_pending();
            continue;
        }
        let queue = queues.look(entry.queue_id)?;
        let state = match entry.kind {
            Kind::Fresh => State::Scheduled,
            Kind::Woken => State::named(&walk.row(Kind::Woken).column::<String>(c"state")?.unwrap_or_default())?,
        };
        // An attempt whose lease ran out is settled also where nothing is handed out.
        let Some(queue) = queue.filter(|queue| queue.is_active() || state == State::Publishing) else {
            continue;
        };
        walk.is_pending();
        if !at_home {
            if home::is_copy()? {
                warn_of_copy();
                return Ok(Vec::new());
            }
            at_home = true;
        }
        let taken = match entry.kind {
            Kind::Fresh => taker.take_fresh(&walk, &entry, &queue)?,
            Kind::Woken => taker.take_woken(&entry, state)?,
        };
        claimed.extend(taken);
    }
    walk.leave_floor();
    Ok(claimed)
}

fn warn_of_copy() {
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        "this database is a copy: nothing is handed out",
        "slotkeeper",
    )
    .set_detail("It has another system identifier or OID than the one that it was copied from.")
    .set_hint("If it is this one that publishes from now on, call slotkeeper.resume_after_restore().")
    .report(PgLogLevel::WARNING);
}

/// Takes one entry after the other for a worker. Never waits: what somebody else is at is left to him.
struct Taker<'a> {
    worker: &'a str,
    now: Instant,
    until: Instant,
    again: Again,
    taking: Option<Taking>,
    sources: Sources,
    bookings: Bookings,
    secrets: Secrets,
    settled: usize,
}

impl<'w> Taker<'w> {
    fn claim(&self, digest: u128) -> Claim<'w> {
        Claim {
            token: digest,
            worker: self.worker,
            now: self.now,
            until: self.until,
        }
    }

    fn token(&mut self, booking_id: i64) -> Result<(String, u128), Fault> {
        Ok(token::new(booking_id, self.secrets.next()?))
    }

    /// Hands out for the first time a content whose booking has just been seen to be due. None where a success has closed it
    /// before: then its booking is taken up, and out of the way.
    fn open(
        &self,
        taking: &mut Option<Taking>,
        row: &Found<'_>,
        booking_id: i64,
        queue: &QueueName,
        (text, digest): (String, u128),
    ) -> Result<Option<HandOut>, Fault> {
        let claim = self.claim(digest);
        let subject = Subject::of(row, queue)?;
        let told = match taking {
            Some(taking) => taking.take(row, subject, booking_id, &claim)?,
            None => taking.insert(Taking::begin()?).take(row, subject, booking_id, &claim)?,
        };
        told.map(|told| HandOut::new(told, text, self.until)).transpose()
    }

    /// Hands out again what publishing has taken up before.
    fn reopen(&mut self, booking_id: i64) -> Result<Option<HandOut>, Fault> {
        let (text, digest) = self.token(booking_id)?;
        change(booking_id, &Event::Reclaimed(self.claim(digest)))?
            .map(|told| HandOut::new(told, text, self.until))
            .transpose()
    }

    fn take_fresh(&mut self, walk: &Walk, entry: &Entry, queue: &QueueName) -> Result<Option<HandOut>, Fault> {
        let row = walk.row(Kind::Fresh);
        let (content_id, source) = (row.column::<String>(c"content_id")?, row.column::<String>(c"source")?);
        let content = Content {
            content_id: content_id.as_deref().unwrap_or_default(),
            source: source.as_deref().unwrap_or_default(),
            queue_id: entry.queue_id,
        };
        if !self.sources.are_open(content.source)? {
            return Ok(None);
        }
        // A row that somebody has locked is left to him; one that this worker may not change, to another.
        let Some(target) = Target::try_lock(content.content_id, content.source)? else {
            return Ok(None);
        };
        let Some(turn) = Brief::try_acquire(&content.key()) else {
            return Ok(None);
        };
        if !walk.is_still_due() {
            return Ok(None);
        }
        let token = self.token(entry.booking_id)?;
        let handed = if target.is_told("claimed") {
            // Nothing that is opened there outlasts what is undone.
            let told = alone(content.content_id, || {
                let handed = self.open(&mut None, &row, entry.booking_id, queue, token)?;
                self.tell_row(&target, handed.as_ref())?;
                Ok(handed)
            })?;
            drop(turn);
            match told {
                Some(handed) => handed,
                None => return Ok(None),
            }
        } else {
            let mut taking = self.taking.take();
            let handed = self.open(&mut taking, &row, entry.booking_id, queue, token)?;
            self.taking = taking;
            drop(turn);
            handed
        };
        if handed.is_none()
            && let Some(success) = look::success(&content)?
        {
            row::closed(&target, &content, &success)?;
        }
        Ok(handed)
    }

    fn take_woken(&mut self, entry: &Entry, state: State) -> Result<Option<HandOut>, Fault> {
        if state == State::Publishing && self.settled >= MOST_SETTLED {
            return Ok(None);
        }
        let app = AppRow::of(self.bookings.subject(entry.booking_id)?.as_ref());
        if let Some(source) = app.source()
            && !self.sources.are_open(source)?
        {
            return Ok(None);
        }
        let target = match app.try_lock()? {
            Some(target) => target,
            // Nobody writes into a row that has gone: what is known of its attempt is settled all the same.
            None if state == State::Publishing && app.has_gone()? => Target::nothing(),
            None => return Ok(None),
        };
        let Some(turn) = turn::try_on(entry.booking_id)? else {
            return Ok(None);
        };
        if !self.again.is_due(entry)? {
            return Ok(None);
        }
        if state == State::Publishing {
            self.settled += 1;
            lease_ran_out(entry.booking_id, &target, self.now)?;
            drop(turn);
            app.withdraw(&target, self.now)?;
            return Ok(None);
        }
        if !target.is_told("claimed") {
            return self.reopen(entry.booking_id);
        }
        let handed = alone(target.content_id(), || {
            let handed = self.reopen(entry.booking_id)?;
            self.tell_row(&target, handed.as_ref())?;
            Ok(handed)
        })?;
        drop(turn);
        Ok(handed.flatten())
    }

    fn tell_row(&self, target: &Target<'_>, handed: Option<&HandOut>) -> Result<(), Fault> {
        match handed {
            Some(handed) => row::under_way(target, "claimed", handed.attempt(), self.now),
            None => Ok(()),
        }
    }
}

/// Does what writes into one row of the application's; `None` where that fails, with nothing of it left. The content stays as it
/// was, and no other has to wait for it.
fn alone<T>(content_id: &str, act: impl FnOnce() -> Result<T, Fault>) -> Result<Option<T>, Fault> {
    match row::alone(act)? {
        Ok(done) => Ok(Some(done)),
        Err(failure) => {
            ErrorReport::new(
                PgSqlErrorCode::ERRCODE_WARNING,
                format!("content {content_id} is passed over: its row cannot be written"),
                "slotkeeper",
            )
            .set_detail(format!("{}: {}", failure.sqlstate, failure.message))
            .set_hint("What the binding's \"states\" write must be allowed by the table's constraints and triggers.")
            .report(PgLogLevel::WARNING);
            Ok(None)
        }
    }
}

/// An attempt began, and its lease ran out: nobody knows what came of it. The turn must be held.
pub(super) fn lease_ran_out(booking_id: i64, target: &Target<'_>, now: Instant) -> Result<(), Fault> {
    let (Some(publication), Some(subject)) = (look::publication(booking_id)?, look::subject(booking_id)?) else {
        return Ok(());
    };
    if publication.state != State::Publishing || !publication.is_awake(now) {
        return Ok(());
    }
    let failure = publication.failure(booking_id, None, None);
    let (state, wake_at) = match platform::policy(&subject.platform)?.after(&failure) {
        Verdict::Retry(delay) => (State::Retrying, Some(now.saturating_add(delay))),
        Verdict::Failed | Verdict::Unknown => (State::Unknown, None),
    };
    let ending = Ending {
        state,
        wake_at,
        error: LEASE_RAN_OUT,
        http_status: None,
        timeout: true,
        now,
    };
    change(booking_id, &Event::Ended(ending))?;
    // A row that was taken away meanwhile is not told of an attempt that is not to come.
    if state == State::Retrying && is_withdrawn(target, &subject.source, &subject.content_id)? {
        return Ok(());
    }
    let next = Next { state, wake_at };
    row::failed(
        target,
        &subject.content(),
        &next,
        publication.attempts,
        LEASE_RAN_OUT,
        now,
    )
}

#[pg_extern(schema = "slotkeeper")]
fn claim_content(
    p_content_id: Option<&str>,
    p_worker: Option<&str>,
    p_lease: default!(Option<Interval>, "'10 minutes'"),
    p_profile_id: default!(Option<&str>, "NULL"),
    p_platform: default!(Option<&str>, "NULL"),
    p_source: default!(Option<&str>, "NULL"),
) -> Result<JsonReply, ErrorReport> {
    let which = Which::of_arguments(p_content_id, p_profile_id, p_platform, p_source)?;
    let worker = identifier("p_worker", p_worker)?;
    let lease = lease_micros("p_lease", p_lease)?;
    refuse_read_only(c"claim_content()");
    Ok(claim_one(&which, worker, lease)?.into())
}

fn claim_one(which: &Which<'_>, worker: &str, lease: i64) -> Result<Reply, Fault> {
    loop {
        let Some((target, mine)) = schedule::take(which, true)? else {
            return not_booked(which);
        };
        let booking_id = mine.booking.booking_id;
        let inner = match turn::on(booking_id)? {
            turn::Turn::Mine(inner) => inner,
            turn::Turn::Busy(transaction) => {
                drop(mine);
                wait_for(transaction);
                continue;
            }
        };
        let now = now()?;
        let of = |reply: Reply| reply.of_content(&mine.booking.content_id, &mine.queue);
        let content = Content {
            content_id: &mine.booking.content_id,
            source: &mine.booking.source,
            queue_id: mine.booking.queue_id,
        };
        if let turn::Closed::Perhaps(transaction) = turn::closed(&content)? {
            drop((inner, mine));
            wait_for(transaction);
            continue;
        }
        if let Some(success) = look::success(&content)? {
            let reply = already_published(of(Reply::new("already_published")), &success);
            drop(inner);
            row::closed(&target, &content, &success)?;
            return Ok(reply);
        }
        if home::is_copy()? {
            return Ok(of(held("restored_copy")));
        }
        let publication = inner.publication()?;
        if publication
            .as_ref()
            .is_some_and(|p| p.state == State::Publishing && p.is_awake(now))
        {
            lease_ran_out(booking_id, &target, now)?;
            continue;
        }
        if let Some(reason) = hindrance(publication.as_ref(), mine.booking.scheduled_at, now) {
            return Ok(of(reason));
        }
        let queue = look::queue(mine.booking.queue_id)?;
        let Some(active) = queue.as_ref().filter(|queue| queue.is_active()) else {
            let status = queue.as_ref().map_or("", |queue| queue.status.as_str());
            return Ok(of(held(queue_reason(status).unwrap_or("queue_disabled"))));
        };
        if publication.is_none() && mine.booking.claimed {
            let lost = format!("booking {booking_id} was taken up, and nothing is known of it");
            return Err(Fault::Internal(lost));
        }
        let mut taker = Taker {
            worker,
            now,
            until: lease_end(now, lease),
            again: Again::default(),
            taking: None,
            sources: Sources::default(),
            bookings: Bookings::within(Memory::current()),
            secrets: Secrets::of(1),
            settled: 0,
        };
        let claimed = match publication {
            Some(_) => taker.reopen(booking_id)?,
            None if taker.again.is_due(&Entry::fresh(&mine.booking))? => {
                let token = taker.token(booking_id)?;
                match taker.again.row(Kind::Fresh) {
                    Some(row) => taker.open(&mut None, &row, booking_id, active, token)?,
                    None => None,
                }
            }
            None => None,
        };
        drop(inner);
        drop(mine);
        taker.tell_row(&target, claimed.as_ref())?;
        if let Some(claimed) = claimed {
            return Ok(claimed.reply());
        }
    }
}

/// Why a content that is booked cannot be handed out, as far as its own state says.
fn hindrance(publication: Option<&Publication>, scheduled_at: Instant, now: Instant) -> Option<Reply> {
    let not_due = |until| Reply::new("not_due").with_instant("until", until);
    let Some(publication) = publication else {
        return (scheduled_at > now).then(|| not_due(scheduled_at));
    };
    match publication.state {
        State::Failed => Some(held("failed")),
        State::Unknown => Some(held("unknown")),
        _ if publication.is_awake(now) => None,
        State::Claimed | State::Publishing => {
            let until = publication.wake_at.unwrap_or(now);
            let by = publication.worker.as_deref();
            Some(Reply::new("leased").with("by", by).with_instant("until", until))
        }
        State::Scheduled | State::Retrying => Some(not_due(publication.wake_at.unwrap_or(now))),
    }
}

/// Why a queue of this status hands nothing out.
pub(super) fn queue_reason(status: &str) -> Option<&'static str> {
    match status {
        "active" => None,
        "paused" => Some("queue_paused"),
        "needs_refresh" => Some("queue_needs_refresh"),
        _ => Some("queue_disabled"),
    }
}

/// There is no booking: never was one, or it was given back.
pub(super) fn not_booked(which: &Which<'_>) -> Result<Reply, Fault> {
    Ok(match look::success_of(which)? {
        Some(success) => already_published(which.reply("already_published"), &success),
        None => which.reply("not_found"),
    })
}
