//! The application's row of a content, read and written with the caller's rights: what he may not change, he cannot
//! book for. Locked before anything of slotkeeper's, as a drag in the application's own interface does it.

use super::table::{Column, Table};
use super::{Binding, Source, all, of_source, triggers};
use crate::arguments::NO_SOURCE;
use crate::booking::Content;
use crate::fault::Fault;
use crate::pg::dynamic::{self, See, identifier, literal};
use crate::pg::predicate::RowOf;
use crate::pg::statement::Value;
use crate::queue::Queue;
use pgrx::{PgSqlErrorCode, pg_sys};
use slotkeeper_core::Instant;
use slotkeeper_core::binding::{StateValue, Variable};
use slotkeeper_core::slots::Slot;
use slotkeeper_core::zone::format_utc;
use std::rc::Rc;

/// The content that a call is about: none of a binding, or a row that the caller may change.
pub(crate) enum Target<'a> {
    /// It comes from no bound table.
    Unbound { content_id: &'a str, source: &'a str },
    /// Its row is not there, or not for this caller.
    Hidden { content_id: &'a str },
    /// Its row, which the caller has locked until his transaction ends.
    Row(Box<Row>),
}

/// A row of a bound table.
pub(crate) struct Row {
    binding: Rc<Binding>,
    /// In the text form of the column's type, which the ledger knows it by.
    content_id: String,
    profile_id: Option<String>,
    platform: Option<String>,
}

impl<'a> Target<'a> {
    /// Finds the content among the bound tables; `source` names one of them, or none is known.
    pub(crate) fn find(content_id: &'a str, source: Option<&'a str>, for_change: bool) -> Result<Self, Fault> {
        if let Some(source) = source {
            return match of_source(source)? {
                Some(binding) => look(&binding, content_id, for_change),
                None => Ok(Self::Unbound { content_id, source }),
            };
        }
        let bindings = all()?;
        let mut found: Vec<Self> = Vec::new();
        let mut hidden = false;
        for binding in &bindings {
            if bindings.len() > 1 && !binding.table.can(if for_change { "UPDATE" } else { "SELECT" })? {
                continue;
            }
            match look(binding, content_id, for_change)? {
                Self::Hidden { .. } => hidden = true,
                Self::Unbound { .. } => {}
                row @ Self::Row(_) => found.push(row),
            }
        }
        if found.len() > 1 {
            let candidates = found
                .iter()
                .map(|target| format!("source {:?}", target.source()))
                .collect();
            return Err(Fault::Ambiguous {
                content_id: content_id.to_owned(),
                candidates,
            });
        }
        Ok(match found.pop() {
            Some(row) => row,
            None if hidden => Self::Hidden { content_id },
            None => Self::Unbound {
                content_id,
                source: NO_SOURCE,
            },
        })
    }

    /// The content of a booking with this source.
    pub(crate) fn of_source(content_id: &'a str, source: &str, for_change: bool) -> Result<Self, Fault> {
        let unbound = Self::Unbound {
            content_id,
            source: NO_SOURCE,
        };
        if source == NO_SOURCE {
            return Ok(unbound);
        }
        match of_source(source)? {
            Some(binding) => look(&binding, content_id, for_change),
            None => Ok(unbound),
        }
    }

    /// Whether it is a row that names this queue.
    pub(crate) fn is_in(&self, queue: &Queue) -> bool {
        matches!(self, Self::Row(row) if row.names(queue))
    }

    pub(crate) fn is_hidden(&self) -> bool {
        matches!(self, Self::Hidden { .. })
    }

    /// The content's id, as the ledger knows it.
    pub(crate) fn content_id(&self) -> &str {
        match self {
            Self::Unbound { content_id, .. } | Self::Hidden { content_id } => content_id,
            Self::Row(row) => &row.content_id,
        }
    }

    fn source(&self) -> &str {
        match self {
            Self::Unbound { source, .. } => source,
            Self::Hidden { .. } => NO_SOURCE,
            Self::Row(row) => &row.binding.source,
        }
    }

