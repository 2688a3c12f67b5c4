//! What each function and line of contracts has used, exactly.
//!
//! ```text
//!   CallTrace { functions, host, steps } ── Blocks, Symbols ──▶ Profile: a tree of frames, whose leaves add up to what
//!                                                                  │       the executions have used, to the unit
//!             ┌──────────────┬───────────────┬────────────────────┤
//!             ▼              ▼               ▼                    ▼
//!     flamegraph (SVG)   speedscope     pprof (protobuf)   Listing: fuel by line
//! ```

use crate::records::Records;
use crate::symbols::{Known, Symbols, SymbolsError};
use crate::table::grouped;
use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::json;
use slackline_executor::trace::{Blocks, CallEnded, CallTrace, Step, blocks};
use slackline_executor::{Hash, ProtocolParams};
use slackline_testkit::record::{Execution, Kind};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Debug information cannot be used.
    #[error(transparent)]
    Symbols(#[from] SymbolsError),
    /// Code that was deployed is missing from the records.
    #[error(
        "the records do not have the code with hash {0}: it was deployed in no test that is recorded"
    )]
    NoCode(Hash),
    /// Code in the records is no contract's.
    #[error("the code with hash {hash}: {reason}")]
    Code {
        /// Its hash.
        hash: Hash,
        /// What is wrong with it.
        reason: String,
    },
    /// The records say nothing about functions.
    #[error(
        "what was recorded says nothing about functions: record it with SLACKLINE_GAS_PROFILE=1, as `slackline gas profile` does"
    )]
    NotProfiled,
    /// The functions have used something else than their call: a bug.
    #[error(
        "the functions of {call} have used {counted} fuel, but it has used {used}: this is a bug of slackline"
    )]
    Inexact {
        /// The call.
        call: String,
        /// What was counted, in fuel.
        counted: u64,
        /// What it has used, in fuel.
        used: u64,
    },
    /// A picture could not be made.
    #[error("the picture could not be made: {0}")]
    Picture(std::io::Error),
}

/// What is known of a code.
struct Code {
    name: String,
    blocks: Blocks,
    symbols: Symbols,
}

/// Fuel by function and line.
#[derive(Debug)]
pub struct Profile {
    /// What is counted: `fuel`, or `samples`.
    unit: &'static str,
    /// The frame at 0 is all of it.
    nodes: Vec<Node>,
    /// For each code without complete debug information, its name and what there is.
    poor: BTreeMap<String, Known>,
    lines: BTreeMap<(Rc<str>, u32), Line>,
    files: BTreeMap<Rc<str>, PathBuf>,
    executions: u64,
}

#[derive(Debug, Default)]
struct Node {
    name: String,
    file: Option<Rc<str>>,
    parent: usize,
    children: BTreeMap<String, usize>,
    /// Without its children, in fuel.
    fuel: u64,
}

/// What a line of source has used, in fuel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The wasm of the line itself.
    pub own: u64,
    /// With host functions, inlined and other functions and contracts that it called.
    pub total: u64,
}

/// What a function has used, in fuel, in all that was executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionCosts {
    /// Itself.
    pub own: u64,
    /// With all that it called.
    pub total: u64,
}

/// Sums up profiles.
struct Builder<'a> {
    records: &'a Records,
    names: BTreeMap<Hash, String>,
    codes: HashMap<Hash, Rc<Code>>,
    profile: Profile,
}

/// The lines that are being executed, each once.
type Stack = BTreeSet<(Rc<str>, u32)>;

impl Profile {
    /// Of nothing.
    fn new(unit: &'static str) -> Profile {
        Profile {
            unit,
            nodes: vec![Node::default()],
            poor: BTreeMap::new(),
            lines: BTreeMap::new(),
            files: BTreeMap::new(),
            executions: 0,
        }
    }

