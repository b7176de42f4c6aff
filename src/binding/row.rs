//! The application's row of a content, read and written with the caller's rights: what he may not change, he cannot
//! book for. Locked before anything of slotkeeper's, as a drag in the application's own interface does it.

mod id;
mod look;
mod write;

pub(crate) use id::spelled;
pub(super) use id::{can_be_id, id_list};
pub(super) use look::has_row;
pub(super) use write::is_own_write;
pub(crate) use write::{AllScheduled, Values};

use super::{Binding, all, of_source, triggers, was_dropped};
use crate::arguments::NO_SOURCE;
use crate::booking::{Booking, Content};
use crate::fault::Fault;
use crate::pg::dynamic::{self, See};
use crate::pg::lock::{NoSource, use_no_source};
use crate::pg::predicate::RowOf;
use crate::pg::role::Privilege;
use crate::pg::scan::row_exists;
use crate::pg::statement::Value;
use crate::queue::Queue;
use id::{admits, id_is};
use look::{
    Lock, ambiguous, look, look_all, refuse_if_broken, refuse_if_there, refuse_unknown, settle_source,
    under_its_binding,
};
use pgrx::PgSqlErrorCode;
use slotkeeper_core::Instant;
use slotkeeper_core::slots::Slot;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use write::{OwnWrite, Written, write_all};

/// The content that a call is about: none of a binding, or a row that the caller may change.
#[derive(Clone)]
pub(crate) enum Target<'a> {
    /// It comes from no bound table.
    Unbound {
        content_id: &'a str,
        source: &'a str,
        /// While it is booked no table is attached that may have its row.
        open: Option<Rc<NoSource>>,
    },
    /// Its row is not there, or not for this caller.
    Hidden { content_id: &'a str },
    /// Its row, which the caller has locked until his transaction ends.
    Row(Box<Row>),
}

/// A row of a bound table.
#[derive(Clone)]
pub(crate) struct Row {
    binding: Rc<Binding>,
    /// In the text form of the column's type, which the ledger knows it by.
    content_id: String,
    profile_id: Option<String>,
    platform: Option<String>,
}

impl<'a> Target<'a> {
    /// Finds the content among the bound tables; `source` names one of them, or none is known.
    pub(crate) fn find(content_id: &'a str, source: Option<&'a str>, for_change: bool) -> Result<Self, Fault> {
        if let (true, Some(source)) = (for_change, source) {
            settle_source(source)?;
        }
        under_its_binding(|| {
            let mut found = Self::find_now(content_id, source, for_change)?;
            if for_change {
                found.settle_unbound()?;
            }
            Ok(found)
        })
    }

    fn find_now(content_id: &'a str, source: Option<&'a str>, for_change: bool) -> Result<Self, Fault> {
        if let Some(source) = source {
            let Some(binding) = of_source(source)? else {
                refuse_unknown(source)?;
                return Ok(Self::Unbound {
                    content_id,
                    source,
                    open: None,
                });
            };
            return match look(&binding, content_id, Lock::wait_if(for_change))? {
                // It is of no table, unless another one has it.
                Self::Unbound { .. } => match Self::find_now(content_id, None, for_change)? {
                    unbound @ Self::Unbound { .. } => Ok(unbound),
                    Self::Row(_) | Self::Hidden { .. } => Ok(Self::Hidden { content_id }),
                },
                found => Ok(found),
            };
        }
        let bindings = all()?;
        let mut found: Vec<Self> = Vec::new();
        let mut hidden = false;
        let mut closed = Vec::new();
        for binding in &bindings {
            if bindings.len() > 1 && !binding.table.can(Privilege::Update) {
                closed.push(binding);
                continue;
            }
            match look(binding, content_id, Lock::wait_if(for_change))? {
                Self::Hidden { .. } => hidden = true,
                Self::Unbound { .. } => {}
                row @ Self::Row(_) => found.push(row),
            }
        }
        if found.len() > 1 {
            return Err(ambiguous(content_id, found.iter().map(Self::source)));
        }
        if let Some(row) = found.pop() {
            return Ok(row);
        }
        for binding in closed {
            refuse_if_there(binding, content_id)?;
        }
        refuse_if_broken(content_id)?;
        Ok(Self::without_row(content_id, hidden))
    }

