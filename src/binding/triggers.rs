//! The triggers of a bound table: which rows they fire for, and the SQL that makes them.
//!
//! The predicates of the binding are the triggers' conditions, so they run as the writer. All triggers fire last (their
//! names begin with a tilde), so that they see what others have made of the row.

use super::{Binding, Source, broken};
use crate::fault::Fault;
use crate::pg::dynamic::{command, identifier, literal};
use crate::pg::predicate::{Names, Predicate, RowOf};
use pgrx::PgSqlErrorCode;
use serde_json::Value as JsonValue;
use slotkeeper_core::binding::{AtNull, OnConflict};

/// What all of slotkeeper's triggers on a bound table are called, before what tells them apart.
pub(super) const PREFIX: &str = "~slotkeeper_";

/// The binding's predicates, analysed.
pub(super) struct Conditions<'a> {
    binding: &'a Binding,
    occupies: Option<Predicate>,
    pub(super) exempt: Vec<(&'a str, Predicate)>,
    published: Option<Predicate>,
}

impl<'a> Conditions<'a> {
    pub(super) fn of(binding: &'a Binding) -> Result<Self, Fault> {
        let table = binding.table.oid;
        // What is stored was written out in full; what is given means what it means to the caller.
        let names = if binding.binding_id == 0 {
            Names::OfCaller
        } else {
            Names::Qualified
        };
        let parse = |option: &str, text: &str| {
            let path = format!("p_options.{option}");
            Predicate::parse(&path, table, text, names).map_err(|fault| match (names, fault) {
                // It was one when the table was attached.
                (Names::Qualified, Fault::Predicate { problem, .. }) => {
                    broken(&binding.source, &format!("{path}: {problem}"))
                }
                (_, fault) => fault,
            })
        };
        let options = &binding.options;
        Ok(Self {
            binding,
            occupies: options
                .occupies
                .as_deref()
                .map(|text| parse("occupies", text))
                .transpose()?,
            exempt: options
                .exempt
                .iter()
                .map(|(name, text)| Ok((name.as_str(), parse(&format!("exempt.{name}"), text)?)))
                .collect::<Result<_, Fault>>()?,
            published: options
                .published_when
                .as_deref()
                .map(|text| parse("published_when", text))
                .transpose()?,
        })
    }

    /// The options with the predicates written out in full.
    pub(super) fn qualified(&self, options: &JsonValue) -> JsonValue {
        let mut options = options.clone();
        let mut set = |pointer: &str, predicate: &Predicate| {
            if let Some(place) = options.pointer_mut(pointer) {
                *place = JsonValue::String(predicate.plain().to_owned());
            }
        };
        for (option, predicate) in [("/occupies", &self.occupies), ("/published_when", &self.published)] {
            if let Some(predicate) = predicate {
                set(option, predicate);
            }
        }
        for (name, predicate) in &self.exempt {
            let name = name.replace('~', "~0").replace('/', "~1");
            set(&format!("/exempt/{name}"), predicate);
        }
        options
    }

    fn not_exempt(&self, row: RowOf) -> String {
        self.exempt
            .iter()
            .map(|(_, predicate)| format!(" AND {} IS NOT TRUE", predicate.over(row)))
            .collect()
    }

    /// One of the named predicates holds; none where there is none.
    fn is_exempt(&self, row: RowOf) -> Option<String> {
        let all: Vec<&str> = self.exempt.iter().map(|(_, predicate)| predicate.over(row)).collect();
        (!all.is_empty()).then(|| format!("({}) IS TRUE", all.join(" OR ")))
    }

    /// The row takes a seat, unless it has none because it has no time.
    fn wants(&self, row: RowOf) -> String {
        let occupies = self.occupies.as_ref().map_or("true", |predicate| predicate.over(row));
        format!("{occupies} IS TRUE{}", self.not_exempt(row))
    }