    /// Of samples: contracts with their functions, and how often each was found executing. It counts samples where others count fuel.
    pub fn of_samples<'a>(samples: impl IntoIterator<Item = (&'a str, &'a str, u64)>) -> Profile {
        let mut profile = Profile::new("samples");
        for (contract, function, count) in samples {
            let contract = profile.child(0, contract, None);
            let function = profile.child(contract, function, None);
            profile.nodes[function].fuel += count;
        }
        profile
    }

    /// Of the executions that `chosen` chooses.
    ///
    /// # Errors
    ///
    /// See [`ProfileError`].
    pub fn of(
        records: &Records,
        chosen: impl Fn(&Execution) -> bool,
    ) -> Result<Profile, ProfileError> {
        let mut builder = Builder {
            records,
            names: records.names(),
            codes: HashMap::new(),
            profile: Profile::new("fuel"),
        };
        for execution in records.executions.iter().filter(|made| chosen(made)) {
            builder.execution(execution)?;
        }
        Ok(builder.profile)
    }

    fn child(&mut self, parent: usize, name: &str, file: Option<&Rc<str>>) -> usize {
        if let Some(child) = self.nodes[parent].children.get(name) {
            return *child;
        }
        let next = self.nodes.len();
        self.nodes[parent].children.insert(name.to_owned(), next);
        self.nodes.push(Node {
            name: name.to_owned(),
            file: file.cloned(),
            parent,
            ..Node::default()
        });
        next
    }

    /// How many executions it is of.
    pub fn executions(&self) -> u64 {
        self.executions
    }

    /// All fuel: the sum of the leaves.
    pub fn fuel(&self) -> u64 {
        self.nodes.iter().map(|node| node.fuel).sum()
    }

    /// The codes of which lines, or even names, are not known.
    pub fn poor(&self) -> impl Iterator<Item = (&str, Known)> {
        self.poor
            .iter()
            .map(|(name, known)| (name.as_str(), *known))
    }

    /// What has used fuel itself: the path to it, outermost first, and the fuel.
    pub fn leaves(&self) -> impl Iterator<Item = (Vec<&str>, u64)> {
        let leaves = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.fuel > 0);
        leaves.map(|(at, node)| {
            let path = self
                .path(at)
                .into_iter()
                .map(|at| self.nodes[at].name.as_str());
            (path.collect(), node.fuel)
        })
    }

    /// Nodes from the outermost to `at`, without the first of all.
    fn path(&self, mut at: usize) -> Vec<usize> {
        let mut path = Vec::new();
        while at != 0 {
            path.push(at);
            at = self.nodes[at].parent;
        }
        path.reverse();
        path
    }

    /// Each function, by what it has used itself and with all that it called (once, when it calls itself), in fuel: the dearest first.
    pub fn functions(&self) -> Vec<(String, u64, u64)> {
        let mut functions: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (path, fuel) in self.leaves() {
            if let Some(last) = path.last() {
                functions.entry(last).or_default().0 += fuel;
            }
            for name in path.into_iter().collect::<BTreeSet<_>>() {
                functions.entry(name).or_default().1 += fuel;
            }
        }
        let mut functions: Vec<_> = functions
            .into_iter()
            .map(|(name, (own, total))| (name.to_owned(), own, total))
            .collect();
        functions.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
        functions
    }

    /// The same by what was executed, the outermost frame, as in `amm.swap`.
    pub fn functions_by_root(&self) -> BTreeMap<String, BTreeMap<String, FunctionCosts>> {
        let mut roots: BTreeMap<String, BTreeMap<String, FunctionCosts>> = BTreeMap::new();
        for (path, fuel) in self.leaves() {
            let (Some(root), Some(last)) = (path.first(), path.last()) else {
                continue;
            };
            let functions = roots.entry((*root).to_owned()).or_default();
            for name in path[1..].iter().collect::<BTreeSet<_>>() {
                functions.entry((*name).to_owned()).or_default().total += fuel;
            }
            functions.entry((*last).to_owned()).or_default().own += fuel;
        }
        roots
    }

    /// Lines as flame graph tools read them: `a;b;c 123`.
    pub fn folded(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .leaves()
            .map(|(path, fuel)| {
                let path: Vec<String> = path.iter().map(|name| name.replace(';', ":")).collect();
                format!("{} {fuel}", path.join(";"))
            })
            .collect();
        lines.sort();
        lines
    }

    /// A flame graph, as SVG.
    ///
    /// # Errors
    ///
    /// [`ProfileError::Picture`].
    pub fn flamegraph(&self, title: &str) -> Result<String, ProfileError> {
        let mut options = inferno::flamegraph::Options::default();
        title.clone_into(&mut options.title);
        self.unit.clone_into(&mut options.count_name);
        // The same picture each time.
        options.deterministic = true;
        options.hash = true;
        options.min_width = 0.05;
        let folded = self.folded();
        let mut svg = Vec::new();
        let lines = folded.iter().map(String::as_str);
        inferno::flamegraph::from_lines(&mut options, lines, &mut svg)
            .map_err(ProfileError::Picture)?;
        Ok(String::from_utf8_lossy(&svg).into_owned())
    }

    /// A file for <https://www.speedscope.app>.
    pub fn speedscope(&self, name: &str) -> String {
        let frames: Vec<_> = self.nodes[1..]
            .iter()
            .map(|node| match &node.file {
                Some(file) => json!({ "name": node.name, "file": &**file }),
                None => json!({ "name": node.name }),
            })
            .collect();
        let (mut samples, mut weights) = (Vec::new(), Vec::new());
        for (at, node) in self.nodes.iter().enumerate() {
            if node.fuel > 0 {
                let path = self.path(at).into_iter().map(|at| at - 1);
                samples.push(path.collect::<Vec<_>>());
                weights.push(node.fuel);
            }
        }
        json!({
            "$schema": "https://www.speedscope.app/file-format-schema.json",
            "exporter": "slackline",
            "name": name,
            "shared": { "frames": frames },
            "profiles": [{
                "type": "sampled",
                "name": name,
                "unit": "none",
                "startValue": 0,
                "endValue": self.fuel(),
                "samples": samples,
                "weights": weights,
            }],
        })
        .to_string()
    }

    /// A file for pprof: a `perftools.profiles.Profile`, compressed by gzip.
    pub fn pprof(&self) -> Vec<u8> {
        let mut strings = vec![String::new()];
        let mut known = HashMap::new();
        let mut string = |text: &str| {
            *known.entry(text.to_owned()).or_insert_with(|| {
                strings.push(text.to_owned());
                strings.len() as i64 - 1
            })
        };
        let fuel = pprof::ValueType {
            r#type: string(self.unit),
            unit: string("count"),
        };
        let mut functions: BTreeMap<(String, Option<Rc<str>>), u64> = BTreeMap::new();
        let mut out = pprof::Profile {
            sample_type: vec![fuel.clone()],
            period_type: Some(fuel),
            period: 1,
            ..pprof::Profile::default()
        };
        for (at, node) in self.nodes.iter().enumerate() {
            if node.fuel == 0 {
                continue;
            }
            let mut location_id = Vec::new();
            for at in self.path(at).into_iter().rev() {
                let node = &self.nodes[at];
                let next = functions.len() as u64 + 1;
                let key = (node.name.clone(), node.file.clone());
                let id = *functions.entry(key).or_insert(next);
                if id == next {
                    out.function.push(pprof::Function {
                        id,
                        name: string(&node.name),
                        system_name: string(&node.name),
                        filename: string(node.file.as_deref().unwrap_or("")),
                        start_line: 0,
                    });
                    out.location.push(pprof::Location {
                        id,
                        line: vec![pprof::Line {
                            function_id: id,
                            line: 0,
                        }],
                    });
                }
                location_id.push(id);
            }
            out.sample.push(pprof::Sample {
                location_id,
                value: vec![i64::try_from(node.fuel).unwrap_or(i64::MAX)],
            });
        }
        out.string_table = strings;
        // Writing to memory cannot fail.
        let mut zipped = GzEncoder::new(Vec::new(), Compression::default());
        let _ = std::io::Write::write_all(&mut zipped, &out.encode_to_vec());
        zipped.finish().unwrap_or_default()
    }

    /// What each line of source has used.
    pub fn lines(&self) -> &BTreeMap<(Rc<str>, u32), Line> {
        &self.lines
    }

    /// The files whose lines have used something, as DWARF names them, and where they are, if they are on this machine.
    pub fn files(&self) -> impl Iterator<Item = (&str, Option<&Path>)> {
        let files: BTreeSet<&Rc<str>> = self.lines.keys().map(|(file, _)| file).collect();
        let path = |file: &Rc<str>| self.files.get(file).map(PathBuf::as_path);
        files.into_iter().map(move |file| (&**file, path(file)))
    }

    /// A file with what each of its lines has used; lines far from any that has are left out. `None` if the file is not on this
    /// machine.
    pub fn listing(&self, file: &str) -> Option<String> {
        const AROUND: usize = 2;
        let source = std::fs::read(self.files.get(file)?).ok()?;
        let source = String::from_utf8_lossy(&source);
        let source: Vec<&str> = source.lines().collect();
        let used: BTreeMap<usize, Line> = self
            .lines
            .iter()
            .filter(|((of, _), _)| &**of == file)
            .map(|((_, line), used)| (*line as usize, *used))
            .collect();
        let own: u64 = used.values().map(|line| line.own).sum();
        let mut text = format!("{file}: {} fuel in its own lines\n", grouped(own));
        let _ = writeln!(text, "{:>15} {:>15}  line", "own", "total");
        let mut skipped = false;
        for (number, line) in (1usize..).zip(&source) {
            let near = number.saturating_sub(AROUND)..=number + AROUND;
            if used.range(near).next().is_none() {
                skipped = true;
                continue;
            }
            if std::mem::take(&mut skipped) {
                let _ = writeln!(text, "{:>15} {:>15}     ⋮", "", "");
            }
            let shown = |fuel: u64| {
                if fuel == 0 {
                    String::new()
                } else {
                    grouped(fuel)
                }
            };
            let Line { own, total } = used.get(&number).copied().unwrap_or_default();
            let row = format!(
                "{:>15} {:>15} {number:>5}  {line}",
                shown(own),
                shown(total)
            );
            let _ = writeln!(text, "{}", row.trim_end());
        }
        Some(text)
    }
}

