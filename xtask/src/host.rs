//! What this machine has, what it lacks, and where things go.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::{process, ui};

/// The only release of pgrx and cargo-pgrx that the extension is built with.
const PGRX: &str = "0.19.3";
/// The rustc that pgrx asks for; an older one builds it too when told to ignore that.
const PGRX_WANTS_RUSTC: (u32, u32) = (1, 96);

/// A user that servers run as.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// This checkout.
pub(crate) struct Repo {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) version: String,
}

/// One installed PostgreSQL.
pub(crate) struct Postgres {
    pub(crate) major: u32,
    pub(crate) version: String,
    pub(crate) pg_config: PathBuf,
    pub(crate) bindir: PathBuf,
    pub(crate) libdir: PathBuf,
    pub(crate) sharedir: PathBuf,
    pub(crate) pgxs: PathBuf,
}

/// The machine as one PostgreSQL version and one build profile see it.
///
/// ```text
/// target/pgrx/                     PGRX_HOME
/// target/tools/                    cargo-pgrx, where the machine's own is not the right one
/// target/slotkeeper/pgNN/          one per PostgreSQL version (pgNN-debug with --debug)
///   stage/                         what cargo-pgrx packages
///   install/                       the same files, as private servers read them
///   cluster/NAME/                  data, log, settings of one private server
///   sockets/                       their unix sockets
///   regress/, isolation/           results and differences of the last test run
/// ```
///
/// The last four move to a folder below /var/tmp when the server's user cannot reach the target folder.
pub(crate) struct Host {
    pub(crate) repo: Repo,
    pub(crate) pg: Postgres,
    pub(crate) debug: bool,
    /// The user that servers run as, where that is not us: PostgreSQL refuses root.
    pub(crate) run_as: Option<User>,
    /// target/slotkeeper/pgNN
    pub(crate) base: PathBuf,
    /// Where the servers' files are: `base`, or a folder that their user can reach.
    pub(crate) run_dir: PathBuf,
}

impl Host {
    /// Finds PostgreSQL (installing what is missing where that is allowed) and lays out the folders.
    pub(crate) fn open(major: u32, debug: bool) -> Result<Self> {
        let repo = Repo::find()?;
        let pg = Postgres::find_or_install(major)?;
        let run_as = if is_root()? { Some(server_user()?) } else { None };
        let name = if debug {
            format!("pg{major}-debug")
        } else {
            format!("pg{major}")
        };
        let base = repo.target.join("slotkeeper").join(&name);
        fs::create_dir_all(&base).with_context(|| format!("cannot create {}", base.display()))?;
        let run_dir = match &run_as {
            Some(user) if !reachable(&base, user) => {
                let folder = fallback_root(&repo)?;
                own_folder(&folder)?;
                ui::note(&format!(
                    "user {} cannot reach {}; the servers' files are in {}",
                    user.name,
                    base.display(),
                    folder.display()
                ));
                let folder = folder.join(&name);
                fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
                open_to_all(&folder)?;
                folder
            }
            _ => base.clone(),
        };
        Ok(Self {
            repo,
            pg,
            debug,
            run_as,
            base,
            run_dir,
        })
    }

    /// Everything a build needs: cargo-pgrx of the right version, set up for this PostgreSQL.
    pub(crate) fn setup(&self) -> Result<()> {
        let program = self.cargo_pgrx()?;
        let wanted = format!("pg{}", self.pg.major);
        let config = self.pgrx_home().join("config.toml");
        let known = pgrx_versions(&config);
        if known
            .iter()
            .any(|(name, path)| *name == wanted && Path::new(path) == self.pg.pg_config)
        {
            return Ok(());
        }
        let home = self.pgrx_home();
        fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
        // init forgets the versions that it isn't told of.
        let mut init = self.pgrx(&program);
        init.args(["init", "--no-run"])
            .arg(format!("--{wanted}"))
            .arg(&self.pg.pg_config);
        for (name, path) in known
            .iter()
            .filter(|(name, path)| *name != wanted && Path::new(path).exists())
        {
            init.arg(format!("--{name}")).arg(path);
        }
        process::output(&mut init, "preparing pgrx").map(drop)
    }

    /// `cargo pgrx …`, set up so that nothing in the user's home is read or written.
    pub(crate) fn cargo_pgrx_command(&self) -> Result<Command> {
        self.setup()?;
        let program = self.cargo_pgrx()?;
        Ok(self.pgrx(&program))
    }

