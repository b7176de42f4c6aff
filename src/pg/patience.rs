//! Locks that others must not queue behind.
//!
//! Whoever comes after a waiter for a strong lock waits behind him, as long as the one in front of both takes: a writer that
//! has gone to lunch with an open transaction stops all others. So such locks are asked for in short tries, each in a
//! subtransaction of its own, and between two tries everybody else has longer than the try took.

use super::dynamic::{See, query};
use super::lock::{ALL_TABLES, Key, Waiting, hold_relation, shown_of_source};
use super::relation_oid;
use super::statement::{Statement, Value};
use super::subtransaction::unless;
use super::time::pause;
use crate::fault::Fault;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::time::{Duration, Instant as Clock};

/// How long the first try may keep others waiting, and the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_millis(400);

/// When the last try begins at the latest, where the session's `lock_timeout` doesn't say.
const LIMIT: Duration = Duration::from_secs(60);

/// So many tries may end in a circle. One more, and it is made of what was held before.
const MANY_CIRCLES: u32 = 10;

/// Tries to get a lock.
pub(crate) struct Patience {
    began: Clock,
    limit: Duration,
    wait: Duration,
    /// Tries that have ended in a circle of waiters.
    circles: u32,
}

/// What is asked for.
pub(crate) enum Sought<'a> {
    /// A table, its partitions included.
    Table {
        oid: pg_sys::Oid,
        name: &'a str,
        against: Against,
        /// The source under which it is attached, from those who book without its rows.
        source: Option<&'a str>,
    },
    /// A queue, from those who book in it.
    Queue { profile_id: &'a str, platform: &'a str },
}

thread_local! {
    static PARTITIONS: Statement = const { Statement::new(c"
SELECT tree.relid::pg_catalog.oid
FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid::pg_catalog.regclass) AS tree
WHERE tree.relid OPERATOR(pg_catalog.<>) $1::pg_catalog.oid
ORDER BY tree.level, tree.relid") };
}

/// Keeps others away from a table and its partitions until the transaction ends, as making triggers does. 55P03 where there
/// is no getting it.
pub(crate) fn hold_table(oid: pg_sys::Oid, name: &str, against: Against) -> Result<(), Fault> {
    let sought = Sought::Table {
        oid,
        name,
        against,
        source: None,
    };
    Patience::get(&sought, || try_hold_table(oid, against))
}

/// One try of [`hold_table`].
pub(crate) fn try_hold_table(oid: pg_sys::Oid, against: Against) -> Result<(), Fault> {
    // Once it is held no partition is attached any more.
    hold_relation(oid, against.mode());
    let partitions: Vec<pg_sys::Oid> =
        PARTITIONS.with(|all| all.read(&[Value::Int8(i64::from(oid.to_u32()))], |row| row.must(1)))?;
    for partition in partitions {
        hold_relation(partition, against.mode());
    }
    Ok(())
}

/// Whom a lock on a table keeps away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    Writers,
    Everybody,
}

impl Against {
    fn mode(self) -> pg_sys::LOCKMODE {
        let mode = match self {
            Self::Writers => pg_sys::ShareRowExclusiveLock,
            Self::Everybody => pg_sys::AccessExclusiveLock,
        };
        mode as pg_sys::LOCKMODE
    }

    /// Modes in which others may have the table open all the same.
    fn harmless(self) -> &'static [Option<&'static str>] {
        match self {
            Self::Writers => &[Some("AccessShareLock"), Some("RowShareLock")],
            Self::Everybody => &[],
        }
    }
}

impl Patience {
    pub(crate) fn begin() -> Self {
        let limit = Waiting::session_limit().unwrap_or(LIMIT);
        Self {
            began: Clock::now(),
            limit,
            wait: FIRST.min(limit),
            circles: 0,
        }
    }

    /// One try. False where somebody holds what `acquire` asks for; then nothing of it is left. So it is, the first times, where he
    /// waits for some of it: without that he goes on.
    pub(crate) fn has_got(&mut self, acquire: impl FnOnce() -> Result<(), Fault>) -> Result<bool, Fault> {
        let _waiting = Waiting::at_most(self.wait);
        let acquire = || unless(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, acquire);
        if self.circles >= MANY_CIRCLES {
            return acquire().map(|got| got.is_some());
        }
        let got = unless(PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED, acquire)?;
        self.circles += u32::from(got.is_none());
        Ok(got.flatten().is_some())
    }

