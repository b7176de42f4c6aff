//! When a content whose publishing failed is tried again: a platform's policy, and what it makes of one failure.

use serde_json::{Map, Value, json};

use crate::invalid::{Invalid, element, kind_of, member, quoted};
use crate::span::Span;
use crate::zone::{USE_A_REGION, ZoneName, zone_name};

const KEYS: [&str; 9] = [
    "max_attempts",
    "delays",
    "backoff",
    "jitter",
    "retry_statuses",
    "unknown_statuses",
    "on_unknown",
    "async_after_timeouts",
    "limits",
];

const SEE: &str = "See \"Policies\" in slotkeeper's reference.";

const MOST_ATTEMPTS: u32 = 1_000;
const MOST_DELAYS: usize = 100;
const MOST_STATUSES: usize = 100;
const MOST_LIMITS: usize = 20;
const MOST_TIMEOUTS: u32 = 1_000;
const MOST_PER_WINDOW: i64 = 1_000_000_000;

/// No delay and no window is longer.
const LONGEST_MICROS: i64 = 366 * 86_400 * crate::MICROS_PER_SEC;

/// Statuses that say that the provider, or somebody in between, has waited too long.
const TIMEOUT_STATUSES: [u16; 4] = [408, 504, 522, 524];

/// A platform's policy as it applies, defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// So many attempts begin, until a person revives the content.
    pub max_attempts: u32,
    /// How long to wait after a failure.
    pub delay: Delay,
    /// A delay is longer by a random part of up to this much of itself.
    pub jitter: f64,
    /// After these statuses the content is tried again.
    pub retry_statuses: Vec<u16>,
    /// After these nobody knows whether it was published.
    pub unknown_statuses: Vec<u16>,
    /// What an unknown outcome leads to.
    pub on_unknown: OnUnknown,
    /// After so many timeouts a content is handed out as `async`.
    pub async_after_timeouts: u32,
    /// Rate limits.
    pub limits: Vec<Limit>,
}

/// How long to wait after the first failure, the second, and so on.
#[derive(Clone, Debug, PartialEq)]
pub enum Delay {
    /// One after the other; the last one repeats.
    List(Vec<Span>),
    /// `base`, and `factor` times as long each time, up to `cap`.
    Backoff {
        /// The first delay.
        base: Span,
        /// What each is longer by.
        factor: f64,
        /// The longest.
        cap: Span,
    },
}

/// What an unknown outcome leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// A person or a probe finds out.
    Hold,
    /// Another attempt: the content may then be published twice.
    Retry,
}

/// At most so many attempts in a window of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// How many.
    pub max: i64,
    /// The window's length.
    pub per: Span,
    /// Whether the window moves with the clock, or starts anew at fixed instants.
    pub window: Window,
    /// Which attempts count together.
    pub scope: Scope,
}

/// The window of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// The time that has just passed.
    Rolling,
    /// Windows that are counted from midnight of this zone.
    Fixed {
        /// The zone's name.
        reset_zone: String,
    },
}

/// Which attempts a limit counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of one queue.
    Queue,
    /// Those of one user on the platform.
    User,
    /// All of the platform.
    Platform,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_attempts: 4,
            delay: Delay::List([30, 60, 120].map(seconds).to_vec()),
            jitter: 0.1,
            retry_statuses: vec![429],
            unknown_statuses: vec![408, 500, 502, 503, 504],
            on_unknown: OnUnknown::Hold,
            async_after_timeouts: 2,
            limits: Vec::new(),
        }
    }
}

/// One failure of one content, and what came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether the external call may have been made.
    pub begun: bool,
    /// The provider's answer, if there was one.
    pub status: Option<u16>,
    /// Failures since the content was scheduled or revived, this one included.
    pub failures: u32,
    /// Attempts that began since then, this one included.
    pub tries: u32,
    /// The provider asked to be left alone for so long.
    pub retry_after_micros: Option<i64>,
    /// What the jitter is made from.
    pub seed: u64,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Another attempt, so many microseconds from now.
    Retry(i64),
    /// The provider has refused it, or it was tried often enough.
    Failed,
    /// Nobody knows whether it was published.
    Unknown,
}