    /// Where pgrx keeps its settings.
    pub(crate) fn pgrx_home(&self) -> PathBuf {
        self.repo.target.join("pgrx")
    }

    fn pgrx(&self, program: &Path) -> Command {
        let mut command = process::command(program);
        command.arg("pgrx");
        command.current_dir(&self.repo.root);
        command.env("PGRX_HOME", self.pgrx_home());
        command.env("CARGO_TARGET_DIR", &self.repo.target);
        if rustc_is_older() {
            command.env("PGRX_BUILD_FLAGS", "--ignore-rust-version");
        }
        command
    }

    /// The cargo-pgrx on PATH if it is exactly the right one, otherwise our own, built on first use.
    fn cargo_pgrx(&self) -> Result<PathBuf> {
        let right = |program: &Path| {
            process::output(
                process::command(program).args(["pgrx", "--version"]),
                "asking cargo-pgrx for its version",
            )
            .is_ok_and(|said| said == format!("cargo-pgrx {PGRX}"))
        };
        if let Some(program) = process::which("cargo-pgrx").filter(|program| right(program)) {
            return Ok(program);
        }
        let root = self.repo.target.join("tools");
        let program = root.join("bin").join("cargo-pgrx");
        if right(&program) {
            return Ok(program);
        }
        println!(
            "building cargo-pgrx {PGRX} into {} (once, some minutes)",
            root.display()
        );
        let mut install = process::command("cargo");
        // Its default features are for downloading PostgreSQL's sources, which nothing here does; they want OpenSSL.
        install.args([
            "install",
            "cargo-pgrx",
            "--version",
            PGRX,
            "--locked",
            "--force",
            "--no-default-features",
        ]);
        install.arg("--root").arg(&root);
        if rustc_is_older() {
            install.arg("--ignore-rust-version");
        }
        install.current_dir(&self.repo.root);
        install.env("CARGO_TARGET_DIR", root.join("build"));
        process::visible(&mut install, "building cargo-pgrx")?;
        fs::remove_dir_all(root.join("build")).ok();
        Ok(program)
    }

    /// `cargo xtask …` as one has to type it for this PostgreSQL and this build.
    pub(crate) fn xtask(&self, arguments: &str) -> String {
        let mut line = "cargo xtask".to_owned();
        if self.pg.major != crate::DEFAULT_PG {
            line += &format!(" --pg {}", self.pg.major);
        }
        if self.debug {
            line += " --debug";
        }
        format!("{line} {arguments}")
    }

    /// Says what was found.
    pub(crate) fn describe(&self) {
        ui::done(&format!("{} ({})", self.pg.version, self.pg.pg_config.display()));
        ui::done(&format!("cargo-pgrx {PGRX}"));
        if let Some(user) = &self.run_as {
            ui::done(&format!("servers run as user {}", user.name));
        }
        ui::done(&format!("their files are in {}", self.run_dir.display()));
    }

    /// Gives a file or folder (with what is in it) to the user that servers run as.
    pub(crate) fn give_to_server(&self, path: &Path) -> Result<()> {
        let Some(user) = &self.run_as else {
            return Ok(());
        };
        give(path, user)
    }
}

fn give(path: &Path, user: &User) -> Result<()> {
    std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid))
        .with_context(|| format!("cannot give {} to user {}", path.display(), user.name))?;
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
            give(&entry?.path(), user)?;
        }
    }
    Ok(())
}

impl Repo {
    /// The checkout that this xtask was built from.
    pub(crate) fn find() -> Result<Self> {
        let mut metadata = process::command("cargo");
        metadata.args(["metadata", "--format-version=1", "--no-deps", "--offline"]);
        metadata.current_dir(env!("CARGO_MANIFEST_DIR"));
        let text = process::output(&mut metadata, "asking cargo where the target folder is")?;
        let json: serde_json::Value = serde_json::from_str(&text).context("cargo metadata is not JSON")?;
        let path = |key: &str| -> Result<PathBuf> {
            Ok(json[key]
                .as_str()
                .ok_or_else(|| anyhow!("cargo metadata has no {key}"))?
                .into())
        };
        let version = json["packages"]
            .as_array()
            .and_then(|packages| packages.iter().find(|package| package["name"] == "slotkeeper"))
            .and_then(|package| package["version"].as_str())
            .ok_or_else(|| anyhow!("cargo metadata has no package slotkeeper"))?;
        Ok(Self {
            root: path("workspace_root")?,
            target: path("target_directory")?,
            version: version.to_owned(),
        })
    }
}

