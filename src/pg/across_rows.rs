//! What a statement keeps open from one of its rows to the next.
//!
//! What is open belongs to the resource owner under which it was opened, and has to be closed under it before that ends; what
//! is undone closes its own. The executor runs the triggers of a statement's rows, and the functions that it calls for them, under
//! one owner, the portal's or that of the function around it, and frees the statement's memory under it too, before it ends. So
//! what is kept goes with that memory.
//!
//! Not every statement has memory of its own: COPY's outlives its owner, and replication's goes with each row. There nothing
//! is kept.

use super::relations_generation;
use crate::fault::Fault;
use pgrx::{PgMemoryContexts, pg_sys};
use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::mem::ManuallyDrop;

thread_local! {
    /// Set while something is dropped that an abort closes.
    static ABANDONED: Cell<bool> = const { Cell::new(false) };
}

/// Whether what is dropped now must not be closed: an abort is under way, which closes everything.
pub(super) fn is_abandoned() -> bool {
    std::thread::panicking() || ABANDONED.get()
}

/// Where something is made that is to last longer than the current memory context.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory(pg_sys::MemoryContext);

impl Memory {
    /// For what doesn't last longer.
    pub(crate) fn current() -> Self {
        // SAFETY: reads a global.
        Self(unsafe { pg_sys::CurrentMemoryContext })
    }

    /// This one, if it is what the executor keeps for one statement.
    pub(super) fn of_a_statement(context: pg_sys::MemoryContext) -> Option<Self> {
        // SAFETY: the context is live, and its name a constant of the server's.
        let name = unsafe { CStr::from_ptr((*context).name) };
        (name == c"ExecutorState").then_some(Self(context))
    }

    /// What `make` allocates lasts as long as this memory.
    pub(crate) fn within<T>(self, make: impl FnOnce() -> T) -> T {
        // SAFETY: the context was the current one, or is the statement's, while whoever has this does its work.
        unsafe { PgMemoryContexts::For(self.0).switch_to(|_| make()) }
    }
}

/// Something that a statement calls for each of its rows.
pub(crate) trait Statement {
    /// The memory of the statement, where it ends with it.
    fn memory_of_its_own(&self) -> Option<Memory>;
}

/// Something that rows of one statement have open.
pub(crate) struct AcrossRows<T>(RefCell<Option<Box<Kept<T>>>>);

struct Kept<T> {
    value: ManuallyDrop<T>,
    owner: pg_sys::ResourceOwner,
    /// What is known of relations when they are opened may be wrong in another.
    generation: u64,
}

impl<T> AcrossRows<T> {
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(None))
    }

    /// Acts with what another row has left, or `make` makes in the memory that it is given.
    pub(crate) fn with<R>(
        &self,
        statement: &impl Statement,
        make: impl FnOnce(Memory) -> T,
        act: impl FnOnce(&mut T) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        let memory = statement.memory_of_its_own();
        // SAFETY: reads a global.
        let owner = unsafe { pg_sys::CurrentResourceOwner };
        let generation = relations_generation();
        // Taken out while it is used: an error on the way leaves nothing behind.
        let left = self
            .0
            .take()
            .filter(|kept| (kept.owner, kept.generation) == (owner, generation));
        let mut kept = left.unwrap_or_else(|| {
            Box::new(Kept {
                value: ManuallyDrop::new(make(memory.unwrap_or_else(Memory::current))),
                owner,
                generation,
            })
        });
        let result = act(&mut kept.value)?;
        if memory.is_some() {
            self.0.replace(Some(kept));
        }
        Ok(result)
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        // SAFETY: the owner is the one that runs, or the one of the statement whose memory is being freed, unless it is freed
        // by an abort: then the owner may be gone, and nothing is closed. The value is dropped once.
        unsafe {
            let is_undone = !std::thread::panicking() && !pg_sys::IsTransactionState();
            ABANDONED.set(is_undone);
            let before = std::ptr::replace(&raw mut pg_sys::CurrentResourceOwner, self.owner);
            ManuallyDrop::drop(&mut self.value);
            pg_sys::CurrentResourceOwner = before;
            ABANDONED.set(false);
        }
    }
}
