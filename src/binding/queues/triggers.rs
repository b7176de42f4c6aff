//! The triggers of a table with queues. One for each status that a row may have: the predicates are their conditions, so
//! they are evaluated as the writer.

use super::QueueBinding;
use crate::fault::Fault;
use crate::pg::dynamic::{identifier, literal};
use crate::pg::predicate::{Names, Predicate, RowOf};
use pgrx::pg_sys;
use slotkeeper_core::binding::ACTIVE;

/// What the triggers are called, before what tells them apart. They fire before those of foreign keys, whose ON UPDATE CASCADE
/// may want the queue that a row names now.
const PREFIX: &str = "!slotkeeper_";

/// The status predicates, analysed, in the order in which they are asked.
pub(super) struct Conditions {
    statuses: Vec<(String, Predicate)>,
}

impl Conditions {
    pub(super) fn of(binding: &QueueBinding) -> Result<Self, Fault> {
        let parse = |(status, text): &(String, String)| {
            let predicate = Predicate::parse(
                &format!("p_options.status.{status}"),
                binding.table.oid,
                text,
                Names::OfCaller,
            )?;
            Ok((status.clone(), predicate))
        };
        Ok(Self {
            statuses: binding.options.status.iter().map(parse).collect::<Result<_, Fault>>()?,
        })
    }

    /// All statuses, each with the condition on which a row has it.
    fn conditions(&self, row: RowOf) -> Vec<(&str, String)> {
        let mut none_before = String::from("true");
        let mut all = Vec::new();
        for (status, predicate) in &self.statuses {
            all.push((
                status.as_str(),
                format!("{none_before} AND {} IS TRUE", predicate.over(row)),
            ));
            none_before = format!("{none_before} AND {} IS NOT TRUE", predicate.over(row));
        }
        all.push((ACTIVE, none_before));
        all
    }

    /// The status of a row of the table with the alias `t`, in SQL.
    pub(super) fn status(&self) -> String {
        let whens: String = self
            .conditions(RowOf::Table)
            .iter()
            .map(|(status, condition)| format!(" WHEN {condition} THEN '{status}'"))
            .collect();
        format!("(CASE{whens} END)::pg_catalog.text")
    }
}

/// The statements that make queues follow the table.
pub(super) fn create(binding: &QueueBinding, conditions: &Conditions) -> Result<Vec<String>, Fault> {
    let relation = binding.table.quoted()?;
    let source = literal(&binding.source)?;
    let mut all = Vec::new();
    let mut add = |name: &str, events: &str, level: &str, condition: &str, action: &str, status: &str| {
        let name = identifier(&format!("{PREFIX}queue_{name}"))?;
        all.push(format!(
            "CREATE TRIGGER {name} AFTER {events} ON {relation} FOR EACH {level}{condition} \
             EXECUTE FUNCTION slotkeeper.follow_queue({source}, '{action}', '{status}')"
        ));
        all.push(format!("ALTER TABLE {relation} ENABLE ALWAYS TRIGGER {name}"));
        Ok::<_, Fault>(())
    };
    let changed = changed(binding)?;
    let (was, is) = (conditions.conditions(RowOf::Old), conditions.conditions(RowOf::New));
    for ((status, was), (_, is)) in was.iter().zip(&is) {
        let on = |condition: &str| format!(" WHEN ({condition})");
        add(&format!("insert_{status}"), "INSERT", "ROW", &on(is), "plus", status)?;
        add(&format!("delete_{status}"), "DELETE", "ROW", &on(was), "minus", status)?;
        let left = format!("({was}) AND ({changed} OR ({is}) IS NOT TRUE)");
        let entered = format!("({is}) AND ({changed} OR ({was}) IS NOT TRUE)");
        // The one that takes away first: triggers fire in the order of their names.
        add(
            &format!("update_from_{status}"),
            "UPDATE",
            "ROW",
            &on(&left),
            "minus",
            status,
        )?;
        add(
            &format!("update_to_{status}"),
            "UPDATE",
            "ROW",
            &on(&entered),
            "plus",
            status,
        )?;
    }
    add("statement", "INSERT OR DELETE OR UPDATE", "STATEMENT", "", "end", "")?;
    add("truncate", "TRUNCATE", "STATEMENT", "", "truncate", "")?;
    Ok(all)
}

/// Whether anything has changed that a queue is made of.
fn changed(binding: &QueueBinding) -> Result<String, Fault> {
    let mut parts = vec!["false".to_owned()];
    for column in binding
        .columns()
        .iter()
        .filter_map(|&number| binding.table.column_at(number))
    {
        let name = column.quoted()?;
        // json has no equality.
        let cast = if column.type_oid == pg_sys::JSONOID {
            "::pg_catalog.text"
        } else {
            ""
        };
        parts.push(format!("old.{name}{cast} IS DISTINCT FROM new.{name}{cast}"));
    }
    Ok(format!("({})", parts.join(" OR ")))
}
