//! `cargo xtask`: builds slotkeeper, runs it in a private PostgreSQL, shows, tests, measures and packages it.
//!
//! Nothing here touches a PostgreSQL cluster of the system or anything in the user's home. Everything lives in
//! cargo's target folder, in one folder per PostgreSQL version (see [`host::Host`]).

mod bench;
mod build;
mod cluster;
mod demo;
mod host;
mod package;
mod process;
mod tests;
mod ui;

use std::process::ExitCode;

use anyhow::Result;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::cluster::{Cluster, Settings};
use crate::host::Host;

/// The PostgreSQL that is meant where none is named.
pub(crate) const DEFAULT_PG: u32 = 15;

/// Build, try, test, measure and package slotkeeper.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Common {
    /// Which PostgreSQL
    #[arg(long, global = true, default_value_t = DEFAULT_PG, value_parser = PossibleValuesParser::new(["15", "17", "18"]).try_map(|text| text.parse::<u32>()))]
    pg: u32,
    /// Build the extension without optimisation: quicker to build, not for measuring
    #[arg(long, global = true)]
    debug: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Find or install PostgreSQL, its headers, clang and cargo-pgrx (every other command does this too)
    Setup,
    /// Build the extension into the target folder
    Build,
    /// Show what slotkeeper does on real collisions, in a private PostgreSQL
    Demo,
    /// Start the private PostgreSQL with the extension in it and print how to connect
    Start,
    /// Open psql on the demo database, starting it where needed
    Psql {
        /// Recreate the database first
        #[arg(long)]
        fresh: bool,
        /// Arguments for psql
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Stop every private PostgreSQL of this checkout
    Stop,
    /// Stop them and delete their data
    Clean,
    /// Run the tests
    Test(tests::Options),
    /// Measure against the plain PL/pgSQL twins
    Bench(bench::Options),
    /// Install the extension into the system's PostgreSQL
    Install,
    /// Make a tar.gz of the files to install
    Package,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            ui::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let open = || Host::open(cli.common.pg, cli.common.debug);
    match cli.command {
        Command::Setup => {
            let host = open()?;
            host.setup()?;
            host.describe();
        }
        Command::Build => {
            let built = build::build(&open()?)?;
            ui::done(&format!("built: {}", built.display()));
        }
        Command::Demo => return demo::run(&open()?),
        Command::Start => {
            let host = open()?;
            let cluster = demo_cluster(&host, false)?;
            cluster.say_how_to_connect(&host, demo::DATABASE);
        }
        Command::Psql { fresh, args } => {
            let host = open()?;
            let cluster = demo_cluster(&host, fresh)?;
            let mut psql = cluster.psql(demo::DATABASE);
            let status = process::status(psql.args(args), "psql")?;
            return Ok(u8::try_from(status.code().unwrap_or(1)).map_or(ExitCode::FAILURE, ExitCode::from));
        }
        Command::Stop => cluster::stop_all(false)?,
        Command::Clean => cluster::stop_all(true)?,
        Command::Test(options) => return tests::run(&open()?, &options),
        Command::Bench(options) => return bench::run(&open()?, &options),
        Command::Install => build::install_into_system(&open()?)?,
        Command::Package => package::run(&open()?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The demo's cluster, running, with the demo's database and the extension in it.
fn demo_cluster(host: &Host, fresh: bool) -> Result<Cluster> {
    let built = build::build(host)?;
    let cluster = Cluster::open(host, "demo", &Settings::default())?;
    if fresh || !cluster.has_database(demo::DATABASE)? {
        cluster.recreate_database(demo::DATABASE, true)?;
    } else if cluster.extension_is_stale(demo::DATABASE, &built)? {
        ui::note(&format!(
            "the extension's SQL has changed since this database was made; `{}` recreates it",
            host.xtask("psql --fresh")
        ));
    }
    Ok(cluster)
}
