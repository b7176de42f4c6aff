//! A tar.gz of the files to install.

use anyhow::{Result, bail};

use crate::host::Host;
use crate::{build, process, ui};

/// Builds and packs the files below the paths that they have on a system.
pub(crate) fn run(host: &Host) -> Result<()> {
    if host.debug {
        bail!("a package is made of an optimised build: leave out --debug");
    }
    let stage = build::stage(host)?;
    let name = format!(
        "slotkeeper-{}-pg{}-{}-{}.tar.gz",
        host.repo.version,
        host.pg.major,
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    let archive = host.repo.target.join("slotkeeper").join(name);
    let mut tar = process::command("tar");
    tar.args([
        "--create",
        "--gzip",
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mode=u=rwX,go=rX",
    ]);
    tar.arg("--file").arg(&archive).arg("--directory").arg(&stage).arg(".");
    process::output(&mut tar, "packing")?;
    let list = process::output(
        process::command("tar").arg("--list").arg("--file").arg(&archive),
        "listing the package",
    )?;
    for file in list.lines().filter(|line| !line.ends_with('/')) {
        println!("  {}", file.trim_start_matches('.'));
    }
    ui::done(&format!("{}", archive.display()));
    println!(
        "  to install: tar --extract --directory=/ --file={} --no-overwrite-dir",
        archive.display()
    );
    Ok(())
}
