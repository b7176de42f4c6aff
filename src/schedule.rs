//! `schedule_content`, `reschedule_content`, `unschedule_content`: a content at an instant of the caller's choice.

use crate::arguments::{OnConflict, flag, identifier, instant, optional_identifier, queue_name};
use crate::assign::queue_full;
use crate::binding::row::{self, Target, spelled};
use crate::booking::{self, Mine, Other, State, Which};
use crate::clock::now;
use crate::fault::Fault;
use crate::history;
use crate::mover::{Mover, Settled, Wish};
use crate::pg::json::JsonReply;
use crate::pg::lock::{Brief, Key, use_queues, wait_for};
use crate::pg::refuse_read_only;
use crate::publish::{self, Movable};
use crate::queue::{self, Queue};
use crate::reply::{Reply, Seat};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use slotkeeper_core::Instant;
use slotkeeper_core::slots::Slot;
use slotkeeper_core::zone::format_utc;

#[pg_extern(schema = "slotkeeper")]
#[allow(clippy::too_many_arguments, reason = "the public signature")]
fn schedule_content(
    p_profile_id: Option<&str>,
    p_platform: Option<&str>,
    p_content_id: Option<&str>,
    p_at: Option<TimestampWithTimeZone>,
    p_user_id: default!(Option<&str>, "NULL"),
    p_on_conflict: default!(Option<&str>, "'next_slot'"),
    p_dry_run: default!(Option<bool>, "false"),
    p_source: default!(Option<&str>, "NULL"),
) -> Result<JsonReply, ErrorReport> {
    let name = queue_name(p_profile_id, p_platform)?;
    let content_id = identifier("p_content_id", p_content_id)?;
    let user_id = optional_identifier("p_user_id", p_user_id)?;
    let source = optional_identifier("p_source", p_source)?;
    let content_id = spelled(content_id, source)?;
    let wish = wish(p_at, p_on_conflict, p_dry_run)?;
    if !wish.dry_run {
        refuse_read_only(c"schedule_content()");
    }
    let target = Target::find(&content_id, source, !wish.dry_run)?;
    Ok(mark(&wish, schedule((&name.0, &name.1), &target, user_id, &wish)?).into())
}

fn wish(at: Option<TimestampWithTimeZone>, on_conflict: Option<&str>, dry_run: Option<bool>) -> Result<Wish, Fault> {
    Ok(Wish {
        at: instant("p_at", at)?.ok_or(Fault::Null { argument: "p_at" })?,
        on_conflict: OnConflict::parse(on_conflict)?,
        dry_run: flag("p_dry_run", dry_run)?,
        as_it_is: false,
    })
}

fn schedule(
    (profile_id, platform): (&str, &str),
    target: &Target<'_>,
    user_id: Option<&str>,
    wish: &Wish,
) -> Result<Reply, Fault> {
    if !wish.dry_run {
        use_queues(&mut [Key::Queue { profile_id, platform }]);
    }
    let wish = &Wish {
        at: target.as_stored(wish.at),
        ..*wish
    };
    loop {
        let queue = queue::require(profile_id, platform, None)?;
        let Some(content) = target.in_queue(&queue)? else {
            return Ok(not_found_in(target.content_id(), &queue));
        };
        let turn = (!wish.dry_run).then(|| Brief::acquire(&content.key()));
        let state = if wish.dry_run {
            if let Some(booking) = booking::find_to_show(&content, target.may_adopt())? {
                return Ok(Reply::new("already_assigned").with_seat(&Seat::of(&booking, &queue)));
            }
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
            booking::state(&mut booking::content_scan_to_book()?, &content)?
        };
        match state {
            State::Busy(transaction) => {
                drop(turn);
                wait_for(transaction);
                continue;
            }
            State::Booked => match booking::find(&content)? {
                Some(booking) => {
                    return Ok(Reply::new("already_assigned").with_seat(&Seat::of(&booking, &queue)));
                }
                None => continue,
            },
            State::Free => {}
        }
        let now = now()?;
        let mover = Mover {
            queue: &queue,
            content,
            own: None,
            now: target.first_stored(now),
        };
        let insert = |slot: &Slot, seat| booking::insert(&content, user_id, slot, seat, now);
        let Some(settled) = mover.settle(wish, insert)? else {
            continue;
        };
        drop(turn);
        let settled = record(settled, wish, target, now)?;
        return reply_of(&settled, wish, &mover, user_id);
    }
}

