//! Lines about publishing. The peers' own calls are in the same run if `--peers` asks for them.

use anyhow::{Result, ensure};

use crate::bench::figures::{Limit, Line, Unit, Who};
use crate::bench::ground::{Ground, State};
use crate::bench::peers::{Driven, Peers};
use crate::bench::pgbench::{Run, Until};

/// Contents in the line about an old snapshot.
const MANY: u32 = 300_000;

/// A line and how to measure it.
#[derive(Clone, Copy)]
pub(crate) enum Publish {
    /// Whole publishes, so many contents a call, against pgmq.
    Whole { at_once: u32 },
    /// Whole publishes, so many contents a call, against a queue with a client library of its own.
    Against { peer: Driven, at_once: u32 },
    /// Claims where many more are booked ahead, against few.
    Ahead,
    /// Claims where many due contents are in a paused queue, against none.
    Blocked,
    /// Claims when nothing is due, against SELECT 1.
    Idle,
    /// Whole publishes while another session holds an old snapshot, against none.
    OldSnapshot,
}

pub(crate) const ALL: [Publish; 10] = [
    Publish::Whole { at_once: 1 },
    Publish::Whole { at_once: 50 },
    Publish::Against {
        peer: Driven::GraphileWorker,
        at_once: 50,
    },
    Publish::Against {
        peer: Driven::GraphileWorkerBatched,
        at_once: 50,
    },
    Publish::Against {
        peer: Driven::PgBoss,
        at_once: 50,
    },
    Publish::Against {
        peer: Driven::PgBoss,
        at_once: 1,
    },
    Publish::Ahead,
    Publish::Blocked,
    Publish::Idle,
    Publish::OldSnapshot,
];

/// What is due, blocked and ahead when a run starts.
type Booked = (u32, u32, u32);

impl Publish {
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Whole { at_once: 1 } => "publish-1",
            Self::Whole { .. } => "publish-50",
            Self::Against {
                peer: Driven::GraphileWorker,
                ..
            } => "publish-50-graphile-worker",
            Self::Against {
                peer: Driven::GraphileWorkerBatched,
                ..
            } => "publish-50-graphile-worker-batched",
            Self::Against { at_once: 1, .. } => "publish-1-pg-boss",
            Self::Against { .. } => "publish-50-pg-boss",
            Self::Ahead => "claim-ahead",
            Self::Blocked => "claim-blocked",
            Self::Idle => "claim-idle",
            Self::OldSnapshot => "publish-old-snapshot",
        }
    }

    pub(crate) fn unit(self) -> Unit {
        match self {
            Self::Ahead | Self::Blocked => Unit::Microseconds,
            Self::Whole { .. } | Self::Against { .. } | Self::Idle | Self::OldSnapshot => Unit::PerSecond,
        }
    }

    /// Whether this can be measured; where it cannot, the line is left out.
    pub(crate) fn possible(self, peers: &Peers) -> bool {
        !matches!(self, Self::Against { .. }) || peers.node.is_some()
    }

    fn line(self, peers: &Peers) -> Line {
        let (title, baseline, required) = match self {
            Self::Whole { at_once: 1 } => (
                "claim 1, begin, confirm, 16 workers (contents)",
                "pgmq read 1, archive",
                Limit::AtLeast(0.8),
            ),
            Self::Whole { .. } => (
                "claim 50, begins, confirms, 16 workers (contents)",
                "pgmq read 50, archive 50",
                Limit::AtLeast(0.6),
            ),
            Self::Against { peer, at_once } => (
                if at_once == 1 {
                    "claim 1, begin, confirm, 16 workers (contents)"
                } else {
                    "claim 50, begins, confirms, 16 workers (contents)"
                },
                peer.title(at_once),
                Limit::AtLeast(1.0),
            ),
            Self::Ahead => ("claim, many ahead", "only what is due", Limit::AtMost(1.3)),
            Self::Blocked => (
                "claim, many due in a paused queue",
                "only what is due",
                Limit::AtMost(1.3),
            ),
            Self::Idle => ("claim, nothing due, 16 workers", "SELECT 1", Limit::AtLeast(0.4)),
            Self::OldSnapshot => (
                "publishing while an old snapshot is held, 16 workers",
                "no old snapshot",
                Limit::AtLeast(0.5),
            ),
        };
        let measured = peers.pgmq || !matches!(self, Self::Whole { .. });
        Line {
            id: self.id().to_owned(),
            title: title.to_owned(),
            unit: self.unit(),
            baseline: if measured { baseline } else { "" }.to_owned(),
            required: measured.then_some(required),
            required_of_twin: None,
            rounds: Vec::new(),
        }
    }

    pub(crate) fn measure(
        self,
        ground: &mut Ground<'_>,
        peers: &Peers,
        mut tell: impl FnMut(u32, u32, &[(Who, f64)]),
    ) -> Result<Line> {
        let mut line = self.line(peers);
        let rounds = match self {
            Self::OldSnapshot => 1,
            _ => ground.pace.rounds,
        };
        for round in 1..=rounds {
            let mut values = Vec::new();
            for who in [Who::Slotkeeper, Who::Baseline] {
                values.extend(self.value(ground, who, peers)?.map(|value| (who, value)));
            }
            tell(round, rounds, &values);
            line.rounds.push(values);
        }
        Ok(line)
    }

    fn value(self, ground: &mut Ground<'_>, who: Who, peers: &Peers) -> Result<Option<f64>> {
        let ours = who == Who::Slotkeeper;
        let far = ground.pace.far;
        Ok(match self {
            Self::Whole { .. } if !ours && !peers.pgmq => None,
            Self::Whole { at_once } => Some(whole(ground, ours, at_once)?),
            Self::Against { at_once, .. } if ours => Some(whole(ground, true, at_once)?),
            Self::Against { peer, at_once } => Some(peers.rate(ground, peer, at_once)?),
            Self::Ahead => Some(claims(ground, (1_000, 0, if ours { far } else { 0 }))?),
            Self::Blocked => Some(claims(ground, (1_000, if ours { far / 10 } else { 0 }, 0))?),
            Self::Idle => Some(idle(ground, ours)?),
            Self::OldSnapshot => Some(many(ground, ours)?),
        })
    }
}

