//! The row that a trigger fires for.

use super::across_rows::{Memory, Statement};
use super::before_row::TriggerRow;
use super::call::Call;
use super::time::{exactly_from_timestamp, to_timestamp};
use crate::fault::Fault;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{FromDatum, IntoDatum};
use slotkeeper_core::zone::{Zone, instant_of_wall};
use slotkeeper_core::{Instant, MICROS_PER_SEC};
use std::ffi::{CStr, CString};

/// One of the two rows of an UPDATE; an INSERT has a new one, a DELETE an old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Old,
    New,
}

/// What has made a trigger fire.
pub(crate) struct Fired<'a> {
    data: &'a pg_sys::TriggerData,
    /// How the statement has called.
    call: Call<'a>,
    is_update: bool,
    is_insert: bool,
    is_before: bool,
}

impl<'a> Fired<'a> {
    pub(crate) fn of(trigger: &PgTrigger<'a>) -> Self {
        Self {
            data: trigger.trigger_data(),
            call: Call::unknown(),
            is_update: trigger.event().fired_by_update(),
            is_insert: trigger.event().fired_by_insert(),
            is_before: trigger.event().fired_before(),
        }
    }

    /// None unless it was a trigger that called.
    pub(crate) fn of_call(fcinfo: pg_sys::FunctionCallInfo) -> Option<Self> {
        // SAFETY: the server calls with a complete fcinfo, whose context is a node or null, and which outlives the call.
        unsafe {
            let info = fcinfo.as_ref()?;
            if info.context.is_null() || (*info.context).type_ != pg_sys::NodeTag::T_TriggerData {
                return None;
            }
            let data = &*info.context.cast::<pg_sys::TriggerData>();
            let of = data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK;
            Some(Self {
                data,
                call: Call::of(fcinfo),
                is_update: of == pg_sys::TRIGGER_EVENT_UPDATE,
                is_insert: of == pg_sys::TRIGGER_EVENT_INSERT,
                is_before: data.tg_event & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_BEFORE,
            })
        }
    }

    /// What the statement keeps for this trigger from row to row. `make` is asked for it at the first.
    pub(crate) fn kept<T: 'static>(&self, make: impl FnOnce() -> Result<T, Fault>) -> Result<&'a T, Fault> {
        self.call.kept(make)
    }

    /// The memory that goes when the statement ends.
    pub(super) fn statement_memory(&self) -> pg_sys::MemoryContext {
        self.call.memory()
    }

    pub(super) fn relation(&self) -> pg_sys::Relation {
        self.data.tg_relation
    }

