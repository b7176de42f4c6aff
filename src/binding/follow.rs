//! A bound row that changes while publishing has its content in hand: the content follows its row, or the change is refused.
//!
//! Publishing writes states into rows in which they take no seat, and their contents keep theirs. So what a row says of
//! publishing (the constants of `states`) counts here beside the binding's predicates.

use super::collisions::{self, LetGo, let_go, release_content};
use super::guard::{Writer, decide, leave, not_movable};
use super::table::Column;
use super::{Binding, parts_of, queue_of};
use crate::booking::{self, Booking, Content};
use crate::clock::now;
use crate::fault::Fault;
use crate::pg::dynamic::literal;
use crate::pg::lock::{Brief, wait_for};
use crate::pg::trigger::{Fired, Record, Version, is_replica};
use crate::publish::{self, Movable, ToldByRow};
use crate::queue::Queue;
use pgrx::{PgLogLevel, PgSqlErrorCode, ereport, pg_sys};
use slotkeeper_core::Instant;
use slotkeeper_core::binding::{StateValue, Variable};
use slotkeeper_core::zone::format_utc;
use std::rc::Rc;

/// The states in which publishing has a content in hand.
pub(super) const IN_HAND: [&str; 5] = ["claimed", "publishing", "retrying", "failed", "unknown"];

/// Which of them a row says.
type Told = [bool; IN_HAND.len()];

impl ToldByRow {
    fn of([_, _, retrying, failed, _]: Told) -> Self {
        Self { failed, retrying }
    }
}

impl Binding {
    /// Whether a row says what publishing writes for this state. Only constants tell.
    fn is_told(&self, row: &Record, state: &str) -> Result<bool, Fault> {
        let mut told = false;
        for (column, text) in self.constants(state)? {
            // What a char(n) pads.
            if row.text(column.number).as_deref().map(str::trim_end) != Some(as_written(column, text).trim_end()) {
                return Ok(false);
            }
            told = true;
        }
        Ok(told)
    }

    /// The constants that publishing writes for a state.
    fn constants(&self, state: &str) -> Result<Vec<(&Column, &str)>, Fault> {
        let columns = self.options.state(state).into_iter().flatten();
        let constants = columns.filter_map(|(name, value)| match value {
            StateValue::Literal(text) => Some((name, text.as_str())),
            StateValue::Null | StateValue::Variable(_) => None,
        });
        constants
            .map(|(name, text)| Ok((self.table.column("states", name)?, text)))
            .collect()
    }

    /// Which of the states that publishing writes a row says.
    fn told(&self, row: &Record) -> Result<Told, Fault> {
        let mut told = Told::default();
        for (told, state) in told.iter_mut().zip(IN_HAND) {
            *told = self.is_told(row, state)?;
        }
        Ok(told)
    }

    /// Whether a row says any of them, in SQL.
    pub(super) fn says_in_hand(&self) -> Result<String, Fault> {
        let mut any = vec!["false".to_owned()];
        for state in IN_HAND {
            let mut all = Vec::new();
            for (column, text) in self.constants(state)? {
                let (column, text) = (column.quoted()?, literal(as_written(column, text).trim_end())?);
                // As the type writes it, and not as a cast would.
                let own = format!("pg_catalog.rtrim(pg_catalog.format('%s', t.{column}))");
                all.push(format!(
                    "t.{column} IS NOT NULL AND {own} OPERATOR(pg_catalog.=) {text}"
                ));
            }
            if !all.is_empty() {
                any.push(format!("({})", all.join(" AND ")));
            }
        }
        Ok(format!("({})", any.join(" OR ")))
    }

