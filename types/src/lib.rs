//! What clients sign, what blocks contain, what receipts say.
//!
//! ```text
//!   Transaction ──sign──▶ SignedTransaction ──in a──▶ Block = Header + transactions
//!                                                       │ executed
//!                                                       ▼
//!                                       Receipt (Outcome, fee, Events), one a transaction
//! ```
//!
//! Everything that is hashed or stored is borsh. Each hash is SHA-256 over a domain separator
//! (`slackline:<what>:v1`, preceded by its length as one byte) and the borsh encoding, so that no two kinds of thing can
//! ever have the same hash.

pub mod trace;

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::{Signer, SigningKey};
use ed25519_zebra::batch::{Item, Verifier};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// Hashes `parts` under `domain`.
///
/// # Panics
///
/// In debug builds, if `domain` has more than 255 bytes.
pub fn digest(domain: &'static str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    debug_assert!(domain.len() < 256);
    hasher.update([domain.len() as u8]);
    hasher.update(domain.as_bytes());
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// Borsh encoding of a value whose encoding cannot fail: writing to memory, no lengths over `u32`.
///
/// # Panics
///
/// If a collection in `value` has more than `u32::MAX` items.
pub fn encode<T: BorshSerialize>(value: &T) -> Vec<u8> {
    borsh::to_vec(value).expect("borsh to memory fails only for lengths over u32::MAX")
}

/// Text that is not 32 bytes in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hexadecimal digits, got {0:?}")]
pub struct ParseHexError(String);

macro_rules! bytes32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BorshSerialize, BorshDeserialize,
            Serialize, Deserialize,
        )]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseHexError;
            fn try_from(text: String) -> Result<Self, ParseHexError> {
                text.parse()
            }
        }

        impl FromStr for $name {
            type Err = ParseHexError;
            /// Parses 64 hexadecimal digits, with or without `0x`.
            fn from_str(text: &str) -> Result<Self, ParseHexError> {
                let digits = text.strip_prefix("0x").unwrap_or(text);
                let mut bytes = [0; 32];
                match hex::decode_to_slice(digits, &mut bytes) {
                    Ok(()) => Ok($name(bytes)),
                    Err(_) => Err(ParseHexError(text.to_owned())),
                }
            }
        }
    };
}

bytes32! {
    /// A SHA-256 hash.
    Hash
}

bytes32! {
    /// Names an account: of a key, or of a contract.
    Address
}

bytes32! {
    /// An ed25519 public key.
    PublicKey
}

impl Address {
    /// The account that `key` controls.
    pub fn of_key(key: &PublicKey) -> Address {
        Address(digest("slackline:address:key:v1", &[&key.0]))
    }

    /// The contract that `deployer` creates: an account by its transaction with `nonce`, a contract by its deployment number
    /// `nonce`, counted from 0.
    pub fn of_contract(deployer: &Address, nonce: u64) -> Address {
        Address(digest(
            "slackline:address:contract:v1",
            &[&deployer.0, &nonce.to_le_bytes()],
        ))
    }
}

/// Who votes on blocks.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Validator {
    /// Signs its votes; the fees of its blocks go to [`Address::of_key`].
    pub key: PublicKey,
    /// What its vote counts.
    pub power: u64,
}

/// What a transaction does.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Action {
    /// Moves `amount` from the sender to `to`.
    Transfer {
        /// Receiver; the account is created if it does not exist.
        to: Address,
        /// In the smallest unit of the currency.
        amount: u128,
    },
    /// Creates a contract at [`Address::of_contract`] and runs its `init`, if it has one.
    Deploy {
        /// The wasm module.
        code: Vec<u8>,
        /// Input of `init`, borsh-encoded arguments by convention.
        input: Vec<u8>,
        /// Moved from the sender to the contract before `init` runs, in the smallest unit of the currency.
        value: u128,
    },
    /// Calls a method of a contract.
    Call {
        /// The contract.
        contract: Address,
        /// Name of the exported function.
        method: String,
        /// Borsh-encoded arguments by convention.
        input: Vec<u8>,
        /// Moved from the sender to the contract before the method runs, in the smallest unit of the currency.
        value: u128,
    },
    /// Says who votes from the next block on. For the chain's governor only.
    SetValidators {
        /// All of them.
        validators: Vec<Validator>,
    },
}

