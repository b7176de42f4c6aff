//! `begin_request`: who may run a keyed request, and what everybody else is told.

use super::row::{self, Look, NOBODY, New, Own, Place, Stored};
use super::tally;
use super::{MAX_METHOD, MAX_PATH, bounded, lease, lifetime, purge, span, user};
use crate::arguments::optional_identifier;
use crate::clock::now;
use crate::fault::Fault;
use crate::pg::json::{JsonReply, Jsonb};
use crate::pg::lock::{Brief, Key, wait_for, wait_for_at_most};
use crate::pg::time::{clock, pause};
use crate::pg::{refuse_read_only, secret};
use crate::reply::Reply;
use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use slotkeeper_core::request::fingerprint::{Kind, fingerprint};
use slotkeeper_core::request::life::Life;
use slotkeeper_core::request::pace::Pace;
use slotkeeper_core::request::token::Token;
use slotkeeper_core::request::{Tree, key};
use slotkeeper_core::{Instant, Invalid, MICROS_PER_SEC};

/// The longest wait for somebody else's answer.
const LONGEST_WAIT: Instant = 300 * MICROS_PER_SEC;

/// Who is told to come back later is told to come back this soon at the latest, in seconds: the holder may finish any
/// moment.
const COME_BACK: i64 = 5;

#[pg_extern(schema = "slotkeeper")]
#[allow(clippy::too_many_arguments, reason = "the public signature")]
fn begin_request(
    p_key: Option<&str>,
    p_method: Option<&str>,
    p_path: Option<&str>,
    p_user_id: default!(Option<&str>, "NULL"),
    p_request: default!(Option<Jsonb>, "NULL"),
    p_lease: default!(Option<Interval>, "'60 seconds'"),
    p_ttl: default!(Option<Interval>, "'24 hours'"),
    p_wait: default!(Option<Interval>, "'5 seconds'"),
) -> Result<JsonReply, ErrorReport> {
    let key = optional_identifier("p_key", p_key)?;
    let method = bounded("p_method", p_method, MAX_METHOD)?.to_ascii_uppercase();
    let path = bounded("p_path", p_path, MAX_PATH)?;
    let user_id = user(p_user_id)?;
    let (lease, lifetime) = (lease(p_lease)?, lifetime(p_ttl)?);
    let wait = span("p_wait", p_wait, 0..=LONGEST_WAIT, "0 to 5 minutes")?;
    refuse_read_only(c"begin_request()");
    let Some(key) = key else {
        tally::count(|tally| tally.unprotected += 1)?;
        return Ok(Reply::new("unprotected").into());
    };
    let body = p_request.map(|body| tree("p_request", body)).transpose()?;
    let new = New {
        name: key::name(user_id, key),
        fingerprint: fingerprint(Kind::Request, &method, path, body.as_ref()),
        user_id,
        key,
        method: &method,
        path,
        lease,
        lifetime,
    };
    let reply = match ask(&new, Patience::Until(clock().saturating_add(wait)))? {
        Answer::Started(started) => Reply::new("started")
            .with("token", started.token.map(|token| token.to_text()))
            .with("attempt", i64::from(started.attempt))
            .with_instant("lease_until", started.at.saturating_add(lease)),
        Answer::Replayed(stored) => {
            let status = stored.status.map(i64::from);
            Reply::new("replayed")
                .with("http_status", status)
                .with("status", status)
                .with("headers", stored.headers)
                .with("body", stored.body)
                .with_some("no_body", stored.body.is_none().then_some(true))
                .with("resource", stored.resource)
                .with_instant("first_seen", stored.times.started_at)
        }
        Answer::InProgress(seconds) => in_progress(seconds),
        Answer::Mismatch(stored) => mismatch(&stored),
        Answer::Expired(stored) => expired(&stored),
    };
    Ok(reply.into())
}

pub(crate) fn in_progress(seconds: i64) -> Reply {
    Reply::new("in_progress")
        .with("http_status", 409)
        .with("retry_after_seconds", seconds)
}

pub(crate) fn mismatch(stored: &Stored) -> Reply {
    Reply::new("mismatch")
        .with("http_status", 422)
        .with("method", stored.method.as_str())
        .with("path", stored.path.as_str())
        .with_instant("first_seen", stored.times.started_at)
}

pub(crate) fn expired(stored: &Stored) -> Reply {
    Reply::new("expired")
        .with("http_status", 410)
        .with("resource", stored.resource.as_deref())
        .with_instant("first_seen", stored.times.started_at)
        .with_instant("expired_at", stored.times.held_until)
}

/// A JSON argument as a tree.
pub(crate) fn tree(argument: &'static str, value: Jsonb) -> Result<Tree, Fault> {
    value.tree().map_err(|problem| {
        Fault::Invalid(Invalid {
            path: argument.to_owned(),
            problem: format!("cannot be read: {problem}"),
            hint: Some("Nesting must end at 127 levels.".to_owned()),
        })
    })
}

/// How long somebody waits for another's answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// Until this instant of the real clock.
    Until(Instant),
    /// As long as it takes another transaction to end: for who finishes in his own.
    Forever,
}

/// A key that is the caller's now.
pub(crate) struct Asked {
    /// None where the caller's own transaction is to finish it.
    token: Option<Token>,
    /// The row, where it is a new one.
    pub(crate) own: Option<Own>,
    attempt: i16,
    at: Instant,
}

/// What became of asking for a key.
pub(crate) enum Answer {
    Started(Asked),
    Replayed(Box<Stored>),
    /// With the seconds after which to ask again.
    InProgress(i64),
    Mismatch(Box<Stored>),
    Expired(Box<Stored>),
}

