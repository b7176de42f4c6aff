//! Lines about slugs and drafts: the ten-thousandth equal name against the first, publishing against doing it by hand.

use anyhow::{Context, Result, ensure};

use crate::bench::figures::{Limit, Line, Unit, Who};
use crate::bench::ground::{Ground, State};
use crate::bench::pgbench::{Run, Until};

/// Rows that have the name already.
const EQUAL_NAMES: u32 = 10_000;
/// Drafts to be published in one run.
const DRAFTS: u32 = 200_000;

/// A line and how to measure it.
#[derive(Clone, Copy)]
pub(crate) enum Written {
    /// Without waiting for the disk, which hides what the search costs.
    Slug {
        no_wait: bool,
    },
    Publish {
        clients: u32,
    },
}

pub(crate) const ALL: [Written; 4] = [
    Written::Slug { no_wait: false },
    Written::Slug { no_wait: true },
    Written::Publish { clients: 1 },
    Written::Publish { clients: 16 },
];

impl Written {
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Slug { no_wait: false } => "slug",
            Self::Slug { no_wait: true } => "slug-no-wait",
            Self::Publish { clients: 1 } => "publish-draft-1",
            Self::Publish { .. } => "publish-draft-16",
        }
    }

    pub(crate) fn unit(self) -> Unit {
        match self {
            Self::Slug { .. } => Unit::Microseconds,
            Self::Publish { .. } => Unit::PerSecond,
        }
    }

    pub(crate) fn measure(
        self,
        ground: &mut Ground<'_>,
        mut tell: impl FnMut(u32, u32, &[(Who, f64)]),
    ) -> Result<Line> {
        let (title, baseline, required) = match self {
            Self::Slug { no_wait } => (
                format!(
                    "unique_slug and INSERT, the 10,000th equal name{}",
                    if no_wait { ", no commit wait" } else { "" }
                ),
                "the first of its name",
                (!no_wait).then_some(Limit::AtMost(1.3)),
            ),
            Self::Publish { clients } => (
                format!("publish_draft, {clients} client{}", if clients == 1 { "" } else { "s" }),
                "the same in PL/pgSQL",
                Some(Limit::AtLeast(0.9)),
            ),
        };
        let mut line = Line {
            id: self.id().to_owned(),
            title,
            unit: self.unit(),
            baseline: baseline.to_owned(),
            required,
            required_of_twin: None,
            rounds: Vec::new(),
        };
        for round in 1..=ground.pace.rounds {
            let values = match self {
                Self::Slug { no_wait } => slug(ground, no_wait)?,
                Self::Publish { clients } => publish(ground, clients, round)?,
            };
            tell(round, ground.pace.rounds, &values);
            line.rounds.push(values);
        }
        Ok(line)
    }
}

fn slug(ground: &mut Ground<'_>, no_wait: bool) -> Result<Vec<(Who, f64)>> {
    ground.sql(&format!(
        "TRUNCATE bench.community;
         INSERT INTO bench.community (name, slug)
         SELECT 'Many', CASE n WHEN 0 THEN 'many' ELSE 'many-' || n END FROM generate_series(0, {EQUAL_NAMES} - 1) AS n;
         -- Others with other names, as a table has them.
         INSERT INTO bench.community (name, slug) SELECT 'Other', 'other-name-' || n FROM generate_series(1, 90000) AS n"
    ))?;
    ground.sql("VACUUM (ANALYZE) bench.community")?;
    ground.checkpoint()?;
    let (pairs, name) = (ground.pace.pairs, format!("fresh{}", ground.number()));
    let run = Run {
        script: "slug.sql",
        clients: 1,
        until: Until::Transactions(pairs),
        variables: &[("name", name)],
        setting: no_wait.then_some("synchronous_commit=off"),
    };
    let said = ground.pgbench(&run, &State::EMPTY)?;
    let last: i64 =
        ground.one("SELECT max(substr(slug, 6)::int)::bigint FROM bench.community WHERE slug LIKE 'many-%'")?;
    ensure!(
        last == i64::from(EQUAL_NAMES + pairs - 1),
        "{pairs} more names have ended in many-{last}"
    );
    // The two measured statements are the script's last lines.
    let mut latencies = said.latencies.iter().rev();
    let mut next = || {
        let (milliseconds, _) = latencies.next().context("pgbench told no latencies")?;
        Ok::<_, anyhow::Error>(milliseconds * 1000.0)
    };
    Ok(vec![(Who::Slotkeeper, next()?), (Who::Baseline, next()?)])
}

fn publish(ground: &mut Ground<'_>, clients: u32, round: u32) -> Result<Vec<(Who, f64)>> {
    let mut variants = [
        (Who::Slotkeeper, "publish_draft.sql"),
        (Who::Baseline, "publish_draft_bare.sql"),
    ];
    // Whoever comes first has a server that has just been at rest.
    variants.rotate_left(round as usize % 2);
    let mut values = Vec::new();
    for (who, script) in variants {
        ground.sql(&format!(
            "TRUNCATE bench.draft, bench.event;
             ALTER SEQUENCE bench.draft_turn RESTART;
             INSERT INTO bench.draft SELECT generate_series(1, {DRAFTS})"
        ))?;
        ground.sql("VACUUM (ANALYZE) bench.draft")?;
        ground.checkpoint()?;
        let run = Run {
            script,
            clients,
            until: Until::Seconds(ground.pace.seconds),
            variables: &[],
            setting: None,
        };
        let said = ground.pgbench(&run, &State::EMPTY)?;
        let linked: i64 = ground.one("SELECT count(*) FROM bench.draft JOIN bench.event AS e ON e.id = event_id")?;
        ensure!(
            linked == said.transactions,
            "{script}: {} transactions have published {linked} drafts",
            said.transactions
        );
        values.push((who, said.rate));
    }
    Ok(values)
}
