//! `confirm_publish` and `fail_publish`: what came of an attempt.

use super::desk::Desk;
use super::lease::of;
use super::look::{self, Ended, Publication, State, Subject};
use super::row::{self, AppRow};
use super::state::{Closing, Ending, Event, Known, Said, change, close, correct, succeed};
use super::token::{self, Token};
use super::turn::settle;
use super::{already_published, dropped, platform, stale_token};
use crate::arguments::{http_status, identifier, retry_after_micros};
use crate::binding::row::Target;
use crate::clock::now;
use crate::fault::Fault;
use crate::pg::durable::commit_durably;
use crate::pg::json::JsonReply;
use crate::pg::refuse_read_only;
use crate::reply::Reply;
use pgrx::datum::Interval;
use pgrx::pg_sys::FunctionCallInfo;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use slotkeeper_core::Instant;
use slotkeeper_core::policy::{Failure, Verdict};

/// So much of an error is kept.
const MAX_ERROR_CHARS: usize = 4_000;

#[pg_extern(schema = "slotkeeper")]
fn confirm_publish(
    p_lease_token: Option<&str>,
    p_provider_id: default!(Option<&str>, "NULL"),
    p_url: default!(Option<&str>, "NULL"),
    fcinfo: FunctionCallInfo,
) -> Result<JsonReply, ErrorReport> {
    let text = identifier("p_lease_token", p_lease_token)?;
    refuse_read_only(c"confirm_publish()");
    let reply = match token::parse(text) {
        Some(token) => Desk::with(fcinfo, |desk| confirm(desk, &token, p_provider_id, p_url))?,
        None => stale_token(None),
    };
    Ok(reply.into())
}

fn confirm(desk: &mut Desk, token: &Token, provider_id: Option<&str>, url: Option<&str>) -> Result<Reply, Fault> {
    commit_durably();
    let Desk { turns, open } = desk;
    let seen = open.bookings.settled(token.booking_id)?;
    let app = AppRow::of(seen.as_ref());
    let target = app.lock()?;
    let turn = turns.wait_on(token.booking_id)?;
    let now = now()?;
    let said = Said { provider_id, url, now };
    if let Some(told) = succeed(open, &turn, token, seen, &said)? {
        drop(turn);
        row::published(&target, &told.content(), told.attempts, url, now)?;
        let late = told.wake_at.is_some_and(|until| until <= now);
        return Ok(Reply::new("published")
            .with("content_id", told.content_id)
            .with("profile_id", told.profile_id)
            .with("platform", told.platform)
            .with("attempt", i64::from(told.attempts))
            .with_instant("published_at", now)
            .with("provider_id", provider_id)
            .with("url", url)
            .with("late", late));
    }
    drop(turn);
    confirm_late(token, &target, provider_id, url)
}

/// A success told with a token whose lease is over: true all the same, if its attempt had begun and nobody was first.
fn confirm_late(
    token: &Token,
    target: &Target<'_>,
    provider_id: Option<&str>,
    url: Option<&str>,
) -> Result<Reply, Fault> {
    let Some(subject) = look::subject(token.booking_id)? else {
        return Ok(stale_token(None));
    };
    let settled = settle(&subject)?;
    if let Some(success) = &settled.success {
        return Ok(already_published(
            of(&subject, Reply::new("already_published")),
            success,
        ));
    }
    let known = look::ended(token.booking_id, token.digest)?;
    let Some(ended) = known.as_ref().filter(|ended| ended.begun) else {
        let live = settled.publication.as_ref().and_then(|p| p.token);
        let is_ours = known.is_some() || live == Some(token.digest);
        return Ok(of(&subject, stale_token(is_ours.then_some("never_begun"))));
    };
    let now = now()?;
    close(&Closing {
        content: subject.content(),
        booking_id: token.booking_id,
        live: settled.live.as_ref().map(|booking| booking.booking_id),
        attempt: ended.attempt,
        late: true,
        worker: Some(&ended.worker),
        claimed_at: Some(ended.claimed_at),
        begun_at: ended.begun_at,
        provider_id,
        url,
        now,
    })?;
    drop(settled);
    // A row that has gone to another queue since says how it stands there.
    if target.names(&subject.profile_id, &subject.platform) {
        row::published(target, &subject.content(), ended.attempt, url, now)?;
    }
    Ok(of(&subject, Reply::new("published"))
        .with("attempt", i64::from(ended.attempt))
        .with_instant("published_at", now)
        .with("provider_id", provider_id)
        .with("url", url)
        .with("late", true))
}

#[pg_extern(schema = "slotkeeper")]
fn fail_publish(
    p_lease_token: Option<&str>,
    p_error: Option<&str>,
    p_http_status: default!(Option<i32>, "NULL"),
    p_retry_after: default!(Option<Interval>, "NULL"),
    fcinfo: FunctionCallInfo,
) -> Result<JsonReply, ErrorReport> {
    let text = identifier("p_lease_token", p_lease_token)?;
    let error = p_error.ok_or(Fault::Null { argument: "p_error" })?;
    let told = Failed {
        error: &error.chars().take(MAX_ERROR_CHARS).collect::<String>(),
        status: http_status("p_http_status", p_http_status)?,
        retry_after: retry_after_micros("p_retry_after", p_retry_after)?,
    };
    refuse_read_only(c"fail_publish()");
    let reply = match token::parse(text) {
        Some(token) => Desk::with(fcinfo, |desk| fail(desk, &token, &told))?,
        None => stale_token(None),
    };
    Ok(reply.into())
}

