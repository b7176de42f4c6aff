//! A JSON object whose members are columns of a table: what is written, with the table's own types.

use crate::fault::Fault;
use crate::pg::dynamic::identifier;
use crate::pg::json::Jsonb;
use crate::pg::statement::Value;
use crate::pg::table::{Table, declared};
use slotkeeper_core::Invalid;
use slotkeeper_core::request::Tree;

pub(super) struct Document {
    json: Jsonb,
    names: Vec<String>,
}

/// The document's columns as SQL writes them.
pub(super) struct Columns {
    pub(super) names: String,
    /// The same out of a record named `r`.
    pub(super) values: String,
    /// The record's columns and their types.
    pub(super) declared: String,
}

impl Document {
    pub(super) fn read(argument: &'static str, json: Option<Jsonb>) -> Result<Option<Self>, Fault> {
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
                names: members.into_iter().map(|(name, _)| name).collect(),
            })),
            _ => Err(invalid("must be an object".to_owned())),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn names(&self, column: &str) -> bool {
        self.names.iter().any(|name| name == column)
    }

    /// The argument of the statement that [`Columns`] are for.
    pub(super) fn value(&self) -> Value<'_> {
        Value::Jsonb(Some(self.json))
    }

    /// None where it has no member. Unknown names are refused: a column left out by mistake would be a silent default.
    pub(super) fn columns(&self, table: &Table) -> Result<Option<Columns>, Fault> {
        if self.names.is_empty() {
            return Ok(None);
        }
        let (mut names, mut values, mut types) = (Vec::new(), Vec::new(), Vec::new());
        for name in &self.names {
            let column = table.column(name)?;
            let quoted = identifier(name)?;
            values.push(format!("r.{quoted}"));
            types.push(format!("{quoted} {}", declared(&column)));
            names.push(quoted);
        }
        Ok(Some(Columns {
            names: names.join(", "),
            values: values.join(", "),
            declared: types.join(", "),
        }))
    }
}
