//! The host, for tests: what a contract calls when it is not compiled to wasm.
//!
//! ```text
//!   host.call(ALICE, exports::transfer, (BOB, 5u128))
//!      └▶ input ─▶ the entry point, natively ─▶ Ok: storage, balances, events are kept, the result decoded
//!                                             └▶ Err(Revert): everything is as before
//! ```
//!
//! One contract, no fuel, no deposits, and of the cryptography only SHA-256: enough to see what a method returns, stores
//! and emits. What it asks of other contracts a test may answer itself, see [`with_others`]. The testkit runs the node's
//! own engine and has the rest; what is not here panics and says so.

use crate::call::Reason;
use crate::{Address, CallError, Event, Hash, decode, encode, hash};
use alloc::collections::BTreeMap;
use borsh::{BorshDeserialize, BorshSerialize};
use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

/// A contract, its storage, the chain around it, and what its last call has left behind.
#[derive(Clone, Debug)]
pub struct Host {
    /// The contract's storage.
    pub storage: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Topics and data of the events of the last call.
    pub events: Vec<(Vec<Hash>, Vec<u8>)>,
    /// What accounts have. Attached value is taken from the caller's, and a caller that is not here has enough.
    pub balances: BTreeMap<Address, u128>,
    /// The address of the contract.
    pub address: Address,
    /// The number of the block.
    pub block_height: u64,
    /// The time of the block: milliseconds since 1970.
    pub block_time: u64,
    /// Who proposed the block.
    pub block_proposer: Address,
    /// Which chain this is.
    pub chain_id: u64,
    value: u128,
    caller: Address,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// Nothing stored, nobody has anything, block 1.
impl Default for Host {
    fn default() -> Self {
        Self {
            storage: BTreeMap::new(),
            events: Vec::new(),
            balances: BTreeMap::new(),
            address: Address([0xcc; 32]),
            block_height: 1,
            block_time: 0,
            block_proposer: Address([0xbb; 32]),
            chain_id: 0,
            value: 0,
            caller: Address([0; 32]),
            input: Vec::new(),
            output: Vec::new(),
        }
    }
}

/// What a call has reverted with.
#[derive(Clone, PartialEq, Eq)]
pub struct Revert(pub Vec<u8>);

impl Revert {
    /// With an error that a method returned.
    pub fn with<E: crate::Error>(error: &E) -> Self {
        Self(encode(error))
    }

    /// The error that a method returned, if it did.
    pub fn error<E: crate::Error + BorshDeserialize>(&self) -> Option<E> {
        decode(&self.0)
    }
}

/// With text.
impl From<&str> for Revert {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Revert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revert({})", Reason(&self.0))
    }
}

impl Host {
    /// Attaches value to the next call, and to no other: `host.attach(5).call(…)`.
    pub fn attach(&mut self, value: u128) -> &mut Self {
        self.value = value;
        self
    }

    /// Calls an entry point (a function of the contract's `exports`) as `caller`. `args` is a tuple, or the argument
    /// itself when there is one. When the method reverts or panics, everything is as before, and the error is the
    /// reason.
    ///
    /// # Panics
    ///
    /// When the caller has less than the value, when the method returns no `R`, and when it uses what is not here.
    pub fn call<R: BorshDeserialize>(
        &mut self,
        caller: Address,
        method: extern "C-unwind" fn(),
        args: impl BorshSerialize,
    ) -> Result<R, Revert> {
        let output = self.call_raw(caller, method, &encode(&args))?;
        Ok(decode(&output).expect("the method returns what the test expects"))
    }

    /// As [`Self::call`], with input and result as they are.
    ///
    /// # Panics
    ///
    /// When the caller has less than the value, and when the method uses what is not here.
    pub fn call_raw(
        &mut self,
        caller: Address,
        method: extern "C-unwind" fn(),
        input: &[u8],
    ) -> Result<Vec<u8>, Revert> {
        let mut host = self.clone();
        self.value = 0;
        host.caller = caller;
        host.input = input.to_vec();
        host.output = Vec::new();
        host.events = Vec::new();
        if let Some(has) = host.balances.get_mut(&caller) {
            *has = has
                .checked_sub(host.value)
                .expect("the caller has the value attached");
        }
        host.credit(host.address, host.value);

        let outer = HOST.replace(host);
        let outcome = catch_unwind(AssertUnwindSafe(|| method()));
        let mut host = HOST.replace(outer);
        match outcome {
            Ok(()) => {
                host.value = 0;
                *self = host;
                Ok(self.output.clone())
            }
            Err(payload) => Err(reason(payload)),
        }
    }

