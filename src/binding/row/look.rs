//! Finding a content's row, as one that the caller may change.

use super::id::{IdType, admits, id_is};
use super::{Row, Target};
use crate::arguments::NO_SOURCE;
use crate::binding::table::Table;
use crate::binding::{Binding, Source, all, any, broken, forget_known, known, of_source};
use crate::fault::Fault;
use crate::pg::dynamic::{self, See, literal};
use crate::pg::lock::{use_source, wait_for};
use crate::pg::role::Privilege;
use crate::pg::scan::{present_row, row_exists};
use crate::pg::statement::Value;
use crate::pg::{Isolation, isolation};
use pgrx::PgSqlErrorCode;
use std::collections::HashMap;
use std::rc::Rc;

/// Whether the row is locked for the caller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// No, but it could be: a dry run finds what the call itself would find.
    None,
    Wait,
    /// A row that somebody else has locked counts as not there.
    Skip,
}

impl Lock {
    pub(super) fn wait_if(for_change: bool) -> Self {
        if for_change { Self::Wait } else { Self::None }
    }
}

/// Keeps a source that no table is attached under as it is until the transaction ends: otherwise what is booked for it
/// could be missed by a table that is just being attached.
pub(super) fn settle_source(source: &str) -> Result<(), Fault> {
    if matches!(of_source(source), Ok(None)) {
        use_source(source);
        // It may have been attached while we waited, and nothing that was read since need have told us.
        forget_known();
    }
    Ok(())
}

/// Looks for rows until no table was attached or detached meanwhile: who waits for a table may find it so when he has it.
pub(super) fn under_its_binding<T>(mut look: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
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
pub(super) fn refuse_unknown(source: &str) -> Result<(), Fault> {
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

pub(super) fn ambiguous<'s>(content_id: &str, sources: impl Iterator<Item = &'s str>) -> Fault {
    let candidates: Vec<String> = sources.map(|source| format!("source {source:?}")).collect();
    Fault::unbindable(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("content {content_id} has a row in more than one table"),
        format!("Candidates: {}.", candidates.join("; ")),
        "Say which with p_source, or \"source\" in an item of a batch.",
    )
}

pub(super) fn denied(binding: &Binding, detail: String) -> Fault {
    Fault::unbindable(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("permission denied for table {}", binding.table.name),
        detail,
        "Whoever books a content must be allowed to SELECT and UPDATE its row.",
    )
}

/// Whoever may not update a table at all finds none of its rows.
pub(super) fn require_privileges(binding: &Binding) -> Result<(), Fault> {
    if binding.table.can(Privilege::Select) && binding.table.can(Privilege::Update) {
        return Ok(());
    }
    let detail = format!("It holds the contents of {}.", binding.source);
    Err(denied(binding, detail))
}

/// Whoever may not update a table books nothing for its rows. Only that the row is there comes out.
pub(super) fn refuse_if_there(binding: &Binding, content_id: &str) -> Result<(), Fault> {
    match has_row(binding, content_id)? {
        true => Err(denied(
            binding,
            format!("Content {content_id} is a row of {}.", binding.source),
        )),
        false => Ok(()),
    }
}

/// Whether the table has a row with this id, one of an open transaction included, and whoever may see it.
pub(in crate::binding) fn has_row(binding: &Binding, content_id: &str) -> Result<bool, Fault> {
    for table in binding.table.leaves()? {
        let id = table.column("content_id", &binding.options.content_id)?;
        if admits(id, content_id) && row_exists(table.oid, id.number, content_id)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A row of a table whose binding is broken is no content of no table. An id that cannot be told any more is let pass.
pub(super) fn refuse_if_broken(content_id: &str) -> Result<(), Fault> {
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
pub(super) fn look_all(binding: &Rc<Binding>, ids: &[&str]) -> Result<HashMap<String, Row>, Fault> {
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
pub(super) fn row_columns(binding: &Binding) -> Result<String, Fault> {
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
pub(super) fn row_of(binding: &Rc<Binding>, row: &dynamic::Row, first: i32) -> Result<Row, Fault> {
    Ok(Row {
        binding: Rc::clone(binding),
        content_id: row.must(first)?,
        profile_id: row.get(first + 1)?,
        platform: row.get(first + 2)?,
    })
}

/// The row as the caller's own statements find it; `for_change`, locked for him.
pub(super) fn look<'a>(binding: &Rc<Binding>, content_id: &'a str, lock: Lock) -> Result<Target<'a>, Fault> {
    let none = || -> Result<Target<'a>, Fault> {
        // Row-level security may hide a row that is there: then nothing may be booked for it.
        Ok(if binding.table.hides_rows() {
            Target::Hidden { content_id }
        } else {
            Target::Unbound {
                content_id,
                source: NO_SOURCE,
                open: None,
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
pub(super) fn is_unseen(binding: &Binding, content_ids: &[&str]) -> Result<bool, Fault> {
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
