//! The triggers of a bound table, and the SQL that makes them.
//!
//! All of them fire last (their names begin with a tilde), so that they see what others have made of the row. The
//! predicates of the binding are the conditions of triggers that never fire: the guard evaluates them, as the writer.

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
    pub(super) fn is_exempt(&self, row: RowOf) -> Option<String> {
        let all: Vec<&str> = self.exempt.iter().map(|(_, predicate)| predicate.over(row)).collect();
        (!all.is_empty()).then(|| format!("({}) IS TRUE", all.join(" OR ")))
    }

    /// The application's own worker has published the row; none where the binding doesn't say.
    pub(super) fn is_published(&self, row: RowOf) -> Option<String> {
        let published = self.published.as_ref()?;
        Some(format!("({}) IS TRUE", published.over(row)))
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

    /// A condition over the row that a trigger knows as OLD.
    fn carried(&self, carried: Carried) -> Result<String, Fault> {
        let never = || "false".to_owned();
        Ok(match carried {
            Carried::Takes => self.takes_seat(RowOf::Old)?,
            Carried::Exempt => self.is_exempt(RowOf::Old).unwrap_or_else(never),
            Carried::Published => self.is_published(RowOf::Old).unwrap_or_else(never),
            Carried::Columns => {
                let binding = self.binding;
                let of_queue = [Some(&binding.profile_id), binding.platform.as_ref()];
                [binding.at.number, binding.id.number]
                    .into_iter()
                    .chain(columns(of_queue))
                    .filter_map(|number| binding.table.column_at(number))
                    .map(|column| Ok(format!("{} IS NULL", column_of(RowOf::Old, &column.name)?)))
                    .collect::<Result<Vec<_>, Fault>>()?
                    .join(" OR ")
            }
        })
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
        let binding = self.binding;
        let read = [
            Some(&binding.profile_id),
            binding.platform.as_ref(),
            binding.user_id.as_ref(),
        ];
        let mut read = [binding.at.number, binding.id.number].into_iter().chain(columns(read));
        read.any(|number| is_generated(&number))
            || predicates.flat_map(|predicate| &predicate.columns).any(is_generated)
    }
}

/// Numbers of the columns among what a binding takes from its rows.
fn columns<'a>(of: impl IntoIterator<Item = Option<&'a Source>>) -> impl Iterator<Item = i16> {
    of.into_iter().flatten().filter_map(|source| match source {
        Source::Column(number) => Some(*number),
        Source::Value(_) => None,
    })
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
    /// After it is inserted and before it is updated, where it stays as it is too: an UPDATE that takes a row to another partition is
    /// a DELETE and an INSERT once it is stored, which know nothing of each other.
    BeforeUpdate,
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
            return Ok(if generated { Self::After } else { Self::BeforeUpdate });
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

/// What the table's triggers carry for the guard: the binding's predicates as conditions over a row.
///
/// They stand in the WHEN of triggers that are disabled. So the server knows what they depend on, keeps their columns right
/// under renames and in partitions, and a dump carries them; and it reads them only when the guard asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// The row takes a seat.
    Takes,
    /// One of the named predicates exempts it.
    Exempt,
    /// The application's own worker has published it.
    Published,
    /// No condition: it reads the columns that say which seat.
    Columns,
}

impl Carried {
    /// Their names, in order.
    pub(super) const NAMES: [&str; 4] = ["takes", EXEMPT, "published", "columns"];
}

/// The name of [`Carried::Exempt`].
pub(super) const EXEMPT: &str = "exempt";

/// A trigger, and the statements that make it.
pub(super) struct Made {
    pub(super) name: String,
    /// What follows CREATE TRIGGER.
    definition: String,
    /// Has it fire always, or never.
    enable: String,
}

impl Made {
    /// Makes the trigger, as the caller. One that is replaced need not be dropped first, for which readers would wait, too.
    pub(super) fn make(&self, replace: bool) -> Result<(), Fault> {
        let create = if replace { "CREATE OR REPLACE" } else { "CREATE" };
        command(&format!("{create} TRIGGER {}", self.definition))?;
        command(&self.enable)
    }
}

/// The triggers that guard the table.
pub(super) fn create(conditions: &Conditions<'_>) -> Result<Vec<Made>, Fault> {
    let binding = conditions.binding;
    let relation = binding.table.quoted()?;
    let source = literal(&binding.source)?;
    let mut all = Vec::new();
    let mut add = |name: &str, events: &str, level: &str, condition: Option<String>, action: &str| {
        let name = format!("{PREFIX}{name}");
        let quoted = identifier(&name)?;
        let state = if condition.is_some() {
            "DISABLE"
        } else {
            "ENABLE ALWAYS"
        };
        let condition = condition.map_or(String::new(), |condition| format!(" WHEN ({condition})"));
        all.push(Made {
            definition: format!(
                "{quoted} {events} ON {relation} FOR EACH {level}{condition} \
                 EXECUTE FUNCTION slotkeeper.guard_row({source}, '{action}')"
            ),
            enable: format!("ALTER TABLE {relation} {state} TRIGGER {quoted}"),
            name,
        });
        Ok::<_, Fault>(())
    };
    match Timing::of(conditions)? {
        Timing::Before => {
            add("insert", "BEFORE INSERT", "ROW", None, "take")?;
            add("inserted", "AFTER INSERT", "ROW", None, "stored")?;
            add("update", "BEFORE UPDATE", "ROW", None, "take")?;
        }
        Timing::After => {
            add("insert", "AFTER INSERT", "ROW", None, "take")?;
            add("update", "AFTER UPDATE", "ROW", None, "take")?;
        }
        Timing::BeforeUpdate => {
            add("insert", "AFTER INSERT", "ROW", None, "take")?;
            add("update", "BEFORE UPDATE", "ROW", None, "take")?;
        }
    }
    add("updated", "AFTER UPDATE", "ROW", None, "leave")?;
    add("delete", "AFTER DELETE", "ROW", None, "leave")?;
    add("truncate", "AFTER TRUNCATE", "STATEMENT", None, "truncate")?;
    for (carried, name) in [Carried::Takes, Carried::Exempt, Carried::Published, Carried::Columns]
        .into_iter()
        .zip(Carried::NAMES)
    {
        add(name, "AFTER DELETE", "ROW", Some(conditions.carried(carried)?), name)?;
    }
    Ok(all)
}

/// Drops whatever triggers of slotkeeper's are on the table, as the caller.
pub(super) fn drop_all(relation: &str, names: &[impl AsRef<str>]) -> Result<(), Fault> {
    for name in names {
        command(&format!("DROP TRIGGER {} ON {relation}", identifier(name.as_ref())?))?;
    }
    Ok(())
}
