//! Compiled code on disk, so that a restart does not compile everything again.
//!
//! `<directory>/<fingerprint>/<code hash>` holds the SHA-256 of an artifact and the artifact. The fingerprint stands for the
//! engine (compiler, its settings, metering, cost table, processor features) and the version of the protocol, so that code is only
//! ever loaded by the engine that compiled it. There are at most [`KEPT_BYTES`] of them: what was not used for longest goes, as anybody who can have code
//! compiled, which a simulation is enough for, would fill the disk. A file that is not what was written is compiled again. Losing the directory loses nothing but time;
//! whoever can write to it can run code in the node, as with its program.

#![allow(unsafe_code)]

use crate::types::Hash;
use sha2::{Digest, Sha256};
use slackline_metering::{MeteredModule, Metering};
use std::fs::{self, File};
use std::hash::{Hash as _, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use wasmtime::Module;

/// The most that is kept, in bytes.
const KEPT_BYTES: u64 = 2 << 30;

pub(crate) struct ModuleCache {
    /// `None` if it cannot be written: then everything is compiled.
    directory: Option<PathBuf>,
    /// What is kept at most, in bytes.
    most: u64,
    /// What is there, in bytes, or more.
    bytes: Mutex<u64>,
}

impl ModuleCache {
    /// Uses `directory`, from which what other engines have left is removed.
    pub(crate) fn open(directory: &Path, metering: &Metering, protocol: u32) -> ModuleCache {
        let name = fingerprint(metering, protocol);
        let own = directory.join(&name);
        let mut cache = ModuleCache {
            directory: None,
            most: KEPT_BYTES,
            bytes: Mutex::default(),
        };
        if let Err(error) = fs::create_dir_all(&own) {
            tracing::warn!(%error, directory = %own.display(), "compiled code is not kept");
            return cache;
        }
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_name() != *name {
                // What stays takes space, nothing else.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let bytes = files(&own).map(|file| file.bytes).sum();
        cache.bytes = Mutex::new(bytes);
        cache.directory = Some(own);
        cache
    }

    /// The module compiled from code with `hash`, if it is there and as it was written.
    pub(crate) fn load(&self, metering: &Metering, hash: &Hash) -> Option<MeteredModule> {
        let path = self.directory.as_ref()?.join(hash.to_string());
        let file = fs::read(&path).ok()?;
        let module = file
            .split_first_chunk()
            .filter(|(sum, artifact)| <[u8; 32]>::from(Sha256::digest(artifact)) == **sum)
            .and_then(|(_, artifact)| {
                // SAFETY: `artifact` is what `store` got from an engine with this fingerprint: its hash says that it has not
                // changed since, and the directory belongs to whom the process belongs to.
                unsafe { Module::deserialize(metering.engine(), artifact) }.ok()
            });
        if module.is_none() {
            tracing::warn!(path = %path.display(), "damaged compiled code is replaced");
        }
        // Where that fails it is older than it could be.
        let _ = File::options()
            .append(true)
            .open(&path)
            .and_then(|file| file.set_modified(SystemTime::now()));
        Some(MeteredModule::from_module(metering, module?))
    }

    /// Keeps `module`, compiled from code with `hash`.
    pub(crate) fn store(&self, hash: &Hash, module: &Module) {
        let Some(directory) = &self.directory else {
            return;
        };
        let path = directory.join(hash.to_string());
        let written = module
            .serialize()
            .map_err(|error| error.to_string())
            .and_then(|artifact| {
                let sum = Sha256::digest(&artifact);
                // Other threads may be writing the same: each its own file, and the last one stays.
                let id = std::thread::current().id();
                let temporary = directory.join(format!("{hash}-{}-{id:?}", std::process::id()));
                let file = [&sum[..], &artifact].concat();
                fs::write(&temporary, &file)
                    .and_then(|()| fs::rename(&temporary, &path))
                    .map(|()| file.len() as u64)
                    .map_err(|error| {
                        let _ = fs::remove_file(&temporary);
                        error.to_string()
                    })
            });
        match written {
            Ok(bytes) => self.make_room(directory, bytes),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "compiled code is not kept");
            }
        }
    }

    /// Now that there are `written` bytes more: if that is too much, removes what was not used for longest, until a quarter is free.
    fn make_room(&self, directory: &Path, written: u64) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *bytes += written;
        if *bytes <= self.most {
            return;
        }
        let mut all: Vec<_> = files(directory).collect();
        all.sort_by_key(|file| file.used);
        *bytes = all.iter().map(|file| file.bytes).sum();
        for file in all {
            if *bytes <= self.most / 4 * 3 {
                return;
            }
            // One that does not go is looked at again the next time.
            if fs::remove_file(&file.path).is_ok() {
                *bytes -= file.bytes;
            }
        }
    }
}

/// A file of the directory.
struct Kept {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// The files of `directory`, as far as they can be read.
fn files(directory: &Path) -> impl Iterator<Item = Kept> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let about = entry.metadata().ok()?;
        Some(Kept {
            path: entry.path(),
            bytes: about.len(),
            used: about.modified().ok()?,
        })
    })
}

/// Names the engine, the protocol, and what else compiled code depends on.
fn fingerprint(metering: &Metering, protocol: u32) -> String {
    /// Collects what it is given; `finish` is not asked for.
    struct Bytes(Sha256);

    impl Hasher for Bytes {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }

    let mut bytes = Bytes(Sha256::new());
    // Names the mode, the pass and the cost table too: see `Metering::new`.
    metering
        .engine()
        .precompile_compatibility_hash()
        .hash(&mut bytes);
    bytes.0.update(protocol.to_le_bytes());
    hex::encode(&bytes.0.finalize()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::ProtocolParams;
    use slackline_metering::Mode;
    use std::time::Duration;

    #[test]
    fn what_was_not_used_for_longest_goes_when_there_is_too_much() {
        let directory = tempfile::tempdir().expect("a directory");
        let metering = {
            let costs = ProtocolParams::v1().costs;
            Metering::new(wasmtime::Config::new(), Mode::Exact, &costs).expect("an engine")
        };
        let open = || ModuleCache::open(directory.path(), &metering, 1);
        let mut cache = open();
        let module = MeteredModule::new(&metering, b"(module)").expect("compiled");
        let hashes: Vec<Hash> = (0..8u8).map(|n| Hash([n; 32])).collect();
        cache.store(&hashes[0], &module);
        let each = *cache.bytes.lock().expect("its size");
        assert!(each > 0);
        cache.most = 8 * each - 1;
        let own = cache.directory.clone().expect("it is kept");
        for hash in &hashes[1..7] {
            cache.store(hash, &module);
        }
        // As if long ago, the later the newer.
        for (hash, age) in hashes[..7].iter().zip(0..) {
            let file = File::options()
                .append(true)
                .open(own.join(hash.to_string()));
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(age);
            file.and_then(|file| file.set_modified(time)).expect("set");
        }
        assert!(cache.load(&metering, &hashes[0]).is_some());
        assert_eq!(*cache.bytes.lock().expect("its size"), 7 * each);
        cache.store(&hashes[7], &module);
        let kept = |hash: &Hash| own.join(hash.to_string()).exists();
        let kept: Vec<bool> = hashes.iter().map(kept).collect();
        assert_eq!(kept, [true, false, false, false, true, true, true, true]);
        assert_eq!(*cache.bytes.lock().expect("its size"), 5 * each);
        assert_eq!(*open().bytes.lock().expect("its size"), 5 * each);
    }
}
