//! An airdrop that knows its own by what they can prove: a place in a Merkle tree, a voucher that somebody signed, an Ethereum account.
//!
//! ```text
//!   init(terms, allotments) ─ value ──▶ terms: scheme, root, key;  allotments[Ethereum address]
//!
//!   claim(index, account, amount, proof)  leaf ─▶ … ─▶ root?        claimed, one bit each   ──▶ Claimed
//!   redeem(voucher, signature)            Ed25519: the key's?       redeemed[serial]        ──▶ Redeemed
//!   claim_as_ethereum(account, signature) secp256k1: whose is it?   allotments[it] is gone  ──▶ ClaimedAsEthereum
//!       └─ all three pay out of what the contract has; anybody may bring a proof, the money goes to the account it names
//!
//!               root                    leaf = H(00 ‖ index ‖ account ‖ amount), integers little-endian
//!             ╱      ╲                  node = H(01 ‖ left ‖ right)
//!          node      node                 H: SHA-256, Keccak-256 or BLAKE3, as the terms say
//!         ╱    ╲    ╱    ╲
//!       leaf leaf leaf leaf             proof: the siblings, from the leaf up; a bit of the index says
//!        0    1    2    3               whether one is right (0) or left (1)
//! ```
//!
//! Leaves and nodes begin with different bytes, so that no node passes for a leaf. What is signed names the chain and the contract, so that a
//! signature is good for one airdrop only. An Ethereum signature has a second form that recovers the same
//! address; that does no harm, because what is used up is the allotment and not the signature.

#![no_std]
#![forbid(unsafe_code)]

/// An airdrop to those who prove that it is theirs.
#[slackline::contract]
pub mod verify {
    use slackline::borsh::BorshSerialize;
    use slackline::crypto::{blake3, ed25519_verify, keccak256, secp256k1_recover, sha256};
    use slackline::prelude::*;
    use slackline::{block_time, chain_id, revert, self_address, transfer};

    /// What is stored.
    #[storage]
    pub struct Verify {
        terms: Value<Terms>,
        /// Which leaves were claimed: bit `index % 128` of the number under `index / 128`.
        claimed: Map<u32, u128>,
        /// The serial numbers of vouchers.
        redeemed: Set<u64>,
        /// What Ethereum addresses may still claim.
        allotments: Map<[u8; 20], u128>,
    }

    /// Who gets something.
    #[derive(Data, Clone, Debug, PartialEq)]
    pub struct Terms {
        /// How the tree is hashed.
        pub scheme: Scheme,
        /// Its root.
        pub root: Hash,
        /// The Ed25519 key of who signs vouchers.
        pub voucher_key: [u8; 32],
    }

    /// A hash function.
    #[derive(Data, Clone, Copy, Debug, PartialEq)]
    pub enum Scheme {
        /// SHA-256.
        Sha256,
        /// Keccak-256, as Ethereum has it.
        Keccak256,
        /// BLAKE3.
        Blake3,
    }

    /// A promise to pay.
    #[derive(Data, Clone, Debug, PartialEq)]
    pub struct Voucher {
        /// No two that are signed have the same.
        pub serial: u64,
        /// Whom.
        pub account: Address,
        /// How much.
        pub amount: u128,
        /// Until when, in milliseconds since 1970.
        pub expires: u64,
    }

    /// A leaf of the tree was paid out.
    #[derive(Event, Debug, PartialEq)]
    pub struct Claimed {
        /// Which.
        #[topic]
        pub index: u32,
        /// To whom.
        #[topic]
        pub account: Address,
        /// How much it was.
        pub amount: u128,
    }

    /// A voucher was paid out.
    #[derive(Event, Debug, PartialEq)]
    pub struct Redeemed {
        /// Which.
        #[topic]
        pub serial: u64,
        /// To whom.
        #[topic]
        pub account: Address,
        /// How much it was.
        pub amount: u128,
    }

