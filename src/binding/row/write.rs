//! Writing what the binding's `states` say into a row.

use super::Row;
use super::id::{IdType, id_is};
use crate::binding::table::Column;
use crate::binding::{Binding, triggers};
use crate::booking::{self, Booking, Place};
use crate::fault::Fault;
use crate::pg::dynamic::{self, See, literal};
use crate::pg::predicate::RowOf;
use crate::pg::role::caller_name;
use crate::pg::statement::Value;
use crate::pg::trigger::Record;
use pgrx::{PgSqlErrorCode, pg_sys};
use slotkeeper_core::Instant;
use slotkeeper_core::binding::{StateValue, Variable};
use slotkeeper_core::slots::Slot;
use slotkeeper_core::zone::format_utc;
use std::cell::RefCell;
use std::collections::HashMap;

thread_local! {
    /// The content whose state publishing is writing into its row.
    static OWN_WRITE: RefCell<Option<(i64, String)>> = const { RefCell::new(None) };
}

/// While this lives the guard lets the row of one content be: what is written follows from the ledger.
pub(super) struct OwnWrite;

impl OwnWrite {
    pub(super) fn begin(binding_id: i64, content_id: &str) -> Self {
        OWN_WRITE.set(Some((binding_id, content_id.to_owned())));
        Self
    }
}

impl Drop for OwnWrite {
    fn drop(&mut self) {
        OWN_WRITE.set(None);
    }
}

/// Whether publishing is writing the row of this content.
pub(in crate::binding) fn is_own_write(binding: &Binding, row: &Record) -> bool {
    OWN_WRITE.with_borrow(|own| {
        own.as_ref().is_some_and(|(binding_id, own)| {
            *binding_id == binding.binding_id && row.text(binding.id.number).as_ref() == Some(own)
        })
    })
}

impl Binding {
    /// Whether the caller may write the columns that this state writes. A privilege may be granted column by column.
    pub(super) fn require_writable_by_caller(&self, state: &str) -> Result<(), Fault> {
        let of_state = self.options.state(state).into_iter().flat_map(|columns| columns.keys());
        let time = (state == "scheduled").then_some(&self.options.at);
        for name in of_state.chain(time) {
            let column = self.table.column("states", name)?;
            if !self.table.can_write(column) {
                return Err(Fault::unbindable(
                    PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                    format!("permission denied for column {name} of table {}", self.table.name),
                    format!(
                        "{} may not UPDATE it, and a content that is {state} has it written.",
                        caller_name()
                    ),
                    "Grant UPDATE of the time and of all columns that \"states\" of the binding names.",
                ));
            }
        }
        Ok(())
    }
}

/// What has become of many rows that were written.
#[derive(Default)]
pub(crate) struct AllScheduled {
    /// The bookings of those that got another time, as [`Target::scheduled`] returns them.
    pub(crate) others: Vec<Booking>,
    /// Places of those that take no seat all the same, and what to say of them.
    pub(crate) unseated: Vec<(usize, Fault)>,
}

/// Values that a state's columns may refer to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Values<'a> {
    pub(crate) scheduled_at: Option<Instant>,
    pub(crate) slot_ref: Option<&'a str>,
    pub(crate) attempt: Option<i64>,
    pub(crate) next_attempt_at: Option<Instant>,
    pub(crate) error: Option<&'a str>,
    pub(crate) url: Option<&'a str>,
    pub(crate) now: Option<Instant>,
}

impl<'a> Values<'a> {
    /// The same with the place of the content in its queue, where it is known.
    pub(super) fn at(&self, place: &'a Option<Place>) -> Self {
        match place {
            Some(place) => Self {
                scheduled_at: Some(place.scheduled_at),
                slot_ref: place.slot_ref.as_deref(),
                ..*self
            },
            None => *self,
        }
    }
}

impl Row {
    /// Writes what the binding says for a state; returns whether the row takes a seat then.
    pub(crate) fn write(&self, state: &str, values: &Values<'_>) -> Result<bool, Fault> {
        match self.update(state, values, "true")? {
            Some(written) => Ok(written.seated),
            None => Err(self.unwritable()),
        }
    }

    pub(super) fn write_if_seated(&self, state: &str, values: &Values<'_>) -> Result<bool, Fault> {
        let seated = triggers::Conditions::of(&self.binding)?.takes_seat(RowOf::Table)?;
        Ok(self.update(state, values, &seated)?.is_some())
    }

    /// The content's place, where this state writes it.
    pub(super) fn place(&self, state: &str) -> Result<Option<Place>, Fault> {
        let columns = self.binding.options.state(state);
        let writes_place = columns.is_some_and(|columns| {
            let is_place =
                |value: &StateValue| matches!(value, StateValue::Variable(Variable::ScheduledAt | Variable::SlotRef));
            columns.values().any(is_place)
        });
        match writes_place {
            true => booking::last_place(&self.content_id, &self.binding.source),
            false => Ok(None),
        }
    }

