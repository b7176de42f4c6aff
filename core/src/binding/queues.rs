//! `attach_queues`' options: queues that live in a table of the application.

use super::From;
use super::fields::Fields;
use crate::Invalid;
use serde_json::Value;

/// The status that a queue has when the predicate holds, in the order in which they are asked.
pub(super) const STATUSES: [&str; 3] = ["disabled", "needs_refresh", "paused"];

const EXAMPLE: &str =
    r#"such as {"profile_id": "id", "platform": "platform", "time_zone": "time_zone", "timetable": "timetable"}"#;

/// A table with queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSource {
    /// Profile of the queue.
    pub profile_id: From,
    /// Its platform.
    pub platform: From,
    /// Its zone; UTC where nothing says otherwise.
    pub time_zone: From,
    /// Its timetable; none: free-form.
    pub timetable: Option<TimetableSource>,
    /// SQL by status: the first that holds is the queue's, else it is active.
    pub status: Vec<(String, String)>,
}

/// Where the timetable comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimetableSource {
    /// A column in any timetable form; one row is one queue.
    Column(String),
    /// The same for all queues.
    Value(Value),
    /// One row is one slot.
    Rows(SlotColumns),
}

/// The columns of a row that is one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotColumns {
    /// `HH:MM`, a `time`, or nothing where there is an hour.
    pub time: Option<String>,
    /// Hour of the day.
    pub hour: Option<String>,
    /// Minute of the hour; 0 where it is left out.
    pub minute: Option<String>,
    /// Days in any spelling of a timetable's keys, or a number from 0 (Sunday) to 7 (Sunday); daily where left out.
    pub days: Option<String>,
    /// Seats.
    pub capacity: Option<String>,
    /// The application's own slot id.
    pub slot_ref: Option<String>,
}

impl QueueSource {
    /// Reads the options object.
    pub fn parse(json: &Value) -> Result<Self, Invalid> {
        let mut fields = Fields::of("p_options", json, EXAMPLE)?;
        let source = Self {
            profile_id: fields.required_source("profile_id")?,
            platform: fields.required_source("platform")?,
            time_zone: fields
                .source("time_zone")?
                .unwrap_or_else(|| From::Value("UTC".to_owned())),
            timetable: timetable(&mut fields)?,
            status: statuses(&mut fields)?,
        };
        fields.done()?;
        Ok(source)
    }
}

fn timetable(fields: &mut Fields<'_>) -> Result<Option<TimetableSource>, Invalid> {
    match fields.json("timetable") {
        None => Ok(None),
        Some(Value::String(_)) => Ok(fields.text("timetable")?.map(TimetableSource::Column)),
        Some(Value::Object(map)) if map.contains_key("value") && map.len() == 1 => {
            Ok(map.get("value").cloned().map(TimetableSource::Value))
        }
        Some(_) => {
            let Some(mut columns) = fields.object("timetable")? else {
                return Ok(None);
            };
            let slot = SlotColumns {
                time: columns.text("time")?,
                hour: columns.text("hour")?,
                minute: columns.text("minute")?,
                days: columns.text("days")?,
                capacity: columns.text("capacity")?,
                slot_ref: columns.text("ref")?,
            };
            let problem = match (&slot.time, &slot.hour, &slot.minute) {
                (None, None, _) => Some("needs \"time\", or \"hour\" and \"minute\""),
                (Some(_), Some(_), _) | (Some(_), _, Some(_)) => Some("has both a time and hour or minute"),
                _ => None,
            };
            if let Some(problem) = problem {
                return Err(fields.invalid("timetable", problem));
            }
            columns.done()?;
            Ok(Some(TimetableSource::Rows(slot)))
        }
    }
}

fn statuses(fields: &mut Fields<'_>) -> Result<Vec<(String, String)>, Invalid> {
    let Some(mut predicates) = fields.object("status")? else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for status in STATUSES {
        if let Some(predicate) = predicates.text(status)? {
            all.push((status.to_owned(), predicate));
        }
    }
    predicates.done()?;
    Ok(all)
}