    /// The row takes a seat.
    pub(super) fn takes_seat(&self, row: RowOf) -> Result<String, Fault> {
        let wants = self.wants(row);
        Ok(match self.binding.options.at_null {
            AtNull::Assign => wants,
            AtNull::Ignore => format!("{wants} AND {} IS NOT NULL", self.at(row)?),
        })
    }

    /// The row holds its seat: it takes one, or has been published in it.
    pub(super) fn holds(&self, row: RowOf) -> Result<String, Fault> {
        let takes = self.takes_seat(row)?;
        Ok(match &self.published {
            Some(published) => {
                let kept = format!("{} IS TRUE{}", published.over(row), self.not_exempt(row));
                format!("(({takes}) OR ({kept}))")
            }
            None => format!("({takes})"),
        })
    }

    /// Whether the application's own worker has published the row; none where the binding doesn't say.
    pub(super) fn is_published(&self, row: RowOf) -> Option<String> {
        self.published
            .as_ref()
            .map(|published| format!("{} IS TRUE", published.over(row)))
    }

    fn at(&self, row: RowOf) -> Result<String, Fault> {
        column_of(row, &self.binding.at.name)
    }

    fn reads_generated(&self) -> bool {
        let table = &self.binding.table;
        let is_generated = |&number: &i16| table.column_at(number).is_some_and(|column| column.is_generated);
        let predicates = self
            .occupies
            .iter()
            .chain(&self.published)
            .chain(self.exempt.iter().map(|(_, p)| p));
        self.binding.at.is_generated || predicates.flat_map(|predicate| &predicate.columns).any(is_generated)
    }
}

fn column_of(row: RowOf, name: &str) -> Result<String, Fault> {
    let alias = match row {
        RowOf::New => "new",
        RowOf::Old => "old",
        RowOf::Table => "t",
    };
    Ok(format!("{alias}.{}", identifier(name)?))
}

/// When the guard takes a row's seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timing {
    /// Before the row is stored: it may be given another time.
    Before,
    /// After: it stays as it is, or the statement fails.
    After,
}

impl Timing {
    /// What the table allows. Generated columns are not computed before a row is stored, and a row that goes to a partition
    /// by its time cannot be given another.
    pub(super) fn of(conditions: &Conditions<'_>) -> Result<Self, Fault> {
        let binding = conditions.binding;
        let by_time = binding.table.partition_key.contains(&binding.at.number);
        let generated = conditions.reads_generated();
        if !by_time && !generated {
            return Ok(Self::Before);
        }
        if binding.options.on_conflict == OnConflict::Reject && binding.options.at_null == AtNull::Ignore {
            return Ok(Self::After);
        }
        let why = if by_time {
            "it is partitioned by its time, so a row cannot be given another"
        } else {
            "a generated column is computed after the row's time is settled"
        };
        Err(Fault::unbindable(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("rows of {} cannot be moved", binding.source),
            format!("The binding asks for moving rows, but {why}."),
            "Attach it with \"on_conflict\": \"reject\" and \"at_null\": \"ignore\", or name other columns.",
        ))
    }
}

/// A trigger, and the statements that make it.
pub(super) struct Made {
    pub(super) name: String,
    pub(super) create: String,
    pub(super) enable: String,
}

