//! Private PostgreSQL servers below the target folder, one per purpose.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use postgres::{Client, Config, NoTls};

use crate::build::{self, Lookup};
use crate::host::{self, Host, Repo, User};
use crate::{process, ui};

/// Raise it when what `initdb` is told changes: older clusters are then made anew.
const LAYOUT: u32 = 1;

/// A unix socket's path may have 107 bytes; `/.s.PGSQL.65535` and the end of the string need 16 of them.
const LONGEST_SOCKET_FOLDER: usize = 91;

/// What differs between the servers' purposes.
#[derive(Default)]
pub(crate) struct Settings {
    /// Don't wait for the disk: nothing in there is worth keeping. synchronous_commit stays as it is.
    pub(crate) throwaway: bool,
    /// More lines for postgresql.conf.
    pub(crate) extra: String,
}

impl Settings {
    /// For tests: quick, and with what logical decoding, replicas and two-phase commit need.
    pub(crate) fn for_tests() -> Self {
        Self {
            throwaway: true,
            extra: "wal_level = logical\nmax_prepared_transactions = 50\n".to_owned(),
        }
    }
}

/// A running private server.
pub(crate) struct Cluster {
    folder: PathBuf,
    sockets: PathBuf,
    port: u16,
    bindir: PathBuf,
    install: PathBuf,
    run_as: Option<User>,
}

impl Cluster {
    /// The server of that name, running with these settings: whatever it takes, from `initdb` to a restart.
    pub(crate) fn open(host: &Host, name: &str, settings: &Settings) -> Result<Self> {
        let folder = host.run_dir.join("cluster").join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        // Two runs at once would both find it stopped and both start it.
        let lock = folder.join("lock");
        let lock = File::create(&lock).with_context(|| format!("cannot create {}", lock.display()))?;
        lock.lock().context("cannot lock the private server's folder")?;

        let mut cluster = Self {
            sockets: socket_folder(host)?,
            folder,
            port: 0,
            bindir: host.pg.bindir.clone(),
            install: host.run_dir.join("install"),
            run_as: host.run_as.clone(),
        };
        cluster.drop_stale_pid_file()?;
        let stamp = format!("{LAYOUT} {}\n", host.pg.major);
        let stamp_file = cluster.folder.join("stamp");
        if fs::read_to_string(&stamp_file).ok().as_deref() != Some(stamp.as_str()) {
            ui::step(
                &format!("initdb: private {} server \"{name}\"", host.pg.version),
                || cluster.create(),
            )?;
            fs::write(&stamp_file, stamp).with_context(|| format!("cannot write {}", stamp_file.display()))?;
        }
        fs::write(
            cluster.folder.join("bindir"),
            cluster.bindir.as_os_str().as_encoded_bytes(),
        )
        .context("cannot write into the private server's folder")?;
        let wanted = cluster.configuration(host, settings)?;
        if let Some(port) = cluster.running_port() {
            cluster.port = port;
            let started_with = fs::read_to_string(cluster.folder.join("started.conf")).unwrap_or_default();
            if started_with == wanted && cluster.answers() {
                return Ok(cluster);
            }
            cluster.stop()?;
        }
        let started = cluster.start(&wanted);
        if settings.throwaway && started.is_err() {
            // Without fsync a machine that went down leaves a broken cluster; nothing in this one is worth keeping.
            ui::note(&format!("the private server \"{name}\" does not start; making it anew"));
            cluster.create()?;
            cluster.start(&wanted)?;
        } else {
            started.context("`cargo xtask clean` deletes the private servers' data, if that is what is broken")?;
        }
        Ok(cluster)
    }

    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The server's log.
    pub(crate) fn log(&self) -> PathBuf {
        self.data().join("server.log")
    }

