//! Secrets that cannot be guessed, and digests that don't give them away.

use crate::fault::Fault;
use pgrx::{IntoDatum, direct_function_call, pg_sys};

/// 128 bits from the server's source of strong random numbers.
pub(crate) fn secret() -> Result<u128, Fault> {
    let mut bytes = [0_u8; 16];
    // SAFETY: writes as many bytes as the buffer has.
    if unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) } {
        Ok(u128::from_be_bytes(bytes))
    } else {
        Err(Fault::Internal("the server has no random numbers".to_owned()))
    }
}

/// The first half of a secret's SHA-256.
pub(crate) fn digest(secret: u128) -> Result<u128, Fault> {
    let bytes = secret.to_be_bytes();
    // SAFETY: the server's sha256(bytea) takes a bytea and returns one.
    let hash: Option<&[u8]> = unsafe { direct_function_call(pg_sys::sha256_bytea, &[bytes.as_slice().into_datum()]) };
    hash.and_then(|hash| hash.first_chunk::<16>())
        .map(|half| u128::from_be_bytes(*half))
        .ok_or_else(|| Fault::Internal("sha256 returned nothing".to_owned()))
}