    /// What was set apart for an Ethereum address was paid out.
    #[derive(Event, Debug, PartialEq)]
    pub struct ClaimedAsEthereum {
        /// For which.
        #[topic]
        pub ethereum: [u8; 20],
        /// To whom.
        #[topic]
        pub account: Address,
        /// How much it was.
        pub amount: u128,
    }

    /// Why a call has failed.
    #[derive(Error, Debug, PartialEq)]
    pub enum Error {
        /// The proof does not lead to the root.
        BadProof,
        /// That was paid out already.
        AlreadyPaid,
        /// The signature is not the key's for this voucher.
        BadSignature,
        /// The voucher has expired.
        Expired,
        /// Nothing is set apart, or not any more, for who has signed.
        NothingAllotted {
            /// The Ethereum address.
            ethereum: [u8; 20],
        },
        /// An Ethereum address is there twice.
        AllottedTwice,
        /// The payment failed.
        #[from]
        Payment(CallError),
    }

    type Result<T> = core::result::Result<T, Error>;

    impl Verify {
        /// An airdrop of the attached value on these terms; besides, Ethereum addresses get their allotments.
        #[init]
        #[payable]
        pub fn init(&mut self, terms: Terms, allotments: Vec<([u8; 20], u128)>) -> Result<()> {
            self.terms.set(&terms);
            for (ethereum, amount) in &allotments {
                if self.allotments.contains(ethereum) {
                    return Err(Error::AllottedTwice);
                }
                self.allotments.set(ethereum, amount);
            }
            Ok(())
        }

        /// Adds the attached value.
        #[payable]
        pub fn fund(&mut self) {}

        /// Pays out a leaf of the tree, once.
        pub fn claim(
            &mut self,
            index: u32,
            account: Address,
            amount: u128,
            proof: Vec<Hash>,
        ) -> Result<()> {
            let (word, bit) = place(index);
            let claimed = self.claimed.get_or_default(&word);
            if claimed & bit != 0 {
                return Err(Error::AlreadyPaid);
            }
            if !self.proves(index, account, amount, proof) {
                return Err(Error::BadProof);
            }
            self.claimed.set(&word, &(claimed | bit));
            transfer(account, amount)?;
            Claimed {
                index,
                account,
                amount,
            }
            .emit();
            Ok(())
        }

        /// Pays out a voucher, once, for a signature of its [`voucher_message`](Self::voucher_message).
        pub fn redeem(&mut self, voucher: Voucher, signature: [u8; 64]) -> Result<()> {
            if block_time() > voucher.expires {
                return Err(Error::Expired);
            }
            if !self.redeemed.insert(&voucher.serial) {
                return Err(Error::AlreadyPaid);
            }
            let Voucher {
                serial,
                account,
                amount,
                ..
            } = voucher;
            let message = self.voucher_message(voucher);
            if !ed25519_verify(&self.terms().voucher_key, &signature, &message) {
                return Err(Error::BadSignature);
            }
            transfer(account, amount)?;
            Redeemed {
                serial,
                account,
                amount,
            }
            .emit();
            Ok(())
        }

        /// Pays out, to `account`, what is set apart for the Ethereum address that has signed the
        /// [`ethereum_message`](Self::ethereum_message), and says how much that was. The signature is r, s and v, as wallets give it.
        pub fn claim_as_ethereum(&mut self, account: Address, signature: [u8; 65]) -> Result<u128> {
            let message = self.ethereum_message(account);
            let ethereum = recover(message.as_bytes(), &signature).ok_or(Error::BadSignature)?;
            let amount = self
                .allotments
                .take(&ethereum)
                .ok_or(Error::NothingAllotted { ethereum })?;
            transfer(account, amount)?;
            ClaimedAsEthereum {
                ethereum,
                account,
                amount,
            }
            .emit();
            Ok(amount)
        }

        /// Who gets something.
        #[view]
        pub fn terms(&self) -> Terms {
            match self.terms.get() {
                Some(terms) => terms,
                // `init` has stored it, without which there is no contract.
                None => revert("not initialised"),
            }
        }

