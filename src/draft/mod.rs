//! Drafts: `publish_draft` and `claim_draft`. Any number of callers, one target row.

mod row;

use crate::arguments::identifier;
use crate::document::Document;
use crate::fault::Fault;
use crate::pg::dynamic::{self, Parts, See, composed, execute};
use crate::pg::json::{JsonReply, Jsonb};
use crate::pg::refuse_read_only;
use crate::pg::statement::Value;
use crate::pg::table::{Column, RegClass, Table, cast_to};
use crate::reply::Reply;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use row::{Draft, State};

#[pg_extern(schema = "slotkeeper")]
#[allow(clippy::too_many_arguments, reason = "the public signature")]
pub(crate) fn publish_draft(
    p_draft_table: Option<RegClass>,
    p_draft_id: Option<&str>,
    p_target_table: Option<RegClass>,
    p_target_row: Option<Jsonb>,
    p_link_column: Option<&str>,
    p_draft_changes: default!(Option<Jsonb>, "'{}'"),
    p_published_when: default!(Option<&str>, "NULL"),
) -> Result<JsonReply, ErrorReport> {
    let draft = draft(p_draft_table, p_draft_id, p_link_column, p_published_when)?;
    let target = p_target_table.ok_or(Fault::Null {
        argument: "p_target_table",
    })?;
    let row = Document::read("p_target_row", p_target_row)?.ok_or(Fault::Null {
        argument: "p_target_row",
    })?;
    let changes = Document::read("p_draft_changes", p_draft_changes)?;
    let publication = Publication::new(&draft, Table::open(target)?, row, changes)?;
    refuse_read_only(c"publish_draft()");
    Ok(match draft.take()? {
        State::Ours => publication.publish()?,
        other => answered(&draft, other),
    }
    .into())
}

#[pg_extern(schema = "slotkeeper")]
pub(crate) fn claim_draft(
    p_draft_table: Option<RegClass>,
    p_draft_id: Option<&str>,
    p_link_column: Option<&str>,
) -> Result<JsonReply, ErrorReport> {
    let draft = draft(p_draft_table, p_draft_id, p_link_column, None)?;
    refuse_read_only(c"claim_draft()");
    let state = draft.take()?;
    Ok(answered(&draft, state).into())
}

fn draft<'a>(
    table: Option<RegClass>,
    id: Option<&'a str>,
    link: Option<&str>,
    published_when: Option<&'a str>,
) -> Result<Draft<'a>, Fault> {
    let table = table.ok_or(Fault::Null {
        argument: "p_draft_table",
    })?;
    let id = identifier("p_draft_id", id)?;
    let link = link.ok_or(Fault::Null {
        argument: "p_link_column",
    })?;
    if published_when.is_some_and(|predicate| predicate.trim().is_empty()) {
        return Err(Fault::NotAllowed {
            argument: "p_published_when",
            value: "it is empty".to_owned(),
            allowed: "an SQL predicate over the draft's columns, or null".to_owned(),
        });
    }
    Draft::new(Table::open(table)?, id, link, published_when)
}

fn answered(draft: &Draft<'_>, state: State) -> Reply {
    let reply = |outcome| Reply::new(outcome).with("draft_id", draft.id());
    match state {
        State::Ours => reply("claimed"),
        State::Published(target_id) => reply("already_published").with("target_id", target_id),
        State::Missing => reply("not_found"),
    }
}

/// What is written when a draft is published.
struct Publication<'a> {
    draft: &'a Draft<'a>,
    target: Table,
    /// The column of the target that the draft's link holds.
    id: Column,
    row: Document<'a>,
    changes: Option<Document<'a>>,
}

impl<'a> Publication<'a> {
    fn new(
        draft: &'a Draft<'a>,
        target: Table,
        row: Document<'a>,
        changes: Option<Document<'a>>,
    ) -> Result<Self, Fault> {
        if !matches!(target.kind(), 'r' | 'p') {
            return Err(Fault::WrongTable {
                table: target.name(),
                problem: "is no table",
                hint: "Name the table that the published row is stored in.",
            });
        }
        if changes
            .as_ref()
            .is_some_and(|changes| changes.names(&draft.link().name))
        {
            return Err(Fault::NotAllowed {
                argument: "p_draft_changes",
                value: format!("it names the link column {:?}", draft.link().name),
                allowed: "the draft's other columns; the link is filled with the target's id".to_owned(),
            });
        }
        let id = draft
            .table()
            .referred(draft.link(), &target)
            .or_else(|| target.key().map(|(_, column)| column))
            .ok_or_else(|| Fault::NoKey {
                table: target.name(),
                hint: "Add one, or let a foreign key of the link column refer to the unique column that is meant.",
            })?;
        Ok(Self {
            draft,
            target,
            id,
            row,
            changes,
        })
    }

    /// The draft's row is ours, and its link is NULL: inserts the target's row, and fills the link.
    fn publish(&self) -> Result<Reply, Fault> {
        let target_id = self.insert()?.ok_or_else(|| Fault::NotStored {
            table: self.target.name(),
        })?;
        if !self.link(&target_id)? {
            return Err(Fault::NotStored {
                table: self.draft.table().name(),
            });
        }
        Ok(Reply::new("published")
            .with("draft_id", self.draft.id())
            .with("target_id", target_id))
    }

    fn insert(&self) -> Result<Option<String>, Fault> {
        let parts = Parts::of("publish").and_number(self.target.oid().to_u32());
        let parts = self.row.parts(parts.and_name(&self.id.name));
        let text = composed(parts, || {
            let (table, id) = (self.target.name(), dynamic::identifier(&self.id.name)?);
            Ok(match self.row.columns(&self.target, 1)? {
                None => format!("INSERT INTO {table} DEFAULT VALUES RETURNING {id}::pg_catalog.text"),
                Some(columns) => format!(
                    "INSERT INTO {table} ({}) {} RETURNING {id}::pg_catalog.text",
                    columns.names, columns.query
                ),
            })
        })?;
        let values = self.row.value();
        let values = if self.row.is_empty() { &[][..] } else { &[values][..] };
        let found = execute(&text, See::Latest, values, |row| row.get::<String>(1))?;
        Ok(found.into_iter().next().flatten())
    }

    /// From NULL to the target's id: that this update writes a row is the proof that the draft was published once.
    fn link(&self, target_id: &str) -> Result<bool, Fault> {
        let draft = self.draft;
        let changes = self.changes.as_ref().filter(|changes| !changes.is_empty());
        let mut parts = draft.parts("link");
        if let Some(changes) = changes {
            parts = changes.parts(parts);
        }
        let text = composed(parts, || {
            let link = dynamic::identifier(&draft.link().name)?;
            let mut set = format!("{link} = $2::{}", cast_to(draft.link()));
            if let Some(columns) = changes.map_or(Ok(None), |changes| changes.columns(draft.table(), 3))? {
                set.push_str(&format!(", ({}) = ({})", columns.names, columns.query));
            }
            Ok(format!(
                "UPDATE {} SET {set} WHERE {} AND {link} IS NULL RETURNING {link} IS NOT NULL",
                draft.table().name(),
                draft.is_it()?
            ))
        })?;
        let values = [Value::Text(draft.id()), Value::Text(target_id)];
        let values = values.into_iter().chain(changes.map(Document::value));
        // A trigger may have taken the link away again.
        let linked = execute(&text, See::Latest, &values.collect::<Vec<_>>(), |row| {
            row.must::<bool>(1)
        })?;
        Ok(linked.into_iter().any(|linked| linked))
    }
}
