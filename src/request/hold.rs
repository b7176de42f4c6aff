//! `extend_request`, `finish_request`, `abandon_request`: what the holder of a request may do, and nobody else.

use super::row::{self, Look, New, Place, Response, Stored};
use super::{MAX_RESPONSE, begin, lease};
use crate::arguments::{identifier, optional_identifier};
use crate::clock::now;
use crate::fault::Fault;
use crate::pg::json::{Json, JsonReply, Jsonb};
use crate::pg::lock::{Brief, Key, wait_for};
use crate::pg::refuse_read_only;
use crate::reply::Reply;
use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use slotkeeper_core::request::life::Life;
use slotkeeper_core::request::token::Token;
use slotkeeper_core::request::{Tree, headers};
use slotkeeper_core::{Instant, Invalid, MICROS_PER_SEC};

#[pg_extern(schema = "slotkeeper")]
fn extend_request(p_token: Option<&str>, p_lease: Option<Interval>) -> Result<JsonReply, ErrorReport> {
    let (token, lease) = (token(p_token)?, lease(p_lease)?);
    refuse_read_only(c"extend_request()");
    let reply = holding(&token, |held, at| {
        let until = at.saturating_add(lease);
        if held.status.is_some() {
            return Ok(Some(stale()));
        }
        Ok(row::extend(&token.name, token.holder(), until)?
            .then(|| Reply::new("extended").with_instant("lease_until", until)))
    })?;
    Ok(reply.into())
}

#[pg_extern(schema = "slotkeeper")]
fn finish_request(
    p_token: Option<&str>,
    p_status: Option<i32>,
    p_body: Option<Jsonb>,
    p_headers: default!(Option<Jsonb>, "NULL"),
    p_resource: default!(Option<&str>, "NULL"),
    p_keep_errors: default!(Option<bool>, "false"),
) -> Result<JsonReply, ErrorReport> {
    let token = token(p_token)?;
    let response = Response {
        status: status(p_status)?,
        headers: p_headers.map(keepable).transpose()?.flatten(),
        body: p_body,
        resource: optional_identifier("p_resource", p_resource)?,
    };
    check_size(&response)?;
    refuse_read_only(c"finish_request()");
    let frees = response.status >= 400 && p_keep_errors != Some(true);
    let reply = holding(&token, |held, at| {
        if held.status.is_some() {
            // The same holder once more: his first answer got lost.
            return Ok(Some(finished(held.times.held_until)));
        }
        if frees {
            return Ok(row::release(&token.name, token.holder())?.then(|| Reply::new("released")));
        }
        let until = kept_until(held.times.lifetime, at);
        Ok(row::finish(held, &token.name, until, &response)?.then(|| finished(until)))
    })?;
    Ok(reply.into())
}

#[pg_extern(schema = "slotkeeper")]
fn abandon_request(p_token: Option<&str>) -> Result<JsonReply, ErrorReport> {
    let token = token(p_token)?;
    refuse_read_only(c"abandon_request()");
    let reply = holding(&token, |held, _| {
        if held.status.is_some() {
            return Ok(Some(stale()));
        }
        Ok(row::release(&token.name, token.holder())?.then(|| Reply::new("abandoned")))
    })?;
    Ok(reply.into())
}

/// Finishes a request that this very transaction has begun.
pub(crate) fn finish_own(begun: Option<row::Own>, new: &New<'_>, response: &Response<'_>) -> Result<(), Fault> {
    check_size(response)?;
    if row::finish_own(begun, &new.name, kept_until(new.lifetime, now()?), response)? {
        Ok(())
    } else {
        Err(Fault::Internal(
            "a request vanished from its own transaction".to_owned(),
        ))
    }
}

fn kept_until(lifetime: i32, at: Instant) -> Instant {
    at.saturating_add(i64::from(lifetime).saturating_mul(MICROS_PER_SEC))
}

fn finished(until: Instant) -> Reply {
    Reply::new("finished").with_instant("expires_at", until)
}

fn stale() -> Reply {
    Reply::new("stale_token").with("http_status", 409)
}

/// Lets `act` change the row while its holder is the token's; `stale_token` where it is not. `act` gives no reply
/// where somebody else was quicker.
fn holding(
    token: &Token,
    mut act: impl FnMut(&Stored, Instant) -> Result<Option<Reply>, Fault>,
) -> Result<Reply, Fault> {
    loop {
        let at = now()?;
        let turn = Brief::acquire(&Key::Request(token.name));
        let mut place = Place::open(&token.name)?;
        let look = match place.look(at)? {
            Look::Nothing => place.committed(at)?,
            look => {
                drop(place);
                look
            }
        };
        match look {
            Look::Nothing => return Ok(stale()),
            Look::Busy(transaction) => {
                // Taken over, finished or begun, but not yet for good. He waits with nothing in his hands.
                drop(turn);
                wait_for(transaction);
            }
            Look::Row(held) => {
                if held.holder != token.holder() || held.times.life(at) == Life::Gone {
                    return Ok(stale());
                }
                if let Some(reply) = act(&held, at)? {
                    return Ok(reply);
                }
            }
        }
    }
}

fn token(value: Option<&str>) -> Result<Token, Fault> {
    let text = identifier("p_token", value)?;
    Token::parse(text).ok_or_else(|| Fault::NotAllowed {
        argument: "p_token",
        value: "not a token".to_owned(),
        allowed: "what begin_request has answered as token".to_owned(),
    })
}

fn status(value: Option<i32>) -> Result<i16, Fault> {
    let status = value.ok_or(Fault::Null { argument: "p_status" })?;
    i16::try_from(status)
        .ok()
        .filter(|status| (100..=599).contains(status))
        .ok_or_else(|| Fault::NotAllowed {
            argument: "p_status",
            value: status.to_string(),
            allowed: "an HTTP status, 100 to 599".to_owned(),
        })
}

fn check_size(response: &Response<'_>) -> Result<(), Fault> {
    let bytes = [response.headers, response.body]
        .iter()
        .flatten()
        .map(Jsonb::size)
        .sum();
    if bytes > MAX_RESPONSE {
        return Err(Fault::TooLarge {
            bytes,
            allowed: MAX_RESPONSE,
        });
    }
    Ok(())
}

/// The headers that may be kept, if any.
fn keepable(all: Jsonb) -> Result<Option<Jsonb>, Fault> {
    let members = match begin::tree("p_headers", all)? {
        Tree::Object(members) => members,
        Tree::Null => return Ok(None),
        _ => {
            return Err(Fault::Invalid(Invalid {
                path: "p_headers".to_owned(),
                problem: "must be a JSON object".to_owned(),
                hint: Some(r#"Such as {"location": "/communities/7"}."#.to_owned()),
            }));
        }
    };
    let kept: Vec<_> = members
        .into_iter()
        .filter(|(name, _)| !headers::is_secret(name))
        .collect();
    Ok((!kept.is_empty()).then(|| Json::from(Tree::Object(kept)).into_server()))
}
