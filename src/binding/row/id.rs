//! Ids of contents as their columns have them.

use crate::binding::known;
use crate::binding::table::Column;
use crate::fault::Fault;
use pgrx::pg_sys;
use std::borrow::Cow;

/// How an id is told apart: by operators of the server's own, whatever else an application has defined.
#[derive(Clone, Copy)]
pub(super) enum IdType {
    Text,
    Uuid,
    Integer,
}

impl IdType {
    pub(super) fn of(column: &Column) -> Option<Self> {
        match column.type_oid {
            pg_sys::TEXTOID | pg_sys::VARCHAROID => Some(Self::Text),
            pg_sys::UUIDOID => Some(Self::Uuid),
            pg_sys::INT2OID | pg_sys::INT4OID | pg_sys::INT8OID => Some(Self::Integer),
            _ => None,
        }
    }

    /// The type that the parameter is cast to.
    pub(super) fn cast(self) -> &'static str {
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
    pub(super) fn spelled(self, id: &str) -> Option<Cow<'_, str>> {
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
pub(in crate::binding) fn can_be_id(column: &Column) -> bool {
    IdType::of(column).is_some()
}

/// `column = $1`, in SQL.
pub(super) fn id_is(column: &Column, alias: &str) -> Result<String, Fault> {
    let of_type = IdType::of(column).ok_or_else(|| Fault::Internal("an id of an unknown type".to_owned()))?;
    Ok(format!(
        "{alias}.{} OPERATOR(pg_catalog.=) $1::{}",
        column.quoted()?,
        of_type.cast()
    ))
}

/// The first ids of a result, in SQL.
pub(in crate::binding) fn id_list(column: &Column) -> Result<String, Fault> {
    Ok(format!(
        "(pg_catalog.array_agg(t.{id}::pg_catalog.text ORDER BY t.{id}))[1:100]",
        id = column.quoted()?
    ))
}

pub(super) fn admits(column: &Column, content_id: &str) -> bool {
    IdType::of(column).is_some_and(|of_type| of_type.admits(content_id))
}