    fn is_unbound(&self) -> bool {
        matches!(self, Self::Unbound { source: NO_SOURCE, .. })
    }

    /// A content that no table was found to have may be a row of one that is just being attached. That is waited for, and none is
    /// attached while this lives.
    pub(crate) fn settle_unbound(&mut self) -> Result<(), Fault> {
        if self.is_unbound()
            && let Self::Unbound { open, .. } = self
        {
            *open = Some(Rc::new(NoSource::begin()?));
        }
        Ok(())
    }

    fn without_row(content_id: &'a str, hidden: bool) -> Self {
        if hidden {
            Self::Hidden { content_id }
        } else {
            Self::Unbound {
                content_id,
                source: NO_SOURCE,
                open: None,
            }
        }
    }

    /// As [`Target::find`] with locks, for many contents: one statement a binding, and the rows are locked in the order of
    /// their ids. What is wrong with one of them is `named`.
    pub(crate) fn find_all(
        wanted: &[(&'a str, Option<&'a str>)],
        named: impl Fn(usize, Fault) -> Fault,
    ) -> Result<Vec<Self>, Fault> {
        let mut sources: Vec<&str> = wanted.iter().filter_map(|(_, source)| *source).collect();
        sources.sort_unstable();
        sources.dedup();
        for source in sources {
            settle_source(source)?;
        }
        under_its_binding(|| {
            let all = Self::find_all_now(wanted, &named)?;
            // A batch waits for others, and does so once all is undone: it keeps the lock.
            if all.iter().any(Self::is_unbound) {
                use_no_source()?;
            }
            Ok(all)
        })
    }

    fn find_all_now(
        wanted: &[(&'a str, Option<&'a str>)],
        named: &impl Fn(usize, Fault) -> Fault,
    ) -> Result<Vec<Self>, Fault> {
        for (i, (_, source)) in wanted.iter().enumerate() {
            if let Some(source) = source
                && of_source(source)?.is_none()
            {
                refuse_unknown(source).map_err(|fault| fault.named_by(&format!("p_items[{i}].source")))?;
            }
        }
        let mut found: Vec<Vec<Self>> = Vec::new();
        found.resize_with(wanted.len(), Vec::new);
        let mut hidden = vec![false; wanted.len()];
        let bindings = all()?;
        for binding in &bindings {
            let asked: Vec<usize> = (0..wanted.len())
                .filter(|&i| wanted[i].1.is_none_or(|source| source == binding.source))
                .collect();
            if asked.is_empty() {
                continue;
            }
            let closed = bindings.len() > 1 && !binding.table.can(Privilege::Update);
            let ids: Vec<&str> = asked.iter().map(|&i| wanted[i].0).collect();
            let mut rows = if closed {
                HashMap::new()
            } else {
                look_all(binding, &ids)?
            };
            let hides = binding.table.hides_rows();
            for i in asked {
                // Several items may be about one row.
                match rows.get_mut(wanted[i].0) {
                    Some(row) => found[i].push(Self::Row(Box::new(row.clone()))),
                    None if closed && found[i].is_empty() => {
                        refuse_if_there(binding, wanted[i].0).map_err(|fault| named(i, fault))?;
                    }
                    None => hidden[i] |= hides,
                }
            }
        }
        let mut targets = Vec::with_capacity(wanted.len());
        for (i, mut found) in found.into_iter().enumerate() {
            let (content_id, source) = wanted[i];
            if found.len() > 1 {
                return Err(named(i, ambiguous(content_id, found.iter().map(Self::source))));
            }
            targets.push(match (found.pop(), source) {
                (Some(row), _) => row,
                (None, None) => {
                    refuse_if_broken(content_id)?;
                    Self::without_row(content_id, hidden[i])
                }
                (None, Some(_)) => Self::find_now(content_id, source, true)?,
            });
        }
        Ok(targets)
    }

    /// The content of a booking with this source.
    pub(crate) fn of_source(content_id: &'a str, source: &str, for_change: bool) -> Result<Self, Fault> {
        let unbound = Self::Unbound {
            content_id,
            source: NO_SOURCE,
            open: None,
        };
        if source == NO_SOURCE {
            return Ok(unbound);
        }
        if for_change {
            settle_source(source)?;
        }
        under_its_binding(|| match of_source(source)? {
            Some(binding) => look(&binding, content_id, Lock::wait_if(for_change)),
            None => Ok(unbound.clone()),
        })
    }