/// What a sender signs.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Transaction {
    /// The chain that this is for.
    pub chain_id: u64,
    /// Key of the sender, who pays.
    pub sender: PublicKey,
    /// Number of the sender's transactions before this one.
    pub nonce: u64,
    /// The most fuel that this may use; all of it is paid for if execution aborts.
    pub fuel_limit: u64,
    /// The most that the sender pays for a unit of fuel, in the smallest unit of the currency.
    pub fuel_price: u64,
    /// The most that the proposer gets of that above the block's base price, for a unit of fuel.
    pub tip: u64,
    /// The most that the sender pays as a deposit for the storage that this makes contracts hold, in the smallest unit of the
    /// currency. What would take more reverts.
    pub deposit_limit: u128,
    /// What to do.
    pub action: Action,
}

impl Transaction {
    /// The most that it can cost its sender, in the smallest unit of the currency: fuel limit times price, what it moves, and the deposit. Saturates.
    pub fn max_cost(&self) -> u128 {
        let fee = u128::from(self.fuel_limit) * u128::from(self.fuel_price);
        let value = match self.action {
            Action::Transfer { amount, .. } => amount,
            Action::Deploy { value, .. } | Action::Call { value, .. } => value,
            Action::SetValidators { .. } => 0,
        };
        fee.saturating_add(value).saturating_add(self.deposit_limit)
    }

    /// What a unit of fuel costs the sender in a block with `base_price`: that and the tip, within [`fuel_price`](Self::fuel_price).
    pub fn effective_price(&self, base_price: u64) -> u64 {
        self.fuel_price.min(base_price.saturating_add(self.tip))
    }

    /// Identifies the transaction; also what is signed.
    pub fn hash(&self) -> Hash {
        Hash(digest("slackline:transaction:v1", &[&encode(self)]))
    }

    /// The sender's account.
    pub fn sender_address(&self) -> Address {
        Address::of_key(&self.sender)
    }

    /// Signs with `key`, whose public half must be `self.sender`.
    pub fn sign(self, key: &SigningKey) -> SignedTransaction {
        let signature = key.sign(&self.hash().0).to_bytes();
        SignedTransaction {
            transaction: self,
            signature,
        }
    }
}

/// A transaction with its sender's signature: what clients submit.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedTransaction {
    /// What was signed.
    pub transaction: Transaction,
    /// Ed25519 signature of [`Transaction::hash`] by [`Transaction::sender`].
    pub signature: [u8; 64],
}

impl SignedTransaction {
    /// The transaction's hash: the signature does not count, so that it cannot be varied to make
    /// one transaction look like two.
    pub fn hash(&self) -> Hash {
        self.transaction.hash()
    }

    /// Whether the signature is the sender's, by the rules of [ZIP 215]: one answer on every machine, and the same one for a signature alone as for
    /// many at once ([`valid_signatures`]), which RFC 8032 leaves open. They differ from stricter rules for keys and signatures only that no honest
    /// signer makes; whose key is such a point has an account that is everybody's.
    ///
    /// [ZIP 215]: https://zips.z.cash/zip-0215
    pub fn signature_is_valid(&self) -> bool {
        self.signature_item().verify_single().is_ok()
    }

    fn signature_item(&self) -> Item {
        let signature = ed25519_zebra::Signature::from_bytes(&self.signature);
        Item::from((self.transaction.sender.0.into(), signature, &self.hash().0))
    }
}