impl Builder<'_> {
    fn code(&mut self, hash: &Hash) -> Result<Rc<Code>, ProfileError> {
        if let Some(code) = self.codes.get(hash) {
            return Ok(code.clone());
        }
        let recorded = self
            .records
            .codes
            .get(hash)
            .ok_or(ProfileError::NoCode(*hash))?;
        let wasm = std::fs::read(&recorded.file).map_err(|source| SymbolsError::Io {
            path: recorded.file.clone(),
            source,
        })?;
        let blocks = blocks(&wasm, &ProtocolParams::v1());
        let code = Rc::new(Code {
            name: self.names.get(hash).cloned().unwrap_or_default(),
            blocks: blocks.map_err(|reason| ProfileError::Code {
                hash: *hash,
                reason,
            })?,
            symbols: Symbols::of(recorded)?,
        });
        let known = code.symbols.known();
        if known != Known::Lines {
            self.profile.poor.insert(code.name.clone(), known);
        }
        self.codes.insert(*hash, code.clone());
        Ok(code)
    }

    fn execution(&mut self, execution: &Execution) -> Result<(), ProfileError> {
        self.profile.executions += 1;
        let code = execution
            .code
            .or(execution.trace.as_ref().map(|trace| trace.code));
        let name = match code {
            Some(hash) => self.code(&hash)?.name.clone(),
            None => String::new(),
        };
        let method = execution.method.as_deref().unwrap_or("transfer");
        let root = match execution.kind {
            Kind::Transfer => "transfer".to_owned(),
            Kind::Deploy => format!("deployment of {name}"),
            Kind::Call => format!("{name}.{method}"),
            Kind::View => format!("{name}.{method} (view)"),
        };
        let root = self.profile.child(0, &root, None);
        if execution.intrinsic > 0 {
            let leaf = self.profile.child(root, "(transaction)", None);
            self.profile.nodes[leaf].fuel += execution.intrinsic;
        }
        match &execution.trace {
            Some(trace) => self.call(trace, root, &Stack::new()),
            None => Ok(()),
        }
    }

    /// Adds what is used at `offset` in a function called from `base` on the lines of `stack`. Returns the node and the lines there.
    fn place(
        &mut self,
        code: &Code,
        function: u32,
        offset: u32,
        (base, stack): (usize, &Stack),
    ) -> (usize, Stack, Option<(Rc<str>, u32)>) {
        let (mut at, mut stack) = (base, stack.clone());
        let mut innermost = None;
        for frame in code.symbols.frames(function, offset).iter() {
            let file = frame.line.as_ref().map(|(file, _)| file);
            at = self.profile.child(at, &frame.function, file);
            if let Some((file, line)) = &frame.line {
                if !self.profile.files.contains_key(file)
                    && let Some(path) = code.symbols.source(file)
                {
                    self.profile.files.insert(file.clone(), path);
                }
                stack.insert((file.clone(), *line));
                innermost = Some((file.clone(), *line));
            }
        }
        (at, stack, innermost)
    }

    /// Adds fuel to a node, and to the lines on which it was used.
    fn add(&mut self, at: usize, stack: &Stack, own: Option<(Rc<str>, u32)>, fuel: u64) {
        self.profile.nodes[at].fuel += fuel;
        if let Some(line) = own {
            self.profile.lines.entry(line).or_default().own += fuel;
        }
        for line in stack {
            self.profile.lines.entry(line.clone()).or_default().total += fuel;
        }
    }

    /// Adds a call, whose frames go under `base`.
    fn call(&mut self, call: &CallTrace, base: usize, stack: &Stack) -> Result<(), ProfileError> {
        if call.functions.is_empty() && call.wasm_fuel() > 0 && call.fuel_limit > call.fuel_used {
            return Err(ProfileError::NotProfiled);
        }
        let code = self.code(&call.code)?;
        // Of each function on its path: where its frames go, and the lines that have led there.
        let mut bases: Vec<(usize, Stack)> = Vec::new();
        let mut counted = 0;
        for function in &call.functions {
            let from = match (function.caller, function.site) {
                (Some(caller), Some(site)) => {
                    let caller_function = call.functions.get(caller as usize);
                    let from = bases.get(caller as usize).cloned();
                    match (caller_function, from) {
                        (Some(caller), Some((at, stack))) => {
                            let offset = site_offset(&code.blocks, site);
                            let from = (at, &stack);
                            let (at, stack, _) = self.place(&code, caller.function, offset, from);
                            (at, stack)
                        }
                        _ => (base, stack.clone()),
                    }
                }
                _ => (base, stack.clone()),
            };
            // Operators on the same place together.
            let mut at_offset: BTreeMap<u32, u64> = BTreeMap::new();
            for (number, count) in &function.blocks {
                let block = code.blocks.blocks.get(*number as usize);
                for (offset, fuel) in block.into_iter().flat_map(|block| &block.operators) {
                    *at_offset.entry(*offset).or_default() += u64::from(*fuel) * count;
                }
            }
            for (number, fuel) in &function.bulk {
                if let Some(bulk) = code.blocks.bulk.get(*number as usize) {
                    *at_offset.entry(bulk.offset).or_default() += fuel;
                }
            }
            for (offset, fuel) in at_offset {
                counted += fuel;
                let from = (from.0, &from.1);
                let (at, stack, own) = self.place(&code, function.function, offset, from);
                self.add(at, &stack, own, fuel);
            }
            for (site, host) in &function.host {
                let offset = site_offset(&code.blocks, *site);
                let from = (from.0, &from.1);
                let (at, stack, _) = self.place(&code, function.function, offset, from);
                for (name, host) in host {
                    counted += host.fuel;
                    let leaf = self.profile.child(at, &format!("host: {name}"), None);
                    self.add(leaf, &stack, None, host.fuel);
                }
            }
            for (site, step) in &function.calls {
                let Some(Step::Call(callee)) = call.steps.get(*step as usize) else {
                    continue;
                };
                counted += callee.fuel_used;
                let offset = site_offset(&code.blocks, *site);
                let from = (from.0, &from.1);
                let (at, stack, _) = self.place(&code, function.function, offset, from);
                let name = self.code(&callee.code)?.name.clone();
                let at = self
                    .profile
                    .child(at, &format!("{name}.{}", callee.method), None);
                self.call(callee, at, &stack)?;
            }
            bases.push(from);
        }
        // What an abort takes besides what was executed; and what making the instance cost, before any function.
        let name = match call.ended {
            CallEnded::Aborted(_) => "(lost by the abort)",
            _ => "(instance)",
        };
        let rest = call.fuel_used.checked_sub(counted);
        let rest = rest.ok_or_else(|| ProfileError::Inexact {
            call: format!("{}.{}", code.name, call.method),
            counted,
            used: call.fuel_used,
        })?;
        if rest > 0 {
            let leaf = self.profile.child(base, name, None);
            self.add(leaf, stack, None, rest);
        }
        Ok(())
    }
}

