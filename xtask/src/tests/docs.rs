//! Every SQL block of README.md and docs/*.md, run as a reader would: in order, one psql session and one fresh
//! database per file.
//!
//! - A block directly followed by a `text` block must print exactly that (`…` stands for anything within a line).
//! - A block marked `sql,error=22023` must raise that SQLSTATE; any other must raise nothing.
//! - A block marked `sql,no-run` is not run.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};

use super::{Context, Outcome};
use crate::cluster::Cluster;
use crate::ui;

/// The database that each file gets anew.
const DATABASE: &str = "slotkeeper_docs";
/// No block of the docs may take longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// One block to run.
struct Block {
    line: usize,
    sql: String,
    error: Option<String>,
    prints: Option<String>,
}

/// Runs all files, or those whose path holds one of the names given.
pub(super) fn run(context: &Context<'_>) -> Result<Outcome> {
    let root = &context.host.repo.root;
    let mut files: Vec<PathBuf> = fs::read_dir(root.join("docs"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .collect();
    files.sort();
    files.insert(0, root.join("README.md"));
    let mut outcome = Outcome::default();
    let mut blocks_found = 0;
    for file in files.iter().filter(|file| file.is_file()) {
        let shown = file.strip_prefix(root).unwrap_or(file).display().to_string();
        let names = &context.options.names;
        if !names.is_empty() && !names.iter().any(|name| shown.contains(name)) {
            continue;
        }
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
        let blocks = parse(&text).with_context(|| shown.clone())?;
        blocks_found += blocks.len();
        if blocks.is_empty() {
            continue;
        }
        let cluster = context.cluster()?;
        cluster.recreate_database(DATABASE, true)?;
        run_file(&cluster, &shown, &blocks, &mut outcome)?;
    }
    if blocks_found == 0 {
        return Ok(Outcome::skipped("no SQL blocks in README.md and docs/"));
    }
    Ok(outcome)
}

fn run_file(cluster: &Cluster, shown: &str, blocks: &[Block], outcome: &mut Outcome) -> Result<()> {
    let mut session = Session::start(cluster)?;
    let mut failures = 0;
    for block in blocks {
        let result = match session.run(&block.sql) {
            Ok(reply) => judge(block, &reply),
            Err(error) => {
                session = Session::start(cluster)?;
                Err(format!("{error:#}"))
            }
        };
        outcome.count(result.is_ok());
        if let Err(why) = result {
            failures += 1;
            ui::failed(&format!("{shown}:{}", block.line));
            for line in why.lines() {
                println!("    {line}");
            }
        }
    }
    let line = format!("{shown}: {} of {} blocks", blocks.len() - failures, blocks.len());
    if failures == 0 {
        ui::done(&line)
    } else {
        ui::failed(&line)
    }
    Ok(())
}

/// What a block printed, and the SQLSTATE of its last error.
struct Reply {
    stdout: String,
    stderr: String,
    sqlstate: String,
}

fn judge(block: &Block, reply: &Reply) -> Result<(), String> {
    match &block.error {
        Some(wanted) if reply.sqlstate != *wanted => {
            return Err(format!(
                "wanted SQLSTATE {wanted}, got {}\n{}",
                reply.sqlstate, reply.stderr
            ));
        }
        None if reply.sqlstate != "00000" || reply.stderr.contains("ERROR:") => {
            return Err(format!("SQLSTATE {}\n{}", reply.sqlstate, reply.stderr));
        }
        _ => {}
    }
    let Some(wanted) = &block.prints else {
        return Ok(());
    };
    let both = format!("{}\n{}", reply.stderr, reply.stdout);
    if [&reply.stdout, &both].iter().any(|printed| matches(wanted, printed)) {
        return Ok(());
    }
    let shown = if reply.stderr.is_empty() { &reply.stdout } else { &both };
    Err(format!("it should print\n{wanted}\nbut printed\n{shown}"))
}

/// Line by line without what trails; `…` in a wanted line stands for anything.
fn matches(wanted: &str, printed: &str) -> bool {
    let lines = |text: &str| -> Vec<String> { text.trim().lines().map(|line| line.trim().to_owned()).collect() };
    let (wanted, printed) = (lines(wanted), lines(printed));
    wanted.len() == printed.len()
        && wanted
            .iter()
            .zip(&printed)
            .all(|(wanted, printed)| line_matches(wanted, printed))
}

fn line_matches(wanted: &str, printed: &str) -> bool {
    let mut parts = wanted.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// One psql for a whole file, so that settings, transactions and variables last from block to block.
struct Session {
    psql: Child,
    stdin: ChildStdin,
    lines: Receiver<(bool, String)>,
    blocks: u32,
}

impl Session {
    fn start(cluster: &Cluster) -> Result<Self> {
        let mut command = cluster.psql(DATABASE);
        command
            .args(["--no-psqlrc", "--quiet"])
            .env("PGOPTIONS", "-c statement_timeout=30s")
            .env("LC_ALL", "C.UTF-8");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut psql = command.spawn().context("cannot run psql")?;
        let missing = || anyhow!("psql has no standard streams");
        let stdin = psql.stdin.take().ok_or_else(missing)?;
        let stdout = psql.stdout.take().ok_or_else(missing)?;
        let stderr = psql.stderr.take().ok_or_else(missing)?;
        let (sender, lines) = channel();
        let errors = sender.clone();
        std::thread::spawn(move || {
            BufReader::new(stdout)
                .lines()
                .map_while(Result::ok)
                .all(|line| sender.send((false, line)).is_ok())
        });
        std::thread::spawn(move || {
            BufReader::new(stderr)
                .lines()
                .map_while(Result::ok)
                .all(|line| errors.send((true, line)).is_ok())
        });
        Ok(Self {
            psql,
            stdin,
            lines,
            blocks: 0,
        })
    }

    fn run(&mut self, sql: &str) -> Result<Reply> {
        self.blocks += 1;
        let mark = format!("-- end of block {}", self.blocks);
        let script = format!(
            "\\set LAST_ERROR_SQLSTATE 00000\n{}\n;\n\\echo '{mark}' :LAST_ERROR_SQLSTATE\n\\warn '{mark}'\n",
            sql.trim_end().trim_end_matches(';')
        );
        self.stdin
            .write_all(script.as_bytes())
            .and_then(|()| self.stdin.flush())
            .context("psql has ended")?;
        let mut reply = Reply {
            stdout: String::new(),
            stderr: String::new(),
            sqlstate: String::new(),
        };
        let (mut out, mut err) = (false, false);
        while !(out && err) {
            let Ok((is_error, line)) = self.lines.recv_timeout(PATIENCE) else {
                bail!("psql does not answer, or has ended\n{}", reply.stderr);
            };
            match (is_error, line.strip_prefix(&mark)) {
                (true, Some(_)) => err = true,
                (false, Some(state)) => {
                    out = true;
                    state.trim().clone_into(&mut reply.sqlstate);
                }
                (true, None) => reply.stderr += &(line + "\n"),
                (false, None) => reply.stdout += &(line + "\n"),
            }
        }
        Ok(reply)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.psql.kill().ok();
        self.psql.wait().ok();
    }
}

/// The SQL blocks of a Markdown text, with what is said about them.
fn parse(text: &str) -> Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    // Whether only blank lines have come since the last SQL block that runs.
    let mut directly_after = false;
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let trimmed = line.trim_start();
        let Some(info) = trimmed.strip_prefix("```") else {
            directly_after &= trimmed.is_empty();
            continue;
        };
        let indent = line.len() - trimmed.len();
        let mut body = String::new();
        loop {
            let Some((_, line)) = lines.next() else {
                bail!("line {}: this block does not end", index + 1)
            };
            if line.trim() == "```" {
                break;
            }
            body += line.get(indent..).unwrap_or_else(|| line.trim_start());
            body.push('\n');
        }
        let mut words = info.trim().split(',').map(str::trim);
        match words.next() {
            Some("sql") => {
                let mut block = Block {
                    line: index + 1,
                    sql: body,
                    error: None,
                    prints: None,
                };
                directly_after = true;
                for word in words {
                    match word.split_once('=') {
                        Some(("error", state)) => block.error = Some(state.to_owned()),
                        _ if word == "no-run" => directly_after = false,
                        _ => bail!(
                            "line {}: `{word}` after ```sql is neither error=SQLSTATE nor no-run",
                            index + 1
                        ),
                    }
                }
                if directly_after {
                    blocks.push(block);
                }
            }
            Some("text") if directly_after => {
                if let Some(block) = blocks.last_mut() {
                    block.prints = Some(body);
                }
                directly_after = false;
            }
            _ => directly_after = false,
        }
    }
    Ok(blocks)
}