    /// The content of an attempt that is under way, its row locked. What came of the attempt is to be told whatever has
    /// become of the table: a row that this caller may not write, or whose binding is broken, is none.
    pub(crate) fn of_attempt(content_id: &'a str, source: &str) -> Result<Self, Fault> {
        if !is_open(source)? {
            return Ok(Self::Hidden { content_id });
        }
        Self::of_source(content_id, source, true)
    }

    /// The content of a booking, unless somebody else has its row: then, and where there is no row, `None`.
    pub(crate) fn try_lock(content_id: &'a str, source: &str) -> Result<Option<Self>, Fault> {
        let unbound = Self::Unbound {
            content_id,
            source: NO_SOURCE,
            open: None,
        };
        let Some(binding) = (if source == NO_SOURCE { None } else { of_source(source)? }) else {
            return Ok(Some(unbound));
        };
        let target = look(&binding, content_id, Lock::Skip)?;
        Ok(matches!(target, Self::Row(_)).then_some(target))
    }

    /// Writes what publishing has come to into the row. Whether the row takes a seat then is no matter: its content keeps its booking.
    pub(crate) fn publishing(&self, state: &'static str, values: &Values<'_>) -> Result<(), Fault> {
        let Self::Row(row) = self else { return Ok(()) };
        if row.binding.options.state(state).is_some() {
            let place = row.place(state)?;
            let _own = OwnWrite::begin(row.binding.binding_id, &row.content_id);
            row.write(state, &values.at(&place))?;
        }
        Ok(())
    }

    /// Whether publishing writes this state into a row.
    pub(crate) fn is_told(&self, state: &str) -> bool {
        matches!(self, Self::Row(row) if row.binding.options.state(state).is_some())
    }

    /// Its content has been given up, for the row takes no seat any more: says so where it still says what publishing wrote.
    pub(crate) fn given_up(&self, values: &Values<'_>) -> Result<(), Fault> {
        let Self::Row(row) = self else { return Ok(()) };
        if row.binding.options.state("failed").is_some() {
            let _own = OwnWrite::begin(row.binding.binding_id, &row.content_id);
            row.update("failed", values, &row.binding.says_in_hand()?)?;
        }
        Ok(())
    }

    /// A success has closed the content: a row that still takes a seat is given the state that says so. Returns whether it was.
    pub(crate) fn closed(&self, values: &Values<'_>) -> Result<bool, Fault> {
        let Self::Row(row) = self else { return Ok(false) };
        if row.binding.options.state("published").is_some() {
            let place = row.place("published")?;
            let _own = OwnWrite::begin(row.binding.binding_id, &row.content_id);
            return row.write_if_seated("published", &values.at(&place));
        }
        Ok(false)
    }

    /// No content of a bound table.
    pub(crate) fn nothing() -> Self {
        Self::Unbound {
            content_id: "",
            source: NO_SOURCE,
            open: None,
        }
    }

    /// Whether it is a row that names this queue.
    pub(crate) fn is_in(&self, queue: &Queue) -> bool {
        self.names(&queue.profile_id, &queue.platform)
    }

    /// The same by the queue's name.
    pub(crate) fn names(&self, profile_id: &str, platform: &str) -> bool {
        matches!(self, Self::Row(row) if row.names(profile_id, platform))
    }

    pub(crate) fn is_hidden(&self) -> bool {
        matches!(self, Self::Hidden { .. })
    }

    /// The content's id, as the ledger knows it.
    pub(crate) fn content_id(&self) -> &str {
        match self {
            Self::Unbound { content_id, .. } | Self::Hidden { content_id } => content_id,
            Self::Row(row) => &row.content_id,
        }
    }

    fn source(&self) -> &str {
        match self {
            Self::Unbound { source, .. } => source,
            Self::Hidden { .. } => NO_SOURCE,
            Self::Row(row) => &row.binding.source,
        }
    }

