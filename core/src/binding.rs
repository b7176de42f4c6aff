//! What a binding says of a table of the application: which column means what, and which rows take a seat.
//!
//! Predicates are SQL text here; the server parses them. What can be judged without it is judged here.

mod fields;
mod queue_rows;
mod queues;
#[cfg(test)]
mod tests;
mod unbooked;

pub use queue_rows::{
    ACTIVE, Disagreement, QueueSays, RowSays, SlotTexts, queue_of_row, queue_of_slots, slot_of_texts, timetable_of_text,
};
pub use queues::{QueueSource, SlotColumns, TimetableSource};
pub use unbooked::{Why, summary};

use crate::Invalid;
use crate::MICROS_PER_SEC;
use crate::options::QueueOptions;
use crate::span::Span;
use fields::Fields;
use serde_json::Value;
use std::collections::BTreeMap;

/// Rows due so soon move to the next free granule, not to the next slot.
const DEFAULT_NOW_WITHIN_SECS: i64 = 120;

/// The longest `now_within`.
const LONGEST_NOW_WITHIN_SECS: i64 = 86_400;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// A column of the row.
    Column(String),
    /// The same for all rows.
    Value(String),
}

/// What happens to a row whose instant is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// It moves to the next free seat of the timetable.
    NextSlot,
    /// It moves to the next free granule.
    NextFree,
    /// The statement fails.
    Reject,
}

/// What happens to a row that occupies and has no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtNull {
    /// It gets the next free seat.
    Assign,
    /// It takes no seat.
    Ignore,
}

/// A value that a state writes into a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateValue {
    /// SQL NULL.
    Null,
    /// A text in the column type's own form.
    Literal(String),
    /// `$scheduled_at` and the like.
    Variable(Variable),
}

/// What a state may refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variable {
    /// When the content is to be published.
    ScheduledAt,
    /// The application's own id of the slot.
    SlotRef,
    /// Number of the attempt.
    Attempt,
    /// When the next attempt is due.
    NextAttemptAt,
    /// What went wrong.
    Error,
    /// Where it was published.
    Url,
    /// The present instant.
    Now,
}

impl Variable {
    const ALL: [(&'static str, Self); 7] = [
        ("$scheduled_at", Self::ScheduledAt),
        ("$slot_ref", Self::SlotRef),
        ("$attempt", Self::Attempt),
        ("$next_attempt_at", Self::NextAttemptAt),
        ("$error", Self::Error),
        ("$url", Self::Url),
        ("$now", Self::Now),
    ];
}

/// States of a content that may be written into its row.
pub const STATES: [&str; 8] = [
    "scheduled",
    "unscheduled",
    "claimed",
    "publishing",
    "retrying",
    "published",
    "failed",
    "unknown",
];

/// What is written into a row for one state: column by column.
pub type StateColumns = BTreeMap<String, StateValue>;

/// For queues that are first seen through a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueDefaults {
    /// IANA name, or another that `create_queue` takes.
    pub time_zone: String,
    /// In any form.
    pub timetable: Value,
    /// A queue's options.
    pub options: Value,
}

/// `attach_table`'s options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOptions {
    /// Column with the content's id.
    pub content_id: String,
    /// Profile of the queue; none where platform and profile are told by the bound queues alone.
    pub profile_id: From,
    /// Platform of the queue; none where the profile alone names a bound queue.
    pub platform: Option<From>,
    /// The application's user.
    pub user_id: Option<From>,
    /// Column with the time.
    pub at: String,
    /// Zone in which a `timestamp without time zone` is to be read.
    pub at_zone: Option<String>,
    /// SQL: when it holds the row takes a seat.
    pub occupies: Option<String>,
    /// SQL by name: when one holds the row takes none.
    pub exempt: Vec<(String, String)>,
    /// SQL: the application's own worker has published the row.
    pub published_when: Option<String>,
    /// Column that contents of one group share.
    pub group: Option<String>,
    /// Where the time is taken.
    pub on_conflict: OnConflict,
    /// Where there is no time.
    pub at_null: AtNull,
    /// Microseconds.
    pub now_within: i64,
    /// What is written where, by state.
    pub states: BTreeMap<String, StateColumns>,
    /// For queues that don't exist yet.
    pub queue_defaults: Option<QueueDefaults>,
}

