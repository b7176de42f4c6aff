//! Running other programs, with errors that say which one and what it answered.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

use anyhow::{Context, Result, bail};

use crate::host::User;

/// A command without what `cargo run` put into our environment for this one program: the variables would make nested
/// builds believe that they belong to xtask.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let cargos = [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_BIN_",
            "CARGO_CRATE_",
            "CARGO_PRIMARY_",
        ];
        if cargos.iter().any(|prefix| text.starts_with(prefix)) || text == "CARGO" || text == "LD_LIBRARY_PATH" {
            command.env_remove(&name);
        }
    }
    command
}

/// A command of PostgreSQL's, as the user that runs the server and in an environment of its own: no PG… variable, no
/// locale and no backtrace setting of ours may change what a server or a test prints.
pub(crate) fn as_server(program: impl AsRef<OsStr>, user: Option<&User>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    command.env("PATH", path).env("LC_ALL", "C").env("HOME", folder);
    command.current_dir(folder);
    if let Some(user) = user {
        command.env("USER", &user.name).uid(user.uid).gid(user.gid);
    } else if let Some(name) = std::env::var_os("USER") {
        command.env("USER", name);
    }
    command
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| {
            let word = word.to_string_lossy();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+%".contains(c);
            if !word.is_empty() && word.chars().all(plain) {
                word.into_owned()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs it with our own standard streams.
pub(crate) fn status(command: &mut Command, what: &str) -> Result<ExitStatus> {
    command
        .status()
        .with_context(|| format!("{what}: cannot run `{}`", shown(command)))
}

/// Runs it with our own standard streams and insists on success.
pub(crate) fn visible(command: &mut Command, what: &str) -> Result<()> {
    let status = status(command, what)?;
    if !status.success() {
        bail!("{what} failed ({status}): {}", shown(command));
    }
    Ok(())
}

fn captured(command: &mut Command, what: &str) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{what}: cannot run `{}`", shown(command)))
}

/// Runs it silently and returns what it printed; its own words become the error where it fails.
pub(crate) fn output(command: &mut Command, what: &str) -> Result<String> {
    Ok(outputs(command, what)?.0)
}

/// The same, and what it printed as errors.
pub(crate) fn outputs(command: &mut Command, what: &str) -> Result<(String, String)> {
    let output = captured(command, what)?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let said = format!("{}\n{}", stdout.trim(), stderr.trim());
        bail!("{what} failed ({}): {}\n{}", output.status, shown(command), said.trim());
    }
    Ok((stdout.trim().to_owned(), stderr.trim().to_owned()))
}

/// Whether it succeeds; what it prints does not matter.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs it, shows its standard output line by line as it comes, and returns that as well.
pub(crate) fn tee(command: &mut Command, what: &str) -> Result<(ExitStatus, Vec<String>)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{what}: cannot run `{}`", shown(command)))?;
    let mut lines = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let mut reader = BufReader::new(stdout);
        let mut raw = Vec::new();
        while reader
            .read_until(b'\n', &mut raw)
            .with_context(|| format!("{what}: cannot read its output"))?
            > 0
        {
            let line = String::from_utf8_lossy(&raw).trim_end_matches(['\n', '\r']).to_owned();
            raw.clear();
            println!("{line}");
            lines.push(line);
        }
    }
    std::io::stdout().flush().ok();
    let status = child.wait().with_context(|| format!("{what}: cannot wait for it"))?;
    Ok((status, lines))
}

/// Runs it with its standard error shown line by line, but for lines that hold one of `noise`; what it prints on
/// standard output is shown only where it fails.
pub(crate) fn filtered(command: &mut Command, what: &str, noise: &[&str]) -> Result<()> {
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{what}: cannot run `{}`", shown(command)))?;
    let stdout = child.stdout.take();
    let quiet = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.map(|mut stdout| stdout.read_to_end(&mut bytes));
        bytes
    });
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n') {
            let line = line.with_context(|| format!("{what}: cannot read its messages"))?;
            let line = String::from_utf8_lossy(&line);
            if !noise.iter().any(|word| line.contains(word)) {
                eprintln!("{line}");
            }
        }
    }
    let status = child.wait().with_context(|| format!("{what}: cannot wait for it"))?;
    let printed = quiet.join().unwrap_or_default();
    if !status.success() {
        bail!(
            "{what} failed ({status}): {}\n{}",
            shown(command),
            String::from_utf8_lossy(&printed).trim()
        );
    }
    Ok(())
}

/// Where a program is, as the shell would find it.
pub(crate) fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
