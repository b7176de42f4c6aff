//! The search finds the earliest free seat, whatever was booked, given back, rolled back or left open before, and its
//! cost does not grow with the bookings ahead. Checked against a model that looks at every slot in turn.

#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

use proptest::prelude::*;
use slotkeeper_core::run::{Reach, Run};
use slotkeeper_core::search::{EveryGranule, Grid, Held, Hole, LastBookings, Ledger, Search};
use slotkeeper_core::slots::{Slot, Slots};
use slotkeeper_core::timetable::Timetable;
use slotkeeper_core::zone::FixedZone;
use slotkeeper_core::{Instant, MICROS_PER_SEC};
use std::collections::{BTreeMap, BTreeSet};

const MINUTE: i64 = 60;
const UNTIL: Instant = 1_500 * MINUTE * MICROS_PER_SEC;

/// What holds a seat, and who may yet change his mind.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seat {
    Committed,
    /// An open transaction has inserted it.
    Booking,
    /// An open transaction has given it back.
    Leaving,
}

/// The tables, as one search after the other sees them.
#[derive(Default, Debug)]
struct Tables {
    seats: BTreeMap<(i64, i16), Seat>,
    holes: BTreeMap<u64, i64>,
    runs: Vec<Run>,
    next_hole: u64,
    /// Holes of open transactions: nobody sees them yet.
    hidden: BTreeSet<u64>,
    reads: usize,
    /// What bookings say of those before them.
    said: BTreeMap<(i64, i16), Reach>,
}

impl Tables {
    fn say(&mut self, place: (i64, i16), reach: Option<Reach>) {
        match reach {
            Some(reach) => self.said.insert(place, reach),
            None => self.said.remove(&place),
        };
    }

    fn leave_hole(&mut self, granule: i64, hidden: bool) {
        self.next_hole += 1;
        self.holes.insert(self.next_hole, granule);
        if hidden {
            self.hidden.insert(self.next_hole);
        }
    }
}

impl Ledger for Tables {
    type Error = ();

    fn held_in(&mut self, granule: i64, held: &mut Vec<Held>) -> Result<(), ()> {
        self.reads += 1;
        let seats = self.seats.range((granule, i16::MIN)..=(granule, i16::MAX));
        held.extend(seats.map(|(&(_, seat), &state)| Held {
            seat,
            firm: state == Seat::Committed,
        }));
        Ok(())
    }

    fn look_afresh(&mut self, granule: i64, held: &mut Vec<Held>) -> Result<(), ()> {
        self.held_in(granule, held)
    }

    fn first_hole(&mut self, from: i64, to: i64) -> Result<Option<Hole>, ()> {
        self.reads += 1;
        let visible = self
            .holes
            .iter()
            .filter(|(id, granule)| !self.hidden.contains(id) && (from..to).contains(*granule));
        let Some(granule) = visible.clone().map(|(_, &granule)| granule).min() else {
            return Ok(None);
        };
        Ok(Some(Hole {
            granule,
            ids: visible.filter(|(_, g)| **g == granule).map(|(&id, _)| id).collect(),
        }))
    }

    fn run_covering(&mut self, granule: i64) -> Result<Option<Run>, ()> {
        self.reads += 1;
        Ok(self
            .runs
            .iter()
            .filter(|r| (r.from..r.to).contains(&granule))
            .max_by_key(|r| r.to)
            .copied())
    }

    fn run_after(&mut self, granule: i64) -> Result<Option<Run>, ()> {
        self.reads += 1;
        Ok(self
            .runs
            .iter()
            .filter(|r| r.from >= granule)
            .min_by_key(|r| (r.from, -r.to))
            .copied())
    }

    fn last_bookings(&mut self, start: i64) -> Result<LastBookings, ()> {
        self.reads += 1;
        let mut strangers = 0;
        for (seat, &state) in self.seats.range((start, i16::MIN)..).rev() {
            if state == Seat::Booking {
                continue; // what it says may be rolled back
            }
            match self.said.get(seat) {
                Some(reach) if (reach.run.from..reach.run.to).contains(&start) => {
                    return Ok(LastBookings::FullTo(*reach));
                }
                _ => strangers += 1,
            }
            if strangers > 3 {
                return Ok(LastBookings::Nothing);
            }
        }
        Ok(LastBookings::All)
    }
}