    /// The events of one kind among those of the last call.
    pub fn emitted<E: Event>(&self) -> Vec<E> {
        self.events
            .iter()
            .filter_map(|(topics, data)| E::decode(topics, data))
            .collect()
    }

    fn credit(&mut self, to: Address, amount: u128) {
        let has = self.balances.entry(to).or_default();
        *has = has
            .checked_add(amount)
            .expect("there is less money than that");
    }
}

fn reason(payload: Box<dyn Any + Send>) -> Revert {
    match payload.downcast::<Revert>() {
        Ok(revert) => *revert,
        Err(payload) => match payload.downcast_ref::<&str>() {
            Some(text) => Revert::from(*text),
            None => match payload.downcast::<String>() {
                Ok(text) => Revert(text.into_bytes()),
                // What a test has thrown itself.
                Err(other) => resume_unwind(other),
            },
        },
    }
}

/// A panic that is the test's fault: it is not what the contract reverts with.
struct NotHere(&'static str);

fn not_here(what: &'static str) -> ! {
    eprintln!("the mock host has no {what}: use the testkit");
    resume_unwind(Box::new(NotHere(what)))
}

impl fmt::Debug for NotHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A call of another contract.
#[derive(Clone, Copy, Debug)]
pub struct OtherCall<'a> {
    /// Whom.
    pub to: Address,
    /// The method.
    pub method: &'a str,
    /// Its arguments in borsh.
    pub input: &'a [u8],
    /// The value attached. No balance of the [`Host`] changes by it.
    pub value: u128,
    /// The most fuel that it may use.
    pub fuel: Option<u64>,
    /// Whether it is a static call.
    pub view: bool,
}