    /// The content in this queue; `None` where the caller has no row to act on. A row that belongs to another queue is
    /// 22023.
    pub(crate) fn in_queue(&self, queue: &Queue) -> Result<Option<Content<'_>>, Fault> {
        match self {
            Self::Hidden { .. } => return Ok(None),
            Self::Row(row) => row.require_queue(queue)?,
            Self::Unbound { .. } => {}
        }
        Ok(Some(Content {
            content_id: self.content_id(),
            source: self.source(),
            queue_id: queue.queue_id,
        }))
    }

    /// Writes into the row that its content has this slot.
    pub(crate) fn scheduled(&self, slot: &Slot, now: Instant) -> Result<(), Fault> {
        let Self::Row(row) = self else { return Ok(()) };
        let values = Values {
            scheduled_at: Some(slot.at),
            slot_ref: slot.slot_ref.as_deref(),
            now: Some(now),
            ..Values::default()
        };
        match row.write("scheduled", &values)? {
            true => Ok(()),
            false => Err(row.exempt()),
        }
    }

    /// Writes into the row that its content has no slot.
    pub(crate) fn unscheduled(&self, now: Instant) -> Result<(), Fault> {
        let Self::Row(row) = self else { return Ok(()) };
        if row.binding.options.state("unscheduled").is_none() {
            return Err(Fault::unbindable(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("content {} cannot be unscheduled", row.content_id),
                format!("The binding of {} doesn't say what to write then.", row.binding.source),
                "Give attach_table the option \"states\": {\"unscheduled\": {\"column\": \"value\"}}.",
            ));
        }
        let values = Values {
            now: Some(now),
            ..Values::default()
        };
        match row.write("unscheduled", &values)? {
            false => Ok(()),
            true => Err(Fault::unbindable(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("content {} would still take a seat", row.content_id),
                format!(
                    "What states.unscheduled of {} writes leaves the row occupying.",
                    row.binding.source
                ),
                "Let it write a state, or a NULL time, with which \"occupies\" does not hold.",
            )),
        }
    }
}

/// Values that a state's columns may refer to.
#[derive(Default)]
pub(crate) struct Values<'a> {
    pub(crate) scheduled_at: Option<Instant>,
    pub(crate) slot_ref: Option<&'a str>,
    pub(crate) attempt: Option<i64>,
    pub(crate) next_attempt_at: Option<Instant>,
    pub(crate) error: Option<&'a str>,
    pub(crate) url: Option<&'a str>,
    pub(crate) now: Option<Instant>,
}

/// How an id is told apart: by operators of the server's own, whatever else an application has defined.
#[derive(Clone, Copy)]
enum IdType {
    Text,
    Uuid,
    Integer,
}

impl IdType {
    fn of(column: &Column) -> Option<Self> {
        match column.type_oid {
            pg_sys::TEXTOID | pg_sys::VARCHAROID => Some(Self::Text),
            pg_sys::UUIDOID => Some(Self::Uuid),
            pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID => Some(Self::Integer),
            _ => None,
        }
    }

    /// The type that the parameter is cast to.
    fn cast(self) -> &'static str {
        match self {
            Self::Text => "pg_catalog.text",
            Self::Uuid => "pg_catalog.uuid",
            Self::Integer => "pg_catalog.int8",
        }
    }

    /// Whether a text can be an id at all: what can't is no error, it is just not in this table.
    fn admits(self, id: &str) -> bool {
        match self {
            Self::Text => !id.contains('\0'),
            Self::Integer => id.parse::<i64>().is_ok(),
            Self::Uuid => {
                let digits: Vec<char> = id.chars().filter(|c| !matches!(c, '-' | '{' | '}')).collect();
                digits.len() == 32 && digits.iter().all(char::is_ascii_hexdigit)
            }
        }
    }
}

/// Whether ids of this type can be looked up.
pub(super) fn can_be_id(column: &Column) -> bool {
    IdType::of(column).is_some()
}

/// `column = $1`, in SQL.
fn id_is(column: &Column, alias: &str) -> Result<String, Fault> {
    let of_type = IdType::of(column).ok_or_else(|| Fault::Internal("an id of an unknown type".to_owned()))?;
    Ok(format!(
        "{alias}.{} OPERATOR(pg_catalog.=) $1::{}",
        column.quoted()?,
        of_type.cast()
    ))
}

/// The first ids of a result, in SQL.
pub(super) fn id_list(column: &Column) -> Result<String, Fault> {
    Ok(format!(
        "(pg_catalog.array_agg(t.{id}::pg_catalog.text ORDER BY t.{id}))[1:100]",
        id = column.quoted()?
    ))
}

