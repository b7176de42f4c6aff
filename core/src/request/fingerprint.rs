//! What makes two requests the same request.
//!
//! Method, path and body are written in one canonical form and digested. In that form
//! - an object's members are sorted, so that their order does not matter;
//! - a number is its value: `1`, `1.0` and `1e0` are one, and `1` is not `"1"`; no digit is ever rounded away;
//! - text is in Unicode's form NFC: `é` typed as one character or as two is the same text;
//! - every text and every list is preceded by its length, and every value by its kind: no other sequence of values is
//!   written with the same bytes.

use unicode_normalization::{UnicodeNormalization as _, is_nfc_quick};

use super::{Tree, digest};

/// Which algorithm this is. It is the first byte of each fingerprint: if the canonical form ever changes, stored ones
/// are compared by the algorithm that made them, or not at all.
pub const ALGORITHM: u8 = 1;

/// What kind of call a request came from: two kinds never have the same fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `begin_request`
    Request,
    /// `idempotent_insert`
    Insert,
}

/// The fingerprint of a request; `None` for the body is not the body `null`.
///
/// The algorithm's number and 56 bits of a digest: a fingerprint is only ever compared with the one that is stored under
/// the same user's same key, and who makes two of his own requests collide betrays himself.
pub fn fingerprint(kind: Kind, method: &str, path: &str, body: Option<&Tree>) -> i64 {
    let purpose = match kind {
        Kind::Request => "slotkeeper request 1",
        Kind::Insert => "slotkeeper insert 1",
    };
    let mut canonical = Vec::with_capacity(512);
    if let Some(body) = body {
        write(&mut canonical, body);
    }
    let (mut method_text, mut path_text) = (Vec::with_capacity(16), Vec::with_capacity(64));
    text(&mut method_text, method);
    text(&mut path_text, path);
    let digest = digest(purpose, &[&method_text, &path_text, &canonical]);
    let bytes = std::iter::once(ALGORITHM).chain(digest).take(8);
    bytes.fold(0, |number, byte| number << 8 | i64::from(byte))
}

fn write(out: &mut Vec<u8>, value: &Tree) {
    match value {
        Tree::Null => out.push(b'n'),
        Tree::Bool(true) => out.push(b't'),
        Tree::Bool(false) => out.push(b'f'),
        Tree::Number(spelling) => {
            out.push(b'd');
            sized(out, number(spelling).as_bytes());
        }
        Tree::Text(value) => {
            out.push(b's');
            text(out, value);
        }
        Tree::List(list) => {
            out.push(b'a');
            length(out, list.len());
            list.iter().for_each(|element| write(out, element));
        }
        Tree::Object(members) => {
            out.push(b'o');
            length(out, members.len());
            let mut written: Vec<Vec<u8>> = members
                .iter()
                .map(|(key, value)| {
                    let mut member = Vec::with_capacity(64);
                    text(&mut member, key);
                    write(&mut member, value);
                    member
                })
                .collect();
            // Sorted as written: the same whatever order the members came in, also where two names are one in NFC.
            written.sort_unstable();
            written.iter().for_each(|member| out.extend_from_slice(member));
        }
    }
}

fn length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&(length as u64).to_be_bytes());
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn text(out: &mut Vec<u8>, text: &str) {
    if text.is_ascii() || is_nfc_quick(text.chars()) == unicode_normalization::IsNormalized::Yes {
        sized(out, text.as_bytes());
    } else {
        sized(out, text.nfc().collect::<String>().as_bytes());
    }
}

/// A number's value in one spelling: sign, digits without zeros at either end, and the power of ten of the last one.
/// What is no JSON number is its own spelling.
fn number(spelling: &str) -> String {
    parts(spelling).unwrap_or_else(|| format!("={spelling}"))
}

