//! The application's row of a content, read and written with the caller's rights: what he may not change, he cannot
//! book for. Locked before anything of slotkeeper's, as a drag in the application's own interface does it.

use super::table::{Column, Table};
use super::{Binding, Source, all, any, broken, forget_known, known, of_source, triggers, was_dropped};
use crate::arguments::NO_SOURCE;
use crate::booking::{self, Booking, Content, Place};
use crate::fault::Fault;
use crate::pg::dynamic::{self, See, literal};
use crate::pg::lock::{use_source, wait_for};
use crate::pg::predicate::RowOf;
use crate::pg::role::{Privilege, caller_name};
use crate::pg::scan::{present_row, row_exists};
use crate::pg::statement::Value;
use crate::pg::trigger::Record;
use crate::pg::{Isolation, isolation};
use crate::queue::Queue;
use pgrx::{PgSqlErrorCode, pg_sys};
use slotkeeper_core::Instant;
use slotkeeper_core::binding::{StateValue, Variable};
use slotkeeper_core::slots::Slot;
use slotkeeper_core::zone::format_utc;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// The content that a call is about: none of a binding, or a row that the caller may change.
#[derive(Clone)]
pub(crate) enum Target<'a> {
    /// It comes from no bound table.
    Unbound { content_id: &'a str, source: &'a str },
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
        under_its_binding(|| Self::find_now(content_id, source, for_change))
    }

    fn find_now(content_id: &'a str, source: Option<&'a str>, for_change: bool) -> Result<Self, Fault> {
        if let Some(source) = source {
            let Some(binding) = of_source(source)? else {
                refuse_unknown(source)?;
                return Ok(Self::Unbound { content_id, source });
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

    fn without_row(content_id: &'a str, hidden: bool) -> Self {
        if hidden {
            Self::Hidden { content_id }
        } else {
            Self::Unbound {
                content_id,
                source: NO_SOURCE,
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
        under_its_binding(|| Self::find_all_now(wanted, &named))
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

thread_local! {
    /// The content whose state publishing is writing into its row.
    static OWN_WRITE: RefCell<Option<(i64, String)>> = const { RefCell::new(None) };
}

/// While this lives the guard lets the row of one content be: what is written follows from the ledger.
struct OwnWrite;

impl OwnWrite {
    fn begin(binding_id: i64, content_id: &str) -> Self {
        OWN_WRITE.set(Some((binding_id, content_id.to_owned())));
        Self
    }
}

impl Drop for OwnWrite {
    fn drop(&mut self) {
        OWN_WRITE.set(None);
    }
}

/// Whether publishing is writing the row of this content.
pub(super) fn is_own_write(binding: &Binding, row: &Record) -> bool {
    OWN_WRITE.with_borrow(|own| {
        own.as_ref().is_some_and(|(binding_id, own)| {
            *binding_id == binding.binding_id && row.text(binding.id.number).as_ref() == Some(own)
        })
    })
}

impl Binding {
    /// Whether the caller may write the columns that this state writes. A privilege may be granted column by column.
    fn require_writable_by_caller(&self, state: &str) -> Result<(), Fault> {
        let of_state = self.options.state(state).into_iter().flat_map(|columns| columns.keys());
        let time = (state == "scheduled").then_some(&self.options.at);
        for name in of_state.chain(time) {
            let column = self.table.column("states", name)?;
            if !self.table.can_write(column) {
                return Err(Fault::unbindable(
                    PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                    format!("permission denied for column {name} of table {}", self.table.name),
                    format!(
                        "{} may not UPDATE it, and a content that is {state} has it written.",
                        caller_name()
                    ),
                    "Grant UPDATE of the time and of all columns that \"states\" of the binding names.",
                ));
            }
        }
        Ok(())
    }
}

/// What has become of many rows that were written.
#[derive(Default)]
pub(crate) struct AllScheduled {
    /// The bookings of those that got another time, as [`Target::scheduled`] returns them.
    pub(crate) others: Vec<Booking>,
    /// Places of those that take no seat all the same, and what to say of them.
    pub(crate) unseated: Vec<(usize, Fault)>,
}

/// Values that a state's columns may refer to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Values<'a> {
    pub(crate) scheduled_at: Option<Instant>,
    pub(crate) slot_ref: Option<&'a str>,
    pub(crate) attempt: Option<i64>,
    pub(crate) next_attempt_at: Option<Instant>,
    pub(crate) error: Option<&'a str>,
    pub(crate) url: Option<&'a str>,
    pub(crate) now: Option<Instant>,
}

impl<'a> Values<'a> {
    /// The same with the place of the content in its queue, where it is known.
    fn at(&self, place: &'a Option<Place>) -> Self {
        match place {
            Some(place) => Self {
                scheduled_at: Some(place.scheduled_at),
                slot_ref: place.slot_ref.as_deref(),
                ..*self
            },
            None => *self,
        }
    }
}

/// Whether the row is locked for the caller.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lock {
    /// No, but it could be: a dry run finds what the call itself would find.
    None,
    Wait,
    /// A row that somebody else has locked counts as not there.
    Skip,
}

impl Lock {
    fn wait_if(for_change: bool) -> Self {
        if for_change { Self::Wait } else { Self::None }
    }
}

/// How an id is told apart: by operators of the server's own, whatever else an application has defined.
#[derive(Clone, Copy)]
enum IdType {
    Text,
    Uuid,
    Integer,
}

impl IdType {
    fn of(column: &Column) -> Option<Self> {
        match column.type_oid {
            pg_sys::TEXTOID | pg_sys::VARCHAROID => Some(Self::Text),
            pg_sys::UUIDOID => Some(Self::Uuid),
            pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID => Some(Self::Integer),
            _ => None,
        }
    }

    /// The type that the parameter is cast to.
    fn cast(self) -> &'static str {
        match self {
            Self::Text => "pg_catalog.text",
            Self::Uuid => "pg_catalog.uuid",
            Self::Integer => "pg_catalog.int8",
        }
    }

    /// Whether a text can be an id at all: what can't is no error, it is just not in this table.
    fn admits(self, id: &str) -> bool {
        match self {
            Self::Text => !id.contains('\0'),
            Self::Integer => id.parse::<i64>().is_ok(),
            Self::Uuid => uuid(id).is_some(),
        }
    }

    /// The id as the type writes it.
    fn spelled(self, id: &str) -> Option<Cow<'_, str>> {
        match self {
            Self::Text => Some(Cow::Borrowed(id)),
            Self::Integer => id.parse::<i64>().ok().map(|number| Cow::Owned(number.to_string())),
            Self::Uuid => uuid(id).map(Cow::Owned),
        }
    }
}

/// A UUID in any spelling that the server reads (braces, capitals, hyphens after any four digits), as the server writes it.
fn uuid(id: &str) -> Option<String> {
    let bare = match id.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => id,
    };
    let mut spelled = String::with_capacity(36);
    let mut digits = 0;
    let mut after_hyphen = true;
    for c in bare.chars() {
        if c == '-' && !after_hyphen && digits % 4 == 0 && digits < 32 {
            after_hyphen = true;
            continue;
        }
        if !c.is_ascii_hexdigit() || digits == 32 {
            return None;
        }
        if matches!(digits, 8 | 12 | 16 | 20) {
            spelled.push('-');
        }
        spelled.push(c.to_ascii_lowercase());
        digits += 1;
        after_hyphen = false;
    }
    (digits == 32).then_some(spelled)
}

/// A content's id as the ledger knows it: as the id columns write it that it can be in. The rows' own ids come from there; an
/// application may hold another spelling of the same UUID or number. What the columns don't agree on stays as it was given.
pub(crate) fn spelled<'a>(content_id: &'a str, source: Option<&str>) -> Result<Cow<'a, str>, Fault> {
    let known = known()?;
    let mut columns = known
        .bindings
        .iter()
        .filter(|binding| source.is_none_or(|source| source == binding.source))
        .filter_map(|binding| IdType::of(&binding.id)?.spelled(content_id));
    let Some(first) = columns.next() else {
        return Ok(Cow::Borrowed(content_id));
    };
    Ok(if columns.all(|other| other == first) {
        first
    } else {
        Cow::Borrowed(content_id)
    })
}

