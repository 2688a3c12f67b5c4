//! What methods cost.

use crate::profile::{FunctionCosts, Profile, ProfileError};
use crate::records::Records;
use crate::table::{Format, Table, grouped, percent, signed};
use serde::{Deserialize, Serialize};
use slackline_executor::trace::{CallEnded, CallTrace, HostUse};
use slackline_executor::{Address, Hash};
use slackline_testkit::record::{Execution, Kind};
use std::collections::{BTreeMap, BTreeSet};

/// Host functions that read storage.
const READS: [&str; 3] = ["storage_get", "storage_has", "storage_next"];
/// Host functions that write storage.
const WRITES: [&str; 2] = ["storage_set", "storage_delete"];

/// What the contracts of a run have cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The rules that it was made under: see [`crate::rules`].
    pub rules: String,
    /// By name.
    pub contracts: BTreeMap<String, Contract>,
    /// Transactions that called no contract.
    pub transfers: Option<Costs>,
    /// Tests that have executed something.
    pub tests: u64,
    /// What functions have used, by method, as in `amm.swap`, and name; if that was recorded. See [`Report::add_functions`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub functions: BTreeMap<String, BTreeMap<String, FunctionCosts>>,
}

/// What a contract has cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Contract {
    /// The size of its code, in bytes; `None` if it was not deployed by a transaction.
    pub code_bytes: Option<u64>,
    /// What transactions cost that deployed it.
    pub deployments: Option<Costs>,
    /// Its methods; `init` and `upgrade` when contracts called for them.
    pub methods: BTreeMap<String, BTreeMap<How, Costs>>,
}

/// How a method was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// By a transaction: the fuel is that of the receipt.
    Transaction,
    /// As a view.
    View,
    /// By a contract: the fuel is what the caller was charged.
    Contract,
}

impl How {
    /// As a word.
    pub fn name(self) -> &'static str {
        match self {
            How::Transaction => "tx",
            How::View => "view",
            How::Contract => "inner",
        }
    }
}

/// What some executions have cost, in fuel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// How many there were.
    pub calls: u64,
    /// Of these, those that reverted.
    pub reverts: u64,
    /// Of these, those that were aborted: they cost their limit, and are in `calls` and `sum`, in nothing else.
    pub aborts: u64,
    /// All together, those that were aborted too.
    pub sum: u64,
    /// The least.
    pub min: u64,
    /// The mean, rounded down.
    pub mean: u64,
    /// The median; of an even number, the mean of the middle two, rounded down.
    pub median: u64,
    /// The most.
    pub max: u64,
    /// What all that were not aborted consist of.
    pub split: Split,
}

/// What fuel went into.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// What transactions cost before they run a contract.
    pub transaction: u64,
    /// Wasm of the contract itself.
    pub wasm: u64,
    /// Host functions that read storage.
    pub reads: u64,
    /// Host functions that write storage.
    pub writes: u64,
    /// Other host functions.
    pub other_host: u64,
    /// Contracts that it called, with all that they did.
    pub callees: u64,
    /// Host functions by name, those of storage included.
    pub host: BTreeMap<String, HostUse>,
}

impl Split {
    fn add(&mut self, call: &CallTrace) {
        self.wasm += call.wasm_fuel();
        self.callees += call.callee_fuel();
        for (name, host) in &call.host {
            let sum = match name.as_str() {
                name if READS.contains(&name) => &mut self.reads,
                name if WRITES.contains(&name) => &mut self.writes,
                _ => &mut self.other_host,
            };
            *sum += host.fuel;
            let of = self.host.entry(name.clone()).or_default();
            of.calls += host.calls;
            of.fuel += host.fuel;
        }
    }

    /// All of it together.
    pub fn sum(&self) -> u64 {
        self.transaction + self.wasm + self.reads + self.writes + self.other_host + self.callees
    }
}

/// Costs while they are gathered.
#[derive(Default)]
struct Gathered {
    fuel: Vec<u64>,
    costs: Costs,
}

