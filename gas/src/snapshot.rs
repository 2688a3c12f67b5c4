//! The fuel of each test, in a file to commit.
//!
//! ```text
//! # slackline gas snapshot 1, protocol 1 0123abcd
//! example_amm::tokens_go_in_are_swapped_and_come_out (fuel: 12345678)
//! example_amm::tokens_go_in_are_swapped_and_come_out / swap (fuel: 345678)
//! ```
//!
//! A line for each test, and one for each of its measured sections. The fuel is that of all transactions and views, but for the unmetered.

use crate::records::{Records, test_id};
use crate::table::{Table, grouped, percent, signed};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What the first line of a snapshot begins with.
const HEADER: &str = "# slackline gas snapshot 1, ";

/// The fuel of each test and measured section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    rules: String,
    /// In fuel.
    tests: BTreeMap<String, u64>,
}

/// Why a file is no snapshot that can be compared.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// It does not begin as one.
    #[error(
        "it does not begin with `{HEADER}…`: it is no snapshot, or one of another version of slackline. Make it anew"
    )]
    Header,
    /// It was made when things cost something else.
    #[error(
        "it is stale: made under {was}, where things cost something else than under {is}. Make it anew"
    )]
    Rules {
        /// The rules that it was made under.
        was: String,
        /// Those of this program.
        is: String,
    },
    /// A line is no entry.
    #[error("line {line} is not of the form `test (fuel: 123)`: {text:?}")]
    Line {
        /// The line, counted from 1.
        line: usize,
        /// What it says.
        text: String,
    },
    /// A test is there twice.
    #[error("line {line}: {name:?} is there already")]
    Twice {
        /// The line, counted from 1.
        line: usize,
        /// The test.
        name: String,
    },
}

/// In which order a snapshot or a comparison is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By name.
    #[default]
    Name,
    /// The cheapest, or what has changed least, first.
    Ascending,
    /// The dearest, or what has changed most, first.
    Descending,
}

impl Snapshot {
    /// Of a run of tests.
    pub fn of(records: &Records) -> Snapshot {
        let mut tests: BTreeMap<String, u64> = BTreeMap::new();
        for execution in &records.executions {
            let test = test_id(execution);
            let mut name = test.clone();
            for scope in &execution.scopes {
                name = format!("{name} / {scope}");
                *tests.entry(name.clone()).or_default() += execution.fuel_used;
            }
            *tests.entry(test).or_default() += execution.fuel_used;
        }
        Snapshot {
            rules: crate::rules(),
            tests,
        }
    }

    /// Reads a file's text.
    ///
    /// # Errors
    ///
    /// See [`ParseError`].
    pub fn parse(text: &str) -> Result<Snapshot, ParseError> {
        let mut lines = text.lines().zip(1..);
        let rules = lines.next().and_then(|(line, _)| line.strip_prefix(HEADER));
        let rules = rules.ok_or(ParseError::Header)?.trim_end().to_owned();
        let is = crate::rules();
        if rules != is {
            return Err(ParseError::Rules { was: rules, is });
        }
        let mut tests = BTreeMap::new();
        for (text, line) in lines {
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            let entry = text.trim_end().rsplit_once(" (fuel: ");
            let entry = entry.and_then(|(name, fuel)| {
                let fuel = fuel.strip_suffix(')')?.parse::<u64>().ok()?;
                Some((name.to_owned(), fuel))
            });
            let (name, fuel) = entry.ok_or_else(|| {
                let text = text.to_owned();
                ParseError::Line { line, text }
            })?;
            if tests.insert(name.clone(), fuel).is_some() {
                return Err(ParseError::Twice { line, name });
            }
        }
        Ok(Snapshot { rules, tests })
    }

    /// How many tests and sections there are.
    pub fn len(&self) -> usize {
        self.tests.len()
    }

    /// The tests and sections.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tests.keys().map(String::as_str)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }

    /// The fuel of a test, or of a section: `test / section`.
    pub fn fuel(&self, name: &str) -> Option<u64> {
        self.tests.get(name).copied()
    }

    /// Keeps what costs from `least` to `most`.
    pub fn retain(&mut self, least: u64, most: u64) {
        self.tests.retain(|_, fuel| (least..=most).contains(fuel));
    }

    /// As a file.
    pub fn to_text(&self, order: Order) -> String {
        let mut tests: Vec<(&String, &u64)> = self.tests.iter().collect();
        // Stable: those of the same fuel stay in the order of their names.
        match order {
            Order::Name => {}
            Order::Ascending => tests.sort_by_key(|(_, fuel)| **fuel),
            Order::Descending => tests.sort_by_key(|(_, fuel)| std::cmp::Reverse(**fuel)),
        }
        let mut text = format!("{HEADER}{}\n", self.rules);
        for (name, fuel) in tests {
            text += &format!("{name} (fuel: {fuel})\n");
        }
        text
    }

    /// What is different in `after`.
    pub fn diff(&self, after: &Snapshot) -> SnapshotDiff {
        let names: BTreeSet<&String> = self.tests.keys().chain(after.tests.keys()).collect();
        let rows = names.into_iter().map(|name| Row {
            name: name.clone(),
            before: self.fuel(name),
            after: after.fuel(name),
        });
        SnapshotDiff {
            rows: rows.collect(),
        }
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text(Order::Name))
    }
}