impl Postgres {
    fn find_or_install(major: u32) -> Result<Self> {
        let missing = missing(major);
        if !missing.is_empty() {
            install(major, &missing)?;
        }
        find(major)?.ok_or_else(|| {
            anyhow!(
                "PostgreSQL {major} is not there: no /usr/lib/postgresql/{major}/bin/pg_config, and neither $PG_CONFIG \
                 nor the pg_config on PATH is of that version"
            )
        })
    }

    fn ask(pg_config: &Path) -> Result<Self> {
        let ask = |what: &str| {
            process::output(
                process::command(pg_config).arg(what),
                "asking pg_config about PostgreSQL",
            )
        };
        let version = ask("--version")?;
        let major = version
            .split_whitespace()
            .nth(1)
            .map(|number| number.chars().take_while(char::is_ascii_digit).collect::<String>())
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| anyhow!("{} says a version that is none: {version}", pg_config.display()))?;
        Ok(Self {
            major,
            version,
            pg_config: pg_config.to_owned(),
            bindir: ask("--bindir")?.into(),
            libdir: ask("--pkglibdir")?.into(),
            sharedir: ask("--sharedir")?.into(),
            pgxs: ask("--pgxs").unwrap_or_default().into(),
        })
    }

    /// A program of this PostgreSQL.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bindir.join(name)
    }

    /// pg_regress and the isolation tester come with the server's headers, outside of the folder of programs.
    pub(crate) fn test_program(&self, folder: &str, name: &str) -> Result<PathBuf> {
        let found = self
            .pgxs
            .parent()
            .and_then(Path::parent)
            .map(|source| source.join("test").join(folder).join(name))
            .filter(|file| file.is_file());
        found.ok_or_else(|| {
            anyhow!(
                "{name} is not there; it comes with PostgreSQL's development files (Debian: postgresql-server-dev-{})",
                self.major
            )
        })
    }
}

/// $PG_CONFIG, Debian's place, or the one on PATH, whichever is of that version.
fn find(major: u32) -> Result<Option<Postgres>> {
    let asked = std::env::var_os("PG_CONFIG").map(PathBuf::from);
    let places = [
        asked.clone(),
        Some(PathBuf::from(format!("/usr/lib/postgresql/{major}/bin/pg_config"))),
        Some(PathBuf::from(format!("/usr/pgsql-{major}/bin/pg_config"))),
        process::which("pg_config"),
    ];
    for place in places.into_iter().flatten().filter(|place| place.is_file()) {
        match Postgres::ask(&place) {
            Ok(pg) if pg.major == major => return Ok(Some(pg)),
            Err(error) if Some(&place) == asked.as_ref() => {
                return Err(error.context("$PG_CONFIG does not work"));
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(None)
}

/// The Debian packages that this machine lacks, judged by the files, not by dpkg.
fn missing(major: u32) -> Vec<String> {
    let mut packages = Vec::new();
    let pg = find(major).ok().flatten();
    let server = pg
        .as_ref()
        .is_some_and(|pg| pg.program("initdb").is_file() && pg.program("psql").is_file());
    if !server {
        packages.push(format!("postgresql-{major}"));
    }
    let headers = pg.as_ref().and_then(|pg| {
        let folder = process::output(
            process::command(&pg.pg_config).arg("--includedir-server"),
            "asking pg_config",
        );
        let folder = folder.map(PathBuf::from).ok()?;
        (pg.pgxs.is_file() && folder.join("postgres.h").is_file()).then_some(folder)
    });
    if headers.is_none() {
        packages.push(format!("postgresql-server-dev-{major}"));
    }
    // The headers include ICU's, as built by Debian, without their package asking for it.
    let wants_icu = headers.is_none_or(|folder| {
        fs::read_to_string(folder.join("pg_config.h")).is_ok_and(|text| text.contains("#define USE_ICU 1"))
    });
    if wants_icu && !Path::new("/usr/include/unicode/ucol.h").is_file() {
        packages.push("libicu-dev".to_owned());
    }
    for (program, package) in [("clang", "clang"), ("gcc", "gcc"), ("pkg-config", "pkg-config")] {
        let other = program == "gcc" && process::which("cc").is_some();
        if process::which(program).is_none() && !other {
            packages.push(package.to_owned());
        }
    }
    if !has_libclang() {
        packages.push("libclang-dev".to_owned());
    }
    let certificates = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
    ];
    if !certificates.iter().any(|file| Path::new(file).exists()) {
        packages.push("ca-certificates".to_owned());
    }
    packages
}

fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let is_it = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libclang.so") || (name.starts_with("libclang-") && name.contains(".so"))
    };
    let holds = |folder: &Path| fs::read_dir(folder).is_ok_and(|list| list.flatten().any(is_it));
    let subfolders = |folder: &str, below: &str| -> Vec<PathBuf> {
        let list = fs::read_dir(folder).into_iter().flatten().flatten();
        list.map(|entry| entry.path().join(below))
            .filter(|path| path.is_dir())
            .collect()
    };
    let mut folders: Vec<PathBuf> = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from).to_vec();
    folders.extend(
        subfolders("/usr/lib", "")
            .into_iter()
            .filter(|path| path.to_string_lossy().trim_end_matches('/').ends_with("-linux-gnu")),
    );
    folders.extend(
        subfolders("/usr/lib", "lib")
            .into_iter()
            .filter(|path| path.to_string_lossy().contains("/llvm")),
    );
    folders.iter().any(|folder| holds(folder))
}