fn admits(column: &Column, content_id: &str) -> bool {
    IdType::of(column).is_some_and(|of_type| of_type.admits(content_id))
}

/// The row as the caller's own statements find it; `for_change`, locked for him.
fn look<'a>(binding: &Rc<Binding>, content_id: &'a str, for_change: bool) -> Result<Target<'a>, Fault> {
    let none = || -> Result<Target<'a>, Fault> {
        // Row-level security may hide a row that is there: then nothing may be booked for it.
        Ok(if binding.table.hides_rows() {
            Target::Hidden { content_id }
        } else {
            Target::Unbound {
                content_id,
                source: NO_SOURCE,
            }
        })
    };
    if !admits(&binding.id, content_id) {
        return none();
    }
    let text = |source: &Source| -> Result<String, Fault> {
        match source {
            Source::Column(number) => match binding.table.column_at(*number) {
                Some(column) => Ok(format!("t.{}::pg_catalog.text", column.quoted()?)),
                None => Err(Fault::Internal("a column that is gone".to_owned())),
            },
            Source::Value(value) => Ok(format!("{}::pg_catalog.text", literal(value)?)),
        }
    };
    let platform = match &binding.platform {
        Some(platform) => text(platform)?,
        None => "NULL::pg_catalog.text".to_owned(),
    };
    let sql = format!(
        "SELECT t.{}::pg_catalog.text, {}, {platform} FROM {} AS t WHERE {}{}",
        binding.id.quoted()?,
        text(&binding.profile_id)?,
        binding.table.quoted()?,
        id_is(&binding.id, "t")?,
        if for_change { " FOR NO KEY UPDATE OF t" } else { "" }
    );
    let read = |row: &crate::pg::statement::Row| {
        Ok(Row {
            binding: Rc::clone(binding),
            content_id: row.must(1)?,
            profile_id: row.get(2)?,
            platform: row.get(3)?,
        })
    };
    let values = [Value::Text(content_id)];
    let rows = if for_change {
        dynamic::execute(&sql, See::Caller, &values, read)?
    } else {
        dynamic::query(&sql, See::Caller, &values, read)?
    };
    match rows.into_iter().next() {
        Some(row) => Ok(Target::Row(Box::new(row))),
        None => none(),
    }
}

/// Whether the caller may see the row of a content. What comes from no bound table has no row to hide.
pub(crate) fn is_visible(source: &str, content_id: &str) -> Result<bool, Fault> {
    if source == NO_SOURCE {
        return Ok(true);
    }
    let Ok(Some(binding)) = of_source(source) else {
        return Ok(false);
    };
    if !admits(&binding.id, content_id) || !binding.table.can("SELECT")? {
        return Ok(false);
    }
    let sql = format!(
        "SELECT 1 FROM {} AS t WHERE {}",
        binding.table.quoted()?,
        id_is(&binding.id, "t")?
    );
    Ok(!dynamic::query(&sql, See::Latest, &[Value::Text(content_id)], |_| Ok(()))?.is_empty())
}

impl Row {
    fn names(&self, queue: &Queue) -> bool {
        let platform = self.platform.as_ref().map(|platform| platform.to_lowercase());
        let same_profile = self.profile_id.as_deref() == Some(queue.profile_id.as_str());
        same_profile && platform.is_none_or(|platform| platform == queue.platform)
    }

    fn require_queue(&self, queue: &Queue) -> Result<(), Fault> {
        if self.names(queue) {
            return Ok(());
        }
        Err(Fault::unbindable(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("content {} belongs to another queue", self.content_id),
            format!(
                "Its row in {} says profile {}, platform {}.",
                self.binding.source,
                self.profile_id.as_deref().unwrap_or("NULL"),
                self.platform.as_deref().unwrap_or("NULL")
            ),
            "Call with the queue that the row names, or change the row.",
        ))
    }

