//! What a person does: finding out what became of an attempt, reviving, moving, taking back.

use super::claim::not_booked;
use super::dropped;
use super::lease::of;
use super::look::{self, Publication, State};
use super::outcome::Next;
use super::row;
use super::state::{Closing, Event, change, close};
use super::turn::{self, Hold, Turn, settle};
use super::{already_published, platform};
use crate::binding;
use crate::binding::row::{Target, is_withdrawn};
use crate::booking::{Booking, Content, Mine, Which};
use crate::clock::now;
use crate::fault::Fault;
use crate::pg::durable::commit_durably;
use crate::pg::json::JsonReply;
use crate::pg::lock::wait_for;
use crate::pg::refuse_read_only;
use crate::reply::Reply;
use crate::schedule;
use pgrx::pg_sys::TransactionId;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use slotkeeper_core::Instant;

/// What the application's row says of an attempt that a person has found to have come to nothing.
const NOT_PUBLISHED: &str = "it turned out not to have been published";

/// What it says of a content that a person has revived.
const REVIVED: &str = "revived";

/// Whether a booking may be moved or given back.
pub(crate) enum Movable {
    /// It may, while this is held.
    Yes { _turn: Option<Hold<'static>> },
    /// It may not, for its content is in this state.
    No(&'static str),
    /// Another open transaction is at its publication.
    Busy(TransactionId),
}

impl Movable {
    /// Whether publishing lets this booking go. What was never handed out costs nothing to ask.
    pub(crate) fn look(booking: &Booking, for_change: bool) -> Result<Self, Fault> {
        if !booking.claimed {
            return Ok(Self::Yes { _turn: None });
        }
        let turn = if for_change {
            match turn::on(booking.booking_id)? {
                Turn::Mine(turn) => Some(turn),
                Turn::Busy(transaction) => return Ok(Self::Busy(transaction)),
            }
        } else {
            None
        };
        Ok(match look::publication(booking.booking_id)? {
            None => Self::No("published"),
            Some(publication) => match publication.state {
                State::Publishing | State::Unknown => Self::No(publication.state.name()),
                State::Scheduled | State::Claimed | State::Retrying | State::Failed => Self::Yes { _turn: turn },
            },
        })
    }
}

/// A booking was moved: a lease on it is void, and what failed before is forgotten.
pub(crate) fn moved(booking: &Booking, at: Instant, now: Instant) -> Result<(), Fault> {
    if booking.claimed {
        change(booking.booking_id, &Event::Moved { at, now })?;
    }
    Ok(())
}

/// A booking was given back: a lease on it is void.
pub(crate) fn taken_back(booking: &Booking, now: Instant) -> Result<(), Fault> {
    if booking.claimed {
        change(booking.booking_id, &Event::Unscheduled { now })?;
    }
    Ok(())
}

/// A booked content, with the turn on it and on its publication.
struct Held<'w> {
    target: Target<'w>,
    mine: Mine,
    publication: Option<Publication>,
    _turn: Hold<'static>,
}

impl<'w> Held<'w> {
    /// The content that is meant; `None` where nothing of that name is booked.
    fn take(which: &'w Which<'_>) -> Result<Option<Self>, Fault> {
        loop {
            let Some((target, mine)) = schedule::take(which, true)? else {
                return Ok(None);
            };
            match turn::on(mine.booking.booking_id)? {
                Turn::Mine(turn) => {
                    return Ok(Some(Self {
                        publication: turn.publication()?,
                        target,
                        mine,
                        _turn: turn,
                    }));
                }
                Turn::Busy(transaction) => {
                    drop(mine);
                    wait_for(transaction);
                }
            }
        }
    }

    fn content(&self) -> Content<'_> {
        Content {
            content_id: &self.mine.booking.content_id,
            source: &self.mine.booking.source,
            queue_id: self.mine.booking.queue_id,
        }
    }

    fn reply(&self, outcome: &str) -> Reply {
        Reply::new(outcome).of_content(&self.mine.booking.content_id, &self.mine.queue)
    }