/// What was settled goes into the application's row, and a move into the content's history. Returns what holds then: a trigger
/// of the application's may have given the row another time.
fn record(settled: Settled, wish: &Wish, target: &Target<'_>, now: Instant) -> Result<Settled, Fault> {
    if wish.dry_run {
        return Ok(settled);
    }
    let (slot, from) = match &settled {
        Settled::Placed { slot, .. } => (slot, None),
        Settled::Moved {
            slot,
            booking_id,
            conflicts_with,
        } => (slot, booking_id.map(|id| (id, conflicts_with.as_ref()))),
        Settled::Full { .. } | Settled::Conflict { .. } => return Ok(settled),
    };
    if let Some((booking_id, other)) = from {
        history::moved(booking_id, wish.at, slot.at, other, now)?;
    }
    Ok(match target.scheduled(slot, now)? {
        Some(own) if own.scheduled_at != slot.at => Settled::Moved {
            slot: own.slot(),
            booking_id: Some(own.booking_id),
            conflicts_with: None,
        },
        _ => settled,
    })
}

#[pg_extern(schema = "slotkeeper")]
#[allow(clippy::too_many_arguments, reason = "the public signature")]
fn reschedule_content(
    p_content_id: Option<&str>,
    p_at: Option<TimestampWithTimeZone>,
    p_on_conflict: default!(Option<&str>, "'next_slot'"),
    p_dry_run: default!(Option<bool>, "false"),
    p_profile_id: default!(Option<&str>, "NULL"),
    p_platform: default!(Option<&str>, "NULL"),
    p_source: default!(Option<&str>, "NULL"),
) -> Result<JsonReply, ErrorReport> {
    let which = Which::of_arguments(p_content_id, p_profile_id, p_platform, p_source)?;
    let wish = wish(p_at, p_on_conflict, p_dry_run)?;
    Ok(mark(&wish, reschedule(&which, &wish)?).into())
}

fn reschedule(which: &Which<'_>, wish: &Wish) -> Result<Reply, Fault> {
    if !wish.dry_run {
        refuse_read_only(c"reschedule_content()");
    }
    loop {
        let Some((target, mine)) = take(which, !wish.dry_run)? else {
            return Ok(which.reply("not_found"));
        };
        let (booking, queue) = (&mine.booking, &mine.queue);
        let wish = &Wish {
            at: target.as_stored(wish.at),
            ..*wish
        };
        if booking.scheduled_at == wish.at {
            return Ok(Reply::new("unchanged").with_seat(&Seat::of(booking, queue)));
        }
        let _turn = match Movable::look(booking, !wish.dry_run)? {
            Movable::Yes { _turn } => _turn,
            Movable::No(state) => return Ok(not_movable(&mine, state)),
            Movable::Busy(transaction) => {
                drop(mine);
                wait_for(transaction);
                continue;
            }
        };
        let now = now()?;
        let mover = Mover {
            queue,
            content: booking.content(),
            own: Some(booking),
            now: target.first_stored(now),
        };
        let move_to = |slot: &Slot, seat| {
            let moved = booking::move_to(booking, queue, slot, seat)?;
            if moved.is_some() {
                publish::moved(booking, slot.at, now)?;
            }
            Ok(moved)
        };
        let Some(settled) = mover.settle(wish, move_to)? else {
            continue;
        };
        if let (Settled::Placed { slot, .. }, false) = (&settled, wish.dry_run) {
            history::moved(booking.booking_id, booking.scheduled_at, slot.at, None, now)?;
        }
        let settled = record(settled, wish, &target, now)?;
        return reply_of(&settled, wish, &mover, booking.user_id.as_deref());
    }
}

/// Finds the booking that is meant. The application's row comes before it in the order of locks: a drag in its user
/// interface takes them in that order too.
pub(crate) fn take<'w>(which: &'w Which<'_>, for_change: bool) -> Result<Option<(Target<'w>, Mine)>, Fault> {
    loop {
        let Some(source) = booking::source_of(which, for_change)? else {
            return Ok(None);
        };
        let mut target = Target::of_source(&which.content_id, &source, for_change)?;
        if target.is_hidden() {
            return Ok(None);
        }
        if for_change {
            target.settle_unbound()?;
        }
        match booking::take(&which.with_source(&source), for_change)? {
            Some(mine) => return Ok(Some((target, mine))),
            // It may have been adopted by a binding meanwhile.
            None if booking::source_of(which, for_change)?.is_some_and(|now| now != source) => {}
            None => return Ok(None),
        }
    }
}

