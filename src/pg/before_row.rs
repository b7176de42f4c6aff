//! Being called as a trigger for a row that is about to be stored.

use super::table::{Column, RegClass};
use crate::fault::Fault;
use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::pg_sys;
use std::ffi::CStr;
use std::num::NonZeroUsize;

/// A row that is about to be inserted or updated.
pub(crate) struct Call(*mut pg_sys::TriggerData);

/// The row that a trigger returns.
pub(crate) struct TriggerRow(pub(super) pg_sys::HeapTuple);

// SAFETY: the trigger protocol wants the tuple's address, and no NULL flag.
unsafe impl BoxRet for TriggerRow {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: as our caller promises.
        unsafe { fcinfo.return_raw_datum(pg_sys::Datum::from(self.0)) }
    }
}

pgrx::impl_sql_translatable!(TriggerRow, "trigger");

impl Call {
    /// None unless this is a BEFORE ROW trigger of an INSERT or UPDATE.
    pub(crate) fn of(fcinfo: pg_sys::FunctionCallInfo) -> Option<Self> {
        // SAFETY: the server calls with a complete fcinfo, whose context is a node or null.
        unsafe {
            let context = fcinfo.as_ref()?.context;
            if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
                return None;
            }
            let data: *mut pg_sys::TriggerData = context.cast();
            let event = (*data).tg_event;
            let row_before = pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_BEFORE;
            let of = event & pg_sys::TRIGGER_EVENT_OPMASK;
            let when = event & (pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_TIMINGMASK);
            let fits = when == row_before && (of == pg_sys::TRIGGER_EVENT_INSERT || of == pg_sys::TRIGGER_EVENT_UPDATE);
            fits.then_some(Self(data))
        }
    }

    /// The arguments that the trigger was created with.
    pub(crate) fn arguments(&self) -> Vec<String> {
        // SAFETY: tgargs has tgnargs NUL-terminated texts.
        unsafe {
            let trigger = (*self.0).tg_trigger;
            (0..(*trigger).tgnargs as usize)
                .map(|n| CStr::from_ptr(*(*trigger).tgargs.add(n)).to_string_lossy().into_owned())
                .collect()
        }
    }

    /// The trigger's own name.
    pub(crate) fn name(&self) -> String {
        // SAFETY: a NUL-terminated name.
        unsafe { CStr::from_ptr((*(*self.0).tg_trigger).tgname) }
            .to_string_lossy()
            .into_owned()
    }

    pub(crate) fn table(&self) -> RegClass {
        // SAFETY: the relation is open while its trigger runs.
        RegClass(unsafe { (*(*self.0).tg_relation).rd_id })
    }

    /// A value of the row as it will be stored.
    pub(crate) fn new_value(&self, column: &Column) -> Option<pg_sys::Datum> {
        self.value(self.new_row(), column)
    }

    /// A value of the row as it was; none for an INSERT.
    pub(crate) fn old_value(&self, column: &Column) -> Option<pg_sys::Datum> {
        if !self.is_update() {
            return None;
        }
        // SAFETY: the data is complete for the call.
        let row = unsafe { (*self.0).tg_trigtuple };
        self.value(row, column)
    }

    pub(crate) fn is_update(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0).tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_UPDATE }
    }

    /// The row as it is.
    pub(crate) fn unchanged(&self) -> TriggerRow {
        TriggerRow(self.new_row())
    }

    /// The row with another value in this column.
    pub(crate) fn with(&self, column: &Column, value: pg_sys::Datum) -> Result<TriggerRow, Fault> {
        let (mut number, mut value, mut is_null) = (i32::from(column.number), value, false);
        // SAFETY: one column of the tuple's own descriptor, with a value of its type; the result is a new tuple.
        Ok(TriggerRow(unsafe {
            pg_sys::heap_modify_tuple_by_cols(
                self.new_row(),
                (*(*self.0).tg_relation).rd_att,
                1,
                &raw mut number,
                &raw mut value,
                &raw mut is_null,
            )
        }))
    }

    fn new_row(&self) -> pg_sys::HeapTuple {
        // SAFETY: the data is complete for the call.
        unsafe {
            if self.is_update() {
                (*self.0).tg_newtuple
            } else {
                (*self.0).tg_trigtuple
            }
        }
    }

    fn value(&self, row: pg_sys::HeapTuple, column: &Column) -> Option<pg_sys::Datum> {
        let number = NonZeroUsize::new(usize::try_from(column.number).ok()?)?;
        // SAFETY: the row is of the trigger's table, which has a column of this number.
        unsafe { pgrx::htup::heap_getattr_raw(row, number, (*(*self.0).tg_relation).rd_att) }
    }
}