    /// Whether an UPDATE has itself changed what `states` writes for this one.
    fn changes_state(&self, old: &Record, new: &Record, state: &str) -> Result<bool, Fault> {
        for (name, _) in self.options.state(state).into_iter().flatten() {
            let column = self.table.column("states", name)?.number;
            if column != self.at.number && old.text(column) != new.text(column) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The row with what `states` writes for a state, but for its time.
    fn with_state(&self, mut row: Record, state: &str, values: &Says) -> Result<Record, Fault> {
        for (name, value) in self.options.state(state).into_iter().flatten() {
            let column = self.table.column("states", name)?;
            if column.number == self.at.number {
                continue;
            }
            let instant = |at: Option<Instant>| {
                at.map(|at| match column.type_oid {
                    // Its wall time, in the zone that the application writes.
                    pg_sys::TIMESTAMPOID => format_utc(self.time.stored(at)),
                    _ => format_utc(at),
                })
            };
            let text = match value {
                StateValue::Null => None,
                StateValue::Literal(text) => Some(text.clone()),
                StateValue::Variable(variable) => match variable {
                    Variable::ScheduledAt => instant(values.scheduled_at),
                    Variable::Now => instant(values.now),
                    Variable::SlotRef => values.slot_ref.clone(),
                    Variable::Url => values.url.clone(),
                    Variable::Attempt => values.attempt.map(|attempt| attempt.to_string()),
                    Variable::NextAttemptAt | Variable::Error => None,
                },
            };
            row = row.with_text(column.number, text.as_deref())?;
        }
        Ok(row)
    }
}

/// A constant as its column's type writes it. One that the type doesn't take is told by no row.
fn as_written<'t>(column: &Column, text: &'t str) -> &'t str {
    if column.type_oid != pg_sys::BOOLOID {
        return text;
    }
    match text.trim().to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "on" | "1" => "t",
        _ => "f",
    }
}

/// What a state's variables stand for.
#[derive(Default)]
struct Says {
    scheduled_at: Option<Instant>,
    slot_ref: Option<String>,
    attempt: Option<i32>,
    url: Option<String>,
    now: Option<Instant>,
}

/// What has become of a row that takes a seat again which publishing has taken up.
pub(super) enum PutBack {
    /// As it is to be stored.
    Row(Record),
    /// Another open transaction is at it.
    Busy(pg_sys::TransactionId),
}

/// The queue and the id that a row names.
#[derive(PartialEq, Eq)]
struct Named {
    content_id: Option<String>,
    profile_id: Option<String>,
    platform: Option<String>,
}

impl Named {
    fn names(&self, queue: &Queue) -> bool {
        self.profile_id.as_deref() == Some(&queue.profile_id)
            && self
                .platform
                .as_ref()
                .is_none_or(|platform| *platform == queue.platform)
    }
}

