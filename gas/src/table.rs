//! Tables, as text and as Markdown.

use std::fmt::Write;

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Columns of a terminal.
    Text,
    /// A table of Markdown, as on GitHub.
    Markdown,
}

/// A table; the first columns are aligned to the left, others to the right.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Columns aligned to the left.
    left: usize,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns, of which the first `left` are text and the others numbers.
    pub fn new<S: Into<String>>(left: usize, head: impl IntoIterator<Item = S>) -> Table {
        Table {
            left,
            head: head.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table, with a line break at its end.
    pub fn render(&self, format: Format) -> String {
        let width = |column: usize| {
            let cells = std::iter::once(&self.head).chain(&self.rows);
            let lengths = cells
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count());
            lengths.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut text = String::new();
        let mut line = |cells: &[String]| {
            let padded = cells.iter().enumerate().map(|(column, cell)| {
                let width = widths.get(column).copied().unwrap_or(0);
                if column < self.left {
                    format!("{cell:width$}")
                } else {
                    format!("{cell:>width$}")
                }
            });
            let padded: Vec<String> = padded.collect();
            // Writing to a string cannot fail.
            let _ = match format {
                Format::Text => writeln!(text, "{}", padded.join("  ").trim_end()),
                Format::Markdown => writeln!(text, "| {} |", padded.join(" | ")),
            };
        };
        line(&self.head);
        if format == Format::Markdown {
            let rules = widths.iter().enumerate().map(|(column, width)| {
                let rule = "-".repeat((*width).max(3) - 1);
                if column < self.left {
                    format!(":{rule}")
                } else {
                    format!("{rule}:")
                }
            });
            line(&rules.collect::<Vec<_>>());
        }
        for row in &self.rows {
            line(row);
        }
        text
    }
}

/// Digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (digit, left) in digits.chars().zip((0..digits.len()).rev()) {
        shown.push(digit);
        if left > 0 && left % 3 == 0 {
            shown.push(',');
        }
    }
    shown
}

/// What has changed, with a sign: `+1,234`.
pub fn signed(before: u64, after: u64) -> String {
    match after.cmp(&before) {
        std::cmp::Ordering::Greater => format!("+{}", grouped(after - before)),
        std::cmp::Ordering::Less => format!("-{}", grouped(before - after)),
        std::cmp::Ordering::Equal => "0".to_owned(),
    }
}

/// The same in percent of what it was before, to two places.
pub fn percent(before: u64, after: u64) -> String {
    if before == 0 {
        return if after == 0 {
            "0.00 %".to_owned()
        } else {
            "new".to_owned()
        };
    }
    let change = (after as f64 - before as f64) / before as f64 * 100.0;
    format!("{change:+.2} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let mut table = Table::new(1, ["name", "n"]);
        table.row(["a", "1,000"]);
        table.row(["longer", "7"]);
        assert_eq!(
            table.render(Format::Text),
            "name        n\na       1,000\nlonger      7\n"
        );
        assert_eq!(
            table.render(Format::Markdown),
            "| name   |     n |\n| :----- | ----: |\n| a      | 1,000 |\n| longer |     7 |\n"
        );
    }

    #[test]
    fn changes_are_signed() {
        assert_eq!(
            (signed(5, 5), percent(5, 5)),
            ("0".to_owned(), "+0.00 %".to_owned())
        );
        assert_eq!(
            (signed(2000, 1000), percent(2000, 1000)),
            ("-1,000".to_owned(), "-50.00 %".to_owned())
        );
        assert_eq!(
            (signed(0, 7), percent(0, 7)),
            ("+7".to_owned(), "new".to_owned())
        );
    }
}
