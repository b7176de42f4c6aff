//! `jsonb` arguments and replies.
//!
//! Replies are built as the server's own jsonb, without a text in between that would be written and parsed again.

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

    fn root(&self) -> *mut pg_sys::JsonbContainer {
        // SAFETY: a plain jsonb begins with its length word, which the container follows.
        unsafe { &raw mut (*self.0.cast_mut_ptr::<pg_sys::Jsonb>()).root }
    }

    /// The value as a tree; the reason where it is nested too deeply.
    pub(crate) fn tree(&self) -> Result<Tree, String> {
        let mut open: Vec<Open> = Vec::new();
        let mut value = null();
        // SAFETY: the iterator walks over a complete jsonb and fills in `value`, of which only the member is read that
        // its type says.
        unsafe {
            let mut iterator = pg_sys::JsonbIteratorInit(self.root());
            loop {
                use pg_sys::JsonbIteratorToken as Token;
                let closed = match pg_sys::JsonbIteratorNext(&mut iterator, &mut value, false) {
                    Token::WJB_DONE => return Err("it has no value".to_owned()),
                    Token::WJB_BEGIN_ARRAY => {
                        open.push(Open::List(Vec::new(), value.val.array.rawScalar));
                        None
                    }
                    Token::WJB_BEGIN_OBJECT => {
                        open.push(Open::Object(Vec::new(), String::new()));
                        None
                    }
                    Token::WJB_KEY => {
                        if let Some(Open::Object(_, key)) = open.last_mut() {
                            *key = text_of(&value);
                        }
                        None
                    }
                    Token::WJB_END_ARRAY | Token::WJB_END_OBJECT => open.pop().map(Open::close),
                    _ => Some(scalar_of(&value)),
                };
                if open.len() > DEEPEST {
                    return Err(format!("it is nested more than {DEEPEST} levels deep"));
                }
                match (closed, open.last_mut()) {
                    (None, _) => {}
                    (Some(value), None) => return Ok(value),
                    (Some(value), Some(Open::List(list, _))) => list.push(value),
                    (Some(value), Some(Open::Object(members, key))) => members.push((std::mem::take(key), value)),
                }
            }
        }
    }

    /// The value in the form that a larger one is built from.
    fn node(&self) -> pg_sys::JsonbValue {
        let mut value = null();
        // SAFETY: what is built here refers to this jsonb's memory, which lives as long as the call.
        unsafe {
            if pg_sys::JsonbExtractScalar(self.root(), &mut value) {
                return value;
            }
            let mut state = std::ptr::null_mut();
            let mut built = std::ptr::null_mut();
            let mut iterator = pg_sys::JsonbIteratorInit(self.root());
            loop {
                use pg_sys::JsonbIteratorToken as Token;
                let token = pg_sys::JsonbIteratorNext(&mut iterator, &mut value, false);
                let scalar: *mut pg_sys::JsonbValue = match token {
                    Token::WJB_DONE => break,
                    Token::WJB_KEY | Token::WJB_VALUE | Token::WJB_ELEM => &mut value,
                    _ => std::ptr::null_mut(),
                };
                built = pg_sys::pushJsonbValue(&mut state, token, scalar);
            }
            if built.is_null() { null() } else { *built }
        }
    }
}

/// An array or object that is being read.
enum Open {
    /// The elements, and whether this is but the shell of a scalar.
    List(Vec<Tree>, bool),
    /// The members, and the name of the next one.
    Object(Vec<(String, Tree)>, String),
}

impl Open {
    fn close(self) -> Tree {
        match self {
            Self::List(mut list, true) => list.pop().unwrap_or(Tree::Null),
            Self::List(list, false) => Tree::List(list),
            Self::Object(members, _) => Tree::Object(members),
        }
    }
}

/// # Safety
/// The value must be a string.
unsafe fn text_of(value: &pg_sys::JsonbValue) -> String {
    // SAFETY: as our caller promises; the bytes lie in the jsonb.
    unsafe {
        let string = value.val.string;
        let bytes = std::slice::from_raw_parts(string.val.cast::<u8>(), string.len as usize);
        String::from_utf8_lossy(bytes).into_owned()
    }
}

/// # Safety
/// The value must be a scalar out of a jsonb.
unsafe fn scalar_of(value: &pg_sys::JsonbValue) -> Tree {
    // SAFETY: only the member that the type says is read.
    unsafe {
        match value.type_ {
            pg_sys::jbvType::jbvBool => Tree::Bool(value.val.boolean),
            pg_sys::jbvType::jbvString => Tree::Text(text_of(value)),
            pg_sys::jbvType::jbvNumeric => {
                let number = Some(pg_sys::Datum::from(value.val.numeric));
                let text = direct_function_call::<&CStr>(pg_sys::numeric_out, &[number]);
                Tree::Number(text.map_or_else(String::new, |text| text.to_string_lossy().into_owned()))
            }
            _ => Tree::Null,
        }
    }
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
            Json::Number(spelling) => match numeric(spelling) {
                Some(number) => (node.type_, node.val.numeric) = (pg_sys::jbvType::jbvNumeric, number.cast_mut_ptr()),
                None => node = string(spelling),
            },
            Json::Raw(value) => node = value.node(),
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

// SAFETY: returns a jsonb datum in the current memory context.
unsafe impl BoxRet for JsonReply {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: as our caller promises.
        unsafe { fcinfo.return_raw_datum(self.0.into_jsonb()) }
    }
}

pgrx::impl_sql_translatable!(JsonReply, "jsonb");
