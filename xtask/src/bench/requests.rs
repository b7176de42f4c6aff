//! Lines about keyed requests.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::bench::figures::{Limit, Line, Unit, Who};
use crate::bench::ground::{Ground, State};
use crate::bench::pgbench::{Run, Until};
use crate::cluster::explained;

/// Finished requests when a round starts.
const REQUESTS: u32 = 50_000;

/// What a key may take, all indexes included.
const BYTES_A_KEY: f64 = 500.0;

/// A line and how to measure it.
pub(crate) struct Requests {
    pub(crate) id: &'static str,
    title: &'static str,
    clients: u32,
    what: What,
    required: Limit,
}

/// What a line does.
#[derive(Clone, Copy)]
enum What {
    /// Runs a script and its bare variant, which leave so many rows of theirs per transaction.
    Scripts {
        own: &'static str,
        bare: &'static str,
        name: &'static str,
        leaves: i64,
    },
    Storage,
}

const INSERT: What = What::Scripts {
    own: "request_insert.sql",
    bare: "request_insert_bare.sql",
    name: "two bare INSERTs",
    leaves: 1,
};

const CYCLE: What = What::Scripts {
    own: "request_cycle.sql",
    bare: "request_cycle_bare.sql",
    name: "bare INSERT, then UPDATE",
    leaves: 1,
};

pub(crate) const ALL: [Requests; 6] = [
    Requests {
        id: "request-insert-1",
        title: "idempotent_insert with a new key, 1 client",
        clients: 1,
        what: INSERT,
        required: Limit::AtLeast(0.80),
    },
    Requests {
        id: "request-insert-16",
        title: "idempotent_insert with a new key, 16 clients",
        clients: 16,
        what: INSERT,
        required: Limit::AtLeast(0.70),
    },
    Requests {
        id: "request-replay",
        title: "begin_request that is replayed, 16 clients",
        clients: 16,
        what: What::Scripts {
            own: "request_replay.sql",
            bare: "request_replay_bare.sql",
            name: "SELECT by primary key",
            leaves: 0,
        },
        required: Limit::AtLeast(0.50),
    },
    Requests {
        id: "request-cycle-1",
        title: "begin_request, then finish_request, 1 client",
        clients: 1,
        what: CYCLE,
        required: Limit::AtLeast(0.75),
    },
    Requests {
        id: "request-cycle-16",
        title: "begin_request, then finish_request, 16 clients",
        clients: 16,
        what: CYCLE,
        required: Limit::AtLeast(0.75),
    },
    Requests {
        id: "request-storage",
        title: "a key with a response of 200 bytes, begun and finished, with all indexes",
        clients: 1,
        what: What::Storage,
        required: Limit::AtMost(1.0),
    },
];

impl Requests {
    pub(crate) fn measure(
        &self,
        ground: &mut Ground<'_>,
        mut tell: impl FnMut(u32, u32, &[(Who, f64)]),
    ) -> Result<Line> {
        prepare(ground)?;
        let (unit, baseline, rounds) = match self.what {
            What::Scripts { name, .. } => (Unit::PerSecond, name, ground.pace.rounds),
            What::Storage => (Unit::BytesEach, "allowed", 1),
        };
        let mut line = Line {
            id: self.id.to_owned(),
            title: self.title.to_owned(),
            unit,
            baseline: baseline.to_owned(),
            required: Some(self.required),
            required_of_twin: None,
            rounds: Vec::new(),
        };
        for round in 1..=rounds {
            ground.sql(&format!("CALL bench.fill_requests({REQUESTS})"))?;
            for table in ["slotkeeper.request", "bench.request", "bench.thing", "bench.bare_thing"] {
                ground.sql(&format!("VACUUM (ANALYZE) {table}"))?;
            }
            let mut values = match self.what {
                What::Storage => {
                    let bytes: f64 = ground.one(
                        "SELECT pg_total_relation_size('slotkeeper.request')::float8 / count(*) FROM slotkeeper.request",
                    )?;
                    vec![(Who::Slotkeeper, bytes), (Who::Baseline, BYTES_A_KEY)]
                }
                What::Scripts { own, bare, leaves, .. } => {
                    let mut variants = [
                        (Who::Slotkeeper, own, "slotkeeper.request"),
                        (Who::Baseline, bare, "bench.request"),
                    ];
                    // Whoever comes first has a server that has just been at rest.
                    if round % 2 == 0 {
                        variants.reverse();
                    }
                    let mut values = Vec::new();
                    for (who, script, table) in variants {
                        values.push((who, self.run(ground, script, table, leaves)?));
                    }
                    values
                }
            };
            values.sort_by_key(|(who, _)| *who as u8);
            tell(round, rounds, &values);
            line.rounds.push(values);
        }
        Ok(line)
    }

    fn run(&self, ground: &mut Ground<'_>, script: &str, table: &str, leaves: i64) -> Result<f64> {
        let count = format!("SELECT count(*) FROM {table} WHERE status IS NOT NULL");
        let before: i64 = ground.one(&count)?;
        ground.checkpoint()?;
        let run = Run {
            script,
            clients: self.clients,
            until: Until::Seconds(ground.pace.seconds),
            variables: &[("requests", REQUESTS.to_string())],
            setting: None,
        };
        let said = ground.pgbench(&run, &State::EMPTY)?;
        let after: i64 = ground.one(&count)?;
        ensure!(
            after == before + leaves * said.transactions,
            "{script}: {} transactions have left {} finished requests",
            said.transactions,
            after - before
        );
        Ok(said.rate)
    }
}

/// Makes what the lines need, once.
fn prepare(ground: &mut Ground<'_>) -> Result<()> {
    if ground.one::<bool>("SELECT to_regclass('bench.request') IS NOT NULL")? {
        return Ok(());
    }
    let file = ground.file("requests.sql");
    let sql = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    ground
        .client
        .batch_execute(&sql)
        .map_err(explained)
        .with_context(|| file.display().to_string())
}
