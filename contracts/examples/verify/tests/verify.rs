//! The airdrop on the node's engine, with signatures and hashes made by other crates.

use ed25519_dalek::{Signer, SigningKey};
use k256::ecdsa;
use sha3::{Digest, Keccak256};
use slackline::CallError;
use slackline_testkit::{Account, Address, Done, Kit, Result, contract, json};
use verify::verify::{ClaimedAsEthereum, Error, Redeemed, Scheme, Terms, Voucher};

type Hash = [u8; 32];

fn hash(scheme: Scheme, data: &[u8]) -> Hash {
    match scheme {
        Scheme::Sha256 => sha2::Sha256::digest(data).into(),
        Scheme::Keccak256 => keccak(data),
        Scheme::Blake3 => blake3::hash(data).into(),
    }
}

fn keccak(data: &[u8]) -> Hash {
    Keccak256::digest(data).into()
}

fn voucher_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn ethereum_key() -> ecdsa::SigningKey {
    ecdsa::SigningKey::from_slice(&[9; 32]).expect("it is a number below the order")
}

/// The last 20 bytes of the hash of the public key.
fn ethereum_address(key: &ecdsa::SigningKey) -> [u8; 20] {
    let point = key.verifying_key().to_sec1_point(false);
    let hash = keccak(&point.as_bytes()[1..]);
    *hash.last_chunk().expect("a hash is longer")
}

/// As wallets sign with `personal_sign`; `v` is 27 or 28.
fn personal_sign(key: &ecdsa::SigningKey, text: &str) -> [u8; 65] {
    let message = format!("\x19Ethereum Signed Message:\n{}{text}", text.len());
    let hash = keccak(message.as_bytes());
    let (signature, recovery) = key.sign_prehash_recoverable(&hash);
    let mut bytes = [27 + recovery.to_byte(); 65];
    bytes[..64].copy_from_slice(&signature.to_bytes());
    bytes
}

/// A tree with a leaf of 100 for dave at 5, and others.
fn tree(scheme: Scheme, dave: Address) -> Vec<Vec<Hash>> {
    let leaf = |index: u32| {
        let account = if index == 5 { dave.0 } else { [3; 32] };
        let mut data = vec![0];
        data.extend(index.to_le_bytes());
        data.extend(account);
        data.extend(100u128.to_le_bytes());
        hash(scheme, &data)
    };
    let mut levels = vec![(0..16).map(leaf).collect::<Vec<_>>()];
    while let Some(below) = levels.last().filter(|level| level.len() > 1) {
        let node = |pair: &[Hash]| hash(scheme, &[&[1], &pair[0][..], &pair[1][..]].concat());
        levels.push(below.chunks(2).map(node).collect());
    }
    levels
}

fn proof(levels: &[Vec<Hash>], index: usize) -> Vec<Hash> {
    let siblings = levels[..levels.len() - 1].iter().enumerate();
    siblings
        .map(|(height, level)| level[(index >> height) ^ 1])
        .collect()
}

/// An airdrop of 1000, with 60 for who has the Ethereum key.
fn deployed(kit: &Kit, scheme: Scheme) -> Result<(Address, Vec<Vec<Hash>>)> {
    let levels = tree(scheme, kit.account("dave").address());
    let terms = Terms {
        scheme,
        root: levels[levels.len() - 1][0],
        voucher_key: voucher_key().verifying_key().to_bytes(),
    };
    let airdrop = kit
        .deploy(
            &kit.account("alice"),
            &contract!("../contracts/examples/verify")?,
        )
        .args(&(terms, vec![(ethereum_address(&ethereum_key()), 60u128)]))
        .value(1000)
        .send()?
        .contract()?;
    Ok((airdrop, levels))
}