impl Writer<'_> {
    fn named(&self, row: &Record) -> Named {
        let binding = self.binding;
        Named {
            content_id: row.text(binding.id.number),
            profile_id: self.value_of(row, &binding.profile_id),
            platform: binding
                .platform
                .as_ref()
                .and_then(|platform| self.value_of(row, platform))
                .map(|platform| platform.to_lowercase()),
        }
    }

    /// A row that takes a seat leaves the one that it had in another queue, or under another id; under its new id it keeps
    /// the one in its queue. What has begun keeps row and seat together. What was published stays where it was.
    pub(super) fn leave_old_place(&self, old: &Record, content_id: &str, queue: &Queue) -> Result<(), Fault> {
        let binding = self.binding;
        let Some(old_id) = old.text(binding.id.number) else {
            return Ok(());
        };
        let renamed = old_id != content_id;
        for (booking, its_queue) in self.held(old, &old_id)? {
            let is_elsewhere = booking.queue_id != queue.queue_id;
            // Also where it is given back at once: a success that is told late is that of the row.
            let keeps = !renamed || self.rename(&booking, content_id, !is_elsewhere)?;
            if keeps && !is_elsewhere {
                continue;
            }
            let booking = match renamed && keeps {
                true => Booking {
                    content_id: content_id.to_owned(),
                    ..booking
                },
                false => booking,
            };
            match let_go(&booking, &its_queue, now()?)? {
                LetGo::Released | LetGo::Gone | LetGo::Kept("published") => {}
                // Another server has stored the row.
                LetGo::Kept(_) if is_replica() => {}
                LetGo::Kept(_) => return Err(not_movable(&old_id)),
            }
        }
        if renamed {
            self.published_as(&old_id, content_id)?;
        }
        Ok(())
    }

    /// The live bookings of the row as it was. In a partitioned table they may be those of a row of its id in another partition.
    fn held(&self, old: &Record, old_id: &str) -> Result<Vec<(Booking, Rc<Queue>)>, Fault> {
        let binding = self.binding;
        let mut held = booking::of_source(old_id, &binding.source)?;
        if !held.is_empty() && !parts_of(binding, self.fired.table())?.is_empty() {
            let was = self.named(old);
            let (holds, in_hand) = (
                decide(self.fired, &binding.source)?.holds(Version::Old),
                binding.told(old)?.contains(&true),
            );
            held.retain(|(booking, queue)| was.names(queue) && (holds || (in_hand && booking.claimed)));
        }
        Ok(held)
    }

    /// A content that was published stays so under its row's new id.
    fn published_as(&self, old_id: &str, content_id: &str) -> Result<(), Fault> {
        let source = &self.binding.source;
        publish::also_published(source, old_id, content_id)?;
        collisions::forget(source, old_id)
    }

    /// Gives a booking its row's new id; where it stays, a lease that has not begun is void. False where a content of that id
    /// is booked in its queue.
    fn rename(&self, booking: &Booking, content_id: &str, stays: bool) -> Result<bool, Fault> {
        let contents = [
            booking.content(),
            Content {
                content_id,
                ..booking.content()
            },
        ];
        loop {
            let mut keys = contents.map(|content| content.key());
            keys.sort_by_key(|key| key.hash64());
            let turns = keys.map(|key| Brief::acquire(&key));
            let mut at_it = None;
            let mut scan = booking::content_scan()?;
            for (place, content) in contents.iter().enumerate() {
                match booking::state(&mut scan, content)? {
                    booking::State::Busy(transaction) => at_it = Some(transaction),
                    booking::State::Booked if place == 1 => return Ok(false),
                    booking::State::Booked | booking::State::Free => {}
                }
            }
            let movable = match at_it {
                Some(transaction) => Movable::Busy(transaction),
                None => Movable::look(booking, true)?,
            };
            match movable {
                Movable::Busy(transaction) => {
                    drop(turns);
                    wait_for(transaction);
                }
                Movable::No("published") | Movable::Yes { .. } => {
                    booking::rename(booking, content_id)?;
                    if stays {
                        publish::lease_void(booking, now()?)?;
                    }
                    return Ok(true);
                }
                Movable::No(_) if is_replica() => return Ok(false),
                Movable::No(_) => return Err(not_movable(&booking.content_id)),
            }
        }
    }

    /// A row that takes no seat, and has another time, queue or id, or is exempt no longer: what publishing has taken up for it
    /// follows. Before anything else of the guard's moves its booking.
    pub(super) fn follow(&self, old: &Record) -> Result<Record, Fault> {
        let binding = self.binding;
        let decide = decide(self.fired, &binding.source)?;
        let (was, is) = (self.named(old), self.named(&self.new));
        let (exempt, published) = (decide.is_exempt(Version::New), decide.is_published(Version::New));
        if exempt && was == is {
            return Ok(self.new);
        }
        let (Some(old_id), Some(content_id)) = (&was.content_id, &is.content_id) else {
            return Ok(self.new);
        };
        let renamed = old_id != content_id;
        let held = self.held(old, old_id)?;
        let at = self.new.time(binding.at.number, &binding.time);
        let mut mine = None;
        for (booking, queue) in held.iter().filter(|(booking, _)| booking.claimed) {
            let is_dragged = !exempt && at != Some(booking.scheduled_at);
            let may_not = match self.publication_of(booking)? {
                Some("published") => is.names(queue) && is_dragged,
                Some(_) => was != is || is_dragged,
                None => {
                    if was.names(queue) {
                        mine = Some(booking);
                    }
                    false
                }
            };
            if may_not && !is_replica() {
                return Err(not_movable(old_id));
            }
        }
        let told = binding.told(&self.new)?;
        let in_hand = told.contains(&true);
        let was_in_hand = decide.takes(Version::Old) || binding.told(old)?.contains(&true);
        if exempt || published || (was_in_hand && !in_hand) {
            // It gives its seat up once it is stored, but for what was published.
            if renamed {
                for (booking, _) in &held {
                    if published || self.publication_of(booking)? == Some("published") {
                        self.rename(booking, content_id, true)?;
                    }
                }
                self.published_as(old_id, content_id)?;
            }
            return Ok(self.new);
        }
        let [claimed, _, retrying, ..] = told;
        let goes_on = (claimed || retrying) && self.comes_back(old, &held)?;
        if mine.is_none() && !goes_on {
            if renamed {
                if let Some(queue) = self.queue_named(&is)? {
                    self.leave_old_place(old, content_id, &queue)?;
                } else {
                    self.published_as(old_id, content_id)?;
                }
            }
            return Ok(self.new);
        }
        if self.new.is_null(binding.at.number) {
            release_content(binding, old_id, now()?)?;
            return self.told_by_us(old, self.new, "unscheduled", &Says::default());
        }
        self.go_along(old, mine)
    }

    /// An UPDATE of a row that takes another seat, or one again. Where the row says what publishing has written, as one may that takes
    /// its seat by that too, what publishing has taken up for it follows as in [`Self::follow`]. Whether it may is settled with the seat.
    pub(super) fn retake(&self, old: &Record) -> Result<Record, Fault> {
        let binding = self.binding;
        let in_hand = binding.told(&self.new)?.contains(&true);
        let (true, Some(old_id)) = (in_hand, old.text(binding.id.number)) else {
            return self.take();
        };
        let held = self.held(old, &old_id)?;
        let was = self.named(old);
        let mut mine = None;
        for (booking, _) in held
            .iter()
            .filter(|(booking, queue)| booking.claimed && was.names(queue))
        {
            if self.publication_of(booking)?.is_none() {
                mine = Some(booking);
            }
        }
        match mine.is_some() || self.comes_back(old, &held)? {
            true => self.go_along(old, mine),
            false => self.take(),
        }
    }

    /// Whether the row was exempt or without a time, and publishing has let it go then.
    fn comes_back(&self, old: &Record, held: &[(Booking, Rc<Queue>)]) -> Result<bool, Fault> {
        let decide = decide(self.fired, &self.binding.source)?;
        let returns = decide.is_exempt(Version::Old) && !decide.is_exempt(Version::New);
        Ok((returns || old.is_null(self.binding.at.number)) && held.is_empty())
    }

    /// The row takes its seat, and what publishing has taken up for it is there: in `mine`, or to be taken up again.
    fn go_along(&self, old: &Record, mine: Option<&Booking>) -> Result<Record, Fault> {
        let binding = self.binding;
        let at = self.new.time(binding.at.number, &binding.time);
        let is = self.named(&self.new);
        let Some(content_id) = &is.content_id else {
            return self.take();
        };
        let stays_failed = match mine {
            Some(mine) => publish::is_failed(mine)? && at == Some(mine.scheduled_at),
            None => false,
        };
        let row = self.take()?;
        let own = match self.queue_named(&is)? {
            Some(queue) => booking::find(&Content {
                content_id,
                source: &binding.source,
                queue_id: queue.queue_id,
            })?,
            None => None,
        };
        let Some(own) = own else { return Ok(row) };
        if mine.is_none_or(|mine| mine.booking_id != own.booking_id) {
            publish::take_up(&own, stays_failed, now()?)?;
        }
        if !publish::is_scheduled_again(&own)? {
            return Ok(row);
        }
        let says = Says {
            scheduled_at: Some(own.scheduled_at),
            slot_ref: own.slot_ref.clone(),
            now: Some(now()?),
            ..Says::default()
        };
        self.told_by_us(old, row, "scheduled", &says)
    }

    /// The row with what `states` writes for a state, unless this UPDATE says itself how the row stands.
    fn told_by_us(&self, old: &Record, row: Record, state: &str, says: &Says) -> Result<Record, Fault> {
        if is_replica() || !self.fired.is_before() || self.binding.changes_state(old, &self.new, state)? {
            return Ok(row);
        }
        self.binding.with_state(row, state, says)
    }

    /// What keeps publishing from letting a booking go, once nobody else is at it.
    fn publication_of(&self, booking: &Booking) -> Result<Option<&'static str>, Fault> {
        loop {
            match Movable::look(booking, true)? {
                Movable::Yes { .. } => return Ok(None),
                Movable::No(state) => return Ok(Some(state)),
                Movable::Busy(transaction) => wait_for(transaction),
            }
        }
    }

    fn queue_named(&self, named: &Named) -> Result<Option<Rc<Queue>>, Fault> {
        match &named.profile_id {
            Some(profile_id) => queue_of(self.binding, profile_id, named.platform.as_deref(), false),
            None => Ok(None),
        }
    }

    /// A row takes a seat again, and its content is booked at its very time: where publishing has taken it up, the application
    /// has put it back. What is only on its way stays there.
    pub(super) fn put_back(&self, own: &Booking) -> Result<PutBack, Fault> {
        let decide = decide(self.fired, &self.binding.source)?;
        let again = !self.fired.is_update()
            || (decide.takes(Version::New)
                && (!decide.takes(Version::Old)
                    || (decide.is_published(Version::Old) && !decide.is_published(Version::New))));
        if !own.claimed || is_replica() || !again {
            return Ok(PutBack::Row(self.new));
        }
        let now = now()?;
        let says = match publish::put_back(own, self.fired.is_update(), now)? {
            publish::PutBack::Done => return Ok(PutBack::Row(self.new)),
            publish::PutBack::Busy(transaction) => return Ok(PutBack::Busy(transaction)),
            publish::PutBack::Unknown(_) if self.fired.is_update() => return Err(unknown(&own.content_id)),
            publish::PutBack::Unknown(attempt) => Says {
                attempt: Some(attempt),
                now: Some(now),
                ..Says::default()
            },
            publish::PutBack::Published(success) => {
                let row = self.said_published(&own.content_id, success)?;
                return Ok(PutBack::Row(row.unwrap_or(self.new)));
            }
        };
        let told = "may have been published: nobody knows";
        let row = self.said(&own.content_id, "unknown", &says, told)?;
        Ok(PutBack::Row(row.unwrap_or(self.new)))
    }

    /// A row that the application says to be published no more, and whose content is not booked: the row that says so again, if a
    /// success has closed it.
    pub(super) fn was_published(&self, content: &Content<'_>) -> Result<Option<Record>, Fault> {
        let decide = decide(self.fired, &self.binding.source)?;
        if !self.fired.is_update() || !decide.is_published(Version::Old) || decide.is_published(Version::New) {
            return Ok(None);
        }
        match publish::success(content)? {
            Some(success) if !is_replica() => self.said_published(content.content_id, success),
            _ => Ok(None),
        }
    }

    fn said_published(&self, content_id: &str, success: publish::Success) -> Result<Option<Record>, Fault> {
        let told = format!("was published at {}", format_utc(success.published_at));
        let says = Says {
            attempt: Some(success.attempt),
            url: success.url,
            now: Some(success.published_at),
            ..Says::default()
        };
        self.said(content_id, "published", &says, &told)
    }

    /// The row with what is true of its content, where the binding says how.
    fn said(&self, content_id: &str, state: &str, says: &Says, told: &str) -> Result<Option<Record>, Fault> {
        if !self.fired.is_before() || self.binding.options.state(state).is_none() {
            return Ok(None);
        }
        ereport!(
            PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("slotkeeper: content {content_id} {told}"),
            "It is not handed out again in its queue, and its row says so."
        );
        self.binding.with_state(self.new, state, says).map(Some)
    }

    /// The application's own worker has published the row's content: wherever it is booked, and in its queue in any case.
    pub(super) fn published(&self) -> Result<(), Fault> {
        let named = self.named(&self.new);
        let Some(content_id) = &named.content_id else {
            return Ok(());
        };
        let source = &self.binding.source;
        let booked = booking::of_source(content_id, source)?;
        for (booking, _) in &booked {
            publish::published_by_application(booking, now()?)?;
        }
        if booked.iter().any(|(_, queue)| named.names(queue)) {
            return Ok(());
        }
        if let Some(queue) = self.queue_named(&named)? {
            publish::close_all(source, &[(content_id.as_str(), queue.queue_id)], now()?)?;
        }
        Ok(())
    }
}

