//! A queue's options.

use serde_json::{Map, Value, json};

use crate::MICROS_PER_SEC;
use crate::invalid::{Invalid, kind_of, member, quoted};
use crate::span::Span;

const DEFAULT_GRANULE_SECS: i64 = 60;
const DEFAULT_HORIZON: Span = Span {
    months: 12,
    days: 0,
    micros: 0,
};
const LONGEST_HORIZON: Span = Span {
    months: 12_000,
    days: 0,
    micros: 0,
};

/// What every granule divides, so that all queues agree on the granules' edges.
const QUARTER_HOUR_SECS: i64 = 900;

const KNOWN_KEYS: &str = "known options: granule, horizon";

/// A queue's options as they apply, defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// Resolution in which two free-form bookings may not coincide; divides 15 minutes.
    pub granule_secs: i64,
    /// How far ahead of now a seat is looked for.
    pub horizon: Span,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            granule_secs: DEFAULT_GRANULE_SECS,
            horizon: DEFAULT_HORIZON,
        }
    }
}

impl QueueOptions {
    /// Reads an options object; what it leaves out has its default.
    pub fn parse(json: &Value) -> Result<Self, Invalid> {
        Self::default().merge(json)
    }

    /// These options with the keys of `json` changed; a key that is JSON null gets its default back.
    pub fn merge(&self, json: &Value) -> Result<Self, Invalid> {
        let Value::Object(changes) = json else {
            return Err(
                Invalid::new("options", format!("must be a JSON object, not {}", kind_of(json)))
                    .with_hint(r#"such as {"granule": "1 minute", "horizon": "1 year"}"#),
            );
        };
        changes
            .iter()
            .try_fold(*self, |options, (key, value)| options.changed(key, value))
    }

    /// The object that [`QueueOptions::parse`] reads back unchanged.
    pub fn to_json(&self) -> Value {
        let granule = Span {
            months: 0,
            days: 0,
            micros: self.granule_secs.saturating_mul(MICROS_PER_SEC),
        };
        let fields = [("granule", granule), ("horizon", self.horizon)];
        Value::Object(
            fields
                .map(|(key, span)| (key.to_owned(), json!(span.to_string())))
                .into_iter()
                .collect::<Map<_, _>>(),
        )
    }

    fn changed(self, key: &str, value: &Value) -> Result<Self, Invalid> {
        let path = member("options", key);
        match key {
            "granule" => Ok(Self {
                granule_secs: granule(value, path)?,
                ..self
            }),
            "horizon" => Ok(Self {
                horizon: horizon(value, path)?,
                ..self
            }),
            "min_gap" => Err(Invalid::new(path, "is not supported yet")
                .with_hint("leave it out; slots of one timetable can be spaced in the timetable itself")),
            _ => Err(Invalid::new(path, "is not an option").with_hint(KNOWN_KEYS)),
        }
    }
}

fn granule(value: &Value, path: String) -> Result<i64, Invalid> {
    if value.is_null() {
        return Ok(DEFAULT_GRANULE_SECS);
    }
    let span = span(value, &path, "1 minute")?;
    span.as_fixed_micros()
        .filter(|micros| micros % MICROS_PER_SEC == 0)
        .map(|micros| micros / MICROS_PER_SEC)
        .filter(|&secs| secs > 0 && QUARTER_HOUR_SECS % secs == 0)
        .ok_or_else(|| {
            Invalid::new(
                path,
                format!("is {span}, which is not a whole number of seconds that divides 15 minutes"),
            )
            .with_hint("such as 1 second, 30 seconds, 1 minute, 5 minutes or 15 minutes")
        })
}

fn horizon(value: &Value, path: String) -> Result<Span, Invalid> {
    if value.is_null() {
        return Ok(DEFAULT_HORIZON);
    }
    let span = span(value, &path, "1 year")?;
    match (span.after(0), LONGEST_HORIZON.after(0)) {
        (Some(end), Some(longest)) if end <= longest => Ok(span),
        _ => Err(Invalid::new(path, format!("is {span}, longer than 1000 years"))),
    }
}

fn span(value: &Value, path: &str, example: &str) -> Result<Span, Invalid> {
    let problem = match value {
        Value::String(text) => match Span::parse(text) {
            Some(span) => return Ok(span),
            None => format!("is {}, which is not a positive length of time", quoted(text)),
        },
        other => format!("must be a length of time as text, not {}", kind_of(other)),
    };
    Err(Invalid::new(path, problem).with_hint(format!("such as \"{example}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: Value) -> Invalid {
        QueueOptions::parse(&json).unwrap_err()
    }

    #[test]
    fn an_empty_object_gives_the_defaults() {
        let options = QueueOptions::parse(&json!({})).unwrap();
        assert_eq!(options, QueueOptions::default());
        assert_eq!(options.to_json(), json!({"granule": "1 minute", "horizon": "1 year"}));
    }

    #[test]
    fn a_merge_changes_what_it_names_and_null_resets() {
        let first = QueueOptions::parse(&json!({"granule": "5 minutes", "horizon": "90 days"})).unwrap();
        let second = first.merge(&json!({"granule": null})).unwrap();
        assert_eq!(second.granule_secs, 60);
        assert_eq!(second.horizon, first.horizon);
        assert_eq!(QueueOptions::parse(&second.to_json()), Ok(second));
    }

    #[test]
    fn a_granule_divides_a_quarter_of_an_hour() {
        for good in ["1 second", "15 minutes", "00:00:30", "900s", "1.5 minutes"] {
            assert!(QueueOptions::parse(&json!({"granule": good})).is_ok(), "{good}");
        }
        for bad in [
            "7 minutes",
            "4.5 minutes",
            "30 minutes",
            "1 month",
            "0 s",
            "0.5 s",
            "1.5 s",
            "soon",
        ] {
            assert_eq!(refused(json!({"granule": bad})).path, "options.granule", "{bad}");
        }
        assert_eq!(refused(json!({"granule": 60})).path, "options.granule");
    }

    #[test]
    fn a_horizon_is_at_most_a_thousand_years() {
        assert!(QueueOptions::parse(&json!({"horizon": "1000 years"})).is_ok());
        for bad in ["1000 years 1 s", "400000 days", "2147483647 days", "", "0 days"] {
            assert_eq!(refused(json!({"horizon": bad})).path, "options.horizon", "{bad}");
        }
    }

    #[test]
    fn an_unknown_key_is_named_and_the_known_ones_listed() {
        let invalid = refused(json!({"granula": "1 minute"}));
        assert_eq!(invalid.path, "options.granula");
        assert_eq!(invalid.hint.as_deref(), Some(KNOWN_KEYS));
        assert!(
            refused(json!({"min_gap": "1 hour"}))
                .problem
                .contains("not supported yet")
        );
        assert_eq!(refused(json!([])).path, "options");
    }
}
