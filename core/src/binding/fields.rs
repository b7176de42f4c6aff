//! Reading an options object key by key, naming the path of whatever is refused.

use super::{From, StateColumns, StateValue, Variable};
use crate::invalid::{Invalid, kind_of, member, quoted};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The longest predicate.
const MAX_TEXT: usize = 10_000;

pub(super) struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
    known: BTreeSet<&'static str>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(path: &str, json: &'a Value, example: &str) -> Result<Self, Invalid> {
        match json {
            Value::Object(map) => Ok(Self {
                path: path.to_owned(),
                map,
                known: BTreeSet::new(),
            }),
            other => {
                Err(Invalid::new(path, format!("must be a JSON object, not {}", kind_of(other))).with_hint(example))
            }
        }
    }

    pub(super) fn invalid(&self, key: &str, problem: impl Into<String>) -> Invalid {
        Invalid::new(member(&self.path, key), problem)
    }

    fn get(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.insert(key);
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whatever is there.
    pub(super) fn json(&mut self, key: &'static str) -> Option<Value> {
        self.get(key).cloned()
    }

    /// A text that is not blank.
    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>, Invalid> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => self.checked_text(key, value).map(Some),
        }
    }

    fn checked_text(&self, key: &str, value: &Value) -> Result<String, Invalid> {
        match value {
            Value::String(text) if text.trim().is_empty() => Err(self.invalid(key, "must not be empty")),
            Value::String(text) if text.len() > MAX_TEXT => {
                Err(self.invalid(key, format!("has {} bytes; at most {MAX_TEXT} are allowed", text.len())))
            }
            Value::String(text) if text.contains('\0') => Err(self.invalid(key, "contains a zero byte")),
            Value::String(text) => Ok(text.clone()),
            other => Err(self.invalid(key, format!("must be a string, not {}", kind_of(other)))),
        }
    }

    pub(super) fn required_name(&mut self, key: &'static str) -> Result<String, Invalid> {
        self.text(key)?
            .ok_or_else(|| self.invalid(key, "is missing").with_hint("name the column"))
    }

    /// A column's name, or `{"value": "…"}`.
    pub(super) fn source(&mut self, key: &'static str) -> Result<Option<From>, Invalid> {
        match self.get(key) {
            None => Ok(None),
            Some(value @ Value::String(_)) => Ok(Some(From::Column(self.checked_text(key, value)?))),
            Some(Value::Object(map)) if map.len() == 1 && map.contains_key("value") => match map.get("value") {
                Some(value @ Value::String(_)) => Ok(Some(From::Value(self.checked_text(key, value)?))),
                _ => Err(self.invalid(key, "must have a string as its value")),
            },
            Some(_) => Err(self
                .invalid(key, "must be a column's name or a constant")
                .with_hint(format!(
                    "such as {key:?}: \"column\" or {key:?}: {{\"value\": \"text\"}}"
                ))),
        }
    }

    pub(super) fn required_source(&mut self, key: &'static str) -> Result<From, Invalid> {
        self.source(key)?.ok_or_else(|| {
            self.invalid(key, "is missing")
                .with_hint("name the column, or give a constant as {\"value\": \"…\"}")
        })
    }

    pub(super) fn word<T: Copy>(&mut self, key: &'static str, default: T, words: &[(&str, T)]) -> Result<T, Invalid> {
        let Some(text) = self.text(key)? else {
            return Ok(default);
        };
        words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value)
            .ok_or_else(|| {
                let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                self.invalid(key, format!("is {}", quoted(&text)))
                    .with_hint(format!("allowed: {}", allowed.join(", ")))
            })
    }

    pub(super) fn object(&mut self, key: &'static str) -> Result<Option<Fields<'a>>, Invalid> {
        let path = member(&self.path, key);
        match self.get(key) {
            None => Ok(None),
            Some(value) => Fields::of(&path, value, "an object is expected here").map(Some),
        }
    }

    /// Named predicates, in the order of their names.
    pub(super) fn predicates(&mut self, key: &'static str) -> Result<Vec<(String, String)>, Invalid> {
        let Some(fields) = self.object(key)? else {
            return Ok(Vec::new());
        };
        fields
            .map
            .iter()
            .map(|(name, value)| {
                if name.trim().is_empty() {
                    return Err(fields.invalid(name, "is no name"));
                }
                Ok((name.clone(), fields.checked_text(name, value)?))
            })
            .collect()
    }

    /// What a state writes: columns by name.
    pub(super) fn state_values(&mut self) -> Result<StateColumns, Invalid> {
        let one = |(column, value): (&String, &Value)| {
            let value = match value {
                Value::Null => StateValue::Null,
                Value::String(text) if text.starts_with('$') => {
                    let known = Variable::ALL.iter().find(|(name, _)| name == text);
                    let Some((_, variable)) = known else {
                        let names: Vec<&str> = Variable::ALL.iter().map(|(name, _)| *name).collect();
                        return Err(self
                            .invalid(column, format!("{} is unknown", quoted(text)))
                            .with_hint(format!("known: {}", names.join(", "))));
                    };
                    StateValue::Variable(*variable)
                }
                Value::String(text) => StateValue::Literal(text.clone()),
                Value::Bool(value) => StateValue::Literal(value.to_string()),
                Value::Number(number) => StateValue::Literal(number.to_string()),
                json @ (Value::Array(_) | Value::Object(_)) => StateValue::Literal(json.to_string()),
            };
            Ok((column.clone(), value))
        };
        self.map.iter().map(one).collect()
    }

    /// Refuses keys that nobody has asked for.
    pub(super) fn done(self) -> Result<(), Invalid> {
        match self.map.keys().find(|key| !self.known.contains(key.as_str())) {
            None => Ok(()),
            Some(unknown) => {
                let known: Vec<&str> = self.known.iter().copied().collect();
                Err(self
                    .invalid(unknown, "is not an option")
                    .with_hint(format!("known: {}", known.join(", "))))
            }
        }
    }
}