/// A row that takes no seat was given another state by the application: one that is none of publishing's calls its content off,
/// and one that is makes it so.
pub(super) fn heed(binding: &Binding, fired: &Fired<'_>, old: &Record, new: &Record) -> Result<(), Fault> {
    let (was, is) = (binding.told(old)?, binding.told(new)?);
    if was == is || !was.contains(&true) {
        return Ok(());
    }
    if !is.contains(&true) {
        return leave(binding, fired, old);
    }
    let Some(content_id) = new.text(binding.id.number) else {
        return Ok(());
    };
    let mut newly = is;
    for (newly, was) in newly.iter_mut().zip(was) {
        *newly &= !was;
    }
    for (booking, _) in booking::of_source(&content_id, &binding.source)? {
        if booking.claimed {
            publish::heed(&booking, ToldByRow::of(newly), now()?)?;
        }
    }
    Ok(())
}

/// A row takes its seat no more. Where it says by now that publishing has it in hand, and publishing has, it keeps it all the same.
pub(super) fn give_up(binding: &Binding, fired: &Fired<'_>, old: &Record, new: &Record) -> Result<(), Fault> {
    let told = binding.told(new)?;
    let exempt = decide(fired, &binding.source)?.is_exempt(Version::New);
    let Some(content_id) = new.text(binding.id.number).filter(|_| !exempt && told.contains(&true)) else {
        return leave(binding, fired, old);
    };
    for (booking, queue) in booking::of_source(&content_id, &binding.source)? {
        if booking.claimed {
            publish::heed(&booking, ToldByRow::of(told), now()?)?;
        } else {
            let_go(&booking, &queue, now()?)?;
        }
    }
    collisions::forget(&binding.source, &content_id)
}

fn unknown(content_id: &str) -> Fault {
    Fault::unbindable(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("content {content_id} cannot be scheduled again"),
        "Nobody knows whether its last attempt has published it.",
        "Find out, and call slotkeeper.resolve_unknown(); if it was not published, the row may be scheduled again then.",
    )
}
