//! The database in which everything is measured, and the states from which rounds start.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use postgres::Client;

use crate::bench::pgbench::{Pgbench, Run, Said};
use crate::cluster::{Cluster, Settings, explained};
use crate::host::Host;
use crate::ui;

pub(crate) const DATABASE: &str = "slotkeeper_bench";

/// The queues of most lines.
pub(crate) const SPREAD_QUEUES: u32 = 2000;

/// Items of one assign_slots call while filling.
const FILL_BATCH: u32 = 20_000;

/// Granules from here on (the year 2084) are in no run's way: the bare statements count on from it.
const FREE_GRANULE: &str = "60000000";

/// As a server is that nobody has tuned much, but no checkpoint and no growing of the log falls into a run.
pub(crate) fn settings() -> Settings {
    Settings {
        throwaway: false,
        extra: "shared_buffers = '512MB'\nmin_wal_size = '2GB'\nmax_wal_size = '8GB'\ncheckpoint_timeout = '1h'\n"
            .to_owned(),
    }
}

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// Rounds of a line that has to reach a figure.
    pub(crate) rounds: u32,
    /// Rounds of a line that is there for information.
    pub(crate) rounds_for_information: u32,
    /// Seconds of one variant in one round.
    pub(crate) seconds: u32,
    /// Calls to either queue in one round of the lines about bookings ahead.
    pub(crate) pairs: u32,
    /// How many bookings are ahead there.
    pub(crate) far: u32,
    /// Calls after which a backend's memory is read again.
    pub(crate) calls: u32,
}

impl Pace {
    pub(crate) const FULL: Self = Self {
        rounds: 5,
        rounds_for_information: 2,
        seconds: 4,
        pairs: 2000,
        far: 1_000_000,
        calls: 1_000_000,
    };
    pub(crate) const QUICK: Self = Self {
        rounds: 3,
        rounds_for_information: 1,
        seconds: 2,
        pairs: 500,
        far: 100_000,
        calls: 100_000,
    };
}

/// What is booked when a round starts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) name: &'static str,
    /// Queues are called `queues_name-1`, …
    pub(crate) queues_name: &'static str,
    pub(crate) queues: u32,
    /// Contents s-1, s-2, …, that are booked, in turn over the queues.
    pub(crate) contents: u32,
}

impl State {
    /// 2,000 queues with four slots a day, planned 25 days ahead.
    pub(crate) const SPREAD: Self = Self {
        name: "spread",
        queues_name: "spread",
        queues: SPREAD_QUEUES,
        contents: 100 * SPREAD_QUEUES,
    };
    /// The same queues with the next days planned only.
    pub(crate) const SPARSE: Self = Self {
        name: "sparse",
        contents: 10 * SPREAD_QUEUES,
        ..Self::SPREAD
    };
    /// One queue with a slot a minute.
    pub(crate) const HOT: Self = Self {
        name: "hot",
        queues_name: "hot",
        queues: 1,
        contents: 500,
    };
    /// Nothing is booked.
    pub(crate) const EMPTY: Self = Self {
        name: "empty",
        contents: 0,
        ..Self::SPREAD
    };

    /// The id of the first of its queues: they are made first and in this order.
    pub(crate) fn first_queue(&self) -> u32 {
        if self.queues_name == Self::HOT.queues_name {
            SPREAD_QUEUES + 1
        } else {
            1
        }
    }
}

/// How many rows of a table hold a seat, and how many have given it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rows {
    pub(crate) live: i64,
    pub(crate) released: i64,
}

pub(crate) struct Ground<'c> {
    pub(crate) cluster: &'c Cluster,
    pub(crate) client: Client,
    pub(crate) pace: Pace,
    pgbench: Pgbench,
    folder: PathBuf,
    kept: Vec<&'static str>,
    /// The state that somebody has arranged last.
    pub(crate) arranged: Option<&'static str>,
    numbers: u32,
}