impl Gathered {
    fn add(&mut self, fuel: u64, ended: Ended, intrinsic: u64, call: Option<&CallTrace>) {
        self.costs.calls += 1;
        self.costs.sum += fuel;
        self.costs.reverts += u64::from(ended == Ended::Reverted);
        self.costs.aborts += u64::from(ended == Ended::Aborted);
        if ended != Ended::Aborted {
            self.fuel.push(fuel);
            self.costs.split.transaction += intrinsic;
            if let Some(call) = call {
                self.costs.split.add(call);
            }
        }
    }

    fn finish(mut self) -> Costs {
        let fuel = &mut self.fuel;
        fuel.sort_unstable();
        let costs = &mut self.costs;
        if let (Some(min), Some(max)) = (fuel.first(), fuel.last()) {
            (costs.min, costs.max) = (*min, *max);
            costs.mean = fuel.iter().sum::<u64>() / fuel.len() as u64;
            let (low, high) = (fuel[(fuel.len() - 1) / 2], fuel[fuel.len() / 2]);
            costs.median = low + (high - low) / 2;
        }
        self.costs
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Returned,
    Reverted,
    Aborted,
}

impl Report {
    /// Of a run of tests.
    pub fn of(records: &Records) -> Report {
        let names = records.names();
        let name = |hash: &Hash| {
            let named = names.get(hash).cloned();
            named.unwrap_or_else(|| hash.to_string()[..8].to_owned())
        };
        let mut methods: BTreeMap<(String, String, How), Gathered> = BTreeMap::new();
        let mut deployments: BTreeMap<String, Gathered> = BTreeMap::new();
        let mut transfers = Gathered::default();
        let mut tests = BTreeSet::new();
        for execution in &records.executions {
            tests.insert((&execution.program, &execution.test));
            let ended = match execution.outcome.as_str() {
                "success" => Ended::Returned,
                "revert" => Ended::Reverted,
                _ => Ended::Aborted,
            };
            let trace = execution.trace.as_ref();
            let code = execution.code.or(trace.map(|trace| trace.code));
            let method = execution.method.clone().unwrap_or_default();
            let gathered = match (execution.kind, code) {
                (Kind::Transfer, _) | (_, None) => &mut transfers,
                (Kind::Deploy, Some(code)) => deployments.entry(name(&code)).or_default(),
                (Kind::Call, Some(code)) => {
                    let key = (name(&code), method, How::Transaction);
                    methods.entry(key).or_default()
                }
                (Kind::View, Some(code)) => {
                    let key = (name(&code), method, How::View);
                    methods.entry(key).or_default()
                }
            };
            gathered.add(execution.fuel_used, ended, execution.intrinsic, trace);
            let mut inner: Vec<&CallTrace> = trace.into_iter().flat_map(CallTrace::calls).collect();
            while let Some(call) = inner.pop() {
                inner.extend(call.calls());
                let ended = match call.ended {
                    CallEnded::Returned(_) => Ended::Returned,
                    CallEnded::Reverted(_) => Ended::Reverted,
                    CallEnded::Aborted(_) => Ended::Aborted,
                };
                let key = (name(&call.code), call.method.clone(), How::Contract);
                let gathered = methods.entry(key).or_default();
                gathered.add(call.fuel_used, ended, 0, Some(call));
            }
        }
        let mut report = Report {
            rules: crate::rules(),
            transfers: (transfers.costs.calls > 0).then(|| transfers.finish()),
            tests: tests.len() as u64,
            contracts: BTreeMap::new(),
            functions: BTreeMap::new(),
        };
        for ((contract, method, how), gathered) in methods {
            let contract = report.contracts.entry(contract).or_default();
            let method = contract.methods.entry(method).or_default();
            method.insert(how, gathered.finish());
        }
        for (contract, gathered) in deployments {
            let contract = report.contracts.entry(contract).or_default();
            contract.deployments = Some(gathered.finish());
        }
        for (hash, code) in &records.codes {
            if let Some(contract) = report.contracts.get_mut(&name(hash)) {
                contract.code_bytes = Some(code.bytes);
            }
        }
        report
    }

