//! The directory of a node that takes part in consensus.
//!
//! ```text
//!   config.toml          settings (crate::config)
//!   genesis.json         what the chain begins with: the same on all nodes
//!   validator_key.json   signs votes; 0600; only on validators
//!   node_key.json        names the node among its peers; 0600
//!   db/                  the chain (docs/store.md)
//!   consensus/           the engine's log, what was signed last, blocks not decided yet
//!   mempool.journal      transactions that wait
//! ```

use crate::config::{CONFIG_FILE, Config, ConfigError};
use crate::dev::{DEV_BALANCE, DEV_CHAIN_ID, DEV_NAMES, dev_key};
use crate::keys::{Key, KeyError, sync_name};
use crate::producer::now_ms;
use slackline_executor::{
    Address, Genesis, GenesisAccount, ProtocolParams, Validator, check_validators,
};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Name of the key file of votes.
pub const VALIDATOR_KEY: &str = "validator_key.json";
/// Name of the key file of the node.
pub const NODE_KEY: &str = "node_key.json";
/// What validators have that nobody gives another power.
pub const VALIDATOR_POWER: u64 = 10;
const GENESIS: &str = "genesis.json";

/// Why a directory could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The directory is another node's already.
    #[error(
        "{path} exists: nothing was changed; choose another directory, or remove it if that node is not needed any more"
    )]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// The directory is no node's.
    #[error("{path} is missing: make the directory with `slackline init` or `slackline testnet`")]
    Missing {
        /// What is not there.
        path: PathBuf,
    },
    /// The genesis is none, or cannot work.
    #[error("{path}: {reason}")]
    Genesis {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A key cannot be read or written.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The configuration cannot be read or written.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// What is in the directory, besides data.
#[derive(Clone, Debug)]
pub struct Home {
    /// The directory.
    pub path: PathBuf,
    /// The settings.
    pub config: Config,
    /// What the chain begins with.
    pub genesis: Genesis,
    /// Names the node among its peers.
    pub node_key: Key,
    /// Signs votes, on a validator.
    pub validator_key: Option<Key>,
}

fn write_new(path: &Path, text: &str) -> Result<(), HomeError> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => HomeError::Exists {
            path: path.to_owned(),
        },
        _ => HomeError::Io {
            path: path.to_owned(),
            source,
        },
    })
}

/// Writes a genesis to a new file, and syncs it and its name.
///
/// # Errors
///
/// See [`HomeError`]; what exists is left as it is.
pub fn write_genesis(path: &Path, genesis: &Genesis) -> Result<(), HomeError> {
    let text = serde_json::to_string_pretty(genesis).map_err(|error| HomeError::Genesis {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    write_new(path, &(text + "\n"))?;
    sync_name(path).map_err(|source| HomeError::Io {
        path: path.to_owned(),
        source,
    })
}

impl Home {
    /// Writes everything but data into a directory that has nothing of the kind yet.
    ///
    /// # Errors
    ///
    /// See [`HomeError`]; what exists is left as it is.
    pub fn write(&self) -> Result<(), HomeError> {
        let path = &self.path;
        std::fs::create_dir_all(path).map_err(|source| HomeError::Io {
            path: path.clone(),
            source,
        })?;
        for name in [GENESIS, CONFIG_FILE, NODE_KEY, VALIDATOR_KEY, "db"] {
            let path = path.join(name);
            if path.exists() {
                return Err(HomeError::Exists { path });
            }
        }
        self.node_key.write(&path.join(NODE_KEY))?;
        if let Some(key) = &self.validator_key {
            key.write(&path.join(VALIDATOR_KEY))?;
        }
        write_new(&path.join(CONFIG_FILE), &self.config.to_toml()?)?;
        // Last: a directory without it is not one.
        write_genesis(&path.join(GENESIS), &self.genesis)?;
        sync_name(path).map_err(|source| HomeError::Io {
            path: path.clone(),
            source,
        })
    }

    /// Reads the directory, with settings that go over the file's.
    ///
    /// # Errors
    ///
    /// See [`HomeError`].
    pub fn read(path: &Path, overrides: &[(String, String)]) -> Result<Home, HomeError> {
        let file = path.join(GENESIS);
        let text = std::fs::read_to_string(&file).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => HomeError::Missing { path: file.clone() },
            _ => HomeError::Io {
                path: file.clone(),
                source,
            },
        })?;
        let wrong = |reason: String| HomeError::Genesis {
            path: file.clone(),
            reason,
        };
        let genesis: Genesis =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let limits = ProtocolParams::v1().limits;
        check_validators(&genesis.validators, &limits).map_err(|error| wrong(error.to_string()))?;
        let validator_key = match Key::read(&path.join(VALIDATOR_KEY)) {
            Ok(key) => Some(key),
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Home {
            path: path.to_owned(),
            config: Config::read(path, overrides)?,
            genesis,
            node_key: Key::read(&path.join(NODE_KEY))?,
            validator_key,
        })
    }
}

