//! Measured lines: values per round, their medians and ratios, and what they have to reach.

/// Which of a line's variants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Who {
    Slotkeeper,
    /// The bare statement, or the same call in the easy case.
    Baseline,
    /// The plain PL/pgSQL function.
    Twin,
}

impl Who {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Slotkeeper => "slotkeeper",
            Self::Baseline => "baseline",
            Self::Twin => "twin",
        }
    }
}

/// What a line's values are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// More is better.
    PerSecond,
    /// More is better.
    RowsPerSecond,
    /// Less is better.
    Microseconds,
    /// Less is better.
    Bytes,
    /// Less is better.
    BytesEach,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PerSecond => "per second",
            Self::RowsPerSecond => "rows per second",
            Self::Microseconds => "microseconds",
            Self::Bytes => "bytes",
            Self::BytesEach => "bytes each",
        }
    }

    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{}/s", thousands(value)),
            Self::RowsPerSecond => format!("{} rows/s", thousands(value)),
            Self::Microseconds => format!("{} µs", thousands(value)),
            Self::Bytes => format!("{:.2} MB", value / 1e6),
            Self::BytesEach => format!("{} bytes", thousands(value)),
        }
    }
}

/// What a ratio has to be.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

impl Limit {
    pub(crate) fn show(self) -> String {
        match self {
            Self::AtLeast(limit) => format!("≥ {limit:.2}"),
            Self::AtMost(limit) => format!("≤ {limit:.2}"),
        }
    }

    pub(crate) fn holds(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(limit) => ratio >= limit,
            Self::AtMost(limit) => ratio <= limit,
        }
    }

    pub(crate) fn value(self) -> f64 {
        match self {
            Self::AtLeast(limit) | Self::AtMost(limit) => limit,
        }
    }
}

/// One line of the table.
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) unit: Unit,
    /// What the baseline is, in a few words.
    pub(crate) baseline: String,
    /// slotkeeper against the baseline.
    pub(crate) required: Option<Limit>,
    /// slotkeeper against the twin.
    pub(crate) required_of_twin: Option<Limit>,
    pub(crate) rounds: Vec<Vec<(Who, f64)>>,
}

/// The median of a ratio's rounds, and the extremes.
#[derive(Clone, Copy)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Line {
    fn values(&self, who: Who) -> Vec<f64> {
        self.rounds
            .iter()
            .flatten()
            .filter(|(of, _)| *of == who)
            .map(|(_, value)| *value)
            .collect()
    }

    /// The median of a variant's rounds.
    pub(crate) fn median(&self, who: Who) -> Option<f64> {
        median(self.values(who))
    }

    /// slotkeeper against another variant: the ratio within each round, and then the median of those.
    pub(crate) fn ratio_to(&self, who: Who) -> Option<Ratio> {
        let of = |round: &[(Who, f64)], who| round.iter().find(|(of, _)| *of == who).map(|(_, value)| *value);
        let ratios: Vec<f64> = self
            .rounds
            .iter()
            .filter_map(|round| Some(of(round, Who::Slotkeeper)? / of(round, who)?))
            .collect();
        Some(Ratio {
            least: ratios.iter().copied().reduce(f64::min)?,
            most: ratios.iter().copied().reduce(f64::max)?,
            median: median(ratios)?,
        })
    }

    /// Each required figure of this line: against whom, what, the ratio found.
    pub(crate) fn verdicts(&self) -> Vec<(Who, Limit, Ratio)> {
        [(Who::Baseline, self.required), (Who::Twin, self.required_of_twin)]
            .into_iter()
            .filter_map(|(who, limit)| Some((who, limit?, self.ratio_to(who)?)))
            .collect()
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = *values.get(half)?;
    let even = values.len().is_multiple_of(2);
    Some(if even {
        f64::midpoint(*values.get(half - 1)?, upper)
    } else {
        upper
    })
}

/// A whole number with commas.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_taken_within_each_round() {
        let round = |slotkeeper, bare| vec![(Who::Slotkeeper, slotkeeper), (Who::Baseline, bare)];
        let line = Line {
            id: String::new(),
            title: String::new(),
            unit: Unit::PerSecond,
            baseline: String::new(),
            required: Some(Limit::AtLeast(0.8)),
            required_of_twin: None,
            // The machine was ten times slower in the second round.
            rounds: vec![round(900.0, 1000.0), round(80.0, 100.0), round(700.0, 1000.0)],
        };
        let ratio = line.ratio_to(Who::Baseline).unwrap();
        assert!(
            (ratio.median - 0.8).abs() < 1e-9 && (ratio.least - 0.7).abs() < 1e-9 && (ratio.most - 0.9).abs() < 1e-9
        );
        assert!(line.ratio_to(Who::Twin).is_none());
        assert_eq!(line.verdicts().len(), 1);
    }

    #[test]
    fn medians_and_commas() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(999.6), "1,000");
        assert_eq!(thousands(12.0), "12");
    }
}
