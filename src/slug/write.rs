//! The trigger of attached columns: gives a row its slug when it is inserted, and keeps it when it is saved again.
//!
//! It runs as the writer, and evaluates nothing but what the insert evaluates too.

use super::target::{Scope, Target, rules};
use super::{choose, held};
use crate::fault::Fault;
use crate::pg::before_row::{Call, TriggerRow};
use crate::pg::table::{Column, Table, input, output, text_room};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use slotkeeper_core::slug::{Attachment, DEFAULT_LENGTH, LONGEST};

/// So much of a source is looked at: enough for the longest slug in any script.
const READ: usize = 64 * LONGEST;

#[pg_extern(schema = "slotkeeper")]
pub(crate) fn write_slug(fcinfo: pg_sys::FunctionCallInfo) -> Result<TriggerRow, ErrorReport> {
    Ok(write(&Call::of(fcinfo).ok_or(Fault::NotAttached)?)?)
}

fn write(call: &Call) -> Result<TriggerRow, Fault> {
    let arguments = call.arguments();
    let [column, source, options] = arguments.as_slice() else {
        return Err(Fault::NotAttached);
    };
    let options = serde_json::from_str(options).map_err(|_| Fault::NotAttached)?;
    let mut attachment = Attachment::parse(&options, rules(DEFAULT_LENGTH as i32)?)?;
    let table = Table::open(call.table())?;
    let named = |name: &str| match table.column(name) {
        Err(Fault::NoColumn { column, .. }) => Err(Fault::Detached {
            table: table.name(),
            trigger: call.name(),
            problem: format!("It names column {column:?}, which does not exist (any more)."),
        }),
        other => other,
    };
    let column = named(column)?;
    if let Some(room) = text_room(&column) {
        attachment.rules.max_length = attachment.rules.max_length.min(room);
    }
    let row = Row {
        call,
        column,
        source: named(source)?,
        scope: attachment
            .scope
            .iter()
            .map(|name| named(name))
            .collect::<Result<_, _>>()?,
        attachment: &attachment,
    };
    match row.wanted()? {
        Wanted::AsItIs => Ok(call.unchanged()),
        Wanted::Old(slug) => call.with(&row.column, slug),
        Wanted::New => {
            let slug = choose(&row.target()?, &row.source())?;
            call.with(&row.column, input(&row.column, &slug)?)
        }
    }
}

struct Row<'a> {
    call: &'a Call,
    column: Column,
    source: Column,
    scope: Vec<Column>,
    attachment: &'a Attachment,
}

enum Wanted {
    /// The slug that the writer gave.
    AsItIs,
    /// The slug that the row had.
    Old(pg_sys::Datum),
    /// Another one.
    New,
}

impl Row<'_> {
    fn wanted(&self) -> Result<Wanted, Fault> {
        let new = self.new_text(&self.column).filter(|slug| !slug.is_empty());
        let old = self
            .call
            .old_value(&self.column)
            .map(|datum| (datum, output(&self.column, datum)))
            .filter(|(_, slug)| !slug.is_empty());
        Ok(match (new, old) {
            (None, None) => Wanted::New,
            (None, Some((datum, old))) => {
                if self.still_fits(&old) {
                    Wanted::Old(datum)
                } else {
                    Wanted::New
                }
            }
            (Some(_), None) => Wanted::AsItIs,
            (Some(new), Some((_, old))) if new == old => {
                let stale = self.attachment.refresh && (self.changed(&self.source) || self.moved());
                if stale && !self.still_fits(&old) {
                    Wanted::New
                } else {
                    Wanted::AsItIs
                }
            }
            // INSERT … ON CONFLICT DO UPDATE and whoever asks for a slug at every save bring one that was given just
            // now, although the row has one of the same text.
            (Some(new), Some((datum, old))) => {
                if self.still_fits(&old) && self.is_of_source(&new) && held::is_mine(&self.target()?, &new) {
                    Wanted::Old(datum)
                } else {
                    Wanted::AsItIs
                }
            }
        })
    }

    /// Whether the row's present slug is one that its text and scope may have.
    fn still_fits(&self, slug: &str) -> bool {
        !self.moved() && self.is_of_source(slug)
    }

    /// Whether a slug is one that the row's text may have.
    fn is_of_source(&self, slug: &str) -> bool {
        self.attachment.rules.series(&self.source()).number_of(slug).is_some()
    }

    fn source(&self) -> String {
        let mut text = self.new_text(&self.source).unwrap_or_default();
        if text.len() > READ {
            let end = (0..=READ).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
            text.truncate(end);
        }
        text
    }

    fn moved(&self) -> bool {
        self.scope.iter().any(|column| self.changed(column))
    }

    fn changed(&self, column: &Column) -> bool {
        let old = self.call.old_value(column).map(|datum| output(column, datum));
        self.new_text(column) != old
    }

    fn new_text(&self, column: &Column) -> Option<String> {
        self.call.new_value(column).map(|datum| output(column, datum))
    }

    fn target(&self) -> Result<Target, Fault> {
        let scope: Scope = self
            .scope
            .iter()
            .map(|column| (column.name.clone(), self.new_text(column)))
            .collect();
        Target::attached(
            self.call.table(),
            &self.column.name,
            scope,
            self.attachment.rules.clone(),
        )
    }
}