/// Which of `transactions` carry their senders' signatures: [`SignedTransaction::signature_is_valid`] of each. A hundred at once take about a third
/// of the time, unless one of them is invalid: then each is verified alone.
///
/// # Panics
///
/// If the operating system has no random numbers.
pub fn valid_signatures(transactions: &[&SignedTransaction]) -> Vec<bool> {
    let items: Vec<Item> = transactions
        .iter()
        .map(|signed| signed.signature_item())
        .collect();
    if items.len() > 1 {
        let mut together = Verifier::new();
        for item in &items {
            together.queue(item.clone());
        }
        // The numbers are nobody's to foresee: an invalid signature is taken for a valid one with a probability of 2^-128.
        if together.verify(rand::rng()).is_ok() {
            return vec![true; items.len()];
        }
    }
    let alone = items.into_iter().map(|item| item.verify_single().is_ok());
    alone.collect()
}

/// An account.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Account {
    /// In the smallest unit of the currency.
    pub balance: u128,
    /// Number of transactions sent, or for a contract of contracts deployed.
    pub nonce: u64,
    /// Hash of the code, for a contract.
    pub code: Option<Hash>,
    /// What a contract's storage counts, in bytes: of each entry, key, value and a fixed number
    /// (`Deposits::entry_bytes` of the protocol parameters).
    pub storage_bytes: u64,
    /// What has been paid for that, in the smallest unit of the currency, and is refunded when it is freed.
    pub deposit: u128,
}

/// What a contract tells the world outside, by `emit`.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Event {
    /// Who emitted it.
    pub contract: Address,
    /// What it can be found by; the first one is the kind of event by convention.
    pub topics: Vec<Hash>,
    /// The rest, in borsh by convention.
    pub data: Vec<u8>,
}

/// How an execution ended.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Outcome {
    /// It ran to its end. Its effects stand and it pays for what it used.
    Success {
        /// What it returned.
        data: Vec<u8>,
    },
    /// The contract gave up, or there was nothing to run. Its effects are dropped and it pays for what it used.
    Revert {
        /// The contract's explanation, UTF-8 text by convention.
        data: Vec<u8>,
    },
    /// It was stopped. Its effects are dropped and it pays for its whole limit.
    Abort(AbortReason),
}

impl Outcome {
    /// Whether the effects stand.
    pub fn is_success(&self) -> bool {
        matches!(self, Outcome::Success { .. })
    }
}

