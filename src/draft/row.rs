//! The draft's row: taken by one caller at a time, until its transaction ends.
//!
//! The row's own lock is the one that counts, and it lasts. The brief lock beside it is held only while somebody looks
//! whether the row is free and takes it: so no other caller changes the row between a snapshot and the lock, and those in
//! REPEATABLE READ get the same answers instead of 40001. Whoever does not ask slotkeeper may do so: then the lock is
//! asked for again.
//!
//! The look has found the row already. Where a query would find the same, and asks for nothing more, the row is locked at its
//! place; else a query of the caller's does it, row security, rights and all.

use crate::fault::Fault;
use crate::pg::dynamic::{Parts, See, Text, composed, execute, identifier, query};
use crate::pg::lock::{Brief, Key, wait_for};
use crate::pg::predicate::must_be_expression;
use crate::pg::probe::{Part, Probe, Use};
use crate::pg::role::hides_rows;
use crate::pg::statement::Value;
use crate::pg::subtransaction::until_not_overtaken;
use crate::pg::table::{Column, Table, UniqueIndex, cast_to, equality};
use crate::pg::{Isolation, isolation};
use pgrx::pg_sys;

pub(super) struct Draft<'a> {
    table: Table,
    id: &'a str,
    key: Part,
    index: UniqueIndex,
    link: Column,
    published_when: Option<&'a str>,
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
    pub(super) fn new(table: Table, id: &'a str, link: &str, published_when: Option<&'a str>) -> Result<Self, Fault> {
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
        Ok(Self {
            key: Part::read(column, Some(id))?,
            table,
            id,
            index,
            link,
            published_when,
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
    pub(super) fn is_it(&self) -> Result<String, Fault> {
        let key = &self.key.column;
        Ok(format!(
            "{} {} $1::{}",
            identifier(&key.name)?,
            equality(&self.index, 0)?,
            cast_to(key)
        ))
    }

    /// What a text is made of that names the draft's table, key and link.
    pub(super) fn parts(&self, purpose: &'static str) -> Parts {
        Parts::of(purpose)
            .and_number(self.index.oid.to_u32())
            .and_name(&self.link.name)
    }

    /// A text that also says whether the draft is published.
    fn text(
        &self,
        purpose: &'static str,
        make: impl FnOnce(Option<String>) -> Result<String, Fault>,
    ) -> Result<Text, Fault> {
        let predicate = self.published_when;
        let parts = self.parts(purpose).and_number(u32::from(predicate.is_some()));
        // On lines of its own, so that a comment ends with it.
        composed(parts.and_name(predicate.unwrap_or_default()), || {
            make(predicate.map(|predicate| format!("(\n{predicate}\n)")))
        })
    }

    /// Locks the row if it is to be published, waiting for whoever is at it. What is published is said at once.
    pub(super) fn take(&self) -> Result<State, Fault> {
        let key = Key::Draft {
            table: self.table.oid().to_u32(),
            draft: self.key.hash64(),
        };
        let mut probe = Probe::open(&self.table, &self.index, std::slice::from_ref(&self.key), Use::Lock)?;
        let (at_its_place, mut tried) = (self.may_lock_at_its_place(), false);
        loop {
            let turn = Brief::acquire(&key);
            let standing = probe.standing(&self.link);
            let others = standing.holders;
            if others.is_empty() {
                let locked = match standing.free.filter(|_| at_its_place) {
                    Some(row) => row.is_null && probe.lock(row),
                    None => self.lock("lock now", "SKIP LOCKED")?,
                };
                if locked {
                    return Ok(State::Ours);
                }
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
            } else if self.lock("lock", "")? {
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

    /// Whether locking the row where the index has it is the same as a query that does.
    fn may_lock_at_its_place(&self) -> bool {
        self.published_when.is_none()
            && isolation() != Isolation::Serializable
            && !self.table.has_children()
            && !hides_rows(self.table.oid())
            && [&self.key.column, &self.link]
                .into_iter()
                .all(|column| self.table.allows(column, pg_sys::ACL_SELECT))
    }

    /// Locks the row where it is to be published. Foreign keys that refer to it are not in the way.
    fn lock(&self, purpose: &'static str, how: &str) -> Result<bool, Fault> {
        let text = self.text(purpose, |published| {
            let published = published.map(|predicate| format!(" AND {predicate} IS NOT TRUE"));
            Ok(format!(
                "SELECT true FROM {} WHERE {} AND {} IS NULL{} FOR NO KEY UPDATE {how}",
                self.table.name(),
                self.is_it()?,
                identifier(&self.link.name)?,
                published.unwrap_or_default()
            ))
        })?;
        let locked = until_not_overtaken(|| execute(&text, See::Latest, &[Value::Text(self.id)], |_| Ok(())))?;
        Ok(!locked.is_empty())
    }

    /// What is committed of the draft, and what this transaction has done to it. None where there is no such row.
    fn look(&self) -> Result<Option<State>, Fault> {
        let text = self.text("look", |published| {
            Ok(format!(
                "SELECT {}::pg_catalog.text, {} FROM {} WHERE {}",
                identifier(&self.link.name)?,
                published.map_or_else(|| "false".to_owned(), |predicate| format!("{predicate} IS TRUE")),
                self.table.name(),
                self.is_it()?
            ))
        })?;
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
