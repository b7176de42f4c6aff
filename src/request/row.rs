//! The rows of `slotkeeper.request`: how they are found, made and changed. Nobody else touches them.

use crate::fault::Fault;
use crate::pg::change::{Changed, Writer};
use crate::pg::insert::{Columns, Inserter};
use crate::pg::json::Jsonb;
use crate::pg::scan::{Found, IndexScan, Key, Order, See};
use crate::pg::statement::{Statement, Value};
use crate::pg::subtransaction::until_not_overtaken;
use pgrx::pg_sys;
use slotkeeper_core::request::Digest;
use slotkeeper_core::request::life::{Life, Times, sweep_minute};
use slotkeeper_core::{Instant, MICROS_PER_SEC};

/// Numbers of the table's columns, in the order of sql/install/40_request.sql.
mod column {
    pub(super) const FINGERPRINT: i32 = 2;
    pub(super) const STARTED_AT: i32 = 3;
    pub(super) const HELD_UNTIL: i32 = 4;
    pub(super) const HOLDER: i32 = 5;
    pub(super) const LIFETIME: i32 = 6;
    pub(super) const ATTEMPT: i32 = 9;
    pub(super) const STATUS: i32 = 10;
    pub(super) const USER_ID: i32 = 11;
    pub(super) const KEY: i32 = 12;
    pub(super) const METHOD: i32 = 13;
    pub(super) const PATH: i32 = 14;
    pub(super) const RESOURCE: i32 = 15;
    pub(super) const HEADERS: i32 = 16;
    pub(super) const BODY: i32 = 17;
}

/// A stored request.
pub(crate) struct Stored {
    /// Where the row lies.
    id: u64,
    pub(crate) fingerprint: i64,
    pub(crate) times: Times,
    pub(crate) holder: i64,
    pub(crate) attempt: i16,
    pub(crate) status: Option<i16>,
    pub(crate) user_id: Option<String>,
    pub(crate) key: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) resource: Option<String>,
    pub(crate) headers: Option<Jsonb>,
    pub(crate) body: Option<Jsonb>,
    /// Whether this very transaction wrote it.
    pub(crate) own: bool,
}

/// What there is under a name.
pub(crate) enum Look {
    /// Nothing that can be seen.
    Nothing,
    /// A row that another open transaction has made, or is changing in a way that matters.
    Busy(pg_sys::TransactionId),
    Row(Box<Stored>),
}

/// The place of one name, open for looking.
pub(crate) struct Place {
    scan: IndexScan,
    name: Digest,
}

impl Place {
    pub(crate) fn open(name: &Digest) -> Result<Self, Fault> {
        let scan = IndexScan::open(c"request", c"request_pkey", 1, See::Uncommitted)?;
        Ok(Self { scan, name: *name })
    }

    /// Looks with the eyes of a unique check: rows of open transactions are seen. A row that is finished and not yet
    /// expired is what it is, also while another transaction is at it: counting its replays, or removing it.
    ///
    /// `Nothing` may be wrong while a row is moved inside the table; [`Place::committed`] tells.
    pub(crate) fn look(&mut self, now: Instant) -> Result<Look, Fault> {
        self.scan.search(&[(1, Key::IsUuid(self.name))], Order::Ascending);
        let Some(found) = self.scan.next() else {
            return Ok(Look::Nothing);
        };
        if let Some(inserter) = found.inserter() {
            return Ok(Look::Busy(inserter));
        }
        let stored = read(&found)?;
        match found.changer() {
            Some(changer) if !matches!(stored.times.life(now), Life::Finished | Life::Expired) => {
                Ok(Look::Busy(changer))
            }
            _ => Ok(Look::Row(Box::new(stored))),
        }
    }

    /// Looks at what is committed now, and the caller's own.
    pub(crate) fn committed(mut self, now: Instant) -> Result<Look, Fault> {
        self.scan.see(See::Committed);
        self.look(now)
    }
}

