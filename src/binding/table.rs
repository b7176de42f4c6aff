//! What the catalogue says of a table of the application.

use crate::fault::Fault;
use crate::pg::dynamic::{identifier, qualified};
use crate::pg::keep_relation;
use crate::pg::patience::{Against, hold_table};
use crate::pg::role::{Privilege, has_privilege, hides_rows, may_write};
use crate::pg::statement::{Row, Statement, Value};
use crate::pg::trigger::base_type;
use pgrx::{PgSqlErrorCode, pg_sys};

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) number: i16,
    /// Its type, or what its domain is over.
    pub(crate) type_oid: pg_sys::Oid,
    /// As SQL writes the type, qualified.
    pub(crate) type_name: String,
    pub(crate) is_generated: bool,
    /// It is computed when it is read: rows don't hold it.
    pub(crate) is_virtual: bool,
    /// Digits of a second that a time has; none where it has all.
    pub(crate) precision: Option<i32>,
}

impl Column {
    /// The name as SQL writes it.
    pub(crate) fn quoted(&self) -> Result<String, Fault> {
        identifier(&self.name)
    }
}

/// A table.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) oid: pg_sys::Oid,
    pub(crate) schema: String,
    pub(crate) name: String,
    /// Numbers of the columns that its partitions are told apart by.
    pub(crate) partition_key: Vec<i16>,
    columns: Vec<Column>,
}

