//! The draft's row: taken by one caller at a time, until its transaction ends.
//!
//! The row's own lock is the one that counts, and it lasts. The brief lock beside it is held only while somebody looks
//! whether the row is free and takes it: so no other caller changes the row between a snapshot and the lock, and those in
//! REPEATABLE READ get the same answers instead of 40001. Whoever does not ask slotkeeper may do so: then the lock is
//! asked for again.

use crate::fault::Fault;
use crate::pg::dynamic::{See, execute, identifier, query};
use crate::pg::lock::{Brief, Key, wait_for};
use crate::pg::predicate::must_be_expression;
use crate::pg::probe::{Part, Probe};
use crate::pg::statement::Value;
use crate::pg::subtransaction::until_not_overtaken;
use crate::pg::table::{Column, Table, UniqueIndex, cast_to, equality};
use pgrx::pg_sys;

pub(super) struct Draft<'a> {
    table: Table,
    id: &'a str,
    key: Part,
    index: UniqueIndex,
    link: Column,
    /// `key = $1`
    is_it: String,
    published_when: Option<String>,
}

/// What is found of a draft.
pub(super) enum State {
    /// It is to be published, and its row is this transaction's until the end.
    Ours,
    /// It is published, as this row; none where only the predicate says so.
    Published(Option<String>),
    /// There is none, or none that the caller may change.
    Missing,
}

impl<'a> Draft<'a> {
    pub(super) fn new(table: Table, id: &'a str, link: &str, published_when: Option<&str>) -> Result<Self, Fault> {
        table.must_be_ordinary("Name the partition that has the draft, or keep drafts in one table.")?;
        let link = table.column(link)?;
        if !table.allows(&link, pg_sys::ACL_UPDATE) {
            return Err(Fault::Denied {
                what: format!("column {:?} of {}", link.name, table.name()),
                hint: "Who publishes a draft has to be allowed to UPDATE its link.".to_owned(),
            });
        }
        let (index, column) = table.key().ok_or_else(|| Fault::NoKey {
            table: table.name(),
            hint: "Add one: it is what p_draft_id names.",
        })?;
        if let Some(predicate) = published_when {
            must_be_expression("p_published_when", predicate)?;
        }
        let is_it = format!(
            "{} {} $1::{}",
            identifier(&column.name)?,
            equality(&index, 0)?,
            cast_to(&column)
        );
        Ok(Self {
            key: Part::read(column, Some(id))?,
            table,
            id,
            index,
            link,
            is_it,
            // On lines of its own, so that a comment ends with it.
            published_when: published_when.map(|predicate| format!("(\n{predicate}\n)")),
        })
    }

    pub(super) fn id(&self) -> &str {
        self.id
    }

    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    pub(super) fn link(&self) -> &Column {
        &self.link
    }

    /// The condition that names the row; its id is the statement's first value.
    pub(super) fn is_it(&self) -> &str {
        &self.is_it
    }

    /// Locks the row if it is to be published, waiting for whoever is at it. What is published is said at once.
    pub(super) fn take(&self) -> Result<State, Fault> {
        let key = Key::Draft {
            table: self.table.oid().to_u32(),
            draft: self.key.hash64(),
        };
        let mut probe = Probe::open(&self.table, &self.index, std::slice::from_ref(&self.key))?;
        let mut tried = false;
        loop {
            let turn = Brief::acquire(&key);
            let others = probe.holders();
            if others.is_empty() && self.lock("SKIP LOCKED")? {
                return Ok(State::Ours);
            }
            let state = self.look()?;
            drop(turn);
            match state {
                Some(State::Ours) => {}
                Some(state) => return Ok(state),
                None => return Ok(State::Missing),
            }
            if !others.is_empty() {
                others.into_iter().for_each(wait_for);
            } else if !std::mem::replace(&mut tried, true) {
                // Somebody took it just now, who does not ask slotkeeper.
            } else if self.lock("")? {
                return Ok(State::Ours);
            } else {
                // It can be seen, but not changed: row security.
                return Ok(match self.look()? {
                    Some(State::Published(target_id)) => State::Published(target_id),
                    _ => State::Missing,
                });
            }
        }
    }

    /// Locks the row where it is to be published. Foreign keys that refer to it are not in the way.
    fn lock(&self, how: &str) -> Result<bool, Fault> {
        let published = match &self.published_when {
            Some(predicate) => format!(" AND {predicate} IS NOT TRUE"),
            None => String::new(),
        };
        let text = format!(
            "SELECT true FROM {} WHERE {} AND {} IS NULL{published} FOR NO KEY UPDATE {how}",
            self.table.name(),
            self.is_it,
            identifier(&self.link.name)?
        );
        let locked = until_not_overtaken(|| execute(&text, See::Latest, &[Value::Text(self.id)], |_| Ok(())))?;
        Ok(!locked.is_empty())
    }

    /// What is committed of the draft, and what this transaction has done to it. None where there is no such row.
    fn look(&self) -> Result<Option<State>, Fault> {
        let published = match &self.published_when {
            Some(predicate) => format!("{predicate} IS TRUE"),
            None => "false".to_owned(),
        };
        let text = format!(
            "SELECT {}::pg_catalog.text, {published} FROM {} WHERE {}",
            identifier(&self.link.name)?,
            self.table.name(),
            self.is_it
        );
        let found = query(&text, See::Latest, &[Value::Text(self.id)], |row| {
            let target_id: Option<String> = row.get(1)?;
            Ok(if target_id.is_some() || row.must::<bool>(2)? {
                State::Published(target_id)
            } else {
                State::Ours
            })
        })?;
        Ok(found.into_iter().next())
    }
}