/// A slot with so many seats every minute, or for 0 a few different ones a day.
fn timetable(dense: u16) -> Timetable {
    let json = match dense {
        0 => serde_json::json!({
            "daily": ["00:00", { "time": "00:07", "capacity": 3 }, "05:30", { "time": "12:00", "capacity": 2 }]
        }),
        capacity => serde_json::json!({ "every": "1 minute", "capacity": capacity }),
    };
    Timetable::parse(&json, MINUTE).expect("a valid timetable")
}

fn slots(timetable: &Timetable) -> Slots<'_, FixedZone> {
    Slots::new(timetable, FixedZone(0), MINUTE)
}

/// Every place between `from` and the horizon.
fn places(timetable: &Timetable, every_granule: bool, from: Instant) -> Vec<Slot> {
    let mut grid = grid(timetable, every_granule);
    grid.seek(from);
    std::iter::from_fn(|| grid.next())
        .take_while(|slot| slot.at <= UNTIL)
        .collect()
}

fn grid(timetable: &Timetable, every_granule: bool) -> Box<dyn Grid + '_> {
    if every_granule {
        Box::new(EveryGranule::new(slots(timetable), MINUTE))
    } else {
        Box::new(slots(timetable))
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Books the next seat at or after this minute; the transaction commits, stays open or rolls back.
    Assign { from: i64, fate: Fate },
    /// One search takes so many seats, one after the other.
    Batch { seats: usize },
    /// Books at a chosen minute, if a seat is free there.
    Schedule { at: i64, fate: Fate },
    /// Gives back the n-th seat held.
    Release { nth: usize, fate: Fate },
    /// The n-th seat of an open transaction: it commits or rolls back.
    End { nth: usize, commit: bool },
    /// What the next search finds out is lost (its transaction rolls back).
    Forget,
    /// A stored run is lost.
    LoseRun { nth: usize },
    /// Somebody has written to the n-th booking, which says nothing any more.
    LoseWord { nth: usize },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Commits,
    StaysOpen,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![5 => Just(Fate::Commits), 1 => Just(Fate::StaysOpen)]
}

fn step() -> impl Strategy<Value = Step> {
    let from = prop_oneof![6 => Just(0i64), 2 => 0i64..1_200];
    prop_oneof![
        12 => (from, fate()).prop_map(|(from, fate)| Step::Assign { from, fate }),
        2 => (1usize..30).prop_map(|seats| Step::Batch { seats }),
        2 => (0i64..1_200, fate()).prop_map(|(at, fate)| Step::Schedule { at, fate }),
        3 => (any::<usize>(), fate()).prop_map(|(nth, fate)| Step::Release { nth, fate }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(nth, commit)| Step::End { nth, commit }),
        1 => Just(Step::Forget),
        1 => any::<usize>().prop_map(|nth| Step::LoseRun { nth }),
        1 => any::<usize>().prop_map(|nth| Step::LoseWord { nth }),
    ]
}

/// The queue under test and its tables.
struct World {
    timetable: Timetable,
    every_granule: bool,
    tables: Tables,
    forget: bool,
}

impl World {
    fn new(dense: u16, every_granule: bool) -> Self {
        Self {
            timetable: timetable(dense),
            every_granule,
            tables: Tables::default(),
            forget: false,
        }
    }

    /// The slow obvious answer: the first place with fewer seats held than it has.
    fn model(&self, from: Instant) -> Option<Slot> {
        let held = |slot: &Slot| {
            self.tables
                .seats
                .range((slot.granule, i16::MIN)..=(slot.granule, i16::MAX))
                .count()
        };
        places(&self.timetable, self.every_granule, from)
            .into_iter()
            .find(|s| held(s) < usize::from(s.capacity))
    }

    fn keep_findings(&mut self, (new_runs, stale): (Vec<Run>, Vec<u64>)) {
        for run in new_runs {
            self.tables.runs.retain(|r| r.from < run.from || r.to > run.to);
            self.tables.runs.push(run);
        }
        for id in &stale {
            self.tables.holes.remove(id);
        }
    }

    fn batch(&mut self, seats: usize) -> Result<(), TestCaseError> {
        let timetable = self.timetable.clone();
        let mut search = Search::new(grid(&timetable, self.every_granule), MINUTE, 0, UNTIL);
        let mut left = seats;
        while left > 0 {
            let expected = self.model(0);
            let found = search.next(&mut self.tables).expect("the model's tables never fail");
            prop_assert_eq!(found.as_ref().map(|c| &c.slot), expected.as_ref());
            let Some(candidate) = found else { break };
            let used = candidate.seats.len().min(left);
            for &seat in &candidate.seats[..used] {
                let place = (candidate.slot.granule, seat);
                self.tables.seats.insert(place, Seat::Committed);
                self.tables.say(place, search.reached());
            }
            search.took(used);
            left -= used;
        }
        self.keep_findings(search.findings());
        Ok(())
    }