/// Why an execution was stopped. Informative: no consensus value depends on it.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
    thiserror::Error,
)]
#[serde(rename_all = "snake_case", tag = "kind", content = "detail")]
pub enum AbortReason {
    /// The fuel limit was passed.
    #[error("out of fuel")]
    OutOfFuel,
    /// Calls nested too deep.
    #[error("call stack exhausted")]
    StackExhausted,
    /// A wasm trap, in wasmtime's words.
    #[error("wasm trap: {0}")]
    Trap(String),
    /// The contract used the host interface against its rules.
    #[error("host interface: {0}")]
    HostInterface(String),
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Receipt {
    /// The transaction.
    pub transaction: Hash,
    /// Height of its block.
    pub height: u64,
    /// Position in its block.
    pub index: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Fuel paid for: what was used, or the limit after an abort.
    pub fuel_used: u64,
    /// What the sender paid: `fuel_used` times the price that was effective, in the smallest unit of the currency.
    pub fee: u128,
    /// The part of `fee` that nobody gets.
    pub burnt: u128,
    /// What the sender paid as deposits for storage, less what was refunded, in the smallest unit of the currency; zero unless the outcome
    /// is a success.
    pub deposit: i128,
    /// What contracts emitted, in order; empty unless the outcome is a success.
    pub events: Vec<Event>,
    /// The contract created, for a successful deployment.
    pub contract: Option<Address>,
}

impl Receipt {
    /// The consensus part: everything but the reason of an abort.
    pub fn hash(&self) -> Hash {
        let (status, data): (u8, &[u8]) = match &self.outcome {
            Outcome::Success { data } => (0, data),
            Outcome::Revert { data } => (1, data),
            Outcome::Abort(_) => (2, &[]),
        };
        let committed = (
            self.transaction,
            self.height,
            self.index,
            status,
            data,
            self.fuel_used,
            self.fee,
            self.burnt,
            self.deposit,
            &self.events,
            self.contract,
        );
        Hash(digest("slackline:receipt:v1", &[&encode(&committed)]))
    }
}

/// The first byte of every encoded [`Header`].
pub const HEADER_VERSION: u8 = 1;

/// A block without its transactions.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Header {
    /// Layout of the header: [`HEADER_VERSION`].
    pub version: u8,
    /// The chain.
    pub chain_id: u64,
    /// Version of the protocol parameters that the block was executed under.
    pub protocol_version: u32,
    /// Number of blocks before this one; the genesis block has height 0.
    pub height: u64,
    /// Hash of the block before this one; zero for the genesis block.
    pub parent: Hash,
    /// Milliseconds since 1970, as the proposer saw it.
    pub timestamp_ms: u64,
    /// Who made the block and gets its fees.
    pub proposer: Address,
    /// Root of the Merkle tree over the hashes of the transactions, in order.
    pub transactions_root: Hash,
    /// Root of the Merkle tree over the hashes of the receipts, in order.
    pub receipts_root: Hash,
    /// Root of the Merkle tree over the state after the block.
    pub state_root: Hash,
    /// What a unit of fuel costs at least in this block, in the smallest unit of the currency.
    pub base_price: u64,
    /// Sum of the receipts' `fuel_used`.
    pub fuel_used: u64,
    /// Sum of the receipts' `burnt`, in the smallest unit of the currency.
    #[serde(with = "decimal")]
    pub burnt: u128,
}

/// Amounts as decimal strings, for `#[serde(with)]`: JSON numbers lose digits.
pub mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the digits.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    /// Reads what [`serialize`] writes.
    ///
    /// # Errors
    ///
    /// Not a string, or not a number in it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// Bytes as hexadecimal digits, for `#[serde(with)]`.
pub mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the digits.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    /// Reads what [`serialize`] writes.
    ///
    /// # Errors
    ///
    /// Not a string, or not digits in it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Header {
    /// Identifies the block.
    pub fn hash(&self) -> Hash {
        Hash(digest("slackline:header:v1", &[&encode(self)]))
    }
}

