//! Slugs against what must be so of all of them, and the search for a free number against a set of taken ones.

use proptest::prelude::*;
use slotkeeper_core::slug::{Rules, first_free, slugify};
use std::collections::BTreeSet;
use std::convert::Infallible;

fn search(from: u64, likely: Option<u64>, taken: &BTreeSet<u64>) -> (u64, usize) {
    let mut asked = 0;
    let found = first_free(from, likely, |number| {
        asked += 1;
        Ok::<_, Infallible>(taken.contains(&number))
    });
    match found {
        Ok(number) => (number, asked),
    }
}

proptest! {
    #[test]
    fn a_slug_is_words_of_lower_case_letters_and_digits(text in "\\PC*", max in 0_usize..40) {
        let slug = slugify(&text, max);
        prop_assert!(slug.len() <= max);
        prop_assert!(slug.is_empty() || slug.split('-').all(|word| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        }), "{slug:?}");
        prop_assert_eq!(&slugify(&slug, max), &slug);
    }

    #[test]
    fn names_of_a_series_are_distinct_short_and_know_their_number(
        text in "[a-z0-9 ]{0,12}", max in 1_usize..16, a in 0_u64..20_000, b in 0_u64..20_000,
    ) {
        let series = Rules::new(max).series(&text);
        for number in [a, b] {
            if let Some(name) = series.name(number) {
                prop_assert!(name.len() <= max && !name.is_empty());
                prop_assert_eq!(slugify(&name, max), name.clone());
                // Only where a base such as "a-1" is itself cut may one name be two numbers' of it; it is 0 then.
                let known = series.number_of(&name);
                prop_assert!(known == Some(number) || known == Some(0), "{name} {known:?}");
            }
        }
        if let (Some(x), Some(y)) = (series.name(a), series.name(b)) {
            prop_assert!(a == b || x != y || a == 0 || b == 0, "{x} is both {a} and {b}");
        }
    }

    #[test]
    fn what_is_found_is_free_and_follows_a_taken_one(
        taken in prop::collection::btree_set(0_u64..200, 0..150), from in 0_u64..150, likely in prop::option::of(0_u64..300),
    ) {
        let (found, asked) = search(from, likely, &taken);
        prop_assert!(!taken.contains(&found));
        prop_assert!(found == from || (found > from && taken.contains(&(found - 1))));
        prop_assert!(asked < 30, "{asked}");
    }

    #[test]
    fn where_all_are_taken_the_next_is_found_in_few_steps(count in 0_u64..1_000_000, off in -3_i64..4) {
        let taken = |number: u64| Ok::<_, Infallible>(number < count);
        prop_assert_eq!(first_free(0, None, taken), Ok(count));
        let mut asked = 0;
        let likely = count.checked_add_signed(off - 1);
        let found = first_free(0, likely, |number| { asked += 1; taken(number) });
        prop_assert_eq!(found, Ok(count));
        if off <= 0 && count > 20 {
            prop_assert!(asked <= 12, "{asked}");
        }
        prop_assert!(asked < 50, "{asked}");
    }
}

#[test]
fn the_end_of_all_numbers_is_no_panic() {
    assert_eq!(
        first_free(u64::MAX - 3, None, |_| Ok::<_, Infallible>(true)),
        Ok(u64::MAX)
    );
    assert_eq!(
        first_free(0, Some(u64::MAX), |_| Ok::<_, Infallible>(true)),
        Ok(u64::MAX)
    );
}
