//! One run of pgbench and what it says.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::cluster::Cluster;
use crate::host::Host;
use crate::process;

/// How to run pgbench here.
pub(crate) struct Pgbench {
    program: PathBuf,
    scripts: PathBuf,
    threads: String,
}

/// How long one run takes.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    Seconds(u32),
    /// So many seconds, after as many that only warm the sessions up.
    Warm(u32),
    Transactions(u32),
}

/// What one run is told.
pub(crate) struct Run<'a> {
    /// A file below benches/pgbench.
    pub(crate) script: &'a str,
    pub(crate) clients: u32,
    pub(crate) until: Until,
    /// The scripts' variables.
    pub(crate) variables: &'a [(&'a str, String)],
    /// Settings of the sessions, such as `synchronous_commit=off`.
    pub(crate) setting: Option<&'a str>,
}

/// What one run says.
pub(crate) struct Said {
    pub(crate) transactions: i64,
    /// Per second, the time to connect and to warm up left out.
    pub(crate) rate: f64,
    /// Mean milliseconds of each line of the script, in order.
    pub(crate) latencies: Vec<(f64, String)>,
}

impl Pgbench {
    pub(crate) fn of(host: &Host) -> Result<Self> {
        let program = host.pg.program("pgbench");
        if !program.is_file() {
            bail!("{} is not there", program.display());
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            program,
            scripts: host.repo.root.join("benches").join("pgbench"),
            threads: cores.min(4).to_string(),
        })
    }

    /// Runs a script; any failed transaction is an error.
    pub(crate) fn run(&self, cluster: &Cluster, database: &str, run: &Run<'_>) -> Result<Said> {
        let what = format!("pgbench {}", run.script);
        let mut command = process::command(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        if let Some(setting) = run.setting {
            command.env("PGOPTIONS", format!("-c {setting}"));
        }
        command.env("LC_ALL", "C");
        command.arg("--host").arg(cluster.sockets());
        command.args(["--port", &cluster.port().to_string(), "--username=postgres"]);
        command.args(["--no-vacuum", "--protocol=prepared"]);
        command.args(["--client", &run.clients.to_string()]);
        // One thread for one client: pgbench refuses more threads than clients only by a message.
        let threads = if run.clients == 1 { "1" } else { &self.threads };
        command.args(["--jobs", threads]);
        match run.until {
            Until::Seconds(seconds) => command.arg(format!("--time={seconds}")),
            Until::Warm(seconds) => command.arg(format!("--time={}", 2 * seconds)).arg("--progress=1"),
            Until::Transactions(count) => command
                .arg(format!("--transactions={count}"))
                .arg("--report-per-command"),
        };
        command.args(["--define", "i=0"]);
        for (name, value) in run.variables {
            command.arg("--define").arg(format!("{name}={value}"));
        }
        command.arg("--file").arg(self.scripts.join(run.script)).arg(database);
        let (printed, progress) = process::outputs(&mut command, &what)?;
        let mut said = said(&printed).with_context(|| what)?;
        if let Until::Warm(seconds) = run.until {
            said.rate = rate_after(seconds.into(), &progress)?;
        }
        Ok(said)
    }
}

/// The rate of all that pgbench reports of after so many seconds.
fn rate_after(seconds: f64, progress: &str) -> Result<f64> {
    let (mut last, mut counted, mut transactions) = (0.0, 0.0, 0.0);
    for line in progress.lines().filter_map(|line| line.strip_prefix("progress: ")) {
        let mut numbers = line.split(", ").filter_map(|part| part.split(' ').next()?.parse().ok());
        let (Some(until), Some(rate)) = (numbers.next(), numbers.next()) else {
            bail!("pgbench reports \"{line}\"");
        };
        // Reports come a little late: half a second tells which one begins after the warm-up.
        if last + 0.5 > seconds {
            counted += until - last;
            transactions += rate * (until - last);
        }
        last = until;
    }
    if counted == 0.0 {
        bail!("pgbench has reported nothing after {seconds} s:\n{progress}");
    }
    Ok(transactions / counted)
}

fn said(text: &str) -> Result<Said> {
    let after = |label: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(label))
            .with_context(|| format!("it did not say \"{label}\":\n{text}"))
    };
    let number = |label: &str| -> Result<&str> {
        Ok(after(label)?
            .split([' ', '/', '('])
            .find(|word| !word.is_empty())
            .unwrap_or_default())
    };
    let failed = number("number of failed transactions:")?;
    if failed != "0" {
        bail!("{failed} transactions failed");
    }
    let latencies = text.lines().filter_map(|line| {
        let mut words = line.trim_start().splitn(2, ' ');
        let milliseconds = words.next()?.parse().ok()?;
        // The second column counts failures.
        let rest = words.next()?.trim_start().split_once(' ')?.1;
        Some((milliseconds, rest.trim().to_owned()))
    });
    Ok(Said {
        transactions: number("number of transactions actually processed:")?.parse()?,
        rate: number("tps =")?.parse()?,
        latencies: latencies.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_pgbench_prints() {
        let text = "\
transaction type: ahead.sql
number of transactions actually processed: 1000/1000
number of failed transactions: 0 (0.000%)
latency average = 0.652 ms
tps = 1534.25 (without initial connection time)
statement latencies in milliseconds and failures:
         0.001           0  \\set i :i + 1
         0.310           0  SELECT near();";
        let said = said(text).unwrap();
        assert_eq!(said.transactions, 1000);
        assert!((said.rate - 1534.25).abs() < 1e-9);
        assert_eq!(said.latencies[1], (0.310, "SELECT near();".to_owned()));
    }

    #[test]
    fn leaves_the_warm_up_out() {
        let progress = "\
pgbench (15.8)
progress: 1.0 s, 100.0 tps, lat 1.643 ms stddev 1.044, 0 failed
progress: 2.1 s, 200.0 tps, lat 1.259 ms stddev 0.509, 0 failed
progress: 3.1 s, 300.0 tps, lat 1.354 ms stddev 0.510, 0 failed
progress: 4.1 s, 500.0 tps, lat 1.368 ms stddev 0.591, 0 failed";
        assert!((rate_after(2.0, progress).unwrap() - 400.0).abs() < 1e-9);
        assert!((rate_after(0.0, progress).unwrap() - 1120.0 / 4.1).abs() < 1e-9);
        assert!(rate_after(5.0, progress).is_err());
        assert!(rate_after(0.0, "progress: soon").is_err());
    }

    #[test]
    fn a_failed_transaction_is_an_error() {
        let text = "number of transactions actually processed: 9/10\nnumber of failed transactions: 1 (10.000%)\n\
                    tps = 1.5 (without initial connection time)";
        assert!(said(text).is_err());
    }
}
