//! The development chain: its accounts, its genesis, its directory.
//!
//! A data directory has two entries: `genesis.json`, written first and never changed, and `db`, the chain's database.
//! A node that is started on the directory again reads the one and goes on with the other.

use crate::keys::{Key, sync_name};
use crate::producer::now_ms;
use sha2::{Digest, Sha256};
use slackline_executor::{Address, Genesis, GenesisAccount};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Identifies development chains. Clients use the development accounts by name only on it.
pub const DEV_CHAIN_ID: u64 = 1337;

/// Names of the funded development accounts.
pub const DEV_NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// What each of them has in the genesis block, in the smallest unit of the currency.
pub const DEV_BALANCE: u128 = 1_000_000_000_000_000_000;

/// Why a data directory could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// A file or directory could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// `genesis.json` is not a genesis.
    #[error("{path} is not a genesis: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is a database but no `genesis.json`.
    #[error("{path} is missing, but there is a database beside it")]
    NoGenesis {
        /// The file.
        path: PathBuf,
    },
}

/// The key of a development account. Anyone can compute it: its seed is the SHA-256 of
/// `slackline dev account <name>`. `None` if there is no such account.
pub fn dev_key(name: &str) -> Option<Key> {
    DEV_NAMES.contains(&name).then(|| seeded(name))
}

/// The name of a development account.
pub fn dev_name(address: &Address) -> Option<&'static str> {
    DEV_NAMES
        .into_iter()
        .find(|name| seeded(name).address() == *address)
}

fn seeded(name: &str) -> Key {
    Key::from_seed(Sha256::digest(format!("slackline dev account {name}")).into())
}

/// The genesis of a development chain that starts at `timestamp_ms`, in milliseconds since 1970. Fees go to an account
/// of which nobody is told.
pub fn dev_genesis(timestamp_ms: u64) -> Genesis {
    Genesis {
        chain_id: DEV_CHAIN_ID,
        timestamp_ms,
        proposer: seeded("proposer").address(),
        accounts: DEV_NAMES
            .iter()
            .map(|name| GenesisAccount {
                address: seeded(name).address(),
                balance: DEV_BALANCE,
            })
            .collect(),
        validators: Vec::new(),
        governor: None,
    }
}

/// Where the database is in a data directory.
pub fn database(dir: &Path) -> PathBuf {
    dir.join("db")
}

/// Reads the genesis of a data directory, or makes the directory and writes a new [`dev_genesis`] into it.
///
/// # Errors
///
/// See [`DataDirError`].
pub fn prepare(dir: &Path) -> Result<Genesis, DataDirError> {
    let path = dir.join("genesis.json");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DataDirError::Io { path, source }
    };
    std::fs::create_dir_all(dir).map_err(failed(dir))?;
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            return serde_json::from_str(&text).map_err(|error| DataDirError::Malformed {
                path,
                reason: error.to_string(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(DataDirError::Io { path, source }),
    }
    if database(dir).exists() {
        return Err(DataDirError::NoGenesis { path });
    }
    let genesis = dev_genesis(now_ms());
    write_new(dir, &path, &genesis).map_err(failed(&path))?;
    Ok(genesis)
}

/// The file appears with all of its contents or not at all, also if the machine stops in between.
fn write_new(dir: &Path, path: &Path, genesis: &Genesis) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer_pretty(&mut file, genesis)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    sync_name(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_the_same_everywhere() {
        let alice = dev_key("alice").expect("alice").address().to_string();
        assert_eq!(
            alice,
            "a6244d4dabcd032ae93ff593b68a0a163cf9975264dd5f22bb38b5fc7dadcb6b"
        );
        for name in DEV_NAMES {
            assert_eq!(dev_name(&dev_key(name).expect(name).address()), Some(name));
        }
        assert!(dev_key("proposer").is_none() && dev_key("eve").is_none());
        assert_eq!(dev_name(&Address::default()), None);
    }

    #[test]
    fn a_directory_keeps_its_genesis() {
        let parent = tempfile::tempdir().expect("temporary directory");
        let dir = parent.path().join("a/b");
        let first = prepare(&dir).expect("made");
        let text = std::fs::read_to_string(dir.join("genesis.json")).expect("written");
        let second = prepare(&dir).expect("read");
        assert_eq!(second.timestamp_ms, first.timestamp_ms);
        assert_eq!(second.accounts.len(), DEV_NAMES.len());
        assert_eq!(second.accounts[0].balance, DEV_BALANCE);
        assert_eq!(
            std::fs::read_to_string(dir.join("genesis.json")).expect("still there"),
            text
        );
        assert_eq!(
            std::fs::read_dir(&dir).expect("listed").count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn directories_that_make_no_sense_are_refused() {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir(database(dir.path())).expect("made");
        assert!(matches!(
            prepare(dir.path()),
            Err(DataDirError::NoGenesis { .. })
        ));
        std::fs::write(dir.path().join("genesis.json"), "{}").expect("written");
        assert!(matches!(
            prepare(dir.path()),
            Err(DataDirError::Malformed { .. })
        ));
        assert!(matches!(
            prepare(&dir.path().join("genesis.json")),
            Err(DataDirError::Io { .. })
        ));
    }
}
