//! Rows that ask for a seat and cannot have one, other than for want of a free one: why, and how many.

use std::collections::BTreeMap;

/// Why a row that asks for a seat cannot be booked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Its id is NULL.
    NoId,
    /// Its profile is NULL.
    NoProfile,
    /// It is to be given a time, which only a call or a change of the row does.
    NoTime,
    /// Its time is infinite.
    Infinite,
    /// The queue that it names does not exist.
    NoQueue {
        /// The profile that it names.
        profile_id: String,
        /// The platform, if the binding has one.
        platform: Option<String>,
    },
    /// Its content is published, or being published, at another time than the row has.
    Closed,
}

impl Why {
    /// A clause that says it.
    pub fn text(&self) -> String {
        match self {
            Self::NoId => "the id is null".to_owned(),
            Self::NoProfile => "the profile is null".to_owned(),
            Self::NoTime => "the time is null".to_owned(),
            Self::Infinite => "the time is infinite".to_owned(),
            Self::NoQueue { profile_id, platform } => match platform {
                Some(platform) => format!("queue ({profile_id}, {platform}) does not exist"),
                None => format!("profile {profile_id} has no queue"),
            },
            Self::Closed => "it is published, or being published, at another time".to_owned(),
        }
    }
}

/// So many reasons are told apart.
const REASONS: usize = 3;

/// How many rows cannot be booked, by reason, most first; none where there are none.
pub fn summary<'a>(all: impl Iterator<Item = &'a Why>) -> Option<String> {
    let mut counts: BTreeMap<&Why, usize> = BTreeMap::new();
    for why in all {
        *counts.entry(why).or_default() += 1;
    }
    let mut counts: Vec<(&Why, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let mut parts: Vec<String> = counts
        .iter()
        .take(REASONS)
        .map(|(why, count)| format!("{count} where {}", why.text()))
        .collect();
    let others: usize = counts.iter().skip(REASONS).map(|(_, count)| count).sum();
    if others > 0 {
        parts.push(format!("{others} for other reasons"));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_the_commonest_comes_first() {
        let gone = Why::NoQueue {
            profile_id: "a".to_owned(),
            platform: Some("x".to_owned()),
        };
        let all = [Why::Infinite, gone.clone(), Why::NoId, gone, Why::Closed, Why::NoTime];
        assert_eq!(
            summary(all.iter()).unwrap(),
            "2 where queue (a, x) does not exist; 1 where the id is null; 1 where the time is null; 2 for other reasons"
        );
        assert_eq!(summary([].iter()), None);
    }
}
