//! Lines about assign_slots.

use std::time::Instant;

use anyhow::{Result, ensure};
use postgres::Client;
use serde_json::{Value, json};

use crate::bench::figures::{Limit, Line, Unit, Who};
use crate::bench::ground::{Ground, State};
use crate::cluster::explained;

const ITEMS: u32 = 10_000;
/// Batches of either kind in one round.
const BATCHES: u32 = 5;

const ASSIGN: &str = "SELECT slotkeeper.assign_slots($1::text::jsonb)::text";
const INSERT: &str = "
INSERT INTO bench.bare (queue_id, granule, seat, source, content_id, user_id, scheduled_at, booked_at)
SELECT $1::int + (n - 1) % $2::int, $3::bigint + n, 0, '', 'c-' || $3::bigint + n, 'user-1',
       to_timestamp(($3::bigint + n) * 60.0), clock_timestamp()
FROM generate_series(1, $4::int) AS n
RETURNING booking_id, scheduled_at";

/// A line and how to measure it.
pub(crate) struct Batch {
    pub(crate) id: &'static str,
    title: &'static str,
    state: State,
}

pub(crate) const ALL: [Batch; 2] = [
    Batch {
        id: "batch-one",
        title: "assign_slots of 10,000, one queue",
        state: State {
            contents: 0,
            name: "empty-hot",
            ..State::HOT
        },
    },
    Batch {
        id: "batch-many",
        title: "assign_slots of 10,000, 2,000 queues",
        state: State::EMPTY,
    },
];

impl Batch {
    pub(crate) fn measure(
        &self,
        ground: &mut Ground<'_>,
        mut tell: impl FnMut(u32, u32, &[(Who, f64)]),
    ) -> Result<Line> {
        let rounds = ground.pace.rounds;
        let mut line = Line {
            id: self.id.to_owned(),
            title: self.title.to_owned(),
            unit: Unit::RowsPerSecond,
            baseline: "bare INSERT … SELECT".to_owned(),
            required: Some(Limit::AtLeast(0.50)),
            required_of_twin: None,
            rounds: Vec::new(),
        };
        for round in 1..=rounds {
            ground.arrange(&self.state)?;
            let mut client = ground.connect()?;
            let (assign, insert) = (client.prepare(ASSIGN)?, client.prepare(INSERT)?);
            // The connection's first calls load code and make plans.
            self.assign(&mut client, &assign, &format!("w{round}"), 10)?;
            self.insert(&mut client, &insert, 0, 10)?;
            let (mut assigned, mut inserted) = (0.0, 0.0);
            for batch in 1..=BATCHES {
                assigned += self.assign(&mut client, &assign, &format!("b{round}-{batch}"), ITEMS)?;
                inserted += self.insert(&mut client, &insert, i64::from(batch * ITEMS), ITEMS)?;
            }
            let rows = f64::from(BATCHES * ITEMS);
            let values = vec![(Who::Slotkeeper, rows / assigned), (Who::Baseline, rows / inserted)];
            for table in ["slotkeeper.booking", "bench.bare"] {
                let live = ground.rows(table)?.live;
                ensure!(live == i64::from(BATCHES * ITEMS + 10), "{table} has {live} rows");
            }
            tell(round, rounds, &values);
            line.rounds.push(values);
        }
        Ok(line)
    }

    /// Seconds from sending the items to having all of the reply.
    fn assign(&self, client: &mut Client, statement: &postgres::Statement, prefix: &str, count: u32) -> Result<f64> {
        let State {
            queues_name, queues, ..
        } = self.state;
        let items: Vec<Value> = (0..count)
            .map(|n| {
                json!({
                    "profile_id": format!("{queues_name}-{}", n % queues + 1),
                    "platform": "tiktok",
                    "content_id": format!("{prefix}-{n}"),
                    "user_id": "user-1",
                })
            })
            .collect();
        let items = Value::Array(items).to_string();
        let started = Instant::now();
        let row = client.query_one(statement, &[&items]).map_err(explained)?;
        let took = started.elapsed().as_secs_f64();
        let reply: Value = serde_json::from_str(row.get(0))?;
        ensure!(
            reply["outcome"] == "assigned",
            "the batch was answered {}",
            reply["outcome"]
        );
        Ok(took)
    }

    /// Seconds from sending the statement to having all returned rows.
    fn insert(&self, client: &mut Client, statement: &postgres::Statement, from: i64, count: u32) -> Result<f64> {
        let (first, queues) = (
            i32::try_from(self.state.first_queue())?,
            i32::try_from(self.state.queues)?,
        );
        let count = i32::try_from(count)?;
        let started = Instant::now();
        let rows = client
            .query(statement, &[&first, &queues, &from, &count])
            .map_err(explained)?;
        let took = started.elapsed().as_secs_f64();
        ensure!(i32::try_from(rows.len())? == count, "{} rows were inserted", rows.len());
        Ok(took)
    }
}
