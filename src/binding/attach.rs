//! `attach_table`, `detach_table`: guarding a table, and leaving it alone again.

use super::collisions::{self, Unbound, listed, listed_unbooked};
use super::existing::{Changes, Seen, close_published, survey};
use super::release::release_all;
use super::table::Table;
use super::triggers::{self, Conditions, Timing};
use super::{Binding, forget_known, of_table, row};
use crate::arguments::json;
use crate::clock::now;
use crate::fault::Fault;
use crate::manage;
use crate::pg::dynamic::{Moment, See, qualified, query};
use crate::pg::json::{JsonArg, JsonReply};
use crate::pg::lock::{take_source, wait_for};
use crate::pg::patience::{Against, Patience, Sought, try_hold_table};
use crate::pg::predicate::RowOf;
use crate::pg::refuse_read_only;
use crate::pg::role::caller_name;
use crate::pg::statement::{Statement, Value};
use crate::pg::table::RegClass;
use crate::reply::Reply;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{PgSqlErrorCode, pg_sys};
use serde_json::Value as JsonValue;
use slotkeeper_core::binding::TableOptions;
use std::collections::HashSet;

thread_local! {
    static ADD: Statement = const { Statement::new(c"
INSERT INTO slotkeeper.binding (kind, source, table_schema, table_name, options, attached_by)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (source, kind) DO UPDATE
SET table_schema = excluded.table_schema, table_name = excluded.table_name, options = excluded.options,
    attached_at = pg_catalog.clock_timestamp(), attached_by = excluded.attached_by, dropped_at = NULL
RETURNING binding_id") };

    static ID_COLUMN: Statement = const { Statement::new(c"
SELECT b.options OPERATOR(pg_catalog.->>) 'content_id'
FROM slotkeeper.binding AS b
WHERE b.source OPERATOR(pg_catalog.=) $1 AND b.kind OPERATOR(pg_catalog.=) 'content' AND b.dropped_at IS NULL
  AND EXISTS (SELECT FROM slotkeeper.booking AS k
              WHERE k.source OPERATOR(pg_catalog.=) $1 AND k.released_at IS NULL)") };

    static REMOVE: Statement = const { Statement::new(c"
DELETE FROM slotkeeper.binding WHERE binding_id OPERATOR(pg_catalog.=) $1") };

    /// A table that had another name when it was attached keeps its source.
    static SOURCE_OF: Statement = const { Statement::new(c"
SELECT b.source
FROM slotkeeper.binding AS b
JOIN slotkeeper.bound_relation AS r ON r.binding_id OPERATOR(pg_catalog.=) b.binding_id AND r.is_root
WHERE b.kind OPERATOR(pg_catalog.=) $2 AND r.relid OPERATOR(pg_catalog.=) $1::pg_catalog.oid") };

    static TAKEN_BY_ANOTHER: Statement = const { Statement::new(c"
SELECT 1
FROM slotkeeper.binding AS b
JOIN slotkeeper.bound_relation AS r ON r.binding_id OPERATOR(pg_catalog.=) b.binding_id AND r.is_root
JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) r.relid
WHERE b.kind OPERATOR(pg_catalog.=) $2 AND b.source OPERATOR(pg_catalog.=) $3
  AND r.relid OPERATOR(pg_catalog.<>) $1::pg_catalog.oid") };

    /// What keeps a table from being guarded: it is no permanent one, or has children of its own, or a trigger that fires after the
    /// guard.
    static OBSTACLES: Statement = const { Statement::new(c"
SELECT c.relpersistence::pg_catalog.text,
       c.relkind OPERATOR(pg_catalog.=) 'r'::\"char\"
           AND EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhparent OPERATOR(pg_catalog.=) c.oid),
       slotkeeper.late_triggers(c.oid)
FROM pg_catalog.pg_class AS c
WHERE c.oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid") };

    /// A table that this one is a partition of, or a partition of it, that is attached by itself.
    static RELATED: Statement = const { Statement::new(c"
SELECT b.source, r.relid OPERATOR(pg_catalog.=) ANY (SELECT above.relid FROM pg_catalog.pg_partition_ancestors($1::pg_catalog.oid::pg_catalog.regclass) AS above)
FROM slotkeeper.bound_relation AS r
JOIN slotkeeper.binding AS b ON b.binding_id OPERATOR(pg_catalog.=) r.binding_id AND b.kind OPERATOR(pg_catalog.=) 'content'
WHERE r.is_root AND r.relid OPERATOR(pg_catalog.<>) $1::pg_catalog.oid
  AND (r.relid OPERATOR(pg_catalog.=) ANY (SELECT above.relid FROM pg_catalog.pg_partition_ancestors($1::pg_catalog.oid::pg_catalog.regclass) AS above)
       OR r.relid OPERATOR(pg_catalog.=) ANY (SELECT part.relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid::pg_catalog.regclass) AS part))
ORDER BY b.source
LIMIT 1") };

    /// Those of the guard's triggers that are as they should be: one with a condition only carries it, and need not fire.
    static ENABLED: Statement = const { Statement::new(c"
SELECT t.tgname::pg_catalog.text
FROM pg_catalog.pg_trigger AS t
JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
WHERE t.tgrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid
  AND (t.tgenabled OPERATOR(pg_catalog.=) 'A'::\"char\" OR t.tgqual IS NOT NULL)
  AND p.pronamespace OPERATOR(pg_catalog.=) 'slotkeeper'::pg_catalog.regnamespace
  AND p.proname OPERATOR(pg_catalog.=) 'guard_row'::pg_catalog.name
ORDER BY t.tgname") };

    static TRIGGERS: Statement = const { Statement::new(c"
SELECT t.tgname::pg_catalog.text
FROM pg_catalog.pg_trigger AS t
JOIN pg_catalog.pg_proc AS p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
WHERE t.tgrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid AND t.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
  AND p.pronamespace OPERATOR(pg_catalog.=) 'slotkeeper'::pg_catalog.regnamespace
  AND p.proname OPERATOR(pg_catalog.=) $2::pg_catalog.name
ORDER BY t.tgname") };

    static PARTS: Statement = const { Statement::new(c"
SELECT c.oid, a.amhandler OPERATOR(pg_catalog.=) 'pg_catalog.heap_tableam_handler'::pg_catalog.regproc::pg_catalog.oid
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_am AS a ON a.oid OPERATOR(pg_catalog.=) c.relam
WHERE c.relkind OPERATOR(pg_catalog.=) 'r'::\"char\"
  AND (c.oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid
       OR c.oid OPERATOR(pg_catalog.=) ANY (SELECT tree.relid FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid::pg_catalog.regclass) AS tree))
ORDER BY c.oid") };

    static FORGET_RELATIONS: Statement = const { Statement::new(c"
DELETE FROM slotkeeper.bound_relation WHERE binding_id OPERATOR(pg_catalog.=) $1") };

    static REMEMBER_RELATIONS: Statement = const { Statement::new(c"
INSERT INTO slotkeeper.bound_relation (binding_id, relid, is_root, filenode, triggers, predicates)
SELECT $1, c.oid, c.oid OPERATOR(pg_catalog.=) $2::pg_catalog.oid, c.relfilenode, slotkeeper.trigger_digest(c.oid, b.kind),
       CASE WHEN b.kind OPERATOR(pg_catalog.=) 'content' AND c.oid OPERATOR(pg_catalog.=) $2::pg_catalog.oid
            THEN slotkeeper.predicate_digest(c.oid) END
FROM pg_catalog.pg_class AS c
JOIN slotkeeper.binding AS b ON b.binding_id OPERATOR(pg_catalog.=) $1
WHERE c.oid OPERATOR(pg_catalog.=) $2::pg_catalog.oid
   OR c.oid OPERATOR(pg_catalog.=) ANY (SELECT tree.relid FROM pg_catalog.pg_partition_tree($2::pg_catalog.oid::pg_catalog.regclass) AS tree)") };

    static NOTE_REFUSED: Statement = const { Statement::new(c"
UPDATE slotkeeper.bound_relation SET triggers = 'refused'
WHERE binding_id OPERATOR(pg_catalog.=) $1 AND is_root AND triggers OPERATOR(pg_catalog.<>) 'refused'") };

    static RENAME: Statement = const { Statement::new(c"
UPDATE slotkeeper.binding SET table_schema = $2, table_name = $3
WHERE binding_id OPERATOR(pg_catalog.=) $1
  AND (table_schema OPERATOR(pg_catalog.<>) $2 OR table_name OPERATOR(pg_catalog.<>) $3)") };
}

/// Only who owns a table decides who guards it.
pub(super) fn require_owner(table: &Table) -> Result<(), Fault> {
    if table.is_owned_by(&caller_name())? {
        return Ok(());
    }
    Err(Fault::unbindable(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("must be owner of table {}", table.name),
        format!("{} is not, and not a member of the role that is.", caller_name()),
        "Call it as the role that owns the table.",
    ))
}

/// Whoever attaches or reconciles a table must see all its rows.
pub(super) fn require_readable(table: &Table, why: &str) -> Result<(), Fault> {
    if !table.hides_rows() {
        return Ok(());
    }
    Err(Fault::unbindable(
        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        format!("row-level security of {} may hide rows from you", table.quoted()?),
        why,
        "Call it as a role that sees all rows: the owner where security isn't forced, or one with BYPASSRLS.",
    ))
}

/// The source of a table: how it is called when it is first attached. Another table that was called so then, and is
/// still bound, keeps it.
pub(super) fn source_of(table: &Table, kind: &str) -> Result<String, Fault> {
    let oid = Value::Int8(i64::from(table.oid.to_u32()));
    let known: Vec<String> = SOURCE_OF.with(|source| source.read(&[oid, Value::Text(kind)], |row| row.must(1)))?;
    if let Some(source) = known.into_iter().next() {
        return Ok(source);
    }
    let name = qualified(&table.schema, &table.name)?;
    let mut source = name.clone();
    for n in 2.. {
        let values = [oid, Value::Text(kind), Value::Text(&source)];
        if TAKEN_BY_ANOTHER
            .with(|taken| taken.read(&values, |_| Ok(())))?
            .is_empty()
        {
            break;
        }
        source = format!("{name}#{n}");
    }
    Ok(source)
}

/// While attaching, passes over what has changed go on until it was so few rows in one, or not less than half of what the
/// pass before had: then the writers are as quick as the passes, and waiting longer leaves more to do, not less.
const FEW: usize = 200;

/// The tables that the rows lie in, where what has changed in them can be told from the rows: not in foreign storage.
fn parts_of(table: &Table) -> Result<Option<Vec<u32>>, Fault> {
    let oid = Value::Int8(i64::from(table.oid.to_u32()));
    let parts =
        PARTS.with(|parts| parts.read(&[oid], |row| Ok((row.must::<pg_sys::Oid>(1)?, row.must::<bool>(2)?))))?;
    let plain = parts.iter().all(|(_, plain)| *plain);
    Ok(plain.then(|| parts.into_iter().map(|(oid, _)| oid.to_u32()).collect()))
}

/// Names of slotkeeper's triggers on a table with this function.
pub(super) fn triggers_on(table: &Table, function: &str) -> Result<Vec<String>, Fault> {
    let values = [Value::Int8(i64::from(table.oid.to_u32())), Value::Text(function)];
    TRIGGERS.with(|triggers| triggers.read(&values, |row| row.must(1)))
}

/// Remembers table and partitions as they are now: what changes later shows in `binding_health`.
pub(super) fn remember_relations(binding: &Binding) -> Result<(), Fault> {
    remember(binding.binding_id, &binding.table)
}

pub(super) fn remember(binding_id: i64, table: &Table) -> Result<(), Fault> {
    FORGET_RELATIONS.with(|forget| forget.write(&[Value::Int8(binding_id)], |_| Ok(())))?;
    let values = [Value::Int8(binding_id), Value::Int8(i64::from(table.oid.to_u32()))];
    REMEMBER_RELATIONS.with(|remember| remember.write(&values, |_| Ok(())))?;
    let names = [
        Value::Int8(binding_id),
        Value::Text(&table.schema),
        Value::Text(&table.name),
    ];
    RENAME.with(|rename| rename.write(&names, |_| Ok(())))?;
    Ok(())
}

/// Another server has stored a row that could not be followed: `binding_health` says so until the table is reconciled.
pub(super) fn note_refused(binding_id: i64) -> Result<(), Fault> {
    NOTE_REFUSED.with(|note| note.write(&[Value::Int8(binding_id)], |_| Ok(())))?;
    Ok(())
}

/// Writes the binding's row; returns its id.
pub(super) fn add(kind: &str, source: &str, table: &Table, options: &JsonValue) -> Result<i64, Fault> {
    let caller = caller_name();
    let values = [
        Value::Text(kind),
        Value::Text(source),
        Value::Text(&table.schema),
        Value::Text(&table.name),
        Value::Json(options),
        Value::Text(&caller),
    ];
    let ids: Vec<i64> = ADD.with(|add| add.write(&values, |row| row.must(1)))?;
    ids.into_iter()
        .next()
        .ok_or_else(|| Fault::Internal("a binding without an id".to_owned()))
}

/// Deletes the binding's row.
pub(super) fn remove(binding_id: i64) -> Result<(), Fault> {
    REMOVE.with(|remove| remove.write(&[Value::Int8(binding_id)], |_| Ok(())))?;
    Ok(())
}

/// One of a table and its partitions is attached, and guards all of them.
fn require_no_other(binding: &Binding) -> Result<(), Fault> {
    let oid = [Value::Int8(i64::from(binding.table.oid.to_u32()))];
    let related =
        RELATED.with(|related| related.read(&oid, |row| Ok((row.must::<String>(1)?, row.must::<bool>(2)?))))?;
    let Some((other, is_whole)) = related.into_iter().next() else {
        return Ok(());
    };
    let (message, detail, hint) = if is_whole {
        (
            format!("{} is a partition of {other}, which is attached", binding.source),
            "Its rows are guarded with those of the whole table.",
            "Attach the whole table with other options, or detach it first.",
        )
    } else {
        (
            format!("partition {other} of {} is attached by itself", binding.source),
            "Its rows would be contents of two sources.",
            "Call slotkeeper.detach_table() for the partition first.",
        )
    };
    Err(Fault::unbindable(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        message,
        detail,
        hint,
    ))
}

/// What must hold of a table before it can be guarded.
pub(super) fn require_guardable(binding: &Binding) -> Result<(), Fault> {
    if let Some(group) = &binding.options.group {
        binding.table.column("group", group)?;
    }
    require_readable(&binding.table, "Rows that are hidden would lose their seats.")?;
    binding.options.check_states()?;
    require_no_other(binding)?;
    require_writable(binding)?;
    if let Some(defaults) = &binding.options.queue_defaults {
        manage::check_zone(&defaults.time_zone)?;
    }
    if !row::can_be_id(&binding.id) {
        return Err(Fault::unbindable(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("column {} has type {}", binding.id.name, binding.id.type_name),
            "A content's id must be text, varchar, uuid, smallint, integer or bigint, or a domain over one of these.",
            "Name another column as content_id.",
        ));
    }
    if !binding.table.is_unique(&binding.id)? {
        return Err(Fault::unbindable(
            PgSqlErrorCode::ERRCODE_INVALID_TABLE_DEFINITION,
            format!("column {} of {} has no unique index", binding.id.name, binding.source),
            "Two rows with one id would be one content.",
            format!(
                "CREATE UNIQUE INDEX ON {} ({}); partitioned tables may add the columns of their partition key.",
                binding.table.quoted()?,
                binding.id.quoted()?
            ),
        ));
    }
    let oid = [Value::Int8(i64::from(binding.table.oid.to_u32()))];
    let found = OBSTACLES.with(|obstacles| {
        obstacles.read(&oid, |row| {
            Ok((row.must::<String>(1)?, row.must::<bool>(2)?, row.get::<String>(3)?))
        })
    })?;
    let refused = |what: &str, why: &str, hint: String| {
        Err(Fault::unbindable(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("{} {what}", binding.source),
            why,
            hint,
        ))
    };
    match found.into_iter().next() {
        Some((persistence, _, _)) if persistence == "t" => refused(
            "is a temporary table",
            "Other sessions cannot read its rows.",
            "Bind a permanent table.".to_owned(),
        ),
        Some((persistence, _, _)) if persistence == "u" => refused(
            "is an unlogged table",
            "A crash empties it, and leaves the seats of its rows booked.",
            format!("ALTER TABLE {} SET LOGGED.", binding.table.quoted()?),
        ),
        Some((_, true, _)) => refused(
            "has tables that inherit from it",
            "Their rows would be read with it, but not guarded.",
            "Partition the table instead, or attach the children.".to_owned(),
        ),
        Some((_, _, Some(late))) => refused(
            "has a trigger that fires after the guard",
            "What it changes of a row, or keeps from being stored, the guard would not see.",
            format!("Give it a name that sorts before \"{}\": {late}.", triggers::PREFIX),
        ),
        _ => Ok(()),
    }
}

/// The server computes generated columns: nobody can write a state there. A generated time is guarded as it is.
fn require_writable(binding: &Binding) -> Result<(), Fault> {
    let states = binding.options.states.iter();
    let of_states =
        states.flat_map(|(state, columns)| columns.keys().map(move |name| (format!("states.{state}"), name)));
    for (option, name) in of_states {
        if binding.table.column(&option, name)?.is_generated {
            return Err(Fault::unbindable(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("p_options.{option}: column {name} is generated"),
                "What becomes of a content is written into its row, and a generated column cannot be written.",
                "Name an ordinary column; a BEFORE trigger can fill it instead.",
            ));
        }
    }
    Ok(())
}

/// A partitioned table's unique index need not keep an id from being in two partitions.
pub(super) fn require_one_row_an_id(binding: &Binding, conditions: &Conditions<'_>) -> Result<(), Fault> {
    let key = &binding.table.partition_key;
    if key.is_empty() || *key == [binding.id.number] {
        return Ok(());
    }
    let sql = format!(
        "SELECT t.{id}::pg_catalog.text FROM {table} AS t WHERE {asks} \
         GROUP BY t.{id} HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 1 ORDER BY t.{id} LIMIT 1",
        id = binding.id.quoted()?,
        table = binding.table.quoted()?,
        asks = conditions.takes_seat(RowOf::Table)?,
    );
    let twice = query(&sql, See::Latest, &[], |row| row.get::<String>(1))?;
    match twice.into_iter().flatten().next() {
        None => Ok(()),
        Some(id) => Err(Fault::unbindable(
            PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
            format!("several rows of {} have the id {id}", binding.source),
            "Two rows with one id would be one content, and share a seat.",
            "Give each row that takes a seat an id of its own.",
        )),
    }
}

/// What is booked is known by its id: rows that get theirs from another column would be other contents, each in the way of
/// itself.
fn require_same_ids(binding: &Binding) -> Result<(), Fault> {
    let columns = ID_COLUMN.with(|column| column.read(&[Value::Text(&binding.source)], |row| row.must::<String>(1)))?;
    let renamed = |column: &String| binding.table.column("content_id", column).is_err();
    match columns.into_iter().next() {
        Some(column) if column != binding.id.name && !renamed(&column) => Err(Fault::unbindable(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("contents of {} are known by column {column}", binding.source),
            format!(
                "Their seats are booked under those ids, not under those in {}.",
                binding.id.name
            ),
            "Call slotkeeper.detach_table() first, which gives their seats back; then attach the table anew.",
        )),
        _ => Ok(()),
    }
}

/// Makes the triggers anew where one is missing or disabled.
pub(super) fn mend_triggers(binding: &Binding) -> Result<(), Fault> {
    let wanted = triggers::create(&Conditions::of(binding)?)?;
    let mut names: Vec<&str> = wanted.iter().map(|trigger| trigger.name.as_str()).collect();
    names.sort_unstable();
    let oid = [Value::Int8(i64::from(binding.table.oid.to_u32()))];
    let enabled: Vec<String> = ENABLED.with(|enabled| enabled.read(&oid, |row| row.must(1)))?;
    if enabled == names {
        return Ok(());
    }
    let there = triggers_on(&binding.table, "guard_row")?;
    binding.table.hold(kept_away(&there, &wanted))?;
    make_triggers(binding, &there, &wanted)
}

/// Those that are there and are not wanted any more.
fn needless<'a>(there: &'a [String], wanted: &[triggers::Made]) -> Vec<&'a str> {
    let is_wanted = |name: &&String| wanted.iter().any(|trigger| trigger.name == **name);
    there
        .iter()
        .filter(|name| !is_wanted(name))
        .map(String::as_str)
        .collect()
}

/// Whom making the triggers keeps from the table: readers only where one is dropped.
fn kept_away(there: &[String], wanted: &[triggers::Made]) -> Against {
    match needless(there, wanted).is_empty() {
        true => Against::Writers,
        false => Against::Everybody,
    }
}

/// Makes the triggers. Whoever calls holds the table.
fn make_triggers(binding: &Binding, there: &[String], wanted: &[triggers::Made]) -> Result<(), Fault> {
    triggers::drop_all(&binding.table.quoted()?, &needless(there, wanted))?;
    wanted
        .iter()
        .try_for_each(|trigger| trigger.make(there.contains(&trigger.name)))
}

pub(super) fn parse(options: Option<JsonArg>) -> Result<(TableOptions, JsonValue), Fault> {
    let json = json("p_options", options)?.ok_or(Fault::Null { argument: "p_options" })?;
    Ok((TableOptions::parse(&json)?, json))
}

#[pg_extern(schema = "slotkeeper")]
fn attach_table(p_table: Option<RegClass>, p_options: Option<JsonArg>) -> Result<JsonReply, ErrorReport> {
    let (options, json) = parse(p_options)?;
    let table = Table::require(p_table.map(|table| table.0))?;
    refuse_read_only(c"attach_table()");
    Ok(attach(table, options, &json)?.into())
}

/// Waits for who has booked a row's content under no source, and is still open: no other comes.
fn wait_for_unbound(binding: &Binding) -> Result<(), Fault> {
    for content in collisions::unbound()? {
        if let Some(transaction) = content.busy
            && row::has_row(binding, &content.content_id)?
        {
            wait_for(transaction);
        }
    }
    Ok(())
}

fn attach(table: Table, options: TableOptions, json: &JsonValue) -> Result<Reply, Fault> {
    require_owner(&table)?;
    let source = source_of(&table, "content")?;
    let mut binding = Binding::resolve(0, source, table, options)?;
    require_guardable(&binding)?;
    require_same_ids(&binding)?;
    let (triggers, json) = {
        let conditions = Conditions::of(&binding)?;
        Timing::of(&conditions)?;
        require_one_row_an_id(&binding, &conditions)?;
        (triggers::create(&conditions)?, conditions.qualified(json))
    };
    // From here on the predicates mean the same under every search_path.
    binding.options = TableOptions::parse(&json)?;
    binding.binding_id = add("content", &binding.source, &binding.table, &json)?;
    // First the long pass, while writers go on; then what has changed meanwhile, until that is little; then the triggers, for
    // which writers have to wait, and the little that has changed since.
    let parts = parts_of(&binding.table)?;
    let mut then = Moment::now();
    let first = survey(&binding, &then, true)?;
    if let Some((profile_id, platform)) = first.unknown_queues.first() {
        return Err(Fault::NoQueue {
            profile_id: profile_id.clone(),
            platform: platform.clone(),
            item: None,
        });
    }
    let relation = binding.table.quoted()?;
    let now = now()?;
    for collision in &first.collisions {
        collisions::remember(&binding.source, collision, "attach", now)?;
    }
    let (mut ledger, mut all, mut unbooked) = (first.ledger, first.collisions, first.unbooked);
    let (mut also, mut booked) = (first.unmet, first.booked as i64);
    let mut closed = close_published(&binding, &then, None)?;
    let (mut last, mut before) = (false, usize::try_from(first.rows).unwrap_or(usize::MAX));
    let mut there = Vec::new();
    let mut patience: Option<Patience> = None;
    loop {
        let mut is_held = false;
        if last {
            there = triggers_on(&binding.table, "guard_row")?;
            let (table, against) = (&binding.table, kept_away(&there, &triggers));
            let patience = patience.get_or_insert_with(Patience::begin);
            is_held = patience.has_got(|| {
                try_hold_table(table.oid, against)?;
                take_source(&binding.source)?;
                wait_for_unbound(&binding)
            })?;
            if !is_held {
                // What they write meanwhile is looked at before the next try.
                patience.go_on(&Sought::Table {
                    oid: table.oid,
                    name: &relation,
                    against,
                    source: Some(&binding.source),
                })?;
            }
        }
        if is_held {
            make_triggers(&binding, &there, &triggers)?;
            // Calls may have booked under this source before it was a table's: only rows keep bookings from here on.
            for (content_id, seen) in collisions::live(&binding.source)? {
                let as_known = |known: &Seen| known.queue_id == seen.queue_id && known.at == seen.at;
                if !ledger.get(&content_id).is_some_and(as_known) {
                    also.insert(content_id.clone());
                    ledger.insert(content_id, seen);
                }
            }
            // Or under none, without knowing that their contents have rows here. What a call has said comes of it is kept.
            for Unbound {
                content_id, queue_id, ..
            } in collisions::unbound()?
            {
                if let Some(seen) = ledger.get_mut(&content_id).filter(|seen| seen.queue_id == queue_id) {
                    seen.at = None;
                    collisions::release_in(&binding, &content_id, queue_id, now)?;
                    also.insert(content_id);
                }
            }
        }
        // Whoever deletes a row after this moment is met by the next pass: so the moment comes first.
        let next = Moment::now();
        let changes = match &parts {
            Some(known) if parts_of(&binding.table)?.as_ref() == Some(known) => Changes::since(&binding, &then, &also)?,
            _ => None,
        };
        let later = collisions::reconcile(&binding, &mut ledger, &next, changes.as_ref(), "attach")?;
        if let (Some(closed), Some(more)) = (&mut closed, close_published(&binding, &next, changes.as_ref())?) {
            *closed += more;
        }
        (then, also) = (next, HashSet::new());
        booked += later.booked;
        all.retain(|collision| !later.looked_at.contains(&collision.content_id));
        all.extend(later.collisions);
        let again: HashSet<&str> = later.unbooked.iter().map(|row| row.content_id.as_str()).collect();
        unbooked.retain(|row| !later.looked_at.contains(&row.content_id) && !again.contains(row.content_id.as_str()));
        unbooked.extend(later.unbooked);
        if is_held {
            break;
        }
        let looked_at = later.looked_at.len();
        last |= looked_at <= FEW || looked_at > before / 2;
        before = looked_at;
    }
    remember_relations(&binding)?;
    collisions::note_unbooked(&binding.source, &unbooked)?;
    forget_known();
    Ok(Reply::new("attached")
        .with("source", binding.source.as_str())
        .with("table", relation)
        .with("rows", first.rows as i64)
        .with("booked", booked)
        .with("already_booked", first.known as i64)
        .with_some("closed", closed)
        .with("collisions", listed(&all))
        .with("collision_count", all.len() as i64)
        .with("unbooked", listed_unbooked(&unbooked))
        .with("unbooked_count", unbooked.len() as i64))
}

#[pg_extern(schema = "slotkeeper")]
fn detach_table(p_table: Option<RegClass>) -> Result<JsonReply, ErrorReport> {
    refuse_read_only(c"detach_table()");
    Ok(detach(p_table)?.into())
}

fn detach(table: Option<RegClass>) -> Result<Reply, Fault> {
    let table = Table::require(table.map(|table| table.0))?;
    require_owner(&table)?;
    if let Some(source) = super::queues::detach(&table)? {
        return Ok(Reply::new("detached").with("source", source).with("released", 0));
    }
    let relation = table.quoted()?;
    let (binding_id, source) = super::id_of(&table, "content")?;
    table.hold(Against::Everybody)?;
    triggers::drop_all(&relation, &triggers_on(&table, "guard_row")?)?;
    let released = release_all(&source)?;
    remove(binding_id)?;
    forget_known();
    Ok(Reply::new("detached").with("source", source).with("released", released))
}

/// The binding of a table that a call names.
pub(super) fn bound(table: Option<RegClass>) -> Result<std::rc::Rc<Binding>, Fault> {
    of_table(&Table::require(table.map(|table| table.0))?)
}