fn arrange(ground: &mut Ground<'_>, (due, blocked, ahead): Booked) -> Result<()> {
    ground.sql(&format!("SELECT bench.to_publish({due}, {blocked}, {ahead})"))?;
    ground.sql("VACUUM (ANALYZE) slotkeeper.publication")?;
    ground.sql("VACUUM (ANALYZE) slotkeeper.published")?;
    ground.settle()
}

fn run(ground: &Ground<'_>, script: &str, clients: u32, until: Until) -> Result<f64> {
    let run = Run {
        script,
        clients,
        until,
        variables: &[],
        setting: None,
    };
    Ok(ground.pgbench(&run, &State::SPREAD)?.rate)
}

/// Contents per second.
fn whole(ground: &mut Ground<'_>, ours: bool, at_once: u32) -> Result<f64> {
    let seconds = ground.pace.seconds;
    // More than any machine gets through.
    let enough = seconds * if at_once == 1 { 20_000 } else { 60_000 };
    let script = match (ours, at_once) {
        (true, 1) => "publish.sql",
        (true, _) => "publish_50.sql",
        (false, 1) => "pgmq.sql",
        (false, _) => "pgmq_50.sql",
    };
    if ours {
        arrange(ground, (enough, 0, 0))?;
    } else {
        ground.sql(&format!(
            "TRUNCATE pgmq.q_q, pgmq.a_q;
             SELECT count(*) FROM generate_series(1, {enough}) AS i, LATERAL pgmq.send('q', jsonb_build_object('content_id', i))"
        ))?;
        ground.sql("VACUUM (ANALYZE) pgmq.q_q")?;
        ground.checkpoint()?;
    }
    let rate = run(ground, script, 16, Until::Seconds(seconds))?;
    Ok(rate * f64::from(at_once))
}

/// Microseconds of one claim of one content by one client.
fn claims(ground: &mut Ground<'_>, booked: Booked) -> Result<f64> {
    arrange(ground, booked)?;
    let run = Run {
        script: "claim.sql",
        clients: 1,
        until: Until::Transactions(500),
        variables: &[],
        setting: None,
    };
    let said = ground.pgbench(&run, &State::SPREAD)?;
    let claimed: i64 = ground.one("SELECT count(*) FROM slotkeeper.publication")?;
    ensure!(claimed == 500, "{claimed} contents were claimed by 500 claims");
    Ok(1e6 / said.rate)
}

/// Calls per second.
fn idle(ground: &mut Ground<'_>, ours: bool) -> Result<f64> {
    if ours {
        arrange(ground, (0, 0, 10_000))?;
    }
    let script = if ours { "claim.sql" } else { "select_1.sql" };
    run(ground, script, 16, Until::Seconds(ground.pace.seconds))
}

/// Contents per second, of many.
fn many(ground: &mut Ground<'_>, old_snapshot: bool) -> Result<f64> {
    let contents = MANY.min(ground.pace.far * 3 / 10);
    arrange(ground, (contents, 0, 0))?;
    let mut holder = ground.connect()?;
    if old_snapshot {
        holder.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")?;
    }
    let versions = "SELECT sum(n_tup_ins + n_tup_upd)::bigint FROM pg_stat_user_tables
                    WHERE schemaname = 'slotkeeper' AND relname IN ('booking', 'publication', 'published', 'attempt')";
    let settled = "SELECT pg_sleep(1.1), pg_stat_clear_snapshot()";
    ground.sql(settled)?;
    let before: i64 = ground.one(versions)?;
    let rate = run(ground, "publish_50.sql", 16, Until::Transactions(contents / 50 / 16))?;
    ground.sql(settled)?;
    let written: i64 = ground.one::<i64>(versions)? - before;
    let published: i64 = ground.one("SELECT count(*) FROM slotkeeper.published")?;
    ensure!(
        published >= i64::from(contents) - 800 && written <= 4 * published,
        "{published} of {contents} contents were published, with {written} row versions"
    );
    let each = f64::from(i32::try_from(written)?) / f64::from(i32::try_from(published)?);
    println!("  {published} contents published, {each:.2} row versions each");
    Ok(rate * 50.0)
}
