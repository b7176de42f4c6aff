//! A call of a function, and what it shares with the other calls that its statement makes at the same place.

use super::across_rows::{Memory, Statement};
use crate::fault::Fault;
use pgrx::{PgMemoryContexts, pg_sys};
use std::any::Any;
use std::marker::PhantomData;

/// A call of a function.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    /// What the caller keeps of the function; null where he is not known.
    info: *mut pg_sys::FmgrInfo,
    lives: PhantomData<&'a pg_sys::FmgrInfo>,
}

impl<'a> Call<'a> {
    pub(crate) fn of(fcinfo: pg_sys::FunctionCallInfo) -> Self {
        // SAFETY: the server calls with a complete fcinfo, which outlives the call.
        Self::by(unsafe { fcinfo.as_ref() }.map_or(std::ptr::null_mut(), |call| call.flinfo))
    }

    pub(super) fn unknown() -> Self {
        Self::by(std::ptr::null_mut())
    }

    fn by(info: *mut pg_sys::FmgrInfo) -> Self {
        Self {
            info,
            lives: PhantomData,
        }
    }

    /// What the caller keeps for this function from call to call. `make` is asked for it at the first.
    pub(crate) fn kept<T: 'static>(&self, make: impl FnOnce() -> Result<T, Fault>) -> Result<&'a T, Fault> {
        let lost = || Fault::Internal("a function that keeps something else".to_owned());
        // SAFETY: fn_extra is the function's own, and has a box of ours or null. What is in it lives, and is dropped, with the
        // memory of the caller's, which outlives the call.
        unsafe {
            let info = self.info.as_mut().ok_or_else(lost)?;
            if info.fn_extra.is_null() {
                let made: Box<dyn Any> = Box::new(make()?);
                info.fn_extra = PgMemoryContexts::For(info.fn_mcxt).leak_and_drop_on_delete(made).cast();
            }
            let kept: &'a Box<dyn Any> = &*info.fn_extra.cast();
            kept.downcast_ref().ok_or_else(lost)
        }
    }

    /// The memory that what is kept lives in.
    pub(super) fn memory(&self) -> pg_sys::MemoryContext {
        // SAFETY: as above.
        unsafe {
            self.info
                .as_ref()
                .map_or(pg_sys::CurrentMemoryContext, |info| info.fn_mcxt)
        }
    }
}

impl Statement for Call<'_> {
    /// Functions are called by more than statements: PL/pgSQL keeps its expressions for the whole transaction, in memory that
    /// looks the same. So only one that a portal runs itself is taken for one: its memory is the portal's, and so is the owner.
    fn memory_of_its_own(&self) -> Option<Memory> {
        // SAFETY: contexts and the portal that runs are live.
        unsafe {
            let portal = pg_sys::ActivePortal.as_ref()?;
            let memory = self.memory();
            let is_run_by_it =
                (*memory).parent == portal.portalContext && pg_sys::CurrentResourceOwner == portal.resowner;
            Memory::of_a_statement(memory).filter(|_| is_run_by_it)
        }
    }
}
