//! `check_table`: what attaching would find, without changing anything.

use super::Binding;
use super::attach::{parse, require_guardable, require_one_row_an_id, source_of};
use super::collisions::{listed, listed_unbooked};
use super::existing::survey;
use super::row::id_list;
use super::table::Table;
use super::triggers::{Conditions, Timing};
use crate::fault::Fault;
use crate::pg::dynamic::{Moment, See, query};
use crate::pg::json::{Json, JsonArg, JsonReply};
use crate::pg::predicate::RowOf;
use crate::pg::role::{Privilege, caller_name};
use crate::pg::table::RegClass;
use crate::reply::Reply;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use slotkeeper_core::binding::TableOptions;

#[pg_extern(schema = "slotkeeper")]
fn check_table(p_table: Option<RegClass>, p_options: Option<JsonArg>) -> Result<JsonReply, ErrorReport> {
    let (options, _) = parse(p_options)?;
    let table = Table::require(p_table.map(|table| table.0))?;
    Ok(check(table, options)?.into())
}

fn check(table: Table, options: TableOptions) -> Result<Reply, Fault> {
    let mut problems: Vec<Json> = Vec::new();
    let mut add = |fault: Fault| {
        let (message, hint) = fault.message_and_hint();
        problems.push(Reply::of("problem", message).with("remedy", hint).into_json());
    };
    let owner = super::attach::require_owner(&table);
    let can_read = table.can(Privilege::Select);
    let mut lacking: Vec<Json> = Vec::new();
    if owner.is_err() {
        lacking.push("ownership of the table".into());
    }
    if !can_read {
        lacking.push("SELECT on the table".into());
    }
    if let Err(fault) = owner {
        add(fault);
    }
    let source = source_of(&table, "content")?;
    let binding = Binding::resolve(0, source, table, options)?;
    if let Err(fault) = require_guardable(&binding) {
        add(fault);
    }
    let conditions = Conditions::of(&binding)?;
    if let Err(fault) = Timing::of(&conditions) {
        add(fault);
    }
    let reply = Reply::new("checked")
        .with("source", binding.source.as_str())
        .with("role", caller_name());
    if !can_read {
        return Ok(reply
            .with("ready", false)
            .with("privileges_lacking", lacking)
            .with("problems", problems));
    }
    if let Err(fault) = require_one_row_an_id(&binding, &conditions) {
        add(fault);
    }
    let exempt = exempt_rows(&binding, &conditions)?;
    let published = published_rows(&binding, &conditions)?;
    let found = survey(&binding, &Moment::now(), false)?;
    for (profile_id, platform) in &found.unknown_queues {
        add(Fault::NoQueue {
            profile_id: profile_id.clone(),
            platform: platform.clone(),
            item: None,
        });
    }
    let new_queues: Vec<Json> = found
        .new_queues
        .iter()
        .map(|(profile_id, platform)| {
            Reply::of("profile_id", profile_id.as_str())
                .with("platform", platform.as_str())
                .into_json()
        })
        .collect();
    Ok(reply
        .with("ready", problems.is_empty())
        .with_some("new_queues", (!new_queues.is_empty()).then_some(new_queues))
        .with("rows_that_take_seats", found.rows as i64)
        .with("already_booked", found.known as i64)
        .with("collisions", listed(&found.collisions))
        .with("collision_count", found.collisions.len() as i64)
        .with("unbooked", listed_unbooked(&found.unbooked))
        .with("unbooked_count", found.unbooked.len() as i64)
        .with("exempt", exempt)
        .with_some("published", published)
        .with("privileges_lacking", lacking)
        .with("problems", problems))
}

/// How many rows the application's own worker has published; none where the options don't say.
fn published_rows(binding: &Binding, conditions: &Conditions<'_>) -> Result<Option<i64>, Fault> {
    let Some(published) = conditions.is_published(RowOf::Table) else {
        return Ok(None);
    };
    let sql = format!(
        "SELECT pg_catalog.count(*) FROM {} AS t WHERE {published}",
        binding.table.quoted()?
    );
    Ok(query(&sql, See::Latest, &[], |row| row.must::<i64>(1))?.pop())
}

/// How many rows each named predicate exempts, and the first of them.
fn exempt_rows(binding: &Binding, conditions: &Conditions<'_>) -> Result<Json, Fault> {
    let mut all = Vec::new();
    for (name, predicate) in &conditions.exempt {
        let sql = format!(
            "SELECT pg_catalog.count(*), {} FROM {} AS t WHERE {}",
            id_list(&binding.id)?,
            binding.table.quoted()?,
            predicate.over(RowOf::Table)
        );
        let counted = query(&sql, See::Latest, &[], |row| {
            Ok((row.must::<i64>(1)?, row.get::<Vec<String>>(2)?.unwrap_or_default()))
        })?;
        if let Some((count, ids)) = counted.into_iter().next() {
            let ids: Vec<Json> = ids.into_iter().map(Json::from).collect();
            all.push((
                (*name).to_owned().into(),
                Reply::of("rows", count).with("content_ids", ids).into_json(),
            ));
        }
    }
    Ok(Json::Object(all))
}
