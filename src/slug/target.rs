//! What slugs are unique in: a column of a table, a scope, and the unique indexes that prove it.

use crate::fault::Fault;
use crate::pg::dynamic::identifier;
use crate::pg::probe::{Part, Probe, Use};
use crate::pg::table::{Column, Flaw, RegClass, Table, UniqueIndex, text_room, type_name};
use pgrx::{IntoDatum, pg_sys};
use serde_json::Value;
use siphasher::sip::SipHasher13;
use slotkeeper_core::Invalid;
use slotkeeper_core::slug::{LONGEST, Rules};
use std::ffi::CString;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

/// A scope: columns and their values as text.
pub(crate) type Scope = Vec<(String, Option<String>)>;

/// The `p_scope` argument: `{"column": value, …}`.
pub(crate) fn scope(argument: &'static str, value: Option<Value>) -> Result<Scope, Fault> {
    let invalid = |problem: &str| {
        Fault::Invalid(Invalid {
            path: argument.to_owned(),
            problem: problem.to_owned(),
            hint: Some("Write {\"tenant_id\": 7}: each column of the scope with its value.".to_owned()),
        })
    };
    match value {
        None | Some(Value::Null) => Ok(Scope::new()),
        Some(Value::Object(members)) => members
            .into_iter()
            .map(|(column, value)| match value {
                Value::Null => Ok((column, None)),
                Value::String(text) if text.contains('\0') => Err(invalid("must not have a zero byte")),
                Value::String(text) => Ok((column, Some(text))),
                other => Ok((column, Some(other.to_string()))),
            })
            .collect(),
        Some(_) => Err(invalid("must be an object")),
    }
}

/// The rules of a maximum length, with what the settings say.
pub(crate) fn rules(max_length: i32) -> Result<Rules, Fault> {
    let allowed = usize::try_from(max_length)
        .ok()
        .filter(|length| (1..=LONGEST).contains(length))
        .ok_or_else(|| Fault::NotAllowed {
            argument: "p_max_length",
            value: max_length.to_string(),
            allowed: format!("1 to {LONGEST}"),
        })?;
    let mut rules = Rules::new(allowed);
    let text = |setting: Option<CString>| setting.map(|value| value.to_string_lossy().into_owned());
    if let Some(words) = text(super::RESERVED.get()) {
        rules.reserve(words.split(','));
    }
    if let Some(word) = text(super::FALLBACK.get()).filter(|word| !word.trim().is_empty()) {
        rules.fallback = word;
    }
    Ok(rules)
}

/// Where a slug is to be unused.
#[derive(Clone)]
pub(crate) struct Target(Rc<Inner>);

struct Inner {
    table: pg_sys::Oid,
    column: Column,
    scope: Vec<(Column, Option<String>)>,
    indexes: Vec<UniqueIndex>,
    scope_hash: u64,
    rules: Rules,
}

impl Target {
    /// Checks that the table has such columns, that the caller may write there, and that a unique index proves what
    /// is found.
    pub(crate) fn new(table: RegClass, column: &str, scope: Scope, rules: Rules) -> Result<Self, Fault> {
        let open = Table::open(table)?;
        ordinary(&open)?;
        let found = slug_column(&open, column)?;
        if !open.allows(&found, pg_sys::ACL_INSERT | pg_sys::ACL_UPDATE) {
            return Err(Fault::Denied {
                what: format!("column {column:?} of {}", open.name()),
                hint: "Slugs are given to those who may INSERT or UPDATE the column.".to_owned(),
            });
        }
        Self::attached(table, column, scope, rules)
    }