    /// Adds what functions have used.
    ///
    /// # Errors
    ///
    /// Those of [`Profile::of`].
    pub fn add_functions(&mut self, records: &Records) -> Result<(), ProfileError> {
        self.functions = Profile::of(records, |_| true)?.functions_by_root();
        Ok(())
    }

    /// Keeps the contract or the method called `wanted`, as in `amm` or `amm.swap`.
    ///
    /// # Errors
    ///
    /// The names that there are, if that is none.
    pub fn only(&mut self, wanted: &str) -> Result<(), Vec<String>> {
        let (contract, method) = match wanted.split_once('.') {
            Some((contract, method)) => (contract, Some(method)),
            None => (wanted, None),
        };
        let all = || {
            let methods = self.contracts.iter().flat_map(|(name, contract)| {
                let methods = contract.methods.keys();
                std::iter::once(name.clone())
                    .chain(methods.map(move |method| format!("{name}.{method}")))
            });
            methods.collect()
        };
        let found = self.contracts.get(contract);
        let found =
            found.filter(|found| method.is_none_or(|method| found.methods.contains_key(method)));
        let Some(mut found) = found.cloned() else {
            return Err(all());
        };
        if let Some(method) = method {
            found.methods.retain(|name, _| name == method);
            found.deployments = None;
        }
        self.functions.retain(|root, _| match method {
            Some(_) => root.trim_end_matches(" (view)") == wanted,
            None => {
                let root = root.strip_prefix("deployment of ").unwrap_or(root);
                root.split('.').next() == Some(contract)
            }
        });
        self.contracts = BTreeMap::from([(contract.to_owned(), found)]);
        self.transfers = None;
        Ok(())
    }

    /// As tables, one for each contract; with `host`, one more for the host functions; one for functions, if there are any.
    pub fn render(&self, format: Format, host: bool) -> String {
        let mut text = String::new();
        for (name, contract) in &self.contracts {
            let bytes = contract
                .code_bytes
                .map(|bytes| format!("{} bytes", grouped(bytes)));
            let title = match bytes {
                Some(bytes) => format!("{name}, {bytes}"),
                None => name.clone(),
            };
            heading(&mut text, format, &title);
            text += &contract.table().render(format);
            text.push('\n');
            if host {
                let table = contract.host_table();
                if !table.is_empty() {
                    text += &table.render(format);
                    text.push('\n');
                }
            }
        }
        if let Some(transfers) = &self.transfers {
            let what = match transfers.calls {
                1 => "transaction that called no contract".to_owned(),
                calls => format!(
                    "transactions that called no contract: {} calls",
                    grouped(calls)
                ),
            };
            heading(&mut text, format, &what);
            let mut table = Table::new(1, ["", "calls", "min", "mean", "median", "max"]);
            let mut cells = vec![String::new()];
            cells.extend(transfers.stats());
            table.row(cells);
            text += &table.render(format);
            text.push('\n');
        }
        if !self.functions.is_empty() {
            text += &self.function_table().render(format);
            text.push('\n');
        }
        text
    }

    /// The functions of each method that have used at least a percent of it themselves, the dearest first.
    fn function_table(&self) -> Table {
        let mut table = Table::new(2, ["method", "function", "own", "%", "total"]);
        for (root, functions) in &self.functions {
            let all: u64 = functions.values().map(|costs| costs.own).sum();
            let mut rows: Vec<_> = functions.iter().collect();
            rows.retain(|(_, costs)| costs.own > 0 && costs.own >= all / 100);
            rows.sort_by_key(|(_, costs)| std::cmp::Reverse(costs.own));
            for (name, costs) in rows {
                let part = costs.own as f64 / all as f64 * 100.0;
                table.row([
                    root.clone(),
                    name.clone(),
                    grouped(costs.own),
                    format!("{part:.1}"),
                    grouped(costs.total),
                ]);
            }
        }
        table
    }

