//! What an UPDATE or INSERT of a bound table's row asks of the guard, by the conditions that the table carries.
//!
//! They are evaluated here, before anything runs with slotkeeper's rights.

use super::triggers::Carried;
use crate::pg::condition::Conditions;
use crate::pg::scan::Found;
use crate::pg::trigger::{Fired, Version};
use Version::{New, Old};

/// A row that is written, and the conditions of its table.
pub(super) struct Decide<'a> {
    pub(super) fired: &'a Fired<'a>,
    pub(super) conditions: &'a Conditions,
}

/// What a change of a row asks for before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changes {
    /// It takes a seat, and did not or took another.
    pub(super) takes: bool,
    /// It has been published, or has a state in which it takes no seat: with another time its booking moves.
    pub(super) may_drag: bool,
}

/// What a change of a row asks for once it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    /// It holds its seat no longer.
    pub(super) leaves: bool,
    /// The application's own worker has published it.
    pub(super) published: bool,
}

impl Decide<'_> {
    fn says(&self, carried: Carried, of: Version) -> bool {
        self.conditions.holds(self.fired, carried as usize, of)
    }

    /// The row takes a seat.
    pub(super) fn takes(&self, of: Version) -> bool {
        self.says(Carried::Takes, of)
    }

    /// Another row of the table takes a seat.
    pub(super) fn another_takes(&self, row: &Found<'_>) -> bool {
        self.conditions.holds_of(self.fired, Carried::Takes as usize, row)
    }

    /// The row holds its seat: it takes one, or has been published in it.
    pub(super) fn holds(&self, of: Version) -> bool {
        self.takes(of) || (self.says(Carried::Published, of) && !self.says(Carried::Exempt, of))
    }

    /// What a changed row asks for before it is stored. Most changes don't touch what decides, and ask for nothing.
    pub(super) fn changes(&self) -> Changes {
        if self.conditions.are_unmoved(self.fired) {
            return Changes {
                takes: false,
                may_drag: false,
            };
        }
        let (took, takes) = (self.takes(Old), self.takes(New));
        // Publishing writes states in which a row takes no seat, and its content keeps one.
        let is_unseated = !took && !takes && !self.says(Carried::Exempt, New);
        Changes {
            takes: takes && (!took || self.conditions.differs(self.fired, Carried::Columns as usize)),
            may_drag: is_unseated || (self.says(Carried::Published, Old) && self.holds(New)),
        }
    }

    /// What a changed row asks for once it is stored.
    pub(super) fn changed(&self) -> Changed {
        if self.conditions.are_unmoved(self.fired) {
            return Changed {
                leaves: false,
                published: false,
            };
        }
        // A row that publishing has given a state of its own takes no seat, and holds one until it is exempt.
        let leaves = (self.holds(Old) && !self.holds(New))
            || (self.says(Carried::Exempt, New) && !self.says(Carried::Exempt, Old));
        Changed {
            leaves,
            published: self.says(Carried::Published, New) && !self.says(Carried::Published, Old),
        }
    }
}