    /// The same for a column to which the table's owner has attached slugs: whoever writes a row gets one.
    pub(super) fn attached(table: RegClass, column: &str, scope: Scope, mut rules: Rules) -> Result<Self, Fault> {
        let table = Table::open(table)?;
        ordinary(&table)?;
        let column = slug_column(&table, column)?;
        if let Some(room) = text_room(&column) {
            rules.max_length = rules.max_length.min(room);
        }
        let mut columns = Vec::with_capacity(scope.len());
        for (name, value) in scope {
            let found = table.column(&name)?;
            if found.number == column.number {
                return Err(Fault::Invalid(Invalid {
                    path: "p_scope".to_owned(),
                    problem: format!("must not name the slug's own column {name:?}"),
                    hint: Some("Name the columns that slugs are unique together with.".to_owned()),
                }));
            }
            columns.push((found, value));
        }
        columns.sort_by_key(|(column, _)| column.number);
        let of: Vec<&Column> = columns.iter().map(|(column, _)| column).collect();
        let indexes = proving(&table, &column, &of)?;
        for (found, value) in &columns {
            let distinct = |index: &UniqueIndex| index.columns.contains(&found.number) && !index.nulls_not_distinct;
            if value.is_none() && indexes.iter().any(distinct) {
                return Err(Fault::NullScope {
                    table: table.name(),
                    column: found.name.clone(),
                });
            }
        }
        // What two callers must agree on to be told of each other: the scope that all these indexes share.
        let mut hasher = SipHasher13::new();
        for (found, value) in &columns {
            if indexes.iter().all(|index| index.columns.contains(&found.number)) {
                found.number.hash(&mut hasher);
                Part::read(found.clone(), value.as_deref())?.hash64().hash(&mut hasher);
            }
        }
        Ok(Self(Rc::new(Inner {
            table: table.oid(),
            column,
            scope: columns,
            indexes,
            scope_hash: hasher.finish(),
            rules,
        })))
    }

    pub(super) fn table(&self) -> pg_sys::Oid {
        self.0.table
    }

    pub(super) fn column(&self) -> &Column {
        &self.0.column
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.0.rules
    }

    /// Equal for equal scopes.
    pub(super) fn scope_hash(&self) -> u64 {
        self.0.scope_hash
    }

    /// Equal where the same slugs are taken.
    pub(super) fn hash64(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        (self.0.table.to_u32(), self.0.column.number, self.0.scope_hash).hash(&mut hasher);
        hasher.finish()
    }

    /// Whether the same rows are looked at.
    pub(super) fn is(&self, other: &Self) -> bool {
        let of = |target: &Self| {
            let (table, column) = (target.0.table, target.0.column.number);
            (table, column, target.0.scope_hash, target.0.indexes.len())
        };
        let values = |target: &Self| {
            target
                .0
                .scope
                .iter()
                .map(|(column, value)| (column.number, value.clone()))
                .collect()
        };
        let (a, b): (Vec<_>, Vec<_>) = (values(self), values(other));
        Rc::ptr_eq(&self.0, &other.0) || of(self) == of(other) && a == b
    }

    /// The same where table and indexes are still what they were: the transaction may have changed them since.
    pub(super) fn finder_if_unchanged(&self) -> Result<Option<Finder>, Fault> {
        let table = match Table::open(RegClass(self.0.table)) {
            Err(Fault::NoTable { .. }) => return Ok(None),
            other => other?,
        };
        let present = table.unique_indexes();
        let is_there = |index: &UniqueIndex| present.iter().any(|other| other.oid == index.oid);
        if self.0.indexes.iter().all(is_there) {
            self.finder().map(Some)
        } else {
            Ok(None)
        }
    }

    /// Opens the indexes for looking.
    pub(super) fn finder(&self) -> Result<Finder, Fault> {
        let table = Table::open(RegClass(self.0.table))?;
        let mut parts = Vec::with_capacity(self.0.scope.len() + 1);
        for (column, value) in &self.0.scope {
            parts.push(Part::read(column.clone(), value.as_deref())?);
        }
        parts.push(Part {
            column: self.0.column.clone(),
            value: "".into_datum(),
        });
        let open = |index: &UniqueIndex| {
            let place = index.columns.iter().position(|&number| number == self.0.column.number);
            Ok((Probe::open(&table, index, &parts, Use::Look)?, place.unwrap_or(0)))
        };
        self.0
            .indexes
            .iter()
            .map(open)
            .collect::<Result<_, Fault>>()
            .map(Finder)
    }
}

/// Looks whether rows have a slug.
pub(super) struct Finder(Vec<(Probe, usize)>);

