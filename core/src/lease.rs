//! Leases: what is stored of their tokens.

use sha2::{Digest as _, Sha256};

/// The first half of a secret's SHA-256: whoever reads it cannot tell the secret.
pub fn digest(secret: u128) -> u128 {
    let hash = Sha256::digest(secret.to_be_bytes());
    hash.iter().take(16).fold(0, |half, byte| half << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::digest;

    /// Leases outlive an upgrade.
    #[test]
    fn it_never_changes() {
        assert_eq!(digest(0), 0x374708fff7719dd5979ec875d56cd228);
        assert_eq!(digest(u128::MAX), 0x5ac6a5945f16500911219129984ba8b3);
    }
}
