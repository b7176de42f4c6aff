//! A JSON object whose members are columns of a table: what is written, with the table's own types.

use crate::fault::Fault;
use crate::pg::dynamic::{Parts, identifier, literal};
use crate::pg::json::Jsonb;
use crate::pg::statement::Value;
use crate::pg::table::{Column, Table, cast_to, declared, is_plain};
use slotkeeper_core::Invalid;
use slotkeeper_core::request::Tree;
use std::borrow::Cow;

pub(crate) struct Document<'a> {
    json: Jsonb,
    names: Vec<Cow<'a, str>>,
    /// No member is an array or an object.
    flat: bool,
}

/// The document's columns as SQL writes them.
pub(crate) struct Columns {
    pub(crate) names: String,
    /// A query that gives their values, in the same order.
    pub(crate) query: String,
}

impl<'a> Document<'a> {
    /// The members of an object, and the object itself as the server has it.
    pub(crate) fn of(members: &'a [(String, Tree)], json: Jsonb) -> Self {
        Self {
            json,
            names: members.iter().map(|(name, _)| Cow::Borrowed(name.as_str())).collect(),
            flat: members.iter().all(|(_, value)| is_flat(value)),
        }
    }

    /// An argument that has to be an object.
    pub(crate) fn read(argument: &'static str, json: Option<Jsonb>) -> Result<Option<Self>, Fault> {
        let Some(json) = json else { return Ok(None) };
        let invalid = |problem: String| {
            Fault::Invalid(Invalid {
                path: argument.to_owned(),
                problem,
                hint: Some("Write {\"column\": value}, with the names of the table's columns.".to_owned()),
            })
        };
        match json
            .tree()
            .map_err(|reason| invalid(format!("cannot be read: {reason}")))?
        {
            Tree::Object(members) => Ok(Some(Self {
                json,
                flat: members.iter().all(|(_, value)| is_flat(value)),
                names: members.into_iter().map(|(name, _)| Cow::Owned(name)).collect(),
            })),
            _ => Err(invalid("must be an object".to_owned())),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(crate) fn names(&self, column: &str) -> bool {
        self.names.iter().any(|name| name == column)
    }

    /// All that [`Document::columns`] depends on, beside the table.
    pub(crate) fn parts(&self, parts: Parts) -> Parts {
        let parts = parts
            .and_number(u32::from(self.flat))
            .and_number(self.names.len() as u32);
        self.names.iter().fold(parts, |parts, name| parts.and_name(name))
    }

    /// The argument of the statement that [`Columns`] are for.
    pub(crate) fn value(&self) -> Value<'_> {
        Value::Jsonb(Some(self.json))
    }

    /// The document is the statement's argument of this number. None where it has no member. Unknown names are refused:
    /// a column left out by mistake would be a silent default.
    ///
    /// Values are read as the server reads any JSON into a record. A document of plain values for plain columns needs
    /// no record: each is a text cast to its column's type, which costs half as much.
    pub(crate) fn columns(&self, table: &Table, argument: usize) -> Result<Option<Columns>, Fault> {
        if self.names.is_empty() {
            return Ok(None);
        }
        let columns: Vec<Column> = self
            .names
            .iter()
            .map(|name| table.column(name))
            .collect::<Result<_, _>>()?;
        let names: Vec<String> = self
            .names
            .iter()
            .map(|name| identifier(name))
            .collect::<Result<_, _>>()?;
        let query = if self.flat && columns.iter().all(is_plain) {
            let value = |column: &Column| {
                let name = literal(&column.name)?;
                let text = format!("${argument} OPERATOR(pg_catalog.->>) {name}::pg_catalog.text");
                Ok(format!("({text})::{}", cast_to(column)))
            };
            let values: Result<Vec<String>, Fault> = columns.iter().map(value).collect();
            format!("SELECT {}", values?.join(", "))
        } else {
            let values: Vec<String> = names.iter().map(|name| format!("r.{name}")).collect();
            let types = names
                .iter()
                .zip(&columns)
                .map(|(name, column)| format!("{name} {}", declared(column)));
            let types: Vec<String> = types.collect();
            format!(
                "SELECT {} FROM pg_catalog.jsonb_to_record(${argument}) AS r({})",
                values.join(", "),
                types.join(", ")
            )
        };
        Ok(Some(Columns {
            names: names.join(", "),
            query,
        }))
    }
}

fn is_flat(value: &Tree) -> bool {
    !matches!(value, Tree::List(_) | Tree::Object(_))
}
