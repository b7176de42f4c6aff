//! Values that a dependent row takes from rows stored before it: `$.col` of the first row, `$1.col` of the first
//! dependent.

/// What the text of a value means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// This text.
    Text(&'a str),
    /// A column of a stored row: 0 is the first row, 1 the first dependent.
    Column {
        /// Which row.
        row: usize,
        /// Which of its columns.
        column: &'a str,
    },
}

/// Reads a value. A text that would be a reference is written with one more `$` in front: `$$.id` is the text `$.id`.
/// What only begins like one (`$5.00`) is text.
pub fn meaning(text: &str) -> Meaning<'_> {
    let Some(rest) = text.strip_prefix('$') else {
        return Meaning::Text(text);
    };
    if let Some((row, column)) = reference(rest) {
        return Meaning::Column { row, column };
    }
    let escaped = rest.trim_start_matches('$');
    if escaped.len() < rest.len() && reference(escaped).is_some() {
        return Meaning::Text(rest);
    }
    Meaning::Text(text)
}

fn reference(rest: &str) -> Option<(usize, &str)> {
    let (row, column) = rest.split_once('.')?;
    let row = match row {
        "" => 0,
        number if number.bytes().all(|digit| digit.is_ascii_digit()) && !number.starts_with('0') => {
            number.parse().ok()?
        }
        _ => return None,
    };
    let mut characters = column.chars();
    let first = characters.next()?;
    let plain = (first.is_alphabetic() || first == '_') && characters.all(|c| c.is_alphanumeric() || c == '_');
    plain.then_some((row, column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_what_only_looks_like_one() {
        let column = |row, column| Meaning::Column { row, column };
        assert_eq!(meaning("$.id"), column(0, "id"));
        assert_eq!(meaning("$1.communityId"), column(1, "communityId"));
        assert_eq!(meaning("$12._x"), column(12, "_x"));
        for text in [
            "", "$", "id", "$5.00", "$.", "$1", "$x.id", "$01.id", "$0.id", "$.a b", " $.id", "$-1.id", "$$", "$$x",
        ] {
            assert_eq!(meaning(text), Meaning::Text(text), "{text}");
        }
        assert_eq!(
            meaning("$99999999999999999999999.id"),
            Meaning::Text("$99999999999999999999999.id")
        );
    }

    #[test]
    fn one_dollar_more_makes_text_of_a_reference() {
        assert_eq!(meaning("$$.id"), Meaning::Text("$.id"));
        assert_eq!(meaning("$$$1.id"), Meaning::Text("$$1.id"));
    }
}