    /// What the row's content holds now.
    pub(super) fn booking(&self) -> Result<Option<Booking>, Fault> {
        let held = booking::of_source(&self.content_id, &self.binding.source)?;
        Ok(held.into_iter().next().map(|(booking, _)| booking))
    }

    /// Writes a state where a condition holds; `None` where nothing was written.
    pub(super) fn update(&self, state: &str, values: &Values<'_>, condition: &str) -> Result<Option<Written>, Fault> {
        let binding = &*self.binding;
        let table = &binding.table;
        let mut write = Write {
            binding,
            values: vec![Bound::Text(Some(self.content_id.clone()))],
            sets: Vec::new(),
            at: None,
        };
        write.set_all(state, &|variable| match variable {
            Variable::ScheduledAt => Operand::Time(values.scheduled_at),
            Variable::NextAttemptAt => Operand::Time(values.next_attempt_at),
            Variable::Now => Operand::Time(values.now),
            Variable::SlotRef => Operand::Text(values.slot_ref.map(str::to_owned)),
            Variable::Error => Operand::Text(values.error.map(str::to_owned)),
            Variable::Url => Operand::Text(values.url.map(str::to_owned)),
            Variable::Attempt => Operand::Text(values.attempt.map(|n| n.to_string())),
        })?;
        if write.sets.is_empty() {
            return Ok(Some(Written {
                seated: false,
                as_asked: true,
            }));
        }
        let sql = format!(
            "UPDATE {} AS t SET {} WHERE {} AND ({condition}) RETURNING ({}), {}",
            table.quoted()?,
            write.sets.join(", "),
            id_is(&binding.id, "t")?,
            triggers::Conditions::of(binding)?.takes_seat(RowOf::Table)?,
            write.as_asked()?
        );
        let bound: Vec<Value<'_>> = write.values.iter().map(Bound::value).collect();
        let written = dynamic::execute(&sql, See::Caller, &bound, |row| {
            Ok(Written {
                seated: row.must(1)?,
                as_asked: row.must(2)?,
            })
        })?;
        Ok(written.into_iter().next())
    }

    pub(super) fn unwritable(&self) -> Fault {
        Fault::unbindable(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("the row of content {} cannot be written", self.content_id),
            format!(
                "A policy or a trigger of {} kept it from being updated.",
                self.binding.source
            ),
            "Whoever books a content must be allowed to UPDATE its row.",
        )
    }
}

/// Writes into rows of one binding, which the caller has locked, that their contents are scheduled.
pub(super) fn write_all(rows: &[(usize, &Row, &Slot)], now: Instant, all: &mut AllScheduled) -> Result<(), Fault> {
    let Some((_, first, _)) = rows.first() else {
        return Ok(());
    };
    let binding = &*first.binding;
    binding.require_writable_by_caller("scheduled")?;
    let of_type = IdType::of(&binding.id).ok_or_else(|| Fault::Internal("an id of an unknown type".to_owned()))?;
    let mut write = Write {
        binding,
        // The arrays come first.
        values: vec![Bound::Text(None), Bound::Text(None), Bound::Text(None)],
        sets: Vec::new(),
        at: None,
    };
    write.set_all("scheduled", &|variable| match variable {
        Variable::ScheduledAt => Operand::TimeOfRow("v.at"),
        Variable::SlotRef => Operand::TextOfRow("v.slot_ref"),
        Variable::Now => Operand::Time(Some(now)),
        _ => Operand::Text(None),
    })?;
    let id = binding.id.quoted()?;
    let sql = format!(
        "UPDATE {table} AS t SET {sets} \
         FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS v (id, at, slot_ref) \
         WHERE t.{id} OPERATOR(pg_catalog.=) v.id::{cast} \
         RETURNING t.{id}::pg_catalog.text, ({takes}), {as_asked}",
        table = binding.table.quoted()?,
        sets = write.sets.join(", "),
        cast = of_type.cast(),
        takes = triggers::Conditions::of(binding)?.takes_seat(RowOf::Table)?,
        as_asked = write.as_asked()?
    );
    let ids: Vec<Option<&str>> = rows.iter().map(|(_, row, _)| Some(row.content_id.as_str())).collect();
    let times: Vec<String> = rows.iter().map(|(_, _, slot)| format_utc(slot.at)).collect();
    let times: Vec<Option<&str>> = times.iter().map(|at| Some(at.as_str())).collect();
    let refs: Vec<Option<&str>> = rows.iter().map(|(_, _, slot)| slot.slot_ref.as_deref()).collect();
    let mut values = vec![Value::Texts(&ids), Value::Texts(&times), Value::Texts(&refs)];
    values.extend(write.values.iter().skip(values.len()).map(Bound::value));
    let written: HashMap<String, Written> = dynamic::execute(&sql, See::Caller, &values, |row| {
        let written = Written {
            seated: row.must(2)?,
            as_asked: row.must(3)?,
        };
        Ok((row.must::<String>(1)?, written))
    })?
    .into_iter()
    .collect();
    for (place, row, _) in rows {
        match written.get(&row.content_id) {
            Some(Written {
                seated: true,
                as_asked: true,
            }) => {}
            Some(Written { seated: true, .. }) => all.others.extend(row.booking()?),
            Some(_) => all.unseated.push((*place, row.exempt())),
            None => return Err(row.unwritable()),
        }
    }
    Ok(())
}