/// Whether ids of this type can be looked up.
pub(super) fn can_be_id(column: &Column) -> bool {
    IdType::of(column).is_some()
}

/// `column = $1`, in SQL.
fn id_is(column: &Column, alias: &str) -> Result<String, Fault> {
    let of_type = IdType::of(column).ok_or_else(|| Fault::Internal("an id of an unknown type".to_owned()))?;
    Ok(format!(
        "{alias}.{} OPERATOR(pg_catalog.=) $1::{}",
        column.quoted()?,
        of_type.cast()
    ))
}

/// The first ids of a result, in SQL.
pub(super) fn id_list(column: &Column) -> Result<String, Fault> {
    Ok(format!(
        "(pg_catalog.array_agg(t.{id}::pg_catalog.text ORDER BY t.{id}))[1:100]",
        id = column.quoted()?
    ))
}

/// Keeps a source that no table is attached under as it is until the transaction ends: otherwise what is booked for it
/// could be missed by a table that is just being attached.
fn settle_source(source: &str) -> Result<(), Fault> {
    if matches!(of_source(source), Ok(None)) {
        use_source(source);
        // It may have been attached while we waited, and nothing that was read since need have told us.
        forget_known();
    }
    Ok(())
}

/// Looks for rows until no table was attached or detached meanwhile: who waits for a table may find it so when he has it.
fn under_its_binding<T>(mut look: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    loop {
        let before = known()?;
        let found = look()?;
        if Rc::ptr_eq(&before, &known()?) {
            return Ok(found);
        }
    }
}

