//! Full runs: stretches of a queue in which every slot was seen to be held by committed bookings.
//!
//! A run is a fact about the moment it was written, and it stays useful for ever because whoever gives a seat back
//! also records a hole: **a slot inside a run is either held, or has a hole**. A search may therefore jump over a run
//! and look only at the holes in it. Losing a run (rollback, crash, deletion) costs time, never correctness.

/// The fewest slots that must have been walked one by one before it pays to write a run.
pub const WORTH_WRITING: i64 = 32;

/// A new run swallows its left neighbour unless that is more than this many times its size. So a growing stretch is
/// rewritten a logarithmic number of times, and a search meets a logarithmic number of runs: no row is updated on
/// every n-th booking, which an old snapshot held open would turn into a chain of dead versions.
const SWALLOW_RATIO: i64 = 8;

/// A run as it is stored. `from` and `to` are granules; `to` is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First granule.
    pub from: i64,
    /// First granule after it.
    pub to: i64,
    /// How many slots it holds.
    pub slots: i64,
    /// The ledger's handle of the stored row.
    pub id: u64,
}

/// A run worth storing, and the stored ones that it replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRun {
    /// First granule.
    pub from: i64,
    /// First granule after it.
    pub to: i64,
    /// How many slots it holds.
    pub slots: i64,
    /// Handles of the stored runs that it contains.
    pub replaces: Vec<u64>,
}

#[derive(Clone, Debug)]
struct Piece {
    from: i64,
    to: i64,
    slots: i64,
    /// `None`: walked just now.
    id: Option<u64>,
}

/// What one search has seen to be full without a gap, in order; turned into new runs when it ends.
#[derive(Default, Debug)]
pub struct Chain {
    pieces: Vec<Piece>,
    new_runs: Vec<NewRun>,
}

impl Chain {
    /// The next slot is full, firmly.
    pub fn full(&mut self, granule: i64) {
        match self.pieces.last_mut() {
            Some(last) if last.id.is_none() => {
                last.to = granule + 1;
                last.slots += 1;
            }
            _ => self.pieces.push(Piece { from: granule, to: granule + 1, slots: 1, id: None }),
        }
    }

    /// The next slot lies in a stored run, over which the search jumps.
    pub fn jump(&mut self, run: &Run) {
        // Slots walked inside the run before it was looked up are no news.
        while self.pieces.last().is_some_and(|p| p.from >= run.from && p.to <= run.to) {
            self.pieces.pop();
        }
        self.pieces.push(Piece { from: run.from, to: run.to, slots: run.slots, id: Some(run.id) });
    }

    /// The next slot is free, or its holders have not committed: nothing reaches across it.
    pub fn cut(&mut self) {
        let mut group: Option<Group> = None;
        for piece in self.pieces.drain(..).rev() {
            group = Some(match group {
                None => Group::default().swallow(piece),
                Some(g) if g.swallows(&piece) => g.swallow(piece),
                Some(g) => {
                    self.new_runs.extend(g.into_new_run());
                    Group::default().swallow(piece)
                }
            });
        }
        self.new_runs.extend(group.and_then(Group::into_new_run));
    }

    /// Ends the chain and hands over the runs worth storing.
    pub fn take_new_runs(&mut self) -> Vec<NewRun> {
        self.cut();
        std::mem::take(&mut self.new_runs)
    }
}

#[derive(Default)]
struct Group {
    bounds: Option<(i64, i64)>,
    slots: i64,
    walked: i64,
    replaces: Vec<u64>,
}

impl Group {
    fn swallows(&self, left: &Piece) -> bool {
        left.id.is_none() || (self.walked > 0 && left.slots <= SWALLOW_RATIO * self.slots)
    }

    fn swallow(mut self, piece: Piece) -> Self {
        // Runs may overlap (two searches may write the same stretch at once), so the end is a maximum.
        let to = self.bounds.map_or(piece.to, |(_, to)| to.max(piece.to));
        self.bounds = Some((piece.from, to));
        self.slots += piece.slots;
        match piece.id {
            Some(id) => self.replaces.push(id),
            None => self.walked += piece.slots,
        }
        self
    }

    fn into_new_run(self) -> Option<NewRun> {
        let (from, to) = self.bounds?;
        let closes_a_gap = self.walked > 0 && self.replaces.len() > 1;
        (self.walked >= WORTH_WRITING || closes_a_gap).then_some(NewRun {
            from,
            to,
            slots: self.slots,
            replaces: self.replaces,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(from: i64, to: i64, id: u64) -> Run {
        Run { from, to, slots: to - from, id }
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
        let written = NewRun { from: 10, to: 10 + WORTH_WRITING, slots: WORTH_WRITING, replaces: vec![] };
        assert_eq!(chain.take_new_runs(), [written]);
        assert_eq!(chain.take_new_runs(), []);
    }

    #[test]
    fn nothing_reaches_across_a_cut() {
        let mut chain = Chain::default();
        (0..40).for_each(|g| chain.full(g));
        chain.cut();
        (41..80).for_each(|g| chain.full(g));
        let bounds: Vec<_> = chain.take_new_runs().iter().map(|r| (r.from, r.to)).collect();
        assert_eq!(bounds, [(0, 40), (41, 80)]);
    }

    #[test]
    fn a_gap_that_closed_joins_its_neighbours() {
        let mut chain = Chain::default();
        chain.jump(&run(0, 50, 1));
        chain.full(50);
        chain.jump(&run(51, 100, 2));
        let joined = NewRun { from: 0, to: 100, slots: 100, replaces: vec![2, 1] };
        assert_eq!(chain.take_new_runs(), [joined]);
    }

    #[test]
    fn slots_walked_inside_a_stored_run_are_no_news() {
        let mut chain = Chain::default();
        (5..9).for_each(|g| chain.full(g));
        chain.jump(&run(0, 100, 1));
        assert_eq!(chain.take_new_runs(), []);
    }

    /// A queue that only grows keeps few runs, and rewrites each slot few times.
    #[test]
    fn a_growing_stretch_keeps_a_logarithmic_number_of_runs() {
        let (mut stored, mut next_id, mut rewritten): (Vec<Run>, u64, i64) = (Vec::new(), 0, 0);
        let batches = 30_000;
        for batch in 0..batches {
            let mut chain = Chain::default();
            stored.iter().for_each(|r| chain.jump(r));
            let start = batch * WORTH_WRITING;
            (start..start + WORTH_WRITING).for_each(|g| chain.full(g));
            for new in chain.take_new_runs() {
                stored.retain(|r| !new.replaces.contains(&r.id));
                next_id += 1;
                rewritten += new.slots;
                stored.push(Run { from: new.from, to: new.to, slots: new.slots, id: next_id });
                stored.sort_by_key(|r| r.from);
            }
            assert!(stored.len() <= 8, "{} runs after {batch} batches", stored.len());
        }
        assert_eq!(stored.iter().map(|r| r.slots).sum::<i64>(), batches * WORTH_WRITING);
        assert!(rewritten / (batches * WORTH_WRITING) < 60, "write amplification {rewritten}");
    }
}