#[pg_extern(schema = "slotkeeper")]
fn unschedule_content(
    p_content_id: Option<&str>,
    p_profile_id: default!(Option<&str>, "NULL"),
    p_platform: default!(Option<&str>, "NULL"),
    p_source: default!(Option<&str>, "NULL"),
) -> Result<JsonReply, ErrorReport> {
    let which = Which::of_arguments(p_content_id, p_profile_id, p_platform, p_source)?;
    Ok(unschedule(&which)?.into())
}

fn unschedule(which: &Which<'_>) -> Result<Reply, Fault> {
    refuse_read_only(c"unschedule_content()");
    loop {
        let Some((target, mine)) = take(which, true)? else {
            return Ok(which.reply("not_found"));
        };
        let _turn = match Movable::look(&mine.booking, true)? {
            Movable::Yes { _turn } => _turn,
            Movable::No(state) => return Ok(not_movable(&mine, state)),
            Movable::Busy(transaction) => {
                drop(mine);
                wait_for(transaction);
                continue;
            }
        };
        let now = now()?;
        if booking::release(&mine.booking, &mine.queue, now)? {
            publish::taken_back(&mine.booking, now)?;
            let reply = Reply::new("unscheduled").with_seat(&Seat::of(&mine.booking, &mine.queue));
            drop(_turn);
            drop(mine);
            target.unscheduled(now)?;
            return Ok(reply);
        }
    }
}

/// What is being published, or has been, stays where it is.
fn not_movable(mine: &Mine, state: &str) -> Reply {
    Reply::new("not_movable")
        .with_seat(&Seat::of(&mine.booking, &mine.queue))
        .with("state", state)
}

/// The row of a bound content is not there for this caller.
pub(crate) fn not_found_in(content_id: &str, queue: &Queue) -> Reply {
    Reply::new("not_found").of_content(content_id, queue)
}

/// The reply for a wish that was settled.
fn reply_of(settled: &Settled, wish: &Wish, mover: &Mover<'_>, user_id: Option<&str>) -> Result<Reply, Fault> {
    let (queue, content_id) = (mover.queue, mover.content.content_id);
    let seat = |slot, booking_id| {
        Seat {
            queue,
            content_id,
            user_id,
            slot_ref: None,
            booking_id: None,
            at: 0,
        }
        .at_slot(slot, booking_id)
    };
    let with_other = |reply: Reply, other: &Option<Other>| -> Result<Reply, Fault> {
        Ok(reply.with_some("conflicts_with", visible(other)?))
    };
    Ok(match settled {
        Settled::Placed { slot, booking_id } => {
            let late = (wish.at < mover.now).then(|| format_utc(wish.at));
            Reply::new("scheduled")
                .with_seat(&seat(slot, *booking_id))
                .with_some("requested_at", late)
        }
        Settled::Moved {
            slot,
            booking_id,
            conflicts_with,
        } => {
            let reply = Reply::new("moved")
                .with_seat(&seat(slot, *booking_id))
                .with_instant("requested_at", wish.at);
            with_other(reply, conflicts_with)?
        }
        Settled::Full { taken: false, .. } => queue_full(content_id, queue, mover.now),
        Settled::Full { conflicts_with, .. } => {
            let reply = queue_full(content_id, queue, mover.now).with_instant("requested_at", wish.at);
            with_other(reply, conflicts_with)?
        }
        Settled::Conflict {
            reason,
            next_free_at,
            conflicts_with,
        } => {
            let reply = Reply::new("conflict")
                .of_content(content_id, queue)
                .with("reason", *reason)
                .with_instant("requested_at", wish.at)
                .with("next_free_at", next_free_at.map(format_utc));
            with_other(reply, conflicts_with)?
        }
    })
}

/// The id of the other content, where the caller may see its row.
fn visible(other: &Option<Other>) -> Result<Option<String>, Fault> {
    Ok(match other {
        Some(other) if row::is_visible(&other.source, &other.content_id)? => Some(other.content_id.clone()),
        _ => None,
    })
}

fn mark(wish: &Wish, reply: Reply) -> Reply {
    if wish.dry_run {
        reply.with("dry_run", true)
    } else {
        reply
    }
}
