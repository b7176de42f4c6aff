//! PostgreSQL's own runners, pg_regress and pg_isolation_regress, on the private test server.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Context, Outcome};
use crate::{host, process, ui};

/// One of the two runners.
pub(super) struct Runner {
    /// tests/NAME, the folder of results, the database's end.
    name: &'static str,
    /// Where a test's input is, below tests/NAME.
    inputs: &'static str,
    extension: &'static str,
    /// Where PostgreSQL's development files have the program.
    folder: &'static str,
    program: &'static str,
}

pub(super) const REGRESS: Runner = Runner {
    name: "regress",
    inputs: "sql",
    extension: "sql",
    folder: "regress",
    program: "pg_regress",
};

pub(super) const ISOLATION: Runner = Runner {
    name: "isolation",
    inputs: "specs",
    extension: "spec",
    folder: "isolation",
    program: "pg_isolation_regress",
};

/// Runs the schedule, or the tests named.
pub(super) fn run(context: &Context<'_>, runner: &Runner) -> Result<Outcome> {
    let host = context.host;
    let source = host.repo.root.join("tests").join(runner.name);
    let schedule = source.join("schedule");
    let Ok(schedule_text) = fs::read_to_string(&schedule) else {
        return Ok(Outcome::skipped(format!("tests/{}/schedule is not there", runner.name)));
    };
    all_are_scheduled(&source.join(runner.inputs), runner.extension, &schedule_text)?;
    let chosen: Vec<&str> = context
        .options
        .names
        .iter()
        .map(String::as_str)
        .filter(|name| {
            source
                .join(runner.inputs)
                .join(format!("{name}.{}", runner.extension))
                .is_file()
        })
        .collect();
    if !context.options.names.is_empty() && chosen.is_empty() {
        return Ok(Outcome::skipped("none of the tests named"));
    }
    let program = host.pg.test_program(runner.folder, runner.program)?;
    let cluster = context.cluster()?;

    // The server's user runs it and may not be able to read the checkout: it works on a copy.
    let work = host.run_dir.join(runner.name);
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("cannot empty {}", work.display()))?;
    }
    copy(&source, &work)?;
    // Both runners stop at a test without an expected file instead of showing what it printed.
    let names = if chosen.is_empty() {
        scheduled(&schedule_text)
    } else {
        chosen.clone()
    };
    for name in &names {
        let expected = work.join("expected").join(format!("{name}.out"));
        if !expected.exists() {
            fs::create_dir_all(work.join("expected")).context("cannot create the folder of expected results")?;
            fs::write(&expected, "").with_context(|| format!("cannot write {}", expected.display()))?;
        }
    }
    host::open_to_all(&work)?;
    host.give_to_server(&work)?;

    let mut command = process::as_server(&program, host.run_as.as_ref(), &work);
    command.arg(format!("--inputdir={}", work.display()));
    command.arg(format!("--outputdir={}", work.display()));
    command.arg(format!("--bindir={}", host.pg.bindir.display()));
    command.arg(format!("--host={}", cluster.sockets().display()));
    command.arg(format!("--port={}", cluster.port()));
    command.args(["--user=postgres", "--encoding=UTF8", "--load-extension=slotkeeper"]);
    command.arg(format!("--dbname=slotkeeper_{}", runner.name));
    if chosen.is_empty() {
        command.arg(format!("--schedule={}", work.join("schedule").display()));
    } else {
        command.args(&chosen);
    }
    let (status, lines) = process::tee(&mut command, runner.program)?;

    let mut outcome = Outcome::default();
    let mut failed = Vec::new();
    for (name, passed) in lines.iter().filter_map(|line| verdict(line, &names)) {
        outcome.count(passed);
        if !passed {
            failed.push(name);
        }
    }
    if !status.success() && failed.is_empty() {
        outcome.failed += 1;
        outcome.remark = format!("{} ended with {status}", runner.program);
        // It writes what its psql said into a file of its own.
        for log in ["log/initdb.log", "log/postmaster.log"] {
            if let Ok(text) = fs::read_to_string(work.join(log)) {
                println!("{text}");
            }
        }
    }
    if !failed.is_empty() {
        let diffs = work.join("regression.diffs");
        println!(
            "\n{}",
            fs::read_to_string(&diffs).unwrap_or_else(|error| format!("no {}: {error}", diffs.display()))
        );
        outcome.remark = failed.join(", ");
    }
    if context.options.accept {
        for name in &failed {
            accept(&work, &source, name)?;
        }
    } else if !failed.is_empty() {
        println!(
            "to take these results as the expected ones: {}",
            context.host.xtask(&format!("test --only {} --accept", runner.name))
        );
    }
    if outcome.passed + outcome.failed == 0 {
        bail!(
            "{} ran no test; tests/{}/schedule names none",
            runner.program,
            runner.name
        );
    }
    Ok(outcome)
}

/// The names on the schedule's `test:` lines.
fn scheduled(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("test:"))
        .flat_map(str::split_whitespace)
        .collect()
}

/// A test that no schedule names would never run.
fn all_are_scheduled(folder: &Path, extension: &str, schedule: &str) -> Result<()> {
    let scheduled = scheduled(schedule);
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        let is_test = path.extension().and_then(OsStr::to_str) == Some(extension);
        ensure!(
            !is_test || scheduled.contains(&name),
            "{} is not in the schedule",
            path.display()
        );
    }
    Ok(())
}

/// One test's name and verdict, from a line of the runner's: before 16 `test NAME ... ok`, in a group `    NAME ... ok`;
/// since then TAP, `not ok 3   - NAME   12 ms`, in a group with `+` for `-`.
fn verdict<'a>(line: &str, names: &[&'a str]) -> Option<(&'a str, bool)> {
    let find = |word: &str| names.iter().copied().find(|name| *name == word);
    let mut words = line.split_whitespace();
    match words.next()? {
        "ok" => words
            .nth(1)
            .filter(|sign| ["-", "+"].contains(sign))
            .and_then(|_| find(words.next()?))
            .map(|name| (name, true)),
        "not" if words.next() == Some("ok") => words.nth(1).and_then(|_| find(words.next()?)).map(|name| (name, false)),
        first => {
            let name = find(if first == "test" { words.next()? } else { first })?;
            let mut rest = words.filter(|word| *word != "...");
            match rest.next()? {
                "ok" => Some((name, true)),
                "FAILED" | "failed" => Some((name, false)),
                _ => None,
            }
        }
    }
}

/// Takes a test's result as the expected one.
fn accept(work: &Path, source: &Path, name: &str) -> Result<()> {
    let file = format!("{name}.out");
    let (result, expected) = (work.join("results").join(&file), source.join("expected").join(&file));
    fs::create_dir_all(source.join("expected")).context("cannot create the folder of expected results")?;
    fs::copy(&result, &expected).with_context(|| format!("cannot copy {}", result.display()))?;
    ui::done(&format!("accepted: {}", expected.display()));
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}
