//! Replies: every expected outcome is a value with the same keys.

use crate::booking::Booking;
use crate::pg::json::{Json, JsonReply};
use crate::queue::Queue;
use slotkeeper_core::Instant;
use slotkeeper_core::slots::Slot;
use slotkeeper_core::zone::{format_local, format_utc};
use std::borrow::Cow;

/// A reply being written.
pub(crate) struct Reply(Vec<(Cow<'static, str>, Json)>);

impl Reply {
    /// A reply with this outcome.
    pub(crate) fn new(outcome: &str) -> Self {
        // Room for all keys of a seat.
        let mut members = Vec::with_capacity(12);
        members.push((Cow::Borrowed("outcome"), outcome.into()));
        Self(members)
    }

    /// An object that is part of a reply.
    pub(crate) fn of(key: &'static str, value: impl Into<Json>) -> Self {
        Self(vec![(Cow::Borrowed(key), value.into())])
    }

    /// Adds a key.
    pub(crate) fn with(mut self, key: &'static str, value: impl Into<Json>) -> Self {
        self.0.push((Cow::Borrowed(key), value.into()));
        self
    }

    /// Adds a key that is left out where there is no value.
    pub(crate) fn with_some(self, key: &'static str, value: Option<impl Into<Json>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Adds an instant in UTC.
    pub(crate) fn with_instant(self, key: &'static str, at: Instant) -> Self {
        self.with(key, format_utc(at))
    }

    /// Adds the queue's name.
    pub(crate) fn with_queue(self, queue: &Queue) -> Self {
        self.with("profile_id", queue.profile_id.as_str())
            .with("platform", queue.platform.as_str())
    }

    /// Adds content and queue.
    pub(crate) fn of_content(self, content_id: &str, queue: &Queue) -> Self {
        self.with("content_id", content_id).with_queue(queue)
    }

    /// Adds all keys of a seat: which, when, by which booking.
    pub(crate) fn with_seat(self, seat: &Seat<'_>) -> Self {
        self.of_content(seat.content_id, seat.queue)
            .with("user_id", seat.user_id)
            .with("slot_ref", seat.slot_ref)
            .with("booking_id", seat.booking_id)
            .with_instant("scheduled_at", seat.at)
            .with("local_time", format_local(&seat.queue.zone, seat.at))
            .with("time_zone", seat.queue.time_zone.as_str())
    }

    /// Adds a list of so many elements, each of which is written as it comes.
    pub(crate) fn with_list(self, key: &'static str, count: usize, elements: impl Iterator<Item = Json>) -> JsonReply {
        JsonReply::with_list(self.0, key, count, elements)
    }

    pub(crate) fn into_json(self) -> Json {
        Json::Object(self.0)
    }
}

impl From<Reply> for JsonReply {
    fn from(reply: Reply) -> Self {
        Self(reply.into_json())
    }
}

/// What a reply says of a seat.
pub(crate) struct Seat<'a> {
    pub(crate) queue: &'a Queue,
    pub(crate) content_id: &'a str,
    pub(crate) user_id: Option<&'a str>,
    pub(crate) slot_ref: Option<&'a str>,
    /// NULL in a dry run.
    pub(crate) booking_id: Option<i64>,
    pub(crate) at: Instant,
}

impl<'a> Seat<'a> {
    /// The seat of a booking.
    pub(crate) fn of(booking: &'a Booking, queue: &'a Queue) -> Self {
        Self {
            queue,
            content_id: &booking.content_id,
            user_id: booking.user_id.as_deref(),
            slot_ref: booking.slot_ref.as_deref(),
            booking_id: Some(booking.booking_id),
            at: booking.scheduled_at,
        }
    }

    /// The same content in another slot.
    pub(crate) fn at_slot(self, slot: &'a Slot, booking_id: Option<i64>) -> Self {
        Self {
            slot_ref: slot.slot_ref.as_deref(),
            booking_id,
            at: slot.at,
            ..self
        }
    }
}
