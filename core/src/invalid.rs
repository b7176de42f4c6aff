//! Why a JSON argument was refused.

use std::fmt;

use serde_json::Value;

/// A refused JSON argument: where, what, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The place inside the argument, such as `timetable.mon-fri[2].capacity`.
    pub path: String,
    /// What is wrong there, as a clause that follows the path.
    pub problem: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Invalid {
    pub(crate) fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
            hint: None,
        }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl std::error::Error for Invalid {}

/// Longest piece of foreign text that a message repeats.
const QUOTED_CHARS: usize = 60;

/// `path.key`; a key that would not read as a path is quoted, a long one is cut.
pub(crate) fn member(path: &str, key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ',');
    if !key.is_empty() && key.len() <= QUOTED_CHARS && key.chars().all(plain) {
        format!("{path}.{key}")
    } else {
        format!("{path}.{}", quoted(key))
    }
}

/// `path[index]`.
pub(crate) fn element(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// `text` in double quotes, escaped and cut to a length fit for a message.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
    }
}

/// What a JSON value is, for "must be …, not …".
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(n) if n.is_f64() && integer(value).is_none() => "a number that is no integer, or too large",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The integer that a JSON value is, however it is spelled (`2`, `2.0`). Of those with a point only what a double tells apart
/// from its neighbours.
pub(crate) fn integer(value: &Value) -> Option<i128> {
    const EXACT: f64 = (1_u64 << 53) as f64;
    let number = value.as_number()?;
    let whole = || number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() <= EXACT);
    number.as_i128().or_else(|| whole().map(|n| n as i128))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_integer_may_have_a_point() {
        for (value, read) in [
            (json!(2), Some(2)),
            (json!(2.0), Some(2)),
            (json!(-0.0), Some(0)),
            (json!(u64::MAX), Some(u64::MAX.into())),
            (json!(i64::MIN), Some(i64::MIN.into())),
            (json!(2.5), None),
            (json!(1e30), None),
            (json!("2"), None),
            (json!(null), None),
        ] {
            assert_eq!(integer(&value), read, "{value}");
        }
    }

    #[test]
    fn a_path_quotes_keys_that_are_no_plain_words() {
        assert_eq!(member("timetable", "mon-fri,sun"), "timetable.mon-fri,sun");
        assert_eq!(member("timetable", "a b"), "timetable.\"a b\"");
        assert_eq!(member("timetable", ""), "timetable.\"\"");
    }

    #[test]
    fn foreign_text_is_cut_at_a_character() {
        let cut = quoted(&"ü".repeat(1000));
        assert_eq!(cut.chars().count(), QUOTED_CHARS + 3);
    }
}