/// What a worker says of an attempt that failed.
struct Failed<'a> {
    error: &'a str,
    status: Option<u16>,
    retry_after: Option<i64>,
}

impl Failed<'_> {
    fn http_status(&self) -> Option<i16> {
        self.status.and_then(|status| i16::try_from(status).ok())
    }
}

/// Where a content goes after a failure.
pub(super) struct Next {
    pub(super) state: State,
    pub(super) wake_at: Option<Instant>,
}

impl Next {
    /// Nothing comes after it: the content has been taken back meanwhile.
    pub(super) const WITHDRAWN: Self = Self {
        state: State::Failed,
        wake_at: None,
    };

    pub(super) fn after(platform: &str, failure: &Failure, now: Instant) -> Result<Self, Fault> {
        Ok(match platform::policy(platform)?.after(failure) {
            Verdict::Retry(delay) => Self {
                state: State::Retrying,
                wake_at: Some(now.saturating_add(delay)),
            },
            Verdict::Failed => Self {
                state: State::Failed,
                wake_at: None,
            },
            Verdict::Unknown => Self {
                state: State::Unknown,
                wake_at: None,
            },
        })
    }

    pub(super) fn reply(&self, subject: &Subject, attempt: i32) -> Reply {
        of(subject, Reply::new(self.state.name()))
            .with("attempt", i64::from(attempt))
            .with_some("next_attempt_at", self.wake_at.map(slotkeeper_core::zone::format_utc))
    }
}

fn fail(desk: &mut Desk, token: &Token, told: &Failed<'_>) -> Result<Reply, Fault> {
    let Desk { turns, open } = desk;
    let seen = open.bookings.settled(token.booking_id)?;
    let app = AppRow::of(seen.as_ref());
    let target = app.lock()?;
    let turn = turns.wait_on(token.booking_id)?;
    let Some(subject) = open.bookings.still(seen, token.booking_id)? else {
        return Ok(stale_token(None));
    };
    let publication = turn.publication()?;
    let now = now()?;
    let Some(live) = publication.as_ref().filter(|p| p.token == Some(token.digest)) else {
        return fail_late(token, told, &subject, publication.as_ref(), &target, now);
    };
    let failure = live.failure(token.booking_id, told.status, told.retry_after);
    let next = Next::after(&subject.platform, &failure, now)?;
    let ending = Ending {
        state: next.state,
        wake_at: next.wake_at,
        error: told.error,
        http_status: told.http_status(),
        timeout: failure.is_timeout(),
        now,
    };
    // An attempt that never began has the number that it would have had.
    let attempt = live.attempts.saturating_add(i32::from(!failure.begun));
    change(token.booking_id, &Event::Ended(ending))?;
    drop(turn);
    if next.state != State::Unknown && app.withdraw(&target, now)? {
        row::given_up(&target, &subject.content(), attempt, told.error, now)?;
        return Ok(Next::WITHDRAWN.reply(&subject, attempt).with("reason", "unscheduled"));
    }
    row::failed(&target, &subject.content(), &next, attempt, told.error, now)?;
    Ok(next.reply(&subject, attempt))
}

/// A failure told after the lease ran out. As long as nobody has taken the content over, it says what nobody knew.
fn fail_late(
    token: &Token,
    told: &Failed<'_>,
    subject: &Subject,
    publication: Option<&Publication>,
    target: &Target<'_>,
    now: Instant,
) -> Result<Reply, Fault> {
    let ended = look::ended(token.booking_id, token.digest)?;
    let last = |ended: &Ended, publication: &Publication| {
        publication.state == State::Unknown && ended.outcome == "unknown" && ended.attempt == publication.attempts
    };
    let (Some(ended), Some(publication)) = (ended, publication) else {
        return Ok(of(subject, stale_token(None)));
    };
    if !last(&ended, publication) {
        return Ok(of(subject, stale_token(Some(&ended.outcome))));
    }
    let failure = publication.known_failure(token.booking_id, told.status, told.retry_after);
    let mut next = Next::after(&subject.platform, &failure, now)?;
    let queue_has_gone = subject.queue_status == look::DROPPED;
    if queue_has_gone && next.state != State::Unknown {
        dropped::give_back(token.booking_id, now)?;
        next = Next::WITHDRAWN;
    } else if next.state != State::Unknown {
        let became = Event::Became {
            state: next.state,
            wake_at: next.wake_at,
            afresh: false,
        };
        change(token.booking_id, &became)?;
    }
    let known = Known {
        booking_id: token.booking_id,
        token: token.digest,
        outcome: next.state,
        error: told.error,
        http_status: told.http_status(),
    };
    correct(&known)?;
    row::failed(target, &subject.content(), &next, ended.attempt, told.error, now)?;
    let reason = (queue_has_gone && next.state == State::Failed).then_some("queue_dropped");
    Ok(next.reply(subject, ended.attempt).with_some("reason", reason))
}
