//! What names a request: a digest of who asks and of the key that he sends.

use super::{Digest, digest};

/// How many bytes of a name are the user's.
const USER_BYTES: usize = 4;

/// The name of a user's key. `None` is nobody in particular: all callers without a user share their keys.
///
/// It begins with a few bytes that depend on the user alone, so that one range of the primary key has all keys of a
/// user (and few of others: whoever reads the range compares the user).
pub fn name(user: Option<&str>, key: &str) -> Digest {
    let known: &[u8] = if user.is_some() { b"user" } else { b"nobody" };
    let user = user.unwrap_or_default().as_bytes();
    let mut name = digest("slotkeeper key 1", &[known, user, key.as_bytes()]);
    let owner = digest("slotkeeper user 1", &[known, user]);
    for (to, from) in name.iter_mut().zip(owner).take(USER_BYTES) {
        *to = from;
    }
    name
}

/// The first and the last name that a key of this user can have.
pub fn range(user: Option<&str>) -> (Digest, Digest) {
    let (mut first, mut last) = (name(user, ""), name(user, ""));
    first.iter_mut().skip(USER_BYTES).for_each(|byte| *byte = 0);
    last.iter_mut().skip(USER_BYTES).for_each(|byte| *byte = u8::MAX);
    (first, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_by_user_and_by_key() {
        let names = [
            name(None, "k"),
            name(Some(""), "k"),
            name(Some("u"), "k"),
            name(Some("uk"), ""),
            name(None, "uk"),
            name(Some("u"), "K"),
        ];
        for (i, one) in names.iter().enumerate() {
            assert!(!names[..i].contains(one), "{i}");
        }
        assert_eq!(name(Some("u"), "k"), name(Some("u"), "k"));
    }

    #[test]
    fn the_keys_of_a_user_lie_in_one_range() {
        let (first, last) = range(Some("u"));
        for i in 0..1000 {
            let name = name(Some("u"), &i.to_string());
            assert!(first <= name && name <= last);
        }
        assert!((0..1000).any(|i| !(first..=last).contains(&name(Some("v"), &i.to_string()))));
    }
}
