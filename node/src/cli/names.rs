//! What people call accounts.

use anyhow::{Context, bail};
use slackline_executor::Address;
use slackline_node::args::AddressBook;
use slackline_node::dev::{DEV_CHAIN_ID, DEV_NAMES, dev_key, dev_name};
use slackline_node::keys::Key;
use std::path::Path;

/// Development accounts (on a development chain only) and key files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    dev: bool,
}

impl Names {
    pub(crate) fn on_chain(chain_id: u64) -> Names {
        Names {
            dev: chain_id == DEV_CHAIN_ID,
        }
    }

    /// The account called `text`: 64 hexadecimal digits, a development account or a key file.
    pub(crate) fn resolve(&self, text: &str) -> anyhow::Result<Address> {
        text.parse()
            .or_else(|_| self.address(text).map_err(anyhow::Error::msg))
    }

    /// The key of the sender called `from`; alice on a development chain if nobody is.
    pub(crate) fn sender(&self, from: Option<&str>) -> anyhow::Result<Key> {
        let name = match from {
            Some(name) => name,
            None if self.dev => DEV_NAMES[0],
            None => bail!("this is no development chain: say with --from which key file signs"),
        };
        if let Some(key) = dev_key(name).filter(|_| self.dev) {
            return Ok(key);
        }
        if !Path::new(name).exists() {
            bail!("--from {name:?}: {}", self.known(&["a key file"]));
        }
        Key::read(Path::new(name)).context("--from")
    }

    /// `address`, with its name if it has one.
    pub(crate) fn show(&self, address: &Address) -> String {
        match self.name(address) {
            Some(name) => format!("{address} ({name})"),
            None => address.to_string(),
        }
    }

    fn known(&self, others: &[&str]) -> String {
        let mut known = others.to_vec();
        if self.dev {
            known.extend(DEV_NAMES);
        }
        format!("not one of: {}", known.join(", "))
    }
}

impl AddressBook for Names {
    fn address(&self, name: &str) -> Result<Address, String> {
        if let Some(key) = dev_key(name).filter(|_| self.dev) {
            return Ok(key.address());
        }
        if Path::new(name).exists() {
            return Key::read(Path::new(name))
                .map(|key| key.address())
                .map_err(|error| error.to_string());
        }
        Err(format!(
            "{name:?} is {}",
            self.known(&["an address (64 hexadecimal digits)", "a key file"])
        ))
    }

    fn name(&self, address: &Address) -> Option<String> {
        dev_name(address).filter(|_| self.dev).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn development_accounts_are_known_on_development_chains_only() {
        let (dev, other) = (Names::on_chain(DEV_CHAIN_ID), Names::on_chain(1));
        let bob = dev.resolve("bob").expect("bob");
        assert_eq!(dev.name(&bob).as_deref(), Some("bob"));
        assert_eq!(dev.resolve(&bob.to_string()).expect("hex"), bob);
        assert_eq!(
            dev.sender(None).expect("alice").address(),
            dev.resolve("alice").expect("alice")
        );
        assert_eq!(dev.sender(Some("bob")).expect("bob").address(), bob);
        other
            .resolve("bob")
            .expect_err("public keys are for development");
        other
            .sender(Some("bob"))
            .expect_err("public keys are for development");
        other.sender(None).expect_err("no default");
        assert_eq!(other.name(&bob), None);
    }

    #[test]
    fn key_files_are_names() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("key.json");
        let key = Key::from_seed([5; 32]);
        key.write(&path).expect("written");
        let names = Names::on_chain(1);
        let path = path.to_str().expect("UTF-8");
        assert_eq!(names.resolve(path).expect("key file"), key.address());
        assert_eq!(
            names.sender(Some(path)).expect("key file").address(),
            key.address()
        );
        std::fs::write(path, "no").expect("written");
        assert!(
            names
                .resolve(path)
                .expect_err("damaged")
                .to_string()
                .contains("not a key file")
        );
    }
}
