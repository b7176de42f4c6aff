//! The fingerprint of a request: equal for every spelling of one request, different for everything else.

use std::collections::HashMap;

use proptest::prelude::*;
use slotkeeper_core::request::fingerprint::{Kind, fingerprint};
use slotkeeper_core::request::token::Token;
use slotkeeper_core::request::{Tree, key};

/// Small values, so that random ones are often nearly equal.
fn tree() -> impl Strategy<Value = Tree> {
    let text = prop_oneof!["[ab1]{0,3}", "(e\u{301}|\u{e9}|n|null|\\[\\])", any::<String>()];
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::Bool),
        "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?(e-?[0-9])?".prop_map(Tree::Number),
        text.clone().prop_map(Tree::Text),
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::List),
            prop::collection::vec((text.clone(), inner), 0..4).prop_map(Tree::Object),
        ]
    })
}

/// What a value means, written without care for speed: text in NFC, numbers as exact fractions, members sorted.
fn meaning(tree: &Tree) -> String {
    use unicode_normalization::UnicodeNormalization as _;
    match tree {
        Tree::Null => "null".to_owned(),
        Tree::Bool(value) => value.to_string(),
        Tree::Number(number) => format!("number {}", thousandths(number)),
        Tree::Text(text) => format!("{:?}", text.nfc().collect::<String>()),
        Tree::List(list) => format!("[{}]", list.iter().map(meaning).collect::<Vec<_>>().join(",")),
        Tree::Object(members) => {
            let mut members: Vec<_> = members
                .iter()
                .map(|(key, value)| format!("{:?}:{}", key.nfc().collect::<String>(), meaning(value)))
                .collect();
            members.sort();
            format!("{{{}}}", members.join(","))
        }
    }
}

/// The number in units of 1e-12: whole for all that [`tree`] makes.
fn thousandths(number: &str) -> i128 {
    let (mantissa, exponent) = number.split_once('e').unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().unwrap_or_default();
    let power = 12 + exponent.parse::<i32>().unwrap_or_default() - fraction.len() as i32;
    digits * 10_i128.pow(power as u32)
}

fn of(body: &Tree) -> i64 {
    fingerprint(Kind::Request, "POST", "/", Some(body))
}

/// The same value in another spelling.
fn respelled(tree: &Tree) -> Tree {
    use unicode_normalization::UnicodeNormalization as _;
    match tree {
        Tree::Number(number) => {
            let (mantissa, exponent) = number.split_once('e').unwrap_or((number, "0"));
            let more = if mantissa.contains('.') { "00" } else { ".0" };
            Tree::Number(format!("{mantissa}{more}E{exponent}"))
        }
        Tree::Text(text) => Tree::Text(text.nfd().collect()),
        Tree::List(list) => Tree::List(list.iter().map(respelled).collect()),
        Tree::Object(members) => Tree::Object(
            members
                .iter()
                .rev()
                .map(|(key, value)| (key.nfd().collect(), respelled(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn fingerprints_are_equal_exactly_where_requests_are(one in tree(), other in tree()) {
        prop_assert_eq!(of(&one) == of(&other), meaning(&one) == meaning(&other));
    }

    #[test]
    fn another_spelling_is_the_same_request(body in tree()) {
        prop_assert_eq!(of(&body), of(&respelled(&body)));
    }

    #[test]
    fn one_changed_place_is_another_request(mut list in prop::collection::vec(tree(), 1..5), place in any::<prop::sample::Index>(), other in tree()) {
        let before = Tree::List(list.clone());
        let place = place.index(list.len());
        let same = meaning(&list[place]) == meaning(&other);
        list[place] = other;
        prop_assert_eq!(of(&before) == of(&Tree::List(list)), same);
    }

    #[test]
    fn boundaries_between_method_path_and_body_do_not_shift(text in "[ab/]{0,6}", one in 0_usize..7, other in 0_usize..7) {
        let split = |at: usize| {
            let (method, path) = text.split_at(at.min(text.len()));
            fingerprint(Kind::Request, method, path, None)
        };
        prop_assert_eq!(split(one) == split(other), one.min(text.len()) == other.min(text.len()));
    }

    #[test]
    fn names_of_keys_are_of_one_user_and_one_key(user in prop::option::of("[ab]{0,3}"), key in "[ab]{0,3}", user2 in prop::option::of("[ab]{0,3}"), key2 in "[ab]{0,3}") {
        let equal = (&user, &key) == (&user2, &key2);
        let (name, other) = (key::name(user.as_deref(), &key), key::name(user2.as_deref(), &key2));
        prop_assert_eq!(name == other, equal);
        let (first, last) = key::range(user.as_deref());
        prop_assert!(first <= name && name <= last);
    }

    #[test]
    fn any_text_is_a_token_or_none(text in any::<String>(), hex in "[0-9a-f]{64}") {
        if let Some(token) = Token::parse(&text) {
            prop_assert_eq!(token.to_text(), text);
        }
        prop_assert_eq!(Token::parse(&hex).map(|token| token.to_text()), Some(hex));
    }

    #[test]
    fn any_number_is_answered(spelling in any::<String>(), digits in "[0-9.eE+-]{0,12}") {
        let _ = of(&Tree::Number(spelling));
        let _ = of(&Tree::Number(digits));
    }
}

/// Among all small values there are no two with one fingerprint.
#[test]
fn no_two_small_values_are_confused() {
    let mut level: Vec<Tree> = [Tree::Null, Tree::Bool(false), Tree::Bool(true)].to_vec();
    level.extend(["0", "1", "-1", "10", "0.1"].map(|n| Tree::Number(n.to_owned())));
    level.extend(["", "0", "1", "a", "null", "{}"].map(Tree::from));
    let mut all = level.clone();
    for _ in 0..2 {
        let small: Vec<Tree> = all.iter().take(60).cloned().collect();
        let mut next = vec![Tree::List(vec![]), Tree::Object(vec![])];
        for one in &small {
            next.push(Tree::List(vec![one.clone()]));
            next.push(Tree::Object(vec![("a".to_owned(), one.clone())]));
            next.push(Tree::Object(vec![("".to_owned(), one.clone())]));
            for other in &small {
                next.push(Tree::List(vec![one.clone(), other.clone()]));
                next.push(Tree::Object(vec![
                    ("a".to_owned(), one.clone()),
                    ("b".to_owned(), other.clone()),
                ]));
            }
        }
        all = next.into_iter().chain(level.clone()).collect();
    }
    let mut seen: HashMap<i64, String> = HashMap::new();
    for value in &all {
        let meaning = meaning(value);
        if let Some(known) = seen.insert(of(value), meaning.clone()) {
            assert_eq!(known, meaning, "two values have one fingerprint");
        }
    }
}
