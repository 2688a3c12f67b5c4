//! What commands print: a table for people or JSON for programs.

use anyhow::Context;
use serde::Serialize;
use serde_json::json;
use slackline_client::Error;
use slackline_node::rpc::types::{OutcomeJson, OutcomeKind};
use std::fmt::Display;
use std::io::{ErrorKind, Write};

/// Where results go.
pub(crate) struct Output {
    json: bool,
    /// Whether standard error has a log for programs, lines of another form in which they would not understand.
    logs: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Output {
        Output { json, logs: false }
    }

    /// From here on what goes wrong is a line of the log.
    pub(crate) fn log_errors(&mut self) {
        self.logs = true;
    }

    /// Tells that the process ends because of `reason`: on standard error.
    pub(crate) fn failure(&self, reason: &dyn Display) {
        // A log that nothing gets into has no reason either.
        if self.logs && tracing::enabled!(tracing::Level::ERROR) {
            tracing::error!(%reason, "ends");
        } else {
            eprintln!("error: {reason}");
        }
    }

    /// Whether JSON was asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints `answer`: as JSON if that was asked for, else as the table that `table` makes.
    pub(crate) fn show<T: Serialize>(
        &self,
        answer: &T,
        table: impl FnOnce(&T) -> Table,
    ) -> anyhow::Result<()> {
        if self.json {
            print(&(serde_json::to_string_pretty(answer)? + "\n"))
        } else {
            print(&table(answer).to_string())
        }
    }

    /// Tells what went wrong: on standard error, and as JSON on standard output if that was asked for and the node said
    /// it.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let remote = error.downcast_ref::<Error>();
        if self.json
            && let Some(object) = remote.and_then(Error::object)
        {
            // If standard output is gone, standard error still says it.
            let _ = print(&format!("{:#}\n", json!({ "error": object })));
        }
        self.failure(&format_args!("{error:#}"));
        if let Some(Error::Unreachable { .. }) = remote {
            eprintln!("(is one running? `slackline dev` starts one; --rpc says where to look)");
        }
    }
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("standard output")
        }
        _ => Ok(()),
    }
}

/// Rows of a label and a value, aligned.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<(String, String)>);

impl Table {
    pub(crate) fn row(&mut self, label: impl Display, value: impl Display) -> &mut Table {
        self.0.push((label.to_string(), value.to_string()));
        self
    }

    /// How an execution ended.
    pub(crate) fn outcome(&mut self, outcome: &OutcomeJson) -> &mut Table {
        match (outcome.outcome, &outcome.message, &outcome.abort) {
            (OutcomeKind::Success, _, _) => self.row("outcome", "success"),
            (OutcomeKind::Revert, Some(message), _) => {
                self.row("outcome", format!("reverted: {}", printable(message)))
            }
            (OutcomeKind::Revert, None, _) => {
                self.row("outcome", format!("reverted with 0x{}", outcome.data))
            }
            (OutcomeKind::Abort, _, Some(abort)) => {
                self.row("outcome", format!("aborted: {}", printable(&abort.text)))
            }
            (OutcomeKind::Abort, _, None) => self.row("outcome", "aborted"),
        }
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self
            .0
            .iter()
            .map(|(label, _)| label.len())
            .max()
            .unwrap_or_default();
        for (label, value) in &self.0 {
            writeln!(f, "{label:width$}  {value}")?;
        }
        Ok(())
    }
}

/// Text from a contract: must not move the cursor of the terminal that it is shown on.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Digits in groups of three.
pub(crate) fn grouped(number: impl Into<u128>) -> String {
    let digits = number.into().to_string();
    let mut shown = String::new();
    for (digit, left) in digits.chars().zip((0..digits.len()).rev()) {
        shown.push(digit);
        if left > 0 && left % 3 == 0 {
            shown.push(',');
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, shown) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1234567, "1,234,567"),
        ] {
            assert_eq!(grouped(number as u64), shown);
        }
    }

    #[test]
    fn terminals_are_left_alone() {
        assert_eq!(printable("a\u{1b}[2Jé\n"), "a\\u{1b}[2Jé\\n");
    }

    #[test]
    fn tables_are_aligned() {
        let mut table = Table::default();
        table.row("a", 1).row("long", "x");
        assert_eq!(table.to_string(), "a     1\nlong  x\n");
    }
}