    /// The content in this queue; `None` where the caller has no row to act on. A row that belongs to another queue is
    /// 22023.
    pub(crate) fn in_queue(&self, queue: &Queue) -> Result<Option<Content<'_>>, Fault> {
        match self {
            Self::Hidden { .. } => return Ok(None),
            Self::Row(row) => row.require_queue(queue)?,
            Self::Unbound { .. } => {}
        }
        Ok(Some(Content {
            content_id: self.content_id(),
            source: self.source(),
            queue_id: queue.queue_id,
        }))
    }

    /// The instant as the row can hold it: a column without fractions of a second, or in local time, cannot hold every one.
    pub(crate) fn as_stored(&self, at: Instant) -> Instant {
        match self {
            Self::Row(row) => row.binding.as_stored(at),
            Self::Unbound { .. } | Self::Hidden { .. } => at,
        }
    }

    /// The first instant from this one on that the row can hold.
    pub(crate) fn first_stored(&self, at: Instant) -> Instant {
        match self {
            Self::Row(row) => row.binding.first_stored(at),
            Self::Unbound { .. } | Self::Hidden { .. } => at,
        }
    }

    /// Whether a row that is bound may find a booking that was made before it was there.
    pub(crate) fn may_adopt(&self) -> bool {
        matches!(self, Self::Row(_))
    }

    /// Writes into many rows that their contents have these slots: one statement a binding.
    pub(crate) fn all_scheduled(targets: &[(&Self, &Slot)], now: Instant) -> Result<AllScheduled, Fault> {
        let mut by_binding: BTreeMap<i64, Vec<(usize, &Row, &Slot)>> = BTreeMap::new();
        for (place, (target, slot)) in targets.iter().enumerate() {
            if let Self::Row(row) = target {
                by_binding
                    .entry(row.binding.binding_id)
                    .or_default()
                    .push((place, row, slot));
            }
        }
        let mut all = AllScheduled::default();
        for rows in by_binding.values() {
            write_all(rows, now, &mut all)?;
        }
        Ok(all)
    }

    /// Writes into the row that its content has this slot. Where a trigger of the application's gave the row another time,
    /// the guard has moved its booking: then returns that one.
    pub(crate) fn scheduled(&self, slot: &Slot, now: Instant) -> Result<Option<Booking>, Fault> {
        let Self::Row(row) = self else { return Ok(None) };
        let values = Values {
            scheduled_at: Some(slot.at),
            slot_ref: slot.slot_ref.as_deref(),
            now: Some(now),
            ..Values::default()
        };
        row.binding.require_writable_by_caller("scheduled")?;
        match row.update("scheduled", &values, "true")? {
            Some(Written { seated: true, as_asked }) => {
                if as_asked {
                    Ok(None)
                } else {
                    row.booking()
                }
            }
            Some(_) => Err(row.exempt()),
            None => Err(row.unwritable()),
        }
    }

    /// Writes into the row that its content has no slot.
    pub(crate) fn unscheduled(&self, now: Instant) -> Result<(), Fault> {
        let Self::Row(row) = self else { return Ok(()) };
        if row.binding.options.state("unscheduled").is_none() {
            return Err(Fault::unbindable(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("content {} cannot be unscheduled", row.content_id),
                format!("The binding of {} doesn't say what to write then.", row.binding.source),
                "Give attach_table the option \"states\": {\"unscheduled\": {\"column\": \"value\"}}.",
            ));
        }
        let values = Values {
            now: Some(now),
            ..Values::default()
        };
        row.binding.require_writable_by_caller("unscheduled")?;
        match row.write("unscheduled", &values)? {
            false => Ok(()),
            true => Err(Fault::unbindable(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("content {} would still take a seat", row.content_id),
                format!(
                    "What states.unscheduled of {} writes leaves the row occupying.",
                    row.binding.source
                ),
                "Let it write a state, or a NULL time, with which \"occupies\" does not hold.",
            )),
        }
    }
}

/// Whether the rows of this source can be locked and written by the caller at all.
pub(crate) fn is_open(source: &str) -> Result<bool, Fault> {
    if source == NO_SOURCE {
        return Ok(true);
    }
    match of_source(source) {
        Ok(Some(binding)) => Ok(binding.table.can(Privilege::Select) && binding.table.can(Privilege::Update)),
        Ok(None) => Ok(true),
        Err(_) => Ok(false),
    }
}