impl Failure {
    /// Whether the provider has left us waiting: no answer at all, or one that says so.
    pub fn is_timeout(&self) -> bool {
        self.begun && self.status.is_none_or(|status| TIMEOUT_STATUSES.contains(&status))
    }
}

impl Policy {
    /// What follows from this failure. Before the attempt began nothing can have been published, so it is tried again
    /// whatever happened. After it, a status in both lists is retried; one in neither is a refusal; no answer, and one
    /// that says the call went well, leave it open whether the content was published.
    pub fn after(&self, failure: &Failure) -> Verdict {
        if !failure.begun {
            return self.retry(failure);
        }
        let left = failure.tries < self.max_attempts;
        let listed = |list: &[u16]| failure.status.is_some_and(|status| list.contains(&status));
        if listed(&self.retry_statuses) {
            return if left { self.retry(failure) } else { Verdict::Failed };
        }
        let open = failure.status.is_none_or(|status| (200..300).contains(&status));
        if !open && !listed(&self.unknown_statuses) {
            return Verdict::Failed;
        }
        match self.on_unknown {
            OnUnknown::Retry if left => self.retry(failure),
            OnUnknown::Retry | OnUnknown::Hold => Verdict::Unknown,
        }
    }

    fn retry(&self, failure: &Failure) -> Verdict {
        let delay = self.delay_after(failure.failures, failure.seed);
        Verdict::Retry(delay.max(failure.retry_after_micros.unwrap_or(0)))
    }

    /// Microseconds to wait after the n-th failure, jitter included: never less than the policy says.
    pub fn delay_after(&self, failures: u32, seed: u64) -> i64 {
        let nth = failures.saturating_sub(1);
        let plain = match &self.delay {
            Delay::List(spans) => {
                let index = usize::try_from(nth).unwrap_or(usize::MAX);
                spans.get(index).or(spans.last()).map_or(0, micros)
            }
            Delay::Backoff { base, factor, cap } => {
                let grown = micros(base) as f64 * factor.powf(f64::from(nth));
                // The comparison is also what an overflow to infinity meets.
                if grown < micros(cap) as f64 {
                    grown as i64
                } else {
                    micros(cap)
                }
            }
        };
        plain.saturating_add((plain as f64 * self.jitter * unit_interval(seed)) as i64)
    }

    /// How a content with so many timeouts is handed out.
    pub fn is_async(&self, timeouts: u32) -> bool {
        timeouts >= self.async_after_timeouts
    }
}

/// A number from 0 up to 1 that any two seeds make differently.
fn unit_interval(seed: u64) -> f64 {
    // The finishing steps of MurmurHash3: neighbouring seeds lie far apart.
    let mut mixed = seed;
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    ((mixed ^ (mixed >> 33)) >> 11) as f64 / (1_u64 << 53) as f64
}

fn seconds(count: i64) -> Span {
    Span {
        months: 0,
        days: 0,
        micros: count * crate::MICROS_PER_SEC,
    }
}

fn micros(span: &Span) -> i64 {
    span.as_fixed_micros().unwrap_or(LONGEST_MICROS).min(LONGEST_MICROS)
}

