//! `idempotent_insert`: a row, its slug and its dependents, once for one key.
//!
//! The key's row is written first and finished last, in the caller's transaction: key and rows commit or vanish
//! together. Everything else runs with the caller's own rights.

use crate::arguments::optional_identifier;
use crate::document::Document;
use crate::fault::Fault;
use crate::pg::dynamic::{Parts, Row, See, composed, execute, identifier};
use crate::pg::json::{Json, JsonReply, Jsonb};
use crate::pg::refuse_read_only;
use crate::pg::subtransaction::{Failure, attempt};
use crate::pg::table::{RegClass, Table};
use crate::reply::Reply;
use crate::request::row::{New, Response};
use crate::request::{Answer, Patience, ask, expired, finish_own, in_progress, lifetime, mismatch, tree, user};
use crate::slug;
use pgrx::datum::Interval;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use slotkeeper_core::Invalid;
use slotkeeper_core::request::fingerprint::{Kind, fingerprint};
use slotkeeper_core::request::reference::{Meaning, meaning};
use slotkeeper_core::request::{Tree, key};
use std::borrow::Cow;

/// What is said of a stored row over HTTP.
const CREATED: i16 = 201;

/// The most dependents of one call.
const MAX_THEN: usize = 10_000;

/// Columns and values of a row.
type Members = Vec<(String, Tree)>;

#[pg_extern(schema = "slotkeeper")]
fn idempotent_insert(
    p_table: Option<RegClass>,
    p_row: Option<Jsonb>,
    p_key: default!(Option<&str>, "NULL"),
    p_user_id: default!(Option<&str>, "NULL"),
    p_slug: default!(Option<Jsonb>, "NULL"),
    p_then: default!(Option<Jsonb>, "'[]'"),
    p_ttl: default!(Option<Interval>, "'24 hours'"),
) -> Result<JsonReply, ErrorReport> {
    let table = p_table.ok_or(Fault::Null { argument: "p_table" })?;
    let row = p_row.ok_or(Fault::Null { argument: "p_row" })?;
    let (key, user_id) = (optional_identifier("p_key", p_key)?, user(p_user_id)?);
    let lifetime = lifetime(p_ttl)?;
    let whole = Tree::Object(vec![
        ("row".to_owned(), tree("p_row", row)?),
        (
            "slug".to_owned(),
            p_slug.map_or(Ok(Tree::Null), |slug| tree("p_slug", slug))?,
        ),
        (
            "then".to_owned(),
            p_then.map_or(Ok(Tree::List(Vec::new())), |then| tree("p_then", then))?,
        ),
    ]);
    let work = Work::read(table, row, &whole)?;
    refuse_read_only(c"idempotent_insert()");
    let Some(key) = key else {
        return Ok(inserted(&work.run()?).into());
    };
    let path = Table::open(table)?.name();
    let new = New {
        name: key::name(user_id, key),
        fingerprint: fingerprint(Kind::Insert, "INSERT", &path, Some(&whole)),
        user_id,
        key,
        method: "INSERT",
        path: &path,
        // Nobody sees it before it is finished.
        lease: 0,
        lifetime,
    };
    let reply = match ask(&new, Patience::Forever)? {
        Answer::Started(started) => {
            let done = work.run()?;
            let response = Response {
                status: CREATED,
                headers: None,
                body: Some(Json::Object(done.members()).into_server()),
                resource: None,
            };
            finish_own(started.own, &new, &response)?;
            inserted(&done)
        }
        Answer::Replayed(stored) => {
            let member = |name| stored.body.and_then(|body| body.member(name));
            Reply::new("replayed")
                .with("http_status", i64::from(CREATED))
                .with("row", member("row"))
                .with("then", member("then"))
                .with_instant("first_seen", stored.times.started_at)
        }
        Answer::InProgress(seconds) => in_progress(seconds),
        Answer::Mismatch(stored) => mismatch(&stored),
        Answer::Expired(stored) => expired(&stored),
    };
    Ok(reply.into())
}

fn inserted(done: &Done) -> Reply {
    let reply = Reply::new("inserted").with("http_status", i64::from(CREATED));
    done.members().into_iter().fold(reply, |reply, (key, value)| match key {
        Cow::Borrowed(key) => reply.with(key, value),
        Cow::Owned(_) => reply,
    })
}

/// What is to be inserted.
struct Work<'a> {
    table: RegClass,
    row: &'a Members,
    /// The row as it was given.
    document: Jsonb,
    slug: Option<Slug<'a>>,
    then: Vec<Dependent<'a>>,
}