    fn already_published(&self) -> Result<Option<Reply>, Fault> {
        let success = look::success(&self.content())?;
        Ok(success.map(|success| already_published(self.reply("already_published"), &success)))
    }

    fn unchanged(&self) -> Reply {
        let state = self.publication.as_ref().map_or("scheduled", |p| p.state.name());
        self.reply("unchanged").with("state", state)
    }
}

#[pg_extern(schema = "slotkeeper")]
fn resolve_unknown(
    p_content_id: Option<&str>,
    p_published: Option<bool>,
    p_provider_id: default!(Option<&str>, "NULL"),
    p_profile_id: default!(Option<&str>, "NULL"),
    p_platform: default!(Option<&str>, "NULL"),
    p_source: default!(Option<&str>, "NULL"),
) -> Result<JsonReply, ErrorReport> {
    let which = Which::of_arguments(p_content_id, p_profile_id, p_platform, p_source)?;
    let published = p_published.ok_or(Fault::Null {
        argument: "p_published",
    })?;
    refuse_read_only(c"resolve_unknown()");
    commit_durably();
    Ok(resolve(&which, published, p_provider_id)?.into())
}

fn resolve(which: &Which<'_>, published: bool, provider_id: Option<&str>) -> Result<Reply, Fault> {
    let Some(held) = Held::take(which)? else {
        return match look::left_unknown(which)? {
            Some(booking_id) => resolve_left(booking_id, which, published, provider_id),
            None => not_booked(which),
        };
    };
    if let Some(reply) = held.already_published()? {
        return Ok(reply);
    }
    let now = now()?;
    let Some(publication) = held.publication.as_ref().filter(|p| is_unknown(p, now)) else {
        return Ok(held.unchanged());
    };
    let booking_id = held.mine.booking.booking_id;
    if published {
        let found = Found {
            booking_id,
            attempt: publication.attempts,
            provider_id,
            now,
        };
        found.close(held.content())?;
        row::published(&held.target, &held.content(), found.attempt, None, now)?;
        return Ok(found.told(held.reply("published")));
    }
    not_published(&held, publication, now)
}

/// A success that a person has found.
struct Found<'a> {
    booking_id: i64,
    attempt: i32,
    provider_id: Option<&'a str>,
    now: Instant,
}

impl Found<'_> {
    fn close(&self, content: Content<'_>) -> Result<(), Fault> {
        close(&Closing {
            content,
            booking_id: self.booking_id,
            live: Some(self.booking_id),
            attempt: self.attempt,
            late: true,
            worker: None,
            claimed_at: None,
            begun_at: None,
            provider_id: self.provider_id,
            url: None,
            now: self.now,
        })
    }

    fn told(&self, reply: Reply) -> Reply {
        reply
            .with("attempt", i64::from(self.attempt))
            .with_instant("published_at", self.now)
            .with("provider_id", self.provider_id)
            .with("late", true)
    }
}

/// The same of a content whose queue was dropped meanwhile: there is no other attempt to make.
fn resolve_left(
    booking_id: i64,
    which: &Which<'_>,
    published: bool,
    provider_id: Option<&str>,
) -> Result<Reply, Fault> {
    let Some(seen) = look::subject(booking_id)? else {
        return not_booked(which);
    };
    let target = Target::of_source(&seen.content_id, &seen.source, true)?;
    if target.is_hidden() {
        return not_booked(which);
    }
    let settled = settle(&seen)?;
    let unknown = |p: &&Publication| p.state == State::Unknown && settled.success.is_none();
    let live = settled.live.as_ref().filter(|live| live.booking_id == booking_id);
    let (Some(publication), Some(_)) = (settled.publication.as_ref().filter(unknown), live) else {
        return not_booked(which);
    };
    let (attempt, now) = (publication.attempts, now()?);
    if !published {
        dropped::give_back(booking_id, now)?;
        drop(settled);
        row::given_up(&target, &seen.content(), attempt, NOT_PUBLISHED, now)?;
        return Ok(of(&seen, Reply::new("failed"))
            .with("attempt", i64::from(attempt))
            .with("reason", "unscheduled"));
    }
    let found = Found {
        booking_id,
        attempt,
        provider_id,
        now,
    };
    found.close(seen.content())?;
    drop(settled);
    row::published(&target, &seen.content(), attempt, None, now)?;
    Ok(found.told(of(&seen, Reply::new("published"))))
}