    /// The triggers of the table that call the same function.
    pub(super) fn siblings(&self) -> impl Iterator<Item = &'a pg_sys::Trigger> {
        // SAFETY: the trigger that runs.
        let own = unsafe { (*self.data.tg_trigger).tgfoid };
        self.triggers().iter().filter(move |trigger| trigger.tgfoid == own)
    }

    fn triggers(&self) -> &'a [pg_sys::Trigger] {
        // SAFETY: the relation is open, and locked against changes of its triggers, while one of them runs.
        unsafe {
            let all = (*self.data.tg_relation).trigdesc.as_ref();
            all.map_or(&[], |all| {
                std::slice::from_raw_parts(all.triggers, usize::try_from(all.numtriggers).unwrap_or(0))
            })
        }
    }

    /// Whether another trigger has yet to see an UPDATE before it is stored: it may change the row, or keep it from being stored.
    /// A row that goes to another partition is deleted from this one.
    pub(crate) fn is_overtaken(&self) -> bool {
        const BEFORE_ROW: u32 = pg_sys::TRIGGER_TYPE_ROW | pg_sys::TRIGGER_TYPE_BEFORE;
        const UPDATE: i16 = (BEFORE_ROW | pg_sys::TRIGGER_TYPE_UPDATE) as i16;
        const DELETE: i16 = (BEFORE_ROW | pg_sys::TRIGGER_TYPE_DELETE) as i16;
        // SAFETY: the trigger that runs, and its relation.
        let (own, is_partition) = unsafe {
            let relation = &*(*self.data.tg_relation).rd_rel;
            ((*self.data.tg_trigger).tgoid, relation.relispartition)
        };
        let is_one = |trigger: &pg_sys::Trigger, kind: i16| {
            trigger.tgtype & kind == kind && trigger.tgenabled as u8 != pg_sys::TRIGGER_DISABLED
        };
        // They are in the order in which they fire.
        let mut later = self
            .triggers()
            .iter()
            .skip_while(|trigger| trigger.tgoid != own)
            .skip(1);
        self.is_before
            && self.is_update
            && (later.any(|trigger| is_one(trigger, UPDATE))
                || is_partition && self.triggers().iter().any(|trigger| is_one(trigger, DELETE)))
    }

    /// The row of this version as the executor has it.
    pub(super) fn slot(&self, version: Version) -> Option<*mut pg_sys::TupleTableSlot> {
        let slot = match (version, self.is_insert, self.is_update) {
            (Version::New, true, _) => self.data.tg_trigslot,
            (Version::New, _, true) => self.data.tg_newslot,
            (Version::Old, false, _) => self.data.tg_trigslot,
            _ => std::ptr::null_mut(),
        };
        (!slot.is_null()).then_some(slot)
    }

    /// The table, or the partition that the row lies in.
    pub(crate) fn table(&self) -> pg_sys::Oid {
        // SAFETY: the relation is open while the trigger runs.
        unsafe { (*self.data.tg_relation).rd_id }
    }

    /// The n-th argument of CREATE TRIGGER, from 0.
    pub(crate) fn argument(&self, n: usize) -> Option<&'a str> {
        // SAFETY: tgargs has tgnargs C strings, which live as long as the trigger's relation is open.
        unsafe {
            let trigger = &*self.data.tg_trigger;
            if n >= usize::try_from(trigger.tgnargs).unwrap_or(0) {
                return None;
            }
            CStr::from_ptr(*trigger.tgargs.add(n)).to_str().ok()
        }
    }

    /// Whether it is an UPDATE.
    pub(crate) fn is_update(&self) -> bool {
        self.is_update
    }

    /// Whether it is a TRUNCATE.
    pub(crate) fn is_truncate(&self) -> bool {
        self.data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_TRUNCATE
    }

    /// Whether what a row-level trigger returns is what gets stored.
    pub(crate) fn is_before(&self) -> bool {
        self.is_before
    }

    /// The row as it is to be stored, of an INSERT or UPDATE.
    pub(crate) fn new_row(&self) -> Option<Record> {
        let tuple = if self.is_update() {
            self.data.tg_newtuple
        } else if self.is_insert {
            self.data.tg_trigtuple
        } else {
            std::ptr::null_mut()
        };
        self.record(tuple)
    }

    /// The row as it was, of an UPDATE or DELETE.
    pub(crate) fn old_row(&self) -> Option<Record> {
        let tuple = if self.is_insert {
            std::ptr::null_mut()
        } else {
            self.data.tg_trigtuple
        };
        self.record(tuple)
    }

    fn record(&self, tuple: pg_sys::HeapTuple) -> Option<Record> {
        // SAFETY: the relation is open while the trigger runs.
        let columns = unsafe { (*self.data.tg_relation).rd_att };
        (!tuple.is_null()).then_some(Record {
            table: self.table(),
            tuple,
            columns,
        })
    }
}

impl Statement for Fired<'_> {
    fn memory_of_its_own(&self) -> Option<Memory> {
        Memory::of_a_statement(self.statement_memory())
    }
}

/// Whether the session applies what another server has done: triggers then must not change or refuse anything.
pub(crate) fn is_replica() -> bool {
    // SAFETY: a plain setting.
    unsafe { pg_sys::SessionReplicationRole == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32 }
}

/// The command that is running: what it writes carries this number.
pub(crate) fn running_command() -> pg_sys::CommandId {
    // SAFETY: the active snapshot, if there is one, is the running statement's.
    unsafe {
        if pg_sys::ActiveSnapshotSet() {
            (*pg_sys::GetActiveSnapshot()).curcid
        } else {
            0
        }
    }
}

/// A type, or what a domain is over in the end.
pub(crate) fn base_type(oid: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: syscache look-ups.
    unsafe { pg_sys::getBaseType(oid) }
}

/// The type of a column with a time.
#[derive(Clone, Debug)]
pub(crate) enum TimeColumn<Z> {
    /// `timestamptz`.
    Absolute,
    /// `timestamp`, read in a zone.
    Local(Z),
}

impl<Z: Zone> TimeColumn<Z> {
    fn instant(&self, stored: i64) -> Option<Instant> {
        exactly_from_timestamp(stored).map(|micros| self.instant_of_stored(micros))
    }

    /// The instant of what is stored: microseconds since 1970, of UTC or of the wall clock.
    pub(crate) fn instant_of_stored(&self, micros: i64) -> Instant {
        match self {
            Self::Absolute => micros,
            Self::Local(zone) => instant_of_wall(zone, micros.div_euclid(MICROS_PER_SEC))
                .saturating_mul(MICROS_PER_SEC)
                .saturating_add(micros.rem_euclid(MICROS_PER_SEC)),
        }
    }

    /// What to store for an instant: microseconds since 1970, of UTC or of the wall clock.
    pub(crate) fn stored(&self, at: Instant) -> Instant {
        match self {
            Self::Absolute => at,
            Self::Local(zone) => {
                let (offset, _) = zone.offset_at(at.div_euclid(MICROS_PER_SEC));
                at.saturating_add(i64::from(offset).saturating_mul(MICROS_PER_SEC))
            }
        }
    }
}