/// What calls of other contracts return: borsh, or why they fail.
type Answer = dyn Fn(OtherCall<'_>) -> Result<Vec<u8>, CallError>;

/// Runs `body`, in which `answer` stands for all other contracts, also for typed clients outside of any call.
pub fn with_others<R>(
    answer: impl Fn(OtherCall<'_>) -> Result<Vec<u8>, CallError> + 'static,
    body: impl FnOnce() -> R,
) -> R {
    struct Restore(Option<Rc<Answer>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OTHERS.set(self.0.take());
        }
    }
    let _restore = Restore(OTHERS.replace(Some(Rc::new(answer))));
    body()
}

thread_local! {
    static OTHERS: RefCell<Option<Rc<Answer>>> = const { RefCell::new(None) };
    /// What the last call of another contract has returned.
    static RETURNED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// The host of the call that is running on this thread.
    static HOST: RefCell<Host> = RefCell::default();
}

fn with<R>(f: impl FnOnce(&mut Host) -> R) -> R {
    HOST.with_borrow_mut(f)
}

pub(crate) fn input() -> Vec<u8> {
    with(|host| host.input.clone())
}

pub(crate) fn return_data(data: &[u8]) {
    with(|host| host.output = data.to_vec());
}

pub(crate) fn revert(data: &[u8]) -> ! {
    // Unlike `panic_any` this does not print.
    resume_unwind(Box::new(Revert(data.to_vec())))
}

pub(crate) fn storage_get(key: &[u8]) -> Option<Vec<u8>> {
    with(|host| host.storage.get(key).cloned())
}

pub(crate) fn storage_has(key: &[u8]) -> bool {
    with(|host| host.storage.contains_key(key))
}

pub(crate) fn storage_set(key: &[u8], value: &[u8]) {
    with(|host| host.storage.insert(key.to_vec(), value.to_vec()));
}

pub(crate) fn storage_delete(key: &[u8]) {
    with(|host| host.storage.remove(key));
}

pub(crate) fn storage_next(
    prefix: &[u8],
    from: Option<&[u8]>,
    descending: bool,
) -> Option<Vec<u8>> {
    let (low, high) = match (from, descending) {
        (None, _) => (Bound::Unbounded, Bound::Unbounded),
        (Some(from), false) => (Bound::Excluded(from), Bound::Unbounded),
        (Some(from), true) => (Bound::Unbounded, Bound::Excluded(from)),
    };
    with(|host| {
        let mut keys = host
            .storage
            .range::<[u8], _>((low, high))
            .map(|(key, _)| key)
            .filter(|key| key.starts_with(prefix));
        if descending {
            keys.next_back().cloned()
        } else {
            keys.next().cloned()
        }
    })
}

pub(crate) fn caller() -> Hash {
    with(|host| host.caller.0)
}

/// Nobody is between.
pub(crate) fn origin() -> Hash {
    caller()
}

pub(crate) fn self_address() -> Hash {
    with(|host| host.address.0)
}

pub(crate) fn value() -> u128 {
    with(|host| host.value)
}

pub(crate) fn balance(address: &Hash) -> u128 {
    with(|host| host.balances.get(&Address(*address)).copied().unwrap_or(0))
}

pub(crate) fn transfer(to: &Hash, amount: u128) -> bool {
    with(|host| {
        let own = host.balances.entry(host.address).or_default();
        let Some(rest) = own.checked_sub(amount) else {
            return false;
        };
        *own = rest;
        host.credit(Address(*to), amount);
        true
    })
}

pub(crate) fn block_height() -> u64 {
    with(|host| host.block_height)
}

pub(crate) fn block_time() -> u64 {
    with(|host| host.block_time)
}

pub(crate) fn block_proposer() -> Hash {
    with(|host| host.block_proposer.0)
}

pub(crate) fn chain_id() -> u64 {
    with(|host| host.chain_id)
}

pub(crate) fn emit(topics: &[Hash], data: &[u8]) {
    assert!(topics.len() <= 4, "an event has at most 4 topics");
    with(|host| host.events.push((topics.to_vec(), data.to_vec())));
}

pub(crate) fn fuel_left() -> u64 {
    not_here("fuel")
}

pub(crate) fn sha256(data: &[u8]) -> Hash {
    hash::sha256(data)
}

pub(crate) fn keccak256(_: &[u8]) -> Hash {
    not_here("keccak256")
}

pub(crate) fn blake3(_: &[u8]) -> Hash {
    not_here("blake3")
}

pub(crate) fn ed25519_verify(_: &[u8; 32], _: &[u8; 64], _: &[u8]) -> bool {
    not_here("ed25519_verify")
}

pub(crate) fn secp256k1_recover(_: &Hash, _: &[u8; 64], _: u8) -> Option<[u8; 64]> {
    not_here("secp256k1_recover")
}

pub(crate) fn code_hash(_: &Hash) -> Option<Hash> {
    not_here("other contracts")
}

pub(crate) fn call(
    to: &Hash,
    method: &str,
    input: &[u8],
    value: u128,
    fuel: Option<u64>,
    view: bool,
) -> u32 {
    let Some(answer) = OTHERS.with_borrow(Clone::clone) else {
        not_here("other contracts")
    };
    let call = OtherCall {
        to: Address(*to),
        method,
        input,
        value,
        fuel,
        view,
    };
    let (status, returned) = match answer(call) {
        Ok(data) => (0, data),
        Err(CallError::Reverted(data)) => (1, data),
        Err(error) => (error.status(), Vec::new()),
    };
    RETURNED.set(returned);
    status
}

pub(crate) fn returned() -> Vec<u8> {
    RETURNED.with_borrow(Clone::clone)
}

pub(crate) fn deploy(_: &Hash, _: &[u8], _: u128, _: Option<u64>, _: &mut Hash) -> u32 {
    not_here("other contracts")
}

pub(crate) fn upgrade(_: &Hash, _: &[u8], _: Option<u64>) -> u32 {
    not_here("other contracts")
}
