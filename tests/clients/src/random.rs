//! Random numbers that a failed test can be repeated with.

use std::env;
use std::time::SystemTime;

/// The seed of this run: `SLOTKEEPER_SEED`, or a new one. Printed, so that a failure tells how to repeat it.
pub fn seed() -> u64 {
    let seed = match env::var("SLOTKEEPER_SEED") {
        Ok(text) => text.parse().expect("SLOTKEEPER_SEED is a whole number"),
        Err(_) => {
            SystemTime::UNIX_EPOCH
                .elapsed()
                .expect("a clock after 1970")
                .as_micros() as u64
                % 1_000_000_000
        }
    };
    println!("to repeat these random choices: SLOTKEEPER_SEED={seed}");
    seed
}

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of one seed and one stream of it.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is above 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A number from `from` to `to`, both included.
    pub fn between(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from + 1) as usize) as i64
    }

    /// True so many times of a hundred.
    pub fn percent(&mut self, times: usize) -> bool {
        self.below(100) < times
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