thread_local! {
    static FIND: Statement = const { Statement::new(c"
SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text,
       (SELECT pg_catalog.array_agg(k) FROM pg_catalog.unnest(p.partattrs::pg_catalog.int2[]) AS k)
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
LEFT JOIN pg_catalog.pg_partitioned_table AS p ON p.partrelid OPERATOR(pg_catalog.=) c.oid
WHERE c.oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r'::\"char\", 'p'::\"char\"])") };

    static NAMED: Statement = const { Statement::new(c"
SELECT c.oid
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE n.nspname OPERATOR(pg_catalog.=) $1::pg_catalog.name AND c.relname OPERATOR(pg_catalog.=) $2::pg_catalog.name
  AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r'::\"char\", 'p'::\"char\"])") };

    static COLUMNS: Statement = const { Statement::new(c"
SELECT a.attname::pg_catalog.text, a.attnum, a.atttypid,
       pg_catalog.format('%I.%I', n.nspname, t.typname), a.attgenerated OPERATOR(pg_catalog.<>) ''::\"char\",
       CASE WHEN t.typbasetype OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN a.atttypmod ELSE t.typtypmod END,
       a.attgenerated OPERATOR(pg_catalog.=) 'v'::\"char\"
FROM pg_catalog.pg_attribute AS a
JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) a.atttypid
JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace
WHERE a.attrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
ORDER BY a.attnum") };

    static UNIQUE_ON: Statement = const { Statement::new(c"
SELECT 1
FROM pg_catalog.pg_index AS i
WHERE i.indrelid OPERATOR(pg_catalog.=) $1::pg_catalog.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
  AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indkey[0] OPERATOR(pg_catalog.=) $2
  AND (i.indnkeyatts OPERATOR(pg_catalog.=) 1
       OR NOT EXISTS (
           SELECT FROM pg_catalog.generate_series(1, i.indnkeyatts OPERATOR(pg_catalog.-) 1) AS n
           LEFT JOIN pg_catalog.pg_partitioned_table AS p
                ON p.partrelid OPERATOR(pg_catalog.=) i.indrelid
               AND i.indkey[n] OPERATOR(pg_catalog.=) ANY (p.partattrs::pg_catalog.int2[])
           WHERE p.partrelid IS NULL))
LIMIT 1") };

    static LEAVES: Statement = const { Statement::new(c"
SELECT c.oid
FROM pg_catalog.pg_partition_tree($1::pg_catalog.oid::pg_catalog.regclass) AS tree
JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) tree.relid
WHERE tree.isleaf AND c.relkind OPERATOR(pg_catalog.=) 'r'::\"char\"") };

    static OWNED: Statement = const { Statement::new(c"
SELECT pg_catalog.pg_has_role($2::pg_catalog.name, c.relowner, 'USAGE')
FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid") };
}

impl Table {
    /// The table with this OID, if it is one.
    pub(crate) fn find(oid: pg_sys::Oid) -> Result<Option<Self>, Fault> {
        let oid_value = Value::Int8(i64::from(oid.to_u32()));
        let found = FIND.with(|find| {
            find.read(&[oid_value], |row| {
                Ok(Self {
                    oid,
                    schema: row.must(1)?,
                    name: row.must(2)?,
                    partition_key: row.get::<Vec<i16>>(3)?.unwrap_or_default(),
                    columns: Vec::new(),
                })
            })
        })?;
        let Some(mut table) = found.into_iter().next() else {
            return Ok(None);
        };
        table.columns = COLUMNS.with(|columns| columns.read(&[oid_value], column))?;
        Ok(Some(table))
    }

    /// The table of this name.
    pub(crate) fn named(schema: &str, name: &str) -> Result<Option<Self>, Fault> {
        let oids: Vec<pg_sys::Oid> =
            NAMED.with(|named| named.read(&[Value::Text(schema), Value::Text(name)], |row| row.must(1)))?;
        oids.first().copied().map_or(Ok(None), Self::find)
    }

    /// A table that a call names, or an error that says what it is not.
    pub(crate) fn require(oid: Option<pg_sys::Oid>) -> Result<Self, Fault> {
        let oid = oid.ok_or(Fault::Null { argument: "p_table" })?;
        keep_relation(oid);
        let refused = |message: &str, why| {
            Fault::unbindable(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                message,
                why,
                "Name the table that the rows are stored in.",
            )
        };
        let table = Self::find(oid)?.ok_or_else(|| {
            refused(
                "p_table is no table",
                "Only ordinary and partitioned tables can be bound.",
            )
        })?;
        // Who writes there would be guarded by what he is about to write.
        if table.schema == "slotkeeper" || oid.to_u32() < pg_sys::FirstNormalObjectId {
            return Err(refused(
                "p_table is no table of an application",
                "What slotkeeper or the server keeps there is theirs.",
            ));
        }
        Ok(table)
    }

    /// The table as SQL writes it.
    pub(crate) fn quoted(&self) -> Result<String, Fault> {
        qualified(&self.schema, &self.name)
    }

    /// A column that an option names.
    pub(crate) fn column(&self, option: &str, name: &str) -> Result<&Column, Fault> {
        self.columns.iter().find(|column| column.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
            Fault::unbindable(
                PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
                format!("column {name:?} of table {}.{} does not exist", self.schema, self.name),
                format!("It is named by p_options.{option}. Columns: {}.", known.join(", ")),
                "Names are taken as they are: upper and lower case matter.",
            )
        })
    }

    /// The same of one that rows hold: triggers read it there.
    pub(crate) fn held_column(&self, option: &str, name: &str) -> Result<&Column, Fault> {
        let column = self.column(option, name)?;
        if column.is_virtual {
            return Err(Fault::unbindable(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("p_options.{option}: column {name} is virtual"),
                "It is computed when it is read; a trigger finds no value of it in the row.",
                "Generate it STORED, or name an ordinary column.",
            ));
        }
        Ok(column)
    }

    /// Whether the caller has this privilege on the table, or on a column of it.
    pub(crate) fn can(&self, privilege: Privilege) -> bool {
        has_privilege(self.oid, privilege)
    }

    /// Whether the caller may write a column of it.
    pub(crate) fn can_write(&self, column: &Column) -> bool {
        may_write(self.oid, column.number)
    }

    /// The tables that its rows lie in: itself, or its partitions.
    pub(crate) fn leaves(&self) -> Result<Vec<Self>, Fault> {
        let oids: Vec<pg_sys::Oid> =
            LEAVES.with(|leaves| leaves.read(&[Value::Int8(i64::from(self.oid.to_u32()))], |row| row.must(1)))?;
        if oids.is_empty() {
            return Ok(vec![self.clone()]);
        }
        oids.into_iter().filter_map(|oid| Self::find(oid).transpose()).collect()
    }

    /// Keeps others away from the table and its partitions: see [`hold_table`].
    pub(crate) fn hold(&self, against: Against) -> Result<(), Fault> {
        hold_table(self.oid, &self.quoted()?, against)
    }

    /// Whether row-level security may hide rows from the caller.
    pub(crate) fn hides_rows(&self) -> bool {
        hides_rows(self.oid)
    }

    /// The column of this number.
    pub(crate) fn column_at(&self, number: i16) -> Option<&Column> {
        self.columns.iter().find(|column| column.number == number)
    }

    /// Whether a unique index on this column tells all rows apart at once; in a partitioned table the columns of the partition
    /// key may follow it, which it must have.
    pub(crate) fn is_unique(&self, column: &Column) -> Result<bool, Fault> {
        let values = [Value::Int8(i64::from(self.oid.to_u32())), Value::Int2(column.number)];
        Ok(!UNIQUE_ON.with(|unique| unique.read(&values, |_| Ok(())))?.is_empty())
    }

    /// Whether the role may act as the table's owner.
    pub(crate) fn is_owned_by(&self, role: &str) -> Result<bool, Fault> {
        let values = [Value::Int8(i64::from(self.oid.to_u32())), Value::Text(role)];
        let owned = OWNED.with(|owned| owned.read(&values, |row| row.must::<bool>(1)))?;
        Ok(owned.into_iter().next().unwrap_or(false))
    }
}

fn column(row: &Row) -> Result<Column, Fault> {
    Ok(Column {
        name: row.must(1)?,
        number: row.must(2)?,
        type_oid: base_type(row.must(3)?),
        type_name: row.must(4)?,
        is_generated: row.must(5)?,
        precision: row.get::<i32>(6)?.filter(|&digits| digits >= 0),
        is_virtual: row.must(7)?,
    })
}