/// What a variable stands for in an UPDATE.
enum Operand {
    Text(Option<String>),
    Time(Option<Instant>),
    /// A text in SQL, of each row.
    TextOfRow(&'static str),
    /// A text in SQL with an instant, of each row.
    TimeOfRow(&'static str),
}

/// A parameter of the UPDATE.
enum Bound {
    Text(Option<String>),
    Time(Instant),
}

impl Bound {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Text(text) => Value::OptionalText(text.as_deref()),
            Self::Time(at) => Value::Time(*at),
        }
    }
}

/// The UPDATE that is being put together.
struct Write<'a> {
    binding: &'a Binding,
    values: Vec<Bound>,
    sets: Vec<String>,
    /// What is written into the row's time, where that is an instant.
    at: Option<String>,
}

/// What has become of a row that was written.
#[derive(Clone, Copy)]
pub(super) struct Written {
    /// It takes a seat.
    pub(super) seated: bool,
    /// It has the time that was written, which a trigger may have changed.
    pub(super) as_asked: bool,
}

impl Write<'_> {
    /// All columns that a state writes; the time too, where it doesn't say how.
    fn set_all(&mut self, state: &str, operand: &dyn Fn(Variable) -> Operand) -> Result<(), Fault> {
        let binding = self.binding;
        let columns = binding.options.state(state);
        if state == "scheduled" && columns.is_none_or(|columns| !columns.contains_key(&binding.options.at)) {
            self.set(&binding.at.name, operand(Variable::ScheduledAt))?;
        }
        for (column, value) in columns.into_iter().flatten() {
            let operand = match value {
                StateValue::Null => Operand::Text(None),
                StateValue::Literal(text) => Operand::Text(Some(text.clone())),
                StateValue::Variable(variable) => operand(*variable),
            };
            self.set(column, operand)?;
        }
        Ok(())
    }

    /// A parameter's place in SQL.
    fn parameter(&mut self, value: Bound) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    fn set(&mut self, name: &str, operand: Operand) -> Result<(), Fault> {
        let column = self.binding.table.column("states", name)?.clone();
        if column.is_generated {
            return Err(Fault::unbindable(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("column {name} of {} cannot be written", self.binding.source),
                "It is generated, so no call can give its row another time.",
                "Change the columns that it is computed from: the row's seat follows.",
            ));
        }
        let is_text = matches!(column.type_oid, pg_sys::TEXTOID | pg_sys::VARCHAROID);
        let as_text = |text: String| format!("CAST({text}::pg_catalog.text AS {})", column.type_name);
        let is_instant = matches!(operand, Operand::Time(Some(_)) | Operand::TimeOfRow(_)) && !is_text;
        let expression = match operand {
            Operand::Text(text) => as_text(self.parameter(Bound::Text(text))),
            Operand::Time(None) => as_text(self.parameter(Bound::Text(None))),
            Operand::TextOfRow(text) => as_text(text.to_owned()),
            // A text column gets the form that replies have.
            Operand::Time(Some(at)) if is_text => as_text(self.parameter(Bound::Text(Some(format_utc(at))))),
            Operand::TimeOfRow(text) if is_text => as_text(text.to_owned()),
            Operand::Time(Some(at)) => {
                let parameter = self.parameter(Bound::Time(at));
                self.time(&column, &parameter)?
            }
            Operand::TimeOfRow(text) => self.time(&column, &format!("{text}::pg_catalog.timestamptz"))?,
        };
        self.sets.push(format!("{} = {expression}", column.quoted()?));
        if is_instant && column.number == self.binding.at.number {
            self.at = Some(expression);
        }
        Ok(())
    }

    /// Whether the row has the time that was written, in SQL.
    fn as_asked(&self) -> Result<String, Fault> {
        Ok(match &self.at {
            Some(at) => {
                let column = self.binding.at.quoted()?;
                format!("coalesce(t.{column} OPERATOR(pg_catalog.=) ({at}), false)")
            }
            None => "false".to_owned(),
        })
    }

    /// An instant in SQL as the column's type has it.
    fn time(&self, column: &Column, instant: &str) -> Result<String, Fault> {
        Ok(match column.type_oid {
            pg_sys::TIMESTAMPTZOID => instant.to_owned(),
            pg_sys::TIMESTAMPOID => {
                let zone = self.binding.options.at_zone.as_deref().unwrap_or("UTC");
                format!("pg_catalog.timezone({}, {instant})", literal(&zone_of(zone))?)
            }
            _ => format!("CAST({instant} AS {})", column.type_name),
        })
    }
}

/// The name by which the server knows a zone that slotkeeper has names of its own for.
fn zone_of(name: &str) -> String {
    match slotkeeper_core::zone::zone_name(name) {
        slotkeeper_core::zone::ZoneName::Region(region) => region,
        slotkeeper_core::zone::ZoneName::Refused { .. } => name.to_owned(),
    }
}
