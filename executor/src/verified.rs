//! Signatures that were found valid when their transactions were submitted, so that the block does not verify them again.

use crate::types::{Hash, SignedTransaction, valid_signatures};
use quick_cache::sync::Cache;

/// Transactions remembered: what waits in a full mempool, several times.
const CAPACITY: usize = 1 << 17;

/// A signature is valid or not by what is signed, which holds the key, and by its own bytes: an entry never becomes wrong.
pub(crate) struct Verified(Cache<Hash, [u8; 64]>);

impl Verified {
    pub(crate) fn new() -> Verified {
        Verified(Cache::new(CAPACITY))
    }

    /// Which of `transactions`, each with its hash, have valid signatures. Verifies those that are not known, together.
    pub(crate) fn check(&self, transactions: &[(Hash, &SignedTransaction)]) -> Vec<bool> {
        let known = transactions
            .iter()
            .map(|(hash, signed)| self.0.get(hash) == Some(signed.signature));
        let mut valid: Vec<bool> = known.collect();
        let unknown: Vec<usize> = (0..valid.len()).filter(|&at| !valid[at]).collect();
        let together: Vec<_> = unknown.iter().map(|&at| transactions[at].1).collect();
        for (at, found) in unknown.into_iter().zip(valid_signatures(&together)) {
            valid[at] = found;
        }
        valid
    }

    /// The same, and remembers those that are valid.
    pub(crate) fn learn(&self, transactions: &[(Hash, &SignedTransaction)]) -> Vec<bool> {
        let valid = self.check(transactions);
        for ((hash, signed), valid) in transactions.iter().zip(&valid) {
            if *valid {
                self.0.insert(*hash, signed.signature);
            }
        }
        valid
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
        let mut forged = signed.clone();
        forged.signature[0] ^= 1;
        let hash = signed.hash();
        assert_eq!(forged.hash(), hash);
        let verified = Verified::new();
        assert_eq!(verified.learn(&[(hash, &forged)]), [false]);
        let both = [(hash, &forged), (hash, &signed), (hash, &forged)];
        assert_eq!(verified.check(&both), [false, true, false]);
        assert_eq!(verified.0.get(&hash), None);
        assert_eq!(verified.learn(&both), [false, true, false]);
        assert_eq!(verified.0.get(&hash), Some(signed.signature));
        assert_eq!(verified.check(&both), [false, true, false]);
    }
}
