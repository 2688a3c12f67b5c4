//! Compiled code on disk, so that a restart does not compile everything again.
//!
//! `<directory>/<fingerprint>/<code hash>` holds the SHA-256 of an artifact and the artifact. The fingerprint stands for the
//! engine (compiler, its settings, metering, cost table, processor features) and the version of the protocol, so that code is only
//! ever loaded by the engine that compiled it. A file that is not what was written is compiled again. Losing the directory loses nothing but time;
//! whoever can write to it can run code in the node, as with its program.

#![allow(unsafe_code)]

use crate::types::Hash;
use sha2::{Digest, Sha256};
use slackline_metering::{MeteredModule, Metering};
use std::fs;
use std::hash::{Hash as _, Hasher};
use std::path::{Path, PathBuf};
use wasmtime::Module;

pub(crate) struct ModuleCache {
    /// `None` if it cannot be written: then everything is compiled.
    directory: Option<PathBuf>,
}

impl ModuleCache {
    /// Uses `directory`, from which what other engines have left is removed.
    pub(crate) fn open(directory: &Path, metering: &Metering, protocol: u32) -> ModuleCache {
        let name = fingerprint(metering, protocol);
        let own = directory.join(&name);
        if let Err(error) = fs::create_dir_all(&own) {
            tracing::warn!(%error, directory = %own.display(), "compiled code is not kept");
            return ModuleCache { directory: None };
        }
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_name() != *name {
                // What stays takes space, nothing else.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        ModuleCache {
            directory: Some(own),
        }
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
                fs::write(&temporary, [&sum[..], &artifact].concat())
                    .and_then(|()| fs::rename(&temporary, &path))
                    .map_err(|error| error.to_string())
            });
        if let Err(error) = written {
            tracing::warn!(%error, path = %path.display(), "compiled code is not kept");
        }
    }
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