#[test]
fn leaves_are_claimed_with_every_hash() -> Result<()> {
    for scheme in [Scheme::Sha256, Scheme::Keccak256, Scheme::Blake3] {
        let kit = Kit::new()?;
        let (bob, dave) = (kit.account("bob"), kit.account("dave"));
        let (airdrop, levels) = deployed(&kit, scheme)?;
        let claim = |amount: u128| {
            let claim = kit.call(&bob, airdrop, "claim");
            claim.args(&(5u32, &dave, amount, proof(&levels, 5))).send()
        };
        assert_eq!(claim(101)?.expect_revert::<Error>(), Error::BadProof);
        let before = kit.balance(&dave)?;
        // Bob brings the proof, dave gets the money.
        let _ = claim(100)?.expect_ok();
        assert_eq!(kit.balance(&dave)?, before + 100);
        assert_eq!(claim(100)?.expect_revert::<Error>(), Error::AlreadyPaid);
        let claimed = |index: u32| {
            let view = kit.view(airdrop, "is_claimed").args(&index);
            view.get::<bool>()
        };
        assert_eq!((claimed(5)?, claimed(4)?), (true, false));
    }
    Ok(())
}

fn redeem<'k>(
    kit: &'k Kit,
    by: &Account,
    airdrop: Address,
    voucher: &Voucher,
    key: &SigningKey,
) -> Result<Done<'k>> {
    let message = kit.view(airdrop, "voucher_message").args(voucher);
    let signature = key.sign(&message.get::<Vec<u8>>()?).to_bytes();
    let redeem = kit.call(by, airdrop, "redeem");
    redeem.args(&(voucher, signature)).send()
}

#[test]
fn a_voucher_is_good_once_here_and_until_it_expires() -> Result<()> {
    let kit = Kit::new()?;
    let (bob, dave) = (kit.account("bob"), kit.account("dave"));
    let (airdrop, _) = deployed(&kit, Scheme::Sha256)?;
    let (other, _) = deployed(&kit, Scheme::Sha256)?;
    let voucher = Voucher {
        serial: 3,
        account: dave.address(),
        amount: 40,
        expires: kit.time_ms() + 1000,
    };
    let stranger = SigningKey::from_bytes(&[8; 32]);
    let done = redeem(&kit, &bob, airdrop, &voucher, &stranger)?;
    assert_eq!(done.expect_revert::<Error>(), Error::BadSignature);

    let before = kit.balance(&dave)?;
    let done = redeem(&kit, &bob, airdrop, &voucher, &voucher_key())?.expect_ok();
    let redeemed = Redeemed {
        serial: 3,
        account: dave.address(),
        amount: 40,
    };
    assert_eq!(done.events::<Redeemed>(), [redeemed]);
    assert_eq!(kit.balance(&dave)?, before + 40);
    let done = redeem(&kit, &bob, airdrop, &voucher, &voucher_key())?;
    assert_eq!(done.expect_revert::<Error>(), Error::AlreadyPaid);

    // Signed for the one, it is not good for the other, nor for more.
    let message = kit.view(airdrop, "voucher_message").args(&voucher);
    let signature = voucher_key().sign(&message.get::<Vec<u8>>()?).to_bytes();
    let more = Voucher {
        serial: 4,
        amount: 41,
        ..voucher.clone()
    };
    for (contract, voucher) in [(other, &voucher), (airdrop, &more)] {
        let redeem = kit.call(&bob, contract, "redeem");
        let done = redeem.args(&(voucher, signature)).send()?;
        assert_eq!(done.expect_revert::<Error>(), Error::BadSignature);
    }

    kit.advance_time(std::time::Duration::from_millis(1001))?;
    let done = redeem(&kit, &bob, airdrop, &more, &voucher_key())?;
    assert_eq!(done.expect_revert::<Error>(), Error::Expired);
    Ok(())
}

