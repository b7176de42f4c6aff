//! Guesses: they save a look where they come true, and cost more than one where they don't.

use std::cell::Cell;

/// Whether guesses of one kind have come true of late, in this backend.
pub(crate) struct Luck(Cell<i8>);

/// So many guesses in a row make up for one that was wrong, or for two.
const MOST: i8 = 8;

impl Luck {
    pub(crate) const fn new() -> Self {
        Self(Cell::new(0))
    }

    /// A guess has come true, or would have.
    pub(crate) fn was_right(&self) {
        self.0.set((self.0.get() + 1).min(MOST));
    }

    /// One has not, or would not have.
    pub(crate) fn was_wrong(&self) {
        self.0.set((self.0.get() - 2).max(-MOST));
    }

    /// One has not, at a price that is not to be paid again for a while.
    pub(crate) fn has_run_out(&self) {
        self.0.set(-MOST);
    }

    /// Whether to guess.
    pub(crate) fn is_good(&self) -> bool {
        self.0.get() > 0
    }

    /// Whether guesses have been wrong.
    pub(crate) fn is_bad(&self) -> bool {
        self.0.get() < 0
    }
}
