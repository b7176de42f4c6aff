//! `cargo xtask test`: every kind of test, one runner each, in order; one closing line.

mod cargo;
mod docs;
mod examples;
mod operators;
mod regress;

use std::fmt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::cluster::{Cluster, Settings};
use crate::host::Host;
use crate::{build, ui};

/// What `cargo xtask test` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Run only these kinds
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Take the results of failed regress and isolation tests as the expected ones
    #[arg(long)]
    accept: bool,
    /// Only the tests of these names (regress, isolation), of these files (docs), or with this in their name (cargo)
    names: Vec<String>,
}

/// In the order in which they run: the quickest to fail first.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// cargo fmt and clippy
    Lint,
    /// The decisions without PostgreSQL: plain and property tests
    Core,
    /// Outputs and SQLSTATEs, by PostgreSQL's pg_regress
    Regress,
    /// Races, each as a permutation, by PostgreSQL's isolation tester
    Isolation,
    /// Real connections in parallel, crashes, dump and restore
    Client,
    /// Every SQL block of README.md and docs/
    Docs,
    /// What is in examples/, by Node's test runner
    Examples,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lint => "lint",
            Self::Core => "core",
            Self::Regress => "regress",
            Self::Isolation => "isolation",
            Self::Client => "client",
            Self::Docs => "docs",
            Self::Examples => "examples",
        })
    }
}

impl Kind {
    /// cargo's runner closes each of its runs with a line of its own; the closing line counts the others.
    fn counted_by_cargo(self) -> bool {
        matches!(self, Self::Core | Self::Client)
    }

    fn needs_server(self) -> bool {
        matches!(
            self,
            Self::Regress | Self::Isolation | Self::Client | Self::Docs | Self::Examples
        )
    }
}

/// What one kind came to.
#[derive(Default)]
struct Outcome {
    passed: u32,
    failed: u32,
    skipped: u32,
    remark: String,
}

impl Outcome {
    fn skipped(remark: impl Into<String>) -> Self {
        Self {
            skipped: 1,
            remark: remark.into(),
            ..Self::default()
        }
    }

    fn count(&mut self, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }
}

/// What the runners get.
struct Context<'a> {
    host: &'a Host,
    options: &'a Options,
}

impl Context<'_> {
    /// The tests' server, with the extension in reach.
    fn cluster(&self) -> Result<Cluster> {
        Cluster::open(self.host, "test", &Settings::for_tests())
    }
}

/// Runs all kinds, or those asked for, even when one fails.
pub(crate) fn run(host: &Host, options: &Options) -> Result<ExitCode> {
    let kinds: Vec<Kind> = Kind::value_variants()
        .iter()
        .copied()
        .filter(|kind| options.only.is_empty() || options.only.contains(kind))
        .collect();
    let context = Context { host, options };
    let mut results: Vec<(Kind, Outcome, Duration)> = Vec::new();
    let mut built = None;
    for kind in kinds {
        ui::heading(&format!("{kind} (PostgreSQL {})", host.pg.major));
        let started = Instant::now();
        if kind.needs_server() && built.is_none() {
            built = Some(build::build(host).map(drop).map_err(|error| format!("{error:#}")));
            if matches!(built, Some(Ok(()))) {
                println!("extension built ({})", ui::seconds(started.elapsed()));
            }
        }
        let outcome = match &built {
            Some(Err(error)) if kind.needs_server() => Err(anyhow::anyhow!("the extension does not build: {error}")),
            _ => run_kind(kind, &context),
        };
        let outcome = outcome.unwrap_or_else(|error| {
            ui::error(&error);
            Outcome {
                failed: 1,
                remark: error.to_string(),
                ..Outcome::default()
            }
        });
        let took = started.elapsed();
        let line = format!(
            "{kind}: {} passed, {} failed in {}",
            outcome.passed,
            outcome.failed,
            ui::seconds(took)
        );
        match (outcome.failed, outcome.skipped) {
            (0, 0) => ui::done(&line),
            (0, _) => println!("- {line}; skipped: {}", outcome.remark),
            _ => ui::failed(&line),
        }
        results.push((kind, outcome, took));
    }
    close(&results);
    let ran: u32 = results
        .iter()
        .map(|(_, outcome, _)| outcome.passed + outcome.failed)
        .sum();
    if !options.names.is_empty() && ran == 0 {
        ui::failed(&format!("no test is called {}", options.names.join(" or ")));
        return Ok(ExitCode::FAILURE);
    }
    let failed = results.iter().any(|(_, outcome, _)| outcome.failed > 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn run_kind(kind: Kind, context: &Context<'_>) -> Result<Outcome> {
    match kind {
        Kind::Lint => cargo::lint(context),
        Kind::Core => cargo::core(context),
        Kind::Regress => regress::run(context, &regress::REGRESS),
        Kind::Isolation => regress::run(context, &regress::ISOLATION),
        Kind::Client => cargo::client(context),
        Kind::Docs => docs::run(context),
        Kind::Examples => examples::run(context),
    }
}

/// The table of kinds, and the line that a machine reads.
fn close(results: &[(Kind, Outcome, Duration)]) {
    ui::heading("summary");
    let mut table = ui::table(&["kind", "passed", "failed", "time", ""]);
    for (kind, outcome, took) in results {
        let remark = outcome.remark.lines().next().unwrap_or_default();
        let remark = if outcome.skipped > 0 {
            format!("skipped: {remark}")
        } else {
            remark.to_owned()
        };
        table.add_row(vec![
            kind.to_string(),
            outcome.passed.to_string(),
            outcome.failed.to_string(),
            ui::seconds(*took),
            remark,
        ]);
    }
    println!("{table}");
    let own = || {
        results
            .iter()
            .filter(|(kind, ..)| !kind.counted_by_cargo())
            .map(|(_, outcome, _)| outcome)
    };
    if own().next().is_some() {
        let passed: u32 = own().map(|outcome| outcome.passed).sum();
        let failed: u32 = own().map(|outcome| outcome.failed).sum();
        if results.iter().any(|(kind, ..)| kind.counted_by_cargo()) {
            println!("All but cargo's tests, whose closing lines are above:");
        }
        println!("{passed} passed, {failed} failed");
    }
}