    /// The folder of the unix socket.
    pub(crate) fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// The port, on loopback and in the socket's name.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// For clients that take a URL.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    fn create(&self) -> Result<()> {
        self.stop()?;
        let data = self.data();
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        }
        fs::create_dir(&data).with_context(|| format!("cannot create {}", data.display()))?;
        fs::set_permissions(&data, Permissions::from_mode(0o700)).context("cannot close the data folder to others")?;
        if let Some(user) = &self.run_as {
            std::os::unix::fs::chown(&data, Some(user.uid), Some(user.gid))
                .context("cannot give away the data folder")?;
        }
        let mut initdb = self.tool("initdb");
        initdb.arg("--pgdata").arg(&data);
        initdb.args([
            "--username=postgres",
            "--encoding=UTF8",
            "--no-locale",
            "--auth=trust",
            "--no-instructions",
        ]);
        // The folder itself is the server's user's; what leads to it need not be.
        process::output(&mut initdb, "creating a private PostgreSQL cluster")?;
        let postgresql_conf = data.join("postgresql.conf");
        let text = fs::read_to_string(&postgresql_conf).context("initdb left no postgresql.conf")?;
        fs::write(&postgresql_conf, format!("{text}\ninclude 'slotkeeper.conf'\n"))
            .context("cannot write postgresql.conf")
    }

    /// All settings but the port.
    fn configuration(&self, host: &Host, settings: &Settings) -> Result<String> {
        let mut text = String::from("# Written by `cargo xtask` at each start.\n");
        text += "listen_addresses = '127.0.0.1'\n";
        text += &format!(
            "unix_socket_directories = {}\n",
            build::quoted(&self.sockets.display().to_string())
        );
        text += "max_connections = 300\n";
        text += "timezone = 'UTC'\nlog_timezone = 'UTC'\nlc_messages = 'C'\n";
        text += "logging_collector = off\nlog_line_prefix = '%m [%p] %q%u@%d '\n";
        if settings.throwaway {
            text += "fsync = off\nfull_page_writes = off\n";
        }
        text += &settings.extra;
        if let Lookup::Settings(lines) = build::lookup(host)? {
            text += &lines;
        }
        Ok(text)
    }

    fn start(&mut self, configuration: &str) -> Result<()> {
        let last = fs::read_to_string(self.folder.join("port"))
            .unwrap_or_default()
            .trim()
            .parse()
            .ok();
        let mut port = match last {
            Some(port) if TcpListener::bind(("127.0.0.1", port)).is_ok() => port,
            _ => free_port()?,
        };
        let mut failure = anyhow!("not tried");
        for _ in 0..3 {
            self.port = port;
            let conf = self.data().join("slotkeeper.conf");
            fs::write(&conf, format!("{configuration}port = {port}\n"))
                .context("cannot write the server's settings")?;
            host::open_to_all(&conf)?;
            let mut pg_ctl = self.tool("pg_ctl");
            pg_ctl.args(["start", "--silent", "--wait", "--timeout=60"]);
            pg_ctl.arg("--pgdata").arg(self.data()).arg("--log").arg(self.log());
            // Nothing of ours may stay open in the server, or whoever reads our output waits for ever.
            pg_ctl.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let status = process::status(&mut pg_ctl, "starting a private PostgreSQL")?;
            if status.success() && self.answers() {
                fs::write(self.folder.join("port"), port.to_string()).context("cannot note the port")?;
                fs::write(self.folder.join("started.conf"), configuration).context("cannot note the settings")?;
                return Ok(());
            }
            failure = anyhow!("pg_ctl ended with {status}; the end of its log:\n{}", self.end_of_log());
            // What is usually in the way: the port was taken meanwhile, or processes of a killed server hold its memory.
            self.stop()?;
            port = free_port()?;
        }
        Err(failure.context(format!(
            "the private PostgreSQL in {} does not start",
            self.folder.display()
        )))
    }

    fn end_of_log(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// A program of PostgreSQL's as the user that the server runs as.
    pub(crate) fn tool(&self, name: &str) -> Command {
        process::as_server(self.bindir.join(name), self.run_as.as_ref(), &self.data_or_root())
    }

    fn data_or_root(&self) -> PathBuf {
        let data = self.data();
        if data.is_dir() { data } else { PathBuf::from("/") }
    }

    /// The first line of postmaster.pid is the server's process, the fourth its port.
    fn pid_file(&self) -> Option<(u32, u16)> {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        let port = lines.nth(2)?.trim().parse().ok()?;
        Some((pid, port))
    }

    fn running_port(&self) -> Option<u16> {
        self.pid_file().map(|(_, port)| port)
    }

    /// A server that was killed leaves its pid file behind, and the number may by now be another program's.
    fn drop_stale_pid_file(&self) -> Result<()> {
        let Some((pid, _)) = self.pid_file() else {
            return Ok(());
        };
        if works_in(pid, &self.data()) {
            return Ok(());
        }
        self.kill_leftovers()?;
        let file = self.data().join("postmaster.pid");
        fs::remove_file(&file).with_context(|| format!("cannot remove the stale {}", file.display()))
    }

    /// Ends this cluster's processes that have lost their postmaster; only those have their working folder there.
    fn kill_leftovers(&self) -> Result<()> {
        let data = self.data();
        let leftovers = || -> Vec<String> {
            let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
            processes
                .filter_map(|entry| entry.file_name().into_string().ok())
                .filter(|name| name.parse().is_ok_and(|pid| works_in(pid, &data)))
                .collect()
        };
        for signal in ["-QUIT", "-KILL"] {
            let found = leftovers();
            if found.is_empty() {
                return Ok(());
            }
            process::succeeds(process::command("kill").arg(signal).args(&found));
            let until = Instant::now() + Duration::from_secs(5);
            while Instant::now() < until && !leftovers().is_empty() {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        let found = leftovers();
        if found.is_empty() {
            return Ok(());
        }
        bail!(
            "processes {} of an earlier run in {} do not end",
            found.join(", "),
            data.display()
        )
    }

    /// Stops it if it runs, and clears away what a killed one left.
    pub(crate) fn stop(&self) -> Result<()> {
        if self.pid_file().is_some_and(|(pid, _)| works_in(pid, &self.data())) {
            let mut pg_ctl = self.tool("pg_ctl");
            pg_ctl
                .args(["stop", "--silent", "--wait", "--mode=fast", "--timeout=30", "--pgdata"])
                .arg(self.data());
            if process::succeeds(&mut pg_ctl) {
                return Ok(());
            }
            let mut pg_ctl = self.tool("pg_ctl");
            pg_ctl
                .args(["stop", "--silent", "--wait", "--mode=immediate", "--pgdata"])
                .arg(self.data());
            process::succeeds(&mut pg_ctl);
        }
        self.kill_leftovers()?;
        let file = self.data().join("postmaster.pid");
        if file.exists() {
            fs::remove_file(&file).with_context(|| format!("cannot remove the stale {}", file.display()))?;
        }
        Ok(())
    }

    fn answers(&self) -> bool {
        self.connect("postgres").is_ok()
    }

    /// How to reach a database, as its superuser.
    pub(crate) fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config
            .host_path(&self.sockets)
            .port(self.port)
            .user("postgres")
            .dbname(database);
        config.connect_timeout(Duration::from_secs(10));
        config
    }

    /// A connection as its superuser.
    pub(crate) fn connect(&self, database: &str) -> Result<Client> {
        self.config(database)
            .connect(NoTls)
            .with_context(|| format!("cannot connect to database {database} of the private PostgreSQL"))
    }

    /// Whether it has a database of that name.
    pub(crate) fn has_database(&self, name: &str) -> Result<bool> {
        let rows = self
            .connect("postgres")?
            .query("SELECT FROM pg_catalog.pg_database WHERE datname = $1", &[&name])?;
        Ok(!rows.is_empty())
    }

    /// A new database of that name, with the extension if asked for; a former one is dropped with its connections.
    pub(crate) fn recreate_database(&self, name: &str, extension: bool) -> Result<()> {
        let mut client = self.connect("postgres")?;
        client.simple_query(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
        client.simple_query(&format!("CREATE DATABASE {name}"))?;
        if extension {
            self.connect(name)?
                .simple_query("CREATE EXTENSION slotkeeper")
                .map_err(explained)
                .context("CREATE EXTENSION slotkeeper failed")?;
            let fingerprint = build::sql_fingerprint(&self.install)?;
            client.simple_query(&format!(
                "COMMENT ON DATABASE {name} IS 'slotkeeper {fingerprint:016x}'"
            ))?;
        }
        Ok(())
    }

    /// Whether the database's extension was made from other SQL than what is installed now.
    pub(crate) fn extension_is_stale(&self, name: &str, install: &Path) -> Result<bool> {
        let query = "SELECT shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database WHERE datname = $1";
        let row = self.connect("postgres")?.query_one(query, &[&name])?;
        let comment: Option<String> = row.get(0);
        Ok(comment != Some(format!("slotkeeper {:016x}", build::sql_fingerprint(install)?)))
    }

    /// psql on a database, as ourselves.
    pub(crate) fn psql(&self, database: &str) -> Command {
        let mut psql = process::command(self.bindir.join("psql"));
        psql.arg("--host")
            .arg(&self.sockets)
            .args(["--port", &self.port.to_string(), "--username=postgres"]);
        psql.args(["--dbname", database]);
        for name in [
            "PGHOST",
            "PGHOSTADDR",
            "PGPORT",
            "PGUSER",
            "PGDATABASE",
            "PGSERVICE",
            "PGPASSWORD",
        ] {
            psql.env_remove(name);
        }
        psql
    }

    /// Prints what a person needs to connect by hand.
    pub(crate) fn say_how_to_connect(&self, host: &Host, database: &str) {
        println!();
        println!("  psql      {}", host.xtask("psql"));
        println!("            {}", process::shown(&self.psql(database)));
        println!("  URL       {}", self.url(database));
        println!("  socket    {} (port {})", self.sockets.display(), self.port);
        println!("  log       {}", self.log().display());
        println!("  stop      cargo xtask stop");
    }
}

/// An error of the server's with its detail and hint, which the client's own text leaves out.
pub(crate) fn explained(error: postgres::Error) -> anyhow::Error {
    let Some(said) = error.as_db_error() else {
        return anyhow::Error::new(error);
    };
    let mut text = format!(
        "{}: {} (SQLSTATE {})",
        said.severity(),
        said.message(),
        said.code().code()
    );
    for (word, part) in [
        ("DETAIL", said.detail()),
        ("HINT", said.hint()),
        ("CONTEXT", said.where_()),
    ] {
        if let Some(part) = part {
            text += &format!("\n{word}: {part}");
        }
    }
    anyhow!(text)
}

/// Whether a process lives and its working folder is that one, as each of a cluster's processes has it.
fn works_in(pid: u32, folder: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    match fs::read_link(process.join("cwd")) {
        Ok(cwd) => fs::canonicalize(folder).is_ok_and(|folder| folder == cwd),
        // Without /proc (or for a foreign process) only the signal's answer is left.
        Err(_) => {
            !Path::new("/proc/self").exists()
                && process::succeeds(process::command("kill").args(["-0", &pid.to_string()]))
        }
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr().context("no free port on 127.0.0.1")?.port())
}

/// A folder that only the server's user (and root) may enter, short enough for a socket.
fn socket_folder(host: &Host) -> Result<PathBuf> {
    let mut folder = host.run_dir.join("sockets");
    if folder.as_os_str().len() > LONGEST_SOCKET_FOLDER {
        let parent = Path::new("/tmp").join(host::checkout_name(&host.repo)?);
        host::own_folder(&parent)?;
        folder = parent.join(host.run_dir.file_name().unwrap_or_default());
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::set_permissions(&folder, Permissions::from_mode(0o700))
        .context("cannot close the sockets' folder to others")?;
    if let Some(user) = &host.run_as {
        std::os::unix::fs::chown(&folder, Some(user.uid), Some(user.gid))
            .context("cannot give away the sockets' folder")?;
    }
    Ok(folder)
}

/// Stops every private server of this checkout, and deletes their data if asked to.
pub(crate) fn stop_all(delete: bool) -> Result<()> {
    let repo = Repo::find()?;
    let fallback = host::fallback_root(&repo)?;
    let short = Path::new("/tmp").join(host::checkout_name(&repo)?);
    let mut stopped = 0;
    for versions in [repo.target.join("slotkeeper"), fallback.clone()] {
        for version in subfolders(&versions) {
            for folder in subfolders(&version.join("cluster")) {
                let bindir = fs::read_to_string(folder.join("bindir")).unwrap_or_default().into();
                // pg_ctl refuses root; its data folder's owner is the user that it ran as.
                let run_as = owner_if_not_us(&folder.join("data"))?;
                let cluster = Cluster {
                    folder: folder.clone(),
                    sockets: PathBuf::new(),
                    port: 0,
                    bindir,
                    install: PathBuf::new(),
                    run_as,
                };
                stopped += u32::from(cluster.pid_file().is_some());
                cluster.stop()?;
            }
            for name in ["cluster", "sockets", "regress", "isolation", "scratch"] {
                let folder = version.join(name);
                if delete && folder.exists() {
                    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
                }
            }
        }
    }
    for folder in [fallback, short] {
        if delete && folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    let removed = if delete { ", and their data removed" } else { "" };
    ui::done(&format!(
        "{stopped} private server{} stopped{removed}",
        if stopped == 1 { "" } else { "s" }
    ));
    Ok(())
}

fn owner_if_not_us(path: &Path) -> Result<Option<User>> {
    use std::os::unix::fs::MetadataExt;
    let Ok(found) = fs::metadata(path) else {
        return Ok(None);
    };
    if !host::is_root()? || found.uid() == 0 {
        return Ok(None);
    }
    Ok(Some(User {
        name: "postgres".to_owned(),
        uid: found.uid(),
        gid: found.gid(),
    }))
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let list = fs::read_dir(folder).into_iter().flatten().flatten();
    list.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}
