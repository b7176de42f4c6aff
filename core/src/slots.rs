//! The slots of a timetable in a zone, in order.
//!
//! Time is walked in stretches. In a *calm* stretch no transition is near: a wall time is its instant plus one
//! offset, and slots follow from the sorted times of the weekday by plain arithmetic, nothing is built. Between
//! two calm stretches lies a *window*: from a transition until the clocks show no time that they have shown before,
//! and none of the times that a gap has pushed forward is left. An hour, as a rule. Its slots are worked out one by
//! one, sorted and merged. Stretches begin and end at granules, so that what merges lies within one of them.

mod window;

use std::sync::Arc;

use crate::timetable::{Clock, Rule, Timetable};
use crate::zone::{Period, Zone};
use crate::{Instant, MICROS_PER_SEC, SECS_PER_DAY};

/// One instant of a timetable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// When; a whole second.
    pub at: Instant,
    /// The granule that holds the instant.
    pub granule: i64,
    /// Seats.
    pub capacity: u16,
    /// The application's own id of the slot.
    pub slot_ref: Option<Arc<str>>,
}

/// No wall time is further from its instant, no offset longer.
const DAY: i64 = SECS_PER_DAY;

/// No transition matters longer: two offsets differ by less.
const LONGEST_SHIFT: i64 = 2 * SECS_PER_DAY;

/// The range of [`Instant`] in seconds, less what the arithmetic around it needs.
const FIRST_SECOND: i64 = Instant::MIN / MICROS_PER_SEC + 8 * DAY;
const END_SECOND: i64 = Instant::MAX / MICROS_PER_SEC - 8 * DAY;

/// The slots of a timetable, read from any instant on.
#[derive(Debug)]
pub struct Slots<'a, Z> {
    timetable: &'a Timetable,
    zone: Z,
    granule_secs: i64,
    /// The next slot is the first at or after this second.
    position: i64,
    stretch: Stretch,
}

/// Seconds that are walked in one way; `start` and `end` are edges of granules.
#[derive(Debug)]
struct Stretch {
    start: i64,
    end: i64,
    walk: Walk,
}

#[derive(Debug)]
enum Walk {
    /// Every wall time of the stretch is its instant plus this offset.
    Calm { offset: i64 },
    /// The slots of the stretch, ascending.
    Window(Vec<Slot>),
}

impl<'a, Z: Zone> Slots<'a, Z> {
    /// All slots of `timetable` in `zone`. `granule_secs` is the granule that the timetable was parsed with (or a
    /// smaller one): only then no two slots of it fall into one granule.
    pub fn new(timetable: &'a Timetable, zone: Z, granule_secs: i64) -> Self {
        Self {
            timetable,
            zone,
            granule_secs: granule_secs.clamp(1, DAY),
            position: FIRST_SECOND,
            stretch: Stretch {
                start: 0,
                end: 0,
                walk: Walk::Window(Vec::new()),
            },
        }
    }

    /// Makes [`Slots::next`] yield the first slot at or after `from`.
    pub fn seek(&mut self, from: Instant) {
        let whole = from.div_euclid(MICROS_PER_SEC);
        let fraction = from.rem_euclid(MICROS_PER_SEC) != 0;
        self.position = whole + i64::from(fraction);
    }

