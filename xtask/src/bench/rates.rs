//! Lines that count calls per second.

use anyhow::{Result, ensure};

use crate::bench::figures::{Limit, Line, Unit, Who};
use crate::bench::ground::{Ground, Rows, State};
use crate::bench::pgbench::{Run, Until};

/// What one transaction does to the rows of its table.
#[derive(Clone, Copy)]
pub(crate) enum Leaves {
    /// One more live row.
    OneMore,
    /// As many rows as before.
    AsMany,
    /// As many live rows as before, and one more that was released.
    OneReleased,
}

/// A line and how to measure it.
pub(crate) struct Rate {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) state: State,
    pub(crate) clients: u32,
    pub(crate) script: &'static str,
    pub(crate) baseline: Option<(&'static str, &'static str)>,
    pub(crate) twin: Option<&'static str>,
    pub(crate) leaves: Leaves,
    /// Sessions have been at work for a while when it is counted what they do.
    pub(crate) warm: bool,
    pub(crate) required: Option<Limit>,
    pub(crate) required_of_twin: Option<Limit>,
}

const BARE_INSERT: Option<(&str, &str)> = Some(("insert_bare.sql", "bare INSERT"));

/// For information, with 16 clients on 2,000 queues.
const OTHER: Rate = Rate {
    id: "",
    title: "",
    state: State::SPREAD,
    clients: 16,
    script: "",
    baseline: None,
    twin: None,
    leaves: Leaves::AsMany,
    warm: true,
    required: None,
    required_of_twin: None,
};

const ASSIGN: Rate = Rate {
    script: "assign.sql",
    baseline: BARE_INSERT,
    twin: Some("assign_twin.sql"),
    leaves: Leaves::OneMore,
    ..OTHER
};

pub(crate) const REQUIRED: [Rate; 3] = [
    Rate {
        id: "assign-1",
        title: "assign, 2,000 queues, 1 client",
        clients: 1,
        required: Some(Limit::AtLeast(0.80)),
        ..ASSIGN
    },
    Rate {
        id: "assign-16",
        title: "assign, 2,000 queues, 16 clients",
        required: Some(Limit::AtLeast(0.75)),
        required_of_twin: Some(Limit::AtLeast(5.0)),
        ..ASSIGN
    },
    Rate {
        id: "assign-hot",
        title: "assign, one hot queue, 16 clients",
        state: State::HOT,
        required: Some(Limit::AtLeast(0.60)),
        ..ASSIGN
    },
];

pub(crate) const FOR_INFORMATION: [Rate; 7] = [
    Rate {
        id: "assign-new-sessions",
        title: "assign, 2,000 queues, 16 clients that have just connected",
        warm: false,
        ..ASSIGN
    },
    Rate {
        id: "assign-sparse",
        title: "assign, 2,000 queues with 10 ahead only, 16 clients",
        state: State::SPARSE,
        ..ASSIGN
    },
    Rate {
        id: "schedule",
        title: "schedule_content, 16 clients",
        script: "schedule.sql",
        baseline: BARE_INSERT,
        leaves: Leaves::OneMore,
        ..OTHER
    },
    Rate {
        id: "reschedule",
        title: "reschedule_content, 16 clients",
        script: "reschedule.sql",
        baseline: Some(("reschedule_bare.sql", "bare UPDATE")),
        ..OTHER
    },
    Rate {
        id: "replace",
        title: "unschedule_content, then assign, 16 clients",
        script: "replace.sql",
        baseline: Some(("replace_bare.sql", "bare UPDATE, then INSERT")),
        leaves: Leaves::OneReleased,
        ..OTHER
    },
    Rate {
        id: "replay",
        title: "assign of a content already assigned, 16 clients",
        script: "replay.sql",
        baseline: Some(("replay_bare.sql", "bare SELECT")),
        ..OTHER
    },
    Rate {
        id: "preview",
        title: "preview_slots of 10, 16 clients",
        script: "preview.sql",
        ..OTHER
    },
];

impl Rate {
    pub(crate) fn measure(
        &self,
        ground: &mut Ground<'_>,
        mut tell: impl FnMut(u32, u32, &[(Who, f64)]),
    ) -> Result<Line> {
        let mut variants = vec![(Who::Slotkeeper, self.script, "slotkeeper.booking")];
        variants.extend(self.baseline.map(|(script, _)| (Who::Baseline, script, "bench.bare")));
        variants.extend(self.twin.map(|script| (Who::Twin, script, "bench.twin")));
        let informs = self.required.is_none() && self.required_of_twin.is_none();
        let rounds = if informs {
            ground.pace.rounds_for_information
        } else {
            ground.pace.rounds
        };
        let mut line = Line {
            id: self.id.to_owned(),
            title: self.title.to_owned(),
            unit: Unit::PerSecond,
            baseline: self.baseline.map_or("", |(_, name)| name).to_owned(),
            required: self.required,
            required_of_twin: self.required_of_twin,
            rounds: Vec::new(),
        };
        for round in 1..=rounds {
            ground.arrange(&self.state)?;
            let mut values = Vec::new();
            for &(who, script, table) in &variants {
                let before = ground.rows(table)?;
                ground.checkpoint()?;
                let run = Run {
                    script,
                    clients: self.clients,
                    until: if self.warm {
                        Until::Warm(ground.pace.seconds)
                    } else {
                        Until::Seconds(ground.pace.seconds)
                    },
                    variables: &[],
                    setting: None,
                };
                let said = ground.pgbench(&run, &self.state)?;
                let after = ground.rows(table)?;
                let expected = self.leaves.after(before, said.transactions);
                ensure!(
                    after == expected,
                    "{script}: {} transactions have left {after:?}, not {expected:?}",
                    said.transactions
                );
                values.push((who, said.rate));
            }
            // Whoever comes first has a server that has just been at rest.
            variants.rotate_left(1);
            tell(round, rounds, &values);
            line.rounds.push(values);
        }
        Ok(line)
    }
}

impl Leaves {
    /// A reply of queue_full would leave no row: the count shows it.
    fn after(self, before: Rows, transactions: i64) -> Rows {
        match self {
            Self::OneMore => Rows {
                live: before.live + transactions,
                ..before
            },
            Self::OneReleased => Rows {
                released: before.released + transactions,
                ..before
            },
            Self::AsMany => before,
        }
    }
}
