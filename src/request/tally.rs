//! Counting without writing: each backend counts in its own memory, and adds what it has to the tables when it writes
//! anyway, or after a while. A replay is a read.
//!
//! So counts lag by seconds, and what a backend has not yet added is lost when it ends. The first count of a backend is
//! added at once: with one connection a call none is lost.

use crate::fault::Fault;
use crate::pg::statement::{Statement, Value};
use crate::pg::subtransaction::unless;
use crate::pg::time::clock;
use crate::pg::{Isolation, isolation};
use pgrx::{PgSqlErrorCode, PgXactCallbackEvent, register_xact_callback};
use slotkeeper_core::request::Digest;
use slotkeeper_core::{Instant, MICROS_PER_SEC};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// How long a backend keeps counts to itself.
const KEPT: Instant = 5 * MICROS_PER_SEC;

/// Of how many keys it counts replays before it adds them.
const MANY_KEYS: usize = 200;

/// How requests were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) started: i64,
    pub(crate) replays: i64,
    pub(crate) in_progress: i64,
    pub(crate) mismatches: i64,
    pub(crate) takeovers: i64,
    pub(crate) expired: i64,
    pub(crate) unprotected: i64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.started += other.started;
        self.replays += other.replays;
        self.in_progress += other.in_progress;
        self.mismatches += other.mismatches;
        self.takeovers += other.takeovers;
        self.expired += other.expired;
        self.unprotected += other.unprotected;
    }
}

#[derive(Default)]
struct Pending {
    tally: Tally,
    replays: HashMap<Digest, i32>,
}

impl Pending {
    /// Counts replays of a key; true when that makes it many keys. What comes on top, where they cannot be added for a
    /// long time, is counted in the sum only.
    fn count_replays(&mut self, name: Digest, count: i32) -> bool {
        if let Some(known) = self.replays.get_mut(&name) {
            *known = known.saturating_add(count);
            return false;
        }
        if self.replays.len() < MANY_KEYS {
            self.replays.insert(name, count);
            return self.replays.len() == MANY_KEYS;
        }
        false
    }
}

thread_local! {
    static PENDING: RefCell<Pending> = RefCell::new(Pending::default());
    /// When this backend adds its counts next.
    static NEXT: Cell<Instant> = const { Cell::new(Instant::MIN) };

    // Folds a few rows into one on the way, those that nobody else is folding.
    static ADD: Statement = const { Statement::new(c"
WITH folded AS (
    DELETE FROM slotkeeper.request_tally AS t
    WHERE t.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT f.ctid FROM slotkeeper.request_tally AS f LIMIT 4 FOR UPDATE SKIP LOCKED))
    RETURNING t.started, t.replays, t.in_progress, t.mismatches, t.takeovers, t.expired, t.unprotected
)
INSERT INTO slotkeeper.request_tally (started, replays, in_progress, mismatches, takeovers, expired, unprotected)
SELECT $1 OPERATOR(pg_catalog.+) coalesce(pg_catalog.sum(f.started), 0)::pg_catalog.int8,
       $2 OPERATOR(pg_catalog.+) coalesce(pg_catalog.sum(f.replays), 0)::pg_catalog.int8,
       $3 OPERATOR(pg_catalog.+) coalesce(pg_catalog.sum(f.in_progress), 0)::pg_catalog.int8,
       $4 OPERATOR(pg_catalog.+) coalesce(pg_catalog.sum(f.mismatches), 0)::pg_catalog.int8,
       $5 OPERATOR(pg_catalog.+) coalesce(pg_catalog.sum(f.takeovers), 0)::pg_catalog.int8,
       $6 OPERATOR(pg_catalog.+) coalesce(pg_catalog.sum(f.expired), 0)::pg_catalog.int8,
       $7 OPERATOR(pg_catalog.+) coalesce(pg_catalog.sum(f.unprotected), 0)::pg_catalog.int8
FROM folded AS f") };

    static ADD_REPLAYS: Statement = const { Statement::by_index(c"
UPDATE slotkeeper.request AS r SET replays = coalesce(r.replays, 0) OPERATOR(pg_catalog.+) $2
WHERE r.ctid OPERATOR(pg_catalog.=) (
    SELECT f.ctid FROM slotkeeper.request AS f
    WHERE f.name OPERATOR(pg_catalog.=) $1 AND f.status IS NOT NULL
    FOR UPDATE SKIP LOCKED)") };
}

/// Counts an answer.
pub(super) fn count(change: impl FnOnce(&mut Tally)) -> Result<(), Fault> {
    PENDING.with_borrow_mut(|pending| change(&mut pending.tally));
    add_if_due()
}

/// Counts a replay of this key.
pub(super) fn count_replay(name: &Digest) -> Result<(), Fault> {
    let many = PENDING.with_borrow_mut(|pending| {
        pending.tally.replays += 1;
        pending.count_replays(*name, 1)
    });
    if many {
        NEXT.set(Instant::MIN);
    }
    add_if_due()
}

fn add_if_due() -> Result<(), Fault> {
    let at = clock();
    if at < NEXT.get() {
        return Ok(());
    }
    NEXT.set(at.saturating_add(KEPT));
    let pending = PENDING.take();
    let replays: Vec<(Digest, i32)> = pending.replays.iter().map(|(name, count)| (*name, *count)).collect();
    let tally = pending.tally;
    let added = unless_others_matter(|| {
        let counts = [
            tally.started,
            tally.replays,
            tally.in_progress,
            tally.mismatches,
            tally.takeovers,
            tally.expired,
            tally.unprotected,
        ];
        ADD.with(|add| add.write(&counts.map(Value::Int8), |_| Ok(())))?;
        for (name, count) in &replays {
            ADD_REPLAYS.with(|add| add.write(&[Value::uuid(*name), Value::Int4(*count)], |_| Ok(())))?;
        }
        Ok(())
    })?;
    if added.is_some() {
        // Unless the caller's transaction rolls back: the answers were given all the same.
        register_xact_callback(PgXactCallbackEvent::Abort, move || take_back(pending));
    } else {
        take_back(pending);
    }
    Ok(())
}

fn take_back(counts: Pending) {
    let _ = PENDING.try_with(|pending| {
        if let Ok(mut pending) = pending.try_borrow_mut() {
            pending.tally.add(&counts.tally);
            for (name, count) in counts.replays {
                pending.count_replays(name, count);
            }
        }
    });
}

/// Runs housekeeping inside the caller's transaction where it cannot harm it: `None` where it was left alone. In
/// REPEATABLE READ a row that somebody else has changed meanwhile would be an error; it is undone and forgotten. In
/// SERIALIZABLE even reading could make the caller fail later, so nothing is done.
pub(super) fn unless_others_matter<T>(act: impl FnOnce() -> Result<T, Fault>) -> Result<Option<T>, Fault> {
    match isolation() {
        Isolation::ReadCommitted => act().map(Some),
        Isolation::RepeatableRead => unless(PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE, act),
        Isolation::Serializable => Ok(None),
    }
}