/// How the row gets its slug.
struct Slug<'a> {
    column: &'a str,
    from: &'a str,
    scope: Vec<(String, Option<String>)>,
    max_length: i32,
}

/// A row that belongs to the first one.
struct Dependent<'a> {
    table: RegClass,
    row: &'a Members,
    ignore: bool,
}

/// The rows as they were stored.
struct Done {
    row: Jsonb,
    then: Vec<Result<Jsonb, Failure>>,
}

impl Done {
    /// The dependent, from 1, that a row refers to although it was not stored.
    fn failed_for(&self, row: &Members) -> Option<usize> {
        row.iter().find_map(|(_, value)| match value {
            Tree::Text(text) => match meaning(text) {
                Meaning::Column { row, .. } => {
                    matches!(self.then.get(row.checked_sub(1)?), Some(Err(_))).then_some(row)
                }
                Meaning::Text(_) => None,
            },
            _ => None,
        })
    }

    fn members(&self) -> Vec<(Cow<'static, str>, Json)> {
        let then = self.then.iter().map(|dependent| match dependent {
            Ok(row) => Json::Raw(*row),
            Err(failure) => {
                let error = vec![
                    (Cow::Borrowed("sqlstate"), failure.sqlstate.as_str().into()),
                    (Cow::Borrowed("message"), failure.message.as_str().into()),
                    (Cow::Borrowed("detail"), failure.detail.clone().into()),
                ];
                Json::Object(vec![(Cow::Borrowed("error"), Json::Object(error))])
            }
        });
        vec![
            (Cow::Borrowed("row"), Json::Raw(self.row)),
            (Cow::Borrowed("then"), then.collect::<Vec<_>>().into()),
        ]
    }
}

fn invalid(path: impl Into<String>, problem: impl Into<String>, hint: &str) -> Fault {
    Fault::Invalid(Invalid {
        path: path.into(),
        problem: problem.into(),
        hint: Some(hint.to_owned()),
    })
}

const ROW_HINT: &str = "Write an object of column names and values.";
const SLUG_HINT: &str =
    r#"Write {"column": "slug", "from": "name"}, with "scope" and "max_length" where they are needed."#;
const THEN_HINT: &str = r#"Write [{"table": "memberships", "row": {"community_id": "$.id"}}], with "on_error": "ignore" where it may fail."#;

impl<'a> Work<'a> {
    /// Reads the arguments, and looks the dependents' tables up.
    fn read(table: RegClass, document: Jsonb, whole: &'a Tree) -> Result<Self, Fault> {
        let Some(Tree::Object(row)) = whole.get("row") else {
            return Err(invalid("p_row", "must be an object", ROW_HINT));
        };
        let slug = match whole.get("slug") {
            None | Some(Tree::Null) => None,
            Some(Tree::Object(members)) => Some(Slug::read(members, row)?),
            Some(_) => return Err(invalid("p_slug", "must be an object", SLUG_HINT)),
        };
        let then = match whole.get("then") {
            None | Some(Tree::Null) => Vec::new(),
            Some(Tree::List(list)) if list.len() <= MAX_THEN => list
                .iter()
                .enumerate()
                .map(|(i, item)| Dependent::read(&format!("p_then[{i}]"), item))
                .collect::<Result<_, _>>()?,
            Some(_) => {
                let problem = format!("must be a list of at most {MAX_THEN} objects");
                return Err(invalid("p_then", problem, THEN_HINT));
            }
        };
        Ok(Self {
            table,
            row,
            document,
            slug,
            then,
        })
    }

    fn run(&self) -> Result<Done, Fault> {
        let table = Table::open(self.table)?;
        if let Some(slug) = &self.slug {
            // What is wrong with the row is said before a slug is looked for.
            for (name, _) in self.row {
                table.column(name)?;
            }
            table.column(slug.from)?;
        }
        let row = match &self.slug {
            Some(slug) => {
                let row = slug.fill(self.table, self.row)?;
                insert(&table, &row, document(&row))?
            }
            None => insert(&table, self.row, self.document)?,
        };
        let row = row.ok_or_else(|| Fault::NotStored { table: table.name() })?;
        let mut done = Done { row, then: Vec::new() };
        // Read only where a reference asks for them.
        let mut read: Vec<Option<Tree>> = Vec::new();
        for (i, dependent) in self.then.iter().enumerate() {
            let table = Table::open(dependent.table)?;
            let mut run = || {
                let row = resolve(&format!("p_then[{i}].row"), dependent.row, &done, &mut read)?;
                insert(&table, &row, document(&row))?.ok_or_else(|| Fault::NotStored { table: table.name() })
            };
            let stored = if !dependent.ignore {
                Ok(run()?)
            } else if let Some(other) = done.failed_for(dependent.row) {
                Err(Fault::NotReferred { dependent: other }.into_failure())
            } else {
                match attempt(&mut run) {
                    // A trigger has discarded it.
                    Err(fault @ Fault::NotStored { .. }) => Err(fault.into_failure()),
                    stored => stored?,
                }
            };
            done.then.push(stored);
        }
        Ok(done)
    }
}