    /// What is different in `after`.
    pub fn diff(&self, after: &Report) -> ReportDiff {
        let mut rows = Vec::new();
        let keys = |report: &Report| {
            let of = |(name, contract): (&String, &Contract)| {
                let methods = contract
                    .methods
                    .iter()
                    .flat_map(|(method, hows)| hows.keys().map(|how| (method.clone(), Some(*how))));
                let deployed = contract
                    .deployments
                    .iter()
                    .map(|_| ("(deployment)".to_owned(), None));
                let name = name.clone();
                let keys: Vec<_> = deployed
                    .chain(methods)
                    .map(|(method, how)| (name.clone(), method, how))
                    .collect();
                keys
            };
            report
                .contracts
                .iter()
                .flat_map(of)
                .collect::<BTreeSet<_>>()
        };
        let get = |report: &Report, (contract, method, how): &(String, String, Option<How>)| {
            let contract = report.contracts.get(contract)?;
            match how {
                Some(how) => contract.methods.get(method)?.get(how).cloned(),
                None => contract.deployments.clone(),
            }
        };
        for key in keys(self).union(&keys(after)) {
            rows.push(DiffRow {
                before: get(self, key),
                after: get(after, key),
                contract: key.0.clone(),
                method: key.1.clone(),
                how: key.2,
            });
        }
        let sizes = self
            .contracts
            .keys()
            .chain(after.contracts.keys())
            .collect::<BTreeSet<_>>();
        let bytes = |report: &Report, name: &String| report.contracts.get(name)?.code_bytes;
        let sizes = sizes
            .into_iter()
            .map(|name| (name.clone(), bytes(self, name), bytes(after, name)));
        let costs = |report: &Report, (root, name): &(&String, &String)| {
            report.functions.get(*root)?.get(*name).copied()
        };
        let named = |report: &'_ Report| -> BTreeSet<(String, String)> {
            let of = |(root, functions): (&String, &BTreeMap<String, FunctionCosts>)| {
                let names = functions.keys();
                let names = names.map(|name| (root.clone(), name.clone()));
                names.collect::<Vec<_>>()
            };
            report.functions.iter().flat_map(of).collect()
        };
        // Without those of one, all would be new or gone.
        let both = !self.functions.is_empty() && !after.functions.is_empty();
        let names = both.then(|| &named(self) | &named(after));
        let functions = names.into_iter().flatten().map(|(root, name)| {
            let key = (&root, &name);
            let (before, after) = (costs(self, &key), costs(after, &key));
            FunctionRow {
                before,
                after,
                method: root,
                function: name,
            }
        });
        ReportDiff {
            sizes: sizes.collect(),
            functions: functions.collect(),
            rows,
        }
    }
}

fn heading(text: &mut String, format: Format, title: &str) {
    *text += &match format {
        Format::Text => format!("{title}\n"),
        Format::Markdown => format!("### {title}\n\n"),
    };
}

impl Costs {
    fn stats(&self) -> [String; 5] {
        let failed = match (self.reverts, self.aborts) {
            (0, 0) => String::new(),
            (reverts, 0) => format!(" ({reverts} reverted)"),
            (0, aborts) => format!(" ({aborts} aborted)"),
            (reverts, aborts) => format!(" ({reverts} reverted, {aborts} aborted)"),
        };
        [
            format!("{}{failed}", grouped(self.calls)),
            grouped(self.min),
            grouped(self.mean),
            grouped(self.median),
            grouped(self.max),
        ]
    }

    /// What they consist of, in percent.
    fn parts(&self) -> [String; 6] {
        let split = &self.split;
        let sum = split.sum();
        let parts = [
            split.transaction,
            split.wasm,
            split.reads,
            split.writes,
            split.other_host,
            split.callees,
        ];
        parts.map(|part| match (part, sum) {
            (0, _) | (_, 0) => "-".to_owned(),
            (part, sum) => format!("{:.1} %", part as f64 / sum as f64 * 100.0),
        })
    }
}

