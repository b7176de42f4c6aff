//! `jsonb` arguments and replies.
//!
//! Replies are written as the server's own jsonb, without a text in between that would be written and parsed again.

mod form;

pub(crate) use self::form::Part;
use self::form::Writer;
use crate::fault::Fault;
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::{FromDatum, IntoDatum, direct_function_call, direct_function_call_as_datum, pg_sys};
use serde_json::Value;
use siphasher::sip128::{Hasher128, SipHasher13};
use slotkeeper_core::request::Tree;
use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::hash::Hasher;

/// A `jsonb` argument. What `serde_json` refuses (numbers beyond a double, nesting beyond 127 levels) is kept as the
/// reason, so that it becomes an error about that argument rather than a panic.
#[derive(Debug)]
pub(crate) struct JsonArg(pub(crate) Result<Value, String>);

impl FromDatum for JsonArg {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the caller hands over a jsonb datum; jsonb_out detoasts it and returns a fresh C string.
        let text = unsafe { direct_function_call::<&std::ffi::CStr>(pg_sys::jsonb_out, &[Some(datum)]) }?;
        Some(Self(serde_json::from_slice(text.to_bytes()).map_err(|e| e.to_string())))
    }
}

// SAFETY: an ordinary by-reference datum, read through FromDatum.
unsafe impl<'fcx> ArgAbi<'fcx> for JsonArg {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as our caller promises.
        unsafe { arg.unbox_arg_using_from_datum() }.unwrap_or(Self(Ok(Value::Null)))
    }

    unsafe fn unbox_nullable_arg(arg: Arg<'_, 'fcx>) -> pgrx::nullable::Nullable<Self> {
        // SAFETY: as our caller promises.
        unsafe { arg.unbox_arg_using_from_datum().into() }
    }
}

pgrx::impl_sql_translatable!(JsonArg, "jsonb");

/// The deepest nesting that is read: what `serde_json` reads too.
const DEEPEST: usize = 127;

/// A jsonb value kept as the server has it: nothing is rounded on the way through. It lives as long as the call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jsonb(pg_sys::Datum);

impl Jsonb {
    /// # Safety
    /// The datum must be a jsonb that is not toasted and stays until the call ends.
    pub(super) unsafe fn from_plain(datum: pg_sys::Datum) -> Self {
        Self(datum)
    }

    pub(super) fn datum(&self) -> pg_sys::Datum {
        self.0
    }

    /// Its size in bytes, as it is stored before compression.
    pub(crate) fn size(&self) -> usize {
        // SAFETY: a jsonb is a varlena.
        unsafe { pgrx::varlena::varsize_any(self.0.cast_mut_ptr()) }
    }

    /// 128 bits that tell it from any other value, without parsing it.
    pub(crate) fn fingerprint(&self) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(0x736c_6f74_6b65_6570, 0x6669_6e67_6572_7072);
        // SAFETY: a jsonb is a varlena, whose bytes follow its header.
        hasher.write(unsafe { pgrx::varlena::varlena_to_byte_slice(self.0.cast_mut_ptr()) });
        hasher.finish128().as_u128()
    }

    /// The value as `serde_json` reads it.
    pub(crate) fn parsed(&self) -> Result<Value, Fault> {
        // SAFETY: it is a jsonb datum.
        let parsed = unsafe { JsonArg::from_datum(self.0, false) };
        parsed
            .map_or(Ok(Value::Null), |JsonArg(value)| value)
            .map_err(Fault::Internal)
    }

    /// A member of an object.
    pub(crate) fn member(&self, name: &str) -> Option<Self> {
        // SAFETY: jsonb_object_field takes a jsonb and a text, and returns a jsonb or NULL.
        unsafe { direct_function_call(pg_sys::jsonb_object_field, &[Some(self.0), name.into_datum()]) }
    }

    /// Its bytes behind the length word.
    fn bytes(&self) -> &[u8] {
        // SAFETY: a plain jsonb, which stays as long as the call.
        unsafe { pgrx::varlena::varlena_to_byte_slice(self.0.cast_mut_ptr()) }
    }

    /// What it is, where it lies.
    pub(crate) fn part(&self) -> Part<'_> {
        // SAFETY: the bytes are a whole jsonb's.
        unsafe { Part::root(self.bytes()) }
    }

    /// The value as a tree; the reason where it is nested too deeply.
    pub(crate) fn tree(&self) -> Result<Tree, String> {
        let tree = self.part().tree(0);
        tree.ok_or_else(|| format!("it is nested more than {DEEPEST} levels deep"))
    }
}

/// A number in JSON's spelling.
///
/// # Safety
/// The bytes must be a numeric's, and lie where one may.
unsafe fn spelling(numeric: &[u8]) -> String {
    // SAFETY: as our caller promises; numeric_out returns a fresh C string.
    let text = unsafe {
        let numeric = Some(pg_sys::Datum::from(numeric.as_ptr()));
        direct_function_call::<&CStr>(pg_sys::numeric_out, &[numeric])
    };
    text.map_or_else(String::new, |text| text.to_string_lossy().into_owned())
}

