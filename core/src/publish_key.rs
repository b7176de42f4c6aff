//! The key that a provider may use to notice that it has seen a content before.

use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// A text that is the same for one content in one queue whenever and wherever it is computed, and another for any
/// other: a UUID of version 8, a form that providers take as an idempotency key.
pub fn publish_key(source: &str, content_id: &str, profile_id: &str, platform: &str) -> String {
    let mut hasher = SipHasher24::new_with_keys(0x736c_6f74_6b65_6570, 0x7075_626c_6973_6821);
    for part in [source, content_id, profile_id, platform] {
        // With its length before each part no two lists of parts read the same.
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part.as_bytes());
    }
    let digest = hasher.finish128().as_u128();
    let versioned = digest & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
    let hex = format!("{versioned:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    parts
        .map(|range| hex.get(range).unwrap_or_default().to_owned())
        .join("-")
}

#[cfg(test)]
mod tests {
    use super::publish_key;

    /// A key that changed with a release would be a content published twice.
    #[test]
    fn it_never_changes() {
        assert_eq!(publish_key("", "c1", "p", "x"), "101d28b7-cdfd-80bb-a698-2742d58d9c63");
        assert_eq!(
            publish_key("posts", "ü", "a\"b", "tiktok"),
            "bab68055-2ca9-8170-a899-af199f48eee1"
        );
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let keys = [
            publish_key("a", "b", "c", "d"),
            publish_key("ab", "", "c", "d"),
            publish_key("a", "bc", "", "d"),
            publish_key("", "ab", "c", "d"),
            publish_key("a", "b", "cd", ""),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|other| other != key));
        }
    }
}