        /// Whether a proof leads from a leaf to the root.
        #[view]
        pub fn proves(&self, index: u32, account: Address, amount: u128, proof: Vec<Hash>) -> bool {
            let Terms { scheme, root, .. } = self.terms();
            let mut hash = scheme.leaf(index, account, amount);
            let mut path = index;
            for sibling in &proof {
                hash = if path & 1 == 0 {
                    scheme.node(&hash, sibling)
                } else {
                    scheme.node(sibling, &hash)
                };
                path >>= 1;
            }
            // An index beyond the tree is none of it.
            path == 0 && hash == root
        }

        /// Whether a leaf was paid out.
        #[view]
        pub fn is_claimed(&self, index: u32) -> bool {
            let (word, bit) = place(index);
            self.claimed.get_or_default(&word) & bit != 0
        }

        /// Whether a voucher was paid out.
        #[view]
        pub fn is_redeemed(&self, serial: u64) -> bool {
            self.redeemed.contains(&serial)
        }

        /// What an Ethereum address may still claim.
        #[view]
        pub fn allotment(&self, ethereum: [u8; 20]) -> u128 {
            self.allotments.get_or_default(&ethereum)
        }

        /// What is signed to make a voucher: borsh of `slackline voucher`, the chain, this contract and the voucher.
        #[view]
        pub fn voucher_message(&self, voucher: Voucher) -> Vec<u8> {
            bytes(&("slackline voucher", chain_id(), self_address(), voucher))
        }

        /// The text that the owner of an Ethereum address signs, with `personal_sign`, for a payment to `account`.
        #[view]
        pub fn ethereum_message(&self, account: Address) -> String {
            format!(
                "Slackline airdrop\nchain {}\ncontract {}\npay to {account}",
                chain_id(),
                self_address()
            )
        }

        /// The Ethereum address that has signed a message with `personal_sign`.
        #[view]
        pub fn ethereum_signer(&self, message: Vec<u8>, signature: [u8; 65]) -> Option<[u8; 20]> {
            recover(&message, &signature)
        }
    }

    impl Scheme {
        fn hash(self, data: &[u8]) -> Hash {
            match self {
                Self::Sha256 => sha256(data),
                Self::Keccak256 => keccak256(data),
                Self::Blake3 => blake3(data),
            }
        }

        /// The hash of a leaf.
        pub fn leaf(self, index: u32, account: Address, amount: u128) -> Hash {
            self.hash(&bytes(&(0u8, index, account, amount)))
        }

        /// The hash of a node, of those below it.
        pub fn node(self, left: &Hash, right: &Hash) -> Hash {
            self.hash(&bytes(&(1u8, left, right)))
        }
    }

    /// Where the bit of a leaf is.
    fn place(index: u32) -> (u32, u128) {
        (index / 128, 1 << (index % 128))
    }

    /// The last 20 bytes of the Keccak-256 of the public key that has signed `message`, behind Ethereum's prefix.
    fn recover(message: &[u8], signature: &[u8; 65]) -> Option<[u8; 20]> {
        let [signature @ .., v] = signature;
        let recovery_id = match v {
            0 | 27 => 0,
            1 | 28 => 1,
            _ => return None,
        };
        let mut signed = format!("\x19Ethereum Signed Message:\n{}", message.len()).into_bytes();
        signed.extend_from_slice(message);
        let key = secp256k1_recover(&keccak256(&signed), signature, recovery_id)?;
        keccak256(&key).last_chunk().copied()
    }

