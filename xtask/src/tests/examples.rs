//! The examples in `examples/`, each against a database of its own, by Node's test runner.

use anyhow::{Context as _, Result, bail};

use super::{Context, Outcome};
use crate::{host, process, ui};

/// The database that the examples get anew.
const DATABASE: &str = "slotkeeper_examples";

/// Installs what the examples depend on, as their lock file says, and runs their tests.
pub(super) fn run(context: &Context<'_>) -> Result<Outcome> {
    let folder = context.host.repo.root.join("examples");
    host::need(context.host.pg.major, &[("node", "nodejs"), ("npm", "npm")])?;
    let (Some(node), Some(npm)) = (host::find_program("node"), host::find_program("npm")) else {
        bail!("node and npm are not there although they were installed");
    };
    ui::step("npm ci", || {
        let mut ci = process::command(&npm);
        ci.arg("ci").current_dir(&folder);
        process::output(&mut ci, "npm ci").map(drop)
    })?;
    let cluster = context.cluster()?;
    cluster.recreate_database(DATABASE, true)?;
    let mut test = process::command(&node);
    test.args(["--test", "--test-concurrency=1", "--test-reporter=tap"]);
    test.args(&context.options.names);
    test.current_dir(&folder)
        .env("PGHOST", cluster.sockets())
        .env("PGPORT", cluster.port().to_string())
        .env("PGUSER", "postgres")
        .env("PGDATABASE", DATABASE);
    let (status, lines) = process::tee(&mut test, "node --test")?;
    // The last of these lines is the sum.
    let count = |label: &str| -> Result<u32> {
        let line = lines.iter().rev().find_map(|line| line.strip_prefix(label));
        line.and_then(|number| number.trim().parse().ok())
            .with_context(|| format!("node --test did not say \"{label}\""))
    };
    let mut outcome = Outcome {
        passed: count("# pass ")?,
        failed: count("# fail ")? + count("# cancelled ")?,
        skipped: count("# skipped ")?,
        ..Outcome::default()
    };
    if outcome.skipped > 0 {
        outcome.remark = "tests that need a newer Node.js; their lines above say which".to_owned();
    }
    if outcome.passed == 0 || (!status.success() && outcome.failed == 0) {
        outcome.failed += 1;
        outcome.remark = "no test ran, or node did not end well".to_owned();
    }
    Ok(outcome)
}
