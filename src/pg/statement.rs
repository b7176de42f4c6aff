//! slotkeeper's own SQL: constant texts, prepared once per backend, run with the owner's rights.
//!
//! Texts name every relation, function and operator with its schema. A kept plan is parsed again under whatever
//! search_path is in force, so a bare `=` would be the caller's to define.

use super::json::{JsonArg, Jsonb};
use super::role::as_owner;
use super::time::to_timestamp;
use crate::fault::Fault;
use pgrx::prelude::*;
use pgrx::{FromDatum, IntoDatum, pg_sys};
use slotkeeper_core::Instant;
use std::cell::Cell;
use std::ffi::{CStr, c_char};

/// An argument of a statement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Int8(i64),
    Int4(i32),
    Int2(i16),
    Jsonb(Option<Jsonb>),
    Bool(bool),
    Text(&'a str),
    OptionalText(Option<&'a str>),
    Time(Instant),
    OptionalTime(Option<Instant>),
    OptionalInt2(Option<i16>),
    OptionalInt8(Option<i64>),
    Uuid(u128),
    Json(&'a serde_json::Value),
    Int8s(&'a [i64]),
    Texts(&'a [Option<&'a str>]),
}

impl Value<'_> {
    /// A uuid, or another 128 bits.
    pub(crate) fn uuid(bytes: [u8; 16]) -> Self {
        Self::Uuid(u128::from_be_bytes(bytes))
    }

    pub(super) fn type_oid(&self) -> pg_sys::Oid {
        match self {
            Self::Int8(_) | Self::OptionalInt8(_) => pg_sys::INT8OID,
            Self::Int4(_) => pg_sys::INT4OID,
            Self::Int2(_) | Self::OptionalInt2(_) => pg_sys::INT2OID,
            Self::Uuid(_) => pg_sys::UUIDOID,
            Self::Bool(_) => pg_sys::BOOLOID,
            Self::Text(_) | Self::OptionalText(_) => pg_sys::TEXTOID,
            Self::Time(_) | Self::OptionalTime(_) => pg_sys::TIMESTAMPTZOID,
            Self::Json(_) | Self::Jsonb(_) => pg_sys::JSONBOID,
            Self::Int8s(_) => pg_sys::INT8ARRAYOID,
            Self::Texts(_) => pg_sys::TEXTARRAYOID,
        }
    }

    pub(super) fn datum(&self) -> Option<pg_sys::Datum> {
        match *self {
            Self::Int8(v) => v.into_datum(),
            Self::Int4(v) => v.into_datum(),
            Self::Int2(v) => v.into_datum(),
            Self::Jsonb(v) => v.map(|value| value.datum()),
            Self::Bool(v) => v.into_datum(),
            Self::Text(v) => v.into_datum(),
            Self::OptionalText(v) => v.into_datum(),
            Self::Time(v) => to_timestamp(v).into_datum(),
            Self::OptionalTime(v) => v.map(to_timestamp).into_datum(),
            Self::OptionalInt2(v) => v.into_datum(),
            Self::OptionalInt8(v) => v.into_datum(),
            Self::Uuid(v) => pgrx::Uuid::from_bytes(v.to_be_bytes()).into_datum(),
            Self::Json(v) => pgrx::JsonB(v.clone()).into_datum(),
            Self::Int8s(v) => v.into_datum(),
            Self::Texts(v) => v.to_vec().into_datum(),
        }
    }
}

/// One row of a result. Columns count from 1.
pub(crate) struct Row {
    tuple: pg_sys::HeapTuple,
    columns: pg_sys::TupleDesc,
}

impl Row {
    /// The value of a column; `None` when it is NULL.
    pub(crate) fn get<T: FromDatum + IntoDatum>(&self, column: i32) -> Result<Option<T>, Fault> {
        // SAFETY: tuple and descriptor belong to the SPI result that is still open; the type is checked before the
        // datum is read as T.
        unsafe {
            let found = pg_sys::SPI_gettypeid(self.columns, column);
            if !T::is_compatible_with(found) {
                return Err(Fault::Internal(format!(
                    "result column {column} has type {}",
                    found.to_u32()
                )));
            }
            let mut is_null = false;
            let datum = pg_sys::SPI_getbinval(self.tuple, self.columns, column, &mut is_null);
            Ok(T::from_datum(datum, is_null))
        }
    }

    /// The value of a column that is never NULL.
    pub(crate) fn must<T: FromDatum + IntoDatum>(&self, column: i32) -> Result<T, Fault> {
        self.get(column)?
            .ok_or_else(|| Fault::Internal(format!("result column {column} is NULL")))
    }

    /// The value of a jsonb column that is never NULL.
    pub(crate) fn json(&self, column: i32) -> Result<serde_json::Value, Fault> {
        // SAFETY: as in `get`; the type is checked before the datum is read.
        let parsed = unsafe {
            if pg_sys::SPI_gettypeid(self.columns, column) != pg_sys::JSONBOID {
                return Err(Fault::Internal(format!("result column {column} is no jsonb")));
            }
            let mut is_null = false;
            let datum = pg_sys::SPI_getbinval(self.tuple, self.columns, column, &mut is_null);
            JsonArg::from_datum(datum, is_null)
        };
        let JsonArg(value) = parsed.ok_or_else(|| Fault::Internal(format!("result column {column} is NULL")))?;
        value.map_err(|problem| Fault::Internal(format!("result column {column}: {problem}")))
    }

    /// The instant in a timestamptz column that may be NULL.
    pub(crate) fn optional_instant(&self, column: i32) -> Result<Option<Instant>, Fault> {
        let timestamp: Option<TimestampWithTimeZone> = self.get(column)?;
        Ok(timestamp.and_then(|timestamp| super::time::from_timestamp(timestamp.into())))
    }

    /// The value of a jsonb column as the server has it; `None` when it is NULL.
    pub(crate) fn jsonb(&self, column: i32) -> Result<Option<Jsonb>, Fault> {
        // SAFETY: as in `get`. The value is copied to where it outlives the statement, then made plain.
        unsafe {
            if pg_sys::SPI_gettypeid(self.columns, column) != pg_sys::JSONBOID {
                return Err(Fault::Internal(format!("result column {column} is no jsonb")));
            }
            let mut is_null = false;
            let datum = pg_sys::SPI_getbinval(self.tuple, self.columns, column, &mut is_null);
            if is_null {
                return Ok(None);
            }
            let plain = pg_sys::pg_detoast_datum(datum.cast_mut_ptr());
            let kept = pg_sys::SPI_datumTransfer(plain.into(), false, -1);
            Ok(Some(Jsonb::from_plain(kept)))
        }
    }

    /// The instant in a timestamptz column that is never NULL or infinite.
    pub(crate) fn instant(&self, column: i32) -> Result<Instant, Fault> {
        let timestamp: TimestampWithTimeZone = self.must(column)?;
        super::time::from_timestamp(timestamp.into())
            .ok_or_else(|| Fault::Internal(format!("result column {column} is infinite")))
    }
}

/// Which rows a statement sees.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum See {
    /// What the calling statement sees: for functions that only show.
    Caller,
    /// What is committed now, whatever the isolation level: for reads that decide.
    Latest,
}