    fn assign(&mut self, minute: i64, fate: Fate) -> (Option<Slot>, Option<Slot>) {
        let from = minute * MINUTE * MICROS_PER_SEC;
        let expected = self.model(from);
        let timetable = self.timetable.clone();
        let mut search = Search::new(grid(&timetable, self.every_granule), MINUTE, from, UNTIL);
        let found = search.next(&mut self.tables).expect("the model's tables never fail");
        if let Some(candidate) = &found {
            let state = if fate == Fate::Commits {
                Seat::Committed
            } else {
                Seat::Booking
            };
            let place = (candidate.slot.granule, candidate.seats[0]);
            self.tables.seats.insert(place, state);
            self.tables.say(place, search.reached());
            search.took(1);
        }
        let (new_runs, stale) = search.findings();
        // Only what commits leaves its findings; an open transaction's are not visible.
        if fate == Fate::Commits && !std::mem::take(&mut self.forget) {
            self.keep_findings((new_runs, stale));
        }
        (found.map(|c| c.slot), expected)
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Assign { from, fate } => {
                let (found, expected) = self.assign(from, fate);
                prop_assert_eq!(found, expected);
            }
            Step::Batch { seats } => self.batch(seats)?,
            Step::Schedule { at, fate } => {
                let slot = slots(&self.timetable).slot_in_granule(at);
                let capacity = slot.map_or(1, |s| s.capacity);
                let taken: Vec<i16> = self
                    .tables
                    .seats
                    .range((at, 0)..=(at, i16::MAX))
                    .map(|(&(_, s), _)| s)
                    .collect();
                if let Some(seat) = slotkeeper_core::seat::free_seat(capacity, &taken) {
                    let state = if fate == Fate::Commits {
                        Seat::Committed
                    } else {
                        Seat::Booking
                    };
                    self.tables.seats.insert((at, seat), state);
                    self.tables.say((at, seat), None);
                }
            }
            Step::Release { nth, fate } => {
                let committed: Vec<_> = self
                    .tables
                    .seats
                    .iter()
                    .filter(|(_, s)| **s == Seat::Committed)
                    .map(|(&key, _)| key)
                    .collect();
                if committed.is_empty() {
                    return Ok(());
                }
                let key = committed[nth % committed.len()];
                match fate {
                    Fate::Commits => drop(self.tables.seats.remove(&key)),
                    Fate::StaysOpen => drop(self.tables.seats.insert(key, Seat::Leaving)),
                }
                // The other grid's searches see holes on slots; ours see both kinds or those on slots.
                if self.every_granule || slots(&self.timetable).slot_in_granule(key.0).is_some() {
                    self.tables.leave_hole(key.0, fate == Fate::StaysOpen);
                }
            }
            Step::End { nth, commit } => {
                let open: Vec<_> = self
                    .tables
                    .seats
                    .iter()
                    .filter(|(_, s)| **s != Seat::Committed)
                    .map(|(&k, &s)| (k, s))
                    .collect();
                if open.is_empty() {
                    return Ok(());
                }
                let (key, state) = open[nth % open.len()];
                if (state == Seat::Booking) == commit {
                    self.tables.seats.insert(key, Seat::Committed);
                } else {
                    self.tables.seats.remove(&key);
                }
                if state == Seat::Leaving {
                    let hole = self
                        .tables
                        .hidden
                        .iter()
                        .find(|id| self.tables.holes[id] == key.0)
                        .copied();
                    if let Some(id) = hole {
                        self.tables.hidden.remove(&id);
                        if !commit {
                            self.tables.holes.remove(&id);
                        }
                    }
                }
            }
            Step::Forget => self.forget = true,
            Step::LoseWord { nth } => {
                let said: Vec<_> = self.tables.said.keys().copied().collect();
                if !said.is_empty() {
                    self.tables.said.remove(&said[nth % said.len()]);
                }
            }
            Step::LoseRun { nth } => {
                if !self.tables.runs.is_empty() {
                    let nth = nth % self.tables.runs.len();
                    self.tables.runs.remove(nth);
                }
            }
        }
        Ok(())
    }

    /// The invariant that everything rests on: a place inside a run, or what a booking says is one, is held, or has a hole.
    fn check_runs(&self) -> Result<(), TestCaseError> {
        let committed = |place: &&(i64, i16)| self.tables.seats.get(*place).is_some_and(|s| *s != Seat::Booking);
        let said = self
            .tables
            .said
            .keys()
            .filter(committed)
            .map(|place| self.tables.said[place].run);
        let runs: Vec<Run> = self.tables.runs.iter().copied().chain(said).collect();
        for slot in places(&self.timetable, self.every_granule, 0) {
            let covered = runs.iter().any(|r| (r.from..r.to).contains(&slot.granule));
            let held = self
                .tables
                .seats
                .range((slot.granule, 0)..=(slot.granule, i16::MAX))
                .count();
            let hole = self.tables.holes.values().any(|&granule| granule == slot.granule);
            prop_assert!(
                !covered || held >= usize::from(slot.capacity) || hole,
                "granule {} is lost",
                slot.granule
            );
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_earliest_free_seat_is_found_whatever_came_before(
        steps in prop::collection::vec(step(), 1..400),
        dense in 0u16..4,
        every_granule in any::<bool>(),
    ) {
        let mut world = World::new(dense, every_granule);
        for step in &steps {
            world.step(step)?;
        }
        world.check_runs()?;
    }
}

#[test]
fn the_cost_of_a_search_does_not_grow_with_the_bookings_ahead() {
    let mut world = World::new(1, false);
    let mut reads = Vec::new();
    for _ in 0..1_480 {
        let before = world.tables.reads;
        let timetable = world.timetable.clone();
        let mut search = Search::new(grid(&timetable, false), MINUTE, 0, UNTIL);
        let candidate = search
            .next(&mut world.tables)
            .expect("no failure")
            .expect("a free seat");
        world.tables.seats.insert((candidate.slot.granule, 0), Seat::Committed);
        search.took(1);
        for run in search.findings().0 {
            world.tables.runs.retain(|r| r.from < run.from || r.to > run.to);
            world.tables.runs.push(run);
        }
        reads.push(world.tables.reads - before);
    }
    // A few runs at most lie ahead, however long they are; each costs a few reads.
    let mean = |reads: &[usize]| reads.iter().sum::<usize>() as f64 / reads.len() as f64;
    let (early, late) = (mean(&reads[100..300]), mean(&reads[1_000..]));
    assert!(late <= 1.3 * early, "{early} reads a call, then {late}");
    assert!(
        reads.iter().max() <= Some(&60),
        "at most {:?} reads",
        reads.iter().max()
    );
}

#[test]
fn the_callers_own_seat_counts_as_free_also_inside_a_run() {
    let mut world = World::new(1, false);
    (0..200).for_each(|_| drop(world.assign(0, Fate::Commits)));
    assert!(!world.tables.runs.is_empty());
    let timetable = world.timetable.clone();
    let mut search = Search::new(grid(&timetable, false), MINUTE, 0, UNTIL).ignoring(120, 0);
    let found = search
        .next(&mut world.tables)
        .expect("no failure")
        .expect("its own seat");
    assert_eq!((found.slot.granule, found.seats), (120, vec![0]));
}

/// Two seats a slot; an open transaction holds one of the first slot, and is rolled back after others have filled up.
#[test]
fn no_run_covers_a_slot_whose_other_seat_is_held_by_an_open_transaction() {
    let mut world = World::new(2, false);
    world
        .step(&Step::Assign {
            from: 0,
            fate: Fate::StaysOpen,
        })
        .expect("the earliest");
    world.step(&Step::Batch { seats: 99 }).expect("the earliest");
    world.step(&Step::End { nth: 0, commit: false }).expect("no search");
    world
        .step(&Step::Assign {
            from: 0,
            fate: Fate::Commits,
        })
        .expect("the seat that was rolled back");
    world.check_runs().expect("nothing is lost");
}

/// A seat that a batch had locked turns out to be an open transaction's, which may roll back: no run may cover it.
#[test]
fn a_search_that_is_distrusted_concludes_nothing() {
    let mut world = World::new(1, false);
    let timetable = world.timetable.clone();
    let mut search = Search::new(grid(&timetable, false), MINUTE, 0, UNTIL);
    for _ in 0..100 {
        search
            .next(&mut world.tables)
            .expect("no failure")
            .expect("a free seat");
        search.took(1);
    }
    search.distrust();
    assert_eq!(search.findings(), (vec![], vec![]));
}