/// Where Debian's PostgreSQL packages are told not to create and start a cluster of their own.
const CREATE_CLUSTER_CONF: &str = "/etc/postgresql-common/createcluster.d/slotkeeper-xtask.conf";
/// Tells them.
const WITHOUT_CLUSTER: &str = "mkdir -p /etc/postgresql-common/createcluster.d && \
                               echo create_main_cluster = false > /etc/postgresql-common/createcluster.d/slotkeeper-xtask.conf";

/// Installs Debian packages as root or with sudo that asks no password; otherwise says what to type.
fn install(major: u32, packages: &[String]) -> Result<()> {
    let list = packages.join(" ");
    let no_cluster = packages.iter().any(|package| *package == format!("postgresql-{major}"));
    let by_hand = format!("apt-get update && apt-get install --yes --no-install-recommends {list}");
    let by_hand = if no_cluster {
        format!("{WITHOUT_CLUSTER} && {by_hand}; rm -f {CREATE_CLUSTER_CONF}")
    } else {
        by_hand
    };
    if process::which("apt-get").is_none() {
        bail!("this machine lacks what the Debian packages {list} contain; install that, or set $PG_CONFIG");
    }
    let root = is_root()?;
    if !root && !process::succeeds(Command::new("sudo").args(["-n", "true"])) {
        // A command that cannot succeed is no help; but lists that were never fetched tell nothing.
        if is_known("libc6") {
            require_known(major, packages)?;
        }
        bail!(
            "this machine lacks some packages. Please run:\n\n  sudo sh -c '{by_hand}'\n\nand then the same command again"
        );
    }
    let privileged = |arguments: &[&str]| {
        let mut command = if root {
            process::command("env")
        } else {
            process::command("sudo")
        };
        if !root {
            command.args(["-n", "env"]);
        }
        command
            .args(["DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"])
            .args(arguments);
        command
    };
    println!("installing {list}");
    process::output(
        &mut privileged(&["apt-get", "update", "-qq"]),
        "fetching Debian's list of packages",
    )?;
    require_known(major, packages)?;
    if no_cluster {
        process::output(
            &mut privileged(&["sh", "-c", WITHOUT_CLUSTER]),
            "telling Debian not to create a cluster",
        )?;
    }
    let mut arguments = vec![
        "apt-get",
        "install",
        "--yes",
        "-qq",
        "--no-install-recommends",
        "-o",
        "DPkg::Lock::Timeout=300",
    ];
    arguments.extend(packages.iter().map(String::as_str));
    let installed = process::output(&mut privileged(&arguments), "installing packages");
    if no_cluster {
        process::output(
            &mut privileged(&["rm", "-f", CREATE_CLUSTER_CONF]),
            "removing the setting again",
        )?;
    }
    installed.map(drop)
}

/// Whether Debian's lists, as they were fetched last, have this package.
fn is_known(package: &str) -> bool {
    process::succeeds(process::command("apt-cache").args(["show", "--no-all-versions", package]))
}

/// An error for the first package that this release does not have.
fn require_known(major: u32, packages: &[String]) -> Result<()> {
    let Some(package) = packages.iter().find(|package| !is_known(package)) else {
        return Ok(());
    };
    let remedy = if package.contains("postgresql") {
        format!(
            ": PostgreSQL {major} is not part of this release. Use another --pg, a release that has it, or point \
             $PG_CONFIG at the pg_config of a PostgreSQL {major} from elsewhere"
        )
    } else {
        String::new()
    };
    bail!("{} has no package {package}{remedy}", debian_release())
}