/// A row of the application's table.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    table: pg_sys::Oid,
    tuple: pg_sys::HeapTuple,
    columns: pg_sys::TupleDesc,
}

impl Record {
    pub(super) fn tuple(&self) -> pg_sys::HeapTuple {
        self.tuple
    }

    pub(super) fn datum(&self, column: i16) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: the tuple has these columns; a number beyond them yields NULL.
        let datum = unsafe { pg_sys::heap_getattr(self.tuple, column.into(), self.columns, &mut is_null) };
        (!is_null).then_some(datum)
    }

    fn type_of(&self, column: i16) -> pg_sys::Oid {
        // SAFETY: reads the row's descriptor.
        unsafe { pg_sys::SPI_gettypeid(self.columns, column.into()) }
    }

    /// A column's value in its type's text form.
    pub(crate) fn text(&self, column: i16) -> Option<String> {
        let datum = self.datum(column)?;
        let of_type = self.type_of(column);
        // SAFETY: the datum is of this type; its output function runs as the writer, like the statement itself.
        unsafe {
            // What most tables have is written here, as the types' own functions do.
            match of_type {
                pg_sys::TEXTOID | pg_sys::VARCHAROID => return String::from_datum(datum, false),
                pg_sys::INT8OID => return i64::from_datum(datum, false).map(|number| number.to_string()),
                pg_sys::INT4OID => return i32::from_datum(datum, false).map(|number| number.to_string()),
                pg_sys::UUIDOID => return pgrx::Uuid::from_datum(datum, false).map(|id| uuid_text(id.as_bytes())),
                _ => {}
            }
            let (mut output, mut is_variable) = (pg_sys::InvalidOid, false);
            pg_sys::getTypeOutputInfo(of_type, &mut output, &mut is_variable);
            let text = pg_sys::OidOutputFunctionCall(output, datum);
            Some(CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }

    /// A column's time; `None` for NULL and infinity.
    pub(crate) fn time<Z: Zone>(&self, column: i16, kind: &TimeColumn<Z>) -> Option<Instant> {
        kind.instant(self.datum(column)?.value() as i64)
    }

    /// Whether a column is NULL.
    pub(crate) fn is_null(&self, column: i16) -> bool {
        self.datum(column).is_none()
    }

    fn with(&self, column: i16, datum: Option<pg_sys::Datum>) -> Self {
        let (mut number, mut value, mut is_null) = (
            i32::from(column),
            datum.unwrap_or(pg_sys::Datum::from(0)),
            datum.is_none(),
        );
        // SAFETY: one column, by number, with a value of its type; the result is a fresh tuple.
        let tuple = unsafe {
            pg_sys::heap_modify_tuple_by_cols(
                self.tuple,
                self.columns,
                1,
                &raw mut number,
                &raw mut value,
                &raw mut is_null,
            )
        };
        Self { tuple, ..*self }
    }

    /// The same row with another time.
    pub(crate) fn with_time<Z: Zone>(&self, column: i16, kind: &TimeColumn<Z>, at: Instant) -> Self {
        self.with(column, to_timestamp(kind.stored(at)).into_datum())
    }

    /// The same row with another text, which the column's type reads.
    pub(crate) fn with_text(&self, column: i16, text: Option<&str>) -> Result<Self, Fault> {
        let Some(text) = text else {
            return Ok(self.with(column, None));
        };
        let text = CString::new(text).map_err(|_| Fault::Internal("a text with a zero byte".to_owned()))?;
        // SAFETY: the type's own input function reads a NUL-terminated text, as the writer.
        unsafe {
            let of_type = self.type_of(column);
            let (mut input, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            pg_sys::getTypeInputInfo(of_type, &mut input, &mut parameter);
            let (mut its_type, mut modifier, mut collation) = (of_type, -1, pg_sys::InvalidOid);
            pg_sys::get_atttypetypmodcoll(self.table, column, &mut its_type, &mut modifier, &mut collation);
            let datum = pg_sys::OidInputFunctionCall(input, text.as_ptr().cast_mut(), parameter, modifier);
            Ok(self.with(column, Some(datum)))
        }
    }

    /// What the trigger returns.
    pub(crate) fn returned(self) -> TriggerRow {
        TriggerRow(self.tuple)
    }
}

/// A uuid in the server's form: small letters, hyphens between the groups.
fn uuid_text(id: &[u8; 16]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(36);
    for (n, byte) in id.iter().enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 0xf] {
            text.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
    text
}

impl TriggerRow {
    /// No row: of a trigger whose answer means nothing.
    pub(crate) fn none() -> Self {
        Self(std::ptr::null_mut())
    }
}
