//! What waits for the end of the statement that has made it. A backend remembers it, for the length of a transaction.

use crate::fault::Fault;
use crate::pg::subtransaction::{current_subtransaction, is_subtransaction_active};
use crate::pg::transaction_start;
use crate::pg::trigger::running_command;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::VecDeque;

/// One thing that waits.
#[derive(Clone)]
pub(super) struct Waits<T> {
    pub(super) of: T,
    /// The statement: its command, and the subtransaction that it runs in. One that was undone leaves its command's number to
    /// the next.
    pub(super) command: pg_sys::CommandId,
    subtransaction: pg_sys::SubTransactionId,
}

impl<T> Waits<T> {
    /// Whether the statement that runs has made it.
    pub(super) fn is_of_statement(&self) -> bool {
        self.command == running_command() && self.subtransaction == current_subtransaction()
    }

    /// Whether its statement was undone, and what it has done with it.
    pub(super) fn is_undone(&self) -> bool {
        !is_subtransaction_active(self.subtransaction)
    }
}

/// All that waits, in the order in which it was made.
pub(super) struct UntilEnd<T>(RefCell<(i64, VecDeque<Waits<T>>)>);

impl<T> UntilEnd<T> {
    pub(super) const fn new() -> Self {
        Self(RefCell::new((0, VecDeque::new())))
    }

    /// What waits in this transaction. (The first is when it began.)
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut VecDeque<Waits<T>>) -> R) -> R {
        let transaction = transaction_start();
        let (began, all) = &mut *self.0.borrow_mut();
        if *began != transaction {
            *began = transaction;
            all.clear();
        }
        act(all)
    }

    /// Whether anything does.
    pub(super) fn is_any(&self) -> bool {
        self.with(|all| !all.is_empty())
    }

    /// Made by the statement that runs.
    pub(super) fn add(&self, of: T) {
        let waits = Waits {
            of,
            command: running_command(),
            subtransaction: current_subtransaction(),
        };
        self.with(|all| all.push_back(waits));
    }

    /// The statement with this command has ended, and all inside it: what still waits for it, and was not undone, is acted on.
    pub(super) fn end(
        &self,
        command: pg_sys::CommandId,
        mut act: impl FnMut(T) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let ended: VecDeque<Waits<T>> = self.with(|all| {
            let (ended, others) = std::mem::take(all)
                .into_iter()
                .partition(|waits| waits.command >= command);
            *all = others;
            ended
        });
        let mut still = ended.into_iter().filter(|waits| !waits.is_undone());
        still.try_for_each(|waits| act(waits.of))
    }
}
