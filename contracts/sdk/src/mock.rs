//! The host, for tests: what a contract calls when it is not compiled to wasm.
//!
//! It knows no fuel and no other contract; it is enough to see what a method returns, stores and logs.

use crate::Address;
use alloc::collections::BTreeMap;
use borsh::{BorshDeserialize, BorshSerialize};
use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// A contract's storage, and what its last call has left behind.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// The contract's storage.
    pub storage: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The log records of the last call.
    pub logs: Vec<Vec<u8>>,
    caller: [u8; 32],
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Host {
    /// Calls an entry point (a function of the contract's `exports`) as `caller`. `args` is a tuple, or the argument
    /// itself when there is one. When the method reverts or panics, storage and logs are as before, and the error is
    /// the reason.
    pub fn call<R: BorshDeserialize>(
        &mut self,
        caller: Address,
        method: extern "C-unwind" fn(),
        args: impl BorshSerialize,
    ) -> Result<R, String> {
        let host = Host {
            storage: self.storage.clone(),
            caller: caller.0,
            input: borsh::to_vec(&args).expect("arguments can be encoded"),
            ..Host::default()
        };
        let outer = HOST.replace(host);
        let outcome = catch_unwind(AssertUnwindSafe(|| method()));
        let host = HOST.replace(outer);
        match outcome {
            Ok(()) => {
                *self = host;
                Ok(borsh::from_slice(&self.output)
                    .expect("the method returns what the test expects"))
            }
            Err(payload) => Err(reason(payload)),
        }
    }
}

/// What unwinds when the contract reverts.
struct Revert(Vec<u8>);

fn reason(payload: Box<dyn Any + Send>) -> String {
    if let Some(Revert(data)) = payload.downcast_ref() {
        return String::from_utf8_lossy(data).into_owned();
    }
    if let Some(text) = payload.downcast_ref::<&str>() {
        return text.to_string();
    }
    *payload.downcast().expect("a panic has a message")
}

thread_local! {
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

pub(crate) fn storage_set(key: &[u8], value: &[u8]) {
    with(|host| host.storage.insert(key.to_vec(), value.to_vec()));
}

pub(crate) fn storage_delete(key: &[u8]) {
    with(|host| host.storage.remove(key));
}

pub(crate) fn caller() -> [u8; 32] {
    with(|host| host.caller)
}

pub(crate) fn log(record: &[u8]) {
    with(|host| host.logs.push(record.to_vec()));
}
