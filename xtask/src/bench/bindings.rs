//! Lines about bound tables: the same statements on the same table, guarded, unguarded, and with a trigger that only inserts
//! a ledger row.

use anyhow::{Result, ensure};

use crate::bench::figures::{Limit, Line, Unit, Who};
use crate::bench::ground::{Ground, SPREAD_QUEUES, State};
use crate::bench::pgbench::{Run, Until};

/// Rows that are there when a round starts.
const ROWS: u32 = 20_000;
/// Rows of one large statement, and so many of them in one round.
const MANY: u32 = 10_000;
const STATEMENTS: u32 = 5;

/// A line and how to measure it.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    /// Rows that take a seat, one a statement.
    Insert { clients: u32 },
    /// Updates of a column that doesn't matter.
    Update,
    /// Rows that take no seat.
    Draft,
    /// Rows that take a seat, ten thousand a statement.
    Many,
}

pub(crate) const ALL: [Bound; 5] = [
    Bound::Insert { clients: 1 },
    Bound::Insert { clients: 16 },
    Bound::Update,
    Bound::Draft,
    Bound::Many,
];

const VARIANTS: [(Who, &str, &str); 3] = [
    (Who::Slotkeeper, "guarded.post", "search_path=guarded"),
    (Who::Baseline, "unguarded.post", "search_path=unguarded"),
    (Who::Twin, "triggered.post", "search_path=triggered"),
];

impl Bound {
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Insert { clients: 1 } => "bound-insert-1",
            Self::Insert { .. } => "bound-insert-16",
            Self::Update => "bound-update",
            Self::Draft => "bound-draft",
            Self::Many => "bound-many",
        }
    }

    pub(crate) fn unit(self) -> Unit {
        match self {
            Self::Many => Unit::RowsPerSecond,
            _ => Unit::PerSecond,
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::Insert { .. } => "bound_insert.sql",
            Self::Update => "bound_update.sql",
            Self::Draft => "bound_draft.sql",
            Self::Many => "bound_many.sql",
        }
    }

    fn line(self) -> Line {
        let (title, at_least) = match self {
            Self::Insert { clients: 1 } => ("INSERT that takes a seat, 1 client", 0.80),
            Self::Insert { .. } => ("INSERT that takes a seat, 16 clients", 0.55),
            Self::Update => ("UPDATE that doesn't matter to the guard", 0.95),
            Self::Draft => ("INSERT of an exempt row", 0.90),
            Self::Many => ("INSERT of 10,000 rows", 0.25),
        };
        Line {
            id: self.id().to_owned(),
            title: format!("guarded table: {title}"),
            unit: self.unit(),
            baseline: "unguarded table".to_owned(),
            required: Some(Limit::AtLeast(at_least)),
            required_of_twin: None,
            rounds: Vec::new(),
        }
    }

    pub(crate) fn measure(
        self,
        ground: &mut Ground<'_>,
        mut tell: impl FnMut(u32, u32, &[(Who, f64)]),
    ) -> Result<Line> {
        let mut line = self.line();
        let mut variants = VARIANTS;
        for round in 1..=ground.pace.rounds {
            arrange(ground)?;
            let mut values = Vec::new();
            for (who, table, setting) in variants {
                values.push((who, self.rate(ground, table, setting)?));
            }
            // Whoever comes first has a server that has just been at rest.
            variants.rotate_left(1);
            tell(round, ground.pace.rounds, &values);
            line.rounds.push(values);
        }
        Ok(line)
    }

    /// Transactions or rows a second.
    fn rate(self, ground: &mut Ground<'_>, table: &str, setting: &str) -> Result<f64> {
        ground.checkpoint()?;
        let state = State {
            contents: ROWS,
            ..State::SPREAD
        };
        let run = Run {
            script: self.script(),
            clients: match self {
                Self::Insert { clients } => clients,
                _ => 1,
            },
            until: match self {
                Self::Many => Until::Transactions(STATEMENTS),
                _ => Until::Warm(ground.pace.seconds),
            },
            variables: &[],
            setting: Some(setting),
        };
        let said = ground.pgbench(&run, &state)?;
        let each = match self {
            Self::Many => MANY,
            Self::Update => 0,
            Self::Insert { .. } | Self::Draft => 1,
        };
        let (rows, seats) = (said.transactions * i64::from(each), i64::from(ROWS));
        let found: i64 = ground.one(&format!("SELECT count(*) FROM {table}"))?;
        ensure!(found == seats + rows, "{table} has {found} rows, not {}", seats + rows);
        let booked = if matches!(self, Self::Draft) { seats } else { found };
        let ledger = match table {
            "guarded.post" => "slotkeeper.booking",
            "triggered.post" => "bench.twin",
            _ => return Ok(said.rate * f64::from(each.max(1))),
        };
        let live = ground.rows(ledger)?.live;
        ensure!(live == booked, "{ledger} has {live} live rows, not {booked}");
        Ok(said.rate * f64::from(each.max(1)))
    }
}

fn arrange(ground: &mut Ground<'_>) -> Result<()> {
    ground.sql(&format!("SELECT bench.to_bound_rows({ROWS}, {SPREAD_QUEUES})"))?;
    ground.arranged = None;
    for (_, table, _) in VARIANTS {
        ground.sql(&format!("VACUUM (ANALYZE) {table}"))?;
    }
    ground.settle()
}
