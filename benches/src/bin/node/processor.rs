//! Processor time of a process by component: its threads, by name. Linux's `/proc`.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;

/// Microseconds in a tick of `/proc`: its interface says 100 ticks a second on every machine (`USER_HZ`).
const TICK_US: f64 = 10_000.0;

/// Threads that have ended: those that execute blocks beside the producer, and of blocking calls.
const ENDED: &str = "(threads that have ended)";

/// What a process has used so far, in microseconds.
pub(crate) struct Sample {
    total: f64,
    threads: BTreeMap<u32, (String, f64)>,
}

/// The name and the time in a `stat` file (proc(5)): the name, which may hold anything, ends with the last bracket.
fn parse(stat: &str) -> Option<(String, f64)> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    // After the name: fields 3 and up. User and system time are 14 and 15.
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some((name.to_owned(), (ticks(14)? + ticks(15)?) * TICK_US))
}

/// What the numbers of threads have in common.
fn component(name: &str) -> String {
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-' || c == '#');
    name.to_owned()
}

impl Sample {
    pub(crate) fn of(process: u32) -> Result<Sample> {
        let path = format!("/proc/{process}");
        let stat = fs::read_to_string(format!("{path}/stat")).with_context(|| path.clone())?;
        let (_, total) = parse(&stat).with_context(|| format!("{path}/stat"))?;
        let tasks = fs::read_dir(format!("{path}/task")).with_context(|| path.clone())?;
        // A thread that ends meanwhile is not there any more.
        let threads = tasks.filter_map(|task| {
            let task = task.ok()?;
            let number = task.file_name().to_str()?.parse().ok()?;
            Some((
                number,
                parse(&fs::read_to_string(task.path().join("stat")).ok()?)?,
            ))
        });
        Ok(Sample {
            total,
            threads: threads.collect(),
        })
    }

    pub(crate) fn total(&self) -> f64 {
        self.total
    }

    /// What each component has used since `before`.
    pub(crate) fn since(&self, before: &Sample) -> BTreeMap<String, f64> {
        let mut parts = BTreeMap::new();
        for (number, (name, time)) in &self.threads {
            let earlier = before.threads.get(number).map_or(0.0, |(_, time)| *time);
            *parts.entry(component(name)).or_insert(0.0) += time - earlier;
        }
        let living: f64 = parts.values().sum();
        parts.insert(
            ENDED.to_owned(),
            (self.total - before.total - living).max(0.0),
        );
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_brackets_and_spaces() {
        let stat = "17 (a) b (c) S 1 1 1 0 -1 64 0 0 0 0 12 30 0 0 20 0 9 0 5";
        assert_eq!(parse(stat), Some(("a) b (c".to_owned(), 420_000.0)));
        assert_eq!(parse("17 (x"), None);
    }

    #[test]
    fn threads_are_added_up_by_name() {
        assert_eq!(component("slackline-worker-12"), "slackline-worker");
        let sample = |total, threads: &[(u32, &str, f64)]| Sample {
            total,
            threads: threads
                .iter()
                .map(|(n, name, time)| (*n, ((*name).to_owned(), *time)))
                .collect(),
        };
        let before = sample(10.0, &[(1, "w-1", 5.0), (2, "w-2", 5.0)]);
        let after = sample(40.0, &[(1, "w-1", 9.0), (3, "w-3", 6.0)]);
        let parts = after.since(&before);
        assert_eq!(parts["w"], 10.0);
        assert_eq!(parts[ENDED], 20.0);
    }
}
