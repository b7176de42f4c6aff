//! `schedule_content`, `reschedule_content`, `unschedule_content`: a content at an instant of the caller's choice.

use crate::arguments::{
    NO_SOURCE, OnConflict, identifier, instant, optional_identifier, platform_name, queue_name, which_source,
};
use crate::assign::queue_full;
use crate::booking::{self, Booking, Content, Mine, State, Which};
use crate::clock::now;
use crate::fault::Fault;
use crate::ledger::Reader;
use crate::pg::json::JsonReply;
use crate::pg::lock::{Brief, Key, use_queues, wait_for};
use crate::pg::refuse_read_only;
use crate::place::{Places, Seeker, Taken};
use crate::publish::{self, Movable};
use crate::queue::{self, Queue};
use crate::reply::{Reply, Seat};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use slotkeeper_core::Instant;
use slotkeeper_core::slots::Slot;
use std::collections::BTreeSet;

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
    let (profile_id, platform) = queue_name(p_profile_id, p_platform)?;
    let content_id = identifier("p_content_id", p_content_id)?;
    let user_id = optional_identifier("p_user_id", p_user_id)?;
    let source = optional_identifier("p_source", p_source)?.unwrap_or(NO_SOURCE);
    let wish = Wish {
        at: instant("p_at", p_at)?.ok_or(Fault::Null { argument: "p_at" })?,
        on_conflict: OnConflict::parse(p_on_conflict)?,
        dry_run: p_dry_run == Some(true),
    };
    Ok(schedule(&profile_id, &platform, content_id, source, user_id, &wish)?.into())
}

fn schedule(
    profile_id: &str,
    platform: &str,
    content_id: &str,
    source: &str,
    user_id: Option<&str>,
    wish: &Wish,
) -> Result<Reply, Fault> {
    if !wish.dry_run {
        refuse_read_only(c"schedule_content()");
        use_queues(&mut [Key::Queue { profile_id, platform }]);
    }
    loop {
        let queue = queue::require(profile_id, platform, None)?;
        let content = Content {
            content_id,
            source,
            queue_id: queue.queue_id,
        };
        let turn = (!wish.dry_run).then(|| Brief::acquire(&content.key()));
        let state = booking::state(&mut booking::content_scan()?, &content)?;
        match state {
            State::Busy(transaction) if !wish.dry_run => {
                drop(turn);
                wait_for(transaction);
                continue;
            }
            State::Booked => match booking::find(&content)? {
                Some(booking) => {
                    let reply = Reply::new("already_assigned").with_seat(&Seat::of(&booking, &queue));
                    return Ok(wish.mark(reply));
                }
                None => continue,
            },
            State::Busy(_) | State::Free => {}
        }
        let now = now()?;
        let mover = Mover {
            queue: &queue,
            content,
            user_id,
            own: None,
            now,
        };
        if let Some(reply) = mover.fulfil(wish, |slot, seat| booking::insert(&content, user_id, slot, seat, now))? {
            return Ok(wish.mark(reply));
        }
    }
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
    let platform = optional_identifier("p_platform", p_platform)?
        .map(|platform| platform_name("p_platform", platform))
        .transpose()?;
    let which = Which {
        content_id: identifier("p_content_id", p_content_id)?,
        profile_id: optional_identifier("p_profile_id", p_profile_id)?,
        platform: platform.as_deref(),
        source: which_source(p_source)?,
    };
    let wish = Wish {
        at: instant("p_at", p_at)?.ok_or(Fault::Null { argument: "p_at" })?,
        on_conflict: OnConflict::parse(p_on_conflict)?,
        dry_run: p_dry_run == Some(true),
    };
    Ok(wish.mark(reschedule(&which, &wish)?).into())
}