fn read(found: &Found<'_>) -> Result<Stored, Fault> {
    let status: Option<i16> = found.value(column::STATUS)?;
    Ok(Stored {
        id: found.id(),
        fingerprint: found.must(column::FINGERPRINT)?,
        times: Times {
            started_at: found.instant_at(column::STARTED_AT)?,
            held_until: found.instant_at(column::HELD_UNTIL)?,
            lifetime: found.must(column::LIFETIME)?,
            finished: status.is_some(),
        },
        holder: found.must(column::HOLDER)?,
        attempt: found.must(column::ATTEMPT)?,
        status,
        user_id: found.value(column::USER_ID)?,
        key: found.must(column::KEY)?,
        method: found.must(column::METHOD)?,
        path: found.must(column::PATH)?,
        resource: found.value(column::RESOURCE)?,
        headers: found.jsonb(column::HEADERS)?,
        body: found.jsonb(column::BODY)?,
        own: found.is_own(),
    })
}

/// The holder of a request that begins and ends in one transaction: there is no token of it.
pub(crate) const NOBODY: i64 = 0;

/// A request that somebody begins.
pub(crate) struct New<'a> {
    pub(crate) name: Digest,
    pub(crate) fingerprint: i64,
    pub(crate) user_id: Option<&'a str>,
    pub(crate) key: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) lease: Instant,
    pub(crate) lifetime: i32,
}

impl New<'_> {
    /// No sweep need look at the row before: its lifetime begins with the finish, which is yet to come.
    fn sweep_at(&self, now: Instant) -> i32 {
        sweep_minute(now.saturating_add(i64::from(self.lifetime).saturating_mul(MICROS_PER_SEC)))
    }
}

/// What [`insert`] writes.
static BEGUN: Columns = Columns {
    table: c"request",
    names: &[
        c"name",
        c"fingerprint",
        c"started_at",
        c"held_until",
        c"holder",
        c"lifetime",
        c"sweep_at",
        c"attempt",
        c"user_id",
        c"key",
        c"method",
        c"path",
    ],
};

