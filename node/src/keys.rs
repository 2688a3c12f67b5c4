//! Ed25519 keys and the files that hold them.
//!
//! A key file is JSON, readable by its owner only:
//!
//! ```json
//! {
//!   "address": "…64 hex digits…",
//!   "public_key": "…64 hex digits…",
//!   "secret_key": "…64 hex digits…"
//! }
//! ```
//!
//! `secret_key` is the ed25519 seed; the other two follow from it and are checked when the file is read.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use slackline_executor::{Address, PublicKey};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Why a key could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The operating system has no random numbers.
    #[error("no random numbers from the operating system: {0}")]
    Random(getrandom::Error),
    /// There is a file of that name: keys are never overwritten.
    #[error("{path} exists already: a key file is never overwritten")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Others than its owner may read or write the file.
    #[error("{path} holds a secret and is open to others (mode {mode:o}): chmod 600 {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is not a key file.
    #[error("{path} is not a key file: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file's public key or address is not that of its secret key.
    #[error("{path} contradicts itself: its {field} is not that of its secret key")]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The wrong entry.
        field: &'static str,
    },
}

/// A key pair. Its secret half is wiped from memory when it is dropped, and never printed.
#[derive(Clone)]
pub struct Key {
    signing: SigningKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("public", &self.public())
            .finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    address: Address,
    public_key: PublicKey,
    secret_key: String,
}

impl Key {
    /// The key pair of an ed25519 seed.
    pub fn from_seed(seed: [u8; 32]) -> Key {
        Key {
            signing: SigningKey::from_bytes(&seed),
        }
    }

    /// A new key pair from the operating system's random numbers.
    ///
    /// # Errors
    ///
    /// [`KeyError::Random`].
    pub fn generate() -> Result<Key, KeyError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(KeyError::Random)?;
        Ok(Key::from_seed(seed))
    }

    /// What signs.
    pub fn signing(&self) -> &SigningKey {
        &self.signing
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.signing.verifying_key().to_bytes())
    }

    /// The account that the key controls.
    pub fn address(&self) -> Address {
        Address::of_key(&self.public())
    }

    /// Reads a key file, which nobody but its owner may be able to read.
    ///
    /// # Errors
    ///
    /// [`KeyError::Io`], [`KeyError::Open`], [`KeyError::Malformed`] or [`KeyError::Mismatch`].
    pub fn read(path: &Path) -> Result<Key, KeyError> {
        let failed = |source| KeyError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                let path = path.to_owned();
                return Err(KeyError::Open { path, mode });
            }
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let malformed = |reason: String| KeyError::Malformed {
            path: path.to_owned(),
            reason,
        };
        let file: KeyFile =
            serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        let mut seed = [0; 32];
        hex::decode_to_slice(&file.secret_key, &mut seed)
            .map_err(|_| malformed("secret_key: expected 64 hexadecimal digits".to_owned()))?;
        let key = Key::from_seed(seed);
        let mismatch = |field| KeyError::Mismatch {
            path: path.to_owned(),
            field,
        };
        if file.public_key != key.public() {
            return Err(mismatch("public_key"));
        }
        if file.address != key.address() {
            return Err(mismatch("address"));
        }
        Ok(key)
    }

    /// Writes the key to a new file that only its owner may read (mode 0600 on Unix), and syncs it and its name.
    ///
    /// # Errors
    ///
    /// [`KeyError::Exists`] or [`KeyError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyError::Exists {
                path: path.to_owned(),
            },
            _ => KeyError::Io {
                path: path.to_owned(),
                source,
            },
        };
        let file = KeyFile {
            address: self.address(),
            public_key: self.public(),
            secret_key: hex::encode(self.signing.to_bytes()),
        };
        let mut text = serde_json::to_string_pretty(&file).map_err(|error| failed(error.into()))?;
        text.push('\n');
        let mut out = options.open(path).map_err(failed)?;
        out.write_all(text.as_bytes())
            .and_then(|()| out.sync_all())
            .and_then(|()| sync_name(path))
            .map_err(failed)
    }
}

/// Syncs the directory that `path` is in: what is new there could be gone with the power else, however synced it is itself.
pub(crate) fn sync_name(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_round_trip_and_are_private() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("key.json");
        let key = Key::generate().expect("random numbers");
        key.write(&path).expect("written");
        assert_eq!(Key::read(&path).expect("read").public(), key.public());
        for named in ["", "a", "/a", "/", path.to_str().expect("text")] {
            sync_name(Path::new(named)).expect(named);
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&path)
                .expect("metadata")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
            for open in [0o640, 0o604, 0o620] {
                let permissions = std::fs::Permissions::from_mode(open);
                std::fs::set_permissions(&path, permissions).expect("changed");
                let error = Key::read(&path).expect_err("open to others");
                assert!(error.to_string().contains("chmod 600"), "{error}");
            }
            let permissions = std::fs::Permissions::from_mode(0o400);
            std::fs::set_permissions(&path, permissions).expect("changed");
            Key::read(&path).expect("read");
        }
        let before = std::fs::read(&path).expect("read");
        let error = Key::from_seed([1; 32])
            .write(&path)
            .expect_err("never overwritten");
        assert!(matches!(error, KeyError::Exists { .. }), "{error}");
        assert_eq!(std::fs::read(&path).expect("read"), before);
    }

    #[test]
    fn damaged_files_are_refused() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("key.json");
        assert!(matches!(Key::read(&path), Err(KeyError::Io { .. })));
        Key::from_seed([1; 32]).write(&path).expect("written");
        let good: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON");
        let other = Key::from_seed([2; 32]);
        let reread = |field: &str, value: &str| {
            let mut bad = good.clone();
            bad[field] = value.into();
            std::fs::write(&path, bad.to_string()).expect("written");
            Key::read(&path).expect_err("damaged")
        };
        let error = reread("address", &other.address().to_string());
        assert!(
            matches!(
                error,
                KeyError::Mismatch {
                    field: "address",
                    ..
                }
            ),
            "{error}"
        );
        let error = reread("public_key", &other.public().to_string());
        assert!(
            matches!(
                error,
                KeyError::Mismatch {
                    field: "public_key",
                    ..
                }
            ),
            "{error}"
        );
        assert!(matches!(
            reread("secret_key", "12"),
            KeyError::Malformed { .. }
        ));
        assert!(matches!(
            reread("surprise", "1"),
            KeyError::Malformed { .. }
        ));
        std::fs::write(&path, "no").expect("written");
        assert!(matches!(Key::read(&path), Err(KeyError::Malformed { .. })));
    }

    #[test]
    fn debug_hides_the_secret() {
        let key = Key::from_seed([7; 32]);
        assert!(!format!("{key:?}").contains(&hex::encode([7u8; 32])));
    }
}
