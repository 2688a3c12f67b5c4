//! What the code of a contract was compiled from: names, and with DWARF files, lines and inlined functions.

use gimli::{EndianArcSlice, LittleEndian};
use slackline_contract_build::SOURCES_SECTION;
use slackline_testkit::record::Code;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use wasmparser::{KnownCustom, Name, Parser, Payload};

type Reader = EndianArcSlice<LittleEndian>;

/// A function that was executing at some place, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame {
    /// Its name.
    pub function: String,
    /// Where in the source, if DWARF says it: the file as that has it, and the line.
    pub line: Option<(Rc<str>, u32)>,
}

/// What is known of a code's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Known {
    /// Nothing: functions have numbers.
    Nothing,
    /// The names of functions.
    Names,
    /// Files and lines too.
    Lines,
}

/// Why debug information cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SymbolsError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file with debug information is of other code.
    #[error("{} is of other code than what was deployed: the contract has been compiled again since. Run the tests again", path.display())]
    Other {
        /// Which.
        path: PathBuf,
    },
    /// A file is no WebAssembly.
    #[error("{}: {reason}", path.display())]
    NotWasm {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: wasmparser::BinaryReaderError,
    },
    /// The debug information makes no sense.
    #[error("{}: the debug information cannot be read: {reason}", path.display())]
    Dwarf {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: gimli::Error,
    },
}

/// What has been looked up: the frames at an address, by the function and the offset in it.
type Cache = HashMap<(u32, u32), Rc<[Frame]>>;

/// The source of a code.
pub struct Symbols {
    names: BTreeMap<u32, String>,
    dwarf: Option<addr2line::Context<Reader>>,
    sources: Vec<(String, PathBuf)>,
    cache: RefCell<Cache>,
}

impl std::fmt::Debug for Symbols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Symbols")
            .field("known", &self.known())
            .finish_non_exhaustive()
    }
}

/// The custom sections of a module, and its code section.
#[derive(Default)]
struct Sections<'a> {
    custom: HashMap<&'a str, &'a [u8]>,
    code: &'a [u8],
    names: BTreeMap<u32, String>,
}

impl<'a> Sections<'a> {
    fn of(wasm: &'a [u8]) -> Result<Sections<'a>, wasmparser::BinaryReaderError> {
        let mut sections = Sections::default();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::CodeSectionStart { range, .. } => {
                    sections.code = wasm.get(range).unwrap_or_default();
                }
                Payload::CustomSection(section) => {
                    if let KnownCustom::Name(names) = section.as_known() {
                        for name in names {
                            let Name::Function(functions) = name? else {
                                continue;
                            };
                            for function in functions {
                                let function = function?;
                                sections
                                    .names
                                    .insert(function.index, demangled(function.name));
                            }
                        }
                    }
                    sections.custom.insert(section.name(), section.data());
                }
                _ => {}
            }
        }
        Ok(sections)
    }
}

/// Whether `debug` is a module with the same functions as `deployed`, byte by byte, so that what it says of them holds.
///
/// # Errors
///
/// If one of them is no WebAssembly.
pub fn is_of(debug: &[u8], deployed: &[u8]) -> Result<bool, wasmparser::BinaryReaderError> {
    Ok(Sections::of(debug)?.code == Sections::of(deployed)?.code)
}

