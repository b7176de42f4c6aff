//! `cargo xtask bench`: slotkeeper against bare statements and against the plain PL/pgSQL twin.
//!
//! Everything runs in a private server with default durability. The variants of one line take turns within one run,
//! so that a busy machine slows down all of them; only ratios are promised. `benches/` has what is run, and
//! [`report::markdown`] says how.

mod ahead;
mod batch;
mod bindings;
mod figures;
mod ground;
mod memory;
mod peers;
mod pgbench;
mod plot;
mod publish;
mod rates;
mod report;
mod requests;
mod slugs;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::bench::figures::{Line, Unit, Who};
use crate::bench::ground::{Ground, Pace};
use crate::bench::peers::Peers;
use crate::cluster::Cluster;
use crate::host::Host;
use crate::{build, ui};

/// What `cargo xtask bench` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Short runs, fewer rounds, a tenth of the bookings ahead: to see that all works, not to quote
    #[arg(long)]
    quick: bool,
    /// Only lines whose name contains this; `--list` shows the names
    #[arg(long, value_name = "PATTERN", default_value = "")]
    only: String,
    /// Show the lines' names and measure nothing
    #[arg(long)]
    list: bool,
    /// Measure publishing against other queues too: they are downloaded into the target folder
    #[arg(long)]
    peers: bool,
    /// Put table and plot into docs/ as well
    #[arg(long, conflicts_with_all = ["quick", "only"])]
    record: bool,
}

/// A line, or the lines that are measured in one go.
enum Job {
    Rate(rates::Rate),
    Ahead(ahead::Ahead),
    Batch(batch::Batch),
    Bound(bindings::Bound),
    Written(slugs::Written),
    Publish(publish::Publish),
    Requests(requests::Requests),
    Memory,
}

impl Job {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        all.extend(rates::REQUIRED.map(Self::Rate));
        all.extend(ahead::ALL.map(Self::Ahead));
        all.extend(batch::ALL.map(Self::Batch));
        all.extend(bindings::ALL.map(Self::Bound));
        all.extend(requests::ALL.map(Self::Requests));
        all.push(Self::Memory);
        all.extend(slugs::ALL.map(Self::Written));
        all.extend(publish::ALL.map(Self::Publish));
        all.extend(rates::FOR_INFORMATION.map(Self::Rate));
        all
    }

    fn id(&self) -> &str {
        match self {
            Self::Rate(rate) => rate.id,
            Self::Ahead(ahead) => ahead.id,
            Self::Batch(batch) => batch.id,
            Self::Bound(bound) => bound.id(),
            Self::Publish(publish) => publish.id(),
            Self::Requests(requests) => requests.id,
            Self::Memory => memory::ID,
            Self::Written(written) => written.id(),
        }
    }

    fn measure(&self, ground: &mut Ground<'_>, peers: &Peers) -> Result<Vec<Line>> {
        let tell = |unit: Unit| {
            move |round: u32, rounds: u32, values: &[(Who, f64)]| {
                let mut shown: Vec<_> = values.to_vec();
                shown.sort_by_key(|(who, _)| *who as u8);
                let shown = shown
                    .iter()
                    .map(|(who, value)| format!("{} {}", who.name(), unit.show(*value)));
                println!("  round {round} of {rounds}: {}", shown.collect::<Vec<_>>().join(", "));
            }
        };
        Ok(match self {
            Self::Rate(rate) => vec![rate.measure(ground, tell(Unit::PerSecond))?],
            Self::Ahead(ahead) => vec![ahead.measure(ground, tell(Unit::Microseconds))?],
            Self::Batch(batch) => vec![batch.measure(ground, tell(Unit::RowsPerSecond))?],
            Self::Bound(bound) => vec![bound.measure(ground, tell(bound.unit()))?],
            Self::Written(written) => vec![written.measure(ground, tell(written.unit()))?],
            Self::Publish(publish) if !publish.possible(peers) => Vec::new(),
            Self::Publish(publish) => vec![publish.measure(ground, peers, tell(publish.unit()))?],
            Self::Requests(requests) => {
                let unit = if requests.id == "request-storage" {
                    Unit::BytesEach
                } else {
                    Unit::PerSecond
                };
                vec![requests.measure(ground, tell(unit))?]
            }
            Self::Memory => memory::measure(ground, |text| println!("  {text}"))?,
        })
    }
}

/// Runs the benchmarks.
pub(crate) fn run(host: &Host, options: &Options) -> Result<ExitCode> {
    let jobs: Vec<Job> = Job::all()
        .into_iter()
        .filter(|job| job.id().contains(&options.only))
        .collect();
    if options.list {
        jobs.iter().for_each(|job| println!("{}", job.id()));
        return Ok(ExitCode::SUCCESS);
    }
    if jobs.is_empty() {
        bail!("no line's name contains \"{}\"; --list shows them", options.only);
    }
    if host.debug {
        bail!("--debug builds are not for measuring");
    }
    let pace = if options.quick { Pace::QUICK } else { Pace::FULL };
    let load = report::load_average();
    build::build(host)?;
    let cluster = ui::step("private PostgreSQL running", || {
        Cluster::open(host, "bench", &ground::settings())
    })?;
    let mut ground = ui::step("queues and tables", || Ground::prepare(host, &cluster, pace))?;
    let peers = if options.peers {
        Peers::install(host, &mut ground)?
    } else {
        Peers::default()
    };
    let mut lines = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        ui::heading(&format!("{} ({} of {})", job.id(), index + 1, jobs.len()));
        lines.extend(
            job.measure(&mut ground, &peers)
                .with_context(|| format!("measuring {}", job.id()))?,
        );
    }
    drop(ground);
    cluster.stop()?;

    ui::heading("results");
    println!("{}", report::table(&lines));
    write(host, &lines, options, &pace, load.as_deref())?;
    Ok(close(&lines, options.quick))
}

fn write(host: &Host, lines: &[Line], options: &Options, pace: &Pace, load: Option<&str>) -> Result<()> {
    let markdown = report::markdown(lines, host, pace, options.quick, load);
    let svg = plot::svg(lines)?;
    let results = host.repo.root.join("results");
    let mut files = vec![(results.join("bench.md"), &markdown), (results.join("bench.svg"), &svg)];
    let csv = report::csv(lines);
    files.push((results.join("bench.csv"), &csv));
    if options.record {
        let docs = host.repo.root.join("docs");
        files.push((docs.join("bench.md"), &markdown));
        files.push((docs.join("bench.svg"), &svg));
    }
    fs::create_dir_all(&results).with_context(|| format!("cannot create {}", results.display()))?;
    for (file, text) in files {
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        ui::done(&file.display().to_string());
    }
    Ok(())
}

/// Success where every required figure is reached. Short runs say which are not, and prove nothing.
fn close(lines: &[Line], quick: bool) -> ExitCode {
    let mut missed = false;
    for line in lines {
        for (who, limit, ratio) in line.verdicts() {
            if !limit.holds(ratio.median) {
                missed = true;
                let against = if who == Who::Twin {
                    "the PL/pgSQL twin"
                } else {
                    &line.baseline
                };
                ui::failed(&format!(
                    "{}, against {against}: {:.2}, required {}",
                    line.title,
                    ratio.median,
                    limit.show()
                ));
            }
        }
    }
    if missed && !quick {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
