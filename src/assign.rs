//! `assign_next_available_slot`: the next free seat of a queue.

use crate::arguments::{flag, identifier, instant, optional_identifier, queue_name};
use crate::binding::row::{Target, spelled};
use crate::booking::{self, Bookings, Content, NewBooking, State};
use crate::clock::now;
use crate::fault::Fault;
use crate::ledger::Reader;
use crate::luck::Luck;
use crate::pg::json::JsonReply;
use crate::pg::lock::{Brief, Key, use_queues, wait_for};
use crate::pg::refuse_read_only;
use crate::place::{Known, Places, Seeker, Taken};
use crate::queue::{self, Queue};
use crate::reply::{Reply, Seat};
use crate::schedule::not_found_in;
use pgrx::Uuid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use slotkeeper_core::Instant;
use std::collections::BTreeSet;

#[pg_extern(schema = "slotkeeper", name = "assign_next_available_slot")]
#[allow(clippy::too_many_arguments, reason = "the public signature")]
fn assign_next_available_slot(
    p_profile_id: Option<&str>,
    p_platform: Option<&str>,
    p_content_id: Option<&str>,
    p_user_id: default!(Option<&str>, "NULL"),
    p_not_before: default!(Option<TimestampWithTimeZone>, "NULL"),
    p_dry_run: default!(Option<bool>, "false"),
    p_source: default!(Option<&str>, "NULL"),
) -> Result<JsonReply, ErrorReport> {
    let (profile_id, platform) = queue_name(p_profile_id, p_platform)?;
    let content_id = identifier("p_content_id", p_content_id)?;
    let user_id = optional_identifier("p_user_id", p_user_id)?;
    let not_before = instant("p_not_before", p_not_before)?;
    let source = optional_identifier("p_source", p_source)?;
    let request = Request {
        profile_id: &profile_id,
        platform: &platform,
        content_id: &spelled(content_id, source)?,
        user_id,
        not_before,
        source,
    };
    let reply = if flag("p_dry_run", p_dry_run)? {
        request.dry_run()?
    } else {
        request.assign()?
    };
    Ok(reply.into())
}

#[pg_extern(schema = "slotkeeper", name = "assign_next_available_slot")]
#[allow(clippy::too_many_arguments, reason = "the public signature")]
fn assign_next_available_slot_uuid(
    p_profile_id: Option<Uuid>,
    p_platform: Option<&str>,
    p_content_id: Option<Uuid>,
    p_user_id: default!(Option<Uuid>, "NULL"),
    p_not_before: default!(Option<TimestampWithTimeZone>, "NULL"),
    p_dry_run: default!(Option<bool>, "false"),
    p_source: default!(Option<&str>, "NULL"),
) -> Result<JsonReply, ErrorReport> {
    let text = |id: Option<Uuid>| id.map(|id| id.to_string());
    let (profile_id, content_id, user_id) = (text(p_profile_id), text(p_content_id), text(p_user_id));
    assign_next_available_slot(
        profile_id.as_deref(),
        p_platform,
        content_id.as_deref(),
        user_id.as_deref(),
        p_not_before,
        p_dry_run,
        p_source,
    )
}

thread_local! {
    /// Of guesses that a content is not booked yet.
    static NEW: Luck = const { Luck::new() };
}

struct Request<'a> {
    profile_id: &'a str,
    platform: &'a str,
    content_id: &'a str,
    user_id: Option<&'a str>,
    not_before: Option<Instant>,
    source: Option<&'a str>,
}

