//! The table, on the terminal and as Markdown, and the values behind it as CSV.

use std::fmt::Write as _;
use std::path::Path;

use comfy_table::Table;

use crate::bench::figures::{Limit, Line, Ratio, Who};
use crate::bench::ground::{Pace, SPREAD_QUEUES, State};
use crate::host::Host;
use crate::ui;

const HEADER: [&str; 10] = [
    "line",
    "slotkeeper",
    "baseline",
    "ratio",
    "required",
    "met",
    "PL/pgSQL twin",
    "times the twin",
    "required",
    "met",
];

/// The table's cells.
fn cells(line: &Line) -> Vec<String> {
    let shown = |who| line.median(who).map_or_else(String::new, |value| line.unit.show(value));
    let baseline = match (shown(Who::Baseline), line.baseline.as_str()) {
        (figure, name) if figure.is_empty() => name.to_owned(),
        (figure, name) => format!("{figure} {name}"),
    };
    let to = |who, limit: Option<Limit>| {
        let ratio = line.ratio_to(who);
        let required = limit.map_or_else(String::new, Limit::show);
        let met = match (ratio, limit) {
            (Some(ratio), Some(limit)) if limit.holds(ratio.median) => "✓",
            (Some(_), Some(_)) => "✗",
            _ => "",
        };
        [ratio.map_or_else(String::new, spread), required, met.to_owned()]
    };
    let mut cells = vec![line.title.clone(), shown(Who::Slotkeeper), baseline];
    cells.extend(to(Who::Baseline, line.required));
    cells.push(shown(Who::Twin));
    cells.extend(to(Who::Twin, line.required_of_twin));
    cells
}

fn spread(Ratio { median, least, most }: Ratio) -> String {
    if least == most {
        format!("{median:.2}")
    } else {
        format!("{median:.2} ({least:.2} – {most:.2})")
    }
}

/// For the terminal.
pub(crate) fn table(lines: &[Line]) -> Table {
    let mut table = ui::table(&HEADER);
    for line in lines {
        table.add_row(cells(line));
    }
    table
}

