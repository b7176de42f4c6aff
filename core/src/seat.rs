//! Which seat of a slot may be taken.
//!
//! Seats are numbered from 0, and a unique constraint on (queue, slot, seat) is the proof that one seat has
//! one holder. A constraint on a number cannot see how many other seats are held, so the choice of the number
//! has to keep the count right: a caller may only take a seat below the *limit*
//!
//! > the largest L with L + (number of seats held at or above L) ≤ capacity.
//!
//! Seats below L are at most L, the others are held already: whatever the callers that decide at once on the
//! same sight take below L, the holders never exceed the capacity. Without lowered capacities no seat at or
//! above the capacity is held and L is the capacity itself. After a capacity was lowered from 4 to 2 with
//! seats 2 and 3 held, L is 0; with only seat 3 held it is 1, so that two callers at once both reach for seat
//! 0 and the constraint lets one pass, where "seats below the capacity" would have let both.

/// The lowest seat that may be taken, if the slot has one. `taken` are the seat numbers held, ascending.
pub fn free_seat(capacity: u16, taken: &[i16]) -> Option<i16> {
    free_seats(capacity, taken).next()
}

/// All seats that may be taken, ascending. `taken` are the seat numbers held, ascending.
pub fn free_seats(capacity: u16, taken: &[i16]) -> impl Iterator<Item = i16> {
    let mut held = taken.iter().copied().skip_while(|&seat| seat < 0).peekable();
    (0..limit(capacity, taken)).filter(move |&seat| {
        while held.next_if(|&h| h < seat).is_some() {}
        held.peek() != Some(&seat)
    })
}

/// The limit of the module's comment; 0 where no seat may be taken.
fn limit(capacity: u16, taken: &[i16]) -> i16 {
    let capacity = i16::try_from(capacity).unwrap_or(i16::MAX);
    let allowed = usize::from(capacity.unsigned_abs());
    let held_from = |seat: i16| taken.len() - taken.partition_point(|&t| t < seat);
    // Ends at once unless a seat at or above the capacity is held.
    (0..=capacity)
        .rev()
        .find(|&l| usize::from(l.unsigned_abs()) + held_from(l) <= allowed)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untouched_slot_gives_its_lowest_seat() {
        assert_eq!(free_seat(1, &[]), Some(0));
        assert_eq!(free_seat(1, &[0]), None);
        assert_eq!(free_seats(4, &[0, 2]).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn a_lowered_capacity_counts_the_seats_above_it() {
        assert_eq!(free_seat(2, &[2, 3]), None);
        assert_eq!(free_seats(2, &[3]).collect::<Vec<_>>(), [0]);
        assert_eq!(free_seats(3, &[0, 5]).collect::<Vec<_>>(), [1]);
        assert_eq!(free_seat(1, &[0, 1, 2]), None);
    }

    #[test]
    fn no_capacity_has_no_seat_and_a_huge_one_ends_at_the_largest_number() {
        assert_eq!(free_seat(0, &[]), None);
        assert_eq!(free_seats(u16::MAX, &[]).last(), Some(i16::MAX - 1));
    }
}