thread_local! {
    static START_OVER: Statement = const { Statement::by_index(c"
UPDATE slotkeeper.request
 SET fingerprint = $3, started_at = $4, held_until = $5, holder = $6, lifetime = $7, sweep_at = $8, replays = NULL,
     attempt = 1, status = NULL, method = $9, path = $10, resource = NULL, headers = NULL, body = NULL
 WHERE name OPERATOR(pg_catalog.=) $1 AND holder OPERATOR(pg_catalog.=) $2
 RETURNING true") };

    static TAKE_OVER: Statement = const { Statement::by_index(c"
UPDATE slotkeeper.request
 SET held_until = $3, holder = $4, lifetime = $5, attempt = $6
 WHERE name OPERATOR(pg_catalog.=) $1 AND holder OPERATOR(pg_catalog.=) $2 AND status IS NULL
 RETURNING true") };

    static EXTEND: Statement = const { Statement::by_index(c"
UPDATE slotkeeper.request SET held_until = $3
 WHERE name OPERATOR(pg_catalog.=) $1 AND holder OPERATOR(pg_catalog.=) $2 AND status IS NULL
 RETURNING true") };

    static FINISH: Statement = const { Statement::by_index(c"
UPDATE slotkeeper.request SET held_until = $3, status = $4, resource = $5, headers = $6, body = $7
 WHERE name OPERATOR(pg_catalog.=) $1 AND holder OPERATOR(pg_catalog.=) $2 AND status IS NULL
 RETURNING true") };

    static RELEASE: Statement = const { Statement::by_index(c"
DELETE FROM slotkeeper.request
 WHERE name OPERATOR(pg_catalog.=) $1 AND holder OPERATOR(pg_catalog.=) $2 AND status IS NULL
 RETURNING true") };

}

/// Whether a row was changed. Who cleans up, or removes a user, may be at it without its brief lock.
fn changed(statement: &Statement, values: &[Value<'_>]) -> Result<bool, Fault> {
    let rows = until_not_overtaken(|| statement.write(values, |row| row.must::<bool>(1)))?;
    Ok(!rows.is_empty())
}

/// A row that this transaction has inserted.
#[derive(Clone, Copy)]
pub(crate) struct Own(u64);

/// Inserts the row of a request that begins.
pub(crate) fn insert(new: &New<'_>, holder: i64, now: Instant) -> Result<Own, Fault> {
    let mut inserter = Inserter::open(&BEGUN)?;
    let id = inserter.insert(&[
        Value::uuid(new.name),
        Value::Int8(new.fingerprint),
        Value::Time(now),
        Value::Time(now.saturating_add(new.lease)),
        Value::Int8(holder),
        Value::Int4(new.lifetime),
        Value::Int4(new.sweep_at(now)),
        Value::Int2(1),
        Value::OptionalText(new.user_id),
        Value::Text(new.key),
        Value::Text(new.method),
        Value::Text(new.path),
    ])?;
    inserter.flush();
    Ok(Own(id))
}

/// Begins anew in the row of a request that is gone. False where somebody else was quicker.
pub(crate) fn start_over(old: &Stored, new: &New<'_>, holder: i64, now: Instant) -> Result<bool, Fault> {
    let values = [
        Value::uuid(new.name),
        Value::Int8(old.holder),
        Value::Int8(new.fingerprint),
        Value::Time(now),
        Value::Time(now.saturating_add(new.lease)),
        Value::Int8(holder),
        Value::Int4(new.lifetime),
        Value::Int4(new.sweep_at(now)),
        Value::Text(new.method),
        Value::Text(new.path),
    ];
    START_OVER.with(|update| changed(update, &values))
}

/// Gives a request whose lease is over to a new holder. False where somebody else was quicker.
pub(crate) fn take_over(old: &Stored, new: &New<'_>, holder: i64, now: Instant) -> Result<bool, Fault> {
    let values = [
        Value::uuid(new.name),
        Value::Int8(old.holder),
        Value::Time(now.saturating_add(new.lease)),
        Value::Int8(holder),
        Value::Int4(new.lifetime),
        Value::Int2(old.attempt.saturating_add(1)),
    ];
    TAKE_OVER.with(|update| changed(update, &values))
}

/// Moves the end of the holder's lease.
pub(crate) fn extend(name: &Digest, holder: i64, until: Instant) -> Result<bool, Fault> {
    let values = [Value::uuid(*name), Value::Int8(holder), Value::Time(until)];
    EXTEND.with(|update| changed(update, &values))
}

/// What a response consists of.
pub(crate) struct Response<'a> {
    pub(crate) status: i16,
    pub(crate) headers: Option<Jsonb>,
    pub(crate) body: Option<Jsonb>,
    pub(crate) resource: Option<&'a str>,
}

/// Stores the response of the request that was found, kept until this instant. False where somebody else was quicker.
pub(crate) fn finish(held: &Stored, name: &Digest, until: Instant, response: &Response<'_>) -> Result<bool, Fault> {
    store(Some(held.id), name, held.holder, until, response)
}

/// The same of a request that this very transaction has begun for [`NOBODY`].
pub(crate) fn finish_own(
    row: Option<Own>,
    name: &Digest,
    until: Instant,
    response: &Response<'_>,
) -> Result<bool, Fault> {
    store(row.map(|Own(id)| id), name, NOBODY, until, response)
}

fn store(id: Option<u64>, name: &Digest, holder: i64, until: Instant, response: &Response<'_>) -> Result<bool, Fault> {
    let set = [
        (c"held_until", Value::Time(until)),
        (c"status", Value::Int2(response.status)),
        (c"resource", Value::OptionalText(response.resource)),
        (c"headers", Value::Jsonb(response.headers)),
        (c"body", Value::Jsonb(response.body)),
    ];
    let write = |id| Writer::open(c"request")?.update_at(id, &set);
    match id.map(write).transpose()? {
        Some(Changed::Done) => Ok(true),
        Some(Changed::Overtaken) => Ok(false),
        Some(Changed::AsksMore) | None => {
            let [until, status, resource, headers, body] = set.map(|(_, value)| value);
            let name_and_holder = [Value::uuid(*name), Value::Int8(holder)];
            let values = [name_and_holder.as_slice(), &[until, status, resource, headers, body]].concat();
            FINISH.with(|update| changed(update, &values))
        }
    }
}

/// Frees the key.
pub(crate) fn release(name: &Digest, holder: i64) -> Result<bool, Fault> {
    RELEASE.with(|delete| changed(delete, &[Value::uuid(*name), Value::Int8(holder)]))
}