/// What has become of a test.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    /// The test or section.
    pub name: String,
    /// Its fuel before, if it was there.
    pub before: Option<u64>,
    /// Its fuel after, if it still is.
    pub after: Option<u64>,
}

impl Row {
    fn change(&self) -> u64 {
        match (self.before, self.after) {
            (Some(before), Some(after)) => before.abs_diff(after),
            (Some(fuel), None) | (None, Some(fuel)) => fuel,
            (None, None) => 0,
        }
    }
}

/// Two snapshots, test by test.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SnapshotDiff {
    /// All tests of both, by name.
    pub rows: Vec<Row>,
}

impl SnapshotDiff {
    /// The tests whose fuel has changed by more than `tolerance` percent of what it was, and those that one snapshot does not have.
    pub fn beyond(&self, tolerance: f64) -> SnapshotDiff {
        let rows = self
            .rows
            .iter()
            .filter(|row| match (row.before, row.after) {
                (Some(before), Some(after)) => {
                    before != after
                        && before.abs_diff(after) as f64 > before as f64 * tolerance / 100.0
                }
                _ => true,
            });
        SnapshotDiff {
            rows: rows.cloned().collect(),
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As a table.
    pub fn table(&self, order: Order) -> Table {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        match order {
            Order::Name => {}
            Order::Ascending => rows.sort_by_key(|row| row.change()),
            Order::Descending => rows.sort_by_key(|row| std::cmp::Reverse(row.change())),
        }
        let mut table = Table::new(1, ["test", "before", "after", "change", "%"]);
        for row in rows {
            let shown = |fuel: Option<u64>| fuel.map_or_else(|| "-".to_owned(), grouped);
            let (change, part) = match (row.before, row.after) {
                (Some(before), Some(after)) => (signed(before, after), percent(before, after)),
                (None, _) => ("new".to_owned(), String::new()),
                (_, None) => ("gone".to_owned(), String::new()),
            };
            table.row([
                row.name.clone(),
                shown(row.before),
                shown(row.after),
                change,
                part,
            ]);
        }
        table
    }
}

/// What a tolerance may be, in percent.
///
/// # Errors
///
/// A text to show, for what is none.
pub fn tolerance(text: &str) -> Result<f64, String> {
    let text = text.trim_end_matches('%').trim();
    match text.parse::<f64>() {
        Ok(percent) if percent.is_finite() && percent >= 0.0 => Ok(percent),
        _ => Err("a tolerance is a percentage from 0, as in 2.5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

    use super::*;
    use proptest::prelude::*;

    fn snapshot(tests: &[(&str, u64)]) -> Snapshot {
        Snapshot {
            rules: crate::rules(),
            tests: tests
                .iter()
                .map(|(name, fuel)| ((*name).to_owned(), *fuel))
                .collect(),
        }
    }

    #[test]
    fn files_are_sorted_as_asked() {
        let snapshot = snapshot(&[("a::x", 30), ("b::y", 10), ("b::z", 20)]);
        let names = |order| {
            let text = snapshot.to_text(order);
            let lines = text
                .lines()
                .skip(1)
                .map(|line| line.split(' ').next().unwrap().to_owned());
            lines.collect::<Vec<_>>()
        };
        assert_eq!(names(Order::Name), ["a::x", "b::y", "b::z"]);
        assert_eq!(names(Order::Ascending), ["b::y", "b::z", "a::x"]);
        assert_eq!(names(Order::Descending), ["a::x", "b::z", "b::y"]);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let good = snapshot(&[("a::x", 1)]).to_string();
        for (text, expected) in [
            (String::new(), "does not begin with"),
            ("a::x (fuel: 1)\n".to_owned(), "does not begin with"),
            (format!("{HEADER}protocol 0 00000000\n"), "stale"),
            (format!("{good}a::y fuel 7\n"), "line 3 is not"),
            (format!("{good}a::y (fuel: -7)\n"), "line 3 is not"),
            (
                format!("{good}a::x (fuel: 7)\n"),
                "line 3: \"a::x\" is there already",
            ),
        ] {
            let error = Snapshot::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn changes_within_the_tolerance_are_none() {
        let before = snapshot(&[
            ("a", 1000),
            ("b", 1000),
            ("c", 1000),
            ("gone", 1),
            ("zero", 0),
        ]);
        let after = snapshot(&[
            ("a", 1010),
            ("b", 989),
            ("c", 1000),
            ("new", 1),
            ("zero", 0),
        ]);
        let diff = before.diff(&after);
        let names = |tolerance| {
            let rows = diff.beyond(tolerance).rows;
            rows.into_iter().map(|row| row.name).collect::<Vec<_>>()
        };
        assert_eq!(names(0.0), ["a", "b", "gone", "new"]);
        assert_eq!(names(1.0), ["b", "gone", "new"]);
        assert_eq!(names(1.1), ["gone", "new"]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(tests in proptest::collection::btree_map("[a-z:_]{1,12}( / [a-z ()]{1,8}[a-z])?", any::<u64>(), 0..20)) {
            let snapshot = Snapshot { rules: crate::rules(), tests };
            for order in [Order::Name, Order::Ascending, Order::Descending] {
                prop_assert_eq!(Snapshot::parse(&snapshot.to_text(order)).unwrap(), snapshot.clone());
            }
        }
    }
}