impl Request<'_> {
    fn seat<'s>(&'s self, queue: &'s Queue, content: &Content<'s>) -> Seat<'s> {
        Seat {
            queue,
            content_id: content.content_id,
            user_id: self.user_id,
            slot_ref: None,
            booking_id: None,
            at: 0,
        }
    }

    fn seeker<'q>(&self, queue: &'q Queue, now: Instant) -> Seeker<'q> {
        let from = self.not_before.map_or(now, |at| at.max(now));
        Seeker::new(queue, Places::of(queue), from, queue.horizon(now))
    }

    fn assign(&self) -> Result<Reply, Fault> {
        refuse_read_only(c"assign_next_available_slot()");
        let target = Target::find(self.content_id, self.source, true)?;
        use_queues(&mut [Key::Queue {
            profile_id: self.profile_id,
            platform: self.platform,
        }]);
        // Where contents have been new of late, the index says whether this one is, when it is booked.
        let mut seems_new = !target.may_adopt() && NEW.with(Luck::is_good);
        loop {
            let queue = queue::require(self.profile_id, self.platform, None)?;
            let Some(content) = target.in_queue(&queue)? else {
                return Ok(not_found_in(self.content_id, &queue));
            };
            let turn = Brief::acquire(&content.key());
            let mut bookings = seems_new.then(Bookings::open).transpose()?.filter(Bookings::can_tell);
            let is_guess = bookings.is_some();
            let state = if is_guess {
                State::Free
            } else if target.may_adopt() {
                let (state, adopted) = booking::state_of_row(&content)?;
                if let Some(own) = adopted {
                    drop(turn);
                    let own = target.scheduled(&own.slot(), now()?)?.unwrap_or(own);
                    return Ok(Reply::new("already_assigned").with_seat(&Seat::of(&own, &queue)));
                }
                state
            } else {
                let state = booking::state(&mut booking::content_scan_to_book()?, &content)?;
                let is_new = matches!(state, State::Free);
                NEW.with(if is_new { Luck::was_right } else { Luck::was_wrong });
                state
            };
            match state {
                State::Free => {}
                State::Booked => match booking::find(&content)? {
                    Some(booking) => return Ok(Reply::new("already_assigned").with_seat(&Seat::of(&booking, &queue))),
                    None => continue,
                },
                State::Busy(transaction) => {
                    // Whoever waits holds nothing that others want.
                    drop(turn);
                    wait_for(transaction);
                    continue;
                }
            }
            let now = now()?;
            let mut bookings = match bookings.take() {
                Some(bookings) => bookings,
                None => Bookings::open()?,
            };
            let mut seeker = self.seeker(&queue, now);
            let mut reader = Reader::beside(bookings.seat_scan()?);
            let can_tell = bookings.can_tell();
            let taken = seeker.take_first(&mut reader, can_tell, |held, known| {
                let new = NewBooking {
                    content,
                    user_id: self.user_id,
                    slot: &held.slot,
                    seat: held.seat,
                    booked_at: now,
                    claimed_at: None,
                    full_before: held.full_before,
                };
                match known {
                    Known::Free if !is_guess => bookings.book(&new).map(Some),
                    Known::Free | Known::Nothing => bookings.book_unless_held(&new),
                }
            })?;
            drop(turn);
            match taken {
                Taken::Seat { .. } if is_guess => NEW.with(Luck::was_right),
                // What is booked already needs no seat: it has to be looked at after all.
                Taken::Lost | Taken::Full if is_guess => {
                    NEW.with(Luck::was_wrong);
                    seems_new = false;
                    continue;
                }
                Taken::Lost => continue,
                Taken::Seat { .. } | Taken::Full => {}
            }
            seeker.keep_findings(&mut reader)?;
            return Ok(match taken {
                Taken::Seat { slot, booking_id } => {
                    let reply = Reply::new("assigned");
                    match target.scheduled(&slot, now)? {
                        Some(own) => reply.with_seat(&Seat::of(&own, &queue)),
                        None => reply.with_seat(&self.seat(&queue, &content).at_slot(&slot, Some(booking_id))),
                    }
                }
                Taken::Full | Taken::Lost => queue_full(content.content_id, &queue, now),
            });
        }
    }

    fn dry_run(&self) -> Result<Reply, Fault> {
        let target = Target::find(self.content_id, self.source, false)?;
        let queue = queue::require(self.profile_id, self.platform, None)?;
        let Some(content) = target.in_queue(&queue)? else {
            return Ok(not_found_in(self.content_id, &queue).with("dry_run", true));
        };
        if let Some(booking) = booking::find_to_show(&content, target.may_adopt())? {
            return Ok(Reply::new("already_assigned")
                .with_seat(&Seat::of(&booking, &queue))
                .with("dry_run", true));
        }
        let now = now()?;
        let candidate = self
            .seeker(&queue, now)
            .next(&mut Reader::default(), &BTreeSet::new())?;
        let reply = match candidate {
            Some(candidate) => {
                Reply::new("assigned").with_seat(&self.seat(&queue, &content).at_slot(&candidate.slot, None))
            }
            None => queue_full(content.content_id, &queue, now),
        };
        Ok(reply.with("dry_run", true))
    }
}

/// Nothing is free inside the horizon.
pub(crate) fn queue_full(content_id: &str, queue: &Queue, now: Instant) -> Reply {
    Reply::new("queue_full")
        .of_content(content_id, queue)
        .with_instant("horizon_ends_at", queue.horizon(now))
}