    /// After a try in vain: lets others have their turn; 55P03 where it has been long enough.
    pub(crate) fn go_on(&mut self, sought: &Sought<'_>) -> Result<(), Fault> {
        if self.began.elapsed() >= self.limit {
            return Err(sought.in_use()?);
        }
        pause(
            i64::try_from(self.wait.as_micros())
                .unwrap_or(i64::MAX)
                .saturating_mul(2),
        );
        self.wait = (self.wait * 3 / 2).min(LONGEST).min(self.limit);
        Ok(())
    }

    /// Tries until `acquire` has got it.
    pub(crate) fn get(sought: &Sought<'_>, acquire: impl Fn() -> Result<(), Fault>) -> Result<(), Fault> {
        let mut patience = Self::begin();
        while !patience.has_got(&acquire)? {
            patience.go_on(sought)?;
        }
        Ok(())
    }
}

/// Run as the caller: of other roles' sessions he learns no more than the server's own views tell him.
const HOLDERS: &str = "
SELECT DISTINCT coalesce(
    pg_catalog.format('process %s%s', l.pid, (
        SELECT pg_catalog.format(' (role %s, %s since %s)', a.usename, a.state, pg_catalog.to_char(
                   pg_catalog.timezone('UTC', a.state_change), 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'))
        FROM pg_catalog.pg_stat_activity AS a
        WHERE a.pid OPERATOR(pg_catalog.=) l.pid AND a.state IS NOT NULL)),
    'a prepared transaction')
FROM pg_catalog.pg_locks AS l
WHERE l.granted AND (l.pid IS NULL OR l.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid())
  AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database AS d
                                         WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())";

const OF_TABLE: &str = "
  AND l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.mode OPERATOR(pg_catalog.<>) ALL ($2)
  AND (l.relation OPERATOR(pg_catalog.=) $1::pg_catalog.oid
       OR l.relation OPERATOR(pg_catalog.=) ANY (SELECT tree.relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid::pg_catalog.regclass) AS tree))
ORDER BY 1 LIMIT 10";

const OF_KEYS: &str = "
  AND l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.objsubid OPERATOR(pg_catalog.=) $1
  AND (l.classid::pg_catalog.int8 OPERATOR(pg_catalog.=) $2 AND l.objid::pg_catalog.int8 OPERATOR(pg_catalog.=) $3
       OR l.classid::pg_catalog.int8 OPERATOR(pg_catalog.=) $4 AND l.objid::pg_catalog.int8 OPERATOR(pg_catalog.=) $5)
ORDER BY 1 LIMIT 10";

impl Sought<'_> {
    fn holders(&self) -> Result<Vec<String>, Fault> {
        let holders = |condition: &str, values: &[Value<'_>]| {
            query(&format!("{HOLDERS}{condition}"), See::Latest, values, |row| {
                row.must::<String>(1)
            })
        };
        match self {
            Self::Table {
                oid, against, source, ..
            } => {
                let of_relation = |oid: pg_sys::Oid, harmless: &[Option<&str>]| {
                    let oid = Value::Int8(i64::from(oid.to_u32()));
                    holders(OF_TABLE, &[oid, Value::Texts(harmless)])
                };
                let mut all = of_relation(*oid, against.harmless())?;
                if let Some(source) = source {
                    all.extend(of_relation(relation_oid(ALL_TABLES)?, &[Some("AccessShareLock")])?);
                    all.extend(holders(OF_KEYS, &shown_of_source(source).map(Value::Int8))?);
                    all.sort_unstable();
                    all.dedup();
                }
                Ok(all)
            }
            Self::Queue { profile_id, platform } => {
                let numbers = Key::Queue { profile_id, platform }.shown_of_queue();
                holders(OF_KEYS, &numbers.map(Value::Int8))
            }
        }
    }

    fn in_use(&self) -> Result<Fault, Fault> {
        let (message, hint) = match self {
            Self::Table { name, .. } => (
                format!("table {name} is in use"),
                "Nothing was changed. Have these transactions end, and try again; lock_timeout says for how long at most.",
            ),
            Self::Queue { profile_id, platform } => (
                format!("queue ({profile_id}, {platform}) is in use"),
                "Nothing was changed. Have the transactions end that have booked in it, and try again; lock_timeout says for how long at most.",
            ),
        };
        let holders = self.holders()?;
        let detail = match holders.is_empty() {
            true => "Those who held it have given it back just now.".to_owned(),
            false => format!("Held by {}.", holders.join(", ")),
        };
        Ok(Fault::unbindable(
            PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
            message,
            detail,
            hint,
        ))
    }
}