impl Policy {
    /// Reads a policy; what it leaves out, or gives as JSON null, has its default.
    pub fn parse(json: &Value) -> Result<Self, Invalid> {
        let keys = object(
            json,
            "policy",
            r#"such as {"max_attempts": 3, "retry_statuses": [429]}"#,
        )?;
        if keys.get("delays").is_some_and(|v| !v.is_null()) && keys.get("backoff").is_some_and(|v| !v.is_null()) {
            return Err(Invalid::new("policy.backoff", "and delays exclude each other").with_hint("give one of them"));
        }
        let mut policy = Self::default();
        for (key, value) in keys.iter() {
            policy.set(key, value).map_err(|invalid| Invalid {
                hint: invalid.hint.or_else(|| Some(SEE.to_owned())),
                ..invalid
            })?;
        }
        Ok(policy)
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), Invalid> {
        let path = member("policy", key);
        match key {
            _ if value.is_null() && KEYS.contains(&key) => {}
            "max_attempts" => self.max_attempts = count(value, &path, MOST_ATTEMPTS)?,
            "delays" => self.delay = Delay::List(list(value, &path, MOST_DELAYS, 1, length)?),
            "backoff" => self.delay = backoff(value, &path)?,
            "jitter" => self.jitter = number(value, &path, 0.0, 1.0)?,
            "retry_statuses" => self.retry_statuses = list(value, &path, MOST_STATUSES, 0, status)?,
            "unknown_statuses" => self.unknown_statuses = list(value, &path, MOST_STATUSES, 0, status)?,
            "on_unknown" => {
                self.on_unknown = word(value, &path, &[("hold", OnUnknown::Hold), ("retry", OnUnknown::Retry)])?;
            }
            "async_after_timeouts" => self.async_after_timeouts = count(value, &path, MOST_TIMEOUTS)?,
            "limits" => self.limits = list(value, &path, MOST_LIMITS, 0, limit)?,
            _ => {
                let hint = format!("known keys: {}", KEYS.join(", "));
                return Err(Invalid::new(path, "is not a key of a policy").with_hint(hint));
            }
        }
        Ok(())
    }

    /// The object that [`Policy::parse`] reads back unchanged.
    pub fn to_json(&self) -> Value {
        let mut keys = Map::new();
        match &self.delay {
            Delay::List(spans) => {
                let texts: Vec<String> = spans.iter().map(Span::to_string).collect();
                keys.insert("delays".to_owned(), json!(texts));
            }
            Delay::Backoff { base, factor, cap } => {
                let backoff = json!({"base": base.to_string(), "factor": factor, "cap": cap.to_string()});
                keys.insert("backoff".to_owned(), backoff);
            }
        }
        let on_unknown = match self.on_unknown {
            OnUnknown::Hold => "hold",
            OnUnknown::Retry => "retry",
        };
        let limits: Vec<Value> = self.limits.iter().map(Limit::to_json).collect();
        for (key, value) in [
            ("max_attempts", json!(self.max_attempts)),
            ("jitter", json!(self.jitter)),
            ("retry_statuses", json!(self.retry_statuses)),
            ("unknown_statuses", json!(self.unknown_statuses)),
            ("on_unknown", json!(on_unknown)),
            ("async_after_timeouts", json!(self.async_after_timeouts)),
            ("limits", json!(limits)),
        ] {
            keys.insert(key.to_owned(), value);
        }
        Value::Object(keys)
    }
}

impl Limit {
    fn to_json(&self) -> Value {
        let scope = match self.scope {
            Scope::Queue => "queue",
            Scope::User => "user",
            Scope::Platform => "platform",
        };
        let mut limit = json!({"max": self.max, "per": self.per.to_string(), "scope": scope, "window": "rolling"});
        if let Window::Fixed { reset_zone } = &self.window {
            limit["window"] = json!("fixed");
            limit["reset_zone"] = json!(reset_zone);
        }
        limit
    }
}

fn object<'v>(value: &'v Value, path: &str, hint: &str) -> Result<&'v Map<String, Value>, Invalid> {
    match value {
        Value::Object(keys) => Ok(keys),
        other => Err(Invalid::new(path, format!("must be a JSON object, not {}", kind_of(other))).with_hint(hint)),
    }
}

fn list<T>(
    value: &Value,
    path: &str,
    most: usize,
    least: usize,
    item: fn(&Value, &str) -> Result<T, Invalid>,
) -> Result<Vec<T>, Invalid> {
    let Value::Array(items) = value else {
        return Err(Invalid::new(path, format!("must be an array, not {}", kind_of(value))));
    };
    if items.len() < least || items.len() > most {
        let problem = format!("has {} elements; allowed are {least} to {most}", items.len());
        return Err(Invalid::new(path, problem));
    }
    items
        .iter()
        .enumerate()
        .map(|(index, value)| item(value, &element(path, index)))
        .collect()
}

