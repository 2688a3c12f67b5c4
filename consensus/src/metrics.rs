//! The engine's metrics. They are in a registry of the whole process, with the node's moniker on each; an engine that was
//! stopped leaves its own there, so of samples with one name the last counts.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How old an answer of [`safety_failure`] or [`peers`] may be.
const FRESH: Duration = Duration::from_millis(250);

fn export() -> String {
    let mut text = String::new();
    malachite_channel::app::metrics::export(&mut text);
    text
}

/// The registry escapes nothing, and [`Config::check`](crate::Config::check) lets nothing through that would need it.
fn label(moniker: &str) -> String {
    format!("moniker=\"{moniker}\"")
}

fn value(export: &str, moniker: &str, name: &str) -> Option<u64> {
    let label = label(moniker);
    export
        .lines()
        .rfind(|line| line.starts_with(name) && line.contains(&label))
        .and_then(|line| line.rsplit_once(' '))
        .and_then(|(_, value)| value.parse().ok())
}

/// An export that those who ask often share: it is of all engines that the process has had.
struct Shared(Mutex<Option<(Instant, String)>>);

static SHARED: Shared = Shared(Mutex::new(None));

impl Shared {
    /// The value in an export that `make` has made less than `fresh` ago, or makes now.
    fn value(
        &self,
        fresh: Duration,
        make: impl FnOnce() -> String,
        moniker: &str,
        name: &str,
    ) -> Option<u64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, _)) = &*last
            && at.elapsed() >= fresh
        {
            *last = None;
        }
        // The time after it: that an export is slow is no reason to make more of them.
        let (_, export) = last.get_or_insert_with(|| {
            let export = make();
            (Instant::now(), export)
        });
        value(export, moniker, name)
    }
}

/// Whether the engine signs nothing more, as of at most [`FRESH`] ago.
pub(crate) fn safety_failure(moniker: &str) -> bool {
    let name = "malachitebft_core_consensus_node_safety_failure";
    SHARED.value(FRESH, export, moniker, name) == Some(1)
}

/// Peers connected, as of at most [`FRESH`] ago.
pub(crate) fn peers(moniker: &str) -> u64 {
    let name = "malachitebft_core_consensus_connected_peers";
    SHARED.value(FRESH, export, moniker, name).unwrap_or(0)
}

/// All of a node.
pub(crate) fn text(moniker: &str) -> String {
    only(&export(), moniker)
}

#[derive(Default)]
struct Family {
    comments: Vec<String>,
    samples: Vec<(String, String)>,
}

fn only(all: &str, moniker: &str) -> String {
    let label = label(moniker);
    let mut families: Vec<(String, Family)> = Vec::new();
    let mut current = String::new();
    for line in all.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            // `HELP name text`, `TYPE name kind`, `UNIT name unit`, `EOF`.
            let Some(name) = comment.split(' ').nth(1) else {
                continue;
            };
            current = name.to_owned();
            let family = family(&mut families, &current);
            if !family.comments.iter().any(|c| c == line) {
                family.comments.push(line.to_owned());
            }
        } else if let Some((name, value)) = line.rsplit_once(' ')
            && (name.contains(&label) || !name.contains("moniker="))
        {
            let family = family(&mut families, &current);
            match family.samples.iter_mut().find(|(n, _)| n == name) {
                Some(sample) => sample.1 = value.to_owned(),
                None => family.samples.push((name.to_owned(), value.to_owned())),
            }
        }
    }
    let mut text = String::new();
    for (_, family) in families.iter().filter(|(_, f)| !f.samples.is_empty()) {
        for comment in &family.comments {
            let _ = writeln!(text, "{comment}");
        }
        for (name, value) in &family.samples {
            let _ = writeln!(text, "{name} {value}");
        }
    }
    text
}

fn family<'a>(families: &'a mut Vec<(String, Family)>, name: &str) -> &'a mut Family {
    let index = families.iter().position(|(n, _)| n == name);
    let index = index.unwrap_or_else(|| {
        families.push((name.to_owned(), Family::default()));
        families.len() - 1
    });
    &mut families[index].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_made_once_for_all_who_ask_in_time() {
        let shared = Shared(Mutex::new(None));
        let mut made = 0;
        let mut ask = |fresh, name| {
            let make = || {
                made += 1;
                format!("peers{{moniker=\"x\"}} {made}\nfailed{{moniker=\"x\"}} {made}\n")
            };
            shared.value(fresh, make, "x", name)
        };
        assert_eq!(ask(Duration::MAX, "peers"), Some(1));
        assert_eq!(ask(Duration::MAX, "failed"), Some(1));
        assert_eq!(ask(Duration::ZERO, "peers"), Some(2));
    }

    #[test]
    fn of_a_process_with_many_nodes_one_is_shown_and_its_last_run() {
        let all = "# HELP a_height Height.\n# TYPE a_height gauge\na_height{moniker=\"x\"} 3\n\
                   # HELP a_height Height.\n# TYPE a_height gauge\na_height{moniker=\"y\"} 4\n\
                   # HELP a_height Height.\n# TYPE a_height gauge\na_height{moniker=\"x\"} 5\n# EOF\n";
        let expected =
            "# HELP a_height Height.\n# TYPE a_height gauge\na_height{moniker=\"x\"} 5\n";
        assert_eq!(super::only(all, "x"), expected);
        assert_eq!(super::only(all, "z"), "");
    }
}
