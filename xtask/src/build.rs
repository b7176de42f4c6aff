//! Building the extension and putting its files where a server finds them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::host::{self, Host};
use crate::{process, ui};

/// How a private server is told where the extension's files are.
pub(crate) enum Lookup {
    /// Settings for postgresql.conf.
    Settings(String),
    /// This PostgreSQL has no such setting: the files are in its own folders.
    System,
}

/// Builds (cargo decides whether anything has to be done) and returns the folder that private servers read.
pub(crate) fn build(host: &Host) -> Result<PathBuf> {
    let stage = stage(host)?;
    let install = host.run_dir.join("install");
    publish(&stage, &install)?;
    if matches!(lookup(host)?, Lookup::System) {
        ui::note("this PostgreSQL has no setting for private extensions; installing into its own folders");
        install_into_system(host)?;
    }
    Ok(install)
}

/// cargo-pgrx's package: the files below the paths that they have on a system.
pub(crate) fn stage(host: &Host) -> Result<PathBuf> {
    let stage = host.base.join("stage");
    if stage.exists() {
        fs::remove_dir_all(&stage).with_context(|| format!("cannot empty {}", stage.display()))?;
    }
    let mut package = host.cargo_pgrx_command()?;
    package.arg("package");
    if host.debug {
        package.arg("--debug");
    }
    package.args(["--no-default-features", "--features", &format!("pg{}", host.pg.major)]);
    package
        .arg("--pg-config")
        .arg(&host.pg.pg_config)
        .arg("--out-dir")
        .arg(&stage);
    // What cargo-pgrx itself says is for its failures; cargo's messages are for everybody.
    let noise = ["PgConfig(", "Discovered", "SQL entities to", "Finished"];
    process::filtered(&mut package, "building the extension", &noise)?;
    Ok(stage)
}

/// How this PostgreSQL finds extensions outside of its own folders.
pub(crate) fn lookup(host: &Host) -> Result<Lookup> {
    let install = host.run_dir.join("install");
    let below = |path: &Path| install.join(path.strip_prefix("/").unwrap_or(path));
    // A plain module name is looked up along this path in every version.
    let library = format!(
        "dynamic_library_path = {}\n",
        quoted(&format!("{}:$libdir", below(&host.pg.libdir).display()))
    );
    if host.pg.major >= 18 {
        let path = format!("{}:$system", below(&host.pg.sharedir).display());
        return Ok(Lookup::Settings(format!(
            "extension_control_path = {}\n{library}",
            quoted(&path)
        )));
    }
    // Debian's patch; the server's program knows whether it has it.
    let program = host.pg.program("postgres");
    let bytes = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    let name = b"extension_destdir\0";
    if bytes.windows(name.len()).any(|window| window == name) {
        let path = install.display().to_string();
        return Ok(Lookup::Settings(format!(
            "extension_destdir = {}\n{library}",
            quoted(&path)
        )));
    }
    Ok(Lookup::System)
}

/// A value for postgresql.conf.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

/// Makes `to` hold what `from` holds, safely under a running server: a file is replaced by renaming a new one over
/// it, so that a library that is mapped stays what it was; an unchanged one is left alone.
fn publish(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    host::open_to_all(to)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        names.push(entry.file_name());
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            publish(&source, &target)?;
            continue;
        }
        let new = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
        if fs::read(&target).is_ok_and(|old| old == new) {
            continue;
        }
        let mut hidden = std::ffi::OsString::from(format!(".new-{}-", std::process::id()));
        hidden.push(entry.file_name());
        let hidden = to.join(hidden);
        fs::write(&hidden, new).with_context(|| format!("cannot write {}", hidden.display()))?;
        host::open_to_all(&hidden)?;
        fs::rename(&hidden, &target).with_context(|| format!("cannot replace {}", target.display()))?;
    }
    for entry in fs::read_dir(to).with_context(|| format!("cannot read {}", to.display()))? {
        let entry = entry?;
        if !names.contains(&entry.file_name()) {
            let path = entry.path();
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Installs into the folders of the system's PostgreSQL, with sudo where they aren't ours.
pub(crate) fn install_into_system(host: &Host) -> Result<()> {
    if host.debug {
        bail!("--debug builds are for private servers only");
    }
    let mut install = host.cargo_pgrx_command()?;
    install.args([
        "install",
        "--release",
        "--no-default-features",
        "--features",
        &format!("pg{}", host.pg.major),
    ]);
    install.arg("--pg-config").arg(&host.pg.pg_config);
    let folders = [host.pg.libdir.clone(), host.pg.sharedir.join("extension")];
    let ours = folders
        .iter()
        .all(|folder| process::succeeds(process::command("test").arg("-w").arg(folder)));
    if !ours {
        install.arg("--sudo");
    }
    process::visible(&mut install, "installing the extension")?;
    ui::done(&format!(
        "installed into {}; in a database: CREATE EXTENSION slotkeeper",
        host.pg.version
    ));
    Ok(())
}

/// A number that changes when the extension's SQL does.
pub(crate) fn sql_fingerprint(install: &Path) -> Result<u64> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                walk(&path, files)?;
            } else if path.extension().is_some_and(|end| end == "sql" || end == "control") {
                files.push(path);
            }
        }
        Ok(())
    }
    let mut files = Vec::new();
    walk(install, &mut files)?;
    let mut sum = 0;
    for file in files {
        let sql = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        sum = sum_of_lines(sum, &sql);
    }
    Ok(sum)
}

/// The same in whatever order the lines come: each build writes the functions in another one. Comments don't count.
fn sum_of_lines(sum: u64, sql: &str) -> u64 {
    sql.lines()
        .filter(|line| !line.starts_with("--"))
        .map(|line| {
            line.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            })
        })
        .fold(sum, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::sum_of_lines;

    #[test]
    fn sql_in_another_order_is_the_same_and_other_sql_is_not() {
        let sql = "-- src/a.rs:1\nCREATE FUNCTION a()\nAS 'a';\n\n-- src/b.rs:2\nCREATE FUNCTION b()\nAS 'b';\n";
        let reordered = "-- src/b.rs:7\nCREATE FUNCTION b()\nAS 'b';\n\n-- src/a.rs:1\nCREATE FUNCTION a()\nAS 'a';\n";
        assert_eq!(sum_of_lines(0, sql), sum_of_lines(0, reordered));
        assert_ne!(sum_of_lines(0, sql), sum_of_lines(0, &sql.replace("b()", "b(int)")));
    }
}