    fn exempt(&self) -> Fault {
        let names: Vec<&str> = self
            .binding
            .options
            .exempt
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        Fault::unbindable(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("content {} takes no seat", self.content_id),
            format!(
                "Its row in {} doesn't occupy, or is exempt{}.",
                self.binding.source,
                if names.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", names.join(", "))
                }
            ),
            "Let \"states\": {\"scheduled\": …} of the binding write what makes the row occupy.",
        )
    }

    /// Writes what the binding says for a state; returns whether the row takes a seat then.
    pub(crate) fn write(&self, state: &str, values: &Values<'_>) -> Result<bool, Fault> {
        let binding = &*self.binding;
        let table = &binding.table;
        let mut write = Write {
            binding,
            values: vec![Bound::Text(Some(self.content_id.clone()))],
            sets: Vec::new(),
        };
        let columns = binding.options.state(state);
        if state == "scheduled" && columns.is_none_or(|columns| !columns.contains_key(&binding.options.at)) {
            write.set(
                table,
                &binding.at.name,
                &StateValue::Variable(Variable::ScheduledAt),
                values,
            )?;
        }
        for (column, value) in columns.into_iter().flatten() {
            write.set(table, column, value, values)?;
        }
        if write.sets.is_empty() {
            return Ok(false);
        }
        let sql = format!(
            "UPDATE {} AS t SET {} WHERE {} RETURNING ({})",
            table.quoted()?,
            write.sets.join(", "),
            id_is(&binding.id, "t")?,
            triggers::Conditions::of(binding)?.takes_seat(RowOf::Table)?
        );
        let bound: Vec<Value<'_>> = write.values.iter().map(Bound::value).collect();
        let occupies = dynamic::execute(&sql, See::Caller, &bound, |row| row.must::<bool>(1))?;
        occupies.into_iter().next().ok_or_else(|| {
            Fault::unbindable(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("the row of content {} cannot be written", self.content_id),
                format!(
                    "A policy or a trigger of {} kept it from being updated.",
                    binding.source
                ),
                "Whoever books a content must be allowed to UPDATE its row.",
            )
        })
    }
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
}

impl Write<'_> {
    fn set(&mut self, table: &Table, name: &str, value: &StateValue, values: &Values<'_>) -> Result<(), Fault> {
        let column = table.column("states", name)?;
        let bound = match value {
            StateValue::Null => Bound::Text(None),
            StateValue::Literal(text) => Bound::Text(Some(text.clone())),
            StateValue::Variable(variable) => {
                let time = match variable {
                    Variable::ScheduledAt => values.scheduled_at,
                    Variable::NextAttemptAt => values.next_attempt_at,
                    Variable::Now => values.now,
                    _ => None,
                };
                match (time, variable) {
                    (Some(at), _) => Bound::Time(at),
                    (None, Variable::SlotRef) => Bound::Text(values.slot_ref.map(str::to_owned)),
                    (None, Variable::Error) => Bound::Text(values.error.map(str::to_owned)),
                    (None, Variable::Url) => Bound::Text(values.url.map(str::to_owned)),
                    (None, Variable::Attempt) => Bound::Text(values.attempt.map(|n| n.to_string())),
                    (None, _) => Bound::Text(None),
                }
            }
        };
        let number = self.values.len() + 1;
        let expression = match &bound {
            Bound::Text(_) => format!("CAST(${number}::pg_catalog.text AS {})", column.type_name),
            Bound::Time(_) if column.type_oid == pg_sys::TIMESTAMPTZOID => format!("${number}"),
            Bound::Time(_) if column.type_oid == pg_sys::TIMESTAMPOID => {
                let zone = self.binding.options.at_zone.as_deref().unwrap_or("UTC");
                format!("pg_catalog.timezone({}, ${number})", literal(&zone_of(zone))?)
            }
            Bound::Time(_) => format!("CAST(${number} AS {})", column.type_name),
        };
        let bound = match bound {
            // A text column gets the form that replies have.
            Bound::Time(at) if matches!(column.type_oid, pg_sys::TEXTOID | pg_sys::VARCHAROID) => {
                self.sets
                    .push(format!("{} = ${number}::pg_catalog.text", identifier(&column.name)?));
                self.values.push(Bound::Text(Some(format_utc(at))));
                return Ok(());
            }
            bound => bound,
        };
        self.sets.push(format!("{} = {expression}", identifier(&column.name)?));
        self.values.push(bound);
        Ok(())
    }
}

/// The name by which the server knows a zone that slotkeeper has names of its own for.
fn zone_of(name: &str) -> String {
    match slotkeeper_core::zone::zone_name(name) {
        slotkeeper_core::zone::ZoneName::Region(region) => region,
        slotkeeper_core::zone::ZoneName::Refused { .. } => name.to_owned(),
    }
}