impl<'a> Slug<'a> {
    fn read(members: &'a Members, row: &Members) -> Result<Self, Fault> {
        let (mut column, mut from, mut scope, mut max_length) = (None, None, Vec::new(), 80);
        for (name, value) in members {
            match (name.as_str(), value) {
                ("column", Tree::Text(text)) => column = Some(text.as_str()),
                ("from", Tree::Text(text)) => from = Some(text.as_str()),
                ("max_length", Tree::Number(number)) => {
                    max_length = number
                        .parse()
                        .map_err(|_| invalid("p_slug.max_length", "must be a whole number", SLUG_HINT))?;
                }
                ("scope" | "max_length", Tree::Null) => {}
                ("scope", Tree::List(columns)) => {
                    for column in columns {
                        let Tree::Text(column) = column else {
                            return Err(invalid("p_slug.scope", "must name columns of p_row", SLUG_HINT));
                        };
                        let value = of(row, column).ok_or_else(|| {
                            let problem = format!("names {column:?}, which p_row has not");
                            invalid("p_slug.scope", problem, SLUG_HINT)
                        })?;
                        scope.push((column.clone(), plain(value)));
                    }
                }
                ("scope", Tree::Object(columns)) => {
                    scope.extend(columns.iter().map(|(column, value)| (column.clone(), plain(value))));
                }
                (other, _) => {
                    let problem = format!("has a member {other:?} that is unknown, or of another type");
                    return Err(invalid("p_slug", problem, SLUG_HINT));
                }
            }
        }
        let (Some(column), Some(from)) = (column, from) else {
            return Err(invalid("p_slug", "must have \"column\" and \"from\"", SLUG_HINT));
        };
        Ok(Self {
            column,
            from,
            scope,
            max_length,
        })
    }

    /// The row with its slug; one that it has already is kept.
    fn fill(&self, table: RegClass, row: &Members) -> Result<Members, Fault> {
        let is_empty =
            |given: &Tree| matches!(given, Tree::Null) || matches!(given, Tree::Text(text) if text.is_empty());
        if of(row, self.column).is_some_and(|given| !is_empty(given)) {
            return Ok(row.clone());
        }
        // A name that must be there is missed by the table itself; one that need not be has the fallback's slug.
        let source = of(row, self.from).and_then(plain).unwrap_or_default();
        let target = slug::Target::new(table, self.column, self.scope.clone(), slug::rules(self.max_length)?)?;
        let slug = slug::choose(&target, &source)?;
        let mut row: Members = row.iter().filter(|(name, _)| name != self.column).cloned().collect();
        row.push((self.column.to_owned(), Tree::Text(slug)));
        Ok(row)
    }
}

impl<'a> Dependent<'a> {
    fn read(path: &str, item: &'a Tree) -> Result<Self, Fault> {
        let Tree::Object(members) = item else {
            return Err(invalid(path, "must be an object", THEN_HINT));
        };
        let (mut table, mut row, mut ignore) = (None, None, false);
        for (name, value) in members {
            match (name.as_str(), value) {
                ("table", Tree::Text(name)) => table = Some(name),
                ("row", Tree::Object(members)) => row = Some(members),
                ("on_error", Tree::Text(word)) if word == "ignore" => ignore = true,
                ("on_error", Tree::Text(word)) if word == "fail" => ignore = false,
                ("on_error", Tree::Null) => {}
                (other, _) => {
                    let problem = format!("has a member {other:?} that is unknown, or no such value");
                    return Err(invalid(path, problem, THEN_HINT));
                }
            }
        }
        let (Some(table), Some(row)) = (table, row) else {
            return Err(invalid(path, "must have \"table\" and \"row\"", THEN_HINT));
        };
        let table = RegClass::named(table)?;
        Ok(Self { table, row, ignore })
    }
}

