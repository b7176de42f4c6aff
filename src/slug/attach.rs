//! `attach_slug`: a trigger that gives every row its slug, whoever writes it.
//!
//! The trigger's own arguments say all that it has to know, by names: a dump carries them.

use super::target::{ordinary, proving, rules, slug_column};
use crate::arguments::json;
use crate::fault::Fault;
use crate::pg::dynamic::{See, execute, identifier, literal, query};
use crate::pg::json::{JsonArg, JsonReply};
use crate::pg::patience::{Against, hold_table};
use crate::pg::refuse_read_only;
use crate::pg::statement::Value;
use crate::pg::table::{Column, RegClass, Table, depends_on_settings};
use crate::reply::Reply;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use serde_json::{Map, Value as Json};
use siphasher::sip::SipHasher13;
use slotkeeper_core::slug::{Attachment, DEFAULT_LENGTH};

/// Where names are cut by the server, in bytes.
const LONGEST_NAME: usize = 63;

#[pg_extern(schema = "slotkeeper")]
pub(crate) fn attach_slug(
    p_table: Option<RegClass>,
    p_column: Option<&str>,
    p_source_column: Option<&str>,
    p_options: default!(Option<JsonArg>, "'{}'"),
) -> Result<JsonReply, ErrorReport> {
    let table = p_table.ok_or(Fault::Null { argument: "p_table" })?;
    let column = p_column.ok_or(Fault::Null { argument: "p_column" })?;
    let source = p_source_column.ok_or(Fault::Null {
        argument: "p_source_column",
    })?;
    let options = json("p_options", p_options)?.unwrap_or_else(|| Json::Object(Map::new()));
    Ok(attach(table, column, source, &options)?.into())
}

fn attach(table: RegClass, column: &str, source: &str, options: &Json) -> Result<Reply, Fault> {
    let attachment = Attachment::parse(options, rules(DEFAULT_LENGTH as i32)?)?;
    refuse_read_only(c"attach_slug()");
    let table = Table::open(table)?;
    ordinary(&table)?;
    if !table.is_callers() {
        return Err(Fault::Denied {
            what: table.name(),
            hint: "Only the owner of a table attaches something to it.".to_owned(),
        });
    }
    let column = slug_column(&table, column)?;
    let source = written_by_callers(&table, source)?;
    if depends_on_settings(&source) {
        return Err(Fault::ColumnType {
            table: table.name(),
            column: source.name,
            problem: "is no text".to_owned(),
            hint: "Dates and times are written as each session likes. Name a column of text.",
        });
    }
    let scope: Vec<Column> = attachment
        .scope
        .iter()
        .map(|name| written_by_callers(&table, name))
        .collect::<Result<_, _>>()?;
    let of: Vec<&Column> = scope.iter().collect();
    let indexes = match proving(&table, &column, &of) {
        Err(Fault::NoUniqueIndex {
            table: name,
            columns,
            found,
            hint,
        }) => {
            return Err(Fault::NoUniqueIndex {
                found: duplicates(&table, &column, &columns)?.unwrap_or(found),
                table: name,
                columns,
                hint,
            });
        }
        other => other?,
    };
    for found in &scope {
        let distinct = indexes
            .iter()
            .any(|index| index.columns.contains(&found.number) && !index.nulls_not_distinct);
        if !found.not_null && distinct {
            return Err(Fault::NullableScope {
                table: table.name(),
                column: found.name.clone(),
            });
        }
    }
    let trigger = trigger_name(&column.name);
    hold_table(table.oid(), &table.name(), Against::Writers)?;
    let replaced = other_of_this_name(&table, &trigger)?;
    execute(
        &format!(
            "CREATE OR REPLACE TRIGGER {} BEFORE INSERT OR UPDATE ON {} FOR EACH ROW \
             EXECUTE FUNCTION slotkeeper.write_slug({}, {}, {})",
            identifier(&trigger)?,
            table.name(),
            literal(&column.name)?,
            literal(&source.name)?,
            literal(&options.to_string())?,
        ),
        See::Caller,
        &[],
        |_| Ok(()),
    )?;
    let quoted = identifier(&column.name)?;
    let without = query(
        &format!(
            "SELECT pg_catalog.count(*) FROM {} WHERE coalesce({quoted}::pg_catalog.text, '') OPERATOR(pg_catalog.=) ''",
            table.name()
        ),
        See::Latest,
        &[],
        |row| row.must::<i64>(1),
    )?;
    Ok(Reply::new(if replaced { "updated" } else { "attached" })
        .with("table", table.name())
        .with("column", column.name)
        .with("trigger", trigger)
        .with("rows_without_slug", without.first().copied()))
}

/// A column whose value is known before the row is stored.
fn written_by_callers(table: &Table, name: &str) -> Result<Column, Fault> {
    let column = table.column(name)?;
    if column.generated {
        return Err(Fault::ColumnType {
            table: table.name(),
            column: column.name,
            problem: "is generated".to_owned(),
            hint: "A generated column has no value yet when the slug is given. Name the columns it is made of.",
        });
    }
    Ok(column)
}

/// Slugs that rows have in common, so that no unique index can be made before they are changed.
fn duplicates(table: &Table, column: &Column, columns: &str) -> Result<Option<String>, Fault> {
    let quoted = identifier(&column.name)?;
    let found = query(
        &format!(
            "SELECT pg_catalog.count(*), pg_catalog.min(slug COLLATE \"C\") FROM (SELECT {quoted}::pg_catalog.text AS slug FROM {} \
             WHERE {quoted} IS NOT NULL GROUP BY {columns} HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 1) AS d",
            table.name()
        ),
        See::Latest,
        &[],
        |row| Ok((row.must::<i64>(1)?, row.get::<String>(2)?)),
    )?;
    Ok(match found.first() {
        Some((count, Some(first))) => Some(format!(
            "{count} slugs are there more than once, such as {first:?}: change those rows before you make the index."
        )),
        _ => None,
    })
}

/// The name of the trigger of a column; long names end in a number of their own instead.
fn trigger_name(column: &str) -> String {
    let name = format!("slotkeeper_slug_{column}");
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let mark = format!("_{:08x}", SipHasher13::new().hash(column.as_bytes()) as u32);
    let mut end = LONGEST_NAME - mark.len();
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{mark}", name.get(..end).unwrap_or_default())
}

/// Whether the table has this trigger already. Refuses one that is not slotkeeper's.
fn other_of_this_name(table: &Table, trigger: &str) -> Result<bool, Fault> {
    let found = query(
        "SELECT tgfoid OPERATOR(pg_catalog.=) 'slotkeeper.write_slug()'::pg_catalog.regprocedure FROM pg_catalog.pg_trigger \
         WHERE tgrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid AND tgname OPERATOR(pg_catalog.=) $2::pg_catalog.name",
        See::Latest,
        &[Value::Int8(i64::from(table.oid().to_u32())), Value::Text(trigger)],
        |row| row.must::<bool>(1),
    )?;
    match found.first() {
        None => Ok(false),
        Some(true) => Ok(true),
        Some(false) => Err(Fault::TriggerExists {
            table: table.name(),
            trigger: trigger.to_owned(),
        }),
    }
}
