//! Signatures that were found valid when their transactions were submitted, so that the block does not verify them again.

use crate::types::{Hash, SignedTransaction};
use quick_cache::sync::Cache;

/// Transactions remembered: what waits in a full mempool, several times.
const CAPACITY: usize = 1 << 17;

/// A signature is valid or not by what is signed, which holds the key, and by its own bytes: an entry never becomes wrong.
pub(crate) struct Verified(Cache<Hash, [u8; 64]>);

impl Verified {
    pub(crate) fn new() -> Verified {
        Verified(Cache::new(CAPACITY))
    }

    /// Remembers `signed`, with `hash`, whose signature has been verified.
    pub(crate) fn insert(&self, hash: Hash, signed: &SignedTransaction) {
        self.0.insert(hash, signed.signature);
    }

    /// Whether the signature of `signed`, with `hash`, is known to be valid.
    pub(crate) fn has(&self, hash: &Hash, signed: &SignedTransaction) -> bool {
        self.0.get(hash) == Some(signed.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Action, Address, PublicKey, Transaction};
    use ed25519_dalek::SigningKey;

    #[test]
    fn another_signature_of_the_same_transaction_is_not_known() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let transaction = Transaction {
            chain_id: 1,
            sender: PublicKey(key.verifying_key().to_bytes()),
            nonce: 0,
            fuel_limit: 1,
            fuel_price: 1,
            tip: 0,
            deposit_limit: 0,
            action: Action::Transfer {
                to: Address::default(),
                amount: 1,
            },
        };
        let signed = transaction.sign(&key);
        let verified = Verified::new();
        assert!(!verified.has(&signed.hash(), &signed));
        verified.insert(signed.hash(), &signed);
        assert!(verified.has(&signed.hash(), &signed));
        let mut forged = signed.clone();
        forged.signature[0] ^= 1;
        assert_eq!(forged.hash(), signed.hash());
        assert!(!verified.has(&forged.hash(), &forged));
    }
}
