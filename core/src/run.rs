//! Full runs: stretches of a queue in which every slot was seen to be held by committed bookings.
//!
//! A run is a fact about the moment it was written, and it stays useful for ever because whoever gives a seat back
//! also records a hole: **a slot inside a run is either held, or has a hole**. A search may therefore jump over a run
//! and look only at the holes in it. Losing a run (rollback, crash, deletion) costs time, never correctness.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The fewest slots that must have been walked one by one before it pays to write a run.
pub const WORTH_WRITING: i64 = 16;

/// The same where the last bookings say how far the queue is full: a run is for the day on which they don't.
pub const WORTH_WRITING_LATER: i64 = 64;

/// So many runs in a row are made one, also where nothing new was walked.
const MANY_PIECES: u32 = 4;

/// A new run swallows its left neighbour unless that is more than this many times its size. So a growing stretch is
/// rewritten a logarithmic number of times, and a search meets a logarithmic number of runs: no row is updated on
/// every n-th booking, which an old snapshot held open would turn into a chain of dead versions.
pub const SWALLOW_RATIO: i64 = 32;

/// A run as it is stored. `from` and `to` are granules; `to` is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First granule.
    pub from: i64,
    /// First granule after it.
    pub to: i64,
    /// How many slots it holds.
    pub slots: i64,
}

/// How far a queue was full when a seat was booked, as the booking itself says. It is as true as a run from the moment at which
/// the booking is committed, with what its own transaction had booked before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Slots that were seen to be held for good, without a gap.
    pub run: Run,
    /// Up to this granule they are in stored runs.
    pub stored_to: i64,
    /// So many behind it are in none.
    pub walked: i64,
}

#[derive(Clone, Debug)]
struct Piece {
    run: Run,
    /// Seen one by one just now, not read from a stored run.
    walked: bool,
}

/// What one search has seen to be full without a gap, in order; turned into new runs when it ends.
#[derive(Debug)]
pub struct Chain {
    pieces: Vec<Piece>,
    new_runs: Vec<Run>,
    /// What there was without a gap from where the search began, once there is a gap.
    first: Option<Option<Reach>>,
    worth_writing: i64,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            pieces: Vec::new(),
            new_runs: Vec::new(),
            first: None,
            worth_writing: WORTH_WRITING,
        }
    }
}

impl Chain {
    /// The search begins with what a booking says, over which it jumps.
    pub fn begin(&mut self, reach: Reach) {
        let Reach { run, stored_to, walked } = reach;
        self.worth_writing = WORTH_WRITING_LATER;
        let (before, after) = (
            Run {
                to: stored_to,
                slots: run.slots - walked,
                ..run
            },
            Run {
                from: stored_to,
                slots: walked,
                ..run
            },
        );
        let pieces = [(before, false), (after, true)];
        let pieces = pieces.into_iter().filter(|(run, _)| run.from < run.to);
        self.pieces.extend(pieces.map(|(run, walked)| Piece { run, walked }));
    }

    /// The next slot is full, firmly.
    pub fn full(&mut self, granule: i64) {
        match self.pieces.last_mut() {
            Some(Piece { run, walked: true }) => {
                run.to = granule + 1;
                run.slots += 1;
            }
            _ => self.pieces.push(Piece {
                run: Run {
                    from: granule,
                    to: granule + 1,
                    slots: 1,
                },
                walked: true,
            }),
        }
    }

    /// The next slot lies in a stored run, over which the search jumps.
    pub fn jump(&mut self, run: Run) {
        // Slots walked inside the run before it was looked up are no news.
        while self
            .pieces
            .last()
            .is_some_and(|p| p.run.from >= run.from && p.run.to <= run.to)
        {
            self.pieces.pop();
        }
        self.pieces.push(Piece { run, walked: false });
    }

    /// What is full without a gap from where the search began.
    pub fn reached(&self) -> Option<Reach> {
        self.first.unwrap_or_else(|| self.without_gap())
    }

    fn without_gap(&self) -> Option<Reach> {
        let (first, last) = (self.pieces.first()?, self.pieces.last()?);
        let run = Run {
            from: first.run.from,
            to: last.run.to,
            slots: self.pieces.iter().map(|piece| piece.run.slots).sum(),
        };
        // What is worth it will be stored when the search ends.
        let is_left = last.walked && last.run.slots < self.worth_writing;
        let (stored_to, walked) = if is_left {
            (last.run.from, last.run.slots)
        } else {
            (run.to, 0)
        };
        Some(Reach { run, stored_to, walked })
    }

    /// The next slot is free, or its holders have not committed: nothing reaches across it.
    pub fn cut(&mut self) {
        self.first = Some(self.reached());
        let (worth_writing, mut group) = (self.worth_writing, None::<Group>);
        for piece in self.pieces.drain(..).rev() {
            group = Some(match group {
                None => Group::of(piece),
                Some(group) if group.swallows(&piece) => group.swallow(piece),
                Some(group) => {
                    self.new_runs.extend(group.if_worth_writing(worth_writing));
                    Group::of(piece)
                }
            });
        }
        self.new_runs
            .extend(group.and_then(|group| group.if_worth_writing(worth_writing)));
    }

    /// Ends the chain and hands over the runs worth storing. Each replaces the stored runs inside it.
    pub fn take_new_runs(&mut self) -> Vec<Run> {
        self.cut();
        std::mem::take(&mut self.new_runs)
    }
}

/// The largest of these runs, as far as they don't overlap. Searches over one stretch have found out much the same: what is lost
/// is walked once more by whoever needs it.
pub fn apart(mut runs: Vec<Run>) -> Vec<Run> {
    runs.sort_by_key(|run| Reverse(run.slots));
    let mut kept: BTreeMap<i64, Run> = BTreeMap::new();
    for run in runs {
        let before = kept.range(..run.to).next_back();
        if before.is_none_or(|(_, before)| before.to <= run.from) {
            kept.insert(run.from, run);
        }
    }
    kept.into_values().collect()
}