fn count(value: &Value, path: &str, most: u32) -> Result<u32, Invalid> {
    value
        .as_u64()
        .and_then(|count| u32::try_from(count).ok())
        .filter(|count| (1..=most).contains(count))
        .ok_or_else(|| Invalid::new(path, format!("must be a whole number from 1 to {most}")))
}

fn number(value: &Value, path: &str, least: f64, most: f64) -> Result<f64, Invalid> {
    value
        .as_f64()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| Invalid::new(path, format!("must be a number from {least} to {most}")))
}

fn status(value: &Value, path: &str) -> Result<u16, Invalid> {
    value
        .as_u64()
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (100..600).contains(status))
        .ok_or_else(|| Invalid::new(path, "must be an HTTP status, a whole number from 100 to 599"))
}

fn length(value: &Value, path: &str) -> Result<Span, Invalid> {
    let problem = match value {
        Value::String(text) => match Span::parse(text) {
            Some(span) if span.as_fixed_micros().is_some_and(|micros| micros <= LONGEST_MICROS) => return Ok(span),
            Some(_) => format!("is {}, longer than 366 days or counted in months", quoted(text)),
            None => format!("is {}, which is not a positive length of time", quoted(text)),
        },
        other => format!("must be a length of time as text, not {}", kind_of(other)),
    };
    Err(Invalid::new(path, problem).with_hint("such as \"30 seconds\""))
}

fn word<T: Copy>(value: &Value, path: &str, words: &[(&str, T)]) -> Result<T, Invalid> {
    let found = value
        .as_str()
        .and_then(|text| words.iter().find(|(word, _)| *word == text));
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let allowed: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        Invalid::new(path, format!("must be one of {}", allowed.join(", ")))
    })
}

fn backoff(value: &Value, path: &str) -> Result<Delay, Invalid> {
    let hint = r#"such as {"base": "5 seconds", "factor": 2, "cap": "1 hour"}"#;
    let keys = object(value, path, hint)?;
    let (mut base, mut factor, mut cap) = (None, 2.0, seconds(3_600));
    for (key, value) in keys {
        let path = member(path, key);
        match key.as_str() {
            "base" => base = Some(length(value, &path)?),
            "factor" => factor = number(value, &path, 1.0, 100.0)?,
            "cap" => cap = length(value, &path)?,
            _ => return Err(Invalid::new(path, "is not a key of backoff").with_hint(hint)),
        }
    }
    let base = base.ok_or_else(|| Invalid::new(member(path, "base"), "is missing").with_hint(hint))?;
    Ok(Delay::Backoff { base, factor, cap })
}