impl Finder {
    /// Whether a row has it, one of an open transaction included.
    pub(super) fn taken(&mut self, slug: &str) -> Result<bool, Fault> {
        Ok(self.writer(slug)?.is_some())
    }

    /// The transaction that wrote the row which has it.
    pub(super) fn writer(&mut self, slug: &str) -> Result<Option<pg_sys::TransactionId>, Fault> {
        // Slugs are ASCII: a text is a value of any type that `text_room` lets through.
        let value = slug
            .into_datum()
            .ok_or_else(|| Fault::Internal("a slug is no datum".to_owned()))?;
        Ok(self.0.iter_mut().find_map(|(probe, place)| probe.taken(*place, value)))
    }
}

/// Refuses tables that slugs cannot be unique in.
pub(super) fn ordinary(table: &Table) -> Result<(), Fault> {
    table.must_be_ordinary(
        "A unique index of a partitioned table proves nothing beyond one partition. Keep slugs in a table of their own.",
    )
}

/// The column that slugs are kept in.
pub(super) fn slug_column(table: &Table, name: &str) -> Result<Column, Fault> {
    let column = table.column(name)?;
    let refused = |problem: String, hint| Fault::ColumnType {
        table: table.name(),
        column: name.to_owned(),
        problem,
        hint,
    };
    if text_room(&column).is_none() {
        let type_name = type_name(column.type_oid, column.modifier);
        return Err(refused(
            format!("has type {type_name}, which holds no slug"),
            "Use text, varchar or citext, or a domain over one of them.",
        ));
    }
    if column.generated || column.identity {
        return Err(refused(
            "is filled by the server".to_owned(),
            "Slugs need a column that can be written.",
        ));
    }
    Ok(column)
}

/// The unique indexes that a slug has to be unused in: those on the column alone or together with columns of the scope.
/// Refused where there is none, or where they are more than the scope says.
pub(super) fn proving(table: &Table, column: &Column, scope: &[&Column]) -> Result<Vec<UniqueIndex>, Fault> {
    let all = table.unique_indexes();
    let in_scope = |number: &i16| *number == column.number || scope.iter().any(|of| of.number == *number);
    let (proving, others): (Vec<_>, Vec<_>) = all
        .into_iter()
        .filter(|index| index.columns.contains(&column.number) || index.flaw == Some(Flaw::Expression))
        .partition(|index| index.flaw.is_none() && index.columns.iter().all(in_scope));
    if !proving.is_empty() {
        return Ok(proving);
    }
    let name = |number: i16| {
        table
            .numbered(number)
            .map_or_else(|| "an expression".to_owned(), |of| of.name)
    };
    let found: Vec<String> = others
        .iter()
        .map(|index| match index.flaw {
            Some(Flaw::Partial) => format!("{} covers only the rows of its WHERE clause", index.name),
            Some(Flaw::Expression) => format!("{} is on an expression", index.name),
            Some(Flaw::Invalid) => format!("{} is not valid", index.name),
            Some(Flaw::Method) => format!("{} is no btree", index.name),
            None => {
                let missing = index
                    .columns
                    .iter()
                    .copied()
                    .filter(|number| !in_scope(number))
                    .map(name);
                let missing: Vec<String> = missing.collect();
                format!("{} is unique only together with {}", index.name, missing.join(", "))
            }
        })
        .collect();
    let columns: Result<Vec<String>, Fault> = scope
        .iter()
        .copied()
        .chain([column])
        .map(|of| identifier(&of.name))
        .collect();
    let columns = columns?.join(", ");
    let wider = others.iter().any(|index| index.flaw.is_none());
    Err(Fault::NoUniqueIndex {
        hint: if wider {
            "Name those columns in the scope, such as {\"tenant_id\": 7}.".to_owned()
        } else {
            format!("CREATE UNIQUE INDEX ON {} ({columns});", table.name())
        },
        table: table.name(),
        columns,
        found: if found.is_empty() {
            "Without it nothing proves that a slug is unused.".to_owned()
        } else {
            format!("{}.", found.join("; "))
        },
    })
}
