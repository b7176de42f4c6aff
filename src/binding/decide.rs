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
    /// It takes none, or has been published, and has another time, queue or id, or is exempt no longer: what publishing holds for it follows.
    pub(super) follows: bool,
    /// It took no seat and takes none: publishing may hold one for it, and heeds what state the row has now.
    pub(super) is_unseated: bool,
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
        self.takes(of) || (self.is_published(of) && !self.is_exempt(of))
    }

    /// One of the named predicates exempts the row.
    pub(super) fn is_exempt(&self, of: Version) -> bool {
        self.says(Carried::Exempt, of)
    }

    /// The application's own worker has published the row.
    pub(super) fn is_published(&self, of: Version) -> bool {
        self.says(Carried::Published, of)
    }

    /// What a changed row asks for before it is stored. Most changes don't touch what decides, and ask for nothing.
    pub(super) fn changes(&self) -> Changes {
        if self.conditions.are_unmoved(self.fired) {
            return Changes {
                takes: false,
                follows: false,
                is_unseated: false,
            };
        }
        let (took, takes) = (self.takes(Old), self.takes(New));
        let differs = self.conditions.differs(self.fired, Carried::Columns as usize);
        // One that has been published is where it is, also where it still occupies.
        let takes = takes && !(self.is_published(Old) && self.is_published(New));
        Changes {
            takes: takes && (!took || differs || self.is_published(Old)),
            // Publishing writes states in which a row takes no seat, and its content keeps one.
            follows: !takes && (differs || (self.is_exempt(Old) && !self.is_exempt(New))),
            is_unseated: !self.holds(Old) && !self.holds(New) && !self.is_exempt(New),
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
        let (held, holds, exempt) = (self.holds(Old), self.holds(New), self.is_exempt(New));
        Changed {
            // A row that publishing has given a state of its own takes no seat, and holds one until it is exempt.
            leaves: (held && !holds) || (exempt && !self.is_exempt(Old)),
            published: self.is_published(New) && !self.is_published(Old),
        }
    }
}