#[test]
fn the_owner_of_an_ethereum_address_says_where_its_money_goes() -> Result<()> {
    let kit = Kit::new()?;
    let (bob, dave) = (kit.account("bob"), kit.account("dave"));
    let (airdrop, _) = deployed(&kit, Scheme::Keccak256)?;
    let ethereum = ethereum_address(&ethereum_key());
    let message = kit.view(airdrop, "ethereum_message").args(&dave);
    let text: String = message.get()?;
    let signature = personal_sign(&ethereum_key(), &text);
    let claim = |account: &Account, signature: [u8; 65]| {
        let claim = kit.call(&bob, airdrop, "claim_as_ethereum");
        claim.args(&(account, signature)).send()
    };

    // With another text, another has signed.
    let error: Error = claim(&bob, signature)?.expect_revert();
    assert!(matches!(error, Error::NothingAllotted { ethereum: other } if other != ethereum));
    assert_eq!(
        claim(&dave, [0xff; 65])?.expect_revert::<Error>(),
        Error::BadSignature
    );
    // A number that no signature has.
    let mut beyond = signature;
    beyond[..32].fill(0xff);
    assert_eq!(
        claim(&dave, beyond)?.expect_revert::<Error>(),
        Error::BadSignature
    );

    let before = kit.balance(&dave)?;
    let done = claim(&dave, signature)?.expect_ok();
    assert_eq!(done.returned::<u128>()?, 60);
    let claimed = ClaimedAsEthereum {
        ethereum,
        account: dave.address(),
        amount: 60,
    };
    assert_eq!(done.events::<ClaimedAsEthereum>(), [claimed]);
    assert_eq!(kit.balance(&dave)?, before + 60);
    assert_eq!(
        claim(&dave, signature)?.expect_revert::<Error>(),
        Error::NothingAllotted { ethereum }
    );
    // With 0 or 1 instead of 27 or 28 it is the same signature.
    let mut bare = signature;
    bare[64] -= 27;
    for signature in [signature, bare] {
        let signer = kit.view(airdrop, "ethereum_signer");
        let signer = signer.args(&(text.as_bytes(), signature));
        assert_eq!(signer.get::<Option<[u8; 20]>>()?, Some(ethereum));
    }
    Ok(())
}

/// Of a key that everybody knows, 0x0101…01, so that it is not only this test that says how an address is made.
#[test]
fn addresses_are_those_of_ethereum() {
    let key = ecdsa::SigningKey::from_slice(&[1; 32]).expect("it is a number below the order");
    let address = ethereum_address(&key).map(|byte| format!("{byte:02x}"));
    assert_eq!(address.concat(), "1a642f0e3c3af545e7acbd38b07251b3990914f1");
}

#[test]
fn no_more_is_paid_than_there_is() -> Result<()> {
    let kit = Kit::new()?;
    let bob = kit.account("bob");
    let (airdrop, _) = deployed(&kit, Scheme::Blake3)?;
    let voucher = Voucher {
        serial: u64::MAX,
        account: bob.address(),
        amount: 1001,
        expires: u64::MAX,
    };
    let redeem = || redeem(&kit, &bob, airdrop, &voucher, &voucher_key());
    assert_eq!(
        redeem()?.expect_revert::<Error>(),
        Error::Payment(CallError::InsufficientBalance)
    );
    let _ = kit.call(&bob, airdrop, "fund").value(1).send()?.expect_ok();
    let _ = redeem()?.expect_ok();
    assert_eq!(kit.balance(airdrop)?, 0);
    Ok(())
}

#[test]
fn it_can_be_used_with_json() -> Result<()> {
    let kit = Kit::new()?;
    let bob = kit.account("bob");
    let (airdrop, levels) = deployed(&kit, Scheme::Blake3)?;
    let hex = |hash: &Hash| -> String { hash.iter().map(|byte| format!("{byte:02x}")).collect() };
    let proof: Vec<String> = proof(&levels, 5).iter().map(hex).collect();
    let args = json!({"index": 5, "account": "dave", "amount": "100", "proof": proof});
    let proves = kit.view(airdrop, "proves").json(args.clone()).send()?;
    assert_eq!(proves.returned_json()?, true);
    let claim = kit.call(&bob, airdrop, "claim").json(args);
    assert_eq!(claim.send()?.events_json()[0].name, "Claimed");
    let terms = kit.view(airdrop, "terms").send()?.returned_json()?;
    assert_eq!(terms["scheme"], "Blake3");
    Ok(())
}