impl FromDatum for Jsonb {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the caller hands over a jsonb datum.
        (!is_null).then(|| unsafe { Self(pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).into()) })
    }
}

impl IntoDatum for Jsonb {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

// SAFETY: an ordinary by-reference datum, read through FromDatum. None of our functions with such an argument is
// called without looking whether it is NULL.
unsafe impl<'fcx> ArgAbi<'fcx> for Jsonb {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as our caller promises.
        unsafe { arg.unbox_arg_using_from_datum() }.unwrap_or_else(|| Self(Json::Null.into_jsonb()))
    }

    unsafe fn unbox_nullable_arg(arg: Arg<'_, 'fcx>) -> pgrx::nullable::Nullable<Self> {
        // SAFETY: as our caller promises.
        unsafe { arg.unbox_arg_using_from_datum().into() }
    }
}

pgrx::impl_sql_translatable!(Jsonb, "jsonb");

/// A value of a reply.
#[derive(Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// A number in JSON's spelling.
    Number(String),
    Text(String),
    /// A value that the server has already.
    Raw(Jsonb),
    List(Vec<Json>),
    Object(Vec<(Cow<'static, str>, Json)>),
}

impl Json {
    /// The value as the server's own.
    pub(crate) fn into_server(self) -> Jsonb {
        Jsonb(self.into_jsonb())
    }

    fn into_jsonb(mut self) -> pg_sys::Datum {
        if let Self::Raw(jsonb) = self {
            return jsonb.0;
        }
        let mut writer = Writer::new();
        writer.root(&mut self);
        writer.finish()
    }
}

fn numeric_of_float(value: f64) -> Option<pg_sys::Datum> {
    // SAFETY: the server's float8 to numeric; the result is a numeric in the current memory context.
    unsafe { direct_function_call_as_datum(pg_sys::float8_numeric, &[value.into_datum()]) }
}

fn numeric(spelling: &str) -> Option<pg_sys::Datum> {
    let spelling = CString::new(spelling).ok()?;
    let (any_type, any_scale) = (pg_sys::InvalidOid.into_datum(), (-1_i32).into_datum());
    // SAFETY: numeric_in takes a C string, an element type that it ignores, and a type modifier.
    unsafe {
        direct_function_call(
            pg_sys::numeric_in,
            &[spelling.as_c_str().into_datum(), any_type, any_scale],
        )
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Json {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<Vec<Json>> for Json {
    fn from(list: Vec<Json>) -> Self {
        Self::List(list)
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl From<Jsonb> for Json {
    fn from(value: Jsonb) -> Self {
        Self::Raw(value)
    }
}

impl From<Tree> for Json {
    fn from(tree: Tree) -> Self {
        match tree {
            Tree::Null => Self::Null,
            Tree::Bool(value) => Self::Bool(value),
            Tree::Number(spelling) => Self::Number(spelling),
            Tree::Text(text) => Self::Text(text),
            Tree::List(list) => Self::List(list.into_iter().map(Self::from).collect()),
            Tree::Object(members) => Self::Object(
                members
                    .into_iter()
                    .map(|(key, value)| (Cow::Owned(key), value.into()))
                    .collect(),
            ),
        }
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Self::Int(whole),
                (None, Some(float)) => Self::Float(float),
                (None, None) => Self::Text(number.to_string()),
            },
            Value::String(text) => Self::Text(text),
            Value::Array(list) => Self::List(list.into_iter().map(Self::from).collect()),
            Value::Object(members) => Self::Object(
                members
                    .into_iter()
                    .map(|(key, value)| (Cow::Owned(key), value.into()))
                    .collect(),
            ),
        }
    }
}

/// An object: the `jsonb` that a function returns.
#[derive(Debug)]
pub(crate) struct JsonReply(pub(crate) Json);

impl JsonReply {
    /// An object with one more member, a list of so many elements: each is written as it comes, and is kept in no other form.
    pub(crate) fn with_list(
        mut members: Vec<(Cow<'static, str>, Json)>,
        name: &'static str,
        count: usize,
        elements: impl Iterator<Item = Json>,
    ) -> Self {
        members.push((Cow::Borrowed(name), Json::Null));
        let mut writer = Writer::new();
        writer.root_with_list(&mut members, name, count, elements);
        Self(Json::Raw(Jsonb(writer.finish())))
    }
}

// SAFETY: returns a jsonb datum in the current memory context.
unsafe impl BoxRet for JsonReply {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: as our caller promises.
        unsafe { fcinfo.return_raw_datum(self.0.into_jsonb()) }
    }
}

pgrx::impl_sql_translatable!(JsonReply, "jsonb");
