//! What a row of the application says of its queue.

use super::copy::Name;
use super::{QueueBinding, Rules, Source};
use crate::arguments::{identifier, platform_name};
use crate::fault::Fault;
use crate::manage;
use pgrx::pg_sys;
use serde_json::{Value, json};
use slotkeeper_core::binding::{SlotTexts, slot_of_texts, timetable_of_text};
use slotkeeper_core::timetable::Timetable;

/// A row, read.
pub(super) struct Said {
    pub(super) queue: Name,
    pub(super) time_zone: String,
    /// A timetable, a slot of one, or null: a row without a time.
    pub(super) rule: Value,
}

/// What a row says, from its columns' texts; `None` where it names no queue.
pub(super) fn read(binding: &QueueBinding, text: &dyn Fn(i16) -> Option<String>) -> Result<Option<Said>, Fault> {
    let text = |number: i16| {
        let is_padded = |column: &super::super::Column| column.type_oid == pg_sys::BPCHAROID;
        let value = text(number)?;
        Some(match binding.table.column_at(number).is_some_and(is_padded) {
            true => value.trim_end_matches(' ').to_owned(),
            false => value,
        })
    };
    let of = |source: &Source| match source {
        Source::Column(number) => text(*number),
        Source::Value(value) => Some(value.clone()),
    };
    let (Some(profile_id), Some(platform)) = (of(&binding.profile_id), of(&binding.platform)) else {
        return Ok(None);
    };
    let refused = |fault: Fault| in_row(binding, &profile_id, &platform, None, fault);
    identifier("profile_id", Some(&profile_id)).map_err(refused)?;
    identifier("platform", Some(&platform)).map_err(refused)?;
    let name = platform_name("platform", &platform).map_err(refused)?;
    let rule = match &binding.rules {
        Rules::Value(timetable) => timetable.clone(),
        Rules::Column(number) => match text(*number) {
            Some(text) => timetable_of_text(&text).map_err(|invalid| refused(invalid.into()))?,
            None => json!({}),
        },
        Rules::Slot(slot) => {
            let optional = |number: Option<i16>| number.and_then(text);
            let texts = SlotTexts {
                time: optional(slot.time),
                hour: optional(slot.hour),
                minute: optional(slot.minute),
                days: optional(slot.days),
                capacity: optional(slot.capacity),
                slot_ref: optional(slot.slot_ref),
            };
            let slot_ref = texts.slot_ref.as_deref();
            slot_of_texts(&texts)
                .map_err(|invalid| in_row(binding, &profile_id, &platform, slot_ref, invalid.into()))?
        }
    };
    Ok(Some(Said {
        time_zone: of(&binding.time_zone).unwrap_or_else(|| "UTC".to_owned()),
        queue: Name {
            profile_id,
            platform: name,
        },
        rule,
    }))
}

/// Refuses a row of which no queue could be made, before anything is written.
pub(super) fn check(binding: &QueueBinding, said: &Said) -> Result<(), Fault> {
    let slot_ref = said.rule.get("ref").and_then(Value::as_str);
    let refused = |fault| in_row(binding, &said.queue.profile_id, &said.queue.platform, slot_ref, fault);
    manage::check_zone(&said.time_zone).map_err(refused)?;
    match &binding.rules {
        Rules::Column(_) => Timetable::parse(&said.rule, 1)
            .map(|_| ())
            .map_err(|invalid| refused(invalid.into())),
        // What a slot is was checked when it was read, a ref excepted.
        Rules::Slot(_) => match slot_ref {
            Some(slot_ref) => identifier("ref", Some(slot_ref)).map(|_| ()).map_err(refused),
            None => Ok(()),
        },
        Rules::Value(_) => Ok(()),
    }
}

fn in_row(binding: &QueueBinding, profile_id: &str, platform: &str, slot_ref: Option<&str>, fault: Fault) -> Fault {
    let cut = |text: &str| text.chars().take(60).collect::<String>();
    let slot = slot_ref.map_or(String::new(), |slot_ref| format!(", slot {}", cut(slot_ref)));
    Fault::InRow {
        row: format!(
            "row of {} for queue ({}, {}){slot}",
            binding.source,
            cut(profile_id),
            cut(platform)
        ),
        fault: Box::new(fault),
    }
}
