//! Accounts with names.

use borsh::BorshSerialize;
use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};
use slackline::Address;
use slackline_executor::{self as executor, PublicKey};
use std::io;

/// Accounts that have [`BALANCE`](crate::BALANCE) unless [`Config::accounts`](crate::Config::accounts) says otherwise.
pub const NAMES: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];

/// Somebody who sends transactions. As an argument of a method it is its address.
#[derive(Clone, Debug)]
pub struct Account {
    name: String,
    key: SigningKey,
    address: Address,
}

impl Account {
    /// The same on each chain.
    pub(crate) fn named(name: &str) -> Account {
        let seed = Sha256::digest(format!("slackline testkit account {name}"));
        let key = SigningKey::from_bytes(&seed.into());
        let public = PublicKey(key.verifying_key().to_bytes());
        Account {
            name: name.to_owned(),
            address: Address(executor::Address::of_key(&public).0),
            key,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    pub fn address(&self) -> Address {
        self.address
    }

    /// What it signs with.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }
}

impl From<&Account> for Address {
    fn from(account: &Account) -> Address {
        account.address
    }
}

impl BorshSerialize for Account {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        self.address.serialize(writer)
    }
}
