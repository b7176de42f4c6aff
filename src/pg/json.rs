//! `jsonb` arguments and replies.
//!
//! Replies are built as the server's own jsonb, without a text in between that would be written and parsed again.

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::{FromDatum, IntoDatum, direct_function_call, direct_function_call_as_datum, pg_sys};
use serde_json::Value;
use std::borrow::Cow;

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

/// A value of a reply.
#[derive(Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(Cow<'static, str>, Json)>),
}

impl Json {
    fn into_jsonb(mut self) -> pg_sys::Datum {
        let mut nodes = Nodes::default();
        let mut top = nodes.node(&mut self);
        // SAFETY: all that the tree points to lives in `self` and `nodes` until the jsonb is written.
        unsafe { pg_sys::Datum::from(pg_sys::JsonbValueToJsonb(&mut top)) }
    }
}

/// The inner nodes of a value, in the form that the server writes jsonb from.
#[derive(Default)]
struct Nodes {
    pairs: Vec<Vec<pg_sys::JsonbPair>>,
    elements: Vec<Vec<pg_sys::JsonbValue>>,
}

impl Nodes {
    fn node(&mut self, json: &mut Json) -> pg_sys::JsonbValue {
        let mut node = null();
        match json {
            Json::Null => {}
            Json::Text(text) => node = string(text),
            Json::Bool(value) => (node.type_, node.val.boolean) = (pg_sys::jbvType::jbvBool, *value),
            Json::Int(value) => {
                // SAFETY: makes a numeric in the current memory context.
                node.val.numeric = unsafe { pg_sys::int64_to_numeric(*value) };
                node.type_ = pg_sys::jbvType::jbvNumeric;
            }
            Json::Float(value) => {
                let datum = value.into_datum();
                // SAFETY: the server's float8 to numeric; the result is a numeric in the current memory context.
                let number = unsafe { direct_function_call_as_datum(pg_sys::float8_numeric, &[datum]) };
                if let Some(number) = number {
                    node.val.numeric = number.cast_mut_ptr();
                    node.type_ = pg_sys::jbvType::jbvNumeric;
                }
            }
            Json::List(list) => {
                let mut elements: Vec<_> = list.iter_mut().map(|element| self.node(element)).collect();
                node.type_ = pg_sys::jbvType::jbvArray;
                node.val.array = pg_sys::JsonbValue__bindgen_ty_1__bindgen_ty_2 {
                    nElems: elements.len() as i32,
                    elems: elements.as_mut_ptr(),
                    rawScalar: false,
                };
                self.elements.push(elements);
            }
            Json::Object(members) => {
                // The order that jsonb keeps its keys in: shorter ones first. Replies name each key once.
                members.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
                let mut pairs: Vec<_> = members
                    .iter_mut()
                    .map(|(key, value)| pg_sys::JsonbPair {
                        key: string(key),
                        value: self.node(value),
                        order: 0,
                    })
                    .collect();
                node.type_ = pg_sys::jbvType::jbvObject;
                node.val.object = pg_sys::JsonbValue__bindgen_ty_1__bindgen_ty_3 {
                    nPairs: pairs.len() as i32,
                    pairs: pairs.as_mut_ptr(),
                };
                self.pairs.push(pairs);
            }
        }
        node
    }
}

fn null() -> pg_sys::JsonbValue {
    pg_sys::JsonbValue {
        type_: pg_sys::jbvType::jbvNull,
        val: pg_sys::JsonbValue__bindgen_ty_1 {
            numeric: std::ptr::null_mut(),
        },
    }
}

fn string(text: &str) -> pg_sys::JsonbValue {
    let mut scalar = null();
    scalar.type_ = pg_sys::jbvType::jbvString;
    scalar.val.string = pg_sys::JsonbValue__bindgen_ty_1__bindgen_ty_1 {
        len: text.len() as i32,
        val: text.as_ptr().cast_mut().cast(),
    };
    scalar
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

// SAFETY: returns a jsonb datum in the current memory context.
unsafe impl BoxRet for JsonReply {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: as our caller promises.
        unsafe { fcinfo.return_raw_datum(self.0.into_jsonb()) }
    }
}

pgrx::impl_sql_translatable!(JsonReply, "jsonb");