    fn bytes(value: &impl BorshSerialize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(160);
        if value.serialize(&mut bytes).is_err() {
            revert("value cannot be encoded");
        }
        bytes
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use slackline::mock::{Host, Revert};

        const ALICE: Address = Address([1; 32]);
        const BOB: Address = Address([2; 32]);

        /// All levels of a tree, the leaves first. There are 2^n of them.
        fn tree(leaves: Vec<Hash>) -> Vec<Vec<Hash>> {
            let mut levels = vec![leaves];
            while let Some(below) = levels.last().filter(|level| level.len() > 1) {
                let level = below
                    .chunks(2)
                    .map(|pair| sha256(&[&[1], &pair[0][..], &pair[1][..]].concat()))
                    .collect();
                levels.push(level);
            }
            levels
        }

        fn proof(levels: &[Vec<Hash>], index: usize) -> Vec<Hash> {
            let up_to_root = &levels[..levels.len() - 1];
            up_to_root
                .iter()
                .enumerate()
                .map(|(height, level)| level[(index >> height) ^ 1])
                .collect()
        }

        fn amount(index: u32) -> u128 {
            100 + u128::from(index)
        }

        /// Leaves in turn ALICE's and BOB's.
        fn account(index: u32) -> Address {
            if index.is_multiple_of(2) { ALICE } else { BOB }
        }

        fn leaf(index: u32) -> Hash {
            let mut data = vec![0];
            data.extend(index.to_le_bytes());
            data.extend(account(index).0);
            data.extend(amount(index).to_le_bytes());
            sha256(&data)
        }

        fn airdrop(leaves: u32, value: u128) -> (Host, Vec<Vec<Hash>>) {
            let levels = tree((0..leaves).map(leaf).collect());
            let terms = Terms {
                scheme: Scheme::Sha256,
                root: levels.last().unwrap()[0],
                voucher_key: [0; 32],
            };
            let mut host = Host::default();
            let args = (terms, Vec::<([u8; 20], u128)>::new());
            host.attach(value)
                .call::<()>(ALICE, exports::init, args)
                .unwrap();
            (host, levels)
        }

        fn claim(
            host: &mut Host,
            index: u32,
            account: Address,
            amount: u128,
            proof: &[Hash],
        ) -> core::result::Result<(), Revert> {
            host.call(BOB, exports::claim, (index, account, amount, proof))
        }

        fn failed<T>(error: Error) -> core::result::Result<T, Revert> {
            Err(Revert::with(&error))
        }

        #[test]
        fn every_leaf_is_paid_out_once() {
            for leaves in [1, 2, 4, 256] {
                let (mut host, levels) = airdrop(leaves, 1 << 20);
                for index in 0..leaves {
                    let proof = proof(&levels, index as usize);
                    let of = |host: &mut Host| {
                        assert_eq!(host.call(ALICE, exports::is_claimed, index), Ok(false));
                        claim(host, index, account(index), amount(index), &proof)
                    };
                    of(&mut host).unwrap();
                    let claimed = Claimed {
                        index,
                        account: account(index),
                        amount: amount(index),
                    };
                    assert_eq!(host.emitted::<Claimed>(), [claimed]);
                    assert_eq!(host.call(ALICE, exports::is_claimed, index), Ok(true));
                    assert_eq!(
                        claim(&mut host, index, account(index), amount(index), &proof),
                        failed(Error::AlreadyPaid)
                    );
                }
                let paid: u128 = (0..leaves).map(amount).sum();
                assert_eq!(host.balances[&host.address], (1 << 20) - paid);
                // Terms, and a number for each 128 leaves.
                assert_eq!(host.storage.len() as u32, 1 + leaves.div_ceil(128));
            }
        }

        #[test]
        fn what_is_not_in_the_tree_is_not_paid() {
            let (mut host, levels) = airdrop(8, 1 << 20);
            let good = proof(&levels, 3);
            let mut turned = good.clone();
            turned.swap(0, 1);
            let mut bad = good.clone();
            bad[2][31] ^= 1;
            let (account, amount) = (account(3), amount(3));
            for (index, account, amount, proof) in [
                (3, account, amount, &turned[..]),
                (3, account, amount, &bad[..]),
                (3, account, amount, &good[..2]),
                (3, account, amount, &[]),
                (3, ALICE, amount, &good[..]),
                (3, account, amount + 1, &good[..]),
                (1, account, amount, &good[..]),
                // The same path, by an index beyond the tree.
                (3 + 8, account, amount, &good[..]),
            ] {
                assert_eq!(
                    claim(&mut host, index, account, amount, proof),
                    failed(Error::BadProof)
                );
            }
            let longer = [&good[..], &[[0; 32]; 40]].concat();
            assert_eq!(
                claim(&mut host, 3, account, amount, &longer),
                failed(Error::BadProof)
            );
            claim(&mut host, 3, account, amount, &good).unwrap();
        }

        #[test]
        fn what_cannot_be_paid_can_be_claimed_later() {
            let (mut host, levels) = airdrop(2, 99);
            let proof = proof(&levels, 0);
            assert_eq!(
                claim(&mut host, 0, ALICE, 100, &proof),
                failed(Error::Payment(CallError::InsufficientBalance))
            );
            host.attach(1).call::<()>(BOB, exports::fund, ()).unwrap();
            claim(&mut host, 0, ALICE, 100, &proof).unwrap();
            assert_eq!(host.balances[&ALICE], 100);
        }

        #[test]
        fn what_is_signed_names_chain_contract_and_payment() {
            let (mut host, _) = airdrop(1, 0);
            host.chain_id = 7;
            let voucher = Voucher {
                serial: 5,
                account: BOB,
                amount: 9,
                expires: 11,
            };
            let message: Vec<u8> = host
                .call(ALICE, exports::voucher_message, &voucher)
                .unwrap();
            let mut expected = b"\x11\0\0\0slackline voucher".to_vec();
            expected.extend(7u64.to_le_bytes());
            expected.extend(host.address.0);
            expected.extend(5u64.to_le_bytes());
            expected.extend(BOB.0);
            expected.extend(9u128.to_le_bytes());
            expected.extend(11u64.to_le_bytes());
            assert_eq!(message, expected);
            let text: String = host.call(ALICE, exports::ethereum_message, BOB).unwrap();
            assert_eq!(
                text,
                format!(
                    "Slackline airdrop\nchain 7\ncontract {}\npay to {}",
                    "cc".repeat(32),
                    "02".repeat(32)
                )
            );
        }

        #[test]
        fn an_expired_voucher_is_not_even_looked_at() {
            let (mut host, _) = airdrop(1, 0);
            host.block_time = 12;
            let voucher = Voucher {
                serial: 5,
                account: BOB,
                amount: 9,
                expires: 11,
            };
            assert_eq!(
                host.call::<()>(BOB, exports::redeem, (voucher, [0u8; 64])),
                failed(Error::Expired)
            );
        }

        #[test]
        fn an_ethereum_address_is_allotted_something_once() {
            let terms = Terms {
                scheme: Scheme::Blake3,
                root: [0; 32],
                voucher_key: [0; 32],
            };
            let mut host = Host::default();
            let twice = vec![([1u8; 20], 5u128), ([2; 20], 6), ([1; 20], 7)];
            assert_eq!(
                host.call::<()>(ALICE, exports::init, (&terms, &twice)),
                failed(Error::AllottedTwice)
            );
            host.call::<()>(ALICE, exports::init, (&terms, &twice[..2]))
                .unwrap();
            assert_eq!(host.call(BOB, exports::allotment, [2u8; 20]), Ok(6u128));
            assert_eq!(host.call(BOB, exports::allotment, [3u8; 20]), Ok(0u128));
            assert_eq!(host.call(BOB, exports::terms, ()), Ok(terms));
        }

        #[test]
        fn a_signature_of_another_kind_is_none() {
            let (mut host, _) = airdrop(1, 0);
            for v in [2, 26, 29, 255] {
                let mut signature = [1u8; 65];
                signature[64] = v;
                assert_eq!(
                    host.call::<u128>(BOB, exports::claim_as_ethereum, (BOB, signature)),
                    failed(Error::BadSignature)
                );
            }
        }
    }
}