/// Once tables are bound a source is one of theirs: under any other name a content could be booked beside its row, by one who
/// may not change that.
fn refuse_unknown(source: &str) -> Result<(), Fault> {
    if !any()? {
        return Ok(());
    }
    let mut sources: Vec<String> = Vec::new();
    for binding in all()? {
        if binding.table.can(Privilege::Select) {
            sources.push(binding.source.clone());
        }
    }
    Err(Fault::unbindable(
        PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
        format!("no table is attached as {source:?}"),
        match sources.is_empty() {
            true => String::new(),
            false => format!("Attached are {}.", sources.join(", ")),
        },
        "p_source is a binding's source, as attach_table() has returned it and slotkeeper.binding_health shows it. Leave it out for content of no table.",
    ))
}

fn admits(column: &Column, content_id: &str) -> bool {
    IdType::of(column).is_some_and(|of_type| of_type.admits(content_id))
}

fn ambiguous<'s>(content_id: &str, sources: impl Iterator<Item = &'s str>) -> Fault {
    let candidates: Vec<String> = sources.map(|source| format!("source {source:?}")).collect();
    Fault::unbindable(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("content {content_id} has a row in more than one table"),
        format!("Candidates: {}.", candidates.join("; ")),
        "Say which with p_source, or \"source\" in an item of a batch.",
    )
}

fn denied(binding: &Binding, detail: String) -> Fault {
    Fault::unbindable(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("permission denied for table {}", binding.table.name),
        detail,
        "Whoever books a content must be allowed to SELECT and UPDATE its row.",
    )
}

/// Whoever may not update a table at all finds none of its rows.
fn require_privileges(binding: &Binding) -> Result<(), Fault> {
    if binding.table.can(Privilege::Select) && binding.table.can(Privilege::Update) {
        return Ok(());
    }
    let detail = format!("It holds the contents of {}.", binding.source);
    Err(denied(binding, detail))
}

/// Whoever may not update a table books nothing for its rows. Only that the row is there comes out.
fn refuse_if_there(binding: &Binding, content_id: &str) -> Result<(), Fault> {
    for table in binding.table.leaves()? {
        let id = table.column("content_id", &binding.options.content_id)?;
        if admits(id, content_id) && row_exists(table.oid, id.number, content_id)? {
            return Err(denied(
                binding,
                format!("Content {content_id} is a row of {}.", binding.source),
            ));
        }
    }
    Ok(())
}

/// A row of a table whose binding is broken is no content of no table. An id that cannot be told any more is let pass.
fn refuse_if_broken(content_id: &str) -> Result<(), Fault> {
    for it in &known()?.broken {
        let (Some(name), Some(table)) = (&it.content_id, Table::find(it.table)?) else {
            continue;
        };
        for leaf in table.leaves()? {
            if let Ok(id) = leaf.column("content_id", name)
                && admits(id, content_id)
                && row_exists(leaf.oid, id.number, content_id)?
            {
                return Err(broken(&it.source, &it.reason));
            }
        }
    }
    Ok(())
}

