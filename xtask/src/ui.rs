//! What a person sees: headings, steps, notes. On a terminal with colour and spinners, in a log plainly.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

/// Whether standard output is a terminal that wants colour.
pub(crate) fn fancy() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() && std::env::var_os("CI").is_none()
}

fn paint(code: &str, text: &str) -> String {
    if fancy() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// A heading that is found again when scrolling through a long log.
pub(crate) fn heading(text: &str) {
    let rule = "─".repeat(76_usize.saturating_sub(text.chars().count()));
    println!("\n{}", paint("1;36", &format!("── {text} {rule}")));
}

/// Something that happened as it should.
pub(crate) fn done(text: &str) {
    println!("{} {text}", paint("32", "✓"));
}

/// Something that did not.
pub(crate) fn failed(text: &str) {
    println!("{} {text}", paint("1;31", "✗"));
}

/// Something worth knowing, on standard error, so that `psql`'s output stays clean.
pub(crate) fn note(text: &str) {
    eprintln!("note: {text}");
}

/// An error with the chain of what was being done.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {}", cause.to_string().replace('\n', "\n  "));
    }
}

/// A table in the look that all of xtask's tables have.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    table
}

/// Seconds as people read them.
pub(crate) fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(120) {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

/// Runs one step: a spinner while it lasts on a terminal, one line when it is done everywhere.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let spinner = fancy().then(|| {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    });
    let result = work();
    if let Some(bar) = spinner {
        bar.finish_and_clear();
    }
    let took = started.elapsed();
    match &result {
        Ok(_) if took < Duration::from_millis(950) => done(what),
        Ok(_) => done(&format!("{what} ({})", seconds(took))),
        Err(_) => failed(what),
    }
    result
}