/// A page with the table, the plot, and how it was measured.
pub(crate) fn markdown(lines: &[Line], host: &Host, pace: &Pace, quick: bool, load_before: Option<&str>) -> String {
    let mut text = String::from("# Benchmark\n\nWritten by `cargo xtask bench`");
    text += if quick {
        " `--quick`: short runs, no figures to quote.\n\n"
    } else {
        ".\n\n"
    };
    let _ = writeln!(text, "| {} |", HEADER.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(HEADER.len()));
    for line in lines {
        let _ = writeln!(text, "| {} |", cells(line).join(" | "));
    }
    text += "\n![Ratios of slotkeeper and the twin to the baseline](bench.svg)\n\n## Machine\n\n";
    let _ = writeln!(text, "- {}, {}", host.pg.version, machine());
    if let Some(load) = load_before {
        let _ = writeln!(text, "- Load average before the run: {load}");
    }
    let _ = write!(
        text,
        "- A private server with `shared_buffers` 512 MB, `max_wal_size` 8 GB and `checkpoint_timeout` 1 h; all else as \
         PostgreSQL ships it: `fsync`, `synchronous_commit`, `full_page_writes` and autovacuum on.\n\n\
         ## How it is measured\n\n\
         - **The client** is pgbench with prepared statements, on the same machine, through the unix socket; one round trip \
           and one transaction per call in every variant (unschedule, then assign: two). assign_slots and the memory \
           lines need replies and parameters that pgbench cannot make: their client is the bench itself.\n\
         - **The baseline** writes the same row: same columns, checks, defaults and indexes (`LIKE slotkeeper.booking INCLUDING \
           ALL`), content ids from the same sequence, `RETURNING` the id and the instant. It is told where to \
           put the row; nobody looks whether the place is free.\n\
         - **The PL/pgSQL twin** (`benches/twin.sql`) is what one would write by hand: an advisory lock per queue until the commit, \
           then day by day and slot by slot one index probe each, and an INSERT. The same table, the same reply. Its \
           cost grows with what is booked ahead; the sparse line shows the other end.\n\
         - **Rounds.** The variants of a line take turns, in another order each time, {rounds} rounds of {seconds} s \
           each ({information} for lines without a required figure). Figures are medians of rounds. A ratio is taken within each round; shown are its \
           median and, in brackets, its extremes.\n\
         - **Each round starts** from emptied tables filled with the same rows in the same order, vacuumed, and each run right \
           behind a checkpoint: {queues} queues with four slots a day and {spread} bookings ahead in each (sparse: \
           {sparse}), or one queue with a slot a minute and {hot} ahead (hot). Connections are new in every run. \
           Lines about assign, other calls on 2,000 queues and guarded tables count after {seconds} s of warm-up in which these \
           sessions meet their queues, as those of a pool have; the line about clients that have just connected counts from the \
           first call, and so do all others.\n\
         - **Many ahead**: {far} contents booked into one queue by assign_slots. One script calls in turn a queue with {near} to \
           {near_last} ahead and the one with many; figures are pgbench's mean latencies of these two statements. The holes are made by \
           unscheduling every {nth}th content, and the measured calls consume them. **No commit wait** means `synchronous_commit` off: \
           the disk no longer hides what the search costs.\n\
         - **assign_slots**: items as one JSON parameter and the whole reply, against one INSERT … SELECT from generate_series with all its \
           returned rows, five of either in turn per round, one transaction each.\n\
         - **Memory**: one backend, calls of every kind over 1,000 queues, one of twenty fails; read from \
           `pg_backend_memory_contexts` and the kernel (RssAnon).\n\
         - **Publishing**: contents booked by plain INSERTs in 2,000 queues, due minutes ago; each call in a transaction of its own, \
           16 workers. With `--peers` pgmq, from the SQL that its crate embeds, reads and archives as many messages at once; \
           graphile-worker and pg-boss, from npm, run in one Node process: 16 tasks at once that do nothing, fetched into a local \
           queue of 500 and completed in batches; 16 loops that fetch and complete as many jobs at once, out of few seconds' \
           work, since each fetch sorts all that waits. Claims \
           with many ahead, or a tenth as many blocked in a paused queue: 500 claims of one content by one client. The old snapshot is a \
           REPEATABLE READ transaction that stays open; the row versions written meanwhile are counted: at most 4 a content.\n\
         - **Checked after every run**: no transaction failed, and the tables hold exactly the rows that the calls \
           should have left; so no reply was `queue_full`.\n",
        rounds = pace.rounds,
        seconds = pace.seconds,
        information = pace.rounds_for_information,
        queues = SPREAD_QUEUES,
        spread = State::SPREAD.contents / SPREAD_QUEUES,
        sparse = State::SPARSE.contents / SPREAD_QUEUES,
        hot = State::HOT.contents,
        far = super::figures::thousands(pace.far.into()),
        near = super::ahead::NEAR,
        near_last = 2 * super::ahead::NEAR - 1,
        nth = super::figures::thousands((pace.far / super::ahead::HOLES).into()),
    );
    text
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, model)| model.trim());
    format!("{cores} cores ({model})")
}

/// The system's load, to judge the figures by.
pub(crate) fn load_average() -> Option<String> {
    let text = std::fs::read_to_string(Path::new("/proc/loadavg")).ok()?;
    Some(text.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}

/// Every value of every round.
pub(crate) fn csv(lines: &[Line]) -> String {
    let mut text = String::from("line,variant,round,value,unit\n");
    for line in lines {
        for (round, values) in line.rounds.iter().enumerate() {
            for (who, value) in values {
                let (id, who, unit) = (&line.id, who.name(), line.unit.name());
                let _ = writeln!(text, "{id},{who},{},{value:.3},{unit}", round + 1);
            }
        }
    }
    text
}