/// Asks for a key, waits where another has it, and counts the answer.
pub(crate) fn ask(new: &New<'_>, patience: Patience) -> Result<Answer, Fault> {
    let answer = settle(new, patience)?;
    match &answer {
        Answer::Started(started) => {
            purge::sweep_a_little(started.at)?;
            tally::count(|tally| {
                tally.started += 1;
                tally.takeovers += i64::from(started.attempt > 1);
            })?;
        }
        Answer::Replayed(_) => tally::count_replay(&new.name)?,
        Answer::InProgress(_) => tally::count(|tally| tally.in_progress += 1)?,
        Answer::Mismatch(_) => tally::count(|tally| tally.mismatches += 1)?,
        Answer::Expired(_) => tally::count(|tally| tally.expired += 1)?,
    }
    Ok(answer)
}

/// What a look comes to.
enum Verdict {
    Answer(Answer),
    /// The key is free, or this row's holder has lost it.
    Free(Option<Box<Stored>>),
    /// Somebody holds it whose transaction is open.
    Uncommitted(pg_sys::TransactionId),
    /// Somebody holds it under a lease, until this instant.
    Leased(Instant),
}

fn settle(new: &New<'_>, patience: Patience) -> Result<Answer, Fault> {
    let mut pace = Pace::default();
    loop {
        let at = now()?;
        let mut place = Place::open(&new.name)?;
        let verdict = judge(new, place.look(at)?, at);
        if let Verdict::Free(_) = verdict {
            if let Some(started) = take(new, place, patience, at)? {
                return Ok(Answer::Started(started));
            }
            continue;
        }
        // Nobody holds anything while he waits.
        drop(place);
        match verdict {
            Verdict::Answer(answer) => return Ok(answer),
            Verdict::Free(_) => {}
            Verdict::Uncommitted(transaction) => match patience {
                Patience::Forever => wait_for(transaction),
                Patience::Until(deadline) => {
                    let left = deadline.saturating_sub(clock());
                    if left <= 0 || !wait_for_at_most(transaction, left)? {
                        return Ok(Answer::InProgress(1));
                    }
                }
            },
            Verdict::Leased(until) => {
                let left = match patience {
                    Patience::Until(deadline) => deadline.saturating_sub(clock()),
                    Patience::Forever => 0,
                };
                let Some(rest) = pace.pause(left) else {
                    let seconds = until.saturating_sub(at).div_euclid(MICROS_PER_SEC).saturating_add(1);
                    return Ok(Answer::InProgress(seconds.clamp(1, COME_BACK)));
                };
                pause(rest);
            }
        }
    }
}

fn judge(new: &New<'_>, look: Look, at: Instant) -> Verdict {
    let stored = match look {
        Look::Nothing => return Verdict::Free(None),
        Look::Busy(transaction) => return Verdict::Uncommitted(transaction),
        Look::Row(stored) => stored,
    };
    let life = stored.times.life(at);
    if life == Life::Gone {
        return Verdict::Free(Some(stored));
    }
    if !same(new, &stored) {
        return Verdict::Answer(Answer::Mismatch(stored));
    }
    match life {
        Life::Finished => Verdict::Answer(Answer::Replayed(stored)),
        Life::Expired => Verdict::Answer(Answer::Expired(stored)),
        // Nobody but this very transaction could end it.
        Life::Held if stored.own => Verdict::Answer(Answer::InProgress(1)),
        // A key that lives in one transaction has no lease: its own transaction is at it still.
        Life::Abandoned if stored.own && new.lease == 0 => Verdict::Answer(Answer::InProgress(1)),
        Life::Held => Verdict::Leased(stored.times.held_until),
        Life::Abandoned | Life::Gone => Verdict::Free(Some(stored)),
    }
}

/// Whether a stored request is this one. User and key are compared too: the name is but a digest of them.
fn same(new: &New<'_>, stored: &Stored) -> bool {
    stored.fingerprint == new.fingerprint && stored.key == new.key && stored.user_id.as_deref() == new.user_id
}

/// Takes a key that seemed free. Nobody else decides about it while we look again and write: everybody who does
/// holds this brief lock. `None` where it is not free after all.
fn take(new: &New<'_>, mut place: Place, patience: Patience, at: Instant) -> Result<Option<Asked>, Fault> {
    let _turn = Brief::acquire(&Key::Request(new.name));
    let Verdict::Free(found) = judge(new, place.look(at)?, at) else {
        return Ok(None);
    };
    let token = match patience {
        Patience::Until(_) => Some(Token {
            name: new.name,
            secret: secret()?,
        }),
        Patience::Forever => None,
    };
    let holder = token.map_or(NOBODY, |token| token.holder());
    let started = |own, attempt| {
        Some(Asked {
            token,
            own,
            attempt,
            at,
        })
    };
    Ok(match found {
        // A scan without a snapshot misses a row that is moved while it looks, a snapshot doesn't.
        None if matches!(place.committed(at)?, Look::Nothing) => started(Some(row::insert(new, holder, at)?), 1),
        None => None,
        Some(old) if old.times.life(at) == Life::Gone => {
            let taken = row::start_over(&old, new, holder, at)?;
            taken.then(|| started(None, 1)).flatten()
        }
        Some(old) => {
            let taken = row::take_over(&old, new, holder, at)?;
            taken.then(|| started(None, old.attempt.saturating_add(1))).flatten()
        }
    })
}