impl Symbols {
    /// Those of deployed code: from the file with debug information, if there is one, else from the code itself.
    ///
    /// # Errors
    ///
    /// See [`SymbolsError`].
    pub fn of(code: &Code) -> Result<Symbols, SymbolsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| SymbolsError::Io {
                path: path.to_owned(),
                source,
            })
        };
        let deployed = read(&code.file)?;
        match &code.debug_file {
            Some(path) => Symbols::read(path, &read(path)?, &deployed),
            None => Symbols::read(&code.file, &deployed, &deployed),
        }
    }

    fn read(path: &Path, wasm: &[u8], deployed: &[u8]) -> Result<Symbols, SymbolsError> {
        let not_wasm = |reason| SymbolsError::NotWasm {
            path: path.to_owned(),
            reason,
        };
        let sections = Sections::of(wasm).map_err(not_wasm)?;
        if sections.code != Sections::of(deployed).map_err(not_wasm)?.code {
            return Err(SymbolsError::Other {
                path: path.to_owned(),
            });
        }
        let failed = |reason| SymbolsError::Dwarf {
            path: path.to_owned(),
            reason,
        };
        let dwarf = match sections.custom.contains_key(".debug_line") {
            true => {
                let dwarf = gimli::Dwarf::load(|id| {
                    let data = sections.custom.get(id.name()).copied().unwrap_or_default();
                    Ok::<_, gimli::Error>(Reader::new(Arc::from(data), LittleEndian))
                });
                let dwarf = dwarf.and_then(addr2line::Context::from_dwarf);
                Some(dwarf.map_err(failed)?)
            }
            false => None,
        };
        let sources = sections.custom.get(SOURCES_SECTION).copied();
        let sources = String::from_utf8_lossy(sources.unwrap_or_default());
        let sources = sources.lines().filter_map(|line| {
            let (from, to) = line.split_once('\t')?;
            Some((from.to_owned(), PathBuf::from(to)))
        });
        Ok(Symbols {
            names: sections.names,
            dwarf,
            sources: sources.collect(),
            cache: RefCell::default(),
        })
    }

    /// What is known.
    pub fn known(&self) -> Known {
        match (&self.dwarf, self.names.is_empty()) {
            (Some(_), _) => Known::Lines,
            (None, false) => Known::Names,
            (None, true) => Known::Nothing,
        }
    }

    /// The name of a function, or its number.
    pub fn name(&self, function: u32) -> String {
        let name = self.names.get(&function).cloned();
        name.unwrap_or_else(|| format!("function {function}"))
    }

    /// The functions that are executing at `offset` (from the start of the code section's contents) in `function`: that one first, then
    /// those that were inlined there, outermost first.
    pub fn frames(&self, function: u32, offset: u32) -> Rc<[Frame]> {
        let mut cache = self.cache.borrow_mut();
        let frames = cache
            .entry((function, offset))
            .or_insert_with(|| self.find(function, offset));
        frames.clone()
    }

    fn find(&self, function: u32, offset: u32) -> Rc<[Frame]> {
        let name = self.name(function);
        let plain = Frame {
            function: name.clone(),
            line: None,
        };
        let Some(dwarf) = &self.dwarf else {
            return Rc::new([plain]);
        };
        let mut frames = Vec::new();
        let found = dwarf.find_frames(u64::from(offset)).skip_all_loads();
        let Ok(mut found) = found else {
            return Rc::new([plain]);
        };
        while let Ok(Some(frame)) = found.next() {
            let function = frame.function.as_ref().and_then(|it| it.raw_name().ok());
            let function = function.map(|it| demangled(&it));
            let line = frame.location.as_ref().and_then(|location| {
                let line = location.line.filter(|line| *line > 0)?;
                Some((Rc::from(location.file?), line))
            });
            frames.push(Frame {
                function: function.unwrap_or_else(|| name.clone()),
                line,
            });
        }
        // Innermost first, until here.
        frames.reverse();
        match frames.first_mut() {
            // The function itself may have a shorter name in DWARF than in the name section.
            Some(outermost) => {
                outermost.function = name;
                frames.into()
            }
            None => Rc::new([plain]),
        }
    }

    /// Where a file that DWARF names is on this machine, if it is.
    pub fn source(&self, file: &str) -> Option<PathBuf> {
        let mut found = None;
        for (from, to) in &self.sources {
            let rest = file.strip_prefix(from.as_str());
            let rest = rest.and_then(|rest| rest.strip_prefix('/'));
            if let Some(rest) = rest
                && found.as_ref().is_none_or(|(len, _)| *len < from.len())
            {
                found = Some((from.len(), to.join(rest)));
            }
        }
        let path = found.map_or_else(|| PathBuf::from(file), |(_, path)| path);
        path.is_file().then_some(path)
    }
}

/// A symbol as people write it, without the hash at its end.
fn demangled(symbol: &str) -> String {
    let name = format!("{:#}", rustc_demangle::demangle(symbol));
    // The linker demangles names itself, and leaves the hash.
    match name.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|c| c.is_ascii_hexdigit()) => {
            name.to_owned()
        }
        _ => name,
    }
}
