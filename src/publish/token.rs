//! Lease tokens: opaque to workers, random, and of use only as long as nobody else has the content.

use slotkeeper_core::lease::digest;

/// A token as it was given back to us.
#[derive(Clone, Copy)]
pub(crate) struct Token {
    pub(crate) booking_id: i64,
    pub(crate) digest: u128,
}

/// A new token for a booking: the text for the worker, and what is stored of it.
pub(crate) fn new(booking_id: i64, secret: u128) -> (String, u128) {
    (format!("{booking_id:016x}{secret:032x}"), digest(secret))
}

/// What a text says, if it has the form of a token.
pub(crate) fn parse(text: &str) -> Option<Token> {
    if text.len() != 48 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (booking_id, secret) = text.split_at(16);
    Some(Token {
        booking_id: i64::from_str_radix(booking_id, 16).ok()?,
        digest: digest(u128::from_str_radix(secret, 16).ok()?),
    })
}