/// The rows of many contents by the ids that were given, locked for the caller.
fn look_all(binding: &Rc<Binding>, ids: &[&str]) -> Result<HashMap<String, Row>, Fault> {
    let of_type = IdType::of(&binding.id).ok_or_else(|| Fault::Internal("an id of an unknown type".to_owned()))?;
    require_privileges(binding)?;
    let ids: Vec<Option<&str>> = ids
        .iter()
        .filter(|id| admits(&binding.id, id))
        .map(|id| Some(*id))
        .collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let id = binding.id.quoted()?;
    let sql = format!(
        "SELECT given.id, {} FROM {} AS t \
         JOIN pg_catalog.unnest($1) AS given (id) ON t.{id} OPERATOR(pg_catalog.=) given.id::{} \
         ORDER BY t.{id} FOR NO KEY UPDATE OF t",
        row_columns(binding)?,
        binding.table.quoted()?,
        of_type.cast()
    );
    loop {
        let rows = dynamic::execute(&sql, See::Caller, &[Value::Texts(&ids)], |row| {
            Ok((row.must::<String>(1)?, row_of(binding, row, 2)?))
        })?;
        let rows: HashMap<String, Row> = rows.into_iter().collect();
        let missing: Vec<&str> = ids
            .iter()
            .flatten()
            .copied()
            .filter(|id| !rows.contains_key(*id))
            .collect();
        if !is_unseen(binding, &missing)? {
            return Ok(rows);
        }
    }
}

/// What is read of a row: id, profile, platform.
fn row_columns(binding: &Binding) -> Result<String, Fault> {
    let text = |source: &Source| -> Result<String, Fault> {
        match source {
            Source::Column(number) => match binding.table.column_at(*number) {
                Some(column) => Ok(format!("t.{}::pg_catalog.text", column.quoted()?)),
                None => Err(Fault::Internal("a column that is gone".to_owned())),
            },
            Source::Value(value) => Ok(format!("{}::pg_catalog.text", literal(value)?)),
        }
    };
    let platform = match &binding.platform {
        Some(platform) => text(platform)?,
        None => "NULL::pg_catalog.text".to_owned(),
    };
    Ok(format!(
        "t.{}::pg_catalog.text, {}, {platform}",
        binding.id.quoted()?,
        text(&binding.profile_id)?
    ))
}

/// The row from the columns of [`row_columns`].
fn row_of(binding: &Rc<Binding>, row: &dynamic::Row, first: i32) -> Result<Row, Fault> {
    Ok(Row {
        binding: Rc::clone(binding),
        content_id: row.must(first)?,
        profile_id: row.get(first + 1)?,
        platform: row.get(first + 2)?,
    })
}

/// The row as the caller's own statements find it; `for_change`, locked for him.
fn look<'a>(binding: &Rc<Binding>, content_id: &'a str, lock: Lock) -> Result<Target<'a>, Fault> {
    let none = || -> Result<Target<'a>, Fault> {
        // Row-level security may hide a row that is there: then nothing may be booked for it.
        Ok(if binding.table.hides_rows() {
            Target::Hidden { content_id }
        } else {
            Target::Unbound {
                content_id,
                source: NO_SOURCE,
            }
        })
    };
    require_privileges(binding)?;
    if !admits(&binding.id, content_id) {
        return none();
    }
    let sql = format!(
        "SELECT {} FROM {} AS t WHERE {} FOR NO KEY UPDATE OF t{}",
        row_columns(binding)?,
        binding.table.quoted()?,
        id_is(&binding.id, "t")?,
        match lock {
            Lock::None | Lock::Wait => "",
            Lock::Skip => " SKIP LOCKED",
        }
    );
    let read = |row: &dynamic::Row| row_of(binding, row, 1);
    let values = [Value::Text(content_id)];
    loop {
        let rows = if lock != Lock::None {
            dynamic::execute(&sql, See::Caller, &values, read)?
        } else {
            dynamic::query_unlocked(&sql, &values, read)?
        };
        if let Some(row) = rows.into_iter().next() {
            if lock == Lock::None {
                binding.require_writable_by_caller("scheduled")?;
            }
            return Ok(Target::Row(Box::new(row)));
        }
        if lock != Lock::Wait || !is_unseen(binding, &[content_id])? {
            return none();
        }
    }
}