impl Contract {
    fn rows(&self) -> impl Iterator<Item = (&str, &'static str, &Costs)> {
        let deployments = self
            .deployments
            .iter()
            .map(|costs| ("(deployment)", "tx", costs));
        let methods = self.methods.iter().flat_map(|(method, hows)| {
            hows.iter()
                .map(move |(how, costs)| (method.as_str(), how.name(), costs))
        });
        deployments.chain(methods)
    }

    fn table(&self) -> Table {
        let head = [
            "method",
            "how",
            "calls",
            "min",
            "mean",
            "median",
            "max",
            "transaction",
            "wasm",
            "reads",
            "writes",
            "other host",
            "callees",
        ];
        let mut table = Table::new(2, head);
        for (method, how, costs) in self.rows() {
            let mut cells = vec![method.to_owned(), how.to_owned()];
            cells.extend(costs.stats());
            cells.extend(costs.parts());
            table.row(cells);
        }
        table
    }

    fn host_table(&self) -> Table {
        let mut table = Table::new(
            3,
            ["method", "how", "host function", "calls", "fuel", "of all"],
        );
        for (method, how, costs) in self.rows() {
            let mut host: Vec<_> = costs.split.host.iter().collect();
            host.sort_by_key(|(_, host)| std::cmp::Reverse(host.fuel));
            for (name, HostUse { calls, fuel }) in host {
                let part = *fuel as f64 / costs.split.sum() as f64 * 100.0;
                table.row([
                    method.to_owned(),
                    how.to_owned(),
                    name.clone(),
                    grouped(*calls),
                    grouped(*fuel),
                    format!("{part:.1} %"),
                ]);
            }
        }
        table
    }
}

/// Two reports, method by method.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReportDiff {
    /// Contracts, with the sizes of their code before and after, in bytes.
    pub sizes: Vec<(String, Option<u64>, Option<u64>)>,
    /// Methods of both.
    pub rows: Vec<DiffRow>,
    /// Functions of both, if both have them.
    pub functions: Vec<FunctionRow>,
}

/// A function before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FunctionRow {
    /// What was executed, as in `amm.swap`.
    pub method: String,
    /// The function.
    pub function: String,
    /// What it used before, if it was called.
    pub before: Option<FunctionCosts>,
    /// What it uses after, if it is called.
    pub after: Option<FunctionCosts>,
}

/// A method before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DiffRow {
    /// The contract.
    pub contract: String,
    /// The method, or `(deployment)`.
    pub method: String,
    /// How it was called; `None` for deployments.
    pub how: Option<How>,
    /// What it cost before, if it was called.
    pub before: Option<Costs>,
    /// What it costs after, if it is called.
    pub after: Option<Costs>,
}

impl DiffRow {
    fn is_same(&self) -> bool {
        self.before == self.after
    }
}

impl ReportDiff {
    /// Whether there is no difference.
    pub fn is_empty(&self) -> bool {
        self.rows.iter().all(DiffRow::is_same)
            && self.functions.iter().all(|row| row.before == row.after)
            && self.sizes.iter().all(|(_, before, after)| before == after)
    }