fn reschedule(which: &Which<'_>, wish: &Wish) -> Result<Reply, Fault> {
    if !wish.dry_run {
        refuse_read_only(c"reschedule_content()");
    }
    loop {
        let Some(mine) = booking::take(which, !wish.dry_run)? else {
            return Ok(not_found(which));
        };
        let (booking, queue) = (&mine.booking, &mine.queue);
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
        let content = Content {
            content_id: &booking.content_id,
            source: &booking.source,
            queue_id: booking.queue_id,
        };
        let mover = Mover {
            queue,
            content,
            user_id: booking.user_id.as_deref(),
            own: Some(booking),
            now: now()?,
        };
        let move_to = |slot: &Slot, seat| {
            let moved = booking::move_to(booking, queue, slot, seat)?;
            if moved.is_some() {
                publish::moved(booking, slot.at, mover.now)?;
            }
            Ok(moved)
        };
        if let Some(reply) = mover.fulfil(wish, move_to)? {
            return Ok(reply);
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
    let platform = optional_identifier("p_platform", p_platform)?
        .map(|platform| platform_name("p_platform", platform))
        .transpose()?;
    let which = Which {
        content_id: identifier("p_content_id", p_content_id)?,
        profile_id: optional_identifier("p_profile_id", p_profile_id)?,
        platform: platform.as_deref(),
        source: which_source(p_source)?,
    };
    Ok(unschedule(&which)?.into())
}

fn unschedule(which: &Which<'_>) -> Result<Reply, Fault> {
    refuse_read_only(c"unschedule_content()");
    loop {
        let Some(mine) = booking::take(which, true)? else {
            return Ok(not_found(which));
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
            return Ok(Reply::new("unscheduled").with_seat(&Seat::of(&mine.booking, &mine.queue)));
        }
    }
}

/// What is being published, or has been, stays where it is.
fn not_movable(mine: &Mine, state: &str) -> Reply {
    Reply::new("not_movable")
        .with_seat(&Seat::of(&mine.booking, &mine.queue))
        .with("state", state)
}

fn not_found(which: &Which<'_>) -> Reply {
    Reply::new("not_found")
        .with("content_id", which.content_id)
        .with_some("profile_id", which.profile_id)
        .with_some("platform", which.platform)
        .with_some("source", which.source)
}

/// An instant that somebody wants, and what to do where it is taken.
struct Wish {
    at: Instant,
    on_conflict: OnConflict,
    dry_run: bool,
}

impl Wish {
    fn mark(&self, reply: Reply) -> Reply {
        if self.dry_run {
            reply.with("dry_run", true)
        } else {
            reply
        }
    }
}

/// Brings a content to a wished instant, or as near as the wish allows.
struct Mover<'a> {
    queue: &'a Queue,
    content: Content<'a>,
    user_id: Option<&'a str>,
    /// The booking that moves; none for a new one.
    own: Option<&'a Booking>,
    now: Instant,
}

impl Mover<'_> {
    /// The reply; `None` where the attempt must start anew.
    fn fulfil(
        &self,
        wish: &Wish,
        mut write: impl FnMut(&Slot, i16) -> Result<Option<i64>, Fault>,
    ) -> Result<Option<Reply>, Fault> {
        let at = wish.at.max(self.now);
        let until = self.queue.horizon(self.now);
        if wish.on_conflict == OnConflict::Reject && wish.at < self.now {
            return self.conflict(wish, "past", at, until).map(Some);
        }
        if at > until {
            return Ok(Some(queue_full(self.content.content_id, self.queue, self.now)));
        }
        let mut reader = Reader::default();
        let places = match wish.on_conflict {
            OnConflict::NextSlot => Places::of(self.queue),
            OnConflict::NextFree | OnConflict::Reject => Places::Granules,
        };
        let mut seeker = self.seeker(places, at.saturating_add(1), until);
        let slot = self.slot_at(at);
        match self.try_this(&mut seeker, &mut reader, &slot, wish.dry_run, &mut write)? {
            Taken::Seat { slot, booking_id } => {
                let reply = Reply::new("scheduled").with_seat(&self.seat(&slot, wish, booking_id));
                let late = (wish.at < self.now).then(|| slotkeeper_core::zone::format_utc(wish.at));
                return Ok(Some(reply.with_some("requested_at", late)));
            }
            Taken::Lost => return Ok(None),
            Taken::Full => {}
        }
        if wish.on_conflict == OnConflict::Reject {
            return self.conflict(wish, "taken", at, until).map(Some);
        }
        let conflicts_with = booking::other_in(self.queue, slot.granule, &self.content)?;
        let moved = |reply: Reply| {
            reply
                .with_instant("requested_at", wish.at)
                .with_some("conflicts_with", conflicts_with)
        };
        let taken = if wish.dry_run {
            match seeker.next(&mut reader, &BTreeSet::new())? {
                Some(candidate) => Taken::Seat {
                    slot: candidate.slot,
                    booking_id: 0,
                },
                None => Taken::Full,
            }
        } else {
            let taken = seeker.take_first(&mut reader, write)?;
            if !matches!(taken, Taken::Lost) {
                seeker.keep_findings(&mut reader)?;
            }
            taken
        };
        Ok(match taken {
            Taken::Seat { slot, booking_id } => Some(moved(
                Reply::new("moved").with_seat(&self.seat(&slot, wish, booking_id)),
            )),
            Taken::Full => Some(moved(queue_full(self.content.content_id, self.queue, self.now))),
            Taken::Lost => None,
        })
    }

    fn try_this(
        &self,
        seeker: &mut Seeker<'_>,
        reader: &mut Reader,
        slot: &Slot,
        dry_run: bool,
        write: impl FnMut(&Slot, i16) -> Result<Option<i64>, Fault>,
    ) -> Result<Taken, Fault> {
        if !dry_run {
            return seeker.take_this(reader, slot, write);
        }
        let free = !seeker.look(reader, &BTreeSet::new(), slot)?.is_empty();
        Ok(if free {
            Taken::Seat {
                slot: slot.clone(),
                booking_id: 0,
            }
        } else {
            Taken::Full
        })
    }

    fn seeker(&self, places: Places, from: Instant, until: Instant) -> Seeker<'_> {
        let seeker = Seeker::new(self.queue, places, from, until);
        match self.own {
            Some(own) => seeker.ignoring(own.granule, own.seat),
            None => seeker,
        }
    }

    /// The wished instant as a slot: inside the granule of a slot of the timetable it takes one of that slot's seats.
    fn slot_at(&self, at: Instant) -> Slot {
        let granule = self.queue.granule_of(at);
        match self.queue.slots().slot_in_granule(granule) {
            Some(slot) => Slot { at, ..slot },
            None => Slot {
                at,
                granule,
                capacity: 1,
                slot_ref: None,
            },
        }
    }

    fn seat<'s>(&'s self, slot: &'s Slot, wish: &Wish, booking_id: i64) -> Seat<'s> {
        let held = self.own.map(|own| own.booking_id);
        let booking_id = if wish.dry_run { held } else { Some(booking_id) };
        let (content_id, user_id) = (self.content.content_id, self.user_id);
        Seat {
            queue: self.queue,
            content_id,
            user_id,
            slot_ref: None,
            booking_id: None,
            at: 0,
        }
        .at_slot(slot, booking_id)
    }

    fn conflict(&self, wish: &Wish, reason: &str, at: Instant, until: Instant) -> Result<Reply, Fault> {
        let taken = reason == "taken";
        let conflicts_with = if taken {
            booking::other_in(self.queue, self.queue.granule_of(at), &self.content)?
        } else {
            None
        };
        let from = if taken { at.saturating_add(1) } else { at };
        let next = self
            .seeker(Places::Granules, from, until)
            .next(&mut Reader::default(), &BTreeSet::new())?;
        Ok(Reply::new("conflict")
            .of_content(self.content.content_id, self.queue)
            .with("reason", reason)
            .with_instant("requested_at", wish.at)
            .with(
                "next_free_at",
                next.map(|candidate| slotkeeper_core::zone::format_utc(candidate.slot.at)),
            )
            .with_some("conflicts_with", conflicts_with))
    }
}