/// Whether rows of this source are told of a state; as far as is known, where its binding is broken.
pub(crate) fn are_told(source: &str, state: &str) -> bool {
    match of_source(source) {
        Ok(Some(binding)) => binding.options.state(state).is_some(),
        Ok(None) => false,
        Err(_) => true,
    }
}

/// Whether there is nothing more to publish: the row of this content has gone, is exempt, or takes no seat and says nothing that
/// publishing wrote.
pub(crate) fn is_withdrawn(target: &Target<'_>, source: &str, content_id: &str) -> Result<bool, Fault> {
    if let Target::Row(row) = target {
        return row.is_withdrawn();
    }
    let binding = match of_source(source) {
        Ok(Some(binding)) => binding,
        Ok(None) => return was_dropped(source),
        Err(_) => return Ok(false),
    };
    for table in binding.table.leaves()? {
        let id = table.column("content_id", &binding.options.content_id)?;
        if admits(id, content_id) && row_exists(table.oid, id.number, content_id)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the caller may see the row of a content. What comes from no bound table has no row to hide.
pub(crate) fn is_visible(source: &str, content_id: &str) -> Result<bool, Fault> {
    if source == NO_SOURCE {
        return Ok(true);
    }
    let Ok(Some(binding)) = of_source(source) else {
        return Ok(false);
    };
    if !admits(&binding.id, content_id) || !binding.table.can(Privilege::Select) {
        return Ok(false);
    }
    let sql = format!(
        "SELECT 1 FROM {} AS t WHERE {}",
        binding.table.quoted()?,
        id_is(&binding.id, "t")?
    );
    Ok(!dynamic::query(&sql, See::Latest, &[Value::Text(content_id)], |_| Ok(()))?.is_empty())
}

/// Whether row security hides the row of a content from the caller.
pub(crate) fn is_hidden(source: &str, content_id: &str) -> Result<bool, Fault> {
    let hides = source != NO_SOURCE && matches!(of_source(source), Ok(Some(binding)) if binding.table.hides_rows());
    Ok(hides && !is_visible(source, content_id)?)
}

impl Row {
    fn names(&self, profile_id: &str, platform: &str) -> bool {
        let own = self.platform.as_ref().map(|platform| platform.to_lowercase());
        self.profile_id.as_deref() == Some(profile_id) && own.is_none_or(|own| own == platform)
    }

    fn require_queue(&self, queue: &Queue) -> Result<(), Fault> {
        if self.names(&queue.profile_id, &queue.platform) {
            return Ok(());
        }
        Err(Fault::unbindable(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("content {} belongs to another queue", self.content_id),
            format!(
                "Its row in {} says profile {}, platform {}.",
                self.binding.source,
                self.profile_id.as_deref().unwrap_or("NULL"),
                self.platform.as_deref().unwrap_or("NULL")
            ),
            "Call with the queue that the row names, or change the row.",
        ))
    }

    fn exempt(&self) -> Fault {
        let names: Vec<&str> = self
            .binding
            .options
            .exempt
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        Fault::unbindable(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("content {} takes no seat", self.content_id),
            format!(
                "Its row in {} doesn't occupy, or is exempt{}.",
                self.binding.source,
                if names.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", names.join(", "))
                }
            ),
            "Let \"states\": {\"scheduled\": …} of the binding write what makes the row occupy.",
        )
    }

    /// Whether the application has taken the row away from publishing.
    fn is_withdrawn(&self) -> Result<bool, Fault> {
        let binding = &*self.binding;
        let conditions = triggers::Conditions::of(binding)?;
        let exempt = conditions.is_exempt(RowOf::Table);
        let sql = format!(
            "SELECT {} OR NOT (({}) OR {} OR {}) FROM {} AS t WHERE {}",
            exempt.as_deref().unwrap_or("false"),
            conditions.takes_seat(RowOf::Table)?,
            conditions.is_published(RowOf::Table).as_deref().unwrap_or("false"),
            binding.says_in_hand()?,
            binding.table.quoted()?,
            id_is(&binding.id, "t")?
        );
        let found = dynamic::query(&sql, See::Latest, &[Value::Text(&self.content_id)], |row| {
            row.must::<bool>(1)
        })?;
        Ok(found.into_iter().any(|withdrawn| withdrawn))
    }
}