    /// The next slot; instants and granules ascend strictly. `None` for a free-form timetable and past the year
    /// 294246.
    #[expect(
        clippy::should_implement_trait,
        reason = "a cursor that seeks, not an iterator to adapt"
    )]
    pub fn next(&mut self) -> Option<Slot> {
        if self.timetable.is_free_form() {
            return None;
        }
        self.position = self.position.max(FIRST_SECOND);
        while self.position < END_SECOND {
            if !(self.stretch.start..self.stretch.end).contains(&self.position) {
                self.stretch = self.stretch_around(self.position);
            }
            let found = match &self.stretch.walk {
                Walk::Calm { offset } => self.calm_slot(*offset),
                Walk::Window(slots) => first_from(slots, self.position).cloned(),
            };
            match found {
                Some(slot) => {
                    self.position = slot.at / MICROS_PER_SEC + 1;
                    return Some(slot);
                }
                None => self.position = self.stretch.end,
            }
        }
        None
    }

    /// The slot whose instant lies in `granule`. Where [`Slots::next`] goes on does not change.
    pub fn slot_in_granule(&mut self, granule: i64) -> Option<Slot> {
        let position = self.position;
        self.position = granule.checked_mul(self.granule_secs)?;
        let slot = self.next().filter(|slot| slot.granule == granule);
        self.position = position;
        slot
    }

    /// The first slot of the calm stretch at or after the position.
    fn calm_slot(&self, offset: i64) -> Option<Slot> {
        let wall = self.position + offset;
        let (mut day, mut second) = (wall.div_euclid(DAY), wall.rem_euclid(DAY));
        loop {
            let rules = rules_on(self.timetable, day);
            let passed = rules.partition_point(|rule| i64::from(rule.minute) * 60 < second);
            if let Some(rule) = rules.get(passed) {
                let at = day * DAY + i64::from(rule.minute) * 60 - offset;
                return (at < self.stretch.end).then(|| self.slot(at, rule));
            }
            (day, second) = (day + 1, 0);
            if day * DAY - offset >= self.stretch.end {
                return None;
            }
        }
    }

    fn slot(&self, at: i64, rule: &Rule) -> Slot {
        Slot {
            at: at * MICROS_PER_SEC,
            granule: at.div_euclid(self.granule_secs),
            capacity: rule.capacity,
            slot_ref: rule.slot_ref.clone(),
        }
    }

    fn stretch_around(&self, position: i64) -> Stretch {
        if self.timetable.clock() == Clock::Utc {
            return Stretch {
                start: FIRST_SECOND,
                end: END_SECOND,
                walk: Walk::Calm { offset: 0 },
            };
        }
        let start = self.floor(position);
        match self.calm_or_window(start) {
            CalmOrWindow::Calm { offset, end } => Stretch {
                start,
                end,
                walk: Walk::Calm { offset },
            },
            CalmOrWindow::Window { end } => Stretch {
                start,
                end,
                walk: Walk::Window(window::slots(self.timetable, &self.zone, self.granule_secs, start..end)),
            },
        }
    }

    /// How the time from `start` on is walked, and how far.
    fn calm_or_window(&self, start: i64) -> CalmOrWindow {
        let window_end = self.floor(start + LONGEST_SHIFT);
        // What lies before is over by `start`.
        let mut period = Period::at(&self.zone, start - LONGEST_SHIFT);
        let mut wake = Wake::default();
        loop {
            let calm_start = self.ceil(wake.over_under(period.offset).max(start));
            let calm_end = self.floor(period.end.min(END_SECOND));
            if calm_start < calm_end {
                return if calm_start == start {
                    CalmOrWindow::Calm {
                        offset: period.offset,
                        end: calm_end,
                    }
                } else {
                    CalmOrWindow::Window {
                        end: calm_start.min(window_end),
                    }
                };
            }
            if period.end >= window_end {
                return CalmOrWindow::Window { end: window_end };
            }
            let next = Period::at(&self.zone, period.end);
            wake.widen(&period, &next);
            period = next;
        }
    }

    fn floor(&self, second: i64) -> i64 {
        second - second.rem_euclid(self.granule_secs)
    }

    fn ceil(&self, second: i64) -> i64 {
        self.floor(second + (self.granule_secs - 1))
    }
}

enum CalmOrWindow {
    Calm { offset: i64, end: i64 },
    Window { end: i64 },
}

/// How far the transitions so far reach into what follows.
struct Wake {
    /// Clocks have shown every wall time before this one, or skipped it.
    walls_shown: i64,
    /// No gap has pushed a slot to this second or a later one.
    shifts_over: i64,
}

impl Default for Wake {
    fn default() -> Self {
        Self {
            walls_shown: i64::MIN / 2,
            shifts_over: i64::MIN / 2,
        }
    }
}

impl Wake {
    fn widen(&mut self, before: &Period, after: &Period) {
        let gap = (after.offset - before.offset).max(0);
        self.walls_shown = self.walls_shown.max(before.end_wall());
        self.shifts_over = self.shifts_over.max(after.start + gap);
    }

    /// The first second under a later offset that no transition so far touches.
    fn over_under(&self, offset: i64) -> i64 {
        self.shifts_over.max(self.walls_shown - offset)
    }
}

/// The rules of a local day, counted from 1970-01-01, a Thursday.
fn rules_on(timetable: &Timetable, day: i64) -> &[Rule] {
    usize::try_from((day + 3).rem_euclid(7)).map_or(&[], |weekday| timetable.rules_of(weekday))
}

fn first_from(slots: &[Slot], second: i64) -> Option<&Slot> {
    slots.get(slots.partition_point(|slot| slot.at < second * MICROS_PER_SEC))
}
