//! `begin_publish` and `extend_lease`: what the holder of a lease does before he knows the outcome.

use super::claim::queue_reason;
use super::desk::Desk;
use super::look::{self, State, Subject};
use super::row::{self, AppRow};
use super::state::{Event, change, start};
use super::token::{self, Token};
use super::turn::{self, Hold};
use super::{already_published, held, home, key_of, lease_end, platform, stale_token};
use crate::arguments::{identifier, lease_micros};
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

#[pg_extern(schema = "slotkeeper")]
fn begin_publish(p_lease_token: Option<&str>, fcinfo: FunctionCallInfo) -> Result<JsonReply, ErrorReport> {
    let text = identifier("p_lease_token", p_lease_token)?;
    refuse_read_only(c"begin_publish()");
    let reply = match token::parse(text) {
        Some(token) => Desk::with(fcinfo, |desk| begin(desk, &token))?,
        None => stale_token(None),
    };
    Ok(reply.into())
}

fn begin(desk: &mut Desk, token: &Token) -> Result<Reply, Fault> {
    commit_durably();
    let Desk { turns, open } = desk;
    let seen = open.bookings.settled(token.booking_id)?;
    let app = AppRow::of(seen.as_ref());
    let target = app.lock()?;
    let turn = turns.wait_on(token.booking_id)?;
    let now = now()?;
    let Some(told) = start(open, &turn, token, seen, now)? else {
        return why_not(&turn, token, now);
    };
    row::under_way(&target, "publishing", told.attempts, now)?;
    let is_async = told.timeouts > 0 && platform::policy(&told.platform)?.is_async(told.timeouts.unsigned_abs());
    let key = key_of(&told)?;
    Ok(Reply::new("proceed")
        .with("content_id", told.content_id)
        .with("profile_id", told.profile_id)
        .with("platform", told.platform)
        .with("attempt", i64::from(told.attempts))
        .with_instant("lease_until", told.wake_at.unwrap_or(now))
        .with("publish_key", key)
        .with("mode", if is_async { "async" } else { "sync" }))
}

/// Why an attempt may not begin. Changes nothing, so it need not be told more than what is committed.
fn why_not(turn: &Hold<'_>, token: &Token, now: Instant) -> Result<Reply, Fault> {
    let Some(subject) = look::subject(token.booking_id)? else {
        return Ok(stale_token(None));
    };
    if let Some(success) = look::success(&subject.content())? {
        return Ok(already_published(
            of(&subject, Reply::new("already_published")),
            &success,
        ));
    }
    let publication = turn.publication()?;
    if let Some(publication) = publication.filter(|p| p.token == Some(token.digest)) {
        return Ok(match publication.state {
            // Whoever asks twice may have made the call already.
            State::Publishing => {
                let begun_at = publication.begun_at.unwrap_or(now);
                of(&subject, held("begun_before")).with_instant("begun_at", begun_at)
            }
            _ if publication.is_awake(now) => of(&subject, stale_token(Some("lease_ran_out"))),
            _ if home::is_copy()? => of(&subject, held("restored_copy")),
            _ => of(
                &subject,
                held(queue_reason(&subject.queue_status).unwrap_or("queue_disabled")),
            ),
        });
    }
    Ok(match look::ended(token.booking_id, token.digest)? {
        Some(ended) if ended.outcome == "unscheduled" => of(&subject, Reply::new("unscheduled")),
        Some(ended) if ended.outcome == "moved" && !subject.released => {
            of(&subject, held("moved")).with_instant("until", subject.scheduled_at)
        }
        Some(ended) => of(&subject, stale_token(Some(&ended.outcome))),
        None if subject.released => of(&subject, Reply::new("unscheduled")),
        None => stale_token(None),
    })
}

/// A reply about a token's content.
pub(super) fn of(subject: &Subject, reply: Reply) -> Reply {
    reply
        .with("content_id", subject.content_id.as_str())
        .with("profile_id", subject.profile_id.as_str())
        .with("platform", subject.platform.as_str())
}

#[pg_extern(schema = "slotkeeper")]
fn extend_lease(p_lease_token: Option<&str>, p_lease: Option<Interval>) -> Result<JsonReply, ErrorReport> {
    let text = identifier("p_lease_token", p_lease_token)?;
    let lease = lease_micros("p_lease", p_lease)?;
    refuse_read_only(c"extend_lease()");
    let reply = match token::parse(text) {
        Some(token) => extend(&token, lease)?,
        None => stale_token(None),
    };
    Ok(reply.into())
}

fn extend(token: &Token, lease: i64) -> Result<Reply, Fault> {
    let _turn = turn::wait_on(token.booking_id)?;
    let until = lease_end(now()?, lease);
    let event = Event::Extended {
        token: token.digest,
        until,
    };
    Ok(match change(token.booking_id, &event)? {
        Some(told) => Reply::new("extended")
            .with("content_id", told.content_id)
            .with("profile_id", told.profile_id)
            .with("platform", told.platform)
            .with_instant("lease_until", until),
        None => stale_token(None),
    })
}
