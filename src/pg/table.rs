//! A table of the application: its columns and unique indexes, as the server's own caches know them.
//!
//! Nothing is read from the table itself here.

use crate::fault::Fault;
use pgrx::callconv::{Arg, ArgAbi};
use pgrx::{FromDatum, IntoDatum, PgTupleDesc, direct_function_call, pg_sys};
use std::ffi::{CStr, CString, c_char};

/// A `regclass` argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegClass(pub(crate) pg_sys::Oid);

impl FromDatum for RegClass {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, type_oid: pg_sys::Oid) -> Option<Self> {
        // SAFETY: a regclass datum is an oid.
        unsafe { pg_sys::Oid::from_polymorphic_datum(datum, is_null, type_oid) }.map(Self)
    }
}

// SAFETY: an ordinary by-value datum, read through FromDatum.
unsafe impl<'fcx> ArgAbi<'fcx> for RegClass {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as our caller promises.
        unsafe { arg.unbox_arg_using_from_datum() }.unwrap_or(Self(pg_sys::InvalidOid))
    }

    unsafe fn unbox_nullable_arg(arg: Arg<'_, 'fcx>) -> pgrx::nullable::Nullable<Self> {
        // SAFETY: as our caller promises.
        unsafe { arg.unbox_arg_using_from_datum().into() }
    }
}

pgrx::impl_sql_translatable!(RegClass, "regclass");

impl RegClass {
    /// The relation that this name means under the caller's search_path, written as in SQL. Where there is none the
    /// server's own error says so.
    pub(crate) fn named(name: &str) -> Result<Self, Fault> {
        let name = CString::new(name).map_err(|_| Fault::Internal("a name with a zero byte".to_owned()))?;
        // SAFETY: regclassin takes a C string and returns an oid.
        let oid = unsafe { direct_function_call::<pg_sys::Oid>(pg_sys::regclassin, &[name.as_c_str().into_datum()]) };
        Ok(Self(oid.unwrap_or(pg_sys::InvalidOid)))
    }
}

/// A column of a table.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) number: i16,
    pub(crate) type_oid: pg_sys::Oid,
    pub(crate) modifier: i32,
    pub(crate) collation: pg_sys::Oid,
    pub(crate) not_null: bool,
    /// Filled by the server itself, after BEFORE triggers.
    pub(crate) generated: bool,
    /// Numbered by the server itself.
    pub(crate) identity: bool,
}

/// Why an index proves nothing about a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    Partial,
    Expression,
    /// Being built, or left behind by a failed CREATE INDEX CONCURRENTLY.
    Invalid,
    /// Of another access method than btree.
    Method,
}

/// A unique index.
#[derive(Clone, Debug)]
pub(crate) struct UniqueIndex {
    pub(crate) oid: pg_sys::Oid,
    pub(crate) name: String,
    /// Numbers of its key columns in the table; 0 for an expression.
    pub(crate) columns: Vec<i16>,
    pub(crate) nulls_not_distinct: bool,
    pub(crate) flaw: Option<Flaw>,
}

/// A table that is open, and cannot be dropped or altered until the transaction ends.
pub(crate) struct Table(pg_sys::Relation);

