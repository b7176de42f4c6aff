//! Publishing: who may publish which content now, and what came of it.
//!
//! A claim hands a content to one worker for a time: a lease, with a token that fences him off once it is over. Between
//! `begin_publish` and the answer nobody but the worker can know whether the content is out, so an attempt that began and
//! was never told about is *unknown*, a state of its own.
//!
//! Every change goes through `state`, under the brief lock on the publication, after a look that has seen that no
//! other transaction is at it: so nobody waits inside a statement, and no isolation level fails over what others did.

mod application;
mod claim;
mod desk;
mod dropped;
mod due;
mod history;
mod home;
mod lease;
mod look;
mod outcome;
mod person;
mod platform;
mod row;
mod state;
mod token;
mod turn;
mod untold;

pub(crate) use application::{
    PutBack, ToldByRow, also_published, close_all, heed, in_hand, is_failed, is_scheduled_again, lease_void,
    published_by_application, put_back, take_up,
};
pub(crate) use dropped::{queue_dropped, seat_anew};
pub(crate) use person::{Movable, moved, taken_back};
pub(crate) use untold::{forget_source, tell_again};

use crate::arguments::NO_SOURCE;
use crate::fault::Fault;
use crate::reply::Reply;
pub(crate) use look::{Success, success};
use slotkeeper_core::Instant;
use slotkeeper_core::publish_key::publish_key;
use state::Told;

/// The content is closed.
fn already_published(reply: Reply, success: &Success) -> Reply {
    reply
        .with_instant("published_at", success.published_at)
        .with("provider_id", success.provider_id.as_deref())
        .with("url", success.url.as_deref())
}

/// The token gives no right to anything any more; `reason` says why, where that is known.
fn stale_token(reason: Option<&str>) -> Reply {
    Reply::new("stale_token").with_some("reason", reason)
}

/// Nothing is handed out, for this reason.
fn held(reason: &str) -> Reply {
    Reply::new("held").with("reason", reason)
}

/// The key of a content for the provider. It stays what it was when its booking was adopted by a binding.
fn key_of(told: &Told) -> Result<String, Fault> {
    let source = match look::was_adopted(&told.content())? {
        true => NO_SOURCE,
        false => &told.source,
    };
    Ok(publish_key(source, &told.content_id, &told.profile_id, &told.platform))
}

/// The end of a lease that is taken or extended now.
fn lease_end(now: Instant, lease_micros: i64) -> Instant {
    now.saturating_add(lease_micros)
}
