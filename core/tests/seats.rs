//! Free seats against the sentence that defines them, for every small slot.

use std::collections::BTreeSet;

use slotkeeper_core::seat::{free_seat, free_seats};

/// Every set of seats below `count`.
fn subsets(count: u32) -> impl Iterator<Item = Vec<i16>> {
    (0_u32..1 << count).map(move |bits| {
        (0..count)
            .filter(|seat| bits >> seat & 1 == 1)
            .map(|seat| seat as i16)
            .collect()
    })
}

#[test]
fn the_free_seats_are_those_below_the_largest_limit_that_the_capacity_allows() {
    for capacity in 0..=9_u16 {
        for taken in subsets(10) {
            let held_from = |limit: usize| taken.iter().filter(|&&seat| seat as usize >= limit).count();
            let limit = (0..=usize::from(capacity))
                .filter(|&limit| limit + held_from(limit) <= usize::from(capacity))
                .max();
            let expected: Vec<i16> = (0..limit.unwrap_or(0) as i16)
                .filter(|seat| !taken.contains(seat))
                .collect();
            assert_eq!(
                free_seats(capacity, &taken).collect::<Vec<_>>(),
                expected,
                "{capacity} {taken:?}"
            );
            assert_eq!(free_seat(capacity, &taken), expected.first().copied());
        }
    }
}

#[test]
fn callers_that_decide_on_one_sight_never_overfill_a_slot() {
    for capacity in 0..=6_u16 {
        for taken in subsets(8) {
            // The worst that the unique constraint lets pass: every allowed seat goes to somebody.
            let held: BTreeSet<i16> = taken.iter().copied().chain(free_seats(capacity, &taken)).collect();
            assert!(
                held.len() <= taken.len().max(usize::from(capacity)),
                "{capacity} {taken:?}"
            );
        }
    }
}

#[test]
fn a_slot_below_its_capacity_has_a_free_seat() {
    for capacity in 0..=6_u16 {
        for taken in subsets(8) {
            assert_eq!(
                free_seat(capacity, &taken).is_some(),
                taken.len() < usize::from(capacity),
                "{capacity} {taken:?}"
            );
        }
    }
}
