//! `jsonb` arguments and replies.

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::{FromDatum, direct_function_call, pg_sys};
use serde_json::Value;

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
