//! Full runs: stretches of a queue in which every slot was seen to be held by committed bookings.
//!
//! A run is a fact about the moment it was written, and it stays useful for ever because whoever gives a seat back
//! also records a hole: **a slot inside a run is either held, or has a hole**. A search may therefore jump over a run
//! and look only at the holes in it. Losing a run (rollback, crash, deletion) costs time, never correctness.

/// The fewest slots that must have been walked one by one before it pays to write a run.
pub const WORTH_WRITING: i64 = 16;

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

/// What a backend remembers of a search: a run, which it has not stored in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Slots that were seen to be held by committed bookings, without a gap.
    pub run: Run,
    /// So many of them at its end were not in a stored run.
    pub walked: i64,
}

impl Remembered {
    /// Whether a search may start from it. Where more was walked than is worth storing, that has to be looked at again and
    /// stored: other backends know nothing of it.
    pub fn is_useful(&self) -> bool {
        self.walked < WORTH_WRITING
    }
}

#[derive(Clone, Debug)]
struct Piece {
    run: Run,
    /// Seen one by one just now, not read from a stored run.
    walked: bool,
}

/// What one search has seen to be full without a gap, in order; turned into new runs when it ends.
#[derive(Default, Debug)]
pub struct Chain {
    pieces: Vec<Piece>,
    new_runs: Vec<Run>,
}

impl Chain {
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

    /// What is full up to here without a gap; `recalled` is what the search began with.
    pub fn reached(&self, recalled: Option<Remembered>) -> Option<Remembered> {
        let (last, before) = match self.pieces.as_slice() {
            [.., before, last] if last.walked => (last, Some(before)),
            [.., last] => (last, None),
            [] => return None,
        };
        // Of what was recalled, as much is not stored as was then.
        let not_stored = |piece: &Piece| match recalled {
            _ if piece.walked => piece.run.slots,
            Some(recalled) if recalled.run == piece.run => recalled.walked,
            _ => 0,
        };
        let run = before.map_or(last.run, |before| Run {
            from: before.run.from,
            to: last.run.to,
            slots: before.run.slots + last.run.slots,
        });
        let walked = not_stored(last) + before.map_or(0, not_stored);
        Some(Remembered { run, walked })
    }

    /// The next slot is free, or its holders have not committed: nothing reaches across it.
    pub fn cut(&mut self) {
        let mut group: Option<Group> = None;
        for piece in self.pieces.drain(..).rev() {
            group = Some(match group {
                None => Group::of(piece),
                Some(group) if group.swallows(&piece) => group.swallow(piece),
                Some(group) => {
                    self.new_runs.extend(group.worth_writing());
                    Group::of(piece)
                }
            });
        }
        self.new_runs.extend(group.and_then(Group::worth_writing));
    }

    /// Ends the chain and hands over the runs worth storing. Each replaces the stored runs inside it.
    pub fn take_new_runs(&mut self) -> Vec<Run> {
        self.cut();
        std::mem::take(&mut self.new_runs)
    }
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

    fn worth_writing(self) -> Option<Run> {
        (self.walked >= WORTH_WRITING || self.stored >= MANY_PIECES).then_some(self.run)
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