    /// What has changed, as a table; with `all`, what has not too.
    pub fn render(&self, format: Format, all: bool) -> String {
        let mut table = Table::new(
            2,
            ["method", "how", "median", "", "%", "max", "", "%", "mostly"],
        );
        for row in self.rows.iter().filter(|row| all || !row.is_same()) {
            let name = format!("{}.{}", row.contract, row.method);
            let how = row.how.map_or("tx", How::name);
            let cells = match (&row.before, &row.after) {
                (Some(before), Some(after)) => [
                    grouped(after.median),
                    signed(before.median, after.median),
                    percent(before.median, after.median),
                    grouped(after.max),
                    signed(before.max, after.max),
                    percent(before.max, after.max),
                    blame(before, after),
                ],
                (None, Some(after)) => {
                    let (median, max) = (grouped(after.median), grouped(after.max));
                    [
                        median,
                        "new".into(),
                        "".into(),
                        max,
                        "new".into(),
                        "".into(),
                        "".into(),
                    ]
                }
                _ => [
                    "-".into(),
                    "gone".into(),
                    "".into(),
                    "-".into(),
                    "gone".into(),
                    "".into(),
                    "".into(),
                ],
            };
            let mut line = vec![name, how.to_owned()];
            line.extend(cells);
            table.row(line);
        }
        let mut text = String::new();
        if table.is_empty() {
            text += "No method costs more or less.\n";
        } else {
            text += &table.render(format);
        }
        let mut sizes = Table::new(1, ["contract", "code bytes", "", "%"]);
        for (name, before, after) in &self.sizes {
            if let (Some(before), Some(after)) = (before, after)
                && (all || before != after)
            {
                sizes.row([
                    name.clone(),
                    grouped(*after),
                    signed(*before, *after),
                    percent(*before, *after),
                ]);
            }
        }
        if !sizes.is_empty() {
            text.push('\n');
            text += &sizes.render(format);
        }
        let functions = self.changed_functions(all);
        if !functions.is_empty() {
            text.push('\n');
            text += &functions.render(format);
        }
        text
    }

    /// Functions, those first whose own fuel has changed most. Those that only call what has changed are left out, unless `all` are asked for.
    fn changed_functions(&self, all: bool) -> Table {
        let own = |costs: &Option<FunctionCosts>| costs.map_or(0, |costs| costs.own);
        let total = |costs: &Option<FunctionCosts>| costs.map_or(0, |costs| costs.total);
        let changed = |row: &&FunctionRow| own(&row.before).abs_diff(own(&row.after));
        let mut rows: Vec<_> = self.functions.iter().collect();
        rows.retain(|row| all || changed(row) > 0);
        rows.sort_by_key(|row| std::cmp::Reverse(changed(row)));
        let head = ["method", "function", "own", "", "%", "total", ""];
        let mut table = Table::new(2, head);
        for row in rows {
            let (before, after) = (own(&row.before), own(&row.after));
            table.row([
                row.method.clone(),
                row.function.clone(),
                grouped(after),
                signed(before, after),
                percent(before, after),
                grouped(total(&row.after)),
                signed(total(&row.before), total(&row.after)),
            ]);
        }
        table
    }
}

/// The part whose mean has changed most.
fn blame(before: &Costs, after: &Costs) -> String {
    let parts = |costs: &Costs| {
        let split = &costs.split;
        let calls = (costs.calls - costs.aborts).max(1);
        let mut parts = BTreeMap::from([
            ("transaction".to_owned(), split.transaction / calls),
            ("wasm".to_owned(), split.wasm / calls),
            ("callees".to_owned(), split.callees / calls),
        ]);
        let host = split.host.iter();
        parts.extend(host.map(|(name, host)| (name.clone(), host.fuel / calls)));
        parts
    };
    let (before, after) = (parts(before), parts(after));
    let names = before.keys().chain(after.keys()).collect::<BTreeSet<_>>();
    let of = |parts: &BTreeMap<String, u64>, name: &String| parts.get(name).copied().unwrap_or(0);
    let most = names
        .into_iter()
        .max_by_key(|name| of(&before, name).abs_diff(of(&after, name)));
    match most {
        Some(name) if of(&before, name) != of(&after, name) => {
            format!("{name} {}", signed(of(&before, name), of(&after, name)))
        }
        _ => String::new(),
    }
}

/// The addresses that executions name, with what they are called: contracts by their code.
pub fn addresses(records: &Records) -> BTreeMap<Address, String> {
    let names = records.names();
    let of = |execution: &Execution| {
        let name = names.get(&execution.code?)?;
        Some((execution.contract?, name.clone()))
    };
    records.executions.iter().filter_map(of).collect()
}
