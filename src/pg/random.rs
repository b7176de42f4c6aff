//! Secrets that cannot be guessed.

use crate::fault::Fault;
use pgrx::pg_sys;

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
