//! Requests that run once: which two are the same, what names them, what may be kept of a response.

pub mod fingerprint;
pub mod headers;
pub mod key;
pub mod life;
pub mod pace;
pub mod reference;
pub mod token;
pub mod tree;

pub use tree::Tree;

use sha2::{Digest as _, Sha256};

/// A 128-bit digest.
pub type Digest = [u8; 16];

/// The first 128 bits of the SHA-256 of these parts under a purpose. Each part is preceded by its length, so that no
/// byte can move from one to the next.
fn digest(purpose: &str, parts: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new();
    for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let mut digest = Digest::default();
    for (to, from) in digest.iter_mut().zip(hasher.finalize()) {
        *to = from;
    }
    digest
}
