//! What an application wants of a column whose slugs are kept for it.

use super::{FALLBACK, LONGEST, Rules, slugify};
use crate::invalid::{Invalid, element, kind_of, member, quoted};
use serde_json::Value;

const WORDS: &str = r#"such as ["one", "other"]"#;
const KNOWN_KEYS: &str = "known options: scope, max_length, reserved, fallback, on_update";

/// Length where the options don't say.
pub const DEFAULT_LENGTH: usize = 80;

/// The options of an attached column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Columns that slugs are unique together with.
    pub scope: Vec<String>,
    /// Length, reserved words and fallback.
    pub rules: Rules,
    /// Whether a changed source gets another slug.
    pub refresh: bool,
}

impl Attachment {
    /// Reads options; what they leave out is as in `rules`.
    pub fn parse(json: &Value, rules: Rules) -> Result<Self, Invalid> {
        let Value::Object(options) = json else {
            return Err(
                Invalid::new("p_options", format!("must be an object, not {}", kind_of(json)))
                    .with_hint(r#"such as {"scope": ["tenant_id"], "max_length": 60}"#),
            );
        };
        let mut read = Self {
            scope: Vec::new(),
            rules,
            refresh: false,
        };
        for (key, value) in options {
            let path = member("p_options", key);
            match key.as_str() {
                "scope" => read.scope = words(value, &path)?,
                "max_length" => read.rules.max_length = length(value, path)?,
                "reserved" => read.rules.reserve(words(value, &path)?.iter().map(String::as_str)),
                "fallback" => read.rules.fallback = fallback(value, path)?,
                "on_update" => {
                    read.refresh = match value.as_str() {
                        Some("keep") => false,
                        Some("refresh") => true,
                        _ => {
                            return Err(
                                Invalid::new(path, format!("is {}", shown(value))).with_hint("allowed: keep, refresh")
                            );
                        }
                    }
                }
                _ => return Err(Invalid::new(path, "is not an option").with_hint(KNOWN_KEYS)),
            }
        }
        Ok(read)
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| kind_of(value).to_owned(), quoted)
}

/// A word, or a list of words.
fn words(value: &Value, path: &str) -> Result<Vec<String>, Invalid> {
    let word = |value: &Value, path: String| match value {
        Value::String(word) if !word.is_empty() => Ok(word.clone()),
        Value::String(_) => Err(Invalid::new(path, "must not be empty").with_hint(WORDS)),
        other => Err(Invalid::new(path, format!("must be a string, not {}", kind_of(other))).with_hint(WORDS)),
    };
    match value {
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(n, value)| word(value, element(path, n)))
            .collect(),
        value => Ok(vec![word(value, path.to_owned())?]),
    }
}

fn length(value: &Value, path: String) -> Result<usize, Invalid> {
    value
        .as_u64()
        .and_then(|length| usize::try_from(length).ok())
        .filter(|length| (1..=LONGEST).contains(length))
        .ok_or_else(|| {
            Invalid::new(path, format!("must be a whole number from 1 to {LONGEST}"))
                .with_hint("characters, the number at the end included")
        })
}

fn fallback(value: &Value, path: String) -> Result<String, Invalid> {
    value
        .as_str()
        .filter(|word| !slugify(word, LONGEST).is_empty())
        .map(str::to_owned)
        .ok_or_else(|| {
            Invalid::new(path, "must be a word with a letter or a digit").with_hint(format!("such as \"{FALLBACK}\""))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(json: &Value) -> Result<Attachment, String> {
        Attachment::parse(json, Rules::new(DEFAULT_LENGTH)).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let read = parse(&json!({})).unwrap();
        assert_eq!(read.rules, Rules::new(80));
        assert!(read.scope.is_empty() && !read.refresh);
    }

    #[test]
    fn options_are_read() {
        let read = parse(
            &json!({"scope": "tenant", "max_length": 9, "reserved": ["New", "log in"], "fallback": "Post", "on_update": "refresh"}),
        );
        let read = read.unwrap();
        assert_eq!(read.scope, ["tenant"]);
        assert!(read.refresh && read.rules.reserved.contains("log-in") && read.rules.max_length == 9);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (options, problem) in [
            (json!([]), "p_options: must be an object, not an array"),
            (json!({"scopes": []}), "p_options.scopes: is not an option"),
            (
                json!({"scope": [7]}),
                "p_options.scope[0]: must be a string, not a number",
            ),
            (json!({"scope": null}), "p_options.scope: must be a string, not null"),
            (json!({"reserved": [""]}), "p_options.reserved[0]: must not be empty"),
            (
                json!({"max_length": 0}),
                "p_options.max_length: must be a whole number from 1 to 255",
            ),
            (
                json!({"max_length": "9"}),
                "p_options.max_length: must be a whole number from 1 to 255",
            ),
            (
                json!({"fallback": "?"}),
                "p_options.fallback: must be a word with a letter or a digit",
            ),
            (json!({"on_update": "never"}), "p_options.on_update: is \"never\""),
            (json!({"on_update": 1}), "p_options.on_update: is a number"),
        ] {
            assert_eq!(parse(&options), Err(problem.to_owned()));
        }
    }
}
