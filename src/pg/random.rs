//! Secrets that cannot be guessed.

use crate::fault::Fault;
use pgrx::pg_sys;

/// So many are drawn at once: the server's source costs as much for one.
const AT_ONCE: usize = 64;

/// Secrets of 128 bits from the server's source of strong random numbers, for the call that draws them.
pub(crate) struct Secrets {
    drawn: Vec<[u8; 16]>,
    /// How many more the call may need.
    wanted: usize,
}

impl Secrets {
    /// For a call that needs at most so many, mostly.
    pub(crate) fn of(wanted: usize) -> Self {
        Self {
            drawn: Vec::new(),
            wanted,
        }
    }

    /// Another one.
    pub(crate) fn next(&mut self) -> Result<u128, Fault> {
        if self.drawn.is_empty() {
            let count = self.wanted.clamp(1, AT_ONCE);
            self.wanted -= count.min(self.wanted);
            self.drawn.resize(count, [0; 16]);
            let bytes = self.drawn.as_flattened_mut();
            // SAFETY: writes as many bytes as the buffer has.
            if !unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) } {
                self.drawn.clear();
            }
        }
        let secret = self.drawn.pop().map(u128::from_be_bytes);
        secret.ok_or_else(|| Fault::Internal("the server has no random numbers".to_owned()))
    }
}
