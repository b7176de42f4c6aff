//! Lines about what one backend's memory has grown to after very many calls.

use anyhow::{Context, Result, ensure};
use postgres::{Client, Statement};

use crate::bench::figures::{Limit, Line, Unit, Who, thousands};
use crate::bench::ground::{Ground, State};
use crate::cluster::explained;

pub(crate) const ID: &str = "memory";
/// When memory is read first: every queue has been met and every plan been made by then.
const EARLY: u32 = 10_000;
/// So many that each has been called ten times by then.
const QUEUES: u32 = EARLY / 10;
/// What may come on top: caches of the server's own are rebuilt now and then.
const FLAT: Limit = Limit::AtMost(1.05);
/// Minutes from 1970 to the year 2084, where nobody else books.
const FREE_GRANULE: i64 = 60_000_000;

/// Bytes of a backend.
struct Sample {
    /// All memory contexts.
    contexts: f64,
    /// Anonymous memory, as the kernel counts it; not every system tells.
    anonymous: Option<f64>,
}

/// A backend that makes calls of every kind, some of which fail.
struct Caller {
    client: Client,
    pid: i32,
    assign: Statement,
    schedule: Statement,
    reschedule: Statement,
    unschedule: Statement,
    preview: Statement,
    contexts: Statement,
}

impl Caller {
    fn connect(ground: &Ground<'_>) -> Result<Self> {
        let mut client = ground.connect()?;
        // What is measured here is not the disk.
        client.batch_execute("SET synchronous_commit = off")?;
        let pid = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
        let assign = "SELECT slotkeeper.assign_next_available_slot($1::text, 'tiktok', $2::text)->>'outcome'";
        let schedule = "SELECT slotkeeper.schedule_content($1::text, 'tiktok', $2::text,
                                                           to_timestamp($3::bigint * 60.0))->>'outcome'";
        let reschedule = "SELECT slotkeeper.reschedule_content($1::text, to_timestamp($2::bigint * 60.0))->>'outcome'";
        let preview = "SELECT count(*) FROM slotkeeper.preview_slots($1::text, 'tiktok')";
        Ok(Self {
            pid,
            assign: client.prepare(assign)?,
            schedule: client.prepare(schedule)?,
            reschedule: client.prepare(reschedule)?,
            unschedule: client.prepare("SELECT slotkeeper.unschedule_content($1::text)->>'outcome'")?,
            preview: client.prepare(preview)?,
            contexts: client.prepare("SELECT sum(total_bytes)::float8 FROM pg_backend_memory_contexts")?,
            client,
        })
    }

    /// The n-th call: of ten, five assign, one repeats, one schedules, one moves, one unschedules, one only looks or
    /// fails.
    fn call(&mut self, n: u32) -> Result<()> {
        let queue = format!("{}-{}", State::SPREAD.queues_name, n / 10 % QUEUES + 1);
        let content = |n: u32| format!("m-{n}");
        let granule = FREE_GRANULE + i64::from(n);
        let replied = match n % 10 {
            0..=4 => (self.client.query_one(&self.assign, &[&queue, &content(n)]), "assigned"),
            5 => (
                self.client.query_one(&self.assign, &[&queue, &content(n - 1)]),
                "already_assigned",
            ),
            6 => (
                self.client.query_one(&self.schedule, &[&queue, &content(n), &granule]),
                "scheduled",
            ),
            7 => (
                self.client.query_one(&self.reschedule, &[&content(n - 1), &granule]),
                "scheduled",
            ),
            8 => (
                self.client.query_one(&self.unschedule, &[&content(n - 2)]),
                "unscheduled",
            ),
            _ if n % 20 == 9 => {
                let slots: i64 = self
                    .client
                    .query_one(&self.preview, &[&queue])
                    .map_err(explained)?
                    .get(0);
                ensure!(slots == 10, "preview_slots gave {slots}");
                return Ok(());
            }
            _ => {
                let failed = self.client.query_one(&self.assign, &[&"nobody", &content(n)]);
                let state = failed
                    .err()
                    .and_then(|error| Some(error.as_db_error()?.code().code().to_owned()));
                ensure!(
                    state.as_deref() == Some("42704"),
                    "an unknown queue was answered {state:?}"
                );
                return Ok(());
            }
        };
        let (row, expected) = replied;
        let outcome: String = row.map_err(explained)?.get(0);
        ensure!(outcome == expected, "call {n} was answered {outcome}, not {expected}");
        Ok(())
    }

    fn sample(&mut self) -> Result<Sample> {
        let contexts = self.client.query_one(&self.contexts, &[])?.get(0);
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let anonymous = status
            .lines()
            .find_map(|line| {
                line.strip_prefix("RssAnon:")?
                    .trim()
                    .strip_suffix(" kB")?
                    .trim()
                    .parse::<f64>()
                    .ok()
            })
            .map(|kilobytes| kilobytes * 1024.0);
        Ok(Sample { contexts, anonymous })
    }
}

/// Two lines, or one where the kernel does not tell.
pub(crate) fn measure(ground: &mut Ground<'_>, mut tell: impl FnMut(&str)) -> Result<Vec<Line>> {
    let calls = ground.pace.calls;
    ground.arrange(&State::EMPTY)?;
    let mut caller = Caller::connect(ground)?;
    let mut early = None;
    for n in 0..calls {
        caller.call(n)?;
        let made = n + 1;
        if made == EARLY / 2 {
            // Reading needs memory of its own the first time.
            caller.sample()?;
        }
        if made == EARLY || made % (calls / 5) == 0 {
            let sample = caller.sample()?;
            let anonymous = sample
                .anonymous
                .map_or_else(String::new, |bytes| format!(", RssAnon {}", Unit::Bytes.show(bytes)));
            let contexts = Unit::Bytes.show(sample.contexts);
            tell(&format!(
                "after {} calls: contexts {contexts}{anonymous}",
                thousands(made.into())
            ));
            early.get_or_insert(sample);
        }
    }
    let (early, late) = (early.context("too few calls")?, caller.sample()?);
    let line = |id: &str, what: &str, early: f64, late: f64| Line {
        id: id.to_owned(),
        title: format!("{what} of a backend after {} calls", thousands(calls.into())),
        unit: Unit::Bytes,
        baseline: format!("after {}", thousands(EARLY.into())),
        required: Some(FLAT),
        required_of_twin: None,
        rounds: vec![vec![(Who::Slotkeeper, late), (Who::Baseline, early)]],
    };
    let mut lines = vec![line(ID, "memory contexts", early.contexts, late.contexts)];
    if let (Some(early), Some(late)) = (early.anonymous, late.anonymous) {
        lines.push(line("memory-rss", "anonymous memory", early, late));
    }
    Ok(lines)
}