/// Whether a row with one of these ids is there that the caller's statement has not found, and finds when it is run again: it was
/// inserted meanwhile, by a transaction that is waited for. 40001 where the caller's transaction cannot see it.
fn is_unseen(binding: &Binding, content_ids: &[&str]) -> Result<bool, Fault> {
    if content_ids.is_empty() || binding.table.hides_rows() {
        return Ok(false);
    }
    let leaves = binding.table.leaves()?;
    for (table, &content_id) in leaves
        .iter()
        .flat_map(|table| content_ids.iter().map(move |id| (table, id)))
    {
        let id = table.column("content_id", &binding.options.content_id)?;
        let present = match admits(id, content_id) {
            true => present_row(table.oid, id.number, content_id)?,
            false => None,
        };
        match present {
            None => {}
            // A row of this transaction's own: its statement sees it or is not to see it.
            Some(present) if present.is_own => {}
            Some(present) => {
                if let Some(transaction) = present.inserter {
                    wait_for(transaction);
                    return Ok(true);
                }
                if isolation() == Isolation::ReadCommitted {
                    return Ok(true);
                }
                return Err(Fault::unbindable(
                    PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
                    format!("the row of content {content_id} was written meanwhile"),
                    format!(
                        "This transaction began before the row was committed to {}.",
                        binding.source
                    ),
                    "Run the transaction again.",
                ));
            }
        }
    }
    Ok(false)
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

    /// Writes what the binding says for a state; returns whether the row takes a seat then.
    pub(crate) fn write(&self, state: &str, values: &Values<'_>) -> Result<bool, Fault> {
        match self.update(state, values, "true")? {
            Some(written) => Ok(written.seated),
            None => Err(self.unwritable()),
        }
    }

    fn write_if_seated(&self, state: &str, values: &Values<'_>) -> Result<bool, Fault> {
        let seated = triggers::Conditions::of(&self.binding)?.takes_seat(RowOf::Table)?;
        Ok(self.update(state, values, &seated)?.is_some())
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

    /// The content's place, where this state writes it.
    fn place(&self, state: &str) -> Result<Option<Place>, Fault> {
        let columns = self.binding.options.state(state);
        let writes_place = columns.is_some_and(|columns| {
            let is_place =
                |value: &StateValue| matches!(value, StateValue::Variable(Variable::ScheduledAt | Variable::SlotRef));
            columns.values().any(is_place)
        });
        match writes_place {
            true => booking::last_place(&self.content_id, &self.binding.source),
            false => Ok(None),
        }
    }

    /// What the row's content holds now.
    fn booking(&self) -> Result<Option<Booking>, Fault> {
        let held = booking::of_source(&self.content_id, &self.binding.source)?;
        Ok(held.into_iter().next().map(|(booking, _)| booking))
    }

    /// Writes a state where a condition holds; `None` where nothing was written.
    fn update(&self, state: &str, values: &Values<'_>, condition: &str) -> Result<Option<Written>, Fault> {
        let binding = &*self.binding;
        let table = &binding.table;
        let mut write = Write {
            binding,
            values: vec![Bound::Text(Some(self.content_id.clone()))],
            sets: Vec::new(),
            at: None,
        };
        write.set_all(state, &|variable| match variable {
            Variable::ScheduledAt => Operand::Time(values.scheduled_at),
            Variable::NextAttemptAt => Operand::Time(values.next_attempt_at),
            Variable::Now => Operand::Time(values.now),
            Variable::SlotRef => Operand::Text(values.slot_ref.map(str::to_owned)),
            Variable::Error => Operand::Text(values.error.map(str::to_owned)),
            Variable::Url => Operand::Text(values.url.map(str::to_owned)),
            Variable::Attempt => Operand::Text(values.attempt.map(|n| n.to_string())),
        })?;
        if write.sets.is_empty() {
            return Ok(Some(Written {
                seated: false,
                as_asked: true,
            }));
        }
        let sql = format!(
            "UPDATE {} AS t SET {} WHERE {} AND ({condition}) RETURNING ({}), {}",
            table.quoted()?,
            write.sets.join(", "),
            id_is(&binding.id, "t")?,
            triggers::Conditions::of(binding)?.takes_seat(RowOf::Table)?,
            write.as_asked()?
        );
        let bound: Vec<Value<'_>> = write.values.iter().map(Bound::value).collect();
        let written = dynamic::execute(&sql, See::Caller, &bound, |row| {
            Ok(Written {
                seated: row.must(1)?,
                as_asked: row.must(2)?,
            })
        })?;
        Ok(written.into_iter().next())
    }

    fn unwritable(&self) -> Fault {
        Fault::unbindable(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("the row of content {} cannot be written", self.content_id),
            format!(
                "A policy or a trigger of {} kept it from being updated.",
                self.binding.source
            ),
            "Whoever books a content must be allowed to UPDATE its row.",
        )
    }
}

/// Writes into rows of one binding, which the caller has locked, that their contents are scheduled.
fn write_all(rows: &[(usize, &Row, &Slot)], now: Instant, all: &mut AllScheduled) -> Result<(), Fault> {
    let Some((_, first, _)) = rows.first() else {
        return Ok(());
    };
    let binding = &*first.binding;
    binding.require_writable_by_caller("scheduled")?;
    let of_type = IdType::of(&binding.id).ok_or_else(|| Fault::Internal("an id of an unknown type".to_owned()))?;
    let mut write = Write {
        binding,
        // The arrays come first.
        values: vec![Bound::Text(None), Bound::Text(None), Bound::Text(None)],
        sets: Vec::new(),
        at: None,
    };
    write.set_all("scheduled", &|variable| match variable {
        Variable::ScheduledAt => Operand::TimeOfRow("v.at"),
        Variable::SlotRef => Operand::TextOfRow("v.slot_ref"),
        Variable::Now => Operand::Time(Some(now)),
        _ => Operand::Text(None),
    })?;
    let id = binding.id.quoted()?;
    let sql = format!(
        "UPDATE {table} AS t SET {sets} \
         FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) AS v (id, at, slot_ref) \
         WHERE t.{id} OPERATOR(pg_catalog.=) v.id::{cast} \
         RETURNING t.{id}::pg_catalog.text, ({takes}), {as_asked}",
        table = binding.table.quoted()?,
        sets = write.sets.join(", "),
        cast = of_type.cast(),
        takes = triggers::Conditions::of(binding)?.takes_seat(RowOf::Table)?,
        as_asked = write.as_asked()?
    );
    let ids: Vec<Option<&str>> = rows.iter().map(|(_, row, _)| Some(row.content_id.as_str())).collect();
    let times: Vec<String> = rows.iter().map(|(_, _, slot)| format_utc(slot.at)).collect();
    let times: Vec<Option<&str>> = times.iter().map(|at| Some(at.as_str())).collect();
    let refs: Vec<Option<&str>> = rows.iter().map(|(_, _, slot)| slot.slot_ref.as_deref()).collect();
    let mut values = vec![Value::Texts(&ids), Value::Texts(&times), Value::Texts(&refs)];
    values.extend(write.values.iter().skip(values.len()).map(Bound::value));
    let written: HashMap<String, Written> = dynamic::execute(&sql, See::Caller, &values, |row| {
        let written = Written {
            seated: row.must(2)?,
            as_asked: row.must(3)?,
        };
        Ok((row.must::<String>(1)?, written))
    })?
    .into_iter()
    .collect();
    for (place, row, _) in rows {
        match written.get(&row.content_id) {
            Some(Written {
                seated: true,
                as_asked: true,
            }) => {}
            Some(Written { seated: true, .. }) => all.others.extend(row.booking()?),
            Some(_) => all.unseated.push((*place, row.exempt())),
            None => return Err(row.unwritable()),
        }
    }
    Ok(())
}

/// What a variable stands for in an UPDATE.
enum Operand {
    Text(Option<String>),
    Time(Option<Instant>),
    /// A text in SQL, of each row.
    TextOfRow(&'static str),
    /// A text in SQL with an instant, of each row.
    TimeOfRow(&'static str),
}

/// A parameter of the UPDATE.
enum Bound {
    Text(Option<String>),
    Time(Instant),
}

impl Bound {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Text(text) => Value::OptionalText(text.as_deref()),
            Self::Time(at) => Value::Time(*at),
        }
    }
}

/// The UPDATE that is being put together.
struct Write<'a> {
    binding: &'a Binding,
    values: Vec<Bound>,
    sets: Vec<String>,
    /// What is written into the row's time, where that is an instant.
    at: Option<String>,
}