impl Table {
    /// Opens a relation of any kind.
    pub(crate) fn open(RegClass(oid): RegClass) -> Result<Self, Fault> {
        // SAFETY: null where there is no such relation (any more), else a relation that `drop` closes.
        let relation = unsafe { pg_sys::try_relation_open(oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
        if relation.is_null() {
            return Err(Fault::NoTable { oid: oid.to_u32() });
        }
        Ok(Self(relation))
    }

    pub(super) fn relation(&self) -> pg_sys::Relation {
        self.0
    }

    pub(crate) fn oid(&self) -> pg_sys::Oid {
        // SAFETY: the relation is open.
        unsafe { (*self.0).rd_id }
    }

    /// `r` for a table, `p` for a partitioned one, `v` for a view: pg_class.relkind.
    pub(crate) fn kind(&self) -> char {
        // SAFETY: the relation is open.
        char::from(unsafe { (*(*self.0).rd_rel).relkind } as u8)
    }

    /// Whether it is another session's temporary table, whose rows nobody else can see.
    pub(crate) fn is_others_temporary(&self) -> bool {
        // SAFETY: the relation is open.
        unsafe { pg_sys::isOtherTempNamespace((*(*self.0).rd_rel).relnamespace) }
    }

    /// Whether other tables inherit from it, or did: a query of it may read their rows too.
    pub(crate) fn has_children(&self) -> bool {
        // SAFETY: the relation is open.
        unsafe { (*(*self.0).rd_rel).relhassubclass }
    }

    /// Schema and name, quoted where they must be.
    pub(crate) fn name(&self) -> String {
        // SAFETY: the relation is open; the quoted name is a palloc'd C string.
        unsafe {
            let class = (*self.0).rd_rel;
            let schema = pg_sys::get_namespace_name((*class).relnamespace);
            let quoted = pg_sys::quote_qualified_identifier(schema, (*class).relname.data.as_ptr());
            CStr::from_ptr(quoted).to_string_lossy().into_owned()
        }
    }

    /// Whether the caller owns it, or is a superuser.
    pub(crate) fn is_callers(&self) -> bool {
        // SAFETY: catalog look-ups.
        unsafe {
            #[cfg(feature = "pg15")]
            return pg_sys::pg_class_ownercheck(self.oid(), pg_sys::GetUserId());
            #[cfg(not(feature = "pg15"))]
            return pg_sys::object_ownercheck(pg_sys::RelationRelationId, self.oid(), pg_sys::GetUserId());
        }
    }

    /// Whether the caller has one of these rights, on the table or on the column.
    pub(crate) fn allows(&self, column: &Column, rights: u32) -> bool {
        // SAFETY: catalog look-ups.
        unsafe {
            let (caller, rights) = (pg_sys::GetUserId(), rights as pg_sys::AclMode);
            pg_sys::pg_class_aclcheck(self.oid(), caller, rights) == pg_sys::AclResult::ACLCHECK_OK
                || pg_sys::pg_attribute_aclcheck(self.oid(), column.number, caller, rights)
                    == pg_sys::AclResult::ACLCHECK_OK
        }
    }

    /// Whether the caller has one of these rights on the whole table.
    pub(crate) fn allows_all(&self, rights: u32) -> bool {
        // SAFETY: a catalog look-up.
        unsafe {
            pg_sys::pg_class_aclcheck(self.oid(), pg_sys::GetUserId(), rights as pg_sys::AclMode)
                == pg_sys::AclResult::ACLCHECK_OK
        }
    }

    /// Its columns.
    pub(crate) fn columns(&self) -> impl Iterator<Item = Column> + '_ {
        // SAFETY: the relation is open.
        let count = unsafe { (*(*self.0).rd_rel).relnatts };
        (1..=count).filter_map(|number| self.numbered(number))
    }

    /// The column of this name; system columns are none.
    pub(crate) fn column(&self, name: &str) -> Result<Column, Fault> {
        let missing = || Fault::NoColumn {
            table: self.name(),
            column: name.to_owned(),
        };
        let c_name = CString::new(name).map_err(|_| missing())?;
        // SAFETY: a syscache look-up of a NUL-terminated name; the pointer is not kept.
        let number = unsafe { pg_sys::get_attnum(self.oid(), c_name.as_ptr()) };
        if number <= 0 {
            return Err(missing());
        }
        self.numbered(number).ok_or_else(missing)
    }

    /// The column of this number.
    pub(crate) fn numbered(&self, number: i16) -> Option<Column> {
        let place = usize::try_from(number).ok()?.checked_sub(1)?;
        // SAFETY: the relation, and its descriptor with it, is open for as long as this.
        let columns = unsafe { PgTupleDesc::from_pg_unchecked((*self.0).rd_att) };
        let attribute = columns.get(place).filter(|attribute| !attribute.attisdropped)?;
        Some(Column {
            // SAFETY: names are NUL-terminated.
            name: unsafe { CStr::from_ptr(attribute.attname.data.as_ptr()) }
                .to_string_lossy()
                .into_owned(),
            number,
            type_oid: attribute.atttypid,
            modifier: attribute.atttypmod,
            collation: attribute.attcollation,
            not_null: attribute.attnotnull,
            generated: attribute.attgenerated != 0,
            identity: attribute.attidentity != 0,
        })
    }

    /// Refuses what has no rows and indexes of its own; `partitioned` says what to do instead with a partitioned table.
    pub(crate) fn must_be_ordinary(&self, partitioned: &'static str) -> Result<(), Fault> {
        let wrong = |problem, hint| {
            Err(Fault::WrongTable {
                table: self.name(),
                problem,
                hint,
            })
        };
        match self.kind() {
            'r' if self.is_others_temporary() => {
                wrong("is another session's temporary table", "Use a table of your own.")
            }
            'r' => Ok(()),
            'p' => wrong("is partitioned", partitioned),
            'v' | 'm' => wrong("is a view", "Name the table that the view reads."),
            'f' => wrong("is a foreign table", "Call slotkeeper where the table is."),
            _ => wrong("is no table", "Name an ordinary table."),
        }
    }

    /// Its primary key, where that is one column.
    pub(crate) fn key(&self) -> Option<(UniqueIndex, Column)> {
        // SAFETY: making the list of indexes is what finds out which of them is the primary key.
        let oid = unsafe {
            pg_sys::list_free(pg_sys::RelationGetIndexList(self.0));
            (*self.0).rd_pkindex
        };
        let primary = (oid != pg_sys::InvalidOid).then(|| unique_index(oid))??;
        match *primary.columns {
            [number] => self.numbered(number).map(|column| (primary, column)),
            _ => None,
        }
    }

    /// The column of `other` that a foreign key of this column refers to.
    pub(crate) fn referred(&self, column: &Column, other: &Self) -> Option<Column> {
        // SAFETY: the list and its entries belong to the relation's cache, which stays while the relation is open.
        let number = unsafe {
            let list = pgrx::PgList::<pg_sys::ForeignKeyCacheInfo>::from_pg(pg_sys::RelationGetFKeyList(self.0));
            list.iter_ptr().find_map(|key| {
                let columns = usize::try_from((*key).nkeys).ok()?;
                let own = (*key).conkey.get(..columns)?;
                let place = own.iter().position(|&number| number == column.number)?;
                ((*key).confrelid == other.oid()).then(|| (*key).confkey.get(place).copied())?
            })
        }?;
        other.numbered(number)
    }

    /// Its unique indexes.
    pub(crate) fn unique_indexes(&self) -> Vec<UniqueIndex> {
        // SAFETY: the list is a copy of oids.
        let list = unsafe { pgrx::PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(self.0)) };
        list.iter_oid().filter_map(unique_index).collect()
    }
}