fn of<'t>(row: &'t Members, column: &str) -> Option<&'t Tree> {
    row.iter().find(|(name, _)| name == column).map(|(_, value)| value)
}

/// A value as text; `None` for null and for what is no single value.
fn plain(value: &Tree) -> Option<String> {
    match value {
        Tree::Text(text) | Tree::Number(text) => Some(text.clone()),
        Tree::Bool(value) => Some(value.to_string()),
        Tree::Null | Tree::List(_) | Tree::Object(_) => None,
    }
}

/// A dependent's row with its references replaced by what was stored.
fn resolve(path: &str, row: &Members, done: &Done, read: &mut Vec<Option<Tree>>) -> Result<Members, Fault> {
    row.iter()
        .map(|(name, value)| {
            let Tree::Text(text) = value else {
                return Ok((name.clone(), value.clone()));
            };
            let value = match meaning(text) {
                Meaning::Text(text) => Tree::from(text),
                Meaning::Column { row, column } => referred(done, read, row, column).map_err(|problem| {
                    let hint = format!("To store this text itself, write \"${text}\".");
                    invalid(format!("{path}.{name}"), problem, &hint)
                })?,
            };
            Ok((name.clone(), value))
        })
        .collect()
}

fn referred(done: &Done, read: &mut Vec<Option<Tree>>, row: usize, column: &str) -> Result<Tree, String> {
    if row > done.then.len() {
        return Err(format!(
            "refers to dependent {row}, which does not come before this one"
        ));
    }
    if read.len() <= row {
        read.resize(row + 1, None);
    }
    let Some(place) = read.get_mut(row) else {
        return Err("refers to no row".to_owned());
    };
    if place.is_none() {
        let stored = match row.checked_sub(1).and_then(|dependent| done.then.get(dependent)) {
            None => done.row,
            Some(Ok(stored)) => *stored,
            Some(Err(_)) => return Err(format!("refers to dependent {row}, which was not stored")),
        };
        *place = Some(stored.tree()?);
    }
    let found = place.as_ref().and_then(|tree| tree.get(column));
    found
        .cloned()
        .ok_or_else(|| format!("refers to column {column:?}, which the stored row does not show"))
}

/// A row as the server's own jsonb.
fn document(row: &Members) -> Jsonb {
    Json::from(Tree::Object(row.clone())).into_server()
}

/// Inserts a row with the caller's rights and returns it as it was stored, as far as the caller may read it. `None`
/// where a trigger or a rule has discarded it.
///
/// Only the columns that are given are named, so that all others have their defaults.
fn insert(table: &Table, row: &Members, json: Jsonb) -> Result<Option<Jsonb>, Fault> {
    let document = Document::of(row, json);
    let write = |shown: &str| {
        let table_name = table.name();
        Ok(match document.columns(table, 1)? {
            None => format!("INSERT INTO {table_name} AS r DEFAULT VALUES RETURNING {shown}"),
            Some(columns) => format!(
                "INSERT INTO {table_name} AS r ({}) {} RETURNING {shown}",
                columns.names, columns.query
            ),
        })
    };
    let value = [document.value()];
    let values = if document.is_empty() { &[][..] } else { &value[..] };
    let read = |row: &Row| row.jsonb(1);
    // What the caller may read of a table hangs on roles too, whose changes no table tells.
    let rows = if table.allows_all(pg_sys::ACL_SELECT) {
        let parts = Parts::of("insert").and_number(table.oid().to_u32());
        let text = composed(document.parts(parts), || write("pg_catalog.to_jsonb(r.*)"))?;
        execute(&text, See::Caller, values, read)?
    } else {
        execute(&write(&readable(table)?)?, See::Caller, values, read)?
    };
    Ok(rows.into_iter().next().flatten())
}

/// The stored row as jsonb: the columns that the caller may read.
fn readable(table: &Table) -> Result<String, Fault> {
    let readable = table
        .columns()
        .filter(|column| table.allows(column, pg_sys::ACL_SELECT));
    let readable: Vec<String> = readable
        .map(|column| identifier(&column.name).map(|quoted| format!("r.{quoted}")))
        .collect::<Result<_, _>>()?;
    Ok(format!(
        "(SELECT pg_catalog.to_jsonb(q.*) FROM (SELECT {}) AS q)",
        readable.join(", ")
    ))
}
