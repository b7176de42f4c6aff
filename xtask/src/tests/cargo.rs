//! What cargo runs: the linters, the tests of the core, the tests over real connections.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::operators::bare_operators;
use super::{Context, Outcome};
use crate::cluster::{Cluster, Settings};
use crate::{build, host as tools, process, ui};

fn cargo(context: &Context<'_>) -> Command {
    let mut cargo = process::command("cargo");
    cargo.current_dir(&context.host.repo.root);
    cargo.env("CARGO_TARGET_DIR", &context.host.repo.target);
    cargo.env("PGRX_HOME", context.host.pgrx_home());
    if ui::fancy() {
        cargo.env("CARGO_TERM_COLOR", "always");
    }
    cargo
}

/// cargo fmt and clippy, of which one that isn't installed is skipped, with a word; and a rule of our own.
pub(super) fn lint(context: &Context<'_>) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut missing = Vec::new();
    if process::succeeds(cargo(context).args(["fmt", "--version"])) {
        let formatted = process::status(cargo(context).args(["fmt", "--all", "--check"]), "cargo fmt")?.success();
        say("cargo fmt --all --check", formatted);
        outcome.count(formatted);
    } else {
        missing.push("rustfmt");
    }
    if process::succeeds(cargo(context).args(["clippy", "--version"])) {
        // clippy compiles pgrx, which asks for a set up PGRX_HOME.
        context.host.setup()?;
        let mut clippy = cargo(context);
        clippy.args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--no-default-features",
            "--features",
        ]);
        clippy.arg(format!("pg{}", context.host.pg.major));
        if tools::rustc_is_older() {
            clippy.arg("--ignore-rust-version");
        }
        clippy.args(["--", "-D", "warnings"]);
        let clean = process::status(&mut clippy, "cargo clippy")?.success();
        say("cargo clippy -- -D warnings", clean);
        outcome.count(clean);
    } else {
        missing.push("clippy");
    }
    let bare = bare_operators(&context.host.repo.root.join("src"))?;
    for place in &bare {
        println!("{place}");
    }
    say("operators in SQL are qualified", bare.is_empty());
    outcome.count(bare.is_empty());
    if !missing.is_empty() {
        outcome.skipped = 1;
        outcome.remark = format!("{} not installed (rustup component add {0})", missing.join(" "));
    }
    Ok(outcome)
}

fn say(what: &str, passed: bool) {
    if passed { ui::done(what) } else { ui::failed(what) }
}

/// The decisions without PostgreSQL, and this tool's own.
pub(super) fn core(context: &Context<'_>) -> Result<Outcome> {
    let mut test = cargo(context);
    // The dev profile: compiling with the release profile's LTO takes longer than the tests save.
    test.args([
        "test",
        "--package",
        "slotkeeper-core",
        "--package",
        "xtask",
        "--no-fail-fast",
    ]);
    run(test, context, "cargo test of the core")
}

/// The tests over real connections. Each makes a database of its own; the variables below say where and with what.
pub(super) fn client(context: &Context<'_>) -> Result<Outcome> {
    let host = context.host;
    let cluster = context.cluster()?;
    // For the tests that kill and restart a server: one that nobody else uses.
    let crash = Cluster::open(host, "crash", &Settings::for_tests())?;
    let scratch = host.run_dir.join("scratch");
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch).with_context(|| format!("cannot empty {}", scratch.display()))?;
    }
    std::fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let settings = match build::lookup(host)? {
        build::Lookup::Settings(lines) => lines,
        build::Lookup::System => String::new(),
    };
    let settings_file = scratch.join("extension.conf");
    std::fs::write(&settings_file, settings).context("cannot write the tests' settings")?;
    host.give_to_server(&scratch)?;

    tools::need(host.pg.major, &[("pgbouncer", "pgbouncer")])?;
    let pgbouncer = tools::find_program("pgbouncer").context("pgbouncer is not there although it was installed")?;

    let cron = if tools::have_pg_cron(&host.pg)? {
        let mut settings = Settings::for_tests();
        settings.extra += "shared_preload_libraries = 'pg_cron'\ncron.use_background_workers = on\n";
        Some(Cluster::open(host, "cron", &settings)?)
    } else {
        ui::note(&format!(
            "this system has no pg_cron for PostgreSQL {}: the test of the line in the documentation is SKIPPED",
            host.pg.major
        ));
        None
    };

    let mut test = cargo(context);
    test.env("SLOTKEEPER_TEST_URL", cluster.url("postgres"))
        .env("SLOTKEEPER_TEST_SOCKETS", cluster.sockets())
        .env("SLOTKEEPER_TEST_PORT", cluster.port().to_string())
        .env("SLOTKEEPER_TEST_DATA", cluster.data())
        .env("SLOTKEEPER_CRASH_URL", crash.url("postgres"))
        .env("SLOTKEEPER_CRASH_DATA", crash.data())
        .env("SLOTKEEPER_CRASH_LOG", crash.log())
        .env("SLOTKEEPER_PG_BIN", &host.pg.bindir)
        .env("SLOTKEEPER_PG_MAJOR", host.pg.major.to_string())
        .env(
            "SLOTKEEPER_RUN_AS",
            host.run_as.as_ref().map_or("", |user| user.name.as_str()),
        )
        .env("SLOTKEEPER_EXTENSION_CONF", &settings_file)
        .env("SLOTKEEPER_PGBOUNCER", pgbouncer)
        .env(
            "SLOTKEEPER_CRON_URL",
            cron.map_or_else(String::new, |cron| cron.url("postgres")),
        )
        .env("SLOTKEEPER_SCRATCH", &scratch);
    test.args(["test", "--package", "slotkeeper-client-tests"]);
    test.args(["--package", "slotkeeper-worker-example", "--no-fail-fast"]);
    run(test, context, "cargo test of the clients")
}

/// Runs cargo test and adds up its closing lines.
fn run(mut test: Command, context: &Context<'_>, what: &str) -> Result<Outcome> {
    if !context.options.names.is_empty() {
        test.arg("--").args(&context.options.names);
    }
    let (status, lines) = process::tee(&mut test, what)?;
    let mut outcome = Outcome::default();
    for line in lines.iter().filter(|line| line.contains("test result:")) {
        outcome.passed += number_before(line, " passed");
        outcome.failed += number_before(line, " failed");
    }
    if !status.success() && outcome.failed == 0 {
        outcome.failed = 1;
        outcome.remark = "it did not compile, or did not end by itself".to_owned();
    }
    Ok(outcome)
}

fn number_before(line: &str, word: &str) -> u32 {
    let before = line.split(word).next().unwrap_or_default();
    before
        .rsplit(|c: char| !c.is_ascii_digit())
        .next()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}