/// An index, if it is a unique one.
fn unique_index(oid: pg_sys::Oid) -> Option<UniqueIndex> {
    // SAFETY: the index is opened with a lock that lasts, and closed once; its descriptor is read in between.
    unsafe {
        let index = pg_sys::index_open(oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        let entry = (*index).rd_index;
        let unique = ((*entry).indisunique && (*entry).indislive).then(|| {
            let columns = (*entry).indkey.values.as_slice((*entry).indnkeyatts as usize);
            let flaw = if !(*entry).indisvalid || !(*entry).indisready {
                Some(Flaw::Invalid)
            } else if (*(*index).rd_rel).relam != pg_sys::BTREE_AM_OID {
                Some(Flaw::Method)
            } else if columns.contains(&0) {
                Some(Flaw::Expression)
            } else if !pg_sys::RelationGetIndexPredicate(index).is_null() {
                Some(Flaw::Partial)
            } else {
                None
            };
            UniqueIndex {
                oid,
                name: CStr::from_ptr((*(*index).rd_rel).relname.data.as_ptr())
                    .to_string_lossy()
                    .into_owned(),
                columns: columns.to_vec(),
                nulls_not_distinct: (*entry).indnullsnotdistinct,
                flaw,
            }
        });
        pg_sys::index_close(index, pg_sys::NoLock as pg_sys::LOCKMODE);
        unique
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: opened by `open`, closed once; its lock stays until the transaction ends.
            unsafe { pg_sys::relation_close(self.0, pg_sys::NoLock as pg_sys::LOCKMODE) };
        }
    }
}

/// How a type is written, with its modifier.
pub(crate) fn type_name(type_oid: pg_sys::Oid, modifier: i32) -> String {
    // SAFETY: returns a palloc'd C string for any oid.
    unsafe { CStr::from_ptr(pg_sys::format_type_with_typemod(type_oid, modifier)) }
        .to_string_lossy()
        .into_owned()
}

/// The type of a column as a cast to it is written: schema and all, without the length that would cut a value.
pub(crate) fn cast_to(column: &Column) -> String {
    // Said to be given, "no length" is written as such: a bare `character` would be one of length 1.
    let flags = pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY;
    // SAFETY: returns a palloc'd C string for any oid.
    unsafe {
        let text = pg_sys::format_type_extended(column.type_oid, -1, flags as pg_sys::bits16);
        CStr::from_ptr(text).to_string_lossy().into_owned()
    }
}