/// Nobody has told what came of the attempt, and its lease is over.
fn is_unknown(publication: &Publication, now: Instant) -> bool {
    publication.state == State::Unknown || (publication.state == State::Publishing && publication.is_awake(now))
}

/// It is known now that the attempt came to nothing: as after any failure, another is made if one is left.
fn not_published(held: &Held<'_>, publication: &Publication, now: Instant) -> Result<Reply, Fault> {
    let booking_id = held.mine.booking.booking_id;
    let publication = match publication.state {
        State::Publishing => {
            super::claim::lease_ran_out(booking_id, &held.target, now)?;
            &look::publication(booking_id)?.ok_or_else(|| Fault::Internal("publication is gone".to_owned()))?
        }
        _ => publication,
    };
    let policy = platform::policy(&held.mine.queue.platform)?;
    let failure = publication.known_failure(booking_id, None, None);
    let again = failure.tries < policy.max_attempts;
    let delay = policy.delay_after(failure.failures, failure.seed);
    let (state, wake_at) = match (publication.state, again) {
        // Its policy has another attempt made anyway.
        (State::Retrying, _) => (State::Retrying, publication.wake_at),
        (_, true) => (State::Retrying, Some(now.saturating_add(delay))),
        (_, false) => (State::Failed, None),
    };
    let became = Event::Became {
        state,
        wake_at,
        afresh: false,
    };
    change(booking_id, &became)?;
    let booking = &held.mine.booking;
    if is_withdrawn(&held.target, &booking.source, &booking.content_id)? {
        binding::withdraw(&booking.source, &booking.content_id, now)?;
        return Ok(held.reply("failed").with("reason", "unscheduled"));
    }
    let next = Next { state, wake_at };
    row::failed(
        &held.target,
        &held.content(),
        &next,
        publication.attempts,
        NOT_PUBLISHED,
        now,
    )?;
    Ok(held
        .reply(state.name())
        .with("attempt", i64::from(publication.attempts))
        .with_some("next_attempt_at", wake_at.map(slotkeeper_core::zone::format_utc)))
}

#[pg_extern(schema = "slotkeeper")]
fn retry_content(
    p_content_id: Option<&str>,
    p_profile_id: default!(Option<&str>, "NULL"),
    p_platform: default!(Option<&str>, "NULL"),
    p_source: default!(Option<&str>, "NULL"),
) -> Result<JsonReply, ErrorReport> {
    let which = Which::of_arguments(p_content_id, p_profile_id, p_platform, p_source)?;
    refuse_read_only(c"retry_content()");
    Ok(retry(&which)?.into())
}

fn retry(which: &Which<'_>) -> Result<Reply, Fault> {
    let Some(held) = Held::take(which)? else {
        return not_booked(which);
    };
    if let Some(reply) = held.already_published()? {
        return Ok(reply);
    }
    let failed = held.publication.as_ref().filter(|p| p.state == State::Failed);
    let Some(publication) = failed else {
        return Ok(held.unchanged());
    };
    let now = now()?;
    let became = Event::Became {
        state: State::Retrying,
        wake_at: Some(now),
        afresh: true,
    };
    change(held.mine.booking.booking_id, &became)?;
    let next = Next {
        state: State::Retrying,
        wake_at: Some(now),
    };
    row::revived(&held.target, &next, publication.attempts, REVIVED, now)?;
    Ok(held
        .reply("retrying")
        .with("attempt", i64::from(publication.attempts.saturating_add(1)))
        .with_instant("next_attempt_at", now))
}