const EXAMPLE: &str = r#"such as {"content_id": "id", "profile_id": "profile_id", "platform": "platform", "at": "scheduled_at", "occupies": "status = 'scheduled'"}"#;

impl TableOptions {
    /// Reads the options object.
    pub fn parse(json: &Value) -> Result<Self, Invalid> {
        let mut fields = Fields::of("p_options", json, EXAMPLE)?;
        let options = Self {
            content_id: fields.required_name("content_id")?,
            profile_id: fields.required_source("profile_id")?,
            platform: fields.source("platform")?,
            user_id: fields.source("user_id")?,
            at: fields.required_name("at")?,
            at_zone: fields.text("at_zone")?,
            occupies: fields.text("occupies")?,
            exempt: fields.predicates("exempt")?,
            published_when: fields.text("published_when")?,
            group: fields.text("group")?,
            on_conflict: fields.word(
                "on_conflict",
                OnConflict::NextSlot,
                &[
                    ("next_slot", OnConflict::NextSlot),
                    ("next_free", OnConflict::NextFree),
                    ("reject", OnConflict::Reject),
                ],
            )?,
            at_null: fields.word(
                "at_null",
                AtNull::Ignore,
                &[("assign", AtNull::Assign), ("ignore", AtNull::Ignore)],
            )?,
            now_within: now_within(&mut fields)?,
            states: states(&mut fields)?,
            queue_defaults: queue_defaults(&mut fields)?,
        };
        fields.done()?;
        Ok(options)
    }

    /// Refuses states that would make another content of the row, or put it into another queue.
    pub fn check_states(&self) -> Result<(), Invalid> {
        let is_column = |from: Option<&From>, name: &str| matches!(from, Some(From::Column(column)) if column == name);
        for (state, columns) in &self.states {
            for column in columns.keys() {
                let meaning = if *column == self.content_id {
                    "id"
                } else if is_column(Some(&self.profile_id), column) {
                    "profile"
                } else if is_column(self.platform.as_ref(), column) {
                    "platform"
                } else {
                    continue;
                };
                return Err(Invalid::new(
                    format!("p_options.states.{state}.{column}"),
                    format!("is the column with the content's {meaning}, which a state must not change"),
                )
                .with_hint("Let states write columns of the content's own state."));
            }
        }
        Ok(())
    }

    /// What the row of a content gets in a state.
    pub fn state(&self, state: &str) -> Option<&StateColumns> {
        self.states.get(state)
    }
}

fn now_within(fields: &mut Fields<'_>) -> Result<i64, Invalid> {
    let Some(text) = fields.text("now_within")? else {
        return Ok(DEFAULT_NOW_WITHIN_SECS * MICROS_PER_SEC);
    };
    let longest = LONGEST_NOW_WITHIN_SECS * MICROS_PER_SEC;
    let zero = text.trim().trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim() == "0";
    let micros = if zero {
        Some(0)
    } else {
        Span::parse(&text).and_then(|span| span.as_fixed_micros())
    };
    micros.filter(|&micros| micros <= longest).ok_or_else(|| {
        fields
            .invalid("now_within", "is not a length of time of at most one day")
            .with_hint("such as \"2 minutes\"")
    })
}

fn states(fields: &mut Fields<'_>) -> Result<BTreeMap<String, StateColumns>, Invalid> {
    let Some(mut states) = fields.object("states")? else {
        return Ok(BTreeMap::new());
    };
    let mut all = BTreeMap::new();
    for state in STATES {
        let Some(mut columns) = states.object(state)? else {
            continue;
        };
        all.insert(state.to_owned(), columns.state_values()?);
    }
    states.done()?;
    Ok(all)
}

fn queue_defaults(fields: &mut Fields<'_>) -> Result<Option<QueueDefaults>, Invalid> {
    let Some(mut fields) = fields.object("queue_defaults")? else {
        return Ok(None);
    };
    let options = fields
        .json("options")
        .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let granule = QueueOptions::parse(&options)?.granule_secs;
    let timetable = fields
        .json("timetable")
        .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    crate::timetable::Timetable::parse(&timetable, granule)?;
    let defaults = QueueDefaults {
        time_zone: fields.text("time_zone")?.unwrap_or_else(|| "UTC".to_owned()),
        timetable,
        options,
    };
    fields.done()?;
    Ok(Some(defaults))
}