/// Programs that only some tests need, each with the Debian package that has it; those that are missing are installed.
pub(crate) fn need(major: u32, programs: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<String> = programs
        .iter()
        .filter(|(program, _)| find_program(program).is_none())
        .map(|(_, package)| (*package).to_owned())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(major, &missing)
}

/// Debian's pg_cron for this PostgreSQL, installed where it is missing; false where this system has none for it.
pub(crate) fn have_pg_cron(pg: &Postgres) -> Result<bool> {
    if pg.sharedir.join("extension/pg_cron.control").is_file() {
        return Ok(true);
    }
    let package = format!("postgresql-{}-cron", pg.major);
    if process::which("apt-get").is_none() || !is_known(&package) {
        return Ok(false);
    }
    install(pg.major, &[package])?;
    Ok(true)
}

/// A program on PATH, or where Debian puts servers.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    process::which(name).or_else(|| Some(Path::new("/usr/sbin").join(name)).filter(|path| path.is_file()))
}

fn debian_release() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or_else(|| "this system".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// Whether rustc is older than what pgrx declares.
pub(crate) fn rustc_is_older() -> bool {
    let said = process::output(
        process::command("rustc").arg("--version"),
        "asking rustc for its version",
    )
    .unwrap_or_default();
    let mut numbers = said
        .split_whitespace()
        .nth(1)
        .unwrap_or_default()
        .split('.')
        .map_while(|n| n.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) < PGRX_WANTS_RUSTC,
        _ => false,
    }
}

/// The `pgNN = "…/pg_config"` lines of pgrx's config.toml.
fn pgrx_versions(config: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(config).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, path)| (name.trim().to_owned(), path.trim().trim_matches(['"', '\'']).to_owned()))
        .filter(|(name, _)| name.starts_with("pg"))
        .collect()
}

fn my_uid() -> Result<u32> {
    process::output(process::command("id").arg("-u"), "asking who we are")?
        .parse()
        .context("id -u is not a number")
}

pub(crate) fn is_root() -> Result<bool> {
    Ok(my_uid()? == 0)
}

/// PostgreSQL refuses to run as root; Debian's packages make a user for it.
fn server_user() -> Result<User> {
    let ask = |what| {
        process::output(
            process::command("id").args([what, "postgres"]),
            "looking for the user postgres",
        )
    };
    let missing = "PostgreSQL refuses to run as root, and this machine has no user `postgres` to run it as; \
                   create one (useradd --system --shell /bin/sh postgres), or work as an ordinary user";
    Ok(User {
        name: "postgres".to_owned(),
        uid: ask("-u").context(missing)?.parse().context(missing)?,
        gid: ask("-g").context(missing)?.parse().context(missing)?,
    })
}

fn reachable(folder: &Path, user: &User) -> bool {
    let may = |what| {
        process::succeeds(
            process::as_server("test", Some(user), Path::new("/"))
                .arg(what)
                .arg(folder),
        )
    };
    may("-x") && may("-r")
}

/// A name that two checkouts, or two users of one checkout, do not share.
pub(crate) fn checkout_name(repo: &Repo) -> Result<String> {
    // FNV-1a: a stable hash that needs no crate.
    let hash = repo
        .target
        .to_string_lossy()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    Ok(format!("slotkeeper-{}-{hash:016x}", my_uid()?))
}

/// Where the servers' files go when the target folder is out of their user's reach.
pub(crate) fn fallback_root(repo: &Repo) -> Result<PathBuf> {
    let parent = if Path::new("/var/tmp").is_dir() {
        "/var/tmp"
    } else {
        "/tmp"
    };
    Ok(Path::new(parent).join(checkout_name(repo)?))
}

/// Creates a folder in a place where anybody may create things, and refuses one that somebody else made.
pub(crate) fn own_folder(folder: &Path) -> Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot create {}", folder.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let found = fs::symlink_metadata(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    if !found.is_dir() || found.uid() != my_uid()? {
        bail!("{} belongs to somebody else; remove it first", folder.display());
    }
    open_to_all(folder)
}

/// Readable for the server's user whatever our umask is.
pub(crate) fn open_to_all(path: &Path) -> Result<()> {
    let mode = if path.is_dir() { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the permissions of {}", path.display()))
}
