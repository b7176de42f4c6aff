//! A rule that no linter knows: SQL in `src/` names the schema of every operator. A kept plan is parsed again under the caller's
//! search_path, and an operator of the caller's that is found there runs with whatever rights the statement has.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// What looks an operator up by its bare name. `OPERATOR(pg_catalog.=)` is how it is said.
const BARE: [&str; 10] = [
    " <> ",
    " < ",
    " > ",
    " <= ",
    " >= ",
    " || ",
    " IS DISTINCT FROM ",
    " IS NOT DISTINCT FROM ",
    " BETWEEN ",
    " LIKE ",
];

/// The places in a folder's Rust files where SQL leaves the schema of an operator to the search_path.
pub(super) fn bare_operators(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in rust_files(folder)? {
        let source = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        for (line, what) in in_source(&source) {
            found.push(format!("{}:{line}: {what}", file.display()));
        }
    }
    Ok(found)
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn in_source(source: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (start, literal) in literals(source) {
        let is_sql = ["SELECT ", "UPDATE slotkeeper.", "INSERT INTO ", "DELETE FROM "];
        if !is_sql.iter().any(|verb| literal.contains(verb)) {
            continue;
        }
        for (place, what) in in_statement(literal) {
            let line = source[..start + place].matches('\n').count() + 1;
            found.push((line, what.trim().to_owned()));
        }
    }
    found
}

/// The texts between quotes, and where each begins. Comments and characters are passed over.
fn literals(source: &str) -> Vec<(usize, &str)> {
    let bytes = source.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"//") {
            at += bytes[at..].iter().position(|&b| b == b'\n').unwrap_or(bytes.len() - at);
        } else if bytes[at..].starts_with(b"'\"'") {
            at += 3;
        } else if bytes[at] == b'"' {
            let start = at + 1;
            at = start;
            while at < bytes.len() && bytes[at] != b'"' {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            found.push((start, source.get(start..at).unwrap_or_default()));
            at += 1;
        } else {
            at += 1;
        }
    }
    found
}

fn in_statement(sql: &str) -> Vec<(usize, &str)> {
    let spaced = sql.replace('\n', " ");
    let mut found: Vec<(usize, &str)> = BARE
        .iter()
        .flat_map(|what| spaced.match_indices(what).map(|(place, _)| (place, *what)))
        .collect();
    // An equals sign also gives a column its value.
    found.extend(
        spaced
            .match_indices(" = ")
            .filter(|(place, _)| !is_assigned(&spaced[..*place])),
    );
    found.sort_unstable();
    found
        .into_iter()
        .filter_map(|(place, _)| {
            let text = sql.get(place..)?;
            Some((place, text.get(..text.len().min(40)).unwrap_or(text)))
        })
        .collect()
}

/// Whether the last word that says what an equals sign means is SET, or the END of what another column is set to.
fn is_assigned(before: &str) -> bool {
    let words = [
        "SET", "WHERE", "AND", "OR", "ON", "WHEN", "HAVING", "SELECT", "NOT", "END",
    ];
    let mut before = before.split_whitespace().map(|word| word.trim_matches([',', ')']));
    matches!(before.rfind(|word| words.contains(word)), Some("SET" | "END"))
}

#[cfg(test)]
mod tests {
    use super::in_source;

    fn lines(source: &str) -> Vec<usize> {
        in_source(source).into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn qualified_operators_and_assignments_pass() {
        let source = "c\"UPDATE slotkeeper.t SET a = $1, b = CASE WHEN c IS NULL THEN 1 END, c = f($1)\nWHERE d OPERATOR(pg_catalog.=) $2\"";
        assert_eq!(lines(source), [0_usize; 0]);
        assert_eq!(
            lines("// \"SELECT 1 WHERE a = b\"\nlet a = b; let c = '\"'; x(\"a = b\")"),
            [0_usize; 0]
        );
    }

    #[test]
    fn bare_ones_are_found_where_they_stand() {
        assert_eq!(lines("\n\"SELECT 1\nWHERE a = b\""), [3]);
        assert_eq!(lines("c\"UPDATE slotkeeper.t SET a = 1 WHERE b = 2\""), [1]);
        assert_eq!(lines("\"SELECT 1 WHERE a IS DISTINCT FROM b\""), [1]);
        assert_eq!(lines("\"DELETE FROM slotkeeper.t WHERE a < 1\n AND b LIKE c\""), [1, 2]);
    }
}