/// The type of a column as it is declared: schema, length and all.
pub(crate) fn declared(column: &Column) -> String {
    let flags = pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY;
    // SAFETY: returns a palloc'd C string for any oid.
    unsafe {
        let text = pg_sys::format_type_extended(column.type_oid, column.modifier, flags as pg_sys::bits16);
        CStr::from_ptr(text).to_string_lossy().into_owned()
    }
}

/// The equality by which an index tells the values of its n-th column, from 0, as an operator is written in SQL.
pub(crate) fn equality(index: &UniqueIndex, n: usize) -> Result<String, Fault> {
    // SAFETY: the index is opened and closed again; the operator's name is a palloc'd C string, `schema.=(type,type)`.
    let text = unsafe {
        let relation = pg_sys::index_open(index.oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        let (family, of) = (*(*relation).rd_opfamily.add(n), *(*relation).rd_opcintype.add(n));
        let operator = pg_sys::get_opfamily_member(family, of, of, pg_sys::BTEqualStrategyNumber as i16);
        pg_sys::index_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        CStr::from_ptr(pg_sys::format_operator_qualified(operator))
            .to_string_lossy()
            .into_owned()
    };
    let name = text
        .split_once('(')
        .ok_or_else(|| Fault::Internal(format!("operator {text} has no arguments")))?;
    Ok(format!("OPERATOR({})", name.0))
}

/// How many characters a column of text may hold; none where the type is no text of varying length.
pub(crate) fn text_room(column: &Column) -> Option<usize> {
    let (base, modifier, category) = base_type(column);
    // SAFETY: a catalog look-up.
    let varying = unsafe { pg_sys::get_typlen(base) } == -1 && base != pg_sys::BPCHAROID;
    if category != pg_sys::TYPCATEGORY_STRING || !varying {
        return None;
    }
    let header = pg_sys::VARHDRSZ as i32;
    Some(usize::try_from(modifier - header).unwrap_or(usize::MAX))
}

/// Whether the text of a value depends on the session's settings: dates, times and intervals.
pub(crate) fn depends_on_settings(column: &Column) -> bool {
    let (_, _, category) = base_type(column);
    category == pg_sys::TYPCATEGORY_DATETIME || category == pg_sys::TYPCATEGORY_TIMESPAN
}

/// Whether values of the column are texts, numbers, booleans, instants, enums or uuids: whatever JSON writes as a string,
/// a number or a boolean. A domain is not: a cast to it may cut a value.
pub(crate) fn is_plain(column: &Column) -> bool {
    let (base, _, category) = base_type(column);
    let plain = [
        pg_sys::TYPCATEGORY_STRING,
        pg_sys::TYPCATEGORY_NUMERIC,
        pg_sys::TYPCATEGORY_BOOLEAN,
        pg_sys::TYPCATEGORY_DATETIME,
        pg_sys::TYPCATEGORY_ENUM,
    ];
    base == column.type_oid && (plain.contains(&category) || base == pg_sys::UUIDOID)
}

/// The type that a domain is made of, its modifier and category; any other type itself.
fn base_type(column: &Column) -> (pg_sys::Oid, i32, u8) {
    let mut modifier = column.modifier;
    let (mut category, mut preferred): (c_char, bool) = (0, false);
    // SAFETY: catalog look-ups that write to the places given.
    let base = unsafe {
        let base = pg_sys::getBaseTypeAndTypmod(column.type_oid, &mut modifier);
        pg_sys::get_type_category_preferred(base, &mut category, &mut preferred);
        base
    };
    (base, modifier, category as u8)
}

/// A value of a column's type, as text.
pub(crate) fn output(column: &Column, datum: pg_sys::Datum) -> String {
    let (mut function, mut varlena) = (pg_sys::InvalidOid, false);
    // SAFETY: the datum is of the column's type; the result is a palloc'd C string.
    unsafe {
        pg_sys::getTypeOutputInfo(column.type_oid, &mut function, &mut varlena);
        let text = pg_sys::OidOutputFunctionCall(function, datum);
        CStr::from_ptr(text).to_string_lossy().into_owned()
    }
}

/// A value of a column's type, read from text as a literal would be.
pub(crate) fn input(column: &Column, text: &str) -> Result<pg_sys::Datum, Fault> {
    let text = CString::new(text).map_err(|_| Fault::Internal("a value with a zero byte".to_owned()))?;
    let (mut function, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: the input function reads the C string; what it refuses is an error of its own.
    unsafe {
        pg_sys::getTypeInputInfo(column.type_oid, &mut function, &mut parameter);
        Ok(pg_sys::OidInputFunctionCall(
            function,
            text.as_ptr().cast_mut(),
            parameter,
            column.modifier,
        ))
    }
}