/// A statement with a plan that is kept for the life of the backend.
pub(crate) struct Statement {
    text: &'static CStr,
    plan: Cell<pg_sys::SPIPlanPtr>,
    by_index: bool,
}

impl Statement {
    /// A statement whose plan is made at its first use.
    pub(crate) const fn new(text: &'static CStr) -> Self {
        Self {
            text,
            plan: Cell::new(std::ptr::null_mut()),
            by_index: false,
        }
    }

    /// The same for a statement that finds each of its rows by a key. Its plan uses the indexes however small the
    /// tables are when it is made: it is kept, and they grow.
    pub(crate) const fn by_index(text: &'static CStr) -> Self {
        Self {
            by_index: true,
            ..Self::new(text)
        }
    }

    /// Rows as the calling statement sees them.
    pub(crate) fn show<T>(
        &self,
        values: &[Value<'_>],
        row: impl FnMut(&Row) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        self.run(values, See::Caller, true, row)
    }

    /// Rows as they are committed now.
    pub(crate) fn read<T>(
        &self,
        values: &[Value<'_>],
        row: impl FnMut(&Row) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        self.run(values, See::Latest, true, row)
    }

    /// Executes a statement that writes and returns what its RETURNING gives. It works on what is committed now, so
    /// that REPEATABLE READ callers do not fail for what others did.
    pub(crate) fn write<T>(
        &self,
        values: &[Value<'_>],
        row: impl FnMut(&Row) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        self.run(values, See::Latest, false, row)
    }

    fn run<T>(
        &self,
        values: &[Value<'_>],
        see: See,
        read_only: bool,
        row: impl FnMut(&Row) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let _planning = self.by_index.then(WithoutWholeTables::begin);
        as_owner(|| {
            connected(|| {
                // SAFETY: SPI is connected, and each statement has one call site, so the arguments' types never change.
                unsafe {
                    if self.plan.get().is_null() {
                        self.plan.set(prepare(self.text, values)?);
                    }
                    execute(self.plan.get(), values, see, read_only, row)
                }
            })
        })
    }
}

/// While this lives, no plan walks over a whole table where there is another way. A table that has no other way makes
/// its plan look expensive, and the server would compile it: that is off too.
struct WithoutWholeTables {
    seqscan: bool,
    jit: bool,
}

impl WithoutWholeTables {
    fn begin() -> Self {
        // SAFETY: plain variables of this backend; dropping puts their values back, also when an error passes through.
        unsafe {
            Self {
                seqscan: std::ptr::replace(&raw mut pg_sys::enable_seqscan, false),
                jit: std::ptr::replace(&raw mut pg_sys::jit_enabled, false),
            }
        }
    }
}

impl Drop for WithoutWholeTables {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { (pg_sys::enable_seqscan, pg_sys::jit_enabled) = (self.seqscan, self.jit) };
    }
}

/// Runs `act` connected to SPI.
pub(super) fn connected<T>(act: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    // SAFETY: SPI is connected before and finished after; on an error the abort finishes it.
    unsafe {
        check(pg_sys::SPI_connect(), "SPI_connect")?;
        let result = act();
        check(pg_sys::SPI_finish(), "SPI_finish")?;
        result
    }
}

/// Executes a plan and reads the rows that it gives.
///
/// # Safety
/// SPI must be connected, and the plan have been prepared for arguments of these types.
pub(super) unsafe fn execute<T>(
    plan: pg_sys::SPIPlanPtr,
    values: &[Value<'_>],
    see: See,
    read_only: bool,
    mut row: impl FnMut(&Row) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    // SAFETY: datums and null flags match the plan's arguments, as our caller promises, and outlive the call; the
    // tuple table is read before it is freed.
    unsafe {
        let (mut datums, nulls): (Vec<pg_sys::Datum>, Vec<c_char>) = values
            .iter()
            .map(|v| {
                v.datum()
                    .map_or((pg_sys::Datum::from(0), b'n' as c_char), |d| (d, b' ' as c_char))
            })
            .unzip();
        let snapshot = match see {
            See::Caller => std::ptr::null_mut(),
            See::Latest => pg_sys::GetLatestSnapshot(),
        };
        let status = pg_sys::SPI_execute_snapshot(
            plan,
            datums.as_mut_ptr(),
            nulls.as_ptr(),
            snapshot,
            std::ptr::null_mut(),
            read_only,
            true,
            0,
        );
        check(status, "SPI_execute_snapshot")?;
        let table = pg_sys::SPI_tuptable;
        if table.is_null() {
            return Ok(Vec::new());
        }
        let columns = (*table).tupdesc;
        let tuples = std::slice::from_raw_parts((*table).vals, (*table).numvals as usize);
        let rows = tuples.iter().map(|&tuple| row(&Row { tuple, columns })).collect();
        pg_sys::SPI_freetuptable(table);
        rows
    }
}

/// The rows of an SPI result.
///
/// # Safety
/// The result must have `count` rows and stay until the iterator is dropped.
pub(super) unsafe fn rows(table: *mut pg_sys::SPITupleTable, count: usize) -> impl Iterator<Item = Row> {
    // SAFETY: as our caller promises.
    let (columns, tuples) = unsafe { ((*table).tupdesc, std::slice::from_raw_parts((*table).vals, count)) };
    tuples.iter().map(move |&tuple| Row { tuple, columns })
}

/// A plan for this text that lives until it is freed.
///
/// # Safety
/// SPI must be connected.
pub(super) unsafe fn prepare(text: &CStr, values: &[Value<'_>]) -> Result<pg_sys::SPIPlanPtr, Fault> {
    let mut types: Vec<pg_sys::Oid> = values.iter().map(Value::type_oid).collect();
    // SAFETY: text and types are valid for the call; SPI_keepplan moves the plan out of the SPI context.
    unsafe {
        let plan = pg_sys::SPI_prepare_cursor(
            text.as_ptr(),
            types.len() as i32,
            types.as_mut_ptr(),
            pg_sys::CURSOR_OPT_GENERIC_PLAN as i32,
        );
        if plan.is_null() {
            let status = pg_sys::SPI_result;
            return Err(Fault::Internal(format!("cannot prepare: SPI status {status}")));
        }
        check(pg_sys::SPI_keepplan(plan), "SPI_keepplan")?;
        Ok(plan)
    }
}

fn check(status: i32, call: &str) -> Result<(), Fault> {
    if status < 0 {
        Err(Fault::Internal(format!("{call} returned {status}")))
    } else {
        Ok(())
    }
}