impl<'c> Ground<'c> {
    /// A new database with the extension, the tables of the other variants, and the queues.
    pub(crate) fn prepare(host: &Host, cluster: &'c Cluster, pace: Pace) -> Result<Self> {
        let pgbench = Pgbench::of(host)?;
        let folder = host.repo.root.join("benches");
        cluster.recreate_database(DATABASE, true)?;
        let mut client = cluster.connect(DATABASE)?;
        for file in ["setup.sql", "twin.sql", "slugs.sql", "publish.sql", "bindings.sql"] {
            let file = folder.join(file);
            let sql = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            client
                .batch_execute(&sql)
                .map_err(explained)
                .with_context(|| file.display().to_string())?;
        }
        let mut ground = Self {
            cluster,
            client,
            pace,
            pgbench,
            folder,
            kept: Vec::new(),
            arranged: None,
            numbers: 0,
        };
        ground.sql(&format!(
            r#"SELECT bench.make_queues('spread', {SPREAD_QUEUES}, '{{"daily": ["06:00", "12:00", "18:00", "21:00"]}}',
                                        '{{06:00,12:00,18:00,21:00}}');
               SELECT bench.make_queues('hot', 1, '{{"every": "1 minute"}}', ARRAY(
                   SELECT time '00:00' + minute * interval '1 minute' FROM generate_series(0, 1439) AS minute))"#
        ))?;
        for state in [State::SPREAD, State::HOT] {
            let name = format!("{}-1", state.queues_name);
            let id: i64 = ground.one(&format!(
                "SELECT queue_id FROM slotkeeper.queue WHERE profile_id = '{name}'"
            ))?;
            ensure!(id == i64::from(state.first_queue()), "queue {name} has the id {id}");
        }
        Ok(ground)
    }

    /// Statements whose results don't matter.
    pub(crate) fn sql(&mut self, statements: &str) -> Result<()> {
        self.client
            .batch_execute(statements)
            .map_err(explained)
            .with_context(|| statements.to_owned())
    }

    /// The only value of a query.
    pub(crate) fn one<T: for<'r> postgres::types::FromSql<'r>>(&mut self, query: &str) -> Result<T> {
        let row = self
            .client
            .query_one(query, &[])
            .map_err(explained)
            .with_context(|| query.to_owned())?;
        row.try_get(0).with_context(|| query.to_owned())
    }

    /// A number that no one has had before, for names.
    pub(crate) fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    /// A file below benches/.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Another connection to the same database.
    pub(crate) fn connect(&self) -> Result<Client> {
        self.cluster.connect(DATABASE)
    }

    /// Makes all tables hold this state and nothing else, vacuumed and on disk.
    pub(crate) fn arrange(&mut self, state: &State) -> Result<()> {
        if !self.kept.contains(&state.name) {
            ui::step(
                &format!("booking {} contents for the state \"{}\"", state.contents, state.name),
                || self.fill(state),
            )?;
            self.kept.push(state.name);
        }
        self.sql(&format!("SELECT bench.go_to_state('{}')", state.name))?;
        self.arranged = Some(state.name);
        self.settle()
    }

    fn fill(&mut self, state: &State) -> Result<()> {
        self.sql("TRUNCATE slotkeeper.booking, slotkeeper.full_run, slotkeeper.hole")?;
        self.book(state.queues_name, state.queues, "s", state.contents)?;
        self.sql(&format!("SELECT bench.keep_state('{}')", state.name))
    }

    /// Books PREFIX-1, PREFIX-2, … by assign_slots.
    pub(crate) fn book(&mut self, name: &str, queues: u32, prefix: &str, contents: u32) -> Result<()> {
        let mut from = 1;
        while from <= contents {
            let to = contents.min(from + FILL_BATCH - 1);
            self.sql(&format!(
                "SELECT bench.book('{name}', {queues}, '{prefix}', {from}, {to})"
            ))?;
            from = to + 1;
        }
        Ok(())
    }

    /// Nothing of what was done before is left to do during a run.
    pub(crate) fn settle(&mut self) -> Result<()> {
        for table in [
            "slotkeeper.booking",
            "slotkeeper.full_run",
            "slotkeeper.hole",
            "bench.bare",
            "bench.twin",
        ] {
            self.sql(&format!("VACUUM (ANALYZE) {table}"))?;
        }
        self.checkpoint()
    }

    /// Each run begins right behind a checkpoint, so that all write the same full pages.
    pub(crate) fn checkpoint(&mut self) -> Result<()> {
        self.sql("CHECKPOINT")
    }

    pub(crate) fn rows(&mut self, table: &str) -> Result<Rows> {
        let query = format!("SELECT count(*) FILTER (WHERE released_at IS NULL), count(released_at) FROM {table}");
        let row = self.client.query_one(&query, &[])?;
        Ok(Rows {
            live: row.get(0),
            released: row.get(1),
        })
    }

    /// Runs a script with the variables that all scripts know, and `more`.
    pub(crate) fn pgbench(&self, run: &Run<'_>, state: &State) -> Result<Said> {
        let mut variables = vec![
            ("name", state.queues_name.to_owned()),
            ("queues", state.queues.to_string()),
            ("first_queue", state.first_queue().to_string()),
            ("contents", state.contents.to_string()),
            ("free_granule", FREE_GRANULE.to_owned()),
        ];
        variables.extend(run.variables.iter().cloned());
        self.pgbench.run(
            self.cluster,
            DATABASE,
            &Run {
                variables: &variables,
                ..*run
            },
        )
    }
}