fn limit(value: &Value, path: &str) -> Result<Limit, Invalid> {
    let hint = r#"such as {"max": 300, "per": "3 hours", "window": "rolling", "scope": "queue"}"#;
    let keys = object(value, path, hint)?;
    let (mut max, mut per, mut fixed, mut reset_zone, mut scope) = (None, None, false, None, Scope::Queue);
    for (key, value) in keys {
        let path = member(path, key);
        match key.as_str() {
            "max" => max = Some(per_window(value, &path)?),
            "per" => per = Some(length(value, &path)?),
            "window" => fixed = word(value, &path, &[("rolling", false), ("fixed", true)])?,
            "reset_zone" => reset_zone = Some(zone(value, &path)?),
            "scope" => {
                let scopes = [
                    ("queue", Scope::Queue),
                    ("user", Scope::User),
                    ("platform", Scope::Platform),
                ];
                scope = word(value, &path, &scopes)?;
            }
            _ => return Err(Invalid::new(path, "is not a key of a limit").with_hint(hint)),
        }
    }
    let missing = |key| Invalid::new(member(path, key), "is missing").with_hint(hint);
    let window = match (fixed, reset_zone) {
        (true, zone) => Window::Fixed {
            reset_zone: zone.unwrap_or_else(|| "UTC".to_owned()),
        },
        (false, None) => Window::Rolling,
        (false, Some(_)) => {
            return Err(
                Invalid::new(member(path, "reset_zone"), "means nothing for a rolling window")
                    .with_hint(r#"give "window": "fixed" with it"#),
            );
        }
    };
    Ok(Limit {
        max: max.ok_or_else(|| missing("max"))?,
        per: per.ok_or_else(|| missing("per"))?,
        window,
        scope,
    })
}

fn per_window(value: &Value, path: &str) -> Result<i64, Invalid> {
    value
        .as_i64()
        .filter(|max| (1..=MOST_PER_WINDOW).contains(max))
        .ok_or_else(|| Invalid::new(path, format!("must be a whole number from 1 to {MOST_PER_WINDOW}")))
}

fn zone(value: &Value, path: &str) -> Result<String, Invalid> {
    let Value::String(name) = value else {
        return Err(Invalid::new(
            path,
            format!("must be a zone's name, not {}", kind_of(value)),
        ));
    };
    match zone_name(name) {
        ZoneName::Region(region) => Ok(region),
        ZoneName::Refused { reason, hint } => {
            let hint = hint.unwrap_or_else(|| USE_A_REGION.to_owned());
            Err(Invalid::new(path, format!("is {}, which {reason}", quoted(name))).with_hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = crate::MICROS_PER_SEC;

    fn policy(json: Value) -> Policy {
        Policy::parse(&json).unwrap()
    }

    fn refused(json: Value) -> Invalid {
        Policy::parse(&json).unwrap_err()
    }

    fn failure(begun: bool, status: Option<u16>, tries: u32) -> Failure {
        Failure {
            begun,
            status,
            failures: tries,
            tries,
            retry_after_micros: None,
            seed: 7,
        }
    }

    /// The story of a provider that answers 504 for hours, with a policy that retries it.
    #[test]
    fn three_retries_after_30_60_and_120_seconds_then_failed() {
        let policy = policy(json!({"jitter": 0, "retry_statuses": [429, 504]}));
        let story: Vec<_> = (1..=4).map(|n| policy.after(&failure(true, Some(504), n))).collect();
        let retry = |seconds: i64| Verdict::Retry(seconds * SECOND);
        assert_eq!(story, [retry(30), retry(60), retry(120), Verdict::Failed]);
        assert!(failure(true, Some(504), 1).is_timeout());
        assert_eq!([1, 2, 3].map(|n| policy.is_async(n)), [false, true, true]);
    }

    #[test]
    fn nothing_unconfirmed_is_retried_unless_the_policy_says_so() {
        let hold = Policy::default();
        for status in [
            None,
            Some(408),
            Some(500),
            Some(502),
            Some(503),
            Some(504),
            Some(200),
            Some(204),
        ] {
            assert_eq!(hold.after(&failure(true, status, 1)), Verdict::Unknown, "{status:?}");
        }
        for status in [100, 301, 400, 401, 403, 404, 409, 413, 422, 501] {
            assert_eq!(hold.after(&failure(true, Some(status), 1)), Verdict::Failed, "{status}");
        }
        assert!(matches!(hold.after(&failure(true, Some(429), 1)), Verdict::Retry(_)));
        let retry = policy(json!({"on_unknown": "retry", "max_attempts": 2}));
        assert!(matches!(retry.after(&failure(true, None, 1)), Verdict::Retry(_)));
        // Tried often enough, and still nobody knows.
        assert_eq!(retry.after(&failure(true, None, 2)), Verdict::Unknown);
    }

    #[test]
    fn before_it_begins_every_failure_is_retried_for_ever() {
        for status in [None, Some(200), Some(400), Some(504)] {
            let verdict = Policy::default().after(&failure(false, status, 1_000));
            assert!(matches!(verdict, Verdict::Retry(_)), "{status:?}");
            assert!(!failure(false, status, 1).is_timeout());
        }
    }

    #[test]
    fn a_status_in_both_lists_is_retried() {
        let both = policy(json!({"retry_statuses": [503], "unknown_statuses": [503]}));
        assert!(matches!(both.after(&failure(true, Some(503), 1)), Verdict::Retry(_)));
    }

    #[test]
    fn a_provider_that_asks_for_more_time_gets_it() {
        let plain = policy(json!({"jitter": 0}));
        let asks = |seconds: i64| Failure {
            retry_after_micros: Some(seconds * SECOND),
            ..failure(true, Some(429), 1)
        };
        assert_eq!(plain.after(&asks(300)), Verdict::Retry(300 * SECOND));
        assert_eq!(plain.after(&asks(1)), Verdict::Retry(30 * SECOND));
    }

    #[test]
    fn a_backoff_grows_to_its_cap() {
        let policy = policy(json!({"jitter": 0, "backoff": {"base": "5 seconds", "factor": 2, "cap": "1 minute"}}));
        let delays: Vec<_> = (1..=6).map(|n| policy.delay_after(n, 0) / SECOND).collect();
        assert_eq!(delays, [5, 10, 20, 40, 60, 60]);
        assert_eq!(policy.delay_after(u32::MAX, 0), 60 * SECOND);
        assert_eq!(policy.delay_after(0, 0), 5 * SECOND);
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        assert_eq!(policy(json!({})), Policy::default());
        assert_eq!(policy(json!({"max_attempts": null, "limits": null})), Policy::default());
        assert_eq!(policy(Policy::default().to_json()), Policy::default());
        let limits = policy(json!({"limits": [{"max": 300, "per": "3 hours"},
            {"max": 100, "per": "1 day", "window": "fixed", "reset_zone": "America/Los_Angeles", "scope": "user"}]}));
        assert_eq!(limits.limits.len(), 2);
        assert_eq!(policy(limits.to_json()), limits);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        for (json, path) in [
            (json!([]), "policy"),
            (json!({"max_attempt": 3}), "policy.max_attempt"),
            (json!({"max": null}), "policy.max"),
            (json!({"max_attempts": 0}), "policy.max_attempts"),
            (json!({"max_attempts": 1.5}), "policy.max_attempts"),
            (json!({"delays": []}), "policy.delays"),
            (json!({"delays": ["30 seconds", "soon"]}), "policy.delays[1]"),
            (json!({"delays": ["1 month"]}), "policy.delays[0]"),
            (json!({"delays": ["367 days"]}), "policy.delays[0]"),
            (json!({"delays": ["1s"], "backoff": {"base": "1s"}}), "policy.backoff"),
            (json!({"backoff": {"factor": 2}}), "policy.backoff.base"),
            (
                json!({"backoff": {"base": "1s", "factor": 0.5}}),
                "policy.backoff.factor",
            ),
            (json!({"jitter": -0.1}), "policy.jitter"),
            (json!({"jitter": "much"}), "policy.jitter"),
            (json!({"retry_statuses": [429, 99]}), "policy.retry_statuses[1]"),
            (json!({"unknown_statuses": 500}), "policy.unknown_statuses"),
            (json!({"on_unknown": "ask"}), "policy.on_unknown"),
            (json!({"async_after_timeouts": -1}), "policy.async_after_timeouts"),
            (json!({"limits": [{"per": "1 hour"}]}), "policy.limits[0].max"),
            (json!({"limits": [{"max": 1}]}), "policy.limits[0].per"),
            (
                json!({"limits": [{"max": 1, "per": "1 hour", "window": "sliding"}]}),
                "policy.limits[0].window",
            ),
            (
                json!({"limits": [{"max": 1, "per": "1 hour", "reset_zone": "UTC"}]}),
                "policy.limits[0].reset_zone",
            ),
            (
                json!({"limits": [{"max": 1, "per": "1 hour", "window": "fixed", "reset_zone": "UTC+7"}]}),
                "policy.limits[0].reset_zone",
            ),
        ] {
            assert_eq!(refused(json.clone()).path, path, "{json}");
        }
    }
}
