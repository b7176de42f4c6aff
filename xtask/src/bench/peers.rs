//! Other queues, downloaded into the target folder and put into the benchmark's database: pgmq, whose calls are SQL, and
//! two that come with a client library of their own, driven by the scripts in `benches/peers`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::bench::ground::{DATABASE, Ground};
use crate::host::{self, Host};
use crate::{process, ui};

/// The release of the pgmq crate whose embedded SQL is measured.
const PGMQ: &str = "=0.33.7";

/// The last releases that run on Node 20.
const PACKAGES: [&str; 2] = ["graphile-worker@0.17.3", "pg-boss@10.4.2"];

/// A queue that is measured through its own client library.
#[derive(Clone, Copy)]
pub(crate) enum Driven {
    /// As it comes: it fetches and completes job by job.
    GraphileWorker,
    /// With a local queue and batched completion, which it has settings for.
    GraphileWorkerBatched,
    PgBoss,
}

impl Driven {
    pub(crate) fn title(self, at_once: u32) -> &'static str {
        match (self, at_once) {
            (Self::GraphileWorker, _) => "graphile-worker, 16 at once",
            (Self::GraphileWorkerBatched, _) => "graphile-worker, 16 at once, local queue of 500",
            (Self::PgBoss, 1) => "pg-boss fetch 1, complete",
            (Self::PgBoss, _) => "pg-boss fetch 50, complete 50",
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::GraphileWorker | Self::GraphileWorkerBatched => "peers/graphile_worker.js",
            Self::PgBoss => "peers/pg_boss.js",
        }
    }

    /// The peer's batch where contents are claimed so many at once.
    fn batch(self, at_once: u32) -> u32 {
        match self {
            Self::GraphileWorker => 1,
            // Its local queue is not what a worker gets at once: larger ones serve it better.
            Self::GraphileWorkerBatched => 500,
            Self::PgBoss => at_once,
        }
    }
}

/// Node and where it finds the packages.
pub(crate) struct Node {
    program: PathBuf,
    modules: PathBuf,
}

/// The queues that are there to be measured.
#[derive(Default)]
pub(crate) struct Peers {
    pub(crate) pgmq: bool,
    pub(crate) node: Option<Node>,
}

impl Peers {
    pub(crate) fn install(host: &Host, ground: &mut Ground<'_>) -> Result<Self> {
        ui::step("the peers: pgmq", || install_pgmq(host, ground))?;
        let (Some(program), Some(npm)) = (host::find_program("node"), host::find_program("npm")) else {
            ui::failed("graphile-worker and pg-boss are left out: there is no node or no npm");
            return Ok(Self { pgmq: true, node: None });
        };
        let folder = host.repo.target.join("peers").join("node");
        ui::step(&format!("the peers: {}", PACKAGES.join(", ")), || {
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            let mut install = process::command(&npm);
            install
                .args(["install", "--no-audit", "--no-fund", "--save-exact", "--prefix"])
                .arg(&folder)
                .args(PACKAGES)
                .current_dir(&folder);
            process::output(&mut install, "npm install of the peers").map(drop)
        })?;
        let modules = folder.join("node_modules");
        Ok(Self {
            pgmq: true,
            node: Some(Node { program, modules }),
        })
    }

    /// Jobs per second.
    pub(crate) fn rate(&self, ground: &Ground<'_>, peer: Driven, at_once: u32) -> Result<f64> {
        let node = self.node.as_ref().context("Node is not there")?;
        let mut driver = process::command(&node.program);
        driver
            .arg(ground.file(peer.script()))
            .args([ground.pace.seconds, peer.batch(at_once)].map(|number| number.to_string()))
            .env("NODE_PATH", &node.modules)
            .env("PGHOST", ground.cluster.sockets())
            .env("PGPORT", ground.cluster.port().to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", DATABASE);
        let said = process::output(&mut driver, peer.script())?;
        let said: serde_json::Value =
            serde_json::from_str(&said).with_context(|| format!("{} said \"{said}\"", peer.script()))?;
        said["rate"].as_f64().context("a driver without a rate")
    }
}

/// pgmq from the SQL that its crate embeds.
fn install_pgmq(host: &Host, ground: &mut Ground<'_>) -> Result<()> {
    let folder = host.repo.target.join("peers");
    fs::create_dir_all(folder.join("src")).with_context(|| folder.display().to_string())?;
    let manifest = format!(
        "[package]\nname = \"peers\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n[dependencies]\npgmq = \"{PGMQ}\"\n\n[workspace]\n"
    );
    fs::write(folder.join("Cargo.toml"), manifest)?;
    fs::write(folder.join("src/lib.rs"), "")?;
    let mut cargo = process::command("cargo");
    cargo.current_dir(&folder).args(["metadata", "--format-version", "1"]);
    let metadata: serde_json::Value =
        serde_json::from_str(&process::output(&mut cargo, "cargo metadata of the peers")?)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let pgmq = packages
        .iter()
        .find(|package| package["name"] == "pgmq")
        .and_then(|package| package["manifest_path"].as_str())
        .context("the pgmq crate is not there")?;
    let file = PathBuf::from(pgmq).with_file_name("src/install/embedded/sql/pgmq.sql");
    let sql = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    ground.sql("DROP SCHEMA IF EXISTS pgmq CASCADE; CREATE SCHEMA pgmq")?;
    ground.sql(&sql)?;
    ground.sql("SELECT pgmq.create('q')")
}
