//! Slugs that were given and that no row shows yet: a lock tells the other transactions.
//!
//! A lock that the row has made needless is given back when there are many, so that a transaction may write any number
//! of slugs; only those that it has not written are bounded.

use super::target::{Finder, Target};
use crate::fault::Fault;
use crate::pg::lock::{Asked, Kept, Key, subtransaction_level};
use crate::pg::transaction::{End, innermost};
use std::cell::RefCell;

/// So many are held before the needless ones are looked for.
const FEW: usize = 64;

/// So many slugs may be given to a transaction that has not written them.
pub(super) const UNWRITTEN: usize = 1000;

struct Given {
    lock: Kept,
    target: Target,
    slug: String,
}

#[derive(Default)]
struct Held {
    given: Vec<Given>,
    /// How many there were after the needless ones were last looked for.
    after_sweep: usize,
}

thread_local! {
    static HELD: RefCell<Held> = RefCell::new(Held::default());
}

fn key<'a>(target: &Target, slug: &'a str) -> Key<'a> {
    Key::Slug {
        table: target.table().to_u32(),
        column: target.column().number,
        scope: target.scope_hash(),
        slug,
    }
}

/// Whether the slug was given to this very transaction.
pub(super) fn is_mine(target: &Target, slug: &str) -> bool {
    Kept::is_mine(&key(target, slug))
}

/// A slug's lock, just taken.
pub(super) struct Hold(Kept);

impl Hold {
    /// Takes the slug's lock unless some transaction has it.
    pub(super) fn ask(target: &Target, slug: &str) -> Result<Option<Self>, Fault> {
        sweep()?;
        Ok(match Kept::ask(&key(target, slug)) {
            Asked::Kept(lock) => Some(Self(lock)),
            Asked::Mine | Asked::Others => None,
        })
    }

    pub(super) fn give_back(self) {
        self.0.give_back();
    }

    /// Keeps it until the transaction ends or the row is there.
    pub(super) fn keep(self, target: &Target, slug: &str) -> Result<(), Fault> {
        HELD.with_borrow_mut(|held| {
            held.given.push(Given {
                lock: self.0,
                target: target.clone(),
                slug: slug.to_owned(),
            });
        });
        Ok(())
    }
}

/// Gives back the locks of slugs that rows show by now. Seldom enough that each slug is looked at a few times at most.
fn sweep() -> Result<(), Fault> {
    let given = HELD.with_borrow_mut(|held| {
        let many = held.given.len() >= FEW.max(2 * held.after_sweep);
        many.then(|| std::mem::take(&mut held.given))
    });
    let Some(given) = given else { return Ok(()) };
    let mut kept = Vec::new();
    let mut finder: Option<(Target, Finder)> = None;
    for one in given {
        let known = finder.take().filter(|(target, _)| target.is(&one.target));
        let known = match known {
            Some(known) => Some(known),
            None => one.target.finder_if_unchanged()?.map(|look| (one.target.clone(), look)),
        };
        let Some((target, mut look)) = known else {
            kept.push(one);
            continue;
        };
        if written(&one, &mut look)? {
            one.lock.give_back();
        } else {
            kept.push(one);
        }
        finder = Some((target, look));
    }
    let count = kept.len();
    HELD.with_borrow_mut(|held| (held.given, held.after_sweep) = (kept, count));
    if count >= UNWRITTEN {
        return Err(Fault::TooManySlugs { limit: UNWRITTEN });
    }
    Ok(())
}

/// Whether a row shows the slug for at least as long as the lock would. A row that a deeper subtransaction has written
/// may go with it, and leave the slug with the one that it was given to.
fn written(given: &Given, finder: &mut Finder) -> Result<bool, Fault> {
    let deeper = subtransaction_level() - given.lock.level();
    if deeper > 1 {
        return Ok(false);
    }
    Ok(match finder.writer(&given.slug)? {
        Some(writer) => deeper == 0 || innermost() != Some(writer),
        None => false,
    })
}

/// The server has given back the locks of what ended.
pub(super) fn transaction_ended(end: End) {
    let _ = HELD.try_with(|held| {
        // Borrowed only while an error passes through a sweep: the abort that follows ends the transaction's part.
        let Ok(mut held) = held.try_borrow_mut() else { return };
        match end {
            End::Transaction => *held = Held::default(),
            End::Undone(level) => held.given.retain(|given| given.lock.level() < level),
            End::Joined(level) => held.given.iter_mut().for_each(|given| given.lock.joins(level - 1)),
        }
    });
}