/// A block as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Block {
    /// What is hashed.
    pub header: Header,
    /// In order of execution.
    pub transactions: Vec<SignedTransaction>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> SignedTransaction {
        let key = SigningKey::from_bytes(&[7; 32]);
        let sender = PublicKey(key.verifying_key().to_bytes());
        let action = Action::Transfer {
            to: Address([1; 32]),
            amount: 5,
        };
        Transaction {
            chain_id: 1,
            sender,
            nonce: 2,
            fuel_limit: 3,
            fuel_price: 4,
            tip: 6,
            deposit_limit: 5,
            action,
        }
        .sign(&key)
    }

    #[test]
    fn a_signature_covers_every_field() {
        let good = signed();
        assert!(good.signature_is_valid());
        let changes: [fn(&mut Transaction); 7] = [
            |tx| tx.deposit_limit += 1,
            |tx| tx.chain_id += 1,
            |tx| tx.nonce += 1,
            |tx| tx.fuel_limit += 1,
            |tx| tx.fuel_price += 1,
            |tx| tx.tip += 1,
            |tx| {
                tx.action = Action::Transfer {
                    to: Address([1; 32]),
                    amount: 6,
                }
            },
        ];
        for change in changes {
            let mut bad = good.clone();
            change(&mut bad.transaction);
            assert!(!bad.signature_is_valid());
            assert_ne!(bad.hash(), good.hash());
        }
        let mut bad = good.clone();
        bad.signature[0] ^= 1;
        assert!(!bad.signature_is_valid());
        assert_eq!(bad.hash(), good.hash());
    }

    /// Points of order 1, 2 and 4: with one of them as its key a transaction is everybody's, by the rules of ZIP 215. Cofactorless rules say otherwise,
    /// and then not the same for one as for many.
    #[test]
    fn a_signature_is_as_valid_alone_as_with_others() {
        let small = |first: u8, rest: u8, last: u8| {
            let mut point = [rest; 32];
            (point[0], point[31]) = (first, last);
            point
        };
        let points = [
            small(1, 0, 0),
            small(0xec, 0xff, 0x7f),
            small(0, 0, 0),
            small(0, 0, 0x80),
        ];
        let mut transactions = vec![signed(); 3];
        transactions[1].signature[3] ^= 1;
        // Its scalar is not below the group's order.
        transactions[2].signature[63] |= 0xe0;
        for key in points {
            for commitment in points {
                let mut weak = signed();
                weak.transaction.sender = PublicKey(key);
                weak.signature = [0; 64];
                weak.signature[..32].copy_from_slice(&commitment);
                transactions.push(weak);
            }
        }
        // No point of the curve.
        let mut none = signed();
        none.transaction.sender = PublicKey(small(2, 0, 0));
        transactions.push(none);
        let all: Vec<&SignedTransaction> = transactions.iter().collect();
        let alone: Vec<bool> = all.iter().map(|each| each.signature_is_valid()).collect();
        let invalid: Vec<usize> = (0..all.len()).filter(|&at| !alone[at]).collect();
        assert_eq!(invalid, [1, 2, all.len() - 1]);
        assert_eq!(valid_signatures(&all), alone);
        for one in &all {
            for other in &all {
                let both = [*one, *other];
                let alone = both.map(SignedTransaction::signature_is_valid);
                assert_eq!(valid_signatures(&both), alone);
            }
        }
        let valid: Vec<_> = all
            .into_iter()
            .filter(|each| each.signature_is_valid())
            .collect();
        assert_eq!(valid_signatures(&valid), vec![true; valid.len()]);
        assert_eq!(valid_signatures(&[]), Vec::<bool>::new());
    }

    #[test]
    fn receipts_do_not_commit_to_why_an_execution_was_stopped() {
        let receipt = |outcome| Receipt {
            transaction: Hash([1; 32]),
            height: 1,
            index: 0,
            outcome,
            fuel_used: 10,
            fee: 10,
            burnt: 5,
            deposit: 0,
            events: Vec::new(),
            contract: None,
        };
        let out_of_fuel = receipt(Outcome::Abort(AbortReason::OutOfFuel)).hash();
        assert_eq!(
            out_of_fuel,
            receipt(Outcome::Abort(AbortReason::StackExhausted)).hash()
        );
        assert_ne!(
            out_of_fuel,
            receipt(Outcome::Revert { data: Vec::new() }).hash()
        );
        assert_ne!(
            out_of_fuel,
            receipt(Outcome::Success { data: Vec::new() }).hash()
        );
    }

    #[test]
    fn the_price_is_the_base_and_the_tip_within_the_most() {
        let mut tx = signed().transaction;
        (tx.fuel_price, tx.tip) = (10, 3);
        assert_eq!(tx.effective_price(5), 8);
        assert_eq!(tx.effective_price(9), 10);
        tx.tip = u64::MAX;
        assert_eq!(tx.effective_price(1), 10);
    }

    #[test]
    fn domains_keep_equal_bytes_apart() {
        assert_ne!(digest("ab", &[b"c"]), digest("a", &[b"bc"]));
    }

    #[test]
    fn hashes_parse_as_they_print() {
        let hash = Hash(std::array::from_fn(|n| n as u8));
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(format!("0x{hash}").parse(), Ok(hash));
        for bad in ["", "0x", "12", &"g".repeat(64), &"0".repeat(65)] {
            assert!(bad.parse::<Hash>().is_err(), "{bad}");
        }
    }
}