fn parts(spelling: &str) -> Option<String> {
    let (sign, unsigned) = match spelling.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", spelling),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if whole.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    let kept = significant.trim_end_matches('0');
    let dropped = (significant.len() - kept.len()) as i64;
    let power = exponent.checked_sub(fraction.len() as i64)?.checked_add(dropped)?;
    Some(format!("{sign}{kept}e{power}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(body: &serde_json::Value) -> i64 {
        fingerprint(Kind::Request, "POST", "/", Some(&Tree::from(body)))
    }

    fn of_number(spelling: &str) -> i64 {
        fingerprint(Kind::Request, "POST", "/", Some(&Tree::Number(spelling.to_owned())))
    }

    #[test]
    fn a_number_is_its_value() {
        for (same, other) in [
            ("1", "1.0"),
            ("1", "1e0"),
            ("1", "10E-1"),
            ("0.1", "1e-1"),
            ("0.10", "0.1"),
            ("100", "1e+2"),
            ("0", "-0.0"),
            ("0", "0e99"),
            ("-12.50", "-1.25e1"),
        ] {
            assert_eq!(of_number(same), of_number(other), "{same} {other}");
        }
        for (one, other) in [
            ("1", "-1"),
            ("1", "10"),
            ("0.1", "1"),
            ("9007199254740993", "9007199254740992"),
            ("0.30000000000000004", "0.3"),
            (
                "100000000000000000000000000000000000001",
                "100000000000000000000000000000000000002",
            ),
        ] {
            assert_ne!(of_number(one), of_number(other), "{one} {other}");
        }
    }

    #[test]
    fn kinds_of_values_are_different() {
        let all = [
            json!(null),
            json!(false),
            json!(true),
            json!(0),
            json!(1),
            json!(""),
            json!("1"),
            json!("null"),
            json!([]),
            json!({}),
            json!([null]),
            json!([1]),
            json!({"": null}),
        ];
        for (i, one) in all.iter().enumerate() {
            for other in &all[..i] {
                assert_ne!(of(one), of(other), "{one} {other}");
            }
            let absent = fingerprint(Kind::Request, "POST", "/", None);
            assert_ne!(of(one), absent, "{one} is not the absence of a body");
        }
    }

    #[test]
    fn order_of_members_does_not_matter_that_of_elements_does() {
        let object = |members: &[(&str, &str)]| {
            let members = members.iter().map(|(k, v)| ((*k).to_owned(), Tree::from(*v))).collect();
            fingerprint(Kind::Request, "POST", "/", Some(&Tree::Object(members)))
        };
        assert_eq!(object(&[("a", "1"), ("bb", "2")]), object(&[("bb", "2"), ("a", "1")]));
        assert_ne!(object(&[("a", "1"), ("b", "2")]), object(&[("a", "2"), ("b", "1")]));
        // A name twice is not the name once.
        assert_ne!(object(&[("a", "1"), ("a", "1")]), object(&[("a", "1")]));
        assert_eq!(object(&[("a", "1"), ("a", "2")]), object(&[("a", "2"), ("a", "1")]));
        assert_ne!(of(&json!([1, 2])), of(&json!([2, 1])));
    }

    #[test]
    fn text_is_compared_in_nfc() {
        assert_eq!(of(&json!("caf\u{e9}")), of(&json!("cafe\u{301}")));
        assert_eq!(of(&json!({"\u{e9}": 1, "z": 2})), of(&json!({"z": 2, "e\u{301}": 1})));
        // A compatibility character is another character.
        assert_ne!(of(&json!("\u{fb01}")), of(&json!("fi")));
    }

    #[test]
    fn boundaries_do_not_shift() {
        let request = |method, path| fingerprint(Kind::Request, method, path, None);
        assert_ne!(request("POST", "/a"), request("POST/", "a"));
        assert_ne!(of(&json!(["ab", "c"])), of(&json!(["a", "bc"])));
        assert_ne!(of(&json!([["a"], "b"])), of(&json!([["a", "b"]])));
        assert_ne!(of(&json!({"a": {"b": 1}})), of(&json!({"a": {}, "b": 1})));
        let insert = fingerprint(Kind::Insert, "POST", "/", None);
        assert_ne!(insert, request("POST", "/"));
    }

    /// The stored ones must stay comparable: a new form needs a new number.
    #[test]
    fn the_algorithm_is_the_one_of_its_number() {
        let body = Tree::from(&json!({"name": "Ünïcode", "n": 1.5, "list": [true, null, {"x": []}]}));
        let found = fingerprint(Kind::Request, "POST", "/api/communities", Some(&body));
        assert_eq!(format!("{found:016x}"), "014fac16c9cbbe7a");
    }
}