struct Group {
    run: Run,
    walked: i64,
    stored: u32,
}

impl Group {
    fn of(Piece { run, walked }: Piece) -> Self {
        Self {
            run,
            walked: if walked { run.slots } else { 0 },
            stored: u32::from(!walked),
        }
    }

    fn swallows(&self, left: &Piece) -> bool {
        left.walked || left.run.slots <= SWALLOW_RATIO * self.run.slots
    }

    fn swallow(self, left: Piece) -> Self {
        let left = Self::of(left);
        let run = Run {
            from: left.run.from,
            // Runs may overlap (two searches may write the same stretch at once), so the end is a maximum.
            to: self.run.to.max(left.run.to),
            slots: self.run.slots + left.run.slots,
        };
        Self {
            run,
            walked: self.walked + left.walked,
            stored: self.stored + left.stored,
        }
    }

    fn if_worth_writing(self, worth_writing: i64) -> Option<Run> {
        (self.walked >= worth_writing || self.stored >= MANY_PIECES).then_some(self.run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(from: i64, to: i64) -> Run {
        Run {
            from,
            to,
            slots: to - from,
        }
    }

    #[test]
    fn a_short_walk_is_not_written() {
        let mut chain = Chain::default();
        (0..WORTH_WRITING - 1).for_each(|g| chain.full(g));
        assert_eq!(chain.take_new_runs(), []);
    }

    #[test]
    fn a_long_walk_is_written_once() {
        let mut chain = Chain::default();
        (10..10 + WORTH_WRITING).for_each(|g| chain.full(g));
        assert_eq!(chain.take_new_runs(), [run(10, 10 + WORTH_WRITING)]);
        assert_eq!(chain.take_new_runs(), []);
    }

    #[test]
    fn nothing_reaches_across_a_cut() {
        let mut chain = Chain::default();
        (0..40).for_each(|g| chain.full(g));
        chain.cut();
        (41..80).for_each(|g| chain.full(g));
        assert_eq!(chain.take_new_runs(), [run(0, 40), run(41, 80)]);
    }

    /// Bookings of a growing queue, each of which begins with what the last one said.
    #[test]
    fn what_bookings_say_reaches_on_and_is_stored_now_and_then() {
        let (mut said, mut stored): (Option<Reach>, Vec<Run>) = (None, Vec::new());
        for granule in 0..1_000 {
            let mut chain = Chain::default();
            if let Some(reach) = said {
                chain.begin(reach);
                chain.full(granule - 1);
            }
            let reached = chain.reached();
            let covered = reached.map_or(0, |reach| reach.run.to);
            assert_eq!(covered, granule);
            assert!(reached.is_none_or(|reach| reach.walked < WORTH_WRITING_LATER));
            stored.extend(chain.take_new_runs());
            let nothing = Reach {
                run: run(0, 0),
                stored_to: 0,
                walked: 0,
            };
            said = reached.or(Some(nothing));
        }
        assert_eq!(stored.len() as i64, 999 / WORTH_WRITING_LATER);
        assert_eq!(stored.last().map(|run| run.to), said.map(|reach| reach.stored_to));
    }

    #[test]
    fn a_booking_says_nothing_of_what_lies_behind_a_gap() {
        let mut chain = Chain::default();
        (0..3).for_each(|g| chain.full(g));
        chain.cut();
        (4..9).for_each(|g| chain.full(g));
        assert_eq!(chain.reached().map(|reach| reach.run), Some(run(0, 3)));
    }

    #[test]
    fn gaps_that_closed_join_their_neighbours() {
        let mut chain = Chain::default();
        for from in [0, 21, 42, 63] {
            chain.jump(run(from, from + 20));
            chain.full(from + 20);
        }
        assert_eq!(chain.take_new_runs(), [run(0, 84)]);
    }

    #[test]
    fn slots_walked_inside_a_stored_run_are_no_news() {
        let mut chain = Chain::default();
        (5..9).for_each(|g| chain.full(g));
        chain.jump(run(0, 100));
        assert_eq!(chain.take_new_runs(), []);
    }

    #[test]
    fn of_runs_that_overlap_the_largest_stays() {
        let runs = vec![
            run(5, 30),
            run(0, 40),
            run(40, 50),
            run(39, 48),
            run(60, 61),
            run(55, 70),
        ];
        assert_eq!(apart(runs), [run(0, 40), run(40, 50), run(55, 70)]);
        assert_eq!(apart(Vec::new()), []);
    }

    /// A queue that only grows keeps few runs, and rewrites each slot few times.
    #[test]
    fn a_growing_stretch_keeps_a_logarithmic_number_of_runs() {
        let (mut stored, mut rewritten): (Vec<Run>, i64) = (Vec::new(), 0);
        let batches = 60_000;
        for batch in 0..batches {
            let mut chain = Chain::default();
            stored.iter().for_each(|&r| chain.jump(r));
            let start = batch * WORTH_WRITING;
            (start..start + WORTH_WRITING).for_each(|g| chain.full(g));
            for new in chain.take_new_runs() {
                stored.retain(|r| r.from < new.from || r.to > new.to);
                rewritten += new.slots;
                stored.push(new);
                stored.sort_by_key(|r| r.from);
            }
            assert!(stored.len() <= 8, "{} runs after {batch} batches", stored.len());
        }
        assert_eq!(stored.iter().map(|r| r.slots).sum::<i64>(), batches * WORTH_WRITING);
        assert!(
            rewritten / (batches * WORTH_WRITING) < 120,
            "write amplification {rewritten}"
        );
    }
}
