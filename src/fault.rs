//! What can go wrong, each with its SQLSTATE, DETAIL and HINT. Expected outcomes are not here: they are values.
//!
//! `docs/reference.md` lists these for callers; `tests/regress/sql/faults.sql` pins them.

use crate::pg::subtransaction::{Failure, sqlstate};
use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use slotkeeper_core::Invalid;

/// The most characters an identifier of the application may have.
pub(crate) const MAX_IDENTIFIER: usize = 255;

const NO_SUCH_QUEUE: &str = "No queue has this profile and this platform, which is lower-cased.";

/// A fault of the caller's request, or (`Internal`) of slotkeeper.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A required argument is NULL. 22004
    Null { argument: &'static str },
    /// An identifier is an empty string. 22023
    Empty { argument: &'static str },
    /// An identifier has too many characters. 22001
    TooLong { argument: &'static str, characters: usize },
    /// An instant is infinite. 22008
    Infinite { argument: &'static str },
    /// An argument is none of its allowed words, or outside its range. 22023
    NotAllowed {
        argument: &'static str,
        value: String,
        allowed: String,
    },
    /// One of these, in a part of a JSON argument.
    InItem { path: String, fault: Box<Fault> },
    /// A JSON argument is malformed. 22023
    Invalid(Invalid),
    /// A time zone cannot be used. 22023
    Zone { name: String, reason: String, hint: String },
    /// No queue of this profile and platform. 42704
    NoQueue {
        profile_id: String,
        platform: String,
        item: Option<usize>,
    },
    /// The queue exists already. 42710
    QueueExists { profile_id: String, platform: String },
    /// The queue cannot be dropped, because bookings in it are live. 55006
    LiveBookings {
        profile_id: String,
        platform: String,
        live: i64,
    },
    /// The queue cannot be taken away, because a transaction that books in it is open. 55006
    QueueBusy { profile_id: String, platform: String },
    /// The granule cannot change under live bookings. 55000
    GranuleInUse {
        profile_id: String,
        platform: String,
        live: i64,
    },
    /// The content id alone names several bookings. 22023
    Ambiguous {
        content_id: String,
        candidates: Vec<String>,
    },
    /// No relation of this OID. 42P01
    NoTable { oid: u32 },
    /// A relation that is no ordinary table, or not one that can be used for this. 42809
    WrongTable {
        table: String,
        problem: &'static str,
        hint: &'static str,
    },
    /// The column's type cannot be used for this. 42804
    ColumnType {
        table: String,
        column: String,
        problem: String,
        hint: &'static str,
    },
    /// No unique index proves that a slug is unused. 42P10
    NoUniqueIndex {
        table: String,
        columns: String,
        found: String,
        hint: String,
    },
    /// A scope is NULL, and the unique index takes NULLs for distinct. 22004
    NullScope { table: String, column: String },
    /// A scope may become NULL, and the unique index takes NULLs for distinct. 42P10
    NullableScope { table: String, column: String },
    /// A trigger of slotkeeper's is called otherwise than slotkeeper has made it. 39P01
    NotAttached,
    /// The columns that a trigger of slotkeeper's names are gone. 55000
    Detached {
        table: String,
        trigger: String,
        problem: String,
    },
    /// The table has another trigger of this name. 42710
    TriggerExists { table: String, trigger: String },
    /// The caller may not do this. 42501
    Denied { what: String, hint: String },
    /// The table has no primary key of one column. 42P10
    NoKey { table: String, hint: &'static str },
    /// A row was not stored, though nothing failed. 55000
    NotStored { table: String },
    /// A row refers to another one of the same call that was not stored. 55000
    NotReferred { dependent: usize },
    /// Every slug of this text is taken that is short enough. 54000
    NoSlugLeft { slug: String, max_length: usize },
    /// A transaction holds too many slugs that it has not written. 54000
    TooManySlugs { limit: usize },
    /// A text that is no identifier has too many characters. 22001
    LongerThan {
        argument: &'static str,
        characters: usize,
        allowed: usize,
    },
    /// A response is too large to be kept. 54000
    TooLarge { bytes: usize, allowed: usize },
    /// The table has no column of this name. 42703
    NoColumn { table: String, column: String },
    /// The injected clock is no timestamp. 22007
    Clock { value: String },
    /// A predicate of a binding cannot be used. 22023
    Predicate { path: String, problem: String },
    /// A table cannot be bound, or not in this way. The SQLSTATE is given.
    Unbindable {
        code: PgSqlErrorCode,
        message: String,
        detail: String,
        hint: String,
    },
    /// One of these, about what a part of a JSON argument names.
    Named { path: String, fault: Box<Fault> },
    /// One of these, in a row of a table that queues follow.
    InRow { row: String, fault: Box<Fault> },
    /// A broken invariant of slotkeeper's own. XX000
    Internal(String),
}

impl Fault {
    /// The same fault, said of a part of a JSON argument.
    pub(crate) fn in_item(self, path: &str) -> Self {
        match self {
            Self::Null { .. } | Self::Empty { .. } | Self::TooLong { .. } | Self::Infinite { .. } => Self::InItem {
                path: path.to_owned(),
                fault: Box::new(self),
            },
            other => other,
        }
    }
}

impl Fault {
    /// A fault about a table of the application.
    pub(crate) fn unbindable(
        code: PgSqlErrorCode,
        message: impl Into<String>,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Unbindable {
            code,
            message: message.into(),
            detail: detail.into(),
            hint: hint.into(),
        }
    }

    /// The same fault, saying which part of an argument it comes from.
    pub(crate) fn named_by(self, path: &str) -> Self {
        Self::Named {
            path: path.to_owned(),
            fault: Box::new(self),
        }
    }

    /// As what it makes of a part of a call that may fail.
    pub(crate) fn into_failure(self) -> Failure {
        let parts = self.parts();
        Failure {
            sqlstate: sqlstate(parts.code),
            message: parts.message,
            detail: (!parts.detail.is_empty()).then_some(parts.detail),
        }
    }

    /// What a reply shows of it.
    pub(crate) fn message_and_hint(self) -> (String, String) {
        let parts = self.parts();
        (parts.message, parts.hint)
    }
}

impl From<Invalid> for Fault {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

struct Parts {
    code: PgSqlErrorCode,
    message: String,
    detail: String,
    hint: String,
}

fn parts(
    code: PgSqlErrorCode,
    message: impl Into<String>,
    detail: impl Into<String>,
    hint: impl Into<String>,
) -> Parts {
    Parts {
        code,
        message: message.into(),
        detail: detail.into(),
        hint: hint.into(),
    }
}

impl Fault {
    fn parts(self) -> Parts {
        use PgSqlErrorCode as Code;
        match self {
            Self::Null { argument } => parts(
                Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                format!("{argument} must not be null"),
                "It is required, and NULL does not stand for a default.",
                format!("Give {argument} a value."),
            ),
            Self::Empty { argument } => parts(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("{argument} must not be empty"),
                "An empty identifier names nothing.",
                format!("Give {argument} the application's own id, or leave it out where it is optional."),
            ),
            Self::TooLong { argument, characters } => parts(
                Code::ERRCODE_STRING_DATA_RIGHT_TRUNCATION,
                format!("{argument} is too long"),
                format!("It has {characters} characters; at most {MAX_IDENTIFIER} are allowed."),
                "Pass the application's short id, not its text.",
            ),
            Self::Infinite { argument } => parts(
                Code::ERRCODE_DATETIME_FIELD_OVERFLOW,
                format!("{argument} is out of range"),
                "It is infinite, or lies beyond what slotkeeper can schedule.",
                "Pass a finite timestamp.",
            ),
            Self::NotAllowed {
                argument,
                value,
                allowed,
            } => parts(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("{argument} is not valid: {value}"),
                format!("{argument} takes some values only, and this is none of them."),
                format!("Allowed: {allowed}."),
            ),
            Self::InItem { path, fault } => {
                let inner = fault.parts();
                Parts {
                    message: format!("{path}.{}", inner.message),
                    ..inner
                }
            }
            Self::Invalid(Invalid { path, problem, hint }) => parts(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("{path}: {problem}"),
                format!("At JSON path {path}."),
                hint.unwrap_or_else(|| "See \"Timetables and options\" in slotkeeper's reference.".to_owned()),
            ),
            Self::Zone { name, reason, hint } => parts(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("time zone {name:?} cannot be used"),
                format!("{name:?} {reason}."),
                hint,
            ),
            Self::NoQueue {
                profile_id,
                platform,
                item,
            } => parts(
                Code::ERRCODE_UNDEFINED_OBJECT,
                format!("queue ({profile_id}, {platform}) does not exist"),
                match item {
                    Some(i) => format!("{NO_SUCH_QUEUE} Named by p_items[{i}]."),
                    None => NO_SUCH_QUEUE.to_owned(),
                },
                "Create it with slotkeeper.create_queue(p_profile_id, p_platform, p_time_zone, p_timetable).",
            ),
            Self::QueueExists { profile_id, platform } => parts(
                Code::ERRCODE_DUPLICATE_OBJECT,
                format!("queue ({profile_id}, {platform}) exists already"),
                "A profile has one queue on a platform.",
                "Change it with slotkeeper.alter_queue().",
            ),
            Self::LiveBookings {
                profile_id,
                platform,
                live,
            } => parts(
                Code::ERRCODE_OBJECT_IN_USE,
                format!("queue ({profile_id}, {platform}) has live bookings"),
                format!("Bookings that would be lost: {live}."),
                "Unschedule them first, or pass p_force => true.",
            ),
            Self::QueueBusy { profile_id, platform } => parts(
                Code::ERRCODE_OBJECT_IN_USE,
                format!("queue ({profile_id}, {platform}) is in use"),
                "A transaction that books in it, or in very many queues, is still open.",
                "Try again when it has ended.",
            ),
            Self::GranuleInUse {
                profile_id,
                platform,
                live,
            } => parts(
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("the granule of queue ({profile_id}, {platform}) cannot change now"),
                format!("Live bookings that are counted in the present granule: {live}."),
                "Unschedule them first, or create another queue.",
            ),
            Self::Ambiguous { content_id, candidates } => parts(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("content {content_id} is booked more than once"),
                format!("Candidates: {}.", candidates.join("; ")),
                "Say which with p_profile_id, p_platform or p_source.",
            ),
            Self::NoTable { oid } => parts(
                Code::ERRCODE_UNDEFINED_TABLE,
                format!("there is no table with OID {oid}"),
                "Nothing has this OID, or not any more.",
                "Pass the table's name, such as 'public.posts'.",
            ),
            Self::WrongTable { table, problem, hint } => parts(
                Code::ERRCODE_WRONG_OBJECT_TYPE,
                format!("{table} {problem}"),
                "It takes an ordinary table, which this session can write.",
                hint,
            ),
            Self::ColumnType {
                table,
                column,
                problem,
                hint,
            } => parts(
                Code::ERRCODE_DATATYPE_MISMATCH,
                format!("column {column:?} of {table} {problem}"),
                "Not every column can be used for this.",
                hint,
            ),
            Self::NoUniqueIndex {
                table,
                columns,
                found,
                hint,
            } => parts(
                Code::ERRCODE_INVALID_COLUMN_REFERENCE,
                format!("{table} has no unique index on ({columns})"),
                found,
                hint,
            ),
            Self::NullScope { table, column } => parts(
                Code::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                format!("scope column {column:?} of {table} must not be null"),
                "The unique index takes NULLs for distinct, so it would let equal slugs in.",
                "Give the scope a value, or make the index UNIQUE NULLS NOT DISTINCT.",
            ),
            Self::NullableScope { table, column } => parts(
                Code::ERRCODE_INVALID_COLUMN_REFERENCE,
                format!("scope column {column:?} of {table} may be null"),
                "The unique index takes NULLs for distinct, so it would let equal slugs in.",
                "Make the column NOT NULL, or the index UNIQUE NULLS NOT DISTINCT.",
            ),
            Self::NotAttached => parts(
                Code::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                "slotkeeper.write_slug() is not called as attach_slug() makes it".to_owned(),
                "It is for BEFORE INSERT OR UPDATE triggers FOR EACH ROW, with three arguments.",
                "Make the trigger with slotkeeper.attach_slug().",
            ),
            Self::Detached {
                table,
                trigger,
                problem,
            } => parts(
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("trigger {trigger:?} no longer fits {table}"),
                problem,
                format!("Drop it, and call slotkeeper.attach_slug() with the names that {table} has now."),
            ),
            Self::TriggerExists { table, trigger } => parts(
                Code::ERRCODE_DUPLICATE_OBJECT,
                format!("{table} has another trigger named {trigger:?}"),
                "slotkeeper's own trigger has to have this name.",
                "Rename that trigger.",
            ),
            Self::Denied { what, hint } => parts(
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied: {what}"),
                "The current role may not do this there.",
                hint,
            ),
            Self::NoKey { table, hint } => parts(
                Code::ERRCODE_INVALID_COLUMN_REFERENCE,
                format!("{table} has no primary key of one column"),
                "Nothing else tells its rows apart by one id.",
                hint,
            ),
            Self::NotStored { table } => parts(
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("the row for {table} was not stored"),
                "A trigger or a rule of the table has discarded it.",
                "Let the trigger raise an error that says why.",
            ),
            Self::NotReferred { dependent } => parts(
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "the row was not stored",
                format!("It refers to dependent {dependent}, which was not stored either."),
                "See why that one was not.",
            ),
            Self::NoSlugLeft { slug, max_length } => parts(
                Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                format!("no slug is left for {slug:?}"),
                format!("All that have at most {max_length} characters are taken or reserved."),
                "Raise the maximum length.",
            ),
            Self::TooManySlugs { limit } => parts(
                Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                "this transaction holds too many slugs that no row has".to_owned(),
                format!("At most {limit} may be unwritten at a time."),
                "Write each row when its slug is given, or let a trigger do it: slotkeeper.attach_slug().",
            ),
            Self::LongerThan {
                argument,
                characters,
                allowed,
            } => parts(
                Code::ERRCODE_STRING_DATA_RIGHT_TRUNCATION,
                format!("{argument} is too long"),
                format!("It has {characters} characters; at most {allowed} are allowed."),
                format!("Pass a shorter {argument}."),
            ),
            Self::TooLarge { bytes, allowed } => parts(
                Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                "the response is too large to be kept",
                format!("Body and headers have {bytes} bytes as jsonb; at most {allowed} are allowed."),
                "Store a reference to the response and pass that, or pass the id as p_resource and a small body.",
            ),
            Self::NoColumn { table, column } => parts(
                Code::ERRCODE_UNDEFINED_COLUMN,
                format!("column {column:?} of {table} does not exist"),
                "No column of the table is spelled exactly so.",
                "Names are taken as they are written, upper and lower case included, and are not quoted.",
            ),
            Self::Clock { value } => parts(
                Code::ERRCODE_INVALID_DATETIME_FORMAT,
                format!("slotkeeper.now is no timestamp: {value}"),
                "The setting replaces the clock, which this call needs.",
                "Write it with its offset, such as 2026-01-15T23:00:00+00:00.",
            ),
            Self::Predicate { path, problem } => parts(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("{path} is no predicate over the table's columns"),
                problem,
                "Write a boolean expression over the row's own columns, without a subquery: \"deletedAt\" IS NULL.",
            ),
            Self::Unbindable {
                code,
                message,
                detail,
                hint,
            } => parts(code, message, detail, hint),
            Self::Named { path, fault } => {
                let inner = fault.parts();
                let detail = format!("{} Named by {path}.", inner.detail);
                Parts {
                    detail: detail.trim_start().to_owned(),
                    ..inner
                }
            }
            Self::InRow { row, fault } => {
                let inner = fault.parts();
                Parts {
                    message: format!("{row}: {}", inner.message),
                    ..inner
                }
            }
            Self::Internal(what) => parts(
                Code::ERRCODE_INTERNAL_ERROR,
                format!("slotkeeper: {what}"),
                "This is a defect, or a table of slotkeeper was changed by hand.",
                "Please report it with the statement that led to it.",
            ),
        }
    }
}

impl From<Fault> for ErrorReport {
    #[track_caller]
    fn from(fault: Fault) -> Self {
        let Parts {
            code,
            message,
            detail,
            hint,
        } = fault.parts();
        let report = Self::new(code, message, "slotkeeper");
        let report = if detail.is_empty() {
            report
        } else {
            report.set_detail(detail)
        };
        report.set_hint(hint)
    }
}