/// Who owns what when a chain begins, and who may change its validators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// The accounts.
    pub accounts: Vec<GenesisAccount>,
    /// The governor, if there is to be one, ever.
    pub governor: Option<Address>,
}

impl Allocation {
    /// That of the development chain: its accounts, of which the first is the governor.
    pub fn dev() -> Allocation {
        let accounts: Vec<GenesisAccount> = DEV_NAMES
            .iter()
            .filter_map(|name| dev_key(name))
            .map(|key| GenesisAccount {
                address: key.address(),
                balance: DEV_BALANCE,
            })
            .collect();
        Allocation {
            governor: accounts.first().map(|account| account.address),
            accounts,
        }
    }
}

/// What a chain begins with that begins now; the first of the validators gets what its genesis block earns.
pub fn genesis(chain_id: u64, validators: Vec<Validator>, allocation: Allocation) -> Genesis {
    let Allocation { accounts, governor } = allocation;
    let first = validators.first();
    Genesis {
        chain_id,
        timestamp_ms: now_ms(),
        proposer: first.map_or_else(Address::default, |first| Address::of_key(&first.key)),
        governor,
        accounts,
        validators,
    }
}

fn validator(key: &Key) -> Validator {
    Validator {
        key: key.public(),
        power: VALIDATOR_POWER,
    }
}

/// A node that makes the blocks of a new chain alone, until others are added.
///
/// # Errors
///
/// No random numbers.
pub fn alone(path: &Path, chain_id: u64, allocation: Allocation) -> Result<Home, HomeError> {
    let key = Key::generate()?;
    Ok(Home {
        path: path.to_owned(),
        config: Config::default(),
        genesis: genesis(chain_id, vec![validator(&key)], allocation),
        node_key: Key::generate()?,
        validator_key: Some(key),
    })
}

/// `count` validators on this machine, in `path`/node0 and so on. Node `n` uses the ports from `base_port` + 10 `n`: RPC, operators,
/// consensus, gossip.
///
/// # Errors
///
/// No random numbers.
pub fn testnet(path: &Path, count: u16, base_port: u16) -> Result<Vec<Home>, HomeError> {
    let keys = (0..count).map(|_| Ok((Key::generate()?, Key::generate()?)));
    let keys: Vec<(Key, Key)> = keys.collect::<Result<_, KeyError>>()?;
    let validators = keys.iter().map(|(key, _)| validator(key)).collect();
    let genesis = genesis(DEV_CHAIN_ID, validators, Allocation::dev());
    let port = |n: u16, offset: u16| base_port + 10 * n + offset;
    let address = |n: u16, offset: u16| format!("/ip4/127.0.0.1/tcp/{}", port(n, offset));
    let homes = keys.into_iter().zip(0..).map(|((validator, node), n)| {
        let others = (0..count).filter(|other| *other != n);
        let mut config = Config::default();
        config.rpc.listen.set_port(port(n, 0));
        config.ops.listen.set_port(port(n, 1));
        config.consensus.moniker = format!("node{n}");
        config.consensus.listen = address(n, 2);
        config.consensus.persistent_peers = others.clone().map(|n| address(n, 2)).collect();
        config.gossip.listen = address(n, 3);
        config.gossip.peers = others.map(|n| address(n, 3)).collect();
        Home {
            path: path.join(format!("node{n}")),
            config,
            genesis: genesis.clone(),
            node_key: node,
            validator_key: Some(validator),
        }
    });
    Ok(homes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_never_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        for home in testnet(dir.path(), 4, 28_000).expect("random numbers") {
            home.write().expect("written");
            let read = Home::read(&home.path, &[]).expect("read");
            assert_eq!((&read.config, &read.genesis), (&home.config, &home.genesis));
            assert_eq!(read.node_key.public(), home.node_key.public());
            assert!(read.validator_key.is_some());
            assert_eq!(home.config.consensus.persistent_peers.len(), 3);
            let error = home.write().expect_err("it is there");
            assert!(matches!(error, HomeError::Exists { .. }), "{error}");
            let other = [("rpc.listen".to_owned(), "127.0.0.1:1".to_owned())];
            let read = Home::read(&home.path, &other).expect("read");
            assert_eq!(read.config.rpc.listen.port(), 1);
        }
        let error = Home::read(dir.path(), &[]).expect_err("nothing there");
        assert!(error.to_string().contains("slackline init"), "{error}");
    }
}