/// The offset of the call that a block ends with.
fn site_offset(blocks: &Blocks, site: u32) -> u32 {
    let block = blocks.blocks.get(site as usize);
    let last = block.and_then(|block| block.operators.last());
    last.map_or(0, |(offset, _)| *offset)
}

/// The messages of `profile.proto` that are needed: <https://github.com/google/pprof/blob/main/proto/profile.proto>.
mod pprof {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Profile {
        #[prost(message, repeated, tag = "1")]
        pub(super) sample_type: Vec<ValueType>,
        #[prost(message, repeated, tag = "2")]
        pub(super) sample: Vec<Sample>,
        #[prost(message, repeated, tag = "4")]
        pub(super) location: Vec<Location>,
        #[prost(message, repeated, tag = "5")]
        pub(super) function: Vec<Function>,
        #[prost(string, repeated, tag = "6")]
        pub(super) string_table: Vec<String>,
        #[prost(message, optional, tag = "11")]
        pub(super) period_type: Option<ValueType>,
        #[prost(int64, tag = "12")]
        pub(super) period: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ValueType {
        #[prost(int64, tag = "1")]
        pub(super) r#type: i64,
        #[prost(int64, tag = "2")]
        pub(super) unit: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Sample {
        /// The innermost first.
        #[prost(uint64, repeated, tag = "1")]
        pub(super) location_id: Vec<u64>,
        #[prost(int64, repeated, tag = "2")]
        pub(super) value: Vec<i64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Location {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(message, repeated, tag = "4")]
        pub(super) line: Vec<Line>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Line {
        #[prost(uint64, tag = "1")]
        pub(super) function_id: u64,
        #[prost(int64, tag = "2")]
        pub(super) line: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Function {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(int64, tag = "2")]
        pub(super) name: i64,
        #[prost(int64, tag = "3")]
        pub(super) system_name: i64,
        #[prost(int64, tag = "4")]
        pub(super) filename: i64,
        #[prost(int64, tag = "5")]
        pub(super) start_line: i64,
    }
}