/// The triggers that guard the table.
pub(super) fn create(conditions: &Conditions<'_>) -> Result<Vec<Made>, Fault> {
    let binding = conditions.binding;
    let timing = Timing::of(conditions)?;
    let relation = binding.table.quoted()?;
    let source = literal(&binding.source)?;
    let mut all = Vec::new();
    let mut add = |name: &str, events: &str, level: &str, condition: Option<String>, action: &str| {
        let name = format!("{PREFIX}{name}");
        let quoted = identifier(&name)?;
        let condition = condition.map_or(String::new(), |condition| format!(" WHEN ({condition})"));
        all.push(Made {
            create: format!(
                "CREATE TRIGGER {quoted} {events} ON {relation} FOR EACH {level}{condition} \
                 EXECUTE FUNCTION slotkeeper.guard_row({source}, '{action}')"
            ),
            enable: format!("ALTER TABLE {relation} ENABLE ALWAYS TRIGGER {quoted}"),
            name,
        });
        Ok::<_, Fault>(())
    };
    let (new, old) = (conditions.takes_seat(RowOf::New)?, conditions.takes_seat(RowOf::Old)?);
    let changed = format!("({new}) AND ((({old}) IS NOT TRUE) OR {})", changed_columns(binding)?);
    match timing {
        Timing::Before => {
            add("insert", "BEFORE INSERT", "ROW", Some(new.clone()), "take")?;
            add("update", "BEFORE UPDATE", "ROW", Some(changed), "take")?;
            add("inserted", "AFTER INSERT", "ROW", Some(new), "stored")?;
            add("statement", "AFTER INSERT", "STATEMENT", None, "end")?;
        }
        Timing::After => {
            add("insert", "AFTER INSERT", "ROW", Some(new), "take")?;
            add("update", "AFTER UPDATE", "ROW", Some(changed), "take")?;
        }
    }
    let (holds_new, holds_old) = (conditions.holds(RowOf::New)?, conditions.holds(RowOf::Old)?);
    let mut leaves = format!("{holds_old} AND ({holds_new}) IS NOT TRUE");
    if let (Some(was), Some(is)) = (conditions.is_exempt(RowOf::Old), conditions.is_exempt(RowOf::New)) {
        // A row that publishing has given a state of its own takes no seat, and holds one until it is exempt.
        leaves = format!("({leaves}) OR (({is}) AND ({was}) IS NOT TRUE)");
    }
    add("leave", "AFTER UPDATE", "ROW", Some(leaves), "leave")?;
    add("delete", "AFTER DELETE", "ROW", None, "leave")?;
    if let (Some(was), Some(is)) = (conditions.is_published(RowOf::Old), conditions.is_published(RowOf::New)) {
        let at = format!(
            "{} IS DISTINCT FROM {}",
            conditions.at(RowOf::Old)?,
            conditions.at(RowOf::New)?
        );
        let moved = format!("{was} AND {holds_new} AND {at}");
        // By its name it fires before the one that would move the booking.
        let event = match timing {
            Timing::Before => "BEFORE UPDATE",
            Timing::After => "AFTER UPDATE",
        };
        add("fixed", event, "ROW", Some(moved), "fixed")?;
        add(
            "published",
            "AFTER UPDATE",
            "ROW",
            Some(format!("{is} AND ({was}) IS NOT TRUE")),
            "published",
        )?;
    }
    add("truncate", "AFTER TRUNCATE", "STATEMENT", None, "truncate")?;
    Ok(all)
}

/// Whether anything has changed that decides about the seat.
fn changed_columns(binding: &Binding) -> Result<String, Fault> {
    let mut columns = vec![binding.at.number, binding.id.number];
    for source in [Some(&binding.profile_id), binding.platform.as_ref()]
        .into_iter()
        .flatten()
    {
        if let Source::Column(number) = source {
            columns.push(*number);
        }
    }
    let parts = columns
        .into_iter()
        .filter_map(|number| binding.table.column_at(number))
        .map(|column| {
            let name = column.quoted()?;
            Ok(format!("old.{name} IS DISTINCT FROM new.{name}"))
        })
        .collect::<Result<Vec<_>, Fault>>()?;
    Ok(format!("({})", parts.join(" OR ")))
}

/// Drops whatever triggers of slotkeeper's are on the table, as the caller.
pub(super) fn drop_all(relation: &str, names: &[String]) -> Result<(), Fault> {
    for name in names {
        command(&format!("DROP TRIGGER {} ON {relation}", identifier(name)?))?;
    }
    Ok(())
}
