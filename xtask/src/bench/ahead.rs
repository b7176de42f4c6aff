//! Lines about a queue with very many bookings ahead, against queues with a few.

use anyhow::{Context, Result, ensure};

use crate::bench::figures::{Limit, Line, Unit, Who, thousands};
use crate::bench::ground::{Ground, State};
use crate::bench::pgbench::{Run, Until};
use crate::ui;

/// The name of what these lines arrange.
const ARRANGED: &str = "far";
/// Bookings of a queue with few ahead; after ten calls the next queue has its turn.
pub(crate) const NEAR: u32 = 10;
/// Holes spread among the many.
pub(crate) const HOLES: u32 = 1000;

/// What is special about the far queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Dense,
    Holes,
    FromTheMiddle,
    FarOutBooking,
}

/// A line and how to measure it.
pub(crate) struct Ahead {
    pub(crate) id: &'static str,
    case: Case,
    /// Without waiting for the disk, which hides what the search costs.
    no_wait: bool,
}

const fn ahead(id: &'static str, case: Case, no_wait: bool) -> Ahead {
    Ahead { id, case, no_wait }
}

pub(crate) const ALL: [Ahead; 7] = [
    ahead("ahead", Case::Dense, false),
    ahead("ahead-holes", Case::Holes, false),
    ahead("ahead-no-wait", Case::Dense, true),
    ahead("ahead-holes-no-wait", Case::Holes, true),
    ahead("ahead-middle", Case::FromTheMiddle, false),
    ahead("ahead-middle-no-wait", Case::FromTheMiddle, true),
    // Last: it leaves a booking far out.
    ahead("ahead-far-out-no-wait", Case::FarOutBooking, true),
];

impl Ahead {
    fn title(&self, far: u32) -> String {
        let far = thousands(far.into());
        let mut title = match self.case {
            Case::Dense => format!("assign with {far} ahead"),
            Case::Holes => format!(
                "assign with {far} ahead and {} holes among them",
                thousands(HOLES.into())
            ),
            Case::FromTheMiddle => format!("assign with p_not_before in the middle of {far}"),
            Case::FarOutBooking => format!("assign with {far} ahead and one booking 50 years out"),
        };
        if self.no_wait {
            title += ", no commit wait";
        }
        title
    }

    pub(crate) fn measure(
        &self,
        ground: &mut Ground<'_>,
        mut tell: impl FnMut(u32, u32, &[(Who, f64)]),
    ) -> Result<Line> {
        let far = ground.pace.far;
        if ground.arranged != Some(ARRANGED) {
            arrange(ground)?;
        }
        let middle: i64 = ground.one(&format!(
            "SELECT granule FROM slotkeeper.booking WHERE content_id = 'f-{}'",
            far / 2
        ))?;
        if self.case == Case::FarOutBooking {
            let outcome: String = ground.one(
                "SELECT slotkeeper.schedule_content('far-1', 'tiktok', 'far-out', now() + '50 years')->>'outcome'",
            )?;
            ensure!(outcome == "scheduled", "the booking far out was answered {outcome}");
        }
        let required = matches!(self.case, Case::Dense | Case::Holes) && !self.no_wait;
        let rounds = if required {
            ground.pace.rounds
        } else {
            ground.pace.rounds_for_information
        };
        let pairs = if self.case == Case::Holes {
            HOLES
        } else {
            ground.pace.pairs
        };
        let mut line = Line {
            id: self.id.to_owned(),
            title: self.title(far),
            unit: Unit::Microseconds,
            baseline: format!("with {NEAR} ahead"),
            required: required.then_some(Limit::AtMost(1.3)),
            required_of_twin: None,
            rounds: Vec::new(),
        };
        for round in 1..=rounds {
            let number = ground.number();
            let queues = pairs.div_ceil(NEAR);
            let near = format!("near{number}");
            ground.sql(&format!(
                r#"SELECT bench.make_queues('{near}', {queues}, '{{"every": "1 minute"}}', '{{}}')"#
            ))?;
            ground.book(&near, queues, &format!("n{number}"), queues * NEAR)?;
            if self.case == Case::Holes {
                // Contents of the first filling, other ones each time, evenly spread.
                let unscheduled: i64 = ground.one(&format!(
                    "SELECT count(*) FILTER (WHERE reply->>'outcome' = 'unscheduled')
                     FROM generate_series(1, {HOLES}) AS n,
                          slotkeeper.unschedule_content('f-' || n * {} - {number}) AS reply",
                    far / HOLES
                ))?;
                ensure!(
                    unscheduled == i64::from(HOLES),
                    "only {unscheduled} of {HOLES} were unscheduled"
                );
            }
            ground.settle()?;
            let last = "SELECT max(b.granule) FROM slotkeeper.booking AS b JOIN slotkeeper.queue AS q USING (queue_id)
                        WHERE q.profile_id = 'far-1' AND b.released_at IS NULL";
            let (last_before, before): (i64, _) = (ground.one(last)?, ground.rows("slotkeeper.booking")?);
            let from_the_middle = self.case == Case::FromTheMiddle;
            let run = Run {
                script: if from_the_middle {
                    "ahead_not_before.sql"
                } else {
                    "ahead.sql"
                },
                clients: 1,
                until: Until::Transactions(pairs),
                variables: &[("name", near), ("middle", middle.to_string())],
                setting: self.no_wait.then_some("synchronous_commit=off"),
            };
            let said = ground.pgbench(&run, &State::EMPTY)?;
            let booked = ground.rows("slotkeeper.booking")?.live - before.live;
            ensure!(
                booked == 2 * i64::from(pairs),
                "{} calls have booked {booked}",
                2 * pairs
            );
            if self.case == Case::Holes {
                let last: i64 = ground.one(last)?;
                ensure!(last == last_before, "holes were not found before the end of the queue");
            }
            // The two measured calls are the script's last lines.
            let mut latencies = said.latencies.iter().rev();
            let mut next = || {
                latencies
                    .next()
                    .map(|(ms, _)| ms * 1000.0)
                    .context("pgbench told no latencies")
            };
            let values = vec![(Who::Slotkeeper, next()?), (Who::Baseline, next()?)];
            tell(round, rounds, &values);
            line.rounds.push(values);
        }
        Ok(line)
    }
}

fn arrange(ground: &mut Ground<'_>) -> Result<()> {
    let far = ground.pace.far;
    ground.arrange(&State::EMPTY)?;
    if !ground.one::<bool>("SELECT EXISTS (SELECT FROM slotkeeper.queue WHERE profile_id = 'far-1')")? {
        ground.sql(r#"SELECT bench.make_queues('far', 1, '{"every": "1 minute"}', '{}')"#)?;
    }
    ui::step(
        &format!(
            "booking {} contents ahead in one queue, by assign_slots",
            thousands(far.into())
        ),
        || ground.book("far", 1, "f", far),
    )?;
    ground.arranged = Some(ARRANGED);
    Ok(())
}
