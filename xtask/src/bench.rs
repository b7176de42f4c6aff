//! Measurements against the plain PL/pgSQL twins.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use crate::host::Host;

/// What `cargo xtask bench` takes.
#[derive(Args)]
pub(crate) struct Options {}

/// Runs the benchmarks.
pub(crate) fn run(_host: &Host, _options: &Options) -> Result<ExitCode> {
    bail!("there are no benchmarks yet")
}