/// What has become of a row that was written.
#[derive(Clone, Copy)]
struct Written {
    /// It takes a seat.
    seated: bool,
    /// It has the time that was written, which a trigger may have changed.
    as_asked: bool,
}

impl Write<'_> {
    /// All columns that a state writes; the time too, where it doesn't say how.
    fn set_all(&mut self, state: &str, operand: &dyn Fn(Variable) -> Operand) -> Result<(), Fault> {
        let binding = self.binding;
        let columns = binding.options.state(state);
        if state == "scheduled" && columns.is_none_or(|columns| !columns.contains_key(&binding.options.at)) {
            self.set(&binding.at.name, operand(Variable::ScheduledAt))?;
        }
        for (column, value) in columns.into_iter().flatten() {
            let operand = match value {
                StateValue::Null => Operand::Text(None),
                StateValue::Literal(text) => Operand::Text(Some(text.clone())),
                StateValue::Variable(variable) => operand(*variable),
            };
            self.set(column, operand)?;
        }
        Ok(())
    }

    /// A parameter's place in SQL.
    fn parameter(&mut self, value: Bound) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    fn set(&mut self, name: &str, operand: Operand) -> Result<(), Fault> {
        let column = self.binding.table.column("states", name)?.clone();
        if column.is_generated {
            return Err(Fault::unbindable(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("column {name} of {} cannot be written", self.binding.source),
                "It is generated, so no call can give its row another time.",
                "Change the columns that it is computed from: the row's seat follows.",
            ));
        }
        let is_text = matches!(column.type_oid, pg_sys::TEXTOID | pg_sys::VARCHAROID);
        let as_text = |text: String| format!("CAST({text}::pg_catalog.text AS {})", column.type_name);
        let is_instant = matches!(operand, Operand::Time(Some(_)) | Operand::TimeOfRow(_)) && !is_text;
        let expression = match operand {
            Operand::Text(text) => as_text(self.parameter(Bound::Text(text))),
            Operand::Time(None) => as_text(self.parameter(Bound::Text(None))),
            Operand::TextOfRow(text) => as_text(text.to_owned()),
            // A text column gets the form that replies have.
            Operand::Time(Some(at)) if is_text => as_text(self.parameter(Bound::Text(Some(format_utc(at))))),
            Operand::TimeOfRow(text) if is_text => as_text(text.to_owned()),
            Operand::Time(Some(at)) => {
                let parameter = self.parameter(Bound::Time(at));
                self.time(&column, &parameter)?
            }
            Operand::TimeOfRow(text) => self.time(&column, &format!("{text}::pg_catalog.timestamptz"))?,
        };
        self.sets.push(format!("{} = {expression}", column.quoted()?));
        if is_instant && column.number == self.binding.at.number {
            self.at = Some(expression);
        }
        Ok(())
    }

    /// Whether the row has the time that was written, in SQL.
    fn as_asked(&self) -> Result<String, Fault> {
        Ok(match &self.at {
            Some(at) => {
                let column = self.binding.at.quoted()?;
                format!("coalesce(t.{column} OPERATOR(pg_catalog.=) ({at}), false)")
            }
            None => "false".to_owned(),
        })
    }

    /// An instant in SQL as the column's type has it.
    fn time(&self, column: &Column, instant: &str) -> Result<String, Fault> {
        Ok(match column.type_oid {
            pg_sys::TIMESTAMPTZOID => instant.to_owned(),
            pg_sys::TIMESTAMPOID => {
                let zone = self.binding.options.at_zone.as_deref().unwrap_or("UTC");
                format!("pg_catalog.timezone({}, {instant})", literal(&zone_of(zone))?)
            }
            _ => format!("CAST({instant} AS {})", column.type_name),
        })
    }
}

/// The name by which the server knows a zone that slotkeeper has names of its own for.
fn zone_of(name: &str) -> String {
    match slotkeeper_core::zone::zone_name(name) {
        slotkeeper_core::zone::ZoneName::Region(region) => region,
        slotkeeper_core::zone::ZoneName::Refused { .. } => name.to_owned(),
    }
}
